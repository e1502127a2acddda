# SPDX-License-Identifier: Apache-2.0
"""What comes of a flush, and words for what is wrong: a Fault is a Problem without its object."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

from headrace_api import Json, Problem

from .allocations import InterfaceAllocation, NodeAllocation
from .claims import Owner, Rest

Subject = tuple[str, str]
"""(kind, key) of an object."""


@dataclass(slots=True)
class Changes:
    """What one flush changed. None stands for something that is gone."""

    configs: dict[str, Json | None] = field(default_factory=dict)
    """DataplaneConfig objects by name."""
    slices: dict[str, Json | None] = field(default_factory=dict)
    """Slice objects by name."""
    node_states: dict[str, Json | None] = field(default_factory=dict)
    """NodeState objects by name."""
    vnis: dict[str, int | None] = field(default_factory=dict)
    """Network -> VNI."""
    nodes: dict[tuple[str, str], NodeAllocation | None] = field(default_factory=dict)
    """(Pipeline, node) -> what it has there."""
    interfaces: dict[str, InterfaceAllocation | None] = field(default_factory=dict)
    """Interface -> what it has."""
    problems: dict[Subject, tuple[Problem, ...]] = field(default_factory=dict)
    """Every object looked at again -> what is wrong with it now; empty: nothing."""
    traces: dict[Subject, str] = field(default_factory=dict)
    """Tracebacks, new ones, by the object that an unexpected exception stopped."""


class Fault(NamedTuple):
    """Field path, CamelCase reason, and a message with the remedy."""

    field: str
    reason: str
    message: str


def problem(kind: str, key: str, fault: Fault) -> Problem:
    """The Problem of an object; key is namespace/name, or name where cluster-scoped."""
    namespace, _, name = key.rpartition("/")
    return Problem(kind, namespace, name, *fault)


def taken(field: str, reason: str, what: str, holder: Owner | None) -> Fault:
    """A value that another holds."""
    return Fault(field, reason, f"{what} is in use by {holder}: choose another, or free it there")


def resting(field: str, reason: str, what: str, rest: Rest) -> Fault:
    """A value that another had a short while ago."""
    since = datetime.fromtimestamp(rest.since, UTC).strftime("%H:%M:%S")
    message = (
        f"{what} was {rest.owner}'s until {since} UTC, and nodes may still use it: it is free an"
        " hour later; choose another, or wait"
    )
    return Fault(field, reason, message)


def unexpected(error: Exception) -> Fault:
    """What this release did not expect of an object: a fault of ours, and its own problem."""
    line = " ".join(f"{type(error).__name__}: {error}".split())
    message = (
        f"this release cannot compile it: {line}: what was compiled of it before goes on; please"
        " report it, with what the log says"
    )
    return Fault("", "InternalError", message)
