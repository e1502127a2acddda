# SPDX-License-Identifier: Apache-2.0
"""The Lease where the API server does not answer: writing ends before another may begin."""

import asyncio

import pytest

from headrace_kube import LEASES
from headrace_operator.election import DEADLINE, DURATION, NAME, RETRY, Election, LeaseLostError
from tests.unit.clock import in_no_time, now
from tests.unit.fake_api import FakeApi, hang, refuse

PATH = LEASES.path("system", NAME)


def candidate(api: FakeApi, name: str) -> Election:
    return Election(api, "system", name, lambda _operation, _error: None)


@in_no_time
async def test_what_cannot_be_renewed_is_lost_at_the_deadline_and_not_later() -> None:
    api = FakeApi()
    leader = candidate(api, "one")
    await leader.acquire()
    assert leader.left == pytest.approx(DEADLINE)
    began = now()
    api.fault = lambda _method, _path: hang()
    with pytest.raises(LeaseLostError, match="could not be renewed for 10 s"):
        await leader.renew()
    assert now() == pytest.approx(began + DEADLINE)
    assert (leader.left, leader.leading) == (0, False)


@in_no_time
async def test_another_leads_only_when_the_first_may_not_write_any_more() -> None:
    api = FakeApi()
    first, second = candidate(api, "one"), candidate(api, "two")
    await first.acquire()
    # It hears nothing of the API server from now on; the other does.
    api.fault = lambda _method, _path: hang() if asyncio.current_task() is renewing else None
    renewing = asyncio.create_task(first.renew())
    began = now()
    await second.acquire()
    assert now() >= began + DURATION
    assert second.leading
    assert first.left == 0
    assert isinstance(renewing.exception(), LeaseLostError)


@in_no_time
async def test_a_refusal_now_and_then_does_not_end_it() -> None:
    api = FakeApi()
    leader = candidate(api, "one")
    await leader.acquire()
    api.fault = lambda _method, _path: refuse(500) if int(now()) % 8 < 5 else None
    renewing = asyncio.create_task(leader.renew())
    await asyncio.sleep(300)
    assert leader.leading
    assert not renewing.done()
    renewing.cancel()


@in_no_time
async def test_who_lost_it_to_another_stops_at_once() -> None:
    api = FakeApi()
    leader = candidate(api, "one")
    await leader.acquire()
    there = api.objects[PATH]
    api.objects[PATH] = {
        **there,
        "metadata": {**there["metadata"], "resourceVersion": "99"},
        "spec": {**there["spec"], "holderIdentity": "two"},
    }
    began = now()
    with pytest.raises(LeaseLostError, match="two holds Lease"):
        await leader.renew()
    assert now() < began + 2 * RETRY
    assert leader.left == 0
