# SPDX-License-Identifier: Apache-2.0
"""Who uses VFs: what several sources know of it comes together."""

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from headrace_dataplane.node.pci import DEVICES, Reader

#: No namespace has a blank in its name.
_PROCESS = "process "

Users = Callable[[Mapping[str, str]], Mapping[str, tuple[str, ...]]]
"""Says of VFs, given as PCI address and IOMMU group, who uses them: pods as namespace/name, or
processes; what nobody uses is missing."""


def processes(users: Iterable[str]) -> tuple[str, ...]:
    """Return those who have a VF open, of all who use it."""
    return tuple(each for each in users if each.startswith(_PROCESS))


def nobody(_: Mapping[str, str]) -> Mapping[str, tuple[str, ...]]:
    """Nobody uses any."""
    return {}


def together(*sources: Users) -> Users:
    """Return what several know."""

    def users(vfs: Mapping[str, str]) -> Mapping[str, tuple[str, ...]]:
        found: dict[str, tuple[str, ...]] = {}
        for source in sources:
            for address, names in source(vfs).items():
                found[address] = tuple(dict.fromkeys((*found.get(address, ()), *names)))
        return found

    return users


class VFIOHolders:
    """Who has a VF's vfio device open, as /proc says: needs the node's process IDs."""

    def __init__(self, sysfs: Reader, proc: Path = Path("/proc")) -> None:
        self._sysfs = sysfs
        self._proc = proc

    def __call__(self, groups: Mapping[str, str]) -> Mapping[str, tuple[str, ...]]:
        """Say who uses the VFs, given as PCI address and IOMMU group."""
        devices = {}
        for address, group in groups.items():
            # Containers may have the node under another name, and vfio without an IOMMU has.
            nodes = [f"class/vfio/{name}/dev" for name in (group, f"noiommu-{group}") if group]
            of = f"{DEVICES}/{address}/vfio-dev"
            nodes += [f"{of}/{name}/dev" for name in self._sysfs.names(of) or ()]
            for node in nodes:
                major, colon, minor = (self._sysfs.text(node) or "").partition(":")
                if colon:
                    devices[os.makedev(int(major), int(minor))] = address
        found: dict[str, dict[str, None]] = {}
        for process in self._proc.iterdir() if devices else ():
            if not process.name.isdigit():
                continue
            # Processes end while they are looked at, and close their files.
            with suppress(OSError):
                for file in (process / "fd").iterdir():
                    with suppress(OSError):
                        held = devices.get(file.stat().st_rdev)
                        if held is not None:
                            name = (process / "comm").read_text().strip()
                            who = f"{_PROCESS}{process.name} ({name})"
                            found.setdefault(held, {})[who] = None
        return {address: tuple(each) for address, each in found.items()}
