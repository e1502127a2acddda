# SPDX-License-Identifier: Apache-2.0
"""HTTP for kubelet and Prometheus: /metrics, /healthz, /readyz."""

from collections.abc import Callable
from http import HTTPStatus

from headrace_http import Certificate, Guard, Reply, Shared, text
from headrace_http import Server as HTTPServer

from .metrics import Metrics


class Server:
    """Answers as long as the event loop runs; an answer that does not come is a sign, too."""

    def __init__(
        self,
        metrics: Metrics,
        unhealthy: Callable[[], str],
        leader: Callable[[], str],
        certificate: Certificate | None = None,
        guard: Guard | None = None,
    ) -> None:
        """`unhealthy` says what is wrong (or nothing), `leader` who leads (or nothing).

        With a certificate by TLS, and `guard` says who may read /metrics.
        """
        self._metrics = metrics
        self._unhealthy = unhealthy
        self._leader = leader
        self._scrape = Shared(self._make_metrics)
        self._server = HTTPServer(
            {
                "/metrics": self._get_metrics,
                "/healthz": self._get_health,
                "/readyz": self._get_readiness,
            },
            certificate,
            {"/metrics": guard} if guard is not None else None,
        )

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port, which the system chooses for 0. Raises OSError."""
        return await self._server.start(host, port)

    async def stop(self) -> None:
        """Stop listening."""
        await self._server.stop()

    async def _make_metrics(self) -> Reply:
        return Reply(
            HTTPStatus.OK, self._metrics.text(), "text/plain; version=0.0.4; charset=utf-8"
        )

    async def _get_metrics(self, _accept: str) -> Reply:
        return await self._scrape()

    async def _get_health(self, _accept: str) -> Reply:
        wrong = self._unhealthy()
        return text(HTTPStatus.SERVICE_UNAVAILABLE if wrong else HTTPStatus.OK, wrong or "ok")

    async def _get_readiness(self, _accept: str) -> Reply:
        leader = self._leader()
        if not leader:
            return text(HTTPStatus.SERVICE_UNAVAILABLE, "no leader is known yet")
        return text(HTTPStatus.OK, f"{leader} leads")
