# SPDX-License-Identifier: Apache-2.0
"""Process 1 of a dataplane pod: keeps an agent running, whatever becomes of it.

The engine must outlive its agent, so somebody else has to be process 1: this, which does so
little that it does not fail. It imports nothing large, for it stays in memory as long as the pod.
"""

import contextlib
import logging
import os
import signal
import time
from collections.abc import Callable
from typing import NoReturn, TypeAlias

log = logging.getLogger(__name__)

BEAT_SECONDS = 5.0
"""How often an agent says that it lives."""

USAGE_STATUS = 2
"""Exit status of an agent that cannot run as it is told to."""

Work: TypeAlias = Callable[[int], int]
"""The agent: takes the file descriptor to write a byte to every BEAT_SECONDS; its exit status."""

SIGNALS = frozenset({signal.SIGCHLD, signal.SIGTERM, signal.SIGINT})
"""Blocked in the supervisor, and in the agent until it unblocks them, so that none is lost."""

_SILENT_BEATS = 6
_SILENT_BEATS_AT_START = 36  # A busy or an emulated machine takes a minute to import an agent.
_BACKOFF_SECONDS = (0.2, 5.0)
_STABLE_SECONDS = 60.0


def supervise(work: Work) -> int:
    """Run `work` in a child, again whenever it ends or hangs, until SIGTERM or SIGINT.

    Those are passed on; then the status of the child is returned (128 + n after signal n). So is
    USAGE_STATUS as long as no child has lived. Also reaps the orphans that become process 1's.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    cpus = os.sched_getaffinity(0)
    backoff = _BACKOFF_SECONDS[0]
    lived = False
    while True:
        began = time.monotonic()
        child = _Child(work, cpus)
        # The others may be the workers'; those poll.
        os.sched_setaffinity(0, {min(cpus)})
        asked, status = child.wait()
        lived |= child.lived
        # Once an engine may run, ending here would take it along.
        if asked or (status == USAGE_STATUS and not lived):
            return status
        if time.monotonic() - began > _STABLE_SECONDS:
            backoff = _BACKOFF_SECONDS[0]
        log.error("the agent ended with status %d; starting another in %.1f s", status, backoff)
        if _asked_within(backoff):
            return status
        backoff = min(2 * backoff, _BACKOFF_SECONDS[1])


class _Child:
    def __init__(self, work: Work, cpus: set[int]) -> None:
        self.lived = False
        self._pulse, beat = os.pipe()
        os.set_blocking(self._pulse, False)
        os.set_blocking(beat, False)
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._pulse)
            _become(work, beat, cpus)
        os.close(beat)

    def wait(self) -> tuple[bool, int]:
        """Return when it has ended: whether it was asked to, and its status."""
        asked = False
        silent = 0
        due = time.monotonic() + BEAT_SECONDS
        try:
            while True:
                got = _signal_within(due - time.monotonic())
                if got is None:
                    # Counted in looks, not in seconds: a machine that stood still is no hang.
                    due = time.monotonic() + BEAT_SECONDS
                    silent = 0 if self._beats() else silent + 1
                    if silent >= (_SILENT_BEATS if self.lived else _SILENT_BEATS_AT_START):
                        log.error("the agent hangs; killing it")
                        os.kill(self.pid, signal.SIGKILL)
                elif got == signal.SIGCHLD:
                    status = _reap(self.pid)
                    if status is not None:
                        self._beats()
                        return asked, status
                else:
                    asked = True
                    os.kill(self.pid, signal.SIGTERM)
        finally:
            os.close(self._pulse)

    def _beats(self) -> bool:
        try:
            beats = bool(os.read(self._pulse, 64))
        except BlockingIOError:
            return False
        self.lived |= beats
        return beats


def _become(work: Work, beat: int, cpus: set[int]) -> NoReturn:
    """Be the agent; in a process that came from fork, nothing of the parent's may run at exit."""
    status = 1
    try:
        # What is left of them: the container's CPUs may have been changed.
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, cpus)
        status = work(beat)
    except BaseException:
        log.exception("the agent failed")
    finally:
        os._exit(status)


def _reap(pid: int) -> int | None:
    """Reap every child that has ended; return the status of `pid` when it is among them."""
    found = None
    while True:
        try:
            ended, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if ended == 0:
            return found
        if ended == pid:
            code = os.waitstatus_to_exitcode(status)
            found = code if code >= 0 else 128 - code


def _signal_within(seconds: float) -> int | None:
    """Wait so long for one of SIGNALS; None: none came."""
    got = signal.sigtimedwait(SIGNALS, max(0.0, seconds))
    # A process that was stopped until after its time gets one that was never sent.
    return got.si_signo if got is not None and got.si_signo in SIGNALS else None


def _asked_within(seconds: float) -> bool:
    """Wait so long; return early and true when told to end."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        got = _signal_within(left)
        if got == signal.SIGCHLD:
            _reap(0)
        elif got is not None:
            return True
    return False
