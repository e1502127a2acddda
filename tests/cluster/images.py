# SPDX-License-Identifier: Apache-2.0
"""The images, built once: `build_images().dataplane.tar` is what a node imports."""

import json
import os
import subprocess
import tarfile
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path, PurePath

import pytest

REPOSITORY = Path(__file__).parents[2]
_OUT = REPOSITORY / "build/test-images"
_WHITEOUT = ".wh."  # OCI's: a layer removes what a lower one has.


@dataclass(frozen=True)
class Image:
    """An image and what is in it."""

    tar: Path
    name: str
    """As pods name it, e.g. "ghcr.io/headrace/operator:0.3.0"."""
    user: str
    entrypoint: tuple[str, ...]
    labels: dict[str, str]
    files: dict[str, int]
    """Size in bytes by path, e.g. "usr/bin/tar"; folders are left out, links have size 0."""


@dataclass(frozen=True)
class Images:
    """All of them."""

    operator: Image
    dataplane: Image
    toolbox: Image


@cache
def build_images() -> Images:
    """Build the images of the working tree: minutes the first time, seconds later.

    On Debian's archive, so that no registry is needed; BASE names another base image. Skips the
    test without root.
    """
    if os.geteuid() != 0:
        pytest.skip("needs root: a base is made from packages")
    base = os.environ.get("BASE", "mmdebstrap:trixie")
    done = subprocess.run(
        [REPOSITORY / "deploy/images/build.sh"],
        env={**os.environ, "BASE": base, "OUT": str(_OUT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return Images(**{each.name: _read(_OUT / f"{each.name}.tar") for each in fields(Images)})


def _read(tar: Path) -> Image:
    with tarfile.open(tar) as archive:

        def content(name: str) -> bytes:
            file = archive.extractfile(name)
            assert file is not None, name
            return file.read()

        (manifest,) = json.loads(content("manifest.json"))
        config = json.loads(content(manifest["Config"]))["config"]
        files: dict[PurePath, int] = {}
        for layer in manifest["Layers"]:
            with tarfile.open(fileobj=archive.extractfile(layer)) as members:
                for member in members:
                    path = PurePath(member.name)
                    if path.name.startswith(_WHITEOUT):
                        gone = path.with_name(path.name.removeprefix(_WHITEOUT))
                        files = {one: files[one] for one in files if not one.is_relative_to(gone)}
                    elif not member.isdir():
                        files[path] = member.size
    (name,) = manifest["RepoTags"]
    return Image(
        tar=tar,
        name=name,
        user=config.get("User", ""),
        entrypoint=tuple(config.get("Entrypoint") or ()),
        labels=config["Labels"],
        files={str(path): size for path, size in files.items()},
    )
