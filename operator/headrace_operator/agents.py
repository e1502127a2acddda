# SPDX-License-Identifier: Apache-2.0
"""What agents report of their nodes, as far as it is about what their DataplaneConfigs hold now.

A report is about the generation that it names, of the DataplaneConfig or of one of its Slices. What
has not changed since that generation it is about as well, so a neighbour's change takes nobody's
report away, and what has changed is not known until the agent has observed it.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from headrace_api import LISTS, Json, assembled, entry_key, list_of, slices_named
from headrace_api.raw import items, mapping, number, part, text

from . import objects
from .render import NetworkReport, Report, interface_reports, network_reports, not_forwarding
from .work import Work

#: Seconds that an agent may be behind a DataplaneConfig that goes on changing.
REPORT_TIMEOUT = 10.0

_NONE: Mapping[str, Json] = {}
_NO_CONFIG = "it has no DataplaneConfig yet"
_BEHIND = "its agent has not taken the newest configuration"


@dataclass(frozen=True, slots=True)
class ReportChanges:
    """Of whom an agent reports something else than before, or nothing any more."""

    interfaces: frozenset[str] = frozenset()
    networks: frozenset[str] = frozenset()


class _Revision(NamedTuple):
    """A generation of one object."""

    uid: str
    generation: int


@dataclass(slots=True)
class _Observed:
    """What is known of one DataplaneConfig with its Slices, and of its agent."""

    node: str
    rest: Json
    """Of the spec, all but Interfaces and networks, and where they are."""
    entries: Mapping[str, Mapping[str, Json]]
    """`interfaces` and `networks` of the spec, by key."""
    revisions: Mapping[str, _Revision]
    """By the Slice's name; "": of the DataplaneConfig."""
    since: dict[tuple[str, str], tuple[str, int]] = field(default_factory=dict)
    """What the agent has not observed as it is -> the object and its generation that made it so."""
    behind: dict[str, tuple[int, float]] = field(default_factory=dict)
    """Object -> its first generation that the agent has not observed, and since when."""
    interfaces: dict[str, Report] = field(default_factory=dict)
    networks: dict[str, NetworkReport] = field(default_factory=dict)
    not_forwarding: str | None = _NO_CONFIG


_REST = ("", "")
_LISTS = tuple(LISTS.values())


class Agents:
    """What was observed of every DataplaneConfig. `clock` is of any steady clock, in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._observed: dict[Work, _Observed] = {}

    def observe(
        self, work: Work, config: Json | None, slices: Mapping[str, Json] = _NONE
    ) -> ReportChanges:
        """Take note of a DataplaneConfig and its Slices (by name) as they are; None: it is gone."""
        before = self._observed.pop(work, None)
        if config is None:
            if before is None:
                return ReportChanges()
            return ReportChanges(
                interfaces=frozenset(before.entries["interfaces"]),
                networks=frozenset(before.entries["networks"]),
            )
        objects_of = {
            "": config,
            **{name: slices[name] for name in slices_named(config) if name in slices},
        }
        after = self._observed[work] = _note(config, objects_of, before)
        observed = {
            name: number(part(item, "status").get("observedGeneration"))
            for name, item in objects_of.items()
        }
        after.since = {
            what: (name, since)
            for what, (name, since) in after.since.items()
            if since > observed[name]
        }
        after.behind = {
            name: (observed[name] + 1, self._clock())
            if name not in after.behind or observed[name] >= after.behind[name][0]
            else after.behind[name]
            for name, revision in after.revisions.items()
            if observed[name] < revision.generation
        }
        return _changes(before, after)

    def is_behind(self, config: Work) -> bool:
        """Whether the agent has not observed all of it."""
        known = self._observed.get(config)
        return known is None or bool(known.behind)

    def interface(self, config: Work, interface: str) -> Report:
        """What the agent reports of an Interface."""
        known = self._observed.get(config)
        if not known or interface not in known.entries["interfaces"]:
            return Report.missing("It is not in the DataplaneConfig of its node yet")
        return _of_interface(known, interface)

    def network(self, config: Work, network: str) -> NetworkReport | str:
        """What the agent reports of a network; text: why nothing is known."""
        known = self._observed.get(config)
        if not known:
            return _NO_CONFIG
        return _of_network(known, network)

    def not_forwarding(self, config: Work) -> str | None:
        """Why the node does not forward as its Pipeline now is; None: it does."""
        known = self._observed.get(config)
        if not known:
            return _NO_CONFIG
        if known.not_forwarding is None and (_REST in known.since or self._is_late(known)):
            return _BEHIND
        return known.not_forwarding

    def late_in(self, config: Work) -> float | None:
        """Seconds until `not_forwarding` says that the agent is late; None: it is not about to."""
        known = self._observed.get(config)
        if (
            not known
            or not known.behind
            or known.not_forwarding is not None
            or _REST in known.since
        ):
            return None
        return max(_first(known) + REPORT_TIMEOUT - self._clock(), 0.0)

    def _is_late(self, known: _Observed) -> bool:
        return bool(known.behind) and self._clock() >= _first(known) + REPORT_TIMEOUT


def _first(known: _Observed) -> float:
    """Since when the agent has not observed what it has been given."""
    return min(since for _, since in known.behind.values())


def _note(config: Json, objects_of: Mapping[str, Json], before: _Observed | None) -> _Observed:
    """What is known of it now; `objects_of` are it ("") and its Slices that are there."""
    revisions = {
        name: _Revision(objects.uid(item), objects.generation(item))
        for name, item in objects_of.items()
    }
    if before and before.revisions[""].uid != revisions[""].uid:
        before = None
    whole = assembled(config, objects_of)
    if before and before.revisions == revisions:
        after = replace(before)
    else:
        after = _read(whole, objects_of, revisions, before)
    after.interfaces = interface_reports(whole)
    after.networks = network_reports(whole)
    after.not_forwarding = not_forwarding(config)
    return after


def _read(
    whole: Json,
    objects_of: Mapping[str, Json],
    revisions: Mapping[str, _Revision],
    before: _Observed | None,
) -> _Observed:
    spec = part(whole, "spec")
    entries = {
        name: {entry_key(each): mapping(each) for each in items(spec.get(name))} for name in _LISTS
    }
    where = {
        (list_of(item), entry_key(each)): name
        for name, item in objects_of.items()
        for each in items(part(item, "spec").get("entries"))
    }
    after = _Observed(
        node=text(spec.get("nodeName")),
        rest={name: value for name, value in spec.items() if name not in (*_LISTS, "slices")},
        entries=entries,
        revisions=revisions,
        behind=before.behind if before else {},
    )

    def made(what: tuple[str, str]) -> tuple[str, int]:
        """The object that has it, and its generation."""
        name = where.get(what, "")
        return name, revisions[name].generation

    if before:
        for what, (name, since) in before.since.items():
            if what == _REST or what[1] in entries[what[0]]:
                # One that was made anew counts anew.
                same = name in revisions and before.revisions[name].uid == revisions[name].uid
                after.since[what] = (name, since) if same else made(what)
    if not before or before.rest != after.rest:
        after.since[_REST] = made(_REST)
    for name in _LISTS:
        known = before.entries[name] if before else {}
        for key, entry in entries[name].items():
            if known.get(key) != entry:
                after.since[name, key] = made((name, key))
    return after


def _changes(before: _Observed | None, after: _Observed) -> ReportChanges:
    def changed(name: str, of: Callable[[_Observed, str], object]) -> frozenset[str]:
        known = before.entries[name] if before else {}
        found = {
            key
            for key in after.entries[name]
            if not (before and key in known) or of(before, key) != of(after, key)
        }
        return frozenset(found | (known.keys() - after.entries[name].keys()))

    return ReportChanges(changed("interfaces", _of_interface), changed("networks", _of_network))


def _of_interface(known: _Observed, interface: str) -> Report:
    report = known.interfaces.get(interface)
    if report is None:
        return Report.missing(
            f"The agent of node {known.node} has not reported it yet: see the Pipeline"
        )
    if ("interfaces", interface) in known.since:
        message = "The agent has not taken the newest configuration yet"
        return replace(report, ready=None, reason="Pending", message=message)
    return report


def _of_network(known: _Observed, network: str) -> NetworkReport | str:
    if ("networks", network) in known.since or network not in known.entries["networks"]:
        return _BEHIND
    found = known.networks.get(network)
    return found or known.not_forwarding or "its agent has not reported it yet"
