# SPDX-License-Identifier: Apache-2.0
"""Which nodes are taken for dead, step by step, on a clock of its own."""

from collections.abc import Iterable

import pytest

from headrace_api import Json
from headrace_operator.heartbeats import renewed_by
from headrace_operator.liveness import LONGEST_HOLD, MEMORY, Liveness, PipelineNode, State

SECONDS = 40
RENEW = 10
"""Seconds between two renewals of an agent."""
LOOK = 5
"""Seconds between two looks of the operator."""

ALIVE = State.ALIVE
AGENT = State.AGENT_UNREACHABLE
NODE = State.NODE_UNREACHABLE
RETURNING = State.NODE_RETURNING


class Cluster:
    """Nodes of one Pipeline, their agents and kubelets, and the operator's looks at them."""

    def __init__(self, *nodes: str) -> None:
        self.now = 1000.0
        self.nodes = nodes
        self.agents = set(nodes)
        """Nodes whose agents renew."""
        self.silent: set[str] = set()
        """Nodes whose Ready is Unknown."""
        self.leases = {PipelineNode("edge", node): "first" for node in nodes}
        self.states: dict[str, State] = {}
        self.start()

    def start(self, withdrawn: Iterable[str] = ()) -> None:
        """Start an operator, which knows what the one before has withdrawn."""
        self.liveness = Liveness(SECONDS, lambda: self.now)
        self.liveness.resume(PipelineNode("edge", node) for node in withdrawn)

    def cut(self, *nodes: str) -> None:
        self.agents -= {*nodes}
        self.silent |= {*nodes}

    def back(self, *nodes: str) -> None:
        self.agents |= {*nodes}
        self.silent -= {*nodes}

    def look(self) -> dict[str, State]:
        self.liveness.observe(self.leases)
        found = self.liveness.judge({"edge": self.nodes}, self.silent.__contains__)
        self.states = {pn.node: state for pn, state in found.items()}
        return self.states

    def spend(self, seconds: float, *, looking: bool = True) -> dict[str, State]:
        """Let time pass; agents renew, the operator looks (or its requests fail)."""
        end = self.now + seconds
        while self.now < end:
            self.now += LOOK
            if self.now % RENEW == 0 and looking:
                self.leases |= {
                    PipelineNode("edge", node): f"at {self.now}" for node in self.agents
                }
            if looking:
                self.look()
            else:
                self.liveness.lost()
        return self.states

    def until(self, state: State, node: str = "a", seconds: float = 1000) -> float:
        """Spend time until the node is in that state; returns how much."""
        began = self.now
        while self.states.get(node, ALIVE) is not state:
            assert self.now < began + seconds, f"{node} is {self.states.get(node, ALIVE)}"
            self.spend(LOOK)
        return self.now - began


@pytest.fixture
def cluster() -> Cluster:
    cluster = Cluster("a", "b", "c", "d")
    assert cluster.spend(100) == {}
    return cluster


def test_a_node_is_dead_when_agent_and_kubelet_are_silent(cluster: Cluster) -> None:
    cluster.cut("a")
    assert cluster.until(AGENT) <= SECONDS + LOOK
    assert cluster.until(NODE) <= SECONDS / 2
    assert cluster.states == {"a": NODE}
    assert NODE.withdrawn
    assert not NODE.reachable


def test_an_agent_alone_takes_nothing_away(cluster: Cluster) -> None:
    cluster.agents.remove("a")
    assert cluster.spend(100 * SECONDS) == {"a": AGENT}
    assert not AGENT.withdrawn
    # As soon as its node is silent, too, it is dead.
    cluster.silent.add("a")
    assert cluster.look() == {"a": NODE}


def test_a_kubelet_alone_takes_nothing_away(cluster: Cluster) -> None:
    cluster.silent.add("a")
    assert cluster.spend(100 * SECONDS) == {}


def test_one_renewal_brings_a_node_back_at_once(cluster: Cluster) -> None:
    cluster.cut("a")
    cluster.until(NODE)
    cluster.spend(10 * SECONDS)
    # Its kubelet is there before the dataplane's pod: not yet.
    cluster.silent.discard("a")
    assert cluster.spend(SECONDS) == {"a": NODE}
    cluster.agents.add("a")
    assert cluster.until(ALIVE) <= RENEW


def test_a_clock_of_a_node_that_is_wrong_means_nothing(cluster: Cluster) -> None:
    for _ in range(20):
        cluster.spend(RENEW)
        cluster.leases[PipelineNode("edge", "a")] = f"1970-01-01T00:00:{cluster.now}"
        assert cluster.look() == {}


@pytest.mark.parametrize(("dead", "leave"), [("ab", True), ("abc", False), ("abcd", False)])
def test_when_more_than_half_are_silent_nothing_leaves(
    cluster: Cluster, dead: str, leave: bool
) -> None:
    cluster.cut(*dead)
    cluster.spend(10 * SECONDS)
    assert cluster.states == dict.fromkeys(dead, NODE if leave else AGENT)


def test_what_left_before_stays_away_when_more_than_half_are_silent(cluster: Cluster) -> None:
    cluster.cut("a")
    cluster.until(NODE)
    cluster.cut("b", "c")
    assert cluster.spend(10 * SECONDS) == {"a": NODE, "b": AGENT, "c": AGENT}
    # One comes back: of the others it is believed now.
    cluster.back("c")
    assert cluster.spend(2 * RENEW) == {"a": NODE, "b": NODE}


@pytest.mark.parametrize("offsets", [(0, 5, 10), (10, 5, 0)])
def test_silence_of_one_cause_is_not_mistaken_for_a_few_deaths(
    cluster: Cluster, offsets: tuple[int, ...]
) -> None:
    """Renewals come one after the other, so nodes that went together get stale so."""
    cluster.silent |= {"a", "b", "c"}
    for offset in range(0, 15, 5):
        gone = {node for node, left in zip("abc", offsets, strict=True) if left <= offset}
        cluster.agents -= gone
        cluster.spend(LOOK)
    for _ in range(100):
        cluster.spend(LOOK)
        assert NODE not in cluster.states.values()


def test_other_pipelines_are_judged_by_themselves() -> None:
    now = [0.0]
    liveness = Liveness(SECONDS, lambda: now[0])
    nodes = {"edge": ["a", "b"], "core": ["a"]}
    leases = {PipelineNode(name, node): "first" for name, on in nodes.items() for node in on}
    for step in range(40):
        now[0] = step * 5.0
        leases[PipelineNode("edge", "b")] = f"{step}"
        liveness.observe(leases)
    found = liveness.judge(nodes, {"a"}.__contains__)
    assert found == {PipelineNode("edge", "a"): NODE, PipelineNode("core", "a"): AGENT}


def test_an_agent_that_never_had_a_lease_is_not_judged(cluster: Cluster) -> None:
    """Those of an earlier release have none."""
    cluster.nodes = (*cluster.nodes, "old")
    cluster.silent.add("old")
    assert cluster.spend(10 * SECONDS) == {}


def test_a_lease_that_somebody_deletes_is_silence_and_no_more(cluster: Cluster) -> None:
    for gone in ("a", "b"):
        del cluster.leases[PipelineNode("edge", gone)]
        cluster.agents.remove(gone)
    assert cluster.spend(10 * SECONDS) == {"a": AGENT, "b": AGENT}


@pytest.mark.parametrize("away", [LOOK, 300, 10000])
def test_for_one_period_after_an_outage_nothing_leaves(cluster: Cluster, away: int) -> None:
    cluster.spend(away, looking=False)
    # Only one of the agents has found the API server again.
    cluster.cut("a")
    assert cluster.spend(SECONDS) == {}
    cluster.spend(SECONDS)
    assert cluster.states == {"a": NODE}


def test_an_operator_that_slept_had_an_outage(cluster: Cluster) -> None:
    cluster.now += 1000
    cluster.silent |= {"a", "b"}
    assert cluster.look() == {}
    assert cluster.spend(SECONDS) == {}


def test_what_left_before_an_outage_stays_away(cluster: Cluster) -> None:
    cluster.cut("a")
    cluster.until(NODE)
    cluster.spend(300, looking=False)
    for _ in range(20):
        cluster.spend(LOOK)
        assert cluster.states == {"a": NODE}
    cluster.back("a")
    assert cluster.until(ALIVE) <= RENEW


def test_another_operator_goes_on_where_the_first_was(cluster: Cluster) -> None:
    cluster.cut("a", "b")
    cluster.until(NODE)
    # This one knows of a alone: of b it waits as long as any.
    cluster.start(withdrawn=["a"])
    assert cluster.look() == {"a": NODE}
    assert cluster.spend(SECONDS) == {"a": NODE}
    assert cluster.spend(SECONDS) == {"a": NODE, "b": NODE}
    cluster.back("a", "b")
    assert cluster.until(ALIVE) <= RENEW
    assert cluster.spend(LOOK) == {}


def test_who_comes_and_goes_returns_later_each_time(cluster: Cluster) -> None:
    held = []
    for _ in range(8):
        cluster.cut("a")
        cluster.until(NODE)
        cluster.back("a")
        held.append(cluster.until(ALIVE) - RENEW)
    periods = [round(seconds / SECONDS) for seconds in held]
    assert periods == [0, 1, 2, 4, *[LONGEST_HOLD] * 4]
    # It is forgotten in time.
    cluster.spend(MEMORY * SECONDS)
    cluster.cut("a")
    cluster.until(NODE)
    cluster.back("a")
    assert cluster.until(ALIVE) <= RENEW


def test_a_returning_node_answers_and_may_die_again(cluster: Cluster) -> None:
    for _ in range(2):
        cluster.back("a")
        cluster.spend(RENEW)
        cluster.cut("a")
        cluster.until(NODE)
    cluster.back("a")
    assert cluster.spend(RENEW + LOOK) == {"a": RETURNING}
    assert RETURNING.reachable
    assert RETURNING.withdrawn
    cluster.agents.remove("a")
    cluster.until(NODE)
    cluster.back("a")
    assert cluster.until(ALIVE) >= SECONDS


def test_a_node_that_is_selected_again_starts_anew(cluster: Cluster) -> None:
    cluster.cut("a")
    cluster.until(NODE)
    nodes, cluster.nodes = cluster.nodes, ("b", "c", "d")
    assert cluster.spend(LOOK) == {}
    cluster.nodes = nodes
    assert cluster.spend(LOOK) == {}
    cluster.until(NODE)


@pytest.mark.parametrize(
    ("name", "pipeline", "node", "found"),
    [
        ("edge.a", "edge", "a", PipelineNode("edge", "a")),
        ("edge.a.example", "edge", "a.example", PipelineNode("edge", "a.example")),
        ("edge.a", "edge", "b", None),
        ("edge.a", "core", "a", None),
        ("headrace-operator", "", "headrace-operator-1", None),
    ],
)
def test_a_lease_is_of_whom_its_name_says(
    name: str, pipeline: str, node: str, found: PipelineNode | None
) -> None:
    metadata: Json = {"name": name, "labels": {"headrace.dev/pipeline": pipeline}}
    assert renewed_by({"metadata": metadata, "spec": {"holderIdentity": node}}) == found
