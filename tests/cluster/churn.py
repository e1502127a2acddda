# SPDX-License-Identifier: Apache-2.0
"""Random changes of everything that people, nodes and mishaps change, and what must hold after.

A Walk changes objects at an API server. Few names and few values are used, so that conflicts,
dangling references and reuse are the rule. `complaints` says what a settled cluster has wrong.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import JsonValue

from headrace_api import (
    Json,
    Object,
    Objects,
    Problem,
    UnderlayEndpoint,
    assembled,
    config_of_slice,
    entry_key,
    network_of,
    slices_named,
)
from headrace_compiler import Compilation
from headrace_compiler import compile as compile_all
from headrace_kube import (
    CONFIG_MAPS,
    DAEMON_SETS,
    DATAPLANE_CONFIGS,
    INTERFACES,
    NAMESPACES,
    NODES,
    PIPELINES,
    SLICES,
    UNDERLAY_ENDPOINTS,
    VIRTUAL_NETWORKS,
    Kind,
    KubeError,
)
from headrace_operator import resting
from headrace_operator.render import load_allocations, parse
from tests.cluster.chart import NAMESPACE
from tests.cluster.operators import (
    Operator,
    World,
    compiled_specs,
    condition,
    endpoint,
    interface,
    key_of,
    network,
    node,
    pipeline,
)

INPUTS = (NODES, PIPELINES, VIRTUAL_NETWORKS, INTERFACES)
OUTPUTS = (DATAPLANE_CONFIGS, SLICES, DAEMON_SETS)
STABLE = "stable"
"""Namespace, Pipeline, label and prefix of names of what is never touched."""

_TENANTS = ("t1", "t2", "t3")
CHURNED = (STABLE, *_TENANTS)
"""Namespaces that a Walk makes."""
_NETWORKS = ("blue", "red", "green")
_NODES = tuple(f"n{number}" for number in range(1, 6))
# The second and third overlap; the third has room for three nodes.
_PIPELINES = {"p1": "fd00:1::/48", "p2": "fd00:2::/48", "p3": "fd00:2::/62"}
_SUBNETS = ("10.0.0.0/29", "10.0.1.0/24", "10.0.2.0/28", "fd00:10::/124", "fd00:11::/64")
_ADDRESSES = ("10.0.0.2", "10.0.0.3", "10.0.1.1", "10.0.1.7", "fd00:10::5", "192.0.2.1")
_PREFIXES = ("172.16.0.0/16", "172.17.1.0/24", "fd00:20::/56", "0.0.0.0/0")
_ANY_DEVICE: list[Json] = [
    {"name": kind.lower(), "type": kind, "deviceNames": ["*"], "namespaceSelector": {}}
    for kind in ("Tap", "AFXDP")
]
_DEVICES = tuple(f"tap{number}" for number in range(6))
_VNIS = (1, 2, 3, 100, 101)
# What the API server refuses because of what has happened in between.
_REFUSALS = (403, 404, 409, 422)

Key = tuple[Kind, str]


class Replicas:
    """Two replicas of the operator; who ends is started again, as a kubelet does it."""

    def __init__(self, kubeconfig: Path, folder: Path) -> None:
        self._kubeconfig = kubeconfig
        self._folder = folder
        self.logs: list[Path] = []
        self.running = [self._start() for _ in range(2)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for operator in self.running:
            operator.__exit__()

    def _start(self) -> Operator:
        operator = Operator(self._kubeconfig, self._folder / f"operator-{len(self.logs)}")
        self.logs.append(operator.log)
        return operator

    def tend(self) -> None:
        """Start those again that have ended."""
        self.running = [
            operator if operator.process.poll() is None else self._start()
            for operator in self.running
        ]

    def failures(self) -> list[str]:
        """Logs of replicas that ended, or lost a task, by a mistake of their own."""
        words = ("the operator failed", "exception was never retrieved")
        found = {log: log.read_text() for log in self.logs}
        return [f"{log}: {text}" for log, text in found.items() if any(w in text for w in words)]


class Walk(World):
    """An API server on which a seeded random walk changes everything but what is stable."""

    def begin(self, seed: int) -> None:
        """Make what the walk starts with: what is stable, and the nodes."""
        self.random = random.Random(seed)
        self.trail: list[str] = []
        """What was done, and how it ended."""
        self.counts: Counter[str] = Counter()
        """How often each action was done, and refused."""
        self._mistaken: dict[Key, Any] = {}
        self.edited: set[Key] = set()
        """Objects whose allocations somebody has written by hand since the last `settled`."""
        for name in CHURNED:
            self.put(_namespace(name))
        self.put(*(node(f"{STABLE}-{number}", **{STABLE: "yes"}) for number in range(2)))
        self.put(endpoint("edge", "fd00:99::1"))
        selector = {"matchLabels": {STABLE: "yes"}}
        self.put(pipeline(STABLE, "fd00:9::/48", nodeSelector=selector, devices=_ANY_DEVICE))
        self.put(network(STABLE, STABLE, subnets=[{"prefix": "10.0.0.0/24"}]))
        self.put(
            *(
                interface(
                    f"{STABLE}-{number}", STABLE, f"{STABLE}-{number % 2}", STABLE,
                    pipelineRef={"name": STABLE}, attachment=_tap(f"{STABLE}{number}"),
                )
                for number in range(6)
            )
        )  # fmt: skip
        for name in _NODES:
            self._label(name)
        for action in (Walk.put_pipeline, Walk.put_network, Walk.put_interface) * 8:
            self._do(action)

    # Actions

    def step(self) -> None:
        """Do one random thing."""
        actions = list(_ACTIONS)
        (action,) = self.random.choices(actions, [_ACTIONS[each] for each in actions])
        self._do(action)

    def _do(self, action: Callable[["Walk"], str]) -> None:
        result = "refused"
        try:
            result = str(action(self))
        except* KubeError as group:
            for error in _leaves(group):
                if error.status not in _REFUSALS:
                    raise
                result += f": {error}"
        self.trail.append(f"{action.__name__}: {result}")
        self.counts[action.__name__ + (" refused" if result.startswith("refused") else "")] += 1

    def mend(self) -> None:
        """Take back mistakes in what was right before: what such an object does depends on it."""
        for (kind, key), right in sorted(self._mistaken.items(), key=str):
            raw = self.get(kind, key)
            if raw and isinstance(parse(kind.name, raw), tuple):
                try:
                    self.replace(kind, {**raw, "spec": right["spec"]})
                except KubeError as error:
                    if error.status not in _REFUSALS:
                        raise
                    self.delete(kind, key)
        self._mistaken.clear()

    def put_interface(self) -> str:
        if self._chance(0.25):
            return self._interface(f"{STABLE}/vm{self.random.randrange(8)}", STABLE)
        key = f"{self._any(_TENANTS)}/vm{self.random.randrange(8)}"
        return self._interface(key, self._any((*_NETWORKS, *_NETWORKS, "nowhere")))

    def change_interface(self) -> str:
        key = self._present(INTERFACES)
        return self._interface(key) if key else "no Interface"

    def _interface(self, key: str, of: str = "nowhere") -> str:
        namespace, _, name = key.partition("/")
        before = self.get(INTERFACES, key)
        # It cannot be changed.
        of = before["spec"]["networkRef"]["name"] if before else of
        spec: dict[str, Any] = {
            "pipelineRef": {"name": self._any((*_PIPELINES, *_PIPELINES, STABLE, "nowhere"))},
            "attachment": self._attachment(),
        }
        if spec["pipelineRef"]["name"] == STABLE or of == STABLE:
            spec["pipelineRef"] = {"name": STABLE}
        on = spec["pipelineRef"]["name"]
        where = f"{STABLE}-{self.random.randrange(2)}" if on == STABLE else ""
        where = where or self._any((*_NODES, *_NODES, "nowhere"))
        if self._chance(0.4):
            spec["addresses"] = self._some(_ADDRESSES, 2)
        if self._chance(0.2):
            spec["prefixes"] = self._some(_PREFIXES, 2)
        if self._chance(0.1):
            spec["mtu"] = self._any((1280, 1400, 9000))
        self.put(interface(name, of, where, namespace, **spec))
        return f"{key} in {of} on {on}/{where} {spec.get('addresses', '')}"

    def delete_interface(self) -> str:
        return self._delete(INTERFACES)

    def put_network(self) -> str:
        key = f"{self._any(_TENANTS)}/{self._any(_NETWORKS)}"
        return self._network(key, self.get(VIRTUAL_NETWORKS, key))

    def _network(self, key: str, before: Any) -> str:
        namespace, _, name = key.partition("/")
        spec: dict[str, Any] = {"subnets": [{"prefix": each} for each in self._some(_SUBNETS, 3)]}
        # It cannot be changed.
        vni = before["spec"].get("vni") if before else self._any((None, None, *_VNIS))
        if vni:
            spec["vni"] = vni
        prefixes = [*self._some(_PREFIXES, 3), "198.51.100.0/24"]
        if self._chance(0.6):
            spec["routes"] = [self._route(each, name) for each in prefixes]
        self.put(network(name, namespace, **spec))
        return f"{key} vni {vni} {[each['prefix'] for each in spec['subnets']]}"

    def _route(self, prefix: str, network: str) -> Json:
        others = sorted({*_NETWORKS, "nowhere"} - {network})
        hops: list[Json] = [
            {"networkRef": {"name": self._any(others)}},
            {"interfaceRef": {"name": f"vm{self.random.randrange(8)}"}},
            {"endpointRef": {"name": "edge"}},
        ]
        if self._chance(0.3):
            return {"prefix": prefix, "action": "Drop"}
        return {"prefix": prefix, "nextHops": [*self.random.sample(hops, 1 + self._chance(0.5))]}

    def put_many_routes(self) -> str:
        key = self._present(VIRTUAL_NETWORKS)
        raw = self.get(VIRTUAL_NETWORKS, key) if key else None
        if raw is None:
            return "no network"
        count = self.random.randrange(600)
        routes = [{"prefix": f"100.64.{n // 4}.{n % 4 * 64}/26", "action": "Drop"}
                  for n in range(count)]  # fmt: skip
        given = {name: raw["spec"][name] for name in ("subnets", "vni") if name in raw["spec"]}
        namespace, _, name = key.partition("/")
        self.put(network(name, namespace, **given, routes=routes))
        return f"{key}: {count}"

    def delete_network(self) -> str:
        return self._delete(VIRTUAL_NETWORKS)

    def put_pipeline(self) -> str:
        name = self._any(tuple(_PIPELINES))
        spec: dict[str, Any] = {"devices": _ANY_DEVICE}
        if self._chance(0.7):
            spec["nodeSelector"] = {"matchLabels": {"zone": self._any(("a", "b"))}}
        if self._chance(0.6):
            spec["uplinks"] = [
                {"name": f"u{number}", "attachment": _tap(device), "mtu": 1500 + number}
                for number, device in enumerate(self._some(_DEVICES, 2))
            ]
        if self._chance(0.4):
            spec["nodeClassLabel"] = "size"
            spec["nodeClasses"] = [
                {"value": value, "workers": {"count": 1 + self.random.randrange(3)}}
                for value in self._some(("small", "large"), 2)
            ]
        before = self.get(PIPELINES, name)
        # None may be taken away.
        prefixes = before["spec"]["underlayPrefixes"] if before else [_PIPELINES[name]]
        if len(prefixes) == 1 and self._chance(0.2):
            prefixes = [*prefixes, f"fd00:3:0:{name[1]}::/64"]
        self.put(pipeline(name, underlayPrefixes=prefixes, **spec))
        return f"{name} {prefixes} {spec.get('nodeSelector', '')} {spec.get('nodeClasses', '')}"

    def delete_pipeline(self) -> str:
        return self._delete(PIPELINES)

    def label_node(self) -> str:
        return self._label(self._any(_NODES))

    def _label(self, name: str) -> str:
        labels = {"zone": self._any(("a", "b"))}
        if self._chance(0.5):
            labels["size"] = self._any(("small", "large", "other"))
        self.put(node(name, **labels))
        return f"{name} {labels}"

    def delete_node(self) -> str:
        return self._delete(NODES)

    def delete_namespace(self) -> str:
        name = self._any(_TENANTS[1:])
        self.delete(NAMESPACES, name)
        return name

    def put_namespace(self) -> str:
        # Does nothing while one of that name goes.
        self.put(*map(_namespace, _TENANTS))
        return "all"

    def put_invalid(self) -> str:
        """Make an object that is wrong, and was not there or was made right in the meantime."""
        number, namespace = self.random.randrange(3), self._any(_TENANTS)
        bad = (
            network(f"bad{number}", namespace, routes=_to_itself(f"bad{number}")),
            interface(f"bad{number}", "blue", "n1", namespace, addresses=_TWICE),
            pipeline(f"bad{number}", "fd00:4::/48", uplinks=_one_device_twice()),
        )
        item: Any = self.random.choice(bad)
        kind, key = _KINDS[item["kind"]], key_of(item)
        self._remember(kind, key)
        self.put(item)
        return f"{kind.name} {key}"

    def spoil(self) -> str:
        """Make a mistake in an object that may have been right."""
        kind = self.random.choice((VIRTUAL_NETWORKS, INTERFACES, PIPELINES))
        key = self._present(kind)
        if not (key and self._remember(kind, key)):
            return f"no {kind.name}"
        wrong: Any = {
            VIRTUAL_NETWORKS: {"routes": _to_itself(key.rpartition("/")[2])},
            INTERFACES: {"addresses": _TWICE},
            PIPELINES: {"uplinks": _one_device_twice()},
        }
        self._merge(kind, key, {"spec": wrong[kind]})
        return f"{kind.name} {key}"

    def _remember(self, kind: Kind, key: str) -> bool:
        """Note how the object is before a mistake is made in it; whether it is right now."""
        raw = self.get(kind, key)
        if raw is None or isinstance(parse(kind.name, raw), tuple):
            return False
        self._mistaken[kind, key] = raw
        return True

    def delete_output(self) -> str:
        # What was given out is in a status, too, unless that was edited.
        return self._delete(self._any(OUTPUTS))

    def edit_output(self) -> str:
        kind = self._any(OUTPUTS)
        key = self._present(kind)
        raw = self.get(kind, key) if key else None
        if raw is None:
            return f"no {kind.name}"
        spec = raw["spec"]
        if kind is DAEMON_SETS:
            spec["template"]["spec"]["containers"][0]["image"] = "localhost/other:1"
            spec["template"]["spec"]["tolerations"] = []
        elif kind is SLICES and config_of_slice(raw):
            for each in spec.get("entries", ()):
                of = VIRTUAL_NETWORKS if spec["type"] == "Networks" else INTERFACES
                self.edited.add((of, entry_key(each)))
                if self._chance(0.5):
                    each["vni"] += 10_000
            self.edited.add((PIPELINES, raw["metadata"]["labels"]["headrace.dev/pipeline"]))
            spec["entries"] = spec.get("entries", [])[: self.random.randrange(4)]
        elif kind is SLICES:
            self.edited.add((VIRTUAL_NETWORKS, network_of(spec)))
            spec["vni"] += self._any((0, 1, 10_000))
            spec["entries"] = spec["entries"][: self.random.randrange(3)]
        else:
            slices = {each["metadata"]["name"]: each for each in self.all(SLICES).values()}
            whole: Any = assembled(raw, slices)
            for field, of in (("networks", VIRTUAL_NETWORKS), ("interfaces", INTERFACES)):
                self.edited |= {(of, entry_key(each)) for each in whole["spec"].get(field, ())}
            self.edited.add((PIPELINES, spec["pipelineName"]))
            spec["slices"] = spec["slices"][: self.random.randrange(3)]
        if self._chance(0.3):
            raw["metadata"]["labels"]["headrace.dev/pipeline"] = "another"
        self.replace(kind, raw)
        return f"{kind.name} {key}"

    def add_output(self) -> str:
        """Make an object that nobody wants, and that looks like the operator's."""
        name, number = self._any(_PIPELINES_AND_NONE), self.random.randrange(3)
        metadata: Any = {"labels": {"app.kubernetes.io/managed-by": "headrace-operator"}}
        owner: Json = {"kind": "VirtualNetwork", "namespace": "t1", "name": f"none{number}"}
        spec: Json = {"type": "Routes", "owner": owner, "vni": 5000 + number}
        kind, metadata["name"] = SLICES, f"t1.none{number}.0"
        if self._chance(0.5):
            kind, metadata["name"] = DATAPLANE_CONFIGS, f"{name}.gone{number}"
            metadata["labels"]["headrace.dev/pipeline"] = name
            spec = {
                "pipelineName": name,
                "nodeName": f"gone{number}",
                "workers": {"count": 1},
                "underlayPrefix": f"fd00:7:0:{number + 1}::/64",
                "underlayAddress": f"fd00:7:0:{number + 1}::1",
                "slices": [],
            }
        metadata["namespace"] = NAMESPACE
        item: Json = {"apiVersion": kind.api_version, "kind": kind.name}
        self.put({**item, "metadata": metadata, "spec": spec})
        return f"{kind.name} {metadata['name']}"

    def edit_status(self) -> str:
        kind = self._any((VIRTUAL_NETWORKS, INTERFACES, PIPELINES))
        key = self._present(kind)
        if not key:
            return f"no {kind.name}"
        values: Any = {
            VIRTUAL_NETWORKS: {"vni": self._any((1, 2, 3, 4, 100, 7777))},
            INTERFACES: {
                "addresses": self._some(_ADDRESSES, 2),
                "underlayAddress": f"fd00:1:0:{self.random.randrange(1, 4)}::2",
                "nodeName": self._any(_NODES),
            },
            PIPELINES: {"nodes": [], "selectedNodes": 99, "metricsPort": 9999, "conditions": []},
        }
        change = self._any((values[kind], None, {"conditions": []}, {"observedGeneration": 1}))
        if change is values[VIRTUAL_NETWORKS] and "/bad" in key:
            # Who starts believes the status of what cannot be read: it may have been valid.
            change = None
        self._merge(kind, key, {"status": change}, "status")
        self.edited.add((kind, key))
        return f"{kind.name} {key}: {change}"

    def kill_operator(self) -> str:
        operator = self.random.choice(self.replicas.running)
        operator.kill()
        return f"{operator.process.pid}"

    def stop_operator(self) -> str:
        operator = self.random.choice(self.replicas.running)
        operator.process.terminate()
        return f"{operator.process.pid}"

    def kill_operators(self) -> str:
        for operator in self.replicas.running:
            operator.kill()
        return "both"

    replicas: Replicas

    # Parts

    def _any(self, values: Sequence[Any]) -> Any:
        return self.random.choice(values)

    def _some(self, values: Sequence[str], most: int) -> list[str]:
        return self.random.sample(values, self.random.randint(1, most))

    def _chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def _attachment(self) -> Json:
        if self._chance(0.1):
            return {"type": "AFXDP", "afXDP": {"deviceName": "eth9"}}
        return _tap(self._any(_DEVICES)) if self._chance(0.6) else {"type": "Discard"}

    def _present(self, kind: Kind) -> str:
        """Key of an object that may be changed; empty if there is none."""
        found = [key for key in sorted(self.all(kind)) if not is_stable(kind, key)]
        return self._any(found) if found else ""

    def _delete(self, kind: Kind) -> str:
        key = self._present(kind)
        if key:
            self.delete(kind, key)
            self._mistaken.pop((kind, key), None)
        return f"{kind.name} {key}"

    def _merge(
        self, kind: Kind, key: str, change: Json, subresource: Literal["", "status"] = ""
    ) -> None:
        namespace, _, name = key.rpartition("/")
        self._run(self.kube.merge(kind, name, namespace, change, "test", subresource))


_KINDS = {kind.name: kind for kind in (VIRTUAL_NETWORKS, INTERFACES, PIPELINES)}
_PIPELINES_AND_NONE = (*_PIPELINES, "none")
_ACTIONS: dict[Callable[[Walk], str], float] = {
    Walk.put_interface: 30,
    Walk.change_interface: 12,
    Walk.delete_interface: 8,
    Walk.put_network: 12,
    Walk.put_many_routes: 2,
    Walk.delete_network: 2,
    Walk.put_pipeline: 5,
    Walk.delete_pipeline: 1,
    Walk.label_node: 4,
    Walk.delete_node: 2,
    Walk.put_namespace: 4,
    Walk.delete_namespace: 1,
    Walk.put_invalid: 2,
    Walk.spoil: 2,
    Walk.delete_output: 3,
    Walk.edit_output: 3,
    Walk.add_output: 1,
    Walk.edit_status: 3,
    Walk.kill_operator: 1,
    Walk.kill_operators: 0.3,
    Walk.stop_operator: 1,
}


def is_stable(kind: Kind, key: str) -> bool:
    """Whether the walk leaves the object alone."""
    name = key.rpartition("/")[2]
    if kind in OUTPUTS:
        return name.startswith((f"{STABLE}.", f"headrace-{STABLE}"))
    return name.startswith(STABLE)


def _namespace(name: str) -> Json:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def _tap(device: str) -> Json:
    return {"type": "Tap", "tap": {"deviceName": device}}


def _to_itself(name: str) -> list[Json]:
    return [{"prefix": "10.9.0.0/16", "nextHops": [{"networkRef": {"name": name}}]}]


# The same, for those who read addresses; the API server reads text.
_TWICE: list[JsonValue] = ["fd00:10::9", "FD00:10::9"]


def _one_device_twice() -> list[Json]:
    one = _tap("tap0")
    other: Json = {"type": "AFPacket", "afPacket": {"deviceName": "tap0"}}
    return [{"name": "u0", "attachment": one}, {"name": "u1", "attachment": other}]


def _leaves(group: BaseExceptionGroup[KubeError]) -> Iterator[KubeError]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


class Picture:
    """All objects at one time, and what they compile to with what has been given out."""

    def __init__(self, world: World) -> None:
        self.objects = {kind: world.all(kind) for kind in (*OUTPUTS, *INPUTS)}
        self._endpoints = world.all(UNDERLAY_ENDPOINTS)
        self._resting = resting.read(world.get(CONFIG_MAPS, f"{NAMESPACE}/headrace-operator"))
        self.invalid: dict[Key, tuple[Problem, ...]] = {}
        self.compiled = self._compile()

    def _compile(self) -> Compilation:
        raw = {kind: [*found.values()] for kind, found in self.objects.items()}
        models: list[Object] = [
            UnderlayEndpoint.model_validate({**item, "status": None})
            for item in self._endpoints.values()
        ]
        for kind in INPUTS:
            for key, item in self.objects[kind].items():
                found = parse(kind.name, item)
                if isinstance(found, tuple):
                    self.invalid[kind, key] = found
                else:
                    models.append(found)
        allocations = load_allocations(
            raw[VIRTUAL_NETWORKS],
            raw[INTERFACES],
            raw[PIPELINES],
            self.configs,
            raw[SLICES],
            resting=self._resting,
        )
        return compile_all(Objects((*models,)), allocations, NAMESPACE)

    @property
    def configs(self) -> list[Json]:
        """The DataplaneConfigs with what is in their Slices."""
        slices = {item["metadata"]["name"]: item for item in self.objects[SLICES].values()}
        return [assembled(item, slices) for item in self.objects[DATAPLANE_CONFIGS].values()]

    def complaints(self) -> list[str]:
        """What is wrong in a cluster that has settled."""
        return [
            *self._outputs(),
            *self._duplicates(),
            *self._networks(),
            *self._interfaces(),
            *self._pipelines(),
            *self._conditions(),
        ]

    def _outputs(self) -> Iterator[str]:
        configs, slices = self.objects[DATAPLANE_CONFIGS], self.objects[SLICES]
        yield from _differences(
            "compiled",
            compiled_specs(self.compiled.configs.values(), self.compiled.slices.values()),
            compiled_specs(configs.values(), slices.values()),
        )
        named = {name for config in configs.values() for name in slices_named(config)}
        for item in slices.values():
            if config_of_slice(item) and item["metadata"]["name"] not in named:
                yield f"Slice {item['metadata']['name']} is named by no DataplaneConfig"
        sets = {
            (name, value)
            for name, item in self.objects[PIPELINES].items()
            if (PIPELINES, name) not in self.invalid
            for value in (
                "default",
                *(each["value"] for each in item["spec"].get("nodeClasses", [])),
            )
        }
        found = [
            (labels["headrace.dev/pipeline"], labels["headrace.dev/node-class"])
            for item in self.objects[DAEMON_SETS].values()
            for labels in (item["spec"]["selector"]["matchLabels"],)
        ]
        if sorted(sets) != sorted(found):
            yield f"DaemonSets of {sorted(found)}, not of {sorted(sets)}"
        for name, item in self.objects[DAEMON_SETS].items():
            image = item["spec"]["template"]["spec"]["containers"][0]["image"]
            if image != "localhost/dataplane:1":
                yield f"DaemonSet {name}: image {image}"

    def _duplicates(self) -> Iterator[str]:
        given: dict[tuple[str, ...], set[str]] = defaultdict(set)
        for key, item in self.objects[VIRTUAL_NETWORKS].items():
            given["vni", str(_status(item).get("vni") or key)].add(key)
        for item in self.objects[SLICES].values():
            if network := network_of(item["spec"]):
                given["vni", str(item["spec"]["vni"])].add(network)
        for key, item in self.objects[INTERFACES].items():
            status = _status(item)
            of = f"{key.partition('/')[0]}/{item['spec']['networkRef']['name']}"
            for address in status.get("addresses", []):
                given["address", of, address].add(key)
            given["underlay", status.get("underlayAddress") or key].add(key)
        for name, item in self.objects[PIPELINES].items():
            given["port", str(_status(item).get("metricsPort") or name)].add(name)
            for each in _status(item).get("nodes", []):
                given["prefix", each["underlayPrefix"]].add(f"{name} on {each['name']}")
        for item in self.configs:
            spec: Any = item["spec"]
            on, where = f"{spec['pipelineName']} on {spec['nodeName']}", spec["nodeName"]
            given["prefix", spec["underlayPrefix"]].add(on)
            for each in spec.get("uplinks", []):
                _occupy(given, where, each["attachment"], f"uplink {each['name']} of {on}")
            for each in spec.get("interfaces", ()):
                owner = f"{each['namespace']}/{each['name']}"
                given["underlay", each["underlayAddress"]].add(owner)
                given["vni", str(each["vni"])].add(each["network"])
                for address in each["addresses"]:
                    given["address", each["network"], address].add(owner)
                _occupy(given, where, each["attachment"], owner)
        for value, owners in given.items():
            if len(owners) > 1:
                yield f"{' '.join(value)} given to {sorted(owners)}"

    def _networks(self) -> Iterator[str]:
        held = self.compiled.allocations.networks
        for key, item in self.objects[VIRTUAL_NETWORKS].items():
            vni = held[key].vni if key in held else None
            if _status(item).get("vni") != vni:
                yield f"VirtualNetwork {key}: vni {_status(item).get('vni')}, not {vni}"

    def _interfaces(self) -> Iterator[str]:
        held = self.compiled.allocations.interfaces
        for key, item in self.objects[INTERFACES].items():
            status, record = _status(item), held.get(key)
            told = status.get("addresses", []), status.get("underlayAddress")
            if told != (
                (list(record.addresses), record.underlay_address) if record else ([], None)
            ):
                yield f"Interface {key}: {told}, not {record}"

    def _pipelines(self) -> Iterator[str]:
        held = self.compiled.allocations.nodes
        for name, item in self.objects[PIPELINES].items():
            status = _status(item)
            nodes = {each["name"]: each["underlayPrefix"] for each in status.get("nodes", [])}
            wanted = {node: record.underlay_prefix for node, record in held.get(name, {}).items()}
            if (nodes, status.get("selectedNodes")) != (wanted, len(wanted)):
                yield f"Pipeline {name}: {status.get('selectedNodes')} nodes {nodes}, not {wanted}"
            for key, each in self.objects[DAEMON_SETS].items():
                if each["metadata"]["labels"].get("headrace.dev/pipeline") == name:
                    (ports,) = (
                        container["ports"]
                        for container in each["spec"]["template"]["spec"]["containers"]
                    )
                    if ports[0]["containerPort"] != status.get("metricsPort"):
                        yield f"{key} listens on {ports}, {name} says {status.get('metricsPort')}"

    def _conditions(self) -> Iterator[str]:
        problems: dict[tuple[str, str], set[str]] = defaultdict(set)
        for each in (*self.compiled.problems, *sum(self.invalid.values(), ())):
            key = "/".join(filter(None, (each.namespace, each.name)))
            problems[each.kind, key].add(each.reason)
        for kind in INPUTS[1:]:
            for key, item in self.objects[kind].items():
                found, reasons = condition(item), problems[kind.name, key]
                what = f"{kind.name} {key}"
                if _status(item).get("observedGeneration") != item["metadata"]["generation"]:
                    yield f"{what}: its newest generation is not observed"
                if reasons and (found.get("status") != "False" or found["reason"] not in reasons):
                    yield f"{what}: Ready is {found}, its problems {reasons}"
                if reasons or kind is PIPELINES:
                    # No pod is ever ready, without a kubelet.
                    if found.get("status") != "False":
                        yield f"{what}: Ready is {found}"
                elif found.get("status") != "True" or condition(item, "Stalled"):
                    yield f"{what}: all is well, but Ready is {found}"

    def moved(self, since: "Picture", edited: set[Key]) -> list[str]:
        """What was given out and is not where it was, though nobody touched its owner."""

        def same(kind: Kind, key: str) -> bool:
            if (kind, key) in edited:
                return False
            before, after = (each.objects[kind].get(key) for each in (since, self))
            return bool(before and after) and _identity(before) == _identity(after)

        found = []
        for kind, names in _GIVEN.items():
            for key, item in self.objects[kind].items():
                if not same(kind, key):
                    continue
                if kind is INTERFACES and not all(same(*each) for each in _context(key, item)):
                    continue
                before, after = _status(since.objects[kind][key]), _status(item)
                for name in names:
                    old, new = before.get(name), after.get(name)
                    lost = not {*old} <= {*(new or [])} if isinstance(old, list) else old != new
                    if old and lost:
                        found.append(f"{kind.name} {key}: {name} was {old}, is {new}")
        return found


_GIVEN = {
    VIRTUAL_NETWORKS: ("vni",),
    PIPELINES: ("metricsPort",),
    INTERFACES: ("addresses", "underlayAddress", "nodeName"),
}


def _identity(item: Any) -> tuple[Any, ...]:
    metadata = item["metadata"]
    return metadata["uid"], metadata.get("generation"), metadata.get("labels")


def _context(key: str, item: Any) -> Iterator[Key]:
    """What an Interface's addresses depend on."""
    spec = item["spec"]
    yield VIRTUAL_NETWORKS, f"{key.partition('/')[0]}/{spec['networkRef']['name']}"
    yield PIPELINES, spec["pipelineRef"]["name"]
    yield NODES, spec["nodeName"]


def _status(item: Any) -> Any:
    return item.get("status", {})


def _occupy(given: dict[tuple[str, ...], set[str]], node: str, attachment: Any, by: str) -> None:
    if attachment["type"] == "Tap":
        given["device", node, attachment["tap"]["deviceName"]].add(by)


def _differences(kind: str, wanted: dict[str, Any], found: dict[str, Any]) -> Iterator[str]:
    for key in sorted(wanted.keys() | found.keys()):
        if key not in found:
            yield f"{kind} {key} is missing"
        elif key not in wanted:
            yield f"{kind} {key} is left over"
        elif wanted[key] != found[key]:
            names = wanted[key].keys() | found[key].keys()
            parts = {
                name: (found[key].get(name), wanted[key].get(name))
                for name in sorted(names)
                if found[key].get(name) != wanted[key].get(name)
            }
            yield f"{kind} {key} differs (found, wanted): {parts}"
