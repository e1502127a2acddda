# SPDX-License-Identifier: Apache-2.0
"""Which nodes lose their startup taint, and that they lose nothing else."""

from typing import Any

import pytest

from headrace_api import Json
from headrace_operator.objects import slim
from headrace_operator.startup import Startup

SYSTEM = "headrace-system"
TAINT: Json = {"key": "headrace.dev/agent-not-ready", "effect": "NoSchedule"}
LABELS: Json = {"app.kubernetes.io/name": "headrace", "app.kubernetes.io/component": "node"}


def conditions(ready: str) -> Any:
    return {"conditions": [{"type": "Initialized", "status": "True"}, _ready(ready)]}


def _ready(status: str) -> Any:
    return {"type": "Ready", "status": status}


def node(*taints: Json, ready: str = "True") -> Json:
    return slim(
        {
            "kind": "Node",
            "metadata": {"name": "a", "uid": "u", "resourceVersion": "7"},
            "spec": {"taints": [*taints], "podCIDR": "10.0.0.0/24"},
            "status": conditions(ready),
        }
    )


def agent(name: str = "x", at: str = "a", ready: str = "True", **metadata: Any) -> Json:
    return slim(
        {
            "kind": "Pod",
            "metadata": {"name": name, "namespace": SYSTEM, "labels": LABELS, **metadata},
            "spec": {"nodeName": at},
            "status": conditions(ready),
        }
    )


@pytest.mark.parametrize(
    "pods",
    [
        (),
        (agent(ready="False"),),
        (agent(at="b"),),
        (agent(namespace="blue"),),
        (agent(labels=LABELS | {"app.kubernetes.io/component": "dataplane"}),),
        (agent(labels=None),),
        (agent(), agent(ready="False")),
        (agent(), agent(deletionTimestamp="2026-01-01T00:00:00Z")),
    ],
    ids=[
        "none",
        "not ready",
        "elsewhere",
        "a tenant's",
        "a dataplane",
        "another",
        "no more",
        "going",
    ],
)
def test_a_node_waits_for_its_agent(pods: tuple[Json, ...]) -> None:
    startup = Startup(SYSTEM)
    for pod in pods:
        startup.observe(pod, there=True)
    assert startup.admission(node(TAINT)) is None


def test_an_agent_that_is_gone_admits_no_pods_unless_another_is_there() -> None:
    startup = Startup(SYSTEM)
    assert startup.observe(agent(), there=True) == "a"
    startup.observe(agent("y"), there=True)
    startup.observe(agent("x"), there=False)
    assert startup.admission(node(TAINT))
    startup.observe(agent("y"), there=False)
    assert startup.admission(node(TAINT)) is None


@pytest.mark.parametrize("effect", ["NoSchedule", "PreferNoSchedule", "NoExecute"])
def test_other_taints_stay_as_they_are(effect: str) -> None:
    startup = Startup(SYSTEM)
    startup.observe(agent(), there=True)
    first: Json = {"key": "a", "value": "v", "effect": "NoExecute", "timeAdded": "t"}
    second: Json = {"key": "headrace.dev/other", "effect": "NoSchedule"}
    found = startup.admission(node(first, {**TAINT, "effect": effect}, second, TAINT))
    assert found == {
        "metadata": {"uid": "u", "resourceVersion": "7"},
        "spec": {"taints": [first, second]},
    }


def test_nothing_is_to_do_for_other_nodes() -> None:
    startup = Startup(SYSTEM)
    startup.observe(agent(), there=True)
    assert startup.admission(node({"key": "a", "effect": "NoSchedule"})) is None
    assert startup.admission(node(TAINT, ready="False")) is None
    assert startup.admission(node(TAINT, ready="Unknown")) is None
    assert startup.admission(None) is None


def test_without_node_agents_taints_are_somebody_elses() -> None:
    startup = Startup(None)
    startup.observe(agent(), there=True)
    assert startup.admission(node(TAINT)) is None
