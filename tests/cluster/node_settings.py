# SPDX-License-Identifier: Apache-2.0
"""What the programs of a node are told, whatever the node is made of."""

from collections.abc import Iterable
from dataclasses import dataclass
from string import ascii_lowercase

# 198.18.0.0/15 is for tests of networks (RFC 2544).
CONTROL_ADDRESS = "198.18.0.254"
"""Of the control plane, on the bridge that all nodes are at."""
NODE_SECONDS = 20
"""After so many a node whose kubelet is silent is not Ready."""


@dataclass(frozen=True)
class Place:
    """A node's place in the cluster."""

    number: int
    """From 1."""

    @property
    def name(self) -> str:
        """node-a, node-b, ...: the examples' names."""
        return f"node-{ascii_lowercase[self.number - 1]}"

    @property
    def user(self) -> str:
        """As whom its kubelet comes."""
        return f"system:node:{self.name}"

    @property
    def address(self) -> str:
        """At the bridge, of a /24."""
        return f"198.18.0.{self.number}"

    @property
    def pods(self) -> str:
        """Where its pods have their addresses."""
        return f"10.244.{self.number}.0/24"

    def cni(self) -> dict[str, object]:
        """Return its CNI configuration."""
        return {
            "cniVersion": "1.0.0",
            "name": "pods",
            "plugins": [
                {
                    "type": "bridge",
                    "bridge": "cni0",
                    "isGateway": True,
                    "ipMasq": True,
                    "ipam": {
                        "type": "host-local",
                        "ranges": [[{"subnet": self.pods}]],
                        "routes": [{"dst": "0.0.0.0/0"}],
                    },
                }
            ],
        }

    def kubelet(self, reserved: Iterable[int]) -> dict[str, object]:
        """Return its kubelet's configuration: static CPU manager, all on one NUMA node.

        `reserved` are the CPUs that no pod gets for itself.
        """
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
            "authorization": {"mode": "AlwaysAllow"},
            "cgroupDriver": "cgroupfs",
            "clusterDNS": ["198.19.0.10"],
            "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
            "cpuManagerPolicy": "static",
            "evictionHard": {"nodefs.available": "1%", "imagefs.available": "1%"},
            "failSwapOn": False,
            "nodeLeaseDurationSeconds": NODE_SECONDS,
            "reservedSystemCPUs": ",".join(map(str, sorted(reserved))),
            "resolvConf": "",
            "syncFrequency": "10s",
            "topologyManagerPolicy": "single-numa-node",
            "topologyManagerScope": "pod",
            "volumePluginDir": "/var/lib/kubelet/plugins",
        }

    def kubelet_words(self, configuration: str, kubeconfig: str) -> tuple[str, ...]:
        """Return its kubelet's options; the files are paths of the node."""
        return (
            f"--config={configuration}",
            f"--kubeconfig={kubeconfig}",
            f"--hostname-override={self.name}",
            # With a loopback address exec and logs fail.
            f"--node-ip={self.address}",
        )

    def proxy_words(self, kubeconfig: str) -> tuple[str, ...]:
        """Return its kube-proxy's options."""
        return (
            f"--kubeconfig={kubeconfig}",
            "--proxy-mode=nftables",
            f"--hostname-override={self.name}",
            # The host's to set, not ours.
            "--conntrack-max-per-core=0",
            "--conntrack-tcp-timeout-established=0",
            "--conntrack-tcp-timeout-close-wait=0",
        )


def containerd(root: str, image: str, more: str = "") -> str:
    """Return containerd's configuration: where it keeps images, and the pause image.

    `more` are lines of its CRI plugin.
    """
    return f"""\
version = 2
root = "{root}"
state = "/run/containerd"
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{image}"
  {more}
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/var/cni/bin"
    conf_dir = "/var/cni/net.d"
"""
