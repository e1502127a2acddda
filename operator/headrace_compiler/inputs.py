# SPDX-License-Identifier: Apache-2.0
"""What others are compiled from, and nothing is compiled of: nodes, namespaces, pods."""

from collections.abc import Mapping
from typing import NamedTuple

from headrace_api import NAMESPACE_NAME_LABEL, Namespace, Node, Object, Pod

from .core import Entry, Kind, namespace_of


class Labelled(Kind[None]):
    """A kind of which only labels matter."""

    def read(self, item: Object) -> Entry[None]:
        """Its labels."""
        if not isinstance(item, Node | Namespace):
            raise TypeError(f"{item.kind} has more than labels")
        return Entry("", None, labels=dict(item.metadata.labels))

    def changed(self, key: str, old: Entry[None] | None, new: Entry[None] | None) -> None:
        """Whoever is compiled from it is looked at."""
        self.core.changed(self.name, key)


class Nodes(Labelled):
    """Nodes of the cluster."""

    name = "Node"


class Namespaces(Labelled):
    """Namespaces."""

    name = "Namespace"

    def labels_of(self, key: str) -> Mapping[str, str]:
        """Labels of the namespace of the object with this key."""
        name = namespace_of(key)
        entry = self.entries.get(name)
        return {**(entry.labels if entry else {}), NAMESPACE_NAME_LABEL: name}


class Place(NamedTuple):
    """Where a pod is: all of it that the compiler reads."""

    node: str | None
    """None: it has not been scheduled yet."""
    completed: bool


class Pods(Kind[Place]):
    """Pods."""

    name = "Pod"

    def read(self, item: Object) -> Entry[Place]:
        """Where it is."""
        if not isinstance(item, Pod):
            raise TypeError(f"{item.kind} is no Pod")
        return Entry("", Place(item.node, item.completed))

    def changed(self, key: str, old: Entry[Place] | None, new: Entry[Place] | None) -> None:
        """Whoever is compiled from it is looked at."""
        self.core.changed(self.name, key)
