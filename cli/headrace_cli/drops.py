# SPDX-License-Identifier: Apache-2.0
"""`headrace drops`."""

import argparse

from headrace_cli.output import add_output, print_json, print_table
from headrace_cli.target import add_target, at_engine, connect, telemetry
from headrace_dataplane.protocol import EngineError, JSONObject
from headrace_dataplane.telemetry import TelemetryClient


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.epilog = """examples:
  headrace drops                            all packets dropped, by reason
  headrace drops --interface default/vm1    those from or to one Interface
  headrace drops --all                      with the reasons that never occurred"""
    add_target(parser)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--interface", help="only those of this Interface (namespace/name)")
    which.add_argument("--uplink", help="only those of this uplink")
    which.add_argument("--worker", type=int, help="only those of this worker")
    parser.add_argument("--all", action="store_true", help="also reasons with no drops")
    add_output(parser)


def _counts(arguments: argparse.Namespace, client: TelemetryClient) -> JSONObject:
    for owner in ("interface", "uplink"):
        name = getattr(arguments, owner)
        if name is not None:
            drops = client.object(f"/headrace/{owner}", name).get("drops")
            if not isinstance(drops, dict):
                raise EngineError(f"the engine has no {owner} {name}")
            return drops
    return client.object("/headrace/drops", arguments.worker)


@at_engine
def run(arguments: argparse.Namespace) -> int:
    """Print the drops."""
    with connect(arguments) as client, telemetry(client) as counters:
        counts = _counts(arguments, counters)
        meanings = counters.object("/headrace/drop_reasons")
    shown = {reason: count for reason, count in counts.items() if count or arguments.all}
    if arguments.output == "json":
        print_json(shown)
        return 0
    print_table(
        ("REASON", "PACKETS", "MEANING"),
        [(reason, count, meanings.get(reason)) for reason, count in shown.items()],
        "no drops",
    )
    return 0
