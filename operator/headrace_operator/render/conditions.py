# SPDX-License-Identifier: Apache-2.0
"""Conditions (metav1.Condition), and the events that their changes are worth.

kstatus reads them so: Stalled=True is Failed; otherwise Ready=True is Current, and all else is in
progress. So Stalled is there while a person must act on this very object, and only then.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, NamedTuple

from headrace_api import Condition, ConditionStatus, Json, Problem
from headrace_api.base import PENDING

from .raw import generation, items, mapping, part, text

_MESSAGE_LENGTH = 4096
_NOTE_BYTES = 1024

#: Reasons that pass when another object comes or turns ready.
_WAITING = ("NotFound", "NotReady", "NodeNotSelected", "PodNotScheduled", "PodCompleted")
#: Nothing is known yet: worth no event.
_PENDING = "Pending"

#: What the API server writes into a fresh object: never set by anybody.
_NEVER = text(mapping(PENDING[0]).get("lastTransitionTime"))


class Verdict(NamedTuple):
    """What Ready says, and whether a person must act on this object."""

    status: ConditionStatus
    reason: str
    message: str
    stalled: bool = False


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


def status(raw: Json, verdict: Verdict, now: datetime) -> Json:
    """The observedGeneration and conditions of a status; times stay where nothing turned."""
    conditions = [_condition(raw, "Ready", verdict, now)]
    if verdict.stalled:
        conditions.append(
            _condition(raw, "Stalled", verdict._replace(status=ConditionStatus.TRUE), now)
        )
    return {"observedGeneration": generation(raw), "conditions": [*conditions]}


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
    return Condition(
        type=kind,
        status=verdict.status,
        observed_generation=generation(raw),
        last_transition_time=since,
        reason=verdict.reason,
        message=_cut(verdict.message, _MESSAGE_LENGTH),
    ).to_dict()


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
