# SPDX-License-Identifier: Apache-2.0
"""A node that is right for DPDK, as /proc, /sys, /etc and /var of it would be read.

Two NUMA nodes of four cores with two CPUs each: 0-3 with 8-11, and 4-7 with 12-15. The first core
of each is the system's. 0000:01:00.0 (eno1) is the node's own; 0000:3b:00.0 is an Intel E810 on
NUMA node 0 with two VFs on vfio-pci, 0000:86:00.0 a ConnectX-6 on NUMA node 1 with two VFs.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from headrace_api.node_facts import cpu_list
from headrace_dataplane.node.netlink import KernelNetlink, Link

OWN, INTEL, MELLANOX = "0000:01:00.0", "0000:3b:00.0", "0000:86:00.0"
INTEL_VFS = ("0000:3b:01.0", "0000:3b:01.1")
MELLANOX_VFS = ("0000:86:00.2", "0000:86:00.3")
EVERY = range(16)
PCI = "sys/bus/pci/devices"
CPU = "sys/devices/system/cpu"
NODE = "sys/devices/system/node"
CLOCK = "sys/devices/system/clocksource/clocksource0"
PODS = "sys/fs/cgroup/kubepods.slice"
KUBELET_CONFIG = "var/lib/kubelet/config.yaml"
KUBECONFIG = "etc/kubernetes/kubelet.conf"
KUBELET_FLAGS = (
    "/usr/bin/kubelet",
    "--config=/var/lib/kubelet/config.yaml",
    "--kubeconfig",
    "/etc/kubernetes/kubelet.conf",
    "--node-ip=192.0.2.10",
)
SOCKETS = (
    "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt"
    "   uid  timeout inode"
)
ARGUMENTS = "isolcpus=managed_irq,domain,1-3,5-7,9-11,13-15 nohz_full=1-3,5-7,9-11,13-15"
_CAPABILITIES_OF_A_USER = "0000000000000000"
_PAGES = 512

Files = dict[str, str]
"""Path below the root -> what the file has, `-> TARGET` of a symbolic link,
or `<empty>` of a folder."""


@dataclass
class FakeNetwork(KernelNetlink):
    """The kernel's devices and routes: all of the node's own goes by one device."""

    devices: tuple[Link, ...] = (
        Link("lo", 1),
        Link("eno1", 2),
        Link("ens1f0", 3),
        Link("ens2f0", 4),
    )
    default: int = 2
    own: dict[str, int] = field(default_factory=lambda: {"192.0.2.10": 2})
    reached: dict[str, int] = field(default_factory=lambda: {"192.0.2.1": 2})

    def links(self) -> dict[str, Link]:
        return {link.name: link for link in self.devices}

    def routes(self) -> Iterator[tuple[int, bool]]:
        yield 4, False
        yield self.default, True

    def addresses(self) -> Iterator[tuple[int, str]]:
        for address, index in self.own.items():
            yield index, address

    def outputs(self, address: str) -> Iterator[int]:
        if address in self.reached:
            yield self.reached[address]

    def firmware(self, name: str) -> str | None:
        return {"ens1f0": "4.40 0x8001c967 1.3534.0"}.get(name)


def good_node() -> Files:
    """Return the files of a node with which nothing is wrong."""
    return {
        **_kernel(),
        **_cpus(),
        **_memory(),
        **_kubelet(),
        **card(OWN, "eno1", ("8086", "1521"), "igb", node=0, group=10, mtu=1500, speed=1000),
        **card(INTEL, "ens1f0", ("8086", "159b"), "ice", node=0, group=20, vfs=INTEL_VFS),
        **card(MELLANOX, "ens2f0", ("15b3", "101d"), "mlx5_core", 1, group=30, vfs=MELLANOX_VFS),
        **function(INTEL_VFS[0], ("8086", "1889"), "vfio-pci", 0, 21, INTEL),
        **function(INTEL_VFS[1], ("8086", "1889"), "vfio-pci", 0, 22, INTEL),
        **function(MELLANOX_VFS[0], ("15b3", "101e"), "mlx5_core", 1, 31, MELLANOX, "ens2f0v0"),
        **function(MELLANOX_VFS[1], ("15b3", "101e"), "mlx5_core", 1, 32, MELLANOX, "ens2f0v1"),
        # A disk, which is no network card.
        **function("0000:02:00.0", ("144d", "a80a"), "nvme", 0, 11, kind="0x010802"),
        **interrupts(),
    }


def _kernel() -> Files:
    files = {
        "proc/sys/kernel/osrelease": "6.12.0-1-amd64",
        "proc/sys/kernel/nmi_watchdog": "0",
        "proc/cmdline": f"BOOT_IMAGE=/vmlinuz root=/dev/sda1 intel_iommu=on iommu=pt {ARGUMENTS}",
        "proc/stat": "cpu  1 2 3\nbtime 1750000000\nprocesses 3\n",
        "proc/net/packet": "",
        "dev/net/tun": "",
        "sys/kernel/security/lockdown": "[none] integrity confidentiality",
        "sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never",
        f"{CLOCK}/current_clocksource": "tsc",
        f"{CLOCK}/available_clocksource": "tsc hpet acpi_pm",
        "sys/module/vfio/parameters/enable_unsafe_noiommu_mode": "N",
        "sys/module/vfio_iommu_type1/parameters/dma_entry_limit": "65535",
        **process(1, "systemd", "Max locked memory         8388608    8388608    bytes"),
        **process(700, "containerd", "Max locked memory         unlimited  unlimited  bytes"),
        "proc/self/status": f"Name:\theadrace\nCapEff:\t{_CAPABILITIES_OF_A_USER}\n",
        "proc/self/limits": "Max locked memory         8388608    8388608    bytes\n",
    }
    for driver in ("vfio-pci", "ice", "igb", "mlx5_core", "nvme"):
        files[f"sys/bus/pci/drivers/{driver}/bind"] = ""
    for module in ("mlx5_core", "mlx5_ib", "ib_uverbs", "tun"):
        files[f"sys/module/{module}/refcnt"] = "1"
    return files


def process(number: int, name: str, limits: str = "") -> Files:
    """Return the files of a process that was started 100 s after the machine."""
    return {
        f"proc/{number}/comm": name,
        f"proc/{number}/cmdline": name,
        f"proc/{number}/limits": f"Limit  Soft Limit  Hard Limit  Units\n{limits}\n",
        f"proc/{number}/stat": f"{number} (a (very) odd name) S " + "0 " * 18 + "10000 5 6 7",
    }


def _cpus() -> Files:
    files = {
        "proc/cpuinfo": "processor\t: 0\nvendor_id\t: GenuineIntel\nflags\t\t: fpu tsc\n\n",
        f"{CPU}/online": "0-15",
        f"{CPU}/isolated": "1-3,5-7,9-11,13-15",
        f"{CPU}/nohz_full": "1-3,5-7,9-11,13-15",
        f"{NODE}/node0/cpulist": "0-3,8-11",
        f"{NODE}/node1/cpulist": "4-7,12-15",
    }
    for cpu in EVERY:
        topology = f"{CPU}/cpu{cpu}/topology"
        files[f"{topology}/core_id"] = str(cpu % 4)
        files[f"{topology}/physical_package_id"] = str(cpu % 8 // 4)
        files[f"{topology}/thread_siblings_list"] = f"{cpu % 8},{cpu % 8 + 8}"
        files[f"{CPU}/cpu{cpu}/cpufreq/scaling_governor"] = "performance"
    return files


def _memory() -> Files:
    return {**pages(0, _PAGES), **pages(1, _PAGES)}


def pages(node: int, total: int) -> Files:
    """Return the files of a NUMA node's hugepages: of 2 MiB, all free."""
    folder = f"{NODE}/node{node}/hugepages"
    return {
        f"{folder}/hugepages-2048kB/nr_hugepages": str(total),
        f"{folder}/hugepages-2048kB/free_hugepages": str(total),
        f"{folder}/hugepages-1048576kB/nr_hugepages": "0",
        f"{folder}/hugepages-1048576kB/free_hugepages": "0",
    }


def _kubelet() -> Files:
    state = {"policyName": "static", "defaultCpuSet": "0-15", "entries": {}, "checksum": 1}
    return {
        **process(900, "kubelet"),
        "proc/900/cmdline": "\0".join(KUBELET_FLAGS) + "\0",
        KUBELET_CONFIG: kubelet_config(),
        "var/lib/kubelet/cpu_manager_state": json.dumps(state),
        "var/lib/kubelet/memory_manager_state": json.dumps({"policyName": "Static"}),
        KUBECONFIG: kubeconfig("https://k8s.example.org:6443"),
        "proc/900/fd/0": "-> /dev/null",
        "proc/900/fd/7": "-> socket:[4711]",
        "proc/900/net/tcp": f"{SOCKETS}\n{connection('010200C0', 6443, 4711)}\n",
        f"{PODS}/hugetlb.2MB.max": str(2 * _PAGES << 21),
        f"{PODS}/hugetlb.1GB.max": "0",
    }


def kubeconfig(*servers: str) -> str:
    """Return a kubeconfig with a cluster for each."""
    return json.dumps(
        {"clusters": [{"name": "k", "cluster": {"server": each}} for each in servers]}
    )


def connection(address: str, port: int, inode: int, state: str = "01") -> str:
    """Return a line of /proc/net/tcp or tcp6; the remote address is as it is written there."""
    own = "0" * len(address)
    return (
        f"   0: {own}:B171 {address}:{port:04X} {state} 00000000:00000000 02:00000A2B 00000000"
        f"     0        0 {inode} 2 0000000074d2bccb 20 4 30 10 -1"
    )


def kubelet_config(**changes: object) -> str:
    """Return the kubelet's configuration, with changes; None takes a setting away."""
    config: dict[str, object] = {
        "kind": "KubeletConfiguration",
        "cpuManagerPolicy": "static",
        "cpuManagerPolicyOptions": {"full-pcpus-only": "true"},
        "reservedSystemCPUs": "0,4,8,12",
        "topologyManagerPolicy": "single-numa-node",
        "memoryManagerPolicy": "Static",
        **changes,
    }
    return json.dumps({name: value for name, value in config.items() if value is not None})


def function(
    address: str,
    identity: tuple[str, str],
    driver: str,
    node: int,
    group: int,
    physical: str | None = None,
    name: str | None = None,
    mtu: int = 9216,
    kind: str = "0x020000",
) -> Files:
    """Return the files of a PCI function."""
    vendor, device = identity
    files = {
        f"{PCI}/{address}/vendor": f"0x{vendor}",
        f"{PCI}/{address}/device": f"0x{device}",
        f"{PCI}/{address}/class": kind,
        f"{PCI}/{address}/numa_node": str(node),
        f"{PCI}/{address}/driver": f"-> ../../drivers/{driver}",
        f"{PCI}/{address}/iommu_group": f"-> ../../../../kernel/iommu_groups/{group}",
        f"sys/kernel/iommu_groups/{group}/devices/{address}": f"-> ../../../../{PCI}/{address}",
    }
    if physical is not None:
        files[f"{PCI}/{address}/physfn"] = f"-> ../{physical}"
    if name is not None:
        files[f"{PCI}/{address}/net/{name}/mtu"] = str(mtu)
    return files


def card(
    address: str,
    name: str,
    identity: tuple[str, str],
    driver: str,
    node: int,
    group: int,
    mtu: int = 9216,
    speed: int = 25000,
    vfs: tuple[str, ...] = (),
) -> Files:
    """Return the files of a physical function with its kernel device."""
    files = function(address, identity, driver, node, group, name=name, mtu=mtu)
    files[f"{PCI}/{address}/net/{name}/carrier"] = "1"
    files[f"{PCI}/{address}/net/{name}/speed"] = str(speed)
    if vfs:
        files[f"{PCI}/{address}/sriov_totalvfs"] = "64"
        files[f"{PCI}/{address}/sriov_numvfs"] = str(len(vfs))
    for index, vf in enumerate(vfs):
        files[f"{PCI}/{address}/virtfn{index}"] = f"-> ../{vf}"
    return files


def interrupts(disk_on: int = 0) -> Files:
    """Return the files of interrupts: of the disk, of eno1, of a VF and of the timer."""
    lines = [
        (40, "0000:02:00.0", "nvme0q1", {disk_on}),
        (50, OWN, "eno1-TxRx-0", {4}),
        (60, INTEL_VFS[0], f"vfio-msix[0]({INTEL_VFS[0]})", {1}),
    ]
    text = " " * 11 + " ".join(f"CPU{cpu}" for cpu in EVERY) + "\n"
    files = {}
    for irq, address, name, cpus in lines:
        counts = " ".join("17" if cpu in cpus else "0" for cpu in EVERY)
        text += f" {irq}: {counts} IR-PCI-MSIX-{address} 0-edge {name}\n"
        files[f"proc/irq/{irq}/effective_affinity_list"] = cpu_list(cpus)
        files[f"{PCI}/{address}/msi_irqs/{irq}"] = "msix"
    counts = " ".join("9" for _ in EVERY)
    return {**files, "proc/interrupts": f"{text}LOC: {counts} Local timer interrupts\n"}


def write(root: Path, files: Files) -> Path:
    """Make the tree; return its root."""
    for name, text in files.items():
        write_one(root / name, text)
    return root


def write_one(path: Path, text: str) -> None:
    """Make a file, a symbolic link or an empty folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if text == "<empty>":
        path.mkdir(parents=True)
    elif text.startswith("-> "):
        os.symlink(text.removeprefix("-> "), path)
    else:
        path.write_text(text)


def without(files: Files, *prefixes: str) -> Files:
    """Return the files but those whose paths begin so."""
    return {name: text for name, text in files.items() if not name.startswith(prefixes)}
