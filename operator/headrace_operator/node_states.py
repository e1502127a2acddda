# SPDX-License-Identifier: Apache-2.0
"""NodeStates: what is wanted of each node, as compiled, and what its agent says of policies."""

from collections.abc import Iterable, Iterator

from headrace_api import Json
from headrace_api.raw import items, mapping, number, part, text
from headrace_compiler.core import put
from headrace_kube import INTERFACES, NODE_STATES, NODES

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
        self._functions = Functions(self._former)
        # Node -> Interface -> its grant there, and its endpoint's function.
        self._endpoints: dict[str, dict[str, tuple[int, Json]]] = {}

    def load(self) -> None:
        """Take what an earlier operator has given, before any other call."""
        for _, item in self._cache.all(NODE_STATES):
            self._functions.load(item)
            self.endpoints(text(part(item, "spec").get("nodeName")), item)

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

    def endpoints(self, node: str, item: Json | None) -> set[str]:
        """Take a NodeState as it is; returns the Interfaces whose endpoints' functions changed."""
        before = self._endpoints.get(node, {})
        now = {
            text(each.get("interface")): (number(each.get("grant")), part(each, "peer"))
            for each in map(mapping, items(part(item, "status").get("functions")))
            if "peer" in each
        }
        put(self._endpoints, node, now or None)
        return {key for key in before.keys() | now.keys() if before.get(key) != now.get(key)}

    def endpoint(self, node: str, interface: str, grant: int | None) -> Json | None:
        """The function of an Interface's endpoint; None: it has none there yet."""
        granted, found = self._endpoints.get(node, {}).get(interface, (None, None))
        return found if granted == grant else None

    def _former(self, interface: str) -> str:
        item = self._cache.get(INTERFACES, interface)
        return text(part(item, "status", "endpoint").get("pciAddress"))

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
