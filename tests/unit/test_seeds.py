# SPDX-License-Identifier: Apache-2.0
"""What tests draw: the same every time, unless another seed is asked for."""

import pytest

from tests import seeds


def test_the_seed_is_the_same_unless_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(seeds.VARIABLE, raising=False)
    assert seeds.asked() is None
    assert seeds.seed() == seeds.seed()
    monkeypatch.setenv(seeds.VARIABLE, "702914")
    assert seeds.seed() == seeds.asked() == 702914
    monkeypatch.setenv(seeds.VARIABLE, "new")
    # Drawn once: all of a run has the same.
    assert seeds.seed() == seeds.seed()
