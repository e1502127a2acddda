# SPDX-License-Identifier: Apache-2.0
"""What this node's dataplanes are told and say, followed at the API server."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from headrace_api import Json
from headrace_dataplane.follow import follow
from headrace_kube import DATAPLANE_CONFIGS, Kube, Listing

T = TypeVar("T")


class Configs:
    """The DataplaneConfigs that somebody has waited for; each is followed from then on."""

    def __init__(self, kube: Kube, namespace: str, tasks: asyncio.TaskGroup) -> None:
        """`namespace` is that of the compiled objects; following ends with `tasks`."""
        self._kube = kube
        self._namespace = namespace
        self._tasks = tasks
        self._known: dict[str, Json | None] = {}
        self._changed = asyncio.Condition()

    async def wait(self, name: str, find: Callable[[Json], T | None]) -> T:
        """Wait until `find` returns something for the object of this name, and return that."""
        if name not in self._known:
            self._known[name] = None
            self._tasks.create_task(self._follow(name))
        async with self._changed:
            while True:
                item = self._known[name]
                found = find(item) if item is not None else None
                if found is not None:
                    return found
                await self._changed.wait()

    async def _follow(self, name: str) -> None:
        fields = f"metadata.name={name}"
        async for seen in follow(self._kube, DATAPLANE_CONFIGS, self._namespace, fields=fields):
            if isinstance(seen, Listing):
                item = seen.items[0] if seen.items else None
            else:
                item = seen.object if seen.type != "DELETED" else None
            async with self._changed:
                self._known[name] = item
                self._changed.notify_all()
