# SPDX-License-Identifier: Apache-2.0
"""What agents report of their nodes, as far as it is about what their DataplaneConfigs hold now.

A report is about the generation that it names. What has not changed since that generation it is
about as well, so a neighbour's change takes nobody's report away, and what has changed is not known
until the agent has observed it.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from headrace_api import Json

from . import objects
from .render import NetworkReport, Report, interface_reports, network_reports, not_forwarding
from .render.raw import items, key_of, mapping, number, part, text
from .work import Work

#: Seconds that an agent may be behind a DataplaneConfig that goes on changing.
REPORT_TIMEOUT = 10.0

_NO_CONFIG = "it has no DataplaneConfig yet"
_BEHIND = "its agent has not taken the newest configuration"


@dataclass(frozen=True, slots=True)
class ReportChanges:
    """Of whom an agent reports something else than before, or nothing any more."""

    interfaces: frozenset[str] = frozenset()
    networks: frozenset[str] = frozenset()


@dataclass(slots=True)
class _Observed:
    """What is known of one DataplaneConfig and its agent."""

    uid: str
    generation: int
    node: str
    rest: Json
    """Of the spec, all but Interfaces and networks."""
    entries: Mapping[str, Mapping[str, Json]]
    """`interfaces` and `networks` of the spec, by key."""
    since: dict[tuple[str, str], int] = field(default_factory=dict)
    """What the agent has not observed as it is -> the generation that made it so."""
    behind: tuple[int, float] | None = None
    """The first generation that the agent has not observed, and since when."""
    interfaces: dict[str, Report] = field(default_factory=dict)
    networks: Mapping[str, NetworkReport] | None = None
    not_forwarding: str | None = _NO_CONFIG


_REST = ("", "")
_LISTS = ("interfaces", "networks")


class Agents:
    """What was observed of every DataplaneConfig. `clock` is of any steady clock, in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._observed: dict[Work, _Observed] = {}

    def observe(self, work: Work, config: Json | None) -> ReportChanges:
        """Take note of a DataplaneConfig as it is now; None: it is gone."""
        before = self._observed.pop(work, None)
        if config is None:
            if before is None:
                return ReportChanges()
            return ReportChanges(*(frozenset(before.entries[name]) for name in _LISTS))
        after = self._observed[work] = _note(config, before)
        observed = number(part(config, "status").get("observedGeneration"))
        after.since = {what: since for what, since in after.since.items() if since > observed}
        if observed < objects.generation(config):
            if not after.behind or observed >= after.behind[0]:
                after.behind = observed + 1, self._clock()
        else:
            after.behind = None
        return _changes(before, after)

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
        return max(known.behind[1] + REPORT_TIMEOUT - self._clock(), 0.0)

    def _is_late(self, known: _Observed) -> bool:
        return known.behind is not None and self._clock() >= known.behind[1] + REPORT_TIMEOUT


def _note(config: Json, before: _Observed | None) -> _Observed:
    if before and before.uid != objects.uid(config):
        before = None
    if before and before.generation == objects.generation(config):
        after = replace(before)
    else:
        after = _read(config, before)
    after.interfaces = interface_reports(config)
    after.networks = network_reports(config)
    after.not_forwarding = not_forwarding(config)
    return after


def _read(config: Json, before: _Observed | None) -> _Observed:
    spec = part(config, "spec")
    entries = {
        name: {key_of({"metadata": each}): each for each in map(mapping, items(spec.get(name)))}
        for name in _LISTS
    }
    generation = objects.generation(config)
    after = _Observed(
        uid=objects.uid(config),
        generation=generation,
        node=text(spec.get("nodeName")),
        rest={name: value for name, value in spec.items() if name not in _LISTS},
        entries=entries,
        behind=before.behind if before else None,
    )
    if before:
        after.since = {
            (name, key): since
            for (name, key), since in before.since.items()
            if (name, key) == _REST or key in entries[name]
        }
    if not before or before.rest != after.rest:
        after.since[_REST] = generation
    for name in _LISTS:
        known = before.entries[name] if before else {}
        for key, entry in entries[name].items():
            if known.get(key) != entry:
                after.since[name, key] = generation
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
    if known.networks is None:
        # Its agent cannot tell: what it has observed is in its engine, if that runs.
        return known.not_forwarding or NetworkReport(None)
    found = known.networks.get(network)
    return found or known.not_forwarding or "its agent has not reported it yet"
