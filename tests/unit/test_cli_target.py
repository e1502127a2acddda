# SPDX-License-Identifier: Apache-2.0
"""Whom a command asks, and what is given on to a node of a cluster."""

import argparse
import asyncio
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from headrace_cli import remote
from headrace_cli.main import LOCAL, main, plugin
from headrace_cli.target import means_cluster


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without engines, and a user without kubeconfig."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    path = tmp_path / "run"
    path.mkdir()
    return path


def asked(root: Path, **options: object) -> bool:
    nothing = {"socket": None, "node": None, "cluster": False, "kubeconfig": None, "context": None}
    return means_cluster(argparse.Namespace(**{**nothing, **options}), root)


def engine(root: Path, node: str) -> None:
    (root / node).mkdir()
    (root / node / "engine.sock").touch()


def test_without_kubeconfig_nobody_means_a_cluster(root: Path) -> None:
    assert not asked(root)
    assert not asked(root, node="node-a")


@pytest.mark.parametrize("variable", ["KUBECONFIG", "KUBERNETES_SERVICE_HOST", "file"])
def test_an_engine_here_wins_over_a_kubeconfig(
    root: Path, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if variable == "file":
        (root.parent / ".kube").mkdir()
        (root.parent / ".kube/config").touch()
    else:
        monkeypatch.setenv(variable, "x")
    assert asked(root)
    assert asked(root, node="node-a")
    engine(root, "node-a")
    assert not asked(root)
    assert not asked(root, node="node-a")
    assert asked(root, node="node-b")


@pytest.mark.parametrize("option", ["cluster", "kubeconfig", "context"])
def test_a_cluster_that_is_named_wins_over_engines(root: Path, option: str) -> None:
    engine(root, "node-a")
    assert asked(root, **{option: "x"})
    assert asked(root, **{option: "x"}, node="node-a")


def test_a_socket_is_of_this_machine(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", "x")
    assert not asked(root, socket=Path("/run/x.sock"))


def at_node(
    monkeypatch: pytest.MonkeyPatch,
) -> list[tuple[argparse.Namespace, Sequence[str]]]:
    """Have no command run at a node: it only comes into the list, and ends with 3."""
    given: list[tuple[argparse.Namespace, Sequence[str]]] = []

    def run_at_node(arguments: argparse.Namespace, words: Sequence[str]) -> int:
        given.append((arguments, words))
        return 3

    monkeypatch.setattr(remote, "run_at_node", run_at_node)
    return given


def test_the_node_gets_the_same_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    given = at_node(monkeypatch)
    words = ["routes", "--match", "10.0.0.1", "--node", "node-a", "--context=c", "--limit", "5"]
    words += ["--pipeline", "router", "--kubeconfig", "f", "--system-namespace", "s", "-o", "json"]
    for command, extra in ((main, ["--cluster"]), (plugin, [])):
        assert command([*words, *extra]) == 3
        arguments, rest = given.pop()
        assert rest == ["--match", "10.0.0.1", "--limit", "5", "-o", "json"]
        assert (arguments.node, arguments.pipeline, arguments.context) == ("node-a", "router", "c")
        assert (arguments.kubeconfig, arguments.system_namespace) == ("f", "s")


def test_a_pod_of_another_release_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pod = remote.Pod.model_validate({"metadata": {"name": "router-x", "namespace": "system"}})

    async def find(*_: object) -> remote.Pod:
        return pod

    async def execute(*_: object) -> int:
        return 2

    monkeypatch.setattr(remote, "find", find)
    monkeypatch.setattr(remote, "execute", execute)
    monkeypatch.setattr(remote, "ask", lambda _, work: asyncio.run(work(None)))
    assert plugin(["routes", "--limit", "5"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "pod system/router-x does not know these options" in line


def test_status_of_a_node_is_its_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    given = at_node(monkeypatch)
    assert plugin(["status", "--node", "node-a", "--seconds", "1"]) == 3
    assert [words for _, words in given] == [["--seconds", "1"]]


def test_the_plugin_has_the_cluster_part(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        plugin(["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith("usage: kubectl headrace ")
    assert not [name for name in LOCAL if f"\n    {name} " in text]
    for command in ("status", "drops", "compile"):
        with pytest.raises(SystemExit):
            plugin([command, "--help"])
        text = capsys.readouterr().out
        assert f"usage: kubectl headrace {command} " in text
        assert f"\n  kubectl headrace {command}" in text
        assert "--socket" not in text
        assert "--kubeconfig" in text
    assert plugin(["version"]) == 0
    assert "engine" not in capsys.readouterr().out


@pytest.mark.parametrize("server", [None, "http://127.0.0.1:1"])
def test_no_cluster_is_one_line(root: Path, server: str | None) -> None:
    kubeconfig = root / "kubeconfig"
    if server is not None:
        kubeconfig.write_text(KUBECONFIG.format(server=server))
    done = subprocess.run(
        [sys.executable, "-m", "headrace_cli.main", "status", "--cluster"],
        env={**os.environ, "KUBECONFIG": str(kubeconfig)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("headrace status: ")
    assert line.endswith("name a cluster with --kubeconfig or --context")


KUBECONFIG = """\
apiVersion: v1
kind: Config
current-context: c
contexts: [{{name: c, context: {{cluster: c, user: u}}}}]
clusters: [{{name: c, cluster: {{server: "{server}"}}}}]
users: [{{name: u, user: {{}}}}]
"""
