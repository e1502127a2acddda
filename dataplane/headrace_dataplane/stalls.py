# SPDX-License-Identifier: Apache-2.0
"""When an engine is ended because a worker of it no longer walks: pure, but for the question."""

from collections.abc import Iterable
from pathlib import Path

from headrace_dataplane.protocol import EngineError, Hello
from headrace_dataplane.telemetry import TelemetryClient

LOOK_SECONDS = 0.5
"""Between two looks at an engine's workers."""

LOOKS = 6
"""In a row at which a worker stalls until its engine is ended: more than a busy machine keeps it
off its CPU. Counted in looks, not in seconds: a machine that stood still is no stall."""


class Stalls:
    """Counts looks at workers; those of another engine begin anew."""

    def __init__(self) -> None:
        self._engine: Hello | None = None
        self._looks: dict[str, int] = {}

    def step(self, engine: Hello | None, stalled: Iterable[str]) -> str:
        """Take in which workers stall, and return why the engine is to be ended; empty: it is not.

        `engine` is the one that runs; another object for each that has come up.
        """
        before = self._looks if engine is self._engine else {}
        self._engine = engine
        self._looks = {worker: before.get(worker, 0) + 1 for worker in stalled}
        gone = sorted((each for each, looks in self._looks.items() if looks >= LOOKS), key=int)
        if not gone:
            return ""
        workers = f"worker {gone[0]}" if len(gone) == 1 else f"workers {', '.join(gone)}"
        return f"{workers} did not walk for {LOOKS * LOOK_SECONDS:.0f} s"


def stalled_workers(telemetry: Path) -> tuple[str, ...]:
    """Return the numbers of workers of which an engine says that they do not walk.

    None of one before 0.4.0, which does not say, and of one that does not answer.
    """
    try:
        with TelemetryClient(telemetry) as client:
            return tuple(client.names("/headrace/stalled"))
    except EngineError:
        return ()
