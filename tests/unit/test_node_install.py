# SPDX-License-Identifier: Apache-2.0
"""The plugin's place in the runtime's configuration: ours alone is changed, whoever else writes."""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_api import Json
from headrace_dataplane import logs
from headrace_dataplane.node import install
from headrace_dataplane.node.install import (
    OWN,
    PLUGIN,
    chain,
    install_plugin,
    keep_chained,
    unchain,
)

ENTRY: Json = {"type": PLUGIN, "timeoutSeconds": 50}
BRIDGE: Json = {"type": "bridge", "bridge": "cni0"}


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_warned", set[str]())


def write(path: Path, *plugins: Json, **more: Any) -> bytes:
    path.write_text(json.dumps({"cniVersion": "1.0.0", "name": "n", "plugins": plugins, **more}))
    return path.read_bytes()


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def plugins(path: Path) -> list[Any]:
    return list(read(path)["plugins"])


def test_the_plugin_comes_last_in_the_first_conflist(tmp_path: Path) -> None:
    first, second = tmp_path / "10-a.conflist", tmp_path / "20-b.conflist"
    write(first, BRIDGE, {"type": "portmap"}, disableCheck=True)
    other = write(second, BRIDGE)
    first.chmod(0o640)
    assert chain(tmp_path, ENTRY)
    assert plugins(first) == [BRIDGE, {"type": "portmap"}, ENTRY]
    assert read(first)["disableCheck"] is True
    assert first.stat().st_mode & 0o777 == 0o640
    assert second.read_bytes() == other
    assert sorted(os.listdir(tmp_path)) == [OWN, "10-a.conflist", "20-b.conflist"]
    assert (tmp_path / OWN).read_bytes() == first.read_bytes()
    assert (tmp_path / OWN).stat().st_mode & 0o777 == 0o640


def test_a_second_time_nothing_is_written(tmp_path: Path) -> None:
    path = tmp_path / "10-a.conflist"
    write(path, BRIDGE)
    assert chain(tmp_path, ENTRY) == 2
    before = [each.stat().st_ino for each in (path, tmp_path / OWN)]
    assert chain(tmp_path, ENTRY) == 0
    assert [each.stat().st_ino for each in (path, tmp_path / OWN)] == before


def test_it_is_put_back_and_kept_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "10-a.conflist"
    write(path, BRIDGE)
    chain(tmp_path, ENTRY)
    # The owner writes it anew, with another plugin; an older release of ours is in the middle.
    write(path, BRIDGE, {"type": PLUGIN}, {"type": "tuning"})
    chain(tmp_path, ENTRY)
    assert plugins(path) == [BRIDGE, {"type": "tuning"}, ENTRY]


def test_it_moves_to_a_configuration_that_comes_first(tmp_path: Path) -> None:
    old, new = tmp_path / "10-a.conflist", tmp_path / "05-b.conflist"
    write(old, BRIDGE)
    chain(tmp_path, ENTRY)
    write(new, BRIDGE)
    chain(tmp_path, ENTRY)
    assert plugins(old) == [BRIDGE]
    assert plugins(new) == [BRIDGE, ENTRY]


def test_taking_it_out_keeps_what_others_did(tmp_path: Path) -> None:
    path = tmp_path / "10-a.conflist"
    write(path, BRIDGE)
    before = read(path)
    chain(tmp_path, ENTRY)
    for _ in range(2):
        unchain(tmp_path)
        assert read(path) == before
        assert os.listdir(tmp_path) == [path.name]
    write(path, BRIDGE, ENTRY, {"type": "tuning"})
    unchain(tmp_path)
    assert plugins(path) == [BRIDGE, {"type": "tuning"}]


def test_a_change_in_between_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "10-a.conflist"
    write(path, BRIDGE)
    dumps = json.dumps

    def meanwhile(*args: Any, **kwargs: Any) -> str:
        monkeypatch.undo()
        write(path, {"type": "calico"})
        return dumps(*args, **kwargs)

    monkeypatch.setattr(json, "dumps", meanwhile)
    chain(tmp_path, ENTRY)
    assert plugins(path) == [{"type": "calico"}]
    chain(tmp_path, ENTRY)
    assert plugins(path) == [{"type": "calico"}, ENTRY]


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"plugins": 1}', '{"plugins": [1]}'])
def test_what_is_not_understood_is_left_alone(
    tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "10-a.conflist"
    path.write_text(text)
    for _ in range(2):
        chain(tmp_path, ENTRY)
        unchain(tmp_path)
    assert path.read_text() == text
    assert len([each for each in caplog.records if "left alone" in each.message]) == 1


@given(st.lists(st.dictionaries(st.sampled_from(("type", "x")), st.text(max_size=3), min_size=2)))
def test_whatever_is_there_in_and_out_again_is_the_same(
    tmp_path_factory: pytest.TempPathFactory, others: list[Any]
) -> None:
    folder = tmp_path_factory.mktemp("conf")
    path = folder / "10-a.conflist"
    write(path, *others)
    before = read(path)
    chain(folder, ENTRY)
    assert plugins(path) == [*others, ENTRY]
    unchain(folder)
    assert read(path) == before


def taken(folder: Path) -> list[str]:
    """Types of the plugins that a runtime calls: those of the first file by name."""
    first = min(path for path in folder.iterdir() if path.suffix == ".conflist")
    return [plugin["type"] for plugin in plugins(first)]


def replace(path: Path, *plugins: Json) -> None:
    """Write it anew, at once, as networks of clusters do."""
    fresh = path.with_suffix(".new")
    write(fresh, *plugins)
    fresh.rename(path)


def test_what_the_owner_writes_while_no_agent_runs_lets_no_pod_pass(tmp_path: Path) -> None:
    path = tmp_path / "10-a.conflist"
    write(path, BRIDGE)
    chain(tmp_path, ENTRY)
    replace(path, {"type": "calico"})
    assert taken(tmp_path) == ["bridge", PLUGIN]
    chain(tmp_path, ENTRY)
    assert taken(tmp_path) == ["calico", PLUGIN]
    path.unlink()
    assert chain(tmp_path, ENTRY) is None
    assert taken(tmp_path) == ["calico", PLUGIN]


def test_it_keeps_out_of_the_way_of_what_comes_first(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "10-a.conflist"
    write(path, BRIDGE)
    chain(tmp_path, ENTRY)
    (tmp_path / "00-multus.conf").write_text("{}")
    chain(tmp_path, ENTRY)
    assert not (tmp_path / OWN).exists()
    assert "00-multus.conf comes before" in caplog.text
    (tmp_path / "00-multus.conf").unlink()
    write(tmp_path / "00-a.conflist", BRIDGE)
    chain(tmp_path, ENTRY)
    assert not (tmp_path / OWN).exists()
    assert taken(tmp_path) == ["bridge", PLUGIN]
    assert "00-a.conflist comes before" in caplog.text


def keep(folder: Path, meanwhile: Callable[[], Awaitable[None]]) -> None:
    async def run() -> None:
        keeping = asyncio.create_task(keep_chained(folder, ENTRY))
        try:
            async with asyncio.timeout(30):
                await meanwhile()
        finally:
            keeping.cancel()
            await asyncio.wait((keeping,))

    asyncio.run(run())


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.01)


def test_the_kernel_says_when_it_is_written_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(install, "_LOOK_SECONDS", 1000.0)
    path = tmp_path / "10-a.conflist"
    write(path, BRIDGE)

    async def rewrite() -> None:
        for kind in ("bridge", "flannel", "calico"):
            replace(path, {"type": kind})
            await until(lambda: plugins(path)[-1] == ENTRY)
            await until(lambda: taken(tmp_path) == [kind, PLUGIN])  # noqa: B023

    keep(tmp_path, rewrite)


def test_who_takes_our_file_away_again_and_again_gets_his_way(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, copy = tmp_path / "10-a.conflist", tmp_path / OWN
    write(path, BRIDGE)

    async def remove() -> None:
        while "somebody removes" not in caplog.text:
            if copy.exists():
                copy.rename(tmp_path / "backup")
            await asyncio.sleep(0.01)
        await until(lambda: plugins(path)[-1] == ENTRY)
        replace(path, BRIDGE)
        await until(lambda: plugins(path)[-1] == ENTRY)

    keep(tmp_path, remove)
    assert not copy.exists()


def test_the_copy_goes_when_the_clusters_own_network_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(install, "_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(install, "_GONE_SECONDS", 0.02)
    path, copy = tmp_path / "10-a.conflist", tmp_path / OWN
    write(path, BRIDGE)

    async def uninstall() -> None:
        await until(copy.exists)
        path.unlink()
        await until(lambda: not copy.exists())

    keep(tmp_path, uninstall)


def test_without_a_conflist_it_says_so_and_waits(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "10-a.conf").write_text("{}")
    path = tmp_path / "20-b.conflist"

    async def watch() -> None:
        await until(lambda: "has no *.conflist yet" in caplog.text)
        write(path, BRIDGE)
        await until(lambda: len(plugins(path)) == 2)

    keep(tmp_path, watch)
    assert plugins(path) == [BRIDGE, ENTRY]
    assert "10-a.conf comes before" in caplog.text


@pytest.mark.parametrize("turns", range(4))
def test_it_ends_although_a_file_changes_just_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, turns: int
) -> None:
    write(tmp_path / "10-a.conflist", BRIDGE)
    changes: list[Any] = []

    @contextmanager
    def events(_folder: Path, happened: Any) -> Iterator[None]:
        changes.append(happened.__self__)
        yield

    monkeypatch.setattr(install, "directory_events", events)

    async def run() -> None:
        keeping = asyncio.create_task(keep_chained(tmp_path, ENTRY))
        await until(lambda: bool(changes and changes[0]._waiters))
        changes[0].set()
        for _ in range(turns):
            await asyncio.sleep(0)
        keeping.cancel()
        done, _ = await asyncio.wait((keeping,), timeout=5)
        assert done

    asyncio.run(run())


def test_the_program_is_replaced_at_once(tmp_path: Path) -> None:
    source, folder = tmp_path / PLUGIN, tmp_path / "bin"
    source.write_bytes(b"one")
    install_plugin(source, folder)
    target = folder / PLUGIN
    assert (target.read_bytes(), target.stat().st_mode & 0o777) == (b"one", 0o755)
    running = target.stat().st_ino
    install_plugin(source, folder)
    assert target.stat().st_ino == running
    source.write_bytes(b"two")
    with target.open("rb") as used:
        install_plugin(source, folder)
        assert used.read() == b"one"
    assert target.read_bytes() == b"two"
    assert os.listdir(folder) == [PLUGIN]
