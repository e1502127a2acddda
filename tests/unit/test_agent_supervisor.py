# SPDX-License-Identifier: Apache-2.0
"""The supervisor with agents that do what they are told: live, hang, fail."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

# An agent is a word: what it does next is in the file named by the first argument.
PROGRAM = """
import logging, os, signal, sys, time
from pathlib import Path
from headrace_dataplane import supervisor
supervisor.BEAT_SECONDS = 0.05
orders, log = Path(sys.argv[1]), Path(sys.argv[2])
logging.basicConfig(level=logging.INFO)

def say(text):
    with log.open("a") as file:
        file.write(f"{text} {os.getpid()}\\n")

def work(beat):
    signal.signal(signal.SIGTERM, lambda *_: (say("ended"), os._exit(0)))
    order = orders.read_text()
    say(order)
    if order == "usage":
        return 2
    if order == "fail":
        return 1 / 0
    signal.pthread_sigmask(signal.SIG_UNBLOCK, supervisor.SIGNALS)
    if order == "slow":
        time.sleep(12 * supervisor.BEAT_SECONDS)
        say("begun")
        order = "live"
    while order == "live":
        os.write(beat, b".")
        time.sleep(0.02)
    time.sleep(60)

sys.exit(supervisor.supervise(work))
"""


class Supervisor:
    def __init__(self, folder: Path, order: str, *words: str) -> None:
        self._orders, self._log = folder / "orders", folder / "log"
        self._log.touch()
        self.order(order)
        arguments = (sys.executable, "-c", PROGRAM, str(self._orders), str(self._log))
        self.process = subprocess.Popen((*words, *arguments), stderr=subprocess.DEVNULL)

    def order(self, order: str) -> None:
        """Tell agents that begin from now on what to do."""
        self._orders.write_text(order)

    def said(self, order: str) -> list[int]:
        """The processes that were told this."""
        lines = [line.split() for line in self._log.read_text().splitlines()]
        return [int(pid) for text, pid in lines if text == order]


@contextmanager
def supervisor(folder: Path, order: str, *words: str) -> Iterator[Supervisor]:
    made = Supervisor(folder, order, *words)
    try:
        yield made
    finally:
        made.process.kill()
        made.process.wait()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


def test_an_agent_that_is_killed_is_replaced(tmp_path: Path) -> None:
    with supervisor(tmp_path, "live") as made:
        until(lambda: len(made.said("live")) == 1)
        os.kill(made.said("live")[0], signal.SIGKILL)
        until(lambda: len(made.said("live")) == 2)
        until(lambda: gone(made.said("live")[0]))
        made.process.terminate()
        assert made.process.wait(60) == 0
        assert made.said("ended") == made.said("live")[1:]


def test_who_was_stopped_goes_on(tmp_path: Path) -> None:
    """A pod is frozen and thawed: that is no signal to end."""
    with supervisor(tmp_path, "live") as made:
        until(lambda: made.said("live") != [])
        processes = (made.process.pid, *made.said("live"))
        for _ in range(5):
            for pid in processes:
                os.kill(pid, signal.SIGSTOP)
            began = time.monotonic()
            # Longer than a beat.
            until(lambda: time.monotonic() > began + 0.1)  # noqa: B023 - called at once
            for pid in processes:
                os.kill(pid, signal.SIGCONT)
        assert made.process.poll() is None
        made.process.send_signal(signal.SIGTERM)
        assert made.process.wait(60) == 0
    assert made.said("live") == made.said("ended")


def test_an_agent_that_hangs_or_fails_is_replaced(tmp_path: Path) -> None:
    with supervisor(tmp_path, "hang") as made:
        until(lambda: len(made.said("hang")) == 1)
        made.order("fail")
        until(lambda: len(made.said("fail")) == 1)
        made.order("live")
        until(lambda: len(made.said("live")) == 1)
        assert all(map(gone, made.said("hang")))
        made.process.send_signal(signal.SIGINT)
        assert made.process.wait(60) == 0


def test_an_agent_that_begins_slowly_is_left_to_it(tmp_path: Path) -> None:
    with supervisor(tmp_path, "slow") as made:
        until(lambda: len(made.said("begun")) == 1)
        assert made.said("begun") == made.said("slow")
        made.process.send_signal(signal.SIGTERM)
        assert made.process.wait(60) == 0


def test_an_agent_that_cannot_run_ends_it_only_at_first(tmp_path: Path) -> None:
    with supervisor(tmp_path, "usage") as made:
        assert made.process.wait(60) == 2
        assert len(made.said("usage")) == 1
    with supervisor(tmp_path, "live") as made:
        until(lambda: len(made.said("live")) == 1)
        made.order("usage")
        os.kill(made.said("live")[0], signal.SIGKILL)
        # An engine may run by now.
        until(lambda: len(made.said("usage")) == 3)


def test_told_to_end_while_there_is_no_agent(tmp_path: Path) -> None:
    with supervisor(tmp_path, "fail") as made:
        until(lambda: len(made.said("fail")) == 3)
        made.process.terminate()
        assert made.process.wait(60) == 1


def test_it_is_small() -> None:
    """It stays for as long as the pod: what is large is imported by the agent."""
    large = ("asyncio", "pydantic", "aiohttp", "prometheus_client", "headrace_api")
    code = f"import headrace_dataplane.main, sys; print([m for m in {large} if m in sys.modules])"
    done = subprocess.run((sys.executable, "-c", code), capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
