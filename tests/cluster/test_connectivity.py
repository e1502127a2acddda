# SPDX-License-Identifier: Apache-2.0
"""`headrace connectivity test` and `helm test` on two nodes: green, and red for what is broken."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from xml.etree import ElementTree

import pytest

from headrace_cli.errors import CommandError
from headrace_connectivity.health import IMAGE_ANNOTATION
from headrace_connectivity.plan import SELECTOR
from tests.cluster.chart import NAMESPACE
from tests.cluster.cluster import IMAGE, Cluster
from tests.cluster.images import Images
from tests.cluster.sandbox import until
from tests.cluster.site import OPERATOR, REPOSITORY, SECONDS, Site

PIPELINE = REPOSITORY / "deploy/examples/pods/pipeline.yaml"
OBJECTS = "Interfaces, networks and Pipelines are Ready"
DNS = "cluster network: DNS"
"""The one thing that this cluster does not have."""
TIMEOUT = 300
"""For --timeout: the machine may be busy."""


@pytest.fixture(scope="module", autouse=True)
def own_image(cluster: Cluster, images: Images) -> None:
    """The test's image, on every node."""
    cluster.load_images(images.connectivity.tar)


@dataclass(frozen=True)
class Run:
    """A test that has ended."""

    status: int
    out: str
    err: str

    @property
    def results(self) -> dict[str, dict[str, str]]:
        """Of -o json, by name."""
        return {result["name"]: result for result in json.loads(self.out)}

    def named(self, outcome: str) -> dict[str, str]:
        """The reasons of all checks with that outcome, by name."""
        return {n: r["reason"] for n, r in self.results.items() if r["outcome"] == outcome}


def words(site: Site, *more: str) -> list[str]:
    command = [sys.executable, "-m", "headrace_cli.main", "connectivity", "test"]
    return [*command, "--kubeconfig", str(site.cluster.kubeconfig), f"--timeout={TIMEOUT}", *more]


def run(site: Site, *more: str) -> Run:
    done = subprocess.run(
        words(site, *more), capture_output=True, text=True, check=False, timeout=2 * TIMEOUT
    )
    return Run(done.returncode, done.stdout, done.stderr)


def nothing_is_left(site: Site) -> None:
    """Interfaces go with their pods, and namespaces in their own time."""

    def left() -> list[str]:
        kinds = "namespaces,pods,virtualnetworks,interfaces,pipelines"
        found = site.cluster.kubectl("get", kinds, "-A", "-o", "name").split()
        return [name for name in found if "connectivity" in name]

    try:
        until(lambda: not left(), "everything that the test made is gone", SECONDS)
    except CommandError as error:
        namespaces = site.cluster.kubectl("get", "namespaces", "-o", "yaml")
        raise AssertionError(f"{error}: {left()}\n{namespaces}") from error


def test_all_is_well(pod_site: Site) -> None:
    done = run(pod_site, "-o", "json")
    assert done.status == 0, f"{done}\n{pod_site.report()}"
    skipped = done.named("skipped")
    assert list(skipped) == [DNS]
    assert "a pod in no network does not resolve kubernetes.default.svc either" in skipped[DNS]
    passed = done.named("passed")
    assert {*passed} == {*done.results} - {DNS}
    for family in ("IPv4", "IPv6"):
        assert passed.keys() >= {
            f"within node-a, {family}",
            f"node-a to node-b, {family}",
            f"node-b to node-a, {family}",
            f"MTU, node-a to node-b, {family}",
            f"1 MiB by TCP, node-a to node-b, {family}",
            f"same addresses in two networks, {family}",
            f"isolation of another network's address, {family}",
            f"spoofed source address, {family}",
            f"spoofed source MAC address, {family}",
            f"isolation of an underlay address, {family} in IPv6",
        }
    assert passed.keys() >= {
        "isolation of an underlay address, plain IPv6",
        "refused: a route to no UnderlayEndpoint",
        "refused: a device of another pod",
        "refused: device eth0 of the node",
    }
    assert "left behind" not in done.err
    nothing_is_left(pod_site)


def test_helm_test_is_the_same(pod_site: Site) -> None:
    helm = pod_site.cluster.helm
    out = helm("test", "headrace", "-n", NAMESPACE, "--logs", "--timeout", "6m")
    assert re.search(r"Phase:\s+Succeeded", out)
    assert re.search(r"^ok +node-a to node-b, IPv6$", out, re.MULTILINE), out
    nothing_is_left(pod_site)


@contextmanager
def an_uplink_cut(site: Site) -> Iterator[None]:
    node = site.nodes[0]

    def state() -> str:
        status = site.exec(node, "sh", "-c", "headrace status -o json || true")
        (uplink,) = json.loads(status)["uplinks"]
        return str(uplink["state"])

    node.namespace.ip("link set uplink0 down")
    try:
        until(lambda: state() == "down", "the engine has seen it", SECONDS)
        yield
    finally:
        node.namespace.ip("link set uplink0 up")
        until(lambda: state() == "up", "the engine has seen it", SECONDS)


@contextmanager
def a_wrong_mtu(site: Site) -> Iterator[None]:
    namespace = site.nodes[0].namespace
    namespace.ip("link set uplink0 mtu 1400")
    try:
        yield
    finally:
        namespace.ip("link set uplink0 mtu 1500")


@contextmanager
def the_engine_stopped(site: Site) -> Iterator[None]:
    (pid,) = site.processes(site.nodes[1], "headrace-engine")
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
        site.ready()


@contextmanager
def the_operator_stopped(site: Site) -> Iterator[None]:
    scale = ("scale", "deployment/headrace-operator", "-n", NAMESPACE)
    site.cluster.kubectl(*scale, "--replicas=0")
    try:
        until(lambda: not site.pods(*OPERATOR), "its pods are gone", SECONDS)
        yield
    finally:
        site.cluster.kubectl(*scale, "--replicas=2")
        site.cluster.kubectl(
            *("rollout", "status", "deployment/headrace-operator", "-n", NAMESPACE),
            f"--timeout={SECONDS:.0f}s",
            seconds=SECONDS + 10,
        )


@contextmanager
def an_interface_with_a_bad_address(site: Site) -> Iterator[None]:
    version = "headrace.dev/v1alpha1"
    container = {"name": "web", "image": IMAGE, "imagePullPolicy": "Never"}
    pod = {"nodeName": "node-a", "terminationGracePeriodSeconds": 1, "containers": [container]}
    interface = {
        "networkRef": {"name": "blue"},
        "pipelineRef": {"name": "router"},
        "addresses": ["10.1.0.5"],
        "attachment": {"type": "Pod", "pod": {"name": "web"}},
    }
    with site.cluster.fresh_namespace() as namespace:
        for api, kind, name, spec in (
            (version, "VirtualNetwork", "blue", {"subnets": [{"prefix": "10.0.0.0/24"}]}),
            ("v1", "Pod", "web", pod),
            (version, "Interface", "bad", interface),
        ):
            metadata = {"name": name, "namespace": namespace}
            item = {"apiVersion": api, "kind": kind, "metadata": metadata, "spec": spec}
            site.cluster.kubectl("apply", "-f", "-", stdin=json.dumps(item))
        site.cluster.kubectl(
            *("wait", "interface/bad", "-n", namespace, "--for=condition=Stalled"),
            f"--timeout={SECONDS:.0f}s",
            seconds=SECONDS + 10,
        )
        yield


Fault = Callable[[Site], AbstractContextManager[None]]


@pytest.mark.parametrize(
    ("fault", "name", "reason"),
    [
        (
            an_uplink_cut,
            "uplinks of node-a and node-b",
            "uplink0 of node-a is down, uplink0 of node-b is down: see `ip link` there, the cable "
            "and the switch",
        ),
        (
            a_wrong_mtu,
            "MTU, node-a to node-b, IPv4",
            r"packets of up to 1\d{3} bytes arrive, of 1\d{3} to 1460 \(the pod's MTU\) none does: "
            r"the underlay of node-a and node-b carries less than Pipeline router says: .*"
            r"spec\.uplinks\[\]\.mtu.*",
        ),
        (
            the_engine_stopped,
            "dataplane of node-b",
            r"the engine does not answer \(/run/headrace/engine/engine.sock: no answer in time to "
            r"\w+\): see kubectl -n headrace-system logs headrace-router-.*",
        ),
        (
            the_operator_stopped,
            "the operator answers",
            "it is scaled to 0: kubectl -n headrace-system scale deployment headrace-operator .*",
        ),
        (
            an_interface_with_a_bad_address,
            OBJECTS,
            r"Interface test-\w+/bad: spec\.addresses\[0\]: 10\.1\.0\.5 is in no subnet of network "
            r"test-\w+/blue.*\(AddressOutsideSubnets\)",
        ),
    ],
)
def test_a_fault_is_named(pod_site: Site, fault: Fault, name: str, reason: str) -> None:
    with fault(pod_site):
        done = run(pod_site, "-o", "json")
    assert done.status == 1, done
    failed = done.named("failed")
    assert name in failed, done
    assert re.fullmatch(reason, failed[name])
    # What else fails is the same thing: of IPv6, or as the Pipeline's condition has it.
    assert all(
        each == OBJECTS or each.startswith("MTU, node-a to node-b") for each in {*failed} - {name}
    )
    why = done.named("skipped")
    if name in ("dataplane of node-b", "the operator answers"):
        assert why == {"packets": f"because of {name!r}"}
    elif name.startswith("uplinks"):
        assert why["across nodes"] in failed[name]
    nothing_is_left(pod_site)


@contextmanager
def an_image(site: Site, change: str) -> Iterator[None]:
    """Have the chart name another image, "=NAME", or none, "-"."""
    node_agent = ("daemonset/headrace-node", "-n", NAMESPACE)
    before = site.get(*node_agent)["metadata"]["annotations"][IMAGE_ANNOTATION]

    def annotate(change: str) -> None:
        words = ("annotate", *node_agent, "--overwrite", f"{IMAGE_ANNOTATION}{change}")
        site.cluster.kubectl(*words)

    annotate(change)
    try:
        yield
    finally:
        annotate(f"={before}")


def test_an_image_that_cannot_be_pulled_is_named(pod_site: Site) -> None:
    with an_image(pod_site, "=localhost/none:1"):
        done = run(pod_site, "-o", "json", "--timeout=75")
    assert done.status == 1, done
    why = done.named("failed")["pods start in their networks"]
    assert re.match(r"pod connectivity-\w+-one-a1: (ErrImagePull|ImagePullBackOff): ", why), why
    assert "localhost/none:1" in why
    nothing_is_left(pod_site)


def test_a_chart_that_names_no_image_is_too_old(pod_site: Site) -> None:
    with an_image(pod_site, "-"):
        done = run(pod_site)
    assert done.status == 1, done
    last = done.err.splitlines()[-1]
    assert last.startswith("headrace connectivity: DaemonSet headrace-node in namespace ")
    assert last.endswith("upgrade the chart")
    nothing_is_left(pod_site)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_end_before_time_leaves_nothing(pod_site: Site, number: signal.Signals) -> None:
    # What runs in the background of a shell is deaf to Ctrl-C, as are its children.
    command = ["env", "--default-signal=INT", *words(pod_site)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    until(lambda: bool(pod_site.get("pods", "-A", "-l", SELECTOR)), "a pod is made", SECONDS)
    process.send_signal(number)
    _, text = process.communicate(timeout=TIMEOUT)
    assert process.returncode == (130 if number == signal.SIGINT else 1), text
    assert "left behind" not in text
    assert not pod_site.get("pods", "-A", "-l", SELECTOR)
    nothing_is_left(pod_site)


def test_without_a_pipeline_it_brings_its_own(pod_site: Site) -> None:
    pod_site.cluster.kubectl("delete", "-f", PIPELINE)
    try:
        until(lambda: not pod_site.pods(), "its pods are gone", SECONDS)
        done = run(pod_site, "-o", "json")
        assert done.status == 0, f"{done}\n{pod_site.report()}"
        assert "making a temporary one on node node-a" in done.err
        skipped = done.named("skipped")
        assert {*skipped} == {DNS, "across nodes"}
        assert "is the only node of Pipeline headrace-connectivity-" in skipped["across nodes"]
        nothing_is_left(pod_site)
    finally:
        pod_site.apply(PIPELINE)


def test_all_is_well_again(pod_site: Site) -> None:
    done = run(pod_site, "-o", "junit")
    assert done.status == 0, f"{done}\n{pod_site.report()}"
    suite = ElementTree.fromstring(done.out)  # noqa: S314 - our own
    assert (suite.get("failures"), suite.get("skipped")) == ("0", "1")
    assert len(suite.findall("testcase")) == int(suite.get("tests", "0"))
    nothing_is_left(pod_site)
