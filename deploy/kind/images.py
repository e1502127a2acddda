# SPDX-License-Identifier: Apache-2.0
"""Which images the demo uses: built here, given as tars, or pulled by the nodes."""

import json
import os
import re
import shutil
import tarfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.kind.terminal import REPOSITORY, Terminal
from headrace_cli.errors import CommandError

BUILT = ("operator", "dataplane", "connectivity", "toolbox")
"""What deploy/images/build.sh builds."""
OF_CHART = ("operator", "dataplane", "connectivity")
"""Of these, what the chart has values for."""
PULLED = ("prometheus", "grafana")
"""What the manifests in monitoring/ name, from public registries."""
_OUT = REPOSITORY / "build/images"


@dataclass(frozen=True)
class Image:
    """An image; with `tar` the nodes get it from there."""

    name: str
    """As pods name it, e.g. ghcr.io/headrace/operator:0.3.0."""
    tar: Path | None = None

    @property
    def role(self) -> str:
        """What it is for: the last part of its name, such as operator."""
        return re.split("[:@]", self.name.rpartition("/")[2])[0]

    def values(self) -> str:
        """Return this image as values of the chart, to be given by --set."""
        name, _, digest = self.name.partition("@")
        path, colon, tag = name.rpartition(":")
        if not colon or "/" in tag:
            path, tag = name, ""
        registry, slash, repository = path.partition("/")
        if not slash or not re.search("[.:]|^localhost$", registry):
            registry, repository = "docker.io", path
        key = f"{self.role}.image"
        given = {"registry": registry, "repository": repository, "tag": tag, "digest": digest}
        return ",".join(f"{key}.{name}={value}" for name, value in given.items() if value)


def values(images: Mapping[str, Image]) -> list[str]:
    """Return those of the chart that name the images (by their roles); none where they are its own.

    All or none: what has no tag of its own has the operator's.
    """
    found = [images[role] for role in OF_CHART]
    if all(image.name == default(image.role) for image in found):
        return []
    return [image.values() for image in found]


def default(role: str) -> str:
    """Return the name of an image that is built here, as build.sh names it."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    return f"ghcr.io/headrace/{role}:{project['version']}"


def read(given: str) -> Image:
    """Return an image of the command line: a tar, or a name. Raises CommandError."""
    path = Path(given)
    if not path.exists():
        if given.endswith(".tar") or given.startswith((".", "/")):
            raise CommandError(f"--image {given}: there is no such file")
        image = Image(given)
    else:
        try:
            with tarfile.open(path) as archive:
                manifest = archive.extractfile("manifest.json")
                (entry,) = json.loads(manifest.read() if manifest else "")
            (name,) = entry["RepoTags"]
        except (KeyError, TypeError, ValueError, OSError, tarfile.TarError) as error:
            raise CommandError(
                f"--image {given}: not a tar of one image with one name, as `docker save` writes it"
            ) from error
        image = Image(name, path.absolute())
    if image.role not in BUILT + PULLED:
        raise CommandError(
            f"--image {given}: its name, {image.name}, should end with one of "
            f"{', '.join(BUILT + PULLED)}"
        )
    return image


def build(terminal: Terminal, given: dict[str, Image]) -> dict[str, Image]:
    """Return the images by their roles: those that are given, and the others built here."""
    missing = [role for role in BUILT if role not in given]
    if not missing:
        return given
    builder = next((name for name in ("docker", "podman", "buildah") if shutil.which(name)), "")
    os.environ.setdefault("BUILDER", builder)
    terminal.show(f"export BUILDER={os.environ['BUILDER']}")
    terminal.run("deploy/images/build.sh", hint="Ready images: --image TAR.")
    return {role: read(str(_OUT / f"{role}.tar")) for role in missing} | given
