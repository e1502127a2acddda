# SPDX-License-Identifier: Apache-2.0
"""Single threads of an engine: found, given a signal, kept from running."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.engine.process import until

_LIBC = ctypes.CDLL(None, use_errno=True)
_PTRACE_DETACH, _PTRACE_SEIZE, _PTRACE_INTERRUPT = 17, 0x4206, 0x4207
_WALL = 0x40000000
_SECONDS = 60.0


def worker_threads(pid: int) -> list[int]:
    """Return the ids of an engine's workers, in their order."""
    return sorted(
        int(task.name)
        for task in Path(f"/proc/{pid}/task").iterdir()
        if "worker" in task.joinpath("comm").read_text()
    )


def signal_thread(pid: int, thread: int, number: int) -> None:
    if _LIBC.tgkill(pid, thread, number) != 0:
        raise OSError(ctypes.get_errno(), "tgkill")


@contextmanager
def kept_from_running(thread: int) -> Iterator[None]:
    """Stop one thread of a process, as nothing else can."""
    _ptrace(_PTRACE_SEIZE, thread)
    _ptrace(_PTRACE_INTERRUPT, thread)
    os.waitpid(thread, _WALL)
    try:
        yield
    finally:
        if Path(f"/proc/{thread}").exists():
            _ptrace(_PTRACE_DETACH, thread)


def killed(thread: int) -> None:
    """Wait until a thread that is kept from running is killed.

    Its process has ended only after that, for whoever waits for it.
    """
    until(
        lambda: os.waitpid(thread, _WALL | os.WNOHANG)[0] == thread,
        f"thread {thread} is killed",
        _SECONDS,
    )


def _ptrace(request: int, thread: int) -> None:
    if _LIBC.ptrace(request, thread, None, None) != 0:
        raise OSError(ctypes.get_errno(), f"ptrace {request:#x}")
