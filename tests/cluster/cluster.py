# SPDX-License-Identifier: Apache-2.0
"""A Kubernetes cluster of real programs on this machine, its nodes in namespaces.

    python -m tests.cluster.cluster run [--nodes N] [--image TAR] COMMAND...  for one command
    python -m tests.cluster.cluster up [--nodes N] [--image TAR]              in the background
    python -m tests.cluster.cluster down

etcd, API server, controller manager and scheduler share a network namespace; each node has one of
its own, with containerd, kubelet and kube-proxy. Needs root.
"""

import argparse
import base64
import contextlib
import fcntl
import json
import os
import secrets
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

from headrace_cli.errors import CommandError
from headrace_demo.lab import command
from tests.cluster.node_settings import CONTROL_ADDRESS, NODE_SECONDS, Place, containerd
from tests.cluster.sandbox import Daemon, Namespace, Sandbox, cable, until

REPOSITORY = Path(__file__).parents[2]
STATE = REPOSITORY / "build/cluster"
"""Where `up` leaves its kubeconfig, log and lock."""
HOME = "/run/cluster"
"""Of all that a cluster writes; a path of the inside (in memory), see Namespace.path."""
IMAGE = "localhost/probe:1"
STATIC_PODS = "/var/static"
"""Folder of a node: pods that its kubelet runs by itself."""
"""On every node, see probe.c: `/probe` sleeps, `/probe serve PORT TEXT`, `/probe cat FILE`,
`/probe hugepages MIB`."""
HUGEPAGES = 1024
"""Of 2 MiB, on the machine; all nodes of all clusters advertise the same ones. HUGEPAGES sets
another number."""

_SERVICES = "198.19.0.0/16"
_PORT = 6443
_COMPONENTS = ("kube-controller-manager", "kube-scheduler", "kube-proxy")
_SECONDS = 90.0
_CGROUPS = Path("/sys/fs/cgroup")
_CPU_SHARES, _CPU_WEIGHT = "4096", "400"
"""Of a node, in control groups of version 1 and 2: as four processes. With the most there is, the
engines of nodes would leave nothing to those of other tests on the same processor."""
_CONTROLLERS = ("cpuset", "cpu", "io", "memory", "hugetlb", "pids")
# What a kubelet insists on; each gets to see it without a change to the machine.
_KUBELET_SYSCTLS = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}


def build() -> Path:
    """Build what a cluster consists of, unless it is there, and return its folder.

    Takes minutes the first time and says so on stderr. Raises CommandError.
    """
    script = Path(__file__).with_name("build.sh")
    done = subprocess.run(
        [script],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        env={**os.environ, "PYTHON": sys.executable},
    )
    if done.returncode != 0:
        raise CommandError(f"{script}: status {done.returncode}, see above")
    return Path(done.stdout.strip())


class Api:
    """An API server, and kubectl and helm that talk to it."""

    def __init__(self, kubeconfig: Path, environment: dict[str, str] | None = None) -> None:
        """Programs come from the PATH of `environment` (default: that of this process)."""
        self.kubeconfig = kubeconfig
        self.environment = {**os.environ, **(environment or {}), "KUBECONFIG": str(kubeconfig)}
        """For programs on this machine: KUBECONFIG, PATH with kubectl and helm, their caches."""

    def kubectl(self, *words: str | Path, stdin: str = "", seconds: float = _SECONDS) -> str:
        """Run kubectl and return its output. Raises CommandError with all of its stderr."""
        return self._run("kubectl", *words, stdin=stdin, seconds=seconds)

    def wait(self, *words: str | Path, seconds: float = _SECONDS) -> None:
        """Have kubectl wait, for longer than it does by itself. Raises CommandError."""
        self.kubectl("wait", *words, f"--timeout={seconds:.0f}s", seconds=seconds + 10)

    def helm(self, *words: str | Path, stdin: str = "", seconds: float = 5 * _SECONDS) -> str:
        """Run helm and return its output. Raises CommandError with all of its stderr."""
        return self._run("helm", *words, stdin=stdin, seconds=seconds)

    @contextlib.contextmanager
    def fresh_namespace(self) -> Iterator[str]:
        """Make a namespace in which pods can be made; it goes with all that is in it."""
        name = f"test-{secrets.token_hex(4)}"
        self.kubectl("create", "namespace", name)
        self.wait("--for=create", "serviceaccount/default", "-n", name)
        try:
            yield name
        finally:
            # CPUs and hugepages are free again when this returns.
            self.kubectl("delete", "daemonset,deployment,pod", "--all", "-n", name)
            self.wait("--for=delete", "pod", "--all", "-n", name)
            self.kubectl("delete", "namespace", name, "--wait=false")

    def _run(self, program: str, *words: str | Path, stdin: str, seconds: float) -> str:
        found = shutil.which(program, path=self.environment["PATH"])
        if found is None:
            raise CommandError(f"{program} is not installed")
        return command(found, *words, environment=self.environment, stdin=stdin, seconds=seconds)


class Node:
    """A node: a network namespace with mounts, control groups and CPUs of its own."""

    def __init__(self, cluster: "Cluster", number: int, cpus: set[int], reserved: set[int]) -> None:
        """Make it, with containerd and its images; `join` makes it a node of the cluster."""
        self._place = Place(number)
        self.name = self._place.name
        self.address = self._place.address
        self.cpus = cpus
        """What its kubelet gives to pods exclusively; no other node's."""
        self.daemons: dict[str, Daemon] = {}
        """containerd, kubelet and kube-proxy."""
        self._cluster = cluster
        self._reserved = reserved
        self._home = f"{HOME}/{self.name}"
        self._cgroup = f"{cluster.sandbox.name}-{self.name}"
        self._make_disk()
        _make_cgroup(self._cgroup)
        self._boot()

    def reboot(self) -> None:
        """Lose power, and start again with what is on the disk. Cables to other nodes are gone.

        Returns when containerd listens; wait for the kubelet elsewhere. Raises CommandError.
        """
        until(self._dead, f"{self.name}: no process is left", _SECONDS)
        for daemon in self.daemons.values():
            daemon.wait()
        until(self._emptied, f"{self.name}: no control group is left", _SECONDS)
        # The kernel removes a namespace's devices a while after its last process.
        root = self._cluster.sandbox.root
        until(lambda: not root.has(self.name), f"{self.name} has no cable", _SECONDS)
        self._boot()
        self.join()

    def load_images(self, *tars: Path) -> None:
        """Import images (docker-archive or OCI tars)."""
        for tar in tars:
            with tar.open("rb") as file:
                done = subprocess.run(
                    self.namespace.words("ctr", "--namespace=k8s.io", "images", "import", "-"),
                    stdin=file,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                    check=False,
                )
            if done.returncode != 0:
                raise CommandError(f"{self.name}: {tar}: {done.stdout.strip()}")

    def join(self) -> None:
        """Start kubelet and kube-proxy; wait for Ready elsewhere."""
        kubeconfig = f"{self._home}/kubeconfig"
        self._cluster.write_kubeconfig(kubeconfig, self._place.user)
        self._write("kubelet.json", self._kubelet_configuration())
        configuration = f"{self._home}/kubelet.json"
        self._start("kubelet", *self._place.kubelet_words(configuration, kubeconfig))
        self._start("kube-proxy", *self._place.proxy_words(f"{HOME}/kube-proxy"))

    def revive(self) -> None:
        """Start daemons that have ended, as systemd does: kubelets do where containerd is slow."""
        for daemon in self.daemons.values():
            if daemon.ended:
                daemon.start()

    def _start(self, program: str, *words: str) -> None:
        self.daemons[program] = self._cluster.daemon(
            self.namespace, program, *words, log=f"{self.name}-{program}"
        )

    def _write(self, name: str, content: object) -> None:
        text = content if isinstance(content, str) else json.dumps(content)
        self.namespace.path(f"{self._home}/{name}").write_text(text)

    def _make_disk(self) -> None:
        var = self._cluster.sandbox.root.path(f"{self._home}/var")
        for folder in ("lib", "log", "tmp", "cache", "cni/bin", "cni/net.d", "static"):
            (var / folder).mkdir(parents=True)
        (var / "run").symlink_to("/run")
        for program in Path("/usr/lib/cni").iterdir():
            # The node agent adds its own.
            (var / "cni/bin" / program.name).symlink_to(program)
        (var / "cni/net.d/10-pods.conflist").write_text(json.dumps(self._place.cni()))

    def _boot(self) -> None:
        self.namespace = self._cluster.sandbox.namespace(mounts=True)
        self._mounts = os.readlink(f"/proc/{self.namespace.pid}/ns/mnt")
        self._make_network()
        self._make_mounts()
        self._start_containerd()

    def _dead(self) -> bool:
        """Kill what runs on it; True when nothing does."""
        found = False
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if (
                    os.readlink(process / "ns/mnt") == self._mounts
                    or self._cgroup in (process / "cgroup").read_text()
                ):
                    os.kill(int(process.name), signal.SIGKILL)
                    found = True
        return not found

    def _emptied(self) -> bool:
        """Remove its containers' control groups; True when there is none."""
        found = False
        for own in (*_CGROUPS.glob(self._cgroup), *_CGROUPS.glob(f"*/{self._cgroup}")):
            for folder, _, _ in os.walk(own, topdown=False):
                if Path(folder) != own:
                    found = True
                    # One that a process is just leaving is busy.
                    with contextlib.suppress(OSError):
                        os.rmdir(folder)
        return not found

    def _make_network(self) -> None:
        root = self._cluster.sandbox.root
        cable(self.namespace, "eth0", root, self.name)
        root.ip(f"link set {self.name} master br0")
        root.ip(f"route replace {self._place.pods} via {self.address}")
        self.namespace.ip(f"address add {self.address}/24 dev eth0")
        self.namespace.ip(f"route add default via {CONTROL_ADDRESS}")
        self.namespace.command("sysctl", "-qw", "net.ipv4.ip_forward=1")
        # Devices that are plugged in later say nothing before they are configured.
        self.namespace.command("sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1")

    def _make_mounts(self) -> None:
        commands = [
            f"mount --bind {self._home}/var /var",
            "mkdir -p /run/containerd /run/headrace",
            "mount -t tmpfs tmpfs /run/containerd",
            "mount -t tmpfs tmpfs /run/headrace",
            "mount -t tmpfs tmpfs /run/netns",
        ]
        for name, value in _KUBELET_SYSCTLS.items():
            file = f"{self._home}/{name.replace('/', '.')}"
            commands += [f"echo {value} >{file}", f"mount --bind {file} /proc/sys/{name}"]
        self.namespace.command("bash", "-euc", "\n".join(commands))

    def _start_containerd(self) -> None:
        # Adjusting it needs CAP_SYS_RESOURCE.
        more = "restrict_oom_score_adj = true"
        self._write("containerd.toml", containerd(f"{self._home}/containerd", IMAGE, more))
        self._start("containerd", "--config", f"{self._home}/containerd.toml")
        listens = self.namespace.path("/run/containerd/containerd.sock").exists
        until(listens, f"{self.name}: containerd listens", _SECONDS)

    def _kubelet_configuration(self) -> dict[str, object]:
        return {
            **self._place.kubelet(self._reserved),
            "cgroupRoot": f"/{self._cgroup}",
            "failCgroupV1": False,
            # Adjusting it needs CAP_SYS_RESOURCE.
            "oomScoreAdj": 0,
            "staticPodPath": STATIC_PODS,
        }


class Cluster(Api):
    """A cluster that lasts as long as this object and its process; use it as a context manager.

    With no nodes: an API server, with controllers (so garbage is collected) and no scheduler.
    """

    def __init__(self, nodes: int = 2, more: int = 0) -> None:
        """Start it; returns when all nodes are Ready. Raises CommandError.

        `more` nodes are somebody else's to make: they have the next places, and accounts.
        """
        if os.geteuid() != 0:
            raise CommandError("a cluster needs root: it makes namespaces and control groups")
        shares = _share_cpus(nodes)
        folder = build()
        self.programs = folder / "bin"
        """Where those of Kubernetes are."""
        self.image = folder / "probe.tar"
        """IMAGE, for nodes."""
        hugepages = int(os.environ.get("HUGEPAGES", HUGEPAGES)) if nodes else 0
        self.sandbox = Sandbox(hugepages)
        self.nodes: list[Node] = []
        self._daemons: dict[str, Daemon] = {}
        self._tokens: dict[str, str] = {}
        home = self.sandbox.root.path(HOME)
        self.logs = home / "log"
        super().__init__(
            home / "kubeconfig",
            {
                "PATH": f"{self.programs}:{os.environ['PATH']}",
                "KUBECACHEDIR": str(home / "cache/kubectl"),
                "HELM_CACHE_HOME": str(home / "cache/helm"),
                "HELM_CONFIG_HOME": str(home / "cache/helm-config"),
                "HELM_DATA_HOME": str(home / "cache/helm-data"),
            },
        )
        self.server = f"https://{CONTROL_ADDRESS}:{_PORT}"
        """The API server, from inside the sandbox."""
        self.inner_kubeconfig = f"{HOME}/admin"
        """For programs inside the sandbox."""
        try:
            self._start(shares, more)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End everything and leave nothing; HEADRACE_TEST_LOGS names a folder for the logs."""
        keep = os.environ.get("HEADRACE_TEST_LOGS")
        if keep and self.logs.exists():
            shutil.copytree(self.logs, Path(keep) / self.sandbox.name)
        self.sandbox.close()
        for daemon in self._daemons.values():
            daemon.wait()

    def node(self, name: str) -> Node:
        """Return the node, e.g. "node-a"."""
        return next(node for node in self.nodes if node.name == name)

    def load_images(self, *tars: Path) -> None:
        """Import images (docker-archive or OCI tars) on every node."""
        for node in self.nodes:
            node.load_images(*tars)

    def stop_api_server(self) -> None:
        """Kill the API server; its objects stay in etcd."""
        self._daemons["kube-apiserver"].stop()

    def start_api_server(self) -> None:
        """Start the API server again, at the same address, and wait until it answers."""
        self._daemons["kube-apiserver"].start()
        self._wait_for_api_server()
        # A controller that was still starting ends; elsewhere a kubelet starts it again.
        for daemon in self._daemons.values():
            if daemon.ended:
                daemon.start()

    def get(self, url: str, *, namespace: Namespace | None = None) -> tuple[int, str]:
        """Fetch a URL from inside (default: the network that the nodes are in): status, text.

        Services are reached from a node's namespace. Raises CommandError.
        """
        context = None
        try:
            if url.startswith("https:"):
                context = ssl.create_default_context(cafile=self._certificate)
            opener = urllib.request.build_opener(
                urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
            )
            with (namespace or self.sandbox.root).entered(), opener.open(url, timeout=10) as reply:
                return reply.status, reply.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError as error:
            raise CommandError(f"{url}: {error}") from error

    def endpoint(self, name: str, addresses: tuple[str, ...], where: Namespace) -> Namespace:
        """Make a machine ("tenant/name") with a cable to a node, as headrace_demo.lab does.

        The device is eth0 in the machine and "tenant-name" in the node's namespace, for AFPacket.
        """
        machine = self.sandbox.namespace()
        device = name.replace("/", "-")
        cable(machine, "eth0", where, device, mtu=1460)
        for address in addresses:
            length = 128 if ":" in address else 32
            machine.ip(f"address add {address}/{length} dev eth0 nodad")
        machine.ip("route add default via 10.0.0.1 dev eth0 onlink")
        machine.ip("-6 route add default via fe80::1 dev eth0")
        return machine

    def join(self, one: Node, other: Node, device: str = "uplink0") -> None:
        """Join two nodes by a cable, the underlay."""
        cable(one.namespace, device, other.namespace, device)

    def daemon(
        self,
        namespace: Namespace,
        program: str | Path,
        *words: str,
        log: str,
        pass_fds: tuple[int, ...] = (),
    ) -> Daemon:
        """Start a program whose end is an error while the cluster starts."""
        found = shutil.which(program, path=self.environment["PATH"])
        if found is None:
            raise CommandError(f"{program} is not installed: make setup")
        self._daemons[log] = Daemon(namespace, self.logs / log, found, *words, pass_fds=pass_fds)
        return self._daemons[log]

    def write_kubeconfig(self, path: str, user: str, server: str = "") -> None:
        """Write a kubeconfig for a user of the token file to a path of the inside."""
        certificate = base64.b64encode(self._certificate.read_bytes()).decode()
        cluster = {"server": server or self.server, "certificate-authority-data": certificate}
        self.sandbox.root.path(path).write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [{"name": "headrace", "cluster": cluster}],
                    "users": [{"name": "user", "user": {"token": self._tokens[user]}}],
                    "contexts": [
                        {"name": "headrace", "context": {"cluster": "headrace", "user": "user"}}
                    ],
                    "current-context": "headrace",
                }
            )
        )

    @property
    def _certificate(self) -> Path:
        return self.sandbox.root.path(f"{HOME}/certificates/apiserver.crt")

    def _start(self, shares: list[set[int]], more: int) -> None:
        root = self.sandbox.root
        self.logs.mkdir()
        root.ip("link add br0 type bridge")
        root.ip(f"address add {CONTROL_ADDRESS}/24 dev br0")
        root.ip("link set br0 up")
        root.command("sysctl", "-qw", "net.ipv4.ip_forward=1")
        self._write_tokens(len(shares) + more)
        self._start_api_server()
        for number, share in enumerate(shares, 1):
            reserved = {*range(os.cpu_count() or 1)} - share
            self.nodes.append(Node(self, number, share, reserved))
        self.load_images(self.image)
        self._wait_for_api_server()
        self._open_door()
        self._start_controllers()
        for node in self.nodes:
            node.join()
        try:
            for node in self.nodes:
                self.wait("--for=create", f"node/{node.name}")
            if self.nodes:
                self.wait("--for=condition=Ready", "node", "--all")
        except CommandError:
            for daemon in self._daemons.values():
                daemon.check()
            raise

    def _write_tokens(self, nodes: int) -> None:
        groups = {"admin": "system:masters"}
        groups |= {Place(number).user: "system:nodes" for number in range(1, nodes + 1)}
        groups |= {f"system:{component}": "" for component in _COMPONENTS}
        self._tokens = {user: secrets.token_hex(16) for user in groups}
        self.sandbox.root.path(f"{HOME}/tokens.csv").write_text(
            "".join(
                f'{self._tokens[user]},{user},{user},"{group}"\n' for user, group in groups.items()
            )
        )
        key = f"{HOME}/serviceaccount.key"
        self.sandbox.root.command("openssl", "genrsa", "-out", key, "2048")

    def _start_api_server(self) -> None:
        root = self.sandbox.root
        etcd = "http://127.0.0.1:2379"
        self.daemon(
            root,
            "etcd",
            f"--data-dir={HOME}/etcd",
            f"--listen-client-urls={etcd}",
            f"--advertise-client-urls={etcd}",
            log="etcd",
        )
        self.daemon(
            root,
            "kube-apiserver",
            f"--etcd-servers={etcd}",
            f"--secure-port={_PORT}",
            f"--advertise-address={CONTROL_ADDRESS}",
            f"--cert-dir={HOME}/certificates",
            f"--service-account-key-file={HOME}/serviceaccount.key",
            f"--service-account-signing-key-file={HOME}/serviceaccount.key",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-cluster-ip-range={_SERVICES}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            f"--token-auth-file={HOME}/tokens.csv",
            "--allow-privileged=true",
            "--kubelet-preferred-address-types=InternalIP",
            log="kube-apiserver",
        )

    def _wait_for_api_server(self) -> None:
        def ready() -> bool:
            for name in ("etcd", "kube-apiserver"):
                self._daemons[name].check()
            try:
                return self.get(f"{self.server}/readyz")[0] == 200
            except CommandError:
                return False

        until(ready, "the API server is ready", _SECONDS)

    def _open_door(self) -> None:
        """Let the host reach the API server at a port of its own."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            self.daemon(
                self.sandbox.root,
                sys.executable,
                str(Path(__file__).with_name("proxy.py")),
                *(str(listener.fileno()), CONTROL_ADDRESS, str(_PORT)),
                log="proxy",
                pass_fds=(listener.fileno(),),
            )
        # A name that the API server's own certificate has.
        self.write_kubeconfig(f"{HOME}/kubeconfig", "admin", f"https://localhost:{port}")
        self.write_kubeconfig(self.inner_kubeconfig, "admin")

    def _start_controllers(self) -> None:
        for component in _COMPONENTS:
            self.write_kubeconfig(f"{HOME}/{component}", f"system:{component}")
        self.daemon(
            self.sandbox.root,
            "kube-controller-manager",
            f"--kubeconfig={HOME}/kube-controller-manager",
            "--authentication-kubeconfig=",
            f"--service-account-private-key-file={HOME}/serviceaccount.key",
            "--use-service-account-credentials=true",
            f"--root-ca-file={HOME}/certificates/apiserver.crt",
            f"--flex-volume-plugin-dir={HOME}/plugins",
            "--leader-elect=false",
            # A node that dies is missed soon.
            f"--node-monitor-grace-period={NODE_SECONDS}s",
            # One that never was is not: tests make nodes that no kubelet keeps.
            "--node-startup-grace-period=1h",
            log="kube-controller-manager",
        )
        if self.nodes:
            self.daemon(
                self.sandbox.root,
                "kube-scheduler",
                f"--kubeconfig={HOME}/kube-scheduler",
                "--leader-elect=false",
                log="kube-scheduler",
            )


def _share_cpus(nodes: int) -> list[set[int]]:
    """Give each node CPUs of its own; what it reserves for its system are the others'."""
    cpus = list(range(os.cpu_count() or 1))
    if nodes and len(cpus) < max(nodes, 2):
        raise CommandError(f"{nodes} nodes need {max(nodes, 2)} CPUs, here are {len(cpus)}")
    if nodes == 1:
        return [{*cpus[1:]}]
    return [
        {*cpus[index * len(cpus) // nodes : (index + 1) * len(cpus) // nodes]}
        for index in range(nodes)
    ]


def _make_cgroup(name: str) -> None:
    """Make a control group in every hierarchy; the sandbox removes it."""
    if (_CGROUPS / "cgroup.controllers").exists():
        for controller in _CONTROLLERS:
            with contextlib.suppress(OSError):
                (_CGROUPS / "cgroup.subtree_control").write_text(f"+{controller}")
        (_CGROUPS / name).mkdir()
        (_CGROUPS / name / "cpu.weight").write_text(_CPU_WEIGHT)
        return
    for hierarchy in _CGROUPS.glob("*/tasks"):
        (hierarchy.parent / name).mkdir(exist_ok=True)
    for file in ("cpuset.cpus", "cpuset.mems"):
        inherited = (_CGROUPS / "cpuset" / file).read_text()
        (_CGROUPS / "cpuset" / name / file).write_text(inherited)
    # Pods that request no CPU weigh next to nothing, and would never start beside other tests.
    (_CGROUPS / "cpu" / name / "cpu.shares").write_text(_CPU_SHARES)


def _run(nodes: int, images: Sequence[Path], command: Sequence[str]) -> int:
    with Cluster(nodes) as cluster:
        cluster.load_images(*images)
        ending = ("setpriv", "--pdeathsig", "TERM", *command)
        return subprocess.run(ending, env=cluster.environment, check=False).returncode


def _up(nodes: int, images: Sequence[Path]) -> int:
    build()
    STATE.mkdir(parents=True, exist_ok=True)
    kubeconfig = STATE / "kubeconfig"
    with (STATE / "lock").open("a") as lock:
        if not _locked(lock.fileno()):
            raise CommandError("a cluster is up already: make cluster-down")
        kubeconfig.unlink(missing_ok=True)
    words = [f"--nodes={nodes}", *(f"--image={image.absolute()}" for image in images)]
    with (STATE / "log").open("w") as log:
        holder = subprocess.Popen(
            [sys.executable, "-m", "tests.cluster.cluster", "hold", *words],
            cwd=REPOSITORY,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    begun = time.monotonic()
    until(
        lambda: kubeconfig.exists() or holder.poll() is not None,
        f"the cluster is up, see {STATE / 'log'}",
        3 * _SECONDS,
    )
    if holder.poll() is not None:
        raise CommandError(f"it did not start:\n{(STATE / 'log').read_text().strip()}")
    # It is meant to outlive this process.
    holder.returncode = 0
    print(
        f"{nodes} nodes, up in {time.monotonic() - begun:.0f} s; logs in {STATE / 'logs'}\n\n"
        f"  export KUBECONFIG={kubeconfig} PATH={build() / 'bin'}:$PATH\n"
        f"  kubectl get nodes\n\nmake cluster-down ends it."
    )
    return 0


def _hold(nodes: int, images: Sequence[Path]) -> int:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    with (STATE / "lock").open("w") as lock:
        if not _locked(lock.fileno()):
            raise CommandError("a cluster is up already: make cluster-down")
        print(os.getpid(), file=lock, flush=True)
        with Cluster(nodes) as cluster:
            cluster.load_images(*images)
            logs = STATE / "logs"
            logs.unlink(missing_ok=True)
            logs.symlink_to(cluster.logs)
            new = STATE / "kubeconfig.new"
            new.touch(mode=0o600)
            new.write_text(cluster.kubectl("config", "view", "--raw", "--flatten"))
            new.rename(STATE / "kubeconfig")
            signal.sigwait({signal.SIGTERM})
        logs.unlink()
        (STATE / "kubeconfig").unlink()
    return 0


def _down() -> int:
    with contextlib.suppress(FileNotFoundError), (STATE / "lock").open() as lock:
        if not _locked(lock.fileno()):
            os.kill(int(lock.read()), signal.SIGTERM)
            fcntl.flock(lock, fcntl.LOCK_EX)
    return 0


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("build", "run", "up", "hold", "down"):
        command = commands.add_parser(name)
        if name in ("run", "up", "hold"):
            command.add_argument("--nodes", type=int, default=2, help="default: 2")
            command.add_argument("--image", type=Path, action="append", default=[], metavar="TAR")
        if name == "run":
            command.add_argument("words", nargs=argparse.REMAINDER, metavar="COMMAND")
    given = parser.parse_args()
    try:
        match given.command:
            case "build":
                print(build())
                return 0
            case "run":
                return _run(given.nodes, given.image, given.words)
            case "up":
                return _up(given.nodes, given.image)
            case "hold":
                return _hold(given.nodes, given.image)
            case _:
                return _down()
    except CommandError as error:
        print(f"cluster: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
