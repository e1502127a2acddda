# SPDX-License-Identifier: Apache-2.0
"""Frames: how tests make them and how they tell them apart."""

from collections.abc import Callable
from ipaddress import IPv6Address

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
)
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet, Raw

GATEWAY_MAC = "02:68:72:00:00:01"
BROADCAST = "ff:ff:ff:ff:ff:ff"
ANY4 = "0.0.0.0"  # noqa: S104
ALL_NODES = "ff02::1"
ALL_NODES_MAC = "33:33:00:00:00:01"

_IP4, _IP6, _ARP = b"\x08\x00", b"\x86\xdd", b"\x08\x06"
_ICMP6 = 58
_ROUTER_ADVERTISEMENT, _NEIGHBOR_SOLICITATION = 134, 135
_ICMP6_ERRORS = frozenset({1, 2, 3, 4})
_ICMP4_ERRORS = frozenset({3, 11})


def is_question(data: bytes) -> bool:
    """Whether the frame asks for a MAC address."""
    if data[12:14] == _ARP:
        return data[21] == 1
    return data[12:14] == _IP6 and data[20] == _ICMP6 and data[54] == _NEIGHBOR_SOLICITATION


def is_chatter(data: bytes) -> bool:
    """Whether the frame is a question or an announcement of the engine's."""
    return is_question(data) or (
        data[:6] == bytes.fromhex(ALL_NODES_MAC.replace(":", ""))
        and data[12:14] == _IP6
        and data[20] == _ICMP6
        and data[54] == _ROUTER_ADVERTISEMENT
    )


def is_originated(data: bytes) -> bool:
    """Whether the engine made the frame by itself: a question, an error or an announcement.

    Tests send none of these through the engine but as Raw payloads of other types, with
    `forwarded` in the payload.
    """
    if b"forwarded" in data[-16:]:
        return False
    if data[12:14] == _IP6:
        at = 14
        if data[20] in (4, 41):
            at += 40
        is_ip4 = data[at] >> 4 == 4
    elif data[12:14] == _IP4:
        at, is_ip4 = 14, True
    else:
        return is_question(data)
    if is_chatter(data):
        return True
    if is_ip4:
        return data[at + 9] == 1 and data[at + 20] in _ICMP4_ERRORS
    if data[at + 6] != _ICMP6:
        return False
    return data[at + 40] in _ICMP6_ERRORS


def arp_request(mac: str, source: str, target: str) -> Packet:
    return Ether(src=mac, dst=BROADCAST) / ARP(op=1, hwsrc=mac, psrc=source, pdst=target)


def arp_reply(question: Packet, mac: str) -> Packet:
    asked = question[ARP]
    return Ether(src=mac, dst=question.src) / ARP(
        op=2, hwsrc=mac, psrc=asked.pdst, hwdst=asked.hwsrc, pdst=asked.psrc
    )


def solicited_node(address: str) -> tuple[str, str]:
    """Return the group of an IPv6 address and the group's MAC address."""
    low = IPv6Address(address).packed[-3:]
    group = IPv6Address(bytes.fromhex("ff0200000000000000000001ff") + low)
    return str(group), "33:33:ff:" + low.hex(":")


def solicitation(mac: str, source: str, target: str, option: bool = True) -> Packet:
    group, group_mac = solicited_node(target)
    frame = Ether(src=mac, dst=group_mac) / IPv6(src=source, dst=group, hlim=255)
    frame /= ICMPv6ND_NS(tgt=target)
    return frame / ICMPv6NDOptSrcLLAddr(lladdr=mac) if option else frame


def advertisement(question: Packet, mac: str) -> Packet:
    asked = question[ICMPv6ND_NS].tgt
    return unsolicited(mac, asked, question.src, question[IPv6].src, solicited=True)


def unsolicited(
    mac: str,
    target: str,
    to_mac: str = ALL_NODES_MAC,
    to: str = ALL_NODES,
    solicited: bool = False,
    override: bool = True,
) -> Packet:
    return (
        Ether(src=mac, dst=to_mac)
        / IPv6(src=target, dst=to, hlim=255)
        / ICMPv6ND_NA(R=0, S=int(solicited), O=int(override), tgt=target)
        / ICMPv6NDOptDstLLAddr(lladdr=mac)
    )


def ip(source: str, destination: str, ttl: int = 64) -> Packet:
    """Return the IP header of the addresses' family."""
    if ":" in source:
        return IPv6(src=source, dst=destination, hlim=ttl)
    return IP(src=source, dst=destination, ttl=ttl)


def frame(mac: str, packet: Packet, to: str = GATEWAY_MAC) -> Packet:
    """Return the packet as an endpoint of this MAC address sends it to its gateway."""
    return Ether(src=mac, dst=to) / packet


def has(layer: type[Packet]) -> Callable[[Packet], bool]:
    """Return a match for frames with this layer."""
    return lambda packet: layer in packet


def udp(
    source: str,
    destination: str,
    payload: bytes = b"headrace",
    ttl: int = 64,
    sport: int = 1000,
    dport: int = 2000,
) -> Packet:
    """Return a UDP packet over either family, checksums filled in."""
    packet = ip(source, destination, ttl) / UDP(sport=sport, dport=dport) / Raw(payload)
    return type(packet)(bytes(packet))


def whole(packet: Packet) -> Packet:
    """Return the packet with DF set if it is IPv4: IPv6 is never fragmented on the way."""
    if IP in packet:
        packet.flags = "DF"
        del packet.chksum
    return type(packet)(bytes(packet))


def tcp(source: str, destination: str, sport: int = 1000, dport: int = 2000) -> Packet:
    packet = ip(source, destination) / TCP(sport=sport, dport=dport) / Raw(b"headrace")
    return type(packet)(bytes(packet))


def echo(source: str, destination: str, payload: bytes = b"echo", ttl: int = 64) -> Packet:
    kind = ICMPv6EchoRequest(id=7, seq=3, data=payload)
    if ":" not in source:
        kind = ICMP(type=8, id=7, seq=3) / Raw(payload)
    packet = ip(source, destination, ttl) / kind
    return type(packet)(bytes(packet))


def checksum(data: bytes) -> int:
    """Return the Internet checksum (RFC 1071); 0 over data with a right checksum inside."""
    total = sum(
        int.from_bytes(data[at : at + 2].ljust(2, b"\0"), "big") for at in range(0, len(data), 2)
    )
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def is_intact(packet: Packet) -> bool:
    """Whether the length, the header's checksum and the checksum of what it carries are right."""
    data = bytes(packet)
    if data[0] >> 4 == 4:
        header = (data[0] & 15) * 4
        protocol, addresses, length = data[9], data[12:20], int.from_bytes(data[2:4], "big")
        if checksum(data[:header]) != 0:
            return False
    else:
        header, protocol, addresses = 40, data[6], data[8:40]
        length = 40 + int.from_bytes(data[4:6], "big")
    body = data[header:]
    pseudo = addresses + len(body).to_bytes(4, "big") + protocol.to_bytes(4, "big")
    return length == len(data) and checksum(body if protocol == 1 else pseudo + body) == 0


def without_ttl(packet: Packet) -> bytes:
    """Return the bytes that routing leaves alone: TTL and header checksum are zeroed."""
    data = bytearray(bytes(packet))
    if data[0] >> 4 == 4:
        data[8], data[10:12] = 0, b"\0\0"
    else:
        data[7] = 0
    return bytes(data)


def is_udp(data: bytes) -> bool:
    """Whether an IPv4 frame carries UDP: quicker than to dissect it."""
    return data[12:14] == _IP4 and data[23] == 17
