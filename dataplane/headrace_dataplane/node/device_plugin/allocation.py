# SPDX-License-Identifier: Apache-2.0
"""Which devices a container gets, and what it is told of them; pure.

What it is told is what the SR-IOV network device plugin says, so that pods written for that one
work with this one.
"""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from headrace_dataplane.functions import environment_name
from headrace_dataplane.node.device_plugin.device_files import DeviceFiles
from headrace_dataplane.node.device_plugin.kubelet_api import (
    HEALTHY,
    UNHEALTHY,
    ContainerAllocateResponse,
    Device,
    DeviceSpec,
    NumaNode,
    TopologyInfo,
)

_PERMISSIONS = "rw"


@dataclass(frozen=True)
class PluginDevice:
    """A PCI function that pods may get."""

    address: str
    """PCI address: 0000:3b:02.1."""
    numa_node: int | None = None
    """None: the firmware does not say."""
    healthy: bool = True
    """Whether it is given to anybody; who has it keeps it."""
    reserved: bool = False
    """Whether it is, or may be, in the VLAN of who has it or had it: no other pod gets it yet."""

    def described(self) -> Device:
        """Return it as the kubelet is told."""
        topology = None if self.numa_node is None else TopologyInfo((NumaNode(self.numa_node),))
        return Device(self.address, HEALTHY if self.healthy else UNHEALTHY, topology)


def answer(resource: str, given: Mapping[str, DeviceFiles]) -> ContainerAllocateResponse:
    """Return what a container is made with; `given` is by PCI address."""
    name = environment_name(resource)
    addresses = sorted(given)
    info = {address: given[address].info for address in addresses}
    files = {file: None for address in addresses for file in given[address].files}
    return ContainerAllocateResponse(
        {
            name: ",".join(addresses),
            f"{name}_INFO": json.dumps(info, separators=(",", ":"), sort_keys=True),
        },
        tuple(DeviceSpec(file.container, file.host, _PERMISSIONS) for file in files),
    )


def preferred(
    devices: Iterable[PluginDevice],
    available: Collection[str],
    must_include: Collection[str],
    size: int,
) -> tuple[str, ...]:
    """Return up to `size` addresses: those that must be, then of as few NUMA nodes as can be.

    Nodes of those that must be come first; then the fullest that is enough for the rest, so that
    large groups stay together; where none is enough, the largest. On a node, by PCI address.
    """
    nodes = {device.address: device.numa_node for device in devices}
    chosen = sorted(set(must_include))
    begun = {nodes.get(address) for address in chosen}
    left: dict[int | None, list[str]] = {}
    for address in sorted(set(available) - set(chosen)):
        left.setdefault(nodes.get(address), []).append(address)
    while left and (missing := size - len(chosen)) > 0:

        def rank(node: int | None, missing: int = missing) -> tuple[bool, bool, bool, int, int]:
            count = len(left[node])
            enough = count >= missing
            unknown = node is None
            return node not in begun, unknown, not enough, count if enough else -count, node or 0

        chosen += left.pop(min(left, key=rank))[:missing]
    return tuple(chosen[: max(size, 0)] if size < len(chosen) else chosen)
