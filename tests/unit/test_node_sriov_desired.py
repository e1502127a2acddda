# SPDX-License-Identifier: Apache-2.0
"""Several policies' wishes come together, or both are told what contradicts."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_api.device_policy import VfDriver, VfLinkState
from headrace_dataplane.node.sriov.desired import (
    NO_MAC,
    VF,
    Desired,
    VFRange,
    Wish,
    merge,
)

PF0, PF1 = "0000:01:00.0", "0000:02:00.0"


def test_one_policy_of_a_whole_pf() -> None:
    merged = merge([Wish("a", PF0, 3, VfDriver.VFIO, 9000)])
    vf = VF(driver=VfDriver.VFIO, mtu=9000)
    assert merged.conflicts == {}
    assert merged.desired == {PF0: Desired(PF0, ("a",), (vf, vf, vf), 9000)}


def test_two_policies_share_a_pfs_vfs() -> None:
    engine = VFRange(0, 1, VF(mac="02:00:00:00:00:ff", vlan=7, trust=True))
    merged = merge(
        [
            Wish("pods", PF0, 4, VfDriver.KERNEL, 1500, ranges=(VFRange(2, 2),)),
            Wish("engine", PF0, 4, VfDriver.VFIO, 9000, ranges=(engine,)),
        ]
    )
    assert merged.conflicts == {}
    desired = merged.desired[PF0]
    assert desired.policies == ("engine", "pods")
    assert desired.mtu == 9000
    assert desired.vfs == (
        VF(VfDriver.VFIO, 9000, "02:00:00:00:00:ff", 7, trust=True),
        VF(VfDriver.VFIO, 9000, "02:00:00:00:01:00", 7, trust=True),
        VF(VfDriver.KERNEL, 1500),
        VF(),
    )


@pytest.mark.parametrize(
    ("one", "other", "what"),
    [
        (Wish("a", PF0, 4), Wish("b", PF0, 8), "numVfs"),
        (Wish("a", PF0, 4), Wish("b", PF0, 4, externally_managed=True), "externallyManaged"),
        (Wish("a", PF0, 4, VfDriver.KERNEL), Wish("b", PF0, 4, VfDriver.VFIO), "driver of VF 0"),
        (
            Wish("a", PF0, 4, mtu=1500),
            Wish("b", PF0, 4, mtu=9000, ranges=(VFRange(3, 3),)),
            "mtu of VF 3",
        ),
        (
            Wish("a", PF0, 4, ranges=(VFRange(0, 2, VF(vlan=5)),)),
            Wish("b", PF0, 4, ranges=(VFRange(2, 3, VF(vlan=6)),)),
            "vlan of VF 2",
        ),
        (
            Wish("a", PF0, 4, ranges=(VFRange(0, 1, VF(mac="02:00:00:00:00:01")),)),
            Wish("b", PF0, 4, ranges=(VFRange(3, 3, VF(mac="02:00:00:00:00:02")),)),
            "MAC address 02:00:00:00:00:02",
        ),
    ],
)
def test_what_contradicts_is_named_for_both_and_neither_acts(
    one: Wish, other: Wish, what: str
) -> None:
    innocent = Wish("c", PF1, 1)
    for order in ([one, other, innocent], [innocent, other, one]):
        merged = merge(order)
        assert set(merged.desired) == {PF1}
        assert set(merged.conflicts) == {"a", "b"}
        for mine, theirs in (("a", "b"), ("b", "a")):
            (message,) = [text for text in merged.conflicts[mine] if what in text]
            assert f"policy {theirs}" in message
            assert PF0 in message


def test_two_vfs_of_one_policy_with_one_address() -> None:
    ranges = (
        VFRange(0, 1, VF(mac="02:00:00:00:00:01")),
        VFRange(2, 2, VF(mac="02:00:00:00:00:02")),
    )
    merged = merge([Wish("a", PF0, 3, ranges=ranges)])
    assert merged.desired == {}
    assert "02:00:00:00:00:02" in merged.conflicts["a"][0]


@pytest.mark.parametrize(
    "make",
    [
        lambda: VF(mac="01:00:5e:00:00:01"),
        lambda: VF(mac="02:00:00:00:00"),
        lambda: VF(mac="02-00-00-00-00-01"),
        lambda: VF(vlan=4095),
        lambda: VF(vlan=-1),
        lambda: VF(mtu=67),
        lambda: VF(min_rate=-1),
        lambda: VF(min_rate=20, max_rate=10),
        lambda: VFRange(2, 1),
        lambda: VFRange(-1, 1),
        lambda: Wish("a", PF0, -1),
        lambda: Wish("a", PF0, 2, mtu=100000),
        lambda: Wish("a", PF0, 2, ranges=(VFRange(1, 2),)),
        lambda: Wish("a", PF0, 4, ranges=(VFRange(0, 2), VFRange(2, 3))),
    ],
)
def test_what_makes_no_sense_is_refused(make: Callable[[], object]) -> None:
    with pytest.raises(ValueError):
        make()


wishes = st.builds(
    lambda policy, address, count, driver, mtu, external, each: Wish(
        policy,
        address,
        count,
        driver,
        mtu,
        external,
        tuple(VFRange(at, at, vf) for at, vf in enumerate(each[:count]) if vf is not None),
    ),
    st.sampled_from("abc"),
    st.sampled_from((PF0, PF1)),
    st.sampled_from((2, 2, 2, 3)),
    st.sampled_from((None, None, *VfDriver)),
    st.sampled_from((None, None, 1500, 9000)),
    st.sampled_from((False, False, False, True)),
    st.lists(
        st.none()
        | st.builds(
            VF,
            mac=st.sampled_from((None, None, NO_MAC, "02:00:00:00:00:01", "02:00:00:00:00:02")),
            vlan=st.sampled_from((None, 0, 5)),
            link_state=st.sampled_from((None, *VfLinkState)),
        ),
        max_size=3,
    ),
)


@given(st.lists(wishes, max_size=4, unique_by=lambda wish: (wish.policy, wish.address)))
def test_each_pf_has_its_way_or_each_policy_of_it_that_contradicts_is_told(
    each: list[Wish],
) -> None:
    merged = merge(each)
    assert merge(reversed(each)) == merged
    for wish in each:
        desired = merged.desired.get(wish.address)
        if desired is None:
            told = [
                other.policy
                for other in each
                if any(wish.address in text for text in merged.conflicts.get(other.policy, ()))
            ]
            assert told
            continue
        assert not any(wish.address in text for text in merged.conflicts.get(wish.policy, ()))
        assert desired.num_vfs == wish.num_vfs
        for got, asked in zip(desired.vfs, wish.vfs(), strict=True):
            for name, value in asked.__dict__.items():
                assert value is None or getattr(got, name) == value
