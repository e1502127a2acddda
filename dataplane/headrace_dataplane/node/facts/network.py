# SPDX-License-Identifier: Apache-2.0
"""The kernel's devices and routes, by netlink: the machine's own, or a test's."""

import array
import fcntl
import socket
import struct
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from pyroute2 import IPRoute, NetlinkError

_SIOCETHTOOL = 0x8946
# linux/ethtool.h: struct ethtool_drvinfo, and where its fw_version is.
_GET_DRIVER_INFO, _DRIVER_INFO_BYTES, _FIRMWARE = 0x3, 196, slice(68, 100)


@dataclass(frozen=True)
class Link:
    """A kernel device."""

    index: int
    name: str
    master: int | None = None
    """Index of the bond or bridge that it belongs to."""
    lower: int | None = None
    """Index of the device that it stands on, as a VLAN does."""


class Network(Protocol):
    """What is asked of the kernel; what it does not answer is nothing."""

    def links(self) -> tuple[Link, ...]:
        """Return all devices of this network namespace."""

    def default_devices(self) -> frozenset[int]:
        """Return the indexes of the devices that default routes leave by."""

    def devices_with(self, addresses: Iterable[str]) -> frozenset[int]:
        """Return the indexes of the devices that have one of these addresses."""

    def devices_to(self, addresses: Iterable[str]) -> frozenset[int]:
        """Return the indexes of the devices by which these addresses are reached."""

    def firmware(self, device: str) -> str | None:
        """Return the version of a device's firmware."""


class Kernel:
    """The machine's own."""

    def links(self) -> tuple[Link, ...]:
        """Return all devices of this network namespace."""
        with suppress(OSError, NetlinkError), IPRoute() as kernel:
            return tuple(_link(each) for each in kernel.get_links())
        return ()

    def default_devices(self) -> frozenset[int]:
        """Return the indexes of the devices that default routes leave by."""
        found: set[int] = set()
        for family in (socket.AF_INET, socket.AF_INET6):
            with suppress(OSError, NetlinkError), IPRoute() as kernel:
                for route in kernel.get_default_routes(family):
                    found |= _outputs(route)
        return frozenset(found)

    def devices_with(self, addresses: Iterable[str]) -> frozenset[int]:
        """Return the indexes of the devices that have one of these addresses."""
        wanted = set(addresses)
        with suppress(OSError, NetlinkError), IPRoute() as kernel:
            return frozenset(
                int(each["index"])
                for each in kernel.get_addr()
                if each.get_attr("IFA_ADDRESS") in wanted or each.get_attr("IFA_LOCAL") in wanted
            )
        return frozenset()

    def devices_to(self, addresses: Iterable[str]) -> frozenset[int]:
        """Return the indexes of the devices by which these addresses are reached."""
        found: set[int] = set()
        for address in addresses:
            with suppress(OSError, NetlinkError), IPRoute() as kernel:
                for route in kernel.route("get", dst=address):
                    found |= _outputs(route)
        return frozenset(found)

    def firmware(self, device: str) -> str | None:
        """Return the version of a device's firmware."""
        answer = array.array(
            "B", struct.pack("I", _GET_DRIVER_INFO).ljust(_DRIVER_INFO_BYTES, b"\0")
        )
        request = struct.pack("16sP16x", device.encode(), answer.buffer_info()[0])
        with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            fcntl.ioctl(any_socket, _SIOCETHTOOL, request)
            text = answer.tobytes()[_FIRMWARE].split(b"\0", 1)[0].decode(errors="replace").strip()
            return text if text not in ("", "N/A") else None
        return None


def _link(link: Any) -> Link:
    return Link(
        index=int(link["index"]),
        name=str(link.get_attr("IFLA_IFNAME")),
        master=link.get_attr("IFLA_MASTER"),
        # Of a veth pair this is an index of another network namespace.
        lower=None
        if link.get_attr("IFLA_LINK_NETNSID") is not None
        else link.get_attr("IFLA_LINK"),
    )


def _outputs(route: Any) -> set[int]:
    hops = route.get_attr("RTA_MULTIPATH") or ()
    found = {route.get_attr("RTA_OIF"), *(hop["oif"] for hop in hops)}
    return {int(index) for index in found if index}
