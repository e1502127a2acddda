# SPDX-License-Identifier: Apache-2.0
"""Nodes, agents and the API server that go away under traffic over next hops on both nodes.

blue/vm2 on node-b and blue/vm3 on node-a announce one prefix; blue/vm1 on node-a sends to it.
HEADRACE_TEST_LEASE_SECONDS is how long a Lease lasts here, HEADRACE_TEST_AWAY_SECONDS how long the
API server is away; HEADRACE_TEST_LONG=1 runs what takes minutes.
"""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from headrace_cli.errors import CommandError
from headrace_demo.lab import Pings
from tests.cluster.chart import NAMESPACE
from tests.cluster.cluster import Cluster, Node
from tests.cluster.images import Images
from tests.cluster.sandbox import Namespace, until
from tests.cluster.site import EXAMPLE, OPERATOR, SECONDS, ClusterPinger, Site, processes
from tests.cluster.telemetry import Prometheus, impatient_rules, pod_jobs, scraping
from tests.e2e.conftest import VM3, echoes

LEASE_SECONDS = int(os.environ.get("HEADRACE_TEST_LEASE_SECONDS", "8"))
AWAY_SECONDS = float(os.environ.get("HEADRACE_TEST_AWAY_SECONDS", "12"))
LONG = pytest.mark.skipif(
    not os.environ.get("HEADRACE_TEST_LONG"), reason="takes minutes: set HEADRACE_TEST_LONG"
)
PREFIX = "10.77.0.0/28"
ADDRESSES = [f"10.77.0.{number}" for number in range(16)]
"""Each is a flow, and goes to the machine on one node or on the other."""


class Spread:
    """Two machines with one prefix."""

    def __init__(self, site: Site, near: Namespace) -> None:
        self.site = site
        self.client = site.machines["blue/vm1"]
        self.far = site.machines["blue/vm2"]
        for machine in (near, self.far):
            for address in ADDRESSES:
                machine.ip(f"address add {address}/32 dev lo")
        for name in ("vm2", "vm3"):
            prefixes = json.dumps({"spec": {"prefixes": [PREFIX]}})
            site.cluster.kubectl(
                *("patch", "interface", name, "-n", "blue", "--type=merge", "-p", prefixes)
            )
        until(lambda: self.hops() == 2, "two next hops", SECONDS)
        site.ready()
        for address in ADDRESSES:
            self.client.command("ping", "-c", "1", "-w", "30", address)
        where = {address: self._arrives_far(address) for address in ADDRESSES}
        self.flows = {
            far: next(address for address, found in where.items() if found is far)
            for far in (True, False)
        }
        """Far (or not) -> an address whose packets go there."""

    def _arrives_far(self, address: str) -> bool:
        before = echoes(self.far)["InEchos"]
        self.client.command("ping", "-c", "1", "-w", "30", address)
        return echoes(self.far)["InEchos"] > before

    def slices(self) -> list[Any]:
        """Those with routes."""
        found = self.site.get("slices", "-n", NAMESPACE)
        return [item for item in found if item["spec"]["type"] == "Routes"]

    def hops(self) -> int:
        """Next hops of the prefix."""
        return sum(
            len(route.get("nextHops", ()))
            for item in self.slices()
            for route in item["spec"]["entries"]
            if route["prefix"] == PREFIX
        )

    def writes(self) -> list[tuple[str, int]]:
        """What changes with every write of a slice."""
        return [
            (item["metadata"]["name"], item["metadata"]["generation"]) for item in self.slices()
        ]

    @contextmanager
    def traffic(self) -> Iterator[tuple[ClusterPinger, list[Pings]]]:
        """Ping over both next hops; fail when one packet of the near one is lost.

        Gives the pings over the far one, and afterwards what became of them.
        """
        near, far = (
            ClusterPinger(self.site, "blue/vm1", self.flows[is_far]) for is_far in (False, True)
        )
        counted: list[Pings] = []
        try:
            near.wait(50)
            far.wait(50)
            yield far, counted
        except CommandError as error:
            raise AssertionError(f"{error}\n{self.site.report()}") from error
        finally:
            result = near.stop()
            counted.append(far.stop())
        assert (result.lost, result.sent > 100) == (0, True), self.site.report()


@pytest.fixture(scope="module")
def spread(cluster: Cluster, images: Images) -> Iterator[Spread]:
    site = Site(cluster, images)
    try:
        site.plug(tenants=["blue"])
        near = cluster.endpoint("blue/vm3", VM3, site.nodes[0].namespace)
        values: dict[str, Any] = {"dataplane.leaseSeconds": LEASE_SECONDS}
        site.install(**values)
        cluster.kubectl("apply", "-f", EXAMPLE / "pipeline.yaml", "-f", EXAMPLE / "blue.yaml")
        vm3 = site.get("interface", "vm2", "-n", "blue")
        vm3["metadata"] = {"name": "vm3", "namespace": "blue"}
        vm3["spec"] |= {"nodeName": site.nodes[0].name, "addresses": [*VM3]}
        vm3["spec"]["attachment"]["afPacket"]["deviceName"] = "blue-vm3"
        cluster.kubectl("apply", "-f", "-", stdin=json.dumps(vm3))
        site.ready()
        yield Spread(site, near)
    finally:
        site.clear()
        site.nodes[0].namespace.ip("link delete blue-vm3")
        site.unplug()


@pytest.fixture(scope="module")
def prometheus(spread: Spread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    cluster = spread.site.cluster
    with scraping(
        pod_jobs(cluster.inner_kubeconfig),
        tmp_path_factory.mktemp("prometheus"),
        namespace=cluster.sandbox.root,
        rules=impatient_rules(),
    ) as found:
        yield found


def programmed(site: Site, name: str) -> tuple[str, str]:
    """Status and reason of an Interface's condition."""
    conditions = site.get("interface", name, "-n", "blue")["status"]["conditions"]
    (found,) = (each for each in conditions if each["type"] == "Programmed")
    return found["status"], found["reason"]


def fires(prometheus: Prometheus, alert: str, *nodes: Node) -> None:
    """Wait until this is what fires about unreachable nodes, and about which."""
    wanted = {(alert, node.name) for node in nodes}
    until(lambda: alerts(prometheus) == wanted, f"{alert} fires", SECONDS)


def alerts(prometheus: Prometheus) -> set[tuple[str, str]]:
    """Alert and node of what fires about unreachable nodes."""
    firing = prometheus.firing()
    names = ("HeadraceNodeUnreachable", "HeadraceAgentUnreachable")
    return {(name, str(labels["node"])) for name in names for labels in firing.get(name, ())}


def unreachable(site: Site, kind: str) -> int:
    """How many nodes of the only object of that kind are."""
    (found,) = site.get(kind, "-A")
    return int(found["status"].get("unreachableNodes", 0))


def passes(seconds: float) -> None:
    """Wait while nothing shall happen."""
    began = time.monotonic()
    until(lambda: time.monotonic() > began + seconds, "time passes", 2 * seconds)


def end_leader(site: Site) -> None:
    """Have the operator that leads end; return when another does."""

    def holder() -> str:
        lease = site.get("lease", "headrace-operator", "-n", NAMESPACE)
        return str(lease["spec"].get("holderIdentity", ""))

    before = holder()
    (uid,) = (
        pod["metadata"]["uid"]
        for pod in site.pods(*OPERATOR)
        if pod["metadata"]["name"] == site.leader()
    )
    for pid in processes([uid], "headrace-operator"):
        os.kill(pid, signal.SIGTERM)
    until(lambda: holder() not in ("", before), "another operator leads", SECONDS)


def test_an_agent_that_is_silent_for_good_takes_nothing_away(
    spread: Spread, prometheus: Prometheus
) -> None:
    site = spread.site
    node = site.nodes[1]
    before = spread.writes()
    with spread.traffic() as (pings, counted):
        stopped = site.processes(node, "headrace-agent")
        # The supervisor first: it would start another.
        for pid in sorted(stopped):
            os.kill(pid, signal.SIGSTOP)
        try:
            until(
                lambda: programmed(site, "vm2") == ("Unknown", "AgentUnreachable"),
                "the Interface says that its agent is silent",
                SECONDS,
            )
            fires(prometheus, "HeadraceAgentUnreachable", node)
            until(lambda: unreachable(site, "pipeline") == 1, "its Pipeline says so", SECONDS)
            # As long again: nothing else comes.
            passes(LEASE_SECONDS)
            pings.wait(100)
        finally:
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)
        site.ready()
        until(lambda: not alerts(prometheus), "the alert ends", SECONDS)
    assert counted[0].lost == 0
    assert spread.writes() == before


def test_nothing_leaves_because_the_api_server_was_away(spread: Spread) -> None:
    site = spread.site
    before = spread.writes()
    with spread.traffic() as (pings, counted):
        site.cluster.stop_api_server()
        passes(AWAY_SECONDS)
        site.cluster.start_api_server()
        site.ready()
        passes(LEASE_SECONDS)
        pings.wait(100)
    assert counted[0].lost == 0
    assert spread.writes() == before


def test_a_dead_nodes_next_hops_leave_and_come_back(
    spread: Spread, prometheus: Prometheus, say: Callable[[str], None]
) -> None:
    site = spread.site
    node = site.nodes[1]
    kubelet = node.daemons["kubelet"]
    before = spread.writes()
    with spread.traffic() as (pings, counted):
        began = time.monotonic()
        kubelet.stop()
        for program in ("headrace-agent", "headrace-engine"):
            for pid in sorted(site.processes(node, program)):
                # With the pod's first process all others end.
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        try:
            until(lambda: spread.hops() == 1, "its next hop has left", SECONDS)
            pings.wait(100)
            cut = time.monotonic() - began
            until(
                lambda: programmed(site, "vm2") == ("False", "NodeUnreachable"),
                "the Interface says that its node is dead",
                SECONDS,
            )
            fires(prometheus, "HeadraceNodeUnreachable", node)
            until(lambda: unreachable(site, "vnet") == 1, "its network says so", SECONDS)
            # The slice with the route is all that was written, once.
            (changed,) = {*spread.writes()} - {*before}
            assert changed[1] == dict(before)[changed[0]] + 1
            # Another operator leaves it at that.
            end_leader(site)
            since = f"timestamp(headrace_operator_unreachable_node) > {time.time()}"
            until(lambda: prometheus.query(since) != [], "it knows", SECONDS)
            fires(prometheus, "HeadraceNodeUnreachable", node)
            assert changed in spread.writes()
        finally:
            kubelet.start()
        until(lambda: spread.hops() == 2, "its next hop is back", SECONDS)
        site.ready()
        pings.wait(100)
        until(lambda: not alerts(prometheus), "the alert ends", SECONDS)
    (lost,) = counted
    say(
        f"node cut off: next hop gone after {cut:.0f} s,"
        f" {lost.longest_gap} pings of 10 ms lost in a row, {lost.lost} in all"
    )


@LONG
def test_half_of_the_nodes_are_cut_off_from_all_but_the_underlay(
    spread: Spread, prometheus: Prometheus
) -> None:
    site = spread.site
    node = site.nodes[1]
    with spread.traffic() as (pings, counted):
        site.cluster.sandbox.root.ip(f"link set {node.name} down")
        try:
            # The operator that leads may be on it.
            until(lambda: spread.hops() == 1, "its next hop has left", 3 * SECONDS)
            fires(prometheus, "HeadraceNodeUnreachable", node)
            pings.wait(100)
        finally:
            site.cluster.sandbox.root.ip(f"link set {node.name} up")
        until(lambda: spread.hops() == 2, "its next hop is back", SECONDS)
        site.ready()
        until(lambda: not alerts(prometheus), "the alert ends", SECONDS)
        pings.wait(100)
    assert counted[0].lost == 0


@LONG
def test_nothing_leaves_while_more_than_half_of_the_nodes_are_silent(
    spread: Spread, prometheus: Prometheus
) -> None:
    site = spread.site
    before = spread.writes()
    kubelets = [node.daemons["kubelet"] for node in site.nodes]
    agents = sorted(pid for node in site.nodes for pid in site.processes(node, "headrace-agent"))
    with spread.traffic() as (pings, counted):
        for kubelet in kubelets:
            kubelet.stop()
        for pid in agents:
            os.kill(pid, signal.SIGSTOP)
        try:
            site.cluster.kubectl(
                *("wait", "node", "--all", "--for=condition=Ready=Unknown"),
                f"--timeout={SECONDS:.0f}s",
                seconds=SECONDS + 10,
            )
            fires(prometheus, "HeadraceAgentUnreachable", *site.nodes)
            passes(2 * LEASE_SECONDS)
            assert alerts(prometheus) == {
                ("HeadraceAgentUnreachable", node.name) for node in site.nodes
            }
            pings.wait(100)
        finally:
            for pid in agents:
                os.kill(pid, signal.SIGCONT)
            for kubelet in kubelets:
                kubelet.start()
        site.ready()
        passes(LEASE_SECONDS)
        pings.wait(100)
        until(lambda: not alerts(prometheus), "the alerts end", SECONDS)
    assert counted[0].lost == 0
    assert spread.writes() == before
