# SPDX-License-Identifier: Apache-2.0
import asyncio
import fcntl
import json
from pathlib import Path
from typing import Any

import pytest

from headrace_api import DataplaneConfigStatus, Interface, InterfaceState, Objects
from headrace_cli import local
from headrace_cli.errors import CommandError
from headrace_cli.local import LocalSource, StateFile
from headrace_cli.manifests import ManifestReader, Manifests
from headrace_compiler import Compilation, accepted
from headrace_compiler import compile as compile_all
from headrace_compiler import interface as compiler_interface
from headrace_dataplane.parts import Report
from headrace_dataplane.source import Snapshot

EXAMPLES = Path(__file__).parents[2] / "deploy" / "examples"
PIPELINE = """\
apiVersion: headrace.dev/v1alpha1
kind: Pipeline
metadata: {name: router}
spec: {underlayPrefixes: ["fd00:1::/48"]}
"""
NETWORK = """\
apiVersion: headrace.dev/v1alpha1
kind: VirtualNetwork
metadata: {name: blue}
spec:
  subnets:
    - prefix: 10.7.0.0/24
"""


def interface(name: str, node: str = "node-a", network: str = "blue") -> str:
    return f"""\
apiVersion: headrace.dev/v1alpha1
kind: Interface
metadata: {{name: {name}}}
spec:
  networkRef: {{name: {network}}}
  pipelineRef:
    name: router
  nodeName: {node}
  attachment:
    type: Discard
"""


def write(path: Path, *documents: str) -> None:
    """Write as careful editors do, so that every change has another inode."""
    new = path.with_suffix(".part")
    new.write_text("---\n".join(documents))
    new.replace(path)


def read(reader: ManifestReader) -> Manifests:
    found = reader.read()
    assert found is not None
    return found


def names(manifests: Manifests) -> list[str]:
    return sorted(item.key for item in manifests.objects.items)


def test_a_directory_is_read_once_until_it_changes(tmp_path: Path) -> None:
    write(tmp_path / "net.yaml", PIPELINE, NETWORK)
    write(tmp_path / "vm.yml", interface("vm1"))
    (tmp_path / "README.md").write_text("not a manifest")
    reader = ManifestReader(tmp_path)
    assert names(read(reader)) == ["default/blue", "default/vm1", "router"]
    assert reader.read() is None
    write(tmp_path / "vm.yml", interface("vm2"))
    assert names(read(reader)) == ["default/blue", "default/vm2", "router"]
    (tmp_path / "vm.yml").unlink()
    assert names(read(reader)) == ["default/blue", "router"]


def test_an_invalid_object_keeps_what_it_was(tmp_path: Path) -> None:
    path = tmp_path / "all.yaml"
    write(path, PIPELINE, NETWORK)
    reader = ManifestReader(tmp_path)
    before = read(reader)
    write(path, PIPELINE, NETWORK.replace("10.7.0.0/24", "nonsense"))
    after = read(reader)
    assert after.objects == before.objects
    assert "stays in force" in after.problems[0].message
    write(path, "{[")
    broken = read(reader)
    assert broken.objects == before.objects
    assert [problem.reason for problem in broken.problems] == ["InvalidYAML"]
    assert "stays in force" in broken.problems[0].message
    assert broken.incomplete
    write(path, PIPELINE)
    assert names(read(reader)) == ["router"]


def test_a_duplicate_in_another_file_is_told(tmp_path: Path) -> None:
    write(tmp_path / "a.yaml", NETWORK)
    write(tmp_path / "b.yaml", NETWORK)
    manifests = read(ManifestReader(tmp_path))
    assert names(manifests) == ["default/blue"]
    (problem,) = manifests.problems
    assert (problem.reason, problem.source) == ("Duplicate", str(tmp_path / "b.yaml"))
    assert str(tmp_path / "a.yaml") in problem.message


def test_a_directory_that_is_away_takes_nothing_down(tmp_path: Path) -> None:
    directory = tmp_path / "m"
    directory.mkdir()
    write(directory / "a.yaml", NETWORK)
    reader = ManifestReader(directory)
    before = read(reader)
    directory.rename(tmp_path / "away")
    lost = read(reader)
    assert lost.objects == before.objects
    assert lost.incomplete
    assert reader.read() is None
    (tmp_path / "away").rename(directory)
    assert read(reader).problems == ()


def test_an_empty_directory_is_read_once(tmp_path: Path) -> None:
    reader = ManifestReader(tmp_path)
    assert names(read(reader)) == []
    assert reader.read() is None


def compiled(source: LocalSource) -> Snapshot:
    async def first() -> Snapshot:
        async with asyncio.timeout(30):
            return await source.next()

    return asyncio.run(first())


def source(directory: Path, state: Path, node: str = "node-a") -> LocalSource:
    return LocalSource(ManifestReader(directory), node, StateFile(state))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "m"
    path.mkdir()
    write(path / "all.yaml", PIPELINE, NETWORK, interface("vm1"), interface("vm2", "node-b"))
    return path


def test_nodes_that_share_a_state_agree(directory: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    a = compiled(source(directory, state, "node-a"))
    b = compiled(source(directory, state, "node-b"))
    assert a.slices == b.slices
    assert a.config.spec.underlay_prefix != b.config.spec.underlay_prefix
    (vm2,) = b.config.spec.interfaces
    hops = [hop for route in a.slices[0].spec.entries for hop in route.next_hops or ()]
    assert vm2.underlay_address in [hop.underlay_address for hop in hops]


def test_a_restart_changes_nothing(directory: Path, tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    before = compiled(source(directory, state))
    written = state.read_bytes()
    inode = state.stat().st_ino
    assert compiled(source(directory, state)) == before
    assert (state.read_bytes(), state.stat().st_ino) == (written, inode)
    # Allocations outlive what came before them.
    write(
        directory / "all.yaml",
        PIPELINE,
        NETWORK,
        interface("vm0"),
        interface("vm1"),
        interface("vm2", "node-b"),
    )
    after = compiled(source(directory, state))
    assert after.generation == before.generation + 1
    kept = {i.name: i for i in after.config.spec.interfaces}["vm1"]
    assert kept == before.config.spec.interfaces[0]


def test_state_is_written_before_it_is_used(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: StateFile, state: local.LocalState) -> None:
        raise CommandError("disk full")

    monkeypatch.setattr(StateFile, "save", fail)
    with pytest.raises(CommandError, match="disk full"):
        compiled(source(directory, tmp_path / "state"))


def test_a_damaged_state_is_never_overwritten(directory: Path, tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    state.write_text("{")
    with pytest.raises(CommandError, match="cannot be read"):
        compiled(source(directory, state))
    assert state.read_text() == "{"


def test_an_unreadable_manifest_holds_a_start_that_remembers_nothing(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "POLL_SECONDS", 0.01)
    write(directory / "bad.yaml", "{[")
    state = tmp_path / "state.json"
    waiting = source(directory, state)

    async def test() -> Snapshot:
        async with asyncio.timeout(30):
            task = asyncio.create_task(waiting.next())
            while waiting._reader._files == {}:
                await asyncio.sleep(0.01)
            assert not state.exists()
            write(directory / "bad.yaml", interface("vm9"))
            return await task

    found = asyncio.run(test())
    assert [i.name for i in found.config.spec.interfaces] == ["vm1", "vm9"]


def test_a_running_source_follows_changes_and_survives_a_bad_file(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "POLL_SECONDS", 0.01)
    following = source(directory, tmp_path / "state")

    async def test() -> tuple[Snapshot, Snapshot]:
        async with asyncio.timeout(30):
            first = await following.next()
            write(directory / "bad.yaml", "{[")
            write(directory / "more.yaml", interface("vm3"))
            return first, await following.next()

    first, second = asyncio.run(test())
    assert [i.name for i in first.config.spec.interfaces] == ["vm1"]
    assert [i.name for i in second.config.spec.interfaces] == ["vm1", "vm3"]
    assert second.generation == first.generation + 1


def test_reports_say_once_what_is_not_ready(
    directory: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    reporting = source(directory, tmp_path / "state")
    bad = InterfaceState(namespace="default", name="vm1", ready=False, reason="LinkDown")
    good = bad.model_copy(update={"ready": True})
    with caplog.at_level("INFO"):
        for state in (bad, bad, good):
            asyncio.run(reporting.report(Report(DataplaneConfigStatus(interfaces=(state,)))))
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


def test_the_lock_keeps_others_out(tmp_path: Path) -> None:
    state = StateFile(tmp_path / "state.json")
    lock = state.path.with_suffix(".lock")
    with state.locked(), lock.open() as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with lock.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert not state.path.exists()


def test_a_tenant_whose_manifest_is_wrong_hurts_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Also at a start, when nothing is known of it yet; and what was valid stays in force."""
    folder = tmp_path / "manifests"
    folder.mkdir()
    write(folder / "pipeline.yaml", PIPELINE)
    write(folder / "blue.yaml", NETWORK, interface("vm1"))
    red = NETWORK.replace("blue", "red")
    bad = red + '    - prefix: "::/64"\n'
    write(folder / "red.yaml", bad, interface("vm2", network="red"))
    state = StateFile(tmp_path / "state.json")

    def next_of(source: LocalSource) -> list[str]:
        found = asyncio.run(source.next())
        return [each.name for each in found.config.spec.interfaces]

    source = LocalSource(ManifestReader(folder), "node-a", state)
    assert next_of(source) == ["vm1"]
    assert "must not overlap ::/80" in caplog.text
    write(folder / "red.yaml", red, interface("vm2", network="red"))
    assert next_of(source) == ["vm1", "vm2"]
    # What was valid stays in force; blue goes on.
    write(folder / "red.yaml", bad, interface("vm2", network="red"))
    write(folder / "blue.yaml", NETWORK, interface("vm1"), interface("vm3"))
    assert next_of(source) == ["vm1", "vm2", "vm3"]


def test_an_error_that_nobody_expected_leaves_the_last_good_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(local, "POLL_SECONDS", 0.001)
    folder = tmp_path / "manifests"
    folder.mkdir()
    write(folder / "all.yaml", PIPELINE, NETWORK, interface("vm1"))
    source = LocalSource(ManifestReader(folder), "node-a", StateFile(tmp_path / "state.json"))

    def strange(objects: Objects, *words: Any, **more: Any) -> Compilation:
        if len(objects.of(Interface)) == 2:
            raise KeyError("what is this?")
        return compile_all(objects, *words, **more)

    monkeypatch.setattr(local, "compile_objects", strange)

    async def test() -> None:
        async with asyncio.timeout(60):
            await source.next()
            write(folder / "all.yaml", PIPELINE, NETWORK, interface("vm1"), interface("vm2"))
            waiting = asyncio.create_task(source.next())
            while "KeyError: 'what is this?'" not in caplog.text:
                await asyncio.sleep(0.001)
            assert not waiting.done()
            more = (interface(f"vm{number}") for number in (1, 2, 3))
            write(folder / "all.yaml", PIPELINE, NETWORK, *more)
            assert len((await waiting).config.spec.interfaces) == 3

    asyncio.run(test())


def test_what_this_release_fails_with_stays_and_all_else_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "manifests"
    folder.mkdir()
    write(folder / "all.yaml", PIPELINE, NETWORK, interface("vm1"))
    source = LocalSource(ManifestReader(folder), "node-a", StateFile(tmp_path / "state.json"))
    before = compiled(source).config.spec.interfaces
    accept = accepted.accept

    def strange(key: str, *words: Any) -> Any:
        if key == "default/vm1":
            raise KeyError("what is this?")
        return accept(key, *words)

    monkeypatch.setattr(compiler_interface, "accept", strange)
    mtu = interface("vm1") + "  mtu: 1300\n"
    for names in (["vm2"], ["vm2", "vm3"]):
        write(folder / "all.yaml", PIPELINE, NETWORK, mtu, *map(interface, names))
        found = compiled(source).config.spec.interfaces
        assert [each.name for each in found] == ["vm1", *names]
        assert found[:1] == before
    assert caplog.text.count("Traceback") == 1
    assert "(InternalError)" in caplog.text
    monkeypatch.undo()
    write(folder / "all.yaml", PIPELINE, NETWORK, mtu)
    assert [each.mtu for each in compiled(source).config.spec.interfaces] == [1300]


def test_what_was_valid_stays_in_force_over_a_restart(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "manifests"
    folder.mkdir()
    state = tmp_path / "state.json"
    blue, red = NETWORK, NETWORK.replace("blue", "red")
    write(folder / "pipeline.yaml", PIPELINE)
    write(folder / "blue.yaml", blue, interface("vm1"))
    write(folder / "red.yaml", red, interface("vm2", network="red"))
    write(folder / "gone.yaml", interface("vm3"))
    before = {i.name: i for i in compiled(source(folder, state)).config.spec.interfaces}

    # One object is wrong, one file is no YAML, and one went while nobody looked.
    (folder / "gone.yaml").unlink()
    write(folder / "blue.yaml", blue, interface("vm1") + "  mtu: large\n", interface("vm4"))
    write(folder / "red.yaml", "{[")
    for _ in range(2):
        found = {i.name: i for i in compiled(source(folder, state)).config.spec.interfaces}
        assert found.keys() == {"vm1", "vm2", "vm4"}
        assert [found[name] for name in ("vm1", "vm2")] == [before[name] for name in ("vm1", "vm2")]
    assert caplog.text.count("what was valid stays in force") == 4
    # What is mended is followed; a directory that is away takes nothing down.
    write(folder / "red.yaml", red)
    folder.rename(tmp_path / "away")
    found = {i.name: i for i in compiled(source(folder, state)).config.spec.interfaces}
    assert found.keys() == {"vm1", "vm2", "vm4"}
    (tmp_path / "away").rename(folder)
    found = {i.name: i for i in compiled(source(folder, state)).config.spec.interfaces}
    assert found.keys() == {"vm1", "vm4"}


@pytest.mark.parametrize("example", sorted(path for path in EXAMPLES.iterdir() if path.is_dir()))
def test_what_is_remembered_is_what_was_read(example: Path) -> None:
    found = read(ManifestReader(example))
    assert found.objects.items
    again = Objects(tuple(item for each in found.remembered() if (item := each.read())))
    assert sorted(again.items, key=str) == sorted(found.objects.items, key=str)


def test_a_file_that_never_was_valid_holds_no_later_start(directory: Path, tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    before = compiled(source(directory, state))
    write(directory / "bad.yaml", "{[")
    assert compiled(source(directory, state)) == before


def test_what_this_release_does_not_take_is_not_remembered(directory: Path, tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    compiled(source(directory, state))
    saved = json.loads(state.read_text())
    for each in saved["manifests"]:
        each["object"]["spec"]["ofTheNextRelease"] = True
    state.write_text(json.dumps(saved))
    write(directory / "all.yaml", PIPELINE, NETWORK, interface("vm1") + "  mtu: large\n")
    assert compiled(source(directory, state)).config.spec.interfaces == ()
