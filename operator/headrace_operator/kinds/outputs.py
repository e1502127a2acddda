# SPDX-License-Identifier: Apache-2.0
"""DataplaneConfigs, Slices and DaemonSets, and copies of the former two."""

from collections.abc import Iterable

from headrace_api import PIPELINE_LABEL, Json, config_of_slice
from headrace_api.raw import part, text
from headrace_kube import (
    DAEMON_SETS,
    DATAPLANE_CONFIGS,
    FORMER_CONFIGS,
    FORMER_SLICES,
    INTERFACES,
    PIPELINES,
    SLICES,
)
from headrace_operator import objects
from headrace_operator.render import features
from headrace_operator.work import Work

from .handler import Output
from .state import State

#: In the name of a network's Slice; others have more.
_NETWORK_DOTS = 2


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

    def listed(self, key: str, item: Json) -> None:
        """Take note of the functions that its agent claims, too."""
        super().listed(key, item)
        self._claimed(key, item)

    def changed(self, key: str, before: Json | None, after: Json | None) -> None:
        """Have what an agent understands sent to it, and nothing else."""
        self._claimed(key, after)
        progress, config = self._state.progress, Work(DATAPLANE_CONFIGS, key)
        if progress.former.follows(config) and self._ends_copy(after):
            self._state.statuses.enqueue_reported(progress.retire(config))
        if after and progress.former.follows(config) is (self.kind is FORMER_CONFIGS):
            spec, observed = part(after, "spec"), self._state.observed
            pipeline, node = text(spec.get("pipelineName")), text(spec.get("nodeName"))
            if observed.compiler.agent(pipeline, node, features(after)):
                observed.touch(Work(PIPELINES, pipeline))
        super().changed(key, before, after)

    def _claimed(self, key: str, item: Json | None) -> None:
        self._state.node_states.claimed(key, item)

    def _ends_copy(self, after: Json | None) -> bool:
        """Whether the agent follows no copy any more: it reports here."""
        return after is not None and features(after) is not None

    def is_retained(self, item: Json) -> bool:
        """Its Pipeline cannot be read, or not be compiled on this node."""
        return super().is_retained(item) or _is_stuck(self._state, item)

    def needs(self, work: Work) -> Iterable[Work]:
        """Its Slices: an agent waits for all that it names."""
        return self._state.progress.parts(work)

    def _interfaces(self, work: Work) -> Iterable[str]:
        return self._state.progress.interfaces_in(work)


class FormerConfigs(DataplaneConfigs):
    """Copies for agents of release 0.2."""

    kind = FORMER_CONFIGS

    def _claimed(self, key: str, item: Json | None) -> None:
        """Those agents know of none."""

    def _ends_copy(self, after: Json | None) -> bool:
        """Somebody has deleted it."""
        return after is None

    def needs(self, work: Work) -> Iterable[Work]:
        """Nothing: all of it is in the object."""
        return ()


class Slices(Compiled):
    """Some for each network, and for each DataplaneConfig."""

    kind = SLICES

    def listed(self, key: str, item: Json) -> None:
        """Its DataplaneConfig, if it has one, is listed with it."""
        if not config_of_slice(item):
            super().listed(key, item)

    @staticmethod
    def group(key: str) -> str:
        """A network's are named for its namespace (`<namespace>.<network>.<number>`)."""
        first, *rest = objects.name_of(key)[1].split(".")
        return first if len(rest) == _NETWORK_DOTS else key

    def needs(self, work: Work) -> Iterable[Work]:
        """What gives out the underlay addresses that it names; the networks of Interfaces."""
        progress = self._state.progress
        for config, key in self._state.allocated.holders(progress.addresses_in(work)):
            yield config
            yield progress.holder(config, "interfaces", key)
        yield from progress.networks_for(work)

    def is_retained(self, item: Json) -> bool:
        """As its DataplaneConfig is."""
        return super().is_retained(item) or _is_stuck(self._state, item)

    def _interfaces(self, work: Work) -> Iterable[str]:
        if own := self._state.progress.interfaces_in(work):
            return own
        addresses = self._state.progress.addresses_in(work)
        allocations = self._state.allocated.interfaces.items()
        return [key for key, held in allocations if held.underlay_address in addresses]


def _is_stuck(state: State, item: Json) -> bool:
    """Whether its Pipeline cannot be compiled on its node."""
    pipeline, node = objects.label(item, PIPELINE_LABEL), text(part(item, "spec").get("nodeName"))
    return bool(node) and state.observed.compiler.is_stuck(pipeline, node)


class FormerSlices(Output):
    """Copies for agents of release 0.2."""

    kind = FORMER_SLICES
    group = Slices.group

    def needs(self, work: Work) -> Iterable[Work]:
        """What its agents follow of the DataplaneConfigs that give out what it names."""
        progress = self._state.progress
        addresses = progress.addresses_in(work._replace(kind=SLICES))
        for config, key in self._state.allocated.holders(addresses):
            yield progress.former.copy(config) or progress.holder(config, "interfaces", key)


class DaemonSets(Output):
    """One for each class of a Pipeline's nodes."""

    kind = DAEMON_SETS
    defaulted = True
