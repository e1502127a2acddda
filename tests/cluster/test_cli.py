# SPDX-License-Identifier: Apache-2.0
"""The command line against a real API server, and real pods.

Tests of `world` need an API server alone. Those of `probe` need nodes, and run commands in pods of
the probe's image. Those of `headrace` need the chart installed with a Pipeline whose dataplane
pods are ready.
"""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from headrace_api import Json
from headrace_cli.errors import CommandError
from headrace_cli.main import main, plugin
from headrace_cli.remote import captured, find
from headrace_kube import (
    INTERFACES,
    NAMESPACES,
    PIPELINES,
    VIRTUAL_NETWORKS,
    Kind,
    Kube,
)
from tests.cluster.chart import NAMESPACE
from tests.cluster.cluster import IMAGE, Api, Cluster
from tests.cluster.operators import World, interface, network, node, pipeline
from tests.cluster.site import Site

MANAGER = "test-status"


@pytest.fixture(scope="module")
def installed(api: Api) -> Iterator[World]:
    with World(api) as world:
        world.install()
        yield world


@pytest.fixture
def world(installed: World) -> Iterator[World]:
    """An API server with the chart's objects, and nothing of the user's."""
    installed.clear()
    yield installed
    installed.clear()


def on(world: World, *words: str) -> int:
    return main([*words, "--kubeconfig", str(world.api.kubeconfig)])


def say(world: World, item: Json, reason: str, **more: Any) -> None:
    """Write a status as the operator does, not ready but for the reason Forwarding."""
    kind = {"Interface": INTERFACES, "Pipeline": PIPELINES}[str(item["kind"])]
    metadata: Any = item["metadata"]
    key = f"{metadata.get('namespace', '')}/{metadata['name']}".lstrip("/")
    present = world.get(kind, key)
    condition = {
        "type": "Ready",
        "status": str(reason == "Forwarding"),
        "reason": reason,
        "message": "As a test says",
        "observedGeneration": present["metadata"]["generation"],
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    status = {
        "observedGeneration": present["metadata"]["generation"],
        "conditions": [condition],
        **more,
    }
    body = {"apiVersion": item["apiVersion"], "kind": item["kind"], "status": status}
    body["metadata"] = {name: metadata[name] for name in ("name", "namespace") if name in metadata}
    apply_status(world, kind, body)


def apply_status(world: World, kind: Kind, body: Json) -> None:
    world._run(world.kube.apply(kind, body, MANAGER, subresource="status"))


OBJECTS = (
    pipeline(),
    network("blue"),
    interface("vm1", "blue", "node-a"),
    interface("vm2", "blue", "node-b"),
)


def test_status_of_a_cluster(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.put(*OBJECTS)
    nodes = [{"name": "node-a", "underlayPrefix": "fd00:1:0:1::/64"}]
    say(world, OBJECTS[0], "Forwarding", nodes=nodes)
    say(world, OBJECTS[2], "Forwarding")
    say(world, OBJECTS[3], "DeviceGone")
    assert on(world, "status", "-A", "-o", "json") == 1
    found = json.loads(capsys.readouterr().out)
    assert [(p["name"], p["ready"], p["nodes"]) for p in found["pipelines"]] == [
        ("router", True, 1)
    ]
    assert [(i["name"], i["ready"], i["reason"]) for i in found["interfaces"]] == [
        ("default/vm1", True, "Forwarding"),
        ("default/vm2", False, "DeviceGone"),
    ]
    # Nobody has looked at the network, and no operator has compiled for the node.
    assert [problem.partition(":")[0] for problem in found["problems"]] == [
        "Node node-a of Pipeline router",
        "VirtualNetwork default/blue",
        "Interface default/vm2",
    ]
    assert on(world, "status", "-n", "kube-system") == 1
    text = capsys.readouterr().out
    assert text.splitlines()[4].split() == ["Interface", "0", "0"]
    assert "vm2" not in text


def test_status_without_headrace_is_one_line(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    assert on(world, "drops") == 1
    assert capsys.readouterr().err == (
        f"headrace drops: no dataplane pod is in namespace {NAMESPACE}: "
        f"see kubectl -n {NAMESPACE} get pods\n"
    )
    assert on(world, "drops", "--node", "nowhere") == 1
    assert "the cluster has no node nowhere" in capsys.readouterr().err


def apply_compiled(world: World, text: str) -> None:
    world.put(*yaml.safe_load_all(text), manager="headrace-operator")


def test_compile_of_a_cluster(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.put(node("node-a"), node("node-b"), *OBJECTS)
    assert on(world, "compile") == 0
    before = capsys.readouterr()
    kinds = [item["kind"] for item in yaml.safe_load_all(before.out)]
    assert kinds == ["DataplaneConfig", "DataplaneConfig", "Slice"]
    assert on(world, "compile", "--diff") == 1
    assert capsys.readouterr().out.startswith("--- DataplaneConfig/router.node-a (cluster)\n")
    apply_compiled(world, before.out)
    assert on(world, "compile", "--diff") == 0
    assert capsys.readouterr().out == ""
    # What was given out is read back: a newcomer that comes first by name takes nothing.
    world.put(interface("a", "blue", "node-a"))
    assert on(world, "compile", "--diff") == 1
    lines = capsys.readouterr().out.splitlines()
    assert not [line for line in lines if line.startswith("-") and not line.startswith("---")]
    assert "+  name: a" in lines
    world.delete(INTERFACES, "default/a")
    assert on(world, "compile") == 0
    assert capsys.readouterr() == before


def test_compile_of_a_cluster_names_what_is_wrong(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.put(node("node-a"), pipeline(), interface("vm1", "none", "node-a"))
    assert on(world, "compile", "-o", "json") == 1
    captured_text = capsys.readouterr()
    assert json.loads(captured_text.out)["kind"] == "List"
    (line,) = captured_text.err.splitlines()
    assert line.startswith("Interface/default/vm1: ")


def test_connectivity_where_nothing_runs_says_so_and_makes_nothing(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    other = pipeline(
        "other",
        devices=[
            {"name": "any", "type": "AFPacket", "deviceNames": ["*"], "namespaceSelector": {}}
        ],
    )
    world.put(other)
    assert on(world, "connectivity", "test", "--pipeline", "other") == 1
    assert "Pipeline other does not allow pods" in capsys.readouterr().err
    assert on(world, "connectivity", "test", "--pipeline", "none") == 1
    assert "there is no Pipeline none" in capsys.readouterr().err
    assert on(world, "connectivity", "test") == 1
    found = capsys.readouterr().out.splitlines()
    assert found[0].startswith(
        "FAILED  Interfaces, networks and Pipelines are Ready: Pipeline other"
    )
    assert found[1].startswith("FAILED  the operator answers: ")
    assert found[2].startswith("FAILED  the node agent runs: it is off")
    assert "--set nodeAgent.enabled=true" in found[2]
    assert found[3] == "skipped packets: because of 'the operator answers'"
    assert not [*world.all(INTERFACES), *world.all(VIRTUAL_NETWORKS)]
    assert not [name for name in world.all(NAMESPACES) if "connectivity" in name]
    assert sorted(world.all(PIPELINES)) == ["other"]


POD = """
apiVersion: v1
kind: Pod
metadata:
  name: probe
  namespace: {namespace}
  labels: {{headrace.dev/pipeline: probe}}
spec:
  nodeName: {node}
  tolerations: [{{operator: Exists}}]
  terminationGracePeriodSeconds: 1
  containers:
    - name: dataplane
      image: {image}
      imagePullPolicy: IfNotPresent
"""


@pytest.fixture
def probe(cluster: Cluster, cluster_namespace: str) -> str:
    """A pod with the labels of a dataplane pod, in a namespace, which is returned."""
    pod = POD.format(namespace=cluster_namespace, node="node-a", image=IMAGE)
    cluster.kubectl("apply", "-f", "-", stdin=pod)
    cluster.wait("--for=condition=Ready", "pod/probe", "-n", cluster_namespace)
    return cluster_namespace


def test_commands_run_in_pods(cluster: Cluster, probe: str) -> None:
    async def run(*command: str) -> tuple[int, bytes, bytes]:
        async with await Kube.connect(str(cluster.kubeconfig)) as kube:
            ended = await captured(kube, await find(kube, "node-a", "probe", probe), command)
            return ended.status, ended.stdout, ended.stderr

    def work(*command: str) -> tuple[int, bytes, bytes]:
        return asyncio.run(run(*command))

    assert work("/probe", "cat", "/etc/hostname") == (0, b"probe\n", b"")
    status, out, err = work("/probe", "cat", "/nonexistent file")
    assert (status != 0, out) == (True, b"")
    assert b"nonexistent" in err
    with pytest.raises(CommandError, match=r"headrace cannot run in pod .*/probe: "):
        work("headrace", "drops")


def test_who_may_not_run_commands_is_told_the_rule(
    cluster: Cluster,
    probe: str,
    tmp_path_factory: pytest.TempPathFactory,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rights = (f"--namespace={probe}", "--verb=list", "--resource=pods")
    cluster.kubectl("create", "role", "reader", *rights)
    account = f"--serviceaccount={probe}:default"
    cluster.kubectl("create", "rolebinding", "reader", "--role=reader", account, "-n", probe)
    token = cluster.kubectl("create", "token", "default", "-n", probe).strip()
    document = yaml.safe_load(cluster.kubeconfig.read_text())
    document["users"][0]["user"] = {"token": token}
    kubeconfig = tmp_path_factory.mktemp("reader") / "kubeconfig"
    kubeconfig.write_text(json.dumps(document))
    words = ["--kubeconfig", str(kubeconfig), "--system-namespace", probe, "--node", "node-a"]
    assert plugin(["drops", *words]) == 1
    assert capsys.readouterr().err == (
        f"kubectl headrace drops: you may not run commands in pod {probe}/probe: it takes a Role "
        f'in namespace {probe} with apiGroups [""], resources ["pods/exec"], verbs '
        '["get", "create"]\n'
    )


@pytest.fixture(scope="module")
def headrace(site: Site) -> Cluster:
    """The chart, and a Pipeline on two nodes, all ready."""
    return site.cluster


def kubeconfig_of(headrace: Api) -> list[str]:
    return ["--kubeconfig", str(headrace.kubeconfig)]


def dataplane_pods(headrace: Api) -> list[Any]:
    text = headrace.kubectl(
        "-n", NAMESPACE, "get", "pods", "-l", "headrace.dev/pipeline", "-o", "json"
    )
    pods: list[Any] = json.loads(text)["items"]
    assert pods, "the fixture headrace has dataplane pods"
    return pods


@pytest.mark.parametrize("words", [["drops", "--all"], ["interfaces"], ["routes"], ["neighbors"]])
def test_a_node_answers_as_its_engine_does(
    headrace: Api, words: list[str], capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    pod = dataplane_pods(headrace)[0]
    name, where = pod["metadata"]["name"], pod["spec"]["nodeName"]
    chosen = ["--pipeline", pod["metadata"]["labels"]["headrace.dev/pipeline"], "--node", where]
    assert plugin([*words, "-o", "json", *chosen, *kubeconfig_of(headrace)]) == 0
    inside = headrace.kubectl(
        *("-n", NAMESPACE, "exec", name, "-c", "dataplane", "--"),
        *("headrace", *words, "-o", "json"),
    )
    out = capfdbinary.readouterr().out
    assert isinstance(json.loads(out), list | dict)
    # Counters move.
    if words[0] in ("routes", "interfaces"):
        assert [x.get("name") for x in json.loads(out)] == [
            x.get("name") for x in json.loads(inside)
        ]


def test_errors_of_a_node_come_through(
    headrace: Api, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    pod = dataplane_pods(headrace)[0]
    words = ["--pipeline", pod["metadata"]["labels"]["headrace.dev/pipeline"]]
    words += ["--node", pod["spec"]["nodeName"], "--interface", "no/such"]
    assert plugin(["drops", *words, *kubeconfig_of(headrace)]) == 1
    assert capfdbinary.readouterr().err == b"headrace drops: the engine has no interface no/such\n"


def test_connectivity_needs_the_node_agent(
    headrace: Api, capfd: pytest.CaptureFixture[str]
) -> None:
    assert plugin(["connectivity", "test", "-o", "json", *kubeconfig_of(headrace)]) == 1
    results = json.loads(capfd.readouterr().out)
    failed = {each["name"]: each["reason"] for each in results if each["outcome"] == "failed"}
    assert list(failed) == ["the node agent runs"]
    assert failed["the node agent runs"].endswith("--set nodeAgent.enabled=true")
    assert results[-1]["reason"] == "because of 'the node agent runs'"
