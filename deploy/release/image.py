# SPDX-License-Identifier: Apache-2.0
"""What is in a container image, read from its tar."""

import json
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import IO

_WHITEOUT = ".wh."  # OCI's: a layer removes what a lower one has.


@dataclass(frozen=True)
class Image:
    """An image and what is in it."""

    tar: Path
    name: str
    """As pods name it, e.g. "ghcr.io/headrace/operator:0.3.0"."""
    architecture: str
    """As Go names it, e.g. "amd64"."""
    user: str
    entrypoint: tuple[str, ...]
    labels: dict[str, str]
    files: dict[str, int]
    """Size in bytes by path, e.g. "usr/bin/tar"; folders are left out, links have size 0."""
    layers: dict[str, str]
    """Member of the tar that has the file, by its path."""

    def contents(self, wanted: Callable[[str], bool]) -> dict[str, bytes]:
        """Return the files whose paths are wanted."""
        found: dict[str, bytes] = {}
        with tarfile.open(self.tar) as archive:
            for layer in dict.fromkeys(self.layers.values()):
                with tarfile.open(fileobj=_open(archive, layer)) as members:
                    for member in members:
                        path = str(PurePath(member.name))
                        if self.layers.get(path) == layer and member.isreg() and wanted(path):
                            found[path] = _open(members, member).read()
        return found


def read(tar: Path) -> Image:
    """Read a docker-archive of one image."""
    with tarfile.open(tar) as archive:
        (manifest,) = json.loads(_open(archive, "manifest.json").read())
        about = json.loads(_open(archive, manifest["Config"]).read())
        files: dict[PurePath, tuple[int, str]] = {}
        for layer in manifest["Layers"]:
            with tarfile.open(fileobj=_open(archive, layer)) as members:
                for member in members:
                    path = PurePath(member.name)
                    if path.name.startswith(_WHITEOUT):
                        gone = path.with_name(path.name.removeprefix(_WHITEOUT))
                        files = {one: files[one] for one in files if not one.is_relative_to(gone)}
                    elif not member.isdir():
                        files[path] = (member.size, layer)
    (name,) = manifest["RepoTags"]
    config = about["config"]
    return Image(
        tar=tar,
        name=name,
        architecture=about["architecture"],
        user=config.get("User", ""),
        entrypoint=tuple(config.get("Entrypoint") or ()),
        labels=config["Labels"],
        files={str(path): size for path, (size, _) in files.items()},
        layers={str(path): layer for path, (_, layer) in files.items()},
    )


def _open(archive: tarfile.TarFile, member: str | tarfile.TarInfo) -> IO[bytes]:
    file = archive.extractfile(member)
    if file is None:
        raise KeyError(member)
    return file
