# SPDX-License-Identifier: Apache-2.0
"""The server of metrics and probes, against who would fill it up. Real sockets."""

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import AsyncIterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from headrace_dataplane.http import HTTPServer, Protection
from headrace_dataplane.state import AgentState
from headrace_http import Certificate, Guard, Reply, Server, Shared, parse_address, server, text
from tests.unit.tls import certificate

REQUEST = b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n"


async def health(_accept: str) -> Reply:
    return text(HTTPStatus.OK, "ok")


@contextlib.asynccontextmanager
async def serving(**routes: Any) -> AsyncIterator[int]:
    it = Server({"/healthz": health} | {f"/{name}": route for name, route in routes.items()})
    port = await it.start("127.0.0.1", 0)
    try:
        yield port
    finally:
        await it.stop()


async def get(port: int, path: str, source: str = "127.0.0.1") -> tuple[int, bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
    writer.write(REQUEST % path.encode())
    return await answer(reader, writer)


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[int, bytes]:
    async with asyncio.timeout(30):
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return int(head.split()[1]) if head else 0, body


def test_idle_connections_do_not_keep_a_probe_or_a_scrape_out() -> None:
    agent = HTTPServer("127.0.0.1:0", AgentState())
    threads = threading.active_count()
    port = parse_address(agent.address)[1]
    with contextlib.ExitStack() as stack:
        for number in range(500):
            idle = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            # Half of them began a request.
            if number % 2:
                idle.sendall(b"GET /metrics HTTP/1.1\r\nX: ")
        assert asyncio.run(get(port, "/healthz")) == (200, b"ok\n")
        status, body = asyncio.run(get(port, "/metrics"))
        assert status == 200
        assert b"headrace_engine_up 0.0" in body
        # One thread scrapes.
        assert threading.active_count() <= threads + 1
    agent.close()


def test_who_takes_no_answer_does_not_keep_a_probe_out() -> None:
    async def much(_accept: str) -> Reply:
        return Reply(HTTPStatus.OK, bytes(1 << 24))

    async def run() -> None:
        async with serving(metrics=much) as port:
            greedy = []
            for _ in range(2 * server.CONNECTIONS):
                reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1)
                writer.write(REQUEST % b"/metrics")
                greedy.append((reader, writer))
            assert await get(port, "/healthz") == (200, b"ok\n")
            assert len(established(port)) <= server.CONNECTIONS + 1
            for _, writer in greedy:
                writer.close()

    asyncio.run(run())


def established(port: int) -> list[str]:
    """Established connections of the server, from the kernel's table."""
    local = f"0100007F:{port:04X}"
    with open("/proc/net/tcp", encoding="ascii") as table:
        return [line for line in table if line.split()[1] == local and line.split()[3] == "01"]


def test_a_crowd_from_one_address_pushes_out_its_own() -> None:
    asked, go = asyncio.Event(), asyncio.Event()

    async def slow(_accept: str) -> Reply:
        asked.set()
        await go.wait()
        return text(HTTPStatus.OK, "scraped")

    async def run() -> None:
        async with serving(metrics=slow) as port:
            scrape = asyncio.create_task(get(port, "/metrics", source="127.0.0.2"))
            await asked.wait()
            crowd = []
            for _ in range(3 * server.CONNECTIONS):
                crowd.append(await asyncio.open_connection("127.0.0.1", port))
                crowd[-1][1].write(REQUEST % b"/metrics")
            assert await get(port, "/healthz", source="127.0.0.3") == (200, b"ok\n")
            go.set()
            assert await scrape == (200, b"scraped\n")
            for _, writer in crowd:
                writer.close()

    asyncio.run(run())


def test_a_sender_in_drops_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "REQUEST_SECONDS", 0.2)

    async def run() -> None:
        async with serving() as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)

            async def drip() -> None:
                with contextlib.suppress(OSError):
                    while True:
                        writer.write(b"G")
                        await writer.drain()
                        await asyncio.sleep(0.01)

            dripping = asyncio.create_task(drip())
            with contextlib.suppress(ConnectionError):
                async with asyncio.timeout(30):
                    assert await reader.read() == b""
            dripping.cancel()
            writer.close()

    asyncio.run(run())


def test_a_reader_in_drops_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "ANSWER_SECONDS", 0.2)
    size = 1 << 26

    async def much(_accept: str) -> Reply:
        return Reply(HTTPStatus.OK, bytes(size))

    async def run() -> None:
        async with serving(metrics=much) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
            writer.write(REQUEST % b"/metrics")
            while established(port):
                await asyncio.sleep(0.01)
            received = 0
            with contextlib.suppress(ConnectionError):
                while data := await reader.read(1 << 20):
                    received += len(data)
            assert received < size
            writer.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /healthz HTTP/1.1\r\nX: " + bytes(1 << 16) + b"\r\n\r\n", 431),
        (b"POST /healthz HTTP/1.1\r\n\r\n", 405),
        (b"GET /else HTTP/1.1\r\n\r\n", 404),
        (b"nonsense\r\n\r\n", 400),
        (b"GET /healthz?verbose HTTP/1.0\r\n\r\n", 200),
    ],
)
def test_what_is_asked_is_checked(request_: bytes, status: int) -> None:
    async def run() -> None:
        async with serving() as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request_)
            with contextlib.suppress(ConnectionError):
                assert (await answer(reader, writer))[0] == status

    asyncio.run(run())


def test_one_scrape_serves_all_who_ask_meanwhile() -> None:
    made = 0
    now = 0.0

    async def run() -> None:
        go = asyncio.Event()

        async def make() -> Reply:
            nonlocal made, now
            made += 1
            await go.wait()
            now += 2
            return text(HTTPStatus.OK, str(made))

        shared = Shared(make, lambda: now)
        waiting = [asyncio.create_task(shared()) for _ in range(10)]
        await asyncio.sleep(0)
        # Who leaves does not spoil it for the others.
        waiting.pop().cancel()
        go.set()
        assert {reply.body for reply in await asyncio.gather(*waiting)} == {b"1\n"}
        wait(1.9)
        assert (await shared()).body == b"1\n"
        wait(0.1)
        assert (await shared()).body == b"2\n"

    def wait(seconds: float) -> None:
        nonlocal now
        now += seconds

    asyncio.run(run())


def test_tls_keeps_out_whom_the_guard_does_not_know(tmp_path: Path) -> None:
    certificate(tmp_path)

    async def guard(authorization: str) -> Reply | None:
        return None if authorization == "Bearer good" else text(HTTPStatus.FORBIDDEN, "no")

    @contextlib.asynccontextmanager
    async def guarded() -> AsyncIterator[Guard]:
        yield guard

    agent = HTTPServer("127.0.0.1:0", AgentState(), Protection(Certificate(tmp_path), guarded))
    address = parse_address(agent.address)

    def ask(path: str, authorization: str = "-") -> bytes:
        trusted = ssl.create_default_context(cafile=tmp_path / "tls.crt")
        plain = socket.create_connection(address)
        with trusted.wrap_socket(plain, server_hostname="metrics") as connection:
            head = f"GET {path} HTTP/1.1\r\nAuthorization: {authorization}\r\n\r\n"
            connection.sendall(head.encode())
            with connection.makefile("rb") as stream:
                return stream.read().split(b"\r\n")[0]

    with contextlib.ExitStack() as stack:
        # They do not begin to greet.
        for _ in range(2 * server.CONNECTIONS):
            stack.enter_context(socket.create_connection(address))
        assert ask("/healthz") == b"HTTP/1.1 200 OK"
        assert ask("/metrics") == b"HTTP/1.1 403 Forbidden"
        assert ask("/metrics", "Bearer good") == b"HTTP/1.1 200 OK"
        # A certificate that was renewed is taken without a restart.
        certificate(tmp_path)
        assert ask("/metrics", "Bearer good") == b"HTTP/1.1 200 OK"
        # In clear nothing is said.
        plain = stack.enter_context(socket.create_connection(address))
        plain.sendall(REQUEST % b"/healthz")
        with contextlib.suppress(ConnectionError):
            assert b"HTTP" not in plain.recv(100)
    agent.close()
