# SPDX-License-Identifier: Apache-2.0
"""Which functions may be opened: those that the node agent says are in their VLANs. Pure.

The order of all of it is in `headrace_dataplane.node.vlans`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, TypeVar

from pydantic import BaseModel, JsonValue, ValidationError

from headrace_api import CompiledInterface, FunctionState, Json, NodeFunction
from headrace_api.raw import items, mapping, number, part, text

VLAN_NOT_SET = "VLANNotSet"
"""Reason: the node agent has not put the function into its VLAN yet."""
_OF_ENDPOINTS = frozenset(
    {"EndpointPending", "EndpointElsewhere", "MACAddressInUse", "VLANsExhausted"}
)
"""Reasons of the node agent's that Interfaces have as they are."""

Model = TypeVar("Model", bound=BaseModel)


class Permit(Enum):
    """What may be done with a function."""

    OPEN = "open"
    KEEP = "keep"
    """An engine that has it goes on with it; no other opens it."""
    CLOSE = "close"


class Verdict(NamedTuple):
    """What may be done with a function, and why no more."""

    permit: Permit
    why: str = ""
    """For people."""
    reason: str = VLAN_NOT_SET


@dataclass(frozen=True)
class Grants:
    """What the NodeState says of functions."""

    functions: Mapping[str, tuple[NodeFunction, FunctionState]]
    """By PCI address: what is wanted, and what the node agent says of that, in this boot."""
    named: frozenset[str]
    """PCI addresses of all functions that it names, also of those that it is done with."""
    current: bool
    """Whether the node agent has seen all that is wanted."""


def read_grants(state: Json, boot_id: str) -> Grants:
    """Return what a NodeState says; what cannot be read of it is not said."""
    spec, status = part(state, "spec"), part(state, "status")
    wanted = {each.pci_address: each for each in _read(NodeFunction, spec)}
    said = {each.pci_address: each for each in _read(FunctionState, status)}
    generation = number(part(state, "metadata").get("generation"))
    # What an agent of an earlier boot has seen is undone.
    known = wanted.keys() & said.keys() if status.get("bootID") == boot_id else frozenset[str]()
    named = (text(mapping(each).get("pciAddress")) for each in _items(spec, status))
    return Grants(
        functions={address: (wanted[address], said[address]) for address in known},
        named=frozenset(named),
        current=number(status.get("observedGeneration")) == generation,
    )


def _items(*parts: Json) -> Iterator[JsonValue]:
    for each in parts:
        yield from items(each.get("functions"))


def _read(model: type[Model], of: Json) -> Iterator[Model]:
    for item in _items(of):
        try:
            yield model.model_validate(item, extra="ignore")
        except ValidationError:
            continue


def permit(interface: CompiledInterface, address: str, pod: str, grants: Grants | None) -> Verdict:
    """Return what an Interface may do with its function.

    `pod` is the one that has it, namespace/name. `grants` is None while nothing is known of the
    NodeState.
    """
    vlan, endpoint = interface.attachment.vlan, interface.attachment.endpoint
    where = f"VLAN {vlan}" if vlan else "no VLAN"
    if endpoint is not None:
        where = "a VLAN alone with its endpoint"
    if interface.grant is None:
        if vlan is not None or endpoint is not None:
            return Verdict(Permit.CLOSE, f"it is to be in {where}, and has no grant")
        if grants is not None and address in grants.named:
            return Verdict(Permit.CLOSE, f"{address} is another Interface's yet")
        return Verdict(Permit.OPEN)
    waits = f"the node agent has not said that {address} is in {where}"
    if grants is None:
        return Verdict(Permit.KEEP, f"{waits}: nothing is known of the NodeState of this node")
    wanted, said = grants.functions.get(address, (None, None))
    if (
        wanted is None
        or said is None
        or (wanted.interface, wanted.grant) != (_key(interface), interface.grant)
        or (said.interface, said.grant) != (_key(interface), interface.grant)
        or (wanted.vlan, wanted.pod) != (vlan, pod)
        or (wanted.peer is None) != (endpoint is None)
    ):
        return Verdict(Permit.CLOSE, waits)
    if said.reason in _OF_ENDPOINTS:
        return Verdict(Permit.CLOSE, said.message, said.reason)
    if not said.ready or (said.peer is None) != (endpoint is None):
        return Verdict(Permit.CLOSE, f"{waits}: {said.reason}: {said.message}")
    return Verdict(Permit.OPEN) if grants.current else Verdict(Permit.KEEP, waits)


def _key(interface: CompiledInterface) -> str:
    return f"{interface.namespace}/{interface.name}"
