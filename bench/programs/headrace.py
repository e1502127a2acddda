# SPDX-License-Identifier: Apache-2.0
"""Headrace's own engine, told over its control socket what the agent would tell it."""

import itertools
import subprocess
import time
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path

from bench import captures
from bench.cases import Case
from bench.programs import (
    SECONDS,
    WARM_UP,
    Measurement,
    Setting,
    mbufs,
    memory_mib,
    undisturb,
    until,
)
from headrace_dataplane.engine import find_engine
from headrace_dataplane.protocol import EngineClient, EngineError, JSONObject, Put
from headrace_dataplane.telemetry import TelemetryClient

NETWORK = "bench/net"
GATEWAY_MAC = bytes.fromhex("026872000001")
UPLINK_MAC = bytes.fromhex("020000000001")
HERE, SINK, THERE = (
    "fd00:1:0:1:0:100:0:2",
    str(captures.UNDERLAY_HERE),
    str(captures.UNDERLAY_THERE),
)
SLICE = 256


def put(kind: str, key: str, spec: JSONObject) -> Put:
    """Return an object; nobody compares its hash."""
    return Put(kind, key, "-", spec)


def slices(prefixes: Iterable[str], next_hop: str, name: str = "s") -> Iterator[Put]:
    """Yield routes objects of 256 routes, as Slices are."""
    remaining = iter(prefixes)
    for number in itertools.count():
        routes = [[prefix, next_hop] for prefix in itertools.islice(remaining, SLICE)]
        if not routes:
            return
        yield put("routes", f"{name}.{number}", {"network": NETWORK, "routes": routes})  # type: ignore[dict-item]


def interface(port: str, addresses: list[str], underlay: str) -> JSONObject:
    """Return the spec of an Interface whose endpoint is known."""
    return {
        "port": port,
        "network": NETWORK,
        "addresses": [*addresses],
        "prefixes": [],
        "gateways": ["10.0.0.1", "fe80::1"],
        "mac": captures.SOURCE_MAC.hex(":"),
        "underlay": underlay,
        "sourceCheck": True,
        "mtu": 1500,
    }


def objects(case: Case, port_in: str, port_out: str) -> list[Put]:
    """Return all but the routes: packets come in by port "in" and leave by port "out"."""
    settings: JSONObject = {
        "idle": "poll",
        "burst": 64,
        "icmpPerSecond": 1000,
        "underlayPrefixes": ["fd00:1::/48"],
        "underlaySourceCheck": True,
    }
    found = [
        put("settings", "engine", settings),
        put(
            "port",
            "in",
            {
                "devargs": port_in,
                "rxQueues": 1,
                "mtu": 1500,
                "mac": ":".join(f"{byte:02x}" for byte in UPLINK_MAC),
            },
        ),
        put("port", "out", {"devargs": port_out, "rxQueues": 1, "mtu": 1600}),
        put("network", NETWORK, {"vni": 1, "gateways": ["10.0.0.1"]}),
    ]
    uplink: JSONObject = {
        "mtu": 1600,
        "addresses": ["fd00:1:0:1::1"],
        "onLink": ["fd00:1::/48"],
        "neighbors": [{"address": THERE, "mac": "02:00:00:00:00:98"}],
    }
    if case.job == "decap":
        found.append(put("uplink", "up", {**uplink, "port": "in"}))
    else:
        found.append(
            put("interface", "bench/in", interface("in", ["10.0.0.2", "fd00:10::2"], HERE))
        )
    if case.job == "encap":
        found.append(put("uplink", "up", {**uplink, "port": "out"}))
    else:
        found.append(
            put("interface", "bench/out", interface("out", ["10.0.0.3", "fd00:10::3"], SINK))
        )
    return found


@contextmanager
def engine(setting: Setting, case: Case) -> Iterator[EngineClient]:
    """Run an engine; its log goes to a file that an error names."""
    socket, log = setting.folder / "engine.sock", setting.folder / "engine.log"
    command: list[str | Path] = [
        find_engine(),
        "--socket",
        socket,
        "--name",
        "bench",
        "--runtime-dir",
        setting.folder,
        "--cpus",
        f"{setting.control},{setting.worker}",
        "--mbufs",
        str(mbufs(case)),
        "--memory",
        str(memory_mib(case)),
    ]
    with log.open("w") as output:
        process = subprocess.Popen(command, stderr=output)
    try:
        client = EngineClient(socket)

        def answers() -> bool:
            if process.poll() is not None:
                raise RuntimeError(f"the engine ended: {log.read_text()[-500:]}")
            try:
                client.hello()
            except EngineError:
                return False
            return True

        until(answers, "the engine did not answer")
        undisturb(process.pid, setting.worker)
        yield client
    finally:
        process.terminate()
        process.wait(20)


class Headrace:
    """One worker of the engine."""

    name = "headrace"

    def runs(self, case: Case) -> bool:
        """Every case."""
        del case
        return True

    def measure(self, case: Case, setting: Setting) -> Measurement:
        """Read the worker's own counters over SECONDS."""
        mac = UPLINK_MAC if case.job == "decap" else GATEWAY_MAC
        capture = captures.write(case, mac, setting.folder)
        with engine(setting, case) as client:
            generation = itertools.count(1)
            client.commit(
                next(generation),
                objects(case, f"net_pcap0,rx_pcap={capture},infinite_rx=1", "net_null0,no-rx=1"),
            )
            routes = list(slices(case.prefixes(), THERE if case.job == "encap" else SINK))
            for at in range(0, len(routes), 400):
                client.commit(next(generation), routes[at : at + 400])
            with TelemetryClient(Path(client.hello().telemetry)) as telemetry:
                time.sleep(WARM_UP)
                return sample(telemetry, "up" if case.job == "encap" else "bench/out")


def sample(telemetry: TelemetryClient, out: str) -> Measurement:
    """Compare two readings; packets that did not leave by `out` are an error."""
    command = "/headrace/uplink" if "/" not in out else "/headrace/interface"
    before = telemetry.object("/headrace/worker", 0)
    nodes = telemetry.object("/headrace/nodes", 0)
    sent, start = telemetry.object(command, out)["tx_packets"], time.monotonic()
    time.sleep(SECONDS)
    seconds = time.monotonic() - start
    sent = number(telemetry.object(command, out)["tx_packets"]) - number(sent)
    after = telemetry.object("/headrace/worker", 0)
    packets = number(after["packets"]) - number(before["packets"])
    if packets == 0 or sent < 0.9 * packets:
        raise RuntimeError(f"{packets} packets came in and {sent} left: nothing was measured")
    by_node: dict[str, float] = {}
    for name, now in telemetry.object("/headrace/nodes", 0).items():
        then = nodes[name]
        if isinstance(now, dict) and isinstance(then, dict) and now["objs"] != then["objs"]:
            by_node[name] = (number(now["cycles"]) - number(then["cycles"])) / packets
    busy = number(after["busy_cycles"]) - number(before["busy_cycles"])
    counts = [now - then for now, then in zip(latency(after), latency(before), strict=True)]
    bounds = [*numbers(after["latency_bounds_ns"]), float("inf")]
    return Measurement(sent / seconds / 1e6, busy / packets, by_node, quantiles(bounds, counts))


def latency(worker: JSONObject) -> list[int]:
    """Return how many packets each bucket has."""
    return numbers(worker["latency_packets"])


def quantiles(bounds: Sequence[float], counts: Sequence[int]) -> dict[str, float]:
    """Return by percentage the bound in microseconds below which so many packets are."""
    found = {}
    for percent in (50, 99, 99.9):
        reached = list(accumulate(counts))
        at = bisect_left(reached, reached[-1] * percent / 100)
        found[f"p{percent}"] = bounds[at] / 1000
    return found


def numbers(value: object) -> list[int]:
    """Return a list of counters."""
    if not isinstance(value, list):
        raise TypeError(f"{value!r} is no list")
    return [number(each) for each in value]


def number(value: object) -> int:
    """Return a counter."""
    if not isinstance(value, int):
        raise TypeError(f"{value!r} is not a counter")
    return value
