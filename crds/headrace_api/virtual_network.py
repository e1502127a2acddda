# SPDX-License-Identifier: Apache-2.0
"""VirtualNetwork: an isolated L3 network."""

import ipaddress
from enum import StrEnum
from typing import ClassVar, Self

from pydantic import ConfigDict, Field, model_validator

from .attachment import ObjectRef
from .base import ApiModel, ObjectStatus, Resource, Rule, cel, column, field_error, list_map
from .pipeline import INT32
from .types import (
    Dscp,
    SubnetPrefix,
    TenantAddress,
    TenantPrefix,
    Vni,
    parse_prefix,
)


class Subnet(ApiModel):
    """A prefix of addresses for Interfaces, and the gateway that the dataplane answers for."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            (
                "!has(self.gateway) || cidr(self.prefix).containsIP(self.gateway)",
                "gateway must be inside prefix",
            )
        )
    )

    prefix: SubnetPrefix
    """IPv4 prefix of length 8 to 32 or IPv6 prefix of length 16 to 128; host bits must be zero.
    Not of 0.0.0.0/8, 127.0.0.0/8, 224.0.0.0/3, ::/80, fe80::/10 or ff00::/8."""
    gateway: TenantAddress | None = None
    """Address of the gateway. Default: the first address after the network address."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        network = parse_prefix(self.prefix)
        gateway = ipaddress.ip_address(self.gateway_address)
        if gateway not in network:
            raise field_error("gateway", f"{gateway} is not in {network}")
        ends = (network.network_address, network.broadcast_address)
        if network.version == 4 and network.prefixlen < 31 and gateway in ends:
            raise field_error("gateway", "not the network or broadcast address of the prefix")
        return self

    @property
    def gateway_address(self) -> str:
        """The gateway, or its default."""
        if self.gateway is not None:
            return self.gateway
        network = parse_prefix(self.prefix)
        single = network.prefixlen == network.max_prefixlen
        return str(network.network_address + (0 if single else 1))


class NextHop(ApiModel):
    """Where a route leads: exactly one of interfaceRef, endpointRef and networkRef."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            (
                "[has(self.interfaceRef), has(self.endpointRef), has(self.networkRef)]"
                ".exists_one(present, present)",
                "exactly one of interfaceRef, endpointRef and networkRef",
            )
        )
    )

    interface_ref: ObjectRef | None = None
    """An Interface of this network."""
    endpoint_ref: ObjectRef | None = None
    """An UnderlayEndpoint, outside the cluster, that admits this network."""
    network_ref: ObjectRef | None = None
    """Another VirtualNetwork of the namespace, in which the destination is looked up again.

    A packet is led on so four times at most.
    """
    weight: int = Field(default=1, ge=1, le=100)
    """Share of the flows among the next hops of the route, 1 to 100. Default 1."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        given = (self.interface_ref, self.endpoint_ref, self.network_ref)
        if sum(member is not None for member in given) != 1:
            raise field_error("", "exactly one of interfaceRef, endpointRef and networkRef")
        return self


class RouteAction(StrEnum):
    """What happens to packets that take a route."""

    FORWARD = "Forward"
    DROP = "Drop"


class Route(ApiModel):
    """A route of the network."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            (
                "has(self.nextHops) == (self.action == 'Forward')",
                "nextHops is required with action Forward, and forbidden with Drop",
            )
        )
    )

    prefix: TenantPrefix
    """Destinations; host bits must be zero; not in a range of which no subnet may be. 0.0.0.0/0
    and ::/0 are the default routes."""
    action: RouteAction = RouteAction.FORWARD
    """Forward sends packets to the next hops, Drop drops them; as long as no Interface offers the
    same prefix. Default Forward."""
    next_hops: tuple[NextHop, ...] | None = Field(default=None, min_length=1, max_length=16)
    """1 to 16 next hops; flows are spread over them by weight. Required with action Forward, and
    forbidden with Drop."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        forward = self.action is RouteAction.FORWARD
        if forward and self.next_hops is None:
            raise field_error("nextHops", "required with action Forward")
        if not forward and self.next_hops is not None:
            raise field_error("nextHops", "not allowed with action Drop")
        return self


class VirtualNetworkSpec(ApiModel):
    """What the network is."""

    vni: Vni | None = None
    """Identifier of the network in the underlay, 1 to 16777215, unique in the cluster. Default: the
    lowest free one, see status.vni; once one is allocated it may be pinned to that and no other."""
    subnets: tuple[Subnet, ...] = Field(
        min_length=1, max_length=32, json_schema_extra=list_map("prefix")
    )
    """1 to 32 subnets of either family; they may not overlap."""
    mtu: int | None = Field(default=None, ge=1280, le=9216)
    """Largest IP packet inside the network in bytes, 1280 to 9216. Default: what the underlay
    carries, less 40 bytes for the outer header."""
    dscp: Dscp | None = None
    """DSCP of the outer header, by which the underlay tells classes of traffic apart, 0 to 63.
    Default: each packet's own. Inside, packets keep what they have either way."""
    routes: tuple[Route, ...] = Field(
        default=(), max_length=1024, json_schema_extra=list_map("prefix")
    )
    """At most 1024 routes besides those to the Interfaces."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        seen: list[tuple[int, ipaddress.IPv4Network | ipaddress.IPv6Network]] = []
        for index, subnet in enumerate(self.subnets):
            prefix = parse_prefix(subnet.prefix)
            for other, earlier in seen:
                if prefix.version == earlier.version and prefix.overlaps(earlier):
                    raise field_error(
                        f"subnets[{index}].prefix",
                        f"{prefix} overlaps {earlier} of subnets[{other}]",
                    )
            seen.append((index, prefix))
        first: dict[str, int] = {}
        for index, route in enumerate(self.routes):
            if first.setdefault(route.prefix, index) != index:
                raise field_error(
                    f"routes[{index}].prefix",
                    f"{route.prefix} is routed already by routes[{first[route.prefix]}]:"
                    " give one route several nextHops",
                )
        return self


class VirtualNetworkStatus(ObjectStatus):
    """What the operator allocated and found."""

    vni: Vni | None = None
    """Identifier of the network in the underlay."""
    gateways: tuple[TenantAddress, ...] = Field(default=(), max_length=32)
    """Gateway addresses, one for each subnet."""
    accepted_interfaces: int | None = Field(default=None, ge=0, le=INT32)
    """How many Interfaces are in the network; those with a problem do not count."""
    free_addresses: int | None = Field(default=None, ge=0, le=INT32)
    """How many more Interfaces that give no addresses fit: one takes an address of every subnet,
    and this is what the fullest has left, 2147483647 at most."""
    desired_nodes: int | None = Field(default=None, ge=0, le=INT32)
    """How many engines are to have the network: those with an Interface in it, or in a network
    that leads to it."""
    programmed_nodes: int | None = Field(default=None, ge=0, le=INT32)
    """How many of them have it as it is written."""
    unreachable_nodes: int | None = Field(default=None, ge=0, le=INT32)
    """How many of them are not heard of: condition Programmed does not wait for these."""


class VirtualNetwork(Resource):
    """An isolated L3 network: subnets and routes. Networks may use the same addresses."""

    PLURAL = "virtualnetworks"
    SHORT_NAME = "vnet"
    RULES: ClassVar[tuple[Rule, ...]] = (
        (
            "!has(self.spec.vni) || !has(self.status) || !has(self.status.vni)"
            " || self.spec.vni == self.status.vni"
            " || has(oldSelf.spec.vni) && oldSelf.spec.vni == self.spec.vni",
            "spec.vni: the network has another already, see status.vni",
        ),
    )
    COLUMNS = (
        column("Subnet", ".spec.subnets[0].prefix"),
        column("VNI", ".status.vni", "integer"),
        column("Interfaces", ".status.acceptedInterfaces", "integer"),
        column("Free", ".status.freeAddresses", "integer"),
        column("Nodes", ".status.desiredNodes", "integer", wide=True),
        column("Programmed nodes", ".status.programmedNodes", "integer", wide=True),
    )

    spec: VirtualNetworkSpec
    status: VirtualNetworkStatus | None = None

    @model_validator(mode="after")
    def _not_itself(self) -> Self:
        for index, route in enumerate(self.spec.routes):
            for position, hop in enumerate(route.next_hops or ()):
                if hop.network_ref and hop.network_ref.name == self.metadata.name:
                    raise field_error(
                        f"spec.routes[{index}].nextHops[{position}].networkRef.name",
                        "another network: this one would look itself up for ever",
                    )
        return self
