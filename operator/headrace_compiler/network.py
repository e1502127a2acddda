# SPDX-License-Identifier: Apache-2.0
"""A VirtualNetwork: its VNI, its own routes, and how full it is."""

from collections.abc import Collection, Mapping
from typing import NamedTuple

from headrace_api import Object, VirtualNetwork, VirtualNetworkSpec

from .addresses import subnet_ranges
from .carried import Carried
from .claims import Claims, Owner, Space
from .core import Core, Entry, Kind, Step, put, record
from .dirty import DirtyConfigs
from .inputs import Namespaces
from .outcome import Fault, resting, taken
from .pipeline import Pipelines
from .quota import Quota
from .routing import Routing

VNIS = Space("vni")
MAX_VNI = 0xFFFFFF


class Usage(NamedTuple):
    """How full a network is."""

    interfaces: int
    """How many are accepted."""
    free: int
    """Free addresses of the subnet that has the fewest."""


def address_space(network: str) -> Space:
    """Tenant addresses of a network."""
    return Space("address", network)


class Networks(Kind[VirtualNetworkSpec]):
    """VirtualNetworks."""

    name = "VirtualNetwork"

    def __init__(self, core: Core) -> None:
        super().__init__(core)
        self._namespaces = core.part(Namespaces)
        self._pipelines = core.part(Pipelines)
        self._routing = core.part(Routing)
        self._quota = core.part(Quota)
        self._dirty_configs = core.part(DirtyConfigs)
        self.held: dict[str, int] = {}
        """The VNI of each, accepted or not."""
        self.ready: dict[str, int] = {}
        """Those that are accepted, and their VNI."""

    def read(self, item: Object) -> Entry[VirtualNetworkSpec]:
        """All of a VirtualNetwork that matters."""
        if not isinstance(item, VirtualNetwork):
            raise TypeError(f"{item.kind} is no VirtualNetwork")
        metadata = item.metadata
        return Entry(metadata.creation_timestamp, item.spec, labels=metadata.labels)

    def install(self, key: str, vni: int, placed: Mapping[int, tuple[str, ...]]) -> None:
        """Take what a record of an earlier run says."""
        owner = Owner(self.name, key)
        self.held[key] = vni
        self.core.claims.take(VNIS, vni, owner)
        self._routing.install(key, placed)
        self.core.mark([owner])

    def carry(self, carried: Carried) -> None:
        """Have networks that cannot be read go on as they were compiled."""
        for key in {*carried.networks, *carried.slices} & self.held.keys():
            self.ready[key] = self.held[key]
            self._routing.carry(key, carried.slices[key])

    def changed(
        self,
        key: str,
        old: Entry[VirtualNetworkSpec] | None,
        new: Entry[VirtualNetworkSpec] | None,
    ) -> None:
        """Look at it, and unless only routes or labels changed at all that is in it."""
        owner = Owner(self.name, key)
        self.core.mark([owner])
        self._routing.resolve([key])
        self.core.wake(self._quota.shrink(owner, len(new.spec.routes) if new else 0))
        if old and new and _is_same_but_routes(old.spec, new.spec):
            self.core.tell(self.name, key)
            return
        self.core.changed(self.name, key)
        # A gateway that moved frees its old address.
        self.core.wake(self.core.claims.reconsider(address_space(key)))
        self._dirty_configs.networks.add(key)

    def readable(self, key: str) -> None:
        """Look at all of it."""
        super().readable(key)
        self._routing.drop(key)
        self._dirty_configs.networks.add(key)

    def usage(self, key: str, interfaces: int) -> Usage | None:
        """How full the network is with so many Interfaces; None: it is not accepted."""
        spec = self.spec(key)
        if spec is None or key not in self.ready:
            return None
        free = (
            subnet.last
            - subnet.first
            + 1
            - (subnet.first <= subnet.gateway_number <= subnet.last)
            - self.core.claims.within(address_space(key), subnet.first, subnet.last)
            for subnet in subnet_ranges(spec)
        )
        return Usage(interfaces, min(free))

    def holds(self, owner: Owner) -> bool:
        """Whether it has a VNI."""
        return owner.key in self.held

    def woken(self, owner: Owner) -> None:
        """There may be room for more of its routes."""
        self._routing.resolve([owner.key])

    def keep(self, owner: Owner) -> None:
        """Keep the VNI while it is wanted; else it rests."""
        vni, spec, claims = self.held[owner.key], self.spec(owner.key), self.core.claims
        if spec and spec.vni in (None, vni) and claims.holder(VNIS, vni) == owner:
            return
        claims.retire(VNIS, vni, owner, self.core.now)
        self._record(owner, None)

    def prepare(self, owners: Collection[Owner]) -> None:
        """Count the routes that each had in an earlier run."""
        for owner in owners:
            spec = self.spec(owner.key)
            if spec and not self._quota.has(owner):
                had = (self._routing.had(owner.key, [route.prefix]) for route in spec.routes)
                self._quota.hold(owner, sum(had))

    @property
    def steps(self) -> tuple[Step, ...]:
        """VNIs that users gave, then those that they left open."""
        return (self._claim_given, self._claim_any)

    def _claim_given(self, owner: Owner) -> tuple[Fault, ...]:
        spec = self.spec(owner.key)
        if spec is None:
            return ()
        # What cannot be told apart is found here, not where it would stop others.
        subnet_ranges(spec)
        if spec.vni is None or owner.key in self.held:
            return ()
        faults = _claim_given(self.core.claims, owner, spec.vni)
        self._record(owner, None if faults else spec.vni)
        return faults

    def _claim_any(self, owner: Owner) -> tuple[Fault, ...]:
        if owner.key not in self.entries or owner.key in self.held:
            return ()
        vni = self.core.claims.take_lowest(VNIS, 1, MAX_VNI, owner)
        self._record(owner, vni)
        if vni is not None:
            return ()
        self.core.claims.wait(VNIS, None, owner)
        return (Fault("spec.vni", "VniExhausted", "every VNI is in use: delete a VirtualNetwork"),)

    def settle(self, owner: Owner, faults: tuple[Fault, ...]) -> None:
        """Accept it with its VNI, or not; what this flush failed with stays as it was."""
        key = owner.key
        there = key in self.entries
        self.core.report(owner.subject, "", faults if there else ())
        vni = self.held.get(key) if there and not faults else None
        before = self.ready.get(key)
        if there and before and owner in self.core.failures:
            self.core.claims.take(VNIS, before, owner)
            self._record(owner, before)
            vni = before
        if vni is None:
            self.core.wake(self._quota.shrink(owner, 0))
        if before != vni:
            put(self.ready, key, vni)
            self.core.mark(self.core.referring(owner))
            self._routing.network_changed(key)
            self._dirty_configs.networks.add(key)

    def admit(self, key: str, old: int, new: int) -> tuple[int, int | None]:
        """How many new routes of its own a network may have beside the old, and the limit."""
        owner = Owner(self.name, key)
        labels = self._namespaces.labels_of(key)
        limits = (
            entry.spec.limits.routes_per_namespace
            for entry in self._pipelines.entries.values()
            if entry.spec.admits(labels)
        )
        limit = min((each for each in limits if each is not None), default=None)
        admitted = min(old + new, max(old, self._quota.room(owner, limit)))
        self.core.wake(self._quota.hold(owner, int(admitted)))
        if admitted < old + new:
            self._quota.wait(owner)
        return int(admitted) - old, limit

    def _record(self, owner: Owner, vni: int | None) -> None:
        record(self.held, owner.key, vni, self.core.changes.vnis, owner.key)


def _is_same_but_routes(spec: VirtualNetworkSpec, other: VirtualNetworkSpec) -> bool:
    def but_routes(spec: VirtualNetworkSpec) -> tuple[object, ...]:
        return spec.vni, spec.subnets, spec.mtu, spec.dscp

    return but_routes(spec) == but_routes(other)


def _claim_given(claims: Claims, owner: Owner, vni: int) -> tuple[Fault, ...]:
    if claims.take(VNIS, vni, owner):
        return ()
    claims.wait(VNIS, vni, owner)
    what = f"vni {vni}"
    if rest := claims.resting(VNIS).get(vni):
        return (resting("spec.vni", "VniConflict", what, rest),)
    return (taken("spec.vni", "VniConflict", what, claims.holder(VNIS, vni)),)
