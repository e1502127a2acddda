# SPDX-License-Identifier: Apache-2.0
"""Events have names and texts that the API server takes, whatever the object is called."""

import asyncio
import re
from typing import Any, cast

import pytest

from headrace_api import Json
from headrace_kube import Kind, Kube
from headrace_operator.events import Events
from headrace_operator.metrics import Metrics
from headrace_operator.render import Transition

SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


class Server:
    """Keeps what is created."""

    def __init__(self) -> None:
        self.created: asyncio.Queue[Any] = asyncio.Queue()

    async def create(self, _kind: Kind, item: Json) -> Json:
        await self.created.put(item)
        return item


def told(name: str, note: str) -> Any:
    """The event of a pod of this name."""

    async def run() -> Any:
        server = Server()
        events = Events(cast("Kube", server), "operator-0", Metrics("0"))
        metadata: Json = {"namespace": "blue", "name": name, "uid": "u"}
        pod: Json = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata}
        events.emit(pod, Transition("Warning", "InvalidAnnotation", note))
        sending = asyncio.create_task(events.run())
        try:
            async with asyncio.timeout(30):
                return await server.created.get()
        finally:
            sending.cancel()
            await asyncio.wait((sending,))

    return asyncio.run(run())


@pytest.mark.parametrize(
    "name", ["web", "p" * 253, "p" * 237, "p" * 235 + ".q" * 9, "p" * 234 + "--" + "q" * 17]
)
def test_the_name_of_an_event_is_valid_however_long_the_pods_is(name: str) -> None:
    event = told(name, "wrong")
    found = event["metadata"]["name"]
    assert len(found) <= 253
    assert SUBDOMAIN.fullmatch(found), found
    assert found.startswith(name[:230])
    assert event["regarding"]["name"] == name


def test_a_long_note_is_cut_between_characters() -> None:
    assert told("web", "x" + "ü" * 1000)["note"] == "x" + "ü" * 511
