# SPDX-License-Identifier: Apache-2.0
"""What a node's agent does next, decided from what it observes: pure, no I/O; time is an argument.

A step takes what is observed, and gives out what is to be done. What the engine answers is observed
by the next step: so everything that the agent decides can be walked through without an engine, a
device or a clock.
"""

import logging
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from headrace_api import (
    ConditionStatus,
    DataplaneConfigStatus,
    FunctionClaim,
    NetworkState,
    Problem,
)
from headrace_api.dataplane_config import GRANTED_FUNCTIONS
from headrace_dataplane.device_status import device_problems, devices_ready
from headrace_dataplane.engine_session import Exchange, Request
from headrace_dataplane.functions import Functions, is_pci_address
from headrace_dataplane.network_state import network_states
from headrace_dataplane.node_status import Verdict, node_status
from headrace_dataplane.numa import Numa, alignment
from headrace_dataplane.parts import Report
from headrace_dataplane.preflight import Fault
from headrace_dataplane.protocol import Hello, Interface
from headrace_dataplane.source import Snapshot
from headrace_dataplane.state import AgentState
from headrace_dataplane.sync import ObjectID, Outcome
from headrace_dataplane.translate import Translation, translate

log = logging.getLogger(__name__)

LIST_SECONDS = 2.0
"""Between two looks at the engine's Interfaces."""
APPEARED_SECONDS = (0.1, 2.0)
"""The same, and for how long, after a device has appeared: its link comes up in a moment, and a pod
waits for that."""
UPKEEP_SECONDS = 2.0
"""Between two looks at devices and directories: what was made anew has forgotten what it was."""
RESYNC_SECONDS = 60.0
"""Between two comparisons with the engine when nothing has changed."""
FAILURE_SECONDS = 2.0
"""Until an engine that did not answer is asked again."""
_NO_FUNCTIONS = Functions()


@dataclass(frozen=True)
class Observed:
    """What the agent knows of its node; of the engine and devices, as they are now."""

    snapshot: Snapshot
    """The newest configuration."""

    links: Mapping[str, int]
    """Every kernel device and its index: one that was made anew has another."""

    engine: Hello | None
    """The engine that runs; another object for each that has come up."""

    engine_problem: str
    """Why none runs, empty when nothing is known to be wrong."""

    node_problem: Problem | None
    """What is wrong with the node itself."""

    exchange: Exchange | None
    """What came of the last step's request."""

    time: datetime
    """Now, in UTC: for people."""

    faults: Mapping[str, Fault] = field(default_factory=dict)
    """PCI address -> why this pod cannot open a function that it was given."""

    numa: Numa | None = None
    """Where functions, CPUs and the engine's memory are, once it has started."""


@dataclass(frozen=True)
class Step:
    """What is to be done now, in this order; of what is None or empty, nothing."""

    report: Report | None
    """To be reported: it is another one than before."""

    accepted: tuple[ObjectID, ...] | None
    """To be kept on disk: what engines have had, in the order in which it came."""

    isolate: frozenset[str]
    """Kernel devices that the host must keep out of (isolation.py)."""

    keep_apart: Mapping[str, str]
    """Kernel devices of uplinks -> the prefix that is not the host's there (isolation.py)."""

    directories: frozenset[str] | None
    """Directories of sockets that must be there (sockets.py)."""

    request: Request | None
    """For the engine. The next step observes its exchange, and is due at once."""

    wake_at: float
    """When the next step is due, if nothing else is observed before."""


@dataclass(frozen=True)
class _Desired:
    """What the engine should have."""

    snapshot: Snapshot
    translation: Translation


@dataclass
class _Engine:
    """What is known of the engine that runs, and when it is asked again."""

    hello: Hello
    reached: _Desired | None = None
    """What its last answer is about."""

    outcome: Outcome | None = None
    networks: tuple[NetworkState, ...] = ()
    interfaces: Mapping[str, Interface] = field(default_factory=dict)
    failures: int = 0
    """Exchanges that failed, since the last that did not."""

    failure: str = ""
    retry: bool = False
    """Whether what it refused is tried again at once."""

    appeared_at: float = -math.inf
    """When a device appeared that was waited for."""

    reconcile_at: float = -math.inf
    list_at: float = -math.inf


class Controller:
    """Decides for one node; its steps belong to one event loop."""

    def __init__(
        self,
        state: AgentState,
        accepted: tuple[ObjectID, ...] = (),
        functions: Functions = _NO_FUNCTIONS,
    ) -> None:
        """`state` is kept up to date, but for the engine's process and the wanted generation.

        `accepted` is what is kept on disk; `functions` are those that this pod has.
        """
        self._state = state
        self._functions = functions
        self._accepted = self._saved = accepted
        self._desired: _Desired | None = None
        self._engine: _Engine | None = None
        self._endpoints: frozenset[str] = frozenset()
        """Kernel devices of Interfaces, there or not."""
        self._links: Mapping[str, int] = {}
        self._shared: Mapping[str, tuple[int, str]] = {}
        """Those that are there, with their indexes."""
        self._upkeep_at = -math.inf
        self._opened: Mapping[str, FunctionClaim] | None = None
        """Functions with grants that an engine may have open, by PCI address; None: not known."""
        self._reported: Report | None = None
        self._logged = ""

    def step(self, observed: Observed, now: float) -> Step:
        """Return what is to be done; `now` is of any steady clock, in seconds.

        Raises whatever the translation of a configuration raises; later steps do it again, until
        there is another configuration.
        """
        self._observe_engine(observed, now)
        before = self._desired
        desired = self._observe_snapshot(observed.snapshot)
        isolate = self._observe_links(observed.links, desired, now)
        keep_apart = self._observe_shared(observed.links, desired)
        directories = desired.translation.directories if desired is not before else None
        if now >= self._upkeep_at:
            isolate, directories = frozenset(self._links), desired.translation.directories
            keep_apart = {device: prefix for device, (_, prefix) in self._shared.items()}
            self._upkeep_at = now + UPKEEP_SECONDS
        request = self._request(desired, now)
        # An engine that is asked will have more to report.
        waits = request is not None and observed.exchange is None
        return Step(
            report=self._report(observed, desired) if not waits else None,
            accepted=self._unsaved(),
            isolate=isolate,
            keep_apart=keep_apart,
            directories=directories,
            request=request,
            wake_at=now if request is not None else self._wake_at(),
        )

    def appeared(self, links: Mapping[str, int]) -> frozenset[str]:
        """Return the Interfaces' devices that have come, or are others than they were."""
        return self._new(links, self._endpoints)

    def _new(self, links: Mapping[str, int], endpoints: frozenset[str]) -> frozenset[str]:
        return frozenset(
            device
            for device in endpoints & links.keys()
            if links[device] != self._links.get(device)
        )

    def _observe_engine(self, observed: Observed, now: float) -> None:
        """Take in which engine runs, and what it answered."""
        if observed.engine is None:
            self._engine = None
        elif self._engine is None or self._engine.hello is not observed.engine:
            self._engine = _Engine(observed.engine)
        elif observed.exchange is not None and self._desired is not None:
            # What is desired is what the last step asked for: a newer snapshot is observed later.
            self._observe_exchange(self._engine, self._desired, observed.exchange, now)
        if observed.exchange is not None:
            self._accepted = observed.exchange.accepted

    def _observe_exchange(
        self, engine: _Engine, desired: _Desired, exchange: Exchange, now: float
    ) -> None:
        engine.reached, engine.retry = desired, False
        outcome = exchange.outcome
        if outcome is not None:
            engine.outcome = outcome
            engine.networks = network_states(desired.snapshot, outcome.refused)
            retry_at = outcome.retry_at if outcome.retry_at is not None else math.inf
            engine.reconcile_at = min(retry_at, now + RESYNC_SECONDS)
            self._observe_opened(outcome, desired.translation)
            self._publish_outcome(outcome)
        engine.failure = exchange.failure
        if exchange.failure:
            log.warning("%s", exchange.failure)
            engine.failures += 1
            engine.reconcile_at = now + FAILURE_SECONDS
        else:
            engine.failures = 0
            engine.interfaces = exchange.interfaces
        soon, long = APPEARED_SECONDS
        engine.list_at = now + (soon if now < engine.appeared_at + long else LIST_SECONDS)

    def _observe_opened(self, outcome: Outcome, translation: Translation) -> None:
        """Take in what the engine has closed: all that it was not to have, unless it refused."""
        refused = {each.key for each in outcome.refused if each.kind in ("port", "interface")}
        if self._opened is not None:
            left = {k: each for k, each in self._opened.items() if each.interface in refused}
            self._opened = {**left, **translation.opened}
        elif refused <= {each.key for each in translation.objects if each.kind == "port"}:
            # What the agent before this one opened is closed, too.
            self._opened = translation.opened

    def _observe_snapshot(self, snapshot: Snapshot) -> _Desired:
        desired = self._desired
        if desired is None or desired.snapshot is not snapshot:
            before = desired.translation if desired is not None else None
            translation = translate(
                snapshot.config, snapshot.slices, before, self._functions, snapshot.grants
            )
            self._desired = desired = _Desired(snapshot, translation)
            if self._engine is not None:
                self._engine.reconcile_at = -math.inf
        return desired

    def _observe_links(
        self, links: Mapping[str, int], desired: _Desired, now: float
    ) -> frozenset[str]:
        """Take in which devices there are; return those that are new."""
        endpoints = frozenset(desired.translation.endpoints)
        new = self._new(links, endpoints)
        if self._engine is not None and new & self._endpoints:
            self._engine.retry = True
            self._engine.appeared_at = now
            self._engine.reconcile_at = -math.inf
        self._endpoints = endpoints
        self._links = {device: links[device] for device in endpoints & links.keys()}
        return new

    def _observe_shared(self, links: Mapping[str, int], desired: _Desired) -> Mapping[str, str]:
        """Take in which devices of uplinks there are; return what is new of them."""
        before = self._shared
        self._shared = {
            device: (links[device], prefix)
            for device, prefix in desired.translation.shared.items()
            if device in links
        }
        return {
            device: this[1] for device, this in self._shared.items() if this != before.get(device)
        }

    def _request(self, desired: _Desired, now: float) -> Request | None:
        engine = self._engine
        if engine is None or now < min(engine.reconcile_at, engine.list_at):
            return None
        if now >= engine.reconcile_at and self._opened is not None:
            self._opened = {**self._opened, **desired.translation.opened}
        return Request(
            engine=engine.hello,
            objects=desired.translation.objects if now >= engine.reconcile_at else None,
            generation=desired.snapshot.generation,
            retry=engine.retry,
        )

    def _wake_at(self) -> float:
        engine = self._engine
        if engine is None:
            return self._upkeep_at
        return min(self._upkeep_at, engine.reconcile_at, engine.list_at)

    def _report(self, observed: Observed, desired: _Desired) -> Report | None:
        """Return what is reported where it is another than before."""
        engine = self._engine
        running: Hello | str = observed.engine_problem
        if engine is None:
            # While one starts, what was reported last says more.
            about = desired if running else None
        else:
            # Once is how an engine fails that ends, and that is observed soon.
            about = engine.reached if engine.failures != 1 else None
            running = engine.failure or engine.hello
        if about is None:
            return None
        config, translation = about.snapshot.config, about.translation
        node = [observed.node_problem] if observed.node_problem is not None else []
        problems = (
            *about.snapshot.problems,
            *translation.problems,
            *device_problems(config, translation.devices, observed.faults),
            *node,
        )
        status = node_status(
            config,
            problems,
            engine.outcome.refused if engine is not None and engine.outcome is not None else (),
            engine.interfaces if engine is not None else {},
            running,
            self._reported.status if self._reported is not None else None,
            engine.networks if engine is not None and not engine.failure else (),
            self._endpoints - self._links.keys(),
            tuple(self._verdicts(observed, translation, problems)),
            translation.waiting,
            time=observed.time,
        )
        status = status.model_copy(update={"functions": self._claims(translation)})
        self._publish_status(about.snapshot, status)
        report = Report(status, about.snapshot.parts)
        if report == self._reported:
            return None
        self._reported = report
        return report

    def _claims(self, translation: Translation) -> tuple[FunctionClaim, ...] | None:
        """Return whose functions are, or are to be; who has one open goes before who wants it."""
        if self._opened is None:
            return None
        found = {**self._opened, **translation.claims, **self._opened}
        most = [*found.values()][:GRANTED_FUNCTIONS]
        return tuple(sorted(most, key=lambda each: each.pci_address))

    def _verdicts(
        self, observed: Observed, translation: Translation, problems: tuple[Problem, ...]
    ) -> Iterator[Verdict]:
        """Yield what is said of functions, where any are driven or missed."""
        ready = devices_ready(self._functions, problems)
        if ready is not None:
            yield ready
        functions = [name for name in translation.devices if is_pci_address(name)]
        if functions and observed.numa is not None and observed.engine is not None:
            workers = {each.worker: each.cpu for each in observed.engine.workers}
            yield alignment(observed.numa, functions, workers)

    def _unsaved(self) -> tuple[ObjectID, ...] | None:
        """Return what engines have had, if that is not on disk."""
        if self._accepted == self._saved:
            return None
        self._saved = self._accepted
        return self._saved

    def _publish_status(self, snapshot: Snapshot, status: DataplaneConfigStatus) -> None:
        self._state.interfaces = {f"{s.namespace}/{s.name}": s.ready for s in status.interfaces}
        self._state.networks = {
            f"{i.namespace}/{i.name}": i.network for i in snapshot.config.spec.interfaces
        }
        ready = status.conditions[0]
        line = "" if ready.status is ConditionStatus.TRUE else f"{ready.reason}: {ready.message}"
        if line and line != self._logged and ready.reason != "EngineDown":
            log.warning("%s", line)
        self._logged = line

    def _publish_outcome(self, outcome: Outcome) -> None:
        for refusal in outcome.refused:
            if refusal.kind in ("network", "routes") and refusal not in self._state.refused:
                log.warning("refused: %s", refusal)
        self._state.refused = outcome.refused
        self._state.active_generation = outcome.generation
        self._state.ready = True
        if outcome.changed:
            log.info(
                "generation %d: %d objects changed%s",
                outcome.generation,
                outcome.changed,
                f", {len(outcome.refused)} refused" if outcome.refused else "",
            )
