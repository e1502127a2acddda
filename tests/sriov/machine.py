# SPDX-License-Identifier: Apache-2.0
"""A virtual machine with an SR-IOV NIC that is a node of a cluster.

The NIC is QEMU's igb, an Intel 82576 with 7 VFs, behind an IOMMU; its wire is a device of the
sandbox. All is emulated, as KVM is often not to be had: what takes a second on this machine takes
ten there.
"""

import json
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from headrace_cli.errors import CommandError
from headrace_demo.lab import command
from tests.cluster.cluster import HOME, Cluster
from tests.cluster.node_settings import Place
from tests.cluster.sandbox import until
from tests.sriov.disks import build, image_disk
from tests.sriov.hardware import NIC, options
from tests.sriov.monitor import ask
from tests.sriov.seed import make_seed
from tests.sriov.wire import Wire

DEVICES = "/sys/bus/pci/devices"
SECONDS = 300.0
"""For what an emulated processor does in one minute at most."""


@dataclass(frozen=True)
class PF:
    """The physical function of the NIC."""

    address: str
    """Its PCI address."""
    name: str
    """Of its network device."""

    @property
    def path(self) -> str:
        """Its folder in sysfs."""
        return f"{DEVICES}/{self.address}"


class Machine:
    """The machine; it ends with the cluster."""

    def __init__(self, cluster: Cluster, images: Sequence[Path]) -> None:
        """Start it as the node after the cluster's own, one of `more`, with images.

        Wait for it to be ready elsewhere. Raises CommandError.
        """
        self.place = Place(len(cluster.nodes) + 1)
        self._cluster = cluster
        self._home = f"{HOME}/{self.name}"
        self._root = cluster.sandbox.root
        self._make_network()
        make_seed(cluster, self.place)
        folders = (build(), HOME, self.name, image_disk(cluster, [cluster.image, *images]))
        words = (*map(str, folders), *options(self.name, self.wire.device))
        script = Path(__file__).with_name("qemu.sh")
        self.qemu = cluster.daemon(self._root, script, *words, log=self.name)

    @property
    def name(self) -> str:
        """Its name in the cluster."""
        return self.place.name

    def run(self, *words: str, stdin: str = "", seconds: float = SECONDS) -> str:
        """Run a program in the machine and return its output. Raises CommandError when it fails.

        It ends with this call, unless it left its standard output.
        """
        there = shlex.join(words)
        ssh = self._root.words("ssh", "-F", f"{self._home}/ssh_config", self.name, there)
        return command(*ssh, stdin=stdin, seconds=seconds)

    def run_image(self, image: str, *words: str, stdin: str = "", seconds: float = SECONDS) -> str:
        """Run a program of an image with all of the machine: its devices, processes, network.

        Raises CommandError when it fails.
        """
        return self.run("bash", "-euc", _IMAGE, "bash", image, *words, stdin=stdin, seconds=seconds)

    def carrier(self, device: str) -> bool:
        """Whether a network device that is up has a carrier."""
        return self.run("cat", f"/sys/class/net/{device}/carrier").strip() == "1"

    def pf(self) -> PF:
        """Return where the NIC is."""
        files = self.run("bash", "-c", f"echo {DEVICES}/*/sriov_totalvfs {DEVICES}/*/net/*")
        (address,) = (each.split("/")[-2] for each in files.split() if each.endswith("totalvfs"))
        path = f"{DEVICES}/{address}"
        (name,) = (each.split("/")[-1] for each in files.split() if each.startswith(f"{path}/net/"))
        return PF(address, name)

    def ready(self) -> None:
        """Wait until it is a Ready node, as it was started last. Raises CommandError."""
        until(self._answers, f"{self.name} answers, see the log {self.qemu.log}", SECONDS)
        boot = self.run("cat", "/proc/sys/kernel/random/boot_id").strip()
        until(lambda: self._registered(boot), f"{self.name} is Ready since its start", SECONDS)

    def reboot(self) -> None:
        """Lose power, and start again with what is on the disks; wait for `ready` elsewhere.

        All is on the disks: container runtimes unpack images without asking for that.
        """
        self.run("sync")
        self.qemu.stop()
        self._root.path(f"{self._home}/ssh").unlink(missing_ok=True)
        self.qemu.start()

    def pf_link(self, up: bool) -> None:
        """Plug the wire into the PF, or pull it out: the guest sees the carrier come or go."""
        ask(self._root.path(f"{self._home}/monitor"), "set_link", name=NIC, up=up)

    def _answers(self) -> bool:
        self.qemu.check()
        try:
            return self.run("true", seconds=30.0) == ""
        except CommandError:
            return False

    def _registered(self, boot: str) -> bool:
        self.qemu.check()
        try:
            node = json.loads(self._cluster.kubectl("get", "node", self.name, "-o", "json"))
        except CommandError:
            return False
        states = {each["type"]: each["status"] for each in node["status"].get("conditions", ())}
        return node["status"]["nodeInfo"]["bootID"] == boot and states.get("Ready") == "True"

    def _make_network(self) -> None:
        root = self._root
        root.ip(f"tuntap add dev {self.name} mode tap")
        root.ip(f"link set {self.name} master br0 up")
        root.ip(f"route replace {self.place.pods} via {self.place.address}")
        self.wire = Wire(root)
        """The PF's."""


@contextmanager
def addressed(machine: Machine, device: str, address: str) -> Iterator[None]:
    """Have a network device of the machine up, with a carrier and an address; then neither."""
    machine.run("ip", "address", "replace", f"{address}/24", "dev", device)
    machine.run("ip", "link", "set", device, "up")
    try:
        until(lambda: machine.carrier(device), f"{device} has a carrier", SECONDS)
        yield
    finally:
        machine.run("ip", "address", "flush", "dev", device)


# A root of its own would hide processes, devices and the kubelet's files.
_IMAGE = """\
image=$1 root=$(mktemp -d /run/image.XXXXXX)
shift
trap 'ctr --namespace=k8s.io images unmount --rm "$root" >/dev/null; rmdir "$root"' EXIT
ctr --namespace=k8s.io images mount --rw "$image" "$root" >/dev/null
unshare --mount bash -euc '
	cd "$1"
	shift
	for folder in dev node proc run sys tmp var/lib/kubelet; do
		mkdir -p $folder
		mount --rbind /$folder $folder
	done
	PATH=/opt/headrace/bin:$PATH exec chroot . "$@"' bash "$root" "$@"
"""
