# SPDX-License-Identifier: Apache-2.0
"""Replaces dataplane pods that lack a device node: only a new pod gets it.

A function's device node is named for its IOMMU group, whose number may change while the pod is
there; the kubelet gives a restarted container what it once gave to the pod. Agents say so of
themselves (DevicesReady, DeviceNodeChanged), and their DaemonSet sees nothing that it would act on.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime

from headrace_api import PIPELINE_LABEL, Json, Pipeline
from headrace_api.pipeline import UpdateType
from headrace_api.raw import part, text
from headrace_kube import DATAPLANE_CONFIGS, PODS, Kube, KubeError

from . import objects
from .cache import Cache
from .metrics import Metrics
from .render import conditions

#: Seconds between two looks.
PERIOD = 10.0
#: Seconds that a pod lives at least: one that is replaced in vain is not replaced all the time.
LEAST_AGE = 600.0

_TIME = "%Y-%m-%dT%H:%M:%SZ"

_log = logging.getLogger(__name__)


class Replacer:
    """Deletes pods, a few at a time, as the Pipeline's updateStrategy says."""

    def __init__(
        self,
        kube: Kube,
        namespace: str,
        cache: Cache,
        pipelines: Mapping[str, Pipeline],
        left: Callable[[], float],
        metrics: Metrics,
    ) -> None:
        """`pipelines`: those that can be read; `left`: seconds for which nobody else may write."""
        self._kube = kube
        self._namespace = namespace
        self._cache = cache
        self._pipelines = pipelines
        self._left = left
        self._metrics = metrics

    async def run(self) -> None:
        """Look for ever."""
        while True:
            await asyncio.sleep(PERIOD)
            configs = [item for _, item in self._cache.all(DATAPLANE_CONFIGS)]
            for name, nodes in outdated(configs).items():
                pipeline = self._pipelines.get(name)
                if pipeline is None:
                    continue
                strategy = pipeline.spec.update_strategy
                if strategy.type is UpdateType.ROLLING_UPDATE:
                    await self._replace(name, nodes, strategy.max_unavailable)

    async def _replace(self, pipeline: str, nodes: Mapping[str, datetime], most: int) -> None:
        pods: list[Json] = []
        try:
            selector = f"{PIPELINE_LABEL}={pipeline}"
            async for page in self._kube.pages(PODS, self._namespace, selector):
                pods += page.items
            for pod in replaceable(pods, nodes, most, datetime.now(UTC)):
                left = self._left()
                if left <= 0:
                    return
                namespace, name = objects.name_of(objects.key(pod))
                uid = objects.uid(pod)
                await self._kube.delete(PODS, name, namespace, uid, seconds=left)
                _log.info("pod %s is replaced: only a new one gets its device nodes", name)
        except KubeError as error:
            self._metrics.failed("delete", error)
            _log.warning("Pipeline %s: pods cannot be replaced: %s", pipeline, error)


def outdated(configs: Iterable[Json]) -> dict[str, dict[str, datetime]]:
    """Return Pipeline -> node whose agent says that its pod lacks a device node -> since when."""
    found: defaultdict[str, dict[str, datetime]] = defaultdict(dict)
    for config in configs:
        condition = conditions.find(part(config, "status"), "DevicesReady")
        since = _time(condition.get("lastTransitionTime"))
        if condition.get("reason") == "DeviceNodeChanged" and since is not None:
            spec = part(config, "spec")
            found[text(spec.get("pipelineName"))][text(spec.get("nodeName"))] = since
    return dict(found)


def replaceable(
    pods: Sequence[Json], nodes: Mapping[str, datetime], most: int, now: datetime
) -> list[Json]:
    """Return those of a Pipeline's pods that are to be deleted now.

    `nodes`: node -> since when its pod lacks something. `most` may be unavailable at once: those
    that are not ready count, and a pod that is not ready anyway costs nothing.
    """
    away = {objects.key(pod) for pod in pods if objects.is_going(pod) or not objects.is_ready(pod)}
    chosen = []
    for pod in sorted(pods, key=objects.key):
        since = nodes.get(text(part(pod, "spec").get("nodeName")))
        made = _time(part(pod, "metadata").get("creationTimestamp"))
        # What the agent of the pod before has said is not about this one.
        if since is None or made is None or made >= since or objects.is_going(pod):
            continue
        if (now - made).total_seconds() < LEAST_AGE:
            continue
        if objects.key(pod) not in away:
            if len(away) >= most:
                continue
            away.add(objects.key(pod))
        chosen.append(pod)
    return chosen


def _time(value: object) -> datetime | None:
    try:
        return datetime.strptime(str(value), _TIME).replace(tzinfo=UTC)
    except ValueError:
        return None
