# SPDX-License-Identifier: Apache-2.0
"""This node's network cards, as policies want them. Everything here blocks."""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from headrace_dataplane.node.netlink import Netlink
from headrace_dataplane.node.policies import Card, Working
from headrace_dataplane.node.sriov.apply import Clock, Reconciler
from headrace_dataplane.node.sriov.desired import Desired, Identity
from headrace_dataplane.node.sriov.observed import ObservedPF, Sysfs, identities
from headrace_dataplane.node.sriov.restore import Kept, wanted_back
from headrace_dataplane.node.sriov.steps import Condition, Step, Wait, describe
from headrace_dataplane.node.sriov.tagged import Tagged
from headrace_dataplane.node.traffic import NodeAddresses
from headrace_dataplane.node.users import Users

log = logging.getLogger(__name__)


class InterruptedWorkError(Exception):
    """Something else is wanted meanwhile: what was begun is left as it is."""


class Cards:
    """The cards; one thread at a time."""

    def __init__(
        self, sysfs: Sysfs, netlink: Netlink, users: Users, kept: Path, clock: Clock | None = None
    ) -> None:
        """`kept` is a folder that outlives the node's reboot."""
        self._sysfs = sysfs
        self._netlink = netlink
        self._users = users
        self._kept = Kept(kept)
        self.tagged = Tagged(kept)
        self._interrupted = threading.Event()
        self._clock = clock or _Clock(self._interrupted)

    def interrupt(self) -> None:
        """Have the thread come back before its next wait. From any thread."""
        self._interrupted.set()

    def resume(self) -> None:
        """What was interrupted may go on."""
        self._interrupted.clear()

    def users(self, addresses: Iterable[str]) -> Mapping[str, tuple[str, ...]]:
        """Return who uses VFs, by PCI address."""
        return self._users(dict.fromkeys(addresses, ""))

    def identities(self) -> tuple[Identity, ...]:
        """Return what there is. Raises OSError."""
        return identities(self._sysfs, self._netlink)

    def seen(self, addresses: Iterable[str], node: NodeAddresses) -> Mapping[str, ObservedPF]:
        """Return what there is of PFs, by PCI address; what cannot be read is missing."""
        reconciler = self._reconciler(node, lambda *_: None)
        found = {address: _seen(reconciler, address) for address in addresses}
        return {address: pf for address, pf in found.items() if pf is not None}

    def bring(
        self,
        desired: Desired,
        node: NodeAddresses,
        last: Card | None,
        tell: Callable[[str], None],
        *,
        again: bool,
    ) -> Card:
        """Bring a PF to what is wanted of it, and return what came of that.

        Nothing is done where nothing has changed since `last`, unless it is to be tried again.
        `tell` hears what is being done. Raises InterruptedWorkError.
        """

        def before(_: Desired, pf: ObservedPF | None, decision: Step | Wait) -> None:
            # Whoever makes the VFs himself may have made others meanwhile: nothing is put back.
            ours = not desired.externally_managed
            if pf is not None and ours and not isinstance(decision, Wait):
                self._kept.keep(pf)
            tell(f"PF {desired.address}: {describe(decision)}")

        reconciler = self._reconciler(node, before)
        finished = last is not None and not isinstance(last.outcome, Working)
        if last is not None and finished and not again and last.desired == desired:
            pf = _seen(reconciler, desired.address)
            if pf is not None and pf == last.pf:
                return last
        outcome = reconciler.reconcile(desired)
        return Card(desired, outcome, _seen(reconciler, desired.address))

    def put_back(self, node: NodeAddresses) -> tuple[str, ...]:
        """Have every PF as it was found; return what is in the way. Raises OSError."""
        problems = []
        there = self.identities()
        for found in self._kept.all():
            # By its own address, for in its slot there may be another by now.
            mac = found.identity.mac
            address = next((each.address for each in there if each.mac == mac), "")
            if not address:
                problems.append(f"there is no card {mac} any more")
                continue
            reconciler = self._reconciler(node, lambda *_: None)
            outcome = reconciler.reconcile(wanted_back(found, address))
            if isinstance(outcome, Condition):
                problems.append(outcome.message)
            else:
                self._kept.forget(found)
                log.info("PF %s is as it was found", address)
        return tuple(problems)

    def _reconciler(
        self,
        node: NodeAddresses,
        before: Callable[[Desired, ObservedPF | None, Step | Wait], None],
    ) -> Reconciler:
        return Reconciler(
            self._sysfs, self._netlink, self._users, self._clock, node=node, before=before
        )


class _Clock:
    """The machine's, until interrupted."""

    def __init__(self, interrupted: threading.Event) -> None:
        self._interrupted = interrupted

    def now(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        if self._interrupted.wait(seconds):
            raise InterruptedWorkError


def _seen(reconciler: Reconciler, address: str) -> ObservedPF | None:
    try:
        return reconciler.observe(address)
    except OSError:
        # Whoever asks again is told why.
        return None
