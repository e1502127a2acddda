# SPDX-License-Identifier: Apache-2.0
"""Arithmetic on addresses: subnets as ranges of numbers, /64s of nodes, /128s of Interfaces."""

import hashlib
import ipaddress
from dataclasses import dataclass
from functools import lru_cache
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton

from headrace_api import Subnet, VirtualNetworkSpec

#: Keeps IPv6 numbers apart from IPv4 numbers.
_IPV6 = 1 << 128

#: Host part of a node's own underlay address.
NODE_HOST = 1
#: Bits of the host part of an Interface's underlay address below those of its VNI.
IDENTITY_BITS = 40
#: Identities below are the node's: with identity 1 it sends into the network.
FIRST_IDENTITY = 2


def address_number(address: str) -> int:
    """A number for the address, in order within a family and unique over both."""
    # The models have checked the text; the socket module parses it ten times as fast.
    if ":" in address:
        return _IPV6 | int.from_bytes(inet_pton(AF_INET6, address), "big")
    return int.from_bytes(inet_pton(AF_INET, address), "big")


def number_address(number: int) -> str:
    """The address of `address_number`, which is none of RESERVED."""
    if number & _IPV6:
        return _ipv6_address(number ^ _IPV6)
    return inet_ntop(AF_INET, number.to_bytes(4, "big"))


def _ipv6_address(number: int) -> str:
    return inet_ntop(AF_INET6, number.to_bytes(16, "big"))


def host_prefix(address: str) -> str:
    """The prefix that holds the address alone: /32 or /128."""
    return f"{address}/{128 if ':' in address else 32}"


def prefix_order(prefix: str) -> tuple[int, int]:
    """Sort key of a prefix: family, address, length."""
    address, _, length = prefix.partition("/")
    return address_number(address), int(length)


@dataclass(frozen=True, slots=True)
class SubnetRange:
    """A subnet as numbers of `address_number`."""

    prefix: str
    gateway: str
    base: int
    end: int
    """Last number of the prefix."""
    first: int
    last: int
    """First and last that a host may have (RFC 919 broadcast, RFC 4291 2.6.1 anycast)."""
    gateway_number: int

    def holds(self, number: int) -> bool:
        """Whether the number is in the prefix."""
        return self.base <= number <= self.end


@lru_cache(maxsize=16384)
def _range(subnet: Subnet) -> SubnetRange:
    network = ipaddress.ip_network(subnet.prefix)
    gateway = subnet.gateway_address
    base = address_number(str(network.network_address))
    end = base + network.num_addresses - 1
    # Point-to-point prefixes have no address to spare (RFC 3021, RFC 6164).
    spare = network.max_prefixlen - network.prefixlen > 1
    return SubnetRange(
        prefix=subnet.prefix,
        gateway=gateway,
        base=base,
        end=end,
        first=base + spare,
        last=end - (spare and network.version == 4),
        gateway_number=address_number(gateway),
    )


def subnet_ranges(spec: VirtualNetworkSpec) -> tuple[SubnetRange, ...]:
    """The network's subnets, in the order of its spec."""
    return tuple(map(_range, spec.subnets))


def node_range(underlay_prefix: str) -> tuple[int, int]:
    """First and last /64 (as numbers: the upper 64 bits) that nodes get of a Pipeline's prefix.

    The first /64 of a longer range is left to the fabric: routers like to have ::1 of a prefix.
    """
    network = ipaddress.IPv6Network(underlay_prefix)
    first = int(network.network_address) >> 64
    count: int = 1 << (64 - network.prefixlen)
    return (first, first) if count == 1 else (first + 1, first + count - 1)


def node_prefix(number: int) -> str:
    """The /64 whose upper 64 bits are the number."""
    return f"{ipaddress.IPv6Address(number << 64)}/64"


def node_number(prefix: str) -> int:
    """The upper 64 bits of a /64, or of an address in it."""
    return int.from_bytes(inet_pton(AF_INET6, prefix.partition("/")[0])[:8], "big")


def underlay_address(prefix: str, host: int) -> str:
    """The address with this host part in a node's /64."""
    return _ipv6_address((node_number(prefix) << 64) | host)


def node_address(prefix: str) -> str:
    """The own address of the node with this /64."""
    return underlay_address(prefix, NODE_HOST)


def identity(key: str, uid: str, attempt: int) -> int:
    """An identity for the object, 40 bits; another one for each attempt."""
    found = hashlib.sha256(f"{key} {uid} {attempt}".encode()).digest()
    number = int.from_bytes(found[: IDENTITY_BITS // 8], "big")
    return FIRST_IDENTITY + number % ((1 << IDENTITY_BITS) - FIRST_IDENTITY)


def host_part(vni: int, number: int) -> int:
    """The host part of the underlay address of an Interface with this identity."""
    return vni << IDENTITY_BITS | number


def host_vni(host: int) -> int:
    """The VNI in the host part of an underlay address; 0 in those of the first release."""
    return host >> IDENTITY_BITS


def underlay_host(address: str) -> int:
    """The host part (lower 64 bits) of an underlay address."""
    return int.from_bytes(inet_pton(AF_INET6, address)[8:], "big")
