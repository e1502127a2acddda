# SPDX-License-Identifier: Apache-2.0
"""Pods as endpoints: real kubelets, the chart, the example of two tenants with the same addresses.

HEADRACE_TEST_PODS says how many pods come and go; default: 40.
"""

import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6ND_NA,
    ICMPv6ND_RA,
    ICMPv6NDOptPrefixInfo,
    IPv6,
)
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet, Raw

from headrace_api import STARTUP_TAINT, NodeState, entry_key, network_of, pod_device
from tests.cluster.chart import NAMESPACE
from tests.cluster.cluster import STATIC_PODS, Cluster, Node
from tests.cluster.pods import (
    GATEWAY_MAC,
    TOOLBOX,
    Pod,
    apply_example,
    iperf3,
    known,
    manifest,
    pods,
    rolled_out,
    running,
    sniffing,
    wait,
)
from tests.cluster.sandbox import CommandError, until
from tests.cluster.site import NODE_AGENT, SECONDS, ClusterPinger, Site

MANY = int(os.environ.get("HEADRACE_TEST_PODS", "40"))
WAVE = 20
OTHER = "example.com/other"
"""Key of a taint that is not ours."""
CONFLIST = "/var/cni/net.d/10-pods.conflist"
SERVICE = "198.19.0.1"
"""The API server's, in the test cluster."""
MARK = b"sent by a pod that should not"
NOBODY = "02:00:00:00:00:99"
UNSPECIFIED = "0.0.0.0"  # noqa: S104


@pytest.fixture(scope="module")
def tenants(pod_site: Site) -> Site:
    """Blue's pods and red's, Ready."""
    apply_example(pod_site)
    return pod_site


@pytest.fixture
def blue(tenants: Site) -> list[Pod]:
    return pods(tenants, "blue", "app=web")


@pytest.fixture
def red(tenants: Site) -> list[Pod]:
    return pods(tenants, "red", "app=web")


@pytest.fixture
def database(tenants: Site) -> Pod:
    """Red's pod with addresses that nobody in blue has."""
    (found,) = (pod for pod in pods(tenants, "red") if pod.key == "red/db")
    return found


def ping(pod: Pod, address: str, *words: str) -> str:
    return pod.run("ping", "-n", "-i0.2", "-c3", "-w60", *words, address)


def test_the_pods_of_a_deployment_are_on_two_nodes(blue: list[Pod], red: list[Pod]) -> None:
    for tenant in (blue, red):
        assert [pod.node.name for pod in tenant] == ["node-a", "node-b"]
    assert {pod.addresses for pod in blue} == {pod.addresses for pod in red}


def test_each_node_says_what_it_is_like(tenants: Site) -> None:
    """From within the node agent's pod: its kubelet's files and processes, its cards, its pages."""

    def states() -> dict[str, NodeState]:
        items = json.loads(tenants.cluster.kubectl("get", "nodestates", "-o", "json"))["items"]
        return {item["metadata"]["name"]: NodeState.read(item) for item in items}

    def reported() -> bool:
        return [*states()] == ["node-a", "node-b"] and all(
            each.status is not None and each.status.observed_generation == each.metadata.generation
            for each in states().values()
        )

    until(reported, "both nodes have said what they are like", SECONDS)
    for state in states().values():
        status = state.status
        assert status is not None
        assert status.kubelet is not None
        assert status.kubelet.running
        assert status.kubelet.config_readable
        assert status.kubelet.cpu_manager_policy == "static"
        assert status.kubelet.api_servers
        assert status.cpus is not None
        assert status.hugepages is not None
        (dataplane,) = state.spec.dataplanes
        assert dataplane.resource_names == ()
        names = {check.name for check in status.checks}
        assert {"CPU Manager", "the node's own traffic"} <= names
        assert status.conditions[0].type == "Ready"


@pytest.mark.parametrize("family", [0, 1])
def test_a_tenant_reaches_its_own_pod_of_an_address(
    blue: list[Pod], red: list[Pod], family: int
) -> None:
    for tenant, other in ((blue, red), (red, blue)):
        sender, receiver = tenant
        before = [pod.echoes() for pod in (receiver, *other)]
        ping(sender, receiver.addresses[family])
        after = [pod.echoes() for pod in (receiver, *other)]
        assert after[0] >= before[0] + 3
        assert after[1:] == before[1:]


def test_a_tenant_does_not_reach_another(blue: list[Pod], red: list[Pod], database: Pod) -> None:
    assert database.addresses == ("10.0.0.9", "fd00:10::9")
    for address in database.addresses:
        ping(red[1], address)
        before = blue[0].drops().get("no_route", 0)
        with pytest.raises(CommandError, match="100% packet loss"):
            blue[0].run("ping", "-c2", "-i0.2", "-W1", address)
        assert blue[0].drops()["no_route"] >= before + 2


@pytest.mark.parametrize("udp", [False, True], ids=["tcp", "udp"])
@pytest.mark.parametrize("family", [0, 1])
def test_iperf3_passes_with_good_checksums(blue: list[Pod], udp: bool, family: int) -> None:
    client, server = blue
    protocols = ("Tcp", "Udp", "Icmp", "IpExt", "Udp6", "Icmp6")
    words = ("-u", "-b2M", "-n100K") if udp else ("-n1M",)
    report = iperf3(client, server.addresses[family], *words)
    assert report["end"]["sum" if udp else "sum_received"]["bytes"] > 0
    if not udp:
        header = 20 + 12 + (40 if family else 20)
        assert report["start"]["tcp_mss_default"] == client.link()["mtu"] - header
    for pod in blue:
        errors = {name: pod.counter(f"{name}InCsumErrors") for name in protocols}
        assert errors == dict.fromkeys(protocols, 0)


@pytest.mark.parametrize(("family", "header"), [(0, 28), (1, 48)])
def test_packets_as_large_as_the_mtu_pass_whole(blue: list[Pod], family: int, header: int) -> None:
    sender, receiver = blue
    largest = sender.link()["mtu"] - header
    ping(sender, receiver.addresses[family], "-Mdo", f"-s{largest}")
    with pytest.raises(CommandError, match="too long"):
        ping(sender, receiver.addresses[family], "-Mdo", f"-s{largest + 1}")


def test_the_default_route_moves_only_when_asked(tenants: Site, blue: list[Pod]) -> None:
    networks = json.dumps([{"network": "blue", "defaultRoute": True}])
    with running(tenants, manifest("routed", networks)) as (routed,):
        for pod, device in ((blue[0], "eth0"), (routed, "net1")):
            (default,) = json.loads(pod.run("ip", "-json", "route", "show", "default"))
            assert default["dev"] == device
            default6 = json.loads(pod.run("ip", "-json", "-6", "route", "show", "default"))
            assert [route["dev"] for route in default6] == (["net1"] if pod is routed else [])
            # The dataplane's advertisements of a router, which may come any time, are not taken.
            assert pod.run("cat", "/proc/sys/net/ipv6/conf/net1/accept_ra") == "0\n"


def test_a_pod_sends_as_nobody_else(
    tenants: Site, blue: list[Pod], red: list[Pod], database: Pod
) -> None:
    forger, other = blue
    own4, own6 = forger.addresses
    gateway = Ether(src=forger.mac, dst=GATEWAY_MAC)
    to4, to6 = other.addresses

    def four(source: str, **ether: str) -> Packet:
        return Ether(**{"src": forger.mac, "dst": GATEWAY_MAC, **ether}) / (
            IP(src=source, dst=to4) / ICMP() / Raw(MARK)
        )

    def six(source: str, **ether: str) -> Packet:
        return Ether(**{"src": forger.mac, "dst": GATEWAY_MAC, **ether}) / (
            IPv6(src=source, dst=to6) / ICMPv6EchoRequest(data=MARK)
        )

    everybody = {"src": forger.mac, "dst": "33:33:00:00:00:01"}
    advertisement = (
        Ether(**everybody)
        / IPv6(src="fe80::1", dst="ff02::1")
        / ICMPv6ND_RA()
        / ICMPv6NDOptPrefixInfo(prefix="fd00:66::")
        / Raw(MARK)
    )
    underlay = underlay_addresses(tenants)
    forged: dict[str, list[Packet]] = {
        "source": [
            *(four(source) for source in (to4, "10.0.0.9", "10.0.0.1", forger.address)),
            *(four(source) for source in (forger.node.address, UNSPECIFIED, "127.0.0.1")),
            *(six(source) for source in (to6, "fd00:10::9", "fd00:10::1", underlay[0])),
        ],
        "source_mac": [
            *(
                frame(own, src=mac)
                for frame, own in ((four, own4), (six, own6))
                for mac in (other.mac, NOBODY, GATEWAY_MAC)
            ),
        ],
        "": [
            # The gateway, or a neighbour, is at the forger.
            Ether(src=forger.mac, dst="ff:ff:ff:ff:ff:ff")
            / ARP(op=2, hwsrc=forger.mac, psrc="10.0.0.1", hwdst=NOBODY, pdst="10.0.0.1")
            / Raw(MARK),
            Ether(src=forger.mac, dst=GATEWAY_MAC)
            / ARP(op=2, hwsrc=forger.mac, psrc=to4, hwdst=GATEWAY_MAC, pdst="10.0.0.1")
            / Raw(MARK),
            Ether(**everybody)
            / IPv6(src=own6, dst="ff02::1")
            / ICMPv6ND_NA(tgt="fd00:10::1", R=1, S=0, O=1)
            / Raw(MARK),
            advertisement,
            Ether(**everybody) / IPv6(src=own6, dst="ff02::1") / ICMPv6EchoRequest(data=MARK),
            Ether(src=forger.mac, dst="01:00:5e:00:00:01")
            / IP(src=own4, dst="224.0.0.1")
            / ICMP()
            / Raw(MARK),
            gateway / IP(src=own4, dst="255.255.255.255") / ICMP() / Raw(MARK),
            # Link-local, to the gateway for somebody else.
            six("fe80::1"),
            gateway / IPv6(src=own6, dst="fe80::2") / ICMPv6EchoRequest(data=MARK),
        ],
    }
    before = forger.drops()
    with nowhere(tenants, forger, [other, *red, database]) as settled:
        for frames in forged.values():
            forger.send(*map(bytes, frames))
        settled()
    after = forger.drops()
    for reason, frames in forged.items():
        if reason:
            assert after.get(reason, 0) >= before.get(reason, 0) + len(frames), reason
    # Nobody believes that the forger is the gateway.
    ping(other, own4)
    ping(red[0], red[1].addresses[0])


def underlay_addresses(site: Site) -> list[str]:
    """Those of every Interface."""
    found = [item["status"]["underlayAddress"] for item in site.get("interfaces", "-A")]
    assert len(set(found)) == len(found) > 0
    return found


def test_a_pod_reaches_its_network_and_nothing_else(
    tenants: Site, blue: list[Pod], red: list[Pod], database: Pod
) -> None:
    sender, other = blue
    own4, own6 = sender.addresses
    host = sender.node.namespace
    (link,) = json.loads(host.command("ip", "-json", "link", "show", sender.host_device))
    elsewhere = (
        *(node.address for node in tenants.nodes),
        *(pod.address for pod in (other, *red)),
        *(SERVICE, "10.244.1.1", "10.0.0.9", "169.254.169.254"),
    )
    # Underlay addresses of pods, its own and the other tenant's.
    underlay = underlay_addresses(tenants)
    elsewhere6 = (*underlay, "fd00:10::9")
    inner = IP(src="10.0.0.2", dst="10.0.0.9") / ICMP() / Raw(MARK)
    packets: list[Packet] = [
        *(IP(src=own4, dst=address) / UDP(dport=PORT) / Raw(MARK) for address in elsewhere),
        *(IPv6(src=own6, dst=address) / UDP(dport=PORT) / Raw(MARK) for address in elsewhere6),
        # As another node's dataplane would.
        *(
            IPv6(src=source, dst=address, nh=4) / inner
            for source in (own6, *underlay)
            for address in elsewhere6
        ),
        *(
            IP(src=source, dst=address) / UDP(dport=PORT) / Raw(MARK)
            for source in (UNSPECIFIED, own4, sender.node.address, sender.address)
            for address in ("255.255.255.255", "224.0.0.1", sender.node.address)
        ),
    ]
    frames = [
        Ether(src=sender.mac, dst=mac) / packet
        for mac in (GATEWAY_MAC, link["address"], "ff:ff:ff:ff:ff:ff")
        for packet in packets
    ]
    with (
        nowhere(tenants, sender, [other, *red, database]) as settled,
        host.entered(),
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as service,
    ):
        service.bind(("", PORT))
        service.setblocking(False)
        sender.send(*map(bytes, frames))
        settled()
        with pytest.raises(BlockingIOError):
            service.recv(100)
        # It would have said.
        with tenants.nodes[1].namespace.entered(), socket.socket(type=socket.SOCK_DGRAM) as client:
            client.sendto(b"here", (sender.node.address, PORT))
        until(lambda: received(service) == b"here", "the node's service is reached", SECONDS)
    for address in (*elsewhere[:3], SERVICE):
        with pytest.raises(CommandError, match="100% packet loss"):
            sender.run("ping", "-n", "-Inet1", "-c1", "-W1", address)


PORT = 8472
"""Of the VXLAN that cluster networks use on nodes."""


def received(connection: socket.socket) -> bytes:
    try:
        return connection.recv(100)
    except BlockingIOError:
        return b""


@contextmanager
def nowhere(site: Site, sender: Pod, others: list[Pod]) -> Iterator[Callable[[], None]]:
    """See that no frame with MARK comes out of any device but the sender's own.

    Yields a function that waits until all that was sent has been dealt with: a packet that may
    pass has arrived after it, and been seen.
    """
    receiver = others[0]
    spaces = {pod.key: pod.shell for pod in others}
    spaces |= {node.name: node.namespace for node in site.nodes}
    own = {sender.host_device}
    with sniffing(spaces, (MARK, b"may pass")) as seen:

        def settled() -> None:
            packet = IP(src=sender.addresses[0], dst=receiver.addresses[0]) / ICMP()
            frame = Ether(src=sender.mac, dst=GATEWAY_MAC) / packet / Raw(b"may pass")
            ping(sender, receiver.addresses[0])
            sender.send(bytes(frame))
            until(
                lambda: any(where == receiver.key for where, _, what in seen() if what != MARK),
                "what may pass has passed",
                SECONDS,
            )

        yield settled
        found = [(where, device) for where, device, what in seen() if what == MARK]
        assert not [place for place in found if place[1] not in own], found
        # The sender's own device has had them: they were sent, and would have been seen.
        assert (sender.node.name, sender.host_device) in found


def test_a_stateful_set_keeps_its_addresses_on_another_node(tenants: Site, blue: list[Pod]) -> None:
    def stateful(node: Node) -> str:
        pod = manifest("kept", "blue", nodeSelector={"kubernetes.io/hostname": node.name})
        template = {part: pod[part] for part in ("metadata", "spec")}
        template["metadata"]["annotations"]["headrace.dev/keep-addresses"] = "true"
        template["spec"]["containers"][0]["image"] = TOOLBOX
        template["spec"]["terminationGracePeriodSeconds"] = 1
        spec = {"selector": {"matchLabels": {"test": "kept"}}, "serviceName": "kept"}
        return json.dumps(
            {
                "apiVersion": "apps/v1",
                "kind": "StatefulSet",
                "metadata": {"name": "kept", "namespace": "blue"},
                "spec": {**spec, "replicas": 1, "template": template},
            }
        )

    def start(node: Node) -> Pod:
        tenants.cluster.kubectl("apply", "-f", "-", stdin=stateful(node))
        rolled_out(tenants, "statefulset/kept", "blue")
        (found,) = pods(tenants, "blue", "test=kept")
        return found

    found: list[Pod] = []
    for node in tenants.nodes:
        found.append(start(node))
        assert found[-1].node is node
        for pod in blue:
            ping(pod, found[-1].addresses[0])
            ping(pod, found[-1].addresses[1])
    tenants.cluster.kubectl("delete", "pod", "kept-0", "-n", "blue")
    found.append(start(tenants.nodes[1]))
    assert len({pod.uid for pod in found}) == 3
    assert len({pod.addresses for pod in found}) == 1
    tenants.cluster.kubectl("delete", "statefulset", "kept", "-n", "blue")
    until(
        lambda: "kept-0-blue" not in interfaces(tenants, "blue"), "the Interface is gone", SECONDS
    )


def interfaces(site: Site, namespace: str) -> set[str]:
    return {item["metadata"]["name"] for item in site.get("interfaces", "-n", namespace)}


def test_an_interface_written_by_hand_outlives_its_pods(tenants: Site, blue: list[Pod]) -> None:
    interface = {
        "apiVersion": "headrace.dev/v1alpha1",
        "kind": "Interface",
        "metadata": {"name": "kept", "namespace": "blue"},
        "spec": {
            "networkRef": {"name": "blue"},
            "pipelineRef": {"name": "router"},
            "attachment": {"type": "Pod", "pod": {"name": "three", "deviceName": "blue0"}},
        },
    }
    tenants.cluster.kubectl("apply", "-f", "-", stdin=json.dumps(interface))
    found = []
    three = manifest("three", "")
    three["metadata"]["annotations"] = {"headrace.dev/interfaces": "kept"}
    for _ in range(2):
        with running(tenants, three) as (pod,):
            found.append(pod.addresses)
            assert pod.link("blue0")["operstate"] == "UP"
            ping(pod, blue[1].addresses[0])
    assert found[0] == found[1]
    tenants.cluster.kubectl("delete", "interface", "kept", "-n", "blue")


def test_a_static_pod_joins_its_network(tenants: Site, blue: list[Pod]) -> None:
    """Its node knows it by another uid than the API server."""
    node = blue[0].node
    item = manifest("static", "blue", image=TOOLBOX, terminationGracePeriodSeconds=1)
    path = node.namespace.path(f"{STATIC_PODS}/static.json")
    path.write_text(json.dumps(item))

    def mirrors() -> list[Any]:
        return tenants.pods("-n", "blue", "-l", "test=static")

    try:
        until(lambda: bool(mirrors()), "its mirror is there", SECONDS)
        wait(tenants, f"pod/static-{node.name}", "-n", "blue")
        (pod,) = pods(tenants, "blue", "test=static")
        ping(pod, blue[1].addresses[0])
    finally:
        path.unlink()
    until(lambda: not mirrors(), "it is gone", SECONDS)


def test_no_pod_starts_without_its_network_while_no_agent_runs(
    tenants: Site, blue: list[Pod]
) -> None:
    """As at boot: and the cluster's own network writes its configuration meanwhile.

    A pod that tolerates the startup taint waits on the node, another for a node.
    """
    node = blue[0].node
    kubectl = tenants.cluster.kubectl
    patch = ("patch", "daemonset/headrace-node", "-n", NAMESPACE, "--type=merge", "-p")

    def place(label: str | None) -> None:
        spec = {"template": {"spec": {"nodeSelector": {"example.com/nobody": label}}}}
        kubectl(*patch, json.dumps({"spec": spec}))

    def agents() -> list[Any]:
        return list(tenants.get("pods", "-n", NAMESPACE, "-l", "app.kubernetes.io/component=node"))

    def refused() -> bool:
        return "is the pod headrace-node of this node running?" in kubectl(
            "describe", "pod/early", "-n", "blue"
        )

    def taints() -> list[str]:
        return [each["key"] for each in tenants.get("node", node.name)["spec"].get("taints", ())]

    place_of = {"kubernetes.io/hostname": node.name}
    quick = {"image": TOOLBOX, "terminationGracePeriodSeconds": 1}
    tolerations = [{"operator": "Exists"}]
    early = manifest("early", "blue", nodeSelector=place_of, tolerations=tolerations, **quick)
    held = manifest("held", "blue", nodeSelector=place_of, **quick)
    place("has-this")
    try:
        until(lambda: not agents(), "no agent runs", SECONDS)
        path = node.namespace.path(CONFLIST)
        config = json.loads(path.read_text())
        config["plugins"] = [each for each in config["plugins"] if each["type"] == "bridge"]
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps(config))
        fresh.rename(path)
        kubectl("taint", "node", node.name, f"{STARTUP_TAINT}:NoSchedule", f"{OTHER}:NoSchedule")
        for item in (early, held):
            kubectl("apply", "-f", "-", stdin=json.dumps(item))
        until(refused, "its pod waits for the agent", SECONDS)
        assert "nodeName" not in tenants.get("pod/held", "-n", "blue")["spec"]
        assert {*taints()} == {STARTUP_TAINT, OTHER}
    finally:
        place(None)
    rolled_out(tenants, "daemonset/headrace-node", NAMESPACE)
    until(lambda: taints() == [OTHER], "the node takes pods, but for the other taint", SECONDS)
    until(lambda: plugins(node) == ["bridge", "headrace-cni"], "the entry is there", SECONDS)
    for words in (("taint", "node", node.name, f"{OTHER}-"), ("label", "node", node.name, "a=b")):
        with pytest.raises(CommandError, match="may remove the taint"):
            kubectl(*words, f"--as=system:serviceaccount:{NAMESPACE}:headrace-operator")
    kubectl("taint", "node", node.name, f"{OTHER}-")
    with running(tenants, early, held) as waited:
        for pod in waited:
            ping(pod, blue[1].addresses[0])


def served(site: Site, node: Node) -> set[str]:
    """Interfaces that the engine of a node has."""
    try:
        items = json.loads(site.exec(node, "headrace", "interfaces", "-o", "json"))
    except CommandError as error:
        # On a busy machine an engine may take longer than its client waits.
        return {str(error)}
    return {item["name"] for item in items}


def left(site: Site) -> dict[str, list[Any]]:
    """What is there for pods that are not: Interfaces, addresses, routes, links, sandboxes."""
    nodes = {
        f"{pod['metadata']['namespace']}/{pod['metadata']['name']}": pod["spec"].get("nodeName")
        for pod in site.get("pods", "-A")
        if not pod["spec"].get("hostNetwork")
    }
    found: dict[str, list[Any]] = {"interfaces": [], "configs": [], "routes": []}
    known, routed = dict[str, str | None](), set[tuple[str, str]]()
    for item in site.get("interfaces", "-A"):
        namespace, name = item["metadata"]["namespace"], item["metadata"]["name"]
        pod = f"{namespace}/{item['spec']['attachment']['pod']['name']}"
        if pod not in nodes:
            found["interfaces"].append(name)
            continue
        known[f"{namespace}/{name}"] = nodes[pod]
        network = f"{namespace}/{item['spec']['networkRef']['name']}"
        routed |= {(network, address) for address in item["status"].get("addresses", ())}
    for item in site.get("slices", "-n", NAMESPACE):
        spec = item["spec"]
        for entry in spec["entries"]:
            if spec["type"] == "Interfaces" and known.get(entry_key(entry)) != spec["nodeName"]:
                found["configs"].append(entry["name"])
            if spec["type"] == "Routes":
                place = (network_of(spec), entry["prefix"].partition("/")[0])
                if place not in routed:
                    found["routes"].append(place)
    for node in site.nodes:
        own = {key for key, name in known.items() if name == node.name}
        links = json.loads(node.namespace.command("ip", "-json", "link"))
        devices = {link["ifname"] for link in links if link["ifname"].startswith("hr")}
        found[f"links of {node.name}"] = sorted(devices - {pod_device(key) for key in own})
        found[f"engine of {node.name}"] = sorted(served(site, node) - own)
        sandboxes = node.namespace.command("ls", "/run/netns").split()
        found[f"sandboxes of {node.name}"] = sandboxes[[*nodes.values()].count(node.name) :]
    return {what: names for what, names in found.items() if names}


def test_many_pods_leave_nothing_behind(
    tenants: Site, cluster_namespace: str, say: Callable[[str], None]
) -> None:
    """In a network with room for a wave and a half: addresses have to come back."""
    network = {
        "apiVersion": "headrace.dev/v1alpha1",
        "kind": "VirtualNetwork",
        "metadata": {"name": "small", "namespace": cluster_namespace},
        "spec": {"subnets": [{"prefix": "10.9.0.0/27"}, {"prefix": "fd00:9::/64"}]},
    }
    tenants.cluster.kubectl("apply", "-f", "-", stdin=json.dumps(network))
    numbers, began = count(), time.monotonic()
    for first in range(0, MANY, WAVE):
        wave = [f"many-{next(numbers)}" for _ in range(min(WAVE, MANY - first))]
        hasty, others = wave[::4], [name for name in wave if name not in wave[::4]]
        items = [
            manifest(name, "small", namespace=cluster_namespace, terminationGracePeriodSeconds=1)
            for name in wave
        ]
        everything = {"apiVersion": "v1", "kind": "List", "items": items}
        words = ("-n", cluster_namespace)
        tenants.cluster.kubectl("apply", "-f", "-", stdin=json.dumps(everything), seconds=SECONDS)
        # Wherever they are by now: not scheduled, waiting for their network, just started.
        tenants.cluster.kubectl(
            *("delete", "pod", *hasty, *words, "--force", "--grace-period=0", "--wait=false")
        )
        if others:
            wait(tenants, "pod", *others, *words)
        tenants.cluster.kubectl("delete", "pod", *others, *words, seconds=SECONDS)
    took = time.monotonic() - began
    nothing_is_left(tenants)
    say(f"{MANY} pods came and went in {took:.0f} s")


def nothing_is_left(site: Site) -> None:
    try:
        until(lambda: not left(site), "nothing of pods that are gone is left", SECONDS)
    except CommandError as error:
        raise AssertionError(f"{error}: {left(site)}") from error


@pytest.fixture
def unchanged(tenants: Site, blue: list[Pod]) -> Iterator[None]:
    """Whatever happens, pods and their links stay as they were."""

    def seen() -> list[Any]:
        found = []
        for pod in pods(tenants, "blue", "app=web"):
            devices = json.loads(pod.run("ip", "-json", "address", "show"))
            for device in devices:
                for address in device["addr_info"]:
                    # Seconds that go by.
                    address.pop("valid_life_time"), address.pop("preferred_life_time")
            found.append((pod.uid, pod.addresses, devices))
        return found

    before = seen()
    yield
    assert seen() == before


@contextmanager
def gap(
    site: Site, pods_: list[Pod], what: str, say: Callable[[str], None]
) -> Iterator[ClusterPinger]:
    """Ping from the first pod to the second, and say for how long it had no answer."""
    sender, receiver = pods_
    with known(site, sender):
        pinger = ClusterPinger(site, sender.key, receiver.addresses[0], 0.01)
        try:
            pinger.wait(50, SECONDS)
            yield pinger
            pinger.wait(50, SECONDS)
        finally:
            pings = pinger.stop()
    say(f"{what}: {pings.longest_gap * 10} ms without an answer")


def test_nothing_is_lost_when_node_agents_are_killed(
    tenants: Site, blue: list[Pod], unchanged: None
) -> None:
    agents = (NAMESPACE, "-l", "app.kubernetes.io/component=node")
    with known(tenants, *blue), tenants.lossless((blue[0].key, blue[1].key, blue[1].addresses[0])):
        for pod in tenants.pods("-n", *agents):
            name = pod["metadata"]["name"]
            tenants.cluster.kubectl(
                *("delete", "pod", name, "-n", NAMESPACE, "--force", "--grace-period=0")
            )
        # Only a DaemonSet that is gone takes it out: pods that start meanwhile must wait.
        assert [plugins(node) for node in tenants.nodes] == [["bridge", "headrace-cni"]] * 2
        rolled_out(tenants, "daemonset/headrace-node", NAMESPACE)


def plugins(node: Node) -> list[str]:
    config = json.loads(node.namespace.command("cat", CONFLIST))
    return [plugin["type"] for plugin in config["plugins"]]


def test_pods_go_on_after_their_engine_has_crashed(
    tenants: Site, blue: list[Pod], unchanged: None, say: Callable[[str], None]
) -> None:
    (engine,) = tenants.processes(blue[1].node, "headrace-engine")
    with gap(tenants, blue, "engine killed", say):
        os.kill(engine, signal.SIGKILL)
        until(
            lambda: tenants.processes(blue[1].node, "headrace-engine") not in ([], [engine]),
            "another engine runs",
            SECONDS,
        )


def test_pods_go_on_after_their_dataplane_pod_was_deleted(
    tenants: Site, blue: list[Pod], unchanged: None, say: Callable[[str], None]
) -> None:
    old = tenants.pod(blue[1].node)["metadata"]["uid"]

    def replaced() -> bool:
        found = [pod for pod in tenants.pods() if pod["spec"]["nodeName"] == blue[1].node.name]
        return bool(found) and found[0]["metadata"]["uid"] != old

    with gap(tenants, blue, "dataplane pod deleted", say):
        name = tenants.pod(blue[1].node)["metadata"]["name"]
        tenants.cluster.kubectl("delete", "pod", name, "-n", NAMESPACE)
        until(replaced, "another pod is there", SECONDS)
    tenants.ready()


def test_pods_go_on_after_the_chart_was_upgraded(
    tenants: Site, blue: list[Pod], unchanged: None, say: Callable[[str], None]
) -> None:
    before = {pod["metadata"]["uid"] for pod in tenants.pods()}

    def replaced() -> bool:
        return len({pod["metadata"]["uid"] for pod in tenants.pods()} - before) == 2

    with gap(tenants, blue, "chart upgraded", say):
        values = NODE_AGENT | {"dataplane.podLabels": {"example.com/upgraded": "yes"}}
        tenants.upgrade(**values)
        until(replaced, "both dataplanes are new", SECONDS)
        rolled_out(tenants, "daemonset/headrace-router", NAMESPACE)
    tenants.ready()


def test_a_node_that_was_rebooted_comes_back(tenants: Site, cluster: Cluster) -> None:
    """No process, network namespace or device outlives it, and nothing in /run."""

    def containers() -> dict[str, str]:
        return {
            f"{pod['metadata']['namespace']}/{pod['metadata']['name']}": status["containerID"]
            for pod in tenants.pods("-A")
            if pod["spec"].get("nodeName") == node.name
            for status in pod["status"].get("containerStatuses", ())
            if status["ready"]
        }

    node, other = tenants.nodes
    before = containers()
    addresses = {
        pod.key: pod.addresses for tenant in ("blue", "red") for pod in pods(tenants, tenant)
    }
    assert len(before) >= 4
    node.reboot()
    cluster.join(node, other)

    def renewed() -> bool:
        node.revive()
        now = containers()
        return now.keys() == before.keys() and not {*now.values()} & {*before.values()}

    try:
        until(renewed, "all containers of the node run again", 2 * SECONDS)
    except CommandError as error:
        raise AssertionError(f"{error}: {before}, {containers()}\n{tenants.report()}") from error
    assert plugins(node) == ["bridge", "headrace-cni"]
    after = [pod for tenant in ("blue", "red") for pod in pods(tenants, tenant)]
    assert {pod.key: pod.addresses for pod in after} == addresses
    for tenant in ("blue", "red"):
        one, two = pods(tenants, tenant, "app=web")
        for sender, receiver in ((one, two), (two, one)):
            for address in receiver.addresses:
                ping(sender, address)
    nothing_is_left(tenants)


def test_a_release_that_goes_leaves_the_runtime_as_it_was(tenants: Site) -> None:
    assert [plugins(node) for node in tenants.nodes] == [["bridge", "headrace-cni"]] * 2
    tenants.cluster.helm("uninstall", "headrace", "-n", NAMESPACE, "--wait")
    for node in tenants.nodes:
        until(lambda: plugins(node) == ["bridge"], "the conflist is as it was", SECONDS)  # noqa: B023
