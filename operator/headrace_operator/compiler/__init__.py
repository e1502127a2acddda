# SPDX-License-Identifier: Apache-2.0
"""The compiler: pure functions from objects and allocations to DataplaneConfigs and RouteSlices."""

from .allocations import Allocations, InterfaceAllocation, NetworkAllocation, NodeAllocation
from .compiler import Changes, Compilation, Compiler, compile  # noqa: A004

__all__ = [
    "Allocations",
    "Changes",
    "Compilation",
    "Compiler",
    "InterfaceAllocation",
    "NetworkAllocation",
    "NodeAllocation",
    "compile",
]
