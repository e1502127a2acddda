# SPDX-License-Identifier: Apache-2.0
"""`headrace restore`."""

import argparse
import sys
from pathlib import Path

from headrace_cli.errors import CommandError
from headrace_cli.output import print_json, print_table
from headrace_cli.target import add_cluster


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.description = f"""{parser.description}

Into a cluster made anew, or the same one: the same networks, Interfaces and Pipelines, with the
same VNIs, addresses and /64s. Headrace must be installed there, and its operator must not run: it
would give out other values before it sees the old ones. The command holds the operator's Lease
while it works."""
    parser.epilog = """in a cluster made anew, once its nodes have joined:
  helm install headrace helm/headrace -n headrace-system --create-namespace \\
    --set operator.replicas=0
  headrace restore headrace.json
  helm upgrade headrace helm/headrace -n headrace-system

in the same one:
  kubectl -n headrace-system scale deployment headrace-operator --replicas=0
  headrace restore headrace.json
  kubectl -n headrace-system scale deployment headrace-operator --replicas=2

Running it again does no harm. Namespaces that are missing are made. Nothing is deleted: what is not
in the file stays.

Rights: list, create and update all kinds of headrace.dev and their statuses; list nodes, list and
create namespaces, get statefulsets; in Headrace's namespace get and patch the ConfigMap,
get, create and update the Lease headrace-operator."""
    parser.add_argument("file", metavar="FILE", help='of `headrace backup`; "-": stdin')
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="write over objects that the cluster has otherwise; default: refuse, writing nothing",
    )
    parser.add_argument(
        "-o", "--output", choices=("table", "json"), default="table", help="default: table"
    )
    add_cluster(parser)


def run(arguments: argparse.Namespace) -> int:
    """Restore the file."""
    # The client of the API server takes half a second to import.
    from headrace_cli import transfer
    from headrace_cli.saved import Backup

    backup = Backup.load(arguments.file, _read(arguments.file))
    done = transfer.write(arguments, backup)
    if arguments.output == "json":
        print_json(
            {
                "restored": {kind: {**counts} for kind, counts in done.counts.items()},
                "warnings": [*done.warnings],
            }
        )
    else:
        rows = [(kind, *counts.values()) for kind, counts in done.counts.items()]
        print_table(("KIND", "WRITTEN", "UNCHANGED"), rows, "The backup is empty.")
        print("Now start the operator: it goes on with these values.", file=sys.stderr)
    return 0


def _read(file: str) -> str:
    try:
        return sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except OSError as error:
        raise CommandError(f"{file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise CommandError(f"{file} is no backup: {error}") from error
