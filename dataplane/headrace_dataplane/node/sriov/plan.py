# SPDX-License-Identifier: Apache-2.0
"""The next step from what there is of a PF to what is wanted. Nothing here touches the node.

The order is the one that all drivers bear: the PF's MTU, up, no VFs before another number of them,
their links, the port's carrier, what the PF says of each VF, and only then each VF's driver and
MTU, for a driver takes address and rights once, when it binds. It is decided anew from what is
there before each step: who is stopped after any of them goes on as if nothing had been.
"""

from collections.abc import Callable, Iterable

from headrace_api.device_policy import VfDriver
from headrace_dataplane.node.drivers import BIFURCATED_DRIVERS
from headrace_dataplane.node.netlink import VFState
from headrace_dataplane.node.sriov.desired import NO_MAC, VF, Desired
from headrace_dataplane.node.sriov.observed import (
    NOT_NETWORK_DRIVERS,
    Netdev,
    ObservedPF,
    ObservedVF,
)
from headrace_dataplane.node.sriov.steps import (
    Awaited,
    Condition,
    Decision,
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
    SetVFLinkState,
    SetVFMAC,
    SetVFRates,
    SetVFSpoofCheck,
    SetVFTrust,
    SetVFVLAN,
    Step,
    Unbind,
    Wait,
    Waiting,
    describe,
)
from headrace_dataplane.node.users import processes

_UNBIND_FIRST = frozenset({"mlx5_core"})
"""They wait for each VF's driver to give back its memory when VFs go away."""

_REPEATS = 3


def plan(
    desired: Desired | None,
    observed: ObservedPF | None,
    history: History | None = None,
    limits: Limits | None = None,
) -> Decision:
    """Return what to do next. A PF of which nothing is desired is left alone."""
    if desired is None:
        return Done()
    planner = _Planner(desired, history or History(), limits or Limits())
    if observed is None:
        return planner.wait_or(
            Waiting(Awaited.PF, desired.address),
            Condition(
                Reason.PF_MISSING,
                f"there is no PCI device {desired.address}: select the NIC by its name or MAC "
                "address, which stay when slots are numbered anew (lspci -D shows what there is)",
                passes=True,
            ),
        )
    return planner.plan(observed)


def as_wanted(desired: Desired, pf: ObservedPF) -> frozenset[int]:
    """Return the numbers of the VFs that are as somebody wants them."""
    # What cannot be read back is believed.
    believed: dict[Step, int] = {}
    wanted = {vf.index: desired.wanted(vf.index, vf.address) for vf in pf.vfs}
    for index, want in wanted.items():
        believed[SetVFSpoofCheck(index, bool(want.spoof_check))] = 1
        believed[SetVFTrust(index, bool(want.trust))] = 1
    planner = _Planner(desired, History(believed), Limits())
    return frozenset(
        vf.index
        for vf in pf.vfs
        if vf.index < desired.num_vfs and vf.physfn == pf.address
        if desired.vfs[vf.index] != VF()
        if planner.vf(pf, vf, wanted[vf.index]) is None
    )


class _Planner:
    def __init__(self, desired: Desired, history: History, limits: Limits) -> None:
        self._desired = desired
        self._history = history
        self._limits = limits

    def plan(self, pf: ObservedPF) -> Decision:
        stages: tuple[Callable[[ObservedPF], Decision | None], ...] = (
            self._refusal,
            self._ready,
            self._count,
            self._vfs,
            self._afterwards,
        )
        for stage in stages:
            decision = stage(pf)
            if decision is not None:
                return decision
        return Done(self._notes(pf))

    # What each stage is made of.

    def step(self, step: Step) -> Step | Condition:
        """Return a step, or why it is not done once more."""
        failure = self._history.failed.get(step)
        if failure is not None:
            return failure
        if self._history.done.get(step, 0) >= _REPEATS:
            return Condition(
                Reason.NOT_KEPT,
                f"PF {self._desired.address}: {describe(step)} was done {_REPEATS} times, and each "
                "time it was not so afterwards: something else on the node changes it, or the "
                "driver cannot (dmesg may say)",
            )
        return step

    def wait_or(self, waiting: Waiting, otherwise: Condition) -> Wait | Condition:
        """Wait, and when that was long enough tell why."""
        return Wait((waiting,)) if self._waits(waiting) else otherwise

    def _waits(self, waiting: Waiting) -> bool:
        return self._history.waited.get(waiting, 0.0) < self._limits.of(waiting.awaited)

    def _did(self, step: Step) -> int:
        return self._history.done.get(step, 0)

    # Before anything is written.

    def _refusal(self, pf: ObservedPF) -> Decision | None:
        want, at = self._desired, f"PF {pf.address}"
        if pf.uplink and not want.externally_managed:
            return Condition(
                Reason.NODE_UPLINK,
                f"{at} is the node's own uplink ({pf.uplink}), and is not touched: select another "
                "PF, or make its VFs yourself and say externallyManaged",
            )
        if not pf.driver:
            return self.wait_or(
                Waiting(Awaited.PF_DRIVER, pf.address),
                Condition(
                    Reason.PF_DRIVER_MISSING,
                    f"{at} has no driver: load it (modprobe), then echo {pf.address} > "
                    "/sys/bus/pci/drivers_probe",
                    passes=True,
                ),
            )
        if pf.driver in NOT_NETWORK_DRIVERS:
            return Condition(
                Reason.PF_GIVEN_AWAY,
                f"{at} is bound to {pf.driver}, which makes no VFs: give it back to the kernel "
                f"(driverctl unset-override {pf.address}), or select its VFs' PF only",
            )
        if pf.total_vfs is None or pf.total_vfs == 0:
            return Condition(Reason.NO_SRIOV, f"{at} ({pf.driver}) can have no VFs: {_enable(pf)}")
        if pf.num_vfs is None:
            return Condition(
                Reason.MISSING_ATTRIBUTE,
                f"{at} has no attribute sriov_numvfs: the kernel needs CONFIG_PCI_IOV",
            )
        if want.num_vfs > pf.total_vfs:
            return Condition(
                Reason.NUM_VFS_ABOVE_TOTAL,
                f"{at} can have {pf.total_vfs} VFs, not {want.num_vfs}: ask for no more, or "
                f"{_enable(pf)}",
            )
        return self._vfio_refusal(pf) if self._wants_vfio() else None

    def _wants_vfio(self) -> bool:
        return any(vf.driver is VfDriver.VFIO for vf in self._desired.vfs)

    def _vfio_refusal(self, pf: ObservedPF) -> Condition | None:
        at = f"PF {pf.address}"
        if pf.driver in BIFURCATED_DRIVERS:
            return Condition(
                Reason.BIFURCATED_DRIVER,
                f"{at}: VFs of {pf.driver} stay with the kernel's driver, and DPDK uses them "
                "through it: say driver: Kernel",
            )
        if not pf.vfio_pci:
            return Condition(
                Reason.DRIVER_NOT_LOADED,
                f"{at}: the driver vfio-pci is not loaded: modprobe vfio-pci, and for the next "
                "start: echo vfio-pci > /etc/modules-load.d/vfio-pci.conf",
                passes=True,
            )
        if not pf.iommu and not pf.noiommu:
            return Condition(
                Reason.IOMMU_OFF,
                f"{at}: no IOMMU is on, which vfio-pci needs: enable VT-d or AMD-Vi in the "
                "firmware and boot with intel_iommu=on iommu=pt (AMD: iommu=pt); in a VM without "
                "one, unsafe: echo 1 > /sys/module/vfio/parameters/enable_unsafe_noiommu_mode",
            )
        return None

    # The PF itself.

    def _ready(self, pf: ObservedPF) -> Decision | None:
        want, netdev = self._desired, pf.netdev
        if netdev is None:
            return self.wait_or(
                Waiting(Awaited.PF_NETDEV, pf.address),
                Condition(
                    Reason.PF_NETDEV_MISSING,
                    f"PF {pf.address} ({pf.driver}) shows no network device: it is in another "
                    "network namespace, or its driver has failed (dmesg may say)",
                    passes=True,
                ),
            )
        if want.externally_managed:
            if want.mtu is not None and netdev.mtu < want.mtu and any(vf.mtu for vf in want.vfs):
                return Condition(
                    Reason.MTU_TOO_SMALL,
                    f"PF {pf.address} has an MTU of {netdev.mtu}, is externally managed, and its "
                    f"VFs are to have {want.mtu}: ip link set {netdev.name} mtu {want.mtu}",
                    passes=True,
                )
            return None
        if want.mtu is not None and netdev.mtu < want.mtu:
            return self.step(SetMTU(netdev.name, want.mtu))
        changes = pf.num_vfs != want.num_vfs
        if not netdev.up and (changes or (want.up and want.num_vfs)):
            # bnxt makes none while it is down, and says that all went well.
            return self.step(SetUp(netdev.name, True))
        return None

    # How many VFs.

    def _count(self, pf: ObservedPF) -> Decision | None:
        want, count = self._desired, pf.num_vfs
        if count == want.num_vfs:
            return None
        if want.externally_managed:
            if count is not None and count > want.num_vfs:
                return None
            return Condition(
                Reason.VFS_NOT_MADE,
                f"PF {pf.address} has {count} VFs, is externally managed, and is to have "
                f"{want.num_vfs}: echo {want.num_vfs} > "
                f"/sys/bus/pci/devices/{pf.address}/sriov_numvfs",
                passes=True,
            )
        if count and self._did(SetNumVFs(pf.address, want.num_vfs)) and want.num_vfs:
            return Condition(
                Reason.FEWER_VFS,
                f"PF {pf.address}: {pf.driver} made {count} of {want.num_vfs} VFs: ask for no "
                "more, or leave it more of the NIC (fewer queues of the PF: ethtool -L)",
            )
        if not count:
            return self.step(SetNumVFs(pf.address, want.num_vfs))
        return self._vacate(pf) or self.step(SetNumVFs(pf.address, 0))

    def _vacate(self, pf: ObservedPF) -> Decision | None:
        """Return what is to be done before VFs can go away."""
        used = [f"VF {vf.index} ({vf.address}): {vf.user}" for vf in pf.vfs if vf.user]
        if used:
            return Condition(
                Reason.VFS_IN_USE,
                f"PF {pf.address} has {pf.num_vfs} VFs and is to have {self._desired.num_vfs}, "
                "which removes all of them first; it waits for who uses them: " + ", ".join(used),
                passes=True,
            )
        if len(pf.vfs) < (pf.num_vfs or 0):
            return self.wait_or(
                Waiting(Awaited.VF_LINKS, pf.address),
                Condition(
                    Reason.VF_LINKS_MISSING,
                    f"PF {pf.address} says that it has {pf.num_vfs} VFs, and {len(pf.vfs)} show: "
                    "who uses the others cannot be told, so they are left; if nobody does: echo 0 "
                    f"> /sys/bus/pci/devices/{pf.address}/sriov_numvfs",
                ),
            )
        hidden = [
            vf
            for vf in pf.vfs
            if vf.driver and vf.driver not in NOT_NETWORK_DRIVERS and vf.netdev is None
        ]
        waits = tuple(
            each
            for vf in hidden
            if self._waits(each := Waiting(Awaited.VF_NETDEV, vf.address, attempt=-1))
        )
        if waits:
            return Wait(waits)
        if hidden:
            names = ", ".join(f"VF {vf.index} ({vf.address}, {vf.driver})" for vf in hidden)
            vf = hidden[0]
            return Condition(
                Reason.VFS_IN_USE,
                f"PF {pf.address} is to have another number of VFs, but the network devices of "
                f"some are not here, perhaps in a container: {names}; if nobody uses them: "
                f"echo {vf.address} > /sys/bus/pci/drivers/{vf.driver}/unbind",
                passes=True,
            )
        if pf.driver in _UNBIND_FIRST:
            for vf in pf.vfs:
                if vf.driver:
                    return self.step(Unbind(vf.address, vf.driver))
        return None

    # Each VF.

    def _vfs(self, pf: ObservedPF) -> Decision | None:
        if not self._desired.num_vfs:
            return None
        there = [vf for vf in pf.vfs if vf.physfn == pf.address]
        if len(there) < (pf.num_vfs or 0):
            return self.wait_or(
                Waiting(Awaited.VF_LINKS, pf.address),
                Condition(
                    Reason.VF_LINKS_MISSING,
                    f"PF {pf.address} says that it has {pf.num_vfs} VFs, and {len(there)} show: "
                    "the kernel has not found the others (dmesg may say); boot with pci=realloc, "
                    "or ask for fewer",
                ),
            )
        decisions = [
            decision for vf in there if (decision := self.vf(pf, vf, self._wanted(vf))) is not None
        ]
        steps = [each for each in decisions if not isinstance(each, Wait | Condition | Done)]
        if steps or not decisions:
            wait = self._carrier(pf)
            if wait is not None:
                return wait
        if steps:
            return steps[0]
        waits = [each for each in decisions if isinstance(each, Wait)]
        if waits:
            return Wait(tuple(waiting for wait in waits for waiting in wait.waits))
        return _summary([each for each in decisions if isinstance(each, Condition)])

    def _wanted(self, vf: ObservedVF) -> VF:
        return self._desired.wanted(vf.index, vf.address)

    def _carrier(self, pf: ObservedPF) -> Wait | None:
        """Wait for the link, which drivers lose when they make VFs; without one go on later."""
        waiting = Waiting(Awaited.CARRIER, pf.address)
        linked = pf.netdev is None or pf.netdev.carrier or not pf.netdev.up
        return None if linked or not self._waits(waiting) else Wait((waiting,))

    def vf(self, pf: ObservedPF, vf: ObservedVF, want: VF) -> Decision | None:
        """Return what is to be done for a VF, None when it is as it is wanted."""
        if want == VF():
            return None
        if vf.state is None:
            return self.wait_or(
                Waiting(Awaited.VF_STATE, vf.address),
                Condition(
                    Reason.VF_NOT_READY,
                    f"{_name(pf, vf)}: {pf.driver} says nothing of it, as if it were still being "
                    f"reset: ip link show dev {_device(pf)}, and dmesg may say more",
                    passes=True,
                ),
            )
        if want.driver is VfDriver.VFIO:
            incomplete = self._incomplete_group(pf, vf)
            if incomplete is not None:
                return incomplete
        in_use = bool(vf.user) and not _serves_nobody(vf, want)
        told = not in_use or vf.address in self._desired.endpoints
        if want.mac not in (None, vf.state.mac) and told:
            return self.step(SetVFMAC(vf.index, str(want.mac)))
        setting = self._setting(pf, vf, vf.state, want)
        if setting is not None:
            return setting
        if in_use:
            return self._in_use(pf, vf, vf.state, want)
        if want.driver is VfDriver.VFIO:
            return self._to_vfio(pf, vf, vf.state, want)
        if want.driver is VfDriver.KERNEL:
            return self._to_kernel(pf, vf, want)
        return self._vf_mtu(vf, want)

    def _setting(self, pf: ObservedPF, vf: ObservedVF, state: VFState, want: VF) -> Decision | None:
        """Return what the PF is to be told of a VF, save its address."""
        if want.vlan is not None and state.vlan != want.vlan:
            opened = processes(vf.users)
            lent = vf.address in self._desired.functions
            if opened and lent and vf.address not in self._desired.endpoints:
                # Its frames are those of whose VLAN it is in.
                return Condition(
                    Reason.VFS_IN_USE,
                    f"{_name(pf, vf)} is used by {', '.join(opened)}, which VLAN {want.vlan} waits "
                    "for",
                    passes=True,
                )
            return self.step(SetVFVLAN(vf.index, want.vlan))
        if want.spoof_check is not None and state.spoof_check is not want.spoof_check:
            step = SetVFSpoofCheck(vf.index, want.spoof_check)
            # What cannot be read back is believed.
            if state.spoof_check is not None or not self._did(step):
                return self.step(step)
        # A driver that says nothing of trust mostly knows none.
        unknown = state.trust is None and vf.address in self._desired.endpoints
        if want.trust is not None and state.trust is not want.trust and not unknown:
            trust = SetVFTrust(vf.index, want.trust)
            if state.trust is not None or not self._did(trust):
                return self.step(trust)
        lowest = state.min_rate if want.min_rate is None else want.min_rate
        highest = state.max_rate if want.max_rate is None else want.max_rate
        if (lowest, highest) != (state.min_rate, state.max_rate):
            return self.step(SetVFRates(vf.index, lowest, highest))
        if want.link_state is not None and state.link_state is not want.link_state:
            return self.step(SetVFLinkState(vf.index, want.link_state))
        return None

    def _in_use(self, pf: ObservedPF, vf: ObservedVF, state: VFState, want: VF) -> Condition | None:
        """Return what has to wait until a VF is free."""
        waits = []
        if want.mac is not None and state.mac != want.mac:
            waits.append(f"MAC address {want.mac}")
        given = vf.driver in NOT_NETWORK_DRIVERS
        if want.driver is VfDriver.VFIO and vf.driver != VfDriver.VFIO:
            waits.append("driver vfio-pci")
        elif want.driver is VfDriver.KERNEL and (given or not vf.driver):
            waits.append("the kernel's driver")
        if want.mtu is not None and vf.netdev is not None and vf.netdev.mtu != want.mtu:
            waits.append(f"MTU {want.mtu}")
        if not waits:
            return None
        return Condition(
            Reason.VFS_IN_USE,
            f"{_name(pf, vf)} is used by {vf.user}, which {' and '.join(waits)} wait for",
            passes=True,
        )

    def _incomplete_group(self, pf: ObservedPF, vf: ObservedVF) -> Condition | None:
        keep = list(vf.strangers)
        for other in pf.vfs:
            same = vf.group and other.group == vf.group and other.address != vf.address
            stays = other.driver and other.driver not in NOT_NETWORK_DRIVERS
            if same and stays and self._wanted(other).driver is not VfDriver.VFIO:
                keep.append(f"{other.address} ({other.driver})")
        if not keep:
            return None
        return Condition(
            Reason.IOMMU_GROUP_INCOMPLETE,
            f"{_name(pf, vf)} shares IOMMU group {vf.group} with {', '.join(keep)}: vfio gives "
            "a group away whole, so bind these to vfio-pci, too (driverctl set-override "
            f"{keep[0].split()[0]} vfio-pci), or put the NIC in a slot of its own group",
        )

    def _to_vfio(self, pf: ObservedPF, vf: ObservedVF, state: VFState, want: VF) -> Decision | None:
        mac = want.mac
        by_kernel = bool(vf.driver) and vf.driver not in NOT_NETWORK_DRIVERS
        if mac is None and (by_kernel or state.mac == NO_MAC):
            # The address that its kernel driver has is made its own: else who opens it takes
            # another each time.
            decision = self._have_netdev(pf, vf, "give it a MAC address in the policy, or ")
            if decision is not None:
                return decision
            mac = vf.netdev.mac if vf.netdev is not None else None
        if by_kernel and mac is not None:
            # It may read so already and not last: of itself a VF's driver tells the PF its address,
            # which goes with it. Not so the one that the PF is told.
            step = SetVFMAC(vf.index, mac)
            if state.mac != mac or not self._did(step):
                return self.step(step)
        if vf.override != VfDriver.VFIO:
            # Before it is free, for another driver that is loaded meanwhile would take it.
            return self.step(SetOverride(vf.address, VfDriver.VFIO))
        if vf.driver == VfDriver.VFIO:
            return None
        if vf.driver:
            return self.step(Unbind(vf.address, vf.driver))
        return self._probe(pf, vf, VfDriver.VFIO)

    def _to_kernel(self, pf: ObservedPF, vf: ObservedVF, want: VF) -> Decision | None:
        if vf.override in NOT_NETWORK_DRIVERS:
            return self.step(SetOverride(vf.address, ""))
        decision = self._have_netdev(pf, vf, "")
        if decision is not None:
            return decision
        if vf.netdev is not None and want.mac not in (None, NO_MAC, vf.netdev.mac):
            return self._take_mac(pf, vf, vf.netdev)
        return self._vf_mtu(vf, want)

    def _take_mac(self, pf: ObservedPF, vf: ObservedVF, netdev: Netdev) -> Decision:
        """Have a kernel driver take the address that the PF gave: some only when they bind."""
        attempt = self._did(Unbind(vf.address, vf.driver))
        waiting = Waiting(Awaited.VF_MAC, vf.address, attempt)
        if self._waits(waiting):
            return Wait((waiting,))
        if attempt < _REPEATS - 1:
            return self.step(Unbind(vf.address, vf.driver))
        return Condition(
            Reason.MAC_NOT_TAKEN,
            f"{_name(pf, vf)} was given a MAC address, and {netdev.name} keeps {netdev.mac}: "
            "something else on the node sets it (NetworkManager, networkd, udev): have it leave "
            f"devices of driver {vf.driver} alone",
        )

    def _have_netdev(self, pf: ObservedPF, vf: ObservedVF, or_else: str) -> Decision | None:
        """Return what is missing until a VF has its network device."""
        given_away = vf.driver in NOT_NETWORK_DRIVERS
        if vf.override in NOT_NETWORK_DRIVERS and (given_away or not vf.driver):
            return self.step(SetOverride(vf.address, ""))
        if given_away:
            return self.step(Unbind(vf.address, vf.driver))
        if not vf.driver:
            if pf.autoprobe is False and not self._desired.externally_managed:
                return self.step(SetAutoprobe(pf.address, True))
            return self._probe(pf, vf, VfDriver.KERNEL, or_else)
        if vf.netdev is not None:
            return None
        unbind = Unbind(vf.address, vf.driver)
        attempt = self._did(unbind)
        waiting = Waiting(Awaited.VF_NETDEV, vf.address, attempt)
        if self._waits(waiting):
            return Wait((waiting,))
        if attempt == 0:
            return self.step(unbind)
        return Condition(
            Reason.VF_NETDEV_MISSING,
            f"{_name(pf, vf)}: {vf.driver} has it and shows no network device, also bound anew: "
            f"{or_else}see dmesg, and whether the port is up (ip link set {_device(pf)} up)",
            passes=True,
        )

    def _probe(
        self, pf: ObservedPF, vf: ObservedVF, driver: VfDriver, or_else: str = ""
    ) -> Decision:
        step = Probe(vf.address, driver)
        unbound = sum(
            times
            for each, times in self._history.done.items()
            if isinstance(each, Unbind)
            and each.address == vf.address
            and (each.driver in NOT_NETWORK_DRIVERS) == (driver is VfDriver.VFIO)
        )
        tries = self._did(step) - unbound
        if tries > 0:
            waiting = Waiting(Awaited.VF_DRIVER, vf.address, tries)
            if self._waits(waiting):
                return Wait((waiting,))
        if self._did(step) < _REPEATS:
            return self.step(step)
        if driver is VfDriver.VFIO:
            return Condition(
                Reason.BIND_FAILED,
                f"{_name(pf, vf)}: vfio-pci does not take it: dmesg says why (without interrupt "
                "remapping: enable it in the firmware, or echo 1 > "
                "/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts)",
            )
        return Condition(
            Reason.VF_DRIVER_MISSING,
            f"{_name(pf, vf)}: no driver of the kernel takes it: {or_else}load its driver "
            "(modprobe igbvf, ixgbevf, iavf or bnxt_en, see modprobe -c for a blacklist)",
            passes=True,
        )

    def _vf_mtu(self, vf: ObservedVF, want: VF) -> Decision | None:
        if want.mtu is None or vf.netdev is None or vf.netdev.mtu == want.mtu:
            return None
        return self.step(SetMTU(vf.netdev.name, want.mtu))

    # To put back what was found.

    def _afterwards(self, pf: ObservedPF) -> Decision | None:
        want, netdev = self._desired, pf.netdev
        if want.externally_managed or netdev is None:
            return None
        if want.exact_mtu and want.mtu is not None and netdev.mtu != want.mtu:
            return self.step(SetMTU(netdev.name, want.mtu))
        if want.autoprobe is not None and pf.autoprobe not in (None, want.autoprobe):
            return self.step(SetAutoprobe(pf.address, want.autoprobe))
        if want.up is False and netdev.up:
            return self.step(SetUp(netdev.name, False))
        return None

    def _notes(self, pf: ObservedPF) -> tuple[Condition, ...]:
        notes = []
        netdev = pf.netdev
        if self._desired.num_vfs and netdev is not None and netdev.up and not netdev.carrier:
            notes.append(
                Condition(
                    Reason.NO_CARRIER,
                    f"PF {pf.address} ({netdev.name}) has no link: see the cable and the port of "
                    "the switch",
                    passes=True,
                )
            )
        if self._wants_vfio() and not pf.iommu:
            notes.append(
                Condition(
                    Reason.IOMMU_OFF,
                    f"PF {pf.address}: VFs are given away without an IOMMU: whoever has one can "
                    "read and write all of the node's memory",
                )
            )
        return tuple(notes)


def _summary(conditions: Iterable[Condition]) -> Condition | None:
    """Return the conditions of several VFs as one."""
    each = list(dict.fromkeys(conditions))
    if not each:
        return None
    # What needs a hand comes before what may pass.
    first = next((one for one in each if not one.passes), each[0])
    messages = [one.message for one in each if one.reason is first.reason]
    more = len(each) - len(messages[:_REPEATS])
    text = "; ".join(messages[:_REPEATS]) + (f"; and {more} more of its VFs" if more else "")
    return Condition(first.reason, text, first.passes)


def _serves_nobody(vf: ObservedVF, want: VF) -> bool:
    """Whether who was given a VF can do nothing with it as it is, and waits for it, too.

    So it is without a driver, and with one of the kernel's, where vfio-pci is wanted: VFs that are
    made anew have that. But somebody may have its network device, up or in a container.
    """
    if not vf.driver:
        return True
    return (
        want.driver is VfDriver.VFIO
        and vf.driver not in NOT_NETWORK_DRIVERS
        and vf.netdev is not None
        and not vf.netdev.up
        and not processes(vf.users)
    )


def _name(pf: ObservedPF, vf: ObservedVF) -> str:
    return f"VF {vf.index} ({vf.address}) of PF {pf.address}"


def _device(pf: ObservedPF) -> str:
    return pf.address if pf.netdev is None else pf.netdev.name


def _enable(pf: ObservedPF) -> str:
    """Return how a NIC is made to have VFs."""
    if pf.driver == "mlx5_core":
        return (
            f"mlxconfig -d {pf.address} set SRIOV_EN=1 NUM_OF_VFS=N, then mlxfwreset -d "
            f"{pf.address} reset"
        )
    return "enable SR-IOV for the NIC in the firmware's set-up (and its number of VFs there)"
