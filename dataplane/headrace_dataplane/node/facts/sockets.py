# SPDX-License-Identifier: Apache-2.0
"""Sockets: to whom a process has TCP connections."""

import re
import sys
from collections.abc import Iterator
from ipaddress import IPv6Address, ip_address

from headrace_dataplane.node.tree import Tree

_TABLES = ("net/tcp", "net/tcp6")
#: Of a line: remote address and port, and the inode. 01 is TCP_ESTABLISHED (tcp_states.h); between
#: it and the inode are queues, timer, retransmits, uid and timeout (proc_net_tcp.rst).
_ESTABLISHED = re.compile(
    r"^ *[0-9]+: [0-9A-F]+:[0-9A-F]{4} ([0-9A-F]{32}|[0-9A-F]{8}):([0-9A-F]{4}) 01 "
    r"(?:\S+ +){5}([0-9]+) ",
    re.MULTILINE,
)
_WORD_DIGITS = 8


def connected(tree: Tree, process: str) -> Iterator[tuple[str, int]]:
    """Yield address and port of whom a process is connected to.

    `process` is its folder below the root, whose tables are those of its network namespace.
    """
    files = tree.names(f"{process}/fd") or ()
    own = frozenset(tree.target(f"{process}/fd/{name}") for name in files)
    for table in _TABLES:
        for words, port, inode in _ESTABLISHED.findall(tree.text(f"{process}/{table}") or ""):
            if f"socket:[{inode}]" in own:
                yield _address(words), int(port, 16)


def _address(words: str) -> str:
    """Words of the network's byte order, each written as if it were a number of this machine."""
    packed = b"".join(
        int(words[at : at + _WORD_DIGITS], 16).to_bytes(4, sys.byteorder)
        for at in range(0, len(words), _WORD_DIGITS)
    )
    address = ip_address(packed)
    # Sockets for IPv6 have IPv4 addresses, too.
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)
