# SPDX-License-Identifier: Apache-2.0
"""Which kernel driver a network device has to have for DPDK, and what DPDK's drivers need.

`DRIVERS` is the one list of the latter; `python -m headrace_dataplane.node.drivers` prints it as
the table of docs/sriov.md. What a driver says and does not do is in the engine's port/driver.c.
"""

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


@dataclass(frozen=True)
class Driver:
    """What one of DPDK's drivers for hardware needs, and what it refuses."""

    name: str
    """As the engine reports it."""
    devices: str
    kernel: str
    """The kernel driver that the device is bound to meanwhile."""
    nodes: tuple[str, ...]
    """Device nodes that the container has to have; GROUP is the device's IOMMU group."""
    capabilities: tuple[str, ...]
    devargs: str
    """Arguments that it needs or that help. Empty: none."""
    rss: str
    """Receive queues, and what of RSS is the driver's: key, table."""
    refuses: str
    """What it, or its physical function, refuses; the port goes on without."""
    tried: bool = False
    """Whether it is part of Headrace's tests. Else: from DPDK's guides and drivers."""


_VFIO_NODES = ("/dev/vfio/vfio", "/dev/vfio/GROUP")
_VERBS_NODES = ("/dev/infiniband/uverbsN",)
# Pins the memory that the device is to reach.
_LOCK = ("IPC_LOCK",)
# Raw packet queues of verbs.
_RAW = ("IPC_LOCK", "NET_RAW")

DRIVERS = (
    Driver(
        "net_e1000_igb_vf",
        "Intel 82576, I350 VF (igbvf)",
        VFIO,
        _VFIO_NODES,
        _LOCK,
        "",
        "1 or 2 queues; key and table are the PF's",
        "promiscuous; all multicast, so it joins 30 groups; a MAC address other than the PF's, "
        "unless trusted",
        tried=True,
    ),
    Driver(
        "net_ixgbe_vf",
        "Intel 82599, X540, X550 VF (ixgbevf)",
        VFIO,
        _VFIO_NODES,
        _LOCK,
        "",
        "1 to 4 queues; key 40 bytes and table 64 on X550, else the PF's",
        "promiscuous, and all multicast unless trusted; more than 30 groups; an MTU above the PF's",
    ),
    Driver(
        "net_iavf",
        "Intel E810, X710, XL710 VF (iavf)",
        VFIO,
        _VFIO_NODES,
        _LOCK,
        "",
        "as many queues as the PF gives, 4 or 16; key 52 bytes, table 64",
        "unless trusted: promiscuous, all multicast, more than 16 addresses, a MAC address other "
        "than the PF's",
    ),
    Driver(
        "mlx5_pci",
        "NVIDIA ConnectX-4 and later, BlueField, and VFs",
        MLX5.driver,
        _VERBS_NODES,
        _RAW,
        "",
        "any number of queues; key 40 bytes, table up to 512",
        "unless trusted: promiscuous, all multicast",
    ),
    Driver(
        "net_mlx4",
        "NVIDIA ConnectX-3, and VFs",
        MLX4.driver,
        _VERBS_NODES,
        _RAW,
        "`port=0` or `1` where the device has two",
        "a power of two queues; key 40 bytes, no table",
        "more than 127 addresses",
    ),
    Driver(
        "net_mana",
        "Azure MANA VF",
        MANA.driver,
        _VERBS_NODES,
        _RAW,
        "`mac=` of the port, where the device has several",
        "up to 16 queues; key 40 bytes, table 128",
        "a MAC address, promiscuous, all multicast; the platform has no multicast",
    ),
    Driver(
        "net_ena",
        "AWS ENA",
        f"{VFIO} with write combining, or igb_uio with `wc_activate=1`",
        _VFIO_NODES,
        _LOCK,
        "",
        "up to 32 queues; key 40 bytes, table 128",
        "a MAC address, promiscuous, all multicast; the platform has no multicast. "
        "Without write combining LLQ is slow, and 6th generation instances refuse the device",
    ),
    Driver(
        "net_gve",
        "Google gVNIC",
        VFIO,
        _VFIO_NODES,
        _LOCK,
        "",
        "up to 16 queues; key 40 bytes, table 128",
        "a MAC address, promiscuous, all multicast; jumbo frames; the platform has no multicast",
    ),
    Driver(
        "net_virtio",
        "virtio-net of a virtual machine",
        VFIO,
        _VFIO_NODES,
        _LOCK,
        "",
        "as many queues as the host gives; RSS only where the host has it",
        "groups: it hears all multicast where the host lets it; an MTU where the host has none",
        tried=True,
    ),
)

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


def reference() -> str:
    """Return DRIVERS as a table in Markdown."""
    lines = [
        "| DPDK's driver | for | kernel driver | device nodes | capabilities | devargs "
        "| queues, RSS | refuses |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for each in DRIVERS:
        mark = "" if each.tried else " *"
        nodes = ", ".join(f"`{node}`" for node in each.nodes)
        capabilities = ", ".join(f"`{name}`" for name in each.capabilities)
        lines.append(
            f"| `{each.name}`{mark} | {each.devices} | {each.kernel} | {nodes} | {capabilities} "
            f"| {each.devargs or 'none'} | {each.rss} | {each.refuses} |"
        )
    return "\n".join((*lines, "", "\\* not tried: from DPDK's guides and drivers.", ""))


if __name__ == "__main__":
    print(reference(), end="")
