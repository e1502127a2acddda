# SPDX-License-Identifier: Apache-2.0
"""The test in a cluster: look whether it can be, make networks and pods, ask them, clean up."""

import argparse
import asyncio
import inspect
import json
import secrets
import signal
import sys
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, replace

from headrace_api import (
    API_VERSION,
    NAMESPACE_NAME_LABEL,
    PIPELINE_LABEL,
    AttachmentType,
    Json,
    Pipeline,
)
from headrace_api.device import DEFAULT_DEVICES
from headrace_api.raw import items, mapping, number, part, text
from headrace_cli.cluster import ask, explain, forbidden
from headrace_cli.errors import CommandError
from headrace_cli.overview import Seen, readiness
from headrace_cli.remote import CONTAINER as DATAPLANE
from headrace_cli.remote import Pod, captured
from headrace_connectivity import MOST_NODES, health
from headrace_connectivity.plan import (
    CONTAINER,
    LABELS,
    NETWORKS,
    PROGRAM,
    SELECTOR,
    SERVICE,
    Check,
    Metrics,
    Mistake,
    Outcome,
    Plan,
    Result,
    Surroundings,
    family_of,
    judge,
    unmet,
)
from headrace_connectivity.pod import anywhere
from headrace_connectivity.pod.anywhere import Answer, Probe
from headrace_connectivity.report import Report
from headrace_kube import (
    INTERFACES,
    NAMESPACES,
    NODES,
    PIPELINES,
    PODS,
    VIRTUAL_NETWORKS,
    Kind,
    Kube,
    KubeError,
    whole_configs,
)
from headrace_operator.render import parse

TEMPORARY = "headrace-connectivity"
_NAMESPACE_LABELS = {**LABELS, "pod-security.kubernetes.io/enforce": "baseline"}
_UNDERLAY = "fd68:6561:6472:6163::/64"
_COUNT = "metrics count the packets"
_POLL_SECONDS = 0.5
_PATIENCE_SECONDS = 2.0
# For what comes after the pods have started.
_ASKING_SECONDS = 45.0
_GONE_SECONDS = 30.0
_JUDGED_SECONDS = 20.0
# Each is one packet, at least, that was answered.
_COUNTED = frozenset({"ask", "transfer", "forge"})
_PROBE_SECONDS = 60.0
_START = "pods start in their networks"


def run(arguments: argparse.Namespace) -> int:
    """Test and print the results; 1 when a check failed. Raises CommandError."""
    report = Report(arguments.output)
    ask(arguments, lambda kube: _interruptible(_Session(kube, arguments, report).run()))
    report.end()
    return 1 if report.failed else 0


async def _interruptible(work: Awaitable[None]) -> None:
    """Have SIGTERM end the work as Ctrl-C does: cleaning up."""
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    terminated = asyncio.Event()

    def terminate() -> None:
        terminated.set()
        task.cancel()

    loop.add_signal_handler(signal.SIGTERM, terminate)
    try:
        await task
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
    def __init__(self, kube: Kube, arguments: argparse.Namespace, report: Report) -> None:
        self._kube = kube
        self._report = report
        self._system: str = arguments.system_namespace
        self._pipeline: str | None = arguments.pipeline
        self._nodes: tuple[str, ...] = arguments.nodes
        self._namespace: str | None = arguments.namespace
        self._seconds: float = arguments.timeout
        self._deadline = time.monotonic() + arguments.timeout
        self._run = secrets.token_hex(4)
        self._dataplanes: dict[str, Json] = {}
        """A dataplane pod by node, of the nodes to test."""
        self._blocker = ""
        """Name of a check that failed and that all later ones need."""
        self._cleanup = AsyncExitStack()

    async def run(self) -> None:
        """Test and clean up. Raises CommandError, KubeError."""
        async with self._cleanup:
            try:
                async with asyncio.timeout(self._seconds):
                    await self._test()
            except TimeoutError:
                problem = f"not done after {self._seconds:.0f} s: allow more with --timeout"
                self._add(Result.of("time", problem))

    async def _test(self) -> None:
        kube, system = self._kube, self._system
        name = "Interfaces, networks and Pipelines are Ready"
        await self._look(name, health.objects(kube, system), needed=False)
        pipeline = await self._choose()
        nodes = await self._find_dataplanes(pipeline) if pipeline else ()
        await self._look("the operator answers", health.operator(kube, system))
        await self._look("the node agent runs", health.node_agent(kube, system, nodes))
        if pipeline is None and not self._blocker:
            pipeline = await self._make_pipeline()
            nodes = await self._wait_for_dataplane(pipeline)
        alone = await self._look_at_dataplanes(pipeline, nodes) if pipeline else ""
        if pipeline is None or self._blocker:
            self._add(Result("packets", Outcome.SKIPPED, f"because of {self._blocker!r}"))
            return
        installed = await health.installed(kube, system)
        namespace = self._namespace or await self._make_namespace()
        other = "" if alone else nodes[1]
        where = (namespace, pipeline.metadata.name, nodes[0], other, alone)
        plan = Plan(self._run, *where, installed.image, installed.multus)
        await self._test_packets(plan, pipeline)

    # What must be well

    def _add(self, *results: Result) -> None:
        self._report.add(results)

    async def _look(self, name: str, work: Awaitable[str], *, needed: bool = True) -> Result:
        """Make a check of `work`, which returns what is wrong; all others may need it."""
        async with _step(f"waiting: {name}"):
            try:
                result = Result.of(name, await work)
            except KubeError as error:
                if not forbidden(error):
                    raise
                result = Result(name, Outcome.SKIPPED, explain(error))
        self._add(result)
        if needed and result.outcome is Outcome.FAILED:
            self._blocker = self._blocker or name
        return result

    async def _choose(self) -> Pipeline | None:
        """Return the Pipeline to test, None when there is none to choose from."""
        labels = await self._namespace_labels()
        found: list[tuple[bool, int, str, Pipeline]] = []
        for item in (await self._kube.list(PIPELINES)).items:
            seen = Seen.model_validate(item)
            name = seen.metadata.name
            pipeline = parse("Pipeline", item)
            if self._pipeline not in (None, name) or not isinstance(pipeline, Pipeline):
                continue
            if self._pipeline is None and name.startswith(TEMPORARY):
                # Of another run, which takes it away when it ends.
                continue
            # Without the node agent, whose default these are, nothing is tested.
            spec = pipeline.with_defaults(devices=DEFAULT_DEVICES).spec
            if spec.admits(labels) and spec.devices_for(AttachmentType.POD, labels):
                ready = readiness(seen, health.WAITING).ready
                found.append((not ready, -len(seen.status.nodes), name, pipeline))
            elif self._pipeline is not None:
                raise CommandError(
                    f"Pipeline {name} does not allow pods in namespace "
                    f"{labels[NAMESPACE_NAME_LABEL]}: its spec.allowedNamespaces must select it "
                    "and its spec.devices need an entry of type Pod; or leave --pipeline out to "
                    "test with a temporary Pipeline"
                )
        if self._pipeline is not None and not found:
            raise CommandError(f"there is no Pipeline {self._pipeline}: see kubectl get pipelines")
        return min(found)[3] if found else None

    async def _namespace_labels(self) -> dict[str, str]:
        """Labels of the namespace with the test's pods, as far as they can be seen."""
        if self._namespace is None:
            return {**_NAMESPACE_LABELS, NAMESPACE_NAME_LABEL: f"{TEMPORARY}-{self._run}"}
        found: dict[str, str] = {}
        try:
            item = await self._kube.get(NAMESPACES, self._namespace)
            found = {name: text(value) for name, value in part(item, "metadata", "labels").items()}
        except KubeError as error:
            if not forbidden(error):
                raise
        return {**found, NAMESPACE_NAME_LABEL: self._namespace}

    async def _make_pipeline(self) -> Pipeline:
        node = await self._any_node()
        metadata = node.metadata
        name = metadata.labels.get("kubernetes.io/hostname", metadata.name)
        item: Json = {
            "apiVersion": API_VERSION,
            "kind": "Pipeline",
            "metadata": {"name": f"{TEMPORARY}-{self._run}", "labels": {**LABELS}},
            "spec": {
                "nodeSelector": {"matchLabels": {"kubernetes.io/hostname": name}},
                "allowedNamespaces": {},
                "devices": [{"name": "pods", "type": "Pod", "namespaceSelector": {}}],
                "workers": {"count": 1, "shareControlCore": True},
                "underlayPrefixes": [_UNDERLAY],
            },
        }
        print(
            f"no Pipeline allows pods: making a temporary one on node {metadata.name}",
            file=sys.stderr,
        )
        await self._create(PIPELINES, item)
        return Pipeline.model_validate(item)

    async def _any_node(self) -> Seen:
        listed = (await self._kube.list(NODES)).items
        nodes = {text(part(item, "metadata").get("name")): item for item in listed}
        wanted = self._nodes or sorted(nodes)
        for name in wanted:
            if name not in nodes:
                raise CommandError(f"the cluster has no node {name}: see kubectl get nodes")
            spec = part(nodes[name], "spec")
            if not spec.get("unschedulable") and not spec.get("taints"):
                return Seen.model_validate({**nodes[name], "spec": {}, "status": {}})
        raise CommandError(
            f"no node to test on: {', '.join(wanted) or 'the cluster has none'} "
            "(a node with taints takes no temporary Pipeline: name one of yours with --pipeline)"
        )

    async def _find_dataplanes(self, pipeline: Pipeline) -> tuple[str, ...]:
        """Return the nodes to test, and remember their dataplane pods."""
        name = pipeline.metadata.name
        seen = Seen.model_validate(await self._kube.get(PIPELINES, name))
        selected = {node.name for node in seen.status.nodes}
        self._dataplanes = {}
        listed = await self._kube.list(PODS, self._system, f"{PIPELINE_LABEL}={name}")
        # While one replaces another there are two: the ready one comes last.
        for item in sorted(listed.items, key=lambda item: Pod.model_validate(item).ready):
            pod = Pod.model_validate(item)
            if not pod.metadata.deletion_timestamp:
                self._dataplanes[pod.spec.node_name] = item
        known = selected | self._dataplanes.keys()
        for node in self._nodes:
            if node not in known:
                there = ", ".join(sorted(known)) or "it runs nowhere"
                raise CommandError(f"Pipeline {name} is not on node {node}: {there}")
        return self._nodes or tuple(sorted(known)[:MOST_NODES])

    async def _wait_for_dataplane(self, pipeline: Pipeline) -> tuple[str, ...]:
        async with _step(f"waiting for a dataplane pod of Pipeline {pipeline.metadata.name}"):
            while True:
                nodes = await self._find_dataplanes(pipeline)
                ready = any(Pod.model_validate(item).ready for item in self._dataplanes.values())
                if (nodes and ready) or time.monotonic() > self._deadline - _ASKING_SECONDS:
                    return nodes
                await asyncio.sleep(_POLL_SECONDS)

    async def _look_at_dataplanes(self, pipeline: Pipeline, nodes: Sequence[str]) -> str:
        """Check what forwards; return why packets are not to be sent between two nodes."""
        name = pipeline.metadata.name
        down: list[str] = []

        async def look(node: str) -> str:
            item = self._dataplanes.get(node)
            pod = Pod.model_validate(item) if item is not None else None
            problem, uplinks = await health.dataplane(self._kube, pod, name, self._system)
            down.extend(f"{uplink} of {node} is down" for uplink in uplinks)
            return problem

        for node in nodes:
            await self._look(f"dataplane of {node}", look(node))
        if not nodes:
            self._add(Result.of("dataplane", f"Pipeline {name} is on no node"))
            self._blocker = self._blocker or "dataplane"
        if len(nodes) == 1:
            return f"{nodes[0]} is the only node of Pipeline {name} that is tested"
        if not pipeline.spec.uplinks:
            return f"Pipeline {name} has no uplink"
        if not self._blocker:
            hint = ": see `ip link` there, the cable and the switch" if down else ""
            uplinks = f"uplinks of {' and '.join(nodes)}"
            self._add(Result.of(uplinks, ", ".join(down) + hint))
        return ", ".join(down)

    # Packets

    async def _test_packets(self, plan: Plan, pipeline: Pipeline) -> None:
        if plan.alone:
            self._add(Result("across nodes", Outcome.SKIPPED, plan.alone))
        for network in NETWORKS:
            await self._create(VIRTUAL_NETWORKS, plan.network(network))
        if plan.multus:
            await self._ask_multus(plan)
        started, around = await asyncio.gather(self._start(plan), self._survey(plan))
        if started is None:
            self._add(Result("packets", Outcome.SKIPPED, f"because of {_START!r}"))
            return
        around = replace(
            around,
            node_addresses=_addresses(started, "hostIP"),
            families=frozenset(map(family_of, _addresses(started, "podIP"))),
        )
        around = await self._with_underlay(plan, around)
        before = await self._drops(plan)
        results: list[Result] = []
        counted: Counter[str] = Counter()

        async def answers_to(phase: str, checks: Sequence[Check]) -> dict[str, Answer]:
            sensible = [check for check in checks if not (check.skip or _lacks(check, results))]
            async with _step(phase):
                return await self._ask(plan, sensible)

        async def conclude(checks: Sequence[Check], answers: Mapping[str, Answer]) -> None:
            found = judge(checks, answers, results)
            if any(result.outcome is Outcome.FAILED for result in found):
                found = _explained(found, before, await self._drops(plan))
            self._add(*found)
            results.extend(found)
            for check in checks:
                if check.name in answers and check.probe.kind in _COUNTED:
                    counted[check.asker] += answers[check.name].number

        reaching, silent = plan.reaching(around), plan.silent(around)
        await conclude(reaching, await answers_to("asking the test's pods", reaching))
        await conclude(silent, await answers_to("trying what must not be", silent))
        sent = await answers_to("sending to underlay addresses", plan.intruding(around))
        strays = plan.strays(around, sent)
        await conclude(strays, await answers_to("looking for what must not arrive", strays))
        if any(_by_token(pod) for pod in self._dataplanes.values()):
            why = "they ask for a token: metrics.authentication is TokenReview"
            self._add(Result(_COUNT, Outcome.SKIPPED, why))
        else:
            await self._look(_COUNT, self._uncounted(plan, counted))
        await self._try_mistakes(plan, pipeline)

    async def _ask_multus(self, plan: Plan) -> None:
        try:
            await self._create(health.NETWORK_ATTACHMENTS, plan.definition())
        except KubeError as error:
            if not error.absent:
                raise
            raise CommandError(
                "nodeAgent.cni.chained=false leaves pods to Multus, and this cluster has no "
                "NetworkAttachmentDefinitions: install Multus, or set it to true"
            ) from error

    async def _start(self, plan: Plan) -> Json | None:
        """Make the pods and wait for them; return the status of a1, None when some do not start."""
        endpoints = {endpoint.name: endpoint for endpoint in plan.endpoints()}
        self._at_end("pods of the test", lambda: self._remove_pods(plan))
        for endpoint in endpoints.values():
            await self._create_pod(plan.pod(endpoint, self._dataplanes[endpoint.node]))
        deadline = self._deadline - _ASKING_SECONDS
        async with _step(f"waiting for {len(endpoints)} pods to start"):
            while True:
                pods = await self._pods_of(plan)
                models = {name: Pod.model_validate(item) for name, item in pods.items()}
                ready = {name for name, pod in models.items() if pod.ready}
                if ready >= endpoints.keys():
                    self._add(Result.of(_START, ""))
                    return part(pods[plan.endpoint("one", "a1").name], "status")
                failed = any(pod.status.phase == "Failed" for pod in models.values())
                if failed or time.monotonic() > deadline:
                    break
                await asyncio.sleep(_POLL_SECONDS)
        waiting = {
            name: plan.interface(endpoint)
            for name, endpoint in endpoints.items()
            if name not in ready
        }
        why = await health.why_not_started(self._kube, self._system, plan.namespace, waiting)
        self._add(Result.of(_START, why))
        return None

    async def _survey(self, plan: Plan) -> Surroundings:
        """Ask the dataplane pod of the first node what pods outside of any network see."""
        resolves, service = await self._probe_dataplane(
            plan.node, Probe("resolve", SERVICE), Probe("service")
        )
        nameless = (
            f"a pod in no network does not resolve {SERVICE} either ({resolves.error})"
            if resolves.error
            else ""
        )
        return Surroundings((), frozenset(), (service.text, service.number), nameless)

    async def _with_underlay(self, plan: Plan, around: Surroundings) -> Surroundings:
        """Add the underlay addresses of the test's Interfaces."""
        try:
            listed = (await self._kube.list(INTERFACES, plan.namespace)).items
        except KubeError as error:
            if not forbidden(error):
                raise
            return replace(around, hidden=explain(error))
        addresses = {
            text(part(item, "metadata").get("name")): text(
                part(item, "status").get("underlayAddress")
            )
            for item in listed
        }
        found = {each.name: addresses.get(plan.interface(each), "") for each in plan.endpoints()}
        missing = [name for name, address in found.items() if not address]
        hidden = f"the Interface of {missing[0]} has no underlay address" if missing else ""
        return replace(around, underlay=found, hidden=hidden)

    async def _ask(self, plan: Plan, checks: Sequence[Check]) -> dict[str, Answer]:
        """Have the pods make the checks, each all of its own at once; return answers by check."""
        asked: defaultdict[str, list[Check]] = defaultdict(list)
        for check in checks:
            asked[check.asker].append(check)

        async def by(name: str) -> list[tuple[str, Answer]]:
            metadata: Json = {"name": name, "namespace": plan.namespace}
            pod = Pod.model_validate({"metadata": metadata})
            probes = [check.probe for check in asked[name]]
            answers = await self._probe(pod, CONTAINER, PROGRAM.format("probe").split(), probes)
            return [
                (check.name, answer) for check, answer in zip(asked[name], answers, strict=True)
            ]

        found = await asyncio.gather(*map(by, asked))
        return {name: answer for pairs in found for name, answer in pairs}

    async def _probe_dataplane(self, node: str, *probes: Probe) -> list[Answer]:
        """Run probes in a dataplane pod, by a program that is sent there."""
        pod = Pod.model_validate(self._dataplanes[node])
        program = ["python3", "-c", inspect.getsource(anywhere)]
        return await self._probe(pod, DATAPLANE, program, probes)

    async def _probe(
        self, pod: Pod, container: str, program: Sequence[str], probes: Sequence[Probe]
    ) -> list[Answer]:
        """Run probes in a pod; where that fails, every answer says so."""
        # Left out is what is as in a new one.
        texts = [{name: value for name, value in asdict(p).items() if value} for p in probes]
        command = [*program, json.dumps(texts, separators=(",", ":"))]
        try:
            async with asyncio.timeout(_PROBE_SECONDS):
                ended = await captured(self._kube, pod, command, container)
            if ended.status == 0:
                return [Answer(**answer) for answer in json.loads(ended.stdout)]
            lines = ended.stderr.decode(errors="replace").split("\n") or [""]
            problem = f"probes cannot run in pod {pod.key}: {lines[-1] or lines[0]}"
        except TimeoutError:
            problem = f"pod {pod.key}: no word of its probes after {_PROBE_SECONDS:.0f} s"
        except CommandError as error:
            problem = str(error)
        return [Answer(error=problem)] * len(probes)

    # Mistakes

    async def _try_mistakes(self, plan: Plan, pipeline: Pipeline) -> None:
        """Make objects that are to be refused, one by one, and look how they are."""
        labels = await self._namespace_labels()
        results: list[Result] = []
        for mistake in plan.mistakes(pipeline.spec.devices_for(AttachmentType.AF_PACKET, labels)):
            if reason := unmet(mistake, results):
                self._add(Result(mistake.name, Outcome.SKIPPED, reason))
                continue
            results.append(await self._look(mistake.name, self._not_refused(mistake), needed=False))

    async def _not_refused(self, mistake: Mistake) -> str:
        """Make the object and take it away again; return what is wrong with how it was judged."""
        kind = next(k for k in (VIRTUAL_NETWORKS, INTERFACES) if k.name == mistake.item["kind"])
        namespace, name = mistake.key
        await self._create(kind, mistake.item)
        deadline = time.monotonic() + _JUDGED_SECONDS
        try:
            while True:
                for item in (await self._kube.list(kind, namespace)).items:
                    if part(item, "metadata").get("name") != name:
                        continue
                    configs = await whole_configs(self._kube, self._system)
                    problem = mistake.problem(Seen.model_validate(item), configs)
                    if problem is not None:
                        return problem
                if time.monotonic() > deadline:
                    return f"nobody has judged it after {_JUDGED_SECONDS:.0f} s"
                await asyncio.sleep(_POLL_SECONDS)
        finally:
            await self._kube.delete(kind, name, namespace)

    # Counters

    async def _metrics(self, node: str) -> Metrics:
        """Read the metrics of the node's dataplane. Raises CommandError."""
        pod = self._dataplanes[node]
        (address, *_) = _addresses(part(pod, "status"), "podIP")
        ports = (
            number(port.get("containerPort"))
            for container in map(mapping, items(part(pod, "spec").get("containers")))
            for port in map(mapping, items(container.get("ports")))
            if port.get("name") == "metrics"
        )
        (answer,) = await self._probe_dataplane(node, Probe("fetch", address, next(ports)))
        if answer.error:
            raise CommandError(f"metrics of {node}: {answer.error}")
        return Metrics(answer.text)

    async def _drops(self, plan: Plan) -> dict[str, Counter[str]]:
        """Return the packets that each node has dropped, by reason; none where it cannot say."""
        own = [f"{plan.namespace}/{plan.interface(endpoint)}" for endpoint in plan.endpoints()]

        async def at(node: str) -> Counter[str]:
            try:
                return (await self._metrics(node)).drops(own)
            except CommandError:
                return Counter()

        nodes = plan.nodes
        return dict(zip(nodes, await asyncio.gather(*map(at, nodes)), strict=True))

    async def _uncounted(self, plan: Plan, answered: Mapping[str, int]) -> str:
        """Say what the metrics do not count of the packets that pods (by name) sent."""
        found: list[str] = []
        for node in plan.nodes:
            own = {
                f"{plan.namespace}/{plan.interface(endpoint)}": answered[endpoint.name]
                for endpoint in plan.endpoints()
                if endpoint.node == node and endpoint.name in answered
            }
            try:
                found += (await self._metrics(node)).uncounted(own)
            except CommandError as error:
                found.append(str(error))
        return "; ".join(found)

    # Objects, and what becomes of them

    async def _make_namespace(self) -> str:
        name = f"{TEMPORARY}-{self._run}"
        item: Json = {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": name, "labels": {**_NAMESPACE_LABELS}},
        }
        await self._create(NAMESPACES, item)
        return name

    async def _create(self, kind: Kind, item: Json) -> None:
        """Create the object, and delete it in the end, however that comes."""
        metadata = part(item, "metadata")
        name, namespace = text(metadata.get("name")), text(metadata.get("namespace"))
        # What may have been made is deleted too: no other run has these names.
        self._at_end(f"{kind.name} {name}", lambda: self._kube.delete(kind, name, namespace))
        await self._kube.create(kind, item)

    async def _create_pod(self, item: Json) -> None:
        """Create the pod, whose namespace may be so new that it has no service account yet."""
        while True:
            try:
                await self._kube.create(PODS, item)
                return
            except KubeError as error:
                late = time.monotonic() > self._deadline - _ASKING_SECONDS
                if late or "service account" not in error.message:
                    raise
            await asyncio.sleep(_POLL_SECONDS)

    async def _pods_of(self, plan: Plan) -> dict[str, Json]:
        listed = await self._kube.list(PODS, plan.namespace, SELECTOR)
        names = {endpoint.name for endpoint in plan.endpoints()}
        found = {text(part(item, "metadata").get("name")): item for item in listed.items}
        return {name: item for name, item in found.items() if name in names}

    async def _remove_pods(self, plan: Plan) -> None:
        """Delete the pods; their networks are not taken from under them."""
        await asyncio.gather(
            *(self._kube.delete(PODS, each.name, plan.namespace) for each in plan.endpoints())
        )
        deadline = time.monotonic() + _GONE_SECONDS
        while left := await self._pods_of(plan):
            if time.monotonic() > deadline:
                names = ", ".join(sorted(left))
                raise CommandError(
                    f"{names} not gone after {_GONE_SECONDS:.0f} s: "
                    f"see kubectl -n {plan.namespace} get pods"
                )
            await asyncio.sleep(_POLL_SECONDS)

    def _at_end(self, what: str, undo: Callable[[], Awaitable[object]]) -> None:
        async def quietly() -> None:
            try:
                await undo()
            except (KubeError, CommandError) as error:
                words = explain(error) if isinstance(error, KubeError) else str(error)
                print(f"{what} left behind: {words}", file=sys.stderr)

        self._cleanup.push_async_callback(quietly)


def _by_token(dataplane: Json) -> bool:
    """Whether this dataplane pod shows its metrics by TLS, to whom the API server lets see them."""
    return any(
        "--metrics-certificate" in items(container.get("args"))
        for container in map(mapping, items(part(dataplane, "spec").get("containers")))
    )


def _lacks(check: Check, results: Sequence[Result]) -> bool:
    """Whether the check says nothing, as far as is known before its phase."""
    known = {result.name for result in results}
    return bool(known.intersection(check.needs) and unmet(check, results))


def _addresses(status: Json, name: str) -> tuple[str, ...]:
    """Return `hostIPs` or `podIPs` (name in the singular) of a pod's status."""
    found = [text(mapping(item).get("ip")) for item in items(status.get(f"{name}s"))]
    return tuple(found) or (text(status.get(name)),)


def _explained(
    results: Sequence[Result],
    before: Mapping[str, Counter[str]],
    after: Mapping[str, Counter[str]],
) -> list[Result]:
    """Say with what failed what was dropped meanwhile."""
    grown = {node: after[node] - before[node] for node in after}
    texts = [
        f"{node}: " + ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items()))
        for node, counts in grown.items()
        if counts
    ]
    dropped = f"; dropped meanwhile on {'; on '.join(texts)}" if texts else ""
    return [
        replace(result, reason=result.reason + dropped)
        if result.outcome is Outcome.FAILED and not result.name.startswith("cluster network")
        else result
        for result in results
    ]
