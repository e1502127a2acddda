# SPDX-License-Identifier: Apache-2.0
"""The entry point `headrace`.

A command is a module of this package with `configure(parser)` and `run(arguments) -> status`; it
is imported only when it is the one to run.
"""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from headrace_cli.errors import CommandError
from headrace_dataplane.protocol import EngineError

COMMANDS = {
    "demo": "two tenants with the same addresses on one machine, with real packets",
    "run": "make a directory of manifests forward on this machine",
    "compile": "print what manifests compile to, and what is wrong with them",
    "status": "is it well: the engine, its workers, its Interfaces",
    "interfaces": "Interfaces with their state and traffic",
    "routes": "routes as the engine forwards by them",
    "neighbors": "endpoints and routers that the engine has resolved",
    "drops": "dropped packets by reason",
    "bench": "measure the engine (in a checkout)",
    "version": "versions of Headrace and of the engine",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status: 0, 1 on an error, 2 on wrong usage."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname).1s %(message)s")
    parsed = _parser(words).parse_args(words)
    try:
        status: int = parsed.run(parsed)
        sys.stdout.flush()
        return status
    except (CommandError, EngineError) as error:
        print(f"headrace {parsed.command}: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # The reader has had enough; nothing may be written at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130


def _parser(words: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="headrace",
        description="Headrace: Kubernetes objects in, DPDK dataplanes out.",
        epilog="Start with: headrace demo. Every command explains itself with --help.",
    )
    commands = parser.add_subparsers(dest="command", metavar="command", required=True)
    for name, text in COMMANDS.items():
        command = commands.add_parser(
            name,
            help=text,
            description=text[0].upper() + text[1:] + ".",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if words and words[0] == name:
            module = import_module(f"headrace_cli.{name}")
            module.configure(command)
            command.set_defaults(run=module.run)
    return parser


if __name__ == "__main__":
    sys.exit(main())
