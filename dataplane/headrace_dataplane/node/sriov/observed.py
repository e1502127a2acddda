# SPDX-License-Identifier: Apache-2.0
"""What there is of a PF and its VFs: sysfs, and the kernel's netlink.

Both are behind small interfaces. Everything blocks.
"""

import os
import queue
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from headrace_dataplane.node.sriov.desired import Identity, LinkState

PCI_DEVICES = "bus/pci/devices"
PCI_DRIVERS = "bus/pci/drivers"

NOT_NETWORK_DRIVERS = frozenset({"vfio-pci", "uio_pci_generic", "igb_uio", "pci-stub"})
"""Drivers that give a device away, to a process or to nobody."""

# A device of the group may be a bridge, or bound to one of these, and the group is still whole:
# to the kernel they are no owners of its DMA (driver_managed_dma of struct pci_driver).
_HARMLESS_DRIVERS = frozenset({"vfio-pci", "pci-stub", "pcieport"})
_BRIDGE_CLASS = "0x0604"
_REPRESENTOR = re.compile(r"pf\d+(vf|sf)\d+$")


class Sysfs(Protocol):
    """sysfs below its root; paths are relative. All raise OSError."""

    def read(self, path: str) -> str:
        """Return an attribute without the newline."""

    def write(self, path: str, text: str) -> None:
        """Write an attribute, at once and whole."""

    def target(self, path: str) -> str:
        """Return the last name of what a link leads to."""

    def names(self, path: str) -> tuple[str, ...]:
        """Return the names in a folder, sorted."""


@dataclass(frozen=True)
class VFState:
    """What the PF's driver says of a VF. None: it does not say."""

    mac: str
    vlan: int
    spoof_check: bool | None
    trust: bool | None
    min_rate: int
    max_rate: int
    link_state: LinkState


@dataclass(frozen=True)
class Link:
    """A network device."""

    name: str
    index: int
    mac: str
    mtu: int
    up: bool
    carrier: bool
    master: int = 0
    """Index of the bond or bridge that it is in."""
    lower: int = 0
    """Index of the device that it is upon."""
    permanent_mac: str = ""
    vfs: Mapping[int, VFState] = field(default_factory=dict)
    """Only where it was asked for; VFs that are being reset are missing."""


class Netlink(Protocol):
    """The kernel's network devices. All raise OSError."""

    def links(self) -> Mapping[str, Link]:
        """Return the devices of this network namespace by name, without VFs."""

    def link(self, name: str) -> Link:
        """Return one device with what its driver says of its VFs."""

    def routes(self) -> Iterable[tuple[int, bool]]:
        """Yield each unicast route's device, and whether the route is a default one."""

    def addresses(self) -> Iterable[tuple[int, str]]:
        """Yield each address that is not link-local with its device."""

    def set_link(self, index: int, *, up: bool | None = None, mtu: int | None = None) -> None:
        """Bring a device up or down, or change its MTU."""

    def set_vf(self, index: int, vf: int, state: Mapping[str, object]) -> None:
        """Set one property of a VF through its PF."""

    def eswitch_mode(self, address: str) -> str | None:
        """Return `legacy` or `switchdev`, None where the driver has no such modes."""


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
    group: str = ""
    """Number of its IOMMU group."""
    strangers: tuple[str, ...] = ()
    """What else is in that group and keeps vfio from it: address and driver."""
    state: VFState | None = None
    """None while the PF's driver says nothing: it is being reset."""
    user: str = ""
    """Who uses it, for people; "": nobody."""


@dataclass(frozen=True)
class ObservedPF:
    """A PF as it is."""

    address: str
    vendor: str = ""
    device: str = ""
    driver: str = ""
    netdev: Netdev | None = None
    permanent_mac: str = ""
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

    @property
    def identity(self) -> Identity:
        """What selectors go by."""
        name = "" if self.netdev is None else self.netdev.name
        mac = self.permanent_mac or ("" if self.netdev is None else self.netdev.mac)
        return Identity(self.address, self.vendor, self.device, self.driver, name, mac)


Users = Callable[[Mapping[str, str]], Mapping[str, str]]
"""Says of VFs, given as PCI address and IOMMU group, who uses them; what nobody uses is missing."""


def physical_functions(sysfs: Sysfs) -> tuple[str, ...]:
    """Return the PCI addresses of all devices that can have VFs."""
    return tuple(
        address
        for address in sysfs.names(PCI_DEVICES)
        if _read(sysfs, f"{PCI_DEVICES}/{address}/sriov_totalvfs") is not None
    )


def observe(
    sysfs: Sysfs,
    netlink: Netlink,
    address: str,
    users: Users,
    node_addresses: frozenset[str] = frozenset(),
) -> ObservedPF | None:
    """Return what there is of a PF, None when there is no such device. Raises OSError.

    `node_addresses` are those by which Kubernetes and people know the node; those of its default
    routes' devices are found here.
    """
    folder = f"{PCI_DEVICES}/{address}"
    vendor = _read(sysfs, f"{folder}/vendor")
    if vendor is None:
        return None
    links = netlink.links()
    uplinks = uplink_devices(netlink, links, node_addresses)
    holders = _address_holders(netlink, links)
    name = _netdev_name(sysfs, folder)
    link = _link(netlink, name)
    vfs = _vfs(sysfs, folder, links, link)
    used = dict(users({vf.address: vf.group for vf in vfs}))
    for vf in vfs:
        if vf.netdev is not None:
            reason = uplinks.get(vf.netdev.name) or holders.get(vf.netdev.name)
            if reason:
                used.setdefault(vf.address, f"the node itself ({vf.netdev.name}: {reason})")
    return ObservedPF(
        address=address,
        vendor=vendor.removeprefix("0x"),
        device=(_read(sysfs, f"{folder}/device") or "").removeprefix("0x"),
        driver=_target(sysfs, f"{folder}/driver"),
        netdev=None if link is None else _netdev(link),
        permanent_mac="" if link is None else link.permanent_mac,
        total_vfs=_number(sysfs, f"{folder}/sriov_totalvfs"),
        num_vfs=_number(sysfs, f"{folder}/sriov_numvfs"),
        autoprobe=_flag(sysfs, f"{folder}/sriov_drivers_autoprobe"),
        vfs=tuple(_with_user(vf, used.get(vf.address, "")) for vf in vfs),
        eswitch=netlink.eswitch_mode(address),
        uplink=uplinks.get(name, ""),
        iommu=bool(_names(sysfs, "kernel/iommu_groups")),
        noiommu=_flag(sysfs, "module/vfio/parameters/enable_unsafe_noiommu_mode") or False,
        vfio_pci=bool(_names(sysfs, f"{PCI_DRIVERS}/vfio-pci")),
    )


def uplink_devices(
    netlink: Netlink, links: Mapping[str, Link], node_addresses: frozenset[str] = frozenset()
) -> dict[str, str]:
    """Return the devices that the node's own traffic takes, and why each is one.

    What a bond, a bridge or a VLAN device is, its ports and what it is upon are, too.
    """
    by_index = {link.index: link for link in links.values()}
    found: dict[int, str] = {}
    for index, default in netlink.routes():
        if default:
            found.setdefault(index, "it carries the node's default route")
    for index, address in netlink.addresses():
        if address in node_addresses:
            found.setdefault(index, f"it has the node's address {address}")
    todo = list(found)
    while todo:
        upper = by_index.get(todo.pop())
        if upper is None:
            continue
        for link in links.values():
            beneath = link.master == upper.index or link.index == upper.lower
            if beneath and link.index not in found:
                found[link.index] = f"{found[upper.index]}, by {upper.name}"
                todo.append(link.index)
    return {by_index[index].name: why for index, why in found.items() if index in by_index}


class FileSysfs:
    """sysfs as it is mounted.

    A write can wait in the kernel for as long as it likes: for a process to let go of a VF, say.
    It is then left waiting, and nothing more is asked of that device before it has come back.
    """

    def __init__(self, root: Path = Path("/sys"), write_seconds: float = 300.0) -> None:
        self._root = root
        self._write_seconds = write_seconds
        self._waiting: dict[str, threading.Thread] = {}

    def read(self, path: str) -> str:
        """Return an attribute without the newline."""
        if path.endswith("/sriov_numvfs"):
            # The kernel holds the device while VFs are made, also for those who only ask.
            return self._patiently(path, lambda: (self._root / path).read_text().strip())
        return (self._root / path).read_text().strip()

    def write(self, path: str, text: str) -> None:
        """Write an attribute, at once and whole."""

        def write() -> str:
            # Never create a file: in a copy of sysfs that would hide that an attribute is missing.
            file = os.open(self._root / path, os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(file, text.encode())
            finally:
                os.close(file)
            return ""

        self._patiently(path, write)

    def target(self, path: str) -> str:
        """Return the last name of what a link leads to."""
        return (self._root / path).readlink().name

    def names(self, path: str) -> tuple[str, ...]:
        """Return the names in a folder, sorted."""
        return tuple(sorted(os.listdir(self._root / path)))

    def _patiently(self, path: str, act: Callable[[], str]) -> str:
        folder = path.rpartition("/")[0]
        former = self._waiting.get(folder)
        if former is not None:
            if former.is_alive():
                raise TimeoutError(f"the kernel has not finished an earlier change of {folder}")
            del self._waiting[folder]
        results: queue.SimpleQueue[str | OSError] = queue.SimpleQueue()

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


class VFIOHolders:
    """Who has a VF's vfio device open, as /proc says: needs the node's process IDs."""

    def __init__(self, sysfs: Sysfs, proc: Path = Path("/proc")) -> None:
        self._sysfs = sysfs
        self._proc = proc

    def __call__(self, groups: Mapping[str, str]) -> Mapping[str, str]:
        """Say who uses the VFs, given as PCI address and IOMMU group."""
        devices = {}
        for address, group in groups.items():
            # Containers may have the node under another name, and vfio without an IOMMU has.
            nodes = [f"class/vfio/{name}/dev" for name in (group, f"noiommu-{group}") if group]
            of = f"{PCI_DEVICES}/{address}/vfio-dev"
            nodes += [f"{of}/{name}/dev" for name in _names(self._sysfs, of)]
            for node in nodes:
                number = _read(self._sysfs, node)
                if number is not None:
                    major, minor = number.split(":")
                    devices[os.makedev(int(major), int(minor))] = address
        found: dict[str, str] = {}
        for process in self._proc.iterdir() if devices else ():
            if not process.name.isdigit():
                continue
            # Processes end while they are looked at, and close their files.
            with suppress(OSError):
                for file in (process / "fd").iterdir():
                    with suppress(OSError):
                        held = devices.get(file.stat().st_rdev)
                        if held is not None:
                            name = (process / "comm").read_text().strip()
                            found.setdefault(held, f"process {process.name} ({name})")
        return found


def _vfs(
    sysfs: Sysfs, folder: str, links: Mapping[str, Link], pf: Link | None
) -> tuple[ObservedVF, ...]:
    found = []
    for name in _names(sysfs, folder):
        if not name.startswith("virtfn"):
            continue
        index = int(name.removeprefix("virtfn"))
        address = _target(sysfs, f"{folder}/{name}")
        if not address:
            continue
        of = f"{PCI_DEVICES}/{address}"
        link = links.get(_netdev_name(sysfs, of))
        group = _target(sysfs, f"{of}/iommu_group")
        override = _read(sysfs, f"{of}/driver_override") or ""
        found.append(
            ObservedVF(
                index=index,
                address=address,
                physfn=_target(sysfs, f"{of}/physfn"),
                driver=_target(sysfs, f"{of}/driver"),
                override="" if override == "(null)" else override,
                netdev=None if link is None else _netdev(link),
                group=group,
                strangers=_strangers(sysfs, address, folder, group),
                state=None if pf is None else pf.vfs.get(index),
            )
        )
    return tuple(sorted(found, key=lambda vf: vf.index))


def _strangers(sysfs: Sysfs, address: str, pf: str, group: str) -> tuple[str, ...]:
    """Return what keeps vfio from a group, other VFs of the same PF left out: they are planned."""
    found = []
    for other in _names(sysfs, f"kernel/iommu_groups/{group}/devices") if group else ():
        of = f"{PCI_DEVICES}/{other}"
        driver = _target(sysfs, f"{of}/driver")
        ours = other == address or _target(sysfs, f"{of}/physfn") == pf.rpartition("/")[2]
        if ours or not driver or driver in _HARMLESS_DRIVERS:
            continue
        if (_read(sysfs, f"{of}/class") or "").startswith(_BRIDGE_CLASS):
            continue
        found.append(f"{other} ({driver})")
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


def _with_user(vf: ObservedVF, user: str) -> ObservedVF:
    return ObservedVF(**{**vf.__dict__, "user": user})


def _netdev_name(sysfs: Sysfs, folder: str) -> str:
    """Return the name of a PCI device's network device: of several, none that stands for a VF."""
    for name in _names(sysfs, f"{folder}/net"):
        port = _read(sysfs, f"{folder}/net/{name}/phys_port_name") or ""
        if not _REPRESENTOR.match(port):
            return name
    return ""


def _link(netlink: Netlink, name: str) -> Link | None:
    if not name:
        return None
    try:
        return netlink.link(name)
    except OSError:
        # Renamed or gone meanwhile.
        return None


def _netdev(link: Link) -> Netdev:
    return Netdev(link.name, link.index, link.mac, link.mtu, link.up, link.carrier)


def _read(sysfs: Sysfs, path: str) -> str | None:
    try:
        return sysfs.read(path)
    except TimeoutError:
        raise
    except OSError:
        return None


def _number(sysfs: Sysfs, path: str) -> int | None:
    text = _read(sysfs, path)
    return None if text is None else int(text)


def _flag(sysfs: Sysfs, path: str) -> bool | None:
    text = _read(sysfs, path)
    return None if text is None else text in ("1", "Y", "y")


def _target(sysfs: Sysfs, path: str) -> str:
    try:
        return sysfs.target(path)
    except OSError:
        return ""


def _names(sysfs: Sysfs, path: str) -> tuple[str, ...]:
    try:
        return sysfs.names(path)
    except OSError:
        return ()
