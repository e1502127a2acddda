# SPDX-License-Identifier: Apache-2.0
"""The host's stack is kept out of the endpoints' devices, and of what is an uplink's own."""

import ctypes
import ipaddress
import os
import socket
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace_dataplane.isolation import isolate, keep_apart
from headrace_dataplane.netdev import links

CLONE_NEWNET = 0x40000000
# linux/if_packet.h
SOL_PACKET, PACKET_QDISC_BYPASS, PACKET_OUTGOING = 263, 20, 4
ETH_P_ALL = 3
NO_NEXT_HEADER = 59
HARDWARE = bytes.fromhex("020000000001")


@pytest.fixture
def machine() -> Iterator[None]:
    """A host of its own with two devices: vmh, whose other end vmt is a tenant's, and uph, upt."""
    if os.geteuid() != 0:
        pytest.skip("needs root: network namespaces")
    libc = ctypes.CDLL(None)
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    assert libc.unshare(CLONE_NEWNET) == 0
    try:
        for words in (
            "link set lo up",
            "link add vmh type veth peer name vmt",
            "link add uph type veth peer name upt",
            "addr add 192.0.2.1/24 dev vmh",
            "addr add 198.51.100.1/24 dev uph",
            "addr add 2001:db8::1/64 dev vmh nodad",
            *(f"link set {device} up" for device in ("vmh", "vmt", "uph", "upt")),
        ):
            subprocess.run(["ip", *words.split()], check=True)
        yield
    finally:
        assert libc.setns(home, CLONE_NEWNET) == 0
        os.close(home)


def broadcast(mark: bytes) -> bytes:
    """A tenant's frame to UDP port 4789 of everybody, from 0.0.0.0."""
    datagram = struct.pack("!HHHH", 68, 4789, 8 + len(mark), 0) + mark
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(datagram), 0, 0, 64, 17, 0)
    header += bytes(4) + b"\xff" * 4
    total = sum(struct.unpack("!10H", header))
    total = (total & 0xFFFF) + (total >> 16)
    checksum = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
    header = header[:10] + struct.pack("!H", checksum) + header[12:]
    return b"\xff" * 6 + b"\x02" + bytes(5) + b"\x08\x00" + header + datagram


def send(device: str, mark: bytes, *, bypass: bool = False) -> None:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as tenant:
        tenant.setsockopt(SOL_PACKET, PACKET_QDISC_BYPASS, bypass)
        tenant.bind((device, 0))
        tenant.send(broadcast(mark))


def hear(dataplane: socket.socket, mark: bytes) -> None:
    """Wait for a frame; others are what the kernel itself says."""
    while not dataplane.recv(100).endswith(mark):
        pass


@pytest.mark.root
def test_a_tenants_broadcast_reaches_the_dataplane_and_no_service_of_the_node(
    machine: None,
) -> None:
    """Uplinks are none of this: what comes in there still reaches the node."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as service,
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as dataplane,
    ):
        service.bind(("", 4789))
        service.settimeout(30)
        dataplane.bind(("vmh", 3))
        dataplane.settimeout(30)
        send("vmt", b"before")
        assert service.recv(100) == b"before"
        hear(dataplane, b"before")
        for _ in range(2):
            isolate(["vmh", "not-there"])
        send("vmt", b"attack")
        hear(dataplane, b"attack")
        # In order behind it: had the attack passed, it would be first.
        send("upt", b"uplink")
        assert service.recv(100) == b"uplink"


def to_underlay(destination: str) -> bytes:
    """A packet without a payload, from beyond the uplink to the MAC address of uph."""
    header = struct.pack("!IHBB", 6 << 28, 0, NO_NEXT_HEADER, 64)
    header += ipaddress.ip_address("fd00:1:0:9::1").packed
    header += ipaddress.ip_address(destination).packed
    return HARDWARE + b"\x02" + bytes(5) + b"\x86\xdd" + header


@pytest.mark.root
def test_a_host_that_forwards_does_not_forward_what_is_its_uplinks(machine: None) -> None:
    for words in (
        f"link set uph address {HARDWARE.hex(':')}",
        "-6 route add fd00:1::/48 via 2001:db8::2 dev vmh",
        "neigh add 2001:db8::2 lladdr 02:00:00:00:00:09 dev vmh",
    ):
        subprocess.run(["ip", *words.split()], check=True)
    Path("/proc/sys/net/ipv6/conf/all/forwarding").write_text("1")
    own, others = "fd00:1:0:7::a", "fd00:1:0:8::a"
    with (
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL)) as beyond,
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as fabric,
    ):
        beyond.bind(("vmt", ETH_P_ALL))
        beyond.settimeout(30)
        fabric.bind(("upt", 0))

        def forwarded(until: str) -> list[str]:
            """Destinations of what leaves, as far as the last that is sent."""
            found: list[str] = []
            while until not in found:
                frame = beyond.recv(2048)
                if frame[12:14] == b"\x86\xdd" and frame[20] == NO_NEXT_HEADER:
                    found.append(str(ipaddress.IPv6Address(frame[38:54])))
            return found

        for destination in (own, others):
            fabric.send(to_underlay(destination))
        assert forwarded(others) == [own, others]
        for _ in range(2):
            keep_apart({"uph": "fd00:1:0:7::/64", "not-there": "fd00:1:0:7::/64"})
        for destination in (own, others):
            fabric.send(to_underlay(destination))
        assert forwarded(others) == [others]


def speak(mark: bytes) -> None:
    """Have the node's own stack send on vmh: both families, and a question for a neighbour."""
    for family, to in (
        (socket.AF_INET, ("192.0.2.255", 9)),
        (socket.AF_INET, ("192.0.2.2", 9)),
        (socket.AF_INET6, ("ff02::1", 9, 0, socket.if_nametoindex("vmh"))),
    ):
        with socket.socket(family, socket.SOCK_DGRAM) as node:
            node.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            node.sendto(mark, to)


def heard(tenant: socket.socket, mark: bytes) -> list[bytes]:
    """What arrives until a frame that ends with the mark, and that frame."""
    found: list[bytes] = []
    while not (found and found[-1].endswith(mark)):
        frame, (_, _, kind, *_) = tenant.recvfrom(2048)
        if kind != PACKET_OUTGOING:
            found.append(frame)
    return found


@pytest.mark.root
def test_a_tenant_hears_the_dataplane_and_nothing_of_the_node(machine: None) -> None:
    """It is the engine's way of sending that passes (PACKET_QDISC_BYPASS)."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL)) as tenant:
        tenant.bind(("vmt", ETH_P_ALL))
        tenant.settimeout(30)
        speak(b"before")
        send("vmh", b"done", bypass=True)
        kinds = {frame[12:14] for frame in heard(tenant, b"done")}
        assert {b"\x08\x00", b"\x08\x06", b"\x86\xdd"} <= kinds
        isolate(["vmh"])
        # What was on its way when the filter came.
        send("vmh", b"isolated", bypass=True)
        heard(tenant, b"isolated")
        subprocess.run(["ip", "addr", "add", "2001:db8::9/64", "dev", "vmh"], check=True)
        speak(b"after")
        with pytest.raises(OSError):
            send("vmh", b"after")
        send("vmh", b"dataplane", bypass=True)
        (frame,) = heard(tenant, b"dataplane")
        assert frame == broadcast(b"dataplane")


@pytest.mark.root
def test_a_device_made_anew_has_another_index(machine: None) -> None:
    before = {name: index for name, index in links().items() if name in ("vmh", "not-there")}
    assert before.keys() == {"vmh"}
    for words in ("del vmh", "add vmh type veth peer name vmt"):
        subprocess.run(["ip", "link", *words.split()], check=True)
    assert links()["vmh"] != before["vmh"]
