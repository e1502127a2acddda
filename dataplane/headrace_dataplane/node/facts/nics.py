# SPDX-License-Identifier: Apache-2.0
"""Network cards on PCI, their VFs, and what of the node's own traffic goes by them."""

from collections.abc import Mapping
from contextlib import suppress

from headrace_api.node_facts import GroupPeer, LinkState, Nic, NodeTraffic, VirtualFunction
from headrace_dataplane.node import pci
from headrace_dataplane.node.netlink import Netlink
from headrace_dataplane.node.traffic import Carried, NodeAddresses, node_traffic
from headrace_dataplane.node.tree import Tree, fitting, natural, number
from headrace_dataplane.node.users import Users

Used = Mapping[str, tuple[str, ...]]


def read(
    sysfs: Tree, netlink: Netlink, node: NodeAddresses, users: Users
) -> tuple[Nic, ...] | None:
    """Return the network cards; VFs are with their physical functions."""
    addresses = pci.network_cards(sysfs)
    if addresses is None:
        return None
    traffic: Mapping[str, Carried] = {}
    with suppress(OSError):
        traffic = node_traffic(netlink, netlink.links(), node)
    cards = [pci.function(sysfs, address) for address in addresses]
    vfs = {
        card.address: {
            index: pci.function(sysfs, address)
            for index, address in pci.virtual_functions(sysfs, card.address).items()
        }
        for card in cards
    }
    used: Used = {}
    with suppress(OSError):
        used = users({vf.address: vf.group for each in vfs.values() for vf in each.values()})
    # Which card alone carries something: of a bond there are several.
    carriers = {
        kind: {
            card.address for card in cards if any(kind in traffic.get(n, {}) for n in card.netdevs)
        }
        for kind in NodeTraffic
    }
    found = []
    for card in cards:
        each = [_vf(sysfs, index, vf, used) for index, vf in vfs[card.address].items()]
        fields = {
            **_function(sysfs, card, used),
            **_port(sysfs, netlink, card),
            "vfs_total": pci.total_vfs(sysfs, card.address),
            "vfs": [vf for vf in each if vf is not None],
            "node_traffic": [kind for kind, at in carriers.items() if card.address in at],
            "only_uplink": {card.address} in carriers.values(),
        }
        nic = fitting(Nic, fields)
        found += [nic] if nic is not None else []
    return tuple(found)


def _vf(sysfs: Tree, index: int, vf: pci.Function, used: Used) -> VirtualFunction | None:
    return fitting(VirtualFunction, {**_function(sysfs, vf, used), "index": index})


def _port(sysfs: Tree, netlink: Netlink, card: pci.Function) -> dict[str, object]:
    """What a card's first network device says."""
    if not card.netdevs:
        return {}
    device = f"{card.net}/{card.netdevs[0]}"
    carrier = sysfs.number(f"{device}/carrier")
    return {
        "firmware": netlink.firmware(card.netdevs[0]),
        "link": {0: LinkState.DOWN, 1: LinkState.UP}.get(-1 if carrier is None else carrier),
        "speed_mbits": natural(sysfs.number(f"{device}/speed")),
    }


def _function(sysfs: Tree, of: pci.Function, used: Used) -> dict[str, object]:
    """What physical and virtual functions have."""
    return {
        "pci_address": of.address,
        "vendor_id": of.vendor or None,
        "device_id": of.device or None,
        "driver": of.driver,
        "numa_node": of.numa_node,
        "iommu_group": number(of.group),
        "group_peers": [*filter(None, (_peer(peer) for peer in pci.peers(sysfs, of)))],
        "device_names": of.netdevs,
        "mtu": sysfs.number(f"{of.net}/{of.netdevs[0]}/mtu") if of.netdevs else None,
        "users": used.get(of.address, ())[:16],
    }


def _peer(of: pci.Peer) -> GroupPeer | None:
    fields = {"pci_address": of.address, "driver": of.driver, "bridge": of.bridge}
    return fitting(GroupPeer, fields)
