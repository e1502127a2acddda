# SPDX-License-Identifier: Apache-2.0
"""Routes into a running engine: how long, and what it costs the traffic."""

import itertools
import random
import time
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

from bench import captures
from bench.cases import Case
from bench.programs import Setting
from bench.programs.headrace import GATEWAY_MAC, SINK, engine, number, objects, put, slices
from headrace_dataplane.protocol import JSON, Put
from headrace_dataplane.telemetry import TelemetryClient

ROUTES = 100_000
LONG = 1_000_000
NETWORKS = 4096


def host_routes(first: int, count: int) -> Iterator[str]:
    """Yield /32s, far from the traffic's destinations."""
    for address in range(first, first + count):
        yield f"{64 + (address >> 16)}.{address >> 8 & 255}.{address & 255}.1/32"


def resident_mib(pid: int) -> float:
    """Return the memory of a process that is resident, MiB."""
    with open(f"/proc/{pid}/smaps_rollup") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Rss:")) / 1024


def measure(setting: Setting) -> dict[str, float]:
    """Return seconds for 100,000 and 1,000,000 routes, memory, and the packets lost meanwhile."""
    case = Case(4, "route")
    capture = captures.write(case, GATEWAY_MAC, setting.folder)
    generation = itertools.count(1)
    with engine(setting, case) as client:
        client.commit(
            next(generation),
            objects(case, f"net_pcap0,rx_pcap={capture},infinite_rx=1", "net_null0,no-rx=1"),
        )
        client.commit(next(generation), list(slices(case.prefixes(), SINK)))
        hello = client.hello()
        batches = {
            ROUTES: list(slices(host_routes(0, ROUTES), SINK, "a")),
            LONG: list(slices(host_routes(ROUTES, LONG - ROUTES - 10), SINK, "b")),
        }
        seconds: dict[int, float] = {}
        with TelemetryClient(Path(hello.telemetry)) as telemetry:
            # From the first route there is a way for every packet: later none may be lost.
            drops = total(telemetry.object("/headrace/drops"))
            before, mib = telemetry.object("/headrace/worker", 0), resident_mib(hello.pid)
            for count, batch in batches.items():
                start = time.monotonic()
                for at in range(0, len(batch), 400):
                    client.commit(next(generation), batch[at : at + 400])
                seconds[count] = time.monotonic() - start
            after = telemetry.object("/headrace/worker", 0)
            lost = total(telemetry.object("/headrace/drops")) - drops
            info = telemetry.object("/headrace/info")
            return {
                "routes_100k_seconds": seconds[ROUTES],
                "routes_1m_seconds": sum(seconds.values()),
                "routes_1m_rss_mib": resident_mib(hello.pid) - mib,
                "routes_1m_fib_mib": number(info["fib_bytes"]) / (1 << 20),
                "packets_meanwhile": number(after["packets"]) - number(before["packets"]),
                "packets_lost": lost,
            }


def measure_networks(setting: Setting) -> dict[str, float]:
    """Return the memory of 4096 networks of 16 IPv4 routes, half of them far-off host routes."""
    case = Case(4, "route")
    rng = random.Random(1)
    with engine(setting, case) as client:
        hello = client.hello()
        generation = itertools.count(1)
        before = resident_mib(hello.pid)
        for first in range(0, NETWORKS, 256):
            batch: list[Put] = []
            for index in range(first, first + 256):
                name = f"bench/n{index}"
                routes: list[JSON] = [
                    [f"10.{rng.randrange(256)}.{third}.0/24", SINK] for third in range(8)
                ]
                routes += [
                    [str(IPv4Address(rng.randrange(1 << 24, 10 << 24))), SINK] for _ in range(8)
                ]
                for route in routes[8:]:
                    assert isinstance(route, list)
                    route[0] = f"{route[0]}/32"
                batch.append(put("network", name, {"vni": index + 1, "gateways": ["10.0.0.1"]}))
                batch.append(put("routes", name, {"network": name, "routes": routes}))
            client.commit(next(generation), batch)
        with TelemetryClient(Path(hello.telemetry)) as telemetry:
            info = telemetry.object("/headrace/info")
        return {
            "networks": NETWORKS,
            "networks_rss_mib": resident_mib(hello.pid) - before,
            "networks_fib_mib": number(info["fib_bytes"]) / (1 << 20),
        }


def total(drops: object) -> int:
    """Return the sum of all reasons."""
    if not isinstance(drops, dict):
        raise TypeError(f"{drops!r} is not a list of reasons")
    return sum(number(count) for count in drops.values())
