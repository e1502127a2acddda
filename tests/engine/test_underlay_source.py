# SPDX-License-Identifier: Apache-2.0
"""Who may send into a network by the underlay: what sources carry, and what becomes of others."""

from collections.abc import Iterable, Iterator, Sequence

import pytest
from scapy.layers.inet import UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from headrace_dataplane.protocol import Change, Delete, Put
from tests.engine import frames
from tests.engine.lab import Lab, settings
from tests.engine.site import (
    BLUE,
    GREEN,
    ON_LINK,
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
    Endpoint,
    Site,
    checking,
    network,
    remote,
    routes,
    tap,
    underlay,
    uplink,
)

FAMILIES = pytest.mark.parametrize("family", [4, 6])
GATEWAY = "fd09::1"
"""Other gear, outside the Pipeline's prefix."""


def arriving(site: Site, source: str, destination: str, inner: Packet) -> Packet:
    """Return a frame that the uplink delivers."""
    outer = IPv6(src=source, dst=destination)
    return Ether(src=REMOTE_MAC, dst=site.uplink_mac) / outer / inner


def to(endpoint: Endpoint, family: int = 4) -> Packet:
    return frames.udp(remote(family), endpoint.address(family))


def sent_to(site: Site, endpoint: Endpoint, target: str) -> tuple[str, str]:
    """Send from an endpoint; return the outer addresses of what leaves by the uplink."""
    wire = site.lab.wires[endpoint.name]
    wire.send(frames.frame(endpoint.hardware, frames.udp(endpoint.address4, target)))
    outer = site.lab.receive(site.up, frames.has(UDP))[IPv6]
    return outer.src, outer.dst


def admitting(key: str, *endpoints: str) -> Put:
    return network(key, VNI[key], endpoints=list(endpoints))


@FAMILIES
@pytest.mark.parametrize("source", [REMOTE, SOURCE, underlay(0xFFFF, BLUE, (1 << 40) - 1)])
def test_sources_of_the_network_pass(site: Site, family: int, source: str) -> None:
    """Identities do not matter, nor which of the Pipeline's nodes it is: a forgery passes."""
    site.up.send(arriving(site, source, A.underlay, to(A, family)))
    assert bytes(site.lab.receive(site.a, frames.has(UDP)).payload) == bytes(to(A, family))


@FAMILIES
@pytest.mark.parametrize(
    "source",
    [
        pytest.param(REMOTE_GREEN, id="another-network"),
        pytest.param("fd00:1:0:2::9", id="no-vni"),
        pytest.param("fd00:1:0:2:0:6500:0:9", id="last-bit-of-the-vni"),
        pytest.param("fd00:1:0:2:8000:6400:0:9", id="first-bit-of-the-vni"),
        pytest.param("fd00:1:1:2:0:6400:0:9", id="last-bit-of-the-prefix"),
        pytest.param("7d00:1:0:2:0:6400:0:9", id="first-bit-of-the-prefix"),
        pytest.param(GATEWAY, id="other-gear"),
        pytest.param("::", id="unspecified"),
        pytest.param("fe80::1", id="link-local"),
        pytest.param("ff02::1", id="multicast"),
    ],
)
def test_other_sources_are_dropped(site: Site, family: int, source: str) -> None:
    site.up.send(arriving(site, source, A.underlay, to(A, family)), drop="underlay_source")
    site.lab.quiet(site.a)


@FAMILIES
@pytest.mark.parametrize("second", ["fd77::/16", "fd77:0:0:8::/61"])
def test_nodes_of_several_prefixes(site: Site, family: int, second: str) -> None:
    """Neither length nor order of the prefixes matters."""
    lab = site.lab
    there, green = "fd77::9:0:6400:0:9", "fd77::9:0:c800:0:9"
    for prefixes in ([ON_LINK, second], [second, ON_LINK]):
        lab.commit(checking(underlayPrefixes=prefixes))
        for source in (there, REMOTE):
            site.up.send(arriving(site, source, A.underlay, to(A, family)))
            assert lab.receive(site.a, frames.has(UDP))
        for source in (green, "fd78::9:0:6400:0:9", "fd77::9:0:0:0:9", REMOTE_GREEN):
            site.up.send(arriving(site, source, A.underlay, to(A, family)), drop="underlay_source")
        lab.quiet(site.a)
    # What is sent there carries the VNI as well.
    site.up.hosts[there] = REMOTE_MAC
    lab.commit(uplink(onLink=[ON_LINK, second]), routes("there", BLUE, ["10.9.0.1/32", there]))
    assert sent_to(site, A, "10.9.0.1") == (SOURCE, there)
    lab.commit(checking())
    site.up.send(arriving(site, there, A.underlay, to(A, family)), drop="underlay_source")


def test_among_good_ones(site: Site) -> None:
    """In one burst each packet is judged alone."""
    good = bytes(arriving(site, REMOTE, A.underlay, to(A)))
    bad = bytes(arriving(site, REMOTE_GREEN, A.underlay, to(A)))
    for _ in range(50):
        site.up.send(good)
        site.up.send(bad, drop="underlay_source")
    site.lab.settle()
    assert sum(map(frames.is_udp, site.a.inbox)) == 50


def test_a_stale_destination_reaches_no_other_network(site: Site) -> None:
    """Node 2 has not heard that a is gone, and that green has another Interface in its place."""
    lab = site.lab
    lab.disconnect("a")
    heir = C.with_(name="heir", underlay=underlay(1, GREEN, 0xA), address4="10.0.0.9")
    lab.commit(Delete("interface", "t/a"), Delete("port", "a"), routes("blue", BLUE), tap("heir"))
    wire = site.connect(heir)
    lab.commit(heir.interface())
    site.up.send(arriving(site, REMOTE, A.underlay, to(A)), drop="unknown_underlay")
    site.up.send(arriving(site, REMOTE, heir.underlay, to(A)), drop="underlay_source")
    lab.quiet(wire, frames.has(UDP))


def test_a_route_to_another_network_s_interface_leads_nowhere(site: Site) -> None:
    """By mistake or by intent: on this node, and on another one, which drops what it gets."""
    lab = site.lab
    lab.commit(
        routes("attack", BLUE, ["10.9.0.1/32", C.underlay], ["10.9.0.2/32", REMOTE_GREEN]),
    )
    packet = frames.udp(A.address4, "10.9.0.1")
    site.a.send(frames.frame(A.hardware, packet), drop="underlay_source")
    lab.quiet(site.c, frames.has(UDP))
    source, destination = sent_to(site, A, "10.9.0.2")
    assert (source, destination) == (SOURCE, REMOTE_GREEN)
    site.up.send(arriving(site, source, C.underlay, packet), drop="underlay_source")
    lab.quiet(site.c, frames.has(UDP))


def test_one_next_hop_of_another_network_among_good_ones(site: Site) -> None:
    lab = site.lab
    lab.commit(routes("ecmp", BLUE, ["10.9.0.0/24", B.underlay, C.underlay]))
    for number in range(64):
        site.a.send(frames.frame(A.hardware, frames.udp(A.address4, f"10.9.0.{number}")))
    lab.taken(site.a)
    dropped = lab.counters("a").drops["underlay_source"]
    site.a.drops["underlay_source"] = dropped
    lab.settle()
    assert 0 < dropped < 64
    assert sum(map(frames.is_udp, site.b.inbox)) == 64 - dropped
    lab.quiet(site.c, frames.has(UDP))


def test_another_network_is_reached_by_a_lookup_in_it(site: Site) -> None:
    """The VNI is that of the network in which the last lookup was made."""
    lab = site.lab
    lab.commit(
        routes("to-green", BLUE, ["10.9.0.0/16", {"network": GREEN, "weight": 1}]),
        routes("of-green", GREEN, ["10.9.0.0/16", REMOTE_GREEN], ["10.9.0.3/32", C.underlay]),
    )
    assert sent_to(site, A, "10.9.0.2") == (SOURCE_GREEN, REMOTE_GREEN)
    site.a.send(frames.frame(A.hardware, frames.udp(A.address4, "10.9.0.3")))
    assert lab.receive(site.c, frames.has(UDP)).dst == C.hardware


@FAMILIES
def test_endpoints_send_into_the_networks_that_admit_them(site: Site, family: int) -> None:
    lab = site.lab
    many = [f"fd09::{number:x}" for number in range(0x100, 0x13F)]
    lab.commit(admitting(GREEN, *many, GATEWAY))
    for _ in range(2):
        site.up.send(arriving(site, GATEWAY, C.underlay, to(C, family)))
        assert bytes(lab.receive(site.c, frames.has(UDP)).payload) == bytes(to(C, family))
    for endpoint, source in ((A, GATEWAY), (B, GATEWAY), (C, "fd09::2"), (D, REMOTE)):
        frame = arriving(site, source, endpoint.underlay, to(endpoint, family))
        site.up.send(frame, drop="underlay_source")
    lab.settle()
    lab.commit(admitting(GREEN))
    frame = arriving(site, GATEWAY, C.underlay, to(C, family))
    site.up.send(frame, drop="underlay_source")
    for wire in lab.wires.values():
        lab.quiet(wire, frames.has(UDP))


def test_endpoints_get_the_node_s_own_address(site: Site) -> None:
    """Other gear is configured with one address for each node, whatever the network."""
    lab = site.lab
    outside, inside = "fd00:2::1", "fd00:1:0:9::1"
    site.up.hosts |= {outside: REMOTE_MAC, inside: REMOTE_MAC}
    lab.commit(
        uplink(onLink=[ON_LINK, "fd00:2::/48"]),
        *(routes(f"{key}-x", key, ["10.9.0.0/16", outside]) for key in (BLUE, GREEN)),
        routes("old", BLUE, ["10.8.0.0/16", inside]),
    )
    assert sent_to(site, A, "10.9.0.1") == (UPLINK_ADDRESS, outside)
    assert sent_to(site, C, "10.9.0.1") == (UPLINK_ADDRESS, outside)
    # As is what an operator of an earlier release has given out: it has no VNI.
    assert sent_to(site, A, "10.8.0.1") == (UPLINK_ADDRESS, inside)


def test_without_a_prefix_sources_are_the_node_s_own(site: Site) -> None:
    """What a node of an earlier release sends and takes, until its operator says more."""
    lab = site.lab
    lab.commit(settings())
    assert sent_to(site, A, remote(4)) == (UPLINK_ADDRESS, REMOTE)
    site.up.send(arriving(site, "fd00:1:0:2::1", A.underlay, to(A)))
    assert lab.receive(site.a, frames.has(UDP))
    lab.commit(checking(False))
    assert sent_to(site, A, remote(4)) == (SOURCE, REMOTE)


def test_addresses_of_an_earlier_release_under_the_check(site: Site) -> None:
    old = A.with_(underlay="fd00:1:0:1::2")
    site.lab.commit(old.interface(), routes("old", BLUE, ["10.9.0.0/16", "fd00:1:0:2::5"]))
    site.up.hosts["fd00:1:0:2::5"] = REMOTE_MAC
    assert sent_to(site, A, "10.9.0.1") == (UPLINK_ADDRESS, "fd00:1:0:2::5")
    site.up.send(arriving(site, "fd00:1:0:2::1", old.underlay, to(A)))
    assert site.lab.receive(site.a, frames.has(UDP))
    site.up.send(arriving(site, REMOTE, old.underlay, to(A)), drop="underlay_source")
    site.lab.quiet(site.a, frames.has(UDP))


def test_the_source_follows_the_network_s_vni(site: Site) -> None:
    site.lab.commit(network(BLUE, 101))
    assert sent_to(site, A, remote(4)) == ("fd00:1:0:1:0:6500:0:1", REMOTE)
    site.lab.commit(network(BLUE, VNI[BLUE]))
    assert sent_to(site, A, remote(4)) == (SOURCE, REMOTE)


def traffic(site: Site, destinations: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Yield frames for ever: wires and what is sent on them. All of it belongs to blue."""
    outside = [bytes(arriving(site, REMOTE, address, to(A))) for address in destinations]
    while True:
        yield from (("up", frame) for frame in outside)
        yield "b", bytes(frames.frame(B.hardware, frames.udp(B.address4, A.address4)))
        yield "a", bytes(frames.frame(A.hardware, frames.udp(A.address4, remote(4))))


def under(site: Site, changes: Iterable[Sequence[Change]], destinations: Sequence[str]) -> None:
    """Commit each of the changes with frames on their way, more than may wait for a neighbour."""
    lab = site.lab
    assert sent_to(site, A, remote(4))[1] == REMOTE  # the way out is known
    sent = {"a": 0, "b": 0, "up": 0}
    frames_ = traffic(site, destinations)
    for change in changes:
        for _ in range(180):
            name, frame = next(frames_)
            lab.wires[name].send(frame)
            sent[name] += 1
        lab.commit(*change)
        for name in sent:
            lab.taken(lab.wires[name])
    lab.settle()
    assert sum(map(frames.is_udp, site.a.inbox)) == sent["b"] + sent["up"]
    assert sum(UDP in Ether(data) for data in site.up.inbox) == sent["a"]


def test_the_check_comes_and_goes_without_a_loss(site: Site) -> None:
    phases = [[settings()], [checking(False)], [checking()], [checking(False)], [settings()]]
    under(site, [*phases, [checking()]] * 3, [A.underlay])


def test_the_check_comes_and_goes_for_what_it_drops(site: Site) -> None:
    lab = site.lab
    lab.commit(routes("mistake", BLUE, ["10.9.0.1/32", C.underlay]))
    frame = arriving(site, REMOTE_GREEN, A.underlay, to(A))
    mistake = frames.frame(A.hardware, frames.udp(A.address4, "10.9.0.1"))
    for _ in range(3):
        lab.commit(checking(False))
        site.up.send(frame)
        assert lab.receive(site.a, frames.has(UDP))
        site.a.send(mistake)
        assert lab.receive(site.c, frames.has(UDP))
        lab.commit(checking())
        site.up.send(frame, drop="underlay_source")
        site.a.send(mistake, drop="underlay_source")
        lab.quiet(site.a, frames.has(UDP))
        lab.quiet(site.c, frames.has(UDP))


def test_former_addresses_lead_to_the_interface(site: Site) -> None:
    """They are answered for, and their sources are checked, as its own."""
    lab = site.lab
    former = [underlay(1, BLUE, 0x100 + number) for number in range(4)]
    lab.commit(A.with_(former=tuple(former)).interface())
    for address in (A.underlay, *former):
        site.up.send(arriving(site, REMOTE, address, to(A)))
        assert lab.receive(site.a, frames.has(UDP)).dst == A.hardware
        site.up.send(arriving(site, REMOTE_GREEN, address, to(A)), drop="underlay_source")
        site.up.send(frames.frame(REMOTE_MAC, frames.echo(REMOTE, address), site.uplink_mac))
        assert lab.receive(site.up, lambda f: IPv6 in f and f[IPv6].nh == 58)[IPv6].src == address
    lab.commit(routes("former", BLUE, ["10.9.0.0/16", former[3]]))
    packet = frames.frame(B.hardware, frames.udp(B.address4, "10.9.0.1"))
    site.b.send(packet)
    assert lab.receive(site.a, frames.has(UDP)).dst == A.hardware
    lab.commit(A.interface())
    site.up.send(arriving(site, REMOTE, former[0], to(A)), drop="unknown_underlay")
    site.up.hosts[former[3]] = REMOTE_MAC
    site.b.send(packet)
    assert lab.receive(site.up, frames.has(UDP))[IPv6].dst == former[3]
    lab.quiet(site.a, frames.has(UDP))


def test_an_address_changes_without_a_loss(site: Site) -> None:
    """The Interface has the new address, then the routes say it, then the old one goes."""
    old, new = "fd00:1:0:1::2", A.underlay
    site.lab.commit(A.with_(underlay=old, former=(new,)).interface(), checking(False))
    both = A.with_(former=(old,))
    steps: list[Sequence[Change]] = [
        [both.interface()],
        [routes("hosts", BLUE, [f"{A.address4}/32", old])],
        [routes("hosts", BLUE, [f"{A.address4}/32", new])],
        [both.with_(former=(old, underlay(1, BLUE, 5))).interface()],
        [both.interface()],
        [A.with_(underlay=old, former=(new,)).interface()],
    ]
    under(site, steps * 2, [old, new])


def test_a_former_address_passes_to_another_interface(lab: Lab) -> None:
    """Both in one commit, whichever comes first."""
    former = underlay(1, BLUE, 0x77)
    site = Site(lab, A.with_(former=(former,)), B)
    one, two = A, B.with_(former=(former,))
    back = A.with_(former=(former,)), B
    for change, wire in (((two, one), site.b), (back, site.a), ((one, two), site.b)):
        lab.commit(*(endpoint.interface() for endpoint in change))
        site.up.send(arriving(site, REMOTE, former, to(A)))
        assert lab.receive(wire, frames.has(UDP))
    for wire in lab.wires.values():
        lab.quiet(wire, frames.has(UDP))
