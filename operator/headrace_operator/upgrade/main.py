# SPDX-License-Identifier: Apache-2.0
"""The entry point `headrace-upgrade`: the chart's hook before an upgrade from the release before.

The API server drops what a kind's new schema does not know as soon as it has the schema. So the
objects are read and converted before it gets it, kept in ConfigMaps until they are written, and the
schemas come from here. An operator of the release before cannot read the new objects, and leaves
what it made of the old ones.
"""

import argparse
import asyncio
import hashlib
import json
import logging
import os
import sys
from collections.abc import Awaitable, Callable
from http import HTTPStatus

from headrace_api import SYSTEM_NAMESPACE, Json
from headrace_api.crd import RESOURCES, crd
from headrace_kube import (
    CONFIG_MAPS,
    INTERFACES,
    PIPELINES,
    VIRTUAL_NETWORKS,
    Kind,
    Kube,
    KubeError,
)
from headrace_operator import objects
from headrace_operator.render.raw import items, mapping, part, text

from .convert import Converted, convert

CRDS = Kind(
    "CustomResourceDefinition",
    "customresourcedefinitions",
    "apiextensions.k8s.io/v1",
    namespaced=False,
)
MANAGER = "headrace-upgrade"
_LABEL = "headrace.dev/upgrade"
_OURS = {"app.kubernetes.io/name": "headrace"}
_COPY = "kubectl.kubernetes.io/last-applied-configuration"
_NO_COPY: Json = {"metadata": {"annotations": {_COPY: None}}}
#: For how long the API server may take to serve a new schema.
_SECONDS = 60.0
_RETRY_SECONDS = 0.5

_log = logging.getLogger("headrace_operator.upgrade")


def main(words: list[str] | None = None) -> int:
    """Convert, and return the exit status: 0, 1 when it has to be run again."""
    parser = argparse.ArgumentParser(
        prog="headrace-upgrade",
        description="Convert the objects of the release before, and install the kinds of this "
        "one. Run it before anything else brings these kinds; again does no harm.",
    )
    parser.add_argument("--kubeconfig", help="default: as a pod, else $KUBECONFIG")
    parser.add_argument(
        "--namespace",
        default=os.environ.get("POD_NAMESPACE", SYSTEM_NAMESPACE),
        help="Headrace's namespace; default: $POD_NAMESPACE, or %(default)s",
    )
    parser.add_argument(
        "--release", default="headrace", help="the Helm release that kinds belong to; %(default)s"
    )
    options = parser.parse_args(words)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        asyncio.run(_run(options))
    except KubeError as error:
        _log.error("headrace-upgrade: %s", error)
        return 1
    return 0


async def _run(options: argparse.Namespace) -> None:
    async with await Kube.connect(options.kubeconfig) as kube:
        await upgrade(kube, options.namespace, options.release)


async def upgrade(kube: Kube, namespace: str, release: str) -> None:
    """Convert the objects of a cluster. Raises KubeError."""
    converted = await _converted(kube)
    for note in converted.notes:
        _log.info("%s", note)
    for item in (*converted.endpoints, *converted.changed):
        await _keep(kube, namespace, item)
    secrets = [item for item in await _all(kube, INTERFACES) if _has_secret(item)]
    for resource in RESOURCES:
        await _install(kube, crd(resource), namespace, release)
    kept = await kube.list(CONFIG_MAPS, namespace, labels=_LABEL)
    order = {"UnderlayEndpoint": 0, "Pipeline": 1, "VirtualNetwork": 2}
    found = [(json.loads(text(part(each, "data").get("object"))), each) for each in kept.items]
    for item, holder in sorted(found, key=lambda pair: order[text(pair[0].get("kind"))]):
        try:
            await _write(kube, item)
            _log.info("%s %s is converted", item["kind"], objects.key(item))
        except KubeError as error:
            # A tenant's network holds up nobody's upgrade.
            if item["kind"] != VIRTUAL_NETWORKS.name or not error.refused:
                raise
            _log.warning("VirtualNetwork %s is not converted: %s", objects.key(item), error)
        await kube.delete(CONFIG_MAPS, text(part(holder, "metadata")["name"]), namespace)
    for item in secrets:
        # Whatever is written anew is stored without what the schema does not know; kubectl's copy
        # of the manifest has it, too.
        space, name = objects.name_of(objects.key(item))
        await _patiently(lambda: kube.merge(INTERFACES, name, space, _NO_COPY, MANAGER))  # noqa: B023
        _log.info("Interface %s: memif.secret is removed", objects.key(item))


async def _converted(kube: Kube) -> Converted:
    pipelines = await _schema(kube, PIPELINES)
    networks = await _schema(kube, VIRTUAL_NETWORKS)
    hop = "spec", "routes", "nextHops"
    devices = bool(pipelines) and not _has(pipelines, "spec", "allowedNamespaces")
    endpoints = bool(networks) and not _has(networks, *hop, "endpointRef")
    if not (devices or endpoints):
        return Converted()
    return convert(
        await _all(kube, PIPELINES),
        await _all(kube, VIRTUAL_NETWORKS),
        await _all(kube, INTERFACES),
        devices=devices,
        endpoints=endpoints,
    )


async def _all(kube: Kube, kind: Kind) -> list[Json]:
    try:
        return (await kube.list(kind)).items
    except KubeError as error:
        if error.absent:
            return []
        raise


async def _schema(kube: Kube, kind: Kind) -> Json:
    """The schema that the API server has for the kind; empty: it does not know the kind."""
    try:
        found = await kube.get(CRDS, f"{kind.plural}.headrace.dev")
    except KubeError as error:
        if error.absent:
            return {}
        raise
    versions = [mapping(each) for each in items(part(found, "spec").get("versions"))]
    return part(versions[0], "schema", "openAPIV3Schema") if versions else {}


def _has(schema: Json, *path: str) -> bool:
    """Whether the schema has the field, through lists."""
    for name in path:
        schema = part(schema, "items") or schema
        schema = part(schema, "properties", name)
    return bool(schema)


def _has_secret(interface: Json) -> bool:
    """Whether it has one, or kubectl's copy has: all that is left once the new kinds are there."""
    copy = text(part(interface, "metadata", "annotations").get(_COPY))
    return "secret" in part(interface, "spec", "attachment", "memif") or '"secret":' in copy


async def _keep(kube: Kube, namespace: str, item: Json) -> None:
    """Remember what is to be written, should this process end half-way."""
    which = hashlib.sha256(f"{item['kind']}/{objects.key(item)}".encode()).hexdigest()[:16]
    holder: Json = {
        "apiVersion": "v1",
        "kind": CONFIG_MAPS.name,
        "metadata": {
            "name": f"{MANAGER}-{which}",
            "namespace": namespace,
            "labels": {_LABEL: "pending", **_OURS},
        },
        "data": {"object": json.dumps(item)},
    }
    await kube.apply(CONFIG_MAPS, holder, MANAGER)


async def _install(kube: Kube, definition: Json, namespace: str, release: str) -> None:
    """Give the API server the kind as this release has it, so that Helm takes it for its own."""
    name = text(part(definition, "metadata")["name"])
    try:
        await kube.get(CRDS, name)
    except KubeError as error:
        if not error.absent:
            raise
        metadata: Json = {
            "name": name,
            "labels": {
                "app.kubernetes.io/managed-by": "Helm",
                "app.kubernetes.io/name": "headrace",
            },
            "annotations": {
                "meta.helm.sh/release-name": release,
                "meta.helm.sh/release-namespace": namespace,
            },
        }
        await kube.create(CRDS, {**definition, "metadata": metadata})
    else:
        await kube.merge(CRDS, name, "", {"spec": definition["spec"]}, MANAGER)


async def _write(kube: Kube, item: Json) -> None:
    """Create the object, or replace its spec, once the API server knows every field of it."""
    resource = next(each for each in RESOURCES if each.__name__ == item["kind"])
    kind = Kind(resource.__name__, resource.PLURAL, namespaced=resource.NAMESPACED)
    namespace, name = objects.name_of(objects.key(item))
    strict = {"fieldManager": MANAGER, "fieldValidation": "Strict"}

    async def write() -> object:
        try:
            there = await kube.get(kind, name, namespace)
        except KubeError as error:
            if not error.absent:
                raise
            if kind in (PIPELINES, VIRTUAL_NETWORKS):
                # Deleted meanwhile.
                return None
            return await kube.request("POST", kind.path(namespace), strict, body=item)
        whole = {**there, "spec": item["spec"]}
        return await kube.request("PUT", kind.path(namespace, name), strict, body=whole)

    await _patiently(write)


async def _patiently(write: Callable[[], Awaitable[object]]) -> None:
    """Try for as long as the API server may take to know a new schema. Raises KubeError."""
    deadline = asyncio.get_running_loop().time() + _SECONDS
    while True:
        try:
            await write()
            return
        except KubeError as error:
            early = error.conflict or error.status in (HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND)
            if not early or asyncio.get_running_loop().time() > deadline:
                raise
        await asyncio.sleep(_RETRY_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
