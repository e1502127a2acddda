# SPDX-License-Identifier: Apache-2.0
"""Which devices an Interface may have: those that its Pipeline lists for its namespace."""

from collections.abc import Iterator, Mapping

from headrace_api import AttachmentType, Device, InterfaceSpec, PipelineSpec
from headrace_api.device import is_pod_end, named

from .allocations import EndpointAllocation
from .outcome import Fault

_REASON = "DeviceNotAllowed"


def not_allowed(
    namespace: str, spec: InterfaceSpec, pipeline: PipelineSpec, labels: Mapping[str, str]
) -> tuple[Fault, ...]:
    """Why the Interface may not have its device; nothing: it may. `labels` are the namespace's."""
    kind = spec.attachment.type
    if kind is AttachmentType.DISCARD:
        return ()
    entries = pipeline.devices_for(kind, labels)
    if not entries:
        message = (
            f"Pipeline {spec.pipeline_ref.name} has no device of type {kind} for namespace"
            f" {namespace}: use another type, or have one added to the Pipeline's spec.devices"
        )
        return (Fault("spec.attachment.type", _REASON, message),)
    faults = []
    for field, value in named(spec.attachment):
        if any(entry.has(value) for entry in entries):
            continue
        known = "; ".join(map(str, entries))
        message = (
            f"{value} is the node's end of a pod's device, and nobody's else: name another"
            if is_pod_end(value)
            else f"{value} is none of the devices that Pipeline {spec.pipeline_ref.name} has for"
            f" namespace {namespace} ({known}): name one of these, or have it added to the"
            " Pipeline's spec.devices"
        )
        faults.append(Fault(f"spec.attachment.{field}", _REASON, message))
    if not faults:
        faults.extend(_not_in_vlan(namespace, spec, pipeline, labels))
    return tuple(faults)


def _not_in_vlan(
    namespace: str, spec: InterfaceSpec, pipeline: PipelineSpec, labels: Mapping[str, str]
) -> Iterator[Fault]:
    """Why its function may not be in its VLAN, or in none, or have its endpoint."""
    resource, vlan = spec.attachment.resource_name, spec.attachment.vlan
    entry = pool_for(pipeline, resource, labels) if resource else None
    if entry is None:
        return
    of = f"entry {entry.name} of Pipeline {spec.pipeline_ref.name}, of which namespace {namespace}"
    if spec.attachment.endpoint is not None:
        if entry.endpoint_vlans is None:
            message = (
                f"{of} has functions of {resource}, has them on the wire alone: leave endpoint out,"
                " or have VLANs listed in the entry's endpointVLANs"
            )
            yield Fault("spec.attachment.sriov.endpoint", _REASON, message)
        return
    if entry.has_vlan(vlan):
        return
    known = ", ".join(entry.vlans or ())
    if vlan is None and known:
        message = f"{of} has functions of {resource}, has them in VLANs alone: name one of {known}"
    elif vlan is None:
        message = (
            f"{of} has functions of {resource}, has them for endpoints on the node alone: name the"
            " endpoint"
        )
    elif known:
        message = (
            f"VLAN {vlan} is none of {of} has functions of {resource}: name one of {known}, or have"
            " it added to the entry's vlans"
        )
    else:
        message = (
            f"{of} has functions of {resource}, has no VLANs: leave vlan out, or have the entry's"
            " vlans list it"
        )
    yield Fault("spec.attachment.sriov.vlan", _REASON, message)


def endpoint_of(
    spec: InterfaceSpec, pipeline: PipelineSpec, labels: Mapping[str, str]
) -> EndpointAllocation | None:
    """What on the node is behind the Interface's function; None: the wire, or there is none."""
    if spec.attachment.endpoint is None or spec.attachment.resource_name is None:
        return None
    entry = pool_for(pipeline, spec.attachment.resource_name, labels)
    vlans = entry.endpoint_vlans if entry else None
    return EndpointAllocation(vlans or (), spec.attachment.pod_name, spec.mac_address)


def pool_for(pipeline: PipelineSpec, resource: str, labels: Mapping[str, str]) -> Device | None:
    """The entry of which a namespace with these labels has functions: the first that serves it."""
    entries = pipeline.devices_for(AttachmentType.SRIOV, labels)
    return next((each for each in entries if each.resource_name == resource), None)
