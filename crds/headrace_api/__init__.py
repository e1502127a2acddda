# SPDX-License-Identifier: Apache-2.0
"""Headrace's API: the models that CRDs, validation and every type in Python come from."""

from .attachment import SOCKET_BYTES, SUPPORTED_TYPES, Attachment, AttachmentType, ObjectRef
from .base import API_VERSION, GROUP, VERSION, Condition, ConditionStatus, Json, ObjectMeta
from .canonical import canonical_json, digest
from .dataplane_config import (
    UNDERLAY_SOURCE_CHECK,
    CompiledInterface,
    CompiledNetwork,
    CompiledUplink,
    DataplaneConfig,
    DataplaneConfigSpec,
    DataplaneConfigStatus,
    InterfaceState,
    NetworkState,
    WorkerState,
    config_name,
)
from .device import Device
from .interface import Interface, InterfaceSpec, InterfaceStatus, SourceCheck
from .names import (
    LEASE_SECONDS,
    LEASE_SECONDS_VARIABLE,
    PIPELINE_LABEL,
    RUNTIME_DIRECTORY,
    SYSTEM_NAMESPACE,
)
from .namespace import NAMESPACE_NAME_LABEL, Namespace
from .node import Node
from .objects import Object, Objects, Problem
from .pipeline import (
    Hugepages,
    HugepageSize,
    IdlePolicy,
    Pipeline,
    PipelineNode,
    PipelineSpec,
    PipelineStatus,
    Uplink,
    Workers,
)
from .pod import Pod, PodNetwork, pod_device, pod_interface_name, pod_mac, pod_networks
from .route_slice import (
    RouteSlice,
    RouteSliceSpec,
    SliceNextHop,
    SliceRoute,
    routes_digest,
    slice_name,
    slice_revision,
)
from .selector import LabelSelector
from .sockets import SOCKET_NAMES, SOCKETS_DIRECTORY, socket_directory, with_socket
from .virtual_network import (
    NextHop,
    Route,
    Subnet,
    VirtualNetwork,
    VirtualNetworkSpec,
    VirtualNetworkStatus,
)

__all__ = [
    "API_VERSION",
    "GROUP",
    "LEASE_SECONDS",
    "LEASE_SECONDS_VARIABLE",
    "NAMESPACE_NAME_LABEL",
    "PIPELINE_LABEL",
    "RUNTIME_DIRECTORY",
    "SOCKETS_DIRECTORY",
    "SOCKET_BYTES",
    "SOCKET_NAMES",
    "SUPPORTED_TYPES",
    "SYSTEM_NAMESPACE",
    "UNDERLAY_SOURCE_CHECK",
    "VERSION",
    "Attachment",
    "AttachmentType",
    "CompiledInterface",
    "CompiledNetwork",
    "CompiledUplink",
    "Condition",
    "ConditionStatus",
    "DataplaneConfig",
    "DataplaneConfigSpec",
    "DataplaneConfigStatus",
    "Device",
    "HugepageSize",
    "Hugepages",
    "IdlePolicy",
    "Interface",
    "InterfaceSpec",
    "InterfaceState",
    "InterfaceStatus",
    "Json",
    "LabelSelector",
    "Namespace",
    "NetworkState",
    "NextHop",
    "Node",
    "Object",
    "ObjectMeta",
    "ObjectRef",
    "Objects",
    "Pipeline",
    "PipelineNode",
    "PipelineSpec",
    "PipelineStatus",
    "Pod",
    "PodNetwork",
    "Problem",
    "Route",
    "RouteSlice",
    "RouteSliceSpec",
    "SliceNextHop",
    "SliceRoute",
    "SourceCheck",
    "Subnet",
    "Uplink",
    "VirtualNetwork",
    "VirtualNetworkSpec",
    "VirtualNetworkStatus",
    "WorkerState",
    "Workers",
    "canonical_json",
    "config_name",
    "digest",
    "pod_device",
    "pod_interface_name",
    "pod_mac",
    "pod_networks",
    "routes_digest",
    "slice_name",
    "slice_revision",
    "socket_directory",
    "with_socket",
]
