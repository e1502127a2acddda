# SPDX-License-Identifier: Apache-2.0
"""What `headrace compile --diff` makes of the raw objects of a cluster."""

from typing import Any

from headrace_api import Json
from headrace_cli.live import Live, compile_live
from headrace_kube import (
    DATAPLANE_CONFIGS,
    DEVICE_POLICIES,
    INTERFACES,
    NAMESPACES,
    NODE_STATES,
    NODES,
    PIPELINES,
    PODS,
    SLICES,
    UNDERLAY_ENDPOINTS,
    VIRTUAL_NETWORKS,
    Kind,
)
from headrace_operator.settings import Settings

SETTINGS = Settings.model_validate({"dataplane": {"image": "dataplane:1"}})
Held = dict[Kind, list[Json]]


def raw(kind: Kind, name: str, namespace: str = "", **parts: Any) -> Any:
    metadata: Json = {"name": name, "uid": f"uid-{name}", "resourceVersion": "1"}
    if namespace:
        metadata["namespace"] = namespace
    item = {"apiVersion": kind.api_version, "kind": kind.name, "metadata": metadata}
    return {**item, **parts}


def pod(name: str, networks: str, phase: str = "Running") -> Any:
    item = raw(PODS, name, "blue", spec={"nodeName": "node-a"}, status={"phase": phase})
    item["metadata"]["annotations"] = {"headrace.dev/networks": networks}
    return item


def cluster(*pods: Any) -> Held:
    pipeline = {
        "underlayPrefixes": ["fd00:1::/48"],
        "nodeSelector": {},
        "allowedNamespaces": {},
        "devices": [{"name": "pods", "type": "Pod", "namespaceSelector": {}}],
    }
    return {
        VIRTUAL_NETWORKS: [
            raw(VIRTUAL_NETWORKS, name, "blue", spec={"subnets": [{"prefix": "10.0.0.0/24"}]})
            for name in ("one", "two")
        ],
        INTERFACES: [],
        PIPELINES: [raw(PIPELINES, "router", spec=pipeline)],
        NODES: [raw(NODES, "node-a")],
        UNDERLAY_ENDPOINTS: [],
        DEVICE_POLICIES: [],
        NAMESPACES: [raw(NAMESPACES, "blue")],
        PODS: [*pods],
        DATAPLANE_CONFIGS: [],
        SLICES: [],
        NODE_STATES: [],
    }


def look(held: Held) -> Live:
    return compile_live(held, "headrace-system", SETTINGS)


def up_to_date(held: Held) -> Held:
    """As the operator leaves the cluster: with what it makes, and then what that compiles to."""
    made = [
        {**item, "metadata": {**item["metadata"], "uid": f"uid-{number}"}}
        for number, item in enumerate(look(held).made)
        if isinstance(item["metadata"], dict)
    ]
    held = {**held, INTERFACES: [*made]}
    compiled = look(held).documents
    return {
        **held,
        DATAPLANE_CONFIGS: [item for item in compiled if item["kind"] == "DataplaneConfig"],
        SLICES: [item for item in compiled if item["kind"] == "Slice"],
    }


def test_pods_are_no_difference_once_the_operator_has_made_what_they_ask_for() -> None:
    held = up_to_date(cluster(pod("web", "one")))
    spec: Any = held[DATAPLANE_CONFIGS][0]["spec"]
    assert [entry["attachment"]["type"] for entry in spec["interfaces"]] == ["Pod"]
    found = look(held)
    assert found.differences() == []
    assert found.problems == []


def test_what_a_pod_asks_for_and_does_not_have_is_a_difference() -> None:
    found = look(cluster(pod("web", "one"))).differences()
    titles = [line for diff in found for line in diff.splitlines() if line.startswith("+++")]
    assert any(title.startswith("+++ Interface/blue/") for title in titles)
    held = up_to_date(cluster(pod("web", "one")))
    more = look({**held, PODS: [pod("web", "one, two")]}).differences()
    assert any("Interface/blue/" in diff and "name: two" in diff for diff in more)


def test_what_no_pod_asks_for_any_more_is_a_difference() -> None:
    held = up_to_date(cluster(pod("web", "one, two")))
    found = look({**held, PODS: [pod("web", "one")]}).differences()
    removed = [diff for diff in found if diff.startswith("--- Interface/blue/")]
    assert len(removed) == 1
    assert "-  name: two" in removed[0]
    # It has ended: its address is free, and the operator removes what it had.
    found = look({**held, PODS: [pod("web", "one, two", "Succeeded")]}).differences()
    assert len([diff for diff in found if diff.startswith("--- Interface/blue/")]) == 2


def test_a_mistake_in_an_annotation_is_a_problem_and_removes_nothing() -> None:
    held = up_to_date(cluster(pod("web", "one")))
    found = look({**held, PODS: [pod("web", "not a name")]})
    assert found.differences() == []
    assert [(each.kind, each.name, each.reason) for each in found.problems] == [
        ("Pod", "web", "InvalidAnnotation")
    ]


def test_what_has_the_name_and_was_made_by_hand_is_left_alone() -> None:
    held = up_to_date(cluster(pod("web", "one")))
    by_hand: Any = held[INTERFACES][0]
    by_hand["metadata"].pop("labels")
    assert not [diff for diff in look(held).differences() if "Interface/" in diff]


def test_what_nodes_are_told_of_devices_is_looked_at_where_agents_are() -> None:
    held = up_to_date(cluster())
    policy = {"nicSelector": {"names": ["ens1f0"]}, "vfs": 8, "nodeSelector": {}}
    held[DEVICE_POLICIES] = [raw(DEVICE_POLICIES, "e810", spec=policy)]
    assert not look(held).differences()
    with_agents = SETTINGS.model_copy(update={"node_agent": True})
    live = compile_live(held, "headrace-system", with_agents)
    (difference,) = live.differences()
    assert "NodeState/node-a" in difference and "name: e810" in difference
    held[NODE_STATES] = [item for item in live.documents if item["kind"] == NODE_STATES.name]
    assert not compile_live(held, "headrace-system", with_agents).differences()
    # The agents are gone, and so these are to be.
    assert len(look(held).differences()) == 1
