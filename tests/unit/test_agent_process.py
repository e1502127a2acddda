# SPDX-License-Identifier: Apache-2.0
"""The agent with a process in the engine's place: it speaks the protocol and forwards nothing."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from headrace_api import DataplaneConfig, DataplaneConfigStatus
from headrace_dataplane.agent import Agent
from headrace_dataplane.engine import EngineProcess, find_engine
from headrace_dataplane.engine_options import EngineOptions
from headrace_dataplane.parts import Report
from headrace_dataplane.protocol import EngineError
from headrace_dataplane.runtime import RuntimeDirectory
from headrace_dataplane.source import Snapshot
from headrace_dataplane.translate import Translation, translate
from tests.unit.test_agent_translate import CONFIG

ENGINE = f"""#!{sys.executable}
import os, signal, sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from pathlib import Path
from tests.unit.fake_engine import FakeEngine, FakeTelemetry
path = Path(sys.argv[sys.argv.index("--socket") + 1])
telemetry, stalled = path.with_name("telemetry"), path.with_name("stalled")
for each in (path, telemetry):
    each.unlink(missing_ok=True)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])

def answer(command):
    return [0] if stalled.exists() and stalled.read_text() == str(os.getpid()) else []

FakeTelemetry(telemetry, answer)
engine = FakeEngine(path, telemetry, pid=os.getpid())
engine.lists["interface"] = [
    dict(name="a/vm1", network="a/blue", vni=100, port="a/vm1", state="up", macState="static")
]
signal.sigwait([signal.SIGTERM])
engine.close()
"""
OPTIONS = EngineOptions(name="n", cpus=(0,), workers=1, share_control=True)


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RuntimeDirectory:
    program = tmp_path / "headrace-engine"
    program.write_text(ENGINE)
    program.chmod(0o755)
    monkeypatch.setenv("HEADRACE_ENGINE", str(program))
    return RuntimeDirectory(tmp_path / "run")


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await test()

    asyncio.run(bounded())


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.01)


async def end(task: asyncio.Task[None]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def pid_of(process: EngineProcess) -> int:
    assert process.hello is not None
    return process.hello.pid


def test_an_engine_is_started_adopted_restarted_and_ended(runtime: RuntimeDirectory) -> None:
    async def test() -> None:
        first = EngineProcess(runtime, lambda: None)
        task = asyncio.create_task(first.run())
        first.configure(OPTIONS)
        await until(lambda: first.hello is not None)
        pid = pid_of(first)
        # The agent goes, the engine stays.
        await end(task)
        second = EngineProcess(runtime, lambda: None)
        task = asyncio.create_task(second.run())
        second.configure(OPTIONS)
        await until(lambda: second.hello is not None)
        assert pid_of(second) == pid
        # Other options need another engine.
        second.configure(replace(OPTIONS, memory_mib=64))
        await until(lambda: second.hello is not None and second.hello.pid != pid)
        assert second.restarts == 0
        first._reap()
        # One that dies is replaced.
        pid = pid_of(second)
        os.kill(pid, signal.SIGKILL)
        await until(lambda: second.hello is not None and second.hello.pid != pid)
        assert second.restarts == 1
        pid = pid_of(second)
        await end(task)
        await second.stop()
        assert not runtime.socket.exists()
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)

    run(test)


def test_an_engine_that_does_not_start_is_a_problem(
    runtime: RuntimeDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADRACE_ENGINE", "false")

    async def test() -> None:
        process = EngineProcess(runtime, lambda: None)
        task = asyncio.create_task(process.run())
        process.configure(OPTIONS)
        await until(lambda: "status 1" in process.problem)
        assert process.hello is None
        await end(task)

    run(test)


def test_a_missing_engine_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HEADRACE_ENGINE", raising=False)
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr("headrace_dataplane.engine._BUILT", Path("/nonexistent/engine"))
    with pytest.raises(EngineError, match="make build"):
        find_engine()


class Source:
    """Gives snapshots from a queue and keeps what was reported."""

    def __init__(self) -> None:
        self.snapshots: asyncio.Queue[Snapshot] = asyncio.Queue()
        self.reports: list[DataplaneConfigStatus] = []

    async def next(self) -> Snapshot:
        return await self.snapshots.get()

    async def report(self, report: Report) -> None:
        self.reports.append(report.status)


WORKERS = {"count": 1, "shareControlCore": True}


def config(generation: int, **changes: object) -> DataplaneConfig:
    spec: dict[str, Any] = {**CONFIG["spec"], **changes}
    metadata = {**CONFIG["metadata"], "generation": generation}
    return DataplaneConfig.model_validate({"metadata": metadata, "spec": spec})


async def started(
    runtime: RuntimeDirectory, cpus: set[int]
) -> tuple[Agent, Source, asyncio.Task[None]]:
    """An agent that runs, and whose engine has generation 4."""
    source = Source()
    agent = Agent(runtime, source, cpus)
    task = asyncio.create_task(agent.run())
    source.snapshots.put_nowait(Snapshot(4, config(4, workers=WORKERS), ()))
    await until(lambda: agent.state.active_generation == 4)
    return agent, source, task


def test_an_agent_brings_its_engine_to_the_configuration(runtime: RuntimeDirectory) -> None:
    cpus = os.sched_getaffinity(0)

    async def test() -> None:
        agent, source, task = await started(runtime, cpus)
        assert agent.state.ready
        assert set(agent.state.networks) == {"a/vm1", "a/vm2"}
        await until(lambda: bool(source.reports) and source.reports[-1].interfaces[0].ready)
        pid = pid_of(agent.engine)
        source.snapshots.put_nowait(Snapshot(5, config(5, workers=WORKERS, interfaces=[]), ()))
        await until(lambda: agent.state.active_generation == 5)
        assert pid_of(agent.engine) == pid
        # A new engine gets everything again.
        os.kill(pid, signal.SIGKILL)
        await until(lambda: agent.state.engine_restarts == 1)
        await until(lambda: agent.state.active_generation == 5)
        with pytest.raises(EngineError, match="another agent"):
            await Agent(runtime, Source(), cpus).run()
        await end(task)
        await agent.engine.stop()

    try:
        run(test)
    finally:
        os.sched_setaffinity(0, cpus)


def test_an_engine_whose_worker_stands_still_is_ended(
    runtime: RuntimeDirectory, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It gets the signal by which an engine leaves a backtrace; the next has all again."""
    monkeypatch.setattr("headrace_dataplane.agent.LOOK_SECONDS", 0.01)
    cpus = os.sched_getaffinity(0)

    async def test() -> None:
        agent, _, task = await started(runtime, cpus)
        pid = pid_of(agent.engine)
        runtime.path.joinpath("stalled").write_text(str(pid))
        await until(lambda: agent.state.engine_restarts == 1)
        await until(lambda: agent.state.active_generation == 4)
        assert pid_of(agent.engine) != pid
        assert agent.state.engine_stalls == 1
        assert "worker 0 did not walk for 3 s" in caplog.text
        assert f"the engine (process {pid}) ended by signal 6" in caplog.text
        await end(task)
        await agent.engine.stop()

    try:
        run(test)
    finally:
        os.sched_setaffinity(0, cpus)


def test_a_wake_up_at_the_very_end_of_a_wait_is_not_lost(
    runtime: RuntimeDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpus = os.sched_getaffinity(0)
    timeout_at = asyncio.timeout_at

    async def test() -> None:
        source = Source()
        agent = Agent(runtime, source, cpus)
        late: list[Snapshot] = []

        @asynccontextmanager
        async def timed_out(when: float | None) -> AsyncIterator[None]:
            """The next configuration comes when the time is up, and the wait says just that."""
            if not late or when is None:
                async with timeout_at(when):
                    yield
                return
            source.snapshots.put_nowait(late.pop())
            await until(lambda: agent.state.wanted_generation == 5)
            raise TimeoutError

        monkeypatch.setattr(asyncio, "timeout_at", timed_out)
        task = asyncio.create_task(agent.run())
        source.snapshots.put_nowait(Snapshot(4, config(4, workers=WORKERS), ()))
        await until(lambda: bool(source.reports) and source.reports[-1].interfaces[0].ready)
        late.append(Snapshot(5, config(5, workers=WORKERS, interfaces=[]), ()))
        await until(lambda: source.reports[-1].observed_generation == 5)
        # What is reported as observed has been brought to the engine.
        assert agent.state.active_generation == 5
        assert not source.reports[-1].interfaces
        await end(task)
        await agent.engine.stop()

    try:
        run(test)
    finally:
        os.sched_setaffinity(0, cpus)


def test_an_error_that_nobody_expected_ends_no_agent(
    runtime: RuntimeDirectory, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cpus = os.sched_getaffinity(0)

    def strange(config: DataplaneConfig, *rest: Any) -> Translation:
        if config.metadata.generation == 5:
            raise KeyError("what is this?")
        return translate(config, *rest)

    async def test() -> None:
        agent, source, task = await started(runtime, cpus)
        source.snapshots.put_nowait(Snapshot(5, config(5, workers=WORKERS), ()))
        await until(lambda: "generation 5 cannot be brought to the engine" in caplog.text)
        assert "KeyError: 'what is this?'" in caplog.text
        assert agent.state.active_generation == 4
        source.snapshots.put_nowait(Snapshot(6, config(6, workers=WORKERS), ()))
        await until(lambda: agent.state.active_generation == 6)
        await end(task)
        await agent.engine.stop()

    monkeypatch.setattr("headrace_dataplane.controller.translate", strange)
    try:
        run(test)
    finally:
        os.sched_setaffinity(0, cpus)
