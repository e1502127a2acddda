# SPDX-License-Identifier: Apache-2.0
"""A virtual machine with an SR-IOV NIC that is a node of a cluster.

The NIC is QEMU's igb, an Intel 82576 with 7 VFs, behind an IOMMU; its wire is a device of the
sandbox. All is emulated, as KVM is often not to be had: what takes a second on this machine takes
ten there.
"""

import json
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from headrace_cli.errors import CommandError
from headrace_demo.lab import command
from tests.cluster.cluster import HOME, IMAGE, Cluster
from tests.cluster.node_settings import CONTROL_ADDRESS, Place, containerd
from tests.cluster.sandbox import until
from tests.sriov.disks import build, image_disk
from tests.sriov.monitor import ask
from tests.sriov.wire import Wire

PAGES = 256
"""Hugepages of 2 MiB on each NUMA node."""
CPUS = ((0, 1), (2, 3))
"""By NUMA node; the first is the system's."""
NIC_NUMA_NODE = 1
TOTAL_VFS = 7
SECONDS = 300.0
"""For what an emulated processor does in one minute at most."""
_RESERVED = {CPUS[0][0]}
_MEMORY_MIB = 2560
"""Of each NUMA node."""
_RESERVED_MEMORY = "256Mi"
DEVICES = "/sys/bus/pci/devices"
_IOMMU = "intel_iommu=on iommu=pt"
_PF = "pf"
"""QEMU's name of the NIC."""
_MAC = "02:00:00:00:01:00"
_BUS = "bus=pcie.0"
"""Of all but the NIC."""
_TAP = "script=no,downscript=no"
# See qemu.sh.
_CLUSTER, _BUILT = "/mnt", "/srv"


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
        self.name = self.place.name
        self._cluster = cluster
        self._built = build()
        self._home = f"{HOME}/{self.name}"
        self._root = cluster.sandbox.root
        images_disk = image_disk(cluster, [cluster.image, *images])
        self._make_network()
        self._make_disks()
        folders = (str(self._built), HOME, self.name, str(images_disk))
        script = Path(__file__).with_name("qemu.sh")
        self.qemu = cluster.daemon(self._root, script, *folders, *self._qemu_words(), log=self.name)

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
        """Lose power, and start again with what is on the disks; wait for `ready` elsewhere."""
        self.qemu.stop()
        self._root.path(f"{self._home}/ssh").unlink(missing_ok=True)
        self.qemu.start()

    def pf_link(self, up: bool) -> None:
        """Plug the wire into the PF, or pull it out: the guest sees the carrier come or go."""
        ask(self._root.path(f"{self._home}/monitor"), "set_link", name=_PF, up=up)

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

    def _make_disks(self) -> None:
        home = self._root.path(self._home)
        seed = home / "seed"
        (seed / "bin").mkdir(parents=True)
        for program in ("kubelet", "kube-proxy"):
            shutil.copy(self._cluster.programs / program, seed / "bin")
        shutil.copy(Path(__file__).with_name("node.sh"), seed / "init")
        for key in (home / "key", seed / "host_key"):
            command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
        shutil.copy(home / "key.pub", seed / "authorized_keys")
        for name, user in (("kubelet", self.place.user), ("kube-proxy", "system:kube-proxy")):
            self._cluster.write_kubeconfig(f"{self._home}/seed/{name}.kubeconfig", user)
        kubelet = self.place.kubelet_words("/node/kubelet.json", "/node/kubelet.kubeconfig")
        files = {
            "settings": f"NAME={self.name}\nADDRESS={self.place.address}\n"
            f"GATEWAY={CONTROL_ADDRESS}\nPAGES={PAGES}\n",
            "sshd_config": _SSHD,
            "pods.conflist": json.dumps(self.place.cni()),
            "containerd.toml": containerd("/var/lib/containerd", IMAGE),
            "kubelet.json": json.dumps(self._kubelet_configuration()),
            "kubelet.words": "\n".join(("kubelet", *kubelet)),
            "kube-proxy.words": "\n".join(
                ("kube-proxy", *self.place.proxy_words("/node/kube-proxy.kubeconfig"))
            ),
        }
        for name, text in files.items():
            (seed / name).write_text(text)
        ssh = _SSH.format(address=self.place.address, home=self._home)
        (home / "ssh_config").write_text(ssh)
        command("mkfs.ext4", "-q", "-d", seed, home / "seed.disk", "256M")
        shutil.rmtree(seed)

    def _kubelet_configuration(self) -> dict[str, object]:
        reserved = {"numaNode": 0, "limits": {"memory": _RESERVED_MEMORY}}
        return {
            **self.place.kubelet(_RESERVED),
            "memoryManagerPolicy": "Static",
            "reservedMemory": [reserved],
            "systemReserved": {"memory": _RESERVED_MEMORY},
        }

    def _qemu_words(self) -> tuple[str, ...]:
        numa = []
        for node, cpus in enumerate(CPUS):
            memory = f"memory-backend-ram,id=memory{node},size={_MEMORY_MIB}M"
            numa += ["-object", memory, "-numa", f"node,nodeid={node},memdev=memory{node}"]
            for core, _ in enumerate(cpus):
                numa += ["-numa", f"cpu,node-id={node},socket-id={node},core-id={core}"]
        sockets, cores = len(CPUS), len(CPUS[0])
        disks = []
        for name, form in (("root", "qcow2"), ("seed", "raw"), ("images", "qcow2")):
            file = f"file={_CLUSTER}/{self.name}/{name}.disk,if=none,id={name},format={form}"
            disks += ["-drive", file, "-device", f"virtio-blk-pci,{_BUS},drive={name}"]
        return (
            *(
                "-accel",
                "tcg,thread=multi",
                "-cpu",
                "max",
                "-machine",
                "q35,kernel-irqchip=split,sata=off,smbus=off",
            ),
            *("-smp", f"{sockets * cores},sockets={sockets},cores={cores},threads=1"),
            *("-m", f"{len(CPUS) * _MEMORY_MIB}M", *numa),
            *("-nodefaults", "-display", "none", "-no-reboot"),
            *("-kernel", f"{_BUILT}/vmlinuz", "-initrd", f"{_BUILT}/initrd"),
            *("-append", f"console=ttyS0 panic=-1 no_timer_check {_IOMMU}"),
            *("-device", "intel-iommu,intremap=on,caching-mode=on", *disks),
            *("-serial", "stdio", "-device", f"virtio-serial-pci,{_BUS}"),
            *("-chardev", f"file,id=services,path={_CLUSTER}/log/{self.name}-services"),
            *("-device", "virtserialport,chardev=services"),
            *("-qmp", f"unix:{_CLUSTER}/{self.name}/monitor,server=on,wait=off"),
            *("-netdev", f"tap,id=net,ifname={self.name},{_TAP}"),
            *("-device", f"virtio-net-pci,{_BUS},netdev=net,romfile="),
            *("-device", f"pxb-pcie,id=pxb,bus_nr=128,numa_node={NIC_NUMA_NODE}"),
            *("-device", "pcie-root-port,id=root1,bus=pxb"),
            # Frames on the wire are whole: checksums and segments are the NIC's to make.
            *("-netdev", f"tap,id=wire,ifname={self.wire.device},{_TAP},vnet_hdr=off"),
            *("-device", f"igb,id={_PF},bus=root1,netdev=wire,mac={_MAC}"),
        )


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
# One connection for all commands.
_SSH = """\
Host *
HostName {address}
User root
IdentityFile {home}/key
BatchMode yes
ConnectTimeout 20
ControlMaster auto
ControlPath {home}/ssh
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
