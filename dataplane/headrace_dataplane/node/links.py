# SPDX-License-Identifier: Apache-2.0
"""The devices of pods: veth pairs, one end in the pod, the other the dataplane's.

Whose a pair is stands in the alias of the host's end, so that it can be removed and checked with
nothing but the kernel. All functions block; call them from one thread, one after another.
"""

import array
import errno
import fcntl
import os
import re
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute, NetlinkError, netns

from headrace_dataplane.isolation import isolate

_SYSCTL = Path("/proc/sys/net")
_MARK = "headrace.dev/cni"
_HOST_DEVICE = re.compile(r"hr[0-9a-f]{12}")
# The kernel's IFALIASZ, less a NUL.
_ALIAS_BYTES = 255

_NODAD = 0x02  # IFA_F_NODAD: the dataplane gives addresses out, nobody else has them.
_ONLINK = 0x04  # RTNH_F_ONLINK: the pod has no subnet that the gateway would be in.
_SIOCETHTOOL = 0x8946
# Of linux/ethtool.h, STXCSUM, STSO and SGSO: a reader of raw frames wants them whole.
_OFFLOADS = (0x17, 0x1F, 0x24)


class LinkError(Exception):
    """A device cannot be made, or is not as it should be; the message names it."""


@dataclass(frozen=True)
class Owner:
    """Whose a pair is."""

    network: str
    """Name of the CNI configuration: each collects its own garbage."""
    container: str
    pod: str = ""
    """namespace/name, for people."""

    @property
    def alias(self) -> str:
        """What the host's end is marked with."""
        return f"{_MARK} {self.network} {self.container} {self.pod}"[:_ALIAS_BYTES].rstrip()


@dataclass(frozen=True)
class Endpoint:
    """What a pod's device should be like."""

    host: str
    """Name of the end on the host, see headrace_api.pod_device."""
    name: str
    """Name in the pod."""
    mac: str | None
    """None: the kernel's choice."""
    mtu: int
    addresses: tuple[str, ...]
    routes: tuple[tuple[str, str], ...]
    """Destination and gateway, which is on the link whatever its address."""


@dataclass(frozen=True)
class Device:
    """A pod's device as it is there."""

    endpoint: Endpoint
    host_mac: str
    """MAC address of the end on the host."""
    mac: str
    """MAC address in the pod."""


def plug(endpoint: Endpoint, owner: Owner, namespace: int) -> Device:
    """Have the pair there, with the pod's end in a namespace.

    `namespace` is an open file. What another container had is taken away. Raises LinkError.
    """
    try:
        with IPRoute() as host:
            link = _find(host, endpoint.host)
            if link is not None and not _in_place(link, endpoint, owner, namespace):
                host.link("del", index=link["index"])
                link = None
            if link is None:
                link = _make(host, endpoint, namespace)
            isolate((endpoint.host,))
            # The mark comes last: what has none was never finished.
            host.link("set", index=link["index"], ifalias=owner.alias)
            host.link("set", index=link["index"], state="up")
        with _entered(namespace), IPRoute() as pod:
            mac = _configure(pod, endpoint)
        return Device(endpoint, _mac(link), mac)
    except (NetlinkError, OSError) as error:
        number = error.code if isinstance(error, NetlinkError) else error.errno
        reason = os.strerror(number or 0)
        raise LinkError(f"device {endpoint.name}, {endpoint.host} on the host: {reason}") from error


def unplug(owner: Owner) -> list[str]:
    """Remove the pairs of a container; return the names of their host's ends."""
    return _remove(lambda found: found is not None and _same(found, owner))


def collect(network: str, containers: frozenset[str]) -> list[str]:
    """Remove what belongs to no container of these, and what was never finished."""
    return _remove(
        lambda found: (
            found is None or (found.network == network and found.container not in containers)
        )
    )


def check(owner: Owner, namespace: int, expected: dict[str, tuple[str, ...]]) -> None:
    """See that a container's pairs are there. Raises LinkError.

    `expected` are the addresses, with prefix lengths, by the name of the pod's device.
    """
    with IPRoute() as host:
        links = [link for link, found in _ours(host) if found is not None and _same(found, owner)]
    names = {}
    with _entered(namespace), IPRoute() as pod:
        inside = {link["index"]: link for link in pod.get_links()}
        for link in links:
            peer = inside.get(link.get_attr("IFLA_LINK"))
            if peer is None:
                raise LinkError(f"{_name(link)} has no other end in the pod")
            for side, of in ((link, "host"), (peer, "pod")):
                if side.get_attr("IFLA_OPERSTATE") != "UP":
                    raise LinkError(f"{_name(side)}, a device of the {of}, is not up")
            names[_name(peer)] = {
                f"{address.get_attr('IFA_ADDRESS')}/{address['prefixlen']}"
                for address in pod.get_addr(index=peer["index"])
            }
    for name, addresses in expected.items():
        if name not in names:
            raise LinkError(f"the pod has no device {name} any more")
        for address in addresses:
            if address not in names[name]:
                raise LinkError(f"device {name} of the pod has lost its address {address}")


def is_host_device(name: str) -> bool:
    """Whether the dataplane's end of a pod's device might have this name."""
    return _HOST_DEVICE.fullmatch(name) is not None


def is_read(device: str) -> bool:
    """Whether a packet socket is open on the host's end of a pair: the dataplane's.

    What a dataplane has said of a device may be older than the device, and than the node's start.
    """
    try:
        index = str(socket.if_nametoindex(device))
    except OSError:
        return False
    # sk RefCnt Type Proto Iface ...
    sockets = Path("/proc/net/packet").read_text().splitlines()[1:]
    return any(line.split()[4] == index for line in sockets)


def _make(host: Any, endpoint: Endpoint, namespace: int) -> Any:
    peer = {"ifname": endpoint.name, "net_ns_fd": namespace, "mtu": endpoint.mtu}
    try:
        host.link("add", ifname=endpoint.host, kind="veth", mtu=endpoint.mtu, peer=peer)
    except NetlinkError as error:
        if error.code == errno.EEXIST:
            raise LinkError(
                f"the pod has another device {endpoint.name}: give the Interface another "
                "attachment.pod.deviceName"
            ) from error
        raise
    link = _find(host, endpoint.host)
    if link is None:
        raise LinkError(f"{endpoint.host} is gone again: somebody else removes devices")
    return link


def _in_place(link: Any, endpoint: Endpoint, owner: Owner, namespace: int) -> bool:
    """Whether the pair is this container's, and its other end in this namespace."""
    found = _owner(link)
    if found is None or found.container != owner.container:
        return False
    with _entered(namespace), IPRoute() as pod:
        peer = _find(pod, endpoint.name)
    return peer is not None and peer["index"] == link.get_attr("IFLA_LINK")


def _configure(pod: Any, endpoint: Endpoint) -> str:
    """Bring the pod's end to what it should be, and return its MAC address."""
    _without_offloads(endpoint.name)
    settings = _SYSCTL / "ipv6/conf" / endpoint.name
    if settings.exists():
        # Routes are those of the endpoint, whatever a router advertises.
        (settings / "accept_ra").write_text("0")
    if any(":" in address for address in endpoint.addresses):
        (settings / "disable_ipv6").write_text("0")
    (index,) = pod.link_lookup(ifname=endpoint.name)
    wanted = {} if endpoint.mac is None else {"address": endpoint.mac}
    pod.link("set", index=index, mtu=endpoint.mtu, state="up", **wanted)
    for text in endpoint.addresses:
        address = ip_interface(text)
        more = {"flags": _NODAD} if address.version == 6 else {}
        pod.addr(
            "replace",
            index=index,
            address=str(address.ip),
            prefixlen=address.network.prefixlen,
            **more,
        )
    own = {f"{route.get_attr('RTA_DST')}/{route['dst_len']}" for route in pod.get_routes(oif=index)}
    for destination, gateway in endpoint.routes:
        try:
            pod.route(
                # The default route was asked for: it may take another's place.
                "replace" if destination in own or destination.endswith("/0") else "add",
                family=socket.AF_INET6 if ":" in gateway else socket.AF_INET,
                dst=destination,
                gateway=gateway,
                oif=index,
                flags=_ONLINK,
            )
        except NetlinkError as error:
            if error.code == errno.EEXIST:
                raise LinkError(
                    f"device {endpoint.name}: the pod has another route to {destination}: subnets "
                    "of its networks must not overlap"
                ) from error
            raise
    return _mac(_find(pod, endpoint.name))


def _without_offloads(device: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for command in _OFFLOADS:
            value = array.array("I", [command, 0])
            request = struct.pack("16sP16x", device.encode(), value.buffer_info()[0])
            fcntl.ioctl(any_socket, _SIOCETHTOOL, request)


def _remove(goes: Any) -> list[str]:
    removed = []
    with IPRoute() as host:
        for link, found in _ours(host):
            if goes(found):
                # Its namespace may be going away this moment, and with it the pair.
                with suppress(NetlinkError):
                    host.link("del", index=link["index"])
                removed.append(_name(link))
    return removed


def _ours(host: Any) -> Iterator[tuple[Any, Owner | None]]:
    """Yield the host's ends, each with its owner, None when it was never finished."""
    for link in host.get_links():
        if is_host_device(_name(link)):
            yield link, _owner(link)


def _owner(link: Any) -> Owner | None:
    words = (link.get_attr("IFLA_IFALIAS") or "").split(" ")
    if len(words) < 3 or words[0] != _MARK:
        return None
    return Owner(words[1], words[2], "".join(words[3:]))


def _same(one: Owner, other: Owner) -> bool:
    return (one.network, one.container) == (other.network, other.container)


def _find(netlink: Any, name: str) -> Any:
    try:
        (link,) = netlink.link("get", ifname=name)
    except NetlinkError as error:
        if error.code == errno.ENODEV:
            return None
        raise
    return link


def _name(link: Any) -> str:
    return str(link.get_attr("IFLA_IFNAME"))


def _mac(link: Any) -> str:
    return str(link.get_attr("IFLA_ADDRESS"))


@contextmanager
def _entered(namespace: int) -> Iterator[None]:
    """Be in a network namespace meanwhile, with this thread alone."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        netns.setns(namespace)
        try:
            yield
        finally:
            netns.setns(home)
    finally:
        os.close(home)
