# SPDX-License-Identifier: Apache-2.0
"""The controller where the first release was: its objects, and its agents beside new ones."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from headrace_api import FEATURES, Json, routes_digest, slice_revision
from headrace_kube import (
    DATAPLANE_CONFIGS,
    INTERFACES,
    NODES,
    PIPELINES,
    ROUTE_SLICES,
    VIRTUAL_NETWORKS,
    Kind,
)
from headrace_operator import controller as module
from headrace_operator.controller import Controller, Work
from headrace_operator.metrics import Metrics
from headrace_operator.render import Settings

NAMESPACE = "headrace-system"
SLICE = Work(ROUTE_SLICES, f"{NAMESPACE}/ns.net.0")
#: All that an agent of the first release takes; it freezes its node at anything else.
KNOWN = {
    "": {
        *("pipelineName", "nodeName", "workers", "hugepages", "underlayPrefix", "underlayAddress"),
        *("uplinks", "networks", "interfaces"),
    },
    "networks": {"namespace", "name", "vni", "mtu", "gateways", "subnets", "routeSlices"},
    "interfaces": {
        *("namespace", "name", "network", "vni", "attachment", "addresses", "prefixes"),
        *("gateways", "macAddress", "underlayAddress", "sourceCheck", "mtu", "queues"),
    },
}


def unknown(spec: Any) -> set[str]:
    """Fields that an agent of the first release does not know."""
    found = spec.keys() - KNOWN[""]
    for name in ("networks", "interfaces"):
        for each in spec[name]:
            found |= each.keys() - KNOWN[name]
    return found


def first(node: str, number: int) -> Json:
    """What the first release compiled for the node: one Interface."""
    prefix = f"fd00:1:0:{number}::"
    names: Json = {"namespace": "ns", "network": "ns/net", "vni": 1}
    network: Json = {"namespace": "ns", "name": "net", "vni": 1, "mtu": 1460}
    network |= {"gateways": ["10.0.0.1"], "subnets": ["10.0.0.0/24"], "routeSlices": ["ns.net.0"]}
    interface: Json = {**names, "name": f"on-{node}", "attachment": {"type": "Discard"}}
    interface |= {"addresses": [f"10.0.0.{number + 1}"], "prefixes": [], "gateways": ["10.0.0.1"]}
    interface |= {"underlayAddress": f"{prefix}2", "sourceCheck": "Strict", "mtu": 1460}
    return {
        "pipelineName": "edge",
        "nodeName": node,
        "workers": {},
        "underlayPrefix": f"{prefix}/64",
        "underlayAddress": f"{prefix}1",
        "uplinks": [],
        "networks": [network],
        "interfaces": [interface],
    }


class World:
    """An API server, and the agents of nodes a and b, of the first release until they are new."""

    def __init__(self) -> None:
        self.version = 0
        self.objects: dict[tuple[Kind, str], Json] = {}
        self.new: set[str] = set()
        devices: Any = []
        spec: Json = {
            "underlayPrefixes": ["fd00:1::/48"],
            "nodeSelector": {},
            "allowedNamespaces": {},
            "devices": devices,
        }
        spec["limits"] = {"waitingPacketsPerNamespace": 9}
        self.put(PIPELINES, "edge", spec)
        self.put(VIRTUAL_NETWORKS, "ns/net", {"subnets": [{"prefix": "10.0.0.0/24"}]})
        for number, node in enumerate("ab", 1):
            self.put(NODES, node, {})
            spec = {
                "networkRef": {"name": "net"},
                "pipelineRef": {"name": "edge"},
                "nodeName": node,
            }
            self.put(INTERFACES, f"ns/on-{node}", {**spec, "attachment": {"type": "Discard"}})
            self.put(DATAPLANE_CONFIGS, f"{NAMESPACE}/edge.{node}", first(node, number))
            self.report(node)

    def put(self, kind: Kind, key: str, spec: Json, status: Json | None = None) -> Json:
        """Write an object; a new spec is a new generation."""
        self.version += 1
        namespace, _, name = key.rpartition("/")
        before: Any = self.objects.get((kind, key))
        generation = 1
        if before:
            generation = before["metadata"]["generation"] + (before["spec"] != spec)
        item: Json = {
            "apiVersion": kind.api_version,
            "kind": kind.name,
            "metadata": {
                "name": name,
                "uid": f"{kind.name}-{key}",
                "generation": generation,
                "resourceVersion": str(self.version),
                **({"namespace": namespace} if namespace else {}),
            },
            "spec": spec,
            "status": (before["status"] if before else {}) if status is None else status,
        }
        self.objects[kind, key] = item
        return item

    def report(self, node: str) -> None:
        """Say what the node's agent has made of what is there."""
        key = f"{NAMESPACE}/edge.{node}"
        config: Any = self.objects[DATAPLANE_CONFIGS, key]
        there: Any = self.objects.get((ROUTE_SLICES, SLICE.key))
        status: Json = {
            "observedGeneration": config["metadata"]["generation"],
            "conditions": [{"type": "Ready", "status": "True"}],
        }
        if node in self.new and there:
            of = there["metadata"]
            digest = routes_digest([slice_revision(of["name"], of["uid"], of["generation"])])
            status["features"] = [*FEATURES]
            status["networks"] = [{"namespace": "ns", "name": "net", "digest": digest}]
        self.put(DATAPLANE_CONFIGS, key, config["spec"], status)

    async def start(self) -> None:
        """Start an operator, with nothing but what is at the API server."""
        settings = Settings.model_validate({"dataplane": {"image": "headrace"}})
        owner: Json = {"kind": "ConfigMap", "name": "headrace-operator"}
        self.controller = Controller(NAMESPACE, settings, owner, Metrics("0"))
        self.tell()
        await self.controller.load()
        self.tasks = [
            asyncio.create_task(work) for work in (self.controller.run(), self.controller.tend())
        ]

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.wait(self.tasks)

    def tell(self) -> None:
        """Have the operator see every object as it is."""
        for (kind, _), item in self.objects.items():
            self.controller.cache.put(kind, item)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Write what is wanted and have the agents take it, until a condition holds."""
        async with asyncio.timeout(30):
            while self.write() or not condition():
                for node in "ab":
                    self.report(node)
                self.tell()
                await asyncio.sleep(0.01)

    def write(self) -> bool:
        """Write what is wanted and not there; no agent gets what it does not know."""
        written = False
        for work in (
            SLICE,
            *(Work(DATAPLANE_CONFIGS, f"{NAMESPACE}/edge.{node}") for node in "ab"),
        ):
            wanted: Any = self.controller.wanted(work)
            there = self.objects.get((work.kind, work.key))
            if there and there["spec"] == wanted["spec"]:
                continue
            if work is not SLICE and wanted["spec"]["nodeName"] not in self.new:
                assert not unknown(wanted["spec"])
            found = self.put(work.kind, work.key, wanted["spec"])
            self.controller.cache.put(work.kind, found)
            self.controller.applied(work, wanted, found)
            written = True
        return written

    def underlay(self, node: str) -> list[str]:
        """Where the node's Interface is reached: its address, then former ones."""
        config: Any = self.objects[DATAPLANE_CONFIGS, f"{NAMESPACE}/edge.{node}"]
        (interface,) = config["spec"]["interfaces"]
        former = interface.get("formerUnderlayAddresses", [])
        return [interface["underlayAddress"], *former]

    def checked(self) -> tuple[str, str]:
        """Why sources are (not) checked, as the Pipeline says, and whom it names."""
        status: Any = self.controller.status(Work(PIPELINES, "edge", status=True)) or {}
        (found,) = [c for c in status.get("conditions", ()) if c["type"] == "SourcesChecked"] or [
            {}
        ]
        return found.get("reason", ""), found.get("message", "")

    def waiting(self, node: str) -> object:
        """Most packets of a namespace that wait there, as the node is told."""
        config: Any = self.objects[DATAPLANE_CONFIGS, f"{NAMESPACE}/edge.{node}"]
        return config["spec"].get("waitingPacketsPerNamespace")

    def waits_for(self, nodes: str) -> bool:
        """Whether sources are not checked because of these nodes."""
        reason, message = self.checked()
        return reason == "AgentTooOld" and f"The agents of {nodes} are" in message


def test_agents_of_the_first_release_get_what_they_know_until_the_last_is_new(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "TEND", 0.01)

    async def story() -> None:
        world = World()
        await world.start()
        await world.until(lambda: world.waits_for("a, b"))
        assert (world.underlay("a"), world.underlay("b")) == (["fd00:1:0:1::2"], ["fd00:1:0:2::2"])

        world.new.add("a")
        await world.until(lambda: world.waits_for("b") and len(world.underlay("a")) == 2)
        moved, former = world.underlay("a")
        assert former == "fd00:1:0:1::2"
        assert world.underlay("b") == ["fd00:1:0:2::2"]
        assert (world.waiting("a"), world.waiting("b")) == (9, None)
        await world.stop()

        # Another operator goes on.
        await world.start()
        await world.until(lambda: world.waits_for("b"))
        assert world.underlay("a") == [moved, former]
        world.new.add("b")
        await world.until(lambda: world.checked()[0] == "Enforced")
        assert world.underlay("a") == [moved]
        (other,) = world.underlay("b")
        assert other.startswith("fd00:1:0:2:0:1")
        assert world.waiting("b") == 9
        await world.stop()

    asyncio.run(story())
