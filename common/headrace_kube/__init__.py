# SPDX-License-Identifier: Apache-2.0
"""The API server for Headrace's parts: JSON objects in and out, nothing typed, nothing cached."""

from .client import Event, Kube, KubeError, Listing
from .configs import whole_configs
from .kinds import (
    COMPILED,
    CONFIG_MAPS,
    DAEMON_SETS,
    DATAPLANE_CONFIGS,
    DEVICE_POLICIES,
    EVENTS,
    FORMER,
    FORMER_CONFIGS,
    FORMER_SLICES,
    INTERFACES,
    LEASES,
    NAMESPACES,
    NODE_STATES,
    NODES,
    PIPELINES,
    PODS,
    SLICES,
    UNDERLAY_ENDPOINTS,
    VIRTUAL_NETWORKS,
    WRITTEN,
    Kind,
)
from .readers import Readers

__all__ = [
    "COMPILED",
    "CONFIG_MAPS",
    "DAEMON_SETS",
    "DATAPLANE_CONFIGS",
    "DEVICE_POLICIES",
    "EVENTS",
    "FORMER",
    "FORMER_CONFIGS",
    "FORMER_SLICES",
    "INTERFACES",
    "LEASES",
    "NAMESPACES",
    "NODES",
    "NODE_STATES",
    "PIPELINES",
    "PODS",
    "SLICES",
    "UNDERLAY_ENDPOINTS",
    "VIRTUAL_NETWORKS",
    "WRITTEN",
    "Event",
    "Kind",
    "Kube",
    "KubeError",
    "Listing",
    "Readers",
    "whole_configs",
]
