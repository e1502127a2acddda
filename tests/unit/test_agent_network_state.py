# SPDX-License-Identifier: Apache-2.0
"""What the agent says of networks: the operator compares it with what it has written."""

from headrace_api import (
    CompiledNetwork,
    DataplaneConfig,
    ObjectMeta,
    RouteSlice,
    routes_digest,
    slice_revision,
)
from headrace_dataplane.network_state import network_states
from headrace_dataplane.protocol import Refusal
from headrace_dataplane.source import Snapshot
from tests.specs import slice_spec
from tests.unit.test_agent_translate import CONFIG


def part(number: int, network: str = "a/blue", generation: int = 1) -> RouteSlice:
    name = f"{network.replace('/', '.')}.{number}"
    metadata = {"name": name, "namespace": "sys", "uid": f"u{number}", "generation": generation}
    return RouteSlice.model_validate({"metadata": metadata, "spec": slice_spec(network)})


def network(name: str) -> CompiledNetwork:
    return CompiledNetwork(
        namespace="a", name=name, vni=100, mtu=1500, gateways=(), route_slices=()
    )


def states(slices: tuple[RouteSlice, ...], *refused: Refusal) -> dict[str, tuple[str, str]]:
    spec = DataplaneConfig.model_validate(CONFIG).spec
    config = DataplaneConfig(
        kind="DataplaneConfig",
        metadata=ObjectMeta(name="p.n"),
        spec=spec.model_copy(update={"networks": (network("blue"), network("red"))}),
    )
    found = network_states(Snapshot(1, config, slices), refused)
    return {state.name: (state.digest, state.reason) for state in found}


def test_the_digest_is_of_the_slices_that_the_engine_has() -> None:
    slices = (part(0), part(1, generation=7), part(0, "a/red"))
    right = routes_digest(
        [slice_revision("a.blue.1", "u1", 7), slice_revision("a.blue.0", "u0", 1)]
    )
    assert states(slices) == {
        "blue": (right, ""),
        "red": (routes_digest([slice_revision("a.red.0", "u0", 1)]), ""),
    }


def test_a_changed_slice_changes_the_digest() -> None:
    assert states((part(0),)) != states((part(0, generation=2),))


def test_what_the_engine_refuses_is_not_in_the_digest_and_is_named() -> None:
    refusal = Refusal("routes", "a.blue.1", "routes[0]", "", "no such thing")
    found = states((part(0), part(1)), refusal)
    assert found["blue"] == (states((part(0),))["blue"][0], "Refused")
    assert found["red"][1] == ""
    refusal = Refusal("network", "a/red", "vni", "VniInUse", "no")
    assert states((), refusal)["red"][1] == "VniInUse"
