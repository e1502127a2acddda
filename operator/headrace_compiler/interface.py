# SPDX-License-Identifier: Apache-2.0
"""An Interface: what it names, what it has, where it is present, and what it announces."""

from collections import Counter, defaultdict
from collections.abc import Collection
from dataclasses import replace

from headrace_api import (
    SOCKETS_DIRECTORY,
    VLANS_OF_FUNCTIONS,
    Interface,
    InterfaceSpec,
    Object,
    socket_directory,
    with_socket,
)

from .accepted import Accepted, Context, accept
from .addresses import host_prefix
from .allocations import InterfaceAllocation
from .carried import Carried
from .claims import Owner
from .core import Core, Entry, Kind, Step, namespace_of, put, record, sibling
from .devices import endpoint_of, not_allowed
from .dirty import DirtyConfigs
from .functions import Functions
from .inputs import Namespaces, Nodes, Place, Pods
from .interface_claims import claim_any, claim_given, install, keep, network_key, route_count
from .network import Networks
from .outcome import Fault
from .pipeline import Pipelines, uplink_devices
from .quota import Quota
from .resolve import Endpoint
from .routing import Routing
from .vlans import Vlans


class Interfaces(Kind[InterfaceSpec]):
    """Interfaces; the spec of one has the path of its socket, and as nodeName its pod's node."""

    name = "Interface"

    def __init__(self, core: Core) -> None:
        super().__init__(core)
        self._nodes = core.part(Nodes)
        self._namespaces = core.part(Namespaces)
        self._pods = core.part(Pods)
        self._pipelines = core.part(Pipelines)
        self._networks = core.part(Networks)
        self._routing = core.part(Routing)
        self._quota = core.part(Quota)
        self._functions = core.part(Functions)
        self._vlans = core.part(Vlans)
        self._carried = core.part(Carried)
        self._dirty_configs = core.part(DirtyConfigs)
        self.held: dict[str, InterfaceAllocation] = {}
        """What each has, accepted or not."""
        self.accepted: dict[str, Accepted] = {}
        self.members: defaultdict[Owner, set[str]] = defaultdict(set)
        """Pipeline on a node -> those accepted there."""
        self.present: defaultdict[str, Counter[Owner]] = defaultdict(Counter)
        """Network -> Pipeline on a node -> how many of it are accepted there."""
        # What an accepted one has, and what one is to have, between two steps.
        self._had: dict[str, InterfaceAllocation] = {}
        self._contexts: dict[str, Context] = {}
        core.watch(Pods.name, self._pod_changed)

    # Input

    def read(self, item: Object) -> Entry[InterfaceSpec]:
        """All of an Interface that matters, with the path of its socket."""
        if not isinstance(item, Interface):
            raise TypeError(f"{item.kind} is no Interface")
        spec, metadata = item.spec, item.metadata
        directory = socket_directory(item.key, self.core.sockets or SOCKETS_DIRECTORY)
        attachment = with_socket(spec.attachment, directory)
        if attachment is not spec.attachment:
            spec = spec.model_copy(update={"attachment": attachment})
        return Entry(metadata.creation_timestamp, spec, metadata.uid)

    def references(self, key: str, entry: Entry[InterfaceSpec]) -> Collection[Owner]:
        """Network, Pipeline, node, namespace, pod."""
        spec = entry.spec
        found = [
            Owner(Networks.name, network_key(key, spec)),
            Owner(Pipelines.name, spec.pipeline_ref.name),
            Owner(Namespaces.name, namespace_of(key)),
        ]
        if spec.node_name:
            found.append(Owner(Nodes.name, spec.node_name))
            found.append(Owner(Pipelines.name, spec.pipeline_ref.name, spec.node_name))
        if spec.attachment.pod_name:
            found.append(Owner(Pods.name, sibling(key, spec.attachment.pod_name)))
        return found

    def put(self, key: str, entry: Entry[InterfaceSpec] | None) -> None:
        """Put the Interface where its pod is, or remove it (None)."""
        if entry and (name := entry.spec.attachment.pod_name):
            pod = self._pods.spec(sibling(key, name))
            node = pod.node if pod and not pod.completed else None
            entry = replace(entry, spec=entry.spec.model_copy(update={"node_name": node}))
        super().put(key, entry)

    def _pod_changed(self, key: str) -> None:
        for owner in tuple(self.core.referring(Owner(Pods.name, key))):
            self.put(owner.key, self.entries[owner.key])

    def install(self, key: str, held: InterfaceAllocation) -> None:
        """Take what a record of an earlier run says."""
        owner = Owner(self.name, key)
        self.held[key] = held
        install(self.core.claims, self._vlans, owner, held)
        self.core.mark([owner])

    # What it holds

    def holds(self, owner: Owner) -> bool:
        """Whether it has anything."""
        return owner.key in self.held

    def keep(self, owner: Owner) -> None:
        """Keep what is still wanted."""
        held, spec = self.held[owner.key], self.spec(owner.key)
        prefix = pools = None
        endpoint = held.endpoint
        if spec and (pipeline := self._pipelines.spec(spec.pipeline_ref.name)):
            pools = pipeline.pools()
            endpoint = endpoint_of(spec, pipeline, self._namespaces.labels_of(owner.key))
        if spec and spec.node_name:
            there = self._pipelines.held.get(_served_by(spec))
            prefix = there.underlay_prefix if there else None
        kept, woken = keep(
            self.core.claims,
            self._vlans,
            owner,
            held,
            spec,
            self._networks.spec(held.network),
            prefix,
            pools,
            endpoint,
            may_have_device=spec is not None and self._may_have_device(owner.key, spec, held),
        )
        self._record(owner, kept)
        self.core.wake(woken)

    def _may_have_device(self, key: str, spec: InterfaceSpec, held: InterfaceAllocation) -> bool:
        """Whether it may have what it has; a Pipeline that is gone for now takes nothing."""
        pipeline = self._pipelines.spec(spec.pipeline_ref.name)
        if pipeline is None or held.node is None or not (held.device or held.function or held.vlan):
            return True
        labels = self._namespaces.labels_of(key)
        return (
            # Without its uplinks neither would run.
            held.device not in uplink_devices(pipeline, held.node)
            and pipeline.admits(labels)
            and not not_allowed(namespace_of(key), spec, pipeline, labels)
        )

    def prepare(self, owners: Collection[Owner]) -> None:
        """Count the routes that each had in an earlier run, before any that is new."""
        for owner in owners:
            spec, held = self.spec(owner.key), self.held.get(owner.key)
            if spec is None or held is None or held.underlay_address is None:
                continue
            routes = (*map(host_prefix, held.addresses), *spec.prefixes)
            if self._routing.had(held.network, routes):
                self._quota.hold(owner, len(routes))

    @property
    def steps(self) -> tuple[Step, ...]:
        """All that users gave is taken, then what they left open."""
        return (self._claim_given, self._claim_any)

    def _claim_given(self, owner: Owner) -> tuple[Fault, ...]:
        spec = self.spec(owner.key)
        if spec is None:
            return ()
        found = self._refer(owner.key, spec)
        if isinstance(found, Fault):
            return (found,)
        wanted = route_count(spec, found.network_spec)
        faults = self._too_many_routes(owner, spec, found, wanted) or claim_given(
            self.core.claims, self._vlans, owner, spec, found, self.core.sockets
        )
        if not faults:
            self.core.wake(self._quota.hold(owner, wanted))
            self._contexts[owner.key] = found
        return faults

    def _claim_any(self, owner: Owner) -> tuple[Fault, ...]:
        context = self._contexts.pop(owner.key, None)
        if context is None:
            return ()
        entry = self.entries[owner.key]
        found, faults = claim_any(
            self.core.claims,
            owner,
            entry.spec,
            entry.uid,
            context,
            self.held.get(owner.key),
            self._functions,
            self._vlans,
        )
        self._record(owner, found)
        if not faults:
            now = accept(owner.key, entry.spec, context, found, entry.created)
            self._had[owner.key] = found
            self._accept(owner.key, now)
        return faults

    def _too_many_routes(
        self, owner: Owner, spec: InterfaceSpec, context: Context, wanted: int
    ) -> tuple[Fault, ...]:
        limit = context.pipeline.limits.routes_per_namespace
        if wanted <= self._quota.room(owner, limit):
            return ()
        self._quota.wait(owner)
        message = (
            f"namespace {namespace_of(owner.key)} has too many routes for the {wanted} that this"
            f" Interface would add: Pipeline {spec.pipeline_ref.name} takes {limit}: delete some,"
            " or have its spec.limits.routesPerNamespace raised"
        )
        return (Fault("spec.prefixes" if spec.prefixes else "", "RouteLimitExceeded", message),)

    def _refer(self, key: str, spec: InterfaceSpec) -> Context | Fault:
        """Resolve what the Interface names."""
        network = network_key(key, spec)
        network_spec = self._networks.spec(network)
        if network_spec is None and network in self._networks.ready:
            message = (
                f"VirtualNetwork {network} is not ready: what it was goes on; see its conditions"
            )
            return Fault("spec.networkRef.name", "NetworkNotReady", message)
        if network_spec is None:
            message = f"VirtualNetwork {network} does not exist: create it"
            return Fault("spec.networkRef.name", "NetworkNotFound", message)
        vni = self._networks.ready.get(network)
        if vni is None:
            message = f"VirtualNetwork {network} is not ready: see its conditions"
            return Fault("spec.networkRef.name", "NetworkNotReady", message)
        name, node = spec.pipeline_ref.name, spec.node_name
        pipeline = self._pipelines.spec(name)
        if pipeline is None:
            message = f"Pipeline {name} does not exist: create it"
            return Fault("spec.pipelineRef.name", "PipelineNotFound", message)
        labels = self._namespaces.labels_of(key)
        if not pipeline.admits(labels):
            message = (
                f"Pipeline {name} does not allow namespace {namespace_of(key)}: name another, or"
                " have the Pipeline's spec.allowedNamespaces select it"
            )
            return Fault("spec.pipelineRef.name", "NamespaceNotAllowed", message)
        if node is None:
            key_of_pod = sibling(key, spec.attachment.pod_name or "")
            field = "pod.name" if spec.attachment.pod else "sriov.endpoint.pod.name"
            return _nowhere(self._pods.spec(key_of_pod), key_of_pod, f"spec.attachment.{field}")
        if node not in self._nodes.entries:
            return Fault("spec.nodeName", "NodeNotFound", f"node {node} does not exist")
        if not self._pipelines.selects(name, node):
            message = f"Pipeline {name} does not select node {node}: see its nodeSelector"
            return Fault("spec.nodeName", "NodeNotSelected", message)
        served_by = _served_by(spec)
        prefix = self._pipelines.ready.get(served_by)
        if prefix is None:
            message = f"Pipeline {name} does not run on node {node}: see its conditions"
            return Fault("spec.pipelineRef.name", "PipelineNotReady", message)
        resource = spec.attachment.resource_name
        unaware = served_by in self._pipelines.unaware[VLANS_OF_FUNCTIONS]
        if unaware and resource and pipeline.in_vlans(resource):
            # Who has said nothing yet is either of this release, or knows no numbers of functions.
            message = (
                f"the dataplane of Pipeline {name} on node {node} is of a release that knows no"
                " VLANs, and would use the function outside of its own: have its pod replaced"
            )
            return Fault("spec.attachment.sriov", "AgentTooOld", message)
        return Context(network, network_spec, vni, node, served_by, pipeline, prefix, labels)

    # What comes of it

    def settle(self, owner: Owner, faults: tuple[Fault, ...]) -> None:
        """Have it forward, or not; what cannot be read or failed goes on where it can."""
        key = owner.key
        self.core.report(owner.subject, "", faults)
        if faults or key not in self.entries:
            self._accept(key, self._as_compiled(key) or self._as_before(owner))
        if key not in self.held:
            self.core.wake(self._quota.shrink(owner, 0))

    def finish(self) -> None:
        """Have those that cannot be read go on as they were compiled, where that can be."""
        for key in self._carried.interfaces:
            if (self.name, key) in self.core.unread:
                self._accept(key, self._as_compiled(key))

    def _as_compiled(self, key: str) -> Accepted | None:
        """What the Interface was, if that goes on."""
        found = self._carried.interfaces.get(key)
        held = self.held.get(key)
        if found is None or self._networks.ready.get(found.network) != found.compiled["vni"]:
            return None
        if held is None or held.underlay_address != found.underlay:
            return None
        unread = self.core.unread
        if found.served_by.subject not in unread:
            if found.served_by not in self._pipelines.ready:
                return None
            if not {(self.name, key), (Networks.name, found.network)} & unread:
                return None
        if (self.name, key) in unread:
            return found
        spec = self.spec(key)
        there = spec and (network_key(key, spec), _served_by(spec))
        return found if there == (found.network, found.served_by) else None

    def _as_before(self, owner: Owner) -> Accepted | None:
        """What the Interface was before this flush failed with it, if that can go on."""
        found, had = self.accepted.get(owner.key), self._had.get(owner.key)
        if found is None or had is None or owner not in self.core.failures:
            return None
        if owner.key not in self.entries or found.served_by not in self._pipelines.ready:
            return None
        if self._networks.ready.get(found.network) != found.compiled["vni"]:
            return None
        if not install(self.core.claims, self._vlans, owner, had):
            return None
        self._record(owner, had)
        return found

    def endpoint(self, key: str) -> Endpoint | None:
        """Where it is, if it is accepted."""
        accepted = self.accepted.get(key)
        return Endpoint(accepted.network, accepted.underlay) if accepted else None

    def count(self, network: str) -> int:
        """How many of the network are accepted."""
        return self.present[network].total() if network in self.present else 0

    def _accept(self, key: str, accepted: Accepted | None) -> None:
        old = self.accepted.get(key)
        if old == accepted:
            return
        if old:
            self.members[old.served_by].discard(key)
            self.present[old.network][old.served_by] -= 1
            self._dirty_configs.owners.add(old.served_by)
        if accepted:
            self.members[accepted.served_by].add(key)
            self.present[accepted.network][accepted.served_by] += 1
            self._dirty_configs.owners.add(accepted.served_by)
        else:
            self._had.pop(key, None)
        put(self.accepted, key, accepted)
        self._routing.interface_changed(key, old, accepted)

    def _record(self, owner: Owner, held: InterfaceAllocation | None) -> None:
        record(self.held, owner.key, held, self.core.changes.interfaces, owner.key)


def _nowhere(pod: Place | None, key: str, field: str) -> Fault:
    """Why a pod is on no node."""
    if pod is None:
        message = f"pod {key} does not exist: create it; without a cluster use another type"
        return Fault(field, "PodNotFound", message)
    if pod.completed:
        message = f"pod {key} has completed: delete the Interface, or run the pod again"
        return Fault(field, "PodCompleted", message)
    return Fault(field, "PodNotScheduled", f"pod {key} has no node yet: see its events")


def _served_by(spec: InterfaceSpec) -> Owner:
    return Owner(Pipelines.name, spec.pipeline_ref.name, spec.node_name or "")
