# SPDX-License-Identifier: Apache-2.0
"""Slice: a part of compiled output that grows, where a DataplaneConfig would become too large."""

import hashlib
from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, WithJsonSchema, model_validator

from .base import ApiModel, CompiledResource, Json, StatusModel, cel, column, field_error
from .dataplane_config import CompiledInterface, CompiledNetwork
from .types import Name, NetworkKey, NodeName, Prefix, Subdomain, UnderlayAddress, Vni
from .virtual_network import VirtualNetwork

#: Most entries of one slice.
SLICE_ENTRIES = 256
#: Most next hops of one route; the engine's limit.
ROUTE_NEXT_HOPS = 16
#: Labels that name the VirtualNetwork of its routes; its VNI selects those that a node needs.
NAMESPACE_LABEL = "headrace.dev/network-namespace"
NETWORK_LABEL = "headrace.dev/network"
VNI_LABEL = "headrace.dev/vni"


def slice_name(network: str, number: int) -> str:
    """Name of a Slice of routes: `<namespace>.<network>.<number>`; `network` is namespace/name."""
    return f"{network.replace('/', '.')}.{number}"


def slice_revision(name: str, uid: str, generation: int) -> int:
    """A number that stands for one generation of one Slice, by its metadata."""
    text = f"{name} {uid} {generation}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "big")


def routes_digest(revisions: Iterable[int]) -> str:
    """Digest of a network's routes: which generation of which Slices, in any order.

    Operator and agent compute it alike, whatever fields of a slice either of them knows.
    """
    digest = 0
    for revision in revisions:
        # What can be taken out again: one changed slice of thousands costs one step.
        digest ^= revision
    return f"{digest:032x}"


class SliceNextHop(ApiModel):
    """Exactly one of underlayAddress and network."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            (
                "has(self.underlayAddress) != has(self.network)",
                "exactly one of underlayAddress and network",
            )
        )
    )

    underlay_address: UnderlayAddress | None = None
    """Underlay address of the endpoint."""
    network: NetworkKey | None = None
    """namespace/name of the network in which to look up again."""
    weight: int = Field(default=1, ge=1, le=100)
    """Share of the flows among the next hops of the route, 1 to 100."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.underlay_address is None) == (self.network is None):
            raise field_error("", "exactly one of underlayAddress and network")
        return self


class SliceRoute(ApiModel):
    """A route: exactly one of nextHops and blackhole."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            ("has(self.blackhole) != has(self.nextHops)", "exactly one of blackhole and nextHops")
        )
    )

    prefix: Prefix
    """Destinations."""
    next_hops: tuple[SliceNextHop, ...] | None = Field(
        default=None, min_length=1, max_length=ROUTE_NEXT_HOPS
    )
    """1 to 16 next hops; flows are spread over them by weight."""
    blackhole: Literal[True] | None = None
    """Drop what goes there."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.blackhole is None) == (self.next_hops is None):
            raise field_error("", "exactly one of blackhole and nextHops")
        return self


class SliceType(StrEnum):
    """What the entries of a Slice are."""

    ROUTES = "Routes"
    """Routes of a network, alike for every node."""
    NETWORKS = "Networks"
    """Networks of a DataplaneConfig."""
    INTERFACES = "Interfaces"
    """Interfaces of a DataplaneConfig."""


#: One entry as JSON has it: the API server takes any, its type says what it is.
AnyEntry = Annotated[
    Json, WithJsonSchema({"type": "object", "x-kubernetes-preserve-unknown-fields": True})
]


#: What an entry of each type is.
ENTRIES: dict[SliceType, type[ApiModel]] = {
    SliceType.ROUTES: SliceRoute,
    SliceType.NETWORKS: CompiledNetwork,
    SliceType.INTERFACES: CompiledInterface,
}


class SliceOwner(ApiModel):
    """The object that the entries are of."""

    kind: str = Field(max_length=63)
    """Its kind."""
    namespace: Name | None = None
    """Its namespace. Absent: it has none, or is in that of the Slice."""
    name: Subdomain
    """Its name."""

    @property
    def key(self) -> str:
        """`namespace/name`, or the name alone."""
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


def network_of(slice_spec: Json) -> str:
    """namespace/name of the network of the spec of a Slice, as JSON; empty: it is of none."""
    owner = slice_spec.get("owner")
    if not isinstance(owner, dict) or owner.get("kind") != VirtualNetwork.__name__:
        return ""
    return f"{owner.get('namespace')}/{owner.get('name')}"


class SliceHead(ApiModel):
    """What every Slice says, whatever its entries are."""

    type: str = Field(max_length=63)
    """What the entries are. Text: a reader passes over types that it does not know."""
    owner: SliceOwner
    """Whose they are."""
    vni: Vni | None = None
    """Identifier of the network that is the owner. Absent: the owner is no network."""
    node_name: NodeName | None = None
    """The node whose dataplane alone has the entries, and reports of them. Absent: any has."""


class SliceSpec(SliceHead):
    """Entries of one type and one owner."""

    entries: tuple[AnyEntry, ...] = Field(default=(), max_length=SLICE_ENTRIES)
    """At most 256, each as `type` says. Routes are sorted by family, address and length."""


class SliceStatus(StatusModel):
    """What the agent of its node reports of the entries."""

    observed_generation: int | None = Field(default=None, ge=0)
    """The metadata.generation that this status was written for."""
    entries: tuple[AnyEntry, ...] = Field(default=(), max_length=SLICE_ENTRIES)
    """State of each entry, as `type` says."""


class Slice(CompiledResource):
    """Compiled: a part of what is of one object and of one type. Not edited by people."""

    PLURAL = "slices"
    SHORT_NAME = "dps"
    COLUMNS = (
        column("Type", ".spec.type"),
        column("Of", ".spec.owner.kind"),
        column("Owner Namespace", ".spec.owner.namespace"),
        column("Owner", ".spec.owner.name"),
        column("VNI", ".spec.vni", "integer"),
    )

    spec: SliceSpec
    status: SliceStatus | None = None


class RouteSliceSpec(SliceHead):
    """Routes of one network."""

    entries: tuple[SliceRoute, ...] = Field(default=(), max_length=SLICE_ENTRIES)


class RouteSlice(CompiledResource):
    """A Slice of the type Routes, read: a part of one VirtualNetwork's."""

    KIND = "Slice"

    spec: RouteSliceSpec

    @property
    def network(self) -> str:
        """namespace/name of the network."""
        return self.spec.owner.key
