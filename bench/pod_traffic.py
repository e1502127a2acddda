# SPDX-License-Identifier: Apache-2.0
"""What pods get out of Headrace's link, beside the cluster's own network between the same pods.

    python -m bench.pod_traffic [--seconds 5] [--pods 200] [--only traffic|gaps|add]

In the two-node cluster of the tests, with Headrace installed from its chart. TCP and UDP by iperf3,
as fast as it goes; how long pings had no answer when a dataplane was replaced; how long the node
agent took for ADD, from the request until the dataplane forwards, with ten pods at a time. Needs
root.
"""

import argparse
import json
import re
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.cluster.chart import NAMESPACE
from tests.cluster.cluster import Cluster
from tests.cluster.images import build_images
from tests.cluster.pods import (
    EXAMPLE,
    Pod,
    apply_example,
    iperf3,
    known,
    manifest,
    pods,
    rolled_out,
    running,
    wait,
)
from tests.cluster.site import NODE_AGENT, ClusterPinger, Site

_WAVE = 10
_ROUNDS = 3
_PING_SECONDS = 0.01


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=5, help="of one flow; default: %(default)s")
    parser.add_argument("--pods", type=int, default=200, help="for ADD; default: %(default)s")
    parser.add_argument("--only", choices=("traffic", "gaps", "add"), help="default: all of it")
    arguments = parser.parse_args()
    parts: dict[str, Callable[[Site], None]] = {
        "traffic": lambda site: traffic(site, arguments.seconds),
        "gaps": gaps,
        "add": lambda site: add(site, arguments.pods),
    }
    with Cluster(2) as cluster:
        images = build_images()
        cluster.load_images(images.operator.tar, images.dataplane.tar, images.toolbox.tar)
        site = Site(cluster, images)
        site.plug(tenants=())
        site.install(**NODE_AGENT)
        site.apply(EXAMPLE / "pipeline.yaml")
        apply_example(site)
        for name, measure in parts.items():
            if arguments.only in (None, name):
                measure(site)


def traffic(site: Site, seconds: int) -> None:
    """Print received Mbit/s between pods of one node and of two, median of three rounds."""
    one, other = pods(site, "blue", "app=web")
    selector = {"kubernetes.io/hostname": one.node.name}
    print(f"{'path':8} {'flow':8} {'Headrace':>10} {'bridge':>10} {'ratio':>6}  Mbit/s received")
    with running(site, manifest("client", "blue", nodeSelector=selector)) as (client,):
        for path, server in (("node", one), ("nodes", other)):
            for flow, words in (("TCP", ()), ("UDP", ("-u", "-b0", "-l1200"))):
                for version, address in zip((4, 6), server.addresses, strict=True):
                    # The cluster's own network has IPv4 alone.
                    addresses = (address, server.address) if version == 4 else (address,)
                    rates = _rates(client, addresses, f"-t{seconds}", *words)
                    found = [f"{rate:10.0f}" for rate in rates]
                    if version == 4:
                        found.append(f"{rates[0] / rates[1]:6.2f}")
                    print(f"{path:8} {flow}/IPv{version} {' '.join(found)}", flush=True)


def _rates(client: Pod, servers: tuple[str, ...], *words: str) -> list[float]:
    """Mbit/s to each address; they take turns."""
    found: list[list[float]] = [[] for _ in servers]
    for _ in range(_ROUNDS):
        for rates, server in zip(found, servers, strict=True):
            end = iperf3(client, server, *words)["end"]
            # Older and newer releases of iperf3 say it in different places.
            received: Any = end.get("sum_received") or end["sum"]
            rates.append(received["bits_per_second"] / 1e6)
    return [statistics.median(rates) for rates in found]


def gaps(site: Site) -> None:
    """Print for how long a pod on the other node did not answer pings."""
    one, other = pods(site, "blue", "app=web")
    found: list[int] = []
    for _ in range(_ROUNDS):
        with _gap(site, one, other, found):
            name = site.pod(other.node)["metadata"]["name"]
            site.cluster.kubectl("delete", "pod", name, "-n", NAMESPACE)
        rolled_out(site, "daemonset/headrace-router", NAMESPACE)
        site.ready()
    print(f"dataplane pod deleted: {sorted(found)} ms")
    found = []
    for number in range(_ROUNDS):
        generation = _generation(site)
        with _gap(site, one, other, found):
            site.upgrade(**NODE_AGENT, **_labels(number))
            while _generation(site) == generation:
                time.sleep(0.1)
            rolled_out(site, "daemonset/headrace-router", NAMESPACE)
        site.ready()
    print(f"chart upgraded: {sorted(found)} ms")


def _generation(site: Site) -> int:
    metadata = site.get("daemonset", "headrace-router", "-n", NAMESPACE)["metadata"]
    return int(metadata["generation"])


def _labels(number: int) -> dict[str, Any]:
    return {"dataplane.podLabels": {"example.com/round": f"r{number}"}}


@contextmanager
def _gap(site: Site, sender: Pod, receiver: Pod, found: list[int]) -> Iterator[None]:
    with known(site, sender):
        pinger = ClusterPinger(site, sender.key, receiver.addresses[0], _PING_SECONDS)
        pinger.wait(100)
        yield
        pinger.wait(100)
        found.append(round(1000 * _PING_SECONDS * pinger.stop().longest_gap))


def add(site: Site, number: int) -> None:
    """Print how long ADD took, and the whole start of a pod."""
    for first in range(0, number, _WAVE):
        names = [f"add-{first + each}" for each in range(min(_WAVE, number - first))]
        items = [manifest(name, "blue", terminationGracePeriodSeconds=1) for name in names]
        everything = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
        site.cluster.kubectl("apply", "-f", "-", stdin=everything)
        wait(site, "pod", *names, "-n", "blue")
        site.cluster.kubectl("delete", "pod", *names, "-n", "blue")
    agents = ("-n", NAMESPACE, "-l", "app.kubernetes.io/component=node")
    said = site.cluster.kubectl("logs", *agents, "--tail=-1")
    times = sorted(int(ms) for ms in re.findall(r"blue/add-\d+: plugged in after (\d+) ms", said))
    p99 = times[max(0, -(-99 * len(times) // 100) - 1)]
    median = statistics.median(times)
    print(f"ADD of {len(times)} pods, {_WAVE} at a time: p50 {median:.0f} ms, p99 {p99} ms")


if __name__ == "__main__":
    main()
