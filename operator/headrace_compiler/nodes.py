# SPDX-License-Identifier: Apache-2.0
"""A Pipeline on a node: its /64 of the underlay and the devices of its uplinks."""

from collections.abc import Iterable

from headrace_api import SUPPORTED_TYPES, Attachment, PipelineSpec, Uplink

from .addresses import node_number, node_prefix, node_range
from .allocations import NodeAllocation
from .claims import Claims, Owner, Space
from .outcome import Fault, taken
from .store import Store

#: Every Pipeline's nodes have /64s of their own, even where their underlayPrefixes overlap.
NODES = Space("node")

#: Bytes of the outer IPv6 header.
OVERHEAD = 40
#: Underlay MTU where a Pipeline has no uplink.
DEFAULT_MTU = 1500


def pn_key(pipeline: str, node: str) -> str:
    """Key of a Pipeline on a node."""
    return f"{pipeline}/{node}"


def pn_parts(key: str) -> tuple[str, str]:
    """Pipeline and node of the key."""
    pipeline, _, node = key.partition("/")
    return pipeline, node


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


def uplink_devices(spec: PipelineSpec, node: str) -> dict[str, int]:
    """Device -> index of its uplink, of a Pipeline on a node."""
    devices = {}
    for index, uplink in enumerate(spec.uplinks):
        device = uplink_attachment(uplink, node).device()
        if device:
            devices[device] = index
    return devices


def install(claims: Claims, key: str, record: NodeAllocation) -> None:
    """Take what a record of an earlier run says."""
    owner = Owner("pn", key)
    claims.take(NODES, node_number(record.underlay_prefix), owner)
    for device in record.devices:
        claims.take(device_space(pn_parts(key)[1]), device, owner)


def keep(
    store: Store, claims: Claims, key: str, record: NodeAllocation, now: int
) -> tuple[NodeAllocation | None, set[Owner]]:
    """What stays of the record, and who waited for what was released; the /64 rests."""
    pipeline, node = pn_parts(key)
    owner = Owner("pn", key)
    number = node_number(record.underlay_prefix)
    spec = store.pipeline(pipeline) if store.selects(pipeline, node) else None
    stays = False
    devices: tuple[str, ...] = ()
    if spec and claims.holder(NODES, number) == owner:
        ranges = map(node_range, spec.underlay_prefixes)
        stays = any(first <= number <= last for first, last in ranges)
        wanted = uplink_devices(spec, node)
        space = device_space(node)
        devices = tuple(
            device
            for device in record.devices
            if stays and device in wanted and claims.holder(space, device) == owner
        )
    woken: set[Owner] = set()
    for device in set(record.devices) - set(devices):
        woken |= claims.release(device_space(node), device, owner)
    if not stays:
        claims.retire(NODES, number, owner, now)
        return None, woken
    return NodeAllocation(record.underlay_prefix, devices), woken


def claim(
    store: Store, claims: Claims, key: str, record: NodeAllocation | None
) -> tuple[NodeAllocation | None, tuple[Fault, ...]]:
    """What the Pipeline has on the node now, and why it does not run there (if not)."""
    pipeline, node = pn_parts(key)
    spec = store.pipeline(pipeline)
    if spec is None or not store.selects(pipeline, node):
        return None, ()
    owner = Owner("pn", key)
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
        return record, tuple(faults)
    if record is None:
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
        record = NodeAllocation(node_prefix(number))
    for device in devices:
        claims.take(space, device, owner)
    return NodeAllocation(record.underlay_prefix, tuple(sorted(devices))), ()


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
    if attachment.sriov and attachment.sriov.resource_name:
        message = "resourceName is not attached by this release: give pciAddress"
        return (Fault(f"{field}.sriov.resourceName", "AttachmentUnsupported", message),)
    return ()
