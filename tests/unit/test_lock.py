# SPDX-License-Identifier: Apache-2.0
"""The locks of Python packages are those of pyproject.toml, and one resolution."""

import re
import shutil
from importlib.metadata import distributions
from pathlib import Path

import pytest

from deploy.lock.__main__ import DIRECTORY, REPOSITORY, pins, wrong

PROJECT = REPOSITORY / "pyproject.toml"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A folder with pyproject.toml and the locks."""
    shutil.copy(PROJECT, tmp_path)
    for lock in DIRECTORY.glob("*.txt"):
        shutil.copy(lock, tmp_path)
    return tmp_path


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def test_locks_are_those_of_the_project() -> None:
    assert wrong(PROJECT, DIRECTORY) == []


def test_every_file_has_a_hash() -> None:
    locks = {lock.stem: pins(lock) for lock in DIRECTORY.glob("*.txt")}
    assert locks.keys() == {"all", "run", "node", "build"}
    for name, found in locks.items():
        assert found, name
        assert all(pin.version and pin.hashes for pin in found.values()), name
        assert all(each.startswith("sha256:") for pin in found.values() for each in pin.hashes)


def test_images_have_nothing_of_development() -> None:
    run = pins(DIRECTORY / "run.txt")
    assert {"aiohttp", "kopf", "pydantic-core"} <= run.keys()
    node = pins(DIRECTORY / "node.txt")
    assert {"grpclib", "protobuf"} <= node.keys()
    assert not node.keys() & run.keys()
    assert not {"pytest", "mypy", "ruff", "uv", "hatchling", "scapy"} & {*run, *node}


def test_what_is_tested_is_what_is_locked() -> None:
    locked = pins(DIRECTORY / "run.txt") | pins(DIRECTORY / "node.txt")
    installed = {canonical(each.name): each.version for each in distributions()}
    versions = {name: pin.version for name, pin in locked.items() if name in installed}
    assert versions == {name: installed[name] for name in versions}
    # The rest is for Windows.
    assert locked.keys() - versions.keys() <= {"win-inet-pton"}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"kopf>=1.43"', '"kopf>=1.44"'),
        ('"kopf>=1.43",', '"kopf>=1.43", "attrs",'),
        ('"mypy>=1.13"', '"mypy>=1.14"'),
        ('["hatchling>=1.25"]', '["hatchling>=1.26"]'),
        ('requires-python = ">=3.11"', 'requires-python = ">=3.12"'),
    ],
)
def test_a_change_of_what_is_needed_is_seen(copy: Path, old: str, new: str) -> None:
    edit(copy / "pyproject.toml", old, new)
    assert wrong(copy / "pyproject.toml", copy) == [
        f"{name}.txt is not of this pyproject.toml" for name in ("all", "run", "node", "build")
    ]


def test_any_other_change_is_none(copy: Path) -> None:
    edit(copy / "pyproject.toml", "line-length = 100", "line-length = 90")
    assert wrong(copy / "pyproject.toml", copy) == []


@pytest.mark.parametrize("what", ["version", "hash"])
def test_a_part_that_is_not_of_the_whole_is_seen(copy: Path, what: str) -> None:
    pin = pins(copy / "run.txt")["kopf"]
    old, new = {
        "version": (f"kopf=={pin.version}", "kopf==0.0.1"),
        "hash": (min(pin.hashes), "sha256:" + "0" * 64),
    }[what]
    edit(copy / "run.txt", old, new)
    assert wrong(copy / "pyproject.toml", copy) == ["kopf in run.txt is not that of all.txt"]
