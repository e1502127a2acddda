# SPDX-License-Identifier: Apache-2.0
"""Whether a function works: its driver, its port's link, and that it opens."""

import errno
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from headrace_api.device_policy import VfDriver
from headrace_dataplane.node.device_plugin.device_files import (
    NoDeviceFilesError,
    device_files,
    driver_of,
    group_file,
)
from headrace_dataplane.node.sriov.observed import NOT_NETWORK_DRIVERS
from headrace_dataplane.node.tree import Tree

LINK_SECONDS = 10.0
"""A link may be away for so long: a switch's port comes and goes while it is set up."""
OPEN_SECONDS = 60.0
"""A device is opened no more often: nobody else can meanwhile."""

_DEVICES = "sys/bus/pci/devices"


@dataclass
class _Seen:
    linked: float
    opened: float | None = None
    file: str = ""
    fault: str = ""


class Health:
    """Looks at functions, and remembers what it saw of each."""

    def __init__(
        self,
        root: Path = Path("/"),
        clock: Callable[[], float] = time.monotonic,
        open_device: Callable[[str], None] | None = None,
    ) -> None:
        """`root` has dev and sys in it. `open_device` opens and closes, and raises OSError."""
        self._root = root
        self._tree = Tree(root)
        self._clock = clock
        self._open = open_device or _open
        self._seen: dict[str, _Seen] = {}

    def fault(self, address: str, driver: VfDriver, *, used: bool, forced: bool = False) -> str:
        """Return what is wrong with a function, "" when nothing is.

        `used` says that a pod has it: then it is not opened, for that pod is about to. `forced`
        says that its link is up whatever its port's is.
        """
        if not self._tree.has(f"{_DEVICES}/{address}"):
            self._seen.pop(address, None)
            return f"there is no PCI function {address}"
        now = self._clock()
        seen = self._seen.setdefault(address, _Seen(linked=now))
        return (
            self._wrong_driver(address, driver)
            or self._without_files(address)
            or ("" if forced else self._unlinked(address, seen, now))
            or ("" if used else self._closed(address, driver, seen, now))
        )

    def forget(self, address: str) -> None:
        """Look at it as if for the first time."""
        self._seen.pop(address, None)

    def _wrong_driver(self, address: str, driver: VfDriver) -> str:
        bound = driver_of(self._tree, address)
        if not bound:
            return f"{address} has no driver"
        kernel = driver is VfDriver.KERNEL
        if bound not in NOT_NETWORK_DRIVERS if kernel else bound == driver:
            return ""
        return f"{address} is bound to {bound}, and {driver} is wanted"

    def _without_files(self, address: str) -> str:
        try:
            device_files(self._root, address)
        except NoDeviceFilesError as error:
            return str(error)
        return ""

    def _unlinked(self, address: str, seen: _Seen, now: float) -> str:
        folder = f"{_DEVICES}/{address}/physfn/net"
        names = self._tree.names(folder) or []
        # Of a port that nobody has set up there is nothing to be read.
        carriers = {self._tree.number(f"{folder}/{name}/carrier") for name in names}
        if 0 not in carriers or 1 in carriers:
            seen.linked = now
        elif now - seen.linked >= LINK_SECONDS:
            return f"{', '.join(names)}, the port of {address}, has no link"
        return ""

    def _closed(self, address: str, driver: VfDriver, seen: _Seen, now: float) -> str:
        file = group_file(self._tree, address) if driver is VfDriver.VFIO else None
        if file is None:
            return ""
        due = seen.opened is None or now - seen.opened >= OPEN_SECONDS
        if due or seen.file != file.host:
            seen.opened, seen.file, seen.fault = now, file.host, ""
            try:
                self._open(f"{str(self._root).rstrip('/')}{file.host}")
            except OSError as error:
                # Who has it open has it whole.
                if error.errno != errno.EBUSY:
                    seen.fault = f"{file.host} of {address} does not open: {error.strerror}"
        return seen.fault


def _open(path: str) -> None:
    os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC))
