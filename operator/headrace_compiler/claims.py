# SPDX-License-Identifier: Apache-2.0
"""Who holds what: VNIs, /64s, underlay and tenant addresses, devices. One holder for each.

A claim once taken stays until it is released, whoever asks: that is what keeps addresses from
moving. Those who asked in vain wait, and are named when the claim is released; those who would have
asked, but are stopped by something else, wait too, and are named when another takes it. A value
that some node may still use after its release rests first: only who had it gets it back meanwhile.
"""

from collections.abc import Collection
from typing import NamedTuple


class Owner(NamedTuple):
    """An object, or what it has on one node: it holds claims, refers, and is referred to."""

    kind: str
    key: str
    """namespace/name, or name where cluster-scoped."""
    node: str = ""

    @property
    def subject(self) -> tuple[str, str]:
        """Kind and key of the object."""
        return self.kind, self.key

    def __str__(self) -> str:
        """For people: `Interface default/vm1`."""
        return f"{self.kind} {self.key}" + (f" (uplink on {self.node})" if self.node else "")


class Space(NamedTuple):
    """A range of values that are given out once each."""

    kind: str
    scope: str = ""


class Rest(NamedTuple):
    """A value that nobody else gets for now."""

    owner: Owner
    """Who had it last."""
    since: int
    """Second of its release, since 1970."""


class Claims:
    """The registry of claims. Numbers are given out lowest first."""

    def __init__(self) -> None:
        self._held: dict[Space, dict[int | str, Owner]] = {}
        self._resting: dict[Space, dict[int | str, Rest]] = {}
        self._waiting: dict[Space, dict[int | str | None, set[Owner]]] = {}
        self._overtaken: set[Owner] = set()
        # Start of a range -> a value below which nothing of that range is free.
        self._hints: dict[Space, dict[int, int]] = {}

    def holder(self, space: Space, value: int | str) -> Owner | None:
        """Who holds the value."""
        return self._held.get(space, {}).get(value)

    def holders(self, space: Space) -> Collection[Owner]:
        """Who holds a value of the space, once for each."""
        return self._held.get(space, {}).values()

    def count(self, space: Space) -> int:
        """How many values of the space are held."""
        return len(self._held.get(space, {}))

    def within(self, space: Space, first: int, last: int) -> int:
        """How many values of a range are held."""
        held = self._held.get(space, {})
        return sum(isinstance(value, int) and first <= value <= last for value in held)

    def take(self, space: Space, value: int | str, owner: Owner) -> bool:
        """Take the value; False when another holds it, or had it and it rests."""
        resting = self._resting.get(space, {})
        rest = resting.get(value)
        if rest and rest.owner != owner:
            return False
        resting.pop(value, None)
        held = self._held.setdefault(space, {})
        if value not in held:
            self._hold(space, value, owner)
        return held[value] == owner

    def take_lowest(
        self,
        space: Space,
        first: int,
        last: int,
        owner: Owner,
        reserved: frozenset[int] = frozenset(),
    ) -> int | None:
        """Take the lowest free value of first..last but the reserved; None when there is none."""
        held = self._held.setdefault(space, {})
        resting = self._resting.get(space, {})
        hints = self._hints.setdefault(space, {})
        value = hints.get(first, first)
        while value in held or value in resting or value in reserved:
            value += 1
        if value > last:
            hints[first] = last + 1
            return None
        self._hold(space, value, owner)
        hints[first] = value + 1
        return value

    def _hold(self, space: Space, value: int | str, owner: Owner) -> None:
        self._held[space][value] = owner
        self._overtaken |= self._waiting.get(space, {}).pop(value, set())

    def overtaken(self) -> set[Owner]:
        """Who waited for what somebody took, or laid to rest, since the last call."""
        found, self._overtaken = self._overtaken, set()
        return found

    def release(self, space: Space, value: int | str, owner: Owner) -> set[Owner]:
        """Give the value back, if the owner holds it; returns those who waited for it."""
        held = self._held.get(space, {})
        if held.get(value) != owner:
            return set()
        del held[value]
        return self._freed(space, value)

    def retire(self, space: Space, value: int | str, owner: Owner, now: int) -> None:
        """Give the value back to rest, if the owner holds it."""
        held = self._held.get(space, {})
        if held.get(value) == owner:
            del held[value]
            self.lay(space, value, Rest(owner, now))
            self._overtaken |= self._waiting.get(space, {}).pop(value, set())

    def lay(self, space: Space, value: int | str, rest: Rest) -> None:
        """Let a value rest that nobody holds."""
        if self.holder(space, value) is None:
            self._resting.setdefault(space, {})[value] = rest

    def resting(self, space: Space) -> dict[int | str, Rest]:
        """The values of the space that rest."""
        return self._resting.get(space, {})

    def free(self, space: Space, before: int) -> set[Owner]:
        """End the rest of what was released before that second; returns who waited for it."""
        resting = self._resting.get(space, {})
        woken: set[Owner] = set()
        for value in [value for value, rest in resting.items() if rest.since < before]:
            del resting[value]
            woken |= self._freed(space, value)
        return woken

    def _freed(self, space: Space, value: int | str) -> set[Owner]:
        if isinstance(value, int):
            for first, hint in self._hints.get(space, {}).items():
                if first <= value < hint:
                    self._hints[space][first] = value
        waiting = self._waiting.get(space, {})
        return waiting.pop(value, set()) | waiting.pop(None, set())

    def reconsider(self, space: Space) -> set[Owner]:
        """Search the space from its start again, as what is reserved changed; returns who waits."""
        self._hints.pop(space, None)
        return self._waiting.get(space, {}).pop(None, set())

    def wait(self, space: Space, value: int | str | None, owner: Owner) -> None:
        """Be named when the value is released or taken; None: when any value is released."""
        self._waiting.setdefault(space, {}).setdefault(value, set()).add(owner)
