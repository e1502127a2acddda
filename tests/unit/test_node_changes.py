# SPDX-License-Identifier: Apache-2.0
"""What the kernel tells is told on where it is about cards, and not for each pod."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable

import pytest
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from headrace_dataplane.node.changes import concerns_cards, is_of_a_card, kernel_changes


def link(name: str, kind: str = "", number: int = 16) -> bytes:
    message = ifinfmsg()
    message["header"]["type"] = number  # RTM_NEWLINK
    message["attrs"] = [("IFLA_IFNAME", name)]
    if kind:
        message["attrs"].append(("IFLA_LINKINFO", {"attrs": [("IFLA_INFO_KIND", kind)]}))
    message.encode()
    return bytes(message.data)


def address(scope: int) -> bytes:
    message = ifaddrmsg()
    message["header"]["type"] = 20  # RTM_NEWADDR
    message["family"], message["scope"] = 2, scope
    message["attrs"] = [("IFA_ADDRESS", "192.0.2.1")]
    message.encode()
    return bytes(message.data)


def route(length: int) -> bytes:
    message = rtmsg()
    message["header"]["type"] = 24  # RTM_NEWROUTE
    message["family"], message["dst_len"] = 2, length
    message["attrs"] = [("RTA_DST", "192.0.2.1")] if length else [("RTA_GATEWAY", "192.0.2.1")]
    message.encode()
    return bytes(message.data)


@pytest.mark.parametrize(
    ("message", "concerns"),
    [
        (link("ens1f0"), True),
        (link("ens1f0", number=17), True),
        (link("bond0", "bond"), True),
        (link("ens1f0.5", "vlan"), True),
        (link("hr0123456789ab", "veth"), False),
        (link("cali1", "veth") + link("ens1f0"), True),
        (link("vxlan.calico", "vxlan"), False),
        (address(0), True),
        (address(253), False),
        (route(0), True),
        (route(32), False),
        # What the kernel could not tell.
        (b"", True),
    ],
)
def test_messages_of_routing_netlink(message: bytes, concerns: bool) -> None:
    assert concerns_cards(message) is concerns


@pytest.mark.parametrize(
    ("text", "of_a_card"),
    [
        ("bind@/devices/pci0000:00/0000:3b:02.1\0ACTION=bind\0SUBSYSTEM=pci\0", True),
        ("add@/module/vfio_pci\0ACTION=add\0SUBSYSTEM=module\0", True),
        ("add@/bus/pci/drivers/vfio-pci\0ACTION=add\0SUBSYSTEM=drivers\0", True),
        ("add@/devices/pci0000:00/0000:3b:00.0/net/ens1f0\0SUBSYSTEM=net\0", True),
        ("add@/devices/virtual/net/veth0\0ACTION=add\0SUBSYSTEM=net\0", False),
        ("add@/devices/virtual/block/loop1\0SUBSYSTEM=block\0", False),
        ("", True),
        ("nonsense", False),
        ("\0=\0\0SUBSYSTEM", False),
    ],
)
def test_uevents(text: str, of_a_card: bool) -> None:
    assert is_of_a_card(text.encode()) is of_a_card
    assert is_of_a_card(b"\xff\xfe" + text.encode()) in (True, False)


# In a network namespace of its own: it makes devices.
ALONE = """
import asyncio, subprocess
from headrace_dataplane.node.changes import kernel_changes

async def main():
    heard = asyncio.Event()
    with kernel_changes(heard.set):
        for words in ("hra type veth peer name hrb", "br0 type bridge"):
            subprocess.run(["ip", "link", "add", *words.split()], check=True)
        async with asyncio.timeout(20):
            await heard.wait()
        print("heard")

asyncio.run(main())
"""


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="makes a network namespace")
def test_this_kernel_tells() -> None:
    words = ("unshare", "--net", sys.executable, "-c", ALONE)
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout == "heard\n", done.stderr


def test_it_listens_and_ends() -> None:
    async def listen(changed: Callable[[], None]) -> None:
        with kernel_changes(changed):
            await asyncio.sleep(0)

    asyncio.run(listen(lambda: None))
