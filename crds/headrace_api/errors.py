# SPDX-License-Identifier: Apache-2.0
"""Words for what pydantic finds: one line for each broken rule, in the names that YAML has."""

import difflib
import types
import typing
from collections.abc import Iterator
from typing import NamedTuple

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from .base import LABEL_PATTERN, SUBDOMAIN_PATTERN

Location = tuple[int | str, ...]

_PATTERNS = {
    LABEL_PATTERN: "at most 63 of a-z, 0-9 and '-', with no '-' at either end (RFC 1123 label)",
    SUBDOMAIN_PATTERN: "of a-z, 0-9, '-' and '.', as in node-a.example (RFC 1123 subdomain)",
}


class Violation(NamedTuple):
    """A rule that a document breaks."""

    location: Location
    """Where, in YAML names and list indexes."""
    reason: str
    """CamelCase."""
    message: str

    @property
    def path(self) -> str:
        """The location as text: spec.subnets[0].prefix."""
        return path_text(self.location)


def path_text(location: Location) -> str:
    """A location as text: spec.subnets[0].prefix."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return text.removeprefix(".")


def violations(model: type[BaseModel], error: ValidationError) -> Iterator[Violation]:
    """Every broken rule of the validation of `model`, in document order."""
    for detail in error.errors(include_url=False):
        # A list with a broken item is reported as too short as well, whatever its length.
        given, least = detail.get("input"), detail.get("ctx", {}).get("min_length", 0)
        if detail["type"] == "too_short" and isinstance(given, list) and len(given) >= least:
            continue
        yield _violation(model, detail)


def _violation(model: type[BaseModel], detail: ErrorDetails) -> Violation:
    location: Location = tuple(part for part in detail["loc"] if part != "[key]")
    context = detail.get("ctx", {})
    given = detail.get("input")
    match detail["type"]:
        case "missing":
            return Violation(location, "Required", "required, but not given")
        case "extra_forbidden":
            return Violation(location, "UnknownField", _unknown_field(model, location))
        case "rule":
            field = context.get("field", "")
            return Violation(location + _parse(field), "Invalid", str(context["text"]))
        case "address":
            return Violation(location, "Invalid", f"{_show(given)}: {context['text']}")
        case "enum" | "literal_error":
            return Violation(location, "NotSupported", _choice(given, str(context["expected"])))
        case _:
            return Violation(location, "Invalid", f"{_show(given)}: {_words(detail)}")


def _words(detail: ErrorDetails) -> str:
    context = detail.get("ctx", {})
    match detail["type"]:
        case "greater_than_equal":
            return f"must be at least {context['ge']}"
        case "less_than_equal":
            return f"must be at most {context['le']}"
        case "string_too_short":
            return f"must have at least {context['min_length']} characters"
        case "string_too_long":
            return f"must have at most {context['max_length']} characters"
        case "too_short":
            return f"must have at least {context['min_length']} items"
        case "too_long":
            return f"must have at most {context['max_length']} items"
        case "string_pattern_mismatch":
            pattern = context["pattern"]
            words = _PATTERNS.get(pattern)
            return f"must be {words}" if words else f"must match {pattern}"
        case "string_type":
            return "must be text"
        case "int_type" | "int_parsing" | "int_from_float":
            return "must be a whole number"
        case "bool_type" | "bool_parsing":
            return "must be true or false"
        case "tuple_type" | "list_type":
            return "must be a list"
        case "dict_type" | "model_type" | "model_attributes_type":
            return "must be a mapping of fields"
        case _:
            message = detail["msg"]
            return message[:1].lower() + message[1:]


def _choice(given: object, expected: str) -> str:
    expected = expected.replace("'", "").replace(" or ", ", ")
    choices = expected.split(", ")
    return f"{_show(given)}: must be one of {expected}{_suggest(str(given), choices)}"


def _unknown_field(model: type[BaseModel], location: Location) -> str:
    owner = _model_at(model, location[:-1])
    known = [field.alias or name for name, field in owner.model_fields.items()] if owner else []
    hint = _suggest(str(location[-1]), known)
    return f"no such field{hint}" if hint else f"no such field: there are {', '.join(known)}"


def _suggest(word: str, choices: list[str]) -> str:
    by_case = {choice.lower(): choice for choice in choices}
    close = difflib.get_close_matches(word.lower(), by_case, n=1)
    return f"; did you mean {by_case[close[0]]}?" if close else ""


def _show(value: object) -> str:
    text = repr(value) if isinstance(value, str) else str(value)
    if value is None:
        text = "no value"
    elif isinstance(value, list | dict | tuple):
        text = f"{len(value)} items" if not isinstance(value, dict) else "a mapping"
    return text if len(text) <= 60 else f"{text[:57]}..."


def _parse(field: str) -> Location:
    """subnets[1].prefix -> ('subnets', 1, 'prefix')."""
    parts: list[int | str] = []
    for name in field.split("."):
        head, *indexes = name.split("[")
        parts += [head] if head else []
        parts += [int(index.rstrip("]")) for index in indexes]
    return tuple(parts)


def _model_at(model: type[BaseModel], location: Location) -> type[BaseModel] | None:
    """The model that describes what is at the location."""
    found: type[BaseModel] | None = model
    for part in location:
        if isinstance(part, int):
            continue
        if found is None:
            return None
        fields = {field.alias or name: field for name, field in found.model_fields.items()}
        found = _model_in(fields[part].annotation) if part in fields else None
    return found


def _model_in(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if typing.get_origin(annotation) in (types.UnionType, typing.Union, tuple):
        for argument in typing.get_args(annotation):
            if found := _model_in(argument):
                return found
    return None
