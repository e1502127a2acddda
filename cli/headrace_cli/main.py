# SPDX-License-Identifier: Apache-2.0
"""The entry points `headrace`, and `kubectl-headrace` (`kubectl headrace`): the cluster's part.

A command is a module of this package, or a package of its own, with `configure(parser)` and
`run(arguments) -> status`; it is imported only when it is the one to run. Its arguments also hold
`prog`, `plugin` (whether kubectl runs it) and `words`, what was typed after the command.
"""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec

from headrace_cli import completion
from headrace_cli.errors import CommandError
from headrace_dataplane.protocol import EngineError

COMMANDS = {
    "demo": "two tenants with the same addresses on one machine, with real packets",
    "run": "make a directory of manifests forward on this machine",
    "compile": "print what manifests or a cluster's objects compile to, and what is wrong",
    "status": "is it well: the cluster, or one engine, its workers, its Interfaces",
    "interfaces": "Interfaces with their state and traffic",
    "routes": "routes as the engine forwards by them",
    "neighbors": "endpoints and routers that the engine has resolved",
    "pathmtu": "underlay addresses to which less goes than by their uplink, as routers said",
    "drops": "dropped packets by reason",
    "connectivity": "see that pods of a cluster reach one another, and nothing else",
    "backup": "write what a cluster has of Headrace, and what was given out, into a file",
    "restore": "bring back a backup, with the values that it had",
    "doctor": "is this machine right for DPDK: what is wrong, how to mend it, what it can reach",
    "bench": "measure the engine (in a checkout)",
    "version": "versions of Headrace and of the engine",
}
APART = {
    "demo": "run make demo in a checkout",
    "connectivity": "run kubectl headrace connectivity test from outside, or helm test",
}
"""Commands that are packages of their own, as images do without them; what to do there instead."""
LOCAL = frozenset({"demo", "run", "bench"})
"""Commands that have nothing to do with a cluster."""
OF_NODES = {
    "doctor": (
        "headrace_cli.nodes",
        "are the nodes right for DPDK: what is wrong with which, and how to mend it",
    ),
}
"""Commands about this machine that are about the cluster's nodes as kubectl's plugin: by what."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status: 0, 1 on an error, 2 on wrong usage."""
    return _main("headrace", arguments, plugin=False)


def plugin(arguments: Sequence[str] | None = None) -> int:
    """Run one command as kubectl's plugin: it always asks the cluster."""
    return _main("kubectl headrace", arguments, plugin=True)


def _main(prog: str, arguments: Sequence[str] | None, *, plugin: bool) -> int:
    if (asked := completion.asked()) is not None:
        completion.answer(parser_of(prog, asked, plugin=plugin))
    words = list(sys.argv[1:] if arguments is None else arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname).1s %(message)s")
    if words and not _is_installed(words[0]):
        print(f"{prog} {words[0]}: it is not installed here: {APART[words[0]]}", file=sys.stderr)
        return 1
    parsed = parser_of(prog, words, plugin=plugin).parse_args(words)
    try:
        status: int = parsed.run(parsed)
        sys.stdout.flush()
        return status
    except (CommandError, EngineError) as error:
        print(f"{prog} {parsed.command}: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # The reader has had enough; nothing may be written at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130


def parser_of(prog: str, words: Sequence[str], *, plugin: bool) -> argparse.ArgumentParser:
    """The parser, with the arguments of the command that the words name, if they name one."""
    start = "status" if plugin or not _is_installed("demo") else "demo"
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Headrace: Kubernetes objects in, DPDK dataplanes out.",
        epilog=f"Start with: {prog} {start}. Every command explains itself with --help.",
    )
    commands = parser.add_subparsers(dest="command", metavar="command", required=True)
    for name, text in COMMANDS.items():
        if (plugin and name in LOCAL) or not _is_installed(name):
            continue
        module_name = _module(name)
        if plugin and name in OF_NODES:
            module_name, text = OF_NODES[name]
        command = commands.add_parser(
            name,
            help=text,
            description=text[0].upper() + text[1:] + ".",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            # What is given on to a node is told apart by whole names.
            allow_abbrev=False,
        )
        if words and words[0] == name:
            module = import_module(module_name)
            command.set_defaults(run=module.run, prog=prog, plugin=plugin, words=words[1:])
            module.configure(command)
            if plugin and command.epilog:
                command.epilog = command.epilog.replace("  headrace ", f"  {prog} ")
    return parser


def _module(name: str) -> str:
    return f"headrace_{name}" if name in APART else f"headrace_cli.{name}"


def _is_installed(name: str) -> bool:
    return name not in APART or find_spec(_module(name)) is not None


if __name__ == "__main__":
    sys.exit(main())
