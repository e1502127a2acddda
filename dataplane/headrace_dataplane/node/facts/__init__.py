# SPDX-License-Identifier: Apache-2.0
"""Reading what a machine is like: one module a subject, each below a root that may be a test's.

Nothing here raises: what is missing or cannot be read is absent from the facts.
"""

from pathlib import Path

from headrace_api.node_facts import NodeFacts
from headrace_dataplane.node.facts import cpus, hugepages, interrupts, kernel, kubelet, nics
from headrace_dataplane.node.facts.network import Kernel, Network
from headrace_dataplane.node.facts.processes import memory_locks, processes
from headrace_dataplane.node.facts.tree import Tree, fitting


def read(root: Path = Path("/"), network: Network | None = None) -> NodeFacts:
    """Return the facts of the machine whose /proc, /sys, /etc and /var are below `root`."""
    tree = Tree(root)
    running = processes(tree)
    agent = kubelet.read(tree, running)
    fields = {
        "nics": nics.read(tree, Kernel() if network is None else network, agent),
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
