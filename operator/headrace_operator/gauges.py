# SPDX-License-Identifier: Apache-2.0
"""Metrics of objects and of the queue: counted when they are asked for."""

from collections import Counter
from collections.abc import Callable, Iterable

from prometheus_client.core import Metric

from headrace_api import Json, Problem
from headrace_api.raw import number, part
from headrace_kube import DEVICE_POLICIES, FORMER, INTERFACES, PIPELINES, Kind

from . import objects
from .cache import Cache
from .kinds import WITHOUT_POD
from .metrics import gauges
from .progress import Progress
from .work import Queue, Work


class Gauges:
    """The families. `problems` gives every object that has any, with them."""

    def __init__(
        self,
        cache: Cache,
        queue: Queue,
        progress: Progress,
        problems: Callable[[], Iterable[tuple[Work, tuple[Problem, ...]]]],
    ) -> None:
        self._cache = cache
        self._queue = queue
        self._progress = progress
        self._problems = problems
        # Interfaces that are Ready, so that nobody counts ten thousand for each scrape.
        self._ready: set[str] = set()

    def observe(self, kind: Kind, key: str, item: Json | None) -> None:
        """Take an object as it is now; None: it is gone."""
        if kind is INTERFACES:
            (self._ready.add if objects.is_ready(item) else self._ready.discard)(key)

    def families(self) -> Iterable[Metric]:
        """All of them."""
        count = gauges("objects", "Objects known.", ("kind",))
        for kind in self._cache.kinds:
            # A copy has the kind's name of what it is a copy of.
            if kind not in FORMER:
                count.add_metric((kind.name,), self._cache.count(kind))
        yield count

        found = dict(self._problems())
        problems = gauges("problems", "Problems of objects.", ("kind", "reason"))
        reasons = Counter(
            (work.kind.name, each.reason) for work, of in found.items() for each in of
        )
        for labels, number_of in reasons.items():
            problems.add_metric(labels, number_of)
        yield problems

        without_pod = {
            work.key
            for work, of in found.items()
            if work.kind is INTERFACES
            and self._cache.get(INTERFACES, work.key)
            and any(each.reason in WITHOUT_POD for each in of)
        }
        ready = len(self._ready - without_pod)
        interfaces = gauges(
            "interfaces", "Interfaces with a place, by condition Ready.", ("ready",)
        )
        interfaces.add_metric(("true",), ready)
        others = self._cache.count(INTERFACES) - len(without_pod) - ready
        interfaces.add_metric(("false",), others)
        yield interfaces

        for nodes, kind in (
            (gauges("pipeline_nodes", "Nodes of a Pipeline.", ("pipeline", "state")), PIPELINES),
            (
                gauges("policy_nodes", "Nodes of a DevicePolicy.", ("policy", "state")),
                DEVICE_POLICIES,
            ),
        ):
            for name, item in self._cache.all(kind):
                status = part(item, "status")
                nodes.add_metric((name, "selected"), number(status.get("selectedNodes")))
                nodes.add_metric((name, "ready"), number(status.get("readyNodes")))
            yield nodes

        unreachable = gauges(
            "unreachable_node",
            "1 for a Pipeline's node that does not answer, by what is known of it.",
            # Prometheus says with `node` where the operator's own pod is.
            ("pipeline", "dataplane_node", "state"),
        )
        for place, state in self._progress.states.items():
            unreachable.add_metric((*place, state.value), 1)
        yield unreachable

        depth = gauges("queue_depth", "Objects and statuses to compare or write.", ())
        depth.add_metric((), len(self._queue))
        yield depth
