# SPDX-License-Identifier: Apache-2.0
"""The DaemonSets of every Pipeline, and the metrics port that they have."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from headrace_api import PIPELINE_LABEL, Json, Pipeline, Problem, digest
from headrace_api.raw import number, part
from headrace_compiler.core import put
from headrace_kube import DAEMON_SETS, PIPELINES

from . import objects
from .cache import Cache
from .desired import Desired
from .ports import COUNT, Ports, port_in_use
from .render import Settings, daemon_sets
from .work import Work

HASH = "headrace.dev/template-hash"


class Dataplanes:
    """Desires the DaemonSets of Pipelines. Not thread-safe."""

    def __init__(self, settings: Settings, namespace: str, cache: Cache, desired: Desired) -> None:
        self._settings = settings
        self._namespace = namespace
        self._cache = cache
        self._desired = desired
        self._ports = Ports(settings.dataplane.metrics_port)
        # Pipeline -> keys of its DaemonSets.
        self._keys: dict[str, list[str]] = {}
        self._pipelines: dict[str, Pipeline] = {}
        # DevicePolicy -> the resource whose functions it leaves to the kernel's driver.
        self._kernel_resources: dict[str, str] = {}

    def load_ports(self) -> None:
        """Let every Pipeline keep its port: the one that its pods have, or its status says."""
        in_use = defaultdict(list)
        for _, item in self._cache.all(DAEMON_SETS):
            in_use[objects.label(item, PIPELINE_LABEL)].append(item)
        for name, item in sorted(self._cache.all(PIPELINES)):
            held = port_in_use(in_use[name]) or number(part(item, "status").get("metricsPort"))
            if held:
                self._ports.take(name, held)

    def desire(self, pipeline: Pipeline) -> None:
        """Desire the DaemonSets of a Pipeline, if there is a port for it."""
        self._pipelines[pipeline.key] = pipeline
        port = self._ports.take(pipeline.key)
        if port is not None:
            resources = frozenset(self._kernel_resources.values())
            sets = daemon_sets(pipeline, self._settings, port, self._namespace, resources)
            self._desire(pipeline.key, sets)

    def drive(self, policy: str, kernel_resource: str | None) -> None:
        """Have the functions of a resource be the kernel's by a DevicePolicy; None: of none."""
        before = {*self._kernel_resources.values()}
        put(self._kernel_resources, policy, kernel_resource)
        changed = before ^ {*self._kernel_resources.values()}
        for pipeline in tuple(self._pipelines.values()):
            if not changed.isdisjoint(pipeline.spec.functions()):
                self.desire(pipeline)

    def delete(self, pipeline: str) -> None:
        """Desire none any more; the port is free."""
        self._desire(pipeline, [])
        del self._keys[pipeline]
        self._pipelines.pop(pipeline, None)
        self._ports.release(pipeline)

    def port(self, pipeline: str) -> int | None:
        """The Pipeline's metrics port, if it has one."""
        return self._ports.get(pipeline)

    def found(self, pipeline: str) -> list[Json]:
        """The desired DaemonSets, as far as they are there."""
        found = (self._cache.get(DAEMON_SETS, key) for key in self._keys.get(pipeline, ()))
        return [item for item in found if item]

    def problems(self, pipeline: str) -> Iterable[Problem]:
        """What keeps the Pipeline from its pods."""
        subject = "Pipeline", "", pipeline
        if self._ports.get(pipeline) is None:
            message = f"all {COUNT} metrics ports have a Pipeline: delete one"
            yield Problem(*subject, "", "PortsExhausted", message)
        for key in self._keys.get(pipeline, ()):
            why, refused = self._desired.failure(Work(DAEMON_SETS, key))
            if refused:
                message = f"DaemonSet {key} is refused: {why}"
                yield Problem(*subject, "", "DaemonSetRefused", message)

    def _desire(self, pipeline: str, sets: Sequence[Json]) -> None:
        keys = [objects.key(item) for item in sets]
        for key in set(self._keys.get(pipeline, ())).difference(keys):
            self._desired.put(Work(DAEMON_SETS, key), None)
        self._keys[pipeline] = keys
        for key, item in zip(keys, sets, strict=True):
            metadata = part(item, "metadata")
            annotations: Json = {**part(metadata, "annotations"), HASH: digest(item)[:16]}
            marked: Json = {**item, "metadata": {**metadata, "annotations": annotations}}
            self._desired.put_owned(Work(DAEMON_SETS, key), marked)
