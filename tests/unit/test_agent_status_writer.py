# SPDX-License-Identifier: Apache-2.0
"""When the agent's status is written, and what becomes of it while the API server is away."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from headrace_api import DataplaneConfigStatus, Json, NetworkState, SliceStatus
from headrace_dataplane import status_writer
from headrace_dataplane.follow import BACKOFF_SECONDS
from headrace_dataplane.status_writer import (
    REPORT_SECONDS,
    ROUTES_SECONDS,
    ConfigStatusWriter,
    SliceStatusWriter,
)
from headrace_kube import DATAPLANE_CONFIGS, SLICES
from tests.unit.clock import in_no_time, now
from tests.unit.fake_api import FakeApi, refuse
from tests.unit.test_agent_node_status import HELLO, interface, node_status
from tests.unit.test_agent_process import config

PATH = DATAPLANE_CONFIGS.path("headrace-system", "router.node-a")


@pytest.fixture(autouse=True)
def no_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status_writer, "jittered", lambda seconds: seconds)


def status(
    generation: int = 1, *up: str, routes: str = "", reason: str = ""
) -> DataplaneConfigStatus:
    states = {name: interface(name, "up") for name in up}
    network = NetworkState(namespace="a", name="blue", digest=routes, reason=reason)
    return node_status(config(generation), (), (), states, HELLO, None, (network,))


@asynccontextmanager
async def writing(api: FakeApi) -> AsyncIterator[ConfigStatusWriter]:
    """A writer that has seen its object, which has no status yet."""
    item: Json = {"metadata": {"name": "router.node-a", "uid": "1", "resourceVersion": "0"}}
    api.objects[PATH] = item
    writer = ConfigStatusWriter(api, "headrace-system", "router.node-a")
    writer.observe(item)
    task = asyncio.create_task(writer.run())
    yield writer
    task.cancel()


def written_at(api: FakeApi) -> list[float]:
    return [at for at, _, path in api.begun if path == f"{PATH}/status"]


def there(api: FakeApi) -> DataplaneConfigStatus:
    return DataplaneConfigStatus.model_validate(api.objects[PATH]["status"])


@in_no_time
async def test_a_status_is_written_at_once_and_the_next_a_little_later() -> None:
    api = FakeApi()
    async with writing(api) as writer:
        writer.report(status())
        await asyncio.sleep(0.5)
        assert written_at(api) == [0]
        for ready in (("a/vm1",), ("a/vm2",), ("a/vm1", "a/vm2")):
            writer.report(status(1, *ready))
            await asyncio.sleep(0.1)
        await asyncio.sleep(60)
        assert written_at(api) == [0, REPORT_SECONDS]
        assert there(api) == status(1, "a/vm1", "a/vm2")
        # After a quiet time at once.
        writer.report(status(2))
        quiet = now()
        await asyncio.sleep(60)
        assert written_at(api) == [0, REPORT_SECONDS, quiet]


@in_no_time
async def test_what_is_there_is_not_written_again() -> None:
    api = FakeApi()
    async with writing(api) as writer:
        for _ in range(3):
            writer.report(status())
            await asyncio.sleep(60)
        assert written_at(api) == [0]


@in_no_time
async def test_routes_alone_wait_longer_and_a_refusal_does_not() -> None:
    api = FakeApi()
    async with writing(api) as writer:
        writer.report(status(routes="1"))
        await asyncio.sleep(0.1)
        writer.report(status(routes="2"))
        await asyncio.sleep(ROUTES_SECONDS)
        assert written_at(api) == [0, ROUTES_SECONDS]
        writer.report(status(routes="3", reason="InvalidField"))
        await asyncio.sleep(ROUTES_SECONDS)
        assert written_at(api) == [0, ROUTES_SECONDS, ROUTES_SECONDS + REPORT_SECONDS]


@in_no_time
async def test_while_the_api_server_is_away_it_is_asked_later_and_later() -> None:
    api = FakeApi()
    api.fault = lambda _method, _path: refuse(0, "connection refused")
    async with writing(api) as writer:
        writer.report(status())
        await asyncio.sleep(40)
        waits = [b - a for a, b in zip(written_at(api), written_at(api)[1:], strict=False)]
        first, longest = BACKOFF_SECONDS
        assert waits == [min(first * 2**n, longest) for n in range(len(waits))]
        assert waits.count(longest) > 1
        writer.report(status(2, "a/vm1"))
        tries = len(written_at(api))
        api.fault = lambda _method, _path: None
        await asyncio.sleep(longest)
        # The newest alone, and the next trouble begins with the shortest wait again.
        assert there(api) == status(2, "a/vm1")
        assert len(written_at(api)) == tries + 1
        api.fault = lambda _method, _path: refuse(0, "connection refused")
        await asyncio.sleep(longest)
        tries = len(written_at(api))
        writer.report(status(3))
        await asyncio.sleep(0.9 * first)
        assert len(written_at(api)) == tries + 1
        await asyncio.sleep(0.2 * first)
        assert len(written_at(api)) == tries + 2


@in_no_time
async def test_of_a_slice_routes_alone_wait_longer_too() -> None:
    def networks(generation: int, digest: str, reason: str = "") -> SliceStatus:
        state = NetworkState(namespace="a", name="blue", digest=digest, reason=reason)
        return SliceStatus(observed_generation=generation, entries=(state.to_dict(),))

    def interfaces(*, ready: bool) -> SliceStatus:
        return SliceStatus(observed_generation=1, entries=({"name": "vm1", "ready": ready},))

    path = SLICES.path("headrace-system", "router.node-a.networks.0")
    for second, seconds in (
        (networks(1, "2"), ROUTES_SECONDS),
        (networks(2, "1"), REPORT_SECONDS),
        (networks(1, "2", "InvalidField"), REPORT_SECONDS),
        (interfaces(ready=True), REPORT_SECONDS),
    ):
        api, begun = FakeApi(), now()
        item: Json = {"metadata": {"name": "n", "uid": "1", "resourceVersion": "0"}}
        api.objects[path] = item
        writer = SliceStatusWriter(api, "headrace-system", "router.node-a.networks.0")
        writer.observe(item)
        task = asyncio.create_task(writer.run())
        writer.report(networks(1, "1"))
        await asyncio.sleep(0.1)
        writer.report(second)
        await asyncio.sleep(60)
        task.cancel()
        times = [at - begun for at, _, found in api.begun if found == f"{path}/status"]
        assert times == [0, seconds], second
        assert SliceStatus.model_validate(api.objects[path]["status"]) == second
