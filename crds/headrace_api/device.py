# SPDX-License-Identifier: Apache-2.0
"""Device: what of a node Interfaces may name, and in which namespaces."""

import re
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Annotated, Self

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from .attachment import MEMBERS, POD_DEVICES, Attachment, AttachmentType, PlainPath
from .base import UNIQUE, ApiModel, Rule, cel, field_error, refuse_duplicates
from .selector import LabelSelector
from .types import Name, ResourceName

#: Kernel device names; * stands for any characters, also none, and ? for one.
DevicePattern = Annotated[str, Field(min_length=1, max_length=16, pattern=r"^[A-Za-z0-9_.@*?-]+$")]
#: PCI addresses; * and ? as in a DevicePattern.
PciPattern = Annotated[str, Field(min_length=1, max_length=16, pattern=r"^[0-9a-f:.*?]+$")]

_VLAN = "([1-9][0-9]{0,2}|[1-3][0-9]{3}|40[0-8][0-9]|409[0-4])"


def _ascending(text: str) -> str:
    first, last = vlan_range(text)
    if first > last:
        raise field_error("", f"{text} has no VLAN: give the lower one first")
    return text


def vlan_range(text: str) -> tuple[int, int]:
    """First and last of a VlanRange."""
    first, _, last = text.partition("-")
    return int(first), int(last or first)


def vlans_of(ranges: Iterable[str]) -> frozenset[int]:
    """VLANs of several of them."""
    bounds = map(vlan_range, ranges)
    return frozenset(vlan for first, last in bounds for vlan in range(first, last + 1))


#: A VLAN, or several: 100, 200-299.
VlanRange = Annotated[
    str,
    Field(min_length=1, max_length=9, pattern=rf"^{_VLAN}(-{_VLAN})?$"),
    AfterValidator(_ascending),
    Field(
        json_schema_extra=cel(
            (
                "!self.contains('-') || int(self.split('-')[0]) <= int(self.split('-')[1])",
                "give the lower one first",
            )
        )
    ),
]

#: What entries of a type name, one of these fields; other types name nothing.
_NAMES: Mapping[AttachmentType, tuple[str, ...]] = {
    AttachmentType.TAP: ("deviceNames",),
    AttachmentType.AF_PACKET: ("deviceNames",),
    AttachmentType.AF_XDP: ("deviceNames",),
    AttachmentType.SRIOV: ("pciAddresses", "resourceName"),
    AttachmentType.PCAP: ("directory",),
}
_CHOICES = tuple(dict.fromkeys(_NAMES.values()))
_FIELDS = tuple(field for fields in _CHOICES for field in fields)
#: Most functions of a resource that one entry has on each node.
DEVICE_FUNCTIONS = 256
_WILDCARD = re.compile(r"[*?]")
#: The node's end of a pod's device (see pod_device): the node agent's.
_POD_END = re.compile(r"hr[0-9a-f]{12}")


def _rule(fields: tuple[str, ...]) -> Rule:
    kinds = ", ".join(f"'{kind}'" for kind, names in _NAMES.items() if names == fields)
    given = [f"has(self.{field})" for field in fields]
    none = " && ".join(f"!{each}" for each in given)
    rule = f"self.type in [{kinds}] ? {' != '.join(given)} : {none}"
    one = "exactly one of " if len(fields) > 1 else ""
    what = f"{one}{' and '.join(fields)}"
    return rule, f"{what} is required with type {kinds}, and forbidden otherwise"


class Device(ApiModel):
    """Devices of the nodes that Interfaces may name; the entry also allows their type."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            *map(_rule, _CHOICES),
            (
                "has(self.count) == has(self.resourceName)",
                "count is required with resourceName, and forbidden otherwise",
            ),
            *(
                (
                    f"!has(self.{field}) || has(self.resourceName)",
                    f"{field} is forbidden without resourceName",
                )
                for field in ("vlans", "endpointVLANs")
            ),
        )
    )

    name: Name = Field(max_length=32)
    """Name of the entry, unique in the Pipeline, at most 32 characters."""
    type: AttachmentType
    """The type of attachment that it allows. Discard needs no entry: it names nothing."""
    device_names: tuple[DevicePattern, ...] | None = Field(
        default=None, min_length=1, max_length=64
    )
    """Names of kernel devices, 1 to 64, with type Tap, AFPacket or AFXDP. * stands for any
    characters, also none, and ? for one; neither for lo, eth0 or the node's end of a pod's
    device."""
    pci_addresses: tuple[PciPattern, ...] | None = Field(default=None, min_length=1, max_length=64)
    """PCI addresses of functions, 1 to 64, with type SRIOV, e.g. 0000:3b:02.*. * stands for any
    characters, also none, and ? for one."""
    resource_name: ResourceName | None = None
    """Extended resource of a device plugin, e.g. headrace.dev/cx6, with type SRIOV instead of
    pciAddresses: each dataplane pod takes count of it for Interfaces that name it. An Interface
    has one of the first entry with this resource that serves its namespace."""
    count: int | None = Field(default=None, ge=1, le=DEVICE_FUNCTIONS)
    """Functions of resourceName on each node, 1 to 256, besides those of uplinks. Those that are in
    use stay when it is lowered, as far as there are so many."""
    vlans: tuple[VlanRange, ...] | None = Field(
        default=None, min_length=1, max_length=64, json_schema_extra=UNIQUE
    )
    """VLANs that functions of resourceName may be in, 1 to 64 numbers or ranges: 100, 200-299. Each
    Interface names one, and no two networks have the same. Absent: none names any."""
    endpoint_vlans: tuple[VlanRange, ...] | None = Field(
        default=None,
        alias="endpointVLANs",
        min_length=1,
        max_length=64,
        json_schema_extra=UNIQUE,
    )
    """VLANs for endpoints on the node, 1 to 64 numbers or ranges, none of them in any vlans: an
    Interface with an sriov.endpoint is in one that nothing else of the card is in. The fabric must
    carry none of them to the nodes. Absent: functions have no endpoints. Where an entry has VLANs
    of either kind, none of its functions is without."""
    directory: PlainPath | None = None
    """Directory of the node with the files that may be named, at any depth, with type Pcap. The
    dataplane pods mount it, and make it where it is missing."""
    namespace_selector: LabelSelector | None = None
    """Namespaces whose Interfaces may use the entry, of those that the Pipeline's allowedNamespaces
    allow. Absent: none, but with `headrace run` all; empty: all."""

    @model_validator(mode="after")
    def _names(self) -> Self:
        given = {
            info.alias or name
            for name, info in type(self).model_fields.items()
            if info.alias in _FIELDS or name in _FIELDS
            if getattr(self, name) is not None
        }
        wanted = _NAMES.get(self.type, ())
        if wanted and given.isdisjoint(wanted):
            raise field_error(wanted[0], f"{' or '.join(wanted)} is required with type {self.type}")
        for field in sorted(given.difference(wanted)):
            raise field_error(field, f"not allowed with type {self.type}")
        if len(given) > 1:
            raise field_error("", f"exactly one of {' and '.join(wanted)}")
        if (self.count is None) != (self.resource_name is None):
            raise field_error("count", "required with resourceName, and not allowed otherwise")
        for field, vlans in (("vlans", self.vlans), ("endpointVLANs", self.endpoint_vlans)):
            if vlans is not None and self.resource_name is None:
                raise field_error(field, "not allowed without resourceName")
            refuse_duplicates(field, vlans or ())
        return self

    @property
    def tagged(self) -> bool:
        """Whether its functions are in VLANs."""
        return self.vlans is not None or self.endpoint_vlans is not None

    def serves(self, labels: Mapping[str, str]) -> bool:
        """Whether the entry is for a namespace with these labels."""
        return self.namespace_selector is not None and self.namespace_selector.matches(labels)

    def with_defaults(self, namespaces: LabelSelector) -> Self:
        """The entry, for these namespaces where it does not say for which."""
        if self.namespace_selector is not None:
            return self
        return self.model_copy(update={"namespace_selector": namespaces})

    def has_vlan(self, vlan: int | None) -> bool:
        """Whether a function of the entry may be in a VLAN of the fabric; None: in none."""
        if vlan is None:
            return not self.tagged
        return any(first <= vlan <= last for first, last in map(vlan_range, self.vlans or ()))

    def has(self, name: str) -> bool:
        """Whether the kernel device, PCI address, resource or file is one of the entry's."""
        if self.resource_name is not None:
            return name == self.resource_name
        if self.directory is not None:
            return name.startswith(f"{self.directory}/")
        return any(_matches(name, each) for each in self.device_names or self.pci_addresses or ())

    def __str__(self) -> str:
        """What it names, for people."""
        if self.directory is not None:
            return f"{self.directory}/..."
        if self.resource_name is not None:
            return self.resource_name
        return ", ".join(self.device_names or self.pci_addresses or ())


#: What a Pipeline that lists no devices has where the node agent runs.
DEFAULT_DEVICES = (
    Device(name="pods", type=AttachmentType.POD, namespace_selector=LabelSelector()),
)


def is_pod_end(device: str) -> bool:
    """Whether a kernel device is the node's end of a pod's: nobody names one."""
    return _POD_END.fullmatch(device) is not None


def _matches(name: str, pattern: str) -> bool:
    if is_pod_end(name) or (name in POD_DEVICES and _WILDCARD.search(pattern)):
        return False
    if "/" in name:
        # A resource is no device.
        return False
    return fnmatchcase(name, pattern)


def named(attachment: Attachment) -> Iterator[tuple[str, str]]:
    """What of the node an Interface's attachment names: field, below the attachment, and value.

    Sockets are not among it: they are in a directory of the Interface's own.
    """
    member = MEMBERS.get(attachment.type, "")
    for netdev in (attachment.tap, attachment.af_packet, attachment.af_xdp):
        if netdev:
            yield f"{member}.deviceName", netdev.device_name
    if attachment.sriov and attachment.sriov.pci_address:
        yield f"{member}.pciAddress", attachment.sriov.pci_address
    if attachment.sriov and attachment.sriov.resource_name:
        yield f"{member}.resourceName", attachment.sriov.resource_name
    if attachment.pcap:
        files = {
            "receiveFile": attachment.pcap.receive_file,
            "transmitFile": attachment.pcap.transmit_file,
        }
        yield from ((f"{member}.{field}", path) for field, path in files.items() if path)
