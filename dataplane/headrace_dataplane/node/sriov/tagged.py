# SPDX-License-Identifier: Apache-2.0
"""Which VFs were put into VLANs for Interfaces, as data: all of them are put back one day."""

from collections.abc import Iterable
from pathlib import Path

from headrace_dataplane.node.files import write_whole

_NAME = "vlans"


class Tagged:
    """PCI addresses, in a file: it outlives the agent and its pod."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / _NAME
        self._known: frozenset[str] | None = None

    def all(self) -> frozenset[str]:
        """Return them. Raises OSError."""
        if self._known is None:
            try:
                self._known = frozenset(self._path.read_text("ascii", "replace").split())
            except (FileNotFoundError, NotADirectoryError):
                self._known = frozenset()
        return self._known

    def add(self, addresses: Iterable[str]) -> None:
        """Take note of VFs, before anything is done to them. Raises OSError."""
        self._set(self.all() | {*addresses})

    def discard(self, addresses: Iterable[str]) -> None:
        """They are as if none of it had been. Raises OSError."""
        self._set(self.all() - {*addresses})

    def _set(self, addresses: frozenset[str]) -> None:
        if addresses == self.all():
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(self._path, "".join(f"{each}\n" for each in sorted(addresses)).encode(), 0o600)
        self._known = addresses
