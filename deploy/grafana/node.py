# SPDX-License-Identifier: Apache-2.0
"""One dataplane: a Pipeline's engine on one node."""

from grafana_foundation_sdk.models import dashboard as models

from .panels import ANY_IS_BAD, Query, Row, Steps, choice, graph, number, page

_ON = 'pipeline="$pipeline", node="$node"'


def _rate(metric: str, by: str) -> str:
    return f"sum by ({by}) (rate({metric}{{{_ON}}}[$__rate_interval]))"


def _spent(state: str, by: str = "worker") -> str:
    return _rate(f"headrace_worker_{state}_seconds_total", by)


def _latency() -> list[Query]:
    buckets = _rate("headrace_worker_latency_seconds_bucket", "le")
    none = f"or on () 0 * sum(headrace_worker_busy_seconds_total{{{_ON}}})"
    return [
        Query(f"histogram_quantile({part}, {buckets}) >= 0 {none}", name)
        for part, name in ((0.5, "median"), (0.99, "99%"), (0.999, "99.9%"))
    ]


def _share(state: str) -> str:
    everything = f"({_spent('busy')} + {_spent('idle')} + {_spent('sleep')})"
    return f"{_spent(state)} / {everything}"


_WELL = Row(
    "Is it well",
    (
        number(
            "Engine",
            f"min(headrace_engine_up{{{_ON}}})",
            "1: it answers. 0: nothing is forwarded here; the agent's log says why: "
            "kubectl -n headrace-system logs POD.",
            steps=Steps(bad=1, inverted=True),
            span=3,
        ),
        number(
            "API server",
            f"min(headrace_watch_connected{{{_ON}}})",
            "1: the agent watches its configuration. 0: it forwards by the last one, and changes "
            "do not reach it; its log says why. See docs/alerts.md#headracedataplanecutoff.",
            steps=Steps(bad=1, inverted=True),
            span=3,
        ),
        number(
            "Running since",
            f"1000 * max(headrace_engine_start_time_seconds{{{_ON}}})",
            "When the engine started. Younger than its pod: it ended and was started again.",
            unit="dateTimeFromNow",
        ),
        number(
            "Engine restarts",
            f"sum(headrace_engine_restarts_total{{{_ON}}})",
            "Engines that ended unasked under this agent. Any is a bug or a lack of memory: keep "
            "the log (kubectl logs POD --previous) and report it.",
            steps=ANY_IS_BAD,
            span=3,
        ),
        number(
            "Configuration lag",
            f"max(headrace_config_lag_seconds{{{_ON}}})",
            "For how long a newer configuration has been waiting. Above a minute: the engine "
            "refuses something; the agent's log names object and field.",
            unit="s",
            steps=Steps(warn=10, bad=60),
        ),
        number(
            "Refused objects",
            f"sum(headrace_config_refused_objects{{{_ON}}}) or vector(0)",
            "Objects that the engine refuses and forwards without. The conditions of the "
            "DataplaneConfig say which and why.",
            steps=ANY_IS_BAD,
            span=3,
        ),
        number(
            "Interfaces not ready",
            f"count(headrace_interface_ready{{{_ON}}} == 0) or vector(0)",
            "Interfaces of this node that do not forward: their device is gone or down. "
            "headrace interfaces --node NODE lists them.",
            steps=Steps(warn=1),
        ),
    ),
)

_LOSS = Row(
    "What is lost",
    (
        graph(
            "Drops by reason",
            Query(
                _rate("headrace_dropped_packets_total", "reason") + " > 0 "
                'or on () label_replace(vector(0), "reason", "none", "", "")',
                "{{reason}}",
            ),
            "Everything that the engine dropped. headrace drops --node NODE says what each reason "
            "means; docs/alerts.md#headracedrops what to do about it.",
            unit="pps",
            span=8,
        ),
        graph(
            "Drops by Interface and uplink",
            [
                Query(
                    f"topk(10, {_rate(f'headrace_{owner}_dropped_packets_total', owner)} > 0) "
                    f'or on () label_replace(vector(0), "{owner}", "none", "", "")',
                    f"{owner} {{{{{owner}}}}}",
                )
                for owner in ("interface", "uplink")
            ],
            "Whose packets they are; the ten largest. headrace drops --node NODE --interface "
            "NAMESPACE/NAME gives one's reasons.",
            unit="pps",
            span=8,
        ),
        graph(
            "Lost at ports",
            [
                Query(
                    _rate("headrace_port_receive_missed_packets_total", "port"),
                    "queue full {{port}}",
                ),
                Query(_rate("headrace_port_receive_no_buffer_total", "port"), "no buffer {{port}}"),
                Query(
                    _rate("headrace_port_receive_errors_total", "port"), "receive error {{port}}"
                ),
                Query(
                    _rate("headrace_port_transmit_errors_total", "port"), "transmit error {{port}}"
                ),
            ],
            "queue full: workers are too slow, give more. no buffer: give more memory. Errors: the "
            "device or its cable; compare the other side's counters.",
            unit="pps",
            steps=Steps(warn=1),
            span=8,
        ),
    ),
)

_WORKERS = Row(
    "Workers",
    (
        graph(
            "Busy",
            Query(_share("busy"), "worker {{worker}}"),
            "Share of time in walks that found packets. From 90% on a burst is lost: raise "
            "workers.count. One high beside low ones: too few receive queues, or one heavy flow.",
            unit="percentunit",
            maximum=1,
            steps=Steps(warn=0.75, bad=0.9),
            span=12,
        ),
        graph(
            "Asleep",
            Query(_share("sleep"), "worker {{worker}}"),
            "Share of time asleep, with idlePolicy Adaptive. A worker that is neither busy nor "
            "asleep polls in vain: its core burns for lower latency. Always 0 with Poll.",
            unit="percentunit",
            maximum=1,
            span=12,
        ),
        graph(
            "Packets in a burst",
            Query(
                _rate("headrace_worker_burst_packets_sum", "worker")
                + " / ("
                + _rate("headrace_worker_burst_packets_count", "worker")
                + " > 0) or 0 * sum by (worker) (headrace_worker_busy_seconds_total"
                + f"{{{_ON}}})",
                "worker {{worker}}",
            ),
            "Packets taken in at once, on average. Near workers.burst (64) the worker always finds "
            "more than it can take: it is at its limit, whatever Busy says.",
            unit="short",
            steps=Steps(warn=48),
            span=12,
        ),
        graph(
            "Latency",
            _latency(),
            "How long workers had packets, from when they asked the device for them until they "
            "were sent. Grows with the burst under load; without load long ones are interruptions: "
            "compare headrace_worker_longest_gap_seconds, and look for others on the CPU.",
            unit="s",
            span=12,
        ),
    ),
)

_PORTS = Row(
    "Ports",
    (
        graph(
            "Received packets",
            Query(_rate("headrace_port_receive_packets_total", "port"), "{{port}}"),
            "Packets by port. A port that should carry traffic and does not: is its link up, does "
            "the other side send?",
            unit="pps",
            span=8,
        ),
        graph(
            "Transmitted packets",
            Query(_rate("headrace_port_transmit_packets_total", "port"), "{{port}}"),
            "Packets by port. Received and not transmitted: see the drops.",
            unit="pps",
            span=8,
        ),
        graph(
            "Bits",
            [
                Query("8 * " + _rate("headrace_port_receive_bytes_total", "port"), "in {{port}}"),
                Query("8 * " + _rate("headrace_port_transmit_bytes_total", "port"), "out {{port}}"),
            ],
            "Bits by port. Near the link's speed: the link is the limit, not Headrace.",
            unit="bps",
            span=8,
        ),
        graph(
            "Receive queues",
            Query(
                _rate("headrace_port_queue_receive_packets_total", "port, queue")
                + " or on () "
                + _rate("headrace_port_receive_packets_total", "port"),
                "{{port}} queue {{queue}}",
            ),
            "How the device spreads packets over queues, and so over workers. Uneven: few flows, "
            "or a device that does not hash what it carries. Without queue: not counted by it.",
            unit="pps",
        ),
        graph(
            "Uplink packets",
            [
                Query(
                    _rate("headrace_uplink_receive_packets_total", "uplink")
                    + ' or on () label_replace(vector(0), "uplink", "none", "", "")',
                    "in {{uplink}}",
                ),
                Query(
                    _rate("headrace_uplink_transmit_packets_total", "uplink")
                    + ' or on () label_replace(vector(0), "uplink", "none", "", "")',
                    "out {{uplink}}",
                ),
            ],
            "Overlay packets to and from other nodes. Out and nothing in: the underlay does not "
            "route this node's prefix to it; see status.nodes of the Pipeline.",
            unit="pps",
        ),
    ),
)

_GRAPH = Row(
    "Packet path",
    (
        graph(
            "Cycles for a packet",
            Query(
                f"{_rate('headrace_node_seconds_total', 'graph_node')} "
                f"/ ({_rate('headrace_node_packets_total', 'graph_node')} > 0) "
                f"* on () group_left () max(headrace_tsc_hertz{{{_ON}}}) "
                f"or 0 * sum by (graph_node) (headrace_node_seconds_total{{{_ON}}})",
                "{{graph_node}}",
            ),
            "CPU cycles that each step of the path takes for one packet (sampled). Compare with "
            "docs/performance.md: much more means small bursts, cold caches or memory of another "
            "NUMA node.",
            unit="short",
        ),
        graph(
            "Packets by step",
            Query(_rate("headrace_node_packets_total", "graph_node"), "{{graph_node}}"),
            "Packets through each step. arp, nd, local, icmp-error and resolve are exceptions: "
            "much there beside ip4 and ip6 is somebody probing, or a neighbour that flaps.",
            unit="pps",
        ),
    ),
)

_MEMORY = Row(
    "Memory and tables",
    (
        graph(
            "Packet buffers",
            Query(
                f'label_replace(headrace_mempool_in_use{{{_ON}}}, "what", "in use", "", "") or '
                f'label_replace(headrace_mempool_kept{{{_ON}}}, "what", "kept", "", "") or '
                f'label_replace(headrace_mempool_size{{{_ON}}}, "what", "size", "", "")',
                "{{mempool}} {{what}}",
            ),
            "Buffers taken, those that the engine and its ports may come to hold, and all there "
            "are. Close together: ports are refused, or packets lost, for want of buffers; raise "
            "the Pipeline's hugepages or memory.",
            unit="short",
            span=8,
        ),
        graph(
            "DPDK heap",
            Query(
                f"headrace_heap_allocated_bytes{{{_ON}}} / headrace_heap_bytes{{{_ON}}}", "{{heap}}"
            ),
            "Allocated part of the engine's memory. Near 100% new ports and networks are refused: "
            "raise the Pipeline's hugepages or memory.",
            unit="percentunit",
            maximum=1,
            steps=Steps(warn=0.8, bad=0.95),
            span=8,
        ),
        graph(
            "Routes",
            [
                Query(f"headrace_routes{{{_ON}}}", "routes"),
                Query(f"headrace_adjacencies{{{_ON}}}", "adjacencies"),
            ],
            "Size of the forwarding tables; a million routes at most. A fall that nobody ordered: "
            "look at the Slices and the operator.",
            unit="short",
            span=8,
        ),
    ),
)


def dashboard() -> models.Dashboard:
    """Return the dashboard."""
    return page(
        "headrace-node",
        "Headrace / Node",
        "One Pipeline's engine on one node: health, loss, workers, ports, path, memory.",
        (
            choice("pipeline", "Pipeline", "label_values(headrace_engine_up, pipeline)"),
            choice("node", "Node", 'label_values(headrace_engine_up{pipeline="$pipeline"}, node)'),
        ),
        (_WELL, _LOSS, _WORKERS, _PORTS, _GRAPH, _MEMORY),
    )
