# SPDX-License-Identifier: Apache-2.0
"""An upgrade from the release before: its operator, agents and kinds, and then this one's."""

import asyncio
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from headrace_api import NEW_FEATURES, network_of
from headrace_kube import (
    DATAPLANE_CONFIGS,
    FORMER,
    FORMER_CONFIGS,
    FORMER_SLICES,
    INTERFACES,
    LEASES,
    PIPELINES,
    SLICES,
    VIRTUAL_NETWORKS,
    Kind,
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
"""Nodes, by the release of their first agent."""


@pytest.fixture(scope="module")
def tree() -> Path:
    commit = os.environ.get(VARIABLE) or newest_release()
    if not commit:
        pytest.skip(f"no tag v* before this commit: fetch tags, or name a commit in {VARIABLE}")
    return tree_of(commit)


@pytest.fixture
def world(control_plane: Cluster, tree: Path) -> Iterator[World]:
    with World(control_plane) as made:
        made.install()
        made.clear()
        yield made
        made.install()
        made.clear()
        made.uninstall()
        made.api.kubectl("delete", "crd", "--ignore-not-found", *map(crd, FORMER))


def crd(kind: Kind) -> str:
    """Name of the CRD of a kind."""
    return f"{kind.plural}.{kind.api_version.partition('/')[0]}"


@pytest.fixture
def agents(control_plane: Cluster, world: World) -> Iterator[dict[str, Pod]]:
    """Dataplane pods by node, not started."""
    with ExitStack() as stack:
        found = {}
        for name in (OLD, NEW):
            folder = Path(tempfile.mkdtemp(prefix="hr-"))
            stack.callback(shutil.rmtree, folder)
            pod = found[name] = Pod(control_plane, folder, name, NAMESPACE)
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


def features(world: World, kind: Kind, name: str) -> set[str]:
    """What the agent of a node says that it understands."""
    return {*world.get(kind, f"{NAMESPACE}/router.{name}")["status"].get("features", ())}


def copies(world: World) -> dict[str, str]:
    """Compiled objects of the release before, with their identities."""
    return {
        f"{kind.name} {key}": item["metadata"]["uid"]
        for kind in FORMER
        for key, item in world.all(kind).items()
    }


def given(world: World) -> dict[str, Any]:
    """All that was given out."""
    names = ("nodeName", "addresses", "underlayAddress")
    interfaces, networks = world.all(INTERFACES), world.all(VIRTUAL_NETWORKS)
    found = {key: [item["status"][name] for name in names] for key, item in interfaces.items()}
    vnis = {key: item["status"]["vni"] for key, item in networks.items()}
    nodes = world.get(PIPELINES, "router")["status"]["nodes"]
    return {**found, **vnis, **{each["name"]: each["underlayPrefix"] for each in nodes}}


class Upgrade:
    """A cluster that is upgraded, with Interfaces of one network on its nodes."""

    def __init__(self, world: World, agents: dict[str, Pod], folder: Path) -> None:
        self._world = world
        self._agents = agents
        self._folder = folder
        self._kubeconfig = world.write_kubeconfig(folder)
        self.logs: list[Path] = []
        """Of all operators."""
        self._routes = 0
        # Node -> its Interfaces.
        self._machines: dict[str, list[str]] = {}

    def operator(self, environment: dict[str, str] | None = None) -> Operator:
        """The next one to lead, of this release or another."""
        self._world.delete(LEASES, LEASE)
        made = Operator(self._kubeconfig, self._folder / str(len(self.logs)), environment)
        self.logs.append(made.log)
        return made

    def add(self, *nodes: str, shape: Callable[[Any], Any] = lambda item: item) -> None:
        """An Interface on each of the nodes, and a route to what is behind the first of all."""
        self._routes += 1
        hops = [{"interfaceRef": {"name": f"{OLD}0"}}]
        routes = [{"prefix": f"10.9.{n}.0/24", "nextHops": hops} for n in range(self._routes)]
        self._world.put(network("blue", routes=routes))
        for name in nodes:
            machines = self._machines.setdefault(name, [])
            machine = f"{name}{len(machines)}"
            attachment = {
                "type": "Pcap",
                "pcap": {"transmitFile": str(self._folder / f"{machine}.pcap")},
            }
            self._world.put(shape(interface(machine, "blue", name, attachment=attachment)))
            machines.append(machine)

    def settle(self, operator: Operator) -> None:
        """Wait until all is Ready, by this operator's word, and look into the engines."""

        def settled() -> bool:
            # A Ready that is older than the operator is about the one before.
            return operator.idle and not pending(self._world)

        try:
            until(settled, "all is Ready", SECONDS)
        except Exception as error:
            pods = [self._agents[name] for name in self._machines]
            logs = [operator.log.read_text(), *(pod.log.read_text() for pod in pods)]
            found = "\n".join(map(str, (error, pending(self._world), *logs)))
            raise AssertionError(found) from error
        self.forwards()

    def replace(self, name: str) -> None:
        """Have a dataplane pod of this release on the node."""
        pod = self._agents[name]
        assert pod.stop() == 0
        pod.environment = {}
        pod.start()

    def forwards(self) -> None:
        """Each engine has its node's Interfaces, and routes to all, and what is behind one."""
        routes = self._routes + sum(map(len, self._machines.values()))
        for name, machines in self._machines.items():
            assert self._agents[name].interfaces() == {f"default/{each}" for each in machines}
            assert self._agents[name].routes() == {"default/blue": routes}


@pytest.fixture
def upgrade(
    world: World,
    tree: Path,
    agents: dict[str, Pod],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Upgrade:
    """What the release before has made of a node and an Interface, once the hook has run."""
    # There is one API server, and it refuses what it does not know.
    monkeypatch.setattr(hook, "SPREAD", 0.0)
    world.api.kubectl("delete", "crd", *map(crd, (DATAPLANE_CONFIGS, SLICES)))
    install_crds(world.api, tree)
    captures = {"name": "captures", "type": "Pcap", "directory": str(tmp_path)}
    devices = [{**captures, "namespaceSelector": {}}]
    workers = {"shareControlCore": True}
    world.put(node(OLD), former(pipeline(workers=workers, devices=devices)))
    agents[OLD].environment = environment_of(tree) | {"HEADRACE_ENGINE": str(engine_of(tree))}
    agents[OLD].start()
    made = Upgrade(world, agents, tmp_path)
    with made.operator(environment_of(tree)) as operator:
        made.add(OLD, shape=former)
        made.settle(operator)
        asyncio.run(convert(world.api.kubeconfig))
        made.forwards()
    return made


def test_an_upgrade_moves_nothing(
    world: World, tree: Path, agents: dict[str, Pod], upgrade: Upgrade
) -> None:
    before, compiled, processes = given(world), copies(world), agents[OLD].processes()
    with upgrade.operator() as operator:
        upgrade.settle(operator)
        assert given(world) == before
        assert copies(world) == compiled
        # A node joins, with an agent of this release.
        agents[NEW].start()
        world.put(node(NEW))
        upgrade.add(OLD, NEW)
        upgrade.settle(operator)
        now = given(world)
        assert now.items() >= before.items()
        assert copies(world).items() >= compiled.items()
        # What the old agent reads is as its release has it, and there is none for the new one.
        assert world.all(FORMER_CONFIGS).keys() == {f"{NAMESPACE}/router.{OLD}"}
        routes = {key for key, each in world.all(SLICES).items() if network_of(each["spec"])}
        assert world.all(FORMER_SLICES).keys() == routes
        for kind in FORMER:
            for item in world.all(kind).values():
                assert not unknown(item["spec"], spec_schema(tree, kind.plural))
        # What an agent lacks is told where a Pipeline uses it, and this one does not.
        lacks = features(world, DATAPLANE_CONFIGS, NEW) - features(world, FORMER_CONFIGS, OLD)
        assert lacks <= {*NEW_FEATURES}
        conditions = world.get(PIPELINES, "router")["status"]["conditions"]
        assert "AgentTooOld" not in {each["reason"] for each in conditions}

    # The next one goes on where this has been.
    compiled = copies(world)
    with upgrade.operator() as operator:
        upgrade.settle(operator)
        assert operator.metric("writes_total") == 0
        assert copies(world) == compiled
        assert agents[OLD].processes() == processes
        upgrade.replace(OLD)
        until(lambda: not copies(world), "nothing is copied any more", SECONDS)
        upgrade.settle(operator)
        assert given(world) == now
        until(lambda: "nothing is copied" in operator.log.read_text(), "it says so", SECONDS)
        # And then the kinds may go.
        world.api.kubectl("delete", "crd", *map(crd, FORMER))
        upgrade.add(OLD, NEW)
        upgrade.settle(operator)
    logs = [*upgrade.logs, *(pod.log for pod in agents.values())]
    for said in (log.read_text() for log in logs):
        for trouble in ("Traceback", "NotUnderstood", "unknown field", "cannot write"):
            assert trouble not in said, said


def test_nodes_keep_what_they_have_when_the_kinds_go_at_once(
    world: World, agents: dict[str, Pod], upgrade: Upgrade
) -> None:
    """As Helm deletes them with `crds.keep=false`, after it has started this operator."""
    before, processes = given(world), agents[OLD].processes()
    with upgrade.operator() as operator:
        upgrade.settle(operator)
        world.api.kubectl("delete", "crd", *map(crd, FORMER))
        until(lambda: "nothing is copied" in operator.log.read_text(), "it says so", SECONDS)
        upgrade.forwards()
        assert agents[OLD].processes() == processes
        upgrade.replace(OLD)
        upgrade.add(OLD)
        upgrade.settle(operator)
        assert given(world).items() >= before.items()


async def convert(kubeconfig: Path) -> None:
    """As the chart's hook does."""
    async with await Kube.connect(str(kubeconfig)) as kube:
        await hook.upgrade(kube, NAMESPACE, "headrace")
