# SPDX-License-Identifier: Apache-2.0
"""The demo's cluster: one that kind makes, or one that is there."""

import json
import os
import shutil
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

import yaml

from deploy.kind.images import Image
from deploy.kind.terminal import REPOSITORY, Terminal
from headrace_cli.errors import CommandError

BUILD = REPOSITORY / "build/kind"
"""Where the demo writes what it applies."""
UPLINK = "uplink0"
"""The underlay's device on each node that has a dataplane, as deploy/examples name it."""
_CONFIG = Path(__file__).with_name("kind.yaml")
_LABEL = "headrace.dev/dataplane"
_VXLAN = 4096
# No IPv6, no answer to ARP, nothing taken in whose answer would leave elsewhere, nothing forwarded.
_SILENCE = " ".join(
    f"net/{setting}"
    for setting in (
        f"ipv6/conf/{UPLINK}/disable_ipv6=1",
        f"ipv4/conf/{UPLINK}/arp_ignore=8",
        f"ipv4/conf/{UPLINK}/rp_filter=1",
        f"ipv4/conf/{UPLINK}/forwarding=0",
    )
)
_GRAFANA = 3000


class Cluster(Protocol):
    """What differs between a cluster that is made for the demo and another one."""

    labels: Mapping[str, str]
    """Of the nodes that get a dataplane; none: all nodes."""
    grafana: str
    """How to reach Grafana."""

    def create(self) -> None:
        """Have it, and KUBECONFIG in the environment."""

    def load(self, images: Iterable[Image]) -> None:
        """Have images on its nodes."""

    def connect(self) -> int | None:
        """Have an underlay between its nodes, and return its MTU in bytes; None: the usual."""

    def delete(self) -> bool:
        """Remove it, if it is the demo's; else False: what the demo made in it is still there."""


class Existing:
    """A cluster that is there, with the images and a device uplink0 on each node."""

    labels: Mapping[str, str] = MappingProxyType({})
    grafana = "kubectl -n monitoring port-forward service/grafana 3000, then http://localhost:3000"

    def __init__(self, terminal: Terminal, kubeconfig: Path) -> None:
        """Take the current context of a kubeconfig. Raises CommandError."""
        if not kubeconfig.is_file():
            raise CommandError(f"--kubeconfig {kubeconfig}: there is no such file")
        self._terminal = terminal
        self._kubeconfig = kubeconfig.absolute()

    def create(self) -> None:
        """Look whether it answers."""
        _use(self._terminal, self._kubeconfig)
        self._terminal.run("kubectl", "get", "nodes")

    def load(self, images: Iterable[Image]) -> None:
        """Nothing: how depends on the cluster."""

    def connect(self) -> int | None:
        """Nothing, likewise."""
        return None

    def delete(self) -> bool:
        """Leave it."""
        os.environ["KUBECONFIG"] = str(self._kubeconfig)
        return False


class Kind:
    """A cluster of kind's: one control plane, two workers, each a container."""

    labels: Mapping[str, str] = MappingProxyType({_LABEL: "true"})

    def __init__(
        self, terminal: Terminal, name: str, node_image: str | None, port: int | None
    ) -> None:
        """Nothing is made yet; `port` of this machine leads to Grafana."""
        self._terminal = terminal
        self._name = name
        self._node_image = node_image
        self._port = port
        self._kubeconfig = BUILD / "kubeconfig"
        self.grafana = f"http://localhost:{port}"
        self._runtime = runtime()

    def create(self) -> None:
        """Create it, unless it is there."""
        named = ("--name", self._name, "--kubeconfig", self._kubeconfig)
        if self._name in self._terminal.ask("kind", "get", "clusters").split():
            self._terminal.say(f"The cluster {self._name} is there already.")
            self._terminal.run("kind", "export", "kubeconfig", *named)
        else:
            image = ("--image", self._node_image) if self._node_image else ()
            config = ("--config", self._config(), "--wait", "5m")
            self._terminal.run(
                *("kind", "create", "cluster", *named, *config, *image),
                keep="✓",
                hint="`kind create cluster --retain` keeps the nodes' logs.",
            )
        _use(self._terminal, self._kubeconfig)
        self._terminal.run(
            *("kubectl", "wait", "nodes", "--all", "--for=condition=Ready", "--timeout=3m")
        )

    def load(self, images: Iterable[Image]) -> None:
        """Copy the images that are tars onto all nodes."""
        for image in images:
            if image.tar is not None:
                self._terminal.run("kind", "load", "image-archive", image.tar, "--name", self._name)

    def connect(self) -> int | None:
        """Make uplink0 on both workers, the two ends of a VXLAN over the nodes' own network.

        The nodes' kernels keep out of it, and do not merge the packets that arrive.
        """
        nodes = json.loads(
            self._terminal.ask("kubectl", "get", "nodes", "-l", f"{_LABEL}=true", "-o", "json")
        )["items"]
        addresses = {
            node["metadata"]["name"]: next(
                each["address"]
                for each in node["status"]["addresses"]
                if each["type"] == "InternalIP"
            )
            for node in nodes
        }
        for name in addresses:
            (peer,) = (address for node, address in addresses.items() if node != name)
            vxlan = f"type vxlan id {_VXLAN} dstport 4789 remote {peer} dev eth0"
            script = (
                f"ip link show {UPLINK} >/dev/null 2>&1 ||",
                f"  ip link add {UPLINK} {vxlan}",
                f"sysctl -qw {_SILENCE}",
                f"ethtool -K {UPLINK} gro off",
                f"ip link set {UPLINK} up",
            )
            self._terminal.run(
                *(self._runtime, "exec", name, "sh", "-euc", "\n    ".join(("", *script))),
                hint="The kernel of this machine may lack vxlan: modprobe vxlan.",
            )
        words = ("cat", f"/sys/class/net/{UPLINK}/mtu")
        return min(
            int(self._terminal.ask(self._runtime, "exec", name, *words)) for name in addresses
        )

    def delete(self) -> bool:
        """Delete it with all that is in it."""
        self._terminal.run(
            "kind", "delete", "cluster", "--name", self._name, "--kubeconfig", self._kubeconfig
        )
        return True

    def _config(self) -> Path:
        if self._port == _GRAFANA and _is_free(self._port):
            return _CONFIG
        config = yaml.safe_load(_CONFIG.read_text())
        ((mapping,),) = (
            node["extraPortMappings"] for node in config["nodes"] if "extraPortMappings" in node
        )
        if self._port is None:
            del config["nodes"][0]["extraPortMappings"]
        elif not _is_free(self._port):
            raise CommandError(
                f"port {self._port} of this machine is in use: another for Grafana by "
                "--grafana-port, or --without-grafana"
            )
        else:
            mapping["hostPort"] = self._port
        path = BUILD / "kind.yaml"
        path.write_text(yaml.safe_dump(config, sort_keys=False))
        return path


def runtime() -> str:
    """Return who runs kind's nodes: as KIND_EXPERIMENTAL_PROVIDER says, or docker, or podman."""
    name = os.environ.get("KIND_EXPERIMENTAL_PROVIDER", "")
    if not name and shutil.which("podman") and not shutil.which("docker"):
        name = os.environ["KIND_EXPERIMENTAL_PROVIDER"] = "podman"
    return name or "docker"


def _use(terminal: Terminal, kubeconfig: Path) -> None:
    os.environ["KUBECONFIG"] = str(kubeconfig)
    terminal.show(f"export KUBECONFIG={kubeconfig}")


def _is_free(port: int) -> bool:
    try:
        with socket.create_server(("127.0.0.1", port)):
            return True
    except OSError:
        return False
