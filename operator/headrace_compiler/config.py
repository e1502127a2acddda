# SPDX-License-Identifier: Apache-2.0
"""The DataplaneConfigs: one of each Pipeline on each node."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from headrace_api import (
    DSCP_OF_NETWORKS,
    PIPELINE_LABEL,
    DataplaneConfig,
    Encapsulation,
    Json,
    PipelineSpec,
    SourceCheck,
    VirtualNetworkSpec,
    config_name,
    slice_name,
)
from headrace_api.dataplane_config import NODE_NETWORKS

from .addresses import node_address, subnet_ranges
from .carried import Carried
from .claims import Owner
from .core import Core, put
from .dirty import DirtyConfigs
from .interface import Interfaces
from .network import Networks
from .outcome import Fault
from .pipeline import Pipelines, tenant_mtu, uplink_attachment, uplink_function
from .routing import Routing
from .underlay_endpoint import Endpoints


class Configs:
    """Writes what changed of them."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._pipelines = core.part(Pipelines)
        self._networks = core.part(Networks)
        self._endpoints = core.part(Endpoints)
        self._interfaces = core.part(Interfaces)
        self._routing = core.part(Routing)
        self._carried = core.part(Carried)
        self._dirty = core.part(DirtyConfigs)
        self._configs: dict[Owner, Json] = {}
        # Pipeline on a node -> networks for which there is no room.
        self._beyond: dict[Owner, set[str]] = {}
        # Pipeline on a node -> networks whose entry there is as it was, by an unexpected exception.
        self._broken: dict[Owner, set[str]] = {}
        # Pipeline on a node -> networks with a DSCP of which its agent does not know.
        self._unmarked: dict[Owner, set[str]] = {}

    def snapshot(self) -> dict[str, Json]:
        """All by name, sorted by Pipeline and node."""
        return {
            config_name(owner.key, owner.node): self._configs[owner]
            for owner in sorted(self._configs)
        }

    def write(self) -> None:
        """Write what changed since the last time."""
        dirty = self._dirty.owners | self._where_present(self._dirty.networks)
        for owner in sorted(dirty):
            try:
                item = self._config(owner)
            except Exception as error:  # one node's fault must stop no other
                item = self._configs.get(owner)
                faults = self._core.failures.add(owner, error)
                self._core.report(owner.subject, owner.node, faults)
            if self._configs.get(owner) != item:
                put(self._configs, owner, item)
                self._core.changes.configs[config_name(owner.key, owner.node)] = item
        self._dirty.owners = {*self._broken}
        self._dirty.networks = set()

    def _where_present(self, networks: Iterable[str]) -> set[Owner]:
        """Where these networks are, and those that lead to them."""
        present = self._interfaces.present
        reaching = {name for key in networks for name in self._routing.reaching(key)}
        return {
            owner for name in reaching if name in present for owner, n in present[name].items() if n
        }

    def _config(self, owner: Owner) -> Json | None:
        prefix = self._pipelines.ready.get(owner)
        if prefix is None or owner not in self._pipelines.running:
            self._present(owner, ())
            self._break(owner, {})
            self._leave_unmarked(owner, ())
            return self._configs.get(owner) if prefix else None
        spec = self._pipelines.sized(owner)
        members = self._by_age(Interfaces.name, self._interfaces.members[owner])
        networks = self._entries(owner, self._present(owner, members), spec)
        compiled = [self._interfaces.accepted[key].compiled for key in members]
        return _dataplane_config(owner, spec, prefix, networks, compiled, self._core.namespace)

    def _present(self, owner: Owner, members: Iterable[str]) -> list[str]:
        """The networks present there: those of its Interfaces, then those that these lead to."""
        own = {self._interfaces.accepted[key].network for key in members}
        peers = self._routing.reached(own) - own
        found = [*self._by_age(Networks.name, own), *self._by_age(Networks.name, peers)]
        beyond = {*found[NODE_NETWORKS:]}
        place = f"{owner.key} on {owner.node}"
        message = (
            f"{place} there are {NODE_NETWORKS} networks already, as many as an"
            " engine takes: lead to fewer networks from those that have Interfaces there"
        )
        fault = Fault("", "NodeFull", message)
        for key in beyond | self._beyond.pop(owner, set()):
            faults = (fault,) if key in beyond else ()
            self._core.report((Networks.name, key), f"on {place}", faults)
        if beyond:
            self._beyond[owner] = beyond
        return found[:NODE_NETWORKS]

    def _by_age(self, kind: str, keys: Iterable[str]) -> list[str]:
        """Oldest first: where an engine has not room for all, the last that came are left out."""
        return [owner.key for owner in self._core.by_age(Owner(kind, key) for key in keys)]

    def _entries(self, owner: Owner, keys: Iterable[str], spec: PipelineSpec) -> list[Json]:
        """The networks as a node has them; as it had them, where this flush fails with one."""
        entries = []
        broken: dict[str, tuple[Fault, ...]] = {}
        for key in keys:
            try:
                entries.append(self._entry(owner, key, spec))
            except Exception as error:  # one object's fault must stop no other
                broken[key] = self._core.failures.add(Owner(Networks.name, key), error)
                entries += _networks_of(self._configs.get(owner), key)
        self._break(owner, broken)
        self._leave_unmarked(owner, keys)
        return entries

    def _leave_unmarked(self, owner: Owner, keys: Iterable[str]) -> None:
        """Say of which networks the node cannot have the DSCP."""
        unmarked = {key for key in keys if self._is_unmarked(owner, key)}
        message = (
            f"the dataplane of Pipeline {owner.key} on node {owner.node} is of a release that knows"
            " no dscp, and sends without: have its pod replaced"
        )
        fault = Fault("spec.dscp", "AgentTooOld", message)
        for key in unmarked | self._unmarked.pop(owner, set()):
            where = f"dscp on {owner.key} on {owner.node}"
            self._core.report((Networks.name, key), where, (fault,) if key in unmarked else ())
        if unmarked:
            self._unmarked[owner] = unmarked

    def _is_unmarked(self, owner: Owner, key: str) -> bool:
        spec = self._networks.spec(key)
        return (
            owner in self._pipelines.unaware[DSCP_OF_NETWORKS]
            and spec is not None
            and spec.dscp is not None
        )

    def _break(self, owner: Owner, broken: Mapping[str, tuple[Fault, ...]]) -> None:
        """Note the networks whose entry there is as it was."""
        for key in broken.keys() | self._broken.pop(owner, set()):
            where = f"entry on {owner.key} on {owner.node}"
            self._core.report((Networks.name, key), where, broken.get(key, ()))
        if broken:
            self._broken[owner] = {*broken}

    def _entry(self, owner: Owner, key: str, pipeline: PipelineSpec) -> Json:
        """The network as a node has it."""
        spec = self._networks.spec(key)
        if spec is None:
            entries = self._carried.networks[key]
            return entries.get(owner) or next(iter(entries.values()))
        entry = compiled_network(
            key,
            spec,
            self._networks.ready[key],
            self._routing.numbers(key),
            pipeline,
            self._endpoints.encapsulations(key),
        )
        if self._is_unmarked(owner, key):
            del entry["dscp"]
        return entry


def compiled_network(
    key: str,
    spec: VirtualNetworkSpec,
    vni: int,
    slices: Iterable[int],
    pipeline: PipelineSpec,
    endpoints: Mapping[str, Encapsulation],
) -> Json:
    """A network that is present on the node."""
    namespace, _, name = key.partition("/")
    item: Json = {
        "namespace": namespace,
        "name": name,
        "vni": vni,
        # A peer network with a larger mtu has no Interface here: its mtu is not used.
        "mtu": min(spec.mtu or tenant_mtu(pipeline), tenant_mtu(pipeline)),
        "gateways": [subnet.gateway for subnet in subnet_ranges(spec)],
        "subnets": [subnet.prefix for subnet in subnet_ranges(spec)],
        "routeSlices": [slice_name(key, number) for number in slices],
    }
    plain = [address for address, how in endpoints.items() if how.vni is None]
    if plain:
        item["endpoints"] = [*plain]
    vxlan: list[Json] = [
        {"address": address, "vni": how.vni, "macAddress": how.mac_address}
        for address, how in endpoints.items()
        if how.vni is not None
    ]
    if vxlan:
        item["vxlanEndpoints"] = [*vxlan]
    if spec.dscp is not None:
        item["dscp"] = spec.dscp
    return item


def _dataplane_config(
    owner: Owner,
    spec: PipelineSpec,
    underlay_prefix: str,
    networks: Sequence[Json],
    interfaces: Sequence[Json],
    namespace: str,
) -> Json:
    """The object; networks and interfaces come by age."""
    pipeline, node = owner.key, owner.node
    own = node_address(underlay_prefix)
    body: Json = {
        "pipelineName": pipeline,
        "nodeName": node,
        "workers": spec.workers.to_dict(),
        "underlayPrefix": underlay_prefix,
        "underlayAddress": own,
        "pipelinePrefixes": [*spec.underlay_prefixes],
        "underlaySourceCheck": SourceCheck.ENABLED.value,
        "uplinks": [*_uplinks(spec, node, own)],
        "networks": [*networks],
        "interfaces": [*interfaces],
    }
    waiting = spec.limits.waiting_packets_per_namespace
    if waiting is not None:
        body["waitingPacketsPerNamespace"] = waiting
    if spec.hugepages:
        body["hugepages"] = spec.hugepages.to_dict()
    return {
        "apiVersion": DataplaneConfig.version(),
        "kind": DataplaneConfig.kind_name(),
        "metadata": {
            "name": config_name(pipeline, node),
            "namespace": namespace,
            "labels": {PIPELINE_LABEL: pipeline},
        },
        "spec": body,
    }


def place_of(config: Json) -> tuple[str, str]:
    """Pipeline and node of a DataplaneConfig as it is made here."""
    spec = cast(dict[str, Any], config["spec"])
    return spec["pipelineName"], spec["nodeName"]


def _networks_of(config: Json | None, key: str) -> list[Json]:
    """What a DataplaneConfig, as it is made here, has of a network: one entry, or none."""
    spec = cast(dict[str, Any], config["spec"]) if config else {}
    return [
        entry
        for entry in spec.get("networks", ())
        if f"{entry['namespace']}/{entry['name']}" == key
    ]


def _uplinks(spec: PipelineSpec, node: str, own: str) -> list[Json]:
    uplinks: list[Json] = []
    for index, uplink in enumerate(spec.uplinks):
        on_link = uplink.on_link_prefixes
        if on_link is None:
            on_link = () if uplink.gateway else spec.underlay_prefixes
        item: Json = {
            "name": uplink.name,
            "attachment": uplink_attachment(uplink, node).to_dict(),
            "mtu": uplink.mtu,
            "addresses": [own],
            "onLinkPrefixes": list(on_link),
        }
        if (function := uplink_function(spec, index, node)) is not None:
            item["function"] = function
        if uplink.gateway:
            item["gateway"] = uplink.gateway
        if uplink.neighbors:
            item["neighbors"] = [neighbor.to_dict() for neighbor in uplink.neighbors]
        if uplink.weight != 1:
            item["weight"] = uplink.weight
        uplinks.append(item)
    return uplinks
