# SPDX-License-Identifier: Apache-2.0
"""The agent's HTTP server: /metrics, /healthz and /readyz."""

import asyncio
import functools
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from http import HTTPStatus
from typing import TypeVar

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from headrace_dataplane.metrics import EngineCollector
from headrace_dataplane.state import AgentState
from headrace_http import Certificate, Guard, Reply, Server, Shared, parse_address, text

DEFAULT_ADDRESS = "127.0.0.1:9477"

LAG_SECONDS = 5.0
"""For how long a node that is ready may take to reach a newer configuration."""


_Result = TypeVar("_Result")

_OPEN_METRICS = "application/openmetrics-text"


@dataclass(frozen=True)
class Protection:
    """TLS, and who may read /metrics."""

    certificate: Certificate
    guard: Callable[[], AbstractAsyncContextManager[Guard]]
    """Entered where it is used: in the event loop of the server."""


def unready(state: AgentState) -> str:
    """Return why this node is not ready, empty when it is."""
    hello = state.hello
    if hello is None:
        return "the engine does not run"
    if not state.ready:
        return "no configuration has reached the engine yet"
    lag = time.monotonic() - state.wanted_since
    if state.active_generation != state.wanted_generation and lag > LAG_SECONDS:
        return (
            f"the engine has generation {state.active_generation} of the configuration, "
            f"not {state.wanted_generation}"
        )
    return ""


class HTTPServer:
    """Serves from a thread of its own until closed; `address` is what it listens on.

    The agent's own event loop is not in it: a probe does not wait for a long translation.
    """

    def __init__(
        self, address: str, state: AgentState, protection: Protection | None = None
    ) -> None:
        """Listen on "host:port"; port 0 takes a free one. Raises OSError and ValueError.

        Without `protection` in clear, for everybody.
        """
        host, port = parse_address(address)
        self._state = state
        self._registry = CollectorRegistry()
        self._registry.register(EngineCollector(state))
        self._scraping = ThreadPoolExecutor(1, "scrape")
        self._metrics = {
            form: Shared(functools.partial(self._scrape, form)) for form in ("", _OPEN_METRICS)
        }
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="http", daemon=True)
        self._ending = AsyncExitStack()
        self._thread.start()
        try:
            port = self._call(self._start(host, port, protection))
        except BaseException:
            self.close()
            raise
        self.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def close(self) -> None:
        """Stop listening."""
        self._call(self._ending.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._scraping.shutdown(wait=False, cancel_futures=True)

    def _call(self, work: Coroutine[None, None, _Result]) -> _Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _start(self, host: str, port: int, protection: Protection | None) -> int:
        routes = {
            "/metrics": self._get_metrics,
            "/healthz": _get_health,
            "/readyz": self._get_readiness,
        }
        if protection is None:
            server = Server(routes)
        else:
            guard = await self._ending.enter_async_context(protection.guard())
            server = Server(routes, protection.certificate, {"/metrics": guard})
        self._ending.push_async_callback(server.stop)
        return await server.start(host, port)

    async def _get_metrics(self, accept: str) -> Reply:
        return await self._metrics[_OPEN_METRICS if _OPEN_METRICS in accept else ""]()

    async def _scrape(self, form: str) -> Reply:
        encode, content_type = choose_encoder(form)
        body = await self._loop.run_in_executor(self._scraping, encode, self._registry)
        return Reply(HTTPStatus.OK, body, content_type)

    async def _get_readiness(self, _accept: str) -> Reply:
        problem = unready(self._state)
        status = HTTPStatus.SERVICE_UNAVAILABLE if problem else HTTPStatus.OK
        return text(status, problem or "ok")


async def _get_health(_accept: str) -> Reply:
    return text(HTTPStatus.OK, "ok")
