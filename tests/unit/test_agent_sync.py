# SPDX-License-Identifier: Apache-2.0
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace_api import digest
from headrace_dataplane import sync
from headrace_dataplane.protocol import KINDS, EngineClient, JSONObject, Kind, Put, Refusal
from headrace_dataplane.sync import RETRY_SECONDS, Reconciler, references
from tests.unit.fake_engine import FakeEngine


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[FakeEngine]:
    fake = FakeEngine(tmp_path / "engine.sock")
    yield fake
    fake.close()


@pytest.fixture
def reconciler(engine: FakeEngine) -> Iterator[Reconciler]:
    with EngineClient(engine.path) as client:
        yield Reconciler(client, KINDS)


def put(kind: str, key: str, **spec: object) -> Put:
    typed: JSONObject = dict(spec)  # type: ignore[arg-type]
    return Put(kind, key, digest(typed), typed)


PORT = put("port", "a/vm1", devargs="net_null0")
NETWORK = put("network", "a/blue", vni=1)
INTERFACE = put("interface", "a/vm1", port="a/vm1", network="a/blue")
ROUTES = put("routes", "a.blue.0", network="a/blue", routes=[["10.0.0.0/8"]])
ALL = [INTERFACE, ROUTES, NETWORK, PORT]


def sent(engine: FakeEngine) -> list[tuple[int, list[tuple[str, str, bool]]]]:
    return [
        (
            commit["generation"],
            [(o["kind"], o["key"], "delete" in o) for o in commit["objects"]],
        )
        for commit in engine.commits
    ]


def test_everything_goes_in_one_commit_in_order_of_dependence(
    engine: FakeEngine, reconciler: Reconciler
) -> None:
    outcome = reconciler.reconcile(ALL, 1, 0)
    assert (outcome.generation, outcome.changed, outcome.refused) == (1, 4, ())
    assert sent(engine) == [
        (
            1,
            [
                ("port", "a/vm1", False),
                ("network", "a/blue", False),
                ("interface", "a/vm1", False),
                ("routes", "a.blue.0", False),
            ],
        )
    ]


def test_only_the_difference_is_sent(engine: FakeEngine, reconciler: Reconciler) -> None:
    reconciler.reconcile(ALL, 1, 0)
    engine.commits.clear()
    changed = put("routes", "a.blue.0", network="a/blue", routes=[])
    outcome = reconciler.reconcile([PORT, NETWORK, changed], 2, 1)
    assert outcome.changed == 2
    assert sent(engine) == [(2, [("interface", "a/vm1", True), ("routes", "a.blue.0", False)])]


def test_nothing_is_sent_when_nothing_changed(engine: FakeEngine, reconciler: Reconciler) -> None:
    reconciler.reconcile(ALL, 1, 0)
    engine.commits.clear()
    assert reconciler.reconcile(ALL, 1, 1).changed == 0
    assert engine.commits == []
    reconciler.reconcile(ALL, 2, 1)
    assert sent(engine) == [(2, [])]


def test_a_refused_object_and_what_needs_it_stay_out(
    engine: FakeEngine, reconciler: Reconciler
) -> None:
    engine.refuse["port", "a/vm1"] = "NoSuchDevice"
    outcome = reconciler.reconcile(ALL, 1, 100)
    assert set(engine.hashes["network"]) == {"a/blue"}
    assert set(engine.hashes["routes"]) == {"a.blue.0"}
    assert set(engine.hashes["interface"]) == set()
    assert outcome.generation == engine.generation == 1
    assert outcome.refused == (
        Refusal("port", "a/vm1", "f", "NoSuchDevice", "NoSuchDevice"),
        Refusal("interface", "a/vm1", "port", "PortMissing", "port a/vm1: NoSuchDevice"),
    )
    assert outcome.retry_at == 100 + RETRY_SECONDS[0]


def test_refused_objects_are_retried_later_and_later(
    engine: FakeEngine, reconciler: Reconciler
) -> None:
    engine.refuse["port", "a/vm1"] = "NoSuchDevice"
    first = reconciler.reconcile([PORT], 1, 0)
    engine.commits.clear()
    assert reconciler.reconcile([PORT], 1, 0.5).refused == first.refused
    assert engine.commits == []
    assert reconciler.reconcile([PORT], 1, 1).retry_at == 1 + 2 * RETRY_SECONDS[0]
    engine.refuse.clear()
    outcome = reconciler.reconcile([PORT], 1, 3)
    assert (outcome.refused, outcome.retry_at) == ((), None)
    assert set(engine.hashes["port"]) == {"a/vm1"}


def test_refused_objects_are_retried_when_told(engine: FakeEngine, reconciler: Reconciler) -> None:
    engine.refuse["port", PORT.key] = "there is no device"
    assert reconciler.reconcile([PORT], 1, 0).refused
    del engine.refuse["port", PORT.key]
    assert reconciler.reconcile([PORT], 1, 0).refused
    reconciler.retry()
    assert not reconciler.reconcile([PORT], 1, 0).refused


def test_a_changed_object_is_tried_at_once(engine: FakeEngine, reconciler: Reconciler) -> None:
    engine.refuse["port", "a/vm1"] = "NoSuchDevice"
    reconciler.reconcile([PORT], 1, 0)
    engine.refuse.clear()
    outcome = reconciler.reconcile([put("port", "a/vm1", devargs="net_null1")], 2, 0)
    assert outcome.refused == ()
    assert engine.objects["port"]["a/vm1"] == {"devargs": "net_null1"}


def test_a_refused_change_leaves_the_old_object_and_its_users(
    engine: FakeEngine, reconciler: Reconciler
) -> None:
    reconciler.reconcile(ALL, 1, 0)
    engine.refuse["port", "a/vm1"] = "NoSuchDevice"
    changed = put("port", "a/vm1", devargs="net_null9")
    outcome = reconciler.reconcile([changed, NETWORK, INTERFACE, ROUTES], 2, 1)
    assert [refusal.kind for refusal in outcome.refused] == ["port"]
    assert engine.objects["port"]["a/vm1"] == {"devargs": "net_null0"}
    assert set(engine.hashes["interface"]) == {"a/vm1"}


def test_what_is_no_longer_wanted_is_no_longer_refused(
    engine: FakeEngine, reconciler: Reconciler
) -> None:
    engine.refuse["port", "a/vm1"] = "NoSuchDevice"
    reconciler.reconcile([PORT, NETWORK], 1, 0)
    assert reconciler.reconcile([NETWORK], 2, 0).refused == ()


def test_a_refusal_that_names_nobody_holds_the_commit(
    engine: FakeEngine, reconciler: Reconciler, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = {"ok": False, "errors": [{"reason": "OutOfMemory", "message": "no memory"}]}
    real = engine.commit
    monkeypatch.setattr(
        engine, "commit", lambda generation, objects: answer if objects else real(generation, [])
    )
    outcome = reconciler.reconcile([PORT, NETWORK], 1, 0)
    assert {refusal.key for refusal in outcome.refused} == {"a/vm1", "a/blue"}
    assert all("no memory" in refusal.message for refusal in outcome.refused)


def test_long_changes_are_split_and_the_generation_comes_last(
    engine: FakeEngine, reconciler: Reconciler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync, "COMMIT_BYTES", 1000)
    slices = [
        put(
            "routes",
            f"a.blue.{n}",
            network="a/blue",
            routes=[[f"10.{n}.{m}.0/24"] for m in range(9)],
        )
        for n in range(20)
    ]
    reconciler.reconcile([NETWORK, *slices], 5, 0)
    assert len(engine.commits) > 2
    assert [commit["generation"] for commit in engine.commits[:-1]] == [0] * (
        len(engine.commits) - 1
    )
    assert engine.commits[-1]["generation"] == 5
    assert len(engine.hashes["routes"]) == 20
    # A network that goes while its routes go, in bounded commits too.
    reconciler.reconcile([], 6, 0)
    assert engine.hashes["routes"] == engine.hashes["network"] == {}
    assert engine.generation == 6


def test_a_refused_route_is_left_out_alone(engine: FakeEngine, reconciler: Reconciler) -> None:
    routes = [
        ["10.0.0.0/8", "fd00::1", "fe80::1"],
        ["10.1.0.0/16", "fe80::1"],
        ["240.0.0.0/8", "fd00::1"],
        ["10.2.0.0/16", "fd00::2"],
    ]
    whole = put("routes", "a.blue.0", network="a/blue", routes=routes)
    engine.refuse_in_routes = {"fe80::1", "240.0.0.0/8"}
    outcome = reconciler.reconcile([NETWORK, whole], 1, 0)
    # Without a next hop it drops, and nothing shorter gets what it was for.
    left = [["10.0.0.0/8", "fd00::1"], ["10.1.0.0/16"], ["10.2.0.0/16", "fd00::2"]]
    assert engine.objects["routes"]["a.blue.0"]["routes"] == left
    (refusal,) = outcome.refused
    assert (refusal.kind, refusal.key, refusal.reason) == ("routes", "a.blue.0", "InvalidField")
    for prefix in ("10.0.0.0/8", "10.1.0.0/16", "240.0.0.0/8"):
        assert f"route {prefix} is left out" in refusal.message
    # Tried again when it is due, without a change when it is refused again.
    engine.commits.clear()
    assert reconciler.reconcile([NETWORK, whole], 1, 0.5).refused == outcome.refused
    assert engine.commits == []
    assert reconciler.reconcile([NETWORK, whole], 1, 1).changed == 0
    assert engine.objects["routes"]["a.blue.0"]["routes"] == left
    engine.refuse_in_routes = set()
    assert reconciler.reconcile([NETWORK, whole], 1, 10).refused == ()
    assert engine.objects["routes"]["a.blue.0"]["routes"] == routes


def test_a_next_hop_in_a_refused_network_takes_no_other_route_along(
    engine: FakeEngine, reconciler: Reconciler
) -> None:
    routes = [["10.0.0.0/8", "fd00::1"], ["10.1.0.0/16", {"network": "a/red", "weight": 1}]]
    whole = put("routes", "a.blue.0", network="a/blue", routes=routes)
    red = put("network", "a/red", vni=2)
    engine.refuse["network", "a/red"] = "InvalidField"
    outcome = reconciler.reconcile([NETWORK, red, whole], 1, 0)
    assert engine.objects["routes"]["a.blue.0"]["routes"] == [routes[0], ["10.1.0.0/16"]]
    assert [(r.kind, r.key) for r in outcome.refused] == [
        ("network", "a/red"),
        ("routes", "a.blue.0"),
    ]
    engine.refuse.clear()
    assert reconciler.reconcile([NETWORK, red, whole], 1, 5).refused == ()
    assert engine.objects["routes"]["a.blue.0"]["routes"] == routes


def test_the_one_too_many_is_the_last_that_came_in_the_next_engine_too(
    engine: FakeEngine, tmp_path: Path
) -> None:
    first, second, third = (put("network", f"a/{name}", vni=1) for name in ("c", "b", "a"))
    engine.most["network"] = 2
    with EngineClient(engine.path) as client:
        reconciler = Reconciler(client, KINDS)
        reconciler.reconcile([first], 1, 0)
        reconciler.reconcile([second, first], 2, 0)
        (refusal,) = reconciler.reconcile([third, second, first], 3, 0).refused
        assert refusal.key == "a/a"
    another = FakeEngine(tmp_path / "another.sock")
    another.most["network"] = 2
    with EngineClient(another.path) as client:
        again = Reconciler(client, KINDS, reconciler.accepted)
        (refusal,) = again.reconcile([third, second, first], 3, 0).refused
        assert refusal.key == "a/a"
        # Room goes to who waits, and what is gone has no place any more.
        again.reconcile([third, second], 4, 10)
        assert set(another.hashes["network"]) == {"a/a", "a/b"}
        assert again.accepted == (("network", "a/b"), ("network", "a/a"))
    another.close()


def test_references_of_routes_include_peer_networks() -> None:
    routes = put(
        "routes",
        "s",
        network="a/blue",
        routes=[
            ["10.0.0.0/8", "fd00::5"],
            ["10.1.0.0/16", ["fd00::5", 3], {"network": "a/red", "weight": 1}],
        ],
    )
    assert list(references(routes, KINDS[-1])) == [("network", "a/blue"), ("network", "a/red")]


TOY = Kind(name="toy", references={"box": "port", "parts": "network"})
"""Of a later engine."""


def toy(engine: FakeEngine) -> Put:
    """Have the engine take toys; return one."""
    engine.objects["toy"], engine.hashes["toy"] = {}, {}
    return put("toy", "a", box="a/vm1", parts=[{"network": "a/blue"}, ["10.0.0.0/8", "a/vm1"]])


def test_kinds_of_which_only_the_engine_knows(engine: FakeEngine) -> None:
    wanted = toy(engine)
    assert list(references(wanted, TOY)) == [("port", "a/vm1"), ("network", "a/blue")]
    with EngineClient(engine.path) as client:
        reconciler = Reconciler(client, (*KINDS, TOY))
        outcome = reconciler.reconcile([wanted, NETWORK], 1, 0)
        assert [(r.kind, r.reason) for r in outcome.refused] == [("toy", "PortMissing")]
        assert reconciler.reconcile([wanted, NETWORK, PORT], 2, 5).refused == ()
        assert sent(engine)[-1] == (2, [("port", "a/vm1", False), ("toy", "a", False)])
        # What nobody wants goes, whatever it is.
        assert reconciler.reconcile([NETWORK, PORT], 3, 10).changed == 1
        assert engine.hashes["toy"] == {}


def test_long_changes_are_split_by_the_order_that_the_engine_says(
    engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync, "COMMIT_BYTES", 1)
    wanted = toy(engine)
    with EngineClient(engine.path) as client:
        reconciler = Reconciler(client, (*KINDS, TOY))
        assert reconciler.reconcile([wanted, NETWORK, PORT], 1, 0).refused == ()
        reconciler.reconcile([], 2, 0)
    kinds = [kind for _, changes in sent(engine) for kind, _, _ in changes]
    assert kinds == ["port", "network", "toy", "toy", "network", "port"]


def test_what_the_engine_has_not_is_left_out_and_named(
    engine: FakeEngine, reconciler: Reconciler
) -> None:
    engine.commits.clear()
    outcome = reconciler.reconcile([put("toy", "a", box="a/vm1"), PORT], 1, 0)
    assert [(r.kind, r.key, r.reason) for r in outcome.refused] == [("toy", "a", "KindUnknown")]
    assert outcome.retry_at == RETRY_SECONDS[0]
    assert sent(engine) == [(1, [("port", "a/vm1", False)])]
