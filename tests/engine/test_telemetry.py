# SPDX-License-Identifier: Apache-2.0
"""The telemetry commands are there, and their numbers add up."""

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial

import pytest
from scapy.layers.inet import UDP

from headrace_api.buffers import ORDINARY_MTU, buffer_bytes, engine_buffers
from headrace_dataplane.protocol import Delete, JSONObject
from headrace_dataplane.telemetry import TelemetryClient
from tests.engine import frames
from tests.engine.lab import Lab, put
from tests.engine.process import MBUFS, Namespace, until
from tests.engine.site import BLUE, A, B, Site, network, remote, tap
from tests.engine.wire import Wire

LOSSES = ("rx_missed", "rx_no_buffer", "rx_errors", "tx_errors")
MANY = 4000
"""Frames, more than the kernel keeps for one who does not take them."""
WAITING = 60
"""Packets, as many as may wait for one neighbour at most."""


def ask(lab: Lab, command: str, parameter: str | int | None = None) -> JSONObject:
    found = lab.engine.telemetry.object(command, parameter)
    assert found, command
    return found


def number(reply: JSONObject, name: str) -> int:
    value = reply[name]
    assert isinstance(value, int), name
    return value


def integers(reply: JSONObject, name: str) -> list[int]:
    value = reply[name]
    assert isinstance(value, list), name
    return [each for each in value if isinstance(each, int)]


def test_commands(site: Site) -> None:
    commands = site.lab.engine.telemetry.names("/")
    assert {
        "/headrace/info", "/headrace/workers", "/headrace/worker", "/headrace/nodes",
        "/headrace/interfaces", "/headrace/interface", "/headrace/uplinks", "/headrace/uplink",
        "/headrace/drops", "/headrace/drop_reasons", "/headrace/mempool",
        "/mempool/list", "/eal/heap_list", "/eal/params",
    } <= set(commands)  # fmt: skip


def test_info(site: Site) -> None:
    info = ask(site.lab, "/headrace/info")
    assert info["version"] == site.lab.engine.client.hello().version
    assert info["generation"] == site.lab.engine.client.hello().generation
    assert number(info, "workers") == len(site.lab.engine.client.hello().workers)
    counts = {name: info[f"objects_{name}"] for name in (
        "settings", "port", "network", "uplink", "interface", "routes")}  # fmt: skip
    assert counts == {
        "settings": 1, "port": 5, "network": 2, "uplink": 1, "interface": 4, "routes": 2,
    }  # fmt: skip
    assert info["networks"] == 2
    assert number(info, "routes") >= 12
    assert number(info, "adjacencies") > 8
    assert number(info, "fib_bytes") > 0
    assert abs(number(info, "started") - site.lab.engine.client.hello().started) < 2


def test_names(site: Site) -> None:
    telemetry = site.lab.engine.telemetry
    assert set(telemetry.names("/headrace/interfaces")) == {"t/a", "t/b", "t/c", "t/d"}
    assert telemetry.names("/headrace/uplinks") == ["up"]


def test_counters_of_one_flow(site: Site) -> None:
    """Packets and bytes of every kind of way: delivered, encapsulated, dropped."""
    lab = site.lab
    delivered = frames.frame(A.hardware, frames.udp(A.address4, B.address4, b"d" * 100))
    encapsulated = frames.frame(A.hardware, frames.udp(A.address4, remote(4), b"e" * 200))
    dropped = frames.frame(A.hardware, frames.udp("192.0.2.1", B.address4, b"f" * 300))
    site.a.send(encapsulated)
    lab.receive(site.up, frames.has(UDP))
    lab.settle()
    before = {name: lab.counters(name) for name in ("a", "b", "up")}
    drops = ask(lab, "/headrace/drops")
    for _ in range(7):
        site.a.send(delivered)
        site.a.send(encapsulated)
        site.a.send(dropped, drop="source")
    lab.settle()
    after = {name: lab.counters(name) for name in ("a", "b", "up")}
    got = {name: after[name].values - before[name].values for name in after}
    assert got["a"] == {
        "rx_packets": 21,
        "rx_bytes": 7 * (len(delivered) + len(encapsulated) + len(dropped)),
    }
    assert got["b"] == {"tx_packets": 7, "tx_bytes": 7 * len(delivered)}
    assert got["up"] == {"tx_packets": 7, "tx_bytes": 7 * (len(encapsulated) + 40)}
    assert after["a"].drops - before["a"].drops == {"source": 7}
    assert number(ask(lab, "/headrace/drops"), "source") == number(drops, "source") + 7


def test_what_a_device_has_counted(site: Site) -> None:
    """Where nothing is lost it is what the workers have counted."""
    lab = site.lab
    frame = bytes(frames.frame(A.hardware, frames.udp(A.address4, B.address4)))
    lab.send_all(site.a, [frame] * 30)
    lab.settle()
    both = {"rx_packets", "rx_bytes", "tx_packets", "tx_bytes"}

    def agree(name: str) -> bool:
        reply = ask(lab, "/headrace/interface", name)
        return {each: device(reply)[each] for each in both} == {each: reply[each] for each in both}

    for name in ("t/a", "t/b"):
        until(partial(agree, name), f"device and workers of {name} agree")
        now = device(ask(lab, "/headrace/interface", name))
        assert not any(number(now, each) for each in LOSSES)
        for short in ("rx", "tx"):
            packets = number(now, f"{short}_packets")
            assert packets >= 30 * ((name, short) in {("t/a", "rx"), ("t/b", "tx")})
            queues = now.get(f"{short}_queue_packets", [packets])  # DPDK 25.11 has none.
            assert isinstance(queues, list)
            assert sum(each for each in queues if isinstance(each, int)) == packets


def test_what_a_device_has_lost(lab: Lab, namespace: Namespace) -> None:
    """All that was sent was received or missed, and nothing besides."""
    namespace.veth("m-engine", "m-test")
    devargs = "net_pcap_m,rx_iface_in=m-engine,tx_iface=m-engine"
    lab.commit(
        put("port", "m", devargs=devargs, rxQueues=1, mtu=1500),
        network(BLUE, 100),
        A.with_(extra={"port": "m"}).interface(),
    )
    # Nobody answers them: the kernel may count among what it lost what the engine sends meanwhile.
    frame = bytes(frames.frame(A.hardware, frames.udp("192.0.2.1", B.address4, b"m" * 1400)))
    with closing(Wire(namespace, "m-test", A.hardware)) as wire:
        os.kill(lab.engine.pid, signal.SIGSTOP)
        try:
            for _ in range(MANY):
                wire.send(frame)
        finally:
            os.kill(lab.engine.pid, signal.SIGCONT)

    def all_told() -> bool:
        reply = ask(lab, "/headrace/interface", "t/a")
        now = device(reply)
        told = number(now, "rx_packets") + number(now, "rx_missed")
        return now["rx_packets"] == reply["rx_packets"] and MANY <= told <= MANY + number(
            now, "tx_packets"
        )

    until(all_told, "each frame was received or missed")
    now = device(ask(lab, "/headrace/interface", "t/a"))
    assert number(now, "tx_packets") < 10
    assert [each for each in LOSSES if now[each]] == ["rx_missed"]
    lab.clear()
    namespace.ip("link del m-engine")


def test_devices_are_closed_while_they_are_asked(lab: Lab) -> None:
    """DPDK's own command for that is no match for it: see telemetry.c."""
    made = [tap("a"), network(BLUE, 100), A.interface()]
    gone = [Delete("interface", "t/a"), Delete("port", "a")]
    ended = threading.Event()

    def read() -> None:
        with TelemetryClient(lab.engine.telemetry.path) as telemetry:
            while not ended.is_set():
                telemetry.get("/headrace/interface", "t/a")

    with ThreadPoolExecutor(2) as readers:
        asking = [readers.submit(read) for _ in range(2)]
        try:
            for _ in range(20):
                lab.commit(*made)
                lab.commit(*gone)
        finally:
            ended.set()
        for each in asking:
            each.result()
    assert lab.engine.alive


def device(reply: JSONObject) -> JSONObject:
    value = reply["device"]
    assert isinstance(value, dict)
    return value


def test_workers(site: Site) -> None:
    lab = site.lab
    workers = lab.engine.telemetry.names("/headrace/workers")
    assert workers == [str(w.worker) for w in lab.engine.client.hello().workers]
    packet = bytes(frames.frame(A.hardware, frames.udp(A.address4, B.address4)))
    before = ask(lab, "/headrace/worker", 0)
    lab.send_all(site.a, [packet] * 300)
    lab.settle()
    after = ask(lab, "/headrace/worker", 0)
    assert number(after, "packets") - number(before, "packets") == 300
    bursts = number(after, "bursts") - number(before, "bursts")
    fills = [f"burst_{fill}" for fill in ("1", "2_7", "8_31", "32_63", "64")]
    assert sum(number(after, f) - number(before, f) for f in fills) == bursts
    assert 300 / 64 <= bursts <= 300
    for name in ("busy_cycles", "walks"):
        assert number(after, name) > number(before, name)
    worker = lab.engine.client.hello().workers[0]
    assert (after["lcore"], after["cpu"]) == (worker.lcore, worker.cpu)
    assert number(after, "tsc_hz") > 0
    assert set(ask(lab, "/headrace/nodes", 0)) == {
        "rx", "tx", "ip4", "ip6", "decap", "arp", "nd", "local", "icmp_error", "resolve",
    }  # fmt: skip


def test_a_gap_of_a_worker_is_seen(site: Site) -> None:
    """Stopped for a while, it has been away, less what it slept or ran before it heard of that."""
    lab = site.lab
    stopped, away = 0.6, 0.3
    os.kill(lab.engine.pid, signal.SIGSTOP)
    try:
        end = time.monotonic() + stopped
        until(lambda: time.monotonic() >= end, "the engine was stopped for long enough")
    finally:
        os.kill(lab.engine.pid, signal.SIGCONT)
    for worker in lab.engine.telemetry.names("/headrace/workers"):

        def seen(worker: str = worker) -> bool:
            reply = ask(lab, "/headrace/worker", worker)
            return number(reply, "longest_gap_cycles") >= away * number(reply, "tsc_hz")

        until(seen, f"worker {worker} was away")


def test_latencies_are_counted(site: Site) -> None:
    """Of some walks, all packets of each."""
    lab = site.lab
    packet = bytes(frames.frame(A.hardware, frames.udp(A.address4, B.address4)))

    def counted() -> bool:
        lab.send_all(site.a, [packet] * 100)
        reply = ask(lab, "/headrace/worker", 0)
        bounds, packets = (integers(reply, f"latency_{of}") for of in ("bounds_ns", "packets"))
        assert (bounds[0], len(bounds)) == (256, len(packets) - 1)
        assert bounds == sorted(bounds)
        assert sum(packets) <= number(reply, "packets")
        return sum(packets) > 0 and number(reply, "latency_ns") > 0

    until(counted, "latencies are counted")


def test_nodes_are_measured(site: Site) -> None:
    """Only some walks are measured: the figures grow with packets, not one by one."""
    lab = site.lab
    packet = bytes(frames.frame(A.hardware, frames.udp(A.address4, B.address4)))
    before = ask(lab, "/headrace/nodes", 0)

    def grown() -> bool:
        lab.send_all(site.a, [packet] * 100)
        now = ask(lab, "/headrace/nodes", 0)
        return all(
            number(figures(now, node), figure) > number(figures(before, node), figure)
            for node in ("rx", "ip4", "tx")
            for figure in ("calls", "objs", "cycles")
        )

    until(grown, "the nodes' figures grow")


def figures(reply: JSONObject, node: str) -> JSONObject:
    value = reply[node]
    assert isinstance(value, dict)
    return value


def test_drops_add_up(site: Site) -> None:
    """The sum over Interfaces and uplinks, the sum over workers, and the engine's sum agree."""
    lab = site.lab
    reasons = ("no_route", "source", "not_for_us")

    def sums() -> list[tuple[int, int]]:
        """Of the engine, and of its workers."""
        total = ask(lab, "/headrace/drops")
        assert len(total) >= 28
        workers = lab.engine.client.hello().workers
        parts = [ask(lab, "/headrace/drops", w.worker) for w in workers]
        return [(number(total, r), sum(number(part, r) for part in parts)) for r in reasons]

    before = sums()
    site.a.send(frames.frame(A.hardware, frames.udp(A.address4, "198.51.100.1")), drop="no_route")
    site.b.send(frames.frame(B.hardware, frames.udp(A.address4, B.address4)), drop="source")
    site.up.send(b"\0" * 60, drop="not_for_us")
    lab.settle()
    assert sums() == [(total + 1, workers + 1) for total, workers in before]
    for reason in reasons:
        assert sum(lab.counters(name).drops[reason] for name in lab.wires) == 1


def test_drops_of_a_port_that_is_gone_stay_in_the_totals(lab: Lab) -> None:
    """A total that falls is a restart to who reads it, and its whole value an increase."""
    site = Site(lab, A, B)
    worker = site.lab.engine.client.hello().workers[0].worker
    unrouted = frames.frame(A.hardware, frames.udp(A.address4, "198.51.100.1"))

    def grown() -> tuple[int, int]:
        """Of the engine and of its worker, since the test began."""
        everywhere, own = (ask(lab, "/headrace/drops", who) for who in (None, worker))
        return (number(everywhere, "no_route") - before, number(own, "no_route") - own_before)

    before = own_before = 0
    before, own_before = grown()
    for _ in range(5):
        site.a.send(unrouted, drop="no_route")
    lab.settle()
    assert grown() == (5, 5)
    lab.disconnect("a")
    lab.commit(Delete("interface", "t/a"), Delete("port", "a"))
    assert grown() == (5, 5)
    # Its number is free again, and the next port takes it.
    lab.commit(tap("a"))
    again = site.connect(A)
    lab.commit(A.interface())
    assert lab.counters("a").drops.total() == 0
    again.send(unrouted, drop="no_route")
    lab.settle()
    assert lab.counters("a").drops["no_route"] == 1
    assert grown() == (6, 6)


def test_mempools(site: Site) -> None:
    """Packets that wait for a neighbour are in use, and not once they have gone on."""
    lab = site.lab
    hosts, site.up.hosts = site.up.hosts, {}

    def in_use() -> int:
        return number(ask(lab, "/headrace/mempool", "packets"), "in_use")

    assert "packets" in lab.engine.telemetry.names("/mempool/list")
    pool = ask(lab, "/headrace/mempool", "packets")
    assert (pool["size"], pool["bytes"]) == (MBUFS, buffer_bytes(ORDINARY_MTU))
    # Taps copy: their queues hold none.
    assert pool["kept"] == engine_buffers(1)
    until(lambda: in_use() < WAITING, "nothing waits")
    packet = bytes(frames.frame(A.hardware, frames.udp(A.address4, remote(4))))
    lab.send_all(site.a, [packet] * WAITING)
    assert WAITING <= in_use() < MBUFS
    site.up.hosts = hosts
    lab.settle()
    until(lambda: in_use() < WAITING, "none waits any more")


@pytest.mark.parametrize(
    ("command", "parameter"),
    [
        ("/headrace/worker", 99), ("/headrace/worker", "x"), ("/headrace/worker", None),
        ("/headrace/nodes", 99), ("/headrace/nodes", -1), ("/headrace/drops", 64),
        ("/headrace/interface", "t/none"), ("/headrace/interface", None),
        ("/headrace/uplink", "none"), ("/headrace/mempool", "none"), ("/headrace/mempool", None),
    ],
)  # fmt: skip
def test_wrong_parameters(site: Site, command: str, parameter: str | int | None) -> None:
    assert not site.lab.engine.telemetry.get(command, parameter)
    assert ask(site.lab, "/headrace/info")
