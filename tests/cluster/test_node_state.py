# SPDX-License-Identifier: Apache-2.0
"""headrace-node on this very machine, a real API server, and the NodeState between them."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace_api import NodeState
from headrace_api.node_state import Subject
from tests.cluster.cluster import Cluster
from tests.cluster.conftest import install_crds
from tests.cluster.sandbox import until

SECONDS = 60.0
POLICY = {
    "name": "none",
    "generation": 7,
    "nicSelector": {"names": ["hrnone0"]},
    "vfs": 2,
    "resourceName": "headrace.dev/none",
}
DATAPLANE = {
    "pipeline": "router",
    "workers": 1,
    "mtu": 1500,
    "resourceNames": ["headrace.dev/none"],
}


class Agent:
    """The node agent's process, with nothing of the host's in its way."""

    def __init__(self, server: Cluster, folder: Path) -> None:
        self._server = server
        self._folder = folder
        self.ready = folder / "ready"
        self.log = folder / "log"
        kubeconfig = server.kubectl("config", "view", "--raw", "--flatten", "-o=json")
        (folder / "kubeconfig").write_text(kubeconfig)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        words = (
            *(sys.executable, "-m", "headrace_dataplane.node.main", "--node=node-a"),
            *(f"--kubeconfig={self._folder}/kubeconfig", f"--socket={self._folder}/cni.sock"),
            *(f"--state-dir={self._folder}/state", f"--ready-file={self.ready}"),
            *("--namespace=default", "--log-format=text"),
        )
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(words, stdout=log, stderr=log)

    def stop(self, number: int = signal.SIGTERM) -> None:
        assert self.process is not None
        self.process.send_signal(number)
        self.process.wait(SECONDS)

    def put(self, **spec: Any) -> None:
        item = {
            "apiVersion": NodeState.version(),
            "kind": "NodeState",
            "metadata": {"name": "node-a"},
            "spec": {"nodeName": "node-a", **spec},
        }
        self._server.kubectl("apply", "-f", "-", stdin=json.dumps(item))

    def there(self) -> NodeState:
        text = self._server.kubectl("get", "nodestate", "node-a", "-o", "json")
        return NodeState.read(json.loads(text))

    def until_ready_is(self, status: str, reason: str) -> NodeState:
        """Wait until that is said of the newest generation."""

        def holds() -> bool:
            found = self.there()
            ready = self.conditions(found).get("Ready")
            return (
                found.status is not None
                and found.status.observed_generation == found.metadata.generation
                and ready == (status, reason)
            )

        until(holds, f"Ready is {status}, {reason}", SECONDS)
        return self.there()

    @staticmethod
    def conditions(state: NodeState) -> dict[str, tuple[str, str]]:
        conditions = state.status.conditions if state.status else ()
        return {each.type: (each.status, each.reason) for each in conditions}


@pytest.fixture
def agent(control_plane: Cluster, tmp_path: Path) -> Iterator[Agent]:
    install_crds(control_plane)
    agent = Agent(control_plane, tmp_path)
    agent.start()
    try:
        yield agent
    finally:
        if agent.process is not None and agent.process.poll() is None:
            agent.stop()
        control_plane.kubectl("delete", "nodestate", "--all")


@pytest.mark.cluster
def test_the_status_says_what_the_node_is_like(agent: Agent, control_plane: Cluster) -> None:
    # It may be there before the operator is.
    assert not agent.ready.exists()
    agent.put(policies=[POLICY], dataplanes=[DATAPLANE])
    found = agent.until_ready_is("False", "NoDevice")
    status = found.status
    assert status is not None
    (policy,) = status.policies
    assert (policy.name, policy.observed_generation, policy.ready) == ("none", 7, False)
    assert "nicSelector" in policy.message
    assert status.kernel.release == os.uname().release
    assert status.cpus is not None
    assert len(status.cpus.cpus) == os.sysconf("SC_NPROCESSORS_ONLN")
    assert {check.subject for check in status.checks} == set(Subject)
    assert set(agent.conditions(found)) == {"Ready", *Subject}
    # Nobody asks for hugepages.
    assert agent.conditions(found)["HugepagesReady"][0] != "False"
    until(agent.ready.exists, "pods may start", SECONDS)

    agent.put()
    agent.until_ready_is("True", "NothingWanted")
    columns = control_plane.kubectl("get", "nds", "node-a").splitlines()
    assert "HUGEPAGES" in columns[0]
    assert "NothingWanted" in columns[1]


@pytest.mark.cluster
def test_whoever_comes_back_writes_nothing_that_is_there(agent: Agent) -> None:
    agent.put(policies=[POLICY])
    agent.until_ready_is("False", "NoDevice")
    until(agent.ready.exists, "pods may start", SECONDS)
    before = agent.there()
    agent.stop(signal.SIGKILL)
    agent.ready.unlink()
    agent.start()
    until(agent.ready.exists, "pods may start", SECONDS)
    after = agent.there()
    assert before.status is not None
    assert after.status is not None
    # What is free of the machine's memory may be another.
    assert after.status.conditions == before.status.conditions
    assert after.status.policies == before.status.policies
