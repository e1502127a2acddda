# SPDX-License-Identifier: Apache-2.0
"""What the operator reads in every object of the API server, of whatever kind."""

from pydantic import JsonValue

from headrace_api import STARTUP_TAINT, Json
from headrace_api.pod import (
    INTERFACES_ANNOTATION,
    KEEP_ANNOTATION,
    MIRROR_ANNOTATION,
    NETWORKS_ANNOTATION,
)
from headrace_api.raw import items, mapping, number, part, text

#: Says whose an object is: nothing without it is ever deleted.
MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGER = "headrace-operator"

#: Carries a copy of the whole object, which nobody here reads.
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
#: All that the operator knows of a namespace, and, beside Ready and taints that are to go, of a
#: node: its kubelet writes the rest every few minutes.
_LABELLED_METADATA = ("name", "uid", "resourceVersion", "creationTimestamp", "labels")
#: All that it knows of a pod, of which there may be very many.
_POD_METADATA = ("name", "namespace", "uid", "resourceVersion")
_POD_ANNOTATIONS = (
    NETWORKS_ANNOTATION,
    INTERFACES_ANNOTATION,
    KEEP_ANNOTATION,
    MIRROR_ANNOTATION,
)
_NODE_STATUS = ("observedGeneration", "conditions", "policies", "functions")
_POD_SPEC = ("nodeName", "hostNetwork")
_NODE_AGENT: Json = {"app.kubernetes.io/name": "headrace", "app.kubernetes.io/component": "node"}
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


def is_owned(item: Json) -> bool:
    """Whether the operator made it."""
    return label(item, MANAGED_BY) == MANAGER


def slim(item: Json) -> Json:
    """The object without what nobody here reads, which is most of its bytes."""
    metadata = dict(part(item, "metadata"))
    if item.get("kind") in ("Node", "Namespace"):
        kept = _some(metadata, _LABELLED_METADATA)
        found: Json = {"apiVersion": "v1", "kind": item["kind"], "metadata": kept}
        if item["kind"] == "Node":
            found["status"] = _some_conditions(part(item, "status"), "Ready")
            if waits(item):
                found["spec"] = _some(part(item, "spec"), ("taints",))
        return found
    if item.get("kind") == "Pod":
        return _slim_pod(item)
    if item.get("kind") == "NodeState":
        # Most of it is what the agent found of the machine.
        item = {**item, "status": _some(part(item, "status"), _NODE_STATUS)}
    metadata.pop("managedFields", None)
    annotations = part(metadata, "annotations")
    if _LAST_APPLIED in annotations:
        metadata["annotations"] = {
            name: value for name, value in annotations.items() if name != _LAST_APPLIED
        }
    return {**item, "metadata": metadata}


def is_going(item: Json) -> bool:
    """Whether the object is being deleted; of pods in the cache only the node agent's say so."""
    return "deletionTimestamp" in part(item, "metadata")


def waits(node: Json | None) -> bool:
    """Whether the node has the startup taint."""
    return any(mapping(each).get("key") == STARTUP_TAINT for each in taints(node))


def taints(node: Json | None) -> list[JsonValue]:
    """All taints of the node; of one in the cache, if one of them is the startup taint."""
    return items(part(node, "spec").get("taints"))


def is_unknown(node: Json | None) -> bool:
    """Whether condition Ready is Unknown: its kubelet has not reported for long."""
    return _says(node, "Ready", "Unknown")


def is_ready(item: Json | None) -> bool:
    """Whether condition Ready is True."""
    return _says(item, "Ready", "True")


def _says(item: Json | None, kind: str, status: str) -> bool:
    conditions = map(mapping, items(part(item, "status").get("conditions")))
    return any(each.get("type") == kind and each.get("status") == status for each in conditions)


def is_node_agent(pod: Json) -> bool:
    """Whether the pod looks like the node agent's: whose it is its namespace says."""
    return covers(part(pod, "metadata", "labels"), _NODE_AGENT)


def _slim_pod(item: Json) -> Json:
    metadata = part(item, "metadata")
    kept = _some(metadata, _POD_METADATA)
    if annotations := _some(part(metadata, "annotations"), _POD_ANNOTATIONS):
        kept |= {"annotations": annotations, **_some(metadata, ("ownerReferences",))}
    condition = POD_PLUGGED
    if is_node_agent(item):
        condition = "Ready"
        kept |= {"labels": _NODE_AGENT, **_some(metadata, ("deletionTimestamp",))}
    status = part(item, "status")
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": kept,
        "spec": _some(part(item, "spec"), _POD_SPEC),
        "status": _some(status, ("phase",)) | _some_conditions(status, condition),
    }


def _some_conditions(status: Json, kind: str) -> Json:
    conditions = [
        _some(each, ("type", "status"))
        for each in map(mapping, items(status.get("conditions")))
        if each.get("type") == kind
    ]
    return {"conditions": [*conditions]} if conditions else {}


def _some(values: Json, names: tuple[str, ...]) -> Json:
    return {name: values[name] for name in names if name in values}


def covers(found: JsonValue, desired: JsonValue) -> bool:
    """Whether all that is desired is found; defaults of the API server are no difference."""
    if found == desired:
        return True
    if isinstance(desired, dict):
        there = mapping(found)
        return all(name in there and covers(there[name], value) for name, value in desired.items())
    if isinstance(desired, list):
        return (
            isinstance(found, list)
            and len(found) == len(desired)
            and all(map(covers, found, desired))
        )
    return False
