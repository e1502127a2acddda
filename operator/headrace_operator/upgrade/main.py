# SPDX-License-Identifier: Apache-2.0
"""The entry point `headrace-upgrade`: the chart's hook before an upgrade from the release before.

The API server drops what a kind's new schema does not know as soon as it has the schema, and takes
nothing that its old one does not know. So each kind is opened first: it takes any spec. Then its
objects are converted where they are, and then it is installed as this release has it. Interface is
the first to be opened and the last to be installed: while it is not as this release has it there
is something to convert, also after an end half-way.
"""

import argparse
import asyncio
import logging
import os
import sys
from http import HTTPStatus

from headrace_api import SYSTEM_NAMESPACE, Json
from headrace_api.base import Resource
from headrace_api.crd import crd
from headrace_api.interface import Interface
from headrace_api.kinds import KINDS
from headrace_api.raw import items, mapping, number, part, text
from headrace_kube import INTERFACES, PIPELINES, Kind, Kube, KubeError
from headrace_operator import objects

from .convert import converted

CRDS = Kind(
    "CustomResourceDefinition",
    "customresourcedefinitions",
    "apiextensions.k8s.io/v1",
    namespaced=False,
)
MANAGER = "headrace-upgrade"
#: The field of an Interface's spec that release 0.2 did not have.
_MARK = "pipelineRef"
#: Seconds that every one of the API servers may take to serve a kind as it has become: one that
#: does not yet would drop what is new from whatever passes it.
SPREAD = 5.0
#: For how long an object is tried.
_SECONDS = 60.0
_RETRY_SECONDS = 0.5
_AT_ONCE = 8
_ANYTHING: Json = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}

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
    """Convert the objects of a cluster, and install the kinds. Raises KubeError."""
    kinds = sorted(KINDS, key=lambda resource: resource is not Interface)
    if not await _is_new(kube):
        await _refuse_unchecked(kube)
        written = [resource for resource in kinds if not resource.COMPILED]
        there = [resource for resource in written if await _open(kube, resource)]
        if there:
            await asyncio.sleep(SPREAD)
        for resource in there:
            await _convert(kube, _kind(resource))
    for resource in reversed(kinds):
        await _install(kube, crd(resource), namespace, release)


async def _refuse_unchecked(kube: Kube) -> None:
    """Raise KubeError for a Pipeline that has not done with the upgrade before this one."""
    for item in (await kube.list(PIPELINES)).items:
        status = part(item, "status")
        found = map(mapping, items(status.get("conditions")))
        done = any(
            each.get("type") == "SourcesChecked" and each.get("status") == "True" for each in found
        )
        if number(status.get("selectedNodes")) and not done:
            message = (
                f"Pipeline {objects.key(item)}: its condition SourcesChecked is not True: some node"
                " has not done with the upgrade to 0.2; see the condition, and upgrade once it is"
            )
            raise KubeError(0, "NotDone", message)


def _kind(resource: type[Resource]) -> Kind:
    return Kind(
        resource.kind_name(), resource.PLURAL, resource.version(), namespaced=resource.NAMESPACED
    )


async def _is_new(kube: Kube) -> bool:
    """Whether the API server has the kinds of this release."""
    found = await _get(kube, CRDS, f"{INTERFACES.plural}.headrace.dev")
    versions = map(mapping, items(part(found, "spec").get("versions")))
    schemas = (part(each, "schema", "openAPIV3Schema", "properties", "spec") for each in versions)
    return any(_MARK in part(each, "properties") for each in schemas)


async def _get(kube: Kube, kind: Kind, name: str, namespace: str = "") -> Json | None:
    try:
        return await kube.get(kind, name, namespace)
    except KubeError as error:
        if error.absent:
            return None
        raise


async def _open(kube: Kube, resource: type[Resource]) -> bool:
    """Have the API server take any spec of the kind; whether it knows the kind."""
    definition = crd(resource)
    name = text(part(definition, "metadata")["name"])
    if await _get(kube, CRDS, name) is None:
        return False
    (version,) = map(mapping, items(part(definition, "spec").get("versions")))
    schema = _ANYTHING
    for path in resource.SELECTABLE:
        # Who selects by a field goes on.
        schema = {**_ANYTHING, "properties": _path(path.strip(".").split("."))}
    opened: Json = {**version, "schema": {"openAPIV3Schema": schema}}
    await kube.merge(CRDS, name, "", {"spec": {"versions": [opened]}}, MANAGER)
    return True


def _path(names: list[str]) -> Json:
    name, *rest = names
    return {name: {**_ANYTHING, "properties": _path(rest)} if rest else {"type": "string"}}


async def _convert(kube: Kube, kind: Kind) -> None:
    """Convert all objects of the kind. Raises KubeError."""
    found = (await kube.list(kind)).items
    slots = asyncio.Semaphore(_AT_ONCE)
    failures: list[KubeError] = []
    count = 0

    async def one(item: Json) -> None:
        nonlocal count
        async with slots:
            if failures:
                return
            try:
                count += await _convert_one(kube, kind, item)
            except KubeError as error:
                failures.append(error)

    # What is on its way ends before the first failure is told.
    await asyncio.gather(*map(one, found))
    if failures:
        raise failures[0]
    _log.info("%s: %d of %d converted", kind.plural, count, len(found))


async def _convert_one(kube: Kube, kind: Kind, item: Json) -> bool:
    """Write the object as this release has it; whether that is another. Raises KubeError."""
    namespace, name = objects.name_of(objects.key(item))
    deadline = asyncio.get_running_loop().time() + _SECONDS
    # Refused until the API server takes what its old schema did not know.
    strict = {"fieldManager": MANAGER, "fieldValidation": "Strict"}
    found: Json | None = item
    while found is not None and (new := converted(found)) != found:
        try:
            await kube.request("PUT", kind.path(namespace, name), strict, body=new)
            return True
        except KubeError as error:
            early = error.conflict or error.status in _EARLY
            if not early or asyncio.get_running_loop().time() > deadline:
                raise KubeError(error.status, error.reason, f"{kind.name} {error}") from error
        await asyncio.sleep(_RETRY_SECONDS)
        found = await _get(kube, kind, name, namespace)
    return False


#: What passes: the object is gone, or the kind is not open everywhere yet.
_EARLY = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY})


async def _install(kube: Kube, definition: Json, namespace: str, release: str) -> None:
    """Give the API server the kind as this release has it, so that Helm takes it for its own."""
    name = text(part(definition, "metadata")["name"])
    if await _get(kube, CRDS, name) is not None:
        # No categories is something else than none said.
        names = {"categories": None, **part(definition, "spec", "names")}
        spec = {**part(definition, "spec"), "names": names}
        await kube.merge(CRDS, name, "", {"spec": spec}, MANAGER)
        return
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


if __name__ == "__main__":
    sys.exit(main())
