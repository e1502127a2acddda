# SPDX-License-Identifier: Apache-2.0
"""An upgrade from an earlier commit by the documented command, with a hundred Interfaces.

HEADRACE_TEST_UPGRADE_FROM names the commit, one of release 0.2; without it this is skipped.
"""

import json
import os
import subprocess
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from headrace_api import entry_key
from tests.cluster.chart import NAMESPACE
from tests.cluster.cluster import Cluster, Node
from tests.cluster.earlier import tree_of
from tests.cluster.images import Images
from tests.cluster.pods import known, manifest, running
from tests.cluster.sandbox import until
from tests.cluster.site import NODE_AGENT, PIPELINE, SECONDS, ClusterPinger, Site
from tests.e2e.conftest import VM2, VM3

FROM = os.environ.get("HEADRACE_TEST_UPGRADE_FROM", "")
TAG = "earlier"
TENANTS, MACHINES = 5, 19
"""Beside blue and red; the last are more than an engine on Debian's DPDK has ports for."""
OUTSIDE, BEHIND = "2001:db8::9", "192.0.2.0/24"
"""An UnderlayEndpoint, and what tenant-0 reaches there."""
INTERVAL = 0.01
"""Seconds between two pings."""
FORMER = "dataplaneconfigs.headrace.dev"
"""As the release before has them."""
CONFIGS = (FORMER, "slices")

pytestmark = pytest.mark.skipif(not FROM, reason="HEADRACE_TEST_UPGRADE_FROM names no commit")


@pytest.fixture(scope="module")
def earlier(cluster: Cluster) -> Path:
    """The tree of the earlier commit, whose images are on the nodes."""
    tree = tree_of(FROM)
    out = tree / "build/test-images"
    base = os.environ.get("BASE", "mmdebstrap:trixie")
    done = subprocess.run(
        [tree / "deploy/images/build.sh"],
        env={**os.environ, "BASE": base, "TAG": TAG, "OUT": str(out)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    cluster.load_images(out / "operator.tar", out / "dataplane.tar")
    return tree


@pytest.fixture(scope="module")
def site(cluster: Cluster, images: Images, earlier: Path) -> Iterator[Site]:
    """The earlier release and its example, with a third machine of blue's, and green's pods."""
    site = Site(cluster, images)
    node = site.nodes[0]
    tags = {f"{name}.image.tag": TAG for name in ("operator", "dataplane")}
    try:
        site.plug()
        site.machines["blue/vm3"] = cluster.endpoint("blue/vm3", VM3, node.namespace)
        site.install(earlier / "helm/headrace", **NODE_AGENT, **tags)
        cluster.kubectl("apply", "-f", earlier / "deploy/examples/two-nodes")
        devices = [
            {"name": "netdevs", "type": "AFPacket", "deviceNames": ["*"]},
            {"name": "pods", "type": "Pod"},
        ]
        change = json.dumps({"spec": {"devices": devices}})
        cluster.kubectl("patch", "pipeline", PIPELINE, "--type=merge", "-p", change)
        put(site, endpoint())
        device = {"type": "AFPacket", "afPacket": {"deviceName": "blue-vm3"}}
        put(site, interface("blue", "blue", "vm3", node, addresses=[*VM3], attachment=device))
        for kind in ("pipelines", "virtualnetworks", "interfaces"):
            words = ("wait", kind, "--all", "-A", "--for=condition=Ready")
            cluster.kubectl(*words, f"--timeout={SECONDS:.0f}s", seconds=SECONDS + 10)
        put(site, *network("green"))
        pods = (
            manifest(f"on-{node.name}", "net", namespace="green", nodeName=node.name)
            for node in site.nodes
        )
        with running(site, *pods) as found, known(site, *found):
            put(site, *tenants(site))
            yield site
    finally:
        site.machines.pop("blue/vm3", None)
        names = ["green", *(f"tenant-{number}" for number in range(TENANTS))]
        cluster.kubectl("delete", "namespace", *names, "--ignore-not-found")
        cluster.kubectl("delete", "underlayendpoints", "--all")
        site.clear()
        site.unplug()


def put(site: Site, *items: dict[str, Any]) -> None:
    stdin = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    site.cluster.kubectl("apply", "--validate=strict", "-f", "-", stdin=stdin)


def tenants(site: Site) -> Iterator[dict[str, Any]]:
    """Tenants whose Interfaces have no machine; one has a way out of the Pipeline."""
    for number in range(TENANTS):
        tenant = f"tenant-{number}"
        hops = [{"endpointRef": {"name": "outside"}}]
        yield from network(tenant, *([{"prefix": BEHIND, "nextHops": hops}] if not number else ()))
        for index in range(MACHINES):
            yield interface(tenant, "net", f"vm{index}", site.nodes[index % 2])


def endpoint() -> dict[str, Any]:
    """The way out, for everybody."""
    return {
        "apiVersion": "headrace.dev/v1alpha1",
        "kind": "UnderlayEndpoint",
        "metadata": {"name": "outside"},
        "spec": {"address": OUTSIDE, "namespaceSelector": {}},
    }


def network(tenant: str, *routes: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The tenant's namespace, and its network."""
    yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": tenant}}
    dropped = {"prefix": "198.51.100.0/24", "blackhole": True}
    spec = {"subnets": [{"prefix": "10.0.0.0/24"}], "routes": [*routes, dropped]}
    yield item("VirtualNetwork", tenant, "net", spec)


def item(kind: str, namespace: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    metadata = {"namespace": namespace, "name": name}
    return {
        "apiVersion": "headrace.dev/v1alpha1",
        "kind": kind,
        "metadata": metadata,
        "spec": spec,
    }


def interface(namespace: str, network: str, name: str, node: Node, **more: Any) -> dict[str, Any]:
    spec = {
        "networkRef": {"name": network},
        "pipelineName": PIPELINE,
        "nodeName": node.name,
        "attachment": {"type": "Null"},
        **more,
    }
    return item("Interface", namespace, name, spec)


class Watch:
    """Every version of the objects of a kind that the API server tells of."""

    def __init__(self, cluster: Cluster, kind: str) -> None:
        self.seen: list[dict[str, Any]] = []
        self._environment = cluster.environment
        self._words = ("kubectl", "get", kind, "-A", "--watch", "-o", "json")
        self._ends = False
        self._process = self._spawn()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _spawn(self) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            self._words,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def _read(self) -> None:
        while True:
            with self._process as process:
                lines: list[str] = []
                for line in process.stdout or ():
                    lines.append(line)
                    if line == "}\n":
                        self.seen.append(json.loads("".join(lines)))
                        lines.clear()
            if self._ends:
                return
            # The API server ends what watches a kind whose definition changes.
            self._process = self._spawn()

    def stop(self) -> None:
        self._ends = True
        self._process.terminate()
        self._reader.join()


@contextmanager
def watching(site: Site, *kinds: str) -> Iterator[dict[str, Watch]]:
    watches = {kind: Watch(site.cluster, kind) for kind in kinds}
    try:
        yield watches
    finally:
        for watch in watches.values():
            watch.stop()


class Flow(ClusterPinger):
    """Pings, and when they went unanswered."""

    def __init__(self, site: Site, sender: str, address: str) -> None:
        site.machines[sender].command("ping", "-c", "3", "-w", "60", address)
        super().__init__(site, sender, address, INTERVAL)
        self._told = 0

    def gaps(self) -> list[int]:
        """How many pings were lost in a row, each time since it was asked last."""
        answered = sorted(self._answered)
        pairs = pairwise(answered)
        found = [later - one - 1 for one, later in pairs if later > one + 1]
        self._told, told = len(found), self._told
        return found[told:]


def key(found: Any) -> str:
    metadata = found["metadata"]
    return f"{metadata.get('namespace', '')}/{metadata['name']}"


def given(site: Site, slices: str = "slices", entries: str = "entries") -> dict[str, Any]:
    """What was given out; and what runs by what name. `slices`: the kind that has the routes."""
    (pipeline,) = site.get("pipelines")
    names = ("nodeName", "addresses", "underlayAddress")
    return {
        "vnis": {key(each): each["status"]["vni"] for each in site.get("vnet", "-A")},
        "addresses": {
            key(each): [each["status"].get(name) for name in names]
            for each in site.get("interfaces", "-A")
        },
        "nodes": {each["name"]: each["underlayPrefix"] for each in pipeline["status"]["nodes"]},
        "port": pipeline["status"]["metricsPort"],
        "sets": {key(each): each["metadata"]["uid"] for each in site.get("ds", "-n", NAMESPACE)},
        "slices": {
            key(each): each["spec"][entries]
            for each in site.get(slices, "-n", NAMESPACE)
            if each["spec"].get("type", "Routes") == "Routes"
        },
    }


def pod_address(site: Site, pod: str) -> str:
    """IPv4 address of a pod of green's."""
    (found,) = (
        each
        for each in site.get("interfaces", "-n", "green")
        if each["spec"]["attachment"]["pod"]["name"] == pod
    )
    return str(found["status"]["addresses"][0])


def test_objects_are_converted_and_nothing_moves(site: Site, say: Callable[[str], None]) -> None:
    def count(what: str, flows: dict[str, Flow]) -> dict[str, list[int]]:
        lost = {name: flow.gaps() for name, flow in flows.items()}
        say(f"{what}: pings lost in a row, one each {INTERVAL * 1000:.0f} ms: {lost}")
        return lost

    def all_given() -> bool:
        found = [each.get("status", {}) for each in site.get("interfaces", "-A")]
        networks = [each.get("status", {}) for each in site.get("vnet", "-A")]
        return (
            len(found) == TENANTS * MACHINES + 7
            and all(each.get("underlayAddress") for each in found)
            and all(each.get("vni") for each in networks)
        )

    until(all_given, "everything has what is given out", SECONDS)
    before = given(site, "routeslices", "routes")
    flows = {
        "between nodes": Flow(site, "blue/vm1", VM2[0]),
        "within node-a": Flow(site, "blue/vm1", VM3[0]),
        "between pods": Flow(site, "green/on-node-a", pod_address(site, "on-node-b")),
    }
    try:
        replace_pods(site, flows.values())
        count("each dataplane pod deleted, release before", flows)
        with watching(site, "interfaces", *CONFIGS) as watches:
            site.upgrade(**NODE_AGENT)
            # To ask again and again would take the CPUs on which the pods start.
            words = ("rollout", "status", "daemonset", f"headrace-{PIPELINE}", "-n", NAMESPACE)
            site.cluster.kubectl(*words, f"--timeout={SECONDS:.0f}s", seconds=SECONDS + 10)
            for flow in flows.values():
                flow.wait(300, SECONDS)
        lost = count("upgrade", flows)
        replace_pods(site, flows.values())
        count("each dataplane pod deleted, this release", flows)
    finally:
        for flow in flows.values():
            flow.stop()

    # A node that is replaced does not forward; for all else nothing was lost.
    assert [len(lost[name]) for name in flows] == [2, 1, 2]
    assert given(site) == before
    addresses = {name: found[2] for name, found in before["addresses"].items()}
    for each in watches["interfaces"].seen:
        # At no time was it another.
        assert each["status"].get("underlayAddress") == addresses[key(each)]
    for kind in CONFIGS:
        assert watches[kind].seen
    # In one's own words each has all of its node's Interfaces, at any time.
    for each in watches[FORMER].seen:
        assert len(each["spec"]["interfaces"]) == len(on(each["spec"]["nodeName"], before))
    for each in watches["slices"].seen:
        if each["spec"]["type"] == "Interfaces":
            held = {entry_key(item) for item in each["spec"]["entries"]}
            assert held == {*on(each["spec"]["nodeName"], before)}
    until(lambda: not copies(site), "copies for the release before are gone", SECONDS)
    for each in site.get("interfaces", "-A"):
        assert each["spec"]["pipelineRef"] == {"name": PIPELINE}
        assert each["spec"]["attachment"]["type"] in ("AFPacket", "Pod", "Discard")
    for each in site.get("vnet", "-A"):
        if key(each).startswith("tenant-"):
            assert each["spec"]["routes"][-1]["action"] == "Drop"


def copies(site: Site) -> list[Any]:
    """Compiled objects as the release before has them."""
    kinds = ("dataplaneconfigs.headrace.dev", "routeslices.headrace.dev")
    return [each for kind in kinds for each in site.get(kind, "-n", NAMESPACE)]


def on(node: str, before: dict[str, Any]) -> list[str]:
    """Interfaces that had an address on the node."""
    return [name for name, (where, *_) in before["addresses"].items() if where == node]


def replace_pods(site: Site, flows: Collection[Flow]) -> None:
    """Delete the dataplane pod of each node in turn."""
    for node in site.nodes:
        name = site.pod(node)["metadata"]["name"]
        site.cluster.kubectl("delete", "pod", name, "-n", NAMESPACE)
        for flow in flows:
            flow.wait(200, SECONDS)
        words = ("rollout", "status", "daemonset", f"headrace-{PIPELINE}", "-n", NAMESPACE)
        site.cluster.kubectl(*words, f"--timeout={SECONDS:.0f}s", seconds=SECONDS + 10)
