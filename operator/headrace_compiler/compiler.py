# SPDX-License-Identifier: Apache-2.0
"""The compiler: objects in; DataplaneConfigs, Slices, NodeStates out; what did not change is kept.

A flush goes through the dirty owners in a fixed order, whatever the order of the upserts:

1. keep: give back what is no longer wanted;
2. claim what users gave, kind by kind; each by age, then by key;
3. allocate what they left open, in the same order;
4. write the slices, configs and NodeStates that this touched.

Who holds a value keeps it; so what was compiled before is compiled the same again.

An exception that nobody expected is its own object's problem: what was compiled of that stays, and
the next flush tries again.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Set
from dataclasses import dataclass, field, replace
from typing import Literal

from headrace_api import SYSTEM_NAMESPACE, Json, Object, Objects, Problem

from .allocations import Allocations, NetworkAllocation, NodeAllocation, Rest
from .carried import Carried
from .claims import Owner, Space
from .claims import Rest as Resting
from .config import Configs, place_of
from .core import Core, Kind
from .interface import Interfaces
from .kinds import KINDS
from .network import VNIS, Networks, Usage
from .node_states import NodeStates
from .outcome import Changes, Subject
from .pipeline import NODES, Pipelines
from .route_slices import RouteSlices
from .routing import Routing

_EMPTY = Allocations()
#: What rests after its release, by the kind of a Rest, and whose it was.
_RESTING: dict[Literal["vni", "node"], Space] = {"vni": VNIS, "node": NODES}


@dataclass(frozen=True, slots=True)
class Compilation:
    """The whole result."""

    configs: dict[str, Json]
    """DataplaneConfig objects by name."""
    slices: dict[str, Json]
    """Slice objects by name."""
    allocations: Allocations
    problems: tuple[Problem, ...]
    """Sorted."""
    node_states: dict[str, Json] = field(default_factory=dict)
    """NodeState objects by name."""
    traces: dict[Subject, str] = field(default_factory=dict)
    """Tracebacks by the object that an unexpected exception stopped."""


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
        self._core = Core(namespace, sockets)
        for cls in KINDS:
            self._core.kinds[cls.name] = self._core.part(cls)
        self._pipelines = self._core.part(Pipelines)
        self._networks = self._core.part(Networks)
        self._interfaces = self._core.part(Interfaces)
        self._routing = self._core.part(Routing)
        self._slices = self._core.part(RouteSlices)
        self._configs = self._core.part(Configs)
        self._node_states = self._core.part(NodeStates)
        self._install(allocations)

    def _install(self, allocations: Allocations) -> None:
        for pipeline, per_node in sorted(allocations.nodes.items()):
            for node, there in sorted(per_node.items()):
                self._pipelines.install(_served_by(pipeline, node), there)
        for key, network in sorted(allocations.networks.items()):
            self._networks.install(key, network.vni, network.slices)
        for key, interface in sorted(allocations.interfaces.items()):
            self._interfaces.install(key, interface)
        for rest in allocations.resting:
            owner = Owner(Networks.name, rest.owner)
            if rest.kind == "node":
                owner = _served_by(*rest.owner.split("/", 1))
            self._core.claims.lay(_RESTING[rest.kind], rest.value, Resting(owner, rest.since))
        for feature, owners in self._pipelines.unaware.items():
            for name, found in allocations.unaware.get(feature, {}).items():
                owners |= {_served_by(name, node) for node in found}

    # Input

    def hold(self, kind: str, key: str) -> None:
        """Let an object that cannot be read keep what it has, until it is upserted or deleted.

        For the time before the first flush: later it is what it was when it could be read.
        """
        self._core.unread.add((kind, key))

    def carry(
        self, configs: Iterable[Json], slices: Iterable[Json], node_states: Iterable[Json] = ()
    ) -> None:
        """Let what is held go on as it was compiled, by these raw compiled objects.

        For the time before the first flush, with everything held and upserted.
        """
        unread = self._core.unread
        if unread:
            carried = self._core.part(Carried)
            carried.take(
                configs, slices, lambda kind, key: (kind, key) in unread, self._networks.held
            )
            self._networks.carry(carried)
            self._node_states.carry(node_states, unread.__contains__)

    def upsert(self, item: Object) -> None:
        """Put an object, or replace the one of its key. An equal one changes nothing."""
        kind = self._core.kinds[item.kind]
        self._release(kind, item.key)
        kind.put(item.key, kind.read(item))

    def delete(self, kind: str, key: str) -> None:
        """Remove an object by kind and key (namespace/name, or name); unknown ones are ignored."""
        found = self._core.kinds.get(kind)
        if found is None:
            raise ValueError(f"the compiler reads no {kind}")
        self._release(found, key)
        found.put(key, None)

    def _release(self, kind: Kind[object], key: str) -> None:
        """It is no longer held."""
        if (kind.name, key) in self._core.unread:
            self._core.unread.remove((kind.name, key))
            self._core.part(Carried).drop(kind.name, key)
            kind.readable(key)
            self._core.tell(kind.name, key)

    def set_unreachable(self, nodes_of: Set[tuple[str, str]]) -> None:
        """Leave next hops on these (Pipeline, node) out, wherever a route has others."""
        self._slices.unreachable = frozenset(nodes_of)

    def agent(self, pipeline: str, node: str, features: Iterable[str] | None) -> bool:
        """Hear what the agent of a Pipeline on a node understands; None: it has said nothing yet.

        Returns whether that is news.
        """
        return self._pipelines.understands(_served_by(pipeline, node), features)

    def unaware(self, feature: str, pipeline: str) -> tuple[str, ...]:
        """Nodes of the Pipeline whose agents do not understand a feature."""
        owners = self._pipelines.unaware[feature] & self._pipelines.held.keys()
        return tuple(owner.node for owner in sorted(owners) if owner.key == pipeline)

    def usage(self, key: str) -> Usage | None:
        """How full the network is; None: there is none, or it is not accepted."""
        return self._networks.usage(key, self._interfaces.count(key))

    def resting(self) -> tuple[Rest, ...]:
        """What nobody gets yet, sorted."""
        return tuple(
            sorted(
                Rest(kind, int(value), "/".join(filter(None, rest.owner[1:])), rest.since)
                for kind, space in _RESTING.items()
                for value, rest in self._core.claims.resting(space).items()
            )
        )

    def free(self, before: int) -> bool:
        """Let what was released before that second be given out again, as no node uses it.

        Returns whether somebody waited for it.
        """
        claims = self._core.claims
        woken = {owner for space in _RESTING.values() for owner in claims.free(space, before)}
        self._core.wake(woken)
        return bool(woken)

    # Output

    def flush(self, now: int = 0) -> Changes:
        """Compile what changed since the last flush; `now` is in seconds since 1970."""
        self._core.begin(now)
        self._keep()
        self._look_at_dirty()
        while self._is_dirty():
            # For those who waited for routes that a network had.
            self._look_at_dirty()
        self._configs.write()
        self._node_states.write()
        return self._core.end()

    def _keep(self) -> None:
        done: set[Owner] = set()
        # In the order of the kinds: an Interface keeps its address only in the /64 that stays.
        while todo := [owner for owner in self._core.dirty() if owner not in done]:
            done.update(todo)
            for owner in todo:
                if owner.subject not in self._core.unread:
                    self._core.attempt(owner, self._keep_one)

    def _keep_one(self, owner: Owner) -> tuple[()]:
        kind = self._core.kinds[owner.kind]
        if kind.holds(owner):
            kind.keep(owner)
        return ()

    def _is_dirty(self) -> bool:
        """Whether somebody is to be looked at, maybe for what another took or gave back."""
        self._core.wake(self._core.claims.overtaken())
        return bool(self._core.dirty())

    def _look_at_dirty(self) -> None:
        """Steps 2 and 3, and the routes."""
        while self._is_dirty():
            for kind in self._core.kinds.values():
                self._look_at(kind)
        for kind in self._core.kinds.values():
            kind.finish()
        self._slices.write()

    def _look_at(self, kind: Kind[object]) -> None:
        owners = self._core.take_dirty(kind.name)
        if not owners:
            return
        kind.prepare(owners)
        faults = {owner: self._core.failures.faults(owner) for owner in owners}
        for step in kind.steps:
            for owner in owners:
                faults[owner] = faults[owner] or self._core.attempt(owner, step)
        for owner in owners:
            kind.settle(owner, faults[owner])

    def allocations(self) -> Allocations:
        """All that is held now: a snapshot, sorted."""
        nodes: dict[str, dict[str, NodeAllocation]] = {}
        for owner, held in sorted(self._pipelines.held.items()):
            nodes.setdefault(owner.key, {})[owner.node] = held
        return Allocations.model_construct(
            networks={
                key: NetworkAllocation(vni, self._routing.placement(key))
                for key, vni in sorted(self._networks.held.items())
            },
            nodes=nodes,
            interfaces={key: self._interfaces.held[key] for key in sorted(self._interfaces.held)},
            resting=self.resting(),
            unaware=self._pipelines.unaware_nodes(),
        )

    def failed(self) -> set[Subject]:
        """What the last flush failed with that had something before it, but for Pipelines."""
        return {
            owner.subject
            for owner in self._core.failures.owners()
            if not owner.node and self._core.kinds[owner.kind].holds(owner)
        }

    def is_stuck(self, pipeline: str, node: str) -> bool:
        """Whether the last flush failed with the Pipeline on the node."""
        return _served_by(pipeline, node) in self._core.failures

    def traces(self) -> dict[Subject, str]:
        """Tracebacks by the object that the last flush failed with."""
        return self._core.failures.traces()

    def snapshot(self) -> Compilation:
        """The whole result as of the last flush."""
        return Compilation(
            configs=self._configs.snapshot(),
            slices=self._slices.snapshot(),
            allocations=self.allocations(),
            problems=self._core.all_problems(),
            node_states=self._node_states.snapshot(),
            traces=self.traces(),
        )


def start(
    made: Callable[[Set[Subject]], Compiler],
    configs: Collection[Json],
    slices: Collection[Json],
    now: int,
    node_states: Collection[Json] = (),
) -> Start:
    """Flush a Compiler for the first time: what it fails with goes on by what was compiled before.

    `made` gives a Compiler with all objects upserted, or held where they are named; again for each
    attempt. `configs`, `slices` and `node_states` are raw objects.
    """
    held: dict[Subject, tuple[Problem, ...]] = {}
    traces: dict[Subject, str] = {}
    while True:
        compiler = made(held.keys())
        compiler.carry(configs, slices, node_states)
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
        for item in objects.items:
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
        [*before.node_states.values()] if before else (),
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


def _served_by(pipeline: str, node: str) -> Owner:
    return Owner(Pipelines.name, pipeline, node)
