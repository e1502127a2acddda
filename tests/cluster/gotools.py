# SPDX-License-Identifier: Apache-2.0
"""Programs of other projects that tests drive, built from Go modules once and kept."""

import fcntl
import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.cluster.cluster import build


def go_tools(module: Path, tags: str = "") -> Path:
    """Build every tool that the go.mod in a folder names; return the folder of the programs.

    `tags` are Go's build tags, with commas. Minutes with an empty Go cache, nothing once built.
    Raises CalledProcessError.
    """
    # What builds the cluster brings Go, where there is none.
    cluster = build()
    pinned = b"".join((module / name).read_bytes() for name in ("go.mod", "go.sum"))
    pinned += tags.encode()
    target = cluster.with_name(f"{module.name}-{hashlib.sha256(pinned).hexdigest()[:8]}")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with building(target):
        if target.is_dir():
            return target
        with tempfile.TemporaryDirectory(dir=target.parent, prefix="partial.") as folder:
            # Static, so that they run wherever a test puts them.
            flags = ("-trimpath", "-buildvcs=false", "-ldflags=-s -w", f"-tags={tags}")
            subprocess.run(
                ("go", "build", *flags, "-o", f"{folder}/bin/", "tool"),
                cwd=module,
                env={**os.environ, "PATH": path, "CGO_ENABLED": "0"},
                check=True,
            )
            (Path(folder) / "bin").rename(target)
    return target


@contextmanager
def building(target: Path) -> Iterator[None]:
    """Keep other processes from building the same; whoever waited looks whether it is there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.with_name(f"{target.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
