# SPDX-License-Identifier: Apache-2.0
"""Brings the engine's objects to the wanted ones: only the difference, in bounded commits.

What the engine refuses is left out, with what cannot stand without it, and tried again later;
everything else goes in. A refused change of an object leaves its last accepted state in force.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from headrace_dataplane.protocol import (
    KINDS,
    Change,
    Delete,
    EngineClient,
    Put,
    Refusal,
    RefusedError,
)

COMMIT_BYTES = 4 << 20
"""A bound on one commit: longer ones would hold the engine's control thread for long."""

RETRY_SECONDS = (1.0, 60.0)
"""First and longest time until a refused object is tried again."""

ObjectID: TypeAlias = tuple[str, str]
"""Kind and key."""


def references(put: Put) -> Iterator[ObjectID]:
    """Yield the objects without which the engine cannot take this one."""
    for kind in ("port", "network"):
        name = put.spec.get(kind)
        if isinstance(name, str):
            yield kind, name
    routes = put.spec.get("routes") if put.kind == "routes" else None
    for route in routes if isinstance(routes, list) else ():
        for hop in route[1:] if isinstance(route, list) else ():
            peer = hop.get("network") if isinstance(hop, dict) else None
            if isinstance(peer, str):
                yield "network", peer


@dataclass(frozen=True)
class Outcome:
    """What a reconciliation left: `retry_at` is when a refused object is due, None without any."""

    generation: int
    changed: int
    refused: tuple[Refusal, ...]
    retry_at: float | None


@dataclass(frozen=True)
class _Held:
    refusal: Refusal
    digest: str
    wait: float
    retry_at: float


class Reconciler:
    """Remembers what the engine refused, between reconciliations of one engine."""

    def __init__(self, client: EngineClient) -> None:
        self._client = client
        self._held: dict[ObjectID, _Held] = {}

    def reconcile(self, wanted: Sequence[Put], generation: int, now: float) -> Outcome:
        """Bring the engine to `wanted` and `generation`; `now` is of any steady clock, seconds.

        Refused objects are part of the outcome. Raises EngineError when the engine goes away.
        """
        have = self._client.digests()
        present = {(kind, key) for kind, hashes in have.digests.items() for key in hashes}
        changes = list(_difference(wanted, have.digests))
        ids = {(change.kind, change.key) for change in changes}
        self._held = {object_id: held for object_id, held in self._held.items() if object_id in ids}
        due = [change for change in changes if not self._is_held(change, now)]

        changed = 0
        active = have.generation
        batches = list(_batches(due, present))
        for number, batch in enumerate(batches, 1):
            target = generation if number == len(batches) else active
            committed = self._commit(batch, present, target, now)
            changed += committed
            active = target if committed else active
        if active != generation:
            self._client.commit(generation, [])
        return Outcome(
            generation=generation,
            changed=changed,
            refused=tuple(held.refusal for held in self._held.values()),
            retry_at=min((held.retry_at for held in self._held.values()), default=None),
        )

    def retry(self) -> None:
        """Have all that was refused be due now: what it lacked may be there."""
        self._held = {key: replace(held, retry_at=-math.inf) for key, held in self._held.items()}

    def _is_held(self, change: Change, now: float) -> bool:
        held = self._held.get((change.kind, change.key))
        return held is not None and held.digest == _digest_of(change) and now < held.retry_at

    def _hold(self, change: Change, refusal: Refusal, now: float) -> None:
        before = self._held.get((change.kind, change.key))
        again = before is not None and before.digest == _digest_of(change)
        first, longest = RETRY_SECONDS
        wait = min(2 * before.wait, longest) if before is not None and again else first
        self._held[change.kind, change.key] = _Held(refusal, _digest_of(change), wait, now + wait)

    def _commit(
        self, batch: list[Change], present: set[ObjectID], generation: int, now: float
    ) -> int:
        """Commit what of the batch the engine takes, and bring `present` up to date."""
        while True:
            batch = self._without_dangling(batch, present, now)
            if not batch:
                return 0
            try:
                self._client.commit(generation, batch)
            except RefusedError as error:
                named = {(refusal.kind, refusal.key): refusal for refusal in error.refusals}
                refused = [change for change in batch if (change.kind, change.key) in named]
                if not refused:
                    # Nobody to blame: hold them all rather than ask the same again at once.
                    refused = batch
                for change in refused:
                    whole = Refusal(change.kind, change.key, "", "Refused", str(error))
                    self._hold(change, named.get((change.kind, change.key), whole), now)
                out = set(map(id, refused))
                batch = [change for change in batch if id(change) not in out]
                continue
            for change in batch:
                self._held.pop((change.kind, change.key), None)
                if isinstance(change, Put):
                    present.add((change.kind, change.key))
                else:
                    present.discard((change.kind, change.key))
            return len(batch)

    def _without_dangling(
        self, batch: list[Change], present: set[ObjectID], now: float
    ) -> list[Change]:
        """Hold back the puts whose references will not be there after this commit."""
        after = present - {(c.kind, c.key) for c in batch if isinstance(c, Delete)}
        kept: list[Change] = []
        # Kinds refer only to earlier kinds, so one pass in their order finds every chain.
        for change in sorted(batch, key=lambda change: KINDS.index(change.kind)):
            if isinstance(change, Put):
                missing = next((r for r in references(change) if r not in after), None)
                if missing is not None:
                    self._hold(change, self._dangling(change, missing), now)
                    continue
                after.add((change.kind, change.key))
            kept.append(change)
        return kept

    def _dangling(self, put: Put, missing: ObjectID) -> Refusal:
        held = self._held.get(missing)
        why = held.refusal.message or held.refusal.reason if held else "there is none"
        kind, key = missing
        return Refusal(
            put.kind, put.key, kind, f"{kind.capitalize()}Missing", f"{kind} {key}: {why}"
        )


def _digest_of(change: Change) -> str:
    return change.hash if isinstance(change, Put) else ""


def _difference(wanted: Iterable[Put], have: Mapping[str, Mapping[str, str]]) -> Iterator[Change]:
    keys: dict[str, set[str]] = {}
    for put in wanted:
        keys.setdefault(put.kind, set()).add(put.key)
        if have.get(put.kind, {}).get(put.key) != put.hash:
            yield put
    for kind, hashes in have.items():
        for key in hashes.keys() - keys.get(kind, set()):
            yield Delete(kind, key)


def _batches(changes: Sequence[Change], present: set[ObjectID]) -> Iterator[list[Change]]:
    """Split changes into commits of about COMMIT_BYTES, each of which can stand alone.

    Routes are the many: those that let go of networks come first, the structure stays together,
    routes that need new networks come last.
    """
    sizes = {id(change): len(json.dumps(change.wire())) for change in changes}
    if sum(sizes.values()) <= COMMIT_BYTES:
        yield list(changes)
        return
    first: list[Change] = []
    structure: list[Change] = []
    last: list[Change] = []
    stays = present - {(c.kind, c.key) for c in changes if isinstance(c, Delete)}
    for change in changes:
        if change.kind != "routes":
            structure.append(change)
        elif isinstance(change, Delete) or (
            ("routes", change.key) in present and all(r in stays for r in references(change))
        ):
            first.append(change)
        else:
            last.append(change)
    order = {kind: position for position, kind in enumerate(KINDS)}
    # Dependents go before what they depend on, and come after it; names and addresses are freed
    # before they are taken.
    structure.sort(key=lambda c: (1, order[c.kind]) if isinstance(c, Put) else (0, -order[c.kind]))
    for group in (first, structure, last):
        batch: list[Change] = []
        size = 0
        for change in group:
            if batch and size + sizes[id(change)] > COMMIT_BYTES:
                yield batch
                batch, size = [], 0
            batch.append(change)
            size += sizes[id(change)]
        if batch:
            yield batch
