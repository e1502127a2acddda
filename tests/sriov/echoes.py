# SPDX-License-Identifier: Apache-2.0
"""`echoes.py ADDRESS COUNT WINDOW`: exchange echoes, print how many were answered.

Never are more than WINDOW under way, which `ping -f` does not promise: as long as nothing comes
back it sends another hundred a second, and a NIC that waits for a slow node runs over.
"""

import os
import socket
import struct
import sys

_REQUEST, _REPLY = {4: 8, 6: 128}, {4: 0, 6: 129}
_ICMP_FILTER = 1
"""Of SOL_RAW and of SOL_ICMPV6 alike: a bitmap of types that are not received (linux/icmp.h)."""
_SOL_RAW, _SOL_ICMPV6 = 255, 58
_DATA = bytes(56)
_SECONDS = 30.0
"""So long nothing is heard until all that is under way counts as lost."""


def _socket(address: str, version: int) -> socket.socket:
    family, protocol = {
        4: (socket.AF_INET, socket.IPPROTO_ICMP),
        6: (socket.AF_INET6, socket.IPPROTO_ICMPV6),
    }[version]
    raw = socket.socket(family, socket.SOCK_RAW, protocol)
    blocked = [0xFFFFFFFF] * (1 if version == 4 else 8)
    blocked[_REPLY[version] // 32] &= ~(1 << _REPLY[version] % 32)
    level = _SOL_RAW if version == 4 else _SOL_ICMPV6
    raw.setsockopt(level, _ICMP_FILTER, struct.pack(f"={len(blocked)}I", *blocked))
    raw.connect((address, 0))
    raw.settimeout(_SECONDS)
    return raw


def _checksum(message: bytes) -> int:
    """RFC 1071, of an even number of bytes."""
    total = sum(struct.unpack(f"!{len(message) // 2}H", message))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def exchange(address: str, count: int, window: int) -> int:
    """Send so many echo requests to an address, return how many were answered."""
    version = 6 if ":" in address else 4
    number = os.getpid() & 0xFFFF
    under_way: set[int] = set()
    sent = answered = 0
    with _socket(address, version) as raw:
        while sent < count or under_way:
            while sent < count and len(under_way) < window:
                sequence = sent & 0xFFFF
                words = struct.pack("!HH", number, sequence)
                head = bytes((_REQUEST[version], 0))
                # The kernel computes that of ICMPv6.
                checksum = _checksum(head + words) if version == 4 else 0
                raw.send(head + checksum.to_bytes(2) + words + _DATA)
                under_way.add(sequence)
                sent += 1
            try:
                packet = raw.recv(2048)
            except TimeoutError:
                under_way.clear()
                continue
            start = (packet[0] & 15) * 4 if version == 4 else 0
            whose, sequence = struct.unpack_from("!HH", packet, start + 4)
            if whose == number and sequence in under_way:
                under_way.discard(sequence)
                answered += 1
    return answered


if __name__ == "__main__":
    print(exchange(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
