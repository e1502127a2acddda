# SPDX-License-Identifier: Apache-2.0
"""Pods as endpoints: what the operator makes of them, at a real API server and its controllers."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace_api import config_name, digest
from headrace_kube import (
    EVENTS,
    INTERFACES,
    LEASES,
    PIPELINES,
    PODS,
    SLICES,
    KubeError,
)
from tests.cluster.chart import NAMESPACE
from tests.cluster.cluster import Cluster
from tests.cluster.operators import (
    LEASE,
    STATEFUL_SETS,
    Operator,
    World,
    condition,
    interface,
    network,
    node,
    pipeline,
    pod,
    stateful_set,
)
from tests.cluster.sandbox import until

SECONDS = 60.0
MANY = 500


@pytest.fixture(scope="module")
def installed(control_plane: Cluster) -> Iterator[World]:
    with World(control_plane) as made:
        made.install()
        # Pods cannot be made before it is there.
        until(lambda: "default" in made.api.kubectl("get", "sa", "-o", "name"), "an account")
        yield made
        made.clear()
        made.uninstall()


@pytest.fixture
def world(installed: World) -> Iterator[World]:
    """Two nodes, a Pipeline for pods, and two networks with the same addresses."""
    installed.clear()
    installed.put(node("n1"), node("n2"), network("blue"), network("red"))
    installed.put(pipeline(devices=[{"name": "pods", "type": "Pod", "namespaceSelector": {}}]))
    with installed.agents():
        yield installed


@pytest.fixture(scope="module")
def kubeconfig(installed: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return installed.write_kubeconfig(tmp_path_factory.mktemp("kubeconfig"))


@pytest.fixture
def operator(world: World, kubeconfig: Path, tmp_path: Path) -> Iterator[Operator]:
    with Operator(kubeconfig, tmp_path) as started:
        until(lambda: started.idle, "it is idle", SECONDS)
        yield started


def idle(operator: Operator) -> None:
    until(lambda: operator.idle, "it is idle", SECONDS)


def ready(world: World, *keys: str) -> None:
    """Wait until these Interfaces are there and Ready."""
    until(
        lambda: all(world.get(INTERFACES, key) for key in keys) and world.ready(*keys),
        f"{', '.join(keys)} are Ready",
        SECONDS,
    )


def compiled(world: World, at: str) -> dict[str, Any]:
    """Interfaces in a node's DataplaneConfig, by name."""
    found = world.whole_configs()[f"{NAMESPACE}/{config_name('router', at)}"]
    return {each["name"]: each for each in found["spec"].get("interfaces", ())}


def routed(world: World) -> set[str]:
    """What is in Slices."""
    return {
        route["prefix"]
        for item in world.all(SLICES).values()
        if item["spec"]["type"] == "Routes"
        for route in item["spec"]["entries"]
    }


def status(world: World, key: str) -> Any:
    return world.get(INTERFACES, key)["status"]


def reason(world: World, key: str) -> str:
    found: str = condition(world.get(INTERFACES, key)).get("reason", "")
    return found


def told(world: World, name: str) -> set[tuple[str, str]]:
    """Type and reason of the operator's events about the pod that has this name now."""
    uid = world.get(PODS, f"default/{name}")["metadata"]["uid"]
    return {
        (item["type"], item["reason"])
        for item in world.all(EVENTS).values()
        if item.get("reportingController") == "headrace.dev/operator"
        and item["regarding"]["uid"] == uid
    }


def writes(operator: Operator) -> dict[str, float]:
    kinds = ("Interface", "DataplaneConfig", "Slice", "Pipeline", "VirtualNetwork")
    return {kind: operator.metric("writes_total", kind=kind, result="success") for kind in kinds}


def test_a_pod_joins_and_leaves(world: World, operator: Operator) -> None:
    world.put(pod("web", "n1", networks="blue"))
    ready(world, "default/web-blue")
    made = world.get(INTERFACES, "default/web-blue")
    (owner,) = made["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"]) == ("Pod", "web")
    assert owner["uid"] == world.get(PODS, "default/web")["metadata"]["uid"]
    assert made["metadata"]["labels"]["headrace.dev/pod"] == "web"
    assert "nodeName" not in made["spec"]
    assert made["status"]["nodeName"] == "n1"
    assert made["status"]["addresses"] == ["10.0.0.2"]
    entry = compiled(world, "n1")["web-blue"]
    assert entry["attachment"]["pod"]["name"] == "web"
    assert entry["underlayAddress"] == made["status"]["underlayAddress"]
    assert routed(world) == {"10.0.0.2/32"}
    world.delete(PODS, "default/web")
    until(lambda: not world.all(INTERFACES), "the Interface is collected", SECONDS)
    until(lambda: not compiled(world, "n1"), "the node has let it go", SECONDS)
    until(lambda: not routed(world), "nobody is routed to it", SECONDS)


def test_a_pod_costs_five_writes(world: World, operator: Operator) -> None:
    world.put(pod("first", "n1", networks="blue"))
    ready(world, "default/first-blue")
    idle(operator)
    before = writes(operator)
    world.put(pod("web", networks="blue"))
    world.bind("default/web", "n1")
    ready(world, "default/web-blue")
    idle(operator)
    after = writes(operator)
    assert {kind: after[kind] - before[kind] for kind in after} == {
        "Interface": 2,
        "DataplaneConfig": 0,
        # Of its node's Interfaces, and of its network's routes.
        "Slice": 2,
        "Pipeline": 0,
        # How many it has, and has room for.
        "VirtualNetwork": 1,
    }


def test_a_pod_that_runs_without_its_device_is_named(world: World, operator: Operator) -> None:
    """It was started while its node asked nobody for its network."""
    name = f"{'early-' * 40}pod"
    world.put(pod(name, "n1", networks="[{}]"))
    until(lambda: ("Warning", "InvalidAnnotation") in told(world, name), "its name fits", SECONDS)
    world.delete(PODS, f"default/{name}")
    key = "default/early-blue"
    world.put(pod("early", "n1", networks="blue"))
    ready(world, key)

    def says(reason: str, message: str = "") -> bool:
        # A stand-in agent takes it back when the node has a new configuration meanwhile.
        world.report(ready=False, reason="DeviceGone")
        found = condition(world.get(INTERFACES, key))
        return found["reason"] == reason and message in found["message"]

    until(lambda: says("DeviceGone"), "it waits for the pod", SECONDS)
    world.end("default/early", "Running")
    until(lambda: says("PodWithoutDevice", "delete the pod"), "the Interface says it", SECONDS)
    until(lambda: ("Warning", "PodWithoutDevice") in told(world, "early"), "and the pod", SECONDS)
    world.report()
    ready(world, key)


def test_a_pod_may_join_two_networks(world: World, operator: Operator) -> None:
    asked = (
        '[{"network": "blue", "addresses": ["10.0.0.9"], "defaultRoute": true},'
        ' {"network": "red", "device": "red0"}]'
    )
    world.put(pod("web", "n2", networks=asked))
    ready(world, "default/web-blue", "default/web-red")
    assert status(world, "default/web-blue")["addresses"] == ["10.0.0.9"]
    assert status(world, "default/web-red")["addresses"] == ["10.0.0.2"]
    pods = {name: each["attachment"]["pod"] for name, each in compiled(world, "n2").items()}
    assert pods == {
        "web-blue": {"name": "web", "deviceName": "net1", "defaultRoute": True},
        "web-red": {"name": "web", "deviceName": "red0", "defaultRoute": False},
    }
    world.put(pod("web", "n2", networks="red"))
    until(lambda: set(world.all(INTERFACES)) == {"default/web-red"}, "it left blue", SECONDS)
    until(lambda: set(compiled(world, "n2")) == {"web-red"}, "its node knows", SECONDS)


def test_a_stateful_set_keeps_addresses_wherever_its_pod_is(
    world: World, operator: Operator
) -> None:
    world.put(stateful_set("db", networks="blue", keep_addresses="true"))
    until(lambda: world.get(PODS, "default/db-0"), "the pod is made", SECONDS)
    until(
        lambda: (
            world.get(INTERFACES, "default/db-0-blue")
            and reason(world, "default/db-0-blue") == "PodNotScheduled"
        ),
        "the Interface says what it waits for",
        SECONDS,
    )
    world.bind("default/db-0", "n1")
    ready(world, "default/db-0-blue")
    before = status(world, "default/db-0-blue")
    # Others would get its address if it were free.
    world.put(pod("other", "n1", networks="blue"))
    ready(world, "default/other-blue")
    old = world.get(PODS, "default/db-0")["metadata"]["uid"]
    world.delete(PODS, "default/db-0")

    def again() -> bool:
        found = world.get(PODS, "default/db-0")
        return bool(found) and found["metadata"]["uid"] != old

    until(again, "the pod is made again", SECONDS)
    until(
        lambda: reason(world, "default/db-0-blue") == "PodNotScheduled",
        "it waits for its node",
        SECONDS,
    )
    found = world.get(INTERFACES, "default/db-0-blue")
    assert not condition(found, "Stalled")
    assert found["status"]["addresses"] == before["addresses"]
    assert "nodeName" not in found["status"]
    world.put(pod("thief", "n1", networks="blue"))
    ready(world, "default/thief-blue")
    # The next operator knows of the address from the status alone.
    assert operator.stop() == 0
    world.delete(LEASES, LEASE)
    with Operator(operator.kubeconfig, operator.log.parent / "next") as successor:
        idle(successor)
        world.bind("default/db-0", "n2")
        ready(world, "default/db-0-blue")
        after = status(world, "default/db-0-blue")
        assert after["addresses"] == before["addresses"]
        assert after["nodeName"] == "n2"
        assert "db-0-blue" in compiled(world, "n2")
        assert "db-0-blue" not in compiled(world, "n1")
        world.delete(STATEFUL_SETS, "default/db")
        until(
            lambda: not world.get(INTERFACES, "default/db-0-blue"),
            "the Interface is collected with its StatefulSet",
            SECONDS,
        )


@pytest.mark.parametrize(
    ("annotations", "why"),
    [
        ({"networks": "Blue"}, "InvalidAnnotation"),
        ({"networks": "["}, "InvalidAnnotation"),
        ({"networks": '[{"network": "blue", "device": "eth0"}]'}, "InvalidAnnotation"),
        ({"networks": "blue", "keep_addresses": "yes"}, "InvalidAnnotation"),
    ],
)
def test_a_wrong_annotation_is_told(
    world: World, operator: Operator, annotations: dict[str, str], why: str
) -> None:
    name = f"bad-{digest({**annotations})[:8]}"
    world.put(pod(name, "n1", **annotations), pod("good", "n1", networks="blue"))
    until(lambda: told(world, name) == {("Warning", why)}, "there is an event", SECONDS)
    ready(world, "default/good-blue")
    assert set(world.all(INTERFACES)) == {"default/good-blue"}


def test_a_mistake_does_not_cut_a_pod_off(world: World, operator: Operator) -> None:
    world.put(pod("web", "n1", networks="blue"))
    ready(world, "default/web-blue")
    before = compiled(world, "n1")
    world.put(pod("web", "n1", networks="blue,Red"))
    until(lambda: bool(told(world, "web")), "there is an event", SECONDS)
    idle(operator)
    assert compiled(world, "n1") == before
    assert world.ready("default/web-blue")


def test_several_pipelines_need_a_name(world: World, operator: Operator) -> None:
    world.put(pod("old", "n1", networks="blue"))
    ready(world, "default/old-blue")
    world.put(
        pipeline(
            "second",
            "fd00:2::/48",
            devices=[{"name": "pods", "type": "Pod", "namespaceSelector": {}}],
        )
    )
    until(
        lambda: condition(world.get(PIPELINES, "second")).get("observedGeneration"),
        "it is known",
        SECONDS,
    )
    world.put(pod("new", "n1", networks="blue"))
    until(lambda: told(world, "new") == {("Warning", "SeveralPipelines")}, "it says so", SECONDS)
    world.put(pod("named", "n1", networks='[{"network": "blue", "pipeline": "second"}]'))
    ready(world, "default/named-blue")
    assert world.ready("default/old-blue")
    assert not world.get(INTERFACES, "default/new-blue")
    world.delete(PIPELINES, "second")
    ready(world, "default/new-blue")


def test_a_pod_that_completes_frees_its_address(world: World, operator: Operator) -> None:
    mine = interface("mine", "blue", "", attachment={"type": "Pod", "pod": {"name": "job"}})
    spec: Any = mine["spec"]
    del spec["nodeName"]
    world.put(pod("job", "n1", networks="red"))
    ready(world, "default/job-red")
    world.put(mine)
    until(lambda: reason(world, "default/mine") == "DeviceConflict", "net1 is taken", SECONDS)
    spec["attachment"]["pod"]["deviceName"] = "net2"
    world.put(mine)
    ready(world, "default/mine")
    world.end("default/job")
    until(lambda: not world.get(INTERFACES, "default/job-red"), "it is deleted", SECONDS)
    until(lambda: reason(world, "default/mine") == "PodCompleted", "it says so", SECONDS)
    assert not condition(world.get(INTERFACES, "default/mine"), "Stalled")
    assert not compiled(world, "n1")


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"attachment": {"type": "Pod", "pod": {"name": "web"}}}, "it is the pod's node"),
        ({"attachment": {"type": "Discard"}, "nodeName": ""}, "nodeName is required"),
        (
            {
                "attachment": {"type": "Pod", "pod": {"name": "web", "deviceName": "eth0"}},
                "nodeName": "",
            },
            "the pod's own",
        ),
    ],
)
def test_the_api_server_refuses(installed: World, spec: dict[str, Any], words: str) -> None:
    item: Any = interface("refused", "blue", "n1", **spec)
    if not item["spec"]["nodeName"]:
        del item["spec"]["nodeName"]
    with pytest.raises(ExceptionGroup) as caught:
        installed.put(item)
    assert caught.group_contains(KubeError, match=words)


def test_a_quota_is_told_and_may_be_lifted(world: World, operator: Operator) -> None:
    quota = "interfaces.headrace.dev"
    world.api.kubectl("create", "quota", "few", f"--hard=count/{quota}=0")
    shown = ("get", "quota", "few", "-o", "jsonpath={.status.used}")
    until(lambda: quota in world.api.kubectl(*shown), "the quota is in force", SECONDS)
    world.put(pod("web", "n1", networks="blue"))
    until(lambda: told(world, "web") == {("Warning", "InterfaceRefused")}, "it says so", SECONDS)
    assert not world.all(INTERFACES)
    world.api.kubectl("delete", "quota", "few")
    ready(world, "default/web-blue")


def test_an_interface_of_that_name_is_left_alone(world: World, operator: Operator) -> None:
    world.put(interface("web-blue", "blue", "n1", attachment={"type": "Discard"}))
    world.put(pod("web", "n1", networks="blue"))
    until(lambda: told(world, "web") == {("Warning", "InterfaceExists")}, "it says so", SECONDS)
    idle(operator)
    found = world.get(INTERFACES, "default/web-blue")
    assert found["spec"]["attachment"]["type"] == "Discard"
    assert "ownerReferences" not in found["metadata"]
    world.delete(INTERFACES, "default/web-blue")
    ready(world, "default/web-blue")


def test_an_interface_that_was_deleted_or_edited_is_made_again(
    world: World, operator: Operator
) -> None:
    world.put(pod("web", "n1", networks="blue"))
    ready(world, "default/web-blue")
    old = world.get(INTERFACES, "default/web-blue")["metadata"]["uid"]
    world.delete(INTERFACES, "default/web-blue")
    until(
        lambda: (
            (world.get(INTERFACES, "default/web-blue") or {"metadata": {"uid": old}})["metadata"][
                "uid"
            ]
            != old
        ),
        "it is made again",
        SECONDS,
    )
    edited = interface("web-blue", "blue", "", addresses=["10.0.0.77"])
    spec: Any = edited["spec"]
    del spec["nodeName"]
    spec["attachment"] = {"type": "Pod", "pod": {"name": "web"}}
    world.put(edited)
    until(
        lambda: not world.get(INTERFACES, "default/web-blue")["spec"]["addresses"],
        "it is as the pod says",
        SECONDS,
    )


def test_nothing_changed_nothing_written(world: World, kubeconfig: Path, tmp_path: Path) -> None:
    world.put(pod("web", "n1", networks="blue"), pod("waits", networks="blue"))
    world.put(stateful_set("db", networks="blue", keep_addresses="true"))
    with Operator(kubeconfig, tmp_path / "first") as operator:
        ready(world, "default/web-blue")
        keys = ("default/waits-blue", "default/db-0-blue")
        until(
            lambda: (
                all(world.get(INTERFACES, key) for key in keys)
                and {reason(world, key) for key in keys} == {"PodNotScheduled"}
            ),
            "the others wait",
            SECONDS,
        )
        idle(operator)
        assert operator.stop() == 0
    before = world.versions()
    with Operator(kubeconfig, tmp_path / "second") as operator:
        idle(operator)
        events = operator.metric("watch_events_total", kind="Pod")
        # A change of the pod that is none to us.
        world.api.kubectl("label", "pod", "web", "seen=yes")
        until(
            lambda: operator.metric("watch_events_total", kind="Pod") > events, "it saw it", SECONDS
        )
        idle(operator)
        assert operator.writes() == 0
    assert world.versions() == before


def test_many_pods_leave_nothing(world: World, operator: Operator) -> None:
    idle(operator)
    before = writes(operator)
    names = [f"p{number}" for number in range(MANY)]
    world.put(*(pod(name, f"n{1 + i % 2}", networks="blue") for i, name in enumerate(names)))
    until(
        lambda: len(world.all(INTERFACES)) == MANY and world.ready(), "all are Ready", 3 * SECONDS
    )
    idle(operator)
    assert len(routed(world)) == MANY
    after = writes(operator)
    assert sum(after.values()) - sum(before.values()) <= 4 * MANY
    world.delete(PODS, *(f"default/{name}" for name in names))
    until(lambda: not world.all(INTERFACES), "every Interface is collected", 3 * SECONDS)
    until(
        lambda: not routed(world) and not compiled(world, "n1") and not compiled(world, "n2"),
        "no address is left behind",
        SECONDS,
    )
    world.put(pod("next", "n1", networks="blue"))
    ready(world, "default/next-blue")
    assert status(world, "default/next-blue")["addresses"] == ["10.0.0.2"]
