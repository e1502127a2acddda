# SPDX-License-Identifier: Apache-2.0
"""The operator's cache: lists and events come in any order, and what is newest stays."""

import pytest
from pydantic import JsonValue

from headrace_api import Json
from headrace_kube import INTERFACES, NODES, Kind
from headrace_operator.cache import Cache
from headrace_operator.objects import covers, is_unknown, slim


class Seen:
    def __init__(self) -> None:
        self.changes: list[tuple[str, int, int]] = []
        self.cache = Cache((INTERFACES, NODES), self._changed)

    def _changed(self, _kind: Kind, key: str, before: Json | None, after: Json | None) -> None:
        self.changes.append((key, _version(before), _version(after)))

    def put(self, version: int, name: str = "a") -> None:
        self.cache.put(INTERFACES, item(version, name))

    def remove(self, version: int, name: str = "a") -> None:
        self.cache.remove(INTERFACES, item(version, name))

    def list(self, version: int, *items: Json) -> int:
        return self.cache.replace(INTERFACES, items, str(version))

    @property
    def held(self) -> dict[str, int]:
        return {key: _version(held) for key, held in self.cache.all(INTERFACES)}


def item(version: int, name: str = "a") -> Json:
    metadata: Json = {"namespace": "ns", "name": name, "resourceVersion": str(version)}
    return {"kind": "Interface", "metadata": metadata}


def _version(item: Json | None) -> int:
    metadata = item["metadata"] if item else None
    return int(str(metadata["resourceVersion"])) if isinstance(metadata, dict) else 0


def test_the_newer_of_two_events_stays() -> None:
    seen = Seen()
    seen.put(9)
    seen.put(10)
    seen.put(9)
    assert seen.held == {"ns/a": 10}
    assert seen.changes == [("ns/a", 0, 9), ("ns/a", 9, 10)]


def test_what_is_not_in_a_list_is_gone() -> None:
    seen = Seen()
    seen.put(5)
    seen.put(6, "b")
    assert seen.list(7, item(6, "b")) == 1
    assert seen.held == {"ns/b": 6}
    assert seen.changes[-1] == ("ns/a", 5, 0)


def test_an_event_newer_than_the_list_wins() -> None:
    seen = Seen()
    seen.put(8)
    seen.put(9, "new")
    assert seen.list(7, item(6)) == 0
    assert seen.held == {"ns/a": 8, "ns/new": 9}


def test_a_list_does_not_bring_back_what_was_deleted_since() -> None:
    seen = Seen()
    seen.put(5)
    seen.remove(8)
    assert seen.list(7, item(5)) == 0
    assert seen.held == {}
    assert seen.list(9, item(9)) == 1
    assert seen.held == {"ns/a": 9}


def test_a_late_event_does_not_bring_back_what_a_list_lacked() -> None:
    seen = Seen()
    seen.list(7)
    seen.put(6)
    assert seen.held == {}
    seen.put(8)
    assert seen.held == {"ns/a": 8}


def test_the_deletion_of_its_predecessor_does_not_delete_it() -> None:
    seen = Seen()
    seen.put(8)
    seen.remove(7)
    assert seen.held == {"ns/a": 8}


def test_a_cluster_restored_from_a_backup_is_taken_as_it_is() -> None:
    seen = Seen()
    seen.list(100, item(90), item(95, "b"))
    assert seen.list(50, item(40)) == 2
    assert seen.held == {"ns/a": 40}
    seen.put(51)
    assert seen.held == {"ns/a": 51}


def test_nothing_is_kept_that_nobody_reads() -> None:
    metadata: Json = {
        "name": "n",
        "resourceVersion": "1",
        "labels": {"a": "b"},
        "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "x": "y"},
        "managedFields": [{}],
    }
    kept = slim({"kind": "Interface", "metadata": metadata, "spec": {}})
    assert kept["metadata"] == {
        "name": "n",
        "resourceVersion": "1",
        "labels": {"a": "b"},
        "annotations": {"x": "y"},
    }
    conditions: list[JsonValue] = [
        {"type": "DiskPressure", "status": "Unknown"},
        {"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-01-01T00:00:00Z"},
    ]
    status: Json = {"images": [], "conditions": conditions}
    node = slim({"kind": "Node", "metadata": metadata, "status": status})
    assert node["status"] == {"conditions": [{"type": "Ready", "status": "True"}]}
    assert node["metadata"] == {"name": "n", "resourceVersion": "1", "labels": {"a": "b"}}


@pytest.mark.parametrize(
    ("ready", "silent"), [("True", False), ("False", False), ("Unknown", True), (None, False)]
)
def test_a_kubelet_is_unknown_when_ready_is_unknown(ready: str | None, silent: bool) -> None:
    conditions: list[JsonValue] = [{"type": "DiskPressure", "status": "Unknown"}]
    if ready:
        conditions.append({"type": "Ready", "status": ready})
    node = slim({"kind": "Node", "metadata": {}, "status": {"conditions": conditions}})
    assert is_unknown(node) is silent
    assert not is_unknown(None)


def test_defaults_are_no_difference() -> None:
    wanted: Json = {"containers": [{"name": "a", "ports": [{"port": 1}]}]}
    there: Json = {"containers": [{"name": "a", "ports": [{"port": 1, "protocol": "TCP"}]}], "x": 1}
    assert covers(there, wanted)
    assert not covers(wanted, there)
    assert not covers({"containers": []}, wanted)
    assert not covers(None, wanted)


def test_of_a_kind_that_is_gone_nothing_is_left() -> None:
    seen = Seen()
    seen.put(5)
    seen.put(6, "b")
    seen.cache.put(NODES, item(7, "n"))
    seen.changes.clear()
    assert seen.cache.clear(INTERFACES) == 2
    assert seen.changes == [("ns/a", 5, 0), ("ns/b", 6, 0)]
    assert seen.held == {}
    assert seen.cache.count(NODES) == 1
    assert seen.cache.clear(INTERFACES) == 0
