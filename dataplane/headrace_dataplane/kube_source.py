# SPDX-License-Identifier: Apache-2.0
"""The ConfigSource of a cluster: follows the API server, and writes the node's status there.

Whatever happens to the API server or the objects, the agent keeps what it knew last: an object
that is not understood, or is gone while the configuration still names it, stays as it was.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from itertools import chain
from typing import TypeVar

from pydantic import ValidationError

from headrace_api import (
    CONFIG_LABEL,
    LEASE_SECONDS,
    CompiledInterface,
    CompiledNetwork,
    ConditionStatus,
    DataplaneConfig,
    DataplaneConfigStatus,
    Json,
    ObjectMeta,
    Problem,
    RouteSlice,
    config_label,
    config_name,
)
from headrace_api.base import Resource
from headrace_api.errors import violations
from headrace_api.raw import object_name
from headrace_api.slice import VNI_LABEL
from headrace_dataplane.boot import boot_id
from headrace_dataplane.follow import follow, follow_one
from headrace_dataplane.grants import Grants, read_grants
from headrace_dataplane.heartbeat import Heartbeat
from headrace_dataplane.node_status import ready_condition
from headrace_dataplane.parts import Part, Report, Whole, taken_apart
from headrace_dataplane.reading import REASON, is_routes, read_config, read_slice
from headrace_dataplane.snapshot_file import SnapshotFile
from headrace_dataplane.source import Snapshot
from headrace_dataplane.state import AgentState
from headrace_dataplane.status_writer import ConfigStatusWriter, SliceStatusWriter
from headrace_dataplane.version import package_version
from headrace_kube import DATAPLANE_CONFIGS, NODE_STATES, SLICES, Kube, Listing

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 10.0
"""For an answer of the API server, before the configuration on disk is used."""

# A selector is a part of the URL.
_SELECTOR_NETWORKS = 500
# Changes that come together are saved together.
_SAVE_SECONDS = 1.0

_CONFIG, _SLICE = DataplaneConfig.kind_name(), RouteSlice.kind_name()
# What is followed besides the DataplaneConfig.
_PARTS, _ROUTES = "its Slices", "Slices of routes"

ResourceT = TypeVar("ResourceT", bound=Resource)


class KubeSource:
    """Gives the DataplaneConfig of one Pipeline and node with its Slices; `run` feeds it."""

    def __init__(
        self,
        kube: Kube,
        namespace: str,
        pipeline: str,
        node: str,
        file: SnapshotFile | None,
        state: AgentState,
        running: int = 0,
        lease_seconds: int = LEASE_SECONDS,
    ) -> None:
        """`namespace` is that of the compiled objects, `file` where to keep the last good ones.

        `state` is the agent's: its `watches` are written here.

        `running` is the generation of an engine that runs already: it is never taken back.
        `lease_seconds` is how long the agent's Lease lasts.
        """
        self._kube = kube
        self._running = running
        self._namespace = namespace
        self._name = config_name(pipeline, node)
        self._node = node
        self._file = file
        self._state = state
        self._writer = ConfigStatusWriter(kube, namespace, self._name)
        self._writers: dict[str, tuple[SliceStatusWriter, asyncio.Task[None]]] = {}
        """Of its own Slices, by name."""
        self._heartbeat = Heartbeat(kube, namespace, pipeline, node, lease_seconds)
        self._reported: Report | None = None

        self._whole = Whole(self._name)
        self._config: DataplaneConfig | None = None
        self._version = ""
        """Of the DataplaneConfig and its Slices that it was read from."""
        self._parts: tuple[Part, ...] = ()
        self._slices: dict[str, RouteSlice] = {}
        self._kept: set[str] = set()
        """Slices of routes that were deleted while the configuration names them."""
        self._refused: dict[tuple[str, str], tuple[str, str]] = {}
        """Kind and name -> the version that is not understood, and why."""
        self._unread: dict[tuple[str, str], tuple[Problem, ...]] = {}
        """Kind and name -> what of it could not be read."""
        self._refused_generation = 0
        self._vnis: frozenset[int] | None = None
        self._more_vnis = asyncio.Event()
        self._grants: Grants | None = None
        self._granted = asyncio.Event()
        """Whether Interfaces have had grants: the NodeState is followed then."""
        self._listed = False
        """Whether the routes are."""
        self._streams: dict[str, bool] = {}
        """What is followed -> whether it is, at present."""
        self._there: bool | None = None
        """Whether the API server has the DataplaneConfig; None before its first answer."""
        self._failed = asyncio.Event()

        self._last: Snapshot | None = None
        self._offered: Snapshot | None = None
        self._given: Snapshot | None = None
        self._offer_changed = asyncio.Event()
        self._unsaved = asyncio.Event()

    async def next(self) -> Snapshot:
        """Wait for a configuration other than the one returned last, and return the newest."""
        while self._offered is None or self._offered is self._given:
            self._offer_changed.clear()
            await self._offer_changed.wait()
        self._given = self._offered
        return self._offered

    async def report(self, report: Report) -> None:
        """Have the state written; returns at once."""
        self._reported = report
        self._heartbeat.begin()
        self._report()

    async def run(self) -> None:
        """Follow and write until cancelled."""
        if self._file is not None:
            stored = await asyncio.to_thread(self._file.load)
            if stored is not None and stored.config.metadata.name == self._name:
                self._last, self._config = stored, stored.config
                self._slices = {part.metadata.name: part for part in stored.slices}
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow_config())
            tasks.create_task(self._follow_parts(tasks))
            tasks.create_task(self._follow_slices())
            tasks.create_task(self._follow_grants())
            tasks.create_task(self._writer.run())
            tasks.create_task(self._heartbeat.run())
            tasks.create_task(self._fall_back())
            if self._file is not None:
                tasks.create_task(self._save(self._file))

    def _connected(self, stream: str, well: bool) -> None:
        self._streams[stream] = well
        # Its own and those of routes are of one kind.
        slices = [self._streams[each] for each in (_PARTS, _ROUTES) if each in self._streams]
        self._state.watches = {
            **({_CONFIG: self._streams[_CONFIG]} if _CONFIG in self._streams else {}),
            **({_SLICE: all(slices)} if slices else {}),
        }
        if not well:
            self._failed.set()

    async def _fall_back(self) -> None:
        """Offer what was on the disk when the API server does not answer."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self._failed.wait()
        if self._offered is not None or self._last is None or self._there is False:
            return
        if self._last.generation < self._running:
            log.warning("no answer of the API server: leaving the engine as it is")
            return
        log.warning("no answer of the API server: going on with the last good configuration")
        self._offer(self._last)

    async def _save(self, file: SnapshotFile) -> None:
        while True:
            await self._unsaved.wait()
            await asyncio.sleep(_SAVE_SECONDS)
            self._unsaved.clear()
            if self._last is not None:
                try:
                    await asyncio.to_thread(file.save, self._last)
                except OSError as error:
                    log.error("cannot keep the configuration: %s: %s", file.path, error.strerror)

    async def _follow_config(self) -> None:
        fields = f"metadata.name={self._name}"
        where = f"DataplaneConfig {self._namespace}/{self._name}"
        async for seen in follow(
            self._kube,
            DATAPLANE_CONFIGS,
            self._namespace,
            fields=fields,
            connected=lambda well: self._connected(_CONFIG, well),
        ):
            if isinstance(seen, Listing):
                item = seen.items[0] if seen.items else None
            else:
                item = seen.object if seen.type != "DELETED" else None
            there = item is not None
            if there is not self._there:
                self._there = there
                if there:
                    log.info("%s is there", where)
                elif self._offered is not None:
                    log.warning("%s was deleted: everything stays as it is", where)
                else:
                    log.info("%s is not there yet: waiting for it", where)
            self._writer.observe(item)
            self._heartbeat.observe(item)
            if item is not None:
                self._whole.put(item)
                self._take(again=isinstance(seen, Listing))

    async def _follow_parts(self, tasks: asyncio.TaskGroup) -> None:
        """Follow the Slices of the DataplaneConfig."""
        labels = f"{CONFIG_LABEL}={config_label(self._name)}"
        async for seen in follow(
            self._kube,
            SLICES,
            self._namespace,
            labels,
            connected=lambda well: self._connected(_PARTS, well),
        ):
            if isinstance(seen, Listing):
                for item in seen.items:
                    self._take_part(item, tasks)
                self._drop_parts(self._whole.names - {object_name(item) for item in seen.items})
            elif seen.type == "DELETED":
                self._drop_parts((object_name(seen.object),))
            else:
                self._take_part(seen.object, tasks)
            self._take(again=isinstance(seen, Listing))

    async def _follow_grants(self) -> None:
        """Follow the node's NodeState, once a function of this pod depends on it."""
        await self._granted.wait()
        async for item in follow_one(self._kube, NODE_STATES, "", self._node):
            grants = read_grants(item, boot_id()) if item is not None else None
            if grants != self._grants:
                self._grants = grants
                self._publish()

    def _take_part(self, item: Json, tasks: asyncio.TaskGroup) -> None:
        self._whole.put_slice(item)
        name = object_name(item)
        if name not in self._writers:
            writer = SliceStatusWriter(self._kube, self._namespace, name)
            self._writers[name] = writer, tasks.create_task(writer.run())
            self._report()
        self._writers[name][0].observe(item)

    def _drop_parts(self, names: Iterable[str]) -> None:
        names = [*names]
        self._whole.drop_slices(names)
        for name in names:
            _, writing = self._writers.pop(name, (None, None))
            if writing is not None:
                writing.cancel()

    def _take(self, *, again: bool) -> None:
        """Take the DataplaneConfig with its Slices, once all of it is there.

        `again` reads what is the same by its version, too: a watch that is older than the CRD lacks
        what this has made known; a list does not.
        """
        version = self._whole.version()
        if version is None:
            return
        item = self._whole.config() if again or version != self._version else None
        if item is not None:
            before, metadata = self._config, ObjectMeta.model_validate(item["metadata"])
            understood = self._understand(DataplaneConfig, item, version, read_config, before)
            if understood is None:
                self._refused_generation = metadata.generation
                self._report()
                return
            config, problems = understood
            if before is None or not _is_same(config, before):
                self._config = config
            self._version, self._parts = version, self._whole.parts()
            self._note(_CONFIG, metadata.name, problems)
        named = self._named()
        for name in self._kept - named:
            self._forget(name)
        if any(each.grant is not None for each in self._interfaces()):
            self._granted.set()
        vnis = frozenset(network.vni for network in self._networks())
        if self._vnis is None or not vnis <= self._vnis:
            self._vnis = vnis
            self._more_vnis.set()
        self._publish()

    async def _follow_slices(self) -> None:
        """Follow the slices of the networks that the configuration has had."""
        while True:
            await self._more_vnis.wait()
            self._more_vnis.clear()
            async with asyncio.TaskGroup() as tasks:
                following = tasks.create_task(self._follow_slices_of(self._vnis or frozenset()))
                await self._more_vnis.wait()
                following.cancel()

    async def _follow_slices_of(self, vnis: frozenset[int]) -> None:
        if not vnis:
            self._listed = True
            self._publish()
            return
        labels = VNI_LABEL
        if len(vnis) <= _SELECTOR_NETWORKS:
            labels += f" in ({','.join(map(str, sorted(vnis)))})"
        async for seen in follow(
            self._kube,
            SLICES,
            self._namespace,
            labels,
            connected=lambda well: self._connected(_ROUTES, well),
        ):
            if isinstance(seen, Listing):
                had = self._slices.keys() | {name for kind, name in self._refused if kind == _SLICE}
                gone = had - {object_name(item) for item in seen.items}
                for item in seen.items:
                    self._take_slice(item)
                    # Each takes milliseconds when it is new, and others have work too.
                    await asyncio.sleep(0)
                self._drop_slices(gone)
                self._listed = True
            elif seen.type == "DELETED":
                self._drop_slices((object_name(seen.object),))
            else:
                self._take_slice(seen.object)
            self._publish()

    def _take_slice(self, item: Json) -> None:
        if not is_routes(item):
            # Something of a later release.
            return
        metadata = ObjectMeta.model_validate(item["metadata"])
        self._kept.discard(metadata.name)
        before = self._slices.get(metadata.name)
        if before is not None and (before.metadata.uid, before.metadata.resource_version) == (
            metadata.uid,
            metadata.resource_version,
        ):
            return
        version = f"{metadata.uid} {metadata.resource_version}"
        understood = self._understand(RouteSlice, item, version, read_slice, before)
        if understood is None:
            self._report()
            return
        self._slices[metadata.name], problems = understood
        self._note(_SLICE, metadata.name, problems)

    def _note(self, kind: str, name: str, problems: tuple[Problem, ...]) -> None:
        """Remember what of an object could not be read, and say it once."""
        before = self._unread.pop((kind, name), ())
        if problems:
            self._unread[kind, name] = problems
        for problem in problems:
            if problem not in before:
                log.error("%s %s: %s", kind, name, problem)

    def _drop_slices(self, names: Iterable[str]) -> None:
        """Forget slices that are gone, when the configuration does not name them any more.

        The operator writes a DataplaneConfig before it deletes a slice that it has named: one that
        goes first is a mistake, or the news are still on their way.
        """
        named = self._named()
        for name in names:
            if name in named:
                self._kept.add(name)
            else:
                self._forget(name)

    def _forget(self, name: str) -> None:
        self._kept.discard(name)
        self._slices.pop(name, None)
        self._unread.pop((_SLICE, name), None)
        if self._refused.pop((_SLICE, name), None) is not None:
            self._report()

    def _networks(self) -> tuple[CompiledNetwork, ...]:
        return self._config.spec.networks if self._config is not None else ()

    def _interfaces(self) -> tuple[CompiledInterface, ...]:
        return self._config.spec.interfaces if self._config is not None else ()

    def _named(self) -> set[str]:
        """The slices that the configuration names."""
        return {name for network in self._networks() for name in network.route_slices}

    def _understand(
        self,
        model: type[ResourceT],
        item: Json,
        version: str,
        read: Callable[[Json, ResourceT | None], tuple[ResourceT, tuple[Problem, ...]]],
        before: ResourceT | None,
    ) -> tuple[ResourceT, tuple[Problem, ...]] | None:
        """Return what can be read of the object, None when that is nothing; never raises."""
        name = object_name(item)
        key = model.kind_name(), name
        known = self._refused.get(key)
        if known is not None and known[0] == version:
            return None
        try:
            found = read(item, before)
        except Exception as error:  # whatever it is, the node goes on with what it has
            message = (
                f"{model.kind_name()} {name} is not understood by release {package_version()}: "
                f"{_why(model, error)}; what was there before stays in force: bring the "
                "operator and the dataplane's image to one release"
            )
            log.error("%s", message)
            self._refused[key] = version, message
            return None
        if known is not None:
            del self._refused[key]
            log.info("%s %s is understood again", model.kind_name(), name)
            self._report()
        return found

    def _report(self) -> None:
        """Have the agent's status written, or why the agent is not where it should be."""
        report = self._reported
        if self._refused:
            status = report.status if report is not None else None
            before = status.conditions[0] if status is not None else None
            messages = [message for _, message in self._refused.values()]
            if before is not None and before.status is not ConditionStatus.TRUE:
                messages.append(before.message)
            generation = status.observed_generation if status is not None else None
            if (_CONFIG, self._name) in self._refused:
                generation = self._refused_generation
            condition = ready_condition(
                ConditionStatus.FALSE, REASON, "; ".join(messages), generation, datetime.now(UTC)
            )
            others = status.conditions[1:] if status is not None else ()
            status = (status or DataplaneConfigStatus()).model_copy(
                update={"observed_generation": generation, "conditions": (condition, *others)}
            )
            report = Report(status, report.parts if report is not None else ())
        if report is not None:
            status, slices = taken_apart(report)
            self._writer.report(status)
            for name in slices.keys() & self._writers.keys():
                self._writers[name][0].report(slices[name])

    def _publish(self) -> None:
        """Offer what is known, once all of it is: half of it would take routes away."""
        if self._config is None or not self._listed:
            return
        slices = tuple(
            part
            for network in self._networks()
            for name in network.route_slices
            # Of an earlier network of the same name, its routes lead nowhere good.
            if (part := self._slices.get(name)) is not None and part.spec.vni == network.vni
        )
        last = self._last
        unread = [self._unread.get((_SLICE, part.metadata.name), ()) for part in slices]
        problems = tuple(
            chain(self._unread.get((_CONFIG, self._name), ()), chain.from_iterable(unread))
        )
        if (
            last is None
            or last.config is not self._config
            or not _same(slices, last.slices)
            or problems != last.problems
        ):
            newest = max(_version(item.metadata) for item in (self._config, *slices))
            before = last.generation if last is not None else 0
            generation = max(before + 1, self._running, newest)
            self._last = last = Snapshot(
                generation, self._config, slices, problems, self._parts, self._grants
            )
            self._unsaved.set()
        elif (last.parts, last.grants) != (self._parts, self._grants):
            # Nothing is another, but what is reported is about these, or may be opened.
            self._last = last = replace(last, parts=self._parts, grants=self._grants)
        self._offer(last)

    def _offer(self, snapshot: Snapshot) -> None:
        self._offered = snapshot
        self._offer_changed.set()


def _why(model: type[Resource], error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = next(violations(model, error))
        return f"{first.path}: {first.message}"
    return f"{type(error).__name__}: {error}"


def _version(metadata: ObjectMeta) -> int:
    return int(metadata.resource_version or 0)


def _is_same(one: DataplaneConfig, other: DataplaneConfig) -> bool:
    """Whether they are one generation, read alike."""
    return one.spec == other.spec and (one.metadata.uid, one.metadata.generation) == (
        other.metadata.uid,
        other.metadata.generation,
    )


def _same(one: tuple[RouteSlice, ...], other: tuple[RouteSlice, ...]) -> bool:
    return len(one) == len(other) and all(a is b for a, b in zip(one, other, strict=True))
