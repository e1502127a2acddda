# SPDX-License-Identifier: Apache-2.0
"""Errors that tell a sender why its packet went nowhere (RFC 792, RFC 1812, RFC 4443)."""

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6PacketTooBig,
    ICMPv6TimeExceeded,
    IPv6,
)
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from tests.engine import frames
from tests.engine.lab import Lab, settings
from tests.engine.site import (
    BLUE,
    REMOTE,
    REMOTE_MAC,
    SOURCE,
    A,
    B,
    Endpoint,
    Site,
    remote,
    routes,
)

FAMILIES = pytest.mark.parametrize("family", [4, 6])
NOWHERE = {4: "198.51.100.1", 6: "2001:db8:ffff::1"}
GATEWAY = {4: "10.0.0.1", 6: "2001:db8::1"}
MOST = {4: 576, 6: 1280}
"""Largest error: RFC 1812 4.3.2.3, RFC 4443 2.4 (c)."""


def is_error(frame: Packet) -> bool:
    if ICMP in frame:
        return frame[ICMP].type in (3, 11)
    return any(
        layer in frame for layer in (ICMPv6DestUnreach, ICMPv6PacketTooBig, ICMPv6TimeExceeded)
    )


def check_error(
    error: Packet, about: Packet, kind: type[Packet] | int, code: int, mtu: int = 0, ttl: int = 64
) -> None:
    """Check an error's addresses, type, checksum and what it quotes."""
    family = about.version
    assert error.version == family
    assert (error.src, error.dst) == (GATEWAY[family], about.src)
    assert frames.is_intact(error)
    data = bytes(error)
    if family == 4:
        assert (error.ttl, error.proto) == (ttl, 1)
        assert (error[ICMP].type, error[ICMP].code) == (kind, code)
        quoted = data[28:]
        assert int.from_bytes(data[26:28], "big") == mtu
        assert data[24:26] == b"\0\0"
    else:
        assert (error.hlim, error.nh) == (ttl, 58)
        assert not isinstance(kind, int)
        assert kind in error
        assert data[41] == code
        quoted = data[48:]
        assert int.from_bytes(data[44:48], "big") == mtu
    assert quoted == bytes(about)[: MOST[family] - (28 if family == 4 else 48)]


@FAMILIES
@pytest.mark.parametrize("size", [0, 8, 100, 1400])
def test_ttl_exceeded(site: Site, family: int, size: int) -> None:
    packet = frames.udp(A.address(family), B.address(family), b"q" * size, ttl=1)
    site.a.send(frames.frame(A.hardware, packet), drop="ttl")
    got = site.lab.receive(site.a, is_error)
    assert (got.dst, got.src) == (A.hardware, frames.GATEWAY_MAC)
    check_error(got.payload, packet, ICMPv6TimeExceeded if family == 6 else 11, 0)
    site.lab.quiet(site.b, frames.has(UDP))


@FAMILIES
@pytest.mark.parametrize("target", [remote, lambda family: NOWHERE[family]])
def test_ttl_zero(site: Site, family: int, target: object) -> None:
    assert callable(target)
    packet = frames.udp(A.address(family), target(family), ttl=0)
    site.a.send(frames.frame(A.hardware, packet), drop="ttl")
    got = site.lab.receive(site.a, is_error)
    check_error(got.payload, packet, ICMPv6TimeExceeded if family == 6 else 11, 0)


@FAMILIES
def test_no_route(site: Site, family: int) -> None:
    packet = frames.udp(A.address(family), NOWHERE[family])
    site.a.send(frames.frame(A.hardware, packet), drop="no_route")
    got = site.lab.receive(site.a, is_error)
    assert (got.dst, got.src) == (A.hardware, frames.GATEWAY_MAC)
    check_error(got.payload, packet, ICMPv6DestUnreach if family == 6 else 3, 0)


@FAMILIES
def test_a_default_route_ends_it(site: Site, family: int) -> None:
    site.lab.commit(routes("default", BLUE, ["0.0.0.0/0", REMOTE], ["::/0", REMOTE]))
    site.a.send(frames.frame(A.hardware, frames.udp(A.address(family), NOWHERE[family])))
    assert site.lab.receive(site.up, frames.has(UDP))[IPv6].dst == REMOTE
    site.lab.quiet(site.a)


SMALL = B.with_(mtu=1300)


@FAMILIES
def test_larger_than_the_endpoint_takes(lab: Lab, family: int) -> None:
    site = Site(lab, A, SMALL)
    header = 28 if family == 4 else 48
    fits = frames.udp(A.address(family), B.address(family), b"f" * (1300 - header))
    large = frames.whole(frames.udp(A.address(family), B.address(family), b"l" * (1301 - header)))
    site.a.send(frames.frame(A.hardware, fits))
    assert lab.receive(site.b, frames.has(UDP))
    site.a.send(frames.frame(A.hardware, large), drop="mtu")
    got = lab.receive(site.a, is_error)
    code = 4 if family == 4 else 0
    check_error(got.payload, large, ICMPv6PacketTooBig if family == 6 else 3, code, mtu=1300)
    lab.quiet(site.b, frames.has(UDP))


BIG = A.with_(mtu=1500)


@FAMILIES
def test_larger_than_the_underlay_takes(lab: Lab, family: int) -> None:
    """40 bytes of the underlay's 1500 are the outer header's."""
    site = Site(lab, BIG)
    header = 28 if family == 4 else 48
    fits = frames.udp(A.address(family), remote(family), b"f" * (1460 - header))
    large = frames.whole(frames.udp(A.address(family), remote(family), b"l" * (1461 - header)))
    site.a.send(frames.frame(A.hardware, fits))
    assert len(lab.receive(site.up, frames.has(UDP))) == 1514
    site.a.send(frames.frame(A.hardware, large), drop="mtu")
    code = 4 if family == 4 else 0
    kind = ICMPv6PacketTooBig if family == 6 else 3
    check_error(lab.receive(site.a, is_error).payload, large, kind, code, mtu=1460)


@FAMILIES
def test_decapsulated_larger_than_the_endpoint_takes(lab: Lab, family: int) -> None:
    """The error goes back through the overlay, to whoever sent the inner packet."""
    site = Site(lab, A, SMALL)
    header = 28 if family == 4 else 48
    large = frames.whole(frames.udp(remote(family), B.address(family), b"l" * (1301 - header)))
    outer = IPv6(src=REMOTE, dst=B.underlay)
    site.up.send(Ether(src=REMOTE_MAC, dst=site.uplink_mac) / outer / large, drop="mtu")
    got = lab.receive(site.up, lambda f: is_error(f) and f.haslayer(IPv6))
    assert (got[IPv6].src, got[IPv6].dst) == (SOURCE, REMOTE)
    code = 4 if family == 4 else 0
    kind = ICMPv6PacketTooBig if family == 6 else 3
    check_error(got[IPv6].payload, large, kind, code, mtu=1300, ttl=63)


@FAMILIES
def test_decapsulated_and_too_large_for_whom_nobody_knows_yet(lab: Lab, family: int) -> None:
    """What waited is not delivered either; the next one's sender is told."""
    site = Site(lab, A, SMALL.with_(mac=False))
    header = 28 if family == 4 else 48
    outer = Ether(src=REMOTE_MAC, dst=site.uplink_mac) / IPv6(src=REMOTE, dst=B.underlay)
    large = frames.whole(frames.udp(remote(family), B.address(family), b"l" * (1301 - header)))
    fits = frames.udp(remote(family), B.address(family), b"f" * (1300 - header))
    site.up.send(outer / large, drop="mtu")
    site.up.send(outer / fits)
    assert bytes(lab.receive(site.b, frames.has(UDP)).payload) == bytes(fits)
    site.up.send(outer / large, drop="mtu")
    lab.receive(site.up, lambda f: is_error(f) and f.haslayer(IPv6))
    lab.quiet(site.b, frames.has(UDP))


NO_ERROR = [
    pytest.param(IP(src=A.address4, dst=NOWHERE[4]) / ICMP(type=3), id="about-unreachable"),
    pytest.param(IP(src=A.address4, dst=NOWHERE[4]) / ICMP(type=11), id="about-time-exceeded"),
    pytest.param(IP(src=A.address4, dst=NOWHERE[4]) / ICMP(type=5), id="about-redirect"),
    pytest.param(IP(src=A.address4, dst=NOWHERE[4], frag=3) / Raw(b"x" * 8), id="later-fragment"),
    pytest.param(IPv6(src=A.address6, dst=NOWHERE[6]) / ICMPv6DestUnreach(), id="about-v6-error"),
    pytest.param(
        IPv6(src=A.address6, dst=NOWHERE[6]) / ICMPv6TimeExceeded(), id="about-v6-time-exceeded"
    ),
]


@pytest.mark.parametrize("packet", NO_ERROR)
def test_no_error_about(site: Site, packet: Packet) -> None:
    site.a.send(frames.frame(A.hardware, packet), drop="no_route")
    site.lab.quiet(site.a)


def test_an_error_about_an_echo_request(site: Site) -> None:
    for family in (4, 6):
        packet = frames.echo(A.address(family), NOWHERE[family])
        site.a.send(frames.frame(A.hardware, packet), drop="no_route")
        got = site.lab.receive(site.a, is_error)
        check_error(got.payload, packet, ICMPv6DestUnreach if family == 6 else 3, 0)


@FAMILIES
def test_errors_are_forwarded(site: Site, family: int) -> None:
    """An endpoint's own errors are packets as any other."""
    about = frames.udp(B.address(family), A.address(family), b"forwarded")
    error = ICMPv6DestUnreach() if family == 6 else ICMP(type=3, code=3)
    packet = frames.ip(A.address(family), B.address(family)) / error / about
    site.a.send(frames.frame(A.hardware, packet))
    got = site.lab.receive(site.b, is_error)
    assert frames.without_ttl(got.payload) == frames.without_ttl(type(packet)(bytes(packet)))


def test_gateway_of_the_other_family_only(lab: Lab) -> None:
    """Without an IPv4 gateway the error has a source that cannot be anybody's (RFC 7600 4.8)."""
    endpoint: Endpoint = A.with_(gateways=("2001:db8::1", "fe80::1"))
    site = Site(lab, endpoint)
    packet = frames.udp(A.address4, NOWHERE[4])
    site.a.send(frames.frame(A.hardware, packet), drop="no_route")
    assert lab.receive(site.a, is_error)[IP].src == "192.0.0.8"


def test_a_link_local_gateway_does_not_speak_beyond_its_link(lab: Lab) -> None:
    """RFC 3927 2.7: an error with its address would not arrive."""
    site = Site(lab, SMALL.with_(gateways=("169.254.1.1",)))
    large = frames.whole(frames.udp(remote(4), B.address4, b"l" * 1300))
    outer = IPv6(src=REMOTE, dst=B.underlay)
    site.up.send(Ether(src=REMOTE_MAC, dst=site.uplink_mac) / outer / large, drop="mtu")
    got = lab.receive(site.up, lambda f: is_error(f) and f.haslayer(IPv6))
    assert (got[IP].src, got[IP].dst) == ("192.0.0.8", remote(4))


def test_link_local_gateway_alone(lab: Lab) -> None:
    site = Site(lab, A.with_(gateways=("fe80::1",)))
    packet = frames.udp(A.address6, NOWHERE[6])
    site.a.send(frames.frame(A.hardware, packet), drop="no_route")
    assert lab.receive(site.a, is_error)[IPv6].src == "fe80::1"


def test_error_rate_limit(site: Site) -> None:
    """Over the limit packets still drop under their own reason; just nobody is told."""
    site.lab.commit(settings(icmpPerSecond=0))
    for _ in range(10):
        site.a.send(frames.frame(A.hardware, frames.udp(A.address4, NOWHERE[4])), drop="no_route")
    site.lab.quiet(site.a)
