# SPDX-License-Identifier: Apache-2.0
"""What a runtime asks is understood or refused with the CNI's codes, and results are its words."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_dataplane.node.cni import VERSIONS, CNIError, Code, parse, result
from headrace_dataplane.node.links import Device, Endpoint, Owner

CAPABILITY = "io.kubernetes.cri.pod-annotations"
CONFIG = {"cniVersion": "1.0.0", "name": "pods", "type": "headrace-cni"}
VARIABLES = {
    "CNI_COMMAND": "ADD",
    "CNI_CONTAINERID": "c1",
    "CNI_NETNS": "/run/netns/x",
    "CNI_IFNAME": "eth0",
    "CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAME=web;K8S_POD_NAMESPACE=shop",
}
DEVICE = Device(
    Endpoint(
        host="hr0123456789ab",
        name="net1",
        mac=None,
        mtu=1400,
        addresses=("10.0.0.5/32", "fd00:10::5/128"),
        routes=(("10.0.0.0/24", "10.0.0.1"),),
    ),
    host_mac="02:00:00:00:00:01",
    mac="02:00:00:00:00:02",
)


def message(config: object = CONFIG, **variables: str) -> bytes:
    head = "".join(f"{name}={value}\0" for name, value in {**VARIABLES, **variables}.items())
    stdin = config if isinstance(config, bytes) else json.dumps(config).encode()
    return head.encode() + b"\0" + stdin


def refusal(given: bytes) -> CNIError:
    with pytest.raises(CNIError) as caught:
        parse(given)
    return caught.value


def test_a_request_is_understood() -> None:
    request = parse(message({**CONFIG, "prevResult": {"ips": []}, "ipMasq": True}))
    assert (request.command, request.container, request.device) == ("ADD", "c1", "eth0")
    assert request.namespace == "/run/netns/x"
    assert request.arguments["K8S_POD_NAME"] == "web"
    assert request.arguments["K8S_POD_NAMESPACE"] == "shop"
    assert request.config.timeout_seconds == 50
    assert request.config.previous == {"ips": []}
    assert request.config.in_use is None


@pytest.mark.parametrize(
    ("given", "annotations"),
    [
        ({}, None),
        ({"runtimeConfig": None}, None),
        ({"runtimeConfig": {"portMappings": []}}, None),
        # As containerd says that there are none.
        ({"runtimeConfig": {CAPABILITY: None}}, {}),
        ({"runtimeConfig": {CAPABILITY: {}}}, {}),
        ({"runtimeConfig": {CAPABILITY: {"a": "b"}, "portMappings": []}}, {"a": "b"}),
    ],
)
def test_no_annotations_are_not_those_that_the_runtime_does_not_give(
    given: Any, annotations: dict[str, str] | None
) -> None:
    assert parse(message({**CONFIG, **given})).config.pod_annotations == annotations


ONE, TWO = ([{"containerID": name, "ifname": "eth0", "other": 1}] for name in ("c1", "c2"))


@pytest.mark.parametrize(
    ("lists", "in_use"),
    [
        ({"cni.dev/valid-attachments": ONE}, {"c1"}),
        ({"cni.dev/attachments": ONE}, {"c1"}),
        ({"cni.dev/valid-attachments": ONE, "cni.dev/attachments": TWO}, {"c1", "c2"}),
        ({"cni.dev/valid-attachments": None, "cni.dev/attachments": TWO}, {"c2"}),
        ({"cni.dev/valid-attachments": []}, set()),
        ({"cni.dev/valid-attachments": None}, set()),
        ({}, None),
    ],
)
def test_what_is_in_use_is_known_by_both_names(lists: Any, in_use: set[str] | None) -> None:
    request = parse(message({**CONFIG, **lists}, CNI_COMMAND="GC"))
    assert request.config.in_use == in_use


@pytest.mark.parametrize(
    ("given", "code", "words"),
    [
        (b"", Code.INVALID_ENVIRONMENT, "CNI_COMMAND"),
        (message(CNI_COMMAND="FLY"), Code.INVALID_ENVIRONMENT, "CNI_COMMAND 'FLY'"),
        (message(CNI_CONTAINERID=""), Code.INVALID_ENVIRONMENT, "CNI_CONTAINERID"),
        (message(CNI_CONTAINERID="a b"), Code.INVALID_ENVIRONMENT, "CNI_CONTAINERID 'a b'"),
        (message(CNI_IFNAME="x" * 16), Code.INVALID_ENVIRONMENT, "CNI_IFNAME"),
        (message(b"{"), Code.DECODING_FAILURE, "not a network configuration"),
        (message(b"\xff\xfe"), Code.DECODING_FAILURE, "not a network configuration"),
        (message(b"[" * 100_000), Code.DECODING_FAILURE, "not a network configuration"),
        (message([]), Code.DECODING_FAILURE, "not a JSON object"),
        (message({"name": "pods"}), Code.INCOMPATIBLE_VERSION, "None is not one of 0.3.0"),
        (message({**CONFIG, "cniVersion": "2.0.0"}), Code.INCOMPATIBLE_VERSION, "'2.0.0'"),
        (message({**CONFIG, "cniVersion": [1]}), Code.INCOMPATIBLE_VERSION, "[1]"),
        (message({**CONFIG, "name": "a b"}), Code.INVALID_CONFIG, "name: "),
        (message({**CONFIG, "timeoutSeconds": 121}), Code.INVALID_CONFIG, "timeoutSeconds: "),
        (message({**CONFIG, "prevResult": []}), Code.INVALID_CONFIG, "prevResult: "),
        (message({**CONFIG, "prevResult": {"ips": [1]}}), Code.INVALID_CONFIG, "list of objects"),
        (message({**CONFIG, "runtimeConfig": {CAPABILITY: 1}}), Code.INVALID_CONFIG, "runtimeConf"),
    ],
)
def test_what_is_wrong_is_named(given: bytes, code: Code, words: str) -> None:
    error = refusal(given)
    assert error.code is code
    assert words in error.message
    assert error.to_dict()["code"] == int(code)


@given(st.binary(max_size=2000) | st.binary(max_size=500).map(message))
def test_garbage_is_refused_with_a_code(given: bytes) -> None:
    try:
        request = parse(given)
    except CNIError as error:
        assert error.message
        assert error.code in Code
    else:
        assert request.config.version in VERSIONS


def test_a_result_keeps_what_other_plugins_said() -> None:
    previous: Any = {
        "cniVersion": "0.4.0",
        "interfaces": [{"name": "eth0"}],
        "ips": [{"address": "10.244.0.9/24", "interface": 0}],
        "routes": [{"dst": "0.0.0.0/0"}],
        "dns": {"nameservers": ["10.96.0.10"]},
    }
    before = json.dumps(previous)
    found: Any = result("0.4.0", previous, "/run/netns/x", [DEVICE])
    assert json.dumps(previous) == before
    assert found["dns"] == previous["dns"]
    assert found["interfaces"] == [
        {"name": "eth0"},
        {"name": "hr0123456789ab", "mac": "02:00:00:00:00:01"},
        {"name": "net1", "mac": "02:00:00:00:00:02", "sandbox": "/run/netns/x"},
    ]
    assert found["ips"] == [
        {"address": "10.244.0.9/24", "interface": 0},
        {"address": "10.0.0.5/32", "interface": 2, "version": "4"},
        {"address": "fd00:10::5/128", "interface": 2, "version": "6"},
    ]
    assert found["routes"] == [{"dst": "0.0.0.0/0"}, {"dst": "10.0.0.0/24", "gw": "10.0.0.1"}]


def test_nothing_to_add_changes_nothing() -> None:
    previous: Any = {"cniVersion": "1.0.0", "ips": [{"address": "10.244.0.9/24"}]}
    assert result("1.0.0", previous, "", []) == previous
    assert result("1.1.0", None, "", []) == {"cniVersion": "1.1.0"}


def test_only_the_latest_version_knows_the_mtu() -> None:
    assert [
        result(version, None, "", [DEVICE])["interfaces"][1].get("mtu")  # type: ignore[index, union-attr]
        for version in VERSIONS
    ] == [None, None, None, None, 1400]


def test_the_mark_of_a_device_fits_the_kernel() -> None:
    owner = Owner("pods", "c" * 64, f"{'n' * 63}/{'p' * 253}")
    assert owner.alias.startswith(f"headrace.dev/cni pods {'c' * 64} {'n' * 63}/p")
    assert len(owner.alias) == 255
    assert Owner("pods", "c").alias == "headrace.dev/cni pods c"
