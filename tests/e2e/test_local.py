# SPDX-License-Identifier: Apache-2.0
"""Local mode end to end: what may die or change without a packet lost, and what comes back."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client.parser import text_string_to_metric_families

from headrace_dataplane.protocol import EngineClient, Interface, Network
from headrace_demo.lab import Namespace, Node, Pinger, until
from tests.e2e.conftest import MANY_SECONDS, VM1, VM2, VM3, Site, count, echoes, headrace
from tests.engine.threads import kept_from_running, killed, worker_threads

SECONDS = 0.005
MANY = 100

VM3_YAML = f"""
apiVersion: headrace.dev/v1alpha1
kind: Interface
metadata:
  name: vm3
  namespace: blue
spec:
  networkRef:
    name: blue
  pipelineRef:
    name: router
  nodeName: node-a
  addresses: ["{VM3[0]}", "{VM3[1]}"]
  attachment:
    type: AFPacket
    afPacket:
      deviceName: blue-vm3
"""

# Sorts before all others: whoever allocates anew gives it what they have.
OTHER_YAML = """
apiVersion: headrace.dev/v1alpha1
kind: VirtualNetwork
metadata:
  name: a
  namespace: a
spec:
  subnets:
    - prefix: 10.0.0.0/24
---
apiVersion: headrace.dev/v1alpha1
kind: Interface
metadata:
  name: a
  namespace: a
spec:
  networkRef:
    name: a
  pipelineRef:
    name: router
  nodeName: node-a
  attachment:
    type: Discard
"""


@contextmanager
def pinging(site: Site) -> Iterator[Pinger]:
    """Ping vm2 from vm1 all the while, and fail when one ping or answer is lost."""
    resolve(site.vm1, VM2[0])
    before = echoes(site.vm1), echoes(site.vm2)
    pinger = Pinger(site.lab, site.vm1, VM2[0], SECONDS)
    try:
        pinger.wait(MANY)
        yield pinger
        pinger.wait(MANY)
    finally:
        pings = pinger.stop()
    assert pings.lost == 0, f"{pings}\n{site.report()}"

    def all_there() -> bool:
        sender, receiver = echoes(site.vm1), echoes(site.vm2)
        sent = sender["OutEchos"] - before[0]["OutEchos"]
        received = receiver["InEchos"] - before[1]["InEchos"]
        answers = sender["InEchoReps"] - before[0]["InEchoReps"]
        return sent == received == answers and sent >= pings.sent

    until(all_there, "as many pings arrive as were sent, and as many answers")


def resolve(source: Namespace, address: str) -> None:
    """Have every MAC address on the way known: only so many packets wait for one."""
    source.command("ping", "-c", "1", "-w", "30", address)


def reaches(site: Site, source: Namespace, address: str) -> None:
    resolve(source, address)
    pinger = Pinger(site.lab, source, address, SECONDS)
    try:
        pinger.wait(10)
    finally:
        pings = pinger.stop()
    assert pings.lost == 0, f"{source.name} to {address}: {pings}\n{site.report()}"


def said(site: Site, text: str) -> None:
    """Wait until `headrace run` has said something on both nodes."""
    until(lambda: all(count(node, text) for node in site.nodes), f"says {text!r}", MANY_SECONDS)


def ready(site: Site) -> None:
    """Wait until both nodes say that they are."""

    def all_ready() -> bool:
        return all(node.get("/readyz")[0] == 200 for node in site.nodes)

    until(all_ready, "/readyz is 200 on both nodes", MANY_SECONDS)


def interfaces(node: Node) -> list[tuple[str, tuple[str, ...], str, int]]:
    with EngineClient(node.runtime.socket) as client:
        return sorted((i.name, i.addresses, i.underlay, i.vni) for i in client.items(Interface))


def test_both_families_reach_the_other_node(site: Site) -> None:
    for address in (*VM2, "10.0.0.1", "fd00:10::1"):
        reaches(site, site.vm1, address)
    for address in VM1:
        reaches(site, site.vm2, address)


def test_the_hosts_stack_is_kept_out_of_an_endpoints_device(site: Site) -> None:
    """Neither hears the other, and the engine hears and is heard."""
    host = site.node_a.namespace

    def filters(device: str) -> int:
        sides = (
            host.command("tc", "filter", "show", "dev", device, side)
            for side in ("ingress", "egress")
        )
        return sum("handle 0x4852" in side for side in sides)

    host.command("tc", "qdisc", "delete", "dev", "blue-vm1", "clsact")
    until(lambda: filters("blue-vm1") == 2, "the agent filters again", MANY_SECONDS)
    # That is the host's, too, but for what comes for the node's own prefix.
    assert filters("uplink0") == 1
    for address in VM2:
        reaches(site, site.vm1, address)


def test_a_killed_agent_costs_no_packet_and_the_next_adopts_the_engine(site: Site) -> None:
    engines = [node.engine_pid() for node in site.nodes]
    with pinging(site) as pinger:
        site.stop(signal.SIGKILL)
        pinger.wait(MANY)
        site.start()
        said(site, "adopted the engine")
        ready(site)
    assert [node.engine_pid() for node in site.nodes] == engines


def test_an_unrelated_change_costs_no_packet(site: Site) -> None:
    vm3 = site.lab.endpoint("blue/vm3", VM3, site.node_a)
    with pinging(site):
        site.write("vm3.yaml", VM3_YAML)
        until(lambda: site.node_a.up("blue/vm1", "blue/vm3"), "vm3 is up", MANY_SECONDS)
    for address in (*VM1, *VM2):
        reaches(site, vm3, address)
    with pinging(site):
        (site.lab.manifests / "vm3.yaml").unlink()
        until(lambda: site.node_a.up("blue/vm1"), "vm3 is gone", MANY_SECONDS)


def test_a_killed_engine_comes_back_as_it_was(site: Site) -> None:
    before = interfaces(site.node_b)
    engine = site.node_b.engine_pid()
    resolve(site.vm1, VM2[0])
    pinger = Pinger(site.lab, site.vm1, VM2[0], SECONDS)
    try:
        pinger.wait(MANY)
        os.kill(engine, signal.SIGKILL)
        until(lambda: site.node_b.engine_pid() not in (0, engine), "a new engine", MANY_SECONDS)
        site.wait()
        pinger.wait(MANY, MANY_SECONDS)
    finally:
        pings = pinger.stop()
    assert interfaces(site.node_b) == before
    assert pings.lost == pings.longest_gap, "lost in one stretch alone"
    print(f"the engine was away for {pings.longest_gap * SECONDS:.2f} s")
    metrics = site.node_b.get("/metrics")[1]
    assert "headrace_engine_restarts_total 1.0" in metrics.splitlines()


def test_an_engine_whose_worker_stands_still_is_replaced(site: Site) -> None:
    before = interfaces(site.node_b)
    engine = site.node_b.engine_pid()
    (worker,) = worker_threads(engine)
    with kept_from_running(worker):
        killed(worker)
        until(lambda: site.node_b.engine_pid() not in (0, engine), "a new engine", MANY_SECONDS)
    site.wait()
    assert interfaces(site.node_b) == before
    reaches(site, site.vm1, VM2[0])
    for words in (
        "worker 0 on CPU",
        "has not walked for 500 ms",
        f"process {engine}: worker 0 did not walk for 3 s",
        "headrace-engine: SIGABRT in thread",
        f"process {engine}) ended by signal 6",
    ):
        assert count(site.node_b, words), words


def test_a_broken_manifest_disturbs_nothing_and_is_named(site: Site) -> None:
    manifests = str(site.lab.manifests)
    assert headrace("compile", "-f", manifests).returncode == 0
    wrong = VM3_YAML.replace(VM3[0], "10.9.9.9").replace("name: blue\n", "name: bleu\n")
    with pinging(site):
        site.write("broken.yaml", wrong)
        said(site, "broken.yaml:")
        site.write("unreadable.yaml", "spec: [")
        said(site, "unreadable.yaml:")
    for node in site.nodes:
        assert count(node, "broken.yaml:") == 1
        assert count(node, "unreadable.yaml:") == 1
    site.wait()
    compiled = headrace("compile", "-f", manifests)
    assert compiled.returncode == 1
    lines = compiled.stderr.splitlines()
    assert len(lines) == 2, lines
    assert sum("broken.yaml:" in line and "blue/vm3" in line for line in lines) == 1, lines
    assert sum("unreadable.yaml:" in line for line in lines) == 1, lines


def test_allocations_outlive_a_restart(site: Site) -> None:
    before = {node.name: interfaces(node) for node in site.nodes}
    engines = [node.engine_pid() for node in site.nodes]
    site.stop()
    assert not any(os.path.exists(f"/proc/{pid}") for pid in engines)
    site.write("a.yaml", OTHER_YAML)
    site.start()
    until(lambda: site.node_a.up("blue/vm1", "a/a"), "both are up on node-a", MANY_SECONDS)
    until(lambda: site.node_b.up("blue/vm2"), "vm2 is up on node-b", MANY_SECONDS)
    after = {node.name: interfaces(node) for node in site.nodes}
    assert [i for i in after["node-a"] if i[0] != "a/a"] == before["node-a"]
    assert after["node-b"] == before["node-b"]


def test_metrics_and_probes(site: Site) -> None:
    reaches(site, site.vm1, VM2[0])
    ready(site)
    for node in site.nodes:
        assert node.get("/healthz")[0] == 200
        assert node.get("/nothing")[0] == 404
    status, text = site.node_a.get("/metrics")
    assert status == 200
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert {
        "headrace_build_info",
        "headrace_engine_up",
        "headrace_config_generation_wanted",
        "headrace_config_generation_active",
        "headrace_interface_ready",
        "headrace_interface_receive_packets",
        "headrace_interface_transmit_bytes",
        "headrace_uplink_transmit_packets",
        "headrace_port_receive_missed_packets",
        "headrace_worker_busy_seconds",
        "headrace_worker_burst_packets",
        "headrace_node_packets",
        "headrace_mempool_in_use",
    } <= families.keys()

    def value(name: str, **labels: str) -> float:
        return sum(
            sample.value
            for sample in families[name].samples
            if labels.items() <= sample.labels.items()
        )

    assert value("headrace_engine_up") == 1
    assert value("headrace_interface_ready", interface="blue/vm1") == 1
    assert value("headrace_interface_receive_packets", interface="blue/vm1") >= 5
    assert value("headrace_uplink_transmit_packets", uplink="uplink0") >= 5
    assert value("headrace_config_generation_active") == value("headrace_config_generation_wanted")
    with EngineClient(site.node_a.runtime.socket) as client:
        routes = sum(network.routes4 + network.routes6 for network in client.items(Network))
    assert value("headrace_routes") == routes
