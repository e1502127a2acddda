# SPDX-License-Identifier: Apache-2.0
"""UnderlayEndpoint: something outside the cluster that networks may be routed to."""

from enum import StrEnum
from typing import Self

from pydantic import ConfigDict, model_validator

from .base import ApiModel, ObjectStatus, Resource, cel, column, field_error
from .selector import LabelSelector
from .types import MacAddress, UnderlayAddress, Vni


class EncapsulationType(StrEnum):
    """How tenants' packets travel to the endpoint."""

    IP_IN_IPV6 = "IPInIPv6"
    VXLAN = "VXLAN"


class Encapsulation(ApiModel):
    """How tenants' packets travel to the endpoint and back."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            (
                "has(self.vni) == (self.type == 'VXLAN')",
                "vni is required when type is VXLAN, and forbidden otherwise",
            ),
            (
                "has(self.macAddress) == (self.type == 'VXLAN')",
                "macAddress is required when type is VXLAN, and forbidden otherwise",
            ),
        )
    )

    type: EncapsulationType = EncapsulationType.IP_IN_IPV6
    """IPInIPv6: IPv4 and IPv6 directly in IPv6 (RFC 2473), as the Linux kernel's ip6tnl has it.
    VXLAN: in Ethernet, VXLAN and UDP, over IPv6 (RFC 7348), as its vxlan has it. Default IPInIPv6.
    """
    vni: Vni | None = None
    """With VXLAN: identifier that packets have, there and back, 1 to 16777215. The endpoint's own:
    it has nothing to do with those of networks."""
    mac_address: MacAddress | None = None
    """With VXLAN: MAC address of the endpoint's device, to which inner Ethernet frames go."""

    @model_validator(mode="after")
    def _members(self) -> Self:
        wanted = self.type is EncapsulationType.VXLAN
        for name, value in (("vni", self.vni), ("macAddress", self.mac_address)):
            if (value is not None) != wanted:
                required = "required" if wanted else "not allowed"
                raise field_error(name, f"{required} when type is {self.type}")
        return self


class UnderlayEndpointSpec(ApiModel):
    """Where the endpoint is, and whose packets go there."""

    address: UnderlayAddress
    """Its address in the underlay, outside the underlayPrefixes of every Pipeline."""
    encapsulation: Encapsulation = Encapsulation()
    """How packets travel there and back."""
    namespace_selector: LabelSelector | None = None
    """Namespaces of the networks that may use it. Absent: none. Empty: all."""
    network_selector: LabelSelector | None = None
    """VirtualNetworks of these namespaces that may use it. Absent: none. Empty: all."""


class UnderlayEndpointStatus(ObjectStatus):
    """What the operator found."""


class UnderlayEndpoint(Resource):
    """An endpoint outside the cluster, which an administrator lets networks route to."""

    PLURAL = "underlayendpoints"
    SHORT_NAME = "uep"
    NAMESPACED = False
    COLUMNS = (
        column("Address", ".spec.address"),
        column("Encapsulation", ".spec.encapsulation.type"),
    )

    spec: UnderlayEndpointSpec
    status: UnderlayEndpointStatus | None = None
