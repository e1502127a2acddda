# SPDX-License-Identifier: Apache-2.0
"""The socket of the node agent, with its predecessor and its successor beside it."""

import asyncio
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path

from headrace_api import Json
from headrace_dataplane.node.cni import Request
from headrace_dataplane.node.server import serve


def agent(path: Path, name: str) -> asyncio.Task[None]:
    async def answer(request: Request, sandbox: int) -> Json | None:
        return {"agent": name, "namespace": sandbox >= 0}

    return asyncio.create_task(serve(path, answer))


def ask(path: Path) -> str:
    """Who answers at the path; empty: nobody."""
    body = b"CNI_COMMAND=STATUS\0\0" + b'{"cniVersion": "1.1.0", "name": "pods"}'
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
            peer.settimeout(30)
            peer.connect(str(path))
            peer.sendall(f"{len(body)}\n".encode() + body)
            text = peer.makefile("rb").read().split(b"\n", 2)[2]
    except OSError:
        return ""
    return str(json.loads(text)["agent"])


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not await asyncio.to_thread(condition):
            await asyncio.sleep(0.01)


async def end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait((task,))


def test_an_agent_that_ends_late_leaves_the_socket_to_its_successor(tmp_path: Path) -> None:
    path = tmp_path / "node" / "cni.sock"

    async def run() -> None:
        first = agent(path, "first")
        await until(lambda: ask(path) == "first")
        second = agent(path, "second")
        await until(lambda: ask(path) == "second")
        await end(first)
        assert await asyncio.to_thread(ask, path) == "second"
        await end(second)
        assert await asyncio.to_thread(ask, path) == ""

    asyncio.run(run())
    assert os.listdir(path.parent) == []


def test_what_an_agent_that_was_killed_left_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "cni.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as killed:
        killed.bind(str(path))

    async def run() -> None:
        only = agent(path, "only")
        await until(lambda: ask(path) == "only")
        assert path.stat().st_mode & 0o777 == 0o600
        await end(only)

    asyncio.run(run())
