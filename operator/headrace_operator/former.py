# SPDX-License-Identifier: Apache-2.0
"""Agents of release 0.2, which follow compiled objects in another group: copies for them.

There are such where this operator has taken over from one of 0.2. A node gets its copy for as long
as its agent has not reported in the group of this release; with the last of these copies go all.
What such an agent has in its engine of a network's routes is taken to be what it has seen.
"""

from headrace_api import Json, assembled
from headrace_api.raw import items, mapping, part
from headrace_kube import DATAPLANE_CONFIGS, FORMER, FORMER_CONFIGS, FORMER_SLICES, SLICES

from . import objects
from .cache import Cache
from .render import features
from .upgrade.convert import converted
from .work import Work

_KINDS = {DATAPLANE_CONFIGS: FORMER_CONFIGS, SLICES: FORMER_SLICES}


class Former:
    """Which nodes have an agent of 0.2. Not thread-safe."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        # DataplaneConfigs that have a copy.
        self._configs: set[str] = set()

    def load(self) -> None:
        """Take what the API server has."""
        self._configs = {
            key
            for key, item in self._cache.all(FORMER_CONFIGS)
            if objects.is_owned(item) and not _is_reported(self._cache.get(DATAPLANE_CONFIGS, key))
        }

    @property
    def is_over(self) -> bool:
        """Whether no agent follows a copy (any more)."""
        return not self._configs

    @property
    def is_gone(self) -> bool:
        """Whether there are no copies any more either."""
        return self.is_over and not any(map(self._cache.count, FORMER))

    def follows(self, config: Work) -> bool:
        """Whether the agent of a DataplaneConfig follows the copy."""
        return config.key in self._configs

    def retire(self, config: Work) -> None:
        """The agent of a DataplaneConfig is of this release, or there is no copy any more."""
        self._configs.discard(config.key)

    def copy(self, work: Work) -> Work | None:
        """The copy that is to be of a compiled output; None: none is."""
        if work.kind is DATAPLANE_CONFIGS and not self.follows(work):
            return None
        return work._replace(kind=_KINDS[work.kind]) if self._configs else None

    def compiled(self) -> tuple[list[Json], list[Json]]:
        """Whole DataplaneConfigs, and Slices; with what 0.2 has written, or its agents reported."""
        slices = dict(self._cache.all(SLICES))
        names = {objects.name_of(key)[1]: item for key, item in slices.items()}
        configs = {key: assembled(item, names) for key, item in self._cache.all(DATAPLANE_CONFIGS)}
        for key, item in self._cache.all(FORMER_CONFIGS):
            if self.follows(Work(DATAPLANE_CONFIGS, key)):
                before = converted(item)
                configs[key] = {**configs.get(key, before), "status": part(before, "status")}
        before_slices = {key: converted(item) for key, item in self._cache.all(FORMER_SLICES)}
        return [*configs.values()], [*(before_slices | slices).values()]


def seen(copy: Json) -> Json:
    """The copy of a DataplaneConfig as this release has it, without digests of routes.

    They are of the copied slices, which nobody here keeps account of.
    """
    item = converted(copy)
    status = part(item, "status")
    networks = [
        {name: value for name, value in mapping(each).items() if name != "digest"}
        for each in items(status.get("networks"))
    ]
    return {**item, "status": {**status, "networks": [*networks]}} if networks else item


def _is_reported(config: Json | None) -> bool:
    return config is not None and features(config) is not None
