# SPDX-License-Identifier: Apache-2.0
"""A DataplaneConfig and its Slices as one object."""

from typing import Any

import pytest

from headrace_api import (
    Json,
    Slice,
    SliceType,
    assembled,
    config_label,
    config_of_slice,
    config_slice_name,
    list_of,
    slices_named,
)
from headrace_api.selector import LabelSelector

CONFIG = "edge.node-a"


def entries(*names: str) -> list[Json]:
    return [{"namespace": "ns", "name": name} for name in names]


def part(kind: str, *names: str, states: Any = None, owner: str = CONFIG) -> Json:
    item: Json = {
        "metadata": {"name": "any"},
        "spec": {
            "type": kind,
            "owner": {"kind": "DataplaneConfig", "name": owner},
            "entries": [*entries(*names)],
        },
    }
    return item if states is None else {**item, "status": {"entries": states}}


def config(*names: str, **status: Any) -> Json:
    item: Json = {"metadata": {"name": CONFIG}, "spec": {"nodeName": "a", "slices": [*names]}}
    return {**item, "status": status} if status else item


def test_what_is_in_its_slices_is_in_the_whole() -> None:
    slices = {
        "n": part("Networks", "blue", states=[{"namespace": "ns", "name": "blue", "digest": "d"}]),
        "i0": part("Interfaces", "vm1", "vm2", states=[*entries("vm1")]),
        "i1": part("Interfaces", "vm3", states=[*entries("vm3")]),
        "other": part("Interfaces", "vm4"),
    }
    found: Any = assembled(config("n", "i0", "i1", features=["F"]), slices)
    assert found["spec"] == {
        "nodeName": "a",
        "slices": ["n", "i0", "i1"],
        "networks": entries("blue"),
        "interfaces": entries("vm1", "vm2", "vm3"),
    }
    assert found["status"] == {
        "features": ["F"],
        "networks": [{"namespace": "ns", "name": "blue", "digest": "d"}],
        "interfaces": entries("vm1", "vm3"),
    }


def test_what_it_says_itself_comes_first() -> None:
    own: Any = config("i0")
    own["spec"]["interfaces"] = [{"namespace": "ns", "name": "vm1", "mtu": 1500}, *entries("vm0")]
    found: Any = assembled(own, {"i0": part("Interfaces", "vm1", "vm2")})
    assert found["spec"]["interfaces"] == [
        {"namespace": "ns", "name": "vm1", "mtu": 1500},
        *entries("vm0", "vm2"),
    ]


def test_without_slices_it_is_the_same_object() -> None:
    alone = config()
    assert assembled(alone, {"i0": part("Interfaces", "vm1")}) is alone
    missing = config("gone")
    assert assembled(missing, {}) is missing


@pytest.mark.parametrize(
    "garbage",
    [
        {},
        {"spec": None},
        {"spec": []},
        {"spec": {"type": 7, "owner": "x", "entries": {}}},
        {"spec": {"type": "Interfaces", "entries": [None, 7, {"name": 3}]}, "status": "x"},
        {"spec": {"type": "Later", "entries": [{}]}},
    ],
)
def test_whatever_people_have_made_of_them_is_no_error(garbage: Json) -> None:
    found = assembled(config("g", "i0"), {"g": garbage, "i0": part("Interfaces", "vm1")})
    assert isinstance(found["spec"], dict)
    named: Any = found["spec"]["interfaces"]
    assert entries("vm1")[0] in named
    assert config_of_slice(garbage) == ""
    assert slices_named({"spec": {"slices": ["a", 7, None]}}) == ["a"]
    assert slices_named(garbage) == []


def test_whose_a_slice_is() -> None:
    assert config_of_slice(part("Interfaces")) == CONFIG
    routes: Json = {"spec": {"type": "Routes", "owner": {"kind": "VirtualNetwork", "name": "x"}}}
    assert config_of_slice(routes) == list_of(routes) == ""
    assert list_of(part("Networks")) == "networks"


@pytest.mark.parametrize("length", [8, 63, 64, 230, 253])
def test_names_and_labels_are_what_the_api_server_takes(length: int) -> None:
    name = f"edge.{'n' * 63}.{'m' * 63}.{'o' * 63}.{'p' * 63}"[:length].rstrip(".")
    made = {
        config_slice_name(name, kind, number)
        for kind in (SliceType.NETWORKS, SliceType.INTERFACES)
        for number in (0, 7, 255)
    }
    assert len(made) == 6
    for each in made:
        Slice.model_validate({"metadata": {"name": each}, "spec": part("Networks")["spec"]})
    LabelSelector.model_validate({"matchLabels": {"headrace.dev/config": config_label(name)}})
    assert config_label(name) != config_label(f"{name[:-1]}q")
