# SPDX-License-Identifier: Apache-2.0
"""Digests of the routes of every network, as they are written at the API server."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from headrace_api import routes_digest


@dataclass(slots=True)
class _Network:
    revisions: dict[str, int] = field(default_factory=dict)
    digest: int = 0
    former: dict[str, float] = field(default_factory=dict)
    """Digest -> when it was replaced, oldest first."""


class RouteDigests:
    """What digests were right, and when. `clock` is of any steady clock, in seconds."""

    def __init__(self, keep: float, clock: Callable[[], float] = time.monotonic) -> None:
        """A digest that was right within the last `keep` seconds is remembered."""
        self._keep = keep
        self._clock = clock
        self._networks: dict[str, _Network] = {}

    def put(self, network: str, name: str, revision: int | None) -> bool:
        """Take note of a slice (slice_revision; None: it is no part of the network any more).

        Returns whether the digest is another now.
        """
        known = self._networks.setdefault(network, _Network())
        before = known.revisions.get(name)
        if before == revision:
            return False
        now = self._clock()
        for digest, since in tuple(known.former.items()):
            if now - since < self._keep:
                break
            del known.former[digest]
        known.former.pop(routes_digest((known.digest,)), None)
        known.former[routes_digest((known.digest,))] = now
        known.digest ^= (before or 0) ^ (revision or 0)
        if revision is None:
            known.revisions.pop(name)
        else:
            known.revisions[name] = revision
        return True

    def forget(self, network: str) -> None:
        """Drop a network."""
        self._networks.pop(network, None)

    def replaced(self, network: str, digest: str) -> float | None:
        """When the digest was replaced; infinity: it is the right one; None: long ago, or never."""
        known = self._networks.get(network)
        if digest == routes_digest((known.digest if known else 0,)):
            return float("inf")
        since = known.former.get(digest) if known else None
        return since if since is not None and self._clock() - since < self._keep else None
