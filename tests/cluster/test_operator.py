# SPDX-License-Identifier: Apache-2.0
"""The operator as a process, with no rights but its service account's, at a real API server."""

import json
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace_api import Json, Objects, config_name, pod_device
from headrace_cli.errors import CommandError
from headrace_compiler import compile as compile_all
from headrace_kube import (
    DAEMON_SETS,
    DATAPLANE_CONFIGS,
    EVENTS,
    INTERFACES,
    LEASES,
    NAMESPACES,
    NODES,
    PIPELINES,
    SLICES,
    VIRTUAL_NETWORKS,
    Kind,
    KubeError,
)
from headrace_operator.render import load_allocations, parse
from tests.cluster.chart import NAMESPACE
from tests.cluster.cluster import Cluster
from tests.cluster.operators import (
    LEASE,
    WRITTEN,
    Operator,
    World,
    compiled_specs,
    condition,
    interface,
    network,
    node,
    pipeline,
    pod,
)
from tests.cluster.sandbox import until

SECONDS = 60.0


@pytest.fixture(scope="module")
def installed(control_plane: Cluster) -> Iterator[World]:
    with World(control_plane) as made:
        made.install()
        yield made
        made.clear()
        made.uninstall()


@pytest.fixture
def world(installed: World) -> World:
    installed.clear()
    return installed


@pytest.fixture(scope="module")
def kubeconfig(installed: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return installed.write_kubeconfig(tmp_path_factory.mktemp("kubeconfig"))


@pytest.fixture
def start(kubeconfig: Path, tmp_path: Path) -> Iterator[Any]:
    """Start a replica: `start(**settings)`."""
    started: list[Operator] = []

    def one(**settings: Any) -> Operator:
        started.append(Operator(kubeconfig, tmp_path / str(len(started)), **settings))
        return started[-1]

    yield one
    for operator in started:
        operator.__exit__()


def idle(*operators: Operator) -> None:
    """Wait until the one that leads has nothing left to write."""
    until(lambda: any(each.idle for each in operators), "it is idle", SECONDS)


def kill(world: World, operator: Operator) -> None:
    """Kill it, and spare the next the wait for its Lease."""
    operator.kill()
    world.delete(LEASES, LEASE)


def two_nodes(world: World, interfaces: int = 4) -> list[str]:
    """Two nodes, a Pipeline and a network with Interfaces; returns their keys."""
    world.put(node("n1"), node("n2"), pipeline(), network("blue"))
    names = [f"vm{number}" for number in range(interfaces)]
    world.put(*(interface(name, "blue", f"n{1 + i % 2}") for i, name in enumerate(names)))
    return [f"default/{name}" for name in names]


def config(world: World, name: str, pipeline: str = "router") -> Any:
    """The node's DataplaneConfig with what is in its Slices; None: there is none."""
    return world.whole_configs().get(f"{NAMESPACE}/{config_name(pipeline, name)}")


def compiled(world: World, name: str) -> dict[str, Any]:
    """Interfaces in a node's DataplaneConfig, by name."""
    return {each["name"]: each for each in config(world, name)["spec"].get("interfaces", ())}


def prefixes(world: World, network: str = "blue") -> set[str]:
    """What the network's slices hold."""
    return {
        route["prefix"]
        for key, item in world.all(SLICES).items()
        if key.startswith(f"{NAMESPACE}/default.{network}.")
        for route in item["spec"]["entries"]
    }


def held(world: World) -> dict[str, Any]:
    """All that was given out, as statuses and outputs say."""
    given: dict[str, Any] = {}
    for key, item in world.all(INTERFACES).items():
        status = item["status"]
        given[key] = status.get("addresses"), status.get("underlayAddress"), status.get("nodeName")
    for key, item in world.all(VIRTUAL_NETWORKS).items():
        given[key] = item["status"]["vni"]
    for key, item in world.all(PIPELINES).items():
        given[key] = item["status"]["nodes"], item["status"]["metricsPort"]
    return given


def test_compiles_and_tells(world: World, start: Any) -> None:
    vms = two_nodes(world)
    with start() as operator, world.agents():
        until(lambda: world.ready(*vms), "every Interface is Ready", SECONDS)
        idle(operator)
        vm = compiled(world, "n1")["vm0"]
        status = world.get(INTERFACES, "default/vm0")["status"]
        assert status["addresses"] == vm["addresses"]
        assert status["underlayAddress"] == vm["underlayAddress"]
        assert status["nodeName"] == "n1"
        assert prefixes(world) == {f"10.0.0.{number}/32" for number in range(2, 6)}
        vnet = world.get(VIRTUAL_NETWORKS, "default/blue")["status"]
        assert (vnet["vni"], vnet["gateways"]) == (1, ["10.0.0.1"])
        assert vm["vni"] == 1
        status = world.get(PIPELINES, "router")["status"]
        assert [each["name"] for each in status["nodes"]] == ["n1", "n2"]
        assert (status["selectedNodes"], status["metricsPort"]) == (2, 9477)
        anchor = world.api.kubectl(
            *("get", "configmap", "headrace-operator", "-n", NAMESPACE),
            "-o",
            "jsonpath={.metadata.uid}",
        )
        for kind in (DATAPLANE_CONFIGS, SLICES, DAEMON_SETS):
            made = world.all(kind)
            assert made
            for item in made.values():
                assert [each["uid"] for each in item["metadata"]["ownerReferences"]] == [anchor]
                assert item["metadata"]["labels"]["app.kubernetes.io/name"] == "headrace"
        until(lambda: ("vm0", "Forwarding") in told(world), "there is an event", SECONDS)
        assert operator.metric("api_errors_total") == 0


def told(world: World) -> set[tuple[str, str]]:
    """(object, reason) of the operator's events."""
    return {
        (item["regarding"]["name"], item["reason"])
        for item in world.all(EVENTS).values()
        if item.get("reportingController") == "headrace.dev/operator"
    }


def test_what_the_agent_says_is_told(world: World, start: Any) -> None:
    two_nodes(world)
    with start() as operator:
        idle(operator)
        pending = condition(world.get(INTERFACES, "default/vm0"))
        assert (pending["status"], pending["reason"]) == ("Unknown", "Pending")
        world.report(f"{NAMESPACE}/router.n1")
        until(lambda: world.ready("default/vm0", "default/vm2"), "n1 is Ready", SECONDS)
        assert not world.ready("default/vm1")
        world.report(f"{NAMESPACE}/router.n1", ready=False, reason="DeviceNotFound")

        def failed() -> bool:
            found = condition(world.get(INTERFACES, "default/vm0"))
            return (found["status"], found["reason"]) == ("False", "DeviceNotFound")

        until(failed, "the agent's word arrives", SECONDS)


def test_nothing_changed_nothing_written(world: World, start: Any) -> None:
    vms = two_nodes(world)
    world.put(interface("lost", "nowhere", "n1"), network("bad", routes=to_itself("bad")))
    selector = {"matchExpressions": [{"key": "gpu", "operator": "Exists"}]}
    world.put(pipeline("elsewhere", "fd00:5::/48", nodeSelector=selector))
    with world.agents():
        with start() as operator:
            until(lambda: world.ready(*vms), "every Interface is Ready", SECONDS)
            until(lambda: reason(world) == "DataplaneNotReady", "the pods were made", SECONDS)
            idle(operator)
            assert operator.stop() == 0
        before = world.versions()
        with start(resyncSeconds=10) as operator:
            idle(operator)
            began = time.time()
            until(lambda: resynced(operator) > began, "everything is listed again", SECONDS)
            idle(operator)
            assert operator.metric("writes_total") == 0
        assert world.versions() == before


def resynced(operator: Operator) -> float:
    """When the kind was listed that was not listed for longest."""
    return min(
        operator.metric("resync_timestamp_seconds", kind=kind.name) for kind in (*WRITTEN, NODES)
    )


def to_itself(name: str) -> list[Json]:
    """Routes that the API server takes and the compiler does not."""
    return [{"prefix": "10.9.0.0/16", "nextHops": [{"networkRef": {"name": name}}]}]


def test_one_interface_costs_four_writes(world: World, start: Any) -> None:
    vms = two_nodes(world, 40)
    with start() as operator, world.agents():
        until(lambda: world.ready(*vms), "every Interface is Ready", SECONDS)
        # There is no kubelet: the pods will never be ready, and that is told now.
        until(lambda: reason(world) == "DataplaneNotReady", "the pods were made", SECONDS)
        idle(operator)

        def written() -> dict[str, float]:
            return {
                kind.name: operator.metric("writes_total", kind=kind.name, result="success")
                for kind in WRITTEN
            }

        before, versions = written(), world.versions()
        world.put(interface("new", "blue", "n1"))
        until(lambda: world.ready("default/new"), "it is Ready", SECONDS)
        idle(operator)
        costs = {name: after - before[name] for name, after in written().items()}
        assert costs == {
            **dict.fromkeys(costs, 0),
            # Of its node's Interfaces, and of its network's routes.
            "Slice": 2,
            "Interface": 1,
            # How many it has, and has room for.
            "VirtualNetwork": 1,
        }
        now = world.versions()
        changed = {subject for subject in now if versions.get(subject) != now[subject]}
        assert {subject for subject in changed if subject[0] != "Event"} == {
            ("Slice", f"{NAMESPACE}/router.n1.interfaces.0"),
            ("Slice", f"{NAMESPACE}/default.blue.0"),
            ("Interface", "default/new"),
            ("VirtualNetwork", "default/blue"),
        }


def test_what_the_api_server_refuses_is_not_ready(world: World, start: Any) -> None:
    vms = two_nodes(world, 2)
    with start() as operator, world.agents():
        until(lambda: world.ready(*vms), "every Interface is Ready", SECONDS)
        idle(operator)
        world.refuse(SLICES, "object.spec.type != 'Interfaces'")
        try:
            until(lambda: denied(world), "the policy is in force", SECONDS)
            world.put(interface("more", "blue", "n1"))

            def refused() -> bool:
                found = condition(world.get(INTERFACES, "default/more"), "Programmed")
                return found.get("reason") == "WriteRefused"

            until(refused, "it is said", SECONDS)
            assert not world.ready("default/more")
            assert world.ready(*vms)
        finally:
            world.admit()
        until(lambda: world.ready("default/more"), "it is Ready", SECONDS)


def denied(world: World) -> bool:
    """Whether the API server takes no change of n1's Interfaces."""
    words = (
        "label",
        "dps",
        "router.n1.interfaces.0",
        "-n",
        NAMESPACE,
        "test=1",
        "--dry-run=server",
    )
    try:
        world.api.kubectl(*words)
    except CommandError:
        return True
    return False


def test_conditions_of_others_stay(world: World, start: Any) -> None:
    vms = two_nodes(world, 1)

    def kinds() -> set[str]:
        found = world.get(INTERFACES, vms[0])["status"]["conditions"]
        return {each["type"] for each in found}

    theirs = {"type": "Painted", "status": "True", "reason": "Local", "message": "It is"}
    # What an earlier release wrote, as it wrote it.
    stale = [{**theirs, "type": kind} for kind in ("Ready", "Stalled")]
    world.merge_status(
        INTERFACES, vms[0], "headrace-operator", stale, macAddress="02:00:00:00:00:09"
    )
    with start() as operator, world.agents():
        until(lambda: world.ready(*vms), "it is Ready", SECONDS)
        idle(operator)
        ours = {"Ready", "Accepted", "ResolvedRefs", "Programmed"}
        assert kinds() == ours
        assert "macAddress" not in world.get(INTERFACES, vms[0])["status"]
        world.apply_status(INTERFACES, vms[0], "other", theirs)
        assert kinds() == ours | {"Painted"}
        world.delete(VIRTUAL_NETWORKS, "default/blue")
        until(lambda: not world.ready(*vms), "its network is gone", SECONDS)
        idle(operator)
        assert kinds() == ours | {"Painted"}


def reason(world: World) -> str:
    """Why the Pipeline is not Ready."""
    return str(condition(world.get(PIPELINES, "router")).get("reason"))


def test_a_restart_renumbers_nothing(world: World, start: Any) -> None:
    two_nodes(world, 8)
    world.put(pipeline("other", "fd00:2::/48"), network("red"))
    world.put(interface("vm", "red", "n1", pipelineRef={"name": "other"}))
    with start() as operator:
        idle(operator)
        # Holes: what a compilation from scratch would give to others.
        world.delete(INTERFACES, "default/vm0", "default/vm3")
        world.put(interface("taken", "blue", "n2"))
        until(lambda: "taken" in compiled(world, "n2"), "it is compiled", SECONDS)
        world.put(network("empty"))
        until(lambda: told_vni(world, "empty"), "it has a VNI", SECONDS)
        idle(operator)
        kill(world, operator)
    before = held(world)
    world.delete(INTERFACES, "default/vm1")
    world.delete(NODES, "n1")
    world.put(node("n1"), network("a-first"), interface("a-first", "blue", "n2"))
    with start() as operator:
        until(lambda: "a-first" in compiled(world, "n2"), "it is compiled", SECONDS)
        idle(operator)
        after = held(world)
        new = {"default/a-first"}
        assert {key: value for key, value in after.items() if key not in new} == {
            key: value for key, value in before.items() if key != "default/vm1"
        }


def told_vni(world: World, name: str) -> bool:
    return "vni" in world.get(VIRTUAL_NETWORKS, f"default/{name}")["status"]


def test_killed_in_a_burst(world: World, start: Any) -> None:
    two_nodes(world)
    with start() as operator:
        idle(operator)
        world.put(*(network(f"net{number}") for number in range(10)))
        world.put(*(interface(f"b{i}", f"net{i % 10}", f"n{1 + i % 2}") for i in range(150)))
        until(lambda: operator.writes() > 30, "it writes", SECONDS)
        kill(world, operator)
    with start() as operator:
        until(lambda: all_told(world), "every Interface has its addresses", SECONDS)
        idle(operator)
        raw = {kind: [*world.all(kind).values()] for kind in (*WRITTEN, NODES)}
        allocations = load_allocations(
            raw[VIRTUAL_NETWORKS],
            raw[INTERFACES],
            raw[PIPELINES],
            world.whole_configs().values(),
            raw[SLICES],
        )
        kinds = (VIRTUAL_NETWORKS, INTERFACES, PIPELINES, NODES)
        read = [parse(kind.name, item) for kind in kinds for item in raw[kind]]
        models = tuple(item for item in read if not isinstance(item, tuple))
        assert len(models) == len(read)
        scratch = compile_all(Objects(models), allocations, NAMESPACE)
        assert not scratch.problems
        made = compiled_specs(scratch.configs.values(), scratch.slices.values())
        assert world.compiled() == made


def all_told(world: World) -> bool:
    return all("addresses" in item["status"] for item in world.all(INTERFACES).values())


def test_another_replica_takes_over(world: World, start: Any) -> None:
    two_nodes(world)
    with start() as first:
        idle(first)
        with start() as second:
            until(lambda: second.get("/readyz")[0] == 200, "the second is ready", SECONDS)
            assert second.get("/readyz")[1] == first.get("/readyz")[1]
            assert not second.leads
            assert second.metric("watch_events_total") == 0
            first.kill()
            world.put(interface("later", "blue", "n1"))
            until(lambda: second.leads, "the second leads", SECONDS)
            until(lambda: "later" in compiled(world, "n1"), "it is compiled", SECONDS)
            assert second.metric("lease_transitions_total") == 1
            # One that ends well lets the next lead at once.
            with start() as third:
                until(lambda: third.get("/readyz")[0] == 200, "the third is ready", SECONDS)
                assert second.stop() == 0
                until(lambda: third.leads, "the third leads", SECONDS)


def test_who_loses_the_lease_writes_no_more(world: World, start: Any) -> None:
    two_nodes(world)
    with start() as operator:
        idle(operator)
        lease = world.get(LEASES, LEASE)
        lease["spec"]["holderIdentity"] = "thief"
        lease["metadata"].pop("managedFields")
        world.replace(LEASES, lease)
        before = world.versions()
        world.put(network("late"))
        assert operator.process.wait(timeout=SECONDS) == 1
        after = world.versions()
    # What it wrote in the two seconds before it looked is its own; then nothing more comes.
    assert world.versions() == after
    assert before.keys() <= after.keys()
    assert "thief holds Lease" in operator.log.read_text()


def test_who_slept_too_long_writes_no_more(world: World, start: Any) -> None:
    two_nodes(world)
    with start() as sleeper:
        idle(sleeper)
        with start() as other:
            sleeper.signal(signal.SIGSTOP)
            until(lambda: other.leads, "the other leads", SECONDS)
            world.put(interface("later", "blue", "n1"))
            until(lambda: "later" in compiled(world, "n1"), "it is compiled", SECONDS)
            sleeper.signal(signal.SIGCONT)
            assert sleeper.process.wait(timeout=SECONDS) == 1
            assert other.leads


def test_deletions_leave_nothing(world: World, start: Any) -> None:
    two_nodes(world)
    world.put(pipeline("other", "fd00:2::/48"), network("red"))
    world.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "tenant"}})
    world.put(network("green", "tenant"), interface("vm", "green", "n1", "tenant"))
    with start() as operator:
        idle(operator)
        assert len(world.all(DATAPLANE_CONFIGS)) == 4
        assert len(world.all(DAEMON_SETS)) == 2
        world.delete(PIPELINES, "other")
        until(lambda: len(world.all(DATAPLANE_CONFIGS)) == 2, "its configs are gone", SECONDS)
        until(lambda: len(world.all(DAEMON_SETS)) == 1, "its DaemonSet is gone", SECONDS)
        world.delete(NAMESPACES, "tenant")
        until(lambda: "vm" not in compiled(world, "n1"), "the Interface is gone", SECONDS)
        world.delete(NODES, "n2")
        until(lambda: config(world, "n2") is None, "the node's config is gone", SECONDS)
        world.delete(INTERFACES, *world.all(INTERFACES))
        world.delete(VIRTUAL_NETWORKS, "default/blue", "default/red")
        until(lambda: not prefixes(world), "no route is left", SECONDS)
        assert {item["spec"]["owner"]["kind"] for item in world.all(SLICES).values()} == {
            "DataplaneConfig"
        }
        world.delete(PIPELINES, "router")
        until(lambda: not world.all(DATAPLANE_CONFIGS), "no DataplaneConfig is left", SECONDS)
        until(lambda: not world.all(DAEMON_SETS), "no DaemonSet is left", SECONDS)
        idle(operator)
        assert operator.metric("writes_total", result="error") == 0


def test_deletions_while_it_is_away(world: World, start: Any) -> None:
    two_nodes(world)
    with start() as operator:
        idle(operator)
        kill(world, operator)
    world.delete(PIPELINES, "router")
    foreign = f"{NAMESPACE}/mine"
    world.put(
        {
            "apiVersion": SLICES.api_version,
            "kind": SLICES.name,
            "metadata": {"name": "mine", "namespace": NAMESPACE},
            "spec": {
                "type": "Routes",
                "owner": {"kind": "VirtualNetwork", "namespace": "default", "name": "mine"},
                "vni": 77,
            },
        }
    )
    with start() as operator:
        until(lambda: not world.all(DATAPLANE_CONFIGS), "no DataplaneConfig is left", SECONDS)
        until(lambda: not world.all(DAEMON_SETS), "no DaemonSet is left", SECONDS)
        until(lambda: world.all(SLICES).keys() == {foreign}, "nor a Slice", SECONDS)
        idle(operator)
        assert condition(world.get(INTERFACES, "default/vm0"))["reason"] == "PipelineNotFound"


def test_an_invalid_object_hurts_no_other(world: World, start: Any) -> None:
    vms = two_nodes(world)
    world.put(network("loop", routes=to_itself("loop")))
    with start() as operator, world.agents():
        until(lambda: world.ready(*vms), "every Interface is Ready", SECONDS)

        def refused(name: str) -> bool:
            item = world.get(VIRTUAL_NETWORKS, f"default/{name}")
            return (
                condition(item)["reason"] == "Invalid"
                and condition(item, "Stalled")["status"] == "True"
                and item["status"]["observedGeneration"] == item["metadata"]["generation"]
            )

        until(lambda: refused("loop"), "the network is refused", SECONDS)
        until(lambda: ("loop", "Invalid") in told(world), "there is an event", SECONDS)
        assert operator.metric("problems", kind="VirtualNetwork", reason="Invalid") == 1
        # A mistake in what runs is told, and what runs goes on.
        before = world.compiled()
        world.put(network("blue", routes=to_itself("blue")))
        until(lambda: refused("blue"), "the change is refused", SECONDS)
        idle(operator)
        assert world.compiled() == before
        world.put(network("blue"), network("loop"))
        until(
            lambda: all(
                condition(item)["status"] == "True" and not condition(item, "Stalled")
                for item in world.all(VIRTUAL_NETWORKS).values()
            ),
            "both are mended",
            SECONDS,
        )


def test_edits_of_outputs_are_put_right(world: World, start: Any) -> None:
    two_nodes(world)
    with start() as operator:
        idle(operator)
        kinds = (DATAPLANE_CONFIGS, SLICES)
        before = world.specs(*kinds)
        name = f"{NAMESPACE}/default.blue.0"
        edited = world.get(SLICES, name)
        edited["spec"]["entries"] = edited["spec"]["entries"][:1]
        world.replace(SLICES, edited)
        world.delete(DATAPLANE_CONFIGS, f"{NAMESPACE}/router.n1")
        world.delete(SLICES, f"{NAMESPACE}/router.n1.networks.0")
        edited = world.get(SLICES, f"{NAMESPACE}/router.n2.interfaces.0")
        edited["spec"]["entries"] = []
        world.replace(SLICES, edited)
        daemon_set = f"{NAMESPACE}/headrace-router"
        edited = world.get(DAEMON_SETS, daemon_set)
        template = edited["spec"]["template"]
        edited["spec"]["template"]["spec"]["containers"][0]["image"] = "localhost/other:1"
        world.replace(DAEMON_SETS, edited)
        until(lambda: world.specs(*kinds) == before, "the outputs are as before", SECONDS)

        def image() -> str:
            template = world.get(DAEMON_SETS, daemon_set)["spec"]["template"]
            return str(template["spec"]["containers"][0]["image"])

        until(lambda: image() == "localhost/dataplane:1", "so is the DaemonSet", SECONDS)
        assert template["metadata"]["labels"]["headrace.dev/pipeline"] == "router"


def test_pipelines_share_no_metrics_port(world: World, start: Any) -> None:
    world.put(node("n1"), pipeline(), pipeline("other", "fd00:2::/48"))
    with start() as operator:
        idle(operator)
        ports = {name: port(world, name) for name in ("router", "other")}
        assert set(ports.values()) == {9477, 9478}
        gone = next(name for name, number in ports.items() if number == 9477)
        kept = next(name for name, number in ports.items() if number == 9478)
        world.delete(PIPELINES, gone)
        until(lambda: len(world.all(DAEMON_SETS)) == 1, "its DaemonSet is gone", SECONDS)
        kill(world, operator)
    with start() as operator:
        idle(operator)
        assert port(world, kept) == 9478
        world.put(pipeline("third", "fd00:3::/48"))
        until(lambda: port(world, "third") == 9477, "the lowest is given again", SECONDS)


def port(world: World, name: str) -> int | None:
    found = world.get(DAEMON_SETS, f"{NAMESPACE}/headrace-{name}")
    if found is None:
        return None
    containers = found["spec"]["template"]["spec"]["containers"]
    return int(containers[0]["ports"][0]["containerPort"])


def test_probes(world: World, start: Any) -> None:
    with start() as operator:
        idle(operator)
        assert operator.get("/healthz") == (200, "ok\n")
        assert operator.get("/readyz")[0] == 200
        assert operator.get("/nothing")[0] == 404
        assert operator.metric("info", version="0.3.0") == 1
        # Prometheus takes no series twice.
        lines = operator.get("/metrics")[1].splitlines()
        series = [each.rpartition(" ")[0] for each in lines if not each.startswith("#")]
        assert len(series) == len({*series})


def test_the_api_server_restarts(control_plane: Cluster, world: World, start: Any) -> None:
    vms = two_nodes(world)
    with start() as operator, world.agents():
        until(lambda: world.ready(*vms), "every Interface is Ready", SECONDS)
        idle(operator)
        control_plane.stop_api_server()
        control_plane.start_api_server()
        world.put(interface("later", "blue", "n1"))
        if operator.process.poll() is not None:
            # It was away for longer than the Lease lasts: kubelet starts the operator again.
            assert operator.process.returncode == 1
            start()
        until(lambda: world.ready("default/later"), "it is Ready", SECONDS)


def test_a_refused_daemon_set_is_a_condition(start: Any, world: World) -> None:
    quota = ("quota", "none", "-n", NAMESPACE)
    world.api.kubectl("create", *quota, "--hard=count/daemonsets.apps=0")
    counted = "--for=jsonpath={.status.hard}"
    world.api.wait("quota/none", "-n", NAMESPACE, counted)
    start()
    two_nodes(world)

    def ready() -> Any:
        return condition(world.get(PIPELINES, "router"))

    until(lambda: ready()["reason"] == "DaemonSetRefused", "the Pipeline says so", SECONDS)
    assert "exceeded quota" in ready()["message"]
    assert condition(world.get(PIPELINES, "router"), "Stalled")["status"] == "True"
    world.api.kubectl("delete", *quota)
    until(lambda: bool(world.all(DAEMON_SETS)), "the DaemonSet is there", SECONDS)
    until(lambda: ready()["reason"] != "DaemonSetRefused", "all is well again", SECONDS)


def test_mistakes_are_conditions_and_never_rejections(start: Any, world: World) -> None:
    start()
    narrow, wide = {"prefix": "10.1.0.0/16"}, {"prefix": "10.0.0.0/8"}
    world.put(
        *(node("n1"), pipeline(), network("blue", subnets=[{"prefix": "10.0.0.0/29"}])),
        pipeline("nowhere", "fd00:2::/48", nodeSelector={"matchLabels": {"no": "node"}}),
        network("overlapping", subnets=[wide, narrow]),
        interface("lost", "nothing", "n1"),
        # The network's address, its broadcast and its gateway are not given out.
        *(interface(f"vm{number}", "blue", "n1") for number in range(6)),
    )

    def verdicts() -> dict[str, tuple[str, bool, str]]:
        items = [
            *world.all(PIPELINES).values(),
            *world.all(VIRTUAL_NETWORKS).values(),
            *world.all(INTERFACES).values(),
        ]
        return {
            item["metadata"]["name"]: (
                condition(item)["reason"],
                condition(item, "Stalled").get("status") == "True",
                condition(item)["message"],
            )
            for item in items
        }

    wanted = {
        "overlapping": ("Invalid", True, "10.1.0.0/16 overlaps 10.0.0.0/8 of subnets[0]"),
        "lost": ("NetworkNotFound", False, "nothing"),
        "nowhere": ("NoMatchingNode", True, "label"),
        "vm5": ("SubnetExhausted", True, "add a subnet or give addresses"),
    }

    def told_all() -> bool:
        found = verdicts()
        return all(
            found[name][:2] == (reason, stalled) and words in found[name][2]
            for name, (reason, stalled, words) in wanted.items()
        )

    try:
        until(told_all, "each says what is wrong and what to do", SECONDS)
    except CommandError as error:
        raise AssertionError(verdicts()) from error


def _of(namespace: str, name: str, attachment: dict[str, Any]) -> Json:
    return interface(name, "net", "node-a", namespace, attachment=attachment)


def test_a_tenant_has_what_is_listed_for_it_and_nothing_else(
    world: World, start: Any, tmp_path: Path
) -> None:
    """The attacker has the role edit in its namespace, and wide patterns to play with."""
    other = pod_device("default/web-net")
    captures = {"matchLabels": {"captures": "yes"}}
    uplink = {"type": "AFPacket", "afPacket": {"deviceName": "eth7"}}
    spec: dict[str, Any] = {
        "uplinks": [{"name": "uplink0", "attachment": uplink}],
        "allowedNamespaces": {"matchLabels": {"net": "tenant"}},
        "devices": [
            {"name": "netdevs", "type": "AFPacket", "deviceNames": ["*"], "namespaceSelector": {}},
            {
                "name": "functions",
                "type": "SRIOV",
                "pciAddresses": ["0000:3b:02.*"],
                "namespaceSelector": {},
            },
            {
                "name": "captures",
                "type": "Pcap",
                "directory": "/srv/captures",
                "namespaceSelector": captures,
            },
            {"name": "pods", "type": "Pod", "namespaceSelector": {}},
        ],
    }
    attacks: dict[str, dict[str, Any]] = {
        "eth0": {"type": "AFPacket", "afPacket": {"deviceName": "eth0"}},
        "veth": {"type": "AFPacket", "afPacket": {"deviceName": other}},
        "uplink": uplink,
        "function": {"type": "SRIOV", "sriov": {"pciAddress": "0000:3b:00.0"}},
        "outside": {"type": "Pcap", "pcap": {"transmitFile": "/etc/shadow"}},
        "tap": {"type": "Tap", "tap": {"deviceName": "tap0"}},
    }
    loot = ("eth0", "0000:3b:00.0", "/etc/shadow", "tap0")
    good: dict[str, dict[str, Any]] = {
        "netdev": {"type": "AFPacket", "afPacket": {"deviceName": "eth1"}},
        "capture": {"type": "Pcap", "pcap": {"transmitFile": "/srv/captures/a.pcap"}},
    }

    def label(namespace: str, **labels: str) -> None:
        metadata: Json = {"name": namespace, "labels": {**labels}}
        world.put({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})

    def reasons(*names: str) -> dict[str, str]:
        found = {name: world.get(INTERFACES, f"blue/{name}") for name in names}
        return {name: condition(item).get("reason", "") for name, item in found.items()}

    def compiled() -> tuple[set[str], str]:
        specs = (item["spec"] for item in world.whole_configs().values())
        interfaces = (item for spec in specs for item in spec.get("interfaces", ()))
        listed = [item for item in interfaces if item["namespace"] == "blue"]
        return {item["name"] for item in listed}, json.dumps(listed)

    def refused(change: Callable[[], None]) -> bool:
        with pytest.raises(ExceptionGroup) as caught:
            change()
        return all(isinstance(e, KubeError) and e.status == 403 for e in caught.value.exceptions)

    with world.tenant("blue", tmp_path) as tenant:
        label("blue", net="tenant", captures="yes")
        label("default", net="tenant")
        world.put(node("node-a"), pipeline(**spec), network("net"))
        account = Kind("ServiceAccount", "serviceaccounts", "v1")
        until(lambda: bool(world.get(account, "default/default")), "pods may be made", SECONDS)
        world.put(pod("web", "node-a", networks="net"))
        with start() as operator:
            until(lambda: world.get(INTERFACES, "default/web-net"), "another's pod is in", SECONDS)
            tenant.put(network("net", "blue"))
            tenant.put(*(_of("blue", *each) for each in (attacks | good).items()))
            until(lambda: compiled()[0] == set(good), "what is allowed is compiled", SECONDS)
            wanted = dict.fromkeys(attacks, "DeviceNotAllowed") | {"uplink": "DeviceConflict"}
            until(lambda: reasons(*attacks) == wanted, "all else is a condition", SECONDS)
            assert not [word for word in (*loot, other) if word in compiled()[1]]

            # It changes neither what it is allowed, nor what it was told.
            theirs = [
                *spec["devices"],
                {"name": "taps", "type": "Tap", "deviceNames": ["*"], "namespaceSelector": {}},
            ]
            assert refused(lambda: tenant.put(pipeline(**{**spec, "devices": theirs})))
            own: Json = {"name": "blue", "labels": {"net": "tenant", "more": "yes"}}
            space: Json = {"apiVersion": "v1", "kind": "Namespace", "metadata": own}
            assert refused(lambda: tenant.put(space))

            # Labels are followed: entry by entry, and the whole Pipeline.
            label("blue", net="tenant")
            until(lambda: compiled()[0] == {"netdev"}, "the entry is not for blue", SECONDS)
            until(lambda: reasons("capture") == {"capture": "DeviceNotAllowed"}, "told", SECONDS)
            label("blue")
            until(lambda: not compiled()[0], "nothing of blue is left", SECONDS)
            told = {"netdev": "NamespaceNotAllowed"}
            until(lambda: reasons("netdev") == told, "and blue is told", SECONDS)
            label("blue", net="tenant", captures="yes")
            until(lambda: compiled()[0] == set(good), "all is as it was", SECONDS)
            idle(operator)
            assert not [word for word in (*loot, other) if word in compiled()[1]]
