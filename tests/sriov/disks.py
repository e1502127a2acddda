# SPDX-License-Identifier: Apache-2.0
"""What a machine starts from: what is built once, and a disk of images."""

import hashlib
import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from headrace_cli.errors import CommandError
from headrace_demo.lab import command
from tests.cluster.cluster import REPOSITORY, Cluster
from tests.cluster.gotools import building
from tests.cluster.sandbox import Daemon, until

IMAGES = REPOSITORY / "build/sriov/images.disk"
"""The disk of images that was made last."""
_SIZE = "4G"
_SECONDS = 60.0


def build() -> Path:
    """Build QEMU's root and the machine's disk, unless they are there, and return their folder.

    Takes two minutes the first time and says so on stderr. Raises CommandError.
    """
    script = Path(__file__).with_name("build.sh")
    done = subprocess.run([script], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise CommandError(f"{script}: status {done.returncode}, see above")
    return Path(done.stdout.strip())


def image_disk(cluster: Cluster, tars: Sequence[Path]) -> Path:
    """Return a file system with all that containerd keeps, these images unpacked.

    An emulated processor would take a minute over it. Raises CommandError.
    """
    state = hashlib.sha256()
    for tar in tars:
        state.update(f"{tar} {os.stat(tar)}".encode())
    made = IMAGES.with_suffix(".inputs")
    with building(IMAGES):
        if IMAGES.exists() and made.exists() and made.read_text() == state.hexdigest():
            return IMAGES
        made.unlink(missing_ok=True)
        folder = IMAGES.with_suffix(".folder")
        shutil.rmtree(folder, ignore_errors=True)
        try:
            _unpack(cluster, folder, tars)
            IMAGES.unlink(missing_ok=True)
            command("mkfs.ext4", "-q", "-d", folder, IMAGES, _SIZE)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        made.write_text(state.hexdigest())
    return IMAGES


def _unpack(cluster: Cluster, folder: Path, tars: Sequence[Path]) -> None:
    """Have a containerd of the sandbox import images into a folder."""
    root, socket = cluster.sandbox.root, "/run/images.sock"
    words = ("--root", folder, "--state", "/run/images", "--address", socket)
    containerd = Daemon(root, cluster.logs / "images-containerd", "containerd", *words)
    try:
        until(root.path(socket).exists, "containerd listens", _SECONDS)
        for tar in tars:
            imported = ("ctr", f"--address={socket}", "--namespace=k8s.io", "images", "import", tar)
            command(*root.words(*map(str, imported)), seconds=5 * _SECONDS)
    finally:
        containerd.stop(signal.SIGTERM)
