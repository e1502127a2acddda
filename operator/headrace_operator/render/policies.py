# SPDX-License-Identifier: Apache-2.0
"""What nodes' agents say of a DevicePolicy, and the status that comes of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from headrace_api import Json, Problem
from headrace_api.raw import items, mapping, number, part, text

from . import conditions
from .conditions import Verdict
from .report import reason_of
from .status import NOT_COMPILED, no_node, some

#: Reasons for which the policy itself, and nothing on the node, is to be changed.
_STALLING = frozenset({"BifurcatedDriver", "NodeUplink", "NumVFsAboveTotal", "PolicyConflict"})
#: Of one node's message, where several are named.
_MESSAGE_LENGTH = 1024


@dataclass(frozen=True, slots=True)
class PolicyReport:
    """What the agent of one node says."""

    ready: bool | None
    """Whether its cards are as the policy wants them; None: it has not said yet."""
    reason: str
    """CamelCase."""
    message: str
    """What is in the way, for people."""
    vfs: int = 0
    """VFs that are ready."""


def policy_report(policy: str, desired: Json | None, there: Json | None, why: str) -> PolicyReport:
    """What is said of a policy on a node, by the NodeState as it is to be, and as it is.

    `why` it cannot be written, or nothing.
    """
    wanted = _item(part(desired, "spec"), policy)
    if wanted != _item(part(there, "spec"), policy):
        because = f": {why}" if why else ""
        return PolicyReport(None, "Pending", f"its NodeState is not written yet{because}")
    state = _item(part(there, "status"), policy)
    vfs = number(state.get("vfs"))
    if number(state.get("observedGeneration")) != number(wanted.get("generation")) or not state:
        return PolicyReport(None, "Pending", "its node agent has not reported yet", vfs)
    reason = reason_of(state.get("reason"), "NotReady")
    return PolicyReport(state.get("ready") is True, reason, text(state.get("message")), vfs)


def _item(part_of_state: Json, policy: str) -> Json:
    found = map(mapping, items(part_of_state.get("policies")))
    return next((each for each in found if each.get("name") == policy), {})


def device_policy_status(
    raw: Json,
    reports: Mapping[str, PolicyReport],
    problems: Sequence[Problem],
    now: datetime,
    *,
    compiled: bool,
    node_agent: bool,
) -> Json:
    """Status of a DevicePolicy; `reports` are of the nodes that it selects.

    `compiled` is whether this generation could be read, `node_agent` whether nodes have an agent.
    """
    accepted = None
    if not compiled:
        programmed = NOT_COMPILED
    elif not node_agent:
        programmed = accepted = _NO_AGENT
    elif not reports:
        programmed = accepted = no_node(raw, "whose cards it is for")
    else:
        programmed = _programmed(reports)
    found = conditions.status(raw, problems, programmed, now, accepted)
    found["selectedNodes"] = len(reports)
    found["readyNodes"] = sum(each.ready is True for each in reports.values())
    found["vfs"] = sum(each.vfs for each in reports.values())
    return found


_NO_AGENT = conditions.not_ready(
    "NodeAgentDisabled",
    "No node agent runs, which would look after cards: set nodeAgent.enabled of the chart",
)._replace(stalled=True)


def _programmed(reports: Mapping[str, PolicyReport]) -> Verdict:
    failing = [node for node, each in sorted(reports.items()) if each.ready is False]
    pending = [node for node, each in sorted(reports.items()) if each.ready is None]
    if failing:
        # What the policy itself is at fault for comes first.
        failing.sort(key=lambda node: reports[node].reason not in _STALLING)
        first = reports[failing[0]]
        named = [f"{failing[0]} ({_words(first)})"]
        named += (f"{node} ({reports[node].reason})" for node in failing[1:])
        message = f"{len(failing)} of {len(reports)} nodes are not as it wants them: {some(named)}"
        verdict = conditions.not_ready(first.reason, message)
        return verdict._replace(stalled=first.reason in _STALLING)
    if pending:
        named = [f"{pending[0]} ({reports[pending[0]].message})", *pending[1:]]
        message = f"{len(pending)} of {len(reports)} nodes have not said yet: {some(named)}"
        return conditions.pending(message)
    vfs = sum(each.vfs for each in reports.values())
    return conditions.ready(
        "DevicesReady",
        f"The cards of every node that it selects are as it wants them ({len(reports)}):"
        f" {vfs} VFs are ready",
    )


def _words(report: PolicyReport) -> str:
    return f"{report.reason}: {report.message}"[:_MESSAGE_LENGTH]
