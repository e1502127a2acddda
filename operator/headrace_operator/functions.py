# SPDX-License-Identifier: Apache-2.0
"""VFs that Interfaces have by grants: what agents claim becomes the `functions` of NodeStates.

The order of all of it is in `headrace_dataplane.node.vlans`. Here two things are seen to: a VF is
nobody else's as long as an agent has not said that it has let go of it, and no VF is put into a
VLAN while one of another network may be in it, on whichever node. What was given is read back from
NodeStates by the next operator.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from pydantic import ValidationError

from headrace_api import Json, NodeFunction, entry_key
from headrace_api.node_state import NODE_FUNCTIONS, NodePeer
from headrace_api.raw import items, mapping, number, part, text
from headrace_compiler.core import put

Entry = Json
"""A NodeFunction as JSON."""


class _Claim(NamedTuple):
    """What an agent says of a function."""

    address: str
    interface: str
    grant: int
    pod: str


@dataclass(frozen=True)
class _Told:
    """What the agent of a DataplaneConfig claims; None: it has said nothing, or not again yet."""

    pipeline: str
    claims: tuple[_Claim, ...] | None


class _Granted(NamedTuple):
    """An Interface as compiled."""

    grant: int
    network: str
    vlan: int
    peer: Json | None
    """What on the node is behind its function: a NodePeer as JSON."""


class Functions:
    """Whose the VFs of all nodes are. Not thread-safe."""

    def __init__(self, former: Callable[[str], str] = lambda _: "") -> None:
        """`former`: Interface -> PCI address of its machine's VF, "": it has had none."""
        self._former = former
        # DataplaneConfig -> its node, and what its agent claims.
        self._nodes: dict[str, str] = {}
        self._told: defaultdict[str, dict[str, _Told]] = defaultdict(dict)
        # DataplaneConfig -> Interfaces that have grants.
        self._compiled: dict[str, dict[str, _Granted]] = {}
        # Node -> VF -> what is wanted of it.
        self._given: dict[str, dict[str, Entry]] = {}
        # Pipeline and VLAN -> networks of the VFs that are given there.
        self._networks: defaultdict[tuple[str, int], Counter[str]] = defaultdict(Counter)
        # VLAN -> node and VF that is in it, by its agent -> grant.
        self._seen: defaultdict[int, dict[tuple[str, str], int]] = defaultdict(dict)
        self._seen_on: dict[str, dict[str, tuple[int, int]]] = {}
        # Nodes where somebody waits for a VLAN.
        self._waiting: set[str] = set()

    def load(self, state: Json) -> None:
        """Take what an earlier operator has given on a node."""
        node = text(part(state, "spec").get("nodeName"))
        entries = map(mapping, items(part(state, "spec").get("functions")))
        self._set(node, {text(each.get("pciAddress")): each for each in entries})
        self.found(node, state)

    def compiled(self, config: str, item: Json | None) -> str:
        """Take a DataplaneConfig as compiled; returns its node, if that matters there."""
        spec = part(item, "spec")
        granted = {
            entry_key(each): _Granted(
                number(each.get("grant")),
                text(each.get("network")),
                number(part(each, "attachment", "sriov").get("vlan")),
                _peer(each),
            )
            for each in map(mapping, items(spec.get("interfaces")))
            if "grant" in each
        }
        before = self._compiled.get(config)
        put(self._compiled, config, granted or None)
        return text(spec.get("nodeName")) if granted and granted != before else ""

    def claimed(self, config: str, item: Json | None) -> set[str]:
        """Take a DataplaneConfig as it is; returns the nodes whose VFs are others' by it."""
        spec, changed = part(item, "spec"), set()
        node, before = text(spec.get("nodeName")), self._nodes.get(config, "")
        if before and before != node:
            del self._told[before][config], self._nodes[config]
            changed.add(before)
        if node:
            told = _Told(text(spec.get("pipelineName")), _claims(part(item, "status")))
            if self._told[node].get(config) != told:
                self._nodes[config], self._told[node][config] = node, told
                changed.add(node)
        return changed

    def found(self, node: str, state: Json | None) -> set[str]:
        """Take a NodeState as it is; returns the nodes where somebody may have waited for that."""
        entries = map(mapping, items(part(state, "status").get("functions")))
        seen = {
            text(each.get("pciAddress")): (number(each.get("grant")), number(each.get("vlan")))
            for each in entries
        }
        return {*self._waiting} if self._see(node, seen) else set()

    def forget(self, node: str) -> set[str]:
        """There is no such node any more; returns the nodes where somebody waited for it."""
        self._set(node, {})
        self._see(node, {})
        self._waiting.discard(node)
        return {*self._waiting}

    def give(self, node: str) -> tuple[list[Entry], set[str]]:
        """What is wanted of the node's VFs now, and the nodes where somebody waited for that."""
        had = self._given.get(node, {})
        told = self._told.get(node, {})
        kept = {address: entry for address, entry in had.items() if _is_held(entry, told.values())}
        self._set(node, kept)
        self._waiting.discard(node)
        for config, claim in sorted((c, each) for c, t in told.items() for each in t.claims or ()):
            entry = self._entry(config, told[config].pipeline, claim)
            if entry is None or claim.address in kept or len(kept) >= NODE_FUNCTIONS:
                continue
            if self._is_in_use(entry, node):
                self._waiting.add(node)
            else:
                kept = {**kept, claim.address: entry}
                self._set(node, kept)
        woken = self._waiting - {node} if had.keys() - kept.keys() else set()
        return [kept[address] for address in sorted(kept)], woken

    def _entry(self, config: str, pipeline: str, claim: _Claim) -> Entry | None:
        """What is wanted of a VF; None: the claim is of an earlier configuration, or nonsense."""
        granted = self._compiled.get(config, {}).get(claim.interface)
        if granted is None or granted.grant != claim.grant:
            return None
        try:
            peer = NodePeer.model_validate(granted.peer) if granted.peer is not None else None
            if peer is not None and peer.pod is None:
                former = self._former(claim.interface) or None
                peer = NodePeer.model_validate({**peer.to_dict(), "pciAddress": former})
            return NodeFunction(
                pci_address=claim.address,
                pipeline=pipeline,
                interface=claim.interface,
                network=granted.network,
                grant=granted.grant,
                pod=claim.pod,
                vlan=granted.vlan or None,
                peer=peer,
            ).to_dict()
        except ValidationError:
            return None

    def _is_in_use(self, entry: Entry, node: str) -> bool:
        """Whether another VF may be in its VLAN that is not its network's."""
        vlan = number(entry.get("vlan"))
        if not vlan:
            return False
        networks = self._networks.get((text(entry.get("pipeline")), vlan), Counter())
        if networks.keys() - {entry["network"]}:
            return True
        for (where, address), grant in self._seen.get(vlan, {}).items():
            # Of those that are given all is known; others are being put back.
            given = self._given.get(where, {}).get(address)
            known = given is not None and number(given.get("grant")) == grant
            if not known and (where, address) != (node, entry["pciAddress"]):
                return True
        return False

    def _set(self, node: str, entries: dict[str, Entry]) -> None:
        """Have these given on a node."""
        for entry in self._given.get(node, {}).values():
            networks = self._networks[_place(entry)]
            networks[text(entry.get("network"))] -= 1
            self._networks[_place(entry)] = +networks
        for entry in entries.values():
            self._networks[_place(entry)][text(entry.get("network"))] += 1
        put(self._given, node, entries or None)

    def _see(self, node: str, seen: dict[str, tuple[int, int]]) -> bool:
        """Take where VFs of a node are; whether that is news."""
        before = self._seen_on.get(node, {})
        if before == seen:
            return False
        for address, (_, vlan) in before.items():
            del self._seen[vlan][node, address]
        for address, (grant, vlan) in seen.items():
            self._seen[vlan][node, address] = grant
        put(self._seen_on, node, seen or None)
        return True


def _peer(interface: Json) -> Json | None:
    """The endpoint of a compiled Interface; None: behind its function is the wire."""
    endpoint = part(interface, "attachment", "sriov", "endpoint")
    if not endpoint:
        return None
    peer: Json = {"vlans": interface.get("endpointVLANs", [])}
    if pod := text(part(endpoint, "pod").get("name")):
        # Of the Interface's namespace, whatever it is named.
        peer["pod"] = f"{text(interface.get('namespace'))}/{pod}"
    if mac := text(interface.get("macAddress")):
        peer["macAddress"] = mac
    return peer


def _place(entry: Entry) -> tuple[str, int]:
    return text(entry.get("pipeline")), number(entry.get("vlan"))


def _is_held(entry: Entry, told: Iterable[_Told]) -> bool:
    """Whether a VF is still whose it was, by what agents of the node say."""
    claim = _Claim(
        text(entry.get("pciAddress")),
        text(entry.get("interface")),
        number(entry.get("grant")),
        text(entry.get("pod")),
    )
    pipeline = entry.get("pipeline")
    return any(
        each.pipeline == pipeline and (each.claims is None or claim in each.claims) for each in told
    )


def _claims(status: Json) -> tuple[_Claim, ...] | None:
    functions = status.get("functions")
    return tuple(sorted(_each(functions))) if isinstance(functions, list) else None


def _each(functions: Iterable[object]) -> Iterator[_Claim]:
    for item in functions:
        if isinstance(item, dict):
            yield _Claim(
                text(item.get("pciAddress")),
                text(item.get("interface")),
                number(item.get("grant")),
                text(item.get("pod")),
            )
