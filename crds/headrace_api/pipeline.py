# SPDX-License-Identifier: Apache-2.0
"""Pipeline: which dataplane runs, on which nodes, over which uplinks."""

import ipaddress
from collections import Counter
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from .attachment import MEMBERS, Attachment, AttachmentType
from .base import (
    UNIQUE,
    ApiModel,
    ObjectStatus,
    Resource,
    StatusModel,
    cel,
    column,
    field_error,
    list_map,
    refuse_duplicates,
)
from .buffers import HOLDING, buffers, largest_mtu, memory_mebibytes
from .device import Device, vlans_of
from .selector import LabelKey, LabelSelector, LabelValue
from .sockets import SOCKET_NAMES
from .types import (
    LinkAddress,
    MacAddress,
    Name,
    NodeName,
    NodePool,
    UnderlayAddress,
    UnderlayPrefix,
)

INT32 = 0x7FFFFFFF
#: Most underlayPrefixes of a Pipeline; the engine's limit.
UNDERLAY_PREFIXES = 8


class IdlePolicy(StrEnum):
    """What a worker does when no packet comes."""

    POLL = "Poll"
    ADAPTIVE = "Adaptive"


class Workers(ApiModel):
    """The threads that forward, one CPU each."""

    count: int = Field(default=1, ge=1, le=64)
    """Workers on each node, 1 to 64. Default 1."""
    idle_policy: IdlePolicy = IdlePolicy.ADAPTIVE
    """Poll never sleeps; Adaptive sleeps for microseconds when idle. Default Adaptive."""
    share_control_core: bool = False
    """Run the control thread on a worker's CPU: for nodes with one CPU to spare. Default false."""
    burst: int = Field(default=64, ge=1, le=64)
    """Most packets taken from a queue at once, 1 to 64. Default 64."""


class HugepageSize(StrEnum):
    """Size of a hugepage."""

    SIZE_2MI = "2Mi"
    SIZE_1GI = "1Gi"


class Hugepages(ApiModel):
    """Hugepages of each dataplane pod."""

    size: HugepageSize
    """2Mi or 1Gi."""
    amount: str | None = Field(default=None, max_length=16, pattern=r"^[1-9][0-9]*(Mi|Gi)$")
    """Memory in hugepages, e.g. 512Mi or 2Gi; a multiple of size. Default of a Pipeline: what the
    packet buffers of its workers, uplinks and functions need."""

    @property
    def mebibytes(self) -> int:
        """The amount in MiB; 0 when it is not given."""
        if self.amount is None:
            return 0
        return int(self.amount[:-2]) * (1024 if self.amount.endswith("Gi") else 1)

    @property
    def _page(self) -> int:
        return 2 if self.size is HugepageSize.SIZE_2MI else 1024

    def at_least(self, mebibytes: int) -> "Hugepages":
        """As many pages as so much memory takes, unless the amount is given."""
        if self.amount is not None:
            return self
        pages = -(-mebibytes // self._page)
        return self.model_copy(update={"amount": f"{pages * self._page}Mi"})

    @model_validator(mode="after")
    def _multiple(self) -> Self:
        if self.mebibytes % self._page:
            raise field_error("amount", f"a multiple of {self.size}")
        return self


#: Name of the class of nodes that have none of nodeClasses.
DEFAULT_CLASS = "default"
#: Ordinary memory in Mi or Gi (a Kubernetes quantity).
Memory = Annotated[str, Field(max_length=16, pattern=r"^[1-9][0-9]*(Mi|Gi)$")]


class NodeClass(ApiModel):
    """Nodes of another size: what is given here replaces what the Pipeline says."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            (f"self.value != '{DEFAULT_CLASS}'", f"{DEFAULT_CLASS} is the class of all other nodes")
        )
    )

    value: LabelValue = Field(min_length=1)
    """Value of the label nodeClassLabel on these nodes; "default" stands for all others."""
    workers: Workers | None = None
    """The threads that forward. Default: those of the Pipeline."""
    hugepages: Hugepages | None = None
    """Hugepages of each dataplane pod. Default: those of the Pipeline."""
    memory: Memory | None = None
    """Ordinary memory of each dataplane pod. Default: that of the Pipeline."""

    @model_validator(mode="after")
    def _not_default(self) -> Self:
        if self.value == DEFAULT_CLASS:
            raise field_error("value", f"{DEFAULT_CLASS} is the class of all other nodes")
        return self


class TolerationOperator(StrEnum):
    """How a toleration compares."""

    EXISTS = "Exists"
    EQUAL = "Equal"


class TaintEffect(StrEnum):
    """What a taint does."""

    NO_SCHEDULE = "NoSchedule"
    PREFER_NO_SCHEDULE = "PreferNoSchedule"
    NO_EXECUTE = "NoExecute"


class Toleration(ApiModel):
    """A toleration of the dataplane pods (core/v1)."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            ("has(self.key) || self.operator == 'Exists'", "without key, operator must be Exists"),
            ("!has(self.value) || self.operator == 'Equal'", "value needs operator Equal"),
            (
                "!has(self.tolerationSeconds) || has(self.effect) && self.effect == 'NoExecute'",
                "tolerationSeconds needs effect NoExecute",
            ),
        )
    )

    key: LabelKey | None = None
    """Key of the taint. Default: every key, with operator Exists."""
    operator: TolerationOperator = TolerationOperator.EQUAL
    """Exists or Equal. Default Equal."""
    value: LabelValue | None = None
    """Value of the taint, with operator Equal."""
    effect: TaintEffect | None = None
    """Effect of the taint. Default: every effect."""
    toleration_seconds: int | None = Field(default=None, ge=0, le=2147483647)
    """How long a NoExecute taint is tolerated, in seconds. Default: for ever."""

    @model_validator(mode="after")
    def _as_core(self) -> Self:
        if self.key is None and self.operator is not TolerationOperator.EXISTS:
            raise field_error("operator", "without key, operator must be Exists")
        if self.value is not None and self.operator is not TolerationOperator.EQUAL:
            raise field_error("value", "value needs operator Equal")
        if self.toleration_seconds is not None and self.effect is not TaintEffect.NO_EXECUTE:
            raise field_error("tolerationSeconds", "tolerationSeconds needs effect NoExecute")
        return self


class UpdateType(StrEnum):
    """How dataplane pods are replaced."""

    ROLLING_UPDATE = "RollingUpdate"
    ON_DELETE = "OnDelete"


class UpdateStrategy(ApiModel):
    """How dataplane pods are replaced when the Pipeline changes."""

    type: UpdateType = UpdateType.ROLLING_UPDATE
    """RollingUpdate replaces them in turn, OnDelete when they are deleted. Default
    RollingUpdate."""
    max_unavailable: int = Field(default=1, ge=1, le=1000)
    """Nodes that are without a dataplane at once, 1 to 1000. Default 1."""


def _of_uplink(attachment: Attachment) -> Attachment:
    member = MEMBERS.get(attachment.type, "")
    if attachment.vlan is not None:
        raise field_error(f"{member}.vlan", "not allowed: uplinks are untagged")
    if attachment.endpoint is not None:
        raise field_error(f"{member}.endpoint", "not allowed: behind an uplink is the wire")
    if attachment.type in SOCKET_NAMES and attachment.socket_path is None:
        raise field_error(f"{member}.socketPath", "required of an uplink")
    return attachment


#: Uplinks have no directory for a socket: the path must be given. Nor are they in a VLAN.
UplinkAttachment = Annotated[Attachment, AfterValidator(_of_uplink)]
_UPLINK_RULES = (
    *(
        (
            f"!has(self.attachment.{member}) || has(self.attachment.{member}.socketPath)",
            f"{member}.socketPath is required of an uplink",
        )
        for member in (MEMBERS[kind] for kind in SOCKET_NAMES)
    ),
    (
        "!has(self.attachment.sriov) || !has(self.attachment.sriov.vlan)",
        "sriov.vlan is forbidden of an uplink",
    ),
    (
        "!has(self.attachment.sriov) || !has(self.attachment.sriov.endpoint)",
        "sriov.endpoint is forbidden of an uplink",
    ),
)


class NodeOverride(ApiModel):
    """The uplink's device on one node, where it differs."""

    model_config = ConfigDict(json_schema_extra=cel(*_UPLINK_RULES))

    node_name: NodeName
    """The node."""
    attachment: UplinkAttachment
    """The device on that node. A resourceName must be the uplink's own: the pods of all nodes ask
    for the same."""


class UplinkNeighbor(ApiModel):
    """A next hop whose MAC address is given, for an underlay without neighbour discovery."""

    address: LinkAddress
    """Its IPv6 address; may be link-local."""
    mac_address: MacAddress
    """Its MAC address."""


_SAME_RESOURCE = (
    "!has(self.nodeOverrides) || self.nodeOverrides.all(each, !has(each.attachment.sriov) ||"
    " !has(each.attachment.sriov.resourceName) || (has(self.attachment.sriov) &&"
    " has(self.attachment.sriov.resourceName) &&"
    " each.attachment.sriov.resourceName == self.attachment.sriov.resourceName))",
    "sriov.resourceName of nodeOverrides must be that of the uplink",
)


class Uplink(ApiModel):
    """A port to the underlay."""

    model_config = ConfigDict(json_schema_extra=cel(*_UPLINK_RULES, _SAME_RESOURCE))

    name: Name = Field(max_length=32)
    """Name of the uplink, unique in the Pipeline, at most 32 characters."""
    attachment: UplinkAttachment
    """The device on every selected node."""
    mtu: int = Field(default=1500, ge=1320, le=9216)
    """Largest IP packet of the underlay in bytes, 1320 to 9216. Default 1500."""
    on_link_prefixes: tuple[UnderlayPrefix, ...] | None = Field(
        default=None, max_length=16, json_schema_extra=UNIQUE
    )
    """Destinations that are neighbours on the link (RFC 4861), at most 16 prefixes. Default:
    underlayPrefixes when there is no gateway, none otherwise."""
    gateway: LinkAddress | None = None
    """Next hop of everything that is not on the link; may be link-local."""
    neighbors: tuple[UplinkNeighbor, ...] = Field(
        default=(),
        max_length=64,
        json_schema_extra=list_map("address"),
    )
    """Next hops that are not asked for their MAC address, at most 64."""
    weight: int = Field(default=1, ge=1, le=100)
    """Its share of the destinations to which several uplinks lead, 1 to 100. Default 1."""
    node_overrides: tuple[NodeOverride, ...] = Field(
        default=(),
        max_length=1024,
        json_schema_extra=list_map("nodeName"),
    )
    """Devices of nodes where it is another one, at most 1024."""

    @model_validator(mode="after")
    def _one_each(self) -> Self:
        names = [override.node_name for override in self.node_overrides]
        for index, name in enumerate(names):
            if name in names[:index]:
                raise field_error(f"nodeOverrides[{index}].nodeName", f"{name} is listed twice")
        own = self.attachment.resource_name
        for index, override in enumerate(self.node_overrides):
            if override.attachment.resource_name not in (None, own):
                raise field_error(
                    f"nodeOverrides[{index}].attachment.sriov.resourceName",
                    f"must be the uplink's own ({own or 'it has none'}), as the pods of all nodes"
                    " ask for the same: make that resource on the node, too, or give pciAddress",
                )
        refuse_duplicates("onLinkPrefixes", self.on_link_prefixes or ())
        addresses = [neighbor.address for neighbor in self.neighbors]
        for index, address in enumerate(addresses):
            if address in addresses[:index]:
                raise field_error(f"neighbors[{index}].address", f"{address} is listed twice")
        return self


#: The engine's limit.
WaitingPackets = Annotated[int, Field(ge=1, le=65_536)]


class Limits(ApiModel):
    """What one namespace may have: what a ResourceQuota cannot count."""

    routes_per_namespace: int | None = Field(default=None, ge=1, le=10_000_000)
    """Most routes of a namespace, in all its networks together: those of its VirtualNetworks, and
    the addresses and prefixes of its Interfaces. Absent: any number. What is there stays when the
    limit is lowered."""
    waiting_packets_per_namespace: WaitingPackets | None = None
    """Most packets of a namespace that each node has wait while it asks who has a neighbour's
    address (ARP, neighbour discovery), in all its networks together. Absent: 256."""


#: Two prefixes overlap when one has the other's first address.
_APART = cel(
    (
        "self.all(one, self.exists_one(other, isCIDR(one) && isCIDR(other) &&"
        " (cidr(one).containsIP(cidr(other).ip()) || cidr(other).containsIP(cidr(one).ip()))))",
        "prefixes may not overlap",
    )
)


class PipelineSpec(ApiModel):
    """What runs and where."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            (
                "!has(self.nodeClasses) || has(self.nodeClassLabel)",
                "nodeClassLabel is required with nodeClasses",
            ),
            (
                "oldSelf.underlayPrefixes.all(each, each in self.underlayPrefixes)",
                "underlayPrefixes may grow, and loses none",
            ),
            (
                "!has(self.uplinks) || self.uplinks.all(one, (has(one.attachment.sriov) &&"
                " has(one.attachment.sriov.resourceName)) || self.uplinks.exists_one(other,"
                " other.attachment == one.attachment))",
                "each uplink has a device of its own",
            ),
        )
    )

    node_selector: LabelSelector | None = None
    """The nodes that run the dataplane, by their labels. Absent: none, but with `headrace run` all;
    empty: all."""
    tolerations: tuple[Toleration, ...] = Field(default=(), max_length=64)
    """Tolerations of the dataplane pods, at most 64."""
    image: str | None = Field(default=None, min_length=1, max_length=1024)
    """Container image of the dataplane. Default: the operator's release."""
    update_strategy: UpdateStrategy = UpdateStrategy()
    """How dataplane pods are replaced."""
    workers: Workers = Workers()
    """The threads that forward."""
    hugepages: Hugepages | None = None
    """Hugepages of each dataplane pod. Default: none, ordinary memory."""
    memory: Memory = "1Gi"
    """Ordinary memory of each dataplane pod, besides hugepages, e.g. 512Mi: tables, the agent, and
    packet buffers where there are no hugepages. Default 1Gi."""
    node_class_label: LabelKey | None = None
    """Label whose value tells the classes of nodes apart, such as node.kubernetes.io/instance-type.
    Required with nodeClasses."""
    node_classes: tuple[NodeClass, ...] = Field(
        default=(),
        max_length=32,
        json_schema_extra=list_map("value"),
    )
    """Classes of nodes that differ from the others, at most 32."""
    allowed_namespaces: LabelSelector | None = None
    """Namespaces whose Interfaces may name the Pipeline, by their labels. Absent: none, but with
    `headrace run` all; empty: all."""
    devices: tuple[Device, ...] | None = Field(
        default=None,
        max_length=64,
        json_schema_extra=list_map("name"),
    )
    """All that Interfaces may name of a node, at most 64 entries. The dataplane pod gets the
    privileges that their types and the uplinks need, and no more. Absent: an entry of type Pod
    where the chart's node agent is enabled; empty: nothing. Uplinks need no entry."""
    limits: Limits = Limits()
    """What one namespace may have."""
    underlay_prefixes: tuple[NodePool, ...] = Field(
        min_length=1, max_length=UNDERLAY_PREFIXES, json_schema_extra=_APART
    )
    """1 to 8 IPv6 prefixes of length 8 to 64, e.g. fd00:1::/48: every node gets a /64 of the first
    that has one free. The first /64 of a longer range stays free for the fabric's own addresses.
    They may not overlap. More may be added later, and none is taken away."""
    uplinks: tuple[Uplink, ...] = Field(
        default=(),
        max_length=4,
        json_schema_extra=list_map("name"),
    )
    """Ports to the underlay, at most 4. Without any, the nodes are islands."""
    stages: tuple[Name, ...] = Field(default=(), max_length=0)
    """Reserved. Every Pipeline is the virtual-network router."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        names: set[str] = set()
        devices: set[str] = set()
        for index, uplink in enumerate(self.uplinks):
            if uplink.name in names:
                raise field_error(f"uplinks[{index}].name", f"{uplink.name} is used twice")
            device = uplink.attachment.device()
            if device in devices:
                raise field_error(
                    f"uplinks[{index}].attachment", f"{device} serves another uplink already"
                )
            names.add(uplink.name)
            if device:
                devices.add(device)
        pools = [ipaddress.ip_network(each) for each in self.underlay_prefixes]
        for index, pool in enumerate(pools):
            for other, earlier in enumerate(pools[:index]):
                if pool.overlaps(earlier):
                    message = f"{pool} overlaps {earlier} of underlayPrefixes[{other}]"
                    raise field_error(f"underlayPrefixes[{index}]", message)
        entries = [device.name for device in self.devices or ()]
        for index, name in enumerate(entries):
            if name in entries[:index]:
                raise field_error(f"devices[{index}].name", f"{name} is used twice")
        fabric = {
            vlan: each.name for each in self.devices or () for vlan in vlans_of(each.vlans or ())
        }
        for index, entry in enumerate(self.devices or ()):
            if both := sorted(vlans_of(entry.endpoint_vlans or ()) & fabric.keys()):
                message = f"VLAN {both[0]} is one of the fabric by vlans of entry {fabric[both[0]]}"
                raise field_error(f"devices[{index}].endpointVLANs", message)
        if self.node_classes and self.node_class_label is None:
            raise field_error("nodeClassLabel", "required with nodeClasses")
        values = [each.value for each in self.node_classes]
        for index, value in enumerate(values):
            if value in values[:index]:
                raise field_error(f"nodeClasses[{index}].value", f"{value} is listed twice")
        return self

    def admits(self, labels: Mapping[str, str]) -> bool:
        """Whether Interfaces in a namespace with these labels may name the Pipeline."""
        return self.allowed_namespaces is not None and self.allowed_namespaces.matches(labels)

    def selects(self, labels: Mapping[str, str]) -> bool:
        """Whether a node with these labels runs the dataplane."""
        return self.node_selector is not None and self.node_selector.matches(labels)

    def devices_for(self, kind: AttachmentType, labels: Mapping[str, str]) -> tuple[Device, ...]:
        """The entries of a type for a namespace with these labels."""
        return tuple(
            device for device in self.devices or () if device.type is kind and device.serves(labels)
        )

    def pools(self) -> dict[str, int]:
        """Extended resource -> functions that each pod has of it for Interfaces."""
        found: Counter[str] = Counter()
        for device in self.devices or ():
            if device.resource_name is not None:
                found[device.resource_name] += device.count or 0
        return found

    def in_vlans(self, resource: str) -> bool:
        """Whether functions of the resource may be in VLANs: any of its entries has some."""
        return any(
            device.tagged for device in self.devices or () if device.resource_name == resource
        )

    def functions(self) -> dict[str, int]:
        """Extended resource -> functions that each pod asks for, sorted: for uplinks and pools."""
        found = Counter(self.pools())
        for uplink in self.uplinks:
            if resource := uplink.attachment.resource_name:
                found[resource] += 1
        return dict(sorted(found.items()))

    def node_class(self, labels: Mapping[str, str]) -> NodeClass | None:
        """The class of a node with these labels; None: it has the Pipeline's own sizes."""
        value = labels.get(self.node_class_label) if self.node_class_label else None
        return next((each for each in self.node_classes if each.value == value), None)

    def sized(self, node_class: NodeClass | None) -> "PipelineSpec":
        """The spec as it is for the nodes of a class, with the amount of hugepages, if any."""
        given = {
            name: value
            for name in ("workers", "hugepages", "memory")
            if (value := getattr(node_class, name, None)) is not None
        }
        spec = self.model_copy(update=given)
        if spec.hugepages is None:
            return spec
        return spec.model_copy(
            update={"hugepages": spec.hugepages.at_least(spec.memory_mebibytes())}
        )

    def memory_mebibytes(self) -> int:
        """Return the memory that an engine's packet buffers and all beside them need, in MiB."""
        attachments = (
            [each.attachment, *(override.attachment for override in each.node_overrides)]
            for each in self.uplinks
        )
        uplinks = sum(any(each.type in HOLDING for each in of_one) for of_one in attachments)
        count = buffers(self.workers.count, uplinks, sum(self.pools().values()))
        return memory_mebibytes(count, largest_mtu(uplink.mtu for uplink in self.uplinks))


class PipelineNode(StatusModel):
    """A node that the Pipeline selects."""

    name: NodeName
    """The node."""
    underlay_prefix: UnderlayPrefix
    """The node's /64."""
    underlay_address: UnderlayAddress | None = None
    """The node's own address: what it sends from to UnderlayEndpoints."""
    state: Literal["AgentUnreachable", "NodeUnreachable", "NodeReturning"] | None = None
    """Absent: alive. AgentUnreachable: the agent is silent, packets flow. NodeUnreachable: agent
    and kubelet are silent, routes with other next hops do without those here. NodeReturning: it
    answers, and its next hops return once it has for a while."""


class PipelineStatus(ObjectStatus):
    """What the operator allocated and found."""

    nodes: tuple[PipelineNode, ...] = Field(
        default=(),
        max_length=5000,
        json_schema_extra=list_map("name"),
    )
    """The selected nodes and their underlay prefixes, at most 5000."""
    selected_nodes: int | None = Field(default=None, ge=0, le=INT32)
    """How many nodes the Pipeline selects."""
    ready_nodes: int | None = Field(default=None, ge=0, le=INT32)
    """How many of them forward as the Pipeline now is, by the word of each one's agent."""
    unreachable_nodes: int | None = Field(default=None, ge=0, le=INT32)
    """How many of them are not heard of: condition Programmed does not wait for these."""
    metrics_port: int | None = Field(default=None, ge=1, le=65535)
    """TCP port on which the dataplane pods serve metrics."""


class Pipeline(Resource):
    """A dataplane: what runs, on which nodes, with which cores, memory and uplinks."""

    PLURAL = "pipelines"
    SHORT_NAME = "pl"
    NAMESPACED = False
    COLUMNS = (
        column("Nodes", ".status.selectedNodes", "integer"),
        column("Ready nodes", ".status.readyNodes", "integer"),
        column("Unreachable", ".status.unreachableNodes", "integer", wide=True),
        column("Workers", ".spec.workers.count", "integer", wide=True),
        column("Underlay", ".spec.underlayPrefixes"),
    )

    spec: PipelineSpec
    status: PipelineStatus | None = None

    def with_defaults(self, **defaults: object) -> Self:
        """The Pipeline with these values for the fields of its spec that are absent."""
        absent = {
            name: value for name, value in defaults.items() if getattr(self.spec, name) is None
        }
        return self.with_spec(**absent)

    def with_spec(self, **values: object) -> Self:
        """The Pipeline with these fields of its spec."""
        return self.model_copy(update={"spec": self.spec.model_copy(update=values)})
