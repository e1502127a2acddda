# SPDX-License-Identifier: Apache-2.0
"""Pipelines: they have DaemonSets."""

from collections.abc import Iterable
from datetime import datetime

from headrace_api import NEW_FEATURES, PIPELINE_LABEL, Json, Pipeline, Problem
from headrace_kube import DAEMON_SETS, DATAPLANE_CONFIGS, FORMER_CONFIGS, PIPELINES, SLICES
from headrace_operator import objects
from headrace_operator.render import alignment, pipeline_status
from headrace_operator.work import Work, config_of

from .handler import Input


class Pipelines(Input[Pipeline]):
    """They have DaemonSets."""

    kind = PIPELINES

    def read(self, item: Json) -> Pipeline | tuple[Problem, ...]:
        """With the devices that it has where it lists none."""
        found = super().read(item)
        if isinstance(found, tuple):
            return found
        return found.with_defaults(devices=self._state.settings.default_devices)

    def accepted(self, model: Pipeline) -> None:
        """Desire its DaemonSets, and what pods could not have without it."""
        self._state.observed.pipelines[model.key] = model
        self._state.dataplanes.desire(model)
        self._enqueue_outputs(model.key)
        self._state.pods.retry()

    def deleted(self, key: str) -> None:
        """Another may have its port."""
        pipelines, dataplanes = self._state.observed.pipelines, self._state.dataplanes
        pipelines.pop(key, None)
        dataplanes.delete(key)
        self._enqueue_outputs(key)
        self._state.pods.retry()
        for other in [each for each in pipelines.values() if dataplanes.port(each.key) is None]:
            self.accepted(other)
            self._state.observed.touched.add(Work(PIPELINES, other.key))

    def needs(self, work: Work) -> Iterable[Work]:
        """Its nodes' DataplaneConfigs, which wait for their Slices."""
        nodes = self._state.allocated.nodes.get(work.key, ())
        return (config_of(self._state.namespace, (work.key, node)) for node in nodes)

    def problems(self, key: str) -> tuple[Problem, ...]:
        """What keeps it from its pods, too."""
        found = super().problems(key)
        if key in self._state.observed.pipelines:
            found = (*found, *self._state.dataplanes.problems(key))
        return found

    def status(self, work: Work, raw: Json, now: datetime) -> Json | None:
        """By its pods, and what its nodes' agents report."""
        progress, observed = self._state.progress, self._state.observed
        nodes = self._state.allocated.nodes.get(work.key, {})
        failing, states = progress.pipeline(work.key, nodes)
        unreachable = {node for node, state in states.items() if not state.reachable}
        # What has not been ready is told at once: its pods take their time.
        waits = bool(failing.keys() - unreachable) and objects.is_ready(raw)
        if self._state.statuses.is_deferred(work, waits):
            return None
        if late := progress.late_in(work.key, nodes):
            self._state.queue.add(work, late)
        there = {node: self._config(work.key, node) for node in nodes}
        said = {node: alignment(config) for node, config in there.items() if config}
        return pipeline_status(
            raw,
            nodes,
            self.problems(work.key),
            self._state.dataplanes.found(work.key),
            failing,
            states,
            self._state.dataplanes.port(work.key),
            now,
            compiled=work.subject not in observed.invalid,
            unaware={each: observed.compiler.unaware(each, work.key) for each in NEW_FEATURES},
            aligned={node: found for node, found in said.items() if found},
        )

    def _config(self, pipeline: str, node: str) -> Json | None:
        work = config_of(self._state.namespace, (pipeline, node))
        return self._state.cache.get(work.kind, work.key)

    def _enqueue_outputs(self, pipeline: str) -> None:
        """Delete what is left of the Pipeline, if anything."""
        for kind in (DATAPLANE_CONFIGS, SLICES, FORMER_CONFIGS, DAEMON_SETS):
            for key, item in self._state.cache.all(kind):
                if objects.label(item, PIPELINE_LABEL) == pipeline:
                    self._state.queue.add(Work(kind, key))
