# SPDX-License-Identifier: Apache-2.0
"""Device nodes by which programs reach a PCI function, as they are at this moment.

The numbers of IOMMU groups are others after each boot, so nothing here is remembered.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from headrace_dataplane.node.tree import Tree

VFIO = "/dev/vfio/vfio"
"""What every user of vfio opens first."""

_DEVICES = "sys/bus/pci/devices"
_RDMA_CM = "/dev/infiniband/rdma_cm"
_GROUP = re.compile(r"[0-9]{1,10}")
_RDMA_CLASSES = ("infiniband_verbs", "infiniband_mad")
_RDMA_NODE = re.compile(r"(uverbs|umad|issm)[0-9]{1,5}")


@dataclass(frozen=True)
class DeviceFile:
    """A device node."""

    host: str
    """Its path on the machine."""
    container: str
    """The path by which programs know it."""


@dataclass(frozen=True)
class DeviceFiles:
    """What a container needs for a PCI function."""

    files: tuple[DeviceFile, ...]
    info: dict[str, dict[str, str]]
    """What of the function is where, as the SR-IOV network device plugin words it."""


class NoDeviceFilesError(Exception):
    """What a function lacks, for people."""


def driver_of(tree: Tree, address: str) -> str:
    """Return the driver that a PCI function is bound to; "": none."""
    return tree.target(f"{_DEVICES}/{address}/driver") or ""


def group_file(tree: Tree, address: str) -> DeviceFile | None:
    """Return the device node of a function's IOMMU group; None where it has no group."""
    group = tree.target(f"{_DEVICES}/{address}/iommu_group")
    if group is None or _GROUP.fullmatch(group) is None:
        return None
    unsafe = tree.text(f"{_DEVICES}/{address}/iommu_group/name") == "vfio-noiommu"
    return DeviceFile(f"/dev/vfio/{'noiommu-' if unsafe else ''}{group}", f"/dev/vfio/{group}")


def device_files(root: Path, address: str) -> DeviceFiles:
    """Return the device nodes of a PCI function, by its driver. Raises NoDeviceFilesError.

    `root` has dev and sys in it: / but in tests.
    """
    tree = Tree(root)
    if not tree.has(f"{_DEVICES}/{address}"):
        raise NoDeviceFilesError(f"there is no PCI function {address}")
    files: tuple[DeviceFile, ...] = ()
    info = {"generic": {"deviceID": address}}
    driver = driver_of(tree, address)
    if driver == "vfio-pci":
        group = group_file(tree, address)
        if group is None:
            raise NoDeviceFilesError(f"{address} is in no IOMMU group")
        files = DeviceFile(VFIO, VFIO), group
        info["vfio"] = {"mount": VFIO, "dev-mount": group.container}
    elif names := tree.names(f"{_DEVICES}/{address}/infiniband"):
        files = tuple(DeviceFile(path, path) for path in _rdma_files(tree, address))
        info["rdma"] = {Path(each.host).name.rstrip("0123456789"): each.host for each in files}
        info["rdma"]["rdma_dev"] = names[0]
    for each in files:
        if not tree.has(each.host.lstrip("/")):
            raise NoDeviceFilesError(f"{address} has no device node {each.host}")
    at = str(root).rstrip("/")
    return DeviceFiles(tuple(DeviceFile(at + each.host, each.container) for each in files), info)


def _rdma_files(tree: Tree, address: str) -> Iterator[str]:
    for kind in _RDMA_CLASSES:
        for name in tree.names(f"{_DEVICES}/{address}/{kind}") or ():
            if _RDMA_NODE.fullmatch(name):
                yield f"/dev/infiniband/{name}"
    if tree.has(_RDMA_CM.lstrip("/")):
        yield _RDMA_CM
