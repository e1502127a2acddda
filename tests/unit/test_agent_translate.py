# SPDX-License-Identifier: Apache-2.0
import re
from typing import Any

import pytest

from headrace_api import Attachment, DataplaneConfig, RouteSlice, digest, pod_device
from headrace_dataplane.protocol import JSONObject
from headrace_dataplane.translate import Translation, UnsupportedError, device, translate
from tests.specs import slice_spec

CONFIG: dict[str, Any] = {
    "metadata": {"name": "router.node-a", "namespace": "headrace-system"},
    "spec": {
        "pipelineName": "router",
        "nodeName": "node-a",
        "workers": {"count": 2, "idlePolicy": "Poll", "burst": 32},
        "underlayPrefix": "fd00:1:0:1::/64",
        "underlayAddress": "fd00:1:0:1::1",
        "uplinks": [
            {
                "name": "uplink0",
                "attachment": {"type": "SRIOV", "sriov": {"pciAddress": "0000:3b:02.1"}},
                "mtu": 1500,
                "addresses": ["fd00:1:0:1::1"],
                "onLinkPrefixes": ["fd00:1::/48"],
                "gateway": "fe80::1",
            }
        ],
        "networks": [
            {
                "namespace": "a",
                "name": "blue",
                "vni": 100,
                "mtu": 1460,
                "gateways": ["10.0.0.1", "2001:db8::1"],
                "routeSlices": ["a.blue.0"],
            }
        ],
        "interfaces": [
            {
                "namespace": "a",
                "name": "vm1",
                "network": "a/blue",
                "vni": 100,
                "attachment": {"type": "AFPacket", "afPacket": {"deviceName": "veth1"}},
                "addresses": ["10.0.0.2", "2001:db8::2"],
                "prefixes": ["10.50.0.0/24"],
                "gateways": ["10.0.0.1", "2001:db8::1"],
                "macAddress": "02:00:00:00:00:01",
                "underlayAddress": "fd00:1:0:1::2",
                "sourceCheck": "Enabled",
                "mtu": 1460,
                "queues": 2,
            },
            {
                "namespace": "a",
                "name": "vm2",
                "network": "a/blue",
                "vni": 100,
                "attachment": {"type": "Discard"},
                "addresses": ["10.0.0.3"],
                "gateways": ["10.0.0.1"],
                "underlayAddress": "fd00:1:0:1::3",
                "sourceCheck": "Disabled",
                "mtu": 1460,
            },
        ],
    },
}
SLICE: dict[str, Any] = {
    "metadata": {"name": "a.blue.0", "namespace": "headrace-system"},
    "spec": slice_spec(
        "a/blue",
        {"prefix": "10.0.0.2/32", "nextHops": [{"underlayAddress": "fd00:1:0:1::2"}]},
        {
            "prefix": "10.1.0.0/16",
            "nextHops": [
                {"underlayAddress": "fd00::5", "weight": 3},
                {"network": "a/red", "weight": 2},
            ],
        },
        {"prefix": "10.2.0.0/16", "blackhole": True},
    ),
}


def test_every_kind_is_translated_exactly() -> None:
    stray = {**SLICE, "metadata": {"name": "other.0", "namespace": "headrace-system"}}
    done = translate(
        DataplaneConfig.model_validate(CONFIG),
        [RouteSlice.model_validate(SLICE), RouteSlice.model_validate(stray)],
    )
    names = {port: name for name, port in done.devices.items()}
    assert names["uplink/uplink0"] == "0000:3b:02.1"
    assert re.fullmatch(r"net_af_packet[0-9a-f]{8}", names["a/vm1"])
    assert re.fullmatch(r"net_null[0-9a-f]{8}", names["a/vm2"])
    assert done.problems == ()
    assert {(o.kind, o.key): o.spec for o in done.objects} == {
        ("settings", "engine"): {"idle": "poll", "burst": 32, "icmpPerSecond": 1000},
        ("port", "uplink/uplink0"): {"devargs": "0000:3b:02.1", "rxQueues": 2, "mtu": 1500},
        ("uplink", "uplink0"): {
            "port": "uplink/uplink0",
            "mtu": 1500,
            "addresses": ["fd00:1:0:1::1"],
            "onLink": ["fd00:1::/48"],
            "gateway": "fe80::1",
        },
        ("network", "a/blue"): {"vni": 100, "gateways": ["10.0.0.1", "2001:db8::1"]},
        ("port", "a/vm1"): {
            "devargs": f"{names['a/vm1']},iface=veth1,qpairs=2,qdisc_bypass=1,framecnt=2048",
            "rxQueues": 2,
            "mtu": 1460,
            "netdev": "veth1",
        },
        ("interface", "a/vm1"): {
            "port": "a/vm1",
            "network": "a/blue",
            "addresses": ["10.0.0.2", "2001:db8::2"],
            "prefixes": ["10.50.0.0/24"],
            "gateways": ["10.0.0.1", "2001:db8::1", "fe80::1"],
            "mac": "02:00:00:00:00:01",
            "underlay": "fd00:1:0:1::2",
            "sourceCheck": True,
            "mtu": 1460,
        },
        ("port", "a/vm2"): {"devargs": f"{names['a/vm2']},no-rx=1", "rxQueues": 1, "mtu": 1460},
        ("interface", "a/vm2"): {
            "port": "a/vm2",
            "network": "a/blue",
            "addresses": ["10.0.0.3"],
            "prefixes": [],
            "gateways": ["10.0.0.1"],
            "underlay": "fd00:1:0:1::3",
            "sourceCheck": False,
            "mtu": 1460,
        },
        ("routes", "a.blue.0"): {
            "network": "a/blue",
            "routes": [
                ["10.0.0.2/32", "fd00:1:0:1::2"],
                ["10.1.0.0/16", ["fd00::5", 3], {"network": "a/red", "weight": 2}],
                ["10.2.0.0/16"],
            ],
        },
    }
    assert all(o.hash == digest(o.spec) for o in done.objects)


def test_what_is_newer_than_the_first_release_is_translated_where_it_is_given() -> None:
    """Left out otherwise: see the objects above, which an engine that knows nothing of it takes."""
    spec = CONFIG["spec"]
    config = DataplaneConfig.model_validate(
        {
            **CONFIG,
            "spec": {
                **spec,
                "pipelinePrefixes": ["fd00:1::/48"],
                "underlaySourceCheck": "Enabled",
                "waitingPacketsPerNamespace": 9,
                "networks": [{**spec["networks"][0], "endpoints": ["fd09::1"], "dscp": 0}],
                "interfaces": [
                    {**spec["interfaces"][0], "formerUnderlayAddresses": ["fd00:1:0:1::7"]},
                ],
            },
        }
    )
    objects = {o.kind: o.spec for o in translate(config, []).objects if o.key != "uplink/uplink0"}
    assert objects["settings"]["underlayPrefixes"] == ["fd00:1::/48"]
    assert objects["settings"]["underlaySourceCheck"] is True
    assert objects["settings"]["waitingPacketsPerNamespace"] == 9
    assert objects["network"]["endpoints"] == ["fd09::1"]
    assert objects["network"]["dscp"] == 0
    assert objects["interface"]["formerUnderlayAddresses"] == ["fd00:1:0:1::7"]


def test_slices_that_are_the_same_are_not_translated_again() -> None:
    config = DataplaneConfig.model_validate(CONFIG)
    part = RouteSlice.model_validate(SLICE)
    first = translate(config, [part])
    again = translate(config, [part], first)
    assert again.objects == first.objects
    assert again.objects[-1] is first.objects[-1]
    changed = RouteSlice.model_validate({**SLICE, "spec": slice_spec("a/blue")})
    assert (
        translate(config, [changed], first).objects[-1] == translate(config, [changed]).objects[-1]
    )


def attachment(kind: str, **member: object) -> Attachment:
    return Attachment.model_validate({"type": kind, **member})


@pytest.mark.parametrize(
    ("given", "pattern"),
    [
        (
            attachment("Tap", tap={"deviceName": "tap-vm1"}),
            r"net_tap[0-9a-f]{8},iface=tap-vm1,mac=02(:[0-9a-f]{2}){5}",
        ),
        (
            attachment("Memif", memif={"socketPath": "/run/m.sock", "role": "Client", "id": 4}),
            r"net_memif[0-9a-f]{8},role=client,id=4,socket=/run/m\.sock,socket-abstract=no,"
            r"mac=02(:[0-9a-f]{2}){5}",
        ),
        (
            attachment("Memif", memif={"socketPath": "/m.sock"}),
            r"net_memif[0-9a-f]{8},role=server,id=0,socket=/m\.sock,socket-abstract=no,"
            r"mac=02(:[0-9a-f]{2}){5}",
        ),
        (
            attachment("VhostUser", vhostUser={"socketPath": "/run/vm.sock"}),
            r"net_vhost[0-9a-f]{8},iface=/run/vm\.sock,queues=1,linear-buffer=1",
        ),
        (
            attachment("VirtioUser", virtioUser={"socketPath": "/run/vm.sock"}),
            r"net_virtio_user[0-9a-f]{8},path=/run/vm\.sock,queues=1,cq=0,queue_size=1024,"
            r"mrg_rxbuf=0,mac=02(:[0-9a-f]{2}){5}",
        ),
        (
            attachment("Pcap", pcap={"receiveFile": "/in.pcap", "receiveLoop": True}),
            r"net_pcap[0-9a-f]{8},rx_pcap=/in\.pcap,infinite_rx=1",
        ),
        (
            attachment("Pcap", pcap={"receiveFile": "/i", "transmitFile": "/out.pcap"}),
            r"net_pcap[0-9a-f]{8},rx_pcap=/i,tx_pcap=/out\.pcap",
        ),
        (
            attachment("Pod", pod={"name": "p"}),
            rf"net_af_packet[0-9a-f]{{8}},iface={pod_device('a/vm1')},qpairs=1,qdisc_bypass=1,"
            r"framecnt=2048",
        ),
        (attachment("Discard"), r"net_null[0-9a-f]{8},no-rx=1"),
        (attachment("SRIOV", sriov={"pciAddress": "0000:3b:02.1"}), r"0000:3b:02\.1"),
    ],
)
def test_devargs(given: Attachment, pattern: str) -> None:
    assert re.fullmatch(pattern, device("a/vm1", given, 1, 1460).devargs)


@pytest.mark.parametrize("mtu", [1968, 1969, 4000, 9000, 9216])
def test_packet_ring_holds_the_mtu(mtu: int) -> None:
    given = attachment("AFPacket", afPacket={"deviceName": "veth1"})
    arguments = dict(
        pair.split("=") for pair in device("a/vm1", given, 1, mtu).arguments.split(",")
    )
    frame = int(arguments.get("framesz", 2048))
    block = int(arguments.get("blocksz", 4096))
    assert frame >= mtu + 80
    assert frame % 16 == 0
    assert block % 4096 == 0
    assert block >= frame


TAP = {"type": "Tap", "tap": {"deviceName": "up"}}
PACKET = {"type": "AFPacket", "afPacket": {"deviceName": "eth1"}}


def with_uplink(**spec: object) -> Translation:
    uplink = {
        "name": "uplink0",
        "attachment": TAP,
        "mtu": 1500,
        "addresses": ["fd00:1:0:1::1"],
        "onLinkPrefixes": ["fd00:1::/48"],
        **spec,
    }
    config = {**CONFIG, "spec": {**CONFIG["spec"], "uplinks": [uplink]}}
    return translate(DataplaneConfig.model_validate(config), [])


def uplink_specs(done: Translation) -> tuple[JSONObject, JSONObject]:
    """Return what is told of an uplink's port, and of itself."""
    specs = {(o.kind, o.key): o.spec for o in done.objects}
    return specs["port", "uplink/uplink0"], specs["uplink", "uplink0"]


def test_static_neighbors_of_an_uplink() -> None:
    neighbor = {"address": "fd00:1:0:2::2", "macAddress": "02:00:00:00:00:09"}
    _, uplink = uplink_specs(with_uplink(neighbors=[neighbor]))
    assert uplink["neighbors"] == [{"address": "fd00:1:0:2::2", "mac": "02:00:00:00:00:09"}]


def test_a_weight_of_an_uplink_is_said_where_it_is_another_than_1() -> None:
    _, uplink = uplink_specs(with_uplink(weight=3))
    assert uplink["weight"] == 3
    _, uplink = uplink_specs(with_uplink(weight=1))
    assert "weight" not in uplink


def test_an_uplink_without_a_mac_address_of_its_own_has_the_same_after_a_restart() -> None:
    port, _ = uplink_specs(with_uplink())
    assert re.fullmatch(r"02(:[0-9a-f]{2}){5}", str(port["mac"]))
    again, _ = uplink_specs(with_uplink())
    assert again == port


def test_an_uplink_has_its_devices_mac_address_and_the_host_the_rest_of_the_device() -> None:
    done = with_uplink(attachment=PACKET)
    port, _ = uplink_specs(done)
    assert "mac" not in port
    assert done.shared == {"eth1": "fd00:1:0:1::/64"}
    assert "eth1" not in done.endpoints
    assert with_uplink().shared == {}


def test_device_names_are_stable_and_follow_port_driver_and_arguments() -> None:
    tap = attachment("Tap", tap={"deviceName": "t0"})
    packet = attachment("AFPacket", afPacket={"deviceName": "t0"})
    first = device("a/vm1", tap, 1, 1460)
    assert device("a/vm1", tap, 1, 1400) == first
    names = {
        first.name,
        device("a/vm2", tap, 1, 1460).name,
        device("a/vm1", attachment("Tap", tap={"deviceName": "t1"}), 1, 1460).name,
        device("a/vm1", packet, 1, 1460).name,
        device("a/vm1", packet, 2, 1460).name,
    }
    assert len(names) == 5


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (attachment("AFXDP", afXDP={"deviceName": "e0"}), "AttachmentUnsupported"),
        (attachment("SRIOV", sriov={"resourceName": "x/y"}), "AttachmentUnsupported"),
        (attachment("Pcap", pcap={"receiveFile": "/a[1]"}), "AttachmentInvalid"),
        (attachment("Pcap", pcap={"receiveFile": "/a=b"}), "AttachmentInvalid"),
        (
            attachment(
                "Pcap", pcap={"receiveFile": "/" + "a" * 400, "transmitFile": "/" + "b" * 200}
            ),
            "AttachmentInvalid",
        ),
    ],
)
def test_what_cannot_be_attached_is_said(given: Attachment, reason: str) -> None:
    with pytest.raises(UnsupportedError) as caught:
        device("a/vm1", given, 1, 1460)
    assert caught.value.reason == reason


def test_separators_are_refused_even_unvalidated() -> None:
    inner = attachment("Tap", tap={"deviceName": "t0"})
    assert inner.tap is not None
    bad = inner.model_copy(
        update={"tap": inner.tap.model_copy(update={"device_name": "t0,remote=eth0"})}
    )
    with pytest.raises(UnsupportedError, match="','"):
        device("a/vm1", bad, 1, 1460)


def test_an_interface_that_cannot_be_attached_leaves_the_others() -> None:
    config: dict[str, Any] = {**CONFIG, "spec": {**CONFIG["spec"]}}
    first, second = config["spec"]["interfaces"]
    config["spec"]["interfaces"] = [
        {**first, "attachment": {"type": "AFXDP", "afXDP": {"deviceName": "e0"}}},
        second,
    ]
    done = translate(DataplaneConfig.model_validate(config), [])
    assert [(p.kind, p.namespace, p.name, p.reason) for p in done.problems] == [
        ("Interface", "a", "vm1", "AttachmentUnsupported")
    ]
    assert [o.key for o in done.objects if o.kind in ("port", "interface")] == [
        "uplink/uplink0",
        "a/vm2",
        "a/vm2",
    ]
