# SPDX-License-Identifier: Apache-2.0
"""The kinds of objects that Headrace reads or writes, and their paths at the API server."""

from dataclasses import dataclass

from headrace_api import (
    API_VERSION,
    DataplaneConfig,
    DevicePolicy,
    Interface,
    NodeState,
    Pipeline,
    Slice,
    UnderlayEndpoint,
    VirtualNetwork,
    kinds,
)
from headrace_api.base import Resource


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind, as the API server names it."""

    name: str
    """Interface, DaemonSet, ..."""
    plural: str
    """interfaces, daemonsets, ..."""
    api_version: str = API_VERSION
    namespaced: bool = True

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """Path of the collection (of all namespaces when none is given), object or subresource."""
        root = "/apis" if "/" in self.api_version else "/api"
        parts = [root, self.api_version]
        if self.namespaced and namespace:
            parts += ["namespaces", namespace]
        return "/".join([*parts, self.plural, *filter(None, (name, subresource))])


def _own(resource: type[Resource]) -> Kind:
    return Kind(
        resource.kind_name(), resource.PLURAL, resource.version(), namespaced=resource.NAMESPACED
    )


VIRTUAL_NETWORKS = _own(VirtualNetwork)
INTERFACES = _own(Interface)
PIPELINES = _own(Pipeline)
UNDERLAY_ENDPOINTS = _own(UnderlayEndpoint)
DEVICE_POLICIES = _own(DevicePolicy)
DATAPLANE_CONFIGS = _own(DataplaneConfig)
SLICES = _own(Slice)
NODE_STATES = _own(NodeState)

FORMER_CONFIGS = Kind(DataplaneConfig.kind_name(), DataplaneConfig.PLURAL)
FORMER_SLICES = Kind("RouteSlice", "routeslices")
FORMER = (FORMER_CONFIGS, FORMER_SLICES)
"""Where release 0.2 has what is compiled; there are such kinds where it was once."""

WRITTEN = tuple(map(_own, kinds.written()))
"""What people write."""
COMPILED = tuple(_own(kind) for kind in kinds.compiled() if kind is not NodeState)
"""What the operator writes in its namespace: it gives values out, and who starts reads it back."""

CONFIG_MAPS = Kind("ConfigMap", "configmaps", "v1")
NAMESPACES = Kind("Namespace", "namespaces", "v1", namespaced=False)
NODES = Kind("Node", "nodes", "v1", namespaced=False)
PODS = Kind("Pod", "pods", "v1")
DAEMON_SETS = Kind("DaemonSet", "daemonsets", "apps/v1")
LEASES = Kind("Lease", "leases", "coordination.k8s.io/v1")
EVENTS = Kind("Event", "events", "events.k8s.io/v1")
