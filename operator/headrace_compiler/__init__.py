# SPDX-License-Identifier: Apache-2.0
"""The compiler: pure functions from objects and allocations to DataplaneConfigs and RouteSlices."""

from .allocations import (
    REST,
    Allocations,
    InterfaceAllocation,
    NetworkAllocation,
    NodeAllocation,
    Rest,
)
from .compiler import Changes, Compilation, Compiler, compile, start  # noqa: A004
from .failures import Subject
from .interface import Usage

__all__ = [
    "REST",
    "Allocations",
    "Changes",
    "Compilation",
    "Compiler",
    "InterfaceAllocation",
    "NetworkAllocation",
    "NodeAllocation",
    "Rest",
    "Subject",
    "Usage",
    "compile",
    "start",
]
