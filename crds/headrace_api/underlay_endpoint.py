# SPDX-License-Identifier: Apache-2.0
"""UnderlayEndpoint: something outside the cluster that networks may be routed to."""

from enum import StrEnum

from .base import ApiModel, ObjectStatus, Resource, column
from .selector import LabelSelector
from .types import UnderlayAddress


class EncapsulationType(StrEnum):
    """How tenants' packets travel to the endpoint."""

    IP_IN_IPV6 = "IPInIPv6"


class Encapsulation(ApiModel):
    """How tenants' packets travel to the endpoint and back."""

    type: EncapsulationType = EncapsulationType.IP_IN_IPV6
    """IPInIPv6: IPv4 and IPv6 directly in IPv6 (RFC 2473), as the Linux kernel's ip6tnl has it.
    Default IPInIPv6."""


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
