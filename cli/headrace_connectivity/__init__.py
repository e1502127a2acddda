# SPDX-License-Identifier: Apache-2.0
"""`headrace connectivity`.

What runs in the test's pods is in `pod`.
"""

import argparse

MOST_NODES = 2
"""Of one test."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands."""
    # Whoever imports a module of this package in a pod does without it.
    from headrace_cli.target import add_cluster

    parser.epilog = """examples:
  headrace connectivity test
  headrace connectivity test --pipeline router --nodes node-a,node-b
  headrace connectivity test -o junit > connectivity.xml"""
    actions = parser.add_subparsers(dest="action", metavar="action", required=True)
    test = actions.add_parser(
        "test",
        help="pods of its own reach one another, and nothing else",
        description="""Makes two networks with the same addresses and pods in them, on one or two
nodes of a Pipeline, and checks what Headrace promises:

  objects      every Pipeline, network and Interface that you may see is Ready
  parts        operator, node agent, engines and uplinks answer
  packets      IPv4 and IPv6 arrive, within a node and across; the largest, too; 1 MiB by TCP
  isolation    no address of another network; the same addresses in two networks; nothing
               arrives at another's underlay addresses, whatever it is wrapped in
  spoofing     nothing arrives from another's IP or MAC address
  refusals     of routes to the underlay and devices of the node, which only administrators give
  the rest     no way to the node or the cluster's network; default route, DNS and the API server
               as in every pod; metrics count what was sent

One line for each check, as soon as it is known, with the reason where it failed. All that was made
is removed at the end, after Ctrl-C too. Without a Pipeline that allows pods it makes a temporary
one on one node. The pods run the image that the chart names (connectivity.image); where that takes
imagePullSecrets, name the namespace that has them, Headrace's own: -n headrace-system.""",
        epilog="""Pods join networks only where the chart has nodeAgent.enabled=true.

Rights: list what `kubectl get headrace` lists; in Headrace's namespace get the deployment,
daemonset and lease, list dataplaneconfigs and pods, create pods/exec; in --namespace create and
delete virtualnetworks and interfaces, create, list and delete pods, create pods/exec, and get the
namespace.
Without --namespace also create and delete namespaces; where no Pipeline allows pods also list
nodes, create and delete pipelines. A check of what you may not see is skipped, and says so; no
packet is sent without the daemonset, which names the pods' image.

Exits with 0 when every check passed or was skipped for a reason, 1 when one failed, 2 on wrong
usage.""",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    test.add_argument(
        "--pipeline", help="default: one that allows pods, is ready and has most nodes"
    )
    test.add_argument(
        "--nodes",
        type=_nodes,
        default=(),
        help="one or two of its nodes, as a,b; default: its first two",
    )
    test.add_argument(
        "-n", "--namespace", help="where to make networks and pods; default: a temporary one"
    )
    test.add_argument(
        "--timeout", type=float, default=120, metavar="SECONDS", help="in all; default: 120"
    )
    test.add_argument(
        "-o", "--output", choices=("table", "json", "junit"), default="table", help="default: table"
    )
    add_cluster(test)


def _nodes(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(filter(None, text.split(","))))
    if not 1 <= len(names) <= MOST_NODES:
        raise argparse.ArgumentTypeError(f"one or two names of nodes, not {text!r}")
    return names


def run(arguments: argparse.Namespace) -> int:
    """Test."""
    # The client of the API server takes half a second to import.
    from headrace_connectivity import session

    return session.run(arguments)
