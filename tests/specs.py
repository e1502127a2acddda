# SPDX-License-Identifier: Apache-2.0
"""Good and bad specs of every kind: what the API server is asked, the models are asked, too."""

import copy
from typing import Any, cast

from headrace_api import Json
from headrace_api.kinds import KINDS


def slice_spec(network: str, *routes: object, vni: int = 100) -> Any:
    """Spec of a Slice with these routes of a network, which is namespace/name."""
    namespace, _, name = network.partition("/")
    return {
        "type": "Routes",
        "owner": {"kind": "VirtualNetwork", "namespace": namespace, "name": name},
        "vni": vni,
        "entries": [*routes],
    }


GOOD: dict[str, Json] = {
    "VirtualNetwork": {
        "vni": 100,
        "dscp": 46,
        "subnets": [{"prefix": "10.0.0.0/24", "gateway": "10.0.0.1"}, {"prefix": "fd00:10::/64"}],
        "routes": [
            {"prefix": "192.0.2.0/24", "action": "Drop"},
            {"prefix": "0.0.0.0/0", "nextHops": [{"endpointRef": {"name": "edge"}, "weight": 3}]},
        ],
    },
    "Interface": {
        "networkRef": {"name": "blue"},
        "pipelineRef": {"name": "router"},
        "nodeName": "node-a",
        "addresses": ["10.0.0.2", "fd00:10::2"],
        "attachment": {"type": "AFPacket", "afPacket": {"deviceName": "eth1"}},
    },
    "Pipeline": {
        "underlayPrefixes": ["fd00:1::/48"],
        "nodeSelector": {"matchExpressions": [{"key": "zone", "operator": "Exists"}]},
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
            {
                "name": "vfs",
                "type": "SRIOV",
                "resourceName": "example.com/vf",
                "count": 8,
                "vlans": ["100", "200-299", "4094"],
                "endpointVLANs": ["3000-3999"],
            },
        ],
        "uplinks": [
            {
                "name": "uplink0",
                "attachment": {"type": "SRIOV", "sriov": {"resourceName": "example.com/vf"}},
                "gateway": "fe80::1",
            },
            {
                "name": "uplink1",
                "attachment": {"type": "SRIOV", "sriov": {"resourceName": "example.com/vf"}},
                "nodeOverrides": [
                    {
                        "nodeName": "node-a",
                        "attachment": {"type": "SRIOV", "sriov": {"pciAddress": "0000:3b:00.2"}},
                    }
                ],
            },
        ],
    },
    "UnderlayEndpoint": {
        "address": "fd99::5",
        "encapsulation": {"type": "IPInIPv6"},
        "namespaceSelector": {"matchLabels": {"net": "tenant"}},
        "networkSelector": {},
    },
    "DevicePolicy": {
        "nodeSelector": {"matchLabels": {"net": "sriov"}},
        "nicSelector": {"vendorIDs": ["8086"], "names": ["ens1f0#0-3", "ens1f1"]},
        "vfs": 8,
        "resourceName": "headrace.dev/e810",
        "mtu": 9000,
        "settings": {"spoofCheck": False, "maxRateMbits": 10000},
    },
    "DataplaneConfig": {
        "pipelineName": "router",
        "nodeName": "node-a",
        "workers": {"count": 1},
        "underlayPrefix": "fd00:1:0:1::/64",
        "underlayAddress": "fd00:1:0:1::",
    },
    "Slice": slice_spec(
        "default/blue",
        {"prefix": "10.0.0.2/32", "nextHops": [{"underlayAddress": "fd00:1:0:1::1"}]},
    ),
    "NodeState": {
        "nodeName": "node-a",
        "policies": [
            {
                "name": "e810",
                "generation": 1,
                "nicSelector": {"vendorIDs": ["8086"]},
                "vfs": 8,
                "driver": "vfio-pci",
                "externallyManaged": False,
                "settings": {},
            }
        ],
        "dataplanes": [
            {
                "pipeline": "router",
                "workers": 1,
                "shareControlCore": False,
                "mtu": 1500,
                "resourceNames": [],
            }
        ],
    },
}
CLUSTER_WIDE = {"Pipeline", "UnderlayEndpoint", "DevicePolicy", "NodeState"}
_VERSIONS = {kind.kind_name(): kind.version() for kind in KINDS}
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
    ("VirtualNetwork", "dscp", 64, "spec.dscp: .*63"),
    ("VirtualNetwork", "dscp", -1, "spec.dscp: .*0"),
    ("VirtualNetwork", "subnets/1/prefix", "10.0.0.0/24", r"spec.subnets\[1\]: Duplicate value"),
    ("VirtualNetwork", "routes/0/action", "Reject", r"spec.routes\[0\].action: .*supported values"),
    (
        "VirtualNetwork",
        "routes/0/nextHops",
        [{"networkRef": {"name": "red"}}],
        r"spec.routes\[0\].*nextHops is required with action Forward, and forbidden with Drop",
    ),
    ("VirtualNetwork", "routes/0/action", None, r"spec.routes\[0\].*nextHops is required"),
    ("VirtualNetwork", "routes/1/nextHops", None, r"spec.routes\[1\].*nextHops is required"),
    ("VirtualNetwork", "routes/0/blackhole", True, "unknown field .*blackhole"),
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
    ("Interface", "pipelineRef", None, "spec.pipelineRef: Required value"),
    ("Interface", "pipelineRef/name", "Router", "spec.pipelineRef.name"),
    ("Interface", "pipelineName", "router", 'unknown field "spec.pipelineName"'),
    ("Interface", "attachment/type", "Null", "spec.attachment.type: .*supported values"),
    ("Interface", "attachment/type", "Discard", "spec.attachment: .*afPacket .* forbidden"),
    ("Pipeline", "numa", 0, 'unknown field "spec.numa"'),
    (
        "Pipeline",
        "nodeSelector",
        {"matchExpressions": [{"key": "zone", "operator": "Exists", "values": ["a"]}]},
        "spec.nodeSelector.matchExpressions.0.: .*forbidden otherwise",
    ),
    ("Pipeline", "underlayPrefixes/0", "fd00:1::/65", r"spec.underlayPrefixes\[0\]"),
    ("Pipeline", "underlayPrefixes/0", "10.0.0.0/8", r"spec.underlayPrefixes\[0\]"),
    ("Pipeline", "underlayPrefixes", [], "spec.underlayPrefixes: .*at least 1 items"),
    ("Pipeline", "underlayPrefixes", None, "spec.underlayPrefixes: Required value"),
    *(
        (
            "Pipeline",
            "underlayPrefixes",
            ["fd00:1::/48", other],
            "spec.underlayPrefixes: .*prefixes may not overlap",
        )
        for other in ("fd00:1::/48", "fd00:1::/52", "fd00::/16", "fd00:1:0:f000::/64")
    ),
    ("Pipeline", "underlayPrefix", "fd00:1::/48", 'unknown field "spec.underlayPrefix"'),
    *(
        ("Pipeline", "underlayPrefixes/0", prefix, r"spec.underlayPrefixes\[0\]: .*must not")
        for prefix in ("::/64", "::/48", "fe80::/48", "ff00::/48")
    ),
    ("Pipeline", "underlayPrefixes/0", "fc00::/7", r"spec.underlayPrefixes\[0\]: .*length 8 to 64"),
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
    (
        "Pipeline",
        "devices/2/pciAddresses",
        ["0000:3b:02.*"],
        r"spec.devices\[2\]: .*exactly one of pciAddresses and resourceName",
    ),
    ("Pipeline", "devices/2/count", None, r"spec.devices\[2\]: .*count is required with"),
    ("Pipeline", "devices/1/count", 8, r"spec.devices\[1\]: .*count .*forbidden otherwise"),
    ("Pipeline", "devices/2/count", 257, r"spec.devices\[2\].count: .*less than or equal to 256"),
    ("Pipeline", "devices/2/vlans", ["100", "100"], "every item once"),
    ("Pipeline", "devices/2/vlans", ["0-9"], r"spec.devices\[2\].vlans\[0\]"),
    ("Pipeline", "devices/2/vlans", ["9-8"], r"spec.devices\[2\].vlans\[0\]: .*lower one first"),
    ("Pipeline", "devices/0/vlans", ["9"], r"spec.devices\[0\]: .*vlans is forbidden"),
    ("Pipeline", "devices/2/endpointVLANs", ["9-8"], r"spec.devices\[2\].endpointVLANs\[0\]"),
    ("Pipeline", "devices/0/endpointVLANs", ["9"], r"spec.devices\[0\]: .*VLANs is forbidden"),
    (
        "Pipeline",
        "uplinks/0/attachment/sriov/endpoint",
        {"type": "VM"},
        r"spec.uplinks\[0\]: .*sriov.endpoint is forbidden of an uplink",
    ),
    (
        "Interface",
        "attachment",
        {"type": "SRIOV", "sriov": {"pciAddress": "0000:3b:02.1", "endpoint": {"type": "VM"}}},
        "spec.attachment.sriov: .*endpoint is forbidden without resourceName",
    ),
    (
        "Interface",
        "attachment",
        {
            "type": "SRIOV",
            "sriov": {"resourceName": "a.b/c", "vlan": 9, "endpoint": {"type": "VM"}},
        },
        "spec.attachment.sriov: .*vlan is of the wire",
    ),
    (
        "Interface",
        "attachment",
        {"type": "SRIOV", "sriov": {"resourceName": "a.b/c", "endpoint": {"type": "Pod"}}},
        "spec.attachment.sriov.endpoint: .*pod is required when type is Pod",
    ),
    (
        "Interface",
        "attachment",
        {
            "type": "SRIOV",
            "sriov": {
                "resourceName": "a.b/c",
                "endpoint": {"type": "Pod", "pod": {"name": "web-0"}},
            },
        },
        "spec: .*nodeName is required, but forbidden where a pod is named",
    ),
    (
        "Pipeline",
        "uplinks/0/attachment/sriov/vlan",
        9,
        r"spec.uplinks\[0\]: .*sriov.vlan is forbidden of an uplink",
    ),
    (
        "Interface",
        "attachment",
        {"type": "SRIOV", "sriov": {"pciAddress": "0000:3b:02.1", "vlan": 9}},
        "spec.attachment.sriov: .*vlan is forbidden without resourceName",
    ),
    (
        "Interface",
        "attachment",
        {"type": "SRIOV", "sriov": {"resourceName": "a.b/c", "vlan": 4095}},
        "spec.attachment.sriov.vlan: .*less than or equal to 4094",
    ),
    ("Pipeline", "devices/2/resourceName", "vf", r"spec.devices\[2\].resourceName"),
    (
        "Pipeline",
        "uplinks/1/nodeOverrides/0/attachment/sriov",
        {"resourceName": "example.com/other"},
        r"spec.uplinks\[1\]: .*must be that of the uplink",
    ),
    ("DevicePolicy", "nicSelector", {"linkType": "Ethernet"}, "spec.nicSelector: .*name something"),
    ("DevicePolicy", "nicSelector/names/0", "ens1f0#", r"spec.nicSelector.names\[0\]"),
    ("DevicePolicy", "nicSelector/vendorIDs", ["8086", "8086"], "every item once"),
    ("DevicePolicy", "vfs", None, "spec.vfs: Required value"),
    ("DevicePolicy", "driver", "igb_uio", "spec.driver: .*supported values"),
    ("DevicePolicy", "resourceName", "e810", "spec.resourceName"),
    ("DevicePolicy", "settings/vlan", 4095, "spec.settings.vlan: .*less than or equal to 4094"),
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


def example(kind: str, namespace: str, name: str = "") -> Json:
    """A good object; those of the cluster are named after the namespace of their test."""
    metadata: Json = {"name": name or namespace}
    if kind not in CLUSTER_WIDE:
        metadata["namespace"] = namespace
    return {
        "apiVersion": _VERSIONS[kind],
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
