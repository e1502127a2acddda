# SPDX-License-Identifier: Apache-2.0
"""Brings the engine's objects to the wanted ones: only the difference, in bounded commits.

What the engine refuses is left out, with what cannot stand without it, and tried again later;
everything else goes in. A refused change of an object leaves its last accepted state in force; of
routes, those that are refused are left out alone.

Where there is no room for all, who was first keeps it, in a new engine too: what an engine had goes
before what it had not.
"""

import json
import math
import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias, TypeGuard

from headrace_api import digest
from headrace_dataplane.protocol import (
    JSON,
    Change,
    Delete,
    EngineClient,
    JSONObject,
    Kind,
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


def references(put: Put, kind: Kind) -> Iterator[ObjectID]:
    """Yield the objects without which the engine cannot take this one, of that kind."""
    for field, named in kind.references.items():
        value = put.spec.get(field)
        names = (value,) if isinstance(value, str) else _names(value, named)
        yield from ((named, name) for name in names)


def _names(value: JSON, kind: str) -> Iterator[str]:
    if isinstance(value, list):
        for each in value:
            if not isinstance(each, str):
                yield from _names(each, kind)
    elif isinstance(value, dict):
        name = value.get(kind)
        if isinstance(name, str):
            yield name


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


@dataclass(frozen=True)
class _Part(Put):
    """A put without the routes that were refused, in place of the `whole`, which is held."""

    whole: str
    """Hash of that."""


class Reconciler:
    """Remembers what the engine refused, between reconciliations of one engine."""

    def __init__(
        self, client: EngineClient, kinds: Sequence[Kind], earlier: Iterable[ObjectID] = ()
    ) -> None:
        """`kinds` are the engine's.

        `earlier` is what engines before this one had, in the order in which it came.
        """
        self._client = client
        self._kinds = {kind.name: kind for kind in kinds}
        self._held: dict[ObjectID, _Held] = {}
        self._rank = {object_id: None for object_id in earlier}

    @property
    def accepted(self) -> tuple[ObjectID, ...]:
        """What engines have had, in the order in which it came."""
        return tuple(self._rank)

    def reconcile(self, wanted: Sequence[Put], generation: int, now: float) -> Outcome:
        """Bring the engine to `wanted` and `generation`; `now` is of any steady clock, seconds.

        Refused objects are part of the outcome. Raises EngineError when the engine goes away.
        """
        have = self._client.digests()
        present = {(kind, key) for kind, hashes in have.digests.items() for key in hashes}
        kept = {(put.kind, put.key) for put in wanted}
        self._rank = {object_id: None for object_id in self._rank if object_id in kept}
        self._rank |= dict.fromkeys((p.kind, p.key) for p in wanted if (p.kind, p.key) in present)
        rank = {object_id: place for place, object_id in enumerate(self._rank)}
        changes = sorted(
            _difference(wanted, have.digests),
            key=lambda change: rank.get((change.kind, change.key), len(rank)),
        )
        ids = {(change.kind, change.key) for change in changes}
        self._held = {object_id: held for object_id, held in self._held.items() if object_id in ids}
        due = [change for change in changes if not self._is_held(change, now)]
        for change in due:
            if change.kind not in self._kinds:
                self._hold(change, _unknown(change), now)
        due = [change for change in due if change.kind in self._kinds]

        changed = 0
        active = have.generation
        batches = list(_batches(due, present, self._kinds))
        for number, batch in enumerate(batches, 1):
            target = generation if number == len(batches) else active
            committed = self._commit(batch, present, have.digests, target, now)
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
        self,
        batch: list[Change],
        present: set[ObjectID],
        have: Mapping[str, Mapping[str, str]],
        generation: int,
        now: float,
    ) -> int:
        """Commit what of the batch the engine takes, and bring `present` up to date."""
        while True:
            batch = self._without_dangling(batch, present, now)
            batch = [c for c in batch if not _is_there(c, have)]
            if not batch:
                return 0
            try:
                self._client.commit(generation, batch)
            except RefusedError as error:
                batch = self._without_refused(batch, error, now)
                continue
            for change in batch:
                if not isinstance(change, _Part):
                    self._held.pop((change.kind, change.key), None)
                if isinstance(change, Put):
                    present.add((change.kind, change.key))
                    self._rank.setdefault((change.kind, change.key))
                else:
                    present.discard((change.kind, change.key))
            return len(batch)

    def _without_refused(
        self, batch: list[Change], error: RefusedError, now: float
    ) -> list[Change]:
        """Hold back what was refused; of routes, only those that were."""
        named: dict[ObjectID, list[Refusal]] = {}
        for refusal in error.refusals:
            named.setdefault((refusal.kind, refusal.key), []).append(refusal)
        # Nobody to blame: hold them all rather than ask the same again at once.
        blind = not any((change.kind, change.key) in named for change in batch)
        rest: list[Change] = []
        for change in batch:
            refusals = named.get((change.kind, change.key), [])
            if not refusals and not blind:
                rest.append(change)
                continue
            part = _without_routes(change, refusals)
            whole = Refusal(change.kind, change.key, "", "Refused", str(error))
            first = refusals[0] if refusals else whole
            self._hold(change, part[1] if part is not None else first, now)
            if part is not None:
                rest.append(part[0])
        return rest

    def _without_dangling(
        self, batch: list[Change], present: set[ObjectID], now: float
    ) -> list[Change]:
        """Hold back the puts whose references will not be there after this commit."""
        after = present - {(c.kind, c.key) for c in batch if isinstance(c, Delete)}
        kept: list[Change] = []
        order = {kind: place for place, kind in enumerate(self._kinds)}
        # Kinds refer only to earlier kinds, so one pass in their order finds every chain.
        for change in sorted(batch, key=lambda change: order[change.kind]):
            if isinstance(change, Put):
                named = references(change, self._kinds[change.kind])
                missing = next((each for each in named if each not in after), None)
                if missing is not None:
                    part = _without_hops(change, after)
                    self._hold(change, self._dangling(change, missing), now)
                    if part is None:
                        continue
                    change = part
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


def _unknown(change: Change) -> Refusal:
    why = "the engine has no such objects: it is of another release"
    return Refusal(change.kind, change.key, "", "KindUnknown", why)


def _digest_of(change: Change) -> str:
    if isinstance(change, _Part):
        return change.whole
    return change.hash if isinstance(change, Put) else ""


def _is_there(change: Change, have: Mapping[str, Mapping[str, str]]) -> bool:
    """Whether it is a part that the engine has already."""
    return isinstance(change, _Part) and have.get(change.kind, {}).get(change.key) == change.hash


def _routes_of(put: Put) -> list[list[JSON]]:
    routes = put.spec.get("routes") if put.kind == "routes" else None
    return [route for route in routes if isinstance(route, list)] if _is_list(routes) else []


def _is_list(value: JSON) -> TypeGuard[list[JSON]]:
    return isinstance(value, list)


def _part(put: Put, routes: Iterable[list[JSON] | None]) -> _Part:
    """The put with these routes, a list for each that it has; None: without that one."""
    spec: JSONObject = {**put.spec, "routes": [route for route in routes if route is not None]}
    return _Part(put.kind, put.key, digest(spec), spec, _digest_of(put))


# As the engine names what is wrong with a route: routes[INDEX][0] is its prefix, next hops follow.
_ROUTE_FIELD = re.compile(r"routes\[(\d+)\](?:\[(\d+)\])?")


def _without_routes(change: Change, refusals: Sequence[Refusal]) -> tuple[_Part, Refusal] | None:
    """What is left of routes, and why; None when it was not for single ones.

    A route that loses its last next hop drops: what it would catch must not take a shorter one.
    """
    routes = _routes_of(change) if isinstance(change, Put) else []
    bad: dict[int, set[int]] = {}
    messages = []
    for refusal in refusals:
        found = _ROUTE_FIELD.match(refusal.field)
        if found is None or int(found[1]) >= len(routes):
            return None
        index = int(found[1])
        bad.setdefault(index, set()).add(int(found[2] or 0))
        messages.append(f"route {routes[index][0]} is left out: {refusal.message}")
    if not isinstance(change, Put) or not bad:
        return None
    left = (
        None
        if 0 in bad.get(index, ())
        else [each for place, each in enumerate(route) if place not in bad.get(index, ())]
        for index, route in enumerate(routes)
    )
    first = refusals[0]
    message = "; ".join(messages)
    return _part(change, left), Refusal(
        change.kind, change.key, first.field, first.reason or "Refused", message
    )


def _without_hops(put: Put, there: Container[ObjectID]) -> _Part | None:
    """Routes without the next hops in networks that are not there; None when it cannot be."""
    if put.kind != "routes" or ("network", put.spec.get("network")) not in there:
        return None

    def leads(hop: JSON) -> bool:
        return not isinstance(hop, dict) or ("network", hop.get("network")) in there

    routes = _routes_of(put)
    return _part(put, ([route[0], *filter(leads, route[1:])] for route in routes))


def _difference(wanted: Iterable[Put], have: Mapping[str, Mapping[str, str]]) -> Iterator[Change]:
    keys: dict[str, set[str]] = {}
    for put in wanted:
        if put.keep and have.get(put.kind, {}).get(put.key) != put.hash:
            continue
        keys.setdefault(put.kind, set()).add(put.key)
        if have.get(put.kind, {}).get(put.key) != put.hash:
            yield put
    for kind, hashes in have.items():
        for key in hashes.keys() - keys.get(kind, set()):
            yield Delete(kind, key)


def _batches(
    changes: Sequence[Change], present: set[ObjectID], kinds: Mapping[str, Kind]
) -> Iterator[list[Change]]:
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
            ("routes", change.key) in present
            and all(r in stays for r in references(change, kinds[change.kind]))
        ):
            first.append(change)
        else:
            last.append(change)
    order = {kind: position for position, kind in enumerate(kinds)}
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
