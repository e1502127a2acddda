# SPDX-License-Identifier: Apache-2.0
"""`headrace connectivity`."""

import argparse

from headrace_cli.connectivity import files
from headrace_cli.target import add_cluster


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands."""
    parser.epilog = """examples:
  headrace connectivity test
  headrace connectivity test --pipeline router --nodes node-a,node-b
  headrace connectivity test -o junit > connectivity.xml"""
    actions = parser.add_subparsers(dest="action", metavar="action", required=True)
    test = actions.add_parser(
        "test",
        help="packets within and across nodes, and none between networks",
        description="""Makes two networks with the same addresses and Interfaces of type Pcap in
them, on up to two nodes of a Pipeline, sends packets within and across the nodes, and looks where
they arrive. Everything it made is removed at the end. Without a Pipeline that is ready and allows
Pcap it makes a temporary one on one node.""",
        epilog="""It may: list pipelines, nodes, and pods of Headrace's namespace; create and
delete virtualnetworks and interfaces (and, as needed, namespaces and pipelines); get and create
pods/exec in Headrace's namespace. Exits with 1 when a check fails.""",
        allow_abbrev=False,
    )
    test.add_argument(
        "--pipeline", help="default: one that is ready, allows Pcap and has most nodes"
    )
    test.add_argument("--nodes", help="one or two of its nodes, as a,b; default: its first two")
    test.add_argument(
        "-n", "--namespace", help="where to make networks and Interfaces; default: a temporary one"
    )
    test.add_argument(
        "--timeout", type=float, default=120, metavar="SECONDS", help="in all; default: 120"
    )
    test.add_argument(
        "-o", "--output", choices=("table", "json", "junit"), default="table", help="default: table"
    )
    add_cluster(test)
    files.configure(actions.add_parser("files", description=files.__doc__))


def run(arguments: argparse.Namespace) -> int:
    """Test, or do what the test asks of a dataplane pod."""
    if arguments.action == "files":
        return files.run(arguments)
    # The client of the API server takes half a second to import.
    from headrace_cli.connectivity import session

    return session.run(arguments)
