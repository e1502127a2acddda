# SPDX-License-Identifier: Apache-2.0
"""The writer where the API server hangs, refuses or is away, and where the Lease ends."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest

from headrace_api import Json
from headrace_kube import (
    DATAPLANE_CONFIGS,
    INTERFACES,
    NODES,
    PIPELINES,
    PODS,
    SLICES,
    VIRTUAL_NETWORKS,
    Kind,
)
from headrace_operator import observed, statuses
from headrace_operator.controller import Controller
from headrace_operator.election import DEADLINE
from headrace_operator.events import Events
from headrace_operator.metrics import Metrics
from headrace_operator.render import Settings
from headrace_operator.workqueue import NEEDS_TIMEOUT
from headrace_operator.writer import NotLeadingError, Writer
from tests.unit.clock import in_no_time, now
from tests.unit.fake_api import FakeApi, hang, refuse

SYSTEM = "headrace-system"
TENANTS = ("red", "blue")


@pytest.fixture(autouse=True)
def no_settling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Statuses wait for no agent: there is none."""
    monkeypatch.setattr(statuses, "SETTLE", 0.0)
    monkeypatch.setattr(observed, "QUIET", 0.0)


def objects(kind: Kind, name: str, namespace: str = "", **spec: Any) -> Json:
    metadata: Json = {"name": name, "uid": name, "generation": 1, "resourceVersion": "1"}
    if namespace:
        metadata["namespace"] = namespace
    item: Json = {"apiVersion": kind.api_version, "kind": kind.name, "metadata": metadata}
    return {**item, "spec": spec} if spec else item


def network(tenant: str, prefix: str = "10.0.0.0/24") -> Json:
    return objects(VIRTUAL_NETWORKS, "net", tenant, subnets=[{"prefix": prefix}])


def interface(tenant: str, name: str = "vm", node: str = "") -> Json:
    return objects(
        INTERFACES,
        name,
        tenant,
        networkRef={"name": "net"},
        pipelineRef={"name": "router"},
        nodeName=node or f"node-{tenant}",
        attachment={"type": "Discard"},
    )


def pipeline(version: int, **spec: Any) -> Json:
    spec = {
        "underlayPrefixes": ["fd00:1::/48"],
        "nodeSelector": {},
        "allowedNamespaces": {},
        "devices": [],
        **spec,
    }
    item = objects(PIPELINES, "router", **spec)
    return {**item, "metadata": {**meta("router", "", version), "uid": "router"}}


class Operator:
    """The operator without its watches and its Lease."""

    def __init__(self, api: FakeApi, *, renews: bool = True) -> None:
        self.api = api
        self.metrics = Metrics("test")
        settings = Settings.model_validate(
            {"nodeAgent": True, "dataplane": {"image": "dataplane:1"}}
        )
        owner: Json = {"kind": "ConfigMap", "name": "headrace-operator", "uid": "1"}
        self.controller = Controller(SYSTEM, settings, owner, self.metrics)
        ends = now() + DEADLINE
        self.writer = Writer(
            api,
            self.controller,
            Events(api, "test", self.metrics),
            lambda: DEADLINE if renews else max(0.0, ends - now()),
            self.metrics,
        )
        for tenant in TENANTS:
            self.put(NODES, objects(NODES, f"node-{tenant}"))
            self.put(VIRTUAL_NETWORKS, network(tenant))
            self.put(INTERFACES, interface(tenant))
        self.put(PIPELINES, pipeline(1))

    def put(self, kind: Kind, item: Any) -> None:
        """Have the object at the API server, and seen."""
        metadata = item["metadata"]
        self.api.objects[kind.path(metadata.get("namespace", ""), metadata["name"])] = item
        self.controller.cache.put(kind, item)

    def remove(self, kind: Kind, item: Any) -> None:
        """Have the object gone, and its deletion seen."""
        metadata = item["metadata"]
        del self.api.objects[kind.path(metadata.get("namespace", ""), metadata["name"])]
        self.controller.cache.remove(kind, item)

    async def settle(self) -> None:
        """Return when there is nothing left to write."""
        await asyncio.sleep(0.1)
        while len(self.controller.queue):
            await asyncio.sleep(0.1)

    def errors(self, kind: str) -> float:
        value = self.metrics.registry.get_sample_value
        return value("headrace_operator_writes_total", {"kind": kind, "result": "error"}) or 0.0


@contextlib.asynccontextmanager
async def running(
    api: FakeApi, there: Iterable[tuple[Kind, Json]] = (), *, renews: bool = True
) -> AsyncIterator[Operator]:
    """The operator, which starts with these objects, too."""
    operator = Operator(api, renews=renews)
    for kind, item in there:
        operator.put(kind, item)
    await operator.controller.load()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(each.run()) for each in (operator.controller, operator.writer)]
        yield operator
        for task in tasks:
            task.cancel()


def config(tenant: str) -> str:
    return DATAPLANE_CONFIGS.path(SYSTEM, f"router.node-{tenant}")


def part_of(tenant: str) -> str:
    return SLICES.path(SYSTEM, f"router.node-{tenant}.interfaces.0")


def slice_of(tenant: str) -> str:
    return SLICES.path(SYSTEM, f"{tenant}.net.0")


def status(kind: Kind, tenant: str, name: str) -> str:
    return kind.path(tenant, name, "status")


@in_no_time
async def test_values_are_given_out_then_used_then_told() -> None:
    api = FakeApi()
    async with running(api) as operator:
        await operator.settle()
    sent = api.paths("PATCH")
    for tenant in TENANTS:
        given, used = sent.index(part_of(tenant)), sent.index(slice_of(tenant))
        assert (
            given < sent.index(config(tenant)) < used < sent.index(status(INTERFACES, tenant, "vm"))
        )
        assert used < sent.index(status(VIRTUAL_NETWORKS, tenant, "net"))


@pytest.mark.parametrize("where", [config, part_of, slice_of])
@in_no_time
async def test_a_request_that_hangs_stops_nobody_else(where: Any) -> None:
    api = FakeApi()
    api.fault = lambda _method, path: hang() if path == where("red") else None
    async with running(api):
        for path in (config("blue"), slice_of("blue"), status(INTERFACES, "blue", "vm")):
            await until_sent(api, path)
        # Before anybody is tired of waiting for red.
        assert now() < NEEDS_TIMEOUT / 2
        api.fault = lambda _method, _path: None
        # What hangs ends, too.
        await until_written(api, config("red"))
        await until_written(api, slice_of("red"))


@pytest.mark.parametrize(
    ("where", "answer"),
    [
        (config, (422, "spec: not like this")),
        (part_of, (422, "spec: not like this")),
        (slice_of, (422, "spec: not like this")),
        # The kind is of an earlier release.
        (config, (500, "failed to create typed patch object: .x: field not declared in schema")),
    ],
)
@in_no_time
async def test_what_is_refused_is_told_at_once(where: Any, answer: tuple[int, str]) -> None:
    api = FakeApi()
    api.fault = lambda _method, path: refuse(*answer) if path == where("red") else None
    async with running(api) as operator:
        await until_sent(api, status(INTERFACES, "red", "vm"))
        assert now() < NEEDS_TIMEOUT / 2
        (programmed,) = (
            each
            for each in api.objects[INTERFACES.path("red", "vm")]["status"]["conditions"]
            if each["type"] == "Programmed"
        )
        assert (programmed["status"], programmed["reason"]) == ("False", "WriteRefused")
        assert answer[1] in programmed["message"]
        api.fault = lambda _method, _path: None
        await operator.settle()


async def until_sent(api: FakeApi, path: str) -> None:
    while path not in api.paths("PATCH"):
        await asyncio.sleep(0.1)


async def until_written(api: FakeApi, path: str) -> None:
    while path not in api.objects:
        await asyncio.sleep(0.1)


@in_no_time
async def test_a_hanging_request_ends_before_the_lease_does() -> None:
    api = FakeApi()
    api.fault = lambda _method, _path: hang()
    with pytest.raises(ExceptionGroup) as caught:
        async with running(api, renews=False):
            await asyncio.sleep(3600)
    assert caught.group_contains(NotLeadingError)
    assert api.begun
    assert max(ended for ended, *_ in api.ended) <= DEADLINE
    assert max(begun for begun, *_ in api.begun) < DEADLINE


@in_no_time
async def test_what_is_on_its_way_ends_before_the_writer_does() -> None:
    api = FakeApi()
    slow = asyncio.Event()

    async def take_long() -> None:
        slow.set()
        await asyncio.sleep(3)

    api.fault = lambda _method, _path: take_long()
    async with running(api):
        await slow.wait()
    assert now() >= 3
    assert len(api.ended) == len(api.begun)
    # All else of the node waits for it.
    assert api.objects[SLICES.path(SYSTEM, "router.node-red.networks.0")]


@in_no_time
async def test_a_mistake_of_ours_with_one_object_leaves_all_others_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    api = FakeApi()

    async def mistake() -> None:
        raise ValueError("nobody thought of that")

    api.fault = lambda _method, path: mistake() if path == slice_of("red") else None
    async with running(api) as operator:
        await until_written(api, slice_of("blue"))
        while operator.errors("Slice") < 5:
            await asyncio.sleep(0.1)
        assert "Slice headrace-system/red.net.0: unexpected" in caplog.text
        api.fault = lambda _method, _path: None
        await operator.settle()
        assert slice_of("red") in api.objects


@in_no_time
async def test_what_is_corrected_while_it_is_refused_is_written_at_once() -> None:
    api = FakeApi()
    sent = asyncio.Event()

    async def refuse_later() -> None:
        sent.set()
        await asyncio.sleep(1)
        await refuse()

    async with running(api) as operator:
        await operator.settle()
        api.fault = lambda _method, path: refuse() if path == slice_of("red") else None
        operator.put(INTERFACES, {**interface("red", "vm2"), "metadata": meta("vm2", "red", 2)})
        while operator.errors("Slice") < 9:
            await asyncio.sleep(0.1)
        api.fault = lambda _method, path: refuse_later() if path == slice_of("red") else None
        await sent.wait()
        operator.put(INTERFACES, {**interface("red", "vm3"), "metadata": meta("vm3", "red", 3)})
        api.fault = lambda _method, _path: None
        began = now()
        await operator.settle()
        assert now() < began + 5
        prefixes = [route["prefix"] for route in api.objects[slice_of("red")]["spec"]["entries"]]
        assert len(prefixes) == 3


def meta(name: str, namespace: str, version: int) -> Json:
    return {
        "name": name,
        "namespace": namespace,
        "uid": f"{name}{version}",
        "generation": version,
        "resourceVersion": str(version),
    }


@in_no_time
async def test_a_mistake_in_what_was_right_takes_nothing_away() -> None:
    api = FakeApi()
    there = slice_of("red")
    async with running(api) as operator:
        # Wrong from the start, then right, then wrong again: what it was goes on.
        operator.put(VIRTUAL_NETWORKS, to_itself("bad", 1))
        await operator.settle()
        bad = SLICES.path(SYSTEM, "red.bad.0")
        assert bad not in api.objects
        right: Any = [{"prefix": "100.64.0.0/26", "action": "Drop"}]
        operator.put(VIRTUAL_NETWORKS, routed("bad", 2, right))
        await operator.settle()
        before = [api.objects[path]["spec"] for path in (bad, there)]
        vni = before[0]["vni"]
        operator.put(VIRTUAL_NETWORKS, to_itself("bad", 3))
        await operator.settle()
        assert [api.objects[path]["spec"] for path in (bad, there)] == before
        told = api.objects[VIRTUAL_NETWORKS.path("red", "bad")]["status"]
        assert told["vni"] == vni
        assert {each["reason"] for each in told["conditions"] if each["type"] == "Accepted"} == {
            "Invalid"
        }
        operator.remove(VIRTUAL_NETWORKS, routed("bad", 4, right))
        await operator.settle()
        assert bad not in api.objects
        assert there in api.objects


def routed(name: str, version: int, routes: Any) -> Json:
    item = objects(
        VIRTUAL_NETWORKS, name, "red", subnets=[{"prefix": "10.9.0.0/24"}], routes=routes
    )
    return {**item, "metadata": {**meta(name, "red", 1000 * version), "uid": name}}


def to_itself(name: str, version: int) -> Json:
    hops = [{"networkRef": {"name": name}}]
    return routed(name, version, [{"prefix": "10.8.0.0/16", "nextHops": hops}])


def waiting_node(version: int, *taints: Any) -> Any:
    item = objects(NODES, "new", taints=[*taints])
    ready: Any = {"conditions": [{"type": "Ready", "status": "True"}]}
    return {**item, "metadata": meta("new", "", version) | {"uid": "new"}, "status": ready}


@in_no_time
async def test_a_node_takes_pods_once_its_agent_is_ready_and_keeps_what_came_meanwhile() -> None:
    api = FakeApi()
    startup = {"key": "headrace.dev/agent-not-ready", "effect": "NoSchedule"}
    first, second = ({"key": key, "value": "a", "effect": "NoExecute"} for key in "ab")
    there = NODES.path("", "new")
    async with running(api) as operator:
        operator.put(NODES, waiting_node(1001, first, startup))
        await operator.settle()
        assert startup in api.objects[there]["spec"]["taints"]
        # Another taint comes, and is not seen in time.
        api.objects[there] = waiting_node(1002, first, startup, second)
        agent = objects(PODS, "headrace-node-x", SYSTEM, nodeName="new")
        labels = {"app.kubernetes.io/name": "headrace", "app.kubernetes.io/component": "node"}
        ready = {"conditions": [{"type": "Ready", "status": "True"}]}
        operator.put(
            PODS, {**agent, "metadata": meta("x", SYSTEM, 1) | {"labels": labels}, "status": ready}
        )
        while operator.errors("Node") < 3:
            await asyncio.sleep(0.1)
        assert startup in api.objects[there]["spec"]["taints"]
        operator.put(NODES, api.objects[there])
        await operator.settle()
        assert api.objects[there]["spec"]["taints"] == [first, second]


@in_no_time
async def test_what_was_made_of_a_pipeline_that_cannot_be_read_stays_until_it_is_gone() -> None:
    api = FakeApi()
    async with running(api) as operator:
        await operator.settle()
    made = [
        (kind, item)
        for kind in (DATAPLANE_CONFIGS, SLICES)
        for path, item in api.objects.items()
        if path.startswith(kind.path(SYSTEM, "router."))
    ]
    kinds = {kind: sum(each is kind for each, _ in made) for kind, _ in made}
    assert kinds == {DATAPLANE_CONFIGS: len(TENANTS), SLICES: 2 * len(TENANTS)}
    api = FakeApi()
    async with running(api, [*made, (PIPELINES, pipeline(2, underlayPrefixes=[]))]) as operator:

        def left() -> list[str]:
            return [path for path in api.objects if "/router.node-" in path]

        await operator.settle()
        assert len(left()) == len(made)
        operator.remove(PIPELINES, pipeline(1000))
        await operator.settle()
        assert left() == []
