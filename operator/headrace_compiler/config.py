# SPDX-License-Identifier: Apache-2.0
"""The DataplaneConfig of a Pipeline on a node."""

from collections.abc import Iterable, Sequence
from typing import Any, cast

from headrace_api import (
    API_VERSION,
    PIPELINE_LABEL,
    Json,
    PipelineSpec,
    SourceCheck,
    VirtualNetworkSpec,
    config_name,
    slice_name,
)

from .addresses import node_address, subnet_ranges
from .nodes import pn_parts, tenant_mtu, uplink_attachment


def compiled_network(
    key: str,
    spec: VirtualNetworkSpec,
    vni: int,
    slices: Iterable[int],
    pipeline: PipelineSpec,
    endpoints: Sequence[str],
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
    if endpoints:
        item["endpoints"] = [*endpoints]
    return item


def dataplane_config(
    pn: str,
    spec: PipelineSpec,
    underlay_prefix: str,
    networks: Sequence[Json],
    interfaces: Sequence[Json],
    namespace: str,
    *,
    several: bool,
) -> Json:
    """The object; networks and interfaces come by age.

    `several`: whether the node's agent understands several prefixes.
    """
    pipeline, node = pn_parts(pn)
    own = node_address(underlay_prefix)
    body: Json = {
        "pipelineName": pipeline,
        "nodeName": node,
        "workers": spec.workers.to_dict(),
        "underlayPrefix": underlay_prefix,
        "underlayAddress": own,
        "underlaySourceCheck": SourceCheck.ENABLED.value,
        "uplinks": [*_uplinks(spec, node, own)],
        "networks": [*networks],
        "interfaces": [*interfaces],
    }
    if several:
        body["pipelinePrefixes"] = [*spec.underlay_prefixes]
    else:
        body["pipelinePrefix"] = spec.underlay_prefixes[0]
    waiting = spec.limits.waiting_packets_per_namespace
    if waiting is not None:
        body["waitingPacketsPerNamespace"] = waiting
    if spec.hugepages:
        body["hugepages"] = spec.hugepages.to_dict()
    return {
        "apiVersion": API_VERSION,
        "kind": "DataplaneConfig",
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


def networks_of(config: Json | None, key: str) -> list[Json]:
    """What a DataplaneConfig, as it is made here, has of a network: one entry, or none."""
    spec = cast(dict[str, Any], config["spec"]) if config else {}
    return [
        entry
        for entry in spec.get("networks", ())
        if f"{entry['namespace']}/{entry['name']}" == key
    ]


def _uplinks(spec: PipelineSpec, node: str, own: str) -> list[Json]:
    uplinks: list[Json] = []
    for uplink in spec.uplinks:
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
        if uplink.gateway:
            item["gateway"] = uplink.gateway
        if uplink.neighbors:
            item["neighbors"] = [neighbor.to_dict() for neighbor in uplink.neighbors]
        uplinks.append(item)
    return uplinks
