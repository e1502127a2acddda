# SPDX-License-Identifier: Apache-2.0
"""Whom a command asks: an engine of this machine, or a cluster."""

import argparse
import functools
import os
from collections.abc import Callable
from pathlib import Path

from headrace_cli.errors import CommandError
from headrace_dataplane.protocol import EngineClient, EngineError
from headrace_dataplane.runtime import RuntimeDirectory
from headrace_dataplane.telemetry import TelemetryClient

# headrace_api's, which takes longer to import than most commands run; a test compares them.
SYSTEM_NAMESPACE = "headrace-system"

RUNTIME_ROOT = Path("/run/headrace")
"""Holds one runtime directory for each node of this machine."""


RULE = f"""A cluster is asked when --cluster, --kubeconfig or --context is given; without them the
engine of {RUNTIME_ROOT}/NODE when there is one (the only one without --node), else the cluster
of the kubeconfig, if any."""
"""For --help: what `means_cluster` does."""

_CREDENTIALS = ("KUBECONFIG", "KUBERNETES_SERVICE_HOST")


def add_engine(parser: argparse.ArgumentParser) -> None:
    """Add --node and --socket."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--node",
        help=f"ask the engine of {RUNTIME_ROOT}/NODE, or of that node of a cluster; default: the "
        "only one there is",
    )
    group.add_argument("--socket", type=Path, help="ask the engine that listens on this socket")


def add_cluster(parser: argparse.ArgumentParser, *, optional: bool = False) -> None:
    """Add the options that say which cluster; `optional`: it may also be an engine here."""
    group = parser.add_argument_group("cluster", RULE if optional and not _plugin(parser) else None)
    if optional and not _plugin(parser):
        group.add_argument(
            "--cluster", action="store_true", help="ask the cluster, whatever runs here"
        )
    group.add_argument("--kubeconfig", metavar="FILE", help="default: $KUBECONFIG, ~/.kube/config")
    group.add_argument("--context", help="context of the kubeconfig; default: its current one")
    group.add_argument(
        "--system-namespace",
        default=SYSTEM_NAMESPACE,
        metavar="NAMESPACE",
        help=f"where Headrace is installed; default: {SYSTEM_NAMESPACE}",
    )


def add_target(parser: argparse.ArgumentParser) -> None:
    """Add all that names an engine: of this machine, or of a node of a cluster."""
    if _plugin(parser):
        parser.add_argument("--node", help="ask the engine of this node of the cluster")
        parser.set_defaults(socket=None, cluster=True)
    else:
        add_engine(parser)
    add_cluster(parser, optional=True)
    parser.add_argument(
        "--pipeline", help="its engine, where a node of the cluster has those of several Pipelines"
    )


def _plugin(parser: argparse.ArgumentParser) -> bool:
    return bool(parser.get_default("plugin"))


def means_cluster(arguments: argparse.Namespace, root: Path = RUNTIME_ROOT) -> bool:
    """Whether the options of `add_target` mean a cluster: RULE."""
    if arguments.socket is not None:
        return False
    if arguments.cluster or arguments.kubeconfig or arguments.context:
        return True
    if arguments.node is not None:
        return not RuntimeDirectory(root / arguments.node).path.is_dir() and _has_credentials()
    return not _engines(root) and _has_credentials()


def _has_credentials() -> bool:
    return any(map(os.environ.get, _CREDENTIALS)) or os.path.isfile(
        os.path.expanduser("~/.kube/config")
    )


def at_engine(command: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    """Make a command that asks an engine run where that is: here, or in a dataplane pod."""

    @functools.wraps(command)
    def run(arguments: argparse.Namespace) -> int:
        if not means_cluster(arguments):
            return command(arguments)
        # The client of the API server takes half a second to import.
        from headrace_cli.remote import run_at_node

        parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        parser.set_defaults(plugin=arguments.plugin)
        add_target(parser)
        return run_at_node(arguments, parser.parse_known_args(arguments.words)[1])

    return run


def _engines(root: Path) -> list[Path]:
    return sorted(root.glob("*/engine.sock"))


def socket_path(arguments: argparse.Namespace, root: Path = RUNTIME_ROOT) -> Path:
    """Return the control socket that the options name. Raises CommandError when it is not clear."""
    if arguments.socket is not None:
        return Path(arguments.socket)
    if arguments.node is not None:
        return RuntimeDirectory(root / arguments.node).socket
    found = _engines(root)
    if not found:
        raise CommandError(
            f"no engine runs here (nothing in {root}): start one with `headrace run`, "
            "or name its --socket, or a cluster with --kubeconfig"
        )
    if len(found) > 1:
        names = ", ".join(path.parent.name for path in found)
        raise CommandError(f"several engines run here: choose one with --node ({names})")
    return found[0]


def connect(arguments: argparse.Namespace) -> EngineClient:
    """Return a client of the engine that the options name. Raises EngineError when none is fit."""
    client = EngineClient(socket_path(arguments))
    client.hello()
    return client


def telemetry(client: EngineClient) -> TelemetryClient:
    """Return a telemetry client of the same engine."""
    path = client.hello().telemetry
    if not path:
        raise EngineError("the engine has no telemetry socket")
    return TelemetryClient(Path(path))
