# SPDX-License-Identifier: Apache-2.0
"""Which devices and CPUs a dataplane on this machine would have."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from headrace_api.node_facts import Cpu, Nic, NodeFacts, PciFunction, VirtualFunction, cpu_set
from headrace_dataplane.node.checks.check import Threads, Wanted
from headrace_dataplane.node.drivers import USERSPACE, is_ready


@dataclass(frozen=True)
class Device:
    """A function that DPDK may drive."""

    function: PciFunction
    card: Nic
    """The function itself, or the physical one that it is a VF of."""

    @property
    def is_vf(self) -> bool:
        """Whether it is a VF of a card of this machine."""
        return isinstance(self.function, VirtualFunction)

    @property
    def address(self) -> str:
        """Its PCI address."""
        return self.function.pci_address

    @property
    def names(self) -> str:
        """Its address, and its kernel devices where it has some."""
        names = ",".join(self.function.device_names)
        return f"{self.address} ({names})" if names else self.address


@dataclass(frozen=True)
class Candidates:
    """CPUs that workers may get."""

    cpus: Mapping[int, Cpu]
    why: str
    """By what they are told from the others."""
    control_apart: bool
    """Whether a control thread with a CPU of its own has one of the others."""

    def needed(self, threads: Threads) -> int:
        """How many a dataplane takes, all of one NUMA node."""
        return threads.workers if self.control_apart else threads.cpus

    def on(self, node: int) -> frozenset[int]:
        """Those of a NUMA node."""
        return frozenset(n for n, cpu in self.cpus.items() if (cpu.numa_node or 0) == node)

    @property
    def nodes(self) -> Mapping[int, int]:
        """NUMA node -> how many it has."""
        found: defaultdict[int, int] = defaultdict(int)
        for cpu in self.cpus.values():
            found[cpu.numa_node or 0] += 1
        return dict(sorted(found.items()))


def functions(facts: NodeFacts) -> Iterator[Device]:
    """All network functions, physical and virtual."""
    for card in facts.nics or ():
        yield Device(card, card)
        for vf in card.vfs:
            yield Device(vf, card)


def chosen(facts: NodeFacts, wanted: Wanted) -> tuple[Device, ...]:
    """The devices that it is about: those named, else all that are ready for DPDK.

    A named one that the node itself cannot do without is never to be taken: of it nothing more is
    asked.
    """
    if wanted.devices:
        named = (each for each in functions(facts) if each.address in wanted.devices)
        return tuple(each for each in named if each.is_vf or not each.card.only_uplink)
    return tuple(
        each
        for each in functions(facts)
        if (is_ready(each.function) if each.is_vf else each.function.driver in USERSPACE)
    )


def no_device(wanted: Wanted) -> str:
    """Why there is nothing to check where `chosen` is empty."""
    if wanted.devices:
        return "of the devices named there is none that may be taken"
    return "no device is ready for DPDK, and none is named (--device)"


def candidates(facts: NodeFacts) -> Candidates | None:
    """The CPUs that workers may get; None: the CPUs are not known."""
    if facts.cpus is None:
        return None
    online = {cpu.cpu: cpu for cpu in facts.cpus.cpus}
    every = frozenset(online)
    agent = facts.kubelet
    if agent and agent.cpu_manager_policy == "static" and agent.reserved_cpus is not None:
        # Of these a pod has all its CPUs, that of its control thread, too.
        mine, why = every - cpu_set(agent.reserved_cpus), "not the kubelet's reserved ones"
        return _candidates(online, mine, why, control_apart=False)
    if isolated := every & cpu_set(facts.cpus.isolated or ""):
        return _candidates(online, isolated, "isolated ones", control_apart=isolated != every)
    # The first core is everybody's.
    first = min(online, default=0)
    shared = cpu_set(online[first].siblings or str(first)) if online else frozenset()
    rest = every - shared
    return _candidates(online, rest or every, "all but the first core", control_apart=bool(rest))


def _candidates(
    online: Mapping[int, Cpu], mine: frozenset[int], why: str, *, control_apart: bool
) -> Candidates:
    return Candidates({cpu: online[cpu] for cpu in sorted(mine)}, why, control_apart)


def worker_cpus(facts: NodeFacts, wanted: Wanted) -> tuple[Cpu, ...]:
    """The CPUs of which the workers would get some: those near the devices, if there are any."""
    found = candidates(facts)
    if found is None:
        return ()
    nodes = numa_nodes(chosen(facts, wanted))
    near = tuple(cpu for cpu in found.cpus.values() if (cpu.numa_node or 0) in nodes)
    return near or tuple(found.cpus.values())


def numa_nodes(devices: tuple[Device, ...]) -> frozenset[int]:
    """The NUMA nodes that these devices are attached to; those that do not say are on 0."""
    return frozenset(each.function.numa_node or 0 for each in devices)
