# SPDX-License-Identifier: Apache-2.0
"""`make kind-demo` on the tests' cluster: nothing but the cluster and its images is another."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from tests.cluster.chart import NAMESPACE
from tests.cluster.cluster import IMAGE, Cluster
from tests.cluster.images import Images
from tests.cluster.sandbox import until
from tests.cluster.site import NODE_AGENT, REPOSITORY, SECONDS
from tests.cluster.telemetry import Prometheus, prometheus_tar, queries
from tests.unit.test_telemetry import alerts

VALUES = {
    **NODE_AGENT,
    # The nodes have one CPU each.
    "operator.resources.requests.cpu": "0",
}


ENDED = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "name": "ended",
        "namespace": "monitoring",
        "labels": {"app.kubernetes.io/name": "headrace"},
    },
    "spec": {
        "restartPolicy": "Never",
        "containers": [
            {
                "name": "c",
                "image": IMAGE,
                "imagePullPolicy": "Never",
                "args": ["cat", "/proc/version"],
                "ports": [{"name": "metrics", "containerPort": 9477}],
            }
        ],
    },
}


class Demo:
    """The demo's command, for the tests' cluster."""

    def __init__(self, cluster: Cluster, images: Images) -> None:
        self.cluster = cluster
        ours = (images.operator, images.dataplane, images.connectivity, images.toolbox)
        tars = (*(image.tar for image in ours), prometheus_tar())
        self._words: list[str | Path] = [
            *(sys.executable, "-m", "deploy.kind", "--kubeconfig", cluster.kubeconfig),
            "--without-grafana",
            *(f"--image={tar}" for tar in tars),
            *(f"--set={key}={str(value).lower()}" for key, value in VALUES.items()),
        ]

    def __call__(self, *more: str) -> str:
        done = subprocess.run(
            [*self._words, *more],
            cwd=REPOSITORY,
            env=self.cluster.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=15 * 60,
        )
        if done.returncode != 0:
            events = self.cluster.kubectl("get", "events", "-A", "--sort-by=.lastTimestamp")
            pods = self.cluster.kubectl("get", "pods", "-A", "-o", "wide")
            pytest.fail(f"{done.stdout}\n{pods}\n{events[-8000:]}")
        return done.stdout


@pytest.fixture(scope="module")
def demo(cluster: Cluster, images: Images) -> Iterator[Demo]:
    """With what else the nodes need: more images, and an underlay."""
    cluster.load_images(images.connectivity.tar, prometheus_tar())
    node_a, node_b = cluster.nodes
    cluster.join(node_a, node_b)
    demo = Demo(cluster, images)
    try:
        yield demo
    finally:
        demo("--delete")
        node_a.namespace.ip("link delete uplink0")


@pytest.fixture(scope="module")
def said(demo: Demo) -> str:
    return demo()


@pytest.fixture
def prometheus(said: str, cluster: Cluster) -> Prometheus:
    return Prometheus.of_the_demo(cluster)


def test_packets_pass_within_tenants_and_not_between(said: str) -> None:
    # Each tenant's pair and red's third pod, IPv4 and IPv6.
    assert len(re.findall(r"\d+ packets transmitted, 3 received", said)) == 6
    assert said.count("100% packet loss") == 2
    assert len(re.findall(r"[1-9]\S* [KMG]?bits/sec .*receiver", said)) == 4


def test_it_shows_that_all_is_well(said: str) -> None:
    assert re.search(r"router +Forwarding +2/2", said)
    assert "no problems" in said
    assert "Alerts that fire: none." in said
    assert "headrace connectivity test\n" in said
    assert "make kind-delete" in said


def test_prometheus_finds_every_pod_and_labels_it(prometheus: Prometheus, cluster: Cluster) -> None:
    def found() -> set[tuple[str, ...]]:
        names = ("namespace", "pod", "node", "component", "pipeline")
        samples = cast(list[Any], prometheus.query('up{job="headrace"} == 1'))
        return {tuple(each["metric"].get(name, "") for name in names) for each in samples}

    pipeline = r"{.metadata.labels.headrace\.dev/pipeline}"
    component = r"{.metadata.labels.app\.kubernetes\.io/component}"
    fields = "{.metadata.namespace},{.metadata.name},{.spec.nodeName},"
    lines = cluster.kubectl(
        *(
            "get",
            "pods",
            "-n",
            NAMESPACE,
            "-l",
            "app.kubernetes.io/component in (dataplane,operator)",
        ),
        *("-o", f"jsonpath={{range .items[*]}}{fields}{component},{pipeline};{{end}}"),
    )
    wanted = {tuple(line.split(",")) for line in lines.split(";") if line}
    assert len(wanted) == 4
    until(lambda: found() == wanted, "every pod is scraped", SECONDS)
    cluster.kubectl("apply", "-f", "-", stdin=json.dumps(ENDED))
    until(lambda: "ended" in prometheus.ignored(), "a pod that has ended is not", SECONDS)


def test_every_panel_has_data_and_no_alert_fires(prometheus: Prometheus) -> None:
    wanted = queries({"pipeline": "router", "node": "node-a", "network": "blue/blue"})
    assert not prometheus.without_data(wanted, SECONDS)
    assert prometheus.alerts() == {rule["alert"] for rule in alerts()}
    assert prometheus.firing() == {}


def test_it_is_removed_without_a_trace(demo: Demo, said: str, cluster: Cluster) -> None:
    demo("--delete")
    kinds = cluster.kubectl("api-resources", "--namespaced=false", "--verbs=list", "-o", "name")
    names = cluster.kubectl("get", ",".join(kinds.split()), "-o", "name").split()
    ours = re.compile("headrace|namespace/(blue|red|monitoring)$")
    assert not [name for name in names if ours.search(name)]
    assert cluster.kubectl("get", "namespaces", "-o", "name")
