# SPDX-License-Identifier: Apache-2.0
"""Answers in a pod of the test: `python3 -m headrace_connectivity.pod.endpoint NAME ADDRESS...`.

The standard library alone: it starts in every pod of the test, on nodes that may be busy.

UDP: `ask WORD` is answered by `WORD NAME`, filled up to the length of the question; `mark WORD` is
remembered, and `seen WORD` answered by `WORD` and all that is. `stray WORD` is remembered from
whatever frame it is in, also one that the kernel would not take; where the pod may look at frames,
`watching` is the first of what was seen. TCP: so many bytes as the first
eight say are answered by `DIGEST NAME` (SHA-256).
"""

import hashlib
import re
import selectors
import signal
import socket
import sys
import threading
from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import NoReturn

PORT = 41952
"""UDP and TCP, of every endpoint: any that is free in a pod that does nothing else."""
DEVICE = "headrace0"
"""The pod's device in its Headrace network: not net1, which Multus takes for itself."""
WATCHING = "watching"
"""Among what was seen: strays are, too."""
LENGTH_BYTES = 8
"""Of the number that a transfer begins with, big-endian."""

# linux/in.h, linux/in6.h: no packet is fragmented, whatever the kernel has heard of the way.
_IP_MTU_DISCOVER, _IPV6_MTU_DISCOVER = 10, 23
_PMTUDISC_PROBE = 3
_MOST_BYTES = 1 << 16
# All of them fit into one packet.
_MARKS = 50
_PATIENCE_SECONDS = 60.0
_STRAY = re.compile(rb"stray ([0-9a-f]{16})")
_ETH_P_ALL = 3


def family_of(address: str) -> socket.AddressFamily:
    """Return the address' family."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def unfragmented(address: str) -> socket.socket:
    """Return a UDP socket for the address' family that sends packets whole, or not at all."""
    found = socket.socket(family_of(address), socket.SOCK_DGRAM)
    if found.family == socket.AF_INET6:
        found.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_PROBE)
    else:
        found.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_PROBE)
    return found


def frames_of_device() -> socket.socket:
    """Return a socket for whole frames of the device. Raises PermissionError."""
    found = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
    found.bind((DEVICE, _ETH_P_ALL))
    return found


def serve(name: str, addresses: Sequence[str]) -> NoReturn:
    """Answer at the addresses until SIGTERM. Raises OSError with the address in its text."""
    # Process 1 ignores it otherwise.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    marks: deque[bytes] = deque(maxlen=_MARKS)
    seen: list[bytes] = []
    ready = selectors.DefaultSelector()
    for address in addresses:
        # A socket for each: an answer leaves from where the question went.
        listener = unfragmented(address)
        try:
            listener.bind((address, PORT))
        except OSError as error:
            raise OSError(error.errno, f"cannot listen on {address}: {error.strerror}") from error
        answer = partial(_answer, listener, name.encode(), seen, marks)
        ready.register(listener, selectors.EVENT_READ, answer)
    try:
        watched = frames_of_device()
    except OSError:
        # Who may not send such frames either: the checks that are about them are skipped.
        pass
    else:
        seen.append(WATCHING.encode())
        ready.register(watched, selectors.EVENT_READ, partial(_watch, watched, marks))
    # TCP everywhere: the kubelet asks at the cluster's own address whether the pod is ready.
    for family in {socket.AF_INET, *map(family_of, addresses)}:
        anywhere = "::" if family == socket.AF_INET6 else ""
        door = socket.create_server((anywhere, PORT), family=family, backlog=64)
        ready.register(door, selectors.EVENT_READ, partial(_accept, door, name.encode()))
    while True:
        for key, _ in ready.select():
            key.data()


def _watch(watched: socket.socket, marks: deque[bytes]) -> None:
    try:
        frame, where = watched.recvfrom(_MOST_BYTES)
    except OSError:
        # The device is down, or has gone.
        return
    # The third is the packet's type: what this pod sends is no stray.
    if where[2] == socket.PACKET_OUTGOING:
        return
    for word in _STRAY.findall(frame):
        if word not in marks:
            marks.append(word)


def _answer(listener: socket.socket, name: bytes, seen: list[bytes], marks: deque[bytes]) -> None:
    try:
        question, sender = listener.recvfrom(_MOST_BYTES)
    except OSError:
        # What an earlier answer met: ICMP of somebody who has gone.
        return
    verb, _, rest = question.partition(b" ")
    word = rest.split(b" ", 1)[0]
    if verb == b"mark":
        if word not in marks:
            marks.append(word)
        return
    answer = b" ".join((word, *seen, *marks) if verb == b"seen" else (word, name))
    try:
        listener.sendto(answer.ljust(len(question)), sender)
    except OSError as error:
        print(f"no answer to {sender[0]}: {error.strerror}", file=sys.stderr, flush=True)


def _accept(door: socket.socket, name: bytes) -> None:
    connection, _ = door.accept()
    threading.Thread(target=_receive, args=(connection, name), daemon=True).start()


def _receive(connection: socket.socket, name: bytes) -> None:
    with connection:
        connection.settimeout(_PATIENCE_SECONDS)
        digest = hashlib.sha256()
        try:
            left = int.from_bytes(connection.recv(LENGTH_BYTES, socket.MSG_WAITALL), "big")
            while left and (data := connection.recv(min(left, _MOST_BYTES))):
                digest.update(data)
                left -= len(data)
            if not left:
                connection.sendall(digest.hexdigest().encode() + b" " + name)
        except OSError as error:
            print(f"a transfer broke off: {error}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        serve(sys.argv[1], sys.argv[2:])
    except OSError as error:
        sys.exit(str(error.strerror or error))
