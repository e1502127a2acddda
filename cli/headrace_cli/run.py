# SPDX-License-Identifier: Apache-2.0
"""`headrace run`."""

import argparse
import asyncio
import socket
from pathlib import Path

from headrace_cli.errors import CommandError
from headrace_cli.local import LocalSource, StateFile
from headrace_cli.manifests import ManifestReader
from headrace_cli.target import RUNTIME_ROOT
from headrace_dataplane.daemon import AgentError, check, parse_cpus, runtime_directory, serve
from headrace_dataplane.http import DEFAULT_ADDRESS
from headrace_dataplane.precedence import PrecedenceFile


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
        help="file (or directory) of what was allocated, and of what was valid last; default: in "
        "the runtime directory",
    )
    parser.add_argument("--cpus", help="CPUs to choose from, such as 1,4-6; default: all allowed")
    parser.add_argument(
        "--metrics-address",
        default=DEFAULT_ADDRESS,
        metavar="HOST:PORT",
        help=f'serve /metrics, /healthz and /readyz; default: {DEFAULT_ADDRESS}; "": do not',
    )


def run(arguments: argparse.Namespace) -> int:
    """Run until told to end."""
    if not arguments.filename.exists():
        raise CommandError(f"{arguments.filename} does not exist")
    try:
        check(arguments.metrics_address)
        path = arguments.runtime_dir or RUNTIME_ROOT / arguments.node
        runtime = runtime_directory(path, arguments.node)
        state = StateFile(arguments.state or runtime.path)
        source = LocalSource(ManifestReader(arguments.filename), arguments.node, state)
        cpus = parse_cpus(arguments.cpus)
        precedence = PrecedenceFile(state.path.with_name(f"{arguments.node}.precedence.json"))
        asyncio.run(serve(runtime, source, cpus, arguments.metrics_address, precedence=precedence))
    except AgentError as error:
        raise CommandError(str(error)) from error
    return 0
