# SPDX-License-Identifier: Apache-2.0
"""The objects of the release before at a real API server, through `headrace-upgrade`."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from headrace_kube import (
    INTERFACES,
    PIPELINES,
    UNDERLAY_ENDPOINTS,
    VIRTUAL_NETWORKS,
    Kube,
    KubeError,
)
from headrace_operator.upgrade import main as hook
from tests.cluster.chart import CHART, NAMESPACE, REPOSITORY, rights
from tests.cluster.cluster import Cluster
from tests.cluster.operators import World, interface, network, pipeline
from tests.cluster.sandbox import CommandError, until

OLD = Path(__file__).with_name("earlier_kinds.yaml")
SECONDS = 60.0


def old(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": name} if kind == "Pipeline" else {"name": name, "namespace": "default"}
    return {"apiVersion": "headrace.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}


@pytest.fixture
def world(control_plane: Cluster) -> Iterator[World]:
    """An API server with the kinds of the release before, and objects that are theirs."""
    with World(control_plane) as made:
        made.install()
        made.clear()
        kubectl = made.api.kubectl
        kubectl("apply", "--server-side", "--force-conflicts", "-f", OLD)
        route = {"prefix": "10.9.0.0/16", "nextHops": [{"underlayAddress": "2001:db8::9"}]}
        stolen = {"prefix": "10.8.0.0/16", "nextHops": [{"underlayAddress": "fd00:1:0:1::2"}]}
        before = pipeline(underlayPrefix="fd00:1::/48")
        spec: Any = before["spec"]
        spec = {k: v for k, v in spec.items() if k not in ("devices", "allowedNamespaces")}
        items = [
            old("Pipeline", "router", {**spec, "attachmentTypes": ["Memif", "Null"]}),
            network("blue", routes=[route, stolen]),
            interface(
                "vm1", "blue", "n1", attachment={"type": "Memif", "memif": {"secret": "in-clear"}}
            ),
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
        rights = "clusterrole,clusterrolebinding,role,rolebinding,serviceaccount"
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
    assert found["devices"] == [{"name": "memif", "type": "Memif"}]
    assert found["allowedNamespaces"] == {}
    assert "attachmentTypes" not in found
    routes = world.get(VIRTUAL_NETWORKS, "default/blue")["spec"]["routes"]
    # What named a node's address is gone.
    (route,) = routes
    (hop,) = route["nextHops"]
    endpoint = world.get(UNDERLAY_ENDPOINTS, hop["endpointRef"]["name"])
    assert endpoint["spec"]["address"] == "2001:db8::9"
    # Nor does the copy that kubectl keeps of the manifest have it.
    assert "in-clear" not in json.dumps(world.get(INTERFACES, "default/vm1"))
    left = world.api.kubectl(
        "get", "configmap", "-n", NAMESPACE, "-l", "headrace.dev/upgrade", "-o", "name"
    )
    assert not left


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
    world.put(pipeline(devices=[{"name": "pods", "type": "Pod"}]))
    before = world.get(PIPELINES, "router")["spec"]
    upgrade(kubeconfig)
    assert world.get(PIPELINES, "router")["spec"] == before


def test_an_upgrade_that_ends_half_way_is_taken_up(
    world: World, kubeconfig: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def dies(*_: object) -> None:
        raise KubeError(0, "Unreachable", "the node is gone")

    with monkeypatch.context() as patch:
        patch.setattr(hook, "_write", dies)
        with pytest.raises(KubeError, match="the node is gone"):
            upgrade(kubeconfig)
    # The API server has dropped by now what it does not know.
    assert "attachmentTypes" not in world.get(PIPELINES, "router")["spec"]
    assert "Job" in {item["kind"] for item in rendered(world)}
    upgrade(kubeconfig)
    check(world)
