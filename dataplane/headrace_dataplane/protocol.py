# SPDX-License-Identifier: Apache-2.0
"""Client of the engine's control socket.

A Unix stream socket; every message is a 4-byte big-endian length and that many bytes of JSON, at
most 16 MiB. One request has one reply, in order. The client blocks; asyncio callers use a thread.
"""

import json
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self, TypeAlias, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

JSON: TypeAlias = "dict[str, JSON] | list[JSON] | str | int | float | bool | None"
JSONObject: TypeAlias = "dict[str, JSON]"

PROTOCOL = 2
MAX_MESSAGE = 16 << 20


class EngineError(Exception):
    """The engine cannot be reached, went away, or does not speak this protocol."""


class EngineAbsentError(EngineError):
    """No engine listens on the socket."""


@dataclass(frozen=True)
class Refusal:
    """Why the engine refused one object: `field` may be empty, `reason` is CamelCase."""

    kind: str
    key: str
    field: str
    reason: str
    message: str

    def __str__(self) -> str:
        """One line: what, where, why."""
        where = f" ({self.field})" if self.field else ""
        return f"{self.kind} {self.key}{where}: {self.message or self.reason}".strip()


class RefusedError(EngineError):
    """The engine answered ok: false; a refused commit has changed nothing."""

    def __init__(self, refusals: Sequence[Refusal]) -> None:
        """Keep the refusals, at least one."""
        super().__init__("; ".join(map(str, refusals)) or "refused without a reason")
        self.refusals = tuple(refusals)


@dataclass(frozen=True)
class Put:
    """Create or replace the object `key` of `kind`; `hash` is what digests() will give back."""

    kind: str
    key: str
    hash: str
    spec: JSONObject
    keep: bool = field(default=False, kw_only=True)
    """Whether only an engine that has it, exactly so, is to have it."""

    def wire(self) -> JSONObject:
        """Return the element of a commit's `objects`."""
        return {"kind": self.kind, "key": self.key, "hash": self.hash, "spec": self.spec}


@dataclass(frozen=True)
class Delete:
    """Remove the object `key` of `kind`."""

    kind: str
    key: str

    def wire(self) -> JSONObject:
        """Return the element of a commit's `objects`."""
        return {"kind": self.kind, "key": self.key, "delete": True}


Change: TypeAlias = Put | Delete


class _Reply(BaseModel):
    """Base of what the engine answers: frozen, camelCase; fields of a newer engine are ignored."""

    model_config = ConfigDict(
        frozen=True, alias_generator=to_camel, populate_by_name=True, extra="ignore"
    )


class Worker(_Reply):
    """A worker thread and where it runs."""

    worker: int
    lcore: int
    cpu: int


class Kind(_Reply):
    """A kind of objects: `references` has fields of its specs and the kind that each names.

    A field names an object as text, or several in lists of objects that have the kind's name.
    """

    name: str
    references: dict[str, str] = Field(default_factory=dict)


KINDS = (
    Kind(name="settings"),
    Kind(name="port"),
    Kind(name="network"),
    Kind(name="uplink", references={"port": "port"}),
    Kind(name="interface", references={"port": "port", "network": "network"}),
    Kind(name="routes", references={"network": "network", "routes": "network"}),
)
"""Those of an engine that does not say which it has: it is older than 0.3.0."""


class Hello(_Reply):
    """Who answers: `started` is in seconds since the epoch, `telemetry` a socket's path.

    `kinds` of objects refer only to kinds that stand before them; `features` names what the engine
    understands beyond what the first release did.
    """

    protocol: int
    version: str
    dpdk: str
    pid: int
    generation: int
    telemetry: str
    workers: tuple[Worker, ...] = ()
    started: float = 0
    kinds: tuple[Kind, ...] = KINDS
    features: tuple[str, ...] = ()

    @property
    def dpdk_version(self) -> str:
        """`22.11.11`, of `DPDK 22.11.11`."""
        return self.dpdk.removeprefix("DPDK ")


class Digests(_Reply):
    """The hash of every object that the engine has: kind -> key -> hash."""

    generation: int
    digests: dict[str, dict[str, str]]


class Item(_Reply):
    """One element of a list; `kind` is the wire's name of the list."""

    kind: ClassVar[str]


class RxQueue(_Reply):
    """A receive queue and the worker that polls it."""

    queue: int
    worker: int


class _OnDevice(Item):
    """What has a device: `reason` (CamelCase) and `error` say why that is gone.

    `refused` has what the device does without: the field asked for, and what came instead.
    """

    reason: str | None = None
    error: str | None = None
    refused: dict[str, str] = Field(default_factory=dict)


class Port(_OnDevice):
    """A DPDK port: `state` is up, down or gone.

    `multicast` is how it hears neighbours: groups, all, promiscuous or none; `groups` are the MAC
    addresses that it has to hear. `losses` counts how often its device went away. `burst` is how
    many packets are taken in at once, at most: as in the settings, or as its driver needs.
    """

    kind = "port"
    name: str
    state: str
    losses: int = 0
    burst: int = 0
    multicast: str = ""
    groups: tuple[str, ...] = ()
    mac: str = ""
    mtu: int = 0
    rx_queues: tuple[RxQueue, ...] = ()
    tx_queues: int = 0
    driver: str = ""


class Interface(_OnDevice):
    """An endpoint: `mac_state` is static, reachable, stale, probe or unresolved.

    `mtu` is what is in force, bytes: less than was wanted where its device has less.
    """

    kind = "interface"
    name: str
    network: str
    vni: int
    port: str
    state: str
    addresses: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    mac: str | None = None
    mac_state: str = "unresolved"
    underlay: str = ""
    former_underlay_addresses: tuple[str, ...] = ()
    source_check: bool = True
    mtu: int = 0


class Network(Item):
    """A virtual network's tables: route counts by family and their memory in bytes.

    `dscp` is that of its outer headers; None: each packet's own.
    """

    kind = "network"
    name: str
    vni: int
    gateways: tuple[str, ...] = ()
    endpoints: tuple[str, ...] = ()
    vxlan_endpoints: tuple[Mapping[str, object], ...] = ()
    dscp: int | None = None
    routes4: int = 0
    routes6: int = 0
    bytes: int = 0


class Uplink(_OnDevice):
    """A port to the underlay; `mtu` is what is in force, bytes, outer header included."""

    kind = "uplink"
    name: str
    port: str
    state: str
    mtu: int = 0
    addresses: tuple[str, ...] = ()
    on_link: tuple[str, ...] = ()
    gateway: str | None = None


class NextHop(_Reply):
    """One next hop: an underlay address (`interface` when it is local) or another network."""

    underlay: str | None = None
    network: str | None = None
    interface: str | None = None
    weight: int = 1


class Route(Item):
    """One route as the engine forwards it; `slice` is the routes object that holds it."""

    kind = "route"
    network: str
    prefix: str
    next_hops: tuple[NextHop, ...] = ()
    blackhole: bool = False
    slice: str = ""


class Neighbor(Item):
    """A neighbour of a port (ARP or ND); `age_seconds` since it was last confirmed."""

    kind = "neighbor"
    port: str
    interface: str | None = None
    address: str
    mac: str | None = None
    state: str
    age_seconds: float = 0


class PathMtu(Item):
    """What a router of the underlay said: `mtu`, bytes, outer header included (RFC 8201)."""

    kind = "pathMtu"
    underlay: str
    mtu: int


ReplyT = TypeVar("ReplyT", bound=_Reply)
ItemT = TypeVar("ItemT", bound=Item)


def encode(message: Mapping[str, JSON]) -> bytes:
    """Frame a message. Raises EngineError when it is over MAX_MESSAGE bytes."""
    body = json.dumps(message, separators=(",", ":")).encode()
    if len(body) > MAX_MESSAGE:
        raise EngineError(f"a message of {len(body)} bytes is over the limit of {MAX_MESSAGE}")
    return len(body).to_bytes(4, "big") + body


class EngineClient:
    """A connection to one engine; not for use by several threads at once.

    After an EngineError other than RefusedError the connection is closed; the next call opens a
    new one.
    """

    def __init__(self, path: Path, timeout: float = 10.0, commit_timeout: float = 120.0) -> None:
        """Name the socket; `timeout` is in seconds per reply, commits may attach slow devices."""
        self.path = path
        self.timeout = timeout
        self.commit_timeout = commit_timeout
        self._socket: socket.socket | None = None

    def __enter__(self) -> Self:
        """Return the client; it connects on first use."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the connection."""
        self.close()

    def close(self) -> None:
        """Close the connection, if any."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def hello(self) -> Hello:
        """Ask who is there. Raises EngineError for another protocol version."""
        reply = self._call({"op": "hello"})
        protocol, version = reply.get("protocol"), reply.get("version")
        if isinstance(protocol, int) and protocol != PROTOCOL:
            self.close()
            raise EngineError(
                f"the engine, of Headrace {version}, speaks protocol {protocol}, this program "
                f"{PROTOCOL}: use both of one release"
            )
        return self._parse(Hello, reply)

    def digests(self) -> Digests:
        """Read the hashes of all objects."""
        return self._ask(Digests, {"op": "digests"})

    def commit(self, generation: int, changes: Sequence[Change]) -> None:
        """Apply all changes at once, or none. Raises RefusedError with what was refused."""
        objects: list[JSON] = [change.wire() for change in changes]
        self._call(
            {"op": "commit", "generation": generation, "objects": objects}, self.commit_timeout
        )

    def items(
        self,
        model: type[ItemT],
        filters: Mapping[str, str] | None = None,
        limit: int | None = None,
        page: int = 1000,
    ) -> Iterator[ItemT]:
        """Yield the items of a kind that pass `filters`, at most `limit`, `page` per request."""
        cursor: JSON = 0
        left = limit
        while left is None or left > 0:
            size = page if left is None else min(page, left)
            reply = self._call(
                {
                    "op": "list",
                    "kind": model.kind,
                    "filter": dict(filters or {}),
                    "limit": size,
                    "cursor": cursor,
                }
            )
            items = reply.get("items")
            if not isinstance(items, list):
                raise self._garbled("a list without items")
            for item in items:
                yield self._parse(model, item)
            left = None if left is None else left - len(items)
            cursor = reply.get("next")
            if cursor is None:
                return

    def _ask(self, model: type[ReplyT], request: JSONObject) -> ReplyT:
        return self._parse(model, self._call(request))

    def _parse(self, model: type[ReplyT], value: JSON) -> ReplyT:
        try:
            return model.model_validate(value)
        except ValidationError as error:
            first = error.errors()[0]
            raise self._garbled(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error

    def _garbled(self, what: str) -> EngineError:
        self.close()
        return EngineError(f"{self.path}: cannot understand the engine's reply: {what}")

    def _call(self, request: JSONObject, timeout: float | None = None) -> JSONObject:
        message = encode(request)
        try:
            connection = self._connect()
            connection.settimeout(self.timeout if timeout is None else timeout)
            connection.sendall(message)
            length = int.from_bytes(_receive(connection, 4), "big")
            if length > MAX_MESSAGE:
                raise self._garbled(f"it announces {length} bytes")
            reply: JSON = json.loads(_receive(connection, length))
        except TimeoutError as error:
            self.close()
            raise EngineError(f"{self.path}: no answer in time to {request['op']}") from error
        except (FileNotFoundError, ConnectionRefusedError) as error:
            self.close()
            raise EngineAbsentError(f"{self.path}: no engine listens there") from error
        except OSError as error:
            self.close()
            raise EngineError(f"{self.path}: {error.strerror or error}") from error
        except ValueError as error:
            raise self._garbled(str(error)) from error
        if not isinstance(reply, dict):
            raise self._garbled("not an object")
        if reply.get("ok") is not True:
            raise RefusedError(_refusals(reply))
        return reply

    def _connect(self) -> socket.socket:
        if self._socket is None:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.settimeout(self.timeout)
            try:
                connection.connect(str(self.path))
            except OSError:
                connection.close()
                raise
            self._socket = connection
        return self._socket


def _receive(connection: socket.socket, size: int) -> bytes:
    data = bytearray(size)
    view = memoryview(data)
    while view:
        count = connection.recv_into(view)
        if count == 0:
            raise ConnectionError("the engine closed the connection")
        view = view[count:]
    return bytes(data)


def _refusals(reply: JSONObject) -> list[Refusal]:
    errors = reply.get("errors")
    found = (
        [error for error in errors if isinstance(error, dict)] if isinstance(errors, list) else []
    )

    def text(error: JSONObject, name: str) -> str:
        value = error.get(name)
        return value if isinstance(value, str) else ""

    return [
        Refusal(*(text(error, name) for name in ("kind", "key", "field", "reason", "message")))
        for error in found
    ]
