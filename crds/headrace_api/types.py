# SPDX-License-Identifier: Apache-2.0
"""Field types: addresses, prefixes and names, kept as canonical text (RFC 5952 for IPv6).

The one rule about addresses is RESERVED. It is at least as strict as the engine (`hr_addr_is_host`
in control/addr.c, `hr_parse_underlay` in control/values.c, `insert_reserved` in table/network.c),
and the CRDs' CEL rules are made of it: what passes here, the engine takes.
"""

import ipaddress
import re
from collections.abc import Iterable
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from .base import LABEL_PATTERN, SUBDOMAIN_PATTERN, cel

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

#: What no host has and no route leads to (RFC 1122 3.2.1.3, RFC 1112 4, RFC 4291 2.5 and 2.7):
#: this network, loopback, multicast, class E and broadcast; unspecified, loopback, IPv4-mapped and
#: -compatible, link-local, multicast. Uplinks' next hops alone may be link-local.
RESERVED = (
    "0.0.0.0/8",
    "127.0.0.0/8",
    "224.0.0.0/3",
    "::/80",
    "fe80::/10",
    "ff00::/8",
)
_LINK_LOCAL = ipaddress.IPv6Network("fe80::/10")
_RESERVED: dict[int, tuple[IPNetwork, ...]] = {
    version: tuple(n for n in map(ipaddress.ip_network, RESERVED) if n.version == version)
    for version in (4, 6)
}
# (address, shift): an address whose bits above the shift are these is in the range.
_RESERVED_BITS = {
    version: tuple(
        (int(network.network_address) >> shift, shift)
        for network in networks
        for shift in [network.max_prefixlen - network.prefixlen]
    )
    for version, networks in _RESERVED.items()
}

_MAC = re.compile(r"^[0-9a-f]{2}(:[0-9a-f]{2}){5}$")


def _refuse(message: str) -> PydanticCustomError:
    return PydanticCustomError("address", "{text}", {"text": message})


def _parse_address(text: str) -> IPAddress:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        if "/" in text:
            raise _refuse("must be an address without a prefix length, such as 10.0.0.5") from None
        raise _refuse("must be an IPv4 or IPv6 address") from None
    if address.version == 6 and (address.scope_id or address.ipv4_mapped):
        raise _refuse("must be an IPv6 address without zone and not IPv4-mapped")
    return address


def _is_reserved(number: int, version: int) -> bool:
    return any(number >> shift == bits for bits, shift in _RESERVED_BITS[version])


def _reserved_range(network: IPNetwork) -> IPNetwork | None:
    """The reserved range that the prefix overlaps."""
    return next((each for each in _RESERVED[network.version] if network.overlaps(each)), None)


_HOST_TEXT = "must be the address of a host: not multicast, loopback, class E or otherwise reserved"
_ROUTED_TEXT = "must not be multicast, loopback, class E, link-local or otherwise reserved"
_NOT_LINK_LOCAL = "must not be link-local: it has to be routed"


def _plain_address(text: str) -> str | None:
    """The canonical text of an address that is not reserved; None: look closer.

    Ten times as fast as the ipaddress module, which counts where there are 10,000 Interfaces. What
    the two write in other words (IPv4 in IPv6) is reserved.
    """
    version, family = (6, AF_INET6) if ":" in text else (4, AF_INET)
    try:
        packed = inet_pton(family, text)
    except (OSError, ValueError):
        return None
    if _is_reserved(int.from_bytes(packed, "big"), version):
        return None
    return inet_ntop(family, packed)


def _address(text: str) -> str:
    if plain := _plain_address(text):
        return plain
    address = _parse_address(text)
    if _is_reserved(int(address), address.version):
        link_local = address.version == 6 and address in _LINK_LOCAL
        raise _refuse(_NOT_LINK_LOCAL if link_local else _HOST_TEXT)
    return str(address)


def _any_address(text: str) -> str:
    return str(_parse_address(text))


def _ipv6(text: str) -> str:
    if ":" not in text:
        raise _refuse("must be an IPv6 address: the underlay is IPv6")
    return text


def _link_address(text: str) -> str:
    address = _parse_address(text)
    if address.version == 6 and address in _LINK_LOCAL:
        return str(address)
    return _ipv6(_address(text))


def _gateway_address(text: str) -> str:
    return _link_address(text) if ":" in text else _address(text)


def parse_prefix(text: str) -> IPNetwork:
    """An IPv4 or IPv6 prefix such as 10.0.0.0/24; ValueError when it is none, or has host bits."""
    address, slash, length = text.partition("/")
    if not slash or not length.isascii() or not length.isdigit():
        raise _refuse("must be an IPv4 or IPv6 prefix with its length, such as 10.0.0.0/24")
    parsed = _parse_address(address)
    if int(length) > parsed.max_prefixlen:
        raise _refuse(f"must have a length of at most {parsed.max_prefixlen}")
    network = ipaddress.ip_network((parsed, int(length)), strict=False)
    if network.network_address != parsed:
        raise _refuse(f"host bits are set; the prefix is {network}")
    return network


def _prefix(text: str) -> str:
    return str(parse_prefix(text))


def _tenant_prefix(text: str) -> str:
    network = parse_prefix(text)
    reserved = _reserved_range(network)
    if reserved is not None and network.prefixlen >= reserved.prefixlen:
        raise _refuse(f"is in {reserved}: {_ROUTED_TEXT}")
    return str(network)


def _host_range(network: IPNetwork) -> str:
    reserved = _reserved_range(network)
    if reserved is not None:
        raise _refuse(f"must not overlap {reserved}: no host has an address of it")
    return str(network)


#: Shortest subnet of each family.
SUBNET_LENGTHS = {4: 8, 6: 16}


def _subnet_prefix(text: str) -> str:
    network = parse_prefix(text)
    shortest = SUBNET_LENGTHS[network.version]
    if network.prefixlen < shortest:
        raise _refuse(f"must have a length of at least {shortest} for IPv{network.version}")
    return _host_range(network)


def _underlay_prefix(text: str) -> str:
    network = parse_prefix(text)
    if network.version != 6:
        raise _refuse("must be an IPv6 prefix: the underlay is IPv6")
    return str(network)


def _node_pool(text: str) -> str:
    network = parse_prefix(text)
    if network.version != 6 or network.prefixlen > 64:
        raise _refuse("must be an IPv6 prefix of length 64 or less: every node gets a /64 of it")
    if network.prefixlen < 8:
        raise _refuse("must be a routed unicast prefix, such as fd00:1::/48")
    return _host_range(network)


def _mac(text: str) -> str:
    mac = text.lower().replace("-", ":")
    if not _MAC.match(mac):
        raise _refuse("must be a MAC address such as 02:00:00:00:00:01")
    if int(mac[:2], 16) & 1 or mac == "00:00:00:00:00:00":
        raise _refuse("must be a unicast MAC address: the first byte is even, not all are zero")
    return mac


def _text(value: object) -> object:
    # YAML reads an unquoted 10.0 as a number: say so instead of "not a string".
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise _refuse("must be text: put it in quotes, YAML reads it as a number")
    return value


def _ip_schema(max_length: int, *rules: tuple[str, str]) -> WithJsonSchema:
    return WithJsonSchema(
        {"type": "string", "minLength": 2, "maxLength": max_length, **cel(*rules)}
    )


def _address_schema(*rules: tuple[str, str]) -> WithJsonSchema:
    return _ip_schema(39, *rules)


def _prefix_schema(*rules: tuple[str, str]) -> WithJsonSchema:
    return _ip_schema(43, (_PREFIX_RULE, _PREFIX_TEXT), *rules)


def _outside(ranges: Iterable[str], contains: str) -> str:
    """CEL: none of the ranges contains self."""
    # Not a macro over a list: of its items the API server knows no length, and so no cost.
    return " && ".join(f"!cidr('{each}').{contains}(self)" for each in ranges)


# Every rule is looked at, also where an earlier one has refused: hence isIP and isCIDR again.
_PREFIX_RULE = "isCIDR(self) && cidr(self) == cidr(self).masked()"
_PREFIX_TEXT = "must be an IPv4 or IPv6 prefix with its length and without host bits"
_IPV6_RULE = "isIP(self) && ip(self).family() == 6", "must be an IPv6 address"
_IPV6_PREFIX_RULE = "!isCIDR(self) || cidr(self).ip().family() == 6", "must be an IPv6 prefix"
_IP_RULE = "isIP(self)", "must be an IPv4 or IPv6 address"
_HOST_RULE = (
    f"!isIP(self) || {_outside(RESERVED, 'containsIP')}",
    f"{_HOST_TEXT}, nor link-local",
)
_LINK_RULE = (
    "!isIP(self) || "
    + _outside((each for each in RESERVED if each != str(_LINK_LOCAL)), "containsIP"),
    _HOST_TEXT,
)
_ROUTED_RULE = (
    f"!isCIDR(self) || {_outside(RESERVED, 'containsCIDR')}",
    _ROUTED_TEXT,
)
# Of the reserved ranges a prefix of such a length can hold ::/80 alone; else it is inside, or not.
_HOST_RANGE_RULE = (
    "!isCIDR(self) || !cidr(self).containsIP('::')",
    "must not overlap ::/80: no host has an address of it",
)

#: IPv4 or IPv6 address, whatever it is for.
Address = Annotated[
    str, BeforeValidator(_text), AfterValidator(_any_address), _address_schema(_IP_RULE)
]
#: Unicast address inside a virtual network.
TenantAddress = Annotated[
    str, BeforeValidator(_text), AfterValidator(_address), _address_schema(_IP_RULE, _HOST_RULE)
]
#: Address that the dataplane answers for: a TenantAddress, or the link-local one of IPv6 routers.
GatewayAddress = Annotated[
    str,
    BeforeValidator(_text),
    AfterValidator(_gateway_address),
    _address_schema(_IP_RULE, _LINK_RULE),
]
#: Routed unicast IPv6 address of the underlay.
UnderlayAddress = Annotated[
    str,
    BeforeValidator(_text),
    AfterValidator(_address),
    AfterValidator(_ipv6),
    _address_schema(_IPV6_RULE, _HOST_RULE),
]
#: Unicast IPv6 address of a next hop on an uplink; may be link-local.
LinkAddress = Annotated[
    str,
    BeforeValidator(_text),
    AfterValidator(_link_address),
    _address_schema(_IPV6_RULE, _LINK_RULE),
]
#: IPv4 or IPv6 prefix without host bits; may be 0.0.0.0/0 or ::/0.
Prefix = Annotated[str, BeforeValidator(_text), AfterValidator(_prefix), _prefix_schema()]
#: Prefix that a virtual network can route: not in a reserved range, though it may hold one.
TenantPrefix = Annotated[
    str, BeforeValidator(_text), AfterValidator(_tenant_prefix), _prefix_schema(_ROUTED_RULE)
]
#: Prefix of hosts: IPv4 of length 8 to 32 or IPv6 of length 16 to 128, clear of reserved ranges.
SubnetPrefix = Annotated[
    str,
    BeforeValidator(_text),
    AfterValidator(_subnet_prefix),
    _prefix_schema(
        (
            "!isCIDR(self) || cidr(self).prefixLength() >= (cidr(self).ip().family() == 4 ?"
            f" {SUBNET_LENGTHS[4]} : {SUBNET_LENGTHS[6]})",
            f"must have a length of at least {SUBNET_LENGTHS[4]} for IPv4,"
            f" {SUBNET_LENGTHS[6]} for IPv6",
        ),
        _ROUTED_RULE,
        _HOST_RANGE_RULE,
    ),
]
#: IPv6 prefix of the underlay.
UnderlayPrefix = Annotated[
    str,
    BeforeValidator(_text),
    AfterValidator(_underlay_prefix),
    _prefix_schema(_IPV6_PREFIX_RULE),
]
#: IPv6 prefix of length 8 to 64 from which nodes get a /64 each.
NodePool = Annotated[
    str,
    BeforeValidator(_text),
    AfterValidator(_node_pool),
    _prefix_schema(
        _IPV6_PREFIX_RULE,
        (
            "!isCIDR(self) || cidr(self).prefixLength() >= 8 && cidr(self).prefixLength() <= 64",
            "must be an IPv6 prefix of length 8 to 64",
        ),
        _ROUTED_RULE,
        _HOST_RANGE_RULE,
    ),
]
#: Unicast MAC address, lower case with colons.
MacAddress = Annotated[
    str,
    BeforeValidator(_text),
    AfterValidator(_mac),
    WithJsonSchema(
        {
            "type": "string",
            "minLength": 17,
            "maxLength": 17,
            "pattern": r"^[0-9a-fA-F][02468aceACE]([:-][0-9a-fA-F]{2}){5}$",
        }
    ),
]
#: RFC 1123 label, at most 63 characters.
Name = Annotated[str, Field(min_length=1, max_length=63, pattern=LABEL_PATTERN)]
#: RFC 1123 subdomain, at most 253 characters: names of nodes and of compiled objects.
Subdomain = Annotated[str, Field(min_length=1, max_length=253, pattern=SUBDOMAIN_PATTERN)]
NodeName = Subdomain
#: Extended resource of a device plugin: domain/name (at most 253 and 63 characters).
ResourceName = Annotated[
    str,
    Field(
        max_length=317,
        pattern=r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$",
    ),
]
#: `namespace/name` of a VirtualNetwork.
NetworkKey = Annotated[
    str,
    Field(
        min_length=3,
        max_length=127,
        pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?/[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
    ),
]
#: `namespace/name` of an Interface.
InterfaceKey = NetworkKey
#: `namespace/name` of a pod.
PodKey = Annotated[
    str,
    Field(
        min_length=3, max_length=317, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?/[a-z0-9][-a-z0-9.]*$"
    ),
]
#: VXLAN network identifier of 24 bits (RFC 7348); 0 is not used.
Vni = Annotated[int, Field(ge=1, le=0xFFFFFF)]
#: Differentiated services codepoint (RFC 2474).
Dscp = Annotated[int, Field(ge=0, le=63)]
