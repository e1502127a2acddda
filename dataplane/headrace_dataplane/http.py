# SPDX-License-Identifier: Apache-2.0
"""The agent's HTTP server: /metrics, /healthz and /readyz."""

import logging
import socket
import sys
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from headrace_dataplane.metrics import EngineCollector
from headrace_dataplane.state import AgentState

log = logging.getLogger(__name__)

DEFAULT_ADDRESS = "127.0.0.1:9477"

LAG_SECONDS = 5.0
"""For how long a node that is ready may take to reach a newer configuration."""


def parse_address(text: str) -> tuple[str, int]:
    """Return host and port of "host:port" or "[v6]:port". Raises ValueError."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"{text!r} is not host:port")
    return host.removeprefix("[").removesuffix("]"), int(port)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, host: str, port: int, state: AgentState) -> None:
        # IPv6 sockets serve "::" for both families, and IPv4 addresses need an IPv4 one.
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.state = state
        self.registry = CollectorRegistry()
        self.registry.register(EngineCollector(state))
        super().__init__((host, port), _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """Say in a line what went wrong; a client that did not wait is none of our business."""
        error = sys.exception()
        if not isinstance(error, ConnectionError):
            log.error("request from %s: %s", client_address, error)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = 30.0

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/metrics":
            encode, content_type = choose_encoder(self.headers.get("Accept", ""))
            self._reply(HTTPStatus.OK, encode(self.server.registry), content_type)
        elif path == "/healthz":
            self._reply(HTTPStatus.OK, b"ok\n")
        elif path == "/readyz":
            problem = unready(self.server.state)
            status = HTTPStatus.SERVICE_UNAVAILABLE if problem else HTTPStatus.OK
            self._reply(status, f"{problem or 'ok'}\n".encode())
        else:
            self._reply(HTTPStatus.NOT_FOUND, b"/metrics, /healthz, /readyz\n")

    def _reply(
        self, status: HTTPStatus, body: bytes, content_type: str = "text/plain; charset=utf-8"
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Keep requests out of the log: probes come every few seconds."""


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
    """Serves from a thread of its own until closed; `address` is what it listens on."""

    def __init__(self, address: str, state: AgentState) -> None:
        """Listen on "host:port"; port 0 takes a free one. Raises OSError and ValueError."""
        self._server = _Server(*parse_address(address), state)
        host, port = self._server.server_address[:2]
        self.address = f"[{host!s}]:{port}" if ":" in str(host) else f"{host!s}:{port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
