# SPDX-License-Identifier: Apache-2.0
"""Events for people (events.k8s.io/v1), never more than the API server wants to have."""

import asyncio
import logging
import time
import uuid
from datetime import UTC, datetime

from headrace_api import Json
from headrace_api.raw import part, text
from headrace_kube import EVENTS, Kube, KubeError

from . import objects
from .metrics import Metrics
from .render import Transition

_CONTROLLER = "headrace.dev/operator"
#: Events at once, and events a second in the long run; the rest is dropped.
_BURST = 100
_RATE = 5.0
#: Cluster-scoped objects have their events there.
_DEFAULT_NAMESPACE = "default"
_NAME_LENGTH = 253
_NOTE_BYTES = 1024

_log = logging.getLogger(__name__)


class Events:
    """Sends what `emit` is given, in the background."""

    def __init__(self, kube: Kube, instance: str, metrics: Metrics) -> None:
        self._kube = kube
        self._instance = instance[:128]
        self._metrics = metrics
        self._queue: asyncio.Queue[Json] = asyncio.Queue(_BURST)
        self._tokens = float(_BURST)
        self._counted = time.monotonic()

    def emit(self, item: Json, what: Transition) -> None:
        """Tell of the object; dropped when there have been too many."""
        now = time.monotonic()
        self._tokens = min(_BURST, self._tokens + (now - self._counted) * _RATE)
        self._counted = now
        if self._tokens >= 1 and not self._queue.full():
            self._tokens -= 1
            self._queue.put_nowait(self._event(item, what))

    async def run(self) -> None:
        """Send events for ever."""
        while True:
            event = await self._queue.get()
            try:
                await self._kube.create(EVENTS, event)
                self._metrics.writes.labels(EVENTS.name, "success").inc()
            except KubeError as error:
                if error.terminating:
                    # It goes with its object.
                    continue
                self._metrics.writes.labels(EVENTS.name, "error").inc()
                self._metrics.failed("create", error)
                _log.warning("event of %s: %s", text(event.get("note")), error)
            except Exception:
                # Nobody is worse off for an event less.
                self._metrics.writes.labels(EVENTS.name, "error").inc()
                _log.exception("event of %s", text(event.get("note")))

    def _event(self, item: Json, what: Transition) -> Json:
        metadata = part(item, "metadata")
        namespace = text(metadata.get("namespace"))
        regarding: Json = {name: item[name] for name in ("apiVersion", "kind")}
        regarding |= {"name": metadata["name"], "uid": objects.uid(item)}
        if namespace:
            regarding["namespace"] = namespace
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        return {
            "apiVersion": EVENTS.api_version,
            "kind": EVENTS.name,
            "metadata": {
                "name": _name(text(metadata.get("name"))),
                "namespace": namespace or _DEFAULT_NAMESPACE,
            },
            "eventTime": now,
            "reportingController": _CONTROLLER,
            "reportingInstance": self._instance,
            "action": "Reconcile",
            "type": what.type,
            "reason": what.reason,
            "note": what.note.encode()[:_NOTE_BYTES].decode(errors="ignore"),
            "regarding": regarding,
        }


def _name(of: str) -> str:
    """A name of its own for an event, as an object's name may be; that of a pod may be as long."""
    tail = f".{uuid.uuid4().hex[:16]}"
    return of[: _NAME_LENGTH - len(tail)].rstrip("-.") + tail
