# SPDX-License-Identifier: Apache-2.0
"""`headrace compile` of a cluster: what its objects compile to, beside what it has."""

import argparse
import asyncio
import difflib
from collections.abc import Iterable
from dataclasses import dataclass

import yaml
from pydantic import JsonValue, ValidationError

from headrace_api import (
    DataplaneConfig,
    Json,
    Object,
    Objects,
    Pipeline,
    Problem,
    RouteSlice,
)
from headrace_cli.cluster import ask, forbidden
from headrace_kube import (
    CONFIG_MAPS,
    DATAPLANE_CONFIGS,
    INTERFACES,
    NAMESPACES,
    NODES,
    PIPELINES,
    ROUTE_SLICES,
    UNDERLAY_ENDPOINTS,
    VIRTUAL_NETWORKS,
    Kube,
    KubeError,
)
from headrace_operator import resting
from headrace_operator.compiler import compile as compile_objects
from headrace_operator.render import load_allocations, parse, withdrawn_nodes
from headrace_operator.render.raw import key_of, part, text
from headrace_operator.settings import DataplaneSettings, Settings

_SETTINGS = "headrace-operator"
_DEFAULTS = Settings(dataplane=DataplaneSettings(image="headrace"))


@dataclass(frozen=True)
class Live:
    """What the user objects of a cluster compile to, and the compiled objects that it has."""

    documents: list[Json]
    problems: list[Problem]
    present: list[Json]

    def differences(self) -> list[str]:
        """Return a unified diff for each object that is not as it should be, by kind and name."""
        before = {_title(item): item for item in self.present}
        after = {_title(item): item for item in self.documents}
        diffs = (
            _diff(title, before.get(title), after.get(title))
            for title in sorted(before.keys() | after.keys())
        )
        return [diff for diff in diffs if diff]


def look(arguments: argparse.Namespace) -> Live:
    """Read the cluster and compile. Raises CommandError."""
    system = arguments.system_namespace

    async def read(kube: Kube) -> tuple[Json, list[list[Json]]]:
        listings = await asyncio.gather(
            kube.list(VIRTUAL_NETWORKS),
            kube.list(INTERFACES),
            kube.list(PIPELINES),
            kube.list(UNDERLAY_ENDPOINTS),
            kube.list(NODES),
            kube.list(NAMESPACES),
            kube.list(DATAPLANE_CONFIGS, system),
            kube.list(ROUTE_SLICES, system),
        )
        return await _anchor(kube, system), [listing.items for listing in listings]

    anchor, found = ask(arguments, read)
    settings = _settings(anchor)
    networks, interfaces, pipelines, endpoints, nodes, namespaces, configs, slices = found
    allocations = load_allocations(
        networks, interfaces, pipelines, configs, slices, resting=resting.read(anchor)
    )
    objects, problems = _parse(
        [*networks, *interfaces, *pipelines, *endpoints, *nodes, *namespaces], settings
    )
    unreachable = {(key_of(item), node) for item in pipelines for node in withdrawn_nodes(item)}
    compiled = compile_objects(
        objects, allocations, system, settings.dataplane.sockets, unreachable=unreachable
    )
    return Live(
        [*compiled.configs.values(), *compiled.slices.values()],
        [*problems, *compiled.problems],
        [*configs, *slices],
    )


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


def _parse(items: Iterable[Json], settings: Settings) -> tuple[Objects, list[Problem]]:
    found: list[Object] = []
    problems: list[Problem] = []
    for item in items:
        parsed = parse(str(item["kind"]), item)
        if isinstance(parsed, tuple):
            problems += parsed
        else:
            found.append(
                parsed.with_defaults(devices=settings.default_devices)
                if isinstance(parsed, Pipeline)
                else parsed
            )
    return Objects.of(found), problems


def _title(item: Json) -> str:
    metadata = item["metadata"]
    name = metadata.get("name") if isinstance(metadata, dict) else None
    return f"{item['kind']}/{name}"


def _spec(item: Json | None) -> list[str]:
    """Return the lines of the spec as this release writes it; none for no object."""
    if item is None:
        return []
    model = DataplaneConfig if item["kind"] == "DataplaneConfig" else RouteSlice
    try:
        stored = {name: value for name, value in item.items() if name != "status"}
        spec: JsonValue = model.model_validate(stored).spec.to_dict()
    except ValidationError:
        # Of another release: that it differs is what is asked.
        spec = item.get("spec")
    return yaml.safe_dump(spec, sort_keys=False).splitlines()


def _diff(title: str, before: Json | None, after: Json | None) -> str:
    return "\n".join(
        difflib.unified_diff(
            _spec(before), _spec(after), f"{title} (cluster)", f"{title} (compiled)", lineterm=""
        )
    )
