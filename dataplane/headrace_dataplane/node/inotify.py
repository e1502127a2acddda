# SPDX-License-Identifier: Apache-2.0
"""What happens in a folder, told by the kernel: inotify(7)."""

import asyncio
import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# sys/inotify.h: IN_CLOSE_WRITE, IN_MOVED_FROM, IN_MOVED_TO, IN_CREATE (sockets), IN_DELETE.
_CHANGES = 0x8 | 0x40 | 0x80 | 0x100 | 0x200
_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC

_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def directory_events(folder: Path, happened: Callable[[], object]) -> Iterator[None]:
    """Have a function called by the running event loop whenever a file of the folder is another.

    Raises OSError.
    """
    loop = asyncio.get_running_loop()
    events = _checked(_libc.inotify_init1(_FLAGS), folder)

    def drain() -> None:
        with suppress(BlockingIOError):
            while os.read(events, 1 << 16):
                pass
        happened()

    try:
        _checked(_libc.inotify_add_watch(events, os.fsencode(folder), _CHANGES), folder)
        loop.add_reader(events, drain)
        try:
            yield
        finally:
            loop.remove_reader(events)
    finally:
        os.close(events)


def _checked(result: int, folder: Path) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(folder))
    return result
