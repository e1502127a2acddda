# SPDX-License-Identifier: Apache-2.0
"""What a tenant may name: namespaces of a Pipeline, and the devices that it lists for them."""

from collections.abc import Mapping
from typing import Any

import pytest
from pydantic import ValidationError

from headrace_api import (
    Device,
    Interface,
    LabelSelector,
    Namespace,
    Node,
    Object,
    Pipeline,
    Pod,
    Problem,
    VirtualNetwork,
    pod_device,
)
from headrace_api.manifests import loads
from headrace_cli.local import localized
from headrace_compiler import Allocations, Changes, Compilation, Compiler
from headrace_compiler import compile as compile_all
from headrace_operator.settings import DataplaneSettings, Settings

LAB = {"matchLabels": {"team": "lab"}}
PODS_END = "hr0123456789ab"


@pytest.mark.parametrize(
    ("selector", "labels", "selected"),
    [
        ({}, {}, True),
        ({"matchLabels": {"a": "1"}}, {"a": "1", "b": "2"}, True),
        ({"matchLabels": {"a": "1"}}, {"a": "2"}, False),
        ({"matchLabels": {"a": ""}}, {}, False),
        ({"matchExpressions": [{"key": "a", "operator": "In", "values": ["1", "2"]}]}, {}, False),
        (
            {"matchExpressions": [{"key": "a", "operator": "In", "values": ["1", "2"]}]},
            {"a": "2"},
            True,
        ),
        ({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["1"]}]}, {}, True),
        (
            {"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["1"]}]},
            {"a": "1"},
            False,
        ),
        ({"matchExpressions": [{"key": "a", "operator": "Exists"}]}, {"a": ""}, True),
        ({"matchExpressions": [{"key": "a", "operator": "Exists"}]}, {}, False),
        ({"matchExpressions": [{"key": "a", "operator": "DoesNotExist"}]}, {"a": ""}, False),
        (
            {
                "matchLabels": {"a": "1"},
                "matchExpressions": [{"key": "b", "operator": "DoesNotExist"}],
            },
            {"a": "1", "b": "1"},
            False,
        ),
    ],
)
def test_a_selector_selects_as_kubernetes_does(
    selector: dict[str, Any], labels: dict[str, str], selected: bool
) -> None:
    assert LabelSelector.model_validate(selector).matches(labels) is selected


@pytest.mark.parametrize(
    "requirement",
    [
        {"operator": "In"},
        {"operator": "NotIn", "values": []},
        {"operator": "Exists", "values": ["1"]},
    ],
)
def test_a_requirement_has_values_when_it_compares(requirement: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=r"required with operators In and NotIn"):
        LabelSelector.model_validate({"matchExpressions": [{"key": "a", **requirement}]})


@pytest.mark.parametrize(
    ("pattern", "device", "allowed"),
    [
        ("lab-*", "lab-1", True),
        ("lab-*", "lab-", True),
        ("lab-*", "xlab-1", False),
        ("lab-?", "lab-10", False),
        ("eth1", "eth1", True),
        ("ETH1", "eth1", False),
        ("*", "eth1", True),
        ("*", "eth0", False),
        ("eth?", "eth0", False),
        ("eth0", "eth0", True),
        ("*", "lo", False),
        ("*", PODS_END, False),
        ("hr*", PODS_END, False),
        (PODS_END, PODS_END, False),
        ("hr-*", "hr-blue", True),
    ],
)
def test_a_pattern_is_plain_but_never_for_what_is_the_nodes(
    pattern: str, device: str, allowed: bool
) -> None:
    entry = Device.model_validate({"name": "x", "type": "Tap", "deviceNames": [pattern]})
    assert entry.has(device) is allowed


@pytest.mark.parametrize(
    ("entry", "field"),
    [
        ({"type": "Tap"}, "deviceNames"),
        ({"type": "SRIOV", "deviceNames": ["eth1"]}, "pciAddresses"),
        ({"type": "Pcap"}, "directory"),
        ({"type": "Pod", "deviceNames": ["net1"]}, "deviceNames"),
        ({"type": "Memif", "directory": "/srv"}, "directory"),
        ({"type": "SRIOV"}, "pciAddresses"),
        ({"type": "SRIOV", "resourceName": "a.b/c"}, "count"),
        ({"type": "SRIOV", "pciAddresses": ["*"], "count": 1}, "count"),
        ({"type": "SRIOV", "resourceName": "a.b/c", "count": 257}, "count"),
        ({"type": "SRIOV", "resourceName": "c", "count": 1}, "resourceName"),
        ({"type": "SRIOV", "resourceName": "a.b/c", "pciAddresses": ["*"], "count": 1}, ""),
        ({"type": "Tap", "resourceName": "a.b/c", "count": 1}, "deviceNames"),
        ({"type": "SRIOV", "pciAddresses": ["*"], "vlans": ["1"]}, "vlans"),
        ({"type": "Tap", "deviceNames": ["*"], "vlans": ["1"]}, "vlans"),
        *(
            ({"type": "SRIOV", "resourceName": "a.b/c", "count": 1, "vlans": vlans}, field)
            for vlans, field in (
                ([], "vlans"),
                (["1", "1"], "vlans[1]"),
                *(([bad], "vlans.0") for bad in ("0", "4095", "1-4095", "2-1", "1-", "", "1,2")),
            )
        ),
        ({"type": "Tap", "deviceNames": ["[a-z]"]}, "deviceNames.0"),
        ({"type": "Pcap", "directory": "/srv/../etc"}, "directory"),
        ({"type": "Pcap", "directory": "/"}, "directory"),
        ({"type": "Pcap", "directory": "srv"}, "directory"),
    ],
)
def test_an_entry_names_what_its_type_has(entry: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Device.model_validate({"name": "x", **entry})
    error = caught.value.errors()[0]
    where = [*map(str, error["loc"]), error.get("ctx", {}).get("field", "")]
    assert ".".join(filter(None, where)) == field


# The compiler.


def pipeline(name: str = "router", **spec: Any) -> Pipeline:
    uplink = {"type": "AFPacket", "afPacket": {"deviceName": "eth7"}}
    spec = {
        "underlayPrefixes": ["fd00:1::/48"],
        "nodeSelector": {},
        "allowedNamespaces": {},
        "uplinks": [{"name": "uplink0", "attachment": uplink}],
        **spec,
    }
    return Pipeline.model_validate({"metadata": {"name": name}, "spec": spec})


def attachment(kind: str, **fields: str) -> dict[str, Any]:
    member = {"AFPacket": "afPacket", "SRIOV": "sriov", "Tap": "tap"}.get(kind, kind.lower())
    return {"type": kind, member: fields} if kind != "Discard" else {"type": kind}


def interface(wanted: dict[str, Any], name: str = "vm", namespace: str = "blue") -> Interface:
    spec: dict[str, Any] = {
        "networkRef": {"name": "net"},
        "pipelineRef": {"name": "router"},
        "attachment": wanted,
    }
    if wanted["type"] != "Pod":
        spec["nodeName"] = "node-a"
    metadata = {"name": name, "namespace": namespace}
    return Interface.model_validate({"metadata": metadata, "spec": spec})


def namespace(name: str, **labels: str) -> Namespace:
    return Namespace.model_validate({"metadata": {"name": name, "labels": labels}})


def world(*items: Object, compiler: Compiler | None = None) -> Compiler:
    compiler = compiler or Compiler()
    networks = [
        VirtualNetwork.model_validate(
            {
                "metadata": {"name": "net", "namespace": space},
                "spec": {"subnets": [{"prefix": "10.0.0.0/24"}]},
            }
        )
        for space in ("blue", "red")
    ]
    node = Node.model_validate({"metadata": {"name": "node-a"}})
    pod = Pod.model_validate(
        {"metadata": {"name": "web", "namespace": "red"}, "spec": {"nodeName": "node-a"}}
    )
    for item in (node, pod, *networks, *items):
        compiler.upsert(item)
    return compiler


def result(*items: Object) -> Compilation:
    compiler = world(*items)
    compiler.flush()
    return compiler.snapshot()


def compiled(found: Compilation) -> set[str]:
    configs: Mapping[str, Any] = found.configs
    return {
        f"{item['namespace']}/{item['name']}"
        for config in configs.values()
        for item in config["spec"]["interfaces"]
    }


WIDE = [
    {"name": "netdevs", "type": "AFPacket", "deviceNames": ["*"], "namespaceSelector": {}},
    {"name": "taps", "type": "Tap", "deviceNames": ["lab-*"], "namespaceSelector": LAB},
    {
        "name": "functions",
        "type": "SRIOV",
        "pciAddresses": ["0000:3b:02.*"],
        "namespaceSelector": {},
    },
    {"name": "captures", "type": "Pcap", "directory": "/srv/captures", "namespaceSelector": {}},
    {"name": "pods", "type": "Pod", "namespaceSelector": {}},
]
RED_POD = interface(attachment("Pod", name="web"), "web-net", "red")
REDS_VETH = pod_device("red/web-net")


@pytest.mark.parametrize(
    ("wanted", "field", "reason"),
    [
        (attachment("AFPacket", deviceName="eth0"), "afPacket.deviceName", "DeviceNotAllowed"),
        (attachment("AFPacket", deviceName="lo"), "afPacket.deviceName", "DeviceNotAllowed"),
        (attachment("AFPacket", deviceName=REDS_VETH), "afPacket.deviceName", "DeviceNotAllowed"),
        (attachment("AFPacket", deviceName="eth7"), "", "DeviceConflict"),
        (attachment("Tap", deviceName="lab-1"), "type", "DeviceNotAllowed"),
        (attachment("SRIOV", pciAddress="0000:3b:00.0"), "sriov.pciAddress", "DeviceNotAllowed"),
        (attachment("Pcap", transmitFile="/etc/shadow"), "pcap.transmitFile", "DeviceNotAllowed"),
        (
            attachment("Pcap", receiveFile="/srv/captures2/a"),
            "pcap.receiveFile",
            "DeviceNotAllowed",
        ),
        (attachment("Pcap", receiveFile="/srv/captures"), "pcap.receiveFile", "DeviceNotAllowed"),
        (attachment("Memif"), "type", "DeviceNotAllowed"),
    ],
)
def test_what_is_not_listed_is_a_problem_and_nothing_of_it_is_compiled(
    wanted: dict[str, Any], field: str, reason: str
) -> None:
    compiler = world(pipeline(devices=WIDE), RED_POD, namespace("blue"))
    compiler.flush()
    compiler.upsert(interface(wanted))
    compiler.flush()
    found = compiler.snapshot()
    (problem,) = found.problems
    assert "red" not in problem.message
    assert (problem.namespace, problem.name, problem.reason) == ("blue", "vm", reason)
    assert problem.field == ".".join(filter(None, ("spec.attachment", field)))
    assert compiled(found) == {"red/web-net"}
    assert set(found.allocations.interfaces) == {"red/web-net"}


@pytest.mark.parametrize(
    "wanted",
    [
        attachment("AFPacket", deviceName="eth1"),
        attachment("Tap", deviceName="lab-1"),
        attachment("SRIOV", pciAddress="0000:3b:02.1"),
        attachment("Pcap", transmitFile="/srv/captures/deep/er.pcap"),
        attachment("Discard"),
    ],
)
def test_what_is_listed_for_the_namespace_is_compiled(wanted: dict[str, Any]) -> None:
    found = result(pipeline(devices=WIDE), interface(wanted), namespace("blue", team="lab"))
    assert not found.problems
    assert compiled(found) == {"blue/vm"}


def test_a_path_with_dots_is_no_path() -> None:
    for path in ("/srv/captures/../x", "/srv/captures/./x", "/srv//x", "/srv/x/"):
        with pytest.raises(ValidationError, match="transmitFile"):
            interface(attachment("Pcap", transmitFile=path))


def problems(changes: Changes, key: str = "blue/vm") -> list[str]:
    return [problem.reason for problem in changes.problems.get(("Interface", key), ())]


def test_labels_of_a_namespace_decide_whenever_they_change() -> None:
    compiler = world(
        pipeline(allowedNamespaces=LAB, devices=WIDE),
        interface(attachment("AFPacket", deviceName="eth1")),
    )
    assert problems(compiler.flush()) == ["NamespaceNotAllowed"]
    assert compiled(compiler.snapshot()) == set()
    compiler.upsert(namespace("blue", team="lab"))
    assert problems(compiler.flush()) == []
    assert compiled(compiler.snapshot()) == {"blue/vm"}
    compiler.upsert(namespace("blue"))
    assert problems(compiler.flush()) == ["NamespaceNotAllowed"]
    assert compiled(compiler.snapshot()) == set()
    compiler.upsert(namespace("blue", team="lab"))
    compiler.flush()
    compiler.delete("Namespace", "blue")
    assert problems(compiler.flush()) == ["NamespaceNotAllowed"]


def test_a_namespace_has_its_name_as_a_label() -> None:
    by_name = {"matchLabels": {"kubernetes.io/metadata.name": "blue"}}
    items = (
        interface(attachment("AFPacket", deviceName="eth1")),
        interface(attachment("AFPacket", deviceName="eth2"), "vm", "red"),
    )
    found = result(pipeline(allowedNamespaces=by_name, devices=WIDE), *items)
    assert compiled(found) == {"blue/vm"}
    assert {(p.namespace, p.reason) for p in found.problems} == {("red", "NamespaceNotAllowed")}


def test_a_device_that_is_another_namespaces_now_changes_hands() -> None:
    def entry(space: str) -> list[dict[str, Any]]:
        selector = {"matchLabels": {"kubernetes.io/metadata.name": space}}
        names = {"deviceNames": ["eth1"], "namespaceSelector": selector}
        return [{"name": "one", "type": "AFPacket", **names}]

    wanted = attachment("AFPacket", deviceName="eth1")
    compiler = world(
        pipeline(devices=entry("blue")), interface(wanted), interface(wanted, "vm", "red")
    )
    compiler.flush()
    assert compiled(compiler.snapshot()) == {"blue/vm"}
    compiler.upsert(pipeline(devices=entry("red")))
    changes = compiler.flush()
    assert problems(changes) == ["DeviceNotAllowed"]
    assert problems(changes, "red/vm") == []
    assert compiled(compiler.snapshot()) == {"red/vm"}


def test_a_pods_device_and_a_netdev_of_one_name_conflict() -> None:
    """An uplink is the administrator's, and may be named anything."""
    uplink = {"type": "AFPacket", "afPacket": {"deviceName": REDS_VETH}}
    compiler = world(pipeline(devices=WIDE), RED_POD)
    compiler.flush()
    compiler.upsert(
        pipeline(
            "other",
            underlayPrefixes=["fd00:2::/48"],
            uplinks=[{"name": "uplink0", "attachment": uplink}],
        )
    )
    compiler.flush()
    found = compiler.snapshot()
    ((kind, name, reason),) = {(p.kind, p.name, p.reason) for p in found.problems}
    assert (kind, name, reason) == ("Pipeline", "other", "DeviceConflict")
    assert compiled(found) == {"red/web-net"}
    compiler.delete("Interface", "red/web-net")
    compiler.flush()
    assert compiler.snapshot().problems == ()
    reloaded = Compiler(found.allocations)
    reloaded.upsert(RED_POD)
    assert REDS_VETH not in str(reloaded.flush().problems)


# Functions of a resource.

CX6 = "headrace.dev/cx6"


def pool(name: str, count: int, selector: Any = None, resource: str = CX6) -> dict[str, Any]:
    entry = {"name": name, "type": "SRIOV", "resourceName": resource, "count": count}
    return {**entry, "namespaceSelector": {} if selector is None else selector}


def of_resource(name: str, namespace: str = "blue", resource: str = CX6) -> Interface:
    return interface(attachment("SRIOV", resourceName=resource), name, namespace)


def functions(compiler: Compiler) -> dict[str, int]:
    configs: Mapping[str, Any] = compiler.snapshot().configs
    return {
        f"{item['namespace']}/{item['name']}": item["function"]
        for config in configs.values()
        for item in config["spec"]["interfaces"]
        if "function" in item
    }


def test_interfaces_of_a_resource_have_a_function_each_and_wait_for_one() -> None:
    vms = [of_resource(f"vm{number}") for number in range(3)]
    compiler = world(pipeline(devices=[pool("vfs", 2)]), *vms)
    changes = compiler.flush()
    assert functions(compiler) == {"blue/vm0": 0, "blue/vm1": 1}
    (problem,) = changes.problems["Interface", "blue/vm2"]
    assert (problem.reason, problem.field) == (
        "DevicesExhausted",
        "spec.attachment.sriov.resourceName",
    )
    assert f"all 2 functions of {CX6} that Pipeline router has on node node-a" in problem.message
    compiler.delete("Interface", "blue/vm0")
    compiler.flush()
    assert functions(compiler) == {"blue/vm1": 1, "blue/vm2": 0}


def test_a_restart_renumbers_nothing() -> None:
    devices = [pool("vfs", 3)]
    compiler = world(pipeline(devices=devices), of_resource("vm0"), of_resource("vm1"))
    compiler.flush()
    compiler.delete("Interface", "blue/vm0")
    compiler.flush()
    held = Allocations.model_validate_json(compiler.allocations().model_dump_json())
    again = world(pipeline(devices=devices), compiler=Compiler(held))
    # Older than vm1 by its name: it takes what is free.
    for item in (of_resource("vm0"), of_resource("vm1")):
        again.upsert(item)
    again.flush()
    assert functions(again) == {"blue/vm0": 0, "blue/vm1": 1}
    again.delete("Interface", "blue/vm0")
    again.flush()
    assert functions(again) == {"blue/vm1": 1}


def test_a_pool_grows_and_shrinks_under_those_who_have_its_functions() -> None:
    vms = [of_resource(f"vm{number}") for number in range(4)]
    compiler = world(pipeline(devices=[pool("vfs", 2)]), *vms)
    compiler.flush()
    compiler.upsert(pipeline(devices=[pool("vfs", 4)]))
    compiler.flush()
    assert functions(compiler) == {f"blue/vm{number}": number for number in range(4)}
    compiler.delete("Interface", "blue/vm0")
    compiler.upsert(pipeline(devices=[pool("vfs", 2)]))
    changes = compiler.flush()
    # Who has one that still exists keeps it; of the others one finds the free one.
    assert functions(compiler) == {"blue/vm1": 1, "blue/vm2": 0}
    assert problems(changes, "blue/vm3") == ["DevicesExhausted"]


def test_an_entrys_functions_are_for_its_namespaces_alone() -> None:
    devices = [
        pool("of-blue", 1, {"matchLabels": {"kubernetes.io/metadata.name": "blue"}}),
        pool("others", 2),
    ]
    blue = [of_resource(f"vm{number}") for number in range(2)]
    compiler = world(pipeline(devices=devices), *blue)
    changes = compiler.flush()
    assert functions(compiler) == {"blue/vm0": 0}
    (problem,) = changes.problems["Interface", "blue/vm1"]
    assert "all 1 functions" in problem.message and "entry of-blue" in problem.message
    for number in range(3):
        compiler.upsert(of_resource(f"vm{number}", "red"))
    changes = compiler.flush()
    assert functions(compiler) == {"blue/vm0": 0, "red/vm0": 1, "red/vm1": 2}
    assert problems(changes, "red/vm2") == ["DevicesExhausted"]
    # More for one renumbers nobody.
    compiler.upsert(pipeline(devices=[{**devices[0], "count": 2}, devices[1]]))
    compiler.flush()
    assert functions(compiler) == {"blue/vm0": 0, "red/vm0": 1, "red/vm1": 2, "blue/vm1": 3}


def test_labels_of_a_namespace_say_of_which_entry_its_functions_are() -> None:
    devices = [pool("lab", 1, LAB), pool("others", 1)]
    compiler = world(
        pipeline(devices=devices), namespace("blue"), of_resource("vm"), of_resource("vm", "red")
    )
    changes = compiler.flush()
    assert functions(compiler) == {"blue/vm": 0}
    assert problems(changes, "red/vm") == ["DevicesExhausted"]
    compiler.upsert(namespace("blue", team="lab"))
    compiler.flush()
    assert functions(compiler) == {"blue/vm": 0, "red/vm": 1}


@pytest.mark.parametrize(
    ("devices", "field"),
    [
        ([], "type"),
        (WIDE, "sriov.resourceName"),
        ([pool("vfs", 1, LAB)], "type"),
        ([pool("vfs", 1, resource="a.b/c")], "sriov.resourceName"),
        ([{**WIDE[2], "pciAddresses": ["*"]}], "sriov.resourceName"),
    ],
)
def test_a_resource_needs_an_entry(devices: list[dict[str, Any]], field: str) -> None:
    (problem,) = result(pipeline(devices=devices), of_resource("vm")).problems
    assert (problem.reason, problem.field) == ("DeviceNotAllowed", f"spec.attachment.{field}")


def test_an_address_is_of_no_pool() -> None:
    wanted = attachment("SRIOV", pciAddress="0000:3b:02.1")
    (problem,) = result(pipeline(devices=[pool("vfs", 1)]), interface(wanted)).problems
    assert problem.reason == "DeviceNotAllowed"
    assert f"({CX6})" in problem.message


def test_uplinks_count_their_functions_from_the_first() -> None:
    resources = [CX6, "a.b/c", CX6, CX6]
    uplinks: list[dict[str, Any]] = [
        {"name": f"uplink{index}", "attachment": attachment("SRIOV", resourceName=resource)}
        for index, resource in enumerate(resources)
    ]
    here = attachment("SRIOV", pciAddress="0000:3b:00.2")
    uplinks[0]["nodeOverrides"] = [{"nodeName": "node-a", "attachment": here}]
    compiler = world(pipeline(uplinks=uplinks, devices=[pool("vfs", 1)]), of_resource("vm"))
    compiler.flush()
    ((config),) = compiler.snapshot().configs.values()
    spec: Any = config["spec"]
    assert [each.get("function") for each in spec["uplinks"]] == [None, 0, 1, 2]
    assert functions(compiler) == {"blue/vm": 0}


def test_a_node_cannot_have_another_resource() -> None:
    wanted = {"name": "uplink0", "attachment": attachment("SRIOV", resourceName=CX6)}
    for resource, fits in ((CX6, True), ("a.b/c", False)):
        override = {
            "nodeName": "node-a",
            "attachment": attachment("SRIOV", resourceName=resource),
        }
        if fits:
            assert pipeline(uplinks=[{**wanted, "nodeOverrides": [override]}]).spec.uplinks
        else:
            with pytest.raises(ValidationError, match="must be the uplink's own"):
                pipeline(uplinks=[{**wanted, "nodeOverrides": [override]}])


# Where a Pipeline says nothing.


def test_without_devices_pods_are_allowed_where_the_node_agent_runs() -> None:
    dataplane = DataplaneSettings(image="x")
    with_agent = Settings(dataplane=dataplane, node_agent=True)
    silent, empty = pipeline(), pipeline(devices=[])
    for settings, item, allowed in (
        (Settings(dataplane=dataplane), silent, set()),
        (with_agent, silent, {"red/web-net"}),
        (with_agent, empty, set()),
    ):
        meant = item.with_defaults(devices=settings.default_devices)
        assert compiled(result(meant, RED_POD)) == allowed


MANIFESTS = """
apiVersion: v1
kind: Namespace
metadata: {name: blue, labels: {team: lab}}
---
apiVersion: headrace.dev/v1alpha1
kind: VirtualNetwork
metadata: {name: net, namespace: blue}
spec: {subnets: [{prefix: 10.0.0.0/24}]}
---
apiVersion: headrace.dev/v1alpha1
kind: Interface
metadata: {name: vm, namespace: blue}
spec:
  networkRef: {name: net}
  pipelineRef:
    name: router
  nodeName: here
  attachment: {type: Discard}
---
apiVersion: headrace.dev/v1alpha1
kind: Pipeline
metadata: {name: router}
spec:
  underlayPrefixes: ["fd00:1::/48"]
"""


@pytest.mark.parametrize(
    ("allowed", "reasons"),
    [
        ("", []),
        ("  allowedNamespaces: {}\n", []),
        ("  allowedNamespaces: {matchLabels: {team: lab}}\n", []),
        ("  allowedNamespaces: {matchLabels: {team: x}}\n", ["NamespaceNotAllowed"]),
    ],
)
def test_local_mode_allows_all_namespaces_unless_told(allowed: str, reasons: list[str]) -> None:
    objects, wrong = loads(MANIFESTS + allowed)
    assert wrong == ()
    found: tuple[Problem, ...] = compile_all(localized(objects), Allocations()).problems
    assert [problem.reason for problem in found] == reasons
