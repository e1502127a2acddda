# SPDX-License-Identifier: Apache-2.0
"""DataplaneConfigs, RouteSlices and DaemonSets."""

from collections.abc import Iterable

from headrace_api import PIPELINE_LABEL, Json
from headrace_kube import DAEMON_SETS, DATAPLANE_CONFIGS, INTERFACES, PIPELINES, ROUTE_SLICES
from headrace_operator import objects
from headrace_operator.render import features
from headrace_operator.render.raw import part, text
from headrace_operator.work import Work

from .handler import Output


class Compiled(Output):
    """What the compiler writes: agents follow it."""

    def listed(self, key: str, item: Json) -> None:
        """Take note of it, and of what the agent reports."""
        self._state.progress.observe(Work(self.kind, key), item)

    def changed(self, key: str, before: Json | None, after: Json | None) -> None:
        """Statuses tell of what agents report, too."""
        changes = self._state.progress.observe(Work(self.kind, key), after)
        self._state.statuses.enqueue_reported(changes)
        super().changed(key, before, after)

    def applied(self, work: Work) -> None:
        """Compare it with what is there now."""
        self._state.progress.applied(work)

    def failed(self, work: Work, why: str, *, refused: bool) -> None:
        """Statuses tell of it."""
        if self._state.desired.failed(work, why, refused=refused):
            self.enqueue_statuses(work)

    def enqueue_statuses(self, work: Work) -> None:
        """Those of Interfaces, networks and the Pipeline."""
        statuses, desired = self._state.statuses, self._state.desired.get(work)
        for key in self._interfaces(work):
            statuses.enqueue(INTERFACES, key)
        statuses.enqueue_networks(self._state.progress.networks_in(work), 0.0)
        statuses.enqueue_pipeline(objects.label(desired, PIPELINE_LABEL))

    def _interfaces(self, work: Work) -> Iterable[str]:
        raise NotImplementedError


class DataplaneConfigs(Compiled):
    """One for each Pipeline and node."""

    kind = DATAPLANE_CONFIGS

    def changed(self, key: str, before: Json | None, after: Json | None) -> None:
        """Have what an agent understands sent to it, and nothing else."""
        if after:
            spec, observed = part(after, "spec"), self._state.observed
            pipeline, node = text(spec.get("pipelineName")), text(spec.get("nodeName"))
            if observed.compiler.agent(pipeline, node, features(after)):
                observed.touch(Work(PIPELINES, pipeline))
        super().changed(key, before, after)

    def is_retained(self, item: Json) -> bool:
        """Its Pipeline cannot be read, or not be compiled on this node."""
        pipeline, node = objects.label(item, PIPELINE_LABEL), part(item, "spec").get("nodeName")
        return super().is_retained(item) or self._state.observed.compiler.is_stuck(
            pipeline, text(node)
        )

    def _interfaces(self, work: Work) -> Iterable[str]:
        return self._state.progress.interfaces_in(work)


class RouteSlices(Compiled):
    """Some for each network."""

    kind = ROUTE_SLICES

    @staticmethod
    def group(key: str) -> str:
        """They are in one namespace, and named for that of their network."""
        return objects.name_of(key)[1].partition(".")[0]

    def needs(self, work: Work) -> Iterable[Work]:
        """The DataplaneConfigs that give out the underlay addresses that it names."""
        return self._state.allocated.configs(self._state.progress.addresses_in(work))

    def _interfaces(self, work: Work) -> Iterable[str]:
        addresses = self._state.progress.addresses_in(work)
        allocations = self._state.allocated.interfaces.items()
        return [key for key, held in allocations if held.underlay_address in addresses]


class DaemonSets(Output):
    """One for each class of a Pipeline's nodes."""

    kind = DAEMON_SETS
    defaulted = True
