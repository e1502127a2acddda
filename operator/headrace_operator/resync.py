# SPDX-License-Identifier: Apache-2.0
"""Lists everything now and then: no watch tells of all that vanished while it was away."""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from headrace_api import Json
from headrace_kube import FORMER, Kind, Kube, KubeError

from . import objects
from .cache import Cache
from .metrics import Metrics

_RETRY = 5.0
#: What a list is waited for that a watch has made necessary: others will come.
_SOON = 5.0
#: A watch that has not told within so many seconds what a list has found is dead.
_SILENT = 30.0

_log = logging.getLogger(__name__)


class Resync:
    """Keeps the cache true to the API server, whatever the watches do."""

    def __init__(
        self,
        kube: Kube,
        cache: Cache,
        kinds: Mapping[Kind, str],
        seconds: float,
        metrics: Metrics,
        restart: Callable[[Kind], None],
    ) -> None:
        """`kinds`: kind -> namespace, or "" for all; `restart` those whose watch is silent."""
        self._kube = kube
        self._cache = cache
        self._kinds = kinds
        self._seconds = seconds
        self._metrics = metrics
        self._restart = restart
        self._soon = {kind: asyncio.Event() for kind in kinds}
        self._observed = dict.fromkeys(kinds, 0.0)
        self._listed = dict.fromkeys(kinds, time.monotonic())
        self._keepers: dict[Kind, asyncio.Task[None]] = {}

    async def first(self) -> None:
        """List every kind. Returns when all of it is in the cache."""
        async with asyncio.TaskGroup() as group:
            for kind in self._kinds:
                group.create_task(self._list_until_done(kind))

    async def run(self) -> None:
        """List every kind every so many seconds, more or less, for ever."""
        async with asyncio.TaskGroup() as group:
            for kind in self._kinds:
                self._keepers[kind] = group.create_task(self._keep(kind))

    def forget(self, kind: Kind) -> None:
        """List the kind no more."""
        self._keepers.pop(kind).cancel()
        del self._listed[kind]
        if kind.name not in {each.name for each in self._listed}:
            self._metrics.resynced.remove(kind.name)

    def soon(self, kind: Kind) -> None:
        """List the kind in a few seconds: its watch has started anew."""
        self._soon[kind].set()

    def observed(self, kind: Kind) -> None:
        """The kind's watch has told something."""
        self._observed[kind] = time.monotonic()

    @property
    def late(self) -> list[str]:
        """Kinds that could not be listed for three periods."""
        limit = time.monotonic() - 3 * self._seconds
        return [kind.name for kind, listed in self._listed.items() if listed < limit]

    async def _keep(self, kind: Kind) -> None:
        soon = self._soon[kind]
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._seconds * random.uniform(0.8, 1.2)):  # noqa: S311
                    await soon.wait()
                    await asyncio.sleep(_SOON)
            soon.clear()
            began = time.monotonic()
            if news := await self._list_until_done(kind):
                await asyncio.sleep(_SILENT)
                if self._observed[kind] < began - _SILENT:
                    _log.warning("the watch of %s missed %d changes: restart", kind.plural, news)
                    self._restart(kind)

    async def _list_until_done(self, kind: Kind) -> int:
        while True:
            try:
                return await self._list(kind)
            except KubeError as error:
                self._metrics.failed("list", error)
                _log.warning("%s cannot be listed: %s", kind.plural, error)
                await asyncio.sleep(_RETRY)

    async def _list(self, kind: Kind) -> int:
        items: list[Json] = []
        version = ""
        try:
            async for page in self._kube.pages(kind, self._kinds[kind]):
                items += map(objects.slim, page.items)
                version = page.resource_version
            news = self._cache.replace(kind, items, version)
        except KubeError as error:
            if not (error.absent and kind in FORMER):
                raise
            # Somebody has deleted the kind.
            news = self._cache.clear(kind)
        self._listed[kind] = time.monotonic()
        self._metrics.resynced.labels(kind.name).set_to_current_time()
        return news
