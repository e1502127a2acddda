# SPDX-License-Identifier: Apache-2.0
"""What the operator reads in every object of the API server, of whatever kind."""

from pydantic import JsonValue

from headrace_api import Json
from headrace_api.pod import (
    INTERFACES_ANNOTATION,
    KEEP_ANNOTATION,
    MIRROR_ANNOTATION,
    NETWORKS_ANNOTATION,
)

from .render.raw import items, mapping, number, part, text

#: Says whose an object is: nothing without it is ever deleted.
MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGER = "headrace-operator"

#: Carries a copy of the whole object, which nobody here reads.
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
#: All that the operator knows of a namespace, and, beside Ready, of a node: its kubelet writes the
#: rest every few minutes.
_LABELLED_METADATA = ("name", "uid", "resourceVersion", "creationTimestamp", "labels")
#: All that it knows of a pod, of which there may be very many.
_POD_METADATA = ("name", "namespace", "uid", "resourceVersion")
_POD_ANNOTATIONS = (
    NETWORKS_ANNOTATION,
    INTERFACES_ANNOTATION,
    KEEP_ANNOTATION,
    MIRROR_ANNOTATION,
)
_POD_SPEC = ("nodeName", "hostNetwork")
#: Condition of a pod: its sandbox is there, with what CNI plugins gave it.
POD_PLUGGED = "PodReadyToStartContainers"


def key(item: Json) -> str:
    """namespace/name, or the name alone of what has no namespace."""
    metadata = part(item, "metadata")
    namespace, name = text(metadata.get("namespace")), text(metadata.get("name"))
    return f"{namespace}/{name}" if namespace else name


def name_of(key: str) -> tuple[str, str]:
    """Namespace (or nothing) and name of a key."""
    namespace, _, name = key.rpartition("/")
    return namespace, name


def version(item: Json | None) -> int:
    """metadata.resourceVersion: of one kind the larger is the newer (KEP-5504). 0: no object."""
    return int(text(part(item, "metadata").get("resourceVersion")) or 0)


def generation(item: Json | None) -> int:
    """metadata.generation: the API server counts it up when the spec changes. 0: no object."""
    return number(part(item, "metadata").get("generation"))


def uid(item: Json | None) -> str:
    """metadata.uid; empty: no object."""
    return text(part(item, "metadata").get("uid"))


def label(item: Json | None, name: str) -> str:
    """Value of a label; empty: none."""
    return text(part(item, "metadata", "labels").get(name))


def ours(item: Json) -> bool:
    """Whether the operator made it."""
    return label(item, MANAGED_BY) == MANAGER


def slim(item: Json) -> Json:
    """The object without what nobody here reads, which is most of its bytes."""
    metadata = dict(part(item, "metadata"))
    if item.get("kind") in ("Node", "Namespace"):
        kept = _some(metadata, _LABELLED_METADATA)
        found: Json = {"apiVersion": "v1", "kind": item["kind"], "metadata": kept}
        return {**found, "status": _node_status(item)} if item["kind"] == "Node" else found
    if item.get("kind") == "Pod":
        return _slim_pod(item)
    metadata.pop("managedFields", None)
    annotations = part(metadata, "annotations")
    if _LAST_APPLIED in annotations:
        metadata["annotations"] = {
            name: value for name, value in annotations.items() if name != _LAST_APPLIED
        }
    return {**item, "metadata": metadata}


def _node_status(item: Json) -> Json:
    known = map(mapping, items(part(item, "status").get("conditions")))
    conditions = [_some(each, ("type", "status")) for each in known if each.get("type") == "Ready"]
    return {"conditions": [*conditions]}


def is_silent(node: Json | None) -> bool:
    """Whether the node's kubelet has not been heard of for so long that Ready is Unknown."""
    conditions = map(mapping, items(part(node, "status").get("conditions")))
    return any(
        each.get("type") == "Ready" and each.get("status") == "Unknown" for each in conditions
    )


def _slim_pod(item: Json) -> Json:
    metadata = part(item, "metadata")
    kept = _some(metadata, _POD_METADATA)
    if annotations := _some(part(metadata, "annotations"), _POD_ANNOTATIONS):
        kept |= {"annotations": annotations, **_some(metadata, ("ownerReferences",))}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": kept,
        "spec": _some(part(item, "spec"), _POD_SPEC),
        "status": _slim_pod_status(part(item, "status")),
    }


def _slim_pod_status(status: Json) -> Json:
    kept = _some(status, ("phase",))
    plugged = [
        _some(condition, ("type", "status"))
        for condition in map(mapping, items(status.get("conditions")))
        if condition.get("type") == POD_PLUGGED
    ]
    return kept | ({"conditions": [*plugged]} if plugged else {})


def _some(values: Json, names: tuple[str, ...]) -> Json:
    return {name: values[name] for name in names if name in values}


def covers(found: JsonValue, wanted: JsonValue) -> bool:
    """Whether everything wanted is found; the API server adds defaults, which are no difference."""
    if found == wanted:
        return True
    if isinstance(wanted, dict):
        there = mapping(found)
        return all(name in there and covers(there[name], value) for name, value in wanted.items())
    if isinstance(wanted, list):
        return (
            isinstance(found, list)
            and len(found) == len(wanted)
            and all(map(covers, found, wanted))
        )
    return False
