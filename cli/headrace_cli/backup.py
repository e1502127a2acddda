# SPDX-License-Identifier: Apache-2.0
"""`headrace backup`."""

import argparse
import os
import sys
from pathlib import Path

from headrace_cli.errors import CommandError
from headrace_cli.target import add_cluster


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.description = f"""{parser.description}

What people wrote (Pipelines, UnderlayEndpoints, VirtualNetworks, Interfaces, the labels of their
namespaces), and what was given out for it (VNIs, addresses, each node's /64): `headrace restore`
brings back both. Nothing in it is secret.

Interfaces that were made for pods come again with the pods, and are left out, but for those that a
StatefulSet keeps."""
    parser.epilog = """examples:
  headrace backup headrace.json
  headrace backup - | zstd > headrace-$(date +%F).json.zst

Rights: list namespaces and all kinds of headrace.dev; in Headrace's namespace get the ConfigMap
headrace-operator."""
    parser.add_argument("file", metavar="FILE", help='written whole or not at all; "-": stdout')
    add_cluster(parser)


def run(arguments: argparse.Namespace) -> int:
    """Write the file."""
    # The client of the API server takes half a second to import.
    from headrace_cli import transfer

    backup = transfer.read(arguments)
    text = backup.dump()
    if arguments.file == "-":
        sys.stdout.write(text)
    else:
        _write(Path(arguments.file), text)
    counts = ", ".join(f"{count} {kind}" for kind, count in backup.counts().items())
    print(f"{arguments.file}: {counts or 'nothing'}", file=sys.stderr)
    return 0


def _write(path: Path, text: str) -> None:
    new = path.with_name(f"{path.name}.new")
    try:
        with new.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror}") from error
