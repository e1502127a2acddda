# SPDX-License-Identifier: Apache-2.0
"""Statuses: what people, kstatus and the next write read of them."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from headrace_api import (
    ConditionStatus,
    InterfaceStatus,
    Json,
    PipelineStatus,
    Problem,
    VirtualNetworkStatus,
)
from headrace_api.base import PENDING, ObjectStatus
from headrace_compiler import InterfaceAllocation, NodeAllocation, Usage
from headrace_operator.liveness import State
from headrace_operator.render import (
    NetworkProgress,
    NetworkReport,
    Report,
    Transition,
    Verdict,
    alignment,
    interface_reports,
    interface_status,
    left_over,
    network_reports,
    network_status,
    not_forwarding,
    pipeline_status,
    same,
    transition,
    unreachable,
    unwritten,
    withdrawn_nodes,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
AGENT, DEAD = State.AGENT_UNREACHABLE, State.NODE_UNREACHABLE
LATER = NOW + timedelta(seconds=90)

STATUS: dict[str, type[ObjectStatus]] = {
    "VirtualNetwork": VirtualNetworkStatus,
    "Interface": InterfaceStatus,
    "Pipeline": PipelineStatus,
}


def kstatus(raw: dict[str, Any]) -> str:
    """What kstatus makes of an object of a kind it has no rules of its own for.

    https://github.com/kubernetes-sigs/cli-utils/tree/master/pkg/kstatus
    """
    if raw["metadata"].get("deletionTimestamp"):
        return "Terminating"
    status = raw.get("status", {})
    observed = status.get("observedGeneration")
    if observed is not None and observed != raw["metadata"]["generation"]:
        return "InProgress"
    conditions = {c["type"]: c["status"] for c in status.get("conditions", [])}
    if conditions.get("Reconciling") == "True":
        return "InProgress"
    if conditions.get("Stalled") == "True":
        return "Failed"
    if conditions.get("Ready", "True") != "True":
        return "InProgress"
    return "Current"


def fresh(kind: str, generation: int = 1, **spec: Any) -> dict[str, Any]:
    """An object as the API server makes it."""
    return {
        "kind": kind,
        "metadata": {"name": "it", "namespace": "ns", "generation": generation},
        "spec": spec,
        "status": {"conditions": PENDING},
    }


def problem(reason: str, message: str = "mend it", field: str = "spec.x") -> Problem:
    return Problem("Interface", "ns", "it", field, reason, message)


def condition(status: Json, kind: str = "Ready") -> dict[str, Any]:
    conditions: Any = status["conditions"]
    found = [c for c in conditions if c["type"] == kind]
    return dict(found[0]) if found else {}


def brief(status: Json, kind: str = "Ready") -> tuple[str, str]:
    found = condition(status, kind)
    return found["status"], found["reason"]


def written(raw: dict[str, Any], write: Callable[[Json, datetime], Json]) -> dict[str, Any]:
    """The object with its status; writing the same again changes nothing."""
    raw = {**raw, "status": write(raw, NOW)}
    assert write(raw, LATER) == raw["status"]
    generation = raw["metadata"]["generation"]
    assert raw["status"]["observedGeneration"] == generation
    for each in raw["status"]["conditions"]:
        assert each["observedGeneration"] == generation
        assert each["message"]
    model = STATUS[raw["kind"]]
    status = model.model_validate(raw["status"])
    assert status.model_dump(mode="json", by_alias=True, exclude_unset=True) == raw["status"]
    return raw


def test_a_fresh_object_is_in_progress() -> None:
    assert kstatus(fresh("Interface")) == "InProgress"


# VirtualNetworks.


HERE = NetworkProgress(programmed=frozenset({"a of edge", "b of edge"}))
FULL = Usage(3, 1 << 64)
WAITS = Verdict(ConditionStatus.UNKNOWN, "Pending", "it waits")


def network(
    progress: NetworkProgress | None, vni: int | None = 7, *problems: Problem
) -> dict[str, Any]:
    return written(
        fresh("VirtualNetwork"),
        lambda raw, now: network_status(raw, vni, ["10.0.0.1"], problems, progress, FULL, now),
    )


def test_a_network_in_every_engine_is_current() -> None:
    raw = network(HERE)
    assert kstatus(raw) == "Current"
    assert brief(raw["status"]) == ("True", "Programmed")
    assert verdicts(raw["status"]) == ("True", "True", "True")
    assert (raw["status"]["vni"], raw["status"]["gateways"]) == (7, ["10.0.0.1"])
    assert (raw["status"]["acceptedInterfaces"], raw["status"]["freeAddresses"]) == (
        3,
        (1 << 31) - 1,
    )
    assert condition(raw["status"])["lastTransitionTime"] == "2026-01-01T00:00:00Z"
    assert counts(raw["status"]) == (2, 2, 0)


def verdicts(status: Json) -> tuple[str, ...]:
    kinds = ("Accepted", "ResolvedRefs", "Programmed")
    return tuple(condition(status, kind)["status"] for kind in kinds)


def counts(status: Json) -> tuple[Any, ...]:
    return tuple(status[name] for name in ("desiredNodes", "programmedNodes", "unreachableNodes"))


def test_a_network_that_no_node_needs_is_current() -> None:
    raw = network(NetworkProgress())
    assert (kstatus(raw), counts(raw["status"])) == ("Current", (0, 0, 0))


def test_a_network_without_a_vni_is_pending() -> None:
    raw = network(None, None)
    assert kstatus(raw) == "InProgress"
    assert brief(raw["status"]) == ("Unknown", "Pending")
    assert verdicts(raw["status"]) == ("Unknown", "True", "Unknown")
    assert "vni" not in raw["status"]


def test_a_network_keeps_its_vni_while_a_route_waits() -> None:
    raw = network(HERE, 7, problem("InterfaceNotFound"))
    assert kstatus(raw) == "InProgress"
    assert brief(raw["status"]) == ("False", "InterfaceNotFound")
    # Its other routes are in force, and that is said.
    assert verdicts(raw["status"]) == ("True", "False", "True")
    assert raw["status"]["vni"] == 7


REFUSES = Verdict(ConditionStatus.FALSE, "Refused", "10.0.0.0/8: no")


@pytest.mark.parametrize(
    ("progress", "expected", "words"),
    [
        (
            NetworkProgress(frozenset({"a"}), {"b": WAITS}),
            ("Unknown", "Pending"),
            "1 of 2 nodes lack something of it: b: it waits",
        ),
        (
            NetworkProgress(frozenset(), {"a": WAITS, "b": REFUSES}),
            ("False", "Refused"),
            "2 of 2 nodes lack something of it: b: 10.0.0.0/8: no",
        ),
        (
            NetworkProgress(frozenset({"a"}), unreachable={"b": AGENT}),
            ("True", "Programmed"),
            "In the engine of every node that needs it (1); nothing is heard of b",
        ),
        (NetworkProgress(unreachable={"b": AGENT}), ("Unknown", "AgentUnreachable"), "node b; its"),
        (
            NetworkProgress(frozenset({"a"}), unwritten=unwritten("Slice x", "", refused=False)),
            ("Unknown", "WritePending"),
            "Slice x is not written yet",
        ),
        (
            NetworkProgress(frozenset({"a"}), unwritten=unwritten("Slice x", "no", refused=True)),
            ("False", "WriteRefused"),
            "does not take Slice x: no",
        ),
    ],
)
def test_a_network_says_where_it_is_missing(
    progress: NetworkProgress, expected: tuple[str, str], words: str
) -> None:
    raw = network(progress)
    assert brief(raw["status"]) == expected
    assert brief(raw["status"], "Programmed") == expected
    assert words in condition(raw["status"])["message"]
    assert verdicts(raw["status"])[:2] == ("True", "True")


# Problems.


@pytest.mark.parametrize(
    "reason",
    ["NetworkNotFound", "NetworkNotReady", "PipelineNotFound", "PipelineNotReady", "NodeNotFound",
     "NodeNotSelected", "InterfaceNotFound", "PodNotFound", "PodNotScheduled", "PodCompleted"],
)  # fmt: skip
def test_what_waits_for_another_object_is_in_progress(reason: str) -> None:
    wrong = [problem(reason)]
    raw = written(
        fresh("Interface"), lambda raw, now: interface_status(raw, None, wrong, None, now)
    )
    assert kstatus(raw) == "InProgress"
    assert brief(raw["status"]) == ("False", reason)
    assert condition(raw["status"], "Stalled") == {}
    assert verdicts(raw["status"]) == ("Unknown", "False", "Unknown")
    assert brief(raw["status"], "ResolvedRefs") == ("False", reason)


@pytest.mark.parametrize(
    "reason",
    ["Invalid", "Required", "UnknownField", "AddressConflict", "DeviceConflict", "SubnetExhausted",
     "MtuTooLarge", "DeviceNotAllowed", "NamespaceNotAllowed", "AttachmentUnsupported", "NodeFull",
     "VniConflict"],
)  # fmt: skip
def test_what_a_person_must_mend_is_failed(reason: str) -> None:
    wrong = [problem("NetworkNotFound", "create it"), problem(reason, "choose another", "spec.y")]
    raw = written(
        fresh("Interface"), lambda raw, now: interface_status(raw, None, wrong, None, now)
    )
    assert kstatus(raw) == "Failed"
    assert brief(raw["status"]) == ("False", reason)
    stalled = condition(raw["status"], "Stalled")
    assert (stalled["status"], stalled["reason"]) == ("True", reason)
    assert stalled["message"] == "spec.y: choose another; spec.x: create it"
    assert verdicts(raw["status"]) == ("False", "False", "Unknown")
    assert brief(raw["status"], "Accepted") == ("False", reason)


def test_a_mended_object_is_not_stalled_any_more() -> None:
    wrong = [problem("AddressConflict")]
    raw = fresh("Interface")
    raw["status"] = interface_status(raw, HELD, wrong, None, NOW)
    raw["metadata"]["generation"] = 2
    assert kstatus(raw) == "InProgress"
    raw["status"] = interface_status(raw, HELD, (), GOOD, LATER)
    assert kstatus(raw) == "Current"
    assert condition(raw["status"], "Stalled") == {}


def test_a_message_has_an_end() -> None:
    wrong = [problem("Invalid", "ü" * 3000, f"spec.routes[{index}]") for index in range(100)]
    raw = fresh("Interface")
    message = condition(interface_status(raw, None, wrong, None, NOW))["message"]
    assert len(message.encode()) <= 4096
    assert message.endswith("...")


# Interfaces.

HELD = InterfaceAllocation("ns/net", "edge", "a", "fd00:1:0:1::2", ("10.0.0.2",), "netdev:t0")
GOOD = Report(True, "Forwarding", "The engine forwards for it", "02:00:00:00:00:01")
BAD = Report(False, "DeviceGone", "Its device is gone")


@pytest.mark.parametrize(
    ("report", "expected", "verdict"),
    [
        (None, ("Unknown", "Pending"), "InProgress"),
        (Report.missing("no pod there", "DataplaneNotReady"), ("Unknown", "DataplaneNotReady"),
         "InProgress"),
        (GOOD, ("True", "Forwarding"), "Current"),
        (BAD, ("False", "DeviceGone"), "InProgress"),
    ],
)  # fmt: skip
def test_an_interface_is_what_its_agent_says(
    report: Report | None, expected: tuple[str, str], verdict: str
) -> None:
    raw = written(
        fresh("Interface", generation=3),
        lambda raw, now: interface_status(raw, HELD, (), report, now),
    )
    assert kstatus(raw) == verdict
    assert brief(raw["status"]) == expected
    status = raw["status"]
    assert brief(status, "Programmed") == expected
    assert verdicts(status)[:2] == ("True", "True")
    assert (status["nodeName"], status["underlayAddress"]) == ("a", "fd00:1:0:1::2")
    assert status["addresses"] == ["10.0.0.2"]
    assert status.get("macAddress") == (report.mac_address if report else None)


def test_an_interface_that_is_not_compiled_is_pending() -> None:
    raw = written(fresh("Interface"), lambda raw, now: interface_status(raw, None, (), None, now))
    assert brief(raw["status"]) == ("Unknown", "Pending")
    assert not {"addresses", "nodeName", "underlayAddress"} & raw["status"].keys()


@pytest.mark.parametrize(
    ("obstacle", "reason"),
    [
        (unwritten("DataplaneConfig x", "", refused=False), "WritePending"),
        (unwritten("DataplaneConfig x", "too large", refused=True), "WriteRefused"),
        (unreachable({"a": AGENT}), "AgentUnreachable"),
        (unreachable({"a": DEAD}), "NodeUnreachable"),
        (unreachable({"a": DEAD, "b": AGENT}), "AgentUnreachable"),
    ],
)
def test_a_report_does_not_count_where_it_cannot(obstacle: Verdict, reason: str) -> None:
    raw = fresh("Interface")
    status = interface_status(raw, HELD, (), GOOD, NOW, obstacle)
    assert brief(status) == brief(status, "Programmed") == (obstacle.status, reason)
    assert status["macAddress"] == GOOD.mac_address


def test_the_time_of_a_condition_is_that_of_its_status() -> None:
    raw = fresh("Interface")
    raw["status"] = interface_status(raw, HELD, (), None, NOW)
    assert condition(raw["status"])["lastTransitionTime"] == "2026-01-01T00:00:00Z"
    here = LATER.astimezone(timezone(timedelta(hours=5)))
    raw["status"] = interface_status(raw, HELD, (), BAD, here)
    assert condition(raw["status"])["lastTransitionTime"] == "2026-01-01T00:01:30Z"
    other = Report(False, "LinkDown", "Its device is down")
    raw["status"] = interface_status(raw, HELD, (), other, LATER + timedelta(1))
    assert condition(raw["status"])["reason"] == "LinkDown"
    assert condition(raw["status"])["lastTransitionTime"] == "2026-01-01T00:01:30Z"


@pytest.mark.parametrize("status", [None, {}, {"conditions": None}, {"conditions": ["x", {}]}])
def test_an_edited_status_is_written_anew(status: Any) -> None:
    raw = fresh("Interface")
    raw["status"] = status
    assert brief(interface_status(raw, HELD, (), GOOD, NOW)) == ("True", "Forwarding")


# Reports.


def config(node: str = "a", generation: int = 5, observed: int | None = 5, **status: Any) -> Json:
    found: Any = {
        "metadata": {"name": f"it.{node}", "generation": generation},
        "spec": {
            "nodeName": node,
            "interfaces": [{"namespace": "ns", "name": name} for name in ("good", "bad", "new")],
        },
        "status": {"observedGeneration": observed, **status},
    }
    return dict(found)


STATES = [
    {"namespace": "ns", "name": "good", "ready": True, "reason": "Forwarding", "message": "m",
     "macAddress": "02:00:00:00:00:01"},
    {"namespace": "ns", "name": "bad", "ready": False, "reason": "DeviceGone", "message": "gone"},
    {"namespace": "ns", "name": "new", "ready": False, "reason": "Pending", "message": "soon"},
    {"namespace": "ns", "name": "old", "ready": True},
]  # fmt: skip


def test_reports_are_what_the_agent_said() -> None:
    assert interface_reports(config(interfaces=STATES)) == {
        "ns/good": Report(True, "Forwarding", "m", "02:00:00:00:00:01"),
        "ns/bad": Report(False, "DeviceGone", "gone"),
        "ns/new": Report.missing("soon"),
        "ns/old": Report(True, "Forwarding", ""),
    }


@pytest.mark.parametrize("reason", ["", "net link", "-x", None])
def test_a_reason_that_no_condition_may_have_is_replaced(reason: str | None) -> None:
    state = {"namespace": "ns", "name": "bad", "ready": False, "reason": reason}
    found = interface_reports(config(interfaces=[state]))["ns/bad"]
    assert brief(interface_status(fresh("Interface"), HELD, (), found, NOW)) == (
        "False",
        "DataplaneNotReady",
    )


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ({}, {}),
        ({"networks": []}, {}),
        (
            {
                "networks": [
                    {
                        **{"namespace": "ns", "name": "blue", "digest": "7"},
                        **{"reason": "Refused", "message": "m"},
                    },
                    {"namespace": "ns", "name": "red", "digest": ""},
                    # Of a copy: the digest, which means nothing here, is taken away.
                    {"namespace": "ns", "name": "green", "reason": "Refused"},
                ]
            },
            {
                "ns/blue": NetworkReport("7", "Refused", "m"),
                "ns/red": NetworkReport(""),
                "ns/green": NetworkReport(None, "Refused"),
            },
        ),
    ],
)  # fmt: skip
def test_networks_are_what_the_agent_said(status: dict[str, Any], expected: Any) -> None:
    assert network_reports(config(**status)) == expected


def test_an_agent_may_be_silent() -> None:
    assert not_forwarding(config()) == "its agent has not reported yet"
    assert not_forwarding(config(conditions=DOWN)) == "EngineDown: no hugepages"
    assert not_forwarding(config(conditions=READY)) is None


# Pipelines.

NODES = {name: NodeAllocation(f"fd00:1:0:{n}::/64") for n, name in enumerate(["b", "a"], 1)}
READY = [{"type": "Ready", "status": "True", "reason": "Forwarding", "message": ""}]
DOWN = [{"type": "Ready", "status": "False", "reason": "EngineDown", "message": "no hugepages"}]


def daemon_set(
    desired: int = 2, updated: int = 2, ready: int = 2, generation: int = 1, observed: int = 1
) -> Json:
    return {
        "metadata": {"name": "x", "namespace": "headrace-system", "generation": generation},
        "status": {
            "observedGeneration": observed,
            "desiredNumberScheduled": desired,
            "updatedNumberScheduled": updated,
            "numberReady": ready,
        },
    }


def pipeline(
    nodes: dict[str, NodeAllocation] = NODES,
    problems: tuple[Problem, ...] = (),
    daemon_sets: tuple[Json, ...] = (daemon_set(),),
    silent: dict[str, str] | None = None,
    states: dict[str, State] | None = None,
    **spec: Any,
) -> dict[str, Any]:
    raw = fresh("Pipeline", **spec)
    del raw["metadata"]["namespace"]
    return written(
        raw,
        lambda raw, now: pipeline_status(
            raw, nodes, problems, daemon_sets, silent or {}, states or {}, 9478, now
        ),
    )


def test_a_pipeline_forwards_when_every_node_does() -> None:
    raw = pipeline()
    assert kstatus(raw) == "Current"
    assert brief(raw["status"]) == ("True", "Forwarding")
    status = raw["status"]
    assert status["nodes"] == [
        {"name": "a", "underlayPrefix": "fd00:1:0:2::/64", "underlayAddress": "fd00:1:0:2::1"},
        {"name": "b", "underlayPrefix": "fd00:1:0:1::/64", "underlayAddress": "fd00:1:0:1::1"},
    ]
    assert (status["selectedNodes"], status["readyNodes"], status["metricsPort"]) == (2, 2, 9478)


def test_a_pipeline_names_the_agents_that_do_not_know_what_it_has() -> None:
    one = ["fd00:1::/48"]
    for prefixes, verdict, ready in (
        ([*one, "fd00:2::/48"], ("False", "AgentTooOld"), 1),
        (one, ("True", "Forwarding"), 2),
    ):
        raw = fresh("Pipeline", underlayPrefixes=prefixes)
        status: Any = pipeline_status(
            *(raw, NODES, (), [daemon_set()], {}, {}, 9478, NOW),
            unaware={"SeveralUnderlayPrefixes": ("b",)},
        )
        assert (brief(status), status["readyNodes"]) == (verdict, ready)


@pytest.mark.parametrize(
    ("aligned", "expected", "words"),
    [
        ({}, None, ""),
        ({"a": (True, "fine")}, ("True", "Aligned"), "(1)"),
        (
            {"b": (False, "worker 0 is on node 1"), "a": (True, "fine")},
            ("False", "NotAligned"),
            "1 of 2 nodes: b (worker 0 is on node 1)",
        ),
    ],
)
def test_a_pipeline_says_whose_workers_are_away_from_their_functions(
    aligned: dict[str, tuple[bool, str]], expected: tuple[str, str] | None, words: str
) -> None:
    raw = fresh("Pipeline")
    status: Any = pipeline_status(
        *(raw, NODES, (), [daemon_set()], {}, {}, 9478, NOW), aligned=aligned
    )
    # Packets go on: it is slower, and no fault.
    assert brief(status) == ("True", "Forwarding")
    if expected is None:
        assert condition(status, "NUMAAligned") == {}
    else:
        assert brief(status, "NUMAAligned") == expected
        assert words in condition(status, "NUMAAligned")["message"]


@pytest.mark.parametrize(
    ("status", "expected"),
    [("True", (True, "m")), ("False", (False, "m")), ("Unknown", None), (7, None)],
)
def test_what_an_agent_says_of_its_workers_is_read(
    status: Any, expected: tuple[bool, str] | None
) -> None:
    said: Json = {
        "type": "NUMAAligned",
        "status": status,
        "message": "m",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    assert alignment({"status": {"conditions": [said]}}) == expected
    assert alignment({"status": {"conditions": [{"type": "Ready", "status": "True"}]}}) is None


def test_a_pipeline_without_a_node_is_failed_and_says_what_to_do() -> None:
    raw = pipeline({}, nodeSelector={"matchLabels": {"role": "edge", "a": "b"}})
    assert kstatus(raw) == "Failed"
    assert brief(raw["status"]) == ("False", "NoMatchingNode")
    assert verdicts(raw["status"]) == ("False", "True", "False")
    assert "labels a=b, role=edge" in condition(raw["status"])["message"]
    assert (raw["status"]["selectedNodes"], raw["status"]["nodes"]) == (0, [])


def test_a_pipeline_with_a_problem_is_failed() -> None:
    raw = pipeline(problems=(problem("DeviceConflict"),))
    assert kstatus(raw) == "Failed"
    assert brief(raw["status"]) == ("False", "DeviceConflict")
    # The other nodes run.
    assert verdicts(raw["status"]) == ("False", "True", "True")
    assert raw["status"]["selectedNodes"] == 2


CLASSES: dict[str, Any] = {"nodeClassLabel": "size", "nodeClasses": [{"value": "large"}]}


@pytest.mark.parametrize(
    ("daemon_sets", "spec", "words"),
    [
        ((), {}, "being made"),
        ((daemon_set(generation=2),), {}, "being made"),
        (({"metadata": {"generation": 1}},), {}, "being made"),
        ((daemon_set(),), CLASSES, "being made"),
        ((daemon_set(updated=1),), {}, "1 of 2"),
        ((daemon_set(1, 1), daemon_set(1, 0)), CLASSES, "1 of 2"),
        (
            (daemon_set(updated=0),),
            {"updateStrategy": {"type": "OnDelete"}},
            "delete the others (kubectl -n headrace-system get pods -o wide"
            " -l headrace.dev/pipeline=it)",
        ),
    ],
)
def test_a_pipeline_rolls_out(daemon_sets: tuple[Json, ...], spec: Any, words: str) -> None:
    raw = pipeline(daemon_sets=daemon_sets, **spec)
    assert kstatus(raw) == "InProgress"
    assert brief(raw["status"]) == ("False", "RollingOut")
    assert words in condition(raw["status"])["message"]


def test_two_classes_of_nodes_count_together() -> None:
    raw = pipeline(daemon_sets=(daemon_set(1, 1, 1), daemon_set(1, 1, 1)), **CLASSES)
    assert kstatus(raw) == "Current"


@pytest.mark.parametrize(
    ("found", "ready", "words"),
    [
        ({"daemon_sets": (daemon_set(ready=1),)}, 2, "1 of 2 dataplane pods are not ready: see"),
        ({"daemon_sets": (daemon_set(1, 1, 1),)}, 2, "1 of 2 selected nodes get no dataplane pod"),
        (
            {"silent": {"b": "it has no DataplaneConfig yet"}},
            1,
            "1 of 2 nodes do not forward: b (it has no DataplaneConfig yet)",
        ),
        ({"silent": {"b": "that", "a": "this"}}, 0, "2 of 2 nodes do not forward: a (this), b"),
        (
            {"silent": {"b": "that"}, "states": {"a": AGENT}},
            0,
            "1 of 2 nodes do not forward: b (that)",
        ),
    ],
)
def test_a_pipeline_names_what_does_not_forward(
    found: dict[str, Any], ready: int, words: str
) -> None:
    raw = pipeline(**found)
    assert kstatus(raw) == "InProgress"
    assert brief(raw["status"]) == ("False", "DataplaneNotReady")
    assert words in condition(raw["status"])["message"]
    assert raw["status"]["readyNodes"] == ready


def test_a_pipeline_names_at_most_five_nodes() -> None:
    nodes = {f"n{n:04}": NodeAllocation("fd00:1:0:1::/64") for n in range(6000)}
    silent = dict.fromkeys(nodes, "no hugepages")
    raw = pipeline(nodes, daemon_sets=(daemon_set(6000, 6000, 6000),), silent=silent)
    message = condition(raw["status"])["message"]
    assert "6000 of 6000 nodes" in message
    assert message.endswith("n0001, n0002, n0003, n0004 and 5995 more")
    assert raw["status"]["selectedNodes"] == 6000
    assert len(raw["status"]["nodes"]) == 5000


def test_a_pipeline_does_not_wait_for_those_that_are_not_heard_of() -> None:
    raw = pipeline(
        daemon_sets=(daemon_set(ready=1),), silent={"b": "x"}, states={"b": DEAD, "gone": DEAD}
    )
    assert brief(raw["status"]) == ("True", "Forwarding")
    assert "1 of 2 nodes forward; nothing is heard of b" in condition(raw["status"])["message"]
    assert (raw["status"]["readyNodes"], raw["status"]["unreachableNodes"]) == (1, 1)
    # What the next operator begins with.
    assert [each.get("state") for each in raw["status"]["nodes"]] == ["NodeUnreachable", None]
    assert withdrawn_nodes(raw) == {"b"}
    raw = pipeline(daemon_sets=(daemon_set(ready=0),), states={"a": DEAD, "b": AGENT})
    assert brief(raw["status"]) == ("Unknown", "AgentUnreachable")
    assert withdrawn_nodes(raw) == {"a"}


def test_a_node_that_returns_answers() -> None:
    raw = pipeline(states={"a": State.NODE_RETURNING})
    assert kstatus(raw) == "Current"
    assert (raw["status"]["readyNodes"], raw["status"]["unreachableNodes"]) == (2, 0)
    assert withdrawn_nodes(raw) == {"a"}


# Other writers.


def test_conditions_of_others_are_their_business() -> None:
    raw = fresh("Interface")
    status = interface_status(raw, HELD, (), GOOD, NOW)
    conditions: Any = status["conditions"]
    theirs: Json = {"type": "example.com/Audited", "status": "True"}
    found = {**status, "conditions": [theirs, *reversed(conditions)]}
    assert same(found, status)
    assert left_over(found, status) is None


def test_what_an_earlier_release_left_is_removed() -> None:
    raw = fresh("Interface")
    status = interface_status(raw, HELD, (), None, NOW)
    theirs: Json = {"type": "example.com/Audited", "status": "True"}
    stale: Json = {"type": "Stalled", "status": "True"}
    conditions: Any = status["conditions"]
    found = {
        **status,
        "macAddress": "02:00:00:00:00:01",
        "conditions": [stale, theirs, *conditions],
    }
    assert not same(found, status)
    assert left_over(found, status) == {"macAddress": None, "conditions": [theirs, *conditions]}


# Events.


def ready_status(status: str, reason: str, message: str = "what to do") -> Json:
    ready: Json = {"type": "Ready", "status": status, "reason": reason, "message": message}
    return {"conditions": [{**ready, "lastTransitionTime": "2026-01-01T00:00:00Z"}]}


FORWARDING = ready_status("True", "Forwarding")


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (None, ready_status("Unknown", "Pending"), None),
        ({"conditions": PENDING}, ready_status("Unknown", "Pending"), None),
        ({"conditions": PENDING}, FORWARDING, "Normal"),
        (None, ready_status("False", "NetworkNotFound"), "Warning"),
        (FORWARDING, FORWARDING, None),
        (FORWARDING, ready_status("True", "Forwarding", "another message"), None),
        (FORWARDING, ready_status("Unknown", "Pending"), None),
        (FORWARDING, ready_status("False", "DeviceGone"), "Warning"),
        (FORWARDING, ready_status("False", "RollingOut"), "Normal"),
        (FORWARDING, ready_status("False", "DataplaneNotReady"), "Warning"),
        (FORWARDING, ready_status("Unknown", "DataplaneNotReady"), "Warning"),
        (ready_status("False", "RollingOut"), ready_status("False", "DataplaneNotReady"), "Normal"),
        (ready_status("False", "DeviceGone"), ready_status("False", "LinkDown"), "Warning"),
        (ready_status("False", "DeviceGone"), FORWARDING, "Normal"),
        ({"conditions": "garbage"}, FORWARDING, "Normal"),
    ],
)
def test_events_tell_of_changes(before: Json | None, after: Json, expected: str | None) -> None:
    found = transition(before, after)
    assert (found.type if found else None) == expected
    if found:
        assert found.reason == condition(after)["reason"]
        assert found.note == "what to do"


def test_a_note_fits_an_event() -> None:
    found = transition(None, ready_status("False", "Invalid", "ü" * 5000))
    assert isinstance(found, Transition)
    assert len(found.note.encode()) <= 1024
    assert found.note.endswith("ü...")


def test_what_an_engine_refuses_of_a_network_is_not_waited_for() -> None:
    """Else one tenant could hold up the check of sources for all."""
    refused = Verdict(ConditionStatus.FALSE, "TableFull", "a route is left out")
    pending = Verdict(ConditionStatus.UNKNOWN, "Pending", "not the newest routes yet")
    assert not NetworkProgress(frozenset("a"), {"b": refused}).waits
    assert NetworkProgress(frozenset("a"), {"b": pending}).waits
    assert NetworkProgress(frozenset("a"), {"b": unwritten("its config", "no", refused=True)}).waits
    assert NetworkProgress(frozenset("a"), unwritten=unwritten("a slice", "", refused=False)).waits
    assert NetworkProgress(unreachable={"b": State.NODE_UNREACHABLE}).waits
