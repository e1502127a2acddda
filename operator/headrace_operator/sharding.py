# SPDX-License-Identifier: Apache-2.0
"""Spreads what is compiled for a node over its DataplaneConfig and Slices. Pure.

An entry stays in its Slice for as long as it exists, so that one change writes one small object
(the EndpointSlice pattern). A Slice that has become empty stays for those that come.
"""

import json
from collections import defaultdict
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

    shards: dict[int, _Shard] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)
    """Entry -> the number of its Slice."""

    def place(self, key: str, entry: Json) -> None:
        size = len(json.dumps(entry, separators=(",", ":")))
        number = self.numbers.get(key)
        if number is None:
            number = next((n for n, each in self.shards.items() if each.has_room(size)), None)
        if number is None:
            number = len(self.shards)
            self.shards[number] = _Shard()
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


class Sharding:
    """Where the entries of every DataplaneConfig are. Not thread-safe."""

    def __init__(self) -> None:
        # DataplaneConfig -> list -> its Slices.
        self._lists: defaultdict[str, dict[str, _List]] = defaultdict(
            lambda: {name: _List() for name in _TYPES}
        )

    def load(self, configs: Iterable[Json], slices: Mapping[str, Json]) -> None:
        """Take the places of an earlier run: raw DataplaneConfigs, and Slices by name."""
        for config in configs:
            for name in slices_named(config):
                if found := slices.get(name):
                    self._load(text(part(config, "metadata").get("name")), name, found)

    def _load(self, config: str, name: str, found: Json) -> None:
        number = name.rpartition(".")[2]
        field_name = list_of(found)
        if not field_name or config_of_slice(found) != config or not number.isdecimal():
            return
        # Numbers without a gap, as they are given out here: all else starts anew.
        there = self._lists[config][field_name]
        if int(number) != len(there.shards) or name != _name(config, field_name, int(number)):
            return
        shard = there.shards[int(number)] = _Shard()
        for entry in map(mapping, items(part(found, "spec").get("entries"))):
            key = entry_key(entry)
            if key not in there.numbers:
                there.numbers[key] = int(number)
                shard.put(key, entry, 0)

    def spread(self, name: str, config: Json | None) -> tuple[Json | None, dict[str, Json | None]]:
        """The DataplaneConfig (None: gone) of this name, and those of its Slices that changed."""
        before = self._lists.pop(name, {})
        if config is None:
            gone = [_name(name, key, n) for key, each in before.items() for n in each.shards]
            return None, dict.fromkeys(gone)
        if before:
            self._lists[name] = before
        lists, spec = self._lists[name], part(config, "spec")
        changed: dict[str, Json | None] = {}
        names: list[str] = []
        for key, each in lists.items():
            each.take({entry_key(entry): entry for entry in map(mapping, items(spec.get(key)))})
            for number, shard in each.shards.items():
                names.append(_name(name, key, number))
                if not shard.written:
                    changed[names[-1]] = _slice(names[-1], config, key, shard)
                    shard.written = True
        rest: Json = {field: value for field, value in spec.items() if field not in _TYPES}
        return {**config, "spec": {**rest, "slices": [*names]}}, changed

    def entries(self, config: str, key: str) -> Iterable[str]:
        """What a list of the DataplaneConfig is about."""
        lists = self._lists.get(config)
        return lists[key].numbers.keys() if lists else ()

    def slice_of(self, config: str, key: str, entry: str) -> str:
        """Name of the Slice with the entry of a list; empty: none has it."""
        lists = self._lists.get(config)
        number = lists[key].numbers.get(entry) if lists else None
        return "" if number is None else _name(config, key, number)

    def slices(self, config: str) -> Iterable[str]:
        """Names of the Slices of the DataplaneConfig."""
        lists = self._lists.get(config, {})
        return [_name(config, key, n) for key, each in lists.items() for n in each.shards]


def _name(config: str, key: str, number: int) -> str:
    return config_slice_name(config, _TYPES[key], number)


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
