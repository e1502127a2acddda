# SPDX-License-Identifier: Apache-2.0
"""A starting operator finds in the cluster what was given out before."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from headrace_api import Json, Object, Objects
from headrace_compiler import Allocations, Compilation
from headrace_compiler import compile as compile_all
from headrace_operator.render import (
    interface_status,
    load_allocations,
    network_status,
    pipeline_status,
)
from tests.specs import slice_spec
from tests.unit.test_compiler_properties import STEPS, Step, accepted, play, specs

NOW = datetime(2026, 1, 1, tzinfo=UTC)

World = dict[tuple[str, str], Object]


def raws(world: World, result: Compilation) -> dict[str, list[Json]]:
    """The objects as they are in the cluster once every status is written."""
    held = result.allocations
    found: dict[str, list[Json]] = {
        "VirtualNetwork": [],
        "Interface": [],
        "Pipeline": [],
        "Pod": [],
    }
    for (kind, key), item in world.items():
        if kind not in found:
            continue
        raw: Json = item.model_dump(mode="json", by_alias=True, exclude_none=True)
        wrong = tuple(p for p in result.problems if p.kind == kind and p.name == item.metadata.name)
        match kind:
            case "VirtualNetwork":
                vni = held.networks[key].vni if key in held.networks else None
                raw["status"] = network_status(raw, vni, (), wrong, None, None, NOW)
            case "Interface":
                raw["status"] = interface_status(raw, held.interfaces.get(key), wrong, None, NOW)
            case "Pipeline":
                nodes = held.nodes.get(key, {})
                raw["status"] = pipeline_status(raw, nodes, wrong, [], {}, {}, 9477, NOW)
        found[kind].append(raw)
    return found


def load(found: dict[str, list[Json]], result: Compilation) -> Allocations:
    return load_allocations(
        found["VirtualNetwork"],
        found["Interface"],
        found["Pipeline"],
        result.configs.values(),
        result.slices.values(),
        found["Pod"],
        result.allocations.resting,
    )


def without_devices_of_the_left_out(held: Allocations, result: Compilation) -> Allocations:
    """No status says which device an object holds that forwards nowhere."""
    working = {f"{item['namespace']}/{item['name']}" for item in accepted(result)}
    running = {(spec["pipelineName"], spec["nodeName"]) for spec in specs(result).values()}
    return Allocations.model_construct(
        networks=held.networks,
        nodes={
            pipeline: {
                node: record if (pipeline, node) in running else replace(record, devices=())
                for node, record in nodes.items()
            }
            for pipeline, nodes in held.nodes.items()
        },
        interfaces={
            key: record if key in working else replace(record, device=None, function=None)
            for key, record in held.interfaces.items()
            if key in working or record.addresses or record.underlay_address
        },
        resting=held.resting,
    )


@given(STEPS)
@settings(max_examples=100)
def test_a_restart_changes_nothing(steps: list[Step]) -> None:
    compiler, world, _ = play(steps)
    before = compiler.snapshot()
    after = compile_all(Objects((*world.values(),)), load(raws(world, before), before))
    assert after.configs == before.configs
    assert after.slices == before.slices
    assert without_devices_of_the_left_out(
        after.allocations, after
    ) == without_devices_of_the_left_out(before.allocations, before)


_garbage = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=5)
    | st.sampled_from(["fd00:1:0:1::2", "10.0.0.1", "fd00:1:0:1::/64", "ns/net-a", "ns.net-a.0"])
    | st.just(slice_spec("ns/net-a")["owner"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["metadata", "spec", "status", "name", "namespace", "nodes", "interfaces", "addresses",
             "underlayAddress", "underlayPrefix", "nodeName", "type", "owner", "entries", "prefix",
             "network", "vni", "pipelineName", "pipelineRef", "networks", "uplinks", "attachment",
             "networkRef", "function", "sriov", "resourceName"]
        ),
        inner,
        max_size=5,
    ),
    max_leaves=12,
)  # fmt: skip
_objects = st.lists(
    st.dictionaries(st.sampled_from(["metadata", "spec", "status"]), _garbage, max_size=3),
    max_size=3,
)


@given(STEPS, _objects, _objects, _objects, _objects, _objects)
@settings(max_examples=50)
def test_garbage_hurts_nobody(
    steps: list[Step],
    networks: list[Json],
    interfaces: list[Json],
    pipelines: list[Json],
    configs: list[Json],
    slices: list[Json],
) -> None:
    compiler, world, _ = play(steps)
    before = compiler.snapshot()
    found = raws(world, before)
    loaded = load_allocations(
        [*found["VirtualNetwork"], *networks],
        [*found["Interface"], *interfaces],
        [*found["Pipeline"], *pipelines],
        [*before.configs.values(), *configs],
        [*before.slices.values(), *slices],
        found["Pod"],
    )
    assert Allocations.model_validate_json(loaded.model_dump_json()) == loaded
    after = compile_all(Objects((*world.values(),)), loaded)
    # What works goes on as it did.
    assert {(item["namespace"], item["name"]): item for item in accepted(before)}.items() <= {
        (item["namespace"], item["name"]): item for item in accepted(after)
    }.items()


def interface(name: str, node: str = "a", **status: Any) -> Json:
    spec: Json = {
        "networkRef": {"name": "net"},
        "pipelineRef": {"name": "edge"},
        "nodeName": "a",
        "attachment": {"type": "Tap", "tap": {"deviceName": f"tap-{name}"}},
    }
    return {
        "metadata": {"name": name, "namespace": "ns"},
        "spec": spec,
        "status": {"nodeName": node, **status},
    }


def config(node: str, *interfaces: Json, uplink: str = "up0") -> Json:
    return {
        "metadata": {"name": f"edge.{node}", "namespace": "headrace-system"},
        "spec": {
            "pipelineName": "edge",
            "nodeName": node,
            "underlayPrefix": "fd00:1:0:1::/64",
            "uplinks": [{"attachment": {"type": "AFPacket", "afPacket": {"deviceName": uplink}}}],
            "interfaces": [*interfaces],
            "networks": [{"namespace": "ns", "name": "net", "vni": 7}],
        },
    }


def compiled(name: str, host: int, *addresses: str) -> Json:
    return {
        "namespace": "ns",
        "name": name,
        "network": "ns/net",
        "attachment": {"type": "Discard"},
        "addresses": [*addresses],
        "underlayAddress": f"fd00:1:0:1::{host}",
    }


def test_a_config_wins_over_statuses() -> None:
    thief = interface("a-thief", addresses=["10.0.0.2"], underlayAddress="fd00:1:0:1::2")
    held = load_allocations(
        [{"metadata": {"name": "other", "namespace": "ns"}, "status": {"vni": 7}}],
        [thief, interface("vm", addresses=["10.0.0.9"], underlayAddress="fd00:1:0:1::9")],
        [
            {
                "metadata": {"name": "edge"},
                "status": {"nodes": [{"name": "a", "underlayPrefix": "fd00:1:0:9::/64"}]},
            }
        ],
        [config("a", compiled("vm", 2, "10.0.0.2"))],
        [],
    )
    assert held.interfaces["ns/vm"].addresses == ("10.0.0.2",)
    assert held.interfaces["ns/vm"].underlay_address == "fd00:1:0:1::2"
    assert held.interfaces["ns/a-thief"].addresses == ()
    assert held.interfaces["ns/a-thief"].underlay_address is None
    assert held.nodes["edge"]["a"].underlay_prefix == "fd00:1:0:1::/64"
    assert held.nodes["edge"]["a"].devices == ("netdev:up0",)
    assert {key: record.vni for key, record in held.networks.items()} == {"ns/net": 7}


def test_an_interface_left_out_keeps_its_device_unless_another_works_with_it() -> None:
    left_out = interface("vm", addresses=["10.0.0.2"])
    taken = interface("vn", addresses=["10.0.0.3"])
    taken["spec"] = left_out["spec"]
    held = load_allocations([], [left_out, taken], [], [], [])
    assert held.interfaces["ns/vm"].device == "netdev:tap-vm"
    assert held.interfaces["ns/vn"].device is None
    held = load_allocations([], [left_out], [], [config("a", uplink="tap-vm")], [])
    assert held.interfaces["ns/vm"].device is None


def test_an_interface_in_two_configs_is_where_its_spec_says() -> None:
    moved = compiled("vm", 2, "10.0.0.2")
    held = load_allocations([], [interface("vm")], [], [config("z", moved), config("a", moved)], [])
    assert held.interfaces["ns/vm"].node == "a"


def test_edited_statuses_are_put_right_or_ignored() -> None:
    held = load_allocations(
        [],
        [
            interface("vm", addresses=["2001:DB8:0::1", "x", 5, "224.0.0.1"]),
            interface("own", underlayAddress="fd00:1:0:1::1", addresses=["10.0.0.5"]),
            interface("moved", node="b", addresses=["10.0.0.7"]),
        ],
        [
            {
                "metadata": {"name": "edge"},
                "status": {"nodes": [{"name": "a", "underlayPrefix": "fd00:1::/48"}, "b"]},
            }
        ],
        [],
        [
            {"metadata": {"name": "ns.net.1"}, "spec": slice_spec("ns/other", vni=4)},
            {"metadata": {"name": "ns.net.01"}, "spec": slice_spec("ns/net", vni=5)},
            {
                "metadata": {"name": "ns.net.3"},
                "spec": slice_spec(
                    "ns/net", {"prefix": "10.0.0.5/32"}, {"prefix": "10.0.0.5"}, {}, vni=6
                ),
            },
        ],
    )
    assert held.interfaces["ns/vm"].addresses == ("2001:db8::1",)
    assert held.interfaces["ns/own"].underlay_address is None
    assert (held.interfaces["ns/moved"].node, held.interfaces["ns/moved"].device) == ("b", None)
    assert held.nodes == {}
    assert held.networks["ns/net"].slices == {3: ("10.0.0.5/32",)}
    assert held.networks["ns/net"].vni == 6
    assert "ns/other" not in held.networks
