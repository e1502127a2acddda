# SPDX-License-Identifier: Apache-2.0
"""When an engine is ended because of its workers, look by look."""

from pathlib import Path

import pytest

from headrace_dataplane.protocol import PROTOCOL, Hello
from headrace_dataplane.stalls import LOOKS, Stalls, stalled_workers
from tests.unit.fake_engine import FakeTelemetry


def engine(pid: int) -> Hello:
    return Hello(
        protocol=PROTOCOL, version="0.4.0", dpdk="DPDK 24.11", pid=pid, generation=1, telemetry=""
    )


def test_a_worker_that_stays_stalled_ends_its_engine() -> None:
    stalls, running = Stalls(), engine(1)
    for _ in range(3 * LOOKS):
        assert stalls.step(running, ()) == ""
    for _ in range(LOOKS - 1):
        assert stalls.step(running, ("1",)) == ""
    assert stalls.step(running, ("1",)) == "worker 1 did not walk for 3 s"


def test_one_that_walks_again_begins_anew() -> None:
    stalls, running = Stalls(), engine(1)
    for _ in range(3):
        for _ in range(LOOKS - 1):
            assert stalls.step(running, ("0", "2")) == ""
        assert stalls.step(running, ("2",)) != ""
        assert stalls.step(running, ()) == ""


def test_several_are_named_in_their_order() -> None:
    stalls, running = Stalls(), engine(1)
    why = [stalls.step(running, ("10", "2")) for _ in range(LOOKS)]
    assert why[-1] == "workers 2, 10 did not walk for 3 s"


@pytest.mark.parametrize("between", [True, False])
def test_another_engine_begins_anew(between: bool) -> None:
    stalls = Stalls()
    for pid in range(3):
        running = engine(pid)
        for _ in range(LOOKS - 1):
            assert stalls.step(running, ("0",)) == ""
        if between:
            assert stalls.step(None, ()) == ""


def test_what_an_engine_says(tmp_path: Path) -> None:
    answers = {"/headrace/stalled": [1, 3]}
    fake = FakeTelemetry(tmp_path / "telemetry", answers.get)
    assert stalled_workers(fake.path) == ("1", "3")
    answers["/headrace/stalled"] = []
    assert stalled_workers(fake.path) == ()
    answers.clear()  # One that does not know the question.
    assert stalled_workers(fake.path) == ()
    fake.close()
    assert stalled_workers(fake.path) == ()
