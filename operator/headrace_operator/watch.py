# SPDX-License-Identifier: Apache-2.0
"""What kopf does here: it watches. Every event of the kinds goes to the event loop, that is all.

kopf is the operator's framework for what is hard to do right at the API server: logging in, and
watching many kinds with reconnection and back-off. Each kind has one handler (`on.event`), which
sees objects as they are. The rest of kopf is for operators whose every object is handled alone, and
is off:

- patches, progress and last-handled annotations on objects (`on.create`, `on.update`, `on.field`):
  one input changes outputs of many others, so all go through one compiler and one queue
  (`controller`, `workqueue`), and a write is what differs from what is desired (`writer`);
- finalizers (`on.delete`): what the operator makes goes by its owner, and no object hangs where no
  operator runs;
- daemons, timers and indices: the cache is there for that, which lists now and then, too, as no
  watch tells of all that vanished while it was away (`cache`, `resync`);
- peering: it is no lock, and a Lease with a deadline for writes is (`election`);
- events about handlers: they would be about every object (`events`).

kopf takes the process's signals and, when it ends, cancels every task of its event loop; so it
runs in a thread with a loop of its own, and is started again when it ends. It watches either all
namespaces or the ones named; so the kinds of the operator's namespace have a second one.
"""

import asyncio
import itertools
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace
from typing import Any

import kopf

from headrace_api import Json
from headrace_kube import Kind

#: (kind, type, object); the type is None where kopf has listed, else ADDED, MODIFIED or DELETED.
Feed = Callable[[Kind, str | None, Json], None]

_LONGEST_DELAY = 30.0

_log = logging.getLogger(__name__)


class Watch:
    """A kopf operator that watches some kinds in one namespace, or in all (None)."""

    def __init__(self, kinds: Collection[Kind], namespace: str | None, feed: Feed) -> None:
        """`feed` is called in the event loop in which `start` is called."""
        self.kinds = kinds
        self._namespace = namespace
        self._feed = feed
        self._loop: asyncio.AbstractEventLoop | None = None
        # Of the watching thread, for the loop: to wake it for each would be dear.
        self._seen: deque[tuple[Kind, str | None, Json]] = deque()
        self._over = threading.Event()
        self._again = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"watch {namespace}", daemon=True)

    def start(self) -> None:
        """Start watching; what exists comes first."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def restart(self) -> None:
        """List and watch anew."""
        self._again.set()

    def stop(self) -> None:
        """Stop watching, and wait a moment for that."""
        self._over.set()
        self._again.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def _run(self) -> None:
        delay = 1.0
        while not self._over.is_set():
            began = time.monotonic()
            self._again.clear()
            try:
                asyncio.run(self._watch())
            except Exception:
                _log.exception("kopf ended")
            if time.monotonic() - began > _LONGEST_DELAY:
                delay = 1.0
            if not self._again.is_set():
                _log.warning("watching again in %.0f s", delay)
                self._over.wait(delay)
                delay = min(2 * delay, _LONGEST_DELAY)

    async def _watch(self) -> None:
        registry = kopf.OperatorRegistry()
        kopf.on.login(registry=registry)(_login)
        for kind in self.kinds:
            group, _, version = kind.api_version.rpartition("/")
            kopf.on.event(group, version, kind.plural, registry=registry)(self._handler(kind))
        await kopf.operator(
            registry=registry,
            settings=_settings(),
            standalone=True,
            clusterwide=self._namespace is None,
            namespaces=[] if self._namespace is None else [self._namespace],
            stop_flag=self._again,
        )

    def _handler(self, kind: Kind) -> Callable[..., Any]:
        loop, feed = self._loop, self._feed
        if loop is None:
            raise RuntimeError("start first")

        seen = self._seen

        def deliver() -> None:
            try:
                while seen:
                    feed(*seen.popleft())
            finally:
                if seen:
                    loop.call_soon(deliver)

        async def see(event: dict[str, Any], **_: object) -> None:
            seen.append((kind, event["type"], event["object"]))
            # Who finds more than this one there is told already, or delivers it now.
            if len(seen) == 1:
                loop.call_soon_threadsafe(deliver)

        return see


class _Endless(Iterable[float]):
    """Seconds between attempts; kopf gives up when they end, so they do not."""

    def __iter__(self) -> Iterator[float]:
        return itertools.chain((1, 2, 5), itertools.repeat(10))


class _NoState(kopf.DiffBaseStorage, kopf.ProgressStorage):
    """Keeps nothing on objects, and spares a copy of each of them at every event."""

    def build(self, **_: object) -> Any:
        return {}

    def fetch(self, **_: object) -> None:
        return None

    def store(self, **_: object) -> None:
        return None

    def purge(self, **_: object) -> None:
        return None

    def touch(self, **_: object) -> None:
        return None

    def clear(self, **kwargs: Any) -> Any:
        return kwargs["essence"]


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    # No reads of CustomResourceDefinitions and Namespaces.
    settings.scanning.disabled = True
    settings.watching.chunk_size = 500
    settings.watching.server_timeout = 300
    settings.watching.client_timeout = 310
    settings.watching.connect_timeout = 30
    # A task for each object that had an event lives for so long after it.
    settings.queueing.idle_timeout = 0.5
    settings.networking.error_backoffs = _Endless()
    state = _NoState()
    settings.persistence.diffbase_storage = state
    settings.persistence.progress_storage = state
    return settings


async def _login(**kwargs: Any) -> kopf.ConnectionInfo | None:
    """Log in as headrace_kube does: as the pod, unless a kubeconfig is named."""
    if "KUBECONFIG" not in os.environ and "KUBERNETES_SERVICE_HOST" in os.environ:
        pod = kopf.login_with_service_account(**kwargs)
        # kopf names the API server by DNS, which a cluster may lack, or lose.
        host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
        host = f"[{host}]" if ":" in host else host
        return pod and replace(pod, server=f"https://{host}:{port}")
    return kopf.login_with_kubeconfig(**kwargs)
