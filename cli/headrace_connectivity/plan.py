# SPDX-License-Identifier: Apache-2.0
"""What the test makes, asks and expects: pure.

Two networks with the same addresses. In the first are two endpoints on one node and one on
another; in the second are two at the addresses of two of these, of which one has an address more.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv6Address, ip_address

from prometheus_client.parser import text_string_to_metric_families

from headrace_api import API_VERSION, AttachmentType, Json, pod_interface_name
from headrace_api.base import ConditionStatus
from headrace_api.device import Device
from headrace_api.pod import NETWORKS_ANNOTATION, pod_device
from headrace_api.raw import items, mapping, part, text
from headrace_cli.overview import Seen
from headrace_connectivity.pod.anywhere import Answer, Probe
from headrace_connectivity.pod.endpoint import DEVICE, PORT
from headrace_connectivity.pod.frames import in_ipv6, udp_packet

NETWORKS = ("one", "two")
FAMILIES = ("IPv4", "IPv6")
TRANSFER_BYTES = 1 << 20
# How packets to an underlay address are made, and the family of those for a tenant's in them.
_INNER = {"plain IPv6": "", "IPv4 in IPv6": "IPv4", "IPv6 in IPv6": "IPv6"}
# Of an underlay address: node's /64, VNI, identity of the Interface.
_VNI = (1 << 64) - (1 << 40)
_NODE = ((1 << 64) - 1) << 64
_NODES_DEVICE = "eth0"

# For documentation (RFC 5737, RFC 3849): nobody's own.
_PREFIX = {"IPv4": "192.0.2.0/24", "IPv6": "2001:db8::/64"}
_ADDRESS = {"IPv4": "192.0.2.{}", "IPv6": "2001:db8::{:x}"}
_ONLY_TWO = 99
# Host parts of addresses.

_KUBELET_PORT = 10250
_TRESPASS_SECONDS = 2.0
# Silence is what passes: nobody waits for it longer than for an answer.
_SILENCE_SECONDS = 2.0
_TRANSFER_SECONDS = 30.0
# What the runtime would give a container beyond NET_RAW, which forging takes.
_DROP = (
    *("AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD"),
    *("NET_BIND_SERVICE", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"),
)
CONTAINER = "endpoint"
SERVICE = "kubernetes.default.svc"
LABELS = {"app.kubernetes.io/name": "headrace", "app.kubernetes.io/component": "connectivity"}
SELECTOR = ",".join(f"{name}={value}" for name, value in LABELS.items())
# What a dataplane pod needs to be where it is, and any of Headrace's to be pulled.
_ALIKE = ("imagePullSecrets", "tolerations")
_HOSTS = {"a1": 10, "a2": 11, "b1": 12}
PROGRAM = "python3 -m headrace_connectivity.pod.{}"


class Outcome(StrEnum):
    """How a check ended."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Result:
    """One check."""

    name: str
    outcome: Outcome
    reason: str = ""

    @classmethod
    def of(cls, name: str, problem: str) -> "Result":
        """Failed with this problem; passed without one."""
        return cls(name, Outcome.FAILED if problem else Outcome.PASSED, problem)


@dataclass(frozen=True)
class Endpoint:
    """A pod of the test."""

    name: str
    """Of the pod."""
    network: str
    """One of NETWORKS."""
    node: str
    hosts: tuple[int, ...]
    """Host parts of its addresses: 2 to 254."""

    def address(self, family: str, index: int = 0) -> str:
        """Its address of the family."""
        return _ADDRESS[family].format(self.hosts[index])

    @property
    def addresses(self) -> tuple[str, ...]:
        """All of its addresses."""
        return tuple(_ADDRESS[family].format(host) for family in FAMILIES for host in self.hosts)


@dataclass(frozen=True)
class Check:
    """A question to put to a pod, and what to think of the answer."""

    name: str
    asker: str
    """Name of the pod."""
    probe: Probe
    problem: Callable[[Answer], str]
    """What is wrong with the answer; empty: nothing."""
    needs: tuple[str, ...] = ()
    """Names of the checks without which this one says nothing."""
    skip: str = ""
    """Why it is not to be made; empty: it is."""


@dataclass(frozen=True)
class Surroundings:
    """What lies around the pod `a1` once it runs."""

    node_addresses: tuple[str, ...]
    """Of its node."""
    families: frozenset[str]
    """Of its addresses in the cluster's own network."""
    service: tuple[str, int]
    """Address and port of the API server's Service."""
    nameless: str = ""
    """Why no name of a Service can be looked up; empty: it can."""
    underlay: Mapping[str, str] = field(default_factory=dict)
    """Underlay addresses of the pods' Interfaces, by the pod's name."""
    hidden: str = ""
    """Why these are not known; empty: they are."""


@dataclass(frozen=True)
class Mistake:
    """An object that nobody but an administrator can make good, and how it is to be refused."""

    name: str
    """Of the check."""
    item: Json
    condition: str
    """The one that is to be False."""
    reason: str
    needs: tuple[str, ...] = ()
    """Names of the checks without which it is not made."""
    skip: str = ""
    """Why it is not to be made; empty: it is."""

    @property
    def key(self) -> tuple[str, str]:
        """Namespace and name of the object."""
        metadata = part(self.item, "metadata")
        return text(metadata.get("namespace")), text(metadata.get("name"))

    def problem(self, seen: Seen, configs: Iterable[Json]) -> str | None:
        """Return what is wrong with how it was refused; None: nobody has judged it yet.

        `configs` are the DataplaneConfigs.
        """
        verdict = next((c for c in seen.status.conditions if c.type == self.condition), None)
        if (
            verdict is None
            or verdict.status is ConditionStatus.UNKNOWN
            or (verdict.observed_generation or 0) < seen.metadata.generation
        ):
            return None
        if verdict.status is ConditionStatus.TRUE:
            return f"it is taken: {self.condition}=True"
        if verdict.reason != self.reason:
            return f"refused with reason {verdict.reason}, not {self.reason}: {verdict.message}"
        for config in configs:
            for half in ("spec", "status"):
                for each in map(mapping, items(part(config, half).get("interfaces"))):
                    if (text(each.get("namespace")), text(each.get("name"))) == self.key:
                        name = text(part(config, "metadata").get("name"))
                        return f"it is refused, yet in {half} of DataplaneConfig {name}"
        return ""


@dataclass(frozen=True)
class Plan:
    """The test on one node, or on two; `run` is a hexadecimal number that no other run has."""

    run: str
    namespace: str
    pipeline: str
    node: str
    other: str
    """The second node; empty: there is none."""
    alone: str
    """Why there is none."""
    image: str
    """Of its pods."""
    multus: bool = False
    """Whether pods get their devices by Multus alone."""

    def _name(self, *words: str) -> str:
        return "-".join(("connectivity", self.run, *words))

    def network(self, name: str) -> Json:
        """Return the VirtualNetwork."""
        return {
            "apiVersion": API_VERSION,
            "kind": "VirtualNetwork",
            "metadata": {"name": self._name(name), "namespace": self.namespace},
            "spec": {"subnets": [{"prefix": _PREFIX[family]} for family in FAMILIES]},
        }

    def definition(self) -> Json:
        """Return the NetworkAttachmentDefinition by which Multus asks for the pods' devices."""
        config = {"cniVersion": "1.0.0", "name": "headrace", "type": "headrace-cni"}
        return {
            "apiVersion": "k8s.cni.cncf.io/v1",
            "kind": "NetworkAttachmentDefinition",
            "metadata": {"name": self._name("multus"), "namespace": self.namespace},
            "spec": {"config": json.dumps(config)},
        }

    def endpoint(self, network: str, role: str) -> Endpoint:
        """Return the endpoint: a1 or a2 on the first node, b1 on the second."""
        hosts: tuple[int, ...] = (_HOSTS[role],)
        if (network, role) == ("two", self.far):
            hosts += (_ONLY_TWO,)
        node = self.other if role == "b1" else self.node
        return Endpoint(self._name(network, role), network, node, hosts)

    @property
    def nodes(self) -> tuple[str, ...]:
        """Where pods are."""
        return (self.node, self.other) if self.other else (self.node,)

    @property
    def far(self) -> str:
        """Who is as far from a1 as can be."""
        return "b1" if self.other else "a2"

    def endpoints(self) -> list[Endpoint]:
        """Return all of them."""
        one = ("a1", "a2", "b1") if self.other else ("a1", "a2")
        return [
            *(self.endpoint("one", role) for role in one),
            *(self.endpoint("two", role) for role in ("a1", self.far)),
        ]

    def interface(self, endpoint: Endpoint) -> str:
        """Return the name of the Interface that the operator makes for the pod."""
        return pod_interface_name(endpoint.name, self._name(endpoint.network))

    def pod(self, endpoint: Endpoint, dataplane: Json) -> Json:
        """Return the pod; `dataplane` is that of its node."""
        like = part(dataplane, "spec")
        network: Json = {
            "network": self._name(endpoint.network),
            "addresses": [*endpoint.addresses],
            "pipeline": self.pipeline,
            "device": DEVICE,
        }
        container: Json = {
            "name": CONTAINER,
            "image": self.image,
            "imagePullPolicy": "IfNotPresent",
            "command": [*PROGRAM.format("endpoint").split(), endpoint.name, *endpoint.addresses],
            "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 1},
            # The last words of one that ends.
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "resources": {
                "requests": {"cpu": "0", "memory": "24Mi"},
                "limits": {"memory": "128Mi"},
            },
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": [*_DROP]},
                # Without it NET_RAW has no effect.
                "runAsUser": 0,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
        }
        annotations: Json = {NETWORKS_ANNOTATION: json.dumps([network])}
        if self.multus:
            annotations["k8s.v1.cni.cncf.io/networks"] = self._name("multus")
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": endpoint.name,
                "namespace": self.namespace,
                "labels": {**LABELS},
                "annotations": annotations,
            },
            "spec": {
                "nodeName": endpoint.node,
                "automountServiceAccountToken": False,
                "enableServiceLinks": False,
                "restartPolicy": "Never",
                "terminationGracePeriodSeconds": 1,
                **{name: like[name] for name in _ALIKE if name in like},
                "containers": [container],
            },
        }

    # What is asked, and expected

    def reaching(self, around: Surroundings) -> list[Check]:
        """Return the checks that something arrives; to be made before those that nothing does."""
        a1, a2 = self.endpoint("one", "a1"), self.endpoint("one", "a2")
        found: list[Check] = []
        for family in FAMILIES:
            found += self._path(a1, a2, family)
            if self.other:
                b1 = self.endpoint("one", "b1")
                found += self._path(a1, b1, family, back=True)
        for family in FAMILIES:
            target, asker = self.endpoint("two", self.far), self.endpoint("two", "a1")
            found.append(
                Check(
                    f"same addresses in two networks, {family}",
                    asker.name,
                    Probe("ask", target.address(family)),
                    _named(target),
                )
            )
            # For the sake of the metrics, and of what is not to be reached from network one.
            found.append(
                Check(
                    _only_two(family),
                    asker.name,
                    Probe("ask", target.address(family, 1)),
                    _named(target),
                )
            )
        return [*found, *self._cluster(around)]

    def _path(
        self, one: Endpoint, other: Endpoint, family: str, *, back: bool = False
    ) -> Iterator[Check]:
        to = other.address(family)
        there = path(one, other, family)
        yield Check(there, one.name, Probe("ask", to), _named(other))
        if back:
            ask = Probe("ask", one.address(family))
            yield Check(path(other, one, family), other.name, ask, _named(one))
        mtu = f"MTU, {there}"
        yield Check(mtu, one.name, Probe("largest", to), self._too_large(back), (there,))
        if back:
            yield Check(
                f"1 MiB by TCP, {there}",
                one.name,
                Probe("transfer", to, size=TRANSFER_BYTES, seconds=_TRANSFER_SECONDS),
                _named(other),
                (there, mtu),
            )

    def _too_large(self, across: bool) -> Callable[[Answer], str]:
        def problem(answer: Answer) -> str:
            if answer.error or answer.text == str(answer.number):
                return answer.error
            if not answer.number:
                return f"a packet of {answer.text} bytes does not arrive, nor does one of 1280"
            found = (
                f"packets of up to {answer.number} bytes arrive, of {answer.number + 1} to "
                f"{answer.text} (the pod's MTU) none does"
            )
            if not across:
                return found
            return (
                f"{found}: the underlay of {self.node} and {self.other} carries less than Pipeline "
                f"{self.pipeline} says: raise the MTU of the uplinks' devices and of what is "
                "between them, or lower spec.uplinks[].mtu"
            )

        return problem

    def _cluster(self, around: Surroundings) -> Iterator[Check]:
        asker = self.endpoint("one", "a1").name

        def default(answer: Answer) -> str:
            routes = answer.text.split()
            for family in FAMILIES:
                devices = [r[2:] for r in routes if r.startswith(family[-1])]
                if DEVICE in devices:
                    return f"the pod's default route of {family} leads to {DEVICE}"
                if family in around.families and not devices:
                    return f"the pod has no default route of {family}"
            return answer.error

        name = "cluster network: default route"
        yield Check(name, asker, Probe("defaults"), default)
        address, port = around.service
        name = "cluster network: the API server's Service"
        yield Check(name, asker, Probe("connect", address, port), lambda answer: answer.error)
        yield Check(
            "cluster network: DNS",
            asker,
            Probe("resolve", SERVICE),
            lambda answer: answer.error,
            skip=around.nameless,
        )

    def silent(self, around: Surroundings) -> list[Check]:
        """Return the checks that nothing arrives; each needs one that something does."""
        a1, a2 = self.endpoint("one", "a1"), self.endpoint("one", "a2")
        target, two = self.endpoint("one", self.far), self.endpoint("two", self.far)
        found: list[Check] = []
        for family in FAMILIES:
            there = path(a1, target, family)
            own, to = a1.address(family), target.address(family)
            found.append(
                Check(
                    f"isolation of another network's address, {family}",
                    a1.name,
                    Probe("ask", two.address(family, 1), seconds=_SILENCE_SECONDS),
                    lambda answer: (
                        f"{answer.text} of the other network answers" if answer.text else ""
                    ),
                    (there, _only_two(family)),
                )
            )
            for what, claim in (("address", a2.address(family)), ("MAC address", "")):
                found.append(
                    Check(
                        f"spoofed source {what}, {family}",
                        a1.name,
                        Probe("forge", to, own=own, claim=claim),
                        lambda answer: (
                            answer.error or (f"frames {answer.text} arrive" if answer.text else "")
                        ),
                        (there,),
                    )
                )
        service, port = around.service
        targets = [("node", address, _KUBELET_PORT) for address in around.node_addresses]
        for what, address, number in [*targets, ("cluster network", service, port)]:
            own = a1.address(family_of(address))
            found.append(
                Check(
                    f"no way from {DEVICE} to the {what}, {family_of(address)}",
                    a1.name,
                    Probe("trespass", address, number, own=own, seconds=_TRESPASS_SECONDS),
                    _trespassed(address, number),
                    (path(a1, target, family_of(address)),),
                )
            )
        return found

    # What must not reach another network, whoever it seems to come from

    def intruding(self, around: Surroundings) -> list[Check]:
        """Return the checks that send packets to underlay addresses of network two.

        They say nothing of what arrived: `strays`, which have the same names, do.
        """
        a1, target = self.endpoint("one", "a1"), self.endpoint("one", self.far)
        return [
            Check(
                _to_underlay(how),
                a1.name,
                Probe(
                    "intrude",
                    target.address("IPv6"),
                    own=a1.address("IPv6"),
                    packets=() if around.hidden else tuple(self._intruders(around, how)),
                ),
                lambda answer: answer.error,
                (path(a1, target, "IPv6"), *map(_only_two, FAMILIES)),
                around.hidden,
            )
            for how in _INNER
        ]

    def _intruders(self, around: Surroundings, how: str) -> Iterator[str]:
        a1 = self.endpoint("one", "a1")
        payload = f"stray {self._stray(how)} ".encode()
        for victim in (self.endpoint("two", "a1"), self.endpoint("two", self.far)):
            to = around.underlay[victim.name]
            own = int(IPv6Address(around.underlay[a1.name]))
            node = own & _NODE | int(IPv6Address(to)) & _VNI | 1
            for source in (
                a1.address("IPv6"),
                around.underlay[self.endpoint("two", "a1").name],
                str(IPv6Address(node)),
            ):
                if family := _INNER[how]:
                    inner = a1.address(family), victim.address(family, -1)
                    packet = in_ipv6(source, to, udp_packet(*inner, PORT, payload))
                else:
                    packet = udp_packet(source, to, PORT, payload)
                yield packet.hex()

    def strays(self, around: Surroundings, sent: Mapping[str, Answer]) -> list[Check]:
        """Return the checks that nothing of it arrived; `sent` are the answers to `intruding`."""
        asker, target = self.endpoint("two", "a1"), self.endpoint("two", self.far)

        def problem(name: str) -> Callable[[Answer], str]:
            return lambda answer: (
                (name in sent and sent[name].error)
                or answer.error
                or (
                    f"packets to an underlay address arrive at {answer.text}" if answer.text else ""
                )
            )

        return [
            Check(
                check.name,
                asker.name,
                Probe(
                    "strays",
                    target.address("IPv6"),
                    own=asker.address("IPv6"),
                    words=(self._stray(how),),
                ),
                problem(check.name),
                check.needs,
                check.skip or (sent[check.name].skipped if check.name in sent else ""),
            )
            for how, check in zip(_INNER, self.intruding(around), strict=True)
        ]

    def _stray(self, how: str) -> str:
        return hashlib.sha256(f"{self.run} {how}".encode()).hexdigest()[:16]

    def mistakes(self, devices: Sequence[Device]) -> list[Mistake]:
        """Return what is to be refused, in this order.

        `devices` are those that the Pipeline lets the namespace name. The node's own is tried only
        where the end of a pod of this test was refused: who is given it may cut off the node.
        """
        network = self.network("wrong")
        hop: Json = {"endpointRef": {"name": self._name("none")}}
        network["spec"] = {
            **part(network, "spec"),
            "routes": [{"prefix": "198.51.100.0/24", "nextHops": [hop]}],
        }
        pods = "refused: a device of another pod"
        end = pod_device(f"{self.namespace}/{self.interface(self.endpoint('two', 'a1'))}")
        allowed = any(device.has(_NODES_DEVICE) for device in devices)
        return [
            Mistake(
                "refused: a route to no UnderlayEndpoint",
                network,
                "ResolvedRefs",
                "EndpointNotFound",
            ),
            Mistake(pods, self._named_device("pods", end), "Accepted", "DeviceNotAllowed"),
            Mistake(
                f"refused: device {_NODES_DEVICE} of the node",
                self._named_device("nodes", _NODES_DEVICE),
                "Accepted",
                "DeviceNotAllowed",
                (pods,),
                f"Pipeline {self.pipeline} lets namespace {self.namespace} have it"
                if allowed
                else "",
            ),
        ]

    def _named_device(self, name: str, device: str) -> Json:
        kind = AttachmentType.AF_PACKET.value
        return {
            "apiVersion": API_VERSION,
            "kind": "Interface",
            "metadata": {"name": self._name("wrong", name), "namespace": self.namespace},
            "spec": {
                "networkRef": {"name": self._name("one")},
                "pipelineRef": {"name": self.pipeline},
                "nodeName": self.node,
                "attachment": {"type": kind, "afPacket": {"deviceName": device}},
            },
        }


def path(sender: Endpoint, receiver: Endpoint, family: str) -> str:
    """Return the name of the check that the one reaches the other."""
    if sender.node == receiver.node:
        return f"within {sender.node}, {family}"
    return f"{sender.node} to {receiver.node}, {family}"


def family_of(address: str) -> str:
    """Return the one of FAMILIES that an address is of."""
    return f"IPv{ip_address(address).version}"


def _only_two(family: str) -> str:
    return f"an address of one network alone, {family}"


def _to_underlay(how: str) -> str:
    return f"isolation of an underlay address, {how}"


def _named(endpoint: Endpoint) -> Callable[[Answer], str]:
    def problem(answer: Answer) -> str:
        if answer.error or answer.text == endpoint.name:
            return answer.error
        return f"{answer.text} answers, not {endpoint.name}"

    return problem


def _trespassed(address: str, port: int) -> Callable[[Answer], str]:
    return lambda answer: f"{address} port {port}: {answer.text}" if answer.text else ""


def judge(
    checks: Iterable[Check], answers: Mapping[str, Answer], known: Iterable[Result] = ()
) -> list[Result]:
    """Return the results; `answers` are by the check's name, `known` those of earlier checks."""
    results = [*known]
    found = []
    for check in checks:
        reason = unmet(check, results) or answers[check.name].skipped
        if reason:
            result = Result(check.name, Outcome.SKIPPED, reason)
        else:
            result = Result.of(check.name, check.problem(answers[check.name]))
        results.append(result)
        found.append(result)
    return found


def unmet(check: Check | Mistake, known: Iterable[Result]) -> str:
    """Return why the check would say nothing, whatever is answered; empty: it says something."""
    passed = {result.name for result in known if result.outcome is Outcome.PASSED}
    missing = [name for name in check.needs if name not in passed]
    return f"because of {missing[0]!r}" if missing else check.skip


class Metrics:
    """What a dataplane pod's /metrics said (Prometheus text)."""

    def __init__(self, content: str) -> None:
        """Raises ValueError when it is none."""
        self._samples = [
            sample
            for family in text_string_to_metric_families(content)
            for sample in family.samples
        ]

    def drops(self, interfaces: Iterable[str]) -> Counter[str]:
        """Return packets dropped from or to Interfaces (namespace/name) and uplinks, by reason."""
        found: Counter[str] = Counter()
        own = {*interfaces}
        for sample in self._samples:
            if sample.name == "headrace_uplink_dropped_packets_total" or (
                sample.name == "headrace_interface_dropped_packets_total"
                and sample.labels["interface"] in own
            ):
                found[sample.labels["reason"]] += int(sample.value)
        return found

    def uncounted(self, answered: Mapping[str, int]) -> list[str]:
        """Return what is wrong with the counters of Interfaces (namespace/name).

        `answered` says how many packets came from each at least, and had an answer.
        """
        values = {
            (sample.name, sample.labels.get("interface")): int(sample.value)
            for sample in self._samples
        }
        found = []
        for interface, count in sorted(answered.items()):
            for direction in ("receive", "transmit"):
                name = f"headrace_interface_{direction}_packets_total"
                value = values.get((name, interface), 0)
                if value < count:
                    what = f'{name}{{interface="{interface}"}}'
                    found.append(f"{what} is {value} after {count} packets with an answer")
        return found
