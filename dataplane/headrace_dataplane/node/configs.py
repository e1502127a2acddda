# SPDX-License-Identifier: Apache-2.0
"""What this node's dataplanes are told and say, followed at the API server."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from headrace_api import CONFIG_LABEL, Json, assembled, config_label
from headrace_api.raw import object_name
from headrace_dataplane.follow import follow, follow_one
from headrace_kube import (
    DATAPLANE_CONFIGS,
    FORMER_CONFIGS,
    SLICES,
    Kind,
    Kube,
    KubeError,
    Listing,
)

T = TypeVar("T")


class Configs:
    """The DataplaneConfigs that somebody has waited for; each is followed from then on."""

    def __init__(self, kube: Kube, namespace: str, tasks: asyncio.TaskGroup) -> None:
        """`namespace` is that of the compiled objects; following ends with `tasks`."""
        self._kube = kube
        self._namespace = namespace
        self._tasks = tasks
        self._known: dict[str, _Known] = {}
        self._changed = asyncio.Condition()

    async def wait(self, name: str, find: Callable[[Json], T | None]) -> T:
        """Wait until `find` returns something for the object of this name, and return that."""
        if name not in self._known:
            self._known[name] = _Known()
            self._tasks.create_task(self._follow(DATAPLANE_CONFIGS, name))
            self._tasks.create_task(self._follow_slices(name))
            self._tasks.create_task(self._follow_former(name))
        async with self._changed:
            while True:
                item = self._known[name].whole()
                found = find(item) if item is not None else None
                if found is not None:
                    return found
                await self._changed.wait()

    async def _follow_former(self, name: str) -> None:
        """Follow it as release 0.2 has it, where that was once."""
        try:
            await self._kube.list(FORMER_CONFIGS, self._namespace, fields=f"metadata.name={name}")
        except KubeError as error:
            if error.absent:
                return
        await self._follow(FORMER_CONFIGS, name)

    async def _follow(self, kind: Kind, name: str) -> None:
        async for item in follow_one(self._kube, kind, self._namespace, name):
            async with self._changed:
                self._known[name].items[kind] = item
                self._changed.notify_all()

    async def _follow_slices(self, name: str) -> None:
        labels = f"{CONFIG_LABEL}={config_label(name)}"
        async for seen in follow(self._kube, SLICES, self._namespace, labels):
            slices = self._known[name].slices
            async with self._changed:
                if isinstance(seen, Listing):
                    self._known[name].slices = {object_name(item): item for item in seen.items}
                elif seen.type == "DELETED":
                    slices.pop(object_name(seen.object), None)
                else:
                    slices[object_name(seen.object)] = seen.object
                self._changed.notify_all()


@dataclass
class _Known:
    """One DataplaneConfig as last seen."""

    items: dict[Kind, Json | None] = field(default_factory=dict)
    slices: dict[str, Json] = field(default_factory=dict)

    def whole(self) -> Json | None:
        """It, with what is in its Slices."""
        # The operator has it there for as long as the dataplane is of release 0.2.
        if (former := self.items.get(FORMER_CONFIGS)) is not None:
            return former
        item = self.items.get(DATAPLANE_CONFIGS)
        return assembled(item, self.slices) if item is not None else None
