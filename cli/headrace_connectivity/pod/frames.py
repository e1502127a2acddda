# SPDX-License-Identifier: Apache-2.0
"""Frames as endpoints send them, honest or not: pure bytes, the standard library alone."""

import struct
from ipaddress import IPv4Address, IPv6Address, ip_address

GATEWAY_MAC = "02:68:72:00:00:01"
"""Of every gateway on a virtual device."""

_ETHERTYPES = {4: 0x0800, 6: 0x86DD}
_TCP, _UDP = 6, 17
# Next headers of a packet in a packet (RFC 2473), by the inner one's version.
_ENCAPSULATED = {4: 4, 6: 41}
_TTL = 64
_SYN = 0x02


def udp(mac: str, source: str, destination: str, port: int, payload: bytes) -> bytes:
    """Return a frame from this MAC address to the gateway: UDP from and to the port.

    The addresses are of one family.
    """
    return framed(mac, udp_packet(source, destination, port, payload))


def tcp_syn(mac: str, source: str, destination: str, port: int) -> bytes:
    """Return a frame from this MAC address to the gateway: the start of a TCP connection.

    The addresses are of one family.
    """
    segment = struct.pack("!HHIIBBHHH", port, port, 1, 0, 5 << 4, _SYN, 0xFFFF, 0, 0)
    return framed(mac, _packet(source, destination, _TCP, segment, 16))


def udp_packet(source: str, destination: str, port: int, payload: bytes) -> bytes:
    """Return an IP packet: UDP from and to the port. The addresses are of one family."""
    head = struct.pack("!HHHH", port, port, 8 + len(payload), 0)
    return _packet(source, destination, _UDP, head + payload, 6)


def in_ipv6(source: str, destination: str, packet: bytes) -> bytes:
    """Return the IP packet in an IPv6 packet between these addresses, as nodes send it."""
    outer = IPv6Address(source), IPv6Address(destination)
    head = _header(*outer, _ENCAPSULATED[_version(packet)], len(packet))
    return b"".join((head, *(address.packed for address in outer), packet))


def framed(mac: str, packet: bytes) -> bytes:
    """Return the IP packet in a frame from this MAC address to the gateway."""
    ethertype = struct.pack("!H", _ETHERTYPES[_version(packet)])
    return b"".join((_mac(GATEWAY_MAC), _mac(mac), ethertype, packet))


def source_of(frame: bytes) -> str:
    """Return the source address of an IP packet in an Ethernet frame; empty: it is none."""
    ethertype = int.from_bytes(frame[12:14], "big")
    if ethertype == _ETHERTYPES[4] and len(frame) >= 34:
        return str(IPv4Address(frame[26:30]))
    if ethertype == _ETHERTYPES[6] and len(frame) >= 54:
        return str(IPv6Address(frame[22:38]))
    return ""


def _packet(
    source: str, destination: str, protocol: int, datagram: bytes, checksum_at: int
) -> bytes:
    sender, receiver = ip_address(source), ip_address(destination)
    addresses = sender.packed + receiver.packed
    pseudo = addresses + struct.pack("!II", len(datagram), protocol)
    # An IPv6 receiver takes 0 for a missing checksum (RFC 768, RFC 8200).
    checksum = struct.pack("!H", _checksum(pseudo + datagram) or 0xFFFF)
    datagram = datagram[:checksum_at] + checksum + datagram[checksum_at + 2 :]
    return _header(sender, receiver, protocol, len(datagram)) + addresses + datagram


def _version(packet: bytes) -> int:
    return packet[0] >> 4


def _header(
    sender: IPv4Address | IPv6Address,
    receiver: IPv4Address | IPv6Address,
    protocol: int,
    length: int,
) -> bytes:
    """Return the IP header up to the addresses; `length` is of what follows it, in bytes."""
    if sender.version == 6:
        return struct.pack("!IHBB", 6 << 28, length, protocol, _TTL)
    fields = struct.pack("!BBHHHBBH", 0x45, 0, 20 + length, 0, 0, _TTL, protocol, 0)
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
