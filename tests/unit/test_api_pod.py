# SPDX-License-Identifier: Apache-2.0
"""What people write about a pod's networks, and the names that follow from it."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from headrace_api import (
    Interface,
    Pod,
    pod_device,
    pod_interface_name,
    pod_interfaces,
    pod_mac,
    pod_networks,
)
from headrace_api.base import LABEL_PATTERN
from headrace_api.pod import PodNetworksError
from headrace_api.types import MacAddress


def test_networks_are_named_in_short() -> None:
    found = pod_networks(" blue, red ")
    assert [(item.network, item.device, item.addresses) for item in found] == [
        ("blue", "net1", ()),
        ("red", "net2", ()),
    ]


def test_networks_are_given_in_full() -> None:
    (first, second) = pod_networks(
        '[{"network": "blue", "addresses": ["10.0.0.5"], "pipeline": "edge", "device": "x0",'
        ' "defaultRoute": true}, {"network": "red"}]'
    )
    assert first.to_dict() == {
        "network": "blue",
        "addresses": ["10.0.0.5"],
        "pipeline": "edge",
        "device": "x0",
        "defaultRoute": True,
    }
    assert (second.device, second.pipeline, second.default_route) == ("net2", None, False)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "at least 1"),
        (" , ", "at least 1"),
        ("Blue", r"\[0\].network: 'Blue'"),
        ("a/b", r"\[0\].network"),
        ("blue,blue", "network blue is listed twice"),
        (",".join(f"n{number}" for number in range(17)), "at most 16"),
        ("[", "is not JSON"),
        ("[]", "at least 1"),
        ('{"network": "blue"}', "must be a list"),
        ("[1]", "must be a mapping"),
        ('[{"network": "blue", "adresses": []}]', "did you mean addresses"),
        ('[{"network": "blue", "device": "eth0"}]', "the pod's own device"),
        ('[{"network": "blue", "device": "sixteenletters00"}]', "at most 15"),
        ('[{"network": "a", "device": "net2"}, {"network": "b"}]', "device net2 is listed twice"),
        ('[{"network": "blue", "addresses": ["10.0.0.5/24"]}]', "without a prefix length"),
        ("[" * 100_000, "JSON"),
    ],
)
def test_what_is_wrong_with_an_annotation_is_said(text: str, words: str) -> None:
    with pytest.raises(PodNetworksError, match=words):
        pod_networks(text)


@given(st.text(max_size=60))
def test_any_text_is_networks_or_an_error(text: str) -> None:
    try:
        assert pod_networks(text)
    except PodNetworksError as error:
        assert str(error)


def test_names_of_interfaces_are_labels_and_unique() -> None:
    assert pod_interface_name("web-0", "blue") == "web-0-blue"
    pairs = [("a" * 60, "blue"), ("a" * 60, "blud"), ("a.b", "c"), ("a" * 253, "b" * 63)]
    names = [pod_interface_name(*pair) for pair in pairs]
    assert len({*names}) == len(pairs)
    assert all(re.fullmatch(LABEL_PATTERN, name) for name in names)


def test_a_device_of_a_node_is_named_after_the_interface() -> None:
    assert re.fullmatch(r"hr[0-9a-f]{12}", pod_device("default/web-0-blue"))
    assert pod_device("a/b") != pod_device("a/c")


def test_a_mac_address_is_made_of_the_interface_s_name() -> None:
    """Devices of running pods have it: it may not be another in a later release."""
    assert pod_mac("default/web-0-blue") == "02:54:5a:87:70:72"
    assert pod_mac("a/b") != pod_mac("a/c")


@given(st.text())
def test_a_made_mac_address_is_one_host_s_and_locally_administered(key: str) -> None:
    mac = pod_mac(key)
    assert TypeAdapter(MacAddress).validate_python(mac) == mac
    assert int(mac[:2], 16) & 0b11 == 0b10


def spec(**more: Any) -> Any:
    attachment = {"type": "Pod", "pod": {"name": "web-0", **more}}
    return {
        "metadata": {"name": "web", "namespace": "ns"},
        "spec": {
            "networkRef": {"name": "blue"},
            "pipelineRef": {"name": "router"},
            "attachment": attachment,
        },
    }


def test_an_interface_of_a_pod_names_no_node() -> None:
    item = Interface.model_validate(spec())
    assert item.spec.node_name is None
    assert item.spec.attachment.pod is not None
    assert item.spec.attachment.pod.device_name == "net1"
    named = spec()
    named["spec"]["nodeName"] = "a"
    with pytest.raises(ValidationError, match="it is the pod's node"):
        Interface.model_validate(named)


def test_every_other_interface_names_its_node() -> None:
    item = spec()
    item["spec"]["attachment"] = {"type": "Discard"}
    with pytest.raises(ValidationError, match="required, but not given"):
        Interface.model_validate(item)


@pytest.mark.parametrize("name", ["eth0", "lo"])
def test_the_pods_own_devices_stay_its_own(name: str) -> None:
    with pytest.raises(ValidationError, match="the pod's own device"):
        Interface.model_validate(spec(deviceName=name))


def test_a_pod_is_where_it_is_until_it_completes() -> None:
    metadata = {"name": "web", "namespace": "ns"}
    waiting = Pod.model_validate({"metadata": metadata, "spec": {"containers": []}})
    assert (waiting.key, waiting.node, waiting.completed) == ("ns/web", None, False)
    done = Pod.model_validate(
        {"metadata": metadata, "spec": {"nodeName": "a"}, "status": {"phase": "Failed"}}
    )
    assert (done.node, done.completed) == ("a", True)


def test_a_pods_annotations_name_its_interfaces() -> None:
    assert pod_interfaces("web", {"other": "x"}) == ()
    names = {"headrace.dev/networks": "blue, red", "headrace.dev/interfaces": "kept, web-red,b"}
    assert pod_interfaces("web", names) == ("web-blue", "web-red", "kept", "b")


@pytest.mark.parametrize(
    "text", ["", ",", "a b", "A", "-a", "a" * 64, ",".join("abcdefghijklmnopq")]
)
def test_wrong_names_of_interfaces_are_told(text: str) -> None:
    with pytest.raises(
        PodNetworksError, match=r"^annotation headrace.dev/interfaces: .*: write 1 to"
    ):
        pod_interfaces("web", {"headrace.dev/interfaces": text})
