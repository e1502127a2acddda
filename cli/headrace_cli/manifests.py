# SPDX-License-Identifier: Apache-2.0
"""A directory of manifests in place of an API server, followed as it changes.

A file that cannot be read, or an object in it that is not valid, keeps what it last was good for,
as an API server would have refused the change. A reader that starts is told what that was.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from headrace_api import (
    Json,
    Object,
    Objects,
    Problem,
)
from headrace_api.manifests import KINDS, loads

SUFFIXES = (".yaml", ".yml", ".json")
_UNREADABLE = ("InvalidYAML", "Unreadable")


class Remembered(BaseModel):
    """An object that was valid, and in which file of the directory."""

    model_config = ConfigDict(frozen=True)

    file: str
    object: Json

    def read(self) -> Object | None:
        """Return the object; None when this release does not take it."""
        try:
            return KINDS[str(self.object.get("kind"))].model_validate(self.object)
        except (KeyError, ValidationError):
            return None


@dataclass(frozen=True)
class Manifests:
    """What a directory holds: `problems` are of files and objects that could not be taken."""

    objects: Objects
    problems: tuple[Problem, ...]
    files: dict[tuple[str, str], Path]
    """(kind, key) -> the file that it is in."""

    @property
    def incomplete(self) -> bool:
        """Whether there are documents of which nothing is known."""
        return any(problem.reason in _UNREADABLE for problem in self.problems)

    def remembered(self) -> tuple[Remembered, ...]:
        """What is valid, for a reader that starts."""
        found = {(item.kind, item.key): item for item in self.objects.items}
        return tuple(
            Remembered(
                file=file.name,
                object=found[identity].model_dump(mode="json", by_alias=True, exclude_none=True),
            )
            for identity, file in sorted(self.files.items())
        )

    def located(self, problem: Problem) -> Problem:
        """Return a problem that the compiler found with the file of its object."""
        file = self.files.get(_identity(problem))
        return problem if problem.source or file is None else replace(problem, source=str(file))


def _identity(problem: Problem) -> tuple[str, str]:
    key = f"{problem.namespace}/{problem.name}" if problem.namespace else problem.name
    return problem.kind, key


@dataclass(frozen=True)
class _File:
    stamp: tuple[int, ...]
    objects: dict[tuple[str, str], Object]
    problems: tuple[Problem, ...]


class ManifestReader:
    """Reads a directory (not those in it) or one file; only what changed is read again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._files: dict[Path, _File] = {}
        self._lost = False
        self._first = True

    def remember(self, known: Iterable[Remembered]) -> None:
        """Have what was valid in an earlier run be what files hold that are not valid now.

        For the time before the first reading.
        """
        for each in known:
            item = each.read()
            if item is not None:
                single = each.file == self._path.name
                path = self._path if single else self._path / each.file
                file = self._files.setdefault(path, _File((), {}, ()))
                file.objects[item.kind, item.key] = item

    def read(self) -> Manifests | None:
        """Return what there is now, None when nothing changed since the last call."""
        changed, self._first = self._first, False
        try:
            stamps = dict(_stamps(self._path))
        except OSError as error:
            # A directory that is away for a moment must not take everything down with it.
            if self._lost:
                return None
            self._lost = True
            message = f"cannot be read: {error.strerror}"
            lost = Problem("", "", "", "", "Unreadable", message, str(self._path))
            return self._manifests(lost)
        changed |= self._lost or bool(self._files.keys() - stamps.keys())
        self._lost = False
        files: dict[Path, _File] = {}
        for path, stamp in stamps.items():
            before = self._files.get(path)
            if before is None or before.stamp != stamp:
                files[path] = _read(path, stamp, before)
                changed = True
            else:
                files[path] = before
        self._files = files
        return self._manifests() if changed else None

    def _manifests(self, *problems: Problem) -> Manifests:
        found: dict[tuple[str, str], Object] = {}
        files: dict[tuple[str, str], Path] = {}
        wrong = list(problems)
        for path, file in sorted(self._files.items()):
            wrong += file.problems
            for identity, item in file.objects.items():
                if identity not in found:
                    found[identity] = item
                    files[identity] = path
                    continue
                kind, key = identity
                namespace, _, name = key.rpartition("/")
                message = f"is defined already in {files[identity]}: delete one of them"
                wrong.append(
                    Problem(kind, namespace, name, "metadata.name", "Duplicate", message, str(path))
                )
        return Manifests(Objects((*found.values(),)), tuple(wrong), files)


def _stamps(path: Path) -> Iterator[tuple[Path, tuple[int, ...]]]:
    """Yield the manifest files and what changes with their contents. Raises OSError."""
    files = [p for p in path.iterdir() if p.suffix in SUFFIXES] if path.is_dir() else [path]
    for file in sorted(files):
        try:
            stat = file.stat()
        except FileNotFoundError:
            if file == path:
                raise
            continue
        yield file, (stat.st_mtime_ns, stat.st_size, stat.st_ino)


def _read(path: Path, stamp: tuple[int, ...], before: _File | None) -> _File:
    try:
        objects, problems = loads(path.read_text(encoding="utf-8"), str(path))
    except Exception as error:  # whatever is in a file, the others are read
        message = f"cannot be read: {getattr(error, 'strerror', None) or error}"
        objects, problems = (
            Objects(),
            (Problem("", "", "", "", "Unreadable", message, str(path)),),
        )
    found = {(item.kind, item.key): item for item in objects.items}
    if before is None or not problems:
        return _File(stamp, found, problems)
    # Which objects a document held that cannot be parsed, nobody knows: so all are kept.
    whole = any(problem.reason in _UNREADABLE for problem in problems)
    named = {_identity(problem) for problem in problems}
    kept = {
        identity: item
        for identity, item in before.objects.items()
        if identity not in found and (whole or identity in named)
    }
    return _File(stamp, {**found, **kept}, tuple(_noted(p, kept, whole) for p in problems))


def _noted(problem: Problem, kept: dict[tuple[str, str], Object], whole: bool) -> Problem:
    if _identity(problem) in kept or (whole and kept and problem.reason in _UNREADABLE):
        return replace(problem, message=f"{problem.message}; what was valid stays in force")
    return problem
