# SPDX-License-Identifier: Apache-2.0
"""An endpoint that is reached by VXLAN over IPv6 (RFC 7348)."""

import re
import socket
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import ICMPv6PacketTooBig, IPv6
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet, Raw

from headrace_dataplane.protocol import Network, PathMtu, Port
from tests.engine import frames
from tests.engine.lab import Lab, put
from tests.engine.process import Namespace
from tests.engine.site import (
    BLUE,
    ON_LINK,
    REMOTE_MAC,
    UPLINK_ADDRESS,
    UPLINK_MTU,
    VNI,
    A,
    C,
    Site,
    checking,
    network,
    routes,
    uplink,
)

FAMILIES = pytest.mark.parametrize("family", [4, 6])
EDGE = "fd09::1"
EDGE_VNI = 7
EDGE_MAC = "02:00:00:00:0e:d9"
FABRIC_MAC = "02:00:00:00:0f:ab"
HOSTS = {4: "10.9.0.1", 6: "2001:db8:9::1"}
MTU = UPLINK_MTU - 70
NARROW = 1400
"""MTU of a link of the fabric."""


@pytest.fixture
def edge(site: Site) -> Site:
    """Blue's hosts behind the edge."""
    site.lab.commit(
        uplink(onLink=[ON_LINK, "fd09::/64"]),
        checking(),
        network(BLUE, VNI[BLUE], vxlanEndpoints=[endpoint()]),
        routes(
            "edge", BLUE, *([f"{host}/{32 if f == 4 else 128}", EDGE] for f, host in HOSTS.items())
        ),
    )
    site.up.hosts[EDGE] = REMOTE_MAC
    return site


def endpoint(**changes: object) -> dict[str, object]:
    return {"address": EDGE, "vni": EDGE_VNI, "mac": EDGE_MAC, **changes}


def from_edge(
    site: Site, inner: Packet, source: str = EDGE, outer: str = A.underlay, vni: int = EDGE_VNI
) -> Packet:
    """Return the frame of an Ethernet frame."""
    header = IPv6(src=source, dst=outer) / UDP(sport=50000, dport=4789, chksum=0)
    return Ether(src=REMOTE_MAC, dst=site.uplink_mac) / header / VXLAN(vni=vni, flags=8) / inner


def ethernet(packet: Packet) -> Packet:
    return Ether(src=EDGE_MAC, dst=frames.GATEWAY_MAC) / packet


def sent(site: Site, packet: Packet) -> Packet:
    site.a.send(frames.frame(A.hardware, packet))
    return site.lab.receive(site.up, frames.has(VXLAN))


@FAMILIES
def test_there(edge: Site, family: int) -> None:
    """The first packet waits for the MAC address of the next hop, the second does not."""
    packet = frames.udp(A.address(family), HOSTS[family], b"inner")
    for _ in range(2):
        got = sent(edge, packet)
        assert (got.dst, got.src) == (REMOTE_MAC, edge.uplink_mac)
        outer = got[IPv6]
        assert (outer.src, outer.dst, outer.hlim, outer.nh) == (UPLINK_ADDRESS, EDGE, 64, 17)
        udp = outer.payload
        assert (udp.dport, udp.chksum, udp.len) == (4789, 0, outer.plen)
        assert udp.sport >= 49152
        assert bytes(udp.payload)[:8] == bytes([8, 0, 0, 0, 0, 0, EDGE_VNI, 0])
        inner = got[VXLAN].payload
        assert (inner.dst, inner.src) == (EDGE_MAC, frames.GATEWAY_MAC)
        assert frames.without_ttl(inner.payload) == frames.without_ttl(packet)
        assert frames.is_intact(inner.payload)
        assert len(got) == 14 + 70 + len(packet)


@FAMILIES
def test_back(edge: Site, family: int) -> None:
    packet = frames.udp(HOSTS[family], A.address(family), b"back")
    edge.up.send(from_edge(edge, ethernet(packet)))
    got = edge.lab.receive(edge.a, frames.has(UDP))
    assert (got.dst, got.src) == (A.hardware, frames.GATEWAY_MAC)
    assert bytes(got.payload) == bytes(packet)


def test_source_ports_follow_flows(edge: Site) -> None:
    def port(sport: int, payload: bytes) -> int:
        packet = frames.udp(A.address4, HOSTS[4], payload, sport=sport)
        found: int = sent(edge, packet)[IPv6].payload.sport
        return found

    ports = {sport: port(sport, b"first") for sport in range(1000, 1032)}
    assert all(port(sport, b"another") == found for sport, found in ports.items())
    assert len({*ports.values()}) >= 30


@FAMILIES
def test_mtu(edge: Site, family: int) -> None:
    header = 28 if family == 4 else 48
    largest = frames.udp(A.address(family), HOSTS[family], b"x" * (MTU - header))
    assert len(sent(edge, largest)) == 14 + UPLINK_MTU
    larger = frames.udp(A.address(family), HOSTS[family], b"x" * (MTU - header + 1))
    if family == 4:
        larger[IP].flags = "DF"
        del larger[IP].chksum
    edge.a.send(frames.frame(A.hardware, larger), drop="mtu")
    if family == 4:
        error = edge.lab.receive(edge.a, frames.has(ICMP))[ICMP]
        assert (error.type, error.code, error.nexthopmtu) == (3, 4, MTU)
    else:
        assert edge.lab.receive(edge.a, frames.has(ICMPv6PacketTooBig)).mtu == MTU


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"source": "fd09::2"}, id="another-source"),
        pytest.param({"vni": EDGE_VNI + 1}, id="another-vni"),
        pytest.param({"vni": 0}, id="no-vni"),
        pytest.param({"vni": VNI[BLUE]}, id="the-networks-own-vni"),
        pytest.param({"outer": C.underlay}, id="another-network"),
    ],
)
def test_others_may_not_send(edge: Site, fields: dict[str, Any]) -> None:
    packet = ethernet(frames.udp(HOSTS[4], A.address4))
    edge.up.send(from_edge(edge, packet, **fields), drop="underlay_source")
    edge.lab.quiet(edge.a, frames.has(UDP))
    edge.lab.quiet(edge.c, frames.has(UDP))


def test_sources_are_checked_without_source_checks_too(edge: Site) -> None:
    edge.lab.commit(checking(False))
    packet = ethernet(frames.udp(HOSTS[4], A.address4))
    edge.up.send(from_edge(edge, packet, vni=8), drop="underlay_source")
    edge.up.send(from_edge(edge, packet))
    assert edge.lab.receive(edge.a, frames.has(UDP))


def test_malformed(edge: Site) -> None:
    packet = frames.udp(HOSTS[4], A.address4)
    arp = Ether(src=EDGE_MAC, dst="ff:ff:ff:ff:ff:ff") / ARP()
    tagged = Ether(src=EDGE_MAC, dst=frames.GATEWAY_MAC) / Dot1Q(vlan=5) / packet
    without_vni = from_edge(edge, ethernet(packet))
    without_vni[VXLAN].flags = 0
    long = from_edge(edge, ethernet(packet))
    long[UDP].len = 4000
    for frame in (from_edge(edge, arp), from_edge(edge, tagged), without_vni, long):
        edge.up.send(frame, drop="vxlan")
    edge.up.send(from_edge(edge, Raw(b"\0" * 13)), drop="vxlan")
    cut = from_edge(edge, ethernet(Raw(bytes(packet)[:19])))
    cut[Ether:2].type = 0x0800
    edge.up.send(cut, drop="inner_header")
    other = from_edge(edge, ethernet(packet))
    other[UDP].dport = 4790
    edge.up.send(other, drop="underlay_protocol")
    edge.lab.quiet(edge.a, frames.has(UDP))


def test_encapsulation_changes_at_run_time(edge: Site) -> None:
    packet = frames.udp(A.address4, HOSTS[4])
    assert sent(edge, packet)[VXLAN].vni == EDGE_VNI
    other = endpoint(vni=0xABCDEF, mac="02:00:00:00:00:99")
    edge.lab.commit(network(BLUE, VNI[BLUE], vxlanEndpoints=[other]))
    got = sent(edge, packet)
    assert (got[VXLAN].vni, got[VXLAN].payload.dst) == (0xABCDEF, "02:00:00:00:00:99")
    assert edge.lab.item(Network, name=BLUE).vxlan_endpoints == (other,)
    edge.lab.commit(network(BLUE, VNI[BLUE], endpoints=[EDGE]))
    edge.a.send(frames.frame(A.hardware, packet))
    assert edge.lab.receive(edge.up, frames.has(UDP))[IPv6].nh == 4
    edge.lab.commit(network(BLUE, VNI[BLUE], vxlanEndpoints=[endpoint()]))
    assert sent(edge, packet)[VXLAN].vni == EDGE_VNI


@dataclass(frozen=True)
class Peers:
    """The kernel as a tenant's machine and a router with `vxlan`; between the engine and that is
    a router of the fabric.
    """

    machine: Namespace
    fabric: Namespace
    router: Namespace


def veth_peer(namespace: Namespace, there: Namespace, name: str) -> None:
    namespace.veth(f"{name}-engine", f"{name}-peer")
    namespace.ip(f"link set {name}-peer netns {there.name}")
    there.run("sysctl", "-qw", f"net.ipv6.conf.{name}-peer.disable_ipv6=0")
    there.run("sysctl", "-qw", f"net.ipv6.conf.{name}-peer.accept_dad=0")
    there.ip(f"link set {name}-peer up mtu 1500")


def make_fabric(fabric: Namespace, router: Namespace) -> None:
    """Join them, with room for all that fits the engine's uplink."""
    fabric.run("sysctl", "-qw", "net.ipv6.conf.all.forwarding=1")
    fabric.veth("f-router", "r-fabric")
    fabric.ip(f"link set r-fabric netns {router.name}")
    for there, device, address in (
        (fabric, "f-router", "fd0b::1"),
        (router, "r-fabric", "fd0b::2"),
    ):
        there.run("sysctl", "-qw", f"net.ipv6.conf.{device}.accept_dad=0")
        there.run("sysctl", "-qw", f"net.ipv6.conf.{device}.disable_ipv6=0")
        there.ip(f"address add {address}/64 dev {device} nodad")
        there.ip(f"link set {device} up mtu 1500")
    fabric.ip(f"route add {EDGE} via fd0b::2")
    fabric.ip(f"route add {ON_LINK} dev r-peer")
    router.ip(f"address add {EDGE}/128 dev r-fabric nodad")
    router.ip(f"route add {ON_LINK} via fd0b::1 src {EDGE}")


def make_vxlan(router: Namespace) -> None:
    router.run("sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=0")
    router.ip(
        f"link add vx address {EDGE_MAC} type vxlan id {EDGE_VNI} local {EDGE} dstport 4789"
        " nolearning udp6zerocsumtx udp6zerocsumrx"
    )
    router.run("ethtool", "-K", "vx", "tx", "off", "gso", "off", "gro", "off")
    router.ip(f"link set vx up mtu {MTU}")
    router.ip("address add 10.9.0.1/32 dev vx")
    router.ip("address add 2001:db8:9::1/128 dev vx nodad")
    for family, address in ((4, A.address4), (6, A.address6)):
        router.ip(f"neighbor add {address} lladdr 02:00:00:00:00:02 dev vx")
        router.ip(f"-{family} route add {address} dev vx")
    router.run("bridge", "fdb", "add", "02:00:00:00:00:02", "dev", "vx", "dst", A.underlay)


@pytest.fixture
def peers(lab: Lab, namespace: Namespace) -> Iterator[Peers]:
    machine, fabric, router = Namespace(), Namespace(), Namespace()
    for name, there in (("m", machine), ("r", fabric)):
        veth_peer(namespace, there, name)
    make_fabric(fabric, router)
    fabric.ip(f"link set r-peer address {FABRIC_MAC}")
    lab.commit(
        *(
            put(
                "port",
                name,
                devargs=f"net_af_packet_{name},iface={name}-engine",
                rxQueues=1,
                mtu=1500,
                netdev=f"{name}-engine",
            )
            for name in ("m", "r")
        ),
        checking(),
        network(BLUE, VNI[BLUE], vxlanEndpoints=[endpoint()]),
        uplink(
            "r", onLink=[ON_LINK, "fd09::/64"], neighbors=[{"address": EDGE, "mac": FABRIC_MAC}]
        ),
        A.with_(name="m").interface(),
        routes(
            "blue",
            BLUE,
            [f"{A.address4}/32", A.underlay],
            [f"{A.address6}/128", A.underlay],
            ["10.9.0.1/32", EDGE],
            ["2001:db8:9::1/128", EDGE],
        ),
    )
    machine.ip(f"link set m-peer address {A.hardware}")
    machine.ip(f"address add {A.address4}/32 dev m-peer")
    machine.ip(f"address add {A.address6}/128 dev m-peer nodad")
    machine.ip("route add default dev m-peer")
    machine.ip("route replace default via fe80::1 dev m-peer")
    hardware = {str(port.name): str(port.mac) for port in lab.engine.client.items(Port)}
    for address in (A.underlay, UPLINK_ADDRESS):
        fabric.ip(f"neighbor replace {address} lladdr {hardware['r']} dev r-peer")
    make_vxlan(router)
    yield Peers(machine, fabric, router)
    lab.clear()
    for name in ("m", "r"):
        namespace.ip(f"link delete {name}-engine")
    for each in (machine, fabric, router):
        each.remove()


def mtu_towards(machine: Namespace, address: str) -> str:
    """What a machine's kernel has learned of a path."""
    words = ["ip", "netns", "exec", machine.name, "ip", "route", "get", address]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    found = re.search(r"mtu (\d+)", done.stdout)
    return found.group(1) if found else ""


def transfer(sender: Namespace, receiver: Namespace, address: str, family: int) -> None:
    """Send a mebibyte by TCP to an address of the receiver's."""
    data = bytes(range(256)) * 4096
    with receiver.entered():
        listener = socket.create_server(
            (address, 0), family=socket.AF_INET if family == 4 else socket.AF_INET6
        )
    with listener, sender.entered():
        client = socket.create_connection(listener.getsockname()[:2], timeout=20)
        server, _ = listener.accept()
    server.settimeout(20)
    thread = threading.Thread(target=client.sendall, args=(data,))
    thread.start()
    with server, client, server.makefile("rb") as stream:
        assert stream.read(len(data)) == data
        thread.join()


@FAMILIES
def test_the_kernels_vxlan(peers: Peers, family: int) -> None:
    """Pings up to the largest, and TCP, both ways."""
    machine, router = peers.machine, peers.router
    there, here = HOSTS[family], A.address(family)
    header = 28 if family == 4 else 48
    for size in (56, MTU - header):
        for at, address in ((machine, there), (router, here)):
            at.run(
                "ping", "-q", "-n", "-c", "3", "-i", "0.01", "-M", "do", "-s", str(size), address
            )
    # One byte more: the machine is told, and remembers.
    too_large = ["ping", "-q", "-c", "1", "-W", "1", "-M", "do", "-s", str(MTU - header + 1), there]
    netns = ["ip", "netns", "exec", machine.name]
    assert subprocess.run([*netns, *too_large], check=False).returncode == 1
    assert mtu_towards(machine, there) == str(MTU)
    transfer(machine, router, there, family)
    transfer(router, machine, here, family)


@FAMILIES
def test_tcp_finds_the_mtu_of_the_fabric(lab: Lab, peers: Peers, family: int) -> None:
    """A link of the fabric carries less than its ends think; MSS does not say so."""
    machine, router, there = peers.machine, peers.router, HOSTS[family]
    peers.fabric.ip(f"link set f-router mtu {NARROW}")
    transfer(machine, router, there, family)
    assert [(each.underlay, each.mtu) for each in lab.engine.client.items(PathMtu)] == [
        (EDGE, NARROW)
    ]
    assert mtu_towards(machine, there) == str(NARROW - 70)
