# SPDX-License-Identifier: Apache-2.0
"""Objects of the release before as this release means them."""

from typing import Any

import pytest

from headrace_api import Pipeline, UnderlayEndpoint, VirtualNetwork
from headrace_operator.upgrade.convert import Converted, convert, endpoint_name


def pipeline(**spec: Any) -> dict[str, Any]:
    spec = {"underlayPrefix": "fd00:1::/48", "workers": {"count": 1}, **spec}
    return {"kind": "Pipeline", "metadata": {"name": "router", "uid": "u"}, "spec": spec}


def interface(name: str, kind: str, **attachment: Any) -> dict[str, Any]:
    return {
        "kind": "Interface",
        "metadata": {"name": name, "namespace": "blue"},
        "spec": {"pipelineName": "router", "attachment": {"type": kind, **attachment}},
    }


def network(*hops: dict[str, Any], namespace: str = "blue") -> dict[str, Any]:
    return {
        "kind": "VirtualNetwork",
        "metadata": {"name": "net", "namespace": namespace, "labels": {"a": "b"}},
        "spec": {
            "subnets": [{"prefix": "10.0.0.0/24"}],
            "routes": [
                {"prefix": "10.1.0.0/16", "blackhole": True},
                {"prefix": "0.0.0.0/0", "nextHops": [*hops]},
            ],
        },
    }


def devices(*interfaces: dict[str, Any], **spec: Any) -> Any:
    made = convert([pipeline(**spec)], [], interfaces, devices=True, endpoints=True)
    (found,) = made.changed
    # As the API has it now.
    Pipeline.model_validate(found)
    assert found["metadata"] == {"name": "router"}
    whole: Any = found["spec"]
    assert whole["allowedNamespaces"] == {}
    assert "attachmentTypes" not in whole
    return whole["devices"]


def test_types_become_devices_that_name_what_they_allowed() -> None:
    used = (
        interface("a", "AFPacket", afPacket={"deviceName": "eth0"}),
        interface("b", "AFPacket", afPacket={"deviceName": "veth1"}),
        interface("c", "Pcap", pcap={"receiveFile": "/srv/in/a.pcap"}),
        interface("d", "Pcap", pcap={"transmitFile": "/srv/out/a.pcap"}),
    )
    assert devices(*used, attachmentTypes=["AFPacket", "Pcap", "SRIOV", "Memif", "Null"]) == [
        # No wildcard stands for eth0, and an Interface has it.
        {"name": "afpacket", "type": "AFPacket", "deviceNames": ["*", "eth0"]},
        {"name": "pcap", "type": "Pcap", "directory": "/srv/in"},
        {"name": "pcap-2", "type": "Pcap", "directory": "/srv/out"},
        {"name": "sriov", "type": "SRIOV", "pciAddresses": ["*"]},
        {"name": "memif", "type": "Memif"},
    ]


def test_a_pipeline_that_did_not_say_allowed_the_defaults() -> None:
    assert {each["type"] for each in devices()} == {"Tap", "AFPacket", "Memif", "SRIOV", "Pod"}
    assert devices(attachmentTypes=["Null"]) == []


def routes(made: Converted) -> Any:
    (found,) = made.changed
    spec: Any = found["spec"]
    return spec["routes"]


def test_addresses_outside_become_endpoints_of_who_uses_them() -> None:
    hop = {"underlayAddress": "2001:db8::1", "weight": 3}
    blue, red = network(hop), network(hop, namespace="red")
    made = convert([pipeline()], [blue, red], [], devices=False, endpoints=True)
    (endpoint,) = made.endpoints
    UnderlayEndpoint.model_validate(endpoint)
    VirtualNetwork.model_validate(made.changed[0])
    spec: Any = endpoint["spec"]
    assert spec["address"] == "2001:db8::1"
    assert spec["encapsulation"] == {"type": "IPInIPv6"}
    assert spec["namespaceSelector"]["matchExpressions"][0]["values"] == ["blue", "red"]
    name = "underlay-2001-0db8-0000-0000-0000-0000-0000-0001"
    assert endpoint["metadata"] == {"name": name}
    assert len(made.changed) == 2
    assert routes(convert([pipeline()], [blue], [], devices=False, endpoints=True)) == [
        {"prefix": "10.1.0.0/16", "blackhole": True},
        {"prefix": "0.0.0.0/0", "nextHops": [{"endpointRef": {"name": name}, "weight": 3}]},
    ]


@pytest.mark.parametrize("others", [(), ({"interfaceRef": {"name": "vm1"}},)])
def test_an_address_of_a_node_is_taken_out(others: tuple[dict[str, Any], ...]) -> None:
    """It named an Interface of whatever network."""
    made = convert(
        [pipeline()],
        [network({"underlayAddress": "fd00:1:0:1::2"}, *others)],
        [],
        devices=False,
        endpoints=True,
    )
    assert not made.endpoints
    wanted = [{"prefix": "10.1.0.0/16", "blackhole": True}]
    wanted += [{"prefix": "0.0.0.0/0", "nextHops": [*others]}] if others else []
    assert routes(made) == wanted
    assert (
        "VirtualNetwork blue/net: route 0.0.0.0/0: next hop fd00:1:0:1::2 is taken out"
        in (made.notes[0])
    )
    assert len(made.notes) == 2 - len(others)


def test_what_is_new_already_stays() -> None:
    there = network({"interfaceRef": {"name": "vm1"}})
    assert convert([pipeline()], [there], [], devices=False, endpoints=True) == Converted()


def test_names_of_endpoints_end_with_a_letter_or_digit() -> None:
    assert endpoint_name("fd00::") == "underlay-fd00-0000-0000-0000-0000-0000-0000-0000"
