# SPDX-License-Identifier: Apache-2.0
"""DevicePolicies in the operator: NodeStates desired, statuses of what agents report."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from headrace_api import Json
from headrace_api.raw import part
from headrace_kube import DAEMON_SETS, DEVICE_POLICIES, NODE_STATES, NODES, PIPELINES, Kind
from headrace_operator import objects
from headrace_operator.controller import Controller
from headrace_operator.metrics import Metrics
from headrace_operator.render import PolicyReport, Settings, device_policy_status, policy_report
from headrace_operator.work import Work

NOW = datetime(2026, 1, 1, tzinfo=UTC)
RAW: Json = {
    "metadata": {"name": "e810", "generation": 3},
    "spec": {"nodeSelector": {"matchLabels": {"net": "sriov"}}},
}


def ready(vfs: int = 8) -> PolicyReport:
    return PolicyReport(True, "Ready", "", vfs)


def failing(reason: str, message: str = "sorry") -> PolicyReport:
    return PolicyReport(False, reason, message, 2)


PENDING = PolicyReport(None, "Pending", "its node agent has not reported yet")


def status(reports: dict[str, PolicyReport], **more: Any) -> dict[str, Any]:
    kwargs = {"compiled": True, "node_agent": True, **more}
    found: Any = device_policy_status(RAW, reports, (), NOW, **kwargs)
    return dict(found)


def condition(found: dict[str, Any], kind: str = "Ready") -> tuple[str, str, str] | None:
    for each in found["conditions"]:
        if each["type"] == kind:
            return each["status"], each["reason"], each["message"]
    return None


def test_all_nodes_are_as_it_wants_them() -> None:
    found = status({"node-a": ready(), "node-b": ready(4)})
    assert condition(found) == (
        "True",
        "DevicesReady",
        "The cards of every node that it selects are as it wants them (2): 12 VFs are ready",
    )
    assert (found["selectedNodes"], found["readyNodes"], found["vfs"]) == (2, 2, 12)
    assert found["observedGeneration"] == 3
    assert condition(found, "Stalled") is None


@pytest.mark.parametrize(
    ("reports", "verdict", "reason", "words", "stalled"),
    [
        (
            {"b": failing("VFsInUse", "VM vm1 has VF 3: stop it"), "a": ready(), "c": PENDING},
            "False",
            "VFsInUse",
            "1 of 3 nodes are not as it wants them: b (VFsInUse: VM vm1 has VF 3: stop it)",
            False,
        ),
        (
            {"a": failing("VFsInUse"), "b": failing("NodeUplink", "ens1f0 is its uplink")},
            "False",
            "NodeUplink",
            "2 of 2 nodes are not as it wants them: b (NodeUplink: ens1f0 is its uplink),"
            " a (VFsInUse)",
            True,
        ),
        (
            {f"n{number}": failing("VFsInUse") for number in range(8)},
            "False",
            "VFsInUse",
            "n4 (VFsInUse) and 3 more",
            False,
        ),
        (
            {"a": ready(), "b": PENDING},
            "Unknown",
            "Pending",
            "1 of 2 nodes have not said yet: b (its node agent has not reported yet)",
            False,
        ),
        ({}, "False", "NoMatchingNode", "label the nodes whose cards it is for", True),
    ],
)
def test_what_is_wrong_is_named_by_node(
    reports: dict[str, PolicyReport], verdict: str, reason: str, words: str, stalled: bool
) -> None:
    found = status(reports)
    summary = condition(found)
    assert summary is not None
    assert summary[:2] == (verdict, reason)
    assert words in summary[2]
    assert (condition(found, "Stalled") is not None) is stalled


def test_a_long_message_leaves_room_for_other_nodes() -> None:
    found = status({"a": failing("Failed", "x" * 4096), "b": failing("VFsInUse")})
    summary = condition(found)
    assert summary and "b (VFsInUse)" in summary[2]


def test_without_node_agents_nobody_does_it() -> None:
    found = status({}, node_agent=False)
    summary = condition(found)
    assert summary and summary[:2] == ("False", "NodeAgentDisabled")
    assert condition(found, "Stalled")


def state(policy: Json | None, reported: Json | None = None) -> Json:
    spec: Json = {"nodeName": "a", "policies": [policy] if policy else []}
    return {"spec": spec, "status": {"policies": [reported] if reported else []}}


OWN: Json = {"name": "e810", "generation": 3, "vfs": 8}
SAID: Json = {"name": "e810", "observedGeneration": 3, "ready": True, "vfs": 8}


@pytest.mark.parametrize(
    ("there", "verdict"),
    [
        (None, None),
        (state(None), None),
        (state({**OWN, "vfs": 4}, SAID), None),
        (state(OWN), None),
        (state(OWN, {**SAID, "observedGeneration": 2}), None),
        (state(OWN, {**SAID, "name": "other"}), None),
        (state(OWN, SAID), True),
        (state(OWN, {**SAID, "ready": False, "reason": "VFsInUse"}), False),
    ],
)
def test_a_report_counts_for_the_generation_that_it_is_of(
    there: Json | None, verdict: bool | None
) -> None:
    assert policy_report("e810", state(OWN), there, "").ready is verdict


def test_a_reason_that_is_none_becomes_one() -> None:
    there = state(OWN, {**SAID, "ready": False, "reason": "not a reason"})
    assert policy_report("e810", state(OWN), there, "").reason == "NotReady"
    assert "no such kind" in policy_report("e810", state(OWN), None, "no such kind").message


class World:
    """Two nodes and a policy for one of them."""

    def __init__(self, *, node_agent: bool = True) -> None:
        self.node_agent = node_agent
        self.version = 0
        self.objects: dict[tuple[Kind, str], Json] = {}
        self.node("node-a", net="sriov")
        self.node("node-b")
        self.policy()

    def put(self, kind: Kind, name: str, item: Json, **metadata: Any) -> None:
        self.version += 1
        given = {"name": name, "uid": f"{name}-1", "resourceVersion": str(self.version)}
        self.objects[kind, name] = {
            "apiVersion": kind.api_version,
            "kind": kind.name,
            **item,
            "metadata": {**part(item, "metadata"), **given, "generation": 1, **metadata},
        }

    def node(self, name: str, uid: str = "", **labels: str) -> None:
        self.put(NODES, name, {"status": {}}, labels=labels, uid=uid or f"{name}-1")

    def policy(self, generation: int = 1, **spec: Any) -> None:
        wanted = {"nicSelector": {"names": ["ens1f0"]}, "vfs": 8, **spec}
        wanted = {"nodeSelector": {"matchLabels": {"net": "sriov"}}, **wanted}
        self.put(DEVICE_POLICIES, "e810", {"spec": wanted}, generation=generation)

    async def start(self) -> None:
        settings = Settings.model_validate(
            {"dataplane": {"image": "headrace"}, "nodeAgent": self.node_agent}
        )
        owner: Json = {"kind": "ConfigMap", "name": "headrace-operator"}
        self.controller = Controller("headrace-system", settings, owner, Metrics("0"))
        self.tell()
        await self.controller.load()
        self.running = asyncio.create_task(self.controller.run())

    async def stop(self) -> None:
        self.running.cancel()
        await asyncio.wait([self.running])

    def tell(self) -> None:
        for (kind, _), item in self.objects.items():
            self.controller.cache.put(kind, item)

    async def compiled(self) -> None:
        self.tell()
        while self.controller._state.observed._dirty.is_set():
            await asyncio.sleep(0.01)

    def desired(self, node: str) -> dict[str, Any] | None:
        found: Any = self.controller.desired(Work(NODE_STATES, node))
        return found

    def write(self, node: str, reported: Json | None = None) -> None:
        """Have the NodeState at the API server, with what its agent says of the policy."""
        wanted = self.desired(node)
        assert wanted is not None
        said: Json = {"policies": [{"name": "e810", **reported}]} if reported else {}
        facts: Json = {"cpus": {"cpus": [{"cpu": 0}]}, **said}
        item = {key: value for key, value in wanted.items() if key != "metadata"}
        self.put(NODE_STATES, node, {**item, "metadata": wanted["metadata"], "status": facts})
        self.tell()

    def ready(self) -> tuple[str, str]:
        for work in tuple(self.controller._state.statuses._deadlines):
            self.controller._state.statuses._deadlines[work] = 0.0
        found: Any = self.controller.status(Work(DEVICE_POLICIES, "e810", status=True))
        summary = condition(found)
        assert summary
        return summary[:2]


def test_a_policy_comes_to_its_nodes_and_their_word_comes_back() -> None:
    async def story() -> None:
        world = World()
        await world.start()
        wanted = world.desired("node-a")
        assert wanted is not None
        (reference,) = wanted["metadata"]["ownerReferences"]
        assert reference == {
            "apiVersion": "v1",
            "kind": "Node",
            "name": "node-a",
            "uid": "node-a-1",
        }
        assert "namespace" not in wanted["metadata"]
        assert [each["name"] for each in wanted["spec"]["policies"]] == ["e810"]
        other = world.desired("node-b")
        assert other is not None and "policies" not in other["spec"]
        assert world.ready() == ("Unknown", "Pending")

        world.write("node-a")
        assert world.ready() == ("Unknown", "Pending")
        said: Json = {"observedGeneration": 1, "ready": False, "reason": "VFsInUse", "vfs": 2}
        world.write("node-a", said)
        assert world.ready() == ("False", "VFsInUse")
        cached = world.controller.cache.get(NODE_STATES, "node-a")
        assert "cpus" not in part(cached, "status")
        world.write("node-a", {"observedGeneration": 1, "ready": True, "vfs": 8})
        assert world.ready() == ("True", "DevicesReady")

        # What it said was of what the policy was before.
        world.policy(2, vfs=16)
        await world.compiled()
        assert world.ready() == ("Unknown", "Pending")
        await world.stop()

    asyncio.run(story())


def test_a_node_of_the_same_name_is_another_owner() -> None:
    async def story() -> None:
        world = World()
        await world.start()
        world.write("node-a")
        world.node("node-a", uid="another", net="sriov")
        await world.compiled()
        wanted = world.desired("node-a")
        assert wanted and wanted["metadata"]["ownerReferences"][0]["uid"] == "another"
        there = world.objects[NODE_STATES, "node-a"]
        assert not world.controller.is_written(Work(NODE_STATES, "node-a"), there)
        world.controller.cache.remove(NODES, world.objects.pop((NODES, "node-a")))
        await world.compiled()
        assert world.desired("node-a") is None
        await world.stop()

    asyncio.run(story())


def test_a_restart_writes_nothing() -> None:
    async def story() -> None:
        world = World()
        await world.start()
        for node in ("node-a", "node-b"):
            world.write(node)
        await world.stop()
        await world.start()
        for node in ("node-a", "node-b"):
            there = world.objects[NODE_STATES, node]
            assert world.controller.is_written(Work(NODE_STATES, node), objects.slim(there))
        await world.stop()

    asyncio.run(story())


def test_what_was_read_once_stays_when_it_cannot_be_read_any_more() -> None:
    async def story() -> None:
        world = World()
        await world.start()
        before = world.desired("node-a")
        world.write("node-a", {"observedGeneration": 1, "ready": True, "vfs": 8})
        world.policy(2, vfs=-1)
        await world.compiled()
        assert world.desired("node-a") == before
        await world.stop()
        await world.start()
        assert world.desired("node-a") == before
        assert world.ready()[0] == "False"
        await world.stop()

    asyncio.run(story())


def test_without_node_agents_there_are_no_node_states() -> None:
    async def story() -> None:
        world = World(node_agent=False)
        await world.start()
        assert world.desired("node-a") is None
        assert world.ready() == ("False", "NodeAgentDisabled")
        await world.stop()

    asyncio.run(story())


def test_functions_of_the_kernels_driver_give_pods_what_they_need() -> None:
    def capabilities(world: World) -> list[str]:
        found: Any = world.controller.desired(Work(DAEMON_SETS, "headrace-system/headrace-edge"))
        (container,) = found["spec"]["template"]["spec"]["containers"]
        added: list[str] = container["securityContext"]["capabilities"]["add"]
        return added

    async def story() -> None:
        world = World()
        pool: Json = {"name": "vfs", "type": "SRIOV", "resourceName": "a.b/cx6", "count": 2}
        spec: Json = {"underlayPrefixes": ["fd00:1::/48"], "nodeSelector": {}, "devices": [pool]}
        world.put(PIPELINES, "edge", {"spec": spec})
        await world.start()
        assert capabilities(world) == ["IPC_LOCK"]
        world.policy(2, driver="Kernel", resourceName="a.b/cx6")
        await world.compiled()
        assert capabilities(world) == ["IPC_LOCK", "NET_ADMIN", "NET_RAW"]
        world.policy(3, driver="Kernel", resourceName="a.b/cx7")
        await world.compiled()
        assert capabilities(world) == ["IPC_LOCK"]
        world.policy(4, driver="Kernel", resourceName="a.b/cx6")
        await world.compiled()
        world.controller.cache.remove(DEVICE_POLICIES, world.objects.pop((DEVICE_POLICIES, "e810")))
        assert capabilities(world) == ["IPC_LOCK"]
        await world.stop()

    asyncio.run(story())
