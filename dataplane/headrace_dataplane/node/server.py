# SPDX-License-Identifier: Apache-2.0
"""Serves the CNI plugin at a Unix socket; headrace-cni.c has the other half."""

import asyncio
import json
import logging
import os
import socket
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

from headrace_api import Json
from headrace_dataplane.node.cni import CNIError, Code, Request, parse

log = logging.getLogger(__name__)

Answer = Callable[[Request, int], Awaitable[Json | None]]

_MAX_BYTES = 2 << 20
_RECEIVE_SECONDS = 10.0


async def serve(path: Path, answer: Answer) -> None:
    """Serve until cancelled; `answer` gets the request and an open network namespace, or -1.

    The path is taken from an earlier agent at once, and left to a later one at the end: of a pod
    that was deleted by force the agent may run beside its successor.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.setblocking(False)
        made = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
        listener.bind(str(made))
        made.chmod(0o600)
        listener.listen(128)
        ours = made.stat()
        made.rename(path)
        log.info("serving the CNI plugin at %s", path)
        try:
            async with asyncio.TaskGroup() as tasks:
                while True:
                    peer, _ = await loop.sock_accept(listener)
                    tasks.create_task(_talk(peer, answer))
        finally:
            with suppress(FileNotFoundError):
                if os.path.samestat(path.stat(), ours):
                    path.unlink()


async def _talk(peer: socket.socket, answer: Answer) -> None:
    """Answer one request, unless who asks goes away meanwhile."""
    loop = asyncio.get_running_loop()
    sandbox = -1
    with peer:
        try:
            message, sandbox = await asyncio.to_thread(_receive, peer)
            peer.setblocking(False)
            reply = loop.create_task(_reply(message, sandbox, answer))
            gone = loop.create_task(loop.sock_recv(peer, 1))
            try:
                await asyncio.wait((reply, gone), return_when=asyncio.FIRST_COMPLETED)
                if reply.done():
                    await loop.sock_sendall(peer, reply.result())
                else:
                    log.info("a request was given up by who made it")
            finally:
                for task in (reply, gone):
                    task.cancel()
                await asyncio.wait((reply, gone))
        except (OSError, ValueError) as error:
            log.warning("a request could not be read or answered: %s", error)
        finally:
            if sandbox >= 0:
                os.close(sandbox)


async def _reply(message: bytes, sandbox: int, answer: Answer) -> bytes:
    status, version, outcome = 1, "", None
    try:
        request = parse(message)
        version = request.config.version
        outcome = await answer(request, sandbox)
        status = 0
    except CNIError as error:
        log.warning("%s", error)
        outcome = error.to_dict(version) if version else error.to_dict()
    except Exception as error:
        # Whatever it is, the runtime has to be told, and others served on.
        log.exception("a request failed")
        outcome = CNIError(Code.INTERNAL, f"{type(error).__name__}: {error}").to_dict()
    text = json.dumps(outcome) + "\n" if outcome is not None else ""
    body = f"{status}\n{text}".encode()
    return f"{len(body)}\n".encode() + body


def _receive(peer: socket.socket) -> tuple[bytes, int]:
    """Return a message and the file that came with it. Raises OSError, ValueError."""
    peer.settimeout(_RECEIVE_SECONDS)
    data, files, _, _ = socket.recv_fds(peer, 1 << 16, 1)
    sandbox = files[0] if files else -1
    try:
        buffer = bytearray(data)
        while b"\n" not in buffer[:16]:
            _more(peer, buffer)
        head, _, rest = buffer.partition(b"\n")
        length = int(head)
        if not 0 <= length <= _MAX_BYTES:
            raise ValueError(f"a message of {length} bytes")
        while len(rest) < length:
            _more(peer, rest)
        return bytes(rest[:length]), sandbox
    except BaseException:
        if sandbox >= 0:
            os.close(sandbox)
        raise


def _more(peer: socket.socket, buffer: bytearray) -> None:
    data = peer.recv(1 << 16)
    if not data:
        raise ValueError("it ended too early")
    buffer += data
