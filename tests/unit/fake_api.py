# SPDX-License-Identifier: Apache-2.0
"""The edge of an API server: what is sent is kept, unless a test has it hang or fail.

For what no API server does on command. Everything else is tested with a real one.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from headrace_api import Json
from headrace_kube import Kube, KubeError
from tests.unit.clock import now

#: (method, path) -> nothing, or what goes wrong first: it may wait, and raise.
Fault = Callable[[str, str], Any]


class FakeApi(Kube):
    """Objects by path. `fault` is asked at every request, and awaited if it returns something."""

    def __init__(self) -> None:
        self.objects: dict[str, Any] = {}
        self.begun: list[tuple[float, str, str]] = []
        """When which request came: method and path."""
        self.ended: list[tuple[float, str, str]] = []
        """When which was answered, or given up."""
        self.fault: Fault = lambda _method, _path: None
        self._version = 0

    def paths(self, *methods: str) -> list[str]:
        """Paths of the requests that have come, in their order."""
        return [path for _, method, path in self.begun if method in methods]

    async def request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        *,
        body: Json | None = None,
        content_type: str = "application/json",
        seconds: float = 30.0,
    ) -> Json:
        self.begun.append((now(), method, path))
        try:
            await asyncio.sleep(0)
            trouble = self.fault(method, path)
            if trouble is not None:
                await trouble
            return self._answer(method, path, body)
        finally:
            self.ended.append((now(), method, path))

    def _answer(self, method: str, path: str, body: Any) -> Json:
        if method == "POST":
            path = f"{path}/{body['metadata']['name']}"
        key = path.removesuffix("/status")
        status = key != path
        found: Any = self.objects.get(key)
        if method == "GET" or (method == "DELETE" and not found):
            if not found:
                raise KubeError(404, "NotFound", f"{path} not found")
            return found
        if method == "DELETE":
            return self.objects.pop(key)
        self._version += 1
        metadata = {**(found or {}).get("metadata", {}), **body.get("metadata", {})}
        given = body.get("metadata", {}).get("resourceVersion")
        if found and given not in (None, str(found["metadata"]["resourceVersion"])):
            raise KubeError(409, "Conflict", "another has written")
        metadata |= {"resourceVersion": str(self._version), "uid": metadata.get("uid", key)}
        if not status and (found or {}).get("spec") != body.get("spec"):
            metadata["generation"] = metadata.get("generation", 0) + 1
        there = {**(found or {}), **body, "metadata": metadata}
        told = (body if status else found or {}).get("status", {})
        there["status"] = {name: value for name, value in told.items() if value is not None}
        self.objects[key] = there
        return there


async def hang() -> None:
    """For ever."""
    await asyncio.Event().wait()


async def refuse(status: int = 422, message: str = "spec: not like this") -> None:
    """As the API server refuses."""
    raise KubeError(status, "Invalid", message)
