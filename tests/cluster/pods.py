# SPDX-License-Identifier: Apache-2.0
"""Pods in networks: what is in them, and frames that they should not send."""

import json
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace_api import pod_device
from tests.cluster.cluster import IMAGE, Node
from tests.cluster.sandbox import CommandError, Namespace, until
from tests.cluster.site import REPOSITORY, SECONDS, Site

EXAMPLE = REPOSITORY / "deploy/examples/pods"
TOOLBOX = "ghcr.io/headrace/toolbox:0.3.0"
"""What the example's pods run: ping, ip, iperf3 and more."""
GATEWAY_MAC = "02:68:72:00:00:01"
"""Of every gateway, on every node."""
_ETH_P_ALL = 3
_SO_RCVBUFFORCE = 33


@dataclass(frozen=True)
class Pod:
    """A pod that runs, and its first Interface."""

    site: Site
    node: Node
    key: str
    """namespace/name."""
    uid: str
    address: str
    """In the cluster's own network."""
    interface: str
    """Name of the Interface, in the pod's namespace."""
    addresses: tuple[str, ...]
    """Of the Interface: IPv4, IPv6."""
    shell: Namespace
    """The network namespace and the files of its first container, as root."""

    @property
    def host_device(self) -> str:
        """The other end of net1, on the node."""
        return pod_device(f"{self.key.partition('/')[0]}/{self.interface}")

    @property
    def mac(self) -> str:
        """Of net1."""
        return str(self.link()["address"])

    def run(self, *words: str) -> str:
        """Run a program of the pod's image. Raises CommandError when it fails."""
        return self.shell.command(*words)

    def link(self, device: str = "net1") -> dict[str, Any]:
        """A device of the pod, as `ip -json link` has it."""
        (found,) = json.loads(self.run("ip", "-json", "link", "show", device))
        return dict(found)

    def counter(self, name: str) -> int:
        """A counter of the pod's kernel, such as IcmpInEchos or Icmp6InEchos."""
        for line in self.run("cat", "/proc/net/snmp6").splitlines():
            if line.split()[0] == name:
                return int(line.split()[1])
        lines = self.run("cat", "/proc/net/snmp", "/proc/net/netstat").splitlines()
        for names, values in zip(lines[::2], lines[1::2], strict=True):
            group = names.split()[0].removesuffix(":")
            found = dict(zip(names.split()[1:], values.split()[1:], strict=True))
            if name.removeprefix(group) in found and name.startswith(group):
                return int(found[name.removeprefix(group)])
        raise KeyError(name)

    def echoes(self) -> int:
        """How many pings have reached it."""
        return self.counter("IcmpInEchos") + self.counter("Icmp6InEchos")

    def send(self, *frames: bytes) -> None:
        """Send frames out of net1, whatever they say."""
        with (
            self.shell.entered(),
            socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw,
        ):
            raw.bind(("net1", 0))
            for frame in frames:
                raw.send(frame)

    def drops(self) -> dict[str, int]:
        """Packets of its node's dataplane that were dropped, by reason."""
        found = json.loads(self.site.exec(self.node, "headrace", "drops", "-o", "json"))
        return {str(reason): int(count) for reason, count in found.items()}


@contextmanager
def sniffing(
    spaces: Mapping[str, Namespace], marks: Sequence[bytes]
) -> Iterator[Callable[[], set[tuple[str, str, bytes]]]]:
    """See frames of all devices of namespaces; yields what returns all that was seen so far.

    That is (name of the namespace, device, mark) for frames that contain one of the marks.
    """
    with ExitStack() as stack:
        sockets = {}
        for name, space in spaces.items():
            with space.entered():
                raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
            sockets[name] = stack.enter_context(raw)
            raw.setblocking(False)
            # A node's traffic of a while.
            raw.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 1 << 23)
        found: set[tuple[str, str, bytes]] = set()

        def seen() -> set[tuple[str, str, bytes]]:
            for name, raw in sockets.items():
                with suppress(BlockingIOError):
                    while True:
                        frame, (device, *_) = raw.recvfrom(1 << 16)
                        found.update((name, device, mark) for mark in marks if mark in frame)
            return found

        yield seen


@contextmanager
def known(site: Site, *members: Pod) -> Iterator[None]:
    """Have pods among the machines of a site, by their keys."""
    site.machines |= {pod.key: pod.shell for pod in members}
    try:
        yield
    finally:
        for pod in members:
            del site.machines[pod.key]


def pods(site: Site, namespace: str, selector: str = "") -> list[Pod]:
    """The pods of a namespace (of a selector) that have an Interface, by the name of their node."""
    interfaces: dict[str, Any] = {}
    for item in site.get("interfaces", "-n", namespace):
        interfaces.setdefault(item["spec"]["attachment"]["pod"]["name"], item)
    found = []
    for item in site.pods("-n", namespace, *(("-l", selector) if selector else ())):
        interface = interfaces.get(item["metadata"]["name"])
        if interface is not None:
            found.append(_pod(site, item, interface))
    return sorted(found, key=lambda pod: (pod.node.name, pod.key))


def apply_example(site: Site) -> None:
    """Have blue's pods and red's, Ready."""
    site.cluster.kubectl("apply", "-f", EXAMPLE)
    for tenant in ("blue", "red"):
        rolled_out(site, "deployment/web", tenant)
    wait(site, "pod/db", "-n", "red")


def rolled_out(site: Site, workload: str, namespace: str) -> None:
    """Wait until all pods of a Deployment or the like (kind/name) are new and ready."""
    _wait(site, "rollout", "status", workload, "-n", namespace)


def wait(site: Site, *words: str) -> None:
    """Wait until pods, as kubectl names them, are Ready."""
    _wait(site, "wait", *words, "--for=condition=Ready")


def manifest(name: str, networks: str, **spec: Any) -> dict[str, Any]:
    """A pod, of blue, that does nothing, with an annotation; `spec` adds to its spec."""
    container = {"name": "c", "image": spec.pop("image", IMAGE), "imagePullPolicy": "IfNotPresent"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": spec.pop("namespace", "blue"),
            "labels": {"test": name},
            "annotations": {"headrace.dev/networks": networks} if networks else {},
        },
        "spec": {"containers": [container], **spec},
    }


@contextmanager
def running(site: Site, *manifests: dict[str, Any]) -> Iterator[list[Pod]]:
    """Have pods of the toolbox, Ready, in their order."""
    for item in manifests:
        item["spec"]["containers"][0]["image"] = TOOLBOX
        item["spec"]["terminationGracePeriodSeconds"] = 1
        site.cluster.kubectl("apply", "-f", "-", stdin=json.dumps(item))
    try:
        found = []
        for item in manifests:
            name, namespace = item["metadata"]["name"], item["metadata"]["namespace"]
            wait(site, f"pod/{name}", "-n", namespace)
            found += pods(site, namespace, f"test={name}")
        yield found
    finally:
        for item in manifests:
            site.cluster.kubectl("delete", "-f", "-", stdin=json.dumps(item))


def _wait(site: Site, *words: str) -> None:
    try:
        site.cluster.kubectl(*words, f"--timeout={SECONDS:.0f}s", seconds=SECONDS + 10)
    except CommandError as error:
        raise AssertionError(f"{error}\n{site.report()}") from error


def iperf3(client: Pod, server: str, *words: str) -> Any:
    """Run a client until the server, which serves one at a time, takes it; return its report."""
    said = [""]

    def done() -> bool:
        try:
            said[0] = client.run("iperf3", "--client", server, "--json", *words)
        except CommandError as error:
            said[0] = str(error)
            return False
        return True

    try:
        until(done, f"iperf3 reaches {server}", SECONDS)
    except CommandError as error:
        raise AssertionError(f"{error}: {said[0]}") from error
    return json.loads(said[0])


def _pod(site: Site, item: Any, interface: Any) -> Pod:
    metadata = item["metadata"]
    (container, *_) = item["status"]["containerStatuses"]
    return Pod(
        site=site,
        node=site.cluster.node(item["spec"]["nodeName"]),
        key=f"{metadata['namespace']}/{metadata['name']}",
        uid=metadata["uid"],
        address=item["status"]["podIP"],
        interface=interface["metadata"]["name"],
        addresses=tuple(interface["status"]["addresses"]),
        shell=Namespace.of(_process(container["containerID"].rpartition("/")[2])),
    )


def _process(container: str) -> int:
    """The host's number of the first process of a container."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if container not in (path / "cgroup").read_text():
                continue
            status = (path / "status").read_text()
        except OSError:
            continue
        (numbers,) = (line for line in status.splitlines() if line.startswith("NSpid:"))
        if numbers.split()[-1] == "1":
            return int(path.name)
    raise AssertionError(f"container {container} has no process, as {os.getpid()} sees it")
