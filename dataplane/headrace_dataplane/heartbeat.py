# SPDX-License-Identifier: Apache-2.0
"""Tells the operator that the agent lives: renews a Lease, as kubelets do for their nodes."""

import asyncio
import logging
from datetime import UTC, datetime

from headrace_api import LEASE_SECONDS, PIPELINE_LABEL, Json, ObjectMeta, config_name
from headrace_dataplane.follow import jittered
from headrace_dataplane.status_writer import FIELD_MANAGER
from headrace_kube import DATAPLANE_CONFIGS, LEASES, Kube, KubeError

log = logging.getLogger(__name__)

#: How often a Lease is renewed before it would be stale.
_RENEWALS = 4


class Heartbeat:
    """Keeps the Lease of one Pipeline on one node, named as its DataplaneConfig and owned by it."""

    def __init__(
        self, kube: Kube, namespace: str, pipeline: str, node: str, seconds: int = LEASE_SECONDS
    ) -> None:
        """`seconds` is how long the Lease lasts."""
        self._kube = kube
        self._namespace = namespace
        self._pipeline = pipeline
        self._node = node
        self._seconds = seconds
        self._name = config_name(pipeline, node)
        self._uid = ""
        self._begun = False
        self._due = asyncio.Event()

    def begin(self) -> None:
        """Begin: next hops may come back, as the engine has its configuration."""
        self._begun = True
        self._update()

    def observe(self, config: Json | None) -> None:
        """Take note of the DataplaneConfig at the API server; None: it is gone, and so no Lease."""
        self._uid = ObjectMeta.model_validate(config["metadata"]).uid if config else ""
        self._update()

    def _update(self) -> None:
        if self._begun and self._uid:
            self._due.set()
        else:
            self._due.clear()

    async def run(self) -> None:
        """Renew until cancelled, once begun and whenever there is a DataplaneConfig."""
        interval = self._seconds / _RENEWALS
        trouble = ""
        while True:
            await self._due.wait()
            try:
                # An answer that takes longer is as good as none: the next attempt is due.
                async with asyncio.timeout(interval):
                    await self._renew()
            except (KubeError, TimeoutError) as error:
                message = str(error) or "no answer in time"
                if message != trouble:
                    trouble = message
                    log.warning("cannot renew Lease %s: %s", self._name, message)
                await asyncio.sleep(jittered(interval / 2))
                continue
            if trouble:
                log.info("renewed Lease %s", self._name)
                trouble = ""
            await asyncio.sleep(jittered(interval))

    async def _renew(self) -> None:
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        spec: Json = {
            "holderIdentity": self._node,
            "leaseDurationSeconds": self._seconds,
            "renewTime": now,
        }
        # It goes with its DataplaneConfig; one that was made anew takes the former one's over.
        owner: Json = {
            "apiVersion": DATAPLANE_CONFIGS.api_version,
            "kind": DATAPLANE_CONFIGS.name,
            "name": self._name,
            "uid": self._uid,
        }
        change: Json = {"metadata": {"ownerReferences": [owner]}, "spec": spec}
        try:
            await self._kube.merge(LEASES, self._name, self._namespace, change, FIELD_MANAGER)
        except KubeError as error:
            if not error.absent:
                raise
        else:
            return
        metadata: Json = {
            "name": self._name,
            "namespace": self._namespace,
            "labels": {
                "app.kubernetes.io/name": "headrace",
                "app.kubernetes.io/component": "dataplane",
                PIPELINE_LABEL: self._pipeline,
            },
            "ownerReferences": [owner],
        }
        lease: Json = {
            "apiVersion": LEASES.api_version,
            "kind": LEASES.name,
            "metadata": metadata,
            "spec": spec,
        }
        await self._kube.create(LEASES, lease)
