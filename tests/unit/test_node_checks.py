# SPDX-License-Identifier: Apache-2.0
"""The doctor's checks: nothing on a good node, and each fault by exactly the check about it."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from headrace_api import HugepageSize
from headrace_api.node_facts import NodeFacts
from headrace_api.node_state import NodeCheck, Subject, Verdict
from headrace_dataplane.node.checks import Memory, Threads, Wanted, checks
from headrace_dataplane.node.facts import read
from headrace_dataplane.node.netlink import Link
from tests.unit.node_tree import (
    CLOCK,
    CPU,
    INTEL,
    INTEL_VFS,
    KUBELET_CONFIG,
    MELLANOX,
    MELLANOX_VFS,
    OWN,
    PCI,
    PODS,
    FakeNetwork,
    Files,
    good_node,
    interrupts,
    kubelet_config,
    pages,
    process,
    without,
    write,
)

WANTED = Wanted(threads=(Threads(3),), hugepages=(Memory(512),), devices=(INTEL_VFS[0],), mtu=8900)
NO_KUBELET = ("proc/900", "var/lib/kubelet", "etc/kubernetes", PODS)


def facts_of(root: Path, files: Files, network: FakeNetwork | None = None) -> NodeFacts:
    return read(write(root, files), network or FakeNetwork())


def found(every: tuple[NodeCheck, ...]) -> list[NodeCheck]:
    """What is not as it should be."""
    return [check for check in every if check.verdict in (Verdict.WARN, Verdict.FAIL)]


@dataclass(frozen=True)
class Fault:
    """What is changed of the good node, and the check that finds it."""

    name: str
    subject: Subject
    check: str
    verdict: Verdict
    remedy: str
    change: Callable[[Files], Files] = dict
    wanted: dict[str, object] = field(default_factory=dict)


def also(*changes: Files) -> Callable[[Files], Files]:
    def change(files: Files) -> Files:
        for more in changes:
            files = {**files, **more}
        return files

    return change


def no_iommu(files: Files) -> Files:
    left = without(files, "sys/kernel/iommu_groups")
    return {name: text for name, text in left.items() if not name.endswith("/iommu_group")} | {
        # The folder is there, with nothing in it.
        "sys/kernel/iommu_groups": "<empty>"
    }


FAULTS = (
    Fault(
        "no hugepages",
        Subject.HUGEPAGES,
        "hugepages of NUMA node 0",
        Verdict.FAIL,
        "echo 256 > /sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages; "
        "systemctl restart kubelet",
        also(pages(0, 0), pages(1, 0)),
    ),
    Fault(
        "pages reserved after the kubelet started",
        Subject.HUGEPAGES,
        "hugepages of the kubelet",
        Verdict.FAIL,
        "systemctl restart kubelet",
        also({f"{PODS}/hugetlb.2MB.max": "0"}),
    ),
    Fault(
        "CPU Manager none",
        Subject.CPU_MANAGER,
        "CPU Manager",
        Verdict.FAIL,
        "cpuManagerPolicy: static, reservedSystemCPUs: 0,4,8,12",
        also({KUBELET_CONFIG: kubelet_config(cpuManagerPolicy="none")}),
    ),
    Fault(
        "IOMMU off",
        Subject.IOMMU,
        "IOMMU",
        Verdict.FAIL,
        "intel_iommu=on iommu=pt",
        no_iommu,
    ),
    Fault(
        "wrong driver",
        Subject.DRIVERS,
        "driver",
        Verdict.FAIL,
        f"driverctl set-override {INTEL_VFS[0]} vfio-pci",
        also({f"{PCI}/{INTEL_VFS[0]}/driver": "-> ../../drivers/iavf"}),
    ),
    Fault(
        "memlock too small",
        Subject.IOMMU,
        "memory lock",
        Verdict.WARN,
        "LimitMEMLOCK=infinity",
        also(process(700, "containerd", "Max locked memory  8388608  8388608  bytes")),
    ),
    Fault(
        "VF on another NUMA node than the workers' CPUs",
        Subject.TOPOLOGY,
        "NUMA node of devices",
        Verdict.FAIL,
        "take a device of NUMA node 1",
        also({KUBELET_CONFIG: kubelet_config(reservedSystemCPUs="0-4,8-12")}),
    ),
    Fault(
        "MTU too small",
        Subject.DEVICES,
        "MTU",
        Verdict.FAIL,
        "ip link set ens1f0 mtu 8940",
        also({f"{PCI}/{INTEL}/net/ens1f0/mtu": "1500"}),
    ),
    Fault(
        "the only uplink named as a device",
        Subject.UPLINK,
        "the node's own traffic",
        Verdict.FAIL,
        "name other cards of the machine",
        wanted={"devices": (OWN,)},
    ),
    Fault(
        "a worker's SMT sibling shared",
        Subject.CPU_MANAGER,
        "whole cores",
        Verdict.WARN,
        'cpuManagerPolicyOptions: {full-pcpus-only: "true"}',
        also({KUBELET_CONFIG: kubelet_config(cpuManagerPolicyOptions=None)}),
    ),
    Fault(
        "another device's interrupts on a worker's CPU",
        Subject.TOPOLOGY,
        "interrupts on workers' CPUs",
        Verdict.WARN,
        "for n in 40; do echo 0,4,8,12 > /proc/irq/$n/smp_affinity_list; done",
        also(interrupts(disk_on=2)),
    ),
    Fault(
        "TSC not the clock source",
        Subject.TOPOLOGY,
        "clock",
        Verdict.FAIL,
        "tsc=reliable",
        also(
            {
                f"{CLOCK}/current_clocksource": "hpet",
                f"{CLOCK}/available_clocksource": "hpet acpi_pm",
            }
        ),
    ),
    # Beyond the twelve.
    Fault(
        "siblings shared where no kubelet is",
        Subject.TOPOLOGY,
        "siblings of workers",
        Verdict.WARN,
        "isolcpus=managed_irq,domain,1-3,9-11",
        lambda files: {
            **without(files, *NO_KUBELET),
            f"{CPU}/isolated": "1-3",
            f"{CPU}/nohz_full": "1-3",
        },
    ),
    Fault(
        "a Mellanox VF on vfio-pci",
        Subject.DRIVERS,
        "driver",
        Verdict.FAIL,
        f"driverctl unset-override {MELLANOX_VFS[1]}",
        also({f"{PCI}/{MELLANOX_VFS[1]}/driver": "-> ../../drivers/vfio-pci"}),
        {"devices": ()},
    ),
    Fault(
        "verbs not loaded",
        Subject.DRIVERS,
        "verbs",
        Verdict.FAIL,
        "modprobe -a ib_uverbs",
        lambda files: without(files, "sys/module/ib_uverbs"),
        {"devices": (MELLANOX_VFS[0],)},
    ),
    Fault(
        "vfio-pci not loaded",
        Subject.DRIVERS,
        "vfio-pci",
        Verdict.FAIL,
        "modprobe vfio-pci; echo vfio-pci > /etc/modules-load.d/vfio-pci.conf",
        lambda files: without(files, "sys/bus/pci/drivers/vfio-pci"),
    ),
    Fault(
        "another device in the IOMMU group",
        Subject.DRIVERS,
        "IOMMU groups",
        Verdict.FAIL,
        "driverctl set-override 0000:02:00.0 vfio-pci",
        also({"sys/kernel/iommu_groups/21/devices/0000:02:00.0": "-> ../../x"}),
    ),
    Fault(
        "interrupts not remapped",
        Subject.IOMMU,
        "interrupt remapping",
        Verdict.FAIL,
        "intremap=off",
        lambda files: {
            **files,
            "proc/interrupts": files["proc/interrupts"].replace("IR-", ""),
        },
    ),
    Fault(
        "few DMA entries",
        Subject.IOMMU,
        "DMA entries",
        Verdict.WARN,
        "dma_entry_limit=512000",
        also({"sys/module/vfio_iommu_type1/parameters/dma_entry_limit": "1023"}),
    ),
    Fault(
        "a device that is not there",
        Subject.DEVICES,
        "devices",
        Verdict.FAIL,
        "lspci -D",
        wanted={"devices": (INTEL_VFS[0], "0000:3b:1f.7")},
    ),
    Fault(
        "no carrier",
        Subject.DEVICES,
        "link",
        Verdict.FAIL,
        "ethtool ens1f0",
        also({f"{PCI}/{INTEL}/net/ens1f0/carrier": "0"}),
    ),
    Fault(
        "devices of two NUMA nodes",
        Subject.TOPOLOGY,
        "NUMA node of devices",
        Verdict.FAIL,
        "a Pipeline for each",
        wanted={"devices": (INTEL_VFS[0], MELLANOX_VFS[0])},
    ),
    Fault(
        "too many workers",
        Subject.TOPOLOGY,
        "workers",
        Verdict.FAIL,
        "or shareControlCore: true, or fewer CPUs kept",
        wanted={"threads": (Threads(7),)},
    ),
    Fault(
        "too many workers, of which one shares its CPU",
        Subject.TOPOLOGY,
        "workers",
        Verdict.FAIL,
        "workers.count of the Pipeline), or fewer CPUs kept",
        wanted={"threads": (Threads(8, share_control=True),)},
    ),
    Fault(
        "an odd number of CPUs of whole cores",
        Subject.CPU_MANAGER,
        "whole cores",
        Verdict.FAIL,
        "workers.count: 3, or 2 with shareControlCore: true",
        wanted={"threads": (Threads(3), Threads(2))},
    ),
    Fault(
        "an odd number of CPUs of whole cores, with one shared",
        Subject.CPU_MANAGER,
        "whole cores",
        Verdict.FAIL,
        "workers.count: 4, or 3 with shareControlCore: false",
        wanted={"threads": (Threads(3, share_control=True),)},
    ),
    Fault(
        "reserved CPUs not named",
        Subject.CPU_MANAGER,
        "reserved CPUs",
        Verdict.WARN,
        "reservedSystemCPUs: 0,4,8,12",
        also({KUBELET_CONFIG: kubelet_config(reservedSystemCPUs=None)}),
    ),
    Fault(
        "topology manager",
        Subject.TOPOLOGY,
        "topology manager",
        Verdict.WARN,
        "topologyManagerPolicy: single-numa-node",
        also({KUBELET_CONFIG: kubelet_config(topologyManagerPolicy="best-effort")}),
    ),
    Fault(
        "memory manager",
        Subject.TOPOLOGY,
        "memory manager",
        Verdict.WARN,
        "memoryManagerPolicy: Static",
        also({KUBELET_CONFIG: kubelet_config(memoryManagerPolicy="None")}),
    ),
    Fault(
        "CPUs not isolated",
        Subject.TOPOLOGY,
        "isolation of workers",
        Verdict.WARN,
        "isolcpus=managed_irq,domain,1-3,9-11 nohz_full=1-3,9-11",
        also({f"{CPU}/isolated": "", f"{CPU}/nohz_full": "(null)"}),
    ),
    Fault(
        "governor",
        Subject.TOPOLOGY,
        "governor",
        Verdict.WARN,
        "cpupower -c 3 frequency-set -g performance",
        also({f"{CPU}/cpu3/cpufreq/scaling_governor": "powersave"}),
    ),
    Fault(
        "transparent hugepages",
        Subject.TOPOLOGY,
        "transparent hugepages",
        Verdict.WARN,
        "transparent_hugepage=madvise",
        also({"sys/kernel/mm/transparent_hugepage/enabled": "[always] madvise never"}),
    ),
    Fault(
        "NMI watchdog",
        Subject.TOPOLOGY,
        "NMI watchdog",
        Verdict.WARN,
        "sysctl kernel.nmi_watchdog=0",
        also({"proc/sys/kernel/nmi_watchdog": "1"}),
    ),
    Fault(
        "another clock though the TSC is sound",
        Subject.TOPOLOGY,
        "clock",
        Verdict.WARN,
        "clocksource=tsc",
        also({f"{CLOCK}/current_clocksource": "hpet"}),
    ),
)


@pytest.mark.parametrize("devices", [(), (INTEL_VFS[0],), INTEL_VFS, MELLANOX_VFS])
def test_nothing_is_found_on_a_good_node(devices: tuple[str, ...], tmp_path: Path) -> None:
    every = checks(facts_of(tmp_path, good_node()), replace(WANTED, devices=devices))
    assert found(every) == []
    passed = {check.subject for check in every if check.verdict is Verdict.PASS}
    assert passed == set(Subject)
    assert all(check.message for check in every)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name.replace(" ", "-"))
def test_a_fault_is_found_by_its_check_alone(fault: Fault, tmp_path: Path) -> None:
    wanted = replace(WANTED, **fault.wanted)  # type: ignore[arg-type]
    every = checks(facts_of(tmp_path, fault.change(good_node())), wanted)
    found_here = found(every)
    assert [(c.subject, c.name, c.verdict) for c in found_here] == [
        (fault.subject, fault.check, fault.verdict)
    ], found_here
    assert fault.remedy in found_here[0].remedy


def test_a_control_thread_on_a_workers_cpu_takes_none_of_its_own(tmp_path: Path) -> None:
    """Six CPUs of each NUMA node are for workers."""
    facts = facts_of(tmp_path, good_node())
    shared = replace(WANTED, threads=(Threads(6, share_control=True), Threads(5)))
    assert found(checks(facts, shared)) == []
    more = replace(shared, threads=(*shared.threads, Threads(2, share_control=True)))
    (beyond,) = found(checks(facts, more))
    assert "3 dataplanes need 14 CPUs, and 12 are there" in beyond.message


def test_the_largest_dataplane_is_so_wherever_control_threads_run() -> None:
    shared = Threads(4, share_control=True)
    assert Wanted((Threads(3), shared)).largest == shared
    assert Wanted((shared, Threads(4))).largest == Threads(4)
    assert [each.cpus for each in (Threads(4), shared)] == [5, 4]


def test_a_vf_of_the_only_uplink_is_safe(tmp_path: Path) -> None:
    network = FakeNetwork(default=3)
    facts = facts_of(tmp_path, good_node(), network)
    assert found(checks(facts, WANTED)) == []
    (taken,) = found(checks(facts, replace(WANTED, devices=(INTEL,))))
    assert (taken.subject, taken.verdict) == (Subject.UPLINK, Verdict.FAIL)
    assert "VFs of this one" in taken.remedy


def test_a_bond_of_two_cards_has_a_spare(tmp_path: Path) -> None:
    links = (
        Link("lo", 1),
        Link("eno1", 2, master=9),
        Link("ens1f0", 3, master=9),
        Link("bond0", 9),
        Link("bond0.7", 10, lower=9),
    )
    network = FakeNetwork(links, 10, {"192.0.2.10": 10}, {"192.0.2.1": 10})
    facts = facts_of(tmp_path, good_node(), network)
    for card in facts.nics or ():
        assert bool(card.node_traffic) == (card.pci_address != MELLANOX)
        assert not card.only_uplink
    every = checks(facts, replace(WANTED, devices=(INTEL,)))
    (uplink,) = (check for check in every if check.subject is Subject.UPLINK)
    assert uplink.verdict is Verdict.WARN
    assert "without a spare" in uplink.message


def test_pages_of_the_size_wanted_alone_count(tmp_path: Path) -> None:
    facts = facts_of(tmp_path, good_node())
    wanted = replace(WANTED, hugepages=(Memory(512, HugepageSize.SIZE_1GI),))
    (none,) = found(checks(facts, wanted))
    assert none.name == "hugepages of NUMA node 0"
    assert "default_hugepagesz=1G hugepagesz=1G hugepages=2" in none.remedy
    (few,) = found(checks(facts, replace(WANTED, hugepages=(Memory(2048),))))
    assert few.verdict is Verdict.FAIL


def test_pages_in_use_are_no_fault_of_the_machine(tmp_path: Path) -> None:
    files = good_node()
    files["sys/devices/system/node/node0/hugepages/hugepages-2048kB/free_hugepages"] = "3"
    (used,) = found(checks(facts_of(tmp_path, files), WANTED))
    assert (used.verdict, used.name) == (Verdict.WARN, "hugepages of NUMA node 0")


def test_a_card_without_vfs_says_how_to_make_some(tmp_path: Path) -> None:
    vfs = (f"{PCI}/{vf}" for vf in INTEL_VFS)
    files = without(good_node(), f"{PCI}/{INTEL}/virtfn", f"{PCI}/0000:86", *vfs)
    lines = files["proc/interrupts"].splitlines()
    files["proc/interrupts"] = "\n".join(line for line in lines if "vfio" not in line)
    (made,) = found(checks(facts_of(tmp_path, files), replace(WANTED, devices=())))
    assert (made.subject, made.verdict) == (Subject.DEVICES, Verdict.WARN)
    assert made.remedy == f"make VFs: echo 4 > /sys/bus/pci/devices/{INTEL}/sriov_numvfs"


def test_what_cannot_be_known_is_skipped_with_its_reason(tmp_path: Path) -> None:
    every = checks(facts_of(tmp_path, {}), WANTED)
    assert {check.verdict for check in every} <= {Verdict.SKIP, Verdict.PASS}
    assert all(check.message for check in every)
    reasons = {check.name: check.message for check in every}
    assert reasons["clock"].startswith("/sys/devices/system/clocksource/clocksource0/current")
    assert reasons["CPU Manager"] == "no kubelet runs here"


def test_the_page_has_every_check(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs/doctor.md").read_text()
    sections = {part.partition("\n")[0]: part for part in page.split("\n### ")[1:]}
    assert [*sections] == [*Subject]
    for check in checks(facts_of(tmp_path, good_node()), WANTED):
        name = re.sub("node [0-9]+$", "node N", check.name)
        assert f"\n| {name} | " in sections[check.subject], check
