# SPDX-License-Identifier: Apache-2.0
"""PCI functions that this container was given, by resource: what device plugins and drivers say.

A device plugin says it in PCIDEVICE_RESOURCE, with details in PCIDEVICE_RESOURCE_INFO; the SR-IOV
DRA driver in SRIOVNETWORK_VF_DEVICE_DEVICE, for each function, and names no resource.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

_PLUGIN = "PCIDEVICE_"
_INFO = "_INFO"
_DRA = "SRIOVNETWORK_VF_DEVICE_"
_PCI = re.compile(r"([0-9a-fA-F]{4,8}):([0-9a-fA-F]{2}):([01][0-9a-fA-F])\.([0-7])")
_GROUP = re.compile(r"/dev/vfio/(?:noiommu-)?([0-9]{1,10})")

Order = tuple[int, int, int, int]


class DevicesMissingError(ValueError):
    """The container has not the function that is asked for; for people."""


def pci_order(address: str) -> Order:
    """Return what PCI addresses are ordered by. Raises ValueError."""
    found = _PCI.fullmatch(address)
    if found is None:
        raise ValueError(f"{address} is no PCI address")
    domain, bus, device, function = (int(part, 16) for part in found.groups())
    return domain, bus, device, function


def is_pci_address(text: str) -> bool:
    """Whether a text is a PCI address: 0000:3b:02.1."""
    return _PCI.fullmatch(text) is not None


def environment_name(resource: str) -> str:
    """Return the variable that has a resource's PCI addresses: PCIDEVICE_HEADRACE_DEV_CX6.

    Only dots and the slash become underscores: another character stays what it is.
    """
    return _PLUGIN + resource.replace("/", "_").replace(".", "_").upper()


@dataclass(frozen=True)
class Functions:
    """What the container has."""

    of_plugins: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Variable of a resource -> PCI addresses, in order."""
    of_drivers: tuple[str, ...] = ()
    """PCI addresses that come with no resource, in order."""
    groups: Mapping[str, int] = field(default_factory=dict)
    """PCI address -> the IOMMU group whose device node it came with, where that was said."""
    pod: str = ""
    """namespace/name of the container's pod; "": it is in none."""

    def addresses(self) -> tuple[str, ...]:
        """Return all of them, in order."""
        every = (*self.of_drivers, *(each for some in self.of_plugins.values() for each in some))
        return _ordered(every)

    def of(self, resource: str) -> tuple[str, ...]:
        """Return the PCI addresses of a resource, in order.

        Those of a DRA driver are any resource's that no device plugin has given.
        """
        return self.of_plugins.get(environment_name(resource), self.of_drivers)

    def pick(self, resource: str, number: int, uplinks: int, *, of_uplink: bool) -> str:
        """Return the PCI address of a function of a resource. Raises DevicesMissingError.

        Uplinks' numbers count from the first, Interfaces' from the last. `uplinks` is how many
        uplinks have one: those are no Interface's.
        """
        there = self.of(resource)
        needed = number + 1 if of_uplink else uplinks + number + 1
        if needed > len(there):
            raise DevicesMissingError(
                f"it needs {needed} devices of {resource}, and this pod has {len(there)}: a new "
                "pod gets as many as its Pipeline asks for now"
            )
        return there[number] if of_uplink else there[-1 - number]


def functions_of(environment: Mapping[str, str]) -> Functions:
    """Return what an environment says; what is no PCI address is passed over."""
    plugins: dict[str, tuple[str, ...]] = {}
    drivers: list[str] = []
    groups: dict[str, int] = {}
    for name, value in environment.items():
        if name.startswith(_DRA):
            drivers += value.split(",")
        elif name.startswith(_PLUGIN) and name.endswith(_INFO) and value.lstrip().startswith("{"):
            groups |= _groups(value)
        elif name.startswith(_PLUGIN):
            plugins[name] = _ordered(value.split(","))
    names = environment.get("POD_NAMESPACE", ""), environment.get("POD_NAME", "")
    return Functions(plugins, _ordered(drivers), groups, "/".join(names) if all(names) else "")


def _groups(text: str) -> dict[str, int]:
    """Return the groups that a device plugin tells of."""
    found = {}
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        told = None
    for address, info in told.items() if isinstance(told, dict) else ():
        vfio = info.get("vfio") if isinstance(info, dict) else None
        node = vfio.get("dev-mount") if isinstance(vfio, dict) else None
        group = _GROUP.fullmatch(node) if isinstance(node, str) else None
        if group is not None and is_pci_address(address):
            found[address.lower()] = int(group[1])
    return found


def _ordered(addresses: Iterable[str]) -> tuple[str, ...]:
    named = {each.strip().lower() for each in addresses}
    return tuple(sorted((each for each in named if is_pci_address(each)), key=pci_order))
