# SPDX-License-Identifier: Apache-2.0
"""A kubelet, as far as device plugins see one: it registers them, watches, and has pods."""

import asyncio
from contextlib import suppress
from pathlib import Path

from grpclib.client import Channel, UnaryStreamMethod, UnaryUnaryMethod
from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError
from grpclib.server import Server, Stream

from headrace_dataplane.node.device_plugin import kubelet_api as api
from headrace_dataplane.node.device_plugin.protobuf import Codec


class FakeKubelet:
    """It does what devicemanager and podresources of Kubernetes 1.36 do."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.socket = directory / "kubelet.sock"
        self.registered: list[api.RegisterRequest] = []
        """Of all that ever came."""
        self.devices: dict[str, tuple[api.Device, ...]] = {}
        """What plugins say that is connected."""
        self.watches = True
        """Whether it asks a plugin for its devices."""
        self.refuses = ""
        """What it says to who registers; empty: it does not."""
        self.pods = api.ListPodResourcesResponse()
        self.others = api.AllocatableResourcesResponse()
        """Devices of other plugins."""
        self._server: Server | None = None
        self._channels: dict[str, Channel] = {}
        self._opened: list[Channel] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self.directory.mkdir(exist_ok=True)
        for path in self.directory.iterdir():
            if path.is_socket():
                path.unlink()
        self._server = Server([self], codec=Codec())
        await self._server.start(path=str(self.socket))

    async def stop(self) -> None:
        """End as a process does: the socket stays."""
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        for channel in self._opened:
            channel.close()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self.devices, self._channels = {}, {}

    def drop(self, resource: str) -> None:
        """Close the connection to a plugin."""
        self._channels[resource].close()

    def healthy(self, resource: str) -> list[str] | None:
        """IDs of its devices that may be given out; None: no such plugin is connected."""
        if resource not in self.devices:
            return None
        return sorted(each.id for each in self.devices[resource] if each.health == api.HEALTHY)

    async def allocate(self, resource: str, *ids: str) -> api.ContainerAllocateResponse:
        request = api.AllocateRequest((api.ContainerAllocateRequest(ids),))
        call = UnaryUnaryMethod[api.AllocateRequest, api.AllocateResponse](
            self._channels[resource], api.ALLOCATE, api.AllocateRequest, api.AllocateResponse
        )
        return (await call(request)).container_responses[0]

    async def preferred(self, resource: str, available: list[str], size: int) -> list[str]:
        asked = api.ContainerPreferredAllocationRequest(tuple(available), (), size)
        call = UnaryUnaryMethod[api.PreferredAllocationRequest, api.PreferredAllocationResponse](
            self._channels[resource],
            api.PREFERRED,
            api.PreferredAllocationRequest,
            api.PreferredAllocationResponse,
        )
        answer = await call(api.PreferredAllocationRequest((asked,)))
        return list(answer.container_responses[0].device_ids)

    def __mapping__(self) -> dict[str, Handler]:
        unary = Cardinality.UNARY_UNARY
        return {
            api.REGISTER: Handler(self._register, unary, api.RegisterRequest, api.Empty),
            api.LIST: Handler(self._list, unary, api.Empty, api.ListPodResourcesResponse),
            api.ALLOCATABLE: Handler(
                self._allocatable, unary, api.Empty, api.AllocatableResourcesResponse
            ),
        }

    async def _register(self, stream: Stream[api.RegisterRequest, api.Empty]) -> None:
        request = await stream.recv_message()
        assert request is not None
        self.registered.append(request)
        if self.refuses:
            raise GRPCError(Status.UNKNOWN, self.refuses)
        channel = Channel(path=str(self.directory / request.endpoint), codec=Codec())
        self._opened.append(channel)
        options = await UnaryUnaryMethod[api.Empty, api.DevicePluginOptions](
            channel, api.OPTIONS, api.Empty, api.DevicePluginOptions
        )(api.Empty())
        assert options.get_preferred_allocation_available
        self._channels[request.resource_name] = channel
        if self.watches:
            task = asyncio.create_task(self._watch(request.resource_name, channel))
            self._tasks.add(task)
        await stream.send_message(api.Empty())

    async def _watch(self, resource: str, channel: Channel) -> None:
        method = UnaryStreamMethod[api.Empty, api.ListAndWatchResponse](
            channel, api.LIST_AND_WATCH, api.Empty, api.ListAndWatchResponse
        )
        # The end of a connection is no fault here.
        with suppress(Exception):
            async with method.open() as stream:
                await stream.send_message(api.Empty(), end=True)
                async for response in stream:
                    self.devices[resource] = response.devices
        # As the kubelet does: whose ever it is that is connected now.
        channel.close()
        self._channels[resource].close()
        self.devices[resource] = tuple(
            api.Device(each.id, api.UNHEALTHY) for each in self.devices.get(resource, ())
        )

    async def _list(self, stream: Stream[api.Empty, api.ListPodResourcesResponse]) -> None:
        await stream.recv_message()
        await stream.send_message(self.pods)

    async def _allocatable(
        self, stream: Stream[api.Empty, api.AllocatableResourcesResponse]
    ) -> None:
        await stream.recv_message()
        await stream.send_message(self.others)
