# SPDX-License-Identifier: Apache-2.0
"""The operator's queue: each key once, never twice at a time, in the order of the lanes."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from headrace_operator.workqueue import WorkQueue


def queue() -> WorkQueue[str]:
    """Lane of a key is its first letter: a, b, and c for the last."""
    return WorkQueue(lambda key: "abc".index(key[0]), 3)


def in_loop(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    def run() -> None:
        asyncio.run(asyncio.wait_for(test(), timeout=30))

    run.__name__ = test.__name__
    return run


async def waits(work: WorkQueue[str]) -> bool:
    """Whether there is nothing that may be worked on now."""
    getting = asyncio.create_task(work.get())
    for _ in range(5):
        await asyncio.sleep(0)
    waiting = not getting.done()
    getting.cancel()
    return waiting


@in_loop
async def test_a_key_added_twice_is_worked_on_once() -> None:
    work = queue()
    work.add("a1")
    work.add("a1")
    assert await work.get() == "a1"
    work.done("a1")
    assert len(work) == 0
    assert await waits(work)


@in_loop
async def test_a_key_added_while_it_is_worked_on_comes_again_afterwards() -> None:
    work = queue()
    work.add("a1")
    assert await work.get() == "a1"
    work.add("a1")
    assert await waits(work)
    work.done("a1")
    assert await work.get() == "a1"


@in_loop
async def test_lanes_are_in_order_within_an_epoch() -> None:
    work = queue()
    for key in ("c1", "b1", "a1"):
        work.add(key)
    assert await work.get() == "a1"
    # What gives values out is not written yet.
    assert await waits(work)
    work.done("a1")
    assert await work.get() == "b1"
    assert await waits(work)
    work.done("b1")
    assert await work.get() == "c1"


@in_loop
async def test_keys_of_one_lane_run_side_by_side() -> None:
    work = queue()
    work.add("a1")
    work.add("a2")
    assert {await work.get(), await work.get()} == {"a1", "a2"}


@in_loop
async def test_the_next_epoch_does_not_overtake_but_in_the_last_lane() -> None:
    work = queue()
    work.add("b1")
    work.add("c1")
    work.next_epoch()
    work.add("a2")
    order = []
    for _ in range(3):
        order.append(await work.get())
        work.done(order[-1])
    assert order == ["b1", "a2", "c1"]


@in_loop
async def test_what_failed_comes_again_and_blocks_nobody_meanwhile() -> None:
    work = queue()
    work.add("a1")
    work.add("b1")
    assert await work.get() == "a1"
    first = work.retry("a1")
    assert await work.get() == "b1"
    work.done("b1")
    assert await work.get() == "a1"
    assert work.retry("a1") == 2 * first
    assert await work.get() == "a1"
    work.done("a1")
    work.add("a1")
    assert await work.get() == "a1"
    assert work.retry("a1") == first


@in_loop
async def test_a_later_time_gives_way_to_an_earlier_one() -> None:
    work = queue()
    work.add("c1", delay=3600)
    assert len(work) == 1
    assert await waits(work)
    work.add("c1", delay=7200)
    work.add("c1")
    assert await work.get() == "c1"
    work.done("c1")
    assert len(work) == 0
