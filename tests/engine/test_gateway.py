# SPDX-License-Identifier: Apache-2.0
"""The gateway as endpoints see it: ARP, neighbour discovery, router advertisements, ping."""

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import (
    ICMPv6EchoReply,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6ND_Redirect,
    ICMPv6ND_RS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptMTU,
    ICMPv6NDOptPrefixInfo,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
)
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet, Raw

from tests.engine import frames
from tests.engine.lab import Lab, settings
from tests.engine.site import (
    BLUE,
    REMOTE4,
    REMOTE6,
    A,
    B,
    C,
    Endpoint,
    Site,
    routes,
)

GATEWAY4, GATEWAY6, LINK_LOCAL = "10.0.0.1", "2001:db8::1", "fe80::1"
OWN_LINK_LOCAL = "fe80::a"


def is_reply(frame: Packet) -> bool:
    return ARP in frame and frame[ARP].op == 2


# ARP.


@pytest.mark.parametrize("endpoint", [A, C])
def test_arp_for_the_gateway(site: Site, endpoint: Endpoint) -> None:
    """Case 1."""
    wire = site.lab.wires[endpoint.name]
    wire.send(frames.arp_request(endpoint.hardware, endpoint.address4, GATEWAY4))
    got = site.lab.receive(wire, is_reply)
    assert (got.dst, got.src) == (endpoint.hardware, frames.GATEWAY_MAC)
    arp = got[ARP]
    assert (arp.hwsrc, arp.psrc) == (frames.GATEWAY_MAC, GATEWAY4)
    assert (arp.hwdst, arp.pdst) == (endpoint.hardware, endpoint.address4)
    assert (arp.hwtype, arp.ptype, arp.hwlen, arp.plen) == (1, 0x0800, 6, 4)


def test_arp_padded_to_the_shortest_frame(site: Site) -> None:
    request = bytes(frames.arp_request(A.hardware, A.address4, GATEWAY4)).ljust(60, b"\0")
    site.a.send(request)
    assert len(site.lab.receive(site.a, is_reply)) == 42


def test_arp_by_unicast(site: Site) -> None:
    request = frames.arp_request(A.hardware, A.address4, GATEWAY4)
    request.dst = frames.GATEWAY_MAC
    site.a.send(request)
    assert site.lab.receive(site.a, is_reply).hwsrc == frames.GATEWAY_MAC


def test_arp_probe_for_the_gateway_is_defended(site: Site) -> None:
    """RFC 5227: whoever wants the gateway's address must learn that it is taken."""
    site.a.send(frames.arp_request(A.hardware, frames.ANY4, GATEWAY4))
    assert site.lab.receive(site.a, is_reply)[ARP].psrc == GATEWAY4


@pytest.mark.parametrize(
    ("source", "target"),
    [
        pytest.param(A.address4, "10.0.0.77", id="nobody"),
        pytest.param(frames.ANY4, B.address4, id="probe-of-a-neighbour-s"),
        pytest.param(A.address4, "10.9.9.9", id="elsewhere"),
        pytest.param(frames.ANY4, A.address4, id="probe-of-its-own"),
        pytest.param(GATEWAY4, GATEWAY4, id="claims-the-gateway"),
        pytest.param(GATEWAY4, B.address4, id="asks-as-the-gateway"),
        pytest.param(B.address4, GATEWAY4, id="asks-as-another"),
        pytest.param(B.address4, B.address4, id="claims-another"),
    ],
)
def test_arp_not_answered(site: Site, source: str, target: str) -> None:
    site.a.send(frames.arp_request(A.hardware, source, target), drop="arp")
    for wire in site.lab.wires.values():
        site.lab.quiet(wire)
    site.b.send(frames.frame(B.hardware, frames.udp(B.address4, A.address4)))
    assert site.lab.receive(site.a, frames.has(UDP)).dst == A.hardware


@pytest.mark.parametrize("target", [B.address4, REMOTE4])
def test_arp_for_what_lies_behind_the_gateway(site: Site, target: str) -> None:
    """RFC 1027: an endpoint may believe the whole subnet to be on its link."""
    site.a.send(frames.arp_request(A.hardware, A.address4, target))
    got = site.lab.receive(site.a, is_reply)
    assert (got[ARP].hwsrc, got[ARP].psrc) == (frames.GATEWAY_MAC, target)
    for wire in site.lab.wires.values():
        site.lab.quiet(wire)


def test_arp_for_a_blackhole(site: Site) -> None:
    site.lab.commit(routes("hole", BLUE, ["10.0.0.99/32"]))
    site.a.send(frames.arp_request(A.hardware, A.address4, "10.0.0.99"), drop="arp")
    site.lab.quiet(site.a)


@pytest.mark.parametrize(
    "fields",
    [
        {"op": 3}, {"op": 0}, {"hwtype": 6}, {"ptype": 0x86DD}, {"hwlen": 8}, {"plen": 16},
        {"hwsrc": "02:00:00:00:00:99"}, {"hwsrc": "ff:ff:ff:ff:ff:ff"},
        {"hwsrc": "00:00:00:00:00:00"}, {"hwsrc": "01:00:5e:00:00:01"},
    ],
)  # fmt: skip
def test_malformed_arp(site: Site, fields: dict[str, object]) -> None:
    packet = frames.arp_request(A.hardware, A.address4, GATEWAY4)
    data = {"op": 1, "hwsrc": A.hardware, "psrc": A.address4, "pdst": GATEWAY4, **fields}
    frame = Ether(src=A.hardware, dst=packet.dst, type=0x0806) / ARP(**data)
    # scapy sizes the addresses by hwlen and plen; the wire's frame keeps their places.
    good = bytearray(bytes(packet))
    for name, at, size in (("hwtype", 14, 2), ("ptype", 16, 2), ("hwlen", 18, 1), ("plen", 19, 1)):
        if name in fields:
            good[at : at + size] = int(str(fields[name])).to_bytes(size, "big")
            frame = bytes(good)
    site.a.send(frame, drop="arp")
    site.lab.quiet(site.a)


def test_truncated_arp(site: Site) -> None:
    data = bytes(frames.arp_request(A.hardware, A.address4, GATEWAY4))
    for length in (34, 41):
        site.a.send(data[:length], drop="arp")
    site.lab.quiet(site.a)


# Neighbour discovery.


@pytest.mark.parametrize("target", [LINK_LOCAL, GATEWAY6])
@pytest.mark.parametrize("source", [A.address6, OWN_LINK_LOCAL])
def test_solicitation_for_the_gateway(site: Site, target: str, source: str) -> None:
    """Case 2."""
    site.a.send(frames.solicitation(A.hardware, source, target))
    got = site.lab.receive(site.a, frames.has(ICMPv6ND_NA))
    assert (got.dst, got.src) == (A.hardware, frames.GATEWAY_MAC)
    assert (got[IPv6].src, got[IPv6].dst, got[IPv6].hlim) == (target, source, 255)
    advertised = got[ICMPv6ND_NA]
    assert (advertised.R, advertised.S, advertised.O) == (1, 1, 1)
    assert advertised.tgt == target
    assert got[ICMPv6NDOptDstLLAddr].lladdr == frames.GATEWAY_MAC
    assert frames.is_intact(got[IPv6])


def test_unicast_solicitation_without_option(site: Site) -> None:
    """Unreachability detection: RFC 4861 7.2.2 lets the option away."""
    packet = IPv6(src=A.address6, dst=LINK_LOCAL, hlim=255) / ICMPv6ND_NS(tgt=LINK_LOCAL)
    site.a.send(frames.frame(A.hardware, packet))
    got = site.lab.receive(site.a, frames.has(ICMPv6ND_NA))
    assert got[ICMPv6NDOptDstLLAddr].lladdr == frames.GATEWAY_MAC


def test_duplicate_address_detection_of_the_gateway(site: Site) -> None:
    """RFC 4862 5.4: who asks from :: is told by everybody's group that the address is taken."""
    site.a.send(frames.solicitation(A.hardware, "::", GATEWAY6, option=False))
    got = site.lab.receive(site.a, frames.has(ICMPv6ND_NA))
    assert (got.dst, got[IPv6].dst) == (frames.ALL_NODES_MAC, frames.ALL_NODES)
    assert (got[ICMPv6ND_NA].S, got[ICMPv6ND_NA].O) == (0, 1)
    assert got[ICMPv6ND_NA].tgt == GATEWAY6


@pytest.mark.parametrize("target", [B.address6, REMOTE6])
def test_solicitation_for_what_lies_behind_the_gateway(site: Site, target: str) -> None:
    """RFC 4389. A proxy does not override who has the address (RFC 4861 7.2.8)."""
    site.a.send(frames.solicitation(A.hardware, A.address6, target))
    got = site.lab.receive(site.a, frames.has(ICMPv6ND_NA))
    advertised = got[ICMPv6ND_NA]
    assert (got[IPv6].src, advertised.tgt) == (target, target)
    assert (advertised.R, advertised.S, advertised.O) == (1, 1, 0)
    assert got[ICMPv6NDOptDstLLAddr].lladdr == frames.GATEWAY_MAC
    for wire in site.lab.wires.values():
        site.lab.quiet(wire)


@pytest.mark.parametrize("target", [A.address6, OWN_LINK_LOCAL, B.address6])
def test_duplicate_address_detection_of_an_endpoint_meets_nobody(site: Site, target: str) -> None:
    site.a.send(frames.solicitation(A.hardware, "::", target, option=False), drop="nd")
    site.lab.quiet(site.a)


@pytest.mark.parametrize(
    ("source", "target", "reason"),
    [
        pytest.param(A.address6, "2001:db8::77", "nd", id="nobody"),
        pytest.param(A.address6, "fe80::2", "nd", id="another-link-local"),
        pytest.param(B.address6, LINK_LOCAL, "source", id="asks-as-another"),
        pytest.param(LINK_LOCAL, GATEWAY6, "nd", id="asks-as-the-gateway"),
        pytest.param(GATEWAY6, LINK_LOCAL, "source", id="asks-as-the-other-gateway"),
    ],
)
def test_solicitation_not_answered(site: Site, source: str, target: str, reason: str) -> None:
    site.a.send(frames.solicitation(A.hardware, source, target), drop=reason)
    for wire in site.lab.wires.values():
        site.lab.quiet(wire)


def solicit(**fields: object) -> Packet:
    group, mac = frames.solicited_node(LINK_LOCAL)
    header = {"src": A.address6, "dst": group, "hlim": 255, **fields}
    to = mac if header["dst"] != LINK_LOCAL else frames.GATEWAY_MAC
    return Ether(src=A.hardware, dst=to) / IPv6(**header)


OPTION = ICMPv6NDOptSrcLLAddr(lladdr=A.hardware)


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(solicit(hlim=254) / ICMPv6ND_NS(tgt=LINK_LOCAL) / OPTION, id="hop-limit"),
        pytest.param(solicit(hlim=1) / ICMPv6ND_NS(tgt=LINK_LOCAL) / OPTION, id="hop-limit-1"),
        pytest.param(solicit() / ICMPv6ND_NS(tgt=LINK_LOCAL, code=1) / OPTION, id="code"),
        pytest.param(solicit() / ICMPv6ND_NS(tgt=LINK_LOCAL, cksum=7) / OPTION, id="checksum"),
        pytest.param(solicit() / ICMPv6ND_NS(tgt="ff02::1") / OPTION, id="multicast-target"),
        pytest.param(solicit() / ICMPv6ND_NS(tgt="::") / OPTION, id="unspecified-target"),
        pytest.param(
            solicit(src="::") / ICMPv6ND_NS(tgt=LINK_LOCAL) / OPTION, id="unspecified-with-option"
        ),
        pytest.param(
            solicit(src="::", dst=LINK_LOCAL) / ICMPv6ND_NS(tgt=LINK_LOCAL),
            id="unspecified-to-unicast",
        ),
        pytest.param(
            solicit() / ICMPv6ND_NS(tgt=LINK_LOCAL) / Raw(b"\1\0\2\0\0\0\0\x0a"), id="zero-option"
        ),
        pytest.param(
            solicit() / ICMPv6ND_NS(tgt=LINK_LOCAL) / Raw(b"\1\2\2\0\0\0\0\x0a"), id="long-option"
        ),
        pytest.param(
            solicit() / ICMPv6ND_NS(tgt=LINK_LOCAL) / Raw(b"\1"), id="half-an-option"
        ),
        pytest.param(
            solicit()
            / ICMPv6ND_NS(tgt=LINK_LOCAL)
            / ICMPv6NDOptSrcLLAddr(lladdr="33:33:00:00:00:01"),
            id="multicast-mac",
        ),
        pytest.param(solicit(dst=LINK_LOCAL) / ICMPv6ND_Redirect(), id="redirect"),
        pytest.param(solicit(dst="ff02::1") / ICMPv6ND_RA() / OPTION, id="router-advertisement"),
        pytest.param(
            solicit(dst="ff02::1") / ICMPv6ND_NA(tgt=A.address6, S=1), id="multicast-solicited"
        ),
    ],
)  # fmt: skip
def test_malformed_neighbour_discovery(site: Site, frame: Packet) -> None:
    site.a.send(frame, drop="nd")
    for wire in site.lab.wires.values():
        site.lab.quiet(wire)


def test_truncated_solicitation(site: Site) -> None:
    """The message ends before its target does."""
    packet = solicit(plen=16, nh=58) / Raw(bytes(ICMPv6ND_NS(tgt=LINK_LOCAL))[:16])
    site.a.send(packet, drop="nd")
    site.lab.quiet(site.a)


# Router advertisements.


@pytest.mark.parametrize("source", [OWN_LINK_LOCAL, A.address6, "::"])
def test_router_advertisement(site: Site, source: str) -> None:
    packet = IPv6(src=source, dst="ff02::2", hlim=255) / ICMPv6ND_RS()
    if source != "::":
        packet /= OPTION
    site.a.inbox.clear()
    site.a.send(Ether(src=A.hardware, dst="33:33:00:00:00:02") / packet)
    wanted = frames.ALL_NODES if source == "::" else source
    got = site.lab.receive(
        site.a, lambda f: ICMPv6ND_RA in f and f.dst == A.hardware and f[IPv6].dst == wanted
    )
    assert got.src == frames.GATEWAY_MAC
    assert (got[IPv6].src, got[IPv6].hlim) == (LINK_LOCAL, 255)
    advertised = got[ICMPv6ND_RA]
    assert (advertised.chlim, advertised.routerlifetime) == (64, 1800)
    assert (advertised.M, advertised.O, advertised.H) == (0, 0, 0)
    assert (advertised.reachabletime, advertised.retranstimer) == (0, 0)
    assert got[ICMPv6NDOptSrcLLAddr].lladdr == frames.GATEWAY_MAC
    assert got[ICMPv6NDOptMTU].mtu == A.mtu
    assert ICMPv6NDOptPrefixInfo not in got
    assert frames.is_intact(got[IPv6])


def test_router_advertisement_when_an_interface_appears(lab: Lab) -> None:
    site = Site(lab, A.with_(mtu=1333))
    got = lab.receive(site.a, frames.has(ICMPv6ND_RA))
    assert (got.dst, got[IPv6].dst) == (frames.ALL_NODES_MAC, frames.ALL_NODES)
    assert got[ICMPv6NDOptMTU].mtu == 1333


def test_no_router_without_a_link_local_gateway(lab: Lab) -> None:
    site = Site(lab, A.with_(gateways=(GATEWAY4,)))
    packet = IPv6(src=OWN_LINK_LOCAL, dst="ff02::2", hlim=255) / ICMPv6ND_RS() / OPTION
    site.a.send(Ether(src=A.hardware, dst="33:33:00:00:00:02") / packet, drop="nd")
    lab.quiet(site.a)
    assert not any(ICMPv6ND_RA in Ether(data) for data in site.a.inbox)


# Ping.


@pytest.mark.parametrize("size", [0, 1, 56, 1400])
@pytest.mark.parametrize(
    ("source", "gateway"),
    [(A.address4, GATEWAY4), (A.address6, GATEWAY6), (OWN_LINK_LOCAL, LINK_LOCAL)],
)
def test_ping_the_gateway(site: Site, source: str, gateway: str, size: int) -> None:
    request = frames.echo(source, gateway, bytes(n % 251 for n in range(size)))
    site.a.send(frames.frame(A.hardware, request))
    got = site.lab.receive(site.a, lambda f: f.haslayer(ICMPv6EchoReply) or f.haslayer(ICMP))
    assert (got.dst, got.src) == (A.hardware, frames.GATEWAY_MAC)
    reply = got.payload
    assert (reply.src, reply.dst) == (gateway, source)
    if ":" in source:
        assert reply.hlim == 64
        assert (got[ICMPv6EchoReply].id, got[ICMPv6EchoReply].seq) == (7, 3)
        assert bytes(got[ICMPv6EchoReply].data) == bytes(n % 251 for n in range(size))
    else:
        assert reply.ttl == 64
        assert (got[ICMP].type, got[ICMP].id, got[ICMP].seq) == (0, 7, 3)
        assert bytes(got[ICMP].payload) == bytes(n % 251 for n in range(size))
    assert frames.is_intact(reply)


@pytest.mark.parametrize(("source", "gateway"), [(A.address4, GATEWAY4), (A.address6, GATEWAY6)])
def test_ping_with_the_last_hop(site: Site, source: str, gateway: str) -> None:
    """TTL 1 is enough for the gateway itself."""
    site.a.send(frames.frame(A.hardware, frames.echo(source, gateway, ttl=1)))
    got = site.lab.receive(site.a, lambda f: f.haslayer(ICMPv6EchoReply) or f.haslayer(ICMP))
    assert got.payload.src == gateway


def test_ping_with_ip_options(site: Site) -> None:
    packet = IP(src=A.address4, dst=GATEWAY4, options=b"\x01\x01\x01\x00") / ICMP(id=9)
    site.a.send(frames.frame(A.hardware, IP(bytes(packet))))
    got = site.lab.receive(site.a, frames.has(ICMP))
    assert (got[ICMP].type, got[ICMP].id) == (0, 9)
    assert frames.is_intact(got[IP])


@pytest.mark.parametrize(
    "packet",
    [
        pytest.param(frames.udp(A.address4, GATEWAY4), id="udp4"),
        pytest.param(frames.tcp(A.address4, GATEWAY4), id="tcp4"),
        pytest.param(frames.udp(A.address6, GATEWAY6), id="udp6"),
        pytest.param(frames.tcp(A.address6, LINK_LOCAL), id="tcp6"),
        pytest.param(IP(src=A.address4, dst=GATEWAY4) / ICMP(type=0), id="echo-reply4"),
        pytest.param(IP(src=A.address4, dst=GATEWAY4) / ICMP(type=13), id="timestamp"),
        pytest.param(IP(src=A.address4, dst=GATEWAY4, flags="MF") / ICMP(), id="fragment"),
        pytest.param(IPv6(src=A.address6, dst=GATEWAY6) / ICMPv6EchoReply(), id="echo-reply6"),
    ],
)
def test_the_gateway_answers_nothing_else(site: Site, packet: Packet) -> None:
    site.a.send(frames.frame(A.hardware, packet), drop="local")
    site.lab.quiet(site.a)


def test_ping_of_another_network_s_gateway(site: Site) -> None:
    """Only the gateways of the Interface's own subnets answer."""
    site.a.send(frames.frame(A.hardware, frames.echo(A.address4, "10.0.0.254")), drop="no_route")
    site.lab.receive(site.a, frames.has(ICMP))


def test_echo_rate_limit(site: Site) -> None:
    """None are allowed, then some."""
    site.lab.commit(settings(icmpPerSecond=0))
    request = frames.frame(A.hardware, frames.echo(A.address4, GATEWAY4))
    for _ in range(10):
        site.a.send(request, drop="icmp_rate")
    site.lab.quiet(site.a)
    site.lab.commit(settings())
    site.a.send(request)
    assert site.lab.receive(site.a, frames.has(ICMP))
