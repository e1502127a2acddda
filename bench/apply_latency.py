# SPDX-License-Identifier: Apache-2.0
"""How long from the change of an Interface at the API server until its engine has it.

    python -m bench.apply_latency [--changes 100]

In the two-node cluster of the tests, with Headrace installed from its chart: so through a real
API server, operator, agent and engine. Needs root. Prints milliseconds.
"""

import argparse
import asyncio
import statistics
import time
from pathlib import Path

from headrace_api import Json
from headrace_dataplane.protocol import EngineClient, Interface
from headrace_kube import INTERFACES, Kube
from tests.cluster.cluster import Cluster
from tests.cluster.images import build_images
from tests.cluster.site import Site
from tests.e2e.conftest import VM2

_POLL_SECONDS = 0.002
_GIVE_UP_SECONDS = 30.0
_PAUSE_SECONDS = 0.5


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--changes", type=int, default=100, help="default: %(default)s")
    changes = parser.parse_args().changes
    with Cluster(2) as cluster:
        images = build_images()
        cluster.load_images(images.operator.tar, images.dataplane.tar)
        site = Site(cluster, images)
        site.plug()
        site.install()
        site.apply()
        found = sorted(asyncio.run(_measure(site, changes)))
        report(found)


def report(seconds: list[float]) -> None:
    """Print what was measured, sorted seconds."""
    p99 = seconds[max(0, -(-99 * len(seconds) // 100) - 1)]
    figures = {"p50": statistics.median(seconds), "p99": p99, "max": seconds[-1]}
    print(f"{len(seconds)} changes of one Interface, applied until the engine has it:")
    for name, value in figures.items():
        print(f"  {name} {1000 * value:6.0f} ms")


async def _measure(site: Site, changes: int) -> list[float]:
    (pid,) = site.processes(site.nodes[1], "headrace-engine")
    socket = Path(f"/proc/{pid}/root/run/headrace/engine/engine.sock")
    found = []
    async with await Kube.connect(str(site.cluster.kubeconfig)) as kube:
        with EngineClient(socket) as engine:
            for number in range(changes):
                address = f"10.0.0.{100 + number % 100}"
                began = time.monotonic()
                await _change(kube, address)
                while not _has(engine, address):
                    if time.monotonic() > began + _GIVE_UP_SECONDS:
                        raise SystemExit(f"the engine never had {address}\n{site.report()}")
                    await asyncio.sleep(_POLL_SECONDS)
                found.append(time.monotonic() - began)
                # Apart, so that each is compiled alone.
                await asyncio.sleep(_PAUSE_SECONDS)
    return found


async def _change(kube: Kube, address: str) -> None:
    body: Json = {"spec": {"addresses": [*VM2, address]}}
    await kube.request(
        "PATCH",
        INTERFACES.path("blue", "vm2"),
        body=body,
        content_type="application/merge-patch+json",
    )


def _has(engine: EngineClient, address: str) -> bool:
    return any(address in interface.addresses for interface in engine.items(Interface))


if __name__ == "__main__":
    main()
