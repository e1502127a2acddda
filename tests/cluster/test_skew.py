# SPDX-License-Identifier: Apache-2.0
"""Operators, agents and kinds of this release and of the one before, as upgrades mix them."""

import asyncio
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from headrace_api import NEW_FEATURES
from headrace_kube import (
    DATAPLANE_CONFIGS,
    INTERFACES,
    LEASES,
    PIPELINES,
    ROUTE_SLICES,
    VIRTUAL_NETWORKS,
    Kube,
)
from headrace_operator.upgrade import main as hook
from tests.cluster.chart import NAMESPACE
from tests.cluster.cluster import Cluster
from tests.cluster.conftest import install_crds
from tests.cluster.earlier import engine_of, environment_of, former, newest_release, tree_of
from tests.cluster.operators import (
    LEASE,
    Operator,
    World,
    condition,
    interface,
    network,
    node,
    pipeline,
)
from tests.cluster.sandbox import until
from tests.cluster.test_agent import Pod

SECONDS = 60.0
VARIABLE = "HEADRACE_TEST_SKEW_FROM"
OLD, NEW = "old", "new"
"""Nodes, by the release of their agent."""


@pytest.fixture(scope="module")
def tree() -> Path:
    commit = os.environ.get(VARIABLE) or newest_release()
    if not commit:
        pytest.skip(f"no tag v* before this commit: fetch tags, or name a commit in {VARIABLE}")
    return tree_of(commit)


@pytest.fixture(scope="module")
def world(control_plane: Cluster, tree: Path) -> Iterator[World]:
    with World(control_plane) as made:
        made.install()
        made.clear()
        yield made
        made.clear()
        made.uninstall()
    install_crds(control_plane)


@pytest.fixture
def agents(control_plane: Cluster, world: World, tree: Path) -> Iterator[dict[str, Pod]]:
    """Dataplane pods by node: one of each release."""
    with ExitStack() as stack:
        found = {}
        for name in (OLD, NEW):
            folder = Path(tempfile.mkdtemp(prefix="hr-"))
            stack.callback(shutil.rmtree, folder)
            pod = found[name] = Pod(control_plane, folder, name, NAMESPACE)
            if name == OLD:
                pod.environment = environment_of(tree) | {"HEADRACE_ENGINE": str(engine_of(tree))}
            pod.start()
            stack.callback(pod.close)
        yield found


def pending(world: World) -> list[Any]:
    """Conditions, and generations, of what is not well as people have written it last."""
    found = []
    # That its pods run is a kubelet's to say.
    wanted = {VIRTUAL_NETWORKS: "Ready", INTERFACES: "Ready", PIPELINES: "Accepted"}
    for kind, name in wanted.items():
        for item in world.all(kind).values():
            of, generation = condition(item, name), item["metadata"]["generation"]
            if (of.get("status"), of.get("observedGeneration")) != ("True", generation):
                found.append((item["metadata"]["name"], generation, of))
    return found


def unknown(value: Any, schema: Any, path: str = "") -> set[str]:
    """Paths of the fields that a schema does not have."""
    if isinstance(value, list):
        return {each for item in value for each in unknown(item, schema["items"], f"{path}[]")}
    if not isinstance(value, dict):
        return set()
    known, others = schema.get("properties", {}), schema.get("additionalProperties")
    if others:
        known = {**dict.fromkeys(value, others), **known}
    found = {f"{path}.{name}" for name in value.keys() - known.keys()}
    for name in value.keys() & known.keys():
        found |= unknown(value[name], known[name], f"{path}.{name}")
    return found


def spec_schema(tree: Path, plural: str) -> Any:
    """The schema of a kind's spec, as the tree has it."""
    kind = yaml.safe_load((tree / f"crds/headrace.dev_{plural}.yaml").read_text())
    return kind["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]


def features(world: World, name: str) -> set[str]:
    """What the agent of a node says that it understands."""
    return {
        *world.get(DATAPLANE_CONFIGS, f"{NAMESPACE}/router.{name}")["status"].get("features", ())
    }


def test_operators_and_agents_of_two_releases(
    world: World,
    tree: Path,
    agents: dict[str, Pod],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # There is one API server, and it refuses what it does not know.
    monkeypatch.setattr(hook, "SPREAD", 0.0)
    kubeconfig = world.write_kubeconfig(tmp_path)
    install_crds(world.api, tree)
    captures = {"name": "captures", "type": "Pcap", "directory": str(tmp_path)}
    devices = [{**captures, "namespaceSelector": {}}]
    workers = {"shareControlCore": True}
    world.put(node(OLD), node(NEW), former(pipeline(workers=workers, devices=devices)))
    given: list[Any] = []
    vms: list[str] = []
    # Agents may be newer than the operator, and then older.
    for number, (environment, shape) in enumerate(((environment_of(tree), former), ({}, same))):
        if not environment:
            asyncio.run(upgrade(world.api.kubeconfig))
        with Operator(kubeconfig, tmp_path / str(number), environment) as operator:
            hops = [{"interfaceRef": {"name": f"{OLD}0"}}]
            routes = [{"prefix": f"10.9.{n}.0/24", "nextHops": hops} for n in range(number + 1)]
            vms.append(str(number))
            world.put(network("blue", routes=routes))
            for name in agents:
                file = str(tmp_path / f"{name}{number}.pcap")
                attachment = {"type": "Pcap", "pcap": {"transmitFile": file}}
                vm = interface(f"{name}{number}", "blue", name, attachment=attachment)
                world.put(shape(vm))

            def settled() -> bool:
                # A Ready that is older than the operator is about the one before.
                return operator.idle and not pending(world)

            try:
                until(settled, "all is Ready", SECONDS)
            except Exception as error:
                logs = [operator.log.read_text(), *(pod.log.read_text() for pod in agents.values())]
                raise AssertionError("\n".join(map(str, (error, pending(world), *logs)))) from error
            for name, pod in agents.items():
                assert pod.interfaces() == {f"default/{name}{vm}" for vm in vms}
                # Each Interface's address, and routes to what is behind one of them.
                assert pod.routes() == {"default/blue": len(agents) * len(vms) + len(routes)}
            statuses = (world.get(INTERFACES, f"default/{name}0")["status"] for name in agents)
            given.append([(each["addresses"], each["underlayAddress"]) for each in statuses])
            if not environment:
                config = world.get(DATAPLANE_CONFIGS, f"{NAMESPACE}/router.{OLD}")
                assert not unknown(config["spec"], spec_schema(tree, "dataplaneconfigs"))
                for item in world.all(ROUTE_SLICES).values():
                    assert not unknown(item["spec"], spec_schema(tree, "routeslices"))
                conditions = world.get(PIPELINES, "router")["status"]["conditions"]
                # What an agent lacks is told where a Pipeline uses it, and this one does not.
                assert features(world, NEW) - features(world, OLD) <= {*NEW_FEATURES}
                assert "AgentTooOld" not in {each["reason"] for each in conditions}
            said = operator.log.read_text()
        world.delete(LEASES, LEASE)
        assert "Traceback" not in said, said
    for pod in agents.values():
        said = pod.log.read_text()
        for trouble in ("Traceback", "NotUnderstood", "unknown field", "cannot write"):
            assert trouble not in said, said
    assert given[0] == given[1]


def same(item: Any) -> Any:
    return item


async def upgrade(kubeconfig: Path) -> None:
    """As the chart's hook does."""
    async with await Kube.connect(str(kubeconfig)) as kube:
        await hook.upgrade(kube, NAMESPACE, "headrace")
