# SPDX-License-Identifier: Apache-2.0
"""What the compiler does with one case each."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from headrace_api import (
    DSCP_OF_NETWORKS,
    FEATURES,
    Interface,
    Namespace,
    Node,
    Object,
    Objects,
    Pipeline,
    Pod,
    RouteSlice,
    UnderlayEndpoint,
    VirtualNetwork,
    canonical_json,
    config_name,
    digest,
    pod_mac,
)
from headrace_compiler import Allocations, Changes, Compilation, Compiler
from headrace_compiler import compile as compile_all
from headrace_compiler import interface as compiler_interface
from headrace_compiler.addresses import host_part, identity, underlay_address
from headrace_compiler.claims import Owner
from headrace_compiler.interface import Interfaces

DEVICES: list[dict[str, Any]] = [
    {"name": "taps", "type": "Tap", "deviceNames": ["*"], "namespaceSelector": {}},
    {"name": "netdevs", "type": "AFPacket", "deviceNames": ["*"], "namespaceSelector": {}},
    {"name": "functions", "type": "SRIOV", "pciAddresses": ["*"], "namespaceSelector": {}},
    {"name": "captures", "type": "Pcap", "directory": "/srv/captures", "namespaceSelector": {}},
    *(
        {"name": kind.lower(), "type": kind, "namespaceSelector": {}}
        for kind in ("Pod", "Memif", "VhostUser")
    ),
]
"""An entry for everything."""


def network(name: str = "blue", **spec: Any) -> VirtualNetwork:
    spec = {"subnets": [{"prefix": "10.0.0.0/24"}, {"prefix": "2001:db8::/64"}], **spec}
    return VirtualNetwork.model_validate(
        {"metadata": {"name": name, "namespace": "default"}, "spec": spec}
    )


def interface(
    name: str = "vm1", *, created: str = "", device: str | None = None, **spec: Any
) -> Interface:
    tap = {"type": "Tap", "tap": {"deviceName": device or f"tap-{name}"}}
    spec = {
        "networkRef": {"name": "blue"},
        "pipelineRef": {"name": "router"},
        "nodeName": "node-a",
        "attachment": tap,
        **spec,
    }
    metadata = {"name": name, "namespace": "default", "creationTimestamp": created}
    return Interface.model_validate({"metadata": metadata, "spec": spec})


def pipeline(name: str = "router", **spec: Any) -> Pipeline:
    uplink = {"type": "AFPacket", "afPacket": {"deviceName": "eth1"}}
    spec = {
        "underlayPrefixes": ["fd00:1::/48"],
        "nodeSelector": {},
        "uplinks": [{"name": "uplink0", "attachment": uplink}],
        "allowedNamespaces": {},
        "devices": DEVICES,
        **spec,
    }
    return Pipeline.model_validate({"metadata": {"name": name}, "spec": spec})


def node(name: str, **labels: str) -> Node:
    return Node.model_validate({"metadata": {"name": name, "labels": labels}})


def run(
    *interfaces: Interface,
    networks: tuple[VirtualNetwork, ...] = (),
    pipelines: tuple[Pipeline, ...] = (),
    endpoints: tuple[UnderlayEndpoint, ...] = (),
    allocations: Allocations | None = None,
) -> Compilation:
    nodes = (node("node-a"), node("node-b"))
    others = (*(networks or (network(),)), *(pipelines or (pipeline(),)), *endpoints)
    return compile_all(Objects((*nodes, *others, *interfaces)), allocations or Allocations())


def specs(result: Compilation) -> dict[str, dict[str, Any]]:
    found: Any = result.configs
    return {name: config["spec"] for name, config in found.items()}


def routes(
    result: Compilation, name: str = "default.blue.0"
) -> dict[str, list[tuple[str | None, int]]]:
    spec = RouteSlice.model_validate(result.slices[name]).spec
    return {
        route.prefix: [
            (hop.underlay_address or hop.network, hop.weight) for hop in route.next_hops or ()
        ]
        for route in spec.entries
    }


def underlay(name: str, prefix: str, vni: int, uid: str = "", attempt: int = 0) -> str:
    """Address of an Interface: its node's /64, the VNI, and who it is."""
    host = host_part(vni, identity(f"default/{name}", uid, attempt))
    return underlay_address(prefix, host)


NODE_A, NODE_B = "fd00:1:0:1::/64", "fd00:1:0:2::/64"
VM1, VM2 = (underlay(name, NODE_A, 1) for name in ("vm1", "vm2"))


def test_one_interface_gets_all_that_it_needs() -> None:
    result = run(interface())
    assert result.problems == ()
    assert sorted(result.configs) == ["router.node-a", "router.node-b"]
    spec = specs(result)["router.node-a"]
    assert spec == {
        "pipelineName": "router",
        "nodeName": "node-a",
        "workers": {
            "count": 1,
            "idlePolicy": "Adaptive",
            "shareControlCore": False,
            "burst": 64,
        },
        "underlayPrefix": "fd00:1:0:1::/64",
        "underlayAddress": "fd00:1:0:1::1",
        "pipelinePrefixes": ["fd00:1::/48"],
        "underlaySourceCheck": "Enabled",
        "uplinks": [
            {
                "name": "uplink0",
                "attachment": {"type": "AFPacket", "afPacket": {"deviceName": "eth1"}},
                "mtu": 1500,
                "addresses": ["fd00:1:0:1::1"],
                "onLinkPrefixes": ["fd00:1::/48"],
            }
        ],
        "networks": [
            {
                "namespace": "default",
                "name": "blue",
                "vni": 1,
                "mtu": 1460,
                "gateways": ["10.0.0.1", "2001:db8::1"],
                "subnets": ["10.0.0.0/24", "2001:db8::/64"],
                "routeSlices": ["default.blue.0"],
            }
        ],
        "interfaces": [
            {
                "namespace": "default",
                "name": "vm1",
                "network": "default/blue",
                "vni": 1,
                "attachment": {"type": "Tap", "tap": {"deviceName": "tap-vm1"}},
                "addresses": ["10.0.0.2", "2001:db8::2"],
                "prefixes": [],
                "gateways": ["10.0.0.1", "2001:db8::1"],
                "underlayAddress": VM1,
                "sourceCheck": "Enabled",
                "mtu": 1460,
            }
        ],
    }
    assert specs(result)["router.node-b"]["underlayPrefix"] == "fd00:1:0:2::/64"
    assert RouteSlice.model_validate(result.slices["default.blue.0"]).metadata.labels == {
        "headrace.dev/network-namespace": "default",
        "headrace.dev/network": "blue",
        "headrace.dev/vni": "1",
    }
    assert routes(result) == {
        "10.0.0.2/32": [(VM1, 1)],
        "2001:db8::2/128": [(VM1, 1)],
    }


Case = tuple[str, str, Callable[[], Compilation]]


CASES: list[Case] = [
    ("NetworkNotFound", "spec.networkRef.name", lambda: run(interface(networkRef={"name": "x"}))),
    (
        "PipelineNotFound",
        "spec.pipelineRef.name",
        lambda: run(interface(pipelineRef={"name": "x"})),
    ),
    ("NodeNotFound", "spec.nodeName", lambda: run(interface(nodeName="x"))),
    (
        "NodeNotSelected",
        "spec.nodeName",
        lambda: run(
            interface(), pipelines=(pipeline(nodeSelector={"matchLabels": {"zone": "1"}}),)
        ),
    ),
    (
        "AttachmentUnsupported",
        "spec.attachment.type",
        lambda: run(
            interface(attachment={"type": "AFXDP", "afXDP": {"deviceName": "eth9"}}),
            pipelines=(
                pipeline(
                    devices=[
                        {
                            "name": "x",
                            "type": "AFXDP",
                            "deviceNames": ["*"],
                            "namespaceSelector": {},
                        }
                    ]
                ),
            ),
        ),
    ),
    (
        "DeviceNotAllowed",
        "spec.attachment.sriov.resourceName",
        lambda: run(interface(attachment={"type": "SRIOV", "sriov": {"resourceName": "a/b"}})),
    ),
    (
        "DeviceNotAllowed",
        "spec.attachment.type",
        lambda: run(interface(), pipelines=(pipeline(devices=DEVICES[1:]),)),
    ),
    (
        "NamespaceNotAllowed",
        "spec.pipelineRef.name",
        lambda: run(interface(), pipelines=(pipeline(allowedNamespaces=None),)),
    ),
    (
        "AddressOutsideSubnets",
        "spec.addresses[1]",
        lambda: run(interface(addresses=["10.0.0.9", "192.0.2.1"])),
    ),
    ("AddressIsGateway", "spec.addresses[0]", lambda: run(interface(addresses=["10.0.0.1"]))),
    ("AddressReserved", "spec.addresses[0]", lambda: run(interface(addresses=["10.0.0.255"]))),
    (
        "AddressConflict",
        "spec.addresses[0]",
        lambda: run(
            interface(addresses=["10.0.0.9"], created="2026-01-02T00:00:00Z"),
            interface("vm2", addresses=["10.0.0.9"], created="2026-01-01T00:00:00Z"),
        ),
    ),
    (
        "DeviceConflict",
        "spec.attachment",
        lambda: run(
            interface(device="tap0", created="2026-01-02T00:00:00Z"),
            interface("vm2", device="tap0", created="2026-01-01T00:00:00Z"),
        ),
    ),
    (
        "DeviceConflict",
        "spec.attachment",
        lambda: run(interface(attachment={"type": "AFPacket", "afPacket": {"deviceName": "eth1"}})),
    ),
    (
        "SubnetExhausted",
        "spec.addresses",
        lambda: run(
            interface(created="2026-01-02T00:00:00Z"),
            interface("vm2", created="2026-01-01T00:00:00Z"),
            networks=(network(subnets=[{"prefix": "10.0.0.0/30"}]),),
        ),
    ),
    (
        "MtuTooLarge",
        "spec.networkRef.name",
        lambda: run(interface(), networks=(network(mtu=1500),)),
    ),
    ("MtuTooLarge", "spec.mtu", lambda: run(interface(mtu=1500))),
]


@pytest.mark.parametrize(("reason", "field", "result"), CASES)
def test_a_conflict_excludes_one_interface_and_says_why(
    reason: str, field: str, result: Callable[[], Compilation]
) -> None:
    compilation = result()
    assert [(found.reason, found.field) for found in compilation.problems] == [(reason, field)]
    found = compilation.problems[0]
    assert (found.kind, found.namespace, found.name) == ("Interface", "default", "vm1")
    names = [item["name"] for spec in specs(compilation).values() for item in spec["interfaces"]]
    assert "vm1" not in names


def test_a_taken_vni_excludes_the_later_network_and_its_interfaces() -> None:
    result = run(
        interface(),
        interface("vm2", networkRef={"name": "green"}),
        networks=(network("blue", vni=7), network("green", vni=7)),
    )
    assert [(found.kind, found.name, found.reason) for found in result.problems] == [
        ("Interface", "vm2", "NetworkNotReady"),
        ("VirtualNetwork", "green", "VniConflict"),
    ]
    assert "VirtualNetwork default/blue" in result.problems[1].message


def test_given_values_win_over_later_allocations() -> None:
    result = run(
        interface("vm1"),
        interface("vm2", addresses=["10.0.0.2"]),
        networks=(network("blue"), network("red", vni=1)),
    )
    assert result.problems == ()
    assert result.allocations.interfaces["default/vm1"].addresses == ("10.0.0.3", "2001:db8::2")
    assert result.allocations.networks["default/blue"].vni == 2


def test_networks_may_use_the_same_addresses() -> None:
    result = run(
        interface(addresses=["10.0.0.9"]),
        interface("vm2", addresses=["10.0.0.9"], networkRef={"name": "green"}),
        networks=(network("blue"), network("green")),
    )
    assert result.problems == ()
    assert routes(result) == {"10.0.0.9/32": [(VM1, 1)]}
    green = underlay("vm2", NODE_A, 2)
    assert routes(result, "default.green.0") == {"10.0.0.9/32": [(green, 1)]}


def test_pipelines_with_one_underlay_prefix_share_no_node_prefix() -> None:
    result = run(pipelines=(pipeline("one", uplinks=[]), pipeline("two", uplinks=[])))
    prefixes = [spec["underlayPrefix"] for spec in specs(result).values()]
    assert sorted(prefixes) == [f"fd00:1:0:{number}::/64" for number in (1, 2, 3, 4)]


def test_a_node_change_takes_a_new_underlay_address() -> None:
    first = run(interface("vm1"), interface("vm2"))
    second = run(
        interface("vm1", nodeName="node-b"), interface("vm2"), allocations=first.allocations
    )
    before, moved = (found.allocations.interfaces["default/vm1"] for found in (first, second))
    assert before.underlay_address == VM1
    assert moved.underlay_address == underlay("vm1", NODE_B, 1)
    assert moved.addresses == before.addresses


def test_an_underlay_address_is_never_another_interfaces() -> None:
    first = run(interface("vm1"))
    second = run(interface("vm2"), allocations=first.allocations)
    assert second.allocations.interfaces["default/vm2"].underlay_address != VM1
    # An Interface of the same name made anew is another one.
    metadata = {"name": "vm1", "namespace": "default", "uid": "b1a2"}
    again = Interface.model_validate({"metadata": metadata, "spec": interface().spec.to_dict()})
    third = run(again, allocations=second.allocations)
    address = third.allocations.interfaces["default/vm1"].underlay_address
    assert address == underlay("vm1", NODE_A, 1, "b1a2")


def test_two_interfaces_of_one_identity_get_two_addresses() -> None:
    held = {
        "network": "default/blue",
        "pipeline": "router",
        "node": "node-a",
        "underlay_address": VM1,
        "addresses": ["10.0.0.9"],
    }
    allocations = Allocations.model_validate(
        {
            "networks": {"default/blue": {"vni": 1, "slices": {}}},
            "nodes": {"router": {"node-a": {"underlay_prefix": NODE_A}}},
            "interfaces": {"default/vm2": held},
        }
    )
    found = run(interface("vm1"), interface("vm2"), allocations=allocations).allocations.interfaces
    assert found["default/vm2"].underlay_address == VM1
    assert found["default/vm1"].underlay_address == underlay("vm1", NODE_A, 1, attempt=1)


def test_a_vni_rests_before_another_network_gets_it() -> None:
    compiler = _compiler(network("blue"))
    compiler.delete("VirtualNetwork", "default/blue")
    compiler.upsert(network("red"))
    compiler.upsert(network("thief", vni=1))
    changes = compiler.flush(now=1000)
    assert changes.vnis == {"default/blue": None, "default/red": 2}
    (problem,) = changes.problems["VirtualNetwork", "default/thief"]
    assert problem.reason == "VniConflict"
    assert "was VirtualNetwork default/blue's until 00:16:40 UTC" in problem.message
    compiler = Compiler(compiler.allocations())
    red, thief = network("red"), network("thief", vni=1)
    for item in (pipeline(), node("node-a"), node("node-b"), red, thief):
        compiler.upsert(item)
    compiler.free(before=1000)
    assert compiler.flush(now=4600).problems["VirtualNetwork", "default/thief"]
    compiler.free(before=1001)
    assert compiler.flush(now=4601).vnis == {"default/thief": 1}
    assert compiler.allocations().resting == ()


def test_who_had_a_vni_may_name_it_again() -> None:
    compiler = _compiler(network("blue", vni=7))
    compiler.delete("VirtualNetwork", "default/blue")
    compiler.flush(now=1000)
    compiler.upsert(network("blue", vni=7))
    assert compiler.flush(now=1001).vnis == {"default/blue": 7}
    assert compiler.allocations().resting == ()


def test_the_prefix_of_a_node_rests_before_another_gets_it() -> None:
    compiler = _compiler()
    compiler.delete("Node", "node-a")
    compiler.upsert(node("node-c"))
    compiler.flush(now=1000)
    assert compiler.allocations().nodes["router"]["node-c"].underlay_prefix == "fd00:1:0:3::/64"
    compiler.free(before=1001)
    compiler.upsert(node("node-d"))
    compiler.flush(now=4601)
    assert compiler.allocations().nodes["router"]["node-d"].underlay_prefix == NODE_A


def test_how_full_a_network_is() -> None:
    compiler = Compiler()
    small = [{"prefix": "10.0.0.0/29"}, {"prefix": "2001:db8::/64"}]
    assert compiler.usage("default/blue") is None
    for item in (pipeline(), node("node-a"), network(subnets=small)):
        compiler.upsert(item)
    compiler.flush()
    # Of eight are the network's own, the broadcast's and the gateway's.
    assert compiler.usage("default/blue") == (0, 5)
    given = interface("vm2", addresses=["10.0.0.4"], prefixes=["10.9.0.0/16"])
    outside = interface("vm3", addresses=["192.0.2.1"])
    for vm in (interface(), given, outside):
        compiler.upsert(vm)
    compiler.flush()
    assert compiler.usage("default/blue") == (2, 3)
    compiler.delete("Interface", "default/vm1")
    compiler.flush()
    assert compiler.usage("default/blue") == (1, 4)
    compiler.upsert(network(subnets=[*small, {"prefix": "10.1.0.0/32"}]))
    compiler.flush()
    assert compiler.usage("default/blue") == (1, 0)


def test_a_pipeline_may_get_more_prefixes() -> None:
    one, both = ["fd00:1::/64"], ["fd00:1::/64", "fd00:2::/48"]
    compiler = Compiler()
    for item in (network(), pipeline(underlayPrefixes=one), node("node-a"), node("node-b")):
        compiler.upsert(item)
    compiler.agent("router", "node-b", [])
    first = compiler.flush()
    (problem,) = first.problems["Pipeline", "router"]
    assert (problem.reason, problem.field) == ("UnderlayPrefixExhausted", "spec.underlayPrefixes")
    compiler.upsert(pipeline(underlayPrefixes=both))
    second = compiler.flush()
    assert second.problems["Pipeline", "router"] == ()
    found = specs(compiler.snapshot())
    a, b = found["router.node-a"], found["router.node-b"]
    assert (a["underlayPrefix"], b["underlayPrefix"]) == (one[0], "fd00:2:0:1::/64")
    assert a["pipelinePrefixes"] == both
    assert a["uplinks"][0]["onLinkPrefixes"] == both
    # An agent that knows one prefix takes the first, and is known to: see `reverted`.
    assert b["pipelinePrefixes"] == both
    assert compiler.unaware("SeveralUnderlayPrefixes", "router") == ("node-b",)


def test_a_network_has_a_dscp_of_its_own_where_the_agent_knows_of_such() -> None:
    compiler = Compiler()
    for item in (network(), pipeline(), node("node-a"), node("node-b"), interface()):
        compiler.upsert(item)
    compiler.upsert(interface("vm2", nodeName="node-b"))
    compiler.agent("router", "node-b", [each for each in FEATURES if each != DSCP_OF_NETWORKS])

    def dscps() -> list[int | None]:
        found = specs(compiler.snapshot())
        return [found[f"router.{each}"]["networks"][0].get("dscp") for each in ("node-a", "node-b")]

    compiler.flush()
    assert dscps() == [None, None]
    assert compiler.snapshot().problems == ()
    compiler.upsert(network(dscp=0))
    (problem,) = compiler.flush().problems["VirtualNetwork", "default/blue"]
    assert (problem.field, problem.reason) == ("spec.dscp", "AgentTooOld")
    assert "on node node-b" in problem.message
    assert dscps() == [0, None]
    compiler.agent("router", "node-b", FEATURES)
    assert compiler.flush().problems["VirtualNetwork", "default/blue"] == ()
    assert dscps() == [0, 0]
    compiler.agent("router", "node-b", [])
    assert len(compiler.flush().problems["VirtualNetwork", "default/blue"]) == 1
    compiler.delete("Interface", "default/vm2")
    assert compiler.flush().problems["VirtualNetwork", "default/blue"] == ()


def test_a_conflict_ends_when_the_holder_goes() -> None:
    compiler = Compiler()
    vm2 = interface("vm2", addresses=["10.0.0.9"])
    for item in (network(), pipeline(), node("node-a"), interface(addresses=["10.0.0.9"]), vm2):
        compiler.upsert(item)
    first = compiler.flush()
    assert first.problems[("Interface", "default/vm2")][0].reason == "AddressConflict"
    compiler.delete("Interface", "default/vm1")
    second = compiler.flush()
    assert second.problems[("Interface", "default/vm2")] == ()
    assert compiler.snapshot().problems == ()


def test_routes_of_the_network() -> None:
    hops = [{"interfaceRef": {"name": "vm1"}, "weight": 3}, {"endpointRef": {"name": "one"}}]
    own = [
        {"prefix": "0.0.0.0/0", "nextHops": [{"networkRef": {"name": "green"}}]},
        {"prefix": "10.9.0.0/16", "nextHops": hops},
        {"prefix": "10.8.0.0/16", "action": "Drop"},
        {"prefix": "10.7.0.0/16", "nextHops": [{"interfaceRef": {"name": "none"}}]},
        {"prefix": "10.0.0.2/32", "nextHops": [{"endpointRef": {"name": "two"}}]},
    ]
    result = run(
        interface(prefixes=["10.6.0.0/16", "10.8.0.0/16"]),
        interface("vm2", prefixes=["10.6.0.0/16"]),
        networks=(network(routes=own), network("green")),
        endpoints=(endpoint("one", "fd99::1"), endpoint("two", "fd99::2")),
    )
    assert routes(result) == {
        "0.0.0.0/0": [("default/green", 1)],
        "10.0.0.2/32": [(VM1, 1)],
        "10.0.0.3/32": [(VM2, 1)],
        "10.6.0.0/16": sorted([(VM1, 1), (VM2, 1)]),
        "10.7.0.0/16": [],
        "10.8.0.0/16": [(VM1, 1)],
        "10.9.0.0/16": [(VM1, 3), ("fd99::1", 1)],
        "2001:db8::2/128": [(VM1, 1)],
        "2001:db8::3/128": [(VM2, 1)],
    }
    assert next(iter(routes(result))) == "0.0.0.0/0"
    names = [item["name"] for item in specs(result)["router.node-a"]["networks"]]
    assert names == ["blue", "green"]
    assert [(found.field, found.reason) for found in result.problems] == [
        ("spec.routes[3].nextHops[0].interfaceRef.name", "InterfaceNotFound")
    ]


def test_next_hops_on_unreachable_nodes_are_left_out_where_others_remain() -> None:
    hops = [{"interfaceRef": {"name": "vm1"}}, {"interfaceRef": {"name": "vm2"}}]
    own = [
        {"prefix": "10.9.0.0/16", "nextHops": hops},
        {"prefix": "10.8.0.0/16", "nextHops": hops[:1]},
        {"prefix": "10.7.0.0/16", "nextHops": [hops[0], {"networkRef": {"name": "green"}}]},
    ]
    compiler = Compiler()
    for each in (
        *(pipeline(), node("node-a"), node("node-b"), network(routes=own), network("green")),
        interface(prefixes=["10.6.0.0/16"]),
        interface("vm2", nodeName="node-b", prefixes=["10.6.0.0/16", "10.5.0.0/16"]),
    ):
        compiler.upsert(each)
    compiler.flush()
    everything = routes(compiler.snapshot())
    vm1, vm2 = (VM1, 1), (underlay("vm2", NODE_B, 1), 1)
    assert everything["10.6.0.0/16"] == everything["10.9.0.0/16"] == [vm1, vm2]

    compiler.set_unreachable({("router", "node-a"), ("router", "unknown")})
    changes = compiler.flush()
    assert (changes.configs, list(changes.slices)) == ({}, ["default.blue.0"])
    assert routes(compiler.snapshot()) == everything | {
        "10.6.0.0/16": [vm2],
        "10.7.0.0/16": [("default/green", 1)],
        "10.9.0.0/16": [vm2],
    }
    # An Interface that moves away from there is a next hop again.
    compiler.upsert(interface(nodeName="node-b", prefixes=["10.6.0.0/16"]))
    compiler.flush()
    moved = (underlay("vm1", NODE_B, 1), 1)
    assert routes(compiler.snapshot())["10.6.0.0/16"] == sorted([vm2, moved])
    compiler.upsert(interface(prefixes=["10.6.0.0/16"]))
    compiler.flush()
    assert routes(compiler.snapshot())["10.6.0.0/16"] == [vm2]

    # When no other is left, all stay: one of them may live.
    compiler.set_unreachable({("router", "node-a"), ("router", "node-b")})
    compiler.flush()
    assert routes(compiler.snapshot()) == everything | {"10.7.0.0/16": [("default/green", 1)]}
    compiler.set_unreachable({("router", "node-b")})
    compiler.flush()
    assert routes(compiler.snapshot()) == everything | {
        "10.6.0.0/16": [vm1],
        "10.9.0.0/16": [vm1],
    }
    compiler.set_unreachable(set())
    compiler.flush()
    assert routes(compiler.snapshot()) == everything
    assert compiler.flush() == Changes()


def test_an_interface_with_other_routes_alone_is_not_written_again() -> None:
    compiler = _compiler(network(), interface(), interface("vm2", nodeName="node-b"))
    compiler.set_unreachable({("router", "node-a")})
    assert compiler.flush().slices == {}


def test_next_hops_beyond_what_the_engine_takes_are_left_out_and_named() -> None:
    many = [interface(f"vm{number}", prefixes=["10.6.0.0/16"]) for number in range(17)]
    result = run(*many)
    assert len(routes(result)["10.6.0.0/16"]) == 16
    assert [(found.kind, found.reason) for found in result.problems] == [
        ("VirtualNetwork", "TooManyNextHops")
    ]


def test_the_last_that_came_come_last() -> None:
    old, new = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"
    result = run(interface("vm1", created=new), interface("vm2", created=old))
    names = [each["name"] for each in specs(result)["router.node-a"]["interfaces"]]
    assert names == ["vm2", "vm1"]


def test_networks_beyond_what_an_engine_takes_are_left_out_and_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("headrace_compiler.config.NODE_NETWORKS", 2)
    hops = [{"networkRef": {"name": name}} for name in ("a", "b")]
    blue = network(routes=[{"prefix": "0.0.0.0/0", "nextHops": hops}])
    compiler = Compiler()
    for item in (node("node-a"), pipeline(), blue, network("a"), network("b"), interface()):
        compiler.upsert(item)
    compiler.flush()
    result = compiler.snapshot()
    # Those of the node's own Interfaces first.
    names = [each["name"] for each in specs(result)["router.node-a"]["networks"]]
    assert names == ["blue", "a"]
    assert [(found.name, found.reason) for found in result.problems] == [("b", "NodeFull")]
    compiler.upsert(network())
    compiler.flush()
    assert compiler.snapshot().problems == ()


@pytest.mark.parametrize(
    ("where", "broken"),
    [(compiler_interface, "accept"), (Interfaces, "_claim_given"), (Interfaces, "_refer")],
)
def test_an_object_that_nobody_expected_hurts_no_other(
    monkeypatch: pytest.MonkeyPatch, where: object, broken: str
) -> None:
    step = getattr(where, broken)

    def strange(*words: Any) -> Any:
        if "default/vm1" in words or Owner("Interface", "default/vm1") in words:
            raise KeyError("what is this?")
        return step(*words)

    monkeypatch.setattr(where, broken, strange)
    result = run(interface("vm1"), interface("vm2"))
    assert [each["name"] for each in specs(result)["router.node-a"]["interfaces"]] == ["vm2"]
    (found,) = result.problems
    assert (found.name, found.reason) == ("vm1", "InternalError")
    assert "KeyError: 'what is this?'" in found.message


def test_the_next_hop_too_many_is_the_last_that_came() -> None:
    old, new = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"
    many = [interface(f"vm{n}", prefixes=["10.6.0.0/16"], created=old) for n in range(16)]
    before = routes(run(*many))["10.6.0.0/16"]
    for number in range(100, 120):
        # Whatever its underlay address, by which next hops are written.
        late = interface(f"vm{number}", prefixes=["10.6.0.0/16"], created=new)
        assert routes(run(*many, late))["10.6.0.0/16"] == before


def _large() -> Compiler:
    """600 Interfaces on two nodes in one network: 1200 routes in 5 slices."""
    compiler = Compiler()
    subnets = [{"prefix": "10.0.0.0/16"}, {"prefix": "2001:db8::/64"}]
    for item in (network(subnets=subnets), pipeline(), node("node-a"), node("node-b")):
        compiler.upsert(item)
    for number in range(600):
        compiler.upsert(interface(f"vm{number}", nodeName=f"node-{'ab'[number % 2]}"))
    compiler.flush()
    return compiler


def test_slices_are_full_before_another_is_begun() -> None:
    found = _large().snapshot()
    sizes = [len(routes(found, name)) for name in found.slices]
    assert sizes == [256, 256, 256, 256, 176]


@pytest.mark.parametrize(
    "change",
    [
        {"prefixes": ["10.77.0.0/16"]},
        {"addresses": ["10.0.200.1"]},
        {"addresses": ["10.0.200.1", "2001:db8::ffff"]},
    ],
)
def test_one_changed_interface_changes_one_config_and_one_slice(
    change: dict[str, Any],
) -> None:
    compiler = _large()
    before = copy.deepcopy(compiler.snapshot())
    compiler.upsert(interface("vm599", nodeName="node-b", **change))
    changes = compiler.flush()
    assert list(changes.configs) == ["router.node-b"]
    assert list(changes.slices) == ["default.blue.4"]
    after = compiler.snapshot()
    different = [name for name, item in after.configs.items() if item != before.configs[name]]
    assert different == ["router.node-b"]
    different = [name for name, item in after.slices.items() if item != before.slices[name]]
    assert different == ["default.blue.4"]


def test_an_equal_object_changes_nothing() -> None:
    compiler = _large()
    compiler.upsert(interface("vm7", nodeName="node-b"))
    compiler.upsert(pipeline())
    changes = compiler.flush()
    assert (changes.configs, changes.slices, changes.problems) == ({}, {}, {})


def test_a_config_name_has_at_most_253_characters() -> None:
    one, two = (config_name("router", "n" * 250 + end) for end in "xy")
    assert len(one) <= 253
    assert one != two
    assert config_name("router", "node-a") == "router.node-a"


def test_digest_sees_values_and_not_their_order() -> None:
    assert canonical_json({"b": 1, "a": ["é"]}) == '{"a":["é"],"b":1}'.encode()
    assert digest({"b": 1, "a": 2}) == digest({"a": 2, "b": 1})
    assert digest({"a": 1}) != digest({"a": 2})


def _compiler(*items: VirtualNetwork | Interface) -> Compiler:
    compiler = Compiler()
    for item in (pipeline(), node("node-a"), node("node-b"), *items):
        compiler.upsert(item)
    compiler.flush()
    return compiler


def test_a_gateway_that_moves_frees_its_old_address() -> None:
    subnet = {"prefix": "10.0.0.0/30"}
    compiler = _compiler(network(subnets=[subnet]), interface(addresses=["10.0.0.2"]))
    compiler.upsert(interface("vm2"))
    assert [found.reason for found in compiler.flush().problems["Interface", "default/vm2"]] == [
        "SubnetExhausted"
    ]
    compiler.upsert(network(subnets=[{**subnet, "gateway": "10.0.0.2"}]))
    compiler.flush()
    result = compiler.snapshot()
    assert [(found.name, found.reason) for found in result.problems] == [
        ("vm1", "AddressIsGateway")
    ]
    assert result.allocations.interfaces["default/vm2"].addresses == ("10.0.0.1",)


def test_a_route_follows_the_interface_that_it_names() -> None:
    own = [{"prefix": "10.9.0.0/16", "nextHops": [{"interfaceRef": {"name": "vm1"}}]}]
    compiler = _compiler(network(routes=own), interface())
    assert routes(compiler.snapshot())["10.9.0.0/16"] == [(VM1, 1)]
    compiler.upsert(interface(nodeName="node-b"))
    compiler.flush()
    assert routes(compiler.snapshot())["10.9.0.0/16"] == [(underlay("vm1", NODE_B, 1), 1)]
    compiler.delete("Interface", "default/vm1")
    changes = compiler.flush()
    assert routes(compiler.snapshot()) == {"10.9.0.0/16": []}
    assert [found.reason for found in changes.problems["VirtualNetwork", "default/blue"]] == [
        "InterfaceNotFound"
    ]


def test_another_underlay_prefix_renumbers_the_underlay_alone() -> None:
    first = run(interface())
    second = run(
        interface(),
        pipelines=(pipeline(underlayPrefixes=["fd00:2::/48"]),),
        allocations=first.allocations,
    )
    before, after = (found.allocations.interfaces["default/vm1"] for found in (first, second))
    renumbered = underlay("vm1", "fd00:2:0:1::/64", 1)
    assert after.underlay_address == renumbered
    assert after.addresses == before.addresses
    assert routes(second)["10.0.0.2/32"] == [(renumbered, 1)]


def test_what_left_with_its_network_comes_back_with_it() -> None:
    compiler = _compiler(network(), interface("vm1"), interface("vm2"))
    before = compiler.snapshot()
    compiler.delete("Interface", "default/vm1")
    compiler.delete("VirtualNetwork", "default/blue")
    changes = compiler.flush()
    assert changes.slices == {"default.blue.0": None}
    assert changes.problems["Interface", "default/vm2"][0].reason == "NetworkNotFound"
    compiler.upsert(network())
    compiler.flush()
    after = compiler.snapshot()
    old, new = (found.allocations.interfaces["default/vm2"] for found in (before, after))
    assert new.addresses == old.addresses
    # Another network of that name: what is on its way to the first must not arrive.
    assert new.underlay_address == underlay("vm2", NODE_A, 2)
    assert sorted(routes(after)) == ["10.0.0.3/32", "2001:db8::3/128"]


def test_allocations_that_do_not_fit_are_replaced() -> None:
    record = {
        "network": "default/blue",
        "pipeline": "router",
        "node": "node-a",
        "underlay_address": "fd00:9::2",
        "addresses": ["192.0.2.1"],
    }
    held = Allocations.model_validate(
        {
            "interfaces": {"default/vm1": record, "default/gone": record},
            "nodes": {"router": {"node-a": {"underlay_prefix": "fd00:1:0:7::/64"}}},
            "networks": {"default/blue": {"vni": 9, "slices": {"3": ["192.0.2.1/32"]}}},
        }
    )
    result = run(interface(), allocations=held)
    assert result.problems == ()
    found = result.allocations.interfaces
    assert list(found) == ["default/vm1"]
    assert found["default/vm1"].underlay_address == underlay("vm1", "fd00:1:0:7::/64", 9)
    assert found["default/vm1"].addresses == ("10.0.0.2", "2001:db8::2")
    assert list(result.slices) == ["default.blue.3"]


def test_allocations_of_a_damaged_file_are_refused() -> None:
    with pytest.raises(ValidationError, match="underlay is IPv6"):
        Allocations.model_validate({"nodes": {"a": {"b": {"underlay_prefix": "10.0.0.0/8"}}}})


def test_nodes_of_a_class_get_its_sizes() -> None:
    spec = {
        "underlayPrefixes": ["fd00:1::/48"],
        "nodeSelector": {},
        "workers": {"count": 2},
        "memory": "2Gi",
        "nodeClassLabel": "size",
        "nodeClasses": [{"value": "small", "workers": {"count": 1}}],
    }
    router = Pipeline.model_validate({"metadata": {"name": "router"}, "spec": spec})
    nodes = [
        Node.model_validate({"metadata": {"name": name, "labels": labels}})
        for name, labels in (("n1", {"size": "small"}), ("n2", {"size": "other"}), ("n3", {}))
    ]
    compiler = Compiler()
    compiler.upsert(router)
    for node in nodes:
        compiler.upsert(node)
    compiler.flush()
    workers = {
        name: config["spec"]["workers"]["count"]  # type: ignore[index,call-overload]
        for name, config in compiler.snapshot().configs.items()
    }
    assert workers == {"router.n1": 1, "router.n2": 2, "router.n3": 2}
    grown = {"metadata": {"name": "n2", "labels": {"size": "small"}}}
    compiler.upsert(Node.model_validate(grown))
    changes = compiler.flush()
    assert list(changes.configs) == ["router.n2"]


def test_what_cannot_be_read_keeps_what_it_has() -> None:
    everything = (network(), network("red"), pipeline(), node("node-a"), interface())
    compiler = Compiler()
    for item in everything:
        compiler.upsert(item)
    compiler.flush()
    before = compiler.snapshot()
    compiler = Compiler(before.allocations)
    for item in everything:
        if item.key in ("default/blue", "router", "default/vm1"):
            compiler.hold(item.kind, item.key)
        else:
            compiler.upsert(item)
    compiler.upsert(network("green"))
    compiler.upsert(pipeline("other", underlayPrefixes=["fd00:2::/48"]))
    compiler.flush()
    held = compiler.snapshot().allocations
    vnis = {key: each.vni for key, each in held.networks.items()}
    assert vnis == {"default/blue": 1, "default/red": 2, "default/green": 3}
    assert held.nodes["router"] == before.allocations.nodes["router"]
    assert held.interfaces == before.allocations.interfaces
    # Mended, it is what it was.
    for item in everything:
        compiler.upsert(item)
    compiler.flush()
    assert compiler.snapshot().configs.items() >= before.configs.items()
    for item in everything:
        compiler.hold(item.kind, item.key)
        compiler.delete(item.kind, item.key)
    compiler.flush()
    assert set(compiler.snapshot().allocations.networks) == {"default/green"}


# Pods.


def pod(name: str = "web", node: str = "", phase: str = "Pending") -> Pod:
    return Pod.model_validate(
        {
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"nodeName": node},
            "status": {"phase": phase},
        }
    )


def of_pod(name: str = "vm1", **inside: Any) -> Interface:
    attachment = {"type": "Pod", "pod": {"name": "web", **inside}}
    return interface(name, nodeName=None, attachment=attachment)


def with_pods(*items: Interface | Pod) -> Compiler:
    compiler = Compiler()
    for item in (network(), pipeline(), node("node-a"), node("node-b"), *items):
        compiler.upsert(item)
    compiler.flush()
    return compiler


def reasons(compiler: Compiler) -> dict[str, str]:
    return {problem.name: problem.reason for problem in compiler.snapshot().problems}


def homes(compiler: Compiler) -> dict[str, str]:
    """Interface -> DataplaneConfig."""
    return {
        each["name"]: name
        for name, spec in specs(compiler.snapshot()).items()
        for each in spec["interfaces"]
    }


def test_an_interface_is_where_its_pod_is() -> None:
    compiler = with_pods(of_pod(), pod(node="node-a"))
    assert homes(compiler) == {"vm1": "router.node-a"}
    assert reasons(compiler) == {}
    compiler.delete("Pod", "default/web")
    compiler.flush()
    assert homes(compiler) == {}
    assert reasons(compiler) == {"vm1": "PodNotFound"}
    assert compiler.snapshot().slices == {}
    compiler.upsert(pod())
    compiler.flush()
    assert reasons(compiler) == {"vm1": "PodNotScheduled"}
    # The address is kept, as a newcomer finds out.
    compiler.upsert(interface("vm2"))
    compiler.flush()
    assert compiler.allocations().interfaces["default/vm2"].addresses[0] == "10.0.0.3"
    compiler.upsert(pod(node="node-b", phase="Running"))
    compiler.flush()
    assert homes(compiler) == {"vm1": "router.node-b", "vm2": "router.node-a"}
    record = compiler.allocations().interfaces["default/vm1"]
    assert (record.node, record.addresses[0]) == ("node-b", "10.0.0.2")
    compiler.upsert(pod(node="node-b", phase="Succeeded"))
    compiler.flush()
    assert homes(compiler) == {"vm2": "router.node-a"}
    assert reasons(compiler) == {"vm1": "PodCompleted"}


def macs(compiler: Compiler, config: str) -> dict[str, str | None]:
    interfaces = specs(compiler.snapshot())[config]["interfaces"]
    return {each["name"]: each.get("macAddress") for each in interfaces}


def test_a_pod_has_a_mac_address_from_the_start() -> None:
    mac = "02:00:00:00:00:09"
    attachment = {"type": "Pod", "pod": {"name": "web", "deviceName": "net2"}}
    given = interface("given", nodeName=None, macAddress=mac, attachment=attachment)
    compiler = with_pods(of_pod(), given, interface("vm2"), pod(node="node-a"))
    assert reasons(compiler) == {}
    here = {"vm1": pod_mac("default/vm1"), "given": mac}
    assert macs(compiler, "router.node-a") == {**here, "vm2": None}
    compiler.upsert(pod(node="node-b"))
    compiler.flush()
    assert macs(compiler, "router.node-b") == here


def test_a_pod_may_come_before_or_after_its_interface() -> None:
    first = with_pods(of_pod(), pod(node="node-a")).snapshot()
    second = with_pods(pod(node="node-a"), of_pod()).snapshot()
    assert first == second
    assert first.configs["router.node-a"]["spec"] != first.configs["router.node-b"]["spec"]


def test_an_uplink_takes_a_device_from_an_interface_of_its_own_pipeline() -> None:
    """Else neither would run: the Pipeline for want of it, the Interface of the Pipeline."""
    compiler = Compiler(Allocations())
    uplink = {"name": "up", "attachment": {"type": "Tap", "tap": {"deviceName": "tap0"}}}
    for item in (node("node-a"), pipeline(), network(), interface(device="tap0")):
        compiler.upsert(item)
    compiler.flush()
    assert reasons(compiler) == {}
    compiler.upsert(pipeline(uplinks=[uplink]))
    compiler.flush()
    assert reasons(compiler) == {"vm1": "DeviceConflict"}


def test_a_device_inside_a_pod_serves_one_interface() -> None:
    compiler = with_pods(
        of_pod(), of_pod("vm2"), of_pod("vm3", deviceName="net2"), pod(node="node-a")
    )
    assert reasons(compiler) == {"vm2": "DeviceConflict"}
    assert set(homes(compiler)) == {"vm1", "vm3"}


def test_without_a_cluster_there_are_no_pods() -> None:
    (problem,) = run(of_pod()).problems
    assert problem.reason == "PodNotFound"
    assert problem.field == "spec.attachment.pod.name"
    assert "without a cluster use another type" in problem.message


def test_a_pod_is_no_uplink() -> None:
    uplink = {"name": "up", "attachment": {"type": "Pod", "pod": {"name": "web"}}}
    result = run(pipelines=(pipeline(uplinks=[uplink]),))
    assert {problem.reason for problem in result.problems} == {"AttachmentUnsupported"}


def test_a_weight_of_an_uplink_reaches_its_nodes() -> None:
    attachment = {"type": "AFPacket", "afPacket": {"deviceName": "eth1"}}
    heavy = {"name": "heavy", "attachment": attachment, "weight": 3}
    (compiled,) = specs(run(pipelines=(pipeline(uplinks=[heavy]),)))["router.node-a"]["uplinks"]
    assert compiled["weight"] == 3


# UnderlayEndpoints.


def endpoint(name: str, address: str, **spec: Any) -> UnderlayEndpoint:
    spec = {"address": address, "namespaceSelector": {}, "networkSelector": {}, **spec}
    return UnderlayEndpoint.model_validate({"metadata": {"name": name}, "spec": spec})


def to_router(name: str = "blue", **labels: str) -> VirtualNetwork:
    route = {"prefix": "0.0.0.0/0", "nextHops": [{"endpointRef": {"name": "router"}}]}
    found = network(name, routes=[route])
    metadata = found.metadata.model_copy(update={"labels": labels})
    return found.model_copy(update={"metadata": metadata})


def heard(compiler: Compiler) -> dict[str, list[str]]:
    """Network -> what may send into it from outside, on node-a."""
    networks = specs(compiler.snapshot())["router.node-a"]["networks"]
    return {each["name"]: each["endpoints"] for each in networks if "endpoints" in each}


def test_an_endpoint_admits_the_networks_that_it_selects() -> None:
    selector = {"matchLabels": {"uplink": "yes"}}
    compiler = _compiler(to_router(), interface())
    assert reasons(compiler) == {"blue": "EndpointNotFound"}
    assert routes(compiler.snapshot())["0.0.0.0/0"] == []
    compiler.upsert(endpoint("router", "fd99::1", networkSelector=selector))
    compiler.flush()
    assert reasons(compiler) == {"blue": "EndpointNotFound"}
    assert heard(compiler) == {}
    compiler.upsert(to_router(uplink="yes"))
    changes = compiler.flush()
    assert reasons(compiler) == {}
    assert (list(changes.configs), list(changes.slices)) == (["router.node-a"], ["default.blue.0"])
    assert routes(compiler.snapshot())["0.0.0.0/0"] == [("fd99::1", 1)]
    assert heard(compiler) == {"blue": ["fd99::1"]}
    compiler.upsert(endpoint("router", "fd99::2", networkSelector=selector))
    compiler.flush()
    assert routes(compiler.snapshot())["0.0.0.0/0"] == [("fd99::2", 1)]
    compiler.delete("UnderlayEndpoint", "router")
    compiler.flush()
    assert routes(compiler.snapshot())["0.0.0.0/0"] == []
    assert heard(compiler) == {}


def test_an_endpoint_is_reached_by_vxlan() -> None:
    how = {"type": "VXLAN", "vni": 7, "macAddress": "02:00:00:00:00:09"}
    compiler = _compiler(to_router(), interface())
    compiler.upsert(endpoint("router", "fd99::1", encapsulation=how))
    compiler.flush()
    (compiled,) = specs(compiler.snapshot())["router.node-a"]["networks"]
    assert "endpoints" not in compiled
    expected = {"address": "fd99::1", "vni": 7, "macAddress": "02:00:00:00:00:09"}
    assert compiled["vxlanEndpoints"] == [expected]
    assert routes(compiler.snapshot())["0.0.0.0/0"] == [("fd99::1", 1)]
    compiler.upsert(endpoint("another", "fd99::1"))
    compiler.flush()
    assert reasons(compiler) == {"blue": "EncapsulationConflict"}
    assert heard(compiler) == {"blue": ["fd99::1"]}
    compiler.delete("UnderlayEndpoint", "another")
    compiler.flush()
    assert reasons(compiler) == {}
    assert heard(compiler) == {}


@pytest.mark.parametrize(
    "encapsulation",
    [
        {"type": "VXLAN", "vni": 7},
        {"type": "VXLAN", "macAddress": "02:00:00:00:00:09"},
        {"vni": 7},
        {"macAddress": "02:00:00:00:00:09"},
    ],
)
def test_what_only_vxlan_has(encapsulation: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"(required|not allowed) when type is"):
        endpoint("router", "fd99::1", encapsulation=encapsulation)


def test_an_endpoint_admits_by_namespace_and_nobody_unless_it_says_so() -> None:
    tenant = {"matchLabels": {"net": "tenant"}}
    by_name = {"matchLabels": {"kubernetes.io/metadata.name": "default"}}
    everything: dict[str, Any] = {}
    for namespaces, networks, labels, admitted in (
        (None, everything, {}, False),
        (everything, None, {}, False),
        (tenant, everything, {}, False),
        (tenant, everything, {"net": "tenant"}, True),
        (by_name, everything, {}, True),
    ):
        compiler = _compiler(to_router(), interface())
        selectors = {"namespaceSelector": namespaces, "networkSelector": networks}
        compiler.upsert(endpoint("router", "fd99::1", **selectors))
        compiler.flush()
        metadata = {"name": "default", "labels": labels}
        compiler.upsert(Namespace.model_validate({"metadata": metadata}))
        compiler.flush()
        assert (heard(compiler) == {"blue": ["fd99::1"]}) == admitted
        assert (reasons(compiler) == {}) == admitted


def test_no_route_leads_to_an_interface_by_its_address() -> None:
    """Not even an administrator's: it would pass all of the network's isolation."""
    compiler = _compiler(to_router(), interface())
    compiler.upsert(endpoint("router", VM1))
    compiler.flush()
    assert reasons(compiler) == {
        "blue": "EndpointNotFound",
        "router": "AddressInsideUnderlayPrefix",
    }
    assert routes(compiler.snapshot())["0.0.0.0/0"] == []
    assert heard(compiler) == {}
    # Another Pipeline makes it wrong, too.
    compiler.upsert(endpoint("router", "fd99::1"))
    compiler.flush()
    assert reasons(compiler) == {}
    compiler.upsert(pipeline("other", underlayPrefixes=["fd99::/48"], uplinks=[]))
    compiler.flush()
    assert reasons(compiler)["router"] == "AddressInsideUnderlayPrefix"


# What cannot be read when the operator starts.

EVERYTHING: tuple[Object, ...] = (
    pipeline(),
    node("node-a"),
    node("node-b"),
    network(
        routes=[
            {"prefix": "10.9.0.0/16", "nextHops": [{"networkRef": {"name": "green"}}]},
            {"prefix": "10.8.0.0/16", "nextHops": [{"interfaceRef": {"name": "vm2"}}]},
        ]
    ),
    network(
        "green", routes=[{"prefix": "0.0.0.0/0", "nextHops": [{"networkRef": {"name": "up"}}]}]
    ),
    network("up"),
    interface("vm1", prefixes=["10.7.0.0/16"]),
    interface("vm2", nodeName="node-b", prefixes=["10.7.0.0/16"]),
    interface("vm3", nodeName="node-b", networkRef={"name": "up"}),
)
UNREADABLE = [item for item in EVERYTHING if item.kind != "Node"]


def started(before: Compilation, unreadable: Object) -> Compiler:
    """An operator starts, and one object cannot be read."""
    compiler = Compiler(before.allocations)
    for item in EVERYTHING:
        if item is unreadable:
            compiler.hold(item.kind, item.key)
        else:
            compiler.upsert(item)
    compiler.carry(before.configs.values(), before.slices.values())
    compiler.flush()
    return compiler


@pytest.mark.parametrize("unreadable", UNREADABLE, ids=lambda item: f"{item.kind} {item.key}")
def test_what_cannot_be_read_goes_on_as_it_was(unreadable: Object) -> None:
    before = compile_all(Objects(EVERYTHING))
    assert before.problems == ()
    compiler = started(before, unreadable)
    found = compiler.snapshot()
    assert found.slices == before.slices
    assert found.allocations == before.allocations
    # The configs of a Pipeline that cannot be read are left alone.
    assert found.configs == ({} if unreadable.kind == "Pipeline" else before.configs)
    # What is beside it changes as it should.
    compiler.upsert(interface("vm4", addresses=["10.0.0.44"], networkRef={"name": "blue"}))
    compiler.delete("Interface", "default/vm3")
    compiler.flush()
    after = compiler.snapshot()
    if unreadable.kind != "Pipeline":
        names = {each["name"] for each in specs(after)["router.node-a"]["interfaces"]}
        assert names >= {"vm1"}
    assert ("default.up.0" in after.slices) == (unreadable.key == "default/up")
    compiler.upsert(interface("vm3", nodeName="node-b", networkRef={"name": "up"}))
    compiler.delete("Interface", "default/vm4")
    # It is mended.
    compiler.upsert(unreadable)
    compiler.flush()
    mended = compiler.snapshot()
    assert (mended.configs, mended.problems) == (before.configs, ())
    assert {name: item["spec"] for name, item in mended.slices.items()} == {
        name: item["spec"] for name, item in before.slices.items()
    }


@pytest.mark.parametrize("unreadable", UNREADABLE, ids=lambda item: f"{item.kind} {item.key}")
def test_what_cannot_be_read_and_is_deleted_is_gone(unreadable: Object) -> None:
    before = compile_all(Objects(EVERYTHING))
    compiler = started(before, unreadable)
    compiler.delete(unreadable.kind, unreadable.key)
    compiler.flush()
    found = compiler.snapshot()
    rest = [item for item in EVERYTHING if item is not unreadable]
    wanted = compile_all(Objects((*rest,)), before.allocations)
    assert (found.configs, found.slices) == (wanted.configs, wanted.slices)
    assert found.problems == wanted.problems
