# SPDX-License-Identifier: Apache-2.0
"""`headrace compile`."""

import argparse
import json
import sys
from pathlib import Path

import yaml

from headrace_api import DevicePolicy, Json, Problem
from headrace_cli.errors import CommandError
from headrace_cli.local import StateFile, localized
from headrace_cli.manifests import ManifestReader
from headrace_cli.target import add_cluster
from headrace_compiler import Allocations
from headrace_compiler import compile as compile_objects


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.epilog = """examples:
  headrace compile -f deploy/examples/two-tenants
  headrace compile -f manifests/ -o json | jq '.items[].metadata.name'
  headrace compile                       what the objects of the cluster compile to
  headrace compile --diff                how that differs from what is in the cluster

Exits with 1 when there are problems; they go to stderr, one line each. With --diff: when there is
a difference, also in the Interfaces that pods ask for; there is none while the operator is up to
date."""
    parser.add_argument(
        "-f", "--filename", type=Path, metavar="DIR", help="manifests; default: ask the cluster"
    )
    parser.add_argument(
        "--node",
        action="append",
        default=[],
        help="with -f, a node besides those that the manifests name; may be given again",
    )
    parser.add_argument(
        "--state", type=Path, help="with -f, take allocations from this file; it is not written"
    )
    output = parser.add_mutually_exclusive_group()
    output.add_argument(
        "-o", "--output", choices=("yaml", "json"), default="yaml", help="default: yaml"
    )
    output.add_argument(
        "--diff", action="store_true", help="from what the cluster has to what it should have"
    )
    add_cluster(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the compiled objects, or how they differ."""
    if arguments.filename is not None:
        if arguments.diff:
            raise CommandError("--diff is about the objects of a cluster: leave -f out")
        return _print(arguments.output, *_manifests(arguments))
    if arguments.node or arguments.state:
        raise CommandError("--node and --state go with -f: a cluster has its own nodes and state")
    # The client of the API server takes half a second to import.
    from headrace_cli import live

    found = live.look(arguments)
    if not arguments.diff:
        return _print(arguments.output, found.documents, found.problems)
    differences = found.differences()
    for difference in differences:
        print(difference)
    return 1 if differences else 0


def _manifests(arguments: argparse.Namespace) -> tuple[list[Json], list[Problem]]:
    if not arguments.filename.exists():
        raise CommandError(f"{arguments.filename} does not exist")
    manifests = ManifestReader(arguments.filename).read()
    if manifests is None:
        raise CommandError(f"{arguments.filename} has no manifests")
    allocations = (
        StateFile(arguments.state).load().allocations if arguments.state else Allocations()
    )
    compiled = compile_objects(localized(manifests.objects, *arguments.node), allocations)
    problems = (*manifests.problems, *compiled.problems)
    documents = [*compiled.configs.values(), *compiled.slices.values()]
    if manifests.objects.of(DevicePolicy):
        # Nobody follows them where nothing is wanted of network cards.
        documents += compiled.node_states.values()
    return documents, [manifests.located(problem) for problem in problems]


def _print(output: str, documents: list[Json], problems: list[Problem]) -> int:
    if output == "json":
        print(json.dumps({"apiVersion": "v1", "kind": "List", "items": documents}, indent=2))
    else:
        sys.stdout.write(yaml.safe_dump_all(documents, sort_keys=False, explicit_start=True))
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0
