# SPDX-License-Identifier: Apache-2.0
"""Captures for net_pcap: one packet per flow, shuffled, in pcap's own format (libpcap 2.4)."""

import random
import struct
from ipaddress import IPv6Address
from pathlib import Path

from bench.cases import FLOWS, Case, unroutable

SOURCE_MAC = bytes.fromhex("020000000002")
SOURCE4 = bytes([10, 0, 0, 2])
SOURCE6 = IPv6Address("fd00:10::2").packed
UNDERLAY_HERE = IPv6Address("fd00:1:0:1:0:100:0:3")
"""Underlay address of the Interface that decapsulated packets are for."""
UNDERLAY_THERE = IPv6Address("fd00:1:0:2:0:100:0:2")
UDP_PAYLOAD = 18


def checksum(header: bytes) -> int:
    """RFC 1071, over an even number of bytes."""
    total = sum(struct.unpack(f"!{len(header) // 2}H", header))
    total = (total & 0xFFFF) + (total >> 16)
    return ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF


def inner(case: Case, rng: random.Random) -> bytes:
    """Return one flow's IP packet: UDP, random destination and ports."""
    udp = struct.pack(
        "!HHHH",
        rng.randrange(1024, 65536),
        rng.randrange(1024, 65536),
        8 + UDP_PAYLOAD if case.family == 4 else 8,
        0,
    )
    network = case.destinations
    host = network.max_prefixlen - network.prefixlen
    address = int(network.network_address) + rng.getrandbits(host)
    if case.family == 6:
        return (
            struct.pack("!IHBB", 6 << 28, 8, 17, 64) + SOURCE6 + address.to_bytes(16, "big") + udp
        )
    while unroutable(address):
        address = rng.getrandbits(32)
    head = struct.pack("!BBHHHBBH", 0x45, 0, 28 + UDP_PAYLOAD, 0, 0, 64, 17, 0)
    head += SOURCE4 + address.to_bytes(4, "big")
    head = head[:10] + checksum(head).to_bytes(2, "big") + head[12:]
    return head + udp + bytes(UDP_PAYLOAD)


def outer(case: Case, packet: bytes, rng: random.Random) -> bytes:
    """Return the packet encapsulated, with a flow label of its own."""
    head = struct.pack(
        "!IHBB", 6 << 28 | rng.getrandbits(20), len(packet), 4 if case.family == 4 else 41, 64
    )
    return head + UNDERLAY_THERE.packed + UNDERLAY_HERE.packed + packet


def write(case: Case, mac: bytes, folder: Path) -> Path:
    """Write the capture of a case for a receiver of this MAC address; reuse one that exists."""
    area = "any" if case.routes == "1M" else "near"
    kind = "decap" if case.job == "decap" else "plain"
    path = folder / f"{kind}{case.family}-{case.flows}-{area}-{mac.hex()}.pcap"
    if path.exists():
        return path
    rng = random.Random(case.flows)
    ether = mac + SOURCE_MAC
    ether += b"\x08\x00" if case.family == 4 and kind == "plain" else b"\x86\xdd"
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
        for _ in range(FLOWS[case.flows]):
            packet = inner(case, rng)
            if kind == "decap":
                packet = outer(case, packet, rng)
            file.write(struct.pack("<IIII", 0, 0, 14 + len(packet), 14 + len(packet)))
            file.write(ether + packet)
    part.rename(path)
    return path
