# SPDX-License-Identifier: Apache-2.0
"""TopologyReady: workers, memory and devices are near one another, and nothing disturbs them."""

from collections.abc import Callable, Iterator

from headrace_api.node_facts import Cpu, NodeFacts, cpu_list, cpu_set
from headrace_api.node_state import NodeCheck, Subject
from headrace_dataplane.node.checks.check import About, Wanted, kernel_arguments, kubelet_settings
from headrace_dataplane.node.checks.placement import (
    candidates,
    chosen,
    no_device,
    numa_nodes,
    worker_cpus,
)

_about = About(Subject.TOPOLOGY)
#: Policies of the topology manager by which a pod's parts are on one NUMA node, or it is refused.
_STRICT = ("single-numa-node", "restricted")
_CLOCK = "clock"
_NONE_TO_SPARE = "every CPU is everybody's: there is none to spare"


def check(facts: NodeFacts, wanted: Wanted) -> Iterator[NodeCheck]:
    """Yield the checks."""
    yield _topology_manager(facts)
    yield _memory_manager(facts)
    yield _workers(facts, wanted)
    yield _numa(facts, wanted)
    cpus = worker_cpus(facts, wanted)
    for about_cpus in (_siblings, _isolation, _interrupts, _governor):
        yield about_cpus(facts, wanted, cpus)
    yield from _quiet(facts)
    yield _clock(facts)


def _several_nodes(facts: NodeFacts) -> bool:
    return len({cpu.numa_node or 0 for cpu in (facts.cpus.cpus if facts.cpus else ())}) > 1


def _manager(
    facts: NodeFacts, name: str, policy: Callable[[NodeFacts], str | None]
) -> NodeCheck | None:
    """What is said of either manager before its policy matters."""
    if facts.kubelet is None:
        return _about.skipped(name, "no kubelet runs here")
    if not _several_nodes(facts):
        return _about.skipped(name, "there is one NUMA node")
    if policy(facts) is None:
        return _about.unknown(name, "the kubelet's configuration")
    return None


def _topology_manager(facts: NodeFacts) -> NodeCheck:
    def policy(facts: NodeFacts) -> str | None:
        return facts.kubelet.topology_manager_policy if facts.kubelet else None

    name = "topology manager"
    if early := _manager(facts, name, policy):
        return early
    if policy(facts) in _STRICT:
        return _about.passed(name, f"{policy(facts)}")
    return _about.warned(
        name,
        f"policy {policy(facts)}: a pod may get CPUs of one NUMA node and devices of another",
        kubelet_settings("topologyManagerPolicy: single-numa-node", "cpu_manager_state"),
    )


def _memory_manager(facts: NodeFacts) -> NodeCheck:
    def policy(facts: NodeFacts) -> str | None:
        return facts.kubelet.memory_manager_policy if facts.kubelet else None

    name = "memory manager"
    if early := _manager(facts, name, policy):
        return early
    if policy(facts) == "Static":
        return _about.passed(name, "Static")
    return _about.warned(
        name,
        f"policy {policy(facts)}: a pod may get hugepages of another NUMA node than its CPUs",
        kubelet_settings(
            "memoryManagerPolicy: Static, reservedMemory: [{numaNode: 0, limits: {memory: ...}}, "
            "...] (together kubeReserved, systemReserved and evictionHard of memory)",
            "memory_manager_state",
        )
        # Then no pod runs that has any of it.
        + "\n  a kubelet does not start where a boot finds other memory: to have the file removed "
        "at each boot: echo 'r! /var/lib/kubelet/memory_manager_state' > "
        "/etc/tmpfiles.d/kubelet-state.conf",
    )


def _workers(facts: NodeFacts, wanted: Wanted) -> NodeCheck:
    found = candidates(facts)
    if found is None:
        return _about.unknown("workers", "/sys/devices/system/cpu/online")
    nodes, largest = found.nodes, wanted.largest
    needed, every = found.needed(largest), sum(map(found.needed, wanted.threads))
    best = max(nodes.values(), default=0)
    if best >= needed and len(found.cpus) < every:
        return _about.failed(
            "workers",
            f"{len(wanted.threads)} dataplanes need {every} CPUs, and {len(found.cpus)} are there "
            f"({found.why})",
            "fewer workers (workers.count of the Pipelines), or fewer CPUs kept from them (the "
            "kubelet's reservedSystemCPUs)",
        )
    if best >= needed:
        texts = (f"{cpu_list(found.on(node))} of NUMA node {node}" for node in nodes)
        return _about.passed("workers", f"may have CPUs {', '.join(texts)}: {found.why}")
    control, share = "", ""
    if needed > largest.workers:
        control, share = " and the control thread", "shareControlCore: true, or "
    return _about.failed(
        "workers",
        f"{largest.workers}{control} need {needed} CPUs of one NUMA node, and at most {best} "
        f"are there ({found.why})",
        f"fewer workers (--workers, workers.count of the Pipeline), or {share}fewer CPUs kept "
        "from them (the kubelet's reservedSystemCPUs)",
    )


def _numa(facts: NodeFacts, wanted: Wanted) -> NodeCheck:
    name = "NUMA node of devices"
    found, devices = candidates(facts), chosen(facts, wanted)
    if found is None:
        return _about.unknown(name, "/sys/devices/system/cpu/online")
    if not _several_nodes(facts):
        return _about.skipped(name, "there is one NUMA node")
    if not devices:
        return _about.skipped(name, no_device(wanted))
    strict = bool(facts.kubelet and facts.kubelet.topology_manager_policy in _STRICT)
    say = _about.failed if strict else _about.warned
    ends = "the kubelet refuses such a pod" if strict else "each packet crosses between them"
    needed = found.needed(wanted.largest)
    enough = [node for node, count in found.nodes.items() if count >= needed]
    if wanted.pool:
        devices = tuple(d for d in devices if (d.function.numa_node or 0) in enough) or devices
    for device in devices:
        node = device.function.numa_node or 0
        if enough and node not in enough:
            return say(
                name,
                f"{device.names} is on NUMA node {node}, which has {len(found.on(node))} CPUs for "
                f"workers, and {needed} are needed; they are on {_list(enough)}: {ends}",
                f"take a device of NUMA node {_list(enough)} (or put the card into a slot of it), "
                "or leave CPUs of NUMA node "
                f"{node} to workers: reservedSystemCPUs of the kubelet, isolcpus=",
            )
    nodes = numa_nodes(devices)
    if wanted.devices and not wanted.pool and len(nodes) > 1:
        return say(
            name,
            f"the devices named are on NUMA nodes {_list(sorted(nodes))}, and workers on one of "
            f"them: {ends}",
            "take devices of one NUMA node, or a Pipeline for each",
        )
    return _about.passed(name, f"{_list(sorted(nodes))}, where workers may be")


def _list(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers))


def _siblings(facts: NodeFacts, wanted: Wanted, cpus: tuple[Cpu, ...]) -> NodeCheck:
    name = "siblings of workers"
    agent = facts.kubelet
    if agent is not None and agent.cpu_manager_policy == "static":
        return _about.skipped(name, "the kubelet gives CPUs out: see CPUManagerReady, whole cores")
    if not cpus or all(cpu.siblings is None for cpu in cpus):
        return _about.unknown(name, "/sys/devices/system/cpu/cpu0/topology")
    mine = {cpu.cpu for cpu in cpus}
    shared = {cpu.cpu: cpu_set(cpu.siblings or "") - mine for cpu in cpus}
    if others := {cpu: them for cpu, them in shared.items() if them}:
        first, them = next(iter(others.items()))
        both = mine.union(*others.values())
        return _about.warned(
            name,
            f"CPU {first}, a worker's, shares its core with CPU {cpu_list(them)}, where anything "
            f"runs{_more(len(others))}: that halves its speed",
            "give workers whole cores: "
            + kernel_arguments(f"isolcpus=managed_irq,domain,{cpu_list(both)}"),
        )
    return _about.passed(name, "nobody else's")


def _more(count: int) -> str:
    return f" (and {count - 1} more such)" if count > 1 else ""


def _isolation(facts: NodeFacts, wanted: Wanted, cpus: tuple[Cpu, ...]) -> NodeCheck:
    name = "isolation of workers"
    known = facts.cpus
    if known is None or known.isolated is None or not cpus:
        return _about.unknown(name, "/sys/devices/system/cpu/isolated")
    mine = {cpu.cpu for cpu in cpus}
    if len(mine) == len(known.cpus):
        return _about.skipped(name, _NONE_TO_SPARE)
    disturbed = mine - cpu_set(known.isolated)
    if known.nohz_full is not None:
        disturbed |= mine - cpu_set(known.nohz_full)
    if not disturbed:
        return _about.passed(name, "isolcpus, nohz_full" if known.nohz_full else "isolcpus")
    workers, others = _parted(facts, mine)
    return _about.warned(
        name,
        f"the kernel runs other threads, or its timer, on CPUs {cpu_list(disturbed)}",
        kernel_arguments(
            f"isolcpus=managed_irq,domain,{workers} nohz_full={workers} rcu_nocbs={workers} "
            f"irqaffinity={others}"
        ),
    )


def _parted(facts: NodeFacts, mine: set[int]) -> tuple[str, str]:
    """CPUs to isolate, those that are already among them; and all others."""
    known = facts.cpus
    workers = mine | cpu_set((known.isolated if known else None) or "")
    others = {cpu.cpu for cpu in (known.cpus if known else ())} - workers
    return cpu_list(workers), cpu_list(others)


def _interrupts(facts: NodeFacts, wanted: Wanted, cpus: tuple[Cpu, ...]) -> NodeCheck:
    name = "interrupts on workers' CPUs"
    if facts.interrupts is None or not cpus:
        return _about.unknown(name, "/proc/interrupts")
    if facts.cpus and len(cpus) == len(facts.cpus.cpus):
        return _about.skipped(name, _NONE_TO_SPARE)
    # Those of a device that a dataplane has are where it has them.
    own = {each.address for each in (*chosen(facts, wanted), *chosen(facts, Wanted()))}
    mine = {cpu.cpu for cpu in cpus}
    found = [
        (each, at)
        for each in facts.interrupts
        if each.pci_address not in own
        # Where it goes and has come: one that never comes disturbs nobody.
        if (at := cpu_set(each.cpus) & cpu_set(each.seen_cpus) & mine)
    ]
    if not found:
        return _about.passed(name, "none of other devices")
    texts = [f"{each.name or each.irq} on CPU {cpu_list(at)}" for each, at in found[:3]]
    workers, others = _parted(facts, mine)
    numbers = " ".join(str(each.irq) for each, _ in found[:16])
    return _about.warned(
        name,
        f"{len(found)} of other devices: {', '.join(texts)}{', ...' if len(found) > 3 else ''}",
        f"now: for n in {numbers}; do echo {others} > /proc/irq/$n/smp_affinity_list; done\n"
        f"  irqbalance: IRQBALANCE_BANNED_CPULIST={workers} in /etc/default/irqbalance "
        "(Fedora, RHEL: /etc/sysconfig/irqbalance), then: systemctl restart irqbalance\n"
        + kernel_arguments(f"irqaffinity={others} isolcpus=managed_irq,domain,{workers}"),
    )


def _governor(facts: NodeFacts, wanted: Wanted, cpus: tuple[Cpu, ...]) -> NodeCheck:
    name = "governor"
    known = {cpu.cpu: cpu.governor for cpu in cpus if cpu.governor is not None}
    if not known:
        return _about.skipped(name, "firmware or hypervisor set the frequency: no cpufreq")
    slow = {cpu: governor for cpu, governor in known.items() if governor != "performance"}
    if not slow:
        return _about.passed(name, "performance")
    first, governor = next(iter(slow.items()))
    return _about.warned(
        name,
        f"CPU {first} has {governor}{_more(len(slow))}: it slows down whenever few packets come",
        f"cpupower -c {cpu_list(slow)} frequency-set -g performance",
    )


def _quiet(facts: NodeFacts) -> Iterator[NodeCheck]:
    pages, watchdog = facts.kernel.transparent_hugepages, facts.kernel.nmi_watchdog
    name = "transparent hugepages"
    if pages is None:
        yield _about.unknown(name, "/sys/kernel/mm/transparent_hugepage/enabled")
    elif pages == "always":
        yield _about.warned(
            name,
            "always: the kernel moves memory about, and stops threads meanwhile",
            "now: echo madvise > /sys/kernel/mm/transparent_hugepage/enabled\n"
            + kernel_arguments("transparent_hugepage=madvise"),
        )
    else:
        yield _about.passed(name, pages)
    name = "NMI watchdog"
    if watchdog is None:
        yield _about.skipped(name, "the kernel has none")
    elif watchdog:
        yield _about.warned(
            name,
            "on: it interrupts every CPU, every few seconds",
            "now: sysctl kernel.nmi_watchdog=0\n" + kernel_arguments("nmi_watchdog=0"),
        )
    else:
        yield _about.passed(name, "off")


def _clock(facts: NodeFacts) -> NodeCheck:
    now, others = facts.kernel.clock_source, facts.kernel.clock_sources or ()
    if now is None:
        return _about.unknown(
            _CLOCK, "/sys/devices/system/clocksource/clocksource0/current_clocksource"
        )
    if now in ("tsc", "arch_sys_counter"):
        return _about.passed(_CLOCK, now)
    if "tsc" in others:
        return _about.warned(
            _CLOCK,
            f"{now}, though the TSC is sound: reading it takes longer",
            "now: echo tsc > /sys/devices/system/clocksource/clocksource0/current_clocksource\n"
            + kernel_arguments("clocksource=tsc"),
        )
    return _about.failed(
        _CLOCK,
        f"{now}: the kernel found the TSC to be unstable, and DPDK goes by it",
        "dmesg | grep -i -e tsc -e clocksource   # why\n"
        + kernel_arguments("tsc=reliable")
        + "\n  a virtual machine: have its host give it an invariant TSC (QEMU: -cpu "
        "host,+invtsc)",
    )
