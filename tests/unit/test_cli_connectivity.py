# SPDX-License-Identifier: Apache-2.0
"""The connectivity test without a cluster: its frames, its judgement, and real engines."""

import base64
import functools
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml
from scapy.layers.l2 import Ether

from headrace_api import Interface, VirtualNetwork
from headrace_cli.connectivity import report
from headrace_cli.connectivity.files import directory
from headrace_cli.connectivity.frames import GATEWAY_MAC, capture, captured, udp
from headrace_cli.connectivity.plan import NETWORKS, REPEAT, Endpoint, Outcome, Plan, Result
from headrace_cli.main import main
from headrace_dataplane.protocol import EngineClient, EngineError
from headrace_dataplane.protocol import Interface as Listed
from tests.engine.frames import is_intact

SECONDS = 60
ATTEMPTS = 8
ATTEMPT_SECONDS = 5
NODES = ("node-a", "node-b")


def plan(nodes: Sequence[str] = NODES, uplinks: bool = True, run: str = "a1") -> Plan:
    return Plan(run, "default", "router", tuple(nodes), uplinks)


@pytest.mark.parametrize("addresses", [("192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8::2")])
@pytest.mark.parametrize("payload", [b"", b"odd", b"headrace"])
def test_frames_are_what_scapy_takes_them_for(addresses: tuple[str, str], payload: bytes) -> None:
    frame = Ether(udp("02:00:00:00:00:07", *addresses, payload))
    assert (frame.src, frame.dst) == ("02:00:00:00:00:07", GATEWAY_MAC)
    assert (frame.payload.src, frame.payload.dst) == addresses
    assert is_intact(frame.payload)
    assert bytes(frame["UDP"].payload) == payload


def test_captures_are_read_as_far_as_they_are_whole() -> None:
    frames = [b"one", b"", b"three" * 100]
    data = capture(frames)
    assert captured(data) == frames
    assert captured(data[:-1]) == frames[:2]
    assert captured(b"") == []
    with pytest.raises(ValueError, match="capture file"):
        captured(b"x" * 24)


def test_everything_made_is_valid_and_nothing_is_made_twice() -> None:
    test = plan()
    networks = [VirtualNetwork.model_validate(item) for item in test.networks()]
    endpoints = [*test.receivers(), *test.senders(0), *test.senders(1), *test.senders(70)]
    interfaces = [Interface.model_validate(test.interface(endpoint)) for endpoint in endpoints]
    assert len({item.key for item in (*networks, *interfaces)}) == len(networks) + len(interfaces)
    taken = [(i.spec.network_ref.name, a) for i in interfaces for a in i.spec.addresses]
    assert len(set(taken)) == len(taken)


def every_packet(test: Plan) -> dict[str, list[bytes]]:
    received: dict[str, list[bytes]] = {endpoint.name: [] for endpoint in test.receivers()}
    for flow in test.flows(test.senders(2)):
        received[flow.receiver.name].append(b"headers" + test.payload(flow))
    return received


def test_all_packets_where_they_belong_pass() -> None:
    test = plan()
    results = test.checks(every_packet(test), {})
    assert [(result.name, result.outcome) for result in results] == [
        (name, Outcome.PASSED)
        for name in (
            "within node-a, IPv4",
            "within node-a, IPv6",
            "node-a to node-b, IPv4",
            "node-a to node-b, IPv6",
            "node-b to node-a, IPv4",
            "node-b to node-a, IPv6",
            "within node-b, IPv4",
            "within node-b, IPv6",
            "isolation of networks with the same addresses",
        )
    ]


def test_a_lost_packet_fails_its_check_and_leaves_isolation_open() -> None:
    test = plan()
    received = every_packet(test)
    flow = list(test.flows(test.senders(0)))[3]
    received[flow.receiver.name] = [
        frame for frame in received[flow.receiver.name] if test.payload(flow) not in frame
    ]
    failed = [result for result in test.checks(received, {}) if result.outcome is Outcome.FAILED]
    assert [(result.name, result.reason) for result in failed] == [
        ("node-a to node-b, IPv6", "the packet did not arrive"),
        (
            "isolation of networks with the same addresses",
            "not known, as not every packet arrived where it should",
        ),
    ]
    broken = {flow.receiver.role: "Interface a/b: gone (DeviceGone)"}
    assert test.checks(received, broken)[3].reason == "Interface a/b: gone (DeviceGone)"


def test_a_packet_in_the_other_network_is_no_isolation() -> None:
    test = plan()
    received = every_packet(test)
    first, second = test.receivers()[0], test.receivers()[2]
    assert (first.network, second.network) == ("one", "two")
    received[second.name] += received[first.name]
    *others, isolation = test.checks(received, {})
    assert {result.outcome for result in others} == {Outcome.PASSED}
    assert isolation.outcome is Outcome.FAILED
    assert isolation.reason == "4 packets into network two"


@pytest.mark.parametrize(
    ("test", "reason"),
    [
        (plan(uplinks=False), "Pipeline router has no uplink"),
        (plan(NODES[:1]), "node-a is the only node of Pipeline router that is tested"),
    ],
)
def test_nodes_that_cannot_meet_are_said_so(test: Plan, reason: str) -> None:
    results = test.checks(every_packet(test), {})
    assert [r.reason for r in results if r.outcome is Outcome.SKIPPED] == [reason]
    assert not [r for r in results if r.outcome is Outcome.FAILED]
    assert not [r for r in results if " to " in r.name]


RESULTS = [
    Result("a", Outcome.PASSED),
    Result("b", Outcome.FAILED, "1 < 2 & so on"),
    Result("c", Outcome.SKIPPED, "no"),
]


def test_reports(capsys: pytest.CaptureFixture[str]) -> None:
    report.show(RESULTS, "table")
    assert capsys.readouterr().out.splitlines() == [
        "ok      a",
        "FAILED  b: 1 < 2 & so on",
        "skipped c: no",
        "",
        "1 passed, 1 failed, 1 skipped",
    ]
    report.show(RESULTS, "json")
    assert json.loads(capsys.readouterr().out)[1] == {
        "name": "b",
        "outcome": "failed",
        "reason": "1 < 2 & so on",
    }
    report.show(RESULTS, "junit")
    suite = ElementTree.fromstring(capsys.readouterr().out)  # noqa: S314 - our own
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("3", "1", "1")
    failure = suite.find("testcase/failure")
    assert failure is not None
    assert failure.get("message") == "1 < 2 & so on"


@pytest.fixture
def files() -> Iterator[str]:
    """A run whose directory is removed."""
    run = "fe" + format(time.time_ns() & 0xFFFFFFFF, "x")
    yield run
    shutil.rmtree(directory(run), ignore_errors=True)


def put(run: str, *files: str, repeat: int = 1) -> None:
    assert main(["connectivity", "files", "put", run, *files, f"--repeat={repeat}"]) == 0


def test_files_of_a_pod(files: str, capsys: pytest.CaptureFixture[str]) -> None:
    content = base64.b64encode(capture([b"one", b"two"])).decode()
    put(files, f"a.pcap={content}", f"../b.pcap={base64.b64encode(capture([])).decode()}", repeat=3)
    assert captured((directory(files) / "a.pcap").read_bytes()) == [b"one", b"two"] * 3
    assert main(["connectivity", "files", "get", files]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found.keys() == {"a.pcap", "b.pcap"}
    assert found["a.pcap"] == content
    assert main(["connectivity", "files", "remove", files]) == 0
    assert not directory(files).exists()
    with pytest.raises(SystemExit):
        main(["connectivity", "files", "remove", "../etc"])


PIPELINE = """\
apiVersion: headrace.dev/v1alpha1
kind: Pipeline
metadata: {{name: router}}
spec:
  attachmentTypes: [Pcap]
  workers: {{count: 1, shareControlCore: true}}
  underlayPrefix: fd00:1::/48
  uplinks:
    - name: uplink0
      attachment: {{type: Memif, memif: {{socketPath: {socket}, role: Server}}}}
      nodeOverrides:
        - nodeName: node-b
          attachment: {{type: Memif, memif: {{socketPath: {socket}, role: Client}}}}
"""


@pytest.mark.engine
def test_engines_deliver_what_the_test_sends(tmp_path: Path, files: str) -> None:
    """Two nodes in local mode, joined by shared memory: every check passes."""
    test = plan(run=files)
    receivers = test.receivers()
    manifests = tmp_path / "m"
    manifests.mkdir()
    put(files)

    def write(name: str, items: Sequence[object]) -> None:
        new = manifests / f"{name}.new"
        new.write_text(yaml.safe_dump_all(items))
        new.replace(manifests / f"{name}.yaml")

    def up(endpoints: Sequence[Endpoint]) -> bool:
        states: dict[str, str] = {}
        for node in NODES:
            try:
                with EngineClient(tmp_path / node / "engine.sock") as client:
                    states |= {i.name: i.state for i in client.items(Listed)}
            except EngineError:
                return False
        return all(states.get(f"default/{endpoint.name}") == "up" for endpoint in endpoints)

    def received() -> dict[str, list[bytes]]:
        return {
            endpoint.name: captured((directory(files) / endpoint.file).read_bytes())
            for endpoint in receivers
        }

    (manifests / "pipeline.yaml").write_text(PIPELINE.format(socket=tmp_path / "memif"))
    write("networks", test.networks())
    write("receivers", [test.interface(endpoint) for endpoint in receivers])
    with ExitStack() as stack:
        for node in NODES:
            stack.enter_context(running(node, manifests, tmp_path))
        until(lambda: up(receivers), "every receiver is up", tmp_path)
        for attempt in range(ATTEMPTS):
            senders = test.senders(attempt)
            contents = {s.file: base64.b64encode(test.capture(s)).decode() for s in senders}
            put(files, *(f"{name}={text}" for name, text in contents.items()), repeat=REPEAT)
            for network in NETWORKS:
                members = [sender for sender in senders if sender.network == network]
                write(f"senders-{network}", [test.interface(sender) for sender in members])
                until(functools.partial(up, members), "every sender is up", tmp_path)
            try:
                until(
                    lambda: all(test.arrived(f, received()) for f in test.flows(test.senders(0))),
                    "all has arrived",
                    tmp_path,
                    ATTEMPT_SECONDS,
                )
            except AssertionError:
                if attempt == ATTEMPTS - 1:
                    raise
            else:
                break
        results = test.checks(received(), {})
    assert {result.outcome for result in results} == {Outcome.PASSED}, results


@contextmanager
def running(node: str, manifests: Path, directory: Path) -> Iterator[None]:
    """Keep `headrace run` of a node running."""
    words = ["run", "-f", str(manifests), "--node", node, "--metrics-address", ""]
    words += ["--runtime-dir", str(directory / node), "--state", str(directory / "state.json")]
    with (directory / f"{node}.log").open("w") as log:
        run = subprocess.Popen(
            [sys.executable, "-m", "headrace_cli.main", *words], stdout=log, stderr=log
        )
        try:
            yield
        finally:
            run.terminate()
            run.wait(SECONDS)


def until(condition: Callable[[], bool], what: str, logs: Path, seconds: float = SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        text = "".join(path.read_text() for path in logs.glob("*.log"))
        assert time.monotonic() < deadline, f"not so: {what}\n{text}"
        time.sleep(0.05)
