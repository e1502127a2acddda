# SPDX-License-Identifier: Apache-2.0
"""The routes of one network, and their places in Slices of at most 256 each.

A route stays in its slice for as long as it exists, so that one change rewrites one slice
(the EndpointSlice pattern). The routes of one Interface are put together where there is room.
"""

from collections.abc import Iterable, Mapping, Set
from typing import NamedTuple

from pydantic import JsonValue

from headrace_api import Json, Slice, SliceType, VirtualNetwork, slice_name
from headrace_api.slice import (
    NAMESPACE_LABEL,
    NETWORK_LABEL,
    ROUTE_NEXT_HOPS,
    SLICE_ENTRIES,
    VNI_LABEL,
)

from .addresses import node_number, prefix_order
from .outcome import Fault
from .resolve import Hop, Hops


class Source(NamedTuple):
    """Who announces a route; the best rank wins, equals share the traffic.

    An Interface's own address beats everything: nobody takes it away with a route.
    """

    rank: int
    key: str


ADDRESS = 0
ROUTE = 1


class Route:
    """What is announced for one prefix."""

    __slots__ = ("number", "order", "sources")

    def __init__(self, prefix: str, number: int) -> None:
        self.order = prefix_order(prefix)
        self.number = number
        """Of its slice."""
        self.sources: dict[Source, Hops] = {}

    def hops(self, created: Mapping[Source, str]) -> Hops:
        """Next hops, of the oldest sources first; none is a blackhole."""
        if not self.shared:
            # As nearly all are: what follows would say the same in ten times as long.
            return next(iter(self.sources.values()), ())
        best = min((source.rank for source in self.sources), default=ROUTE)
        weights: dict[str, int] = {}
        for source in sorted(self.sources, key=lambda each: (created.get(each, ""), each.key)):
            if source.rank == best:
                for hop in sorted(self.sources[source]):
                    weights[hop.target] = max(hop.weight, weights.get(hop.target, 0))
        return tuple(Hop(target, weight) for target, weight in weights.items())

    @property
    def shared(self) -> bool:
        """Whether it may have several next hops."""
        return len(self.sources) > 1 or any(len(hops) > 1 for hops in self.sources.values())


class RouteTable:
    """The routes of one network."""

    def __init__(self, network: str, placed: Mapping[int, tuple[str, ...]] | None = None) -> None:
        self.network = network
        self._routes: dict[str, Route] = {}
        self._slices: dict[int, set[str]] = {}
        self._roomy: set[int] = set()
        self._announced: dict[Source, tuple[str, ...]] = {}
        self._home: dict[Source, int] = {}
        self._created: dict[Source, str] = {}
        self.dirty: set[int] = set()
        """Numbers of the slices to write again."""
        self._crowded: dict[int, tuple[str, ...]] = {}
        # Placed in an earlier run, not announced in this one yet.
        self._orphans: set[str] = set()
        for number, prefixes in sorted((placed or {}).items()):
            for prefix in prefixes:
                if prefix not in self._routes:
                    self._place(prefix, number)
                    self._orphans.add(prefix)

    def __contains__(self, prefix: str) -> bool:
        """Whether there is a route for the prefix."""
        return prefix in self._routes

    def had(self, prefixes: Iterable[str]) -> bool:
        """Whether an earlier run placed all of these, and nobody has announced any since."""
        return self._orphans.issuperset(prefixes)

    def numbers(self) -> tuple[int, ...]:
        """Numbers of the slices."""
        return tuple(sorted(self._slices))

    def placement(self) -> dict[int, tuple[str, ...]]:
        """Slice number -> sorted prefixes: what a later run is given."""
        return {number: tuple(sorted(self._slices[number])) for number in sorted(self._slices)}

    def withdraw(self, source: Source, but: Mapping[str, Hops] | None = None) -> None:
        """Take back what the source announced, except these prefixes."""
        but = but or {}
        stay = []
        for prefix in self._announced.pop(source, ()):
            if prefix in but:
                stay.append(prefix)
                continue
            route = self._routes[prefix]
            del route.sources[source]
            self.dirty.add(route.number)
            if not route.sources:
                self._remove(prefix)
        if stay:
            self._announced[source] = tuple(stay)
        elif not but:
            self._home.pop(source, None)
            self._created.pop(source, None)

    def announce(
        self, source: Source, hops: Mapping[str, Hops], *, together: bool, created: str = ""
    ) -> None:
        """Announce these routes, and nothing else, from the source.

        `together` puts new ones into one slice: for Interfaces, which change as a whole. `created`
        is since when there is the source: of next hops beyond ROUTE_NEXT_HOPS the oldest stay.
        """
        self._created[source] = created
        fresh = [prefix for prefix in hops if prefix not in self._routes]
        if together and fresh:
            number = self._room(len(fresh), self._home.get(source))
            for prefix in fresh:
                self._place(prefix, number)
        else:
            for prefix in fresh:
                self._place(prefix, self._room(1, None))
        for prefix, nexthops in hops.items():
            route = self._routes[prefix]
            self._orphans.discard(prefix)
            if together:
                self._home.setdefault(source, route.number)
            if route.sources.get(source) != nexthops:
                route.sources[source] = nexthops
                self.dirty.add(route.number)
        if hops:
            self._announced[source] = tuple(hops)

    def reconsider(self, source: Source) -> None:
        """Write the source's routes again that may have several next hops."""
        for prefix in self._announced.get(source, ()):
            route = self._routes[prefix]
            if route.shared:
                self.dirty.add(route.number)

    def settle(self) -> None:
        """Drop what an earlier run placed and nobody announces any more."""
        for prefix in self._orphans:
            self.dirty.add(self._routes[prefix].number)
            self._remove(prefix)
        self._orphans = set()

    def faults(self) -> tuple[Fault, ...]:
        """Routes with more next hops than the engine takes."""
        return tuple(
            Fault(
                "",
                "TooManyNextHops",
                f"{prefix} has more than {ROUTE_NEXT_HOPS} next hops, the rest is left out:"
                " announce it from fewer Interfaces",
            )
            for number in sorted(self._crowded)
            for prefix in self._crowded[number]
        )

    def slice(self, number: int, vni: int, namespace: str, unreachable: Set[int]) -> Json | None:
        """The Slice object; None when there is no such slice any more.

        `unreachable` are node numbers: next hops there are left out where others remain.
        """
        self._crowded.pop(number, None)
        if number not in self._slices:
            return None
        routes = sorted((self._routes[prefix].order, prefix) for prefix in self._slices[number])
        crowded = []
        items: list[Json] = []
        for _, prefix in routes:
            hops = self._routes[prefix].hops(self._created)
            if len(hops) > ROUTE_NEXT_HOPS:
                crowded.append(prefix)
            taken = _reachable(hops, unreachable)[:ROUTE_NEXT_HOPS]
            items.append(_route(prefix, tuple(sorted(taken))))
        if crowded:
            self._crowded[number] = tuple(crowded)
        return route_slice(self.network, number, vni, namespace, [*items])

    def _room(self, wanted: int, home: int | None) -> int:
        """The slice for so many new routes: the preferred one, or the lowest that has room."""
        for number in ([] if home is None else [home]) + sorted(self._roomy):
            if number in self._roomy and len(self._slices[number]) + wanted <= SLICE_ENTRIES:
                return number
        number = 0
        while number in self._slices:
            number += 1
        return number

    def _place(self, prefix: str, number: int) -> None:
        members = self._slices.setdefault(number, set())
        members.add(prefix)
        self._routes[prefix] = Route(prefix, number)
        if len(members) < SLICE_ENTRIES:
            self._roomy.add(number)
        else:
            self._roomy.discard(number)
        self.dirty.add(number)

    def _remove(self, prefix: str) -> None:
        number = self._routes.pop(prefix).number
        members = self._slices[number]
        members.discard(prefix)
        self._roomy.add(number)
        if not members:
            del self._slices[number]
            self._roomy.discard(number)


def route_slice(
    network: str, number: int, vni: int, namespace: str, entries: list[JsonValue]
) -> Json:
    """The Slice object with these routes of the network; `namespace` is the object's own."""
    owner, _, name = network.partition("/")
    return {
        "apiVersion": Slice.version(),
        "kind": Slice.kind_name(),
        "metadata": {
            "name": slice_name(network, number),
            "namespace": namespace,
            "labels": {NAMESPACE_LABEL: owner, NETWORK_LABEL: name, VNI_LABEL: str(vni)},
        },
        "spec": {
            "type": SliceType.ROUTES.value,
            "owner": {"kind": VirtualNetwork.__name__, "namespace": owner, "name": name},
            "vni": vni,
            "entries": entries,
        },
    }


def _reachable(hops: Hops, unreachable: Set[int]) -> Hops:
    """The next hops that are not on these nodes; all, when none would be left.

    Without any the route would lead nowhere, or leak into a shorter one; and one of them may live.
    """
    if not unreachable or len(hops) < 2:
        return hops
    there = tuple(
        hop for hop in hops if "/" in hop.target or node_number(hop.target) not in unreachable
    )
    return there or hops


def _route(prefix: str, hops: Hops) -> Json:
    if not hops:
        return {"prefix": prefix, "blackhole": True}
    return {
        "prefix": prefix,
        "nextHops": [
            {"network" if "/" in target else "underlayAddress": target, "weight": weight}
            for target, weight in hops
        ],
    }
