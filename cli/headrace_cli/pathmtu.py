# SPDX-License-Identifier: Apache-2.0
"""`headrace pathmtu`."""

import argparse

from headrace_cli.output import add_output, print_json, print_table
from headrace_cli.target import add_target, at_engine, connect
from headrace_dataplane.protocol import PathMtu


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.epilog = """examples:
  headrace pathmtu                           all that is known, of the last ten minutes
  headrace pathmtu --underlay fd00:1:0:2::   of one underlay address"""
    add_target(parser)
    parser.add_argument("--underlay", help="only this underlay address")
    parser.add_argument("--limit", type=int, default=1000, help="most to print; default: 1000")
    add_output(parser)


@at_engine
def run(arguments: argparse.Namespace) -> int:
    """Print what routers of the underlay said."""
    filters = {} if arguments.underlay is None else {"underlay": arguments.underlay}
    with connect(arguments) as client:
        found = list(client.items(PathMtu, filters, limit=arguments.limit))
    if arguments.output == "json":
        print_json([each.model_dump(by_alias=True, mode="json") for each in found])
        return 0
    print_table(
        ("UNDERLAY", "MTU"),
        [(each.underlay, str(each.mtu)) for each in found],
        "no router of the underlay said that a path carries less than its uplink",
    )
    return 0
