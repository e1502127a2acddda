# SPDX-License-Identifier: Apache-2.0
"""The images, built once: `build_images().dataplane.tar` is what a node imports."""

import os
import subprocess
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path

import pytest

from deploy.release.image import Image, read

REPOSITORY = Path(__file__).parents[2]
_OUT = REPOSITORY / "build/test-images"


@dataclass(frozen=True)
class Images:
    """All of them."""

    operator: Image
    dataplane: Image
    connectivity: Image
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
    return Images(**{each.name: read(_OUT / f"{each.name}.tar") for each in fields(Images)})
