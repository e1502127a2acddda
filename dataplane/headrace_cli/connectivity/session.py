# SPDX-License-Identifier: Apache-2.0
"""The test in a cluster: choose where, make the objects, send, look, clean up."""

import argparse
import asyncio
import base64
import json
import secrets
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from headrace_api import API_VERSION, AttachmentType, Json, Pipeline
from headrace_cli.cluster import ask, explain
from headrace_cli.connectivity import report
from headrace_cli.connectivity.frames import captured as frames_of
from headrace_cli.connectivity.plan import (
    MOST_NODES,
    NETWORKS,
    REPEAT,
    Endpoint,
    Flow,
    Outcome,
    Plan,
    Result,
    Role,
)
from headrace_cli.errors import CommandError
from headrace_cli.overview import Readiness, Seen, readiness
from headrace_cli.remote import SOCKET, Pod, captured, pods
from headrace_kube import (
    INTERFACES,
    NAMESPACES,
    NODES,
    PIPELINES,
    VIRTUAL_NETWORKS,
    Kind,
    Kube,
    KubeError,
)
from headrace_operator.render import parse

TEMPORARY = "headrace-connectivity"
_UNDERLAY = "fd68:6561:6472:6163::/64"
_POLL_SECONDS = 0.5
_PATIENCE_SECONDS = 2.0
_ATTEMPT_SECONDS = 5.0
_ATTEMPTS = 8
_WAITING = "the operator has not looked at it yet"
_LABELS: Json = {"app.kubernetes.io/name": "headrace", "app.kubernetes.io/component": TEMPORARY}


def run(arguments: argparse.Namespace) -> int:
    """Test and print the results; 1 when a check failed. Raises CommandError."""
    results = ask(arguments, lambda kube: _interruptible(_Session(kube, arguments).run()))
    report.show(results, arguments.output)
    return 1 if any(result.outcome is Outcome.FAILED for result in results) else 0


async def _interruptible(work: Awaitable[list[Result]]) -> list[Result]:
    """Have SIGTERM end the work as Ctrl-C does: cleaning up."""
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    terminated = asyncio.Event()

    def terminate() -> None:
        terminated.set()
        task.cancel()

    loop.add_signal_handler(signal.SIGTERM, terminate)
    try:
        return await task
    except asyncio.CancelledError:
        if terminated.is_set():
            raise CommandError("ended by SIGTERM") from None
        raise
    finally:
        loop.remove_signal_handler(signal.SIGTERM)


@asynccontextmanager
async def _step(text: str) -> AsyncIterator[None]:
    """Say what takes long, on stderr."""

    async def tell() -> None:
        await asyncio.sleep(_PATIENCE_SECONDS)
        print(f"{text} ...", file=sys.stderr, flush=True)

    telling = asyncio.create_task(tell())
    try:
        yield
    finally:
        telling.cancel()


class _Session:
    def __init__(self, kube: Kube, arguments: argparse.Namespace) -> None:
        self._kube = kube
        self._system: str = arguments.system_namespace
        self._pipeline: str | None = arguments.pipeline
        self._nodes = tuple(filter(None, (arguments.nodes or "").split(",")))
        self._namespace: str | None = arguments.namespace
        self._deadline = time.monotonic() + arguments.timeout
        self._run = secrets.token_hex(4)
        self._pods: dict[str, Pod] = {}
        self._cleanup = AsyncExitStack()

    async def run(self) -> list[Result]:
        """Test and clean up. Raises CommandError, KubeError."""
        if len(set(self._nodes)) > MOST_NODES:
            raise CommandError(f"--nodes: at most {MOST_NODES} nodes")
        async with self._cleanup:
            return await self._test(await self._prepare())

    # Where

    async def _prepare(self) -> Plan:
        pipeline = await self._choose()
        if pipeline is None:
            pipeline = await self._make_pipeline()
        name = pipeline.metadata.name
        async with _step(f"waiting for dataplane pods of Pipeline {name}"):
            self._pods = await self._find_pods(name)
        namespace = self._namespace or await self._make_namespace()
        return Plan(self._run, namespace, name, tuple(self._pods), bool(pipeline.spec.uplinks))

    async def _choose(self) -> Pipeline | None:
        """Return the Pipeline to test, None when there is none to choose from."""
        listed = (await self._kube.list(PIPELINES)).items
        found: list[tuple[int, str, Pipeline]] = []
        for item in listed:
            seen = Seen.model_validate(item)
            name = seen.metadata.name
            pipeline = parse("Pipeline", item)
            if self._pipeline not in (None, name) or not isinstance(pipeline, Pipeline):
                continue
            if self._pipeline is None and name.startswith(TEMPORARY):
                # Of another run, which takes it away when it ends.
                continue
            allowed = AttachmentType.PCAP in pipeline.spec.attachment_types
            if self._pipeline is not None and not allowed:
                raise CommandError(
                    f"Pipeline {name} does not allow Pcap: add it to spec.attachmentTypes, or "
                    "leave --pipeline out to test with a temporary Pipeline"
                )
            state = readiness(seen, _WAITING)
            if self._pipeline is not None and not state.ready:
                raise CommandError(
                    f"Pipeline {name} is not ready: {state.message} ({state.reason})"
                )
            if allowed and state.ready:
                found.append((-len(seen.status.nodes), name, pipeline))
        if self._pipeline is not None and not found:
            raise CommandError(f"there is no Pipeline {self._pipeline}: see kubectl get pipelines")
        return min(found, default=(0, "", None))[2]

    async def _make_pipeline(self) -> Pipeline:
        node = await self._any_node()
        metadata = node.metadata
        item: Json = {
            "apiVersion": API_VERSION,
            "kind": "Pipeline",
            "metadata": {"name": f"{TEMPORARY}-{self._run}", "labels": _LABELS},
            "spec": {
                "nodeSelector": {
                    "matchLabels": {
                        "kubernetes.io/hostname": metadata.labels.get(
                            "kubernetes.io/hostname", metadata.name
                        )
                    }
                },
                "attachmentTypes": ["Pcap"],
                "workers": {"count": 1, "shareControlCore": True},
                "underlayPrefix": _UNDERLAY,
            },
        }
        print(
            f"no Pipeline is ready and allows Pcap: making a temporary one on node {metadata.name}",
            file=sys.stderr,
        )
        await self._create(PIPELINES, item)
        return Pipeline.model_validate(item)

    async def _any_node(self) -> Seen:
        listed = (await self._kube.list(NODES)).items
        nodes = {str(_part(item, "metadata").get("name")): item for item in listed}
        wanted = self._nodes or sorted(nodes)
        for name in wanted:
            if name not in nodes:
                raise CommandError(f"the cluster has no node {name}: see kubectl get nodes")
            spec = _part(nodes[name], "spec")
            if not spec.get("unschedulable") and not spec.get("taints"):
                return Seen.model_validate({**nodes[name], "spec": {}, "status": {}})
        raise CommandError(
            f"no node to test on: {', '.join(wanted) or 'the cluster has none'} "
            "(a node with taints takes no temporary Pipeline: name one of yours with --pipeline)"
        )

    async def _find_pods(self, pipeline: str) -> dict[str, Pod]:
        """Return a ready pod on each node to test, by node."""
        while True:
            found = await pods(self._kube, self._system, pipeline)
            ready = {pod.spec.node_name: pod for pod in found if pod.ready}
            if set(self._nodes) <= ready.keys() and ready:
                chosen = self._nodes or sorted(ready)[:MOST_NODES]
                return {node: ready[node] for node in sorted(chosen)}
            if time.monotonic() > self._deadline:
                missing = ", ".join(sorted(set(self._nodes) - ready.keys())) or "any node"
                why = [f"{pod.key}: {pod.trouble or 'not ready'}" for pod in found]
                seen = Seen.model_validate(await self._kube.get(PIPELINES, pipeline))
                state = readiness(seen, _WAITING)
                if not state.ready:
                    why.append(f"Pipeline: {state.message} ({state.reason})")
                raise CommandError(
                    f"Pipeline {pipeline} has no dataplane pod that is ready on {missing}: "
                    + ("; ".join(why) or f"see kubectl -n {self._system} get pods")
                )
            await asyncio.sleep(_POLL_SECONDS)

    async def _make_namespace(self) -> str:
        name = f"{TEMPORARY}-{self._run}"
        item: Json = {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": name, "labels": _LABELS},
        }
        await self._create(NAMESPACES, item)
        return name

    # Objects, and what becomes of them

    async def _create(self, kind: Kind, item: Json) -> None:
        """Create the object, and delete it in the end, however that comes."""
        metadata = _part(item, "metadata")
        name, namespace = str(metadata["name"]), str(metadata.get("namespace", ""))
        # What may have been made is deleted too: no other run has these names.
        self._at_end(f"{kind.name} {name}", lambda: self._kube.delete(kind, name, namespace))
        await self._kube.create(kind, item)

    def _at_end(self, what: str, undo: Callable[[], Awaitable[object]]) -> None:
        async def quietly() -> None:
            try:
                await undo()
            except (KubeError, CommandError) as error:
                text = explain(error) if isinstance(error, KubeError) else str(error)
                print(f"{what} is left behind: {text}", file=sys.stderr)

        self._cleanup.push_async_callback(quietly)

    async def _settled(self, namespace: str, endpoints: Sequence[Endpoint]) -> dict[Role, str]:
        """Wait until all are ready, or can never be; return why some are not."""
        names = {endpoint.name: endpoint.role for endpoint in endpoints}
        while True:
            listed = (await self._kube.list(INTERFACES, namespace)).items
            seen = [Seen.model_validate(item) for item in listed]
            states = {item.metadata.name: readiness(item, _WAITING) for item in seen}
            stuck = {
                item.metadata.name
                for item in seen
                if any(c.type == "Stalled" and c.status == "True" for c in item.status.conditions)
            }
            broken = {
                name: states.get(name, Readiness(False, "Deleted", "somebody has deleted it"))
                for name in names
                if name not in states or not states[name].ready
            }
            if broken.keys() <= stuck or time.monotonic() > self._deadline:
                return {
                    names[name]: f"Interface {namespace}/{name}: {state.message} ({state.reason})"
                    for name, state in broken.items()
                }
            await asyncio.sleep(_POLL_SECONDS)

    # Packets

    async def _test(self, plan: Plan) -> list[Result]:
        for node in plan.nodes:
            self._at_end(f"a directory in pod {self._pods[node].key}", self._removal(node))
        await asyncio.gather(*(self._files(node, "put") for node in plan.nodes))
        for network in plan.networks():
            await self._create(VIRTUAL_NETWORKS, network)
        receivers = plan.receivers()
        for endpoint in receivers:
            await self._create(INTERFACES, plan.interface(endpoint))
        async with _step(f"waiting for {len(receivers)} Interfaces to become ready"):
            broken = await self._settled(plan.namespace, receivers)
        before = await self._drops()
        received: dict[str, list[bytes]] = {}
        for attempt in range(_ATTEMPTS):
            senders = plan.senders(attempt)
            async with _step(f"sending packets, attempt {attempt + 1}"):
                broken |= await self._send(plan, senders)
                expected = [
                    flow
                    for flow in plan.flows(senders)
                    if not broken.keys() & {flow.sender.role, flow.receiver.role}
                ]
                arrived = await self._receive(plan, expected, received)
            if arrived or broken or time.monotonic() > self._deadline:
                break
            await asyncio.gather(
                *(self._kube.delete(INTERFACES, each.name, plan.namespace) for each in senders)
            )
        results = plan.checks(received, broken)
        if all(result.outcome is not Outcome.FAILED for result in results):
            return results
        dropped = _since(before, await self._drops())
        return [
            Result(result.name, result.outcome, f"{result.reason}; {dropped}")
            if result.outcome is Outcome.FAILED and dropped
            else result
            for result in results
        ]

    async def _send(self, plan: Plan, senders: Sequence[Endpoint]) -> dict[Role, str]:
        async def put(node: str) -> None:
            texts = [
                f"{sender.file}={base64.b64encode(plan.capture(sender)).decode()}"
                for sender in senders
                if sender.node == node
            ]
            await self._files(node, "put", *texts, f"--repeat={REPEAT}")

        await asyncio.gather(*map(put, plan.nodes))
        broken: dict[Role, str] = {}
        for network in NETWORKS:
            members = [sender for sender in senders if sender.network == network]
            for sender in members:
                await self._create(INTERFACES, plan.interface(sender))
            broken |= await self._settled(plan.namespace, members)
        return broken

    async def _receive(
        self, plan: Plan, expected: Sequence[Flow], received: dict[str, list[bytes]]
    ) -> bool:
        """Read what has arrived until it is all there; false when that takes too long."""
        deadline = min(self._deadline, time.monotonic() + _ATTEMPT_SECONDS)
        while True:
            found = await asyncio.gather(*(self._files(node, "get") for node in plan.nodes))
            files: dict[str, str] = {}
            for text in found:
                files |= json.loads(text)
            for endpoint in plan.receivers():
                data = base64.b64decode(files.get(endpoint.file, ""))
                received[endpoint.name] = frames_of(data)
            if all(plan.arrived(flow, received) for flow in expected):
                return True
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(_POLL_SECONDS)

    async def _files(self, node: str, operation: str, *texts: str) -> bytes:
        return await self._headrace(node, "connectivity", "files", operation, self._run, *texts)

    def _removal(self, node: str) -> Callable[[], Awaitable[object]]:
        return lambda: self._files(node, "remove")

    async def _drops(self) -> dict[str, Counter[str]]:
        """Return the packets that each node has dropped, by reason; none where it cannot say."""

        async def at(node: str) -> Counter[str]:
            text = await self._headrace(node, "drops", "--socket", SOCKET, "-o", "json")
            return Counter(json.loads(text))

        nodes = list(self._pods)
        return dict(zip(nodes, await asyncio.gather(*map(at, nodes)), strict=True))

    async def _headrace(self, node: str, *words: str) -> bytes:
        """Run a command in the node's dataplane pod and return its output. Raises CommandError."""
        pod = self._pods[node]
        ended = await captured(self._kube, pod, ["headrace", *words])
        if ended.status != 0:
            text = ended.stderr.decode(errors="replace").strip()
            raise CommandError(f"pod {pod.key}: {text or f'exit status {ended.status}'}")
        return ended.stdout


def _since(before: Mapping[str, Counter[str]], after: Mapping[str, Counter[str]]) -> str:
    """Say what was dropped in between."""
    grown = {node: after[node] - before[node] for node in after}
    texts = (
        f"{node}: " + ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items()))
        for node, counts in grown.items()
        if counts
    )
    text = "; ".join(texts)
    return f"dropped meanwhile on {text}" if text else ""


def _part(item: Json, name: str) -> Json:
    value = item.get(name)
    return value if isinstance(value, dict) else {}
