# SPDX-License-Identifier: Apache-2.0
"""What commands make of a cluster's objects: the overview, and the pod to run a command in."""

import json
from typing import Any

import pytest

from headrace_api import SYSTEM_NAMESPACE, Json
from headrace_cli import overview as shown
from headrace_cli import target
from headrace_cli.cluster import explain
from headrace_cli.errors import CommandError
from headrace_cli.overview import Overview, Seen, overview
from headrace_cli.remote import Pod, choose
from headrace_kube import KubeError

SYSTEM = "headrace-system"


def seen(kind: str, name: str, spec: Json | None = None, **status: Any) -> Seen:
    """An object; `ready` is its condition: True, or (reason, message)."""
    ready = status.pop("ready", True)
    reason, message = ("Forwarding", "It forwards") if ready is True else ready
    condition = {
        "type": "Ready",
        "status": str(ready is True),
        "reason": reason,
        "message": message,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    namespace, _, name = name.rpartition("/")
    return Seen.model_validate(
        {
            "kind": kind,
            "metadata": {"name": name, "namespace": namespace, "generation": 2},
            "spec": spec or {},
            "status": {"observedGeneration": 2, "conditions": [condition], **status},
        }
    )


def pod(
    pipeline: str = "router", node: str = "node-a", *, running: bool = True, ready: bool = True
) -> Pod:
    state = (
        {"running": {"startedAt": "2026-01-01T00:00:00Z"}}
        if running
        else {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}
    )
    return Pod.model_validate(
        {
            "metadata": {
                "name": f"headrace-{pipeline}-{node}",
                "namespace": SYSTEM,
                "labels": {"headrace.dev/pipeline": pipeline},
            },
            "spec": {"nodeName": node},
            "status": {
                "phase": "Running" if running else "Pending",
                "conditions": [{"type": "Ready", "status": str(running and ready)}],
                "containerStatuses": [{"name": "dataplane", "state": state}],
            },
        }
    )


PIPELINE = seen(
    "Pipeline", "router", nodes=[{"name": "node-a", "underlayPrefix": "fd00:1:0:1::/64"}]
)
CONFIG = seen(
    "DataplaneConfig",
    f"{SYSTEM}/router.node-a",
    {"pipelineName": "router", "nodeName": "node-a"},
    engineVersion="0.1.0",
    interfaces=[{"namespace": "a", "name": "vm1", "ready": True}],
)


def interface(name: str, **status: Any) -> Seen:
    spec: Json = {
        "networkRef": {"name": "blue"},
        "pipelineRef": {"name": "router"},
        "nodeName": "node-a",
    }
    return seen("Interface", name, spec, **status)


def look(**parts: Any) -> Overview:
    everything = {
        "pipelines": [PIPELINE],
        "networks": [seen("VirtualNetwork", "a/blue", vni=7, desiredNodes=2, programmedNodes=1)],
        "interfaces": [interface("a/vm1")],
        "configs": [CONFIG],
        "running": [pod()],
        "namespace": SYSTEM,
    }
    return overview(**{**everything, **parts})


def test_a_cluster_that_is_well(capsys: pytest.CaptureFixture[str]) -> None:
    found = look()
    shown._print(found)
    assert capsys.readouterr().out.splitlines() == [
        "KIND            READY  NOT READY",
        "Pipeline            1          0",
        "Node                1          0",
        "VirtualNetwork      1          0",
        "Interface           1          0",
        "",
        "PIPELINE  STATE       READY NODES",
        "router    Forwarding  1/1",
        "",
        "NODE    PIPELINE  STATE       READY INTERFACES  ENGINE",
        "node-a  router    Forwarding  1/1               0.1.0",
        "",
        "NETWORK  VNI  STATE       READY INTERFACES  PROGRAMMED NODES",
        "a/blue     7  Forwarding  1/1               1/2",
        "",
        "no problems",
    ]


def test_what_is_not_ready_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    gone = ("DeviceGone", "spec.attachment: no kernel device veth1: create it")
    found = look(interfaces=[interface(f"a/vm{n}", ready=gone) for n in range(3)])
    assert found.problems == (
        "Interface a/vm0 and 2 more: spec.attachment: no kernel device veth1: create it "
        "(DeviceGone)",
    )
    shown._print(found)
    assert capsys.readouterr().out.splitlines()[-2] == "problems:"
    assert json.loads(json.dumps(found.interfaces[0].to_dict())) == {
        "name": "a/vm0",
        "ready": False,
        "reason": "DeviceGone",
        "message": gone[1],
        "network": "a/blue",
        "pipeline": "router",
        "node": "node-a",
    }


@pytest.mark.parametrize(
    "status", [{}, {"observedGeneration": 1}, {"conditions": []}, {"observedGeneration": None}]
)
def test_an_old_status_says_nothing(status: dict[str, Any]) -> None:
    network = seen("VirtualNetwork", "a/blue", **status)
    found = look(networks=[network])
    waiting = (
        "VirtualNetwork a/blue: the operator has not looked at it yet: see kubectl -n "
        "headrace-system get deployment headrace-operator (Pending)",
    )
    assert found.problems == (waiting if status else ())


@pytest.mark.parametrize(
    ("running", "problem"),
    [
        ([pod()], None),
        (None, None),
        ([], "it has no dataplane pod: see kubectl -n headrace-system get pods -l headrace.dev/"),
        ([pod(running=False)], "does not run (ImagePullBackOff: no such image): see kubectl"),
        ([pod(ready=False)], "pod headrace-router-node-a is not ready: see kubectl"),
        ([pod(running=False), pod()], None),
    ],
)
def test_the_pod_counts_more_than_what_its_agent_said_once(
    running: list[Pod] | None, problem: str | None
) -> None:
    problems = look(running=running).problems
    if problem is None:
        assert problems == ()
    else:
        (line,) = problems
        assert line.startswith("Node node-a of Pipeline router: ")
        assert problem in line


def test_a_selected_node_without_configuration_is_not_ready() -> None:
    (line,) = look(configs=[]).problems
    assert line.startswith("Node node-a of Pipeline router: the operator has not compiled")


PODS = [pod(), pod("guard"), pod(node="node-b"), pod("guard", "node-c", running=False)]


@pytest.mark.parametrize(
    ("node", "pipeline", "error"),
    [
        ("node-a", None, r"several Pipelines: choose one with --pipeline \(guard, router\)"),
        ("node-d", None, "no dataplane pod is on node node-d in namespace headrace-system: it ru"),
        ("node-c", None, r"is not running \(ImagePullBackOff: no such image\): see kubectl"),
        (None, "router", r"choose a node with --node \(node-a, node-b\)"),
        (None, "none", "no dataplane pod of Pipeline none is in namespace headrace-system: see"),
    ],
)
def test_what_keeps_a_command_from_a_pod(node: str, pipeline: str, error: str) -> None:
    found = [each for each in PODS if pipeline in (None, each.pipeline)]
    with pytest.raises(CommandError, match=error):
        choose(found, node, pipeline, SYSTEM)


def test_the_pod_that_is_meant() -> None:
    assert choose(PODS, "node-b", None, SYSTEM) is PODS[2]
    assert choose([PODS[2]], None, None, SYSTEM) is PODS[2]
    assert choose([pod(running=False), PODS[0]], "node-a", None, SYSTEM) is PODS[0]


def test_refusals_say_what_to_do() -> None:
    assert "Headrace is not installed" in explain(KubeError(404, "NotFound", "404 page not found"))
    assert explain(KubeError(404, "NotFound", 'pods "x" not found')) == 'pods "x" not found'
    assert "credentials" in explain(KubeError(401, "Unauthorized", "Unauthorized"))


def test_the_namespace_is_the_one_that_the_operator_takes() -> None:
    assert target.SYSTEM_NAMESPACE == SYSTEM_NAMESPACE
