# SPDX-License-Identifier: Apache-2.0
"""Directories of Interfaces' sockets: there before the engine opens a port, gone some time after.

Whoever has one mounted, a pod for example, has it as it is now, not one of the same name that
comes later: so it outlives an Interface that is deleted and made again, or is wrong for a moment.

A file beside them says which are this agent's: the next agent removes those whose Interfaces went
while none ran. The root is the node's, so it outlives the pod, and Pipelines share it.
"""

import contextlib
import errno
import fcntl
import json
import logging
import os
import socket
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

log = logging.getLogger(__name__)

KEEP_SECONDS = 30.0


class SocketDirectories:
    """Those of the Interfaces that this node has, and had a moment ago or when an agent ended."""

    def __init__(self, root: Path, owner: str, now: float) -> None:
        """`root` has the directories of all agents, `owner` names this one.

        `now` is of a clock in seconds that does not go back.
        """
        self._root = root
        self._record = root / f".{owner}"
        self._owned: dict[str, float] = dict.fromkeys(_read(self._record), now)
        """Directory -> when it was last desired."""
        self._logged: set[str] = set()

    def keep(self, desired: Iterable[str], now: float) -> None:
        """Make those that are desired, and remove others that have long not been; logs failures.

        Files that somebody left in a directory keep it; sockets that nobody listens at do not.
        """
        before = set(self._owned)
        self._owned |= dict.fromkeys(desired, now)
        old = [path for path, last in self._owned.items() if now - last > KEEP_SECONDS]
        if old or self._owned.keys() != before:
            with self._logging(), self._locked():
                # Before they are made: an agent that dies then has not forgotten them.
                self._write()
                self._remove(old, now)
        for path, last in self._owned.items():
            if last == now:
                with self._logging():
                    Path(path).mkdir(parents=True, exist_ok=True)

    def _remove(self, old: Iterable[str], now: float) -> None:
        others = self._others()
        for path in old:
            del self._owned[path]
            if path not in others and not _remove(Path(path)):
                # Another time: somebody still has something there.
                self._owned[path] = now
        self._write()

    def _others(self) -> frozenset[str]:
        """Directories that agents of other Pipelines have made."""
        records = [each for each in self._root.glob(".*") if each != self._record]
        return frozenset(path for record in records for path in _read(record))

    def _write(self) -> None:
        if not self._owned:
            self._record.unlink(missing_ok=True)
            return
        new = self._record.with_name(f"{self._record.name}~")
        new.write_text(json.dumps(sorted(self._owned)))
        new.replace(self._record)

    @contextlib.contextmanager
    def _logging(self) -> Iterator[None]:
        """Log a failure, once."""
        try:
            yield
        except OSError as error:
            line = f"{error.filename or self._root} for an Interface's socket: {error.strerror}"
            if line not in self._logged:
                log.error("%s", line)
            self._logged.add(line)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep agents of other Pipelines from removing at the same time."""
        self._root.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _read(record: Path) -> list[str]:
    try:
        found = json.loads(record.read_text())
    except (OSError, ValueError):
        return []
    return [path for path in found if isinstance(path, str)] if isinstance(found, list) else []


def _remove(path: Path) -> bool:
    """Remove the directory, and whether it is gone."""
    with contextlib.suppress(OSError):
        for file in path.iterdir():
            if stat.S_ISSOCK(file.lstat().st_mode) and _dead(file):
                file.unlink()
        path.rmdir()
        # The namespace's.
        path.parent.rmdir()
    return not path.exists()


def _dead(file: Path) -> bool:
    """Whether it is a socket that an engine left that did not end well."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as ours:
        ours.setblocking(False)
        # EPROTOTYPE is of one that lives and is of another type.
        return ours.connect_ex(str(file)) == errno.ECONNREFUSED
