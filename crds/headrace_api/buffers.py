# SPDX-License-Identifier: Apache-2.0
"""Packet buffers of an engine, reckoned before there is one: what memory a pod is to ask for.

The engine keeps buffers for all that may come to hold some, and takes up no port for which too few
are left (dataplane/engine/buffers.h). Tests compare its figures with these.
"""

from collections.abc import Iterable
from math import gcd

from .attachment import AttachmentType

HOLDING = frozenset({AttachmentType.SRIOV, AttachmentType.VIRTIO_USER})
"""Types of ports whose queues hold buffers; all others copy frames."""

ORDINARY_MTU, JUMBO_MTU = 1960, 9216
"""Largest L3 MTU, in bytes, of an engine's ports: its own choice, and the API's largest."""

# A worker's ring of packets to route, two bursts, and its cache of the pool.
_CACHE = 384
_WORKER = 1024 + 2 * 64 + _CACHE
# Packets on their way to the control thread, those that wait for neighbours, and its cache.
_ENGINE = 6144 + 4096 + _CACHE
_DESCRIPTORS = 1024
_MOST_RECEIVE_QUEUES = 16
# What other workers hand to the first, for a port with one transmit queue.
_RING = 1024
# On top, so that queues which are all full are no alarm (HeadraceMempoolLow).
_SPARE_SHARE = 8
# Ports that there can be: RTE_MAX_ETHPORTS of Debian's DPDK.
_PORTS = 32

_LINE = 64
_HEADERS = 3 * _LINE
_HEADROOM = 128
_LEAST_ROOM = 2048
# Outer IPv6 header, Ethernet header and checksum.
_FRAME_OVERHEAD = 40 + 14 + 4
_SLOT = 16
_MIB = 1 << 20
# What is not for buffers: an eighth, and at least, in MiB:
_REST_SHARE = 8
_REST_MIB = 32


def largest_mtu(uplinks: Iterable[int]) -> int:
    """Return the largest MTU of an engine's ports, given those of its uplinks, in bytes."""
    return JUMBO_MTU if any(mtu > ORDINARY_MTU for mtu in uplinks) else ORDINARY_MTU


def engine_buffers(workers: int) -> int:
    """Return how many buffers an engine may hold whatever its ports are."""
    return _ENGINE + workers * _WORKER


def buffers(workers: int, uplinks: int, functions: int) -> int:
    """Return how many buffers an engine is to have.

    `uplinks`: how many hold buffers (HOLDING); they have as many queues as there are workers.
    `functions`: devices of Interfaces that do, with one receive queue each. All other ports that
    there can be have one transmit queue.
    """
    queues = uplinks * (min(workers, _MOST_RECEIVE_QUEUES) + workers) + functions * (1 + workers)
    others = max(_PORTS - uplinks - functions, 0) if workers > 1 else 0
    needed = engine_buffers(workers) + queues * _DESCRIPTORS + others * _RING
    return needed + needed // _SPARE_SHARE


def buffer_bytes(mtu: int) -> int:
    """Return the bytes from one buffer to the next, for frames of an L3 MTU."""
    room = max(mtu + _FRAME_OVERHEAD, _LEAST_ROOM) + _HEADROOM
    lines = -(-(_HEADERS + room) // _LINE)
    while gcd(lines, 6) > 1:
        lines += 1
    return lines * _LINE


def memory_mebibytes(count: int, mtu: int) -> int:
    """Return the least memory of an engine into which so many buffers fit, in MiB."""
    needed = -(-count * (buffer_bytes(mtu) + _SLOT) // _MIB)
    return max(needed + _REST_MIB, -(-needed * _REST_SHARE // (_REST_SHARE - 1)))
