# SPDX-License-Identifier: Apache-2.0
"""Writes the status of a compiled object: what differs, soon, and never often."""

import asyncio
import logging
from dataclasses import dataclass
from typing import Generic, TypeVar

from pydantic import JsonValue, ValidationError

from headrace_api import (
    DataplaneConfigStatus,
    Json,
    ObjectMeta,
    SliceStatus,
)
from headrace_api.base import ObjectStatus, StatusModel
from headrace_dataplane.follow import BACKOFF_SECONDS, jittered
from headrace_kube import DATAPLANE_CONFIGS, SLICES, Kind, Kube, KubeError

log = logging.getLogger(__name__)

FIELD_MANAGER = "headrace-agent"
REPORT_SECONDS = 2.0
"""Least time between two writes."""
ROUTES_SECONDS = 5.0
"""Least time before one that tells of routes alone: all nodes of a network have these to tell."""


StatusT = TypeVar("StatusT", bound=StatusModel)
ObjectT = TypeVar("ObjectT", bound=ObjectStatus)


@dataclass(frozen=True)
class _Observed(Generic[StatusT]):
    """The object at the API server, as far as its status goes."""

    uid: str
    version: int
    status: StatusT | None


class StatusWriter(Generic[StatusT]):
    """Brings the status of one object at the API server to the desired one."""

    kind: Kind
    model: type[StatusT]

    def __init__(self, kube: Kube, namespace: str, name: str) -> None:
        self._kube = kube
        self._namespace = namespace
        self._name = name
        self._desired: StatusT | None = None
        self._observed: _Observed[StatusT] | None = None
        self._written: tuple[StatusT, _Observed[StatusT]] | None = None
        """What was written last, and what the API server made of it."""
        self._outdated = False
        """Whether its kind lacks fields, which has been said."""
        self._wake = asyncio.Event()
        self._routes_due = 0.0
        """When a status that differs in routes alone may be written, in the loop's time."""

    def report(self, status: StatusT) -> None:
        """Have this written, unless a newer one is desired before."""
        self._desired = status
        self._wake.set()

    def observe(self, item: Json | None) -> None:
        """Take note of the object at the API server, None when it is gone."""
        if item is None:
            self._observed = None
            return
        metadata = ObjectMeta.model_validate(item["metadata"])
        version = int(metadata.resource_version)
        before = self._observed
        if before is not None and before.uid == metadata.uid and before.version >= version:
            return
        try:
            status = self.model.model_validate(item.get("status") or {})
        except ValidationError:
            status = None
        self._observed = _Observed(metadata.uid, version, status)
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
            if loop.time() < self._routes_due and self._differs_in_routes_alone(status):
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
            self.observe(item)
            if self._observed is not None:
                self._written = status, self._observed
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
                    "the kind %s is older than this agent, which does not report what "
                    "it has no field for: install the CRDs of this release (%s)",
                    self.kind.name,
                    error.message,
                )
        else:
            self._outdated = False
            return item
        # What is merged and not known is dropped, where what is applied is refused as a whole.
        would = await self._kube.merge(
            self.kind,
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
            "apiVersion": self.kind.api_version,
            "kind": self.kind.name,
            "metadata": {"name": self._name, "namespace": self._namespace},
            "status": status,
        }
        return await self._kube.apply(self.kind, item, FIELD_MANAGER, "status")

    def _differs_in_routes_alone(self, status: StatusT) -> bool:
        """Whether only digests of routes differ from what is there; refusals are told soon."""
        there = self._observed.status if self._observed is not None else None
        return there is not None and self._tells_of_routes_alone(there, status)

    def _tells_of_routes_alone(self, before: StatusT, after: StatusT) -> bool:
        return False

    def _adopted(self, before: StatusT | None, desired: StatusT) -> StatusT:
        """The desired status, with what stays of the one before."""
        return desired

    def _due(self) -> StatusT | None:
        """Return what has to be written, if anything."""
        observed = self._observed
        if self._desired is None or observed is None:
            return None
        desired = self._adopted(observed.status, self._desired)
        if desired == observed.status:
            return None
        if self._written is not None:
            written, became = self._written
            # An API server of another release makes something else of it, each time.
            same = (observed.uid, observed.status) == (became.uid, became.status)
            if desired == written and same:
                return None
        return desired


class ConfigStatusWriter(StatusWriter[DataplaneConfigStatus]):
    """Of a DataplaneConfig."""

    kind = DATAPLANE_CONFIGS
    model = DataplaneConfigStatus

    def _tells_of_routes_alone(
        self, before: DataplaneConfigStatus, after: DataplaneConfigStatus
    ) -> bool:
        return after.model_copy(update={"networks": before.networks}) == before and not any(
            network.reason for network in (*after.networks, *before.networks)
        )

    def _adopted(
        self, before: DataplaneConfigStatus | None, desired: DataplaneConfigStatus
    ) -> DataplaneConfigStatus:
        return with_times_of(before, desired)


class SliceStatusWriter(StatusWriter[SliceStatus]):
    """Of a Slice of a DataplaneConfig."""

    kind = SLICES
    model = SliceStatus

    def _tells_of_routes_alone(self, before: SliceStatus, after: SliceStatus) -> bool:
        entries = (*before.entries, *after.entries)
        return before.observed_generation == after.observed_generation and all(
            "digest" in entry and not entry.get("reason") for entry in entries
        )


def _kept(desired: JsonValue, there: JsonValue) -> JsonValue:
    """Return what is desired, without the fields that are not there."""
    if isinstance(desired, dict) and isinstance(there, dict):
        return {name: _kept(each, there[name]) for name, each in desired.items() if name in there}
    if isinstance(desired, list) and isinstance(there, list):
        return [_kept(*pair) for pair in zip(desired, there, strict=True)]
    return desired


def with_times_of(observed: ObjectT | None, desired: ObjectT) -> ObjectT:
    """Return the desired status; conditions whose status is the observed one keep their time."""
    since = {
        (condition.type, condition.status): condition.last_transition_time
        for condition in (observed.conditions if observed is not None else ())
    }
    conditions = tuple(
        condition.model_copy(
            update={
                "last_transition_time": since.get(
                    (condition.type, condition.status), condition.last_transition_time
                )
            }
        )
        for condition in desired.conditions
    )
    return desired.model_copy(update={"conditions": conditions})
