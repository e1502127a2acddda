# SPDX-License-Identifier: Apache-2.0
"""Every kind of port, and ports that come and go."""

import os
import socket
from collections.abc import Iterator
from ipaddress import IPv6Address
from pathlib import Path

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import ICMPv6ND_RA, ICMPv6PacketTooBig, IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.utils import PcapReader, PcapWriter

from headrace_dataplane.protocol import Delete, Interface, Port, Put, RefusedError, Uplink
from tests.engine import frames
from tests.engine.lab import Lab, put, settings
from tests.engine.process import Engine, Namespace, until
from tests.engine.site import (
    BLUE,
    GATEWAYS,
    GREEN,
    REMOTE,
    REMOTE_GREEN,
    REMOTE_MAC,
    VNI,
    A,
    B,
    C,
    D,
    Endpoint,
    Site,
    host_routes,
    network,
    remote,
    routes,
    tap,
    uplink,
)

FAMILIES = pytest.mark.parametrize("family", [4, 6])


def af_packet(name: str, device: str, mtu: int = 1500) -> Put:
    return put(
        "port", name, devargs=f"net_af_packet_{name},iface={device}", rxQueues=1, mtu=mtu,
        netdev=device,
    )  # fmt: skip


# AF_PACKET.


@pytest.fixture
def veths(lab: Lab, namespace: Namespace) -> Iterator[Lab]:
    """Interfaces e and f and the uplink, all by AF_PACKET on one end of a veth pair each."""
    for name in ("e", "f", "u"):
        namespace.veth(f"{name}-engine", f"{name}-test")
    yield lab
    try:
        lab.settle()
    finally:
        lab.clear()
        for name in ("e", "f", "u"):
            namespace.ip(f"link del {name}-engine")


E = Endpoint("e", BLUE, "10.0.0.5", "2001:db8::5", "fd00:1:0:1::e", "02:00:00:00:00:0e")
F = Endpoint("f", BLUE, "10.0.0.6", "2001:db8::6", "fd00:1:0:1::f", "02:00:00:00:00:0f")


def connect_veths(lab: Lab) -> None:
    lab.commit(*(af_packet(name, f"{name}-engine") for name in ("e", "f", "u")))
    connect_interfaces(lab)


def connect_interfaces(lab: Lab) -> None:
    """All that has the ports."""
    for endpoint in (E, F):
        wire = lab.connect(
            endpoint.name, f"{endpoint.name}-test", endpoint.hardware,
            ("interface", f"t/{endpoint.name}"),
        )  # fmt: skip
        wire.hosts = {endpoint.address4: endpoint.hardware, endpoint.address6: endpoint.hardware}
    lab.connect("u", "u-test", REMOTE_MAC, ("uplink", "u")).hosts = {REMOTE: REMOTE_MAC}
    lab.commit(
        network(BLUE, 100),
        uplink("u"),
        E.with_(mac=False).interface(),
        F.with_(mac=False).interface(),
        routes(
            "blue", BLUE, *host_routes(E, F), ["10.1.0.0/16", REMOTE], ["2001:db8:1::/48", REMOTE]
        ),
    )


@FAMILIES
def test_af_packet(veths: Lab, family: int) -> None:
    """Between veth devices, through the overlay, and back; MAC addresses are learned."""
    lab = veths
    connect_veths(lab)
    e, f, u = (lab.wires[name] for name in ("e", "f", "u"))
    assert lab.item(Port, name="e").driver == "net_af_packet"
    packet = frames.udp(E.address(family), F.address(family))
    e.send(frames.frame(E.hardware, packet))
    got = lab.receive(f, frames.has(UDP))
    assert (got.dst, got.src) == (F.hardware, frames.GATEWAY_MAC)
    assert frames.without_ttl(got.payload) == frames.without_ttl(packet)
    e.send(frames.frame(E.hardware, frames.udp(E.address(family), remote(family))))
    got = lab.receive(u, frames.has(UDP))
    assert (got.dst, got[IPv6].dst) == (REMOTE_MAC, REMOTE)
    inner = frames.udp(remote(family), E.address(family))
    u.send(frames.frame(REMOTE_MAC, IPv6(src=REMOTE, dst=E.underlay) / inner, got.src))
    assert bytes(lab.receive(e, frames.has(UDP)).payload) == bytes(inner)


@FAMILIES
def test_who_sends_more_than_the_mtu_is_told(veths: Lab, family: int) -> None:
    """An endpoint has the usual MTU, its Interface less: what is too large is heard."""
    lab = veths
    for name in ("e", "f", "u"):
        lab.commit(af_packet(name, f"{name}-engine", mtu=1400))
    connect_interfaces(lab)
    e, f = lab.wires["e"], lab.wires["f"]
    e.send(frames.frame(E.hardware, frames.udp(E.address(family), F.address(family))))
    lab.receive(f, frames.has(UDP))
    overhead = {4: 28, 6: 48}[family]
    for length in (1401, 1404, 1405, 1500):
        packet = frames.udp(E.address(family), F.address(family), bytes(length - overhead))
        e.send(frames.frame(E.hardware, frames.whole(packet)), drop="mtu")
        told = lab.receive(e, frames.has({4: ICMP, 6: ICMPv6PacketTooBig}[family]))
        if family == 4:
            assert (told[ICMP].type, told[ICMP].code, told[ICMP].nexthopmtu) == (3, 4, 1400)
        else:
            assert told[ICMPv6PacketTooBig].mtu == 1400
    lab.quiet(f, frames.has(UDP))


def test_the_engine_does_not_hear_itself(veths: Lab) -> None:
    """AF_PACKET sockets see what goes out as well: it must not come in again."""
    lab = veths
    connect_veths(lab)
    lab.wires["e"].send(frames.frame(E.hardware, frames.udp(E.address4, F.address4, sport=100)))
    lab.receive(lab.wires["f"], frames.has(UDP))
    for sport in range(100):
        lab.wires["e"].send(
            frames.frame(E.hardware, frames.udp(E.address4, F.address4, sport=sport))
        )
    lab.settle()
    assert sum(frames.is_udp(data) for data in lab.wires["f"].inbox) == 100


def test_a_kernel_device_that_goes_and_comes_back(veths: Lab, namespace: Namespace) -> None:
    """Only its Interface suffers, and it comes back by itself."""
    lab = veths
    connect_veths(lab)
    lab.commit(tap("a"))
    site_a = lab.connect("a", "a", A.hardware, ("interface", "t/a"))
    other = A.with_(address4="10.0.0.77", address6="2001:db8::77")
    lab.commit(other.interface(), routes("other", BLUE, *host_routes(other)))
    e = lab.wires["e"]

    def flow_goes_on() -> None:
        for sport in range(20):
            packet = frames.udp(E.address4, other.address4, sport=sport)
            e.send(frames.frame(E.hardware, packet))
            assert lab.receive(site_a, frames.has(UDP))[UDP].sport == sport

    flow_goes_on()
    lab.settle()
    lab.disconnect("f")
    lab.rebase()
    namespace.ip("link del f-engine")
    until(lambda: lab.item(Interface, name="t/f").state == "gone", "the Interface is gone")
    assert lab.item(Port, name="f").state == "gone"
    gone = lab.item(Port, name="f")
    assert gone.error
    assert (gone.reason, gone.losses) == ("DeviceGone", 1)
    assert lab.item(Interface, name="t/f").reason == "DeviceGone"
    assert lab.item(Interface, name="t/e").state == "up"
    flow_goes_on()
    e.send(frames.frame(E.hardware, frames.udp(E.address4, F.address4)), drop="unresolved")
    lab.settle()
    namespace.veth("f-engine", "f-test")
    until(lambda: lab.item(Interface, name="t/f").state == "up", "the Interface is back")
    flow_goes_on()
    lab.settle()
    wire = lab.connect("f", "f-test", F.hardware, ("interface", "t/f"))
    lab.rebase()
    wire.hosts = {F.address4: F.hardware, F.address6: F.hardware}
    announcement = ARP(op=2, hwsrc=F.hardware, psrc=F.address4, pdst=F.address4)
    wire.send(Ether(src=F.hardware, dst=frames.BROADCAST) / announcement, learned=True)
    until(lambda: lab.item(Interface, name="t/f").mac == F.hardware, "the endpoint is known again")
    e.send(frames.frame(E.hardware, frames.udp(E.address4, F.address4)))
    assert lab.receive(wire, frames.has(UDP)).dst == F.hardware


SMALL_MTU = 1300


@FAMILIES
@pytest.mark.parametrize("size", [0, SMALL_MTU])
def test_packets_for_an_interface_whose_device_never_was(
    lab: Lab, tmp_path: Path, family: int, size: int
) -> None:
    """They end there, and no other tenant hears of them: not the one who has port id 0 either."""
    site = Site(lab, A)
    memif = f"net_memif_d,socket={tmp_path / 'memif.sock'},socket-abstract=no,role=client"
    lab.commit(
        put("port", "d", devargs=memif, rxQueues=1, mtu=1500),
        D.with_(mtu=SMALL_MTU).interface(),
        routes("d", GREEN, *host_routes(D)),
    )
    assert lab.item(Interface, name=D.key).state == "gone"
    inner = frames.udp(remote(family), D.address(family), b"d" * size)
    outer = IPv6(src=REMOTE_GREEN, dst=D.underlay)
    site.up.send(Ether(src=REMOTE_MAC, dst=site.uplink_mac) / outer / inner, drop="unresolved")
    lab.quiet(site.up)
    lab.quiet(site.a)


@FAMILIES
def test_packets_for_an_interface_whose_port_id_another_has(
    veths: Lab, namespace: Namespace, family: int
) -> None:
    lab = veths
    connect_veths(lab)
    lab.commit(F.with_(mtu=SMALL_MTU).interface(), network(GREEN, VNI[GREEN]))
    u, mac = lab.wires["u"], lab.item(Port, name="u").mac
    lab.settle()
    lab.disconnect("f")
    lab.rebase()
    namespace.ip("link del f-engine")
    until(lambda: lab.item(Interface, name="t/f").state == "gone", "the Interface is gone")
    try:
        lab.commit(tap("c"))
        c = lab.connect("c", "c", C.hardware, ("interface", C.key))
        u.hosts[REMOTE_GREEN] = REMOTE_MAC
        green = [["10.1.0.0/16", REMOTE_GREEN], ["2001:db8:1::/48", REMOTE_GREEN]]
        lab.commit(C.interface(), routes("green", GREEN, *host_routes(C), *green))
        inner = frames.udp(remote(family), F.address(family), b"f" * SMALL_MTU)
        outer = IPv6(src=REMOTE, dst=F.underlay)
        u.send(Ether(src=REMOTE_MAC, dst=mac) / outer / inner, drop="unresolved")
        lab.quiet(u)
        lab.quiet(c)
    finally:
        namespace.veth("f-engine", "f-test")


def test_an_uplink_s_device_that_goes_and_comes_back(veths: Lab, namespace: Namespace) -> None:
    lab = veths
    connect_veths(lab)
    e, f = lab.wires["e"], lab.wires["f"]
    outbound = frames.frame(E.hardware, frames.udp(E.address4, remote(4)))
    e.send(outbound)
    lab.receive(lab.wires["u"], frames.has(UDP))
    lab.settle()
    mac = lab.item(Port, name="u").mac
    lab.disconnect("u")
    lab.rebase()
    namespace.ip("link del u-engine")
    until(lambda: lab.item(Uplink, name="u").state == "gone", "the uplink is gone")
    e.send(outbound, drop="no_route")
    e.send(frames.frame(E.hardware, frames.udp(E.address4, F.address4)))
    assert lab.receive(f, frames.has(UDP))
    lab.settle()
    namespace.veth("u-engine", "u-test")
    until(lambda: lab.item(Uplink, name="u").state == "up", "the uplink is back")
    wire = lab.connect("u", "u-test", REMOTE_MAC, ("uplink", "u"))
    wire.hosts = {REMOTE: REMOTE_MAC}
    lab.rebase()
    e.send(outbound)
    got = lab.receive(wire, frames.has(UDP))
    # Another device has another address.
    assert (got.dst, got.src) == (REMOTE_MAC, lab.item(Port, name="u").mac)
    assert got.src != mac


def test_a_port_whose_device_does_not_come_back_can_be_deleted(
    lab: Lab, namespace: Namespace
) -> None:
    namespace.veth("g-engine", "g-test")
    lab.commit(af_packet("g", "g-engine"))
    namespace.ip("link del g-engine")
    until(lambda: "no kernel device" in str(lab.item(Port, name="g").error), "looked for in vain")
    lab.commit(Delete("port", "g"))
    assert "g" not in {port.name for port in lab.engine.client.items(Port)}


# Ports that come and go.


def test_ports_come_and_go_beside_a_flow(lab: Lab) -> None:
    """Packets are under way on two ports while others are made and deleted: none is lost."""
    site = Site(lab, A, B)
    packet = bytes(frames.frame(A.hardware, frames.udp(A.address4, B.address4)))
    sent = 0
    for number in range(6):
        for _ in range(50):
            site.a.send(packet)
            sent += 1
        endpoint = C.with_(name="x", network="t/x", underlay=f"fd00:1:0:1::{100 + number}")
        lab.commit(tap("x"), network("t/x", 900), endpoint.interface())
        for _ in range(50):
            site.a.send(packet)
            sent += 1
        lab.commit(Delete("interface", "t/x"), Delete("network", "t/x"), Delete("port", "x"))
    lab.settle()
    assert sum(frames.is_udp(data) for data in site.b.inbox) == sent


@FAMILIES
def test_a_port_is_put_anew_under_its_interface(lab: Lab, family: int) -> None:
    """Another device in the port's place: the Interface is on it as before."""
    # Without a link-local gateway nothing is sent before the new wire is there to count it.
    site = Site(lab, A, B.with_(gateways=tuple(GATEWAYS)))
    lab.settle()
    lab.disconnect("b")
    lab.rebase()
    lab.commit(put("port", "b", devargs="net_tap_other,iface=b-other", rxQueues=1, mtu=1500))
    packet = frames.udp(A.address(family), B.address(family))
    wire = lab.connect("b", "b-other", B.hardware, ("interface", "t/b"))
    lab.rebase()
    site.a.send(frames.frame(A.hardware, packet))
    assert lab.receive(wire, frames.has(UDP)).dst == B.hardware


def test_mtu_of_a_running_port(site: Site) -> None:
    lab = site.lab
    lab.commit(tap("b", mtu=1300))
    assert lab.item(Port, name="b").mtu == 1300
    lab.commit(tap("b", mtu=1500))
    site.a.send(frames.frame(A.hardware, frames.udp(A.address4, B.address4, b"m" * 1400)))
    assert len(lab.receive(site.b, frames.has(UDP))) == 14 + 28 + 1400


def test_groups_follow_addresses(lab: Lab) -> None:
    """A port has to hear who asks for an address that it answers for, and nobody else."""

    def solicited(address: str) -> str:
        return "33:33:ff:" + IPv6Address(address).packed[-3:].hex(":")

    def has(name: str, *groups: str) -> None:
        wanted = {"33:33:00:00:00:01", *groups}
        until(lambda: set(lab.item(Port, name=name).groups) == wanted, f"groups of {name}")

    Site(lab, A)
    gateways = [solicited(gateway) for gateway in A.gateways if ":" in gateway]
    has("a", "33:33:00:00:00:02", *gateways)
    mac = lab.item(Port, name="up").mac.split(":")
    link_local = f"33:33:ff:{':'.join(mac[3:])}"
    own = [solicited(address) for address in lab.item(Uplink, name="up").addresses]
    has("up", link_local, *own, solicited(A.underlay))
    moved = A.with_(underlay="fd00:1:0:1::abcd", extra={"formerUnderlayAddresses": [A.underlay]})
    lab.commit(moved.interface())
    has("up", link_local, *own, solicited(A.underlay), "33:33:ff:00:ab:cd")
    lab.commit(A.with_(underlay="fd00:1:0:1::abcd").interface())
    has("up", link_local, *own, "33:33:ff:00:ab:cd")
    lab.disconnect("a")
    lab.rebase()
    lab.commit(routes("to-a", BLUE), Delete("interface", "t/a"))
    has("up", link_local, *own)
    assert lab.item(Port, name="a").groups == ()


def test_an_mtu_that_a_device_does_not_have(lab: Lab) -> None:
    """The port has what there is, and says so; what is too large for it is answered."""
    site = Site(lab, A, B.with_(extra={"mtu": 9000}))
    lab.commit(tap("b", mtu=9000), B.with_(extra={"mtu": 9000}).interface())
    item = lab.item(Port, name="b")
    assert 1500 < item.mtu < 9000
    assert item.state == "up"
    assert f"{item.mtu} of the 9000 wanted" in item.refused["mtu"]
    interface = lab.item(Interface, name="t/b")
    assert (interface.refused, interface.mtu) == (item.refused, item.mtu)
    assert lab.item(Interface, name="t/a").refused == {}
    assert (item.reason, item.error, item.losses) == (None, None, 0)
    assert item.multicast == "promiscuous"
    lab.commit(tap("b"), B.interface())
    assert lab.item(Port, name="b").refused == {}
    site.a.send(frames.frame(A.hardware, frames.udp(A.address4, B.address4)))
    assert lab.receive(site.b, frames.has(UDP))


def test_a_device_is_had_once(lab: Lab) -> None:
    lab.commit(tap("a"))
    with pytest.raises(RefusedError) as refused:
        lab.commit(put("port", "again", devargs="net_tap_a,iface=a", rxQueues=1, mtu=1500))
    assert [(r.kind, r.key, r.reason) for r in refused.value.refusals] == [
        ("port", "again", "PortFailed")
    ]


def test_null(lab: Lab) -> None:
    """A port into nothing: what goes there is sent, nothing comes."""
    null = put("port", "n", devargs="net_null_n,no-rx=1", rxQueues=1, mtu=1500)
    site = Site(lab, A)
    lab.commit(null, B.with_(extra={"port": "n"}).interface(),
               routes("to-null", BLUE, *host_routes(B)))  # fmt: skip
    before = lab.engine.telemetry.object("/headrace/interface", "t/b")["tx_packets"]
    assert isinstance(before, int)
    site.a.send(frames.frame(A.hardware, frames.udp(A.address4, B.address4)))
    lab.taken(site.a)

    def sent() -> bool:
        now = lab.engine.telemetry.object("/headrace/interface", "t/b")["tx_packets"]
        return isinstance(now, int) and now > before

    until(sent, "the packet is sent")
    lab.disconnect("a")


# Files.


def test_pcap(lab: Lab, tmp_path: Path) -> None:
    """Frames of a file are routed, frames for the port are written to one."""
    received, transmitted = tmp_path / "in.pcap", tmp_path / "out.pcap"
    wanted = [frames.udp(B.address4, A.address4, sport=n) for n in range(1, 51)]
    with PcapWriter(str(received), linktype=1, sync=True) as writer:
        for packet in wanted:
            writer.write(frames.frame(B.hardware, packet))
    site = Site(lab, A)
    lab.commit(routes("b", BLUE, *host_routes(B)))
    lab.commit(
        put("port", "p", devargs=f"net_pcap_p,rx_pcap={received},tx_pcap={transmitted}",
            rxQueues=1, mtu=1500),
        B.with_(extra={"port": "p"}).interface(),
    )  # fmt: skip
    for packet in wanted:
        got = lab.receive(site.a, frames.has(UDP))
        assert frames.without_ttl(got[IP]) == frames.without_ttl(packet)
    for sport in range(1, 21):
        site.a.send(frames.frame(A.hardware, frames.udp(A.address4, B.address4, sport=sport)))
    lab.taken(site.a)

    def all_sent() -> bool:
        # Its router advertisement is the twenty-first.
        reply = lab.engine.telemetry.object("/headrace/interface", "t/b")
        return reply["tx_packets"] == 21

    until(all_sent, "all is written")
    lab.disconnect("a")
    lab.disconnect("up")
    lab.clear()  # The file is complete when the port is closed.
    with PcapReader(str(transmitted)) as reader:
        written = list(reader)
    assert sum(ICMPv6ND_RA in frame for frame in written) == 1
    sports = [frame[UDP].sport for frame in written if UDP in frame]
    assert sports == list(range(1, 21))
    assert {frame.dst for frame in written if UDP in frame} == {B.hardware}


def test_pcap_files_are_plain_files_on_a_plain_path(lab: Lab, tmp_path: Path) -> None:
    """Who may write in a directory does not have the engine write, read or wait elsewhere."""
    folder, elsewhere = tmp_path / "captures", tmp_path / "precious"
    folder.mkdir()
    elsewhere.write_text("precious")
    (folder / "file").symlink_to(elsewhere)
    (folder / "folder").symlink_to(tmp_path)
    os.mkfifo(folder / "fifo")
    for number, (name, argument) in enumerate(
        (name, argument)
        for name in ("file", "folder/precious", "folder/new", "fifo")
        for argument in ("rx_pcap", "tx_pcap")
    ):
        devargs = f"net_pcap_plain{number},{argument}={folder / name}"
        with pytest.raises(RefusedError, match="or a symbolic link"):
            lab.commit(put("port", "plain", devargs=devargs, rxQueues=1, mtu=1500))
    assert elsewhere.read_text() == "precious"
    assert not (tmp_path / "new").exists()
    (folder / "deep").mkdir()
    made = folder / "deep" / "new"
    devargs = f"net_pcap_plain,tx_pcap={made}"
    lab.commit(put("port", "plain", devargs=devargs, rxQueues=1, mtu=1500))
    assert made.exists()
    lab.clear()


# Memif.


@FAMILIES
@pytest.mark.parametrize(("server", "client"), [("", ""), (",bsize=1000", ",bsize=32")])
def test_memif_between_two_engines(
    lab: Lab,
    binary: Path,
    namespace: Namespace,
    tmp_path: Path,
    family: int,
    server: str,
    client: str,
) -> None:
    """One engine's endpoint is the other engine: blue on the one is the wire to green there.

    With buffers of 32 bytes between them every frame is in pieces, its headers too: DPDK 22.11
    puts them together, later ones hand on a chain.
    """
    path = tmp_path / "memif.sock"
    second = Engine(binary, tmp_path, namespace)
    try:
        there = Lab(second, namespace)
        memif = f"net_memif_m,socket={path},socket-abstract=no,id=0"
        site = Site(lab, A)
        lab.commit(
            put("port", "m", devargs=f"{memif},role=server{server}", rxQueues=1, mtu=1500),
            B.with_(extra={"port": "m"}, hardware=frames.GATEWAY_MAC).interface(),
            routes("b", BLUE, *host_routes(B)),
        )
        there.commit(
            settings(),
            put("port", "m", devargs=f"{memif},role=client{client}", rxQueues=1, mtu=1500),
            tap("far"),
            network(GREEN, 7),
        )
        far = there.connect("far", "far", D.hardware, ("interface", "t/far"))
        there.commit(
            D.with_(name="far", source_check=False).interface(),
            C.with_(name="m", hardware=frames.GATEWAY_MAC, underlay="fd00:1:0:1::7",
                    source_check=False).interface(),
            routes("hosts", GREEN, *host_routes(D)),
        )  # fmt: skip
        until(lambda: there.item(Port, name="m").state == "up", "the client is connected")
        until(lambda: lab.item(Port, name="m").state == "up", "the server is connected")
        for sport in range(1, 101):
            packet = frames.udp(A.address(family), B.address(family), sport=sport)
            site.a.send(frames.frame(A.hardware, packet))
        for sport in range(1, 101):
            got = there.receive(far, frames.has(UDP))
            assert got[UDP].sport == sport
            assert (got.payload.ttl if family == 4 else got.payload.hlim) == 62
        there.disconnect("far")
        lab.disconnect("a")
    finally:
        second.stop()


def test_memif_what_an_engine_left_behind(lab: Lab, tmp_path: Path) -> None:
    """A socket at which nobody listens is replaced, another program's is not; ports may share."""
    path = tmp_path / "memif.sock"

    def port(number: int) -> Put:
        devargs = f"net_memif_m{number},socket={path},socket-abstract=no,id={number},role=server"
        return put("port", f"m{number}", devargs=devargs, rxQueues=1, mtu=1500)

    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(path))
        listener.listen()
        with pytest.raises(RefusedError, match="is another program's socket"):
            lab.commit(port(1))
    assert path.is_socket()
    lab.commit(port(1), port(2))
    assert [lab.item(Port, name=name).state for name in ("m1", "m2")] == ["down", "down"]
    lab.commit(Delete("port", "m1"), Delete("port", "m2"))
    assert not path.exists()
