# SPDX-License-Identifier: Apache-2.0
"""The host's stack is kept out of the endpoints' devices."""

import ctypes
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace_dataplane.netdev import SILENCE, indexes, isolate

CLONE_NEWNET = 0x40000000


def settings(root: Path, device: str) -> dict[str, str]:
    return {name: (root / name.format(device)).read_text() for name in SILENCE}


def make(root: Path, *devices: str) -> None:
    for device in devices:
        for name in SILENCE:
            path = root / name.format(device)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("0\n")


def test_only_the_named_devices_are_isolated(tmp_path: Path) -> None:
    make(tmp_path, "vm1", "eth0")
    isolate(["vm1", "not-there"], tmp_path)
    assert settings(tmp_path, "vm1") == {
        name: wanted if wanted != "0" else "0\n" for name, wanted in SILENCE.items()
    }
    assert set(settings(tmp_path, "eth0").values()) == {"0\n"}


def test_a_setting_that_cannot_be_written_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make(tmp_path, "vm2")
    blocked = tmp_path / "ipv6/conf/vm2/disable_ipv6"
    blocked.unlink()
    blocked.mkdir()
    isolate(["vm2"], tmp_path)
    isolate(["vm2"], tmp_path)
    assert [record.message for record in caplog.records].count(
        f"{blocked}: Is a directory: the host may speak on vm2"
    ) == 1


@pytest.mark.root
def test_where_nothing_can_be_written_it_says_so_once_and_how_to_help(tmp_path: Path) -> None:
    """As in a pod, whose /proc/sys is read-only."""
    if os.geteuid() != 0:
        pytest.skip("needs root: mounts")
    make(tmp_path, "vm1", "vm2")
    code = f"""
from collections.abc import Iterator
from pathlib import Path
from headrace_dataplane.netdev import isolate
for _ in range(2):
    isolate(["vm1", "vm2"], Path({str(tmp_path)!r}))
isolate([], Path("/nowhere"))
"""
    mount = f"mount --bind {tmp_path} {tmp_path} && mount -o remount,bind,ro {tmp_path}"
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", f'{mount} && exec "$0" -c "$1"', sys.executable, code],
        capture_output=True,
        text=True,
        check=True,
    )
    (line,) = done.stderr.splitlines()
    assert "ipv6/conf/DEVICE/disable_ipv6=1" in line


@pytest.fixture
def machine() -> Iterator[None]:
    """A host of its own with two devices: vmh, whose other end vmt is a tenant's, and uph, upt."""
    if os.geteuid() != 0:
        pytest.skip("needs root: network namespaces")
    libc = ctypes.CDLL(None)
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    assert libc.unshare(CLONE_NEWNET) == 0
    try:
        for words in (
            "link set lo up",
            "link add vmh type veth peer name vmt",
            "link add uph type veth peer name upt",
            "addr add 192.0.2.1/24 dev vmh",
            "addr add 198.51.100.1/24 dev uph",
            *(f"link set {device} up" for device in ("vmh", "vmt", "uph", "upt")),
        ):
            subprocess.run(["ip", *words.split()], check=True)
        yield
    finally:
        assert libc.setns(home, CLONE_NEWNET) == 0
        os.close(home)


def broadcast(mark: bytes) -> bytes:
    """A tenant's frame to UDP port 4789 of everybody, from 0.0.0.0."""
    datagram = struct.pack("!HHHH", 68, 4789, 8 + len(mark), 0) + mark
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(datagram), 0, 0, 64, 17, 0)
    header += bytes(4) + b"\xff" * 4
    total = sum(struct.unpack("!10H", header))
    total = (total & 0xFFFF) + (total >> 16)
    checksum = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
    header = header[:10] + struct.pack("!H", checksum) + header[12:]
    return b"\xff" * 6 + b"\x02" + bytes(5) + b"\x08\x00" + header + datagram


def send(device: str, mark: bytes) -> None:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as tenant:
        tenant.bind((device, 0))
        tenant.send(broadcast(mark))


def hear(dataplane: socket.socket, mark: bytes) -> None:
    """Wait for a frame; others are what the kernel itself says."""
    while not dataplane.recv(100).endswith(mark):
        pass


@pytest.mark.root
def test_a_tenants_broadcast_reaches_the_dataplane_and_no_service_of_the_node(
    machine: None,
) -> None:
    """Uplinks are none of this: what comes in there still reaches the node."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as service,
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as dataplane,
    ):
        service.bind(("", 4789))
        service.settimeout(30)
        dataplane.bind(("vmh", 3))
        dataplane.settimeout(30)
        send("vmt", b"before")
        assert service.recv(100) == b"before"
        hear(dataplane, b"before")
        for _ in range(2):
            isolate(["vmh", "not-there"])
        send("vmt", b"attack")
        hear(dataplane, b"attack")
        # In order behind it: had the attack passed, it would be first.
        send("upt", b"uplink")
        assert service.recv(100) == b"uplink"


@pytest.mark.root
def test_a_device_made_anew_has_another_index(machine: None) -> None:
    before = indexes(["vmh", "not-there"])
    assert before.keys() == {"vmh"}
    for words in ("del vmh", "add vmh type veth peer name vmt"):
        subprocess.run(["ip", "link", *words.split()], check=True)
    assert indexes(["vmh"]) != before
