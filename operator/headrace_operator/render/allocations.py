# SPDX-License-Identifier: Apache-2.0
"""What a starting operator knows from the cluster of what was given out.

DataplaneConfigs and Slices are what gives values out: they win. Statuses add what is in
none of them. What they do not say of an object that is left out of its DataplaneConfig, its
devices, is taken to be what its spec names, as far as nobody else has it.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from pydantic import BaseModel, JsonValue, TypeAdapter, ValidationError

from headrace_api import NEW_FEATURES, Attachment, Json, Uplink, network_of, slice_name
from headrace_api.attachment import Vlan
from headrace_api.dataplane_config import FunctionNumber, Grant
from headrace_api.device import VlanRange
from headrace_api.raw import items, key_of, mapping, part, text
from headrace_api.slice import SLICE_ENTRIES
from headrace_api.types import (
    MacAddress,
    Name,
    NetworkKey,
    NodeName,
    Prefix,
    TenantAddress,
    UnderlayAddress,
    UnderlayPrefix,
    Vni,
)
from headrace_compiler import (
    Allocations,
    EndpointAllocation,
    FunctionAllocation,
    InterfaceAllocation,
    NetworkAllocation,
    NodeAllocation,
    Rest,
)
from headrace_compiler.addresses import (
    IDENTITY_BITS,
    NODE_HOST,
    node_number,
    underlay_host,
)
from headrace_compiler.pipeline import uplink_attachment

from .report import features

Value = TypeVar("Value")
Model = TypeVar("Model", bound=BaseModel)


def load_allocations(
    networks: Iterable[Json],
    interfaces: Iterable[Json],
    pipelines: Iterable[Json],
    configs: Iterable[Json],
    slices: Iterable[Json],
    pods: Iterable[Json] = (),
    resting: Iterable[Rest] = (),
) -> Allocations:
    """Allocations of raw objects: DataplaneConfigs and Slices win, statuses add the rest.

    Never raises: what does not parse, or is given out twice, is ignored.
    """
    loader = _Loader()
    interfaces, configs = [*interfaces], [*configs]
    compiled = [part(config, "spec") for config in configs]
    # An Interface that moved may be in the configs of both nodes: the one it names now is right.
    at = {key_of(raw): text(part(raw, "spec").get("nodeName")) for raw in pods}
    named = {key_of(raw): _place(raw, at) for raw in interfaces}
    for config in configs:
        loader.agent(part(config, "spec"), features(config))
    for spec in compiled:
        loader.node(spec)
    for spec in compiled:
        loader.compiled_interfaces(spec, lambda key, place: named.get(key) == place)
    for spec in compiled:
        loader.compiled_interfaces(spec, lambda _key, _place: True)
    for raw in slices:
        loader.slice(raw)
    for spec in compiled:
        for network in map(mapping, items(spec.get("networks"))):
            loader.network(key_of({"metadata": network}), network.get("vni"))
    for raw in networks:
        loader.network(key_of(raw), part(raw, "status").get("vni"))
    for raw in pipelines:
        loader.pipeline(raw)
    for raw in interfaces:
        loader.interface(raw)
    return loader.allocations(resting)


class _Loader:
    """Takes claims in the order of their authority; a later one that conflicts is passed over."""

    def __init__(self) -> None:
        self._taken: dict[tuple[str, ...], set[int | str]] = {}
        self._vnis: dict[str, int] = {}
        self._slices: dict[str, dict[int, tuple[str, ...]]] = {}
        self._nodes: dict[str, dict[str, NodeAllocation]] = {}
        self._interfaces: dict[str, InterfaceAllocation] = {}
        # Pipeline and VLAN -> network.
        self._vlans: dict[tuple[str, int], str] = {}
        self._unaware: dict[str, defaultdict[str, set[str]]] = defaultdict(lambda: defaultdict(set))

    def allocations(self, resting: Iterable[Rest]) -> Allocations:
        """All that was taken."""
        return Allocations.model_construct(
            networks={
                key: NetworkAllocation(vni, self._slices.get(key, {}))
                for key, vni in sorted(self._vnis.items())
            },
            nodes={
                name: dict(sorted(found.items())) for name, found in sorted(self._nodes.items())
            },
            interfaces=dict(sorted(self._interfaces.items())),
            resting=tuple(sorted(resting)),
            unaware={
                feature: {name: tuple(sorted(nodes)) for name, nodes in sorted(found.items())}
                for feature, found in sorted(self._unaware.items())
            },
        )

    # DataplaneConfigs and Slices

    def agent(self, spec: Json, understood: frozenset[str] | None) -> None:
        """What the agent of a DataplaneConfig understands."""
        name, node = (
            _parse(_NAME, spec.get("pipelineName")),
            _parse(_NODE_NAME, spec.get("nodeName")),
        )
        if not (name and node):
            return
        if understood is not None:
            for feature in {*NEW_FEATURES} - understood:
                self._unaware[feature][name].add(node)

    def node(self, spec: Json) -> None:
        """The /64 and the uplinks' devices of a DataplaneConfig."""
        devices = [
            _device(mapping(uplink).get("attachment")) for uplink in items(spec.get("uplinks"))
        ]
        self._node(spec.get("pipelineName"), spec.get("nodeName"), spec, devices)

    def compiled_interfaces(
        self, spec: Json, wanted: Callable[[str, tuple[str, str]], bool]
    ) -> None:
        """The Interfaces of a DataplaneConfig that are wanted and not known yet."""
        place = text(spec.get("pipelineName")), text(spec.get("nodeName"))
        for item in map(mapping, items(spec.get("interfaces"))):
            key = key_of({"metadata": item})
            if key not in self._interfaces and wanted(key, place):
                device = _device(item.get("attachment"), text(item.get("namespace")))
                function = _function(item)
                self._interface(
                    *(key, item.get("network"), *place, item, device, function),
                    vlan=_vlan(item.get("attachment")),
                    grant=_parse(_GRANT, item.get("grant")),
                    endpoint=_endpoint(item),
                )

    def slice(self, raw: Json) -> None:
        """The places of a Slice's routes, and its network's VNI."""
        spec = part(raw, "spec")
        network = _parse(_NETWORK_KEY, network_of(spec))
        name = text(part(raw, "metadata").get("name"))
        number = name.rpartition(".")[2]
        if network is None or not number.isdecimal() or len(number) > _SLICE_DIGITS:
            return
        if name != slice_name(network, int(number)):
            return
        self.network(network, spec.get("vni"))
        found = (
            _parse(_PREFIX, mapping(route).get("prefix")) for route in items(spec.get("entries"))
        )
        prefixes = sorted(
            prefix
            for prefix in {prefix for prefix in found if prefix}
            if self._take(("route", network), prefix)
        )
        if prefixes:
            places = self._slices.setdefault(network, {})
            places[int(number)] = tuple(prefixes[:SLICE_ENTRIES])

    # Statuses

    def network(self, key: str, vni: JsonValue) -> None:
        """The VNI of a network."""
        number = _parse(_VNI, vni)
        if key not in self._vnis and number is not None and self._take(("vni",), number):
            self._vnis[key] = number

    def pipeline(self, raw: Json) -> None:
        """The nodes in the status of a Pipeline."""
        name = part(raw, "metadata").get("name")
        uplinks = [
            uplink
            for item in items(part(raw, "spec").get("uplinks"))
            if (uplink := _model(Uplink, item))
        ]
        for item in map(mapping, items(part(raw, "status").get("nodes"))):
            node = text(item.get("name"))
            devices = [uplink_attachment(uplink, node).device() for uplink in uplinks]
            self._node(name, node, item, devices)

    def interface(self, raw: Json) -> None:
        """The addresses in the status of an Interface that no DataplaneConfig has."""
        key, spec, status = key_of(raw), part(raw, "spec"), part(raw, "status")
        node = text(status.get("nodeName")) or None
        if key in self._interfaces or not (node or items(status.get("addresses"))):
            return
        namespace = text(part(raw, "metadata").get("namespace"))
        network = f"{namespace}/{text(part(spec, 'networkRef').get('name'))}"
        pipeline = text(part(spec, "pipelineRef").get("name"))
        device = None
        if node and spec.get("nodeName") in (None, node):
            device = _device(spec.get("attachment"), namespace)
        self._interface(key, network, pipeline, node, status, device)

    # Claims

    def _node(
        self, pipeline: JsonValue, node: JsonValue, source: Json, devices: Iterable[str | None]
    ) -> None:
        name, node = _parse(_NAME, pipeline), _parse(_NODE_NAME, node)
        prefix = _parse(_UNDERLAY_PREFIX, source.get("underlayPrefix"))
        if not (name and node and prefix and prefix.endswith("/64")):
            return
        if node in self._nodes.get(name, {}) or not self._take(("node",), node_number(prefix)):
            return
        held = {device for device in devices if device and self._take(("device", node), device)}
        known = self._nodes.setdefault(name, {})
        known[node] = NodeAllocation(prefix, tuple(sorted(held)))

    def _interface(
        self,
        key: str,
        network: JsonValue,
        pipeline: str,
        node: str | None,
        source: Json,
        device: str | None,
        function: FunctionAllocation | None = None,
        vlan: int | None = None,
        grant: int | None = None,
        endpoint: EndpointAllocation | None = None,
    ) -> None:
        of = _parse(_NETWORK_KEY, network)
        if not (of and _parse(_NETWORK_KEY, key) and _parse(_NAME, pipeline)):
            return
        if node and not _parse(_NODE_NAME, node):
            return
        found = (_parse(_ADDRESS, address) for address in items(source.get("addresses")))
        addresses = [
            address for address in found if address and self._take(("address", of), address)
        ]
        space = "underlay", pipeline, node or ""
        underlay = _parse(_UNDERLAY_ADDRESS, source.get("underlayAddress"))
        if underlay and not (
            node
            # The lowest bits alone are the node's own.
            and underlay_host(underlay) & _IDENTITY > NODE_HOST
            and self._take(space, underlay_host(underlay))
        ):
            underlay = None
        if device and not (node and self._take(("device", node), device)):
            device = None
        if function and not (
            node
            and self._take(("function", pipeline, node, function.resource_name), function.number)
        ):
            function = None
        if vlan and self._vlans.setdefault((pipeline, vlan), of) != of:
            vlan = grant = None
        if addresses or underlay or device or function or vlan:
            self._interfaces[key] = InterfaceAllocation(
                network=of,
                pipeline=pipeline,
                node=node,
                underlay_address=underlay,
                addresses=tuple(addresses),
                device=device,
                function=function,
                vlan=vlan,
                grant=grant if function else None,
                endpoint=endpoint,
            )

    def _take(self, space: tuple[str, ...], value: int | str) -> bool:
        held = self._taken.setdefault(space, set())
        if value in held:
            return False
        held.add(value)
        return True


_NAME: TypeAdapter[str] = TypeAdapter(Name)
_NODE_NAME: TypeAdapter[str] = TypeAdapter(NodeName)
_NETWORK_KEY: TypeAdapter[str] = TypeAdapter(NetworkKey)
_PREFIX: TypeAdapter[str] = TypeAdapter(Prefix)
_ADDRESS: TypeAdapter[str] = TypeAdapter(TenantAddress)
_UNDERLAY_ADDRESS: TypeAdapter[str] = TypeAdapter(UnderlayAddress)
_UNDERLAY_PREFIX: TypeAdapter[str] = TypeAdapter(UnderlayPrefix)
_VNI: TypeAdapter[int] = TypeAdapter(Vni)
_FUNCTION: TypeAdapter[int] = TypeAdapter(FunctionNumber)
_GRANT: TypeAdapter[int] = TypeAdapter(Grant)
_VLAN: TypeAdapter[int] = TypeAdapter(Vlan)
_VLANS: TypeAdapter[str] = TypeAdapter(VlanRange)
_MAC: TypeAdapter[str] = TypeAdapter(MacAddress)
_IDENTITY = (1 << IDENTITY_BITS) - 1
#: Of a slice's number: no network has a million.
_SLICE_DIGITS = 6


def _parse(adapter: TypeAdapter[Value], value: JsonValue) -> Value | None:
    try:
        return adapter.validate_python(value)
    except ValidationError:
        return None


def _model(model: type[Model], value: JsonValue) -> Model | None:
    try:
        return model.model_validate(value)
    except ValidationError:
        return None


def _device(attachment: JsonValue, namespace: str = "") -> str | None:
    found = _model(Attachment, attachment)
    return found.device(namespace) if found else None


def _vlan(attachment: JsonValue) -> int | None:
    return _parse(_VLAN, part(mapping(attachment), "sriov").get("vlan"))


def _endpoint(interface: Json) -> EndpointAllocation | None:
    """What is behind the function of an Interface of a DataplaneConfig."""
    attachment = _model(Attachment, interface.get("attachment"))
    if attachment is None or attachment.endpoint is None:
        return None
    found = (_parse(_VLANS, each) for each in items(interface.get("endpointVLANs")))
    vlans = tuple(each for each in found if each is not None)
    mac = _parse(_MAC, interface.get("macAddress"))
    return EndpointAllocation(vlans, attachment.pod_name, mac)


def _function(interface: Json) -> FunctionAllocation | None:
    """What an Interface of a DataplaneConfig has of a resource."""
    attachment = _model(Attachment, interface.get("attachment"))
    number = _parse(_FUNCTION, interface.get("function"))
    if attachment is None or attachment.resource_name is None or number is None:
        return None
    return FunctionAllocation(attachment.resource_name, number)


def _place(raw: Json, pods: Mapping[str, str]) -> tuple[str, str]:
    """Pipeline and node of the Interface; `pods`: pod -> node."""
    spec = part(raw, "spec")
    node = text(spec.get("nodeName"))
    endpoint = part(spec, "attachment", "sriov", "endpoint")
    if pod := text((part(spec, "attachment", "pod") or part(endpoint, "pod")).get("name")):
        node = pods.get(f"{text(part(raw, 'metadata').get('namespace'))}/{pod}", "")
    return text(part(spec, "pipelineRef").get("name")), node
