# SPDX-License-Identifier: Apache-2.0
"""The objects of the release before at a real API server, through `headrace-upgrade`."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from headrace_api import Json
from headrace_kube import (
    INTERFACES,
    PIPELINES,
    UNDERLAY_ENDPOINTS,
    VIRTUAL_NETWORKS,
    Kind,
    Kube,
    KubeError,
)
from headrace_operator.upgrade import main as hook
from tests.cluster.chart import CHART, NAMESPACE, REPOSITORY, rights
from tests.cluster.cluster import Cluster
from tests.cluster.operators import World, interface, pipeline
from tests.cluster.sandbox import CommandError, until

OLD = Path(__file__).with_name("earlier_kinds.yaml")
SECONDS = 60.0
MACHINES = 20


def old(kind: str, name: str, **spec: Any) -> dict[str, Any]:
    metadata = {"name": name}
    if kind in ("Interface", "VirtualNetwork"):
        metadata["namespace"] = "default"
    return {"apiVersion": "headrace.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}


def machine(number: int) -> dict[str, Any]:
    attachment: Json = {"type": "Null"}
    if number % 2:
        attachment = {"type": "Tap", "tap": {"deviceName": f"tap{number}"}}
    names: dict[str, Any] = {
        "networkRef": {"name": "blue"},
        "pipelineName": "router",
        "nodeName": "n1",
    }
    return old("Interface", f"vm{number}", **names, attachment=attachment)


@pytest.fixture
def world(control_plane: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """An API server with the kinds of the release before, and objects that are theirs."""
    # There is one API server, and it refuses what it does not know.
    monkeypatch.setattr(hook, "SPREAD", 0.0)
    with World(control_plane) as made:
        made.install()
        made.clear()
        kubectl = made.api.kubectl
        kubectl("apply", "--server-side", "--force-conflicts", "-f", OLD)
        routes = [
            {"prefix": "10.9.0.0/16", "blackhole": True},
            {"prefix": "10.8.0.0/16", "nextHops": [{"endpointRef": {"name": "edge"}}]},
        ]
        devices = [{"name": "taps", "type": "Tap", "deviceNames": ["*"]}]
        everything = {"allowedNamespaces": {}, "devices": devices, "numa": 0}
        items = [
            old("Pipeline", "router", underlayPrefix="fd00:1::/48", **everything),
            old("VirtualNetwork", "blue", subnets=[{"prefix": "10.0.0.0/16"}], routes=routes),
            old("UnderlayEndpoint", "edge", address="fd99::5", namespaceSelector={}),
            *map(machine, range(MACHINES)),
        ]
        stdin = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})

        def put() -> bool:
            try:
                kubectl("apply", "--validate=strict", "-f", "-", stdin=stdin)
            except CommandError:
                return False
            return True

        until(put, "the API server has the kinds of the release before", SECONDS)
        yield made
        rights = "clusterrole,clusterrolebinding,serviceaccount"
        kubectl("delete", rights, "headrace-upgrade", "-n", NAMESPACE, "--ignore-not-found")
        made.install()
        made.clear()
        made.uninstall()


def rendered(world: World) -> list[Any]:
    """What the chart has for an upgrade of this cluster, beside its usual objects."""
    words = ("template", "headrace", CHART, "-n", NAMESPACE, "--is-upgrade", "--dry-run=server")
    found = yaml.safe_load_all(world.api.helm(*words))
    return [item for item in found if item and item["metadata"]["name"] == "headrace-upgrade"]


@pytest.fixture
def kubeconfig(world: World, tmp_path: Path) -> Path:
    """With a token of the hook's account, and its rights."""
    objects = [item for item in rendered(world) if item["kind"] != "Job"]
    items = {"apiVersion": "v1", "kind": "List", "items": objects}
    world.api.kubectl("apply", "-f", "-", stdin=json.dumps(items))
    token = world.api.kubectl("create", "token", "headrace-upgrade", "-n", NAMESPACE).strip()
    document = yaml.safe_load(world.api.kubeconfig.read_text())
    document["users"][0]["user"] = {"token": token}
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps(document))
    return path


def upgrade(kubeconfig: Path) -> None:
    """As the hook's Job does it, with its rights."""

    async def run() -> None:
        async with await Kube.connect(str(kubeconfig)) as kube:
            await hook.upgrade(kube, NAMESPACE, "headrace")

    asyncio.run(run())


def check(world: World) -> None:
    found = world.get(PIPELINES, "router")["spec"]
    # As it stood there, by the default of the release before.
    assert found["nodeSelector"] == {"matchLabels": {}}
    (device,) = found["devices"]
    assert device["namespaceSelector"] == {}
    assert found["underlayPrefixes"] == ["fd00:1::/48"]
    assert not found.keys() & {"numa", "underlayPrefix"}
    assert world.get(UNDERLAY_ENDPOINTS, "edge")["spec"]["networkSelector"] == {}
    routes = {each["prefix"]: each for each in routes_of(world)}
    assert routes["10.9.0.0/16"] == {"prefix": "10.9.0.0/16", "action": "Drop"}
    assert routes["10.8.0.0/16"]["action"] == "Forward"
    assert routes["10.8.0.0/16"]["nextHops"] == [{"endpointRef": {"name": "edge"}, "weight": 1}]
    interfaces = world.all(INTERFACES)
    assert len(interfaces) == MACHINES
    for number in range(MACHINES):
        spec = interfaces[f"default/vm{number}"]["spec"]
        assert spec["pipelineRef"] == {"name": "router"}
        assert "pipelineName" not in spec
        assert spec["attachment"]["type"] == ("Tap" if number % 2 else "Discard")
    # The kinds are this release's, rules and all.
    refused(world, interface("vm0", "red", "n1"), "networkRef is immutable")
    refused(world, {**pipeline(), "spec": {"underlayPrefixes": ["fd00:1::/48"], "numa": 1}}, "numa")


def routes_of(world: World) -> list[Any]:
    found: list[Any] = world.get(VIRTUAL_NETWORKS, "default/blue")["spec"]["routes"]
    return found


def refused(world: World, item: Any, why: str) -> None:
    """Wait until the API server refuses the object: it may not have the newest schema yet."""

    def says() -> str:
        words = ("replace", "--validate=strict", "--dry-run=server", "-f", "-")
        try:
            world.api.kubectl(*words, stdin=json.dumps(item))
        except CommandError as error:
            return str(error)
        return ""

    until(lambda: why in says(), f"refused: {why}", SECONDS)


def test_stored_objects_become_those_of_this_release(world: World, kubeconfig: Path) -> None:
    found = rendered(world)
    assert "Job" in {item["kind"] for item in found}
    page = (REPOSITORY / "docs/install.md").read_text()
    assert not [right for right in rights(found) if right not in page]
    upgrade(kubeconfig)
    check(world)
    # Afterwards nobody has these rights.
    assert not rendered(world)
    # Again does no harm, and an administrator's word stays.
    silent = pipeline(devices=[{"name": "pods", "type": "Pod"}])
    del silent["spec"]["nodeSelector"]  # type: ignore[union-attr, arg-type]
    world.put(silent)
    before = world.get(PIPELINES, "router")["spec"]
    upgrade(kubeconfig)
    assert world.get(PIPELINES, "router")["spec"] == before


def test_a_pipeline_that_is_still_being_upgraded_is_not_upgraded(
    world: World, kubeconfig: Path
) -> None:
    def say(status: str) -> None:
        condition = {
            "type": "SourcesChecked",
            "status": status,
            "reason": "AgentTooOld",
            "message": "n1",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }
        change = {"status": {"selectedNodes": 1, "conditions": [condition]}}
        words = ("--subresource=status", "--type=merge", "-p", json.dumps(change))
        world.api.kubectl("patch", "pipeline", "router", *words)

    say("False")
    with pytest.raises(KubeError, match="Pipeline router: its condition SourcesChecked"):
        upgrade(kubeconfig)
    assert "numa" in world.get(PIPELINES, "router")["spec"]
    say("True")
    upgrade(kubeconfig)
    check(world)


def test_an_upgrade_that_ends_half_way_is_taken_up(
    world: World, kubeconfig: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    convert, left = hook._convert_one, MACHINES // 2

    async def dies(kube: Kube, kind: Kind, item: Json) -> bool:
        nonlocal left
        left -= kind.name == INTERFACES.name
        if left < 0:
            raise KubeError(0, "Unreachable", "the node is gone")
        return await convert(kube, kind, item)

    with monkeypatch.context() as patch:
        patch.setattr(hook, "_convert_one", dies)
        with pytest.raises(KubeError, match="the node is gone"):
            upgrade(kubeconfig)
    # Some are converted and some are not; nothing is lost.
    specs = [item["spec"] for item in world.all(INTERFACES).values()]
    assert 0 < sum("pipelineRef" in spec for spec in specs) < MACHINES
    assert all(("pipelineRef" in spec) != ("pipelineName" in spec) for spec in specs)
    assert "Job" in {item["kind"] for item in rendered(world)}
    upgrade(kubeconfig)
    check(world)
