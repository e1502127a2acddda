# SPDX-License-Identifier: Apache-2.0
"""What the operator measures of itself: Prometheus metrics, all prefixed headrace_operator_."""

from collections.abc import Callable, Iterable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from headrace_kube import KubeError

_PREFIX = "headrace_operator"
_SECONDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

#: Families that are counted when they are asked for.
Snapshot = Callable[[], Iterable[Metric]]


class _Snapshots(Collector):
    def __init__(self) -> None:
        self.sources: list[Snapshot] = []

    def collect(self) -> Iterable[Metric]:
        for source in self.sources:
            yield from source()


class Metrics:
    """All metrics of one process."""

    def __init__(self, version: str) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._snapshots = _Snapshots()
        self.registry.register(self._snapshots)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, namespace=_PREFIX, registry=self.registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(name, text, labels, namespace=_PREFIX, registry=self.registry)

        def histogram(name: str, text: str) -> Histogram:
            return Histogram(
                name, text, namespace=_PREFIX, registry=self.registry, buckets=_SECONDS
            )

        gauge("info", "Version of the operator.", "version").labels(version).set(1)
        self.compile_seconds = histogram("compile_seconds", "Time of one incremental compilation.")
        self.queue_seconds = histogram("queue_seconds", "Time from enqueued to written.")
        self.writes = counter("writes", "Writes to the API server.", "kind", "result")
        self.events = counter("watch_events", "Watch events received.", "kind")
        self.last_event = gauge(
            "last_event_timestamp_seconds", "When the last watch event came.", "kind"
        )
        self.resynced = gauge(
            "resync_timestamp_seconds", "When all objects were last listed.", "kind"
        )
        self.leader = gauge("leader", "Whether this replica leads.")
        self.errors = counter(
            "api_errors", "Requests that the API server did not grant.", "operation", "code"
        )

    def failed(self, operation: str, error: KubeError) -> None:
        """Count a request that was not granted; code 0: the API server was not reached."""
        self.errors.labels(operation, str(error.status)).inc()

    def add(self, source: Snapshot) -> None:
        """Have the families of the source in every answer."""
        self._snapshots.sources.append(source)

    def text(self) -> bytes:
        """Everything, in Prometheus' text format."""
        return generate_latest(self.registry)


def counters(name: str, text: str, labels: tuple[str, ...]) -> CounterMetricFamily:
    """A family of what is counted elsewhere, to fill with `add_metric`."""
    return CounterMetricFamily(f"{_PREFIX}_{name}", text, labels=labels)


def gauges(name: str, text: str, labels: tuple[str, ...]) -> GaugeMetricFamily:
    """A family to fill with `add_metric`."""
    return GaugeMetricFamily(f"{_PREFIX}_{name}", text, labels=labels)
