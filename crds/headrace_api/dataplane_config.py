# SPDX-License-Identifier: Apache-2.0
"""DataplaneConfig: compiled output, what is local to one Pipeline on one node."""

import hashlib
from typing import Annotated

from pydantic import Field

from .attachment import Attachment, PciAddress
from .base import ApiModel, CompiledResource, ObjectStatus, StatusModel, column, list_map
from .device import VlanRange
from .interface import SourceCheck
from .pipeline import UNDERLAY_PREFIXES, Hugepages, UplinkNeighbor, WaitingPackets, Workers
from .types import (
    Dscp,
    GatewayAddress,
    InterfaceKey,
    LinkAddress,
    MacAddress,
    Name,
    NetworkKey,
    NodeName,
    PodKey,
    Subdomain,
    TenantAddress,
    TenantPrefix,
    UnderlayAddress,
    UnderlayPrefix,
    Vni,
)

#: Most Interfaces of one Pipeline on one node.
NODE_INTERFACES = 1024
#: Most networks of one Pipeline on one node; the engine's limit.
NODE_NETWORKS = 4096
#: Most Slices of one Pipeline on one node.
NODE_SLICES = 256
#: Most UnderlayEndpoints of one network; the engine's limit.
NETWORK_ENDPOINTS = 64
#: Most gateways that an Interface answers for, less one for fe80::1; the engine's limit.
INTERFACE_GATEWAYS = 15


#: Name of something that an agent understands. Text: a reader ignores what it does not know.
Feature = Annotated[str, Field(max_length=63, pattern=r"^[A-Z][A-Za-z0-9]*$")]
#: Sources of overlay packets carry the VNI and are checked.
UNDERLAY_SOURCE_CHECK: Feature = "UnderlaySourceCheck"
#: The packets that wait are counted for each namespace, and may be limited.
WAITING_PACKETS_PER_NAMESPACE: Feature = "WaitingPacketsPerNamespace"
#: A Pipeline may have several underlayPrefixes.
SEVERAL_UNDERLAY_PREFIXES: Feature = "SeveralUnderlayPrefixes"
#: Uplinks and Interfaces may have one of several functions of a resource, by number.
FUNCTIONS_OF_RESOURCE: Feature = "FunctionsOfResource"
#: Functions are used once the node agent has put them into their VLANs.
VLANS_OF_FUNCTIONS: Feature = "VLANsOfFunctions"
#: Networks may have a DSCP of their own in the underlay.
DSCP_OF_NETWORKS: Feature = "DSCPOfNetworks"
#: What agents of the release before do not understand: they are sent none of it.
NEW_FEATURES = (
    SEVERAL_UNDERLAY_PREFIXES,
    FUNCTIONS_OF_RESOURCE,
    VLANS_OF_FUNCTIONS,
    DSCP_OF_NETWORKS,
)
#: What an agent understands alone: its engine need not know of it.
AGENT_FEATURES = (FUNCTIONS_OF_RESOURCE, VLANS_OF_FUNCTIONS)
#: All that an agent of this release understands; an operator of the release before asks for more.
FEATURES = (UNDERLAY_SOURCE_CHECK, WAITING_PACKETS_PER_NAMESPACE, *NEW_FEATURES)


#: Which of the functions of a resource that a pod has.
FunctionNumber = Annotated[int, Field(ge=0, le=65535)]
#: Which time that an Interface has a function in a VLAN: another each time, whoever has it.
Grant = Annotated[int, Field(ge=1, le=(1 << 53) - 1)]
#: Most functions of a pod that are used by grants.
GRANTED_FUNCTIONS = NODE_INTERFACES


def config_name(pipeline: str, node: str) -> str:
    """Name of the DataplaneConfig: `<pipeline>.<node>`, shortened with a hash above 253."""
    name = f"{pipeline}.{node}"
    if len(name) <= 253:
        return name
    return f"{name[:240].rstrip('.-')}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"


class CompiledUplink(ApiModel):
    """A port to the underlay on this node."""

    name: Name
    """Name of the uplink."""
    attachment: Attachment
    """Its device on this node."""
    function: FunctionNumber | None = None
    """Of the pod's functions of sriov.resourceName, in order of PCI address, this one counted from
    the first: 0, 1 and so on. Interfaces count from the last, so that neither moves when there are
    more of the other. Absent: no such attachment."""
    mtu: int = Field(ge=1320, le=9216)
    """Largest IP packet of the underlay in bytes."""
    addresses: tuple[UnderlayAddress, ...] = Field(max_length=4)
    """The node's own addresses on the link."""
    on_link_prefixes: tuple[UnderlayPrefix, ...] = Field(max_length=16)
    """Destinations that are neighbours on the link."""
    gateway: LinkAddress | None = None
    """Next hop of everything else."""
    neighbors: tuple[UplinkNeighbor, ...] = Field(default=(), max_length=64)
    """Next hops that are not asked for their MAC address."""
    weight: int = Field(default=1, ge=1, le=100)
    """Its share of the destinations to which several uplinks lead."""


class VxlanEndpoint(ApiModel):
    """An UnderlayEndpoint that is reached by VXLAN."""

    address: UnderlayAddress
    """Its address in the underlay."""
    vni: Vni
    """Identifier that packets have, there and back."""
    mac_address: MacAddress
    """Destination of the inner Ethernet header."""


class CompiledNetwork(ApiModel):
    """A VirtualNetwork that is present on this node."""

    namespace: Name
    """Namespace of the VirtualNetwork."""
    name: Name
    """Name of the VirtualNetwork."""
    vni: Vni
    """Identifier in the underlay."""
    mtu: int = Field(ge=1280, le=9216)
    """Largest IP packet inside the network in bytes."""
    gateways: tuple[TenantAddress, ...] = Field(max_length=32)
    """Gateway addresses, one for each subnet."""
    subnets: tuple[TenantPrefix, ...] = Field(default=(), max_length=32)
    """Prefixes of its subnets, in the order of gateways."""
    route_slices: tuple[Subdomain, ...] = Field(max_length=4096)
    """Names of the Slices that hold its routes."""
    endpoints: tuple[UnderlayAddress, ...] = Field(default=(), max_length=NETWORK_ENDPOINTS)
    """Addresses of the UnderlayEndpoints that may send into it, at most 64 with vxlanEndpoints."""
    vxlan_endpoints: tuple[VxlanEndpoint, ...] = Field(default=(), max_length=NETWORK_ENDPOINTS)
    """The same of those that are reached by VXLAN."""
    dscp: Dscp | None = None
    """DSCP of its packets in the underlay. Absent: each packet's own."""


class CompiledInterface(ApiModel):
    """An Interface of this node."""

    namespace: Name
    """Namespace of the Interface."""
    name: Name
    """Name of the Interface."""
    network: NetworkKey
    """namespace/name of its network."""
    vni: Vni
    """Identifier of its network."""
    attachment: Attachment
    """How it meets the dataplane."""
    function: FunctionNumber | None = None
    """Of the pod's functions of sriov.resourceName, in order of PCI address, this one counted from
    the last: 0 is the last, 1 the one before. Uplinks count from the first. Absent: no such
    attachment."""
    grant: Grant | None = None
    """The function is used once the NodeState says that it is in its VLAN, or in none, for this
    grant. Absent: at once."""
    endpoint_vlans: tuple[VlanRange, ...] = Field(default=(), alias="endpointVLANs", max_length=64)
    """With an sriov.endpoint: VLANs of which both functions are alone in one."""
    addresses: tuple[TenantAddress, ...] = Field(max_length=32)
    """Its addresses, given or allocated."""
    prefixes: tuple[TenantPrefix, ...] = Field(default=(), max_length=64)
    """Prefixes routed to it besides its addresses."""
    gateways: tuple[GatewayAddress, ...] = Field(default=(), max_length=INTERFACE_GATEWAYS)
    """Gateways to answer for: those of its network in the families that it has, at most 15."""
    mac_address: MacAddress | None = None
    """MAC address of the endpoint. Absent: learned."""
    underlay_address: UnderlayAddress
    """Its address in the underlay."""
    former_underlay_addresses: tuple[UnderlayAddress, ...] = Field(default=(), max_length=4)
    """Addresses that it had before and that some nodes may still send to, at most 4."""
    source_check: SourceCheck
    """Whether its packets must have a source address of its own."""
    mtu: int = Field(ge=1280, le=9216)
    """Largest IP packet in bytes."""
    queues: int | None = Field(default=None, ge=1, le=64)
    """Receive and transmit queues. Absent: chosen by the dataplane."""


class DataplaneConfigSpec(ApiModel):
    """All that is local to one Pipeline on one node."""

    pipeline_name: Name
    """The Pipeline."""
    node_name: NodeName
    """The node."""
    workers: Workers
    """The threads that forward."""
    hugepages: Hugepages | None = None
    """Hugepages of the pod. Absent: none."""
    underlay_prefix: UnderlayPrefix
    """The node's /64 of the underlay."""
    underlay_address: UnderlayAddress
    """The node's own address: ::1 in its /64."""
    pipeline_prefixes: tuple[UnderlayPrefix, ...] = Field(default=(), max_length=UNDERLAY_PREFIXES)
    """The underlayPrefixes of the Pipeline. Packets to a destination in one of them carry the
    destination's VNI in their source."""
    underlay_source_check: SourceCheck = SourceCheck.DISABLED
    """Enabled drops what an uplink delivers unless its source is in a prefix of the Pipeline and
    carries the VNI of the destination, or is one of the network's endpoints."""
    waiting_packets_per_namespace: WaitingPackets | None = None
    """Most packets of one namespace that wait for MAC addresses at a time. Absent: 256."""
    uplinks: tuple[CompiledUplink, ...] = Field(default=(), max_length=4)
    """Ports to the underlay."""
    slices: tuple[Subdomain, ...] = Field(default=(), max_length=NODE_SLICES)
    """Names of the Slices that hold its networks and Interfaces."""
    networks: tuple[CompiledNetwork, ...] = Field(default=(), max_length=NODE_NETWORKS)
    """Networks with an Interface here, and those that these lead to through networkRef; those that
    are in none of its Slices."""
    interfaces: tuple[CompiledInterface, ...] = Field(default=(), max_length=NODE_INTERFACES)
    """The Interfaces of this node; those that are in none of its Slices."""


class InterfaceState(StatusModel):
    """What the dataplane says of one Interface."""

    namespace: Name
    """Namespace of the Interface."""
    name: Name
    """Name of the Interface."""
    ready: bool
    """Whether it forwards."""
    reason: str = Field(default="", max_length=1024)
    """CamelCase reason."""
    message: str = Field(default="", max_length=4096)
    """What happened, for people."""
    mac_address: MacAddress | None = None
    """MAC address of the endpoint, given or learned."""


class FunctionClaim(StatusModel):
    """A function that an Interface is to have, or that the engine still has for it."""

    pci_address: PciAddress
    """PCI address of the function."""
    interface: InterfaceKey
    """namespace/name of the Interface."""
    grant: Grant
    """As in the Interface."""
    pod: PodKey
    """namespace/name of the pod that has it."""


class NetworkState(StatusModel):
    """What the dataplane says of one VirtualNetwork."""

    namespace: Name
    """Namespace of the VirtualNetwork."""
    name: Name
    """Name of the VirtualNetwork."""
    digest: str = Field(default="", max_length=64)
    """Digest of the routes that the engine has of it. Empty: none yet."""
    reason: str = Field(default="", max_length=1024)
    """CamelCase reason why something of it is left out; empty when all of it is in the engine."""
    message: str = Field(default="", max_length=4096)
    """What is left out, for people."""


class WorkerState(StatusModel):
    """Where one worker runs."""

    worker: int = Field(ge=0, le=127)
    """Number of the worker, from 0."""
    lcore: int = Field(ge=0, le=1023)
    """DPDK lcore."""
    cpu: int = Field(ge=0, le=8191)
    """CPU of the node."""


class DataplaneConfigStatus(ObjectStatus):
    """What the agent reports."""

    engine_version: str | None = Field(default=None, max_length=64)
    """Version of the engine."""
    dpdk_version: str | None = Field(default=None, max_length=64)
    """Version of DPDK that the engine runs on."""
    workers: tuple[WorkerState, ...] = Field(default=(), max_length=128)
    """Where the workers run."""
    features: tuple[Feature, ...] = Field(
        default=(), max_length=64, json_schema_extra={"x-kubernetes-list-type": "set"}
    )
    """What agent and engine understand beyond what the first release did, by name. The operator
    uses nothing else on this node."""
    interfaces: tuple[InterfaceState, ...] = Field(default=(), max_length=NODE_INTERFACES)
    """State of every Interface of the node that is in none of its Slices."""
    functions: tuple[FunctionClaim, ...] | None = Field(
        default=None, max_length=GRANTED_FUNCTIONS, json_schema_extra=list_map("pciAddress")
    )
    """Functions of all Interfaces with a grant, of those that are gone as long as the engine may
    have them open. Absent: not known yet, and nothing of it has changed."""
    networks: tuple[NetworkState, ...] = Field(default=(), max_length=NODE_NETWORKS)
    """State of every network that is present on the node, and in none of its Slices."""


class DataplaneConfig(CompiledResource):
    """Compiled: what one Pipeline's dataplane does on one node. Not edited by people."""

    PLURAL = "dataplaneconfigs"
    SHORT_NAME = "dpc"
    COLUMNS = (
        column("Pipeline", ".spec.pipelineName"),
        column("Node", ".spec.nodeName"),
    )

    spec: DataplaneConfigSpec
    status: DataplaneConfigStatus | None = None
