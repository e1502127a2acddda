# SPDX-License-Identifier: Apache-2.0
"""Routing inside the node: between Interfaces, by the longest prefix, never across networks."""

import random
from ipaddress import ip_address, ip_network
from itertools import pairwise

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_NOP, IPOption_RR
from scapy.layers.inet6 import ICMPv6DestUnreach, IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrHopByHop
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from headrace_dataplane.protocol import Put
from tests.engine import frames
from tests.engine.lab import Lab, Match, put
from tests.engine.site import (
    BLUE,
    GATEWAYS,
    GREEN,
    REMOTE,
    REMOTE_GREEN,
    A,
    B,
    C,
    D,
    Site,
    host_routes,
    network,
    remote,
    routes,
    tap,
)

FAMILIES = pytest.mark.parametrize("family", [4, 6])


@FAMILIES
def test_between_interfaces_of_one_node(site: Site, family: int) -> None:
    packet = frames.tcp(A.address(family), B.address(family))
    site.a.send(frames.frame(A.hardware, packet))
    got = site.lab.receive(site.b, frames.has(TCP))
    assert (got.dst, got.src) == (B.hardware, frames.GATEWAY_MAC)
    assert frames.without_ttl(got.payload) == frames.without_ttl(packet)
    assert (got.payload.ttl if family == 4 else got.payload.hlim) == 63
    assert frames.is_intact(got.payload)


def has_id(ident: int) -> Match:
    return lambda frame: UDP in frame and frame[IP].id == ident


@pytest.mark.parametrize("ttl", [2, 3, 64, 128, 255])
@pytest.mark.parametrize("tail", range(4))
def test_checksum_after_ttl_decrement(site: Site, ttl: int, tail: int) -> None:
    """Over many header values, the ones at the carry of the incremental update among them."""
    random_ = random.Random(ttl * 10 + tail)
    idents = [0, 0xFFFF, *random_.sample(range(0x10000), 30)]
    for ident in idents:
        packet = frames.udp(A.address4, B.address4, ttl=ttl)
        packet[IP].id = ident
        del packet[IP].chksum
        site.a.send(frames.frame(A.hardware, packet))
    for ident in idents:
        got = site.lab.receive(site.b, has_id(ident))
        assert got[IP].ttl == ttl - 1
        assert frames.is_intact(got[IP])


@FAMILIES
def test_sizes_up_to_the_mtu(site: Site, family: int) -> None:
    header = 28 if family == 4 else 48
    for size in [0, 1, 17, 18, 100, 1000, A.mtu - header]:
        packet = frames.udp(
            A.address(family), B.address(family), random.Random(size).randbytes(size)
        )
        site.a.send(frames.frame(A.hardware, packet))
        got = site.lab.receive(site.b, frames.has(UDP))
        assert frames.without_ttl(got.payload) == frames.without_ttl(packet)


@FAMILIES
def test_networks_with_the_same_addresses_are_apart(site: Site, family: int) -> None:
    for sender, to in ((A, "b"), (C, "d")):
        packet = frames.udp(sender.address(family), B.address(family), sender.name.encode())
        site.lab.wires[sender.name].send(frames.frame(sender.hardware, packet))
        got = site.lab.receive(site.lab.wires[to], frames.has(UDP))
        assert bytes(got[UDP].payload) == sender.name.encode()
    for wire in site.lab.wires.values():
        site.lab.quiet(wire, frames.has(UDP))


@FAMILIES
def test_to_itself(site: Site, family: int) -> None:
    """An endpoint reaches its own address by its gateway, as any other."""
    site.a.send(frames.frame(A.hardware, frames.udp(A.address(family), A.address(family))))
    got = site.lab.receive(site.a, frames.has(UDP))
    assert (got.dst, got.src) == (A.hardware, frames.GATEWAY_MAC)


@FAMILIES
def test_padding_is_cut(site: Site, family: int) -> None:
    packet = frames.udp(A.address(family), B.address(family), b"x")
    site.a.send(bytes(frames.frame(A.hardware, packet)) + b"\xaa" * 30)
    got = site.lab.receive(site.b, frames.has(UDP))
    assert len(got) == 14 + len(packet)
    assert frames.without_ttl(got.payload) == frames.without_ttl(packet)


def test_ip_options_are_forwarded(site: Site) -> None:
    packet = IP(
        src=A.address4,
        dst=B.address4,
        options=[IPOption_NOP(), IPOption_RR(pointer=4, routers=[frames.ANY4])],
    ) / UDP(sport=1, dport=2)
    packet = IP(bytes(packet))
    assert packet.ihl > 5
    site.a.send(frames.frame(A.hardware, packet))
    got = site.lab.receive(site.b, frames.has(UDP))
    assert frames.without_ttl(got[IP]) == frames.without_ttl(packet)
    assert frames.is_intact(got[IP])


def test_ip6_extension_headers_are_forwarded(site: Site) -> None:
    packet = IPv6(src=A.address6, dst=B.address6) / IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt()
    packet = IPv6(bytes(packet / UDP(sport=1, dport=2) / Raw(b"x")))
    site.a.send(frames.frame(A.hardware, packet))
    got = site.lab.receive(site.b, frames.has(UDP))
    assert frames.without_ttl(got[IPv6]) == frames.without_ttl(packet)


def test_fragments_are_forwarded(site: Site) -> None:
    for packet in (
        IP(src=A.address4, dst=B.address4, flags="MF", id=5, proto=17) / Raw(b"f" * 64),
        IP(src=A.address4, dst=B.address4, frag=8, id=5, proto=17) / Raw(b"g" * 10),
    ):
        site.a.send(frames.frame(A.hardware, packet))
        got = site.lab.receive(site.b, frames.has(IP))
        assert frames.without_ttl(got[IP]) == frames.without_ttl(IP(bytes(packet)))


# Longest prefix.

LENGTHS = {
    4: ["0.0.0.0/0", "10.0.0.0/8", "10.64.0.0/10", "10.77.0.0/16", "10.77.7.0/24", "10.77.7.128/25",
        "10.77.7.192/30", "10.77.7.193/32"],
    6: ["::/0", "2000::/3", "2001:db8::/32", "2001:db8:77::/48", "2001:db8:77:7::/64",
        "2001:db8:77:7:8000::/65", "2001:db8:77:7:8000::ff00/120", "2001:db8:77:7:8000::ff42/128"],
}  # fmt: skip


def longest(prefixes: list[str], address: str) -> int:
    """Index of the longest prefix that holds the address."""
    return max(
        (n for n, p in enumerate(prefixes) if ip_address(address) in ip_network(p)),
        key=lambda n: ip_network(prefixes[n]).prefixlen,
    )


@FAMILIES
def test_longest_prefix(site: Site, family: int) -> None:
    """Each prefix has a next hop of its own beyond the uplink."""
    prefixes = LENGTHS[family]
    hops = [f"fd00:1:0:3::{n + 1}" for n in range(len(prefixes))]
    for hop in hops:
        site.up.hosts[hop] = "02:00:00:00:03:01"
    site.lab.commit(routes("lengths", BLUE, *([p, h] for p, h in zip(prefixes, hops, strict=True))))
    random_ = random.Random(family)
    targets = []
    for prefix in prefixes:
        net = ip_network(prefix)
        first, last = int(net.network_address), int(net.broadcast_address)
        targets += [first, last, *(random_.randint(first, last) for _ in range(4))]
        targets += [first - 1, last + 1]
    for target in targets:
        try:
            address = ip_address(target)
        except ValueError:
            continue
        if address.version != family or not is_routable(str(address)):
            continue
        site.a.send(
            frames.frame(A.hardware, frames.udp(A.address(family), str(address), b"longest"))
        )
        got = site.lab.receive(site.up, frames.has(UDP))
        assert got[IPv6].dst == hops[longest(prefixes, str(address))], address


def is_routable(address: str) -> bool:
    parsed = ip_address(address)
    return not (
        parsed.is_multicast
        or parsed.is_link_local
        or parsed.is_loopback
        or parsed.is_unspecified
        or (parsed.version == 4 and int(parsed) >> 28 in (0, 15))
        or (parsed.version == 4 and int(parsed) >> 24 == 0)
        or address in (A.address4, B.address4, *GATEWAYS)
    )


@FAMILIES
def test_a_more_specific_route_comes_and_goes(site: Site, family: int) -> None:
    specific = {4: "10.1.0.7/32", 6: "2001:db8:1::7/128"}[family]
    target = specific.split("/")[0]
    other = "fd00:1:0:4::1"
    site.up.hosts[other] = "02:00:00:00:04:01"
    for hop in (REMOTE, other, REMOTE):
        if hop == other:
            site.lab.commit(routes("specific", BLUE, [specific, other]))
        else:
            site.lab.commit(routes("specific", BLUE))
        site.a.send(frames.frame(A.hardware, frames.udp(A.address(family), target)))
        assert site.lab.receive(site.up, frames.has(UDP))[IPv6].dst == hop


@FAMILIES
def test_blackhole(site: Site, family: int) -> None:
    hole = {4: "10.1.0.0/24", 6: "2001:db8:1::/64"}[family]
    site.lab.commit(routes("hole", BLUE, [hole]))
    target = {4: "10.1.0.99", 6: "2001:db8:1::99"}[family]
    outside = {4: "10.1.1.99", 6: "2001:db8:1:1::99"}[family]
    packet = frames.frame(A.hardware, frames.udp(A.address(family), target))
    site.a.send(packet, drop="blackhole")
    site.a.send(frames.frame(A.hardware, frames.udp(A.address(family), outside)))
    assert site.lab.receive(site.up, frames.has(UDP))
    site.lab.quiet(site.up, frames.has(UDP))


# Prefixes of an Interface and the source check.

BEHIND4, BEHIND6 = "10.50.0.0/24", "2001:db8:50::/56"


@pytest.fixture
def routed(lab: Lab) -> Site:
    return Site(lab, A.with_(prefixes=(BEHIND4, BEHIND6)), B, C, D)


@pytest.mark.parametrize("address", ["10.50.0.0", "10.50.0.77", "10.50.0.255"])
def test_routed_prefix_v4(routed: Site, address: str) -> None:
    routed.b.send(frames.frame(B.hardware, frames.udp(B.address4, address)))
    assert routed.lab.receive(routed.a, frames.has(UDP)).dst == A.hardware
    routed.a.send(frames.frame(A.hardware, frames.udp(address, B.address4)))
    assert routed.lab.receive(routed.b, frames.has(UDP))[IP].src == address


@pytest.mark.parametrize("address", ["2001:db8:50::", "2001:db8:50:ff:ffff:ffff:ffff:ffff"])
def test_routed_prefix_v6(routed: Site, address: str) -> None:
    routed.b.send(frames.frame(B.hardware, frames.udp(B.address6, address)))
    assert routed.lab.receive(routed.a, frames.has(UDP)).dst == A.hardware
    routed.a.send(frames.frame(A.hardware, frames.udp(address, B.address6)))
    assert routed.lab.receive(routed.b, frames.has(UDP))[IPv6].src == address


@pytest.mark.parametrize(
    "address",
    ["10.0.0.6", "10.0.0.4", "10.0.0.1", "10.50.1.0", "10.49.255.255", frames.ANY4, "127.0.0.1",
     "255.255.255.255", "224.0.0.5", "2001:db8::6", "2001:db8::1", "2001:db8:50:100::",
     "2001:db8:4f:ff::", "::1", "ff02::1", "fe80::5"],
)  # fmt: skip
def test_source_check(routed: Site, address: str) -> None:
    target = B.address6 if ":" in address else B.address4
    routed.a.send(frames.frame(A.hardware, frames.udp(address, target)), drop="source")
    for wire in routed.lab.wires.values():
        routed.lab.quiet(wire, frames.has(UDP))


@FAMILIES
def test_source_check_disabled(lab: Lab, family: int) -> None:
    site = Site(lab, A.with_(source_check=False), B)
    source = {4: "192.0.2.9", 6: "2001:db8:ffff::9"}[family]
    packet = frames.frame(A.hardware, frames.udp(source, B.address(family)))
    site.a.send(packet)
    assert site.lab.receive(site.b, frames.has(UDP))
    site.lab.commit(A.interface())
    site.a.send(packet, drop="source")
    site.lab.quiet(site.b, frames.has(UDP))


LINK_LOCAL = ["169.254.0.0", "169.254.255.255", "fe80::7", "febf:ffff::7", "::"]
LETS_THROUGH = {
    "unchecked": A.with_(source_check=False),
    "all": A.with_(extra={"addresses": [], "prefixes": ["0.0.0.0/0", "::/0"]}),
    "half": A.with_(extra={"addresses": [], "prefixes": ["128.0.0.0/1", "fe00::/8", "::/1"]}),
    "its-own": A.with_(extra={"addresses": ["169.254.0.0", "fe80::7"]}),
}


@pytest.mark.parametrize("name", LETS_THROUGH)
@pytest.mark.parametrize("source", LINK_LOCAL)
def test_link_local_sources_stay_on_their_link(lab: Lab, name: str, source: str) -> None:
    """Whatever the source check lets through: RFC 3927 2.7, RFC 4291 2.5.2 and 2.5.6."""
    site = Site(lab, LETS_THROUGH[name], B)
    family = 6 if ":" in source else 4
    for target in (B.address(family), remote(family)):
        site.a.send(frames.frame(A.hardware, frames.udp(source, target)), drop="source")
        last = frames.udp(source, target, ttl=1)
        site.a.send(frames.frame(A.hardware, last), drop="source")
    for wire in lab.wires.values():
        lab.quiet(wire, frames.has(UDP))


@pytest.mark.parametrize("source", ["169.253.255.255", "169.255.0.0", "fe7f::7", "fec0::7"])
def test_sources_beside_the_link_local_ones(lab: Lab, source: str) -> None:
    site = Site(lab, LETS_THROUGH["all"], B)
    site.a.send(frames.frame(A.hardware, frames.udp(source, B.address(6 if ":" in source else 4))))
    assert lab.receive(site.b, frames.has(UDP))


def test_a_link_local_source_may_ask_the_gateway(lab: Lab) -> None:
    site = Site(lab, LETS_THROUGH["unchecked"])
    site.a.send(frames.frame(A.hardware, frames.echo("169.254.7.7", GATEWAYS[0])))
    assert lab.receive(site.a, frames.has(ICMP))[IP].dst == "169.254.7.7"


@FAMILIES
def test_source_mac(lab: Lab, family: int) -> None:
    """Checked where it is given and sources are checked, whatever was so before."""
    site = Site(lab, A, B)
    packet = frames.frame(B.hardware, frames.udp(A.address(family), B.address(family)))
    unchecked, learner = A.with_(source_check=False), A.with_(mac=False)
    for endpoint in (A, unchecked, A, learner, A, learner, unchecked, A):
        lab.commit(endpoint.interface())
        if endpoint is A:
            site.a.send(packet, drop="source_mac")
            lab.quiet(site.b)
        else:
            site.a.send(packet)
            lab.receive(site.b, frames.has(UDP))


def test_source_check_without_addresses_of_the_family(lab: Lab) -> None:
    """An Interface of IPv4 alone may send no IPv6, and the other way round."""
    for extra, packet in (
        ({"addresses": [A.address4]}, frames.udp(A.address6, B.address6)),
        ({"addresses": [A.address6]}, frames.udp(A.address4, B.address4)),
    ):
        site = Site(lab, A.with_(extra=extra), B)
        site.a.send(frames.frame(A.hardware, packet), drop="source")
        lab.quiet(site.b, frames.has(UDP))
        lab.clear()


# Other networks as next hops.


@FAMILIES
def test_next_hop_network(lab: Lab, family: int) -> None:
    """Blue looks up in green what it sends there; green's answer needs a route of its own."""
    site = Site(lab, A, D)
    prefix = {4: "10.0.0.6/32", 6: "2001:db8::6/128"}[family]
    packet = frames.udp(A.address(family), D.address(family))
    site.lab.commit(routes("peer", BLUE, [prefix, {"network": GREEN, "weight": 1}]))
    site.a.send(frames.frame(A.hardware, packet))
    got = site.lab.receive(site.d, frames.has(UDP))
    assert got.dst == D.hardware
    assert frames.without_ttl(got.payload) == frames.without_ttl(packet)
    assert (got.payload.ttl if family == 4 else got.payload.hlim) == 63


@FAMILIES
def test_networks_in_a_loop(lab: Lab, family: int) -> None:
    site = Site(lab, A, D)
    prefix = {4: "10.9.0.0/16", 6: "2001:db8:9::/48"}[family]
    site.lab.commit(
        routes("to-green", BLUE, [prefix, {"network": GREEN, "weight": 1}]),
        routes("to-blue", GREEN, [prefix, {"network": BLUE, "weight": 1}]),
    )
    target = {4: "10.9.0.1", 6: "2001:db8:9::1"}[family]
    site.a.send(
        frames.frame(A.hardware, frames.udp(A.address(family), target)), drop="network_loop"
    )
    site.lab.quiet(site.d, frames.has(UDP))


@FAMILIES
def test_four_networks_lead_on_and_no_more(lab: Lab, family: int) -> None:
    site = Site(lab, A, D)
    address = D.address(family)
    prefix = f"{address}/{32 if family == 4 else 128}"
    chain = [BLUE, "t/n1", "t/n2", "t/n3", GREEN]
    networks = [network(key, 300 + n) for n, key in enumerate(chain[1:-1])]

    def lead(*keys: str) -> list[Put]:
        return [
            routes(f"from-{n}", here, [prefix, {"network": there, "weight": 1}])
            for n, (here, there) in enumerate(pairwise(keys))
        ]

    packet = frames.frame(A.hardware, frames.udp(A.address(family), address))
    site.lab.commit(*networks, *lead(*chain))
    site.a.send(packet)
    site.lab.receive(site.d, frames.has(UDP))
    site.lab.commit(network("t/n4", 310), *lead(*chain[:-1], "t/n4", GREEN))
    site.a.send(packet, drop="network_loop")
    site.lab.quiet(site.d, frames.has(UDP))


@FAMILIES
def test_gateway_of_a_peer_network_is_out_of_reach(lab: Lab, family: int) -> None:
    """What a route leads to in another network never is the other network's gateway."""
    site = Site(lab, A)
    gateway = {4: "10.77.0.1", 6: "2001:db8:77::1"}[family]
    prefix = {4: "10.77.0.0/16", 6: "2001:db8:77::/48"}[family]
    site.lab.commit(
        put("network", "t/red", vni=300, gateways=[gateway]),
        routes("peer", BLUE, [prefix, {"network": "t/red", "weight": 1}]),
    )
    site.a.send(frames.frame(A.hardware, frames.echo(A.address(family), gateway)), drop="martian")
    site.lab.settle()


# ECMP.

HOPS = ["fd00:1:0:5::1", "fd00:1:0:5::2", "fd00:1:0:5::3"]
FLOWS = 1024


def spread(site: Site, family: int, ports: range) -> dict[int, str]:
    """Send a packet of each flow; return which next hop each took."""
    prefix = {4: "10.8.0.1", 6: "2001:db8:8::1"}[family]
    site.lab.send_all(
        site.a,
        (
            bytes(
                frames.frame(A.hardware, frames.udp(A.address(family), prefix, b"ecmp", sport=port))
            )
            for port in ports
        ),
    )
    site.lab.settle()
    taken = {}
    for data in site.up.inbox:
        frame = Ether(data)
        if UDP in frame:
            taken[frame[UDP].sport] = frame[IPv6].dst
    site.up.inbox.clear()
    return taken


@FAMILIES
@pytest.mark.parametrize("weights", [[1, 1], [1, 1, 1], [3, 1], [10, 5, 1]])
def test_ecmp_follows_weights_and_flows_stay(site: Site, family: int, weights: list[int]) -> None:
    hops = HOPS[: len(weights)]
    for hop in hops:
        site.up.hosts[hop] = "02:00:00:00:05:01"
    prefix = {4: "10.8.0.0/16", 6: "2001:db8:8::/48"}[family]
    site.lab.commit(
        routes("ecmp", BLUE, [prefix, *([h, w] for h, w in zip(hops, weights, strict=True))])
    )
    # A small resolution queue holds what comes before the neighbours are known.
    spread(site, family, range(1000, 1020))
    ports = range(2000, 2000 + FLOWS)
    first = spread(site, family, ports)
    assert len(first) == FLOWS
    for hop, weight in zip(hops, weights, strict=True):
        share = FLOWS * weight / sum(weights)
        count = sum(taken == hop for taken in first.values())
        # Four standard deviations of a fair choice of flows' buckets, and of buckets' hops.
        slack = 4 * (share * (1 - weight / sum(weights)) * (1 + FLOWS / 4096)) ** 0.5
        assert abs(count - share) <= slack, (hop, count, share)
    assert spread(site, family, ports) == first


@FAMILIES
def test_ecmp_moves_only_flows_of_who_leaves_or_comes(site: Site, family: int) -> None:
    for hop in HOPS:
        site.up.hosts[hop] = "02:00:00:00:05:01"
    prefix = {4: "10.8.0.0/16", 6: "2001:db8:8::/48"}[family]

    def by(*hops: object) -> dict[int, str]:
        site.lab.commit(routes("ecmp", BLUE, [prefix, *hops]))
        spread(site, family, range(1000, 1020))
        return spread(site, family, range(2000, 2400))

    all_three = by(*HOPS)
    without = by(*HOPS[:2])
    moved = {port for port, hop in all_three.items() if without[port] != hop}
    assert moved == {port for port, hop in all_three.items() if hop == HOPS[2]}
    # Back, in another order, and once more when nothing of it was left.
    assert by(*reversed(HOPS)) == all_three
    by(REMOTE)
    assert by(*HOPS) == all_three
    heavier = by([HOPS[0], 2], *HOPS[1:])
    assert {heavier[port] for port, hop in all_three.items() if heavier[port] != hop} == {HOPS[0]}
    # One that is there twice has both shares.
    assert by(HOPS[0], *HOPS) == heavier


@FAMILIES
def test_an_error_follows_the_flow_that_it_quotes(site: Site, family: int) -> None:
    """What a server sent is refused: whoever serves the flow is told."""
    for hop in HOPS:
        site.up.hosts[hop] = "02:00:00:00:05:01"
    prefix = {4: "10.8.0.0/16", 6: "2001:db8:8::/48"}[family]
    target = {4: "10.8.0.1", 6: "2001:db8:8::1"}[family]
    site.lab.commit(routes("ecmp", BLUE, [prefix, *HOPS]))
    spread(site, family, range(1000, 1020))
    ports = range(2000, 2064)
    flows = spread(site, family, ports)
    assert len(set(flows.values())) == len(HOPS)
    kind = {4: ICMP(type=3, code=3), 6: ICMPv6DestUnreach(code=4)}[family]
    for port in ports:
        quoted = frames.udp(target, A.address(family), b"forwarded", sport=2000, dport=port)
        packet = frames.ip(A.address(family), target) / kind / bytes(quoted)
        site.a.send(frames.frame(A.hardware, packet))
        got = site.lab.receive(site.up, lambda f: b"forwarded" in bytes(f))
        assert got[IPv6].dst == flows[port], port


@FAMILIES
def test_ecmp_over_a_local_and_a_remote_endpoint(site: Site, family: int) -> None:
    """Anycast: the same prefix behind an Interface here and one elsewhere."""
    prefix = {4: "10.8.0.0/16", 6: "2001:db8:8::/48"}[family]
    site.lab.commit(routes("anycast", BLUE, [prefix, [B.underlay, 1], [REMOTE, 1]]))
    spread(site, family, range(1000, 1020))
    site.b.inbox.clear()
    remote = spread(site, family, range(2000, 2200))
    local = {Ether(data)[UDP].sport for data in site.b.inbox if UDP in Ether(data)}
    assert local.isdisjoint(remote)
    assert local | set(remote) == set(range(2000, 2200))
    assert 60 <= len(local) <= 140


@FAMILIES
def test_ecmp_spreads_by_address_without_ports(site: Site, family: int) -> None:
    """Fragments and other protocols are spread by addresses: all parts of one go one way."""
    for hop in HOPS[:2]:
        site.up.hosts[hop] = "02:00:00:00:05:01"
    prefix = {4: "10.8.0.0/16", 6: "2001:db8:8::/48"}[family]
    site.lab.commit(routes("ecmp", BLUE, [prefix, *HOPS[:2]]))
    taken: dict[str, set[str]] = {}
    for number in range(32):
        target = {4: f"10.8.0.{number}", 6: f"2001:db8:8::{number:x}"}[family]
        for payload in (b"\0\1\0\2" * 4, b"\0\3\0\4" * 4):
            packet = frames.ip(A.address(family), target)
            packet = (
                type(packet)(src=A.address(family), dst=target, proto=99) / Raw(payload)
                if family == 4
                else IPv6(src=A.address(family), dst=target, nh=99) / Raw(payload)
            )
            site.a.send(frames.frame(A.hardware, packet))
            got = site.lab.receive(site.up, lambda f: f.haslayer(Raw))
            taken.setdefault(target, set()).add(got[IPv6].dst)
    assert all(len(hops) == 1 for hops in taken.values())
    assert set().union(*taken.values()) == set(HOPS[:2])


# What no network routes.


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("0.0.0.1", "martian"),
        ("127.0.0.1", "martian"),
        ("127.255.255.255", "martian"),
        ("224.0.0.1", "multicast"),
        ("239.255.255.250", "multicast"),
        ("255.255.255.255", "multicast"),
        ("::1", "martian"),
        ("fe80::77", "local"),
        ("ff02::1", "multicast"),
        ("ff0e::1", "multicast"),
    ],
)
def test_reserved_destinations(site: Site, target: str, reason: str) -> None:
    """Not even a default route leads there."""
    site.lab.commit(routes("default", BLUE, ["0.0.0.0/0", REMOTE], ["::/0", REMOTE]))
    source = A.address6 if ":" in target else A.address4
    packet = frames.udp(source, target)
    site.a.send(frames.frame(A.hardware, packet), drop=reason)
    for wire in site.lab.wires.values():
        site.lab.quiet(wire, frames.has(UDP))


@FAMILIES
def test_a_network_of_its_own_has_routes_of_its_own(lab: Lab, family: int) -> None:
    """Default routes of two networks lead to different nodes."""
    site = Site(lab, A, C)
    packet = frames.udp(A.address(family), {4: "10.1.2.3", 6: "2001:db8:1::2:3"}[family])
    site.a.send(frames.frame(A.hardware, packet))
    assert site.lab.receive(site.up, frames.has(UDP))[IPv6].dst == REMOTE
    site.c.send(frames.frame(C.hardware, packet))
    assert site.lab.receive(site.up, frames.has(UDP))[IPv6].dst == REMOTE_GREEN


def test_routes_of_a_deleted_network_are_gone(lab: Lab) -> None:
    """A network put again under its old name has none of its former routes."""
    lab.commit(network(BLUE, 100), routes("r", BLUE, ["10.9.0.0/16", REMOTE]))
    lab.clear()
    lab.commit(tap("a"), tap("b"))
    wire = lab.connect("a", "a", A.hardware, ("interface", "t/a"))
    lab.commit(network(BLUE, 101), A.interface(), B.interface())
    lab.commit(routes("hosts", BLUE, *host_routes(A, B)))
    wire.send(frames.frame(A.hardware, frames.udp(A.address4, "10.9.0.1")), drop="no_route")
    lab.settle()
