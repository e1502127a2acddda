# SPDX-License-Identifier: Apache-2.0
"""VirtualNetworks, and the UnderlayEndpoints that they may route to."""

from collections.abc import Iterable
from datetime import datetime

from headrace_api import Json, UnderlayEndpoint, VirtualNetwork
from headrace_kube import UNDERLAY_ENDPOINTS, VIRTUAL_NETWORKS
from headrace_operator.agents import REPORT_TIMEOUT
from headrace_operator.render import endpoint_status, network_status
from headrace_operator.work import Work

from .handler import Input
from .state import State


class VirtualNetworks(Input[VirtualNetwork]):
    """They have Slices."""

    kind = VIRTUAL_NETWORKS

    def __init__(self, state: State) -> None:
        super().__init__(state)
        self._gateways: dict[str, tuple[str, ...]] = {}

    def accepted(self, model: VirtualNetwork) -> None:
        """What is written of it is not the newest any more."""
        self._state.progress.recompiled(model.key)
        self._gateways[model.key] = tuple(each.gateway_address for each in model.spec.subnets)

    def deleted(self, key: str) -> None:
        """Nothing is left of it."""
        self._gateways.pop(key, None)
        self._state.progress.forget(key)

    def needs(self, work: Work) -> Iterable[Work]:
        """Its Slices."""
        return self._state.progress.slices_of(work.key)

    def status(self, work: Work, raw: Json, now: datetime) -> Json | None:
        """By the nodes whose engines have it."""
        progress, observed = None, self._state.observed
        if work.subject not in observed.invalid:
            progress, passing = self._state.progress.network(work.key)
            waits = bool(progress.unwritten or progress.lacking)
            if self._state.statuses.is_deferred(work, waits):
                return None
            if passing:
                self._state.queue.add(work, REPORT_TIMEOUT)
        return network_status(
            raw,
            self._state.allocated.vnis.get(work.key),
            self._gateways.get(work.key, ()),
            self.problems(work.key),
            progress,
            observed.compiler.usage(work.key),
            now,
        )


class UnderlayEndpoints(Input[UnderlayEndpoint]):
    """Gear outside of the cluster."""

    kind = UNDERLAY_ENDPOINTS

    def status(self, work: Work, raw: Json, now: datetime) -> Json | None:
        """By its spec alone."""
        return endpoint_status(raw, self.problems(work.key), now)
