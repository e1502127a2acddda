# SPDX-License-Identifier: Apache-2.0
"""What was given out: input and output of every compilation, so that nothing ever moves.

Local mode keeps it in a state file; in a cluster it lives in statuses and compiled objects.
"""

from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from headrace_api.attachment import Vlan
from headrace_api.dataplane_config import Feature, FunctionNumber, Grant
from headrace_api.device import VlanRange
from headrace_api.types import Address, MacAddress, Prefix, ResourceName, UnderlayPrefix, Vni

#: Seconds that a value rests at least, and then until every node is known not to use it.
REST = 3600


@dataclass(frozen=True, slots=True)
class NetworkAllocation:
    """What a VirtualNetwork has."""

    vni: Vni
    slices: dict[int, tuple[Prefix, ...]]
    """Slice number -> sorted prefixes that were placed in it."""


@dataclass(frozen=True, slots=True)
class NodeAllocation:
    """What a Pipeline has on one node."""

    underlay_prefix: UnderlayPrefix
    """The node's /64."""
    devices: tuple[str, ...] = ()
    """What its uplinks occupy (Attachment.device)."""


@dataclass(frozen=True, slots=True)
class FunctionAllocation:
    """One of the functions of a resource that a dataplane pod has for Interfaces."""

    resource_name: ResourceName
    number: FunctionNumber
    """As CompiledInterface.function."""


@dataclass(frozen=True, slots=True)
class EndpointAllocation:
    """An endpoint on the node, and what it may have."""

    vlans: tuple[VlanRange, ...]
    """VLANs of which it is alone in one."""
    pod: str | None = None
    """Name of the pod that is the endpoint, in the Interface's namespace; None: no pod is."""
    mac_address: MacAddress | None = None
    """MAC address that was given to it."""


@dataclass(frozen=True, slots=True)
class InterfaceAllocation:
    """What an Interface has."""

    network: str
    """namespace/name of the network that `addresses` belong to."""
    pipeline: str
    node: str | None
    """None: it is nowhere for now, and its addresses are kept."""
    underlay_address: Address | None
    """/128 of the node's /64."""
    addresses: tuple[Address, ...]
    """Tenant addresses, given by the user or allocated."""
    device: str | None = None
    """What its attachment occupies on the node (Attachment.device)."""
    function: FunctionAllocation | None = None
    """What it has there of the resource that its attachment names."""
    vlan: Vlan | None = None
    """VLAN of the Pipeline that the function is in."""
    grant: Grant | None = None
    """Which time that it has function, VLAN and network together, where that matters."""
    endpoint: EndpointAllocation | None = None
    """What on the node is behind the function; None: the wire, or there is none."""


@dataclass(frozen=True, slots=True, order=True)
class Rest:
    """A value that somebody had and that is not given to anybody else yet."""

    kind: Literal["vni", "node"]
    value: int
    """A VNI, or the upper 64 bits of a node's /64."""
    owner: str
    """Who had it: namespace/name of the network, or pipeline/node. May have it again."""
    since: int
    """Second of its release, since 1970."""


class Allocations(BaseModel):
    """Everything that was given out. Keys are namespace/name, or name for Pipelines and nodes."""

    # A file of an earlier release has more in it.
    model_config = ConfigDict(frozen=True, extra="ignore")

    networks: dict[str, NetworkAllocation] = Field(default_factory=dict)
    nodes: dict[str, dict[str, NodeAllocation]] = Field(default_factory=dict)
    """Pipeline -> node -> what it has there."""
    interfaces: dict[str, InterfaceAllocation] = Field(default_factory=dict)
    resting: tuple[Rest, ...] = ()
    """Sorted."""
    unaware: dict[Feature, dict[str, tuple[str, ...]]] = Field(default_factory=dict)
    """Feature -> Pipeline -> nodes whose agents do not understand it."""
