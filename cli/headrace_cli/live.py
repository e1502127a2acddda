# SPDX-License-Identifier: Apache-2.0
"""`headrace compile` of a cluster: what its objects compile to, beside what it has."""

import argparse
import asyncio
import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import yaml
from pydantic import ValidationError

from headrace_api import (
    LISTS,
    DataplaneConfig,
    Interface,
    Json,
    NodeState,
    Object,
    Objects,
    Pipeline,
    Problem,
    RouteSlice,
    assembled,
    config_of_slice,
    entry_key,
)
from headrace_api.raw import items, key_of, part, text
from headrace_cli.cluster import ask, forbidden
from headrace_compiler import Rest
from headrace_compiler import compile as compile_objects
from headrace_kube import (
    COMPILED,
    CONFIG_MAPS,
    DATAPLANE_CONFIGS,
    INTERFACES,
    NAMESPACES,
    NODE_STATES,
    NODES,
    PIPELINES,
    PODS,
    SLICES,
    VIRTUAL_NETWORKS,
    WRITTEN,
    Kind,
    Kube,
    KubeError,
)
from headrace_operator import objects, resting
from headrace_operator.pods import PodError, choose_pipeline, is_completed, is_kept, pod_key
from headrace_operator.pods import interfaces as pod_interfaces
from headrace_operator.render import load_allocations, parse, withdrawn_nodes
from headrace_operator.settings import DataplaneSettings, Settings

_SETTINGS = "headrace-operator"
_COMPILED = (*COMPILED, NODE_STATES)
_EVERYWHERE = (*WRITTEN, NODES, NAMESPACES, PODS)
_NOT_YET = "9999-12-31T23:59:59Z"
_DEFAULTS = Settings(dataplane=DataplaneSettings(image="headrace"))


@dataclass(frozen=True)
class Live:
    """What the user objects of a cluster compile to, and the compiled objects that it has."""

    documents: list[Json]
    problems: list[Problem]
    present: list[Json]
    made: list[Json]
    """The Interfaces that pods ask for."""
    made_before: list[Json]
    """Those that the cluster has."""

    def differences(self) -> list[str]:
        """Return a unified diff for each object that is not as it should be, by kind and name."""
        before = {_title(item): item for item in (*self.present, *self.made_before)}
        after = {_title(item): item for item in (*self.documents, *self.made)}
        diffs = (
            _diff(title, before.get(title), after.get(title))
            for title in sorted(before.keys() | after.keys())
        )
        return [diff for diff in diffs if diff]


def look(arguments: argparse.Namespace) -> Live:
    """Read the cluster and compile. Raises CommandError."""
    system = arguments.system_namespace

    async def read(kube: Kube) -> tuple[Json, dict[Kind, list[Json]]]:
        listings = await asyncio.gather(
            *(kube.list(kind) for kind in _EVERYWHERE),
            *(kube.list(kind, system) for kind in _COMPILED),
        )
        found = [listing.items for listing in listings]
        held = dict(zip((*_EVERYWHERE, *_COMPILED), found, strict=True))
        return await _anchor(kube, system), held

    anchor, held = ask(arguments, read)
    return compile_live(held, system, _settings(anchor), resting.read(anchor))


def compile_live(
    held: Mapping[Kind, list[Json]],
    system: str,
    settings: Settings,
    rests: Iterable[Rest] = (),
) -> Live:
    """What the raw objects of a cluster compile to, pods' Interfaces as their annotations say."""
    pipelines, problems = _parse(held[PIPELINES], settings)
    pods = [objects.slim(pod) for pod in held[PODS]]
    interfaces, made, refused = _interfaces(held, pods, pipelines)
    kinds = [kind for kind in _EVERYWHERE if kind not in (PIPELINES, INTERFACES, PODS)]
    others = [*(item for kind in kinds for item in held[kind]), *interfaces, *pods]
    models, more = _parse(others, settings)
    configs = _whole(held)
    routes = [item for item in held[SLICES] if not config_of_slice(item)]
    allocations = load_allocations(
        held[VIRTUAL_NETWORKS],
        held[INTERFACES],
        held[PIPELINES],
        configs,
        routes,
        pods,
        rests,
    )
    compiled = compile_objects(
        Objects((*pipelines, *models)),
        allocations,
        system,
        settings.dataplane.sockets,
        unreachable={
            (key_of(item), node) for item in held[PIPELINES] for node in withdrawn_nodes(item)
        },
    )
    # Where no node agent runs there are to be none.
    states = compiled.node_states.values() if settings.node_agent else ()
    return Live(
        [*compiled.configs.values(), *compiled.slices.values(), *states],
        [*problems, *more, *refused, *compiled.problems],
        [*configs, *routes, *held[NODE_STATES]],
        made,
        [item for item in held[INTERFACES] if objects.is_owned(item)],
    )


def _whole(held: Mapping[Kind, list[Json]]) -> list[Json]:
    """The DataplaneConfigs as they are compiled: without what is about Slices alone."""
    slices = {text(part(item, "metadata").get("name")): item for item in held[SLICES]}
    found = (assembled(item, slices) for item in held[DATAPLANE_CONFIGS])
    return [
        {**item, "spec": {k: v for k, v in part(item, "spec").items() if k != "slices"}}
        for item in found
    ]


def _interfaces(
    held: Mapping[Kind, list[Json]], pods: Iterable[Json], pipelines: Iterable[Object]
) -> tuple[list[Json], list[Json], list[Problem]]:
    """All Interfaces as they are to be; those of them that the operator makes; whose pods err."""
    by_name = {item.key: item for item in pipelines if isinstance(item, Pipeline)}
    namespaces = {key_of(item): item for item in held[NAMESPACES]}
    there = {key_of(item): item for item in held[INTERFACES]}
    known = {key_of(pod): pod for pod in pods}
    wanted: dict[str, Json] = {}
    mistaken: dict[str, Problem] = {}

    def choose(key: str) -> str:
        namespace, _ = objects.name_of(key)
        return choose_pipeline(namespace, there.get(key), namespaces.get(namespace), by_name)

    for key, pod in known.items():
        try:
            wanted |= pod_interfaces(pod, choose)
        except PodError as error:
            mistaken[key] = Problem("Pod", *objects.name_of(key), "", error.reason, str(error))
    made: list[Json] = []
    kept: list[Json] = []
    for key, item in there.items():
        whose, asked = known.get(pod_key(item)), wanted.pop(key, None)
        if not objects.is_owned(item):
            # Somebody made it by hand, and knows best.
            kept.append(item)
        elif asked:
            made.append({**item, "spec": asked["spec"]})
        elif not whose or pod_key(item) in mistaken or (is_kept(item) and is_completed(whose)):
            # It is the garbage collector's, or a mistake must not cut the pod off.
            made.append(item)
    # The youngest, for the order in which values are given out.
    made += (
        {**item, "metadata": {**part(item, "metadata"), "creationTimestamp": _NOT_YET}}
        for item in wanted.values()
    )
    return [*kept, *made], made, [*mistaken.values()]


async def _anchor(kube: Kube, system: str) -> Json:
    """The operator's ConfigMap: its settings, and what rests; empty where it cannot be read."""
    try:
        return await kube.get(CONFIG_MAPS, _SETTINGS, system)
    except KubeError as error:
        if error.absent or forbidden(error):
            return {}
        raise


def _settings(anchor: Json) -> Settings:
    """The operator's settings, or the defaults where they cannot be read."""
    try:
        document = yaml.safe_load(text(part(anchor, "data").get("operator.yaml")))
        return Settings.model_validate(document)
    except (yaml.YAMLError, ValidationError):
        return _DEFAULTS


def _parse(items: Iterable[Json], settings: Settings) -> tuple[list[Object], list[Problem]]:
    found: list[Object] = []
    problems: list[Problem] = []
    for item in items:
        parsed = parse(str(item["kind"]), item)
        if isinstance(parsed, tuple):
            problems += parsed
        elif isinstance(parsed, Pipeline):
            found.append(parsed.with_defaults(devices=settings.default_devices))
        else:
            found.append(parsed)
    return found, problems


_MODELS: Mapping[str, type[DataplaneConfig | RouteSlice | NodeState | Interface]] = {
    model.kind_name(): model for model in (DataplaneConfig, RouteSlice, NodeState, Interface)
}


def _title(item: Json) -> str:
    # Compiled objects are all in one namespace, or in none.
    of = key_of(item) if item["kind"] == INTERFACES.name else part(item, "metadata").get("name")
    return f"{item['kind']}/{of}"


def _spec(item: Json | None) -> list[str]:
    """Return the lines of the spec as this release writes it; none for no object."""
    if item is None:
        return []
    model = _MODELS[str(item["kind"])]
    try:
        stored = {name: value for name, value in item.items() if name != "status"}
        spec = model.model_validate(stored).spec.to_dict()
    except ValidationError:
        # Of another release: that it differs is what is asked.
        spec = part(item, "spec")
    # In Slices they have another order.
    lists = {name: items(spec[name]) for name in LISTS.values() if name in spec}
    spec |= {name: sorted(entries, key=entry_key) for name, entries in lists.items()}
    return yaml.safe_dump(spec, sort_keys=False).splitlines()


def _diff(title: str, before: Json | None, after: Json | None) -> str:
    return "\n".join(
        difflib.unified_diff(
            _spec(before), _spec(after), f"{title} (cluster)", f"{title} (compiled)", lineterm=""
        )
    )
