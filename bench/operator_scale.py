# SPDX-License-Identifier: Apache-2.0
"""The operator at full size on a real API server: cold start, restart, changes, memory.

    python -m bench.operator_scale [--interfaces 10000] [--networks 200] [--nodes 500]

Needs root (it makes a cluster without nodes, see tests/cluster/cluster.py). All of it, the API
server and etcd too, shares the machine's CPUs.
"""

import argparse
import re
import statistics
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

from bench.agents import Agents
from headrace_api import Json
from headrace_kube import SLICES
from tests.cluster.chart import NAMESPACE
from tests.cluster.cluster import Cluster
from tests.cluster.operators import Operator, World, interface, network, node, pipeline
from tests.cluster.sandbox import until

_SECONDS = 900.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--interfaces", type=int, default=10_000)
    parser.add_argument("--networks", type=int, default=200)
    parser.add_argument("--nodes", type=int, default=500)
    parser.add_argument("--changes", type=int, default=50)
    given = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        Cluster(0) as cluster,
        World(cluster) as world,
    ):
        _fill(world, given)
        _measure(world, Path(folder), given)


def _fill(world: World, given: argparse.Namespace) -> None:
    began = time.monotonic()
    world.install()
    world.put(*(node(f"node-{number}") for number in range(given.nodes)), pipeline())
    world.put(*(network(f"net-{number}") for number in range(given.networks)))
    world.put(*(_interface(number, given) for number in range(given.interfaces)))
    _say("objects created", time.monotonic() - began)


def _interface(number: int, given: argparse.Namespace) -> Json:
    return interface(
        f"vm-{number}", f"net-{number % given.networks}", f"node-{number % given.nodes}"
    )


def _measure(world: World, folder: Path, given: argparse.Namespace) -> None:
    kubeconfig = world.write_kubeconfig(folder)
    with Operator(kubeconfig, folder / "cold") as operator:
        began = time.monotonic()
        _wait("leading", began, lambda: operator.leads)
        _wait("compiled", began, lambda: operator.metric("compile_seconds_count") > 0)
        _say("compilation", operator.metric("compile_seconds_sum"))
        _wait(
            "every DataplaneConfig written",
            began,
            lambda: operator.metric("writes_total", kind="DataplaneConfig") >= given.nodes,
        )
        # Of routes, and of each node's networks and Interfaces.
        slices = -(-given.interfaces // given.networks // 256) * given.networks + 2 * given.nodes
        _wait(
            "every Slice written",
            began,
            lambda: operator.metric("writes_total", kind="Slice") >= slices,
        )
        _wait("everything written", began, lambda: operator.idle)
        _memory(operator)
        with Agents(world.api.kubeconfig):
            began = time.monotonic()
            _wait(
                "every Interface Ready",
                began,
                lambda: operator.metric("interfaces", ready="true") == given.interfaces,
            )
            _wait("idle", began, lambda: operator.idle)
            _memory(operator)
            _changes(world, operator, given)
            _wait("idle", began, lambda: operator.idle)
        versions = world.versions()
        operator.stop()
    with Operator(kubeconfig, folder / "warm") as operator:
        began = time.monotonic()
        _wait("restarted", began, lambda: operator.idle)
        _memory(operator)
        print(f"writes after the restart: {operator.writes():.0f}")
        assert world.versions() == versions


def _changes(world: World, operator: Operator, given: argparse.Namespace) -> None:
    """Add Interfaces one by one; each is measured from its creation to config and slice."""
    seconds, writes = [], []
    for number in range(given.interfaces, given.interfaces + given.changes):
        item = _interface(number, given)
        name, net, home = f"vm-{number}", number % given.networks, number % given.nodes
        before = operator.writes()
        began = time.monotonic()
        world.put(item)

        def compiled(name: str = name, net: int = net, home: int = home) -> bool:
            there = world.get(SLICES, f"{NAMESPACE}/router.node-{home}.interfaces.0")
            found = [each for each in there["spec"]["entries"] if each["name"] == name]
            if not found:
                return False
            slices = world.get(SLICES, f"{NAMESPACE}/default.net-{net}.0")
            prefix = f"{found[0]['addresses'][0]}/32"
            return any(route["prefix"] == prefix for route in slices["spec"]["entries"])

        while not compiled():
            pass
        seconds.append(time.monotonic() - began)
        until(
            lambda name=name: world.ready(f"default/{name}") and operator.idle,  # type: ignore[misc]
            f"{name} is Ready",
        )
        writes.append(operator.writes() - before)
    ordered = sorted(seconds)
    print(
        f"apply to config and slice: median {statistics.median(ordered) * 1000:.0f} ms,"
        f" p90 {ordered[len(ordered) * 9 // 10] * 1000:.0f} ms, worst {ordered[-1] * 1000:.0f} ms"
    )
    print(f"writes for a new Interface, event included: {sorted(set(writes))}")


def _wait(what: str, began: float, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _SECONDS
    while not condition():
        assert time.monotonic() < deadline, what
        # Every look costs the operator some milliseconds at this size.
        time.sleep(0.5)
    _say(what, time.monotonic() - began)


def _say(what: str, seconds: float) -> None:
    print(f"{what}: {seconds:.1f} s", flush=True)


def _memory(operator: Operator) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{operator.port}/metrics") as answer:
        cpu = re.search(r"^process_cpu_seconds_total (\S+)", answer.read().decode(), re.MULTILINE)
    assert cpu
    print(f"CPU time so far: {float(cpu[1]):.1f} s")
    lines = Path(f"/proc/{operator.process.pid}/status").read_text().splitlines()
    sizes = dict(line.split(":", 1) for line in lines)
    for name, what in (("VmRSS", "resident"), ("VmHWM", "at most")):
        print(f"memory, {what}: {int(sizes[name].split()[0]) / 1024:.0f} MiB", flush=True)


if __name__ == "__main__":
    main()
