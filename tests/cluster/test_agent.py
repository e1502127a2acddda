# SPDX-License-Identifier: Apache-2.0
"""headrace-agent as process 1, a real API server, the real engine, devices that lead nowhere."""

import base64
import http.client
import itertools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from headrace_api import CONFIG_LABEL, LEASE_SECONDS_VARIABLE, assembled, slices_named
from headrace_dataplane.engine import find_engine
from headrace_dataplane.protocol import EngineClient, EngineError, Hello, Interface, Network, Route
from headrace_dataplane.runtime import RuntimeDirectory
from headrace_dataplane.status_writer import REPORT_SECONDS
from headrace_kube import DATAPLANE_CONFIGS, SLICES
from headrace_operator.sharding import Sharding
from tests.cluster.chart import REPOSITORY, VALUES, only, render
from tests.cluster.cluster import Cluster
from tests.cluster.conftest import install_crds
from tests.cluster.sandbox import until
from tests.cluster.telemetry import monitored_job, scraping

NAMESPACE = "agent-test"
CONFIG = "router.node-a"
SECONDS = 60.0
"""For what takes seconds, on a busy machine."""

# What the chart gives to the dataplane.
RBAC = """
apiVersion: v1
kind: Namespace
metadata: {name: agent-test}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: headrace-dataplane, namespace: agent-test}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: headrace-dataplane, namespace: agent-test}
rules:
- apiGroups: [dataplane.headrace.dev]
  resources: [dataplaneconfigs, slices]
  verbs: [get, list, watch]
- apiGroups: [dataplane.headrace.dev]
  resources: [dataplaneconfigs/status, slices/status]
  verbs: [patch]
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [create, patch]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: headrace-dataplane, namespace: agent-test}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: headrace-dataplane}
subjects: [{kind: ServiceAccount, name: headrace-dataplane, namespace: agent-test}]
"""


@pytest.fixture(scope="module")
def server(control_plane: Cluster) -> Cluster:
    find_engine()
    install_crds(control_plane)
    control_plane.kubectl("apply", "-f", "-", stdin=RBAC)
    return control_plane


class Pod:
    """A dataplane pod's processes, in a pid namespace of their own."""

    def __init__(
        self, server: Cluster, folder: Path, node: str = "node-a", namespace: str = NAMESPACE
    ) -> None:
        self._server = server
        self._node, self._namespace = node, namespace
        self.folder = folder
        self.runtime = RuntimeDirectory(folder / "run")
        self.state = folder / "state" / "router.json"
        self.log = folder / "log"
        self.process: subprocess.Popen[bytes] | None = None
        self.environment: dict[str, str] = {}
        self.options: tuple[str, ...] = ()
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.kubeconfig = folder / "kubeconfig"
        self._write_kubeconfig()

    def _write_kubeconfig(self) -> None:
        """With the token of the dataplane's service account: what it may not, fails here."""
        view = json.loads(self._server.kubectl("config", "view", "--raw", "--flatten", "-o=json"))
        words = ("create", "token", "headrace-dataplane", "-n", self._namespace)
        token = self._server.kubectl(*words)
        view["users"][0]["user"] = {"token": token.strip()}
        self.kubeconfig.write_text(json.dumps(view))

    def start(self) -> None:
        # A cluster's node has CPUs for each; here the lowest is enough.
        cpu = min(os.sched_getaffinity(0))
        words = (
            *("unshare", "--pid", "--fork", "--kill-child", "--mount-proc"),
            *(sys.executable, "-m", "headrace_dataplane.main", "--pipeline=router"),
            *(f"--node={self._node}", f"--namespace={self._namespace}"),
            f"--kubeconfig={self.kubeconfig}",
            *(f"--runtime-dir={self.runtime.path}", f"--state-dir={self.state.parent}"),
            *(f"--metrics-address=127.0.0.1:{self.port}", f"--cpus={cpu}", "--log-format=text"),
            *self.options,
        )
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                words,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, **self.environment},
            )

    def stop(self) -> int:
        """Send SIGTERM to process 1, as a kubelet does; return the exit status."""
        assert self.process is not None
        os.kill(self._supervisor(), signal.SIGTERM)
        return self.process.wait(SECONDS)

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def _supervisor(self) -> int:
        assert self.process is not None
        return _children(self.process.pid)[0]

    def agent(self) -> int:
        """The host's number of the agent proper, 0 while there is none."""
        return next((pid for pid in self._children() if not _is_engine(pid)), 0)

    def orphans(self) -> list[int]:
        """The host's numbers of engines whose agent has died, reaped ones not counted."""
        return [pid for pid in self._children() if _is_engine(pid)]

    def processes(self) -> list[int]:
        """The host's numbers of the agent proper and of the engine that it has started."""
        return [self.agent(), *_children(self.agent())]

    def _children(self) -> list[int]:
        return _children(self._supervisor())

    def kill_agent(self) -> None:
        """Kill the agent proper with SIGKILL; return when the next one is there and ready."""
        before, adopted = self.agent(), self.said("adopted the engine")
        os.kill(before, signal.SIGKILL)
        until(lambda: self.agent() not in (0, before), "another agent", SECONDS)
        until(lambda: self.said("adopted the engine") > adopted, "adopts", SECONDS)
        self.ready()

    def said(self, text: str) -> int:
        """How often the agent has said something."""
        return self.log.read_text().count(text)

    def get(self, path: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)
        try:
            connection.request("GET", path)
            reply = connection.getresponse()
            return reply.status, reply.read().decode()
        except OSError as error:
            return 0, str(error)
        finally:
            connection.close()

    def watches(self) -> dict[str, float]:
        """headrace_watch_connected by kind."""
        lines = re.findall(
            r'^headrace_watch_connected{kind="(\w+)"} (\S+)$', self.get("/metrics")[1], re.MULTILINE
        )
        return {kind: float(value) for kind, value in lines}

    def ready(self) -> None:
        until(lambda: self.get("/readyz")[0] == 200, f"ready:\n{self.log.read_text()}", SECONDS)

    def hello(self) -> Hello | None:
        try:
            with EngineClient(self.runtime.socket) as client:
                return client.hello()
        except EngineError:
            return None

    def engine(self) -> int:
        """The engine's process in the pod, 0 while none answers."""
        hello = self.hello()
        return hello.pid if hello is not None else 0

    def interfaces(self) -> set[str]:
        try:
            with EngineClient(self.runtime.socket) as client:
                return {each.name for each in client.items(Interface)}
        except EngineError:
            return set()

    def routes(self) -> dict[str, int]:
        """Routes from slices, of each network."""
        try:
            with EngineClient(self.runtime.socket) as client:
                found = {network.name: 0 for network in client.items(Network)}
                for route in client.items(Route):
                    found[route.network] += bool(route.slice)
                return found
        except EngineError:
            return {}

    def forwards(self, *interfaces: str, **routes: int) -> None:
        """Wait until the engine has exactly these Interfaces, and so many routes of networks."""
        wanted = {f"a/{name}": count for name, count in routes.items()}
        names = {f"a/{name}" for name in interfaces}

        def there() -> bool:
            return self.interfaces() == names and self.routes() == wanted

        try:
            until(there, "the engine has it", SECONDS)
        except Exception as error:
            state = f"{self.interfaces()} {self.routes()}\n{self.log.read_text()}"
            raise AssertionError(f"{error}: {state}") from error


def _is_engine(pid: int) -> bool:
    return Path(f"/proc/{pid}/comm").read_text().startswith("headrace-engine"[:15])


def _children(pid: int) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.fixture
def pod(server: Cluster) -> Iterator[Pod]:
    # tmp_path is too long for a socket.
    folder = Path(tempfile.mkdtemp(prefix="hr-"))
    made = Pod(server, folder)
    try:
        yield made
    finally:
        made.close()
        shutil.rmtree(folder)
        server.kubectl("delete", "dpc,dps", "--all", "-n", NAMESPACE)


def apply(server: Cluster, *items: dict[str, Any]) -> None:
    """Apply objects; of a DataplaneConfig its Slices first, as the operator does."""
    for item in items:
        if item["kind"] == DATAPLANE_CONFIGS.name:
            found, slices = Sharding().spread(item["metadata"]["name"], item)
            apply_as_it_is(server, *filter(None, slices.values()), cast("dict[str, Any]", found))
        else:
            apply_as_it_is(server, item)


def apply_as_it_is(server: Cluster, *items: dict[str, Any]) -> None:
    words = ("apply", "--server-side", "--force-conflicts", "--field-manager=headrace-operator")
    server.kubectl(*words, "-f", "-", stdin="\n---\n".join(map(json.dumps, items)))


def config(*interfaces: str, networks: tuple[str, ...] = ("blue",)) -> dict[str, Any]:
    """A DataplaneConfig with Interfaces of network blue, which lead nowhere."""
    return {
        "apiVersion": DATAPLANE_CONFIGS.api_version,
        "kind": DATAPLANE_CONFIGS.name,
        "metadata": {"name": CONFIG, "namespace": NAMESPACE},
        "spec": {
            "pipelineName": "router",
            "nodeName": "node-a",
            "workers": {"count": 1, "shareControlCore": True},
            "underlayPrefix": "fd00:1:0:1::/64",
            "underlayAddress": "fd00:1:0:1::1",
            "networks": [
                {
                    "namespace": "a",
                    "name": name,
                    "vni": vni(name),
                    "mtu": 1460,
                    "gateways": ["10.0.0.1"],
                    "routeSlices": [f"a.{name}.0"],
                }
                for name in networks
            ],
            "interfaces": [
                {
                    "namespace": "a",
                    "name": name,
                    "network": "a/blue",
                    "vni": vni("blue"),
                    "attachment": {"type": "Discard"},
                    "addresses": [f"10.0.0.{name.removeprefix('vm')}"],
                    "gateways": ["10.0.0.1"],
                    "macAddress": "02:00:00:00:00:01",
                    "underlayAddress": f"fd00:1:0:1::{name.removeprefix('vm')}",
                    "sourceCheck": "Enabled",
                    "mtu": 1460,
                }
                for name in interfaces
            ],
        },
    }


def vni(network: str) -> int:
    return {"blue": 100, "red": 200}[network]


def route_slice(network: str, routes: int) -> dict[str, Any]:
    return {
        "apiVersion": SLICES.api_version,
        "kind": SLICES.name,
        "metadata": {
            "name": f"a.{network}.0",
            "namespace": NAMESPACE,
            "labels": {"headrace.dev/vni": str(vni(network))},
        },
        "spec": {
            "type": "Routes",
            "owner": {"kind": "VirtualNetwork", "namespace": "a", "name": network},
            "vni": vni(network),
            "entries": [
                {
                    "prefix": f"10.9.0.{number}/32",
                    "nextHops": [{"underlayAddress": f"fd00:1:0:2::{number:x}"}],
                }
                for number in range(1, routes + 1)
            ],
        },
    }


def got(server: Cluster) -> dict[str, Any]:
    """The DataplaneConfig with what is in its Slices."""
    found: dict[str, Any] = json.loads(
        server.kubectl("get", "dpc", CONFIG, "-n", NAMESPACE, "-o=json")
    )
    return assembled(found, parts(server))


def parts(server: Cluster) -> dict[str, Any]:
    """Its Slices by name."""
    words = ("get", "dps", "-n", NAMESPACE, "-l", f"{CONFIG_LABEL}={CONFIG}", "-o=json")
    return {item["metadata"]["name"]: item for item in json.loads(server.kubectl(*words))["items"]}


def ready_condition(server: Cluster) -> tuple[int | None, str, str]:
    status = got(server)["status"]
    condition = status["conditions"][0]
    return status.get("observedGeneration"), condition["status"], condition["reason"]


def reports(server: Cluster, status: str, reason: str) -> None:
    """Wait for the Ready condition at the generation of the object and of its Slices."""
    generation = got(server)["metadata"]["generation"]

    def observed() -> bool:
        item, there = got(server), parts(server)
        return all(
            there[name].get("status", {}).get("observedGeneration")
            == there[name]["metadata"]["generation"]
            for name in slices_named(item)
        )

    until(
        lambda: ready_condition(server) == (generation, status, reason) and observed(),
        f"reports {reason}: {got(server)['status']}",
        SECONDS,
    )


class Writes:
    """Watches what is written to the Slice of Interfaces: generation, and the one reported on."""

    def __init__(self, server: Cluster, folder: Path) -> None:
        self._file = folder / "writes"
        with self._file.open("w") as output:
            words = ("get", "dps", f"{CONFIG}.interfaces.0", "-n", NAMESPACE, "--watch")
            columns = "G:.metadata.generation,O:.status.observedGeneration"
            kubectl = shutil.which("kubectl", path=server.environment["PATH"])
            assert kubectl is not None
            self._process = subprocess.Popen(
                (kubectl, *words, "--no-headers", f"-o=custom-columns={columns}"),
                env=server.environment,
                stdout=output,
            )
        until(lambda: self.seen() != [], "the watch has begun", SECONDS)

    def seen(self) -> list[tuple[str, ...]]:
        return [tuple(line.split()) for line in self._file.read_text().splitlines()]

    def until(self, *last: str) -> list[tuple[str, ...]]:
        """End with this write; return all, with what was there before."""
        until(lambda: self.seen()[-1] == last, f"{last} is written", SECONDS)
        self._process.kill()
        self._process.wait()
        return self.seen()


def test_it_follows_its_configuration_and_the_slices_that_this_names(
    server: Cluster, pod: Pod
) -> None:
    stray = route_slice("red", 7)
    apply(server, stray, route_slice("blue", 3), config("vm2"))
    pod.start()
    pod.forwards("vm2", blue=3)
    pod.ready()
    reports(server, "True", "Forwarding")
    status = got(server)["status"]
    assert [(i["name"], i["ready"], i["reason"]) for i in status["interfaces"]] == [
        ("vm2", True, "Forwarding")
    ]
    assert status["workers"] == [{"worker": 0, "lcore": 1, "cpu": min(os.sched_getaffinity(0))}]
    engine = pod.engine()

    apply(server, route_slice("blue", 5))
    pod.forwards("vm2", blue=5)
    apply(server, config("vm2", "vm3", networks=("blue", "red")))
    pod.forwards("vm2", "vm3", blue=5, red=7)
    # One that is not there yet holds nothing up.
    server.kubectl("delete", "dps", "a.red.0", "-n", NAMESPACE)
    apply(server, config("vm3"))
    pod.forwards("vm3", blue=5)
    apply(server, config("vm3", networks=("blue", "red")))
    pod.forwards("vm3", blue=5, red=0)
    apply(server, route_slice("red", 4))
    pod.forwards("vm3", blue=5, red=4)
    reports(server, "True", "Forwarding")
    assert pod.engine() == engine

    assert pod.stop() == 0
    assert pod.hello() is None


def test_it_waits_for_all_that_its_configuration_names_and_keeps_what_goes(
    server: Cluster, pod: Pod
) -> None:
    found, slices = Sharding().spread(CONFIG, config("vm2"))
    head: Any = found
    networks, interfaces = (cast("dict[str, Any]", each) for each in slices.values())
    apply_as_it_is(server, head, networks)
    pod.start()
    apply(server, route_slice("blue", 3))
    until(lambda: pod.said("is there") == 1, "it has seen the DataplaneConfig", SECONDS)
    assert pod.hello() is None
    later = Sharding().spread(CONFIG, config("vm2", "vm3"))[1]
    apply_as_it_is(server, interfaces)
    pod.forwards("vm2", blue=3)
    reports(server, "True", "Forwarding")
    status = parts(server)[f"{CONFIG}.interfaces.0"]["status"]
    assert [each["name"] for each in status["entries"]] == ["vm2"]
    alone = json.loads(server.kubectl("get", "dpc", CONFIG, "-n", NAMESPACE, "-o=json"))
    assert (alone["status"]["interfaces"], alone["status"]["networks"]) == ([], [])
    # A mistake, and the news of it come before the next change.
    server.kubectl("delete", "dps", f"{CONFIG}.interfaces.0", "-n", NAMESPACE)
    server.kubectl("label", "dps", f"{CONFIG}.networks.0", "-n", NAMESPACE, "seen=1")
    apply(server, route_slice("blue", 4))
    pod.forwards("vm2", blue=4)
    apply_as_it_is(server, *(cast("dict[str, Any]", each) for each in later.values()))
    pod.forwards("vm2", "vm3", blue=4)
    reports(server, "True", "Forwarding")


def lease(server: Cluster) -> dict[str, Any]:
    found = server.kubectl("get", "lease", CONFIG, "-n", NAMESPACE, "-o=json", "--ignore-not-found")
    item: dict[str, Any] = json.loads(found or "{}")
    return item


def renewed(server: Cluster, owner: str, former: dict[str, Any] | None = None) -> dict[str, Any]:
    """The Lease of that DataplaneConfig, once it is another than `former`."""
    found: dict[str, Any] = {}

    def changed() -> bool:
        found.clear()
        found.update(lease(server))
        owners = found.get("metadata", {}).get("ownerReferences", ())
        return [item["uid"] for item in owners] == [owner] and found != former

    until(changed, "its Lease is renewed", SECONDS)
    return found


def test_it_renews_a_lease_that_goes_with_its_configuration(server: Cluster, pod: Pod) -> None:
    pod.environment = {LEASE_SECONDS_VARIABLE: "1"}
    pod.start()
    apply(server, config("vm2"))
    # One that another test's configuration left goes with that, or is taken over.
    uid = got(server)["metadata"]["uid"]
    first = renewed(server, uid)
    renewed(server, uid, first)
    assert (first["spec"]["holderIdentity"], first["spec"]["leaseDurationSeconds"]) == ("node-a", 1)
    assert first["metadata"]["labels"]["headrace.dev/pipeline"] == "router"
    # Somebody deletes it.
    server.kubectl("delete", "lease", CONFIG, "-n", NAMESPACE)
    last = renewed(server, uid, first)
    assert last["metadata"]["uid"] != first["metadata"]["uid"]
    pod.kill_agent()
    renewed(server, uid, renewed(server, uid, last))
    server.kubectl("delete", "dpc", CONFIG, "-n", NAMESPACE)
    until(lambda: not lease(server), "it goes with its DataplaneConfig", SECONDS)


@pytest.fixture
def pod_monitor(server: Cluster) -> Iterator[Any]:
    """The chart's PodMonitor with metrics by token; what else this brings is applied."""
    objects: Any = render(server, VALUES["metrics by token"], NAMESPACE)
    component = "app.kubernetes.io/component"
    mine = [each for each in objects if each["metadata"]["labels"].get(component) == "metrics"]
    apply(server, *mine)
    yield only(objects, "PodMonitor", "headrace")
    # The token's Secret goes with its service account.
    words = ("delete", "--ignore-not-found", "-n", NAMESPACE, "-f", "-")
    server.kubectl(*words, stdin="\n---\n".join(map(json.dumps, mine)))


def test_prometheus_scrapes_by_tls_with_the_token_of_the_pod_monitor(
    server: Cluster, pod: Pod, pod_monitor: Any, tmp_path: Path
) -> None:
    def secret(name: str, key: str) -> str:
        words = ("get", "secret", name, "-n", NAMESPACE, "-o=json")

        def data() -> str:
            return str(json.loads(server.kubectl(*words)).get("data", {}).get(key, ""))

        until(lambda: data() != "", f"Secret {name} has {key}", SECONDS)
        return base64.b64decode(data()).decode()

    certificate = pod.folder / "certificate"
    certificate.mkdir()
    for key in ("tls.crt", "tls.key"):
        (certificate / key).write_text(secret("headrace-metrics-certificate", key))
    pod.options = (f"--metrics-certificate={certificate}",)
    apply(server, route_slice("blue", 3), config("vm2"))
    pod.start()
    pod.forwards("vm2", blue=3)
    job = monitored_job(pod_monitor, secret, f"127.0.0.1:{pod.port}")
    other = server.kubectl("create", "token", "default", "-n", NAMESPACE).strip()
    jobs = [
        job,
        job | {"job_name": "nonsense", "authorization": {"credentials": "nonsense"}},
        job | {"job_name": "nobody", "authorization": None},
        job | {"job_name": "other", "authorization": {"credentials": other}},
        job | {"job_name": "stranger", "tls_config": {"server_name": "localhost"}},
    ]
    with scraping(jobs, tmp_path) as prometheus:

        def engines() -> list[Any]:
            return [each["metric"] for each in prometheus.query("headrace_engine_up == 1")]

        def refused() -> dict[str, str]:
            return {name: why for name, why in prometheus.failures().items() if why}

        until(lambda: engines() != [], "the engine's metrics are there", SECONDS)
        until(lambda: len(refused()) == len(jobs) - 1, "the others were refused", SECONDS)
        assert {each["job"] for each in engines()} == {"monitored"}
        found = refused()
    assert "401" in found["nonsense"]
    assert "401" in found["nobody"]
    assert "403" in found["other"]
    assert "certificate" in found["stranger"]


def test_what_is_deleted_while_it_is_in_use_stays_in_force(server: Cluster, pod: Pod) -> None:
    apply(server, route_slice("blue", 3), config("vm2"))
    pod.start()
    pod.forwards("vm2", blue=3)
    reports(server, "True", "Forwarding")
    server.kubectl("delete", "dps", "a.blue.0", "-n", NAMESPACE)
    apply(server, config("vm2", "vm3"))
    pod.forwards("vm2", "vm3", blue=3)
    server.kubectl("delete", "dpc", CONFIG, "-n", NAMESPACE)
    until(lambda: pod.said("was deleted") == 1, "says so", SECONDS)
    assert pod.interfaces() == {"a/vm2", "a/vm3"}
    assert pod.get("/readyz")[0] == 200
    # A new one, though it looks the same to the agent, gets its status.
    apply(server, config("vm2"))
    reports(server, "True", "Forwarding")
    pod.forwards("vm2", blue=3)


def test_a_killed_agent_leaves_no_trace(server: Cluster, pod: Pod) -> None:
    apply(server, route_slice("blue", 3), config("vm2"))
    pod.start()
    pod.forwards("vm2", blue=3)
    reports(server, "True", "Forwarding")
    until(pod.state.exists, "the configuration is on the disk", SECONDS)
    before = pod.hello()
    writes = Writes(server, pod.folder)
    pod.kill_agent()
    after = pod.hello()
    assert before is not None
    assert after is not None
    assert (after.pid, after.generation) == (before.pid, before.generation)
    apply(server, config("vm2", "vm3"))
    reports(server, "True", "Forwarding")
    # What was there, the change, and the report of it: the new agent itself has written nothing.
    assert writes.until("2", "2") == [("1", "1"), ("2", "1"), ("2", "2")]


def test_an_adopted_engine_that_dies_is_reaped_and_replaced(server: Cluster, pod: Pod) -> None:
    apply(server, route_slice("blue", 3), config("vm2"))
    pod.start()
    pod.forwards("vm2", blue=3)
    pod.kill_agent()
    before = pod.engine()
    (orphan,) = pod.orphans()
    os.kill(orphan, signal.SIGKILL)
    until(lambda: pod.engine() not in (0, before), "another engine", SECONDS)
    pod.forwards("vm2", blue=3)
    until(lambda: pod.orphans() == [], "process 1 has reaped it", SECONDS)
    reports(server, "True", "Forwarding")


def test_it_does_without_the_api_server(server: Cluster, pod: Pod) -> None:
    apply(server, route_slice("blue", 3), config("vm2"))
    pod.start()
    pod.forwards("vm2", blue=3)
    reports(server, "True", "Forwarding")
    until(pod.state.exists, "the configuration is on the disk", SECONDS)
    engine = pod.engine()
    well = {"DataplaneConfig": 1, "Slice": 1}
    assert pod.watches() == well
    server.stop_api_server()
    try:
        cut_off = dict.fromkeys(well, 0)
        until(lambda: pod.watches() == cut_off, "its metrics say so", SECONDS)
        pod.kill_agent()
        assert pod.engine() == engine
        assert pod.interfaces() == {"a/vm2"}
        # A new container has the disk alone.
        assert pod.stop() == 0
        assert pod.hello() is None
        pod.start()
        pod.forwards("vm2", blue=3)
        pod.ready()
    finally:
        server.start_api_server()
    engine = pod.engine()
    apply(server, config("vm2", "vm3"), route_slice("blue", 4))
    pod.forwards("vm2", "vm3", blue=4)
    reports(server, "True", "Forwarding")
    assert pod.engine() == engine
    until(lambda: pod.watches() == well, "its metrics say so", SECONDS)


def test_a_spoilt_file_is_left_aside(server: Cluster, pod: Pod) -> None:
    apply(server, route_slice("blue", 3), config("vm2"))
    pod.state.parent.mkdir()
    pod.state.write_text('{"generation": 9, "slices": 1}\n{"metadata": {')
    pod.start()
    pod.forwards("vm2", blue=3)
    until(lambda: "a.blue.0" in pod.state.read_text(), "a new one is written", SECONDS)
    assert pod.said("cannot be used and is left aside") == 1


def test_what_cannot_be_read_is_left_out_alone_and_named(server: Cluster, pod: Pod) -> None:
    apply(server, route_slice("blue", 3), config("vm2"))
    pod.start()
    pod.forwards("vm2", blue=3)
    reports(server, "True", "Forwarding")
    # The API server takes it, the models do not: nobody is delivered to at a link-local address.
    made = config("vm2", "vm3", "vm4")
    made["spec"]["interfaces"][1]["underlayAddress"] = "fe80::3"
    part = route_slice("blue", 5)
    part["spec"]["entries"][3]["nextHops"][0]["underlayAddress"] = "fe80::4"
    part["spec"]["entries"][4]["prefix"] = "10.9.0.5/99"
    apply(server, made, part)
    # A route without a next hop drops.
    pod.forwards("vm2", "vm4", blue=4)
    reports(server, "True", "InterfacesNotReady")
    status = got(server)["status"]
    ready = {each["name"]: (each["ready"], each["reason"]) for each in status["interfaces"]}
    forwards = (True, "Forwarding")
    assert ready == {"vm2": forwards, "vm4": forwards, "vm3": (False, "NotUnderstood")}
    (network,) = status["networks"]
    assert (network["name"], network["reason"]) == ("blue", "NotUnderstood")
    assert "10.9.0.4/32" in network["message"]
    apply(server, config("vm2", "vm3"), route_slice("blue", 5))
    pod.forwards("vm2", "vm3", blue=5)
    reports(server, "True", "Forwarding")


def test_a_configuration_that_cannot_be_read_at_all_changes_nothing(
    server: Cluster, pod: Pod
) -> None:
    apply(server, route_slice("blue", 3), config("vm2"))
    pod.start()
    pod.forwards("vm2", blue=3)
    for names in ((), ("vm3",)):
        made = config("vm2", *names)
        made["spec"]["underlayAddress"] = "fe80::1"
        apply(server, made)
        generation = got(server)["metadata"]["generation"]
        until(
            lambda: ready_condition(server) == (generation, "False", "NotUnderstood"),  # noqa: B023
            "it is said",
            SECONDS,
        )
    # Routes go on.
    apply(server, route_slice("blue", 4))
    pod.forwards("vm2", blue=4)
    status = got(server)["status"]
    assert "spec.underlayAddress" in status["conditions"][0]["message"]
    assert [(i["name"], i["ready"]) for i in status["interfaces"]] == [("vm2", True)]
    assert pod.interfaces() == {"a/vm2"}
    assert pod.get("/readyz")[0] == 200
    apply(server, config("vm2", "vm3"))
    pod.forwards("vm2", "vm3", blue=4)
    reports(server, "True", "Forwarding")


def test_it_reports_what_kinds_of_an_earlier_release_have_fields_for(
    server: Cluster, pod: Pod
) -> None:
    (file,) = (REPOSITORY / "crds").glob("*_dataplaneconfigs.yaml")
    kind = yaml.safe_load(file.read_text())
    schema = kind["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    status = schema["properties"]["status"]["properties"]
    del status["features"], status["networks"]["items"]["properties"]["digest"]
    apply(server, kind)
    try:
        both = config("vm2", networks=("blue", "red"))
        apply_as_it_is(server, route_slice("blue", 3), both)
        pod.start()
        reports(server, "True", "Forwarding")
        assert {"features", "networks", "workers"} & got(server)["status"].keys() == {
            *("networks", "workers")
        }
        apply_as_it_is(server, config("vm2"))
        reports(server, "True", "Forwarding")
        (network,) = got(server)["status"]["networks"]
        assert (network["name"], "digest" in network) == ("blue", False)
        assert pod.said("older than this agent") == 1
        assert pod.said("cannot write") == 0
    finally:
        install_crds(server)
    apply_as_it_is(server, config("vm2", "vm3"))
    reports(server, "True", "Forwarding")
    assert got(server)["status"]["features"]


def test_reports_are_few(server: Cluster, pod: Pod) -> None:
    apply(server, route_slice("blue", 3), config("vm2"))
    pod.start()
    reports(server, "True", "Forwarding")
    writes = Writes(server, pod.folder)
    begun = time.monotonic()
    for number in range(20):
        apply(server, config("vm2", *(["vm3"] if number % 2 else [])))
    reports(server, "True", "Forwarding")
    seconds = time.monotonic() - begun
    seen = writes.until("20", "20")
    reported = [each for before, each in itertools.pairwise(seen) if before[0] == each[0]]
    assert 1 <= len(reported) <= seconds / REPORT_SECONDS + 2
