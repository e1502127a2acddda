# SPDX-License-Identifier: Apache-2.0
"""One VirtualNetwork: what its endpoints send, receive and lose."""

from grafana_foundation_sdk.models import dashboard as models

from .links import NODE
from .panels import Column, Query, Row, Steps, Unit, choice, graph, grid, number, page

_IN = 'and on (interface, instance) headrace_interface_info{network="$network"}'
_ON = 'interface=~"$interface"'
_ROW = "interface, pipeline, node"
_READY = f"min by ({_ROW}) (headrace_interface_ready{{{_ON}}} {_IN})"


def _rate(metric: str, by: str) -> str:
    return f"sum by ({by}) (rate({metric}{{{_ON}}}[$__rate_interval]) {_IN})"


def _drops(by: str) -> str:
    return _rate("headrace_interface_dropped_packets_total", by)


def _traffic(title: str, way: str) -> Row:
    queries: tuple[tuple[str, Unit, str], ...] = (("packets", "pps", ""), ("bytes", "bps", "8 * "))
    return Row(
        title,
        tuple(
            graph(
                "Packets" if unit == "pps" else "Bits",
                Query(
                    f"topk(10, {factor}"
                    + _rate(f"headrace_interface_{way}_{what}_total", "interface")
                    + ")",
                    "{{interface}}",
                ),
                "As endpoints see it, without the overlay's header; the ten largest. One that "
                "should be here is not: is it ready, and where (table below)?",
                unit=unit,
            )
            for what, unit, factor in queries
        ),
    )


_WELL = Row(
    "Is it well",
    (
        number(
            "Interfaces",
            'count(headrace_interface_info{network="$network"}) or vector(0)',
            "Interfaces of the network that nodes know of. Fewer than kubectl get interfaces "
            "shows: the missing ones have a problem in their conditions.",
            span=6,
        ),
        number(
            "Not ready",
            "count((headrace_interface_ready == 0) and on (interface, instance) "
            'headrace_interface_info{network="$network"}) or vector(0)',
            "Interfaces that do not forward. kubectl -n NAMESPACE get interfaces gives the reason.",
            steps=Steps(bad=1),
            span=6,
        ),
        number(
            "Dropped",
            f"sum({_drops('interface')}) or vector(0)",
            "Packets from or to these endpoints that were dropped. The next row says why.",
            unit="pps",
            steps=Steps(warn=1, bad=100),
            span=6,
        ),
        number(
            "Nodes",
            'count(count by (instance) (headrace_interface_info{network="$network"})) or vector(0)',
            "Nodes that the network reaches.",
            span=6,
        ),
    ),
)

_LOSS = Row(
    "What is lost",
    (
        graph(
            "Drops by reason",
            Query(
                f"{_drops('reason')} > 0 "
                'or on () label_replace(vector(0), "reason", "none", "", "")',
                "{{reason}}",
            ),
            "source: sent from an address that is not the Interface's. no_route: the network has "
            "no such destination. unresolved: the endpoint does not answer ARP or neighbour "
            "discovery. mtu: larger than the way out carries. headrace drops has them all.",
            unit="pps",
        ),
        graph(
            "Drops by Interface",
            Query(
                f"topk(10, {_drops('interface')} > 0) "
                'or on () label_replace(vector(0), "interface", "none", "", "")',
                "{{interface}}",
            ),
            "The ten Interfaces with the most drops. Compare the reasons at the left; choose one "
            "Interface above to see its alone.",
            unit="pps",
        ),
    ),
)

_INTERFACES = Row(
    "Interfaces",
    (
        grid(
            "Interfaces",
            ("node", "pipeline", "interface"),
            (
                Column(
                    "Ready",
                    _READY,
                    steps=Steps(bad=1, inverted=True),
                ),
                Column(
                    "Received",
                    _rate("headrace_interface_receive_packets_total", _ROW),
                    "pps",
                ),
                Column(
                    "Transmitted",
                    _rate("headrace_interface_transmit_packets_total", _ROW),
                    "pps",
                ),
                Column(
                    "Dropped",
                    f"{_drops(_ROW)} or 0 * {_READY}",
                    "pps",
                    Steps(warn=1, bad=100),
                ),
            ),
            "Where each Interface is and what it does. Click a node for its page. Not ready: see "
            "what kubectl describe says of the Interface.",
            links=(NODE,),
            sort="Dropped",
            height=12,
        ),
    ),
)


def dashboard() -> models.Dashboard:
    """Return the dashboard."""
    return page(
        "headrace-network",
        "Headrace / VirtualNetwork",
        "One tenant's network: its Interfaces, their traffic, and what is dropped and why.",
        (
            choice("network", "VirtualNetwork", "label_values(headrace_interface_info, network)"),
            choice(
                "interface",
                "Interface",
                'label_values(headrace_interface_info{network="$network"}, interface)',
                several=True,
            ),
        ),
        (
            _WELL,
            _LOSS,
            _traffic("From endpoints", "receive"),
            _traffic("To endpoints", "transmit"),
            _INTERFACES,
        ),
    )
