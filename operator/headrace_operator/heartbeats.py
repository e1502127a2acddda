# SPDX-License-Identifier: Apache-2.0
"""Looks at the Leases of all agents, again and again: lists them, keeps when each was renewed.

They change a thousand times a second in a large cluster, so they are not in the cache, and no
watch tells of each renewal: a list every few seconds costs less, and shows at the same time that
the API server answers.
"""

import asyncio
import logging
import random
from collections.abc import Callable

from headrace_api import PIPELINE_LABEL, Json, config_name
from headrace_api.raw import part, text
from headrace_kube import LEASES, Kube, KubeError

from . import objects
from .liveness import Liveness, PipelineNode
from .metrics import Metrics

#: Looks in the time after which a Lease is stale.
_LOOKS = 8

_log = logging.getLogger(__name__)


class Heartbeats:
    """Feeds a Liveness with what Leases say."""

    def __init__(
        self,
        kube: Kube,
        namespace: str,
        liveness: Liveness,
        judge: Callable[[], None],
        metrics: Metrics,
    ) -> None:
        """`judge` is called whenever the liveness has news, if only that time has passed."""
        self._kube = kube
        self._namespace = namespace
        self._liveness = liveness
        self._judge = judge
        self._metrics = metrics

    async def run(self) -> None:
        """Look for ever."""
        interval = self._liveness.seconds / _LOOKS
        while True:
            try:
                async with asyncio.timeout(self._liveness.seconds / 2):
                    leases = await self._list()
            except (KubeError, TimeoutError) as error:
                self._liveness.lost()
                if isinstance(error, KubeError):
                    self._metrics.failed("list", error)
                _log.warning("leases cannot be listed: %s", str(error) or "no answer in time")
            else:
                self._liveness.observe(leases)
                self._judge()
            await asyncio.sleep(interval * random.uniform(0.8, 1.2))  # noqa: S311 - no secret

    async def _list(self) -> dict[PipelineNode, str]:
        found: dict[PipelineNode, str] = {}
        async for page in self._kube.pages(LEASES, self._namespace, PIPELINE_LABEL):
            for item in page.items:
                if pn := renewed_by(item):
                    found[pn] = text(part(item, "spec").get("renewTime"))
        return found


def renewed_by(lease: Json) -> PipelineNode | None:
    """Whose agent renews it; None: it is not what it seems."""
    pipeline = objects.label(lease, PIPELINE_LABEL)
    node = text(part(lease, "spec").get("holderIdentity"))
    name = text(part(lease, "metadata").get("name"))
    return PipelineNode(pipeline, node) if name == config_name(pipeline, node) else None
