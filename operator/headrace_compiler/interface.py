# SPDX-License-Identifier: Apache-2.0
"""An Interface: its device, its tenant addresses and its underlay address."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from headrace_api import (
    SOCKET_BYTES,
    SOCKETS_DIRECTORY,
    Attachment,
    InterfaceSpec,
    Json,
    PipelineSpec,
    VirtualNetworkSpec,
    pod_device,
    pod_mac,
    socket_directory,
    with_socket,
)
from headrace_api.attachment import MEMBERS
from headrace_api.dataplane_config import INTERFACE_GATEWAYS, NODE_INTERFACES

from .addresses import (
    SubnetRange,
    address_number,
    host_part,
    host_prefix,
    host_vni,
    identity,
    node_number,
    number_address,
    subnet_ranges,
    underlay_address,
    underlay_host,
)
from .allocations import InterfaceAllocation
from .claims import Claims, Owner, Space
from .devices import not_allowed
from .network import Hop, Hops
from .nodes import device_space, pn_key, tenant_mtu, unsupported, uplink_devices
from .outcome import Fault, taken
from .store import Store, namespace_of, network_key, sibling


class Usage(NamedTuple):
    """How full a network is."""

    interfaces: int
    """How many are accepted."""
    free: int
    """Free addresses of the subnet that has the fewest."""


def address_space(network: str) -> Space:
    """Tenant addresses of a network."""
    return Space("address", network)


def underlay_space(pn: str) -> Space:
    """Host parts of the /64 of a Pipeline on a node."""
    return Space("underlay", pn)


def usage(claims: Claims, key: str, spec: VirtualNetworkSpec, interfaces: int) -> Usage:
    """How full the network is, with so many Interfaces."""
    free = (
        subnet.last
        - subnet.first
        + 1
        - (subnet.first <= subnet.gateway_number <= subnet.last)
        - claims.within(address_space(key), subnet.first, subnet.last)
        for subnet in subnet_ranges(spec)
    )
    return Usage(interfaces, min(free))


def device_of(key: str, spec: InterfaceSpec) -> str | None:
    """What the Interface occupies on its node (Attachment.device)."""
    return spec.attachment.device(namespace_of(key))


def occupied(key: str, device: str) -> tuple[str, ...]:
    """All that an Interface with this device occupies: of a pod's also the node's end."""
    if device.startswith("pod:"):
        return device, f"netdev:{pod_device(key)}"
    return (device,)


def placed(key: str, spec: InterfaceSpec, sockets: str | None) -> InterfaceSpec:
    """The spec with the path of its socket (Compiler has `sockets`)."""
    attachment = with_socket(spec.attachment, socket_directory(key, sockets or SOCKETS_DIRECTORY))
    if attachment is spec.attachment:
        return spec
    return spec.model_copy(update={"attachment": attachment})


@dataclass(frozen=True, slots=True)
class Context:
    """What an Interface refers to, once all of it is accepted."""

    network: str
    network_spec: VirtualNetworkSpec
    vni: int
    node: str
    pn: str
    pipeline: PipelineSpec
    underlay_prefix: str
    labels: Mapping[str, str]
    """Of the Interface's namespace."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """An Interface that forwards."""

    network: str
    pn: str
    underlay: str
    compiled: Json
    """Its part of the DataplaneConfig."""
    addresses: dict[str, Hops]
    prefixes: dict[str, Hops]
    """Routes that it announces."""
    created: str = ""
    """Creation time of the Interface."""


def install(claims: Claims, key: str, record: InterfaceAllocation) -> bool:
    """Take what a record of an earlier run says; False when another holds some of it."""
    owner = Owner("ifc", key)
    there: list[tuple[Space, int | str]] = []
    if record.device and record.node:
        space = device_space(record.node)
        there += [(space, device) for device in occupied(key, record.device)]
    space = address_space(record.network)
    there += [(space, address_number(address)) for address in record.addresses]
    space = _underlay_space(record)
    if record.node and record.underlay_address:
        there.append((space, underlay_host(record.underlay_address)))
    return all([claims.take(space, value, owner) for space, value in there])


def _underlay_space(record: InterfaceAllocation) -> Space:
    return underlay_space(pn_key(record.pipeline, record.node or ""))


def keep(
    store: Store,
    claims: Claims,
    key: str,
    record: InterfaceAllocation,
    underlay_prefix: str | None,
) -> tuple[InterfaceAllocation | None, set[Owner]]:
    """What stays of the record, and who waited for what was released.

    `underlay_prefix` is what the Pipeline keeps on the node that the Interface names now.
    """
    owner = Owner("ifc", key)
    spec = store.interface(key)
    device = None
    addresses: tuple[str, ...] = ()
    had = record.underlay_address if record.node else None
    underlay = None
    if spec:
        if (
            record.node
            and spec.node_name == record.node
            and record.device == device_of(key, spec)
            and record.device
            and all(
                claims.holder(device_space(record.node), each) == owner
                for each in occupied(key, record.device)
            )
            and not _is_for_an_uplink(store, spec, record.device, record.node)
            and _may_have_it(store, key, spec)
        ):
            device = record.device
        if network_key(key, spec) == record.network:
            space = address_space(record.network)
            held = [
                address
                for address in record.addresses
                if claims.holder(space, address_number(address)) == owner
            ]
            addresses = _still_wanted(spec, store.network(record.network), held)
        if (
            had
            and underlay_prefix
            and (spec.pipeline_ref.name, spec.node_name) == (record.pipeline, record.node)
            and network_key(key, spec) == record.network
            and node_number(had) == node_number(underlay_prefix)
            and claims.holder(_underlay_space(record), underlay_host(had)) == owner
        ):
            underlay = had
    woken: set[Owner] = set()
    if record.node and record.device and not device:
        for each in occupied(key, record.device):
            woken |= claims.release(device_space(record.node), each, owner)
    for address in set(record.addresses) - set(addresses):
        woken |= claims.release(address_space(record.network), address_number(address), owner)
    if had and not underlay:
        woken |= claims.release(_underlay_space(record), underlay_host(had), owner)
    if not spec or not (device or addresses or underlay):
        return None, woken
    return (
        InterfaceAllocation(
            network=network_key(key, spec),
            pipeline=spec.pipeline_ref.name,
            node=spec.node_name,
            underlay_address=underlay,
            addresses=addresses,
            device=device,
        ),
        woken,
    )


def _is_for_an_uplink(store: Store, spec: InterfaceSpec, device: str, node: str) -> bool:
    """Whether the Interface's own Pipeline wants it: without its uplinks neither would run."""
    pipeline = store.pipeline(spec.pipeline_ref.name)
    return pipeline is not None and device in uplink_devices(pipeline, node)


def _may_have_it(store: Store, key: str, spec: InterfaceSpec) -> bool:
    """Whether the device may be the Interface's; a Pipeline that is gone for now takes nothing."""
    pipeline, labels = store.pipeline(spec.pipeline_ref.name), store.namespace_labels(key)
    return pipeline is None or (
        pipeline.admits(labels) and not not_allowed(namespace_of(key), spec, pipeline, labels)
    )


def _still_wanted(
    spec: InterfaceSpec, network: VirtualNetworkSpec | None, held: list[str]
) -> tuple[str, ...]:
    if network is None:
        # Gone for now: what it had is kept for when it comes back.
        return tuple(held)
    if spec.addresses:
        return tuple(address for address in held if address in spec.addresses)
    found = []
    for subnet in subnet_ranges(network):
        for address in held:
            if _usable(subnet, address_number(address)):
                found.append(address)
                break
    return tuple(found)


def _usable(subnet: SubnetRange, number: int) -> bool:
    return subnet.first <= number <= subnet.last and number != subnet.gateway_number


def route_count(spec: InterfaceSpec, network: VirtualNetworkSpec) -> int:
    """How many routes the Interface announces, once it has its addresses."""
    return (len(spec.addresses) or len(network.subnets)) + len(spec.prefixes)


def claim_given(
    claims: Claims, key: str, spec: InterfaceSpec, context: Context, sockets: str | None
) -> tuple[Fault, ...]:
    """Take the device and the addresses that the user gave: all of them, or none and say why."""
    owner = Owner("ifc", key)
    node = context.node
    faults = list(unsupported("spec.attachment", spec.attachment))
    if not faults:
        faults.extend(not_allowed(namespace_of(key), spec, context.pipeline, context.labels))
    # Who has a device that it may not name is none of its business.
    device = device_of(key, spec) if not faults else None
    faults.extend(_mtu_faults(spec, context))
    faults.extend(_socket_faults(key, spec.attachment, sockets))

    devices = occupied(key, device) if device else ()
    for each in devices:
        holder = claims.holder(device_space(node), each)
        if holder not in (None, owner):
            what = f"{each} on node {node}"
            faults.append(taken("spec.attachment", "DeviceConflict", what, holder))

    space = address_space(context.network)
    subnets = subnet_ranges(context.network_spec)
    numbers = [address_number(address) for address in spec.addresses]
    for index, number in enumerate(numbers):
        field, address = f"spec.addresses[{index}]", spec.addresses[index]
        subnet = next((subnet for subnet in subnets if subnet.holds(number)), None)
        holder = claims.holder(space, number)
        if subnet is None:
            known = ", ".join(subnet.prefix for subnet in subnets)
            message = f"{address} is in no subnet of network {context.network}: use one of {known}"
            faults.append(Fault(field, "AddressOutsideSubnets", message))
        elif number == subnet.gateway_number:
            message = f"{address} is the gateway of {subnet.prefix}: choose another"
            faults.append(Fault(field, "AddressIsGateway", message))
        elif not _usable(subnet, number):
            message = f"{address} is reserved in {subnet.prefix}: choose another"
            faults.append(Fault(field, "AddressReserved", message))
        elif holder not in (None, owner):
            faults.append(taken(field, "AddressConflict", address, holder))
    given: tuple[tuple[Space, int | str], ...] = (
        *((device_space(node), each) for each in devices),
        *((space, each) for each in numbers),
    )
    for scope, value in given:
        if not faults:
            claims.take(scope, value, owner)
        elif claims.holder(scope, value) != owner:
            claims.wait(scope, value, owner)
    return tuple(faults)


def _mtu_faults(spec: InterfaceSpec, context: Context) -> list[Fault]:
    largest = tenant_mtu(context.pipeline)
    mtu = context.network_spec.mtu or largest
    if mtu > largest:
        message = (
            f"network {context.network} has mtu {mtu}, Pipeline {spec.pipeline_ref.name} carries"
            f" {largest}: lower the network's mtu or raise that of the uplinks"
        )
        return [Fault("spec.networkRef.name", "MtuTooLarge", message)]
    if spec.mtu and spec.mtu > mtu:
        message = f"{spec.mtu} is above the mtu of network {context.network}: at most {mtu}"
        return [Fault("spec.mtu", "MtuTooLarge", message)]
    return []


def _socket_faults(key: str, attachment: Attachment, sockets: str | None) -> list[Fault]:
    path = attachment.socket_path
    if path is None:
        return []
    faults = []
    if sockets and not _is_in(path, socket_directory(key, sockets)):
        message = (
            f"{path} is not in {socket_directory(key, sockets)}, the Interface's own directory:"
            " leave socketPath out, or name a file there"
        )
        field = f"spec.attachment.{MEMBERS[attachment.type]}.socketPath"
        faults.append(Fault(field, "AttachmentInvalid", message))
    length = len(path.encode())
    if length > SOCKET_BYTES:
        message = (
            f"the path of its socket, {path}, has {length} bytes, and {SOCKET_BYTES} are the most:"
            " give the namespace or the Interface a shorter name"
        )
        faults.append(Fault("metadata.name", "AttachmentInvalid", message))
    return faults


def _is_in(path: str, directory: str) -> bool:
    folder, _, name = path.rpartition("/")
    return folder == directory and name not in ("", ".", "..")


def claim_any(
    claims: Claims,
    key: str,
    spec: InterfaceSpec,
    uid: str,
    context: Context,
    record: InterfaceAllocation | None,
) -> tuple[InterfaceAllocation, tuple[Fault, ...]]:
    """Allocate what the user left open; says what was not to be had."""
    owner = Owner("ifc", key)
    faults: list[Fault] = []
    addresses = spec.addresses
    if not addresses:
        space = address_space(context.network)
        had = [(address_number(address), address) for address in record.addresses] if record else []
        found = []
        for subnet in subnet_ranges(context.network_spec):
            address = next((address for number, address in had if subnet.holds(number)), None)
            if address is None:
                reserved = frozenset((subnet.gateway_number,))
                number = claims.take_lowest(space, subnet.first, subnet.last, owner, reserved)
                if number is None:
                    claims.wait(space, None, owner)
                    message = (
                        f"no address of {subnet.prefix} is free in network {context.network}:"
                        " add a subnet or give addresses"
                    )
                    faults.append(Fault("spec.addresses", "SubnetExhausted", message))
                    continue
                address = number_address(number)
            found.append(address)
        addresses = tuple(found)
    underlay = record.underlay_address if record else None
    if underlay and host_vni(underlay_host(underlay)) != context.vni:
        # Of another network of that name: nothing that is on its way to it may arrive.
        claims.release(underlay_space(context.pn), underlay_host(underlay), owner)
        underlay = None
    if underlay is None:
        space = underlay_space(context.pn)
        if claims.count(space) >= NODE_INTERFACES:
            claims.wait(space, None, owner)
            message = (
                f"Pipeline {spec.pipeline_ref.name} has {NODE_INTERFACES} Interfaces on node"
                f" {context.node}, as many as it can: use another node or Pipeline"
            )
            faults.append(Fault("spec.nodeName", "NodeFull", message))
        else:
            hosts = (host_part(context.vni, identity(key, uid, n)) for n in itertools.count())
            host = next(host for host in hosts if claims.take(space, host, owner))
            underlay = underlay_address(context.underlay_prefix, host)
    return (
        InterfaceAllocation(
            network=context.network,
            pipeline=spec.pipeline_ref.name,
            node=context.node,
            underlay_address=underlay,
            addresses=addresses,
            device=device_of(key, spec),
        ),
        tuple(faults),
    )


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
    if spec.queues:
        compiled["queues"] = spec.queues
    here = (Hop(underlay, 1),)
    return Accepted(
        network=context.network,
        pn=context.pn,
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


def refer(
    store: Store,
    key: str,
    spec: InterfaceSpec,
    vnis: dict[str, int],
    ready: dict[str, str],
) -> Context | Fault:
    """Resolve what the Interface names. `ready`: Pipeline-on-node key -> its /64, if it runs."""
    network = network_key(key, spec)
    network_spec = store.network(network)
    if network_spec is None and network in vnis:
        message = f"VirtualNetwork {network} is not ready: what it was goes on; see its conditions"
        return Fault("spec.networkRef.name", "NetworkNotReady", message)
    if network_spec is None:
        message = f"VirtualNetwork {network} does not exist: create it"
        return Fault("spec.networkRef.name", "NetworkNotFound", message)
    vni = vnis.get(network)
    if vni is None:
        message = f"VirtualNetwork {network} is not ready: see its conditions"
        return Fault("spec.networkRef.name", "NetworkNotReady", message)
    name, node = spec.pipeline_ref.name, spec.node_name
    pipeline = store.pipeline(name)
    if pipeline is None:
        message = f"Pipeline {name} does not exist: create it"
        return Fault("spec.pipelineRef.name", "PipelineNotFound", message)
    labels = store.namespace_labels(key)
    if not pipeline.admits(labels):
        message = (
            f"Pipeline {name} does not allow namespace {namespace_of(key)}: name another, or have"
            " the Pipeline's spec.allowedNamespaces select it"
        )
        return Fault("spec.pipelineRef.name", "NamespaceNotAllowed", message)
    if node is None:
        pod = spec.attachment.pod
        return _nowhere(store, sibling(key, pod.name if pod else ""))
    if node not in store.nodes:
        return Fault("spec.nodeName", "NodeNotFound", f"node {node} does not exist")
    if not store.selects(name, node):
        message = f"Pipeline {name} does not select node {node}: see its nodeSelector"
        return Fault("spec.nodeName", "NodeNotSelected", message)
    pn = pn_key(name, node)
    prefix = ready.get(pn)
    if prefix is None:
        message = f"Pipeline {name} does not run on node {node}: see its conditions"
        return Fault("spec.pipelineRef.name", "PipelineNotReady", message)
    return Context(network, network_spec, vni, node, pn, pipeline, prefix, labels)


def _nowhere(store: Store, key: str) -> Fault:
    """Why a pod is on no node."""
    field = "spec.attachment.pod.name"
    pod = store.pods.get(key)
    if pod is None:
        message = f"pod {key} does not exist: create it; without a cluster use another type"
        return Fault(field, "PodNotFound", message)
    if pod.completed:
        message = f"pod {key} has completed: delete the Interface, or run the pod again"
        return Fault(field, "PodCompleted", message)
    return Fault(field, "PodNotScheduled", f"pod {key} has no node yet: see its events")
