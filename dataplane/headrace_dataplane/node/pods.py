# SPDX-License-Identifier: Apache-2.0
"""The commands of the CNI: devices for the pods that Interfaces name, and none for others."""

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address
from itertools import pairwise
from typing import Any, TypeVar, cast

from pydantic import ValidationError

from headrace_api import (
    CompiledInterface,
    CompiledNetwork,
    ConditionStatus,
    Interface,
    Json,
    config_name,
    pod_device,
    pod_interfaces,
)
from headrace_api.pod import MIRROR_ANNOTATION, STATIC_POD_ANNOTATION, PodNetworksError
from headrace_dataplane.follow import follow
from headrace_dataplane.node import links
from headrace_dataplane.node.cni import POD_ANNOTATIONS, CNIError, Code, Request, result
from headrace_dataplane.node.configs import Configs
from headrace_kube import INTERFACES, PODS, Kube, KubeError, Listing

log = logging.getLogger(__name__)

T = TypeVar("T")
_LOOK_SECONDS = 0.01
_ANYWHERE = {4: "0.0.0.0/0", 6: "::/0"}


@dataclass(frozen=True)
class _Plan:
    """What the compiler has made of an Interface."""

    interface: CompiledInterface
    network: CompiledNetwork


class Pods:
    """Answers the commands of the CNI on one node."""

    def __init__(
        self, kube: Kube, node: str, configs: Configs, *, ask_api_server: bool = False
    ) -> None:
        """`ask_api_server`: for the annotations of pods, where the runtime does not give them."""
        self._ask_api_server = ask_api_server
        self._kube = kube
        self._node = node
        self._configs = configs
        # One thread: what is made and what is removed at the same time must not meet.
        self._thread = ThreadPoolExecutor(1, "links")

    async def answer(self, request: Request, sandbox: int) -> Json | None:
        """Do what is asked and return the result, if it has one. Raises CNIError.

        `sandbox` is the pod's network namespace, an open file; -1: it is gone.
        """
        match request.command:
            case "ADD":
                return await self._add(request, sandbox)
            case "CHECK":
                await self._check(request, sandbox)
            case "DEL":
                removed = await self._run(partial(links.unplug, _owner(request)))
                if removed:
                    log.info("%s: removed %s", _pod(request), ", ".join(removed))
            case "GC":
                await self._collect(request)
        return None

    async def _add(self, request: Request, sandbox: int) -> Json:
        began, seconds, names = time.monotonic(), request.config.timeout_seconds, list[str]()
        try:
            async with asyncio.timeout(seconds):
                uid, found = await self._interfaces(request)
                names += found
                async with asyncio.TaskGroup() as tasks:
                    plugging = [
                        tasks.create_task(self._device(request, uid, name, sandbox))
                        for name in names
                    ]
        except ExceptionGroup as group:
            raise _failure(group.exceptions[0], request) from group
        except TimeoutError:
            why = await self._why(request.arguments.get("K8S_POD_NAMESPACE", ""), names)
            message = f"pod {_pod(request)} has no network after {seconds} s: {why}"
            raise CNIError(Code.TRY_AGAIN_LATER, message) from None
        except (KubeError, CNIError) as error:
            raise _failure(error, request) from error
        if names:
            took = 1000 * (time.monotonic() - began)
            log.info("%s: plugged in after %.0f ms: %s", _pod(request), took, ", ".join(names))
        config = request.config
        devices = [task.result() for task in plugging]
        return result(config.version, config.previous, request.namespace, devices)

    async def _interfaces(self, request: Request) -> tuple[str, tuple[str, ...]]:
        """Return the pod's uid on its node, and the names of the Interfaces that it shall have."""
        arguments = request.arguments
        name, namespace = arguments.get("K8S_POD_NAME"), arguments.get("K8S_POD_NAMESPACE")
        uid = arguments.get("K8S_POD_UID", "")
        if not name or not namespace:
            return "", ()
        annotations = request.config.pod_annotations
        if annotations is None:
            uid, annotations = await self._asked(namespace, name, uid)
        try:
            found = pod_interfaces(name, annotations)
        except PodNetworksError as error:
            raise CNIError(Code.INVALID_CONFIG, f"pod {namespace}/{name}: {error}") from error
        if found and not uid:
            message = f"pod {namespace}/{name}: the runtime gives no K8S_POD_UID in CNI_ARGS"
            raise CNIError(Code.INVALID_ENVIRONMENT, message)
        return uid, found

    async def _asked(self, namespace: str, name: str, uid: str) -> tuple[str, dict[str, str]]:
        """Ask the API server for the uid that a pod has on its node, and its annotations."""
        if not self._ask_api_server:
            message = (
                f"pod {namespace}/{name}: the container runtime does not give its annotations "
                f"({POD_ANNOTATIONS}): set nodeAgent.cni.podAnnotations=APIServer in the chart"
            )
            raise CNIError(Code.TRY_AGAIN_LATER, message)
        try:
            metadata = _metadata(await self._kube.get(PODS, name, namespace))
        except KubeError as error:
            if error.absent:
                # Of a manifest on the node's disk: the kubelet has not shown it there yet.
                message = f"pod {namespace}/{name} is not at the API server (yet)"
                raise CNIError(Code.TRY_AGAIN_LATER, f"{message}: it is tried again") from None
            raise
        annotations = metadata.get("annotations") or {}
        there = annotations.get(MIRROR_ANNOTATION, str(metadata["uid"]))
        if uid not in ("", there):
            message = f"pod {namespace}/{name} has been replaced by another of its name"
            raise CNIError(Code.TRY_AGAIN_LATER, message)
        return there, annotations

    async def _device(self, request: Request, uid: str, name: str, sandbox: int) -> links.Device:
        """Plug the pod into what an Interface leads to, once the dataplane takes part."""
        while True:
            interface = await self._allocated(request, uid, name)
            config = config_name(interface.spec.pipeline_ref.name, self._node)
            plan = await self._configs.wait(config, partial(_plan, interface))
            endpoint = _endpoint(plan)
            device = await self._run(partial(links.plug, endpoint, _owner(request), sandbox))
            if await self._configs.wait(config, partial(_ready, interface, plan)):
                while not links.is_read(endpoint.host):
                    await asyncio.sleep(_LOOK_SECONDS)
                return device

    async def _allocated(self, request: Request, uid: str, name: str) -> Interface:
        """Wait until an Interface is this pod's, and has its addresses here."""
        namespace = request.arguments["K8S_POD_NAMESPACE"]
        stream = follow(self._kube, INTERFACES, namespace, fields=f"metadata.name={name}")
        async with aclosing(stream):
            async for seen in stream:
                if not isinstance(seen, Listing) and seen.type == "DELETED":
                    continue
                for item in seen.items if isinstance(seen, Listing) else [seen.object]:
                    interface = self._usable(item, request, uid)
                    if interface is not None:
                        return interface
        raise AssertionError("following has no end")

    def _usable(self, item: Json, request: Request, uid: str) -> Interface | None:
        """The Interface, if it is not that of an earlier pod, and has its addresses here."""
        metadata = _metadata(item)
        owners = metadata.get("ownerReferences") or ()
        static = (metadata.get("annotations") or {}).get(STATIC_POD_ANNOTATION)
        if metadata.get("deletionTimestamp") or not _names(item, request.arguments["K8S_POD_NAME"]):
            return None
        if any(owner["kind"] == "Pod" and uid not in (owner["uid"], static) for owner in owners):
            return None
        try:
            interface = Interface.read(item)
        except ValidationError as error:
            message = f"Interface {metadata['name']} is not understood by this release: {error}"
            raise CNIError(Code.INVALID_CONFIG, message) from error
        status = interface.status
        here = status is not None and status.addresses and status.node_name == self._node
        return interface if here else None

    async def _why(self, namespace: str, names: list[str]) -> str:
        """Say what is not ready, as far as the API server says."""
        for name in names:
            what = f"Interface {namespace}/{name}"
            try:
                item = await self._kube.get(INTERFACES, name, namespace)
            except KubeError as error:
                if error.absent:
                    return f"{what} is not there: see the pod's events"
                return error.message
            status = cast("dict[str, Any]", item.get("status") or {})
            for condition in status.get("conditions", ()):
                if condition["type"] == "Ready" and condition["status"] != ConditionStatus.TRUE:
                    return f"{what} is not ready: {condition['reason']}: {condition['message']}"
        if names:
            return f"the dataplane of node {self._node} does not say that it forwards"
        return "the API server does not answer"

    async def _check(self, request: Request, sandbox: int) -> None:
        previous = request.config.previous
        if previous is None:
            raise CNIError(Code.INVALID_CONFIG, "CHECK needs prevResult")
        try:
            await self._run(partial(links.check, _owner(request), sandbox, _expected(previous)))
        except links.LinkError as error:
            raise CNIError(Code.INTERNAL, f"pod {_pod(request)}: {error}") from error

    async def _collect(self, request: Request) -> None:
        in_use = request.config.in_use
        if in_use is None:
            log.warning("GC without cni.dev/valid-attachments: what is in use is not known")
            return
        removed = await self._run(partial(links.collect, request.config.name, in_use))
        if removed:
            log.info("nobody's any more: removed %s", ", ".join(removed))

    async def _run(self, work: Callable[[], T]) -> T:
        """Work on devices; when cancelled, not before it is done: it uses the open namespace."""
        future = asyncio.get_running_loop().run_in_executor(self._thread, work)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait((future,))
            raise


def _failure(error: Exception, request: Request) -> Exception:
    """What a runtime is told of a failed ADD."""
    match error:
        case KubeError():
            return CNIError(Code.TRY_AGAIN_LATER, f"pod {_pod(request)}: {error.message}")
        case links.LinkError():
            return CNIError(Code.IO_FAILURE, f"pod {_pod(request)}: {error}")
    return error


def _plan(interface: Interface, config: Json) -> _Plan | None:
    """What is compiled for an Interface, if it is that of its present addresses."""
    spec = cast("dict[str, Any]", config["spec"])
    for item in spec.get("interfaces", ()):
        if f"{item['namespace']}/{item['name']}" == interface.key:
            compiled = CompiledInterface.read(item)
            status = interface.status
            if status is None or {*compiled.addresses} != {*status.addresses}:
                return None
            for network in spec["networks"]:
                if f"{network['namespace']}/{network['name']}" == compiled.network:
                    return _Plan(compiled, CompiledNetwork.read(network))
    return None


def _ready(interface: Interface, plan: _Plan, config: Json) -> bool | None:
    """True: the dataplane forwards; False: it shall do something else by now; None: not yet."""
    if _plan(interface, config) != plan:
        return False
    status = cast("dict[str, Any]", config.get("status") or {})
    for state in status.get("interfaces", ()):
        if f"{state['namespace']}/{state['name']}" == interface.key and state["ready"]:
            return True
    return None


def _endpoint(plan: _Plan) -> links.Endpoint:
    interface, network = plan.interface, plan.network
    pod = interface.attachment.pod
    if pod is None:
        message = f"Interface {interface.namespace}/{interface.name} has no attachment.pod"
        raise CNIError(Code.INVALID_CONFIG, message)
    families = {ip_address(address).version for address in interface.addresses}
    routes = []
    for prefix, gateway in zip(network.subnets, network.gateways, strict=True):
        family = ip_address(gateway).version
        if family in families:
            routes.append((prefix, gateway))
            if pod.default_route and _ANYWHERE[family] not in dict(routes):
                routes.append((_ANYWHERE[family], gateway))
    return links.Endpoint(
        host=pod_device(f"{interface.namespace}/{interface.name}"),
        name=pod.device_name,
        mac=interface.mac_address,
        mtu=interface.mtu,
        addresses=tuple(
            f"{address}/{ip_address(address).max_prefixlen}" for address in interface.addresses
        ),
        routes=tuple(routes),
    )


def _expected(previous: Json) -> dict[str, tuple[str, ...]]:
    """Addresses by our device in the pod: in a result it follows its end on the host."""
    interfaces = cast("list[dict[str, Any]]", previous.get("interfaces") or [])
    ips = cast("list[dict[str, Any]]", previous.get("ips") or [])
    return {
        str(inside.get("name")): tuple(
            str(ip.get("address")) for ip in ips if ip.get("interface") == number
        )
        for number, (host, inside) in enumerate(pairwise(interfaces), 1)
        if links.is_host_device(str(host.get("name"))) and not host.get("sandbox")
    }


def _owner(request: Request) -> links.Owner:
    return links.Owner(request.config.name, request.container, _pod(request))


def _pod(request: Request) -> str:
    """Name of the pod for people."""
    arguments = request.arguments
    return f"{arguments.get('K8S_POD_NAMESPACE', '')}/{arguments.get('K8S_POD_NAME', '')}"


def _names(interface: Json, pod: str) -> bool:
    """Whether an Interface names this pod of its namespace."""
    spec = cast("dict[str, Any]", interface["spec"])
    return (spec["attachment"].get("pod") or {}).get("name") == pod


def _metadata(item: Json) -> dict[str, Any]:
    return cast("dict[str, Any]", item["metadata"])
