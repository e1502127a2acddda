# SPDX-License-Identifier: Apache-2.0
"""What is wanted of the node's PFs, and what comes of several policies' wishes."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from itertools import combinations

from headrace_api.device_policy import VfDriver, VfLinkState

NO_MAC = "00:00:00:00:00:00"
"""As an administrative MAC address: none, the VF takes its own."""

_MAX_VLAN = 4094
_MIN_MTU = 68
_MAX_MTU = 9600
_MULTICAST = 1 << 40
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")


@dataclass(frozen=True)
class VF:
    """What is wanted of one VF. None: whatever it has."""

    driver: VfDriver | None = None
    mtu: int | None = None
    """Of its network device, where it has one."""
    mac: str | None = None
    """The administrative one; NO_MAC takes it away."""
    vlan: int | None = None
    """0: none."""
    spoof_check: bool | None = None
    trust: bool | None = None
    min_rate: int | None = None
    """Mbit/s; 0: none."""
    max_rate: int | None = None
    """Mbit/s; 0: none."""
    link_state: VfLinkState | None = None
    resource: str | None = None
    """Extended resource that it is given out by."""

    def __post_init__(self) -> None:
        if self.mac is not None and (
            not _MAC.fullmatch(self.mac) or _number(self.mac) & _MULTICAST
        ):
            raise ValueError(f"{self.mac} is no MAC address that a VF can have")
        if self.vlan is not None and not 0 <= self.vlan <= _MAX_VLAN:
            raise ValueError(f"VLAN {self.vlan} is not between 0 and {_MAX_VLAN}")
        _check_mtu(self.mtu)
        if min(self.min_rate or 0, self.max_rate or 0) < 0:
            raise ValueError("rates are not negative")
        if self.max_rate and (self.min_rate or 0) > self.max_rate:
            raise ValueError(
                f"the lowest rate, {self.min_rate} Mbit/s, is above the highest, {self.max_rate}"
            )


@dataclass(frozen=True)
class VFRange:
    """What is wanted of some of a PF's VFs."""

    first: int
    last: int
    vf: VF = field(default_factory=VF)
    """Of the first; the MAC address of each next one is one higher."""

    def __post_init__(self) -> None:
        if not 0 <= self.first <= self.last:
            raise ValueError(f"VFs {self.first} to {self.last} are no range")


@dataclass(frozen=True)
class Wish:
    """What one policy wants of one PF."""

    policy: str
    address: str
    """The PF's PCI address."""
    num_vfs: int
    driver: VfDriver | None = None
    """Of the VFs of `ranges` that name none themselves; without ranges of all."""
    mtu: int | None = None
    """The PF has this at least, and the network devices of those VFs have it."""
    externally_managed: bool = False
    """Somebody else makes the VFs: number, MTU and state of the PF are only checked."""
    ranges: tuple[VFRange, ...] = ()

    def __post_init__(self) -> None:
        if self.num_vfs < 0:
            raise ValueError("the number of VFs is not negative")
        _check_mtu(self.mtu)
        for one in self.ranges:
            if one.last >= self.num_vfs:
                raise ValueError(f"VF {one.last} is not one of {self.num_vfs}")
        for one, other in combinations(self.ranges, 2):
            if one.first <= other.last and other.first <= one.last:
                raise ValueError(
                    f"VFs {one.first} to {one.last} and {other.first} to {other.last} overlap"
                )

    def vfs(self) -> tuple[VF, ...]:
        """Return what it wants of each VF."""
        if not self.ranges:
            return (VF(driver=self.driver, mtu=self.mtu),) * self.num_vfs
        found = [VF()] * self.num_vfs
        for each in self.ranges:
            for index in range(each.first, each.last + 1):
                found[index] = VF(
                    driver=self.driver if each.vf.driver is None else each.vf.driver,
                    mtu=self.mtu if each.vf.mtu is None else each.vf.mtu,
                    mac=_nth_mac(each.vf.mac, index - each.first),
                    vlan=each.vf.vlan,
                    spoof_check=each.vf.spoof_check,
                    trust=each.vf.trust,
                    min_rate=each.vf.min_rate,
                    max_rate=each.vf.max_rate,
                    link_state=each.vf.link_state,
                    resource=each.vf.resource,
                )
        return tuple(found)


@dataclass(frozen=True)
class Desired:
    """What is wanted of one PF, all policies together."""

    address: str
    policies: tuple[str, ...]
    vfs: tuple[VF, ...]
    mtu: int | None = None
    externally_managed: bool = False
    exact_mtu: bool = False
    """Lower the PF's MTU, too: to put back what was found."""
    up: bool | None = True
    """Whether the PF is up at the end; None: as it is. VFs are made with it up."""
    autoprobe: bool | None = None
    """Whether drivers bind to new VFs by themselves, at the end; None: as it is."""
    functions: Mapping[str, VF] = field(default_factory=dict)
    """By PCI address: what VFs are wanted as by who has them, as far as policies leave it open; of
    address, spoof check and trust whatever they say, and a link that they take away is there. Those
    of other PFs may be among them."""
    endpoints: frozenset[str] = frozenset()
    """Of these, those that are told also while somebody has them open: it is the same one after."""

    def wanted(self, index: int, address: str) -> VF:
        """What is wanted of the VF with this number and PCI address."""
        vf = self.vfs[index] if index < len(self.vfs) else VF()
        more = self.functions.get(address)
        if more is None:
            return vf
        return replace(
            vf,
            vlan=more.vlan if vf.vlan is None else vf.vlan,
            mac=vf.mac if more.mac is None else more.mac,
            spoof_check=vf.spoof_check if more.spoof_check is None else more.spoof_check,
            trust=vf.trust if more.trust is None else more.trust,
            link_state=more.link_state if _is_away(vf) and more.link_state else vf.link_state,
        )

    @property
    def num_vfs(self) -> int:
        """How many VFs there are to be."""
        return len(self.vfs)


@dataclass(frozen=True)
class Merged:
    """What comes of all wishes."""

    desired: Mapping[str, Desired]
    """By the PF's address; of contradicting wishes nothing."""
    conflicts: Mapping[str, tuple[str, ...]]
    """By policy, what contradicts another."""


def merge(wishes: Iterable[Wish]) -> Merged:
    """Bring several policies' wishes together.

    Where two contradict, both are told, and nothing is done to that PF.
    """
    by_address: dict[str, list[Wish]] = defaultdict(list)
    for wish in wishes:
        by_address[wish.address].append(wish)
    desired: dict[str, Desired] = {}
    conflicts: dict[str, list[str]] = defaultdict(list)
    for address, group in sorted(by_address.items()):
        group.sort(key=lambda wish: wish.policy)
        good = True
        for one, other in combinations(group, 2):
            for what, mine, theirs in _contradictions(one, other):
                good = False
                conflicts[one.policy].append(_conflict(address, other, what, mine, theirs))
                conflicts[other.policy].append(_conflict(address, one, what, theirs, mine))
        for wish in group:
            for mac in _twice(wish.vfs()):
                good = False
                conflicts[wish.policy].append(
                    f"PF {address}: two VFs have the MAC address {mac}: give each its own"
                )
        if good:
            desired[address] = _together(address, group)
    return Merged(desired, {policy: tuple(each) for policy, each in conflicts.items()})


@dataclass(frozen=True)
class Identity:
    """What a network card is known by."""

    address: str = ""
    vendor: str = ""
    """Four hexadecimal digits, as is the device's."""
    device: str = ""
    driver: str = ""
    name: str = ""
    """Of its network device; "" where it has none."""
    mac: str = ""
    """The one it was made with; "" where it has none."""
    infiniband: bool | None = None
    """Whether it speaks InfiniBand, and not Ethernet; None: it has no network device."""
    sriov: bool = True
    """Whether it can have VFs."""


def _is_away(vf: VF) -> bool:
    return vf.link_state is VfLinkState.DISABLE


def _number(mac: str) -> int:
    return int(mac.replace(":", ""), 16)


def _nth_mac(mac: str | None, more: int) -> str | None:
    if mac is None or mac == NO_MAC:
        return mac
    digits = f"{_number(mac) + more:012x}"
    return ":".join(digits[at : at + 2] for at in range(0, 12, 2))


def _check_mtu(mtu: int | None) -> None:
    if mtu is not None and not _MIN_MTU <= mtu <= _MAX_MTU:
        raise ValueError(f"an MTU of {mtu} is not between {_MIN_MTU} and {_MAX_MTU}")


def _contradictions(one: Wish, other: Wish) -> Iterable[tuple[str, object, object]]:
    """Yield what two wishes do not agree in, and what each wants."""
    if one.num_vfs != other.num_vfs:
        # Which VF is which is then another question in each: no more to compare.
        yield "numVfs", one.num_vfs, other.num_vfs
        return
    if one.externally_managed != other.externally_managed:
        yield "externallyManaged", one.externally_managed, other.externally_managed
    ours, theirs = one.vfs(), other.vfs()
    for index, (mine, their) in enumerate(zip(ours, theirs, strict=True)):
        for each in fields(VF):
            wants, against = getattr(mine, each.name), getattr(their, each.name)
            if None not in (wants, against) and wants != against:
                yield f"{each.name} of VF {index}", wants, against
    for index, mine in enumerate(ours):
        for at, their in enumerate(theirs):
            if at != index and mine.mac == their.mac and mine.mac not in (None, NO_MAC):
                yield f"MAC address {mine.mac}", f"VF {index}", f"VF {at}"


def _conflict(address: str, other: Wish, what: str, mine: object, theirs: object) -> str:
    return (
        f"PF {address}: {what} is {mine} here and {theirs} in policy {other.policy}: "
        "make them agree, or have only one of them select this PF"
    )


def _twice(vfs: Iterable[VF]) -> list[str]:
    seen: set[str] = set()
    twice = []
    for vf in vfs:
        if vf.mac is not None and vf.mac != NO_MAC:
            if vf.mac in seen:
                twice.append(vf.mac)
            seen.add(vf.mac)
    return twice


def _together(address: str, group: list[Wish]) -> Desired:
    mtus = [wish.mtu for wish in group if wish.mtu is not None]
    vfs = []
    for each in zip(*(wish.vfs() for wish in group), strict=True):
        named = {
            part.name: value
            for part in fields(VF)
            for vf in each
            if (value := getattr(vf, part.name)) is not None
        }
        vfs.append(VF(**named))
    mtus += [vf.mtu for vf in vfs if vf.mtu is not None]
    return Desired(
        address=address,
        policies=tuple(wish.policy for wish in group),
        vfs=tuple(vfs),
        mtu=max(mtus, default=None),
        externally_managed=group[0].externally_managed,
    )
