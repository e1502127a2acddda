# SPDX-License-Identifier: Apache-2.0
"""VFs that Interfaces have: what agents claim is in NodeStates, and nothing is two tenants'."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from headrace_api import FEATURES, Json
from headrace_api.raw import part
from headrace_kube import (
    DATAPLANE_CONFIGS,
    INTERFACES,
    NODE_STATES,
    PIPELINES,
    PODS,
    VIRTUAL_NETWORKS,
)
from headrace_operator import objects
from headrace_operator.functions import Functions
from headrace_operator.work import Work
from tests.unit.test_operator_policies import World

POD = "headrace-system/headrace-router-x"
CX6 = "headrace.dev/cx6"
P1, P2 = "0000:01:10.0", "0000:01:10.2"


class Vlans(World):
    """Two nodes, networks of two tenants, and a Pipeline with functions in VLANs."""

    def __init__(self) -> None:
        super().__init__()
        pool: Json = {"name": "vfs", "type": "SRIOV", "resourceName": CX6, "count": 4}
        pool |= {"namespaceSelector": {}, "vlans": ["100-199"], "endpointVLANs": ["3000-3999"]}
        spec: Json = {
            "underlayPrefixes": ["fd00:1::/48"],
            "nodeSelector": {},
            "allowedNamespaces": {},
            "devices": [pool],
        }
        self.put(PIPELINES, "router", {"spec": spec})
        for namespace in ("blue", "red"):
            of: Json = {"spec": {"subnets": [{"prefix": "10.0.0.0/24"}]}}
            self.put(VIRTUAL_NETWORKS, "net", of, namespace=namespace)
            self.objects[VIRTUAL_NETWORKS, f"{namespace}/net"] = self.objects.pop(
                (VIRTUAL_NETWORKS, "net")
            )

    def interface(self, key: str, vlan: int, node: str = "node-a") -> None:
        self._interface(key, {"vlan": vlan}, nodeName=node)

    def endpoint(self, key: str, pod: str = "", **more: Any) -> None:
        """An Interface of a pod's function, or of one for a machine on node-a."""
        behind: Json = {"type": "Pod", "pod": {"name": pod}} if pod else {"type": "VM"}
        self._interface(
            key, {"endpoint": behind}, **({} if pod else {"nodeName": "node-a"}), **more
        )

    def _interface(self, key: str, behind: Json, **more: Any) -> None:
        namespace, _, name = key.partition("/")
        attachment: Json = {"type": "SRIOV", "sriov": {"resourceName": CX6, **behind}}
        spec: Json = {
            "networkRef": {"name": "net"},
            "pipelineRef": {"name": "router"},
            "attachment": attachment,
            **more,
        }
        self.put(INTERFACES, name, {"spec": spec}, namespace=namespace)
        self.objects[INTERFACES, key] = self.objects.pop((INTERFACES, name))

    def remove(self, key: str) -> None:
        self.controller.cache.remove(INTERFACES, self.objects.pop((INTERFACES, key)))

    def compiled_interfaces(self, node: str) -> dict[str, Any]:
        compiler = self.controller._state.observed.compiler
        spec: Any = part(compiler.snapshot().configs[f"router.{node}"], "spec")
        return {f"{i['namespace']}/{i['name']}": i for i in spec["interfaces"]}

    def grant(self, node: str, key: str) -> int:
        found: int = self.compiled_interfaces(node)[key]["grant"]
        return found

    def claim(self, node: str, claims: dict[str, tuple[str, int]] | None) -> None:
        """Have the DataplaneConfig at the API server, with these functions in its status."""
        work = Work(DATAPLANE_CONFIGS, f"headrace-system/router.{node}")
        wanted: Any = self.controller.desired(work)
        status: Json = {"observedGeneration": 1, "features": [*FEATURES]}
        if claims is not None:
            status["functions"] = [
                {"pciAddress": address, "interface": key, "grant": grant, "pod": POD}
                for address, (key, grant) in claims.items()
            ]
        name = f"router.{node}"
        item = {"spec": wanted["spec"], "status": status, "metadata": wanted["metadata"]}
        self.put(DATAPLANE_CONFIGS, name, item, namespace="headrace-system")
        self.tell()

    def say(self, node: str, *functions: Json) -> None:
        """Have the NodeState there as it is desired, with this said of functions."""
        wanted: Any = self.desired(node)
        item = {"spec": wanted["spec"], "status": {"functions": [*functions]}}
        self.put(NODE_STATES, node, {**item, "metadata": wanted["metadata"]})
        self.tell()

    def status(self, key: str) -> dict[str, Any]:
        for work in tuple(self.controller._state.statuses._deadlines):
            self.controller._state.statuses._deadlines[work] = 0.0
        found: Any = self.controller.status(Work(INTERFACES, key, status=True))
        return found or {}

    def given(self, node: str) -> dict[str, tuple[str, int | None]]:
        spec: Any = part(self.desired(node), "spec")
        return {e["pciAddress"]: (e["interface"], e.get("vlan")) for e in spec.get("functions", ())}


def run(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(story)


def test_a_claim_is_given_what_was_compiled() -> None:
    async def story() -> None:
        world = Vlans()
        world.interface("blue/a", 100)
        await world.start()
        assert world.given("node-a") == {}
        grant = world.grant("node-a", "blue/a")
        world.claim("node-a", {P1: ("blue/a", grant)})
        assert world.given("node-a") == {P1: ("blue/a", 100)}
        spec: Any = part(world.desired("node-a"), "spec")
        assert spec["functions"] == [
            {
                "pciAddress": P1,
                "pipeline": "router",
                "interface": "blue/a",
                "network": "blue/net",
                "grant": grant,
                "pod": POD,
                "vlan": 100,
            }
        ]
        assert [each["name"] for each in spec["policies"]] == ["e810"]
        # Of an earlier grant, of nobody, and nonsense.
        for claims in (
            {P1: ("blue/a", grant + 1)},
            {P1: ("red/a", grant)},
            {"../x": ("blue/a", grant)},
        ):
            world.claim("node-a", claims)
            assert world.given("node-a") == {}
        await world.stop()

    run(story())


def test_a_vf_is_whose_it_was_until_its_agent_lets_go() -> None:
    async def story() -> None:
        world = Vlans()
        world.interface("blue/a", 100)
        await world.start()
        first = world.grant("node-a", "blue/a")
        world.claim("node-a", {P1: ("blue/a", first)})
        world.remove("blue/a")
        world.interface("red/b", 150)
        await world.compiled()
        assert {*world.compiled_interfaces("node-a")} == {"red/b"}
        second = world.grant("node-a", "red/b")
        assert second != first
        # The engine has it open yet.
        assert world.given("node-a") == {P1: ("blue/a", 100)}
        world.claim("node-a", {P1: ("blue/a", first)})
        assert world.given("node-a") == {P1: ("blue/a", 100)}
        # An agent that has just started does not know.
        world.claim("node-a", None)
        assert world.given("node-a") == {P1: ("blue/a", 100)}
        world.claim("node-a", {P1: ("red/b", second)})
        assert world.given("node-a") == {P1: ("red/b", 150)}
        world.claim("node-a", {})
        assert world.given("node-a") == {}
        await world.stop()

    run(story())


def test_another_operator_gives_the_same_and_writes_nothing() -> None:
    async def story() -> None:
        world = Vlans()
        world.interface("blue/a", 100)
        await world.start()
        grant = world.grant("node-a", "blue/a")
        world.claim("node-a", {P1: ("blue/a", grant)})
        world.say("node-a")
        world.say("node-b")
        world.remove("blue/a")
        await world.compiled()
        await world.stop()
        # What was compiled is gone, what is claimed is not.
        await world.start()
        assert world.given("node-a") == {P1: ("blue/a", 100)}
        there = world.objects[NODE_STATES, "node-a"]
        assert world.controller.is_written(Work(NODE_STATES, "node-a"), objects.slim(there))
        world.claim("node-a", None)
        await world.stop()
        await world.start()
        assert world.given("node-a") == {P1: ("blue/a", 100)}
        await world.stop()

    run(story())


def test_a_vlan_is_another_networks_once_no_node_uses_it() -> None:
    async def story() -> None:
        world = Vlans()
        world.interface("blue/a", 100)
        await world.start()
        first = world.grant("node-a", "blue/a")
        world.claim("node-a", {P1: ("blue/a", first)})
        world.claim("node-b", {})
        world.remove("blue/a")
        world.interface("red/b", 100, "node-b")
        await world.compiled()
        second = world.grant("node-b", "red/b")
        world.claim("node-b", {P2: ("red/b", second)})
        assert world.given("node-b") == {}
        world.claim("node-a", {})
        assert (world.given("node-a"), world.given("node-b")) == ({}, {P2: ("red/b", 100)})
        await world.stop()

    run(story())


def test_a_vlan_is_nobodys_while_a_vf_that_nobody_has_is_in_it() -> None:
    async def story() -> None:
        world = Vlans()
        world.interface("blue/a", 100)
        await world.start()
        first = world.grant("node-a", "blue/a")
        world.claim("node-a", {P1: ("blue/a", first)})
        ready: Json = {"pciAddress": P1, "interface": "blue/a", "grant": first, "vlan": 100}
        world.say("node-a", {**ready, "ready": True})
        # The Pipeline leaves the node with its pod, whose engine may run for a while.
        there = world.objects.pop((DATAPLANE_CONFIGS, "router.node-a"))
        world.remove("blue/a")
        world.controller.cache.remove(DATAPLANE_CONFIGS, there)
        await world.compiled()
        assert world.given("node-a") == {}
        world.interface("red/b", 100, "node-b")
        await world.compiled()
        second = world.grant("node-b", "red/b")
        world.claim("node-b", {P2: ("red/b", second)})
        assert world.given("node-b") == {}
        world.say("node-a", {"pciAddress": P1, "vlan": 100, "ready": False})
        assert world.given("node-b") == {}
        world.say("node-a")
        assert world.given("node-b") == {P2: ("red/b", 100)}
        await world.stop()

    run(story())


def test_an_endpoint_is_given_with_its_pod_and_told_in_the_status() -> None:
    async def story() -> None:
        world = Vlans()
        pod: Json = {"spec": {"nodeName": "node-a"}, "status": {"phase": "Running"}}
        world.put(PODS, "web-0", pod, namespace="blue")
        world.objects[PODS, "blue/web-0"] = world.objects.pop((PODS, "web-0"))
        world.endpoint("blue/a", "web-0", macAddress="02:00:00:00:00:01")
        world.endpoint("red/m")
        await world.start()
        grants = {key: world.grant("node-a", key) for key in ("blue/a", "red/m")}
        world.claim("node-a", {P1: ("blue/a", grants["blue/a"]), P2: ("red/m", grants["red/m"])})
        spec: Any = part(world.desired("node-a"), "spec")
        vlans = ["3000-3999"]
        assert [each.get("peer") for each in spec["functions"]] == [
            {"pod": "blue/web-0", "macAddress": "02:00:00:00:00:01", "vlans": vlans},
            {"vlans": vlans},
        ]
        assert [each["vlans"] for each in spec["dataplanes"]] == [["100-199"]]
        assert world.given("node-a") == {P1: ("blue/a", None), P2: ("red/m", None)}

        peer: Json = {"pciAddress": "0000:01:11.0", "macAddress": "02:00:00:00:00:01"}
        said: list[Json] = [
            {"pciAddress": each, "interface": key, "grant": grants[key], "ready": True}
            for each, key in ((P1, "blue/a"), (P2, "red/m"))
        ]
        world.say(
            "node-a", *({**each, "vlan": 3000 + n, "peer": peer} for n, each in enumerate(said))
        )
        assert world.status("blue/a")["endpoint"] == world.status("red/m")["endpoint"] == peer
        # What is said of an earlier grant is none of its own.
        world.say("node-a", {**said[0], "grant": 1, "peer": peer})
        assert "endpoint" not in world.status("blue/a")

        # A machine's stays, and is asked for when its dataplane comes again.
        raw: Any = world.objects[INTERFACES, "red/m"]
        world.put(INTERFACES, "m", {**raw, "status": {"nodeName": "node-a", "endpoint": peer}})
        world.objects[INTERFACES, "red/m"] = world.objects.pop((INTERFACES, "m"))
        world.tell()
        assert world.status("red/m")["endpoint"] == peer
        world.claim("node-a", {})
        assert world.given("node-a") == {}
        world.claim("node-a", {P1: ("red/m", grants["red/m"])})
        spec = part(world.desired("node-a"), "spec")
        assert spec["functions"][0]["peer"] == {"vlans": vlans, "pciAddress": "0000:01:11.0"}
        await world.stop()

    run(story())


def config(node: str, pipeline: str, *claims: tuple[str, str, int]) -> Json:
    found: list[Json] = [
        {"pciAddress": a, "interface": i, "grant": g, "pod": POD} for a, i, g in claims
    ]
    return {
        "spec": {"nodeName": node, "pipelineName": pipeline},
        "status": {"functions": [*found]},
    }


def granted(node: str, name: str, grant: int, network: str = "blue/net", vlan: int = 0) -> Json:
    sriov: Json = {"resourceName": CX6, **({"vlan": vlan} if vlan else {})}
    namespace, _, of = name.partition("/")
    interface: Json = {"namespace": namespace, "name": of, "grant": grant, "network": network}
    interface["attachment"] = {"sriov": sriov}
    return {"spec": {"nodeName": node, "interfaces": [interface]}}


def test_of_two_pods_that_claim_a_vf_the_first_has_it() -> None:
    found = Functions()
    for name in ("one", "two"):
        assert found.compiled(name, granted("a", f"blue/{name}", 1)) == "a"
    found.claimed("two", config("a", "two", (P1, "blue/two", 1)))
    assert [each["interface"] for each in found.give("a")[0]] == ["blue/two"]
    found.claimed("one", config("a", "one", (P1, "blue/one", 1)))
    assert [each["interface"] for each in found.give("a")[0]] == ["blue/two"]
    assert found.claimed("two", None) == {"a"}
    assert [each["interface"] for each in found.give("a")[0]] == ["blue/one"]


def test_pipelines_have_vlans_of_their_own() -> None:
    found = Functions()
    found.compiled("one", granted("a", "blue/one", 1, "blue/net", 100))
    found.compiled("two", granted("b", "red/two", 1, "red/net", 100))
    found.claimed("one", config("a", "one", (P1, "blue/one", 1)))
    found.claimed("two", config("b", "two", (P1, "red/two", 1)))
    assert len(found.give("a")[0]) == len(found.give("b")[0]) == 1


def test_a_node_that_is_gone_keeps_nobody_waiting() -> None:
    found = Functions()
    found.compiled("one", granted("a", "blue/one", 1, "blue/net", 100))
    found.compiled("two", granted("b", "red/two", 2, "red/net", 100))
    found.claimed("one", config("a", "one", (P1, "blue/one", 1)))
    found.claimed("two", config("b", "one", (P2, "red/two", 2)))
    found.give("a")
    assert found.give("b") == ([], set())
    assert found.forget("a") == {"b"}
    assert [each["interface"] for each in found.give("b")[0]] == ["red/two"]


def test_nonsense_is_no_claim() -> None:
    found = Functions()
    found.compiled("one", granted("a", "blue/one", 1))
    nonsense: Any = [None, 7, {}, {"pciAddress": 5, "grant": "x"}, {"interface": ["a"]}]
    found.claimed("one", {**config("a", "one"), "status": {"functions": nonsense}})
    assert found.give("a") == ([], set())
    other: Any = {"functions": "all"}
    found.claimed("one", {**config("a", "one"), "status": other})
    assert found.give("a") == ([], set())
    assert found.found("a", {"status": {"functions": nonsense}}) == set()
