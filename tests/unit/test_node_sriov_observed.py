# SPDX-License-Identifier: Apache-2.0
"""What there is is read from files, processes and the kernel's netlink as it is."""

import base64
import errno
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from headrace_api.device_policy import VfDriver, VfLinkState
from headrace_api.node_facts import NodeTraffic
from headrace_dataplane.node.netlink import KernelNetlink, Link, VFState, to_link
from headrace_dataplane.node.sriov.apply import Reconciler, vf_request
from headrace_dataplane.node.sriov.desired import VF, Desired
from headrace_dataplane.node.sriov.observed import (
    FileSysfs,
    identities,
    observe,
)
from headrace_dataplane.node.sriov.steps import (
    Condition,
    Done,
    Reason,
    SetVF,
    SetVFLinkState,
    SetVFMAC,
    SetVFRates,
    SetVFSpoofCheck,
    SetVFTrust,
    SetVFVLAN,
)
from headrace_dataplane.node.traffic import NodeAddresses, node_traffic
from headrace_dataplane.node.users import VFIOHolders, together
from tests.unit.sriov_kernel import Igb, Ixgbe, Kernel, make_pf

PF0 = "0000:01:00.0"

# What a kernel 6.12 said of an 82576 with VFs (RTM_NEWLINK), without statistics.
IGB = (
    "aAEAABAAAAD/AAAA9wAAAAAAAQACAAAAQxABAAAAAAALAAMAZW5wMXMwAAAIAAQAKCMAAAUAIQABAAAACgABAFJUAB"
    "I0VgAAFAEWAIgAAQAoAAEAAAAAAAIAAAABAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAEAACAAAAAABkAAAAAAAA"
    "ABAABgAAAAAAAAAAAGQAAAAMAAMAAAAAAGQAAAAMAAQAAAAAAAAAAAAMAAUAAAAAAAAAAAAMAAcAAAAAAP////8MAA"
    "kAAAAAAAEAAACIAAEAKAABAAEAAADSoM//9ecAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAABAAAgABAAAAAAAAAAAA"
    "AAAQAAYAAQAAAAAAAAAAAAAADAADAAEAAAAAAAAADAAEAAEAAAABAAAADAAFAAEAAAAAAAAADAAHAAEAAAD/////DA"
    "AJAAEAAAAAAAAACgA2AFJUABI0VgAA"
)


def given_away(kernel: Kernel) -> None:
    each = VF(driver=VfDriver.VFIO)
    desired = Desired(PF0, ("p",), (each, each, VF(driver=VfDriver.KERNEL)), 9000)
    outcome = Reconciler(kernel, kernel, kernel.users, kernel).reconcile(desired)
    assert outcome == Done()


def test_files_are_read_as_the_kernels_are(tmp_path: Path) -> None:
    kernel = Kernel(make_pf(Ixgbe()), make_pf(Igb(), 1))
    given_away(kernel)
    kernel.write_tree(tmp_path)
    sysfs = FileSysfs(tmp_path)
    seen = observe(sysfs, kernel, PF0, kernel.users)
    assert seen == observe(kernel, kernel, PF0, kernel.users)
    assert seen is not None
    assert (seen.total_vfs, seen.num_vfs, seen.driver, seen.iommu) == (7, 3, "ixgbe", True)
    assert [vf.driver for vf in seen.vfs] == ["vfio-pci", "vfio-pci", "ixgbevf"]
    assert identities(sysfs, kernel) == identities(kernel, kernel)
    assert [each.address for each in identities(sysfs, kernel)] == [PF0, "0000:02:00.0"]
    assert observe(sysfs, kernel, "0000:03:00.0", kernel.users) is None


def test_writes_reach_the_file_and_make_none(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_text("old")
    sysfs = FileSysfs(tmp_path)
    sysfs.write("a", "new")
    assert sysfs.text("a") == "new"
    with pytest.raises(FileNotFoundError):
        sysfs.write("b", "1")
    assert sysfs.names("") == ["a"]
    assert sysfs.target("a") is None


def test_a_write_that_the_kernel_does_not_finish(tmp_path: Path) -> None:
    """As the removal of a VF that a process has open: it is told, and comes back by itself."""
    kernel = Kernel(make_pf(Igb()))
    kernel.write_tree(tmp_path)
    device = tmp_path / "bus/pci/devices" / PF0
    (device / "sriov_numvfs").unlink()
    os.mkfifo(device / "sriov_numvfs")
    sysfs = FileSysfs(tmp_path, write_seconds=0.05)
    path = f"bus/pci/devices/{PF0}/sriov_numvfs"
    with pytest.raises(TimeoutError):
        sysfs.write(path, "0")
    # Nothing else is begun: it would wait, too.
    with pytest.raises(TimeoutError, match="earlier"):
        sysfs.write(f"bus/pci/devices/{PF0}/sriov_drivers_autoprobe", "1")
    outcome = Reconciler(sysfs, kernel, kernel.users, kernel).reconcile(
        Desired(PF0, ("p",), (VF(),))
    )
    assert isinstance(outcome, Condition)
    assert outcome.reason is Reason.KERNEL_WAITS
    # Who had it open lets go.
    with (device / "sriov_numvfs").open() as reader:
        assert reader.read() == "0"
    (thread,) = sysfs._waiting.values()
    thread.join()
    sysfs.write(f"bus/pci/devices/{PF0}/sriov_drivers_autoprobe", "0")


def test_who_has_a_vf_open(tmp_path: Path) -> None:
    kernel = Kernel(make_pf(Igb()))
    given_away(kernel)
    sysfs, proc = tmp_path / "sys", tmp_path / "proc"
    kernel.write_tree(sysfs)
    vfs = kernel.pfs[PF0].vfs
    # Other devices stand for vfio's: what they are counts, not their names.
    for node, device in (
        (sysfs / "class/vfio" / vfs[0].group, "/dev/zero"),
        (sysfs / "bus/pci/devices" / vfs[1].address / "vfio-dev/vfio7", "/dev/full"),
    ):
        node.mkdir(parents=True)
        number = os.stat(device).st_rdev
        (node / "dev").write_text(f"{os.major(number)}:{os.minor(number)}\n")
    for pid, name, files in (
        ("12", "testpmd", ["/dev/null", "/dev/zero"]),
        ("13", "qemu", ["/nowhere", "/dev/full"]),
        ("14", "cat", ["/dev/null"]),
    ):
        (proc / pid / "fd").mkdir(parents=True)
        (proc / pid / "comm").write_text(f"{name}\n")
        for at, file in enumerate(files):
            (proc / pid / "fd" / str(at)).symlink_to(file)
    (proc / "15").mkdir()
    (proc / "meminfo").touch()
    users = VFIOHolders(FileSysfs(sysfs), proc)
    seen = observe(FileSysfs(sysfs), kernel, PF0, users)
    assert seen is not None
    assert [vf.user for vf in seen.vfs] == [
        "process 12 (testpmd)",
        "process 13 (qemu)",
        "",
    ]
    assert users({}) == {}
    pods = {vfs[0].address: ("shop/web",), vfs[2].address: ("shop/db",)}
    seen = observe(FileSysfs(sysfs), kernel, PF0, together(lambda _: pods, users))
    assert seen is not None
    assert [vf.users for vf in seen.vfs] == [
        ("shop/web", "process 12 (testpmd)"),
        ("process 13 (qemu)",),
        ("shop/db",),
    ]


def test_who_has_a_vf_open_now(tmp_path: Path) -> None:
    """Whoever had it last is looked at first, and is nobody's word for it."""
    sysfs, proc, address = tmp_path / "sys", tmp_path / "proc", "0000:01:10.0"
    device, number = sysfs / "bus/pci/devices" / address, os.stat("/dev/zero").st_rdev
    (device / "vfio-dev/vfio7").mkdir(parents=True)
    (device / "vfio-dev/vfio7/dev").write_text(f"{os.major(number)}:{os.minor(number)}\n")
    files = {pid: proc / str(pid) / "fd/3" for pid in (7, 12, 9)}
    for pid, file in files.items():
        file.parent.mkdir(parents=True)
        (proc / str(pid) / "comm").write_text("testpmd\n")
    users = VFIOHolders(FileSysfs(sysfs), proc)

    def holder() -> tuple[str, ...]:
        return users({address: ""}).get(address, ())

    (device / "enable").write_text("1\n")
    assert holder() == ()
    files[12].symlink_to("/dev/zero")
    assert holder() == holder() == ("process 12 (testpmd)",)
    files[12].unlink()
    files[7].symlink_to("/dev/zero")
    files[9].symlink_to("/dev/zero")
    assert holder() == holder() == ("process 7 (testpmd)", "process 9 (testpmd)")
    shutil.rmtree(proc / "7")
    assert holder() == ("process 9 (testpmd)",)
    files[9].unlink()
    assert holder() == ()
    # Only what vfio has enabled is open: all else is not looked for.
    files[9].symlink_to("/dev/zero")
    (device / "enable").write_text("0\n")
    assert holder() == ()


def test_what_the_nodes_own_traffic_takes() -> None:
    kernel = Kernel(make_pf(Igb()))
    links = {
        "br0": Link("br0", 10, "", 1500, True, True),
        "bond0.5": Link("bond0.5", 11, "", 1500, True, True, master=10, lower=12),
        "bond0": Link("bond0", 12, "", 1500, True, True),
        "eth0": Link("eth0", 2, "", 1500, True, True, master=12),
        "eth1": Link("eth1", 3, "", 1500, True, True, master=12),
        "eth2": Link("eth2", 4, "", 1500, True, True),
        "eth3": Link("eth3", 5, "", 1500, True, True),
    }
    kernel.default_route = 10
    kernel.node_addresses = [(4, "192.0.2.1"), (5, "192.0.2.2")]
    node = NodeAddresses(frozenset({"192.0.2.1"}), ("192.0.2.9",))
    found = node_traffic(kernel, links, node)
    assert set(found) == {"br0", "bond0.5", "bond0", "eth0", "eth1", "eth2"}
    route = found["eth0"][NodeTraffic.DEFAULT_ROUTE]
    assert route.startswith("it carries the node's default route")
    assert route.endswith("by bond0")
    assert "192.0.2.9" in found["eth0"][NodeTraffic.API_SERVER]
    assert [*found["eth2"]] == [NodeTraffic.KUBELET_ADDRESS]
    assert "192.0.2.1" in found["eth2"][NodeTraffic.KUBELET_ADDRESS]


def test_this_kernels_devices() -> None:
    netlink = KernelNetlink()
    links = netlink.links()
    loopback = links["lo"]
    assert netlink.link("lo").index == loopback.index
    assert (loopback.mtu, loopback.vfs, loopback.master) == (65536, {}, 0)
    indexes = {link.index for link in links.values()}
    assert all(index in indexes for index, _ in netlink.routes())
    assert all(index in indexes for index, _ in netlink.addresses())
    assert [*netlink.outputs("127.0.0.1")] == [loopback.index]
    assert [*netlink.outputs("no address")] == []
    assert netlink.firmware("lo") is None
    with pytest.raises(OSError) as caught:
        netlink.link("nosuchdevice0")
    assert caught.value.errno == errno.ENODEV
    assert netlink.eswitch_mode(PF0) is None


def test_what_igb_says_of_its_vfs() -> None:
    message = ifinfmsg(base64.b64decode(IGB))
    message.decode()
    link = to_link(message)
    assert (link.name, link.mtu, link.up, link.carrier) == ("enp1s0", 9000, True, True)
    assert (link.mac, link.permanent_mac) == ("52:54:00:12:34:56", "52:54:00:12:34:56")
    first = VFState("02:00:00:00:01:00", 100, False, True, 0, 100, VfLinkState.AUTO)
    assert link.vfs[0] == first
    assert link.vfs[1] == replace(
        first, mac=link.vfs[1].mac, vlan=0, spoof_check=True, trust=False, max_rate=0
    )


@pytest.mark.parametrize(
    "step",
    [
        SetVFMAC(0, "02:00:00:00:00:01"),
        SetVFVLAN(0, 5),
        SetVFSpoofCheck(0, False),
        SetVFTrust(0, True),
        SetVFRates(0, 0, 100),
        SetVFLinkState(0, VfLinkState.DISABLE),
    ],
)
def test_requests_are_such_as_the_kernel_understands(step: SetVF) -> None:
    """A loopback device has no VFs; a request with a mistake in it is EINVAL."""
    netlink = KernelNetlink()
    with pytest.raises(OSError) as caught:
        netlink.set_vf(netlink.links()["lo"].index, step.index, vf_request(step))
    assert caught.value.errno == (errno.EPERM if os.geteuid() else errno.EOPNOTSUPP)
