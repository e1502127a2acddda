# SPDX-License-Identifier: Apache-2.0
"""Objects as release 0.2 stored them, as this release means them, and compiled ones back. Pure."""

from collections.abc import Callable, Mapping

from pydantic import JsonValue

from headrace_api import (
    API_VERSION,
    DataplaneConfig,
    Json,
    Slice,
    SliceType,
    VirtualNetwork,
    network_of,
)
from headrace_api.raw import items, mapping, part

_ROUTE_SLICE = "RouteSlice"


def converted(item: Json) -> Json:
    """The object as this release has it; the same one where that is no other.

    What is not as 0.2 had it stays as it is: the models say what is wrong with it.
    """
    if item.get("apiVersion", API_VERSION) != API_VERSION:
        return item
    kind = str(item.get("kind"))
    change = _CHANGES.get(kind)
    spec = part(item, "spec")
    if change is None or not spec:
        return item
    new = {**item, **_COMPILED.get(kind, {}), "spec": change(spec)}
    return item if new == item else new


def reverted(item: Json) -> Json | None:
    """The compiled object as 0.2 has it; None: it has no such one."""
    spec = part(item, "spec")
    if item["kind"] == DataplaneConfig.kind_name():
        return {**item, "apiVersion": API_VERSION, "spec": _former_config(spec)}
    if spec.get("type") != SliceType.ROUTES:
        return None
    return {
        **item,
        "apiVersion": API_VERSION,
        "kind": _ROUTE_SLICE,
        "spec": {
            "network": network_of(spec),
            "vni": spec.get("vni"),
            "routes": spec.get("entries", []),
        },
    }


def _interface(spec: Json) -> Json:
    """`pipelineName` is `pipelineRef`, as networkRef is."""
    new = {name: value for name, value in spec.items() if name != "pipelineName"}
    if "pipelineName" in spec:
        new.setdefault("pipelineRef", {"name": spec["pipelineName"]})
    return _attached(new)


def _network(spec: Json) -> Json:
    """A route's `blackhole` is an `action`."""
    return _each(spec, "routes", _route)


def _route(route: Json) -> Json:
    new = {name: value for name, value in route.items() if name != "blackhole"}
    return {**new, "action": "Drop"} if route.get("blackhole") is True else new


def _pipeline(spec: Json) -> Json:
    """What selected all by being absent does so by being empty; there may be several prefixes."""
    new: Json = {"nodeSelector": {}, **spec}
    new.pop("numa", None)
    if "underlayPrefix" in new:
        prefix = new.pop("underlayPrefix")
        new.setdefault("underlayPrefixes", [prefix])
    new = _each(new, "devices", lambda device: {"namespaceSelector": {}, **_typed(device)})
    return _each(new, "uplinks", _uplink)


def _uplink(uplink: Json) -> Json:
    return _each(_attached(uplink), "nodeOverrides", _attached)


def _endpoint(spec: Json) -> Json:
    """As a Pipeline's selectors."""
    return {"networkSelector": {}, **spec}


def _config(spec: Json) -> Json:
    """It has all prefixes of its Pipeline."""
    new = {name: value for name, value in spec.items() if name != "pipelinePrefix"}
    if "pipelinePrefix" in spec:
        new.setdefault("pipelinePrefixes", [spec["pipelinePrefix"]])
    return _each(_each(new, "interfaces", _attached), "uplinks", _attached)


def _former_config(spec: Json) -> Json:
    new = {name: value for name, value in spec.items() if name != "pipelinePrefixes"}
    if prefixes := items(spec.get("pipelinePrefixes")):
        new["pipelinePrefix"] = prefixes[0]
    for name in ("interfaces", "uplinks"):
        new = _each(new, name, _former_port)
    return new


def _former_port(port: Json) -> Json:
    """Without a function's number, which 0.2 has no field for: it attaches none by its resource."""
    known = {name: value for name, value in port.items() if name != "function"}
    return _attached(known, "Discard", "Null")


def _route_slice(spec: Json) -> Json:
    """It is a Slice, of its network."""
    namespace, _, name = str(spec.get("network")).partition("/")
    return {
        "type": SliceType.ROUTES.value,
        "owner": {"kind": VirtualNetwork.kind_name(), "namespace": namespace, "name": name},
        **({"vni": spec["vni"]} if "vni" in spec else {}),
        "entries": spec.get("routes", []),
    }


def _attached(holder: Json, before: str = "Null", after: str = "Discard") -> Json:
    """The type "Null", which YAML takes for nothing without quotes, is Discard."""
    if "attachment" not in holder:
        return holder
    return {**holder, "attachment": _typed(part(holder, "attachment"), before, after)}


def _typed(attachment: Json, before: str = "Null", after: str = "Discard") -> Json:
    return {**attachment, "type": after} if attachment.get("type") == before else attachment


def _each(spec: Json, name: str, change: Callable[[Json], Json]) -> Json:
    """The spec with every item of a list changed."""
    if name not in spec:
        return spec
    found: list[JsonValue] = [change(mapping(each)) for each in items(spec[name])]
    return {**spec, name: found}


_CHANGES: Mapping[str, Callable[[Json], Json]] = {
    "Interface": _interface,
    "VirtualNetwork": _network,
    "Pipeline": _pipeline,
    "UnderlayEndpoint": _endpoint,
    "DataplaneConfig": _config,
    _ROUTE_SLICE: _route_slice,
}
#: Compiled kinds are in a group of their own.
_COMPILED: Mapping[str, Json] = {
    "DataplaneConfig": {"apiVersion": DataplaneConfig.version()},
    _ROUTE_SLICE: {"apiVersion": Slice.version(), "kind": Slice.kind_name()},
}
