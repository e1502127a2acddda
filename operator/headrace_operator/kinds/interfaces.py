# SPDX-License-Identifier: Apache-2.0
"""Interfaces: people make them, and the operator for pods."""

from collections.abc import Iterable
from datetime import datetime

from headrace_api import Interface, Json
from headrace_kube import INTERFACES
from headrace_operator import objects, pods
from headrace_operator.render import interface_status
from headrace_operator.render.conditions import not_ready
from headrace_operator.work import Work, config_of

from .handler import Input

#: Reasons of one that waits for its pod: at first, and all of them.
_UNSETTLED = frozenset({"PodNotFound", "PodNotScheduled"})
WITHOUT_POD = _UNSETTLED | {"PodCompleted"}


class Interfaces(Input[Interface]):
    """People make them, and the operator for pods."""

    kind = INTERFACES
    shared = True
    defaulted = True

    def changed(self, key: str, before: Json | None, after: Json | None) -> None:
        """Make it again, leave it to whom it belongs, or delete it, as its pod asks for it."""
        super().changed(key, before, after)
        work = Work(INTERFACES, key)
        desired = self._state.desired.get(work)
        if desired and not all(item and objects.is_owned(item) for item in (before, after)):
            self._state.pods.desire_again(pods.pod_key(desired))
        elif desired or (after and objects.is_owned(after)):
            self._state.queue.add(work)

    def deleted(self, key: str) -> None:
        """Its pod lacks nothing of it any more."""
        self._state.pods.forget_interface(key)

    def needs(self, work: Work) -> Iterable[Work]:
        """What its status is about; nothing where some of that is refused."""
        allocation = self._state.allocated.interfaces.get(work.key) if work.status else None
        if allocation is None:
            return ()
        needs = [*self._state.progress.slices_of(allocation.network)]
        if allocation.node:
            config = config_of(self._state.namespace, (allocation.pipeline, allocation.node))
            # Each waits for those before it.
            needs[:0] = (
                self._state.progress.holder(config, "networks", allocation.network),
                self._state.progress.holder(config, "interfaces", work.key),
                config,
            )
        # Its slices wait for its config, too.
        return () if any(map(self._state.desired.is_refused, needs)) else needs

    def failed(self, work: Work, why: str, *, refused: bool) -> None:
        """Tell the pod."""
        if (refused or not why) and self._state.desired.failed(work, why, refused=refused):
            self._state.pods.refused(work.key, why)

    def is_retained(self, item: Json) -> bool:
        """As its pod has it."""
        return self._state.pods.is_retained(item)

    def status(self, work: Work, raw: Json, now: datetime) -> Json | None:
        """By what its node's agent reports."""
        allocation = self._state.allocated.interfaces.get(work.key)
        problems = self.problems(work.key)
        reasons = {problem.reason for problem in problems}
        if "PodNotFound" in reasons and objects.is_owned(raw) and not pods.is_kept(raw):
            # It goes with its pod.
            return None
        report, obstacle = None, None
        waits = bool(reasons & _UNSETTLED)
        if allocation and allocation.node and not problems:
            report, obstacle = self._state.progress.interface(work.key, allocation)
            waits = bool(obstacle) or report.ready is None
        if self._state.statuses.is_deferred(work, bool(problems or allocation) and waits):
            return None
        gone = report is not None and not obstacle and report.reason == "DeviceGone"
        if event := self._state.pods.without_device(work.key, raw, gone):
            obstacle = not_ready(event.reason, event.note)
        endpoint = None
        if allocation and allocation.node and allocation.endpoint:
            endpoint = self._state.node_states.endpoint(allocation.node, work.key, allocation.grant)
        return interface_status(raw, allocation, problems, report, now, obstacle, endpoint)
