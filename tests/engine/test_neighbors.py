# SPDX-License-Identifier: Apache-2.0
"""Who has which MAC address: endpoints by ARP and ND, underlay next hops by ND (RFC 4861)."""

import pytest
from scapy.layers.inet import UDP
from scapy.layers.inet6 import (
    ICMPv6EchoReply,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
)
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet

from headrace_dataplane.protocol import Interface, Neighbor, Port
from tests.engine import frames
from tests.engine.lab import Lab, Match
from tests.engine.process import until
from tests.engine.site import (
    LINK_LOCAL_GATEWAY,
    REMOTE,
    REMOTE4,
    REMOTE_GREEN,
    REMOTE_MAC,
    SOURCE,
    SOURCE_GREEN,
    UPLINK_ADDRESS,
    A,
    B,
    C,
    Endpoint,
    Site,
    checking,
    remote,
    tap,
    uplink,
)
from tests.engine.wire import Wire

FAMILIES = pytest.mark.parametrize("family", [4, 6])
NEW_MAC = "02:00:00:00:99:99"
LEARNER = A.with_(mac=False)


def asks_for(target: str) -> Match:
    def match(frame: Packet) -> bool:
        if ARP in frame:
            return frame[ARP].op == 1 and frame[ARP].pdst == target
        return ICMPv6ND_NS in frame and frame[ICMPv6ND_NS].tgt == target

    return match


def link_local_of(mac: str) -> str:
    """RFC 4291 appendix A."""
    octets = [int(part, 16) for part in mac.split(":")]
    octets[0] ^= 2
    octets[3:3] = [0xFF, 0xFE]
    words = [f"{octets[n] << 8 | octets[n + 1]:x}" for n in range(0, 8, 2)]
    return "fe80::" + ":".join(words)


def neighbor(site: Site, address: str, port: str = "up") -> Neighbor:
    return site.lab.item(Neighbor, port=port, address=address)


def interface(site: Site, name: str = "a") -> Interface:
    return site.lab.item(Interface, name=f"t/{name}")


# Next hops of the uplink.


def test_solicits_an_on_link_next_hop(site: Site) -> None:
    site.up.hosts = {}
    site.a.send(frames.frame(A.hardware, frames.udp(A.address4, REMOTE4)))
    got = site.lab.receive(site.up, asks_for(REMOTE))
    group, group_mac = frames.solicited_node(REMOTE)
    assert (got.dst, got.src) == (group_mac, site.uplink_mac)
    own = link_local_of(site.uplink_mac)
    assert (got[IPv6].src, got[IPv6].dst, got[IPv6].hlim) == (own, group, 255)
    assert got[ICMPv6NDOptSrcLLAddr].lladdr == site.uplink_mac
    assert frames.is_intact(got[IPv6])
    assert neighbor(site, REMOTE).state == "incomplete"
    site.up.send(frames.advertisement(got, REMOTE_MAC), learned=True)
    assert site.lab.receive(site.up, frames.has(UDP)).dst == REMOTE_MAC
    known = neighbor(site, REMOTE)
    assert (known.state, known.mac, known.interface) == ("reachable", REMOTE_MAC, None)


def test_waiting_packets_leave_in_order(site: Site) -> None:
    """All that the queue holds, each once, with headers as any other's."""
    site.up.hosts = {}
    for port in range(1000, 1050):
        packet = frames.udp(A.address4, remote(4), sport=port)
        site.a.send(frames.frame(A.hardware, packet))
        site.lab.taken(site.a)
    question = site.lab.receive(site.up, asks_for(REMOTE))
    site.up.send(frames.advertisement(question, REMOTE_MAC), learned=True)
    site.lab.settle()
    got = [frame for data in site.up.inbox if UDP in (frame := Ether(data))]
    site.up.inbox.clear()
    assert [frame[UDP].sport for frame in got] == list(range(1000, 1050))
    assert {frame[IPv6].dst for frame in got} == {REMOTE}
    assert all(frames.is_intact(frame[IPv6].payload) for frame in got)
    # Once resolved, the same flow has the same flow label.
    site.a.send(frames.frame(A.hardware, frames.udp(A.address4, remote(4), sport=1000)))
    label = site.lab.receive(site.up, frames.has(UDP))[IPv6].fl
    assert label == got[0][IPv6].fl


def test_more_than_the_queue_holds(site: Site) -> None:
    """64 wait; the oldest give way."""
    site.up.hosts = {}
    for port in range(1000, 1000 + 64 + 7):
        site.a.send(
            frames.frame(A.hardware, frames.udp(A.address4, remote(4), sport=port)),
            drop="resolve_queue" if port < 1007 else None,
        )
        site.lab.taken(site.a)
    question = site.lab.receive(site.up, asks_for(REMOTE))
    site.up.send(frames.advertisement(question, REMOTE_MAC), learned=True)
    site.lab.settle()
    ports = [frame[UDP].sport for data in site.up.inbox if UDP in (frame := Ether(data))]
    assert ports == list(range(1007, 1071))


def test_a_namespace_that_has_many_packets_wait_takes_no_others_place(lab: Lab) -> None:
    """Red has no more wait in two networks than in one, and the first packets of t are sent."""
    site = Site(lab, A, B.with_(namespace="red"), C.with_(namespace="red"))
    lab.commit(checking(waitingPacketsPerNamespace=8))
    site.up.hosts = {}

    def send(wire: Wire, endpoint: Endpoint, *ports: int, drop: str | None = None) -> None:
        for port in ports:
            packet = frames.udp(endpoint.address4, remote(4), sport=port)
            wire.send(frames.frame(endpoint.hardware, packet), drop)
            lab.taken(wire)

    send(site.b, B, *range(1000, 1006))
    send(site.c, C, 1006, 1007)
    send(site.c, C, *range(1008, 1016), drop="resolve_queue")
    send(site.b, B, *range(1016, 1024), drop="resolve_queue")
    send(site.a, A, 2000, 2001)
    for address in (REMOTE, REMOTE_GREEN):
        question = lab.receive(site.up, asks_for(address))
        site.up.send(frames.advertisement(question, REMOTE_MAC), learned=True)
    lab.settle()
    got = [frame[UDP].sport for data in site.up.inbox if UDP in (frame := Ether(data))]
    assert sorted(got) == [*range(1000, 1008), 2000, 2001]


def test_a_flood_to_a_next_hop_leaves_place_for_another(site: Site) -> None:
    """Most of a flood drops where it came in; who has none waiting there still gets a place."""
    site.up.hosts = {}

    def flood(wire: Wire, endpoint: Endpoint, ports: range, drop: str | None = None) -> None:
        packets = (frames.udp(endpoint.address4, remote(4), sport=port) for port in ports)
        sent = [bytes(frames.frame(endpoint.hardware, packet)) for packet in packets]
        site.lab.send_all(wire, sent, drop)

    flood(site.a, A, range(1000, 1064))
    flood(site.a, A, range(1064, 1400), drop="resolve_queue")
    flood(site.b, B, range(2000, 2005))
    site.a.drops["resolve_queue"] += 5
    question = site.lab.receive(site.up, asks_for(REMOTE))
    site.up.send(frames.advertisement(question, REMOTE_MAC), learned=True)
    site.lab.settle()
    got = [frame[UDP].sport for data in site.up.inbox if UDP in (frame := Ether(data))]
    assert (len(got), got[-5:]) == (64, [*range(2000, 2005)])


def test_unresolved(site: Site) -> None:
    """Three questions, a second apart, then what waited drops; then, for a while, all does.

    It counts under the uplink that was to take it.
    """
    site.up.hosts = {}
    packet = frames.frame(A.hardware, frames.udp(A.address4, remote(4)))
    site.a.send(packet)
    site.up.drops["unresolved"] += 1
    for _ in range(3):
        site.lab.receive(site.up, asks_for(REMOTE))
    site.lab.settle()
    assert neighbor(site, REMOTE).state == "unresolved"
    site.a.send(packet)
    site.up.drops["unresolved"] += 1
    site.lab.quiet(site.up, asks_for(REMOTE))
    # Another next hop does not suffer.
    site.up.hosts = {REMOTE_GREEN: REMOTE_MAC}
    site.c.send(frames.frame(C.hardware, frames.udp(C.address4, remote(4))))
    assert site.lab.receive(site.up, frames.has(UDP))[IPv6].dst == REMOTE_GREEN


@FAMILIES
def test_gateway_as_next_hop(site: Site, family: int) -> None:
    """What is not on link goes to the gateway's MAC address; outer destination stays."""
    gateway, gateway_mac = "fe80::77", "02:00:00:00:00:77"
    site.lab.commit(uplink(onLink=[], gateway=gateway))
    site.up.hosts = {}
    site.a.send(frames.frame(A.hardware, frames.udp(A.address(family), remote(family))))
    question = site.lab.receive(site.up, asks_for(gateway))
    assert question[IPv6].dst == frames.solicited_node(gateway)[0]
    site.up.send(frames.advertisement(question, gateway_mac), learned=True)
    got = site.lab.receive(site.up, frames.has(UDP))
    assert (got.dst, got[IPv6].dst) == (gateway_mac, REMOTE)
    site.lab.quiet(site.up, asks_for(REMOTE))


def test_on_link_goes_before_the_gateway(site: Site) -> None:
    gateway = "fd00:1:0:1::fe"
    site.lab.commit(uplink(onLink=["fd00:1:0:2::/64"], gateway=gateway))
    site.up.hosts = {REMOTE: REMOTE_MAC, gateway: "02:00:00:00:00:fe"}
    site.a.send(frames.frame(A.hardware, frames.udp(A.address4, remote(4))))
    assert site.lab.receive(site.up, frames.has(UDP)).dst == REMOTE_MAC


@pytest.mark.parametrize("override", [True, False])
@pytest.mark.parametrize("solicited", [True, False])
def test_a_next_hop_changes_its_mac(site: Site, override: bool, solicited: bool) -> None:
    """RFC 4861 7.2.5: only with the override flag."""
    packet = frames.frame(A.hardware, frames.udp(A.address4, remote(4)))
    site.a.send(packet)
    assert site.lab.receive(site.up, frames.has(UDP)).dst == REMOTE_MAC
    to = (site.uplink_mac, UPLINK_ADDRESS) if solicited else (frames.ALL_NODES_MAC, "ff02::1")
    site.up.send(
        frames.unsolicited(NEW_MAC, REMOTE, *to, solicited=solicited, override=override),
        learned=True,
    )
    wanted = NEW_MAC if override else REMOTE_MAC
    state = "reachable" if override and solicited else "stale"

    def is_so() -> bool:
        known = neighbor(site, REMOTE)
        return (known.state, known.mac) == (state, wanted)

    until(is_so, f"{REMOTE} is {state} at {wanted}")
    site.a.send(packet)
    assert site.lab.receive(site.up, frames.has(UDP)).dst == wanted
    site.up.hosts = {REMOTE: wanted, REMOTE_GREEN: REMOTE_MAC}


def test_a_next_hop_is_learned_from_its_question(site: Site) -> None:
    """A next hop that solicits us tells its new MAC address with it."""
    packet = frames.frame(A.hardware, frames.udp(A.address4, remote(4)))
    site.a.send(packet)
    assert site.lab.receive(site.up, frames.has(UDP)).dst == REMOTE_MAC
    site.up.hosts = {REMOTE: NEW_MAC}
    site.up.send(frames.solicitation(NEW_MAC, REMOTE, UPLINK_ADDRESS))
    site.lab.receive(site.up, frames.has(ICMPv6ND_NA))
    until(lambda: neighbor(site, REMOTE).mac == NEW_MAC, "the new MAC address is known")
    site.a.send(packet)
    assert site.lab.receive(site.up, frames.has(UDP)).dst == NEW_MAC


def test_advertisements_nobody_asked_for_make_no_neighbours(site: Site) -> None:
    for number in range(1, 9):
        site.up.send(frames.unsolicited(NEW_MAC, f"fd00:1:0:7::{number}"), learned=True)
    site.lab.settle()
    known = {n.address for n in site.lab.engine.client.items(Neighbor, {"port": "up"})}
    assert not any(address.startswith("fd00:1:0:7:") for address in known)


@pytest.mark.parametrize(
    "target", [UPLINK_ADDRESS, SOURCE, SOURCE_GREEN, A.underlay, B.underlay, C.underlay, "own"]
)
def test_answers_for_its_underlay_addresses(site: Site, target: str) -> None:
    target = link_local_of(site.uplink_mac) if target == "own" else target
    site.up.send(frames.solicitation(REMOTE_MAC, REMOTE, target))
    got = site.lab.receive(site.up, frames.has(ICMPv6ND_NA))
    assert (got.dst, got.src) == (REMOTE_MAC, site.uplink_mac)
    assert (got[IPv6].src, got[IPv6].dst, got[IPv6].hlim) == (target, REMOTE, 255)
    advertised = got[ICMPv6ND_NA]
    assert (advertised.R, advertised.S, advertised.O, advertised.tgt) == (0, 1, 1, target)
    assert got[ICMPv6NDOptDstLLAddr].lladdr == site.uplink_mac


def test_uplinks_have_the_nodes_address_in_common(site: Site) -> None:
    site.lab.commit(tap("up2"))
    second = site.lab.connect("up2", "up2", REMOTE_MAC, ("uplink", "up2"))
    site.lab.commit(uplink("up2"))
    for wire, name in ((site.up, "up"), (second, "up2")):
        wire.send(frames.solicitation(REMOTE_MAC, REMOTE, UPLINK_ADDRESS))
        got = site.lab.receive(wire, frames.has(ICMPv6ND_NA))
        assert got.src == site.lab.item(Port, name=name).mac


@pytest.mark.parametrize(
    "target", [REMOTE, "fd00:1:0:1::ffff", "fe80::1", A.address6, "2001:db8::1"]
)
def test_answers_for_no_other_addresses(site: Site, target: str) -> None:
    site.up.send(frames.solicitation(REMOTE_MAC, "fd00:1:0:2::77", target), drop="nd")
    site.lab.quiet(site.up)


def test_an_interface_s_underlay_address_goes_with_it(site: Site) -> None:
    moved = B.with_(underlay="fd00:1:0:1::beef")
    site.lab.commit(moved.interface())
    site.up.send(frames.solicitation(REMOTE_MAC, REMOTE, B.underlay), drop="nd")
    site.up.send(frames.solicitation(REMOTE_MAC, REMOTE, moved.underlay))
    assert site.lab.receive(site.up, frames.has(ICMPv6ND_NA))[ICMPv6ND_NA].tgt == moved.underlay


def test_nobody_takes_our_addresses(site: Site) -> None:
    """Who claims an address that lives here is not believed."""
    for target in (UPLINK_ADDRESS, SOURCE, A.underlay):
        site.up.send(frames.unsolicited(NEW_MAC, target), drop="nd")
    site.lab.quiet(site.up)


@pytest.mark.parametrize("target", [UPLINK_ADDRESS, SOURCE, A.underlay])
def test_ping_of_underlay_addresses(site: Site, target: str) -> None:
    request = frames.echo(REMOTE, target)
    site.up.send(frames.frame(REMOTE_MAC, request, site.uplink_mac))
    got = site.lab.receive(site.up, frames.has(ICMPv6EchoReply))
    assert (got.dst, got[IPv6].src, got[IPv6].dst) == (REMOTE_MAC, target, REMOTE)
    assert frames.is_intact(got[IPv6])


# Endpoints.


@FAMILIES
def test_asks_for_an_endpoint_by_itself(lab: Lab, family: int) -> None:
    """A new Interface's endpoint is asked for before any packet has to wait."""
    site = Site(lab, LEARNER)
    site.a.hosts = {}
    got = lab.receive(site.a, asks_for(A.address(family)))
    assert got.src == frames.GATEWAY_MAC
    if family == 4:
        assert got.dst == frames.BROADCAST
        assert (got[ARP].hwsrc, got[ARP].psrc) == (frames.GATEWAY_MAC, "10.0.0.1")
    else:
        group, group_mac = frames.solicited_node(A.address6)
        assert (got.dst, got[IPv6].dst) == (group_mac, group)
        assert (got[IPv6].src, got[IPv6].hlim) == (LINK_LOCAL_GATEWAY, 255)
        assert frames.is_intact(got[IPv6])


@pytest.fixture
def learner(lab: Lab) -> Site:
    """Behind a is an endpoint that the engine does not know and that answers nothing yet."""
    site = Site(lab, LEARNER, B)
    site.a.hosts = {}
    for address in (A.address4, A.address6):
        lab.receive(site.a, asks_for(address))
    lab.settle()
    assert interface(site).mac_state != "reachable"
    return site


def gratuitous(op: int) -> Packet:
    return Ether(src=NEW_MAC, dst=frames.BROADCAST) / ARP(
        op=op, hwsrc=NEW_MAC, psrc=A.address4, pdst=A.address4
    )


@pytest.mark.parametrize(
    ("frame", "answered"),
    [
        pytest.param(frames.arp_request(NEW_MAC, A.address4, "10.0.0.1"), True, id="arp"),
        pytest.param(gratuitous(1), False, id="gratuitous-request"),
        pytest.param(gratuitous(2), False, id="gratuitous-reply"),
        pytest.param(frames.solicitation(NEW_MAC, A.address6, "fe80::1"), True, id="ns"),
        pytest.param(frames.unsolicited(NEW_MAC, A.address6), False, id="na"),
    ],
)
def test_learns_an_endpoint(learner: Site, frame: Packet, answered: bool) -> None:
    learner.a.send(frame, learned=not answered)
    until(lambda: interface(learner).mac_state == "reachable", "the endpoint is reachable")
    assert interface(learner).mac == NEW_MAC
    for family in (4, 6):
        packet = frames.udp(B.address(family), A.address(family))
        learner.b.send(frames.frame(B.hardware, packet))
        assert learner.lab.receive(learner.a, frames.has(UDP)).dst == NEW_MAC


def test_a_link_local_address_does_not_tell_who_the_endpoint_is(lab: Lab) -> None:
    """The kernel at the other end of a veth pair has one too, and speaks unasked."""
    learner = Site(lab, LEARNER, B)
    learner.b.send(frames.frame(B.hardware, frames.udp(B.address4, A.address4)))
    assert lab.receive(learner.a, frames.has(UDP)).dst == A.hardware
    learner.a.send(frames.solicitation(NEW_MAC, "fe80::99", "fe80::1"))
    lab.receive(learner.a, frames.has(ICMPv6ND_NA))
    lab.settle()
    assert interface(learner).mac == A.hardware


@FAMILIES
def test_an_endpoint_changes_its_mac(lab: Lab, family: int) -> None:
    site = Site(lab, LEARNER, B)
    packet = frames.frame(B.hardware, frames.udp(B.address(family), A.address(family)))
    site.b.send(packet)
    assert lab.receive(site.a, frames.has(UDP)).dst == A.hardware
    lab.settle()
    site.a.hosts = dict.fromkeys(site.a.hosts, NEW_MAC)
    if family == 4:
        site.a.send(gratuitous(1), learned=True)
    else:
        site.a.send(frames.unsolicited(NEW_MAC, A.address6), learned=True)
    until(lambda: interface(site).mac == NEW_MAC, "the new MAC address is known")
    site.b.send(packet)
    assert lab.receive(site.a, frames.has(UDP)).dst == NEW_MAC


def told(frame: Packet) -> Packet:
    """The frame as it comes from the endpoint's own MAC address."""
    return Ether(src=A.hardware, dst=frame.dst) / frame.payload


@pytest.mark.parametrize(
    ("frame", "drop"),
    [
        pytest.param(told(frames.arp_request(NEW_MAC, A.address4, "10.0.0.1")), "arp", id="arp"),
        pytest.param(told(gratuitous(2)), "arp", id="gratuitous-reply"),
        pytest.param(told(frames.solicitation(NEW_MAC, A.address6, "fe80::1")), None, id="ns"),
        pytest.param(told(frames.unsolicited(NEW_MAC, A.address6)), None, id="na"),
    ],
)
def test_nothing_that_is_said_changes_a_static_mac(
    site: Site, frame: Packet, drop: str | None
) -> None:
    """Who names another MAC address in a frame from its own gets nothing by it."""
    site.a.send(frame, drop, learned=ICMPv6ND_NA in frame)
    if ICMPv6ND_NS in frame:
        assert site.lab.receive(site.a, frames.has(ICMPv6ND_NA)).dst == A.hardware
    site.lab.settle()
    for family in (4, 6):
        packet = frames.udp(B.address(family), A.address(family))
        site.b.send(frames.frame(B.hardware, packet))
        assert site.lab.receive(site.a, frames.has(UDP)).dst == A.hardware
    assert (interface(site).mac, interface(site).mac_state) == (A.hardware, "static")


def test_a_static_mac_is_neither_asked_for_nor_learned(lab: Lab) -> None:
    site = Site(lab, A.with_(source_check=False), B)
    site.a.send(frames.arp_request(NEW_MAC, A.address4, "10.0.0.1"))
    site.lab.receive(site.a, frames.has(ARP))
    site.b.send(frames.frame(B.hardware, frames.udp(B.address4, A.address4)))
    assert site.lab.receive(site.a, frames.has(UDP)).dst == A.hardware
    assert (interface(site).mac, interface(site).mac_state) == (A.hardware, "static")
    site.lab.settle()
    assert not any(asks_for(A.address4)(Ether(data)) for data in site.a.inbox)
    assert not any(asks_for(A.address6)(Ether(data)) for data in site.a.inbox)


@FAMILIES
def test_an_endpoint_that_never_answers(learner: Site, family: int) -> None:
    packet = frames.frame(B.hardware, frames.udp(B.address(family), A.address(family)))
    learner.b.send(packet, drop="unresolved")
    learner.lab.quiet(learner.a, frames.has(UDP))
    # Answers are not too late: it is learned, and served.
    learner.a.send(gratuitous(2), learned=True)
    until(lambda: interface(learner).mac == NEW_MAC, "the endpoint is known")
    learner.b.send(packet)
    assert learner.lab.receive(learner.a, frames.has(UDP)).dst == NEW_MAC


def test_a_learned_mac_outlives_a_changed_spec(lab: Lab) -> None:
    """Nothing waits when an Interface is put again: what was learned is kept, and confirmed."""
    site = Site(lab, LEARNER, B)
    packet = frames.frame(B.hardware, frames.udp(B.address4, A.address4))
    site.b.send(packet)
    assert lab.receive(site.a, frames.has(UDP)).dst == A.hardware
    lab.settle()
    site.a.hosts = {}
    lab.commit(LEARNER.with_(mtu=1400).interface())
    site.b.send(packet)
    assert lab.receive(site.a, frames.has(UDP)).dst == A.hardware
    site.a.hosts = {A.address4: A.hardware, A.address6: A.hardware}


def test_neighbours_in_the_list(lab: Lab) -> None:
    site = Site(lab, A, B.with_(mac=False))
    site.a.send(frames.frame(A.hardware, frames.udp(A.address4, remote(4))))
    lab.receive(site.up, frames.has(UDP))
    site.a.send(frames.frame(A.hardware, frames.udp(A.address4, B.address4)))
    lab.receive(site.b, frames.has(UDP))
    found = {
        (n.port, n.address): (n.interface, n.mac, n.state)
        for n in lab.engine.client.items(Neighbor)
    }
    assert found == {
        ("a", A.address4): ("t/a", A.hardware, "static"),
        ("a", A.address6): ("t/a", A.hardware, "static"),
        ("b", B.address4): ("t/b", B.hardware, "reachable"),
        ("b", B.address6): ("t/b", B.hardware, "reachable"),
        ("up", REMOTE): (None, REMOTE_MAC, "reachable"),
        ("up", REMOTE_GREEN): (None, None, "unresolved"),
    }
    assert all(0 <= n.age_seconds < 600 for n in lab.engine.client.items(Neighbor))
