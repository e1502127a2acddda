# SPDX-License-Identifier: Apache-2.0
"""Raw objects as the API server gives them: read with care, for people may have edited them."""

from pydantic import JsonValue, ValidationError

from headrace_api import Json, Object, Pod, Problem
from headrace_api.errors import violations
from headrace_api.manifests import KINDS


def parse(kind: str, raw: Json) -> Object | tuple[Problem, ...]:
    """The model of an object that the compiler reads, or what is wrong with it.

    What a status says is not looked at, but for a pod's. Raises KeyError for another kind.
    """
    if kind == "Pod":
        return Pod.model_validate(raw)
    model = KINDS[kind]
    wanted = {key: value for key, value in raw.items() if key != "status"}
    try:
        return model.model_validate(wanted)
    except ValidationError as error:
        metadata = mapping(raw.get("metadata"))
        namespace, name = text(metadata.get("namespace")), text(metadata.get("name"))
        return tuple(
            Problem(kind, namespace, name, found.path, found.reason, found.message)
            for found in violations(model, error)
        )


def mapping(value: JsonValue) -> Json:
    """The value if it is a mapping, else an empty one."""
    return value if isinstance(value, dict) else {}


def items(value: JsonValue) -> list[JsonValue]:
    """The value if it is a list, else an empty one."""
    return value if isinstance(value, list) else []


def text(value: JsonValue) -> str:
    """The value if it is text, else an empty one."""
    return value if isinstance(value, str) else ""


def number(value: JsonValue) -> int:
    """The value if it is a whole number, else 0."""
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def part(raw: Json | None, *path: str) -> Json:
    """The mapping at the path, empty where there is none."""
    found = raw or {}
    for name in path:
        found = mapping(found.get(name))
    return found


def key_of(raw: Json) -> str:
    """namespace/name, or name where there is no namespace."""
    metadata = part(raw, "metadata")
    namespace, name = text(metadata.get("namespace")), text(metadata.get("name"))
    return f"{namespace}/{name}" if namespace else name


def generation(raw: Json) -> int:
    """metadata.generation; 0 where there is none."""
    return number(part(raw, "metadata").get("generation"))
