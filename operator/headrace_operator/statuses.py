# SPDX-License-Identifier: Apache-2.0
"""Whose status is due, and when; what is wrong with whom."""

import time
from collections.abc import Iterable, Mapping

from headrace_api import Problem
from headrace_compiler import Subject
from headrace_kube import INTERFACES, PIPELINES, VIRTUAL_NETWORKS, Kind

from . import objects
from .agents import REPORT_TIMEOUT, ReportChanges
from .cache import Cache
from .observed import Observed
from .work import Queue, Work

#: Seconds that a status waits for agents' reports, and an Interface's for its pod to get a node.
SETTLE = 2.0
#: Seconds between two looks at the status of a Pipeline or a network whose nodes report.
GATHER = 0.5


class Statuses:
    """Puts statuses into the queue. Not thread-safe."""

    def __init__(self, cache: Cache, queue: Queue, observed: Observed) -> None:
        self.compile_problems: dict[Subject, tuple[Problem, ...]] = {}
        """What the last compilation found wrong."""
        self._cache = cache
        self._queue = queue
        self._observed = observed
        # Object -> when its status is written even without the agents' reports.
        self._deadlines: dict[Work, float] = {}

    def compiled(self, problems: Mapping[Subject, tuple[Problem, ...]]) -> None:
        """Take what a compilation found wrong (or not) with what it looked at."""
        self.compile_problems |= problems
        for subject in [subject for subject, found in problems.items() if not found]:
            del self.compile_problems[subject]

    def problems(self, work: Work) -> tuple[Problem, ...]:
        """What is wrong with the object, as far as it was read and compiled."""
        subject = work.subject
        return self._observed.invalid.get(subject) or self.compile_problems.get(subject, ())

    # Which

    def enqueue(self, kind: Kind, key: str, delay: float = 0.0) -> None:
        """Have the status looked at in so many seconds."""
        self._queue.add(Work(kind, key, status=True), delay)

    def enqueue_compiled(self, compiled: Iterable[Work], networks: Iterable[str]) -> None:
        """Look at the statuses of objects that were compiled, and of networks that outputs name."""
        deadline = time.monotonic() + SETTLE
        for work in compiled:
            if self._cache.get(work.kind, work.key) is not None:
                self._deadlines[work] = deadline
                self.enqueue(work.kind, work.key)
        self.enqueue_networks(networks, SETTLE)

    def enqueue_pipeline(self, name: str, delay: float = GATHER) -> None:
        """Look at the status of a Pipeline, if there is such a one."""
        if name in self._observed.pipelines:
            self.enqueue(PIPELINES, name, delay)

    def enqueue_networks(self, networks: Iterable[str], seconds: float) -> None:
        """Look at the statuses of networks soon: many slices and nodes change together."""
        for key in networks:
            self._defer(Work(VIRTUAL_NETWORKS, key), seconds)
            self.enqueue(VIRTUAL_NETWORKS, key, GATHER)

    def enqueue_reported(self, changes: ReportChanges) -> None:
        """Look at the statuses of those of whom an agent reports something else than before."""
        for key in changes.interfaces:
            self._defer(Work(INTERFACES, key), REPORT_TIMEOUT)
            self.enqueue(INTERFACES, key)
        self.enqueue_networks(changes.networks, REPORT_TIMEOUT)

    # When

    def is_deferred(self, work: Work, waits: bool) -> bool:
        """Whether the status is put off, because what it waits for may come in a moment."""
        left = self._deadlines.get(work.object, 0.0) - time.monotonic()
        if waits and left > 0:
            self._queue.add(work, left)
            return True
        self._deadlines.pop(work.object, None)
        return False

    def forget(self, work: Work) -> None:
        """The object is gone."""
        self._deadlines.pop(work, None)

    def _defer(self, work: Work, seconds: float) -> None:
        """Put the status off until agents have taken what is new: what held mostly holds then."""
        item = self._cache.get(work.kind, work.key)
        if item:
            seconds = seconds if objects.is_ready(item) else min(seconds, SETTLE)
            self._deadlines.setdefault(work, time.monotonic() + seconds)
