# SPDX-License-Identifier: Apache-2.0
"""A command at a node of a cluster: run inside the dataplane pod there, as `kubectl exec` does.

What WebSocket exec looks like: `kubectl exec -v=9`, and k8s.io/apimachinery/pkg/util/remotecommand
(the channels and the protocol's names).
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import aiohttp
from pydantic import Field, ValidationError

from headrace_api import PIPELINE_LABEL, RUNTIME_DIRECTORY, ObjectMeta
from headrace_api.base import StatusModel
from headrace_cli.cluster import ask, forbidden
from headrace_cli.errors import CommandError
from headrace_kube import NODES, PODS, Kube, KubeError

CONTAINER = "dataplane"
SOCKET = f"{RUNTIME_DIRECTORY}/engine.sock"
"""The engine's control socket in every dataplane pod."""

# Version 5 adds only that a client can end its stdin, which is not sent here.
_PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
_STDOUT, _STDERR, _ERROR = 1, 2, 3
_WRONG_USAGE = 2


class _ContainerState(StatusModel):
    class Idle(StatusModel):
        reason: str = ""
        message: str = ""

    waiting: Idle | None = None
    terminated: Idle | None = None
    running: dict[str, object] | None = None


class _ContainerStatus(StatusModel):
    name: str
    state: _ContainerState = _ContainerState()


class _PodCondition(StatusModel):
    type: str
    status: str
    message: str = ""


class _PodStatus(StatusModel):
    phase: str = ""
    reason: str = ""
    message: str = ""
    conditions: tuple[_PodCondition, ...] = ()
    container_statuses: tuple[_ContainerStatus, ...] = ()


class _PodSpec(StatusModel):
    node_name: str = ""


class Pod(StatusModel):
    """What matters of a pod, above all a dataplane's (core/v1)."""

    metadata: ObjectMeta
    spec: _PodSpec = _PodSpec()
    status: _PodStatus = _PodStatus()

    @property
    def pipeline(self) -> str:
        """The Pipeline whose engine it runs."""
        return self.metadata.labels.get(PIPELINE_LABEL, "")

    @property
    def key(self) -> str:
        """namespace/name."""
        return f"{self.metadata.namespace}/{self.metadata.name}"

    @property
    def ready(self) -> bool:
        """Whether its readiness probe succeeds."""
        return any(c.type == "Ready" and c.status == "True" for c in self.status.conditions)

    @property
    def running(self) -> bool:
        """Whether commands can run in it."""
        return any(
            c.name == CONTAINER and c.state.running is not None
            for c in self.status.container_statuses
        )

    @property
    def trouble(self) -> str:
        """Why it does not run, as far as Kubernetes says; empty when it does."""
        if self.status.message:
            return f"{self.status.reason}: {self.status.message}"
        for container in self.status.container_statuses:
            idle = container.state.waiting or container.state.terminated
            if idle is not None:
                return ": ".join(filter(None, (idle.reason, idle.message.strip())))
        for condition in self.status.conditions:
            if condition.type == "PodScheduled" and condition.status != "True":
                return condition.message or "not scheduled"
        return "" if self.status.phase == "Running" else f"phase {self.status.phase or 'unknown'}"


@dataclass(frozen=True)
class Exit:
    """How a command in a pod ended."""

    status: int
    stdout: bytes
    stderr: bytes


class _Outcome(StatusModel):
    """metav1.Status on the error channel: the exit status hides in the details."""

    class Details(StatusModel):
        class Cause(StatusModel):
            reason: str = ""
            message: str = ""

        causes: tuple[Cause, ...] = ()

    status: str = ""
    reason: str = ""
    message: str = ""
    details: Details = Field(default_factory=Details)

    def exit_status(self) -> int | None:
        """The command's exit status, None when it could not be run."""
        if self.status == "Success":
            return 0
        for cause in self.details.causes:
            if cause.reason == "ExitCode" and cause.message.isdigit():
                return int(cause.message)
        return None


async def pods(kube: Kube, namespace: str, pipeline: str | None = None) -> list[Pod]:
    """Return the dataplane pods of the system namespace that are not ending. Raises KubeError."""
    labels = PIPELINE_LABEL + (f"={pipeline}" if pipeline else "")
    found = await kube.list(PODS, namespace, labels)
    every = [Pod.model_validate(item) for item in found.items]
    return [pod for pod in every if not pod.metadata.deletion_timestamp]


def choose(found: Sequence[Pod], node: str | None, pipeline: str | None, namespace: str) -> Pod:
    """Return the one running pod that is meant. Raises CommandError."""
    here = [pod for pod in found if node in (None, pod.spec.node_name)]
    which = f" of Pipeline {pipeline}" if pipeline else ""
    if not here:
        nodes = ", ".join(sorted({pod.spec.node_name for pod in found} - {""}))
        where = f" on node {node}" if node else ""
        there = f"it runs on {nodes}" if nodes else f"see kubectl -n {namespace} get pods"
        raise CommandError(f"no dataplane pod{which} is{where} in namespace {namespace}: {there}")
    nodes_here = sorted({pod.spec.node_name for pod in here})
    if len(nodes_here) > 1:
        raise CommandError(f"choose a node with --node ({', '.join(nodes_here)})")
    pipelines = sorted({pod.pipeline for pod in here})
    if len(pipelines) > 1:
        raise CommandError(
            f"node {nodes_here[0]} runs several Pipelines: choose one with --pipeline "
            f"({', '.join(pipelines)})"
        )
    # While one replaces another there are two.
    running = [pod for pod in here if pod.running]
    if not running:
        raise CommandError(
            f"pod {here[0].key} is not running ({here[0].trouble}): "
            f"see kubectl -n {namespace} describe pod {here[0].metadata.name}"
        )
    return running[0]


async def execute(
    kube: Kube,
    pod: Pod,
    command: Sequence[str],
    output: Callable[[int, bytes], None],
    container: str = CONTAINER,
) -> int:
    """Run the command in the container of the pod and return its exit status.

    `output` is called with 1 (stdout) or 2 (stderr) and bytes as they come. Raises CommandError,
    KubeError.
    """
    namespace, name = pod.metadata.namespace, pod.metadata.name
    query = [("container", container), ("stdout", "true"), ("stderr", "true")]
    query += [("command", word) for word in command]
    outcome = b""
    try:
        async with kube.websocket(PODS.path(namespace, name, "exec"), query, _PROTOCOLS) as socket:
            async for message in socket:
                if message.type is not aiohttp.WSMsgType.BINARY or not message.data:
                    continue
                channel, data = message.data[0], message.data[1:]
                if channel in (_STDOUT, _STDERR):
                    output(channel, data)
                elif channel == _ERROR:
                    outcome += data
    except KubeError as error:
        if forbidden(error):
            raise CommandError(
                f"you may not run commands in pod {pod.key}: it takes a Role in namespace "
                f'{namespace} with apiGroups [""], resources ["pods/exec"], verbs ["get", "create"]'
            ) from error
        if error.absent:
            raise CommandError(f"pod {pod.key} is gone: try again") from error
        raise
    try:
        ended = _Outcome.model_validate(json.loads(outcome))
    except (ValueError, ValidationError):
        raise CommandError(f"the connection to pod {pod.key} broke off: try again") from None
    status = ended.exit_status()
    if status is None:
        raise CommandError(f"{command[0]} cannot run in pod {pod.key}: {ended.message}")
    return status


async def captured(
    kube: Kube, pod: Pod, command: Sequence[str], container: str = CONTAINER
) -> Exit:
    """Run the command in the pod and return all that it wrote. Raises CommandError, KubeError."""
    written = {_STDOUT: bytearray(), _STDERR: bytearray()}
    status = await execute(
        kube, pod, command, lambda channel, data: written[channel].extend(data), container
    )
    return Exit(status, bytes(written[_STDOUT]), bytes(written[_STDERR]))


async def find(kube: Kube, node: str | None, pipeline: str | None, namespace: str) -> Pod:
    """Return the dataplane pod that the options name. Raises CommandError, KubeError."""
    if node is not None:
        await _check_node(kube, node)
    return choose(await pods(kube, namespace, pipeline), node, pipeline, namespace)


async def _check_node(kube: Kube, node: str) -> None:
    try:
        await kube.get(NODES, node)
    except KubeError as error:
        # Who may not read nodes may still ask their engines.
        if forbidden(error):
            return
        if not error.absent:
            raise
        raise CommandError(f"the cluster has no node {node}: see kubectl get nodes") from error


def run_at_node(arguments: argparse.Namespace, words: Sequence[str]) -> int:
    """Run the command with `words` in the dataplane pod that `arguments` name, and pass all on."""

    def output(channel: int, data: bytes) -> None:
        stream = sys.stdout if channel == _STDOUT else sys.stderr
        stream.buffer.write(data)
        stream.buffer.flush()

    async def work(kube: Kube) -> int:
        pod = await find(kube, arguments.node, arguments.pipeline, arguments.system_namespace)
        command = ["headrace", arguments.command, "--socket", SOCKET, *words]
        status = await execute(kube, pod, command, output)
        if status == _WRONG_USAGE:
            raise CommandError(
                f"pod {pod.key} does not know these options: it is of another release; use those "
                "that it has, or bring both to one release"
            )
        return status

    return ask(arguments, work)
