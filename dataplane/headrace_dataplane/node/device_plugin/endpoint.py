# SPDX-License-Identifier: Apache-2.0
"""One resource, served to the kubelet at a Unix socket."""

import asyncio
import hashlib
import logging
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError
from grpclib.server import Server, Stream

from headrace_dataplane.node.device_plugin import kubelet_api as api
from headrace_dataplane.node.device_plugin.allocation import PluginDevice, answer, preferred
from headrace_dataplane.node.device_plugin.device_files import NoDeviceFilesError, device_files
from headrace_dataplane.node.device_plugin.protobuf import Codec

log = logging.getLogger(__name__)

OPTIONS = api.DevicePluginOptions(get_preferred_allocation_available=True)

_CLOSE_SECONDS = 2.0

Identity = tuple[int, int]


def identity(path: Path) -> Identity | None:
    """Return what tells a file from one that was made in its place; None: there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_ctime_ns


class Endpoint:
    """A server of one resource's devices."""

    def __init__(
        self,
        directory: Path,
        resource: str,
        devices: tuple[PluginDevice, ...],
        root: Path,
        changed: Callable[[], object],
        asked: Callable[[], object] = lambda: None,
    ) -> None:
        """`changed` is called when the kubelet begins or ends to watch, `asked` when it wants some.

        It asks for each container that begins.
        """
        self.resource = resource
        digest = hashlib.sha256(resource.encode()).hexdigest()[:16]
        self.path = directory / f"headrace-{digest}.sock"
        self._devices = devices
        self._root = root
        self._changed = changed
        self._asked = asked
        self._news = asyncio.Event()
        self._watchers = 0
        self._ending = False
        self._server: Server | None = None
        self._made: Identity | None = None

    @property
    def listens(self) -> bool:
        """Whether who opens the socket comes here: the kubelet removes sockets when it starts."""
        return self._made is not None and identity(self.path) == self._made

    @property
    def watched(self) -> bool:
        """Whether a kubelet is being told."""
        return self._watchers > 0

    def set(self, devices: tuple[PluginDevice, ...]) -> None:
        """Say that these are the devices."""
        if devices != self._devices:
            self._devices = devices
            self._tell()

    async def listen(self) -> None:
        """Serve at the socket, anew where that is gone. Raises OSError."""
        await self.close()
        self.path.unlink(missing_ok=True)
        server = Server([self], codec=Codec())
        await server.start(path=str(self.path))
        self.path.chmod(0o600)
        self._server, self._made = server, identity(self.path)
        self._ending = False

    async def close(self, *, for_good: bool = False) -> None:
        """Serve no more; for good: the kubelet is told that no device is left."""
        server, self._server = self._server, None
        if server is None:
            return
        if for_good:
            self._devices = ()
        self._ending = True
        self._tell()
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                while self.watched:
                    news = self._news
                    await news.wait()
        if self.listens:
            self.path.unlink(missing_ok=True)
        self._made = None
        server.close()
        with suppress(TimeoutError):
            # Who is connected may stay so.
            async with asyncio.timeout(_CLOSE_SECONDS):
                await server.wait_closed()

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    def __mapping__(self) -> dict[str, Handler]:
        """Return the methods of the service, as grpclib wants them."""
        unary, stream = Cardinality.UNARY_UNARY, Cardinality.UNARY_STREAM
        return {
            api.OPTIONS: Handler(self._options, unary, api.Empty, api.DevicePluginOptions),
            api.LIST_AND_WATCH: Handler(
                self._list_and_watch, stream, api.Empty, api.ListAndWatchResponse
            ),
            api.PREFERRED: Handler(
                self._preferred,
                unary,
                api.PreferredAllocationRequest,
                api.PreferredAllocationResponse,
            ),
            api.ALLOCATE: Handler(self._allocate, unary, api.AllocateRequest, api.AllocateResponse),
            api.PRE_START: Handler(
                self._pre_start, unary, api.PreStartContainerRequest, api.PreStartContainerResponse
            ),
        }

    async def _options(self, stream: Stream[api.Empty, api.DevicePluginOptions]) -> None:
        await stream.recv_message()
        await stream.send_message(OPTIONS)

    async def _list_and_watch(self, stream: Stream[api.Empty, api.ListAndWatchResponse]) -> None:
        await stream.recv_message()
        self._watchers += 1
        self._changed()
        try:
            said = None
            while True:
                news, devices = self._news, self._devices
                if devices != said:
                    described = tuple(device.described() for device in devices)
                    await stream.send_message(api.ListAndWatchResponse(described))
                    said = devices
                if self._ending:
                    return
                if news is self._news:
                    await news.wait()
        finally:
            self._watchers -= 1
            self._tell()
            self._changed()

    async def _preferred(
        self, stream: Stream[api.PreferredAllocationRequest, api.PreferredAllocationResponse]
    ) -> None:
        request = await stream.recv_message() or api.PreferredAllocationRequest()
        responses = (
            api.ContainerPreferredAllocationResponse(
                preferred(self._devices, self._free(each.available), each.must_include, each.size)
            )
            for each in request.container_requests
        )
        await stream.send_message(api.PreferredAllocationResponse(tuple(responses)))

    def _free(self, available: tuple[str, ...]) -> tuple[str, ...]:
        """Return those that are refused to nobody."""
        reserved = {device.address for device in self._devices if device.reserved}
        return tuple(address for address in available if address not in reserved)

    async def _allocate(self, stream: Stream[api.AllocateRequest, api.AllocateResponse]) -> None:
        request = await stream.recv_message() or api.AllocateRequest()
        self._asked()
        responses = tuple(self._given(each.device_ids) for each in request.container_requests)
        await stream.send_message(api.AllocateResponse(responses))

    def _given(self, addresses: tuple[str, ...]) -> api.ContainerAllocateResponse:
        known = {device.address for device in self._devices}
        unknown = sorted(set(addresses) - known)
        if unknown:
            raise GRPCError(
                Status.NOT_FOUND,
                f"{self.resource} has no device {', '.join(unknown)}: "
                f"it has {', '.join(sorted(known)) or 'none'}",
            )
        # Who has one already is not given it again: this is another pod.
        taken = sorted(
            device.address
            for device in self._devices
            if device.reserved and device.address in addresses
        )
        if taken:
            raise GRPCError(
                Status.FAILED_PRECONDITION,
                f"{self.resource}: {', '.join(taken)} is being taken out of a VLAN: another pod "
                "may have it in a moment",
            )
        try:
            given = {address: device_files(self._root, address) for address in addresses}
        except NoDeviceFilesError as error:
            raise GRPCError(Status.FAILED_PRECONDITION, f"{self.resource}: {error}") from error
        log.info("%s: a container gets %s", self.resource, ", ".join(sorted(given)))
        return answer(self.resource, given)

    async def _pre_start(
        self, stream: Stream[api.PreStartContainerRequest, api.PreStartContainerResponse]
    ) -> None:
        await stream.recv_message()
        await stream.send_message(api.PreStartContainerResponse())
