# SPDX-License-Identifier: Apache-2.0
"""What holds for the compiler whatever the objects and their order."""

import random
from collections.abc import Iterable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from headrace_api import (
    DataplaneConfig,
    Interface,
    Json,
    Namespace,
    Node,
    Object,
    Objects,
    Pipeline,
    Pod,
    Problem,
    RouteSlice,
    UnderlayEndpoint,
    VirtualNetwork,
)
from headrace_compiler import Allocations, Changes, Compilation, Compiler
from headrace_compiler import compile as compile_all
from headrace_compiler.devices import pool_for

NETWORKS = ("net-a", "net-b", "net-c")
NODES = ("node-a", "node-b", "node-c")
PIPELINES = ("pipe-a", "pipe-b")
ENDPOINTS = ("router-a", "router-b")
PODS = ("web-0", "web-1")
INTERFACES = tuple(f"vm{number}" for number in range(7))
CREATED = st.sampled_from(["", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"])

TEAM = {"matchLabels": {"team": "lab"}}
RESOURCE = "example.com/vf"
DEVICES: list[dict[str, Any]] = [
    {"name": "taps", "type": "Tap", "deviceNames": ["*"], "namespaceSelector": {}},
    *(
        {"name": f"pool-{count}", "type": "SRIOV", "resourceName": RESOURCE, "count": count}
        | {"namespaceSelector": selector}
        for count, selector in ((1, TEAM), (2, {}))
    ),
    {"name": "pods", "type": "Pod"},
]
NARROW: list[dict[str, Any]] = [
    {"name": "two", "type": "Tap", "deviceNames": ["tap0", "up*"], "namespaceSelector": {}},
    {"name": "lab", "type": "Tap", "deviceNames": ["tap?"], "namespaceSelector": TEAM},
]

# Small ranges on purpose: conflicts and exhaustion are the rule here.
_hop = st.one_of(
    st.sampled_from(INTERFACES).map(lambda name: {"interfaceRef": {"name": name}}),
    st.sampled_from(NETWORKS).map(lambda name: {"networkRef": {"name": name}}),
    st.sampled_from(ENDPOINTS).map(lambda name: {"endpointRef": {"name": name}, "weight": 2}),
)
_prefixes = ["0.0.0.0/0", "10.9.0.0/24", "10.0.0.2/32"]
_route = st.one_of(
    st.builds(lambda prefix: {"prefix": prefix, "action": "Drop"}, st.sampled_from(_prefixes)),
    st.builds(
        lambda prefix, hops: {"prefix": prefix, "nextHops": hops},
        st.sampled_from(_prefixes),
        st.lists(_hop, min_size=1, max_size=3),
    ),
)


PREFIXES = [["fd00:1::/48"], ["fd00:1::/62"], ["fd00:2::/64"], ["fd00:2::/64", "fd00:1::/62"]]


@st.composite
def networks(draw: st.DrawFn) -> VirtualNetwork:
    name = draw(st.sampled_from(NETWORKS))
    v4 = draw(st.sampled_from(["10.0.0.0/29", "10.0.0.0/28", "10.0.1.0/24"]))
    subnets: list[dict[str, str]] = [{"prefix": v4}]
    if draw(st.booleans()):
        subnets.append({"prefix": "2001:db8::/64"})
    routes = [
        route
        for route in draw(st.lists(_route, max_size=3, unique_by=lambda route: route["prefix"]))
        if {"networkRef": {"name": name}} not in route.get("nextHops", [])
    ]
    spec = {"subnets": subnets, "routes": routes, "vni": draw(st.sampled_from([None, None, 1, 2]))}
    metadata = {"name": name, "namespace": "ns", "creationTimestamp": draw(CREATED)}
    return VirtualNetwork.model_validate({"metadata": metadata, "spec": spec})


@st.composite
def interfaces(draw: st.DrawFn) -> Interface:
    address = st.sampled_from(["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.1.9", "2001:db8::7"])
    device = draw(st.sampled_from(["tap0", "tap1", "tap2", "tap3", "tap4", "up0", "", ""]))
    attachment: dict[str, object] = {"type": "Discard"}
    if device:
        attachment = {"type": "Tap", "tap": {"deviceName": device}}
    if device == "tap4":
        attachment = {"type": "SRIOV", "sriov": {"resourceName": RESOURCE}}
    node: str | None = draw(st.sampled_from(NODES))
    if draw(st.integers(0, 3)) == 0:
        attachment = {"type": "Pod", "pod": {"name": draw(st.sampled_from(PODS))}}
        node = None
    spec = {
        "networkRef": {"name": draw(st.sampled_from(NETWORKS))},
        "pipelineRef": {"name": draw(st.sampled_from(PIPELINES))},
        "nodeName": node,
        "addresses": draw(st.lists(address, max_size=2, unique=True)),
        "prefixes": draw(st.lists(st.sampled_from(_prefixes), max_size=2, unique=True)),
        "attachment": attachment,
    }
    metadata = {
        "name": draw(st.sampled_from(INTERFACES)),
        "namespace": "ns",
        "creationTimestamp": draw(CREATED),
    }
    return Interface.model_validate({"metadata": metadata, "spec": spec})


@st.composite
def pipelines(draw: st.DrawFn) -> Pipeline:
    name = draw(st.sampled_from(PIPELINES))
    labels = draw(st.sampled_from([{}, {"zone": "1"}]))
    spec: dict[str, object] = {
        "nodeSelector": {"matchLabels": labels},
        "underlayPrefixes": draw(st.sampled_from(PREFIXES)),
        "allowedNamespaces": draw(st.sampled_from([{}, {}, TEAM])),
        "devices": draw(st.sampled_from([DEVICES, DEVICES[:1], DEVICES[:2], NARROW])),
        "limits": draw(st.sampled_from([{}, {"routesPerNamespace": 6}])),
    }
    device = draw(st.sampled_from(["up0", "up1", "tap3"]))
    uplink = {"type": "Tap", "tap": {"deviceName": device}}
    spec["uplinks"] = [{"name": "uplink0", "attachment": uplink}]
    metadata = {"name": name, "creationTimestamp": draw(CREATED)}
    return Pipeline.model_validate({"metadata": metadata, "spec": spec})


@st.composite
def nodes(draw: st.DrawFn) -> Node:
    labels = draw(st.sampled_from([{}, {"zone": "1"}, {"zone": "2"}]))
    metadata = {"name": draw(st.sampled_from(NODES)), "labels": labels}
    return Node.model_validate({"metadata": metadata})


@st.composite
def pods(draw: st.DrawFn) -> Pod:
    node, phase = draw(st.sampled_from([*((name, "Running") for name in NODES), ("", "Pending")]))
    phase = draw(st.sampled_from([phase, phase, "Succeeded"]))
    metadata = {"name": draw(st.sampled_from(PODS)), "namespace": "ns"}
    found = {"metadata": metadata, "spec": {"nodeName": node}, "status": {"phase": phase}}
    return Pod.model_validate(found)


@st.composite
def namespaces(draw: st.DrawFn) -> Namespace:
    labels = draw(st.sampled_from([{}, {"team": "lab"}]))
    return Namespace.model_validate({"metadata": {"name": "ns", "labels": labels}})


def _base() -> list[Object]:
    """A world in which most Interfaces work, for the drawn steps to disturb."""
    found: list[Object] = [Node.model_validate({"metadata": {"name": name}}) for name in NODES]
    for index, name in enumerate(PIPELINES):
        uplink = {"type": "Tap", "tap": {"deviceName": f"up{index}"}}
        spec = {
            "underlayPrefixes": ["fd00:1::/60"],
            "nodeSelector": {},
            "allowedNamespaces": {},
            "devices": DEVICES,
            "uplinks": [{"name": "uplink0", "attachment": uplink}],
        }
        found.append(Pipeline.model_validate({"metadata": {"name": name}, "spec": spec}))
    for name in NETWORKS:
        network = {"subnets": [{"prefix": "10.0.0.0/29"}, {"prefix": "2001:db8::/64"}]}
        metadata = {"name": name, "namespace": "ns"}
        found.append(VirtualNetwork.model_validate({"metadata": metadata, "spec": network}))
    metadata = {"name": PODS[0], "namespace": "ns"}
    found.append(Pod.model_validate({"metadata": metadata, "spec": {"nodeName": NODES[0]}}))
    return found


BASE = _base()
DELETE = st.one_of(
    st.tuples(st.just("Interface"), st.sampled_from([f"ns/{name}" for name in INTERFACES])),
    st.tuples(st.just("VirtualNetwork"), st.sampled_from([f"ns/{name}" for name in NETWORKS])),
    st.tuples(st.just("Pipeline"), st.sampled_from(PIPELINES)),
    st.tuples(st.just("Node"), st.sampled_from(NODES)),
    st.tuples(st.just("UnderlayEndpoint"), st.sampled_from(ENDPOINTS)),
    st.tuples(st.just("Pod"), st.sampled_from([f"ns/{name}" for name in PODS])),
)
Step = Object | tuple[str, str] | None


@st.composite
def endpoints(draw: st.DrawFn) -> UnderlayEndpoint:
    spec: dict[str, object] = {
        "address": draw(st.sampled_from(["fd99::1", "fd99::2", "fd00:1::9"]))
    }
    if draw(st.integers(0, 3)):
        spec |= {"namespaceSelector": {}, "networkSelector": {}}
    metadata = {"name": draw(st.sampled_from(ENDPOINTS))}
    return UnderlayEndpoint.model_validate({"metadata": metadata, "spec": spec})


@st.composite
def steps_of(draw: st.DrawFn, *, put_only: bool) -> Step:
    """Mostly Interfaces: the world they live in changes now and then."""
    roll = draw(st.integers(0, 30 if put_only else 34))
    if roll < 23:
        return draw(interfaces())
    if roll < 31:
        rare: tuple[st.SearchStrategy[Object], ...] = (
            networks(),
            networks(),
            namespaces(),
            pipelines(),
            nodes(),
            pods(),
            pods(),
            pods(),
        )
        return draw(rare[roll - 23])
    return None if roll < 34 else draw(DELETE)


def _worlds(put_only: bool) -> st.SearchStrategy[list[Step]]:
    steps = st.lists(steps_of(put_only=put_only), min_size=8, max_size=25)
    return steps.map(lambda found: [*BASE, *found])


WORLDS = _worlds(True)
STEPS = _worlds(False)


def world(items: Iterable[Object]) -> dict[tuple[str, str], Object]:
    return {(item.kind, item.key): item for item in items}


def play(steps: list[Step]) -> tuple[Compiler, dict[tuple[str, str], Object], list[Changes]]:
    compiler = Compiler()
    left: dict[tuple[str, str], Object] = {}
    changes: list[Changes] = []
    for step in steps:
        match step:
            case None:
                changes.append(compiler.flush())
            case (str(kind), str(key)):
                compiler.delete(kind, key)
                left.pop((kind, key), None)
            case item:
                compiler.upsert(item)
                left[(item.kind, item.key)] = item
    changes.append(compiler.flush())
    return compiler, left, changes


def subjects(result: Compilation) -> set[tuple[str, str, str]]:
    return {(found.kind, found.namespace, found.name) for found in result.problems}


def specs(result: Compilation) -> dict[str, dict[str, Any]]:
    found: Any = result.configs
    return {name: config["spec"] for name, config in found.items()}


def accepted(result: Compilation) -> list[dict[str, Any]]:
    return [
        {**item, "pn": name} for name, spec in specs(result).items() for item in spec["interfaces"]
    ]


@given(WORLDS, st.randoms(use_true_random=False))
@settings(max_examples=60)
def test_order_of_objects_has_no_meaning(items: list[Object], shuffle: random.Random) -> None:
    unique = list(world(items).values())
    first = compile_all(Objects((*unique,)))
    shuffle.shuffle(unique)
    assert compile_all(Objects((*unique,))) == first


@given(STEPS)
@settings(max_examples=150)
def test_incremental_is_from_scratch_with_the_same_allocations(steps: list[Step]) -> None:
    compiler, left, _ = play(steps)
    result = compiler.snapshot()
    scratch = compile_all(Objects((*left.values(),)), result.allocations)
    assert scratch.configs == result.configs
    assert scratch.slices == result.slices
    assert scratch.allocations == result.allocations
    if "RouteLimitExceeded" in {found.reason for found in (*scratch.problems, *result.problems)}:
        # Of two reasons against one object, the one that is named may be the older.
        assert subjects(scratch) == subjects(result)
    else:
        assert scratch.problems == result.problems
    reloaded = Allocations.model_validate_json(result.allocations.model_dump_json())
    assert reloaded == result.allocations


@given(STEPS)
@settings(max_examples=60)
def test_changes_add_up_to_the_result(steps: list[Step]) -> None:
    compiler, _, changes = play(steps)
    result = compiler.snapshot()
    for kind in ("configs", "slices"):
        added: dict[str, Json | None] = {}
        for change in changes:
            added |= getattr(change, kind)
        assert {name: item for name, item in added.items() if item} == getattr(result, kind)
    problems: dict[tuple[str, str], tuple[Problem, ...]] = {}
    records: dict[str, object] = {}
    for change in changes:
        problems |= change.problems
        records |= change.interfaces
    assert sorted(p for found in problems.values() for p in found) == list(result.problems)
    held = {key: record for key, record in records.items() if record}
    assert held == result.allocations.interfaces


@given(STEPS)
@settings(max_examples=60)
def test_nothing_is_given_out_twice(steps: list[Step]) -> None:
    result = play(steps)[0].snapshot()
    vnis = [record.vni for record in result.allocations.networks.values()]
    assert len(vnis) == len(set(vnis))
    prefixes = [spec["underlayPrefix"] for spec in specs(result).values()]
    assert len(prefixes) == len(set(prefixes))
    found = accepted(result)
    underlay = [item["underlayAddress"] for item in found]
    own = [spec["underlayAddress"] for spec in specs(result).values()]
    assert len({*underlay, *own}) == len(underlay) + len(own)
    addresses = [(item["network"], address) for item in found for address in item["addresses"]]
    assert len(addresses) == len(set(addresses))
    taps = [
        (spec["nodeName"], port["attachment"]["tap"]["deviceName"])
        for spec in specs(result).values()
        for port in [*spec["interfaces"], *spec["uplinks"]]
        if "tap" in port["attachment"]
    ]
    assert len(taps) == len(set(taps))
    functions = [(item["pn"], item["function"]) for item in found if "function" in item]
    assert len(functions) == len(set(functions))


@given(STEPS)
@settings(max_examples=100, deadline=None)
def test_whoever_lacks_a_function_finds_none_free(steps: list[Step]) -> None:
    compiler, left, _ = play(steps)
    result = compiler.snapshot()
    for problem in result.problems:
        if problem.reason != "DevicesExhausted":
            continue
        lacking: Any = left["Interface", f"ns/{problem.name}"]
        place = lacking.spec.pipeline_ref.name, lacking.spec.node_name
        pipeline: Any = left["Pipeline", place[0]]
        there = [
            record.function.number
            for record in result.allocations.interfaces.values()
            if record.function and (record.pipeline, record.node) == place
        ]
        here = left.get(("Namespace", "ns"))
        pool = pool_for(pipeline.spec, RESOURCE, here.metadata.labels if here else {})
        assert pool and pool.count and len(there) >= pool.count
        assert max(there) < pipeline.spec.pools()[RESOURCE]


@given(STEPS)
@settings(max_examples=60, deadline=None)
def test_no_interface_has_a_device_that_its_namespace_may_not_name(steps: list[Step]) -> None:
    compiler, left, _ = play(steps)
    here = left.get(("Namespace", "ns"))
    labels = here.metadata.labels if here else {}
    for item in accepted(compiler.snapshot()):
        pipeline: Any = left["Pipeline", item["pn"].partition(".")[0]]
        spec = pipeline.spec
        assert spec.allowed_namespaces.matches(labels)
        kind = item["attachment"]["type"]
        entries = [each for each in spec.devices if each.type == kind and each.serves(labels)]
        assert entries or kind == "Discard"
        assert ("function" in item) == (kind == "SRIOV")
        if kind == "Tap":
            assert any(each.has(item["attachment"]["tap"]["deviceName"]) for each in entries)


@given(WORLDS, st.lists(interfaces(), max_size=10))
@settings(max_examples=60)
def test_what_is_allocated_does_not_move(before: list[Object], after: list[Interface]) -> None:
    old = world(before)
    first = compile_all(Objects((*old.values(),)))
    new = {**world(after), **{key: item for key, item in old.items()}}
    second = compile_all(Objects((*new.values(),)), first.allocations)
    working = {(item["namespace"], item["name"]): item for item in accepted(second)}
    for item in accepted(first):
        assert working[(item["namespace"], item["name"])] == item
    for key, record in first.allocations.networks.items():
        assert second.allocations.networks[key].vni == record.vni
        places = {p: n for n, ps in second.allocations.networks[key].slices.items() for p in ps}
        for number, placed in record.slices.items():
            assert all(places[prefix] == number for prefix in placed)
    assert second.allocations.nodes == first.allocations.nodes


@given(STEPS)
@settings(max_examples=40)
def test_outputs_are_valid_objects(steps: list[Step]) -> None:
    result = play(steps)[0].snapshot()
    for name, item in result.configs.items():
        config = DataplaneConfig.model_validate(item)
        assert config.metadata.name == name
        networks = {f"{network.namespace}/{network.name}" for network in config.spec.networks}
        assert {interface.network for interface in config.spec.interfaces} <= networks
        slices = {found for network in config.spec.networks for found in network.route_slices}
        assert slices <= result.slices.keys()
    for name, item in result.slices.items():
        assert RouteSlice.model_validate(item).metadata.name == name


@given(WORLDS, interfaces(), st.sampled_from(["node", "network", "pipeline"]))
@settings(max_examples=40)
def test_a_broken_interface_hurts_only_itself(
    items: list[Object], broken: Interface, what: str
) -> None:
    spec = broken.spec.model_dump(by_alias=True, mode="json", exclude_none=True)
    elsewhere: dict[str, Any] = {
        "nodeName": "none",
        "attachment": {"type": "Tap", "tap": {"deviceName": "t"}},
    }
    spec |= {"node": elsewhere, "pipeline": {"pipelineRef": {"name": "none"}}}.get(
        what, {"networkRef": {"name": "none"}}
    )
    metadata = {"name": "broken", "namespace": "ns"}
    item = Interface.model_validate({"metadata": metadata, "spec": spec})
    good = world(items)
    alone = compile_all(Objects((*good.values(),)))
    both = compile_all(Objects((*good.values(), item)))
    assert (both.configs, both.slices) == (alone.configs, alone.slices)
    assert [found for found in both.problems if found.name != "broken"] == list(alone.problems)
    assert [found.name for found in both.problems].count("broken") == 1
