# SPDX-License-Identifier: Apache-2.0
"""The far end of a port: a kernel device whose frames a test writes and reads."""

import errno
import socket
from collections import Counter, deque

from scapy.layers.inet6 import ICMPv6ND_NS
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet

from tests.engine import frames
from tests.engine.process import Namespace

ETH_P_ALL = 3
SOL_PACKET = 263
PACKET_IGNORE_OUTGOING = 23
SO_RCVBUFFORCE = 33
BUFFER_BYTES = 16 << 20
FRAME_BYTES = 65536


class Wire:
    """One device; counts every frame, so that none can get lost unnoticed.

    `hosts` (address -> MAC address) are answered for when the engine asks by ARP or ND.
    """

    def __init__(self, namespace: Namespace, device: str, mac: str) -> None:
        self.device = device
        self.mac = mac
        self.hosts: dict[str, str] = {}
        self.inbox: deque[bytes] = deque()
        self.sent = 0
        self.received = 0
        self.learned = 0
        self.originated = 0
        self.drops: Counter[str] = Counter()
        with namespace.entered():
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._socket.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
        self._socket.setblocking(False)
        self._socket.bind((device, ETH_P_ALL))

    def close(self) -> None:
        self._socket.close()

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, frame: Packet | bytes, drop: str | None = None, learned: bool = False) -> None:
        """Send a frame to the engine and say what becomes of it.

        `drop` is the reason it will be dropped for; `learned`: it ends in the neighbour table.
        Otherwise it is forwarded or answered.
        """
        self._socket.send(bytes(frame))
        self.sent += 1
        self.learned += learned
        if drop is not None:
            self.drops[drop] += 1

    def read(self) -> None:
        """Take in what the engine has sent, and answer what it asked."""
        while True:
            try:
                data = self._socket.recv(FRAME_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno == errno.ENETDOWN:
                    continue
                raise
            self.received += 1
            self.originated += frames.is_originated(data)
            if not (self.hosts and frames.is_question(data) and self._answer(Ether(data))):
                self.inbox.append(data)

    def _answer(self, question: Packet) -> bool:
        if ARP in question:
            mac = self.hosts.get(question[ARP].pdst)
            if mac is not None:
                self.send(frames.arp_reply(question, mac), learned=True)
        else:
            mac = self.hosts.get(question[ICMPv6ND_NS].tgt)
            if mac is not None:
                self.send(frames.advertisement(question, mac), learned=True)
        return mac is not None
