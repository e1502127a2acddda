# SPDX-License-Identifier: Apache-2.0
"""Which pod has which device, as the kubelet knows: its PodResourcesLister."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from grpclib.client import Channel, UnaryUnaryMethod
from grpclib.exceptions import GRPCError, StreamTerminatedError

from headrace_dataplane.node.device_plugin.kubelet_api import (
    ALLOCATABLE,
    LIST,
    AllocatableResourcesResponse,
    Empty,
    ListPodResourcesResponse,
)
from headrace_dataplane.node.device_plugin.protobuf import Codec

SOCKET = Path("/var/lib/kubelet/pod-resources/kubelet.sock")

_SECONDS = 10.0

Reply = TypeVar("Reply")


class KubeletError(Exception):
    """The kubelet does not answer, or refuses; for people."""


async def ask(socket: Path, method: str, request: object, reply: type[Reply]) -> Reply:
    """Ask the kubelet at a Unix socket. Raises KubeletError."""
    channel = Channel(path=str(socket), codec=Codec())
    try:
        call = UnaryUnaryMethod(channel, method, type(request), reply)
        async with asyncio.timeout(_SECONDS):
            answer: Reply = await call(request)
    except GRPCError as error:
        raise KubeletError(f"the kubelet refuses: {error.message}") from error
    except (OSError, StreamTerminatedError, ValueError) as error:
        what = str(error) or f"no answer in {_SECONDS:g} s"
        raise KubeletError(f"the kubelet at {socket}: {what}") from error
    finally:
        channel.close()
    return answer


class PodResources:
    """Asks a kubelet."""

    def __init__(self, socket: Path = SOCKET) -> None:
        """`socket`: the kubelet's."""
        self._socket = socket

    async def users(self) -> Mapping[str, tuple[str, ...]]:
        """Return ID of a device -> pods that have it, as namespace/name. Raises KubeletError.

        Devices of every device plugin are in it; those of network cards go by PCI addresses.
        """
        found: dict[str, set[str]] = {}
        listed = await ask(self._socket, LIST, Empty(), ListPodResourcesResponse)
        for pod in listed.pods:
            for container in pod.containers:
                for device in (each for some in container.devices for each in some.device_ids):
                    found.setdefault(device, set()).add(f"{pod.namespace}/{pod.name}")
        return {device: tuple(sorted(pods)) for device, pods in found.items()}

    async def allocatable(self) -> Mapping[str, frozenset[str]]:
        """Return resource -> IDs of its devices that are healthy. Raises KubeletError."""
        answer = await ask(self._socket, ALLOCATABLE, Empty(), AllocatableResourcesResponse)
        found: dict[str, set[str]] = {}
        for some in answer.devices:
            # An entry for each device, or for each NUMA node.
            found.setdefault(some.resource_name, set()).update(some.device_ids)
        return {resource: frozenset(ids) for resource, ids in found.items()}
