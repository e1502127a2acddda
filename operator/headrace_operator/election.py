# SPDX-License-Identifier: Apache-2.0
"""Leader election by a Lease, as client-go does it: no clock but the own one is believed."""

import asyncio
import logging
import random
from collections.abc import Callable
from datetime import UTC, datetime

from headrace_api import Json
from headrace_api.raw import number, part, text
from headrace_kube import LEASES, Kube, KubeError

NAME = "headrace-operator"
#: Seconds after which a Lease that nobody renews is free.
DURATION = 15
#: Seconds after which a leader that could not renew stops leading.
DEADLINE = 10.0
#: Seconds between two attempts.
RETRY = 2.0

_log = logging.getLogger(__name__)


class LeaseLostError(Exception):
    """Another leads, or may by now."""


class Election:
    """One candidate. `acquire`, then `renew` until it raises, or `release`."""

    def __init__(
        self,
        kube: Kube,
        namespace: str,
        identity: str,
        failed: Callable[[str, KubeError], None],
    ) -> None:
        """`failed` is told of what the API server refuses, with the operation."""
        self._kube = kube
        self._namespace = namespace
        self._failed = failed
        self.identity = identity
        self.owners: tuple[Json, ...] = ()
        """ownerReferences of the Lease: it goes with them."""
        self.holder = ""
        """Who leads, as far as is known."""
        self.transitions = 0
        """How often the leader changed (spec.leaseTransitions)."""
        self._seen: Json = {}
        self._seen_at = 0.0
        self._renewed_at = float("-inf")

    @property
    def left(self) -> float:
        """Seconds for which this candidate may write, 0 at least: time alone ends that.

        Another may DURATION after the last renewal, which is later.
        """
        return max(0.0, self._renewed_at + DEADLINE - _now())

    @property
    def leading(self) -> bool:
        """Whether this candidate may write."""
        return self.left > 0

    async def acquire(self) -> None:
        """Return once this candidate leads."""
        while not await self._try():
            await asyncio.sleep(RETRY * random.uniform(1.0, 1.2))  # noqa: S311 - no secret

    async def renew(self) -> None:
        """Keep the Lease. Raises LeaseLostError."""
        while True:
            await asyncio.sleep(min(RETRY, self.left))
            await self._try()
            if self.holder != self.identity:
                self._renewed_at = float("-inf")
                raise LeaseLostError(f"{self.holder or 'nobody'} holds Lease {NAME} now")
            if not self.leading:
                raise LeaseLostError(f"Lease {NAME} could not be renewed for {DEADLINE:.0f} s")

    async def release(self) -> None:
        """Let another lead at once. Write nothing afterwards."""
        if not self.leading:
            return
        self._renewed_at = float("-inf")
        try:
            async with asyncio.timeout(RETRY):
                await self._write("", 1)
        except (KubeError, TimeoutError) as error:
            _log.warning("Lease %s was not released: %s", NAME, error)

    async def _try(self) -> bool:
        """Take the Lease, or renew it; whether that succeeded."""
        began = _now()
        try:
            async with asyncio.timeout(min(DEADLINE / 2, self.left or DEADLINE)):
                # A leader is the one who wrote last: its renewal needs no look beforehand.
                if not (self._seen and self.leading):
                    await self._look()
                if self._held_by_another():
                    return False
                try:
                    await self._write(self.identity, DURATION)
                except KubeError as error:
                    if error.conflict or error.absent:
                        await self._look()
                    raise
        except TimeoutError:
            _log.warning("Lease %s: the API server does not answer", NAME)
            return False
        except KubeError as error:
            self._failed("lease", error)
            _log.log(logging.INFO if error.conflict else logging.WARNING, "Lease: %s", error)
            return False
        self._renewed_at = began
        return True

    def _held_by_another(self) -> bool:
        if self.holder in ("", self.identity):
            return False
        lasts = number(part(self._seen, "spec").get("leaseDurationSeconds"))
        return _now() < self._seen_at + lasts

    async def _look(self) -> None:
        try:
            lease = await self._kube.get(LEASES, NAME, self._namespace)
        except KubeError as error:
            if not error.absent:
                raise
            lease = {}
        if lease.get("spec") != self._seen.get("spec"):
            self._seen_at = _now()
        self._note(lease)

    def _note(self, lease: Json) -> None:
        self._seen = lease
        self.holder = text(part(lease, "spec").get("holderIdentity"))
        self.transitions = number(part(lease, "spec").get("leaseTransitions"))

    async def _write(self, holder: str, seconds: int) -> None:
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        spec = dict(part(self._seen, "spec"))
        if holder != self.holder:
            spec["acquireTime"] = now
            spec["leaseTransitions"] = self.transitions + bool(self._seen and holder)
        spec |= {"holderIdentity": holder, "leaseDurationSeconds": seconds, "renewTime": now}
        metadata: Json = {
            "name": NAME,
            "namespace": self._namespace,
            "ownerReferences": list(self.owners),
        }
        if self._seen:
            # Another who wrote in between makes this a conflict.
            metadata["resourceVersion"] = part(self._seen, "metadata")["resourceVersion"]
        lease: Json = {
            "apiVersion": LEASES.api_version,
            "kind": LEASES.name,
            "metadata": metadata,
            "spec": spec,
        }
        write = self._kube.replace if self._seen else self._kube.create
        self._note(await write(LEASES, lease))
        self._seen_at = _now()


def _now() -> float:
    return asyncio.get_running_loop().time()
