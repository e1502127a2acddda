# SPDX-License-Identifier: Apache-2.0
"""Which nodes of a Pipeline can be reached, judged from the Leases that their agents renew.

Pure: what was seen goes in, judgements come out. Nobody's clock but the own one is believed: a
Lease is as old as the moment when it was last seen to differ, as in client-go's leader election.
To take a next hop away needs two witnesses, the agent's Lease and the node's Ready; and none is
taken away by a witness who may himself have been cut off.
"""

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

#: Part of a Lease's duration that a node is stale before its next hops leave: what has one cause,
#: such as a switch that died, shows on all its nodes within the time between two renewals.
CONFIRM = 0.25
#: A node that came and went again and again stays alive for so many durations at most before its
#: next hops return; and for so many after its last death that one counts.
LONGEST_HOLD, MEMORY = 8, 16


class PipelineNode(NamedTuple):
    """A Pipeline on a node."""

    pipeline: str
    node: str


class State(StrEnum):
    """What is known of a Pipeline on a node."""

    ALIVE = "Alive"
    """Its agent renews its Lease, or never had one."""
    AGENT_UNREACHABLE = "AgentUnreachable"
    """The agent is silent; the node is there, or too many are silent to believe it: it forwards."""
    NODE_UNREACHABLE = "NodeUnreachable"
    """The agent and the node are silent: next hops there are left out where others remain."""
    NODE_RETURNING = "NodeReturning"
    """The agent is back; next hops return once it has stayed for a while."""

    @property
    def reachable(self) -> bool:
        """Whether the agent answers for the node."""
        return self in (State.ALIVE, State.NODE_RETURNING)

    @property
    def withdrawn(self) -> bool:
        """Whether next hops there are left out."""
        return self in (State.NODE_UNREACHABLE, State.NODE_RETURNING)


@dataclass(slots=True)
class _Record:
    renewed: str
    """What the Lease said last (renewTime); empty: it was not seen yet."""
    observed: float
    """When that was news."""
    withdrawn: bool = False
    deaths: int = 0
    died: float = 0.0
    returned: float | None = None
    """Since when it has renewed again, while it is withdrawn."""


class Liveness:
    """Judges the nodes of every Pipeline. `observe` what is seen, then `judge`."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        """`seconds` is how long a Lease lasts."""
        self.seconds = seconds
        """After so many without a renewal a Lease is stale."""
        self._clock = clock
        self._records: dict[PipelineNode, _Record] = {}
        self._observed: float | None = None
        self._lost = True
        # No silence before this moment counts.
        self._resumed = clock()

    def resume(self, withdrawn: Iterable[PipelineNode]) -> None:
        """Take over from an earlier operator: the next hops there stay left out."""
        now = self._clock()
        for pn in withdrawn:
            self._records[pn] = _Record("", now, withdrawn=True, deaths=1, died=now)

    def lost(self) -> None:
        """The API server was not reached: agents may have renewed nothing either."""
        self._lost = True

    def observe(self, leases: Mapping[PipelineNode, str]) -> None:
        """Take what all Leases say (renewTime) now."""
        now = self._clock()
        gap = now - self._observed if self._observed is not None else 0.0
        if self._lost or gap > self.seconds / 2:
            self._resumed = now
        self._lost, self._observed = False, now
        for pn, renewed in leases.items():
            record = self._records.get(pn)
            if record is None:
                self._records[pn] = _Record(renewed, now)
            elif record.renewed != renewed:
                # A first look does not tell how old it is.
                if record.renewed and record.withdrawn and record.returned is None:
                    record.returned = now
                record.renewed, record.observed = renewed, now

    def judge(
        self, nodes: Mapping[str, Collection[str]], unknown: Callable[[str], bool]
    ) -> dict[PipelineNode, State]:
        """The state of every Pipeline's nodes that are not simply alive.

        `unknown` says whether a node's Ready is Unknown: its kubelet has gone silent, too.
        """
        now = self._clock()
        found: dict[PipelineNode, State] = {}
        known: dict[PipelineNode, _Record] = {}
        for pipeline, names in nodes.items():
            records = {
                pn: record
                for pn in (PipelineNode(pipeline, name) for name in names)
                if (record := self._records.get(pn))
            }
            known |= records
            stale = {pn for pn, record in records.items() if self._age(record) > self.seconds}
            believed = 2 * len(stale) <= len(records)
            for pn, record in records.items():
                state = self._state(record, now, pn in stale, believed and unknown(pn.node))
                if state is not State.ALIVE:
                    found[pn] = state
        # Who is not selected any more starts anew when it is.
        self._records = known
        return found

    def _age(self, record: _Record) -> float:
        return self._clock() - max(record.observed, self._resumed)

    def _state(self, record: _Record, now: float, stale: bool, unknown: bool) -> State:
        if record.withdrawn:
            if stale:
                record.returned = None
            if record.returned is None:
                return State.NODE_UNREACHABLE
            if record.observed - record.returned < self._hold(record):
                return State.NODE_RETURNING
            record.withdrawn, record.returned = False, None
            return State.ALIVE
        if not stale:
            return State.ALIVE
        if unknown and self._age(record) > (1 + CONFIRM) * self.seconds:
            forgotten = now - record.died > MEMORY * self.seconds
            record.deaths = 1 if forgotten else record.deaths + 1
            record.withdrawn, record.died = True, now
            return State.NODE_UNREACHABLE
        return State.AGENT_UNREACHABLE

    def _hold(self, record: _Record) -> float:
        """Seconds that it stays alive before its next hops return: none after a first death."""
        if record.deaths < 2:
            return 0.0
        return self.seconds * min(2.0 ** (record.deaths - 2), LONGEST_HOLD)
