# SPDX-License-Identifier: Apache-2.0
"""Frames that no one should send: each gives exactly one drop, counted under its reason."""

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Packet, Raw

from tests.engine import frames
from tests.engine.lab import Lab
from tests.engine.process import until
from tests.engine.site import REMOTE, REMOTE_MAC, A, B, Site, remote, tap

TO_GATEWAY = Ether(src=A.hardware, dst=frames.GATEWAY_MAC)
GOOD4 = bytes(TO_GATEWAY / frames.udp(A.address4, B.address4, b"x" * 20))
GOOD6 = bytes(TO_GATEWAY / frames.udp(A.address6, B.address6, b"x" * 20))


def v4(checksum: bool = True, **fields: object) -> bytes:
    """An IPv4 frame with odd header fields; its checksum is right unless told otherwise."""
    packet = bytearray(bytes(frames.udp(A.address4, B.address4, b"x" * 20)))
    for name, value in fields.items():
        number = int(str(value))
        if name == "version":
            packet[0] = number << 4 | packet[0] & 15
        elif name == "ihl":
            packet[0] = packet[0] & 0xF0 | number
        elif name == "length":
            packet[2:4] = number.to_bytes(2, "big")
    header = max((packet[0] & 15) * 4, 20)
    packet[10:12] = b"\0\0"
    value = frames.checksum(bytes(packet[:header]))
    packet[10:12] = (value if checksum else value ^ 1).to_bytes(2, "big")
    return bytes(TO_GATEWAY)[:12] + b"\x08\x00" + bytes(packet)


def v6(**fields: object) -> bytes:
    packet = frames.udp(A.address6, B.address6, b"x" * 20)
    for name, value in fields.items():
        setattr(packet, name, value)
    return bytes(TO_GATEWAY / packet)


INTERFACE_FRAMES = [
    pytest.param(GOOD4[:14], "runt", id="ethernet-header-alone"),
    pytest.param(GOOD4[:15], "runt", id="one-byte"),
    pytest.param(GOOD4[:33], "runt", id="v4-19-bytes"),
    pytest.param(GOOD6[:33], "runt", id="v6-19-bytes"),
    pytest.param(GOOD6[:34], "ip6_header", id="v6-20-bytes"),
    pytest.param(GOOD6[:53], "ip6_header", id="v6-39-bytes"),
    pytest.param(GOOD6[:54], "ip6_header", id="v6-header-alone"),
    pytest.param(GOOD4[:34], "ip4_header", id="v4-header-alone"),
    pytest.param(GOOD4[:-1], "ip4_header", id="v4-one-byte-short"),
    pytest.param(GOOD6[:-1], "ip6_header", id="v6-one-byte-short"),
    pytest.param(v4(version=5), "ip4_header", id="v4-version-5"),
    pytest.param(v4(version=6), "ip4_header", id="v4-version-6"),
    pytest.param(v4(version=0), "ip4_header", id="v4-version-0"),
    pytest.param(v4(ihl=4), "ip4_header", id="v4-ihl-4"),
    pytest.param(v4(ihl=0), "ip4_header", id="v4-ihl-0"),
    pytest.param(v4(ihl=15), "ip4_header", id="v4-ihl-beyond-length"),
    pytest.param(v4(length=0), "ip4_header", id="v4-length-0"),
    pytest.param(v4(length=19), "ip4_header", id="v4-length-19"),
    pytest.param(v4(length=65535), "ip4_header", id="v4-length-65535"),
    pytest.param(v4(checksum=False), "ip4_checksum", id="v4-checksum"),
    pytest.param(v4(checksum=False, ihl=6), "ip4_checksum", id="v4-checksum-with-options"),
    pytest.param(v6(version=4), "ip6_header", id="v6-version-4"),
    pytest.param(v6(version=0), "ip6_header", id="v6-version-0"),
    pytest.param(v6(plen=1000), "ip6_header", id="v6-payload-length"),
    pytest.param(v6(plen=65535), "ip6_header", id="v6-payload-length-65535"),
    pytest.param(bytes(TO_GATEWAY / Dot1Q(vlan=7) / GOOD4[14:]), "ethertype", id="vlan"),
    pytest.param(bytes(Ether(src=A.hardware, dst=frames.GATEWAY_MAC, type=0x88A8)) + GOOD4[14:],
                 "ethertype", id="qinq"),
    pytest.param(bytes(Ether(src=A.hardware, dst=frames.GATEWAY_MAC, type=0x88CC)) + GOOD4[14:],
                 "ethertype", id="lldp"),
    pytest.param(bytes(Ether(src=A.hardware, dst=frames.GATEWAY_MAC, type=46)) + GOOD4[14:],
                 "ethertype", id="802.3-length"),
    pytest.param(bytes(Ether(src=A.hardware, dst=frames.GATEWAY_MAC, type=0x8847)) + GOOD4[14:],
                 "ethertype", id="mpls"),
    pytest.param(bytes(Ether(src=A.hardware, dst="02:00:00:00:77:77", type=0x0800)) + GOOD4[14:],
                 "not_for_us", id="another-mac"),
    pytest.param(bytes(Ether(src=A.hardware, dst=B.hardware, type=0x86DD)) + GOOD6[14:],
                 "not_for_us", id="the-neighbour-s-mac"),
    pytest.param(bytes(Ether(src=A.hardware, dst="00:00:00:00:00:00", type=0x0800)) + GOOD4[14:],
                 "not_for_us", id="zero-mac"),
    pytest.param(bytes(frames.frame(B.hardware, frames.udp(A.address4, B.address4))),
                 "source_mac", id="v4-from-another-mac"),
    pytest.param(bytes(frames.frame(B.hardware, frames.udp(A.address6, B.address6))),
                 "source_mac", id="v6-from-another-mac"),
    pytest.param(bytes(frames.arp_request(B.hardware, A.address4, "10.0.0.1")),
                 "source_mac", id="arp-from-another-mac"),
    pytest.param(bytes(Ether(src=B.hardware, dst=frames.BROADCAST)
                       / frames.arp_request(A.hardware, A.address4, "10.0.0.1").payload),
                 "source_mac", id="arp-in-a-frame-from-another-mac"),
    pytest.param(bytes(frames.solicitation(B.hardware, A.address6, "fe80::1")),
                 "source_mac", id="ns-from-another-mac"),
    pytest.param(bytes(frames.unsolicited(B.hardware, A.address6)),
                 "source_mac", id="na-from-another-mac"),
    pytest.param(bytes(Ether(src=B.hardware, dst=frames.ALL_NODES_MAC)
                       / frames.unsolicited(A.hardware, A.address6).payload),
                 "source_mac", id="na-in-a-frame-from-another-mac"),
]  # fmt: skip


@pytest.mark.parametrize(("frame", "reason"), INTERFACE_FRAMES)
def test_on_an_interface(site: Site, frame: bytes, reason: str) -> None:
    site.a.send(frame, drop=reason)
    site.a.send(GOOD4)
    got = site.lab.receive(site.b, frames.has(UDP))
    assert got[IP].src == A.address4
    for wire in site.lab.wires.values():
        site.lab.quiet(wire)


@pytest.mark.parametrize(("frame", "reason"), INTERFACE_FRAMES)
def test_amid_good_frames(site: Site, frame: bytes, reason: str) -> None:
    """The same within a burst: its neighbours are forwarded, in order."""
    for number in range(6):
        site.a.send(TO_GATEWAY / frames.udp(A.address4, B.address4, sport=1 + number))
        if number % 2 == 0:
            site.a.send(frame, drop=reason)
    for number in range(6):
        assert site.lab.receive(site.b, frames.has(UDP))[UDP].sport == 1 + number
    site.lab.quiet(site.b)


def uplink_frames() -> list[object]:
    """Frames for an uplink; its MAC address, not yet known, is put in later."""
    to_uplink = Ether(src=REMOTE_MAC, dst="02:00:00:00:00:00")
    inner = frames.udp(remote(4), A.address4, b"x" * 20)
    good = bytes(to_uplink / IPv6(src=REMOTE, dst=A.underlay) / inner)
    other_type = Ether(src=REMOTE_MAC, dst="02:00:00:00:00:00", type=0x88CC)
    return [
        pytest.param(good[:14], "runt", id="ethernet-header-alone"),
        pytest.param(good[:33], "runt", id="19-bytes"),
        pytest.param(good[:34], "ip6_header", id="20-bytes"),
        pytest.param(good[:53], "ip6_header", id="39-bytes"),
        pytest.param(good[:54], "ip6_header", id="header-alone"),
        pytest.param(good[:-1], "ip6_header", id="one-byte-short"),
        pytest.param(bytes(to_uplink / inner), "ethertype", id="v4"),
        pytest.param(bytes(to_uplink)[:12] + b"\x08\x06" + b"\0" * 28, "ethertype", id="arp"),
        pytest.param(bytes(other_type) + good[14:], "ethertype", id="lldp"),
        pytest.param(good[:14] + b"\x45" + good[15:], "ip6_header", id="version-4"),
        pytest.param(good[:14] + b"\x00" + good[15:], "ip6_header", id="version-0"),
    ]


@pytest.mark.parametrize(("frame", "reason"), uplink_frames())
def test_on_the_uplink(site: Site, frame: bytes, reason: str) -> None:
    mac = bytes.fromhex(site.uplink_mac.replace(":", ""))
    site.up.send(mac + frame[6:], drop=reason)
    inner = frames.udp(remote(4), A.address4)
    site.up.send(
        frames.frame(REMOTE_MAC, IPv6(src=REMOTE, dst=A.underlay) / inner, site.uplink_mac)
    )
    assert bytes(site.lab.receive(site.a, frames.has(UDP)).payload) == bytes(inner)
    for wire in site.lab.wires.values():
        site.lab.quiet(wire)


def test_another_mac_on_the_uplink(site: Site) -> None:
    packet = IPv6(src=REMOTE, dst=A.underlay) / frames.udp(remote(4), A.address4)
    site.up.send(frames.frame(REMOTE_MAC, packet, frames.GATEWAY_MAC), drop="not_for_us")
    site.lab.quiet(site.a, frames.has(UDP))


@pytest.mark.parametrize("protocol", [6, 17, 58, 89])
def test_multicast_of_the_underlay(site: Site, protocol: int) -> None:
    """No one here takes part in the underlay's routing protocols."""
    packet = IPv6(src="fe80::7", dst="ff02::5", nh=protocol) / Raw(b"\x80" + b"\0" * 30)
    site.up.send(frames.frame(REMOTE_MAC, packet, "33:33:00:00:00:05"), drop="multicast")
    site.lab.settle()


@pytest.mark.parametrize(
    "packet",
    [
        IPv6(src="fe80::a", dst="ff02::fb") / UDP(sport=5353, dport=5353) / Raw(b"mdns"),
        IPv6(src=A.address6, dst="ff02::16") / Raw(b"mld"),
        IP(src=A.address4, dst="224.0.0.251", ttl=255) / UDP(sport=5353, dport=5353),
        IP(src=A.address4, dst="224.0.0.22", ttl=1) / Raw(b"igmp"),
        IP(src=A.address4, dst="255.255.255.255", ttl=1) / UDP(sport=68, dport=67),
    ],
)
def test_multicast_of_endpoints(site: Site, packet: Packet) -> None:
    to = "33:33:00:00:00:fb" if packet.version == 6 else "01:00:5e:00:00:fb"
    site.a.send(frames.frame(A.hardware, packet, to), drop="multicast")
    for wire in site.lab.wires.values():
        site.lab.quiet(wire)


@pytest.mark.parametrize("target", [B.address4, B.address6, "10.0.0.255", "198.51.100.1"])
@pytest.mark.parametrize("to", [frames.BROADCAST, "01:00:5e:00:00:01", "33:33:00:00:00:01"])
def test_unicast_sent_to_many(site: Site, target: str, to: str) -> None:
    """RFC 1812 5.3.4: not routed, and nobody is told; nor is the subnet's broadcast address."""
    packet = frames.udp(A.address6 if ":" in target else A.address4, target)
    site.a.send(frames.frame(A.hardware, packet, to), drop="not_for_us")
    for wire in site.lab.wires.values():
        site.lab.quiet(wire)


def test_encapsulated_sent_to_many(site: Site) -> None:
    packet = IPv6(src=REMOTE, dst=A.underlay) / frames.udp(remote(4), A.address4)
    site.up.send(frames.frame(REMOTE_MAC, packet, frames.BROADCAST), drop="not_for_us")
    site.lab.quiet(site.a, frames.has(UDP))


def test_a_port_without_an_interface(lab: Lab) -> None:
    """Its frames drop, as is told in the engine's sum."""
    lab.commit(tap("lone"))
    wire = lab.connect("lone", "lone", A.hardware, ("interface", "t/none"))
    before = lab.engine.telemetry.object("/headrace/drops")["no_interface"]
    assert isinstance(before, int)
    for frame in (GOOD4, GOOD6, bytes(frames.arp_request(A.hardware, A.address4, "10.0.0.1"))):
        wire.send(frame)
    lab.disconnect("lone")

    def all_dropped() -> bool:
        return lab.engine.telemetry.object("/headrace/drops")["no_interface"] == before + 3

    until(all_dropped, "three frames of no Interface are dropped")
