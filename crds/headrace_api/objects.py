# SPDX-License-Identifier: Apache-2.0
"""The objects that a compilation reads, and what may be wrong with one of them."""

from dataclasses import dataclass
from typing import TypeVar

from .base import Resource
from .namespace import Namespace
from .node import Node
from .pod import Pod

#: Anything that the compiler reads.
Object = Resource | Node | Pod | Namespace

Kind = TypeVar("Kind", bound=Object)


@dataclass(frozen=True, slots=True)
class Objects:
    """Input of the compiler; their order has no meaning."""

    items: tuple[Object, ...] = ()

    def of(self, kind: type[Kind]) -> tuple[Kind, ...]:
        """Those of a kind."""
        return tuple(item for item in self.items if isinstance(item, kind))


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
