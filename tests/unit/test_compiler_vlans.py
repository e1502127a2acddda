# SPDX-License-Identifier: Apache-2.0
"""VLANs of functions: each is one network's, and every function in one has a grant of its own."""

from typing import Any

import pytest

from headrace_api import FEATURES, VLANS_OF_FUNCTIONS, Interface, Json, Node, Object, Pipeline
from headrace_api.virtual_network import VirtualNetwork
from headrace_compiler import Allocations, Changes, Compiler
from headrace_operator.render import load_allocations

CX6 = "headrace.dev/cx6"


def pool(name: str = "vfs", selector: Any = None, **more: Any) -> Json:
    entry: Json = {"name": name, "type": "SRIOV", "resourceName": CX6, "count": 4, **more}
    return {**entry, "namespaceSelector": {} if selector is None else selector}


def of(namespace: str) -> Json:
    return {"matchLabels": {"kubernetes.io/metadata.name": namespace}}


def pipeline(*devices: Json, name: str = "router") -> Pipeline:
    spec: Json = {"underlayPrefixes": ["fd00:1::/48"], "nodeSelector": {}, "allowedNamespaces": {}}
    metadata: Json = {"name": name}
    return Pipeline.model_validate({"metadata": metadata, "spec": {**spec, "devices": [*devices]}})


def vm(
    key: str,
    vlan: int | None = None,
    network: str = "net",
    node: str = "node-a",
    created: str = "",
    router: str = "router",
) -> Interface:
    namespace, _, name = key.partition("/")
    sriov: Json = {"resourceName": CX6} if vlan is None else {"resourceName": CX6, "vlan": vlan}
    spec: Json = {
        "networkRef": {"name": network},
        "pipelineRef": {"name": router},
        "nodeName": node,
        "attachment": {"type": "SRIOV", "sriov": sriov},
    }
    metadata: Json = {"name": name, "namespace": namespace, "creationTimestamp": created}
    return Interface.model_validate({"metadata": metadata, "spec": spec})


def world(*items: Object, compiler: Compiler | None = None) -> Compiler:
    found = compiler or Compiler()
    for name in ("node-a", "node-b"):
        found.upsert(Node.model_validate({"metadata": {"name": name}}))
    for namespace, name in (("blue", "net"), ("blue", "other"), ("red", "net")):
        metadata: Json = {"name": name, "namespace": namespace}
        spec: Json = {"subnets": [{"prefix": "10.0.0.0/24"}]}
        found.upsert(VirtualNetwork.model_validate({"metadata": metadata, "spec": spec}))
    for item in items:
        found.upsert(item)
    return found


def compiled(compiler: Compiler) -> dict[str, Any]:
    configs: dict[str, Any] = dict(compiler.snapshot().configs)
    return {
        f"{item['namespace']}/{item['name']}": item
        for config in configs.values()
        for item in config["spec"]["interfaces"]
    }


def vlans(compiler: Compiler) -> dict[str, int | None]:
    return {k: i["attachment"]["sriov"].get("vlan") for k, i in compiled(compiler).items()}


def grants(compiler: Compiler) -> dict[str, int | None]:
    return {key: item.get("grant") for key, item in compiled(compiler).items()}


def reasons(changes: Changes, key: str) -> list[tuple[str, str]]:
    found = changes.problems.get(("Interface", key), ())
    return [(problem.reason, problem.field) for problem in found]


TAGGED = pool(vlans=["100", "200-299"])


def test_an_interface_is_in_the_vlan_that_it_names() -> None:
    compiler = world(pipeline(TAGGED), vm("blue/a", 100), vm("blue/b", 299))
    compiler.flush(5)
    assert vlans(compiler) == {"blue/a": 100, "blue/b": 299}
    assert grants(compiler) == {"blue/a": 5, "blue/b": 6}


@pytest.mark.parametrize(
    ("entry", "vlan", "says"),
    [
        (TAGGED, None, "has them in VLANs alone: name one of 100, 200-299"),
        (TAGGED, 101, "VLAN 101 is none of entry vfs of Pipeline router"),
        (TAGGED, 300, "VLAN 300 is none of entry vfs"),
        (pool(), 100, "has no VLANs: leave vlan out"),
    ],
)
def test_a_vlan_that_its_entry_has_not_is_not_allowed(
    entry: Json, vlan: int | None, says: str
) -> None:
    compiler = world(pipeline(entry), vm("blue/a", vlan))
    changes = compiler.flush()
    assert reasons(changes, "blue/a") == [("DeviceNotAllowed", "spec.attachment.sriov.vlan")]
    assert says in changes.problems["Interface", "blue/a"][0].message
    assert vlans(compiler) == {}


def test_each_namespace_has_the_vlans_of_its_own_entry() -> None:
    entries = pool("blue", of("blue"), vlans=["100"]), pool("red", of("red"), vlans=["200"])
    compiler = world(pipeline(*entries), vm("blue/a", 200), vm("red/a", 200))
    changes = compiler.flush()
    assert reasons(changes, "blue/a") == [("DeviceNotAllowed", "spec.attachment.sriov.vlan")]
    assert "200" not in changes.problems["Interface", "blue/a"][0].message.split("name one of")[1]
    assert vlans(compiler) == {"red/a": 200}


def test_interfaces_of_one_network_share_its_vlan_on_all_nodes() -> None:
    compiler = world(pipeline(TAGGED), vm("blue/a", 100), vm("blue/b", 100, node="node-b"))
    assert not compiler.flush().problems["Interface", "blue/b"]
    assert vlans(compiler) == {"blue/a": 100, "blue/b": 100}


def test_another_networks_waits_and_hears_nothing_of_other_namespaces() -> None:
    compiler = world(pipeline(TAGGED), vm("blue/a", 100), vm("blue/b", 100, node="node-b"))
    compiler.flush()
    compiler.upsert(vm("red/a", 100, node="node-b"))
    compiler.upsert(vm("blue/c", 100, "other"))
    changes = compiler.flush()
    for key in ("red/a", "blue/c"):
        assert reasons(changes, key) == [("VLANConflict", "spec.attachment.sriov.vlan")]
    (red,), (blue,) = (changes.problems["Interface", key] for key in ("red/a", "blue/c"))
    assert "blue" not in red.message and "network of another namespace" in red.message
    assert "network blue/net" in blue.message

    # As long as one is in it.
    compiler.delete("Interface", "blue/a")
    changes = compiler.flush()
    assert set(vlans(compiler)) == {"blue/b"}
    compiler.delete("Interface", "blue/b")
    changes = compiler.flush()
    # One of both, and the other waits on: neither is older.
    assert vlans(compiler) == {"blue/c": 100}
    assert reasons(changes, "red/a") == [("VLANConflict", "spec.attachment.sriov.vlan")]
    compiler.upsert(vm("blue/c", 200, "other"))
    compiler.flush()
    assert vlans(compiler) == {"blue/c": 200, "red/a": 100}


def test_the_oldest_wins() -> None:
    compiler = world(
        pipeline(TAGGED),
        vm("blue/a", 100, created="2026-01-02T00:00:00Z"),
        vm("red/a", 100, created="2026-01-01T00:00:00Z"),
    )
    compiler.flush()
    assert vlans(compiler) == {"red/a": 100}


def test_a_vlan_is_of_a_pipeline() -> None:
    other = pipeline(TAGGED, name="second")
    found = world(pipeline(TAGGED), other, vm("blue/a", 100), vm("red/a", 100, router="second"))
    found.flush()
    assert vlans(found) == {"blue/a": 100, "red/a": 100}


def test_what_takes_a_vlan_away_takes_the_interface_away() -> None:
    compiler = world(pipeline(TAGGED), vm("blue/a", 100, created="2021-01-01T00:00:00Z"))
    compiler.flush()
    compiler.upsert(pipeline(pool(vlans=["200-299"])))
    changes = compiler.flush()
    assert reasons(changes, "blue/a") == [("DeviceNotAllowed", "spec.attachment.sriov.vlan")]
    assert vlans(compiler) == {}
    compiler.upsert(pipeline(TAGGED))
    compiler.upsert(vm("red/a", 100, created="2020-01-01T00:00:00Z"))
    compiler.flush()
    assert vlans(compiler) == {"red/a": 100}


def test_a_grant_is_another_each_time() -> None:
    compiler = world(pipeline(TAGGED), vm("blue/a", 100))
    seen = []
    for vlan in (100, 200, 100):
        compiler.upsert(vm("blue/a", vlan))
        compiler.flush(7)
        seen.append(grants(compiler)["blue/a"])
    assert seen == [7, 8, 9]
    # Of the same function in the same VLAN it stays.
    compiler.upsert(vm("blue/b", 200))
    compiler.flush(8)
    assert grants(compiler) == {"blue/a": 9, "blue/b": 10}
    # Gone and back between two compilations, it is of another network.
    compiler.delete("Interface", "blue/b")
    compiler.upsert(vm("blue/b", 200, "other"))
    compiler.flush(9)
    assert grants(compiler)["blue/b"] == 11


def test_beside_vlans_untagged_functions_have_grants_too() -> None:
    entries = pool("blue", of("blue"), vlans=["100"]), pool("others")
    compiler = world(pipeline(*entries), vm("red/a"))
    compiler.flush(5)
    assert (vlans(compiler), grants(compiler)) == ({"red/a": None}, {"red/a": 5})
    alone = world(pipeline(pool()), vm("red/a"))
    alone.flush(5)
    assert grants(alone) == {"red/a": None}


def test_a_restart_moves_nothing() -> None:
    items = pipeline(TAGGED), vm("blue/a", 100), vm("blue/b", 200)
    compiler = world(*items)
    compiler.flush(5)
    before = compiler.snapshot()
    # Older than who has it.
    late = vm("red/a", 100, created="2020-01-01T00:00:00Z"), vm("blue/c", 201)
    told = Allocations.model_validate_json(compiler.allocations().model_dump_json())
    read = load_allocations([], [], [], before.configs.values(), [])
    for held in (told, read):
        again = world(*items, *late, compiler=Compiler(held))
        changes = again.flush(0)
        assert {key: vlans(again)[key] for key in ("blue/a", "blue/b")} == {
            "blue/a": 100,
            "blue/b": 200,
        }
        assert reasons(changes, "red/a") == [("VLANConflict", "spec.attachment.sriov.vlan")]
        # None that was given is given again, whatever the clock says.
        assert grants(again) == {"blue/a": 5, "blue/b": 6, "blue/c": 7}


def test_what_is_read_back_twice_is_the_first_networks() -> None:
    compiler = world(pipeline(TAGGED), vm("blue/a", 100), vm("red/a", 200))
    compiler.flush(5)
    configs: Any = [*compiler.snapshot().configs.values()]
    for config in configs:
        for item in config["spec"]["interfaces"]:
            item["attachment"] = {"type": "SRIOV", "sriov": {"resourceName": CX6, "vlan": 100}}
    held = load_allocations([], [], [], configs, []).interfaces
    assert {key: (each.vlan, each.grant) for key, each in held.items()} == {
        "blue/a": (100, 5),
        "red/a": (None, None),
    }


def test_an_agent_that_knows_no_vlans_is_sent_none() -> None:
    compiler = world(pipeline(TAGGED), vm("blue/a", 100))
    compiler.flush()
    old = [feature for feature in FEATURES if feature != VLANS_OF_FUNCTIONS]
    assert compiler.agent("router", "node-a", old)
    changes = compiler.flush()
    assert reasons(changes, "blue/a") == [("AgentTooOld", "spec.attachment.sriov")]
    assert vlans(compiler) == {}
    assert compiler.agent("router", "node-a", FEATURES)
    compiler.flush()
    assert vlans(compiler) == {"blue/a": 100}
