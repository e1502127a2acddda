# SPDX-License-Identifier: Apache-2.0
"""The kinds that are compiled, in the order in which they are looked at."""

from typing import Any

from .core import Kind
from .device_policy import DevicePolicies
from .inputs import Namespaces, Nodes, Pods
from .interface import Interfaces
from .network import Networks
from .pipeline import Pipelines
from .underlay_endpoint import Endpoints

#: Whoever refers to another, or wants of what another gives out, comes after it. A new kind goes
#: here, and nowhere else in the compiler.
KINDS: list[type[Kind[Any]]] = [
    Nodes,
    Namespaces,
    Pods,
    DevicePolicies,
    Pipelines,
    Networks,
    Endpoints,
    Interfaces,
]
