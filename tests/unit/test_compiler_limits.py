# SPDX-License-Identifier: Apache-2.0
"""Limits of a namespace: the one too many is the last that came, and the others never notice."""

from collections.abc import Iterable
from typing import Any

from headrace_api import Interface, Node, Object, Pipeline, VirtualNetwork
from headrace_compiler import Changes, Compilation, Compiler

REASON = "RouteLimitExceeded"


def pipeline(limit: int | None = 4, name: str = "router") -> Pipeline:
    limits = {} if limit is None else {"routesPerNamespace": limit}
    spec = {
        "underlayPrefixes": ["fd00:1::/48"],
        "nodeSelector": {},
        "allowedNamespaces": {},
        "limits": limits,
    }
    return Pipeline.model_validate({"metadata": {"name": name}, "spec": spec})


def network(space: str = "blue", *routes: str, name: str = "net") -> VirtualNetwork:
    spec = {
        "subnets": [{"prefix": "10.0.0.0/24"}],
        "routes": [{"prefix": prefix, "action": "Drop"} for prefix in routes],
    }
    return VirtualNetwork.model_validate(
        {"metadata": {"name": name, "namespace": space}, "spec": spec}
    )


def interface(number: int, *prefixes: str, space: str = "blue") -> Interface:
    """Number N came in the N-th second."""
    spec = {
        "networkRef": {"name": "net"},
        "pipelineRef": {"name": "router"},
        "nodeName": "node-a",
        "prefixes": prefixes,
        "attachment": {"type": "Discard"},
    }
    metadata = {
        "name": f"vm{number}",
        "namespace": space,
        "creationTimestamp": f"2026-01-01T00:00:{number:02}Z",
    }
    return Interface.model_validate({"metadata": metadata, "spec": spec})


def flushed(*items: Object, compiler: Compiler | None = None) -> tuple[Compiler, Changes]:
    compiler = compiler or Compiler()
    for item in (Node.model_validate({"metadata": {"name": "node-a"}}), *items):
        compiler.upsert(item)
    return compiler, compiler.flush()


def names(found: Compilation, space: str = "blue") -> set[str]:
    configs: Any = found.configs
    return {
        item["name"]
        for config in configs.values()
        for item in config["spec"]["interfaces"]
        if item["namespace"] == space
    }


def prefixes(found: Compilation, space: str = "blue") -> list[str]:
    slices: Any = found.slices
    return sorted(
        route["prefix"]
        for item in slices.values()
        for route in item["spec"]["entries"]
        if item["spec"]["owner"]["namespace"] == space
    )


def refused(found: Compilation) -> set[str]:
    assert {problem.reason for problem in found.problems} <= {REASON}
    assert all("routesPerNamespace" in problem.message for problem in found.problems)
    return {f"{problem.namespace}/{problem.name}" for problem in found.problems}


def vms(numbers: Iterable[int]) -> set[str]:
    return {f"vm{number}" for number in numbers}


def test_the_last_that_came_is_the_one_too_many() -> None:
    many = [interface(number) for number in range(6)]
    others = [interface(number, space="red") for number in range(4)]
    items: list[Object] = [pipeline(4), network(), network("red"), *reversed(many), *others]
    found = flushed(*items)[0].snapshot()
    assert refused(found) == {"blue/vm4", "blue/vm5"}
    assert names(found) == vms(range(4))
    assert names(found, "red") == vms(range(4))
    assert len(prefixes(found)) == 4


def test_who_waits_comes_in_when_there_is_room() -> None:
    many = [interface(number) for number in range(6)]
    compiler, _ = flushed(pipeline(4), network(), *many)
    compiler.delete("Interface", "blue/vm1")
    changes = compiler.flush()
    assert not changes.problems["Interface", "blue/vm4"]
    found = compiler.snapshot()
    assert names(found) == vms((0, 2, 3, 4))
    assert refused(found) == {"blue/vm5"}
    compiler.upsert(pipeline(None))
    compiler.flush()
    assert names(compiler.snapshot()) == vms((0, 2, 3, 4, 5))
    assert not compiler.snapshot().problems


def test_prefixes_count_and_growing_is_coming() -> None:
    compiler, _ = flushed(pipeline(4), network(), interface(0), interface(1, "10.9.0.0/24"))
    assert not compiler.snapshot().problems
    compiler.upsert(interface(0, "10.8.0.0/24", "10.8.1.0/24"))
    compiler.flush()
    grown = compiler.snapshot()
    assert refused(grown) == {"blue/vm0"}
    assert names(grown) == {"vm1"}
    # Another run does not let in what this one did not.
    items = (
        *(pipeline(4), network(), interface(1, "10.9.0.0/24")),
        interface(0, "10.8.0.0/24", "10.8.1.0/24"),
    )
    again = flushed(*items, compiler=Compiler(grown.allocations))[0].snapshot()
    assert (again.configs, again.slices) == (grown.configs, grown.slices)
    assert refused(again) == {"blue/vm0"}


def test_a_lower_limit_takes_nothing_away_in_this_run_or_the_next() -> None:
    many = [interface(number) for number in range(5)]
    own = ("10.7.0.0/24", "10.7.1.0/24")
    compiler, _ = flushed(pipeline(None), network("blue", *own), *many)
    before = compiler.snapshot()
    assert not before.problems
    compiler.upsert(pipeline(2))
    compiler.flush()
    lowered = compiler.snapshot()
    assert (lowered.configs, lowered.slices) == (before.configs, before.slices)
    assert not lowered.problems
    items: list[Object] = [pipeline(2), network("blue", *own), interface(9), *many]
    again = flushed(*items, compiler=Compiler(before.allocations))[0].snapshot()
    assert (again.configs, again.slices) == (before.configs, before.slices)
    assert refused(again) == {"blue/vm9"}


def test_of_a_networks_own_routes_the_new_ones_are_left_out() -> None:
    compiler, _ = flushed(pipeline(3), network("blue", "10.7.0.0/24", "10.7.1.0/24"), interface(0))
    old = ["10.0.0.2/32", "10.7.0.0/24", "10.7.1.0/24"]
    assert prefixes(compiler.snapshot()) == old
    compiler.upsert(network("blue", "10.1.0.0/24", "10.7.0.0/24", "10.7.1.0/24"))
    compiler.flush()
    found = compiler.snapshot()
    assert prefixes(found) == old
    assert refused(found) == {"blue/net"}
    assert names(found) == {"vm0"}
    # Another network of the same namespace has none left, one of another namespace has its own.
    more = (network("blue", "10.6.0.0/24", name="more"), network("red", "10.6.0.0/24"))
    flushed(*more, compiler=compiler)
    assert refused(compiler.snapshot()) == {"blue/net", "blue/more"}
    assert prefixes(compiler.snapshot(), "red") == ["10.6.0.0/24"]
    compiler.delete("Interface", "blue/vm0")
    compiler.flush()
    found = compiler.snapshot()
    assert len(prefixes(found)) == 3
    assert len(refused(found)) == 1


def test_an_interface_waits_for_a_networks_routes_too() -> None:
    compiler, _ = flushed(pipeline(2), network("blue", "10.7.0.0/24", "10.7.1.0/24"))
    flushed(interface(0), compiler=compiler)
    assert refused(compiler.snapshot()) == {"blue/vm0"}
    compiler.upsert(network("blue", "10.7.0.0/24"))
    compiler.flush()
    assert names(compiler.snapshot()) == {"vm0"}
    assert not compiler.snapshot().problems
