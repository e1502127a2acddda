# SPDX-License-Identifier: Apache-2.0
"""Spreads what is compiled for a node over its DataplaneConfig and Slices. Pure.

An entry stays in its Slice for as long as it exists, so that one change writes one small object
(the EndpointSlice pattern). A Slice that has become empty stays for those that come.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from headrace_api import (
    CONFIG_LABEL,
    LISTS,
    PIPELINE_LABEL,
    DataplaneConfig,
    Json,
    Slice,
    config_label,
    config_of_slice,
    config_slice_name,
    entry_key,
    list_of,
    slices_named,
)
from headrace_api.raw import items, mapping, part, text

#: Most entries of one Slice, and bytes of its entries as JSON when one comes to it: an entry that
#: grows stays.
ENTRIES, BYTES = 64, 64 * 1024

_TYPES = {name: kind for kind, name in LISTS.items()}


@dataclass(slots=True)
class _Shard:
    """One Slice."""

    name: str
    entries: dict[str, Json] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    """Bytes of each."""
    written: bool = False
    """Whether it has been given out as it is."""

    def has_room(self, size: int) -> bool:
        return len(self.entries) < ENTRIES and sum(self.sizes.values()) + size <= BYTES

    def put(self, key: str, entry: Json, size: int) -> None:
        if self.entries.get(key) != entry:
            self.written = False
        self.entries[key], self.sizes[key] = entry, size

    def drop(self, key: str) -> None:
        self.written = False
        del self.entries[key], self.sizes[key]


@dataclass(slots=True)
class _List:
    """One list of one DataplaneConfig."""

    config: str
    key: str
    shards: list[_Shard] = field(default_factory=list)
    """By number."""
    numbers: dict[str, int] = field(default_factory=dict)
    """Entry -> the number of its Slice."""

    def add(self) -> int:
        """Begin another Slice; returns its number."""
        number = len(self.shards)
        self.shards.append(_Shard(config_slice_name(self.config, _TYPES[self.key], number)))
        return number

    def place(self, key: str, entry: Json) -> None:
        size = _size(entry)
        number = self.numbers.get(key)
        if number is None:
            number = next((n for n, each in enumerate(self.shards) if each.has_room(size)), None)
        if number is None:
            number = self.add()
        self.numbers[key] = number
        self.shards[number].put(key, entry, size)

    def take(self, wanted: Mapping[str, Json]) -> None:
        """Have these entries, and no others."""
        for key in self.numbers.keys() - wanted.keys():
            self.shards[self.numbers.pop(key)].drop(key)
        for key, entry in wanted.items():
            number = self.numbers.get(key)
            held = self.shards[number].entries[key] if number is not None else None
            if held is not entry and held != entry:
                self.place(key, entry)
            elif number is not None:
                # One copy of it is enough.
                self.shards[number].entries[key] = entry


class Sharding:
    """Where the entries of every DataplaneConfig are. Not thread-safe."""

    def __init__(self) -> None:
        # DataplaneConfig -> list -> its Slices.
        self._lists: dict[str, dict[str, _List]] = {}

    def _lists_of(self, config: str) -> dict[str, _List]:
        if config not in self._lists:
            self._lists[config] = {key: _List(config, key) for key in _TYPES}
        return self._lists[config]

    def load(self, configs: Iterable[Json], slices: Mapping[str, Json]) -> None:
        """Take the places of an earlier run: raw DataplaneConfigs, and Slices by name."""
        for config in configs:
            for name in slices_named(config):
                if found := slices.get(name):
                    self._load(text(part(config, "metadata").get("name")), name, found)

    def _load(self, config: str, name: str, found: Json) -> None:
        field_name = list_of(found)
        if not field_name or config_of_slice(found) != config:
            return
        # Numbers without a gap, as they are given out here: all else starts anew.
        there = self._lists_of(config)[field_name]
        if name != config_slice_name(config, _TYPES[field_name], len(there.shards)):
            return
        number = there.add()
        for entry in map(mapping, items(part(found, "spec").get("entries"))):
            key = entry_key(entry)
            if key not in there.numbers:
                there.numbers[key] = number
                there.shards[number].put(key, entry, _size(entry))

    def spread(self, name: str, config: Json | None) -> tuple[Json | None, dict[str, Json | None]]:
        """The DataplaneConfig (None: gone) of this name, and those of its Slices that changed."""
        if config is None:
            gone = [*self.slices(name)]
            self._lists.pop(name, None)
            return None, dict.fromkeys(gone)
        lists, spec = self._lists_of(name), part(config, "spec")
        changed: dict[str, Json | None] = {}
        for key, each in lists.items():
            each.take({entry_key(entry): entry for entry in map(mapping, items(spec.get(key)))})
            for shard in each.shards:
                if not shard.written:
                    changed[shard.name] = _slice(shard.name, config, key, shard)
                    shard.written = True
        rest: Json = {field: value for field, value in spec.items() if field not in _TYPES}
        return {**config, "spec": {**rest, "slices": [*self.slices(name)]}}, changed

    def entries(self, config: str, key: str) -> Iterable[str]:
        """What a list of the DataplaneConfig is about."""
        lists = self._lists.get(config)
        return lists[key].numbers.keys() if lists else ()

    def slice_of(self, config: str, key: str, entry: str) -> str:
        """Name of the Slice with the entry of a list; empty: none has it."""
        there = self._lists[config][key] if config in self._lists else None
        number = there.numbers.get(entry) if there else None
        return there.shards[number].name if there and number is not None else ""

    def slices(self, config: str) -> Iterable[str]:
        """Names of the Slices of the DataplaneConfig."""
        lists = self._lists.get(config, {})
        return [shard.name for each in lists.values() for shard in each.shards]


def _size(entry: Json) -> int:
    return len(json.dumps(entry, separators=(",", ":")))


def _slice(name: str, config: Json, key: str, shard: _Shard) -> Json:
    metadata, spec = part(config, "metadata"), part(config, "spec")
    config_name = text(metadata.get("name"))
    labels: Json = {
        PIPELINE_LABEL: spec.get("pipelineName"),
        CONFIG_LABEL: config_label(config_name),
    }
    return {
        "apiVersion": Slice.version(),
        "kind": Slice.kind_name(),
        "metadata": {"name": name, "namespace": metadata.get("namespace"), "labels": labels},
        "spec": {
            "type": _TYPES[key].value,
            "owner": {"kind": DataplaneConfig.kind_name(), "name": config_name},
            "nodeName": spec.get("nodeName"),
            "entries": [shard.entries[each] for each in sorted(shard.entries)],
        },
    }
