# SPDX-License-Identifier: Apache-2.0
"""Where a node's configuration comes from and where its state goes to."""

from dataclasses import dataclass
from typing import Protocol

from headrace_api import DataplaneConfig, Problem, RouteSlice
from headrace_dataplane.grants import Grants
from headrace_dataplane.parts import Part, Report


@dataclass(frozen=True)
class Snapshot:
    """A whole configuration; a later one has a higher generation."""

    generation: int
    config: DataplaneConfig
    slices: tuple[RouteSlice, ...]
    problems: tuple[Problem, ...] = ()
    """What could not be read, and is not as it was written."""
    parts: tuple[Part, ...] = ()
    """The Slices that the networks and Interfaces are of."""
    grants: Grants | None = None
    """What the NodeState says of functions; None: nothing is known of it."""


class ConfigSource(Protocol):
    """Gives a node's configuration, and takes the node's state."""

    async def next(self) -> Snapshot:
        """Wait for a configuration other than the one returned last, and return the newest."""
        ...

    async def report(self, report: Report) -> None:
        """Take the state; called when it has changed."""
        ...
