# SPDX-License-Identifier: Apache-2.0
"""A queue of keys with client-go's semantics, an order where one needs another, and turns.

A key that is added twice is worked on once; one that is added while it is worked on is worked on
again afterwards, and never by two workers at once. Each key waits for those it names, and for
nobody else: as long as they were added no later than it, and for NEEDS_TIMEOUT at most. Each
belongs to a pool, which has some workers of its own, and in it to a group: groups take turns, so
that nobody waits for all that another has to do.
"""

import asyncio
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

Key = TypeVar("Key")

#: Keys of one pool, and of one group in it, that are worked on at a time.
POOL_WORKERS = 8
GROUP_WORKERS = 4
#: Seconds after which a key is worked on although one that it names could not be.
NEEDS_TIMEOUT = 10.0

_FIRST_DELAY = 0.1
_LONGEST_DELAY = 60.0
_DOUBLINGS = 16


class Place(NamedTuple):
    """Where a key belongs."""

    pool: str
    group: str


@dataclass(slots=True)
class _Entry:
    """A key that is due, or is to be tried again."""

    place: Place
    since: float
    """When it became due."""
    first: int
    """Epoch of the oldest change that is not worked on: who is as new waits for it."""
    newest: int
    """Epoch of the newest one: that may need what is as new."""
    timed_out: bool = False
    """Whether it waits for nobody any more."""


@dataclass(slots=True)
class _Pool(Generic[Key]):
    turns: OrderedDict[str, deque[Key]] = field(default_factory=OrderedDict)
    """Group -> its keys that are due; the first group is the next."""
    running: Counter[str] = field(default_factory=Counter)
    """Group -> how many of its keys are worked on."""


class WorkQueue(Generic[Key]):
    """The queue. Its time is that of the event loop. Not thread-safe."""

    def __init__(
        self,
        place: Callable[[Key], Place],
        needs: Callable[[Key], Iterable[Key]],
        uniform: Callable[[float, float], float],
    ) -> None:
        """`needs` names what a key waits for, `uniform` draws the jitter (random.uniform)."""
        self._place = place
        self._needs = needs
        self._uniform = uniform
        self._epoch = 0
        self._pools: defaultdict[str, _Pool[Key]] = defaultdict(_Pool)
        # All but what is due for the first time later, which has a timer alone.
        self._entries: dict[Key, _Entry] = {}
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._running: set[Key] = set()
        # What was added while it was worked on: in so many seconds, and the epoch.
        self._again: dict[Key, tuple[float, int]] = {}
        self._failures: dict[Key, int] = {}
        # Key -> those that wait for it; who waits -> when it does not any more.
        self._waiting: defaultdict[Key, list[Key]] = defaultdict(list)
        self._timeouts: dict[Key, asyncio.TimerHandle] = {}
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        """How many keys wait for a worker, are with one, or are due later."""
        return len(self._entries.keys() | self._timers.keys())

    def next_epoch(self) -> None:
        """What is added from now on holds nothing up that was added before."""
        self._epoch += 1

    def add(self, key: Key, delay: float = 0.0) -> None:
        """Have the key worked on in so many seconds, or when it was due anyhow if sooner."""
        if key in self._running:
            again, epoch = self._again.get(key, (delay, self._epoch))
            self._again[key] = min(delay, again), epoch
            return
        entry = self._entries.get(key)
        if entry:
            entry.newest = self._epoch
            if key not in self._timers:
                return
        self._due_in(key, delay, self._epoch)

    async def get(self) -> Key:
        """Wait for the next key; call `done` or `retry` when it has been worked on."""
        while (key := self._next()) is None:
            self._changed.clear()
            await self._changed.wait()
        return key

    def done(self, key: Key) -> float:
        """The key has been worked on; returns for how many seconds it was in the queue."""
        self._failures.pop(key, None)
        self._leave(key)
        since = self._entries.pop(key).since
        if key in self._again:
            self._due_in(key, *self._again.pop(key))
        self._reconsider(key)
        return self._now() - since

    def retry(self, key: Key) -> float:
        """The work failed: again after a growing delay; returns it in seconds.

        What was added in the meantime may be what mends it, and is due when it was to be.
        """
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        delay = min(_FIRST_DELAY * 2.0 ** min(failures - 1, _DOUBLINGS), _LONGEST_DELAY)
        delay = self._uniform(delay / 2, delay)
        self._leave(key)
        if key in self._again:
            delay = min(delay, self._again.pop(key)[0])
            self._entries[key].newest = self._epoch
        self._due_in(key, delay, self._epoch)
        # Who is to tell of the failure does not need this key any more.
        self._reconsider(key)
        return delay

    def _reconsider(self, key: Key) -> None:
        """Ask those that wait for the key again."""
        for other in self._waiting.pop(key, ()):
            if timer := self._timeouts.pop(other, None):
                timer.cancel()
                self._line_up(other)

    def _next(self) -> Key | None:
        for pool in self._pools.values():
            if pool.running.total() < POOL_WORKERS:
                key = self._next_of(pool)
                if key is not None:
                    return key
        return None

    def _next_of(self, pool: _Pool[Key]) -> Key | None:
        full: dict[str, deque[Key]] = {}
        found = None
        while pool.turns and found is None:
            group, keys = pool.turns.popitem(last=False)
            if pool.running[group] >= GROUP_WORKERS:
                full[group] = keys
                continue
            while keys and found is None:
                key = keys.popleft()
                found = None if self._waits(key) else key
            if keys:
                pool.turns[group] = keys
            if found is not None:
                pool.running[group] += 1
                self._running.add(found)
        for group, keys in full.items():
            pool.turns[group] = keys
        return found

    def _waits(self, key: Key) -> bool:
        """Whether the key waits for another; then it comes back by itself."""
        entry = self._entries[key]
        if entry.timed_out:
            return False
        for other in self._needs(key):
            holds = self._entries.get(other)
            if holds and holds.first <= entry.newest:
                self._waiting[other].append(key)
                loop = asyncio.get_running_loop()
                self._timeouts[key] = loop.call_at(entry.since + NEEDS_TIMEOUT, self._time_out, key)
                return True
        return False

    def _time_out(self, key: Key) -> None:
        """Let the key wait no longer."""
        del self._timeouts[key]
        self._entries[key].timed_out = True
        self._line_up(key)

    def _leave(self, key: Key) -> None:
        self._running.remove(key)
        place = self._entries[key].place
        running = self._pools[place.pool].running
        running[place.group] -= 1
        # Keys come and go: what is not there is 0.
        if not running[place.group]:
            del running[place.group]
        self._changed.set()

    def _due_in(self, key: Key, delay: float, epoch: int) -> None:
        """Have the key due in so many seconds, if it is not sooner."""
        timer = self._timers.get(key)
        due = self._now() + delay
        if timer and timer.when() <= due:
            return
        if timer:
            timer.cancel()
        if delay > 0:
            loop = asyncio.get_running_loop()
            self._timers[key] = loop.call_at(due, self._due, key, epoch)
        else:
            self._due(key, epoch)

    def _due(self, key: Key, epoch: int) -> None:
        self._timers.pop(key, None)
        entry = self._entries.get(key)
        if entry is None:
            self._entries[key] = _Entry(self._place(key), self._now(), epoch, self._epoch)
        else:
            entry.since, entry.timed_out = self._now(), False
        self._line_up(key)

    def _line_up(self, key: Key) -> None:
        place = self._entries[key].place
        self._pools[place.pool].turns.setdefault(place.group, deque()).append(key)
        self._changed.set()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
