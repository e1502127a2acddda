# SPDX-License-Identifier: Apache-2.0
"""The CRDs at a real API server: what it takes, what it refuses and how it says so."""

import copy
import json
import re
from collections.abc import Iterator
from typing import cast

import pytest
import yaml

from headrace_api import Json
from headrace_cli.errors import CommandError
from tests.cluster.cluster import REPOSITORY, Api

pytestmark = pytest.mark.usefixtures("crds")

EXAMPLES = sorted((REPOSITORY / "deploy/examples").glob("*/*.yaml"))
GOOD: dict[str, Json] = {
    "VirtualNetwork": {
        "vni": 100,
        "subnets": [{"prefix": "10.0.0.0/24", "gateway": "10.0.0.1"}, {"prefix": "fd00:10::/64"}],
        "routes": [
            {"prefix": "192.0.2.0/24", "blackhole": True},
            {"prefix": "0.0.0.0/0", "nextHops": [{"endpointRef": {"name": "edge"}, "weight": 3}]},
        ],
    },
    "Interface": {
        "networkRef": {"name": "blue"},
        "pipelineName": "router",
        "nodeName": "node-a",
        "addresses": ["10.0.0.2", "fd00:10::2"],
        "attachment": {"type": "AFPacket", "afPacket": {"deviceName": "eth1"}},
    },
    "Pipeline": {
        "underlayPrefix": "fd00:1::/48",
        "nodeClassLabel": "size",
        "nodeClasses": [{"value": "large", "workers": {"count": 8}}],
        "hugepages": {"size": "2Mi", "amount": "64Mi"},
        "allowedNamespaces": {
            "matchLabels": {"net": "tenant"},
            "matchExpressions": [{"key": "env", "operator": "NotIn", "values": ["test"]}],
        },
        "devices": [
            {
                "name": "lab",
                "type": "AFPacket",
                "deviceNames": ["lab-*", "eth?"],
                "namespaceSelector": {"matchLabels": {"team": "lab"}},
            },
            {"name": "captures", "type": "Pcap", "directory": "/srv/captures"},
        ],
        "uplinks": [
            {
                "name": "uplink0",
                "attachment": {"type": "SRIOV", "sriov": {"resourceName": "example.com/vf"}},
                "gateway": "fe80::1",
            }
        ],
    },
    "UnderlayEndpoint": {
        "address": "fd99::5",
        "encapsulation": {"type": "IPInIPv6"},
        "namespaceSelector": {"matchLabels": {"net": "tenant"}},
        "networkSelector": {},
    },
    "DataplaneConfig": {
        "pipelineName": "router",
        "nodeName": "node-a",
        "workers": {"count": 1},
        "underlayPrefix": "fd00:1:0:1::/64",
        "underlayAddress": "fd00:1:0:1::",
    },
    "RouteSlice": {
        "network": "default/blue",
        "vni": 100,
        "routes": [{"prefix": "10.0.0.2/32", "nextHops": [{"underlayAddress": "fd00:1:0:1::1"}]}],
    },
}
CLUSTER_WIDE = {"Pipeline", "UnderlayEndpoint"}
# Kind, path of the field that is changed, its value, and what the refusal says.
BAD = [
    ("VirtualNetwork", "subnets", [], "spec.subnets: .* at least 1 items"),
    ("VirtualNetwork", "subnets/0/prefix", "10.0.0.7/24", r"spec.subnets\[0\].*host bits"),
    ("VirtualNetwork", "subnets/0", {"prefix": "10.0.0.0/7"}, "length of at least 8 for IPv4"),
    ("VirtualNetwork", "subnets/1/prefix", "fc00::/15", "at least 8 for IPv4, 16 for IPv6"),
    *(
        ("VirtualNetwork", "subnets/1/prefix", prefix, r"spec.subnets\[1\].prefix: .*must not")
        for prefix in ("::/64", "::/16", "::/127", "fe80::/64", "febf::/16", "ff00::/16")
    ),
    *(
        ("VirtualNetwork", "subnets/1/prefix", prefix, r"spec.subnets\[1\].prefix: .*class E")
        for prefix in ("240.1.0.0/24", "0.1.0.0/16", "0.0.0.0/31", "255.255.255.254/31")
    ),
    ("VirtualNetwork", "subnets/1/prefix", "::ffff:10.0.0.0/120", r"spec.subnets\[1\].prefix"),
    ("VirtualNetwork", "routes/0/prefix", "127.0.0.0/16", r"spec.routes\[0\].prefix: .*loopback"),
    ("VirtualNetwork", "routes/0/prefix", "fe80::/10", r"spec.routes\[0\].prefix: .*link-local"),
    ("UnderlayEndpoint", "address", "fe80::5", "spec.address: .*link-local"),
    ("UnderlayEndpoint", "encapsulation/type", "Geneve", "spec.encapsulation.type.*IPInIPv6"),
    ("VirtualNetwork", "subnets/0/gateway", "10.0.1.1", r"spec.subnets\[0\].*gateway must be"),
    ("VirtualNetwork", "vni", 1 << 24, "spec.vni: .*16777215"),
    ("VirtualNetwork", "routes/0/nextHops", [{}], r"spec.routes\[0\].*exactly one of blackhole"),
    (
        "VirtualNetwork",
        "routes/1/nextHops/0/networkRef",
        {"name": "red"},
        r"spec.routes\[1\].nextHops\[0\].*exactly one of interfaceRef",
    ),
    ("Interface", "addresses/0", "10.0.0.2/24", r"spec.addresses\[0\].*IPv4 or IPv6 address"),
    *(
        ("Interface", "addresses/0", address, r"spec.addresses\[0\]: .*address of a host")
        for address in ("240.0.0.1", "0.0.0.1", "127.0.0.1", "224.0.0.1", "255.255.255.255")
    ),
    *(
        ("Interface", "addresses/0", address, r"spec.addresses\[0\]: .*address of a host")
        for address in ("::", "::1", "fe80::1", "febf::1", "ff02::1")
    ),
    ("Interface", "addresses/0", "::ffff:10.0.0.1", r"spec.addresses\[0\]: .*IPv4 or IPv6"),
    ("Interface", "prefixes", ["224.0.0.0/4"], r"spec.prefixes\[0\]: .*multicast"),
    ("Interface", "macAddress", "01:00:00:00:00:01", "spec.macAddress"),
    ("Interface", "mtu", 500, "spec.mtu: .*1280"),
    ("Interface", "nodeName", "Node_1", "spec.nodeName"),
    ("Interface", "attachment/type", "Magic", "spec.attachment.type: .*supported values"),
    ("Interface", "attachment/type", "Tap", "spec.attachment: .*tap is required when type is Tap"),
    ("Interface", "attachment/tap", {"deviceName": "t"}, "spec.attachment: .*tap .* forbidden"),
    ("Interface", "unheard", "of", 'unknown field "spec.unheard"'),
    ("Pipeline", "underlayPrefix", "fd00:1::/65", "spec.underlayPrefix"),
    ("Pipeline", "underlayPrefix", "10.0.0.0/8", "spec.underlayPrefix"),
    *(
        ("Pipeline", "underlayPrefix", prefix, "spec.underlayPrefix: .*must not")
        for prefix in ("::/64", "::/48", "fe80::/48", "ff00::/48")
    ),
    ("Pipeline", "underlayPrefix", "fc00::/7", "spec.underlayPrefix: .*length 8 to 64"),
    ("Pipeline", "uplinks/0/gateway", "::1", r"spec.uplinks\[0\].gateway: .*address of a host"),
    ("Pipeline", "uplinks/0/onLinkPrefixes", ["fd00::/64"] * 2, "every item once"),
    ("Pipeline", "workers", {"count": 0}, "spec.workers.count: .*greater than or equal to 1"),
    *(
        (
            "Pipeline",
            "limits",
            {"waitingPacketsPerNamespace": number},
            f"spec.limits.*equal to {end}",
        )
        for number, end in ((0, 1), (65537, 65536))
    ),
    ("Pipeline", "hugepages/amount", "64MB", "spec.hugepages.amount"),
    ("Pipeline", "uplinks/0/gateway", "192.0.2.1", r"spec.uplinks\[0\].gateway: .*IPv6 address"),
    (
        "Pipeline",
        "uplinks/0/attachment/sriov/pciAddress",
        "0000:3b:02.1",
        r"spec.uplinks\[0\].attachment.sriov: .*exactly one of pciAddress and resourceName",
    ),
    ("Pipeline", "nodeClassLabel", None, "spec: .*nodeClassLabel is required with nodeClasses"),
    ("Pipeline", "devices/1/name", "lab", r"spec.devices\[1\]: Duplicate value"),
    ("Pipeline", "devices/0/deviceNames", None, r"spec.devices\[0\]: .*deviceNames is required"),
    (
        "Pipeline",
        "devices/1/deviceNames",
        ["lab0"],
        r"spec.devices\[1\]: .*deviceNames .*forbidden",
    ),
    ("Pipeline", "devices/1/directory", "/srv/../etc", r"spec.devices\[1\].directory"),
    (
        "Pipeline",
        "allowedNamespaces/matchExpressions/0/values",
        None,
        "spec.allowedNamespaces.matchExpressions.0.: .*values is required",
    ),
    (
        "Interface",
        "attachment",
        {"type": "Memif", "memif": {"secret": "s"}},
        "unknown field .*secret",
    ),
]
IMMUTABLE = [
    ("VirtualNetwork", "vni", 101, "spec: .*vni is immutable"),
    ("VirtualNetwork", "vni", None, "spec: .*vni is immutable"),
    ("Interface", "networkRef/name", "red", "spec.networkRef: .*networkRef is immutable"),
    ("Pipeline", "underlayPrefix", "fd00:2::/48", "underlayPrefix is immutable"),
]
COLUMNS = {
    "vnet": ["NAME", "VNI", "READY", "REASON", "AGE"],
    "ifc": ["NAME", "NETWORK", "NODE", "TYPE", "READY", "REASON", "AGE"],
    "pl": ["NAME", "NODES", "READY NODES", "UNDERLAY", "READY", "REASON", "AGE"],
    "uep": ["NAME", "ADDRESS", "ENCAPSULATION", "READY", "REASON", "AGE"],
    "dpc": ["NAME", "PIPELINE", "NODE", "READY", "REASON", "AGE"],
    "rsl": ["NAME", "NETWORK", "VNI", "AGE"],
}
KIND_OF = dict(zip(COLUMNS, GOOD, strict=True))


def example(kind: str, namespace: str, name: str = "") -> Json:
    """A good object; those of the cluster are named after the namespace of their test."""
    metadata: Json = {"name": name or namespace}
    if kind not in CLUSTER_WIDE:
        metadata["namespace"] = namespace
    return {
        "apiVersion": "headrace.dev/v1alpha1",
        "kind": kind,
        "metadata": metadata,
        "spec": copy.deepcopy(GOOD[kind]),
    }


def changed(item: Json, path: str, value: object) -> Json:
    """The object with a field of its spec set, or removed if the value is None."""
    *parents, last = (int(word) if word.isdigit() else word for word in path.split("/"))
    target = cast("dict[str | int, object]", item["spec"])
    for word in parents:
        target = cast("dict[str | int, object]", target[word])
    if value is None:
        del target[last]
    else:
        target[last] = value
    return item


def apply(api: Api, *items: Json, dry_run: bool = False) -> str:
    words = ("--dry-run=server",) if dry_run else ()
    text = "\n---\n".join(json.dumps(item) for item in items)
    return api.kubectl("apply", "--server-side", *words, "-f", "-", stdin=text)


@pytest.fixture
def objects(api: Api, api_namespace: str) -> Iterator[dict[str, Json]]:
    """One good object of each kind, at the API server."""
    made = {kind: example(kind, api_namespace) for kind in GOOD}
    apply(api, *made.values())
    yield made
    api.kubectl("delete", "pipeline", api_namespace)


def test_the_examples_are_good(api: Api, api_namespace: str) -> None:
    for path in EXAMPLES:
        items = [cast(Json, item) for item in yaml.safe_load_all(path.read_text())]
        for item in items:
            metadata = cast(Json, item["metadata"])
            if "namespace" in metadata:
                metadata["namespace"] = api_namespace
        assert apply(api, *items, dry_run=True).count("serverside-applied") == len(items)


@pytest.mark.parametrize("kind", GOOD)
def test_a_fresh_object_is_in_progress(
    api: Api, api_namespace: str, objects: dict[str, Json], kind: str
) -> None:
    words = ("get", kind, cast(str, cast(Json, objects[kind]["metadata"])["name"]))
    found = json.loads(api.kubectl(*words, "-n", api_namespace, "-o", "json"))
    if kind == "RouteSlice":
        assert "status" not in found
        return
    ready = {each["type"]: each for each in found["status"]["conditions"]}["Ready"]
    assert (ready["status"], ready["reason"]) == ("Unknown", "Pending")
    assert "observedGeneration" not in found["status"]


@pytest.mark.parametrize(("kind", "path", "value", "message"), BAD)
def test_bad_objects_are_refused_by_field(
    api: Api, kind: str, path: str, value: object, message: str
) -> None:
    item = changed(example(kind, "default"), path, value)
    with pytest.raises(CommandError) as refusal:
        api.kubectl("create", "--dry-run=server", "-f", "-", stdin=json.dumps(item))
    assert re.search(message, str(refusal.value), re.DOTALL)


@pytest.mark.parametrize("kind", ["VirtualNetwork", "Interface", "Pipeline"])
def test_names_are_labels(api: Api, kind: str) -> None:
    with pytest.raises(CommandError, match="the name must be an RFC 1123 label"):
        apply(api, example(kind, "default", "a.b"), dry_run=True)


@pytest.mark.parametrize(("kind", "path", "value", "message"), IMMUTABLE)
def test_some_fields_are_immutable(
    api: Api, objects: dict[str, Json], kind: str, path: str, value: object, message: str
) -> None:
    apply(api, objects[kind])
    with pytest.raises(CommandError, match=message):
        apply(api, changed(objects[kind], path, value), dry_run=True)


@pytest.mark.parametrize("short", COLUMNS)
def test_columns(api: Api, api_namespace: str, objects: dict[str, Json], short: str) -> None:
    heading, *rows = api.kubectl("get", short, "-n", api_namespace).splitlines()
    assert re.split(r"\s{2,}", heading.strip()) == COLUMNS[short]
    assert any(row.startswith(api_namespace) for row in rows)


def test_the_category_names_them_all(
    api: Api, api_namespace: str, objects: dict[str, Json]
) -> None:
    found = api.kubectl("get", "headrace", "-n", api_namespace, "-o", "name").splitlines()
    kinds = {line.partition(".")[0] for line in found if line.endswith(f"/{api_namespace}")}
    assert kinds == {kind.lower() for kind in objects}
