# SPDX-License-Identifier: Apache-2.0
"""The metrics of a node: read from the engine's telemetry socket at every scrape.

`METRICS` is the one list of them; `python -m headrace_dataplane.metrics` prints it as the
reference page.
"""

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Literal, TypeAlias

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from headrace_dataplane.protocol import JSON, EngineError, JSONObject
from headrace_dataplane.state import AgentState
from headrace_dataplane.telemetry import TelemetryClient
from headrace_dataplane.version import package_version

Kind: TypeAlias = Literal["counter", "gauge", "histogram"]

BURST_BUCKETS = (
    ("burst_1", "1"),
    ("burst_2_7", "7"),
    ("burst_8_31", "31"),
    ("burst_32_63", "63"),
    ("burst_64", "+Inf"),
)
"""The engine's counters of bursts by size, and the largest size that each counts."""


@dataclass(frozen=True)
class Description:
    """A metric without its `headrace_` prefix; counters end in `_total`."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    help: str


def _traffic(owner: str) -> Iterator[Description]:
    for direction, past in (("receive", "received from"), ("transmit", "transmitted to")):
        for unit in ("packets", "bytes"):
            name = f"{owner}_{direction}_{unit}_total"
            yield Description(name, "counter", (owner,), f"{unit.capitalize()} {past} the {owner}.")


METRICS: tuple[Description, ...] = (
    Description(
        "build_info",
        "gauge",
        ("version", "engine", "dpdk"),
        "Always 1; the labels are the versions of the agent, the engine and DPDK.",
    ),
    Description("engine_up", "gauge", (), "Whether the engine answers: 1 or 0."),
    Description(
        "engine_start_time_seconds", "gauge", (), "When the engine started, since the epoch."
    ),
    Description(
        "engine_restarts_total",
        "counter",
        (),
        "Engines that ended unasked and were started again by this agent.",
    ),
    Description(
        "engine_stalls_total",
        "counter",
        (),
        "How many of them this agent ended, because a worker did not walk for 3 seconds.",
    ),
    Description(
        "config_generation_wanted", "gauge", (), "The newest generation of the configuration."
    ),
    Description(
        "config_generation_active", "gauge", (), "The generation that the engine forwards by."
    ),
    Description(
        "config_lag_seconds",
        "gauge",
        (),
        "For how long a newer generation than the active one has been wanted; 0 when it is active.",
    ),
    Description(
        "config_refused_objects",
        "gauge",
        ("kind",),
        "Objects that the engine refuses; the agent's log and the conditions say why.",
    ),
    Description(
        "watch_connected",
        "gauge",
        ("kind",),
        "Whether the agent watches the kind at the API server: 1 or 0; absent in local mode.",
    ),
    Description("objects", "gauge", ("kind",), "Objects that the engine has."),
    Description("routes", "gauge", (), "Routes of all virtual networks."),
    Description("adjacencies", "gauge", (), "Rewrites that routes can lead to."),
    Description("fib_bytes", "gauge", (), "Memory of all route tables."),
    Description(
        "dropped_packets_total",
        "counter",
        ("reason",),
        "Packets that the engine dropped, its workers and its control thread together.",
    ),
    Description(
        "interface_info",
        "gauge",
        ("interface", "network"),
        "Always 1; the VirtualNetwork that the interface is in.",
    ),
    Description("interface_ready", "gauge", ("interface",), "Whether it forwards: 1 or 0."),
    *_traffic("interface"),
    Description(
        "interface_dropped_packets_total",
        "counter",
        ("interface", "reason"),
        "Packets from or to the interface that were dropped; absent until the reason occurs.",
    ),
    Description(
        "interface_device_losses_total",
        "counter",
        ("interface",),
        "How often its device went away: removed, reset, or its other side ended.",
    ),
    *_traffic("uplink"),
    Description(
        "uplink_dropped_packets_total",
        "counter",
        ("uplink", "reason"),
        "Packets from or to the uplink that were dropped; absent until the reason occurs.",
    ),
    Description(
        "uplink_device_losses_total",
        "counter",
        ("uplink",),
        "How often its device went away: removed, reset, or its other side ended.",
    ),
    *_traffic("port"),
    Description(
        "port_receive_missed_packets_total",
        "counter",
        ("port",),
        "Packets lost because a receive queue was full: the workers are too slow. 0 where the "
        "device does not count them.",
    ),
    Description(
        "port_receive_no_buffer_total",
        "counter",
        ("port",),
        "Receive buffers that could not be allocated: the mempool is too small.",
    ),
    Description(
        "port_receive_errors_total", "counter", ("port",), "Packets received with an error."
    ),
    Description(
        "port_transmit_errors_total", "counter", ("port",), "Packets that the device did not send."
    ),
    Description(
        "port_queue_receive_packets_total",
        "counter",
        ("port", "queue"),
        "Packets received by the queue; only the first 16 queues are counted by DPDK.",
    ),
    Description(
        "port_queue_transmit_packets_total",
        "counter",
        ("port", "queue"),
        "Packets transmitted by the queue; only the first 16 queues are counted by DPDK.",
    ),
    Description(
        "worker_info", "gauge", ("worker", "lcore", "cpu"), "Always 1; where the worker runs."
    ),
    Description(
        "worker_busy_seconds_total", "counter", ("worker",), "Time in walks that found packets."
    ),
    Description(
        "worker_idle_seconds_total", "counter", ("worker",), "Time in walks that found none."
    ),
    Description("worker_sleep_seconds_total", "counter", ("worker",), "Time asleep (Adaptive)."),
    Description(
        "worker_longest_gap_seconds",
        "gauge",
        ("worker",),
        "The longest that the worker did not look at its queues in the last 60 seconds, beyond "
        "what it slept on purpose: interrupts, others on its CPU, firmware, a long walk.",
    ),
    Description(
        "worker_stalled",
        "gauge",
        ("worker",),
        "Whether the worker has not walked for half a second or longer: 1 or 0.",
    ),
    Description("worker_walks_total", "counter", ("worker",), "Walks over the graph."),
    Description(
        "worker_burst_packets",
        "histogram",
        ("worker",),
        "Packets in a received burst: mostly full bursts mean that the worker is near its limit.",
    ),
    Description(
        "worker_latency_seconds",
        "histogram",
        ("worker",),
        "How long the worker had a packet, from when it asked the device for it until it was sent "
        "or dropped; of one walk in 31. Not how long it waited in the device before.",
    ),
    Description(
        "worker_dropped_packets_total",
        "counter",
        ("worker", "reason"),
        "Packets that the worker dropped.",
    ),
    Description(
        "node_calls_total",
        "counter",
        ("worker", "graph_node"),
        "Calls of the graph node, estimated from one in 16.",
    ),
    Description(
        "node_packets_total",
        "counter",
        ("worker", "graph_node"),
        "Packets given to the graph node, estimated.",
    ),
    Description(
        "node_seconds_total",
        "counter",
        ("worker", "graph_node"),
        "Time in the graph node, estimated.",
    ),
    Description(
        "tsc_hertz", "gauge", (), "Cycles in a second, to turn the seconds above into cycles."
    ),
    Description("mempool_size", "gauge", ("mempool",), "Elements of the mempool."),
    Description(
        "mempool_in_use",
        "gauge",
        ("mempool",),
        "Elements of the mempool that are neither in it nor in a worker's cache of it.",
    ),
    Description(
        "mempool_kept",
        "gauge",
        ("mempool",),
        "Packet buffers that the engine and its ports may come to hold. A port that may hold more "
        "than are left is refused.",
    ),
    Description("heap_bytes", "gauge", ("heap",), "Size of DPDK's heap."),
    Description("heap_allocated_bytes", "gauge", ("heap",), "Allocated part of DPDK's heap."),
)


class _Families:
    """The metrics of one scrape, in the order of METRICS."""

    def __init__(self) -> None:
        self._samples: dict[str, list[tuple[list[str], float]]] = {}
        self._histograms: dict[str, list[tuple[list[str], list[tuple[str, float]], float]]] = {}

    def add(self, name: str, value: JSON, *labels: str | int) -> None:
        """Add a sample, unless the engine gave no number for it."""
        if isinstance(value, int | float):
            self._samples.setdefault(name, []).append((list(map(str, labels)), float(value)))

    def add_histogram(
        self, name: str, buckets: list[tuple[str, float]], total: float, *labels: str | int
    ) -> None:
        """Add a histogram; its buckets are cumulative, up to "+Inf"."""
        self._histograms.setdefault(name, []).append((list(map(str, labels)), buckets, total))

    def metrics(self) -> Iterator[Metric]:
        for d in METRICS:
            name = f"headrace_{d.name}"
            if d.kind == "histogram":
                histogram = HistogramMetricFamily(name, d.help, labels=d.labels)
                for labels, buckets, total in self._histograms.get(d.name, []):
                    histogram.add_metric(labels, buckets, total)
                yield histogram
                continue
            make = CounterMetricFamily if d.kind == "counter" else GaugeMetricFamily
            family = make(name, d.help, labels=d.labels)
            for labels, value in self._samples.get(d.name, []):
                family.add_metric(labels, value)
            yield family


class EngineCollector(Collector):
    """Collects METRICS; a scrape while the engine is away has those of the agent alone."""

    def __init__(self, state: AgentState) -> None:
        self._state = state

    def collect(self) -> Iterable[Metric]:
        """Return one scrape."""
        families = _Families()
        hello = self._state.hello
        up = False
        if hello is not None:
            try:
                with TelemetryClient(Path(hello.telemetry)) as telemetry:
                    for read in (_engine, _workers, _endpoints, _memory):
                        read(families, telemetry)
                up = True
            except EngineError:
                # Half of the counters would look like a reset of the others.
                families = _Families()
        families.add("engine_up", up)
        _agent(families, self._state)
        return families.metrics()


def _agent(families: _Families, state: AgentState) -> None:
    hello = state.hello
    families.add(
        "build_info",
        1,
        package_version(),
        hello.version if hello else "",
        hello.dpdk_version if hello else "",
    )
    if hello is not None:
        families.add("engine_start_time_seconds", hello.started)
    lagging = state.active_generation != state.wanted_generation
    families.add("engine_restarts_total", state.engine_restarts)
    families.add("engine_stalls_total", state.engine_stalls)
    families.add("config_generation_wanted", state.wanted_generation)
    families.add("config_generation_active", state.active_generation)
    families.add("config_lag_seconds", time.monotonic() - state.wanted_since if lagging else 0)
    for kind, count in Counter(refusal.kind for refusal in state.refused).items():
        families.add("config_refused_objects", count, kind)
    for kind, connected in state.watches.items():
        families.add("watch_connected", connected, kind)
    for name, network in state.networks.items():
        families.add("interface_info", 1, name, network)
    for name, ready in state.interfaces.items():
        families.add("interface_ready", ready, name)


def _engine(families: _Families, telemetry: TelemetryClient) -> None:
    info = telemetry.object("/headrace/info")
    for name in ("routes", "adjacencies", "fib_bytes"):
        families.add(name, info.get(name))
    for name, value in info.items():
        if name.startswith("objects_"):
            families.add("objects", value, name.removeprefix("objects_"))
    for reason, count in telemetry.object("/headrace/drops").items():
        families.add("dropped_packets_total", count, reason)


def _workers(families: _Families, telemetry: TelemetryClient) -> None:
    hertz = 0
    for worker in telemetry.names("/headrace/workers"):
        own = telemetry.object("/headrace/worker", worker)
        hertz = _int(own, "tsc_hz")
        families.add("worker_info", 1, worker, _int(own, "lcore"), _int(own, "cpu"))
        families.add("worker_walks_total", own.get("walks"), worker)
        if "longest_gap_cycles" in own:  # An engine before 0.4.0 does not say.
            seconds = _seconds(_int(own, "longest_gap_cycles"), hertz)
            families.add("worker_longest_gap_seconds", seconds, worker)
        families.add("worker_stalled", own.get("stalled"), worker)  # As above.
        for state in ("busy", "idle", "sleep"):
            seconds = _seconds(_int(own, f"{state}_cycles"), hertz)
            families.add(f"worker_{state}_seconds_total", seconds, worker)
        counts = accumulate(_int(own, field) for field, _ in BURST_BUCKETS)
        bounds = (bound for _, bound in BURST_BUCKETS)
        buckets = [(bound, float(count)) for bound, count in zip(bounds, counts, strict=True)]
        families.add_histogram("worker_burst_packets", buckets, _int(own, "packets"), worker)
        _latency(families, own, worker)
        for reason, count in telemetry.object("/headrace/drops", worker).items():
            families.add("worker_dropped_packets_total", count, worker, reason)
        for node, counters in telemetry.object("/headrace/nodes", worker).items():
            if isinstance(counters, dict):
                families.add("node_calls_total", counters.get("calls"), worker, node)
                families.add("node_packets_total", counters.get("objs"), worker, node)
                seconds = _seconds(_int(counters, "cycles"), hertz)
                families.add("node_seconds_total", seconds, worker, node)
    if hertz:
        families.add("tsc_hertz", hertz)


def _latency(families: _Families, own: JSONObject, worker: str) -> None:
    if "latency_ns" not in own:  # An engine before 0.4.0 does not say.
        return
    bounds = [f"{ns / 1e9:.3g}" for ns in _ints(own, "latency_bounds_ns")]
    counts = accumulate(_ints(own, "latency_packets"))
    buckets = [(le, float(n)) for le, n in zip([*bounds, "+Inf"], counts, strict=True)]
    families.add_histogram("worker_latency_seconds", buckets, _int(own, "latency_ns") / 1e9, worker)


def _endpoints(families: _Families, telemetry: TelemetryClient) -> None:
    for owner, prefix in (("interface", ""), ("uplink", "uplink/")):
        for name in telemetry.names(f"/headrace/{owner}s"):
            own = telemetry.object(f"/headrace/{owner}", name)
            for direction, short in (("receive", "rx"), ("transmit", "tx")):
                for unit in ("packets", "bytes"):
                    value = own.get(f"{short}_{unit}")
                    families.add(f"{owner}_{direction}_{unit}_total", value, name)
            families.add(f"{owner}_device_losses_total", own.get("device_losses"), name)
            drops = own.get("drops")
            for reason, count in drops.items() if isinstance(drops, dict) else ():
                # Every reason for every Interface would be thousands of zeros.
                if count:
                    families.add(f"{owner}_dropped_packets_total", count, name, reason)
            device = own.get("device")
            if isinstance(device, dict):  # An engine before 0.4.0 does not say.
                _port(families, device, f"{prefix}{name}")


_PORT_COUNTERS = {
    "port_receive_packets_total": "rx_packets",
    "port_receive_bytes_total": "rx_bytes",
    "port_transmit_packets_total": "tx_packets",
    "port_transmit_bytes_total": "tx_bytes",
    "port_receive_missed_packets_total": "rx_missed",
    "port_receive_no_buffer_total": "rx_no_buffer",
    "port_receive_errors_total": "rx_errors",
    "port_transmit_errors_total": "tx_errors",
}


def _port(families: _Families, device: JSONObject, port: str) -> None:
    for name, field in _PORT_COUNTERS.items():
        families.add(name, device.get(field), port)
    for direction, short in (("receive", "rx"), ("transmit", "tx")):
        queues = device.get(f"{short}_queue_packets")
        for queue, value in enumerate(queues if isinstance(queues, list) else ()):
            families.add(f"port_queue_{direction}_packets_total", value, port, queue)


def _memory(families: _Families, telemetry: TelemetryClient) -> None:
    for pool in telemetry.names("/mempool/list"):
        own = telemetry.object("/headrace/mempool", pool)
        families.add("mempool_size", own.get("size"), pool)
        families.add("mempool_in_use", own.get("in_use"), pool)
        families.add("mempool_kept", own.get("kept"), pool)
    for heap in telemetry.names("/eal/heap_list"):
        info = telemetry.object("/eal/heap_info", heap)
        if _int(info, "Heap_size"):
            name = str(info.get("Name", heap))
            families.add("heap_bytes", info.get("Heap_size"), name)
            families.add("heap_allocated_bytes", info.get("Alloc_size"), name)


def _int(values: JSONObject, name: str) -> int:
    value = values.get(name)
    return value if isinstance(value, int) else 0


def _ints(values: JSONObject, name: str) -> list[int]:
    found = values.get(name)
    return [each for each in found if isinstance(each, int)] if isinstance(found, list) else []


def _seconds(cycles: int, hertz: int) -> float:
    return cycles / hertz if hertz else 0.0


def reference() -> str:
    """Return the reference page of METRICS, in Markdown."""
    lines = [
        "# Metrics",
        "",
        "`headrace run` and the agent of a node serve these at `http://127.0.0.1:9477/metrics`",
        "(`--metrics-address`), with `/healthz` (the agent lives) and `/readyz` (the engine runs",
        "and has reached a configuration). The engine's own are read anew at every scrape, for all",
        "who ask meanwhile, and are absent while it is away; a restarted one counts from 0.",
        "",
        "A connection is one request: 5 seconds to ask, 10 to take the answer. At the 65th the",
        "oldest of the address that has most is closed. With `--metrics-certificate` (the chart's",
        "`metrics.authentication: TokenReview`) all of it is by TLS, and `/metrics` for bearer",
        "tokens whose owner may `get` the nonResourceURL `/metrics`.",
        "",
        "An `interface` or `network` is named `namespace/name`; a `port` is named as the Interface",
        "or, with `uplink/` before it, the uplink that it serves.",
        "",
        "| metric | type | labels | meaning |",
        "|---|---|---|---|",
    ]
    for d in METRICS:
        labels = ", ".join(f"`{label}`" for label in d.labels)
        lines.append(f"| `headrace_{d.name}` | {d.kind} | {labels} | {d.help} |")
    lines += [
        "",
        "Written by `python -m headrace_dataplane.metrics`; a test keeps the two equal.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    print(reference(), end="")
