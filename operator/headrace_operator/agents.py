# SPDX-License-Identifier: Apache-2.0
"""What agents say of their nodes, as far as it is about what their DataplaneConfigs hold now.

A report is about the generation that it names. What has not changed since that generation it is
about as well, so a neighbour's change takes nobody's word away, and what has changed is not known
until the agent has seen it.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from headrace_api import Json

from . import objects
from .render import NetworkReport, Report, interface_reports, network_reports, silence
from .render.raw import items, key_of, mapping, number, part, text

#: Seconds that an agent may be behind a DataplaneConfig that goes on changing.
PATIENCE = 10.0

_NO_CONFIG = "it has no DataplaneConfig yet"
_BEHIND = "its agent has not taken the newest configuration"


@dataclass(frozen=True, slots=True)
class News:
    """Of whom an agent says something else than before, or nothing any more."""

    interfaces: frozenset[str] = frozenset()
    networks: frozenset[str] = frozenset()


@dataclass(slots=True)
class _Heard:
    """What is known of one DataplaneConfig and its agent."""

    uid: str
    generation: int
    node: str
    rest: Json
    """Of the spec, all but Interfaces and networks."""
    entries: Mapping[str, Mapping[str, Json]]
    """`interfaces` and `networks` of the spec, by key."""
    since: dict[tuple[str, str], int] = field(default_factory=dict)
    """What the agent has not seen as it is -> the generation that made it so."""
    behind: tuple[int, float] | None = None
    """The first generation that the agent has not seen, and since when."""
    interfaces: dict[str, Report] = field(default_factory=dict)
    networks: Mapping[str, NetworkReport] | None = None
    silence: str | None = _NO_CONFIG


_REST = ("", "")
_LISTS = ("interfaces", "networks")


class Agents:
    """What was heard of every DataplaneConfig. `clock` is of any steady clock, in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._heard: dict[str, _Heard] = {}

    def hear(self, key: str, config: Json | None) -> News:
        """Take note of a DataplaneConfig as it is now; None: it is gone."""
        before = self._heard.pop(key, None)
        if config is None:
            if before is None:
                return News()
            return News(*(frozenset(before.entries[name]) for name in _LISTS))
        after = self._heard[key] = _note(config, before)
        observed = number(part(config, "status").get("observedGeneration"))
        after.since = {what: since for what, since in after.since.items() if since > observed}
        if observed < objects.generation(config):
            if not after.behind or observed >= after.behind[0]:
                after.behind = observed + 1, self._clock()
        else:
            after.behind = None
        return _news(before, after)

    def interface(self, config: str, interface: str) -> Report:
        """What the agent says of an Interface."""
        heard = self._heard.get(config)
        if not heard or interface not in heard.entries["interfaces"]:
            return Report.missing("It is not in the DataplaneConfig of its node yet")
        return _of_interface(heard, interface)

    def network(self, config: str, network: str) -> NetworkReport | str:
        """What the agent says of a network; text: why nothing is known."""
        heard = self._heard.get(config)
        if not heard:
            return _NO_CONFIG
        return _of_network(heard, network)

    def silence(self, config: str) -> str | None:
        """Why the node does not forward as its Pipeline now is; None: it does."""
        heard = self._heard.get(config)
        if not heard:
            return _NO_CONFIG
        if heard.silence is None and (_REST in heard.since or self._is_late(heard)):
            return _BEHIND
        return heard.silence

    def late_in(self, config: str) -> float | None:
        """Seconds until `silence` says that the agent is late; None: it is not about to."""
        heard = self._heard.get(config)
        if not heard or not heard.behind or heard.silence is not None or _REST in heard.since:
            return None
        return max(heard.behind[1] + PATIENCE - self._clock(), 0.0)

    def _is_late(self, heard: _Heard) -> bool:
        return heard.behind is not None and self._clock() >= heard.behind[1] + PATIENCE


def _note(config: Json, before: _Heard | None) -> _Heard:
    if before and before.uid != objects.uid(config):
        before = None
    if before and before.generation == objects.generation(config):
        after = replace(before)
    else:
        after = _read(config, before)
    after.interfaces = interface_reports(config)
    after.networks = network_reports(config)
    after.silence = silence(config)
    return after


def _read(config: Json, before: _Heard | None) -> _Heard:
    spec = part(config, "spec")
    entries = {
        name: {key_of({"metadata": each}): each for each in map(mapping, items(spec.get(name)))}
        for name in _LISTS
    }
    generation = objects.generation(config)
    after = _Heard(
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


def _news(before: _Heard | None, after: _Heard) -> News:
    def changed(name: str, of: Callable[[_Heard, str], object]) -> frozenset[str]:
        known = before.entries[name] if before else {}
        found = {
            key
            for key in after.entries[name]
            if not (before and key in known) or of(before, key) != of(after, key)
        }
        return frozenset(found | (known.keys() - after.entries[name].keys()))

    return News(changed("interfaces", _of_interface), changed("networks", _of_network))


def _of_interface(heard: _Heard, interface: str) -> Report:
    report = heard.interfaces.get(interface)
    if report is None:
        return Report.missing(
            f"The agent of node {heard.node} has not reported it yet: see the Pipeline"
        )
    if ("interfaces", interface) in heard.since:
        message = "The agent has not taken the newest configuration yet"
        return replace(report, ready=None, reason="Pending", message=message)
    return report


def _of_network(heard: _Heard, network: str) -> NetworkReport | str:
    if ("networks", network) in heard.since or network not in heard.entries["networks"]:
        return _BEHIND
    if heard.networks is None:
        # Its agent cannot tell: what it has seen is in its engine, if that runs.
        return heard.silence or NetworkReport(None)
    found = heard.networks.get(network)
    return found or heard.silence or "its agent has not reported it yet"
