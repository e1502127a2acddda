# SPDX-License-Identifier: Apache-2.0
"""API, compiler and engine say the same of addresses: what passes one passes the next."""

import ipaddress
import json
import subprocess
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter, ValidationError

from headrace_api import (
    Interface,
    Json,
    Node,
    Objects,
    Pipeline,
    RouteSlice,
    UnderlayEndpoint,
    UnderlayEndpointSpec,
    VirtualNetwork,
)
from headrace_api.device_policy import DevicePolicy
from headrace_api.pipeline import Uplink
from headrace_api.types import RESERVED, TenantAddress
from headrace_api.virtual_network import Route, Subnet
from headrace_cli.local import localized, snapshot
from headrace_compiler import compile as compile_all
from headrace_dataplane.engine import find_engine
from headrace_dataplane.translate import translate
from tests.specs import BAD, changed, example, slice_spec

Commit = Callable[[list[Json]], list[dict[str, str]]]
Model = TypeVar("Model", bound=BaseModel)

# Where rules begin and end, and what tenants use.
RANGES = [
    *("0.0.0.0/8", "10.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "192.0.2.0/24", "224.0.0.0/4"),
    *("240.0.0.0/4", "255.255.255.255/32", "100.64.0.0/10", "128.0.0.0/1"),
    *("::/127", "::/96", "::/80", "::/8", "64:ff9b::/96", "::ffff:0:0/96", "2001:db8::/32"),
    *("fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8"),
]


@st.composite
def addresses(draw: st.DrawFn) -> str:
    network = ipaddress.ip_network(draw(st.sampled_from(RANGES)))
    end = draw(st.sampled_from([network.network_address, network.broadcast_address]))
    number = int(end) + draw(st.integers(-3, 3) | st.integers(-70000, 70000))
    kind = type(network.network_address)
    return str(kind(number % (1 << network.max_prefixlen)))


@st.composite
def prefixes(draw: st.DrawFn) -> str:
    address = ipaddress.ip_address(draw(addresses()))
    most = address.max_prefixlen
    length = draw(st.integers(0, most) | st.sampled_from([most, most - 1, most - 2, most // 4]))
    return str(ipaddress.ip_network((address, length), strict=False))


def valid(model: type[Model], item: object) -> bool:
    try:
        model.model_validate(item)
    except ValidationError:
        return False
    return True


@st.composite
def subnets(draw: st.DrawFn) -> Json:
    item: Json = {"prefix": draw(prefixes())}
    if draw(st.booleans()):
        item["gateway"] = draw(addresses())
    return item


@st.composite
def routes(draw: st.DrawFn) -> Json:
    hops: st.SearchStrategy[Json] = st.one_of(
        st.just({"endpointRef": {"name": "edge"}}),
        st.just({"networkRef": {"name": "other"}}),
        st.just({"interfaceRef": {"name": "vm0"}}),
    )
    found: Json = {"prefix": draw(prefixes())}
    if draw(st.booleans()):
        found["nextHops"] = [*draw(st.lists(hops, min_size=1, max_size=3))]
    else:
        found["blackhole"] = True
    return found


@st.composite
def uplinks(draw: st.DrawFn) -> Json:
    found: Json = {
        "name": "uplink0",
        "attachment": {"type": "Tap", "tap": {"deviceName": "up0"}},
        "onLinkPrefixes": [*draw(st.lists(prefixes(), max_size=3))],
        "neighbors": [
            {"address": each, "macAddress": "02:00:00:00:00:01"}
            for each in draw(st.lists(addresses(), max_size=2))
        ],
    }
    if draw(st.booleans()):
        found["gateway"] = draw(addresses())
        found["weight"] = draw(st.integers(0, 101))
    return found


@st.composite
def worlds(draw: st.DrawFn) -> Objects:
    """Objects that the API takes, of parts that are often at a limit."""
    networks = []
    for name in ("other", "red"):
        parts = [each for each in draw(st.lists(subnets(), max_size=5)) if valid(Subnet, each)]
        ways = [each for each in draw(st.lists(routes(), max_size=5)) if valid(Route, each)]
        if name == "other":
            ways = []
        for spec in ({"subnets": [*parts, {"prefix": "10.0.0.0/24"}], "routes": ways},):
            item = {"metadata": {"name": name, "namespace": "red"}, "spec": spec}
            if valid(VirtualNetwork, item):
                networks.append(VirtualNetwork.model_validate(item))
    interfaces = []
    for index in range(4):
        spec = {
            "networkRef": {"name": draw(st.sampled_from(["red", "red", "other"]))},
            "pipelineRef": {"name": "router"},
            "nodeName": "node-a",
            "addresses": draw(st.sampled_from([[], [], [draw(addresses())]])),
            "prefixes": draw(st.lists(prefixes(), max_size=2)),
            "attachment": {"type": "Discard"},
        }
        item = {"metadata": {"name": f"vm{index}", "namespace": "red"}, "spec": spec}
        if valid(Interface, item):
            interfaces.append(Interface.model_validate(item))
    links = [each for each in [draw(uplinks())] if valid(Uplink, each)]
    pool = draw(prefixes() | st.just("fd00:1::/48"))
    waiting: Json = {"waitingPacketsPerNamespace": draw(st.sampled_from([1, 65_536]))}
    limits = draw(st.sampled_from([{}, waiting]))
    item = {
        "metadata": {"name": "router"},
        "spec": {"underlayPrefixes": [pool], "uplinks": links, "limits": limits},
    }
    if not valid(Pipeline, item):
        cast(dict[str, Any], item["spec"])["underlayPrefixes"] = ["fd00:1::/48"]
    node = Node.model_validate({"metadata": {"name": "node-a"}})
    edge = {
        "metadata": {"name": "edge"},
        "spec": {"address": draw(addresses()), "namespaceSelector": {}, "networkSelector": {}},
    }
    endpoints = [UnderlayEndpoint.model_validate(edge)] if valid(UnderlayEndpoint, edge) else []
    return Objects((*networks, *interfaces, Pipeline.model_validate(item), node, *endpoints))


@pytest.fixture(scope="module")
def commit() -> Iterator[Commit]:
    """What the engine's control socket answers to a commit into an empty engine."""
    program = find_engine().parent / "check_commits"
    with subprocess.Popen(
        [program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        to, back = process.stdin, process.stdout

        def ask(objects: list[Json]) -> list[dict[str, str]]:
            to.write(json.dumps(objects) + "\n")
            to.flush()
            answer: list[dict[str, str]] = json.loads(back.readline())
            return answer

        yield ask
        to.close()


@pytest.mark.engine
def test_the_engine_is_asked(commit: Commit) -> None:
    spec: Json = {"vni": 1, "gateways": ["240.0.0.1"]}
    objects: list[Json] = [{"kind": "network", "key": "a/b", "hash": "1", "spec": spec}]
    (error,) = commit(objects)
    assert (error["key"], error["field"], error["reason"]) == ("a/b", "gateways[0]", "InvalidField")
    spec["gateways"] = ["10.0.0.1"]
    assert commit(objects) == []


@pytest.mark.engine
@given(worlds())
@settings(max_examples=150, deadline=None)
def test_what_the_api_takes_the_engine_takes(commit: Commit, objects: Objects) -> None:
    compiled = compile_all(localized(objects, "node-a"))
    found = snapshot(compiled, "node-a")
    assert found is not None
    # Whatever does not forward is a problem of its own object.
    forward = {(each.namespace, each.name) for each in found.config.spec.interfaces}
    named = {(each.namespace, each.name) for each in compiled.problems if each.kind == "Interface"}
    assert {(each.metadata.namespace, each.metadata.name) for each in objects.of(Interface)} == (
        forward | named
    )
    assert not found.problems
    translation = translate(found.config, found.slices)
    assert not translation.problems
    assert commit([put.wire() for put in translation.objects]) == []


@given(addresses(), st.sampled_from(["", "exploded", "compressed"]), st.booleans())
def test_an_address_is_as_the_standard_library_writes_it(text: str, form: str, upper: bool) -> None:
    parsed = ipaddress.ip_address(text)
    given = str(getattr(parsed, form)) if form else text
    tenant: TypeAdapter[str] = TypeAdapter(TenantAddress)
    if any(parsed in ipaddress.ip_network(each) for each in RESERVED):
        with pytest.raises(ValidationError):
            tenant.validate_python(given)
    else:
        assert tenant.validate_python(given.upper() if upper else given) == str(parsed)


def test_what_nobody_can_have_is_refused() -> None:
    for prefix in ("::/64", "::/16", "::/127", "0.0.0.0/31", "0.1.0.0/16", "255.255.255.254/31"):
        assert not valid(Subnet, {"prefix": prefix}), prefix
    for prefix in ("240.1.0.0/24", "127.0.0.0/24", "224.0.0.0/8", "fe80::/64", "ff00::/16"):
        assert not valid(Subnet, {"prefix": prefix}), prefix
        assert not valid(Route, {"prefix": prefix, "action": "Drop"}), prefix
    for prefix in ("10.0.0.0/7", "fc00::/15"):
        assert not valid(Subnet, {"prefix": prefix}), prefix
        assert valid(Route, {"prefix": prefix, "action": "Drop"}), prefix
    for prefix in ("0.0.0.0/0", "0.0.0.0/1", "128.0.0.0/1", "::/0", "::/1", "64:ff9b::/96"):
        assert valid(Route, {"prefix": prefix, "action": "Drop"}), prefix
    for prefix in ("10.0.0.0/8", "10.0.0.4/31", "10.0.0.4/32", "fd00::/16", "fd00::/127"):
        assert valid(Subnet, {"prefix": prefix}), prefix
    for address in ("fe80::5", "ff02::1", "::1", "::ffff:10.0.0.1", "10.0.0.1", "fe80::1%eth0"):
        assert not valid(UnderlayEndpointSpec, {"address": address}), address


@pytest.mark.parametrize(("kind", "path", "value"), [bad[:3] for bad in BAD])
def test_what_the_api_server_refuses_the_models_refuse(kind: str, path: str, value: object) -> None:
    models: dict[str, type[BaseModel]] = {
        "VirtualNetwork": VirtualNetwork,
        "Interface": Interface,
        "Pipeline": Pipeline,
        "UnderlayEndpoint": UnderlayEndpoint,
        "DevicePolicy": DevicePolicy,
    }
    model = models[kind]
    assert valid(model, example(kind, "default"))
    assert not valid(model, changed(example(kind, "default"), path, value))


def test_the_config_that_would_hold_it_is_refused_too() -> None:
    def slice_to(hop: str) -> Json:
        route = {"prefix": "10.0.0.0/8", "nextHops": [{"underlayAddress": hop}]}
        return {
            "metadata": {"name": "a.b.0", "namespace": "x"},
            "spec": slice_spec("a/b", route),
        }

    assert valid(RouteSlice, slice_to("fd80::5"))
    assert not valid(RouteSlice, slice_to("fe80::5"))
