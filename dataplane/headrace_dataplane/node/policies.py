# SPDX-License-Identifier: Apache-2.0
"""DevicePolicies on this node: which cards they mean, what they want, what came of it. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from headrace_api.device_policy import LinkType, NicSelector, vf_range
from headrace_api.node_state import NodePolicy, PolicyState
from headrace_dataplane.node.sriov.desired import VF, Desired, Identity, VFRange, Wish, merge
from headrace_dataplane.node.sriov.observed import ObservedPF, ObservedVF
from headrace_dataplane.node.sriov.plan import as_wanted
from headrace_dataplane.node.sriov.steps import Condition, Done, Reason

#: The API's bounds.
_MOST_ADDRESSES = 64
_CHARACTERS = 4096

Ranges = tuple[tuple[int, int], ...]
"""First and last of some VFs; none: all of them."""


@dataclass(frozen=True)
class Problem:
    """Why nothing is done for a policy."""

    reason: str
    message: str


@dataclass(frozen=True)
class Working:
    """Something is being done for a PF, or waited for."""

    message: str


Outcome = Done | Condition | Working


@dataclass(frozen=True)
class Card:
    """A PF, what was wanted of it last, and what came of that."""

    desired: Desired
    outcome: Outcome
    pf: ObservedPF | None = None
    """As it was seen at the end."""


@dataclass(frozen=True)
class Resolved:
    """What all policies want of the node's cards."""

    wishes: Mapping[str, tuple[Wish, ...]]
    """By policy."""
    desired: Mapping[str, Desired]
    """By PCI address of the PF; where policies contradict one another nothing."""
    problems: Mapping[str, Problem]
    """By policy; of such a policy nothing is done to the cards that the problem is about."""


def resolve(policies: Iterable[NodePolicy], cards: Sequence[Identity]) -> Resolved:
    """Return what policies want of these cards."""
    wishes: dict[str, tuple[Wish, ...]] = {}
    problems: dict[str, Problem] = {}
    for policy in policies:
        try:
            wishes[policy.name] = tuple(_wishes(policy, cards))
        except ValueError as error:
            problems[policy.name] = Problem("PolicyInvalid", f"nicSelector.names: {error}")
            continue
        if not wishes[policy.name]:
            problems[policy.name] = Problem(
                "NoDevice",
                "no network card of this node is what nicSelector says; there are "
                + (", ".join(map(_text, cards)) or "none"),
            )
    merged = merge(wish for each in wishes.values() for wish in each)
    for name, conflicts in merged.conflicts.items():
        problems[name] = Problem("PolicyConflict", "; ".join(conflicts))
    return Resolved(wishes, merged.desired, problems)


def lend(resolved: Resolved, functions: Mapping[str, VF], endpoints: frozenset[str]) -> Resolved:
    """Return it with what is wanted of VFs besides, by who has them: as in a Desired."""
    desired = {
        address: replace(each, functions=functions, endpoints=endpoints)
        for address, each in resolved.desired.items()
    }
    return replace(resolved, desired=desired)


def selected(selector: NicSelector, card: Identity) -> Ranges | None:
    """Return which VFs of a card are meant, None: it is not selected.

    Who names cards means exactly these; a vendor, device or driver means those that can have VFs.
    """
    ranges = [vfs for name, vfs in map(vf_range, selector.names or ()) if name == card.name]
    link = LinkType.INFINIBAND if card.infiniband else LinkType.ETHERNET
    matches = (
        (selector.vendor_ids, card.vendor),
        (selector.device_ids, card.device),
        (selector.drivers, card.driver),
        (selector.pci_addresses, card.address),
        (selector.mac_addresses and tuple(map(str.lower, selector.mac_addresses)), card.mac),
        (selector.link_type and (selector.link_type,), "" if card.infiniband is None else link),
    )
    named = selector.names is None or bool(ranges)
    if not named or any(values is not None and value not in values for values, value in matches):
        return None
    if not (card.sriov or selector.names or selector.pci_addresses or selector.mac_addresses):
        return None
    return () if None in ranges else tuple(vfs for vfs in ranges if vfs is not None)


def _wishes(policy: NodePolicy, cards: Iterable[Identity]) -> Iterable[Wish]:
    settings = policy.settings
    vf = VF(
        driver=policy.driver,
        mtu=policy.mtu,
        vlan=settings.vlan,
        spoof_check=settings.spoof_check,
        trust=settings.trust,
        min_rate=settings.min_rate_mbits,
        max_rate=settings.max_rate_mbits,
        link_state=settings.link_state,
        resource=policy.resource_name,
    )
    for card in cards:
        ranges = selected(policy.nic_selector, card)
        if ranges is None:
            continue
        every: Ranges = ((0, policy.vfs - 1),) if policy.vfs else ()
        yield Wish(
            policy=policy.name,
            address=card.address,
            num_vfs=policy.vfs,
            driver=policy.driver,
            mtu=policy.mtu,
            externally_managed=policy.externally_managed,
            ranges=tuple(VFRange(first, last, vf) for first, last in sorted({*(ranges or every)})),
        )


def policy_states(
    policies: Iterable[NodePolicy], resolved: Resolved, cards: Mapping[str, Card]
) -> tuple[PolicyState, ...]:
    """Return what came of each policy; `cards` are by PCI address."""
    return tuple(_state(policy, resolved, cards) for policy in policies)


def _state(policy: NodePolicy, resolved: Resolved, cards: Mapping[str, Card]) -> PolicyState:
    wishes = resolved.wishes.get(policy.name, ())
    problem = resolved.problems.get(policy.name)
    reason, message = ("", "") if problem is None else (problem.reason, problem.message)
    if problem is None:
        reason, message = _verdict(wishes, resolved, cards)
    return PolicyState(
        name=policy.name,
        observed_generation=policy.generation,
        ready=not reason,
        pci_addresses=tuple(wish.address for wish in wishes)[:_MOST_ADDRESSES],
        vfs=sum(len(_ready(wish, cards.get(wish.address))) for wish in wishes),
        reason=reason,
        message=message[:_CHARACTERS],
    )


def _verdict(
    wishes: Iterable[Wish], resolved: Resolved, cards: Mapping[str, Card]
) -> tuple[str, str]:
    """Return why not all is as a policy wants it, and what to do; no reason: all is."""
    conditions, working, notes = [], [], []
    for wish in wishes:
        card = cards.get(wish.address)
        match card.outcome if card and card.desired == resolved.desired[wish.address] else None:
            case Condition() as condition:
                conditions.append(condition)
            case Working(message):
                working.append(message)
            case Done(each):
                notes += [note.message for note in each]
            case None:
                working.append(f"PF {wish.address}: not begun yet")
    if conditions:
        # What needs a hand comes before what may pass.
        first = next((each for each in conditions if not each.passes), conditions[0])
        texts = [each.message for each in (first, *conditions)]
        return first.reason, "; ".join(dict.fromkeys(texts))
    return ("InProgress", "; ".join(working)) if working else ("", "; ".join(notes))


def _ready(wish: Wish, card: Card | None) -> frozenset[int]:
    """Return the VFs that a wish is about and that are as it wants them."""
    if card is None or card.pf is None or not _serves(card):
        return frozenset()
    mine = {index for index, vf in enumerate(wish.vfs()) if vf != VF()}
    return as_wanted(card.desired, card.pf) & mine


def _serves(card: Card) -> bool:
    """Whether its VFs are what they are for: not while they are made, nor the node's own."""
    outcome = card.outcome
    if isinstance(outcome, Condition):
        return outcome.reason is not Reason.NODE_UPLINK
    return isinstance(outcome, Done)


@dataclass(frozen=True)
class Given:
    """A VF that is given out by an extended resource."""

    vf: ObservedVF
    want: VF
    well: bool
    """Whether it is as it is wanted, and not being made."""


def given(cards: Iterable[Card]) -> dict[str, tuple[Given, ...]]:
    """Return the VFs of each extended resource, also those that are not well."""
    found: defaultdict[str, list[Given]] = defaultdict(list)
    for card in cards:
        for want in card.desired.vfs:
            if want.resource is not None:
                found[want.resource] += []
        if card.pf is None:
            continue
        well = as_wanted(card.desired, card.pf) if _serves(card) else frozenset()
        for vf in card.pf.vfs:
            want = card.desired.vfs[vf.index] if vf.index < card.desired.num_vfs else VF()
            if want.resource is not None:
                found[want.resource].append(Given(vf, want, vf.index in well))
    return {name: tuple(each) for name, each in sorted(found.items())}


def _text(card: Identity) -> str:
    return f"{card.address} ({card.name or 'no network device'}, {card.driver or 'no driver'})"
