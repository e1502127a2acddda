# SPDX-License-Identifier: Apache-2.0
"""Thousands of broken frames, from a seed: the engine lives, and none is unaccounted for."""

import random
from collections import Counter

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

from tests.engine import frames
from tests.engine.lab import IN_FLIGHT
from tests.engine.process import until
from tests.engine.site import REMOTE, REMOTE_GREEN, REMOTE_MAC, A, B, Site, checking, remote

FRAMES = 4000


def seeds_of_interface() -> list[bytes]:
    packets = [
        frames.udp(A.address4, B.address4, b"x" * 40),
        frames.udp(A.address6, B.address6, b"x" * 40),
        frames.tcp(A.address4, remote(4)),
        frames.udp(A.address6, remote(6)),
        frames.echo(A.address4, "10.0.0.1"),
        frames.echo(A.address6, "fe80::1"),
        frames.udp(A.address4, "198.51.100.1", ttl=1),
        IP(src=A.address4, dst=B.address4, options=b"\x01" * 8) / UDP(),
        IP(src=A.address4, dst="198.51.100.1") / ICMP(type=3) / frames.udp("1.1.1.1", "2.2.2.2"),
    ]
    return [
        *(bytes(frames.frame(A.hardware, packet)) for packet in packets),
        bytes(frames.arp_request(A.hardware, A.address4, "10.0.0.1")),
        bytes(frames.solicitation(A.hardware, A.address6, "fe80::1")),
        bytes(frames.unsolicited(A.hardware, A.address6)),
    ]


def seeds_of_uplink(mac: str) -> list[bytes]:
    inner = [
        frames.udp(remote(4), A.address4, b"y" * 40),
        frames.udp(remote(6), A.address6, b"y" * 40),
        frames.echo(remote(4), B.address4),
    ]
    to_uplink = Ether(src=REMOTE_MAC, dst=mac)
    return [
        *(bytes(to_uplink / IPv6(src=REMOTE, dst=A.underlay) / packet) for packet in inner),
        bytes(to_uplink / IPv6(src=REMOTE_GREEN, dst=A.underlay) / inner[0]),
        bytes(to_uplink / frames.echo(REMOTE, "fd00:1:0:1::1")),
        bytes(frames.solicitation(REMOTE_MAC, REMOTE, A.underlay)),
        bytes(frames.unsolicited(REMOTE_MAC, REMOTE)),
    ]


def mutate(random_: random.Random, seed: bytes) -> bytes:
    """Change, cut, lengthen or leave alone; a third keep their Ethernet header."""
    data = bytearray(seed)
    first = 14 if random_.random() < 0.9 else 0
    for _ in range(random_.choice((0, 1, 1, 2, 3, 8))):
        at = random_.randrange(first, len(data))
        data[at] = random_.choice(
            (0, 0xFF, random_.randrange(256), data[at] ^ 1 << random_.randrange(8))
        )
    change = random_.random()
    if change < 0.2:
        del data[random_.randrange(14, len(data)) :]
    elif change < 0.3:
        data += random_.randbytes(random_.randrange(1, 400))
    if random_.random() < 0.5:
        fix_checksum(data)
    return bytes(data)


def fix_checksum(data: bytearray) -> None:
    """Make the IPv4 header's checksum right, so that broken fields get further."""
    for at in (14, 54):
        header = (data[at] & 15) * 4 if len(data) > at and data[at] >> 4 == 4 else 0
        if header >= 20 and len(data) >= at + header:
            data[at + 10 : at + 12] = b"\0\0"
            checksum = frames.checksum(bytes(data[at : at + header]))
            data[at + 10 : at + 12] = checksum.to_bytes(2, "big")


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("where", ["a", "up"])
def test_mutated_frames(site: Site, where: str, seed: int) -> None:
    lab = site.lab
    lab.commit(checking(icmpPerSecond=1_000_000))
    random_ = random.Random(f"{where}{seed}")
    wire = lab.wires[where]
    seeds = seeds_of_interface() if where == "a" else seeds_of_uplink(site.uplink_mac)
    for number in range(FRAMES):
        if random_.random() < 0.05:
            frame = random_.randbytes(random_.randrange(14, 1500))
        else:
            frame = mutate(random_, random_.choice(seeds))
        wire.send(frame)
        if number % IN_FLIGHT == 0:
            lab.taken(wire)
    lab.taken(wire)
    packet = frames.udp(A.address4, B.address4, b"still alive", sport=7777)
    site.a.send(frames.frame(A.hardware, packet))
    lab.receive(site.b, lambda f: UDP in f and f[UDP].sport == 7777)
    balance(site, where)


def balance(site: Site, where: str) -> None:
    """Nobody foretold these drops; but what is not dropped was answered, learned or sent on.

    How many frames were learned from can only be bounded: the mutated announcements.
    """
    lab = site.lab
    wire = lab.wires[where]

    def nothing_waits() -> bool:
        lab.pump()
        now = lab.counters(where)
        return now.drops == lab.counters(where).drops and all(
            lab.counters(name).values["tx_packets"] == other.received
            for name, other in lab.wires.items()
        )

    until(nothing_waits, "the engine has sent all it will")
    drops: Counter[str] = Counter()
    for name, other in lab.wires.items():
        other.drops = lab.counters(name).drops
        drops += other.drops
    assert drops.total() > FRAMES / 4, drops
    assert len(drops) >= 8, drops
    received = sum(w.sent for w in lab.wires.values()) + sum(
        w.originated for w in lab.wires.values()
    )
    out = sum(w.received for w in lab.wires.values()) + drops.total()
    learned = received - out - sum(w.learned for w in lab.wires.values())
    assert 0 <= learned <= FRAMES / 4, (learned, drops)
    wire.learned += learned
