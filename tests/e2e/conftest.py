# SPDX-License-Identifier: Apache-2.0
"""The whole of Headrace on this machine: `headrace run`, its engine, and machines that talk."""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace_dataplane.engine import find_engine
from headrace_demo.lab import HEADRACE, Lab, Namespace, Node, until

EXAMPLE = Path(__file__).parents[2] / "deploy/examples/two-nodes"
VM1, VM2, VM3 = ("10.0.0.2", "fd00:10::2"), ("10.0.0.3", "fd00:10::3"), ("10.0.0.4", "fd00:10::4")
MANY_SECONDS = 90.0
"""For what takes seconds, on a busy machine."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    folder = Path(__file__).parent
    for item in items:
        if folder in item.path.parents:
            item.add_marker(pytest.mark.engine)
            item.add_marker(pytest.mark.root)


@pytest.fixture(scope="session", autouse=True)
def able() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root: makes network namespaces")
    find_engine()


def headrace(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*HEADRACE, *words], capture_output=True, text=True, timeout=MANY_SECONDS, check=False
    )


class Site:
    """Two nodes that `headrace run` serves, and blue's machines: vm1 on node-a, vm2 on node-b."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.node_a, self.node_b = lab.node("node-a"), lab.node("node-b")
        self.nodes = (self.node_a, self.node_b)
        lab.join(*self.nodes)
        self.vm1 = lab.endpoint("blue/vm1", VM1, self.node_a)
        self.vm2 = lab.endpoint("blue/vm2", VM2, self.node_b)
        for name in ("pipeline.yaml", "blue.yaml"):
            shutil.copy(EXAMPLE / name, lab.manifests)

    def start(self) -> None:
        cpus = sorted(os.sched_getaffinity(0))
        self.node_a.start({cpus[0]})
        self.node_b.start({cpus[-1]})

    def wait(self) -> None:
        until(lambda: self.node_a.up("blue/vm1"), "vm1 is up on node-a", MANY_SECONDS)
        until(lambda: self.node_b.up("blue/vm2"), "vm2 is up on node-b", MANY_SECONDS)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End `headrace run` on both nodes."""
        for node in self.nodes:
            assert node.agent is not None
            node.agent.send_signal(number)
        for node in self.nodes:
            assert node.agent is not None
            status = node.agent.wait(MANY_SECONDS)
            assert status == (0 if number == signal.SIGTERM else -number), node.log.read_text()

    def report(self) -> str:
        """Where packets were lost, for the message of a test that fails."""
        lines = [f"vm1 {echoes(self.vm1)}", f"vm2 {echoes(self.vm2)}"]
        for node in self.nodes:
            lines += node.log.read_text().splitlines()
            lines += (
                f"{node.name} {line}"
                for line in node.get("/metrics")[1].splitlines()
                if re.match(r"headrace_(port|uplink|interface|worker_dropped)\w*_total", line)
                and not line.endswith(" 0.0")
            )
        return "\n".join(lines)

    def write(self, name: str, text: str) -> None:
        """Write a manifest in one step, as an editor does."""
        new = self.lab.manifests / f"{name}.new"
        new.write_text(text)
        new.rename(self.lab.manifests / name)


@pytest.fixture
def site() -> Iterator[Site]:
    lab = Lab(f"hr-test-{os.getpid()}")
    try:
        site = Site(lab)
        site.start()
        site.wait()
        yield site
    finally:
        lab.close()


def echoes(machine: Namespace) -> dict[str, int]:
    """The kernel's ICMP counters of a machine, such as OutEchos, InEchos, InEchoReps."""
    names, values = (
        line.split()[1:]
        for line in machine.command("cat", "/proc/net/snmp").splitlines()
        if line.startswith("Icmp:")
    )
    return {name: int(value) for name, value in zip(names, values, strict=True)}


def count(node: Node, text: str) -> int:
    """How often `headrace run` of a node has said something."""
    return node.log.read_text().count(text)
