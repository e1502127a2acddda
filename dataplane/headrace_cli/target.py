# SPDX-License-Identifier: Apache-2.0
"""Which engine a command asks."""

import argparse
from pathlib import Path

from headrace_cli.errors import CommandError
from headrace_dataplane.engine import RuntimeDirectory
from headrace_dataplane.protocol import EngineClient, EngineError
from headrace_dataplane.telemetry import TelemetryClient

RUNTIME_ROOT = Path("/run/headrace")
"""Holds one runtime directory for each node of this machine."""


def add_target(parser: argparse.ArgumentParser) -> None:
    """Add --node and --socket."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--node", help=f"ask the engine of {RUNTIME_ROOT}/NODE; default: the only one there is"
    )
    group.add_argument("--socket", type=Path, help="ask the engine that listens on this socket")


def socket_path(arguments: argparse.Namespace, root: Path = RUNTIME_ROOT) -> Path:
    """Return the control socket that the options name. Raises CommandError when it is not clear."""
    if arguments.socket is not None:
        return Path(arguments.socket)
    if arguments.node is not None:
        return RuntimeDirectory(root / arguments.node).socket
    found = sorted(path for path in root.glob("*/engine.sock"))
    if not found:
        raise CommandError(
            f"no engine runs here (nothing in {root}): start one with `headrace run`, "
            "or name its --socket"
        )
    if len(found) > 1:
        names = ", ".join(path.parent.name for path in found)
        raise CommandError(f"several engines run here: choose one with --node ({names})")
    return found[0]


def connect(arguments: argparse.Namespace) -> EngineClient:
    """Return a client of the engine that the options name."""
    return EngineClient(socket_path(arguments))


def telemetry(client: EngineClient) -> TelemetryClient:
    """Return a telemetry client of the same engine."""
    path = client.hello().telemetry
    if not path:
        raise EngineError("the engine has no telemetry socket")
    return TelemetryClient(Path(path))
