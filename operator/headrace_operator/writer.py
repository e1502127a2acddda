# SPDX-License-Identifier: Apache-2.0
"""Brings the API server to what is desired: compares with what is watched, writes what differs."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import TypeVar

from headrace_api import Json
from headrace_api.raw import part
from headrace_kube import NODES, PODS, Kind, Kube, KubeError

from . import objects
from .controller import Controller
from .events import Events
from .kinds import HANDLERS
from .metrics import Metrics
from .render import Transition, left_over, same, transition
from .work import Work

_log = logging.getLogger(__name__)

Answer = TypeVar("Answer")


class NotLeadingError(Exception):
    """Another may write by now."""


class Writer:
    """Works off the controller's queue."""

    def __init__(
        self,
        kube: Kube,
        controller: Controller,
        events: Events,
        left: Callable[[], float],
        metrics: Metrics,
    ) -> None:
        """`left`: seconds for which nobody else may write; asked before every request."""
        self._kube = kube
        self._controller = controller
        self._cache = controller.cache
        self._queue = controller.queue
        self._events = events
        self._left = left
        self._metrics = metrics
        # Pod -> its uid, and its last event.
        self._pod_events: dict[str, tuple[str, Transition]] = {}

    async def run(self) -> None:
        """Write for ever. Raises NotLeadingError (in a group) when that is over.

        Cancelled, it returns when what is on its way has ended.
        """
        async with asyncio.TaskGroup() as group:
            while True:
                # The queue says how many there may be at a time.
                group.create_task(self._work(await self._queue.get()))

    async def _work(self, work: Work) -> None:
        try:
            written = await (self._status(work) if work.status else self._output(work))
            self._controller.failed(work, "")
        except NotLeadingError:
            raise
        except Exception as error:
            self._metrics.writes.labels(work.kind.name, "error").inc()
            delay = self._queue.retry(work)
            if isinstance(error, KubeError):
                _log.warning("%s cannot be written, again in %.1f s: %s", work, delay, error)
                self._report(work, error)
            else:
                # A mistake of ours with one object is no reason to leave all others alone.
                _log.error("%s: unexpected, again in %.1f s", work, delay, exc_info=error)
            return
        seconds = self._queue.done(work)
        if written:
            _log.debug("%s written", work)
            self._metrics.writes.labels(work.kind.name, "success").inc()
            self._metrics.queue_seconds.observe(seconds)

    def _report(self, work: Work, error: KubeError) -> None:
        try:
            self._controller.failed(work, error.message, refused=error.refused)
        except Exception:
            _log.exception("%s: unexpected", work)

    async def _output(self, work: Work) -> bool:
        """Create, change or delete the output; whether there was something to do."""
        if work.kind is NODES:
            return await self._admit(work.key)
        desired, found = self._controller.desired(work), self._cache.get(work.kind, work.key)
        if desired is not None:
            shared = HANDLERS[work.kind].shared
            if found and shared and not objects.is_owned(found):
                # Somebody made it by hand, and knows best.
                return False
            if found and self._controller.is_written(work, found):
                return False
            # What a person has made since under that name is not taken over.
            there = await self._apply(work.kind, desired, force=bool(found) or not shared)
            self._controller.applied(work, desired, there)
            return True
        if not found or not objects.is_owned(found) or self._controller.is_retained(work, found):
            return False
        namespace, name = objects.name_of(work.key)
        uid = objects.uid(found)
        await self._send(
            "delete",
            lambda seconds: self._kube.delete(work.kind, name, namespace, uid, seconds=seconds),
        )
        return True

    async def _admit(self, node: str) -> bool:
        """Let pods on a node whose agent is ready; whether there was something to do."""
        change = self._controller.admission(node)
        if change is None:
            return False
        there = await self._send(
            "patch",
            lambda seconds: self._kube.merge(
                NODES, node, "", change, objects.MANAGER, seconds=seconds
            ),
        )
        self._cache.put(NODES, there)
        _log.info("node %s: its agent is ready: the startup taint is removed", node)
        return True

    async def _status(self, work: Work) -> bool:
        """Write the status of an input; whether there was something to do."""
        if work.kind is PODS:
            self._emit_pod_event(work.key)
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
        try:
            there = await self._send(
                "apply",
                lambda seconds: self._kube.apply(
                    work.kind, item, objects.MANAGER, "status", seconds=seconds
                ),
            )
            left = left_over(part(there, "status"), status)
            if left:
                there = await self._remove(work.kind, there, left)
        except KubeError as error:
            if error.absent or error.conflict:
                # It is gone, or another of its name is there: the watch will tell.
                return False
            raise
        self._cache.put(work.kind, there)
        event = transition(part(found, "status") or None, status)
        if event:
            self._events.emit(found, event)
        return True

    async def _remove(self, kind: Kind, there: Json, left: Json) -> Json:
        """Remove from a status what others left in it; what came meanwhile is a conflict."""
        metadata = part(there, "metadata")
        change: Json = {
            "metadata": {name: metadata[name] for name in ("uid", "resourceVersion")},
            "status": left,
        }
        namespace, name = objects.name_of(objects.key(there))
        return await self._send(
            "patch",
            lambda seconds: self._kube.merge(
                kind, name, namespace, change, objects.MANAGER, "status", seconds=seconds
            ),
        )

    def _emit_pod_event(self, key: str) -> None:
        """Tell once what is wrong with the annotations of a pod, which has no status of ours."""
        found, event = self._cache.get(PODS, key), self._controller.pod_event(key)
        if found and event and self._pod_events.get(key) != (objects.uid(found), event):
            self._pod_events[key] = objects.uid(found), event
            self._events.emit(found, event)
        if not (found and event):
            self._pod_events.pop(key, None)

    async def _apply(self, kind: Kind, item: Json, *, force: bool = True) -> Json:
        there = await self._send(
            "apply",
            lambda seconds: self._kube.apply(
                kind, item, objects.MANAGER, force=force, seconds=seconds
            ),
        )
        # What was written is seen at once: the next comparison must not take it for missing.
        self._cache.put(kind, there)
        return there

    async def _send(
        self, operation: str, send: Callable[[float], Coroutine[None, None, Answer]]
    ) -> Answer:
        """Send a request that writes, and have it over before another may write."""
        left = self._left()
        if left <= 0:
            raise NotLeadingError("the Lease was not renewed in time to write")
        request = asyncio.create_task(_in_time(left, send))
        try:
            return await asyncio.shield(request)
        except asyncio.CancelledError:
            if self._left() <= 0:
                request.cancel()
            await asyncio.wait((request,))
            if not request.cancelled():
                request.exception()
            raise
        except KubeError as error:
            self._metrics.failed(operation, error)
            raise


async def _in_time(
    seconds: float, send: Callable[[float], Coroutine[None, None, Answer]]
) -> Answer:
    try:
        async with asyncio.timeout(seconds):
            return await send(seconds)
    except TimeoutError as error:
        message = f"the API server did not answer in {seconds:.1f} s"
        raise KubeError(0, "Timeout", message) from error
