# SPDX-License-Identifier: Apache-2.0
"""The NodeStates: what DevicePolicies and Pipelines want of each node."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from headrace_api import Json, NodeDataplane, NodeState, PipelineSpec
from headrace_api.node_state import NODE_DATAPLANES, NODE_POLICIES
from headrace_api.pipeline import DEFAULT_CLASS
from headrace_api.raw import items, mapping, part, text

from .claims import Owner
from .core import Core, put
from .device_policy import DevicePolicies
from .inputs import Nodes
from .outcome import Fault, Subject
from .pipeline import DEFAULT_MTU, Pipelines

#: List of the spec, what tells its items apart, the kind that each is of, and most of them.
_LISTS = (
    ("policies", "name", DevicePolicies.name, NODE_POLICIES),
    ("dataplanes", "pipeline", Pipelines.name, NODE_DATAPLANES),
)


class NodeStates:
    """Writes what changed of them: one for each node."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._nodes = core.part(Nodes)
        self._pipelines = core.part(Pipelines)
        self._policies = core.part(DevicePolicies)
        self._states: dict[str, Json] = {}
        self._dirty: set[str] = set()
        # Pipeline and class of a node -> what it wants there, of this flush.
        self._dataplanes: dict[tuple[str, str], Json] = {}
        # Those that are as they were, by an unexpected exception.
        self._broken: set[str] = set()
        # Node -> what there is no room for.
        self._beyond: dict[str, set[Subject]] = {}
        # Node -> items of what cannot be read, as they were compiled before.
        self._carried: defaultdict[str, dict[Subject, Json]] = defaultdict(dict)
        core.watch(Nodes.name, lambda node: self._dirty.add(node))
        for kind in (Pipelines.name, DevicePolicies.name):
            core.watch(kind, lambda _: self._dirty.update(self._nodes.entries))

    def carry(self, states: Iterable[Json], unread: Callable[[Subject], bool]) -> None:
        """Take what raw NodeStates have of objects that cannot be read: it goes on as it is."""
        for state in states:
            spec = part(state, "spec")
            for name, key, kind, _ in _LISTS:
                for item in map(mapping, items(spec.get(name))):
                    subject = kind, text(item.get(key))
                    if unread(subject):
                        self._carried[text(spec.get("nodeName"))][subject] = item

    def snapshot(self) -> dict[str, Json]:
        """All by name, sorted."""
        return dict(sorted(self._states.items()))

    def write(self) -> None:
        """Write what changed since the last time."""
        dirty, self._dirty = self._dirty, set()
        self._dataplanes.clear()
        for node in sorted(dirty):
            try:
                item = self._state(node)
            except Exception as error:  # one node's fault must stop no other
                owner = Owner(Nodes.name, node)
                self._core.report(owner.subject, "", self._core.failures.add(owner, error))
                self._dirty.add(node)
                self._broken.add(node)
                continue
            if node in self._broken:
                self._broken.discard(node)
                self._core.report((Nodes.name, node), "", ())
            if self._states.get(node) != item:
                put(self._states, node, item)
                self._core.changes.node_states[node] = item

    def _state(self, node: str) -> Json | None:
        entry = self._nodes.entries.get(node)
        if entry is None:
            self._report(node, set())
            return None
        labels = entry.labels
        policies = {
            name: each.spec.wanted
            for name, each in self._policies.entries.items()
            if each.spec.node_selector and each.spec.node_selector.matches(labels)
        }
        dataplanes = {
            name: self._dataplane(name, each.spec, labels)
            for name, each in self._pipelines.entries.items()
            if each.spec.selects(labels)
        }
        spec: Json = {"nodeName": node}
        beyond: set[Subject] = set()
        for (name, _, kind, most), found in zip(_LISTS, (policies, dataplanes), strict=True):
            found |= self._as_compiled(node, kind)
            last = self._by_age(kind, found)[most:] if len(found) > most else ()
            beyond |= {(kind, key) for key in last}
            if found:
                spec[name] = [found[key] for key in sorted(found.keys() - last)]
        self._report(node, beyond)
        return {
            "apiVersion": NodeState.version(),
            "kind": NodeState.kind_name(),
            "metadata": {"name": node},
            "spec": spec,
        }

    def _as_compiled(self, node: str, kind: str) -> dict[str, Json]:
        """What the node has of objects of the kind that cannot be read."""
        return {
            subject[1]: item
            for subject, item in self._carried.get(node, {}).items()
            if subject[0] == kind and subject in self._core.unread
        }

    def _by_age(self, kind: str, keys: Iterable[str]) -> Sequence[str]:
        """Oldest first: where there is not room for all, the last that came are left out."""
        return [owner.key for owner in self._core.by_age(Owner(kind, key) for key in keys)]

    def _report(self, node: str, beyond: set[Subject]) -> None:
        message = (
            f"node {node} is selected by more than {NODE_POLICIES} of its kind, as many as a"
            " NodeState has: this one came later, and is left out there; narrow the nodeSelectors"
        )
        fault = Fault("spec.nodeSelector", "TooManyOnNode", message)
        for subject in beyond | self._beyond.pop(node, set()):
            faults = (fault,) if subject in beyond else ()
            self._core.report(subject, f"NodeState {node}", faults)
        if beyond:
            self._beyond[node] = beyond

    def _dataplane(self, name: str, pipeline: PipelineSpec, labels: Mapping[str, str]) -> Json:
        """What the Pipeline wants of a node with these labels."""
        node_class = pipeline.node_class(labels)
        key = name, node_class.value if node_class else DEFAULT_CLASS
        if key not in self._dataplanes:
            self._dataplanes[key] = _wanted(name, pipeline.sized(node_class))
        return self._dataplanes[key]


def _wanted(name: str, spec: PipelineSpec) -> Json:
    return NodeDataplane(
        pipeline=name,
        workers=spec.workers.count,
        share_control_core=spec.workers.share_control_core,
        hugepages=spec.hugepages,
        mtu=max((uplink.mtu for uplink in spec.uplinks), default=DEFAULT_MTU),
        resource_names=tuple(spec.functions()),
        vlans=tuple(sorted({vlan for each in spec.devices or () for vlan in each.vlans or ()})),
    ).to_dict()
