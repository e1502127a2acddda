# SPDX-License-Identifier: Apache-2.0
"""The DevicePolicy of the tests, and what came of it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace_api import NodeState
from headrace_api.node_state import NodeStateStatus
from tests.cluster.chart import NAMESPACE
from tests.cluster.sandbox import until
from tests.cluster.site import Site
from tests.sriov.machine import DEVICES, SECONDS, Machine

MANIFEST = Path(__file__).with_name("policy.yaml")
NAME = "igb"
RESOURCE = "headrace.dev/igb"
VFS = 5
"""So many it asks for."""
NODE_AGENT = ("-n", NAMESPACE, "-l", "app.kubernetes.io/component=node")


@dataclass(frozen=True)
class VF:
    """A virtual function, as the kernel has it."""

    address: str
    """Its PCI address."""
    mac: str
    """As the PF says."""
    driver: str
    group: str
    """Its IOMMU group."""


def vfs(machine: Machine) -> list[VF]:
    """Return the VFs that there are. Raises CommandError, as while they are made."""
    pf = machine.pf()
    count = int(machine.run("cat", f"{pf.path}/sriov_numvfs"))
    links = [f"{pf.path}/virtfn{index}" for index in range(count)]
    (link,) = json.loads(machine.run("ip", "-json", "link", "show", pf.name))
    macs = {each["vf"]: each["address"] for each in link.get("vfinfo_list", ())}
    found = []
    for index, line in enumerate(machine.run("readlink", *links).split() if links else ()):
        address = line.rpartition("/")[2]
        of = f"{DEVICES}/{address}"
        names = machine.run("readlink", f"{of}/driver", f"{of}/iommu_group").split()
        driver, group = (name.rpartition("/")[2] for name in names)
        found.append(VF(address, macs[index], driver, group))
    return found


def patch(site: Site, **spec: Any) -> None:
    """Change the policy's spec."""
    body = json.dumps({"spec": spec})
    site.cluster.kubectl("patch", "devicepolicy", NAME, "--type=merge", "-p", body)


def ready(site: Site) -> dict[str, Any]:
    """Return the policy's condition Ready, {} while that is of an older generation."""
    item = site.get("devicepolicy", NAME)
    for each in item.get("status", {}).get("conditions", ()):
        if each["type"] == "Ready" and each["observedGeneration"] == item["metadata"]["generation"]:
            return dict(each)
    return {}


def becomes(site: Site, status: str, reason: str) -> dict[str, Any]:
    """Wait until the policy's newest generation is so, and return the condition."""

    def so() -> bool:
        said = ready(site)
        return (said.get("status"), said.get("reason")) == (status, reason)

    until(so, f"the DevicePolicy is {status}, {reason}", SECONDS)
    return ready(site)


def node_status(site: Site, machine: Machine) -> NodeStateStatus:
    """Return what the machine's agent says."""
    state = NodeState.read(site.get("nodestate", machine.name))
    assert state.status is not None
    return state.status


def allocatable(site: Site, machine: Machine) -> int:
    """Return how many VFs the kubelet has for pods."""
    found = site.get("node", machine.name)["status"]["allocatable"]
    return int(found.get(RESOURCE, 0))
