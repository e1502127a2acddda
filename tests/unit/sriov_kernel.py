# SPDX-License-Identifier: Apache-2.0
"""A kernel with SR-IOV: sysfs, netlink and time, as Linux' own drivers behave.

Each behaviour says which file of Linux (6.12) it follows. What those refuse is refused here, with
their errors, and what they do wrongly without a word is done wrongly without a word.
"""

import errno
import heapq
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from headrace_api.device_policy import VfLinkState
from headrace_dataplane.node.netlink import Link, VFState
from headrace_dataplane.node.pci import DEVICES
from headrace_dataplane.node.sriov.desired import NO_MAC
from headrace_dataplane.node.sriov.observed import NOT_NETWORK_DRIVERS

_FOLDER = "a folder"
LINK_STATES = (VfLinkState.AUTO, VfLinkState.ENABLE, VfLinkState.DISABLE)


class HangError(AssertionError):
    """The kernel would wait for ever."""


class Killed(BaseException):
    """The agent is no more."""


@dataclass(frozen=True)
class SymLink:
    """A symbolic link, by what it leads to below the root."""

    to: str


@dataclass
class Netdev:
    name: str
    index: int
    mac: str
    mtu: int = 1500
    up: bool = False


@dataclass
class VF:
    index: int
    address: str
    group: str
    driver: str = ""
    override: str = ""
    netdev: Netdev | None = None
    elsewhere: bool = False
    """Whether its network device is in a container."""
    held: str = ""
    """Who uses it: vfio waits for that one, and the kernel's drivers for nobody."""
    # What the PF's driver keeps of it.
    mac: str = NO_MAC
    administrative: bool = False
    vlan: int = 0
    spoof_check: bool = True
    trust: bool = False
    rates: tuple[int, int] = (0, 0)
    link_state: VfLinkState = VfLinkState.AUTO
    resetting_until: float = 0.0
    shows_netdev: bool = True
    mute: bool = False
    """Whether it never comes out of its reset."""


class Driver:
    """What the drivers of PFs have in common."""

    name = ""
    vf_driver = ""
    vendor = "8086"
    device = "0000"
    carrier_lost = 0.0
    """Seconds without a link after the number of VFs, or the PF's MTU, has changed."""
    netdev_after = 0.2
    """Seconds until a bound VF shows its network device."""
    settings = frozenset({"mac", "vlan", "spoofchk", "trust", "rate", "link_state"})
    told = False
    """Whether a VF's driver takes an administrative MAC address while it is bound."""

    def __init__(self, limit: int | None = None) -> None:
        self.limit = limit

    def configure(self, kernel: "Kernel", pf: "PF", count: int) -> None:
        """sriov_configure of struct pci_driver."""
        if count and self.limit is not None and count > self.limit:
            raise error(errno.EPERM)
        kernel.replace_vfs(pf, count)

    def ready(self, kernel: "Kernel", vf: VF) -> bool:
        """Whether a VF can be asked for and told."""
        return kernel.now() >= vf.resetting_until and not vf.mute

    def not_ready(self) -> int:
        """The error that says that a VF is being reset."""
        return errno.EAGAIN

    def reset(self, kernel: "Kernel", vf: VF) -> None:
        """What telling a VF's property entails."""

    def set_rate(self, kernel: "Kernel", pf: "PF", vf: VF, lowest: int, highest: int) -> None:
        vf.rates = (lowest, highest)

    def set_link_state(self, vf: VF, state: VfLinkState) -> None:
        vf.link_state = state


class Igb(Driver):
    """drivers/net/ethernet/intel/igb/igb_main.c.

    igb_sriov_reinit() closes and opens the port, which is without a link for two seconds then;
    igb_change_mtu() likewise. More than 7 VFs are EPERM. igb_ndo_set_vf_bw() wants a link, and
    knows no lowest rate. It has no link state. igb_vf_reset_event() forgets an address that the
    PF did not set; a VF's driver takes the one that it did set when it binds.
    """

    name, vf_driver, device = "igb", "igbvf", "10c9"
    carrier_lost = 2.0
    settings = frozenset({"mac", "vlan", "spoofchk", "trust", "rate"})

    def __init__(self) -> None:
        super().__init__(7)

    def set_rate(self, kernel: "Kernel", pf: "PF", vf: VF, lowest: int, highest: int) -> None:
        if lowest or not pf.carrier(kernel) or highest > 1000:
            raise error(errno.EINVAL)
        super().set_rate(kernel, pf, vf, lowest, highest)


class Ixgbe(Driver):
    """drivers/net/ethernet/intel/ixgbe/ixgbe_sriov.c.

    Traffic classes leave fewer VFs than sriov_totalvfs says: EPERM. ixgbe_sriov_reinit() costs the
    link. ixgbe_ndo_set_vf_bw() wants a link and more than 10 Mbit/s, and knows no lowest rate.
    ixgbe_ndo_set_vf_link_state() takes `enable`, says that all is well and does nothing.
    """

    name, vf_driver, device = "ixgbe", "ixgbevf", "10fb"
    carrier_lost = 3.0

    def set_rate(self, kernel: "Kernel", pf: "PF", vf: VF, lowest: int, highest: int) -> None:
        if lowest or not pf.carrier(kernel) or 0 < highest <= 10 or highest > 10000:
            raise error(errno.EINVAL)
        super().set_rate(kernel, pf, vf, lowest, highest)

    def set_link_state(self, vf: VF, state: VfLinkState) -> None:
        if state is not VfLinkState.ENABLE:
            super().set_link_state(vf, state)


class I40e(Driver):
    """drivers/net/ethernet/intel/i40e/i40e_virtchnl_pf.c.

    i40e_check_vf_init_timeout() answers EAGAIN while a VF is being reset, which every change of
    its address, VLAN or trust does to it (i40e_vc_reset_vf()), and i40e_ndo_get_vf_config() then
    fails, by which the VF is missing from the PF's link message (rtnl_fill_vfinfo() in
    net/core/rtnetlink.c). A VF's driver hears of its new address with the reset. No lowest rate.
    """

    name, vf_driver, device = "i40e", "iavf", "1583"
    carrier_lost = 1.0
    told = True

    def reset(self, kernel: "Kernel", vf: VF) -> None:
        vf.resetting_until = kernel.now() + 0.3

    def set_rate(self, kernel: "Kernel", pf: "PF", vf: VF, lowest: int, highest: int) -> None:
        if lowest:
            raise error(errno.EINVAL)
        super().set_rate(kernel, pf, vf, lowest, highest)


class Ice(I40e):
    """drivers/net/ethernet/intel/ice/ice_sriov.c, ice_vf_lib.c.

    Without its DDP package (safe mode) or above what it supports it is EOPNOTSUPP, and EBUSY while
    the port is not at rest (ice_check_sriov_allowed()). ice_check_vf_ready_for_cfg() answers EBUSY
    while a VF is being reset, as for i40e. It knows lowest rates.
    """

    name, device = "ice", "1592"
    carrier_lost = 0.0

    def __init__(self, limit: int | None = None, safe_mode: bool = False) -> None:
        super().__init__(limit)
        self.safe_mode = safe_mode
        self.busy_until = 0.0

    def configure(self, kernel: "Kernel", pf: "PF", count: int) -> None:
        if self.safe_mode or (self.limit is not None and count > self.limit):
            raise error(errno.EOPNOTSUPP)
        if kernel.now() < self.busy_until:
            raise error(errno.EBUSY)
        kernel.replace_vfs(pf, count)

    def not_ready(self) -> int:
        return errno.EBUSY

    def set_rate(self, kernel: "Kernel", pf: "PF", vf: VF, lowest: int, highest: int) -> None:
        vf.rates = (lowest, highest)


class Mlx5(Driver):
    """drivers/net/ethernet/mellanox/mlx5/core/sriov.c.

    mlx5_device_disable_sriov() waits for the pages of each VF, which a bound driver keeps. VFs are
    of the same driver as the PF; it reads its address when it binds.
    """

    name, vf_driver, vendor, device = "mlx5_core", "mlx5_core", "15b3", "101d"

    def configure(self, kernel: "Kernel", pf: "PF", count: int) -> None:
        if count == 0 and any(vf.driver for vf in pf.vfs):
            raise TimeoutError("timeout reclaiming VFs pages")
        super().configure(kernel, pf, count)


class Bnxt(Driver):
    """drivers/net/ethernet/broadcom/bnxt/bnxt_sriov.c.

    bnxt_sriov_configure() makes no VFs while the port is down, and says that all went well;
    bnxt_sriov_enable() makes as many as there are rings for, and says that, too, only in dmesg.
    """

    name, vf_driver, vendor, device = "bnxt_en", "bnxt_en", "14e4", "16d7"

    def configure(self, kernel: "Kernel", pf: "PF", count: int) -> None:
        if not pf.netdev.up:
            return
        kernel.replace_vfs(pf, count if self.limit is None else min(count, self.limit))


class NoSRIOV(Driver):
    """A driver without sriov_configure: sriov_numvfs_store() of drivers/pci/iov.c says ENOENT."""

    name, vf_driver = "e1000e", ""

    def configure(self, kernel: "Kernel", pf: "PF", count: int) -> None:
        raise error(errno.ENOENT)


DRIVERS: tuple[Callable[[], Driver], ...] = (Igb, Ixgbe, I40e, Ice, Mlx5, Bnxt)


@dataclass
class PF:
    address: str
    driver: Driver
    netdev: Netdev
    total: int = 7
    loaded: bool = True
    autoprobe: bool = True
    cable: bool = True
    carrier_from: float = 0.0
    vfs: list[VF] = field(default_factory=list)
    missing: frozenset[str] = frozenset()
    """Attributes that are not there."""
    links_after: float = 0.0
    """Seconds until VFs say whose they are."""
    made_at: float = 0.0
    hidden_links: int = 0
    """How many of its VFs never show their links."""
    eswitch: str | None = None
    vfs_show_netdev: bool = True

    def carrier(self, kernel: "Kernel") -> bool:
        return self.netdev.up and self.cable and kernel.now() >= self.carrier_from


class Kernel:
    """All of it, and time, which passes only while somebody sleeps."""

    def __init__(self, *pfs: PF, iommu: bool = True, modules: tuple[str, ...] = ("vfio-pci",)):
        self._time = 0.0
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._serial = 100
        self.pfs = {pf.address: pf for pf in pfs}
        self.iommu = iommu
        self.modules = set(modules) | {"igbvf", "ixgbevf", "iavf", "mlx5_core", "bnxt_en"}
        self.noiommu = False
        self.read_only = False
        self.journal: list[str] = []
        """What was written, and took effect."""
        self.attempts: list[str] = []
        """What was written, whatever came of it."""
        self.failures: list[tuple[str, int, int]] = []
        """What fails: the beginning of a line of `attempts`, how many times, and how."""
        self.killed_after: int | None = None
        """After how many writes and sleeps the agent ends."""
        self.before_write: Callable[[int], None] = lambda number: None
        self.after_write: Callable[[], None] = lambda: None
        self.pods: dict[str, str] = {}
        """Who has VFs by the kubelet's word, whether they are there or not."""
        self.default_route = 0
        self.routed: dict[str, int] = {}
        """Addresses that go by another device."""
        self.node_addresses: list[tuple[int, str]] = []
        self.strangers: dict[str, list[tuple[str, str]]] = {}
        """Other devices of IOMMU groups: address and driver."""
        self.extra_links: dict[str, Link] = {}
        self._files: dict[str, str | SymLink] | None = None
        self._children: dict[str, set[str]] = {}
        self._points = 0

    # Time.

    def now(self) -> float:
        return self._time

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        end = self._time + seconds
        while self._timers and self._timers[0][0] <= end:
            at, _, act = heapq.heappop(self._timers)
            self._time = at
            act()
        self._time = end
        self.touch()
        self._point()

    def later(self, seconds: float, act: Callable[[], None]) -> None:
        self._serial += 1
        heapq.heappush(self._timers, (self._time + seconds, self._serial, act))

    # sysfs.

    def text(self, path: str) -> str | None:
        found = self._tree().get(path)
        return found if isinstance(found, str) else None

    def target(self, path: str) -> str | None:
        found = self._tree().get(path)
        return found.to.rpartition("/")[2] if isinstance(found, SymLink) else None

    def names(self, path: str) -> list[str] | None:
        self._tree()
        return sorted(self._children[path]) if path in self._children else None

    def write(self, path: str, text: str) -> None:
        with self._writing(f"{path} {text.strip()}"):
            if self.read_only:
                raise error(errno.EROFS)
            name = path.rpartition("/")[2]
            if name == "drivers_probe":
                self._drivers_probe(text)
            elif name == "unbind":
                self._unbind(path.split("/")[-2], text)
            else:
                self._file(path)
                address = path.split("/")[-2]
                if name == "sriov_numvfs":
                    self._sriov_numvfs_store(self.pfs[address], int(text))
                elif name == "sriov_drivers_autoprobe":
                    self.pfs[address].autoprobe = text == "1"
                elif name == "driver_override":
                    # driver_set_override() of drivers/base/driver.c: a write of nothing is no
                    # write, a newline takes it away.
                    assert text.endswith("\n")
                    self._vf(address).override = text.strip()
                else:
                    raise error(errno.EACCES)

    def _sriov_numvfs_store(self, pf: PF, count: int) -> None:
        """sriov_numvfs_store() of drivers/pci/iov.c."""
        if count > pf.total:
            raise error(errno.ERANGE)
        if count == len(pf.vfs):
            return
        if not pf.loaded:
            raise error(errno.ENOENT)
        if count and pf.vfs:
            raise error(errno.EBUSY)
        for vf in pf.vfs:
            if vf.held:
                # vfio_unregister_group_dev() of drivers/vfio/vfio_main.c waits for who has it.
                raise HangError(f"{vf.address} is held by {vf.held}")
        before = len(pf.vfs)
        pf.driver.configure(self, pf, count)
        if len(pf.vfs) != before:
            pf.carrier_from = self._time + pf.driver.carrier_lost

    def replace_vfs(self, pf: PF, count: int) -> None:
        """pci_enable_sriov(), pci_disable_sriov(): the VFs, and drivers that bind by themselves."""
        pf.vfs, pf.made_at = [], self._time
        bus = pf.address.rpartition(":")[0]
        for index in range(count):
            # As VF offset and stride of the 82576 have it.
            function = 0x80 + 2 * index
            address = f"{bus}:{function >> 3:02x}.{function & 7}"
            vf = VF(index, address, group=f"{10 * pf.netdev.index + index}")
            vf.shows_netdev = pf.vfs_show_netdev
            pf.vfs.append(vf)
            if isinstance(pf.driver, I40e):
                vf.resetting_until = self._time + 0.5
            if pf.autoprobe:
                self._attach(pf, vf)

    def _drivers_probe(self, address: str) -> None:
        """drivers_probe_store() of drivers/base/bus.c: no driver that takes it is no error."""
        vf = self._vf(address)
        if not vf.driver:
            self._attach(self._pf_of(vf), vf)

    def _attach(self, pf: PF, vf: VF) -> None:
        """pci_match_device() and pci_device_can_probe() of drivers/pci/pci-driver.c."""
        name = vf.override or pf.driver.vf_driver
        if name not in self.modules or not (vf.override or pf.autoprobe):
            return
        if name == "vfio-pci":
            if not self.iommu and not self.noiommu:
                raise error(errno.EINVAL)
            self._take_over(vf, name)
        elif name == pf.driver.vf_driver:
            self._take_over(vf, name)
            mac = vf.mac if vf.mac != NO_MAC else self._random_mac()
            # It tells the PF the address that it has chosen.
            vf.mac = mac
            self.later(pf.driver.netdev_after, lambda: self._show_netdev(pf, vf, mac))

    def _take_over(self, vf: VF, driver: str) -> None:
        vf.driver = driver
        if not vf.administrative:
            vf.mac = NO_MAC

    def _show_netdev(self, pf: PF, vf: VF, mac: str) -> None:
        mine = vf in pf.vfs and vf.driver == pf.driver.vf_driver and vf.netdev is None
        if mine and vf.shows_netdev and not vf.elsewhere:
            self._serial += 1
            vf.netdev = Netdev(f"{pf.netdev.name}v{vf.index}", self._serial, mac)
            self.touch()

    def _random_mac(self) -> str:
        self._serial += 1
        return f"06:00:00:00:{self._serial >> 8 & 255:02x}:{self._serial & 255:02x}"

    def _unbind(self, driver: str, address: str) -> None:
        """unbind_store() of drivers/base/bus.c: ENODEV unless it is that driver's."""
        if driver not in self.modules:
            raise error(errno.ENOENT)
        vf = self._vf(address)
        if vf.driver != driver:
            raise error(errno.ENODEV)
        if vf.held and driver == "vfio-pci":
            # As in sriov_numvfs_store().
            raise HangError(f"{vf.address} is held by {vf.held}")
        vf.driver = ""
        vf.netdev = None
        if not vf.administrative:
            vf.mac = NO_MAC

    # Netlink.

    def links(self) -> Mapping[str, Link]:
        found = dict(self.extra_links)
        for pf in self.pfs.values():
            if pf.loaded:
                found[pf.netdev.name] = self._link(pf)
                for vf in pf.vfs:
                    if vf.netdev is not None:
                        each = vf.netdev
                        found[each.name] = Link(
                            each.name, each.index, each.mac, each.mtu, each.up, each.up
                        )
        return found

    def link(self, name: str) -> Link:
        for pf in self.pfs.values():
            if pf.loaded and pf.netdev.name == name:
                return self._link(pf, vfs=True)
        raise error(errno.ENODEV)

    def _link(self, pf: PF, vfs: bool = False) -> Link:
        states = {
            vf.index: VFState(vf.mac, vf.vlan, vf.spoof_check, vf.trust, *vf.rates, vf.link_state)
            for vf in pf.vfs
            if vfs and pf.driver.ready(self, vf)
        }
        each, carrier = pf.netdev, pf.carrier(self)
        return Link(
            each.name, each.index, each.mac, each.mtu, each.up, carrier, 0, 0, each.mac, vfs=states
        )

    def routes(self) -> Iterator[tuple[int, bool]]:
        if self.default_route:
            yield self.default_route, True

    def addresses(self) -> Iterator[tuple[int, str]]:
        yield from self.node_addresses

    def outputs(self, address: str) -> Iterator[int]:
        index = self.routed.get(address, self.default_route)
        if index:
            yield index

    def firmware(self, name: str) -> str | None:
        return None

    def eswitch_mode(self, address: str) -> str | None:
        return self.pfs[address].eswitch

    def set_link(self, index: int, *, up: bool | None = None, mtu: int | None = None) -> None:
        name = next((link.name for link in self.links().values() if link.index == index), "gone")
        with self._writing(f"link {name} up={up} mtu={mtu}"):
            for pf in self.pfs.values():
                if pf.loaded and pf.netdev.index == index:
                    if mtu is not None:
                        if mtu > 9216:
                            raise error(errno.EINVAL)
                        pf.netdev.mtu = mtu
                        pf.carrier_from = self._time + pf.driver.carrier_lost
                    if up is not None:
                        pf.netdev.up = up
                    return
                for vf in pf.vfs:
                    if vf.netdev is not None and vf.netdev.index == index:
                        if mtu is not None:
                            if mtu > pf.netdev.mtu:
                                # ixgbevf_change_mtu() and others: the PF's limit.
                                raise error(errno.EINVAL)
                            vf.netdev.mtu = mtu
                        if up is not None:
                            vf.netdev.up = up
                        return
            raise error(errno.ENODEV)

    def set_vf(self, index: int, vf: int, state: Mapping[str, object]) -> None:
        """do_setvfinfo() of net/core/rtnetlink.c, and what the drivers make of it."""
        pf = next((pf for pf in self.pfs.values() if pf.netdev.index == index), None)
        with self._writing(f"vf {'gone' if pf is None else pf.netdev.name} {vf} {dict(state)}"):
            if pf is None or not pf.loaded:
                raise error(errno.ENODEV)
            ((key, value),) = state.items()
            if key not in pf.driver.settings:
                raise error(errno.EOPNOTSUPP)
            if vf >= len(pf.vfs):
                raise error(errno.EINVAL)
            this = pf.vfs[vf]
            if not pf.driver.ready(self, this):
                raise error(pf.driver.not_ready())
            self._set(pf, this, key, value)

    def _set(self, pf: PF, vf: VF, key: str, value: object) -> None:
        if key == "mac":
            vf.mac, vf.administrative = str(value), value != NO_MAC
            if pf.driver.told and vf.netdev is not None and vf.administrative:
                vf.netdev.mac = vf.mac
        elif key == "vlan":
            vf.vlan = int(str(value))
        elif key == "spoofchk":
            vf.spoof_check = bool(value)
        elif key == "trust":
            vf.trust = bool(value)
        elif key == "rate":
            assert isinstance(value, Mapping)
            pf.driver.set_rate(self, pf, vf, value["min_tx_rate"], value["max_tx_rate"])
        else:
            pf.driver.set_link_state(vf, LINK_STATES[int(str(value))])
        if key in ("mac", "vlan", "trust"):
            pf.driver.reset(self, vf)

    # Frames.

    def hears(self, sender: str, source: str | None = None) -> set[str]:
        """Where a VF's broadcast arrives: PCI addresses of VFs, and "wire", in VLAN "wire 7".

        The switch of a card, as its drivers set it up: between what is in one VLAN, from the VF's
        own address where that is checked, and neither from nor to a VF whose link is down.
        """
        vf = self._vf(sender)
        if vf.link_state is VfLinkState.DISABLE or (
            vf.spoof_check and source not in (None, vf.mac)
        ):
            return set()
        others = {
            each.address
            for each in self._pf_of(vf).vfs
            if each is not vf and each.vlan == vf.vlan
            if each.link_state is not VfLinkState.DISABLE
        }
        return {*others, f"wire {vf.vlan}" if vf.vlan else "wire"}

    # People and processes.

    def users(self, vfs: Mapping[str, str]) -> Mapping[str, tuple[str, ...]]:
        held = {vf.address: vf.held for pf in self.pfs.values() for vf in pf.vfs if vf.held}
        found = {**self.pods, **held}
        return {each: tuple(found[each].split(", ")) for each in vfs if each in found}

    def reload(self, address: str, seconds: float = 1.0) -> None:
        """rmmod and modprobe of a PF's driver: its VFs are gone, and all that it knew of them."""
        pf = self.pfs[address]
        pf.loaded, pf.vfs = False, []

        def back() -> None:
            self._serial += 1
            pf.loaded, pf.netdev.index, pf.netdev.up = True, self._serial, False

        self.later(seconds, back)
        self.touch()

    def end_state(self, address: str, macs: bool = True) -> object:
        """What is compared of two runs: names and indexes of devices are by chance."""
        pf = self.pfs[address]
        return (
            (pf.netdev.mtu, pf.netdev.up, pf.autoprobe),
            [
                (
                    vf.index,
                    vf.driver,
                    vf.override,
                    vf.administrative,
                    vf.mac if macs and vf.administrative else "",
                    (vf.vlan, vf.spoof_check, vf.trust, vf.rates, vf.link_state),
                    None if vf.netdev is None else vf.netdev.mtu,
                    None if vf.netdev is None or not macs else vf.netdev.mac == vf.mac,
                )
                for vf in pf.vfs
            ],
        )

    def write_tree(self, root: Path) -> None:
        """Make files and links of it."""
        for path, content in self._tree().items():
            file = root / path
            file.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, SymLink):
                to = root / content.to
                if not file.is_symlink():
                    file.symlink_to(os.path.relpath(to, file.parent))
            elif content is not _FOLDER:
                file.write_text(content + "\n")
            else:
                file.mkdir(exist_ok=True)

    # How it is kept.

    def _vf(self, address: str) -> VF:
        for pf in self.pfs.values():
            for vf in pf.vfs:
                if vf.address == address:
                    return vf
        raise error(errno.ENODEV)

    def _pf_of(self, vf: VF) -> PF:
        return next(pf for pf in self.pfs.values() if vf in pf.vfs)

    def touch(self) -> None:
        """Somebody has changed what it is made of."""
        self._files = None

    def _point(self) -> None:
        self._points += 1
        if self.killed_after is not None and self._points >= self.killed_after:
            raise Killed

    def _writing(self, what: str) -> "_Writing":
        return _Writing(self, what)

    def began(self, what: str) -> None:
        self.before_write(len(self.attempts))
        self.attempts.append(what)
        for at, (begins, times, number) in enumerate(self.failures):
            if times and begins in what:
                self.failures[at] = (begins, times - 1, number)
                raise error(number)

    def ended(self, what: str) -> None:
        self.journal.append(what)
        self.touch()
        self.after_write()
        self._point()

    def _file(self, path: str) -> str:
        found = self._tree().get(path)
        if found is None or isinstance(found, SymLink):
            raise error(errno.ENOENT)
        return found

    def _tree(self) -> dict[str, str | SymLink]:
        if self._files is None:
            self._files = dict(self._all_files())
            self._children = {}
            for path in self._files:
                while path:
                    folder, _, name = path.rpartition("/")
                    self._children.setdefault(folder, set()).add(name)
                    path = folder
        return self._files

    def _all_files(self) -> Iterator[tuple[str, str | SymLink]]:
        yield "kernel/iommu_groups", _FOLDER
        yield (
            "module/vfio/parameters/enable_unsafe_noiommu_mode",
            "Y" if self.noiommu else "N",
        )
        for module in self.modules:
            yield f"bus/pci/drivers/{module}/unbind", ""
        yield "bus/pci/drivers_probe", ""
        for group, others in self.strangers.items():
            for address, driver in others:
                at = f"{DEVICES}/{address}"
                yield f"{at}/class", "0x020000"
                yield from _driver_link(at, driver)
                yield f"kernel/iommu_groups/{group}/devices/{address}", SymLink(at)
        for pf in self.pfs.values():
            yield from self._pf_files(pf)

    def _pf_files(self, pf: PF) -> Iterator[tuple[str, str | SymLink]]:
        at = f"{DEVICES}/{pf.address}"
        yield f"{at}/vendor", f"0x{pf.driver.vendor}"
        yield f"{at}/device", f"0x{pf.driver.device}"
        yield f"{at}/class", "0x020000"
        yield f"{at}/numa_node", "0"
        for name, text in (
            ("sriov_totalvfs", str(pf.total)),
            ("sriov_numvfs", str(len(pf.vfs))),
            ("sriov_drivers_autoprobe", str(int(pf.autoprobe))),
        ):
            if name not in pf.missing:
                yield f"{at}/{name}", text
        if self.iommu:
            yield f"kernel/iommu_groups/{pf.netdev.index}/devices/{pf.address}", SymLink(at)
        if pf.loaded:
            yield from _driver_link(at, pf.driver.name)
            yield f"{at}/net/{pf.netdev.name}/mtu", str(pf.netdev.mtu)
        for vf in pf.vfs:
            of = f"{DEVICES}/{vf.address}"
            yield f"{of}/vendor", f"0x{pf.driver.vendor}"
            yield f"{of}/class", "0x020000"
            yield f"{of}/numa_node", "0"
            if vf.index < len(pf.vfs) - pf.hidden_links:
                yield f"{at}/virtfn{vf.index}", SymLink(of)
            if self._time >= pf.made_at + pf.links_after:
                yield f"{of}/physfn", SymLink(at)
            if "driver_override" not in pf.missing:
                yield f"{of}/driver_override", vf.override or "(null)"
            if self.iommu:
                group = f"kernel/iommu_groups/{vf.group}"
                yield f"{of}/iommu_group", SymLink(group)
                yield f"{group}/devices/{vf.address}", SymLink(of)
            if vf.driver:
                yield from _driver_link(of, vf.driver)
            if vf.netdev is not None:
                yield f"{of}/net/{vf.netdev.name}/mtu", str(vf.netdev.mtu)


class _Writing:
    def __init__(self, kernel: Kernel, what: str) -> None:
        self._kernel = kernel
        self._what = what

    def __enter__(self) -> None:
        self._kernel.began(self._what)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._kernel.ended(self._what)


def error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def make_pf(driver: Driver, slot: int = 0, **more: object) -> PF:
    """A PF that is up and has a link."""
    netdev = Netdev(f"eth{slot}", 2 + slot, f"00:1b:21:00:00:{slot:02x}", up=True)
    address = f"0000:{1 + slot:02x}:00.0"
    return PF(address, driver, netdev, **more)  # type: ignore[arg-type]


def given_away(vf: VF) -> bool:
    return vf.driver in NOT_NETWORK_DRIVERS


def _driver_link(at: str, driver: str) -> Iterator[tuple[str, SymLink]]:
    yield f"{at}/driver", SymLink(f"bus/pci/drivers/{driver}")
