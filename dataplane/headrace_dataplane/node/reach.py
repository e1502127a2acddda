# SPDX-License-Identifier: Apache-2.0
"""What a machine can reach as it is: pure, from its facts."""

from collections.abc import Iterator
from dataclasses import dataclass

from headrace_api import SUPPORTED_TYPES, AttachmentType, HugepageSize
from headrace_api.node_facts import NodeFacts, cpu_list
from headrace_dataplane.node.checks.check import Wanted
from headrace_dataplane.node.checks.hugepages import MEBIBYTES
from headrace_dataplane.node.checks.placement import Device, candidates, chosen
from headrace_dataplane.node.drivers import VFIO


@dataclass(frozen=True)
class Attaches:
    """Whether Interfaces and uplinks of a type work here."""

    type: AttachmentType
    works: bool
    why: str = ""
    """What it works with, or why it does not."""


@dataclass(frozen=True)
class WorkerCpus:
    """CPUs for workers on one NUMA node."""

    numa_node: int
    count: int
    cpus: str


@dataclass(frozen=True)
class Reach:
    """All of it."""

    attachments: tuple[Attaches, ...]
    workers: tuple[WorkerCpus, ...]
    workers_are: str
    """By what the workers' CPUs are told from the others."""
    page_size: HugepageSize | None
    """Of the hugepages that are free; None: ordinary pages."""
    free_mib: int
    """Memory in hugepages of that size that is free, on all NUMA nodes."""


def reach(facts: NodeFacts, wanted: Wanted) -> Reach:
    """Return what works here."""
    found = candidates(facts)
    size, free = _pages(facts, wanted)
    return Reach(
        attachments=tuple(_attachments(facts)),
        workers=tuple(
            WorkerCpus(node, count, cpu_list(found.on(node))) for node, count in found.nodes.items()
        )
        if found
        else (),
        workers_are=found.why if found else "",
        page_size=size,
        free_mib=free,
    )


def _pages(facts: NodeFacts, wanted: Wanted) -> tuple[HugepageSize | None, int]:
    """The size of which most memory is free, and how much."""
    free = {
        size: sum(p.free for p in facts.hugepages or () if p.size is size) * mib
        for size, mib in MEBIBYTES.items()
        if any(memory.page_size in (None, size) for memory in wanted.hugepages)
    }
    size = max(free, key=free.__getitem__)
    return (size, free[size]) if free[size] else (None, 0)


def _attachments(facts: NodeFacts) -> Iterator[Attaches]:
    packet, tun = facts.kernel.packet_sockets, facts.kernel.tun
    ready = [each.address for each in chosen(facts, Wanted()) if _usable(facts, each)]
    missing = {
        AttachmentType.AF_PACKET: ""
        if packet
        else "the kernel has no AF_PACKET: modprobe af_packet",
        AttachmentType.TAP: "" if tun else "no /dev/net/tun: modprobe tun",
        AttachmentType.SRIOV: "" if ready else "no device is ready for DPDK",
    }
    # A pod's device is a veth pair, read as AFPacket does.
    missing[AttachmentType.POD] = (
        missing[AttachmentType.AF_PACKET] if facts.kubelet else "no kubelet runs here"
    )
    for kind in AttachmentType:
        why = missing.get(kind, "")
        if kind not in SUPPORTED_TYPES:
            why = "not in this release"
        with_these = ", ".join(ready) if kind is AttachmentType.SRIOV else ""
        yield Attaches(kind, not why, why or with_these)


def _usable(facts: NodeFacts, device: Device) -> bool:
    """Whether DPDK gets a device that has the right driver: vfio asks for an IOMMU."""
    return (
        device.function.driver != VFIO
        or device.function.iommu_group is not None
        or bool(facts.iommu.unsafe_no_iommu)
    )
