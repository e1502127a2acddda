# SPDX-License-Identifier: Apache-2.0
"""Which kernel driver a network device has to have for DPDK."""

from dataclasses import dataclass

from headrace_api.node_facts import PciFunction

VFIO = "vfio-pci"
#: Drivers by which a program gets the whole device; all but vfio do without an IOMMU.
USERSPACE = (VFIO, "igb_uio", "uio_pci_generic")

_AMAZON, _MELLANOX, _MICROSOFT = "1d0f", "15b3", "1414"
#: The PCI devices of ConnectX-3 and its VFs; what came later is mlx5's.
_MLX4 = range(0x1002, 0x1011)


@dataclass(frozen=True)
class Bifurcated:
    """A kernel driver that stays with its device, and lends queues to DPDK by RDMA verbs."""

    driver: str
    modules: tuple[str, ...]
    """What has to be loaded beside the driver."""


MLX5 = Bifurcated("mlx5_core", ("mlx5_ib", "ib_uverbs"))
MLX4 = Bifurcated("mlx4_core", ("mlx4_ib", "ib_uverbs"))
MANA = Bifurcated("mana", ("mana_ib", "ib_uverbs"))
BIFURCATED_DRIVERS = frozenset(each.driver for each in (MLX5, MLX4, MANA))


def bifurcated(device: PciFunction) -> Bifurcated | None:
    """Return how the device shares itself with the kernel; None: it goes to one of them, whole."""
    number = int(device.device_id or "0", 16)
    if device.vendor_id == _MELLANOX:
        return MLX4 if number in _MLX4 else MLX5
    if device.vendor_id == _MICROSOFT and number in (0x00B9, 0x00BA):
        return MANA
    return None


def is_ready(device: PciFunction) -> bool:
    """Whether DPDK can take it as it is bound now."""
    shared = bifurcated(device)
    return device.driver in USERSPACE if shared is None else device.driver == shared.driver


def may_do_without_iommu(device: PciFunction) -> bool:
    """Whether its vendor advises a driver without an IOMMU: vfio maps ENA's memory slowly."""
    return device.vendor_id == _AMAZON
