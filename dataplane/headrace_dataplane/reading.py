# SPDX-License-Identifier: Apache-2.0
"""Reading compiled objects: what cannot be read of one is left out alone, and named.

An entry that cannot be read stays as it was in the object before; where there is none it is left
out. Of a route, next hops that cannot be read are left out, and without any it drops: what it would
catch must not take a shorter one.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar, cast

from pydantic import JsonValue, TypeAdapter, ValidationError

from headrace_api import DataplaneConfig, Json, Problem, RouteSlice, SliceRoute, SliceType
from headrace_api.base import ApiModel, Resource
from headrace_api.errors import Violation, path_text, violations
from headrace_api.types import Name

REASON = "NotUnderstood"

ResourceT = TypeVar("ResourceT", bound=Resource)
_Broken = dict[int, list[Violation]]
_Mend = Callable[[JsonValue, list[Violation]], JsonValue | None]

_NAME: TypeAdapter[str] = TypeAdapter(Name)
_KINDS = {"networks": "VirtualNetwork", "interfaces": "Interface"}


def read_config(
    item: Json, before: DataplaneConfig | None = None
) -> tuple[DataplaneConfig, tuple[Problem, ...]]:
    """Return the object without its status, and what of it is not as it was written.

    Raises ValidationError when it cannot be read but for its networks and Interfaces.
    """
    problems: list[Problem] = []
    earlier = before.spec if before is not None else None
    had: dict[str, Mapping[tuple[str, str], ApiModel]] = {
        "networks": {(n.namespace, n.name): n for n in (earlier.networks if earlier else ())},
        "interfaces": {(i.namespace, i.name): i for i in (earlier.interfaces if earlier else ())},
    }

    def mend(field: str) -> _Mend:
        def entry(raw: JsonValue, broken: list[Violation]) -> JsonValue | None:
            namespace, name = _name(raw, "namespace"), _name(raw, "name")
            kept = had[field].get((namespace, name))
            first = broken[0]
            where = path_text(first.location[3:])
            fallback = "it stays as it was" if kept is not None else "it is left out"
            message = f"{where}: {first.message}: {fallback}"
            problems.append(Problem(_KINDS[field], namespace, name, where, REASON, message))
            return kept.to_dict() if kept is not None else None

        return entry

    return _read(DataplaneConfig, item, {field: mend(field) for field in _KINDS}), tuple(problems)


def is_routes(item: Json) -> bool:
    """Whether a Slice has routes."""
    spec = item.get("spec")
    return isinstance(spec, dict) and spec.get("type") == SliceType.ROUTES


def read_slice(
    item: Json, before: RouteSlice | None = None
) -> tuple[RouteSlice, tuple[Problem, ...]]:
    """Return the Slice of routes, and what of it is not as it was written.

    That is, as problems of its network, with the slice as their source.

    Raises ValidationError when it cannot be read but for its routes.
    """
    found: list[tuple[str, str]] = []
    had = {route.prefix: route for route in (before.spec.entries if before is not None else ())}

    def mend(raw: JsonValue, broken: list[Violation]) -> JsonValue | None:
        prefix = _text(raw, "prefix")
        where = path_text(broken[0].location[3:])
        found.append((prefix, f"route {prefix or '?'}: {where}: {broken[0].message}"))
        if prefix in had:
            return had[prefix].to_dict()
        bad = {at.location[4] for at in broken if at.location[3:4] == ("nextHops",)}
        hops = raw.get("nextHops") if isinstance(raw, dict) else None
        good = [
            hop for at, hop in enumerate(hops if isinstance(hops, list) else ()) if at not in bad
        ]
        reduced: Json = {"prefix": prefix, **({"nextHops": good} if good else {"blackhole": True})}
        try:
            return SliceRoute.read(reduced).to_dict()
        except ValidationError:
            return None

    part = _read(RouteSlice, item, {"entries": mend})
    namespace, _, name = part.network.partition("/")
    return part, tuple(
        Problem("VirtualNetwork", namespace, name, prefix, REASON, message, part.metadata.name)
        for prefix, message in found
    )


def _read(model: type[ResourceT], item: Json, mends: Mapping[str, _Mend]) -> ResourceT:
    """Validate the object; entries of its spec's lists that break a rule are mended or left out."""
    data: Json = {key: value for key, value in item.items() if key != "status"}
    try:
        return model.read(data)
    except ValidationError as error:
        broken = _entries(violations(model, error), mends)
        if broken is None:
            raise
    spec = dict(cast(Json, data["spec"]))
    for field, entries in broken.items():
        mended: list[JsonValue] = []
        for index, raw in enumerate(cast("list[JsonValue]", spec[field])):
            entry = mends[field](raw, entries[index]) if index in entries else raw
            if entry is not None:
                mended.append(entry)
        spec[field] = mended
    return model.read({**data, "spec": spec})


def _entries(found: Iterable[Violation], fields: Iterable[str]) -> dict[str, _Broken] | None:
    """The violations by list and index; None when something else breaks a rule too."""
    broken: defaultdict[str, _Broken] = defaultdict(dict)
    for each in found:
        match each.location:
            case ("spec", str(field), int(index), *_) if field in fields:
                broken[field].setdefault(index, []).append(each)
            case _:
                return None
    return broken


def _name(raw: JsonValue, key: str) -> str:
    """A name that a status can hold; empty when it is none."""
    try:
        return _NAME.validate_python(_text(raw, key))
    except ValidationError:
        return ""


def _text(raw: JsonValue, key: str) -> str:
    value = raw.get(key) if isinstance(raw, dict) else None
    return value if isinstance(value, str) else ""
