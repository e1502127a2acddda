# SPDX-License-Identifier: Apache-2.0
"""An Interface's socket is in a directory of its own: given out, checked, made and removed."""

import socket
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from headrace_api import (
    SOCKETS_DIRECTORY,
    DataplaneConfig,
    Interface,
    Node,
    Objects,
    Pipeline,
    Problem,
    VirtualNetwork,
    socket_directory,
)
from headrace_compiler import compile as compile_all
from headrace_dataplane.sockets import KEEP_SECONDS, SocketDirectories
from headrace_dataplane.translate import translate

TYPES = ("Memif", "VhostUser", "VirtioUser")
MEMBERS = {"Memif": "memif", "VhostUser": "vhostUser", "VirtioUser": "virtioUser"}
FILES = {"Memif": "memif.sock", "VhostUser": "vhost-user.sock", "VirtioUser": "vhost-user.sock"}
CLUSTER = "/srv/headrace/sockets"


def attachment(kind: str, **fields: str) -> dict[str, Any]:
    return {"type": kind, MEMBERS[kind]: fields}


def interface(kind: str, name: str = "fast", namespace: str = "blue", **fields: str) -> Interface:
    spec = {
        "networkRef": {"name": "blue"},
        "pipelineRef": {"name": "router"},
        "nodeName": "node-a",
        "attachment": attachment(kind, **fields),
    }
    metadata = {"name": name, "namespace": namespace}
    return Interface.model_validate({"metadata": metadata, "spec": spec})


def compiled(
    *interfaces: Interface, sockets: str | None = CLUSTER
) -> tuple[dict[str, str], list[Problem], DataplaneConfig]:
    """Socket by Interface, problems, and the configuration of the node."""
    spaces = {item.metadata.namespace for item in interfaces}
    networks = (
        VirtualNetwork.model_validate(
            {
                "metadata": {"name": "blue", "namespace": space},
                "spec": {"subnets": [{"prefix": "10.0.0.0/24"}]},
            }
        )
        for space in spaces
    )
    pipeline = Pipeline.model_validate(
        {
            "metadata": {"name": "router"},
            "spec": {
                "underlayPrefixes": ["fd00:1::/48"],
                "nodeSelector": {},
                "allowedNamespaces": {},
                "devices": [
                    {"name": kind.lower(), "type": kind, "namespaceSelector": {}} for kind in TYPES
                ],
            },
        }
    )
    node = Node.model_validate({"metadata": {"name": "node-a"}})
    result = compile_all(Objects((*networks, *interfaces, pipeline, node)), sockets=sockets)
    (config,) = map(DataplaneConfig.model_validate, result.configs.values())
    found = {item.name: item.attachment.socket_path or "" for item in config.spec.interfaces}
    return found, list(result.problems), config


@pytest.mark.parametrize("kind", TYPES)
def test_the_default(kind: str) -> None:
    found, problems, _ = compiled(interface(kind))
    assert not problems
    assert found == {"fast": f"{CLUSTER}/blue/fast/{FILES[kind]}"}
    found, problems, _ = compiled(interface(kind), sockets=None)
    assert not problems
    assert found == {"fast": f"{SOCKETS_DIRECTORY}/blue/fast/{FILES[kind]}"}


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize(
    "path",
    [
        "/run/headrace/engine/engine.sock",
        f"{CLUSTER}/fast",
        f"{CLUSTER}/blue/fast",
        f"{CLUSTER}/blue/fast/",
        f"{CLUSTER}/blue/fast/..",
        f"{CLUSTER}/blue/fast/deeper/s",
        f"{CLUSTER}/blue/fast/../slow/s",
        f"{CLUSTER}/blue/faster/s",
        f"{CLUSTER}/red/fast/s",
        f"{SOCKETS_DIRECTORY}/blue/fast/s",
    ],
)
def test_a_path_elsewhere_is_a_problem_of_this_interface_alone(kind: str, path: str) -> None:
    """Of a cluster: `headrace run` takes it."""
    found, (problem,), _ = compiled(interface(kind, socketPath=path), interface("Memif", "slow"))
    assert found == {"slow": f"{CLUSTER}/blue/slow/memif.sock"}
    assert (problem.namespace, problem.name, problem.reason) == (
        "blue",
        "fast",
        "AttachmentInvalid",
    )
    assert problem.field == f"spec.attachment.{MEMBERS[kind]}.socketPath"
    assert f"is not in {CLUSTER}/blue/fast," in problem.message

    found, problems, _ = compiled(interface(kind, socketPath=path), sockets=None)
    assert (found, problems) == ({"fast": path}, [])


def test_another_name_in_its_directory() -> None:
    path = f"{CLUSTER}/blue/fast/mine"
    found, problems, _ = compiled(interface("VhostUser", socketPath=path))
    assert (found, problems) == ({"fast": path}, [])


@pytest.mark.parametrize(("kind", "longest"), [("Memif", 69), ("VhostUser", 64)])
def test_names_as_long_as_a_socket_has_room_for(kind: str, longest: int) -> None:
    namespace = "n" * 30
    name = "i" * (longest - 30)
    found, problems, _ = compiled(interface(kind, name, namespace), sockets=SOCKETS_DIRECTORY)
    assert not problems
    assert len(found[name]) == 107
    found, (problem,), _ = compiled(
        interface(kind, f"{name}i", namespace), sockets=SOCKETS_DIRECTORY
    )
    assert not found
    assert (problem.field, problem.reason) == ("metadata.name", "AttachmentInvalid")
    assert "has 108 bytes" in problem.message


@pytest.mark.parametrize("kind", TYPES)
def test_an_uplink_needs_a_path(kind: str) -> None:
    def uplink(**fields: str) -> dict[str, Any]:
        found = attachment(kind, **fields)
        return {
            "underlayPrefixes": ["fd00:1::/48"],
            "nodeSelector": {},
            "uplinks": [
                {
                    "name": "up",
                    "attachment": {"type": "Discard"},
                    "nodeOverrides": [{"nodeName": "node-a", "attachment": found}],
                }
            ],
        }

    Pipeline.model_validate({"metadata": {"name": "p"}, "spec": uplink(socketPath="/s")})
    with pytest.raises(ValidationError, match="required of an uplink"):
        Pipeline.model_validate({"metadata": {"name": "p"}, "spec": uplink()})


def test_directories_that_the_agent_makes() -> None:
    """Those that are Interfaces' own: what is around another path is its user's business."""
    config = compiled(
        interface("Memif"),
        interface("VhostUser", "slow"),
        interface("VirtioUser", "given", socketPath="/run/vm/s"),
        sockets=None,
    )[2]
    assert translate(config, ()).directories == {
        socket_directory("blue/fast"),
        socket_directory("blue/slow"),
    }


def test_a_directory_is_there_from_before_its_socket_until_some_time_after(tmp_path: Path) -> None:
    fast, slow = (tmp_path / "blue" / name for name in ("fast", "slow"))
    directories = SocketDirectories(tmp_path, "router.node-a", now=0.0)
    directories.keep([str(fast), str(slow)], now=0.0)
    assert fast.is_dir()
    assert slow.is_dir()

    # Whoever has it mounted has it still when the Interface is back.
    inode = fast.stat().st_ino
    directories.keep([str(slow)], now=KEEP_SECONDS)
    directories.keep([str(fast), str(slow)], now=KEEP_SECONDS + 1)
    assert fast.stat().st_ino == inode

    later = 2 * KEEP_SECONDS + 2
    directories.keep([str(slow)], now=later)
    assert not fast.exists()
    assert slow.is_dir()
    directories.keep([], now=2 * later)
    assert not [*tmp_path.iterdir()]


def test_what_went_while_no_agent_ran_is_removed_by_the_next(tmp_path: Path) -> None:
    gone, stays, others = (tmp_path / "blue" / name for name in ("gone", "stays", "others"))
    SocketDirectories(tmp_path, "router.node-a", 0.0).keep([str(gone), str(stays)], 0.0)
    SocketDirectories(tmp_path, "edge.node-a", 0.0).keep([str(others)], 0.0)
    # Its engine was killed, and left the socket.
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as dead:
        dead.bind(str(gone / "memif.sock"))
        dead.listen()

    after = SocketDirectories(tmp_path, "router.node-a", now=100.0)
    after.keep([str(stays)], now=100.0)
    assert gone.is_dir()
    after.keep([str(stays)], now=101.0 + KEEP_SECONDS)
    assert not gone.exists()
    assert stays.is_dir()
    assert others.is_dir()


def test_a_directory_that_another_pipeline_has_by_now_stays(tmp_path: Path) -> None:
    """An Interface was deleted and made again, in another Pipeline."""
    moved = tmp_path / "blue/moved"
    before = SocketDirectories(tmp_path, "router.node-a", 0.0)
    before.keep([str(moved)], 0.0)
    after = SocketDirectories(tmp_path, "edge.node-a", 0.0)
    after.keep([str(moved)], 1.0)
    before.keep([], 1.0 + KEEP_SECONDS)
    assert moved.is_dir()
    after.keep([], 2.0 + KEEP_SECONDS)
    assert not moved.exists()


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_SEQPACKET])
def test_a_socket_that_somebody_listens_at_keeps_its_directory(
    tmp_path: Path, kind: socket.SocketKind
) -> None:
    fast = tmp_path / "blue/fast"
    directories = SocketDirectories(tmp_path, "router.node-a", 0.0)
    directories.keep([str(fast)], now=0.0)
    with socket.socket(socket.AF_UNIX, kind) as alive:
        alive.bind(str(fast / "vhost-user.sock"))
        alive.listen()
        directories.keep([], now=KEEP_SECONDS + 1)
        assert (fast / "vhost-user.sock").is_socket()
    directories.keep([], now=2 * KEEP_SECONDS + 2)
    assert not fast.exists()


def test_what_somebody_left_in_a_directory_stays(tmp_path: Path) -> None:
    fast = tmp_path / "blue/fast"
    directories = SocketDirectories(tmp_path, "router.node-a", 0.0)
    directories.keep([str(fast)], now=0.0)
    (fast / "notes").write_text("dear to somebody")
    directories.keep([], now=KEEP_SECONDS + 1)
    assert (fast / "notes").read_text() == "dear to somebody"


def test_a_directory_that_cannot_be_made_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "blue").write_text("no directory")
    directories = SocketDirectories(tmp_path, "router.node-a", 0.0)
    for now in (0.0, 1.0):
        directories.keep([str(tmp_path / "blue/fast"), str(tmp_path / "red/fast")], now)
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path}/blue/fast for an Interface's socket: Not a directory"
    ]
    assert (tmp_path / "red/fast").is_dir()
