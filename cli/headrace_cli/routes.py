# SPDX-License-Identifier: Apache-2.0
"""`headrace routes`."""

import argparse

from headrace_cli.output import add_output, print_json, print_table
from headrace_cli.target import add_target, at_engine, connect
from headrace_dataplane.protocol import NextHop, Route


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.epilog = """examples:
  headrace routes --network default/blue
  headrace routes --network default/blue --match 10.100.1.5     where does this go?
  headrace routes --network default/blue --prefix 0.0.0.0/0"""
    add_target(parser)
    parser.add_argument("--network", help="only those of this network (namespace/name)")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--prefix", help="only this prefix")
    which.add_argument("--match", metavar="ADDRESS", help="only the longest match of this address")
    parser.add_argument("--limit", type=int, default=1000, help="most to print; default: 1000")
    add_output(parser)


def next_hop(hop: NextHop) -> str:
    """Return a next hop for people."""
    target = f"network {hop.network}" if hop.network is not None else hop.underlay or "-"
    local = f" ({hop.interface})" if hop.interface else ""
    return target + local + (f" x{hop.weight}" if hop.weight != 1 else "")


@at_engine
def run(arguments: argparse.Namespace) -> int:
    """Print the routes."""
    filters = {
        name: value
        for name in ("network", "prefix", "match")
        if (value := getattr(arguments, name)) is not None
    }
    with connect(arguments) as client:
        found = list(client.items(Route, filters, limit=arguments.limit))
    if arguments.output == "json":
        print_json([r.model_dump(by_alias=True, mode="json", exclude_none=True) for r in found])
        return 0
    print_table(
        ("NETWORK", "PREFIX", "NEXT HOPS", "SLICE"),
        [
            (
                route.network,
                route.prefix,
                "blackhole" if route.blackhole else ", ".join(map(next_hop, route.next_hops)),
                route.slice,
            )
            for route in found
        ],
        "no routes",
    )
    return 0
