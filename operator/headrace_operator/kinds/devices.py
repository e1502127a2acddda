# SPDX-License-Identifier: Apache-2.0
"""DevicePolicies, and the NodeStates that bring them to nodes."""

from collections.abc import Iterable
from datetime import datetime

from headrace_api import DevicePolicy, Json
from headrace_api.device_policy import VfDriver
from headrace_api.raw import part, text
from headrace_kube import DEVICE_POLICIES, INTERFACES, NODE_STATES
from headrace_operator import objects
from headrace_operator.node_states import policies_in
from headrace_operator.render import device_policy_status
from headrace_operator.statuses import GATHER
from headrace_operator.work import Work

from .handler import Input, Output


class DevicePolicies(Input[DevicePolicy]):
    """What is wanted of cards: nodes' agents do it, and say in their NodeStates what came of it."""

    kind = DEVICE_POLICIES

    def listed(self, key: str, item: Json) -> None:
        """Have pods keep what they need by one that cannot be read any more."""
        spec = part(item, "spec")
        if spec.get("driver") == VfDriver.KERNEL:
            self._state.dataplanes.drive(key, text(spec.get("resourceName")) or None)

    def accepted(self, model: DevicePolicy) -> None:
        """Give dataplane pods what functions of the kernel's drivers need."""
        kernel = model.spec.driver is VfDriver.KERNEL
        self._state.dataplanes.drive(model.key, model.spec.resource_name if kernel else None)

    def deleted(self, key: str) -> None:
        """No pod needs anything for it any more."""
        self._state.dataplanes.drive(key, None)

    def needs(self, work: Work) -> Iterable[Work]:
        """The NodeStates that its status tells of."""
        return self._state.node_states.selected(work.key) if work.status else ()

    def status(self, work: Work, raw: Json, now: datetime) -> Json | None:
        """By what its nodes' agents report."""
        reports = self._state.node_states.reports(work.key)
        waits = objects.is_ready(raw) and any(each.ready is None for each in reports.values())
        if self._state.statuses.is_deferred(work, waits):
            return None
        return device_policy_status(
            raw,
            reports,
            self.problems(work.key),
            now,
            compiled=work.subject not in self._state.observed.invalid,
            node_agent=self._state.node_states.enabled,
        )


class NodeStates(Output):
    """One for each node, where the node agent runs; none is in a namespace."""

    kind = NODE_STATES

    def changed(self, key: str, before: Json | None, after: Json | None) -> None:
        """Compare it with what is desired; statuses of policies tell what the agent reports."""
        self._state.queue.add(Work(NODE_STATES, key))
        self._state.node_states.found(key, after)
        for interface in self._state.node_states.endpoints(key, after):
            self._state.statuses.enqueue(INTERFACES, interface)
        for policy in {*policies_in(before), *policies_in(after)}:
            if self._state.cache.get(DEVICE_POLICIES, policy):
                self._state.statuses.enqueue(DEVICE_POLICIES, policy, GATHER)

    def failed(self, work: Work, why: str, *, refused: bool) -> None:
        """Statuses of its policies tell of it."""
        if self._state.desired.failed(work, why, refused=refused):
            for policy in policies_in(self._state.desired.get(work)):
                self._state.statuses.enqueue(DEVICE_POLICIES, policy, GATHER)

    def is_retained(self, item: Json) -> bool:
        """It goes with its node, or the agents."""
        return False
