# SPDX-License-Identifier: Apache-2.0
"""RouteSlice: compiled output, a part of one network's routes, alike for every node."""

import hashlib
from collections.abc import Iterable
from typing import Literal, Self

from pydantic import ConfigDict, Field, model_validator

from .base import ApiModel, Resource, cel, column, field_error
from .types import NetworkKey, Prefix, UnderlayAddress, Vni

#: Most routes in one slice.
SLICE_ROUTES = 256
#: Most next hops of one route; the engine's limit.
ROUTE_NEXT_HOPS = 16
#: Labels that name the VirtualNetwork of a RouteSlice; its VNI selects those that a node needs.
NAMESPACE_LABEL = "headrace.dev/network-namespace"
NETWORK_LABEL = "headrace.dev/network"
VNI_LABEL = "headrace.dev/vni"


def slice_name(network: str, number: int) -> str:
    """Name of a RouteSlice: `<namespace>.<network>.<number>`; `network` is namespace/name."""
    return f"{network.replace('/', '.')}.{number}"


def slice_revision(name: str, uid: str, generation: int) -> int:
    """A number that stands for one generation of one RouteSlice, by its metadata."""
    text = f"{name} {uid} {generation}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "big")


def routes_digest(revisions: Iterable[int]) -> str:
    """Digest of a network's routes: which generation of which RouteSlices, in any order.

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


class RouteSliceSpec(ApiModel):
    """Routes of one network."""

    network: NetworkKey
    """namespace/name of the network."""
    vni: Vni
    """Identifier of the network in the underlay."""
    routes: tuple[SliceRoute, ...] = Field(default=(), max_length=SLICE_ROUTES)
    """At most 256 routes, sorted by family, address and length."""


class RouteSlice(Resource):
    """Compiled: up to 256 routes of one VirtualNetwork. Not edited by people."""

    PLURAL = "routeslices"
    SHORT_NAME = "rsl"
    COMPILED = True
    COLUMNS = (
        column("Network", ".spec.network"),
        column("VNI", ".spec.vni", "integer"),
    )

    spec: RouteSliceSpec
