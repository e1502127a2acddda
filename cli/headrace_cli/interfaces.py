# SPDX-License-Identifier: Apache-2.0
"""`headrace interfaces`."""

import argparse

from headrace_cli.output import add_output, print_json, print_table
from headrace_cli.target import add_target, at_engine, connect, telemetry
from headrace_dataplane.protocol import Interface, JSONObject
from headrace_dataplane.telemetry import TelemetryClient

COUNTERS = ("rx_packets", "rx_bytes", "tx_packets", "tx_bytes")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.epilog = """examples:
  headrace interfaces
  headrace interfaces --network default/blue
  headrace interfaces -o json | jq '.[] | select(.state != "up")'"""
    add_target(parser)
    parser.add_argument("--network", help="only those of this network (namespace/name)")
    parser.add_argument("--interface", help="only this one (namespace/name)")
    add_output(parser)


def traffic(client: TelemetryClient, name: str, owner: str = "interface") -> JSONObject:
    """Return the counters of one Interface or uplink, and `dropped`, the sum over all reasons."""
    own = client.object(f"/headrace/{owner}", name)
    drops = own.get("drops")
    counts = drops.values() if isinstance(drops, dict) else ()
    dropped = sum(count for count in counts if isinstance(count, int))
    return {**{field: own.get(field, 0) for field in COUNTERS}, "dropped": dropped}


@at_engine
def run(arguments: argparse.Namespace) -> int:
    """Print the Interfaces."""
    with connect(arguments) as client, telemetry(client) as counters:
        found = [
            (interface, traffic(counters, interface.name))
            for interface in client.items(Interface)
            if arguments.network in (None, interface.network)
            and arguments.interface in (None, interface.name)
        ]
    if arguments.output == "json":
        print_json(
            [{**i.model_dump(by_alias=True, mode="json"), "traffic": counts} for i, counts in found]
        )
        return 0
    print_table(
        (
            "INTERFACE",
            "NETWORK",
            "VNI",
            "STATE",
            "ADDRESSES",
            "MAC",
            "UNDERLAY",
            "RX",
            "TX",
            "DROPS",
        ),
        [
            (
                interface.name,
                interface.network,
                interface.vni,
                interface.state,
                ",".join((*interface.addresses, *interface.prefixes)),
                interface.mac or interface.mac_state,
                interface.underlay,
                counts["rx_packets"],
                counts["tx_packets"],
                counts["dropped"],
            )
            for interface, counts in found
        ],
        "no Interfaces",
    )
    return 0
