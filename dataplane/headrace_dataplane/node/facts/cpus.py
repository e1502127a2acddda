# SPDX-License-Identifier: Apache-2.0
"""CPUs: cores, sockets, NUMA nodes, and which of them are kept from others."""

import re

from headrace_api.node_facts import Cpu, Cpus, cpu_set
from headrace_dataplane.node.tree import Tree, fitting, natural

_SYSTEM = "sys/devices/system"
_LIST = re.compile(r"[0-9]{1,4}(-[0-9]{1,4})?(,[0-9]{1,4}(-[0-9]{1,4})?)*")


def read(tree: Tree) -> Cpus | None:
    """Return the CPUs that are online."""
    online = list_of(tree, f"{_SYSTEM}/cpu/online")
    if not online:
        return None
    nodes = _nodes(tree)
    info = _info(tree)
    found = (_cpu(tree, cpu, nodes) for cpu in sorted(cpu_set(online)))
    flags = info.get("flags")
    return fitting(
        Cpus,
        {
            "cpus": [cpu for cpu in found if cpu is not None],
            "vendor": info.get("vendor_id"),
            "virtual": None if flags is None else "hypervisor" in flags.split(),
            "isolated": list_of(tree, f"{_SYSTEM}/cpu/isolated"),
            # Without nohz_full= some kernels write "(null)".
            "nohz_full": list_of(tree, f"{_SYSTEM}/cpu/nohz_full", nothing=("", "(null)")),
        },
    )


def list_of(tree: Tree, path: str, nothing: tuple[str, ...] = ("",)) -> str | None:
    """A list of CPUs in a file; `nothing` is how it says that there are none."""
    text = tree.text(path)
    if text is None or _LIST.fullmatch(text):
        return text
    return "" if text in nothing else None


def _nodes(tree: Tree) -> dict[int, int]:
    """CPU -> NUMA node."""
    found: dict[int, int] = {}
    for name in tree.names(f"{_SYSTEM}/node") or ():
        if re.fullmatch(r"node[0-9]{1,4}", name):
            cpus = list_of(tree, f"{_SYSTEM}/node/{name}/cpulist")
            found |= dict.fromkeys(cpu_set(cpus or ""), int(name[4:]))
    return found


def _cpu(tree: Tree, cpu: int, nodes: dict[int, int]) -> Cpu | None:
    folder = f"{_SYSTEM}/cpu/cpu{cpu}"
    siblings = list_of(tree, f"{folder}/topology/thread_siblings_list")
    return fitting(
        Cpu,
        {
            "cpu": cpu,
            "core": natural(tree.number(f"{folder}/topology/core_id")),
            "socket": natural(tree.number(f"{folder}/topology/physical_package_id")),
            "numa_node": nodes.get(cpu),
            "siblings": siblings or None,
            "governor": tree.text(f"{folder}/cpufreq/scaling_governor"),
        },
    )


def _info(tree: Tree) -> dict[str, str]:
    """What /proc/cpuinfo says of the first CPU."""
    first = (tree.text("proc/cpuinfo") or "").split("\n\n", 1)[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}
