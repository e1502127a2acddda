# SPDX-License-Identifier: Apache-2.0
"""What must be well before a packet can be: each function returns what is wrong, or nothing.

All of them read only. They raise KubeError where the API server does not let them.
"""

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus

from headrace_api import PIPELINE_LABEL, Json
from headrace_api.raw import items, mapping, number, part, text
from headrace_cli.errors import CommandError
from headrace_cli.overview import Seen, look, readiness
from headrace_cli.remote import SOCKET, Pod, captured
from headrace_kube import DAEMON_SETS, INTERFACES, LEASES, PODS, Kind, Kube, KubeError

OPERATOR = "headrace-operator"
NODE_AGENT = "headrace-node"
IMAGE_ANNOTATION = "headrace.dev/connectivity-image"
"""Of the node agent's DaemonSet: the image of the test's pods, as the chart has it."""
DEPLOYMENTS = Kind("Deployment", "deployments", "apps/v1")
NETWORK_ATTACHMENTS = Kind(
    "NetworkAttachmentDefinition", "network-attachment-definitions", "k8s.cni.cncf.io/v1"
)
WAITING = "the operator has not looked at it yet"

_COMPONENT = "app.kubernetes.io/name=headrace,app.kubernetes.io/component="
_POLL_SECONDS = 0.5
_SETTLE_SECONDS = 5.0
# By then another would hold the Lease.
_OPERATOR_SECONDS = 20.0
# The engine's client waits for ten.
_ENGINE_SECONDS = 30.0
_SHOWN = 20


async def objects(kube: Kube, system: str) -> str:
    """Name what is not Ready of all that may be read; what has just changed gets some seconds."""
    deadline = time.monotonic() + _SETTLE_SECONDS
    while True:
        seen = await look(kube, system)
        problems = [
            f"{kind.name} {row.title}: {' '.join(row.state.message.split())} ({row.state.reason})"
            for kind, rows in seen.kinds.items()
            for row in rows
            if not row.state.ready
        ]
        if not problems or time.monotonic() > deadline:
            break
        await asyncio.sleep(_POLL_SECONDS)
    if seen.notes and not problems:
        raise KubeError(HTTPStatus.FORBIDDEN, "Forbidden", "; ".join(seen.notes))
    more = [f"and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []
    return "; ".join([*problems[:_SHOWN], *more])


async def operator(kube: Kube, system: str) -> str:
    """Say why the operator does nothing."""
    deadline = time.monotonic() + _OPERATOR_SECONDS
    first = ""
    while True:
        try:
            deployment = await kube.get(DEPLOYMENTS, OPERATOR, system)
        except KubeError as error:
            if not error.absent:
                raise
            return (
                f"there is no Deployment {OPERATOR} in namespace {system}: install the chart, or "
                "name its namespace with --system-namespace"
            )
        wanted = number(part(deployment, "spec").get("replicas"))
        if not wanted:
            return (
                f"it is scaled to 0: kubectl -n {system} scale deployment {OPERATOR} --replicas=2"
            )
        lease = await _lease(kube, system)
        renewed = text(lease.get("renewTime"))
        first = first or renewed
        # Whatever the clocks say: somebody alive writes it every two seconds.
        if number(part(deployment, "status").get("readyReplicas")) and renewed != first:
            return ""
        if time.monotonic() > deadline:
            break
        await asyncio.sleep(_POLL_SECONDS)
    troubles = await _troubles(kube, system, "operator")
    if len(troubles) == wanted:
        return f"none of its pods is ready: {'; '.join(troubles)}"
    holder = text(lease.get("holderIdentity")).partition("_")[0] or "nobody"
    return (
        f"Lease {OPERATOR}, which {holder} holds, has not been renewed for "
        f"{_OPERATOR_SECONDS:.0f} s: see kubectl -n {system} logs deployment/{OPERATOR}"
    )


async def _lease(kube: Kube, system: str) -> Json:
    try:
        return part(await kube.get(LEASES, OPERATOR, system), "spec")
    except KubeError as error:
        if not error.absent:
            raise
        return {}


async def node_agent(kube: Kube, system: str, nodes: Sequence[str]) -> str:
    """Say why pods on these nodes get no device."""
    try:
        await kube.get(DAEMON_SETS, NODE_AGENT, system)
    except KubeError as error:
        if not error.absent:
            raise
        return (
            "it is off, and without it no pod joins a network: helm upgrade headrace "
            f"helm/headrace -n {system} --reuse-values --set nodeAgent.enabled=true"
        )
    listed = (await kube.list(PODS, system, f"{_COMPONENT}node")).items
    ready = {pod.spec.node_name for pod in map(Pod.model_validate, listed) if pod.ready}
    missing = [node for node in nodes if node not in ready]
    if not missing:
        return ""
    why = "; ".join(await _troubles(kube, system, "node"))
    return f"it is not ready on {', '.join(missing)}: {why or 'it has no pod there'}"


@dataclass(frozen=True)
class Installed:
    """What the test must know of how the chart was installed."""

    image: str
    """For the pods of the test."""
    multus: bool
    """Whether pods get no device unless Multus asks for it (nodeAgent.cni.chained=false)."""


async def installed(kube: Kube, system: str) -> Installed:
    """Read it from the node agent's DaemonSet. Raises CommandError where it does not say."""
    daemon_set = await kube.get(DAEMON_SETS, NODE_AGENT, system)
    image = text(part(daemon_set, "metadata", "annotations").get(IMAGE_ANNOTATION))
    if not image:
        raise CommandError(
            f"DaemonSet {NODE_AGENT} in namespace {system} does not name the image of the test's "
            f"pods ({IMAGE_ANNOTATION}): it is of an earlier release, upgrade the chart"
        )
    arguments = [
        text(word)
        for container in map(
            mapping, items(part(daemon_set, "spec", "template", "spec").get("containers"))
        )
        for word in items(container.get("args"))
    ]
    multus = not any(word.startswith("--conf-dir") for word in arguments)
    return Installed(image, multus)


async def dataplane(
    kube: Kube, pod: Pod | None, pipeline: str, system: str
) -> tuple[str, list[str]]:
    """Return why a node's engine does not forward, and names of uplinks that are not up."""
    if pod is None:
        return (
            f"Pipeline {pipeline} has no dataplane pod there: see kubectl -n {system} get pods "
            f"-o wide -l {PIPELINE_LABEL}={pipeline}"
        ), []
    see = f"kubectl -n {system} logs {pod.metadata.name}"
    if not pod.running:
        return f"pod {pod.metadata.name} does not run: {pod.trouble}", []
    command = ["headrace", "status", "--seconds", "0", "-o", "json", "--socket", SOCKET]
    try:
        async with asyncio.timeout(_ENGINE_SECONDS):
            ended = await captured(kube, pod, command)
    except TimeoutError:
        return f"no command ends in its pod: see {see}", []
    except CommandError as error:
        return str(error), []
    try:
        status = mapping(json.loads(ended.stdout))
    except ValueError:
        said = ended.stderr.decode(errors="replace").strip().removeprefix("headrace status: ")
        return f"the engine does not answer ({said}): see {see}", []
    uplinks = map(mapping, items(status.get("uplinks")))
    down = [text(uplink.get("name")) for uplink in uplinks if uplink.get("state") != "up"]
    problem = "" if pod.ready else f"pod {pod.metadata.name} is not ready: see {see}"
    return problem, down


async def why_not_started(
    kube: Kube, system: str, namespace: str, interfaces: Mapping[str, str]
) -> str:
    """Say why pods (interfaces: pod -> its Interface) have not become ready in time."""
    listed = (await kube.list(PODS, namespace)).items
    pods = {pod.metadata.name: pod for pod in map(Pod.model_validate, listed)}
    listed = (await kube.list(INTERFACES, namespace)).items
    seen = {item.metadata.name: item for item in map(Seen.model_validate, listed)}
    found = []
    for name, interface in sorted(interfaces.items()):
        pod = pods.get(name)
        if pod is None or pod.status.phase == "Failed":
            found.append(f"pod {name}: {pod.trouble}" if pod else f"pod {name} is gone")
            continue
        state = readiness(seen[interface], WAITING) if interface in seen else None
        if state is None or state.message == WAITING:
            # The pods have waited for long: one more look at it says more.
            why = await operator(kube, system) or f"see its log in namespace {system}"
            what = "status" if state else "Interface"
            return f"the operator does not answer: pod {name} has got no {what}: {why}"
        found.append(
            f"pod {name}: {pod.trouble or 'not ready'}"
            if state.ready
            else f"Interface {interface}: {state.message} ({state.reason})"
        )
    return "; ".join(found)


async def _troubles(kube: Kube, system: str, component: str) -> list[str]:
    listed = (await kube.list(PODS, system, f"{_COMPONENT}{component}")).items
    return [
        f"{pod.metadata.name}: {pod.trouble or 'not ready'}"
        for pod in map(Pod.model_validate, listed)
        if not pod.ready
    ]
