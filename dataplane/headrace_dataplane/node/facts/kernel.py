# SPDX-License-Identifier: Apache-2.0
"""The kernel: command line, drivers, clock, and what disturbs its threads."""

import re

from headrace_api.node_facts import Iommu, Kernel
from headrace_dataplane.node.tree import Tree, fitting, natural

_CLOCK = "sys/devices/system/clocksource/clocksource0"
#: Which of several values holds: `always [madvise] never`.
_CHOSEN = re.compile(r"\[([a-z]+)\]")


def read(tree: Tree) -> Kernel:
    """Return what is known of the kernel."""
    watchdog = tree.number("proc/sys/kernel/nmi_watchdog")
    sources = tree.text(f"{_CLOCK}/available_clocksource")
    fields = {
        "release": tree.text("proc/sys/kernel/osrelease"),
        "command_line": tree.text("proc/cmdline"),
        "lockdown": _chosen(tree, "sys/kernel/security/lockdown"),
        "pci_drivers": tree.names("sys/bus/pci/drivers"),
        "modules": tree.names("sys/module"),
        # Both are there with the feature, whoever looks.
        "packet_sockets": tree.has("proc/net/packet") if tree.has("proc/net") else None,
        "tun": tree.has("dev/net/tun") if tree.has("dev") else None,
        "clock_source": tree.text(f"{_CLOCK}/current_clocksource"),
        "clock_sources": None if sources is None else sources.split(),
        "transparent_hugepages": _chosen(tree, "sys/kernel/mm/transparent_hugepage/enabled"),
        "nmi_watchdog": None if watchdog is None else watchdog != 0,
    }
    return fitting(Kernel, fields) or Kernel()


def read_iommu(tree: Tree) -> Iommu:
    """Return what is known of the IOMMU, and how vfio uses it."""
    groups = tree.names("sys/kernel/iommu_groups")
    unsafe = tree.text("sys/module/vfio/parameters/enable_unsafe_noiommu_mode")
    limit = tree.number("sys/module/vfio_iommu_type1/parameters/dma_entry_limit")
    fields = {
        "groups": None if groups is None else len(groups),
        "interrupt_remapping": _interrupt_remapping(tree.text("proc/interrupts")),
        "unsafe_no_iommu": {"Y": True, "N": False, "1": True, "0": False}.get(unsafe or ""),
        "dma_entry_limit": natural(limit),
    }
    return fitting(Iommu, fields) or Iommu()


def _interrupt_remapping(interrupts: str | None) -> bool | None:
    """Whether x86 interrupts are remapped: then their controllers' names begin with IR-."""
    words = (interrupts or "").split()
    if any(word.startswith("IR-") for word in words):
        return True
    return False if any(word.startswith(("PCI-MSI", "IO-APIC")) for word in words) else None


def _chosen(tree: Tree, path: str) -> str | None:
    found = _CHOSEN.search(tree.text(path) or "")
    return found.group(1) if found else None
