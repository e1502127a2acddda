# SPDX-License-Identifier: Apache-2.0
"""The agent: keeps an engine running, brings it to the newest configuration, reports its state."""

import asyncio
import contextlib
import fcntl
import logging
import math
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from headrace_api import (
    FEATURES,
    SOCKETS_DIRECTORY,
    Condition,
    ConditionStatus,
    DataplaneConfig,
    DataplaneConfigStatus,
    InterfaceState,
    NetworkState,
    Problem,
    WorkerState,
)
from headrace_dataplane.engine import (
    EngineOptions,
    EngineProcess,
    RuntimeDirectory,
    choose_cpus,
    engine_name,
)
from headrace_dataplane.isolation import isolate
from headrace_dataplane.netdev import indexes, link_events
from headrace_dataplane.network_state import network_states
from headrace_dataplane.precedence import PrecedenceFile
from headrace_dataplane.preflight import memory_lock_problem, on_ordinary_pages
from headrace_dataplane.protocol import EngineClient, EngineError, Hello, Interface, Refusal
from headrace_dataplane.sockets import SocketDirectories
from headrace_dataplane.source import ConfigSource, Snapshot
from headrace_dataplane.state import AgentState
from headrace_dataplane.sync import ObjectID, Outcome, Reconciler
from headrace_dataplane.translate import Translation, kernel_device, translate

log = logging.getLogger(__name__)

_REPORT_SECONDS = 2.0
# After a device has appeared: its link comes up in a moment, and a pod waits for that.
_SOON_SECONDS = 0.1
_RETRY_SECONDS = 1.0
_RESYNC_SECONDS = 60.0
# The engine's default, the API's largest, and what buffers of that size need.
_ORDINARY_MTU = 1960
_JUMBO_MTU = 9216
_JUMBO_MEMORY_MIB = 512
# Of an Interface: 1024 of them must fit into one object.
_MESSAGE_CHARACTERS = 256


@dataclass
class _Progress:
    """How far the engine has been brought, and when it is looked at again."""

    translated: tuple[Snapshot, Translation] | None = None
    reconciler: Reconciler | None = None
    accepted: tuple[ObjectID, ...] = ()
    """What the engine before had, in the order in which it came."""

    pid: int = 0
    outcome: Outcome | None = None
    networks: tuple[NetworkState, ...] = ()
    states: Mapping[str, Interface] = field(default_factory=dict)
    due: float = 0.0
    isolation_due: float = 0.0
    appeared: float = -math.inf
    directories: SocketDirectories | None = None
    failure: str = ""

    def engine_gone(self) -> None:
        """Forget all of the engine but what it had."""
        if self.reconciler is not None:
            self.accepted = self.reconciler.accepted
        self.reconciler, self.outcome, self.states, self.failure = None, None, {}, ""


class Agent:
    """One node's agent; `run` is its life."""

    def __init__(
        self,
        runtime: RuntimeDirectory,
        source: ConfigSource,
        cpus: set[int],
        state: AgentState | None = None,
        sockets: Path = Path(SOCKETS_DIRECTORY),
        precedence: PrecedenceFile | None = None,
    ) -> None:
        """`cpus` are those that the control thread and the workers may be chosen from.

        `state` is what to keep up to date, where others have a part in it; `sockets` has the
        directories of Interfaces' sockets; `precedence` is kept over a reboot.
        """
        self.state = state or AgentState()
        self.engine = EngineProcess(runtime, self._engine_changed)
        self._runtime = runtime
        self._source = source
        self._cpus = cpus
        self._sockets = sockets
        self._precedence = precedence
        self._wake = asyncio.Event()
        self._endpoints: frozenset[str] = frozenset()
        """Kernel devices of Interfaces, there or not."""
        self._isolated: Mapping[str, int] = {}
        """Those that were there, with their indexes."""
        self._snapshot: Snapshot | None = None
        self._reported: DataplaneConfigStatus | None = None
        self._logged = ""
        self._error = ""

    async def run(self) -> None:
        """Run until cancelled; the engine is left running.

        Raises EngineError when another agent has the runtime directory.
        """
        with _lock(self._runtime):
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._follow())
                tasks.create_task(self.engine.run())
                tasks.create_task(self._reconcile())
                tasks.create_task(self._notice_devices())

    async def _notice_devices(self) -> None:
        """Wake up for devices that are new: a pod waits for its own to be opened."""

        def changed() -> None:
            if self._appeared():
                self._wake.set()

        with link_events(changed):
            await asyncio.Event().wait()

    def _appeared(self) -> frozenset[str]:
        """Endpoints that are there now, or are others than they were."""
        there = indexes(self._endpoints).items()
        return frozenset(device for device, _ in there - self._isolated.items())

    async def _isolate(self, endpoints: tuple[str, ...]) -> bool:
        """Keep the host out of devices that are new; return whether one was waited for."""
        appeared = self._appeared()
        self._isolated = indexes(endpoints)
        new = appeared | (self._isolated.keys() - self._endpoints)
        self._endpoints = frozenset(endpoints)
        if new:
            await asyncio.to_thread(isolate, new)
        return not appeared.isdisjoint(endpoints)

    def _engine_changed(self) -> None:
        hello = self.engine.hello
        self.state.hello = hello
        self.state.engine_restarts = self.engine.restarts
        if hello is None:
            self.state.active_generation = 0
        elif self._snapshot is not None and on_ordinary_pages(self._snapshot.config, hello.pid):
            log.warning(
                "the engine runs without hugepages, and slower: as many as the Pipeline asks for "
                "were not free when it started"
            )
        self._wake.set()

    async def _follow(self) -> None:
        while True:
            snapshot = await self._source.next()
            self._snapshot = snapshot
            if snapshot.generation != self.state.wanted_generation:
                self.state.wanted_since = time.monotonic()
                self.state.wanted_generation = snapshot.generation
            try:
                self.engine.want(self._options(snapshot.config))
            except Exception as error:  # whatever it is, the engine that runs goes on
                log.error("%s", error)
                self.engine.problem = str(error)
            self._wake.set()

    def _options(self, config: DataplaneConfig) -> EngineOptions:
        spec = config.spec
        cpus = choose_cpus(self._cpus, spec.workers.count, spec.workers.share_control_core)
        # A worker polls: whatever shares its CPU takes packets' time.
        workers = cpus if spec.workers.share_control_core else cpus[1:]
        for thread in os.listdir("/proc/self/task"):
            with contextlib.suppress(OSError):
                os.sched_setaffinity(int(thread), self._cpus - {*workers} or cpus[:1])
        # By the uplinks alone: an Interface must not restart the engine of all the others.
        jumbo = any(uplink.mtu > _ORDINARY_MTU for uplink in spec.uplinks)
        memory = spec.hugepages.mebibytes if spec.hugepages is not None else None
        return EngineOptions(
            name=engine_name(spec.node_name),
            cpus=cpus,
            workers=spec.workers.count,
            share_control=spec.workers.share_control_core,
            hugepages=spec.hugepages is not None,
            memory_mib=memory or (_JUMBO_MEMORY_MIB if jumbo else None),
            max_mtu=_JUMBO_MTU if jumbo else None,
        )

    async def _reconcile(self) -> None:
        progress = _Progress()
        if self._precedence is not None:
            progress.accepted = await asyncio.to_thread(self._precedence.load)
        with EngineClient(self._runtime.socket) as client:
            while True:
                soon = time.monotonic() < progress.appeared + _REPORT_SECONDS
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_SOON_SECONDS if soon else _REPORT_SECONDS):
                        await self._wake.wait()
                # Not by how the wait ended: a wake-up may come at the very end of it.
                if self._wake.is_set():
                    self._wake.clear()
                    progress.due = 0.0
                snapshot = self._snapshot
                if snapshot is None:
                    continue
                try:
                    await self._round(progress, snapshot, client)
                    self._error = ""
                except Exception as error:  # whatever it is, the engine goes on with what it has
                    line = " ".join(f"{type(error).__name__}: {error}".split())
                    if line != self._error:
                        log.error(
                            "generation %d cannot be brought to the engine: %s; what it has "
                            "stays in force",
                            snapshot.generation,
                            line,
                        )
                    self._error = line
                    await asyncio.sleep(_RETRY_SECONDS)

    async def _round(self, progress: _Progress, snapshot: Snapshot, client: EngineClient) -> None:
        """Bring the engine to the snapshot where that is due, and report."""
        if progress.translated is None or progress.translated[0] is not snapshot:
            before = progress.translated[1] if progress.translated is not None else None
            made = translate(snapshot.config, snapshot.slices, before)
            progress.translated = snapshot, made
            progress.due = 0.0
        translation = progress.translated[1]
        if await self._isolate(translation.endpoints) and progress.reconciler is not None:
            progress.reconciler.retry()
            progress.due, progress.appeared = 0.0, time.monotonic()
        if progress.directories is None:
            owner = snapshot.config.metadata.name
            progress.directories = SocketDirectories(self._sockets, owner, time.monotonic())
        await asyncio.to_thread(
            progress.directories.keep, translation.directories, time.monotonic()
        )
        hello = self.engine.hello
        if hello is None:
            progress.engine_gone()
        else:
            if progress.reconciler is None or hello.pid != progress.pid:
                client.close()
                progress.engine_gone()
                progress.reconciler = Reconciler(client, hello.kinds, progress.accepted)
                progress.pid, progress.due = hello.pid, 0.0
            now = time.monotonic()
            try:
                if now >= progress.due:
                    outcome = await asyncio.to_thread(
                        progress.reconciler.reconcile,
                        translation.objects,
                        snapshot.generation,
                        now,
                    )
                    progress.outcome = outcome
                    progress.networks = network_states(snapshot, outcome.refused)
                    progress.due = min(outcome.retry_at or math.inf, now + _RESYNC_SECONDS)
                    self._reached(outcome, translation)
                progress.states = await asyncio.to_thread(_interfaces, client)
                progress.failure = ""
            except EngineError as error:
                log.warning("%s", error)
                progress.due = now + _RETRY_SECONDS
                # Once is what an engine does that ends: that is told soon.
                again, progress.failure = bool(progress.failure), str(error)
                if not again:
                    return
        if hello is None or progress.outcome is None or progress.failure:
            progress.networks = ()
        await self._report(progress, snapshot, translation, hello)
        if time.monotonic() >= progress.isolation_due:
            # Again and again: a device that was made anew has forgotten it.
            await asyncio.to_thread(isolate, translation.endpoints)
            progress.isolation_due = time.monotonic() + _REPORT_SECONDS
        if progress.reconciler is not None:
            await self._keep_precedence(progress.reconciler.accepted)

    async def _keep_precedence(self, accepted: tuple[ObjectID, ...]) -> None:
        if self._precedence is None or accepted == self._precedence.saved:
            return
        try:
            await asyncio.to_thread(self._precedence.save, accepted)
        except OSError as error:
            log.warning("who is in the engine cannot be kept for a reboot: %s", error)

    def _reached(self, outcome: Outcome, translation: Translation) -> None:
        for refusal in outcome.refused:
            if refusal.kind in ("network", "routes") and refusal not in self.state.refused:
                log.warning("refused: %s", refusal)
        self.state.ports = translation.devices
        self.state.refused = outcome.refused
        self.state.active_generation = outcome.generation
        self.state.ready = True
        if outcome.changed:
            log.info(
                "generation %d: %d objects changed%s",
                outcome.generation,
                outcome.changed,
                f", {len(outcome.refused)} refused" if outcome.refused else "",
            )

    async def _report(
        self,
        progress: _Progress,
        snapshot: Snapshot,
        translation: Translation,
        hello: Hello | None,
    ) -> None:
        outcome, failure = progress.outcome, progress.failure
        problem = failure or self.engine.problem
        if hello is None and not problem:
            # It starts: what was said last says more.
            return
        locked = memory_lock_problem(snapshot.config)
        status = node_status(
            snapshot.config,
            (*snapshot.problems, *translation.problems, *([] if locked is None else [locked])),
            outcome.refused if outcome is not None else (),
            progress.states,
            hello if hello is not None and not failure else problem,
            self._reported,
            progress.networks,
            self._endpoints.difference(self._isolated),
        )
        self.state.interfaces = {f"{s.namespace}/{s.name}": s.ready for s in status.interfaces}
        self.state.networks = {
            f"{i.namespace}/{i.name}": i.network for i in snapshot.config.spec.interfaces
        }
        if status != self._reported:
            self._reported = status
            await self._source.report(status)
        ready = status.conditions[0]
        line = "" if ready.status is ConditionStatus.TRUE else f"{ready.reason}: {ready.message}"
        if line and line != self._logged and ready.reason != "EngineDown":
            log.warning("%s", line)
        self._logged = line


def node_status(
    config: DataplaneConfig,
    problems: tuple[Problem, ...],
    refused: tuple[Refusal, ...],
    states: Mapping[str, Interface],
    engine: Hello | str,
    before: DataplaneConfigStatus | None,
    networks: tuple[NetworkState, ...] = (),
    absent: frozenset[str] = frozenset(),
) -> DataplaneConfigStatus:
    """Return the status of a node; conditions that `before` has alike keep their time.

    `engine` is the running one, or why there is none; `networks` what it has of each; `absent`
    names kernel devices that this node does not have.
    """
    hello = engine if isinstance(engine, Hello) else None
    down = "EngineDown", f"The engine does not run: {engine}" if engine else "The engine starts"
    by_key = {(r.kind, r.key): (r.reason or "Refused", r.message) for r in refused}
    unattached = {
        (p.namespace, p.name): (p.reason, p.message) for p in problems if p.kind == "Interface"
    }
    interfaces = []
    for interface in config.spec.interfaces:
        key = f"{interface.namespace}/{interface.name}"
        state = states.get(key)
        device = kernel_device(key, interface.attachment)
        missing = device in absent and hello is not None and (state is None or state.state != "up")
        bad = (
            unattached.get((interface.namespace, interface.name))
            or (("DeviceGone", f"There is no device {device}") if missing else None)
            or by_key.get(("port", key))
            or by_key.get(("interface", key))
        )
        if bad is None and hello is None:
            bad = down
        elif bad is None and state is None:
            bad = "Pending", "The engine does not have it yet"
        elif bad is None and state is not None and state.state != "up":
            reason = "DeviceGone" if state.state == "gone" else "LinkDown"
            bad = reason, f"Its device is {state.state}"
        interfaces.append(
            InterfaceState(
                namespace=interface.namespace,
                name=interface.name,
                ready=bad is None,
                reason=bad[0] if bad else "Forwarding",
                message=(bad[1] if bad else "The engine forwards for it")[:_MESSAGE_CHARACTERS],
                mac_address=state.mac if state is not None else None,
            )
        )

    present = {(interface.namespace, interface.name) for interface in config.spec.interfaces}
    interfaces += [
        InterfaceState(
            namespace=namespace,
            name=name,
            ready=False,
            reason=reason,
            message=message[:_MESSAGE_CHARACTERS],
        )
        for (namespace, name), (reason, message) in unattached.items()
        if namespace and name and (namespace, name) not in present
    ]
    # One tenant's network is that network's matter (NetworkState), and no fault of the node.
    general = [str(p) for p in problems if p.kind not in ("Interface", "VirtualNetwork")]
    own = {f"{interface.namespace}/{interface.name}" for interface in config.spec.interfaces}
    general += [
        str(r)
        for r in refused
        if r.kind not in ("network", "routes", "interface", "port")
        or (r.kind in ("interface", "port") and r.key not in own)
    ]
    incomplete = [network for network in networks if network.reason]
    if hello is None:
        verdict = ConditionStatus.FALSE, *down
    elif general:
        verdict = ConditionStatus.FALSE, "Refused", "; ".join(general)[:32768]
    elif (unready := sum(not state.ready for state in interfaces)) > 0:
        verdict = (
            ConditionStatus.TRUE,
            "InterfacesNotReady",
            f"{unready} of {len(interfaces)} Interfaces are not ready",
        )
    elif incomplete:
        verdict = (
            ConditionStatus.TRUE,
            "NetworksIncomplete",
            f"{len(incomplete)} of {len(networks)} networks lack something",
        )
    else:
        verdict = ConditionStatus.TRUE, "Forwarding", "The engine has the whole configuration"
    return DataplaneConfigStatus(
        observed_generation=config.metadata.generation,
        conditions=(_condition(verdict, config.metadata.generation, before),),
        engine_version=hello.version if hello is not None else None,
        dpdk_version=hello.dpdk.removeprefix("DPDK ") if hello is not None else None,
        workers=tuple(
            WorkerState(worker=worker.worker, lcore=worker.lcore, cpu=worker.cpu)
            for worker in (hello.workers if hello is not None else ())
        ),
        interfaces=tuple(interfaces),
        networks=networks,
        # An engine that does not run will be of the agent's own release.
        features=tuple(f for f in FEATURES if hello is None or f in hello.features),
    )


def _condition(
    verdict: tuple[ConditionStatus, str, str],
    generation: int,
    before: DataplaneConfigStatus | None,
) -> Condition:
    status, reason, message = verdict
    time_now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    old = before.conditions[0] if before is not None else None
    return Condition(
        type="Ready",
        status=status,
        observed_generation=generation,
        last_transition_time=(
            old.last_transition_time if old is not None and old.status == status else time_now
        ),
        reason=reason,
        message=message,
    )


def _interfaces(client: EngineClient) -> dict[str, Interface]:
    return {interface.name: interface for interface in client.items(Interface)}


@contextlib.contextmanager
def _lock(runtime: RuntimeDirectory) -> Iterator[None]:
    """Be the only agent of the runtime directory."""
    runtime.path.mkdir(parents=True, exist_ok=True)
    with runtime.lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise EngineError(
                f"another agent runs with {runtime.path}: stop it, or give this one another "
                "--runtime-dir"
            ) from None
        yield
