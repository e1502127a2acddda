# SPDX-License-Identifier: Apache-2.0
"""What the controller desires when nodes die and come back: objects in, objects out."""

import asyncio
from typing import Any

import pytest

from headrace_api import LISTS, Json, assembled
from headrace_api.raw import items, part
from headrace_compiler import interface
from headrace_compiler.claims import Owner
from headrace_compiler.pipeline import Pipelines
from headrace_kube import (
    DATAPLANE_CONFIGS,
    INTERFACES,
    NODES,
    PIPELINES,
    SLICES,
    VIRTUAL_NETWORKS,
    Kind,
)
from headrace_operator.controller import Controller
from headrace_operator.liveness import Liveness, PipelineNode
from headrace_operator.metrics import Metrics
from headrace_operator.render import Settings
from headrace_operator.work import Work

NAMESPACE = "headrace-system"
SLICE = Work(SLICES, f"{NAMESPACE}/ns.net.0")
SECONDS = 40


class World:
    """A Pipeline on nodes a, b and c; Interfaces on a and b announce one prefix."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.version = 0
        self.objects: dict[tuple[Kind, str], Json] = {}
        self.leases = {PipelineNode("edge", node): "first" for node in "abc"}
        for node in "abc":
            self.node(node, "True")
        devices: Any = [{"name": "null", "type": "Discard"}]
        self.put(
            PIPELINES,
            "edge",
            "",
            {
                "underlayPrefixes": ["fd00:1::/48"],
                "nodeSelector": {},
                "allowedNamespaces": {},
                "devices": devices,
            },
        )
        self.put(VIRTUAL_NETWORKS, "net", "ns", {"subnets": [{"prefix": "10.0.0.0/24"}]})
        for node in "ab":
            spec: Json = {
                "networkRef": {"name": "net"},
                "pipelineRef": {"name": "edge"},
                "nodeName": node,
                "attachment": {"type": "Discard"},
                "prefixes": ["10.9.0.0/16"],
            }
            self.put(INTERFACES, f"on-{node}", "ns", spec)

    def put(
        self, kind: Kind, name: str, namespace: str, spec: Json, status: Json | None = None
    ) -> None:
        self.version += 1
        metadata: Json = {
            "name": name,
            "uid": f"{kind.name}-{name}",
            "generation": 1,
            "resourceVersion": str(self.version),
            **({"namespace": namespace} if namespace else {}),
        }
        item: Json = {
            "apiVersion": kind.api_version,
            "kind": kind.name,
            "metadata": metadata,
            "spec": spec,
            "status": status or {},
        }
        self.objects[kind, name] = item

    def parts(self, nodes: str) -> list[Work]:
        """The wanted Slices of these nodes' DataplaneConfigs."""
        progress = self.controller._state.progress
        configs = (Work(DATAPLANE_CONFIGS, f"{NAMESPACE}/edge.{node}") for node in nodes)
        return [work for config in configs for work in progress.parts(config)]

    def whole(self, node: str) -> Json:
        """The wanted DataplaneConfig with what is in its Slices, as it is compiled."""
        config = self.controller.desired(Work(DATAPLANE_CONFIGS, f"{NAMESPACE}/edge.{node}"))
        parts = {work.key: self.controller.desired(work) for work in self.parts(node)}
        slices = {key.partition("/")[2]: item for key, item in parts.items() if item}
        found: Any = assembled(config or {}, slices)
        spec = {name: each for name, each in found["spec"].items() if name != "slices"}
        return {**found, "spec": {**{key: [] for key in LISTS.values()}, **spec}}

    def write(self, kind: Kind, key: str) -> None:
        """Have what is wanted at the API server."""
        self.version += 1
        wanted: Any = self.controller.desired(Work(kind, key))
        given: Json = {"uid": key, "generation": 1, "resourceVersion": str(self.version)}
        self.objects[kind, key] = {**wanted, "metadata": {**wanted["metadata"], **given}}

    def node(self, name: str, ready: str) -> None:
        conditions: Any = [{"type": "Ready", "status": ready}]
        self.put(NODES, name, "", {}, {"conditions": conditions})

    async def start(self) -> None:
        """Start an operator, with nothing but what is at the API server."""
        settings = Settings.model_validate(
            {"dataplane": {"image": "headrace", "leaseSeconds": SECONDS}}
        )
        owner: Json = {"kind": "ConfigMap", "name": "headrace-operator"}
        self.controller = Controller(NAMESPACE, settings, owner, Metrics("0"))
        self.controller.liveness = Liveness(SECONDS, lambda: self.now)
        self.tell()
        await self.controller.load()
        self.running = asyncio.create_task(self.controller.run())

    async def stop(self) -> None:
        self.running.cancel()
        await asyncio.wait([self.running])

    def tell(self) -> None:
        """Have the operator see every object as it is."""
        for (kind, _), item in self.objects.items():
            self.controller.cache.put(kind, item)

    async def compiled(self) -> None:
        """Return when nothing is left to be compiled."""
        while self.controller._state.observed._dirty.is_set():
            await asyncio.sleep(0.01)

    async def spend(self, seconds: int, renewing: str) -> None:
        """Let time pass in which the agents of these nodes renew; write what becomes of it."""
        for _ in range(seconds // 5):
            self.now += 5
            for node in renewing:
                self.leases[PipelineNode("edge", node)] = f"{self.now}"
            self.controller.liveness.observe(self.leases)
            self.controller.judge_nodes()
        await self.compiled()
        status = self.controller.status(Work(PIPELINES, "edge", status=True))
        if status is not None:
            spec: Any = self.objects[PIPELINES, "edge"]["spec"]
            self.put(PIPELINES, "edge", "", spec, status)

    def hops(self) -> list[str]:
        """The nodes to which the prefix leads, by the fourth group of their /64s."""
        wanted: Any = self.controller.desired(SLICE)
        (route,) = (each for each in wanted["spec"]["entries"] if each["prefix"] == "10.9.0.0/16")
        return sorted(hop["underlayAddress"].split(":")[3] for hop in route["nextHops"])

    def reasons(self, kind: Kind, name: str) -> set[str]:
        """Those of the conditions of a status, without waiting for agents."""
        for work in tuple(self.controller._state.statuses._deadlines):
            self.controller._state.statuses._deadlines[work] = 0.0
        status: Any = self.controller.status(Work(kind, name, status=True))
        return {each["reason"] for each in status["conditions"]}

    def states(self) -> dict[str, str]:
        status: Any = self.objects[PIPELINES, "edge"]["status"]
        return {each["name"]: each["state"] for each in status["nodes"] if "state" in each}


def test_next_hops_leave_and_return_and_an_operator_goes_on_where_another_was() -> None:
    async def story() -> None:
        world = World()
        await world.start()
        await world.spend(100, "abc")
        assert (world.hops(), world.states()) == (["1", "2"], {})

        await world.spend(100, "bc")
        assert (world.hops(), world.states()) == (["1", "2"], {"a": "AgentUnreachable"})
        world.node("a", "Unknown")
        world.tell()
        await world.spend(5, "bc")
        assert (world.hops(), world.states()) == (["2"], {"a": "NodeUnreachable"})
        await world.stop()

        # It has read nothing but the Pipeline's status.
        await world.start()
        assert world.hops() == ["2"]
        await world.spend(200, "bc")
        assert (world.hops(), world.states()) == (["2"], {"a": "NodeUnreachable"})
        world.node("a", "True")
        world.tell()
        await world.spend(10, "abc")
        assert (world.hops(), world.states()) == (["1", "2"], {})
        await world.stop()

    asyncio.run(story())


def test_a_pipeline_that_comes_again_at_once_has_its_nodes() -> None:
    """It keeps their /64s, so the compiler has no news of them."""

    async def story() -> None:
        world = World()
        await world.start()
        await world.spend(100, "abc")
        world.version += 1
        gone = world.objects[PIPELINES, "edge"]
        metadata: Any = {**part(gone, "metadata"), "resourceVersion": str(world.version)}
        world.controller.cache.remove(PIPELINES, {**gone, "metadata": metadata})
        world.put(PIPELINES, "edge", "", part(gone, "spec"))
        world.tell()
        await world.spend(5, "abc")
        status = part(world.objects[PIPELINES, "edge"], "status")
        assert (status["selectedNodes"], len(items(status["nodes"]))) == (3, 3)
        await world.stop()

    asyncio.run(story())


def test_what_this_release_fails_with_goes_on_where_another_was(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail_with(module: Any, function: str, word: object) -> None:
        real = getattr(module, function)

        def strange(*words: Any) -> Any:
            if word in words:
                raise KeyError("what is this?")
            return real(*words)

        monkeypatch.setattr(module, function, strange)

    def key(node: str) -> str:
        return f"{NAMESPACE}/edge.{node}"

    async def story() -> None:
        world = World()
        await world.start()
        configs = {
            node: world.controller.desired(Work(DATAPLANE_CONFIGS, key(node))) for node in "abc"
        }
        slices = {work: world.controller.desired(work) for work in (SLICE, *world.parts("abc"))}
        for node in "abc":
            world.write(DATAPLANE_CONFIGS, key(node))
        for work in slices:
            world.write(work.kind, work.key)
        await world.stop()

        fail_with(Pipelines, "_claim", Owner("Pipeline", "edge", "a"))
        fail_with(interface, "accept", "ns/on-b")
        await world.start()
        controller = world.controller
        assert caplog.text.count("KeyError: 'what is this?'") == 2
        assert controller.desired(Work(DATAPLANE_CONFIGS, key("a"))) is None
        assert configs["a"] and controller.is_retained(
            Work(DATAPLANE_CONFIGS, key("a")), configs["a"]
        )
        assert configs["b"] and not controller.is_retained(
            Work(DATAPLANE_CONFIGS, key("b")), configs["b"]
        )
        for node in "bc":
            assert controller.desired(Work(DATAPLANE_CONFIGS, key(node))) == configs[node]
        for work, item in slices.items():
            stuck = ".a." in work.key
            assert controller.desired(work) == (None if stuck else item)
            assert item and controller.is_retained(work, item) is stuck
        assert "InternalError" in world.reasons(INTERFACES, "ns/on-b")
        assert "InternalError" in world.reasons(PIPELINES, "edge")
        assert "InternalError" not in world.reasons(INTERFACES, "ns/on-a")
        # What comes of a change goes on, and what was told is not told again.
        spec: Any = world.objects[VIRTUAL_NETWORKS, "net"]["spec"]
        world.put(VIRTUAL_NETWORKS, "other", "ns", spec)
        world.tell()
        await world.spend(5, "abc")
        assert "ns/other" in controller._state.allocated.vnis
        assert caplog.text.count("KeyError: 'what is this?'") == 2
        monkeypatch.undo()
        world.put(VIRTUAL_NETWORKS, "third", "ns", spec)
        world.tell()
        await world.spend(5, "abc")
        assert controller.desired(Work(DATAPLANE_CONFIGS, key("a"))) == configs["a"]
        assert all(controller.desired(work) == item for work, item in slices.items())
        assert "InternalError" not in world.reasons(PIPELINES, "edge")
        await world.stop()

    asyncio.run(story())
