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


def pods(users: Iterable[str]) -> tuple[str, ...]:
    """Return the pods, of all who use a VF."""
    return tuple(each for each in users if " " not in each)


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
    """Who has a VF's vfio device open, as /proc says: needs the node's process IDs.

    To look at the files of all processes takes long, so it is done only for VFs that somebody has
    open, and that those who had them last have no more. Nothing is remembered but where to look.
    """

    def __init__(self, sysfs: Reader, proc: Path = Path("/proc")) -> None:
        self._sysfs = sysfs
        self._proc = proc
        self._last: dict[str, dict[str, str]] = {}

    def __call__(self, groups: Mapping[str, str]) -> Mapping[str, tuple[str, ...]]:
        """Say who uses the VFs, given as PCI address and IOMMU group."""
        devices = self._opened(groups)
        opened = set(devices.values())
        found = self._holders({p for vf in opened for p in self._last.get(vf, ())}, devices)
        if opened - found.keys():
            everybody = (each.name for each in self._proc.iterdir() if each.name.isdecimal())
            found = self._holders(everybody, devices)
        self._last = {**self._last, **found}
        return {address: tuple(each.values()) for address, each in found.items()}

    def _opened(self, groups: Mapping[str, str]) -> dict[int, str]:
        """Numbers of the device nodes of those VFs that somebody has open, or may have."""
        devices = {}
        for address, group in groups.items():
            # vfio_pci_core_enable() in Linux: a function is enabled while it is open. Whoever opens
            # the node to see that keeps out him who wants to have it at that moment.
            if self._sysfs.text(f"{DEVICES}/{address}/enable") == "0":
                continue
            # Containers may have the node under another name, and vfio without an IOMMU has.
            nodes = [f"class/vfio/{name}/dev" for name in (group, f"noiommu-{group}") if group]
            of = f"{DEVICES}/{address}/vfio-dev"
            nodes += [f"{of}/{name}/dev" for name in self._sysfs.names(of) or ()]
            for node in nodes:
                major, colon, minor = (self._sysfs.text(node) or "").partition(":")
                if colon:
                    devices[os.makedev(int(major), int(minor))] = address
        return devices

    def _holders(
        self, processes: Iterable[str], devices: Mapping[int, str]
    ) -> dict[str, dict[str, str]]:
        """Of VFs, which of the processes have them open: by their IDs, who they are."""
        found: dict[str, dict[str, str]] = {}
        for process in sorted(processes, key=int):
            folder = self._proc / process
            # Processes end while they are looked at, and close their files.
            with suppress(OSError):
                for file in (folder / "fd").iterdir():
                    with suppress(OSError):
                        held = devices.get(file.stat().st_rdev)
                        if held is not None:
                            name = (folder / "comm").read_text().strip()
                            found.setdefault(held, {})[process] = f"{_PROCESS}{process} ({name})"
        return found
