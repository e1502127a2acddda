# SPDX-License-Identifier: Apache-2.0
"""The agent proper of a dataplane pod, as the supervisor's child."""

import argparse
import asyncio
import contextlib
import functools
import logging
import os
from collections.abc import AsyncIterator
from pathlib import Path

from headrace_api import (
    LEASE_SECONDS,
    LEASE_SECONDS_VARIABLE,
    SOCKETS_DIRECTORY,
    SOCKETS_VARIABLE,
)
from headrace_dataplane.daemon import AgentError, check, parse_cpus, runtime_directory, serve
from headrace_dataplane.http import Protection
from headrace_dataplane.kube_source import KubeSource
from headrace_dataplane.precedence import PrecedenceFile
from headrace_dataplane.protocol import EngineClient, EngineError
from headrace_dataplane.runtime import RuntimeDirectory
from headrace_dataplane.snapshot_file import SnapshotFile
from headrace_dataplane.state import AgentState
from headrace_dataplane.supervisor import BEAT_SECONDS, USAGE_STATUS
from headrace_http import Certificate, Guard
from headrace_kube import Kube, KubeError, Readers

log = logging.getLogger(__name__)


def run(arguments: argparse.Namespace, beat: int) -> int:
    """Run until told to end, beating into the file descriptor; return the exit status.

    The arguments are those of `headrace_dataplane.main`.
    """
    try:
        asyncio.run(_run(arguments, beat))
        return 0
    except EngineError as error:
        log.error("%s", error)
        return 1
    except (AgentError, KubeError) as error:
        log.error("%s", error)
        return USAGE_STATUS


async def _run(arguments: argparse.Namespace, beat: int) -> None:
    check(arguments.metrics_address)
    runtime = runtime_directory(arguments.runtime_dir, arguments.node)
    cpus = parse_cpus(arguments.cpus)
    protection = _protection(arguments)
    state = AgentState()
    async with await Kube.connect(arguments.kubeconfig) as kube:
        source = KubeSource(
            kube,
            arguments.namespace or kube.namespace,
            arguments.pipeline,
            arguments.node,
            SnapshotFile(arguments.state_dir / f"{arguments.pipeline}.json")
            if arguments.state_dir is not None
            else None,
            state,
            _running(runtime),
            _lease_seconds(),
        )
        beating = functools.partial(_beat, beat)
        address = arguments.metrics_address
        await serve(
            *(runtime, source, cpus, address, source.run, beating),
            state=state,
            protection=protection,
            precedence=PrecedenceFile(arguments.state_dir / f"{arguments.pipeline}.precedence.json")
            if arguments.state_dir is not None
            else None,
            sockets=Path(os.environ.get(SOCKETS_VARIABLE, SOCKETS_DIRECTORY)),
        )


def _protection(arguments: argparse.Namespace) -> Protection | None:
    if arguments.metrics_certificate is None:
        return None
    try:
        certificate = Certificate(arguments.metrics_certificate)
    except OSError as error:
        raise AgentError(
            f"--metrics-certificate {arguments.metrics_certificate}: no tls.crt with its tls.key: "
            f"{error}"
        ) from error

    @contextlib.asynccontextmanager
    async def guard() -> AsyncIterator[Guard]:
        # Connections belong to an event loop.
        async with await Kube.connect(arguments.kubeconfig) as kube:
            yield Readers(kube, "/metrics")

    return Protection(certificate, guard)


def _lease_seconds() -> int:
    """Return how long the Lease lasts. Raises AgentError."""
    text = os.environ.get(LEASE_SECONDS_VARIABLE, str(LEASE_SECONDS))
    if not text.isdecimal() or int(text) == 0:
        raise AgentError(f"{LEASE_SECONDS_VARIABLE}={text}: want seconds such as {LEASE_SECONDS}")
    return int(text)


def _running(runtime: RuntimeDirectory) -> int:
    """Return the generation of the engine that runs, 0 without one."""
    try:
        with EngineClient(runtime.socket) as client:
            return client.hello().generation
    except EngineError:
        return 0


async def _beat(descriptor: int) -> None:
    while True:
        # A full pipe has been heard; a broken one has nobody to hear it.
        with contextlib.suppress(OSError):
            os.write(descriptor, b".")
        await asyncio.sleep(BEAT_SECONDS)
