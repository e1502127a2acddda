# SPDX-License-Identifier: Apache-2.0
"""A server of a few paths by GET, bounded in connections, time and memory.

Everybody on the network may connect. So each connection is one request, with a time limit for
asking and one for taking the answer; when all are taken the oldest of the address that has most is
closed, those that have not asked yet first: who asks at once, as probes do, always gets through.
"""

import asyncio
import functools
import logging
import socket
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from http import HTTPStatus

from .certificate import Certificate

log = logging.getLogger(__name__)

CONNECTIONS = 64
REQUEST_BYTES = 8192
REQUEST_SECONDS = 5.0
ANSWER_SECONDS = 10.0
_CHUNK_BYTES = 1 << 16
_BACKLOG = 1024


def parse_address(text: str) -> tuple[str, int]:
    """Return host and port of "host:port" or "[v6]:port". Raises ValueError."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"{text!r} is not host:port")
    return host.removeprefix("[").removesuffix("]"), int(port)


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer."""

    status: HTTPStatus
    body: bytes
    content_type: str = "text/plain; charset=utf-8"


def text(status: HTTPStatus, words: str) -> Reply:
    """One line for people."""
    return Reply(status, f"{words}\n".encode())


Route = Callable[[str], Awaitable[Reply]]
"""Answers; it is given the header Accept."""

Guard = Callable[[str], Awaitable[Reply | None]]
"""Is given the header Authorization; refuses with a Reply."""


@dataclass(slots=True, eq=False)
class _Connection:
    socket: socket.socket
    peer: str
    asked: bool = False
    transport: asyncio.Transport | None = None
    task: asyncio.Task[None] | None = None


class Server:
    """Serves `routes` (path -> how to answer) on the running event loop."""

    def __init__(
        self,
        routes: Mapping[str, Route],
        certificate: Certificate | None = None,
        guards: Mapping[str, Guard] | None = None,
    ) -> None:
        """With a certificate by TLS; `guards` say, by path, whom to refuse."""
        self._routes = routes
        self._certificate = certificate
        self._guards = guards or {}
        self._open: dict[_Connection, None] = {}
        """By age."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener: socket.socket | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port, which the system chooses for 0. Raises OSError."""
        both = not host.strip(":") and socket.has_dualstack_ipv6()
        if not host:
            host = "::" if both else "0.0.0.0"  # noqa: S104
        loop = asyncio.get_running_loop()
        (family, *_, address), *_ = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        listener = socket.create_server(
            address, family=family, backlog=_BACKLOG, dualstack_ipv6=both
        )
        listener.setblocking(False)
        self._listener = listener
        self._keep(self._accept(listener))
        return int(listener.getsockname()[1])

    async def stop(self) -> None:
        """Stop listening, and end what is under way."""
        tasks = [*self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._listener is not None:
            self._listener.close()

    def _keep(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, address = await loop.sock_accept(listener)
            except OSError as error:
                # No file descriptor is free, or the client has gone already.
                log.warning("accepting a connection: %s", error)
                await asyncio.sleep(0.1)
                continue
            if len(self._open) >= CONNECTIONS:
                self._make_room()
            connection = _Connection(accepted, str(address[0]))
            self._open[connection] = None
            connection.task = self._keep(self._serve(connection))
            connection.task.add_done_callback(functools.partial(self._closed, connection))
            # The others' turn: as many connections may be waiting as anybody likes.
            await asyncio.sleep(0)

    def _make_room(self) -> None:
        peer = Counter(connection.peer for connection in self._open).most_common(1)[0][0]
        crowd = [connection for connection in self._open if connection.peer == peer]
        victim = next((each for each in crowd if not each.asked), crowd[0])
        del self._open[victim]
        if victim.task is not None:
            victim.task.cancel()

    def _closed(self, connection: _Connection, _task: asyncio.Task[None]) -> None:
        self._open.pop(connection, None)
        # A task that was cancelled before it began has closed nothing.
        if connection.transport is None:
            connection.socket.close()

    async def _serve(self, connection: _Connection) -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(REQUEST_BYTES, loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                tls = self._certificate.context() if self._certificate is not None else None
                connection.transport, _ = await loop.connect_accepted_socket(
                    lambda: protocol,
                    connection.socket,
                    ssl=tls,
                    ssl_handshake_timeout=REQUEST_SECONDS if tls is not None else None,
                )
                writer = asyncio.StreamWriter(connection.transport, protocol, reader, loop)
                try:
                    head = await reader.readuntil(b"\r\n\r\n")
                except asyncio.LimitOverrunError:
                    head = b""
            connection.asked = True
            async with asyncio.timeout(ANSWER_SECONDS):
                await _send(writer, await self._answer(head))
                writer.close()
                await writer.wait_closed()
        except (OSError, EOFError, TimeoutError):
            # A client that left or is too slow is none of our business.
            pass
        except Exception:
            log.exception("answering %s", connection.peer)
        finally:
            if connection.transport is not None:
                connection.transport.abort()

    async def _answer(self, head: bytes) -> Reply:
        if not head:
            return text(
                HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"{REQUEST_BYTES} bytes at most"
            )
        first, *lines = head.decode("latin-1").split("\r\n")
        method, _, rest = first.partition(" ")
        target, _, version = rest.partition(" ")
        if not version.startswith("HTTP/1."):
            return text(HTTPStatus.BAD_REQUEST, "this is no request of HTTP/1.1")
        if method != "GET":
            return text(HTTPStatus.METHOD_NOT_ALLOWED, "GET, nothing else")
        headers = {
            name.strip().lower(): value.strip()
            for name, colon, value in (line.partition(":") for line in lines)
            if colon
        }
        path = target.partition("?")[0]
        route = self._routes.get(path)
        if route is None:
            return text(HTTPStatus.NOT_FOUND, ", ".join(self._routes))
        guard = self._guards.get(path)
        refusal = await guard(headers.get("authorization", "")) if guard is not None else None
        return refusal or await route(headers.get("accept", ""))


async def _send(writer: asyncio.StreamWriter, reply: Reply) -> None:
    """Send in pieces: a reader that is slow holds up one, not a copy of the whole."""
    head = (
        f"HTTP/1.1 {reply.status.value} {reply.status.phrase}\r\n"
        f"Content-Type: {reply.content_type}\r\n"
        f"Content-Length: {len(reply.body)}\r\n"
        "Connection: close\r\n"
    )
    if reply.status == HTTPStatus.UNAUTHORIZED:
        head += "WWW-Authenticate: Bearer\r\n"
    writer.write(f"{head}\r\n".encode())
    body = memoryview(reply.body)
    for start in range(0, len(body), _CHUNK_BYTES):
        writer.write(body[start : start + _CHUNK_BYTES])
        await writer.drain()


class Shared:
    """An answer that takes time to make: one is made at a time, for all who ask meanwhile.

    And it is given out again for as long as it took to make: however often somebody asks, half of
    a CPU at most is busy with it.
    """

    def __init__(
        self, make: Callable[[], Awaitable[Reply]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`clock` is in seconds and does not go back."""
        self._make = make
        self._clock = clock
        self._task: asyncio.Task[Reply] | None = None
        self._stale_at = 0.0

    async def __call__(self) -> Reply:
        """Return the answer. Raises what `make` raises."""
        task = self._task
        if task is None or (task.done() and self._clock() >= self._stale_at):
            task = self._task = asyncio.ensure_future(self._timed())
        # Who leaves does not take the answer away from the others.
        return await asyncio.shield(task)

    async def _timed(self) -> Reply:
        start = self._clock()
        try:
            return await self._make()
        finally:
            end = self._clock()
            self._stale_at = end + (end - start)
