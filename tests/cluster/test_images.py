# SPDX-License-Identifier: Apache-2.0
"""The images: what is in them, and that a pod of each starts with the rights it is to have."""

import json
from collections.abc import Callable
from dataclasses import fields
from pathlib import PurePath

import pytest
from pydantic import JsonValue

from deploy.release.image import Image
from headrace_api import Json
from headrace_dataplane.version import package_version

from .cluster import Cluster
from .images import Images, build_images

MEGABYTE = 10**6
SIZES = {
    "operator": 190 * MEGABYTE,
    "dataplane": 230 * MEGABYTE,
    "connectivity": 190 * MEGABYTE,
}
"""Measured on trixie: 157, 191 and 157, of which Debian itself is 79."""
APART = {"connectivity": {"headrace_connectivity"}}
"""What images have of the packages that are not for every image."""
TOOLS = {"gcc", "cc", "c++", "ld", "make", "meson", "ninja", "pip", "pip3", "git", "curl", "wget"}
SOCKET = "/run/headrace/engine/engine.sock"


@pytest.fixture(scope="module")
def images() -> Images:
    return build_images()


@pytest.fixture(params=SIZES)
def image(images: Images, request: pytest.FixtureRequest) -> Image:
    found = getattr(images, request.param)
    assert isinstance(found, Image)
    return found


def test_says_what_it_is(image: Image) -> None:
    version = package_version()
    assert image.name.endswith(f":{version}")
    labels = {name.rpartition(".")[2]: value for name, value in image.labels.items()}
    assert labels["version"] == version
    assert labels["licenses"] == "Apache-2.0"
    assert labels["source"].startswith("https://")
    assert labels["revision"] not in ("", "unknown")


def test_users_and_entrypoints(images: Images) -> None:
    assert images.operator.user == "65532:65532"
    assert images.operator.entrypoint == ("headrace-operator",)
    assert images.dataplane.user == "0:0"
    assert images.dataplane.entrypoint == ("headrace-agent",)
    assert images.connectivity.user == "65532:65532"
    assert images.connectivity.entrypoint == ("headrace", "connectivity", "test")


@pytest.mark.parametrize("name", [each.name for each in fields(Images)])
def test_demo_and_connectivity_test_are_in_no_image_but_their_own(
    images: Images, name: str
) -> None:
    """Neither as files, nor as pip has it."""
    image: Image = getattr(images, name)
    apart = {"headrace_demo", "headrace_connectivity"}
    there = {part for path in image.files for part in PurePath(path).parts}
    assert there & apart == APART.get(name, set())
    assert ("headrace_cli" in there) == (name != "toolbox")
    records = image.contents(lambda path: path.endswith(".dist-info/RECORD"))
    listed = {
        line.partition(b"/")[0].decode() for text in records.values() for line in text.split()
    }
    assert listed & apart == APART.get(name, set())


def test_nothing_of_the_build_is_left(image: Image) -> None:
    programs = {PurePath(path).name for path in image.files if PurePath(path).parent.name == "bin"}
    assert "headrace" in programs
    assert not programs & TOOLS
    folders = ("usr/include/", "var/lib/apt/lists/", "run/secrets/", "src/", "tmp/")
    assert not [path for path, size in image.files.items() if size and path.startswith(folders)]


def test_python_is_compiled(image: Image) -> None:
    ours = [PurePath(path) for path in image.files if path.startswith("opt/")]
    sources = {path.with_suffix("") for path in ours if path.suffix == ".py"}
    compiled = {
        path.parents[1] / path.name.partition(".cpython-")[0]
        for path in ours
        if path.parent.name == "__pycache__"
    }
    assert sources
    assert not sources - compiled


def test_engine_is_only_in_the_dataplane(images: Images) -> None:
    assert "usr/bin/headrace-engine" in images.dataplane.files
    drivers = {
        PurePath(path).name.partition(".")[0]
        for path in images.dataplane.files
        if "/dpdk/pmds-" in path
    }
    needed = {"af_packet", "memif", "null", "pcap", "tap", "vhost", "virtio"}
    needed |= {"iavf", "ixgbe", "mlx5"}
    assert {f"librte_net_{name}" for name in needed} <= drivers
    assert "librte_mempool_ring" in drivers
    assert not [path for path in images.operator.files if "librte" in path or "-engine" in path]


def test_size(images: Images) -> None:
    for name, limit in SIZES.items():
        assert sum(getattr(images, name).files.values()) < limit, name


@pytest.fixture(scope="module")
def loaded(cluster: Cluster, images: Images) -> None:
    cluster.nodes[0].load_images(images.operator.tar, images.dataplane.tar)


@pytest.fixture
def pods(cluster: Cluster, loaded: None, cluster_namespace: str) -> Callable[..., str]:
    pod = ("--namespace", cluster_namespace)

    def kubectl(*words: str, stdin: Json | None = None) -> str:
        return cluster.kubectl(*pod, *words, stdin="" if stdin is None else json.dumps(stdin))

    return kubectl


def confined(image: Image, **container: JsonValue) -> Json:
    """A pod with what both are given in a cluster: no capability, and nothing to write on."""
    name = image.entrypoint[0]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "nodeName": "node-a",
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 5,
            "containers": [
                {
                    "name": "main",
                    "image": image.name,
                    "imagePullPolicy": "Never",
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": True,
                        "capabilities": {"drop": ["ALL"]},
                        "seccompProfile": {"type": "RuntimeDefault"},
                    },
                    "volumeMounts": [{"name": "run", "mountPath": "/run/headrace/engine"}],
                    **container,
                }
            ],
            "volumes": [{"name": "run", "emptyDir": {}}],
        },
    }


def test_operator_starts_without_root(pods: Callable[..., str], images: Images) -> None:
    pods("create", "-f", "-", stdin=confined(images.operator, args=["--help"]))
    pods(
        "wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/headrace-operator", "--timeout=80s"
    )
    assert pods("logs", "headrace-operator").startswith("usage: headrace-operator")


def test_commands_that_an_image_lacks_say_what_to_do(
    pods: Callable[..., str], images: Images
) -> None:
    pod = confined(
        images.operator, command=["sh", "-c", "headrace --help; headrace connectivity test"]
    )
    pods("create", "-f", "-", stdin=pod)
    pods("wait", "--for=jsonpath={.status.phase}=Failed", "pod/headrace-operator", "--timeout=80s")
    *usage, last = pods("logs", "headrace-operator").splitlines()
    assert "    status" in "\n".join(usage)
    assert "connectivity" not in "\n".join(usage)
    assert last.startswith("headrace connectivity: it is not installed here: run kubectl headrace ")


@pytest.mark.parametrize("hugepages", ["on", "off"])
def test_engine_starts_without_a_capability(
    pods: Callable[..., str], images: Images, hugepages: str
) -> None:
    resources: Json = {"cpu": "1", "memory": "512Mi"}
    if hugepages == "on":
        resources["hugepages-2Mi"] = "128Mi"
    pod = confined(
        images.dataplane,
        command=["headrace-engine", "--socket", SOCKET, "--runtime-dir", "/run/headrace/engine"],
        args=["--hugepages", hugepages, "--memory=128", "--share-control"],
        resources={"limits": resources},
        readinessProbe={
            "exec": {"command": ["headrace", "status", "--socket", SOCKET]},
            "periodSeconds": 1,
            "timeoutSeconds": 10,
        },
    )
    pods("create", "-f", "-", stdin=pod)
    pods("wait", "--for=condition=Ready", "pod/headrace-agent", "--timeout=80s")
    words = ("exec", "headrace-agent", "--")
    version = json.loads(pods(*words, "headrace", "version", "--socket", SOCKET, "-o", "json"))
    assert version["headrace"] == version["engine"] == package_version()
    put = f"""
from pathlib import Path
from headrace_dataplane.protocol import EngineClient, Put
port = {{"devargs": "net_null_n,no-rx=1", "rxQueues": 1, "mtu": 1500}}
EngineClient(Path({SOCKET!r})).commit(1, [Put("port", "n", "hash", port)])
"""
    pods(*words, "/opt/headrace/bin/python", "-c", put)
    assert "CapEff:\t0000000000000000" in pods(*words, "cat", "/proc/1/status")
    memory = "hugepages" if hugepages == "on" else "ordinary pages"
    assert f"128 MiB of {memory}" in pods("logs", "headrace-agent")
