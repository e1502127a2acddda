# SPDX-License-Identifier: Apache-2.0
"""What there is of a PF and its VFs: sysfs, and the kernel's netlink.

Both are behind small interfaces. Everything blocks.
"""

import os
import queue
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from headrace_dataplane.node import pci
from headrace_dataplane.node.netlink import Link, Netlink, VFState
from headrace_dataplane.node.pci import DEVICES, GROUPS, Reader
from headrace_dataplane.node.sriov.desired import Identity
from headrace_dataplane.node.traffic import NodeAddresses, node_traffic
from headrace_dataplane.node.tree import Tree, number
from headrace_dataplane.node.users import Users

NOT_NETWORK_DRIVERS = frozenset({"vfio-pci", "uio_pci_generic", "igb_uio", "pci-stub"})
"""Drivers that give a device away, to a process or to nobody."""

# A device of the group may be a bridge, or bound to one of these, and the group is still whole:
# to the kernel they are no owners of its DMA (driver_managed_dma of struct pci_driver).
_HARMLESS_DRIVERS = frozenset({"vfio-pci", "pci-stub", "pcieport"})


class Sysfs(Reader, Protocol):
    """sysfs below its root; paths are relative."""

    def write(self, path: str, text: str) -> None:
        """Write an attribute, at once and whole. Raises OSError."""


@dataclass(frozen=True)
class Netdev:
    """A network device of a PF or a VF."""

    name: str
    index: int
    mac: str
    mtu: int
    up: bool
    carrier: bool


@dataclass(frozen=True)
class ObservedVF:
    """A VF as it is."""

    index: int
    address: str
    physfn: str = ""
    """PCI address that it says is its PF's; "" while it does not say."""
    driver: str = ""
    override: str = ""
    """The only driver that may bind it."""
    netdev: Netdev | None = None
    """None: not yet, never, or in another network namespace."""
    numa_node: int | None = None
    group: str = ""
    """Number of its IOMMU group."""
    strangers: tuple[str, ...] = ()
    """What else is in that group and keeps vfio from it: address and driver."""
    state: VFState | None = None
    """None while the PF's driver says nothing: it is being reset."""
    users: tuple[str, ...] = ()
    """Who uses it, for people."""

    @property
    def user(self) -> str:
        """Who uses it, in one line; "": nobody."""
        return ", ".join(self.users)


@dataclass(frozen=True)
class ObservedPF:
    """A PF as it is."""

    address: str
    vendor: str = ""
    device: str = ""
    driver: str = ""
    netdev: Netdev | None = None
    total_vfs: int | None = None
    """None: the attribute is missing."""
    num_vfs: int | None = None
    """None: the attribute is missing."""
    autoprobe: bool | None = None
    """Whether drivers bind to new VFs by themselves; None: the kernel is too old to say."""
    vfs: tuple[ObservedVF, ...] = ()
    eswitch: str | None = None
    uplink: str = ""
    """What of the node itself goes through it, for people; "": nothing."""
    iommu: bool = False
    """Whether the kernel translates addresses for devices."""
    noiommu: bool = False
    """Whether vfio gives devices away without that."""
    vfio_pci: bool = False
    """Whether the driver vfio-pci is loaded."""

    identity: Identity = field(default_factory=Identity)
    """What selectors go by."""


def identities(sysfs: Reader, netlink: Netlink) -> tuple[Identity, ...]:
    """Return what is known of every network card of the node. Raises OSError."""
    links = netlink.links()
    return tuple(
        identity(sysfs, pci.function(sysfs, address), links)
        for address in pci.network_cards(sysfs) or ()
    )


def identity(sysfs: Reader, card: pci.Function, links: Mapping[str, Link]) -> Identity:
    """Return what selectors go by."""
    link = _link(card, links)
    return Identity(
        address=card.address,
        vendor=card.vendor,
        device=card.device,
        driver=card.driver,
        name="" if link is None else link.name,
        mac="" if link is None else link.permanent_mac or link.mac,
        infiniband=None if link is None else link.infiniband,
        sriov=pci.total_vfs(sysfs, card.address) is not None,
    )


def observe(
    sysfs: Reader,
    netlink: Netlink,
    address: str,
    users: Users,
    node: NodeAddresses = NodeAddresses(),  # noqa: B008  # frozen
) -> ObservedPF | None:
    """Return what there is of a PF, None when there is no such device. Raises OSError.

    `node` says by which addresses the node is known; what carries its default routes is found
    here.
    """
    card = pci.function(sysfs, address)
    if not card.vendor:
        return None
    links = netlink.links()
    carried = node_traffic(netlink, links, node)
    traffic = {name: next(iter(each.values())) for name, each in carried.items()}
    holders = _address_holders(netlink, links)
    known = _link(card, links)
    link = None if known is None else _asked(netlink, known.name)
    vfs = _vfs(sysfs, address, links, link)
    used = dict(users({vf.address: vf.group for vf in vfs}))
    for vf in vfs:
        if vf.netdev is not None:
            reason = traffic.get(vf.netdev.name) or holders.get(vf.netdev.name)
            if reason:
                itself = f"the node itself ({vf.netdev.name}: {reason})"
                used[vf.address] = (*used.get(vf.address, ()), itself)
    folder = f"{DEVICES}/{address}"
    return ObservedPF(
        address=address,
        vendor=card.vendor,
        device=card.device,
        driver=card.driver,
        netdev=None if link is None else _netdev(link),
        total_vfs=pci.total_vfs(sysfs, address),
        num_vfs=number(sysfs.text(f"{folder}/sriov_numvfs")),
        autoprobe=_flag(sysfs, f"{folder}/sriov_drivers_autoprobe"),
        vfs=tuple(replace(vf, users=used.get(vf.address, ())) for vf in vfs),
        eswitch=netlink.eswitch_mode(address),
        uplink=next((traffic[name] for name in card.netdevs if name in traffic), ""),
        iommu=bool(sysfs.names(GROUPS)),
        noiommu=_flag(sysfs, "module/vfio/parameters/enable_unsafe_noiommu_mode") or False,
        vfio_pci=bool(sysfs.names(f"{pci.DRIVERS}/vfio-pci")),
        identity=identity(sysfs, card, links),
    )


class FileSysfs(Tree):
    """sysfs as it is mounted.

    A write can wait in the kernel for as long as it likes: for a process to let go of a VF, say.
    It is then left waiting, and nothing more is asked of that device before it has come back.
    """

    def __init__(self, root: Path = Path("/sys"), write_seconds: float = 300.0) -> None:
        super().__init__(root)
        self._write_seconds = write_seconds
        self._waiting: dict[str, threading.Thread] = {}

    def text(self, path: str) -> str | None:
        """What a file has, without white space around it. Raises TimeoutError."""
        if path.endswith("/sriov_numvfs"):
            # The kernel holds the device while VFs are made, also for those who only ask.
            return self._patiently(path, lambda: super(FileSysfs, self).text(path))
        return super().text(path)

    def write(self, path: str, text: str) -> None:
        """Write an attribute, at once and whole."""

        def write() -> None:
            # Never create a file: in a copy of sysfs that would hide that an attribute is missing.
            file = os.open(self._root / path, os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(file, text.encode())
            finally:
                os.close(file)

        self._patiently(path, write)

    def _patiently(self, path: str, act: Callable[[], str | None]) -> str | None:
        folder = path.rpartition("/")[0]
        former = self._waiting.get(folder)
        if former is not None:
            if former.is_alive():
                raise TimeoutError(f"the kernel has not finished an earlier change of {folder}")
            del self._waiting[folder]
        results: queue.SimpleQueue[str | OSError | None] = queue.SimpleQueue()

        def run() -> None:
            try:
                results.put(act())
            except OSError as error:
                results.put(error)

        thread = threading.Thread(target=run, name=f"sysfs {path}", daemon=True)
        thread.start()
        try:
            result = results.get(timeout=self._write_seconds)
        except queue.Empty:
            self._waiting[folder] = thread
            raise TimeoutError(f"the kernel does not finish with {path}") from None
        if isinstance(result, OSError):
            raise result
        return result


def _vfs(
    sysfs: Reader, pf: str, links: Mapping[str, Link], link: Link | None
) -> tuple[ObservedVF, ...]:
    found = []
    for index, address in pci.virtual_functions(sysfs, pf).items():
        each = pci.function(sysfs, address)
        netdev = _link(each, links)
        override = sysfs.text(f"{DEVICES}/{address}/driver_override") or ""
        found.append(
            ObservedVF(
                index=index,
                address=address,
                physfn=each.physfn,
                driver=each.driver,
                override="" if override == "(null)" else override,
                netdev=None if netdev is None else _netdev(netdev),
                numa_node=each.numa_node,
                group=each.group,
                strangers=tuple(
                    f"{peer.address} ({peer.driver})"
                    for peer in pci.peers(sysfs, each)
                    # Other VFs of the same PF are planned.
                    if peer.driver and peer.driver not in _HARMLESS_DRIVERS
                    if not peer.bridge and peer.physfn != pf
                ),
                state=None if link is None else link.vfs.get(index),
            )
        )
    return tuple(found)


def _address_holders(netlink: Netlink, links: Mapping[str, Link]) -> dict[str, str]:
    """Return the devices that somebody has set up, and how."""
    names = {link.index: name for name, link in links.items()}
    found = {}
    for name, link in links.items():
        if link.master in names:
            found[name] = f"a port of {names[link.master]}"
    for index, address in netlink.addresses():
        if index in names:
            found.setdefault(names[index], f"has address {address}")
    return found


def _link(of: pci.Function, links: Mapping[str, Link]) -> Link | None:
    """Return a function's network device; None: it has none here."""
    return links.get(of.netdevs[0]) if of.netdevs else None


def _asked(netlink: Netlink, name: str) -> Link | None:
    """Return a PF's network device with what its driver says of its VFs."""
    try:
        return netlink.link(name)
    except OSError:
        # Renamed or gone meanwhile.
        return None


def _netdev(link: Link) -> Netdev:
    return Netdev(link.name, link.index, link.mac, link.mtu, link.up, link.carrier)


def _flag(sysfs: Reader, path: str) -> bool | None:
    text = sysfs.text(path)
    return None if text is None else text in ("1", "Y", "y")
