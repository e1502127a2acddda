# SPDX-License-Identifier: Apache-2.0
"""Directories of Interfaces' sockets: there before the engine opens a port, gone some time after.

Whoever has one mounted, a pod for example, has it as it is now, not one of the same name that
comes later: so it outlives an Interface that is deleted and made again, or is wrong for a moment.
"""

import contextlib
import logging
from collections.abc import Iterable
from pathlib import Path

log = logging.getLogger(__name__)

KEEP_SECONDS = 30.0


class SocketDirectories:
    """Those of the Interfaces that this node has, and had a moment ago."""

    def __init__(self) -> None:
        self._wanted: dict[str, float] = {}
        """Directory -> when it was last wanted."""
        self._failure = ""

    def keep(self, wanted: Iterable[str], now: float) -> None:
        """Make those that are wanted, and remove others that have long not been; logs failures.

        `now` is a clock in seconds that does not go back. Files that somebody left in a directory
        keep it.
        """
        for directory in wanted:
            self._make(Path(directory))
            self._wanted[directory] = now
        for directory, last in list(self._wanted.items()):
            if now - last > KEEP_SECONDS:
                del self._wanted[directory]
                _remove(Path(directory))

    def _make(self, path: Path) -> None:
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            failure = f"{path} for an Interface's socket: {error.strerror}"
            if failure != self._failure:
                log.error("%s", failure)
            self._failure = failure


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.rmdir()
        # The namespace's.
        path.parent.rmdir()
