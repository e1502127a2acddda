# SPDX-License-Identifier: Apache-2.0
"""DevicePolicies mean the cards that they say, and what came of them is told."""

from typing import Any

import pytest

from headrace_api.device_policy import VfDriver, VfLinkState
from headrace_api.node_state import NodePolicy
from headrace_dataplane.node.policies import (
    Card,
    Ranges,
    Resolved,
    Working,
    given,
    policy_states,
    resolve,
    selected,
)
from headrace_dataplane.node.sriov.apply import Reconciler
from headrace_dataplane.node.sriov.desired import VF, Identity
from headrace_dataplane.node.sriov.steps import Condition, Done, Reason
from tests.unit.sriov_kernel import Igb, Kernel, make_pf

PF0, PF1 = "0000:01:00.0", "0000:02:00.0"
CARD = Identity(PF0, "8086", "10c9", "igb", "ens1f0", "00:1b:21:00:00:01", infiniband=False)
OTHER = Identity(PF1, "15b3", "101d", "mlx5_core", "ens2", "00:1b:21:00:00:02", infiniband=True)


def policy(name: str = "p", vfs: int = 4, **more: Any) -> NodePolicy:
    selector = more.pop("selector", {"vendorIDs": ["8086"]})
    return NodePolicy.model_validate(
        {"name": name, "nicSelector": selector, "vfs": vfs, "generation": 3, **more}
    )


@pytest.mark.parametrize(
    ("selector", "means"),
    [
        ({"vendorIDs": ["8086", "15b3"], "names": ["ens1f0"]}, ()),
        ({"vendorIDs": ["8086"], "names": ["ens2"]}, None),
        ({"pciAddresses": [PF0]}, ()),
        ({"deviceIDs": ["10c9"], "drivers": ["igb"]}, ()),
        ({"drivers": ["ice"]}, None),
        ({"macAddresses": ["00:1b:21:00:00:01"]}, ()),
        ({"macAddresses": ["00:1b:21:00:00:02"]}, None),
        ({"names": ["ens1f0"], "linkType": "Ethernet"}, ()),
        ({"names": ["ens1f0"], "linkType": "InfiniBand"}, None),
        ({"names": ["ens1f0#0-1", "ens1f0#3", "ens2#2"]}, ((0, 1), (3, 3))),
        # All of them, and some: all of them.
        ({"names": ["ens1f0#0-1", "ens1f0"]}, ()),
    ],
)
def test_a_selector_means_what_matches_all_it_names(selector: Any, means: Ranges | None) -> None:
    assert selected(policy(selector=selector).nic_selector, CARD) == means


def test_a_card_without_sriov_is_meant_by_its_name_alone() -> None:
    plain = Identity(PF0, "8086", "15f3", "igc", "eno1", "00:1b:21:00:00:05", False, sriov=False)
    assert selected(policy().nic_selector, plain) is None
    assert selected(policy(selector={"names": ["eno1"]}).nic_selector, plain) == ()
    # Of what speaks nothing yet it is not known what it speaks.
    silent = Identity(PF0, "8086", "10c9")
    assert selected(policy().nic_selector, silent) == ()
    ethernet = policy(selector={"vendorIDs": ["8086"], "linkType": "Ethernet"})
    assert selected(ethernet.nic_selector, silent) is None


def test_all_that_a_policy_says_is_wanted() -> None:
    settings = {
        "vlan": 7,
        "spoofCheck": False,
        "trust": True,
        "minRateMbits": 1,
        "maxRateMbits": 100,
        "linkState": "Enable",
    }
    one = policy(
        vfs=3,
        selector={"names": ["ens1f0#1-2"]},
        mtu=9000,
        resourceName="headrace.dev/vf",
        settings=settings,
    )
    resolved = resolve([one], [CARD, OTHER])
    vf = VF(
        VfDriver.VFIO, 9000, None, 7, False, True, 1, 100, VfLinkState.ENABLE, "headrace.dev/vf"
    )
    assert resolved.problems == {}
    assert [*resolved.desired] == [PF0]
    assert resolved.desired[PF0].vfs == (VF(), vf, vf)
    assert resolved.desired[PF0].mtu == 9000


def states(resolved: Resolved, cards: dict[str, Card], *policies: NodePolicy) -> dict[str, Any]:
    return {each.name: each for each in policy_states(policies, resolved, cards)}


def test_what_contradicts_is_told_to_both_and_another_card_goes_on() -> None:
    one = policy("a", 4, selector={"drivers": ["igb", "mlx5_core"]}, driver="Kernel")
    two = policy("b", 5)
    resolved = resolve([one, two], [CARD, OTHER])
    assert [*resolved.desired] == [PF1]
    found = states(resolved, {PF1: Card(resolved.desired[PF1], Done())}, one, two)
    for name, other in (("a", "b"), ("b", "a")):
        assert (found[name].ready, found[name].reason) == (False, "PolicyConflict")
        assert f"policy {other}" in found[name].message
        assert found[name].observed_generation == 3
    assert found["a"].pci_addresses == (PF0, PF1)


def test_a_vf_is_of_one_resource() -> None:
    one = policy("a", resourceName="headrace.dev/one")
    two = policy("b", resourceName="headrace.dev/two")
    resolved = resolve([one, two], [CARD])
    assert resolved.desired == {}
    assert "resource of VF 0" in resolved.problems["a"].message


def test_what_means_no_card_or_no_vf_is_told() -> None:
    none = policy("none", selector={"names": ["eth9"]})
    wrong = policy("wrong", 2, selector={"names": ["ens1f0#0-2"]})
    resolved = resolve([none, wrong], [CARD])
    found = states(resolved, {}, none, wrong)
    assert found["none"].reason == "NoDevice"
    assert f"{PF0} (ens1f0, igb)" in found["none"].message
    assert found["wrong"].reason == "PolicyInvalid"
    assert "VF 2" in found["wrong"].message


@pytest.mark.parametrize(
    ("outcome", "ready", "reason"),
    [
        (None, False, "InProgress"),
        (Working("PF: writing 4 to sriov_numvfs"), False, "InProgress"),
        (Done(), True, ""),
        (Done((Condition(Reason.NO_CARRIER, "no link"),)), True, ""),
        (Condition(Reason.MTU_REFUSED, "no"), False, "MTURefused"),
    ],
)
def test_what_came_of_a_policy(outcome: Any, ready: bool, reason: str) -> None:
    resolved = resolve([policy()], [CARD])
    cards = {PF0: Card(resolved.desired[PF0], outcome)} if outcome else {}
    (found,) = policy_states([policy()], resolved, cards)
    assert (found.ready, found.reason) == (ready, reason)
    assert bool(found.message) == (outcome != Done())
    # Of another wish it says nothing.
    if outcome:
        later = resolve([policy(vfs=5)], [CARD])
        (found,) = policy_states([policy(vfs=5)], later, cards)
        assert (found.ready, found.reason) == (False, "InProgress")


def test_what_needs_a_hand_comes_before_what_may_pass() -> None:
    both = policy(selector={"vendorIDs": ["8086", "15b3"]})
    resolved = resolve([both], [CARD, OTHER])
    cards = {
        PF0: Card(resolved.desired[PF0], Condition(Reason.VFS_IN_USE, "used", passes=True)),
        PF1: Card(resolved.desired[PF1], Condition(Reason.IOMMU_OFF, "off")),
    }
    (found,) = policy_states([both], resolved, cards)
    assert (found.reason, found.message) == ("IOMMUOff", "off; used")


def made(kernel: Kernel, one: NodePolicy) -> tuple[Resolved, dict[str, Card]]:
    each = Reconciler(kernel, kernel, kernel.users, kernel)
    pf = each.observe(PF0)
    assert pf is not None
    resolved = resolve([one], [pf.identity])
    outcome = each.reconcile(resolved.desired[PF0])
    return resolved, {PF0: Card(resolved.desired[PF0], outcome, each.observe(PF0))}


def test_vfs_that_are_well_are_counted_and_given_out() -> None:
    pf = make_pf(Igb())
    kernel = Kernel(pf)
    one = policy(vfs=3, selector={"names": ["eth0#1-2"]}, resourceName="headrace.dev/vf")
    resolved, cards = made(kernel, one)
    (found,) = policy_states([one], resolved, cards)
    assert (found.ready, found.vfs) == (True, 2)
    (devices,) = given(cards.values()).values()
    assert [(each.vf.address, each.well) for each in devices] == [
        (pf.vfs[1].address, True),
        (pf.vfs[2].address, True),
    ]
    assert (devices[0].want.driver, devices[0].vf.numa_node) == (VfDriver.VFIO, 0)


def test_a_vf_without_its_driver_is_not_given_out() -> None:
    pf = make_pf(Igb())
    kernel = Kernel(pf)
    one = policy(vfs=2, resourceName="headrace.dev/vf")
    resolved, cards = made(kernel, one)

    def well() -> list[bool]:
        each = Reconciler(kernel, kernel, kernel.users, kernel)
        kernel.touch()
        cards[PF0] = Card(cards[PF0].desired, cards[PF0].outcome, each.observe(PF0))
        (devices,) = given(cards.values()).values()
        return [device.well for device in devices]

    assert well() == [True, True]
    pf.vfs[1].driver = ""
    assert well() == [True, False]
    (found,) = policy_states([one], resolved, cards)
    assert found.vfs == 1
    # While something is done nobody gets one.
    cards[PF0] = Card(cards[PF0].desired, Working("..."), cards[PF0].pf)
    assert not any(each.well for each in given(cards.values())["headrace.dev/vf"])


def test_a_resource_is_there_before_its_vfs() -> None:
    one = policy(resourceName="headrace.dev/vf")
    resolved = resolve([one], [CARD])
    assert given([Card(resolved.desired[PF0], Working("..."))]) == {"headrace.dev/vf": ()}
