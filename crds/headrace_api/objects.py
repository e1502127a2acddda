# SPDX-License-Identifier: Apache-2.0
"""The objects that a compilation reads, and what may be wrong with one of them."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from .interface import Interface
from .namespace import Namespace
from .node import Node
from .pipeline import Pipeline
from .pod import Pod
from .underlay_endpoint import UnderlayEndpoint
from .virtual_network import VirtualNetwork

#: Anything that the compiler reads.
Object = VirtualNetwork | Interface | Pipeline | UnderlayEndpoint | Node | Pod | Namespace


@dataclass(frozen=True, slots=True)
class Objects:
    """Input of the compiler; the order within a kind has no meaning."""

    networks: tuple[VirtualNetwork, ...] = ()
    interfaces: tuple[Interface, ...] = ()
    pipelines: tuple[Pipeline, ...] = ()
    nodes: tuple[Node, ...] = ()
    pods: tuple[Pod, ...] = ()
    namespaces: tuple[Namespace, ...] = ()
    endpoints: tuple[UnderlayEndpoint, ...] = ()

    @classmethod
    def of(cls, items: Iterable[Object]) -> Self:
        """These objects, by kind."""
        found = [*items]
        return cls(
            networks=tuple(item for item in found if isinstance(item, VirtualNetwork)),
            interfaces=tuple(item for item in found if isinstance(item, Interface)),
            pipelines=tuple(item for item in found if isinstance(item, Pipeline)),
            nodes=tuple(item for item in found if isinstance(item, Node)),
            pods=tuple(item for item in found if isinstance(item, Pod)),
            namespaces=tuple(item for item in found if isinstance(item, Namespace)),
            endpoints=tuple(item for item in found if isinstance(item, UnderlayEndpoint)),
        )

    def all(self) -> tuple[Object, ...]:
        """Every object."""
        return (
            *self.namespaces,
            *self.endpoints,
            *self.networks,
            *self.interfaces,
            *self.pipelines,
            *self.nodes,
            *self.pods,
        )


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing that is wrong with one object, and what to do about it."""

    kind: str
    namespace: str
    name: str
    field: str
    """Path in YAML names, e.g. spec.subnets[0].prefix; empty when no field is at fault."""
    reason: str
    """CamelCase, as in a condition."""
    message: str
    """What is wrong and the remedy, for people."""
    source: str = ""
    """file:line, where the object came from a file."""

    def __str__(self) -> str:
        """One line: source: kind/namespace/name: field: message (reason)."""
        identity = "/".join(part for part in (self.kind, self.namespace, self.name) if part)
        parts = (part for part in (self.source, identity, self.field, self.message) if part)
        line = f"{': '.join(parts)} ({self.reason})"
        # Names of what is no object may be anything.
        return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in line)
