# SPDX-License-Identifier: Apache-2.0
"""NodeState: what a node's cards are to be, and what its agent finds of the node."""

from enum import StrEnum

from pydantic import Field

from .attachment import PciAddress, Vlan
from .base import ApiModel, CompiledResource, ObjectStatus, StatusModel, column, list_map
from .dataplane_config import Grant
from .device import VlanRange
from .device_policy import DeviceIntent
from .interface import EndpointFunction
from .node_facts import ReportedFacts
from .pipeline import Hugepages
from .types import InterfaceKey, MacAddress, Name, NetworkKey, NodeName, PodKey, ResourceName


class Subject(StrEnum):
    """What checks are about: the conditions of a NodeState, besides Ready."""

    HUGEPAGES = "HugepagesReady"
    IOMMU = "IOMMUReady"
    CPU_MANAGER = "CPUManagerReady"
    TOPOLOGY = "TopologyReady"
    DRIVERS = "DriversReady"
    DEVICES = "DevicesReady"
    UPLINK = "UplinkSafe"


#: Most DevicePolicies, and Pipelines, that select one node.
NODE_POLICIES = NODE_DATAPLANES = 64


class NodePolicy(DeviceIntent):
    """A DevicePolicy that selects this node."""

    name: Name
    """The DevicePolicy."""
    generation: int = Field(default=0, ge=0)
    """Its metadata.generation."""


class NodeDataplane(ApiModel):
    """What a Pipeline wants of this node: the checks go by it."""

    pipeline: Name
    """The Pipeline."""
    workers: int = Field(ge=1, le=128)
    """Threads that forward."""
    share_control_core: bool = False
    """Whether the control thread runs on a worker's CPU. Default false."""
    hugepages: Hugepages | None = None
    """Hugepages of its pod. Absent: none."""
    mtu: int = Field(ge=1280, le=9216)
    """Largest IP packet of the underlay in bytes."""
    resource_names: tuple[ResourceName, ...] = Field(default=(), max_length=68)
    """Extended resources that its pod takes VFs from."""
    vlans: tuple[VlanRange, ...] = Field(default=(), max_length=4096)
    """VLANs of the fabric that its VFs may be in."""


#: Most functions that Interfaces have on one node by grants.
NODE_FUNCTIONS = 1024


class NodePeer(ApiModel):
    """An endpoint on the node: its function is of the same resource and card, and in the VLAN."""

    pod: PodKey | None = None
    """namespace/name of the pod that has it. Absent: no pod has it, and none gets it."""
    pci_address: PciAddress | None = None
    """The one that it had before, and has again where that is free. Absent: any."""
    mac_address: MacAddress | None = None
    """Its MAC address. Absent: its own."""
    vlans: tuple[VlanRange, ...] = Field(default=(), max_length=64)
    """VLANs of which it is in one that nothing else of the card is in, nor is to be."""


class NodeFunction(ApiModel):
    """A VF that an Interface has: the PF puts it into a VLAN."""

    pci_address: PciAddress
    """The VF."""
    pipeline: Name
    """The Pipeline whose pod has it."""
    interface: InterfaceKey
    """namespace/name of the Interface."""
    network: NetworkKey
    """namespace/name of the Interface's network."""
    grant: Grant
    """Which time that it has it."""
    pod: PodKey
    """namespace/name of the pod that has the VF: it is for nothing else."""
    vlan: Vlan | None = None
    """The VLAN. Absent: that of its DevicePolicy, or none; with a peer one of the peer's."""
    peer: NodePeer | None = None
    """What on the node is behind it. Absent: the wire."""


class NodeStateSpec(ApiModel):
    """What the operator wants of the node."""

    node_name: NodeName
    """The node."""
    policies: tuple[NodePolicy, ...] = Field(
        default=(), max_length=NODE_POLICIES, json_schema_extra=list_map("name")
    )
    """The DevicePolicies that select it, by name, at most 64."""
    dataplanes: tuple[NodeDataplane, ...] = Field(
        default=(), max_length=NODE_DATAPLANES, json_schema_extra=list_map("pipeline")
    )
    """The Pipelines that select it, by name, at most 64."""
    functions: tuple[NodeFunction, ...] = Field(
        default=(), max_length=NODE_FUNCTIONS, json_schema_extra=list_map("pciAddress")
    )
    """VFs that Interfaces have by grants, by PCI address."""


class FunctionState(StatusModel):
    """A VF that an Interface has, or had."""

    pci_address: PciAddress
    """The VF."""
    interface: InterfaceKey | None = None
    """namespace/name of the Interface. Absent: none has it, and it is put back."""
    grant: Grant | None = None
    """Which time that the Interface has it."""
    vlan: int | None = Field(default=None, ge=0, le=4094)
    """VLAN that the PF says it is in; 0: none. Absent: not known."""
    peer: EndpointFunction | None = None
    """The endpoint's function, once the PF says that it is where it is to be."""
    ready: bool
    """Whether the PF says that it, and its peer, are where they are to be, and checks what they
    send."""
    reason: str = Field(default="", max_length=1024)
    """CamelCase reason why not."""
    message: str = Field(default="", max_length=4096)
    """What is in the way, and what to do about it, for people."""


class PolicyState(StatusModel):
    """What came of a DevicePolicy on this node."""

    name: Name
    """The DevicePolicy."""
    observed_generation: int = Field(default=0, ge=0)
    """Its metadata.generation that this is of."""
    ready: bool
    """Whether all is as it wants it."""
    pci_addresses: tuple[PciAddress, ...] = Field(default=(), max_length=64)
    """Physical functions that it selects, at most 64."""
    vfs: int = Field(default=0, ge=0, le=65535)
    """Its VFs that are as it wants them."""
    reason: str = Field(default="", max_length=1024)
    """CamelCase reason why not, such as VFsInUse, NodeUplink or PolicyConflict."""
    message: str = Field(default="", max_length=4096)
    """What is in the way, and what to do about it, for people."""


class ResourceState(StatusModel):
    """An extended resource that the node's agent gives out."""

    name: ResourceName
    """The resource."""
    devices: int = Field(ge=0, le=65535)
    """VFs that it has."""
    healthy: int = Field(ge=0, le=65535)
    """Those that may be given out."""


class Verdict(StrEnum):
    """How a check ended."""

    PASS = "Pass"  # noqa: S105  # no password
    WARN = "Warn"
    """It works, slower or less safely than it could."""
    FAIL = "Fail"
    """It does not work."""
    SKIP = "Skip"
    """There is nothing to check, or it could not be looked at."""


class NodeCheck(StatusModel):
    """One thing that was looked at."""

    subject: Subject
    """Condition that it is part of."""
    name: str = Field(max_length=63)
    """What was looked at."""
    verdict: Verdict
    """Pass, Warn, Fail or Skip."""
    message: str = Field(max_length=4096)
    """What was found, for people."""
    remedy: str = Field(default="", max_length=4096)
    """The command or setting that makes it pass; empty where nothing is to be done."""


class NodeStateStatus(ReportedFacts, ObjectStatus):
    """What the node's agent found."""

    policies: tuple[PolicyState, ...] = Field(
        default=(), max_length=NODE_POLICIES, json_schema_extra=list_map("name")
    )
    """What came of each DevicePolicy."""
    resources: tuple[ResourceState, ...] = Field(
        default=(), max_length=64, json_schema_extra=list_map("name")
    )
    """Extended resources that the agent gives out."""
    functions: tuple[FunctionState, ...] = Field(
        default=(), max_length=NODE_FUNCTIONS, json_schema_extra=list_map("pciAddress")
    )
    """What came of the functions of spec, and of those that no Interface has any more."""
    boot_id: str = Field(default="", alias="bootID", max_length=64)
    """Boot of the node that this was found in: VLANs of an earlier one are gone."""
    checks: tuple[NodeCheck, ...] = Field(default=(), max_length=128)
    """Whether the node is right for DPDK, a check each; the conditions are their sum."""


class NodeState(CompiledResource):
    """A node, as far as DPDK cares: spec by the operator, status by that node's agent alone."""

    PLURAL = "nodestates"
    SHORT_NAME = "nds"
    NAMESPACED = False
    COLUMNS = (
        column("Hugepages", ".status.conditions[?(@.type=='HugepagesReady')].status"),
        column("IOMMU", ".status.conditions[?(@.type=='IOMMUReady')].status"),
        column("CPUs", ".status.conditions[?(@.type=='CPUManagerReady')].status"),
        column("Devices", ".status.conditions[?(@.type=='DevicesReady')].status"),
        column("Uplink", ".status.conditions[?(@.type=='UplinkSafe')].status", wide=True),
    )

    spec: NodeStateSpec
    status: NodeStateStatus | None = None
