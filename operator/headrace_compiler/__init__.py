# SPDX-License-Identifier: Apache-2.0
"""The compiler: pure functions from objects and allocations to DataplaneConfigs and Slices."""

from .allocations import (
    REST,
    Allocations,
    EndpointAllocation,
    FunctionAllocation,
    InterfaceAllocation,
    NetworkAllocation,
    NodeAllocation,
    Rest,
)
from .compiler import Compilation, Compiler, compile, start  # noqa: A004
from .network import Usage
from .outcome import Changes, Subject

__all__ = [
    "REST",
    "Allocations",
    "Changes",
    "Compilation",
    "Compiler",
    "EndpointAllocation",
    "FunctionAllocation",
    "InterfaceAllocation",
    "NetworkAllocation",
    "NodeAllocation",
    "Rest",
    "Subject",
    "Usage",
    "compile",
    "start",
]
