# SPDX-License-Identifier: Apache-2.0
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace_dataplane.protocol import (
    KINDS,
    MAX_MESSAGE,
    PROTOCOL,
    Delete,
    EngineAbsentError,
    EngineClient,
    EngineError,
    Kind,
    Port,
    Put,
    Refusal,
    RefusedError,
    encode,
)
from tests.unit.fake_engine import FakeEngine


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[FakeEngine]:
    fake = FakeEngine(tmp_path / "engine.sock")
    yield fake
    fake.close()


def test_hello_is_typed(engine: FakeEngine) -> None:
    with EngineClient(engine.path) as client:
        hello = client.hello()
    assert (hello.version, hello.dpdk, hello.workers[0].cpu) == ("0.1.0", "DPDK 22.11.11", 1)


def test_an_engine_says_its_kinds_or_is_of_a_release_before(
    engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = [{"name": "port"}, {"name": "toy", "references": {"box": "port"}, "color": "red"}]
    with EngineClient(engine.path) as client:
        assert client.hello().kinds == KINDS
        answer = {**engine.hello(), "kinds": said}
        monkeypatch.setattr(engine, "hello", lambda: answer)
        assert client.hello().kinds == (
            Kind(name="port"),
            Kind(name="toy", references={"box": "port"}),
        )


def test_commit_puts_and_deletes(engine: FakeEngine) -> None:
    with EngineClient(engine.path) as client:
        client.commit(3, [Put("network", "a/b", "h1", {"vni": 1, "gateways": []})])
        assert client.digests().digests["network"] == {"a/b": "h1"}
        client.commit(4, [Delete("network", "a/b")])
        digests = client.digests()
    assert digests.generation == 4
    assert digests.digests["network"] == {}


def test_refusal_is_named_and_the_connection_stays(engine: FakeEngine) -> None:
    engine.refuse["port", "p"] = "NoSuchDevice"
    with EngineClient(engine.path) as client:
        with pytest.raises(RefusedError) as caught:
            client.commit(1, [Put("port", "p", "h", {"devargs": "x"})])
        assert caught.value.refusals == (Refusal("port", "p", "f", "NoSuchDevice", "NoSuchDevice"),)
        assert client.hello().generation == 0


def test_items_follow_pages_and_stop_at_the_limit(engine: FakeEngine) -> None:
    engine.lists["port"] = [
        {"name": f"p{n}", "state": "up", "rxQueues": [{"queue": 0, "worker": n}]} for n in range(7)
    ]
    with EngineClient(engine.path) as client:
        everything = list(client.items(Port, page=3))
        assert [port.name for port in everything] == [f"p{n}" for n in range(7)]
        assert everything[6].rx_queues[0].worker == 6
        assert [port.name for port in client.items(Port, limit=2)] == ["p0", "p1"]
        assert [port.name for port in client.items(Port, {"name": "p4"})] == ["p4"]


def test_no_engine_is_told_from_others(tmp_path: Path) -> None:
    with pytest.raises(EngineAbsentError):
        EngineClient(tmp_path / "none.sock").hello()


def test_a_garbled_reply_is_an_error(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "hello", lambda: {"ok": True, "protocol": "x"})
    with EngineClient(engine.path) as client, pytest.raises(EngineError, match="protocol"):
        client.hello()


def test_another_protocol_is_refused(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    newer = {"ok": True, "protocol": PROTOCOL + 1, "version": "0.9.0", "all": "else"}
    monkeypatch.setattr(engine, "hello", lambda: newer)
    with EngineClient(engine.path) as client, pytest.raises(EngineError) as caught:
        client.hello()
    assert str(caught.value) == (
        f"the engine, of Headrace 0.9.0, speaks protocol {PROTOCOL + 1}, this program {PROTOCOL}:"
        " use both of one release"
    )


def test_too_long_a_message_is_not_sent() -> None:
    with pytest.raises(EngineError, match="limit"):
        encode({"op": "x" * MAX_MESSAGE})
