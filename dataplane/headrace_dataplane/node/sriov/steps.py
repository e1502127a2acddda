# SPDX-License-Identifier: Apache-2.0
"""What may be done for a PF, what is waited for, and why it does not go on: the planner's words."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from headrace_api.device_policy import VfDriver, VfLinkState


@dataclass(frozen=True)
class SetMTU:
    """Set the MTU of a network device."""

    name: str
    mtu: int


@dataclass(frozen=True)
class SetUp:
    """Bring a network device up, or down."""

    name: str
    up: bool


@dataclass(frozen=True)
class SetNumVFs:
    """Make VFs, or remove all of them."""

    address: str
    count: int


@dataclass(frozen=True)
class SetAutoprobe:
    """Have drivers bind to new VFs by themselves, or not."""

    address: str
    on: bool


@dataclass(frozen=True)
class SetOverride:
    """Say which driver alone may bind a VF; "": any."""

    address: str
    driver: str


@dataclass(frozen=True)
class Unbind:
    """Take a VF from its driver."""

    address: str
    driver: str


@dataclass(frozen=True)
class Probe:
    """Have a driver bind a VF."""

    address: str
    driver: VfDriver


@dataclass(frozen=True)
class SetVFMAC:
    """Set a VF's administrative MAC address."""

    index: int
    mac: str


@dataclass(frozen=True)
class SetVFVLAN:
    """Set the VLAN that a VF is in without knowing; 0: none."""

    index: int
    vlan: int


@dataclass(frozen=True)
class SetVFSpoofCheck:
    """Have a VF's source addresses checked, or not."""

    index: int
    on: bool


@dataclass(frozen=True)
class SetVFTrust:
    """Let a VF ask for more than its own traffic, or not."""

    index: int
    on: bool


@dataclass(frozen=True)
class SetVFRates:
    """Set a VF's rates in Mbit/s; 0: none."""

    index: int
    lowest: int
    highest: int


@dataclass(frozen=True)
class SetVFLinkState:
    """Set what a VF sees of the port's link."""

    index: int
    state: VfLinkState


SetVF: TypeAlias = SetVFMAC | SetVFVLAN | SetVFSpoofCheck | SetVFTrust | SetVFRates | SetVFLinkState


Step: TypeAlias = SetMTU | SetUp | SetNumVFs | SetAutoprobe | SetOverride | Unbind | Probe | SetVF


class Awaited(StrEnum):
    """What the kernel does in its own time."""

    PF = "the PF"
    PF_DRIVER = "the PF's driver"
    PF_NETDEV = "the PF's network device"
    VF_LINKS = "the VFs"
    CARRIER = "the port's link"
    VF_STATE = "what the PF's driver says of a VF"
    VF_DRIVER = "a VF's driver"
    VF_NETDEV = "a VF's network device"
    VF_MAC = "a VF's new MAC address"


@dataclass(frozen=True)
class Waiting:
    """One thing that is waited for."""

    awaited: Awaited
    subject: str
    attempt: int = 0


@dataclass(frozen=True)
class Wait:
    """Look again a little later."""

    waits: tuple[Waiting, ...]


class Reason(StrEnum):
    """Why a PF is not as it is wanted."""

    PF_MISSING = "PFMissing"
    PF_DRIVER_MISSING = "PFDriverMissing"
    PF_GIVEN_AWAY = "PFGivenAway"
    PF_NETDEV_MISSING = "PFNetdevMissing"
    NO_SRIOV = "NoSRIOV"
    DRIVER_WITHOUT_SRIOV = "DriverWithoutSRIOV"
    MISSING_ATTRIBUTE = "MissingAttribute"
    NUM_VFS_ABOVE_TOTAL = "NumVFsAboveTotal"
    NUM_VFS_REFUSED = "NumVFsRefused"
    FEWER_VFS = "FewerVFs"
    NOT_ENOUGH_MMIO = "NotEnoughMMIO"
    NODE_UPLINK = "NodeUplink"
    VFS_IN_USE = "VFsInUse"
    VFS_NOT_MADE = "VFsNotMade"
    VF_LINKS_MISSING = "VFLinksMissing"
    VF_NOT_READY = "VFNotReady"
    VF_DRIVER_MISSING = "VFDriverMissing"
    VF_NETDEV_MISSING = "VFNetdevMissing"
    MAC_NOT_TAKEN = "MACNotTaken"
    MTU_TOO_SMALL = "MTUTooSmall"
    MTU_REFUSED = "MTURefused"
    NO_CARRIER = "NoCarrier"
    SETTING_UNSUPPORTED = "SettingUnsupported"
    SETTING_REFUSED = "SettingRefused"
    NOT_KEPT = "NotKept"
    BIFURCATED_DRIVER = "BifurcatedDriver"
    IOMMU_OFF = "IOMMUOff"
    IOMMU_GROUP_INCOMPLETE = "IOMMUGroupIncomplete"
    DRIVER_NOT_LOADED = "DriverNotLoaded"
    BIND_FAILED = "BindFailed"
    READ_ONLY_SYSFS = "ReadOnlySysfs"
    PERMISSION_DENIED = "PermissionDenied"
    DEVICE_BUSY = "DeviceBusy"
    KERNEL_WAITS = "KernelWaits"
    STATE_NOT_KEPT = "StateNotKept"
    FAILED = "Failed"
    GAVE_UP = "GaveUp"


@dataclass(frozen=True)
class Condition:
    """Why it does not go on, and what to do about it."""

    reason: Reason
    message: str
    passes: bool = False
    """Whether it may pass without a hand: try again later."""


@dataclass(frozen=True)
class Done:
    """All is as it is wanted."""

    notes: tuple[Condition, ...] = ()
    """What is worth knowing all the same."""


Decision: TypeAlias = Step | Wait | Done | Condition


@dataclass(frozen=True)
class Limits:
    """How long the kernel may take, in seconds."""

    pf: float = 30.0
    """For a PF, its driver and its network device: drivers are reloaded."""
    links: float = 120.0
    carrier: float = 30.0
    state: float = 15.0
    driver: float = 2.0
    netdev: float = 10.0
    """Then the VF's driver is bound anew, once, and as long again."""
    mac: float = 3.0
    """Then the VF's driver is bound anew: not all drivers are told."""

    def of(self, awaited: Awaited) -> float:
        """Return how long something may take."""
        return {
            Awaited.PF: self.pf,
            Awaited.PF_DRIVER: self.pf,
            Awaited.PF_NETDEV: self.pf,
            Awaited.VF_LINKS: self.links,
            Awaited.CARRIER: self.carrier,
            Awaited.VF_STATE: self.state,
            Awaited.VF_DRIVER: self.driver,
            Awaited.VF_NETDEV: self.netdev,
            Awaited.VF_MAC: self.mac,
        }[awaited]


@dataclass(frozen=True)
class History:
    """What was done since somebody last asked for this PF: it bounds what is tried again."""

    done: Mapping[Step, int] = field(default_factory=dict)
    waited: Mapping[Waiting, float] = field(default_factory=dict)
    failed: Mapping[Step, Condition] = field(default_factory=dict)

    def after(self, step: Step) -> "History":
        """Return it with one more step."""
        return History({**self.done, step: self.done.get(step, 0) + 1}, self.waited, self.failed)

    def later(self, wait: Wait, seconds: float) -> "History":
        """Return it with more time gone by."""
        more = {each: self.waited.get(each, 0.0) + seconds for each in wait.waits}
        return History(self.done, {**self.waited, **more}, self.failed)

    def without(self, step: Step, condition: Condition) -> "History":
        """Return it with a step that cannot be done."""
        return History(self.done, self.waited, {**self.failed, step: condition})


def describe(step: Step | Wait) -> str:
    """Say what is done, for people."""
    match step:
        case Wait(waits):
            return "waiting for " + ", ".join(dict.fromkeys(each.awaited for each in waits))
        case SetMTU(name, mtu):
            return f"setting the MTU of {name} to {mtu}"
        case SetUp(name, up):
            return f"bringing {name} {'up' if up else 'down'}"
        case SetNumVFs(_, count):
            return f"writing {count} to sriov_numvfs"
        case SetAutoprobe(_, on):
            return f"writing {int(on)} to sriov_drivers_autoprobe"
        case SetOverride(address, driver):
            return f"writing '{driver}' to driver_override of {address}"
        case Unbind(address, driver):
            return f"unbinding {address} from {driver}"
        case Probe(address, _):
            return f"writing {address} to drivers_probe"
        case SetVFMAC(index, mac):
            return f"setting the MAC address of VF {index} to {mac}"
        case SetVFVLAN(index, vlan):
            return f"setting the VLAN of VF {index} to {vlan}"
        case SetVFSpoofCheck(index, on):
            return f"setting the spoof check of VF {index} {'on' if on else 'off'}"
        case SetVFTrust(index, on):
            return f"setting trust of VF {index} {'on' if on else 'off'}"
        case SetVFRates(index, lowest, highest):
            return f"setting the rates of VF {index} to {lowest} to {highest} Mbit/s"
        case SetVFLinkState(index, state):
            return f"setting the link state of VF {index} to {state}"
