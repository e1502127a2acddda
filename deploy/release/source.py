# SPDX-License-Identifier: Apache-2.0
"""The commit that is released: what it says of itself, and whether it may be."""

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

import yaml

from deploy.release.run import run
from headrace_cli.errors import CommandError

PROJECT = "https://github.com/headrace/headrace"
"""Where the project is, and below `/releases/download/vVERSION` what was released."""


@dataclass(frozen=True)
class Source:
    """A commit, laid out in a folder."""

    folder: Path
    """Its files, as old as the commit is; nothing that git does not know."""
    revision: str
    """The commit: 40 hexadecimal digits."""
    seconds: int
    """When it was made, since the epoch."""
    version: str
    """E.g. "0.3.0"."""
    notes: str
    """What the changelog says of this version, Markdown without its heading."""


def checkout(repository: Path, folder: Path) -> Source:
    """Lay out HEAD of a repository in a folder. Raises CommandError where versions disagree."""
    folder.mkdir(parents=True)
    tree = folder.with_suffix(".tar")
    _git(repository, "archive", "--output", str(tree), "HEAD")
    # tar keeps the times, which are the commit's.
    run("tar", "--extract", "--file", str(tree), "--directory", str(folder))
    tree.unlink()
    version = tomllib.loads((folder / "pyproject.toml").read_text())["project"]["version"]
    chart = yaml.safe_load((folder / "helm/headrace/Chart.yaml").read_text())
    for name in ("version", "appVersion"):
        if chart[name] != version:
            raise CommandError(
                f"helm/headrace/Chart.yaml: {name} is {chart[name]}, pyproject.toml has {version}"
            )
    _, *sections = re.split("^## ", (folder / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    heading, _, notes = sections[0].partition("\n") if sections else ("nothing", "", "")
    if heading.strip() != version:
        raise CommandError(
            f"CHANGELOG.md: the newest section is {heading.strip()}, pyproject.toml has {version}"
        )
    return Source(
        folder=folder,
        revision=_git(repository, "rev-parse", "HEAD"),
        seconds=int(_git(repository, "show", "--no-patch", "--format=%ct", "HEAD")),
        version=version,
        # Links of the changelog are of the repository.
        notes=re.sub(r"\]\((?!https?:)", f"]({PROJECT}/blob/v{version}/", notes).strip() + "\n",
    )


def must_be_released(repository: Path, source: Source) -> None:
    """Raise CommandError unless git's tag is that of the version and nothing is uncommitted."""
    changed = _git(repository, "status", "--porcelain")
    if changed:
        raise CommandError(f"not all is committed:\n{changed}")
    tag = f"v{source.version}"
    if tag not in _git(repository, "tag", "--points-at", "HEAD").splitlines():
        raise CommandError(
            f"HEAD has no tag {tag}, and pyproject.toml has version {source.version}"
        )


def _git(repository: Path, *words: str) -> str:
    return run("git", *words, folder=repository).strip()
