# SPDX-License-Identifier: Apache-2.0
"""What the compiler says to nodes of the DevicePolicies and Pipelines that select them."""

from typing import Any

import pytest

from headrace_api import (
    DevicePolicy,
    Node,
    NodeState,
    Object,
    Objects,
    Pipeline,
    VirtualNetwork,
)
from headrace_compiler import Allocations, Compiler
from headrace_compiler import compile as compile_all
from headrace_compiler.node_states import NodeStates
from headrace_compiler.outcome import Subject


def node(name: str, **labels: str) -> Node:
    return Node.model_validate({"metadata": {"name": name, "labels": labels}})


def policy(name: str = "e810", created: str = "", generation: int = 1, **spec: Any) -> DevicePolicy:
    metadata = {"name": name, "creationTimestamp": created, "generation": generation}
    wanted = {"nicSelector": {"names": ["ens1f0"]}, "vfs": 8, "nodeSelector": {}, **spec}
    return DevicePolicy.model_validate({"metadata": metadata, "spec": wanted})


def pipeline(name: str = "router", **spec: Any) -> Pipeline:
    wanted = {"underlayPrefixes": ["fd00:1::/48"], "nodeSelector": {}, **spec}
    return Pipeline.model_validate({"metadata": {"name": name}, "spec": wanted})


def compiler(*items: Object, held: tuple[Subject, ...] = ()) -> Compiler:
    found = Compiler()
    for subject in held:
        found.hold(*subject)
    for item in items:
        found.upsert(item)
    return found


def specs(found: Compiler) -> dict[str, dict[str, Any]]:
    states: Any = found.snapshot().node_states
    for name, state in states.items():
        assert NodeState.model_validate(state).metadata.name == name
    return {name: state["spec"] for name, state in states.items()}


def names(found: Compiler, node_name: str, kind: str = "policies", key: str = "name") -> list[str]:
    return [each[key] for each in specs(found)[node_name].get(kind, ())]


def test_every_node_has_one() -> None:
    found = compiler(node("node-a"), node("node.b.example"))
    changes = found.flush()
    assert changes.node_states.keys() == {"node-a", "node.b.example"}
    assert specs(found)["node-a"] == {"nodeName": "node-a"}
    found.delete("Node", "node-a")
    assert found.flush().node_states == {"node-a": None}
    assert specs(found).keys() == {"node.b.example"}


def test_a_policy_is_said_to_the_nodes_that_it_selects() -> None:
    found = compiler(
        node("node-a", net="sriov"),
        node("node-b"),
        policy(nodeSelector={"matchLabels": {"net": "sriov"}}, resourceName="headrace.dev/e810"),
        policy("all"),
        policy("none", nodeSelector=None),
    )
    found.flush()
    assert names(found, "node-a") == ["all", "e810"]
    assert names(found, "node-b") == ["all"]
    assert specs(found)["node-a"]["policies"][1] == {
        "name": "e810",
        "generation": 1,
        "nicSelector": {"names": ["ens1f0"]},
        "vfs": 8,
        "driver": "vfio-pci",
        "resourceName": "headrace.dev/e810",
        "settings": {},
        "externallyManaged": False,
    }


def test_only_what_changed_is_written() -> None:
    found = compiler(
        node("node-a", net="sriov"),
        node("node-b"),
        policy(nodeSelector={"matchLabels": {"net": "sriov"}}),
    )
    found.flush()
    found.upsert(
        policy(nodeSelector={"matchLabels": {"net": "sriov"}}, vfs=16, generation=2),
    )
    assert found.flush().node_states.keys() == {"node-a"}
    found.upsert(node("node-b", net="sriov"))
    assert found.flush().node_states.keys() == {"node-b"}
    assert names(found, "node-b") == ["e810"]
    found.upsert(node("node-b", net="sriov", zone="1"))
    assert found.flush().node_states == {}
    found.delete("DevicePolicy", "e810")
    assert found.flush().node_states.keys() == {"node-a", "node-b"}
    assert names(found, "node-a") == []


def test_a_pipeline_says_how_much_of_the_node_it_wants() -> None:
    function = {"type": "SRIOV", "sriov": {"resourceName": "a.b/uplink"}}
    pool = {"name": "vfs", "type": "SRIOV", "resourceName": "a.b/pool", "count": 8}
    found = compiler(
        node("node-a"),
        node("node-b", size="large"),
        pipeline(
            nodeClassLabel="size",
            nodeClasses=[
                {
                    "value": "large",
                    "workers": {"count": 8, "shareControlCore": True},
                    "hugepages": {"size": "1Gi", "amount": "4Gi"},
                }
            ],
            uplinks=[{"name": "uplink0", "attachment": function, "mtu": 9000}],
            devices=[pool],
        ),
        pipeline("elsewhere", nodeSelector={"matchLabels": {"x": "y"}}),
    )
    found.flush()
    small = {"pipeline": "router", "workers": 1, "shareControlCore": False, "mtu": 9000}
    small |= {"resourceNames": ["a.b/pool", "a.b/uplink"], "vlans": []}
    large = {**small, "workers": 8, "shareControlCore": True}
    large |= {"hugepages": {"size": "1Gi", "amount": "4Gi"}}
    assert specs(found)["node-a"]["dataplanes"] == [small]
    assert specs(found)["node-b"]["dataplanes"] == [large]


def test_the_last_of_too_many_is_left_out_and_says_so() -> None:
    policies = [policy(f"p{number:02}", f"2026-01-01T00:00:{number:02}Z") for number in range(60)]
    policies += [policy(f"a{number}", f"2026-01-01T00:01:0{number}Z") for number in range(5)]
    found = compiler(node("node-a"), *policies)
    changes = found.flush()
    assert len(names(found, "node-a")) == 64
    assert "a4" not in names(found, "node-a")
    (problem,) = found.snapshot().problems
    assert (problem.kind, problem.name, problem.reason) == ("DevicePolicy", "a4", "TooManyOnNode")
    assert "node node-a is selected by more than 64" in problem.message
    assert changes.problems["DevicePolicy", "a4"] == (problem,)
    found.delete("Node", "node-a")
    assert found.flush().problems["DevicePolicy", "a4"] == ()
    found.upsert(node("node-a"))
    found.flush()
    assert found.snapshot().problems == (problem,)
    found.delete("DevicePolicy", "p00")
    assert found.flush().problems["DevicePolicy", "a4"] == ()
    assert "a4" in names(found, "node-a")


def test_a_policy_that_cannot_be_read_goes_on_as_it_was() -> None:
    before = compile_all(Objects((node("node-a"), node("node-b"), policy(), pipeline())))
    held = ("DevicePolicy", "e810"), ("Pipeline", "router")
    found = compiler(node("node-a"), node("node-b"), held=held)
    found.carry(before.configs.values(), before.slices.values(), before.node_states.values())
    found.flush()
    assert found.snapshot().node_states == before.node_states
    found.upsert(policy(vfs=4, generation=2))
    assert found.flush().node_states.keys() == {"node-a", "node-b"}
    assert specs(found)["node-a"]["policies"][0]["vfs"] == 4
    found.delete("Pipeline", "router")
    found.delete("DevicePolicy", "e810")
    found.flush()
    assert specs(found)["node-a"] == {"nodeName": "node-a"}


def test_an_exception_leaves_one_node_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    found = compiler(node("node-a"), node("node-b"), policy())
    found.flush()
    right = NodeStates._state

    def wrong(self: NodeStates, name: str) -> Any:
        if name == "node-a":
            raise RuntimeError("no idea")
        return right(self, name)

    monkeypatch.setattr(NodeStates, "_state", wrong)
    found.upsert(policy(vfs=4))
    changes = found.flush()
    assert changes.node_states.keys() == {"node-b"}
    assert "no idea" in changes.traces["Node", "node-a"]
    monkeypatch.undo()
    assert found.flush().node_states.keys() == {"node-a"}
    assert found.snapshot().problems == ()


def test_allocations_are_none_of_it() -> None:
    network = VirtualNetwork.model_validate(
        {
            "metadata": {"name": "blue", "namespace": "default"},
            "spec": {"subnets": [{"prefix": "10.0.0.0/24"}]},
        }
    )
    items = Objects((node("node-a"), policy(), network))
    first = compile_all(items)
    assert compile_all(items, first.allocations) == first
    assert compile_all(Objects((node("node-a"), policy()))).allocations == Allocations()
