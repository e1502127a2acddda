# SPDX-License-Identifier: Apache-2.0
"""Whether workers and their memory are on the NUMA node of the functions that they drive.

A packet that crosses from one to another costs both of them time.
"""

import re
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from headrace_api import ConditionStatus
from headrace_api.node_facts import cpu_set
from headrace_dataplane.node_status import NUMA_ALIGNED, Verdict

_NODES = "sys/devices/system/node"
_DEVICES = "sys/bus/pci/devices"
_NODE = re.compile(r"node([0-9]{1,4})")
_CPUS = re.compile(r"[0-9,-]{1,8192}")
_PAGES = re.compile(r"\bN([0-9]{1,4})=([0-9]{1,12})\b")


@dataclass(frozen=True)
class Numa:
    """Where on this machine what is."""

    cpus: Mapping[int, int] = field(default_factory=dict)
    """CPU -> NUMA node."""
    functions: Mapping[str, int] = field(default_factory=dict)
    """PCI address -> NUMA node, where the firmware says."""
    hugepages: Mapping[int, int] = field(default_factory=dict)
    """NUMA node -> the engine's hugepages there."""


def read(pid: int, root: Path = Path("/")) -> Numa:
    """Read where CPUs, PCI functions and the memory of the engine's process are.

    What cannot be read is left out. `root` has proc and sys in it.
    """
    cpus: dict[int, int] = {}
    for folder in _list(root / _NODES):
        match = _NODE.fullmatch(folder.name)
        text = _text(folder / "cpulist")
        if match and _CPUS.fullmatch(text):
            cpus |= dict.fromkeys(_cpus(text), int(match[1]))
    found = {}
    for folder in _list(root / _DEVICES):
        text = _text(folder / "numa_node")
        if text.isdecimal():
            found[folder.name] = int(text)
    hugepages: dict[int, int] = defaultdict(int)
    for line in _text(root / f"proc/{pid}/numa_maps").splitlines():
        if " huge " in f"{line} ":
            for node, pages in _PAGES.findall(line):
                hugepages[int(node)] += int(pages)
    return Numa(cpus, found, dict(hugepages))


def alignment(numa: Numa, functions: Collection[str], workers: Mapping[int, int]) -> Verdict:
    """Return the condition NUMAAligned.

    `functions` are the PCI addresses of ports, `workers` worker -> CPU.
    """
    nodes = {numa.functions[address] for address in functions if address in numa.functions}
    if set(numa.cpus.values()) <= {0}:
        return Verdict(
            NUMA_ALIGNED, ConditionStatus.TRUE, "OneNode", "The machine has one NUMA node"
        )
    if not nodes:
        message = f"The firmware does not say on which NUMA node {_some(functions)} are"
        return Verdict(NUMA_ALIGNED, ConditionStatus.UNKNOWN, "NodeUnknown", message)
    if len(nodes) > 1:
        where = ", ".join(
            f"{address} on {numa.functions[address]}"
            for address in sorted(functions)
            if address in numa.functions
        )
        return Verdict(
            NUMA_ALIGNED,
            ConditionStatus.FALSE,
            "FunctionsApart",
            f"Its functions are on several NUMA nodes ({where}): use those of one, or a kubelet "
            "with topologyManagerPolicy single-numa-node",
        )
    (node,) = nodes
    away = [
        f"worker {worker} (CPU {cpu}, node {numa.cpus[cpu]})"
        for worker, cpu in sorted(workers.items())
        if numa.cpus.get(cpu, node) != node
    ]
    away += [
        f"{pages} of its hugepages (node {other})"
        for other, pages in sorted(numa.hugepages.items())
        if other != node and pages
    ]
    if away:
        return Verdict(
            NUMA_ALIGNED,
            ConditionStatus.FALSE,
            "NotAligned",
            f"Not on NUMA node {node}, where {_some(functions)} are: {', '.join(away)}; the "
            "kubelet's topologyManagerPolicy single-numa-node keeps them together",
        )
    return Verdict(NUMA_ALIGNED, ConditionStatus.TRUE, "Aligned", f"All is on NUMA node {node}")


def _some(names: Collection[str]) -> str:
    first, more = sorted(names)[:3], len(names) - 3
    return ", ".join(first) + (f" and {more} more" if more > 0 else "")


def _cpus(text: str) -> frozenset[int]:
    try:
        return cpu_set(text)
    except ValueError:
        return frozenset()


def _list(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
