# SPDX-License-Identifier: Apache-2.0
"""`headrace doctor`: on this very machine, and on trees of others."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from headrace_api import AttachmentType, Json
from headrace_api.node_facts import NodeFacts
from headrace_api.node_state import NodeCheck, Verdict
from headrace_cli import doctor
from headrace_cli.main import main
from headrace_dataplane.node.facts import read
from headrace_dataplane.node.gaps import gaps
from headrace_dataplane.node.self_test import control_cpu, throughput
from headrace_dataplane.protocol import EngineError
from tests.unit.node_tree import (
    INTEL_VFS,
    KUBELET_CONFIG,
    MELLANOX_VFS,
    OWN,
    FakeNetwork,
    Files,
    good_node,
    kubelet_config,
    write,
)
from tests.unit.test_cli_completion import shell

DOCTOR = (sys.executable, "-m", "headrace_cli.main", "doctor")
CHECKS = TypeAdapter(tuple[NodeCheck, ...])


def on(
    files: Files, root: Path, monkeypatch: pytest.MonkeyPatch, *words: str, status: int = 0
) -> None:
    """Run it as if it were on a machine with these files."""
    write(root, files)
    monkeypatch.setattr(doctor, "read", lambda: read(root, FakeNetwork()))
    assert main(["doctor", "--no-self-test", *words]) == status


def test_this_machine() -> None:
    """Whatever is wrong with it: it is said, and the exit status says the same."""
    words = (*DOCTOR, "--no-self-test", "-o", "json")
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    found = json.loads(done.stdout)
    checks = CHECKS.validate_python(found["checks"])
    assert done.returncode == any(check.verdict is Verdict.FAIL for check in checks)
    assert all(check.remedy for check in checks if check.verdict in (Verdict.WARN, Verdict.FAIL))
    facts = NodeFacts.model_validate(found["facts"], extra="forbid")
    assert facts.kernel.release == os.uname().release
    assert {each["type"] for each in found["reach"]["attachments"]} == {*AttachmentType}
    assert found["selfTest"] is None


def test_this_machine_for_people() -> None:
    done = subprocess.run((*DOCTOR, "--no-self-test"), capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    lines = done.stdout.splitlines()
    first = lines[: lines.index("")]
    assert {line.split("  ")[0] for line in first} <= {
        *(verdict.lower() for verdict in Verdict),
        "",
    }
    assert "what this machine can reach:" in lines


def test_a_good_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    on(good_node(), tmp_path, monkeypatch, "--device", INTEL_VFS[0][5:], "--workers", "3")
    out = capsys.readouterr().out
    assert "0 warn, 0 fail" in out
    assert f"SRIOV ({', '.join((*INTEL_VFS, *MELLANOX_VFS))}), Pod, Tap, AFPacket" in out
    assert "6 on NUMA node 0: CPUs 1-3,9-11" in out
    assert "6 on NUMA node 1: CPUs 5-7,13-15 (not the kubelet's reserved ones)" in out
    assert "2Mi, 2048 MiB free" in out
    assert "left out (--no-self-test)" in out


def test_a_fault_is_below_its_line_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {**good_node(), KUBELET_CONFIG: kubelet_config(cpuManagerPolicy="none")}
    on(files, tmp_path, monkeypatch, status=1)
    lines = capsys.readouterr().out.splitlines()
    (at,) = (index for index, line in enumerate(lines) if line.startswith("fail"))
    assert lines[at] == (
        "fail  CPUManagerReady  CPU Manager: policy none: workers would share their CPUs with "
        "every pod"
    )
    assert lines[at + 1].startswith("        in the kubelet's configuration")
    assert "cpuManagerPolicy: static" in lines[at + 1]


def test_what_is_wanted_is_what_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--device", OWN, "--hugepages", "4Gi", "--page-size", "1Gi", "--mtu", "9000")
    on(good_node(), tmp_path, monkeypatch, *words, "-o", "json", status=1)
    found: Json = json.loads(capsys.readouterr().out)
    failed = [c for c in CHECKS.validate_python(found["checks"]) if c.verdict is Verdict.FAIL]
    assert [check.name for check in failed] == [
        "hugepages of NUMA node 0",
        "the node's own traffic",
    ]
    assert "4096 MiB are wanted" in failed[0].message


@pytest.mark.parametrize(
    "words",
    [
        ("--workers", "0"),
        ("--workers", "x"),
        ("--hugepages", "12"),
        ("--hugepages", "0Mi"),
        ("--page-size", "4Ki"),
        ("--device", "eth0"),
        ("--device", "../../etc"),
        ("--mtu", "9177"),
    ],
)
def test_what_makes_no_sense_is_refused(
    words: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["doctor", *words])
    assert ended.value.code == 2
    assert words[0] in capsys.readouterr().err


def test_it_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["doctor", "--help"])
    out = capsys.readouterr().out
    for text in ("exit status 1", "examples:", "headrace doctor --device", "Nothing is changed"):
        assert text in out


def test_shells_complete_its_options(tmp_path: Path) -> None:
    assert shell("headrace doctor --de", tmp_path) == ["--device"]
    assert set(shell("headrace doctor --page-size ", tmp_path)) == {"2Mi", "1Gi"}
    there = {device.pci_address for device in read().nics or ()}
    assert set(shell("headrace doctor --device ", tmp_path)) - {""} >= there


def test_without_an_engine_the_rest_is_still_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HEADRACE_ENGINE", str(tmp_path / "none"))
    monkeypatch.setattr(doctor, "_GAP_SECONDS", 0.01)
    assert main(["doctor"]) in (0, 1)
    captured = capsys.readouterr()
    assert f"not measured: HEADRACE_ENGINE={tmp_path}/none" in captured.out
    assert "self-test" in captured.err


def test_gaps_are_of_the_cpus_that_may_be_used() -> None:
    cpu = min(os.sched_getaffinity(0))
    (gap,) = gaps([cpu, 8191], 0.05)
    assert gap.cpu == cpu
    assert gap.longest_us > 0


def test_the_control_thread_keeps_off_workers_where_it_can() -> None:
    mine = sorted(os.sched_getaffinity(0))
    assert control_cpu(8191, frozenset(mine[1:])) == mine[0]
    assert control_cpu(mine[0], frozenset(mine)) in mine
    if len(mine) > 1:
        assert control_cpu(mine[0], frozenset(mine)) != mine[0]


@pytest.mark.engine
def test_the_engine_forwards_in_the_self_test() -> None:
    cpu = max(os.sched_getaffinity(0))
    found = throughput(cpu, control_cpu(cpu, frozenset({cpu})), 0.2)
    assert found.cpu == cpu
    assert found.mpps > 0
    assert found.cycles_per_packet > 0


@pytest.mark.engine
def test_a_self_test_on_a_cpu_that_is_not_there_says_so() -> None:
    with pytest.raises(EngineError, match=r"the engine ended at its start: .*8191"):
        throughput(8191, 8191, 0.2)
