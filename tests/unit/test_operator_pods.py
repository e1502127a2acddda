# SPDX-License-Identifier: Apache-2.0
"""From the annotations of a pod to its Interfaces."""

from typing import Any

import pytest

from headrace_api import Interface, Json
from headrace_operator import pods
from headrace_operator.objects import slim
from headrace_operator.pods import PodError, is_annotated, is_kept, pod_key
from headrace_operator.render import parse

READY = "PodReadyToStartContainers"
SET: Json = {
    "apiVersion": "apps/v1",
    "kind": "StatefulSet",
    "name": "web",
    "uid": "set-uid",
    "controller": True,
    "blockOwnerDeletion": True,
}


def pod(name: str = "web-0", owner: Json | None = SET, **more: Any) -> dict[str, Any]:
    """A pod as the operator remembers it; `networks`, `keep_addresses`, `phase`, `spec`."""
    names = {"networks": "networks", "keep_addresses": "keep-addresses"}
    return slim(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": name,
                "namespace": "ns",
                "uid": "pod-uid",
                "resourceVersion": "7",
                "labels": {"app": "web"},
                "annotations": {
                    "other": "x",
                    **{f"headrace.dev/{names[key]}": more[key] for key in names if key in more},
                },
                "ownerReferences": [owner] if owner else [],
            },
            "spec": {"nodeName": "a", "containers": [{"name": "c"}], **more.get("spec", {})},
            "status": {"phase": more.get("phase", "Running"), "podIP": "192.0.2.1"},
        }
    )


def interfaces(pod: Json) -> dict[str, Any]:
    return {**pods.interfaces(pod, lambda _key: "router")}


def test_little_is_remembered_of_a_pod() -> None:
    found = pod(networks="blue")
    assert found == {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "web-0",
            "namespace": "ns",
            "uid": "pod-uid",
            "resourceVersion": "7",
            "annotations": {"headrace.dev/networks": "blue"},
            "ownerReferences": [SET],
        },
        "spec": {"nodeName": "a"},
        "status": {"phase": "Running"},
    }
    assert "annotations" not in pod()["metadata"]
    assert slim(found) == found


def test_a_pod_gets_an_interface_in_each_network() -> None:
    found = interfaces(pod(networks="blue,red"))
    assert list(found) == ["ns/web-0-blue", "ns/web-0-red"]
    item = found["ns/web-0-blue"]
    assert item["metadata"] == {
        "name": "web-0-blue",
        "namespace": "ns",
        "labels": {
            "app.kubernetes.io/managed-by": "headrace-operator",
            "headrace.dev/pod": "web-0",
        },
        "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "web-0", "uid": "pod-uid"}],
    }
    assert isinstance(parse("Interface", item), Interface)
    assert pod_key(item) == "ns/web-0"
    assert not is_kept(item)


def test_what_is_made_says_everything() -> None:
    """So that a comparison with what is there misses nothing that was taken away."""
    (item,) = interfaces(pod(networks="blue")).values()
    assert item["spec"] == {
        "networkRef": {"name": "blue"},
        "pipelineRef": {"name": "router"},
        "addresses": [],
        "prefixes": [],
        "sourceCheck": "Enabled",
        "attachment": {
            "type": "Pod",
            "pod": {"name": "web-0", "deviceName": "net1", "defaultRoute": False},
        },
    }


def test_the_annotation_names_the_pipeline() -> None:
    asked = '[{"network": "blue", "pipeline": "edge"}, {"network": "red"}]'
    found = interfaces(pod(networks=asked))
    named = [item["spec"]["pipelineRef"]["name"] for item in found.values()]
    assert named == ["edge", "router"]


@pytest.mark.parametrize(
    ("owner", "keep", "kind"),
    [
        (SET, "true", "StatefulSet"),
        (SET, "false", "Pod"),
        ({**SET, "kind": "ReplicaSet"}, "true", "Pod"),
        ({**SET, "controller": False}, "true", "Pod"),
        (None, "true", "Pod"),
    ],
)
def test_a_stateful_set_may_own_it(owner: Json | None, keep: str, kind: str) -> None:
    (item,) = interfaces(pod(owner=owner, networks="blue", keep_addresses=keep)).values()
    (found,) = item["metadata"]["ownerReferences"]
    assert found["kind"] == kind
    assert is_kept(item) is (kind == "StatefulSet")


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_completed_pod_gets_none(phase: str) -> None:
    assert interfaces(pod(networks="blue", phase=phase)) == {}


def test_a_pod_that_asks_for_nothing_gets_none() -> None:
    assert interfaces(pod()) == {}
    assert not is_annotated(pod())
    assert is_annotated(pod(networks=""))


@pytest.mark.parametrize(
    ("more", "reason", "words"),
    [
        ({"networks": "Blue"}, "InvalidAnnotation", r"headrace.dev/networks: \[0\].network"),
        ({"networks": ""}, "InvalidAnnotation", "at least 1"),
        (
            {"networks": "blue", "keep_addresses": "yes"},
            "InvalidAnnotation",
            "headrace.dev/keep-addresses: 'yes': write true or false",
        ),
        ({"networks": "blue", "spec": {"hostNetwork": True}}, "HostNetwork", "no devices"),
    ],
)
def test_what_is_wrong_with_a_pod_is_said(more: Any, reason: str, words: str) -> None:
    with pytest.raises(PodError, match=words) as caught:
        interfaces(pod(**more))
    assert caught.value.reason == reason


def test_a_long_name_has_no_label() -> None:
    (item,) = interfaces(pod("p" * 64, networks="blue")).values()
    assert "headrace.dev/pod" not in item["metadata"]["labels"]
    assert isinstance(parse("Interface", item), Interface)


def test_the_interface_of_a_static_pod_knows_the_uid_that_its_node_knows() -> None:
    mirror = pod(networks="blue", owner=None)
    mirror["metadata"]["annotations"]["kubernetes.io/config.mirror"] = "uid-on-the-node"
    (item,) = interfaces(slim(mirror)).values()
    assert item["metadata"]["annotations"] == {"headrace.dev/static-pod-uid": "uid-on-the-node"}
    assert item["metadata"]["ownerReferences"][0]["uid"] == "pod-uid"


@pytest.mark.parametrize(
    ("status", "plugged"),
    [
        ({"phase": "Running"}, True),
        ({"phase": "Pending"}, False),
        ({"phase": "Running", "conditions": [{"type": "Ready", "status": "False"}]}, True),
        ({"phase": "Running", "conditions": [{"type": READY, "status": "True"}]}, True),
        # Its node was rebooted: what it had is gone, and it has nothing new yet.
        ({"phase": "Running", "conditions": [{"type": READY, "status": "False"}]}, False),
    ],
)
def test_a_pod_that_runs_gets_no_more_devices(status: Any, plugged: bool) -> None:
    assert pods.is_plugged(slim({**pod(networks="blue"), "status": status})) == plugged


def test_a_pod_names_its_interfaces() -> None:
    item = pod(networks="blue,red")
    item["metadata"]["annotations"]["headrace.dev/interfaces"] = "kept"
    assert pods.interface_keys(slim(item)) == ("ns/web-0-blue", "ns/web-0-red", "ns/kept")
    assert pods.interface_keys(pod(networks="[{}]")) == ()
    assert pods.interface_keys(pod()) == ()
