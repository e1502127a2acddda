# SPDX-License-Identifier: Apache-2.0
"""What the kernel tells of its devices: links, addresses and routes, PCI functions and drivers."""

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pyroute2.netlink import rtnl
from pyroute2.netlink.rtnl.marshal import MarshalRtnl

log = logging.getLogger(__name__)

_UEVENTS = 15  # linux/netlink.h, NETLINK_KOBJECT_UEVENT
_OF_THE_KERNEL = 1  # and not udev's, of the second group
_GROUPS = (
    rtnl.RTMGRP_LINK
    | rtnl.RTMGRP_IPV4_IFADDR
    | rtnl.RTMGRP_IPV6_IFADDR
    | rtnl.RTMGRP_IPV4_ROUTE
    | rtnl.RTMGRP_IPV6_ROUTE
)
_BYTES = 1 << 18
#: Of pods and of tunnels there are many, and none of them is a card or stands on one.
_OTHERS = frozenset({"veth", "tun", "ipip", "dummy", "wireguard", "vxlan", "geneve", "sit"})
_RT_SCOPE_LINK = 253


@contextmanager
def kernel_changes(changed: Callable[[], None]) -> Iterator[None]:
    """Call `changed` in the event loop whenever what concerns network cards may have changed.

    What the kernel could not tell, as too much happened, counts as a change. Raises OSError.
    """
    loop = asyncio.get_running_loop()
    with (
        _listening(socket.NETLINK_ROUTE, _GROUPS) as routes,
        _listening(_UEVENTS, _OF_THE_KERNEL) as uevents,
    ):

        def hear(of: socket.socket, concerns: Callable[[bytes], bool]) -> None:
            if any(concerns(message) for message in _messages(of)):
                changed()

        loop.add_reader(routes, hear, routes, concerns_cards)
        loop.add_reader(uevents, hear, uevents, is_of_a_card)
        try:
            yield
        finally:
            loop.remove_reader(routes)
            loop.remove_reader(uevents)


def concerns_cards(message: bytes) -> bool:
    """Whether messages of routing netlink are about more than the devices of pods."""
    if not message:
        return True
    for each in MarshalRtnl().parse(message):
        event = each.get("event", "")
        if event in ("RTM_NEWLINK", "RTM_DELLINK"):
            info = each.get_attr("IFLA_LINKINFO")
            kind = info.get_attr("IFLA_INFO_KIND") if info is not None else None
            if kind not in _OTHERS:
                return True
        elif event in ("RTM_NEWADDR", "RTM_DELADDR"):
            if each["scope"] < _RT_SCOPE_LINK:
                return True
        elif event in ("RTM_NEWROUTE", "RTM_DELROUTE") and each["dst_len"] == 0:
            return True
    return False


def is_of_a_card(message: bytes) -> bool:
    """Whether a uevent is about a PCI function, its network device, or a driver."""
    if not message:
        return True
    head, *lines = message.decode(errors="replace").split("\0")
    fields = dict(line.partition("=")[::2] for line in lines)
    path = head.partition("@")[2]
    match fields.get("SUBSYSTEM"):
        case "pci" | "module" | "drivers":
            return True
        case "net":
            return "/pci" in path
        case _:
            return False


@contextmanager
def _listening(protocol: int, groups: int) -> Iterator[socket.socket]:
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    with socket.socket(socket.AF_NETLINK, kind, protocol) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BYTES)
        listener.bind((0, groups))
        yield listener


def _messages(of: socket.socket) -> Iterator[bytes]:
    """Yield what has come; nothing in place of what was lost."""
    while True:
        try:
            yield of.recv(_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            # ENOBUFS: there was no room for some.
            log.debug("netlink: %s", os.strerror(error.errno or 0))
            yield b""
