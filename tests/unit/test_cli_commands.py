# SPDX-License-Identifier: Apache-2.0
import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from headrace_cli.errors import CommandError
from headrace_cli.main import APART, COMMANDS, main, plugin
from headrace_cli.output import duration, table
from headrace_cli.status import load
from headrace_cli.target import socket_path
from headrace_dataplane.daemon import AgentError, parse_cpus
from headrace_dataplane.protocol import PROTOCOL, Worker
from tests.unit.fake_engine import FakeEngine, FakeTelemetry
from tests.unit.test_agent_metrics import ANSWERS
from tests.unit.test_cli_local import NETWORK, PIPELINE, interface

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[FakeEngine]:
    answers = {
        **ANSWERS,
        "/headrace/drops": {"no_route": 6, "runt": 0},
        "/headrace/drop_reasons": {"no_route": "no route to the destination"},
    }
    telemetry = FakeTelemetry(tmp_path / "telemetry", answers.get)
    fake = FakeEngine(tmp_path / "engine.sock", telemetry.path)
    fake.lists = {
        "port": [
            {"name": "a/vm1", "state": "up", "rxQueues": [{"queue": 0, "worker": 0}]},
            {"name": "a/vm2", "state": "gone", "error": "no kernel device veth2"},
        ],
        "interface": [
            {
                "name": "a/vm1",
                "network": "a/blue",
                "vni": 100,
                "port": "a/vm1",
                "state": "up",
                "addresses": ["10.0.0.2"],
                "prefixes": ["10.50.0.0/24"],
                "mac": "02:00:00:00:00:01",
                "macState": "reachable",
                "underlay": "fd00::2",
            },
            {
                "name": "a/vm2",
                "network": "a/red",
                "vni": 200,
                "port": "a/vm2",
                "state": "gone",
                "addresses": ["10.0.0.3"],
            },
        ],
        "network": [{"name": "a/blue", "vni": 100, "routes4": 1000, "routes6": 2}],
        "route": [
            {
                "network": "a/blue",
                "prefix": "10.0.0.2/32",
                "nextHops": [{"underlay": "fd00::2", "weight": 1, "interface": "a/vm1"}],
                "slice": "a.blue.0",
            },
            {"network": "a/blue", "prefix": "10.2.0.0/16", "blackhole": True, "slice": "a.blue.0"},
            {
                "network": "a/red",
                "prefix": "0.0.0.0/0",
                "nextHops": [{"network": "a/blue", "weight": 2}, {"underlay": "fd00::9"}],
                "slice": "a.red.0",
            },
        ],
        "neighbor": [
            {
                "port": "a/vm1",
                "interface": "a/vm1",
                "address": "10.0.0.2",
                "mac": "02:00:00:00:00:01",
                "state": "reachable",
                "ageSeconds": 125,
            }
        ],
    }
    yield fake
    fake.close()
    telemetry.close()


def run(
    capsys: pytest.CaptureFixture[str], engine: FakeEngine, *words: str, status: int = 0
) -> str:
    assert main([words[0], "--socket", str(engine.path), *words[1:]]) == status
    return capsys.readouterr().out


def test_interfaces(engine: FakeEngine, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, engine, "interfaces", "--network", "a/blue").splitlines() == [
        "INTERFACE  NETWORK  VNI  STATE  ADDRESSES              MAC                UNDERLAY  "
        "RX  TX  DROPS",
        "a/vm1      a/blue   100  up     10.0.0.2,10.50.0.0/24  02:00:00:00:00:01  fd00::2   "
        " 1   2      4",
    ]
    items = json.loads(run(capsys, engine, "interfaces", "-o", "json"))
    assert [item["name"] for item in items] == ["a/vm1", "a/vm2"]
    assert items[0]["traffic"]["rx_bytes"] == 60


def test_routes(engine: FakeEngine, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, engine, "routes").splitlines() == [
        "NETWORK  PREFIX       NEXT HOPS                   SLICE",
        "a/blue   10.0.0.2/32  fd00::2 (a/vm1)             a.blue.0",
        "a/blue   10.2.0.0/16  blackhole                   a.blue.0",
        "a/red    0.0.0.0/0    network a/blue x2, fd00::9  a.red.0",
    ]
    only = json.loads(run(capsys, engine, "routes", "--prefix", "10.2.0.0/16", "-o", "json"))
    assert [route["blackhole"] for route in only] == [True]
    assert len(json.loads(run(capsys, engine, "routes", "--limit", "1", "-o", "json"))) == 1


def test_neighbors(engine: FakeEngine, capsys: pytest.CaptureFixture[str]) -> None:
    assert "10.0.0.2  02:00:00:00:00:01  reachable  2m5s ago" in run(capsys, engine, "neighbors")


def test_pathmtu(engine: FakeEngine, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, engine, "pathmtu") == ""
    engine.lists = {"pathMtu": [{"underlay": "fd00::2", "mtu": 1400}]}
    assert run(capsys, engine, "pathmtu").splitlines() == ["UNDERLAY  MTU", "fd00::2   1400"]
    (found,) = json.loads(run(capsys, engine, "pathmtu", "--underlay", "fd00::2", "-o", "json"))
    assert found == {"underlay": "fd00::2", "mtu": 1400}


def test_drops(engine: FakeEngine, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, engine, "drops").splitlines() == [
        "REASON    PACKETS  MEANING",
        "no_route        6  no route to the destination",
    ]
    assert json.loads(run(capsys, engine, "drops", "--all", "-o", "json")) == {
        "no_route": 6,
        "runt": 0,
    }
    assert json.loads(run(capsys, engine, "drops", "--interface", "a/vm1", "-o", "json")) == {
        "source": 4
    }


def test_drops_of_nobody_is_an_error(
    engine: FakeEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["drops", "--socket", str(engine.path), "--interface", "a/none"]) == 1
    assert capsys.readouterr().err == "headrace drops: the engine has no interface a/none\n"


def test_status_tells_problems_by_its_exit_status(
    engine: FakeEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    text = run(capsys, engine, "status", "--seconds", "0", status=1)
    assert "Interface a/vm2: its device is gone: no kernel device veth2" in text
    engine.lists["interface"].pop()
    found = json.loads(run(capsys, engine, "status", "--seconds", "0", "-o", "json"))
    assert found["problems"] == []
    assert found["workers"][0]["cpu"] == 1


def test_load_is_of_the_time_between() -> None:
    before = {"busy_cycles": 100, "idle_cycles": 0, "sleep_cycles": 0, "packets": 5, "bursts": 1}
    after = {
        "busy_cycles": 400,
        "idle_cycles": 600,
        "sleep_cycles": 300,
        "packets": 65,
        "bursts": 4,
    }
    found = load(Worker(worker=0, lcore=1, cpu=2), {**before}, {**after}, 0.5)
    assert (found.busy_percent, found.packets_per_second) == (25.0, 120)
    assert (found.cycles_per_packet, found.packets_per_burst) == (5, 20.0)
    idle = load(Worker(worker=0, lcore=1, cpu=2), {}, {}, 0.5)
    assert (idle.busy_percent, idle.cycles_per_packet) == (0.0, None)


def test_version(engine: FakeEngine, capsys: pytest.CaptureFixture[str]) -> None:
    assert "engine 0.1.0 with DPDK 22.11.11" in run(capsys, engine, "version")


@pytest.mark.parametrize(
    "command", ["status", "interfaces", "routes", "neighbors", "pathmtu", "drops", "version"]
)
def test_an_engine_of_another_protocol_is_one_line(
    command: str,
    engine: FakeEngine,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    newer = {"ok": True, "protocol": PROTOCOL + 1, "version": "0.9.0"}
    monkeypatch.setattr(engine, "hello", lambda: newer)
    assert main([command, "--socket", str(engine.path)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    speaks = f"the engine, of Headrace 0.9.0, speaks protocol {PROTOCOL + 1}"
    assert line.startswith(f"headrace {command}: {speaks}")


def test_no_engine_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["routes", "--socket", str(tmp_path / "none")]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert "no engine listens there" in captured.err


def test_the_only_engine_is_the_default(tmp_path: Path) -> None:
    options = argparse.Namespace(socket=None, node=None)
    with pytest.raises(CommandError, match="headrace run"):
        socket_path(options, tmp_path)
    for node in ("node-a", "node-b"):
        (tmp_path / node).mkdir()
        (tmp_path / node / "engine.sock").touch()
        if node == "node-a":
            assert socket_path(options, tmp_path) == tmp_path / "node-a/engine.sock"
    with pytest.raises(CommandError, match="node-a, node-b"):
        socket_path(options, tmp_path)
    options.node = "node-b"
    assert socket_path(options, tmp_path) == tmp_path / "node-b/engine.sock"


def test_compile(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = tmp_path / "all.yaml"
    manifest.write_text("---\n".join((PIPELINE, NETWORK, interface("vm1"))))
    assert main(["compile", "-f", str(tmp_path)]) == 0
    captured = capsys.readouterr()
    kinds = [document["kind"] for document in yaml.safe_load_all(captured.out)]
    assert kinds == ["DataplaneConfig", "Slice"]
    assert captured.err == ""
    assert main(["compile", "-f", str(manifest), "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["items"][0]["kind"] == "DataplaneConfig"


def test_compile_locates_problems(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = tmp_path / "all.yaml"
    manifest.write_text("---\n".join((PIPELINE, NETWORK, interface("vm1", network="none"))))
    assert main(["compile", "-f", str(tmp_path)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{manifest}: Interface/default/vm1: ")


def test_examples_compile(capsys: pytest.CaptureFixture[str]) -> None:
    for example in sorted((REPOSITORY / "deploy/examples").iterdir()):
        assert main(["compile", "-f", str(example)]) == 0, capsys.readouterr().err


def test_every_command_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    for command in sorted(COMMANDS.keys() - {"demo"}):
        with pytest.raises(SystemExit) as ended:
            main([command, "--help"])
        assert ended.value.code == 0
        assert COMMANDS[command][1:12] in " ".join(capsys.readouterr().out.split())


def test_what_is_not_installed_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in the images."""
    for name in APART:
        monkeypatch.setitem(sys.modules, f"headrace_{name}", None)
    for words in (["connectivity"], ["connectivity", "test", "--help"], ["demo"]):
        assert main(words) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line == f"headrace {words[0]}: it is not installed here: {APART[words[0]]}"
    assert plugin(["connectivity", "test"]) == 1
    assert capsys.readouterr().err.startswith("kubectl headrace connectivity: it is not ")
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    out = capsys.readouterr().out
    assert "Start with: headrace status" in out
    assert "demo" not in out
    assert "connectivity" not in out


def test_cpus() -> None:
    allowed = parse_cpus(None)
    first = min(allowed)
    assert parse_cpus(f"{first}-{first}") == {first}
    for wrong in ("x", "1-", "99999"):
        with pytest.raises(AgentError, match="--cpus"):
            parse_cpus(wrong)


def test_tables_align() -> None:
    text = table(("A", "N"), [("x", 1), ("long", 100), ("", None)])
    assert text.splitlines() == ["A       N", "x       1", "long  100", "-       -"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0s"), (59, "59s"), (125, "2m5s"), (7200, "2h"), (360000, "4d4h")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
