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

A VF that is nobody's, or not that pod's any more, goes back to what its policy says, to no VLAN
where it says none. Whoever is killed after any of these goes on from what is in the API, on the
disk and in the kernel.
"""

from collections.abc import Iterable, Iterator, Mapping

from headrace_api.node_state import FunctionState, NodeFunction
from headrace_dataplane.node.policies import Card
from headrace_dataplane.node.sriov.desired import VF
from headrace_dataplane.node.sriov.observed import ObservedVF
from headrace_dataplane.node.sriov.steps import Condition

#: The API's bound.
_CHARACTERS = 4096


def wanted(functions: Iterable[NodeFunction], tagged: Iterable[str]) -> Mapping[str, VF]:
    """Return PCI address -> what is wanted of a VF beside its policies.

    `tagged` are those that were put into a VLAN.
    """
    return {
        **{address: VF(vlan=0) for address in tagged},
        **{each.pci_address: VF(vlan=each.vlan or 0, spoof_check=True) for each in functions},
    }


def back(
    functions: Iterable[NodeFunction], tagged: Iterable[str], cards: Mapping[str, Card]
) -> frozenset[str]:
    """Return which of the tagged VFs are nobody's, and as their policies want them, or gone."""
    mine = {each.pci_address for each in functions}
    there = _vfs(cards)
    seen = all(card.pf is not None for card in cards.values())
    return frozenset(
        address
        for address in {*tagged} - mine
        if (_is_at(*there[address], None) if address in there else seen)
    )


def function_states(
    functions: Iterable[NodeFunction], cards: Mapping[str, Card]
) -> dict[NodeFunction, FunctionState]:
    """Return what came of each, once all has been done for it that can be."""
    there = _vfs(cards)
    return {each: _state(each, there.get(each.pci_address)) for each in functions}


def report(
    functions: Iterable[NodeFunction],
    seen: Mapping[NodeFunction, FunctionState],
    tagged: Iterable[str],
    cards: Mapping[str, Card],
) -> tuple[FunctionState, ...]:
    """Return what is said of each, and of the tagged ones that nobody has; by PCI address."""
    found = {
        each.pci_address: seen.get(each)
        or FunctionState(
            pci_address=each.pci_address,
            interface=each.interface,
            grant=each.grant,
            ready=False,
            reason="InProgress",
            message=f"{each.pci_address} is not {each.pod}'s yet, by the word of the kubelet",
        )
        for each in functions
    }
    there = _vfs(cards)
    for address in {*tagged} - found.keys():
        found[address] = FunctionState(
            pci_address=address,
            vlan=_vlan(there[address][1]) if address in there else None,
            ready=False,
            reason="NotPutBack",
            message="it was an Interface's, and is being taken out of that one's VLAN",
        )
    return tuple(found[address] for address in sorted(found))


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


def _state(function: NodeFunction, found: tuple[Card, ObservedVF] | None) -> FunctionState:
    reason, message = next(_problems(function, found), ("", ""))
    return FunctionState(
        pci_address=function.pci_address,
        interface=function.interface,
        grant=function.grant,
        vlan=_vlan(found[1]) if found is not None else None,
        ready=not reason,
        reason=reason,
        message=message[:_CHARACTERS],
    )


def _problems(
    function: NodeFunction, found: tuple[Card, ObservedVF] | None
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
    given = _of_policy(card, vf)
    if function.vlan is not None and given is not None and given != function.vlan:
        names = ", ".join(card.desired.policies)
        message = (
            f"{address} is to be in VLAN {function.vlan}, and DevicePolicy {names} has it in"
            f" {given or 'none'}: leave settings.vlan out there"
        )
        yield "PolicyConflict", message
    checked = vf.state is not None and vf.state.spoof_check is not False
    if not _is_at(card, vf, function.vlan) or not checked:
        if isinstance(card.outcome, Condition):
            yield card.outcome.reason, card.outcome.message
        where = f"VLAN {function.vlan}" if function.vlan else "no VLAN"
        yield "InProgress", f"{address} is not in {where} yet"
