# SPDX-License-Identifier: Apache-2.0
"""Objects of the release before as this release means them."""

from typing import Any

import pytest
from hypothesis import given, settings

from headrace_api import (
    DataplaneConfig,
    Interface,
    Json,
    Pipeline,
    RouteSlice,
    UnderlayEndpoint,
    VirtualNetwork,
)
from headrace_api.base import Resource
from headrace_operator.upgrade.convert import converted, reverted
from tests.specs import GOOD, slice_spec
from tests.unit.test_agent_translate import CONFIG
from tests.unit.test_compiler_properties import STEPS, Step, play

OLD, NEW = "headrace.dev/v1alpha1", "dataplane.headrace.dev/v1alpha1"
MODELS: dict[str, type[Resource]] = {
    model.__name__: model for model in (Interface, Pipeline, UnderlayEndpoint, VirtualNetwork)
}


def item(kind: str, **spec: Any) -> Any:
    return {"kind": kind, "metadata": {"name": "it", "namespace": "blue", "uid": "u"}, "spec": spec}


TAP = {"type": "Tap", "tap": {"deviceName": "tap0"}}
NULL, DISCARD = {"type": "Null"}, {"type": "Discard"}
SUBNETS = [{"prefix": "10.0.0.0/24"}]
HOPS = [{"networkRef": {"name": "red"}, "weight": 3}]
SELECTOR = {"matchLabels": {"team": "lab"}}
PREFIX, PREFIXES = {"underlayPrefix": "fd00:1::/48"}, {"underlayPrefixes": ["fd00:1::/48"]}
NAMES: dict[str, Any] = {"networkRef": {"name": "net"}, "nodeName": "node-a"}


@pytest.mark.parametrize(
    ("kind", "before", "after"),
    [
        (
            "Interface",
            {**NAMES, "pipelineName": "router", "attachment": TAP},
            {**NAMES, "pipelineRef": {"name": "router"}, "attachment": TAP},
        ),
        (
            "Interface",
            {**NAMES, "pipelineName": "router", "attachment": NULL},
            {**NAMES, "pipelineRef": {"name": "router"}, "attachment": DISCARD},
        ),
        (
            "VirtualNetwork",
            {
                "subnets": SUBNETS,
                "routes": [
                    {"prefix": "10.1.0.0/16", "blackhole": True},
                    {"prefix": "0.0.0.0/0", "nextHops": HOPS},
                ],
            },
            {
                "subnets": SUBNETS,
                "routes": [
                    {"prefix": "10.1.0.0/16", "action": "Drop"},
                    {"prefix": "0.0.0.0/0", "nextHops": HOPS},
                ],
            },
        ),
        # Whoever did not say which meant all.
        ("Pipeline", {**PREFIX, "numa": 1}, {**PREFIXES, "nodeSelector": {}}),
        (
            "Pipeline",
            {
                **PREFIX,
                "nodeSelector": SELECTOR,
                "devices": [
                    {"name": "lab", "type": "SRIOV", "pciAddresses": ["*"]},
                    {"name": "pods", "type": "Pod", "namespaceSelector": SELECTOR},
                    {"name": "nothing", "type": "Null"},
                ],
                "uplinks": [
                    {
                        "name": "up",
                        "attachment": NULL,
                        "nodeOverrides": [{"nodeName": "b", "attachment": NULL}],
                    }
                ],
            },
            {
                **PREFIXES,
                "nodeSelector": SELECTOR,
                "devices": [
                    {
                        "name": "lab",
                        "type": "SRIOV",
                        "pciAddresses": ["*"],
                        "namespaceSelector": {},
                    },
                    {"name": "pods", "type": "Pod", "namespaceSelector": SELECTOR},
                    {"name": "nothing", "type": "Discard", "namespaceSelector": {}},
                ],
                "uplinks": [
                    {
                        "name": "up",
                        "attachment": DISCARD,
                        "nodeOverrides": [{"nodeName": "b", "attachment": DISCARD}],
                    }
                ],
            },
        ),
        (
            "UnderlayEndpoint",
            {"address": "fd99::5", "namespaceSelector": {}},
            {"address": "fd99::5", "namespaceSelector": {}, "networkSelector": {}},
        ),
    ],
)
def test_objects_of_the_release_before(
    kind: str, before: dict[str, Any], after: dict[str, Any]
) -> None:
    found = converted(item(kind, **before))
    assert found == item(kind, **after)
    MODELS[kind].model_validate(found)
    # What is of this release stays.
    assert converted(found) == found


def compiled(version: str, kind: str, spec: Json) -> Json:
    return {"apiVersion": version, **item(kind), "spec": spec, "status": {"of": "its agent"}}


def config(null: object, **prefixes: object) -> Json:
    """One with uplinks and Interfaces; `null` is the attachment of some."""
    (uplink,), (first, _) = CONFIG["spec"]["uplinks"], CONFIG["spec"]["interfaces"]
    return {
        **CONFIG["spec"],
        "interfaces": [first, {**first, "name": "none", "attachment": null}],
        "uplinks": [uplink, {**uplink, "name": "none", "attachment": null}],
        **prefixes,
    }


ONE, MORE = ["fd00:1::/48"], ["fd00:1::/48", "fd00:2::/48"]
ROUTES: list[Any] = [
    {"prefix": "10.0.0.2/32", "nextHops": [{"underlayAddress": "fd00:1:0:1::1", "weight": 1}]},
    {"prefix": "10.1.0.0/16", "blackhole": True},
]


@pytest.mark.parametrize(
    ("former", "now", "model"),
    [
        (
            compiled(OLD, "DataplaneConfig", config(NULL, pipelinePrefix=ONE[0])),
            compiled(NEW, "DataplaneConfig", config(DISCARD, pipelinePrefixes=ONE)),
            DataplaneConfig,
        ),
        (
            compiled(OLD, "DataplaneConfig", GOOD["DataplaneConfig"]),
            compiled(NEW, "DataplaneConfig", GOOD["DataplaneConfig"]),
            DataplaneConfig,
        ),
        *(
            (
                compiled(OLD, "RouteSlice", {"network": "a/b", "vni": 7, "routes": [*routes]}),
                compiled(NEW, "Slice", slice_spec("a/b", *routes, vni=7)),
                RouteSlice,
            )
            for routes in (ROUTES, ())
        ),
    ],
)
def test_compiled_objects_become_those_of_this_release_and_back(
    former: Json, now: Json, model: type[Resource]
) -> None:
    assert converted(former) == now
    model.model_validate({name: value for name, value in now.items() if name != "status"})
    assert reverted(now) == former
    # What is of this release stays.
    assert converted(now) is now


def test_of_several_prefixes_the_release_before_knows_the_first() -> None:
    now = compiled(NEW, "DataplaneConfig", config(DISCARD, pipelinePrefixes=MORE))
    former = reverted(now)
    assert former == compiled(OLD, "DataplaneConfig", config(NULL, pipelinePrefix=MORE[0]))
    # An operator that knew several wrote them where the agent did, too.
    several = compiled(OLD, "DataplaneConfig", config(NULL, pipelinePrefixes=MORE))
    assert converted(several) == now


def test_the_release_before_knows_no_functions() -> None:
    attachment: Json = {"type": "SRIOV", "sriov": {"resourceName": "a.b/vf"}}
    ports: Any = [{"name": "one", "attachment": attachment}]
    numbered: Any = [{**each, "function": 0} for each in ports]
    spec = GOOD["DataplaneConfig"]
    now = compiled(NEW, "DataplaneConfig", {**spec, "uplinks": numbered, "interfaces": numbered})
    former = compiled(OLD, "DataplaneConfig", {**spec, "uplinks": ports, "interfaces": ports})
    assert reverted(now) == former


@given(STEPS)
@settings(max_examples=40)
def test_all_that_is_compiled_can_be_copied(steps: list[Step]) -> None:
    result = play(steps)[0].snapshot()
    for each in (*result.configs.values(), *result.slices.values()):
        former: Any = reverted(each)
        assert former["apiVersion"] == OLD
        assert former["metadata"] == each["metadata"]
        assert reverted(converted(former)) == former
        spec: Any = each["spec"]
        if "pipelinePrefixes" in spec:
            spec = {**spec, "pipelinePrefixes": spec["pipelinePrefixes"][:1]}
        for name in ("interfaces", "uplinks"):
            if name in spec:
                ports = [{k: v for k, v in each.items() if k != "function"} for each in spec[name]]
                spec = {**spec, name: ports}
        assert converted(former) == {**each, "spec": spec}


@pytest.mark.parametrize("spec", [{}, {"type": None}, {"type": "Policies", "entries": []}])
def test_a_slice_of_another_type_has_no_copy(spec: Json) -> None:
    assert reverted(compiled(NEW, "Slice", spec)) is None


@pytest.mark.parametrize("kind", ["DataplaneConfig", "RouteSlice", "Slice"])
@pytest.mark.parametrize("value", [None, 7, "text", [], [None, 3], {}, {"type": ["Null"]}])
def test_what_nobody_can_read_of_compiled_objects_raises_nothing(kind: str, value: Any) -> None:
    names = ("pipelinePrefix", "pipelinePrefixes", "interfaces", "uplinks")
    for spec in (
        *({name: value} for name in (*names, "network", "vni", "routes")),
        *({name: [{"attachment": value}]} for name in names[2:]),
    ):
        found = converted(compiled(OLD, kind, spec))
        assert found["metadata"] == item(kind)["metadata"]
    for whole in ({"spec": value}, {"apiVersion": value, "spec": value}, {"metadata": value}):
        converted({"kind": kind, **whole})


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("value", [None, 7, "text", [], [None, 3], {}, {"type": ["Null"]}])
def test_what_nobody_can_read_raises_nothing(kind: str, value: Any) -> None:
    names = ("pipelineName", "attachment", "routes", "devices", "uplinks")
    for spec in ({name: value} for name in names):
        converted(item(kind, **spec))
    converted({"kind": kind, "spec": value})
