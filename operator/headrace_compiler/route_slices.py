# SPDX-License-Identifier: Apache-2.0
"""The Slices with the routes of all networks, without next hops on nodes that are dead."""

from collections.abc import Set

from headrace_api import Json

from .addresses import node_number
from .claims import Owner
from .core import Core
from .dirty import DirtyConfigs
from .interface import Interfaces
from .network import Networks
from .pipeline import Pipelines
from .routing import Routing
from .underlay_endpoint import Endpoints


class RouteSlices:
    """Writes what changed of them."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._pipelines = core.part(Pipelines)
        self._networks = core.part(Networks)
        self._endpoints = core.part(Endpoints)
        self._interfaces = core.part(Interfaces)
        self._routing = core.part(Routing)
        self._dirty_configs = core.part(DirtyConfigs)
        self.unreachable: Set[tuple[str, str]] = frozenset()
        """Pipelines on nodes that are dead."""
        # The /64s of those that were when last written.
        self._left_out: dict[Owner, int] = {}

    def snapshot(self) -> dict[str, Json]:
        """All by name, sorted by network and number."""
        return self._routing.slices()

    def write(self) -> None:
        """Write what changed since the last time."""
        self._leave_out()
        written = self._routing.write(
            self._networks.spec,
            self._networks.ready,
            self._interfaces.endpoint,
            self._endpoints.admitted,
            self._networks.admit,
        )
        self._core.changes.slices |= written.slices
        for key, faults in written.faults.items():
            self._core.report((Networks.name, key), "routes", faults)
        for key, error in written.failed.items():
            faults = self._core.failures.add(Owner(Networks.name, key), error)
            self._core.report((Networks.name, key), "routes", faults)
        self._dirty_configs.networks |= written.touched

    def _leave_out(self) -> None:
        """Have the routes written again whose next hops are on nodes that died or came back."""
        dead = (Owner(Pipelines.name, *each) for each in self.unreachable)
        held = self._pipelines.held
        there = {each: node_number(held[each].underlay_prefix) for each in dead if each in held}
        before, self._left_out = self._left_out, there
        turned = {each for each, _ in before.items() ^ there.items()}
        if turned:
            members = (
                key for each in sorted(turned) for key in sorted(self._interfaces.members[each])
            )
            self._routing.set_unreachable(
                frozenset(there.values()),
                ((key, self._interfaces.accepted[key]) for key in members),
            )
