# SPDX-License-Identifier: Apache-2.0
"""`headrace status`."""

import argparse
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from headrace_cli.output import add_output, duration, print_json, print_table
from headrace_cli.target import add_target, at_engine, connect, means_cluster, telemetry
from headrace_dataplane.protocol import Interface, JSONObject, Network, Port, Uplink, Worker
from headrace_dataplane.telemetry import TelemetryClient


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.epilog = """examples:
  headrace status                        the cluster, or the engine that runs here
  headrace status -A                     the cluster, with the objects of every namespace
  headrace status --node node-a -o json  one engine

Exits with 1 when something is not ready, or not up."""
    add_target(parser)
    scope = parser.add_mutually_exclusive_group()
    scope.add_argument(
        "-n",
        "--namespace",
        help="of a cluster, the objects of this namespace; default: that of "
        "the kubeconfig's context",
    )
    scope.add_argument(
        "-A", "--all-namespaces", action="store_true", help="of a cluster, all objects"
    )
    parser.add_argument(
        "--seconds", type=float, default=0.5, help="how long to watch the workers; default: 0.5"
    )
    add_output(parser)


@dataclass(frozen=True)
class Load:
    """A worker's work between two readings of its counters."""

    worker: int
    lcore: int
    cpu: int
    busy_percent: float
    packets_per_second: float
    cycles_per_packet: float | None
    packets_per_burst: float | None


def load(worker: Worker, before: JSONObject, after: JSONObject, seconds: float) -> Load:
    """Return the load between two readings of /headrace/worker, `seconds` apart."""

    def grown(name: str) -> int:
        first, last = before.get(name), after.get(name)
        return last - first if isinstance(first, int) and isinstance(last, int) else 0

    busy, packets, bursts = grown("busy_cycles"), grown("packets"), grown("bursts")
    total = busy + grown("idle_cycles") + grown("sleep_cycles")
    return Load(
        worker=worker.worker,
        lcore=worker.lcore,
        cpu=worker.cpu,
        busy_percent=round(100 * busy / total, 1) if total else 0.0,
        packets_per_second=round(packets / seconds) if seconds else 0,
        cycles_per_packet=round(busy / packets) if packets else None,
        packets_per_burst=round(packets / bursts, 1) if bursts else None,
    )


def _loads(client: TelemetryClient, workers: tuple[Worker, ...], seconds: float) -> list[Load]:
    def read() -> dict[int, JSONObject]:
        return {w.worker: client.object("/headrace/worker", w.worker) for w in workers}

    before, began = read(), time.monotonic()
    time.sleep(seconds)
    after, passed = read(), time.monotonic() - began
    return [load(w, before[w.worker], after[w.worker], passed) for w in workers]


def _problems(
    interfaces: list[Interface], uplinks: list[Uplink], ports: Mapping[str, Port]
) -> list[str]:
    owners = [("Interface", i.name, i.port, i.state) for i in interfaces]
    owners += [("uplink", u.name, u.port, u.state) for u in uplinks]
    found = []
    for what, name, port, state in owners:
        if state != "up":
            error = ports[port].error if port in ports else None
            found.append(f"{what} {name}: its device is {state}" + (f": {error}" if error else ""))
    return found


def run(arguments: argparse.Namespace) -> int:
    """Print the state of the cluster, or of one engine."""
    if means_cluster(arguments) and arguments.node is None and arguments.pipeline is None:
        from headrace_cli import overview

        return overview.run(arguments)
    return engine(arguments)


@at_engine
def engine(arguments: argparse.Namespace) -> int:
    """Print the state of the engine."""
    with connect(arguments) as client, telemetry(client) as counters:
        hello = client.hello()
        ports = {port.name: port for port in client.items(Port)}
        interfaces = list(client.items(Interface))
        uplinks = list(client.items(Uplink))
        networks = list(client.items(Network))
        loads = _loads(counters, hello.workers, arguments.seconds)
    problems = _problems(interfaces, uplinks, ports)
    status = 1 if problems else 0
    if arguments.output == "json":
        print_json(
            {
                "engine": hello.model_dump(by_alias=True, mode="json"),
                "workers": [asdict(each) for each in loads],
                "uplinks": [u.model_dump(by_alias=True, mode="json") for u in uplinks],
                "networks": [n.model_dump(by_alias=True, mode="json") for n in networks],
                "interfaces": [i.model_dump(by_alias=True, mode="json") for i in interfaces],
                "problems": list(problems),
            }
        )
        return status
    print(
        f"engine {hello.version} ({hello.dpdk}), process {hello.pid}, "
        f"up {duration(time.time() - hello.started)}, generation {hello.generation}\n"
    )
    print_table(
        ("WORKER", "LCORE", "CPU", "BUSY %", "PACKETS/S", "CYCLES/PACKET", "PACKETS/BURST"),
        [tuple(asdict(each).values()) for each in loads],
        "no workers",
    )
    if uplinks:
        print()
        print_table(
            ("UPLINK", "STATE", "MTU", "ADDRESSES", "ON LINK", "GATEWAY"),
            [
                (u.name, u.state, u.mtu, ",".join(u.addresses), ",".join(u.on_link), u.gateway)
                for u in uplinks
            ],
            "",
        )
    if networks:
        print()
        print_table(
            ("NETWORK", "VNI", "IPV4 ROUTES", "IPV6 ROUTES", "GATEWAYS"),
            [(n.name, n.vni, n.routes4, n.routes6, ",".join(n.gateways)) for n in networks],
            "",
        )
    print()
    print_table(
        ("INTERFACE", "NETWORK", "STATE", "ADDRESSES", "ENDPOINT", "RX QUEUES ON WORKERS"),
        [
            (
                i.name,
                i.network,
                i.state,
                ",".join(i.addresses),
                i.mac_state,
                ",".join(str(q.worker) for q in ports[i.port].rx_queues) if i.port in ports else "",
            )
            for i in interfaces
        ],
        "no Interfaces",
    )
    print("\nproblems:" if problems else "\nno problems")
    for problem in problems:
        print(f"  {problem}")
    return status
