# SPDX-License-Identifier: Apache-2.0
"""Device: what of a node Interfaces may name, and in which namespaces."""

import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Annotated, Self

from pydantic import ConfigDict, Field, model_validator

from .attachment import MEMBERS, POD_DEVICES, Attachment, AttachmentType, PlainPath
from .base import ApiModel, cel, field_error
from .selector import LabelSelector
from .types import Name

#: Kernel device names; * stands for any characters, also none, and ? for one.
DevicePattern = Annotated[str, Field(min_length=1, max_length=16, pattern=r"^[A-Za-z0-9_.@*?-]+$")]
#: PCI addresses; * and ? as in a DevicePattern.
PciPattern = Annotated[str, Field(min_length=1, max_length=16, pattern=r"^[0-9a-f:.*?]+$")]

#: What entries of a type name; other types name nothing.
_NAMES: Mapping[AttachmentType, str] = {
    AttachmentType.TAP: "deviceNames",
    AttachmentType.AF_PACKET: "deviceNames",
    AttachmentType.AF_XDP: "deviceNames",
    AttachmentType.SRIOV: "pciAddresses",
    AttachmentType.PCAP: "directory",
}
_FIELDS = tuple(dict.fromkeys(_NAMES.values()))
_WILDCARD = re.compile(r"[*?]")
#: The node's end of a pod's device (see pod_device): the node agent's.
_POD_END = re.compile(r"hr[0-9a-f]{12}")


def _types(field: str) -> str:
    return ", ".join(f"'{kind}'" for kind, name in _NAMES.items() if name == field)


class Device(ApiModel):
    """Devices of the nodes that Interfaces may name; the entry also allows their type."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            *(
                (
                    f"has(self.{field}) == (self.type in [{_types(field)}])",
                    f"{field} is required with type {_types(field)}, and forbidden otherwise",
                )
                for field in _FIELDS
            )
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
        wanted = _NAMES.get(self.type)
        if wanted and wanted not in given:
            raise field_error(wanted, f"required with type {self.type}")
        for field in sorted(given - {wanted}):
            raise field_error(field, f"not allowed with type {self.type}")
        return self

    def serves(self, labels: Mapping[str, str]) -> bool:
        """Whether the entry is for a namespace with these labels."""
        return self.namespace_selector is not None and self.namespace_selector.matches(labels)

    def with_defaults(self, namespaces: LabelSelector) -> Self:
        """The entry, for these namespaces where it does not say for which."""
        if self.namespace_selector is not None:
            return self
        return self.model_copy(update={"namespace_selector": namespaces})

    def has(self, name: str) -> bool:
        """Whether the kernel device, PCI address or file is one of the entry's."""
        if self.directory is not None:
            return name.startswith(f"{self.directory}/")
        return any(_matches(name, each) for each in self.device_names or self.pci_addresses or ())

    def __str__(self) -> str:
        """What it names, for people."""
        if self.directory is not None:
            return f"{self.directory}/..."
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
    if attachment.pcap:
        files = {
            "receiveFile": attachment.pcap.receive_file,
            "transmitFile": attachment.pcap.transmit_file,
        }
        yield from ((f"{member}.{field}", path) for field, path in files.items() if path)
