# SPDX-License-Identifier: Apache-2.0
"""What is left of a client of the API server once it is closed."""

import asyncio
import os
import socket
import ssl
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from headrace_kube import Kube
from tests.unit.tls import certificate

_KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: c
clusters: [{{name: c, cluster: {{server: "https://127.0.0.1:{port}", {tls}}}}}]
contexts: [{{name: c, context: {{cluster: c, user: u}}}}]
users: [{{name: u, user: {{token: secret}}}}]
"""


@pytest.mark.parametrize("turns", [*range(8), None])
def test_a_request_that_was_given_up_leaves_no_connection(
    tmp_path: Path, turns: int | None
) -> None:
    """Whether it was given up while it connected, after turns of the loop, or was there (None)."""
    certificate(tmp_path)

    async def run() -> None:
        arrived = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            arrived.set()
            await reader.read()
            writer.close()

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tmp_path / "tls.crt", tmp_path / "tls.key")
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
        port = server.sockets[0].getsockname()[1]
        text = _KUBECONFIG.format(port=port, tls="insecure-skip-tls-verify: true")
        (tmp_path / "kubeconfig").write_text(text)
        async with server:
            async with await Kube.connect(str(tmp_path / "kubeconfig")) as kube:
                request = asyncio.create_task(kube.request("GET", "/api/v1/things"))
                if turns is None:
                    await arrived.wait()
                for _ in range(turns or 0):
                    await asyncio.sleep(0)
                request.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await request
            before = len(os.listdir("/proc/self/fd"))
            assert port not in set(_peers())
            assert len(os.listdir("/proc/self/fd")) == before

    asyncio.run(run())


def _peers() -> Iterator[int]:
    """The port at the other end of each TCP connection of this process."""
    for entry in Path("/proc/self/fd").iterdir():
        # Of what is no socket the copy would stay open.
        with suppress(FileNotFoundError):
            if not str(entry.readlink()).startswith("socket:"):
                continue
            with socket.socket(fileno=os.dup(int(entry.name))) as found, suppress(OSError):
                if found.family == socket.AF_INET:
                    yield found.getpeername()[1]
