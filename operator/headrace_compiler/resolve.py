# SPDX-License-Identifier: Apache-2.0
"""A network's own routes, resolved to next hops."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from headrace_api import VirtualNetworkSpec

from .core import sibling
from .outcome import Fault


class Hop(NamedTuple):
    """A next hop: an underlay address, or (with a slash) the key of a network."""

    target: str
    weight: int


#: Next hops; none is a blackhole.
Hops = tuple[Hop, ...]


class ResolvedRoutes(NamedTuple):
    """The network's own routes."""

    hops: dict[str, Hops]
    """Prefix -> next hops. A route none of whose next hops is there drops: what it would catch
    must not leak into a shorter one."""
    peers: frozenset[str]
    """Networks that they lead to."""
    faults: tuple[Fault, ...]


class Endpoint(NamedTuple):
    """Where an accepted Interface is."""

    network: str
    underlay: str


def references(key: str, spec: VirtualNetworkSpec) -> tuple[frozenset[str], frozenset[str]]:
    """Keys of the Interfaces and of the networks that the routes name."""
    interfaces: set[str] = set()
    networks: set[str] = set()
    for route in spec.routes:
        for hop in route.next_hops or ():
            if hop.interface_ref:
                interfaces.add(sibling(key, hop.interface_ref.name))
            elif hop.network_ref:
                networks.add(sibling(key, hop.network_ref.name))
    return frozenset(interfaces), frozenset(networks)


def resolve_routes(
    key: str,
    spec: VirtualNetworkSpec,
    endpoint: Callable[[str], Endpoint | None],
    ready: Callable[[str], bool],
    admitted: Mapping[str, str],
) -> ResolvedRoutes:
    """Resolve the references of the network's routes.

    `endpoint` gives an accepted Interface, `ready` says whether a network is accepted; `admitted`
    has the addresses of the UnderlayEndpoints that the network may use.
    """
    hops: dict[str, Hops] = {}
    peers: set[str] = set()
    faults: list[Fault] = []
    for index, route in enumerate(spec.routes):
        found: list[Hop] = []
        for position, hop in enumerate(route.next_hops or ()):
            field = f"spec.routes[{index}].nextHops[{position}]"
            if hop.endpoint_ref:
                name = hop.endpoint_ref.name
                if name in admitted:
                    found.append(Hop(admitted[name], hop.weight))
                    continue
                message = (
                    f"no UnderlayEndpoint {name} admits the network: an administrator makes it, and"
                    " says in its selectors who may use it; the next hop is left out"
                )
                faults.append(Fault(f"{field}.endpointRef.name", "EndpointNotFound", message))
            elif hop.interface_ref:
                there = endpoint(sibling(key, hop.interface_ref.name))
                if there and there.network == key:
                    found.append(Hop(there.underlay, hop.weight))
                    continue
                name = hop.interface_ref.name
                message = (
                    f"Interface {name} is in {there.network}: route there with networkRef"
                    if there
                    else f"Interface {name} is missing or not ready: the next hop is left out"
                )
                faults.append(Fault(f"{field}.interfaceRef.name", "InterfaceNotFound", message))
            elif hop.network_ref:
                peer = sibling(key, hop.network_ref.name)
                if ready(peer):
                    found.append(Hop(peer, hop.weight))
                    peers.add(peer)
                    continue
                message = (
                    f"VirtualNetwork {hop.network_ref.name} does not exist or is not ready:"
                    " the next hop is left out"
                )
                faults.append(Fault(f"{field}.networkRef.name", "NetworkNotFound", message))
        hops[route.prefix] = tuple(found)
    return ResolvedRoutes(hops, frozenset(peers), tuple(faults))
