# SPDX-License-Identifier: Apache-2.0
"""The objects as last seen. Events and lists come in any order; the newest version stays."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from headrace_api import Json
from headrace_api.raw import part
from headrace_kube import Kind

from . import objects

#: (kind, key, object before, object now): called whenever one of them is replaced.
Changed = Callable[[Kind, str, Json | None, Json | None], None]


@dataclass(slots=True)
class _Shelf:
    items: dict[str, Json] = field(default_factory=dict)
    gone: dict[str, int] = field(default_factory=dict)
    """Key -> version of its deletion, as long as an older list could bring it back."""
    listed: int = 0
    """Version of the last list: what it did not hold did not exist then."""


class Cache:
    """Objects by kind and key (see `objects.key`). Not thread-safe."""

    def __init__(self, kinds: Iterable[Kind], changed: Changed) -> None:
        self._shelves = {kind: _Shelf() for kind in kinds}
        self._changed = changed

    @property
    def kinds(self) -> Iterable[Kind]:
        """Of all that is kept."""
        return self._shelves.keys()

    def get(self, kind: Kind, key: str) -> Json | None:
        """The object, if it exists."""
        return self._shelves[kind].items.get(key)

    def all(self, kind: Kind) -> Iterator[tuple[str, Json]]:
        """Every object with its key."""
        yield from self._shelves[kind].items.items()

    def count(self, kind: Kind) -> int:
        """How many there are."""
        return len(self._shelves[kind].items)

    def put(self, kind: Kind, item: Json) -> None:
        """Take an object that was seen, unless a newer one or its deletion was seen before."""
        shelf, key = self._shelves[kind], objects.key(item)
        held = shelf.items.get(key)
        seen = objects.version(held) if held else max(shelf.gone.get(key, 0), shelf.listed)
        if objects.version(item) > seen:
            self._set(kind, key, held, item)

    def remove(self, kind: Kind, item: Json) -> None:
        """Take a deletion that was seen; `item` is the object's last state."""
        shelf, key, version = self._shelves[kind], objects.key(item), objects.version(item)
        held = shelf.items.get(key)
        if held and objects.version(held) > version:
            return
        shelf.gone[key] = version
        if held:
            del shelf.items[key]
            self._changed(kind, key, held, None)

    def replace(self, kind: Kind, items: Iterable[Json], resource_version: str) -> int:
        """Take a list of all objects as of its version; returns how many were news.

        What is not in it is gone, but what was seen since stays.
        """
        shelf, listed = self._shelves[kind], int(resource_version)
        if listed < shelf.listed:
            # The cluster was restored from a backup: everything seen is of another history.
            shelf.gone.clear()
            shelf.items = {key: _aged(item) for key, item in shelf.items.items()}
        news, present = 0, set()
        for item in items:
            key = objects.key(item)
            present.add(key)
            held = shelf.items.get(key)
            if objects.version(item) > (objects.version(held) if held else 0) and (
                shelf.gone.get(key, 0) < listed
            ):
                self._set(kind, key, held, item)
                news += 1
        missing = [
            key
            for key, held in shelf.items.items()
            if key not in present and objects.version(held) <= listed
        ]
        for key in missing:
            self._changed(kind, key, shelf.items.pop(key), None)
        shelf.gone = {key: version for key, version in shelf.gone.items() if version > listed}
        shelf.listed = listed
        return news + len(missing)

    def clear(self, kind: Kind) -> int:
        """Take that there is no such kind any more; returns how many objects were news."""
        shelf = self._shelves[kind]
        missing = [*shelf.items]
        for key in missing:
            self._changed(kind, key, shelf.items.pop(key), None)
        return len(missing)

    def _set(self, kind: Kind, key: str, held: Json | None, item: Json) -> None:
        shelf = self._shelves[kind]
        item = objects.slim(item)
        shelf.items[key] = item
        shelf.gone.pop(key, None)
        self._changed(kind, key, held, item)


def _aged(item: Json) -> Json:
    return {**item, "metadata": {**part(item, "metadata"), "resourceVersion": "0"}}
