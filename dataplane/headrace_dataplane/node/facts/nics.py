# SPDX-License-Identifier: Apache-2.0
"""Network cards on PCI, their VFs, and what of the node's own traffic goes by them."""

import re
from collections.abc import Iterator, Mapping

from headrace_api.node_facts import (
    GroupPeer,
    Kubelet,
    LinkState,
    Nic,
    NodeTraffic,
    VirtualFunction,
)
from headrace_dataplane.node.facts.network import Link, Network
from headrace_dataplane.node.facts.tree import Tree, fitting, natural, number

_DEVICES = "sys/bus/pci/devices"
_NETWORK, _BRIDGE = 0x02, 0x06  # base classes of PCI functions
_VF = re.compile(r"virtfn([0-9]{1,5})")


def read(tree: Tree, network: Network, kubelet: Kubelet | None) -> tuple[Nic, ...] | None:
    """Return the network cards; VFs are with their physical functions."""
    addresses = tree.names(_DEVICES)
    if addresses is None:
        return None
    traffic = _traffic(network, kubelet)
    cards = {
        address: _names(tree, f"{_DEVICES}/{address}")
        for address in addresses
        if _base_class(tree, address) == _NETWORK
        and tree.target(f"{_DEVICES}/{address}/physfn") is None
    }
    # Which card alone carries something: of a bond there are several.
    carriers = {
        kind: [address for address, names in cards.items() if devices & set(names)]
        for kind, devices in traffic.items()
    }
    found = (_card(tree, network, address, names, carriers) for address, names in cards.items())
    return tuple(card for card in found if card is not None)


def _card(
    tree: Tree,
    network: Network,
    address: str,
    names: list[str],
    carriers: Mapping[NodeTraffic, list[str]],
) -> Nic | None:
    folder = f"{_DEVICES}/{address}"
    own = [kind for kind, at in carriers.items() if address in at]
    carrier = speed = firmware = None
    if names:
        carrier = tree.number(f"{folder}/{_net(tree, folder)}/{names[0]}/carrier")
        speed = tree.number(f"{folder}/{_net(tree, folder)}/{names[0]}/speed")
        firmware = network.firmware(names[0])
    return fitting(
        Nic,
        {
            **_function(tree, address, names),
            "firmware": firmware,
            "link": {0: LinkState.DOWN, 1: LinkState.UP}.get(-1 if carrier is None else carrier),
            "speed_mbits": natural(speed),
            "vfs_total": natural(tree.number(f"{folder}/sriov_totalvfs")),
            "vfs": [*_vfs(tree, folder)],
            "node_traffic": own,
            "only_uplink": any(len(carriers[kind]) == 1 for kind in own),
        },
    )


def _vfs(tree: Tree, folder: str) -> Iterator[VirtualFunction]:
    found = (
        (int(match.group(1)), tree.target(f"{folder}/{match.string}"))
        for name in tree.names(folder) or ()
        if (match := _VF.fullmatch(name))
    )
    for index, address in sorted(found, key=lambda each: each[0]):
        if address is not None:
            names = _names(tree, f"{_DEVICES}/{address}")
            fields = {**_function(tree, address, names), "index": index}
            vf = fitting(VirtualFunction, fields)
            if vf is not None:
                yield vf


def _function(tree: Tree, address: str, names: list[str]) -> dict[str, object]:
    """What physical and virtual functions have."""
    folder = f"{_DEVICES}/{address}"
    group = number(tree.target(f"{folder}/iommu_group"))
    mtu = tree.number(f"{folder}/{_net(tree, folder)}/{names[0]}/mtu") if names else None
    return {
        "pci_address": address,
        "vendor_id": (tree.text(f"{folder}/vendor") or "").removeprefix("0x") or None,
        "device_id": (tree.text(f"{folder}/device") or "").removeprefix("0x") or None,
        "driver": tree.target(f"{folder}/driver") or "",
        "numa_node": natural(tree.number(f"{folder}/numa_node")),
        "iommu_group": group,
        "group_peers": [*_peers(tree, address, group)] if group is not None else [],
        "device_names": names,
        "mtu": mtu,
    }


def _peers(tree: Tree, address: str, group: int) -> Iterator[GroupPeer]:
    for other in tree.names(f"sys/kernel/iommu_groups/{group}/devices") or ():
        fields = {
            "pci_address": other,
            "driver": tree.target(f"{_DEVICES}/{other}/driver") or "",
            "bridge": _base_class(tree, other) == _BRIDGE,
        }
        peer = fitting(GroupPeer, fields) if other != address else None
        if peer is not None:
            yield peer


def _base_class(tree: Tree, address: str) -> int | None:
    found = tree.number(f"{_DEVICES}/{address}/class")
    return None if found is None else found >> 16


def _net(tree: Tree, folder: str) -> str:
    """Where a function's kernel devices are: a virtio device stands between."""
    if not tree.has(f"{folder}/net"):
        for name in tree.names(folder) or ():
            if re.fullmatch(r"virtio[0-9]{1,5}", name) and tree.has(f"{folder}/{name}/net"):
                return f"{name}/net"
    return "net"


def _names(tree: Tree, folder: str) -> list[str]:
    return tree.names(f"{folder}/{_net(tree, folder)}") or []


def _traffic(network: Network, kubelet: Kubelet | None) -> dict[NodeTraffic, set[str]]:
    """Names of the devices that each of the node's own goes by, down to the lowest ones."""
    links = {link.index: link for link in network.links()}
    devices = {NodeTraffic.DEFAULT_ROUTE: network.default_devices()}
    if kubelet is not None:
        devices[NodeTraffic.KUBELET_ADDRESS] = network.devices_with(kubelet.addresses)
        devices[NodeTraffic.API_SERVER] = network.devices_to(kubelet.api_servers)
    return {kind: _below(links, indexes) for kind, indexes in devices.items()}


def _below(links: Mapping[int, Link], indexes: frozenset[int]) -> set[str]:
    """Names of these devices and of all that they stand on: members of bonds, VLANs' devices."""
    left, found = list(indexes), set()
    while left:
        index = left.pop()
        if index in found or index not in links:
            continue
        found.add(index)
        left += [link.index for link in links.values() if link.master == index]
        lower = links[index].lower
        left += [] if lower is None else [lower]
    return {links[index].name for index in found}
