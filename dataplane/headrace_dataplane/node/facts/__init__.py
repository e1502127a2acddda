# SPDX-License-Identifier: Apache-2.0
"""Reading what a machine is like: one module a subject, each below a root that may be a test's.

Nothing here raises: what is missing or cannot be read is absent from the facts.
"""

from pathlib import Path

from headrace_api.node_facts import Kubelet, NodeFacts
from headrace_dataplane.node.facts import cpus, hugepages, interrupts, kernel, kubelet, nics
from headrace_dataplane.node.facts.processes import memory_locks, processes
from headrace_dataplane.node.netlink import KernelNetlink, Netlink
from headrace_dataplane.node.traffic import NodeAddresses
from headrace_dataplane.node.tree import Tree, fitting
from headrace_dataplane.node.users import Users, nobody

#: The kubelet's probes of pods at the API servers' port look the same: those are not to pile up.
_MOST_KNOWN = 32


def read(
    root: Path = Path("/"),
    netlink: Netlink | None = None,
    users: Users = nobody,
    known: NodeAddresses = NodeAddresses(),  # noqa: B008  # frozen
) -> NodeFacts:
    """Return the facts of the machine whose /proc, /sys, /etc and /var are below `root`.

    `known` are addresses beside those that its kubelet tells; `users` are those of VFs.
    """
    tree = Tree(root)
    running = processes(tree)
    agent = kubelet.read(tree, running)
    node = node_addresses(agent, known)
    fields = {
        "nics": nics.read(tree.below("sys"), netlink or KernelNetlink(), node, users),
        "hugepages": hugepages.read(tree),
        "cpus": cpus.read(tree),
        "kubelet": agent,
        "iommu": kernel.read_iommu(tree),
        "kernel": kernel.read(tree),
        "memory_locks": memory_locks(tree, running),
        "interrupts": interrupts.read(tree),
    }
    # Last: by then it is known what could not be read.
    return fitting(NodeFacts, {**fields, "unreadable": tree.denied[:64]}) or NodeFacts()


def node_addresses(agent: Kubelet | None, known: NodeAddresses) -> NodeAddresses:
    """Return what the kubelet tells, with what is known beside."""
    told = agent or Kubelet()
    servers = [*dict.fromkeys((*told.api_servers, *known.api_servers))]
    return NodeAddresses(known.own | {*told.addresses}, tuple(servers[:_MOST_KNOWN]))
