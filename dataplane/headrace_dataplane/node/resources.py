# SPDX-License-Identifier: Apache-2.0
"""Extended resources of the node: which VFs are given out to pods by which name."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Device:
    """A VF that a pod may get."""

    pci_address: str
    healthy: bool
    """Whether it may be given out: it is as it is wanted, and has a link."""
    driver: str = ""
    """Kernel driver that it is bound to: vfio-pci, or the kernel's own."""
    numa_node: int | None = None
    """None: the firmware does not say."""
    iommu_group: int | None = None
    """None: no IOMMU translates for it."""
    physical_function: str = ""
    """Network device of its PF; "" where that has none."""
    index: int = 0
    """Its number at the PF."""


class DevicePlugins(Protocol):
    """Gives the devices of each resource to the kubelet."""

    def set(self, resources: Mapping[str, tuple[Device, ...]]) -> None:
        """Have exactly these resources, by name, with these devices: from now on, and at once."""


class NoDevicePlugins:
    """Nobody gives them out."""

    def set(self, resources: Mapping[str, tuple[Device, ...]]) -> None:
        """Forget them."""
