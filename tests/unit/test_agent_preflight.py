# SPDX-License-Identifier: Apache-2.0
import resource
from pathlib import Path

import pytest

from headrace_api import DataplaneConfig
from headrace_dataplane.preflight import memory_lock_problem, on_ordinary_pages
from tests.unit.test_agent_translate import CONFIG

WITH_VF = DataplaneConfig.model_validate(CONFIG)
IPC_LOCK = 1 << 14


def proc(folder: Path, capabilities: int = 0, hugetlb: int = 0) -> Path:
    text = f"Name:\tpython\nHugetlbPages:\t{hugetlb:8d} kB\nCapEff:\t{capabilities:016x}\n"
    for process in ("self", "7"):
        (folder / process).mkdir()
        (folder / process / "status").write_text(text)
    return folder


def without_vf() -> DataplaneConfig:
    spec = WITH_VF.spec.model_copy(update={"uplinks": ()})
    return WITH_VF.model_copy(update={"spec": spec})


@pytest.mark.parametrize(
    ("limit", "capabilities", "fine"),
    [
        (8 << 20, 0, False),
        (8 << 20, IPC_LOCK, True),
        (resource.RLIM_INFINITY, 0, True),
        (8 << 20, ~IPC_LOCK & (1 << 40) - 1, False),
    ],
)
def test_a_vf_needs_locked_memory(
    tmp_path: Path, limit: int, capabilities: int, fine: bool
) -> None:
    root = proc(tmp_path, capabilities)
    problem = memory_lock_problem(WITH_VF, limit, root)
    assert (problem is None) == fine
    if problem is not None:
        assert problem.reason == "MemoryLockLimited"
        assert "8192 KiB" in problem.message
    assert memory_lock_problem(without_vf(), limit, root) is None


def test_hugepages_that_are_missing_are_noticed(tmp_path: Path) -> None:
    hugepages = {**CONFIG["spec"], "hugepages": {"size": "2Mi", "amount": "256Mi"}}
    wanted = DataplaneConfig.model_validate({**CONFIG, "spec": hugepages})
    (tmp_path / "none").mkdir()
    (tmp_path / "some").mkdir()
    assert on_ordinary_pages(wanted, 7, proc(tmp_path / "none"))
    assert not on_ordinary_pages(wanted, 7, proc(tmp_path / "some", hugetlb=262144))
    assert not on_ordinary_pages(WITH_VF, 7, tmp_path / "none")
    assert not on_ordinary_pages(wanted, 8, tmp_path / "none")
