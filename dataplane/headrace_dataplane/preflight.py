# SPDX-License-Identifier: Apache-2.0
"""What fails without a word unless somebody looks.

An engine without locked memory drives a VF and moves no frame: the kernel refuses to map its
memory for the device ("Cannot set up DMA remapping"), and DPDK goes on. An engine without
hugepages forwards, slowly. A function whose IOMMU group has another number than when the container
was made has no device node in it, and none comes: the kubelet gives a restarted container the same.
"""

import re
import resource
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from headrace_api import AttachmentType, DataplaneConfig, Problem
from headrace_dataplane.functions import Functions

# capabilities(7), linux/capability.h
_CAP_IPC_LOCK = 14
_PROC = Path("/proc")
_ROOT = Path("/")
_DEVICES = "sys/bus/pci/devices"
_VFIO = "dev/vfio"

DEVICE_NODE_CHANGED = "DeviceNodeChanged"
"""Reason: only a new pod gets the device node."""


def memory_lock_problem(
    config: DataplaneConfig, limit: int | None = None, proc: Path = _PROC
) -> Problem | None:
    """Return why VFs of this configuration would move no frame, None when they will.

    `limit` is RLIMIT_MEMLOCK in bytes, by default that of this process, which the engine inherits.
    """
    spec = config.spec
    attachments = [uplink.attachment for uplink in spec.uplinks]
    attachments += [interface.attachment for interface in spec.interfaces]
    if not any(each.type is AttachmentType.SRIOV for each in attachments):
        return None
    if limit is None:
        limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    if limit == resource.RLIM_INFINITY:
        return None
    effective = int(_status(proc / "self/status", "CapEff") or "0", 16)
    if effective >> _CAP_IPC_LOCK & 1:
        return None
    return Problem(
        "Pipeline",
        "",
        spec.pipeline_name,
        "",
        "MemoryLockLimited",
        f"SR-IOV devices will move no frame: RLIMIT_MEMLOCK is {limit >> 10} KiB and this process "
        "lacks the capability IPC_LOCK: run it as user 0 with IPC_LOCK, or without that limit",
    )


class Fault(NamedTuple):
    """Why a function cannot be opened."""

    reason: str
    """DeviceGone, DeviceNodeMissing or DeviceNodeChanged."""
    message: str
    """For people."""


def function_faults(functions: Functions, root: Path = _ROOT) -> Mapping[str, Fault]:
    """Return PCI address -> why this container cannot open it, of those that it was given.

    `root` has dev and sys in it. Only what vfio drives is opened by a device node of a group.
    """
    return {address: fault for address, fault in _faults(functions, root)}


def _faults(functions: Functions, root: Path) -> Iterator[tuple[str, Fault]]:
    for address in functions.addresses():
        device = root / _DEVICES / address
        if not device.is_dir():
            yield address, Fault("DeviceGone", f"the node has no PCI function {address} any more")
            continue
        group = _link(device / "iommu_group")
        if _link(device / "driver") != "vfio-pci" or group is None:
            continue
        names = group, f"noiommu-{group}"
        if any((root / _VFIO / name).exists() for name in names):
            continue
        given = functions.groups.get(address)
        if given is None or str(given) == group:
            yield (
                address,
                Fault("DeviceNodeMissing", f"this pod has no /dev/vfio/{group}, for {address}"),
            )
        else:
            message = (
                f"{address} is in IOMMU group {group} now, and this pod was made when it was in "
                f"{given}: only a new pod gets /dev/vfio/{group}"
            )
            yield address, Fault(DEVICE_NODE_CHANGED, message)


def _link(path: Path) -> str | None:
    try:
        return path.readlink().name
    except OSError:
        return None


def on_ordinary_pages(config: DataplaneConfig, pid: int, proc: Path = _PROC) -> bool:
    """Whether hugepages are asked for and the engine with process ID `pid` has none."""
    if config.spec.hugepages is None:
        return False
    return (_status(proc / str(pid) / "status", "HugetlbPages") or "").split()[:1] == ["0"]


def _status(path: Path, field: str) -> str | None:
    """Return a field of proc_pid_status(5)."""
    try:
        found = re.search(rf"^{field}:\s*(.*)$", path.read_text(), re.MULTILINE)
    except OSError:
        return None
    return found.group(1) if found else None
