# SPDX-License-Identifier: Apache-2.0
"""Interface: an endpoint of a VirtualNetwork on a node."""

from enum import StrEnum
from typing import Self

from pydantic import ConfigDict, Field, model_validator

from .attachment import Attachment, ObjectRef, PciAddress
from .base import (
    UNIQUE,
    ApiModel,
    ObjectStatus,
    Resource,
    StatusModel,
    cel,
    column,
    field_error,
    refuse_duplicates,
)
from .types import MacAddress, NodeName, TenantAddress, TenantPrefix, UnderlayAddress


class SourceCheck(StrEnum):
    """Whether packets from an endpoint must have source addresses of its own."""

    ENABLED = "Enabled"
    DISABLED = "Disabled"


_NODE_NAME = "nodeName is required, but forbidden where a pod is named: it is the pod's node"
_NAMES_POD = (
    "(has(self.attachment.pod) || (has(self.attachment.sriov) &&"
    " has(self.attachment.sriov.endpoint) && has(self.attachment.sriov.endpoint.pod)))"
)


class InterfaceSpec(ApiModel):
    """What the endpoint is and where it attaches."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            (f"has(self.nodeName) != {_NAMES_POD}", _NODE_NAME),
        )
    )

    network_ref: ObjectRef = Field(
        json_schema_extra=cel(("self == oldSelf", "networkRef is immutable"))
    )
    """The VirtualNetwork, in the same namespace; immutable."""
    pipeline_ref: ObjectRef
    """The Pipeline whose dataplane serves the Interface."""
    node_name: NodeName | None = None
    """The node that the endpoint is on; the Pipeline must select it. Required, but forbidden
    where the attachment names a pod: it is the pod's node."""
    addresses: tuple[TenantAddress, ...] = Field(
        default=(), max_length=32, json_schema_extra=UNIQUE
    )
    """At most 32 addresses, each in a subnet of the network. Default: one of every subnet,
    see status.addresses."""
    prefixes: tuple[TenantPrefix, ...] = Field(default=(), max_length=64, json_schema_extra=UNIQUE)
    """At most 64 prefixes that are routed to the endpoint besides its addresses. Several
    Interfaces with one prefix share its traffic by flow."""
    mac_address: MacAddress | None = None
    """MAC address of the endpoint. Default: that of a pod's device is made from the Interface's
    name, any other's is learned; the function of an sriov.endpoint has its own then."""
    source_check: SourceCheck = SourceCheck.ENABLED
    """Enabled drops packets whose source is neither an address nor in a prefix of the
    Interface, and frames from another MAC address than the Interface's, unless that is
    learned. Default Enabled."""
    mtu: int | None = Field(default=None, ge=1280, le=9216)
    """Largest IP packet in bytes, 1280 to 9216. Default: that of the network."""
    queues: int | None = Field(default=None, ge=1, le=64)
    """Receive and transmit queues, 1 to 64. Default: chosen by the dataplane."""
    attachment: Attachment
    """How the endpoint meets the dataplane."""

    @model_validator(mode="after")
    def _node(self) -> Self:
        if (self.node_name is None) != (self.attachment.pod_name is not None):
            raise field_error(
                "nodeName",
                "required, but not given"
                if self.node_name is None
                else "must be left out where the attachment names a pod: it is the pod's node",
            )
        return self

    @model_validator(mode="after")
    def _no_duplicates(self) -> Self:
        refuse_duplicates("addresses", self.addresses)
        refuse_duplicates("prefixes", self.prefixes)
        return self


class EndpointFunction(StatusModel):
    """The function of an endpoint on the node."""

    pci_address: PciAddress
    """Its PCI address: what a virtual machine is given."""
    mac_address: MacAddress | None = None
    """Its MAC address, by the physical function. Absent: it has none there."""


class InterfaceStatus(ObjectStatus):
    """What the operator allocated and the dataplane found."""

    addresses: tuple[TenantAddress, ...] = Field(default=(), max_length=32)
    """Addresses inside the network."""
    underlay_address: UnderlayAddress | None = None
    """Underlay address of the endpoint."""
    mac_address: MacAddress | None = None
    """MAC address of the endpoint, given or learned."""
    node_name: NodeName | None = None
    """Node that underlayAddress belongs to."""
    endpoint: EndpointFunction | None = None
    """Of an sriov.endpoint, once it is in its VLAN."""


class Interface(Resource):
    """An endpoint: a VM, a pod, a device or a process, attached to a VirtualNetwork on a node."""

    PLURAL = "interfaces"
    SHORT_NAME = "ifc"
    SELECTABLE = (".spec.attachment.pod.name",)
    COLUMNS = (
        column("Network", ".spec.networkRef.name"),
        column("Node", ".status.nodeName"),
        column("Type", ".spec.attachment.type"),
        column("Addresses", ".status.addresses", wide=True),
        column("Underlay", ".status.underlayAddress", wide=True),
    )

    spec: InterfaceSpec
    status: InterfaceStatus | None = None
