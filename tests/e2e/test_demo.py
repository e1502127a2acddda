# SPDX-License-Identifier: Apache-2.0
"""The demo does what it claims, and leaves nothing behind, however it ends."""

import argparse
import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

import headrace_demo as demo
from headrace_cli.errors import CommandError
from headrace_cli.main import main
from headrace_cli.target import RUNTIME_ROOT
from headrace_dataplane.protocol import EngineError
from headrace_demo.lab import HEADRACE, until
from headrace_demo.story import ONLY_RED, VM2
from tests.e2e.conftest import MANY_SECONDS, headrace

NAMESPACES = Path("/run/netns")


def start(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*HEADRACE, "demo", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # As from a terminal: a shell in the background would have us ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def left(pid: int) -> list[str]:
    """What is there of the demo of a process: namespaces, folders, and processes in them."""
    name = f"hr-demo-{pid}"
    found = [*NAMESPACES.glob(f"{name}*"), *RUNTIME_ROOT.glob(f"{name}*")]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes()
        except OSError:
            continue
        if f"{name}/".encode() in words or f"{name}-".encode() in words:
            found.append(process)
    return [str(path) for path in found]


def engines(pid: int) -> list[Path]:
    return list(RUNTIME_ROOT.glob(f"hr-demo-{pid}-*/engine.sock"))


def test_it_does_what_it_claims_and_leaves_nothing() -> None:
    process = start("-o", "json")
    output, _ = process.communicate(timeout=3 * MANY_SECONDS)
    assert process.returncode == 0, output
    found = json.loads(output)
    assert found["ok"] is True
    assert len(found["pings"]) == 4
    assert all(ping["received"] >= 3 for ping in (*found["pings"], *found["onlyRed"]))
    assert {ping["source"] for ping in found["pings"]} == {"blue/vm1", "red/vm1"}
    assert len(found["tcp"]) == 4
    assert all(stream["gigabitsPerSecond"] > 0 for stream in found["tcp"])
    assert [(a["source"], a["destination"], a["answer"]) for a in found["answers"]] == [
        (f"{tenant}/vm1", address, f"{tenant}/vm2") for tenant in ("blue", "red") for address in VM2
    ]
    assert [ping["destination"] for ping in found["onlyRed"]] == [*ONLY_RED]
    assert [(p["destination"], p["received"]) for p in found["unreachable"]] == [
        (address, 0) for address in ONLY_RED
    ]
    assert found["outer"]["nextHeader"] == 4
    assert found["outer"]["destination"].startswith("fd00:1:0:")
    move = found["move"]
    assert (move["from"], move["to"]) == ("node-b", "node-a")
    assert move["sent"] >= 200
    assert 0 <= move["longestGap"] <= move["lost"] < move["sent"]
    assert found["problems"] == {"node-a": [], "node-b": []}
    assert found["drops"]["node-a"]["no_route"] >= len(ONLY_RED)
    assert found["metrics"]["node-a"]["families"] > 20
    assert left(process.pid) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly(number: signal.Signals) -> None:
    process = start()
    until(lambda: len(engines(process.pid)) == 2, "both engines run", MANY_SECONDS)
    process.send_signal(number)
    output, _ = process.communicate(timeout=MANY_SECONDS)
    assert process.returncode == 128 + number, output
    assert left(process.pid) == []


def test_what_a_killed_demo_left_is_removed() -> None:
    process = start()
    until(lambda: len(engines(process.pid)) == 2, "both engines run", MANY_SECONDS)
    process.kill()
    process.communicate(timeout=MANY_SECONDS)
    assert left(process.pid)
    removed = headrace("demo", "--remove")
    assert removed.returncode == 0, removed.stderr
    assert f"removed hr-demo-{process.pid}" in removed.stderr
    assert left(process.pid) == []
    again = headrace("demo", "--remove")
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")


def test_a_running_demo_is_not_removed() -> None:
    process = start()
    until(lambda: len(engines(process.pid)) == 2, "both engines run", MANY_SECONDS)
    assert headrace("demo", "--remove").returncode == 0
    assert process.poll() is None
    assert len(engines(process.pid)) == 2
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=MANY_SECONDS)
    assert left(process.pid) == []


def test_a_failing_step_is_named_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    responder = demo.story._RESPONDER.replace("{sys.argv[1]}", "red/vm2")
    monkeypatch.setattr(demo.story, "_RESPONDER", responder)
    assert main(["demo", "-o", "json"]) == 1
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert found["ok"] is False
    assert found["error"] == "blue/vm1 asked 10.0.0.3, and got 'I am red/vm2', not blue/vm2"
    assert said.err.splitlines()[-1] == f"headrace demo: {found['error']}"
    assert left(os.getpid()) == []


def test_it_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = argparse.Namespace(remove=False, keep=False, output="text")
    monkeypatch.setenv("HEADRACE_ENGINE", "/nowhere")
    with pytest.raises(EngineError, match="HEADRACE_ENGINE=/nowhere is not an executable file"):
        demo.run(arguments)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(CommandError, match="needs root"):
        demo.run(arguments)
