# SPDX-License-Identifier: Apache-2.0
"""A Pipeline on a node: its /64 of the underlay and the devices of its uplinks."""

from collections.abc import Iterable
from itertools import groupby

from headrace_api import (
    NEW_FEATURES,
    SUPPORTED_TYPES,
    Attachment,
    Object,
    Pipeline,
    PipelineSpec,
    Uplink,
)

from .addresses import node_number, node_prefix, node_range
from .allocations import NodeAllocation
from .claims import Claims, Owner, Space
from .core import Core, Entry, Kind, Step, put, record
from .dirty import DirtyConfigs
from .inputs import Nodes
from .outcome import Fault, taken

#: Every Pipeline's nodes have /64s of their own, even where their underlayPrefixes overlap.
NODES = Space("node")

#: Bytes of the outer IPv6 header.
OVERHEAD = 40
#: Underlay MTU where a Pipeline has no uplink.
DEFAULT_MTU = 1500


def device_space(node: str) -> Space:
    """Devices of a node: each serves one Interface or one uplink."""
    return Space("device", node)


def uplink_attachment(uplink: Uplink, node: str) -> Attachment:
    """The uplink's device on the node."""
    for override in uplink.node_overrides:
        if override.node_name == node:
            return override.attachment
    return uplink.attachment


def tenant_mtu(spec: PipelineSpec) -> int:
    """Largest tenant packet that every uplink of the Pipeline carries, in bytes."""
    return min((uplink.mtu for uplink in spec.uplinks), default=DEFAULT_MTU) - OVERHEAD


def uplink_function(spec: PipelineSpec, index: int, node: str) -> int | None:
    """Number of the uplink's function, from the first of its resource on; None: it has none."""
    resource = uplink_attachment(spec.uplinks[index], node).resource_name
    if resource is None:
        return None
    # Pods ask for one for each uplink, whatever nodes override.
    return sum(each.attachment.resource_name == resource for each in spec.uplinks[:index])


def uplink_devices(spec: PipelineSpec, node: str) -> dict[str, int]:
    """Device -> index of its uplink, of a Pipeline on a node."""
    devices = {}
    for index, uplink in enumerate(spec.uplinks):
        device = uplink_attachment(uplink, node).device()
        if device:
            devices[device] = index
    return devices


class Pipelines(Kind[PipelineSpec]):
    """Pipelines: what holds, and is looked at, is a Pipeline on a node."""

    name = "Pipeline"

    def __init__(self, core: Core) -> None:
        super().__init__(core)
        self._nodes = core.part(Nodes)
        self._dirty_configs = core.part(DirtyConfigs)
        self.held: dict[Owner, NodeAllocation] = {}
        """What each has, accepted or not."""
        self.ready: dict[Owner, str] = {}
        """Those that run: their /64."""
        self.running: dict[Owner, PipelineSpec] = {}
        """By what spec they run."""
        self.unaware: dict[str, set[Owner]] = {feature: set() for feature in NEW_FEATURES}
        """Those whose agents do not understand a feature."""
        # Of an earlier run, and not looked at yet.
        self._inherited: set[Owner] = set()
        core.watch(Nodes.name, self._node_changed)

    def read(self, item: Object) -> Entry[PipelineSpec]:
        """All of a Pipeline that matters."""
        if not isinstance(item, Pipeline):
            raise TypeError(f"{item.kind} is no Pipeline")
        return Entry(item.metadata.creation_timestamp, item.spec)

    def install(self, owner: Owner, held: NodeAllocation) -> None:
        """Take what a record of an earlier run says."""
        self.held[owner] = held
        self._inherited.add(owner)
        claims = self.core.claims
        claims.take(NODES, node_number(held.underlay_prefix), owner)
        for device in held.devices:
            claims.take(device_space(owner.node), device, owner)
        self.core.mark([owner])

    def changed(
        self, key: str, old: Entry[PipelineSpec] | None, new: Entry[PipelineSpec] | None
    ) -> None:
        """Look at it on every node, and at those whom it serves."""
        self._mark_held(key)
        self.core.mark(Owner(self.name, key, node) for node in self._nodes.entries)
        self.core.changed(self.name, key)

    def readable(self, key: str) -> None:
        """Look at it where it has something, and at those whom it serves."""
        self._mark_held(key)
        self.core.mark(self.core.referring(Owner(self.name, key)))

    def _mark_held(self, key: str) -> None:
        self.core.mark([owner for owner in self.held if owner.key == key])

    def _node_changed(self, node: str) -> None:
        self.core.mark(Owner(self.name, key, node) for key in self.entries)

    def understands(self, owner: Owner, features: Iterable[str] | None) -> bool:
        """Hear what its agent understands; None: it has said nothing yet. Whether that is news."""
        before = {feature for feature, owners in self.unaware.items() if owner in owners}
        lacking = set() if features is None else self.unaware.keys() - {*features}
        for feature in before ^ lacking:
            self.unaware[feature] ^= {owner}
        if before == lacking:
            return False
        self.core.mark([owner, *self.core.referring(owner)])
        return True

    def unaware_nodes(self) -> dict[str, dict[str, tuple[str, ...]]]:
        """Feature -> Pipeline -> nodes whose agents do not understand it."""
        return {
            feature: {
                name: tuple(owner.node for owner in found)
                for name, found in groupby(sorted(owners), lambda owner: owner.key)
            }
            for feature, owners in self.unaware.items()
            if owners
        }

    def selects(self, name: str, node: str) -> bool:
        """Whether both exist and the Pipeline selects the node."""
        spec, entry = self.spec(name), self._nodes.entries.get(node)
        return spec is not None and entry is not None and spec.selects(entry.labels)

    def sized(self, owner: Owner) -> PipelineSpec:
        """What runs there, with what the node's class has of it."""
        spec = self.running[owner]
        return spec.sized(spec.node_class(self._nodes.entries[owner.node].labels))

    def holds(self, owner: Owner) -> bool:
        """Whether it has a /64."""
        return owner in self.held

    def keep(self, owner: Owner) -> None:
        """Keep what is still wanted; the /64 of who goes rests."""
        held, claims = self.held[owner], self.core.claims
        number = node_number(held.underlay_prefix)
        spec = self.spec(owner.key) if self.selects(owner.key, owner.node) else None
        space = device_space(owner.node)
        stays = False
        devices: tuple[str, ...] = ()
        if spec and claims.holder(NODES, number) == owner:
            ranges = map(node_range, spec.underlay_prefixes)
            stays = any(first <= number <= last for first, last in ranges)
            wanted = uplink_devices(spec, owner.node)
            devices = tuple(
                device
                for device in held.devices
                if stays and device in wanted and claims.holder(space, device) == owner
            )
        for device in set(held.devices) - set(devices):
            self.core.wake(claims.release(space, device, owner))
        if not stays:
            claims.retire(NODES, number, owner, self.core.now)
        self._record(owner, NodeAllocation(held.underlay_prefix, devices) if stays else None)

    @property
    def steps(self) -> tuple[Step, ...]:
        """All at once: what users gave comes first in NODES and devices anyway."""
        return (self._claim,)

    def _claim(self, owner: Owner) -> tuple[Fault, ...]:
        spec = self.spec(owner.key)
        if spec is None or not self.selects(owner.key, owner.node):
            self._record(owner, None)
            return ()
        found, faults = _claim(self.core.claims, owner, spec, self.held.get(owner))
        self._record(owner, found)
        return faults

    def settle(self, owner: Owner, faults: tuple[Fault, ...]) -> None:
        """Have it run there, or not; what this flush failed with runs as it did."""
        held, prefix = self.held.get(owner), self.ready.get(owner)
        if owner in self._inherited and held:
            self._inherited.discard(owner)
            prefix = held.underlay_prefix
        if owner not in self.core.failures:
            prefix = held.underlay_prefix if held and not faults else None
            put(self.running, owner, self.spec(owner.key) if prefix else None)
        if owner.key not in self.entries or owner.node not in self._nodes.entries:
            prefix, faults = None, ()
        self.core.report(owner.subject, owner.node, faults)
        if self.ready.get(owner) != prefix:
            put(self.ready, owner, prefix)
            self.core.mark(self.core.referring(owner))
        self._dirty_configs.owners.add(owner)

    def _record(self, owner: Owner, held: NodeAllocation | None) -> None:
        record(self.held, owner, held, self.core.changes.nodes, (owner.key, owner.node))


def _claim(
    claims: Claims, owner: Owner, spec: PipelineSpec, held: NodeAllocation | None
) -> tuple[NodeAllocation | None, tuple[Fault, ...]]:
    """What the Pipeline has on the node now, and why it does not run there (if not)."""
    node = owner.node
    faults: list[Fault] = []
    for index, uplink in enumerate(spec.uplinks):
        attachment = uplink_attachment(uplink, node)
        field = f"spec.uplinks[{index}].attachment"
        faults.extend(unsupported(field, attachment))
        if attachment.pod:
            message = "a pod is no way to the underlay: use another type"
            faults.append(Fault(f"{field}.type", "AttachmentUnsupported", message))
    devices = uplink_devices(spec, node)
    space = device_space(node)
    for device, index in devices.items():
        holder = claims.holder(space, device)
        if holder not in (None, owner):
            faults.append(
                taken(
                    f"spec.uplinks[{index}].attachment",
                    "DeviceConflict",
                    f"{device} on node {node}",
                    holder,
                )
            )
    if faults:
        _wait(claims, space, devices, owner)
        return held, tuple(faults)
    if held is None:
        ranges = map(node_range, spec.underlay_prefixes)
        found = (claims.take_lowest(NODES, first, last, owner) for first, last in ranges)
        number = next((each for each in found if each is not None), None)
        if number is None:
            _wait(claims, space, devices, owner)
            claims.wait(NODES, None, owner)
            message = (
                f"no /64 of {', '.join(spec.underlay_prefixes)} is free for node {node} (one that a"
                " node had is free again an hour later): add a prefix"
            )
            return None, (Fault("spec.underlayPrefixes", "UnderlayPrefixExhausted", message),)
        held = NodeAllocation(node_prefix(number))
    for device in devices:
        claims.take(space, device, owner)
    return NodeAllocation(held.underlay_prefix, tuple(sorted(devices))), ()


def _wait(claims: Claims, space: Space, devices: Iterable[str], owner: Owner) -> None:
    for device in devices:
        if claims.holder(space, device) != owner:
            claims.wait(space, device, owner)


def unsupported(field: str, attachment: Attachment) -> tuple[Fault, ...]:
    """Why this release cannot attach it (if so)."""
    kind = attachment.type
    if kind not in SUPPORTED_TYPES:
        known = ", ".join(sorted(SUPPORTED_TYPES))
        message = f"type {kind} is not attached by this release: use one of {known}"
        return (Fault(f"{field}.type", "AttachmentUnsupported", message),)
    return ()
