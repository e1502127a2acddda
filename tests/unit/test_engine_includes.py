# SPDX-License-Identifier: Apache-2.0
"""The engine's files and folders lead one way: no #include goes around, directly or by others."""

import re
from collections.abc import Callable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ENGINE = Path(__file__).parents[2] / "dataplane" / "engine"
INCLUDE = re.compile(r'^#include "(.+)"$', re.MULTILINE)

Graph = Mapping[str, set[str]]


def includes(engine: Path) -> Iterator[tuple[Path, Path]]:
    """Every file, by its path in the engine's folder, with each that it includes."""
    for file in sorted(engine.rglob("*.[ch]")):
        for name in INCLUDE.findall(file.read_text()):
            included = (file.parent / name).resolve()
            assert included.is_file(), f"{file}: includes {name}, which is not there"
            yield file.relative_to(engine), included.relative_to(engine)


def module(file: Path) -> str:
    """A header and the file that implements it are one: table/adj."""
    return str(file.with_suffix(""))


def folder(file: Path) -> str:
    """The folder; of what lies in none, each module for itself."""
    return str(file.parent) if file.parent.name else module(file)


def graph(engine: Path, node: Callable[[Path], str]) -> Graph:
    """Which nodes each node includes, itself left out."""
    nodes: dict[str, set[str]] = {}
    for file, included in includes(engine):
        if node(file) != node(included):
            nodes.setdefault(node(file), set()).add(node(included))
    return nodes


def circle(nodes: Graph) -> str:
    """A circle as "a -> b -> a"; "" when there is none."""
    try:
        TopologicalSorter(nodes).prepare()
    except CycleError as error:
        return " -> ".join(reversed(error.args[1]))
    return ""


@pytest.mark.parametrize("node", [module, folder])
def test_no_circle(node: Callable[[Path], str]) -> None:
    nodes = graph(ENGINE, node)
    assert nodes
    assert circle(nodes) == ""


def test_circle_is_named(tmp_path: Path) -> None:
    (tmp_path / "table").mkdir()
    (tmp_path / "graph").mkdir()
    (tmp_path / "table" / "a.c").write_text('#include "a.h"\n#include "../graph/b.h"\n')
    (tmp_path / "table" / "a.h").write_text("")
    (tmp_path / "graph" / "b.h").write_text('#include "c.h"\n')
    (tmp_path / "graph" / "c.h").write_text('#include "../table/a.h"\n')
    assert circle(graph(tmp_path, module)) in {
        "table/a -> graph/b -> graph/c -> table/a",
        "graph/b -> graph/c -> table/a -> graph/b",
        "graph/c -> table/a -> graph/b -> graph/c",
    }
    assert circle(graph(tmp_path, folder)) in {
        "table -> graph -> table",
        "graph -> table -> graph",
    }
