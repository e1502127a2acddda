# SPDX-License-Identifier: Apache-2.0
"""Objects of the release before as this release means them."""

from typing import Any

import pytest

from headrace_api import Interface, Pipeline, UnderlayEndpoint, VirtualNetwork
from headrace_api.base import Resource
from headrace_operator.upgrade.convert import converted

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


def test_compiled_interfaces() -> None:
    spec = {"interfaces": [{"name": "vm", "attachment": NULL}], "uplinks": [{"attachment": TAP}]}
    found = converted(item("DataplaneConfig", **spec))
    assert found["spec"] == {
        "interfaces": [{"name": "vm", "attachment": DISCARD}],
        "uplinks": [{"attachment": TAP}],
    }


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("value", [None, 7, "text", [], [None, 3], {}, {"type": ["Null"]}])
def test_what_nobody_can_read_raises_nothing(kind: str, value: Any) -> None:
    names = ("pipelineName", "attachment", "routes", "devices", "uplinks")
    for spec in ({name: value} for name in names):
        converted(item(kind, **spec))
    converted({"kind": kind, "spec": value})
