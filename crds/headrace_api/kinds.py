# SPDX-License-Identifier: Apache-2.0
"""The kinds of Headrace's API. A new one goes here: CRDs, reference, manifests and tools follow."""

from .base import Resource
from .dataplane_config import DataplaneConfig
from .device_policy import DevicePolicy
from .interface import Interface
from .node_state import NodeState
from .pipeline import Pipeline
from .slice import Slice
from .underlay_endpoint import UnderlayEndpoint
from .virtual_network import VirtualNetwork

KINDS: list[type[Resource]] = [
    VirtualNetwork,
    Interface,
    Pipeline,
    UnderlayEndpoint,
    DevicePolicy,
    DataplaneConfig,
    Slice,
    NodeState,
]


def written() -> tuple[type[Resource], ...]:
    """What people write."""
    return tuple(kind for kind in KINDS if not kind.COMPILED)


def compiled() -> tuple[type[Resource], ...]:
    """What the operator writes, and nobody else."""
    return tuple(kind for kind in KINDS if kind.COMPILED)
