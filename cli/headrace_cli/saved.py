# SPDX-License-Identifier: Apache-2.0
"""What a backup holds, and how it looks in a cluster that is not the one it is of. Pure."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import version

from headrace_api import DataplaneConfig, Json
from headrace_api.raw import items, mapping, part, text
from headrace_cli.errors import CommandError
from headrace_kube import COMPILED, CONFIG_MAPS, NAMESPACES, Kind, kinds
from headrace_operator import objects, pods, resting
from headrace_operator.upgrade.convert import converted

WRITTEN = tuple(sorted(kinds.WRITTEN, key=lambda kind: kind.namespaced))
"""What people write: of the whole cluster first."""
KINDS: Mapping[str, Kind] = {
    kind.name: kind for kind in (NAMESPACES, CONFIG_MAPS, *COMPILED, *WRITTEN)
}
"""In the order of restoring."""

_METADATA = ("name", "namespace", "labels", "annotations")
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
#: Says which release wrote a file; 0.2 did not.
_VERSION = "headraceVersion"
#: Of a status: what was seen, not given out.
_SEEN = ("conditions", "observedGeneration")


def saved(item: Json) -> Json:
    """The object without what belongs to this cluster alone."""
    metadata = {k: v for k, v in part(item, "metadata").items() if k in _METADATA}
    annotations = {k: v for k, v in part(metadata, "annotations").items() if k != _LAST_APPLIED}
    metadata.pop("annotations", None)
    if annotations:
        metadata["annotations"] = annotations
    if set_name := stateful_set(item):
        metadata["ownerReferences"] = [{"kind": "StatefulSet", "name": set_name}]
    found: Json = {"apiVersion": item["apiVersion"], "kind": item["kind"], "metadata": metadata}
    if item["kind"] == CONFIG_MAPS.name:
        data = part(item, "data")
        return {**found, "data": {k: v for k, v in data.items() if k == resting.KEY}}
    if "spec" in item and item["kind"] != NAMESPACES.name:
        found["spec"] = item["spec"]
    if status := allocated(item):
        found["status"] = status
    return found


def allocated(item: Json) -> Json:
    """What the status of an object that people write says was given out."""
    if item["kind"] not in {kind.name for kind in WRITTEN}:
        return {}
    return {name: value for name, value in part(item, "status").items() if name not in _SEEN}


def is_saved(item: Json) -> bool:
    """Whether it is to be kept: Interfaces that were made for pods go and come with them."""
    return item["kind"] != "Interface" or not objects.is_owned(item) or pods.is_kept(item)


def stateful_set(item: Json) -> str:
    """The StatefulSet that keeps an Interface of one of its pods; empty: none."""
    owners = map(mapping, items(part(item, "metadata").get("ownerReferences")))
    names = (text(each.get("name")) for each in owners if each.get("kind") == "StatefulSet")
    return next(names, "") if item["kind"] == "Interface" else ""


def owned(item: Json, namespace: str, owner: Json) -> Json:
    """The compiled object in the namespace of another Headrace, with its owner."""
    metadata: Json = {
        **part(item, "metadata"),
        "namespace": namespace,
        "ownerReferences": [owner],
    }
    return {**{k: v for k, v in item.items() if k != "status"}, "metadata": metadata}


def kept_by(item: Json, owner: Json | None) -> Json:
    """The Interface of a StatefulSet's pod, with the StatefulSet as owner.

    Where there is none it is nobody's: the operator would take it away as the pod's, and a pod of
    that name uses it all the same.
    """
    metadata = {k: v for k, v in part(item, "metadata").items() if k != "ownerReferences"}
    if owner is not None:
        metadata["ownerReferences"] = [owner]
    else:
        labels = part(metadata, "labels")
        metadata["labels"] = {k: v for k, v in labels.items() if k != objects.MANAGED_BY}
    return {**item, "metadata": metadata}


@dataclass(frozen=True)
class Backup:
    """The objects of a file."""

    items: tuple[Json, ...]

    def of(self, *kinds: Kind) -> list[Json]:
        """The objects of these kinds."""
        names = {kind.name for kind in kinds}
        return [item for item in self.items if item["kind"] in names]

    def nodes(self) -> set[str]:
        """Nodes that have values."""
        return {
            text(part(item, "spec").get("nodeName"))
            for item in self.items
            if item["kind"] == DataplaneConfig.kind_name()
        } - {""}

    def counts(self) -> dict[str, int]:
        """How many of each kind."""
        found = {name: len(self.of(kind)) for name, kind in KINDS.items()}
        return {name: count for name, count in found.items() if count}

    def dump(self) -> str:
        """The file: a List that kubectl reads, too."""
        document = {
            "apiVersion": "v1",
            "kind": "List",
            _VERSION: version("headrace"),
            "items": [*self.items],
        }
        return json.dumps(document, indent=1) + "\n"

    @classmethod
    def of_objects(cls, found: Iterable[Json]) -> "Backup":
        """A backup of objects as the API server gives them."""
        return cls(tuple(saved(item) for item in found if is_saved(item)))

    @classmethod
    def load(cls, file: str, content: str) -> "Backup":
        """Read what `dump` wrote. Raises CommandError, which names the file."""
        try:
            document = json.loads(content)
        except ValueError as error:
            raise CommandError(f"{file} is no backup: {error}") from error
        found = document.get("items") if isinstance(document, dict) else None
        if not isinstance(found, list):
            raise CommandError(f"{file} is no backup: it has no list `items`")
        if _VERSION not in document:
            found = [converted(item) if isinstance(item, dict) else item for item in found]
        for index, item in enumerate(found):
            if problem := _problem(item):
                raise CommandError(f"{file} is no backup: items[{index}]: {problem}")
        return cls(tuple(found))


def _problem(item: object) -> str:
    if not isinstance(item, dict):
        return "is no object"
    kind = KINDS.get(str(item.get("kind")))
    if kind is None:
        return f"kind {item.get('kind')!r} is in no backup of this release"
    if item.get("apiVersion") != kind.api_version:
        return f"apiVersion {item.get('apiVersion')!r}: must be {kind.api_version}"
    if not text(part(item, "metadata").get("name")):
        return "metadata.name: required"
    if kind.namespaced and not text(part(item, "metadata").get("namespace")):
        return "metadata.namespace: required"
    return ""
