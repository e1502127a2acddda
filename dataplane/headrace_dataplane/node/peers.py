# SPDX-License-Identifier: Apache-2.0
"""Endpoints on the node: which VF each has, and which VLAN it is in with the engine's. Pure.

Both VFs are of one resource and one card, and in a VLAN that nothing else of the card is in: what
one sends arrives at the other alone. A pod's is one of those that the kubelet gave to it, a virtual
machine's one that no pod has, and none gets. Whoever had one keeps it, so does its VLAN stay.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from headrace_api.device import vlans_of
from headrace_api.node_state import NodeFunction, NodePeer
from headrace_dataplane.node.policies import Problem
from headrace_dataplane.node.sriov.desired import Desired
from headrace_dataplane.node.sriov.observed import ObservedPF, ObservedVF
from headrace_dataplane.node.sriov.tagged import Tag
from headrace_dataplane.node.users import pods, processes

Cards = Mapping[str, tuple[Desired, ObservedPF]]
"""By PCI address of the PF."""


@dataclass(frozen=True)
class Rules:
    """What is not for endpoints."""

    fabric: frozenset[int] = frozenset()
    """VLANs of the wire."""
    foreign: frozenset[str] = frozenset()
    """Resources that another device plugin gives out."""
    unknown: frozenset[str] = frozenset()
    """VFs of which it is not known who has them now."""


@dataclass(frozen=True)
class Pair:
    """What goes with an engine's VF."""

    vlan: int | None = None
    """That of both; None: there is none for them."""
    address: str = ""
    """The endpoint's VF; "": it has none."""
    mac: str = ""
    """What the card says is its MAC address."""
    problem: Problem | None = None
    """Why something of it is missing."""


@dataclass(frozen=True)
class _VF:
    card: Desired
    pf: ObservedPF
    vf: ObservedVF

    @property
    def address(self) -> str:
        return self.vf.address

    @property
    def resource(self) -> str:
        vfs = self.card.vfs
        return (vfs[self.vf.index].resource or "") if self.vf.index < len(vfs) else ""

    @property
    def vlan(self) -> int:
        return self.vf.state.vlan if self.vf.state is not None else 0


def pairs(
    functions: Collection[NodeFunction],
    lent: Collection[NodeFunction],
    cards: Cards,
    tags: Mapping[str, Tag],
    rules: Rules,
) -> Mapping[NodeFunction, Pair]:
    """Return what goes with each of `lent` that has an endpoint.

    `functions` are all that are wanted, of which the kubelet says `lent` are whose they are to be.
    """
    there = {
        vf.address: _VF(card, pf, vf)
        for card, pf in cards.values()
        for vf in pf.vfs
        if vf.physfn == pf.address
    }
    wanted = sorted((each for each in lent if each.peer), key=lambda each: each.interface)
    found = _Pairing(functions, there, tags, rules)
    for function in wanted:
        found.keep(function)
    for function in wanted:
        found.choose(function)
    return dict(found.with_vlans())


class _Pairing:
    """Gives VFs out, each once."""

    def __init__(
        self,
        functions: Collection[NodeFunction],
        there: Mapping[str, _VF],
        tags: Mapping[str, Tag],
        rules: Rules,
    ) -> None:
        self._there = there
        self._tags = tags
        self._rules = rules
        self._functions = functions
        self._engines = {each.pci_address for each in functions}
        self._dataplanes = {each.pod for each in functions}
        self._taken: dict[str, NodeFunction] = {}
        self._found: dict[NodeFunction, str | Problem] = {}

    def keep(self, function: NodeFunction) -> None:
        """Have an endpoint keep what it had, where it still may."""
        for each in self._candidates(function):
            if self._is_its_own(function, each.address):
                self._take(function, each)
                return

    def choose(self, function: NodeFunction) -> None:
        """Choose the first for an endpoint that has none, or say why it gets none."""
        if function in self._found:
            return
        elsewhere = self._elsewhere(function)
        before = function.peer.pci_address if function.peer else None
        for each in sorted(self._candidates(function), key=lambda each: each.address != before):
            if elsewhere and function.peer and not function.peer.pod:
                # Its machine may have that one by its address.
                break
            tag = self._tags.get(each.address)
            # What another had is put back first, unless one pod has it all the time.
            moves = bool(tag and tag.interface and function.peer and function.peer.pod)
            if moves or (tag is None and each.vf.state is not None):
                self._take(function, each)
                return
        self._found[function] = self._missing(function, elsewhere)

    def _take(self, function: NodeFunction, vf: _VF) -> None:
        self._taken[vf.address] = function
        self._found[function] = vf.address

    def _candidates(self, function: NodeFunction) -> Iterator[_VF]:
        """Yield the VFs of the card that may be an endpoint's, in order of PCI address."""
        engine = self._there.get(function.pci_address)
        if engine is None or engine.resource in ("", *self._rules.foreign):
            return
        gone = {*self._taken, *self._rules.unknown}
        for each in self._of_resource(function, engine.resource):
            if each.pf.address == engine.pf.address and each.address not in gone:
                yield each

    def _of_resource(self, function: NodeFunction, resource: str) -> Iterator[_VF]:
        """Yield those of whichever card that the endpoint has, or may have."""
        peer = function.peer or NodePeer()
        for address, each in sorted(self._there.items()):
            if each.resource != resource or address in self._engines:
                continue
            owners = pods(each.vf.users)
            if peer.pod is not None:
                if peer.pod in owners and peer.pod not in self._dataplanes:
                    yield each
                continue
            if not owners and (self._is_its_own(function, address) or not each.vf.users):
                yield each

    def _elsewhere(self, function: NodeFunction) -> list[_VF]:
        """Return what an endpoint has of other cards."""
        engine, pod = self._there.get(function.pci_address), function.peer and function.peer.pod
        if engine is None:
            return []
        return [
            each
            for each in self._of_resource(function, engine.resource)
            if each.pf.address != engine.pf.address
            if pod or self._is_its_own(function, each.address)
        ]

    def _is_its_own(self, function: NodeFunction, address: str) -> bool:
        """Whether the Interface's endpoint had a VF before."""
        return self._tags.get(address, Tag()).interface == function.interface

    def _missing(self, function: NodeFunction, elsewhere: Collection[_VF]) -> Problem:
        engine, peer = self._there.get(function.pci_address), function.peer or NodePeer()
        if engine is None:
            return Problem("EndpointPending", f"nothing is known of {function.pci_address} yet")
        resource, pf = engine.resource, engine.pf.address
        if not resource or resource in self._rules.foreign:
            message = (
                f"Headrace does not give {function.pci_address} out: have the DevicePolicy of PF"
                f" {pf} name a resource that no other device plugin has"
            )
            return Problem("EndpointPending", message)
        whose = f"pod {peer.pod}" if peer.pod else "the endpoint"
        if elsewhere:
            theirs = ", ".join(f"{each.address} of PF {each.pf.address}" for each in elsewhere)
            message = (
                f"{function.pci_address} of the dataplane is of PF {pf}, and {whose} has {theirs}:"
                " only VFs of one card reach one another; give each card a resource of its own by"
                " a DevicePolicy, and have the Interface and the pod name the same one"
            )
            return Problem("EndpointElsewhere", message)
        if peer.pod:
            message = (
                f"{whose} has no VF of {resource} for it, by the word of the kubelet: have a"
                f" container of it ask for one for each Interface (resources.limits)"
            )
        else:
            message = (
                f"no VF of {resource} is free on PF {pf}: have the DevicePolicy make more, or a pod"
                " end that has one"
            )
        return Problem("EndpointPending", message)

    # VLANs.

    def with_vlans(self) -> Iterator[tuple[NodeFunction, Pair]]:
        """Yield each with its VLAN: that of who is there already, or the lowest that is free."""
        chosen: dict[str, set[int]] = {}
        for function, found in self._found.items():
            address, problem = ("", found) if isinstance(found, Problem) else (found, None)
            if twin := self._with_its_mac(function, address):
                address, problem = "", twin
            engine, peer = self._there.get(function.pci_address), self._there.get(address)
            vlan = None
            if engine is not None:
                used = self._used(engine, {function.pci_address, address})
                used |= chosen.setdefault(engine.pf.address, set())
                vlan = self._choose_vlan(function, address, used)
                chosen[engine.pf.address].add(vlan or 0)
                problem = problem or (None if vlan else _exhausted(function, engine))
            mac = peer.vf.state.mac if peer is not None and peer.vf.state is not None else ""
            yield function, Pair(vlan, address, mac, problem)

    def _with_its_mac(self, function: NodeFunction, address: str) -> Problem | None:
        """Why an endpoint cannot have its MAC address: the card gives what is for it to another."""
        mac, found = function.peer and function.peer.mac_address, self._there.get(address)
        if mac is None or found is None:
            return None
        others = {
            each.address: each.vf.state.mac
            for each in self._there.values()
            if each.pf.address == found.pf.address and each.address != address and each.vf.state
        }
        if found.pf.netdev is not None:
            others[found.pf.address] = found.pf.netdev.mac
        earlier = [*self._found][: [*self._found].index(function)]
        wished = {each.peer.mac_address for each in earlier if each.peer}
        if mac not in {*others.values(), *wished}:
            return None
        message = (
            f"{mac} is the MAC address of another function of PF {found.pf.address}: give the"
            " Interface another, or leave macAddress out"
        )
        return Problem("MACAddressInUse", message)

    def _choose_vlan(self, function: NodeFunction, address: str, used: set[int]) -> int | None:
        free = {*vlans_of(function.peer.vlans if function.peer else ())} - used
        engines, theirs = self._vlan(function.pci_address), self._vlan(address)
        if address and engines != theirs and self._is_open(function.pci_address):
            # It is yet for whom the engine opened it: who is new is not to be with that one.
            free.discard(engines)
        return next((vlan for vlan in (engines, theirs) if vlan in free), min(free, default=None))

    def _is_open(self, address: str) -> bool:
        found = self._there.get(address)
        return found is not None and bool(processes(found.vf.users))

    def _vlan(self, address: str) -> int:
        found = self._there.get(address)
        return found.vlan if found is not None else 0

    def _used(self, engine: _VF, pair: Collection[str]) -> set[int]:
        """Return the VLANs that something else of the card is in, or is to be."""
        return {
            *self._rules.fabric,
            *(each.vlan or 0 for each in self._functions),
            *(vf.vlan or 0 for vf in engine.card.vfs),
            *(
                each.vlan
                for address, each in self._there.items()
                if each.pf.address == engine.pf.address and address not in pair
            ),
        }


def in_the_way(
    function: NodeFunction,
    found: Mapping[NodeFunction, Pair],
    cards: Cards,
    tags: Mapping[str, Tag],
) -> Problem | None:
    """Return what keeps an engine's VF out of the VLAN of the wire that it is to be in.

    As long as an endpoint of the card is there, which may have been put there before the wire was.
    """
    mine = {pair.address for pair in found.values()} | {each.pci_address for each in found}
    for _, pf in cards.values():
        vlans = {vf.address: vf.state.vlan for vf in pf.vfs if vf.state is not None}
        if vlans.get(function.pci_address) in (None, function.vlan):
            continue
        for address, vlan in vlans.items():
            was = address in mine or bool(tags.get(address, Tag()).interface)
            if was and vlan == function.vlan:
                message = f"{address} is in VLAN {vlan} yet, with an endpoint of the node"
                return Problem("VLANInUse", message)
    return None


def kept(
    functions: Iterable[NodeFunction], found: Mapping[NodeFunction, Pair], tags: Mapping[str, Tag]
) -> frozenset[str]:
    """Return the VFs of machines that wait for the engine's: a machine has its by the address."""
    waiting = {each.interface for each in functions if each.peer and each.peer.pod is None}
    paired = {pair.address for pair in found.values()}
    return frozenset(
        each for each, tag in tags.items() if tag.interface in waiting and each not in paired
    )


def _exhausted(function: NodeFunction, engine: _VF) -> Problem:
    vlans = ", ".join(function.peer.vlans) if function.peer else ""
    message = (
        f"all VLANs for endpoints ({vlans}) are in use on PF {engine.pf.address}, or are the"
        " fabric's: have more listed in endpointVLANs of the Pipeline's devices"
    )
    return Problem("VLANsExhausted", message)
