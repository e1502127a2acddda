# SPDX-License-Identifier: Apache-2.0
"""The other end of a PF's cable: a device on which frames are sent, received and counted."""

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from headrace_demo import lab

MAC = "02:00:00:00:00:aa"
"""Whom frames from the wire are from, where it does not matter."""
_ETH_P_ALL = 3
_SOL_PACKET, _PACKET_STATISTICS, _PACKET_IGNORE_OUTGOING = 263, 6, 23
_SO_RCVBUFFORCE = 33
_BUFFER = 64 << 20


@dataclass(frozen=True)
class Counters:
    """What passed the wire, by the kernel's count."""

    sent: int
    """To the PF."""
    lost: int
    """On the way there: the PF did not read them in time."""
    received: int
    """From the PF."""


class Wire:
    """A TAP device whose other end is QEMU's; nothing but tests sends on it."""

    def __init__(self, namespace: lab.Namespace, device: str = "wire0") -> None:
        """Make it in a namespace."""
        self._namespace = namespace
        self.device = device
        namespace.ip(f"tuntap add dev {device} mode tap")
        self._set_up()

    def plug(self, namespace: lab.Namespace, device: str) -> None:
        """Move it to a namespace and name it anew: a node's uplink, as if by a cable."""
        self._namespace.ip(f"link set {self.device} netns {namespace.name} name {device}")
        self._namespace, self.device = namespace, device
        self._set_up()

    def send(self, *frames: bytes, count: int = 1) -> None:
        """Send frames to the PF, all of them so many times; short ones are padded."""
        padded = [frame.ljust(60, b"\0") for frame in frames]
        with self._socket() as raw:
            for _ in range(count):
                for frame in padded:
                    raw.send(frame)

    @contextmanager
    def listening(self, matches: Callable[[bytes], bool]) -> Iterator["Listener"]:
        """Collect frames from the PF that match, until the end."""
        with self._socket() as raw:
            listener = Listener(raw, matches)
            try:
                yield listener
            finally:
                listener.stop()

    def counters(self) -> Counters:
        """Return what has passed since it was made."""
        lines = self._namespace.command("cat", "/proc/net/dev").splitlines()
        fields = next(line.split() for line in lines if line.strip().startswith(f"{self.device}:"))
        return Counters(received=int(fields[2]), sent=int(fields[10]), lost=int(fields[12]))

    def _set_up(self) -> None:
        # The kernel has nothing to say here; and QEMU may be slower than who sends.
        self._namespace.command("sysctl", "-qw", f"net.ipv6.conf.{self.device}.disable_ipv6=1")
        self._namespace.ip(f"link set {self.device} txqueuelen 16384 up")

    def _socket(self) -> socket.socket:
        with self._namespace.entered():
            raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        raw.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
        raw.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
        raw.bind((self.device, _ETH_P_ALL))
        return raw


class Listener:
    """What comes from the PF."""

    def __init__(self, raw: socket.socket, matches: Callable[[bytes], bool]) -> None:
        self.count = 0
        """Of frames that matched."""
        self.last = b""
        """The newest of them."""
        self._raw = raw
        self._matches = matches
        self._lost = 0
        self._ends = threading.Event()
        raw.settimeout(0.1)
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def lost(self) -> int:
        """How many frames there was no room for, matching or not."""
        _, lost = struct.unpack("II", self._raw.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))
        self._lost += lost
        return self._lost

    def stop(self) -> None:
        """Collect no more."""
        self._ends.set()
        self._thread.join()

    def _listen(self) -> None:
        while not self._ends.is_set():
            try:
                frame = self._raw.recv(1 << 16)
            except TimeoutError:
                continue
            if self._matches(frame):
                self.last = frame
                self.count += 1
