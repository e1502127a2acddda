# SPDX-License-Identifier: Apache-2.0
"""A function is healthy while it has its driver, its link, and opens."""

import errno
import os
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from headrace_api.device_policy import VfDriver
from headrace_dataplane.node.device_plugin.health import LINK_SECONDS, OPEN_SECONDS, Health
from tests.unit import node_tree
from tests.unit.node_tree import INTEL, INTEL_VFS, MELLANOX_VFS, PCI

FIRST = INTEL_VFS[0]
CARRIER = f"{PCI}/{INTEL}/net/ens1f0/carrier"


@dataclass
class Machine:
    root: Path
    now: float = 100.0
    fails: int = 0
    opened: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.health = Health(self.root, lambda: self.now, self._open)

    def fault(
        self, driver: VfDriver = VfDriver.VFIO, *, used: bool = False, forced: bool = False
    ) -> str:
        return self.health.fault(FIRST, driver, used=used, forced=forced)

    def link(self, path: str, target: str) -> None:
        (self.root / PCI / FIRST / path).unlink(missing_ok=True)
        node_tree.write_one(self.root / PCI / FIRST / path, f"-> {target}")

    def _open(self, path: str) -> None:
        self.opened.append(path.removeprefix(str(self.root)))
        if self.fails:
            raise OSError(self.fails, os.strerror(self.fails), path)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    files = {"dev/vfio/vfio": "", "dev/vfio/21": "", "dev/vfio/77": ""}
    return Machine(node_tree.write(tmp_path, {**node_tree.good_node(), **files}))


def test_a_good_function_is_opened_once_a_minute(machine: Machine) -> None:
    assert machine.fault() == ""
    machine.now += OPEN_SECONDS - 1
    assert machine.fault() == ""
    assert machine.opened == ["/dev/vfio/21"]
    machine.now += 1
    assert machine.fault() == ""
    assert machine.opened == ["/dev/vfio/21"] * 2


def test_one_that_a_pod_has_is_not_opened(machine: Machine) -> None:
    assert machine.fault(used=True) == ""
    assert machine.opened == []


def test_one_that_is_open_elsewhere_works(machine: Machine) -> None:
    machine.fails = errno.EBUSY
    assert machine.fault() == ""


@pytest.mark.parametrize("number", [errno.ENOENT, errno.ENODEV, errno.EPERM, errno.EIO])
def test_one_that_does_not_open_is_ill_until_it_does(machine: Machine, number: int) -> None:
    machine.fails = number
    said = f"/dev/vfio/21 of {FIRST} does not open: {os.strerror(number)}"
    assert machine.fault() == said
    machine.fails = 0
    assert machine.fault() == said  # It was not looked at again yet.
    machine.now += OPEN_SECONDS
    assert machine.fault() == ""


def test_another_group_is_opened_at_once(machine: Machine) -> None:
    machine.fails = errno.EIO
    assert machine.fault()
    machine.fails = 0
    machine.link("iommu_group", "../../../../kernel/iommu_groups/77")
    assert machine.fault() == ""
    assert machine.opened == ["/dev/vfio/21", "/dev/vfio/77"]


def test_one_whose_device_node_is_missing_is_ill(machine: Machine) -> None:
    (machine.root / "dev/vfio/21").unlink()
    assert machine.fault() == f"{FIRST} has no device node /dev/vfio/21"
    assert machine.opened == []


def test_the_driver_is_the_one_that_is_wanted(machine: Machine) -> None:
    assert "and Kernel is wanted" in machine.fault(VfDriver.KERNEL)
    machine.link("driver", "../../drivers/iavf")
    assert machine.fault() == f"{FIRST} is bound to iavf, and vfio-pci is wanted"
    assert machine.fault(VfDriver.KERNEL) == ""
    (machine.root / PCI / FIRST / "driver").unlink()
    assert machine.fault() == f"{FIRST} has no driver"


def test_a_link_that_is_away_for_a_moment_is_no_matter(machine: Machine) -> None:
    assert machine.fault() == ""
    carrier = machine.root / CARRIER
    carrier.write_text("0")
    machine.now += LINK_SECONDS - 1
    assert machine.fault() == ""
    carrier.write_text("1")
    machine.now += 2
    assert machine.fault() == ""
    carrier.write_text("0")
    machine.now += LINK_SECONDS
    assert machine.fault() == f"ens1f0, the port of {FIRST}, has no link"
    assert machine.fault(forced=True) == ""
    carrier.write_text("1")
    assert machine.fault() == ""


def test_a_port_that_nobody_has_set_up_says_nothing(machine: Machine) -> None:
    (machine.root / CARRIER).unlink()
    machine.now += LINK_SECONDS
    assert machine.fault() == ""


def test_one_that_is_gone_is_ill_and_forgotten(machine: Machine) -> None:
    assert machine.health.fault("0000:00:00.9", VfDriver.VFIO, used=False) == (
        "there is no PCI function 0000:00:00.9"
    )
    machine.fails = errno.EIO
    assert machine.fault()
    machine.health.forget(FIRST)
    machine.fails = 0
    assert machine.fault() == ""


def test_a_kernel_function_is_never_opened(machine: Machine) -> None:
    assert machine.health.fault(MELLANOX_VFS[1], VfDriver.KERNEL, used=False) == ""
    assert machine.opened == []


def test_devices_are_opened_for_real(tmp_path: Path) -> None:
    files = {"dev/vfio/vfio": "", "dev/vfio/21": ""}
    node_tree.write(tmp_path, {**node_tree.good_node(), **files})
    assert Health(tmp_path).fault(FIRST, VfDriver.VFIO, used=False) == ""
    (tmp_path / "dev/vfio/21").unlink()
    (tmp_path / "dev/vfio/21").mkdir()
    assert "does not open: Is a directory" in Health(tmp_path).fault(
        FIRST, VfDriver.VFIO, used=False
    )
