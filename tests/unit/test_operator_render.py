# SPDX-License-Identifier: Apache-2.0
"""Settings, raw objects and the DaemonSets of a Pipeline."""

import json
import re
from collections.abc import Set
from pathlib import Path
from typing import Any

import pytest
import yaml

from headrace_api import AttachmentType, Interface, Json, Node, Pipeline, Problem
from headrace_api.attachment import MEMBERS
from headrace_operator.render import Settings, SettingsError, class_name, daemon_sets, parse

DATAPLANE: dict[str, Any] = {"image": "headrace/dataplane:1"}


def render(
    spec: dict[str, Any] | None = None,
    name: str = "edge",
    kernel: Set[str] = frozenset(),
    **dataplane: Any,
) -> list[dict[str, Any]]:
    pipeline = Pipeline.model_validate(
        {
            "metadata": {"name": name},
            "spec": {"underlayPrefixes": ["fd00:1::/48"], "nodeSelector": {}, **(spec or {})},
        }
    )
    settings = Settings.model_validate({"dataplane": {**DATAPLANE, **dataplane}})
    found: Any = daemon_sets(pipeline, settings, 9478, "headrace-system", kernel)
    assert json.loads(json.dumps(found)) == found
    return list(found)


def pod(spec: dict[str, Any] | None = None, **dataplane: Any) -> dict[str, Any]:
    (found,) = render(spec, **dataplane)
    template: dict[str, Any] = found["spec"]["template"]["spec"]
    return template


def container(spec: dict[str, Any] | None = None, **dataplane: Any) -> dict[str, Any]:
    (found,) = pod(spec, **dataplane)["containers"]
    return dict(found)


# Settings.


def write(folder: Path, document: object) -> Path:
    path = folder / "operator.yaml"
    path.write_text(document if isinstance(document, str) else yaml.safe_dump(document))
    return path


def test_settings_have_defaults(tmp_path: Path) -> None:
    settings = Settings.load(write(tmp_path, {"dataplane": DATAPLANE}))
    assert (settings.log_level, settings.resync_seconds) == ("Info", 600)
    assert settings.owner == "headrace-operator"
    assert settings.dataplane.metrics_port == 9477
    assert settings.dataplane.service_account_name == "headrace-dataplane"


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({}, ["dataplane: required"]),
        ("", ["dataplane: required"]),
        ("[]", ["the document: ", "mapping"]),
        ("a: [", ["is not YAML"]),
        ({"dataplane": DATAPLANE, "logLevl": "Info"}, ["logLevl: no such field", "logLevel"]),
        ({"dataplane": DATAPLANE, "logLevel": "info"}, ["logLevel: ", "must be one of Debug"]),
        ({"dataplane": {**DATAPLANE, "metricsPort": 80}}, ["dataplane.metricsPort: ", "1024"]),
        (
            {"dataplane": {**DATAPLANE, "env": [{"name": "A"}, {"name": "NODE_NAME"}]}},
            ["dataplane.env[1].name: NODE_NAME belongs to the dataplane pod"],
        ),
        (
            {"dataplane": {**DATAPLANE, "labels": {"headrace.dev/pipeline": "x"}}},
            ["dataplane.labels: headrace.dev/pipeline belongs"],
        ),
        (
            {"dataplane": {**DATAPLANE, "annotations": {"headrace.dev/x": "x"}}},
            ["dataplane.annotations: headrace.dev/x belongs"],
        ),
        (
            {"dataplane": {**DATAPLANE, "volumes": [{"name": "state", "emptyDir": {}}]}},
            ["dataplane.volumes[0].name: state belongs"],
        ),
        (
            {"dataplane": {**DATAPLANE, "volumeMounts": [{"name": "x", "mountPath": "/tmp"}]}},
            ["dataplane.volumeMounts[0].mountPath: /tmp belongs"],
        ),
        (
            {"dataplane": {**DATAPLANE, "volumeMounts": [{"name": "x"}], "env": [{}]}},
            ["dataplane.volumeMounts[0].mountPath: required", "dataplane.env[0].name: required"],
        ),
    ],
)
def test_broken_settings_name_file_and_field(
    tmp_path: Path, document: object, words: list[str]
) -> None:
    path = write(tmp_path, document)
    with pytest.raises(SettingsError) as error:
        Settings.load(path)
    text = str(error.value)
    assert all(line.startswith(f"{path}: ") for line in text.splitlines())
    assert all(word in text for word in words), text


def test_settings_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none\.yaml: cannot be read: No such file"):
        Settings.load(tmp_path / "none.yaml")


# Raw objects.

RAW: Json = {
    "apiVersion": "headrace.dev/v1alpha1",
    "kind": "Interface",
    "metadata": {"name": "vm", "namespace": "ns", "uid": "1", "managedFields": [{}]},
    "spec": {
        "networkRef": {"name": "net"},
        "pipelineRef": {"name": "edge"},
        "nodeName": "a",
        "attachment": {"type": "Discard"},
    },
    "status": {"addresses": ["what", "ever"], "conditions": 5},
}


def test_a_raw_object_becomes_its_model_whatever_its_status() -> None:
    found = parse("Interface", RAW)
    assert isinstance(found, Interface)
    assert (found.key, found.spec.node_name, found.status) == ("ns/vm", "a", None)


def test_a_node_needs_its_metadata_only() -> None:
    raw: Json = {"metadata": {"name": "a", "labels": {"x": "y"}}, "spec": {}, "status": {"a": 1}}
    found = parse("Node", raw)
    assert isinstance(found, Node)
    assert found.metadata.labels == {"x": "y"}


def test_a_refused_object_gives_all_its_problems() -> None:
    spec: Json = {"subnets": [{"prefix": "10.0.0.0/24"}, {"prefix": "10.0.0.1/24"}], "mtu": 1}
    raw: Json = {"metadata": {"name": "net", "namespace": "ns"}, "spec": spec}
    found = parse("VirtualNetwork", raw)
    assert isinstance(found, tuple)
    assert all(isinstance(each, Problem) for each in found)
    assert [(p.kind, p.namespace, p.name, p.field, p.reason) for p in found] == [
        ("VirtualNetwork", "ns", "net", "spec.subnets[1].prefix", "Invalid"),
        ("VirtualNetwork", "ns", "net", "spec.mtu", "Invalid"),
    ]
    assert "the prefix is 10.0.0.0/24" in found[0].message


# DaemonSets.

OBJECT = {
    "Tap": {"deviceName": "t0"},
    "AFPacket": {"deviceName": "t0"},
    "AFXDP": {"deviceName": "t0"},
    "SRIOV": {"pciAddress": "0000:3b:02.1"},
    "Memif": {"socketPath": "/s"},
    "VhostUser": {"socketPath": "/s"},
    "VirtioUser": {"socketPath": "/s"},
    "Pcap": {"transmitFile": "/f"},
    "Pod": {"name": "p"},
}


def attachment(kind: str) -> dict[str, Any]:
    kind = AttachmentType(kind)
    return {"type": kind, **({MEMBERS[kind]: OBJECT[kind]} if kind in MEMBERS else {})}


def device(kind: str) -> dict[str, Any]:
    """An entry of spec.devices."""
    names: dict[str, Any] = {}
    if kind in ("Tap", "AFPacket", "AFXDP"):
        names = {"deviceNames": ["t*"]}
    elif kind == "SRIOV":
        names = {"pciAddresses": ["0000:3b:02.*"]}
    elif kind == "Pcap":
        names = {"directory": "/srv/captures"}
    return {"name": kind.lower(), "type": kind, **names}


PRIVILEGES: dict[str, tuple[list[str], bool, set[str]]] = {
    "SRIOV": (["IPC_LOCK"], False, set()),
    "Tap": (["NET_ADMIN"], True, {"/dev/net/tun"}),
    "AFPacket": (["NET_ADMIN", "NET_RAW"], True, set()),
    "Pod": (["NET_ADMIN", "NET_RAW"], True, set()),
    "Memif": ([], False, {"/var/lib/headrace/sockets"}),
    "VhostUser": ([], False, {"/var/lib/headrace/sockets"}),
    "VirtioUser": ([], False, {"/var/lib/headrace/sockets"}),
    "Pcap": ([], False, set()),
    "Discard": ([], False, set()),
}


@pytest.mark.parametrize("kind", PRIVILEGES)
@pytest.mark.parametrize("where", ["interface", "uplink", "override"])
def test_privileges_follow_from_the_types(kind: str, where: str) -> None:
    capabilities, host_network, paths = PRIVILEGES[kind]
    uplink: dict[str, Any] = {"name": "u", "attachment": attachment("Discard")}
    spec: dict[str, Any] = {"devices": [], "uplinks": [uplink]}
    match where:
        case "interface":
            spec["devices"] = [device(kind)]
            paths = paths | {"/srv/captures"} if kind == "Pcap" else paths
        case "uplink":
            uplink["attachment"] = attachment(kind)
        case _:
            uplink["nodeOverrides"] = [{"nodeName": "a", "attachment": attachment(kind)}]
    found = pod(spec)
    security = found["containers"][0]["securityContext"]
    assert security["capabilities"].get("add", []) == capabilities
    assert security["capabilities"]["drop"] == ["ALL"]
    assert found.get("hostNetwork", False) is host_network
    assert found.get("dnsPolicy") == ("ClusterFirstWithHostNet" if host_network else None)
    host_paths = {v["hostPath"]["path"] for v in found["volumes"] if "hostPath" in v}
    assert host_paths == paths
    mounts = {mount["mountPath"] for mount in found["containers"][0]["volumeMounts"]}
    assert mounts == {"/run/headrace/engine", "/var/lib/headrace/state", "/tmp"} | paths


def test_privileges_add_up() -> None:
    found = pod({"devices": [*map(device, PRIVILEGES)]})
    added = found["containers"][0]["securityContext"]["capabilities"]["add"]
    assert added == ["IPC_LOCK", "NET_ADMIN", "NET_RAW"]


@pytest.mark.parametrize("kind", sorted({*AttachmentType} - {*PRIVILEGES}))
def test_what_the_engine_does_not_attach_gives_no_privilege(kind: str) -> None:
    found = pod({"devices": [device(kind)]})
    assert "hostNetwork" not in found
    assert "add" not in found["containers"][0]["securityContext"]["capabilities"]


def test_every_pod_is_confined() -> None:
    security = container()["securityContext"]
    assert security["allowPrivilegeEscalation"] is False
    assert security["readOnlyRootFilesystem"] is True
    assert (security["runAsUser"], security["runAsGroup"]) == (0, 0)
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert "privileged" not in security
    found = pod()
    assert found["enableServiceLinks"] is False
    assert not {"hostPID", "hostIPC", "initContainers"} & found.keys()


FUNCTION: dict[str, Any] = {"type": "SRIOV", "sriov": {"resourceName": "intel.com/b"}}
POOL = {"name": "p", "type": "SRIOV", "resourceName": "intel.com/b", "count": 2}


@pytest.mark.parametrize(
    "spec", [{"devices": [POOL]}, {"uplinks": [{"name": "u", "attachment": FUNCTION}]}]
)
def test_functions_that_stay_with_the_kernels_driver_need_its_network(spec: dict[str, Any]) -> None:
    def security(kernel: Set[str]) -> tuple[bool, list[str]]:
        found = pod(spec, kernel=kernel)
        (only,) = found["containers"]
        added: list[str] = only["securityContext"]["capabilities"]["add"]
        assert not only["securityContext"].get("privileged")
        return found.get("hostNetwork", False), added

    assert security(frozenset()) == security({"intel.com/a"}) == (False, ["IPC_LOCK"])
    assert security({"intel.com/b"}) == (True, ["IPC_LOCK", "NET_ADMIN", "NET_RAW"])


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        ({}, {"cpu": "2", "memory": "1Gi"}),
        ({"workers": {"count": 4}, "memory": "768Mi"}, {"cpu": "5", "memory": "768Mi"}),
        ({"workers": {"shareControlCore": True}}, {"cpu": "1", "memory": "1Gi"}),
        (
            {"hugepages": {"size": "2Mi", "amount": "512Mi"}},
            {"cpu": "2", "memory": "1Gi", "hugepages-2Mi": "512Mi"},
        ),
        (
            {"hugepages": {"size": "1Gi", "amount": "2Gi"}},
            {"cpu": "2", "memory": "1Gi", "hugepages-1Gi": "2Gi"},
        ),
        (
            {
                "uplinks": [
                    {
                        "name": f"u{index}",
                        "attachment": {"type": "SRIOV", "sriov": {"resourceName": name}},
                    }
                    for index, name in enumerate(["intel.com/b", "intel.com/a", "intel.com/b"])
                ]
            },
            {"cpu": "2", "memory": "1Gi", "intel.com/a": "1", "intel.com/b": "2"},
        ),
        (
            {
                "devices": [
                    {"name": f"p{count}", "type": "SRIOV", "resourceName": name, "count": count}
                    for count, name in ((8, "intel.com/b"), (4, "intel.com/b"), (1, "intel.com/a"))
                ],
                "uplinks": [{"name": "u", "attachment": FUNCTION}],
            },
            {"cpu": "2", "memory": "1Gi", "intel.com/a": "1", "intel.com/b": "13"},
        ),
    ],
)
def test_the_pod_is_guaranteed_and_its_cpus_are_its_own(
    spec: dict[str, Any], wanted: dict[str, str]
) -> None:
    found = pod(spec)
    assert [each["resources"] for each in found["containers"]] == [
        {"requests": wanted, "limits": wanted}
    ]
    assert wanted["cpu"].isdecimal()


def test_agents_are_told_how_long_a_lease_lasts_when_it_is_not_as_usual() -> None:
    """Who leaves it as it is replaces no pod."""
    told: Json = {"name": "HEADRACE_LEASE_SECONDS", "value": "8"}
    assert container(leaseSeconds=8) == {
        **container(),
        "env": [*container()["env"], told],
    }
    assert container(leaseSeconds=40) == container()


def test_the_agent_is_told_who_it_is() -> None:
    found = container()
    assert found["command"] == ["headrace-agent"]
    args = dict(zip(found["args"][::2], found["args"][1::2], strict=True))
    assert args == {
        "--pipeline": "edge",
        "--node": "$(NODE_NAME)",
        "--namespace": "$(POD_NAMESPACE)",
        "--runtime-dir": "/run/headrace/engine",
        "--state-dir": "/var/lib/headrace/state",
        "--metrics-address": "[$(POD_IP)]:9478",
    }
    fields = {each["name"]: each["valueFrom"]["fieldRef"]["fieldPath"] for each in found["env"]}
    assert set(re.findall(r"\$\((\w+)\)", " ".join(args.values()))) <= fields.keys()
    assert fields["POD_NAME"] == "metadata.name"
    assert found["ports"] == [{"name": "metrics", "containerPort": 9478, "protocol": "TCP"}]
    assert found["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "metrics"}
    assert "livenessProbe" not in found


def test_metrics_by_tls() -> None:
    found = pod(metrics_certificate="metrics")
    (only,) = found["containers"]
    folder = only["args"][only["args"].index("--metrics-certificate") + 1]
    (mount,) = [each for each in only["volumeMounts"] if each["mountPath"] == folder]
    assert mount["readOnly"]
    (volume,) = [each for each in found["volumes"] if each["name"] == mount["name"]]
    assert volume["secret"] == {"secretName": "metrics"}
    assert only["readinessProbe"]["httpGet"]["scheme"] == "HTTPS"


def test_labels_select_the_pods_of_this_daemon_set_alone() -> None:
    (found,) = render(labels={"team": "net"}, annotations={"a": "b"})
    selector = found["spec"]["selector"]["matchLabels"]
    assert selector == {"headrace.dev/pipeline": "edge", "headrace.dev/node-class": "default"}
    template = found["spec"]["template"]["metadata"]
    labels = {
        **selector,
        "app.kubernetes.io/name": "headrace",
        "app.kubernetes.io/component": "dataplane",
        "app.kubernetes.io/managed-by": "headrace-operator",
    }
    assert found["metadata"]["labels"] == labels
    assert template == {"labels": {**labels, "team": "net"}, "annotations": {"a": "b"}}
    assert found["metadata"]["name"] == "headrace-edge"
    assert found["metadata"]["namespace"] == "headrace-system"


def test_settings_reach_the_pods() -> None:
    dataplane: dict[str, Any] = {
        "imagePullPolicy": "Always",
        "imagePullSecrets": ["pull"],
        "serviceAccountName": "sa",
        "priorityClassName": "",
        "hostDirectory": "/srv/headrace",
        "env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIP"}}}],
        "volumes": [{"name": "v", "hostPath": {"path": "/v", "type": "Directory"}}],
        "volumeMounts": [{"name": "v", "mountPath": "/v", "readOnly": True}],
    }
    found = pod({"devices": [device("Memif")]}, **dataplane)
    (inside,) = found["containers"]
    assert (inside["image"], inside["imagePullPolicy"]) == ("headrace/dataplane:1", "Always")
    assert found["imagePullSecrets"] == [{"name": "pull"}]
    assert found["serviceAccountName"] == "sa"
    assert "priorityClassName" not in found
    assert inside["env"][-1] == dataplane["env"][0]
    assert found["volumes"][-1] == dataplane["volumes"][0]
    assert inside["volumeMounts"][-1] == dataplane["volumeMounts"][0]
    sockets = {"name": "sockets", "mountPath": "/srv/headrace/sockets"}
    assert sockets in inside["volumeMounts"]


def test_the_pipeline_says_where_and_how() -> None:
    toleration = {"key": "dedicated", "operator": "Exists", "effect": "NoSchedule"}
    (found,) = render(
        {
            "nodeSelector": {"matchLabels": {"role": "edge"}},
            "tolerations": [toleration],
            "updateStrategy": {"maxUnavailable": 3},
            "image": "mine:2",
        }
    )
    template = found["spec"]["template"]["spec"]
    assert template["nodeSelector"] == {"role": "edge"}
    startup = {"key": "headrace.dev/agent-not-ready", "operator": "Exists"}
    assert template["tolerations"] == [startup, toleration]
    assert template["priorityClassName"] == "system-node-critical"
    assert template["containers"][0]["image"] == "mine:2"
    assert "affinity" not in template
    rolling = {"maxUnavailable": 3, "maxSurge": 0}
    assert found["spec"]["updateStrategy"] == {"type": "RollingUpdate", "rollingUpdate": rolling}
    assert found["spec"]["minReadySeconds"] > 0
    (found,) = render({"updateStrategy": {"type": "OnDelete"}})
    assert found["spec"]["updateStrategy"] == {"type": "OnDelete"}


def terms(item: dict[str, Any]) -> Any:
    affinity = item["spec"]["template"]["spec"]["affinity"]["nodeAffinity"]
    (term,) = affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    return term["matchExpressions"]


def test_pods_are_on_the_nodes_that_the_pipeline_selects() -> None:
    zone = {"key": "zone", "operator": "In", "values": ["a", "b"]}
    # As the API server gives it back: without what is empty.
    bare = {"key": "gpu", "operator": "DoesNotExist"}
    selector = {"matchLabels": {"role": "edge"}, "matchExpressions": [zone, bare]}
    (found,) = render({"nodeSelector": selector})
    assert found["spec"]["template"]["spec"]["nodeSelector"] == {"role": "edge"}
    assert terms(found) == [zone, bare]
    classes = {"nodeClassLabel": "size", "nodeClasses": [{"value": "large"}]}
    others, large = render({"nodeSelector": selector, **classes})
    assert terms(others) == [zone, bare, {"key": "size", "operator": "NotIn", "values": ["large"]}]
    assert terms(large) == [zone, bare, {"key": "size", "operator": "In", "values": ["large"]}]
    (found,) = render({"nodeSelector": {}})
    assert not {"nodeSelector", "affinity"} & found["spec"]["template"]["spec"].keys()
    # Absent: none.
    assert render({"nodeSelector": None}) == []


def test_every_class_of_nodes_has_a_daemon_set() -> None:
    found = render(
        {
            "memory": "2Gi",
            "nodeClassLabel": "size",
            "nodeClasses": [{"value": "large", "workers": {"count": 8}}, {"value": "small"}],
        }
    )
    assert [terms(item) for item in found] == [
        [{"key": "size", "operator": "NotIn", "values": ["large", "small"]}],
        [{"key": "size", "operator": "In", "values": ["large"]}],
        [{"key": "size", "operator": "In", "values": ["small"]}],
    ]
    limits = [
        item["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"] for item in found
    ]
    assert [limit["cpu"] for limit in limits] == ["2", "9", "2"]
    assert {limit["memory"] for limit in limits} == {"2Gi"}
    classes = [item["spec"]["selector"]["matchLabels"]["headrace.dev/node-class"] for item in found]
    assert classes == ["default", "large", "small"]


NAME = re.compile(r"^[a-z0-9]([-a-z0-9]{0,55}[a-z0-9])?$")


def test_names_of_daemon_sets_stay_apart_and_within_limits() -> None:
    assert class_name("edge", None) == "headrace-edge"
    assert class_name("edge", "large").startswith("headrace-edge-large-")
    pairs: list[tuple[str, str | None]] = [
        (pipeline, value)
        for pipeline in ("a", "a-b", "a-b-c", "p" * 63, "p" * 62 + "q", "a-" * 31 + "a", "node")
        for value in (None, "b", "b-c", "c", "B", "b_c", "b.c", "V" * 63, "V" * 62 + "v", "-", "_")
    ]
    names = {class_name(*pair) for pair in pairs}
    assert len(names) == len(pairs)
    # The chart's node agent.
    assert "headrace-node" not in names
    assert all(NAME.match(name) for name in names), names


def test_the_same_pipeline_renders_the_same() -> None:
    first = {"devices": [*map(device, ("Tap", "Pcap", "Memif"))], "workers": {"count": 2}}
    second = {"workers": {"count": 2}, "devices": [*map(device, ("Memif", "Pcap", "Tap"))]}
    assert json.dumps(render(first), sort_keys=True) == json.dumps(render(second), sort_keys=True)
