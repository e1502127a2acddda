# SPDX-License-Identifier: Apache-2.0
"""Pods of two nodes in one network, by an annotation: real kubelets, the chart, the example."""

import json

import pytest

from headrace_api import pod_device
from tests.cluster.chart import NAMESPACE
from tests.cluster.cluster import IMAGE, Node
from tests.cluster.sandbox import until
from tests.cluster.site import REPOSITORY, SECONDS, Site

EXAMPLE = REPOSITORY / "deploy/examples/pods"
CONFLIST = "/var/cni/net.d/10-pods.conflist"


@pytest.fixture(scope="module")
def pods(pod_site: Site) -> Site:
    """The example's pods, Ready."""
    cluster = pod_site.cluster
    text = (EXAMPLE / "blue.yaml").read_text()
    text = text.replace("docker.io/library/busybox:stable", IMAGE)
    text = text.replace("command: [sleep, infinity]", "imagePullPolicy: Never")
    cluster.kubectl("apply", "-f", "-", stdin=text)
    try:
        cluster.kubectl(
            *("wait", "pod", "--all", "-n", "blue", "--for=condition=Ready"),
            *("--timeout", f"{SECONDS:.0f}s"),
            seconds=SECONDS + 10,
        )
    except Exception as error:
        logs = cluster.kubectl("logs", "-n", NAMESPACE, "ds/headrace-node", "--tail=20")
        raise AssertionError(f"{error}\n{pod_site.report()}\n{logs}") from error
    return pod_site


def inside(node: Node, device: str = "net1") -> str:
    """Path of the network namespace of the node's pod that has a device of this name."""
    for name in node.namespace.command("ls", "/run/netns").split():
        path = f"/run/netns/{name}"
        links = node.namespace.command("nsenter", f"--net={path}", "ip", "-j", "link")
        if any(link["ifname"] == device for link in json.loads(links)):
            return path
    raise AssertionError(f"{node.name}: no pod has {device}")


def addresses(site: Site, name: str) -> list[str]:
    return list(site.get("interface", name, "-n", "blue")["status"]["addresses"])


def plugins(node: Node) -> list[str]:
    config = json.loads(node.namespace.command("cat", CONFLIST))
    return [plugin["type"] for plugin in config["plugins"]]


def test_pods_reach_one_another(pods: Site) -> None:
    one, two = (addresses(pods, f"{name}-blue") for name in ("one", "two"))
    assert two == ["10.0.0.5", "fd00:10::5"]
    for node, others in zip(pods.nodes, (two, one), strict=True):
        assert len(others) == 2
        for address in others:
            node.namespace.command(
                *("nsenter", f"--net={inside(node)}", "ping", "-c3", "-i0.2", "-w30", address)
            )


def test_pods_go_on_while_the_agent_is_replaced(pods: Site) -> None:
    node = pods.nodes[0]
    own = next(
        pod
        for pod in pods.pods("-n", NAMESPACE, "-l", "app.kubernetes.io/component=node")
        if pod["spec"]["nodeName"] == node.name
    )
    ping = ("nsenter", f"--net={inside(node)}", "ping", "-c3", "-i0.2", "-w30", "10.0.0.5")
    pods.cluster.kubectl("delete", "pod", own["metadata"]["name"], "-n", NAMESPACE)
    node.namespace.command(*ping)
    # Only a DaemonSet that is gone takes it out: pods that start meanwhile must wait.
    assert plugins(node) == ["bridge", "headrace-cni"]
    pods.cluster.kubectl(
        *("rollout", "status", "daemonset/headrace-node", "-n", NAMESPACE, "--timeout=60s")
    )
    node.namespace.command(*ping)


def test_an_interface_outlives_its_pods(pods: Site) -> None:
    """Written by hand, or of a StatefulSet: each pod of the name gets the same addresses."""
    node = pods.nodes[1]
    interface = {
        "apiVersion": "headrace.dev/v1alpha1",
        "kind": "Interface",
        "metadata": {"name": "kept", "namespace": "blue"},
        "spec": {
            "networkRef": {"name": "blue"},
            "pipelineName": "router",
            "attachment": {"type": "Pod", "pod": {"name": "three", "deviceName": "blue0"}},
        },
    }
    container = {"name": "c", "image": IMAGE, "imagePullPolicy": "Never"}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "three", "namespace": "blue"},
        "spec": {"nodeName": node.name, "containers": [container]},
    }
    pods.cluster.kubectl("apply", "-f", "-", stdin=json.dumps(interface))
    found = []
    for _ in range(2):
        pods.cluster.kubectl("apply", "-f", "-", stdin=json.dumps(pod))
        pods.cluster.kubectl(
            *("wait", "pod/three", "-n", "blue", "--for=condition=Ready", "--timeout=80s")
        )
        found.append(addresses(pods, "kept"))
        path = inside(node, "blue0")
        node.namespace.command("nsenter", f"--net={path}", "ping", "-c3", "-w60", "10.0.0.5")
        pods.cluster.kubectl("delete", "pod", "three", "-n", "blue", "--grace-period=1")
    assert found[0] == found[1]


def test_a_pod_that_goes_leaves_nothing(pods: Site) -> None:
    node = pods.nodes[1]
    device = pod_device("blue/two-blue")
    assert device in node.namespace.command("ip", "link")
    pods.cluster.kubectl("delete", "pod", "two", "-n", "blue", "--grace-period=1")

    def gone() -> bool:
        links = json.loads(node.namespace.command("ip", "-j", "link"))
        left = pods.get("interfaces", "-n", "blue")
        names = {item["metadata"]["name"] for item in left}
        return device not in {link["ifname"] for link in links} and "two-blue" not in names

    until(gone, "device and Interface are gone", SECONDS)


def test_a_release_that_goes_leaves_the_runtime_as_it_was(pods: Site) -> None:
    assert [plugins(node) for node in pods.nodes] == [["bridge", "headrace-cni"]] * 2
    pods.cluster.helm("uninstall", "headrace", "-n", NAMESPACE, "--wait")
    for node in pods.nodes:
        until(lambda: plugins(node) == ["bridge"], "the conflist is as it was", SECONDS)  # noqa: B023
