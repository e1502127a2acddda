# SPDX-License-Identifier: Apache-2.0
"""The operator as a process, and the cluster that it works on: its chart's objects and rights."""

import asyncio
import http.client
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, cast

import yaml
from prometheus_client.parser import text_string_to_metric_families

from headrace_api import (
    FEATURES,
    LISTS,
    Json,
    assembled,
    config_of_slice,
    entry_key,
    routes_digest,
    slice_revision,
)
from headrace_kube import (
    CONFIG_MAPS,
    DAEMON_SETS,
    DATAPLANE_CONFIGS,
    DEVICE_POLICIES,
    EVENTS,
    INTERFACES,
    LEASES,
    NAMESPACES,
    NODE_STATES,
    NODES,
    PIPELINES,
    PODS,
    SLICES,
    UNDERLAY_ENDPOINTS,
    VIRTUAL_NETWORKS,
    Kind,
    Kube,
    KubeError,
    whole_configs,
)
from tests.cluster.chart import CHART, NAMESPACE, REPOSITORY
from tests.cluster.cluster import Api
from tests.cluster.sandbox import until

Result = TypeVar("Result")

LEASE = f"{NAMESPACE}/headrace-operator"
WRITTEN = (DATAPLANE_CONFIGS, SLICES, DAEMON_SETS, VIRTUAL_NETWORKS, INTERFACES, PIPELINES)
"""What the operator writes, or the status of which it writes."""
STATEFUL_SETS = Kind("StatefulSet", "statefulsets", "apps/v1")
_TEMPLATES = ("configmap", "rbac-operator", "rbac-dataplane", "rbac-aggregate", "serviceaccounts")


def node(name: str, **labels: str) -> Json:
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {**labels}}}


def endpoint(name: str, address: str, **spec: Any) -> Json:
    """For all networks."""
    return _object(
        "UnderlayEndpoint",
        name,
        "",
        {"address": address, "namespaceSelector": {}, "networkSelector": {}, **spec},
    )


def policy(name: str, selector: Json, **spec: Any) -> Json:
    """Eight VFs of ens1f0."""
    spec = {"nicSelector": {"names": ["ens1f0"]}, "vfs": 8, "nodeSelector": selector, **spec}
    return _object("DevicePolicy", name, "", spec)


def pipeline(name: str = "router", prefix: str = "fd00:1::/48", **spec: Any) -> Json:
    """For all namespaces and nodes; Discard needs no device."""
    everything: Json = {"nodeSelector": {}, "allowedNamespaces": {}}
    spec = {**everything, "devices": [], "underlayPrefixes": [prefix], **spec}
    return _object("Pipeline", name, "", spec)


def network(name: str, namespace: str = "default", **spec: Any) -> Json:
    spec = {"subnets": [{"prefix": "10.0.0.0/16"}], **spec}
    return _object("VirtualNetwork", name, namespace, spec)


def interface(name: str, network: str, node: str, namespace: str = "default", **spec: Any) -> Json:
    spec = {
        "networkRef": {"name": network},
        "pipelineRef": {"name": "router"},
        "nodeName": node,
        "attachment": {"type": "Discard"},
        **spec,
    }
    return _object("Interface", name, namespace, spec)


def pod(name: str, node: str = "", namespace: str = "default", **annotations: str) -> Json:
    """A pod that no kubelet minds; `networks` and `keep_addresses` are annotations of ours."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "annotations": {**_ours(annotations)}},
        "spec": {**_POD, **({"nodeName": node} if node else {})},
    }


def stateful_set(name: str, namespace: str = "default", **annotations: str) -> Json:
    """One with one such pod."""
    labels: Json = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "serviceName": name,
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels, "annotations": {**_ours(annotations)}},
                "spec": _POD,
            },
        },
    }


def _ours(annotations: Mapping[str, str]) -> dict[str, str]:
    return {f"headrace.dev/{name.replace('_', '-')}": text for name, text in annotations.items()}


# Nobody schedules it but the test, and it goes at once.
_POD: Json = {
    "schedulerName": "nobody",
    "terminationGracePeriodSeconds": 0,
    "containers": [{"name": "main", "image": "localhost/nothing"}],
}


def _object(kind: str, name: str, namespace: str, spec: dict[str, Any]) -> Json:
    metadata: Json = {"name": name}
    if namespace:
        metadata["namespace"] = namespace
    return {"apiVersion": "headrace.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}


def key_of(item: Json) -> str:
    metadata: Any = item["metadata"]
    return "/".join(filter(None, (metadata.get("namespace"), metadata["name"])))


def condition(item: Any, kind: str = "Ready") -> Any:
    """The condition as a dict; empty if there is none."""
    found = (item or {}).get("status", {}).get("conditions", [])
    return next((each for each in found if each["type"] == kind), {})


_TIME = "2026-01-01T00:00:00Z"
_REFUSAL = "test-refusal"


class World:
    """An API server with what the chart installs, less the Deployment. Reads and writes objects."""

    def __init__(self, api: Api, kubeconfig: Path | None = None, chart: Path = CHART) -> None:
        """`kubeconfig` is whose objects are read and written; default: the administrator's."""
        self.api = api
        self._chart = chart
        self._runner = asyncio.Runner()
        self.kube = self._run(Kube.connect(str(kubeconfig or api.kubeconfig)))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._run(self.kube.close())
        self._runner.close()

    def install(self) -> None:
        """Apply the CRDs, the anchor, and the service accounts with their rights."""
        forced = ("--server-side", "--force-conflicts")
        self.api.kubectl("apply", *forced, "-f", (self._chart / "files/crds").resolve())
        self.api.wait("--for=condition=Established", "crd", "--all")
        self.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
        self.api.kubectl("apply", "-f", "-", stdin=self._rendered)

    @cached_property
    def _rendered(self) -> str:
        shown = (word for name in _TEMPLATES for word in ("-s", f"templates/{name}.yaml"))
        return self.api.helm("template", "headrace", self._chart, "-n", NAMESPACE, *shown)

    @contextmanager
    def tenant(self, namespace: str, folder: Path) -> Iterator["World"]:
        """The world as a tenant sees it: with the role `edit` in its namespace, and a token."""
        self.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
        names = ("tenant", "-n", namespace)
        self.api.kubectl("create", "serviceaccount", *names)
        subject = f"--serviceaccount={namespace}:tenant"
        self.api.kubectl("create", "rolebinding", *names, "--clusterrole=edit", subject)
        try:
            with World(self.api, self.write_kubeconfig(folder, "tenant", namespace)) as found:
                yield found
        finally:
            for kind in ("rolebinding", "serviceaccount"):
                self.api.kubectl("delete", kind, *names)

    def write_kubeconfig(
        self, folder: Path, account: str = "headrace-operator", namespace: str = NAMESPACE
    ) -> Path:
        """Write a kubeconfig with a token of a service account."""
        words = ("create", "token", account, "-n", namespace, "--duration=2h")
        token = self.api.kubectl(*words).strip()
        document = yaml.safe_load(self.api.kubeconfig.read_text())
        document["users"][0]["user"] = {"token": token}
        path = folder / "kubeconfig"
        path.write_text(json.dumps(document))
        return path

    def uninstall(self) -> None:
        """Undo `install`, but for the CRDs and the namespace."""
        self.api.kubectl("delete", "-f", "-", "--ignore-not-found", stdin=self._rendered)

    def get(self, kind: Kind, key: str) -> Any:
        """The object; None if there is none."""
        namespace, _, name = key.rpartition("/")
        try:
            return self._run(self.kube.get(kind, name, namespace))
        except KubeError as error:
            if error.absent:
                return None
            raise

    def all(self, kind: Kind) -> dict[str, Any]:
        """Every object of the kind, by key."""
        return {key_of(item): item for item in self._run(self.kube.list(kind)).items}

    def put(self, *items: Json, manager: str = "test") -> None:
        """Apply objects, several at a time."""
        self._run(self._each(items, lambda item: self.kube.apply(_kind(item), item, manager)))

    def replace(self, kind: Kind, item: Json) -> None:
        """Replace an object that was read."""
        self._run(self.kube.replace(kind, item))

    def delete(self, kind: Kind, *keys: str) -> None:
        """Delete objects."""

        def one(key: str) -> Coroutine[Any, Any, None]:
            namespace, _, name = key.rpartition("/")
            return self.kube.delete(kind, name, namespace)

        self._run(self._each(keys, one))

    def clear(self) -> None:
        """Delete everything that people write, and what came of it, and the Lease."""
        for kind in (
            STATEFUL_SETS,
            PODS,
            INTERFACES,
            VIRTUAL_NETWORKS,
            PIPELINES,
            UNDERLAY_ENDPOINTS,
            DEVICE_POLICIES,
            NODES,
            NODE_STATES,
            *WRITTEN[:3],
        ):
            self.delete(kind, *self.all(kind))
        self.delete(LEASES, LEASE)
        # What one test used another may use at once.
        anchor: Json = {"data": {"resting": None}}
        self._run(self.kube.merge(CONFIG_MAPS, "headrace-operator", NAMESPACE, anchor, "test"))

    def bind(self, pod: str, node: str) -> None:
        """Put the pod on a node, as the scheduler does."""
        namespace, _, name = pod.rpartition("/")
        body: Json = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": name},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        }
        self._run(self.kube.request("POST", PODS.path(namespace, name, "binding"), body=body))

    def end(self, pod: str, phase: str = "Succeeded") -> None:
        """Say, as the pod's kubelet does, that it has completed."""
        namespace, _, name = pod.rpartition("/")
        item: Json = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": namespace},
            "status": {"phase": phase},
        }
        self._run(self.kube.apply(PODS, item, "kubelet", subresource="status"))

    def report(self, *keys: str, ready: bool = True, reason: str = "Forwarding") -> None:
        """Say, as the agents of these DataplaneConfigs do (default: of all), what they made."""
        configs, slices = self.all(DATAPLANE_CONFIGS), self.all(SLICES)
        said = (reports(configs[key], slices, ready, reason) for key in keys or configs)
        self._run(
            self._each(
                [item for each in said for item in each],
                lambda item: self.kube.apply(_kind(item), item, "headrace-agent", "status"),
            )
        )

    def whole_configs(self) -> dict[str, Any]:
        """Every DataplaneConfig with what is in its Slices, by key."""
        found = self._run(whole_configs(self.kube, NAMESPACE))
        return {key_of(item): item for item in found}

    def apply_status(self, kind: Kind, key: str, manager: str, *conditions: Any) -> None:
        """Say something of an object, as another controller does."""
        namespace, _, name = key.rpartition("/")
        item: Json = {
            "apiVersion": kind.api_version,
            "kind": kind.name,
            "metadata": {"namespace": namespace, "name": name},
            "status": {
                "conditions": [{**each, "lastTransitionTime": _TIME} for each in conditions]
            },
        }
        self._run(self.kube.apply(kind, item, manager, "status"))

    def merge_status(
        self, kind: Kind, key: str, manager: str, conditions: list[Any], **status: Any
    ) -> None:
        """Replace conditions, and whatever else of the status, by a merge patch."""
        namespace, _, name = key.rpartition("/")
        said: Any = [{**each, "lastTransitionTime": _TIME} for each in conditions]
        change: Json = {"status": {**status, "conditions": said}}
        self._run(self.kube.merge(kind, name, namespace, change, manager, "status"))

    def refuse(self, kind: Kind, unless: str) -> None:
        """Have the API server take objects of a kind only as a CEL expression says; see `admit`."""
        group = "admissionregistration.k8s.io/v1"
        rule: Json = {
            "apiGroups": [kind.api_version.partition("/")[0]],
            "apiVersions": ["*"],
            "operations": ["CREATE", "UPDATE"],
            "resources": [kind.plural],
        }
        policy: Json = {
            "apiVersion": group,
            "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": _REFUSAL},
            "spec": {
                "matchConstraints": {"resourceRules": [rule]},
                "validations": [{"expression": unless}],
            },
        }
        binding: Json = {
            "apiVersion": group,
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": _REFUSAL},
            "spec": {"policyName": _REFUSAL, "validationActions": ["Deny"]},
        }
        for item in (policy, binding):
            self.api.kubectl("apply", "-f", "-", stdin=json.dumps(item))

    def admit(self) -> None:
        """Undo `refuse`."""
        for kind in ("validatingadmissionpolicybinding", "validatingadmissionpolicy"):
            self.api.kubectl("delete", kind, _REFUSAL, "--ignore-not-found")

    def agents(self) -> "Agents":
        """Agents of all nodes that report every DataplaneConfig, while the context lasts."""
        return Agents(self.api.kubeconfig)

    def versions(self) -> dict[tuple[str, str], str]:
        """What changes with every write of the operator: a version of each object, and its events.

        Others write a DaemonSet's status, and agents that of a DataplaneConfig: of these the
        generation.
        """
        found = {
            (kind.name, key): str(
                item["metadata"]["generation" if kind in WRITTEN[:3] else "resourceVersion"]
            )
            for kind in WRITTEN
            for key, item in self.all(kind).items()
        }
        return found | {
            ("Event", key): ""
            for key, item in self.all(EVENTS).items()
            if item.get("reportingController") == "headrace.dev/operator"
        }

    def specs(self, *kinds: Kind) -> dict[str, Any]:
        """Specs by kind and key."""
        return {
            f"{kind.name} {key}": item["spec"]
            for kind in kinds
            for key, item in self.all(kind).items()
        }

    def compiled(self) -> dict[str, Any]:
        """Specs of what is compiled, as compiled_specs has them."""
        return compiled_specs(self.all(DATAPLANE_CONFIGS).values(), self.all(SLICES).values())

    def ready(self, *keys: str) -> bool:
        """Whether these Interfaces (default: all) are Ready."""
        found = [self.get(INTERFACES, key) for key in keys] or self.all(INTERFACES).values()
        return all(condition(item).get("status") == "True" for item in found)

    def _run(self, work: Coroutine[Any, Any, Result]) -> Result:
        async def turned() -> Result:
            # The loop stood still: it has yet to hear which connections have ended.
            for _ in range(5):
                await asyncio.sleep(0)
            return await work

        return self._runner.run(turned())

    async def _each(
        self, items: Iterable[Any], do: Callable[[Any], Coroutine[Any, Any, object]]
    ) -> None:
        slots = asyncio.Semaphore(8)

        async def one(item: Any) -> None:
            async with slots:
                await do(item)

        async with asyncio.TaskGroup() as group:
            for item in items:
                group.create_task(one(item))


class Agents:
    """A process that is the agent of every node: takes each DataplaneConfig at once."""

    def __init__(self, kubeconfig: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.cluster.operators"],
            cwd=REPOSITORY,
            env={**os.environ, "KUBECONFIG": str(kubeconfig)},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()


_SAID = ("observedGeneration", "entries", "features")


async def _be_agents() -> None:
    async with await Kube.connect() as kube:
        while True:
            try:
                slices = {key_of(item): item for item in (await kube.list(SLICES)).items}
                for item in (await kube.list(DATAPLANE_CONFIGS)).items:
                    await _say(kube, item, slices)
                await asyncio.sleep(0.2)
            except KubeError:
                await asyncio.sleep(0.5)


async def _say(kube: Kube, config: Any, slices: dict[str, Any]) -> None:
    there = {key_of(config): config, **slices}
    for item in cast("list[Any]", reports(config, slices, True, "Forwarding")):
        status = there[key_of(item)].get("status", {})
        if any(status.get(name) != item["status"].get(name) for name in _SAID):
            try:
                await kube.apply(_kind(item), item, "headrace-agent", subresource="status")
            except KubeError as error:
                if not error.absent:
                    raise


def compiled_specs(configs: Iterable[Any], slices: Iterable[Any]) -> dict[str, Any]:
    """Specs of DataplaneConfigs, whole, and of the other Slices, by kind and key.

    In Slices entries have another order than where they are compiled.
    """
    names = {item["metadata"]["name"]: item for item in slices}
    found = {}
    for config in configs:
        spec: Any = assembled(config, names)["spec"]
        found[f"DataplaneConfig {key_of(config)}"] = {
            **{name: each for name, each in spec.items() if name != "slices"},
            **{name: sorted(spec.get(name, ()), key=entry_key) for name in LISTS.values()},
        }
    for item in names.values():
        if not config_of_slice(item):
            found[f"Slice {key_of(item)}"] = item["spec"]
    return found


def reports(config: Any, slices: dict[str, Any], ready: bool, reason: str) -> list[Json]:
    """What an agent of this release says of its config and its Slices, and of all routes there.

    `slices` are all, by key.
    """

    def revision(name: str) -> int:
        metadata = slices[f"{NAMESPACE}/{name}"]["metadata"]
        return slice_revision(name, metadata["uid"], metadata["generation"])

    def interface_state(each: Any) -> Any:
        message = "It forwards" if ready else "It does not forward"
        return {"ready": ready, "reason": reason, "message": message}

    def network_state(each: Any) -> Any:
        there = (name for name in each["routeSlices"] if f"{NAMESPACE}/{name}" in slices)
        return {"digest": routes_digest(map(revision, there))}

    say = {"Networks": network_state, "Interfaces": interface_state}
    names = ("name", "namespace")
    own = (slices.get(f"{NAMESPACE}/{name}") for name in config["spec"].get("slices", ()))
    said: list[Any] = [
        (
            item,
            {
                "entries": [
                    {**{name: each[name] for name in names}, **say[item["spec"]["type"]](each)}
                    for each in item["spec"].get("entries", ())
                ]
            },
        )
        for item in own
        if item
    ]
    condition = {
        "type": "Ready",
        "status": "True",
        "reason": "Forwarding",
        "message": "As configured",
        "observedGeneration": config["metadata"]["generation"],
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    said.append((config, {"conditions": [condition], "features": [*FEATURES]}))
    return [
        {
            "apiVersion": item["apiVersion"],
            "kind": item["kind"],
            "metadata": {name: item["metadata"][name] for name in names},
            "status": {"observedGeneration": item["metadata"]["generation"], **status},
        }
        for item, status in said
    ]


class Operator:
    """A replica of the operator, as a process."""

    def __init__(
        self,
        kubeconfig: Path,
        folder: Path,
        environment: Mapping[str, str] | None = None,
        program: tuple[str, ...] = ("headrace_operator.main",),
        **settings: Any,
    ) -> None:
        """Start it; `settings` are those of operator.yaml, `program` is what `python -m` runs."""
        folder.mkdir(parents=True, exist_ok=True)
        config = folder / "operator.yaml"
        settings = {
            "logLevel": "Debug",
            "dataplane": {"image": "localhost/dataplane:1"},
            **settings,
        }
        config.write_text(yaml.safe_dump(settings))
        self.kubeconfig = kubeconfig
        self.log = folder / "log"
        options = {"config": config, "kubeconfig": kubeconfig, "namespace": NAMESPACE}
        words = [f"--{name}={value}" for name, value in options.items()]
        words.append("--listen=127.0.0.1:0")
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *program, *words],
                env={**os.environ, **(environment or {})},
                stderr=log,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.kill()

    def stop(self) -> int:
        """End it as kubelet does; returns its exit status."""
        self.process.terminate()
        return self.process.wait(timeout=60)

    def kill(self) -> None:
        """End it without a word."""
        self.process.kill()
        self.process.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    @property
    def port(self) -> int:
        """Where it listens."""
        until(
            lambda: self._listening() is not None or self.process.poll() is not None, "it listens"
        )
        found = self._listening()
        assert found, self.log.read_text()
        return found

    def _listening(self) -> int | None:
        found = re.search(r"listening on port (\d+)", self.log.read_text())
        return int(found[1]) if found else None

    def get(self, path: str) -> tuple[int, str]:
        """Status and text of a path that it serves."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def metric(self, name: str, **labels: str) -> float:
        """Sum of the metric's samples that have the labels; 0: none."""
        return sum(
            sample.value
            for family in text_string_to_metric_families(self.get("/metrics")[1])
            for sample in family.samples
            if sample.name == f"headrace_operator_{name}"
            and labels.items() <= dict[str, str](sample.labels).items()
        )

    def writes(self) -> float:
        """How often it has written successfully."""
        return self.metric("writes_total", result="success")

    @property
    def leads(self) -> bool:
        return self.metric("leader") == 1

    @property
    def idle(self) -> bool:
        """Whether it leads, has compiled, and has nothing left to write."""
        return (
            self.leads
            and self.metric("compile_seconds_count") > 0
            and self.metric("queue_depth") == 0
        )


_KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        *(*WRITTEN, UNDERLAY_ENDPOINTS, DEVICE_POLICIES),
        *(NODES, NAMESPACES, PODS, STATEFUL_SETS),
    )
}


def _kind(item: Json) -> Kind:
    return _KINDS[str(item["kind"])]


if __name__ == "__main__":
    asyncio.run(_be_agents())
