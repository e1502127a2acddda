# SPDX-License-Identifier: Apache-2.0
"""Field types: addresses, prefixes and names, kept as canonical text (RFC 5952 for IPv6)."""

import ipaddress
import re
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from .base import LABEL_PATTERN, SUBDOMAIN_PATTERN, cel

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

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


def _address(text: str) -> str:
    address = _parse_address(text)
    if address.is_multicast or address.is_unspecified or address.is_loopback:
        raise _refuse("must be the address of a host: not multicast, loopback or unspecified")
    if address == ipaddress.IPv4Address(0xFFFFFFFF):
        raise _refuse("must be the address of a host: not the broadcast address")
    return str(address)


def _tenant_address(text: str) -> str:
    text = _address(text)
    if text.startswith("fe80:"):
        raise _refuse("must not be link-local: links inside a network are not shared")
    return text


def _underlay_address(text: str) -> str:
    text = _address(text)
    if ":" not in text:
        raise _refuse("must be an IPv6 address: the underlay is IPv6")
    return text


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
    if network.prefixlen and (network.is_multicast or network.is_loopback):
        raise _refuse("must be a unicast prefix: not multicast or loopback")
    if network.version == 6 and network.prefixlen and network.is_link_local:
        raise _refuse("must not be link-local: links inside a network are not shared")
    return str(network)


def _underlay_prefix(text: str) -> str:
    network = parse_prefix(text)
    if network.version != 6:
        raise _refuse("must be an IPv6 prefix: the underlay is IPv6")
    return str(network)


def _node_pool(text: str) -> str:
    network = parse_prefix(text)
    if network.version != 6 or network.prefixlen > 64:
        raise _refuse("must be an IPv6 prefix of length 64 or less: every node gets a /64 of it")
    if network.is_multicast or network.is_link_local or network.prefixlen < 8:
        raise _refuse("must be a routed unicast prefix, such as fd00:1::/48")
    return str(network)


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


def _ip_schema(rule: str, message: str, max_length: int) -> WithJsonSchema:
    return WithJsonSchema(
        {"type": "string", "minLength": 2, "maxLength": max_length, **cel((rule, message))}
    )


_PREFIX_RULE = "isCIDR(self) && cidr(self) == cidr(self).masked()"
_PREFIX_TEXT = "must be an IPv4 or IPv6 prefix with its length and without host bits"
_IPV6_RULE = "isIP(self) && ip(self).family() == 6"
_IPV6_PREFIX_RULE = f"{_PREFIX_RULE} && cidr(self).ip().family() == 6"

#: Unicast IPv4 or IPv6 address.
Address = Annotated[
    str,
    BeforeValidator(_text),
    AfterValidator(_address),
    _ip_schema("isIP(self)", "must be an IPv4 or IPv6 address", 39),
]
#: Address inside a virtual network: unicast and not link-local.
TenantAddress = Annotated[
    str,
    BeforeValidator(_text),
    AfterValidator(_tenant_address),
    _ip_schema("isIP(self)", "must be an IPv4 or IPv6 address", 39),
]
#: Unicast IPv6 address of the underlay.
UnderlayAddress = Annotated[
    str,
    BeforeValidator(_text),
    AfterValidator(_underlay_address),
    _ip_schema(_IPV6_RULE, "must be an IPv6 address", 39),
]
#: IPv4 or IPv6 prefix without host bits; may be 0.0.0.0/0 or ::/0.
Prefix = Annotated[
    str,
    BeforeValidator(_text),
    AfterValidator(_prefix),
    _ip_schema(_PREFIX_RULE, _PREFIX_TEXT, 43),
]
#: Prefix inside a virtual network: unicast, not link-local.
TenantPrefix = Annotated[
    str,
    BeforeValidator(_text),
    AfterValidator(_tenant_prefix),
    _ip_schema(_PREFIX_RULE, _PREFIX_TEXT, 43),
]
#: IPv6 prefix of the underlay.
UnderlayPrefix = Annotated[
    str,
    BeforeValidator(_text),
    AfterValidator(_underlay_prefix),
    _ip_schema(_IPV6_PREFIX_RULE, "must be an IPv6 prefix without host bits", 43),
]
#: IPv6 prefix of length 8 to 64 from which nodes get a /64 each.
NodePool = Annotated[
    str,
    BeforeValidator(_text),
    AfterValidator(_node_pool),
    _ip_schema(
        f"{_IPV6_PREFIX_RULE} && cidr(self).prefixLength() <= 64",
        "must be an IPv6 prefix of length 64 or less without host bits",
        43,
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
#: `namespace/name` of a VirtualNetwork.
NetworkKey = Annotated[
    str,
    Field(
        min_length=3,
        max_length=127,
        pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?/[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
    ),
]
#: VXLAN network identifier of 24 bits (RFC 7348); 0 is not used.
Vni = Annotated[int, Field(ge=1, le=0xFFFFFF)]
