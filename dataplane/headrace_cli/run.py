# SPDX-License-Identifier: Apache-2.0
"""`headrace run`."""

import argparse
import asyncio
import os
import signal
import socket
from pathlib import Path

from headrace_cli.errors import CommandError
from headrace_cli.local import LocalSource, StateFile
from headrace_cli.manifests import ManifestReader
from headrace_cli.target import RUNTIME_ROOT
from headrace_dataplane.agent import Agent
from headrace_dataplane.engine import RuntimeDirectory, find_engine
from headrace_dataplane.http import DEFAULT_ADDRESS, HTTPServer, parse_address

# What the longest socket adds to the runtime directory, and what sockaddr_un has room for.
_SOCKET_BYTES = 107
_TELEMETRY = "dpdk/{}/dpdk_telemetry.v2"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.epilog = """examples:
  headrace run -f deploy/examples/two-tenants
  headrace run -f manifests/ --node node-a --state /var/lib/headrace

Follows changes of the manifests until it is ended with Ctrl-C or SIGTERM, which ends the engine
too. Several nodes on one machine: one process each, with the same -f and the same --state."""
    parser.add_argument(
        "-f", "--filename", type=Path, required=True, metavar="DIR", help="manifests to follow"
    )
    host = socket.gethostname().lower()
    parser.add_argument("--node", default=host, help=f"name of this node; default: {host}")
    parser.add_argument(
        "--runtime-dir", type=Path, help=f"sockets and locks; default: {RUNTIME_ROOT}/NODE"
    )
    parser.add_argument(
        "--state",
        type=Path,
        help="file (or directory) of what was allocated; default: in the runtime directory",
    )
    parser.add_argument("--cpus", help="CPUs to choose from, such as 1,4-6; default: all allowed")
    parser.add_argument(
        "--metrics-address",
        default=DEFAULT_ADDRESS,
        metavar="HOST:PORT",
        help=f'serve /metrics, /healthz and /readyz; default: {DEFAULT_ADDRESS}; "": do not',
    )


def parse_cpus(text: str | None) -> set[int]:
    """Return the CPUs of a list such as 1,4-6, all allowed ones for None. Raises CommandError."""
    allowed = os.sched_getaffinity(0)
    if text is None:
        return allowed
    chosen: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        try:
            chosen |= set(range(int(first), int(last if dash else first) + 1))
        except ValueError:
            raise CommandError(f"--cpus {text}: want CPUs such as 1,4-6") from None
    if not chosen <= allowed:
        missing = ",".join(map(str, sorted(chosen - allowed)))
        raise CommandError(f"--cpus {text}: this process may not use {missing}")
    return chosen


def run(arguments: argparse.Namespace) -> int:
    """Run until told to end."""
    if not arguments.filename.exists():
        raise CommandError(f"{arguments.filename} does not exist")
    find_engine()
    path = arguments.runtime_dir or RUNTIME_ROOT / arguments.node
    runtime = RuntimeDirectory(path.absolute())
    longest = runtime.path / _TELEMETRY.format(arguments.node)
    if len(os.fsencode(longest)) > _SOCKET_BYTES:
        raise CommandError(
            f"{longest} is too long for a socket ({_SOCKET_BYTES} bytes): "
            "give a shorter --runtime-dir"
        )
    if arguments.metrics_address:
        try:
            parse_address(arguments.metrics_address)
        except ValueError as error:
            raise CommandError(f"--metrics-address: {error}") from error
    state = StateFile(arguments.state or runtime.path)
    source = LocalSource(ManifestReader(arguments.filename), arguments.node, state)
    return asyncio.run(_run(runtime, source, parse_cpus(arguments.cpus), arguments.metrics_address))


async def _run(runtime: RuntimeDirectory, source: LocalSource, cpus: set[int], address: str) -> int:
    agent = Agent(runtime, source, cpus)
    server = None
    if address:
        try:
            server = HTTPServer(address, agent.state)
        except OSError as error:
            raise CommandError(
                f"cannot serve metrics on {address}: {error.strerror}; choose another "
                '--metrics-address, or "" for none'
            ) from error
    life = asyncio.create_task(agent.run())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, life.cancel)
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
    return 0


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
