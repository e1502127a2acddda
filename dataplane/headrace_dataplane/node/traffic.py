# SPDX-License-Identifier: Apache-2.0
"""What of the node's own traffic goes by which network device: of those nothing is taken."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from headrace_api.node_facts import NodeTraffic
from headrace_dataplane.node.netlink import Link, Netlink

Carried = Mapping[NodeTraffic, str]
"""What goes by a device, and how it comes that it does, for people."""


@dataclass(frozen=True)
class NodeAddresses:
    """By which addresses the node is known, and which ones it must reach."""

    own: frozenset[str] = frozenset()
    """Those by which Kubernetes and people know it."""
    api_servers: tuple[str, ...] = ()
    """Those known last come first."""


def node_traffic(
    netlink: Netlink, links: Mapping[str, Link], node: NodeAddresses
) -> Mapping[str, Carried]:
    """Return the devices that the node's own traffic takes, down to the lowest. Raises OSError.

    What a bond, a bridge or a VLAN device is, its ports and what it is upon are, too.
    """
    by_index = {link.index: link for link in links.values()}
    found: dict[str, dict[NodeTraffic, str]] = {}
    for kind, first in _first(netlink, node).items():
        for index, why in _below(by_index, first).items():
            found.setdefault(by_index[index].name, {})[kind] = why
    return found


def _first(netlink: Netlink, node: NodeAddresses) -> dict[NodeTraffic, dict[int, str]]:
    """Return the devices that routes and addresses name."""
    return {
        NodeTraffic.DEFAULT_ROUTE: {
            index: "it carries the node's default route"
            for index, default in netlink.routes()
            if default
        },
        NodeTraffic.KUBELET_ADDRESS: {
            index: f"it has the node's address {address}"
            for index, address in netlink.addresses()
            if address in node.own
        },
        NodeTraffic.API_SERVER: {
            index: f"the API server {address} is reached by it"
            for address in sorted(node.api_servers)
            for index in netlink.outputs(address)
        },
    }


def _below(links: Mapping[int, Link], first: Mapping[int, str]) -> dict[int, str]:
    found = {index: why for index, why in first.items() if index in links}
    todo = list(found)
    while todo:
        upper = links[todo.pop()]
        for link in _beneath(links.values(), upper):
            if link.index not in found:
                found[link.index] = f"{found[upper.index]}, by {upper.name}"
                todo.append(link.index)
    return found


def _beneath(links: Iterable[Link], upper: Link) -> list[Link]:
    return [each for each in links if upper.index == each.master or each.index == upper.lower]
