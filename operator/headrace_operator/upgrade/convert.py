# SPDX-License-Identifier: Apache-2.0
"""Objects as the release before stored them, as this release means them. Pure."""

import ipaddress
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from headrace_api import API_VERSION, Json
from headrace_operator import objects
from headrace_operator.render.raw import items, mapping, part, text

#: Entries of Pipeline.spec.devices.
_MOST_DEVICES = 64
#: Types whose entries name kernel devices, with the member of an attachment that names one.
_NETDEVS = {"Tap": "tap", "AFPacket": "afPacket", "AFXDP": "afXDP"}
#: Names that no wildcard stands for.
_GUARDED = ("eth0", "lo")
#: What a Pipeline of that release allowed that did not say.
_DEFAULT_TYPES = ("Tap", "AFPacket", "Memif", "Pcap", "Null", "SRIOV", "Pod")


@dataclass(frozen=True)
class Converted:
    """What is to be written, and what people should know of it."""

    endpoints: tuple[Json, ...] = ()
    """UnderlayEndpoints, to be made."""
    changed: tuple[Json, ...] = ()
    """Pipelines and VirtualNetworks with their new spec."""
    notes: tuple[str, ...] = ()
    """A line each, naming the object."""


@dataclass
class _Result:
    users: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Underlay address -> namespaces whose networks lead there."""
    notes: list[str] = field(default_factory=list)


def convert(
    pipelines: Iterable[Json],
    networks: Iterable[Json],
    interfaces: Iterable[Json],
    *,
    devices: bool,
    endpoints: bool,
) -> Converted:
    """Convert raw objects.

    `devices` where Pipelines have attachmentTypes until now, `endpoints` where next hops of
    VirtualNetworks have underlayAddress.
    """
    pipelines, interfaces = [*pipelines], [*interfaces]
    result = _Result()
    changed: list[Json] = []
    if devices:
        changed += [_pipeline(raw, interfaces, result) for raw in pipelines]
    if endpoints:
        prefixes = [_prefix(part(raw, "spec").get("underlayPrefix")) for raw in pipelines]
        ranges = [prefix for prefix in prefixes if prefix is not None]
        changed += [new for raw in networks if (new := _network(raw, ranges, result))]
    made = [_endpoint(address, names) for address, names in sorted(result.users.items())]
    return Converted(tuple(made), tuple(changed), tuple(result.notes))


def endpoint_name(address: str) -> str:
    """Name of the UnderlayEndpoint for an address."""
    return f"underlay-{ipaddress.IPv6Address(address).exploded.replace(':', '-')}"


def _with_spec(raw: Json, spec: Json) -> Json:
    metadata = part(raw, "metadata")
    names = ("name", "namespace")
    return {
        "apiVersion": API_VERSION,
        "kind": raw["kind"],
        "metadata": {name: metadata[name] for name in names if name in metadata},
        "spec": spec,
    }


# Pipelines: attachmentTypes


def _pipeline(raw: Json, interfaces: Iterable[Json], result: _Result) -> Json:
    """The Pipeline with devices for what its types allowed, and open to all namespaces."""
    name = objects.key(raw)
    spec = dict(part(raw, "spec"))
    types = [text(each) for each in items(spec.pop("attachmentTypes", None))] or [*_DEFAULT_TYPES]
    attachments = [
        part(item, "spec", "attachment")
        for item in interfaces
        if part(item, "spec").get("pipelineName") == name
    ]
    entries: list[Json] = []
    for kind in types:
        entries += _devices(kind, [each for each in attachments if each.get("type") == kind])
    if len(entries) > _MOST_DEVICES:
        left = [text(entry["name"]) for entry in entries[_MOST_DEVICES:]]
        result.notes.append(f"Pipeline {name}: more than {_MOST_DEVICES} devices; without {left}")
    spec["devices"] = [*entries[:_MOST_DEVICES]]
    spec.setdefault("allowedNamespaces", {})
    result.notes.append(
        f"Pipeline {name}: attachmentTypes became devices, for Interfaces of all namespaces as "
        "before; narrow devices and allowedNamespaces"
    )
    return _with_spec(raw, spec)


def _devices(kind: str, attachments: Iterable[Mapping[str, object]]) -> list[Json]:
    name = kind.lower()
    if kind == "Null":
        return []
    if kind in _NETDEVS:
        used = {_member(each, _NETDEVS[kind], "deviceName") for each in attachments}
        return [
            {"name": name, "type": kind, "deviceNames": ["*", *sorted(used & {*_GUARDED})]},
        ]
    if kind == "SRIOV":
        return [{"name": name, "type": kind, "pciAddresses": ["*"]}]
    if kind == "Pcap":
        files = (
            _member(each, "pcap", side)
            for each in attachments
            for side in ("receiveFile", "transmitFile")
        )
        folders = sorted({file.rpartition("/")[0] for file in files} - {""})
        numbers = (name, *(f"{name}-{number}" for number in range(2, len(folders) + 1)))
        return [
            {"name": called, "type": kind, "directory": folder}
            for called, folder in zip(numbers, folders, strict=False)
        ]
    return [{"name": name, "type": kind}]


def _member(attachment: Mapping[str, object], member: str, name: str) -> str:
    found = attachment.get(member)
    value = found.get(name) if isinstance(found, dict) else None
    return value if isinstance(value, str) else ""


# VirtualNetworks: underlayAddress


def _network(raw: Json, ranges: Iterable[ipaddress.IPv6Network], result: _Result) -> Json | None:
    """The network with references to UnderlayEndpoints; None: it leads to no underlay address."""
    ranges = [*ranges]
    key = objects.key(raw)
    spec = dict(part(raw, "spec"))
    changed = False
    routes: list[Json] = []
    for route in map(mapping, items(spec.get("routes"))):
        hops: list[Json] = []
        for hop in map(mapping, items(route.get("nextHops"))):
            address = text(hop.get("underlayAddress"))
            if not address:
                hops.append(hop)
                continue
            changed = True
            inside = next((each for each in ranges if _in(address, each)), None)
            if inside is not None:
                result.notes.append(
                    f"VirtualNetwork {key}: route {route.get('prefix')}: next hop {address} is "
                    f"taken out: it is inside {inside}, which a Pipeline's nodes have; name an "
                    "Interface or a network"
                )
                continue
            result.users[address].add(key.partition("/")[0])
            rest = {name: value for name, value in hop.items() if name != "underlayAddress"}
            hops.append({"endpointRef": {"name": endpoint_name(address)}, **rest})
        if hops or "nextHops" not in route:
            routes.append({**route, "nextHops": [*hops]} if hops else route)
        else:
            result.notes.append(
                f"VirtualNetwork {key}: route {route.get('prefix')} is left out: it has no next "
                "hop any more"
            )
    if not changed:
        return None
    spec["routes"] = [*routes]
    return _with_spec(raw, spec)


def _endpoint(address: str, namespaces: Iterable[str]) -> Json:
    """The endpoint, for all networks of the namespaces that lead there."""
    return {
        "apiVersion": API_VERSION,
        "kind": "UnderlayEndpoint",
        "metadata": {"name": endpoint_name(address)},
        "spec": {
            "address": address,
            "encapsulation": {"type": "IPInIPv6"},
            "networkSelector": {},
            "namespaceSelector": {
                "matchExpressions": [
                    {
                        "key": "kubernetes.io/metadata.name",
                        "operator": "In",
                        "values": [*sorted(namespaces)],
                    }
                ]
            },
        },
    }


def _prefix(value: object) -> ipaddress.IPv6Network | None:
    try:
        return ipaddress.IPv6Network(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _in(address: str, prefix: ipaddress.IPv6Network) -> bool:
    try:
        return ipaddress.IPv6Address(address) in prefix
    except ValueError:
        return False
