# SPDX-License-Identifier: Apache-2.0
"""DevicePolicy: the virtual functions that nodes' network cards are to have (SR-IOV)."""

import re
from enum import StrEnum
from typing import Annotated, Self

from pydantic import ConfigDict, Field, model_validator

from .attachment import PciAddress
from .base import (
    UNIQUE,
    ApiModel,
    ObjectStatus,
    Resource,
    cel,
    column,
    field_error,
    refuse_duplicates,
)
from .node_facts import PciNumber, Word
from .pipeline import INT32
from .selector import LabelSelector
from .types import MacAddress, ResourceName

#: A PF's kernel device, all its VFs or some: ens1f0, ens1f0#4, ens1f0#0-3.
NicName = Annotated[
    str,
    Field(
        min_length=1, max_length=31, pattern=r"^[A-Za-z0-9_.@-]{1,15}(#[0-9]{1,5}(-[0-9]{1,5})?)?$"
    ),
]
VfCount = Annotated[int, Field(ge=0, le=65535)]
Rate = Annotated[int, Field(ge=0, le=10_000_000)]

_RANGE = re.compile(r"^([^#]+)#([0-9]+)(?:-([0-9]+))?$")


def vf_range(name: str) -> tuple[str, tuple[int, int] | None]:
    """The PF's name, and the first and last of the VFs that a NicName means; None: all."""
    found = _RANGE.match(name)
    if not found:
        return name, None
    first = int(found[2])
    return found[1], (first, int(found[3] or first))


class LinkType(StrEnum):
    """What a port speaks."""

    ETHERNET = "Ethernet"
    INFINIBAND = "InfiniBand"


class NicSelector(ApiModel):
    """Physical functions of a node: all that is named must match, of each list any item."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            (
                "has(self.vendorIDs) || has(self.deviceIDs) || has(self.drivers) ||"
                " has(self.pciAddresses) || has(self.names) || has(self.macAddresses)",
                "name something of the network cards, as names or pciAddresses",
            )
        )
    )

    vendor_ids: tuple[PciNumber, ...] | None = Field(
        default=None, alias="vendorIDs", min_length=1, max_length=16, json_schema_extra=UNIQUE
    )
    """PCI vendors, four hexadecimal digits, e.g. 8086; 1 to 16."""
    device_ids: tuple[PciNumber, ...] | None = Field(
        default=None, alias="deviceIDs", min_length=1, max_length=16, json_schema_extra=UNIQUE
    )
    """PCI devices of the physical functions, e.g. 1592; 1 to 16."""
    drivers: tuple[Word, ...] | None = Field(
        default=None, min_length=1, max_length=16, json_schema_extra=UNIQUE
    )
    """Kernel drivers of the physical functions, e.g. ice; 1 to 16."""
    pci_addresses: tuple[PciAddress, ...] | None = Field(
        default=None, min_length=1, max_length=64, json_schema_extra=UNIQUE
    )
    """PCI addresses of the physical functions, e.g. 0000:3b:00.0; 1 to 64. They may change when
    cards are added: names and MAC addresses stay."""
    names: tuple[NicName, ...] | None = Field(
        default=None, min_length=1, max_length=64, json_schema_extra=UNIQUE
    )
    """Kernel devices of the physical functions, e.g. ens1f0; 1 to 64. ens1f0#0-3 means the first
    four VFs of ens1f0 only: driver, resourceName and settings are theirs, the count is the
    card's."""
    mac_addresses: tuple[MacAddress, ...] | None = Field(
        default=None, min_length=1, max_length=64, json_schema_extra=UNIQUE
    )
    """Permanent MAC addresses of the physical functions; 1 to 64."""
    link_type: LinkType | None = None
    """Ethernet or InfiniBand. Default: either."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        named = {
            "vendorIDs": self.vendor_ids,
            "deviceIDs": self.device_ids,
            "drivers": self.drivers,
            "pciAddresses": self.pci_addresses,
            "names": self.names,
            "macAddresses": self.mac_addresses,
        }
        if not any(named.values()):
            raise field_error("", "name something of the network cards, as names or pciAddresses")
        for field, values in named.items():
            refuse_duplicates(field, values or ())
        for index, name in enumerate(self.names or ()):
            _, vfs = vf_range(name)
            if vfs and vfs[0] > vfs[1]:
                raise field_error(f"names[{index}]", f"{name} has no VF: give the lower one first")
        return self


class VfDriver(StrEnum):
    """Who drives the VFs."""

    VFIO = "vfio-pci"
    KERNEL = "Kernel"


class VfLinkState(StrEnum):
    """What a VF sees of the port's link."""

    AUTO = "Auto"
    ENABLE = "Enable"
    DISABLE = "Disable"


class VfSettings(ApiModel):
    """What the physical function enforces on its VFs. Absent: as the driver has it."""

    vlan: int | None = Field(default=None, ge=0, le=4094)
    """VLAN that frames are tagged with on the wire, and VFs do not see, 1 to 4094; 0: none."""
    spoof_check: bool | None = None
    """Whether a VF sends from its own MAC address only."""
    trust: bool | None = None
    """Whether a VF may change its MAC address and be promiscuous."""
    min_rate_mbits: Rate | None = None
    """Rate in Mbit/s that it has at least; 0: none."""
    max_rate_mbits: Rate | None = None
    """Rate in Mbit/s that it has at most; 0: no limit."""
    link_state: VfLinkState | None = None
    """Auto: that of the port. Enable: always up, as VFs among themselves want it."""

    @model_validator(mode="after")
    def _rates(self) -> Self:
        if self.max_rate_mbits and (self.min_rate_mbits or 0) > self.max_rate_mbits:
            raise field_error("minRateMbits", f"above maxRateMbits, {self.max_rate_mbits}")
        return self


class DeviceIntent(ApiModel):
    """What is wanted of network cards."""

    nic_selector: NicSelector
    """The cards. The port that carries the node's own traffic is never touched."""
    vfs: VfCount
    """VFs of each of these cards, 0 to 65535."""
    driver: VfDriver = VfDriver.VFIO
    """vfio-pci: for the dataplane and for VMs. Kernel: the kernel's own, as cards need that DPDK
    drives beside it (mlx5, MANA). Default vfio-pci."""
    mtu: int | None = Field(default=None, ge=1280, le=9600)
    """Largest IP packet in bytes, 1280 to 9600: the card's is raised to it and never lowered.
    Default: as it is."""
    resource_name: ResourceName | None = None
    """Extended resource that pods get the VFs by, e.g. headrace.dev/cx6. Absent: none, or another
    device plugin has them."""
    settings: VfSettings = VfSettings()
    """What the card enforces on the VFs."""
    externally_managed: bool = False
    """Whether somebody else makes the VFs: they are checked, bound and given out, and their number
    is left alone. Default false."""


class DevicePolicySpec(DeviceIntent):
    """What is wanted of network cards, and on which nodes."""

    node_selector: LabelSelector | None = None
    """The nodes, by their labels. Absent: none; empty: all."""


class DevicePolicyStatus(ObjectStatus):
    """What came of it."""

    selected_nodes: int | None = Field(default=None, ge=0, le=INT32)
    """Nodes that it selects."""
    ready_nodes: int | None = Field(default=None, ge=0, le=INT32)
    """Those whose cards are as it wants them."""
    vfs: int | None = Field(default=None, ge=0, le=INT32)
    """VFs that are ready, on all nodes together."""


class DevicePolicy(Resource):
    """The virtual functions that nodes' network cards are to have, and who drives them."""

    PLURAL = "devicepolicies"
    SHORT_NAME = "dpol"
    NAMESPACED = False
    COLUMNS = (
        column("Resource", ".spec.resourceName"),
        column("VFs", ".spec.vfs", "integer"),
        column("Nodes", ".status.selectedNodes", "integer"),
        column("Ready nodes", ".status.readyNodes", "integer"),
        column("Ready VFs", ".status.vfs", "integer", wide=True),
    )

    spec: DevicePolicySpec
    status: DevicePolicyStatus | None = None
