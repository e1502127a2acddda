# SPDX-License-Identifier: Apache-2.0
"""What fails without a word unless somebody looks.

An engine without locked memory drives a VF and moves no frame: the kernel refuses to map its
memory for the device ("Cannot set up DMA remapping"), and DPDK goes on. An engine without
hugepages forwards, slowly.
"""

import re
import resource
from pathlib import Path

from headrace_api import AttachmentType, DataplaneConfig, Problem

# capabilities(7), linux/capability.h
_CAP_IPC_LOCK = 14
_PROC = Path("/proc")


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
