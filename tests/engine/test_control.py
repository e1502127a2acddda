# SPDX-License-Identifier: Apache-2.0
"""The control socket: named refusals, all or nothing, digests, lists, and changes under traffic."""

import socket
import time
from collections.abc import Sequence

import pytest
from scapy.layers.inet import UDP
from scapy.layers.inet6 import IPv6

from headrace_api import AGENT_FEATURES, FEATURES
from headrace_dataplane.protocol import (
    KINDS,
    MAX_MESSAGE,
    PROTOCOL,
    Change,
    Delete,
    EngineClient,
    Interface,
    Item,
    Neighbor,
    Network,
    Port,
    Put,
    RefusedError,
    Route,
    Uplink,
)
from tests.engine import frames
from tests.engine.lab import Lab, put, settings
from tests.engine.site import (
    BLUE,
    GATEWAYS,
    GREEN,
    ON_LINK,
    REMOTE,
    UPLINK_ADDRESS,
    VNI,
    A,
    B,
    C,
    D,
    Site,
    checking,
    network,
    remote,
    routes,
    tap,
    uplink,
)


def refusals(lab: Lab, *changes: Change) -> set[tuple[str, str, str, str]]:
    """Commit what must be refused; return kind, key, field and reason of each refusal."""
    before = lab.engine.client.digests()
    with pytest.raises(RefusedError) as refused:
        lab.commit(*changes)
    assert lab.engine.client.digests() == before
    assert all(refusal.message for refusal in refused.value.refusals)
    return {(r.kind, r.key, r.field, r.reason) for r in refused.value.refusals}


def null(name: str) -> Put:
    return put("port", name, devargs=f"net_null_{name}", rxQueues=1, mtu=1500)


def interface(
    name: str, port: str, network: str = BLUE, underlay: str = "fd00::1", former: Sequence[str] = ()
) -> Put:
    return put(
        "interface", name, port=port, network=network, addresses=["10.0.0.5"], prefixes=[],
        gateways=["10.0.0.1"], underlay=underlay, formerUnderlayAddresses=list(former),
        sourceCheck=True, mtu=1460,
    )  # fmt: skip


# Refusals.


def test_hello(lab: Lab) -> None:
    hello = lab.engine.client.hello()
    assert hello.protocol == PROTOCOL
    assert hello.dpdk.startswith("DPDK ")
    assert hello.pid == lab.engine.pid
    assert len(hello.workers) >= 1
    assert 0 < hello.started <= time.time() + 1
    assert set(hello.features) == {*FEATURES} - {*AGENT_FEATURES}
    assert hello.kinds == KINDS


@pytest.mark.parametrize(
    ("change", "field", "reason"),
    [
        (settings(burst=0), "burst", "InvalidField"),
        (settings(burst=65), "burst", "InvalidField"),
        (settings(idle="lazy"), "idle", "InvalidField"),
        (settings(icmpPerSecond=-1), "icmpPerSecond", "InvalidField"),
        (settings(extra=1), "extra", "UnknownField"),
        (settings(underlayPrefixes=["fd00:1::/65"]), "underlayPrefixes[0]", "InvalidField"),
        (settings(underlaySourceCheck=True), "underlaySourceCheck", "InvalidField"),
        (put("settings", "engine", idle="poll", burst=1), "icmpPerSecond", "MissingField"),
        (put("settings", "other", idle="poll", burst=1, icmpPerSecond=1), "key", "InvalidField"),
        (put("port", "p", devargs="net_null0", rxQueues=0, mtu=1500), "rxQueues", "InvalidField"),
        (put("port", "p", devargs="net_null0", rxQueues=1, mtu=1279), "mtu", "InvalidField"),
        (put("port", "p", devargs="net_null0", rxQueues=1, mtu=9217), "mtu", "InvalidField"),
        (put("port", "p", rxQueues=1, mtu=1500), "devargs", "MissingField"),
        (put("port", "p", devargs=7, rxQueues=1, mtu=1500), "devargs", "InvalidField"),
        (put("port", "p", devargs="net_nonsense0", rxQueues=1, mtu=1500), "devargs", "PortFailed"),
        (put("port", "p", devargs="net_null0", rxQueues=1, mtu=1500, mac="01:00:5e:00:00:01"),
         "mac", "InvalidField"),
        (put("port", "p", devargs="net_af_packet0,iface=nosuchdev", rxQueues=1, mtu=1500,
             netdev="nosuchdev"), "devargs", "PortFailed"),
        (put("network", "t/n", vni=0, gateways=[]), "vni", "InvalidField"),
        (put("network", "t/n", vni=1 << 24, gateways=[]), "vni", "InvalidField"),
        (put("network", "t/n", vni=1, gateways=["10.0.0.0/8"]), "gateways[0]", "InvalidField"),
        (put("network", "t/n", vni=1, gateways=["10.0.0.1"] * 2), "gateways[1]", "Duplicate"),
        (routes("r", BLUE, ["10.0.0.1/8", REMOTE]), "routes[0][0]", "InvalidField"),
        (routes("r", BLUE, ["10.0.0.0/33", REMOTE]), "routes[0][0]", "InvalidField"),
        (routes("r", BLUE, ["10.0.0.0/8", "10.0.0.1"]), "routes[0][1]", "InvalidField"),
        (routes("r", BLUE, ["10.0.0.0/8", "fe80::1"]), "routes[0][1]", "InvalidField"),
        (routes("r", BLUE, ["10.0.0.0/8", [REMOTE, 0]]), "routes[0][1]", "InvalidField"),
        (routes("r", BLUE, ["10.0.0.0/8", *([REMOTE] * 17)]), "routes[0]", "InvalidField"),
        (routes("r", BLUE, ["10.0.0.0/8"], ["10.0.0.0/8", REMOTE]), "routes", "Duplicate"),
        (routes("r", "t/none", ["10.0.0.0/8"]), "network", "UnknownReference"),
        (routes("r", BLUE, ["10.0.0.0/8", {"network": "t/none", "weight": 1}]), "routes",
         "UnknownReference"),
        (interface("t/i", "none"), "port", "UnknownReference"),
        (interface("t/i", "free", "t/none"), "network", "UnknownReference"),
        (interface("t/i", "taken"), "port", "Conflict"),
        (interface("t/i", "free", underlay="fd00::99"), "underlay", "Conflict"),
        (interface("t/i", "free", underlay=UPLINK_ADDRESS), "underlay", "Conflict"),
        (interface("t/i", "free", former=["fd00::99"]), "formerUnderlayAddresses[0]", "Conflict"),
        (interface("t/i", "free", underlay="fe80::1"), "underlay", "InvalidField"),
        (interface("t/i", "free", underlay="10.0.0.1"), "underlay", "InvalidField"),
        (uplink("none", addresses=["fd00::5"]), "port", "UnknownReference"),
        (uplink("taken", addresses=["fd00::5"]), "port", "Conflict"),
        (uplink("free", addresses=["fd00::99"]), "addresses[0]", "Conflict"),
        (uplink("free", addresses=[]), "addresses", "InvalidField"),
        (uplink("free", mtu=1319), "mtu", "InvalidField"),
        (uplink("free", addresses=["fd00::5"], onLink=["10.0.0.0/8"]), "onLink[0]", "InvalidField"),
        (put("network", "t/n", vni=100, gateways=[]), "vni", "Conflict"),
        (Delete("network", BLUE), "", "InUse"),
        (Delete("port", "taken"), "", "InUse"),
    ],
)  # fmt: skip
def test_refusals(lab: Lab, change: Change, field: str, reason: str) -> None:
    lab.commit(
        null("taken"), null("free"), null("up"), network(BLUE, 100), uplink(),
        interface("t/taken", "taken", underlay="fd00::99"),
    )  # fmt: skip
    assert refusals(lab, change) == {(change.kind, change.key, field, reason)}


def test_all_or_nothing(site: Site) -> None:
    """One bad object among good ones: no device appears, no route changes."""
    lab = site.lab
    found = refusals(
        lab,
        tap("extra"),
        network("t/red", 300),
        routes("blue", BLUE),
        Delete("interface", "t/b"),
        interface("t/bad", "nowhere"),
    )
    assert found == {("interface", "t/bad", "port", "UnknownReference")}
    assert [p.name for p in lab.engine.client.items(Port, {"name": "extra"})] == []
    site.a.send(frames.frame(A.hardware, frames.udp(A.address4, B.address4)))
    assert lab.receive(site.b, frames.has(UDP))


def test_a_device_that_fails_undoes_the_others(lab: Lab) -> None:
    """The tap device made before the failure is gone again, and can be had afterwards."""
    bad = put("port", "bad", devargs="net_af_packet_bad,iface=nosuchdev", rxQueues=1, mtu=1500)
    assert refusals(lab, tap("good"), bad) == {("port", "bad", "devargs", "PortFailed")}
    with lab.namespace.entered():
        assert "good" not in [name for _, name in socket.if_nameindex()]
    lab.commit(tap("good"))
    assert lab.item(Port, name="good").driver == "net_tap"


def test_every_refusal_is_told(lab: Lab) -> None:
    found = refusals(
        lab,
        network(BLUE, 100),
        network(GREEN, 100),
        interface("t/x", "none", "t/none"),
        routes("r", "t/none"),
    )
    assert {(kind, reason) for kind, _, _, reason in found} == {
        ("network", "Conflict"),
        ("interface", "UnknownReference"),
        ("routes", "UnknownReference"),
    }


def test_twice_in_one_commit(lab: Lab) -> None:
    found = refusals(lab, network(BLUE, 100), network(BLUE, 101))
    assert {(kind, key, reason) for kind, key, _, reason in found} == {
        ("network", BLUE, "Duplicate")
    }


def ask(lab: Lab, message: bytes) -> bytes:
    """Send bytes to the control socket, end, and read all that comes back."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(10)
        client.connect(str(lab.engine.socket))
        client.sendall(message)
        client.shutdown(socket.SHUT_WR)
        answer = b""
        while part := client.recv(65536):
            answer += part
        return answer


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (b"\0\0\0\x01{", b"InvalidRequest"),
        (b"\0\0\0\x02[]", b"InvalidField"),
        (b"\0\0\0\x02{}", b"MissingField"),
        (b'\0\0\0\x0c{"op":"fly"}', b"InvalidField"),
        (b'\0\0\0\x13{"op":"hello","x":1'[:4] + b'{"op":"hello","x":1}'[:19], b"InvalidRequest"),
        ((MAX_MESSAGE + 1).to_bytes(4, "big"), b"TooLarge"),
        (b"\xff\xff\xff\xff", b"TooLarge"),
        (b"\0\0\0\x00", b"InvalidRequest"),
    ],
)
def test_bad_messages(lab: Lab, message: bytes, reason: bytes) -> None:
    assert reason in ask(lab, message)
    assert lab.engine.client.hello().protocol == PROTOCOL


def test_a_client_that_goes_away_midway(lab: Lab) -> None:
    for message in (b"", b"\0", b"\0\0\1\0{", b"\0\0\1\0" + b"x" * 200):
        assert ask(lab, message) == b""
    assert lab.engine.client.hello().protocol == PROTOCOL


# Digests and generations.


def test_digests_are_as_given(lab: Lab) -> None:
    lab.commit(network(BLUE, 100))
    one = Put("network", GREEN, "some-hash-1", {"vni": 200, "gateways": []})
    lab.engine.client.commit(77, [one])
    digests = lab.engine.client.digests()
    assert digests.generation == 77
    assert digests.digests["network"] == {BLUE: network(BLUE, 100).hash, GREEN: "some-hash-1"}
    assert lab.engine.client.hello().generation == 77
    # The same hash means the same spec: nothing happens.
    same = Put("network", GREEN, "some-hash-1", {"vni": 201, "gateways": []})
    lab.engine.client.commit(78, [same])
    assert lab.item(Network, name=GREEN).vni == 200
    changed = Put("network", GREEN, "some-hash-2", {"vni": 201, "gateways": []})
    lab.engine.client.commit(79, [changed])
    assert lab.item(Network, name=GREEN).vni == 201


def test_delete_of_what_is_not_there(lab: Lab) -> None:
    lab.commit(Delete("network", "t/none"), Delete("routes", "none"))


def test_references_within_one_commit_in_any_order(lab: Lab) -> None:
    lab.commit(
        routes("r", BLUE, ["10.0.0.0/8"]), interface("t/i", "p"), network(BLUE, 1), null("p")
    )
    lab.commit(Delete("network", BLUE), Delete("port", "p"), Delete("interface", "t/i"),
               Delete("routes", "r"))  # fmt: skip
    assert not any(keys for kind, keys in lab.engine.client.digests().digests.items()
                   if kind != "settings")  # fmt: skip


def test_names_and_numbers_move_in_one_commit(lab: Lab) -> None:
    """Two Interfaces swap ports and underlay addresses; a VNI goes to another network."""
    site = Site(lab, A, B)
    swapped_a = A.with_(underlay=B.underlay, extra={"port": "b"}, hardware=B.hardware)
    swapped_b = B.with_(underlay=A.underlay, extra={"port": "a"}, hardware=A.hardware)
    lab.settle()
    lab.commit(swapped_a.interface(), swapped_b.interface(), Delete("network", GREEN),
               Delete("routes", "green"), network("t/red", 200),
               routes("blue", BLUE, [f"{A.address4}/32", B.underlay],
                      [f"{B.address4}/32", A.underlay]))  # fmt: skip
    wire_a, wire_b = site.a, site.b
    # Counters are the ports', and the names on the ports have changed.
    lab.disconnect("a", close=False)
    lab.disconnect("b", close=False)
    wire_b.send(frames.frame(B.hardware, frames.udp(A.address4, B.address4)))
    got = lab.receive(wire_a, frames.has(UDP))
    assert got.dst == A.hardware
    wire_a.close()
    wire_b.close()


# Lists.


def test_lists(site: Site) -> None:
    lab = site.lab
    lab.commit(
        A.with_(former=("fd00:1:0:1::7",)).interface(),
        network(BLUE, VNI[BLUE], endpoints=["fd09::1"]),
    )
    a = lab.item(Interface, name="t/a")
    assert (a.network, a.vni, a.port, a.state) == (BLUE, 100, "a", "up")
    assert (a.addresses, a.underlay) == ((A.address4, A.address6), A.underlay)
    assert a.former_underlay_addresses == ("fd00:1:0:1::7",)
    assert (a.gateways, a.mtu, a.source_check) == (A.gateways, A.mtu, True)
    assert {n.name: n.vni for n in lab.engine.client.items(Network)} == {BLUE: 100, GREEN: 200}
    assert lab.item(Network, name=BLUE).gateways == tuple(GATEWAYS)
    assert lab.item(Network, name=BLUE).endpoints == ("fd09::1",)
    up = lab.item(Uplink, name="up")
    assert (up.port, up.state, up.addresses) == ("up", "up", (UPLINK_ADDRESS,))
    assert (up.on_link, up.gateway, up.mtu) == ((ON_LINK,), None, 1500)
    port = lab.item(Port, name="a")
    assert (port.state, port.driver, port.mtu, port.burst) == ("up", "net_tap", 1500, 64)
    assert [queue.queue for queue in port.rx_queues] == [0]


def test_route_lists(site: Site) -> None:
    lab = site.lab
    lab.commit(
        routes("more", BLUE, ["10.8.0.0/16", [REMOTE, 3], [B.underlay, 1]], ["10.7.0.0/16"],
               ["10.6.0.0/16", {"network": GREEN, "weight": 1}]),
    )  # fmt: skip
    (ecmp,) = lab.engine.client.items(Route, {"network": BLUE, "prefix": "10.8.0.0/16"})
    assert {(h.underlay, h.weight, h.interface) for h in ecmp.next_hops} == {
        (REMOTE, 3, None),
        (B.underlay, 1, "t/b"),
    }
    assert ecmp.slice == "more"
    (hole,) = lab.engine.client.items(Route, {"network": BLUE, "prefix": "10.7.0.0/16"})
    assert hole.blackhole
    assert hole.next_hops == ()
    (peer,) = lab.engine.client.items(Route, {"network": BLUE, "prefix": "10.6.0.0/16"})
    assert [(h.network, h.weight) for h in peer.next_hops] == [(GREEN, 1)]
    (match,) = lab.engine.client.items(Route, {"network": BLUE, "match": "10.8.3.4"})
    assert match.prefix == "10.8.0.0/16"
    (host,) = lab.engine.client.items(Route, {"network": BLUE, "match": B.address6})
    assert host.prefix == f"{B.address6}/128"


@pytest.mark.parametrize(
    ("kind", "filters"),
    [
        (Port, {"port": "a"}),
        (Interface, {"network": BLUE}),
        (Neighbor, {"interface": "t/a"}),
        (Route, {"destination": "10.8.0.0/16"}),
    ],
)
def test_filters_that_a_list_does_not_have(
    site: Site, kind: type[Item], filters: dict[str, str]
) -> None:
    """Passed over, they would give everything for a part of it."""
    (name,) = filters
    with pytest.raises(RefusedError) as caught:
        list(site.lab.engine.client.items(kind, filters))
    (refusal,) = caught.value.refusals
    assert (refusal.field, refusal.reason) == (f"filter.{name}", "UnknownField")


def test_pages(lab: Lab) -> None:
    prefixes = {f"10.{n >> 8}.{n & 255}.0/24" for n in range(300)}
    lab.commit(
        network(BLUE, 1), routes("r", BLUE, *([prefix, REMOTE] for prefix in sorted(prefixes)))
    )
    client = lab.engine.client
    for page in (1000, 300, 299, 100, 7):
        found = [route.prefix for route in client.items(Route, {"network": BLUE}, page=page)]
        assert len(found) == 300
        assert set(found) == prefixes


def test_many_clients(lab: Lab) -> None:
    clients = [EngineClient(lab.engine.socket) for _ in range(3)]
    try:
        assert [client.hello().protocol for client in clients] == [PROTOCOL] * 3
    finally:
        for client in clients:
            client.close()


# Changes while packets flow.


class Flow:
    """A flow through the engine, packet by packet: each is received before the next is sent."""

    def __init__(self, site: Site, source: str = "a", to: str = "b") -> None:
        self.site = site
        self.sender = site.endpoints[source]
        self.target = to
        self.number = 0

    def go_on(self, packets: int = 5) -> None:
        lab = self.site.lab
        address = remote(4) if self.target == "up" else self.site.endpoints[self.target].address4
        for _ in range(packets):
            self.number += 1
            packet = frames.udp(self.sender.address4, address, str(self.number).encode(), sport=99)
            lab.wires[self.sender.name].send(frames.frame(self.sender.hardware, packet))
            got = lab.receive(lab.wires[self.target], lambda f: UDP in f and f[UDP].sport == 99)
            assert bytes(got[UDP].payload) == str(self.number).encode()


def test_changes_that_do_not_concern_a_flow(site: Site) -> None:
    """Everything else changes meanwhile; every packet of the flow arrives, once and in order."""
    lab = site.lab
    flows = [Flow(site, "a", "b"), Flow(site, "a", "up")]

    def go_on() -> None:
        for flow in flows:
            flow.go_on()

    go_on()
    for change in (
        [D.with_(mtu=1300).interface()],
        [C.with_(source_check=False).interface()],
        [D.with_(underlay="fd00:1:0:1::dd").interface()],
        [put("network", GREEN, vni=201, gateways=GATEWAYS)],
        [routes("green", GREEN, ["10.1.0.0/16", "fd00:1:0:2::77"])],
        [routes("extra", BLUE, ["10.99.0.0/16", "fd00:1:0:2::78"])],
        [routes("extra", BLUE, ["10.98.0.0/16"])],
        [Delete("routes", "extra")],
        [tap("new"), network("t/red", 300), interface("t/new", "new", "t/red")],
        [Delete("interface", "t/new"), Delete("port", "new"), Delete("network", "t/red")],
        [checking(burst=1)],
        [checking(burst=64)],
    ):
        lab.commit(*change)
        go_on()


def test_a_change_of_routes_under_a_burst(site: Site) -> None:
    """Thousands of packets are on their way while hundreds of routes come and go."""
    lab = site.lab
    Flow(site, "a", "b").go_on(1)
    packet = bytes(frames.frame(A.hardware, frames.udp(A.address4, B.address4)))
    for generation in range(20):
        lab.commit(
            routes(
                "churn",
                BLUE,
                *([f"10.{200 + generation % 3}.{n}.0/24", REMOTE] for n in range(200)),
            )
        )
        # The kernel's queue holds a few hundred, however long the engine waits for its CPU.
        lab.taken(site.a)
        for _ in range(100):
            site.a.send(packet)
    lab.settle()
    assert sum(frames.is_udp(data) for data in site.b.inbox) == 2000


def test_a_prefix_that_moves_between_slices(site: Site) -> None:
    """Put in the new slice before, with or after it leaves the old one: no packet misses it."""
    lab = site.lab
    moving = ["10.30.0.0/16", REMOTE]
    packet = frames.frame(A.hardware, frames.udp(A.address4, "10.30.1.1"))

    def check() -> None:
        site.a.send(packet)
        assert lab.receive(site.up, frames.has(UDP))[IPv6].dst == REMOTE

    lab.commit(routes("s1", BLUE, moving))
    check()
    lab.commit(routes("s2", BLUE, moving))
    check()
    lab.commit(routes("s1", BLUE))
    check()
    lab.commit(routes("s1", BLUE, moving), routes("s2", BLUE))
    check()
    (route,) = lab.engine.client.items(Route, {"network": BLUE, "prefix": "10.30.0.0/16"})
    assert route.slice == "s1"
    lab.commit(Delete("routes", "s1"), routes("s3", BLUE, moving))
    check()
    lab.commit(Delete("routes", "s2"))
    check()
    lab.commit(Delete("routes", "s3"))
    site.a.send(packet, drop="no_route")
    lab.settle()


def test_an_interface_that_moves_between_ports(site: Site) -> None:
    lab = site.lab
    Flow(site).go_on()
    lab.settle()
    lab.disconnect("b")
    lab.rebase()
    lab.commit(tap("b2"))
    wire = lab.connect("b2", "b2", B.hardware, ("interface", "t/b"))
    lab.commit(B.with_(extra={"port": "b2"}).interface(), Delete("port", "b"))
    packet = frames.udp(A.address4, B.address4)
    site.a.send(frames.frame(A.hardware, packet))
    assert lab.receive(wire, frames.has(UDP)).dst == B.hardware


def test_an_interface_that_moves_between_networks(site: Site) -> None:
    lab = site.lab
    moved = A.with_(network=GREEN, address4="10.0.0.9", address6="2001:db8::9")
    lab.commit(moved.interface(), routes("new", GREEN, ["10.0.0.9/32", A.underlay]))
    site.a.send(frames.frame(A.hardware, frames.udp("10.0.0.9", D.address4)))
    assert lab.receive(site.d, frames.has(UDP)).dst == D.hardware
    site.d.send(frames.frame(D.hardware, frames.udp(D.address4, "10.0.0.9")))
    assert lab.receive(site.a, frames.has(UDP)).dst == A.hardware
    site.a.send(frames.frame(A.hardware, frames.udp(A.address4, B.address4)), drop="source")
    lab.quiet(site.b, frames.has(UDP))
