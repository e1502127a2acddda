# SPDX-License-Identifier: Apache-2.0
"""Headrace as a user has it: the chart, an example, and the tenants' machines on two nodes."""

import json
import os
import signal
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from headrace_cli.errors import CommandError
from headrace_demo.lab import Pinger
from tests.cluster.chart import CHART, NAMESPACE
from tests.cluster.cluster import Cluster, Node
from tests.cluster.images import Images
from tests.cluster.sandbox import Namespace, only_child, until
from tests.e2e.conftest import VM1, VM2, echoes

REPOSITORY = Path(__file__).parents[2]
EXAMPLE = REPOSITORY / "deploy/examples/two-nodes"
RED_ONLY = ("10.0.0.9", "fd00:10::9")
"""Addresses that red/vm2 has, and nobody in blue."""
SECONDS = 240.0
"""For what takes seconds, on a busy machine."""
PIPELINE = "router"
PODS = ("-n", NAMESPACE, "-l", f"headrace.dev/pipeline={PIPELINE}")
OPERATOR = ("-n", NAMESPACE, "-l", "app.kubernetes.io/component=operator")
NODE_AGENT: dict[str, Any] = {
    "nodeAgent.enabled": True,
    # The nodes have one CPU each.
    "nodeAgent.resources.requests.cpu": "0",
    # The test cluster's.
    "nodeAgent.cni.binDirectory": "/var/cni/bin",
    "nodeAgent.cni.confDirectory": "/var/cni/net.d",
}
"""Values of the chart, for pods in networks."""
# What the cluster itself makes in every namespace, or remembers of what was.
_NOT_OURS = {"events", "events.events.k8s.io"}
_KINDS = ("devicepolicies", "pipelines", "underlayendpoints", "virtualnetworks", "interfaces")


class Named(Protocol):
    """A node, whatever it is made of."""

    @property
    def name(self) -> str:
        """Return its name in the cluster."""
        ...


class Site:
    """A cluster with Headrace in it; blue's machines and red's are plugged in, one on each node."""

    def __init__(self, cluster: Cluster, images: Images) -> None:
        """Nothing is installed yet; the images are on the nodes."""
        self.cluster = cluster
        self.nodes = tuple(cluster.nodes)
        self._images = images
        self.machines: dict[str, Namespace] = {}

    def plug(self, tenants: Sequence[str] = ("blue", "red")) -> None:
        """Give the nodes an underlay, and each tenant a machine on each."""
        node_a, node_b = self.nodes
        self.cluster.join(node_a, node_b)
        for tenant in tenants:
            second = (*VM2, *RED_ONLY) if tenant == "red" else VM2
            for number, (node, addresses) in enumerate(((node_a, VM1), (node_b, second)), 1):
                name = f"{tenant}/vm{number}"
                self.machines[name] = self.cluster.endpoint(name, addresses, node.namespace)

    def unplug(self) -> None:
        """Take all cables out."""
        for name in self.machines:
            node = self.nodes[int(name[-1]) - 1]
            node.namespace.ip(f"link delete {name.replace('/', '-')}")
        self.machines.clear()
        self.nodes[0].namespace.ip("link delete uplink0")

    def values(self, **more: Any) -> list[str]:
        """Options of helm: our images, and no CPU for the operator: the nodes have one each."""
        operator, dataplane = self._images.operator.name, self._images.dataplane.name
        given: dict[str, Any] = {
            "operator.image.tag": operator.rpartition(":")[2],
            "dataplane.image.tag": dataplane.rpartition(":")[2],
            "operator.resources.requests.cpu": "0",
            **more,
        }
        return [
            word
            for key, value in given.items()
            for word in ("--set-json", f"{key}={json.dumps(value)}")
        ]

    def install(self, chart: Path = CHART, **more: Any) -> None:
        """Install the chart, and wait as helm does."""
        self.cluster.helm(
            *("install", "headrace", chart, "-n", NAMESPACE, "--create-namespace", "--wait"),
            *("--timeout", "6m", *self.values(**more)),
        )

    def upgrade(self, chart: Path = CHART, **more: Any) -> None:
        """Upgrade the release, and wait as helm does."""
        self.cluster.helm(
            *("upgrade", "headrace", chart, "-n", NAMESPACE, "--wait", "--timeout", "6m"),
            *self.values(**more),
        )

    def apply(self, path: Path = EXAMPLE) -> None:
        """Apply an example as it stands, and wait until all of it is Ready."""
        self.cluster.kubectl("apply", "-f", path)
        self.ready()

    def ready(self) -> None:
        """Wait until every object of Headrace's is Ready."""
        for kind in (
            "devicepolicies",
            "pipelines",
            "underlayendpoints",
            "virtualnetworks",
            "interfaces",
        ):
            if not self.get(kind, "-A"):
                continue
            try:
                self.cluster.kubectl(
                    *("wait", kind, "--all", "-A", "--for=condition=Ready"),
                    *("--timeout", f"{SECONDS:.0f}s"),
                    seconds=SECONDS + 10,
                )
            except Exception as error:
                raise AssertionError(f"{error}\n{self.report()}") from error

    def get(self, *words: str) -> Any:
        """Objects, as kubectl gives them: one, or the items of a list."""
        found = json.loads(self.cluster.kubectl("get", *words, "-o", "json"))
        return found["items"] if found["kind"].endswith("List") else found

    def pods(self, *selector: str) -> list[Any]:
        """Pods that are not about to go: the dataplane's, or those selected."""
        found = self.get("pods", *(selector or PODS))
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def pod(self, node: Named) -> Any:
        """The dataplane pod of a node, whichever Pipeline's."""
        pods = self.pods("-n", NAMESPACE, "-l", "app.kubernetes.io/component=dataplane")
        (found,) = (pod for pod in pods if pod["spec"]["nodeName"] == node.name)
        return found

    def exec(self, node: Named, *words: str) -> str:
        """Run a command in the dataplane pod of a node."""
        name = self.pod(node)["metadata"]["name"]
        return self.cluster.kubectl("exec", "-n", NAMESPACE, name, "--", *words)

    def leader(self) -> str:
        """Name of the operator's pod that leads."""
        lease = self.get("lease", "headrace-operator", "-n", NAMESPACE)
        return str(lease["spec"].get("holderIdentity", "")).partition("_")[0]

    def processes(self, node: Node, program: str) -> list[int]:
        """The host's numbers of a program's processes in the dataplane pods of a node."""
        pods = {
            pod["metadata"]["uid"]
            for pod in self.get("pods", *PODS)
            if pod["spec"]["nodeName"] == node.name
        }
        return processes(pods, program)

    @contextmanager
    def lossless(self, *pairs: tuple[str, str, str]) -> Iterator[None]:
        """Have (sender, receiver, address) ping all the while; fail when one packet is lost.

        Counted by the machines' own kernels: as many arrive as were sent, and as many answers.
        """
        pairs = pairs or (("blue/vm1", "blue/vm2", VM2[0]), ("red/vm2", "red/vm1", VM1[0]))
        for sender, _, address in pairs:
            self.machines[sender].command("ping", "-c", "3", "-w", "60", address)
        before = [self._counts(sender, receiver) for sender, receiver, _ in pairs]
        pingers = [ClusterPinger(self, sender, address) for sender, _, address in pairs]
        try:
            for pinger in pingers:
                pinger.wait(100)
            yield
            for pinger in pingers:
                pinger.wait(100)
        finally:
            results = [pinger.stop() for pinger in pingers]

        def lost() -> list[tuple[int, int]]:
            after = [self._counts(sender, receiver) for sender, receiver, _ in pairs]
            changes = [
                tuple(new - old for new, old in zip(now, then, strict=True))
                for now, then in zip(after, before, strict=True)
            ]
            return [(sent - got, got - answers) for sent, got, answers in changes]

        deadline = time.monotonic() + 5.0
        while any(map(any, lost())) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not any(map(any, lost())), f"lost {lost()} of {results}\n{self.report()}"

    def _counts(self, sender: str, receiver: str) -> tuple[int, int, int]:
        out, into = echoes(self.machines[sender]), echoes(self.machines[receiver])
        return out["OutEchos"], into["InEchos"], out["InEchoReps"]

    def report(self) -> str:
        """What there is, for the message of a test that fails."""
        words: Sequence[tuple[str, ...]] = (
            ("get", "headrace", "-A", "-o", "wide"),
            ("get", "pods", "-A", "-o", "wide"),
            ("get", "events", "-A", "--sort-by=.lastTimestamp"),
            ("logs", *OPERATOR, "--tail=15", "--prefix"),
            ("logs", *PODS, "--tail=15", "--prefix"),
        )
        parts = []
        for command in words:
            try:
                parts.append(self.cluster.kubectl(*command))
            except Exception as error:
                parts.append(str(error))
        for node in self.nodes:
            for what in ("drops", "interfaces"):
                try:
                    parts.append(f"{node.name}: {self.exec(node, 'headrace', what)}")
                except Exception as error:
                    parts.append(str(error))
            lines = node.daemons["kubelet"].log.read_text(errors="replace").splitlines()
            parts.append("\n".join((f"{node.name}'s kubelet:", *lines[-15:])))
        return "\n".join(parts)

    def clear(self) -> None:
        """Remove objects and chart; returns when nothing is left."""
        for path in sorted(EXAMPLE.parent.iterdir()):
            self.cluster.kubectl("delete", "-f", path, "--ignore-not-found", "--wait=false")
        self.cluster.helm("uninstall", "headrace", "-n", NAMESPACE, "--ignore-not-found", "--wait")
        self.gone()
        # Pods that do not heed SIGTERM take their time, and the next module has the same tenants.
        tenants = "namespace/blue", "namespace/red"
        self.cluster.kubectl(
            *("wait", "--for=delete", *tenants, f"--timeout={SECONDS:.0f}s"), seconds=SECONDS + 10
        )

    def gone(self) -> None:
        """Wait until nothing of Headrace is left but its CRDs."""
        try:
            until(lambda: not self.left(), "everything of Headrace is gone", SECONDS)
        except CommandError as error:
            raise AssertionError(f"{error}: {self.left()}") from error

    def left(self) -> list[str]:
        """What is in Headrace's namespace."""
        kinds = self.cluster.kubectl(
            *("api-resources", "--namespaced", "--verbs=list,delete", "-o", "name")
        ).split()
        listed = self.cluster.kubectl(
            *("get", ",".join(sorted({*kinds} - _NOT_OURS)), "-n", NAMESPACE, "-o", "name"),
            "--ignore-not-found",
        )
        return sorted({*listed.split()} - {"configmap/kube-root-ca.crt", "serviceaccount/default"})


def processes(groups: Iterable[str], *programs: str) -> list[int]:
    """The host's numbers of the programs' processes in control groups with such a part."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            group = (path / "cgroup").read_text()
            words = (path / "cmdline").read_bytes().decode().split("\0")
        except OSError:
            continue
        if {os.path.basename(word) for word in words[:2]} & {*programs} and any(
            part in group for part in groups
        ):
            found.append(int(path.name))
    return sorted(found)


class ClusterPinger(Pinger):
    """Pings from a machine of the sandbox."""

    def __init__(self, site: Site, sender: str, address: str, interval: float = 0.01) -> None:
        super().__init__(site.cluster.sandbox, site.machines[sender], address, interval)

    def _interrupt(self) -> None:
        # nsenter, which started it, would not pass the signal on.
        os.kill(only_child(self._process.pid), signal.SIGINT)
