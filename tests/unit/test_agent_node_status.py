# SPDX-License-Identifier: Apache-2.0
from datetime import UTC, datetime
from functools import partial

from headrace_api import AGENT_FEATURES, FEATURES, NetworkState, Problem
from headrace_dataplane.node_status import node_status as node_status_at
from headrace_dataplane.protocol import Hello, Interface, Refusal
from tests.unit.test_agent_process import config

node_status = partial(node_status_at, time=datetime(2026, 1, 1, tzinfo=UTC))
HELLO = Hello(
    protocol=1, version="0.1.0", dpdk="DPDK 22.11.11", pid=1, generation=1, telemetry="/t"
)


def interface(name: str, state: str) -> Interface:
    return Interface(name=name, network="a/blue", vni=100, port=name, state=state)


def test_status_says_why_an_interface_is_not_ready() -> None:
    states = {"a/vm1": interface("a/vm1", "gone"), "a/vm2": interface("a/vm2", "up")}
    status = node_status(config(3), (), (), states, HELLO, None)
    assert [(i.name, i.ready, i.reason) for i in status.interfaces] == [
        ("vm1", False, "DeviceGone"),
        ("vm2", True, "Forwarding"),
    ]
    assert (status.observed_generation, status.conditions[0].status) == (3, "True")
    assert status.conditions[0].reason == "InterfacesNotReady"

    refused = (Refusal("port", "a/vm2", "devargs", "PrepareFailed", "no such device"),)
    status = node_status(config(3), (), refused, states, HELLO, status)
    assert (status.interfaces[1].reason, status.interfaces[1].message) == (
        "PrepareFailed",
        "no such device",
    )
    # A tenant's network is no fault of the node.
    bad = NetworkState(namespace="a", name="blue", reason="VniInUse", message="no")
    refused = (Refusal("network", "a/blue", "vni", "VniInUse", "no"),)
    up = {**states, "a/vm1": interface("a/vm1", "up")}
    status = node_status(config(3), (), refused, up, HELLO, status, (bad,))
    assert (status.conditions[0].status, status.conditions[0].reason) == (
        "True",
        "NetworksIncomplete",
    )
    assert status.networks == (bad,)
    # An Interface that cannot be read is named, there or not.
    unread = (Problem("Interface", "a", "vm9", "mtu", "NotUnderstood", "mtu: too small"),)
    status = node_status(config(3), unread, (), up, HELLO, status)
    assert [(i.name, i.ready) for i in status.interfaces][2:] == [("vm9", False)]

    refused = (Refusal("port", "uplink/uplink0", "devargs", "PrepareFailed", "no such device"),)
    status = node_status(config(3), (), refused, states, HELLO, status)
    assert (status.conditions[0].status, status.conditions[0].reason) == ("False", "Refused")
    assert "uplink/uplink0" in status.conditions[0].message


def test_a_device_that_the_node_does_not_have_is_named() -> None:
    refused = (Refusal("port", "a/vm1", "devargs", "PortFailed", "the driver refused it"),)
    status = node_status(config(3), (), refused, {}, HELLO, None, (), frozenset({"veth1"}))
    assert [(i.name, i.reason, i.message) for i in status.interfaces] == [
        ("vm1", "DeviceGone", "There is no device veth1"),
        ("vm2", "Pending", "The engine does not have it yet"),
    ]
    down = node_status(config(3), (), refused, {}, "it starts", None, (), frozenset({"veth1"}))
    assert down.interfaces[0].reason == "PortFailed"


def test_features_are_those_of_agent_and_engine() -> None:
    def features(*of_the_engine: str) -> tuple[str, ...]:
        hello = HELLO.model_copy(update={"features": of_the_engine})
        return node_status(config(3), (), (), {}, hello, None).features

    # Some the agent understands alone.
    assert features() == AGENT_FEATURES
    assert features("OfALaterEngine", "UnderlaySourceCheck") == (
        "UnderlaySourceCheck",
        *AGENT_FEATURES,
    )


def test_status_without_an_engine() -> None:
    status = node_status(config(3), (), (), {}, "out of hugepages", None)
    assert {i.reason for i in status.interfaces} == {"EngineDown"}
    assert "out of hugepages" in status.conditions[0].message
    assert status.features == FEATURES
    later = node_status(config(4), (), (), {}, "out of hugepages", status)
    assert later.conditions[0].last_transition_time == status.conditions[0].last_transition_time
