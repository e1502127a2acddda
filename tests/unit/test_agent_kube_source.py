# SPDX-License-Identifier: Apache-2.0
"""The agent of a cluster without an API server; with a real one: tests/cluster/test_agent.py."""

import asyncio
import itertools
from pathlib import Path

import pytest

from headrace_api import RouteSlice
from headrace_dataplane import follow
from headrace_dataplane.follow import BACKOFF_SECONDS
from headrace_dataplane.kube_source import PATIENCE_SECONDS, KubeSource
from headrace_dataplane.snapshot_file import SnapshotFile
from headrace_dataplane.source import Snapshot
from headrace_dataplane.state import AgentState
from headrace_kube import DATAPLANE_CONFIGS, ROUTE_SLICES
from tests.unit.clock import in_no_time, now
from tests.unit.fake_api import FakeApi, hang, refuse
from tests.unit.test_agent_process import config
from tests.unit.test_agent_translate import SLICE

STORED = Snapshot(7, config(3), (RouteSlice.model_validate(SLICE),))


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SnapshotFile:
    monkeypatch.setattr(follow, "jittered", lambda seconds: seconds)
    file = SnapshotFile(tmp_path / "router.json")
    file.save(STORED)
    return file


def source(api: FakeApi, file: SnapshotFile, state: AgentState, running: int = 0) -> KubeSource:
    return KubeSource(api, "headrace-system", "router", "node-a", file, state, running)


def asked_at(api: FakeApi) -> list[float]:
    path = DATAPLANE_CONFIGS.path("headrace-system")
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
    assert state.watches == {"DataplaneConfig": False}
    await asyncio.sleep(60)
    first, longest = BACKOFF_SECONDS
    waits = [b - a for a, b in itertools.pairwise(asked_at(api))]
    assert waits == [min(first * 2**n, longest) for n in range(len(waits))]
    assert waits.count(longest) > 1
    # Nothing is known of slices yet: which networks there are, the API server has to say.
    assert ROUTE_SLICES.path("headrace-system") not in api.paths("GET")
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
