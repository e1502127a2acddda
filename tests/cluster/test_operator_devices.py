# SPDX-License-Identifier: Apache-2.0
"""DevicePolicies, NodeStates and functions: the operator at a real API server."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace_api import Json
from headrace_kube import (
    DAEMON_SETS,
    DEVICE_POLICIES,
    EVENTS,
    INTERFACES,
    LEASES,
    NODE_STATES,
    NODES,
)
from tests.cluster.chart import NAMESPACE
from tests.cluster.cluster import Cluster
from tests.cluster.operators import (
    LEASE,
    Operator,
    World,
    condition,
    interface,
    network,
    node,
    pipeline,
    policy,
)
from tests.cluster.sandbox import until

SECONDS = 60.0
RESOURCE = "headrace.dev/e810"


@pytest.fixture(scope="module")
def installed(control_plane: Cluster) -> Iterator[World]:
    with World(control_plane) as made:
        made.install()
        yield made
        made.clear()
        made.uninstall()


@pytest.fixture
def world(installed: World) -> World:
    """Two nodes, one of which has cards."""
    installed.clear()
    installed.put(node("n1", net="sriov"), node("n2"))
    return installed


@pytest.fixture(scope="module")
def kubeconfig(installed: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return installed.write_kubeconfig(tmp_path_factory.mktemp("kubeconfig"))


@pytest.fixture
def start(world: World, kubeconfig: Path, tmp_path: Path) -> Iterator[Any]:
    """Start the operator: `start(**settings)`; one that runs is killed first."""
    started: list[Operator] = []

    def one(**settings: Any) -> Operator:
        for each in started:
            each.__exit__()
        world.delete(LEASES, LEASE)
        folder = tmp_path / str(len(started))
        started.append(Operator(kubeconfig, folder, **{"nodeAgent": True, **settings}))
        until(lambda: started[-1].idle, "it is idle", SECONDS)
        return started[-1]

    yield one
    for each in started:
        each.__exit__()


def says(world: World, status: str, reason: str) -> None:
    """Wait until the policy's condition Ready says so of its newest generation."""

    def found() -> bool:
        item = world.get(DEVICE_POLICIES, "e810")
        ready, generation = condition(item), item["metadata"]["generation"]
        said = ready.get("status"), ready.get("reason"), ready.get("observedGeneration")
        return said == (status, reason, generation)

    until(found, f"Ready is {status}, {reason}", SECONDS)


def report(world: World, at: str, **said: Any) -> None:
    """Say of the policy, as the node's agent does, what came of its newest generation."""
    (asked,) = world.get(NODE_STATES, at)["spec"]["policies"]
    about: Json = {"name": asked["name"], "observedGeneration": asked["generation"]}
    world.merge_status(NODE_STATES, at, "headrace-node", [], policies=[{**about, **said}])


def test_a_policy_reaches_its_nodes_and_their_word_comes_back(world: World, start: Any) -> None:
    start()
    states = world.all(NODE_STATES)
    assert states.keys() == {"n1", "n2"}
    for name, state in states.items():
        (owner,) = state["metadata"]["ownerReferences"]
        uid = world.get(NODES, name)["metadata"]["uid"]
        assert (owner["kind"], owner["name"], owner["uid"]) == ("Node", name, uid)
    world.put(policy("e810", {"matchLabels": {"net": "sriov"}}, resourceName=RESOURCE))
    says(world, "Unknown", "Pending")
    (asked,) = world.get(NODE_STATES, "n1")["spec"]["policies"]
    assert (asked["name"], asked["vfs"], asked["resourceName"]) == ("e810", 8, RESOURCE)
    assert "policies" not in world.get(NODE_STATES, "n2")["spec"]

    busy = {"ready": False, "reason": "VFsInUse", "message": "VM vm1 has VF 3: stop it", "vfs": 4}
    report(world, "n1", **busy)
    says(world, "False", "VFsInUse")
    status = world.get(DEVICE_POLICIES, "e810")["status"]
    assert (status["selectedNodes"], status["readyNodes"], status["vfs"]) == (1, 0, 4)
    assert "n1 (VFsInUse: VM vm1 has VF 3: stop it)" in condition({"status": status})["message"]

    def events() -> list[Any]:
        found = world.all(EVENTS).values()
        return [each for each in found if each["regarding"].get("name") == "e810"]

    until(
        lambda: any((e["type"], e["reason"]) == ("Warning", "VFsInUse") for e in events()),
        "an event tells of it",
        SECONDS,
    )
    report(world, "n1", ready=True, vfs=8)
    says(world, "True", "DevicesReady")
    assert world.get(DEVICE_POLICIES, "e810")["status"]["readyNodes"] == 1

    # Another one writes nothing anew.
    versions = {key: item["metadata"] for key, item in world.all(NODE_STATES).items()}
    start()
    after = {key: item["metadata"] for key, item in world.all(NODE_STATES).items()}
    assert after == versions
    says(world, "True", "DevicesReady")


def test_a_node_state_goes_with_its_node(world: World, start: Any) -> None:
    start()
    world.put(policy("e810", {"matchLabels": {"net": "sriov"}}))
    says(world, "Unknown", "Pending")
    world.delete(NODES, "n1")
    until(lambda: world.get(NODE_STATES, "n1") is None, "it is gone", SECONDS)
    says(world, "False", "NoMatchingNode")
    world.put(node("n2", net="sriov"))
    says(world, "Unknown", "Pending")
    assert world.get(NODE_STATES, "n2")["spec"]["policies"]


def test_without_node_agents_node_states_go(world: World, start: Any) -> None:
    world.put(policy("e810", {}))
    start()
    assert world.all(NODE_STATES).keys() == {"n1", "n2"}
    start(nodeAgent=False)
    assert not world.all(NODE_STATES)
    says(world, "False", "NodeAgentDisabled")
    assert condition(world.get(DEVICE_POLICIES, "e810"), "Stalled")["status"] == "True"


def test_functions_are_given_out_and_kept(world: World, start: Any) -> None:
    def functions() -> dict[str, int]:
        found: Any = world.whole_configs()[f"{NAMESPACE}/router.n1"]["spec"]
        return {each["name"]: each["function"] for each in found.get("interfaces", ())}

    function: Json = {"type": "SRIOV", "sriov": {"resourceName": RESOURCE}}
    pool: Json = {"name": "vfs", "type": "SRIOV", "resourceName": RESOURCE, "count": 2}
    pool["namespaceSelector"] = {}
    uplinks: Any = [{"name": f"uplink{number}", "attachment": function} for number in range(2)]
    world.put(pipeline(devices=[pool], uplinks=uplinks), network("blue"))
    vms = [interface(f"vm{number}", "blue", "n1", attachment=function) for number in range(3)]
    world.put(*vms[:2])
    start()
    assert functions() == {"vm0": 0, "vm1": 1}
    template = world.get(DAEMON_SETS, f"{NAMESPACE}/headrace-router")["spec"]["template"]
    (container,) = template["spec"]["containers"]
    assert container["resources"]["limits"][RESOURCE] == "4"
    assert container["securityContext"]["capabilities"]["add"] == ["IPC_LOCK"]
    assert "hostNetwork" not in template["spec"]

    world.put(vms[2])

    def reason() -> str:
        return str(condition(world.get(INTERFACES, "default/vm2")).get("reason"))

    until(lambda: reason() == "DevicesExhausted", "there is none for vm2", SECONDS)
    world.delete(INTERFACES, "default/vm0")
    until(lambda: functions() == {"vm1": 1, "vm2": 0}, "vm2 has the one that is free", SECONDS)
    start()
    assert functions() == {"vm1": 1, "vm2": 0}
