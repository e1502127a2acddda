# SPDX-License-Identifier: Apache-2.0
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from headrace_dataplane.http import HTTPServer
from headrace_dataplane.metrics import METRICS, EngineCollector, reference
from headrace_dataplane.protocol import Hello, Refusal
from headrace_dataplane.state import AgentState
from headrace_http import parse_address
from tests.unit.fake_engine import FakeTelemetry

REPOSITORY = Path(__file__).parents[2]

ANSWERS: dict[str, Any] = {
    "/headrace/info": {"routes": 5, "adjacencies": 2, "fib_bytes": 4096, "objects_port": 3},
    "/headrace/workers": [0],
    "/headrace/worker,0": {
        "lcore": 1,
        "cpu": 3,
        "busy_cycles": 500,
        "idle_cycles": 1000,
        "sleep_cycles": 0,
        "longest_gap_cycles": 25,
        "stalled": 1,
        "walks": 70,
        "packets": 99,
        "tsc_hz": 1000,
        "burst_1": 1,
        "burst_2_7": 2,
        "burst_8_31": 3,
        "burst_32_63": 4,
        "burst_64": 5,
        "latency_bounds_ns": [256, 362],
        "latency_packets": [1, 2, 4],
        "latency_ns": 2000,
    },
    "/headrace/nodes,0": {"ip4": {"calls": 7, "objs": 90, "cycles": 250}},
    "/headrace/drops": {"no_route": 7},
    "/headrace/drops,0": {"no_route": 6},
    "/headrace/interfaces": ["a/vm1"],
    "/headrace/interface,a/vm1": {
        "rx_packets": 1,
        "rx_bytes": 60,
        "tx_packets": 2,
        "tx_bytes": 120,
        "device_losses": 2,
        "drops": {"source": 4},
        "device": {
            "rx_packets": 10,
            "rx_bytes": 12,
            "rx_missed": 14,
            "rx_no_buffer": 17,
            "rx_errors": 15,
            "tx_packets": 11,
            "tx_bytes": 13,
            "tx_errors": 16,
            "rx_queue_packets": [6, 4],
            "tx_queue_packets": [11],
        },
    },
    "/headrace/uplinks": ["u0"],
    "/headrace/uplink,u0": {
        "rx_packets": 3,
        "rx_bytes": 180,
        "tx_packets": 4,
        "tx_bytes": 240,
        "device_losses": 1,
        "drops": {"runt": 1},
        "device": {"rx_missed": 21},
    },
    "/mempool/list": ["packets"],
    "/headrace/mempool,packets": {"size": 100, "in_use": 30, "kept": 60},
    "/eal/heap_list": [0, 1],
    "/eal/heap_info,0": {"Name": "socket_0", "Heap_size": 1000, "Alloc_size": 400},
    "/eal/heap_info,1": {"Name": "socket_1", "Heap_size": 0, "Alloc_size": 0},
}


@pytest.fixture
def state(tmp_path: Path) -> Iterator[AgentState]:
    fake = FakeTelemetry(tmp_path / "telemetry", ANSWERS.get)
    yield AgentState(
        hello=Hello(
            protocol=1,
            version="0.1.0",
            dpdk="DPDK 22.11.11",
            pid=1,
            generation=7,
            telemetry=str(fake.path),
            started=1700000000,
        ),
        engine_restarts=3,
        engine_stalls=2,
        wanted_generation=7,
        active_generation=7,
        ready=True,
        watches={"DataplaneConfig": True, "Slice": False},
        refused=(Refusal("port", "a/vm2", "", "NoSuchDevice", ""),),
        interfaces={"a/vm1": True, "a/vm2": False},
        networks={"a/vm1": "a/blue"},
    )
    fake.close()


def scrape(state: AgentState) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(EngineCollector(state))
    return registry


def test_what_is_exported_is_what_the_list_says(state: AgentState) -> None:
    exported = {}
    for metric in EngineCollector(state).collect():
        suffix = "_total" if metric.type == "counter" else ""
        ignored = {"le"} if metric.type == "histogram" else set()
        labels = {frozenset(sample.labels.keys() - ignored) for sample in metric.samples}
        exported[metric.name + suffix] = (metric.type, metric.documentation, labels)
    assert exported == {
        f"headrace_{d.name}": (d.kind, d.help, {frozenset(d.labels)}) for d in METRICS
    }


def test_the_reference_page_is_what_the_list_says() -> None:
    page = REPOSITORY / "docs/reference/metrics.md"
    assert page.read_text() == reference(), "run: python -m headrace_dataplane.metrics"


@pytest.mark.parametrize(
    ("name", "labels", "value"),
    [
        ("engine_up", {}, 1),
        ("engine_restarts_total", {}, 3),
        ("engine_stalls_total", {}, 2),
        ("worker_stalled", {"worker": "0"}, 1),
        ("config_lag_seconds", {}, 0),
        ("config_refused_objects", {"kind": "port"}, 1),
        ("watch_connected", {"kind": "DataplaneConfig"}, 1),
        ("watch_connected", {"kind": "Slice"}, 0),
        ("objects", {"kind": "port"}, 3),
        ("dropped_packets_total", {"reason": "no_route"}, 7),
        ("interface_info", {"interface": "a/vm1", "network": "a/blue"}, 1),
        ("interface_ready", {"interface": "a/vm2"}, 0),
        ("interface_receive_bytes_total", {"interface": "a/vm1"}, 60),
        ("interface_dropped_packets_total", {"interface": "a/vm1", "reason": "source"}, 4),
        ("interface_device_losses_total", {"interface": "a/vm1"}, 2),
        ("uplink_device_losses_total", {"uplink": "u0"}, 1),
        ("uplink_transmit_packets_total", {"uplink": "u0"}, 4),
        ("port_receive_missed_packets_total", {"port": "a/vm1"}, 14),
        ("port_receive_missed_packets_total", {"port": "uplink/u0"}, 21),
        ("port_receive_no_buffer_total", {"port": "a/vm1"}, 17),
        ("port_receive_errors_total", {"port": "a/vm1"}, 15),
        ("port_transmit_errors_total", {"port": "a/vm1"}, 16),
        ("port_transmit_errors_total", {"port": "uplink/u0"}, None),
        ("port_queue_receive_packets_total", {"port": "a/vm1", "queue": "1"}, 4),
        ("port_queue_receive_packets_total", {"port": "a/vm1", "queue": "2"}, None),
        ("worker_busy_seconds_total", {"worker": "0"}, 0.5),
        ("worker_longest_gap_seconds", {"worker": "0"}, 0.025),
        ("worker_burst_packets_bucket", {"worker": "0", "le": "31"}, 6),
        ("worker_burst_packets_bucket", {"worker": "0", "le": "+Inf"}, 15),
        ("worker_burst_packets_sum", {"worker": "0"}, 99),
        ("worker_latency_seconds_bucket", {"worker": "0", "le": "2.56e-07"}, 1),
        ("worker_latency_seconds_bucket", {"worker": "0", "le": "3.62e-07"}, 3),
        ("worker_latency_seconds_bucket", {"worker": "0", "le": "+Inf"}, 7),
        ("worker_latency_seconds_sum", {"worker": "0"}, 2e-6),
        ("worker_dropped_packets_total", {"worker": "0", "reason": "no_route"}, 6),
        ("node_seconds_total", {"worker": "0", "graph_node": "ip4"}, 0.25),
        ("mempool_in_use", {"mempool": "packets"}, 30),
        ("mempool_kept", {"mempool": "packets"}, 60),
        ("heap_allocated_bytes", {"heap": "socket_0"}, 400),
        ("heap_bytes", {"heap": "socket_1"}, None),
    ],
)
def test_values(state: AgentState, name: str, labels: dict[str, str], value: float | None) -> None:
    assert scrape(state).get_sample_value(f"headrace_{name}", labels) == value


def test_without_an_engine_the_agent_still_speaks(state: AgentState) -> None:
    state.hello = None
    state.active_generation = 0
    registry = scrape(state)
    assert registry.get_sample_value("headrace_engine_up") == 0
    assert registry.get_sample_value("headrace_config_generation_wanted") == 7
    lag = registry.get_sample_value("headrace_config_lag_seconds")
    assert lag is not None
    assert lag > 0


def get(address: str, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://{address}{path}") as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_http(state: AgentState) -> None:
    server = HTTPServer("127.0.0.1:0", state)
    try:
        assert get(server.address, "/healthz") == (200, "ok\n")
        assert get(server.address, "/readyz") == (200, "ok\n")
        status, text = get(server.address, "/metrics")
        assert status == 200
        assert 'headrace_interface_receive_packets_total{interface="a/vm1"} 1.0' in text
        state.ready = False
        assert get(server.address, "/readyz")[0] == 503
        state.hello = None
        assert get(server.address, "/readyz") == (503, "the engine does not run\n")
        assert get(server.address, "/else")[0] == 404
    finally:
        server.close()


def test_addresses() -> None:
    assert parse_address("127.0.0.1:9477") == ("127.0.0.1", 9477)
    assert parse_address("[::1]:80") == ("::1", 80)
    for wrong in ("localhost", "host:", "host:http", "host:70000"):
        with pytest.raises(ValueError, match="host:port"):
            parse_address(wrong)
