# SPDX-License-Identifier: Apache-2.0
"""What a node is like, as far as DPDK cares: facts that were read there, and nothing concluded.

A fact that could not be read is absent. Sets of CPUs are lists as the kernel writes them: 1-3,9.
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from .attachment import DeviceName, PciAddress
from .base import StatusModel
from .pipeline import HugepageSize

#: Linux's CONFIG_NR_CPUS and CONFIG_NODES_SHIFT at their largest.
CpuNumber = Annotated[int, Field(ge=0, le=8191)]
NumaNode = Annotated[int, Field(ge=0, le=1023)]
CpuList = Annotated[
    str,
    Field(max_length=8192, pattern=r"^([0-9]{1,4}(-[0-9]{1,4})?(,[0-9]{1,4}(-[0-9]{1,4})?)*)?$"),
]
#: A name of the kernel's or of a program's: of a driver, a module, a clock.
Word = Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z0-9_.:+-]*$")]
#: Text of one line.
Line = Annotated[str, Field(max_length=256, pattern=r"^[ -~]*$")]
Address = Annotated[str, Field(max_length=64, pattern=r"^[0-9a-fA-F.:]+$")]
PciNumber = Annotated[str, Field(max_length=4, pattern=r"^[0-9a-f]{4}$")]
Pages = Annotated[int, Field(ge=0, le=(1 << 40))]
Bytes = Annotated[int, Field(ge=0, le=(1 << 62))]


def cpu_set(text: str) -> frozenset[int]:
    """The CPUs of a list such as 1-3,9."""
    cpus: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        if first:
            cpus |= set(range(int(first), int(last or first) + 1))
    return frozenset(cpus)


def cpu_list(cpus: Iterable[int]) -> str:
    """The list of these CPUs: 1-3,9."""
    runs: list[list[int]] = []
    for cpu in sorted(set(cpus)):
        if runs and runs[-1][1] == cpu - 1:
            runs[-1][1] = cpu
        else:
            runs.append([cpu, cpu])
    return ",".join(f"{first}" if first == last else f"{first}-{last}" for first, last in runs)


class LinkState(StrEnum):
    """Whether there is a carrier."""

    UP = "Up"
    DOWN = "Down"


class NodeTraffic(StrEnum):
    """What of the node's own goes by a device."""

    DEFAULT_ROUTE = "DefaultRoute"
    KUBELET_ADDRESS = "KubeletAddress"
    API_SERVER = "APIServer"


class GroupPeer(StatusModel):
    """Another device of an IOMMU group: the group goes to one user, whole."""

    pci_address: PciAddress
    """PCI address of the device."""
    driver: Word = ""
    """Kernel driver that it is bound to. Empty: none."""
    bridge: bool = False
    """Whether it is a PCI bridge, which may stay with its driver."""


class PciFunction(StatusModel):
    """What network functions have, physical and virtual ones."""

    pci_address: PciAddress
    """PCI address: domain:bus:device.function."""
    vendor_id: PciNumber | None = None
    """PCI vendor, four hexadecimal digits: 8086."""
    device_id: PciNumber | None = None
    """PCI device, four hexadecimal digits."""
    driver: Word = ""
    """Kernel driver that it is bound to. Empty: none."""
    numa_node: NumaNode | None = None
    """NUMA node that it is attached to, 0 to 1023. Absent: the firmware does not say."""
    iommu_group: int | None = Field(default=None, ge=0, le=0x7FFFFFFF)
    """Its IOMMU group. Absent: no IOMMU translates for it."""
    group_peers: tuple[GroupPeer, ...] = Field(default=(), max_length=64)
    """Other devices of the group, at most 64; VFs and network cards are among them."""
    device_names: tuple[DeviceName, ...] = Field(default=(), max_length=16)
    """Kernel devices that its driver made, at most 16."""
    mtu: int | None = Field(default=None, ge=0, le=65536)
    """MTU of the first kernel device in bytes."""
    users: tuple[Line, ...] = Field(default=(), max_length=16)
    """Who uses it: pods as namespace/name, or processes that hold it open; at most 16."""


class VirtualFunction(PciFunction):
    """A VF of a network card."""

    index: int = Field(ge=0, le=65535)
    """Its number at the physical function, from 0."""


class Nic(PciFunction):
    """A network card: a physical function, or a VF that a hypervisor gave to this machine."""

    firmware: Line | None = None
    """Version of its firmware, as its driver says."""
    link: LinkState | None = None
    """Up or Down. Absent: no kernel device, or one that is not set up."""
    speed_mbits: int | None = Field(default=None, ge=1, le=10_000_000)
    """Speed of the link in Mbit/s."""
    vfs_total: int | None = Field(default=None, ge=0, le=65535)
    """Most VFs that it can have. Absent: it has no SR-IOV."""
    vfs: tuple[VirtualFunction, ...] = Field(default=(), max_length=256)
    """The VFs that were made, at most 256."""
    node_traffic: tuple[NodeTraffic, ...] = Field(default=(), max_length=3)
    """What of the node's own traffic goes by it: DefaultRoute, KubeletAddress, APIServer."""
    only_uplink: bool = False
    """Whether some of nodeTraffic has no other card to go by, as a bond of two would have."""


class HugepagePool(StatusModel):
    """Hugepages of one size on one NUMA node."""

    size: HugepageSize
    """2Mi or 1Gi."""
    numa_node: NumaNode | None = None
    """The NUMA node. Absent: a machine without any."""
    total: Pages
    """Pages that are reserved."""
    free: Pages
    """Pages of these that nobody uses."""


class Cpu(StatusModel):
    """A CPU that is online."""

    cpu: CpuNumber
    """Its number, 0 to 8191."""
    core: int | None = Field(default=None, ge=0, le=0x7FFFFFFF)
    """Number of its core, unique in its socket."""
    socket: int | None = Field(default=None, ge=0, le=0x7FFFFFFF)
    """Number of its socket."""
    numa_node: NumaNode | None = None
    """Its NUMA node, 0 to 1023."""
    siblings: CpuList | None = None
    """CPUs of its core, itself among them."""
    governor: Word | None = None
    """What sets its frequency. Absent: firmware or hypervisor do."""


class Cpus(StatusModel):
    """The CPUs, and how they are kept from others."""

    cpus: tuple[Cpu, ...] = Field(default=(), max_length=8192)
    """Those that are online, at most 8192."""
    vendor: Word | None = None
    """Maker, such as GenuineIntel or AuthenticAMD."""
    virtual: bool | None = None
    """Whether the machine is a virtual one, as the CPU says."""
    isolated: CpuList | None = None
    """CPUs that the scheduler leaves alone (isolcpus)."""
    nohz_full: CpuList | None = None
    """CPUs without a timer tick while one thread runs. Absent: the kernel cannot do that."""


class KubeletHugepages(StatusModel):
    """Hugepages of one size that pods may use."""

    size: HugepageSize
    """2Mi or 1Gi."""
    limit_bytes: Bytes
    """What all pods together may have, in bytes: set when the kubelet starts, from the pages that
    there are then."""


class Kubelet(StatusModel):
    """How the kubelet gives out CPUs, memory and devices."""

    running: bool = False
    """Whether its process is there."""
    started_at: str | None = Field(
        default=None, max_length=40, json_schema_extra={"format": "date-time"}
    )
    """When it started (RFC 3339)."""
    config_readable: bool = False
    """Whether its configuration could be read; without it the policies are those of its state."""
    cpu_manager_policy: Word | None = None
    """none or static."""
    full_pcpus_only: bool = False
    """Whether pods get whole cores alone (full-pcpus-only)."""
    reserved_cpus: CpuList | None = None
    """CPUs that no pod gets for itself (reservedSystemCPUs)."""
    topology_manager_policy: Word | None = None
    """none, best-effort, restricted or single-numa-node."""
    memory_manager_policy: Word | None = None
    """None or Static."""
    hugepages: tuple[KubeletHugepages, ...] | None = Field(default=None, max_length=8)
    """Hugepages that pods may use. Absent: the control group of pods is not there."""
    addresses: tuple[Address, ...] = Field(default=(), max_length=8)
    """Addresses of the node that the kubelet was told, at most 8."""
    api_servers: tuple[Address, ...] = Field(default=(), max_length=16)
    """Addresses of API servers that it asks, at most 16; of those given by name, the ones that it
    is connected to."""


class Iommu(StatusModel):
    """Whether devices reach only the memory that they may."""

    groups: int | None = Field(default=None, ge=0, le=65536)
    """IOMMU groups; 0: the IOMMU is off or there is none."""
    interrupt_remapping: bool | None = None
    """Whether interrupts of devices are translated, too. Absent: this kind of machine does not
    say."""
    unsafe_no_iommu: bool | None = None
    """Whether vfio gives out devices without an IOMMU (enable_unsafe_noiommu_mode)."""
    dma_entry_limit: int | None = Field(default=None, ge=0, le=(1 << 32))
    """Most pieces of memory that one vfio user may map (vfio_iommu_type1)."""


class Kernel(StatusModel):
    """The kernel, its settings and drivers."""

    release: Line | None = None
    """Its release, as uname -r."""
    command_line: str | None = Field(default=None, max_length=8192)
    """What it was started with."""
    lockdown: Word | None = None
    """none, integrity or confidentiality."""
    pci_drivers: tuple[Word, ...] | None = Field(default=None, max_length=512)
    """Drivers for PCI devices that are loaded or built in, at most 512."""
    modules: tuple[Word, ...] | None = Field(default=None, max_length=1024)
    """Modules that are loaded, and of those built in the ones with parameters, at most 1024."""
    packet_sockets: bool | None = None
    """Whether it has AF_PACKET."""
    tun: bool | None = None
    """Whether /dev/net/tun is there."""
    clock_source: Word | None = None
    """The clock it goes by."""
    clock_sources: tuple[Word, ...] | None = Field(default=None, max_length=16)
    """Clocks that it would go by; tsc is missing where it found the TSC to be unstable."""
    transparent_hugepages: Word | None = None
    """always, madvise or never."""
    nmi_watchdog: bool | None = None
    """Whether a counter interrupts each CPU to see that it still runs."""


class MemoryLock(StatusModel):
    """How much memory a process, and who it starts, may lock (RLIMIT_MEMLOCK)."""

    process: Word
    """Name of the process."""
    limit_bytes: Bytes | None = None
    """The limit in bytes. Absent: none."""
    ipc_lock: bool = False
    """Whether the limit does not count, by the capability IPC_LOCK."""


class Interrupt(StatusModel):
    """An interrupt of a device."""

    irq: int = Field(ge=0, le=0x7FFFFFFF)
    """Its number."""
    name: Line = ""
    """Name of who handles it."""
    pci_address: PciAddress | None = None
    """Whose it is, where that is a PCI device."""
    cpus: CpuList
    """CPUs that it goes to now."""
    seen_cpus: CpuList
    """CPUs that have had it since the machine started."""


class ReportedFacts(StatusModel):
    """What NodeStates tell of it."""

    nics: tuple[Nic, ...] | None = Field(default=None, max_length=256)
    """Network cards on PCI, at most 256."""
    hugepages: tuple[HugepagePool, ...] | None = Field(default=None, max_length=2048)
    """Hugepages by size and NUMA node."""
    cpus: Cpus | None = None
    """The CPUs."""
    kubelet: Kubelet | None = None
    """The kubelet. Absent: there is none."""
    iommu: Iommu = Iommu()
    """The IOMMU, and vfio's use of it."""
    kernel: Kernel = Kernel()
    """The kernel."""
    memory_locks: tuple[MemoryLock, ...] = Field(default=(), max_length=8)
    """How much memory this process, and container runtimes, may lock; at most 8."""


class NodeFacts(ReportedFacts):
    """All of it."""

    interrupts: tuple[Interrupt, ...] | None = Field(default=None, max_length=8192)
    """Interrupts of devices, at most 8192."""
    unreadable: tuple[Line, ...] = Field(default=(), max_length=64)
    """Files that are there and may not be read by who looked, at most 64."""
