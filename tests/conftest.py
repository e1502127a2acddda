# SPDX-License-Identifier: Apache-2.0
"""What tests of every folder share."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from xdist.remote import Producer  # type: ignore[import-untyped]
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

from tests import seeds

LANES = (
    ("orders", "pods", "kind_demo", "images", "device_plugin", "harness"),
    ("connectivity", "site", "node_death", "sockets", "multus", "cli"),
)
"""Tests of the cluster with nodes, cluster/test_NAME.py, by the worker that runs them: a cluster
costs its start and a part of a CPU for as long as it runs, so there are two, each started once."""
_LANES = {
    ("cluster", f"test_{name}.py"): f"lane {n}" for n, names in enumerate(LANES) for name in names
}
_SAID = "said"
_FOLDERS = ("sriov", "cluster", "engine", "e2e", "unit")


class Scheduling(LoadScopeScheduling):
    """Gives a worker of xdist a lane, or a file, in the order in which tests were collected."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return _LANES.get(_place(Path(file)), file)


def _place(file: Path) -> tuple[str, str]:
    return file.parent.name, file.name


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "sanitize: runs the engine that was built with sanitizers")
    seed = seeds.asked()
    settings.register_profile(
        "headrace",
        derandomize=seed is None,
        database=None,
        # How fast the machine is must not decide either.
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
        print_blob=True,
    )
    settings.load_profile("headrace")
    if seed is not None:
        # Read by the plugin of Hypothesis, which is configured after this.
        config.option.hypothesis_seed = str(seed)


def pytest_report_header() -> str:
    seed = seeds.asked()
    return f"seed: {'as every day' if seed is None else f'{seeds.VARIABLE}={seed}'}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest begins first."""

    def place(item: pytest.Item) -> tuple[bool, int]:
        return _place(item.path) not in _LANES, _FOLDERS.index(item.path.parent.name)

    items.sort(key=place)


@pytest.fixture
def say(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Says what is worth knowing of a test that passed: at the end, wherever it ran."""
    return partial(record_property, _SAID)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for report in terminalreporter.getreports(""):
        for name, text in report.user_properties:
            if name == _SAID and report.when == "teardown":
                terminalreporter.write_line(f"{report.nodeid}: {text}")


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduling:
    config.option.loadscopereorder = False
    return Scheduling(config, log)
