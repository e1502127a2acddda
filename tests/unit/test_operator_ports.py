# SPDX-License-Identifier: Apache-2.0
"""Metrics ports of Pipelines: the lowest free one, and none moves."""

from headrace_api import Json
from headrace_operator.ports import COUNT, Ports, port_in_use


def test_the_lowest_free_port_is_given() -> None:
    ports = Ports(9477)
    assert ports.take("a", wanted=9478) == 9478
    assert [ports.take(name) for name in ("b", "c", "b", "a")] == [9477, 9479, 9477, 9478]
    ports.release("b")
    assert ports.take("d") == 9477


def test_what_another_has_or_is_out_of_range_is_not_given_again() -> None:
    ports = Ports(9477)
    assert ports.take("a") == 9477
    assert ports.take("b", wanted=9477) == 9478
    assert ports.take("c", wanted=80) == 9479


def test_there_is_an_end() -> None:
    ports = Ports(9477)
    given = [ports.take(str(number)) for number in range(COUNT)]
    assert sorted(filter(None, given)) == [*range(9477, 9577)]
    assert ports.take("late") is None
    ports.release("7")
    assert ports.take("late") == given[7]


def test_the_port_of_running_pods_is_read_back() -> None:
    def daemon_set(*ports: Json) -> Json:
        containers: list[Json] = [{"name": "other"}, {"name": "dataplane", "ports": [*ports]}]
        return {"spec": {"template": {"spec": {"containers": [*containers]}}}}

    assert port_in_use([]) == 0
    assert port_in_use([daemon_set({"name": "x", "containerPort": 1})]) == 0
    assert port_in_use([daemon_set({"name": "metrics", "containerPort": 9480})]) == 9480
