# SPDX-License-Identifier: Apache-2.0
"""A node's DataplaneConfig and Slices: put together, and their status taken apart."""

from typing import Any

from headrace_api import (
    DataplaneConfigStatus,
    InterfaceState,
    Json,
    NetworkState,
    assembled,
)
from headrace_dataplane.parts import Part, Report, Whole, taken_apart

CONFIG = "edge.a"


def entry(name: str) -> Json:
    return {"namespace": "ns", "name": name}


def part(name: str, *entries: str, kind: str = "Interfaces", generation: int = 1) -> Json:
    return {
        "metadata": {"name": name, "uid": f"u-{name}", "generation": generation},
        "spec": {
            "type": kind,
            "owner": {"kind": "DataplaneConfig", "name": CONFIG},
            "entries": [*map(entry, entries)],
        },
    }


def config(*slices: str) -> Json:
    return {"metadata": {"name": CONFIG}, "spec": {"slices": [*slices]}}


def interfaces(whole: Whole) -> list[str] | None:
    found: Any = whole.config()
    return found and [each["name"] for each in found["spec"].get("interfaces", ())]


def test_it_is_whole_once_all_that_it_names_is_there() -> None:
    whole = Whole(CONFIG)
    whole.put_slice(part("i0", "vm1"))
    assert whole.config() is None
    whole.put(config("i0", "i1"))
    assert whole.config() is None
    whole.put_slice(part("i1", "vm2"))
    assert interfaces(whole) == ["vm1", "vm2"]
    whole.put_slice(part("i1", "vm2", "vm3", generation=2))
    assert interfaces(whole) == ["vm1", "vm2", "vm3"]
    assert [(each.name, each.generation) for each in whole.parts()] == [("i0", 1), ("i1", 2)]


def test_one_without_slices_is_whole() -> None:
    whole = Whole(CONFIG)
    whole.put(config())
    assert interfaces(whole) == []
    assert whole.parts() == ()


def test_slices_of_others_are_passed_over() -> None:
    whole = Whole(CONFIG)
    whole.put(config("i0"))
    other: Any = part("i0", "vm1")
    other["spec"]["owner"]["name"] = "edge.b"
    whole.put_slice(other)
    assert whole.config() is None


def test_a_slice_that_goes_while_it_is_named_stays_as_it_was() -> None:
    whole = Whole(CONFIG)
    whole.put(config("i0"))
    whole.put_slice(part("i0", "vm1"))
    whole.drop_slices(["i0"])
    assert interfaces(whole) == ["vm1"]
    # It comes again, and counts as it is.
    whole.put_slice(part("i0", "vm2"))
    assert interfaces(whole) == ["vm2"]
    whole.drop_slices(["i0"])
    whole.put(config())
    assert interfaces(whole) == []
    assert not whole.names
    whole.put(config("i0"))
    assert whole.config() is None


def test_a_slice_that_goes_and_is_not_named_is_gone() -> None:
    whole = Whole(CONFIG)
    whole.put(config())
    whole.put_slice(part("i0", "vm1"))
    whole.drop_slices(["i0", "unknown"])
    assert not whole.names


def state(name: str) -> InterfaceState:
    return InterfaceState(namespace="ns", name=name, ready=True, reason="Forwarding")


def held(name: str, kind: str, *keys: str, generation: int = 1) -> Part:
    return Part(name, "u", generation, kind, frozenset(f"ns/{key}" for key in keys))


def test_each_slice_tells_of_its_own_entries_and_the_config_of_the_rest() -> None:
    status = DataplaneConfigStatus(
        observed_generation=3,
        engine_version="1",
        interfaces=(state("vm1"), state("vm2"), state("left")),
        networks=(NetworkState(namespace="ns", name="blue", digest="d"),),
    )
    parts = (
        held("n", "networks", "blue", "unreported", generation=4),
        held("i0", "interfaces", "vm1", generation=5),
        held("i1", "interfaces", "vm2", "vm1", generation=6),
        held("empty", "interfaces"),
        held("later", ""),
    )
    rest, slices = taken_apart(Report(status, parts))
    assert rest == status.model_copy(update={"interfaces": (state("left"),), "networks": ()})
    assert {name: found.to_dict() for name, found in slices.items()} == {
        "n": {
            "observedGeneration": 4,
            "entries": [NetworkState(namespace="ns", name="blue", digest="d").to_dict()],
        },
        "i0": {"observedGeneration": 5, "entries": [state("vm1").to_dict()]},
        "i1": {"observedGeneration": 6, "entries": [state("vm2").to_dict()]},
        "empty": {"observedGeneration": 1, "entries": []},
        "later": {"observedGeneration": 1, "entries": []},
    }


def test_what_was_taken_apart_is_put_together_again() -> None:
    status = DataplaneConfigStatus(
        observed_generation=3, interfaces=tuple(state(f"vm{number}") for number in range(5))
    )
    parts = (held("i0", "interfaces", "vm0", "vm3"), held("i1", "interfaces", "vm1"))
    rest, slices = taken_apart(Report(status, parts))
    there = {
        "i0": {**part("i0", "vm0", "vm3"), "status": slices["i0"].to_dict()},
        "i1": {**part("i1", "vm1"), "status": slices["i1"].to_dict()},
    }
    found: Any = assembled({**config("i0", "i1"), "status": rest.to_dict()}, there)
    assert sorted(each["name"] for each in found["status"]["interfaces"]) == [
        f"vm{number}" for number in range(5)
    ]
