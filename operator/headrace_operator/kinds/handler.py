# SPDX-License-Identifier: Apache-2.0
"""What all kinds have in common, all inputs, and all outputs."""

from collections.abc import Iterable
from datetime import datetime
from typing import ClassVar, Generic, TypeVar, cast

from headrace_api import PIPELINE_LABEL, Json, Object, Problem
from headrace_api.raw import part
from headrace_kube import PIPELINES, Kind
from headrace_operator import objects
from headrace_operator.render import compiled_status, parse
from headrace_operator.work import Work

from .state import State

Model = TypeVar("Model", bound=Object)


class Handler:
    """What is so of a kind, unless its own class says otherwise. `key` is that of an object."""

    kind: ClassVar[Kind]
    has_status: ClassVar[bool] = False
    """Whether the operator writes its status."""
    shared: ClassVar[bool] = False
    """Whether both people and the operator make such objects: theirs are left alone."""
    defaulted: ClassVar[bool] = False
    """Whether the API server adds defaults to what is written, which are no difference."""

    def __init__(self, state: State) -> None:
        self._state = state

    @staticmethod
    def group(key: str) -> str:
        """Who takes turns in the queue with others: its tenant, or the object alone."""
        return objects.name_of(key)[0] or key

    def listed(self, key: str, item: Json) -> None:
        """Take an object that is there when the operator starts, and has been compiled."""

    def changed(self, key: str, before: Json | None, after: Json | None) -> None:
        """Take a change of an object; None: it did not exist, or does not any more."""

    def needs(self, work: Work) -> Iterable[Work]:
        """What is written before the output, or the status: what gives out what it uses."""
        return ()

    def applied(self, work: Work) -> None:
        """Take note that an output was written."""

    def failed(self, work: Work, why: str, *, refused: bool) -> None:
        """An output cannot be written, or is `refused` for good; no why: it was."""

    def is_retained(self, item: Json) -> bool:
        """Whether an output that is not desired stays for now."""
        return False

    def enqueue_statuses(self, work: Work) -> None:
        """Look at the statuses of whatever an output is about."""

    def problems(self, key: str) -> tuple[Problem, ...]:
        """All that is wrong with the object."""
        return self._state.statuses.problems(Work(self.kind, key))

    def status(self, work: Work, raw: Json, now: datetime) -> Json | None:
        """The status, whole; None: not now."""
        return None


class Input(Handler, Generic[Model]):
    """What the compiler reads."""

    has_status = True

    def read(self, item: Json) -> Model | tuple[Problem, ...]:
        """The object as the operator means it, or what is wrong with it."""
        return cast("Model | tuple[Problem, ...]", parse(self.kind.name, item))

    def is_same(self, before: Json, after: Json) -> bool:
        """Whether the compiler would see no difference."""
        return (
            objects.uid(before) == objects.uid(after)
            and objects.generation(before) == objects.generation(after)
            and part(before, "metadata", "labels") == part(after, "metadata", "labels")
        )

    def changed(self, key: str, before: Json | None, after: Json | None) -> None:
        """Have it compiled, or compare its status."""
        if not (before and after and self.is_same(before, after)):
            self._observe(key, after)
        elif self.has_status and before.get("status") != after.get("status"):
            self._state.statuses.enqueue(self.kind, key)

    def status(self, work: Work, raw: Json, now: datetime) -> Json | None:
        """By its spec alone, as all is told of it once it is compiled."""
        return compiled_status(raw, self.problems(work.key), now)

    def accepted(self, model: Model) -> None:
        """Do what beside the compilation follows from an object that can be read."""

    def deleted(self, key: str) -> None:
        """Do what beside the compilation follows from its deletion."""

    def _observe(self, key: str, item: Json | None) -> None:
        work, found = Work(self.kind, key), self.read(item) if item else None
        self._state.observed.put(work, found)
        if found is None:
            self._state.statuses.forget(work)
            self.deleted(key)
        elif not isinstance(found, tuple):
            self.accepted(found)


class Output(Handler):
    """What is written here, whole, in the operator's namespace."""

    @staticmethod
    def group(key: str) -> str:
        """Every object alone."""
        return key

    def changed(self, key: str, before: Json | None, after: Json | None) -> None:
        """Compare it with what is desired; the status of its Pipeline tells of it."""
        self._state.queue.add(Work(self.kind, key))
        self._state.statuses.enqueue_pipeline(objects.label(after or before, PIPELINE_LABEL))

    def failed(self, work: Work, why: str, *, refused: bool) -> None:
        """The status of its Pipeline tells of what is refused."""
        if (refused or not why) and self._state.desired.failed(work, why, refused=refused):
            pipeline = objects.label(self._state.desired.get(work), PIPELINE_LABEL)
            self._state.statuses.enqueue_pipeline(pipeline, 0.0)

    def is_retained(self, item: Json) -> bool:
        """Its Pipeline cannot be read."""
        pipeline = objects.label(item, PIPELINE_LABEL)
        return (PIPELINES.name, pipeline) in self._state.observed.invalid
