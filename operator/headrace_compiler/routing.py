# SPDX-License-Identifier: Apache-2.0
"""The routes of all networks: who names whom, and the Slices that come of it."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from headrace_api import Json, VirtualNetworkSpec, slice_name

from .accepted import Accepted
from .claims import Owner
from .core import Core
from .outcome import Fault
from .resolve import Endpoint, ResolvedRoutes, references, resolve_routes
from .routes import ADDRESS, ROUTE, RouteTable, Source

_OWN = Source(ROUTE, "")
_NONE: frozenset[str] = frozenset()


@dataclass(slots=True)
class RouteChanges:
    """What one writing changed."""

    slices: dict[str, Json | None] = field(default_factory=dict)
    """By name; None: gone."""
    faults: dict[str, tuple[Fault, ...]] = field(default_factory=dict)
    """Network -> all that is wrong with its routes."""
    failed: dict[str, Exception] = field(default_factory=dict)
    """Network -> what nobody expected of its routes: these stay as they were."""
    touched: set[str] = field(default_factory=set)
    """Networks whose list of slices or of peers changed."""


class Routing:
    """Route tables of the networks. Announce, then write."""

    def __init__(self, core: Core) -> None:
        self._namespace = core.namespace
        self._tables: dict[str, RouteTable] = {}
        self._slices: defaultdict[str, dict[int, Json]] = defaultdict(dict)
        self._resolved: dict[str, ResolvedRoutes] = {}
        self._names: dict[str, frozenset[Owner]] = {}
        self._named_by: defaultdict[Owner, set[str]] = defaultdict(set)
        self._to_resolve: set[str] = set()
        self._to_write: set[str] = set()
        self._to_announce: dict[str, Accepted] = {}
        # Network that cannot be read -> its slices by name.
        self._carried: dict[str, dict[str, Json]] = {}
        self._unreachable: frozenset[int] = frozenset()

    def install(self, network: str, placed: Mapping[int, tuple[str, ...]]) -> None:
        """Place routes where an earlier run had them."""
        self._tables[network] = RouteTable(network, placed)
        self._to_write.add(network)

    def resolve(self, networks: Iterable[str]) -> None:
        """Resolve the own routes of these networks again."""
        self._to_resolve.update(networks)

    def network_changed(self, network: str) -> None:
        """The network came, went or got another VNI."""
        self._to_resolve |= {network} | self._named_by.get(Owner("VirtualNetwork", network), set())
        table = self._tables.get(network)
        if table:
            table.dirty.update(table.numbers())
        self._to_write.add(network)

    def interface_changed(self, key: str, old: Accepted | None, new: Accepted | None) -> None:
        """The Interface is accepted otherwise than before (None: not at all)."""
        if (old and (old.network, old.underlay)) != (new and (new.network, new.underlay)):
            self._to_resolve |= self._named_by.get(Owner("Interface", key), set())
        if old:
            # Everybody withdraws before anybody announces, so that what is left is free.
            stays = new if new and new.network == old.network else None
            table = self._table(old.network)
            table.withdraw(Source(ADDRESS, key), stays.addresses if stays else {})
            table.withdraw(Source(ROUTE, key), stays.prefixes if stays else {})
            self._to_write.add(old.network)
        if new:
            self._to_announce[key] = new
            self._to_write.add(new.network)
        else:
            self._to_announce.pop(key, None)

    def set_unreachable(
        self, numbers: frozenset[int], interfaces: Iterable[tuple[str, Accepted]]
    ) -> None:
        """Leave next hops on these nodes (the upper 64 bits of their /64s) out where others remain.

        `interfaces` are those on nodes that are among them and were not, or the reverse.
        """
        self._unreachable = numbers
        for key, accepted in interfaces:
            table = self._table(accepted.network)
            table.reconsider(Source(ADDRESS, key))
            table.reconsider(Source(ROUTE, key))
            networks = self._named_by.get(Owner("Interface", key), set())
            for network in networks:
                self._table(network).reconsider(_OWN)
            self._to_write |= {accepted.network} | networks

    def had(self, network: str, prefixes: Iterable[str]) -> bool:
        """Whether an earlier run had all of these, and nobody has announced them since."""
        table = self._tables.get(network)
        return table is not None and table.had(prefixes)

    def numbers(self, network: str) -> tuple[int, ...]:
        """Numbers of the network's slices."""
        table = self._tables.get(network)
        return table.numbers() if table else ()

    def placement(self, network: str) -> dict[int, tuple[str, ...]]:
        """Slice number -> sorted prefixes."""
        table = self._tables.get(network)
        return table.placement() if table else {}

    def slices(self) -> dict[str, Json]:
        """All Slices by name, sorted by network and number."""
        return {
            slice_name(network, number): self._slices[network][number]
            for network in sorted(self._slices)
            for number in sorted(self._slices[network])
        }

    def reached(self, networks: Iterable[str]) -> set[str]:
        """The networks, and those that their routes lead to, and so on."""
        return _closure(networks, self._peers)

    def reaching(self, network: str) -> set[str]:
        """The network, and those whose routes name it, and so on."""
        return _closure(
            [network], lambda name: self._named_by.get(Owner("VirtualNetwork", name), _NONE)
        )

    def carry(self, network: str, slices: Mapping[str, Json]) -> None:
        """Have the slices of a network that cannot be read stay as they are (by name)."""
        self._carried[network] = dict(slices)
        self._to_write.add(network)
        peers = frozenset(
            str(hop["network"])
            for item in slices.values()
            for hop in _hops(item)
            if "network" in hop
        )
        self._resolved[network] = ResolvedRoutes({}, peers, ())

    def drop(self, network: str) -> None:
        """The network can be read again, or is gone."""
        if self._carried.pop(network, None) is not None:
            self._to_resolve.add(network)

    def write(
        self,
        spec: Callable[[str], VirtualNetworkSpec | None],
        vnis: Mapping[str, int],
        endpoint: Callable[[str], Endpoint | None],
        endpoints: Callable[[str], Mapping[str, str]],
        admit: Callable[[str, int, int], tuple[int, int | None]],
    ) -> RouteChanges:
        """Write what changed. `vnis` has the accepted networks, `endpoint` the Interfaces.

        `endpoints` gives the UnderlayEndpoints that a network may use, name -> address.
        `admit` is asked how many new routes of its own a network may have: network, how many there
        are and how many are new; it returns that, and the limit.
        """
        changes = RouteChanges()
        resolved: dict[str, ResolvedRoutes] = {}
        for network in sorted(self._to_resolve - self._carried.keys()):
            try:
                found = spec(network) if network in vnis else None
                resolved[network] = ResolvedRoutes({}, frozenset(), ())
                self._index(network, found)
                if found:
                    routes = resolve_routes(
                        network, found, endpoint, vnis.__contains__, endpoints(network)
                    )
                    resolved[network] = self._admitted(network, routes, admit)
            except Exception as error:  # one network's fault must stop no other
                del resolved[network]
                changes.failed[network] = error
        for network, routes in resolved.items():
            if routes.peers != self._peers(network):
                changes.touched.add(network)
            self._resolved[network] = routes
            self._table(network).withdraw(_OWN, routes.hops)
        for network, routes in resolved.items():
            self._table(network).announce(_OWN, routes.hops, together=False)
        for key, accepted in self._to_announce.items():
            table = self._table(accepted.network)
            for source, hops in (
                (Source(ADDRESS, key), accepted.addresses),
                (Source(ROUTE, key), accepted.prefixes),
            ):
                table.announce(source, hops, together=True, created=accepted.created)
        for network in sorted(self._to_write | self._to_resolve):
            try:
                self._write_network(network, vnis.get(network), changes)
            except Exception as error:  # one network's fault must stop no other
                changes.failed[network] = error
        self._to_resolve = {*changes.failed}
        self._to_write = {*changes.failed}
        self._to_announce.clear()
        return changes

    def _admitted(
        self,
        network: str,
        resolved: ResolvedRoutes,
        admit: Callable[[str, int, int], tuple[int, int | None]],
    ) -> ResolvedRoutes:
        """The routes without those above the limit: the last that came."""
        table = self._table(network)
        new = [prefix for prefix in resolved.hops if prefix not in table]
        room, limit = admit(network, len(resolved.hops) - len(new), len(new))
        if room >= len(new):
            return resolved
        left_out = dict.fromkeys(new[room:])
        message = (
            f"{len(left_out)} routes are left out, from {new[room]} on: the namespace may have"
            f" {limit} (spec.limits.routesPerNamespace of a Pipeline): delete some, or have it"
            " raised"
        )
        return resolved._replace(
            hops={prefix: hops for prefix, hops in resolved.hops.items() if prefix not in left_out},
            faults=(*resolved.faults, Fault("spec.routes", "RouteLimitExceeded", message)),
        )

    def _write_network(self, network: str, vni: int | None, changes: RouteChanges) -> None:
        table = self._table(network)
        written = self._slices[network]
        if network in self._carried:
            for name, carried in self._carried[network].items():
                written[int(name.rpartition(".")[2])] = carried
                changes.slices[name] = carried
            return
        table.settle()
        numbers = set(written)
        for number in sorted(table.dirty):
            item = None
            if vni:
                item = table.slice(number, vni, self._namespace, self._unreachable)
            if item is None and number in written:
                del written[number]
                changes.slices[slice_name(network, number)] = None
            elif item is not None and written.get(number) != item:
                written[number] = item
                changes.slices[slice_name(network, number)] = item
        table.dirty.clear()
        if set(written) != numbers:
            changes.touched.add(network)
        own = self._resolved.get(network)
        changes.faults[network] = (*(own.faults if own else ()), *table.faults())
        if vni is None and not table.numbers():
            del self._tables[network], self._slices[network]
            self._resolved.pop(network, None)

    def _index(self, network: str, spec: VirtualNetworkSpec | None) -> None:
        interfaces, networks = references(network, spec) if spec else (_NONE, _NONE)
        names = frozenset(
            {Owner("Interface", name) for name in interfaces}
            | {Owner("VirtualNetwork", name) for name in networks}
        )
        for owner in self._names.pop(network, frozenset()):
            self._named_by[owner].discard(network)
            if not self._named_by[owner]:
                del self._named_by[owner]
        for owner in names:
            self._named_by[owner].add(network)
        if names:
            self._names[network] = names

    def _peers(self, network: str) -> frozenset[str]:
        resolved = self._resolved.get(network)
        return resolved.peers if resolved else _NONE

    def _table(self, network: str) -> RouteTable:
        table = self._tables.get(network)
        if table is None:
            table = self._tables[network] = RouteTable(network)
        return table


def _closure(start: Iterable[str], edges: Callable[[str], Iterable[str]]) -> set[str]:
    found = set(start)
    todo = list(found)
    while todo:
        for name in edges(todo.pop()):
            if name not in found:
                found.add(name)
                todo.append(name)
    return found


def _hops(item: Json) -> Iterable[Json]:
    """The next hops of a Slice of routes as the compiler writes it."""
    spec = cast(dict[str, Any], item["spec"])
    return (hop for route in spec.get("entries", ()) for hop in route.get("nextHops", ()))
