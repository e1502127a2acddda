# SPDX-License-Identifier: Apache-2.0
"""Encapsulation and decapsulation: IPv4 and IPv6 in IPv6 (RFC 2473, RFC 4213)."""

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import (
    HBHOptUnknown,
    ICMPv6PacketTooBig,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
)
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from headrace_dataplane.protocol import Network, PathMtu
from tests.engine import frames
from tests.engine.lab import Lab
from tests.engine.process import until
from tests.engine.site import (
    BLUE,
    REMOTE,
    REMOTE_GREEN,
    REMOTE_MAC,
    SOURCE,
    SOURCE_GREEN,
    UPLINK_ADDRESS,
    VNI,
    A,
    B,
    C,
    D,
    Site,
    network,
    remote,
    routes,
    underlay,
    uplink,
)

FAMILIES = pytest.mark.parametrize("family", [4, 6])
NEXT_HEADER = {4: 4, 6: 41}


def encapsulated(
    site: Site, outer: str, inner: Packet, source: str = REMOTE, /, **fields: int
) -> Packet:
    """Return a frame with this outer destination, from node 2 and of blue."""
    header = IPv6(src=source, dst=outer, **fields)
    return Ether(src=REMOTE_MAC, dst=site.uplink_mac) / header / inner


@FAMILIES
def test_outer_header(site: Site, family: int) -> None:
    packet = frames.udp(A.address(family), remote(family), b"inner")
    site.a.send(frames.frame(A.hardware, packet))
    got = site.lab.receive(site.up, frames.has(UDP))
    assert (got.dst, got.src, got.type) == (REMOTE_MAC, site.uplink_mac, 0x86DD)
    outer = got[IPv6]
    assert (outer.version, outer.tc, outer.hlim) == (6, 0, 64)
    assert outer.fl != 0
    assert outer.plen == len(packet)
    assert outer.nh == NEXT_HEADER[family]
    assert (outer.src, outer.dst) == (SOURCE, REMOTE)
    inner = outer.payload
    assert frames.without_ttl(inner) == frames.without_ttl(packet)
    assert frames.is_intact(inner)
    assert len(got) == 14 + 40 + len(packet)


@FAMILIES
def test_flow_label_is_constant_in_a_flow_and_differs_between_flows(
    site: Site, family: int
) -> None:
    def label(sport: int, payload: bytes) -> int:
        packet = frames.udp(A.address(family), remote(family), payload, sport=sport)
        site.a.send(frames.frame(A.hardware, packet))
        fl: int = site.lab.receive(site.up, frames.has(UDP))[IPv6].fl
        return fl

    labels = {port: label(port, b"first") for port in range(1000, 1064)}
    assert all(label(port, b"another, longer") == fl for port, fl in labels.items())
    assert len(set(labels.values())) >= 60
    assert 0 not in labels.values()


@FAMILIES
def test_there_and_back(site: Site, family: int) -> None:
    """Case 5 and 6: a ping leaves by the uplink, the answer reaches the endpoint."""
    site.a.send(frames.frame(A.hardware, frames.echo(A.address(family), remote(family))))
    sent = site.lab.receive(site.up, lambda f: f.haslayer(IPv6) and f[IPv6].dst == REMOTE)
    assert sent[IPv6].nh == NEXT_HEADER[family]
    reply = frames.udp(remote(family), A.address(family), b"back")
    site.up.send(encapsulated(site, A.underlay, reply))
    got = site.lab.receive(site.a, frames.has(UDP))
    assert (got.dst, got.src) == (A.hardware, frames.GATEWAY_MAC)
    assert bytes(got.payload) == bytes(reply)


@FAMILIES
def test_outer_destination_alone_decides(site: Site, family: int) -> None:
    """The same inner packet reaches whose underlay address is on the outside."""
    inner = frames.udp(remote(family), A.address(family))
    for endpoint, source in ((A, REMOTE), (B, REMOTE), (C, REMOTE_GREEN), (D, REMOTE_GREEN)):
        site.up.send(encapsulated(site, endpoint.underlay, inner, source))
        got = site.lab.receive(site.lab.wires[endpoint.name], frames.has(UDP))
        assert (got.dst, got.src) == (endpoint.hardware, frames.GATEWAY_MAC)
        assert bytes(got.payload) == bytes(inner)
        assert got.type == {4: 0x0800, 6: 0x86DD}[family]
    for wire in site.lab.wires.values():
        site.lab.quiet(wire, frames.has(UDP))


def marked(packet: Packet, tc: int) -> Packet:
    """Return the packet with this traffic class, checksums filled in."""
    changed = packet.copy()
    if IP in packet:
        changed[IP].tos = tc
        del changed[IP].chksum
    else:
        changed.tc = tc
    return type(packet)(bytes(changed))


def traffic_class(packet: Packet) -> int:
    tc: int = packet.tos if isinstance(packet, IP) else packet.tc
    return tc


@FAMILIES
def test_traffic_class_is_seen_outside(site: Site, family: int) -> None:
    """RFC 6040 4.1 and RFC 2983: ECN is copied always, DSCP where the network has none of its own.

    While packets wait for a MAC address, too.
    """
    new = underlay(2, BLUE, 0x77)
    hosts = {4: "10.1.9.9/32", 6: "2001:db8:1::99/128"}
    site.lab.commit(routes("new", BLUE, [hosts[family], new]))
    for dscp in (None, 0, 34):
        given = {} if dscp is None else {"dscp": dscp}
        site.lab.commit(network(BLUE, VNI[BLUE], **given))
        assert site.lab.item(Network, name=BLUE).dscp == dscp
        for tc in (0xB8, 0x00, 0x01, 0x02, 0x03, 0xFF):
            packet = marked(frames.udp(A.address(family), remote(family)), tc)
            site.a.send(frames.frame(A.hardware, packet))
            outer = site.lab.receive(site.up, frames.has(UDP))[IPv6]
            assert outer.tc == (tc if dscp is None else dscp << 2 | tc & 3)
            assert outer.fl != 0
            assert traffic_class(outer.payload) == tc
            assert frames.is_intact(outer.payload)
    waiting = marked(frames.udp(A.address(family), hosts[family].split("/")[0]), 0xFF)
    site.a.send(frames.frame(A.hardware, waiting))
    site.up.hosts[new] = REMOTE_MAC
    assert site.lab.receive(site.up, frames.has(UDP))[IPv6].tc == 34 << 2 | 3


def test_traffic_class_of_a_network_that_is_new(site: Site) -> None:
    """Its routes are written before it is, in the same commit."""
    site.lab.commit(
        network("t/new", 300, dscp=34),
        A.with_(network="t/new").interface(),
        routes("new", "t/new", ["10.1.0.0/16", REMOTE]),
    )
    site.a.send(frames.frame(A.hardware, frames.udp(A.address4, remote(4))))
    assert site.lab.receive(site.up, frames.has(UDP))[IPv6].tc == 34 << 2


NOT_ECT, ECT1, ECT0, CE = range(4)


@FAMILIES
@pytest.mark.parametrize("dscp", [0, 46])
def test_marks_of_the_underlay_are_seen_inside(site: Site, family: int, dscp: int) -> None:
    """RFC 6040 4.2; the DSCP is the endpoint's, whatever the underlay made of it."""
    becomes = {(ECT0, ECT1): ECT1, (ECT0, CE): CE, (ECT1, CE): CE}
    for inner in (NOT_ECT, ECT1, ECT0, CE):
        packet = marked(frames.udp(remote(family), A.address(family)), dscp << 2 | inner)
        for outer in (NOT_ECT, ECT1, ECT0, CE):
            if (inner, outer) == (NOT_ECT, CE):
                continue
            site.up.send(encapsulated(site, A.underlay, packet, tc=10 << 2 | outer))
            got = site.lab.receive(site.a, frames.has(UDP)).payload
            expected = becomes.get((inner, outer), inner)
            assert bytes(got) == bytes(marked(packet, dscp << 2 | expected)), (inner, outer)
            assert frames.is_intact(got)
    unaware = marked(frames.udp(remote(family), A.address(family)), dscp << 2)
    site.up.send(encapsulated(site, A.underlay, unaware, tc=CE), drop="ecn")
    site.lab.quiet(site.a, frames.has(UDP))


def test_marks_do_not_let_anybody_in(site: Site) -> None:
    """Whose packet it is comes first."""
    inner = marked(frames.udp(remote(4), A.address4), ECT0)
    site.up.send(encapsulated(site, A.underlay, inner, REMOTE_GREEN, tc=CE), drop="underlay_source")
    site.up.send(encapsulated(site, "fd00:1:0:1::ffff", inner, tc=CE), drop="unknown_underlay")
    site.lab.quiet(site.a, frames.has(UDP))


@FAMILIES
def test_networks_are_apart_on_the_wire(site: Site, family: int) -> None:
    """Case 15: same inner addresses in two networks, different nodes' addresses outside."""
    packet = frames.udp(A.address(family), remote(family))
    for endpoint, source, outer in ((A, SOURCE, REMOTE), (C, SOURCE_GREEN, REMOTE_GREEN)):
        site.lab.wires[endpoint.name].send(frames.frame(endpoint.hardware, packet))
        got = site.lab.receive(site.up, frames.has(UDP))[IPv6]
        assert (got.src, got.dst) == (source, outer)


@FAMILIES
@pytest.mark.parametrize("fields", [{"hlim": 1}, {"hlim": 255}, {"fl": 0xFFFFF}, {"tc": 0xFC}])
def test_outer_fields_do_not_matter(site: Site, family: int, fields: dict[str, int]) -> None:
    inner = frames.udp(remote(family), A.address(family))
    site.up.send(encapsulated(site, A.underlay, inner, **fields))
    assert bytes(site.lab.receive(site.a, frames.has(UDP)).payload) == bytes(inner)


@FAMILIES
def test_padding_is_cut_inside_and_outside(site: Site, family: int) -> None:
    inner = frames.udp(remote(family), A.address(family), b"")
    site.up.send(bytes(encapsulated(site, A.underlay, inner)) + b"\xaa" * 20)
    assert bytes(site.lab.receive(site.a, frames.has(UDP)).payload) == bytes(inner)
    site.up.send(encapsulated(site, A.underlay, inner / Raw(b"\xbb" * 20)))
    got = site.lab.receive(site.a, frames.has(UDP))
    if got[UDP].len == 8:  # scapy left the inner lengths as they were
        assert bytes(got.payload) == bytes(inner)


def test_unknown_outer_destination(site: Site) -> None:
    inner = frames.udp(remote(4), A.address4)
    for address in ("fd00:1:0:1::ffff", "fd00:1:0:2::9", "2001:db8::5", "::", "::1"):
        site.up.send(encapsulated(site, address, inner), drop="unknown_underlay")
    for wire in site.lab.wires.values():
        site.lab.quiet(wire, frames.has(UDP))


@pytest.mark.parametrize("address", [UPLINK_ADDRESS, SOURCE, SOURCE_GREEN])
def test_encapsulated_to_the_node_itself(site: Site, address: str) -> None:
    inner = frames.udp(remote(4), A.address4)
    site.up.send(encapsulated(site, address, inner), drop="local")
    site.lab.quiet(site.a, frames.has(UDP))


def too_big(mtu: int, source: str, to: str, length: int = 1460) -> Packet:
    """Return what a router of the fabric says of an encapsulated packet of this length inside."""
    inner = bytes(frames.udp(A.address4, remote(4), bytes(length - 28)))
    about = bytes(IPv6(src=source, dst=to, nh=4) / Raw(inner))[: 1280 - 48]
    error = IPv6(src="fd00:1::1", dst=source) / ICMPv6PacketTooBig(mtu=mtu) / Raw(about)
    return IPv6(bytes(error))


def say(site: Site, error: Packet, **becomes: object) -> None:
    site.up.send(frames.frame(REMOTE_MAC, error, site.uplink_mac), **becomes)  # type: ignore[arg-type]


def path_mtus(site: Site) -> list[tuple[str, int]]:
    return [(item.underlay, item.mtu) for item in site.lab.engine.client.items(PathMtu)]


def udp_of(family: int, length: int, to: str) -> Packet:
    size = length - (28 if family == 4 else 48)
    return frames.whole(frames.udp(A.address(family), to, bytes(size)))


@FAMILIES
def test_a_router_of_the_fabric_carries_less(site: Site, family: int) -> None:
    """RFC 8201, RFC 2473 7.2: who sends more to that underlay address is told; no other is."""
    other, host = underlay(2, BLUE, 0x55), {4: "10.2.0.1", 6: "2001:db8:2::1"}[family]
    site.lab.commit(routes("other", BLUE, [f"{host}/{32 if family == 4 else 128}", other]))
    site.up.hosts[other] = REMOTE_MAC
    large = udp_of(family, 1361, remote(family))
    site.a.send(frames.frame(A.hardware, large))
    assert len(site.lab.receive(site.up, frames.has(UDP))) == 14 + 1401
    say(site, too_big(1400, SOURCE, REMOTE), learned=True)
    until(lambda: path_mtus(site) == [(REMOTE, 1400)], "the engine takes note")
    site.a.send(frames.frame(A.hardware, large), drop="mtu")
    told = site.lab.receive(site.a, lambda f: ICMP in f or ICMPv6PacketTooBig in f)
    assert (told[ICMP].nexthopmtu if family == 4 else told[ICMPv6PacketTooBig].mtu) == 1360
    for length, to in ((1360, remote(family)), (1460, host)):
        site.a.send(frames.frame(A.hardware, udp_of(family, length, to)))
        assert len(site.lab.receive(site.up, frames.has(UDP))) == 54 + length
    # Whatever is said of it anew, it is not for more.
    site.lab.commit(uplink(mtu=1480))
    site.lab.commit(uplink())
    say(site, too_big(1450, SOURCE, REMOTE), learned=True)
    site.lab.settle()
    assert path_mtus(site) == [(REMOTE, 1400)]


@pytest.mark.parametrize(
    ("error", "learned"),
    [
        pytest.param(too_big(1400, UPLINK_ADDRESS, REMOTE), True, id="not the source of a network"),
        pytest.param(too_big(1400, SOURCE_GREEN, REMOTE), True, id="source of another network"),
        pytest.param(too_big(1400, SOURCE, UPLINK_ADDRESS), True, id="nobody whom we send to"),
        pytest.param(too_big(1279, SOURCE, REMOTE), True, id="less than every link carries"),
        pytest.param(too_big(1500, SOURCE, REMOTE), False, id="no less than it was"),
        pytest.param(too_big(1400, SOURCE, REMOTE, 1300), False, id="about what is not too big"),
    ],
)
def test_what_no_router_says(lab: Lab, error: Packet, learned: bool) -> None:
    site = Site(lab, A)
    say(site, error, **({"learned": True} if learned else {"drop": "local"}))
    damaged = too_big(1400, SOURCE, REMOTE)
    damaged[ICMPv6PacketTooBig].cksum ^= 1
    say(site, damaged, drop="local")
    lab.quiet(site.a)
    assert path_mtus(site) == []


@pytest.mark.parametrize("protocol", [6, 17, 47, 0, 59, 60])
def test_other_protocols(site: Site, protocol: int) -> None:
    packet = Raw(b"\x45" + b"\0" * 39)
    site.up.send(encapsulated(site, A.underlay, packet, nh=protocol), drop="underlay_protocol")
    site.lab.quiet(site.a, frames.has(Raw))


def ip6tnl(family: int, option: int = 4) -> Packet:
    """Return the header that Linux' ip6tnl sends before the packet unless told `encaplimit none`.

    RFC 2473 4.1.1: the limit, 4, then PadN of 3 bytes.
    """
    limit = HBHOptUnknown(otype=option, optdata=b"\x04")
    return IPv6ExtHdrDestOpt(
        nh=NEXT_HEADER[family], options=[limit, Raw(b"\x01\x01\x00")], autopad=0
    )


@FAMILIES
def test_tunnel_encapsulation_limit(site: Site, family: int) -> None:
    """Among packets without one, and marked by the underlay, too."""
    inner = marked(frames.udp(remote(family), A.address(family)), ECT0)
    header = ip6tnl(family)
    assert bytes(header)[2:] == bytes.fromhex("040104010100")
    for _ in range(20):
        site.up.send(encapsulated(site, A.underlay, header / inner))
        site.up.send(encapsulated(site, A.underlay, inner))
    site.lab.settle()
    got = [frame for frame in map(Ether, site.a.inbox) if UDP in frame]
    assert [bytes(frame.payload) for frame in got] == [bytes(inner)] * 40
    site.a.inbox.clear()
    site.up.send(encapsulated(site, A.underlay, header / inner, tc=CE))
    got = site.lab.receive(site.a, frames.has(UDP)).payload
    assert bytes(got) == bytes(marked(inner, CE))


def test_tunnel_encapsulation_limit_lets_nobody_in(site: Site) -> None:
    inner = frames.udp(remote(4), A.address4)
    packet = ip6tnl(4) / inner
    site.up.send(encapsulated(site, A.underlay, packet, REMOTE_GREEN), drop="underlay_source")
    site.up.send(encapsulated(site, "fd00:1:0:1::ffff", packet), drop="unknown_underlay")
    unknown = ip6tnl(4, 0x84) / inner
    site.up.send(encapsulated(site, A.underlay, unknown), drop="underlay_protocol")
    twice = IPv6ExtHdrDestOpt(nh=60) / ip6tnl(4) / inner
    site.up.send(encapsulated(site, A.underlay, twice), drop="underlay_protocol")
    site.up.send(encapsulated(site, A.underlay, ip6tnl(4)), drop="inner_header")
    site.lab.quiet(site.a, frames.has(UDP))


def test_fragments_of_the_underlay(site: Site) -> None:
    """Encapsulated packets are never fragmented by us, and not put together."""
    packet = IPv6ExtHdrFragment(nh=4, m=1, offset=0, id=1) / Raw(b"\x45" + b"\0" * 39)
    site.up.send(encapsulated(site, A.underlay, packet), drop="underlay_protocol")
    site.lab.settle()


def inner4(**fields: object) -> bytes:
    packet = IP(src=remote(4), dst=A.address4, **fields) / UDP(sport=1, dport=2) / Raw(b"x" * 20)
    return bytes(packet)


def inner6(**fields: object) -> bytes:
    packet = IPv6(src=remote(6), dst=A.address6, **fields) / UDP(sport=1, dport=2) / Raw(b"x" * 20)
    return bytes(packet)


@pytest.mark.parametrize(
    ("next_header", "inner"),
    [
        pytest.param(4, b"", id="v4-empty"),
        pytest.param(4, inner4()[:1], id="v4-one-byte"),
        pytest.param(4, inner4()[:19], id="v4-half-header"),
        pytest.param(4, inner4()[:-1], id="v4-one-byte-short"),
        pytest.param(4, inner4(len=2000), id="v4-too-long"),
        pytest.param(4, inner4(len=19), id="v4-too-short"),
        pytest.param(4, inner4(len=0), id="v4-zero"),
        pytest.param(4, inner4(version=5), id="v4-version"),
        pytest.param(4, inner6(), id="v4-is-v6"),
        pytest.param(4, inner4(ihl=4), id="v4-header-length"),
        pytest.param(4, inner4(ihl=15, len=48), id="v4-header-longer-than-packet"),
        pytest.param(41, b"", id="v6-empty"),
        pytest.param(41, inner6()[:39], id="v6-half-header"),
        pytest.param(41, inner6()[:-1], id="v6-one-byte-short"),
        pytest.param(41, inner6(plen=2000), id="v6-too-long"),
        pytest.param(41, inner6(version=4), id="v6-version"),
        pytest.param(41, inner4(), id="v6-is-v4"),
        pytest.param(41, inner6(plen=65535), id="v6-longest"),
    ],
)
def test_bad_inner_header(site: Site, next_header: int, inner: bytes) -> None:
    frame = encapsulated(site, A.underlay, Raw(inner) if inner else Raw(b""), nh=next_header)
    site.up.send(frame, drop="inner_header")
    site.lab.quiet(site.a)


@pytest.mark.parametrize("plen", [61, 1000, 65535])
def test_outer_length_beyond_the_frame(site: Site, plen: int) -> None:
    frame = encapsulated(site, A.underlay, Raw(inner4()), plen=plen, nh=4)
    site.up.send(frame, drop="ip6_header")
    site.lab.quiet(site.a, frames.has(UDP))


@FAMILIES
def test_endpoint_without_known_mac_gets_the_packet_once_it_answers(lab: Lab, family: int) -> None:
    site = Site(lab, A.with_(mac=False))
    site.a.hosts = {}
    inner = frames.udp(remote(family), A.address(family))
    site.up.send(encapsulated(site, A.underlay, inner))
    lab.taken(site.up)
    site.a.hosts = {A.address(family): A.hardware}
    got = lab.receive(site.a, frames.has(UDP))
    assert got.dst == A.hardware
    assert bytes(got.payload) == bytes(inner)


def test_uplink_of_the_next_hop_follows_the_address(site: Site) -> None:
    """An underlay address that becomes local is delivered here, and encapsulated when it left."""
    moved = B.with_(underlay=REMOTE)
    packet = frames.frame(A.hardware, frames.udp(A.address4, remote(4)))
    site.a.send(packet)
    assert site.lab.receive(site.up, frames.has(UDP))
    site.lab.commit(moved.interface())
    site.a.send(packet)
    assert site.lab.receive(site.b, frames.has(UDP)).dst == B.hardware
    site.lab.commit(B.interface())
    site.a.send(packet)
    assert site.lab.receive(site.up, frames.has(UDP))[IPv6].dst == REMOTE


def test_without_an_uplink_there_is_no_way_out(site: Site) -> None:
    """A next hop that no uplink leads to."""
    site.lab.commit(uplink(onLink=["fd99::/48"]))
    packet = frames.frame(A.hardware, frames.udp(A.address4, remote(4)))
    site.a.send(packet, drop="no_route")
    site.lab.quiet(site.up, frames.has(UDP))
    site.lab.commit(uplink())
    site.a.send(packet)
    assert site.lab.receive(site.up, frames.has(UDP))
