# SPDX-License-Identifier: Apache-2.0
"""From a DataplaneConfig and its Slices to the engine's objects: pure, no I/O.

A port is named as what it serves: "namespace/name" of the Interface, or "uplink/" and the name.
Devices are given as DPDK devargs; the names of virtual devices follow from the port and its
arguments, so a changed device never has the name of the one that it replaces.
"""

import hashlib
import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from headrace_api import (
    Attachment,
    AttachmentType,
    CompiledInterface,
    CompiledNetwork,
    CompiledUplink,
    DataplaneConfig,
    DataplaneConfigSpec,
    FunctionClaim,
    IdlePolicy,
    Problem,
    RouteSlice,
    SliceNextHop,
    SourceCheck,
    digest,
    pod_device,
)
from headrace_api.attachment import SriovAttachment
from headrace_dataplane.functions import DevicesMissingError, Functions
from headrace_dataplane.grants import Grants, Permit, Verdict, permit
from headrace_dataplane.protocol import JSON, JSONObject, Put

ROUTER_LINK_LOCAL = "fe80::1"
"""The gateway of every Interface with an IPv6 address, whatever its subnets (RFC 4861 routers)."""

ICMP_PER_SECOND = 1000
_DEVARGS_BYTES = 511
# What DPDK's argument parser gives a meaning, and blanks.
_UNSAFE = re.compile(r"[\s,=\[\]()\"'\\;]")
# Of TPACKET_V2: a frame begins with headers of 80 bytes, at a multiple of 16 (packet(7)).
_PACKET_OVERHEAD = 80
_PACKET_FRAME = 2048
# A ring that outlasts a time slice of another program on the CPU: 4 MiB each way and queue.
_PACKET_FRAMES = 2048
_PAGE = 4096
# The other side may send frames larger than a packet buffer: they are dropped, not chained.
_ONE_BUFFER_VHOST = "linear-buffer=1"
_ONE_BUFFER_VIRTIO = "mrg_rxbuf=0"
_VIRTIO_DESCRIPTORS = 1024
_NO_FUNCTIONS = Functions()


class UnsupportedError(ValueError):
    """The attachment cannot be made a port; `reason` is CamelCase."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class Device:
    """A port's device: its name in DPDK, its arguments, and the kernel device that it needs."""

    name: str
    arguments: str
    netdev: str | None = None

    @property
    def devargs(self) -> str:
        """What DPDK probes."""
        return f"{self.name},{self.arguments}" if self.arguments else self.name


@dataclass(frozen=True)
class Translation:
    """What the engine should have, and why some of the configuration cannot be."""

    objects: tuple[Put, ...]
    devices: Mapping[str, str]
    """DPDK's name of a device -> the port's name."""

    endpoints: tuple[str, ...]
    """Kernel devices of Interfaces: nobody else's business on this node."""

    shared: Mapping[str, str]
    """Kernel devices of uplinks, which may be the host's, too -> the node's /64, which is not."""

    directories: frozenset[str]
    """For the sockets of Interfaces: those that are an Interface's own (socket_directory)."""

    problems: tuple[Problem, ...]
    claims: Mapping[str, FunctionClaim]
    """PCI address -> the Interface that is to have the function by a grant."""

    opened: Mapping[str, FunctionClaim]
    """Those that the engine may have open."""

    waiting: Mapping[str, str]
    """Interface ("namespace/name") that an engine may go on with -> why no other opens it."""

    routes: Mapping[str, tuple[RouteSlice, Put]]
    """Slice -> what it was, and its object: for the next translation."""


def device(port: str, attachment: Attachment, queues: int, mtu: int) -> Device:
    """Return the device of an attachment; `mtu` is the largest IP packet in bytes.

    Raises UnsupportedError for what this release does not attach.
    """
    made = _device(port, attachment, queues, mtu)
    if len(made.devargs.encode()) > _DEVARGS_BYTES:
        raise UnsupportedError(
            "AttachmentInvalid",
            f"its paths are too long: the device's arguments exceed {_DEVARGS_BYTES} bytes",
        )
    return made


def kernel_device(port: str, attachment: Attachment) -> str | None:
    """Name of the kernel device that an attachment reads, if somebody else makes it."""
    if attachment.af_packet:
        return attachment.af_packet.device_name
    return pod_device(port) if attachment.pod else None


def _device(port: str, attachment: Attachment, queues: int, mtu: int) -> Device:
    if attachment.sriov and attachment.sriov.pci_address:
        return Device(attachment.sriov.pci_address, "")
    if attachment.tap:
        name = _safe(attachment.tap.device_name)
        return _virtual("net_tap", port, f"iface={name},mac={_mac(port)}")
    if netdev := kernel_device(port, attachment):
        name = _safe(netdev)
        arguments = f"iface={name},qpairs={queues},qdisc_bypass=1,framecnt={_PACKET_FRAMES}"
        if mtu + _PACKET_OVERHEAD > _PACKET_FRAME:
            frame = -(-(mtu + _PACKET_OVERHEAD) // 16) * 16
            arguments += f",framesz={frame},blocksz={-(-4 * frame // _PAGE) * _PAGE}"
        return _virtual("net_af_packet", port, arguments, name)
    path = _safe(attachment.socket_path or "")
    if attachment.memif:
        memif = attachment.memif
        arguments = (
            f"role={memif.role.lower()},id={memif.id},socket={path},"
            f"socket-abstract=no,mac={_mac(port)}"
        )
        return _virtual("net_memif", port, arguments)
    if attachment.vhost_user:
        return _virtual("net_vhost", port, f"iface={path},queues={queues},{_ONE_BUFFER_VHOST}")
    if attachment.virtio_user:
        arguments = (
            f"path={path},queues={queues},cq={int(queues > 1)},queue_size={_VIRTIO_DESCRIPTORS},"
            f"{_ONE_BUFFER_VIRTIO},mac={_mac(port)}"
        )
        return _virtual("net_virtio_user", port, arguments)
    if attachment.pcap:
        pcap = attachment.pcap
        parts = []
        if pcap.receive_file is not None:
            parts.append(f"rx_pcap={_safe(pcap.receive_file)}")
        if pcap.transmit_file is not None:
            parts.append(f"tx_pcap={_safe(pcap.transmit_file)}")
        if pcap.receive_loop and pcap.receive_file is not None:
            parts.append("infinite_rx=1")
        return _virtual("net_pcap", port, ",".join(parts))
    if attachment.type is AttachmentType.DISCARD:
        # Left alone it would receive empty frames as fast as a worker can poll.
        return _virtual("net_null", port, "no-rx=1")
    what = "resourceName" if attachment.sriov else str(attachment.type)
    raise UnsupportedError(
        "AttachmentUnsupported",
        f"{what} is not supported by this release: use SRIOV with pciAddress, Pod, Tap, AFPacket, "
        "Memif, VhostUser, VirtioUser, Pcap or Discard",
    )


def _virtual(driver: str, port: str, arguments: str, netdev: str | None = None) -> Device:
    return Device(f"{driver}{_hash(port, arguments)[:8]}", arguments, netdev)


def _hash(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _mac(port: str) -> str:
    """Return a locally administered address that a restart does not change."""
    text = "02" + _hash(port)[:10]
    return ":".join(text[i : i + 2] for i in range(0, 12, 2))


def _safe(text: str) -> str:
    found = _UNSAFE.search(text)
    if found:
        raise UnsupportedError(
            "AttachmentInvalid",
            f"{text!r} contains {found.group()!r}, which DPDK would take for a separator",
        )
    return text


def _with_function(
    attachment: Attachment,
    number: int | None,
    functions: Functions,
    uplinks: Mapping[str, int],
    *,
    of_uplink: bool,
) -> Attachment:
    """Return an attachment that names its function, where it is the pod's function of a number.

    `uplinks`: resource -> how many of its functions are uplinks'. Raises UnsupportedError.
    """
    resource = attachment.resource_name
    if resource is None or number is None:
        return attachment
    try:
        address = functions.pick(resource, number, uplinks.get(resource, 0), of_uplink=of_uplink)
    except DevicesMissingError as error:
        raise UnsupportedError("DevicesMissing", str(error)) from error
    return attachment.model_copy(update={"sriov": SriovAttachment(pci_address=address)})


def _functions_of_uplinks(uplinks: Iterable[CompiledUplink]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for uplink in uplinks:
        resource = uplink.attachment.resource_name
        if resource is not None and uplink.function is not None:
            counts[resource] = max(counts.get(resource, 0), uplink.function + 1)
    return counts


def translate(
    config: DataplaneConfig,
    slices: Iterable[RouteSlice],
    before: Translation | None = None,
    functions: Functions = _NO_FUNCTIONS,
    grants: Grants | None = None,
) -> Translation:
    """Return the engine's objects; slices that no network of the config names are left out.

    Slices that are the very ones of the translation `before` are taken from there. `functions` are
    those that this pod has, `grants` what the NodeState says of them.
    """
    spec = config.spec
    of_uplinks = _functions_of_uplinks(spec.uplinks)
    objects = [_settings(spec)]
    devices: dict[str, str] = {}
    endpoints: list[str] = []
    shared: dict[str, str] = {}
    directories: set[str] = set()
    problems: list[Problem] = []
    claims: dict[str, FunctionClaim] = {}
    opened: dict[str, FunctionClaim] = {}
    waiting: dict[str, str] = {}

    for index, uplink in enumerate(spec.uplinks):
        port = f"uplink/{uplink.name}"
        try:
            attachment = _with_function(
                uplink.attachment, uplink.function, functions, of_uplinks, of_uplink=True
            )
            # Any worker may have any flow of the underlay.
            made = device(port, attachment, spec.workers.count, uplink.mtu)
        except UnsupportedError as error:
            field = f"spec.uplinks[{index}].attachment"
            problems.append(
                Problem("Pipeline", "", spec.pipeline_name, field, error.reason, str(error))
            )
            continue
        devices[made.name] = port
        queues = _queues(uplink.attachment, spec.workers.count)
        if made.netdev is not None:
            shared[made.netdev] = str(
                ipaddress.IPv6Network((uplink.addresses[0], 64), strict=False)
            )
        objects.append(_port(port, made, queues, uplink.mtu, _stable_mac(uplink)))
        objects.append(_uplink(port, uplink))

    objects += map(_network, spec.networks)

    for interface in spec.interfaces:
        port = f"{interface.namespace}/{interface.name}"
        queues = interface.queues or 1
        try:
            attachment = _with_function(
                interface.attachment, interface.function, functions, of_uplinks, of_uplink=False
            )
            made = device(port, attachment, queues, interface.mtu)
        except UnsupportedError as error:
            problems.append(_refused(interface, error.reason, str(error)))
            continue
        verdict = Verdict(Permit.OPEN)
        if interface.attachment.resource_name is not None:
            verdict = permit(interface, made.name, functions.pod, grants)
        if interface.grant is not None and functions.pod:
            claim = FunctionClaim(
                pci_address=made.name,
                interface=port,
                grant=interface.grant,
                pod=functions.pod,
            )
            claims[made.name] = claim
            if verdict.permit is not Permit.CLOSE:
                opened[made.name] = claim
        if verdict.permit is Permit.CLOSE:
            problems.append(_refused(interface, verdict.reason, verdict.why))
            continue
        keep = verdict.permit is Permit.KEEP
        if keep:
            waiting[port] = verdict.why
        devices[made.name] = port
        if made.netdev is not None:
            endpoints.append(made.netdev)
        directory = (interface.attachment.socket_path or "").rpartition("/")[0]
        if directory.endswith(f"/{port}"):
            directories.add(directory)
        put = _port(port, made, _queues(interface.attachment, queues), interface.mtu)
        objects += (replace(each, keep=keep) for each in (put, _interface(port, interface)))

    named = {name for network in spec.networks for name in network.route_slices}
    earlier = before.routes if before is not None else {}
    made_routes: dict[str, tuple[RouteSlice, Put]] = {}
    for part in slices:
        name = part.metadata.name
        if name in named:
            known = earlier.get(name)
            if known is None or known[0] is not part:
                known = part, routes(part)
            made_routes[name] = known
    objects += (put for _, put in made_routes.values())
    return Translation(
        objects=tuple(objects),
        devices=devices,
        endpoints=tuple(endpoints),
        shared=shared,
        directories=frozenset(directories),
        problems=tuple(problems),
        claims=claims,
        opened=opened,
        waiting=waiting,
        routes=made_routes,
    )


def _refused(interface: CompiledInterface, reason: str, why: str) -> Problem:
    return Problem("Interface", interface.namespace, interface.name, "spec.attachment", reason, why)


def _put(kind: str, key: str, spec: JSONObject) -> Put:
    return Put(kind, key, digest(spec), spec)


def _settings(spec: DataplaneConfigSpec) -> Put:
    settings: JSONObject = {
        "idle": "poll" if spec.workers.idle_policy is IdlePolicy.POLL else "adaptive",
        "burst": spec.workers.burst,
        "icmpPerSecond": ICMP_PER_SECOND,
    }
    # Left out when not given, as everything that an engine of an earlier release would refuse.
    if spec.pipeline_prefixes:
        settings["underlayPrefixes"] = [*spec.pipeline_prefixes]
        if spec.underlay_source_check is SourceCheck.ENABLED:
            settings["underlaySourceCheck"] = True
    if spec.waiting_packets_per_namespace is not None:
        settings["waitingPacketsPerNamespace"] = spec.waiting_packets_per_namespace
    return _put("settings", "engine", settings)


def _network(network: CompiledNetwork) -> Put:
    spec: JSONObject = {"vni": network.vni, "gateways": list(network.gateways)}
    if network.endpoints:
        spec["endpoints"] = list(network.endpoints)
    if network.vxlan_endpoints:
        spec["vxlanEndpoints"] = [
            {"address": each.address, "vni": each.vni, "mac": each.mac_address}
            for each in network.vxlan_endpoints
        ]
    if network.dscp is not None:
        spec["dscp"] = network.dscp
    return _put("network", f"{network.namespace}/{network.name}", spec)


def _queues(attachment: Attachment, desired: int) -> int:
    return 1 if attachment.pcap or attachment.type is AttachmentType.DISCARD else desired


def _stable_mac(uplink: CompiledUplink) -> str | None:
    """Return a MAC address that neighbours find again after a restart.

    None: the device's own, which may be the only one that its switch knows.
    """
    if uplink.attachment.type in (AttachmentType.SRIOV, AttachmentType.AF_PACKET):
        return None
    name = f"{uplink.addresses[0]} {uplink.name}".encode()
    return ":".join(["02", *(f"{byte:02x}" for byte in hashlib.sha256(name).digest()[:5])])


def _port(name: str, made: Device, queues: int, mtu: int, mac: str | None = None) -> Put:
    spec: JSONObject = {"devargs": made.devargs, "rxQueues": queues, "mtu": mtu}
    if mac is not None:
        spec["mac"] = mac
    if made.netdev is not None:
        spec["netdev"] = made.netdev
    return _put("port", name, spec)


def _uplink(port: str, uplink: CompiledUplink) -> Put:
    spec: JSONObject = {
        "port": port,
        "mtu": uplink.mtu,
        "addresses": list(uplink.addresses),
        "onLink": list(uplink.on_link_prefixes),
    }
    if uplink.gateway is not None:
        spec["gateway"] = uplink.gateway
    if uplink.neighbors:
        spec["neighbors"] = [
            {"address": neighbor.address, "mac": neighbor.mac_address}
            for neighbor in uplink.neighbors
        ]
    if uplink.weight != 1:
        spec["weight"] = uplink.weight
    return _put("uplink", uplink.name, spec)


def _interface(port: str, interface: CompiledInterface) -> Put:
    gateways: list[JSON] = list(interface.gateways)
    if any(ipaddress.ip_address(address).version == 6 for address in interface.addresses):
        gateways.append(ROUTER_LINK_LOCAL)
    spec: JSONObject = {
        "port": port,
        "network": interface.network,
        "addresses": list(interface.addresses),
        "prefixes": list(interface.prefixes),
        "gateways": gateways,
        "underlay": interface.underlay_address,
        "sourceCheck": interface.source_check is SourceCheck.ENABLED,
        "mtu": interface.mtu,
    }
    if interface.former_underlay_addresses:
        spec["formerUnderlayAddresses"] = list(interface.former_underlay_addresses)
    if interface.mac_address is not None:
        spec["mac"] = interface.mac_address
    return _put("interface", port, spec)


def routes(part: RouteSlice) -> Put:
    """Return the routes object of one slice."""
    return _put(
        "routes",
        part.metadata.name,
        {
            "network": part.network,
            "routes": [
                [route.prefix, *map(_next_hop, route.next_hops or ())]
                for route in part.spec.entries
            ],
        },
    )


def _next_hop(hop: SliceNextHop) -> JSON:
    if hop.underlay_address is None:
        return {"network": hop.network, "weight": hop.weight}
    return hop.underlay_address if hop.weight == 1 else [hop.underlay_address, hop.weight]
