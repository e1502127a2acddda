# SPDX-License-Identifier: Apache-2.0
"""Raw objects as the API server gives them: read with care, for people may have edited them."""

from pydantic import JsonValue

from .base import Json


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


def object_name(raw: Json) -> str:
    """metadata.name; empty where there is none."""
    return text(part(raw, "metadata").get("name"))


def generation(raw: Json) -> int:
    """metadata.generation; 0 where there is none."""
    return number(part(raw, "metadata").get("generation"))
