# SPDX-License-Identifier: Apache-2.0
"""The engine's drop reasons by who must act; a test compares them with the engine's list."""

LOSS = (
    "unknown_underlay",
    "underlay_source",
    "underlay_protocol",
    "vxlan",
    "ecn",
    "inner_header",
    "network_loop",
    "resolve_queue",
    "no_interface",
    "port_down",
    "tx_full",
    "control_full",
    "no_mbuf",
)
"""Packets that should have arrived: the platform's fault, and what alerts watch."""

ENDPOINT = (
    "runt",
    "not_for_us",
    "ethertype",
    "ip4_header",
    "ip4_checksum",
    "ip6_header",
    "source",
    "source_mac",
    "ttl",
    "no_route",
    "blackhole",
    "martian",
    "mtu",
    "oversize",
    "unresolved",
    "arp",
    "nd",
    "local",
    "multicast",
    "icmp_rate",
)
"""What an endpoint sent and may not, or sent to one that is not there: its owner's to look at."""


def matcher(reasons: tuple[str, ...]) -> str:
    """Return the label matcher of these reasons."""
    return f'reason=~"{"|".join(reasons)}"'
