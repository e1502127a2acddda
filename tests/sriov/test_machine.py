# SPDX-License-Identifier: Apache-2.0
"""What the other tests of this folder rely on: a real node with a real NIC, as emulated ones go."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.chart import NAMESPACE
from tests.cluster.cluster import Cluster
from tests.cluster.images import Images
from tests.cluster.sandbox import CommandError, until
from tests.cluster.site import Site
from tests.sriov.arp import answers, who_has
from tests.sriov.doctor import WRONG, findings
from tests.sriov.hardware import CPUS, NIC_NUMA_NODE, PAGES, TOTAL_VFS
from tests.sriov.machine import SECONDS, Machine, addressed

PF_ADDRESS, WIRE_ADDRESS = "192.0.2.1", "192.0.2.2"
"""Of the PF's network device, and of who asks for it."""


@pytest.fixture
def pf_up(machine: Machine) -> Iterator[str]:
    """Name of the PF's network device, which is up, has a carrier and an address."""
    pf = machine.pf()
    with addressed(machine, pf.name, PF_ADDRESS):
        yield pf.name


def node_agent(site: Site, machine: Machine) -> Any:
    """The node agent's pod on the machine."""
    selector = ("-n", NAMESPACE, "-l", "app.kubernetes.io/component=node")
    (found,) = (pod for pod in site.pods(*selector) if pod["spec"].get("nodeName") == machine.name)
    return found


def is_ready(pod: Any, restarts: int) -> bool:
    """Whether a pod is ready whose containers were started again so often at least."""
    statuses = pod["status"].get("containerStatuses", ())
    return bool(statuses) and all(
        each["ready"] and each["restartCount"] >= restarts for each in statuses
    )


def test_node_offers_hugepages_and_cpus_of_its_own(cluster: Cluster, machine: Machine) -> None:
    node = json.loads(cluster.kubectl("get", "node", machine.name, "-o", "json"))
    offered = node["status"]["allocatable"]
    assert offered["hugepages-2Mi"] == f"{len(CPUS) * PAGES * 2 // 1024}Gi"
    assert int(offered["cpu"]) == sum(map(len, CPUS)) - 1
    assert "6." in node["status"]["nodeInfo"]["kernelVersion"]


def test_nic_has_an_iommu_and_no_vf_yet(machine: Machine) -> None:
    pf = machine.pf()
    attributes = ("sriov_numvfs", "sriov_totalvfs", "numa_node")
    found = machine.run("cat", *(f"{pf.path}/{name}" for name in attributes)).split()
    assert found == ["0", str(TOTAL_VFS), str(NIC_NUMA_NODE)]
    assert machine.run("readlink", f"{pf.path}/driver").strip().endswith("/igb")
    group = machine.run("ls", f"{pf.path}/iommu_group/devices").split()
    assert pf.address in group
    assert "vfio" in machine.run("ls", "/dev/vfio")


def test_frames_pass_the_wire_both_ways(machine: Machine, pf_up: str) -> None:
    mac = machine.run("cat", f"/sys/class/net/{pf_up}/address").strip()
    wire, before = machine.wire, machine.wire.counters()
    with wire.listening(answers(PF_ADDRESS, mac)) as listener:
        wire.send(who_has(PF_ADDRESS, WIRE_ADDRESS), count=100)
        until(lambda: listener.count == 100, "the PF answers each request", SECONDS)
        assert listener.lost() == 0
    after = wire.counters()
    assert after.sent - before.sent == 100
    assert after.received - before.received >= 100
    assert after.lost == before.lost


def test_wire_is_pulled_out_and_plugged_in(machine: Machine, pf_up: str) -> None:
    machine.pf_link(up=False)
    try:
        until(lambda: not machine.carrier(pf_up), "the PF has no carrier", SECONDS)
    finally:
        machine.pf_link(up=True)
    until(lambda: machine.carrier(pf_up), "the PF has a carrier again", SECONDS)


def test_what_fails_there_fails_here(machine: Machine) -> None:
    with pytest.raises(CommandError, match="no-such-file"):
        machine.run("cat", "/no-such-file")
    assert machine.run("cat", stdin="a b\n") == "a b\n"
    assert machine.run("printf", "%s|", "a b", "$HOME", "'") == "a b|$HOME|'|"


def test_doctor_finds_what_is_wrong_and_nothing_else(machine: Machine, images: Images) -> None:
    assert findings(machine, images) == {**WRONG, ("DevicesReady", "devices"): "Warn"}


def test_a_node_agent_is_there_and_comes_back_with_the_node(site: Site, machine: Machine) -> None:
    pod = node_agent(site, machine)
    assert is_ready(pod, restarts=0)
    machine.reboot()
    machine.ready()
    # The same pod, its container started again.
    until(
        lambda: is_ready(node_agent(site, machine), restarts=1),
        "the node agent is ready again",
        SECONDS,
    )
    assert node_agent(site, machine)["metadata"]["uid"] == pod["metadata"]["uid"]
    assert machine.run("cat", f"{machine.pf().path}/sriov_numvfs").strip() == "0"
