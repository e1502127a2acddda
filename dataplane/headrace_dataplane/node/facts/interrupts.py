# SPDX-License-Identifier: Apache-2.0
"""Interrupts of devices: whose, and on which CPUs."""

import re
from collections.abc import Iterator

from headrace_api.node_facts import Interrupt, cpu_list
from headrace_dataplane.node.facts.cpus import list_of
from headrace_dataplane.node.tree import Tree, fitting

_CPU = re.compile(r"CPU([0-9]{1,4})")
_NUMBERED = re.compile(r"\s*([0-9]{1,9}):\s(.*)")
_DEVICES = "sys/bus/pci/devices"


def read(tree: Tree) -> tuple[Interrupt, ...] | None:
    """Return the interrupts that have a number: those of devices."""
    text = tree.text("proc/interrupts")
    if text is None:
        return None
    first, *lines = text.splitlines() or [""]
    cpus = [int(found.group(1)) for word in first.split() if (found := _CPU.fullmatch(word))]
    owners = _owners(tree)
    return tuple(_interrupts(tree, lines, cpus, owners))


def _interrupts(
    tree: Tree, lines: list[str], cpus: list[int], owners: dict[str, str]
) -> Iterator[Interrupt]:
    for line in lines:
        found = _NUMBERED.fullmatch(line)
        if found is None:
            continue
        irq, words = found.group(1), found.group(2).split()
        counts, rest = words[: len(cpus)], words[len(cpus) :]
        goes_to = list_of(tree, f"proc/irq/{irq}/effective_affinity_list")
        if goes_to is None:
            # Kernels without that file deliver to any of these.
            goes_to = list_of(tree, f"proc/irq/{irq}/smp_affinity_list")
        seen = (cpu for cpu, count in zip(cpus, counts, strict=False) if count.strip("0"))
        interrupt = fitting(
            Interrupt,
            {
                "irq": int(irq),
                # Controller, its own number, who handles it.
                "name": " ".join(rest[2:])[:256],
                "pci_address": owners.get(irq),
                "cpus": goes_to,
                "seen_cpus": cpu_list(seen),
            },
        )
        if interrupt is not None:
            yield interrupt


def _owners(tree: Tree) -> dict[str, str]:
    """Interrupt number -> PCI address."""
    return {
        irq: address
        for address in tree.names(_DEVICES) or ()
        if tree.has(f"{_DEVICES}/{address}/msi_irqs")
        for irq in tree.names(f"{_DEVICES}/{address}/msi_irqs") or ()
    }
