# SPDX-License-Identifier: Apache-2.0
"""Asks in a pod of the test: `python3 -m headrace_connectivity.pod.probe PROBES`.

As anywhere.py, with what takes a device in a network. The standard library alone, as endpoint.py.
"""

import hashlib
import secrets
import socket
import time
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

from headrace_connectivity.pod import anywhere, frames
from headrace_connectivity.pod.anywhere import Answer, Kinds, Probe
from headrace_connectivity.pod.endpoint import (
    DEVICE,
    LENGTH_BYTES,
    PORT,
    WATCHING,
    family_of,
    frames_of_device,
    unfragmented,
)

_AGAIN_SECONDS = 0.3
_MOST_BYTES = 1 << 16
_HEADER_BYTES = {socket.AF_INET: 20 + 8, socket.AF_INET6: 40 + 8}
# The least that IPv6 asks of a link; every network here has more.
_LEAST_MTU = 1280
_FORGERIES = 3
_NO_RAW = "this pod may not send raw frames: the runtime gives no NET_RAW"


def ask(probe: Probe) -> Answer:
    """Ask the endpoint at `to` for its name, until it answers; `number` is 1."""
    return Answer(text=_asked(probe.to, "ask", probe.seconds), number=1)


def largest(probe: Probe) -> Answer:
    """Find the largest packet that gets there and back whole: `number`, its IP packet in bytes.

    `text` is the device's MTU, which was tried first and longest.
    """
    mtu = int(Path(f"/sys/class/net/{DEVICE}/mtu").read_text())

    def passes(size: int, seconds: float) -> bool:
        try:
            _asked(probe.to, "ask", seconds, size - _HEADER_BYTES[family_of(probe.to)])
        except OSError:
            return False
        return True

    if passes(mtu, probe.seconds):
        return Answer(text=str(mtu), number=mtu)
    # Each of these takes at most as long as the first, and there are ten.
    least, most = _LEAST_MTU - 1, mtu
    while most - least > 1:
        middle = (least + most) // 2
        least, most = (middle, most) if passes(middle, 3 * _AGAIN_SECONDS) else (least, middle)
    return Answer(text=str(mtu), number=least if least >= _LEAST_MTU else 0)


def transfer(probe: Probe) -> Answer:
    """Send `size` random bytes by TCP: `text` is the name of who has received just these."""
    content = secrets.token_bytes(probe.size)
    with socket.create_connection((probe.to, PORT), probe.seconds) as connection:
        connection.settimeout(probe.seconds)
        connection.sendall(len(content).to_bytes(LENGTH_BYTES, "big") + content)
        answer = b""
        while data := connection.recv(_MOST_BYTES):
            answer += data
    digest, _, name = answer.decode(errors="replace").partition(" ")
    if not answer:
        return Answer(error="the connection ended before everything had arrived")
    if digest != hashlib.sha256(content).hexdigest():
        return Answer(error="other bytes arrived than were sent")
    return Answer(text=name, number=1)


def forge(probe: Probe) -> Answer:
    """Send the endpoint at `to` frames that are not this pod's to send: `text` is what arrived.

    Honest frames go before and after, and arrive, else nothing is known.
    """
    mac = _mac()
    # Another one, as local and as much of one station.
    other = f"{mac[:-2]}{int(mac[-2:], 16) ^ 1:02x}"
    mark = secrets.token_hex(8)
    payload = f"mark {mark} ".encode()
    source = probe.claim or probe.own
    forged = frames.udp(mac if probe.claim else other, source, probe.to, PORT, payload)
    answer = _between_honest(probe, mac, [forged])
    if answer.number and mark in _asked(probe.to, "seen", probe.seconds):
        return replace(answer, text=f"from {probe.claim or other}")
    return answer


def intrude(probe: Probe) -> Answer:
    """Send `packets`, which are for others, between honest frames that the endpoint at `to` sees.

    Who these packets may have reached is asked with `strays`.
    """
    mac = _mac()
    return _between_honest(
        probe, mac, [frames.framed(mac, bytes.fromhex(packet)) for packet in probe.packets]
    )


def _between_honest(probe: Probe, mac: str, forged: Sequence[bytes]) -> Answer:
    """Send forged frames between honest ones that arrive at `to`, else nothing is known."""
    try:
        raw = frames_of_device()
    except PermissionError:
        return Answer(skipped=_NO_RAW)

    def arrives() -> bool:
        mark = secrets.token_hex(8)
        honest = frames.udp(mac, probe.own, probe.to, PORT, f"mark {mark} ".encode())
        deadline = time.monotonic() + probe.seconds
        while time.monotonic() < deadline:
            raw.send(honest)
            if mark in _asked(probe.to, "seen", probe.seconds):
                return True
            time.sleep(_AGAIN_SECONDS)
        return False

    with raw:
        if not arrives():
            return Answer(error="not even honest frames arrive")
        for _ in range(_FORGERIES):
            for frame in forged:
                raw.send(frame)
        if not arrives():
            return Answer(error="honest frames do not arrive any more after a forged one")
    return Answer(number=1)


def strays(probe: Probe) -> Answer:
    """Ask the endpoints at `to` and `own` for `words` that they saw: `text` is where, if at all."""
    found = []
    for address in (probe.to, probe.own):
        seen = _asked(address, "seen", probe.seconds).split()
        if WATCHING not in seen:
            return Answer(skipped=f"{address} may not look at frames: the runtime gives no NET_RAW")
        if {*seen} & {*probe.words}:
            found.append(address)
    return Answer(text=" and ".join(found))


def trespass(probe: Probe) -> Answer:
    """Try to reach what is not in the network through its device: `text` is what answers."""
    with socket.socket(family_of(probe.to), socket.SOCK_STREAM) as out:
        out.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, DEVICE.encode())
        out.settimeout(probe.seconds)
        try:
            out.connect((probe.to, probe.port))
            return Answer(text="it accepts connections")
        except ConnectionRefusedError:
            return Answer(text="it refuses connections")
        except OSError:
            pass
    try:
        raw = frames_of_device()
    except PermissionError:
        return Answer()
    # By the gateway, whatever routes the pod has.
    with raw:
        deadline = time.monotonic() + probe.seconds
        raw.send(frames.tcp_syn(_mac(), probe.own, probe.to, probe.port))
        while (left := deadline - time.monotonic()) > 0:
            raw.settimeout(left)
            try:
                frame = raw.recv(_MOST_BYTES)
            except TimeoutError:
                break
            if frames.source_of(frame) == str(ip_address(probe.to)):
                return Answer(text="it answers by the gateway")
    return Answer()


def connect(probe: Probe) -> Answer:
    """Open a TCP connection as any program does; `text` is `connected`."""
    with socket.create_connection((probe.to, probe.port), probe.seconds):
        return Answer(text="connected")


def defaults(probe: Probe) -> Answer:
    """Find the devices of the default routes: `text` is like `4:eth0 6:eth0`."""
    found = []
    for line in Path("/proc/net/route").read_text().splitlines()[1:]:
        device, destination, *_, mask = line.split()[:8]
        if int(destination, 16) == int(mask, 16) == 0:
            found.append(f"4:{device}")
    routes = Path("/proc/net/ipv6_route")
    for line in routes.read_text().splitlines() if routes.exists() else ():
        destination, length, *_, device = line.split()
        # The kernel's own on lo refuses.
        if int(destination, 16) == int(length, 16) == 0 and device != "lo":
            found.append(f"6:{device}")
    return Answer(text=" ".join(sorted({*found})))


KINDS: Kinds = {
    **anywhere.KINDS,
    "ask": ask,
    "largest": largest,
    "transfer": transfer,
    "forge": forge,
    "intrude": intrude,
    "strays": strays,
    "trespass": trespass,
    "connect": connect,
    "defaults": defaults,
}


def _asked(to: str, verb: str, seconds: float, size: int = 0) -> str:
    """Ask an endpoint again and again; return what it answers, without the word.

    `size` is that of the question and so of the answer, in bytes. Raises TimeoutError, and another
    OSError when it cannot even be sent.
    """
    word = secrets.token_hex(8)
    question = f"{verb} {word} ".encode().ljust(size)
    deadline = time.monotonic() + seconds
    refused = ""
    with unfragmented(to) as asking:
        # From here on errors that the network reports are this socket's.
        asking.connect((to, PORT))
        while time.monotonic() < deadline:
            try:
                asking.send(question)
                again = time.monotonic() + _AGAIN_SECONDS
                while (left := again - time.monotonic()) > 0:
                    asking.settimeout(left)
                    answer = asking.recv(_MOST_BYTES).decode(errors="replace")
                    if answer.startswith(word):
                        return answer.removeprefix(word).strip()
            except TimeoutError:
                continue
            except OSError as error:
                refused = error.strerror or str(error)
                time.sleep(_AGAIN_SECONDS)
    raise OSError(refused) if refused else TimeoutError


def _mac() -> str:
    return Path(f"/sys/class/net/{DEVICE}/address").read_text().strip()


if __name__ == "__main__":
    anywhere.main(KINDS)
