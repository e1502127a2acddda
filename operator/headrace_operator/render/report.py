# SPDX-License-Identifier: Apache-2.0
"""What a node's agent says of its Interfaces, read from its DataplaneConfig."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from headrace_api import Json

from .raw import generation, items, key_of, mapping, number, part, text

_REASON = re.compile(r"[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?")


@dataclass(frozen=True, slots=True)
class Report:
    """What the agent says of one Interface."""

    ready: bool | None
    """Whether it forwards; None: the agent has not said yet."""
    reason: str
    """CamelCase."""
    message: str
    """What happened, for people."""
    mac_address: str | None = None
    """MAC address of the endpoint, given or learned."""
    current: bool = True
    """Whether it is about the newest configuration; an older report tells nothing new."""

    @classmethod
    def missing(cls, message: str, reason: str = "Pending") -> Self:
        """Nothing has been said yet: `message` is why, `reason` Pending or DataplaneNotReady."""
        return cls(None, reason, message)


def is_current(config: Json) -> bool:
    """Whether the agent has reported the newest generation of its DataplaneConfig."""
    return number(part(config, "status").get("observedGeneration")) >= generation(config) > 0


def reports(config: Json) -> Mapping[str, Report]:
    """Interface (namespace/name) -> report, for every Interface of a watched DataplaneConfig.

    Reads the whole object: call it once for each event of it.
    """
    current = is_current(config)
    node = text(part(config, "spec").get("nodeName"))
    waits = Report.missing(f"The agent of node {node} has not reported it yet: see the Pipeline")
    said = {
        _key(state): _report(state, current)
        for state in map(mapping, items(part(config, "status").get("interfaces")))
    }
    compiled = map(mapping, items(part(config, "spec").get("interfaces")))
    return {key: said.get(key, waits) for key in map(_key, compiled)}


def _key(item: Json) -> str:
    return key_of({"metadata": item})


def _report(state: Json, current: bool) -> Report:
    reason, message = text(state.get("reason")), text(state.get("message"))
    forwards = state.get("ready") is True
    if not _REASON.fullmatch(reason):
        # It becomes a condition's, of which the API server is particular.
        reason = "Forwarding" if forwards else "DataplaneNotReady"
    if not forwards and reason == "Pending":
        return Report.missing(message)
    return Report(
        ready=forwards,
        reason=reason,
        message=message,
        mac_address=text(state.get("macAddress")) or None,
        current=current,
    )
