# SPDX-License-Identifier: Apache-2.0
"""PCI functions and their network devices, as sysfs has them: one reader for facts and for SR-IOV.

Paths are below /sys.
"""

import re
from dataclasses import dataclass
from typing import Protocol

from headrace_dataplane.node.tree import natural, number

DEVICES = "bus/pci/devices"
DRIVERS = "bus/pci/drivers"
GROUPS = "kernel/iommu_groups"

_NETWORK = 0x02  # base class
_BRIDGE = 0x0604  # class: PCI to PCI
_VF = re.compile(r"virtfn([0-9]{1,5})")
_VIRTIO = re.compile(r"virtio[0-9]{1,5}")
_REPRESENTOR = re.compile(r"pf\d+(vf|sf)\d+$")


class Reader(Protocol):
    """Files; what is missing or cannot be read is None. Raises TimeoutError."""

    def text(self, path: str) -> str | None:
        """What a file has, without white space around it."""

    def names(self, path: str) -> list[str] | None:
        """What a folder has, sorted."""

    def target(self, path: str) -> str | None:
        """The last name of what a symbolic link leads to."""


@dataclass(frozen=True)
class Function:
    """A PCI function."""

    address: str
    vendor: str = ""
    """Four hexadecimal digits, as the device's; "" where they are not there."""
    device: str = ""
    driver: str = ""
    """"" for none."""
    numa_node: int | None = None
    group: str = ""
    """Number of its IOMMU group; "": no IOMMU translates for it."""
    physfn: str = ""
    """PCI address of the function that it is a VF of."""
    net: str = ""
    """Folder of its network devices."""
    netdevs: tuple[str, ...] = ()
    """Names of its network devices; those that stand for its VFs come last."""


@dataclass(frozen=True)
class Peer:
    """Another function of an IOMMU group."""

    address: str
    driver: str
    bridge: bool
    physfn: str


def function(sysfs: Reader, address: str) -> Function:
    """Return a function; nothing is known of one that is not there."""
    folder = f"{DEVICES}/{address}"
    net = _net(sysfs, folder)
    names = sysfs.names(net) or []
    if len(names) > 1:
        names.sort(key=lambda name: _stands_for_vf(sysfs, f"{net}/{name}"))
    return Function(
        address=address,
        vendor=(sysfs.text(f"{folder}/vendor") or "").removeprefix("0x"),
        device=(sysfs.text(f"{folder}/device") or "").removeprefix("0x"),
        driver=sysfs.target(f"{folder}/driver") or "",
        numa_node=natural(number(sysfs.text(f"{folder}/numa_node"))),
        group=sysfs.target(f"{folder}/iommu_group") or "",
        physfn=sysfs.target(f"{folder}/physfn") or "",
        net=net,
        netdevs=tuple(names),
    )


def network_cards(sysfs: Reader) -> tuple[str, ...] | None:
    """Return the addresses of network functions that are no VFs of this machine's; None: no PCI."""
    addresses = sysfs.names(DEVICES)
    if addresses is None:
        return None
    return tuple(
        address
        for address in addresses
        if _class(sysfs, address) >> 8 == _NETWORK
        and sysfs.target(f"{DEVICES}/{address}/physfn") is None
    )


def virtual_functions(sysfs: Reader, address: str) -> dict[int, str]:
    """Return a physical function's VFs: number -> PCI address."""
    folder = f"{DEVICES}/{address}"
    found = {
        int(match.group(1)): target
        for name in sysfs.names(folder) or ()
        if (match := _VF.fullmatch(name)) and (target := sysfs.target(f"{folder}/{name}"))
    }
    return dict(sorted(found.items()))


def peers(sysfs: Reader, of: Function) -> tuple[Peer, ...]:
    """Return the other functions of its IOMMU group."""
    others = sysfs.names(f"{GROUPS}/{of.group}/devices") if of.group else None
    return tuple(
        Peer(
            address=other,
            driver=sysfs.target(f"{DEVICES}/{other}/driver") or "",
            bridge=_class(sysfs, other) == _BRIDGE,
            physfn=sysfs.target(f"{DEVICES}/{other}/physfn") or "",
        )
        for other in others or ()
        if other != of.address
    )


def total_vfs(sysfs: Reader, address: str) -> int | None:
    """Return how many VFs it can have; None: it has no SR-IOV."""
    return natural(number(sysfs.text(f"{DEVICES}/{address}/sriov_totalvfs")))


def _class(sysfs: Reader, address: str) -> int:
    """Return base class and subclass, -1 where they are not there."""
    found = number(sysfs.text(f"{DEVICES}/{address}/class"))
    return -1 if found is None else found >> 8


def _net(sysfs: Reader, folder: str) -> str:
    """Return where a function's network devices are: a virtio device may stand between."""
    net = f"{folder}/net"
    if sysfs.names(net) is None:
        for name in sysfs.names(folder) or ():
            between = f"{folder}/{name}/net"
            if _VIRTIO.fullmatch(name) and sysfs.names(between) is not None:
                return between
    return net


def _stands_for_vf(sysfs: Reader, device: str) -> bool:
    return bool(_REPRESENTOR.match(sysfs.text(f"{device}/phys_port_name") or ""))
