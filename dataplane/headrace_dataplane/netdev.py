# SPDX-License-Identifier: Apache-2.0
"""Kernel devices that belong to an endpoint: the host's own stack keeps out of them.

An AFPacket attachment reads what arrives at a device; the kernel that owns the device reads it
too. Left alone it answers ARP for the host's addresses, takes packets for them, and speaks
neighbour discovery of its own, which the engine sees: a way from a tenant to its node.
"""

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from headrace_dataplane.ingress import drop_ingress

log = logging.getLogger(__name__)

SYSCTL = Path("/proc/sys/net")
_RTMGRP_LINK = 1  # linux/rtnetlink.h
# Documentation/networking/ip-sysctl.rst of the kernel: no IPv6 at all, no answer to ARP for any
# local address, nothing taken in whose answer would leave by another device, nothing forwarded.
SILENCE: Mapping[str, str] = {
    "ipv6/conf/{}/disable_ipv6": "1",
    "ipv4/conf/{}/arp_ignore": "8",
    "ipv4/conf/{}/rp_filter": "1",
    "ipv4/conf/{}/forwarding": "0",
}


def isolate(devices: Iterable[str], root: Path = SYSCTL) -> None:
    """Keep the host's stack out of these devices; those that are not there are left for later.

    Writes only what differs. Where it may not write settings (an unprivileged pod) it warns once;
    a filter drops what arrives all the same.
    """
    devices = tuple(devices)
    for device in devices:
        try:
            drop_ingress(device)
        except OSError as error:
            _warn_once(
                f"{device}: no filter that drops what is not the dataplane's: {error.strerror}: "
                "broadcasts of its machine may reach this node: give CAP_NET_ADMIN and a kernel "
                "with CONFIG_NET_CLS_BPF"
            )
    if devices and os.statvfs(root).f_flag & os.ST_RDONLY:
        settings = ", ".join(f"{name.format('DEVICE')}={to}" for name, to in SILENCE.items())
        _warn_once(
            f"{root} is read-only: the host may speak on endpoints' devices unless who makes them "
            f"sets {settings}"
        )
        return
    for device in devices:
        for name, wanted in SILENCE.items():
            setting = root / name.format(device)
            try:
                if setting.read_text().strip() != wanted:
                    setting.write_text(wanted)
            except FileNotFoundError:
                continue
            except OSError as error:
                _warn_once(f"{setting}: {error.strerror}: the host may speak on {device}")


def indexes(devices: Iterable[str]) -> Mapping[str, int]:
    """Return those of these devices that the kernel has: one that was made anew has another."""
    there = {name: index for index, name in socket.if_nameindex()}
    return {device: there[device] for device in devices if device in there}


@contextmanager
def link_events(happened: Callable[[], None]) -> Iterator[None]:
    """Have a function called by the running event loop whenever devices come, go or change."""
    loop = asyncio.get_running_loop()

    def drain() -> None:
        # Messages that did not fit are lost: that, too, says that something has happened.
        with suppress(OSError):
            while events.recv(1 << 16):
                pass
        happened()

    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as events:
        events.setblocking(False)
        events.bind((0, _RTMGRP_LINK))
        loop.add_reader(events, drain)
        try:
            yield
        finally:
            loop.remove_reader(events)


_warned: set[str] = set()


def _warn_once(message: str) -> None:
    if message not in _warned:
        _warned.add(message)
        log.warning("%s", message)
