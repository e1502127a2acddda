# SPDX-License-Identifier: Apache-2.0
"""What an Interface holds: its device, its tenant addresses and its underlay address."""

import itertools
from collections.abc import Mapping

from headrace_api import (
    SOCKET_BYTES,
    Attachment,
    InterfaceSpec,
    VirtualNetworkSpec,
    pod_device,
    socket_directory,
)
from headrace_api.attachment import MEMBERS
from headrace_api.dataplane_config import NODE_INTERFACES

from .accepted import Context
from .addresses import (
    SubnetRange,
    address_number,
    host_part,
    host_vni,
    identity,
    node_number,
    number_address,
    subnet_ranges,
    underlay_address,
    underlay_host,
)
from .allocations import EndpointAllocation, FunctionAllocation, InterfaceAllocation
from .claims import Claims, Owner, Space
from .core import namespace_of, sibling
from .devices import endpoint_of, not_allowed
from .functions import Functions, function_space
from .network import address_space
from .outcome import Fault, taken
from .pipeline import device_space, tenant_mtu, unsupported
from .vlans import Vlans


def network_key(interface: str, spec: InterfaceSpec) -> str:
    """Key of the VirtualNetwork that an Interface names: that of its own namespace."""
    return sibling(interface, spec.network_ref.name)


def underlay_space(served_by: Owner) -> Space:
    """Host parts of the /64 of a Pipeline on a node."""
    return Space("underlay", f"{served_by.key}/{served_by.node}")


def device_of(key: str, spec: InterfaceSpec) -> str | None:
    """What the Interface occupies on its node (Attachment.device)."""
    return spec.attachment.device(namespace_of(key))


def occupied(key: str, device: str) -> tuple[str, ...]:
    """All that an Interface with this device occupies: of a pod's also the node's end."""
    if device.startswith("pod:"):
        return device, f"netdev:{pod_device(key)}"
    return (device,)


def install(claims: Claims, vlans: Vlans, owner: Owner, record: InterfaceAllocation) -> bool:
    """Take what a record of an earlier run says; False when another holds some of it."""
    there: list[tuple[Space, int | str]] = []
    if record.device and record.node:
        space = device_space(record.node)
        there += [(space, device) for device in occupied(owner.key, record.device)]
    if record.function and record.node:
        there.append((_function_space(record, record.function), record.function.number))
    space = address_space(record.network)
    there += [(space, address_number(address)) for address in record.addresses]
    space = _underlay_space(record)
    if record.node and record.underlay_address:
        there.append((space, underlay_host(record.underlay_address)))
    mine = [claims.take(space, value, owner) for space, value in there]
    return all([vlans.install(owner, record), *mine])


def _underlay_space(record: InterfaceAllocation) -> Space:
    return underlay_space(Owner("Pipeline", record.pipeline, record.node or ""))


def _function_space(record: InterfaceAllocation, function: FunctionAllocation) -> Space:
    return function_space(record.pipeline, record.node or "", function.resource_name)


def keep(
    claims: Claims,
    vlans: Vlans,
    owner: Owner,
    record: InterfaceAllocation,
    spec: InterfaceSpec | None,
    network: VirtualNetworkSpec | None,
    underlay_prefix: str | None,
    pools: Mapping[str, int] | None,
    endpoint: EndpointAllocation | None,
    *,
    may_have_device: bool,
) -> tuple[InterfaceAllocation | None, set[Owner]]:
    """What stays of the record, and who waited for what was released.

    `spec` is None where the Interface is gone, `network` where its network is. `underlay_prefix` is
    what the Pipeline keeps on the node that the Interface names now, and `pools` what it has there
    of each resource; None: it is gone for now. `endpoint` is what is to be behind its function.
    """
    key = owner.key
    device = function = vlan = grant = None
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
            and may_have_device
        ):
            device = record.device
        if may_have_device and _is_its_own(claims, owner, record, spec, pools):
            function = record.function
        if _is_in_its_vlan(vlans, owner, record, spec) and may_have_device:
            vlan = record.vlan
            grant = record.grant if function and record.endpoint == endpoint else None
        if network_key(key, spec) == record.network:
            space = address_space(record.network)
            held = [
                address
                for address in record.addresses
                if claims.holder(space, address_number(address)) == owner
            ]
            addresses = _still_wanted(spec, network, held)
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
    if record.function and not function:
        space = _function_space(record, record.function)
        woken |= claims.release(space, record.function.number, owner)
    if vlan is None:
        woken |= vlans.release(owner, record)
    for address in set(record.addresses) - set(addresses):
        woken |= claims.release(address_space(record.network), address_number(address), owner)
    if had and not underlay:
        woken |= claims.release(_underlay_space(record), underlay_host(had), owner)
    if not spec or not (device or function or vlan or addresses or underlay):
        return None, woken
    return (
        InterfaceAllocation(
            network=network_key(key, spec),
            pipeline=spec.pipeline_ref.name,
            node=spec.node_name,
            underlay_address=underlay,
            addresses=addresses,
            device=device,
            function=function,
            vlan=vlan,
            grant=grant,
            endpoint=record.endpoint if grant else None,
        ),
        woken,
    )


def _is_its_own(
    claims: Claims,
    owner: Owner,
    record: InterfaceAllocation,
    spec: InterfaceSpec,
    pools: Mapping[str, int] | None,
) -> bool:
    """Whether the function of the record is the Interface's, is wanted, and still exists."""
    found = record.function
    return (
        found is not None
        and (spec.pipeline_ref.name, spec.node_name) == (record.pipeline, record.node)
        and spec.attachment.resource_name == found.resource_name
        and (pools is None or found.number < pools.get(found.resource_name, 0))
        and claims.holder(_function_space(record, found), found.number) == owner
    )


def _is_in_its_vlan(
    vlans: Vlans, owner: Owner, record: InterfaceAllocation, spec: InterfaceSpec
) -> bool:
    """Whether the VLAN of the record, or that there is none, is what the Interface wants."""
    return (
        (spec.pipeline_ref.name, network_key(owner.key, spec)) == (record.pipeline, record.network)
        and spec.attachment.vlan == record.vlan
        and vlans.holds(owner, record)
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
    claims: Claims,
    vlans: Vlans,
    owner: Owner,
    spec: InterfaceSpec,
    context: Context,
    sockets: str | None,
) -> tuple[Fault, ...]:
    """Take the device and the addresses that the user gave: all of them, or none and say why."""
    key, node = owner.key, context.node
    faults = list(unsupported("spec.attachment", spec.attachment))
    if not faults:
        faults.extend(not_allowed(namespace_of(key), spec, context.pipeline, context.labels))
    # Who has a device that it may not name is none of its business.
    device = device_of(key, spec) if not faults else None
    pipeline, vlan = context.served_by.key, spec.attachment.vlan if not faults else None
    if vlan and (conflict := vlans.fault(owner, pipeline, vlan, context.network)):
        faults.append(conflict)
        vlans.wait(owner, pipeline, vlan)
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
    if vlan and not faults:
        vlans.take(owner, pipeline, vlan, context.network)
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
    owner: Owner,
    spec: InterfaceSpec,
    uid: str,
    context: Context,
    record: InterfaceAllocation | None,
    functions: Functions,
    vlans: Vlans,
) -> tuple[InterfaceAllocation, tuple[Fault, ...]]:
    """Allocate what the user left open; says what was not to be had."""
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
        claims.release(underlay_space(context.served_by), underlay_host(underlay), owner)
        underlay = None
    if underlay is None:
        space = underlay_space(context.served_by)
        if claims.count(space) >= NODE_INTERFACES:
            claims.wait(space, None, owner)
            message = (
                f"Pipeline {spec.pipeline_ref.name} has {NODE_INTERFACES} Interfaces on node"
                f" {context.node}, as many as it can: use another node or Pipeline"
            )
            faults.append(Fault("spec.nodeName", "NodeFull", message))
        else:
            hosts = (host_part(context.vni, identity(owner.key, uid, n)) for n in itertools.count())
            host = next(host for host in hosts if claims.take(space, host, owner))
            underlay = underlay_address(context.underlay_prefix, host)
    function = record.function if record else None
    resource = spec.attachment.resource_name
    if resource and not function:
        granted = functions.take(owner, resource, context)
        if isinstance(granted, Fault):
            faults.append(granted)
        else:
            function = granted
    grant = record.grant if record else None
    if resource and function and grant is None:
        grant = vlans.grant(context.pipeline, resource)
    return (
        InterfaceAllocation(
            network=context.network,
            pipeline=spec.pipeline_ref.name,
            node=context.node,
            underlay_address=underlay,
            addresses=addresses,
            device=device_of(owner.key, spec),
            function=function,
            vlan=spec.attachment.vlan,
            grant=grant,
            endpoint=endpoint_of(spec, context.pipeline, context.labels),
        ),
        tuple(faults),
    )
