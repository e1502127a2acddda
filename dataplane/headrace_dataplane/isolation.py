# SPDX-License-Identifier: Apache-2.0
"""Kernel devices that the dataplane reads: what is the dataplane's there the host keeps out of.

An AFPacket attachment reads what arrives at a device; the kernel that owns the device reads it
too, and speaks there. Of an endpoint's device filters drop both: what arrives once the dataplane
has read it, and all that is sent but what passes by the queueing layer, as the dataplane's does
(`qdisc_bypass`). An uplink's device and its MAC address are the host's as well: there it is what
arrives for the node's underlay prefix, which a host that forwards would send on a second time.
Unlike settings in /proc/sys, a pod without privileges may put filters there.
"""

import errno
import ipaddress
import logging
import os
import socket
import struct
import zlib
from collections.abc import Iterable, Mapping
from contextlib import suppress

from headrace_dataplane.logs import warn_once

log = logging.getLogger(__name__)

# linux/rtnetlink.h and linux/netlink.h
_RTM_NEWQDISC, _RTM_NEWTFILTER = 36, 44
_NLM_F_REQUEST, _NLM_F_ACK, _NLM_F_EXCL, _NLM_F_CREATE = 0x1, 0x4, 0x200, 0x400
_NLMSG_ERROR = 2
_HEADER = struct.Struct("=IHHII")
# linux/pkt_sched.h: clsact, and tc's "ingress" (after packet sockets) and "egress" of it.
_CLSACT, _CLSACT_HANDLE, _INGRESS, _EGRESS = 0xFFFFFFF1, 0xFFFF0000, 0xFFFFFFF2, 0xFFFFFFF3
# linux/pkt_cls.h and linux/filter.h. Classic BPF: the other kind needs CAP_BPF to load.
_TCA_KIND, _TCA_OPTIONS = 1, 2
_TCA_BPF_OPS_LEN, _TCA_BPF_OPS, _TCA_BPF_NAME, _TCA_BPF_FLAGS = 4, 5, 7, 8
_ACT_DIRECT = 1
_TC_ACT_UNSPEC, _TC_ACT_SHOT = 0xFFFFFFFF, 2
_LOAD_HALF, _LOAD_WORD, _JUMP_IF_EQUAL, _RETURN = 0x28, 0x20, 0x15, 0x06
_OPERATION = struct.Struct("=HBBI")
_ETH_P_ALL, _ETH_P_IPV6 = 3, 0x86DD
# Of a frame: EtherType, and an IPv6 packet's destination.
_ETHER_TYPE_AT, _DESTINATION_AT = 12, 14 + 24
_PRIORITY = 1
# Ours by this number alone: what has it needs no second one.
_HANDLE = 0x4852
_DROP_ALL = _OPERATION.pack(_RETURN, 0, 0, _TC_ACT_SHOT)


def isolate(devices: Iterable[str]) -> None:
    """Keep the host's stack out of these devices until they are gone.

    Those that are not there are left for later. Where it may not, it warns once.
    """
    for device in devices:
        _put(
            device,
            ((_INGRESS, _HANDLE, _DROP_ALL), (_EGRESS, _HANDLE, _DROP_ALL)),
            "its machine may hear this node, and its broadcasts may reach this node",
        )


def keep_apart(uplinks: Mapping[str, str]) -> None:
    """Keep what arrives at a device for a /64 from the host's stack, which has the rest.

    Device -> the node's underlay prefix. Absent devices and warnings as of isolate().
    """
    for device, prefix in uplinks.items():
        network = ipaddress.IPv6Network(prefix)
        _put(
            device,
            ((_INGRESS, _handle(network), _drop_to(network)),),
            f"a host that forwards IPv6 sends what comes for {prefix} on a second time",
        )


def _drop_to(network: ipaddress.IPv6Network) -> bytes:
    """Return the program that drops IPv6 packets to a /64 and says nothing of others."""
    first, second = struct.unpack_from("!II", network.network_address.packed)
    program = (
        (_LOAD_HALF, 0, 0, _ETHER_TYPE_AT),
        (_JUMP_IF_EQUAL, 0, 5, _ETH_P_IPV6),
        (_LOAD_WORD, 0, 0, _DESTINATION_AT),
        (_JUMP_IF_EQUAL, 0, 3, first),
        (_LOAD_WORD, 0, 0, _DESTINATION_AT + 4),
        (_JUMP_IF_EQUAL, 0, 1, second),
        (_RETURN, 0, 0, _TC_ACT_SHOT),
        (_RETURN, 0, 0, _TC_ACT_UNSPEC),
    )
    return b"".join(_OPERATION.pack(*operation) for operation in program)


def _handle(network: ipaddress.IPv6Network) -> int:
    """Return a number of its own for a prefix: other Pipelines may have the same device."""
    return _HANDLE << 16 | zlib.crc32(network.network_address.packed) & 0xFFFF


def _put(device: str, filters: Iterable[tuple[int, int, bytes]], risk: str) -> None:
    """Have filters (parent, handle, program) on a device; `risk`: what happens without."""
    try:
        with suppress(_GoneError), _netlink() as kernel:
            index = _index(device)
            _ask(kernel, _RTM_NEWQDISC, _qdisc(index))
            for parent, handle, program in filters:
                _ask(kernel, _RTM_NEWTFILTER, _filter(index, parent, handle, program))
    except OSError as error:
        # ENOENT or EOPNOTSUPP of a kernel without cls_bpf.
        warn_once(
            log,
            f"{device}: no filters that drop what is not the host's: {error.strerror}: {risk}: "
            "give CAP_NET_ADMIN and a kernel with CONFIG_NET_CLS_BPF",
        )


class _GoneError(Exception):
    """The device is."""


def _index(device: str) -> int:
    try:
        return socket.if_nametoindex(device)
    except OSError as error:
        raise _GoneError from error


def _qdisc(index: int) -> bytes:
    return _tcmsg(index, _CLSACT_HANDLE, _CLSACT, 0) + _attribute(_TCA_KIND, b"clsact\0")


def _filter(index: int, parent: int, handle: int, program: bytes) -> bytes:
    info = _PRIORITY << 16 | socket.htons(_ETH_P_ALL)
    options = (
        (_TCA_BPF_OPS_LEN, struct.pack("=H", len(program) // _OPERATION.size)),
        (_TCA_BPF_OPS, program),
        (_TCA_BPF_NAME, b"headrace_drop\0"),
        (_TCA_BPF_FLAGS, struct.pack("=I", _ACT_DIRECT)),
    )
    return (
        _tcmsg(index, handle, parent, info)
        + _attribute(_TCA_KIND, b"bpf\0")
        + _attribute(_TCA_OPTIONS, b"".join(_attribute(*option) for option in options))
    )


def _tcmsg(index: int, handle: int, parent: int, info: int) -> bytes:
    return struct.pack("=BxxxiIII", socket.AF_UNSPEC, index, handle, parent, info)


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + b"\0" * (-len(value) % 4)


def _netlink() -> socket.socket:
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)


def _ask(kernel: socket.socket, kind: int, body: bytes) -> None:
    """Have something made; that it is there already is well. Raises OSError, _GoneError."""
    flags = _NLM_F_REQUEST | _NLM_F_ACK | _NLM_F_CREATE | _NLM_F_EXCL
    kernel.send(_HEADER.pack(_HEADER.size + len(body), kind, flags, 1, 0) + body)
    answer = kernel.recv(1 << 16)
    _, what, *_ = _HEADER.unpack_from(answer)
    number = -struct.unpack_from("=i", answer, _HEADER.size)[0] if what == _NLMSG_ERROR else 0
    if number == errno.ENODEV:
        raise _GoneError
    if number not in (0, errno.EEXIST):
        raise OSError(number, os.strerror(number))
