# SPDX-License-Identifier: Apache-2.0
"""The agent's decisions, step by step: time is a number, devices, disk and API are values.

Only the engine's socket is real, with a process in the engine's place that forwards nothing.
"""

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from headrace_api import Condition, DataplaneConfig, DataplaneConfigStatus, Problem
from headrace_dataplane.controller import (
    APPEARED_SECONDS,
    FAILURE_SECONDS,
    LIST_SECONDS,
    RESYNC_SECONDS,
    UPKEEP_SECONDS,
    Controller,
    Observed,
    Step,
)
from headrace_dataplane.engine_session import EngineSession, Exchange, Request
from headrace_dataplane.functions import Functions, functions_of
from headrace_dataplane.numa import Numa
from headrace_dataplane.parts import Part
from headrace_dataplane.preflight import Fault
from headrace_dataplane.protocol import EngineClient, Hello
from headrace_dataplane.source import Snapshot
from headrace_dataplane.state import AgentState
from headrace_dataplane.sync import ObjectID
from headrace_dataplane.translate import Translation, translate
from tests.unit.fake_engine import FakeEngine
from tests.unit.test_agent_process import config
from tests.unit.test_agent_translate import CONFIG

VM1, VM2 = CONFIG["spec"]["interfaces"]
NO_FUNCTIONS = Functions()
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


class Node:
    """All that a controller observes, and what became of its steps."""

    def __init__(
        self, directory: Path, *, present: str = "veth1", functions: Functions = NO_FUNCTIONS
    ) -> None:
        self.snapshot = Snapshot(1, config(1), ())
        self.links: Mapping[str, int] = {"lo": 1, "eth0": 2} | dict.fromkeys([present], 3)
        self.hello: Hello | None = None
        self.problem = ""
        self.faults: Mapping[str, Fault] = {}
        self.numa: Numa | None = None
        self.node_problem: Problem | None = None
        self.now = 0.0
        self.exchange: Exchange | None = None

        self.state = AgentState()
        self.controller = Controller(self.state, (), functions)
        self.reports: list[DataplaneConfigStatus] = []
        self.saved: list[tuple[ObjectID, ...]] = []
        self.isolated: list[tuple[float, frozenset[str]]] = []
        self.kept: list[tuple[float, frozenset[str]]] = []
        self.requests: list[tuple[float, Request]] = []

        self._path = directory / "engine.sock"
        self._pids = itertools.count(1)
        self._client = EngineClient(self._path)
        self._session = EngineSession(self._client, ())
        self.engine = self.start()

    def start(self) -> FakeEngine:
        """Another engine, without any objects."""
        engine = FakeEngine(self._path, pid=next(self._pids))
        self.hello, self.problem = Hello.model_validate(engine.hello()), ""
        self.engine, self._answers = engine, True
        self.report_up("a/vm1", "a/vm2")
        return engine

    def silence(self) -> None:
        """It answers no more."""
        if self._answers:
            self.engine.close()
        self._answers = False

    def kill(self) -> None:
        """It is gone, and that has been observed."""
        self.silence()
        self.hello, self.problem = None, "the engine ended"

    def end(self) -> None:
        self.silence()
        self._client.close()

    def report_up(self, *names: str) -> None:
        self.engine.lists["interface"] = [
            {"name": name, "network": "a/blue", "vni": 100, "port": name, "state": "up"}
            for name in names
        ]

    def step(self) -> Step:
        observed = Observed(
            snapshot=self.snapshot,
            links=self.links,
            engine=self.hello,
            engine_problem=self.problem,
            node_problem=self.node_problem,
            exchange=self.exchange,
            time=EPOCH + timedelta(seconds=self.now),
            faults=self.faults,
            numa=self.numa,
        )
        self.exchange = None
        step = self.controller.step(observed, self.now)
        if step.report is not None:
            self.reports.append(step.report.status)
        if step.accepted is not None:
            self.saved.append(step.accepted)
        if step.isolate:
            self.isolated.append((self.now, step.isolate))
        if step.directories is not None:
            self.kept.append((self.now, step.directories))
        if step.request is not None:
            self.requests.append((self.now, step.request))
            self.exchange = self._session.exchange(step.request, self.now)
        return step

    def settle(self) -> Step:
        """Steps, until nothing is to be done now."""
        for _ in range(5):
            step = self.step()
            if step.request is None:
                assert step.wake_at > self.now
                return step
            assert step.wake_at == self.now
        raise AssertionError("it does not settle")

    def live(self, until: float) -> None:
        """Wake up when the steps say so."""
        wake_at = self.settle().wake_at
        while wake_at <= until:
            self.now = wake_at
            wake_at = self.settle().wake_at
        self.now = until

    def reconciled_at(self) -> list[float]:
        return [at for at, request in self.requests if request.objects is not None]

    def verdict(self) -> tuple[str, str]:
        condition = self.reports[-1].conditions[0]
        return str(condition.status), condition.reason

    def reasons(self) -> dict[str, str]:
        return {each.name: each.reason for each in self.reports[-1].interfaces}

    def networks(self) -> dict[str, str]:
        return {each.name: each.reason for each in self.reports[-1].networks}


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    node = Node(tmp_path)
    yield node
    node.end()


def test_a_configuration_goes_to_the_engine_to_the_disk_and_into_the_status(node: Node) -> None:
    asked = node.step()
    # Nothing is said of an engine before it has answered.
    assert asked.report is None
    assert asked.accepted is None
    assert asked.isolate == {"veth1"}
    assert asked.directories == frozenset()
    assert asked.request is not None
    assert asked.wake_at == 0.0
    answered = node.step()
    assert answered.request is None
    assert answered.report is not None
    assert answered.report.status.observed_generation == node.engine.generation == 1
    assert node.verdict() == ("True", "Forwarding")
    assert set(node.engine.objects["interface"]) == {"a/vm1", "a/vm2"}
    assert answered.accepted is not None
    assert set(answered.accepted) >= {("port", "a/vm1"), ("interface", "a/vm1")}
    assert (node.state.ready, node.state.active_generation) == (True, 1)
    assert node.state.interfaces == {"a/vm1": True, "a/vm2": True}
    assert node.state.networks == {"a/vm1": "a/blue", "a/vm2": "a/blue"}
    assert set(node.engine.objects["port"]) == {"uplink/uplink0", "a/vm1", "a/vm2"}

    node.now, node.snapshot = 1.0, Snapshot(2, config(2, interfaces=[VM2]), ())
    node.settle()
    assert set(node.engine.objects["interface"]) == {"a/vm2"}
    assert [status.observed_generation for status in node.reports] == [1, 2]
    assert ("port", "a/vm1") not in node.saved[-1]
    assert node.state.interfaces == {"a/vm2": True}


def test_what_is_reported_is_about_the_slices_that_the_engine_has(node: Node) -> None:
    def part(generation: int) -> Part:
        return Part("i0", "u", generation, "interfaces", frozenset({"a/vm1"}))

    node.snapshot = replace(node.snapshot, parts=(part(1),))
    node.step()
    # Nothing else is another: that is reported, too.
    node.snapshot = replace(node.snapshot, parts=(part(2),))
    step = node.step()
    assert step.report is not None
    assert step.report.parts == (part(1),)
    step = node.step()
    assert step.report is not None
    assert step.report.parts == (part(2),)
    assert node.step().report is None


def test_what_is_reported_as_observed_is_in_the_engine(node: Node) -> None:
    """A configuration that comes while the engine is asked for the one before."""
    node.step()
    node.snapshot = Snapshot(2, config(2, interfaces=[]), ())
    step = node.step()
    assert step.report is not None
    assert step.report.status.observed_generation == 1
    assert len(step.report.status.interfaces) == 2
    assert step.request is not None
    assert (step.request.generation, node.engine.generation) == (2, 2)
    step = node.step()
    assert step.report is not None
    assert (step.report.status.observed_generation, step.report.status.interfaces) == (2, ())
    assert step.request is None


def test_nothing_is_done_twice_when_nothing_happens(node: Node) -> None:
    node.live(until=3 * RESYNC_SECONDS)
    assert len(node.reports) == len(node.saved) == len(node.engine.commits) == 1
    # Interfaces are asked for often, objects are compared now and then.
    assert node.reconciled_at() == [0, RESYNC_SECONDS, 2 * RESYNC_SECONDS, 3 * RESYNC_SECONDS]
    asked_at = [at for at, _ in node.requests]
    assert {b - a for a, b in itertools.pairwise(asked_at)} == {LIST_SECONDS}
    upkeep = [n * UPKEEP_SECONDS for n in range(int(3 * RESYNC_SECONDS / UPKEEP_SECONDS) + 1)]
    assert node.isolated == [(at, frozenset({"veth1"})) for at in upkeep]
    assert node.kept == [(at, frozenset()) for at in upkeep]


def test_an_interface_that_comes_up_is_reported_without_a_comparison(node: Node) -> None:
    node.report_up("a/vm1")
    node.live(until=1)
    assert node.reasons() == {"vm1": "Forwarding", "vm2": "Pending"}
    node.report_up("a/vm1", "a/vm2")
    node.live(until=1 + LIST_SECONDS)
    assert node.reasons() == {"vm1": "Forwarding", "vm2": "Forwarding"}
    assert node.reconciled_at() == [0]


def test_a_refused_object_is_tried_again_later_and_later(node: Node) -> None:
    node.engine.refuse["network", "a/blue"] = "VniInUse"
    node.live(until=200)
    assert node.reconciled_at() == [0, 1, 3, 7, 15, 31, 63, 123, 183]
    assert node.verdict() == ("True", "InterfacesNotReady")
    assert node.reasons() == {"vm1": "NetworkMissing", "vm2": "NetworkMissing"}
    assert node.networks() == {"blue": "VniInUse"}
    assert {refusal.kind for refusal in node.state.refused} >= {"network", "interface"}
    assert set(node.engine.objects["port"]) == {"uplink/uplink0", "a/vm1", "a/vm2"}
    # It is said once, however often it is tried.
    assert len(node.reports) == 1
    node.engine.refuse.clear()
    node.live(until=183 + RESYNC_SECONDS)
    assert node.verdict() == ("True", "Forwarding")
    assert node.state.refused == ()


def test_a_refused_uplink_is_the_nodes_fault(node: Node) -> None:
    node.engine.refuse["port", "uplink/uplink0"] = "NoSuchDevice"
    node.settle()
    assert node.verdict() == ("False", "Refused")
    assert node.reasons() == {"vm1": "Forwarding", "vm2": "Forwarding"}


def test_what_could_not_be_read_or_translated_is_reported(node: Node) -> None:
    sriov = {**VM2, "attachment": {"type": "SRIOV", "sriov": {"resourceName": "example.com/vf"}}}
    unread = Problem("VirtualNetwork", "a", "red", "mtu", "NotUnderstood", "mtu: too small")
    node.snapshot = Snapshot(1, config(1, interfaces=[VM1, sriov]), (), (unread,))
    node.settle()
    assert node.reasons() == {"vm1": "Forwarding", "vm2": "AttachmentUnsupported"}
    assert node.networks() == {"blue": "", "red": "NotUnderstood"}
    uplinks = (Problem("Pipeline", "", "router", "uplinks", "NotUnderstood", "uplinks: no"),)
    node.snapshot = Snapshot(2, config(2), (), uplinks)
    node.settle()
    assert node.verdict() == ("False", "Refused")


def test_what_is_wrong_is_logged_once(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    node.engine.refuse["network", "a/blue"] = "VniInUse"
    node.engine.refuse["port", "uplink/uplink0"] = "NoSuchDevice"
    node.live(until=100)
    assert len(node.reconciled_at()) > 5
    lines = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert [line for line in lines if "VniInUse" in line] == [
        "refused: network a/blue (f): VniInUse"
    ]
    assert len([line for line in lines if line.startswith("Refused: ")]) == 1


def test_what_is_wrong_with_the_node_itself_is_reported(node: Node) -> None:
    node.node_problem = Problem("Pipeline", "", "router", "", "MemoryLockLimited", "no IPC_LOCK")
    node.settle()
    assert node.verdict() == ("False", "Refused")
    assert "no IPC_LOCK" in node.reports[-1].conditions[0].message


@pytest.fixture
def with_functions(tmp_path: Path) -> Iterator[Node]:
    """A node whose pod has two functions: of an uplink and of a/vm1."""
    functions = functions_of({"PCIDEVICE_HEADRACE_DEV_CX6": "0000:3b:02.1,0000:3b:02.2"})
    node = Node(tmp_path, functions=functions)
    attachment = {"type": "SRIOV", "sriov": {"resourceName": "headrace.dev/cx6"}}
    spec = CONFIG["spec"]
    changed = {
        **spec,
        "uplinks": [{**spec["uplinks"][0], "attachment": attachment, "function": 0}],
        "interfaces": [{**VM1, "attachment": attachment, "function": 0}, VM2],
    }
    found = DataplaneConfig.model_validate({**CONFIG, "spec": changed})
    node.snapshot = Snapshot(2, found, ())
    yield node
    node.end()


def said(node: Node, kind: str) -> Condition | None:
    found = [each for each in node.reports[-1].conditions if each.type == kind]
    return found[0] if found else None


def test_functions_by_number_reach_the_engine_and_their_faults_are_reported(
    with_functions: Node,
) -> None:
    node = with_functions
    node.settle()
    sent = [each for commit in node.engine.commits for each in commit["objects"]]
    ports = {each["key"]: each["spec"]["devargs"] for each in sent if each["kind"] == "port"}
    assert ports["uplink/uplink0"] == "0000:3b:02.1"
    assert ports["a/vm1"] == "0000:3b:02.2"
    ready = said(node, "DevicesReady")
    assert ready is not None
    assert (ready.status, ready.reason) == ("True", "DevicesReady")
    assert node.verdict() == ("True", "Forwarding")

    node.now += 1
    node.faults = {"0000:3b:02.2": Fault("DeviceNodeChanged", "another group")}
    node.settle()
    assert node.reasons() == {"vm1": "DeviceNodeChanged", "vm2": "Forwarding"}
    assert node.verdict() == ("True", "InterfacesNotReady")
    changed = said(node, "DevicesReady")
    assert changed is not None
    assert (changed.status, changed.reason, changed.message) == (
        "False",
        "DeviceNodeChanged",
        "another group",
    )
    assert changed.last_transition_time == "2026-01-01T00:00:01Z"

    # Of an uplink it is the node's own matter.
    node.now += 1
    node.faults = {"0000:3b:02.1": Fault("DeviceNodeChanged", "another group")}
    node.settle()
    assert node.verdict() == ("False", "Refused")
    again = said(node, "DevicesReady")
    assert again is not None
    assert again.last_transition_time == "2026-01-01T00:00:01Z"


def test_whether_workers_are_beside_their_functions_is_reported(with_functions: Node) -> None:
    node = with_functions
    node.settle()
    assert said(node, "NUMAAligned") is None
    node.numa = Numa({0: 0, 1: 1}, {"0000:3b:02.1": 1, "0000:3b:02.2": 1}, {0: 3})
    node.settle()
    found = said(node, "NUMAAligned")
    assert found is not None
    assert (found.status, found.reason) == ("False", "NotAligned")
    assert "3 of its hugepages (node 0)" in found.message
    assert node.verdict() == ("True", "Forwarding")


def test_an_engine_that_dies_is_reported_and_the_next_one_gets_everything(node: Node) -> None:
    node.live(until=10)
    node.kill()
    step = node.settle()
    assert step.wake_at == 10 + UPKEEP_SECONDS
    assert node.verdict() == ("False", "EngineDown")
    assert "the engine ended" in node.reports[-1].conditions[0].message
    assert node.reasons() == {"vm1": "EngineDown", "vm2": "EngineDown"}
    assert node.networks() == {}
    # A configuration is taken in meanwhile, and goes to the next engine.
    node.snapshot = Snapshot(2, config(2), ())
    node.live(until=20)
    assert node.reports[-1].observed_generation == 2
    reports = len(node.reports)
    # While one starts, what was said last says more.
    node.problem = ""
    node.snapshot = Snapshot(3, config(3), ())
    node.settle()
    assert len(node.reports) == reports
    engine = node.start()
    node.settle()
    assert (engine.generation, set(engine.objects["interface"])) == (3, {"a/vm1", "a/vm2"})
    assert node.verdict() == ("True", "Forwarding")
    assert node.reports[-1].observed_generation == 3


def test_an_answer_of_an_engine_that_is_gone_counts_for_nothing(node: Node) -> None:
    node.step()
    node.kill()
    node.settle()
    assert node.state.active_generation == 0
    assert not node.state.ready
    assert [status.conditions[0].reason for status in node.reports] == ["EngineDown"]
    node.start()
    asked = node.step()
    assert asked.request is not None
    assert asked.request.objects is not None


def test_who_was_first_is_first_in_the_next_engine(node: Node) -> None:
    node.snapshot = Snapshot(1, config(1, interfaces=[VM2]), ())
    node.settle()
    node.silence()
    node.start().most["port"] = 2
    node.snapshot = Snapshot(2, config(2, interfaces=[VM1, VM2]), ())
    node.settle()
    assert set(node.engine.objects["port"]) == {"uplink/uplink0", "a/vm2"}
    assert node.reasons() == {"vm1": "LimitExceeded", "vm2": "Forwarding"}
    assert ("port", "a/vm2") in node.saved[-1]
    assert ("port", "a/vm1") not in node.saved[-1]


def test_an_engine_that_does_not_answer_is_reported_the_second_time(node: Node) -> None:
    node.live(until=1)
    node.silence()
    node.now = 2.0
    # The engine may be about to end: that is observed soon.
    assert node.settle().wake_at == 2.0 + FAILURE_SECONDS
    assert len(node.reports) == 1
    node.live(until=2.0 + FAILURE_SECONDS)
    assert node.verdict() == ("False", "EngineDown")
    assert node.networks() == {}
    assert node.state.interfaces == {"a/vm1": False, "a/vm2": False}
    node.live(until=10.0)
    assert [at for at, _ in node.requests if at > 1] == [2, 4, 6, 8, 10]
    # The very same one answers again.
    hello = node.hello
    node.start()
    node.hello = hello
    node.live(until=12.0)
    assert node.verdict() == ("True", "Forwarding")
    assert node.networks() == {"blue": ""}
    # Once is no failure again.
    reports = len(node.reports)
    node.silence()
    node.live(until=15.5)
    assert node.requests[-1][0] == 14.0
    assert len(node.reports) == reports


def test_a_device_vanishes_and_returns(node: Node) -> None:
    node.live(until=10)
    before = len(node.isolated)
    present, node.links = node.links, {"lo": 1, "eth0": 2}
    node.silence()
    node.start().refuse["port", "a/vm1"] = "NoSuchDevice"
    node.report_up("a/vm2")
    node.live(until=11)
    assert node.reasons() == {"vm1": "DeviceGone", "vm2": "Forwarding"}
    assert node.reports[-1].interfaces[0].message == "There is no device veth1"
    assert len(node.isolated) == before
    node.live(until=20)

    # It returns before the refused port would be tried again.
    assert node.reconciled_at() == [0, 10, 11, 13, 17]
    node.engine.refuse.clear()
    node.links = present
    assert node.controller.appeared(present) == {"veth1"}
    node.now = 20.5
    step = node.step()
    assert step.isolate == {"veth1"}
    assert step.request is not None
    assert step.request.retry
    assert step.request.objects is not None
    assert node.controller.appeared(present) == frozenset()
    node.settle()
    assert all(not request.retry for at, request in node.requests if at < node.now)
    assert "a/vm1" in node.engine.hashes["port"]
    # Its link comes up in a moment.
    soon, long = APPEARED_SECONDS
    node.requests.clear()
    node.report_up("a/vm1", "a/vm2")
    node.live(until=30)
    assert node.reasons() == {"vm1": "Forwarding", "vm2": "Forwarding"}
    assert not any(request.retry for _, request in node.requests)
    asked_at = [at - 20.5 for at, _ in node.requests]
    gaps = [b - a for a, b in itertools.pairwise([0.0, *asked_at])]
    assert all(math.isclose(gap, soon) for gap in gaps[: int(long / soon)])
    assert all(math.isclose(gap, LIST_SECONDS) for gap in gaps[int(long / soon) + 1 :])
    assert asked_at[-1] > 2 * long


def test_a_device_made_anew_is_isolated_and_tried_again(node: Node) -> None:
    node.live(until=3)
    node.links = {**node.links, "veth1": 9}
    step = node.step()
    assert step.isolate == {"veth1"}
    assert step.request is not None
    assert step.request.retry


def test_what_is_an_uplinks_own_is_kept_apart_on_a_device_of_the_host(node: Node) -> None:
    attachment = {"type": "AFPacket", "afPacket": {"deviceName": "eth1"}}
    spec = CONFIG["spec"]
    changed = {**spec, "uplinks": [{**spec["uplinks"][0], "attachment": attachment}]}
    snapshot = Snapshot(2, DataplaneConfig.model_validate({**CONFIG, "spec": changed}), ())
    node.links = {**node.links, "eth1": 5}
    node.live(until=3)
    node.snapshot = snapshot
    assert node.step().keep_apart == {"eth1": "fd00:1:0:1::/64"}
    assert node.step().keep_apart == {}
    node.links = {**node.links, "eth1": 6}
    step = node.step()
    assert (step.keep_apart, step.isolate) == ({"eth1": "fd00:1:0:1::/64"}, frozenset())


def test_other_devices_are_nobodys_business(node: Node) -> None:
    node.live(until=3)
    others = {**node.links, "veth9": 9}
    assert node.controller.appeared(others) == frozenset()
    node.links = others
    step = node.step()
    assert (step.isolate, step.request) == (frozenset(), None)


def test_a_device_of_a_new_interface_is_isolated_before_the_engine_opens_it(node: Node) -> None:
    veth2 = {**VM2, "attachment": {"type": "AFPacket", "afPacket": {"deviceName": "veth2"}}}
    node.links = {**node.links, "veth2": 4}
    node.live(until=3)
    node.snapshot = Snapshot(2, config(2, interfaces=[VM1, veth2]), ())
    step = node.step()
    assert step.isolate == {"veth2"}
    assert step.request is not None
    # Nothing was refused for want of it.
    assert not step.request.retry


def test_directories_of_sockets_are_there_before_the_engine_opens_them(node: Node) -> None:
    node.live(until=3)
    path = "/run/headrace/sockets/a/vm2/memif.sock"
    memif = {"type": "Memif", "memif": {"socketPath": path, "role": "Server", "id": 0}}
    attached = {**VM2, "attachment": memif}
    node.snapshot = Snapshot(2, config(2, interfaces=[VM1, attached]), ())
    step = node.step()
    assert step.directories == frozenset({"/run/headrace/sockets/a/vm2"})
    assert step.request is not None
    assert step.request.generation == 2


def test_a_configuration_that_cannot_be_translated_leaves_the_engine_as_it_is(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    def strange(config: Any, *rest: Any) -> Translation:
        if config.metadata.generation == 2:
            raise KeyError("what is this?")
        return translate(config, *rest)

    monkeypatch.setattr("headrace_dataplane.controller.translate", strange)
    node.step()
    node.snapshot = Snapshot(2, config(2), ())
    for _ in range(2):
        with pytest.raises(KeyError):
            node.step()
    # What the engine answered is known all the same.
    assert node.state.active_generation == 1
    assert node.saved == []
    node.snapshot = Snapshot(3, config(3), ())
    node.settle()
    assert [status.observed_generation for status in node.reports] == [3]
    assert len(node.saved) == 1
    assert node.engine.generation == 3


def test_a_request_that_came_to_nothing_is_made_again(node: Node) -> None:
    first = node.step().request
    node.exchange = None
    again = node.step().request
    assert first == again


def test_a_condition_keeps_its_time_while_its_status_is_the_same(node: Node) -> None:
    def since() -> str:
        return node.reports[-1].conditions[0].last_transition_time

    node.live(until=4)
    assert since() == "2026-01-01T00:00:00Z"
    node.snapshot = Snapshot(2, config(2, interfaces=[]), ())
    node.live(until=8)
    assert (len(node.reports), since()) == (2, "2026-01-01T00:00:00Z")
    node.kill()
    node.live(until=12)
    assert (node.verdict()[0], since()) == ("False", "2026-01-01T00:00:08Z")
