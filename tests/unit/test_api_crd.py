# SPDX-License-Identifier: Apache-2.0
"""The CRDs: structural, bounded, and what the models say."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from headrace_api import crd, reference
from headrace_api.kinds import KINDS
from tests.specs import CLUSTER_WIDE

Schema = dict[str, Any]

CRDS: dict[str, Schema] = {resource.kind_name(): crd.crd(resource) for resource in KINDS}


def version(kind: str) -> Schema:
    found: Schema = CRDS[kind]["spec"]["versions"][0]
    return found


def schemas(node: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    yield path, node
    for name, child in node.get("properties", {}).items():
        yield from schemas(child, f"{path}.{name}")
    if "items" in node:
        yield from schemas(node["items"], f"{path}[]")
    if isinstance(node.get("additionalProperties"), dict):
        yield from schemas(node["additionalProperties"], f"{path}.*")


ALL = [
    pytest.param(node, id=f"{kind}{path}")
    for kind in CRDS
    for part in ("spec", "status")
    if part in version(kind)["schema"]["openAPIV3Schema"]["properties"]
    for path, node in schemas(
        version(kind)["schema"]["openAPIV3Schema"]["properties"][part], f".{part}"
    )
]
COMPILED = ("DataplaneConfig", "Slice", "NodeState")
WITH_CONDITIONS = sorted(CRDS.keys() - {"Slice"})
_SLICE = version("Slice")["schema"]["openAPIV3Schema"]["properties"]
# The type of the Slice says what they are.
FREE = [_SLICE[part]["properties"]["entries"]["items"] for part in ("spec", "status")]


def test_the_committed_files_are_what_the_models_say() -> None:
    assert crd.main(["--check"]) == 0


def test_the_reference_names_every_field(tmp_path: Path) -> None:
    assert reference.main(["--check"]) == 0
    assert reference.main(["--check", "--directory", str(tmp_path)]) == 1
    page = reference.reference()
    for kind in CRDS:
        for _, node in schemas(
            version(kind)["schema"]["openAPIV3Schema"]["properties"]["spec"], ""
        ):
            for name in node.get("properties", {}):
                assert f"| `{name}` |" in page


def test_check_fails_on_a_difference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert crd.main(["--check", "--directory", str(tmp_path)]) == 1
    assert list(tmp_path.iterdir()) == []
    assert crd.main(["--directory", str(tmp_path)]) == 0
    assert crd.main(["--check", "--directory", str(tmp_path)]) == 0
    assert "headrace.dev_pipelines.yaml: differs" in capsys.readouterr().out
    assert (
        yaml.safe_load((tmp_path / "headrace.dev_pipelines.yaml").read_text()) == CRDS["Pipeline"]
    )


@pytest.mark.parametrize("node", ALL)
def test_every_schema_is_structural_and_bounded(node: Schema) -> None:
    assert node["type"] in ("object", "array", "string", "integer", "boolean")
    assert not {"$ref", "anyOf", "oneOf", "allOf", "title", "const", "uniqueItems"} & node.keys()
    free = any(node is each for each in FREE)
    assert node.get("x-kubernetes-preserve-unknown-fields", False) is free
    match node["type"]:
        case "array":
            assert "maxItems" in node
            assert node["x-kubernetes-list-type"] in ("atomic", "set", "map")
            for key in node.get("x-kubernetes-list-map-keys", []):
                assert key in node["items"]["required"]
        case "string":
            assert {"maxLength", "enum", "format"} & node.keys()
        case "integer":
            assert node["format"] in ("int32", "int64")
            assert "minimum" in node
        case "object" if free:
            assert node.keys() == {"type", "x-kubernetes-preserve-unknown-fields"}
        case "object":
            assert ("properties" in node) != ("additionalProperties" in node)
    if "pattern" in node:
        # RE2 has no look-around and no back-references.
        assert not re.search(r"\(\?[=!<]|\\[1-9]", node["pattern"])


@pytest.mark.parametrize("node", ALL)
def test_every_field_is_described(node: Schema) -> None:
    fields = node.get("properties", {})
    assert [name for name in fields if not fields[name].get("description")] == []


@pytest.mark.parametrize("kind", CRDS)
def test_names_and_columns(kind: str) -> None:
    names = CRDS[kind]["spec"]["names"]
    compiled = kind in COMPILED
    assert names.get("categories") == (None if compiled else ["headrace"])
    expected = {
        "VirtualNetwork": "vnet",
        "Interface": "ifc",
        "Pipeline": "pl",
        "UnderlayEndpoint": "uep",
        "DevicePolicy": "dpol",
        "NodeState": "nds",
        "DataplaneConfig": "dpc",
        "Slice": "dps",
    }
    assert names["shortNames"] == [expected[kind]]
    group = "dataplane.headrace.dev" if compiled else "headrace.dev"
    assert CRDS[kind]["spec"]["group"] == group
    assert CRDS[kind]["metadata"]["name"] == f"{names['plural']}.{group}"
    assert CRDS[kind]["spec"]["scope"] == ("Cluster" if kind in CLUSTER_WIDE else "Namespaced")
    columns = [column["name"] for column in version(kind)["additionalPrinterColumns"]]
    assert (columns[-3:] == ["Ready", "Reason", "Age"]) is (kind in WITH_CONDITIONS)
    assert version(kind)["subresources"] == {"status": {}}


@pytest.mark.parametrize("kind", WITH_CONDITIONS)
def test_a_fresh_object_reads_as_in_progress(kind: str) -> None:
    status = version(kind)["schema"]["openAPIV3Schema"]["properties"]["status"]
    (condition,) = status["default"]["conditions"]
    assert (condition["type"], condition["status"]) == ("Ready", "Unknown")
    required = status["properties"]["conditions"]["items"]["required"]
    assert set(required) <= condition.keys()


@pytest.mark.parametrize("kind", COMPILED)
def test_the_api_server_adds_nothing_to_what_is_compiled(kind: str) -> None:
    spec = version(kind)["schema"]["openAPIV3Schema"]["properties"]["spec"]
    assert not [path for path, node in schemas(spec) if "default" in node]


@pytest.mark.parametrize("kind", CRDS)
def test_no_default_is_nothing(kind: str) -> None:
    """The API server takes no null in a default."""
    for where, node in schemas(version(kind)["schema"]["openAPIV3Schema"]):
        assert "default" not in node or "null" not in json.dumps(node["default"]), where


def rules(kind: str) -> set[str]:
    schema = version(kind)["schema"]["openAPIV3Schema"]
    return {
        rule["message"]
        for _, node in schemas(schema)
        for rule in node.get("x-kubernetes-validations", [])
    }


def test_rules_that_the_api_server_checks() -> None:
    assert "spec.vni: the network has another already, see status.vni" in rules("VirtualNetwork")
    # That is a condition, whatever order things are applied in.
    assert "subnets may not overlap" not in rules("VirtualNetwork")
    assert "networkRef is immutable" in rules("Interface")
    assert "afXDP is required when type is AFXDP, and forbidden otherwise" in rules("Interface")
    assert "underlayPrefixes may grow, and loses none" in rules("Pipeline")
    assert rules("DataplaneConfig") == rules("Slice") == set()
