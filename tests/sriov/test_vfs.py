# SPDX-License-Identifier: Apache-2.0
"""VFs of a real NIC, made and given to vfio by what the node agent has for that."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.images import Images
from tests.cluster.sandbox import until
from tests.sriov.arp import answers, who_has
from tests.sriov.doctor import WRONG, findings
from tests.sriov.machine import DEVICES, SECONDS, Machine, addressed

SCRIPT = Path(__file__).with_name("make_vfs.py")
MACS = ("02:00:00:00:02:00", "02:00:00:00:02:01")
"""Of the VFs that are DPDK's."""
COUNT = 3
"""One more is the kernel's."""
DONE = {"outcome": "Done", "found": "Done(notes=())"}
VF_ADDRESS, WIRE_ADDRESS = "192.0.2.3", "192.0.2.4"


def reconciled(machine: Machine, images: Images, count: int, *macs: str) -> dict[str, str]:
    """Ask for so many VFs, those with MAC addresses on vfio-pci; what came of it."""
    asked = json.dumps({"count": count, "macs": macs})
    words = ("/opt/headrace/bin/python", "-", asked)
    said = machine.run_image(images.dataplane.name, *words, stdin=SCRIPT.read_text())
    found: dict[str, str] = json.loads(said.splitlines()[-1])
    return found


@pytest.fixture(scope="module")
def vfs(machine: Machine, images: Images) -> Iterator[tuple[str, ...]]:
    """PCI addresses of VFs."""
    assert reconciled(machine, images, COUNT, *MACS) == DONE
    path = machine.pf().path
    links = [f"{path}/virtfn{index}" for index in range(COUNT)]
    yield tuple(line.rpartition("/")[2] for line in machine.run("readlink", *links).split())
    assert reconciled(machine, images, 0) == DONE
    assert machine.run("cat", f"{path}/sriov_numvfs").strip() == "0"


def target(machine: Machine, vf: str, link: str) -> str:
    """Last name of what a link in a VF's folder leads to."""
    return machine.run("readlink", f"{DEVICES}/{vf}/{link}").strip().rpartition("/")[2]


def test_each_vf_has_an_iommu_group_of_its_own(machine: Machine, vfs: tuple[str, ...]) -> None:
    groups = [target(machine, vf, "iommu_group") for vf in vfs]
    assert len({*groups, target(machine, machine.pf().address, "iommu_group")}) == COUNT + 1
    drivers = [target(machine, vf, "driver") for vf in vfs]
    assert drivers == ["vfio-pci", "vfio-pci", "igbvf"]
    assert {*machine.run("ls", "/dev/vfio").split()} == {"vfio", *groups[: len(MACS)]}


def test_vfs_have_their_addresses(machine: Machine, vfs: tuple[str, ...]) -> None:
    assert len(vfs) == COUNT
    (link,) = json.loads(machine.run("ip", "-json", "link", "show", machine.pf().name))
    found = {vf["vf"]: vf["address"] for vf in link["vfinfo_list"]}
    assert tuple(found[index] for index in range(len(MACS))) == MACS


def test_doctor_finds_nothing_wrong_with_them(
    machine: Machine, images: Images, vfs: tuple[str, ...]
) -> None:
    assert findings(machine, images, *vfs[: len(MACS)]) == WRONG


def test_frames_of_the_wire_reach_a_vf(machine: Machine, vfs: tuple[str, ...]) -> None:
    name = machine.run("ls", f"{DEVICES}/{vfs[-1]}/net").strip()
    mac = machine.run("cat", f"/sys/class/net/{name}/address").strip()
    with (
        addressed(machine, name, VF_ADDRESS),
        machine.wire.listening(answers(VF_ADDRESS, mac)) as listener,
    ):
        machine.wire.send(who_has(VF_ADDRESS, WIRE_ADDRESS), count=10)
        until(lambda: listener.count == 10, "the VF answers each request", SECONDS)


def test_vfs_with_the_nodes_own_addresses_are_kept(
    machine: Machine, images: Images, vfs: tuple[str, ...]
) -> None:
    name = machine.run("ls", f"{DEVICES}/{vfs[-1]}/net").strip()
    with addressed(machine, name, VF_ADDRESS):
        found = reconciled(machine, images, 0)
    assert found["outcome"] == "Condition"
    assert "VFsInUse" in found["found"]
    assert name in found["found"]
    assert machine.run("cat", f"{machine.pf().path}/sriov_numvfs").strip() == str(COUNT)
