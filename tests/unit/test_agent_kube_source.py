# SPDX-License-Identifier: Apache-2.0
"""The agent of a cluster without an API server; with a real one: tests/cluster/test_agent.py."""

import asyncio
import itertools
from collections import defaultdict
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from headrace_api import CONFIG_LABEL, RouteSlice
from headrace_dataplane import follow
from headrace_dataplane.follow import BACKOFF_SECONDS
from headrace_dataplane.kube_source import PATIENCE_SECONDS, KubeSource
from headrace_dataplane.snapshot_file import SnapshotFile
from headrace_dataplane.source import Snapshot
from headrace_dataplane.state import AgentState
from headrace_kube import DATAPLANE_CONFIGS, SLICES, Event, Kind
from tests.unit.clock import in_no_time, now
from tests.unit.fake_api import FakeApi, hang, refuse
from tests.unit.test_agent_process import config
from tests.unit.test_agent_translate import CONFIG, SLICE

STORED = Snapshot(7, config(3), (RouteSlice.model_validate(SLICE),))


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SnapshotFile:
    monkeypatch.setattr(follow, "jittered", lambda seconds: seconds)
    file = SnapshotFile(tmp_path / "router.json")
    file.save(STORED)
    return file


def source(api: FakeApi, file: SnapshotFile, state: AgentState, running: int = 0) -> KubeSource:
    return KubeSource(api, "headrace-system", "router", "node-a", file, state, running)


def asked_at(api: FakeApi, kind: Kind) -> list[float]:
    path = kind.path("headrace-system")
    return [at for at, _, each in api.begun if each == path]


@in_no_time
async def test_a_configuration_on_disk_goes_on_while_the_api_server_is_away(
    file: SnapshotFile,
) -> None:
    api, state = FakeApi(), AgentState()
    api.fault = lambda _method, _path: refuse(0, "connection refused")
    kube = source(api, file, state)
    task = asyncio.create_task(kube.run())
    snapshot = await kube.next()
    assert (snapshot.generation, snapshot.config) == (STORED.generation, STORED.config)
    assert snapshot.slices == STORED.slices
    assert now() == 0
    assert state.watches == {"DataplaneConfig": False, "Slice": False}
    await asyncio.sleep(60)
    first, longest = BACKOFF_SECONDS
    waits = [b - a for a, b in itertools.pairwise(asked_at(api, DATAPLANE_CONFIGS))]
    assert waits == [min(first * 2**n, longest) for n in range(len(waits))]
    assert waits.count(longest) > 1
    # Its own alone: which networks there are, and so which routes, the API server has to say.
    assert asked_at(api, SLICES) == asked_at(api, DATAPLANE_CONFIGS)
    task.cancel()


@in_no_time
async def test_an_api_server_that_does_not_answer_is_not_waited_for_long(
    file: SnapshotFile,
) -> None:
    api = FakeApi()
    api.fault = lambda _method, _path: hang()
    kube = source(api, file, AgentState())
    task = asyncio.create_task(kube.run())
    snapshot = await kube.next()
    assert snapshot.generation == STORED.generation
    assert now() == PATIENCE_SECONDS
    task.cancel()


@in_no_time
async def test_an_engine_that_is_further_than_the_disk_is_left_as_it_is(
    file: SnapshotFile, caplog: pytest.LogCaptureFixture
) -> None:
    api = FakeApi()
    api.fault = lambda _method, _path: refuse(0, "connection refused")
    kube = source(api, file, AgentState(), running=STORED.generation + 1)
    task = asyncio.create_task(kube.run())
    offered = asyncio.create_task(kube.next())
    while "leaving the engine as it is" not in caplog.text:
        await asyncio.sleep(1)
    await asyncio.sleep(60)
    assert not offered.done()
    offered.cancel()
    task.cancel()


class Watched(FakeApi):
    """Has lists, and tells what happens then."""

    def __init__(self) -> None:
        super().__init__()
        self.events: defaultdict[Kind, asyncio.Queue[Event]] = defaultdict(asyncio.Queue)

    def has(self, kind: Kind, *items: Any) -> None:
        path = kind.path("headrace-system")
        self.objects[path] = {"metadata": {"resourceVersion": "1"}, "items": [*items]}

    async def watch(
        self,
        kind: Kind,
        resource_version: str,
        namespace: str = "",
        labels: str = "",
        fields: str = "",
        seconds: int = 300,
    ) -> AsyncIterator[Event]:
        if labels.startswith(CONFIG_LABEL):
            # It has none of its own.
            await hang()
        while True:
            yield await self.events[kind].get()


def raw(item: Any, version: int, name: str = "", **spec: Any) -> Any:
    metadata = {**item["metadata"], "uid": "u", "generation": version}
    metadata |= {"resourceVersion": f"{version}", "name": name or metadata["name"]}
    return {"metadata": metadata, "spec": {**item["spec"], **spec}}


@in_no_time
async def test_a_slice_of_a_type_of_a_later_release_is_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    later = {"type": "Policies", "entries": [{"whatever": {"it": "is"}}, {}]}
    api = Watched()
    api.has(DATAPLANE_CONFIGS, raw(CONFIG, 1))
    api.has(SLICES, raw(SLICE, 1, "a.blue.policies", **later), raw(SLICE, 1))
    kube = source(api, SnapshotFile(tmp_path / "router.json"), AgentState())
    task = asyncio.create_task(kube.run())
    snapshot = await kube.next()
    assert [part.metadata.name for part in snapshot.slices] == ["a.blue.0"]
    # Neither in a list nor when it comes, not even where routes are looked for.
    for name in ("a.blue.others", "a.blue.1"):
        item = raw(SLICE, 2, name, **later)
        api.events[SLICES].put_nowait(Event("ADDED", item))
    networks: Any = CONFIG["spec"]["networks"]
    names = ["a.blue.0", "a.blue.1"]
    more = raw(CONFIG, 3, networks=[{**networks[0], "routeSlices": names}])
    api.events[DATAPLANE_CONFIGS].put_nowait(Event("MODIFIED", more))
    snapshot = await kube.next()
    assert snapshot.config.spec.networks[0].route_slices == tuple(names)
    assert [part.metadata.name for part in snapshot.slices] == ["a.blue.0"]
    api.events[SLICES].put_nowait(Event("ADDED", raw(SLICE, 4, "a.blue.1")))
    snapshot = await kube.next()
    assert [part.metadata.name for part in snapshot.slices] == names
    assert snapshot.problems == ()
    assert not [record for record in caplog.records if record.levelname != "INFO"]
    task.cancel()
