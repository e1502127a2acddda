# SPDX-License-Identifier: Apache-2.0
"""The reference of every field, from the models.

`python -m headrace_api.reference` writes docs/reference/api.md, `--check` fails when it differs.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from pydantic.json_schema import models_json_schema

from . import generated
from .base import API_VERSION, Json
from .kinds import KINDS
from .slice import ENTRIES, Slice

_HEAD = f"""# Field reference

Written by `python -m headrace_api.reference` from the models; do not edit.

Every field of `{API_VERSION}`, and of what is compiled of it: `{Slice.version()}`.
What `kubectl explain` says is the same text. Fields without *required* may be left out.
"""
# What every Kubernetes object has, and nobody looks up here.
_LEFT_OUT = frozenset({"apiVersion", "kind", "metadata"})
_BOUNDS = (
    ("minimum", "at least {}"),
    ("maximum", "at most {}"),
    ("maxLength", "at most {} characters"),
    ("minItems", "at least {} items"),
    ("maxItems", "at most {} items"),
    ("maxProperties", "at most {} entries"),
)


def reference() -> str:
    """The page, as Markdown."""
    models = [*KINDS, *ENTRIES.values()]
    _, schema = models_json_schema([(model, "validation") for model in models], by_alias=True)
    definitions = cast(dict[str, Json], schema["$defs"])
    sections: list[str] = []
    for model in models:
        _collect(model.__name__, definitions, sections)
    return "\n".join([_HEAD, *(_section(name, definitions) for name in sections)])


def _collect(name: str, definitions: dict[str, Json], sections: list[str]) -> None:
    """Add a definition and those that it names, unless they are there."""
    if name not in sections and "properties" in definitions[name]:
        sections.append(name)
        for other in _mentioned(definitions[name]):
            _collect(other, definitions, sections)


def _mentioned(definition: Json) -> Iterator[str]:
    """The other definitions that the fields name, in their order."""
    for name, field in cast(dict[str, Json], definition.get("properties", {})).items():
        if name not in _LEFT_OUT:
            yield from _references(field)


def _references(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        if "$ref" in node:
            yield str(node["$ref"]).rpartition("/")[2]
        for value in node.values():
            yield from _references(value)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value)


def _section(name: str, definitions: dict[str, Json]) -> str:
    definition = definitions[name]
    required = cast(list[str], definition.get("required", []))
    lines = [f"## {name}", "", _words(definition.get("description", "")), ""]
    lines += ["| field | type | |", "| --- | --- | --- |"]
    schemas = cast(dict[str, Json], definition["properties"])
    for field, schema in schemas.items():
        if field in _LEFT_OUT and "metadata" in schemas:
            continue
        kind, bounds = _type(schema, definitions)
        given = cast(str, schema.get("description", ""))
        if not given and (targets := [*_references(schema)]):
            given = cast(str, definitions[targets[0]].get("description", ""))
        notes = [_words(given), *bounds, *(["*required*"] if field in required else [])]
        cells = [f"`{field}`", kind, "; ".join(note.rstrip(".") for note in notes if note)]
        lines.append(f"| {' | '.join(cells)} |")
    rules = cast(list[Json], definition.get("x-kubernetes-validations", []))
    if rules:
        lines += ["", "Rules: " + "; ".join(str(rule["message"]) for rule in rules) + "."]
    return "\n".join([*lines, ""])


def _type(schema: Json, definitions: dict[str, Json]) -> tuple[str, list[str]]:
    """The type's words, and the bounds that the description need not repeat."""
    if "anyOf" in schema:
        # Only `X | None` is left of unions in the API (headrace_api.crd).
        rest = {key: value for key, value in schema.items() if key != "anyOf"}
        return _type({**rest, **cast(list[Json], schema["anyOf"])[0]}, definitions)
    if "$ref" in schema:
        target = str(schema["$ref"]).rpartition("/")[2]
        definition = definitions[target]
        if "enum" in definition:
            values = ", ".join(f"`{value}`" for value in cast(list[str], definition["enum"]))
            return f"one of {values}", []
        return f"[{target}](#{target.lower()})", []
    described = str(schema.get("description", ""))
    bounds = [
        words.format(schema[key])
        for key, words in _BOUNDS
        if key in schema and str(schema[key]) not in described and schema[key] != 0
    ]
    match schema.get("type"):
        case "array":
            kind, _ = _type(cast(Json, schema.get("items", {})), definitions)
            return f"list of {kind}", bounds
        case "object" if schema.get("x-kubernetes-preserve-unknown-fields"):
            return "object", bounds
        case "object":
            return "map of strings", bounds
        case "string" if schema.get("format") == "date-time":
            return "time", []
        case other:
            return str(schema.get("const", other)), bounds


def _words(text: object) -> str:
    return " ".join(str(text).split()).replace("|", "\\|")


def main(arguments: list[str] | None = None) -> int:
    """Write the page, or check that it is what the models say."""
    directory = Path(__file__).resolve().parents[2] / "docs/reference"
    return generated.main(
        "headrace_api.reference", __doc__, lambda: {"api.md": reference()}, directory, arguments
    )


if __name__ == "__main__":
    sys.exit(main())
