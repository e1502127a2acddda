# SPDX-License-Identifier: Apache-2.0
"""The engine's process: found, adopted or started, watched, restarted, ended.

The engine runs in a session of its own, so that it outlives an agent that dies; the next agent
finds it by its control socket and adopts it. Only `stop` and a change of the options end it.
"""

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from headrace_dataplane.engine_options import EngineOptions
from headrace_dataplane.protocol import EngineAbsentError, EngineClient, EngineError, Hello
from headrace_dataplane.runtime import RuntimeDirectory

log = logging.getLogger(__name__)

_BUILT = Path(__file__).resolve().parents[2] / "build/engine/headrace-engine"
_START_SECONDS = 60.0
_STOP_SECONDS = 10.0
_POLL_SECONDS = 0.05
_BACKOFF_SECONDS = (0.2, 30.0)
_STABLE_SECONDS = 60.0


def find_engine() -> Path:
    """Return the engine's binary: $HEADRACE_ENGINE, else on PATH, else this checkout's build.

    Raises EngineError when there is none.
    """
    named = os.environ.get("HEADRACE_ENGINE")
    if named:
        path = shutil.which(named)
        if path is None:
            raise EngineError(f"HEADRACE_ENGINE={named} is not an executable file")
        return Path(path).absolute()
    found = shutil.which("headrace-engine")
    if found:
        return Path(found).absolute()
    if os.access(_BUILT, os.X_OK):
        return _BUILT
    raise EngineError(
        f"no headrace-engine on PATH or at {_BUILT}: build it with `make build`, or name it in "
        "HEADRACE_ENGINE"
    )


class EngineProcess:
    """Keeps one engine running with the desired options; all methods belong to one event loop."""

    def __init__(self, runtime: RuntimeDirectory, on_change: Callable[[], None]) -> None:
        """`on_change` is called when an engine has come up or gone away."""
        self.runtime = runtime
        self.hello: Hello | None = None
        self.restarts = 0
        self.problem = ""
        self._on_change = on_change
        self._options: EngineOptions | None = None
        self._options_changed = asyncio.Event()
        self._child: subprocess.Popen[bytes] | None = None

    def configure(self, options: EngineOptions) -> None:
        """Have the engine run with these options; other ones than it has restart it."""
        if options != self._options:
            self._options = options
            self._options_changed.set()

    async def run(self) -> None:
        """Keep the engine running until cancelled; cancelling leaves it running."""
        await self._options_changed.wait()
        backoff = _BACKOFF_SECONDS[0]
        loop = asyncio.get_running_loop()
        while True:
            self._options_changed.clear()
            options = self._options
            if options is None:
                continue
            try:
                hello = await self._adopt(options) or await self._start(options)
            except EngineError as error:
                self._set(None, str(error))
                log.error("%s", error)
            else:
                began = loop.time()
                self._set(hello, "")
                if await self._wait(hello.pid):
                    continue
                ended = f"ended{self._reap()}"
                self._set(None, f"the engine {ended}")
                self.restarts += 1
                log.error("the engine (process %d) %s; starting another", hello.pid, ended)
                if loop.time() - began > _STABLE_SECONDS:
                    backoff = _BACKOFF_SECONDS[0]
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(backoff):
                    await self._options_changed.wait()
            backoff = min(2 * backoff, _BACKOFF_SECONDS[1])

    async def restart(self, engine: Hello, why: str) -> None:
        """End the engine, if it is still that one: it leaves a backtrace, and `run` starts another.

        Returns when it has ended.
        """
        if engine is self.hello:
            log.error("ending the engine, process %d: %s", engine.pid, why)
            await _kill(engine.pid, signal.SIGABRT)

    async def stop(self) -> None:
        """End the engine, if one runs: SIGTERM, and SIGKILL when it does not obey."""
        if self.hello is not None:
            await self._end(self.hello.pid)
            self._set(None, "stopped")
        elif self._child is not None:
            await self._end(self._child.pid)

    def _set(self, hello: Hello | None, problem: str) -> None:
        self.hello, self.problem = hello, problem
        self._on_change()

    async def _hello(self) -> Hello:
        def ask() -> Hello:
            with EngineClient(self.runtime.socket) as client:
                return client.hello()

        return await asyncio.to_thread(ask)

    async def _adopt(self, options: EngineOptions) -> Hello | None:
        """Take over a running engine that has these options; end one that has others."""
        try:
            hello = await self._hello()
        except EngineAbsentError:
            return None
        arguments = [os.fsencode(argument) for argument in options.arguments(self.runtime)]
        try:
            running = Path(f"/proc/{hello.pid}/cmdline").read_bytes().split(b"\0")[:-1]
        except (FileNotFoundError, ProcessLookupError):
            return None
        if running[-len(arguments) :] == arguments:
            log.info("adopted the engine, process %d", hello.pid)
            return hello
        log.warning("restarting the engine, process %d: its options changed", hello.pid)
        await self._end(hello.pid)
        return None

    async def _start(self, options: EngineOptions) -> Hello:
        program = find_engine()
        self.runtime.path.mkdir(parents=True, exist_ok=True)
        with affinity(set(options.cpus)):
            self._child = subprocess.Popen(
                [program, *options.arguments(self.runtime)],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        deadline = asyncio.get_running_loop().time() + _START_SECONDS
        while asyncio.get_running_loop().time() < deadline:
            if self._child.poll() is not None:
                raise EngineError(
                    f"{program} ended at its start with status {self._child.returncode}: "
                    "its messages are above"
                )
            with contextlib.suppress(EngineAbsentError):
                hello = await self._hello()
                log.info("started the engine, process %d", hello.pid)
                return hello
            await asyncio.sleep(_POLL_SECONDS)
        await self._end(self._child.pid)
        raise EngineError(f"{program} did not answer in {_START_SECONDS:.0f} s")

    async def _wait(self, pid: int) -> bool:
        """Wait for the process to end, or the desired options to change: true for the latter."""
        ended = asyncio.ensure_future(_ended(pid))
        changed = asyncio.ensure_future(self._options_changed.wait())
        try:
            await asyncio.wait({ended, changed}, return_when=asyncio.FIRST_COMPLETED)
            return not ended.done()
        finally:
            ended.cancel()
            changed.cancel()

    async def _end(self, pid: int) -> None:
        await _kill(pid, signal.SIGTERM)
        self._reap()

    def _reap(self) -> str:
        """Reap the child, if it has ended; return how it ended, empty when that is not known."""
        status = self._child.poll() if self._child is not None else None
        if status is None:
            return ""
        self._child = None
        return f" by signal {-status}" if status < 0 else f" with status {status}"


async def _kill(pid: int, number: signal.Signals) -> None:
    """End a process by a signal, and by SIGKILL when it does not obey."""
    for each in (number, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, each)
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await _ended(pid)
        except TimeoutError:
            continue
        return


async def _ended(pid: int) -> None:
    """Return when the process has ended, whether or not it is a child."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(descriptor, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


@contextlib.contextmanager
def affinity(cpus: set[int]) -> Iterator[None]:
    """Let this thread, and so a child that it starts, run on `cpus` for a while."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus | before)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
