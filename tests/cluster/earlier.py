# SPDX-License-Identifier: Apache-2.0
"""Headrace as an earlier commit has it, from git: its source, its Python, its engine."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from headrace_dataplane.engine import find_engine
from headrace_dataplane.protocol import PROTOCOL
from tests.cluster.chart import REPOSITORY
from tests.cluster.gotools import building


def newest_release() -> str:
    """The newest tag `v*` of a commit before HEAD's; empty when git knows none."""
    found = _git("tag", "--merged=HEAD^", "--list", "v*", "--sort=-version:refname")
    return found.stdout.decode().partition("\n")[0]


def tree_of(commit: str) -> Path:
    """The files of a commit, in build/earlier."""
    named = _git("rev-parse", "--verify", f"{commit}^{{commit}}")
    named.check_returncode()
    tree = REPOSITORY / "build/earlier" / named.stdout.decode()[:12]
    with building(tree):
        if not tree.is_dir():
            files = _git("archive", commit)
            files.check_returncode()
            with tempfile.TemporaryDirectory(dir=tree.parent) as folder:
                (new := Path(folder) / "tree").mkdir()
                subprocess.run(("tar", "-x", "-C", new), input=files.stdout, check=True)
                new.rename(tree)
    return tree


def former(item: Any) -> Any:
    """The object as release 0.2 has it."""
    spec = dict(item["spec"])
    if "pipelineRef" in spec:
        spec["pipelineName"] = spec.pop("pipelineRef")["name"]
    if "underlayPrefixes" in spec:
        (spec["underlayPrefix"],) = spec.pop("underlayPrefixes")
    return {**item, "spec": spec}


def environment_of(tree: Path) -> dict[str, str]:
    """Variables that have Python run the tree's Headrace, with today's packages of others."""
    return {"PYTHONPATH": os.pathsep.join(str(tree / each) for each in _PACKAGES)}


def engine_of(tree: Path) -> Path:
    """An engine for the tree's agent: today's where they speak one protocol, else the tree's."""
    program = "from headrace_dataplane.protocol import PROTOCOL; print(PROTOCOL)"
    environment = {**os.environ, **environment_of(tree)}
    words = (sys.executable, "-c", program)
    if int(subprocess.check_output(words, env=environment)) == PROTOCOL:
        return find_engine()
    build = tree / "build/engine"
    with building(build):
        if not (build / "build.ninja").exists():
            subprocess.run(("meson", "setup", build, tree / "dataplane/engine"), check=True)
        subprocess.run(("ninja", "-C", build, "headrace-engine"), check=True)
    return build / "headrace-engine"


_PACKAGES = ("crds", "common", "operator", "dataplane", "cli")


def _git(*words: str) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(("git", "-C", REPOSITORY, *words), capture_output=True, check=False)
