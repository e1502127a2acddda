# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest

from headrace_dataplane.precedence import PrecedenceFile

IDS = (("network", "a/blue"), ("port", "a/vm1"))


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "state" / "router.precedence.json"
    file = PrecedenceFile(path)
    assert file.load() == ()
    file.save(IDS)
    assert PrecedenceFile(path).load() == IDS
    assert list(path.parent.iterdir()) == [path]
    file.save(IDS[:1])
    assert PrecedenceFile(path).load() == IDS[:1]


@pytest.mark.parametrize("text", ["", "{}", '[["port"]]', "[[1, 2]]"])
def test_what_cannot_be_read_is_named_and_left_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    path = tmp_path / "router.precedence.json"
    path.write_text(text)
    file = PrecedenceFile(path)
    assert file.load() == ()
    assert str(path) in caplog.text
    file.save(IDS)
    assert PrecedenceFile(path).load() == IDS
