# SPDX-License-Identifier: Apache-2.0
"""A queue of keys with client-go's semantics, and an order between what is in it.

A key that is added twice is worked on once; one that is added while it is worked on is worked on
again afterwards, and never by two workers at once. Each of them has a lane: what was added in
one epoch is done in the order of the lanes, so that what gives values out is written before what
uses them. The last lane waits for everything else.
"""

import asyncio
import heapq
import time
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

Key = TypeVar("Key")

_FIRST_DELAY = 0.1
_LONGEST_DELAY = 60.0


class _Place(NamedTuple):
    """Where a key stands, in the order of the queue."""

    last: bool
    epoch: int
    lane: int
    number: int


class WorkQueue(Generic[Key]):
    """The queue; `lane` gives the lane of a key, 0 to `lanes` - 1. Not thread-safe."""

    def __init__(self, lane: Callable[[Key], int], lanes: int) -> None:
        self._lane = lane
        self._lanes = lanes
        self._epoch = 0
        self._number = 0
        self._heap: list[tuple[_Place, Key]] = []
        self._ready: dict[Key, float] = {}
        self._running: dict[Key, tuple[_Place, float]] = {}
        self._again: dict[Key, float] = {}
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._failures: dict[Key, int] = {}
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        """How many keys wait for a worker, are with one, or are due later."""
        return len(self._ready) + len(self._running) + len(self._timers)

    def next_epoch(self) -> None:
        """What is added from now on is ordered by lane among itself."""
        self._epoch += 1

    def add(self, key: Key, delay: float = 0.0) -> None:
        """Have the key worked on in so many seconds, or when it was due anyhow if sooner."""
        if key in self._ready:
            return
        if key in self._running:
            self._again[key] = min(delay, self._again.get(key, delay))
            return
        timer = self._timers.get(key)
        if delay <= 0:
            if timer:
                timer.cancel()
            self._push(key)
            return
        loop = asyncio.get_running_loop()
        due = loop.time() + delay
        if timer is None or due < timer.when():
            if timer:
                timer.cancel()
            self._timers[key] = loop.call_at(due, self._push, key)

    async def get(self) -> Key:
        """Wait for the next key; call `done` or `retry` when it has been worked on."""
        while not self._may_run():
            self._changed.clear()
            await self._changed.wait()
        place, key = heapq.heappop(self._heap)
        self._running[key] = place, self._ready.pop(key)
        return key

    def done(self, key: Key) -> float:
        """The key has been worked on; returns for how many seconds it was in the queue."""
        self._failures.pop(key, None)
        since = self._finish(key)
        if key in self._again:
            self.add(key, self._again.pop(key))
        return time.monotonic() - since

    def retry(self, key: Key) -> float:
        """The work failed: again after a growing delay; returns it in seconds."""
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        delay = min(_FIRST_DELAY * 2.0 ** (failures - 1), _LONGEST_DELAY)
        self._finish(key)
        self._again.pop(key, None)
        self.add(key, delay)
        return delay

    def _finish(self, key: Key) -> float:
        _, since = self._running.pop(key)
        self._changed.set()
        return since

    def _push(self, key: Key) -> None:
        self._timers.pop(key, None)
        self._number += 1
        lane = self._lane(key)
        place = _Place(lane == self._lanes - 1, self._epoch, lane, self._number)
        heapq.heappush(self._heap, (place, key))
        self._ready[key] = time.monotonic()
        self._changed.set()

    def _may_run(self) -> bool:
        if not self._heap:
            return False
        head = self._heap[0][0]
        return not any(
            place.lane < head.lane and place.epoch <= head.epoch
            for place, _ in self._running.values()
        )
