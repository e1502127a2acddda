# SPDX-License-Identifier: Apache-2.0
"""How many routes each namespace has, and who brought them: what no ResourceQuota can count.

Who has routes keeps them whatever the limit is later; the one too many is the last that came.
"""

from collections import defaultdict

from .claims import Owner
from .core import Core, namespace_of


class Quota:
    """Routes by namespace and owner."""

    def __init__(self, core: Core) -> None:
        core.watch("Pipeline", lambda _: core.wake(self.reconsider()))
        core.watch("Namespace", lambda name: core.wake(self.reconsider(name)))
        self._held: defaultdict[str, dict[Owner, int]] = defaultdict(dict)
        self._total: defaultdict[str, int] = defaultdict(int)
        self._waiting: defaultdict[str, set[Owner]] = defaultdict(set)

    def room(self, owner: Owner, limit: int | None) -> float:
        """How many the owner may have where its namespace may have so many (None: any number)."""
        namespace = namespace_of(owner.key)
        held = self._held[namespace].get(owner, 0)
        others = self._total[namespace] - held
        return float("inf") if limit is None else max(held, limit - others)

    def has(self, owner: Owner) -> bool:
        """Whether the owner has any."""
        return owner in self._held[namespace_of(owner.key)]

    def hold(self, owner: Owner, number: int) -> set[Owner]:
        """Have so many from now on; returns those who waited, when there is more room."""
        namespace = namespace_of(owner.key)
        held = self._held[namespace].pop(owner, 0)
        if number:
            self._held[namespace][owner] = number
        self._total[namespace] += number - held
        return self._waiting.pop(namespace, set()) if number < held else set()

    def shrink(self, owner: Owner, most: int) -> set[Owner]:
        """Have so many at most; returns those who waited, when there is more room."""
        held = self._held[namespace_of(owner.key)].get(owner, 0)
        return self.hold(owner, most) if held > most else set()

    def wait(self, owner: Owner) -> None:
        """Be named when the namespace has more room."""
        self._waiting[namespace_of(owner.key)].add(owner)

    def reconsider(self, namespace: str | None = None) -> set[Owner]:
        """Those who wait, in one namespace or in all: limits have changed."""
        if namespace is not None:
            return self._waiting.pop(namespace, set())
        waiting = {owner for owners in self._waiting.values() for owner in owners}
        self._waiting.clear()
        return waiting
