# SPDX-License-Identifier: Apache-2.0
"""What is wanted: raw objects go through the compiler, and what it changes goes into the queue.

The controller reads the cache and fills the queue; it sends nothing. A Work in the queue says
only that something may differ: what is wanted is looked up when a worker has it, and compared
with what is there.
"""

import asyncio
import logging
import random
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple, TypeVar

from prometheus_client.core import Metric

from headrace_api import (
    NEW_FEATURES,
    PIPELINE_LABEL,
    Interface,
    Json,
    Namespace,
    Node,
    Object,
    Pipeline,
    Pod,
    Problem,
    VirtualNetwork,
    digest,
)
from headrace_compiler import (
    REST,
    Changes,
    Compiler,
    InterfaceAllocation,
    NodeAllocation,
    Rest,
    Subject,
)
from headrace_compiler import start as start_compiler
from headrace_kube import (
    DAEMON_SETS,
    DATAPLANE_CONFIGS,
    INTERFACES,
    NAMESPACES,
    NODES,
    PIPELINES,
    PODS,
    ROUTE_SLICES,
    UNDERLAY_ENDPOINTS,
    VIRTUAL_NETWORKS,
    Kind,
)

from . import objects, pods
from .agents import PATIENCE, News
from .cache import Cache
from .liveness import Liveness, PipelineNode, State
from .metrics import Metrics, gauges
from .ports import COUNT, Ports, port_in_use
from .render import (
    Settings,
    Transition,
    daemon_sets,
    endpoint_status,
    features,
    interface_status,
    load_allocations,
    network_status,
    parse,
    pipeline_status,
    withdrawn_nodes,
)
from .render.conditions import not_ready
from .render.raw import number, part, text
from .standing import Standing
from .startup import Startup
from .workqueue import Place, WorkQueue

#: What the cluster has without Headrace: only read.
_FOREIGN = (NAMESPACES, NODES, PODS)
#: What the compiler reads. All but what is foreign have a status that is written here.
INPUTS = (*_FOREIGN, PIPELINES, UNDERLAY_ENDPOINTS, VIRTUAL_NETWORKS, INTERFACES)
#: What is written here, whole.
OUTPUTS = (DATAPLANE_CONFIGS, ROUTE_SLICES, DAEMON_SETS)

#: Seconds without a change before a compilation, and most seconds that changes put it off.
QUIET = 0.05
CAP = 1.0
#: Seconds that a status waits for agents' word, and an Interface's for its pod to get a node.
SETTLE = 2.0
_UNSETTLED = frozenset({"PodNotFound", "PodNotScheduled"})
_PODLESS = _UNSETTLED | {"PodCompleted"}
#: Seconds between two looks at the status of a Pipeline or a network whose nodes report.
GATHER = 0.5
#: Seconds between two looks at what rests.
TEND = 1.0

HASH = "headrace.dev/template-hash"
_LABELS: Json = {
    "app.kubernetes.io/name": "headrace",
    "app.kubernetes.io/component": "dataplane",
    objects.MANAGED_BY: objects.MANAGER,
}

_log = logging.getLogger(__name__)

Key = TypeVar("Key")
Value = TypeVar("Value")


class Work(NamedTuple):
    """An output that may differ from what is wanted, or the status of an input."""

    kind: Kind
    key: str
    status: bool = False

    def __str__(self) -> str:
        """For people: `Interface default/vm1 (status)`."""
        return f"{self.kind.name} {self.key}{' (status)' if self.status else ''}"


def place(work: Work) -> Place:
    """Each kind has workers of its own; its tenants take turns, or whose objects it is about."""
    pool = f"{work.kind.name}{'/status' if work.status else ''}"
    if work.kind is ROUTE_SLICES:
        # They are in one namespace, and named for that of their network.
        return Place(pool, objects.name_of(work.key)[1].partition(".")[0])
    if work.kind in (DATAPLANE_CONFIGS, DAEMON_SETS):
        return Place(pool, work.key)
    return Place(pool, objects.name_of(work.key)[0] or work.key)


class Controller:
    """The wanted state of everything. Not thread-safe; `load` is its only long call."""

    def __init__(self, namespace: str, settings: Settings, owner: Json, metrics: Metrics) -> None:
        """`owner` is the ownerReference of everything that is made."""
        self.cache = Cache((*INPUTS, *OUTPUTS), self._changed)
        self.queue: WorkQueue[Work] = WorkQueue(place, self._needs, random.uniform)
        self._namespace = namespace
        self._settings = settings
        self._owner = owner
        self._metrics = metrics

        self._compiler = Compiler(namespace=namespace)
        self._live = False
        # What the next flush is to look at.
        self._touched: set[Work] = set()
        self._dirty = asyncio.Event()
        self._last_change = 0.0

        self._wanted: dict[Work, Json] = {}
        self._problems: dict[tuple[str, str], tuple[Problem, ...]] = {}
        self._invalid: dict[tuple[str, str], tuple[Problem, ...]] = {}
        self._vnis: dict[str, int] = {}
        self._gateways: dict[str, tuple[str, ...]] = {}
        self._nodes: dict[str, dict[str, NodeAllocation]] = {}
        self._interfaces: dict[str, InterfaceAllocation] = {}
        self._pipelines: dict[str, Pipeline] = {}
        self._daemon_sets: dict[str, list[str]] = {}
        # Pod -> Interfaces that it is to have; pod -> why it cannot have what it asks for.
        self._pod_interfaces: dict[str, frozenset[str]] = {}
        self._unmade: dict[str, Transition] = {}
        # Pod -> one of its Interfaces whose device it runs without, and what to tell of that.
        self._unplugged: dict[str, tuple[str, Transition]] = {}
        self._ports = Ports(settings.dataplane.metrics_port)
        # Output -> why the API server does not take it.
        self._refused: dict[Work, str] = {}
        # Input -> when its status is written even without the agents' word.
        self._settling: dict[Work, float] = {}
        self._standing = Standing(self.cache, namespace)
        self.liveness = Liveness(settings.dataplane.lease_seconds)
        self._startup = Startup(namespace if settings.node_agent else None)
        # Underlay address -> the DataplaneConfig that gives it out.
        self._givers: dict[str, Work] = {}
        # Interfaces that are Ready, so that nobody counts ten thousand for each scrape.
        self._ready_interfaces: set[str] = set()
        metrics.add(self._families)

    # Start

    async def load(self, resting: Iterable[Rest] = ()) -> None:
        """Compile everything in the cache for the first time, and queue what differs.

        What was given out is read back from the objects, so nothing moves. The cache must not
        change meanwhile.
        """
        with self._metrics.compile_seconds.time():
            await self._load(resting)

    async def _load(self, resting: Iterable[Rest]) -> None:
        held = {kind: [item for _, item in self.cache.all(kind)] for kind in (*INPUTS, *OUTPUTS)}
        # A thread: with 10,000 objects this takes longer than the Lease can wait.
        # What an earlier operator has withdrawn stays so: this one knows nothing better yet.
        withdrawn = {
            PipelineNode(objects.key(item), node)
            for item in held[PIPELINES]
            for node in withdrawn_nodes(item)
        }
        self.liveness.resume(withdrawn)
        self._standing.states = dict.fromkeys(withdrawn, State.NODE_UNREACHABLE)
        first = await asyncio.to_thread(
            _compile_all, held, self._namespace, self._settings, withdrawn, resting
        )
        self._compiler, self._invalid = first.compiler, first.invalid
        allocations = first.compiler.allocations()
        self._vnis = {key: record.vni for key, record in allocations.networks.items()}
        self._remember(allocations.interfaces)
        self._nodes = allocations.nodes
        self._load_ports(held[DAEMON_SETS])
        for model in first.parsed:
            self._learn(model)
        for kind in (DATAPLANE_CONFIGS, ROUTE_SLICES):
            for item in held[kind]:
                self._standing.see(kind, objects.key(item), item)
        self._live = True
        self._touched = {
            Work(kind, objects.key(item))
            for kind in (PIPELINES, UNDERLAY_ENDPOINTS, VIRTUAL_NETWORKS, INTERFACES)
            for item in held[kind]
        }
        for item in filter(pods.is_annotated, held[PODS]):
            self._want_interfaces(objects.key(item), item)
        self._take(first.changes)
        for kind in (PODS, NODES):
            for item in held[kind]:
                self._look_at_startup(kind, None, item)
        for kind in (*OUTPUTS, INTERFACES):
            for item in filter(objects.ours, held[kind]):
                self.queue.add(Work(kind, objects.key(item)))

    def _load_ports(self, sets: Iterable[Json]) -> None:
        """Let every Pipeline keep its port: the one that its pods have, or its status says."""
        in_use = defaultdict(list)
        for item in sets:
            in_use[objects.label(item, PIPELINE_LABEL)].append(item)
        for name, item in sorted(self.cache.all(PIPELINES)):
            wanted = port_in_use(in_use[name]) or number(part(item, "status").get("metricsPort"))
            if wanted:
                self._ports.take(name, wanted)

    # Changes

    async def run(self) -> None:
        """Compile what changes, for ever."""
        while True:
            await self._dirty.wait()
            latest = time.monotonic() + CAP
            while (left := min(self._last_change + QUIET, latest) - time.monotonic()) > 0:
                await asyncio.sleep(left)
            self._dirty.clear()
            with self._metrics.compile_seconds.time():
                changes = self._compiler.flush(int(time.time()))
            self._take(changes)

    async def tend(self) -> None:
        """Let go of what some node may still use, once none does, for ever."""
        while True:
            await asyncio.sleep(TEND)
            changed = False
            before = int(time.time()) - REST
            due = any(rest.since < before for rest in self._compiler.resting())
            if due and self._is_acknowledged():
                changed |= self._compiler.free(before)
            if changed:
                self._compile_soon()

    def _is_everywhere(self, network: str) -> bool:
        """Whether every node that has the network has the newest of it, but for what it refuses.

        What an engine refuses of one tenant's network holds nobody else up.
        """
        spread, passing = self._standing.network(network)
        return not (spread.waits or passing)

    def _is_acknowledged(self) -> bool:
        """Whether every agent has its newest configuration and all routes of its networks."""
        return all(
            number(part(item, "status").get("observedGeneration")) >= objects.generation(item)
            for _, item in self.cache.all(DATAPLANE_CONFIGS)
        ) and all(map(self._is_everywhere, self._vnis))

    def _compile_soon(self) -> None:
        self._last_change = time.monotonic()
        self._dirty.set()

    @property
    def resting(self) -> tuple[Rest, ...]:
        """What nobody gets yet."""
        return self._compiler.resting()

    def _changed(self, kind: Kind, key: str, before: Json | None, after: Json | None) -> None:
        if kind is INTERFACES and objects.is_ready(after):
            self._ready_interfaces.add(key)
        elif kind is INTERFACES:
            self._ready_interfaces.discard(key)
        if not self._live:
            return
        if kind in (NODES, PODS):
            self._look_at_startup(kind, before, after)
        if kind in INPUTS:
            if not (before and after and _same_spec(before, after)):
                self._input(kind, key, after)
            elif kind is not NODES and before.get("status") != after.get("status"):
                self.queue.add(Work(kind, key, status=True))
            if kind is INTERFACES:
                self._look_at_interface(key, before, after)
        else:
            self.queue.add(Work(kind, key))
            if kind is DATAPLANE_CONFIGS and after:
                self._hear(after)
            if kind in (DATAPLANE_CONFIGS, ROUTE_SLICES):
                self._tell(self._standing.see(kind, key, after))
            pipeline = objects.label(after or before, PIPELINE_LABEL)
            if pipeline in self._pipelines:
                self.queue.add(Work(PIPELINES, pipeline, status=True), GATHER)

    def _look_at_startup(self, kind: Kind, before: Json | None, after: Json | None) -> None:
        """Let pods on the node that this is, or a pod's, if it waited and need not any more."""
        item = after or before or {}
        node = objects.key(item) if kind is NODES else self._startup.see(item, there=bool(after))
        if self.admission(node):
            self.queue.add(Work(NODES, node))

    def _hear(self, config: Json) -> None:
        """Have what an agent understands sent to it, and nothing else."""
        spec = part(config, "spec")
        pipeline, node = text(spec.get("pipelineName")), text(spec.get("nodeName"))
        if self._compiler.agent(pipeline, node, features(config)):
            self._touched.add(Work(PIPELINES, pipeline))
            self._compile_soon()

    def _input(self, kind: Kind, key: str, item: Json | None) -> None:
        self._touched.add(Work(kind, key))
        self._compile_soon()
        subject = (kind.name, key)
        if kind is PODS:
            self._want_interfaces(key, item)
            for interface in pods.interface_keys(item) if item and pods.is_plugged(item) else ():
                # Of one that runs without its device more is to be said.
                self.queue.add(Work(INTERFACES, interface, status=True))
            if item is None:
                self._unplugged.pop(key, None)
        if item is None:
            self._compiler.delete(kind.name, key)
            self._invalid.pop(subject, None)
            self._forget(kind, key)
            return
        found = _read(kind, item, self._settings)
        if isinstance(found, tuple):
            # What it was before goes on: a mistake must not take a dataplane down.
            self._invalid[subject] = found
            return
        self._invalid.pop(subject, None)
        self._compiler.upsert(found)
        self._learn(found)

    def _learn(self, item: Object) -> None:
        """Remember what the compiler does not tell of an object."""
        match item:
            case VirtualNetwork():
                self._standing.recompiled(item.key)
                self._gateways[item.key] = tuple(
                    subnet.gateway_address for subnet in item.spec.subnets
                )
            case Pipeline():
                self._pipelines[item.key] = item
                port = self._ports.take(item.key)
                if port is not None:
                    sets = daemon_sets(item, self._settings, port, self._namespace)
                    self._want_sets(item.key, sets)
                self._look_at_outputs(item.key)
                self._look_at_pods()
            case Namespace():
                self._look_at_pods()

    def _want_interfaces(self, key: str, pod: Json | None) -> None:
        """Want the Interfaces that the pod (None: it is gone) asks for, and no others."""
        if self._unmade.pop(key, None):
            self.queue.add(Work(PODS, key, status=True))
        try:
            wanted = pods.interfaces(pod, self._choose_pipeline) if pod else {}
        except pods.PodError as error:
            # What it had before stays: a mistake must not cut a pod off.
            self._complain(key, error.reason, str(error))
            return
        for gone in self._pod_interfaces.get(key, frozenset()).difference(wanted):
            self._want(INTERFACES, gone, None)
        _put(self._pod_interfaces, key, frozenset(wanted) or None)
        for name, item in wanted.items():
            self._wanted[Work(INTERFACES, name)] = item
            self.queue.add(Work(INTERFACES, name))
            found = self.cache.get(INTERFACES, name)
            if found and not objects.ours(found) and pods.pod_key(found) != key:
                message = f"Interface {name} exists and is not of this pod: delete or rename it"
                self._complain(key, "InterfaceExists", message)

    def _look_at_interface(self, key: str, before: Json | None, after: Json | None) -> None:
        """Make it again, leave it to whom it belongs, or delete it, as the pod wants it."""
        work = Work(INTERFACES, key)
        wanted = self._wanted.get(work)
        if wanted and not all(item and objects.ours(item) for item in (before, after)):
            pod = pods.pod_key(wanted)
            self._want_interfaces(pod, self.cache.get(PODS, pod))
        elif wanted or (after and objects.ours(after)):
            self.queue.add(work)

    def _complain(self, pod: str, reason: str, message: str) -> None:
        self._unmade[pod] = Transition("Warning", reason, message)
        self.queue.add(Work(PODS, pod, status=True))

    def _choose_pipeline(self, interface: str) -> str:
        namespace, _ = objects.name_of(interface)
        return pods.choose_pipeline(
            namespace,
            self.cache.get(INTERFACES, interface),
            self.cache.get(NAMESPACES, namespace),
            self._pipelines,
        )

    def _look_at_outputs(self, pipeline: str) -> None:
        """Delete what is left of the Pipeline, if anything."""
        for kind in (DATAPLANE_CONFIGS, DAEMON_SETS):
            for key, item in self.cache.all(kind):
                if objects.label(item, PIPELINE_LABEL) == pipeline:
                    self.queue.add(Work(kind, key))

    def _look_at_pods(self) -> None:
        """Try again to make what could not be made: there may be a Pipeline for it now."""
        for key in tuple(self._unmade):
            self._want_interfaces(key, self.cache.get(PODS, key))

    def _forget(self, kind: Kind, key: str) -> None:
        self._settling.pop(Work(kind, key), None)
        if kind is INTERFACES:
            for pod in [pod for pod, (name, _) in self._unplugged.items() if name == key]:
                del self._unplugged[pod]
        elif kind is VIRTUAL_NETWORKS:
            self._gateways.pop(key, None)
            self._standing.forget(key)
        elif kind is PIPELINES:
            self._pipelines.pop(key, None)
            self._want_sets(key, [])
            self._look_at_outputs(key)
            self._look_at_pods()
            self._ports.release(key)
            for other in self._pipelines.values():
                if self._ports.get(other.key) is None:
                    self._learn(other)
                    self._touched.add(Work(PIPELINES, other.key))

    def _want_sets(self, pipeline: str, sets: Sequence[Json]) -> None:
        keys = [objects.key(item) for item in sets]
        for key in set(self._daemon_sets.get(pipeline, ())).difference(keys):
            self._want(DAEMON_SETS, key, None)
        _put(self._daemon_sets, pipeline, keys or None)
        for item in sets:
            metadata = part(item, "metadata")
            annotations: Json = {**part(metadata, "annotations"), HASH: digest(item)[:16]}
            marked: Json = {**item, "metadata": {**metadata, "annotations": annotations}}
            self._want(DAEMON_SETS, objects.key(item), marked)

    def _want(self, kind: Kind, key: str, item: Json | None) -> None:
        work = Work(kind, key)
        if item is None:
            self._wanted.pop(work, None)
        else:
            metadata = part(item, "metadata")
            labels: Json = {**_LABELS, **part(metadata, "labels")}
            dressed: Json = {**metadata, "labels": labels, "ownerReferences": [self._owner]}
            self._wanted[work] = {**item, "metadata": dressed}
        self.queue.add(work)

    def _take(self, changes: Changes) -> None:
        """Queue what a compilation changed."""
        self.queue.next_epoch()
        for (name, key), trace in changes.traces.items():
            _log.error("%s %s cannot be compiled and stays as it was:\n%s", name, key, trace)
        touched, self._touched = self._touched, set()
        about: set[str] = set()
        for kind, found in ((DATAPLANE_CONFIGS, changes.configs), (ROUTE_SLICES, changes.slices)):
            for name, item in found.items():
                self._want(kind, f"{self._namespace}/{name}", item)
                about |= self._standing.want(kind, f"{self._namespace}/{name}", item)
        for key, vni in changes.vnis.items():
            _put(self._vnis, key, vni)
            touched.add(Work(VIRTUAL_NETWORKS, key))
        for (pipeline, node), record in changes.nodes.items():
            # Of a Pipeline that went and came again meanwhile only what is another is told.
            held = self._nodes.setdefault(pipeline, {})
            _put(held, node, record)
            if not held:
                del self._nodes[pipeline]
            touched.add(Work(PIPELINES, pipeline))
        self._remember(changes.interfaces)
        touched |= {Work(INTERFACES, key) for key in changes.interfaces}
        for (name, key), problems in changes.problems.items():
            _put(self._problems, (name, key), problems or None)
            touched.add(Work(_BY_NAME[name], key))
        deadline = time.monotonic() + SETTLE
        for work in touched:
            if work.kind in _FOREIGN or self.cache.get(work.kind, work.key) is None:
                continue
            self._settling[work] = deadline
            self.queue.add(work._replace(status=True))
        self._gather(about, SETTLE)

    def _remember(self, records: Mapping[str, InterfaceAllocation | None]) -> None:
        """Note what Interfaces have, and who gives it out."""
        for key in records:
            before = self._interfaces.pop(key, None)
            if before and before.underlay_address:
                self._givers.pop(before.underlay_address, None)
        # Only now: what one gave back another may have.
        for key, record in records.items():
            _put(self._interfaces, key, record)
            if record and record.underlay_address and record.node:
                config = self._config_work(record.pipeline, record.node)
                self._givers[record.underlay_address] = config

    def _needs(self, work: Work) -> Iterable[Work]:
        """What is written before the work: what gives out what it uses, what it tells of.

        So nothing is in use that is not stored, and a status tells of what is there. Of what is
        refused it tells at once.
        """
        needs = [*self._all_needs(work)]
        if not work.status:
            return needs
        left = [need for need in needs if not self._standing.is_refused(need.kind, need.key)]
        # An Interface's slices wait for its config, too.
        return left if work.kind is not INTERFACES or left == needs else ()

    def _all_needs(self, work: Work) -> Iterable[Work]:
        if work.kind is ROUTE_SLICES:
            for address in self._standing.interfaces_in(work.kind, work.key):
                if address in self._givers:
                    yield self._givers[address]
        elif work.kind is PIPELINES:
            for node in self._nodes.get(work.key, ()):
                yield self._config_work(work.key, node)
        elif work.kind is VIRTUAL_NETWORKS:
            yield from self._slice_works(work.key)
        elif work.kind is INTERFACES and work.status:
            allocation = self._interfaces.get(work.key)
            if allocation and allocation.node:
                yield self._config_work(allocation.pipeline, allocation.node)
            if allocation:
                yield from self._slice_works(allocation.network)

    def _config_work(self, pipeline: str, node: str) -> Work:
        return Work(DATAPLANE_CONFIGS, self._standing.config_key(PipelineNode(pipeline, node)))

    def _slice_works(self, network: str) -> Iterable[Work]:
        for key in self._standing.slices_of(network):
            yield Work(ROUTE_SLICES, key)

    # What is wanted

    def wanted(self, work: Work) -> Json | None:
        """The output; None: it is not to exist."""
        return self._wanted.get(work)

    def stays(self, item: Json) -> bool:
        """Whether an output that is not wanted stays for now.

        Its Pipeline or its pod's annotation cannot be read, or not be compiled, a StatefulSet keeps
        its addresses, or it is the garbage collector's, as its pod is gone.
        """
        if item.get("kind") == INTERFACES.name:
            key = pods.pod_key(item)
            pod = self.cache.get(PODS, key)
            return not pod or key in self._unmade or (pods.is_kept(item) and pods.is_completed(pod))
        pipeline = objects.label(item, PIPELINE_LABEL)
        node = text(part(item, "spec").get("nodeName"))
        return (PIPELINES.name, pipeline) in self._invalid or (
            item.get("kind") == DATAPLANE_CONFIGS.name and self._compiler.is_stuck(pipeline, node)
        )

    def complaint(self, pod: str) -> Transition | None:
        """What is wrong with the annotations of a pod, or with what it was started with."""
        if pod in self._unmade:
            return self._unmade[pod]
        return self._unplugged[pod][1] if pod in self._unplugged else None

    def admission(self, node: str) -> Json | None:
        """What to merge into a node so that it takes pods; None: nothing, or not yet."""
        return self._startup.admission(self.cache.get(NODES, node))

    def applied(self, work: Work, item: Json, there: Json) -> None:
        """Hear what the API server made of an output that was written."""
        if work.kind in (DATAPLANE_CONFIGS, ROUTE_SLICES):
            self._standing.apply(work.kind, work.key, item, there)

    def failed(self, work: Work, why: str, *, refused: bool = False) -> None:
        """Hear why an output cannot be written, or is `refused` for good; no why: it could."""
        if work.status:
            return
        if work.kind in (DATAPLANE_CONFIGS, ROUTE_SLICES):
            if self._standing.fail(work.kind, work.key, why, refused=refused):
                self._look_at_those_in(work)
            return
        if not refused and why:
            return
        if self._refused.get(work, "") == why:
            return
        _put(self._refused, work, why or None)
        if work.kind is INTERFACES and work in self._wanted:
            pod = pods.pod_key(self._wanted[work])
            if why:
                message = f"Interface {work.key} is refused: {why}"
                self._complain(pod, "InterfaceRefused", message)
            else:
                self._want_interfaces(pod, self.cache.get(PODS, pod))
        for name, keys in self._daemon_sets.items():
            if work.kind is DAEMON_SETS and work.key in keys:
                self.queue.add(Work(PIPELINES, name, status=True))

    def _look_at_those_in(self, work: Work) -> None:
        """Look at the statuses of whatever a compiled object is about."""
        found = self._standing.interfaces_in(work.kind, work.key)
        if work.kind is ROUTE_SLICES:
            found = frozenset(
                key for key, held in self._interfaces.items() if held.underlay_address in found
            )
        for key in found:
            self.queue.add(Work(INTERFACES, key, status=True))
        self._gather(self._standing.networks_in(work.kind, work.key), 0.0)
        pipeline = objects.label(self._wanted.get(work), PIPELINE_LABEL)
        if pipeline in self._pipelines:
            self.queue.add(Work(PIPELINES, pipeline, status=True), GATHER)

    def look_at_nodes(self) -> None:
        """Ask who lives: whoever has turned is compiled, and told where it matters."""
        states = self.liveness.judge(
            self._nodes, lambda node: objects.is_silent(self.cache.get(NODES, node))
        )
        before, self._standing.states = self._standing.states, states
        turned = {place for place, _ in before.items() ^ states.items()}
        if not turned:
            return
        self._compiler.set_unreachable({pn for pn, state in states.items() if state.withdrawn})
        self._compile_soon()
        for place in sorted(turned):
            _log.warning("Pipeline %s on node %s: %s", *place, states.get(place, State.ALIVE))
            self._look_at_those_in(Work(DATAPLANE_CONFIGS, self._standing.config_key(place)))

    def status(self, work: Work) -> Json | None:
        """The status of an input, whole; None: not now."""
        raw = self.cache.get(work.kind, work.key)
        if raw is None or work._replace(status=False) in self._touched:
            return None
        problems = self.problems(work.kind, work.key)
        now = datetime.now(UTC)
        if work.kind is VIRTUAL_NETWORKS:
            return self._network_status(work, raw, problems, now)
        if work.kind is PIPELINES:
            return self._pipeline_status(work, raw, problems, now)
        if work.kind is UNDERLAY_ENDPOINTS:
            return endpoint_status(raw, problems, now)
        return self._interface_status(work, raw, problems, now)

    def problems(self, kind: Kind, key: str) -> tuple[Problem, ...]:
        """All that is wrong with the object."""
        subject = (kind.name, key)
        found = self._invalid.get(subject) or self._problems.get(subject, ())
        if kind is PIPELINES and key in self._pipelines and self._ports.get(key) is None:
            message = f"all {COUNT} metrics ports have a Pipeline: delete one"
            found = (*found, Problem(*("Pipeline", "", key), "", "PortsExhausted", message))
        for daemon_set in self._daemon_sets.get(key, ()) if kind is PIPELINES else ():
            why = self._refused.get(Work(DAEMON_SETS, daemon_set))
            if why:
                message = f"DaemonSet {daemon_set} is refused: {why}"
                found = (*found, Problem(*("Pipeline", "", key), "", "DaemonSetRefused", message))
        return found

    def _nowhere(self, interface: str) -> bool:
        """Whether the Interface waits for a pod: nothing is wrong with a dataplane."""
        found = self.problems(INTERFACES, interface)
        return any(problem.reason in _PODLESS for problem in found)

    def _network_status(
        self, work: Work, raw: Json, problems: Sequence[Problem], now: datetime
    ) -> Json | None:
        spread = None
        if (work.kind.name, work.key) not in self._invalid:
            spread, passing = self._standing.network(work.key)
            if self._settles(work, bool(spread.unwritten or spread.lacking)):
                return None
            if passing:
                self.queue.add(work, PATIENCE)
        gateways, usage = self._gateways.get(work.key, ()), self._compiler.usage(work.key)
        return network_status(raw, self._vnis.get(work.key), gateways, problems, spread, usage, now)

    def _pipeline_status(
        self, work: Work, raw: Json, problems: Sequence[Problem], now: datetime
    ) -> Json | None:
        nodes = self._nodes.get(work.key, {})
        silent, states = self._standing.pipeline(work.key, nodes)
        unheard = {node for node, state in states.items() if not state.reachable}
        # What has not been ready is told at once: its pods take their time.
        if self._settles(work, bool(silent.keys() - unheard) and objects.is_ready(raw)):
            return None
        late = self._standing.late_in(work.key, nodes)
        if late:
            self.queue.add(work, late)
        sets = [self.cache.get(DAEMON_SETS, key) for key in self._daemon_sets.get(work.key, ())]
        return pipeline_status(
            raw,
            nodes,
            problems,
            [item for item in sets if item],
            silent,
            states,
            self._ports.get(work.key),
            now,
            compiled=(work.kind.name, work.key) not in self._invalid,
            unaware={each: self._compiler.unaware(each, work.key) for each in NEW_FEATURES},
        )

    def _interface_status(
        self, work: Work, raw: Json, problems: Sequence[Problem], now: datetime
    ) -> Json | None:
        allocation = self._interfaces.get(work.key)
        reasons = {problem.reason for problem in problems}
        if "PodNotFound" in reasons and objects.ours(raw) and not pods.is_kept(raw):
            # It goes with its pod.
            return None
        report, obstacle = None, None
        waits = bool(reasons & _UNSETTLED)
        if allocation and allocation.node and not problems:
            report, obstacle = self._standing.interface(work.key, allocation)
            waits = bool(obstacle) or report.ready is None
        if self._settles(work, bool(problems or allocation) and waits):
            return None
        gone = report is not None and not obstacle and report.reason == "DeviceGone"
        if missed := self._missed(work.key, raw, gone):
            obstacle = not_ready(missed.reason, missed.note)
        return interface_status(raw, allocation, problems, report, now, obstacle)

    def _missed(self, interface: str, raw: Json, gone: bool) -> Transition | None:
        """What to tell of a pod that runs without the Interface's device; None: it does not."""
        key = pods.pod_key(raw)
        pod = self.cache.get(PODS, key)
        told = self._unplugged.get(key)
        if not (gone and pod and pods.is_plugged(pod)):
            if told and told[0] == interface:
                del self._unplugged[key]
                self.queue.add(Work(PODS, key, status=True))
            return None
        what = Transition(
            "Warning",
            "PodWithoutDevice",
            f"Pod {key} runs without the device of Interface {interface}: it started when its node"
            " asked nobody for it, or the device was removed: delete the pod, so that it is started"
            " again",
        )
        if not told:
            self._unplugged[key] = interface, what
            self.queue.add(Work(PODS, key, status=True))
        return what

    def _settles(self, work: Work, waits: bool) -> bool:
        """Whether the status is put off, because what it waits for may come in a moment."""
        subject = work._replace(status=False)
        left = self._settling.get(subject, 0.0) - time.monotonic()
        if waits and left > 0:
            self.queue.add(work, left)
            return True
        self._settling.pop(subject, None)
        return False

    def _tell(self, news: News) -> None:
        """Look at the statuses of those of whom an agent says something else than before."""
        for key in news.interfaces:
            self._settle(Work(INTERFACES, key), PATIENCE)
            self.queue.add(Work(INTERFACES, key, status=True))
        self._gather(news.networks, PATIENCE)

    def _gather(self, networks: Iterable[str], seconds: float) -> None:
        """Look at the statuses of networks soon: many slices and nodes change together."""
        for key in networks:
            self._settle(Work(VIRTUAL_NETWORKS, key), seconds)
            self.queue.add(Work(VIRTUAL_NETWORKS, key, status=True), GATHER)

    def _settle(self, work: Work, seconds: float) -> None:
        """Put the status off until agents have taken what is new: what held mostly holds then."""
        item = self.cache.get(work.kind, work.key)
        if item:
            seconds = seconds if objects.is_ready(item) else min(seconds, SETTLE)
            self._settling.setdefault(work, time.monotonic() + seconds)

    # Metrics

    def _families(self) -> Iterable[Metric]:
        count = gauges("objects", "Objects known.", ("kind",))
        for kind in (*INPUTS, *OUTPUTS):
            count.add_metric((kind.name,), self.cache.count(kind))
        yield count

        subjects = {*self._problems, *self._invalid}
        found = Counter(
            (name, problem.reason)
            for name, key in subjects
            for problem in self.problems(_BY_NAME[name], key)
        )
        problems = gauges("problems", "Problems of objects.", ("kind", "reason"))
        for labels, number_of in found.items():
            problems.add_metric(labels, number_of)
        yield problems

        nowhere = {
            key
            for name, key in subjects
            if name == INTERFACES.name and self.cache.get(INTERFACES, key) and self._nowhere(key)
        }
        ready = len(self._ready_interfaces - nowhere)
        interfaces = gauges(
            "interfaces", "Interfaces with a place, by condition Ready.", ("ready",)
        )
        interfaces.add_metric(("true",), ready)
        interfaces.add_metric(("false",), self.cache.count(INTERFACES) - len(nowhere) - ready)
        yield interfaces

        nodes = gauges("pipeline_nodes", "Nodes of a Pipeline.", ("pipeline", "state"))
        for name, item in self.cache.all(PIPELINES):
            status = part(item, "status")
            nodes.add_metric((name, "selected"), number(status.get("selectedNodes")))
            nodes.add_metric((name, "ready"), number(status.get("readyNodes")))
        yield nodes

        unreachable = gauges(
            "unreachable_node",
            "1 for a Pipeline's node that does not answer, by what is known of it.",
            # Prometheus says with `node` where the operator's own pod is.
            ("pipeline", "dataplane_node", "state"),
        )
        for place, state in self._standing.states.items():
            unreachable.add_metric((*place, state.value), 1)
        yield unreachable

        depth = gauges("queue_depth", "Objects and statuses to compare or write.", ())
        depth.add_metric((), len(self.queue))
        yield depth


_BY_NAME = {kind.name: kind for kind in INPUTS}


@dataclass(frozen=True, slots=True)
class _First:
    """Result of the first compilation."""

    compiler: Compiler
    changes: Changes
    parsed: list[Object]
    invalid: dict[tuple[str, str], tuple[Problem, ...]]


def _read(kind: Kind, item: Json, settings: Settings) -> Object | tuple[Problem, ...]:
    """The model of an input as the operator means it, or what is wrong with it."""
    found = parse(kind.name, item)
    if isinstance(found, Pipeline):
        return found.with_defaults(devices=settings.default_devices)
    return found


def _compile_all(
    held: Mapping[Kind, list[Json]],
    namespace: str,
    settings: Settings,
    withdrawn: Set[PipelineNode],
    resting: Iterable[Rest],
) -> _First:
    allocations = load_allocations(
        held[VIRTUAL_NETWORKS],
        held[INTERFACES],
        held[PIPELINES],
        held[DATAPLANE_CONFIGS],
        held[ROUTE_SLICES],
        held[PODS],
        resting,
    )
    read: list[Object] = []
    invalid: dict[Subject, tuple[Problem, ...]] = {}
    for kind in INPUTS:
        for item in held[kind]:
            found = _read(kind, item, settings)
            if isinstance(found, tuple):
                invalid[kind.name, objects.key(item)] = found
            else:
                read.append(found)

    def made(failing: Set[Subject]) -> Compiler:
        compiler = Compiler(allocations, namespace, settings.dataplane.sockets)
        compiler.set_unreachable(withdrawn)
        for name, key in (*invalid, *failing):
            compiler.hold(name, key)
        for each in read:
            if (each.kind, each.key) not in failing:
                compiler.upsert(each)
        return compiler

    first = start_compiler(made, held[DATAPLANE_CONFIGS], held[ROUTE_SLICES], int(time.time()))
    learned: list[Object] = [
        each for each in read if not isinstance(each, Interface | Node | Pod | Namespace)
    ]
    return _First(first.compiler, first.changes, learned, {**invalid, **first.held})


def _same_spec(before: Json, after: Json) -> bool:
    """Whether the compiler would see no difference."""
    if before.get("kind") == PODS.name:
        metadata = ("uid", "annotations", "ownerReferences")
        return all(
            part(before, "metadata").get(name) == part(after, "metadata").get(name)
            for name in metadata
        ) and all(before.get(name) == after.get(name) for name in ("spec", "status"))
    return (
        objects.uid(before) == objects.uid(after)
        and objects.generation(before) == objects.generation(after)
        and part(before, "metadata", "labels") == part(after, "metadata", "labels")
    )


def _put(table: dict[Key, Value], key: Key, value: Value | None) -> None:
    """Set, or remove when there is nothing."""
    if value is None:
        table.pop(key, None)
    else:
        table[key] = value
