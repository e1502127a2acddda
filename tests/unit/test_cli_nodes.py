# SPDX-License-Identifier: Apache-2.0
"""`kubectl headrace doctor`: what it makes of NodeStates."""

import json
from typing import Any

import pytest

from headrace_api.node_state import NodeCheck, NodeStateStatus, PolicyState, Subject, Verdict
from headrace_cli.errors import CommandError
from headrace_cli.main import main, plugin
from headrace_cli.nodes import Node, State, node, show

SYSTEM = "headrace-system"


def check(verdict: Verdict, name: str = "vfio-pci", remedy: str = "") -> NodeCheck:
    return NodeCheck(
        subject=Subject.DRIVERS, name=name, verdict=verdict, message="as found", remedy=remedy
    )


def state(name: str, *checks: NodeCheck, policies: tuple[PolicyState, ...] = ()) -> Node:
    status = NodeStateStatus(checks=checks, policies=policies).to_dict()
    raw: Any = {
        "apiVersion": "dataplane.headrace.dev/v1alpha1",
        "kind": "NodeState",
        "metadata": {"name": name},
        "spec": {"nodeName": name},
        "status": {**status, "ofANewerRelease": {"x": 1}},
    }
    return node(State.model_validate(raw))


GOOD = state("node-a", check(Verdict.PASS), check(Verdict.SKIP, "verbs"))
SLOW = state("node-b", check(Verdict.PASS), check(Verdict.WARN, "governor", "cpupower ..."))
BAD = state("node-c", check(Verdict.FAIL, remedy="modprobe vfio-pci\necho it"))
SILENT = node(State.model_validate({"metadata": {"name": "node-d"}}))
BLOCKED = state(
    "node-e",
    check(Verdict.PASS),
    policies=(
        PolicyState(name="cx6", ready=True, vfs=8),
        PolicyState(name="e810", ready=False, reason="VFsInUse", message="VM vm1 has VF 3"),
    ),
)


@pytest.mark.parametrize(
    ("nodes", "status"),
    [
        ([GOOD], 0),
        ([GOOD, SLOW], 0),
        ([GOOD, BAD], 1),
        ([GOOD, SILENT], 1),
        ([GOOD, BLOCKED], 1),
    ],
)
def test_the_exit_status_says_whether_something_fails(nodes: list[Node], status: int) -> None:
    assert show(nodes, (), "table", SYSTEM) == status


def test_a_line_a_node_and_what_fails(capsys: pytest.CaptureFixture[str]) -> None:
    show([SILENT, BAD, SLOW, GOOD, BLOCKED], (), "table", SYSTEM)
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0].split() == ["NODE", "VERDICT", "PASS", "WARN", "FAIL", "SKIP"]
    assert [line.split() for line in lines[1:6]] == [
        ["node-a", "pass", "1", "0", "0", "1"],
        ["node-b", "warn", "1", "1", "0", "0"],
        ["node-c", "fail", "0", "0", "1", "0"],
        ["node-d", "-", "0", "0", "0", "0"],
        ["node-e", "fail", "2", "0", "1", "0"],
    ]
    assert lines[6:] == [
        "",
        "node-c:",
        "fail  DriversReady  vfio-pci: as found",
        "        modprobe vfio-pci",
        "        echo it",
        "",
        "node-e:",
        "fail  DevicePolicy  e810: VFsInUse: VM vm1 has VF 3",
    ]
    assert "the agent of node-d has not reported: see kubectl -n headrace-system" in err
    assert "name a node" in err


def test_every_check_of_a_node_that_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert show([GOOD, SLOW, BAD], ["node-b"], "table", SYSTEM) == 0
    out, err = capsys.readouterr()
    assert "node-a" not in out and "node-c" not in out
    assert "pass  DriversReady  vfio-pci: as found" in out
    assert "warn  DriversReady  governor: as found\n        cpupower ..." in out
    assert err == ""
    with pytest.raises(CommandError, match=r"node x has no NodeState: there are node-a, node-b"):
        show([GOOD, SLOW], ["x"], "table", SYSTEM)


def test_json_has_it_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert show([GOOD, BAD, SILENT], (), "json", SYSTEM) == 1
    found = json.loads(capsys.readouterr().out)["nodes"]
    assert [each["name"] for each in found] == ["node-a", "node-c", "node-d"]
    assert [each["reported"] for each in found] == [True, True, False]
    assert found[1]["checks"] == [
        {
            "subject": "DriversReady",
            "name": "vfio-pci",
            "verdict": "Fail",
            "message": "as found",
            "remedy": "modprobe vfio-pci\necho it",
        }
    ]


def test_without_agents_it_says_what_to_do() -> None:
    with pytest.raises(CommandError, match=r"set nodeAgent\.enabled of the chart"):
        show([], (), "table", SYSTEM)


def test_the_plugin_is_about_nodes_and_the_program_about_this_machine(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for program, words in ((plugin, "Are the nodes right"), (main, "Is this machine right")):
        with pytest.raises(SystemExit):
            program(["doctor", "--help"])
        assert words in capsys.readouterr().out
