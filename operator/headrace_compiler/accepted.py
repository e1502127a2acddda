# SPDX-License-Identifier: Apache-2.0
"""An accepted Interface: its part of a DataplaneConfig, and the routes that it announces."""

from collections.abc import Mapping
from dataclasses import dataclass

from headrace_api import InterfaceSpec, Json, PipelineSpec, VirtualNetworkSpec, pod_mac
from headrace_api.dataplane_config import INTERFACE_GATEWAYS

from .addresses import address_number, host_prefix, subnet_ranges
from .allocations import InterfaceAllocation
from .claims import Owner
from .pipeline import tenant_mtu
from .resolve import Hop, Hops


@dataclass(frozen=True, slots=True)
class Context:
    """What an Interface refers to, once all of it is accepted."""

    network: str
    network_spec: VirtualNetworkSpec
    vni: int
    node: str
    served_by: Owner
    """The Pipeline on the node."""
    pipeline: PipelineSpec
    underlay_prefix: str
    labels: Mapping[str, str]
    """Of the Interface's namespace."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """An Interface that forwards."""

    network: str
    served_by: Owner
    """The Pipeline on the node."""
    underlay: str
    compiled: Json
    """Its part of the DataplaneConfig."""
    addresses: dict[str, Hops]
    prefixes: dict[str, Hops]
    """Routes that it announces."""
    created: str = ""
    """Creation time of the Interface."""


def accept(
    key: str,
    spec: InterfaceSpec,
    context: Context,
    record: InterfaceAllocation,
    created: str = "",
) -> Accepted:
    """The compiled Interface; the record is complete, `created` its creation time."""
    underlay = record.underlay_address or ""
    namespace, _, name = key.partition("/")
    compiled: Json = {
        "namespace": namespace,
        "name": name,
        "network": context.network,
        "vni": context.vni,
        "attachment": spec.attachment.to_dict(),
        "addresses": list(record.addresses),
        "prefixes": list(spec.prefixes),
        "gateways": [*_gateways(context.network_spec, record.addresses)],
        "underlayAddress": underlay,
        "sourceCheck": spec.source_check.value,
        "mtu": spec.mtu or context.network_spec.mtu or tenant_mtu(context.pipeline),
    }
    mac = spec.mac_address or (pod_mac(key) if spec.attachment.pod else None)
    if mac:
        compiled["macAddress"] = mac
    if record.function:
        compiled["function"] = record.function.number
    if record.grant is not None:
        compiled["grant"] = record.grant
    if record.endpoint is not None:
        compiled["endpointVLANs"] = [*record.endpoint.vlans]
    if spec.queues:
        compiled["queues"] = spec.queues
    here = (Hop(underlay, 1),)
    return Accepted(
        network=context.network,
        served_by=context.served_by,
        underlay=underlay,
        compiled=compiled,
        addresses=dict.fromkeys(map(host_prefix, record.addresses), here),
        prefixes=dict.fromkeys(spec.prefixes, here),
        created=created,
    )


def _gateways(network: VirtualNetworkSpec, addresses: tuple[str, ...]) -> list[str]:
    """Gateways in the families of the addresses; those of its own subnets first in the choice."""
    families = {":" in address for address in addresses}
    numbers = [address_number(address) for address in addresses]
    subnets = [
        (not any(subnet.holds(number) for number in numbers), index, subnet.gateway)
        for index, subnet in enumerate(subnet_ranges(network))
        if (":" in subnet.gateway) in families
    ]
    chosen = sorted(subnets)[:INTERFACE_GATEWAYS]
    return [gateway for _, gateway in sorted((index, gateway) for _, index, gateway in chosen)]
