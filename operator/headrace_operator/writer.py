# SPDX-License-Identifier: Apache-2.0
"""Brings the API server to what is wanted: compares with what is watched, writes what differs."""

import asyncio
import logging
from collections.abc import Callable

from headrace_api import Json
from headrace_kube import DAEMON_SETS, INTERFACES, PODS, Kind, Kube, KubeError

from . import objects
from .controller import Controller, Work
from .events import Events
from .metrics import Metrics
from .render import Transition, left_over, same, transition
from .render.raw import part

WORKERS = 8

_log = logging.getLogger(__name__)


class NotLeadingError(Exception):
    """Another may write by now."""


class Writer:
    """Works off the controller's queue."""

    def __init__(
        self,
        kube: Kube,
        controller: Controller,
        events: Events,
        leading: Callable[[], bool],
        metrics: Metrics,
    ) -> None:
        """`leading` is asked before every request that writes."""
        self._kube = kube
        self._controller = controller
        self._cache = controller.cache
        self._queue = controller.queue
        self._events = events
        self._leading = leading
        self._metrics = metrics
        # Output -> what was applied last and the generation that came of it: the API server
        # may write it in other words.
        self._applied: dict[Work, tuple[Json, int]] = {}
        # Pod -> its uid, and what an event said of it.
        self._told: dict[str, tuple[str, Transition]] = {}

    async def run(self) -> None:
        """Write for ever. Raises NotLeadingError (in a group) when that is over."""
        async with asyncio.TaskGroup() as group:
            for _ in range(WORKERS):
                group.create_task(self._work())

    async def _work(self) -> None:
        while True:
            work = await self._queue.get()
            try:
                written = await (self._status(work) if work.status else self._output(work))
            except KubeError as error:
                self._metrics.writes.labels(work.kind.name, "error").inc()
                delay = self._queue.retry(work)
                _log.warning("%s cannot be written, again in %.1f s: %s", work, delay, error)
                self._controller.failed(work, error.message, refused=error.refused)
                continue
            self._controller.failed(work, "")
            seconds = self._queue.done(work)
            if written:
                _log.debug("%s written", work)
                self._metrics.writes.labels(work.kind.name, "success").inc()
                self._metrics.queue_seconds.observe(seconds)

    async def _output(self, work: Work) -> bool:
        """Create, change or delete the output; whether there was something to do."""
        wanted, found = self._controller.wanted(work), self._cache.get(work.kind, work.key)
        if wanted is not None:
            if found and work.kind is INTERFACES and not objects.ours(found):
                # Somebody made it by hand, and knows best.
                return False
            if found and self._same(work, found, wanted):
                return False
            # What a person has made since under that name is not taken over.
            there = await self._apply(
                work.kind, wanted, force=work.kind is not INTERFACES or bool(found)
            )
            self._applied[work] = wanted, objects.generation(there)
            self._controller.applied(work, wanted, there)
            return True
        self._applied.pop(work, None)
        if not found or not objects.ours(found) or self._controller.stays(found):
            return False
        namespace, name = objects.name_of(work.key)
        self._gate()
        try:
            await self._kube.delete(work.kind, name, namespace, objects.uid(found))
        except KubeError as error:
            self._metrics.failed("delete", error)
            raise
        return True

    def _same(self, work: Work, found: Json, wanted: Json) -> bool:
        metadata = part(wanted, "metadata")
        if not objects.covers(part(found, "metadata"), metadata):
            return False
        applied, generation = self._applied.get(work, (None, 0))
        if applied is wanted and generation == objects.generation(found):
            return True
        if work.kind in (DAEMON_SETS, INTERFACES):
            return objects.covers(part(found, "spec"), part(wanted, "spec"))
        if part(found, "spec") != part(wanted, "spec"):
            return False
        # Equal: one copy of it is enough.
        found["spec"] = wanted["spec"]
        return True

    async def _status(self, work: Work) -> bool:
        """Write the status of an input; whether there was something to do."""
        if work.kind is PODS:
            self._complain(work.key)
            return False
        status = self._controller.status(work)
        found = self._cache.get(work.kind, work.key)
        if status is None or found is None:
            return False
        if same(part(found, "status"), status):
            return False
        namespace, name = objects.name_of(work.key)
        metadata: Json = {"name": name, "uid": objects.uid(found)}
        if namespace:
            metadata["namespace"] = namespace
        item: Json = {
            "apiVersion": work.kind.api_version,
            "kind": work.kind.name,
            "metadata": metadata,
            "status": status,
        }
        self._gate()
        try:
            there = await self._kube.apply(work.kind, item, objects.MANAGER, "status")
            left = left_over(part(there, "status"), status)
            if left:
                there = await self._remove(work.kind, there, left)
        except KubeError as error:
            self._metrics.failed("apply", error)
            if error.absent or error.conflict:
                # It is gone, or another of its name is there: the watch will tell.
                return False
            raise
        self._cache.put(work.kind, there)
        told = transition(part(found, "status") or None, status)
        if told:
            self._events.emit(found, told)
        return True

    async def _remove(self, kind: Kind, there: Json, left: Json) -> Json:
        """Remove from a status what others left in it; what came meanwhile is a conflict."""
        metadata = part(there, "metadata")
        change: Json = {
            "metadata": {name: metadata[name] for name in ("uid", "resourceVersion")},
            "status": left,
        }
        namespace, name = objects.name_of(objects.key(there))
        self._gate()
        return await self._kube.merge(kind, name, namespace, change, objects.MANAGER, "status")

    def _complain(self, key: str) -> None:
        """Tell once what is wrong with the annotations of a pod, which has no status of ours."""
        found, complaint = self._cache.get(PODS, key), self._controller.complaint(key)
        if found and complaint and self._told.get(key) != (objects.uid(found), complaint):
            self._told[key] = objects.uid(found), complaint
            self._events.emit(found, complaint)
        if not (found and complaint):
            self._told.pop(key, None)

    async def _apply(self, kind: Kind, item: Json, *, force: bool = True) -> Json:
        self._gate()
        try:
            there = await self._kube.apply(kind, item, objects.MANAGER, force=force)
        except KubeError as error:
            self._metrics.failed("apply", error)
            raise
        # What was written is seen at once: the next comparison must not take it for missing.
        self._cache.put(kind, there)
        return there

    def _gate(self) -> None:
        if not self._leading():
            raise NotLeadingError("the Lease was not renewed in time to write")
