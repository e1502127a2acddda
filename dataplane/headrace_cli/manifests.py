# SPDX-License-Identifier: Apache-2.0
"""Objects from YAML files: a directory in place of an API server.

A file that cannot be read, or an object in it that is not valid, keeps what it last was good for,
as an API server would have refused the change.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from pydantic import JsonValue, ValidationError

from headrace_api import (
    API_VERSION,
    GROUP,
    Interface,
    Node,
    Object,
    Objects,
    Pipeline,
    Problem,
    VirtualNetwork,
)

SUFFIXES = (".yaml", ".yml", ".json")
UNREADABLE = ("InvalidYAML", "Unreadable")
DEFAULT_NAMESPACE = "default"
_KINDS: Mapping[str, type[VirtualNetwork | Interface | Pipeline]] = {
    "VirtualNetwork": VirtualNetwork,
    "Interface": Interface,
    "Pipeline": Pipeline,
}
_MAX_BYTES = 64 << 20


class _Loader(yaml.SafeLoader):
    """Reads YAML as Kubernetes does: no dates, and 10:20:30 is text, not a number of base 60."""


_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, pattern)
        for tag, pattern in resolvers
        if tag not in ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:int")
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int",
    re.compile(r"^[-+]?(0|[1-9][0-9]*|0x[0-9a-fA-F]+|0o?[0-7]+)$"),
    list("-+0123456789"),
)


def _construct_int(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    text = str(loader.construct_scalar(node)).lower()
    octal = re.fullmatch(r"([-+]?)0o?([0-7]+)", text)
    return int(octal.group(1) + octal.group(2), 8) if octal else int(text, 0)


_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)


@dataclass(frozen=True)
class _Document:
    """One YAML document and where its parts are."""

    value: JsonValue
    node: yaml.Node
    path: Path

    def source(self, location: tuple[str | int, ...] = ()) -> str:
        """Return file:line of a part of it, or of the nearest thing that encloses it."""
        node = self.node
        for step in location:
            inner = _child(node, step)
            if inner is None:
                break
            node = inner
        return f"{self.path}:{node.start_mark.line + 1}"


def _child(node: yaml.Node, step: str | int) -> yaml.Node | None:
    if isinstance(node, yaml.MappingNode):
        return next((value for key, value in node.value if key.value == step), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        child: yaml.Node = node.value[step]
        return child
    return None


@dataclass(frozen=True)
class Manifests:
    """What a directory holds: `problems` are of files and objects that could not be taken."""

    objects: Objects
    problems: tuple[Problem, ...]
    sources: Mapping[tuple[str, str], str]
    """(kind, key) -> file:line, to say where a problem that the compiler finds is."""

    @property
    def incomplete(self) -> bool:
        """Whether there are files of which nothing is known."""
        return any(problem.reason in UNREADABLE for problem in self.problems)

    def located(self, problem: Problem) -> str:
        """Return the problem as a line that begins with its place."""
        key = f"{problem.namespace}/{problem.name}" if problem.namespace else problem.name
        source = problem.source or self.sources.get((problem.kind, key), "")
        text = str(problem)
        return text if problem.source or not source else f"{source}: {text}"


@dataclass
class _File:
    stamp: tuple[int, ...]
    objects: dict[tuple[str, str], Object] = field(default_factory=dict)
    sources: dict[tuple[str, str], str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


class ManifestReader:
    """Reads a directory (all levels) or one file, again and again; only what changed is parsed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._files: dict[Path, _File] = {}
        self._lost = False

    def read(self) -> Manifests | None:
        """Return what there is now, None when nothing changed since the last call."""
        changed = False
        try:
            stamps = dict(_stamps(self._path))
        except OSError as error:
            # A directory that is away for a moment must not take everything down with it.
            if self._lost:
                return None
            self._lost = True
            lost = _problem(str(self._path), "Unreadable", f"cannot be read: {error.strerror}")
            return self._manifests(lost)
        if self._lost:
            self._lost, changed = False, True
        for path in self._files.keys() - stamps.keys():
            del self._files[path]
            changed = True
        for path, stamp in stamps.items():
            before = self._files.get(path)
            if before is None or before.stamp != stamp:
                self._files[path] = _read_file(path, stamp, before)
                changed = True
        return self._manifests() if changed else None

    def _manifests(self, *problems: Problem) -> Manifests:
        found: dict[tuple[str, str], Object] = {}
        sources: dict[tuple[str, str], str] = {}
        wrong = list(problems)
        for _, file in sorted(self._files.items()):
            wrong += file.problems
            for identity, item in file.objects.items():
                if identity in found:
                    message = f"is also in {sources[identity]}, which is used: remove one of them"
                    wrong.append(_problem(file.sources[identity], "Duplicate", message, identity))
                    continue
                found[identity] = item
                sources[identity] = file.sources[identity]
        every = found.values()
        return Manifests(
            Objects(
                networks=tuple(item for item in every if isinstance(item, VirtualNetwork)),
                interfaces=tuple(item for item in every if isinstance(item, Interface)),
                pipelines=tuple(item for item in every if isinstance(item, Pipeline)),
                nodes=tuple(item for item in every if isinstance(item, Node)),
            ),
            tuple(wrong),
            sources,
        )


def _stamps(path: Path) -> Iterator[tuple[Path, tuple[int, ...]]]:
    """Yield the manifest files and what changes with their contents. Raises OSError."""
    if path.is_dir():
        files = [p for p in sorted(path.rglob("*")) if p.suffix in SUFFIXES and p.is_file()]
    else:
        files = [path]
    for file in files:
        try:
            stat = file.stat()
        except FileNotFoundError:
            if file == path:
                raise
            continue
        yield file, (stat.st_mtime_ns, stat.st_size, stat.st_ino)


def _read_file(path: Path, stamp: tuple[int, ...], before: _File | None) -> _File:
    file = _File(stamp)
    old = before.objects if before is not None else {}
    try:
        documents = list(_documents(path))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        mark = getattr(error, "problem_mark", None)
        source = f"{path}:{mark.line + 1}" if mark is not None else str(path)
        text = getattr(error, "problem", None) or str(error)
        file.problems.append(_problem(source, "InvalidYAML", f"{text}{_kept(old)}"))
        if before is not None:
            file.objects, file.sources = before.objects, before.sources
        return file
    for document in documents:
        _take(document, file, old)
    return file


def _kept(old: Mapping[tuple[str, str], Object]) -> str:
    return "; its last valid objects stay in force" if old else ""


def _documents(path: Path) -> Iterator[_Document]:
    if path.stat().st_size > _MAX_BYTES:
        raise OSError(f"larger than {_MAX_BYTES >> 20} MiB")
    loader = _Loader(path.read_text(encoding="utf-8"))
    try:
        while loader.check_node():
            node = loader.get_node()
            if node is None:
                continue
            value: JsonValue = loader.construct_document(node)
            document = _Document(value, node, path)
            kind = value.get("kind") if isinstance(value, dict) else None
            items = _child(node, "items")
            if isinstance(kind, str) and kind.endswith("List") and items is not None:
                values = value["items"] if isinstance(value, dict) else None
                for index, item in enumerate(values if isinstance(values, list) else ()):
                    yield _Document(item, _child(items, index) or items, path)
            elif value is not None:
                yield document
    finally:
        loader.dispose()


def _take(document: _Document, file: _File, old: Mapping[tuple[str, str], Object]) -> None:
    """Add the document's object, or what is wrong with it and the object that it was."""
    value = document.value
    if not isinstance(value, dict):
        file.problems.append(_problem(document.source(), "NotAnObject", "is not an object"))
        return
    kind, version = value.get("kind"), str(value.get("apiVersion", ""))
    model: type[VirtualNetwork | Interface | Pipeline | Node] | None = _KINDS.get(str(kind))
    if kind == "Node" and version == "v1":
        model = Node
    elif version.partition("/")[0] != GROUP:
        return
    elif model is None:
        message = f"{kind} is no kind of {API_VERSION}: one of {', '.join(_KINDS)}"
        file.problems.append(_problem(document.source(("kind",)), "UnknownKind", message))
        return
    metadata = value.get("metadata")
    if model in (VirtualNetwork, Interface) and isinstance(metadata, dict):
        value = {**value, "metadata": {"namespace": DEFAULT_NAMESPACE, **metadata}}
    # Statuses are ours to find out, not the file's to say.
    value.pop("status", None)
    identity = str(kind), _key(value)
    try:
        item = model.model_validate(value)
    except ValidationError as error:
        for detail in error.errors():
            field = str((detail.get("ctx") or {}).get("field", ""))
            location = (*detail["loc"], *_steps(field))
            where = document.source(location)
            message = f"{detail['msg']}{_kept(old if identity in old else {})}"
            file.problems.append(_problem(where, "Invalid", message, identity, _path(location)))
        if identity in old:
            file.objects[identity] = old[identity]
            file.sources[identity] = document.source()
        return
    if identity in file.objects:
        message = f"is also in {file.sources[identity]}, which is used: remove one of them"
        file.problems.append(_problem(document.source(), "Duplicate", message, identity))
        return
    file.objects[identity] = item
    file.sources[identity] = document.source()


def _key(value: Mapping[str, JsonValue]) -> str:
    metadata = value.get("metadata")
    if not isinstance(metadata, dict):
        return ""
    namespace, name = metadata.get("namespace"), metadata.get("name")
    scoped = value.get("kind") in ("VirtualNetwork", "Interface")
    return f"{namespace}/{name}" if scoped else str(name)


def _steps(path: str) -> tuple[str | int, ...]:
    """Split a path such as subnets[1].prefix."""
    found = re.findall(r"([^.\[\]]+)|\[(\d+)\]", path)
    return tuple(int(index) if index else name for name, index in found)


def _path(location: tuple[str | int, ...]) -> str:
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in location)
    return text.removeprefix(".")


def _problem(
    source: str,
    reason: str,
    message: str,
    identity: tuple[str, str] = ("", ""),
    field: str = "",
) -> Problem:
    kind, key = identity
    namespace, _, name = key.rpartition("/")
    return Problem(kind, namespace, name, field, reason, message, source)
