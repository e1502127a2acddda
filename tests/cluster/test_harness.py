# SPDX-License-Identifier: Apache-2.0
"""What the other tests of this folder rely on: the cluster is real, and leaves nothing."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from headrace_cli.errors import CommandError
from tests.cluster.cluster import IMAGE, REPOSITORY, Cluster, Node
from tests.cluster.sandbox import until

SECONDS = 60.0


def start_pod(cluster: Cluster, namespace: str, node: Node) -> str:
    """Start a Guaranteed pod that serves its node's name on port 8080; wait until it runs."""
    resources = {"cpu": "1", "memory": "32Mi", "hugepages-2Mi": "4Mi"}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": node.name, "namespace": namespace, "labels": {"app": "probe"}},
        "spec": {
            "nodeName": node.name,
            "containers": [
                {
                    "name": "probe",
                    "image": IMAGE,
                    "args": ["serve", "8080", node.name],
                    "resources": {"requests": resources, "limits": resources},
                }
            ],
        },
    }
    cluster.kubectl("apply", "-f", "-", stdin=json.dumps(pod))
    cluster.wait("--for=condition=Ready", f"pod/{node.name}", "-n", namespace)
    return node.name


def allowed_cpus(cluster: Cluster, namespace: str, pod: str) -> str:
    status = cluster.kubectl(
        "exec", "-n", namespace, pod, "--", "/probe", "cat", "/proc/self/status"
    )
    found = re.search(r"^Cpus_allowed_list:\s*(\S+)$", status, re.MULTILINE)
    assert found is not None
    return found.group(1)


def test_nodes_are_ready_and_offer_their_own_cpus(cluster: Cluster) -> None:
    items = json.loads(cluster.kubectl("get", "nodes", "-o", "json"))["items"]
    offered = {item["metadata"]["name"]: item["status"]["allocatable"] for item in items}
    conditions = [each for item in items for each in item["status"]["conditions"]]
    assert {each["status"] for each in conditions if each["type"] == "Ready"} == {"True"}
    assert {name: int(each["cpu"]) for name, each in offered.items()} == {
        node.name: len(node.cpus) for node in cluster.nodes
    }
    assert not set.intersection(*(node.cpus for node in cluster.nodes))
    assert all(each["hugepages-2Mi"] != "0" for each in offered.values())


def test_guaranteed_pods_have_cpus_and_hugepages_of_their_own(
    cluster: Cluster, cluster_namespace: str
) -> None:
    pods = [start_pod(cluster, cluster_namespace, node) for node in cluster.nodes]
    cpus = {int(allowed_cpus(cluster, cluster_namespace, pod)) for pod in pods}
    assert len(cpus) == 2
    assert cpus <= set.union(*(node.cpus for node in cluster.nodes))

    hugepages = ("exec", "-n", cluster_namespace, pods[0], "--", "/probe", "hugepages")
    assert cluster.kubectl(*hugepages, "4") == "4 MiB in hugepages\n"
    with pytest.raises(CommandError, match="exit code 135"):
        cluster.kubectl(*hugepages, "6")


def test_pods_are_reached_by_logs_address_and_service(
    cluster: Cluster, cluster_namespace: str
) -> None:
    for node in cluster.nodes:
        start_pod(cluster, cluster_namespace, node)
        assert cluster.kubectl("logs", "-n", cluster_namespace, node.name) == (
            "serving on port 8080\n"
        )
        where = ("get", "pod", node.name, "-n", cluster_namespace)
        address = cluster.kubectl(*where, "-o", "jsonpath={.status.podIP}")
        for other in cluster.nodes:
            assert cluster.get(f"http://{address}:8080", namespace=other.namespace) == (
                200,
                node.name,
            )
        assert cluster.get(f"http://{address}:8080") == (200, node.name)
    in_namespace = ("-n", cluster_namespace)
    service = ("create", "service", "clusterip", "probe", "--tcp=80:8080", *in_namespace)
    address = cluster.kubectl(*service, "-o", "jsonpath={.spec.clusterIP}")
    replies: set[str] = set()

    def both() -> bool:
        try:
            replies.add(cluster.get(f"http://{address}", namespace=cluster.nodes[0].namespace)[1])
        except CommandError:
            return False
        return replies == {node.name for node in cluster.nodes}

    until(both, "the service's address leads to both pods", SECONDS)


def test_cables_carry_what_endpoints_say_and_nodes_say_nothing(cluster: Cluster) -> None:
    one, other = cluster.nodes
    cluster.join(one, other, "uplink9")
    machine = cluster.endpoint("blue/vm9", ("10.0.0.9", "fd00:10::9"), one.namespace)
    with pytest.raises(CommandError):
        machine.command("ping", "-c", "1", "-W", "1", "10.0.0.1")

    def packets(node: Node, device: str) -> tuple[int, int]:
        lines = node.namespace.command("cat", "/proc/net/dev").splitlines()
        fields = next(line for line in lines if line.strip().startswith(f"{device}:")).split()
        return int(fields[2]), int(fields[10])

    received, sent = packets(one, "blue-vm9")
    assert received > 0
    assert sent == 0
    assert packets(one, "uplink9") == packets(other, "uplink9") == (0, 0)


def test_objects_outlive_the_api_server(control_plane: Cluster) -> None:
    uid = ("get", "configmap/survivor", "-o", "jsonpath={.metadata.uid}")
    control_plane.kubectl("create", "configmap", "survivor")
    before = control_plane.kubectl(*uid)
    control_plane.stop_api_server()
    with pytest.raises(CommandError, match="refused"):
        control_plane.get(f"{control_plane.server}/readyz")
    control_plane.start_api_server()
    assert control_plane.kubectl(*uid) == before


def namespaces_of(pid: int) -> dict[str, str]:
    return {kind: os.readlink(f"/proc/{pid}/ns/{kind}") for kind in ("mnt", "net", "pid")}


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def processes_in(namespaces: set[str]) -> set[int]:
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if namespaces & {*namespaces_of(int(process.name)).values()}:
                found.add(int(process.name))
        # Ended meanwhile, or not ours to look at.
        except OSError:
            continue
    return found


@pytest.mark.parametrize("end", ["orderly", "killed"])
@pytest.mark.usefixtures("control_plane")
def test_nothing_is_left(end: str) -> None:
    command = ("bash", "-c", "echo $KUBECONFIG; read")
    owner = subprocess.Popen(
        [sys.executable, "-m", "tests.cluster.cluster", "run", "--nodes=1", *command],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with owner:
        assert owner.stdin is not None
        assert owner.stdout is not None
        kubeconfig = Path(owner.stdout.readline().strip())
        root = int(kubeconfig.parts[2])
        group = f"headrace-cluster-{parent(parent(root))}-node-a"
        ours = {os.readlink("/proc/self/ns/" + kind) for kind in ("mnt", "net", "pid")}
        inside = processes_in({os.readlink(f"/proc/{root}/ns/pid")})
        namespaces = {each for pid in inside for each in namespaces_of(pid).values()} - ours
        groups = [*Path("/sys/fs/cgroup").glob(f"*/{group}"), Path("/sys/fs/cgroup") / group]
        assert any(each.exists() for each in groups)
        # The sandbox's three, and a network and mounts of the node's.
        assert len(namespaces) >= 5
        if end == "killed":
            owner.kill()
        else:
            owner.stdin.close()
    until(lambda: not processes_in(namespaces), "every process has ended", SECONDS)
    until(lambda: not any(each.exists() for each in groups), "no control group", SECONDS)
    assert not {"br0", "node-a"} & {*os.listdir("/sys/class/net")}
    assert "/run/cluster" not in Path("/proc/self/mountinfo").read_text()
