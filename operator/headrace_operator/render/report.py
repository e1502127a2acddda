# SPDX-License-Identifier: Apache-2.0
"""What a node's agent reports, read from its DataplaneConfig."""

import re
from dataclasses import dataclass
from typing import Self

from pydantic import JsonValue

from headrace_api import Json
from headrace_api.raw import items, key_of, mapping, part, text

from . import conditions

_REASON = re.compile(r"[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?")


@dataclass(frozen=True, slots=True)
class Report:
    """What the agent reports of one Interface."""

    ready: bool | None
    """Whether it forwards; None: the agent has not said yet."""
    reason: str
    """CamelCase."""
    message: str
    """What happened, for people."""
    mac_address: str | None = None
    """MAC address of the endpoint, given or learned."""

    @classmethod
    def missing(cls, message: str, reason: str = "Pending") -> Self:
        """Nothing has been said yet: `message` is why, `reason` Pending or DataplaneNotReady."""
        return cls(None, reason, message)


@dataclass(frozen=True, slots=True)
class NetworkReport:
    """What the agent reports of one network."""

    digest: str | None
    """Of the routes that its engine has, empty when it has none; None: of an agent that is taken
    to have in its engine what it has seen."""
    reason: str = ""
    """CamelCase: why something of the network is left out; empty: nothing is."""
    message: str = ""
    """What is left out, for people."""


def features(config: Json) -> frozenset[str] | None:
    """What the agent of a DataplaneConfig understands; None: it has not said anything yet."""
    status = part(config, "status")
    known = conditions.find(status, "Ready")
    if "observedGeneration" not in status and (not known or known.get("reason") == "Pending"):
        return None
    return frozenset(map(text, items(status.get("features"))))


def interface_reports(config: Json) -> dict[str, Report]:
    """Interface (namespace/name) -> what the agent reports of it, whatever the config holds now."""
    return {
        _key(state): _report(state)
        for state in map(mapping, items(part(config, "status").get("interfaces")))
    }


def network_reports(config: Json) -> dict[str, NetworkReport]:
    """Network (namespace/name) -> what the agent reports of it."""
    return {
        _key(state): NetworkReport(
            text(state["digest"]) if "digest" in state else None,
            reason_of(state.get("reason"), ""),
            text(state.get("message")),
        )
        for state in map(mapping, items(part(config, "status").get("networks")))
    }


def not_forwarding(config: Json) -> str | None:
    """Why the node's engine does not forward, by its agent's report; None: it does."""
    known = conditions.find(part(config, "status"), "Ready")
    if not known:
        return "its agent has not reported yet"
    if known.get("status") != "True":
        return f"{text(known.get('reason'))}: {text(known.get('message'))}"
    return None


def alignment(config: Json) -> tuple[bool, str] | None:
    """Whether the node's workers are where the functions are that they drive, and what is said.

    None: there are no functions, or it is not known where they are.
    """
    known = conditions.find(part(config, "status"), conditions.NUMA_ALIGNED)
    if known.get("status") not in ("True", "False"):
        return None
    return known["status"] == "True", text(known.get("message"))


def _key(item: Json) -> str:
    return key_of({"metadata": item})


def _report(state: Json) -> Report:
    forwards, message = state.get("ready") is True, text(state.get("message"))
    reason = reason_of(state.get("reason"), "Forwarding" if forwards else "DataplaneNotReady")
    if not forwards and reason == "Pending":
        return Report.missing(message)
    return Report(forwards, reason, message, text(state.get("macAddress")) or None)


def reason_of(given: JsonValue, instead: str) -> str:
    """It becomes a condition's, of which the API server is particular."""
    reason = text(given)
    return reason if _REASON.fullmatch(reason) else instead
