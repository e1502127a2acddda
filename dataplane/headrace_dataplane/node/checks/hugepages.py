# SPDX-License-Identifier: Apache-2.0
"""HugepagesReady: enough pages where the workers are, and the kubelet knows of them."""

from collections import defaultdict
from collections.abc import Iterator

from headrace_api import HugepageSize
from headrace_api.node_facts import HugepagePool, NodeFacts
from headrace_api.node_state import NodeCheck, Subject
from headrace_dataplane.node.checks.check import About, Memory, Wanted, kernel_arguments
from headrace_dataplane.node.checks.placement import chosen, numa_nodes

_about = About(Subject.HUGEPAGES)
MEBIBYTES = {HugepageSize.SIZE_2MI: 2, HugepageSize.SIZE_1GI: 1024}
_KERNEL_SIZES = {HugepageSize.SIZE_2MI: ("2M", 2048), HugepageSize.SIZE_1GI: ("1G", 1048576)}


def check(facts: NodeFacts, wanted: Wanted) -> Iterator[NodeCheck]:
    """Yield the checks."""
    if not wanted.hugepages:
        yield _about.skipped("hugepages", "no dataplane asks for any")
    for memory in wanted.hugepages:
        yield from _reserved(facts, wanted, memory)
    yield _counted(facts, wanted)


def _reserved(facts: NodeFacts, wanted: Wanted, memory: Memory) -> Iterator[NodeCheck]:
    if facts.hugepages is None:
        yield _about.unknown("hugepages", "/sys/devices/system/node/node0/hugepages")
        return
    nodes: defaultdict[int, list[HugepagePool]] = defaultdict(list)
    for pool in facts.hugepages:
        if memory.page_size in (None, pool.size):
            nodes[pool.numa_node or 0].append(pool)
    near = numa_nodes(chosen(facts, wanted)) & nodes.keys()
    if not near or wanted.pool:
        # Any of them will do: the one with most.
        best = max(near or nodes, key=lambda n: max(map(_free_mib, nodes[n]), default=0), default=0)
        near = frozenset({best})
    for node in sorted(near):
        yield _on_node(facts, memory, node, nodes[node])


def _on_node(facts: NodeFacts, memory: Memory, node: int, pools: list[HugepagePool]) -> NodeCheck:
    name, asked = f"hugepages of NUMA node {node}", memory.mebibytes
    texts = [f"{p.free} of {p.total} pages of {p.size} are free" for p in pools if p.total]
    found = ", ".join(texts) or "none is reserved"
    if any(_free_mib(pool) >= asked for pool in pools):
        return _about.passed(name, found)
    if any(pool.total * MEBIBYTES[pool.size] >= asked for pool in pools):
        return _about.warned(
            name,
            f"{found}, and {asked} MiB are wanted: others use them, or a dataplane that runs",
            "grep -H HugetlbPages /proc/[0-9]*/status | grep -v ' 0 kB'   # who has them",
        )
    size = memory.page_size or HugepageSize.SIZE_2MI
    short, kib = _KERNEL_SIZES[size]
    pages = -(-asked // MEBIBYTES[size])
    file = f"/sys/devices/system/node/node{node}/hugepages/hugepages-{kib}kB/nr_hugepages"
    # On the command line pages are shared out among all nodes.
    everywhere = pages * len({pool.numa_node for pool in facts.hugepages or ()})
    restart = "; systemctl restart kubelet" if facts.kubelet is not None else ""
    return _about.failed(
        name,
        f"{found}, and {asked} MiB are wanted: the engine would use ordinary pages, slowly",
        f"now: echo {pages} > {file}{restart}; cat {file}   # the kernel may give fewer\n"
        + kernel_arguments(f"default_hugepagesz={short} hugepagesz={short} hugepages={everywhere}"),
    )


def _free_mib(pool: HugepagePool) -> int:
    return pool.free * MEBIBYTES[pool.size]


def _counted(facts: NodeFacts, wanted: Wanted) -> NodeCheck:
    """Whether pods may use the pages: the kubelet counts them when it starts, and never again."""
    name = "hugepages of the kubelet"
    if facts.kubelet is None:
        return _about.skipped(name, "no kubelet runs here")
    if facts.kubelet.hugepages is None:
        return _about.unknown(name, "/sys/fs/cgroup/kubepods.slice/hugetlb.2MB.max")
    for limit in facts.kubelet.hugepages:
        asked = sum(m.mebibytes for m in wanted.hugepages if m.page_size in (None, limit.size))
        if wanted.hugepages and not asked:
            continue
        pools = (pool for pool in facts.hugepages or () if pool.size == limit.size)
        total = sum(pool.total for pool in pools) * MEBIBYTES[limit.size]
        mib = limit.limit_bytes >> 20
        if mib < total:
            say = _about.failed if mib < asked else _about.warned
            return say(
                name,
                f"{total} MiB of {limit.size} are reserved, and pods may have {mib}: reserved "
                "after the kubelet started. A pod that touches more is killed (SIGBUS)",
                "systemctl restart kubelet",
            )
    return _about.passed(name, "all that are reserved are counted")
