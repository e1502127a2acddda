# SPDX-License-Identifier: Apache-2.0
"""The programs that are measured, each behind the same function."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from bench.cases import FLOWS, Case

SECONDS = 1.5
"""How long packets are counted."""
WARM_UP = 0.5


@dataclass(frozen=True)
class Setting:
    """Where to run: CPUs of the control thread and of the worker, and a folder for files."""

    control: int
    worker: int
    folder: Path


@dataclass(frozen=True)
class Measurement:
    """Packets of one worker: millions a second, TSC cycles a packet, in all and by node.

    Latency is how many microseconds it had half of the packets, 99 %, 99.9 %, at most; none where a
    program does not say.
    """

    mpps: float
    cycles: float
    nodes: dict[str, float] = field(default_factory=dict)
    latency: dict[str, float] = field(default_factory=dict)


class Program(Protocol):
    """One of the programs compared."""

    name: str

    def runs(self, case: Case) -> bool:
        """Return whether the program can do this case's job."""

    def measure(self, case: Case, setting: Setting) -> Measurement:
        """Start the program, let it warm up, count, end it."""


def mbufs(case: Case) -> int:
    """Return the buffers needed: net_pcap keeps the whole capture in some."""
    return FLOWS[case.flows] + FLOWS[case.flows] // 100 + 32768


def memory_mib(case: Case) -> int:
    """Return the hugepages needed for so many buffers, MiB."""
    return 256 + mbufs(case) * 2500 // (1 << 20)


def undisturb(pid: int, cpu: int) -> None:
    """Keep other programs from the worker's CPU: its threads there get a real-time priority."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        if os.sched_getaffinity(int(task.name)) == {cpu}:
            os.sched_setscheduler(int(task.name), os.SCHED_FIFO, os.sched_param(50))


def until(condition: Callable[[], bool], what: str, seconds: float = 30) -> None:
    """Poll until the condition holds; TimeoutError says what did not happen."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"{what} within {seconds:g} s")
        time.sleep(0.05)
