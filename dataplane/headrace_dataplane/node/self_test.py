# SPDX-License-Identifier: Apache-2.0
"""What the engine does on this machine, without a network card: one worker, small packets.

It receives 256 flows of 64-byte frames from a capture, for ever, as by an Interface, looks up each
packet's route, and sends it to another Interface that throws it away. So the figure is that of the
CPU and its memory: what a card and its slot let through may be less.
"""

import os
import re
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from headrace_dataplane.engine import affinity, find_engine
from headrace_dataplane.protocol import EngineClient, EngineError, JSONObject, Put
from headrace_dataplane.telemetry import TelemetryClient

FLOWS = 256
_GATEWAY, _ENDPOINT = bytes.fromhex("026872000001"), bytes.fromhex("020000000002")
_IN, _OUT, _NETWORK = "self-test/in", "self-test/out", "self-test/net"
_SOURCE, _UNDERLAY_IN, _UNDERLAY_OUT = "10.0.0.2", "fd00:1:0:1:0:100:0:2", "fd00:1:0:1:0:100:0:3"
_START_SECONDS, _WARM_SECONDS, _POLL_SECONDS = 20.0, 0.5, 0.05
_LOG_CHARACTERS = 300


@dataclass(frozen=True)
class Throughput:
    """Of one worker."""

    cpu: int
    mpps: float
    """Millions of packets a second."""
    cycles_per_packet: float
    hugepages: bool
    """Whether the engine had some."""


def throughput(worker: int, control: int, seconds: float) -> Throughput:
    """Measure a worker on one CPU, with the control thread on another or the same.

    Raises EngineError when the engine is not there or does not run.
    """
    with tempfile.TemporaryDirectory(prefix="headrace-doctor-") as folder:
        capture = Path(folder) / "flows.pcap"
        capture.write_bytes(_capture())
        with _engine(Path(folder), worker, control) as (client, process):
            client.commit(1, list(_objects(capture)))
            with TelemetryClient(Path(client.hello().telemetry)) as telemetry:
                time.sleep(_WARM_SECONDS)
                first, began = _read(telemetry), time.monotonic()
                time.sleep(seconds)
                last, passed = _read(telemetry), time.monotonic() - began
            status = Path(f"/proc/{process}/status").read_text()
    sent, packets, busy = (after - before for before, after in zip(first, last, strict=True))
    if not packets or not sent:
        raise EngineError("no packet went through the engine")
    return Throughput(
        cpu=worker,
        mpps=round(sent / passed / 1e6, 2),
        cycles_per_packet=round(busy / packets, 1),
        hugepages=re.search(r"^HugetlbPages:\s*[1-9]", status, re.MULTILINE) is not None,
    )


@contextmanager
def _engine(folder: Path, worker: int, control: int) -> Iterator[tuple[EngineClient, int]]:
    socket, log = folder / "engine.sock", folder / "engine.log"
    shared = worker == control
    command = [
        str(find_engine()),
        *("--socket", str(socket), "--runtime-dir", str(folder), "--name", "doctor"),
        *("--cpus", str(worker) if shared else f"{control},{worker}", "--workers", "1"),
        *(["--share-control"] if shared else []),
    ]
    try:
        with log.open("wb") as output, affinity({worker, control}):
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
    except OSError as error:
        raise EngineError(f"{command[0]} on CPUs {control}, {worker}: {error.strerror}") from error
    try:
        with EngineClient(socket) as client:
            deadline = time.monotonic() + _START_SECONDS
            while not _answers(client):
                if process.poll() is not None:
                    last = log.read_text(errors="replace")[-_LOG_CHARACTERS:].strip()
                    raise EngineError(f"the engine ended at its start: {last}")
                if time.monotonic() > deadline:
                    raise EngineError(f"the engine did not answer in {_START_SECONDS:.0f} s")
                time.sleep(_POLL_SECONDS)
            yield client, process.pid
    finally:
        process.terminate()
        try:
            process.wait(_START_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(client: EngineClient) -> bool:
    try:
        client.hello()
    except EngineError:
        return False
    return True


def _read(telemetry: TelemetryClient) -> tuple[int, int, int]:
    """Packets sent, packets taken in, and cycles of the worker."""
    worker = telemetry.object("/headrace/worker", 0)
    sent = telemetry.object("/headrace/interface", _OUT)
    return _number(sent, "tx_packets"), _number(worker, "packets"), _number(worker, "busy_cycles")


def _number(counters: JSONObject, name: str) -> int:
    value = counters.get(name)
    return value if isinstance(value, int) else 0


def _objects(capture: Path) -> Iterator[Put]:
    """What the agent would send."""
    objects: list[tuple[str, str, JSONObject]] = [
        ("settings", "engine", {"idle": "poll", "burst": 64, "icmpPerSecond": 1000}),
        ("port", "in", _port(f"net_pcap0,rx_pcap={capture},infinite_rx=1")),
        ("port", "out", _port("net_null0,no-rx=1")),
        ("network", _NETWORK, {"vni": 1, "gateways": ["10.0.0.1"]}),
        ("interface", _IN, _interface("in", _SOURCE, _UNDERLAY_IN)),
        ("interface", _OUT, _interface("out", "10.0.0.3", _UNDERLAY_OUT)),
        ("routes", "routes", {"network": _NETWORK, "routes": [["48.0.0.0/8", _UNDERLAY_OUT]]}),
    ]
    for kind, key, spec in objects:
        yield Put(kind, key, "-", spec)


def _port(devargs: str) -> JSONObject:
    return {"devargs": devargs, "rxQueues": 1, "mtu": 1500}


def _interface(port: str, address: str, underlay: str) -> JSONObject:
    return {
        "port": port,
        "network": _NETWORK,
        "addresses": [address],
        "prefixes": [],
        "gateways": ["10.0.0.1"],
        "mac": _ENDPOINT.hex(":"),
        "underlay": underlay,
        "sourceCheck": True,
        "mtu": 1500,
    }


def _capture() -> bytes:
    """One frame of each flow, in pcap's own format."""
    data = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    for flow in range(FLOWS):
        frame = _GATEWAY + _ENDPOINT + b"\x08\x00" + _packet(flow)
        data += struct.pack("<IIII", 0, 0, len(frame), len(frame)) + frame
    return data


def _packet(flow: int) -> bytes:
    """IPv4 and UDP, 46 bytes: a frame of 64 with its checksum."""
    # Far apart, so that no two are in one line of the route table.
    destination = bytes([48, flow, flow * 7 & 255, 1])
    udp = struct.pack("!HHHH", 1024 + flow, 53, 26, 0) + bytes(18)
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0)
    head += bytes(map(int, _SOURCE.split("."))) + destination
    return head[:10] + _checksum(head).to_bytes(2, "big") + head[12:] + udp


def _checksum(header: bytes) -> int:
    """RFC 1071, over an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(header) // 2}H", header))
    total = (total & 0xFFFF) + (total >> 16)
    return ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF


def control_cpu(worker: int, workers: frozenset[int]) -> int:
    """The CPU of the control thread: if this process may use any, one that is no worker's."""
    mine = os.sched_getaffinity(0) - {worker}
    return min(mine - workers, default=min(mine, default=worker))
