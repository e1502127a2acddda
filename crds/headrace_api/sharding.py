# SPDX-License-Identifier: Apache-2.0
"""A DataplaneConfig and its Slices as one: what has many entries is spread over small objects.

Objects are JSON as the API server has it, and read with care: people may have edited them.
"""

import hashlib
from collections.abc import Mapping

from pydantic import JsonValue

from .base import Json
from .dataplane_config import DataplaneConfig
from .raw import items, mapping, text
from .slice import SliceType

#: Label of the Slices of a DataplaneConfig: `config_label` of its name.
CONFIG_LABEL = "headrace.dev/config"
#: Lists of a DataplaneConfig that are in Slices, in its spec and its status alike.
LISTS: dict[SliceType, str] = {
    SliceType.NETWORKS: "networks",
    SliceType.INTERFACES: "interfaces",
}
_LISTS: Mapping[str, str] = {kind.value: name for kind, name in LISTS.items()}

_LABEL_CHARACTERS = 63
_NAME_CHARACTERS = 253


def config_label(config: str) -> str:
    """What stands in the label for a DataplaneConfig: its name, or a hash where it is too long."""
    if len(config) <= _LABEL_CHARACTERS:
        return config
    return hashlib.sha256(config.encode()).hexdigest()[:32]


def config_slice_name(config: str, kind: SliceType, number: int) -> str:
    """Name of a Slice of a DataplaneConfig: `<config>.<type>.<number>`, shortened above 253."""
    end = f".{kind.lower()}.{number}"
    if len(config) + len(end) <= _NAME_CHARACTERS:
        return config + end
    # The longest number has three digits.
    return f"{config[:200].rstrip('.-')}-{config_label(config)}{end}"


def config_of_slice(part: Json) -> str:
    """Name of the DataplaneConfig that has the Slice; empty: none."""
    owner = mapping(mapping(part.get("spec")).get("owner"))
    return text(owner.get("name")) if owner.get("kind") == DataplaneConfig.kind_name() else ""


def list_of(part: Json) -> str:
    """The list of a DataplaneConfig that the Slice's entries are of; empty: of none."""
    return _LISTS.get(text(mapping(part.get("spec")).get("type")), "")


def slices_named(config: Json) -> list[str]:
    """Names of the Slices of a DataplaneConfig."""
    return [*filter(None, map(text, items(mapping(config.get("spec")).get("slices"))))]


def entry_key(entry: JsonValue) -> str:
    """namespace/name of what an entry is about."""
    found = mapping(entry)
    return f"{text(found.get('namespace'))}/{text(found.get('name'))}"


def assembled(config: Json, slices: Mapping[str, Json]) -> Json:
    """The DataplaneConfig with all that is in its Slices (by name), of the spec and the status.

    Slices that are not there have nothing. Of entries that are about the same the first counts.
    """
    parts = [slices[name] for name in slices_named(config) if name in slices]
    if not parts:
        return config
    found = {**config}
    for field in ("spec", "status"):
        whole = {**mapping(config.get(field))}
        for name in LISTS.values():
            entries = [*items(whole.get(name))]
            for part in parts:
                if list_of(part) == name:
                    entries += items(mapping(part.get(field)).get("entries"))
            if entries:
                first: dict[str, JsonValue] = {}
                for each in entries:
                    first.setdefault(entry_key(each), each)
                whole[name] = [*first.values()]
        if whole:
            found[field] = whole
    return found
