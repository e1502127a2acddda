# SPDX-License-Identifier: Apache-2.0
"""The locks: which release of each Python package is installed, and the hashes of its files.

all.txt has everything that pyproject.toml names; it is what a development machine and CI install.
run.txt, what Headrace itself needs, node.txt, what its node agent needs besides, and build.txt,
what its wheel is built with, are parts of it, for images. `python -m deploy.lock` writes them;
releases that are locked stay, `--upgrade` takes the newest. `--check` fails when they are not those
of pyproject.toml; it needs no network.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).resolve().parents[2]
DIRECTORY = Path(__file__).resolve().parent
_PROJECT = "pyproject.toml"
_PARTS = ("run", "node", "build")
_HEADER = f"""\
# SPDX-License-Identifier: Apache-2.0
# Written by `make lock`.
# Of {_PROJECT}: """


class Inputs(NamedTuple):
    """What pyproject.toml says of dependencies."""

    python: str
    """The oldest Python, e.g. "3.11"."""
    build: list[str]
    digest: str
    """SHA-256 of all of it, 64 hexadecimal digits."""

    @classmethod
    def read(cls, project: Path) -> "Inputs":
        """Of a file. Raises KeyError where it lacks one."""
        read = tomllib.loads(project.read_text())
        build, about = read["build-system"]["requires"], read["project"]
        names = ("requires-python", "dependencies", "optional-dependencies")
        text = json.dumps([build, *(about[name] for name in names)], sort_keys=True)
        python = about["requires-python"].removeprefix(">=")
        return cls(python, build, hashlib.sha256(text.encode()).hexdigest())


class Pin(NamedTuple):
    """One release of a package."""

    version: str
    hashes: frozenset[str]
    """Of its files, e.g. "sha256:..."."""


def pins(lock: Path) -> dict[str, Pin]:
    """Name of a package -> what the lock has of it."""
    found: dict[str, Pin] = {}
    for entry in lock.read_text().replace("\\\n", " ").splitlines():
        words = entry.partition("#")[0].split()
        if words:
            name, _, version = words[0].partition("==")
            hashes = (word.removeprefix("--hash=") for word in words if word.startswith("--hash="))
            found[name] = Pin(version, frozenset(hashes))
    return found


def wrong(project: Path, directory: Path) -> list[str]:
    """What is wrong with the locks of a folder: nothing, or a sentence for each fault."""
    said = f"{_HEADER}{Inputs.read(project).digest}\n"
    faults = [
        f"{name}.txt is not of this {_PROJECT}"
        for name in ("all", *_PARTS)
        if not (directory / f"{name}.txt").read_text().startswith(said)
    ]
    everything = pins(directory / "all.txt")
    for part in _PARTS:
        for name, pin in pins(directory / f"{part}.txt").items():
            if everything.get(name) != pin:
                faults.append(f"{name} in {part}.txt is not that of all.txt")
    return faults


def _write(upgrade: bool) -> None:
    inputs = Inputs.read(REPOSITORY / _PROJECT)

    def compile_(name: str, *options: str, stdin: str = "") -> None:
        target = DIRECTORY / f"{name}.txt"
        command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--no-config"]
        command += ["--universal", "--python-version", inputs.python, "--generate-hashes"]
        command += ["--no-header", "--output-file", str(target), *options]
        subprocess.run(command, cwd=REPOSITORY, input=stdin, text=True, check=True)
        target.write_text(f"{_HEADER}{inputs.digest}\n{target.read_text()}")

    build = "\n".join(inputs.build)
    again = ("--upgrade",) if upgrade else ()
    compile_("all", "--all-extras", _PROJECT, "-", *again, stdin=build)
    same = ("--upgrade", "--constraints", str(DIRECTORY / "all.txt"))
    compile_("run", _PROJECT, *same)
    besides = [f"--no-emit-package={name}" for name in pins(DIRECTORY / "run.txt")]
    compile_("node", "--extra=node", _PROJECT, *same, *besides)
    compile_("build", "-", *same, stdin=build)


def main(arguments: list[str] | None = None) -> int:
    """Write the locks, or check them."""
    parser = argparse.ArgumentParser(
        prog="python -m deploy.lock",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--check", action="store_true", help="write nothing, fail on a difference")
    parser.add_argument("--upgrade", action="store_true", help="to the newest releases")
    options = parser.parse_args(arguments)
    if not options.check:
        _write(options.upgrade)
    faults = wrong(REPOSITORY / _PROJECT, DIRECTORY)
    for fault in faults:
        print(f"deploy/lock: {fault}: make lock", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
