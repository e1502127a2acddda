# SPDX-License-Identifier: Apache-2.0
"""The objects, parsed once, and the indexes that say who depends on whom."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Generic, NamedTuple, TypeVar

from headrace_api import (
    NAMESPACE_NAME_LABEL,
    InterfaceSpec,
    PipelineSpec,
    UnderlayEndpointSpec,
    VirtualNetworkSpec,
)

from .claims import OwnerKind

Spec = TypeVar("Spec")


@dataclass(frozen=True, slots=True)
class Entry(Generic[Spec]):
    """All of an object that the compiler reads."""

    created: str
    """RFC 3339, or empty: text order is age order."""
    spec: Spec
    uid: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)


class Place(NamedTuple):
    """Where a pod is: all of it that the compiler reads."""

    node: str | None
    """None: it has not been scheduled yet."""
    completed: bool


@dataclass(slots=True)
class Store:
    """Objects by key (namespace/name, or name where cluster-scoped)."""

    networks: dict[str, Entry[VirtualNetworkSpec]] = field(default_factory=dict)
    interfaces: dict[str, Entry[InterfaceSpec]] = field(default_factory=dict)
    """With the pod's node as nodeName, where there is a pod."""
    pipelines: dict[str, Entry[PipelineSpec]] = field(default_factory=dict)
    nodes: dict[str, dict[str, str]] = field(default_factory=dict)
    """Name -> labels."""
    pods: dict[str, Place] = field(default_factory=dict)
    namespaces: dict[str, dict[str, str]] = field(default_factory=dict)
    """Name -> labels."""
    endpoints: dict[str, Entry[UnderlayEndpointSpec]] = field(default_factory=dict)

    by_network: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    by_pipeline: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    by_namespace: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    by_node: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    by_pod: dict[str, set[str]] = field(default_factory=dict)

    def put_interface(self, key: str, entry: Entry[InterfaceSpec] | None) -> bool:
        """Store the Interface where its pod is, or remove it (None); whether that is news."""
        if entry and entry.spec.attachment.pod:
            pod = self.pods.get(sibling(key, entry.spec.attachment.pod.name))
            node = pod.node if pod and not pod.completed else None
            entry = replace(entry, spec=entry.spec.model_copy(update={"node_name": node}))
        if self.interfaces.get(key) == entry:
            return False
        for spec, change in ((self.interface(key), set.discard), (entry and entry.spec, set.add)):
            if spec:
                change(self.by_network[network_key(key, spec)], key)
                change(self.by_pipeline[spec.pipeline_ref.name], key)
                change(self.by_namespace[namespace_of(key)], key)
                if spec.node_name:
                    change(self.by_node[spec.node_name], key)
                if spec.attachment.pod:
                    name = sibling(key, spec.attachment.pod.name)
                    change(self.by_pod.setdefault(name, set()), key)
                    if not self.by_pod[name]:
                        del self.by_pod[name]
        if entry:
            self.interfaces[key] = entry
        else:
            self.interfaces.pop(key, None)
        return True

    def interface(self, key: str) -> InterfaceSpec | None:
        """Spec of the Interface, if it exists."""
        entry = self.interfaces.get(key)
        return entry.spec if entry else None

    def network(self, key: str) -> VirtualNetworkSpec | None:
        """Spec of the VirtualNetwork, if it exists."""
        entry = self.networks.get(key)
        return entry.spec if entry else None

    def pipeline(self, name: str) -> PipelineSpec | None:
        """Spec of the Pipeline, if it exists."""
        entry = self.pipelines.get(name)
        return entry.spec if entry else None

    def namespace_labels(self, key: str) -> dict[str, str]:
        """Labels of the namespace of the object with this key."""
        name = namespace_of(key)
        return {**self.namespaces.get(name, {}), NAMESPACE_NAME_LABEL: name}

    def created(self, kind: OwnerKind, key: str) -> str:
        """Creation time of the owner's object; empty when unknown."""
        entry: Entry[PipelineSpec] | Entry[VirtualNetworkSpec] | Entry[InterfaceSpec] | None
        match kind:
            case "pn":
                entry = self.pipelines.get(key.partition("/")[0])
            case "net":
                entry = self.networks.get(key)
            case "ifc":
                entry = self.interfaces.get(key)
        return entry.created if entry else ""

    def selects(self, pipeline: str, node: str) -> bool:
        """Whether both exist and the Pipeline selects the node."""
        spec = self.pipeline(pipeline)
        labels = self.nodes.get(node)
        return spec is not None and labels is not None and spec.selects(labels)


def namespace_of(key: str) -> str:
    """The namespace of the object with this key."""
    return key.partition("/")[0]


def network_key(interface: str, spec: InterfaceSpec) -> str:
    """Key of the VirtualNetwork that an Interface names: that of its own namespace."""
    return f"{interface.partition('/')[0]}/{spec.network_ref.name}"


def sibling(key: str, name: str) -> str:
    """Key of the object with this name in the namespace of another."""
    return f"{key.partition('/')[0]}/{name}"
