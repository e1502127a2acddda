# SPDX-License-Identifier: Apache-2.0
"""Endpoints on a node: what of them is compiled for it, and what is refused."""

from typing import Any

import pytest
from pydantic import ValidationError

from headrace_api import FEATURES, VLANS_OF_FUNCTIONS, Interface, Json, Pipeline, Pod
from headrace_compiler import Allocations, Compiler
from headrace_operator.render import load_allocations
from tests.unit.test_compiler_vlans import (
    CX6,
    compiled,
    grants,
    of,
    pipeline,
    pool,
    reasons,
    vlans,
    vm,
    world,
)

ENTRY = pool(count=8, vlans=["100"], endpointVLANs=["3000", "3500-3501"])
FIELD = "spec.attachment.sriov.endpoint"


def endpoint(key: str, pod: str | None = None, network: str = "net", **more: Any) -> Interface:
    """An Interface of a pod's function, or of one for a virtual machine on node-a."""
    namespace, _, name = key.partition("/")
    behind: Json = {"type": "VM"} if pod is None else {"type": "Pod", "pod": {"name": pod}}
    spec: Json = {
        "networkRef": {"name": network},
        "pipelineRef": {"name": more.pop("router", "router")},
        "attachment": {
            "type": "SRIOV",
            "sriov": {"resourceName": more.pop("resource", CX6), "endpoint": behind},
        },
    }
    node = more.pop("node", "node-a")
    if pod is None:
        spec["nodeName"] = node
    if mac := more.pop("mac", None):
        spec["macAddress"] = mac
    metadata: Json = {"name": name, "namespace": namespace, "creationTimestamp": ""}
    return Interface.model_validate({"metadata": {**metadata, **more}, "spec": spec})


def a_pod(key: str, node: str | None = "node-a", phase: str = "Running") -> Pod:
    namespace, _, name = key.partition("/")
    spec: Json = {} if node is None else {"nodeName": node}
    metadata: Json = {"name": name, "namespace": namespace}
    return Pod.model_validate({"metadata": metadata, "spec": spec, "status": {"phase": phase}})


def among(compiler: Compiler) -> dict[str, list[str]]:
    """VLANs of which each Interface's functions are in one."""
    return {key: each["endpointVLANs"] for key, each in compiled(compiler).items()}


def test_its_node_hears_the_vlans_of_its_entry_and_a_grant() -> None:
    compiler = world(pipeline(ENTRY), endpoint("blue/a"), endpoint("red/b", node="node-b"))
    compiler.flush(5)
    assert among(compiler) == {key: ["3000", "3500-3501"] for key in ("blue/a", "red/b")}
    assert grants(compiler) == {"blue/a": 5, "red/b": 6}
    assert vlans(compiler) == {"blue/a": None, "red/b": None}


def test_each_namespace_has_those_of_its_own_entry() -> None:
    entries = pool("a", of("blue"), endpointVLANs=["3000"]), pool("b", endpointVLANs=["3001"])
    compiler = world(pipeline(*entries), endpoint("blue/a"), endpoint("red/b"))
    compiler.flush()
    assert among(compiler) == {"blue/a": ["3000"], "red/b": ["3001"]}


def test_its_node_hears_which_vlans_are_the_fabrics() -> None:
    compiler = world(
        pipeline(ENTRY, pool("b", vlans=["200-299", "100"])),
        pipeline(pool(vlans=["300"]), name="second"),
    )
    compiler.flush()
    spec: Any = compiler.snapshot().node_states["node-a"]["spec"]
    assert [each["vlans"] for each in spec["dataplanes"]] == [["100", "200-299"], ["300"]]


def test_in_one_pipeline_they_are_apart() -> None:
    with pytest.raises(ValidationError, match="VLAN 3000 is one of the fabric by vlans of entry a"):
        pipeline(pool("a", vlans=["2999-3000"]), pool("b", endpointVLANs=["3000"]))


@pytest.mark.parametrize(
    ("entry", "wanted", "field", "says"),
    [
        (pool(), endpoint("blue/a"), FIELD, "on the wire alone: leave endpoint out"),
        (pool(vlans=["100"]), endpoint("blue/a"), FIELD, "on the wire alone"),
        (pool(endpointVLANs=["3000"]), vm("blue/a"), "spec.attachment.sriov.vlan", "name the"),
        (ENTRY, vm("blue/a"), "spec.attachment.sriov.vlan", "name one of 100"),
        (ENTRY, vm("blue/a", 3000), "spec.attachment.sriov.vlan", "VLAN 3000 is none of entry"),
    ],
)
def test_an_entry_allows_what_it_has_vlans_for(
    entry: Json, wanted: Interface, field: str, says: str
) -> None:
    compiler = world(pipeline(entry), wanted)
    changes = compiler.flush()
    assert reasons(changes, "blue/a") == [("DeviceNotAllowed", field)]
    assert says in changes.problems["Interface", "blue/a"][0].message


def test_a_pods_is_where_the_pod_is() -> None:
    compiler = world(pipeline(ENTRY), endpoint("blue/a", "web-0"))
    field = f"{FIELD}.pod.name"
    assert reasons(compiler.flush(), "blue/a") == [("PodNotFound", field)]
    # Another namespace's pod of that name is none of its own.
    compiler.upsert(a_pod("red/web-0"))
    compiler.upsert(a_pod("blue/web-0", None))
    assert reasons(compiler.flush(), "blue/a") == [("PodNotScheduled", field)]
    compiler.upsert(a_pod("blue/web-0", "node-b"))
    compiler.flush()
    specs: list[Any] = [each["spec"] for each in compiler.snapshot().configs.values()]
    assert [each["nodeName"] for each in specs if each["interfaces"]] == ["node-b"]
    assert compiled(compiler)["blue/a"]["attachment"]["sriov"]["endpoint"]["pod"]["name"] == "web-0"
    compiler.upsert(a_pod("blue/web-0", "node-b", "Succeeded"))
    assert reasons(compiler.flush(), "blue/a") == [("PodCompleted", field)]
    assert vlans(compiler) == {}


def test_what_changes_of_it_is_another_grant() -> None:
    compiler = world(pipeline(ENTRY), a_pod("blue/x"), a_pod("blue/y"), endpoint("blue/a", "x"))
    seen = []
    for wanted in (
        endpoint("blue/a", "x"),
        endpoint("blue/a", "y"),
        endpoint("blue/a", "y", mac="02:00:00:00:00:01"),
        endpoint("blue/a"),
        endpoint("blue/a", network="other"),
        vm("blue/a", 100),
        endpoint("blue/a"),
    ):
        compiler.upsert(wanted)
        compiler.flush(7)
        compiler.flush(7)
        seen.append(grants(compiler)["blue/a"])
    assert seen == [*range(7, 14)]
    compiler.upsert(pipeline(pool(endpointVLANs=["3600"])))
    compiler.flush(7)
    assert (grants(compiler), among(compiler)) == ({"blue/a": 14}, {"blue/a": ["3600"]})
    # Nothing of it changes while its Pipeline is gone, or another Interface comes.
    there = pipeline(pool(endpointVLANs=["3600"]))
    compiler.delete("Pipeline", "router")
    compiler.flush(7)
    compiler.upsert(there)
    compiler.upsert(endpoint("blue/b"))
    compiler.flush(7)
    assert grants(compiler) == {"blue/a": 14, "blue/b": 15}


def test_a_restart_changes_nothing() -> None:
    items = (
        pipeline(ENTRY),
        a_pod("blue/x"),
        endpoint("blue/a", "x", mac="02:00:00:00:00:01"),
        endpoint("blue/b"),
    )
    compiler = world(*items)
    compiler.flush(5)
    before = compiler.snapshot()
    told = Allocations.model_validate_json(compiler.allocations().model_dump_json())
    sriov: Json = {"endpoint": {"type": "Pod", "pod": {"name": "x"}}}
    named: Json = {
        "metadata": {"namespace": "blue", "name": "a"},
        "spec": {"pipelineRef": {"name": "router"}, "attachment": {"sriov": sriov}},
    }
    pod: Json = {"metadata": {"namespace": "blue", "name": "x"}, "spec": {"nodeName": "node-a"}}
    read = load_allocations([], [named], [], before.configs.values(), [], [pod])
    for held in (told, read):
        again = world(*items, compiler=Compiler(held))
        again.flush(9)
        assert again.snapshot().configs == before.configs


def test_an_agent_that_knows_no_vlans_is_sent_none() -> None:
    compiler = world(pipeline(pool(endpointVLANs=["3000"])), endpoint("blue/a"))
    compiler.flush()
    compiler.agent("router", "node-a", [each for each in FEATURES if each != VLANS_OF_FUNCTIONS])
    assert reasons(compiler.flush(), "blue/a") == [("AgentTooOld", "spec.attachment.sriov")]


@pytest.mark.parametrize(
    ("sriov", "more", "says"),
    [
        ({"endpoint": {"type": "VM"}}, {}, "exactly one of pciAddress and resourceName"),
        (
            {"pciAddress": "0000:01:10.0", "endpoint": {"type": "VM"}},
            {},
            "not allowed without resourceName",
        ),
        (
            {"resourceName": CX6, "endpoint": {"type": "VM"}, "vlan": 5},
            {},
            "not allowed with endpoint",
        ),
        (
            {"resourceName": CX6, "endpoint": {"type": "VM"}},
            {"nodeName": None},
            "required, but not given",
        ),
        (
            {"resourceName": CX6, "endpoint": {"type": "Pod", "pod": {"name": "x"}}},
            {},
            "must be left out where the attachment names a pod",
        ),
        ({"resourceName": CX6, "endpoint": {"type": "Pod"}}, {}, "required when type is Pod"),
        (
            {"resourceName": CX6, "endpoint": {"type": "VM", "pod": {"name": "x"}}},
            {},
            "not allowed when type is VM",
        ),
    ],
)
def test_nonsense_is_refused(sriov: Json, more: Json, says: str) -> None:
    spec: Json = {
        "networkRef": {"name": "net"},
        "pipelineRef": {"name": "router"},
        "nodeName": "node-a",
        "attachment": {"type": "SRIOV", "sriov": sriov},
        **more,
    }
    with pytest.raises(ValidationError, match=says):
        Interface.model_validate({"metadata": {"name": "a", "namespace": "blue"}, "spec": spec})


def test_behind_an_uplink_is_the_wire() -> None:
    sriov: Json = {"resourceName": CX6, "endpoint": {"type": "VM"}}
    uplink: Json = {"name": "u", "attachment": {"type": "SRIOV", "sriov": sriov}}
    spec: Json = {"underlayPrefixes": ["fd00:1::/48"], "uplinks": [uplink]}
    with pytest.raises(ValidationError, match="behind an uplink is the wire"):
        Pipeline.model_validate({"metadata": {"name": "router"}, "spec": spec})
