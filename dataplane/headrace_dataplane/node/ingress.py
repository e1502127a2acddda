# SPDX-License-Identifier: Apache-2.0
"""Drops what arrives at a device after the dataplane has read it, before the host's stack does.

The settings of headrace_dataplane.netdev leave one way into the host: broadcasts and multicasts
from 0.0.0.0, which no address or route stops.
"""

import ctypes
import errno
import logging
import os
import platform
import struct
from typing import Any

from pyroute2 import NetlinkError

log = logging.getLogger(__name__)

# Of bpf(2): linux/bpf.h, and asm/unistd.h, where newer architectures all have the same.
_SYSCALL = {"x86_64": 321}.get(platform.machine(), 280)
_BPF_PROG_LOAD = 5
_BPF_PROG_TYPE_SCHED_CLS = 3
_ATTRIBUTES = "=IIQQIIQII16s"
_NAME = b"headrace_drop"
_TC_ACT_SHOT = 2
# r0 = TC_ACT_SHOT; exit
_PROGRAM = struct.pack("=BBhiBBhi", 0xB7, 0, 0, _TC_ACT_SHOT, 0x95, 0, 0, 0)
# TC_H_CLSACT and TC_H_MIN_INGRESS of linux/pkt_sched.h: tc's "ingress" of clsact, which comes after
# packet sockets.
_INGRESS = 0xFFFFFFF2

_libc = ctypes.CDLL(None, use_errno=True)


def drop_ingress(host: Any, index: int, device: str) -> None:
    """Have the host's stack get nothing from a device that has no filter yet, until it is gone.

    `host` is an IPRoute. A kernel without eBPF or cls_bpf: a warning.
    """
    try:
        program = _load()
        try:
            host.tc("add", "clsact", index)
            name = _NAME.decode()
            host.tc(
                *("add-filter", "bpf", index),
                parent=_INGRESS,
                fd=program,
                name=name,
                direct_action=True,
            )
        finally:
            os.close(program)
    except (NetlinkError, OSError) as error:
        number = (error.code if isinstance(error, NetlinkError) else error.errno) or 0
        if number == errno.ENODEV:
            raise
        log.warning(
            "%s: no filter that drops what is not the dataplane's: %s: broadcasts of its pod may "
            "reach this node: use a kernel with CONFIG_NET_CLS_BPF",
            device,
            os.strerror(number),
        )


def _load() -> int:
    """Load the program and return an open file. Raises OSError."""
    program = ctypes.create_string_buffer(_PROGRAM, len(_PROGRAM))
    license_ = ctypes.create_string_buffer(b"")
    attributes = struct.pack(
        _ATTRIBUTES,
        *(_BPF_PROG_TYPE_SCHED_CLS, len(_PROGRAM) // 8),
        *(ctypes.addressof(program), ctypes.addressof(license_)),
        *(0, 0, 0, 0, 0),
        _NAME,
    )
    file = int(_libc.syscall(_SYSCALL, _BPF_PROG_LOAD, attributes, len(attributes)))
    if file < 0:
        raise OSError(ctypes.get_errno(), "bpf")
    return file
