# SPDX-License-Identifier: Apache-2.0
"""The controller: observed objects go through the compiler, what it changes goes into the queue.

It reads the cache and fills the queue; it sends nothing. What one kind has of its own is in
`kinds`; here is what all have in common.
"""

import asyncio
import logging
import random
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from headrace_api import Json, Pipeline, Problem
from headrace_api.raw import part
from headrace_compiler import REST, Changes, Rest
from headrace_kube import DATAPLANE_CONFIGS, NODES, PIPELINES, SLICES, Kind

from . import objects
from .cache import Cache
from .gauges import Gauges
from .kinds import HANDLERS, INPUTS, MADE, Input, State, place
from .liveness import Liveness, PipelineNode
from .liveness import State as NodeState
from .metrics import Metrics
from .render import Settings, Transition, withdrawn_nodes
from .work import Queue, Work, config_of

#: Seconds between two looks at what rests.
RELEASE_PERIOD = 1.0

_INPUTS = {kind.name: kind for kind in INPUTS}

_log = logging.getLogger(__name__)


class Controller:
    """The desired state of everything. Not thread-safe; `load` is its only long call."""

    def __init__(self, namespace: str, settings: Settings, owner: Json, metrics: Metrics) -> None:
        """`owner` is the ownerReference of everything that is made."""
        self.cache = Cache(HANDLERS, self._changed)
        self.queue: Queue = Queue(place, self._needs, random.uniform)
        self.liveness = Liveness(settings.dataplane.lease_seconds)
        self._metrics = metrics
        self._state = State(namespace, settings, owner, self.cache, self.queue)
        self._handlers = {kind: handler(self._state) for kind, handler in HANDLERS.items()}
        self._live = False
        self._gauges = Gauges(self.cache, self.queue, self._state.progress, self._problems)
        metrics.add(self._gauges.families)

    # Observed

    async def load(self, resting: Iterable[Rest] = ()) -> None:
        """Compile everything in the cache for the first time, and queue what differs.

        What was given out is read back from the objects, so nothing moves. The cache must not
        change meanwhile.
        """
        with self._metrics.compile_seconds.time():
            # What an earlier operator has withdrawn stays so: this one knows nothing better yet.
            withdrawn = {
                PipelineNode(key, node)
                for key, item in self.cache.all(PIPELINES)
                for node in withdrawn_nodes(item)
            }
            self.liveness.resume(withdrawn)
            self._state.progress.former.load()
            self._state.progress.sharding.load(
                (item for _, item in self.cache.all(DATAPLANE_CONFIGS)),
                {objects.name_of(key)[1]: item for key, item in self.cache.all(SLICES)},
            )
            self._state.progress.states = dict.fromkeys(withdrawn, NodeState.NODE_UNREACHABLE)
            self._state.node_states.load()
            changes = await self._start(withdrawn, resting)
            for kind, handler in self._handlers.items():
                for key, item in self.cache.all(kind):
                    handler.listed(key, item)
            self._live = True
            self._state.observed.touched = {
                Work(kind, key)
                for kind, handler in self._handlers.items()
                if handler.has_status
                for key, _ in self.cache.all(kind)
            }
            self._take(changes)
            for kind in MADE:
                for key, item in self.cache.all(kind):
                    if objects.is_owned(item):
                        self.queue.add(Work(kind, key))

    async def _start(self, withdrawn: set[PipelineNode], resting: Iterable[Rest]) -> Changes:
        inputs = {kind: each for kind, each in self._handlers.items() if isinstance(each, Input)}
        reads = {kind: each.read for kind, each in inputs.items()}
        changes, models = await asyncio.to_thread(
            self._state.observed.start,
            self.cache,
            self._state.progress.former,
            reads,
            withdrawn,
            resting,
        )
        self._state.allocated.load(self._state.observed.compiler.allocations())
        self._state.dataplanes.load_ports()
        for kind, model in models:
            inputs[kind].accepted(model)
        return changes

    async def run(self) -> None:
        """Compile what changes, for ever."""
        while True:
            await self._state.observed.wait()
            with self._metrics.compile_seconds.time():
                changes = self._state.observed.compiler.flush(int(time.time()))
            self._take(changes)

    async def release(self) -> None:
        """Let go of what some node may still use, once none does, for ever."""
        while True:
            await asyncio.sleep(RELEASE_PERIOD)
            before = int(time.time()) - REST
            if (
                any(rest.since < before for rest in self.resting)
                and self._state.progress.is_acknowledged(self._state.allocated.vnis)
                and self._state.observed.compiler.free(before)
            ):
                self._state.observed.compile_soon()

    @property
    def resting(self) -> tuple[Rest, ...]:
        """What nobody gets yet."""
        return self._state.observed.compiler.resting()

    @property
    def pipelines(self) -> Mapping[str, Pipeline]:
        """Those that can be read, by name, as they are at any time."""
        return self._state.observed.pipelines

    @property
    def copies(self) -> bool:
        """Whether there are copies for agents of the release before."""
        return not self._state.progress.former.is_gone

    def judge_nodes(self) -> None:
        """Ask who lives: whoever has turned is compiled, and statuses tell of it."""
        states = self.liveness.judge(
            self._state.allocated.nodes,
            lambda node: objects.is_unknown(self.cache.get(NODES, node)),
        )
        before, self._state.progress.states = self._state.progress.states, states
        turned = {pn for pn, _ in before.items() ^ states.items()}
        if not turned:
            return
        withdrawn = {pn for pn, state in states.items() if state.withdrawn}
        self._state.observed.compiler.set_unreachable(withdrawn)
        self._state.observed.compile_soon()
        for pn in sorted(turned):
            _log.warning("Pipeline %s on node %s: %s", *pn, states.get(pn, NodeState.ALIVE))
            config = config_of(self._state.namespace, pn)
            self._handlers[config.kind].enqueue_statuses(config)

    def _changed(self, kind: Kind, key: str, before: Json | None, after: Json | None) -> None:
        self._gauges.observe(kind, key, after)
        if self._live:
            self._handlers[kind].changed(key, before, after)

    def _take(self, changes: Changes) -> None:
        """Queue what a compilation changed."""
        self.queue.next_epoch()
        for (name, key), trace in changes.traces.items():
            _log.error("%s %s cannot be compiled and stays as it was:\n%s", name, key, trace)
        touched, self._state.observed.touched = self._state.observed.touched, set()
        about: set[str] = set()
        for kind, found in ((DATAPLANE_CONFIGS, changes.configs), (SLICES, changes.slices)):
            for name, item in found.items():
                work = Work(kind, f"{self._state.namespace}/{name}")
                about |= self._state.progress.desire(work, item)
                if kind is DATAPLANE_CONFIGS:
                    self._state.node_states.configure(work.key, item)
        for name, item in changes.node_states.items():
            self._state.node_states.desire(name, item)
        touched |= self._state.allocated.take(changes)
        touched |= {Work(_INPUTS[name], key) for name, key in changes.problems}
        self._state.statuses.compiled(changes.problems)
        due = (work for work in touched if self._handlers[work.kind].has_status)
        self._state.statuses.enqueue_compiled(due, about)

    # Desired, and how writing it went

    def desired(self, work: Work) -> Json | None:
        """The output; None: it is not to exist."""
        return self._state.desired.get(work)

    def is_written(self, work: Work, found: Json) -> bool:
        """Whether a desired output is there as it is desired."""
        metadata = part(self._state.desired.get(work), "metadata")
        return objects.covers(part(found, "metadata"), metadata) and self._state.desired.is_written(
            work, found, defaulted=self._handlers[work.kind].defaulted
        )

    def is_retained(self, work: Work, found: Json) -> bool:
        """Whether an output that is not desired stays for now."""
        return self._handlers[work.kind].is_retained(found)

    def pod_event(self, pod: str) -> Transition | None:
        """What is wrong with the annotations of a pod, or with what it was started with."""
        return self._state.pods.event(pod)

    def admission(self, node: str) -> Json | None:
        """What to merge into a node so that it takes pods; None: nothing, or not yet."""
        return self._state.startup.admission(self.cache.get(NODES, node))

    def applied(self, work: Work, item: Json, there: Json) -> None:
        """Take what the API server made of an output that was written."""
        self._state.desired.applied(work, item, there)
        self._handlers[work.kind].applied(work)

    def failed(self, work: Work, why: str, *, refused: bool = False) -> None:
        """Take why an output cannot be written, or is `refused` for good; no why: it could."""
        if not work.status:
            self._handlers[work.kind].failed(work, why, refused=refused)

    def status(self, work: Work) -> Json | None:
        """The status of an input, whole; None: not now."""
        raw = self.cache.get(work.kind, work.key)
        if raw is None or work.object in self._state.observed.touched:
            return None
        return self._handlers[work.kind].status(work, raw, datetime.now(UTC))

    def _needs(self, work: Work) -> Iterable[Work]:
        """What is written before the work: what gives out what it uses, what it tells of.

        So nothing is in use that is not stored, and a status tells of what is there. Of what is
        refused it tells at once.
        """
        for need in self._handlers[work.kind].needs(work):
            if not (work.status and self._state.desired.is_refused(need)):
                yield need

    def _problems(self) -> Iterable[tuple[Work, tuple[Problem, ...]]]:
        for name, key in {*self._state.statuses.compile_problems, *self._state.observed.invalid}:
            work = Work(_INPUTS[name], key)
            yield work, self._handlers[work.kind].problems(key)
