# SPDX-License-Identifier: Apache-2.0
"""What the cluster has without Headrace: Namespaces, Nodes and Pods. It is only read."""

from headrace_api import Json, Namespace, Node, Pod
from headrace_api.raw import part
from headrace_kube import INTERFACES, NAMESPACES, NODES, PODS
from headrace_operator import pods
from headrace_operator.objects import uid
from headrace_operator.work import Work

from .handler import Input
from .state import State


class Namespaces(Input[Namespace]):
    """Only read: what Pipelines and UnderlayEndpoints select."""

    kind = NAMESPACES
    has_status = False

    def accepted(self, model: Namespace) -> None:
        """Its pods may have a Pipeline now."""
        self._state.pods.retry()


class Nodes(Input[Node]):
    """Only read, but for the startup taint."""

    kind = NODES
    has_status = False

    def changed(self, key: str, before: Json | None, after: Json | None) -> None:
        """Let pods on it, if it waited and need not any more."""
        _enqueue_startup(self._state, key)
        super().changed(key, before, after)
        if uid(before) != uid(after):
            self._state.node_states.refresh(key)


class Pods(Input[Pod]):
    """Only read: their annotations ask for Interfaces; of those they lack an event tells."""

    kind = PODS
    has_status = False

    def is_same(self, before: Json, after: Json) -> bool:
        """Whether neither the compiler nor the pod's Interfaces see a difference."""
        metadata = ("uid", "annotations", "ownerReferences")
        return all(
            part(before, "metadata").get(name) == part(after, "metadata").get(name)
            for name in metadata
        ) and all(before.get(name) == after.get(name) for name in ("spec", "status"))

    def listed(self, key: str, item: Json) -> None:
        """Desire its Interfaces."""
        if pods.is_annotated(item):
            self._state.pods.desire(key, item)
        _enqueue_startup(self._state, self._state.startup.observe(item, there=True))

    def changed(self, key: str, before: Json | None, after: Json | None) -> None:
        """It may be the node agent's, for which its node waits."""
        node = self._state.startup.observe(after or before or {}, there=bool(after))
        _enqueue_startup(self._state, node)
        super().changed(key, before, after)

    def _observe(self, key: str, item: Json | None) -> None:
        super()._observe(key, item)
        self._state.pods.desire(key, item)
        for interface in pods.interface_keys(item) if item and pods.is_plugged(item) else ():
            # Of one that runs without its device more is to be said.
            self._state.statuses.enqueue(INTERFACES, interface)


def _enqueue_startup(state: State, node: str) -> None:
    """Let pods on the node, if it waited for its agent and need not any more."""
    if state.startup.admission(state.cache.get(NODES, node)):
        state.queue.add(Work(NODES, node))
