# SPDX-License-Identifier: Apache-2.0
"""Processes: which are there, what they were told, since when, and what they may lock."""

import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime

from headrace_api.node_facts import MemoryLock
from headrace_dataplane.node.tree import Tree, fitting, number

#: Who starts the processes of pods, and lends them its limits.
RUNTIMES = ("containerd", "crio", "dockerd")
_CAP_IPC_LOCK = 14  # linux/capability.h
_STARTED = 22 - 3  # proc_pid_stat(5): of the fields behind the name, which begin with the third


def processes(tree: Tree) -> Mapping[str, str]:
    """Name -> folder below the root, of the first process with that name.

    Those of other network namespaces are not the machine's: nodes in containers have a kubelet.
    """
    own = tree.target("proc/self/ns/net")
    numbers = sorted(
        int(each) for each in tree.names("proc") or () if re.fullmatch("[0-9]{1,9}", each)
    )
    found: dict[str, str] = {}
    for process in numbers:
        name = tree.text(f"proc/{process}/comm")
        theirs = tree.target(f"proc/{process}/ns/net")
        if name and (own is None or theirs is None or own == theirs):
            found.setdefault(name, f"proc/{process}")
    return found


def options(tree: Tree, process: str) -> dict[str, str]:
    """The command line's options: --name=value and --name value."""
    words = (tree.text(f"{process}/cmdline") or "").split("\0")
    found = {}
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            found[name] = value if equals else following
    return found


def started_at(tree: Tree, process: str) -> str | None:
    """When the process was started (RFC 3339)."""
    # The name, in parentheses, may have spaces and parentheses in it.
    fields = (tree.text(f"{process}/stat") or "").rpartition(")")[2].split()
    boot = re.search(r"^btime ([0-9]{1,15})$", tree.text("proc/stat") or "", re.MULTILINE)
    ticks = number(fields[_STARTED]) if len(fields) > _STARTED else None
    if boot is None or ticks is None:
        return None
    try:
        at = datetime.fromtimestamp(int(boot.group(1)) + ticks // os.sysconf("SC_CLK_TCK"), UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def memory_locks(tree: Tree, found: Mapping[str, str]) -> tuple[MemoryLock, ...]:
    """What container runtimes and this process may lock; `found` is of `processes`."""
    runtimes = [(name, found[name], False) for name in RUNTIMES if name in found]
    own = int(_field(tree.text("proc/self/status"), "CapEff") or "0", 16) >> _CAP_IPC_LOCK & 1
    locks = (
        _memory_lock(tree, *each) for each in (*runtimes, ("headrace", "proc/self", bool(own)))
    )
    return tuple(each for each in locks if each is not None)


def _memory_lock(tree: Tree, name: str, process: str, ipc_lock: bool) -> MemoryLock | None:
    text = tree.text(f"{process}/limits") or ""
    limit = re.search(r"^Max locked memory\s+([0-9]{1,19}|unlimited)\s", text, re.MULTILINE)
    if limit is None:
        return None
    return fitting(
        MemoryLock,
        {"process": name, "limit_bytes": number(limit.group(1)), "ipc_lock": ipc_lock},
    )


def _field(text: str | None, name: str) -> str | None:
    """A hexadecimal field of proc_pid_status(5)."""
    found = re.search(rf"^{name}:\s*([0-9a-f]{{1,16}})$", text or "", re.MULTILINE)
    return found.group(1) if found else None
