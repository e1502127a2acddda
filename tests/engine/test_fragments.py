# SPDX-License-Identifier: Apache-2.0
"""IPv4 packets larger than the way out, that may be fragmented (RFC 791, RFC 1812)."""

import pytest
from scapy.layers.inet import IP, UDP, IPOption, IPOption_Router_Alert, IPOption_RR, defragment
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from tests.engine import frames
from tests.engine.lab import Lab
from tests.engine.site import REMOTE, REMOTE4, REMOTE_MAC, A, B, Site
from tests.engine.wire import Wire

MTU = 1300
SMALL = B.with_(mtu=MTU)
BIG = A.with_(mtu=1500)


def datagram(source: str, destination: str, length: int, **fields: object) -> Packet:
    """Return an IPv4 packet of this length with UDP in it, checksums filled in."""
    header = IP(src=source, dst=destination, id=77, **fields)
    filled = bytes(range(251)) * 40
    size = length - len(header) - 8
    return IP(bytes(header / UDP(sport=1000, dport=2000) / Raw(filled[:size])))


def collect(lab: Lab, wire: Wire, n: int) -> list[Packet]:
    """Return the next n IPv4 packets, all of one: the balance knows of no others."""
    wire.originated += n - 1
    return [lab.receive(wire, frames.has(IP)) for _ in range(n)]


def check(pieces: list[Packet], packet: Packet, mtu: int, ttl: int) -> None:
    """Check that fragments of at most this size are the packet."""
    assert all(len(piece) <= mtu and piece.ttl == ttl for piece in pieces)
    assert all(frames.checksum(bytes(piece)[: piece.ihl * 4]) == 0 for piece in pieces)
    assert [str(piece.flags) for piece in pieces] == ["MF"] * (len(pieces) - 1) + [""]
    (whole,) = defragment([IP(bytes(piece)) for piece in pieces])
    del whole.chksum
    whole.flags = packet.flags
    assert frames.without_ttl(IP(bytes(whole))) == frames.without_ttl(packet)


@pytest.mark.parametrize("length", [MTU + 1, 1460])
def test_to_an_endpoint(lab: Lab, length: int) -> None:
    site = Site(lab, A, SMALL)
    packet = datagram(A.address4, B.address4, length)
    site.a.send(frames.frame(A.hardware, packet))
    got = collect(lab, site.b, 2)
    assert {(frame.dst, frame.src) for frame in got} == {(B.hardware, frames.GATEWAY_MAC)}
    check([frame[IP] for frame in got], packet, MTU, ttl=63)
    lab.quiet(site.a)
    lab.quiet(site.b)


def test_before_encapsulation(lab: Lab) -> None:
    """RFC 2473 7.2 b: inside, so that the endpoint puts it together; all parts go one way."""
    site = Site(lab, BIG)
    packet = datagram(A.address4, REMOTE4, 1500)
    site.a.send(frames.frame(A.hardware, packet))
    got = collect(lab, site.up, 2)
    assert {(f[IPv6].nh, f[IPv6].dst, f[IPv6].plen) for f in got} == {
        (4, REMOTE, len(f[IP])) for f in got
    }
    assert len({frame[IPv6].fl for frame in got}) == 1
    check([frame[IP] for frame in got], packet, 1460, ttl=63)
    lab.quiet(site.a)


@pytest.mark.parametrize("known", [True, False])
def test_after_decapsulation(lab: Lab, known: bool) -> None:
    """Where nobody knows the endpoint's MAC address yet the packet waits whole."""
    site = Site(lab, A, SMALL.with_(mac=known))
    packet = datagram(REMOTE4, B.address4, 1460)
    outer = Ether(src=REMOTE_MAC, dst=site.uplink_mac) / IPv6(src=REMOTE, dst=B.underlay)
    site.up.send(outer / packet)
    check([frame[IP] for frame in collect(lab, site.b, 2)], packet, MTU, ttl=64)
    lab.quiet(site.up)


def test_a_fragment_again(lab: Lab) -> None:
    """One from the middle keeps that more come, and its place."""
    site = Site(lab, A, SMALL)
    part = IP(src=A.address4, dst=B.address4, id=5, proto=17, flags="MF", frag=100)
    part = IP(bytes(part / Raw(bytes(range(250)) * 5 + bytes(150))))
    site.a.send(frames.frame(A.hardware, part))
    first, second = (frame[IP] for frame in collect(lab, site.b, 2))
    assert (first.frag, second.frag) == (100, 100 + (len(first) - 20) // 8)
    assert (str(first.flags), str(second.flags)) == ("MF", "MF")
    assert bytes(first.payload) + bytes(second.payload) == bytes(part.payload)


def test_options(lab: Lab) -> None:
    """RFC 791 3.1: each fragment has those that are to be copied, the first all of them."""
    site = Site(lab, A, SMALL)
    options: list[IPOption] = [IPOption_RR(routers=[frames.ANY4]), IPOption_Router_Alert()]
    packet = datagram(A.address4, B.address4, 1460, options=options)
    site.a.send(frames.frame(A.hardware, packet))
    first, second = (frame[IP] for frame in collect(lab, site.b, 2))
    assert bytes(first)[20 : first.ihl * 4] == bytes(packet)[20 : packet.ihl * 4]
    assert bytes(second)[20 : second.ihl * 4] == b"\x94\x04\0\0"
    assert bytes(first.payload) + bytes(second.payload) == bytes(packet.payload)
    assert frames.checksum(bytes(second)[: second.ihl * 4]) == 0


def test_what_would_reach_beyond_the_largest_packet(lab: Lab) -> None:
    """Its offset would begin anew, and the part overwrite what came first."""
    site = Site(lab, A, SMALL)
    part = IP(src=A.address4, dst=B.address4, id=5, proto=17, frag=8100) / Raw(bytes(1400))
    site.a.send(frames.frame(A.hardware, part), drop="ip4_header")
    lab.quiet(site.b)


def test_a_bad_header_is_not_given_a_good_checksum(lab: Lab) -> None:
    site = Site(lab, A, SMALL)
    packet = datagram(REMOTE4, B.address4, 1460)
    packet.chksum ^= 1
    outer = Ether(src=REMOTE_MAC, dst=site.uplink_mac) / IPv6(src=REMOTE, dst=B.underlay)
    site.up.send(outer / packet, drop="ip4_checksum")
    lab.quiet(site.b)
