# SPDX-License-Identifier: Apache-2.0
"""HTTP for kubelet and Prometheus: /metrics, /healthz, /readyz."""

from collections.abc import Callable

from aiohttp import web

from .metrics import Metrics


class Server:
    """Answers as long as the event loop runs; an answer that does not come is a sign, too."""

    def __init__(
        self,
        metrics: Metrics,
        sick: Callable[[], str],
        leader: Callable[[], str],
    ) -> None:
        """`sick` says what is wrong (or nothing), `leader` who leads (or nothing)."""
        self._metrics = metrics
        self._sick = sick
        self._leader = leader
        application = web.Application()
        application.add_routes(
            [
                web.get("/metrics", self._get_metrics),
                web.get("/healthz", self._get_health),
                web.get("/readyz", self._get_readiness),
            ]
        )
        self._runner = web.AppRunner(application, access_log=None)

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port, which the system chooses for 0. Raises OSError."""
        await self._runner.setup()
        site = web.TCPSite(self._runner, host or None, port)
        await site.start()
        address = self._runner.addresses[0]
        return int(address[1])

    async def stop(self) -> None:
        """Stop listening."""
        await self._runner.cleanup()

    async def _get_metrics(self, _request: web.Request) -> web.Response:
        return web.Response(
            body=self._metrics.text(),
            headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
        )

    async def _get_health(self, _request: web.Request) -> web.Response:
        wrong = self._sick()
        return web.Response(status=503 if wrong else 200, text=(wrong or "ok") + "\n")

    async def _get_readiness(self, _request: web.Request) -> web.Response:
        leader = self._leader()
        if not leader:
            return web.Response(status=503, text="no leader is known yet\n")
        return web.Response(text=f"{leader} leads\n")
