# SPDX-License-Identifier: Apache-2.0
"""Packets in, packets out: one engine for each module, emptied and balanced after every test."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from tests.engine.lab import Lab, settings
from tests.engine.process import Engine, Namespace
from tests.engine.site import A, B, C, D, Site

REPOSITORY = Path(__file__).parents[2]
BUILDS = {
    "release": REPOSITORY / "build/engine/headrace-engine",
    "sanitize": REPOSITORY / "build/engine-sanitize/headrace-engine",
}


def binaries() -> list[ParameterSet]:
    """The engine that HEADRACE_ENGINE names, else those of both builds that exist."""
    named = os.environ.get("HEADRACE_ENGINE")
    if named:
        return [pytest.param(Path(named).resolve(), id="named")]
    found = {name: path for name, path in BUILDS.items() if path.exists()} or {
        "release": BUILDS["release"]
    }
    return [
        pytest.param(path, id=name, marks=[pytest.mark.sanitize] if name == "sanitize" else [])
        for name, path in found.items()
    ]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    folder = Path(__file__).parent
    for item in items:
        if folder in item.path.parents:
            item.add_marker(pytest.mark.engine)
            item.add_marker(pytest.mark.root)


@pytest.fixture(scope="session", params=binaries())
def binary(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    if os.geteuid() != 0:
        pytest.skip("needs root: makes network namespaces")
    assert path.exists(), f"{path} is missing: make build"
    return path


@pytest.fixture(scope="module")
def namespace() -> Iterator[Namespace]:
    namespace = Namespace()
    yield namespace
    namespace.remove()


@pytest.fixture(scope="module")
def engine(
    binary: Path, namespace: Namespace, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Engine]:
    engine = Engine(binary, tmp_path_factory.mktemp("engine"), namespace)
    yield engine
    engine.stop()


@pytest.fixture
def lab(engine: Engine, namespace: Namespace) -> Iterator[Lab]:
    lab = Lab(engine, namespace)
    lab.commit(settings())
    yield lab
    try:
        lab.settle()
    finally:
        lab.clear()


@pytest.fixture
def site(lab: Lab) -> Site:
    return Site(lab, A, B, C, D)
