# SPDX-License-Identifier: Apache-2.0
"""A node's DataplaneConfig and Slices, put together, and the status of them taken apart. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from headrace_api import (
    DataplaneConfigStatus,
    InterfaceState,
    Json,
    NetworkState,
    ObjectMeta,
    SliceStatus,
    assembled,
    config_of_slice,
    entry_key,
    list_of,
    slices_named,
)
from headrace_api.raw import items, part


@dataclass(frozen=True)
class Part:
    """One generation of one Slice."""

    name: str
    uid: str
    generation: int
    list: str
    """The list of the DataplaneConfig that its entries are of: `networks` or `interfaces`."""

    keys: frozenset[str]
    """What its entries are about, namespace/name."""


@dataclass(frozen=True)
class Report:
    """The state of a node, as of these generations of its Slices."""

    status: DataplaneConfigStatus
    parts: tuple[Part, ...] = ()


class Whole:
    """What the API server has for a node."""

    def __init__(self, name: str) -> None:
        """`name` is the DataplaneConfig's."""
        self._name = name
        self._config: Json | None = None
        self._slices: dict[str, Json] = {}
        self._parts: dict[str, Part] = {}
        self._gone: set[str] = set()
        """Slices that were deleted while the DataplaneConfig names them: they stay as they were."""

    @property
    def names(self) -> frozenset[str]:
        """The Slices that are known."""
        return frozenset(self._slices)

    def put(self, config: Json) -> None:
        """Take the DataplaneConfig."""
        self._config = config
        for name in self._gone - {*slices_named(config)}:
            self._forget(name)

    def put_slice(self, item: Json) -> None:
        """Take a Slice, if it is of this DataplaneConfig."""
        if config_of_slice(item) == self._name:
            metadata = ObjectMeta.model_validate(item["metadata"])
            known = self._parts.get(metadata.name)
            # A status leaves the entries as they are.
            if known is None or (known.uid, known.generation) != (
                metadata.uid,
                metadata.generation,
            ):
                self._parts[metadata.name] = _part(item, metadata)
            self._slices[metadata.name] = item
            self._gone.discard(metadata.name)

    def drop_slices(self, names: Iterable[str]) -> None:
        """Take that these Slices are gone.

        The operator deletes none that is named: that is a mistake, or the news are on their way.
        """
        named = {*slices_named(self._config or {})}
        for name in names:
            if name in named:
                self._gone.add(name)
            else:
                self._forget(name)

    def _forget(self, name: str) -> None:
        self._gone.discard(name)
        self._slices.pop(name, None)
        self._parts.pop(name, None)

    def version(self) -> str | None:
        """Of all of it but statuses; None: something of it is not there yet."""
        config = self._config
        if config is None or not self._slices.keys() >= {*slices_named(config)}:
            return None
        # The status changes its resourceVersion: only the generation is the spec's.
        metadata = ObjectMeta.model_validate(config["metadata"])
        revisions = (f"{each.name} {each.uid} {each.generation}" for each in self.parts())
        return " ".join((metadata.uid, str(metadata.generation), *revisions))

    def config(self) -> Json | None:
        """The whole DataplaneConfig; None: something of it is not there yet."""
        config = self._config
        return assembled(config, self._slices) if config and self.version() is not None else None

    def parts(self) -> tuple[Part, ...]:
        """The Slices that it is of."""
        named = slices_named(self._config or {})
        return tuple(self._parts[name] for name in named if name in self._parts)


def _part(item: Json, metadata: ObjectMeta) -> Part:
    return Part(
        name=metadata.name,
        uid=metadata.uid,
        generation=metadata.generation,
        list=list_of(item),
        keys=frozenset(map(entry_key, items(part(item, "spec").get("entries")))),
    )


def taken_apart(report: Report) -> tuple[DataplaneConfigStatus, dict[str, SliceStatus]]:
    """The status of the DataplaneConfig, and those of its Slices by name."""
    status = report.status
    networks = {f"{each.namespace}/{each.name}": each for each in status.networks}
    interfaces = {f"{each.namespace}/{each.name}": each for each in status.interfaces}
    left: Mapping[str, dict[str, NetworkState] | dict[str, InterfaceState]] = {
        "networks": networks,
        "interfaces": interfaces,
    }
    slices = {}
    for each in report.parts:
        held = left.get(each.list, {})
        entries = tuple(held.pop(key).to_dict() for key in sorted(each.keys & held.keys()))
        slices[each.name] = SliceStatus(observed_generation=each.generation, entries=entries)
    rest = {"networks": tuple(networks.values()), "interfaces": tuple(interfaces.values())}
    return status.model_copy(update=rest), slices
