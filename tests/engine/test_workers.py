# SPDX-License-Identifier: Apache-2.0
"""Two workers on two CPUs, one of them shared with the control thread; and how engines end."""

import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from scapy.layers.inet import UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from headrace_api.buffers import ORDINARY_MTU, buffer_bytes, engine_buffers, memory_mebibytes
from headrace_dataplane.protocol import EngineAbsentError, EngineClient, Port
from tests.engine import frames
from tests.engine.lab import Lab, put, settings
from tests.engine.process import Engine, Namespace
from tests.engine.site import (
    BLUE,
    REMOTE,
    REMOTE_GREEN,
    REMOTE_MAC,
    A,
    B,
    C,
    D,
    Site,
    checking,
    default_objects,
    remote,
    routes,
    tap,
)
from tests.engine.wire import Wire

FLOWS = 64
"""Of each sender."""

pytestmark = pytest.mark.skipif(
    len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs for two workers"
)


@pytest.fixture(scope="module")
def engine(
    binary: Path, namespace: Namespace, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Engine]:
    engine = Engine(binary, tmp_path_factory.mktemp("engine"), namespace, workers=2)
    yield engine
    engine.stop()


def test_both_workers_have_ports(site: Site) -> None:
    lab = site.lab
    assert [w.worker for w in lab.engine.client.hello().workers] == [0, 1]
    assert len({w.cpu for w in lab.engine.client.hello().workers}) == 2
    polled = {q.worker for port in lab.engine.client.items(Port) for q in port.rx_queues}
    assert polled == {0, 1}


def send_to_all(site: Site, rounds: int) -> None:
    """Each round: a to b and back, c to d and back, a to the uplink, the uplink to c."""
    lab = site.lab
    outer = IPv6(src=REMOTE_GREEN, dst=C.underlay)
    mac = site.uplink_mac

    def batch(sport: int) -> list[tuple[Wire, bytes]]:
        def udp(src: str, dst: str) -> Packet:
            return frames.udp(src, dst, sport=sport)

        made = [
            (site.a, frames.frame(A.hardware, udp(A.address4, B.address4))),
            (site.b, frames.frame(B.hardware, udp(B.address6, A.address6))),
            (site.c, frames.frame(C.hardware, udp(C.address6, D.address6))),
            (site.d, frames.frame(D.hardware, udp(D.address4, C.address4))),
            (site.a, frames.frame(A.hardware, udp(A.address4, remote(4)))),
            (site.up, frames.frame(REMOTE_MAC, outer / udp(remote(4), C.address4), mac)),
        ]
        return [(wire, bytes(frame)) for wire, frame in made]

    # The kernel chooses a device's queue by flow, differently after each boot.
    batches = [batch(sport) for sport in range(1024, 1024 + FLOWS)]
    for number in range(rounds):
        for wire, frame in batches[number % FLOWS]:
            wire.send(frame)
        if number % 50 == 49:
            for wire, _ in batches[0]:
                lab.taken(wire)


def test_forwards_on_both_without_loss(site: Site) -> None:
    lab = site.lab
    send_to_all(site, 1)
    lab.settle()
    rounds = 1000
    send_to_all(site, rounds)
    lab.settle()
    count = {name: 0 for name in lab.wires}
    for name, wire in lab.wires.items():
        count[name] = sum(UDP in Ether(data) for data in wire.inbox)
    once = rounds + 1
    assert count == {"a": once, "b": once, "c": 2 * once, "d": once, "up": once}
    walked = [
        lab.engine.telemetry.object("/headrace/worker", worker)["packets"] for worker in (0, 1)
    ]
    assert all(isinstance(packets, int) and packets > rounds for packets in walked)


def test_flows_between_two_underlay_addresses_are_spread_over_workers(
    lab: Lab, namespace: Namespace
) -> None:
    """All of one node's to one endpoint have the same outer addresses."""
    namespace.veth("up-nic", "up-far")
    devargs = "net_af_packet_up,iface=up-nic,qpairs=2,qdisc_bypass=1"
    port = put("port", "up", devargs=devargs, rxQueues=2, mtu=1500, netdev="up-nic")
    lab.commit(port, tap("c"))
    up = lab.connect("up", "up-far", REMOTE_MAC, ("uplink", "up"))
    c = lab.connect("c", "c", C.hardware, ("interface", C.key))
    lab.commit(*default_objects(C))
    mac = str(lab.item(Port, name="up").mac)

    def received(flows: range) -> list[int]:
        """Send so many packets of flows; return how many each worker has taken in of them."""
        before = by_worker(lab)
        for number in range(4 * FLOWS):
            inner = frames.udp(remote(4), C.address4, sport=flows[number % len(flows)])
            outer = IPv6(src=REMOTE_GREEN, dst=C.underlay)
            up.send(frames.frame(REMOTE_MAC, outer / inner, mac))
        lab.settle()
        assert sum(UDP in Ether(data) for data in c.inbox) == 4 * FLOWS
        c.inbox.clear()
        return [now - then for now, then in zip(by_worker(lab), before, strict=True)]

    assert min(received(range(1024, 1024 + FLOWS))) > FLOWS
    assert min(received(range(1024, 1025))) < FLOWS
    lab.clear()
    namespace.ip("link del up-nic")


def by_worker(lab: Lab) -> list[int]:
    """Packets that each worker has taken in."""
    found = [lab.engine.telemetry.object("/headrace/worker", worker) for worker in (0, 1)]
    return [int(str(each["packets"])) for each in found]


def test_waiting_packets_of_either_worker(lab: Lab) -> None:
    site = Site(lab, A, B, C, D)
    site.up.hosts = {}
    for endpoint in (A, B):
        for sport in range(10):
            packet = frames.udp(endpoint.address4, remote(4), sport=sport)
            lab.wires[endpoint.name].send(frames.frame(endpoint.hardware, packet))
    for name in ("a", "b"):
        lab.taken(lab.wires[name])
    site.up.hosts = {REMOTE: REMOTE_MAC}
    lab.settle()
    assert sum(UDP in Ether(data) for data in site.up.inbox) == 20


def test_changes_under_traffic_of_both(site: Site) -> None:
    lab = site.lab
    send_to_all(site, 1)
    lab.settle()
    for generation in range(20):
        send_to_all(site, 10)
        lab.commit(
            routes(
                "churn",
                BLUE,
                *([f"10.{200 + generation % 2}.{n}.0/24", REMOTE] for n in range(100)),
            ),
            checking(generation % 3 > 0, burst=1 + generation % 64),
        )
    lab.settle()
    assert sum(UDP in Ether(data) for data in site.b.inbox) == 201


def test_a_port_of_one_queue(lab: Lab) -> None:
    """A device with fewer transmit queues than workers: the other worker's packets get there."""
    site = Site(lab, A, C)
    lab.commit(
        put("port", "n", devargs="net_null_n,no-rx=1", rxQueues=1, mtu=1500),
        B.with_(extra={"port": "n"}).interface(),
        routes("b", BLUE, [f"{B.address4}/32", B.underlay]),
    )
    for _ in range(100):
        site.a.send(frames.frame(A.hardware, frames.udp(A.address4, B.address4)))
    lab.taken(site.a)
    reply = lab.engine.telemetry.object("/headrace/interface", "t/b")
    assert reply["tx_packets"] in range(100, 103)
    lab.disconnect("a")


# The process.


@pytest.fixture
def other(binary: Path, namespace: Namespace, tmp_path: Path) -> Engine:
    return Engine(binary, tmp_path, namespace)


def test_ends_cleanly_with_everything_in_place(other: Engine, namespace: Namespace) -> None:
    """SIGTERM with ports, neighbours and packets that wait: status 0, no leak, nothing left."""
    lab = Lab(other, namespace)
    lab.commit(settings())
    site = Site(lab, A.with_(name="y", mac=False))
    wire = lab.wires["y"]
    wire.hosts, site.up.hosts = {}, {}
    wire.send(frames.frame(A.hardware, frames.udp(A.address4, remote(4))))
    lab.taken(wire)
    assert any(lab.engine.client.items(Port))
    other.stop()
    assert not other.socket.exists()
    wire.close()
    site.up.close()
    with pytest.raises(EngineAbsentError), EngineClient(other.socket) as client:
        client.hello()


def test_hugepages_that_are_gone_when_it_starts(
    binary: Path, namespace: Namespace, tmp_path: Path
) -> None:
    """They were free a moment ago: for the engine they still are, for DPDK there are none."""
    nodes = [*Path("/sys/devices/system/node").glob("node*/hugepages")]
    if not nodes or not Path("/sys/kernel/mm/hugepages").exists():
        pytest.skip("this kernel has no hugepages")
    free, none = tmp_path / "free", tmp_path / "none"
    (free / "hugepages-2048kB").mkdir(parents=True)
    (free / "hugepages-2048kB" / "free_hugepages").write_text("1024\n")
    none.mkdir()
    program = tmp_path / "engine"
    mounts = [(free, node) for node in nodes] + [(none, Path("/sys/kernel/mm/hugepages"))]
    lines = [f"mount --bind {what} {where}" for what, where in mounts]
    program.write_text("\n".join(["#!/bin/sh -e", *lines, f'exec {binary} "$@" --hugepages auto']))
    program.chmod(0o755)
    engine = Engine(program, tmp_path, namespace)
    try:
        assert "the hugepages were taken meanwhile: using ordinary pages" in engine.output
        assert "128 MiB of ordinary pages" in engine.output
        # By it the agent knows that the engine is the one that it wants.
        arguments = Path(f"/proc/{engine.pid}/cmdline").read_text().split("\0")
        assert arguments[1:3] == ["--socket", str(engine.socket)]
        assert arguments[-3:] == ["--hugepages", "auto", ""]
    finally:
        engine.stop()


def test_ends_by_sigint_too(other: Engine) -> None:
    os.kill(other.pid, signal.SIGINT)
    other.stop()


def test_a_second_engine_does_not_take_the_socket(other: Engine, binary: Path) -> None:
    cpu = str(min(os.sched_getaffinity(0)))
    # DPDK's telemetry socket lies there, and the path of a socket is short.
    with tempfile.TemporaryDirectory() as folder:
        second = subprocess.run(
            [str(binary), "--socket", str(other.socket), "--name", f"second-{other.pid}",
             "--runtime-dir", folder, "--cpus", cpu, "--share-control",
             "--hugepages", "off", "--memory", "128"],
            capture_output=True, text=True, timeout=60, check=False,
            env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0"},
        )  # fmt: skip
    assert second.returncode == 1
    assert "cannot listen on" in second.stderr
    # As many buffers as the memory holds, and all that headrace_api.buffers knows of them.
    found = re.search(
        r"(\d+) packet buffers of (\d+) bytes, (\d+) of them for ports", second.stderr
    )
    assert found is not None, second.stderr
    count, size, for_ports = map(int, found.groups())
    assert size == buffer_bytes(ORDINARY_MTU)
    assert memory_mebibytes(count, ORDINARY_MTU) == 128
    assert memory_mebibytes(count + (1 << 20) // (size + 16), ORDINARY_MTU) == 129
    assert count - for_ports == engine_buffers(1)
    assert other.client.hello().pid == other.pid
    other.stop()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--name", "x"], "--socket is missing"),
        (["--socket", "s", "--workers", "0"], "--workers 0"),
        (["--socket", "s", "--cpus", "a"], "--cpus a"),
        (["--socket", "s", "--cpus", "0"], "one CPU is not enough"),
        (["--socket", "s", "--hugepages", "maybe"], "--hugepages maybe"),
        (["--socket", "s", "--mbufs", "1"], "--mbufs 1"),
        (["--socket", "s", "extra"], "unexpected argument extra"),
        (["--nonsense"], "unknown or incomplete option"),
    ],
)
def test_command_line(binary: Path, options: list[str], message: str) -> None:
    run = subprocess.run(
        [str(binary), *options], capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 2
    assert message in run.stderr
    assert "--help" in run.stderr


def test_version_and_help(binary: Path) -> None:
    for option, text in (("--version", "DPDK"), ("--help", "--share-control")):
        run = subprocess.run(
            [str(binary), option], capture_output=True, text=True, timeout=60, check=True
        )
        assert text in run.stdout
