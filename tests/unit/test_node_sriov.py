# SPDX-License-Identifier: Apache-2.0
"""VFs come to be as they are wanted, on every driver, from anywhere, whatever happens meanwhile."""

import errno
from ast import literal_eval
from collections.abc import Callable
from dataclasses import replace
from threading import Thread

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace_api.device_policy import VfDriver, VfLinkState
from headrace_dataplane.node.sriov import restore
from headrace_dataplane.node.sriov.apply import Reconciler
from headrace_dataplane.node.sriov.desired import (
    NO_MAC,
    VF,
    Desired,
    Wish,
    merge,
)
from headrace_dataplane.node.sriov.observed import identities
from headrace_dataplane.node.sriov.steps import (
    Condition,
    Done,
    Reason,
)
from headrace_dataplane.node.traffic import NodeAddresses
from tests.unit.sriov_kernel import (
    DRIVERS,
    PF,
    Bnxt,
    I40e,
    Ice,
    Igb,
    Ixgbe,
    Kernel,
    Killed,
    Mlx5,
    NoSRIOV,
    given_away,
    make_pf,
)
from tests.unit.sriov_kernel import (
    Driver as PFDriver,
)

PF0 = "0000:01:00.0"
MAC = "02:00:00:00:01:00"
NUMVFS = f"bus/pci/devices/{PF0}/sriov_numvfs"

each_driver = pytest.mark.parametrize("driver", DRIVERS, ids=lambda driver: driver.__name__)
VFIO_DRIVERS = tuple(driver for driver in DRIVERS if driver is not Mlx5)
each_vfio_driver = pytest.mark.parametrize(
    "driver", VFIO_DRIVERS, ids=lambda driver: driver.__name__
)


def reconciler(kernel: Kernel) -> Reconciler:
    return Reconciler(kernel, kernel, kernel.users, kernel)


def reconcile(kernel: Kernel, desired: Desired) -> Done | Condition:
    kernel.touch()
    return reconciler(kernel).reconcile(desired)


def wanted(*vfs: VF, mtu: int | None = None, address: str = PF0) -> Desired:
    return Desired(address, ("p",), vfs, mtu)


def vfio(index: int = 0, **more: object) -> VF:
    made: dict[str, object] = {
        "driver": VfDriver.VFIO,
        "mac": f"02:00:00:00:01:{index:02x}",
        "vlan": 100 + index,
        "spoof_check": False,
        "trust": True,
        **more,
    }
    return VF(**made)  # type: ignore[arg-type]


def by_kernel(index: int = 0, **more: object) -> VF:
    return vfio(index, driver=VfDriver.KERNEL, **more)


def typical(driver: PFDriver) -> Desired:
    """Four VFs: two given away where that goes, one of them of whatever address, two not."""
    away = by_kernel if isinstance(driver, Mlx5) else vfio
    return wanted(
        away(0, max_rate=100),
        away(1, mac=None),
        by_kernel(2, mtu=9000),
        VF(driver=VfDriver.KERNEL),
        mtu=9000,
    )


def reason(outcome: Done | Condition) -> Reason:
    assert isinstance(outcome, Condition), outcome
    assert outcome.message
    return outcome.reason


def is_as_wanted(pf: PF, desired: Desired) -> None:
    assert len(pf.vfs) == desired.num_vfs or desired.externally_managed
    assert pf.netdev.mtu >= (desired.mtu or 0)
    for vf, want in zip(pf.vfs, desired.vfs, strict=not desired.externally_managed):
        if want.driver is VfDriver.VFIO and not vf.held:
            assert (vf.driver, vf.override) == ("vfio-pci", "vfio-pci")
            # Who opens it has the same address each time.
            assert vf.administrative == (want.mac != NO_MAC)
        if want.driver is VfDriver.KERNEL and not vf.held:
            assert (vf.driver, vf.override) == (pf.driver.vf_driver, "")
            assert vf.netdev is not None
            assert want.mac in (None, NO_MAC, vf.netdev.mac)
            assert want.mtu in (None, vf.netdev.mtu)
        assert want.mac in (None, vf.mac)
        assert want.vlan in (None, vf.vlan)
        assert want.spoof_check in (None, vf.spoof_check)
        assert want.trust in (None, vf.trust)
        assert want.min_rate in (None, vf.rates[0])
        assert want.max_rate in (None, vf.rates[1])
        assert want.link_state in (None, vf.link_state)


@each_driver
def test_vfs_are_made_and_nothing_is_written_the_second_time(
    driver: Callable[[], PFDriver],
) -> None:
    pf = make_pf(driver())
    kernel = Kernel(pf)
    desired = typical(pf.driver)
    assert reconcile(kernel, desired) == Done()
    is_as_wanted(pf, desired)
    written = len(kernel.attempts)
    assert reconcile(kernel, desired) == Done()
    assert len(kernel.attempts) == written


@each_driver
def test_another_number_of_vfs_goes_through_none(driver: Callable[[], PFDriver]) -> None:
    pf = make_pf(driver())
    kernel = Kernel(pf)
    assert reconcile(kernel, wanted(*[VF(driver=VfDriver.KERNEL)] * 6)) == Done()
    desired = typical(pf.driver)
    del kernel.journal[:]
    assert reconcile(kernel, desired) == Done()
    is_as_wanted(pf, desired)
    counts = [line for line in kernel.journal if "sriov_numvfs" in line]
    assert counts == [f"{NUMVFS} 0", f"{NUMVFS} 4"]
    assert reconcile(kernel, wanted()) == Done()
    assert pf.vfs == []


@each_driver
def test_killed_anywhere_and_started_again_it_ends_the_same(
    driver: Callable[[], PFDriver],
) -> None:
    def start() -> tuple[PF, Kernel]:
        pf = make_pf(driver())
        kernel = Kernel(pf)
        assert reconcile(kernel, wanted(*[VF(driver=VfDriver.KERNEL)] * 2)) == Done()
        return pf, kernel

    pf, kernel = start()
    desired = typical(pf.driver)
    assert reconcile(kernel, desired) == Done()
    end = kernel.end_state(PF0)
    macless = kernel.end_state(PF0, macs=False)
    points = 0
    while True:
        points += 1
        pf, kernel = start()
        kernel.killed_after = kernel._points + points
        try:
            reconcile(kernel, desired)
        except Killed:
            kernel.killed_after = None
            assert reconcile(kernel, desired) == Done()
            is_as_wanted(pf, desired)
            assert kernel.end_state(PF0, macs=False) == macless, points
            continue
        break
    assert points > 15
    assert kernel.end_state(PF0) == end


@each_driver
def test_of_two_steps_in_the_wrong_order_the_kernel_makes_something_else(
    driver: Callable[[], PFDriver],
) -> None:
    """What order is for: replay what was written with two changed about, and it is not the same."""
    needed = {
        ("sriov_numvfs 0", "sriov_numvfs 4"),
        ("sriov_numvfs 4", "'mac'"),
        ("sriov_numvfs 4", "'vlan'"),
        ("sriov_numvfs 4", "driver_override vfio-pci"),
        ("driver_override vfio-pci", "drivers_probe"),
        ("unbind", "drivers_probe"),
    }
    if driver is Mlx5:
        needed = {each for each in needed if "override" not in each[0] + each[1]}
        needed.add(("unbind", "sriov_numvfs 0"))
    if driver is Bnxt:
        needed.add(("up=True", "sriov_numvfs 4"))
    if driver is Igb:
        needed.add(("sriov_numvfs 4", "'rate'"))

    def start() -> tuple[PF, Kernel]:
        pf = make_pf(driver())
        kernel = Kernel(pf)
        assert reconcile(kernel, wanted(*[VF(driver=VfDriver.KERNEL)] * 2)) == Done()
        pf.netdev.up = driver is not Bnxt
        del kernel.journal[:]
        return pf, kernel

    pf, kernel = start()
    desired = typical(pf.driver)
    assert reconcile(kernel, desired) == Done()
    journal, end = list(kernel.journal), kernel.end_state(PF0, macs=False)
    _, again = start()
    assert replay(again, journal) == end
    for first, second in sorted(needed):
        at = next(n for n, line in enumerate(journal) if second in line)
        if first in ("unbind", "driver_override vfio-pci") and second == "drivers_probe":
            address = journal[at].split()[-1]
            before = [n for n in range(at) if first in journal[n] and address in journal[n]]
        else:
            before = [n for n in range(at) if first in journal[n]]
        assert before, (first, second)
        wrong = list(journal)
        wrong.insert(before[-1], wrong.pop(at))
        _, again = start()
        assert replay(again, wrong) != end, (first, second)


def replay(kernel: Kernel, journal: list[str]) -> object:
    """Do it as written, in this order, with enough time between; what is left at the end."""
    try:
        for line in journal:
            where, *rest = line.split(" ", 1)
            if where == "link":
                name, up, mtu = rest[0].split()
                value = mtu.removeprefix("mtu=")
                kernel.set_link(
                    kernel.links()[name].index,
                    up={"up=True": True, "up=False": False}.get(up),
                    mtu=None if value == "None" else int(value),
                )
            elif where == "vf":
                name, vf, state = rest[0].split(" ", 2)
                kernel.set_vf(kernel.links()[name].index, int(vf), literal_eval(state))
            else:
                text = rest[0] if rest else ""
                kernel.write(where, f"{text}\n" if "override" in where else text)
            if "sriov_numvfs" not in line:
                kernel.sleep(5)
            elif isinstance(kernel.pfs[PF0].driver, I40e):
                kernel.sleep(1)
    except (OSError, KeyError) as refused:
        return refused
    kernel.sleep(5)
    return kernel.end_state(PF0, macs=False)


# Each driver's own ways.


def test_igb_is_waited_for_until_its_link_is_back() -> None:
    """drivers/net/ethernet/intel/igb/igb_main.c: igb_sriov_reinit(), igb_ndo_set_vf_bw()."""
    pf = make_pf(Igb())
    kernel = Kernel(pf)
    desired = wanted(vfio(max_rate=200))
    assert reconcile(kernel, desired) == Done()
    assert kernel.now() >= Igb.carrier_lost
    is_as_wanted(pf, desired)


def test_igb_cannot_force_a_link() -> None:
    """drivers/net/ethernet/intel/igb/igb_main.c: no ndo_set_vf_link_state."""
    pf = make_pf(Igb())
    kernel = Kernel(pf)
    outcome = reconcile(kernel, wanted(vfio(0, link_state=VfLinkState.ENABLE), vfio(1)))
    assert reason(outcome) is Reason.SETTING_UNSUPPORTED
    # The others are done all the same.
    assert pf.vfs[1].driver == "vfio-pci"


def test_igb_without_a_cable_takes_no_rates() -> None:
    """drivers/net/ethernet/intel/igb/igb_main.c: igb_ndo_set_vf_bw() wants STATUS.LU."""
    pf = make_pf(Igb(), cable=False)
    kernel = Kernel(pf)
    outcome = reconcile(kernel, wanted(vfio(max_rate=100)))
    assert reason(outcome) is Reason.NO_CARRIER
    done = reconcile(kernel, wanted(vfio()))
    assert isinstance(done, Done)
    assert [note.reason for note in done.notes] == [Reason.NO_CARRIER]


def test_ixgbe_with_traffic_classes_makes_fewer() -> None:
    """drivers/net/ethernet/intel/ixgbe/ixgbe_sriov.c: ixgbe_pci_sriov_enable()."""
    kernel = Kernel(make_pf(Ixgbe(limit=31), total=63))
    assert reason(reconcile(kernel, wanted(*[VF()] * 32))) is Reason.NUM_VFS_REFUSED
    assert reconcile(kernel, wanted(*[VF()] * 31)) == Done()


def test_ixgbe_says_yes_to_a_link_state_and_does_nothing() -> None:
    """drivers/net/ethernet/intel/ixgbe/ixgbe_sriov.c: ixgbe_ndo_set_vf_link_state()."""
    kernel = Kernel(make_pf(Ixgbe()))
    outcome = reconcile(kernel, wanted(vfio(link_state=VfLinkState.ENABLE)))
    assert reason(outcome) is Reason.NOT_KEPT
    assert reconcile(kernel, wanted(vfio(link_state=VfLinkState.DISABLE))) == Done()


def test_ixgbe_takes_no_rate_of_ten_megabit() -> None:
    """drivers/net/ethernet/intel/ixgbe/ixgbe_sriov.c: ixgbe_ndo_set_vf_bw()."""
    kernel = Kernel(make_pf(Ixgbe()))
    assert reason(reconcile(kernel, wanted(vfio(max_rate=10)))) is Reason.SETTING_REFUSED


def test_i40e_resets_a_vf_at_each_change() -> None:
    """drivers/net/ethernet/intel/i40e/i40e_virtchnl_pf.c: EAGAIN, and missing meanwhile."""
    pf = make_pf(I40e())
    kernel = Kernel(pf)
    desired = wanted(*[by_kernel(n) for n in range(7)])
    assert reconcile(kernel, desired) == Done()
    is_as_wanted(pf, desired)
    # It hears of its new address: no need to bind its driver anew.
    assert not any("unbind" in line for line in kernel.journal)


def test_i40e_whose_vf_stays_in_reset() -> None:
    """drivers/net/ethernet/intel/i40e/i40e_virtchnl_pf.c: i40e_check_vf_init_timeout()."""
    pf = make_pf(I40e())
    kernel = Kernel(pf)
    assert reconcile(kernel, wanted(VF(), VF())) == Done()
    pf.vfs[0].mute = True
    outcome = reconcile(kernel, wanted(vfio(0), vfio(1)))
    assert reason(outcome) is Reason.VF_NOT_READY
    assert pf.vfs[1].driver == "vfio-pci"


def test_ice_in_safe_mode_makes_none() -> None:
    """drivers/net/ethernet/intel/ice/ice_sriov.c: ice_check_sriov_allowed()."""
    kernel = Kernel(make_pf(Ice(safe_mode=True)))
    outcome = reconcile(kernel, wanted(vfio()))
    assert reason(outcome) is Reason.NUM_VFS_REFUSED
    assert "DDP" in str(outcome)


def test_ice_that_is_not_at_rest_is_tried_again() -> None:
    """drivers/net/ethernet/intel/ice/ice_sriov.c: ice_check_sriov_allowed() says EBUSY."""
    driver = Ice()
    kernel = Kernel(make_pf(driver))
    driver.busy_until = 10.0
    assert reconcile(kernel, wanted(vfio(), vfio(1, min_rate=10, max_rate=20))) == Done()
    assert kernel.now() >= 10.0


def test_mlx5_gives_its_vfs_pages_back_first() -> None:
    """drivers/net/ethernet/mellanox/mlx5/core/sriov.c: mlx5_device_disable_sriov()."""
    pf = make_pf(Mlx5())
    kernel = Kernel(pf)
    assert reconcile(kernel, wanted(*[by_kernel(n) for n in range(4)])) == Done()
    del kernel.journal[:]
    assert reconcile(kernel, wanted(by_kernel())) == Done()
    zero = kernel.journal.index(f"{NUMVFS} 0")
    assert sum("mlx5_core/unbind" in line for line in kernel.journal[:zero]) == 4


def test_mlx5_keeps_its_driver() -> None:
    kernel = Kernel(make_pf(Mlx5()))
    assert reason(reconcile(kernel, wanted(vfio()))) is Reason.BIFURCATED_DRIVER
    assert kernel.attempts == []


def test_bnxt_makes_none_while_it_is_down() -> None:
    """drivers/net/ethernet/broadcom/bnxt/bnxt_sriov.c: bnxt_sriov_configure()."""
    pf = make_pf(Bnxt())
    pf.netdev.up = False
    kernel = Kernel(pf)
    assert reconcile(kernel, wanted(vfio())) == Done()
    assert pf.netdev.up


def test_bnxt_makes_as_many_as_it_can() -> None:
    """drivers/net/ethernet/broadcom/bnxt/bnxt_sriov.c: bnxt_sriov_enable()."""
    kernel = Kernel(make_pf(Bnxt(limit=3)))
    outcome = reconcile(kernel, wanted(*[vfio(n) for n in range(5)]))
    assert reason(outcome) is Reason.FEWER_VFS
    assert "3 of 5" in str(outcome)


# What is not touched.


def test_a_pf_that_nobody_names_is_never_written_to() -> None:
    mine, other = make_pf(Igb(), 0), make_pf(Ixgbe(), 1)
    kernel = Kernel(mine, other)
    reconcile(kernel, replace(wanted(VF(), VF()), address=other.address))
    before, written = kernel.end_state(other.address), len(kernel.attempts)
    wishes = [Wish("a", PF0, 3, VfDriver.VFIO, 9000)]
    outcome = reconciler(kernel).reconcile_all(merge(wishes).desired.values())
    assert outcome == {PF0: Done()}
    assert kernel.end_state(other.address) == before
    for line in kernel.attempts[written:]:
        assert other.address not in line
        assert not line.startswith((f"link {other.netdev.name}", f"vf {other.netdev.name}"))
        assert "0000:02:" not in line


@pytest.mark.parametrize("how", ["route", "address"])
def test_the_nodes_uplink_is_never_written_to(how: str) -> None:
    pf = make_pf(Igb())
    kernel = Kernel(pf)
    if how == "route":
        kernel.default_route = pf.netdev.index
    else:
        kernel.node_addresses = [(pf.netdev.index, "192.0.2.1")]
    each = Reconciler(
        kernel, kernel, kernel.users, kernel, node=NodeAddresses(frozenset({"192.0.2.1"}))
    )
    outcome = each.reconcile(wanted(vfio()))
    assert reason(outcome) is Reason.NODE_UPLINK
    assert kernel.attempts == []
    # Its VFs may be used where somebody else makes them.
    kernel.write(NUMVFS, "2")
    del kernel.attempts[:]
    assert each.reconcile(replace(wanted(vfio()), externally_managed=True)) == Done()
    assert pf.vfs[0].driver == "vfio-pci"
    assert not any(line.startswith("link") or "sriov_" in line for line in kernel.attempts)


def test_what_is_externally_managed_is_checked_only() -> None:
    pf = make_pf(Igb())
    kernel = Kernel(pf)
    external = replace(wanted(vfio(), vfio(1)), externally_managed=True)
    assert reason(reconcile(kernel, external)) is Reason.VFS_NOT_MADE
    assert kernel.attempts == []
    kernel.write(NUMVFS, "3")
    assert reconcile(kernel, external) == Done()
    assert [vf.driver for vf in pf.vfs] == ["vfio-pci", "vfio-pci", "igbvf"]
    bigger = replace(wanted(vfio(), by_kernel(1, mtu=9000), mtu=9000), externally_managed=True)
    assert reason(reconcile(kernel, bigger)) is Reason.MTU_TOO_SMALL


@each_driver
def test_vfs_in_use_are_left_and_named(driver: Callable[[], PFDriver]) -> None:
    pf = make_pf(driver())
    kernel = Kernel(pf)
    away = by_kernel if driver is Mlx5 else vfio
    assert reconcile(kernel, wanted(away(0), away(1))) == Done()
    pf.vfs[1].held = "pod shop/web"
    before = kernel.end_state(PF0)
    outcome = reconcile(kernel, wanted(away(0), away(1), away(2)))
    assert reason(outcome) is Reason.VFS_IN_USE
    assert isinstance(outcome, Condition)
    assert outcome.passes
    assert "shop/web" in outcome.message
    assert kernel.end_state(PF0) == before
    pf.vfs[1].held = ""
    assert reconcile(kernel, wanted(away(0), away(1), away(2))) == Done()


def test_a_vf_in_use_keeps_its_driver_and_address_and_the_others_change() -> None:
    pf = make_pf(Igb())
    kernel = Kernel(pf)
    assert reconcile(kernel, wanted(vfio(0), vfio(1))) == Done()
    pf.vfs[0].held = "process 7 (testpmd)"
    outcome = reconcile(kernel, wanted(by_kernel(5), by_kernel(1), mtu=9000))
    assert reason(outcome) is Reason.VFS_IN_USE
    assert "process 7 (testpmd)" in str(outcome)
    assert [vf.driver for vf in pf.vfs] == ["vfio-pci", "igbvf"]
    assert pf.vfs[0].mac == MAC
    pf.vfs[0].held = ""
    assert reconcile(kernel, wanted(by_kernel(5), by_kernel(1), mtu=9000)) == Done()


def test_the_address_of_a_vf_changes_once_it_is_free() -> None:
    pf = make_pf(Igb())
    kernel = Kernel(pf)
    assert reconcile(kernel, wanted(vfio(), by_kernel(1))) == Done()
    for vf in pf.vfs:
        vf.held = "pod shop/web"
    desired = wanted(vfio(4), by_kernel(5))
    outcome = reconcile(kernel, desired)
    assert reason(outcome) is Reason.VFS_IN_USE
    assert "02:00:00:00:01:04" in str(outcome)
    assert [vf.mac for vf in pf.vfs] == [MAC, "02:00:00:00:01:01"]
    # What its user bears is done at once.
    assert [vf.vlan for vf in pf.vfs] == [104, 105]
    for vf in pf.vfs:
        vf.held = ""
    assert reconcile(kernel, desired) == Done()
    is_as_wanted(pf, desired)


def test_a_vf_without_a_driver_is_bound_although_a_pod_was_given_it() -> None:
    pf = make_pf(Igb())
    kernel = Kernel(pf)
    assert reconcile(kernel, wanted(vfio())) == Done()
    (vf,) = pf.vfs
    vf.held, vf.driver = "pod shop/web", ""
    assert reconcile(kernel, wanted(vfio())) == Done()
    assert vf.driver == "vfio-pci"


@each_vfio_driver
@pytest.mark.parametrize("mac", [MAC, None], ids=["a MAC address", "its own"])
def test_vfs_made_anew_are_bound_although_a_pod_was_given_them(
    driver: Callable[[], PFDriver], mac: str | None
) -> None:
    pf = make_pf(driver())
    kernel = Kernel(pf)
    desired = wanted(vfio(mac=mac), vfio(1))
    assert reconcile(kernel, desired) == Done()
    kernel.pods = {vf.address: "shop/web" for vf in pf.vfs}
    kernel.write(NUMVFS, "0")
    kernel.write(NUMVFS, "2")
    kernel.sleep(5)
    assert [vf.driver for vf in pf.vfs] == [pf.driver.vf_driver] * 2
    assert reconcile(kernel, desired) == Done()
    is_as_wanted(pf, desired)
    written = len(kernel.attempts)
    assert reconcile(kernel, desired) == Done()
    assert len(kernel.attempts) == written


def test_vfs_made_anew_without_a_driver_have_their_address_although_a_pod_was_given_them() -> None:
    pf = make_pf(Igb(), autoprobe=False)
    kernel = Kernel(pf)
    desired = wanted(vfio(), vfio(1))
    assert reconcile(kernel, desired) == Done()
    kernel.pods = {vf.address: "shop/web" for vf in pf.vfs}
    kernel.write(NUMVFS, "0")
    kernel.write(NUMVFS, "2")
    kernel.sleep(5)
    assert [vf.driver for vf in pf.vfs] == ["", ""]
    assert reconcile(kernel, desired) == Done()
    is_as_wanted(pf, desired)


@pytest.mark.parametrize("who", ["a container", "the node's network", "a process"])
def test_of_the_kernels_vfs_those_that_serve_somebody_are_left(who: str) -> None:
    pf = make_pf(Igb())
    kernel = Kernel(pf)
    assert reconcile(kernel, wanted(*[VF(driver=VfDriver.KERNEL)] * 2)) == Done()
    kernel.pods = {vf.address: "shop/web" for vf in pf.vfs}
    vf = pf.vfs[0]
    assert vf.netdev is not None
    says = "shop/web"
    if who == "a container":
        vf.netdev, vf.elsewhere = None, True
    elif who == "the node's network":
        vf.netdev.up = True
    else:
        says = vf.held = "process 7 (testpmd)"
    mac = vf.mac
    outcome = reconcile(kernel, wanted(vfio(), vfio(1)))
    assert reason(outcome) is Reason.VFS_IN_USE
    assert says in str(outcome)
    assert (vf.driver, vf.mac) == ("igbvf", mac)
    # The pod waits for the other one.
    assert pf.vfs[1].driver == "vfio-pci"


def test_a_vf_that_stays_with_the_kernel_is_its_pods() -> None:
    pf = make_pf(Igb())
    kernel = Kernel(pf)
    assert reconcile(kernel, wanted(by_kernel())) == Done()
    kernel.pods = {pf.vfs[0].address: "shop/web"}
    outcome = reconcile(kernel, wanted(by_kernel(4)))
    assert reason(outcome) is Reason.VFS_IN_USE
    assert pf.vfs[0].mac == MAC


@each_vfio_driver
def test_a_vf_is_promised_to_vfio_before_it_is_free(driver: Callable[[], PFDriver]) -> None:
    """Else another driver that is loaded meanwhile takes it."""
    kernel = Kernel(make_pf(driver()))
    assert reconcile(kernel, wanted(*[vfio(n) for n in range(3)])) == Done()
    for index in range(3):
        address = f"0000:01:10.{2 * index}"
        mine = [line for line in kernel.journal if address in line]
        assert [line.split("/")[-1].split()[0] for line in mine] == [
            "driver_override",
            "unbind",
            "drivers_probe",
        ]


def test_one_pf_after_the_other() -> None:
    kernel = Kernel(make_pf(Ixgbe(), 0), make_pf(Ixgbe(), 1))
    both = reconciler(kernel)
    other = Thread(target=both.reconcile, args=(replace(wanted(vfio()), address="0000:02:00.0"),))

    def meanwhile(number: int) -> None:
        if number == 0:
            other.start()
            other.join(0.2)

    kernel.before_write = meanwhile
    assert both.reconcile(wanted(vfio())) == Done()
    other.join()
    of = ["0000:02:" in line or "eth1" in line for line in kernel.journal]
    assert of == sorted(of)
    assert set(of) == {False, True}


def test_a_vf_whose_device_is_in_a_container_is_in_use() -> None:
    pf = make_pf(Ixgbe())
    kernel = Kernel(pf)
    assert reconcile(kernel, wanted(VF(driver=VfDriver.KERNEL), vfio(1))) == Done()
    pf.vfs[0].netdev, pf.vfs[0].elsewhere = None, True
    kernel.sleep(1)
    outcome = reconcile(kernel, wanted(vfio(), vfio(1), vfio(2)))
    assert reason(outcome) is Reason.VFS_IN_USE
    assert "container" in str(outcome)
    assert len(pf.vfs) == 2


def test_a_vf_with_an_address_of_the_node_is_in_use() -> None:
    pf = make_pf(Ixgbe())
    kernel = Kernel(pf)
    assert reconcile(kernel, wanted(VF(driver=VfDriver.KERNEL))) == Done()
    netdev = pf.vfs[0].netdev
    assert netdev is not None
    kernel.node_addresses = [(netdev.index, "192.0.2.7")]
    outcome = reconcile(kernel, wanted(vfio(), vfio(1)))
    assert reason(outcome) is Reason.VFS_IN_USE
    assert "192.0.2.7" in str(outcome)


# What goes wrong.


@each_driver
def test_a_device_that_is_busy_for_a_while(driver: Callable[[], PFDriver]) -> None:
    pf = make_pf(driver())
    kernel = Kernel(pf)
    kernel.failures = [
        ("sriov_numvfs", 4, errno.EBUSY),
        ("'vlan'", 5, errno.EBUSY),
        ("drivers_probe", 3, errno.EAGAIN),
        ("mtu=", 2, errno.EBUSY),
    ]
    desired = typical(pf.driver)
    assert reconcile(kernel, desired) == Done()
    is_as_wanted(pf, desired)


@each_driver
def test_a_device_that_stays_busy(driver: Callable[[], PFDriver]) -> None:
    kernel = Kernel(make_pf(driver()))
    kernel.failures = [("sriov_numvfs", 10**6, errno.EBUSY)]
    assert reason(reconcile(kernel, wanted(by_kernel()))) is Reason.DEVICE_BUSY
    times = [n for n, line in enumerate(kernel.attempts) if "sriov_numvfs" in line]
    assert 5 < len(times) < 40
    assert 30 <= kernel.now() < 60


@pytest.mark.parametrize(
    ("begins", "number", "expected"),
    [
        ("sriov_numvfs", errno.EACCES, Reason.PERMISSION_DENIED),
        ("sriov_numvfs", errno.ENOMEM, Reason.NOT_ENOUGH_MMIO),
        ("sriov_numvfs", errno.ENOENT, Reason.DRIVER_WITHOUT_SRIOV),
        ("sriov_numvfs", errno.ERANGE, Reason.NUM_VFS_ABOVE_TOTAL),
        ("sriov_numvfs", errno.EINVAL, Reason.NUM_VFS_REFUSED),
        ("sriov_numvfs", errno.EIO, Reason.FAILED),
        ("driver_override", errno.EPERM, Reason.PERMISSION_DENIED),
        ("driver_override", errno.ENOENT, Reason.MISSING_ATTRIBUTE),
        ("driver_override", errno.EROFS, Reason.READ_ONLY_SYSFS),
        ("unbind", errno.ENODEV, Reason.MISSING_ATTRIBUTE),
        ("drivers_probe", errno.EINVAL, Reason.BIND_FAILED),
        ("'mac'", errno.EINVAL, Reason.SETTING_REFUSED),
        ("'vlan'", errno.EPERM, Reason.PERMISSION_DENIED),
        ("'vlan'", errno.EPROTONOSUPPORT, Reason.SETTING_REFUSED),
        ("'trust'", errno.EOPNOTSUPP, Reason.SETTING_UNSUPPORTED),
        ("mtu=", errno.EINVAL, Reason.MTU_REFUSED),
        ("mtu=", errno.EPERM, Reason.PERMISSION_DENIED),
    ],
)
def test_what_the_kernel_refuses_is_named(begins: str, number: int, expected: Reason) -> None:
    kernel = Kernel(make_pf(Ixgbe()))
    kernel.failures = [(begins, 10**6, number)]
    assert reason(reconcile(kernel, wanted(vfio(), mtu=9000))) is expected


@each_driver
def test_a_read_only_sysfs(driver: Callable[[], PFDriver]) -> None:
    kernel = Kernel(make_pf(driver()))
    kernel.read_only = True
    assert reason(reconcile(kernel, wanted(by_kernel()))) is Reason.READ_ONLY_SYSFS
    assert kernel.journal == []


def test_a_driver_without_sriov() -> None:
    kernel = Kernel(make_pf(NoSRIOV()))
    assert reason(reconcile(kernel, wanted(VF()))) is Reason.DRIVER_WITHOUT_SRIOV


@pytest.mark.parametrize(
    ("missing", "expected"),
    [
        ("sriov_totalvfs", Reason.NO_SRIOV),
        ("sriov_numvfs", Reason.MISSING_ATTRIBUTE),
        ("driver_override", Reason.MISSING_ATTRIBUTE),
    ],
)
@each_vfio_driver
def test_a_missing_attribute(
    driver: Callable[[], PFDriver], missing: str, expected: Reason
) -> None:
    kernel = Kernel(make_pf(driver(), missing=frozenset({missing})))
    assert reason(reconcile(kernel, wanted(vfio()))) is expected


@each_driver
def test_network_devices_that_never_show(driver: Callable[[], PFDriver]) -> None:
    kernel = Kernel(make_pf(driver(), vfs_show_netdev=False))
    assert reason(reconcile(kernel, wanted(by_kernel()))) is Reason.VF_NETDEV_MISSING


def test_a_vf_that_never_shows_its_network_device() -> None:
    pf = make_pf(Igb(), vfs_show_netdev=False)
    kernel = Kernel(pf)
    outcome = reconcile(kernel, wanted(by_kernel(0), vfio(1, mac=None), vfio(2)))
    assert reason(outcome) is Reason.VF_NETDEV_MISSING
    # All are waited for at once, and the one with an address of its own needs none.
    assert kernel.now() < 40
    assert [vf.driver for vf in pf.vfs] == ["igbvf", "igbvf", "vfio-pci"]
    # Bound anew, once.
    assert sum("igbvf/unbind" in line for line in kernel.journal) == 3


def test_a_vf_that_never_shows_its_link() -> None:
    kernel = Kernel(make_pf(Igb(), hidden_links=1))
    assert reason(reconcile(kernel, wanted(vfio(), vfio(1)))) is Reason.VF_LINKS_MISSING
    assert kernel.now() < 200


def test_vfs_that_show_their_links_late() -> None:
    pf = make_pf(Ixgbe(), links_after=20.0)
    kernel = Kernel(pf)
    assert reconcile(kernel, wanted(vfio())) == Done()
    assert kernel.now() >= 20.0


def test_a_vf_of_which_nothing_is_wanted_is_left_as_it_is() -> None:
    pf = make_pf(I40e())
    kernel = Kernel(pf)
    kernel.write(NUMVFS, "2")
    kernel.sleep(1)
    pf.vfs[0].mute = True
    pf.vfs[0].driver, pf.vfs[0].override = "uio_pci_generic", "uio_pci_generic"
    assert reconcile(kernel, wanted(VF(), vfio(1))) == Done()
    assert pf.vfs[0].driver == "uio_pci_generic"


def test_vfs_without_a_driver() -> None:
    pf = make_pf(Igb())
    kernel = Kernel(pf)
    kernel.modules.remove("igbvf")
    assert reason(reconcile(kernel, wanted(VF(driver=VfDriver.KERNEL)))) is Reason.VF_DRIVER_MISSING
    assert reason(reconcile(kernel, wanted(vfio(mac=None)))) is Reason.VF_DRIVER_MISSING
    # With an address it needs none.
    assert reconcile(kernel, wanted(vfio())) == Done()


def test_drivers_that_do_not_bind_by_themselves() -> None:
    pf = make_pf(Igb(), autoprobe=False)
    kernel = Kernel(pf)
    assert reconcile(kernel, wanted(vfio())) == Done()
    assert not pf.autoprobe
    assert reconcile(kernel, wanted(by_kernel())) == Done()


def test_vfio_without_an_iommu() -> None:
    kernel = Kernel(make_pf(Igb()), iommu=False)
    assert reason(reconcile(kernel, wanted(vfio()))) is Reason.IOMMU_OFF
    assert kernel.attempts == []
    kernel.noiommu = True
    done = reconcile(kernel, wanted(vfio()))
    assert isinstance(done, Done)
    assert [note.reason for note in done.notes] == [Reason.IOMMU_OFF]


def test_vfio_that_is_not_loaded() -> None:
    kernel = Kernel(make_pf(Igb()), modules=())
    assert reason(reconcile(kernel, wanted(vfio()))) is Reason.DRIVER_NOT_LOADED
    assert kernel.attempts == []


def test_a_group_with_somebody_elses_device() -> None:
    pf = make_pf(Igb())
    kernel = Kernel(pf)
    assert reconcile(kernel, wanted(VF(), VF())) == Done()
    kernel.strangers = {
        pf.vfs[0].group: [("0000:09:00.0", "nvme")],
        pf.vfs[1].group: [("0000:09:00.1", "pcieport"), ("0000:09:00.2", "")],
    }
    outcome = reconcile(kernel, wanted(vfio(), vfio(1)))
    assert reason(outcome) is Reason.IOMMU_GROUP_INCOMPLETE
    assert "0000:09:00.0 (nvme)" in str(outcome)
    assert [vf.driver for vf in pf.vfs] == ["igbvf", "vfio-pci"]


def test_a_group_with_a_vf_that_stays_with_the_kernel() -> None:
    pf = make_pf(Igb())
    kernel = Kernel(pf)
    assert reconcile(kernel, wanted(VF(), VF())) == Done()
    pf.vfs[1].group = pf.vfs[0].group
    outcome = reconcile(kernel, wanted(vfio(), by_kernel(1)))
    assert reason(outcome) is Reason.IOMMU_GROUP_INCOMPLETE
    assert reconcile(kernel, wanted(vfio(), vfio(1))) == Done()


def test_more_than_there_can_be() -> None:
    kernel = Kernel(make_pf(Igb()))
    outcome = reconcile(kernel, wanted(*[VF()] * 8))
    assert reason(outcome) is Reason.NUM_VFS_ABOVE_TOTAL
    assert kernel.attempts == []


def test_a_pf_that_is_not_there() -> None:
    kernel = Kernel(make_pf(Igb()))
    outcome = reconcile(kernel, wanted(vfio(), address="0000:77:00.0"))
    assert reason(outcome) is Reason.PF_MISSING
    assert kernel.now() < 60


def test_a_pf_without_a_driver() -> None:
    pf = make_pf(Igb(), loaded=False)
    kernel = Kernel(pf)
    assert reason(reconcile(kernel, wanted(vfio()))) is Reason.PF_DRIVER_MISSING
    kernel.later(2.0, lambda: setattr(pf, "loaded", True))
    assert reconcile(kernel, wanted(vfio())) == Done()


def test_a_pf_that_is_given_away() -> None:
    pf = make_pf(Igb())
    pf.driver.name = "vfio-pci"
    kernel = Kernel(pf)
    assert reason(reconcile(kernel, wanted(vfio()))) is Reason.PF_GIVEN_AWAY
    assert kernel.attempts == []


def test_a_pf_whose_network_device_is_in_a_container(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(make_pf(Igb()))
    monkeypatch.setattr(kernel, "links", dict)
    assert reason(reconcile(kernel, wanted(vfio()))) is Reason.PF_NETDEV_MISSING
    assert kernel.attempts == []
    assert kernel.now() < 60


def test_somebody_who_gives_a_vf_another_mac_address(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(make_pf(Igb()))
    show = kernel._show_netdev
    monkeypatch.setattr(kernel, "_show_netdev", lambda pf, vf, _: show(pf, vf, MAC))
    assert reason(reconcile(kernel, wanted(by_kernel(1)))) is Reason.MAC_NOT_TAKEN


def test_somebody_who_undoes_it_each_time() -> None:
    pf = make_pf(Igb())
    kernel = Kernel(pf)

    def undo(_: int) -> None:
        for vf in pf.vfs:
            vf.vlan = 0

    kernel.before_write = undo
    assert reason(reconcile(kernel, wanted(vfio(), vfio(1)))) is Reason.NOT_KEPT


def test_the_mtu_of_a_pf_is_only_raised() -> None:
    pf = make_pf(Igb())
    pf.netdev.mtu = 9000
    kernel = Kernel(pf)
    assert reconcile(kernel, wanted(by_kernel(mtu=1500), mtu=1500)) == Done()
    assert pf.netdev.mtu == 9000
    assert pf.vfs[0].netdev is not None
    assert pf.vfs[0].netdev.mtu == 1500


@each_driver
def test_a_driver_that_is_reloaded_meanwhile(driver: Callable[[], PFDriver]) -> None:
    pf = make_pf(driver())
    kernel = Kernel(pf)
    desired = typical(pf.driver)
    assert reconcile(kernel, desired) == Done()
    writes = len(kernel.attempts)
    for at in range(1, writes):
        pf = make_pf(driver())
        kernel = Kernel(pf)

        def reload(number: int, at: int = at, kernel: Kernel = kernel) -> None:
            if number == at:
                kernel.reload(PF0)

        kernel.before_write = reload
        assert reconcile(kernel, desired) == Done(), at
        is_as_wanted(pf, desired)


def test_a_pf_with_another_address_after_a_reboot() -> None:
    pf = make_pf(Igb())
    kernel = Kernel(pf, make_pf(Igb(), 1))
    mac = pf.netdev.mac

    def found(kernel: Kernel) -> str:
        (address,) = (each.address for each in identities(kernel, kernel) if each.mac == mac)
        return address

    assert found(kernel) == PF0
    assert reconcile(kernel, wanted(vfio())) == Done()
    pf = make_pf(Igb())
    pf.address = "0000:05:00.0"
    kernel = Kernel(make_pf(Igb(), 1), pf)
    assert found(kernel) == "0000:05:00.0"
    assert reconcile(kernel, wanted(vfio(), address=found(kernel))) == Done()
    assert pf.vfs[0].driver == "vfio-pci"


def test_a_rebooted_node_is_as_it_was() -> None:
    desired = typical(Igb())
    ends = []
    for _ in range(2):
        kernel = Kernel(make_pf(Igb()))
        assert reconcile(kernel, desired) == Done()
        ends.append(kernel.end_state(PF0, macs=False))
    assert ends[0] == ends[1]


# What was found is put back.


@each_driver
@pytest.mark.parametrize("count", [0, 4])
def test_what_was_found_is_put_back(driver: Callable[[], PFDriver], count: int) -> None:
    pf = make_pf(driver())
    kernel = Kernel(pf)
    if count:
        kernel.write(NUMVFS, str(count))
        kernel.sleep(3)
        pf.netdev.mtu = 2000
    else:
        pf.netdev.up = False
    seen = reconciler(kernel).observe(PF0)
    assert seen is not None
    kept = restore.from_json(restore.found(seen).to_json())
    assert kept == restore.found(seen)
    before = kernel.end_state(PF0, macs=False)
    assert reconcile(kernel, typical(pf.driver)) == Done()
    assert reconcile(kernel, restore.wanted_back(kept)) == Done()
    if count:
        assert [vf.driver for vf in pf.vfs] == [pf.driver.vf_driver] * 4
        assert [vf.override for vf in pf.vfs] == [""] * 4
        assert pf.netdev.mtu == 2000
        assert [vf.vlan for vf in pf.vfs] == [0] * 4
    else:
        assert kernel.end_state(PF0, macs=False) == before


def test_that_drivers_did_not_bind_by_themselves_is_put_back() -> None:
    pf = make_pf(Igb(), autoprobe=False)
    kernel = Kernel(pf)
    seen = reconciler(kernel).observe(PF0)
    assert seen is not None
    assert reconcile(kernel, wanted(by_kernel())) == Done()
    assert pf.autoprobe
    assert reconcile(kernel, restore.wanted_back(restore.found(seen))) == Done()
    assert not pf.autoprobe


def test_what_was_kept_is_not_whatever_text() -> None:
    for text in ("", "[]", "{}", '{"vfs": [{}]}', '{"vfs": 1}'):
        with pytest.raises(ValueError):
            restore.from_json(text)


# From anywhere.


@st.composite
def kernels(draw: st.DrawFn) -> Kernel:
    """A kernel with one PF, of any driver and in any state."""
    make = draw(st.sampled_from(DRIVERS))
    pf = make_pf(
        make(),
        autoprobe=draw(st.booleans()),
        cable=draw(st.booleans()),
        loaded=draw(st.integers(0, 19)) < 19,
        hidden_links=draw(st.sampled_from((0, 0, 0, 0, 1))),
        vfs_show_netdev=draw(st.integers(0, 5)) > 0,
        eswitch=draw(st.sampled_from((None, "legacy", "switchdev"))),
    )
    modules = ("vfio-pci", "uio_pci_generic") if draw(st.integers(0, 9)) < 9 else ()
    kernel = Kernel(pf, iommu=draw(st.integers(0, 5)) > 0, modules=modules)
    pf.netdev.mtu = draw(st.sampled_from((1500, 9000)))
    kernel.replace_vfs(pf, draw(st.integers(0, 4)) if pf.loaded else 0)
    if draw(st.booleans()):
        kernel.sleep(1)
    pf.netdev.up = draw(st.booleans())
    for vf in pf.vfs:
        vf.administrative = draw(st.booleans())
        if not vf.administrative and vf.netdev is None:
            vf.mac = draw(st.sampled_from((NO_MAC, vf.mac)))
        vf.vlan = draw(st.sampled_from((0, 5)))
        vf.mute = draw(st.integers(0, 19)) == 19
        bound = draw(st.sampled_from(("as is", "as is", "vfio-pci", "uio_pci_generic", "")))
        if bound != "as is" and (bound in kernel.modules or not bound):
            vf.driver, vf.netdev = bound, None
        vf.override = draw(st.sampled_from(("", "", "vfio-pci", "uio_pci_generic")))
        vf.held = draw(st.sampled_from(("", "", "", "a/b", "process 7 (a)")))
    if draw(st.integers(0, 19)) == 19:
        kernel.default_route = pf.netdev.index
    kernel.read_only = draw(st.integers(0, 19)) == 19
    for begins in draw(st.lists(st.sampled_from(("sriov_numvfs", "'mac'", "probe", "unbind")))):
        number = draw(st.sampled_from((errno.EBUSY, errno.EINVAL, errno.ENODEV, errno.EIO)))
        kernel.failures.append((begins, draw(st.integers(1, 30)), number))
    return kernel


vfs = st.builds(
    VF,
    driver=st.sampled_from((None, *VfDriver)),
    mtu=st.sampled_from((None, 1500, 9000)),
    mac=st.none(),
    vlan=st.sampled_from((None, 0, 7)),
    spoof_check=st.sampled_from((None, True, False)),
    trust=st.sampled_from((None, True, False)),
    max_rate=st.sampled_from((None, 0, 5, 100)),
    link_state=st.sampled_from((None, *VfLinkState)),
)


@st.composite
def desires(draw: st.DrawFn) -> Desired:
    each = [
        replace(vf, mac=draw(st.sampled_from((None, NO_MAC, f"02:00:00:00:02:{at:02x}"))))
        for at, vf in enumerate(draw(st.lists(vfs, max_size=7)))
    ]
    mtu = max((vf.mtu or 0 for vf in each), default=0) or None
    return Desired(PF0, ("p",), tuple(each), mtu, externally_managed=draw(st.booleans()))


def serving(pf: PF, desired: Desired) -> dict[str, str]:
    """The VFs that serve somebody for sure, and are left: address and driver."""
    away = {at for at, vf in enumerate(desired.vfs) if vf.driver is VfDriver.VFIO}
    return {
        vf.address: vf.driver
        for vf in pf.vfs
        if vf.held and vf.driver
        if given_away(vf) or vf.index not in away or vf.held.startswith("process ")
    }


@settings(max_examples=400)
@given(kernels(), desires())
def test_from_anywhere_to_anywhere_it_ends(kernel: Kernel, desired: Desired) -> None:
    """Done, and it is so, or a condition; never for ever, and never at who uses a VF."""
    served = serving(kernel.pfs[PF0], desired)
    outcome = reconcile(kernel, desired)
    assert len(kernel.attempts) < 400
    pf = kernel.pfs[PF0]
    assert served.items() <= {vf.address: vf.driver for vf in pf.vfs}.items()
    if isinstance(outcome, Done):
        is_as_wanted(pf, desired)
        # It is so, and stays so.
        written = len(kernel.attempts)
        assert isinstance(reconcile(kernel, desired), Done)
        assert len(kernel.attempts) == written
    else:
        assert outcome.reason is not Reason.GAVE_UP
        assert outcome.message
