# SPDX-License-Identifier: Apache-2.0
"""The disk that tells a machine what it is: its place, its keys, its kubelet."""

import json
import shutil
from pathlib import Path

from headrace_demo.lab import command
from tests.cluster.cluster import HOME, IMAGE, Cluster
from tests.cluster.node_settings import CONTROL_ADDRESS, Place, containerd
from tests.sriov.hardware import CPUS, PAGES

_RESERVED = {CPUS[0][0]}
_RESERVED_MEMORY = "256Mi"


def make_seed(cluster: Cluster, place: Place) -> None:
    """Make it, and what reaches the machine: in the node's folder seed.disk, ssh_config, key."""
    folder = f"{HOME}/{place.name}"
    home = cluster.sandbox.root.path(folder)
    seed = home / "seed"
    (seed / "bin").mkdir(parents=True)
    for program in ("kubelet", "kube-proxy"):
        shutil.copy(cluster.programs / program, seed / "bin")
    shutil.copy(Path(__file__).with_name("node.sh"), seed / "init")
    for key in (home / "key", seed / "host_key"):
        command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
    shutil.copy(home / "key.pub", seed / "authorized_keys")
    for name, user in (("kubelet", place.user), ("kube-proxy", "system:kube-proxy")):
        cluster.write_kubeconfig(f"{folder}/seed/{name}.kubeconfig", user)
    for name, text in _files(place).items():
        (seed / name).write_text(text)
    command("mkfs.ext4", "-q", "-d", seed, home / "seed.disk", "256M")
    shutil.rmtree(seed)
    (home / "ssh_config").write_text(_SSH.format(address=place.address, folder=folder))


def _files(place: Place) -> dict[str, str]:
    kubelet = place.kubelet_words("/node/kubelet.json", "/node/kubelet.kubeconfig")
    proxy = place.proxy_words("/node/kube-proxy.kubeconfig")
    settings = {
        "NAME": place.name,
        "ADDRESS": place.address,
        "GATEWAY": CONTROL_ADDRESS,
        "PAGES": PAGES,
    }
    return {
        "settings": "".join(f"{name}={value}\n" for name, value in settings.items()),
        "sshd_config": _SSHD,
        "pods.conflist": json.dumps(place.cni()),
        "containerd.toml": containerd("/var/lib/containerd", IMAGE),
        "kubelet.json": json.dumps(_kubelet(place)),
        "kubelet.words": "\n".join(("kubelet", *kubelet)),
        "kube-proxy.words": "\n".join(("kube-proxy", *proxy)),
    }


def _kubelet(place: Place) -> dict[str, object]:
    reserved = {"numaNode": 0, "limits": {"memory": _RESERVED_MEMORY}}
    return {
        **place.kubelet(_RESERVED),
        "memoryManagerPolicy": "Static",
        "reservedMemory": [reserved],
        "systemReserved": {"memory": _RESERVED_MEMORY},
    }


# One connection for all commands.
_SSH = """\
Host *
HostName {address}
User root
IdentityFile {folder}/key
BatchMode yes
ConnectTimeout 20
ControlMaster auto
ControlPath {folder}/ssh
ControlPersist yes
LogLevel ERROR
ServerAliveInterval 5
StrictHostKeyChecking no
UserKnownHostsFile /dev/null
"""
_SSHD = """\
HostKey /node/host_key
AuthorizedKeysFile /node/authorized_keys
PermitRootLogin yes
StrictModes no
UsePAM no
"""
