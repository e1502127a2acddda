# SPDX-License-Identifier: Apache-2.0
"""A client of the API server that speaks JSON objects.

The official client does what is tedious (kubeconfig, credentials, TLS); its typed models cost
five times the memory of dicts and its watch loses its place, so requests are made here.
"""

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, cast
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass
from weakref import WeakSet

import aiohttp
from kubernetes.aio.client import Configuration
from kubernetes.aio.client.rest import RESTClientObject
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config

from headrace_api import Json

from .kinds import Kind

_JSON = "application/json"
_APPLY = "application/apply-patch+yaml"
_MERGE = "application/merge-patch+json"
_SECONDS = 30.0
_CHUNK = 500
# The API server ends a watch after the seconds asked for; one that stays silent for longer than
# this beyond them is dead.
_WATCH_GRACE = 10.0
_CLOSE_SECONDS = 1.0
_CLOSE_POLL_SECONDS = 0.005
_REFUSALS = frozenset(
    {HTTPStatus.BAD_REQUEST, HTTPStatus.FORBIDDEN, HTTPStatus.UNPROCESSABLE_ENTITY}
)
_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class KubeError(Exception):
    """The API server refused, or could not be reached (status 0)."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        """`status` is HTTP's, `reason` CamelCase (metav1.StatusReason), `message` for people."""
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message

    @property
    def absent(self) -> bool:
        """Whether the object (or its kind) does not exist."""
        return self.status == HTTPStatus.NOT_FOUND

    @property
    def conflict(self) -> bool:
        """Whether another has written, or holds the name."""
        return self.status == HTTPStatus.CONFLICT

    @property
    def refused(self) -> bool:
        """Whether the same request will be refused again, unless somebody changes something."""
        return self.status in _REFUSALS or self.undeclared

    @property
    def undeclared(self) -> bool:
        """Whether the kind, of another release, does not have a field that was applied."""
        return "field not declared in schema" in self.message

    @property
    def terminating(self) -> bool:
        """Whether the namespace is being deleted, and takes nothing new."""
        return self.status == HTTPStatus.FORBIDDEN and "is being terminated" in self.message

    @property
    def expired(self) -> bool:
        """Whether the resource version is too old: list again."""
        return self.status == HTTPStatus.GONE


@dataclass(frozen=True, slots=True)
class Listing:
    """Objects as of one resource version."""

    items: list[Json]
    resource_version: str


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a watch. BOOKMARK carries nothing but metadata.resourceVersion."""

    type: Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]
    object: Json


class Kube:
    """A connection to one API server; make it with `connect`, use it as a context manager."""

    def __init__(self, configuration: Configuration, namespace: str) -> None:
        self.namespace = namespace
        """The namespace of the kubeconfig's context, or of the pod."""
        self._configuration = configuration
        # It would look for a proxy, and a .netrc, at each request, and in threads.
        configuration.client_session_kwargs = {"trust_env": False, "proxy": _proxy(configuration)}
        self._rest = _Rest(configuration)
        self._session: aiohttp.ClientSession = self._rest._create_pool_manager()

    @classmethod
    async def connect(cls, kubeconfig: str | None = None, context: str | None = None) -> Self:
        """Connect as a pod does when it is one, else by the kubeconfig (default: $KUBECONFIG).

        Nothing is sent yet. Raises KubeError when there are no credentials.
        """
        configuration = Configuration()
        # Watches and exec hold a connection each.
        configuration.connection_pool_maxsize = 128
        try:
            if kubeconfig is None and context is None and "KUBERNETES_SERVICE_HOST" in os.environ:
                load_incluster_config(configuration)
                namespace = (_SERVICE_ACCOUNT / "namespace").read_text().strip()
            else:
                loader = await load_kube_config(
                    config_file=kubeconfig, context=context, client_configuration=configuration
                )
                namespace = str(loader.current_context["context"].get("namespace", "default"))
        except (ConfigException, OSError) as error:
            raise KubeError(0, "NoCredentials", f"no cluster to talk to: {error}") from error
        return cls(configuration, namespace)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End every connection."""
        await self._session.close()
        await self._rest.closed()

    async def get(self, kind: Kind, name: str, namespace: str = "") -> Json:
        """Return one object. Raises KubeError."""
        return await self.request("GET", kind.path(namespace, name))

    async def list(
        self, kind: Kind, namespace: str = "", labels: str = "", fields: str = ""
    ) -> Listing:
        """Return all objects that the selectors name, read in chunks. Raises KubeError."""
        items: list[Json] = []
        version = ""
        async for page in self.pages(kind, namespace, labels, fields):
            items += page.items
            version = page.resource_version
        return Listing(items, version)

    async def pages(
        self, kind: Kind, namespace: str = "", labels: str = "", fields: str = ""
    ) -> AsyncIterator[Listing]:
        """Yield the objects of `list` chunk by chunk, all of one version. Raises KubeError."""
        query = {"limit": str(_CHUNK), **_selectors(labels, fields)}
        while True:
            page = await self.request("GET", kind.path(namespace), query)
            metadata = cast(dict[str, str], page["metadata"])
            items = cast("list[Json]", page.get("items") or [])
            for item in items:
                # Items of a list lack them.
                item.setdefault("apiVersion", kind.api_version)
                item.setdefault("kind", kind.name)
            yield Listing(items, metadata["resourceVersion"])
            if not metadata.get("continue"):
                return
            query["continue"] = metadata["continue"]

    async def watch(
        self,
        kind: Kind,
        resource_version: str,
        namespace: str = "",
        labels: str = "",
        fields: str = "",
        seconds: int = 300,
    ) -> AsyncIterator[Event]:
        """Yield what happens after the resource version, for so many seconds at most.

        Remember the resource version of every event (bookmarks are on) and go on from it. Raises
        KubeError; `expired` means to list again.
        """
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(seconds),
            **_selectors(labels, fields),
        }
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=_SECONDS, sock_read=seconds + _WATCH_GRACE
        )
        async with self._send("GET", kind.path(namespace), query, timeout) as response:
            async for line in _lines(response.content):
                event = cast(Json, json.loads(line))
                item = cast(Json, event["object"])
                if event["type"] == "ERROR":
                    raise _status_error(HTTPStatus.INTERNAL_SERVER_ERROR, item)
                yield Event(cast(Literal["ADDED"], event["type"]), item)

    async def create(self, kind: Kind, item: Json) -> Json:
        """Create the object and return it. Raises KubeError (`conflict` when it exists)."""
        return await self.request("POST", kind.path(_namespace(item)), body=item)

    async def replace(self, kind: Kind, item: Json) -> Json:
        """Replace the object, at its metadata.resourceVersion if given. Raises KubeError."""
        return await self.request("PUT", kind.path(_namespace(item), _name(item)), body=item)

    async def apply(
        self,
        kind: Kind,
        item: Json,
        manager: str,
        subresource: Literal["", "status"] = "",
        *,
        force: bool = True,
        seconds: float = _SECONDS,
    ) -> Json:
        """Server-side apply: own the fields given, drop those given before; returns the object.

        Without `force` what another manager owns and has otherwise is a conflict. Raises KubeError.
        """
        return await self.request(
            "PATCH",
            kind.path(_namespace(item), _name(item), subresource),
            {"fieldManager": manager, "force": str(force).lower()},
            body=item,
            content_type=_APPLY,
            seconds=seconds,
        )

    async def merge(
        self,
        kind: Kind,
        name: str,
        namespace: str,
        change: Json,
        manager: str,
        subresource: Literal["", "status"] = "",
        *,
        dry_run: bool = False,
        seconds: float = _SECONDS,
    ) -> Json:
        """Merge a change into the object (RFC 7396: null removes a field); returns the object.

        With metadata.uid only into that very object (`conflict` otherwise); `dry_run` returns what
        would come of it. Raises KubeError.
        """
        return await self.request(
            "PATCH",
            kind.path(namespace, name, subresource),
            {"fieldManager": manager, **({"dryRun": "All"} if dry_run else {})},
            body=change,
            content_type=_MERGE,
            seconds=seconds,
        )

    async def delete(
        self,
        kind: Kind,
        name: str,
        namespace: str = "",
        uid: str = "",
        *,
        seconds: float = _SECONDS,
    ) -> None:
        """Delete the object (dependents follow in the background); if it is not there, well.

        With `uid` only that very object. Raises KubeError.
        """
        body: Json = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Background",
        }
        if uid:
            body["preconditions"] = {"uid": uid}
        try:
            await self.request("DELETE", kind.path(namespace, name), body=body, seconds=seconds)
        except KubeError as error:
            if not error.absent:
                raise

    async def request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        *,
        body: Json | None = None,
        content_type: str = _JSON,
        seconds: float = _SECONDS,
    ) -> Json:
        """Send one request and return the answer's JSON object. Raises KubeError.

        When it takes longer than so many seconds, the API server drops it, too.
        """
        timeout = aiohttp.ClientTimeout(total=seconds)
        query = {**(query or {}), "timeout": f"{seconds:.3f}s"}
        async with self._send(method, path, query, timeout, body, content_type) as response:
            return cast(Json, await response.json(content_type=None))

    @asynccontextmanager
    async def websocket(
        self, path: str, query: Sequence[tuple[str, str]], protocols: Sequence[str]
    ) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """Open a WebSocket, as exec needs it; its `protocol` is the first that the server has.

        Raises KubeError.
        """
        url = self._configuration.host + path
        headers = await self._headers()
        try:
            async with self._session.ws_connect(
                url, params=query, protocols=protocols, headers=headers
            ) as socket:
                yield socket
        except aiohttp.WSServerHandshakeError as error:
            # aiohttp does not read the body, which would say why.
            raise _refusal(error.status, "") from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _unreachable(error) from error

    @asynccontextmanager
    async def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        timeout: aiohttp.ClientTimeout,
        body: Json | None = None,
        content_type: str = _JSON,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request; every failure, of the answer's body too, is a KubeError."""
        headers = {"Accept": _JSON, **await self._headers()}
        data = None
        if body is not None:
            headers["Content-Type"] = content_type
            data = json.dumps(body, separators=(",", ":")).encode()
        url = self._configuration.host + path
        try:
            async with self._session.request(
                method, url, params=query, data=data, headers=headers, timeout=timeout
            ) as response:
                if response.status >= HTTPStatus.BAD_REQUEST:
                    raise _refusal(response.status, await response.text())
                yield response
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise _unreachable(error) from error

    async def _headers(self) -> dict[str, str]:
        """Credentials; projected tokens are read again as they are renewed."""
        headers = {"User-Agent": "headrace"}
        token = await self._configuration.get_api_key_with_prefix("BearerToken")
        if token:
            headers["Authorization"] = token
        return headers


class _Rest(RESTClientObject):  # type: ignore[misc]
    """Knows its sockets, as aiohttp forgets a connection whose request was given up.

    TLS ends when the API server has answered, and a loop that is gone by then leaves it open.
    """

    def __init__(self, configuration: Configuration) -> None:
        super().__init__(configuration)
        self._sockets: WeakSet[socket.socket] = WeakSet()

    async def closed(self) -> None:
        """Wait until no socket is open; not for long, as the API server may be gone."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                while any(each.fileno() >= 0 for each in self._sockets):
                    await asyncio.sleep(_CLOSE_POLL_SECONDS)

    def _create_connector(self) -> aiohttp.TCPConnector:
        return aiohttp.TCPConnector(
            limit=self.maxsize, ssl=self.ssl_context, socket_factory=self._socket
        )

    def _socket(self, address: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, protocol, *_ = address
        made = socket.socket(family, kind, protocol)
        self._sockets.add(made)
        return made


def _proxy(configuration: Configuration) -> str | None:
    """The proxy to the API server: the kubeconfig's, else the environment's."""
    if configuration.proxy:
        return str(configuration.proxy)
    server = urlsplit(configuration.host)
    if proxy_bypass(server.hostname or ""):
        return None
    return getproxies().get(server.scheme)


async def _lines(stream: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Yield the lines of a stream, however long they are."""
    pending = bytearray()
    async for chunk in stream.iter_any():
        pending += chunk
        *lines, rest = pending.split(b"\n")
        for line in lines:
            if line:
                yield bytes(line)
        pending = rest


def _refusal(status: int, text: str) -> KubeError:
    try:
        body = cast(Json, json.loads(text))
    except ValueError:
        body = {"message": text.strip()}
    return _status_error(status, body)


def _status_error(status: int, body: Json) -> KubeError:
    code = body.get("code")
    return KubeError(
        code if isinstance(code, int) else status,
        str(body.get("reason") or HTTPStatus(status).phrase),
        str(body.get("message") or HTTPStatus(status).phrase),
    )


def _unreachable(error: Exception) -> KubeError:
    words = str(error) or type(error).__name__
    return KubeError(0, "Unreachable", f"the API server cannot be reached: {words}")


def _selectors(labels: str, fields: str) -> dict[str, str]:
    return {
        name: text for name, text in (("labelSelector", labels), ("fieldSelector", fields)) if text
    }


def _metadata(item: Json) -> dict[str, str]:
    return cast(dict[str, str], item["metadata"])


def _name(item: Json) -> str:
    return _metadata(item)["name"]


def _namespace(item: Json) -> str:
    return _metadata(item).get("namespace", "")
