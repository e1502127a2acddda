# SPDX-License-Identifier: Apache-2.0
"""All resources that a node's agent gives out, registered with its kubelet, whatever restarts."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from headrace_dataplane.node.device_plugin import kubelet_api as api
from headrace_dataplane.node.device_plugin.allocation import PluginDevice
from headrace_dataplane.node.device_plugin.endpoint import OPTIONS, Endpoint, Identity, identity
from headrace_dataplane.node.device_plugin.pod_resources import KubeletError, PodResources, ask
from headrace_dataplane.node.inotify import directory_events

log = logging.getLogger(__name__)

DIRECTORY = Path("/var/lib/kubelet/device-plugins")
"""Where the kubelet has its socket, and device plugins have theirs."""

RESOURCE_TAKEN = "ResourceTaken"
"""Reason: another device plugin gives it out."""

_KUBELET = "kubelet.sock"
_OURS = "headrace-*.sock"
_WATCH_SECONDS = 10.0
"""A kubelet that registers a plugin asks it for its devices at once."""
_LOOK_SECONDS = 30.0
"""So often all is looked at, whatever was told."""
_FIRST_RETRY, _LAST_RETRY = 0.5, 30.0


@dataclass(frozen=True)
class Problem:
    """Why a resource is not given out."""

    reason: str
    """KubeletUnreachable or ResourceTaken."""
    message: str
    """For people."""


class _TakenError(Exception):
    pass


@dataclass
class _Resource:
    endpoint: Endpoint
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    kubelet: Identity | None = None
    """Whom it was registered with."""
    task: asyncio.Task[None] | None = None


class DevicePlugins:
    """Serves devices to the kubelet, a socket for each resource, while `run` runs."""

    def __init__(
        self,
        directory: Path = DIRECTORY,
        *,
        root: Path = Path("/"),
        pod_resources: PodResources | None = None,
        changed: Callable[[], object] = lambda: None,
        retry_seconds: float = _FIRST_RETRY,
    ) -> None:
        """`root` has dev and sys in it; `changed` is called when `problems` are others, or users.

        `pod_resources` tells what others give out, so that nothing is taken from them.
        `retry_seconds`: how long the first failure lasts; the next twice as long, 30 s at most.
        """
        self._directory = directory
        self._root = root
        self._pod_resources = pod_resources
        self._changed = changed
        self._retry_seconds = retry_seconds
        self._wanted: dict[str, tuple[PluginDevice, ...]] = {}
        self._resources: dict[str, _Resource] = {}
        self._problems: dict[str, Problem] = {}
        self._news = asyncio.Event()

    @property
    def problems(self) -> Mapping[str, Problem]:
        """Resource -> why it is not given out."""
        return dict(self._problems)

    def set(self, resources: Mapping[str, tuple[PluginDevice, ...]]) -> None:
        """Say which resources there are, with all their devices."""
        self._wanted = dict(resources)
        self._news.set()

    async def run(self) -> None:
        """Serve until cancelled."""
        for stale in self._directory.glob(_OURS):
            stale.unlink(missing_ok=True)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._watch_directory())
                while True:
                    await self._follow(tasks)
                    await self._news.wait()
                    self._news.clear()
        finally:
            for resource in self._resources.values():
                await resource.endpoint.close()

    async def _follow(self, tasks: asyncio.TaskGroup) -> None:
        for name in self._resources.keys() - self._wanted.keys():
            gone = self._resources.pop(name)
            if gone.task is not None:
                gone.task.cancel()
            await gone.endpoint.close(for_good=True)
            self._say(name, None)
        for name, devices in self._wanted.items():
            if name in self._resources:
                self._resources[name].endpoint.set(devices)
                continue
            wake = asyncio.Event()
            endpoint = Endpoint(self._directory, name, devices, self._root, wake.set, self._changed)
            resource = _Resource(endpoint, wake)
            self._resources[name] = resource
            resource.task = tasks.create_task(self._keep(resource))

    async def _keep(self, resource: _Resource) -> None:
        """Have it registered, until cancelled."""
        name, retry = resource.endpoint.resource, self._retry_seconds
        while True:
            resource.wake.clear()
            try:
                await self._register(resource)
                problem, pause, retry = None, _LOOK_SECONDS, self._retry_seconds
            except (KubeletError, OSError) as error:
                problem, pause = Problem("KubeletUnreachable", f"{name}: {error}"), retry
            except _TakenError as error:
                problem, pause = Problem(RESOURCE_TAKEN, str(error)), retry
            if problem is not None:
                retry = min(2 * retry, _LAST_RETRY)
            self._say(name, problem)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await resource.wake.wait()

    async def _register(self, resource: _Resource) -> None:
        """Register it unless it is. Raises KubeletError, OSError, _TakenError."""
        endpoint, socket = resource.endpoint, self._directory / _KUBELET
        kubelet = identity(socket)
        if kubelet is None:
            raise KubeletError(f"no kubelet listens at {socket}")
        if not endpoint.listens:
            await endpoint.listen()
        if endpoint.watched and resource.kubelet == kubelet:
            return
        await self._check_free(endpoint)
        request = api.RegisterRequest(api.VERSION, endpoint.path.name, endpoint.resource, OPTIONS)
        await ask(socket, api.REGISTER, request, api.Empty)
        try:
            async with asyncio.timeout(_WATCH_SECONDS):
                while not endpoint.watched:
                    resource.wake.clear()
                    await resource.wake.wait()
        except TimeoutError:
            raise KubeletError(f"the kubelet at {socket} does not ask for devices") from None
        resource.kubelet = kubelet
        log.info("%s: registered with the kubelet", endpoint.resource)

    async def _check_free(self, endpoint: Endpoint) -> None:
        """Raise _TakenError where another plugin gives the resource out.

        The kubelet would take ours in its place without a word, and listen to both.
        """
        if self._pod_resources is None or endpoint.watched:
            return
        try:
            others = (await self._pod_resources.allocatable()).get(endpoint.resource)
        except KubeletError as error:
            log.warning("%s: whether others give it out is not known: %s", endpoint.resource, error)
            return
        if others:
            raise _TakenError(
                f"another device plugin gives {endpoint.resource} out already: "
                f"{', '.join(sorted(others))}; give this one another resourceName, or end that one"
            )

    def _say(self, name: str, problem: Problem | None) -> None:
        if self._problems.get(name) == problem:
            return
        if problem is None:
            del self._problems[name]
        else:
            log.warning("%s", problem.message)
            self._problems[name] = problem
        self._changed()

    async def _watch_directory(self) -> None:
        """Wake all when a socket comes or goes: a kubelet that starts removes all and makes its."""
        while True:
            with suppress(OSError), directory_events(self._directory, self._wake):
                self._wake()
                while self._directory.exists():
                    await asyncio.sleep(_LOOK_SECONDS)
            await asyncio.sleep(self._retry_seconds)

    def _wake(self) -> None:
        for resource in self._resources.values():
            resource.wake.set()
