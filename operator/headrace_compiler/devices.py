# SPDX-License-Identifier: Apache-2.0
"""Which devices an Interface may have: those that its Pipeline lists for its namespace."""

from collections.abc import Mapping

from headrace_api import AttachmentType, InterfaceSpec, PipelineSpec
from headrace_api.device import is_pod_end, named

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
    return tuple(faults)
