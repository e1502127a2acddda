# SPDX-License-Identifier: Apache-2.0
"""One tenant against another, on the real engine: nothing of the one reaches the other."""

import signal

from prometheus_client.parser import text_string_to_metric_families

from headrace_cli.local import StateFile
from headrace_dataplane.protocol import EngineClient, Interface
from headrace_demo.lab import Namespace, Node, until
from tests.e2e.conftest import MANY_SECONDS, VM2, Site, count, echoes

PINGS = 5
RED_NETWORK = """
apiVersion: headrace.dev/v1alpha1
kind: VirtualNetwork
metadata:
  name: red
  namespace: red
spec:
  subnets:
    - prefix: 10.0.0.0/24
"""
RED_VM9 = f"""
---
apiVersion: headrace.dev/v1alpha1
kind: Interface
metadata:
  name: vm9
  namespace: red
spec:
  networkRef:
    name: red
  pipelineRef:
    name: router
  nodeName: node-b
  addresses: ["{VM2[0]}"]
  attachment:
    type: AFPacket
    afPacket:
      deviceName: red-vm9
"""


def drops(node: Node, reason: str) -> float:
    return sum(
        sample.value
        for family in text_string_to_metric_families(node.get("/metrics")[1])
        for sample in family.samples
        if sample.name == "headrace_worker_dropped_packets_total"
        and sample.labels["reason"] == reason
    )


def hammer(machine: Namespace, address: str) -> None:
    """Send what nobody answers, and wait until all of it is sent."""
    before = echoes(machine)["OutEchos"]
    # It exits with 1, as no answer comes.
    machine.command("sh", "-c", f"! ping -n -c {PINGS} -i 0.05 -W 0.2 {address}")
    assert echoes(machine)["OutEchos"] == before + PINGS


def underlay(node: Node, interface: str) -> str:
    """Underlay address of an Interface, as its engine has it."""
    with EngineClient(node.runtime.socket) as client:
        (found,) = (each.underlay for each in client.items(Interface) if each.name == interface)
    return found


def test_a_node_that_is_cut_off_sends_nothing_to_who_came_after(site: Site) -> None:
    """Its routes lead to an Interface that is gone; its node has one of another tenant now."""
    lab, (node_a, node_b) = site.lab, site.nodes
    red = lab.endpoint("red/vm9", (VM2[0],), node_b)
    site.vm1.command("ping", "-n", "-c", "1", "-W", "5", VM2[0])
    before = underlay(node_b, "blue/vm2")
    assert node_a.agent is not None
    node_a.agent.send_signal(signal.SIGKILL)
    node_a.agent.wait(MANY_SECONDS)
    blue = (lab.manifests / "blue.yaml").read_text()
    others, _, _ = blue.rpartition("---")
    assert "vm1" in others and "vm2" not in others
    site.write("blue.yaml", others)
    site.write("red.yaml", RED_NETWORK + RED_VM9)
    until(lambda: node_b.up("red/vm9"), "red's machine is up", MANY_SECONDS)
    assert underlay(node_b, "red/vm9") != before
    dropped = drops(node_b, "unknown_underlay")
    hammer(site.vm1, VM2[0])
    until(
        lambda: drops(node_b, "unknown_underlay") >= dropped + PINGS,
        "node-b has dropped them",
        MANY_SECONDS,
    )
    assert echoes(red)["InEchos"] == 0


def test_a_route_to_the_address_of_anothers_interface_leads_nowhere(site: Site) -> None:
    """Not even an administrator's UnderlayEndpoint may have it."""
    lab, (node_a, node_b) = site.lab, site.nodes
    red = lab.endpoint("red/vm9", (VM2[0],), node_b)
    site.write("red.yaml", RED_NETWORK + RED_VM9)
    until(lambda: node_b.up("blue/vm2", "red/vm9"), "red's machine is up", MANY_SECONDS)
    target = underlay(node_b, "red/vm9")
    route = "routes: [{prefix: 10.0.0.77/32, nextHops: [{%s}]}]\n  subnets:"
    blue = (lab.manifests / "blue.yaml").read_text()
    site.write("blue.yaml", blue.replace("subnets:", route % f'underlayAddress: "{target}"'))
    until(
        lambda: count(node_a, "underlayAddress: no such field") > 0, "it is refused", MANY_SECONDS
    )
    site.write(
        "hole.yaml",
        f"""
apiVersion: headrace.dev/v1alpha1
kind: UnderlayEndpoint
metadata:
  name: hole
spec:
  address: "{target}"
  namespaceSelector: {{}}
  networkSelector: {{}}
""",
    )
    site.write("blue.yaml", blue.replace("subnets:", route % "endpointRef: {name: hole}"))
    until(lambda: count(node_a, "AddressInsideUnderlayPrefix") > 0, "it is refused", MANY_SECONDS)
    until(lambda: count(node_a, "EndpointNotFound") > 0, "the route leads nowhere", MANY_SECONDS)
    hammer(site.vm1, "10.0.0.77")
    assert echoes(red)["InEchos"] == 0
    site.vm1.command("ping", "-n", "-c", "1", "-W", "5", VM2[0])


def test_a_vni_of_a_network_that_is_gone_is_nobodys_at_once(site: Site) -> None:
    site.write("red.yaml", RED_NETWORK)
    site.write(
        "green.yaml", RED_NETWORK.replace("red", "green").replace("spec:", "spec:\n  vni: 9")
    )

    def vni_of(name: str) -> int | None:
        found = StateFile(site.lab.state).load().allocations.networks.get(name)
        return found.vni if found else None

    until(lambda: vni_of("red/red") is not None, "red has a VNI", MANY_SECONDS)
    until(lambda: vni_of("green/green") == 9, "green has its own", MANY_SECONDS)
    first = vni_of("red/red")
    (site.lab.manifests / "red.yaml").unlink()
    (site.lab.manifests / "green.yaml").unlink()
    until(
        lambda: vni_of("red/red") is None and vni_of("green/green") is None,
        "they are gone",
        MANY_SECONDS,
    )
    site.write("thief.yaml", RED_NETWORK.replace("red", "thief"))
    text = RED_NETWORK.replace("red", "robber").replace("spec:", "spec:\n  vni: 9")
    site.write("robber.yaml", text)
    until(lambda: vni_of("thief/thief") is not None, "another has one", MANY_SECONDS)
    assert vni_of("thief/thief") != first
    until(
        lambda: count(site.node_a, "nodes may still use it") > 0, "its own is refused", MANY_SECONDS
    )
    assert vni_of("robber/robber") is None
