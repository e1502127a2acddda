# SPDX-License-Identifier: Apache-2.0
"""Rules of the API models."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, JsonValue, TypeAdapter, ValidationError

from headrace_api import DataplaneConfig, Interface, Json, Pipeline, VirtualNetwork
from headrace_api.types import (
    GatewayAddress,
    LinkAddress,
    MacAddress,
    NodePool,
    Prefix,
    SubnetPrefix,
    TenantAddress,
    TenantPrefix,
    UnderlayAddress,
)


def parse(kind: Any, text: object) -> str:
    found: str = TypeAdapter(kind).validate_python(text)
    return found


@pytest.mark.parametrize(
    ("kind", "text", "canonical"),
    [
        (TenantAddress, "10.0.0.5", "10.0.0.5"),
        (TenantAddress, "2001:DB8:0:0::05", "2001:db8::5"),
        (UnderlayAddress, "FD80::1", "fd80::1"),
        (LinkAddress, "FE80::1", "fe80::1"),
        (GatewayAddress, "FE80::1", "fe80::1"),
        (Prefix, "0.0.0.0/0", "0.0.0.0/0"),
        (TenantPrefix, "2001:DB8:0::/48", "2001:db8::/48"),
        (NodePool, "fd00:1::/64", "fd00:1::/64"),
        (MacAddress, "02-AB-cd-00-00-01", "02:ab:cd:00:00:01"),
    ],
)
def test_values_are_kept_in_canonical_form(kind: Any, text: str, canonical: str) -> None:
    assert parse(kind, text) == canonical
    assert parse(kind, canonical) == canonical


@pytest.mark.parametrize(
    ("kind", "text", "words"),
    [
        (TenantAddress, "10.0.0", "IPv4 or IPv6 address"),
        (TenantAddress, "10.0.0.5/24", "without a prefix length"),
        (TenantAddress, "fe80::1", "link-local"),
        (TenantAddress, "224.0.0.1", "multicast"),
        (TenantAddress, "240.0.0.1", "class E"),
        (TenantAddress, "febf::1", "link-local"),
        (UnderlayAddress, "fe80::1", "link-local"),
        (LinkAddress, "192.0.2.1", "the underlay is IPv6"),
        (SubnetPrefix, "0.0.0.0/7", "at least 8 for IPv4"),
        (SubnetPrefix, "fd00::/15", "at least 16 for IPv6"),
        (SubnetPrefix, "::/64", "must not overlap ::/80"),
        (NodePool, "::/48", "must not overlap ::/80"),
        (TenantAddress, "::ffff:10.0.0.1", "IPv4-mapped"),
        (TenantAddress, "fd00::1%eth0", "zone"),
        (TenantAddress, 10.5, "in quotes"),
        (UnderlayAddress, "10.0.0.1", "the underlay is IPv6"),
        (Prefix, "10.0.0.5/24", "the prefix is 10.0.0.0/24"),
        (Prefix, "2001:db8::1/64", "the prefix is 2001:db8::/64"),
        (Prefix, "10.0.0.0", "with its length"),
        (Prefix, "10.0.0.0/255.0.0.0", "with its length"),
        (Prefix, "10.0.0.0/33", "at most 32"),
        (TenantPrefix, "224.0.0.0/8", "multicast"),
        (NodePool, "fd00::/65", "length 64 or less"),
        (NodePool, "10.0.0.0/8", "IPv6 prefix"),
        (MacAddress, "01:00:00:00:00:01", "unicast"),
        (MacAddress, "02:00:00:00:00", "MAC address"),
    ],
)
def test_a_wrong_value_says_what_is_right(kind: Any, text: object, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        parse(kind, text)


@given(st.ip_addresses(v=4), st.integers(0, 32))
def test_a_prefix_with_host_bits_names_the_prefix(address: object, length: int) -> None:
    text = f"{address}/{length}"
    try:
        assert parse(Prefix, text) == text
    except ValidationError as error:
        right = error.errors()[0]["msg"].rpartition(" ")[2]
        assert right.endswith(f"/{length}")
        assert parse(Prefix, right) == right


def errors(model: type[BaseModel], spec: object) -> list[tuple[str, str]]:
    try:
        model.model_validate({"metadata": {"name": "a", "namespace": "b"}, "spec": spec})
    except ValidationError as error:
        return [
            (detail["ctx"]["field"], detail["msg"])
            for detail in error.errors()
            if detail["type"] == "rule"
        ]
    return []


def network(**spec: object) -> object:
    return {"subnets": [{"prefix": "10.0.0.0/24"}], **spec}


@pytest.mark.parametrize(
    ("spec", "field", "words"),
    [
        (
            network(subnets=[{"prefix": "10.0.0.0/8"}, {"prefix": "10.1.0.0/16"}]),
            "subnets[1].prefix",
            "10.1.0.0/16 overlaps 10.0.0.0/8 of subnets[0]",
        ),
        (network(subnets=[{"prefix": "10.0.0.0/24", "gateway": "10.0.1.1"}]), "gateway", "not in"),
        (network(subnets=[{"prefix": "10.0.0.0/24", "gateway": "10.0.0.0"}]), "gateway", "network"),
        (network(routes=[{"prefix": "::/0"}]), "nextHops", "required with action Forward"),
        (
            network(
                routes=[
                    {
                        "prefix": "::/0",
                        "action": "Drop",
                        "nextHops": [{"interfaceRef": {"name": "a"}}],
                    }
                ]
            ),
            "nextHops",
            "not allowed with action Drop",
        ),
        (
            network(routes=[{"prefix": "::/0", "action": "Drop"}] * 2),
            "routes[1].prefix",
            "routed already by routes[0]",
        ),
        (
            network(routes=[{"prefix": "::/0", "nextHops": [{"weight": 2}]}]),
            "",
            "exactly one of interfaceRef, endpointRef and networkRef",
        ),
        (
            network(routes=[{"prefix": "::/0", "nextHops": [{"networkRef": {"name": "a"}}]}]),
            "spec.routes[0].nextHops[0].networkRef.name",
            "another network",
        ),
    ],
)
def test_rules_of_virtual_networks(spec: object, field: str, words: str) -> None:
    found = errors(VirtualNetwork, spec)
    assert [where for where, _ in found] == [field]
    assert words in found[0][1]


def test_a_gateway_has_a_default() -> None:
    subnets = [
        {"prefix": "10.0.0.0/24"},
        {"prefix": "2001:db8::/64", "gateway": "2001:db8::ff"},
        {"prefix": "10.9.0.1/32"},
    ]
    item = VirtualNetwork.model_validate(
        {"metadata": {"name": "a", "namespace": "b"}, "spec": {"subnets": subnets}}
    )
    gateways = [subnet.gateway_address for subnet in item.spec.subnets]
    assert gateways == ["10.0.0.1", "2001:db8::ff", "10.9.0.1"]


def endpoint(**attachment: object) -> dict[str, object]:
    return {
        "networkRef": {"name": "blue"},
        "pipelineRef": {"name": "router"},
        "nodeName": "node-a",
        "attachment": attachment,
    }


@pytest.mark.parametrize(
    ("attachment", "field", "words"),
    [
        ({"type": "Tap"}, "tap", "required when type is Tap"),
        (
            {"type": "AFXDP", "afPacket": {"deviceName": "a"}},
            "afXDP",
            "required when type is AFXDP",
        ),
        (
            {"type": "Discard", "tap": {"deviceName": "a"}},
            "tap",
            "not allowed when type is Discard",
        ),
        ({"type": "SRIOV", "sriov": {}}, "", "exactly one of pciAddress and resourceName"),
        ({"type": "Pcap", "pcap": {}}, "", "at least one of receiveFile and transmitFile"),
    ],
)
def test_an_attachment_has_the_member_of_its_type(
    attachment: dict[str, object], field: str, words: str
) -> None:
    found = errors(Interface, endpoint(**attachment))
    assert [where for where, _ in found] == [field]
    assert words in found[0][1]


def test_a_pipeline_has_defaults() -> None:
    spec = {
        "underlayPrefixes": ["fd00:1::/48"],
        "uplinks": [{"name": "up", "attachment": {"type": "Discard"}}],
    }
    item = Pipeline.model_validate({"metadata": {"name": "router"}, "spec": spec})
    assert item.spec.workers.to_dict() == {
        "count": 1,
        "idlePolicy": "Adaptive",
        "shareControlCore": False,
        "burst": 64,
    }
    assert (item.spec.devices, item.spec.allowed_namespaces) == (None, None)
    assert item.spec.uplinks[0].mtu == 1500
    assert item.key == "router"


def test_objects_round_trip_and_are_frozen() -> None:
    spec = endpoint(type="AFXDP", afXDP={"deviceName": "eth1"})
    item = Interface.model_validate({"metadata": {"name": "a", "namespace": "b"}, "spec": spec})
    assert Interface.model_validate(item.to_dict()) == item
    assert item.spec.attachment.to_dict() == {"type": "AFXDP", "afXDP": {"deviceName": "eth1"}}
    with pytest.raises(ValidationError, match="frozen"):
        item.kind = "Other"  # type: ignore[misc]


def test_a_status_of_a_newer_release_is_read_and_a_spec_is_not() -> None:
    manifest: dict[str, Any] = {
        "metadata": {"name": "a", "namespace": "b", "managedFields": []},
        "spec": endpoint(type="Discard"),
        "status": {"underlayAddress": "fd00::2", "newer": 1},
    }
    status = Interface.model_validate(manifest).status
    assert status is not None
    assert status.underlay_address == "fd00::2"
    manifest["spec"] = {**manifest["spec"], "newer": 1}
    with pytest.raises(ValidationError, match="newer"):
        Interface.model_validate(manifest)


def newer(value: JsonValue) -> JsonValue:
    """The same with a field in every mapping that this release does not know."""
    if isinstance(value, dict):
        return {**{name: newer(each) for name, each in value.items()}, "ofANewerRelease": 1}
    return [newer(each) for each in value] if isinstance(value, list) else value


def test_what_a_newer_release_compiled_is_read() -> None:
    config: Json = {
        "metadata": {"name": "main.node-a"},
        "spec": {
            "pipelineName": "main",
            "nodeName": "node-a",
            "workers": {"count": 2},
            "underlayPrefix": "fd00:1:0:1::/64",
            "underlayAddress": "fd00:1:0:1::1",
            "uplinks": [
                {
                    "name": "up",
                    "attachment": {"type": "Tap", "tap": {"deviceName": "up"}},
                    "mtu": 1500,
                    "addresses": ["fd00:1:0:1::1"],
                    "onLinkPrefixes": ["fd00:1::/48"],
                    "neighbors": [{"address": "fe80::1", "macAddress": "02:00:00:00:00:01"}],
                }
            ],
        },
    }
    assert DataplaneConfig.read(newer(config)) == DataplaneConfig.model_validate(config)
    with pytest.raises(ValidationError):
        DataplaneConfig.model_validate(newer(config))
