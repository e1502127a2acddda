# SPDX-License-Identifier: Apache-2.0
"""kopf's part of the operator, in this process: it tells what happens, and can be started anew."""

import asyncio
import gc
from collections.abc import Callable
from pathlib import Path

import pytest

from headrace_api import Json
from headrace_kube import DAEMON_SETS, VIRTUAL_NETWORKS, Kind, Kube
from headrace_operator.watch import Watch
from tests.cluster.cluster import Api
from tests.cluster.operators import key_of, network
from tests.cluster.sandbox import until

SECONDS = 60.0


class Told:
    """Everything that a Watch has told."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str | None, str]] = []
        self._more = asyncio.Event()

    def feed(self, kind: Kind, change: str | None, item: Json) -> None:
        self.events.append((kind.name, change, key_of(item)))
        self._more.set()

    async def until(self, found: Callable[[tuple[str, str | None, str]], bool]) -> None:
        async with asyncio.timeout(SECONDS):
            while not any(map(found, self.events)):
                self._more.clear()
                await self._more.wait()


@pytest.fixture
def kubeconfig(api: Api, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KUBECONFIG", str(api.kubeconfig))
    return api.kubeconfig


@pytest.mark.usefixtures("crds")
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_it_tells_of_one_namespace_and_starts_anew(kubeconfig: Path, api_namespace: str) -> None:
    async def test() -> None:
        told = Told()
        watch = Watch((VIRTUAL_NETWORKS, DAEMON_SETS), api_namespace, told.feed)
        async with await Kube.connect(str(kubeconfig)) as kube:
            watch.start()
            try:
                first = await kube.create(VIRTUAL_NETWORKS, network("first", api_namespace))
                await kube.create(VIRTUAL_NETWORKS, network(f"elsewhere-{api_namespace}"))
                await told.until(lambda event: event[2] == key_of(first))
                told.events.clear()
                watch.restart()
                # What it lists has no type.
                await told.until(
                    lambda event: event == ("VirtualNetwork", None, f"{api_namespace}/first")
                )
                await kube.delete(VIRTUAL_NETWORKS, "first", api_namespace)
                await told.until(
                    lambda event: event == ("VirtualNetwork", "DELETED", f"{api_namespace}/first")
                )
                assert all(key.startswith(api_namespace) for _, _, key in told.events)
                found = await kube.list(VIRTUAL_NETWORKS)
                assert not any("finalizers" in item["metadata"] for item in found.items)  # type: ignore[operator]
            finally:
                watch.stop()
                await kube.delete(VIRTUAL_NETWORKS, f"elsewhere-{api_namespace}", "default")
        until(lambda: not watch.alive, "it has ended", SECONDS)

    asyncio.run(test())
    # kopf does not wait for TLS connections to end: they are found here, and in no later test.
    gc.collect()
