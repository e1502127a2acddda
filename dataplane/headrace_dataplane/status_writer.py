# SPDX-License-Identifier: Apache-2.0
"""Writes the status of a DataplaneConfig: what differs, soon, and never often."""

import asyncio
import logging
from dataclasses import dataclass

from pydantic import JsonValue, ValidationError

from headrace_api import API_VERSION, DataplaneConfigStatus, Json, ObjectMeta
from headrace_dataplane.follow import BACKOFF_SECONDS, jittered
from headrace_kube import DATAPLANE_CONFIGS, Kube, KubeError

log = logging.getLogger(__name__)

FIELD_MANAGER = "headrace-agent"
REPORT_SECONDS = 2.0
"""Least time between two writes."""
ROUTES_SECONDS = 5.0
"""Least time before one that tells of routes alone: all nodes of a network have these to tell."""


@dataclass(frozen=True)
class _Present:
    """The object at the API server, as far as its status goes."""

    uid: str
    version: int
    status: DataplaneConfigStatus | None


class StatusWriter:
    """Brings the status of one object at the API server to the wanted one."""

    def __init__(self, kube: Kube, namespace: str, name: str) -> None:
        self._kube = kube
        self._namespace = namespace
        self._name = name
        self._wanted: DataplaneConfigStatus | None = None
        self._present: _Present | None = None
        self._written: tuple[DataplaneConfigStatus, _Present] | None = None
        """What was written last, and what the API server made of it."""
        self._outdated = False
        """Whether its kind lacks fields, which has been said."""
        self._wake = asyncio.Event()
        self._routes_due = 0.0
        """When a status that differs in routes alone may be written, in the loop's time."""

    def want(self, status: DataplaneConfigStatus) -> None:
        """Have this written, unless a newer one is wanted before."""
        self._wanted = status
        self._wake.set()

    def saw(self, item: Json | None) -> None:
        """Take note of the object at the API server, None when it is gone."""
        if item is None:
            self._present = None
            return
        metadata = ObjectMeta.model_validate(item["metadata"])
        version = int(metadata.resource_version)
        before = self._present
        if before is not None and before.uid == metadata.uid and before.version >= version:
            return
        try:
            status = DataplaneConfigStatus.model_validate(item.get("status") or {})
        except ValidationError:
            status = None
        self._present = _Present(metadata.uid, version, status)
        self._wake.set()

    async def run(self) -> None:
        """Write until cancelled: at once after a quiet time, else every REPORT_SECONDS at most."""
        backoff = BACKOFF_SECONDS[0]
        trouble = ""
        loop = asyncio.get_running_loop()
        while True:
            await self._wake.wait()
            self._wake.clear()
            status = self._due()
            if status is None:
                continue
            if loop.time() < self._routes_due and self._tells_of_routes_alone(status):
                loop.call_at(self._routes_due, self._wake.set)
                continue
            try:
                item = await self._write(status.to_dict())
            except KubeError as error:
                if error.message != trouble:
                    trouble = error.message
                    log.warning("cannot write the status of %s: %s", self._name, trouble)
                await asyncio.sleep(jittered(backoff))
                backoff = min(2 * backoff, BACKOFF_SECONDS[1])
                self._wake.set()
                continue
            backoff, trouble = BACKOFF_SECONDS[0], ""
            self.saw(item)
            if self._present is not None:
                self._written = status, self._present
            self._routes_due = loop.time() + ROUTES_SECONDS
            await asyncio.sleep(REPORT_SECONDS)

    async def _write(self, status: Json) -> Json:
        """Apply it, or what the kind has of it where that is of an earlier release."""
        try:
            item = await self._apply(status)
        except KubeError as error:
            if not error.undeclared:
                raise
            # Of several fields the API server names any.
            if not self._outdated:
                self._outdated = True
                log.warning(
                    "the kind DataplaneConfig is older than this agent, which does not report what "
                    "it has no field for: install the CRDs of this release (%s)",
                    error.message,
                )
        else:
            self._outdated = False
            return item
        # What is merged and not known is dropped, where what is applied is refused as a whole.
        would = await self._kube.merge(
            DATAPLANE_CONFIGS,
            self._name,
            self._namespace,
            {"status": status},
            FIELD_MANAGER,
            "status",
            dry_run=True,
        )
        return await self._apply(_kept(status, would["status"]))

    async def _apply(self, status: JsonValue) -> Json:
        item: Json = {
            "apiVersion": API_VERSION,
            "kind": DATAPLANE_CONFIGS.name,
            "metadata": {"name": self._name, "namespace": self._namespace},
            "status": status,
        }
        return await self._kube.apply(DATAPLANE_CONFIGS, item, FIELD_MANAGER, "status")

    def _tells_of_routes_alone(self, status: DataplaneConfigStatus) -> bool:
        """Whether only digests of routes differ from what is there; refusals are told soon."""
        there = self._present.status if self._present is not None else None
        return (
            there is not None
            and status.model_copy(update={"networks": there.networks}) == there
            and not any(network.reason for network in (*status.networks, *there.networks))
        )

    def _due(self) -> DataplaneConfigStatus | None:
        """Return what has to be written, if anything."""
        present = self._present
        if self._wanted is None or present is None:
            return None
        wanted = _with_times_of(present.status, self._wanted)
        if wanted == present.status:
            return None
        if self._written is not None:
            written, became = self._written
            # An API server of another release makes something else of it, each time.
            if wanted == written and (present.uid, present.status) == (became.uid, became.status):
                return None
        return wanted


def _kept(wanted: JsonValue, there: JsonValue) -> JsonValue:
    """Return what is wanted, without the fields that are not there."""
    if isinstance(wanted, dict) and isinstance(there, dict):
        return {name: _kept(each, there[name]) for name, each in wanted.items() if name in there}
    if isinstance(wanted, list) and isinstance(there, list):
        return [_kept(*pair) for pair in zip(wanted, there, strict=True)]
    return wanted


def _with_times_of(
    present: DataplaneConfigStatus | None, wanted: DataplaneConfigStatus
) -> DataplaneConfigStatus:
    """Return the wanted status; conditions whose status is the present one keep their time."""
    since = {
        (condition.type, condition.status): condition.last_transition_time
        for condition in (present.conditions if present is not None else ())
    }
    conditions = tuple(
        condition.model_copy(
            update={
                "last_transition_time": since.get(
                    (condition.type, condition.status), condition.last_transition_time
                )
            }
        )
        for condition in wanted.conditions
    )
    return wanted.model_copy(update={"conditions": conditions})
