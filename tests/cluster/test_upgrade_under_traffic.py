# SPDX-License-Identifier: Apache-2.0
"""An upgrade from an earlier commit by the documented command, with a hundred Interfaces.

HEADRACE_TEST_UPGRADE_FROM names the commit, one of the first release; without it this is skipped.
"""

import json
import os
import subprocess
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.chart import NAMESPACE
from tests.cluster.cluster import Cluster, Node
from tests.cluster.earlier import tree_of
from tests.cluster.images import Images
from tests.cluster.pods import known, manifest, running
from tests.cluster.sandbox import CommandError, until
from tests.cluster.site import NODE_AGENT, PIPELINE, SECONDS, ClusterPinger, Site
from tests.e2e.conftest import VM2, VM3

FROM = os.environ.get("HEADRACE_TEST_UPGRADE_FROM", "")
TAG = "earlier"
TENANTS, MACHINES = 5, 19
"""Beside blue and red; the last are more than an engine on Debian's DPDK has ports for."""
OUTSIDE, BEHIND = "2001:db8::9", "192.0.2.0/24"
"""An underlay address that is no node's, and what tenant-0 reaches there."""
INTERVAL = 0.01
"""Seconds between two pings."""

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
        site.machines["blue/vm3"] = cluster.endpoint("blue/vm3", VM3, node)
        site.install(earlier / "helm/headrace", **NODE_AGENT, **tags)
        cluster.kubectl("apply", "-f", earlier / "deploy/examples/two-nodes")
        types = json.dumps({"spec": {"attachmentTypes": ["AFPacket", "Null", "Pod"]}})
        cluster.kubectl("patch", "pipeline", PIPELINE, "--type=merge", "-p", types)
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
        with suppress(CommandError):
            # The earlier release does not have them.
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
        hops = [{"underlayAddress": OUTSIDE}]
        yield from network(tenant, *([{"prefix": BEHIND, "nextHops": hops}] if not number else ()))
        for index in range(MACHINES):
            yield interface(tenant, "net", f"vm{index}", site.nodes[index % 2])


def network(tenant: str, *routes: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The tenant's namespace, and its network."""
    yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": tenant}}
    spec = {"subnets": [{"prefix": "10.0.0.0/24"}], "routes": routes}
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


def given(site: Site) -> dict[str, Any]:
    """What was given out, but for underlay addresses of Interfaces; and what runs by what name."""
    (pipeline,) = site.get("pipelines")
    return {
        "vnis": {key(each): each["status"]["vni"] for each in site.get("vnet", "-A")},
        "addresses": {
            key(each): (each["status"]["nodeName"], each["status"]["addresses"])
            for each in site.get("interfaces", "-A")
        },
        "nodes": {each["name"]: each["underlayPrefix"] for each in pipeline["status"]["nodes"]},
        "port": pipeline["status"]["metricsPort"],
        "sets": {key(each): each["metadata"]["uid"] for each in site.get("ds", "-n", NAMESPACE)},
    }


def underlay(site: Site) -> dict[str, str]:
    """Underlay addresses of Interfaces."""
    found = site.get("interfaces", "-A")
    return {key(each): each.get("status", {}).get("underlayAddress", "") for each in found}


def pod_address(site: Site, pod: str) -> str:
    """IPv4 address of a pod of green's."""
    (found,) = (
        each
        for each in site.get("interfaces", "-n", "green")
        if each["spec"]["attachment"]["pod"]["name"] == pod
    )
    return str(found["status"]["addresses"][0])


def checked(pipeline: Any) -> str:
    """What the Pipeline says of the check of sources."""
    conditions = pipeline.get("status", {}).get("conditions", ())
    return next((c["reason"] for c in conditions if c["type"] == "SourcesChecked"), "")


def unknown(config: Any) -> bool:
    """Whether the config has a field that agents of the first release refuse."""
    spec = config["spec"]
    return bool(
        {"pipelinePrefix", "underlaySourceCheck"} & spec.keys()
        or any("endpoints" in each for each in spec["networks"])
        or any("formerUnderlayAddresses" in each for each in spec["interfaces"])
    )


def test_underlay_addresses_change_once_and_nothing_else(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    def say(what: str, flows: dict[str, Flow]) -> dict[str, list[int]]:
        lost = {name: flow.gaps() for name, flow in flows.items()}
        with capsys.disabled():
            print(f"\n{what}: pings lost in a row, one each {INTERVAL * 1000:.0f} ms: {lost}")
        return lost

    def all_given() -> bool:
        found = underlay(site)
        return len(found) == TENANTS * MACHINES + 7 and all(found.values())

    until(all_given, "every Interface has its addresses", SECONDS)
    before, addresses = given(site), underlay(site)
    flows = {
        "between nodes": Flow(site, "blue/vm1", VM2[0]),
        "within node-a": Flow(site, "blue/vm1", VM3[0]),
        "between pods": Flow(site, "green/on-node-a", pod_address(site, "on-node-b")),
    }
    try:
        replace_pods(site, flows.values())
        say("each dataplane pod deleted, release before", flows)
        kinds = ("pipelines", "interfaces", "dataplaneconfigs", "routeslices")
        with watching(site, *kinds) as watches:
            site.upgrade(**NODE_AGENT)
            # To ask again and again would take the CPUs on which the pods start.
            words = ("wait", f"pipeline/{PIPELINE}", "--for=condition=SourcesChecked")
            site.cluster.kubectl(*words, f"--timeout={SECONDS:.0f}s", seconds=SECONDS + 10)
            for flow in flows.values():
                flow.wait(300)
        lost = say("upgrade", flows)
        replace_pods(site, flows.values())
        say("each dataplane pod deleted, this release", flows)
    finally:
        for flow in flows.values():
            flow.stop()

    # A node that is replaced does not forward; for all else nothing was lost.
    assert [len(lost[name]) for name in flows] == [2, 1, 2]
    assert given(site) == before
    seen = {kind: watch.seen for kind, watch in watches.items()}
    moved: dict[str, list[str]] = {name: [address] for name, address in addresses.items()}
    for each in seen["interfaces"]:
        address = each["status"]["underlayAddress"]
        if moved[key(each)][-1] != address:
            moved[key(each)].append(address)
    assert {len(found) for found in moved.values()} == {2}
    reasons = [reason for each in seen["pipelines"] if (reason := checked(each))]
    assert [
        reason for index, reason in enumerate(reasons) if reasons[index - 1 : index] != [reason]
    ] == ["AgentTooOld", "AddressesMoving", "Enforced"]
    for each in seen["dataplaneconfigs"]:
        assert each["status"].get("features") or not unknown(each), each
    for each in seen["routeslices"]:
        if each["spec"]["network"] == "tenant-0/net":
            routes = {route["prefix"]: route["nextHops"] for route in each["spec"]["routes"]}
            assert routes[BEHIND] == [{"underlayAddress": OUTSIDE, "weight": 1}]
    (network,) = site.get("vnet", "-n", "tenant-0")
    assert "endpointRef" in network["spec"]["routes"][0]["nextHops"][0]


def replace_pods(site: Site, flows: Collection[Flow]) -> None:
    """Delete the dataplane pod of each node in turn."""
    for node in site.nodes:
        name = site.pod(node)["metadata"]["name"]
        site.cluster.kubectl("delete", "pod", name, "-n", NAMESPACE)
        for flow in flows:
            flow.wait(200, SECONDS)
        words = ("rollout", "status", "daemonset", f"headrace-{PIPELINE}", "-n", NAMESPACE)
        site.cluster.kubectl(*words, f"--timeout={SECONDS:.0f}s", seconds=SECONDS + 10)
