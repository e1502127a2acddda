# SPDX-License-Identifier: Apache-2.0
"""Requests to the engine that runs, and to the one after it."""

from collections.abc import Mapping
from dataclasses import dataclass

from headrace_dataplane.protocol import EngineClient, EngineError, Hello, Interface, Put
from headrace_dataplane.sync import ObjectID, Outcome, Reconciler


@dataclass(frozen=True)
class Request:
    """What is to be sent to an engine."""

    engine: Hello
    """The engine; another object for each that has come up."""

    objects: tuple[Put, ...] | None
    """Those that it should have; None: they are not compared this time."""

    generation: int
    retry: bool
    """Whether what it refused is tried again now."""


@dataclass(frozen=True)
class Exchange:
    """What came of a request."""

    outcome: Outcome | None
    """None when no objects were given, or the engine went away before it had them."""

    interfaces: Mapping[str, Interface]
    """Interface ("namespace/name") -> what the engine says of it."""

    accepted: tuple[ObjectID, ...]
    """What engines have had, in the order in which it came."""

    failure: str
    """Why the engine did not answer all of it, empty when it did."""


class EngineSession:
    """Makes exchanges one by one; blocks, like its client."""

    def __init__(self, client: EngineClient, accepted: tuple[ObjectID, ...]) -> None:
        """`accepted` is what engines before have had, in the order in which it came."""
        self._client = client
        self._engine: Hello | None = None
        self._reconciler = Reconciler(client, (), accepted)

    def exchange(self, request: Request, now: float) -> Exchange:
        """Bring the engine to the objects, and ask for its Interfaces; `now` as in Reconciler."""
        if request.engine is not self._engine:
            self._client.close()
            self._engine = request.engine
            accepted = self._reconciler.accepted
            self._reconciler = Reconciler(self._client, request.engine.kinds, accepted)
        if request.retry:
            self._reconciler.retry()
        outcome, interfaces, failure = None, {}, ""
        try:
            if request.objects is not None:
                outcome = self._reconciler.reconcile(request.objects, request.generation, now)
            interfaces = {each.name: each for each in self._client.items(Interface)}
        except EngineError as error:
            failure = str(error)
        return Exchange(outcome, interfaces, self._reconciler.accepted, failure)
