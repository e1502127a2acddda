# SPDX-License-Identifier: Apache-2.0
"""Pods that lack a device node are replaced, and no others, and not all at once."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from headrace_api import PIPELINE_LABEL, Pipeline
from headrace_kube import DATAPLANE_CONFIGS, PODS
from headrace_operator.cache import Cache
from headrace_operator.kinds import HANDLERS
from headrace_operator.metrics import Metrics
from headrace_operator.replacement import LEAST_AGE, PERIOD, Replacer, outdated, replaceable
from tests.unit.clock import in_no_time
from tests.unit.fake_api import FakeApi, refuse

# Long past: pods of then are old now.
NOW = datetime(2026, 1, 2, tzinfo=UTC)
SYSTEM = "headrace-system"
SPEC: Any = {"underlayPrefixes": ["fd00:1::/48"], "nodeSelector": {}}
DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)


def when(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


def pod(node: str, *, made: datetime = NOW - DAY, ready: bool = True, going: bool = False) -> Any:
    metadata = {
        "name": f"router-{node}",
        "namespace": SYSTEM,
        "uid": f"uid-{node}",
        "creationTimestamp": when(made),
        "labels": {PIPELINE_LABEL: "router"},
    }
    if going:
        metadata["deletionTimestamp"] = when(NOW)
    return {
        "metadata": metadata,
        "spec": {"nodeName": node},
        "status": {"conditions": [{"type": "Ready", "status": "True" if ready else "False"}]},
    }


def config(
    node: str, reason: str = "DeviceNodeChanged", since: datetime = NOW - HOUR, version: int = 1
) -> Any:
    conditions = [
        {"type": "Ready", "status": "True", "reason": "Forwarding", "lastTransitionTime": "x"},
        {
            "type": "DevicesReady",
            "status": "False",
            "reason": reason,
            "lastTransitionTime": when(since),
        },
    ]
    return {
        "apiVersion": DATAPLANE_CONFIGS.api_version,
        "kind": "DataplaneConfig",
        "metadata": {
            "name": f"router.{node}",
            "namespace": SYSTEM,
            "uid": f"uid-{node}",
            "resourceVersion": str(version),
        },
        "spec": {"pipelineName": "router", "nodeName": node},
        "status": {"conditions": conditions},
    }


def names(pods: list[Any]) -> list[str]:
    return [each["spec"]["nodeName"] for each in pods]


def test_only_what_a_new_pod_mends_is_a_reason() -> None:
    configs = [
        config("a"),
        config("b", "DevicesMissing"),
        config("c", "DeviceNodeChanged", NOW - MINUTE),
        {**config("d"), "status": {}},
        {**config("e"), "status": {"conditions": [{"type": "DevicesReady", "reason": 7}]}},
    ]
    configs[4]["status"]["conditions"][0]["lastTransitionTime"] = "yesterday"
    assert outdated(configs) == {"router": {"a": NOW - HOUR, "c": NOW - MINUTE}}


@pytest.mark.parametrize(
    ("pods", "most", "expected"),
    [
        # As many at a time as may be away.
        ([pod("a"), pod("b"), pod("c")], 1, ["a"]),
        ([pod("a"), pod("b"), pod("c")], 2, ["a", "b"]),
        # Those that are away for another reason count.
        ([pod("a"), pod("x", ready=False)], 1, []),
        ([pod("a"), pod("x", going=True)], 1, []),
        ([pod("a"), pod("x", ready=False)], 2, ["a"]),
        # Who is away anyway may go, whoever else is.
        ([pod("a", ready=False), pod("x", ready=False), pod("b")], 1, ["a"]),
        ([pod("a", going=True), pod("b")], 1, []),
        # A pod that lacks nothing stays.
        ([pod("x"), pod("y")], 5, []),
    ],
)
def test_pods_go_a_few_at_a_time(pods: list[Any], most: int, expected: list[str]) -> None:
    nodes = dict.fromkeys("abc", NOW - HOUR)
    assert names(replaceable(pods, nodes, most, NOW)) == expected


def test_a_new_pod_is_not_judged_by_what_was_said_of_the_one_before() -> None:
    since = {"a": NOW - HOUR}
    assert replaceable([pod("a", made=NOW - MINUTE)], since, 1, NOW) == []
    assert replaceable([pod("a", made=NOW - HOUR)], since, 1, NOW) == []
    assert names(replaceable([pod("a", made=NOW - HOUR - MINUTE)], since, 1, NOW)) == ["a"]


def test_what_is_replaced_in_vain_is_not_replaced_all_the_time() -> None:
    age = timedelta(seconds=LEAST_AGE)
    young = pod("a", made=NOW - age + MINUTE)
    assert replaceable([young], {"a": NOW - MINUTE}, 1, NOW) == []
    old = pod("a", made=NOW - age)
    assert names(replaceable([old], {"a": NOW - MINUTE}, 1, NOW)) == ["a"]


class Operator:
    def __init__(self, **strategy: Any) -> None:
        self.api = FakeApi()
        self.cache = Cache(HANDLERS, lambda *_: None)
        self.cache.put(DATAPLANE_CONFIGS, config("a"))
        self.left = 10.0
        pods = [pod("a"), pod("b")]
        listed: Any = {"metadata": {"resourceVersion": "1"}, "items": pods}
        self.api.objects[PODS.path(SYSTEM)] = listed
        self.api.objects |= {PODS.path(SYSTEM, each["metadata"]["name"]): each for each in pods}
        item = {"metadata": {"name": "router"}, "spec": {**SPEC, "updateStrategy": strategy}}
        pipelines = {"router": Pipeline.model_validate(item)}
        metrics = Metrics("0")
        self.replacer = Replacer(
            self.api, SYSTEM, self.cache, pipelines, lambda: self.left, metrics
        )

    async def live(self, seconds: float) -> list[str]:
        """Names of the pods that were deleted meanwhile."""
        task = asyncio.create_task(self.replacer.run())
        await asyncio.sleep(seconds)
        task.cancel()
        await asyncio.wait((task,))
        assert task.cancelled()
        return [path.rpartition("/")[2] for path in self.api.paths("DELETE")]


@in_no_time
async def test_a_pod_is_deleted_and_what_follows_is_its_daemon_sets() -> None:
    assert await Operator().live(PERIOD * 1.5) == ["router-a"]


@in_no_time
async def test_with_on_delete_pods_are_peoples_own() -> None:
    operator = Operator(type="OnDelete")
    assert await operator.live(PERIOD * 3) == []
    assert operator.api.paths("GET") == []


@in_no_time
async def test_who_does_not_lead_deletes_nothing() -> None:
    operator = Operator()
    operator.left = 0.0
    assert await operator.live(PERIOD * 3) == []


@in_no_time
async def test_without_a_pod_to_replace_nothing_is_asked() -> None:
    operator = Operator()
    operator.cache.put(DATAPLANE_CONFIGS, config("a", "DevicesMissing", version=2))
    assert await operator.live(PERIOD * 3) == []
    assert operator.api.begun == []


@in_no_time
async def test_an_api_server_that_refuses_is_asked_again() -> None:
    operator = Operator()
    operator.api.fault = lambda *_: refuse(403, "forbidden")
    assert await operator.live(PERIOD * 3.5) == []
    assert len(operator.api.begun) == 3
