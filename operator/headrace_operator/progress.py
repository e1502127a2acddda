# SPDX-License-Identifier: Apache-2.0
"""How far compiled outputs have come: whether they are written, and in which engines they are.

Conditions are about what the API server holds and what engines report of it. What is desired and
not written, or written and not reported, is said to be so.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping

from pydantic import JsonValue

from headrace_api import (
    LISTS,
    ConditionStatus,
    Json,
    config_of_slice,
    entry_key,
    list_of,
    network_of,
    slice_revision,
    slices_named,
)
from headrace_api.raw import items, mapping, part, text
from headrace_compiler import InterfaceAllocation
from headrace_kube import DATAPLANE_CONFIGS, FORMER_CONFIGS, FORMER_SLICES, SLICES

from . import objects
from .agents import REPORT_TIMEOUT, Agents, ReportChanges
from .cache import Cache
from .desired import Desired
from .former import Former, seen
from .liveness import PipelineNode, State
from .render import NetworkProgress, Report, Verdict, unreachable, unwritten
from .route_digests import RouteDigests
from .sharding import Sharding
from .upgrade.convert import reverted
from .work import Work, config_of

#: When what is right now will be replaced: not yet.
_NOW = float("inf")


class Progress:
    """DataplaneConfigs and Slices on their way, and the agents that follow them."""

    def __init__(
        self,
        cache: Cache,
        desired: Desired,
        namespace: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`namespace` is that of the outputs, `clock` any steady clock, in seconds."""
        self.agents = Agents(clock)
        self.former = Former(cache)
        self.sharding = Sharding()
        self.states: Mapping[PipelineNode, State] = {}
        """What is known of whoever is not alive."""
        self._clock = clock
        self._cache = cache
        self._desired = desired
        self._namespace = namespace
        self._routes = RouteDigests(REPORT_TIMEOUT, clock)
        # Desired outputs that the API server does not hold as they are desired.
        self._unwritten: set[Work] = set()
        self._copied_slices: set[Work] = set()
        # Network -> desired objects that have it.
        self._slices: defaultdict[str, set[Work]] = defaultdict(set)
        self._configs: defaultdict[str, set[Work]] = defaultdict(set)
        # Network -> when all of its newest generation was written; infinity: not yet.
        self._written: dict[str, float] = {}

    # What happens

    def desire(self, work: Work, item: Json | None) -> frozenset[str]:
        """Desire a compiled output so, whole; returns the networks that it has or had."""
        had, has = self.networks_in(work), _networks(item)
        if copy := self.former.copy(work):
            self._copy(copy, item)
        if work.kind is DATAPLANE_CONFIGS:
            namespace, name = objects.name_of(work.key)
            item, slices = self.sharding.spread(name, item)
            for each, found in slices.items():
                self._put(Work(SLICES, f"{namespace}/{each}"), found)
        self._put(work, item)
        index = self._slices if work.kind is SLICES else self._configs
        for network in had - has:
            index[network].discard(work)
            if work.kind is SLICES:
                self._routes.put(network, objects.name_of(work.key)[1], None)
        for network in has:
            index[network].add(work)
        return had | has

    def _put(self, work: Work, item: Json | None) -> None:
        if item is None:
            self._desired.put(work, None)
        elif part(self._desired.get(work), "spec") != part(item, "spec"):
            self._desired.put_owned(work, item)
        self._unwritten.discard(work)
        self._compare(work, self._cache.get(work.kind, work.key))

    def _copy(self, copy: Work, item: Json | None) -> None:
        copied = reverted(item) if item else None
        if copied is None:
            self._desired.put(copy, None)
        else:
            self._desired.put_owned(copy, copied)
        self._unwritten.discard(copy)
        if copy.kind is FORMER_SLICES:
            (self._copied_slices.add if copied else self._copied_slices.discard)(copy)
        else:
            self._compare(copy, self._cache.get(copy.kind, copy.key))

    def observe(self, work: Work, found: Json | None) -> ReportChanges:
        """Take an output as the API server holds it; returns of whom something else is reported."""
        self._compare(work, found)
        config = self._config_of(work, found)
        if config is None:
            return ReportChanges(networks=_networks(found) or self.networks_in(work))
        if self.former.follows(config) is not (work.kind is FORMER_CONFIGS):
            return ReportChanges()
        return self._observe(config)

    def _observe(self, config: Work) -> ReportChanges:
        """Take a DataplaneConfig, or its copy, as it is now."""
        if copy := self.former.copy(config):
            found = self._cache.get(copy.kind, copy.key)
            return self.agents.observe(config, seen(found) if found else None)
        found = self._cache.get(config.kind, config.key)
        slices = ((name, self._slice_there(config, name)) for name in slices_named(found or {}))
        return self.agents.observe(config, found, {name: each for name, each in slices if each})

    def _slice_there(self, config: Work, name: str) -> Json | None:
        return self._cache.get(SLICES, self._slice(config, name).key)

    def _slice(self, config: Work, name: str) -> Work:
        """The Slice of this name beside the DataplaneConfig."""
        namespace, _ = objects.name_of(config.key)
        return Work(SLICES, f"{namespace}/{name}")

    def _config_of(self, work: Work, found: Json | None) -> Work | None:
        """The DataplaneConfig of which an output is all or a part; None: of none."""
        if work.kind is not SLICES:
            return work._replace(kind=DATAPLANE_CONFIGS)
        name = config_of_slice(found or self._desired.get(work) or {})
        return Work(DATAPLANE_CONFIGS, f"{objects.name_of(work.key)[0]}/{name}") if name else None

    def retire(self, config: Work) -> ReportChanges:
        """The agent of a DataplaneConfig is of this release, or nothing is copied for it.

        Returns of whom something else is reported.
        """
        self.former.retire(config)
        # Also what is not there (yet): it would be written.
        self._copy(config._replace(kind=FORMER_CONFIGS), None)
        if self.former.is_over:
            for copy in tuple(self._copied_slices):
                self._copy(copy, None)
        return self._observe(config)

    def applied(self, work: Work) -> None:
        """Take note that an output was written."""
        self._compare(work, self._cache.get(work.kind, work.key))

    def recompiled(self, network: str) -> None:
        """A new generation of the network is compiled: what was right before does not count."""
        self._written[network] = _NOW

    def forget(self, network: str) -> None:
        """The network is gone."""
        self._written.pop(network, None)

    def _compare(self, work: Work, found: Json | None) -> None:
        desired = self._desired.get(work)
        if desired is None:
            return
        if found and self._desired.is_written(work, found):
            self._unwritten.discard(work)
        else:
            self._unwritten.add(work)
        if work.kind is SLICES:
            name = objects.name_of(work.key)[1]
            revision = None
            if found:
                revision = slice_revision(name, objects.uid(found), objects.generation(found))
            if network := network_of(part(desired, "spec")):
                self._routes.put(network, name, revision)

    # How far it has come

    def interface(self, key: str, held: InterfaceAllocation) -> tuple[Report, Verdict | None]:
        """What is reported of the Interface, and why that does not count, if so."""
        place = PipelineNode(held.pipeline, held.node or "")
        config = config_of(self._namespace, place)
        return self.agents.interface(config, key), (
            self._not_in_config(config, "interfaces", key)
            or self._not_in_slices(held)
            or (unreachable({place.node: state}) if (state := self._unreachable(place)) else None)
        )

    def network(self, key: str) -> tuple[NetworkProgress, bool]:
        """Where the network is, and whether time alone makes that another answer."""
        missing = self._first_unwritten(self._slices[key])
        programmed: set[str] = set()
        unreached: dict[str, State] = {}
        lacking: dict[str, Verdict] = {}
        late = False
        if not missing and self._written.get(key, 0.0) == _NOW:
            self._written[key] = self._clock()
        for config in sorted(self._configs[key]):
            place = _pipeline_node(self._desired.get(config))
            name = f"{place.node} of {place.pipeline}"
            verdict, passing = self._at(key, config)
            late |= passing
            if state := self._unreachable(place):
                unreached[name] = state
            elif verdict:
                lacking[name] = verdict
            else:
                programmed.add(name)
        return NetworkProgress(frozenset(programmed), lacking, unreached, missing), late

    def _at(self, network: str, config: Work) -> tuple[Verdict | None, bool]:
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

    def _unreachable(self, place: PipelineNode) -> State | None:
        """What is known of a node whose agent does not report."""
        state = self.states.get(place)
        return state if state and not state.reachable else None

    def pipeline(self, name: str, nodes: Iterable[str]) -> tuple[dict[str, str], dict[str, State]]:
        """Which of the nodes do not forward as the Pipeline now is, and why; who is not alive."""
        failing = {}
        for node in nodes:
            config = config_of(self._namespace, (name, node))
            missing = self._not_in_config(config)
            why = missing.message if missing else self.agents.not_forwarding(config)
            if why is not None:
                failing[node] = why
        states = {pn.node: state for pn, state in self.states.items() if pn.pipeline == name}
        return failing, states

    def late_in(self, name: str, nodes: Iterable[str]) -> float | None:
        """Seconds until the first agent of the Pipeline is late; None: none is to be."""
        found = (self.agents.late_in(config_of(self._namespace, (name, node))) for node in nodes)
        return min((left for left in found if left), default=None)

    def is_acknowledged(self, networks: Iterable[str]) -> bool:
        """Whether every agent has its newest configuration and all routes of these networks.

        What an engine refuses of one tenant's network holds nobody else up.
        """
        return not any(
            self.agents.is_behind(Work(DATAPLANE_CONFIGS, key))
            for key, _ in self._cache.all(DATAPLANE_CONFIGS)
        ) and all(map(self._is_everywhere, networks))

    def _is_everywhere(self, network: str) -> bool:
        progress, passing = self.network(network)
        return not (progress.waits or passing)

    def networks_in(self, work: Work) -> frozenset[str]:
        """The networks of a desired output."""
        return self._entries_in(work, "networks") or _networks(self._desired.get(work))

    def interfaces_in(self, work: Work) -> frozenset[str]:
        """The Interfaces of a desired output."""
        return self._entries_in(work, "interfaces")

    def _entries_in(self, work: Work, name: str) -> frozenset[str]:
        """What a list of a DataplaneConfig, or of a Slice of it, is about."""
        if work.kind is SLICES:
            desired = self._desired.get(work) or {}
            return frozenset(_entries(desired, name)) if list_of(desired) == name else frozenset()
        return frozenset(self.sharding.entries(objects.name_of(work.key)[1], name))

    def parts(self, config: Work) -> Iterator[Work]:
        """The desired Slices of a DataplaneConfig."""
        names = self.sharding.slices(objects.name_of(config.key)[1])
        return (self._slice(config, name) for name in names)

    def networks_for(self, part_of_config: Work) -> Iterator[Work]:
        """The desired Slices with the networks of the Interfaces in a Slice."""
        config = self._config_of(part_of_config, None)
        if config is not None and list_of(self._desired.get(part_of_config) or {}) == "interfaces":
            entries = _entries(self._desired.get(part_of_config) or {}, "interfaces").values()
            for network in {text(entry.get("network")) for entry in entries}:
                yield self.holder(config, "networks", network)

    def holder(self, config: Work, name: str, key: str) -> Work:
        """The desired output that has an entry of a list of a DataplaneConfig."""
        found = self.sharding.slice_of(objects.name_of(config.key)[1], name, key)
        return self._slice(config, found) if found else config

    def slices_of(self, network: str) -> frozenset[Work]:
        """The desired Slices of the network."""
        return frozenset(self._slices.get(network, ()))

    def addresses_in(self, route_slice: Work) -> frozenset[str]:
        """The underlay addresses that a desired Slice names."""
        routes = items(part(self._desired.get(route_slice), "spec").get("entries"))
        return frozenset().union(*map(_addresses, routes))

    def _not_in_config(self, config: Work, name: str = "", key: str = "") -> Verdict | None:
        """Whether an entry (or, without a name, all else) of a config is not as it is desired."""
        copy = self.former.copy(config)
        return self._not_in(config, name, key) or (self._not_in(copy, name, key) if copy else None)

    def _not_in(self, config: Work, name: str, key: str) -> Verdict | None:
        is_copy = config.kind is FORMER_CONFIGS
        holder = self.holder(config, name, key) if name and not is_copy else config
        if self._unwritten.isdisjoint((holder, config)):
            return None
        desired, there = self._desired.get(holder), self._cache.get(holder.kind, holder.key)
        if not name:
            rest = {
                field: each for field, each in part(desired, "spec").items() if field not in _LISTS
            }
            same = objects.covers(part(there, "spec"), rest)
        else:
            entry = _entries(desired or {}, name).get(key)
            same = entry is not None and objects.covers(_entries(there or {}, name).get(key), entry)
        if not (there and same):
            return self._verdict(holder)
        named = slices_named(self._cache.get(config.kind, config.key) or {})
        is_named = holder is config or objects.name_of(holder.key)[1] in named
        return None if is_named else self._verdict(config)

    def _not_in_slices(self, held: InterfaceAllocation) -> Verdict | None:
        if not self._unwritten:
            return None
        return self._first_unwritten(
            each
            for each in self._slices[held.network]
            if each in self._unwritten and self._lacks_routes_to(held.underlay_address or "", each)
        )

    def _lacks_routes_to(self, address: str, route_slice: Work) -> bool:
        """Whether the slice as it is there lacks a route to the address."""
        there = self._cache.get(SLICES, route_slice.key)
        found = items(part(there, "spec").get("entries"))
        desired = items(part(self._desired.get(route_slice), "spec").get("entries"))
        return any(address in _addresses(route) and route not in found for route in desired)

    def _first_unwritten(self, slices: Iterable[Work]) -> Verdict | None:
        """The verdict on the first of the slices that is not written; the refused come first."""
        found = min(
            (each for each in slices if each in self._unwritten),
            key=lambda each: (not self._desired.is_refused(each), each.key),
            default=None,
        )
        return self._verdict(found) if found else None

    def _verdict(self, work: Work) -> Verdict:
        why, refused = self._desired.failure(work)
        return unwritten(str(work), why, refused=refused)


_LISTS = tuple(LISTS.values())


def _entries(output: Json, name: str) -> Mapping[str, Json]:
    """Entries of a list of a DataplaneConfig, by key: those of a Slice, or of a copied one."""
    spec = part(output, "spec")
    found = spec.get("entries") if list_of(output) == name else spec.get(name)
    return {entry_key(entry): mapping(entry) for entry in items(found)}


def _networks(output: Json | None) -> frozenset[str]:
    """The network of a Slice, or those of a whole DataplaneConfig."""
    found = network_of(part(output, "spec"))
    return frozenset((found,)) if found else frozenset(_entries(output or {}, "networks"))


def _addresses(route: JsonValue) -> frozenset[str]:
    """The underlay addresses that a route of a slice leads to."""
    hops = items(mapping(route).get("nextHops"))
    return frozenset(text(mapping(hop).get("underlayAddress")) for hop in hops)


def _pipeline_node(config: Json | None) -> PipelineNode:
    spec = part(config, "spec")
    return PipelineNode(text(spec.get("pipelineName")), text(spec.get("nodeName")))
