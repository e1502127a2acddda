# SPDX-License-Identifier: Apache-2.0
"""The engine's two sockets without the engine, for tests of those who speak to them."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from headrace_dataplane.protocol import PROTOCOL

KINDS = ("settings", "port", "network", "uplink", "interface", "routes")


class _Server:
    def __init__(self, path: Path, kind: socket.SocketKind) -> None:
        self.path = path
        self._listener = socket.socket(socket.AF_UNIX, kind)
        self._listener.bind(str(path))
        self._listener.listen()
        self._threads: list[threading.Thread] = []
        self._connections: list[socket.socket] = []
        thread = threading.Thread(target=self._accept, daemon=True)
        thread.start()
        self._threads.append(thread)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._connections.append(connection)
            thread = threading.Thread(target=self._quietly, args=(connection,), daemon=True)
            thread.start()
            self._threads.append(thread)

    def _quietly(self, connection: socket.socket) -> None:
        with connection:
            try:
                self.serve(connection)
            except OSError:
                return

    def serve(self, connection: socket.socket) -> None:
        raise NotImplementedError

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
        for thread in self._threads:
            thread.join()
        self.path.unlink()


class FakeEngine(_Server):
    """Keeps objects as the engine would, checks references, refuses what `refuse` names."""

    def __init__(self, path: Path, telemetry: Path | None = None, pid: int = 1) -> None:
        self.objects: dict[str, dict[str, dict[str, Any]]] = {kind: {} for kind in KINDS}
        self.hashes: dict[str, dict[str, str]] = {kind: {} for kind in KINDS}
        self.generation = 0
        self.commits: list[dict[str, Any]] = []
        self.refuse: dict[tuple[str, str], str] = {}
        self.refuse_in_routes: set[str] = set()
        self.most: dict[str, int] = {}
        self.lists: dict[str, list[dict[str, Any]]] = {}
        self.telemetry = telemetry
        self.pid = pid
        super().__init__(path, socket.SOCK_STREAM)

    def serve(self, connection: socket.socket) -> None:
        stream = connection.makefile("rwb")
        while header := stream.read(4):
            request = json.loads(stream.read(int.from_bytes(header, "big")))
            body = json.dumps(getattr(self, request.pop("op"))(**request)).encode()
            stream.write(len(body).to_bytes(4, "big") + body)
            stream.flush()

    def hello(self) -> dict[str, Any]:
        return {
            "ok": True,
            "protocol": PROTOCOL,
            "version": "0.1.0",
            "dpdk": "DPDK 22.11.11",
            "pid": self.pid,
            "generation": self.generation,
            "telemetry": str(self.telemetry or ""),
            "workers": [{"worker": 0, "lcore": 1, "cpu": 1}],
            "started": 1700000000,
            "features": ["UnderlaySourceCheck", "OfALaterEngine"],
        }

    def digests(self) -> dict[str, Any]:
        return {"ok": True, "generation": self.generation, "digests": self.hashes}

    def commit(self, generation: int, objects: list[dict[str, Any]]) -> dict[str, Any]:
        self.commits.append({"generation": generation, "objects": objects})
        errors = [
            {"kind": o["kind"], "key": o["key"], "field": "f", "reason": reason, "message": reason}
            for o in objects
            if (reason := self.refuse.get((o["kind"], o["key"])))
        ]
        errors += self._bad_routes(objects)
        errors += self._too_many(objects)
        if errors:
            return {"ok": False, "errors": errors}
        after = {kind: dict(specs) for kind, specs in self.objects.items()}
        for each in objects:
            if each.get("delete"):
                after[each["kind"]].pop(each["key"], None)
            else:
                after[each["kind"]][each["key"]] = each["spec"]
        for kind, specs in after.items():
            for key, spec in specs.items():
                for reference in ("port", "network"):
                    name = spec.get(reference)
                    if name is not None and name not in after[reference]:
                        errors.append(
                            {
                                "kind": kind,
                                "key": key,
                                "field": reference,
                                "reason": "UnknownReference",
                                "message": f"no {reference} {name}",
                            }
                        )
        if errors:
            return {"ok": False, "errors": errors}
        self.objects = after
        for each in objects:
            if each.get("delete"):
                self.hashes[each["kind"]].pop(each["key"], None)
            else:
                self.hashes[each["kind"]][each["key"]] = each["hash"]
        self.generation = generation
        return {"ok": True, "generation": generation}

    def _bad_routes(self, objects: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for each in objects:
            for index, route in enumerate(each.get("spec", {}).get("routes", ())):
                for place, item in enumerate(route):
                    if isinstance(item, str) and item in self.refuse_in_routes:
                        yield {
                            "kind": each["kind"],
                            "key": each["key"],
                            "field": f"routes[{index}][{place}]",
                            "reason": "InvalidField",
                            "message": f"not {item}",
                        }

    def _too_many(self, objects: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """As the engine counts: what it has, then what comes, in its order."""
        count = {kind: len(specs) for kind, specs in self.objects.items()}
        for each in objects:
            kind, key = each["kind"], each["key"]
            if each.get("delete"):
                count[kind] -= key in self.objects[kind]
        for each in objects:
            kind, key = each["kind"], each["key"]
            if each.get("delete") or key in self.objects[kind]:
                continue
            count[kind] += 1
            if count[kind] > self.most.get(kind, 1 << 30):
                yield {"kind": kind, "key": key, "field": "", "reason": "LimitExceeded"}

    def list(  # its arguments are the message's fields
        self,
        kind: str,
        filter: dict[str, str],  # noqa: A002
        limit: int,
        cursor: int,
    ) -> dict[str, Any]:
        items = [
            item
            for item in self.lists.get(kind, [])
            if all(item.get(name) == value for name, value in filter.items())
        ]
        end = cursor + limit
        return {"ok": True, "items": items[cursor:end], "next": end if end < len(items) else None}


class FakeTelemetry(_Server):
    """Answers each command with what `answer` returns for it."""

    def __init__(self, path: Path, answer: Callable[[str], Any]) -> None:
        self.answer = answer
        self.requests: list[str] = []
        super().__init__(path, socket.SOCK_SEQPACKET)

    def serve(self, connection: socket.socket) -> None:
        connection.send(b'{"version": "DPDK 22.11.11", "pid": 1, "max_output_len": 16384}')
        while request := connection.recv(1024):
            command = request.decode()
            self.requests.append(command)
            reply = {command.partition(",")[0]: self.answer(command)}
            connection.send(json.dumps(reply).encode())
