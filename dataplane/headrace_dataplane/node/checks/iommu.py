# SPDX-License-Identifier: Apache-2.0
"""IOMMUReady: vfio can give devices out, and map the memory that they are to reach."""

from collections.abc import Iterator

from headrace_api import HugepageSize
from headrace_api.node_facts import NodeFacts
from headrace_api.node_state import NodeCheck, Subject
from headrace_dataplane.node.checks.check import About, Wanted, kernel_arguments
from headrace_dataplane.node.checks.placement import chosen
from headrace_dataplane.node.drivers import bifurcated

_about = About(Subject.IOMMU)
_ENTRIES = 512_000


def needs_vfio(facts: NodeFacts, wanted: Wanted) -> bool:
    """Whether any device here, or any that is named, goes to DPDK by vfio."""
    if any(bifurcated(each.function) is None for each in chosen(facts, wanted)):
        return True
    if wanted.devices:
        return False
    return any(card.vfs_total and bifurcated(card) is None for card in facts.nics or ())


def check(facts: NodeFacts, wanted: Wanted) -> Iterator[NodeCheck]:
    """Yield the checks."""
    if not needs_vfio(facts, wanted):
        for name in ("IOMMU", "interrupt remapping", "DMA entries"):
            yield _about.skipped(name, "no device here goes to DPDK by vfio")
    else:
        yield _iommu(facts)
        yield _interrupt_remapping(facts)
        yield _entries(facts)
    yield _memory_lock(facts)


def _iommu(facts: NodeFacts) -> NodeCheck:
    found = facts.iommu
    if found.groups is None:
        return _about.unknown("IOMMU", "/sys/kernel/iommu_groups")
    if found.groups:
        return _about.passed("IOMMU", f"on, with {found.groups} groups")
    vendor = facts.cpus.vendor if facts.cpus else None
    virtual = bool(facts.cpus and facts.cpus.virtual)
    if virtual:
        remedy = "give the virtual machine an IOMMU (QEMU: -device intel-iommu,intremap=on)\n"
    else:
        firmware = {"GenuineIntel": "VT-d", "AuthenticAMD": "AMD-Vi (IOMMU)"}.get(vendor or "")
        remedy = f"enable {firmware or 'the IOMMU (SMMU)'} in the firmware's settings\n"
    intel = "intel_iommu=on " if vendor == "GenuineIntel" else ""
    remedy += kernel_arguments(f"{intel}iommu=pt")
    if found.unsafe_no_iommu:
        return _about.warned(
            "IOMMU", "off, and vfio works without: a device may write to all memory", remedy
        )
    if virtual:
        locked = facts.kernel.lockdown not in (None, "none")
        remedy += (
            "\n  where it cannot have one, and unsafe: "
            "echo 1 > /sys/module/vfio/parameters/enable_unsafe_noiommu_mode"
            + (" (refused while the kernel is locked down)" if locked else "")
        )
    return _about.failed("IOMMU", "off: /sys/kernel/iommu_groups is empty", remedy)


def _interrupt_remapping(facts: NodeFacts) -> NodeCheck:
    name = "interrupt remapping"
    if not facts.iommu.groups:
        return _about.skipped(name, "there is no IOMMU to do it")
    if facts.iommu.interrupt_remapping is None:
        return _about.skipped(name, "/proc/interrupts does not say; on Arm the GIC does it")
    if facts.iommu.interrupt_remapping:
        return _about.passed(name, "on")
    return _about.failed(
        name,
        "off: vfio refuses devices (No interrupt remapping support)",
        "enable it in the firmware's settings (VT-d interrupt remapping, x2APIC; QEMU: "
        "intremap=on), and take intremap=off and nox2apic off the kernel's command line",
    )


def _entries(facts: NodeFacts) -> NodeCheck:
    limit = facts.iommu.dma_entry_limit
    if limit is None:
        return _about.unknown(
            "DMA entries", "/sys/module/vfio_iommu_type1/parameters/dma_entry_limit"
        )
    pools = (p for p in facts.hugepages or () if p.size is HugepageSize.SIZE_2MI)
    pages = sum(pool.total for pool in pools)
    if pages <= limit:
        return _about.passed("DMA entries", f"{limit} for {pages} pages of 2Mi")
    return _about.warned(
        "DMA entries",
        f"vfio maps at most {limit} pieces, and there are {pages} pages of 2Mi",
        f"echo {_ENTRIES} > /sys/module/vfio_iommu_type1/parameters/dma_entry_limit\n"
        f"  at boot: echo 'options vfio_iommu_type1 dma_entry_limit={_ENTRIES}' > "
        "/etc/modprobe.d/vfio.conf",
    )


def _memory_lock(facts: NodeFacts) -> NodeCheck:
    runtimes = [each for each in facts.memory_locks if each.process != "headrace"]
    for each in runtimes or facts.memory_locks:
        if each.limit_bytes is None or each.ipc_lock:
            continue
        limit = f"{each.process} may lock {each.limit_bytes >> 10} KiB"
        if each in runtimes:
            return _about.warned(
                "memory lock",
                f"{limit}: a device of a pod that has not user 0 and IPC_LOCK, as Headrace's own "
                "have, moves no frame, without a word",
                f"systemctl edit {each.process}, and write: [Service] LimitMEMLOCK=infinity\n"
                f"  then: systemctl restart {each.process}",
            )
        return _about.warned(
            "memory lock",
            f"this user's programs may lock {each.limit_bytes >> 10} KiB: a device of theirs "
            "moves no frame, without a word",
            "run as root, or: echo '* - memlock unlimited' > /etc/security/limits.d/dpdk.conf, "
            "and log in again",
        )
    if not facts.memory_locks:
        return _about.unknown("memory lock", "/proc/self/limits")
    names = ", ".join(each.process for each in runtimes) or "this user's programs"
    return _about.passed("memory lock", f"{names}: no limit that counts")
