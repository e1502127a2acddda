# SPDX-License-Identifier: Apache-2.0
"""What may be released, and small parts of it; tests/cluster/test_release.py makes a release."""

import gzip
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.release import plugin
from deploy.release.archive import pack
from deploy.release.source import PROJECT, Source, checkout, must_be_released
from headrace_cli.errors import CommandError

REPOSITORY = Path(__file__).parents[2]
AT = 1_700_000_000
NAMES = "Somebody", "somebody@example.com"


def git(repository: Path, *words: str) -> str:
    people = {
        f"GIT_{who}_{what}": value
        for who in ("AUTHOR", "COMMITTER")
        for what, value in zip(("NAME", "EMAIL", "DATE"), (*NAMES, f"{AT} +0000"), strict=True)
    }
    done = subprocess.run(
        ("git", *words),
        cwd=repository,
        env={**os.environ, **people},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository whose HEAD may be released."""
    folder = tmp_path / "repository"
    (folder / "helm/headrace").mkdir(parents=True)
    (folder / "pyproject.toml").write_text('[project]\nversion = "1.2.3"\n')
    chart = "version: 1.2.3\nappVersion: 1.2.3\n"
    (folder / "helm/headrace/Chart.yaml").write_text(chart)
    notes = "- New: [a page](docs/a.md), [another](https://example.com).\n"
    (folder / "CHANGELOG.md").write_text(
        f"# Changelog\n\n## 1.2.3\n\n{notes}\n## 1.2.2\n\n- Old.\n"
    )
    git(folder, "init", "--quiet")
    commit(folder)
    git(folder, "tag", "v1.2.3")
    return folder


def commit(repository: Path) -> None:
    git(repository, "add", "--all")
    git(repository, "commit", "--quiet", "--no-gpg-sign", "--message", "A commit")


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def test_a_release_says_what_the_commit_says(repository: Path, tmp_path: Path) -> None:
    (repository / "ignored").write_text("git does not know it")
    source = checkout(repository, tmp_path / "source")
    assert source.version == "1.2.3"
    assert source.revision == git(repository, "rev-parse", "HEAD")
    assert source.seconds == AT
    page = f"{PROJECT}/blob/v1.2.3/docs/a.md"
    assert source.notes == f"- New: [a page]({page}), [another](https://example.com).\n"
    assert not (source.folder / "ignored").exists()
    assert (source.folder / "CHANGELOG.md").stat().st_mtime == AT


def test_a_tagged_commit_may_be_released(repository: Path, tmp_path: Path) -> None:
    must_be_released(repository, checkout(repository, tmp_path / "source"))


def test_what_is_not_committed_may_not(repository: Path, tmp_path: Path) -> None:
    (repository / "new").write_text("")
    with pytest.raises(CommandError, match=r"not all is committed:\n.*new"):
        must_be_released(repository, checkout(repository, tmp_path / "source"))


def test_a_commit_after_the_tag_may_not(repository: Path, tmp_path: Path) -> None:
    (repository / "new").write_text("")
    commit(repository)
    with pytest.raises(CommandError, match=r"HEAD has no tag v1\.2\.3"):
        must_be_released(repository, checkout(repository, tmp_path / "source"))


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("helm/headrace/Chart.yaml", "\nappVersion: 1.2.3", "\nappVersion: 1.2.2", "appVersion is"),
        ("helm/headrace/Chart.yaml", "version: 1.2.3\na", "version: 1.3.0\na", "version is 1.3.0"),
        ("CHANGELOG.md", "## 1.2.3", "## Unreleased", "newest section is Unreleased"),
        ("CHANGELOG.md", "## ", "", "newest section is nothing"),
        ("pyproject.toml", "1.2.3", "1.2.4", "pyproject.toml has 1.2.4"),
    ],
)
def test_versions_that_disagree_are_refused(
    repository: Path, tmp_path: Path, file: str, old: str, new: str, said: str
) -> None:
    edit(repository / file, old, new)
    commit(repository)
    with pytest.raises(CommandError, match=re.escape(said)):
        checkout(repository, tmp_path / "source")


def test_the_newest_section_of_our_changelog_is_of_our_version(tmp_path: Path) -> None:
    assert checkout(REPOSITORY, tmp_path / "source").notes


def test_archives_do_not_depend_on_when_and_by_whom(tmp_path: Path) -> None:
    def packed(name: str, umask: int, names: list[str]) -> bytes:
        folder = tmp_path / name
        before = os.umask(umask)
        try:
            (folder / "b").mkdir(parents=True)
            for each in names:
                (folder / each).write_text(each)
            (folder / "run").touch(mode=0o755)
        finally:
            os.umask(before)
        os.utime(folder / "a", (umask, umask))
        target = tmp_path / f"{name}.tar.gz"
        pack(folder, target, AT)
        return target.read_bytes()

    one = packed("one", 0o022, ["a", "b/c"])
    assert one == packed("two", 0o077, ["b/c", "a"])
    plain = tmp_path / "plain.tar"
    plain.write_bytes(gzip.decompress(one))
    with tarfile.open(plain) as archive:
        found = {each.name: (each.mode, each.uid, each.mtime) for each in archive}
    assert found == {
        "a": (0o644, 0, AT),
        "b": (0o755, 0, AT),
        "b/c": (0o644, 0, AT),
        "run": (0o755, 0, AT),
    }


@pytest.fixture
def source() -> Source:
    return Source(REPOSITORY, "f" * 40, AT, "1.2.3", "- New.\n")


def test_krew_takes_the_manifest(source: Source, tmp_path: Path) -> None:
    """Rules of https://krew.sigs.k8s.io/docs/developer-guide/plugin-manifest."""
    archives = {
        platform: tmp_path / f"{'-'.join(platform)}.tar.gz" for platform in plugin.PLATFORMS
    }
    for path in archives.values():
        path.write_text(path.name)
    manifest: dict[str, Any] = yaml.safe_load(plugin.manifest(source, archives))
    assert manifest["apiVersion"] == "krew.googlecontainertools.github.com/v1alpha2"
    assert manifest["kind"] == "Plugin"
    assert manifest["metadata"] == {"name": "headrace"}
    spec = manifest["spec"]
    assert re.fullmatch(r"v\d+\.\d+\.\d+", spec["version"])
    assert 0 < len(spec["shortDescription"]) <= 50
    assert spec["description"] and spec["homepage"].startswith("https://")
    assert {
        (each["selector"]["matchLabels"]["os"], each["selector"]["matchLabels"]["arch"]): (
            each["uri"].rpartition("/")[2],
            each["bin"],
        )
        for each in spec["platforms"]
    } == {platform: (path.name, "kubectl-headrace") for platform, path in archives.items()}
    for each in spec["platforms"]:
        assert each["uri"].startswith(f"{PROJECT}/releases/download/v1.2.3/")
        assert re.fullmatch("[0-9a-f]{64}", each["sha256"])
    assert len({each["sha256"] for each in spec["platforms"]}) == len(plugin.PLATFORMS)


def test_the_plugin_refuses_a_python_that_it_was_not_packed_for(tmp_path: Path) -> None:
    launcher = tmp_path / "kubectl-headrace"
    launcher.write_bytes((REPOSITORY / "deploy/krew/launcher.py").read_bytes())
    (tmp_path / "lib/pydantic_core").mkdir(parents=True)
    (tmp_path / "lib/pydantic_core/_pydantic_core.cpython-39-other.so").touch()
    done = subprocess.run((sys.executable, launcher), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "not packed for Python" in done.stderr and "3.11 to 3.14" in done.stderr


def test_the_plugin_names_the_pythons_that_it_is_packed_for() -> None:
    named = f"{plugin.PYTHONS[0]} to {plugin.PYTHONS[-1]}"
    for name in ("deploy/krew/launcher.py", "deploy/krew/headrace.yaml"):
        assert f"Python {named}" in (REPOSITORY / name).read_text(), name
