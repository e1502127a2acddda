# SPDX-License-Identifier: Apache-2.0
"""From the annotations of a pod to its Interfaces: pure, no I/O."""

from collections.abc import Callable, Mapping

from headrace_api import (
    API_VERSION,
    NAMESPACE_NAME_LABEL,
    Attachment,
    AttachmentType,
    InterfaceSpec,
    Json,
    ObjectRef,
    Pipeline,
    Pod,
    pod_interface_name,
    pod_interfaces,
    pod_networks,
)
from headrace_api.attachment import PodAttachment
from headrace_api.pod import (
    KEEP_ANNOTATION,
    MIRROR_ANNOTATION,
    NETWORKS_ANNOTATION,
    POD_LABEL,
    STATIC_POD_ANNOTATION,
    PodNetworksError,
)
from headrace_api.raw import items, mapping, part, text

from . import objects

_LABEL_LENGTH = 63

#: Key of an Interface -> the Pipeline for it. Raises PodError.
ChoosePipeline = Callable[[str], str]


class PodError(Exception):
    """The pod's Interfaces cannot be made; the text says how to mend that."""

    def __init__(self, reason: str, message: str) -> None:
        """`reason` is CamelCase."""
        super().__init__(message)
        self.reason = reason


def is_annotated(pod: Json) -> bool:
    """Whether the pod asks for Interfaces."""
    return NETWORKS_ANNOTATION in part(pod, "metadata", "annotations")


def is_completed(pod: Json) -> bool:
    """Whether all of the pod's containers have ended for good."""
    return Pod.model_validate(pod).completed


def is_plugged(pod: Json) -> bool:
    """Whether the pod runs, and its node's network plugins have given it all that they will."""
    status = part(pod, "status")
    conditions = map(mapping, items(status.get("conditions")))
    plugged = [each.get("status") for each in conditions if each.get("type") == objects.POD_PLUGGED]
    # Kubernetes before 1.29 has no such condition.
    return status.get("phase") == "Running" and plugged in ([], ["True"])


def interface_keys(pod: Json) -> tuple[str, ...]:
    """Interfaces that the pod's annotations name; none where they cannot be read."""
    metadata = part(pod, "metadata")
    annotations = {name: text(value) for name, value in part(metadata, "annotations").items()}
    try:
        names = pod_interfaces(text(metadata.get("name")), annotations)
    except PodNetworksError:
        return ()
    return tuple(f"{text(metadata.get('namespace'))}/{name}" for name in names)


def interfaces(pod: Json, choose: ChoosePipeline) -> dict[str, Json]:
    """The Interfaces (by key) that a pod is to have, for server-side apply: none, once completed.

    Raises PodError.
    """
    metadata = part(pod, "metadata")
    annotations = part(metadata, "annotations")
    if NETWORKS_ANNOTATION not in annotations or is_completed(pod):
        return {}
    namespace, name = text(metadata.get("namespace")), text(metadata.get("name"))
    if part(pod, "spec").get("hostNetwork") is True:
        raise PodError(
            "HostNetwork",
            f"A pod with hostNetwork has no devices of its own: remove {NETWORKS_ANNOTATION}",
        )
    keep = text(annotations.get(KEEP_ANNOTATION))
    if keep not in ("", "true", "false"):
        raise PodError("InvalidAnnotation", f"{KEEP_ANNOTATION}: {keep!r}: write true or false")
    labels: Json = {objects.MANAGED_BY: objects.MANAGER}
    if len(name) <= _LABEL_LENGTH:
        labels[POD_LABEL] = name
    made: Json = {
        "namespace": namespace,
        "labels": labels,
        "ownerReferences": [_owner(pod, keep == "true")],
    }
    if mirror := text(annotations.get(MIRROR_ANNOTATION)):
        made["annotations"] = {STATIC_POD_ANNOTATION: mirror}
    try:
        networks = pod_networks(text(annotations.get(NETWORKS_ANNOTATION)))
    except PodNetworksError as error:
        raise PodError("InvalidAnnotation", f"{NETWORKS_ANNOTATION}: {error}") from None
    found: dict[str, Json] = {}
    for item in networks:
        own = pod_interface_name(name, item.network)
        key = f"{namespace}/{own}"
        spec = InterfaceSpec(
            network_ref=ObjectRef(name=item.network),
            pipeline_ref=ObjectRef(name=item.pipeline or choose(key)),
            addresses=item.addresses,
            attachment=Attachment(
                type=AttachmentType.POD,
                pod=PodAttachment(
                    name=name,
                    device_name=item.device or PodAttachment.model_fields["device_name"].default,
                    default_route=item.default_route,
                ),
            ),
        )
        found[key] = {
            "apiVersion": API_VERSION,
            "kind": "Interface",
            "metadata": {"name": own, **made},
            "spec": spec.to_dict(),
        }
    return found


def choose_pipeline(
    namespace: str, found: Json | None, of: Json | None, pipelines: Mapping[str, Pipeline]
) -> str:
    """The Pipeline that an Interface of a pod has, or else the only one that allows Pod.

    `found` is the Interface as it is there, `of` the namespace. Raises PodError.
    """
    chosen = text(part(found, "spec", "pipelineRef").get("name"))
    if found and objects.is_owned(found) and chosen in pipelines:
        return chosen
    labels = {name: text(value) for name, value in part(of, "metadata", "labels").items()}
    labels[NAMESPACE_NAME_LABEL] = namespace
    able = sorted(
        name
        for name, item in pipelines.items()
        if item.spec.admits(labels) and item.spec.devices_for(AttachmentType.POD, labels)
    )
    if len(able) == 1:
        return able[0]
    if not able:
        raise PodError(
            "NoPipeline",
            f"No Pipeline allows type Pod in namespace {namespace}: one needs an"
            " allowedNamespaces that selects it, and an entry of type Pod in its devices",
        )
    raise PodError(
        "SeveralPipelines",
        f"Several Pipelines allow type Pod in namespace {namespace} ({', '.join(able)}): name one"
        " in the annotation",
    )


def pod_key(interface: Json) -> str:
    """namespace/name of the pod that an Interface names; empty: none."""
    name = text(part(interface, "spec", "attachment", "pod").get("name"))
    return f"{text(part(interface, 'metadata').get('namespace'))}/{name}" if name else ""


def is_kept(interface: Json) -> bool:
    """Whether an Interface that was made for a pod outlives the pod."""
    owners = map(mapping, items(part(interface, "metadata").get("ownerReferences")))
    return any(owner.get("kind") == "StatefulSet" for owner in owners)


def _owner(pod: Json, keep: bool) -> Json:
    """The ownerReference: the pod, or its StatefulSet if that is to keep the Interface."""
    metadata = part(pod, "metadata")
    for owner in map(mapping, items(metadata.get("ownerReferences"))):
        if keep and owner.get("controller") is True and owner.get("kind") == "StatefulSet":
            names = ("apiVersion", "kind", "name", "uid")
            return {name: owner[name] for name in names if name in owner}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "name": metadata.get("name"),
        "uid": metadata.get("uid"),
    }
