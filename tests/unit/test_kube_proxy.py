# SPDX-License-Identifier: Apache-2.0
"""The way to the API server: through the proxy that the kubeconfig or the environment names."""

import asyncio
import base64
from pathlib import Path

import pytest

from headrace_kube import Kube

_KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: c
clusters: [{{name: c, cluster: {{server: "http://{server}"{proxy}}}}}]
contexts: [{{name: c, context: {{cluster: c, user: u}}}}]
users: [{{name: u, user: {{token: secret}}}}]
"""


def _asked(folder: Path, *, server: str, proxy: str = "", environment: bool = False) -> list[str]:
    """Ask for something; returns the head of the request that our listener got."""
    heads: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
        await writer.drain()
        writer.close()

    async def ask() -> None:
        listener = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
        given = proxy.format(port=port)
        with pytest.MonkeyPatch.context() as patch:
            if environment:
                patch.setenv("http_proxy", given)
                given = ""
            text = _KUBECONFIG.format(
                server=server.format(port=port), proxy=f", proxy-url: '{given}'" if given else ""
            )
            (folder / "kubeconfig").write_text(text)
            async with listener, await Kube.connect(str(folder / "kubeconfig")) as kube:
                assert await kube.request("GET", "/api/v1/things") == {}

    asyncio.run(ask())
    return heads[0].splitlines()


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def test_without_a_proxy(tmp_path: Path) -> None:
    head = _asked(tmp_path, server="127.0.0.1:{port}")
    assert head[0].startswith("GET /api/v1/things?")
    assert "Authorization: Bearer secret" in head


@pytest.mark.parametrize("environment", [False, True])
def test_through_a_proxy(tmp_path: Path, environment: bool) -> None:
    proxy = "http://me:word@127.0.0.1:{port}"
    head = _asked(tmp_path, server="api.test", proxy=proxy, environment=environment)
    assert head[0].startswith("GET http://api.test/api/v1/things?")
    word = base64.b64encode(b"me:word").decode()
    assert f"Proxy-Authorization: Basic {word}" in head
    assert "Authorization: Bearer secret" in head


def test_no_proxy_for_this_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    head = _asked(tmp_path, server="127.0.0.1:{port}")
    assert head[0].startswith("GET /api/v1/things?")
