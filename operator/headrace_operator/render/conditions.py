# SPDX-License-Identifier: Apache-2.0
"""Conditions (metav1.Condition), and the events that their changes are worth.

Accepted, ResolvedRefs and Programmed say one thing each, Ready that all of them are True. Others
may have conditions of their own in the same list: only what is in OWN is written or removed here.

kstatus reads them so: Stalled=True is Failed; otherwise Ready=True is Current, and all else is in
progress. So Stalled is there while a person must act on this very object, and only then.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, NamedTuple

from headrace_api import ConditionStatus, Json, Problem
from headrace_api.base import PENDING
from headrace_api.raw import generation, items, mapping, part, text

_MESSAGE_LENGTH = 4096
_NOTE_BYTES = 1024

#: Of a Pipeline: whether workers and memory are where the functions are that they drive.
NUMA_ALIGNED = "NUMAAligned"
#: What this module writes, or release 0.2 wrote.
OWN = frozenset(
    {
        *("Ready", "Stalled", "Accepted", "ResolvedRefs", "Programmed", "SourcesChecked"),
        NUMA_ALIGNED,
    }
)
#: Reasons that pass when another object comes or turns ready: what an object refers to.
_WAITING = ("NotFound", "NotReady", "NodeNotSelected", "PodNotScheduled", "PodCompleted")
#: Nothing is known yet: worth no event.
_PENDING = "Pending"

#: What the API server writes into a fresh object: never set by anybody.
_NEVER = text(mapping(PENDING[0]).get("lastTransitionTime"))


class Verdict(NamedTuple):
    """What a condition says, and whether a person must act on this object."""

    status: ConditionStatus
    reason: str
    message: str
    stalled: bool = False


_NONE: Mapping[str, Verdict] = {}


@dataclass(frozen=True, slots=True)
class Transition:
    """What an event (events.k8s.io/v1) says."""

    type: Literal["Normal", "Warning"]
    reason: str
    """CamelCase, at most 128 characters."""
    note: str
    """At most 1024 bytes."""


def ready(reason: str, message: str) -> Verdict:
    """All is well."""
    return Verdict(ConditionStatus.TRUE, reason, message)


def not_ready(reason: str, message: str) -> Verdict:
    """Not well, and nobody has to act on this object."""
    return Verdict(ConditionStatus.FALSE, reason, message)


def pending(message: str) -> Verdict:
    """Nothing is known yet."""
    return Verdict(ConditionStatus.UNKNOWN, _PENDING, message)


def refused(problems: Sequence[Problem]) -> Verdict:
    """What is wrong, at least one thing: the reason is that of the first a person must mend."""
    stalling = [each for each in problems if not each.reason.endswith(_WAITING)]
    first = (stalling or problems)[0]
    rest = [each for each in problems if each is not first]
    message = "; ".join(f"{each.field}: {each.message}".lstrip(": ") for each in (first, *rest))
    return Verdict(ConditionStatus.FALSE, first.reason, message, bool(stalling))


def status(
    raw: Json,
    problems: Sequence[Problem],
    programmed: Verdict,
    now: datetime,
    accepted: Verdict | None = None,
    more: Mapping[str, Verdict] = _NONE,
) -> Json:
    """The observedGeneration and conditions of a status; times stay where nothing turned.

    `accepted` is what Accepted says as long as nothing is wrong with the object itself. `more` are
    conditions that Ready is not about.
    """
    waiting = [each for each in problems if each.reason.endswith(_WAITING)]
    wrong = [each for each in problems if each not in waiting]
    accepted = accepted or ready("Accepted", "Valid, and in conflict with nothing")
    found = {
        "Accepted": refused(wrong) if wrong else accepted,
        "ResolvedRefs": refused(waiting)
        if waiting
        else ready("ResolvedRefs", "All that it refers to is there"),
        "Programmed": programmed,
    }
    if problems:
        summary = refused(problems)
    else:
        summary = programmed if accepted.status is ConditionStatus.TRUE else accepted
    if summary.stalled:
        found = {"Stalled": summary._replace(status=ConditionStatus.TRUE), **found}
    conditions = [
        _condition(raw, kind, verdict, now)
        for kind, verdict in ({"Ready": summary} | found | {**more}).items()
    ]
    return {"observedGeneration": generation(raw), "conditions": [*conditions]}


def same(found: Json, desired: Json) -> bool:
    """Whether a watched status is as desired; conditions of others are their business."""

    def parts(status: Json) -> tuple[Json, Json]:
        own = {text(mapping(item).get("type")): item for item in items(status.get("conditions"))}
        return (
            {name: value for name, value in status.items() if name != "conditions"},
            {kind: item for kind, item in own.items() if kind in OWN},
        )

    return parts(found) == parts(desired)


def left_over(found: Json, desired: Json) -> Json | None:
    """The merge patch of a status that removes what server-side apply leaves, None: nothing.

    What an earlier release or another manager wrote of what is ours stays owned by them.
    """
    change: Json = dict.fromkeys(found.keys() - desired.keys())
    kinds = {text(mapping(item).get("type")) for item in items(desired.get("conditions"))}
    present = items(found.get("conditions"))
    stale = [item for item in present if text(mapping(item).get("type")) in OWN - kinds]
    if stale:
        change["conditions"] = [item for item in present if item not in stale]
    return change or None


def find(raw_status: Json, kind: str) -> Json:
    """The condition of the type in a status; empty where there is none, or nobody has set it."""
    for item in items(raw_status.get("conditions")):
        condition = mapping(item)
        if condition.get("type") == kind and condition.get("lastTransitionTime") != _NEVER:
            return condition
    return {}


def _condition(raw: Json, kind: str, verdict: Verdict, now: datetime) -> Json:
    before = find(part(raw, "status"), kind)
    since = text(before.get("lastTransitionTime"))
    if not since or before.get("status") != verdict.status:
        since = now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    # A Condition, as a dict: there are four in each of 10,000 statuses.
    return {
        "type": kind,
        "status": verdict.status.value,
        "observedGeneration": generation(raw),
        "lastTransitionTime": since,
        "reason": verdict.reason,
        "message": _cut(verdict.message, _MESSAGE_LENGTH),
    }


def transition(before: Json | None, status: Json) -> Transition | None:
    """The event of a change of Ready from the status `before`; None when it is worth none.

    A new status or reason is, but Pending never. Problems are Warnings; being on the way to a
    first Ready is no problem.
    """
    old, new = find(before or {}, "Ready"), find(status, "Ready")
    verdict, reason = text(new.get("status")), text(new.get("reason"))
    if reason == _PENDING or (old.get("status"), old.get("reason")) == (verdict, reason):
        return None
    progress = reason == "RollingOut" or (
        reason == "DataplaneNotReady" and old.get("status") != "True"
    )
    return Transition(
        "Normal" if verdict == "True" or progress else "Warning",
        reason[:128],
        _cut(text(new.get("message")), _NOTE_BYTES),
    )


def _cut(message: str, length: int) -> str:
    """The message in so many bytes of UTF-8 at most."""
    encoded = message.encode()
    if len(encoded) <= length:
        return message
    return encoded[: length - 3].decode(errors="ignore") + "..."
