# SPDX-License-Identifier: Apache-2.0
"""An agent as a process: what it is told is checked, signals end it, HTTP is served beside it."""

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine
from pathlib import Path

from headrace_api import SOCKETS_DIRECTORY
from headrace_dataplane.agent import Agent
from headrace_dataplane.engine import find_engine
from headrace_dataplane.engine_options import engine_name
from headrace_dataplane.http import HTTPServer, Protection
from headrace_dataplane.precedence import PrecedenceFile
from headrace_dataplane.runtime import RuntimeDirectory
from headrace_dataplane.source import ConfigSource
from headrace_dataplane.state import AgentState
from headrace_dataplane.supervisor import SIGNALS
from headrace_http import parse_address

# What sockaddr_un has room for, and the longest socket of a runtime directory.
_SOCKET_BYTES = 107
_TELEMETRY = "dpdk/{}/dpdk_telemetry.v2"


class AgentError(Exception):
    """The agent cannot run as it was told to; the message names the option."""


def parse_cpus(text: str | None) -> set[int]:
    """Return the CPUs of a list such as 1,4-6, all allowed ones for None. Raises AgentError."""
    allowed = os.sched_getaffinity(0)
    if text is None:
        return allowed
    chosen: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        try:
            chosen |= set(range(int(first), int(last if dash else first) + 1))
        except ValueError:
            raise AgentError(f"--cpus {text}: want CPUs such as 1,4-6") from None
    if not chosen <= allowed:
        missing = ",".join(map(str, sorted(chosen - allowed)))
        raise AgentError(f"--cpus {text}: this process may not use {missing}")
    return chosen


def runtime_directory(path: Path, node: str) -> RuntimeDirectory:
    """Return the runtime directory for a node's engine. Raises AgentError when it cannot serve."""
    runtime = RuntimeDirectory(path.absolute())
    longest = runtime.path / _TELEMETRY.format(engine_name(node))
    if len(os.fsencode(longest)) > _SOCKET_BYTES:
        raise AgentError(
            f"{longest} is too long for a socket ({_SOCKET_BYTES} bytes): "
            "give a shorter --runtime-dir"
        )
    return runtime


def check(address: str) -> None:
    """Raise AgentError for a wrong --metrics-address, EngineError when there is no engine."""
    find_engine()
    if address:
        try:
            parse_address(address)
        except ValueError as error:
            raise AgentError(f"--metrics-address: {error}") from error


async def serve(
    runtime: RuntimeDirectory,
    source: ConfigSource,
    cpus: set[int],
    address: str,
    *helpers: Callable[[], Coroutine[None, None, None]],
    state: AgentState | None = None,
    protection: Protection | None = None,
    sockets: Path = Path(SOCKETS_DIRECTORY),
    precedence: PrecedenceFile | None = None,
) -> None:
    """Be an agent until SIGTERM or SIGINT, which end the engine too; `helpers` run beside it.

    `state` is the agent's, where a helper has a part in it; `protection` is that of /metrics;
    `sockets` has the directories of Interfaces' sockets; `precedence` is kept over a reboot.

    Raises what the agent or a helper raises (then the engine runs on: the next agent adopts it),
    and AgentError when `address` ("host:port", "" for none) cannot be listened on.
    """
    agent = Agent(runtime, source, cpus, state, sockets, precedence)
    server = None
    if address:
        try:
            server = HTTPServer(address, agent.state, protection)
        except OSError as error:
            raise AgentError(
                f"cannot serve metrics on {address}: {error.strerror}; choose another "
                '--metrics-address, or "" for none'
            ) from error
    life = asyncio.create_task(_live(agent.run, *helpers))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, life.cancel)
    # A supervisor's child begins with them blocked, so that none is lost before this.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    try:
        await life
    except asyncio.CancelledError:
        # Only who is asked to end ends the engine: after an error the next agent adopts it.
        await agent.engine.stop()
    except BaseExceptionGroup as group:
        raise _first(group) from None
    finally:
        if server is not None:
            server.close()


async def _live(*parts: Callable[[], Coroutine[None, None, None]]) -> None:
    async with asyncio.TaskGroup() as tasks:
        for part in parts:
            tasks.create_task(part())


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
