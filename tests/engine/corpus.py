# SPDX-License-Identifier: Apache-2.0
"""Seeds of the engine's frame fuzzers, from what the kernel's stacks send: needs root.

    python -m tests.engine.corpus

One frame of each kind, from an endpoint's namespace to its gateway's and back, is a file of
`dataplane/engine/tests/corpus/interface_fuzz` as the endpoint sent it, and of `uplink_fuzz`
encapsulated, as another node would send it. What this machine's kernel does not speak (DHCP, VLAN
tags, tunnels, errors of the fabric) is written here.
"""

import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.inet import IP, UDP, IPOption_RR, fragment
from scapy.layers.inet6 import (
    ICMPv6PacketTooBig,
    ICMPv6TimeExceeded,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrRouting,
)
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Packet, Raw

from tests.engine import frames
from tests.engine.process import Namespace
from tests.engine.site import GREEN, REMOTE, REMOTE_MAC, UPLINK_ADDRESS, A, B, remote, underlay

CORPUS = Path(__file__).parents[2] / "dataplane/engine/tests/corpus"
UPLINK_MAC = "02:68:72:00:00:02"
ETH_P_ALL = 3
PIECES, BURST, LATER = 1 << 2, 1 << 5, 1 << 7
"""Of `enum how` in dataplane/engine/frames_fuzz.h."""


def record(frame: bytes, how: int = 0) -> bytes:
    """Return a frame as the fuzzers read it."""
    return bytes([how]) + len(frame).to_bytes(2, "little") + frame


def kind(frame: bytes) -> str:
    """Name what a frame is: of each name one is kept."""
    packet = Ether(frame)
    layers = [layer.__name__ for layer in packet.layers()[1:] if layer is not Raw]
    for name in ("type", "flags", "frag", "nh", "op"):
        value = packet.lastlayer().fields.get(name)
        if isinstance(value, int) and not isinstance(packet.lastlayer(), Raw):
            layers.append(str(value))
    if IP in packet and (packet[IP].frag or packet[IP].flags == "MF"):
        layers.append(f"at-{packet[IP].frag}")
    return "-".join(layers)[:100].replace("/", "_").replace(" ", "").lower()


def captured() -> Iterator[bytes]:
    """Have two kernels talk, and yield the frames of both."""
    tenant, gateway = Namespace(), Namespace()
    try:
        tenant.ip(f"link add eth0 type veth peer name gw netns {gateway.name}")
        for namespace, device, mac in (
            (tenant, "eth0", A.hardware),
            (gateway, "gw", frames.GATEWAY_MAC),
        ):
            namespace.run("sysctl", "-qw", f"net.ipv6.conf.{device}.disable_ipv6=0")
            namespace.run("sysctl", "-qw", f"net.ipv6.conf.{device}.accept_dad=0")
            namespace.run("sysctl", "-qw", "net.ipv6.conf.lo.disable_ipv6=0")
            namespace.run("ethtool", "-K", device, "tx", "off", "gso", "off", "gro", "off")
            namespace.ip(f"link set {device} address {mac}")
            namespace.ip("link set lo up")
        for address in ("10.0.0.1/24", "2001:db8::1/64", "fe80::1/64"):
            gateway.ip(f"address add {address} dev gw nodad")
        for address in (f"{remote(4)}/32", f"{remote(6)}/128"):
            gateway.ip(f"address add {address} dev lo nodad")
        tenant.ip(f"address add {A.address4}/24 dev eth0")
        tenant.ip(f"address add {A.address6}/64 dev eth0 nodad")
        gateway.ip("link set gw up mtu 1460")
        with gateway.entered():
            wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        wire.bind(("gw", ETH_P_ALL))
        wire.setblocking(False)
        tenant.ip("link set eth0 up mtu 1460")
        tenant.ip(f"route add {remote(4)}/32 via 10.0.0.1")
        tenant.ip(f"route add {remote(6)}/128 via fe80::1 dev eth0")
        for family in (4, 6):
            own = A.address(family)
            for to in (("10.0.0.1", "fe80::1%eth0")[family == 6], remote(family)):
                ping(tenant, to)
                ping(tenant, to, "-s", "3000")
            ping(tenant, remote(family), "-t", "1")
            connect(tenant, gateway, remote(family))
            for namespace, to in ((tenant, remote(family)), (gateway, own)):
                send(namespace, to)
        ping(tenant, remote(4), "-R")
        while True:
            try:
                yield wire.recv(65536)
            except BlockingIOError:
                return
    finally:
        tenant.remove()
        gateway.remove()


def ping(namespace: Namespace, to: str, *options: str) -> None:
    command = ["ip", "netns", "exec", namespace.name, "ping", "-q", "-c", "1", "-W", "1"]
    subprocess.run([*command, *options, to], check=False, capture_output=True)


def send(namespace: Namespace, to: str) -> None:
    """Send a UDP packet to a port where nobody listens."""
    family = socket.AF_INET6 if ":" in to else socket.AF_INET
    with namespace.entered(), socket.socket(family, socket.SOCK_DGRAM) as udp:
        udp.sendto(b"nobody listens here", (to, 9))


def connect(tenant: Namespace, gateway: Namespace, to: str) -> None:
    """Have a TCP connection made, used and ended."""
    family = socket.AF_INET6 if ":" in to else socket.AF_INET
    with gateway.entered():
        listening = socket.create_server((to, 80), family=family)
    with tenant.entered():
        client = socket.create_connection((to, 80))
    server, _ = listening.accept()
    client.sendall(b"GET / HTTP/1.1\r\n\r\n")
    server.sendall(server.recv(100) * 50)
    received = 0
    while received < 900:
        received += len(client.recv(1000))
    for each in (client, server, listening):
        each.close()


def of_interface() -> Iterator[tuple[str, Packet]]:
    """What the kernel did not send."""
    discover = BOOTP(chaddr=bytes.fromhex(A.hardware.replace(":", ""))) / DHCP(
        options=[("message-type", "discover"), "end"]
    )
    yield (
        "dhcp-discover",
        Ether(src=A.hardware, dst=frames.BROADCAST)
        / IP(src=frames.ANY4, dst="255.255.255.255")
        / UDP(sport=68, dport=67)
        / discover,
    )
    udp4 = frames.udp(A.address4, remote(4))
    yield "vlan", Ether(src=A.hardware, dst=frames.GATEWAY_MAC) / Dot1Q(vlan=5) / udp4
    yield "vlan-0", Ether(src=A.hardware, dst=frames.GATEWAY_MAC) / Dot1Q(vlan=0) / udp4
    payload = UDP(sport=1, dport=2) / Raw(b"x" * 40)
    base = IPv6(src=A.address6, dst=remote(6))
    for name, packet in (
        ("record-route", IP(src=A.address4, dst=B.address4, options=[IPOption_RR()]) / payload),
        ("ttl-1", frames.udp(A.address4, remote(4), ttl=1)),
        ("hop-limit-1", frames.udp(A.address6, remote(6), ttl=1)),
        ("no-route", frames.udp(A.address4, "198.51.100.1")),
        ("no-route-6", frames.udp(A.address6, "2001:db8:ffff::1")),
        ("unresolved", frames.udp(A.address4, "10.2.0.1")),
        ("unresolved-6", frames.udp(A.address6, "2001:db8:2::1")),
        ("shared", frames.udp(A.address4, "10.3.0.1")),
        ("blackhole", frames.udp(A.address4, "10.4.0.1")),
        ("into-green", frames.udp(A.address4, "10.5.0.1")),
        ("to-b", frames.udp(A.address4, B.address4)),
        ("to-b-too-big", frames.udp(A.address4, B.address4, b"x" * 1400)),
        ("to-b-too-big-6", frames.udp(A.address6, B.address6, b"x" * 1400)),
        ("martian", frames.udp(A.address4, "127.0.0.1")),
        ("spoofed", frames.udp("10.9.9.9", remote(4))),
        ("destination-options", base / IPv6ExtHdrDestOpt() / payload),
        ("routing-header", base / IPv6ExtHdrRouting(addresses=[B.address6]) / payload),
        ("fragment-6", base / IPv6ExtHdrFragment(offset=3, m=1, nh=17) / Raw(b"y" * 40)),
        ("atomic-fragment", base / IPv6ExtHdrFragment(nh=17) / payload),
        ("ip-in-ipv6", IPv6(src=A.address6, dst=B.underlay) / udp4),
    ):
        yield name, frames.frame(A.hardware, packet)
    yield "solicitation", frames.solicitation(A.hardware, A.address6, "fe80::1")
    yield "advertisement", frames.unsolicited(A.hardware, A.address6)
    yield "learned", frames.arp_request(B.hardware, B.address4, "10.0.0.1")


def of_uplink() -> Iterator[tuple[str, Packet]]:
    to = Ether(src=REMOTE_MAC, dst=UPLINK_MAC)
    outer = IPv6(src=REMOTE, dst=A.underlay)
    inner = frames.udp(remote(4), A.address4, b"z" * 40)
    yield "echo", to / frames.echo(REMOTE, UPLINK_ADDRESS)
    yield "solicitation", frames.solicitation(REMOTE_MAC, REMOTE, UPLINK_ADDRESS)
    yield "advertisement", frames.unsolicited(REMOTE_MAC, "fd00:1:0:3:0:6400:0:1")
    yield "encapsulation-limit", to / outer / IPv6ExtHdrDestOpt() / inner
    yield "outer-fragment", to / outer / IPv6ExtHdrFragment(nh=4, m=1) / inner
    yield "ecn", to / IPv6(src=REMOTE, dst=A.underlay, tc=3) / inner
    yield "other-tenant", to / IPv6(src=REMOTE, dst=underlay(1, GREEN, 0xC)) / inner
    yield "nobody", to / IPv6(src=REMOTE, dst="fd00:1:0:1:0:6400:0:99") / inner
    yield "to-learned", to / IPv6(src=REMOTE, dst=B.underlay) / frames.udp(remote(4), B.address4)
    yield (
        "to-learned-too-big",
        to / IPv6(src=REMOTE, dst=B.underlay) / frames.udp(remote(4), B.address4, b"x" * 1300),
    )
    yield (
        "to-learned-too-big-6",
        to / IPv6(src=REMOTE, dst=B.underlay) / frames.udp(remote(6), B.address6, b"x" * 1300),
    )
    quoted = IPv6(src=A.underlay, dst=REMOTE) / frames.udp(A.address4, remote(4), b"q" * 60)
    for name, error in (
        ("packet-too-big", ICMPv6PacketTooBig(mtu=1400)),
        ("time-exceeded", ICMPv6TimeExceeded()),
    ):
        yield name, to / IPv6(src="fd00:1:0:ffff::1", dst=A.underlay) / error / quoted
    yield "vlan", to / Dot1Q(vlan=5) / outer / inner
    for n, part in enumerate(fragment(frames.udp(remote(4), A.address4, b"f" * 2000), 800)):
        yield f"inner-fragment-{n}", to / outer / part


def is_ip(frame: bytes) -> bool:
    return frame[12:14] in {b"\x08\x00", b"\x86\xdd"}


def encapsulated(frame: bytes) -> bytes:
    """Return a frame's packet as node 2 sends it to A."""
    header = 4 if frame[12:14] == b"\x08\x00" else 41
    outer = IPv6(src=REMOTE, dst=A.underlay, nh=header)
    return bytes(Ether(src=REMOTE_MAC, dst=UPLINK_MAC) / outer / Raw(frame[14:]))


def write(fuzzer: str, seeds: dict[str, bytes]) -> None:
    folder = CORPUS / fuzzer
    folder.mkdir(parents=True, exist_ok=True)
    for name, seed in seeds.items():
        (folder / name).write_bytes(seed)
    short = [seed[1:] for seed in seeds.values() if len(seed) < 200]
    several = {
        "burst": [bytes([BURST]) + each for each in short],
        "pieces": [bytes([PIECES * (1 + n % 7)]) + each for n, each in enumerate(short)],
        "later": [bytes([LATER]) + each for each in short[:8]],
    }
    for name, records in several.items():
        (folder / name).write_bytes(b"".join(records))


def main() -> None:
    sent: dict[str, bytes] = {}
    received: dict[str, bytes] = {}
    for frame in captured():
        of_tenant = frame[6:12] == bytes.fromhex(A.hardware.replace(":", ""))
        (sent if of_tenant else received).setdefault(kind(frame), frame)
    interface = {name: record(frame) for name, frame in sent.items()}
    interface |= {name: record(bytes(packet)) for name, packet in of_interface()}
    uplink = {name: record(encapsulated(frame)) for name, frame in received.items() if is_ip(frame)}
    uplink |= {name: record(bytes(packet)) for name, packet in of_uplink()}
    write("interface_fuzz", interface)
    write("uplink_fuzz", uplink)


if __name__ == "__main__":
    main()
