# SPDX-License-Identifier: Apache-2.0
"""`headrace compile`."""

import argparse
import json
import sys
from pathlib import Path

import yaml

from headrace_cli.errors import CommandError
from headrace_cli.local import StateFile, with_nodes
from headrace_cli.manifests import ManifestReader
from headrace_operator.compiler import Allocations
from headrace_operator.compiler import compile as compile_objects


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.epilog = """examples:
  headrace compile -f deploy/examples/two-tenants
  headrace compile -f manifests/ -o json | jq '.items[].metadata.name'

Exits with 1 when there are problems; they go to stderr, one line each."""
    parser.add_argument(
        "-f", "--filename", type=Path, required=True, metavar="DIR", help="manifests to compile"
    )
    parser.add_argument(
        "--node",
        action="append",
        default=[],
        help="a node besides those that the manifests name; may be given again",
    )
    parser.add_argument(
        "--state", type=Path, help="take allocations from this file; it is not written"
    )
    parser.add_argument(
        "-o", "--output", choices=("yaml", "json"), default="yaml", help="default: yaml"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the compiled objects."""
    if not arguments.filename.exists():
        raise CommandError(f"{arguments.filename} does not exist")
    manifests = ManifestReader(arguments.filename).read()
    if manifests is None:
        raise CommandError(f"{arguments.filename} has no manifests")
    allocations = (
        StateFile(arguments.state).load().allocations if arguments.state else Allocations()
    )
    compiled = compile_objects(with_nodes(manifests.objects, *arguments.node), allocations)
    documents = [*compiled.configs.values(), *compiled.slices.values()]
    if arguments.output == "json":
        print(json.dumps({"apiVersion": "v1", "kind": "List", "items": documents}, indent=2))
    else:
        sys.stdout.write(yaml.safe_dump_all(documents, sort_keys=False, explicit_start=True))
    problems = (*manifests.problems, *compiled.problems)
    for problem in problems:
        print(manifests.located(problem), file=sys.stderr)
    return 1 if problems else 0
