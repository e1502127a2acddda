# SPDX-License-Identifier: Apache-2.0
"""What an engine leaves that crashes, and what it says of a worker that stands still."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.process import Engine, Namespace, until
from tests.engine.threads import kept_from_running, signal_thread, worker_threads

SECONDS = 60.0


@pytest.fixture
def engine(binary: Path, namespace: Namespace, tmp_path: Path) -> Iterator[Engine]:
    engine = Engine(binary, tmp_path, namespace)
    yield engine
    if engine.alive:
        engine.stop()


@pytest.mark.parametrize("of_worker", [True, False], ids=["worker", "control"])
@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT], ids=lambda number: number.name)
def test_a_crash_leaves_a_backtrace(
    engine: Engine, binary: Path, number: signal.Signals, of_worker: bool
) -> None:
    """And the process ends by its signal, as whoever started it has to know."""
    if number is signal.SIGSEGV and "sanitize" in binary.parts[-2]:
        pytest.skip("AddressSanitizer says more")
    thread = worker_threads(engine.pid)[0] if of_worker else engine.pid
    signal_thread(engine.pid, thread, number)
    assert engine.ended() == -number
    _, _, words = engine.output.partition(f"headrace-engine: {number.name} in thread ")
    name, *frames = words.splitlines()
    assert ("worker" in name) == of_worker
    assert len([frame for frame in frames if frame.endswith("]")]) >= 3
    assert of_worker or any("(main+0x" in frame for frame in frames)


def test_a_worker_that_stands_still_is_reported(engine: Engine) -> None:
    (thread,) = worker_threads(engine.pid)
    (cpu,) = (worker.cpu for worker in engine.client.hello().workers)

    def stalled() -> tuple[list[str], object]:
        telemetry = engine.telemetry
        word = telemetry.object("/headrace/worker", 0)["stalled"]
        return telemetry.names("/headrace/stalled"), word

    with kept_from_running(thread):
        until(lambda: stalled() == (["0"], 1), "telemetry says that it stands", SECONDS)
        said = f"worker 0 on CPU {cpu} has not walked for 500 ms"
        until(lambda: said in engine.output, "the log, too", SECONDS)
    until(lambda: stalled() == ([], 0), "it walks again", SECONDS)
    until(lambda: "worker 0 walks again" in engine.output, "the log says so", SECONDS)
    assert "headrace-engine: it stands in thread" in engine.output
