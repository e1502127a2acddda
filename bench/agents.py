# SPDX-License-Identifier: Apache-2.0
"""Stand-in agents of every node. They watch, as agents do, and cost little beside what is measured.

KUBECONFIG=... python -m bench.agents
"""

import asyncio
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any, Self

from headrace_api import Json, config_of_slice
from headrace_kube import DATAPLANE_CONFIGS, SLICES, Kind, Kube, KubeError
from tests.cluster.chart import REPOSITORY
from tests.cluster.operators import key_of, reports


class Agents:
    """A process that reports of each DataplaneConfig at once, while the context lasts."""

    def __init__(self, kubeconfig: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.agents"],
            cwd=REPOSITORY,
            env={**os.environ, "KUBECONFIG": str(kubeconfig)},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()


class _All:
    """What the agents of all nodes see and have said."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube
        self._configs: dict[str, Any] = {}
        self._slices: dict[str, Any] = {}
        # Key of a Slice of routes -> keys of the configs that name it.
        self._readers: defaultdict[str, set[str]] = defaultdict(set)
        self._said: dict[str, Json] = {}
        self._to_say: dict[str, None] = {}
        self._news = asyncio.Event()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch(SLICES))
            group.create_task(self._watch(DATAPLANE_CONFIGS))
            group.create_task(self._speak())

    async def _watch(self, kind: Kind) -> None:
        while True:
            try:
                listing = await self._kube.list(kind)
                for found in listing.items:
                    self._see(kind, found)
                version = listing.resource_version
                while True:
                    async for event in self._kube.watch(kind, version):
                        item: Any = event.object
                        version = item["metadata"]["resourceVersion"]
                        if event.type in ("ADDED", "MODIFIED"):
                            self._see(kind, item)
            except KubeError:
                await asyncio.sleep(0.5)

    def _see(self, kind: Kind, item: Any) -> None:
        key, namespace = key_of(item), item["metadata"]["namespace"]
        if kind is DATAPLANE_CONFIGS:
            self._configs[key] = item
            self._to_say[key] = None
        else:
            self._slices[key] = item
            self._to_say |= dict.fromkeys(self._readers[key])
            if config := config_of_slice(item):
                self._to_say[f"{namespace}/{config}"] = None
            for entry in item["spec"].get("entries", ()):
                for name in entry.get("routeSlices", ()):
                    self._readers[f"{namespace}/{name}"].add(f"{namespace}/{config}")
        self._news.set()

    async def _speak(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            while self._to_say:
                key = next(iter(self._to_say))
                del self._to_say[key]
                if key in self._configs:
                    for item in reports(self._configs[key], self._slices, True, "Forwarding"):
                        if not await self._say(item):
                            self._to_say[key] = None

    async def _say(self, item: Json) -> bool:
        """Report, if that is news; whether it is done."""
        key = f"{item['kind']} {key_of(item)}"
        if item == self._said.get(key):
            return True
        kind = DATAPLANE_CONFIGS if item["kind"] == DATAPLANE_CONFIGS.name else SLICES
        try:
            await self._kube.apply(kind, item, "headrace-agent", subresource="status")
        except KubeError as error:
            return error.absent
        self._said[key] = item
        return True


async def _main() -> None:
    async with await Kube.connect() as kube:
        await _All(kube).run()


if __name__ == "__main__":
    asyncio.run(_main())
