# SPDX-License-Identifier: Apache-2.0
"""Does what `plan` says, step by step, until a PF is as wanted or a condition says why not."""

import errno
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from headrace_api.device_policy import VfDriver, VfLinkState
from headrace_dataplane.node.netlink import Netlink
from headrace_dataplane.node.pci import DEVICES, DRIVERS
from headrace_dataplane.node.sriov.desired import Desired
from headrace_dataplane.node.sriov.observed import (
    ObservedPF,
    Sysfs,
    observe,
)
from headrace_dataplane.node.sriov.plan import plan
from headrace_dataplane.node.sriov.steps import (
    Condition,
    Done,
    History,
    Limits,
    Probe,
    Reason,
    SetAutoprobe,
    SetMTU,
    SetNumVFs,
    SetOverride,
    SetUp,
    SetVF,
    SetVFLinkState,
    SetVFMAC,
    SetVFRates,
    SetVFSpoofCheck,
    SetVFTrust,
    SetVFVLAN,
    Step,
    Unbind,
    Wait,
    describe,
)
from headrace_dataplane.node.traffic import NodeAddresses
from headrace_dataplane.node.users import Users

log = logging.getLogger(__name__)

# Whoever holds it lets go, or it goes away or comes back: looking again shows which.
_BUSY = frozenset({errno.EBUSY, errno.EAGAIN, errno.EINTR})
_VANISHED = frozenset({errno.ENODEV, errno.ENOENT, errno.ENXIO})
_REFUSALS = frozenset({errno.EINVAL, errno.ERANGE, errno.EPROTONOSUPPORT, errno.ENOSPC})
_LINK_STATES = {VfLinkState.AUTO: 0, VfLinkState.ENABLE: 1, VfLinkState.DISABLE: 2}


class Clock(Protocol):
    """Time, in seconds."""

    def now(self) -> float:
        """Return the time since some moment."""

    def sleep(self, seconds: float) -> None:
        """Return later. May raise, to have it all end."""


class SystemClock:
    """The machine's."""

    def now(self) -> float:
        """Return the time since the machine's start."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Return later."""
        time.sleep(seconds)


@dataclass(frozen=True)
class Patience:
    """How long it goes on, in seconds."""

    first_pause: float = 0.1
    """Each next one of the same kind is twice as long,"""
    longest_pause: float = 2.0
    """up to this."""
    busy: float = 30.0
    """How long a step is tried for which the device is busy."""
    vanished: float = 5.0
    """Or for which something has just gone away."""
    whole: float = 900.0
    """For one PF, from the first look to the last."""
    steps: int = 200
    steps_for_each_vf: int = 60


Before = Callable[[Desired, ObservedPF | None, Step | Wait], None]


class Reconciler:
    """Brings PFs to what is wanted of them, one after the other."""

    def __init__(
        self,
        sysfs: Sysfs,
        netlink: Netlink,
        users: Users,
        clock: Clock | None = None,
        limits: Limits | None = None,
        patience: Patience | None = None,
        node: NodeAddresses | None = None,
        before: Before = lambda _desired, _pf, _decision: None,
    ) -> None:
        """`before` is called before anything is done or waited for; an OSError keeps it back."""
        self._sysfs = sysfs
        self._netlink = netlink
        self._users = users
        self._clock = clock or SystemClock()
        self._limits = limits or Limits()
        self._patience = patience or Patience()
        self._node = node or NodeAddresses()
        self._before = before
        # Drivers of several ports of one NIC share what does not bear two changes at a time.
        self._one_at_a_time = threading.Lock()

    def reconcile_all(self, desired: Iterable[Desired]) -> dict[str, Done | Condition]:
        """Bring PFs to what is wanted of them; what came of each, by its address."""
        return {each.address: self.reconcile(each) for each in desired}

    def reconcile(self, desired: Desired) -> Done | Condition:
        """Bring a PF to what is wanted of it. Always comes back."""
        with self._one_at_a_time:
            return self._reconcile(desired)

    def observe(self, address: str) -> ObservedPF | None:
        """Return what there is of a PF. Raises OSError."""
        return observe(self._sysfs, self._netlink, address, self._users, self._node)

    def _reconcile(self, desired: Desired) -> Done | Condition:
        patience, began = self._patience, self._clock.now()
        history = History()
        pauses = 0
        # When each failing step failed first, and how.
        failing: dict[Step, float] = {}
        for _ in range(patience.steps + patience.steps_for_each_vf * desired.num_vfs):
            if self._clock.now() - began >= patience.whole:
                break
            try:
                observed = self.observe(desired.address)
            except OSError as error:
                return _unobserved(desired, error)
            decision = plan(desired, observed, history, self._limits)
            if isinstance(decision, Done | Condition):
                return decision
            try:
                self._before(desired, observed, decision)
            except OSError as error:
                return Condition(
                    Reason.STATE_NOT_KEPT,
                    f"PF {desired.address}: what it was found as cannot be kept "
                    f"({error.filename}: {_text(error)}), so nothing is changed: make room, or the "
                    "folder writable",
                    passes=True,
                )
            if isinstance(decision, Wait):
                seconds = self._pause(pauses)
                pauses += 1
                self._clock.sleep(seconds)
                history = history.later(decision, seconds)
                continue
            if observed is None:
                raise AssertionError("there is nothing to do to what is not there")
            log.info("PF %s: %s", desired.address, describe(decision))
            try:
                self._do(decision, observed)
            except TimeoutError as error:
                return explain(decision, error, observed)
            except OSError as error:
                since = failing.setdefault(decision, self._clock.now())
                if self._clock.now() - since < _patience_for(error, patience):
                    self._clock.sleep(self._pause(pauses))
                    pauses += 1
                else:
                    condition = explain(decision, error, observed)
                    log.warning("%s", condition.message)
                    history = history.without(decision, condition)
                continue
            failing.pop(decision, None)
            pauses = 0
            history = history.after(decision)
        return Condition(
            Reason.GAVE_UP,
            f"PF {desired.address}: not as it is wanted after {len(history.done)} kinds of steps "
            f"and {self._clock.now() - began:.0f} s; it is tried again later, and dmesg may say "
            "what keeps changing",
            passes=True,
        )

    def _pause(self, pauses: int) -> float:
        return float(
            min(self._patience.first_pause * 2 ** min(pauses, 16), self._patience.longest_pause)
        )

    def _do(self, step: Step, pf: ObservedPF) -> None:
        match step:
            case SetMTU(name, mtu):
                self._netlink.set_link(_index(name, pf), mtu=mtu)
            case SetUp(name, up):
                self._netlink.set_link(_index(name, pf), up=up)
            case SetNumVFs(address, count):
                self._sysfs.write(f"{DEVICES}/{address}/sriov_numvfs", str(count))
            case SetAutoprobe(address, on):
                path = f"{DEVICES}/{address}/sriov_drivers_autoprobe"
                self._sysfs.write(path, str(int(on)))
            case SetOverride(address, driver):
                # Only a line takes it away: the kernel sees no write of nothing.
                self._sysfs.write(f"{DEVICES}/{address}/driver_override", f"{driver}\n")
            case Unbind(address, driver):
                self._sysfs.write(f"{DRIVERS}/{driver}/unbind", address)
            case Probe(address, _):
                self._sysfs.write("bus/pci/drivers_probe", address)
            case _:
                if pf.netdev is None:
                    raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
                self._netlink.set_vf(pf.netdev.index, step.index, vf_request(step))


def vf_request(step: SetVF) -> Mapping[str, object]:
    """Return a step in the words of pyroute2's request for a VF."""
    match step:
        case SetVFMAC(_, mac):
            return {"mac": mac}
        case SetVFVLAN(_, vlan):
            return {"vlan": vlan}
        case SetVFSpoofCheck(_, on):
            return {"spoofchk": int(on)}
        case SetVFTrust(_, on):
            return {"trust": int(on)}
        case SetVFRates(_, lowest, highest):
            return {"rate": {"min_tx_rate": lowest, "max_tx_rate": highest}}
        case SetVFLinkState(_, state):
            return {"link_state": _LINK_STATES[state]}


def explain(step: Step, error: OSError, pf: ObservedPF) -> Condition:
    """Return what a step's failure means, and what to do about it."""
    what = f"PF {pf.address}: {describe(step)} failed ({_text(error)})"
    if isinstance(error, TimeoutError):
        return Condition(
            Reason.KERNEL_WAITS,
            f"{what}: a process has a VF open that it does not let go: stop it (fuser -v "
            "/dev/vfio/*), and the change goes on by itself",
            passes=True,
        )
    number = error.errno
    if number == errno.EROFS:
        return Condition(
            Reason.READ_ONLY_SYSFS,
            f"{what}: /sys is read-only here: mount the node's /sys into this container without "
            "readOnly (hostPath /sys), or mount -o remount,rw /sys",
        )
    if number == errno.EACCES:
        return _denied(what)
    if number in _BUSY:
        return Condition(
            Reason.DEVICE_BUSY,
            f"{what}: the device stayed busy: its firmware or another program works on it (dmesg "
            "may say which); it is tried again later",
            passes=True,
        )
    match step:
        case SetNumVFs():
            return _num_vfs_failed(step, number, what, pf)
        case SetMTU(name, mtu):
            if number in (errno.EINVAL, errno.ERANGE):
                return Condition(
                    Reason.MTU_REFUSED,
                    f"{what}: ip -d link show dev {name} tells the largest (maxmtu); ask for no "
                    f"more than that instead of {mtu}",
                )
        case Probe(address, driver):
            if number in (errno.EINVAL, errno.EIO, errno.ENOMEM):
                more = "" if driver is VfDriver.KERNEL else f" (IOMMU group of {address})"
                return Condition(
                    Reason.BIND_FAILED, f"{what}{more}: dmesg says why the driver gave up"
                )
        case SetVFMAC() | SetVFVLAN() | SetVFSpoofCheck() | SetVFTrust() | SetVFLinkState():
            return _setting_failed(number, what, pf)
        case SetVFRates():
            if number == errno.EINVAL and pf.netdev is not None and not pf.netdev.carrier:
                return Condition(
                    Reason.NO_CARRIER,
                    f"{what}: rates are set only while the port has a link: see its cable and the "
                    "port of the switch",
                    passes=True,
                )
            return _setting_failed(number, what, pf)
        case _:
            pass
    if number == errno.EPERM:
        return _denied(what)
    if number in _VANISHED:
        return Condition(
            Reason.MISSING_ATTRIBUTE,
            f"{what}: it is not there: the device or its driver has gone meanwhile, or the kernel "
            "is without CONFIG_PCI_IOV",
            passes=True,
        )
    return Condition(Reason.FAILED, f"{what}: dmesg may say why", passes=True)


def _num_vfs_failed(step: SetNumVFs, number: int | None, what: str, pf: ObservedPF) -> Condition:
    if number == errno.ERANGE:
        return Condition(
            Reason.NUM_VFS_ABOVE_TOTAL, f"{what}: the NIC has {pf.total_vfs} VFs: ask for no more"
        )
    if number == errno.ENOENT:
        return Condition(
            Reason.DRIVER_WITHOUT_SRIOV,
            f"{what}: the driver {pf.driver} makes no VFs: use the kernel's own, or a newer one",
        )
    if number == errno.ENOMEM:
        return Condition(
            Reason.NOT_ENOUGH_MMIO,
            f"{what}: the firmware left too little address space for VFs: boot with pci=realloc, "
            "or enable SR-IOV and addresses above 4 GiB in the firmware's set-up",
        )
    if number in (errno.EPERM, errno.EINVAL, errno.EOPNOTSUPP):
        why = (
            f"{pf.driver} makes fewer than sriov_totalvfs ({pf.total_vfs}) says (a few less where "
            "the PF has traffic classes, XDP or macvlans of its own; none without its DDP package)"
            if step.count
            else "VFs are given to virtual machines: stop those"
        )
        return Condition(Reason.NUM_VFS_REFUSED, f"{what}: {why}; dmesg says which")
    return Condition(Reason.FAILED, f"{what}: dmesg may say why", passes=True)


def _setting_failed(number: int | None, what: str, pf: ObservedPF) -> Condition:
    if number == errno.EOPNOTSUPP:
        mode = f" in mode {pf.eswitch}" if pf.eswitch == "switchdev" else ""
        return Condition(
            Reason.SETTING_UNSUPPORTED,
            f"{what}: {pf.driver} cannot{mode}: leave it out of the policy",
        )
    if number == errno.EPERM:
        return _denied(what)
    if number not in _REFUSALS:
        return Condition(Reason.FAILED, f"{what}: dmesg may say why", passes=True)
    return Condition(
        Reason.SETTING_REFUSED,
        f"{what}: {pf.driver} refuses this value: choose another, or leave it out of the policy",
    )


def _denied(what: str) -> Condition:
    return Condition(
        Reason.PERMISSION_DENIED,
        f"{what}: run as user 0 with the capabilities NET_ADMIN and SYS_ADMIN, and without a "
        "profile (AppArmor, SELinux) that keeps /sys from being written",
    )


def _unobserved(desired: Desired, error: OSError) -> Condition:
    if isinstance(error, TimeoutError):
        return Condition(
            Reason.KERNEL_WAITS,
            f"PF {desired.address}: {error}: a process has a VF open that it does not let go: "
            "stop it (fuser -v /dev/vfio/*), and the change goes on by itself",
            passes=True,
        )
    return Condition(
        Reason.FAILED, f"PF {desired.address} cannot be read: {_text(error)}", passes=True
    )


def _patience_for(error: OSError, patience: Patience) -> float:
    if error.errno in _BUSY:
        return patience.busy
    return patience.vanished if error.errno in _VANISHED else 0.0


def _index(name: str, pf: ObservedPF) -> int:
    """Return the index of a device that was just seen under a name."""
    for netdev in (pf.netdev, *(vf.netdev for vf in pf.vfs)):
        if netdev is not None and netdev.name == name:
            return netdev.index
    raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))


def _text(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else str(error)
