# SPDX-License-Identifier: Apache-2.0
"""Manifests: YAML files to objects. A broken document hurts itself alone."""

import difflib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import yaml
from pydantic import ValidationError

from .base import API_VERSION, GROUP, Resource
from .errors import Location, Violation, path_text, violations
from .kinds import written
from .namespace import Namespace
from .node import Node
from .objects import Object, Objects, Problem

#: What may be in a manifest; objects of other groups are passed over.
KINDS: dict[str, type[Resource] | type[Node] | type[Namespace]] = {
    **{kind.kind_name(): kind for kind in written()},
    "Node": Node,
    "Namespace": Namespace,
}

_SEPARATOR = re.compile(r"^---(?:[ \t].*)?$", re.MULTILINE)
_SUFFIXES = frozenset({".yaml", ".yml", ".json"})


class _Loader(yaml.CSafeLoader):
    """YAML as Kubernetes reads it: no base-60 numbers (a MAC is text), no timestamps."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag.rpartition(":")[2] in kept]
    for kept in ({"bool", "null", "merge"},)
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"^[-+]?(0|[1-9][0-9]*|0x[0-9a-fA-F]+)$"), [*"-+0123456789"]
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?([eE][-+]?[0-9]+)?$"),
    [*"-+0123456789"],
)


# JSON's types alone: a tag such as !!timestamp or !!binary is an error, not a value.
_Loader.yaml_constructors = {
    tag: constructor
    for tag, constructor in yaml.CSafeLoader.yaml_constructors.items()
    if tag is None
    or tag.rpartition(":")[2] in {"null", "bool", "int", "float", "str", "seq", "map"}
}


class _Document(NamedTuple):
    """One YAML document: its values, and where they stand."""

    source: str
    first_line: int
    root: yaml.Node
    value: dict[object, object]

    def line(self, location: Location) -> int:
        """Line of the deepest part of the location that is there."""
        node = self.root
        mark = node.start_mark
        for part in location:
            if isinstance(node, yaml.MappingNode):
                pairs = {key.value: (key, value) for key, value in node.value}
                if part not in pairs:
                    break
                key, node = pairs[str(part)]
                mark = key.start_mark
            elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
                if part >= len(node.value):
                    break
                node = node.value[part]
                mark = node.start_mark
            else:
                break
        return self.first_line + mark.line


@dataclass
class _Result:
    objects: dict[tuple[str, str], Object] = field(default_factory=dict)
    sources: dict[tuple[str, str], str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def load(
    paths: Iterable[Path] | Path, namespace: str = "default"
) -> tuple[Objects, tuple[Problem, ...]]:
    """Load files, and the *.yaml, *.yml and *.json of directories (not of their subdirectories).

    `namespace` is for namespaced objects that name none. Every broken rule is one Problem with
    file:line; its object is left out. Of objects with one kind and name the first is taken.
    """
    result = _Result()
    for path in [paths] if isinstance(paths, Path) else paths:
        try:
            for file in _files(path):
                _load_text(file.read_text(encoding="utf-8"), str(file), namespace, result)
        except (OSError, UnicodeDecodeError) as error:
            message = f"cannot be read: {getattr(error, 'strerror', None) or error}"
            result.problems.append(Problem("", "", "", "", "Unreadable", message, str(path)))
    return Objects((*result.objects.values(),)), tuple(result.problems)


def loads(
    text: str, source: str = "", namespace: str = "default"
) -> tuple[Objects, tuple[Problem, ...]]:
    """Load manifests from text; `source` is what problems name as the file."""
    result = _Result()
    _load_text(text, source, namespace, result)
    return Objects((*result.objects.values(),)), tuple(result.problems)


def _files(path: Path) -> Iterator[Path]:
    if path.is_dir():
        yield from sorted(file for file in path.iterdir() if file.suffix in _SUFFIXES)
    else:
        yield path


def _load_text(text: str, source: str, namespace: str, result: _Result) -> None:
    for first_line, part in _split(text):
        document = _parse(part, source, first_line, result)
        if document:
            _load_document(document, namespace, result)


def _split(text: str) -> Iterator[tuple[int, str]]:
    """Documents and their first lines; a syntax error ends with its own document."""
    start = 0
    for match in [*_SEPARATOR.finditer(text), None]:
        end = match.start() if match else len(text)
        part = text[start:end]
        if part.strip():
            yield text.count("\n", 0, start) + 1, part
        start = match.end() if match else end


def _parse(text: str, source: str, first_line: int, result: _Result) -> _Document | None:
    loader = _Loader(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return None
        _refuse_duplicates(root)
        value = loader.construct_document(root)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = first_line + (mark.line if mark else 0)
        _syntax(result, f"{source}:{line}", f"{error.problem or error.context}")
        return None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        # ValueError: a number of more digits than Python converts, or a wrong tag for its text.
        _syntax(result, f"{source}:{first_line}", str(error).splitlines()[0])
        return None
    finally:
        loader.dispose()
    if value is None:
        return None
    if not isinstance(value, dict):
        _syntax(result, f"{source}:{first_line}", "a document must be a mapping of fields")
        return None
    return _Document(source, first_line, root, value)


def _syntax(result: _Result, source: str, message: str) -> None:
    result.problems.append(Problem("", "", "", "", "InvalidYAML", message, source))


def _refuse_duplicates(root: yaml.Node) -> None:
    """Raise MarkedYAMLError for a field given twice. Each node is visited once, aliased or not."""
    waiting, visited = [root], {id(root)}
    while waiting:
        node = waiting.pop()
        inside: list[yaml.Node] = []
        if isinstance(node, yaml.SequenceNode):
            inside = node.value
        elif isinstance(node, yaml.MappingNode):
            seen: set[str] = set()
            for key, value in node.value:
                inside.append(value)
                if not isinstance(key, yaml.ScalarNode):
                    continue
                if key.value in seen:
                    raise yaml.MarkedYAMLError(
                        problem=f"field {key.value} is given twice", problem_mark=key.start_mark
                    )
                seen.add(key.value)
        waiting += (child for child in inside if id(child) not in visited)
        visited.update(map(id, inside))


def _load_document(document: _Document, namespace: str, result: _Result) -> None:
    value = document.value
    kind, version = value.get("kind"), value.get("apiVersion")
    metadata = value.get("metadata")
    named = metadata if isinstance(metadata, dict) else {}
    name, given = str(named.get("name", "")), str(named.get("namespace", ""))
    if kind == "List" and version == "v1":
        _note(result, document, "List", "", "", Violation(("kind",), "NotSupported", _LIST))
        return
    model = KINDS.get(str(kind))
    if model is None and _is_foreign(kind, version):
        return
    found = _identity(value, model)
    if model is None or found:
        for violation in found:
            _note(result, document, str(kind or ""), given, name, violation)
        return
    if issubclass(model, Resource) and model.NAMESPACED:
        given = given or namespace
        value = {**value, "metadata": {**named, "namespace": given}} if named else value
    else:
        given = ""
        value = {**value, "metadata": {**named, "namespace": ""}} if named else value
    try:
        item = model.model_validate(value)
    except ValidationError as error:
        for violation in violations(model, error):
            _note(result, document, str(kind), given, name, violation)
        return
    key = (str(kind), item.key)
    if key in result.objects:
        message = f"is defined already in {result.sources[key]}: delete one of them"
        violation = Violation(("metadata", "name"), "Duplicate", message)
        _note(result, document, str(kind), given, name, violation)
        return
    result.objects[key] = item
    result.sources[key] = f"{document.source}:{document.line(())}"


def _is_foreign(kind: object, version: object) -> bool:
    """Whether it is of another group: what stands beside Headrace's objects in people's files."""
    return isinstance(kind, str) and isinstance(version, str) and GROUP not in version


_LIST = "lists are not read: write the items as documents separated by ---"


def _identity(value: dict[object, object], model: type[Object] | None) -> list[Violation]:
    """What is wrong with kind and apiVersion."""
    kind, version = value.get("kind"), value.get("apiVersion")
    if kind is None:
        return [Violation(("kind",), "Required", f"required: one of {', '.join(KINDS)}")]
    if model is None:
        close = difflib.get_close_matches(str(kind), KINDS, n=1)
        hint = f"did you mean {close[0]}?" if close else f"must be one of {', '.join(KINDS)}"
        return [Violation(("kind",), "NotSupported", f"{kind} is no kind of Headrace; {hint}")]
    wanted = "v1" if model in (Node, Namespace) else API_VERSION
    if version != wanted:
        shown = "not given" if version is None else repr(version)
        return [Violation(("apiVersion",), "NotSupported", f"{shown}: must be {wanted}")]
    return []


def _note(
    result: _Result,
    document: _Document,
    kind: str,
    namespace: str,
    name: str,
    violation: Violation,
) -> None:
    location, reason, message = violation
    source = f"{document.source}:{document.line(location)}" if document.source else ""
    result.problems.append(
        Problem(kind, namespace, name, path_text(location), reason, message, source)
    )
