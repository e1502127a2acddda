# SPDX-License-Identifier: Apache-2.0
"""Frames as endpoints send them, and the capture files (pcap) that carry them: pure bytes."""

import struct
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address

GATEWAY_MAC = "02:68:72:00:00:01"
"""Of every gateway on a virtual device."""

_ETHERTYPES = {4: 0x0800, 6: 0x86DD}
_UDP = 17
_TTL = 64
_PORT = 9  # discard (RFC 863): who gets such a packet by mistake does nothing.

# https://www.ietf.org/archive/id/draft-ietf-opsawg-pcap-05.html: microseconds, Ethernet.
_FILE = struct.Struct("<IHHiIII")
_RECORD = struct.Struct("<IIII")
_MAGIC = 0xA1B2C3D4
_SNAP_BYTES = 65535
_ETHERNET = 1


def udp(mac: str, source: str, destination: str, payload: bytes) -> bytes:
    """Return a frame from the endpoint with this MAC address to its gateway: UDP over IP.

    The addresses are of one family.
    """
    sender, receiver = ip_address(source), ip_address(destination)
    addresses = sender.packed + receiver.packed
    length = 8 + len(payload)
    datagram = struct.pack("!HHHH", _PORT, _PORT, length, 0) + payload
    pseudo = addresses + struct.pack("!II", length, _UDP)
    # An IPv6 receiver takes 0 for a missing checksum (RFC 768, RFC 8200).
    checksum = _checksum(pseudo + datagram) or 0xFFFF
    datagram = datagram[:6] + struct.pack("!H", checksum) + datagram[8:]
    packet = _header(sender, receiver, length) + addresses + datagram
    return b"".join(
        (_mac(GATEWAY_MAC), _mac(mac), struct.pack("!H", _ETHERTYPES[sender.version]), packet)
    )


def _header(
    sender: IPv4Address | IPv6Address, receiver: IPv4Address | IPv6Address, length: int
) -> bytes:
    """Return the IP header up to the addresses; `length` is of what follows it, in bytes."""
    if sender.version == 6:
        return struct.pack("!IHBB", 6 << 28, length, _UDP, _TTL)
    fields = struct.pack("!BBHHHBBH", 0x45, 0, 20 + length, 0, 0, _TTL, _UDP, 0)
    return fields[:10] + struct.pack("!H", _checksum(fields + sender.packed + receiver.packed))


def _checksum(data: bytes) -> int:
    """Return the Internet checksum (RFC 1071)."""
    data += b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def capture(frames: Iterable[bytes]) -> bytes:
    """Return a capture file with these frames, all at time 0."""
    parts = [_FILE.pack(_MAGIC, 2, 4, 0, 0, _SNAP_BYTES, _ETHERNET)]
    for frame in frames:
        parts += (_RECORD.pack(0, 0, len(frame), len(frame)), frame)
    return b"".join(parts)


def captured(data: bytes) -> list[bytes]:
    """Return the frames of a capture file that was written on such a machine.

    The end may be missing, as the file grows while it is read; nothing of it is returned. Raises
    ValueError for what is no capture file (but empty is one that nobody has written to).
    """
    if len(data) < _FILE.size:
        return []
    if _FILE.unpack_from(data)[0] not in (_MAGIC, 0xA1B23C4D):
        raise ValueError("not a capture file of this byte order")
    frames = []
    at = _FILE.size
    while at + _RECORD.size <= len(data):
        size = _RECORD.unpack_from(data, at)[2]
        at += _RECORD.size
        if at + size > len(data):
            break
        frames.append(data[at : at + size])
        at += size
    return frames
