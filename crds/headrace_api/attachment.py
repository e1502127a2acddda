# SPDX-License-Identifier: Apache-2.0
"""Attachment: how an Interface or an uplink meets the engine. A union discriminated by `type`."""

from enum import StrEnum
from typing import Annotated, Self

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from .base import ApiModel, cel, field_error
from .types import Name, ResourceName

#: Linux IFNAMSIZ less the terminator; no slash, no space, no colon.
DeviceName = Annotated[str, Field(min_length=1, max_length=15, pattern=r"^[A-Za-z0-9_.@-]+$")]
#: Domain:bus:device.function.
PciAddress = Annotated[
    str, Field(max_length=16, pattern=r"^[0-9a-f]{4,8}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]$")
]
#: Devices that every pod has.
POD_DEVICES = ("lo", "eth0")


def _not_the_pods(name: str) -> str:
    if name in POD_DEVICES:
        raise field_error("", f"{name} is the pod's own device: choose another, such as net1")
    return name


#: Name of a device inside a pod.
PodDeviceName = Annotated[
    DeviceName,
    AfterValidator(_not_the_pods),
    Field(json_schema_extra=cel(("!(self in ['lo', 'eth0'])", "lo and eth0 are the pod's own"))),
]
#: sockaddr_un has 108 bytes with the terminator (unix(7)).
SOCKET_BYTES = 107
#: A VLAN of IEEE 802.1Q; 0 stands for none, and 4095 is reserved.
Vlan = Annotated[int, Field(ge=1, le=4094)]
SocketPath = Annotated[str, Field(min_length=2, max_length=SOCKET_BYTES, pattern=r"^/[^\s,]+$")]
#: Absolute, each part a name: no //, . or .., and none at the end.
PlainPath = Annotated[
    str,
    Field(
        min_length=2,
        max_length=1024,
        pattern=r"^(/([^/\s,:.][^/\s,:]*|\.[^/\s,:.][^/\s,:]*|\.\.[^/\s,:]+))+$",
    ),
]


class AttachmentType(StrEnum):
    """How a port of the engine reaches its peer."""

    SRIOV = "SRIOV"
    POD = "Pod"
    TAP = "Tap"
    AF_PACKET = "AFPacket"
    AF_XDP = "AFXDP"
    MEMIF = "Memif"
    VHOST_USER = "VhostUser"
    VIRTIO_USER = "VirtioUser"
    PCAP = "Pcap"
    DISCARD = "Discard"


#: What the engine of this release attaches.
SUPPORTED_TYPES = frozenset(
    {
        AttachmentType.SRIOV,
        AttachmentType.POD,
        AttachmentType.TAP,
        AttachmentType.AF_PACKET,
        AttachmentType.MEMIF,
        AttachmentType.VHOST_USER,
        AttachmentType.VIRTIO_USER,
        AttachmentType.PCAP,
        AttachmentType.DISCARD,
    }
)


class EndpointType(StrEnum):
    """What has the other function."""

    POD = "Pod"
    VM = "VM"


class EndpointPod(ApiModel):
    """A pod that the device plugin has given a function to."""

    name: str = Field(min_length=1, max_length=253)
    """Name of the pod, in the Interface's namespace."""


class SriovEndpoint(ApiModel):
    """An endpoint on the node: a second function, alone with the engine's in a VLAN."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            (
                "has(self.pod) == (self.type == 'Pod')",
                "pod is required when type is Pod, and forbidden otherwise",
            ),
        )
    )

    type: EndpointType
    """Pod: the function that the pod has of the same resource and card. VM: one that no pod has,
    for a virtual machine or any process of the node; status.endpoint says which."""
    pod: EndpointPod | None = None

    @model_validator(mode="after")
    def _member(self) -> Self:
        if (self.pod is None) == (self.type is EndpointType.POD):
            required = "required" if self.pod is None else "not allowed"
            raise field_error("pod", f"{required} when type is {self.type}")
        return self


class SriovAttachment(ApiModel):
    """An SR-IOV virtual function (or any PCI network device)."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            (
                "has(self.pciAddress) != has(self.resourceName)",
                "exactly one of pciAddress and resourceName",
            ),
            ("!has(self.vlan) || has(self.resourceName)", "vlan is forbidden without resourceName"),
            (
                "!has(self.endpoint) || has(self.resourceName)",
                "endpoint is forbidden without resourceName",
            ),
            (
                "!has(self.endpoint) || !has(self.vlan)",
                "vlan is of the wire, and forbidden with endpoint",
            ),
        )
    )

    pci_address: PciAddress | None = None
    """PCI address of the function on the node: domain:bus:device.function, e.g. 0000:3b:02.1."""
    resource_name: ResourceName | None = None
    """Extended resource of a device plugin to take a function from, e.g. headrace.dev/cx6: of those
    that the dataplane pod has."""
    vlan: Vlan | None = None
    """VLAN of the fabric that the function is in, 1 to 4094, with resourceName of an Interface: one
    of its entry in the Pipeline's devices. The card tags what the function sends, and gives it
    nothing else. Absent: frames are untagged."""
    endpoint: SriovEndpoint | None = None
    """What is behind the function, with resourceName of an Interface, instead of vlan: an endpoint
    on the node, in one of the endpointVLANs of its entry. Absent: the wire."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.pci_address is None) == (self.resource_name is None):
            raise field_error("", "exactly one of pciAddress and resourceName")
        if self.vlan is not None and self.resource_name is None:
            raise field_error("vlan", "not allowed without resourceName")
        if self.endpoint is not None and self.resource_name is None:
            raise field_error("endpoint", "not allowed without resourceName")
        if self.endpoint is not None and self.vlan is not None:
            raise field_error("vlan", "it is of the wire: not allowed with endpoint")
        return self


class PodAttachment(ApiModel):
    """A pod's own network interface, plugged by the node agent."""

    name: str = Field(min_length=1, max_length=253)
    """Name of the pod, in the Interface's namespace."""
    device_name: PodDeviceName = "net1"
    """Name of the device inside the pod, at most 15 characters. Default net1."""
    default_route: bool = False
    """Whether the pod sends all that has no other route into the network. Default false."""


class TapAttachment(ApiModel):
    """A TAP device of the kernel that the engine makes."""

    device_name: DeviceName
    """Name of the kernel device, at most 15 characters."""


class AfPacketAttachment(ApiModel):
    """An existing kernel device, through AF_PACKET sockets."""

    device_name: DeviceName
    """Name of the kernel device, at most 15 characters."""


class AfXdpAttachment(ApiModel):
    """An existing kernel device, through AF_XDP sockets."""

    device_name: DeviceName
    """Name of the kernel device, at most 15 characters."""


class MemifRole(StrEnum):
    """Side of a memif link; the server makes the socket."""

    SERVER = "Server"
    CLIENT = "Client"


class MemifAttachment(ApiModel):
    """Shared memory with another process through memif."""

    socket_path: SocketPath | None = None
    """Absolute path of the memif socket, at most 107 bytes; in a cluster inside the Interface's
    own directory. Default: memif.sock there. Required of an uplink."""
    role: MemifRole = MemifRole.SERVER
    """Server makes the socket, Client connects to it. Default Server."""
    id: int = Field(default=0, ge=0, le=0x7FFFFFFF)
    """Number of the link on the socket, 0 to 2147483647. Default 0."""


class VhostUserAttachment(ApiModel):
    """A virtio device of a virtual machine: the vhost-user back end."""

    socket_path: SocketPath | None = None
    """Absolute path of the vhost-user socket, at most 107 bytes; in a cluster inside the
    Interface's own directory. Default: vhost-user.sock there. Required of an uplink."""


class VirtioUserAttachment(ApiModel):
    """The virtio front end of another process's vhost-user socket."""

    socket_path: SocketPath | None = None
    """Absolute path of the vhost-user socket, at most 107 bytes; in a cluster inside the
    Interface's own directory. Default: vhost-user.sock there. Required of an uplink."""


class PcapAttachment(ApiModel):
    """Capture files in place of a wire: for tests and replay."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            (
                "has(self.receiveFile) || has(self.transmitFile)",
                "at least one of receiveFile and transmitFile",
            )
        )
    )

    receive_file: PlainPath | None = None
    """pcap file whose frames the engine receives: an absolute path below the directory of one of
    the Pipeline's devices, without symbolic links."""
    transmit_file: PlainPath | None = None
    """pcap file that the engine writes what it sends to, likewise; what it holds is lost."""
    receive_loop: bool = False
    """Receive the frames of receiveFile again and again. Default false."""

    @model_validator(mode="after")
    def _some(self) -> Self:
        if self.receive_file is None and self.transmit_file is None:
            raise field_error("", "at least one of receiveFile and transmitFile")
        return self


#: YAML name of the member that each type requires; Discard has none.
MEMBERS = {
    AttachmentType.SRIOV: "sriov",
    AttachmentType.POD: "pod",
    AttachmentType.TAP: "tap",
    AttachmentType.AF_PACKET: "afPacket",
    AttachmentType.AF_XDP: "afXDP",
    AttachmentType.MEMIF: "memif",
    AttachmentType.VHOST_USER: "vhostUser",
    AttachmentType.VIRTIO_USER: "virtioUser",
    AttachmentType.PCAP: "pcap",
}


class Attachment(ApiModel):
    """How the engine reaches the peer: a type, and the member of that type's name."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            *(
                (
                    f"has(self.{member}) == (self.type == '{kind}')",
                    f"{member} is required when type is {kind}, and forbidden otherwise",
                )
                for kind, member in MEMBERS.items()
            )
        )
    )

    type: AttachmentType
    """Which member is used. This release does not attach AFXDP."""
    sriov: SriovAttachment | None = None
    pod: PodAttachment | None = None
    tap: TapAttachment | None = None
    af_packet: AfPacketAttachment | None = None
    af_xdp: AfXdpAttachment | None = Field(default=None, alias="afXDP")
    memif: MemifAttachment | None = None
    vhost_user: VhostUserAttachment | None = None
    virtio_user: VirtioUserAttachment | None = None
    pcap: PcapAttachment | None = None

    @model_validator(mode="after")
    def _member(self) -> Self:
        wanted = MEMBERS.get(self.type)
        present = {
            field.alias or name
            for name, field in type(self).model_fields.items()
            if name != "type" and getattr(self, name) is not None
        }
        if wanted and wanted not in present:
            raise field_error(wanted, f"required when type is {self.type}")
        for member in sorted(present - {wanted}):
            raise field_error(member, f"not allowed when type is {self.type}")
        return self

    @property
    def socket_path(self) -> str | None:
        """Path of the Unix socket; None: it has none, or the default one (see `sockets`)."""
        member = self.memif or self.vhost_user or self.virtio_user
        return member.socket_path if member else None

    @property
    def resource_name(self) -> str | None:
        """Extended resource that it takes a function of; None: none."""
        return self.sriov.resource_name if self.sriov else None

    @property
    def vlan(self) -> int | None:
        """VLAN of the fabric that its function is in; None: none."""
        return self.sriov.vlan if self.sriov else None

    @property
    def endpoint(self) -> SriovEndpoint | None:
        """What on the node is behind its function; None: the wire, or it has none."""
        return self.sriov.endpoint if self.sriov else None

    @property
    def pod_name(self) -> str | None:
        """The pod that it is about, of the Interface's namespace; None: none."""
        found = self.pod or (self.endpoint.pod if self.endpoint else None)
        return found.name if found else None

    def device(self, namespace: str = "") -> str | None:
        """What the attachment occupies on its node.

        None: any number may share it (Discard), or it is one of several alike (resourceName).
        `namespace` is that of the Interface.
        """
        if self.sriov:
            return f"pci:{self.sriov.pci_address}" if self.sriov.pci_address else None
        if self.pod:
            return f"pod:{namespace}/{self.pod.name}#{self.pod.device_name}"
        for netdev in (self.tap, self.af_packet, self.af_xdp):
            if netdev:
                return f"netdev:{netdev.device_name}"
        if self.socket_path:
            path = self.socket_path
            return f"memif:{path}#{self.memif.id}" if self.memif else f"socket:{path}"
        if self.pcap:
            return f"file:{self.pcap.transmit_file}" if self.pcap.transmit_file else None
        return None


class ObjectRef(ApiModel):
    """A reference to an object of the same namespace, or to a cluster-scoped one."""

    name: Name
    """Name of the object."""
