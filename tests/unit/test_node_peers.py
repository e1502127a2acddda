# SPDX-License-Identifier: Apache-2.0
"""Which VF an endpoint has, and in which VLAN: whatever there is, no two share one."""

from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from headrace_api import NodeFunction
from headrace_api.device_policy import VfLinkState
from headrace_dataplane.node.netlink import VFState
from headrace_dataplane.node.peers import Pair, Rules, pairs
from headrace_dataplane.node.sriov.desired import VF, Desired
from headrace_dataplane.node.sriov.observed import ObservedPF, ObservedVF
from headrace_dataplane.node.sriov.tagged import Tag
from headrace_dataplane.node.users import pods, processes

PFS = ("0000:01:00.0", "0000:02:00.0")
COUNT = 5
VLANS = range(3000, 3004)
PODS = ("blue/x", "blue/y", "red/x")
ENGINE_POD = "headrace-system/router"
USERS = st.sampled_from(
    [(), *((pod,) for pod in PODS), ("blue/x", "process 4 (app)"), ("process 5 (qemu)",)]
)
INTERFACES = ("blue/a", "blue/b", "red/c")


def address(pf: int, index: int) -> str:
    return f"0000:0{pf + 1}:10.{index}"


def mac(pf: int, index: int) -> str:
    return f"02:00:00:00:0{pf}:0{index}"


@st.composite
def cards(draw: st.DrawFn) -> dict[str, tuple[Desired, ObservedPF]]:
    found = {}
    for pf, at in enumerate(PFS):
        vfs = []
        for index in range(COUNT):
            vlan = draw(st.sampled_from([0, 0, *VLANS]))
            state = VFState(mac(pf, index), vlan, True, False, 0, 0, VfLinkState.AUTO)
            known = draw(st.integers(0, 9)) > 0
            vfs.append(
                ObservedVF(
                    index=index,
                    address=address(pf, index),
                    physfn=at,
                    state=state if known else None,
                    users=draw(USERS),
                )
            )
        resources = [draw(st.sampled_from(["a.b/one", "a.b/one", "a.b/two", None])) for _ in vfs]
        wanted = tuple(VF(resource=each) for each in resources)
        found[at] = Desired(at, ("p",), wanted), ObservedPF(at, vfs=tuple(vfs))
    return found


@st.composite
def functions(draw: st.DrawFn) -> tuple[NodeFunction, ...]:
    places = st.tuples(st.integers(0, 1), st.integers(0, COUNT - 1))
    chosen = draw(st.lists(places, min_size=1, max_size=3, unique=True))
    found = []
    for number, (interface, place) in enumerate(zip(INTERFACES, chosen, strict=False)):
        namespace = interface.partition("/")[0]
        own = [None, *(pod for pod in PODS if pod.startswith(namespace))]
        macs = [None, None, "02:00:00:00:00:77", mac(0, 4)]
        peer: dict[str, Any] = {"vlans": ["3000-3002"], "pod": draw(st.sampled_from(own))}
        peer["macAddress"] = draw(st.sampled_from(macs))
        found.append(
            NodeFunction.model_validate(
                {
                    "pciAddress": address(*place),
                    "pipeline": "router",
                    "interface": interface,
                    "network": f"{namespace}/net",
                    "grant": number + 1,
                    "pod": ENGINE_POD,
                    "peer": peer,
                }
            )
        )
    return tuple(found)


TAGS = st.dictionaries(
    st.tuples(st.integers(0, 1), st.integers(0, COUNT - 1)).map(lambda each: address(*each)),
    st.sampled_from([Tag(), *map(Tag, INTERFACES)]),
    max_size=4,
)


@settings(max_examples=400, deadline=None)
@given(cards(), functions(), TAGS, st.sets(st.sampled_from(VLANS), max_size=2), st.booleans())
def test_no_two_share_a_vf_or_a_vlan(
    there: dict[str, tuple[Desired, ObservedPF]],
    wanted: tuple[NodeFunction, ...],
    tags: dict[str, Tag],
    fabric: set[int],
    unknown: bool,
) -> None:
    rules = Rules(frozenset(fabric), unknown=frozenset([address(0, 1)] if unknown else ()))
    found = pairs(wanted, wanted, there, tags, rules)
    vfs = {vf.address: (pf, vf) for _, pf in there.values() for vf in pf.vfs}
    resources = {
        vf.address: card.vfs[vf.index].resource for card, pf in there.values() for vf in pf.vfs
    }
    engines = {each.pci_address for each in wanted}
    assert found.keys() == {*wanted}

    chosen = [pair.address for pair in found.values() if pair.address]
    assert len({*chosen}) == len(chosen)
    assert not engines & {*chosen} and not rules.unknown & {*chosen}
    for function, pair in found.items():
        assert bool(pair.address and pair.vlan) == (pair.problem is None), pair
        pf, engine = vfs[function.pci_address]
        own = {function.pci_address, pair.address}
        if pair.vlan:
            others = {each.state.vlan for each in pf.vfs if each.state and each.address not in own}
            assert pair.vlan in range(3000, 3003)
            assert pair.vlan not in fabric | others
        if pair.address:
            check(function, pair, tags, vfs)
            assert resources[pair.address] == resources[function.pci_address] is not None
            state, now = engine.state, vfs[pair.address][1].state
            if state and processes(engine.users) and (not now or now.vlan != state.vlan):
                # Whom it is open for is not with who is new.
                assert pair.vlan != state.vlan
    places = [(vfs[each.pci_address][0].address, pair.vlan) for each, pair in found.items()]
    assert len({each for each in places if each[1]}) == len([each for each in places if each[1]])

    # What was chosen is chosen again, once it is so.
    settled = _settled(there, found)
    noted = {**tags, **{p.address: Tag(f.interface) for f, p in found.items() if p.address}}
    again = pairs(wanted, wanted, settled, noted, replace(rules, unknown=frozenset()))
    for function, pair in found.items():
        if pair.problem is None and not processes(vfs[function.pci_address][1].users):
            assert (again[function].vlan, again[function].address) == (pair.vlan, pair.address)


def check(
    function: NodeFunction,
    pair: Pair,
    tags: dict[str, Tag],
    vfs: dict[str, tuple[ObservedPF, ObservedVF]],
) -> None:
    """A VF is of the card, and whose it is to be."""
    assert function.peer is not None
    pf, vf = vfs[pair.address]
    assert pf.address == vfs[function.pci_address][0].address
    if function.peer.pod:
        assert function.peer.pod in pods(vf.users)
    else:
        tag = tags.get(pair.address)
        assert not pods(vf.users)
        assert tag is None or tag.interface == function.interface
        assert not vf.users or tag is not None
    given = function.peer.mac_address
    macs = [each.state.mac for each in pf.vfs if each.state and each.address != pair.address]
    assert given is None or given not in macs


def _settled(
    there: dict[str, tuple[Desired, ObservedPF]], found: Any
) -> dict[str, tuple[Desired, ObservedPF]]:
    vlans: dict[str, int] = {}
    for function, pair in found.items():
        if pair.problem is None:
            vlans |= dict.fromkeys((function.pci_address, pair.address), pair.vlan or 0)
    macs = {p.address: f.peer.mac_address for f, p in found.items() if p.problem is None}

    def now(vf: ObservedVF) -> ObservedVF:
        if vf.state is None or vf.address not in vlans:
            return vf
        given = macs.get(vf.address) or vf.state.mac
        return replace(vf, state=replace(vf.state, vlan=vlans[vf.address], mac=given))

    return {
        at: (card, replace(pf, vfs=tuple(map(now, pf.vfs)))) for at, (card, pf) in there.items()
    }
