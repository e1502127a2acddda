# SPDX-License-Identifier: Apache-2.0
"""Which of two DataplaneConfigs a node goes by: this release's, or the copy for release 0.2."""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from headrace_api import CONFIG_LABEL, Json
from headrace_dataplane.node.configs import Configs
from headrace_kube import (
    DATAPLANE_CONFIGS,
    FORMER_CONFIGS,
    SLICES,
    Event,
    Kind,
    Kube,
    KubeError,
    Listing,
)
from tests.unit.clock import in_no_time, now

NAME = "router.node-a"


class Server:
    """Has the object in either group; `trouble` is what comes of listing a kind."""

    def __init__(self, **given: str) -> None:
        self.items: dict[Kind, Any] = {}
        self.trouble: dict[Kind, KubeError] = {}
        self.listed: list[Kind] = []
        self._version = 0
        self._events: defaultdict[Kind, asyncio.Queue[Event]] = defaultdict(asyncio.Queue)
        self.slices: dict[str, Any] = {}
        for name, words in given.items():
            self.put(KINDS[name], words)

    def put(self, kind: Kind, words: str) -> None:
        """Have it there, and tell who watches."""
        self._version += 1
        metadata = {"name": NAME, "resourceVersion": str(self._version)}
        self.items[kind] = {"kind": kind.name, "metadata": metadata, "spec": {"words": words}}
        self._events[kind].put_nowait(Event("MODIFIED", self.items[kind]))

    def remove(self, kind: Kind) -> None:
        """Have it gone, and tell who watches."""
        self._events[kind].put_nowait(Event("DELETED", self.items.pop(kind)))

    def put_slice(self, name: str, *interfaces: str) -> None:
        """Have a Slice of its Interfaces there, and tell who watches."""
        self._version += 1
        entries = [{"namespace": "ns", "name": each} for each in interfaces]
        self.slices[name] = {
            "metadata": {"name": name, "resourceVersion": str(self._version)},
            "spec": {"type": "Interfaces", "entries": entries},
        }
        self._events[SLICES].put_nowait(Event("MODIFIED", self.slices[name]))

    def remove_slice(self, name: str) -> None:
        """Have a Slice gone, and tell who watches."""
        self._events[SLICES].put_nowait(Event("DELETED", self.slices.pop(name)))

    async def list(self, kind: Kind, namespace: str, labels: str = "", fields: str = "") -> Listing:
        if kind is SLICES:
            assert (namespace, labels) == ("headrace-system", f"{CONFIG_LABEL}={NAME}")
            return Listing([*self.slices.values()], str(self._version))
        assert (namespace, fields) == ("headrace-system", f"metadata.name={NAME}")
        self.listed.append(kind)
        await asyncio.sleep(0)
        if kind in self.trouble:
            raise self.trouble[kind]
        found = self.items.get(kind)
        return Listing([found] if found else [], str(self._version))

    async def watch(
        self, kind: Kind, version: str, *_: object, seconds: float, **__: object
    ) -> AsyncIterator[Event]:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while True:
                    yield await self._events[kind].get()


KINDS = {"former": FORMER_CONFIGS, "new": DATAPLANE_CONFIGS}


class _OverError(Exception):
    pass


@contextlib.asynccontextmanager
async def following(server: Server) -> AsyncIterator[Configs]:
    try:
        async with asyncio.TaskGroup() as tasks:
            yield Configs(cast("Kube", server), "headrace-system", tasks)
            raise _OverError
    except* _OverError:
        pass


async def until(configs: Configs, words: str) -> None:
    """Wait until the node goes by the one that says so, and see that nothing else comes then."""

    def says(item: Json) -> bool | None:
        return True if item["spec"] == {"words": words} else None

    await configs.wait(NAME, says)
    await asyncio.sleep(1)
    assert await configs.wait(NAME, lambda item: item["spec"]) == {"words": words}


@in_no_time
async def test_the_copy_counts_as_long_as_it_is_there() -> None:
    server = Server(new="new", former="former")
    async with following(server) as configs:
        await until(configs, "former")
        server.put(DATAPLANE_CONFIGS, "newer")
        await until(configs, "former")
        server.put(FORMER_CONFIGS, "newer in its old group")
        await until(configs, "newer in its old group")
        server.remove(FORMER_CONFIGS)
        await until(configs, "newer")
        server.put(DATAPLANE_CONFIGS, "newest")
        await until(configs, "newest")


@in_no_time
async def test_a_copy_that_has_gone_unseen_counts_no_more() -> None:
    server = Server(new="new", former="former")
    async with following(server) as configs:
        await until(configs, "former")
        # No event tells of it, but the next list does.
        del server.items[FORMER_CONFIGS]
        began = now()
        await configs.wait(NAME, lambda item: item["spec"] == {"words": "new"} or None)
        assert now() > began


@in_no_time
async def test_what_was_never_there_is_not_waited_for() -> None:
    server = Server(new="new")
    async with following(server) as configs:
        await until(configs, "new")
        server.put(FORMER_CONFIGS, "former")
        await until(configs, "former")


@in_no_time
async def test_a_kind_that_there_is_not_is_not_followed() -> None:
    server = Server(new="new")
    server.trouble[FORMER_CONFIGS] = KubeError(404, "NotFound", "no such kind")
    async with following(server) as configs:
        await until(configs, "new")
        await asyncio.sleep(3600)
        assert server.listed.count(FORMER_CONFIGS) == 1
        assert server.listed.count(DATAPLANE_CONFIGS) > 1


@pytest.mark.parametrize("status", [0, 403, 503])
@in_no_time
async def test_a_kind_of_which_nobody_can_tell_is_followed(status: int) -> None:
    server = Server(new="new", former="former")
    server.trouble[FORMER_CONFIGS] = KubeError(status, "Trouble", "not now")
    async with following(server) as configs:
        await until(configs, "new")
        server.trouble.clear()
        await until(configs, "former")


@in_no_time
async def test_what_is_in_its_slices_is_in_it() -> None:
    server = Server(new="new")
    server.items[DATAPLANE_CONFIGS]["spec"]["slices"] = ["i0", "i1"]
    server.put_slice("i0", "vm1")

    def names(item: Json) -> list[str]:
        spec: Any = item["spec"]
        return [each["name"] for each in spec.get("interfaces", ())]

    async with following(server) as configs:
        for change, found in (
            (lambda: None, ["vm1"]),
            (lambda: server.put_slice("i1", "vm2"), ["vm1", "vm2"]),
            (lambda: server.put_slice("other", "vm3"), ["vm1", "vm2"]),
            (lambda: server.put_slice("i0", "vm4"), ["vm4", "vm2"]),
            (lambda: server.remove_slice("i1"), ["vm4"]),
        ):
            change()
            await configs.wait(NAME, lambda item: names(item) == found or None)  # noqa: B023
            await asyncio.sleep(1)
            assert await configs.wait(NAME, names) == found
        # No event tells of it, but the next list does.
        server.slices.clear()
        began = now()
        await configs.wait(NAME, lambda item: not names(item) or None)
        assert now() > began


@in_no_time
async def test_each_is_followed_once_however_many_wait() -> None:
    server = Server(new="new", former="former")
    async with following(server) as configs:
        await asyncio.gather(*(until(configs, "former") for _ in range(5)))
        assert server.listed.count(DATAPLANE_CONFIGS) == 1
        # Once to see whether there is such a kind.
        assert server.listed.count(FORMER_CONFIGS) == 2
