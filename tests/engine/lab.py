# SPDX-License-Identifier: Apache-2.0
"""What a test needs of one engine: objects in, frames in and out, and every frame accounted for."""

import hashlib
import json
import select
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import TypeVar

from scapy.layers.l2 import Ether
from scapy.packet import Packet

from headrace_dataplane.protocol import Change, Delete, Item, JSONObject, Put
from tests.engine import frames
from tests.engine.process import Engine, Namespace, until
from tests.engine.wire import Wire

SECONDS = 20.0
"""How long to wait for what must happen; only a broken engine takes so long."""

IN_FLIGHT = 200
"""Frames sent before the engine must have taken them: less than a device's queue holds."""

ItemT = TypeVar("ItemT", bound=Item)
Match = Callable[[Packet], bool]


def put(kind: str, key: str, **spec: object) -> Put:
    """Return an object whose hash follows from its spec, which must be good for JSON."""
    text = json.dumps(spec, sort_keys=True)
    return Put(kind, key, hashlib.sha256(text.encode()).hexdigest()[:32], json.loads(text))


def settings(**spec: object) -> Put:
    return put(
        "settings", "engine", **{"idle": "adaptive", "burst": 64, "icmpPerSecond": 1000, **spec}
    )


class Counters:
    """What the engine counted under one Interface or uplink."""

    def __init__(self, reply: JSONObject) -> None:
        drops = reply.get("drops", {})
        assert isinstance(drops, dict)
        self.values = Counter({k: v for k, v in reply.items() if isinstance(v, int)})
        self.drops = Counter({k: v for k, v in drops.items() if isinstance(v, int)})


class Lab:
    """One engine, the wires to its ports, and the balance of what went in and what came out."""

    def __init__(self, engine: Engine, namespace: Namespace) -> None:
        self.engine = engine
        self.namespace = namespace
        self.wires: dict[str, Wire] = {}
        self._owner: dict[str, tuple[str, str]] = {}
        self._base: dict[str, Counters] = {}

    # Objects.

    def commit(self, *changes: Change) -> None:
        """Commit at the next generation."""
        client = self.engine.client
        client.commit(client.digests().generation + 1, changes)

    def clear(self) -> None:
        """Delete all objects but the settings, which get their defaults."""
        digests = self.engine.client.digests().digests
        deletes = [
            Delete(kind, key)
            for kind, keys in digests.items()
            if kind != "settings"
            for key in keys
        ]
        self.commit(settings(), *deletes)
        for wire in self.wires.values():
            wire.close()
        self.wires.clear()
        self._owner.clear()
        self._base.clear()

    # Wires.

    def connect(self, name: str, device: str, mac: str, owner: tuple[str, str]) -> Wire:
        """Open the far end of a port that is new, so that all its counters are zero.

        `owner` is the kind and key of what is, or will be, on it.
        """
        wire = Wire(self.namespace, device, mac)
        self.wires[name] = wire
        self._owner[name] = owner
        self._base[name] = Counters({})
        return wire

    def disconnect(self, name: str, close: bool = True) -> None:
        """Close a wire, or leave that to the caller; it no longer takes part in the balance."""
        wire = self.wires.pop(name)
        if close:
            wire.close()
        del self._owner[name], self._base[name]

    def rebase(self) -> None:
        """Let the balance start anew, when nothing is under way."""

        def still() -> bool:
            before = {name: self.counters(name) for name in self.wires}
            self.pump()
            now = {name: self.counters(name) for name in self.wires}
            for name, wire in self.wires.items():
                got = now[name].values - self._base[name].values
                # An answer to the engine may have gone just now.
                if before[name].values != now[name].values or got["rx_packets"] != wire.sent:
                    return False
            self._base.update(now)
            return True

        until(still, "all that was sent has been taken", SECONDS)
        for wire in self.wires.values():
            wire.sent = wire.received = wire.learned = wire.originated = 0
            wire.drops.clear()

    def counters(self, name: str) -> Counters:
        kind, key = self._owner[name]
        return Counters(self.engine.telemetry.object(f"/headrace/{kind}", key))

    # Frames.

    def pump(self, seconds: float = 0.0) -> None:
        """Read all wires, once something comes or the time is over."""
        wires = list(self.wires.values())
        for wire in select.select(wires, [], [], seconds)[0]:
            wire.read()

    def receive(
        self, wire: Wire, match: Match = lambda frame: True, seconds: float = SECONDS
    ) -> Packet:
        """Return the first frame that matches, and forget it. The others stay."""
        deadline = time.monotonic() + seconds
        looked_at = 0
        while True:
            for index in range(looked_at, len(wire.inbox)):
                frame = Ether(wire.inbox[index])
                if match(frame):
                    del wire.inbox[index]
                    return frame
            looked_at = len(wire.inbox)
            if wire not in self.wires.values():
                wire.read()
            left = deadline - time.monotonic()
            if left <= 0:
                others = "\n".join(Ether(data).summary() for data in list(wire.inbox)[:10])
                raise AssertionError(f"no such frame on {wire.device}; there were:\n{others}")
            self.pump(min(left, 1.0))

    def send_all(self, wire: Wire, many: Iterable[bytes], drop: str | None = None) -> None:
        """Send many frames, no faster than the engine takes them."""
        for number, frame in enumerate(many, 1):
            wire.send(frame, drop)
            if number % IN_FLIGHT == 0:
                self.taken(wire)
        self.taken(wire)

    def taken(self, wire: Wire) -> None:
        """Wait until the engine has received all that was sent."""
        name = next(name for name, other in self.wires.items() if other is wire)

        def all_there() -> bool:
            self.pump()
            return self._received(name) == wire.sent

        until(all_there, f"the engine takes {wire.sent} frames on {name}", SECONDS)

    def _received(self, name: str) -> int:
        return self.counters(name).values["rx_packets"] - self._base[name].values["rx_packets"]

    # The balance.

    def settle(self) -> None:
        """Wait until every frame is accounted for, each drop under the reason that was foretold."""
        deadline = time.monotonic() + SECONDS
        while (problem := self._imbalance()) and time.monotonic() < deadline:
            self.pump(0.002)
        assert not problem, problem

    def _imbalance(self) -> str:
        assert self.engine.alive, self.engine.output
        now = {name: self.counters(name) for name in self.wires}
        self.pump()
        problems = []
        total = 0
        for name, wire in self.wires.items():
            got = now[name].values - self._base[name].values
            drops = now[name].drops - self._base[name].drops
            if got["rx_packets"] != wire.sent:
                problems.append(f"{name}: {wire.sent} sent, {got['rx_packets']} received")
            if got["tx_packets"] != wire.received:
                problems.append(f"{name}: {got['tx_packets']} sent, {wire.received} arrived")
            if drops != +wire.drops:
                problems.append(f"{name}: drops {dict(drops)}, foretold {dict(wire.drops)}")
            total += got["rx_packets"] + wire.originated
            total -= got["tx_packets"] + drops.total() + wire.learned
        if total != 0:
            problems.append(
                f"{total} frames are neither sent, dropped nor learned "
                f"(originated {sum(wire.originated for wire in self.wires.values())})"
            )
        return "; ".join(problems)

    def quiet(self, wire: Wire, match: Match = lambda frame: True) -> None:
        """Settle, and check that no frame that matches is there.

        What the engine asks and announces by itself does not count.
        """
        self.settle()
        found = [
            frame.summary()
            for data in wire.inbox
            if not frames.is_chatter(data) and match(frame := Ether(data))
        ]
        assert not found, f"unwanted on {wire.device}: {found}"

    # What the engine says.

    def item(self, model: type[ItemT], **filters: str) -> ItemT:
        """Return the only item of a list."""
        (item,) = self.engine.client.items(model, filters)
        return item
