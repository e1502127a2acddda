# SPDX-License-Identifier: Apache-2.0
"""The compiler: objects in, DataplaneConfigs and RouteSlices out; what did not change is kept.

A flush goes through the dirty owners in a fixed order, whatever the order of the upserts:

1. keep: give back what is no longer wanted;
2. claim what users gave: Pipelines on nodes, networks, Interfaces; each by age, then by key;
3. allocate what they left open, in the same order;
4. write the slices and the configs that this touched.

Who holds a value keeps it; so what was compiled before is compiled the same again.

An exception that nobody expected is its own object's problem: what was compiled of that stays, and
the next flush tries again.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Container, Iterable, Mapping, Set
from dataclasses import dataclass, field, replace
from itertools import groupby
from operator import itemgetter
from typing import Literal, TypeAlias, TypeVar

from headrace_api import (
    NEW_FEATURES,
    SEVERAL_UNDERLAY_PREFIXES,
    SYSTEM_NAMESPACE,
    Interface,
    InterfaceSpec,
    Json,
    Namespace,
    Node,
    Object,
    Objects,
    Pipeline,
    PipelineSpec,
    Pod,
    Problem,
    UnderlayEndpoint,
    VirtualNetwork,
    VirtualNetworkSpec,
    config_name,
)
from headrace_api.dataplane_config import NODE_NETWORKS

from . import claims, interface, network, nodes
from .addresses import host_prefix, node_number, subnet_ranges
from .allocations import (
    Allocations,
    InterfaceAllocation,
    NetworkAllocation,
    NodeAllocation,
    Rest,
)
from .carried import Carried
from .claims import Claims, Owner, OwnerKind
from .config import compiled_network, dataplane_config, networks_of, place_of
from .endpoints import Endpoints
from .failures import Failures, Subject, subject
from .nodes import pn_key, pn_parts
from .outcome import Fault, problem
from .quota import Quota
from .routing import Routing
from .store import Entry, Place, Store, namespace_of, network_key

_EMPTY = Allocations()
#: What rests after its release, by the kind of a Rest.
_RESTING: dict[Literal["vni", "node"], claims.Space] = {"vni": network.VNIS, "node": nodes.NODES}

Key = TypeVar("Key")
Name = TypeVar("Name")
Value = TypeVar("Value")

#: What was looked at.
_Subjects: TypeAlias = set[Subject]


@dataclass(frozen=True, slots=True)
class Compilation:
    """The whole result."""

    configs: dict[str, Json]
    """DataplaneConfig objects by name."""
    slices: dict[str, Json]
    """RouteSlice objects by name."""
    allocations: Allocations
    problems: tuple[Problem, ...]
    """Sorted."""
    traces: dict[Subject, str] = field(default_factory=dict)
    """Tracebacks by the object that an unexpected exception stopped."""


@dataclass(slots=True)
class Changes:
    """What one flush changed. None stands for something that is gone."""

    configs: dict[str, Json | None] = field(default_factory=dict)
    """DataplaneConfig objects by name."""
    slices: dict[str, Json | None] = field(default_factory=dict)
    """RouteSlice objects by name."""
    vnis: dict[str, int | None] = field(default_factory=dict)
    """Network -> VNI."""
    nodes: dict[tuple[str, str], NodeAllocation | None] = field(default_factory=dict)
    """(Pipeline, node) -> what it has there."""
    interfaces: dict[str, InterfaceAllocation | None] = field(default_factory=dict)
    """Interface -> what it has."""
    problems: dict[tuple[str, str], tuple[Problem, ...]] = field(default_factory=dict)
    """(kind, key) of every object looked at again -> what is wrong with it now; empty: nothing."""
    traces: dict[Subject, str] = field(default_factory=dict)
    """Tracebacks, new ones, by the object that an unexpected exception stopped."""


@dataclass(frozen=True, slots=True)
class Start:
    """The result of a first flush."""

    compiler: "Compiler"
    changes: Changes
    held: Mapping[Subject, tuple[Problem, ...]]
    """What goes on by what was compiled before, as this release fails with it, and how."""


class Compiler:
    """Compiles incrementally: upsert and delete objects, then flush. Not thread-safe.

    The allocations are those of all objects: upsert all of them before the first flush, or
    what the missing ones have is given back.
    """

    def __init__(
        self,
        allocations: Allocations = _EMPTY,
        namespace: str = SYSTEM_NAMESPACE,
        sockets: str | None = None,
    ) -> None:
        """`sockets` is where every Interface has a directory, and may have its socket there alone.

        None: SOCKETS_DIRECTORY, and an Interface may have its socket anywhere.
        """
        self._sockets = sockets
        self._namespace = namespace
        self._store = Store()
        self._claims = Claims()
        self._routing = Routing(namespace)
        self._endpoints = Endpoints(self._store)
        self._quota = Quota()
        self._dirty: dict[OwnerKind, set[str]] = {"pn": set(), "net": set(), "ifc": set()}
        self._dirty_configs: set[str] = set()
        self._now = 0

        # What is held, by owners that are accepted and by others.
        self._pns: dict[str, NodeAllocation] = {}
        self._vnis: dict[str, int] = {}
        self._records: dict[str, InterfaceAllocation] = {}

        # (kind, key) of what exists and cannot be read.
        self._unread: set[Subject] = set()
        self._carried = Carried()
        self._failures = Failures()
        # Of an earlier run, and not looked at yet.
        self._inherited: set[str] = set()
        # What is compiled of a Pipeline on a node, and what an accepted Interface has.
        self._running: dict[str, PipelineSpec] = {}
        self._stood: dict[str, InterfaceAllocation] = {}

        # What agents do not understand: feature -> pns.
        self._unaware: dict[str, set[str]] = {feature: set() for feature in NEW_FEATURES}

        # What is accepted: pn -> its /64; network -> its VNI; Interface.
        self._ready_pns: dict[str, str] = {}
        self._ready_vnis: dict[str, int] = {}
        self._accepted: dict[str, interface.Accepted] = {}
        self._members: defaultdict[str, set[str]] = defaultdict(set)
        self._present: defaultdict[str, Counter[str]] = defaultdict(Counter)

        # Pipelines on nodes that are dead, and the /64s of those that were when last written.
        self._unreachable: frozenset[tuple[str, str]] = frozenset()
        self._left_out: dict[str, int] = {}

        # (kind, key) -> where it was found (a node, "routes") -> what is wrong.
        self._faults: dict[tuple[str, str], dict[str, tuple[Fault, ...]]] = {}
        self._configs: dict[str, Json] = {}
        # pn -> networks for which there is no room.
        self._beyond: dict[str, set[str]] = {}
        # pn -> networks whose entry there is as it was, by an unexpected exception.
        self._broken: dict[str, set[str]] = {}
        self._install(allocations)

    def _install(self, allocations: Allocations) -> None:
        for pipeline, per_node in sorted(allocations.nodes.items()):
            for node, pn_record in sorted(per_node.items()):
                key = pn_key(pipeline, node)
                self._pns[key] = pn_record
                nodes.install(self._claims, key, pn_record)
        for key, net_record in sorted(allocations.networks.items()):
            self._vnis[key] = net_record.vni
            network.install(self._claims, key, net_record.vni)
            self._routing.install(key, net_record.slices)
        for key, record in sorted(allocations.interfaces.items()):
            self._records[key] = record
            interface.install(self._claims, key, record)
        for rest in allocations.resting:
            kind: OwnerKind = "net" if rest.kind == "vni" else "pn"
            laid = claims.Rest(Owner(kind, rest.owner), rest.since)
            self._claims.lay(_RESTING[rest.kind], rest.value, laid)
        for feature, keys in self._unaware.items():
            unaware = allocations.unaware.get(feature, {})
            keys |= {pn_key(name, node) for name, found in unaware.items() for node in found}
        self._dirty = {"pn": {*self._pns}, "net": {*self._vnis}, "ifc": {*self._records}}
        self._inherited = {*self._pns}

    # Input

    def hold(self, kind: str, key: str) -> None:
        """Let an object that cannot be read keep what it has, until it is upserted or deleted.

        For the time before the first flush: later it is what it was when it could be read.
        """
        self._unread.add((kind, key))

    def carry(self, configs: Iterable[Json], slices: Iterable[Json]) -> None:
        """Let what is held go on as it was compiled, by these raw DataplaneConfigs and RouteSlices.

        For the time before the first flush, with everything held and upserted.
        """
        if not self._unread:
            return
        self._carried.take(
            configs, slices, lambda kind, key: (kind, key) in self._unread, self._vnis
        )
        for key in {*self._carried.networks, *self._carried.slices} & self._vnis.keys():
            self._ready_vnis[key] = self._vnis[key]
            self._routing.carry(key, self._carried.slices[key])

    def _carry(self, key: str) -> interface.Accepted | None:
        """What the Interface was, if that goes on."""
        found = self._carried.interfaces.get(key)
        record = self._records.get(key)
        if found is None or self._ready_vnis.get(found.network) != found.compiled["vni"]:
            return None
        if record is None or record.underlay_address != found.underlay:
            return None
        pipeline = pn_parts(found.pn)[0]
        if ("Pipeline", pipeline) not in self._unread:
            if found.pn not in self._ready_pns:
                return None
            if not {("Interface", key), ("VirtualNetwork", found.network)} & self._unread:
                return None
        spec = self._store.interface(key)
        if ("Interface", key) in self._unread:
            return found
        there = spec and (
            network_key(key, spec),
            pn_key(spec.pipeline_ref.name, spec.node_name or ""),
        )
        return found if there == (found.network, found.pn) else None

    def _release(self, kind: str, key: str) -> None:
        if (kind, key) not in self._unread:
            return
        self._unread.remove((kind, key))
        self._carried.drop(kind, key)
        match kind:
            case "Pipeline":
                self._dirty["pn"] |= {pn for pn in self._pns if pn_parts(pn)[0] == key}
                self._dirty["ifc"] |= self._store.by_pipeline[key]
            case "VirtualNetwork":
                self._dirty["net"].add(key)
                self._dirty["ifc"] |= self._store.by_network[key]
                self._routing.drop(key)
                self._touch(key)
            case "Interface":
                self._dirty["ifc"].add(key)

    def _is_held(self, owner: Owner) -> bool:
        return subject(owner) in self._unread

    def upsert(self, item: Object) -> None:
        """Put an object, or replace the one of its key. An equal one changes nothing."""
        self._release(item.kind, item.key)
        match item:
            case VirtualNetwork():
                metadata = item.metadata
                entry = Entry(metadata.creation_timestamp, item.spec, labels=metadata.labels)
                self._put_network(item.key, entry)
            case UnderlayEndpoint():
                created = item.metadata.creation_timestamp
                self._endpoints.put(item.key, Entry(created, item.spec))
            case Interface():
                spec = interface.placed(item.key, item.spec, self._sockets)
                created, uid = item.metadata.creation_timestamp, item.metadata.uid
                self._put_interface(item.key, Entry(created, spec, uid))
            case Pipeline():
                self._put_pipeline(item.key, Entry(item.metadata.creation_timestamp, item.spec))
            case Node():
                self._put_node(item.key, item.metadata.labels)
            case Pod():
                self._put_pod(item.key, Place(item.node, item.completed))
            case Namespace():
                self._put_namespace(item.key, item.metadata.labels)

    def delete(self, kind: str, key: str) -> None:
        """Remove an object by kind and key (namespace/name, or name); unknown ones are ignored."""
        self._release(kind, key)
        match kind:
            case "VirtualNetwork":
                self._put_network(key, None)
            case "Interface":
                self._put_interface(key, None)
            case "Pipeline":
                self._put_pipeline(key, None)
            case "Node":
                self._put_node(key, None)
            case "Pod":
                self._put_pod(key, None)
            case "Namespace":
                self._put_namespace(key, None)
            case "UnderlayEndpoint":
                self._endpoints.put(key, None)
                self._faults.pop((kind, key), None)
            case _:
                raise ValueError(f"the compiler reads no {kind}")

    def set_unreachable(self, nodes_of: Set[tuple[str, str]]) -> None:
        """Leave next hops on these (Pipeline, node) out, wherever a route has others."""
        self._unreachable = frozenset(nodes_of)

    def _put_network(self, key: str, entry: Entry[VirtualNetworkSpec] | None) -> None:
        old = self._store.networks.get(key)
        if old == entry:
            return
        _put(self._store.networks, key, entry)
        self._dirty["net"].add(key)
        self._routing.resolve([key])
        self._endpoints.look_at([key])
        most = len(entry.spec.routes) if entry else 0
        self._wake(self._quota.shrink(Owner("net", key), most))
        if old and entry and network.same_but_routes(old.spec, entry.spec):
            return
        self._dirty["ifc"] |= self._store.by_network[key]
        # A gateway that moved frees its old address.
        self._wake(self._claims.reconsider(interface.address_space(key)))
        self._touch(key)

    def _put_pipeline(self, name: str, entry: Entry[PipelineSpec] | None) -> None:
        if self._store.pipelines.get(name) == entry:
            return
        _put(self._store.pipelines, name, entry)
        self._endpoints.pipelines_changed()
        held = {key for key in self._pns if pn_parts(key)[0] == name}
        self._dirty["pn"] |= held | {pn_key(name, node) for node in self._store.nodes}
        self._dirty["ifc"] |= self._store.by_pipeline[name]
        self._wake(self._quota.reconsider())

    def _put_node(self, name: str, labels: Mapping[str, str] | None) -> None:
        if self._store.nodes.get(name) == labels:
            return
        _put(self._store.nodes, name, None if labels is None else dict(labels))
        self._dirty["pn"] |= {pn_key(pipeline, name) for pipeline in self._store.pipelines}
        self._dirty["ifc"] |= self._store.by_node[name]

    def _put_namespace(self, name: str, labels: Mapping[str, str] | None) -> None:
        if self._store.namespaces.get(name) == labels:
            return
        _put(self._store.namespaces, name, None if labels is None else dict(labels))
        self._dirty["ifc"] |= self._store.by_namespace[name]
        self._endpoints.namespace_changed(name)
        self._wake(self._quota.reconsider(name))

    def _put_interface(self, key: str, entry: Entry[InterfaceSpec] | None) -> None:
        if self._store.put_interface(key, entry):
            self._dirty["ifc"].add(key)

    def _put_pod(self, key: str, place: Place | None) -> None:
        if self._store.pods.get(key) == place:
            return
        _put(self._store.pods, key, place)
        for interface_key in tuple(self._store.by_pod.get(key, ())):
            self._put_interface(interface_key, self._store.interfaces[interface_key])
            # What is wrong with it may be something else now.
            self._dirty["ifc"].add(interface_key)

    def agent(self, pipeline: str, node: str, features: Iterable[str] | None) -> bool:
        """Hear what the agent of a Pipeline on a node understands; None: it has said nothing yet.

        Returns whether that is news.
        """
        key = pn_key(pipeline, node)
        before = {feature for feature, keys in self._unaware.items() if key in keys}
        lacking = set() if features is None else self._unaware.keys() - {*features}
        for feature in before ^ lacking:
            self._unaware[feature] ^= {key}
        if before == lacking:
            return False
        self._dirty["pn"].add(key)
        self._dirty["ifc"] |= self._store.by_pipeline[pipeline] & self._store.by_node[node]
        return True

    def unaware(self, feature: str, pipeline: str) -> tuple[str, ...]:
        """Nodes of the Pipeline whose agents do not understand a feature."""
        held = sorted(pn_parts(key) for key in self._unaware[feature] if key in self._pns)
        return tuple(node for name, node in held if name == pipeline)

    def usage(self, key: str) -> interface.Usage | None:
        """How full the network is; None: there is none, or it is not accepted."""
        spec = self._store.network(key)
        if spec is None or key not in self._ready_vnis:
            return None
        count = self._present[key].total() if key in self._present else 0
        return interface.usage(self._claims, key, spec, count)

    def resting(self) -> tuple[Rest, ...]:
        """What nobody gets yet, sorted."""
        return tuple(
            sorted(
                Rest(kind, int(value), rest.owner.key, rest.since)
                for kind, space in _RESTING.items()
                for value, rest in self._claims.resting(space).items()
            )
        )

    def free(self, before: int) -> bool:
        """Let what was released before that second be given out again, as no node uses it.

        Returns whether somebody waited for it.
        """
        woken = {each for space in _RESTING.values() for each in self._claims.free(space, before)}
        self._wake(woken)
        return bool(woken)

    # Output

    def flush(self, now: int = 0) -> Changes:
        """Compile what changed since the last flush; `now` is in seconds since 1970."""
        self._now = now
        changes = Changes()
        looked_at: _Subjects = set()
        self._wake(self._failures.turn())
        self._keep(changes)
        self._claim(changes, looked_at)
        while self._left():
            # For those who waited for routes that a network had.
            self._claim(changes, looked_at)
        self._write_configs(changes, looked_at)
        changes.problems = {each: self._problems(each) for each in sorted(looked_at)}
        changes.traces = self._failures.news()
        return changes

    def allocations(self) -> Allocations:
        """All that is held now: a snapshot, sorted."""
        per_pipeline: dict[str, dict[str, NodeAllocation]] = {}
        for key in sorted(self._pns):
            pipeline, node = pn_parts(key)
            per_pipeline.setdefault(pipeline, {})[node] = self._pns[key]
        return Allocations.model_construct(
            networks={
                key: NetworkAllocation(self._vnis[key], self._routing.placement(key))
                for key in sorted(self._vnis)
            },
            nodes=per_pipeline,
            interfaces={key: self._records[key] for key in sorted(self._records)},
            resting=self.resting(),
            unaware={
                feature: {
                    name: tuple(node for _, node in found)
                    for name, found in groupby(map(pn_parts, sorted(keys)), itemgetter(0))
                }
                for feature, keys in self._unaware.items()
                if keys
            },
        )

    def failed(self) -> set[Subject]:
        """What the last flush failed with that had something before it, but for Pipelines."""
        had: dict[OwnerKind, Container[str]] = {"net": self._vnis, "ifc": self._records, "pn": ()}
        return {subject(each) for each in self._failures.owners() if each.key in had[each.kind]}

    def is_stuck(self, pipeline: str, node: str) -> bool:
        """Whether the last flush failed with the Pipeline on the node."""
        return Owner("pn", pn_key(pipeline, node)) in self._failures

    def traces(self) -> dict[Subject, str]:
        """Tracebacks by the object that the last flush failed with."""
        return self._failures.traces()

    def snapshot(self) -> Compilation:
        """The whole result as of the last flush."""
        return Compilation(
            configs={config_name(*pn_parts(pn)): self._configs[pn] for pn in sorted(self._configs)},
            slices=self._routing.slices(),
            allocations=self.allocations(),
            problems=tuple(
                sorted(found for each in self._faults for found in self._problems(each))
            ),
            traces=self.traces(),
        )

    def _claim(self, changes: Changes, looked_at: _Subjects) -> None:
        """Steps 2 and 3, and the RouteSlices."""
        while self._left():
            self._claim_nodes(changes, looked_at)
            self._claim_networks(changes, looked_at)
            self._claim_interfaces(changes, looked_at)
        for key in self._carried.interfaces:
            if ("Interface", key) in self._unread:
                self._accept(key, self._carry(key))
        self._leave_out()
        self._look_at_endpoints(looked_at)
        written = self._routing.write(
            self._store.network,
            self._ready_vnis,
            self._endpoint,
            self._endpoints.admitted,
            self._admit,
        )
        changes.slices |= written.slices
        for key, faults in written.faults.items():
            self._set_faults(("VirtualNetwork", key), "routes", faults, looked_at)
        for key, error in written.failed.items():
            faults = self._failures.add(Owner("net", key), error)
            self._set_faults(("VirtualNetwork", key), "routes", faults, looked_at)
        for key in written.touched:
            self._touch(key)

    def _left(self) -> bool:
        """Whether somebody is to be looked at, maybe for what another took or gave back."""
        self._wake(self._claims.overtaken())
        return any(self._dirty.values())

    # 1. Keep

    def _keep(self, changes: Changes) -> None:
        done: set[Owner] = set()
        # Pipelines first: an Interface keeps its address only inside the /64 that stays.
        while todo := [
            owner
            for kind, keys in self._dirty.items()
            for owner in (Owner(kind, key) for key in keys)
            if owner not in done
        ]:
            for owner in todo:
                done.add(owner)
                try:
                    self._wake(self._keep_one(owner, changes))
                except Exception as error:  # one object's fault must stop no other
                    self._failures.add(owner, error)

    def _keep_one(self, owner: Owner, changes: Changes) -> set[Owner]:
        key = owner.key
        if self._is_held(owner):
            return set()
        if owner.kind == "pn" and key in self._pns:
            held, woken = nodes.keep(self._store, self._claims, key, self._pns[key], self._now)
            _record(self._pns, key, held, changes.nodes, pn_parts(key))
        elif owner.kind == "net" and key in self._vnis:
            vni = network.keep(self._store, self._claims, key, self._vnis[key], self._now)
            _record(self._vnis, key, vni, changes.vnis, key)
            woken = set()
        elif owner.kind == "ifc" and key in self._records:
            spec = self._store.interface(key)
            pn = None
            if spec and spec.node_name:
                pn = self._pns.get(pn_key(spec.pipeline_ref.name, spec.node_name))
            prefix = pn.underlay_prefix if pn else None
            stays, woken = interface.keep(
                self._store, self._claims, key, self._records[key], prefix
            )
            _record(self._records, key, stays, changes.interfaces, key)
        else:
            return set()
        return woken

    def _wake(self, owners: Iterable[Owner]) -> None:
        for owner in owners:
            self._dirty[owner.kind].add(owner.key)
            if owner.kind == "net":
                self._routing.resolve([owner.key])

    # 2. and 3. Claim

    def _take_dirty(self, kind: OwnerKind) -> list[str]:
        """The dirty owners of the kind by age, then by key; clean from now on."""
        dirty, self._dirty[kind] = self._dirty[kind], set()
        keys = [key for key in dirty if not self._is_held(Owner(kind, key))]
        return sorted(keys, key=lambda key: (self._store.created(kind, key), key))

    def _claim_nodes(self, changes: Changes, looked_at: _Subjects) -> None:
        for key in self._take_dirty("pn"):
            pipeline, node = pn_parts(key)
            owner, record = Owner("pn", key), self._pns.get(key)
            # What it was: of one that an earlier run had, what that gave it.
            prefix = self._ready_pns.get(key)
            if key in self._inherited and record:
                self._inherited.discard(key)
                prefix = record.underlay_prefix
            faults = self._failures.faults(owner)
            if not faults:
                try:
                    record, faults = nodes.claim(self._store, self._claims, key, record)
                    _record(self._pns, key, record, changes.nodes, (pipeline, node))
                    prefix = record.underlay_prefix if record and not faults else None
                    _put(self._running, key, self._store.pipeline(pipeline) if prefix else None)
                except Exception as error:  # one object's fault must stop no other
                    faults = self._failures.add(owner, error)
            if self._store.pipeline(pipeline) is None or node not in self._store.nodes:
                prefix, faults = None, ()
            self._set_faults(("Pipeline", pipeline), node, faults, looked_at)
            if self._ready_pns.get(key) != prefix:
                _put(self._ready_pns, key, prefix)
                self._dirty["ifc"] |= self._store.by_pipeline[pipeline] & self._store.by_node[node]
            self._dirty_configs.add(key)

    def _claim_networks(self, changes: Changes, looked_at: _Subjects) -> None:
        todo = self._take_dirty("net")
        faults = {key: self._failures.faults(Owner("net", key)) for key in todo}
        for claim in (network.claim_given, network.claim_any):
            for key in todo:
                spec = self._store.network(key)
                if spec is None or faults[key]:
                    continue
                try:
                    subnet_ranges(spec)
                    if key not in self._vnis:
                        vni, faults[key] = claim(self._claims, key, spec)
                        _record(self._vnis, key, vni, changes.vnis, key)
                except Exception as error:  # one object's fault must stop no other
                    faults[key] = self._failures.add(Owner("net", key), error)
        for key in todo:
            self._remember_own_routes(key)
            there = key in self._store.networks
            self._set_faults(("VirtualNetwork", key), "", faults[key] if there else (), looked_at)
            vni = self._vnis.get(key) if there and not faults[key] else None
            stood = self._ready_vnis.get(key)
            if there and stood and Owner("net", key) in self._failures:
                network.install(self._claims, key, stood)
                _record(self._vnis, key, stood, changes.vnis, key)
                vni = stood
            if vni is None:
                self._wake(self._quota.shrink(Owner("net", key), 0))
            if self._ready_vnis.get(key) != vni:
                _put(self._ready_vnis, key, vni)
                self._dirty["ifc"] |= self._store.by_network[key]
                self._routing.network_changed(key)
                self._touch(key)

    def _claim_interfaces(self, changes: Changes, looked_at: _Subjects) -> None:
        todo = self._take_dirty("ifc")
        contexts: dict[str, interface.Context] = {}
        faults: dict[str, tuple[Fault, ...]] = {}
        self._remember_routes(todo)
        for key in todo:
            spec = self._store.interface(key)
            if spec is None:
                continue
            faults[key] = self._failures.faults(Owner("ifc", key))
            if faults[key]:
                continue
            try:
                found, faults[key] = self._claim_given(key, spec)
            except Exception as error:  # one object's fault must stop no other
                found, faults[key] = None, self._failures.add(Owner("ifc", key), error)
            if found is not None:
                contexts[key] = found
        for key in todo:
            accepted = None
            if key in contexts:
                spec, uid = self._store.interfaces[key].spec, self._store.interfaces[key].uid
                try:
                    record, faults[key] = interface.claim_any(
                        self._claims, key, spec, uid, contexts[key], self._records.get(key)
                    )
                    _record(self._records, key, record, changes.interfaces, key)
                    if not faults[key]:
                        created = self._store.interfaces[key].created
                        accepted = interface.accept(key, spec, contexts[key], record, created)
                        self._stood[key] = record
                except Exception as error:  # one object's fault must stop no other
                    faults[key] = self._failures.add(Owner("ifc", key), error)
            self._set_faults(("Interface", key), "", faults.get(key, ()), looked_at)
            self._accept(key, accepted or self._carry(key) or self._stay(key, changes))
            if key not in self._records:
                self._wake(self._quota.shrink(Owner("ifc", key), 0))

    def _stay(self, key: str, changes: Changes) -> interface.Accepted | None:
        """What the Interface was before this flush failed with it, if that can go on."""
        found, record = self._accepted.get(key), self._stood.get(key)
        if found is None or record is None or Owner("ifc", key) not in self._failures:
            return None
        if self._store.interface(key) is None or found.pn not in self._ready_pns:
            return None
        if self._ready_vnis.get(found.network) != found.compiled["vni"]:
            return None
        if not interface.install(self._claims, key, record):
            return None
        _record(self._records, key, record, changes.interfaces, key)
        return found

    def _claim_given(
        self, key: str, spec: InterfaceSpec
    ) -> tuple[interface.Context | None, tuple[Fault, ...]]:
        """What the Interface refers to, once all that its user gave is taken; or why not."""
        found = interface.refer(self._store, key, spec, self._ready_vnis, self._ready_pns)
        if isinstance(found, Fault):
            return None, (found,)
        wanted = interface.route_count(spec, found.network_spec)
        faults = self._too_many_routes(key, spec, found, wanted) or interface.claim_given(
            self._claims, key, spec, found, self._sockets
        )
        if faults:
            return None, faults
        self._wake(self._quota.hold(Owner("ifc", key), wanted))
        return found, ()

    def _remember_routes(self, interfaces: Iterable[str]) -> None:
        """Count what Interfaces had in an earlier run, before any that is new."""
        for key in interfaces:
            spec, record = self._store.interface(key), self._records.get(key)
            if spec is None or record is None or record.underlay_address is None:
                continue
            routes = (*map(host_prefix, record.addresses), *spec.prefixes)
            if self._routing.had(record.network, routes):
                self._quota.hold(Owner("ifc", key), len(routes))

    def _remember_own_routes(self, network: str) -> None:
        """Count those of the network's own routes that it had in an earlier run."""
        spec, owner = self._store.network(network), Owner("net", network)
        if spec and not self._quota.has(owner):
            had = [route for route in spec.routes if self._routing.had(network, [route.prefix])]
            self._quota.hold(owner, len(had))

    def _too_many_routes(
        self, key: str, spec: InterfaceSpec, context: interface.Context, wanted: int
    ) -> tuple[Fault, ...]:
        owner, limit = Owner("ifc", key), context.pipeline.limits.routes_per_namespace
        if wanted <= self._quota.room(owner, limit):
            return ()
        self._quota.wait(owner)
        message = (
            f"namespace {namespace_of(key)} has too many routes for the {wanted} that this"
            f" Interface would add: Pipeline {spec.pipeline_ref.name} takes {limit}: delete some,"
            " or have its spec.limits.routesPerNamespace raised"
        )
        return (Fault("spec.prefixes" if spec.prefixes else "", "RouteLimitExceeded", message),)

    def _admit(self, network: str, old: int, new: int) -> tuple[int, int | None]:
        """How many new routes of its own a network may have beside the old, and the limit."""
        owner = Owner("net", network)
        labels = self._store.namespace_labels(network)
        limits = (
            entry.spec.limits.routes_per_namespace
            for entry in self._store.pipelines.values()
            if entry.spec.admits(labels)
        )
        limit = min((each for each in limits if each is not None), default=None)
        admitted = min(old + new, max(old, self._quota.room(owner, limit)))
        self._wake(self._quota.hold(owner, int(admitted)))
        if admitted < old + new:
            self._quota.wait(owner)
        return int(admitted) - old, limit

    def _accept(self, key: str, accepted: interface.Accepted | None) -> None:
        old = self._accepted.get(key)
        if old == accepted:
            return
        if old:
            self._members[old.pn].discard(key)
            self._present[old.network][old.pn] -= 1
            self._dirty_configs.add(old.pn)
        if accepted:
            self._members[accepted.pn].add(key)
            self._present[accepted.network][accepted.pn] += 1
            self._dirty_configs.add(accepted.pn)
        else:
            self._stood.pop(key, None)
        _put(self._accepted, key, accepted)
        self._routing.interface_changed(key, old, accepted)

    def _endpoint(self, key: str) -> network.Endpoint | None:
        accepted = self._accepted.get(key)
        return network.Endpoint(accepted.network, accepted.underlay) if accepted else None

    # 4. Write

    def _look_at_endpoints(self, looked_at: set[tuple[str, str]]) -> None:
        changed, wrong = self._endpoints.flush()
        for key in changed:
            self._routing.resolve([key])
            self._touch(key)
            self._set_faults(
                ("VirtualNetwork", key), "endpoints", self._endpoints.faults(key), looked_at
            )
        for name, faults in wrong.items():
            self._set_faults(("UnderlayEndpoint", name), "", faults, looked_at)

    def _leave_out(self) -> None:
        """Have the routes written again whose next hops are on nodes that died or came back."""
        there = {
            pn: node_number(self._pns[pn].underlay_prefix)
            for pn in (pn_key(*each) for each in self._unreachable)
            if pn in self._pns
        }
        before, self._left_out = self._left_out, there
        turned = {pn for pn, _ in before.items() ^ there.items()}
        if turned:
            members = (key for pn in sorted(turned) for key in sorted(self._members[pn]))
            self._routing.set_unreachable(
                frozenset(there.values()), ((key, self._accepted[key]) for key in members)
            )

    def _touch(self, key: str) -> None:
        """Write the configs again that the network is in."""
        for name in self._routing.reaching(key):
            if name in self._present:
                self._dirty_configs |= (+self._present[name]).keys()

    def _write_configs(self, changes: Changes, looked_at: _Subjects) -> None:
        for pn in sorted(self._dirty_configs):
            pipeline, node = pn_parts(pn)
            try:
                item = self._config(pn, looked_at)
            except Exception as error:  # one node's fault must stop no other
                item = self._configs.get(pn)
                faults = self._failures.add(Owner("pn", pn), error)
                self._set_faults(("Pipeline", pipeline), node, faults, looked_at)
            if self._configs.get(pn) != item:
                _put(self._configs, pn, item)
                changes.configs[config_name(pipeline, node)] = item
        self._dirty_configs = {*self._broken}

    def _by_age(self, kind: OwnerKind, keys: Iterable[str]) -> list[str]:
        """Oldest first: where an engine has not room for all, the last that came are left out."""
        return sorted(keys, key=lambda key: (self._store.created(kind, key), key))

    def _networks(self, pn: str, members: Iterable[str], looked_at: _Subjects) -> list[str]:
        """The networks present there: those of its Interfaces, then those that these lead to."""
        own = {self._accepted[key].network for key in members}
        peers = self._routing.reached(own) - own
        found = [*self._by_age("net", own), *self._by_age("net", peers)]
        beyond = {*found[NODE_NETWORKS:]}
        message = (
            f"{' on '.join(pn_parts(pn))} there are {NODE_NETWORKS} networks already, as many as an"
            " engine takes: lead to fewer networks from those that have Interfaces there"
        )
        fault = Fault("", "NodeFull", message)
        for key in beyond | self._beyond.pop(pn, set()):
            faults = (fault,) if key in beyond else ()
            self._set_faults(("VirtualNetwork", key), f"on {pn}", faults, looked_at)
        if beyond:
            self._beyond[pn] = beyond
        return found[:NODE_NETWORKS]

    def _config(self, pn: str, looked_at: _Subjects) -> Json | None:
        prefix = self._ready_pns.get(pn)
        _, node = pn_parts(pn)
        spec = self._running.get(pn)
        if prefix is None or spec is None:
            self._networks(pn, (), looked_at)
            self._break(pn, {}, looked_at)
            return self._configs.get(pn) if prefix else None
        spec = spec.sized(spec.node_class(self._store.nodes[node]))
        members = self._by_age("ifc", self._members[pn])
        networks = self._entries(pn, self._networks(pn, members, looked_at), spec, looked_at)
        compiled = [self._accepted[key].compiled for key in members]
        return dataplane_config(
            pn,
            spec,
            prefix,
            networks,
            compiled,
            self._namespace,
            several=pn not in self._unaware[SEVERAL_UNDERLAY_PREFIXES],
        )

    def _entries(
        self, pn: str, keys: Iterable[str], spec: PipelineSpec, looked_at: _Subjects
    ) -> list[Json]:
        """The networks as a node has them; as it had them, where this flush fails with one."""
        entries = []
        broken: dict[str, tuple[Fault, ...]] = {}
        for key in keys:
            try:
                entries.append(self._network(pn, key, spec))
            except Exception as error:  # one object's fault must stop no other
                broken[key] = self._failures.add(Owner("net", key), error)
                entries += networks_of(self._configs.get(pn), key)
        self._break(pn, broken, looked_at)
        return entries

    def _break(
        self, pn: str, broken: Mapping[str, tuple[Fault, ...]], looked_at: _Subjects
    ) -> None:
        """Note the networks whose entry there is as it was."""
        for key in broken.keys() | self._broken.pop(pn, set()):
            faults = broken.get(key, ())
            self._set_faults(("VirtualNetwork", key), f"entry on {pn}", faults, looked_at)
        if broken:
            self._broken[pn] = {*broken}

    def _network(self, pn: str, key: str, spec: PipelineSpec) -> Json:
        """The network as a node has it."""
        if key not in self._store.networks:
            entries = self._carried.networks[key]
            return entries.get(pn) or next(iter(entries.values()))
        return compiled_network(
            key,
            self._store.networks[key].spec,
            self._ready_vnis[key],
            self._routing.numbers(key),
            spec,
            self._endpoints.addresses(key),
        )

    # Problems

    def _set_faults(
        self,
        subject: tuple[str, str],
        where: str,
        faults: tuple[Fault, ...],
        looked_at: _Subjects,
    ) -> None:
        looked_at.add(subject)
        known = self._faults.setdefault(subject, {})
        _put(known, where, faults or None)
        if not known:
            del self._faults[subject]

    def _problems(self, subject: tuple[str, str]) -> tuple[Problem, ...]:
        found = self._faults.get(subject, {}).values()
        return tuple(sorted({problem(*subject, fault) for faults in found for fault in faults}))


def start(
    made: Callable[[Set[Subject]], Compiler],
    configs: Collection[Json],
    slices: Collection[Json],
    now: int,
) -> Start:
    """Flush a Compiler for the first time: what it fails with goes on by what was compiled before.

    `made` gives a Compiler with all objects upserted, or held where they are named; again for each
    attempt. `configs` and `slices` are raw DataplaneConfigs and RouteSlices.
    """
    held: dict[Subject, tuple[Problem, ...]] = {}
    traces: dict[Subject, str] = {}
    while True:
        compiler = made(held.keys())
        compiler.carry(configs, slices)
        changes = compiler.flush(now)
        again = compiler.failed() - held.keys() if configs else set()
        traces = {**compiler.traces(), **traces}
        if not again:
            return Start(compiler, replace(changes, traces=traces), held)
        held |= {each: changes.problems.get(each, ()) for each in again}


def compile(  # noqa: A001 - the word for it; nobody compiles Python here
    objects: Objects,
    allocations: Allocations = _EMPTY,
    namespace: str = SYSTEM_NAMESPACE,
    sockets: str | None = None,
    now: int = 0,
    *,
    free: int = 0,
    unreachable: Set[tuple[str, str]] = frozenset(),
    before: Compilation | None = None,
) -> Compilation:
    """Compile all objects from scratch: a pure function of its arguments, which are a Compiler's.

    `now` is in seconds since 1970; what was released before `free` may be given out again.
    `before` is the last result, by which goes on what this release fails with.

    Give the allocations of the last result to the next compilation, and nothing moves. A broken
    object is left out and becomes a Problem; it never raises and hurts no other.
    """

    def made(held: Set[Subject]) -> Compiler:
        compiler = Compiler(allocations, namespace, sockets)
        compiler.set_unreachable(unreachable)
        for item in objects.all():
            if (item.kind, item.key) in held:
                compiler.hold(item.kind, item.key)
            else:
                compiler.upsert(item)
        compiler.free(free)
        return compiler

    first = start(
        made,
        [*before.configs.values()] if before else (),
        [*before.slices.values()] if before else (),
        now,
    )
    compiler = first.compiler
    found = compiler.snapshot()
    held = (each for problems in first.held.values() for each in problems)
    stuck = {
        name: item
        for name, item in (before.configs if before else {}).items()
        if compiler.is_stuck(*place_of(item))
    }
    return replace(
        found,
        configs={**stuck, **found.configs},
        problems=tuple(sorted((*found.problems, *held))),
        traces=first.changes.traces,
    )


def _put(table: dict[Key, Value], key: Key, value: Value | None) -> None:
    """Set, or remove when there is nothing."""
    if value is None:
        table.pop(key, None)
    else:
        table[key] = value


def _record(
    table: dict[Key, Value],
    key: Key,
    value: Value | None,
    changes: dict[Name, Value | None],
    name: Name,
) -> None:
    """Set what is held, and note it if it is another than before."""
    if table.get(key) != value:
        _put(table, key, value)
        changes[name] = value
