# SPDX-License-Identifier: Apache-2.0
"""The operator's queue: each key once, never twice at a time, after what it needs, and in turns."""

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from headrace_operator.workqueue import GROUP_WORKERS, NEEDS_TIMEOUT, POOL_WORKERS, Place, WorkQueue
from tests.unit.clock import in_no_time, now

NEEDS = {"b1": ["a1"], "b2": ["a2"], "c1": ["a1", "b1"]}


def queue(needs: Mapping[str, Sequence[str]] = NEEDS, jitter: float = 1.0) -> WorkQueue[str]:
    """Pool of a key is its first letter, group the word behind a slash."""

    def place(key: str) -> Place:
        return Place(key[0], key.partition("/")[2])

    return WorkQueue(
        place, lambda key: needs.get(key, ()), lambda low, high: low + (high - low) * jitter
    )


async def waits(work: WorkQueue[str]) -> bool:
    """Whether there is nothing that may be worked on now."""
    getting = asyncio.create_task(work.get())
    for _ in range(5):
        await asyncio.sleep(0)
    waiting = not getting.done()
    getting.cancel()
    return waiting


@in_no_time
async def test_a_key_added_twice_is_worked_on_once() -> None:
    work = queue()
    work.add("a1")
    work.add("a1")
    assert await work.get() == "a1"
    work.done("a1")
    assert len(work) == 0
    assert await waits(work)


@in_no_time
async def test_a_key_added_while_it_is_worked_on_comes_again_afterwards() -> None:
    work = queue()
    work.add("a1")
    assert await work.get() == "a1"
    work.add("a1")
    assert await waits(work)
    work.done("a1")
    assert await work.get() == "a1"


@in_no_time
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


# What needs another


@in_no_time
async def test_a_key_waits_for_what_it_needs_and_for_nothing_else() -> None:
    work = queue()
    for key in ("c1", "b1", "b2", "a1"):
        work.add(key)
    # Nobody is to write what b2 needs.
    assert [await work.get(), await work.get()] == ["b2", "a1"]
    # What gives values out is not written yet.
    assert await waits(work)
    work.done("a1")
    assert await work.get() == "b1"
    assert await waits(work)
    work.done("b1")
    assert await work.get() == "c1"


@in_no_time
async def test_what_is_newer_holds_nothing_up() -> None:
    work = queue()
    work.add("b1")
    work.next_epoch()
    work.add("a1")
    assert [await work.get(), await work.get()] == ["b1", "a1"]
    work.done("b1")
    # Now it is about what is as new as that.
    work.add("b1")
    assert await waits(work)
    work.done("a1")
    assert await work.get() == "b1"


@in_no_time
async def test_what_is_changed_while_it_is_due_needs_what_is_as_new() -> None:
    work = queue()
    work.add("b1")
    work.next_epoch()
    work.add("a1")
    work.add("b1")
    assert await work.get() == "a1"
    assert await waits(work)


@in_no_time
async def test_what_is_changed_again_still_holds_up_what_needed_it_before() -> None:
    work = queue()
    work.add("a1")
    work.add("b1")
    assert await work.get() == "a1"
    work.next_epoch()
    work.add("a1")
    work.retry("a1")
    work.next_epoch()
    work.add("a1")
    assert await work.get() == "a1"
    assert await waits(work)
    work.done("a1")
    assert await work.get() == "b1"


@in_no_time
async def test_a_key_waits_for_what_cannot_be_written_but_not_for_ever() -> None:
    work = queue()
    work.add("a1")
    work.add("b1")
    # It hangs.
    assert await work.get() == "a1"
    assert await work.get() == "b1"
    assert now() == pytest.approx(NEEDS_TIMEOUT)
    work.done("b1")
    work.done("a1")
    assert len(work) == 0


# What failed


@in_no_time
async def test_what_fails_comes_again_later_and_later_up_to_a_cap() -> None:
    work = queue()
    work.add("a1")
    delays = []
    for _ in range(2000):
        began = now()
        assert await work.get() == "a1"
        delays.append(now() - began)
        work.retry("a1")
    assert delays[1:5] == pytest.approx([0.1, 0.2, 0.4, 0.8])
    assert delays[-1] == pytest.approx(60)
    assert await work.get() == "a1"
    work.done("a1")
    work.add("a1")
    assert await work.get() == "a1"
    assert work.retry("a1") == pytest.approx(0.1)


@in_no_time
async def test_retries_are_jittered() -> None:
    delays = []
    for jitter in (0.0, 0.5, 1.0):
        work = queue(jitter=jitter)
        work.add("a1")
        delays.append(work.retry(await work.get()))
    assert delays == pytest.approx([0.05, 0.075, 0.1])


@in_no_time
async def test_what_was_corrected_while_it_failed_is_tried_at_once() -> None:
    work = queue()
    work.add("a1")
    for _ in range(12):
        assert await work.get() == "a1"
        work.retry("a1")
    assert await work.get() == "a1"
    work.add("a1")
    began = now()
    work.retry("a1")
    assert await work.get() == "a1"
    assert now() == began
    # And the next failure is not the first one.
    assert work.retry("a1") == pytest.approx(60)
    work.add("a1")
    assert await work.get() == "a1"
    assert now() == began


@in_no_time
async def test_what_failed_holds_up_only_what_needs_it() -> None:
    work = queue()
    for key in ("a1", "a2", "b1", "b2"):
        work.add(key)
    assert [await work.get(), await work.get()] == ["a1", "a2"]
    work.retry("a1")
    work.done("a2")
    assert await work.get() == "b2"
    assert await work.get() == "a1"
    work.done("a1")
    assert await work.get() == "b1"


# Turns


@in_no_time
async def test_groups_take_turns() -> None:
    work = queue({})
    for number in range(10_000):
        work.add(f"a{number}/red")
    work.add("a/blue")
    first = await work.get()
    assert (first, await work.get()) == ("a0/red", "a/blue")


@in_no_time
async def test_a_group_that_hangs_leaves_workers_to_the_others() -> None:
    work = queue({})
    for number in range(100):
        work.add(f"a{number}/red")
    taken = [await work.get() for _ in range(GROUP_WORKERS)]
    assert await waits(work)
    work.add("a/blue")
    assert await work.get() == "a/blue"
    work.done("a/blue")
    work.done(taken[0])
    assert await work.get() == f"a{GROUP_WORKERS}/red"


@in_no_time
async def test_a_pool_has_so_many_workers_and_takes_none_of_others() -> None:
    work = queue({})
    for number in range(100):
        work.add(f"a/{number}")
    for _ in range(POOL_WORKERS):
        await work.get()
    assert await waits(work)
    work.add("b/1")
    assert await work.get() == "b/1"
