# SPDX-License-Identifier: Apache-2.0
"""The switch at the other end of the machine's wire, with node-a and blue's machines at it."""

from headrace_demo.lab import cable
from tests.cluster.sandbox import Namespace
from tests.cluster.site import Site
from tests.e2e.conftest import VM1, VM2, VM3
from tests.sriov.machine import Machine

_SWITCH = "fabric"


def plug(site: Site, machine: Machine) -> None:
    """Plug all in: vm1 into node-a, vm2 and vm3 into the switch, as what is behind a VF is."""
    cluster = site.cluster
    (node,) = cluster.nodes
    root = cluster.sandbox.root
    root.ip(f"link add {_SWITCH} type bridge mcast_snooping 0")
    _silent(root, _SWITCH)
    cable(node.namespace, "uplink0", root, "uplink")
    site.machines |= {
        "blue/vm1": cluster.endpoint("blue/vm1", VM1, node.namespace),
        "blue/vm2": cluster.endpoint("blue/vm2", VM2, root),
        "blue/vm3": cluster.endpoint("blue/vm3", VM3, root),
    }
    for device in (machine.wire.device, "uplink", "blue-vm2", "blue-vm3"):
        _silent(root, device)
        root.ip(f"link set {device} master {_SWITCH}")
    root.ip(f"link set {_SWITCH} up")


def _silent(namespace: Namespace, device: str) -> None:
    namespace.command("sysctl", "-qw", f"net.ipv6.conf.{device}.disable_ipv6=1")
