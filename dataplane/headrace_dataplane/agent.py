# SPDX-License-Identifier: Apache-2.0
"""The agent: keeps an engine running, brings it to the newest configuration, reports its state.

It observes, and does what the controller decides; here are the threads, sockets and files.
"""

import asyncio
import contextlib
import logging
import math
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from headrace_api import SOCKETS_DIRECTORY
from headrace_dataplane import numa
from headrace_dataplane.controller import UPKEEP_SECONDS, Controller, Observed, Step
from headrace_dataplane.engine import EngineProcess
from headrace_dataplane.engine_options import engine_options
from headrace_dataplane.engine_session import EngineSession, Exchange
from headrace_dataplane.functions import Functions, functions_of
from headrace_dataplane.isolation import isolate, keep_apart
from headrace_dataplane.netdev import link_events, links
from headrace_dataplane.precedence import PrecedenceFile
from headrace_dataplane.preflight import (
    Fault,
    function_faults,
    memory_lock_problem,
    on_ordinary_pages,
)
from headrace_dataplane.protocol import EngineClient
from headrace_dataplane.runtime import RuntimeDirectory
from headrace_dataplane.sockets import SocketDirectories
from headrace_dataplane.source import ConfigSource, Snapshot
from headrace_dataplane.stalls import LOOK_SECONDS, Stalls, stalled_workers
from headrace_dataplane.state import AgentState

log = logging.getLogger(__name__)

_ERROR_SECONDS = 1.0


class Agent:
    """One node's agent; `run` is its life."""

    def __init__(
        self,
        runtime: RuntimeDirectory,
        source: ConfigSource,
        cpus: set[int],
        state: AgentState | None = None,
        sockets: Path = Path(SOCKETS_DIRECTORY),
        precedence: PrecedenceFile | None = None,
        functions: Functions | None = None,
    ) -> None:
        """`cpus` are those that the control thread and the workers may be chosen from.

        `state` is what to keep up to date, where others have a part in it; `sockets` has the
        directories of Interfaces' sockets; `precedence` is kept over a reboot; `functions` are
        those that this pod has, by default as its environment says.
        """
        self.state = state or AgentState()
        self.engine = EngineProcess(runtime, self._engine_changed)
        self._runtime = runtime
        self._source = source
        self._cpus = cpus
        self._sockets = sockets
        self._precedence = precedence
        self._functions = functions_of(os.environ) if functions is None else functions
        self._faults: Mapping[str, Fault] = {}
        self._look_at = -math.inf
        self._numa: numa.Numa | None = None
        self._wake = asyncio.Event()
        self._snapshot: Snapshot | None = None
        self._directories: SocketDirectories | None = None

    async def run(self) -> None:
        """Run until cancelled; the engine is left running.

        Raises EngineError when another agent has the runtime directory.
        """
        with self._runtime.locked(), EngineClient(self._runtime.socket) as client:
            file = self._precedence
            accepted = await asyncio.to_thread(file.load) if file is not None else ()
            controller = Controller(self.state, accepted, self._functions)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._follow())
                tasks.create_task(self.engine.run())
                tasks.create_task(self._reconcile(controller, EngineSession(client, accepted)))
                tasks.create_task(self._notice_devices(controller))
                tasks.create_task(self._notice_stalls())

    async def _follow(self) -> None:
        while True:
            snapshot = await self._source.next()
            self._snapshot = snapshot
            if snapshot.generation != self.state.wanted_generation:
                self.state.wanted_since = asyncio.get_running_loop().time()
                self.state.wanted_generation = snapshot.generation
            try:
                options = engine_options(snapshot.config.spec, self._cpus)
                _keep_off(options.worker_cpus, self._cpus)
                self.engine.configure(options)
            except Exception as error:  # whatever it is, the engine that runs goes on
                log.error("%s", error)
                self.engine.problem = str(error)
            self._wake.set()

    def _engine_changed(self) -> None:
        hello = self.engine.hello
        self.state.hello = hello
        self.state.engine_restarts = self.engine.restarts
        self._numa = numa.read(hello.pid) if hello is not None else None
        if hello is None:
            self.state.active_generation = 0
        elif self._snapshot is not None and on_ordinary_pages(self._snapshot.config, hello.pid):
            log.warning(
                "the engine runs without hugepages, and slower: as many as the Pipeline asks for "
                "were not free when it started"
            )
        self._wake.set()

    async def _notice_devices(self, controller: Controller) -> None:
        """Wake up for devices that are new: a pod waits for its own to be opened."""

        def changed() -> None:
            if controller.appeared(links()):
                self._wake.set()

        with link_events(changed):
            await asyncio.Event().wait()

    async def _notice_stalls(self) -> None:
        """End an engine whose worker does not walk, also while a commit waits for that worker."""
        stalls = Stalls()
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            engine = self.engine.hello
            stalled: tuple[str, ...] = ()
            if engine is not None:
                stalled = await asyncio.to_thread(stalled_workers, Path(engine.telemetry))
            why = stalls.step(engine, stalled)
            if engine is not None and why:
                self.state.engine_stalls += 1
                await self.engine.restart(engine, why)

    async def _reconcile(self, controller: Controller, session: EngineSession) -> None:
        exchange: Exchange | None = None
        logged = ""
        while True:
            snapshot = self._snapshot
            if snapshot is None:
                await self._wait(None)
                continue
            now = asyncio.get_running_loop().time()
            try:
                observed, exchange = self._observed(snapshot, exchange, now), None
                step = controller.step(observed, now)
                exchange = await self._do(step, snapshot, session, now)
            except Exception as error:  # whatever it is, the engine goes on with what it has
                line = " ".join(f"{type(error).__name__}: {error}".split())
                if line != logged:
                    log.error(
                        "generation %d cannot be brought to the engine: %s; what it has "
                        "stays in force",
                        snapshot.generation,
                        line,
                    )
                logged = line
                await asyncio.sleep(_ERROR_SECONDS)
                continue
            logged = ""
            if exchange is None:
                await self._wait(step.wake_at)

    async def _wait(self, until: float | None) -> None:
        """Wait for something to observe, at most until then; None: as long as it takes."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                await self._wake.wait()
        self._wake.clear()

    def _observed(self, snapshot: Snapshot, exchange: Exchange | None, now: float) -> Observed:
        if now >= self._look_at:
            self._faults = function_faults(self._functions)
            self._look_at = now + UPKEEP_SECONDS
        return Observed(
            snapshot=snapshot,
            links=links(),
            engine=self.engine.hello,
            engine_problem=self.engine.problem,
            node_problem=memory_lock_problem(snapshot.config),
            exchange=exchange,
            time=datetime.now(UTC),
            faults=self._faults,
            numa=self._numa,
        )

    async def _do(
        self, step: Step, snapshot: Snapshot, session: EngineSession, now: float
    ) -> Exchange | None:
        """Do what the step says, and return what the engine answered."""
        if step.report is not None:
            await self._source.report(step.report)
        if step.accepted is not None and self._precedence is not None:
            try:
                await asyncio.to_thread(self._precedence.save, step.accepted)
            except OSError as error:
                log.warning("who is in the engine cannot be kept for a reboot: %s", error)
        if step.isolate:
            await asyncio.to_thread(isolate, step.isolate)
        if step.keep_apart:
            await asyncio.to_thread(keep_apart, step.keep_apart)
        if step.directories is not None:
            if self._directories is None:
                owner = snapshot.config.metadata.name
                self._directories = SocketDirectories(self._sockets, owner, now)
            await asyncio.to_thread(self._directories.keep, step.directories, now)
        if step.request is None:
            return None
        return await asyncio.to_thread(session.exchange, step.request, now)


def _keep_off(workers: tuple[int, ...], cpus: set[int]) -> None:
    """Run elsewhere than the workers, if there is anywhere else in `cpus`.

    A worker polls: whatever shares its CPU takes packets' time.
    """
    for thread in os.listdir("/proc/self/task"):
        with contextlib.suppress(OSError):
            os.sched_setaffinity(int(thread), cpus - {*workers} or workers[:1])
