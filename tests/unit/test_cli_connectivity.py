# SPDX-License-Identifier: Apache-2.0
"""The connectivity test without a cluster: what it makes, how it judges, and real endpoints."""

import inspect
import json
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

from headrace_api import AttachmentType, Interface, VirtualNetwork, pod_networks
from headrace_api.device import Device
from headrace_api.pod import NETWORKS_ANNOTATION, pod_device
from headrace_cli.main import main
from headrace_cli.overview import Seen
from headrace_connectivity.plan import (
    Check,
    Metrics,
    Mistake,
    Outcome,
    Plan,
    Result,
    Surroundings,
    judge,
    unmet,
)
from headrace_connectivity.pod import anywhere
from headrace_connectivity.pod import endpoint as endpoint_module
from headrace_connectivity.pod.anywhere import Answer
from headrace_connectivity.pod.frames import (
    GATEWAY_MAC,
    in_ipv6,
    source_of,
    tcp_syn,
    udp,
    udp_packet,
)
from headrace_connectivity.report import Report
from tests.engine.frames import is_intact

SECONDS = 60.0
UNDERLAY = {
    "connectivity-a1-one-a1": "fd00:1:0:1:0:100:0:a",
    "connectivity-a1-one-a2": "fd00:1:0:1:0:100:0:b",
    "connectivity-a1-one-b1": "fd00:1:0:2:0:100:0:c",
    "connectivity-a1-two-a1": "fd00:1:0:1:0:200:0:d",
    "connectivity-a1-two-b1": "fd00:1:0:2:0:200:0:e",
    "connectivity-a1-two-a2": "fd00:1:0:1:0:200:0:f",
}
AROUND = Surroundings(("198.18.0.1",), frozenset({"IPv4"}), ("198.19.0.1", 443), underlay=UNDERLAY)
WRAPPED = ("plain IPv6", "IPv4 in IPv6", "IPv6 in IPv6")
DATAPLANE: Any = {
    "spec": {
        "hostNetwork": True,
        "tolerations": [{"operator": "Exists"}],
        "imagePullSecrets": [{"name": "registry"}],
        "containers": [{"name": "dataplane", "image": "headrace/dataplane:1"}],
    }
}


def plan(other: str = "node-b") -> Plan:
    alone = "" if other else "no uplink"
    return Plan("a1", "default", "router", "node-a", other, alone, "headrace/connectivity:1")


@pytest.mark.parametrize("nodes", ["", ",", "a,b,c"])
def test_too_many_nodes_are_wrong_usage(nodes: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["connectivity", "test", f"--nodes={nodes}"])
    assert ended.value.code == 2
    assert "one or two names of nodes" in capsys.readouterr().err


# What it makes


@pytest.mark.parametrize("other", ["node-b", ""])
def test_pods_are_valid_and_have_addresses_of_their_own(other: str) -> None:
    test = plan(other)
    networks = {
        VirtualNetwork.model_validate(test.network(n)).metadata.name for n in ("one", "two")
    }
    taken: set[tuple[str, str]] = set()
    names = set()
    for each in test.endpoints():
        pod: Any = test.pod(each, DATAPLANE)
        (network,) = pod_networks(pod["metadata"]["annotations"][NETWORKS_ANNOTATION])
        assert network.network in networks
        assert network.pipeline == "router"
        addresses = {(network.network, address) for address in network.addresses}
        assert len(addresses) == len(network.addresses)
        assert not addresses & taken
        taken |= addresses
        names.add(each.name)
        assert len(test.interface(each)) <= 63
    assert len(names) == len(test.endpoints()) == (5 if other else 4)
    one, two = ({a for n, a in taken if n.endswith(end)} for end in ("one", "two"))
    # The same addresses, and two that only the second has.
    assert len(two - one) == 2
    assert len(two & one) == 4


def test_pods_are_where_a_dataplane_is_and_may_do_little() -> None:
    pod: Any = plan().pod(plan().endpoint("one", "b1"), DATAPLANE)
    spec = pod["spec"]
    (container,) = spec["containers"]
    assert (spec["nodeName"], container["image"]) == ("node-b", "headrace/connectivity:1")
    assert container["imagePullPolicy"] == "IfNotPresent"
    assert spec["tolerations"] == [{"operator": "Exists"}]
    assert spec["imagePullSecrets"] == [{"name": "registry"}]
    assert "hostNetwork" not in spec
    assert spec["automountServiceAccountToken"] is False
    assert "add" not in container["securityContext"]["capabilities"]
    assert "NET_RAW" not in container["securityContext"]["capabilities"]["drop"]


def test_every_check_has_a_name_of_its_own() -> None:
    for test in (plan(), plan("")):
        checks = [*test.reaching(AROUND), *test.silent(AROUND), *test.strays(AROUND, {})]
        names = [check.name for check in checks]
        assert len({*names}) == len(names)
        assert {need for check in checks for need in check.needs} <= {*names}
        pods = {each.name for each in test.endpoints()}
        assert {check.asker for check in checks} <= pods
    assert not [name for name in names if "node-b" in name]


# How it judges


def good(checks: Sequence[Check]) -> dict[str, Answer]:
    """What a cluster answers where all is well."""
    owners = {
        (each.network, address): each.name
        for each in plan().endpoints()
        for address in each.addresses
    }
    found = {}
    for check in checks:
        probe = check.probe
        network = check.asker.split("-")[2]
        owner = owners.get((network, probe.to), "")
        found[check.name] = {
            "ask": Answer(text=owner, number=1) if owner else Answer(error="no answer"),
            "transfer": Answer(text=owner, number=1),
            "largest": Answer(text="1460", number=1460),
            "defaults": Answer(text="4:eth0"),
            "resolve": Answer(text="198.19.0.1"),
            "connect": Answer(text="connected"),
            "forge": Answer(number=1),
            "trespass": Answer(),
            "intrude": Answer(number=1),
            "strays": Answer(),
        }[probe.kind]
    return found


def judged(**answers: Answer) -> dict[str, Result]:
    """All results; `answers` replace good ones by the check's name."""
    return judged_in(AROUND, answers)


def judged_in(
    around: Surroundings, answers: dict[str, Answer], sent: Answer | None = None
) -> dict[str, Result]:
    """All results; `sent` is what everything that intrudes answers, where it is not well."""
    test = plan()
    results: list[Result] = []
    intruding = test.intruding(around)
    answered = {check.name: sent for check in intruding} if sent else good(intruding)
    for checks in (test.reaching(around), test.silent(around), test.strays(around, answered)):
        results += judge(checks, good(checks) | answers, results)
    return {result.name: result for result in results}


def test_a_cluster_in_which_all_is_well_passes() -> None:
    found = judged()
    assert {result.outcome for result in found.values()} == {Outcome.PASSED}
    assert len(found) == 30


@pytest.mark.parametrize(
    ("name", "answer", "reason"),
    [
        ("node-a to node-b, IPv6", Answer(error="no answer"), "no answer"),
        (
            "same addresses in two networks, IPv4",
            Answer(text="connectivity-a1-one-b1"),
            "connectivity-a1-one-b1 answers, not connectivity-a1-two-b1",
        ),
        (
            "isolation of another network's address, IPv4",
            Answer(text="connectivity-a1-two-b1"),
            "connectivity-a1-two-b1 of the other network answers",
        ),
        (
            "spoofed source address, IPv6",
            Answer(text="from 2001:db8::b"),
            "frames from 2001:db8::b arrive",
        ),
        ("spoofed source MAC address, IPv4", Answer(error="not even"), "not even"),
        (
            "isolation of an underlay address, IPv4 in IPv6",
            Answer(text="2001:db8::c"),
            "packets to an underlay address arrive at 2001:db8::c",
        ),
        (
            "isolation of an underlay address, plain IPv6",
            Answer(error="no answer"),
            "no answer",
        ),
        (
            "no way from headrace0 to the node, IPv4",
            Answer(text="it accepts connections"),
            "198.18.0.1 port 10250: it accepts connections",
        ),
        (
            "cluster network: default route",
            Answer(text="4:eth0 4:headrace0"),
            "the pod's default route of IPv4 leads to headrace0",
        ),
        (
            "cluster network: default route",
            Answer(text="6:eth0"),
            "the pod has no default route of IPv4",
        ),
        ("cluster network: DNS", Answer(error="not known"), "not known"),
        ("1 MiB by TCP, node-a to node-b, IPv4", Answer(error="other bytes"), "other bytes"),
    ],
)
def test_what_is_wrong_fails_and_says_why(name: str, answer: Answer, reason: str) -> None:
    result = judged(**{name: answer})[name]
    assert (result.outcome, result.reason) == (Outcome.FAILED, reason)


def test_an_mtu_that_does_not_fit_is_told_in_bytes() -> None:
    name = "MTU, node-a to node-b, IPv4"
    found = judged(**{name: Answer(text="1460", number=1360)})
    assert found[name].reason.startswith(
        "packets of up to 1360 bytes arrive, of 1361 to 1460 (the pod's MTU) none does: the "
    )
    assert "spec.uplinks[].mtu" in found[name].reason
    tcp = found["1 MiB by TCP, node-a to node-b, IPv4"]
    assert (tcp.outcome, tcp.reason) == (Outcome.SKIPPED, f"because of {name!r}")
    nothing = judged(**{name: Answer(text="1460", number=0)})
    assert nothing[name].reason == ("a packet of 1460 bytes does not arrive, nor does one of 1280")


def test_silence_proves_nothing_where_nothing_arrives() -> None:
    found = judged(**{"node-a to node-b, IPv4": Answer(error="no answer")})
    silent = [
        *("isolation of another network's address, IPv4", "spoofed source address, IPv4"),
        *("spoofed source MAC address, IPv4", "no way from headrace0 to the node, IPv4"),
    ]
    assert {found[name].outcome for name in silent} == {Outcome.SKIPPED}
    assert {found[name].reason for name in silent} == {"because of 'node-a to node-b, IPv4'"}
    assert found["spoofed source address, IPv6"].outcome is Outcome.PASSED
    only = "an address of one network alone, IPv6"
    lost = judged(**{only: Answer(error="no answer")})
    assert lost["isolation of another network's address, IPv6"].reason == f"because of {only!r}"


def test_what_cannot_be_tried_is_skipped() -> None:
    why = "this pod may not send raw frames"
    found = judged(**{"spoofed source address, IPv4": Answer(skipped=why)})
    result = found["spoofed source address, IPv4"]
    assert (result.outcome, result.reason) == (Outcome.SKIPPED, why)
    checks = plan().reaching(replace(AROUND, nameless="no DNS here"))
    results = judge(checks, good([check for check in checks if not check.skip]))
    (dns,) = (result for result in results if result.name == "cluster network: DNS")
    assert (dns.outcome, dns.reason) == (Outcome.SKIPPED, "no DNS here")


def test_what_could_not_be_sent_is_not_called_isolated() -> None:
    names = [f"isolation of an underlay address, {how}" for how in WRAPPED]
    for found, outcome, reason in (
        (judged_in(AROUND, {}, Answer(error="not even honest")), Outcome.FAILED, "not even honest"),
        (judged_in(AROUND, {}, Answer(skipped="no NET_RAW")), Outcome.SKIPPED, "no NET_RAW"),
        (
            judged_in(replace(AROUND, underlay={}, hidden="no right"), {}),
            Outcome.SKIPPED,
            "no right",
        ),
    ):
        assert {(found[name].outcome, found[name].reason) for name in names} == {(outcome, reason)}


@pytest.mark.parametrize("other", ["node-b", ""])
def test_packets_go_to_underlay_addresses_of_the_other_network(other: str) -> None:
    """From three sources each: of the pod, of another's Interface, of the node with that VNI."""
    test = plan(other)
    far = "connectivity-a1-two-b1" if other else "connectivity-a1-two-a2"
    hosts = {UNDERLAY["connectivity-a1-two-a1"]: 10, UNDERLAY[far]: 99}
    for how, sending, looking in zip(
        WRAPPED, test.intruding(AROUND), test.strays(AROUND, {}), strict=True
    ):
        packets = [IPv6(bytes.fromhex(packet)) for packet in sending.probe.packets]
        sources = {"2001:db8::a", UNDERLAY["connectivity-a1-two-a1"], "fd00:1:0:1:0:200:0:1"}
        assert {(p.src, p.dst) for p in packets} == {(s, to) for s in sources for to in hosts}
        (word,) = looking.probe.words
        for packet in packets:
            host = hosts[packet.dst]
            inner = packet if how == "plain IPv6" else packet.payload
            if how == "IPv4 in IPv6":
                assert (inner.src, inner.dst) == ("192.0.2.10", f"192.0.2.{host}")
            elif how == "IPv6 in IPv6":
                assert (inner.src, inner.dst) == ("2001:db8::a", f"2001:db8::{host:x}")
            assert is_intact(inner)
            assert bytes(inner["UDP"].payload) == f"stray {word} ".encode()
        assert (sending.asker, looking.asker) == (
            "connectivity-a1-one-a1",
            "connectivity-a1-two-a1",
        )
    assert len({check.probe.words for check in test.strays(AROUND, {})}) == len(WRAPPED)


# What it tries to have taken


def mistakes(*devices: Device) -> list[Mistake]:
    return plan().mistakes(devices)


def seen(*conditions: tuple[str, str, str], generation: int = 1) -> Seen:
    found = [
        {
            "type": kind,
            "status": status,
            "reason": reason,
            "message": "m",
            "observedGeneration": 1,
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }
        for kind, status, reason in conditions
    ]
    metadata = {"name": "x", "generation": generation}
    return Seen.model_validate(
        {"kind": "Interface", "metadata": metadata, "status": {"conditions": found}}
    )


def test_mistakes_are_valid_objects() -> None:
    route, pods, nodes = mistakes()
    network = VirtualNetwork.model_validate(route.item)
    ((hop,),) = (each.next_hops or () for each in network.spec.routes)
    assert hop.endpoint_ref
    devices = []
    for each in (pods, nodes):
        attachment = Interface.model_validate(each.item).spec.attachment
        assert attachment.af_packet
        devices.append(attachment.af_packet.device_name)
    test = plan()
    interface = test.interface(test.endpoint("two", "a1"))
    assert devices == [pod_device(f"default/{interface}"), "eth0"]
    assert len({each.key for each in (route, pods, nodes)}) == 3


def test_the_nodes_device_is_left_alone_where_it_might_be_given() -> None:
    *_, pods, nodes = mistakes()
    assert not unmet(nodes, [Result(pods.name, Outcome.PASSED)])
    for outcome in (Outcome.FAILED, Outcome.SKIPPED):
        assert unmet(nodes, [Result(pods.name, outcome)]) == f"because of {pods.name!r}"
    device = Device(name="d", type=AttachmentType.AF_PACKET, device_names=("eth0",))
    *_, pods, nodes = mistakes(device)
    why = unmet(nodes, [Result(pods.name, Outcome.PASSED)])
    assert why == "Pipeline router lets namespace default have it"


def test_only_the_right_refusal_passes() -> None:
    mistake = mistakes()[1]
    right = ("Accepted", "False", "DeviceNotAllowed")
    assert mistake.problem(seen(right), []) == ""
    assert mistake.problem(seen(), []) is None
    assert mistake.problem(seen(right, generation=2), []) is None
    assert mistake.problem(seen(("Accepted", "Unknown", "Pending")), []) is None
    taken = mistake.problem(seen(("Accepted", "True", "Accepted")), [])
    assert taken == "it is taken: Accepted=True"
    other = mistake.problem(seen(("Accepted", "False", "Other")), [])
    assert other == "refused with reason Other, not DeviceNotAllowed: m"
    namespace, name = mistake.key
    for half in ("spec", "status"):
        config: Any = {
            "metadata": {"name": "router.node-a"},
            half: {"interfaces": [{"namespace": namespace, "name": name}]},
        }
        leaked = mistake.problem(seen(right), [config])
        assert leaked == f"it is refused, yet in {half} of DataplaneConfig router.node-a"
        config[half]["interfaces"][0]["name"] = "another"
        assert mistake.problem(seen(right), [config]) == ""


METRICS = """\
# TYPE headrace_interface_receive_packets_total counter
headrace_interface_receive_packets_total{interface="a/x"} 7.0
headrace_interface_receive_packets_total{interface="a/y"} 2.0
# TYPE headrace_interface_transmit_packets_total counter
headrace_interface_transmit_packets_total{interface="a/x"} 7.0
# TYPE headrace_interface_dropped_packets_total counter
headrace_interface_dropped_packets_total{interface="a/x",reason="source"} 3.0
headrace_interface_dropped_packets_total{interface="a/z",reason="source"} 5.0
# TYPE headrace_uplink_dropped_packets_total counter
headrace_uplink_dropped_packets_total{uplink="u",reason="mtu"} 1.0
"""


def test_metrics_are_held_against_what_was_sent() -> None:
    metrics = Metrics(METRICS)
    assert metrics.uncounted({"a/x": 7}) == []
    assert metrics.uncounted({"a/y": 3}) == [
        f'headrace_interface_{direction}_packets_total{{interface="a/y"}} is {value} '
        "after 3 packets with an answer"
        for direction, value in (("receive", 2), ("transmit", 0))
    ]
    assert metrics.drops(["a/x"]) == {"source": 3, "mtu": 1}


RESULTS = [
    Result("a", Outcome.PASSED),
    Result("b", Outcome.FAILED, "1 < 2 & so on"),
    Result("c", Outcome.SKIPPED, "no"),
]


def reported(output: str) -> Report:
    report = Report(output)
    report.add(RESULTS)
    report.end()
    return report


def test_reports(capsys: pytest.CaptureFixture[str]) -> None:
    assert reported("table").failed
    assert capsys.readouterr().out.splitlines() == [
        "ok      a",
        "FAILED  b: 1 < 2 & so on",
        "skipped c: no",
        "",
        "1 passed, 1 failed, 1 skipped",
    ]
    reported("json")
    assert json.loads(capsys.readouterr().out)[1] == {
        "name": "b",
        "outcome": "failed",
        "reason": "1 < 2 & so on",
    }
    reported("junit")
    suite = ElementTree.fromstring(capsys.readouterr().out)  # noqa: S314 - our own
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("3", "1", "1")
    failure = suite.find("testcase/failure")
    assert failure is not None
    assert failure.get("message") == "1 < 2 & so on"


# What it sends


@pytest.mark.parametrize("addresses", [("192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8::2")])
@pytest.mark.parametrize("payload", [b"", b"odd", b"headrace"])
def test_frames_are_what_scapy_takes_them_for(addresses: tuple[str, str], payload: bytes) -> None:
    raw = udp("02:00:00:00:00:07", *addresses, 9, payload)
    frame = Ether(raw)
    assert (frame.src, frame.dst) == ("02:00:00:00:00:07", GATEWAY_MAC)
    assert (frame.payload.src, frame.payload.dst) == addresses
    assert is_intact(frame.payload)
    assert bytes(frame["UDP"].payload) == payload
    assert source_of(raw) == addresses[0]
    syn = Ether(tcp_syn("02:00:00:00:00:07", *addresses, 443))
    assert (syn["TCP"].dport, str(syn["TCP"].flags)) == (443, "S")
    assert is_intact(syn.payload)


def test_pods_need_the_standard_library_alone() -> None:
    """Python starts in every pod of the test, where the processor may be busy."""
    code = "import headrace_connectivity.pod.probe, sys; print(*sys.modules)"
    words = subprocess.check_output([sys.executable, "-S", "-c", code], env=_path(), text=True)
    assert not {"pydantic", "aiohttp", "headrace_api", "headrace_dataplane"} & {*words.split()}


def test_dataplane_pods_need_nothing_but_python() -> None:
    """What is asked there goes with the question."""
    probes = [{"kind": "service"}, {"kind": "fetch", "to": "127.0.0.1", "port": 9}]
    words = ["-I", "-S", "-c", inspect.getsource(anywhere), json.dumps(probes)]
    environment = {"KUBERNETES_SERVICE_HOST": "198.19.0.1", "KUBERNETES_SERVICE_PORT": "443"}
    said = subprocess.check_output([sys.executable, *words], env=environment, text=True)
    found = [Answer(**answer) for answer in json.loads(said)]
    assert found == [Answer(text="198.19.0.1", number=443), Answer(error="Connection refused")]


def _path() -> dict[str, str]:
    return {"PYTHONPATH": str(Path(endpoint_module.__file__).parents[2])}


# Endpoints and probes, in two pods joined by a cable


@dataclass(frozen=True)
class Pods:
    """Two network namespaces: a asks, b answers."""

    a: str
    b: str

    def probe(self, *probes: Mapping[str, object]) -> list[Answer]:
        words = ["ip", "netns", "exec", self.a, sys.executable, "-m"]
        words += ["headrace_connectivity.pod.probe", json.dumps(probes)]
        done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=SECONDS)
        return [Answer(**answer) for answer in json.loads(done.stdout)]


def ip(*words: str) -> None:
    subprocess.run(["ip", *" ".join(words).split()], check=True)


@contextmanager
def answering(namespace: str, name: str, *addresses: str) -> Iterator[None]:
    words = [sys.executable, "-m", "headrace_connectivity.pod.endpoint", name, *addresses]
    process = subprocess.Popen(["ip", "netns", "exec", namespace, *words])
    try:
        yield
    finally:
        process.terminate()
        assert process.wait(SECONDS) == 0


@pytest.fixture(scope="module")
def pods() -> Iterator[Pods]:
    """The far end has the gateway's MAC address, so that frames for the gateway reach it."""
    run = uuid.uuid4().hex[:6]
    found = Pods(f"hr-{run}-a", f"hr-{run}-b")
    made = []
    try:
        for namespace in (found.a, found.b):
            ip("netns add", namespace)
            made.append(namespace)
            ip("-n", namespace, "link set lo up")
        peer = f"peer name headrace0 mtu 1460 netns {found.b}"
        ip(f"-n {found.a} link add headrace0 mtu 1460 type veth {peer}")
        ip(f"-n {found.b} link set headrace0 address {GATEWAY_MAC}")
        for namespace, host in ((found.a, 10), (found.b, 12)):
            ip(f"-n {namespace} link set headrace0 up")
            ip(f"-n {namespace} address add 192.0.2.{host}/24 dev headrace0")
            ip(f"-n {namespace} address add 2001:db8::{host:x}/64 dev headrace0 nodad")
        ip(f"-n {found.b} address add 192.0.2.99/24 dev headrace0")
        with answering(found.b, "b1", "192.0.2.12", "2001:db8::c", "192.0.2.99"):
            (up,) = found.probe({"kind": "ask", "to": "192.0.2.12", "seconds": SECONDS})
            assert up.text == "b1"
            yield found
    finally:
        for namespace in made:
            ip("netns delete", namespace)


OWN = {"192.0.2.12": "192.0.2.10", "2001:db8::c": "2001:db8::a"}
both = pytest.mark.parametrize("to", OWN)


@pytest.mark.root
@pytest.mark.parametrize("to", [*OWN, "192.0.2.99"])
def test_endpoints_say_their_name(pods: Pods, to: str) -> None:
    assert pods.probe({"kind": "ask", "to": to}) == [Answer(text="b1", number=1)]


@pytest.mark.root
def test_nobody_answers_for_an_address_that_is_not_there(pods: Pods) -> None:
    nobody, elsewhere = pods.probe(
        {"kind": "ask", "to": "192.0.2.77", "seconds": 1},
        {"kind": "connect", "to": "192.0.2.12", "port": 9, "seconds": 1},
    )
    assert not nobody.text
    assert nobody.error
    assert elsewhere.error == "Connection refused"


@pytest.mark.root
@both
def test_a_mebibyte_arrives_as_it_was_sent(pods: Pods, to: str) -> None:
    answers = pods.probe({"kind": "transfer", "to": to, "size": 1 << 20})
    assert answers == [Answer(text="b1", number=1)]


@pytest.mark.root
@both
def test_the_largest_packet_is_found(pods: Pods, to: str) -> None:
    assert pods.probe({"kind": "largest", "to": to}) == [Answer(text="1460", number=1460)]
    # The way back alone, which the asking side does not see.
    ip(f"-n {pods.b} link set headrace0 mtu 1400")
    try:
        (answer,) = pods.probe({"kind": "largest", "to": to, "seconds": 2})
        assert answer == Answer(text="1460", number=1400)
    finally:
        ip(f"-n {pods.b} link set headrace0 mtu 1460")


@pytest.mark.root
@both
def test_forged_frames_that_arrive_are_seen(pods: Pods, to: str) -> None:
    """Nobody checks here: the kernel takes what comes."""
    claim = "192.0.2.11" if "." in to else "2001:db8::b"
    address, mac = pods.probe(
        {"kind": "forge", "to": to, "own": OWN[to], "claim": claim},
        {"kind": "forge", "to": to, "own": OWN[to]},
    )
    assert address == Answer(text=f"from {claim}", number=1)
    assert mac.text.startswith("from ")
    assert mac.error == ""


@pytest.mark.root
@both
def test_forged_frames_that_are_dropped_are_not(pods: Pods, to: str) -> None:
    """With a filter where the engine would be."""
    claim = "192.0.2.11" if "." in to else "2001:db8::b"
    link = json.loads(
        subprocess.check_output(["ip", "-n", pods.a, "-j", "link", "show", "headrace0"], text=True)
    )
    family = "ip" if "." in to else "ip6"
    rules = f"""
    table netdev guard {{
        chain in {{
            type filter hook ingress device headrace0 priority 0;
            ether saddr != {link[0]["address"]} drop
            {family} saddr {claim} drop
        }}
    }}"""
    nft = ["ip", "netns", "exec", pods.b, "nft"]
    subprocess.run([*nft, "-f", "-"], input=rules, text=True, check=True)
    try:
        answers = pods.probe(
            {"kind": "forge", "to": to, "own": OWN[to], "claim": claim},
            {"kind": "forge", "to": to, "own": OWN[to]},
        )
    finally:
        subprocess.run([*nft, "delete", "table", "netdev", "guard"], check=True)
    assert answers == [Answer(number=1)] * 2


@pytest.mark.root
def test_strays_are_seen_whatever_they_are_in(pods: Pods) -> None:
    """Also those that the kernel would not take: it has none of the outer addresses."""
    outer, to = ("fd00:1:0:1:0:200:0:1", "fd00:1:0:2:0:200:0:e"), "2001:db8::c"
    words = [f"{number:016x}" for number in range(4)]
    udps = [
        udp_packet(*ends, endpoint_module.PORT, f"stray {word} ".encode())
        for ends, word in zip(
            (outer, ("192.0.2.10", "192.0.2.99"), (OWN[to], to)), words, strict=False
        )
    ]
    packets = [udps[0], *(in_ipv6(*outer, inner) for inner in udps[1:])]
    asked = {"to": to, "own": "192.0.2.99"}
    sent, *found = (
        pods.probe(probe)[0]
        for probe in (
            {
                "kind": "intrude",
                "to": to,
                "own": OWN[to],
                "packets": [packet.hex() for packet in packets],
            },
            *({"kind": "strays", **asked, "words": [word]} for word in words),
        )
    )
    assert sent == Answer(number=1)
    assert [answer.text for answer in found] == [*["2001:db8::c and 192.0.2.99"] * 3, ""]


@pytest.mark.root
def test_whoever_answers_at_the_device_is_noticed(pods: Pods) -> None:
    """Accepting, refusing, silent; and by the gateway, where the pod has no route."""
    ip(f"-n {pods.b} address add 203.0.113.5/32 dev lo")
    port = endpoint_module.PORT
    found = pods.probe(
        {"kind": "trespass", "to": "192.0.2.12", "port": port, "own": "192.0.2.10"},
        {"kind": "trespass", "to": "192.0.2.12", "port": 9, "own": "192.0.2.10"},
        {"kind": "trespass", "to": "192.0.2.77", "port": 9, "own": "192.0.2.10", "seconds": 1},
    )
    assert [answer.text for answer in found] == [
        "it accepts connections",
        "it refuses connections",
        "",
    ]
    subprocess.run(
        [*f"ip netns exec {pods.b} sysctl -qw net/ipv4/conf/headrace0/arp_ignore=8".split()],
        check=True,
    )
    (answer,) = pods.probe(
        {"kind": "trespass", "to": "203.0.113.5", "port": port, "own": "192.0.2.10"}
    )
    assert answer.text == "it answers by the gateway"


@pytest.mark.root
def test_default_routes_are_found(pods: Pods) -> None:
    assert pods.probe({"kind": "defaults"}) == [Answer(text="")]
    ip(f"-n {pods.a} route add default via 192.0.2.12")
    ip(f"-n {pods.a} -6 route add default via 2001:db8::c")
    try:
        assert pods.probe({"kind": "defaults"}) == [Answer(text="4:headrace0 6:headrace0")]
    finally:
        ip(f"-n {pods.a} route delete default")
        ip(f"-n {pods.a} -6 route delete default")


@pytest.mark.root
def test_an_endpoint_without_its_device_says_so(pods: Pods) -> None:
    words = [sys.executable, "-m", "headrace_connectivity.pod.endpoint", "x", "192.0.2.50"]
    done = subprocess.run(
        ["ip", "netns", "exec", pods.a, *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "cannot listen on 192.0.2.50: Cannot assign requested address" in done.stderr
