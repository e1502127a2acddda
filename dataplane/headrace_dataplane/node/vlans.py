# SPDX-License-Identifier: Apache-2.0
"""VLANs of VFs that Interfaces have: what is wanted of each, and what came of it. Pure.

Who does what, in this order, so that no Interface's VF carries a frame in another's VLAN:

1. The operator compiles an Interface with a function and a grant, a number that no other has had.
2. Its dataplane's agent says which VF that is (`functions` of the DataplaneConfig's status), and
   does not open it yet. It goes on saying so until the engine has closed it.
3. The operator has the VF in the NodeState for that grant, once it is nobody else's there and no
   other network's VF is in that VLAN on any node.
4. This agent asks the kubelet whether that very pod has the VF; no other gets it from before
   that until it is put back. It takes note of the VF on the host's disk, has the PF put it there,
   reads that back, and says so with the grant. A VF that a process has open is not moved.
5. The dataplane's agent hears its own grant, and the engine opens the VF. It closes it when that is
   not said any more, as it does when the Interface goes or wants another VLAN, which is another
   grant; only then it stops saying that it has it, and all begins anew.

Where an endpoint of the node is behind the VF (`peers`), that one's goes with it: for a pod's the
kubelet is asked as for the engine's, a virtual machine's is kept from all pods from before it is
chosen. Both are in one VLAN, with address, spoof check and trust, before the engine opens its own.
The endpoint may have its VF open meanwhile: it is the same endpoint before and after. What its
policy has without a link (settings.linkState Disable) has one only then.

A VF that is nobody's, or not that pod's any more, goes back to what its policy says, to no VLAN
where it says none. One that a pod or a machine still has, whose Interface went, stays alone in its
VLAN until they end: else it would be on the wire. Whoever is killed after any of these goes on from
what is in the API, on the disk and in the kernel.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace

from headrace_api.device_policy import VfLinkState
from headrace_api.interface import EndpointFunction
from headrace_api.node_state import FunctionState, NodeFunction
from headrace_dataplane.node.peers import Pair
from headrace_dataplane.node.policies import Card, Problem
from headrace_dataplane.node.sriov.desired import NO_MAC, VF
from headrace_dataplane.node.sriov.observed import ObservedVF
from headrace_dataplane.node.sriov.steps import Condition
from headrace_dataplane.node.sriov.tagged import Tag

#: The API's bound.
_CHARACTERS = 4096

Tags = Mapping[str, Tag]
"""Those that were put into a VLAN, by PCI address."""
Users = Mapping[str, tuple[str, ...]]
"""Who uses VFs, by PCI address."""


@dataclass(frozen=True)
class Lent:
    """Whose VFs are, by the word of the kubelet."""

    functions: tuple[NodeFunction, ...] = ()
    """Those that are to be in their VLANs now."""
    pairs: Mapping[NodeFunction, Pair] = field(default_factory=dict)
    """What goes with those that have an endpoint."""
    problems: Mapping[NodeFunction, Problem] = field(default_factory=dict)
    """Why others are not, besides that they are not the pod's."""
    kept: frozenset[str] = frozenset()
    """VFs of machines whose engine's is away for now: machines have them by their addresses."""
    silent: bool = False
    """Whether the kubelet does not say who has VFs: what a pod has is not put back meanwhile."""

    def endpoints(self) -> Mapping[str, NodeFunction]:
        """Return VFs of endpoints, by PCI address."""
        places = {each: self.place(each) for each in self.functions}
        return {address: each for each, (vlan, address) in places.items() if vlan and address}

    def tags(self) -> Tags:
        """Return what is to be known of them before anything is done to them."""
        tags = {each.pci_address: Tag() for each in self.functions}
        for address, each in self.endpoints().items():
            given, has = each.peer and each.peer.mac_address, self.pairs[each].mac
            tags[address] = Tag(each.interface, has if given and given != has else "")
        return tags

    def place(self, function: NodeFunction) -> tuple[int | None, str]:
        """Return the VLAN, and the endpoint's VF; "": there is none."""
        pair = self.pairs.get(function)
        return (function.vlan, "") if pair is None else (pair.vlan, pair.address)


def wanted(lent: Lent, tags: Tags, users: Users) -> Mapping[str, VF]:
    """Return PCI address -> what is wanted of a VF beside its policies.

    What could not be noted (`tags`) is not wanted.
    """
    found = {
        address: VF(vlan=0, mac=tag.mac or None)
        for address, tag in tags.items()
        if address not in lent.kept and not lent.silent
        if not (tag.interface and users.get(address))
    }
    for each in lent.functions:
        found[each.pci_address] = VF(vlan=lent.place(each)[0] or 0, spoof_check=True)
        if each.peer is not None:
            found[each.pci_address] = _with_link(found[each.pci_address])
    for address, each in lent.endpoints().items():
        mac = each.peer.mac_address if each.peer is not None else None
        if address in tags:
            found[address] = _with_link(
                VF(
                    mac=mac or tags[address].mac or None,
                    vlan=lent.place(each)[0],
                    spoof_check=True,
                    trust=False,
                )
            )
    return {address: vf for address, vf in found.items() if address in tags}


def _with_link(vf: VF) -> VF:
    return replace(vf, link_state=VfLinkState.AUTO)


def back(lent: Lent, tags: Tags, cards: Mapping[str, Card]) -> frozenset[str]:
    """Return which of the tagged VFs are nobody's, and as their policies want them, or gone."""
    mine = lent.tags().keys() | lent.kept
    there = _vfs(cards)
    seen = all(card.pf is not None for card in cards.values())
    return frozenset(
        address
        for address in tags.keys() - mine
        if (_is_back(*there[address], tags[address]) if address in there else seen)
    )


def _is_back(card: Card, vf: ObservedVF, tag: Tag) -> bool:
    return _is_at(card, vf, None) and tag.mac in ("", _mac(vf))


def function_states(lent: Lent, cards: Mapping[str, Card]) -> dict[NodeFunction, FunctionState]:
    """Return what came of each, once all has been done for it that can be."""
    there = _vfs(cards)
    return {each: _state(lent, each, there) for each in lent.functions}


def report(
    functions: Collection[NodeFunction],
    seen: Mapping[NodeFunction, FunctionState],
    lent: Lent,
    tags: Tags,
    cards: Mapping[str, Card],
) -> tuple[FunctionState, ...]:
    """Return what is said of each, and of the tagged ones that nobody has; by PCI address."""
    found = {each.pci_address: seen.get(each) or _waiting(each, lent) for each in functions}
    there = _vfs(cards)
    with_theirs = {address for address, each in lent.endpoints().items() if each in functions}
    for address in tags.keys() - found.keys() - with_theirs:
        message = "it was an Interface's, and is being taken out of that one's VLAN"
        if lent.silent:
            message = "it was an Interface's, and the kubelet does not say who has it now"
        elif address in lent.kept:
            message = f"it is kept for Interface {tags[address].interface}"
        elif tags[address].interface and address in there and there[address][1].users:
            message = f"it was an Interface's, and {there[address][1].user} has it yet"
        found[address] = FunctionState(
            pci_address=address,
            vlan=_vlan(there[address][1]) if address in there else None,
            ready=False,
            reason="NotPutBack",
            message=message[:_CHARACTERS],
        )
    return tuple(found[address] for address in sorted(found))


def _waiting(function: NodeFunction, lent: Lent) -> FunctionState:
    unknown = Problem(
        "InProgress",
        f"{function.pci_address} is not {function.pod}'s yet, by the word of the kubelet",
    )
    problem = lent.problems.get(function, unknown)
    return FunctionState(
        pci_address=function.pci_address,
        interface=function.interface,
        grant=function.grant,
        ready=False,
        reason=problem.reason,
        message=problem.message[:_CHARACTERS],
    )


def _vfs(cards: Mapping[str, Card]) -> dict[str, tuple[Card, ObservedVF]]:
    return {
        vf.address: (card, vf)
        for card in cards.values()
        if card.pf is not None
        for vf in card.pf.vfs
        if vf.physfn == card.pf.address
    }


def _of_policy(card: Card, vf: ObservedVF) -> int | None:
    vfs = card.desired.vfs
    return vfs[vf.index].vlan if vf.index < len(vfs) else None


def _vlan(vf: ObservedVF) -> int | None:
    return vf.state.vlan if vf.state is not None else None


def _is_at(card: Card, vf: ObservedVF, vlan: int | None) -> bool:
    """Whether a VF is in a VLAN; None: in that of its policy, or in none."""
    return _vlan(vf) == (vlan or _of_policy(card, vf) or 0)


def _mac(vf: ObservedVF) -> str | None:
    return vf.state.mac if vf.state is not None else None


def _is_checked(vf: ObservedVF) -> bool:
    return vf.state is not None and vf.state.spoof_check is not False


def _is_linked(vf: ObservedVF) -> bool:
    return vf.state is not None and vf.state.link_state is not VfLinkState.DISABLE


_Found = Mapping[str, tuple[Card, ObservedVF]]


def _state(lent: Lent, function: NodeFunction, there: _Found) -> FunctionState:
    found = there.get(function.pci_address)
    problems = [*_problems(function, lent.place(function)[0], found)]
    peer = None
    if function.peer is not None:
        pair = lent.pairs.get(function, Pair())
        behind = there.get(pair.address)
        wrong = [*_problems_of_pair(function, pair, there)]
        if not wrong and behind is not None:
            mac = _mac(behind[1])
            peer = EndpointFunction(
                pci_address=pair.address, mac_address=None if mac == NO_MAC else mac
            )
        problems += wrong
    reason, message = problems[0] if problems else ("", "")
    return FunctionState(
        pci_address=function.pci_address,
        interface=function.interface,
        grant=function.grant,
        vlan=_vlan(found[1]) if found is not None else None,
        peer=peer,
        ready=not reason,
        reason=reason,
        message=message[:_CHARACTERS],
    )


def _problems(
    function: NodeFunction, vlan: int | None, found: tuple[Card, ObservedVF] | None
) -> Iterator[tuple[str, str]]:
    """Yield reason and message of what keeps a VF from its Interface."""
    address = function.pci_address
    if found is None:
        message = (
            f"{address} is no VF of a card that a DevicePolicy selects on this node: only such a"
            " card's VFs are put into VLANs; have one select it, with externallyManaged if"
            " somebody else makes its VFs"
        )
        yield "NoDevicePolicy", message
        return
    card, vf = found
    yield from _conflict(card, vf, vlan)
    if not _is_at(card, vf, vlan) or not _is_checked(vf):
        yield from _under_way(card, vf, vlan)


def _conflict(card: Card, vf: ObservedVF, vlan: int | None) -> Iterator[tuple[str, str]]:
    given = _of_policy(card, vf)
    if vlan is not None and given is not None and given != vlan:
        names = ", ".join(card.desired.policies)
        message = (
            f"{vf.address} is to be in VLAN {vlan}, and DevicePolicy {names} has it in"
            f" {given or 'none'}: leave settings.vlan out there"
        )
        yield "PolicyConflict", message


def _under_way(card: Card, vf: ObservedVF, vlan: int | None) -> Iterator[tuple[str, str]]:
    if isinstance(card.outcome, Condition):
        yield card.outcome.reason, card.outcome.message
    where = f"VLAN {vlan}" if vlan else "no VLAN"
    yield "InProgress", f"{vf.address} is not in {where} yet"


def _problems_of_pair(
    function: NodeFunction, pair: Pair, there: _Found
) -> Iterator[tuple[str, str]]:
    """Yield reason and message of what keeps an endpoint's VF from its Interface."""
    if pair.problem is not None:
        yield pair.problem.reason, pair.problem.message
    engine, found = there.get(function.pci_address), there.get(pair.address)
    if engine is None or found is None or pair.vlan is None:
        if pair.problem is None:
            yield "EndpointPending", f"{pair.address or 'its VF'} is not there yet"
        return
    card, vf = found
    yield from _conflict(card, vf, pair.vlan)
    mac = function.peer.mac_address if function.peer is not None else None
    settled = (
        _is_at(card, vf, pair.vlan)
        and _is_checked(vf)
        and vf.state is not None
        and vf.state.trust is not True
        and mac in (None, vf.state.mac)
        and _is_linked(vf)
        and _is_linked(engine[1])
    )
    if not settled:
        yield from _under_way(card, vf, pair.vlan)
    for address, (other, each) in there.items():
        strange = address not in (function.pci_address, pair.address)
        if strange and other is card and _vlan(each) == pair.vlan:
            yield "InProgress", f"{address} is in VLAN {pair.vlan}, too: another is chosen"
