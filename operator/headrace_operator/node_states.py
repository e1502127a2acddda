# SPDX-License-Identifier: Apache-2.0
"""NodeStates: what is wanted of each node, as compiled, and what its agent says of policies."""

from collections.abc import Iterable, Iterator

from headrace_api import Json
from headrace_api.raw import items, mapping, part, text
from headrace_compiler.core import put
from headrace_kube import NODE_STATES, NODES

from . import objects
from .cache import Cache
from .desired import Desired
from .functions import Functions
from .render import PolicyReport, policy_report
from .work import Work

_LABELS: Json = {"app.kubernetes.io/component": "node"}


class NodeStates:
    """Desires them, where there are agents that follow them. Not thread-safe."""

    def __init__(self, cache: Cache, desired: Desired, *, enabled: bool) -> None:
        """`enabled`: whether the chart's node agent runs; otherwise there are none."""
        self.enabled = enabled
        self._cache = cache
        self._desired = desired
        self._compiled: dict[str, Json] = {}
        self._functions = Functions()

    def load(self) -> None:
        """Take what an earlier operator has given, before any other call."""
        for _, item in self._cache.all(NODE_STATES):
            self._functions.load(item)

    def configure(self, config: str, item: Json | None) -> None:
        """Take a DataplaneConfig as compiled: who may have functions."""
        if node := self._functions.compiled(config, item):
            self.refresh(node)

    def claimed(self, config: str, item: Json | None) -> None:
        """Take a DataplaneConfig as it is: which functions its agent claims."""
        for node in sorted(self._functions.claimed(config, item)):
            self.refresh(node)

    def found(self, node: str, item: Json | None) -> None:
        """Take a NodeState as it is: which functions are where."""
        for each in sorted(self._functions.found(node, item)):
            self.refresh(each)

    def desire(self, node: str, item: Json | None) -> None:
        """Desire a node's so, as it is compiled; None: there is no such node."""
        if self.enabled:
            put(self._compiled, node, item)
            self.refresh(node)

    def refresh(self, node: str) -> None:
        """The node came, went, or is another of its name: with it goes what it owns."""
        work = Work(NODE_STATES, node)
        item, owner = self._compiled.get(node), self._cache.get(NODES, node)
        if item is not None and owner is not None:
            reference: Json = {"apiVersion": "v1", "kind": "Node"}
            reference |= {"name": node, "uid": objects.uid(owner)}
            metadata: Json = {**part(item, "metadata"), "labels": _LABELS}
            functions, waiting = self._functions.give(node)
            spec: Json = {
                **part(item, "spec"),
                **({"functions": [*functions]} if functions else {}),
            }
            self._desired.put_owned(work, {**item, "metadata": metadata, "spec": spec}, reference)
        elif self._desired.get(work) is not None:
            self._desired.put(work, None)
            waiting = self._functions.forget(node)
        else:
            return
        for each in sorted(waiting):
            self.refresh(each)

    def selected(self, policy: str) -> Iterator[Work]:
        """The desired NodeStates of the nodes that a DevicePolicy selects."""
        for node, item in self._compiled.items():
            if policy in policies_in(item):
                yield Work(NODE_STATES, node)

    def reports(self, policy: str) -> dict[str, PolicyReport]:
        """Node that a DevicePolicy selects -> what its agent says of the policy."""
        return {
            work.key: policy_report(
                policy,
                self._desired.get(work),
                self._cache.get(NODE_STATES, work.key),
                self._desired.failure(work)[0],
                unreachable=objects.is_unknown(self._cache.get(NODES, work.key)),
            )
            for work in self.selected(policy)
        }


def policies_in(state: Json | None) -> Iterable[str]:
    """The DevicePolicies that a NodeState names."""
    return {text(mapping(each).get("name")) for each in items(part(state, "spec").get("policies"))}
