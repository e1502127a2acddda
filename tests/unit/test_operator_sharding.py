# SPDX-License-Identifier: Apache-2.0
"""What is compiled for a node, spread over small objects."""

import json
from random import Random
from typing import Any

from headrace_api import Json, assembled
from headrace_operator.sharding import BYTES, ENTRIES, Sharding

CONFIG = "edge.a"


def entry(name: str, size: int = 0, **more: Any) -> Json:
    return {"namespace": "ns", "name": name, "text": "x" * size, **more}


def whole(*interfaces: Json, networks: tuple[Json, ...] = (), **more: Any) -> Json:
    return {
        "apiVersion": "dataplane.headrace.dev/v1alpha1",
        "kind": "DataplaneConfig",
        "metadata": {
            "name": CONFIG,
            "namespace": "sys",
            "labels": {"headrace.dev/pipeline": "edge"},
        },
        "spec": {
            "pipelineName": "edge",
            "nodeName": "a",
            "networks": [*networks],
            "interfaces": [*interfaces],
            **more,
        },
    }


class Server:
    """Has what was written."""

    def __init__(self, sharding: Sharding | None = None) -> None:
        self.sharding = sharding or Sharding()
        self.config: Json | None = None
        self.slices: dict[str, Json] = {}

    def write(self, item: Json | None) -> set[str]:
        """Write it; returns the Slices that were written."""
        self.config, changed = self.sharding.spread(CONFIG, item)
        for name, each in changed.items():
            if each is None:
                del self.slices[name]
            else:
                self.slices[name] = json.loads(json.dumps(each))
        return {*changed}

    def names(self, field: str = "interfaces") -> dict[str, list[str]]:
        """Entries by Slice."""
        found: Any = self.slices
        return {
            name: [each["name"] for each in item["spec"]["entries"]]
            for name, item in found.items()
            if f".{field}." in name
        }

    def whole(self) -> Any:
        assert self.config is not None
        found: Any = assembled(self.config, self.slices)
        return {name: each for name, each in found["spec"].items() if name != "slices"}


def test_networks_and_interfaces_are_in_slices_of_the_node() -> None:
    server = Server()
    assert server.write(whole(entry("vm1"), networks=(entry("blue"),))) == {
        "edge.a.networks.0",
        "edge.a.interfaces.0",
    }
    config: Any = server.config
    assert config["spec"] == {
        "pipelineName": "edge",
        "nodeName": "a",
        "slices": ["edge.a.networks.0", "edge.a.interfaces.0"],
    }
    item: Any = server.slices["edge.a.interfaces.0"]
    assert item["metadata"] == {
        "name": "edge.a.interfaces.0",
        "namespace": "sys",
        "labels": {"headrace.dev/pipeline": "edge", "headrace.dev/config": "edge.a"},
    }
    assert item["spec"] == {
        "type": "Interfaces",
        "owner": {"kind": "DataplaneConfig", "name": "edge.a"},
        "nodeName": "a",
        "entries": [entry("vm1")],
    }


def test_one_change_writes_one_slice() -> None:
    server = Server()
    many = [entry(f"vm{number:03}") for number in range(2 * ENTRIES + 3)]
    server.write(whole(*many))
    assert [len(found) for found in server.names().values()] == [ENTRIES, ENTRIES, 3]
    many[ENTRIES + 5] = entry(f"vm{ENTRIES + 5:03}", mtu=9000)
    assert server.write(whole(*many)) == {"edge.a.interfaces.1"}
    assert server.write(whole(*many)) == set()
    assert server.write(whole(*many, entry("new"))) == {"edge.a.interfaces.2"}
    gone = many.pop(0)
    assert server.write(whole(*many, entry("new"))) == {"edge.a.interfaces.0"}
    # There is room where it was.
    assert server.write(whole(*many, entry("new"), gone)) == {"edge.a.interfaces.0"}
    assert server.write(whole(*many, entry("new"), gone, workers={"count": 2})) == set()


def test_a_slice_that_is_empty_stays_and_all_go_with_their_config() -> None:
    server = Server()
    server.write(whole(entry("vm1"), networks=(entry("blue"),)))
    assert server.write(whole()) == {"edge.a.networks.0", "edge.a.interfaces.0"}
    assert server.names() == {"edge.a.interfaces.0": []}
    config: Any = server.config
    assert config["spec"]["slices"] == [*server.slices]
    assert server.write(None) == {"edge.a.networks.0", "edge.a.interfaces.0"}
    assert server.config is None
    assert not server.slices
    assert server.write(None) == set()


def test_large_entries_are_few_to_a_slice_and_one_that_grows_stays() -> None:
    server = Server()
    large = [entry(f"vm{number}", BYTES // 3) for number in range(4)]
    server.write(whole(*large))
    assert [*server.names().values()] == [["vm0", "vm1"], ["vm2", "vm3"]]
    large[0] = entry("vm0", BYTES)
    assert server.write(whole(*large)) == {"edge.a.interfaces.0"}
    server.write(whole(*large, entry("vm9", 2 * BYTES)))
    assert [*server.names().values()] == [["vm0", "vm1"], ["vm2", "vm3"], ["vm9"]]


def test_a_restart_moves_nothing() -> None:
    server = Server()
    many = [entry(f"vm{number:03}") for number in range(3 * ENTRIES)]
    server.write(whole(*many))
    kept = many[ENTRIES // 2 :]
    server.write(whole(*kept))
    before = server.names()
    again = Sharding()
    assert server.config is not None
    again.load([server.config], server.slices)
    restarted = Server(again)
    assert restarted.write(whole(*reversed(kept), entry("new"))) == {*before}
    assert restarted.names() == {
        **before,
        "edge.a.interfaces.0": ["new", *before["edge.a.interfaces.0"]],
    }


def test_after_a_restart_what_is_there_still_takes_room() -> None:
    server = Server()
    large = [entry(f"vm{number}", BYTES // 3) for number in range(2)]
    server.write(whole(*large))
    again = Sharding()
    assert server.config is not None
    again.load([server.config], server.slices)
    restarted = Server(again)
    restarted.write(whole(*large, entry("new", BYTES // 3)))
    assert [*restarted.names().values()] == [["vm0", "vm1"], ["new"]]


def test_what_people_have_made_of_slices_is_not_taken() -> None:
    server = Server()
    server.write(whole(entry("vm1"), networks=(entry("blue"),)))
    slices: Any = server.slices
    slices["edge.a.interfaces.0"]["spec"]["owner"]["name"] = "edge.b"
    slices["edge.a.networks.0"]["spec"]["entries"] = [None, 7]
    assert server.config is not None
    again = Sharding()
    again.load([server.config, {}], slices)
    restarted = Server(again)
    restarted.write(whole(entry("vm1"), networks=(entry("blue"),)))
    assert restarted.names() == {"edge.a.interfaces.0": ["vm1"]}
    assert restarted.names("networks") == {"edge.a.networks.0": ["blue"]}


def test_who_has_an_entry() -> None:
    server = Server()
    server.write(whole(*(entry(f"vm{number:03}") for number in range(ENTRIES + 1))))
    sharding = server.sharding
    assert sharding.slice_of(CONFIG, "interfaces", "ns/vm000") == "edge.a.interfaces.0"
    assert sharding.slice_of(CONFIG, "interfaces", f"ns/vm{ENTRIES:03}") == "edge.a.interfaces.1"
    assert sharding.slice_of(CONFIG, "interfaces", "ns/none") == ""
    assert sharding.slice_of("edge.b", "interfaces", "ns/vm000") == ""
    assert len([*sharding.entries(CONFIG, "interfaces")]) == ENTRIES + 1
    assert [*sharding.entries("edge.b", "interfaces")] == []
    assert [*sharding.slices(CONFIG)] == ["edge.a.interfaces.0", "edge.a.interfaces.1"]


def test_whatever_happens_the_whole_is_what_was_compiled() -> None:
    random = Random(7)
    server = Server()
    names = [f"vm{number}" for number in range(400)]
    for _ in range(200):
        chosen = random.sample(names, random.randrange(len(names)))
        made = [
            entry(name, random.choice((0, 10, 3000)), mtu=random.randrange(3)) for name in chosen
        ]
        networks = tuple(entry(name) for name in random.sample(names, random.randrange(9)))
        server.write(whole(*made, networks=networks))
        found = server.whole()
        for field, given in (("interfaces", made), ("networks", networks)):
            there = found.pop(field, [])
            assert sorted(there, key=str) == sorted(given, key=str)
        assert found == {"pipelineName": "edge", "nodeName": "a"}
        assert all(len(each) <= ENTRIES for each in server.names().values())
        if random.random() < 0.1:
            again = Sharding()
            assert server.config is not None
            again.load([server.config], server.slices)
            before, server.sharding = server.names(), again
            server.write(whole(*made, networks=networks))
            assert server.names() == before
