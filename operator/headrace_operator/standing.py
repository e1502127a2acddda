# SPDX-License-Identifier: Apache-2.0
"""How far what is wanted has come: whether it is written, and in which engines it is.

Conditions are about what the API server holds and what engines report of it. What is wanted and
not written, or written and not reported, is said to be so.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping

from pydantic import JsonValue

from headrace_api import ConditionStatus, Json, config_name, slice_revision
from headrace_compiler import InterfaceAllocation
from headrace_kube import DATAPLANE_CONFIGS, ROUTE_SLICES, Kind

from . import objects
from .agents import PATIENCE, Agents, News
from .cache import Cache
from .liveness import PipelineNode, State
from .render import Report, Spread, Verdict, unreachable, unwritten
from .render.raw import items, key_of, mapping, part, text
from .route_digests import RouteDigests

Output = tuple[Kind, str]

#: When what is right now will be replaced: not yet.
_NOW = float("inf")


class Standing:
    """What is known of the compiled objects and of the agents that follow them."""

    def __init__(
        self, cache: Cache, namespace: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`namespace` is that of the outputs, `clock` any steady clock, in seconds."""
        self.agents = Agents(clock)
        self.states: Mapping[PipelineNode, State] = {}
        """What is known of whoever is not alive."""
        self._clock = clock
        self._cache = cache
        self._namespace = namespace
        self._routes = RouteDigests(PATIENCE, clock)
        self._wanted: dict[Output, Json] = {}
        # Wanted outputs that the API server does not hold as they are wanted.
        self._unwritten: set[Output] = set()
        # Output -> what was written last, and its generation: it may be there in other words.
        self._applied: dict[Output, tuple[Json, int]] = {}
        # Output -> why it could not be written, and whether the API server refuses it.
        self._failures: dict[Output, tuple[str, bool]] = {}
        # Network -> keys of the wanted objects that have it.
        self._slices: defaultdict[str, set[str]] = defaultdict(set)
        self._configs: defaultdict[str, set[str]] = defaultdict(set)
        # Network -> when all of its newest generation was written; infinity: not yet.
        self._written: dict[str, float] = {}

    # What happens

    def want(self, kind: Kind, key: str, item: Json | None) -> frozenset[str]:
        """Take note of what an output is to be; returns the networks that it has or had."""
        before = self._wanted.pop((kind, key), None)
        self._unwritten.discard((kind, key))
        had, has = _networks(before), _networks(item)
        index = self._slices if kind is ROUTE_SLICES else self._configs
        for network in had - has:
            index[network].discard(key)
            if kind is ROUTE_SLICES:
                self._routes.put(network, objects.name_of(key)[1], None)
        for network in has:
            index[network].add(key)
        if item is None:
            self._failures.pop((kind, key), None)
            self._applied.pop((kind, key), None)
        else:
            self._wanted[kind, key] = item
            self._compare(kind, key, self._cache.get(kind, key))
        return had | has

    def see(self, kind: Kind, key: str, found: Json | None) -> News:
        """Take note of an output as the API server holds it; returns of whom there is news."""
        self._compare(kind, key, found)
        if kind is DATAPLANE_CONFIGS:
            return self.agents.hear(key, found)
        return News(networks=_networks(found) or _networks(self._wanted.get((kind, key))))

    def fail(self, kind: Kind, key: str, why: str, *, refused: bool) -> bool:
        """Take note that the output could not be written, or (no why) could; True: that is new."""
        failure = (why, refused) if why else None
        if self._failures.get((kind, key)) == failure:
            return False
        if failure is None:
            del self._failures[kind, key]
        elif (kind, key) in self._wanted:
            self._failures[kind, key] = failure
        return True

    def is_refused(self, kind: Kind, key: str) -> bool:
        """Whether the API server does not take the output as it is wanted."""
        return self._failures.get((kind, key), ("", False))[1]

    def apply(self, kind: Kind, key: str, wanted: Json, there: Json) -> None:
        """Take note of what the API server made of an output."""
        self._applied[kind, key] = wanted, objects.generation(there)
        self._compare(kind, key, self._cache.get(kind, key))

    def recompiled(self, network: str) -> None:
        """A new generation of the network is compiled: what was right before does not count."""
        self._written[network] = _NOW

    def forget(self, network: str) -> None:
        """The network is gone."""
        self._written.pop(network, None)

    def _compare(self, kind: Kind, key: str, found: Json | None) -> None:
        wanted = self._wanted.get((kind, key))
        if wanted is None:
            return
        spec = part(wanted, "spec")
        if found and found.get("spec") is not spec and part(found, "spec") == spec:
            # One copy of it is enough.
            found["spec"] = spec
        applied, generation = self._applied.get((kind, key), (None, 0))
        if found and (
            part(found, "spec") == spec
            or (applied is wanted and generation == objects.generation(found))
        ):
            self._unwritten.discard((kind, key))
        else:
            self._unwritten.add((kind, key))
        if kind is ROUTE_SLICES:
            name = objects.name_of(key)[1]
            revision = None
            if found:
                revision = slice_revision(name, objects.uid(found), objects.generation(found))
            for network in _networks(wanted):
                self._routes.put(network, name, revision)

    # How things stand

    def interface(self, key: str, held: InterfaceAllocation) -> tuple[Report, Verdict | None]:
        """What is reported of the Interface, and why that does not count, if so."""
        place = PipelineNode(held.pipeline, held.node or "")
        config = self.config_key(place)
        return self.agents.interface(config, key), (
            self._not_in_config(config, "interfaces", key)
            or self._not_in_slices(held)
            or (unreachable({place.node: state}) if (state := self._unheard(place)) else None)
        )

    def config_key(self, place: PipelineNode) -> str:
        """Key of the DataplaneConfig."""
        return f"{self._namespace}/{config_name(place.pipeline, place.node)}"

    def network(self, key: str) -> tuple[Spread, bool]:
        """Where the network is, and whether that will be another answer without any news."""
        missing = self._first_unwritten(self._slices[key])
        programmed: set[str] = set()
        unheard: dict[str, State] = {}
        lacking: dict[str, Verdict] = {}
        late = False
        if not missing and self._written.get(key, 0.0) == _NOW:
            self._written[key] = self._clock()
        for config in sorted(self._configs[key]):
            place = _pipeline_node(self._wanted[DATAPLANE_CONFIGS, config])
            name = f"{place.node} of {place.pipeline}"
            verdict, passing = self._at(key, config)
            late |= passing
            if state := self._unheard(place):
                unheard[name] = state
            elif verdict:
                lacking[name] = verdict
            else:
                programmed.add(name)
        return Spread(frozenset(programmed), lacking, unheard, missing), late

    def _at(self, network: str, config: str) -> tuple[Verdict | None, bool]:
        """What the node lacks of the network; whether what it has counts for some seconds only."""
        missing = self._not_in_config(config, "networks", network)
        if missing:
            return missing, False
        found = self.agents.network(config, network)
        if isinstance(found, str):
            return Verdict(ConditionStatus.UNKNOWN, "Pending", found), False
        if found.reason:
            return Verdict(ConditionStatus.FALSE, found.reason, found.message), False
        written = self._written.get(network, 0.0)
        # An agent that cannot tell has in its engine what it has seen.
        replaced = (
            self._routes.replaced(network, found.digest) if found.digest is not None else _NOW
        )
        if replaced is None or replaced <= written:
            message = "its engine does not have the newest routes yet"
            return Verdict(ConditionStatus.UNKNOWN, "Pending", message), False
        return None, replaced < _NOW

    def _unheard(self, place: PipelineNode) -> State | None:
        """What is known of a node of which nothing is heard."""
        state = self.states.get(place)
        return state if state and not state.reachable else None

    def pipeline(self, name: str, nodes: Iterable[str]) -> tuple[dict[str, str], dict[str, State]]:
        """Which of the nodes do not forward as the Pipeline now is, and why; who is not alive."""
        silent = {}
        for node in nodes:
            config = self.config_key(PipelineNode(name, node))
            missing = self._not_in_config(config)
            why = missing.message if missing else self.agents.silence(config)
            if why is not None:
                silent[node] = why
        states = {pn.node: state for pn, state in self.states.items() if pn.pipeline == name}
        return silent, states

    def late_in(self, name: str, nodes: Iterable[str]) -> float | None:
        """Seconds until the first agent of the Pipeline is late; None: none is to be."""
        found = (self.agents.late_in(self.config_key(PipelineNode(name, node))) for node in nodes)
        return min((left for left in found if left), default=None)

    def networks_in(self, kind: Kind, key: str) -> frozenset[str]:
        """The networks of a wanted output."""
        return _networks(self._wanted.get((kind, key)))

    def slices_of(self, network: str) -> frozenset[str]:
        """Keys of the wanted RouteSlices of the network."""
        return frozenset(self._slices.get(network, ()))

    def interfaces_in(self, kind: Kind, key: str) -> frozenset[str]:
        """What a wanted output names: namespace/name, or in a RouteSlice underlay addresses."""
        spec = part(self._wanted.get((kind, key)), "spec")
        if kind is DATAPLANE_CONFIGS:
            return frozenset(_entries(spec, "interfaces"))
        return frozenset().union(*map(_addresses, items(spec.get("routes"))))

    def _not_in_config(self, config: str, name: str = "", key: str = "") -> Verdict | None:
        """Whether an entry (or, without a name, all else) of a config is not as it is wanted."""
        output = DATAPLANE_CONFIGS, config
        if output not in self._unwritten:
            return None
        wanted, there = part(self._wanted[output], "spec"), self._cache.get(*output)
        found = part(there, "spec")
        if name:
            entry = _entries(wanted, name).get(key)
            same = entry is not None and objects.covers(_entries(found, name).get(key), entry)
        else:
            same = objects.covers(
                found, {field: value for field, value in wanted.items() if field not in _LISTS}
            )
        return None if there and same else self._verdict(output)

    def _not_in_slices(self, held: InterfaceAllocation) -> Verdict | None:
        if not self._unwritten:
            return None
        return self._first_unwritten(
            key
            for key in self._slices[held.network]
            if (ROUTE_SLICES, key) in self._unwritten
            and self._lacks_routes_to(held.underlay_address or "", key)
        )

    def _lacks_routes_to(self, address: str, key: str) -> bool:
        """Whether the slice as it is there lacks a route to the address."""
        found = items(part(self._cache.get(ROUTE_SLICES, key), "spec").get("routes"))
        wanted = items(part(self._wanted[ROUTE_SLICES, key], "spec").get("routes"))
        return any(address in _addresses(route) and route not in found for route in wanted)

    def _first_unwritten(self, slices: Iterable[str]) -> Verdict | None:
        """The verdict on the first of the slices that is not written; the refused come first."""
        found = sorted(
            (not self._failures.get(output, ("", False))[1], output[1])
            for output in ((ROUTE_SLICES, key) for key in slices)
            if output in self._unwritten
        )
        return self._verdict((ROUTE_SLICES, found[0][1])) if found else None

    def _verdict(self, output: Output) -> Verdict:
        why, refused = self._failures.get(output, ("", False))
        return unwritten(f"{output[0].name} {output[1]}", why, refused=refused)


_LISTS = ("interfaces", "networks")


def _entries(spec: Json, name: str) -> Mapping[str, Json]:
    found = map(mapping, items(spec.get(name)))
    return {key_of({"metadata": entry}): entry for entry in found}


def _networks(output: Json | None) -> frozenset[str]:
    """The network of a RouteSlice, or those of a DataplaneConfig."""
    spec = part(output, "spec")
    network = text(spec.get("network"))
    return frozenset((network,)) if network else frozenset(_entries(spec, "networks"))


def _addresses(route: JsonValue) -> frozenset[str]:
    """The underlay addresses that a route of a slice leads to."""
    hops = items(mapping(route).get("nextHops"))
    return frozenset(text(mapping(hop).get("underlayAddress")) for hop in hops)


def _pipeline_node(config: Json) -> PipelineNode:
    spec = part(config, "spec")
    return PipelineNode(text(spec.get("pipelineName")), text(spec.get("nodeName")))
