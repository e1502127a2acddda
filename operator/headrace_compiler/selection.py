# SPDX-License-Identifier: Apache-2.0
"""Who selects whom, by labels: kept as either side changes, a pair at a time.

With 1,000 objects that select and 1,000 that may be selected, one changed label is 1,000 looks, not
a million.
"""

from collections.abc import Callable, Iterable, Mapping, Set

_NONE: frozenset[str] = frozenset()


class Selection:
    """Objects that select, by name, and those that they may select, by key."""

    def __init__(self) -> None:
        self._selectors: dict[str, Callable[[str], bool]] = {}
        self._selected: dict[str, frozenset[str]] = {}
        self._turned: set[str] = set()
        self._to_look_at: set[str] = set()

    def select(self, name: str, selects: Callable[[str], bool] | None) -> None:
        """Have an object select what `selects` says; None: nothing any more."""
        if selects is None:
            self._selectors.pop(name, None)
        else:
            self._selectors[name] = selects
        self._turned.add(name)

    def look_at(self, keys: Iterable[str]) -> None:
        """These came, went or have other labels."""
        self._to_look_at.update(keys)

    def settle(self, keys: Mapping[str, object]) -> set[str]:
        """Look at what changed among `keys`, all that there are; returns who is selected otherwise.

        Whoever is selected by an object that was given again is among these.
        """
        changed: set[str] = set()
        for key in keys if self._turned else ():
            if key in self._to_look_at:
                continue
            before = self._selected.get(key, _NONE)
            found = (before - self._turned) | self._selecting(key, self._turned)
            if found != before or before & self._turned:
                changed.add(key)
                self._put(key, found)
        for key in self._to_look_at:
            before = self._selected.get(key, _NONE)
            found = self._selecting(key, self._selectors.keys()) if key in keys else _NONE
            if found != before or before & self._turned:
                changed.add(key)
                self._put(key, found)
        self._turned, self._to_look_at = set(), set()
        return changed

    def selecting(self, key: str) -> frozenset[str]:
        """Names of those that select it, as of the last look."""
        return self._selected.get(key, _NONE)

    def _selecting(self, key: str, names: Set[str]) -> frozenset[str]:
        return frozenset(
            name for name in names if name in self._selectors and self._selectors[name](key)
        )

    def _put(self, key: str, found: frozenset[str]) -> None:
        if found:
            self._selected[key] = found
        else:
            self._selected.pop(key, None)
