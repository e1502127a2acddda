# SPDX-License-Identifier: Apache-2.0
"""The CNI plugin and the node agent, as a container runtime drives them; what the operator and the
dataplane would say, the tests say themselves."""

import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from signal import SIGKILL, SIGTERM
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace_api import pod_device
from headrace_dataplane.node.cni import POD_ANNOTATIONS, VERSIONS
from headrace_kube import DATAPLANE_CONFIGS
from tests.cluster.chart import render
from tests.cluster.cluster import REPOSITORY, Cluster
from tests.cluster.conftest import install_crds
from tests.cluster.gotools import go_tools
from tests.cluster.sandbox import Daemon, only_child, until

SECONDS = 60.0
"""For what takes seconds, on a busy machine."""
SYSTEM = "cni-test-system"
NODE = "node-a"
SOCKET = "/run/headrace/node/cni.sock"
PREVIOUS: dict[str, Any] = {
    "cniVersion": "1.0.0",
    "interfaces": [{"name": "eth0", "mac": "02:00:00:00:00:01", "sandbox": "/run/netns/x"}],
    "ips": [{"address": "10.244.0.9/24", "gateway": "10.244.0.1", "interface": 0}],
    "dns": {"nameservers": ["10.96.0.10"]},
}


READERS = """
import contextlib, socket, time

readers = {}
while True:
    there = {number: name for number, name in socket.if_nameindex() if name.startswith("hr")}
    for number in readers.keys() - there.keys():
        readers.pop(number).close()
    for number in there.keys() - readers.keys():
        reader = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        with contextlib.suppress(OSError):
            reader.bind((there[number], 3))
            readers[number] = reader
    time.sleep(0.02)
"""
"""Opens the devices of pods, as an engine does, whatever is compiled."""


@dataclass(frozen=True)
class Answer:
    """What the plugin says."""

    status: int
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    def code(self) -> int:
        """The error's code."""
        assert self.status != 0, self.text
        return int(self.json["code"])


class Host:
    """A node with an agent, a tenant's network, and a container runtime: this class."""

    def __init__(self, cluster: Cluster, plugin: Path, namespace: str) -> None:
        self.cluster = cluster
        self.root = cluster.sandbox.root
        self.plugin = plugin
        self.namespace = namespace
        self.numbers = itertools.count(2)
        self.interfaces: dict[str, dict[str, Any]] = {}
        """What is compiled, by name."""
        self.ready: set[str] = set()
        self.networks: dict[str, str] = {}
        """Of pods, as the runtime gives the annotation."""
        self.conf = self.root.path("/run/cni-conf")
        self.conf.mkdir()
        self.kubeconfig = "/run/cluster/headrace-node"
        self._write_kubeconfig()
        self.engine = Daemon(self.root, cluster.logs / "readers", sys.executable, "-c", READERS)
        self.agent = self.start()

    def _write_kubeconfig(self) -> None:
        """With the rights of the chart's node agent: what it may not, fails here."""
        view = json.loads(self.root.path(self.cluster.inner_kubeconfig).read_text())
        token = self.cluster.kubectl("create", "token", "headrace-node", "-n", SYSTEM)
        view["users"][0]["user"] = {"token": token.strip()}
        view["contexts"][0]["context"]["namespace"] = SYSTEM
        self.root.path(self.kubeconfig).write_text(json.dumps(view))

    def start(self) -> Daemon:
        agent = Daemon(
            self.root,
            self.cluster.logs / "headrace-node",
            *(sys.executable, "-m", "headrace_dataplane.node.main", f"--node={NODE}"),
            *(f"--kubeconfig={self.kubeconfig}", "--log-format=text", "--conf-dir=/run/cni-conf"),
            *(f"--plugin={self.plugin}", "--bin-dir=/run/cni-bin", "--daemon-set=headrace-node"),
        )
        until(self.serves, "the agent serves", SECONDS)
        return agent

    def serves(self) -> bool:
        return self.root.path(SOCKET).exists() and self.cni("STATUS").status == 0

    def stop(self, number: Any = SIGTERM) -> None:
        self.agent.stop(number)

    def said(self, text: str) -> bool:
        return text in self.agent.log.read_text()

    def sandbox(self, name: str) -> str:
        """Make the network namespace of a pod; return its path."""
        self.root.command("ip", "netns", "add", name)
        self.inside(name, "ip", "link", "set", "lo", "up")
        return f"/run/netns/{name}"

    def inside(self, name: str, *words: str) -> str:
        return self.root.command("nsenter", f"--net=/run/netns/{name}", *words)

    def words(self, command: str, pod: str, netns: str, container: str) -> tuple[str, ...]:
        variables = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": container,
            "CNI_NETNS": netns,
            "CNI_IFNAME": "eth0",
            "CNI_PATH": "/run/cni-bin",
            "CNI_ARGS": self.arguments(pod),
        }
        if not pod:
            variables = {"CNI_COMMAND": command, "CNI_PATH": "/run/cni-bin"}
        given = (f"{name}={value}" for name, value in variables.items())
        return self.root.words("env", *given, str(self.plugin))

    def cni(
        self,
        command: str,
        pod: str = "",
        *,
        container: str = "",
        netns: str | None = None,
        stdin: bytes | None = None,
        **config: Any,
    ) -> Answer:
        """Run the plugin; the configuration's other keys are given by name."""
        path = f"/run/netns/{pod}" if netns is None else netns
        done = subprocess.run(
            self.words(command, pod, path, container or f"c-{pod}"),
            input=self.config(pod, **config) if stdin is None else stdin,
            capture_output=True,
            check=False,
            timeout=SECONDS,
        )
        assert done.stderr == b""
        return Answer(done.returncode, done.stdout.decode())

    def cnitool(self, tools: Path, command: str, pod: str, network: str = "pods") -> Answer:
        """Have the reference implementation's runtime run a list with the plugin alone in it."""
        # What it remembers of results belongs to this sandbox, too.
        inside = 'mkdir -p /run/cni-var && mount --bind /run/cni-var /var/lib && exec "$@"'
        words = self.root.words(
            *(
                "unshare",
                "--mount",
                "bash",
                "-euc",
                inside,
                "cnitool",
                "env",
                "CNI_PATH=/run/cni-bin",
            ),
            *("NETCONFPATH=/run/cni-lists", f"CNI_ARGS={self.arguments(pod)}"),
            *(f"CAP_ARGS={json.dumps(self.capabilities(pod))}", str(tools / "cnitool")),
            *(command, network, f"/run/netns/{pod}"),
        )
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=SECONDS)
        return Answer(done.returncode, done.stdout + done.stderr)

    def arguments(self, pod: str) -> str:
        names = {"NAMESPACE": self.namespace, "NAME": pod, "UID": f"uid-of-{pod}"}
        given = (f"K8S_POD_{name}={value}" for name, value in names.items())
        return ";".join(("IgnoreUnknown=1", *given))

    def capabilities(self, pod: str) -> Any:
        networks = self.networks.get(pod)
        return {POD_ANNOTATIONS: {"headrace.dev/networks": networks} if networks else None}

    def config(self, pod: str, **more: Any) -> bytes:
        defaults = {"cniVersion": "1.0.0", "name": "pods", "type": "headrace-cni"}
        runtime = {"runtimeConfig": self.capabilities(pod)}
        return json.dumps({**defaults, **runtime, "timeoutSeconds": 30, **more}).encode()

    def apply(self, *items: Any, status: bool = False) -> None:
        more = ("--subresource=status",) if status else ()
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
        self.cluster.kubectl(
            *("apply", "--server-side", "--force-conflicts", "--validate=false", "-f", "-", *more),
            stdin=text,
        )

    def make_interfaces(self, *names: str, allocated: bool = True, **more: Any) -> None:
        """Make Interfaces `pod-network`, and what the operator says of them."""
        items = []
        for name in names:
            pod, _, network = name.rpartition("-")
            number = next(self.numbers)
            attachment = {"type": "Pod", "pod": {"name": pod, **more}}
            addresses = [f"10.0.{number // 250}.{number % 250}", f"fd00:10::{number:x}"]
            if network == "red":
                addresses = [f"10.1.{number // 250}.{number % 250}"]
            self.interfaces[name] = {
                "namespace": self.namespace,
                "name": name,
                "network": f"{self.namespace}/{network}",
                "vni": 4096,
                "attachment": attachment,
                "addresses": addresses,
                "gateways": ["10.0.0.1", "fd00:10::1", "fe80::1"],
                "underlayAddress": f"fd00:1:0:1::{number:x}",
                "sourceCheck": "Enabled",
                "mtu": 1400,
            }
            items.append(
                {
                    "apiVersion": "headrace.dev/v1alpha1",
                    "kind": "Interface",
                    "metadata": {"name": name, "namespace": self.namespace},
                    "spec": {
                        "networkRef": {"name": network},
                        "pipelineRef": {"name": "router"},
                        "attachment": attachment,
                    },
                }
            )
        self.apply(*items)
        if allocated:
            self.allocate(*names)

    def allocate(self, *names: str, reason: str = "DataplaneNotReady") -> None:
        """Write the Interfaces' status, as long as the dataplane has not said that it forwards."""
        condition = {
            "type": "Ready",
            "status": "False",
            "reason": reason,
            "message": "node-a has no dataplane pod",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }
        self.apply(
            *(
                {
                    "apiVersion": "headrace.dev/v1alpha1",
                    "kind": "Interface",
                    "metadata": {"name": name, "namespace": self.namespace},
                    "status": {
                        "addresses": self.interfaces[name]["addresses"],
                        "nodeName": NODE,
                        "conditions": [condition],
                    },
                }
                for name in names
            ),
            status=True,
        )

    def compile(self, *ready: str) -> None:
        """Write the node's DataplaneConfig, and that these Interfaces forward, too."""
        self.ready |= {*ready}
        item: Any = {
            "apiVersion": DATAPLANE_CONFIGS.api_version,
            "kind": DATAPLANE_CONFIGS.name,
            "metadata": {"name": f"router.{NODE}", "namespace": SYSTEM},
        }
        network = {
            "namespace": self.namespace,
            "name": "blue",
            "vni": 4096,
            "mtu": 1400,
            "gateways": ["10.0.0.1", "fd00:10::1"],
            "subnets": ["10.0.0.0/16", "fd00:10::/64"],
            "routeSlices": [],
        }
        red = {
            **network,
            "name": "red",
            "gateways": ["10.1.0.1"],
            "subnets": ["10.1.0.0/16"],
        }
        spec = {
            "pipelineName": "router",
            "nodeName": NODE,
            "workers": {"count": 1},
            "underlayPrefix": "fd00:1:0:1::/64",
            "underlayAddress": "fd00:1:0:1::1",
            "networks": [network, red],
            "interfaces": list(self.interfaces.values()),
        }
        self.apply({**item, "spec": spec})
        states = [
            {"namespace": self.namespace, "name": name, "ready": name in self.ready}
            for name in self.interfaces
        ]
        self.apply({**item, "status": {"interfaces": states}}, status=True)

    def pod(self, name: str, **more: Any) -> str:
        """Make a pod in blue whose dataplane forwards, and its namespace; return its device."""
        self.sandbox(name)
        self.networks[name] = "blue"
        self.make_interfaces(f"{name}-blue", **more)
        self.compile(f"{name}-blue")
        return self.device(f"{name}-blue")

    def device(self, interface: str) -> str:
        return pod_device(f"{self.namespace}/{interface}")

    def links(self) -> set[str]:
        """The devices of pods on the host."""
        found = json.loads(self.root.command("ip", "-j", "link"))
        return {link["ifname"] for link in found if link["ifname"].startswith("hr")}

    def addresses(self, pod: str, device: str = "net1") -> set[str]:
        (link,) = json.loads(self.inside(pod, "ip", "-j", "address", "show", "dev", device))
        return {
            f"{one['local']}/{one['prefixlen']}"
            for one in link["addr_info"]
            if one["scope"] == "global"
        }

    def routes(self, pod: str, *words: str) -> dict[str, Any]:
        found = json.loads(self.inside(pod, "ip", "-j", *words, "route"))
        return {route["dst"]: route.get("gateway") for route in found}

    def clear(self) -> None:
        self.cluster.kubectl("delete", "interfaces", "--all", "-n", self.namespace)


@pytest.fixture(scope="session")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The plugin, built as the image's is."""
    folder = tmp_path_factory.mktemp("cni")
    for words in (
        ("meson", "setup", str(folder), str(REPOSITORY / "dataplane/cni")),
        ("ninja", "-C", str(folder)),
    ):
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder / "headrace-cni"


@pytest.fixture(scope="module")
def host(control_plane: Cluster, plugin: Path) -> Iterator[Host]:
    install_crds(control_plane)
    control_plane.kubectl("create", "namespace", SYSTEM)
    rights = [
        item
        for item in render(control_plane, {"nodeAgent": {"enabled": True}}, SYSTEM)
        if item["kind"] != "DaemonSet" and "headrace-node" in json.dumps(item["metadata"])
    ]
    assert '"pods"' not in json.dumps(rights)
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": rights})
    control_plane.kubectl("apply", "-f", "-", stdin=text)
    with control_plane.fresh_namespace() as namespace:
        host = Host(control_plane, plugin, namespace)
        try:
            yield host
        finally:
            host.engine.stop()
            if not host.agent.ended:
                host.stop()
            host.clear()
            control_plane.kubectl("delete", "-f", "-", "--wait=false", stdin=text)
            control_plane.kubectl("delete", "namespace", SYSTEM, "--wait=false")


def test_a_pod_gets_the_device_that_its_interface_says(host: Host) -> None:
    device = host.pod("plain")
    answer = host.cni("ADD", "plain", prevResult=PREVIOUS)
    assert answer.status == 0, answer.text
    four, six = host.interfaces["plain-blue"]["addresses"]
    assert host.addresses("plain") == {f"{four}/32", f"{six}/128"}
    assert host.routes("plain")["10.0.0.0/16"] == "10.0.0.1"
    assert host.routes("plain", "-6")["fd00:10::/64"] == "fd00:10::1"
    assert "default" not in host.routes("plain")
    (link,) = json.loads(host.inside("plain", "ip", "-j", "-d", "link", "show", "dev", "net1"))
    assert (link["mtu"], link["operstate"]) == (1400, "UP")
    features = host.inside("plain", "ethtool", "-k", "net1").splitlines()
    for feature in (
        "tx-checksum-ip-generic",
        "tx-tcp-segmentation",
        "tx-tcp6-segmentation",
        "generic-segmentation-offload",
    ):
        assert any(line.strip() == f"{feature}: off" for line in features), features
    for side in ("ingress", "egress"):
        assert "handle 0x4852" in host.root.command("tc", "filter", "show", "dev", device, side)

    result = answer.json
    assert result["interfaces"][0] == PREVIOUS["interfaces"][0]
    assert result["dns"] == PREVIOUS["dns"]
    assert [each["name"] for each in result["interfaces"]] == ["eth0", device, "net1"]
    assert result["interfaces"][2]["sandbox"] == "/run/netns/plain"
    assert result["interfaces"][2]["mac"] == link["address"]
    assert result["ips"] == [
        *PREVIOUS["ips"],
        {"address": f"{four}/32", "interface": 2},
        {"address": f"{six}/128", "interface": 2},
    ]
    assert {"dst": "10.0.0.0/16", "gw": "10.0.0.1"} in result["routes"]


def test_a_second_add_changes_nothing(host: Host) -> None:
    device = host.pod("twice")
    first = host.cni("ADD", "twice", prevResult=PREVIOUS)
    before = host.inside("twice", "ip", "-d", "address")
    second = host.cni("ADD", "twice", prevResult=PREVIOUS)
    assert (second.status, second.json) == (0, first.json)
    assert host.inside("twice", "ip", "-d", "address") == before
    assert device in host.links()


def test_a_device_has_the_mac_address_of_its_interface(host: Host) -> None:
    """The dataplane drops what comes from another: the first answer may have been too early."""
    host.pod("hardware")
    for mac in ("02:00:00:00:00:0a", "02:00:00:00:00:0b"):
        host.interfaces["hardware-blue"]["macAddress"] = mac
        host.compile("hardware-blue")
        answer = host.cni("ADD", "hardware")
        assert answer.status == 0, answer.text
        (link,) = json.loads(host.inside("hardware", "ip", "-j", "link", "show", "dev", "net1"))
        assert (link["address"], answer.json["interfaces"][-1]["mac"]) == (mac, mac)


def test_check_notices_what_is_missing(host: Host) -> None:
    host.pod("checked")
    result = host.cni("ADD", "checked", prevResult=PREVIOUS).json
    # The kernel takes a moment until a device is up for it.
    until(lambda: host.cni("CHECK", "checked", prevResult=result).status == 0, "is well", SECONDS)
    address = host.interfaces["checked-blue"]["addresses"][0]
    host.inside("checked", "ip", "address", "del", f"{address}/32", "dev", "net1")
    answer = host.cni("CHECK", "checked", prevResult=result)
    assert f"net1 of the pod has lost its address {address}/32" in answer.json["msg"]
    host.inside("checked", "ip", "link", "set", "net1", "down")
    assert "is not up" in host.cni("CHECK", "checked", prevResult=result).json["msg"]
    assert host.cni("DEL", "checked", prevResult=result).status == 0
    assert "no device net1" in host.cni("CHECK", "checked", prevResult=result).json["msg"]
    assert host.cni("CHECK", "checked").code() == 7
    # Of a pod that has none of ours.
    assert host.cni("CHECK", "checked", prevResult=PREVIOUS).status == 0


def test_del_may_come_at_any_time(host: Host) -> None:
    device = host.pod("deleted")
    assert host.cni("DEL", "deleted") == Answer(0, "")
    assert host.cni("ADD", "deleted").status == 0
    assert device in host.links()
    assert host.cni("DEL", "deleted", container="another") == Answer(0, "")
    assert host.cni("DEL", "deleted", name="another-network") == Answer(0, "")
    assert device in host.links()
    for _ in range(2):
        assert host.cni("DEL", "deleted") == Answer(0, "")
        assert device not in host.links()
    assert host.cni("ADD", "deleted").status == 0
    assert host.cni("DEL", "deleted", netns="") == Answer(0, "")
    assert device not in host.links()


def test_another_sandbox_of_the_same_pod_takes_over(host: Host) -> None:
    device = host.pod("again")
    assert host.cni("ADD", "again", container="first").status == 0
    host.sandbox("again-2")
    answer = host.cni("ADD", "again", container="second", netns="/run/netns/again-2")
    assert answer.status == 0, answer.text
    assert host.addresses("again-2")
    assert "net1" not in host.inside("again", "ip", "link")
    assert host.cni("DEL", "again", container="first").status == 0
    assert device in host.links()


def test_the_default_route_only_when_asked(host: Host) -> None:
    host.pod("routed", defaultRoute=True, deviceName="blue0")
    host.inside("routed", "ip", "link", "add", "eth0", "type", "veth")
    host.inside("routed", "ip", "link", "set", "eth0", "up")
    host.inside("routed", "ip", "address", "add", "192.0.2.2/24", "dev", "eth0")
    host.inside("routed", "ip", "route", "add", "default", "via", "192.0.2.1")
    answer = host.cni("ADD", "routed")
    assert answer.status == 0, answer.text
    assert host.routes("routed")["default"] == "10.0.0.1"
    assert host.routes("routed", "-6")["default"] == "fd00:10::1"
    assert host.addresses("routed", "blue0")
    assert {"dst": "0.0.0.0/0", "gw": "10.0.0.1"} in answer.json["routes"]


def test_two_networks(host: Host) -> None:
    host.sandbox("both")
    host.networks["both"] = "blue,red"
    host.make_interfaces("both-blue")
    host.make_interfaces("both-red", deviceName="net2")
    host.compile("both-blue", "both-red")
    answer = host.cni("ADD", "both", cniVersion="1.1.0")
    assert answer.status == 0, answer.text
    inside = [each for each in answer.json["interfaces"] if "sandbox" in each]
    assert [(each["name"], each["mtu"]) for each in inside] == [("net1", 1400), ("net2", 1400)]
    assert host.addresses("both", "net2") == {
        f"{address}/{128 if ':' in address else 32}"
        for address in host.interfaces["both-red"]["addresses"]
    }
    assert host.cni("DEL", "both").status == 0
    assert not {host.device("both-blue"), host.device("both-red")} & host.links()


@pytest.mark.parametrize("version", VERSIONS)
def test_results_are_of_the_version_asked_for(host: Host, version: str) -> None:
    name = f"v{version.replace('.', 'x')}"
    host.pod(name)
    answer = host.cni("ADD", name, cniVersion=version, prevResult=PREVIOUS)
    assert answer.status == 0, answer.text
    assert answer.json["cniVersion"] == version
    old = version.startswith("0.")
    assert [ip.get("version") for ip in answer.json["ips"][1:]] == (
        ["4", "6"] if old else [None, None]
    )
    assert ("mtu" in answer.json["interfaces"][-1]) == (version == "1.1.0")


def test_other_pods_pass_through(host: Host) -> None:
    before = host.links()
    host.sandbox("other")
    assert host.cni("ADD", "other", prevResult=PREVIOUS).json == PREVIOUS
    assert host.cni("ADD", "other").json == {"cniVersion": "1.0.0"}
    assert host.links() == before


def test_add_waits_for_the_operator_and_then_for_the_dataplane(host: Host) -> None:
    host.sandbox("early")
    host.networks["early"] = "blue"
    process = subprocess.Popen(
        host.words("ADD", "early", "/run/netns/early", "c-early"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    process.stdin.write(host.config("early"))
    process.stdin.close()
    process.stdin = None
    device = host.device("early-blue")
    host.make_interfaces("early-blue", allocated=False)
    host.allocate("early-blue")
    assert device not in host.links()
    host.compile()
    until(lambda: device in host.links(), "the device is there", SECONDS)
    assert process.poll() is None
    host.compile("early-blue")
    output, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, output
    assert host.addresses("early")


def test_networks_of_one_pod_may_not_overlap(host: Host) -> None:
    host.sandbox("overlap")
    host.networks["overlap"] = "blue,red"
    host.make_interfaces("overlap-blue")
    host.make_interfaces("overlap-red", deviceName="net2")
    host.interfaces["overlap-red"]["network"] = host.interfaces["overlap-blue"]["network"]
    host.interfaces["overlap-red"]["addresses"] = ["10.0.200.1"]
    host.allocate("overlap-red")
    host.compile("overlap-blue", "overlap-red")
    answer = host.cni("ADD", "overlap")
    assert answer.code() == 5
    assert "the pod has another route to 10.0.0.0/16" in answer.json["msg"]


def test_a_change_before_the_pod_runs_is_followed(host: Host) -> None:
    host.sandbox("moved")
    host.networks["moved"] = "blue"
    host.make_interfaces("moved-blue")
    host.compile()
    process = subprocess.Popen(
        host.words("ADD", "moved", "/run/netns/moved", "c-moved"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    process.stdin.write(host.config("moved"))
    process.stdin.close()
    process.stdin = None
    until(lambda: host.device("moved-blue") in host.links(), "the device is there", SECONDS)
    host.interfaces["moved-blue"]["mtu"] = 1300
    host.compile("moved-blue")
    output, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, output
    assert "mtu 1300" in host.inside("moved", "ip", "link", "show", "dev", "net1")


def test_a_timeout_says_what_is_not_ready(host: Host) -> None:
    host.sandbox("late")
    host.networks["late"] = "blue"
    host.make_interfaces("late-blue")
    host.compile()
    answer = host.cni("ADD", "late", timeoutSeconds=1)
    assert answer.code() == 11
    assert answer.json["msg"] == (
        f"pod {host.namespace}/late has no network after 1 s: Interface {host.namespace}/late-blue "
        "is not ready: DataplaneNotReady: node-a has no dataplane pod"
    )
    host.sandbox("later")
    host.networks["later"] = "blue"
    answer = host.cni("ADD", "later", timeoutSeconds=1)
    assert answer.code() == 11
    assert f"Interface {host.namespace}/later-blue is not there" in answer.json["msg"]


def test_the_interface_of_an_earlier_pod_is_not_taken(host: Host) -> None:
    host.pod("web")
    patch = "patch", "interface", "web-blue", "-n", host.namespace, "--type=merge", "-p"
    owner = {"apiVersion": "v1", "kind": "Pod", "name": "web", "uid": "earlier"}
    # The finalizer keeps it from the garbage collector meanwhile.
    metadata = {"finalizers": ["headrace.dev/test"], "ownerReferences": [owner]}
    host.cluster.kubectl(*patch, json.dumps({"metadata": metadata}))
    assert host.cni("ADD", "web", timeoutSeconds=1).code() == 11
    host.cluster.kubectl(*patch, '{"metadata": {"finalizers": null}}')


def test_a_wrong_annotation_is_told(host: Host) -> None:
    host.sandbox("wrong")
    host.networks["wrong"] = "[{}]"
    answer = host.cni("ADD", "wrong")
    assert answer.code() == 7
    assert "annotation headrace.dev/networks: [0].network" in answer.json["msg"]


def test_a_device_that_is_taken_is_told(host: Host) -> None:
    host.pod("taken")
    host.inside("taken", "ip", "link", "add", "net1", "type", "veth")
    answer = host.cni("ADD", "taken")
    assert answer.code() == 5
    assert "another device net1" in answer.json["msg"]
    assert "attachment.pod.deviceName" in answer.json["msg"]


def test_garbage_is_collected_by_network(host: Host) -> None:
    devices = [host.pod(name) for name in ("kept", "stale", "multus")]
    for name, network in (("kept", "pods"), ("stale", "pods"), ("multus", "other")):
        assert host.cni("ADD", name, name=network).status == 0
    host.root.ip("link add hr000000000000 type veth")
    uses: dict[str, Any] = {
        "cni.dev/valid-attachments": [{"containerID": "c-kept", "ifname": "eth0"}]
    }
    before = host.links()
    assert host.cni("GC", **uses) == Answer(0, "")
    assert host.links() & {*devices, "hr000000000000"} == {devices[0], devices[2]}
    assert before - host.links() >= {devices[1], "hr000000000000"}
    # It says nothing of what is in use.
    assert host.cni("GC") == Answer(0, "")
    assert host.links() & {*devices} == {devices[0], devices[2]}
    # As libcni says that nothing is.
    none: dict[str, Any] = {"cni.dev/valid-attachments": None}
    assert host.cni("GC", **none) == Answer(0, "")
    assert host.links() & {*devices} == {devices[2]}


def test_the_plugin_itself_answers_version(host: Host) -> None:
    answer = host.cni("VERSION", stdin=b"")
    assert answer.status == 0
    assert answer.json == {"cniVersion": "1.1.0", "supportedVersions": list(VERSIONS)}


def test_what_is_not_understood_is_an_error(host: Host) -> None:
    host.sandbox("odd")
    assert host.cni("ADD", "odd", stdin=b"{").code() == 6
    assert host.cni("ADD", "odd", stdin=b"").code() == 6
    assert host.cni("ADD", "odd", stdin=b"[" * 100_000).code() == 6
    assert host.cni("ADD", "odd", stdin=b" " * (1 << 20) + b"{}").code() == 6
    assert host.cni("ADD", "odd", cniVersion="2.0.0").code() == 1
    assert host.cni("ADD", "odd", name="no name").code() == 7
    assert host.cni("ADD", "odd", timeoutSeconds=0).code() == 7
    assert host.cni("ADD", "odd", container="no/container").code() == 4
    assert host.cni("ADD", "odd", netns="/run/netns/none").code() == 4
    assert host.cni("ADD", "odd", netns="").code() == 4
    assert host.cni("FLY", "odd").code() == 4
    # As much as is allowed gets through.
    huge = {**PREVIOUS, "dns": {"search": ["x" * 900_000]}}
    assert host.cni("ADD", "odd", prevResult=huge).json == huge


@settings(
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    stdin=st.one_of(
        st.binary(max_size=4096),
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.text(max_size=8),
            lambda parts: st.lists(parts) | st.dictionaries(st.text(max_size=8), parts),
        ).map(lambda value: json.dumps(value).encode()),
        st.fixed_dictionaries(
            {"cniVersion": st.sampled_from(VERSIONS), "name": st.text(max_size=4)},
            optional={"prevResult": st.recursive(st.integers(), st.lists)},
        ).map(lambda value: json.dumps(value).encode()),
    ),
    command=st.sampled_from(("ADD", "CHECK", "DEL", "GC", "STATUS")),
)
def test_any_input_is_answered(host: Host, stdin: bytes, command: str) -> None:
    answer = host.cni(command, "fuzzed", netns="/proc/self/ns/net", stdin=stdin)
    if answer.status != 0:
        # 11: nothing gives the pod's annotations.
        assert answer.code() in (1, 6, 7, 11)
        assert answer.json["msg"]
    elif answer.text:
        assert answer.json["cniVersion"] in VERSIONS


def test_who_gives_up_leaves_the_agent_well(host: Host) -> None:
    host.sandbox("hasty")
    host.networks["hasty"] = "blue"
    host.make_interfaces("hasty-blue")
    host.compile()
    process = subprocess.Popen(
        host.words("ADD", "hasty", "/run/netns/hasty", "c-hasty"), stdin=subprocess.PIPE
    )
    assert process.stdin is not None
    process.stdin.write(host.config("hasty"))
    process.stdin.close()
    until(lambda: host.device("hasty-blue") in host.links(), "the device is there", SECONDS)
    # nsenter, which started the plugin, would not pass the signal on.
    os.kill(only_child(process.pid), SIGKILL)
    process.wait()
    until(lambda: host.said("given up"), "the agent notices", SECONDS)
    host.compile("hasty-blue")
    assert host.cni("ADD", "hasty").status == 0


def test_cnitool_drives_the_plugin(host: Host) -> None:
    """In right and in wrong orders, repeated, with the agent away, and with garbage to pass on."""
    run = partial(host.cnitool, go_tools(Path(__file__).with_name("cni")))
    lists = host.root.path("/run/cni-lists")
    lists.mkdir()
    plugins = [{"type": "headrace-cni", "capabilities": {POD_ANNOTATIONS: True}}]
    for name, more in (("pods", {}), ("garbage", {"timeoutSeconds": "soon"})):
        config = {"cniVersion": "1.1.0", "name": name, "plugins": [{**plugins[0], **more}]}
        (lists / f"{name}.conflist").write_text(json.dumps(config))
    device = host.pod("tooled")

    assert run("status", "tooled").status == 0
    assert run("del", "tooled").status == 0
    assert run("check", "tooled").status != 0
    for _ in range(2):
        added = run("add", "tooled")
        assert added.status == 0, added.text
        assert [each["name"] for each in added.json["interfaces"]] == [device, "net1"]
    until(lambda: run("check", "tooled").status == 0, "the device is up", SECONDS)
    assert run("gc", "tooled").status == 0
    # It names no attachment that is still valid.
    assert device not in host.links()
    assert run("add", "tooled").status == 0
    for _ in range(2):
        assert run("del", "tooled").status == 0
        assert device not in host.links()
    wrong = run("add", "tooled", "garbage")
    assert wrong.status != 0
    assert "timeoutSeconds" in wrong.text
    assert run("add", "tooled").status == 0
    host.stop(SIGKILL)
    try:
        for command in ("add", "check", "status"):
            answer = run(command, "tooled")
            assert answer.status != 0
            assert "is the pod headrace-node of this node running?" in answer.text
        assert run("del", "tooled").status == 0
    finally:
        host.agent.start()
        until(host.serves, "the agent serves", SECONDS)
    assert run("del", "tooled").status == 0
    assert device not in host.links()


def test_latency(host: Host) -> None:
    """Says how long ADD takes for a pod whose dataplane is ready (with -s)."""
    names = [f"fast{number}" for number in range(50)]
    for name in names:
        host.sandbox(name)
    host.networks |= dict.fromkeys(names, "blue")
    host.make_interfaces(*(f"{name}-blue" for name in names))
    host.compile(*(f"{name}-blue" for name in names))
    times = []
    for name in names:
        before = time.perf_counter()
        answer = host.cni("ADD", name)
        times.append(time.perf_counter() - before)
        assert answer.status == 0, answer.text
    times.sort()
    print(f"\nADD of {len(times)}: p50 {times[24] * 1e3:.0f} ms, p99 {times[-1] * 1e3:.0f} ms")
    for name in names:
        assert host.cni("DEL", name).status == 0


def test_while_the_api_server_is_away(host: Host) -> None:
    device = host.pod("offline")
    assert host.cni("ADD", "offline").status == 0
    host.cluster.stop_api_server()
    try:
        answer = host.cni("ADD", "offline", container="another", timeoutSeconds=1)
        assert answer.code() == 11
        assert "the API server cannot be reached" in answer.json["msg"]
        assert device in host.links()
        assert host.cni("STATUS").status == 0
        assert host.cni("DEL", "offline") == Answer(0, "")
        assert device not in host.links()
    finally:
        host.cluster.start_api_server()
    until(lambda: host.cni("ADD", "offline").status == 0, "ADD works again", SECONDS)


def test_while_the_agent_is_away(host: Host) -> None:
    device = host.pod("orphan")
    result = host.cni("ADD", "orphan").json
    host.stop(SIGKILL)
    try:
        answer = host.cni("ADD", "orphan")
        assert answer.code() == 11
        assert "is the pod headrace-node of this node running?" in answer.json["msg"]
        assert host.cni("CHECK", "orphan", prevResult=result).code() == 11
        assert host.cni("STATUS").code() == 50
        assert host.cni("VERSION").status == 0
        assert host.cni("DEL", "orphan") == Answer(0, "")
        assert host.addresses("orphan")
    finally:
        host.agent.start()
        until(host.serves, "the agent serves", SECONDS)
    assert host.cni("ADD", "orphan").json == result
    assert host.cni("DEL", "orphan") == Answer(0, "")
    assert device not in host.links()


def test_the_conflist_is_left_as_it_was_when_the_daemon_set_is_gone(host: Host) -> None:
    path = host.conf / "10-pods.conflist"
    plain = {"cniVersion": "1.0.0", "name": "pods", "plugins": [{"type": "bridge"}]}

    def types() -> list[str]:
        return [plugin["type"] for plugin in json.loads(path.read_text())["plugins"]]

    path.write_text(json.dumps(plain))
    until(lambda: types() == ["bridge", "headrace-cni"], "the plugin is chained", SECONDS)
    host.apply(
        {
            "apiVersion": "apps/v1",
            "kind": "DaemonSet",
            "metadata": {"name": "headrace-node", "namespace": SYSTEM},
            "spec": {
                "selector": {"matchLabels": {"a": "b"}},
                "template": {
                    "metadata": {"labels": {"a": "b"}},
                    "spec": {"containers": [{"name": "c", "image": "localhost/none:1"}]},
                },
            },
        }
    )
    host.stop()
    assert types() == ["bridge", "headrace-cni"]
    assert not host.root.path(SOCKET).exists()
    host.agent.start()
    until(host.serves, "the agent serves", SECONDS)
    host.cluster.kubectl("delete", "daemonset", "headrace-node", "-n", SYSTEM)
    host.stop()
    assert json.loads(path.read_text()) == plain
    assert [file.name for file in host.conf.iterdir()] == [path.name]
    host.agent.start()
    until(host.serves, "the agent serves", SECONDS)


def test_the_program_is_installed(host: Host) -> None:
    installed = host.root.path("/run/cni-bin/headrace-cni")
    assert installed.read_bytes() == host.plugin.read_bytes()
    assert installed.stat().st_mode & 0o777 == 0o755
