# SPDX-License-Identifier: Apache-2.0
"""`headrace backup` and `headrace restore`: a cluster made anew gives the same values."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace_cli.main import main
from headrace_kube import (
    DATAPLANE_CONFIGS,
    INTERFACES,
    LEASES,
    NODES,
    PIPELINES,
    UNDERLAY_ENDPOINTS,
    VIRTUAL_NETWORKS,
)
from tests.cluster.chart import NAMESPACE
from tests.cluster.cluster import Cluster
from tests.cluster.operators import (
    LEASE,
    STATEFUL_SETS,
    Operator,
    World,
    endpoint,
    interface,
    network,
    node,
    pipeline,
    stateful_set,
)
from tests.cluster.sandbox import until

SECONDS = 60.0


@pytest.fixture
def world(control_plane: Cluster) -> Iterator[World]:
    with World(control_plane) as made:
        made.install()
        made.clear()
        yield made
        made.clear()
        made.uninstall()


def made_anew(world: World) -> None:
    """Nothing of Headrace is left, and it is installed again; the nodes have joined."""
    world.clear()
    world.uninstall()
    world.install()
    world.put(node("n1"), node("n2"))


def values(world: World) -> dict[str, Any]:
    """All that was given out."""

    def statuses(kind: Any, *names: str) -> dict[str, Any]:
        found = {}
        for key, item in world.all(kind).items():
            status = item.get("status", {})
            found[key] = {name: status[name] for name in names if name in status}
        return found

    return {
        "networks": statuses(VIRTUAL_NETWORKS, "vni"),
        "pipelines": statuses(PIPELINES, "nodes", "metricsPort"),
        "interfaces": statuses(INTERFACES, "addresses", "underlayAddress", "nodeName"),
        "endpoints": world.specs(UNDERLAY_ENDPOINTS),
        "compiled": world.compiled(),
    }


def settle(world: World, operator: Operator) -> None:
    """Wait until agents of two nodes have spoken, and the operator has nothing to write."""

    def settled() -> bool:
        found = values(world)
        return (
            operator.idle
            and len(found["pipelines"]["router"].get("nodes", ())) == 2
            and all("vni" in each for each in found["networks"].values())
            and all("underlayAddress" in each for each in found["interfaces"].values())
        )

    until(settled, "it has settled", SECONDS)
    world.report()
    until(settled, "it has settled", SECONDS)


def test_a_cluster_made_anew_gives_the_same_values(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "headrace.json"
    options = ("--kubeconfig", str(world.api.kubeconfig))
    kubeconfig = world.write_kubeconfig(tmp_path)
    world.put(node("n1"), node("n2"), node("n0"), pipeline())
    with Operator(kubeconfig, tmp_path / "before") as operator:
        # Values that nobody would get who asked for them again: others came first, and went.
        world.put(*(network(f"gone{number}") for number in range(3)))
        until(lambda: operator.idle, "it is idle", SECONDS)
        out: Any = {"prefix": "0.0.0.0/0", "nextHops": [{"endpointRef": {"name": "gear"}}]}
        world.put(endpoint("gear", "fd99::1"), network("blue", routes=[out]), network("red"))
        for number in range(4):
            world.put(interface(f"vm{number}", "blue", f"n{1 + number % 2}"))
            until(lambda: operator.idle, "it is idle", SECONDS)
        world.delete(INTERFACES, "default/vm0", "default/vm1")
        world.delete(VIRTUAL_NETWORKS, *(f"default/gone{number}" for number in range(3)))
        world.delete(NODES, "n0")
        until(
            lambda: (
                operator.idle and len(values(world)["pipelines"]["router"].get("nodes", ())) == 2
            ),
            "what went is not known any more",
            SECONDS,
        )
        world.report()
        until(
            lambda: operator.idle and "vni" in values(world)["networks"]["default/red"], "", SECONDS
        )
        before = values(world)
        leads = json.dumps(before["compiled"])
        assert "fd99::1" in leads and before["endpoints"]
        assert main(["backup", str(file), *options]) == 0

        # While an operator leads nothing is written.
        world.delete(INTERFACES, "default/vm2")
        assert main(["restore", str(file), *options]) == 1
        assert "scale deployment headrace-operator --replicas=0" in capsys.readouterr().err
        assert world.get(INTERFACES, "default/vm2") is None
        operator.stop()

    made_anew(world)
    assert not world.all(VIRTUAL_NETWORKS)
    assert not world.all(DATAPLANE_CONFIGS)
    assert main(["restore", str(file), "-o", "json", *options]) == 0
    restored = json.loads(capsys.readouterr().out)
    assert restored["restored"]["Interface"] == {"written": 2, "unchanged": 0}
    assert restored["restored"]["UnderlayEndpoint"] == {"written": 1, "unchanged": 0}
    assert not restored["warnings"]
    assert values(world) == before
    owner = world.get(DATAPLANE_CONFIGS, f"{NAMESPACE}/router.n1")["metadata"]["ownerReferences"]
    anchor = json.loads(
        world.api.kubectl("get", "configmap", "headrace-operator", "-n", NAMESPACE, "-o", "json")
    )
    assert [each["uid"] for each in owner] == [anchor["metadata"]["uid"]]
    # Again does no harm, and another's change is not written over without being asked.
    assert main(["restore", str(file), "-o", "json", *options]) == 0
    assert not sum(
        each["written"] for each in json.loads(capsys.readouterr().out)["restored"].values()
    )
    world.put(network("red", subnets=[{"prefix": "10.9.0.0/16"}]))
    assert main(["restore", str(file), *options]) == 1
    assert "VirtualNetwork default/red" in capsys.readouterr().err
    assert main(["restore", str(file), "--overwrite", *options]) == 0
    assert values(world) == before

    # Its service account is another one by now.
    kubeconfig = world.write_kubeconfig(tmp_path)
    with Operator(kubeconfig, tmp_path / "after") as operator:
        settle(world, operator)
        assert values(world) == before
        # It goes on from there.
        world.put(network("green"))
        until(lambda: "vni" in values(world)["networks"]["default/green"], "a new VNI", SECONDS)
        vnis = [each["vni"] for each in values(world)["networks"].values()]
        assert len({*vnis}) == len(vnis) == 3
        operator.stop()


def test_interfaces_of_pods_come_with_their_pods(world: World, tmp_path: Path) -> None:
    """But for those that a StatefulSet keeps: these have what they had."""
    file = tmp_path / "headrace.json"
    options = ("--kubeconfig", str(world.api.kubeconfig))
    kubeconfig = world.write_kubeconfig(tmp_path)
    world.put(
        node("n1"),
        network("blue"),
        pipeline(devices=[{"name": "pods", "type": "Pod", "namespaceSelector": {}}]),
    )
    kept = stateful_set("kept", networks="blue", keep_addresses="true")
    world.put(kept, stateful_set("loose", networks="blue"))

    def start_pods() -> None:
        for name in ("kept-0", "loose-0"):
            world.api.kubectl("wait", "--for=create", f"pod/{name}", "--timeout=60s")
            world.bind(f"default/{name}", "n1")

    def addresses(name: str) -> Any:
        found = world.get(INTERFACES, f"default/{name}") or {}
        return found.get("status", {}).get("addresses")

    with Operator(kubeconfig, tmp_path / "before") as operator:
        until(lambda: operator.idle, "it is idle", SECONDS)
        start_pods()
        names = {key.partition("/")[2] for key in world.all(INTERFACES)}
        until(lambda: len(world.all(INTERFACES)) == 2, "their Interfaces", SECONDS)
        names = {key.partition("/")[2] for key in world.all(INTERFACES)}
        (own,) = (name for name in names if name.startswith("kept-0"))
        until(lambda: all(map(addresses, names)), "they have addresses", SECONDS)
        had = addresses(own)
        assert main(["backup", str(file), *options]) == 0
        operator.stop()
    saved = json.loads(file.read_text())["items"]
    assert [item["metadata"]["name"] for item in saved if item["kind"] == "Interface"] == [own]

    world.delete(STATEFUL_SETS, "default/kept", "default/loose")
    made_anew(world)
    world.put(kept)
    assert main(["restore", str(file), *options]) == 0
    (reference,) = world.get(INTERFACES, f"default/{own}")["metadata"]["ownerReferences"]
    assert reference["uid"] == world.get(STATEFUL_SETS, "default/kept")["metadata"]["uid"]
    # Its service account is another one by now.
    kubeconfig = world.write_kubeconfig(tmp_path)
    with Operator(kubeconfig, tmp_path / "after") as operator:
        until(lambda: operator.idle, "it is idle", SECONDS)
        assert addresses(own) == had
        operator.stop()
    world.delete(STATEFUL_SETS, "default/kept")
    world.delete(LEASES, LEASE)
