# SPDX-License-Identifier: Apache-2.0
"""Which VFs were put into VLANs for Interfaces, as data: all of them are put back one day."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from headrace_dataplane.node.files import write_whole

_NAME = "vlans"


@dataclass(frozen=True)
class Tag:
    """What is to be known of a VF until it is put back."""

    interface: str = ""
    """namespace/name of the Interface whose endpoint has it, or had it; "": an engine's."""
    mac: str = ""
    """MAC address that it had before; "": it was given none."""


class Tagged:
    """PCI addresses, in a file, with what is known of each: it outlives the agent and its pod."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / _NAME
        self._known: Mapping[str, Tag] | None = None

    def all(self) -> Mapping[str, Tag]:
        """Return them. Raises OSError."""
        if self._known is None:
            try:
                lines = self._path.read_text("ascii", "replace").splitlines()
            except (FileNotFoundError, NotADirectoryError):
                lines = []
            words = [line.split() for line in lines]
            self._known = {each[0]: Tag(*each[1:3]) for each in words if each}
        return self._known

    def add(self, tags: Mapping[str, Tag]) -> None:
        """Take note of VFs, before anything is done to them. Raises OSError.

        An address that one had before it was first given another stays known.
        """
        known = self.all()
        self._set({**known, **{each: _together(known.get(each), tags[each]) for each in tags}})

    def discard(self, addresses: Iterable[str]) -> None:
        """They are as if none of it had been. Raises OSError."""
        gone = {*addresses}
        self._set({each: tag for each, tag in self.all().items() if each not in gone})

    def _set(self, tags: Mapping[str, Tag]) -> None:
        if tags == self.all():
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        lines = (f"{each} {tag.interface} {tag.mac}".rstrip() for each, tag in sorted(tags.items()))
        write_whole(self._path, "".join(f"{line}\n" for line in lines).encode(), 0o600)
        self._known = tags


def _together(before: Tag | None, now: Tag) -> Tag:
    if before is None:
        return now
    return Tag(now.interface or before.interface, before.mac or now.mac)
