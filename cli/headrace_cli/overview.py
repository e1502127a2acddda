# SPDX-License-Identifier: Apache-2.0
"""`headrace status` of a cluster: what is there, what is not ready, and what to do about it."""

import argparse
import asyncio
from collections import Counter, defaultdict
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType

from pydantic import Field

from headrace_api import PIPELINE_LABEL, Json, ObjectMeta
from headrace_api.base import ConditionStatus, ObjectStatus, StatusModel
from headrace_cli.cluster import ask, forbidden
from headrace_cli.output import print_json, print_table, table
from headrace_cli.remote import Pod, pods
from headrace_dataplane.protocol import JSONObject
from headrace_kube import (
    DATAPLANE_CONFIGS,
    INTERFACES,
    NODES,
    PIPELINES,
    VIRTUAL_NETWORKS,
    WRITTEN,
    Kind,
    Kube,
    KubeError,
    whole_configs,
)

# The cluster may be of a newer release than this program: only what is shown is read, and
# nothing else is checked.


class _Ref(StatusModel):
    name: str = ""


class _Spec(StatusModel):
    network_ref: _Ref = _Ref()
    pipeline_ref: _Ref = _Ref()
    pipeline_name: str = ""
    node_name: str = ""


class _Node(StatusModel):
    name: str


class _Interface(StatusModel):
    ready: bool = False


class _Status(ObjectStatus):
    vni: int | None = None
    desired_nodes: int | None = None
    programmed_nodes: int | None = None
    node_name: str = ""
    nodes: tuple[_Node, ...] = ()
    engine_version: str | None = None
    interfaces: tuple[_Interface, ...] = ()


class Seen(StatusModel):
    """An object of any of Headrace's kinds, as far as the overview shows it."""

    kind: str
    metadata: ObjectMeta
    spec: _Spec = _Spec()
    status: _Status = Field(default_factory=_Status)

    @property
    def key(self) -> str:
        """namespace/name, or the name."""
        namespace = self.metadata.namespace
        return f"{namespace}/{self.metadata.name}" if namespace else self.metadata.name


@dataclass(frozen=True)
class Readiness:
    """What the Ready condition says, at this generation."""

    ready: bool
    reason: str
    message: str


def readiness(item: Seen, waiting: str) -> Readiness:
    """Return whether the object is ready; `waiting` says what to do while nobody looks at it."""
    for condition in item.status.conditions:
        if condition.type != "Ready":
            continue
        seen = condition.observed_generation or item.status.observed_generation or 0
        if seen and seen >= item.metadata.generation:
            true = condition.status is ConditionStatus.TRUE
            return Readiness(true, condition.reason, condition.message)
    return Readiness(False, "Pending", waiting)


@dataclass(frozen=True)
class Row:
    """One object."""

    name: str
    state: Readiness

    @property
    def title(self) -> str:
        """What a problem calls it."""
        return self.name

    def to_dict(self) -> JSONObject:
        """The row as JSON."""
        fields = asdict(self)
        return {"name": self.name, **fields.pop("state"), **fields}


@dataclass(frozen=True)
class NetworkRow(Row):
    """A VirtualNetwork."""

    vni: int | None
    interfaces: int
    ready_interfaces: int
    nodes: int | None
    """Engines that are to have it; None: the operator does not say."""
    programmed_nodes: int | None


@dataclass(frozen=True)
class InterfaceRow(Row):
    """An Interface."""

    network: str
    pipeline: str
    node: str


@dataclass(frozen=True)
class PipelineRow(Row):
    """A Pipeline."""

    nodes: int
    ready_nodes: int


@dataclass(frozen=True)
class NodeRow(Row):
    """A Pipeline on one of its nodes."""

    pipeline: str
    interfaces: int
    ready_interfaces: int
    engine: str | None

    @property
    def title(self) -> str:
        """What a problem calls it."""
        return f"{self.name} of Pipeline {self.pipeline}"


@dataclass(frozen=True)
class Overview:
    """All that is shown; `notes` say what could not be looked at."""

    pipelines: tuple[PipelineRow, ...]
    nodes: tuple[NodeRow, ...]
    networks: tuple[NetworkRow, ...]
    interfaces: tuple[InterfaceRow, ...]
    others: Mapping[Kind, tuple[Row, ...]]
    """Objects of which there is nothing more to say than whether they are ready."""
    notes: tuple[str, ...] = ()

    @property
    def kinds(self) -> Mapping[Kind, Sequence[Row]]:
        """The rows by what they are about."""
        return {
            PIPELINES: self.pipelines,
            NODES: self.nodes,
            VIRTUAL_NETWORKS: self.networks,
            INTERFACES: self.interfaces,
            **self.others,
        }

    @property
    def problems(self) -> tuple[str, ...]:
        """One line for everything that is not ready; objects with the same problem share one."""
        lines = []
        for kind, rows in self.kinds.items():
            same: defaultdict[Readiness, list[str]] = defaultdict(list)
            for row in rows:
                if not row.state.ready:
                    same[row.state].append(row.title)
            for state, names in same.items():
                more = f" and {len(names) - 1} more" if len(names) > 1 else ""
                message = " ".join(state.message.split())
                lines.append(f"{kind.name} {names[0]}{more}: {message} ({state.reason})")
        return tuple(lines)


def overview(
    pipelines: Sequence[Seen],
    networks: Iterable[Seen],
    interfaces: Iterable[Seen],
    configs: Iterable[Seen],
    running: Iterable[Pod] | None,
    namespace: str,
    notes: Iterable[str] = (),
    others: Mapping[Kind, Iterable[Seen]] = MappingProxyType({}),
) -> Overview:
    """Put together what the API server has; `running` is None when pods may not be read.

    `namespace` is the one that Headrace is installed in.
    """
    waiting = (
        "the operator has not looked at it yet: "
        f"see kubectl -n {namespace} get deployment headrace-operator"
    )
    endpoints = tuple(
        InterfaceRow(
            name=item.key,
            state=readiness(item, waiting),
            network=f"{item.metadata.namespace}/{item.spec.network_ref.name}",
            pipeline=item.spec.pipeline_ref.name,
            node=item.spec.node_name or item.status.node_name,
        )
        for item in interfaces
    )
    nodes = _nodes(pipelines, configs, running, namespace)
    members = Counter(row.network for row in endpoints)
    ready_members = Counter(row.network for row in endpoints if row.state.ready)
    ready_nodes = Counter(row.pipeline for row in nodes if row.state.ready)
    every_node = Counter(row.pipeline for row in nodes)
    return Overview(
        pipelines=tuple(
            PipelineRow(
                name=item.key,
                state=readiness(item, waiting),
                nodes=every_node[item.key],
                ready_nodes=ready_nodes[item.key],
            )
            for item in pipelines
        ),
        nodes=nodes,
        networks=tuple(
            NetworkRow(
                name=item.key,
                state=readiness(item, waiting),
                vni=item.status.vni,
                interfaces=members[item.key],
                ready_interfaces=ready_members[item.key],
                nodes=item.status.desired_nodes,
                programmed_nodes=item.status.programmed_nodes,
            )
            for item in networks
        ),
        interfaces=endpoints,
        others={
            kind: tuple(Row(item.key, readiness(item, waiting)) for item in items)
            for kind, items in others.items()
        },
        notes=tuple(notes),
    )


def _nodes(
    pipelines: Iterable[Seen],
    configs: Iterable[Seen],
    running: Iterable[Pod] | None,
    namespace: str,
) -> tuple[NodeRow, ...]:
    compiled = {(c.spec.pipeline_name, c.spec.node_name): c for c in configs}
    pods_at: dict[tuple[str, str], Pod] = {}
    for pod in running or ():
        at = pod.pipeline, pod.spec.node_name
        if at not in pods_at or pod.ready:
            pods_at[at] = pod
    selected = {(item.key, node.name) for item in pipelines for node in item.status.nodes}
    rows = []
    for pipeline, node in sorted(selected | compiled.keys()):
        config = compiled.get((pipeline, node))
        state = (
            Readiness(False, "Pending", "the operator has not compiled for it yet")
            if config is None
            else readiness(config, "its dataplane has not reported on its configuration yet")
        )
        if running is not None:
            state = _of_pod(pods_at.get((pipeline, node)), pipeline, namespace, state)
        interfaces = config.status.interfaces if config else ()
        rows.append(
            NodeRow(
                name=node,
                state=state,
                pipeline=pipeline,
                interfaces=len(interfaces),
                ready_interfaces=sum(each.ready for each in interfaces),
                engine=config.status.engine_version if config else None,
            )
        )
    return tuple(rows)


def _of_pod(pod: Pod | None, pipeline: str, namespace: str, state: Readiness) -> Readiness:
    """Return what is wrong with the pod, else what its agent says: that may be long ago."""
    kubectl = f"see kubectl -n {namespace}"
    if pod is None:
        message = f"it has no dataplane pod: {kubectl} get pods -l {PIPELINE_LABEL}={pipeline}"
        return Readiness(False, "NoPod", message)
    name = pod.metadata.name
    if not pod.running:
        message = f"pod {name} does not run ({pod.trouble}): {kubectl} describe pod {name}"
        return Readiness(False, "PodNotRunning", message)
    if state.ready and not pod.ready:
        return Readiness(False, "PodNotReady", f"pod {name} is not ready: {kubectl} logs {name}")
    return state


def run(arguments: argparse.Namespace) -> int:
    """Print the overview; 1 when something is not ready."""
    found = ask(
        arguments,
        lambda kube: look(
            kube,
            arguments.system_namespace,
            "" if arguments.all_namespaces else arguments.namespace or kube.namespace,
        ),
    )
    problems = found.problems
    if arguments.output == "json":
        names = {VIRTUAL_NETWORKS: "networks"}
        rows: JSONObject = {
            names.get(kind, kind.plural): [row.to_dict() for row in of_kind]
            for kind, of_kind in found.kinds.items()
        }
        print_json({**rows, "notes": list(found.notes), "problems": list(problems)})
    else:
        _print(found)
    return 1 if problems else 0


async def look(kube: Kube, system: str, namespace: str = "") -> Overview:
    """Read all that may be read: of one namespace's networks and Interfaces, or of all.

    `system` is the namespace that Headrace is installed in. Raises KubeError.
    """
    notes: list[str] = []

    async def listed(kind: Kind, where: str) -> list[Json]:
        return (await kube.list(kind, where)).items

    async def seen(kind: Kind, reading: Awaitable[list[Json]]) -> list[Seen]:
        try:
            return [Seen.model_validate(item) for item in await reading]
        except KubeError as error:
            # A cluster of an earlier release may not have the kind.
            if not (forbidden(error) or error.absent):
                raise
            notes.append(f"{kind.plural} are not shown: {error.message}")
            return []

    async def dataplane() -> list[Pod] | None:
        try:
            return await pods(kube, system)
        except KubeError as error:
            if not forbidden(error):
                raise
            notes.append(f"dataplane pods are not looked at: {error.message}")
            return None

    written, configs, running = await asyncio.gather(
        asyncio.gather(
            *(seen(kind, listed(kind, namespace if kind.namespaced else "")) for kind in WRITTEN)
        ),
        seen(DATAPLANE_CONFIGS, whole_configs(kube, system)),
        dataplane(),
    )
    if namespace:
        notes.insert(0, f"of namespaced kinds, the objects of namespace {namespace}; all: -A")
    others = dict(zip(WRITTEN, written, strict=True))
    return overview(
        others.pop(PIPELINES),
        others.pop(VIRTUAL_NETWORKS),
        others.pop(INTERFACES),
        configs,
        running,
        system,
        notes,
        others,
    )


def _print(found: Overview) -> None:
    print_table(
        ("KIND", "READY", "NOT READY"),
        [
            (kind.name, ready, len(rows) - ready)
            for kind, rows in found.kinds.items()
            for ready in (sum(row.state.ready for row in rows),)
        ],
        "",
    )
    for note in found.notes:
        print(f"({note})")
    tables = (
        (
            ("PIPELINE", "STATE", "READY NODES"),
            [(p.name, p.state.reason, _of(p.ready_nodes, p.nodes)) for p in found.pipelines],
        ),
        (
            ("NODE", "PIPELINE", "STATE", "READY INTERFACES", "ENGINE"),
            [
                (
                    n.name,
                    n.pipeline,
                    n.state.reason,
                    _of(n.ready_interfaces, n.interfaces),
                    n.engine,
                )
                for n in found.nodes
            ],
        ),
        (
            ("NETWORK", "VNI", "STATE", "READY INTERFACES", "PROGRAMMED NODES"),
            [
                (
                    n.name,
                    n.vni,
                    n.state.reason,
                    _of(n.ready_interfaces, n.interfaces),
                    _of(n.programmed_nodes, n.nodes) if n.nodes is not None else None,
                )
                for n in found.networks
            ],
        ),
    )
    for headers, rows in tables:
        if rows:
            print("\n" + table(headers, rows))
    problems = found.problems
    print("\nproblems:" if problems else "\nno problems")
    for problem in problems:
        print(f"  {problem}")


def _of(part: int | None, whole: int) -> str:
    return f"{part or 0}/{whole}"
