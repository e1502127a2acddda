# SPDX-License-Identifier: Apache-2.0
"""Desired outputs: what is to be written, who owns it, and how writing it went."""

from collections.abc import Callable

from headrace_api import Json
from headrace_api.raw import part

from . import objects
from .work import Work

_LABELS: Json = {
    "app.kubernetes.io/name": "headrace",
    "app.kubernetes.io/component": "dataplane",
    objects.MANAGED_BY: objects.MANAGER,
}


class Desired:
    """The outputs as they are to be. Not thread-safe."""

    def __init__(self, owner: Json, changed: Callable[[Work], None]) -> None:
        """`owner` is the ownerReference of `put_owned`; `changed` is told what may differ now."""
        self._owner = owner
        self._changed = changed
        self._items: dict[Work, Json] = {}
        # What was applied last, and the generation that came of it: it may be there in other words.
        self._applied: dict[Work, tuple[Json, int]] = {}
        # Why it could not be written, and whether the API server refuses it.
        self._failures: dict[Work, tuple[str, bool]] = {}

    def get(self, work: Work) -> Json | None:
        """The output; None: it is not to exist."""
        return self._items.get(work)

    def put(self, work: Work, item: Json | None) -> None:
        """Desire the output so, or (None) that it does not exist."""
        if item is None:
            self._items.pop(work, None)
            self._applied.pop(work, None)
            self._failures.pop(work, None)
        else:
            self._items[work] = item
        self._changed(work)

    def put_owned(self, work: Work, item: Json, owner: Json | None = None) -> None:
        """Desire the output so, with labels and owner of all that the operator makes.

        `owner` is the ownerReference of what goes with something else.
        """
        metadata = part(item, "metadata")
        labels: Json = {**_LABELS, **part(metadata, "labels")}
        owned: Json = {**metadata, "labels": labels, "ownerReferences": [owner or self._owner]}
        self.put(work, {**item, "metadata": owned})

    def applied(self, work: Work, item: Json, there: Json) -> None:
        """Take note of what the API server made of what was desired."""
        if work in self._items:
            self._applied[work] = item, objects.generation(there)

    def failed(self, work: Work, why: str, *, refused: bool) -> bool:
        """Take note that it could not be written, or (no why) could; True: that is new."""
        failure = (why, refused) if why else None
        if self._failures.get(work) == failure:
            return False
        if failure is None:
            del self._failures[work]
        elif work in self._items:
            self._failures[work] = failure
        return True

    def failure(self, work: Work) -> tuple[str, bool]:
        """Why it could not be written (or nothing), and whether the API server refuses it."""
        return self._failures.get(work, ("", False))

    def is_refused(self, work: Work) -> bool:
        """Whether the API server does not take it as it is desired."""
        # Asked of every need of everything in the queue: mostly nothing is.
        return bool(self._failures) and self.failure(work)[1]

    def is_written(self, work: Work, found: Json, *, defaulted: bool = False) -> bool:
        """Whether the spec that is there is the desired one, `defaulted` by the API server or not.

        Raises KeyError where the output is not to exist.
        """
        item = self._items[work]
        spec, there = part(item, "spec"), part(found, "spec")
        if there == spec:
            # One copy of it is enough.
            found["spec"] = spec
            return True
        applied, generation = self._applied.get(work, (None, 0))
        if applied is item and generation == objects.generation(found):
            return True
        return defaulted and objects.covers(there, spec)
