# SPDX-License-Identifier: Apache-2.0
"""Objects as release 0.2 stored them, as this release means them. Pure."""

from collections.abc import Callable, Mapping

from pydantic import JsonValue

from headrace_api import Json
from headrace_operator.render.raw import items, mapping, part


def converted(item: Json) -> Json:
    """The object as this release has it; the same one where that is no other.

    What is not as 0.2 had it stays as it is: the models say what is wrong with it.
    """
    change = _CHANGES.get(str(item.get("kind")))
    spec = part(item, "spec")
    if change is None or not spec:
        return item
    new = change(spec)
    return item if new == spec else {**item, "spec": new}


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
    return _each(_each(spec, "interfaces", _attached), "uplinks", _attached)


def _attached(holder: Json) -> Json:
    """The type "Null", which YAML takes for nothing without quotes, is Discard."""
    if "attachment" not in holder:
        return holder
    return {**holder, "attachment": _typed(part(holder, "attachment"))}


def _typed(attachment: Json) -> Json:
    return {**attachment, "type": "Discard"} if attachment.get("type") == "Null" else attachment


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
}
