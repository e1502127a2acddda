# SPDX-License-Identifier: Apache-2.0
"""Kernel devices: which are there, and news of them."""

import asyncio
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress

_RTMGRP_LINK = 1  # linux/rtnetlink.h


def links() -> Mapping[str, int]:
    """Return the kernel's devices and their indexes: one that was made anew has another."""
    return {name: index for index, name in socket.if_nameindex()}


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
