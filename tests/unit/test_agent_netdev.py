# SPDX-License-Identifier: Apache-2.0
"""The host's stack is kept out of the endpoints' devices."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from headrace_dataplane.netdev import SILENCE, isolate


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
