# SPDX-License-Identifier: Apache-2.0
"""Questions that a kernel answers by itself (RFC 826): the shortest way to a device and back."""

from collections.abc import Callable

from tests.sriov.wire import MAC


def who_has(address: str, asks: str) -> bytes:
    """Return a broadcast request from the wire."""
    sender = _bytes(MAC)
    head = b"\xff" * 6 + sender + bytes.fromhex("0806 0001 0800 0604 0001")
    return head + sender + _packed(asks) + bytes(6) + _packed(address)


def answers(address: str, mac: str) -> Callable[[bytes], bool]:
    """Return what knows the reply that an address is at a MAC address."""
    source, reply = _bytes(mac), b"\0\2" + _bytes(mac) + _packed(address)
    return lambda frame: frame[6:12] == source and frame[20:32] == reply


def _bytes(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def _packed(address: str) -> bytes:
    return bytes(map(int, address.split(".")))
