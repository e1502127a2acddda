# SPDX-License-Identifier: Apache-2.0
"""An engine as a process in a network namespace of its own."""

import contextlib
import itertools
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from pyroute2 import netns

from headrace_dataplane.protocol import EngineAbsentError, EngineClient
from headrace_dataplane.telemetry import TelemetryClient

POLL_SECONDS = 0.002
STARTED_SECONDS = 60.0
ENDED_SECONDS = 60.0
MBUFS = 16384
"""Packet buffers of an engine."""

SANITIZER_OPTIONS = {
    "ASAN_OPTIONS": "detect_leaks=1:exitcode=66",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
}

_numbers = itertools.count()


def until(condition: Callable[[], bool], what: str, seconds: float = 20.0) -> None:
    """Poll a condition; fail after a time that only a broken engine can need."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"did not happen in {seconds:g} s: {what}")
        time.sleep(POLL_SECONDS)


class Namespace:
    """A network namespace whose kernel keeps silent on every device."""

    def __init__(self) -> None:
        self.name = f"headrace-{os.getpid()}-{next(_numbers)}"
        subprocess.run(["ip", "netns", "add", self.name], check=True)
        self.run("sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1")

    def run(self, *command: str) -> None:
        subprocess.run(["ip", "netns", "exec", self.name, *command], check=True)

    def ip(self, arguments: str) -> None:
        subprocess.run(["ip", "-n", self.name, *arguments.split()], check=True)

    def bridge(self, arguments: str) -> None:
        subprocess.run(["bridge", "-n", self.name, *arguments.split()], check=True)

    def veth(self, device: str, peer: str) -> None:
        """Make a pair of devices, up, without segmentation or checksums left to each other."""
        self.ip(f"link add {device} type veth peer name {peer}")
        for name in (device, peer):
            self.run("ethtool", "-K", name, "tx", "off", "gso", "off", "gro", "off")
            self.ip(f"link set {name} up mtu 9000")

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Sockets opened meanwhile belong to the namespace."""
        netns.pushns(self.name)
        try:
            yield
        finally:
            netns.popns()

    def remove(self) -> None:
        subprocess.run(["ip", "netns", "del", self.name], check=True)


def cpus(workers: int) -> list[str]:
    """Options that place the control thread and workers on the CPUs there are."""
    own = sorted(os.sched_getaffinity(0))
    wanted = own[: workers + 1]
    options = ["--cpus", ",".join(map(str, wanted)), "--workers", str(min(workers, len(wanted)))]
    return options if len(wanted) > workers else [*options, "--share-control"]


class Engine:
    """A running engine, its control socket and its telemetry."""

    def __init__(self, binary: Path, folder: Path, namespace: Namespace, workers: int = 1) -> None:
        number = next(_numbers)
        self.socket = folder / f"engine-{number}.sock"
        self.log = folder / f"engine-{number}.log"
        command = ["ip", "netns", "exec", namespace.name, str(binary)]
        command += ["--socket", str(self.socket), "--name", f"t{os.getpid()}-{number}"]
        command += ["--runtime-dir", str(folder), *cpus(workers)]
        command += ["--hugepages", "off", "--memory", "128", "--mbufs", str(MBUFS)]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                command, stderr=log, stdout=log, env={**os.environ, **SANITIZER_OPTIONS}
            )
        self.client = EngineClient(self.socket, timeout=30)
        try:
            until(self._answers, "the engine answers on its control socket", STARTED_SECONDS)
            self.telemetry = TelemetryClient(Path(self.client.hello().telemetry), timeout=30)
        except BaseException:
            self._process.kill()
            self._process.wait()
            raise

    def _answers(self) -> bool:
        assert self.alive, self.output
        try:
            self.client.hello()
        except EngineAbsentError:
            return False
        return True

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")[-20_000:]

    def kill(self) -> None:
        """End it with no chance to tidy up."""
        self._disconnect()
        self._process.kill()
        self._process.wait()

    def _disconnect(self) -> None:
        self.client.close()
        self.telemetry.__exit__(None, None, None)

    def ended(self) -> int:
        """Wait until it has ended by itself; return its status, -n after signal n."""
        status = self._process.wait(ENDED_SECONDS)
        self._disconnect()
        return status

    def stop(self) -> None:
        """End it by SIGTERM; a report of a sanitizer or another status than 0 is an error."""
        self._disconnect()
        self._process.send_signal(signal.SIGTERM)
        try:
            status = self._process.wait(ENDED_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise AssertionError(f"the engine did not end after SIGTERM:\n{self.output}") from None
        output = self.output
        assert status == 0, f"the engine ended with {status}:\n{output}"
        assert "Sanitizer" not in output and "runtime error:" not in output, output
