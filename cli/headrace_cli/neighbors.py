# SPDX-License-Identifier: Apache-2.0
"""`headrace neighbors`."""

import argparse

from headrace_cli.output import add_output, duration, print_json, print_table
from headrace_cli.target import add_target, at_engine, connect
from headrace_dataplane.protocol import Neighbor


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.epilog = """examples:
  headrace neighbors
  headrace neighbors --port uplink/uplink0
  headrace neighbors --address 10.100.1.5"""
    add_target(parser)
    parser.add_argument("--port", help="only those of this port")
    parser.add_argument("--address", help="only this address")
    parser.add_argument("--limit", type=int, default=1000, help="most to print; default: 1000")
    add_output(parser)


@at_engine
def run(arguments: argparse.Namespace) -> int:
    """Print the neighbours."""
    filters = {
        name: value
        for name in ("port", "address")
        if (value := getattr(arguments, name)) is not None
    }
    with connect(arguments) as client:
        found = list(client.items(Neighbor, filters, limit=arguments.limit))
    if arguments.output == "json":
        print_json([n.model_dump(by_alias=True, mode="json") for n in found])
        return 0
    print_table(
        ("PORT", "INTERFACE", "ADDRESS", "MAC", "STATE", "CONFIRMED"),
        [
            (n.port, n.interface, n.address, n.mac, n.state, f"{duration(n.age_seconds)} ago")
            for n in found
        ],
        "no neighbours",
    )
    return 0
