# SPDX-License-Identifier: Apache-2.0
"""The kinds of objects that the operator reads or writes: what one of them has of its own.

A new kind is a class here, and its entry in HANDLERS.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import ClassVar, Generic, TypeVar, cast

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
    UnderlayEndpoint,
    VirtualNetwork,
)
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
from .agents import REPORT_TIMEOUT
from .allocated import Allocated
from .cache import Cache
from .dataplanes import Dataplanes
from .desired import Desired
from .observed import Observed
from .pod_interfaces import PodInterfaces
from .progress import Progress
from .render import (
    Settings,
    endpoint_status,
    features,
    interface_status,
    network_status,
    parse,
    pipeline_status,
)
from .render.conditions import not_ready
from .render.raw import part, text
from .startup import Startup
from .statuses import Statuses
from .work import Queue, Work, config_of
from .workqueue import Place

Model = TypeVar("Model", bound=Object)

#: Reasons of an Interface that waits for its pod: at first, and all of them.
_UNSETTLED = frozenset({"PodNotFound", "PodNotScheduled"})
WITHOUT_POD = _UNSETTLED | {"PodCompleted"}


class State:
    """What the handlers of all kinds share: each part has one concern."""

    def __init__(
        self, namespace: str, settings: Settings, owner: Json, cache: Cache, queue: Queue
    ) -> None:
        """`owner` is the ownerReference of everything that is made."""
        self.namespace = namespace
        self.settings = settings
        self.cache = cache
        self.queue = queue
        self.observed = Observed(namespace, settings.dataplane.sockets)
        self.allocated = Allocated(namespace)
        self.desired = Desired(owner, queue.add)
        self.progress = Progress(cache, self.desired, namespace)
        self.statuses = Statuses(cache, queue, self.observed)
        self.pods = PodInterfaces(cache, self.observed, self.desired, self.statuses)
        self.dataplanes = Dataplanes(settings, namespace, cache, self.desired)
        self.startup = Startup(namespace if settings.node_agent else None)


class Handler:
    """What is so of a kind, unless its own class says otherwise. `key` is that of an object."""

    kind: ClassVar[Kind]
    has_status: ClassVar[bool] = False
    """Whether the operator writes its status."""
    shared: ClassVar[bool] = False
    """Whether both people and the operator make such objects: theirs are left alone."""
    defaulted: ClassVar[bool] = False
    """Whether the API server adds defaults to what is written, which are no difference."""

    def __init__(self, state: State) -> None:
        self._state = state

    @staticmethod
    def group(key: str) -> str:
        """Who takes turns in the queue with others: its tenant, or the object alone."""
        return objects.name_of(key)[0] or key

    def listed(self, key: str, item: Json) -> None:
        """Take an object that is there when the operator starts, and has been compiled."""

    def changed(self, key: str, before: Json | None, after: Json | None) -> None:
        """Take a change of an object; None: it did not exist, or does not any more."""

    def needs(self, work: Work) -> Iterable[Work]:
        """What is written before the output, or the status: what gives out what it uses."""
        return ()

    def applied(self, work: Work) -> None:
        """Take note that an output was written."""

    def failed(self, work: Work, why: str, *, refused: bool) -> None:
        """An output cannot be written, or is `refused` for good; no why: it was."""

    def is_retained(self, item: Json) -> bool:
        """Whether an output that is not desired stays for now."""
        return False

    def enqueue_statuses(self, work: Work) -> None:
        """Look at the statuses of whatever an output is about."""

    def problems(self, key: str) -> tuple[Problem, ...]:
        """All that is wrong with the object."""
        return self._state.statuses.problems(Work(self.kind, key))

    def status(self, work: Work, raw: Json, now: datetime) -> Json | None:
        """The status, whole; None: not now."""
        return None


class Input(Handler, Generic[Model]):
    """What the compiler reads."""

    has_status = True

    def read(self, item: Json) -> Model | tuple[Problem, ...]:
        """The object as the operator means it, or what is wrong with it."""
        return cast(Model | tuple[Problem, ...], parse(self.kind.name, item))

    def is_same(self, before: Json, after: Json) -> bool:
        """Whether the compiler would see no difference."""
        return (
            objects.uid(before) == objects.uid(after)
            and objects.generation(before) == objects.generation(after)
            and part(before, "metadata", "labels") == part(after, "metadata", "labels")
        )

    def changed(self, key: str, before: Json | None, after: Json | None) -> None:
        """Have it compiled, or compare its status."""
        if not (before and after and self.is_same(before, after)):
            self._observe(key, after)
        elif self.has_status and before.get("status") != after.get("status"):
            self._state.statuses.enqueue(self.kind, key)

    def accepted(self, model: Model) -> None:
        """Do what beside the compilation follows from an object that can be read."""

    def deleted(self, key: str) -> None:
        """Do what beside the compilation follows from its deletion."""

    def _observe(self, key: str, item: Json | None) -> None:
        work, found = Work(self.kind, key), self.read(item) if item else None
        self._state.observed.put(work, found)
        if found is None:
            self._state.statuses.forget(work)
            self.deleted(key)
        elif not isinstance(found, tuple):
            self.accepted(found)


class Namespaces(Input[Namespace]):
    """Only read: what Pipelines and UnderlayEndpoints select."""

    kind = NAMESPACES
    has_status = False

    def accepted(self, model: Namespace) -> None:
        """Its pods may have a Pipeline now."""
        self._state.pods.retry()


class Nodes(Input[Node]):
    """Only read, but for the startup taint."""

    kind = NODES
    has_status = False

    def changed(self, key: str, before: Json | None, after: Json | None) -> None:
        """Let pods on it, if it waited and need not any more."""
        _enqueue_startup(self._state, key)
        super().changed(key, before, after)


class Pods(Input[Pod]):
    """Only read: their annotations ask for Interfaces; of those they lack an event tells."""

    kind = PODS
    has_status = False

    def is_same(self, before: Json, after: Json) -> bool:
        """Whether neither the compiler nor the pod's Interfaces see a difference."""
        metadata = ("uid", "annotations", "ownerReferences")
        return all(
            part(before, "metadata").get(name) == part(after, "metadata").get(name)
            for name in metadata
        ) and all(before.get(name) == after.get(name) for name in ("spec", "status"))

    def listed(self, key: str, item: Json) -> None:
        """Desire its Interfaces."""
        if pods.is_annotated(item):
            self._state.pods.desire(key, item)
        _enqueue_startup(self._state, self._state.startup.observe(item, there=True))

    def changed(self, key: str, before: Json | None, after: Json | None) -> None:
        """It may be the node agent's, for which its node waits."""
        node = self._state.startup.observe(after or before or {}, there=bool(after))
        _enqueue_startup(self._state, node)
        super().changed(key, before, after)

    def _observe(self, key: str, item: Json | None) -> None:
        super()._observe(key, item)
        self._state.pods.desire(key, item)
        for interface in pods.interface_keys(item) if item and pods.is_plugged(item) else ():
            # Of one that runs without its device more is to be said.
            self._state.statuses.enqueue(INTERFACES, interface)


class Pipelines(Input[Pipeline]):
    """They have DaemonSets."""

    kind = PIPELINES

    def read(self, item: Json) -> Pipeline | tuple[Problem, ...]:
        """With the devices that it has where it lists none."""
        found = super().read(item)
        if isinstance(found, tuple):
            return found
        return found.with_defaults(devices=self._state.settings.default_devices)

    def accepted(self, model: Pipeline) -> None:
        """Desire its DaemonSets, and what pods could not have without it."""
        self._state.observed.pipelines[model.key] = model
        self._state.dataplanes.desire(model)
        self._enqueue_outputs(model.key)
        self._state.pods.retry()

    def deleted(self, key: str) -> None:
        """Another may have its port."""
        pipelines, dataplanes = self._state.observed.pipelines, self._state.dataplanes
        pipelines.pop(key, None)
        dataplanes.delete(key)
        self._enqueue_outputs(key)
        self._state.pods.retry()
        for other in [each for each in pipelines.values() if dataplanes.port(each.key) is None]:
            self.accepted(other)
            self._state.observed.touched.add(Work(PIPELINES, other.key))

    def needs(self, work: Work) -> Iterable[Work]:
        """Its nodes' DataplaneConfigs."""
        nodes = self._state.allocated.nodes.get(work.key, ())
        return (config_of(self._state.namespace, (work.key, node)) for node in nodes)

    def problems(self, key: str) -> tuple[Problem, ...]:
        """What keeps it from its pods, too."""
        found = super().problems(key)
        if key in self._state.observed.pipelines:
            found = (*found, *self._state.dataplanes.problems(key))
        return found

    def status(self, work: Work, raw: Json, now: datetime) -> Json | None:
        """By its pods, and what its nodes' agents report."""
        progress, observed = self._state.progress, self._state.observed
        nodes = self._state.allocated.nodes.get(work.key, {})
        failing, states = progress.pipeline(work.key, nodes)
        unreachable = {node for node, state in states.items() if not state.reachable}
        # What has not been ready is told at once: its pods take their time.
        waits = bool(failing.keys() - unreachable) and objects.is_ready(raw)
        if self._state.statuses.is_deferred(work, waits):
            return None
        if late := progress.late_in(work.key, nodes):
            self._state.queue.add(work, late)
        return pipeline_status(
            raw,
            nodes,
            self.problems(work.key),
            self._state.dataplanes.found(work.key),
            failing,
            states,
            self._state.dataplanes.port(work.key),
            now,
            compiled=work.subject not in observed.invalid,
            unaware={each: observed.compiler.unaware(each, work.key) for each in NEW_FEATURES},
        )

    def _enqueue_outputs(self, pipeline: str) -> None:
        """Delete what is left of the Pipeline, if anything."""
        for kind in (DATAPLANE_CONFIGS, DAEMON_SETS):
            for key, item in self._state.cache.all(kind):
                if objects.label(item, PIPELINE_LABEL) == pipeline:
                    self._state.queue.add(Work(kind, key))


class UnderlayEndpoints(Input[UnderlayEndpoint]):
    """Gear outside of the cluster."""

    kind = UNDERLAY_ENDPOINTS

    def status(self, work: Work, raw: Json, now: datetime) -> Json | None:
        """By its spec alone."""
        return endpoint_status(raw, self.problems(work.key), now)


class VirtualNetworks(Input[VirtualNetwork]):
    """They have RouteSlices."""

    kind = VIRTUAL_NETWORKS

    def __init__(self, state: State) -> None:
        super().__init__(state)
        self._gateways: dict[str, tuple[str, ...]] = {}

    def accepted(self, model: VirtualNetwork) -> None:
        """What is written of it is not the newest any more."""
        self._state.progress.recompiled(model.key)
        self._gateways[model.key] = tuple(each.gateway_address for each in model.spec.subnets)

    def deleted(self, key: str) -> None:
        """Nothing is left of it."""
        self._gateways.pop(key, None)
        self._state.progress.forget(key)

    def needs(self, work: Work) -> Iterable[Work]:
        """Its RouteSlices."""
        return self._state.progress.slices_of(work.key)

    def status(self, work: Work, raw: Json, now: datetime) -> Json | None:
        """By the nodes whose engines have it."""
        progress, observed = None, self._state.observed
        if work.subject not in observed.invalid:
            progress, passing = self._state.progress.network(work.key)
            waits = bool(progress.unwritten or progress.lacking)
            if self._state.statuses.is_deferred(work, waits):
                return None
            if passing:
                self._state.queue.add(work, REPORT_TIMEOUT)
        return network_status(
            raw,
            self._state.allocated.vnis.get(work.key),
            self._gateways.get(work.key, ()),
            self.problems(work.key),
            progress,
            observed.compiler.usage(work.key),
            now,
        )


class Interfaces(Input[Interface]):
    """People make them, and the operator for pods."""

    kind = INTERFACES
    shared = True
    defaulted = True

    def changed(self, key: str, before: Json | None, after: Json | None) -> None:
        """Make it again, leave it to whom it belongs, or delete it, as its pod asks for it."""
        super().changed(key, before, after)
        work = Work(INTERFACES, key)
        desired = self._state.desired.get(work)
        if desired and not all(item and objects.is_owned(item) for item in (before, after)):
            self._state.pods.desire_again(pods.pod_key(desired))
        elif desired or (after and objects.is_owned(after)):
            self._state.queue.add(work)

    def deleted(self, key: str) -> None:
        """Its pod lacks nothing of it any more."""
        self._state.pods.forget_interface(key)

    def needs(self, work: Work) -> Iterable[Work]:
        """What its status is about; nothing where some of that is refused."""
        allocation = self._state.allocated.interfaces.get(work.key) if work.status else None
        if allocation is None:
            return ()
        needs = [*self._state.progress.slices_of(allocation.network)]
        if allocation.node:
            place = allocation.pipeline, allocation.node
            needs.insert(0, config_of(self._state.namespace, place))
        # Its slices wait for its config, too.
        return () if any(map(self._state.desired.is_refused, needs)) else needs

    def failed(self, work: Work, why: str, *, refused: bool) -> None:
        """Tell the pod."""
        if (refused or not why) and self._state.desired.failed(work, why, refused=refused):
            self._state.pods.refused(work.key, why)

    def is_retained(self, item: Json) -> bool:
        """As its pod has it."""
        return self._state.pods.is_retained(item)

    def status(self, work: Work, raw: Json, now: datetime) -> Json | None:
        """By what its node's agent reports."""
        allocation = self._state.allocated.interfaces.get(work.key)
        problems = self.problems(work.key)
        reasons = {problem.reason for problem in problems}
        if "PodNotFound" in reasons and objects.is_owned(raw) and not pods.is_kept(raw):
            # It goes with its pod.
            return None
        report, obstacle = None, None
        waits = bool(reasons & _UNSETTLED)
        if allocation and allocation.node and not problems:
            report, obstacle = self._state.progress.interface(work.key, allocation)
            waits = bool(obstacle) or report.ready is None
        if self._state.statuses.is_deferred(work, bool(problems or allocation) and waits):
            return None
        gone = report is not None and not obstacle and report.reason == "DeviceGone"
        if event := self._state.pods.without_device(work.key, raw, gone):
            obstacle = not_ready(event.reason, event.note)
        return interface_status(raw, allocation, problems, report, now, obstacle)


class Output(Handler):
    """What is written here, whole, in the operator's namespace."""

    @staticmethod
    def group(key: str) -> str:
        """Every object alone."""
        return key

    def changed(self, key: str, before: Json | None, after: Json | None) -> None:
        """Compare it with what is desired; the status of its Pipeline tells of it."""
        self._state.queue.add(Work(self.kind, key))
        self._state.statuses.enqueue_pipeline(objects.label(after or before, PIPELINE_LABEL))

    def is_retained(self, item: Json) -> bool:
        """Its Pipeline cannot be read."""
        pipeline = objects.label(item, PIPELINE_LABEL)
        return (PIPELINES.name, pipeline) in self._state.observed.invalid


class Compiled(Output):
    """What the compiler writes: agents follow it."""

    def listed(self, key: str, item: Json) -> None:
        """Take note of it, and of what the agent reports."""
        self._state.progress.observe(Work(self.kind, key), item)

    def changed(self, key: str, before: Json | None, after: Json | None) -> None:
        """Statuses tell of what agents report, too."""
        changes = self._state.progress.observe(Work(self.kind, key), after)
        self._state.statuses.enqueue_reported(changes)
        super().changed(key, before, after)

    def applied(self, work: Work) -> None:
        """Compare it with what is there now."""
        self._state.progress.applied(work)

    def failed(self, work: Work, why: str, *, refused: bool) -> None:
        """Statuses tell of it."""
        if self._state.desired.failed(work, why, refused=refused):
            self.enqueue_statuses(work)

    def enqueue_statuses(self, work: Work) -> None:
        """Those of Interfaces, networks and the Pipeline."""
        statuses, desired = self._state.statuses, self._state.desired.get(work)
        for key in self._interfaces(work):
            statuses.enqueue(INTERFACES, key)
        statuses.enqueue_networks(self._state.progress.networks_in(work), 0.0)
        statuses.enqueue_pipeline(objects.label(desired, PIPELINE_LABEL))

    def _interfaces(self, work: Work) -> Iterable[str]:
        raise NotImplementedError


class DataplaneConfigs(Compiled):
    """One for each Pipeline and node."""

    kind = DATAPLANE_CONFIGS

    def changed(self, key: str, before: Json | None, after: Json | None) -> None:
        """Have what an agent understands sent to it, and nothing else."""
        if after:
            spec, observed = part(after, "spec"), self._state.observed
            pipeline, node = text(spec.get("pipelineName")), text(spec.get("nodeName"))
            if observed.compiler.agent(pipeline, node, features(after)):
                observed.touch(Work(PIPELINES, pipeline))
        super().changed(key, before, after)

    def is_retained(self, item: Json) -> bool:
        """Its Pipeline cannot be read, or not be compiled on this node."""
        pipeline, node = objects.label(item, PIPELINE_LABEL), part(item, "spec").get("nodeName")
        return super().is_retained(item) or self._state.observed.compiler.is_stuck(
            pipeline, text(node)
        )

    def _interfaces(self, work: Work) -> Iterable[str]:
        return self._state.progress.interfaces_in(work)


class RouteSlices(Compiled):
    """Some for each network."""

    kind = ROUTE_SLICES

    @staticmethod
    def group(key: str) -> str:
        """They are in one namespace, and named for that of their network."""
        return objects.name_of(key)[1].partition(".")[0]

    def needs(self, work: Work) -> Iterable[Work]:
        """The DataplaneConfigs that give out the underlay addresses that it names."""
        return self._state.allocated.configs(self._state.progress.addresses_in(work))

    def _interfaces(self, work: Work) -> Iterable[str]:
        addresses = self._state.progress.addresses_in(work)
        allocations = self._state.allocated.interfaces.items()
        return [key for key, held in allocations if held.underlay_address in addresses]


class DaemonSets(Output):
    """One for each class of a Pipeline's nodes."""

    kind = DAEMON_SETS
    defaulted = True

    def failed(self, work: Work, why: str, *, refused: bool) -> None:
        """The Pipeline's status tells of it."""
        if (refused or not why) and self._state.desired.failed(work, why, refused=refused):
            pipeline = self._state.dataplanes.pipeline_of(work.key)
            if pipeline is not None:
                self._state.statuses.enqueue(PIPELINES, pipeline)


def _enqueue_startup(state: State, node: str) -> None:
    """Let pods on the node, if it waited for its agent and need not any more."""
    if state.startup.admission(state.cache.get(NODES, node)):
        state.queue.add(Work(NODES, node))


HANDLERS: dict[Kind, type[Handler]] = {
    each.kind: each
    for each in (
        Namespaces,
        Nodes,
        Pods,
        Pipelines,
        UnderlayEndpoints,
        VirtualNetworks,
        Interfaces,
        DataplaneConfigs,
        RouteSlices,
        DaemonSets,
    )
}
#: What the compiler reads, of all namespaces.
INPUTS = tuple(kind for kind, each in HANDLERS.items() if issubclass(each, Input))
#: What is written here, whole, in the operator's namespace.
OUTPUTS = tuple(kind for kind, each in HANDLERS.items() if issubclass(each, Output))
#: Of what there are objects that the operator has made.
MADE = (*OUTPUTS, *(kind for kind, each in HANDLERS.items() if each.shared))


def place(work: Work) -> Place:
    """Each kind has workers of its own; its tenants take turns, or whose objects it is about."""
    pool = f"{work.kind.name}{'/status' if work.status else ''}"
    return Place(pool, HANDLERS[work.kind].group(work.key))
