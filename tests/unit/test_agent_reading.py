# SPDX-License-Identifier: Apache-2.0
"""One entry that cannot be read is left out alone."""

import copy
from typing import Any

import pytest
from pydantic import ValidationError

from headrace_api import DataplaneConfig, RouteSlice
from headrace_dataplane.network_state import network_states
from headrace_dataplane.reading import is_routes, read_config, read_slice
from headrace_dataplane.source import Snapshot
from headrace_dataplane.translate import translate
from tests.unit import test_agent_translate
from tests.unit.test_agent_translate import CONFIG

SLICE = copy.deepcopy(test_agent_translate.SLICE)


@pytest.fixture
def config() -> dict[str, Any]:
    return copy.deepcopy(CONFIG)


def part(*routes: dict[str, Any]) -> dict[str, Any]:
    return {**SLICE, "spec": {**SLICE["spec"], "entries": list(routes)}}


def test_what_is_well_is_read_whole(config: dict[str, Any]) -> None:
    assert read_config(config) == (DataplaneConfig.model_validate(config), ())
    assert read_slice(SLICE) == (RouteSlice.model_validate(SLICE), ())


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        (SLICE["spec"], True),
        ({**SLICE["spec"], "entries": 7}, True),
        ({**SLICE["spec"], "type": "Policies"}, False),
        ({**SLICE["spec"], "type": ["Routes"]}, False),
        # As release 0.2 had it.
        ({"network": "a/blue", "vni": 100, "routes": []}, False),
        ({}, False),
        (None, False),
        ("Routes", False),
    ],
)
def test_only_slices_of_routes_are_read(spec: Any, found: bool) -> None:
    assert is_routes({**SLICE, "spec": spec}) is found
    assert not is_routes({name: value for name, value in SLICE.items() if name != "spec"})


def test_an_interface_that_cannot_be_read_is_left_out_alone(config: dict[str, Any]) -> None:
    well, _ = read_config(config)
    config["spec"]["interfaces"][0]["mtu"] = 10
    found, (problem,) = read_config(config)
    assert found.spec.interfaces == well.spec.interfaces[1:]
    assert (found.spec.networks, found.spec.uplinks) == (well.spec.networks, well.spec.uplinks)
    broken = well.spec.interfaces[0]
    assert (problem.kind, problem.namespace, problem.name, problem.field) == (
        *("Interface", broken.namespace, broken.name),
        "mtu",
    )
    # Where there was one, it stays as it was.
    assert read_config(config, well)[0].spec.interfaces == well.spec.interfaces


def test_a_network_that_cannot_be_read_is_left_out_with_what_is_in_it(
    config: dict[str, Any],
) -> None:
    config["spec"]["networks"][0]["gateways"] = ["::1"]
    found, problems = read_config(config)
    name = config["spec"]["networks"][0]["name"]
    assert name not in [network.name for network in found.spec.networks]
    (state,) = [
        each for each in network_states(Snapshot(1, found, (), problems), ()) if each.name == name
    ]
    assert (state.reason, state.digest) == ("NotUnderstood", "")
    assert "gateways[0]" in state.message
    translate(found, ())


@pytest.mark.parametrize("entry", [None, 7, {}, {"namespace": "A_B", "name": 3}])
def test_an_entry_that_is_nothing_is_left_out(config: dict[str, Any], entry: object) -> None:
    config["spec"]["networks"].insert(0, entry)
    config["spec"]["interfaces"].append(entry)
    found, problems = read_config(config)
    assert found == DataplaneConfig.model_validate(CONFIG)
    assert [(problem.namespace, problem.name) for problem in problems] == [("", "")] * 2


def test_the_rest_of_a_configuration_is_read_or_not(config: dict[str, Any]) -> None:
    config["spec"]["workers"] = {"count": 0}
    config["spec"]["interfaces"][0]["mtu"] = 10
    with pytest.raises(ValidationError):
        read_config(config)


def test_a_route_that_cannot_be_read_is_left_out_alone() -> None:
    good = {"prefix": "10.1.0.0/16", "nextHops": [{"underlayAddress": "fd00::1", "weight": 1}]}
    both = [{"underlayAddress": "fe80::1"}, {"underlayAddress": "fd00::2", "weight": 1}]
    found, problems = read_slice(
        part(
            good,
            {"prefix": "10.2.0.0/16", "nextHops": both},
            {"prefix": "10.3.0.0/16", "nextHops": both[:1]},
            {"prefix": "10.4.0.0/99", "nextHops": both[1:]},
            {"prefix": "10.5.0.0/16", "newer": True},
        )
    )
    assert [route.to_dict() for route in found.spec.entries] == [
        good,
        {"prefix": "10.2.0.0/16", "nextHops": both[1:]},
        # It drops: what it would catch must not take a shorter one.
        {"prefix": "10.3.0.0/16", "blackhole": True},
        {"prefix": "10.5.0.0/16", "blackhole": True},
    ]
    assert [problem.field for problem in problems] == [
        f"10.{number}" + (".0.0/99" if number == 4 else ".0.0/16") for number in (2, 3, 4, 5)
    ]
    assert {problem.kind for problem in problems} == {"VirtualNetwork"}
    # Where there was one, it stays as it was.
    before, _ = read_slice(part(good))
    changed = {"prefix": "10.1.0.0/16", "nextHops": [{"underlayAddress": "fe80::1"}]}
    assert read_slice(part(changed), before)[0].spec == before.spec


def test_the_digest_of_a_network_lacks_a_slice_that_was_not_read_whole() -> None:
    found, problems = read_slice(part({"prefix": "10.4.0.0/99", "blackhole": True}))
    config, _ = read_config(CONFIG)
    key = found.network.partition("/")
    well = network_states(Snapshot(1, config, (found,)), ())
    bad = network_states(Snapshot(1, config, (found,), problems), ())
    (one,) = [each for each in well if (each.namespace, "/", each.name) == key]
    (other,) = [each for each in bad if (each.namespace, "/", each.name) == key]
    assert one.digest != other.digest
    assert other.reason == "NotUnderstood"
