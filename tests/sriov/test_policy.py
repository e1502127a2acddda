# SPDX-License-Identifier: Apache-2.0
"""A DevicePolicy on a node with a real NIC: VFs are made, kept, and given out."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.cluster.images import Images
from tests.cluster.sandbox import CommandError, until
from tests.cluster.site import Site
from tests.sriov import policies
from tests.sriov.doctor import WRONG, findings
from tests.sriov.machine import DEVICES, SECONDS, Machine, addressed
from tests.sriov.policies import NODE_AGENT, RESOURCE, VF, VFS, becomes, patch, vfs

VF_ADDRESS = "192.0.2.3"
# Runs in the machine: as soon as sysfs says so, the node agent is no more.
KILL = """\
until {condition}; do sleep 0.02; done
kill -9 $(pgrep -x headrace-node)"""
STEPS = {
    "the VFs are taken away": '[ "$(cat {pf}/sriov_numvfs)" = 0 ]',
    "others are made": '[ "$(cat {pf}/sriov_numvfs)" = {count} ]',
    "the first is bound": '[ "$(basename $(readlink {pf}/virtfn0/driver))" = vfio-pci ]',
}
"""When -> a condition of the machine's shell."""


@pytest.fixture(autouse=True)
def policy(site: Site) -> Iterator[None]:
    """The policy is there, and all is as it wants it; afterwards it is as it was."""
    site.apply(policies.MANIFEST)
    yield
    site.cluster.kubectl("apply", "-f", policies.MANIFEST)


def check(found: list[VF], count: int) -> None:
    """They are what dataplanes need."""
    assert {vf.driver for vf in found} == {"vfio-pci"}
    for each in ("address", "mac", "group"):
        assert len({getattr(vf, each) for vf in found}) == count
    assert "00:00:00:00:00:00" not in {vf.mac for vf in found}


def test_vfs_are_made_and_given_out(site: Site, machine: Machine) -> None:
    found = vfs(machine)
    check(found, VFS)
    assert {*machine.run("ls", "/dev/vfio").split()} == {"vfio", *(vf.group for vf in found)}

    status = policies.node_status(site, machine)
    (said,) = status.policies
    assert (said.ready, said.vfs, said.pci_addresses) == (True, VFS, (machine.pf().address,))
    (resource,) = status.resources
    assert (resource.name, resource.devices, resource.healthy) == (RESOURCE, VFS, VFS)
    status_of_policy = site.get("devicepolicy", policies.NAME)["status"]
    counts = [status_of_policy[name] for name in ("selectedNodes", "readyNodes", "vfs")]
    assert counts == [1, 1, VFS]
    until(lambda: policies.allocatable(site, machine) == VFS, "the kubelet has them", SECONDS)


def test_doctor_finds_nothing_wrong_with_them(machine: Machine, images: Images) -> None:
    assert findings(machine, images, *(vf.address for vf in vfs(machine)[:2])) == WRONG


def test_vfs_that_somebody_deletes_are_made_again(machine: Machine) -> None:
    """The kernel tells of it: the node agent would look by itself only minutes later."""
    machine.run("bash", "-euc", f"echo 0 >{machine.pf().path}/sriov_numvfs")

    def again() -> bool:
        try:
            return [vf.driver for vf in vfs(machine)] == ["vfio-pci"] * VFS
        except CommandError:
            return False

    until(again, "they are there", SECONDS / 2)


def test_vfs_that_the_node_uses_are_kept(site: Site, machine: Machine) -> None:
    patch(site, driver="Kernel")
    becomes(site, "True", "DevicesReady")
    found = vfs(machine)
    assert {vf.driver for vf in found} == {"igbvf"}
    name = machine.run("ls", f"{DEVICES}/{found[-1].address}/net").strip()
    with addressed(machine, name, VF_ADDRESS):
        patch(site, vfs=VFS - 1)
        assert name in becomes(site, "False", "VFsInUse")["message"]
        assert len(vfs(machine)) == VFS
    # It looks again by itself.
    becomes(site, "True", "DevicesReady")
    assert len(vfs(machine)) == VFS - 1


@pytest.mark.parametrize("when", STEPS)
def test_a_node_agent_that_is_killed_goes_on(site: Site, machine: Machine, when: str) -> None:
    count = VFS - 2
    condition = STEPS[when].format(pf=machine.pf().path, count=count)
    script = KILL.format(condition=condition)
    with ThreadPoolExecutor(1) as pool:
        if when == "the first is bound":
            patch(site, vfs=0)
            becomes(site, "True", "DevicesReady")
        killed = pool.submit(machine.run, "bash", "-euc", script)
        patch(site, vfs=count)
        killed.result()
    # The kubelet waits ever longer before it starts a container again.
    site.cluster.kubectl("delete", "pod", *NODE_AGENT, "--wait=false")
    becomes(site, "True", "DevicesReady")
    found = vfs(machine)
    check(found, count)
    (said,) = policies.node_status(site, machine).policies
    assert (said.ready, said.vfs) == (True, count)
    until(lambda: policies.allocatable(site, machine) == count, "the kubelet has them", SECONDS)
