# SPDX-License-Identifier: Apache-2.0
"""An exception that nobody expected, in the middle of a compilation: one object's own problem."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from headrace_api import Object, Objects
from headrace_compiler import (
    Allocations,
    Changes,
    Compilation,
    Compiler,
    config,
    interface,
    routes,
    routing,
)
from headrace_compiler import compile as compile_all
from headrace_compiler.claims import Owner
from headrace_compiler.interface import Interfaces
from headrace_compiler.network import Networks
from headrace_compiler.pipeline import Pipelines
from tests.unit import test_compiler_cases as cases

BLUE: dict[str, Any] = {
    "routes": [
        {"prefix": "10.9.0.0/16", "nextHops": [{"networkRef": {"name": "green"}}]},
        {"prefix": "10.8.0.0/16", "nextHops": [{"interfaceRef": {"name": "vm2"}}]},
    ]
}
BEFORE: tuple[Object, ...] = (
    cases.node("node-a"),
    cases.node("node-b"),
    cases.pipeline(),
    cases.network(**BLUE),
    cases.network("green"),
    cases.interface("vm1", prefixes=["10.7.0.0/16"]),
    cases.interface("vm2", nodeName="node-b"),
    cases.interface("vm3", networkRef={"name": "green"}),
)
AFTER: tuple[Object, ...] = (
    cases.pipeline(workers={"count": 3}),
    cases.network(
        mtu=1400, routes=[*BLUE["routes"][:1], {"prefix": "10.6.0.0/16", "action": "Drop"}]
    ),
    cases.network("green", mtu=1300),
    cases.interface("vm1", addresses=["10.0.0.99"], prefixes=["10.5.0.0/16"]),
    cases.interface("vm3", networkRef={"name": "green"}, prefixes=["10.4.0.0/16"]),
    cases.interface("vm4", addresses=["10.0.0.44"]),
)

Piece = tuple[str, ...]


def pieces(found: Compilation) -> dict[Piece, Any]:
    """All that was compiled, by what it is of."""
    parts: dict[Piece, Any] = {}
    for spec in cases.specs(found).values():
        node = spec["nodeName"]
        for entry in spec["networks"]:
            parts["network", entry["name"], node] = entry
        for entry in spec["interfaces"]:
            parts["interface", entry["name"], node] = entry
        parts["node", node] = {**spec, "networks": [], "interfaces": []}
    slices: Any = found.slices
    for name, item in slices.items():
        for route in item["spec"]["entries"]:
            parts["route", name, route["prefix"]] = route
    return parts


OWN = ("10.9.0.0/16", "10.8.0.0/16", "10.6.0.0/16")
OF_VM1 = ("10.0.0.2/32", "2001:db8::2/128", "10.7.0.0/16", "10.0.0.99/32", "10.5.0.0/16")


@dataclass(frozen=True)
class Case:
    """A function that fails with one object, and what stays as it was."""

    where: object
    function: str
    word: str | Owner
    subject: tuple[str, str]
    stays: Callable[[Piece], bool]

    def __str__(self) -> str:
        return f"{self.function}-{self.word}"


BLUE_KEY, VM1_KEY = ("VirtualNetwork", "default/blue"), ("Interface", "default/vm1")
PIPELINE_KEY = ("Pipeline", "router")
ROUTER_ON_A = Owner("Pipeline", "router", "node-a")


def is_vm1(piece: Piece) -> bool:
    if piece[:2] == ("route", "default.blue.0"):
        return piece[2] in OF_VM1
    return piece[:2] == ("interface", "vm1")


CASES = [
    Case(
        routing,
        "resolve_routes",
        "default/blue",
        BLUE_KEY,
        lambda p: p[0] == "route" and p[2] in OWN,
    ),
    Case(Networks, "keep", Owner(*BLUE_KEY), BLUE_KEY, lambda p: False),
    Case(
        config,
        "compiled_network",
        "default/blue",
        BLUE_KEY,
        lambda p: p[:2] == ("network", "blue"),
    ),
    Case(
        routes.RouteTable,
        "slice",
        "default/blue",
        BLUE_KEY,
        lambda p: p[:2] == ("route", "default.blue.0"),
    ),
    *(
        Case(Interfaces, function, Owner(*VM1_KEY), VM1_KEY, is_vm1)
        for function in ("keep", "_claim_given", "_claim_any")
    ),
    Case(Interfaces, "_refer", "default/vm1", VM1_KEY, is_vm1),
    Case(interface, "accept", "default/vm1", VM1_KEY, is_vm1),
    *(
        Case(Pipelines, function, ROUTER_ON_A, PIPELINE_KEY, lambda p: p == ("node", "node-a"))
        for function in ("keep", "_claim")
    ),
    Case(
        config,
        "_dataplane_config",
        ROUTER_ON_A,
        PIPELINE_KEY,
        lambda p: p[0] != "route" and p[-1] == "node-a",
    ),
]


def break_it(monkeypatch: pytest.MonkeyPatch, case: Case) -> None:
    function = getattr(case.where, case.function)

    def strange(*words: Any, **names: Any) -> Any:
        if case.word in words or getattr(words[0], "network", "") == case.word:
            raise KeyError("what is this?")
        return function(*words, **names)

    monkeypatch.setattr(case.where, case.function, strange)


def flushed(compiler: Compiler, items: tuple[Object, ...]) -> Changes:
    for item in items:
        compiler.upsert(item)
    return compiler.flush()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_it_stops_stays_and_all_else_goes_on(
    monkeypatch: pytest.MonkeyPatch, case: Case
) -> None:
    reference, compiler = Compiler(), Compiler()
    flushed(reference, BEFORE)
    flushed(compiler, BEFORE)
    before = pieces(compiler.snapshot())
    assert compiler.snapshot().problems == ()
    flushed(reference, AFTER)
    wanted = pieces(reference.snapshot())
    with monkeypatch.context() as patch:
        break_it(patch, case)
        changes = flushed(compiler, AFTER)
        found = compiler.snapshot()
        expected = {piece: part for piece, part in wanted.items() if not case.stays(piece)}
        expected |= {piece: part for piece, part in before.items() if case.stays(piece)}
        assert pieces(found) == expected
        (problem,) = found.problems
        assert (problem.kind, problem.reason) == (case.subject[0], "InternalError")
        assert "KeyError: 'what is this?'" in problem.message
        assert changes.problems[case.subject] == (problem,)
        (trace,) = changes.traces.items()
        assert trace[0] == case.subject
        assert "Traceback" in trace[1]
        # It is told once, and tried again each time.
        assert not compiler.flush().traces
        assert pieces(compiler.snapshot()) == expected
    changes = compiler.flush()
    assert changes.problems[case.subject] == ()
    found = compiler.snapshot()
    assert found.problems == ()
    assert pieces(found) == wanted
    assert found.allocations == reference.snapshot().allocations


@pytest.mark.parametrize("case", CASES, ids=str)
def test_who_starts_has_what_was_compiled_before(
    monkeypatch: pytest.MonkeyPatch, case: Case
) -> None:
    before = compile_all(Objects(BEFORE))
    break_it(monkeypatch, case)
    found = compile_all(
        Objects((*BEFORE, cases.interface("vm4", nodeName="node-b"))),
        before.allocations,
        before=before,
    )
    (problem,) = (each for each in found.problems if each.reason != "NetworkNotReady")
    assert (problem.kind, problem.reason) == (case.subject[0], "InternalError")
    assert found.traces.keys() == {case.subject}
    assert pieces(found).items() >= pieces(before).items()
    # In a network that fails nothing new is to be had.
    there = ("interface", "vm4", "node-b") in pieces(found)
    assert there == (case.subject != BLUE_KEY)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_who_is_new_is_left_out_alone(monkeypatch: pytest.MonkeyPatch, case: Case) -> None:
    break_it(monkeypatch, case)
    found = compile_all(Objects(BEFORE), Allocations())
    assert {each.kind for each in found.problems if each.reason == "InternalError"} <= {
        case.subject[0]
    }
    assert ("interface", "vm2", "node-b") in pieces(found)


def test_who_is_gone_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = Compiler()
    flushed(compiler, BEFORE)
    break_it(monkeypatch, Case(Interfaces, "keep", Owner(*VM1_KEY), VM1_KEY, is_vm1))
    compiler.delete(*VM1_KEY)
    compiler.flush()
    assert not any(map(is_vm1, pieces(compiler.snapshot())))
