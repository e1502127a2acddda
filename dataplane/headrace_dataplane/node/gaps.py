# SPDX-License-Identifier: Apache-2.0
"""How long a thread that has a CPU for itself is kept from it: by interrupts, others, firmware.

An engine's own gaps (headrace_worker_longest_gap_seconds) are another thing: its start, its walks
and how late it wakes from sleep are in them. This is the CPU alone, before there is any engine.
"""

import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass

#: From here on a gap is counted: a worker's queue of 1024 small frames fills up in 70 us at 10G.
COUNTED_NS = 10_000

# A process of its own: threads of one Python wait for one another. All it does is to read the
# clock, which takes it about 0.1 us: any longer step is time that the CPU gave to something else.
_PROGRAM = f"""
import gc, os, sys, time
os.sched_setaffinity(0, {{int(sys.argv[1])}})
gc.disable()
clock = time.perf_counter_ns
longest = count = 0
last = clock()
end = last + int(float(sys.argv[2]) * 1e9)
while last < end:
    now = clock()
    gap = now - last
    last = now
    if gap > longest:
        longest = gap
    if gap > {COUNTED_NS}:
        count += 1
print(longest, count)
"""


@dataclass(frozen=True)
class Gap:
    """What a thread on a CPU saw in so many seconds."""

    cpu: int
    seconds: float
    longest_us: float
    """The longest time between two readings of the clock, in microseconds."""
    counted: int
    """How many were longer than 10 us."""


def gaps(cpus: Iterable[int], seconds: float) -> tuple[Gap, ...]:
    """Watch these CPUs for so long, all at once; those that may not be used are left out."""
    # Isolated mode: nothing of the user's is imported.
    command = [sys.executable, "-I", "-S", "-c", _PROGRAM]
    watching = [
        (
            cpu,
            subprocess.Popen(
                [*command, str(cpu), str(seconds)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            ),
        )
        for cpu in cpus
    ]
    found = []
    try:
        for cpu, process in watching:
            words = process.communicate()[0].split()
            if process.returncode == 0:
                longest, count = map(int, words)
                found.append(Gap(cpu, seconds, longest / 1000, count))
    finally:
        for _, process in watching:
            process.kill()
            process.wait()
    return tuple(found)
