# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest

from headrace_api import DataplaneConfig, RouteSlice
from headrace_dataplane.snapshot_file import SnapshotFile
from headrace_dataplane.source import Snapshot
from tests.unit.test_agent_translate import CONFIG, SLICE

SNAPSHOT = Snapshot(
    7, DataplaneConfig.model_validate(CONFIG), (RouteSlice.model_validate(SLICE),) * 2
)


@pytest.fixture
def file(tmp_path: Path) -> SnapshotFile:
    return SnapshotFile(tmp_path / "state" / "router.json")


def test_what_is_saved_is_loaded(file: SnapshotFile) -> None:
    assert file.load() is None
    file.save(SNAPSHOT)
    assert file.load() == SNAPSHOT
    # Attachments have secrets.
    assert file.path.stat().st_mode & 0o777 == 0o600
    assert list(file.path.parent.iterdir()) == [file.path]


@pytest.mark.parametrize("lines", [0, 1, 2, 3])
def test_a_file_that_is_cut_off_is_left_aside(
    file: SnapshotFile, lines: int, caplog: pytest.LogCaptureFixture
) -> None:
    file.save(SNAPSHOT)
    whole = file.path.read_text().splitlines(keepends=True)
    file.path.write_text("".join(whole[:lines]))
    assert file.load() is None
    assert "left aside" in caplog.text


@pytest.mark.parametrize("head", ["[]", "{}", '{"generation": "x", "slices": 2}', "\ufffd"])
def test_a_file_that_is_something_else_is_left_aside(file: SnapshotFile, head: str) -> None:
    file.save(SNAPSHOT)
    whole = file.path.read_text().splitlines(keepends=True)
    file.path.write_text("".join([f"{head}\n", *whole[1:]]))
    assert file.load() is None
    file.path.write_bytes(b"\xff\xfe\n")
    assert file.load() is None
