# SPDX-License-Identifier: Apache-2.0
"""The CRDs at a real API server: what it takes, what it refuses and how it says so."""

import json
import re
from collections.abc import Iterator
from typing import cast

import pytest
import yaml

from headrace_api import Json
from headrace_cli.errors import CommandError
from tests.cluster.cluster import REPOSITORY, Api
from tests.specs import BAD, GOOD, changed, example

pytestmark = pytest.mark.usefixtures("crds")

EXAMPLES = sorted((REPOSITORY / "deploy/examples").rglob("*.yaml"))
IMMUTABLE = [
    ("Interface", "networkRef/name", "red", "spec.networkRef: .*networkRef is immutable"),
    (
        "Pipeline",
        "underlayPrefixes",
        ["fd00:2::/48"],
        "spec: .*underlayPrefixes may grow, and loses none",
    ),
]
COLUMNS = {
    "vnet": ["NAME", "SUBNET", "VNI", "INTERFACES", "FREE", "READY", "REASON", "AGE"],
    "ifc": ["NAME", "NETWORK", "NODE", "TYPE", "READY", "REASON", "AGE"],
    "pl": ["NAME", "NODES", "READY NODES", "UNDERLAY", "READY", "REASON", "AGE"],
    "uep": ["NAME", "ADDRESS", "ENCAPSULATION", "READY", "REASON", "AGE"],
    "dpol": ["NAME", "RESOURCE", "VFS", "NODES", "READY NODES", "READY", "REASON", "AGE"],
    "dpc": ["NAME", "PIPELINE", "NODE", "READY", "REASON", "AGE"],
    "dps": ["NAME", "TYPE", "OF", "OWNER NAMESPACE", "OWNER", "VNI", "AGE"],
    "nds": ["NAME", "HUGEPAGES", "IOMMU", "CPUS", "DEVICES", "READY", "REASON", "AGE"],
}
KIND_OF = dict(zip(COLUMNS, GOOD, strict=True))


def apply(api: Api, *items: Json, dry_run: bool = False) -> str:
    words = ("--dry-run=server",) if dry_run else ()
    text = "\n---\n".join(json.dumps(item) for item in items)
    return api.kubectl("apply", "--server-side", *words, "-f", "-", stdin=text)


@pytest.fixture
def objects(api: Api, api_namespace: str) -> Iterator[dict[str, Json]]:
    """One good object of each kind, at the API server."""
    made = {kind: example(kind, api_namespace) for kind in GOOD}
    apply(api, *made.values())
    yield made
    api.kubectl("delete", "pipeline,devicepolicy,nodestate", api_namespace)


def test_the_examples_are_good(api: Api, api_namespace: str) -> None:
    for path in EXAMPLES:
        items = [cast(Json, item) for item in yaml.safe_load_all(path.read_text())]
        for item in items:
            metadata = cast(Json, item["metadata"])
            if "namespace" in metadata:
                metadata["namespace"] = api_namespace
        assert apply(api, *items, dry_run=True).count("serverside-applied") == len(items)


@pytest.mark.parametrize("kind", GOOD)
def test_a_fresh_object_is_in_progress(
    api: Api, api_namespace: str, objects: dict[str, Json], kind: str
) -> None:
    words = ("get", kind, cast(str, cast(Json, objects[kind]["metadata"])["name"]))
    found = json.loads(api.kubectl(*words, "-n", api_namespace, "-o", "json"))
    if kind == "Slice":
        assert "status" not in found
        return
    ready = {each["type"]: each for each in found["status"]["conditions"]}["Ready"]
    assert (ready["status"], ready["reason"]) == ("Unknown", "Pending")
    assert "observedGeneration" not in found["status"]


@pytest.mark.parametrize(("kind", "path", "value", "message"), BAD)
def test_bad_objects_are_refused_by_field(
    api: Api, kind: str, path: str, value: object, message: str
) -> None:
    item = changed(example(kind, "default"), path, value)
    with pytest.raises(CommandError) as refusal:
        api.kubectl("create", "--dry-run=server", "-f", "-", stdin=json.dumps(item))
    assert re.search(message, str(refusal.value), re.DOTALL)


@pytest.mark.parametrize("kind", ["VirtualNetwork", "Interface", "Pipeline"])
def test_names_are_labels(api: Api, kind: str) -> None:
    with pytest.raises(CommandError, match="the name must be an RFC 1123 label"):
        apply(api, example(kind, "default", "a.b"), dry_run=True)


@pytest.mark.parametrize(("kind", "path", "value", "message"), IMMUTABLE)
def test_some_fields_are_immutable(
    api: Api, objects: dict[str, Json], kind: str, path: str, value: object, message: str
) -> None:
    apply(api, objects[kind])
    with pytest.raises(CommandError, match=message):
        apply(api, changed(objects[kind], path, value), dry_run=True)


def test_prefixes_are_added(api: Api, api_namespace: str, objects: dict[str, Json]) -> None:
    pipeline = changed(objects["Pipeline"], "underlayPrefixes", ["fd00:2::/48", "fd00:1::/48"])
    apply(api, pipeline)
    with pytest.raises(CommandError, match="underlayPrefixes may grow, and loses none"):
        apply(api, changed(pipeline, "underlayPrefixes", ["fd00:1::/48"]), dry_run=True)


@pytest.mark.parametrize("short", COLUMNS)
def test_columns(api: Api, api_namespace: str, objects: dict[str, Json], short: str) -> None:
    heading, *rows = api.kubectl("get", short, "-n", api_namespace).splitlines()
    assert re.split(r"\s{2,}", heading.strip()) == COLUMNS[short]
    assert any(row.startswith(api_namespace) for row in rows)


def test_a_vni_is_pinned_to_what_was_allocated(api: Api, api_namespace: str) -> None:
    network = example("VirtualNetwork", api_namespace)
    spec = cast(Json, network["spec"])
    apply(api, network)

    def allocate(vni: int) -> None:
        patch = json.dumps({"status": {"vni": vni}})
        words = ("--subresource=status", "--type=merge", "-n", api_namespace)
        api.kubectl("patch", "vnet", api_namespace, *words, "-p", patch)

    # Nothing is allocated: another may be chosen; and it may be left to the operator.
    apply(api, changed(network, "vni", 101))
    del spec["vni"]
    apply(api, network)
    allocate(99)
    with pytest.raises(CommandError, match=r"spec.vni: the network has another already"):
        apply(api, changed(network, "vni", 100), dry_run=True)
    apply(api, changed(network, "vni", 99))
    # A status that is written late is taken: it is the operator's word.
    allocate(100)
    apply(api, network)
    with pytest.raises(CommandError, match=r"spec.vni: the network has another already"):
        apply(api, changed(network, "vni", 101), dry_run=True)
    del spec["vni"]
    apply(api, network)


def test_the_category_names_what_people_write(
    api: Api, api_namespace: str, objects: dict[str, Json]
) -> None:
    found = api.kubectl("get", "headrace", "-n", api_namespace, "-o", "name").splitlines()
    kinds = {line.partition(".")[0] for line in found if line.endswith(f"/{api_namespace}")}
    assert kinds == {kind.lower() for kind in objects} - {"dataplaneconfig", "slice", "nodestate"}
