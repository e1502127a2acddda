# SPDX-License-Identifier: Apache-2.0
"""The real kubelet gives out devices of the device plugin, whichever of the two restarts."""

import asyncio
import json
import os
import shutil
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace_dataplane.node.device_plugin import kubelet_api as api
from headrace_dataplane.node.device_plugin.allocation import PluginDevice
from headrace_dataplane.node.device_plugin.endpoint import OPTIONS, Endpoint
from headrace_dataplane.node.device_plugin.pod_resources import KubeletError, PodResources, ask
from tests.cluster.cluster import REPOSITORY, Cluster, Node
from tests.cluster.images import Images
from tests.cluster.pods import TOOLBOX
from tests.cluster.sandbox import Daemon, until
from tests.unit import node_tree
from tests.unit.node_tree import INTEL, INTEL_VFS, MELLANOX_VFS

SECONDS = 90.0
FOLDER = "/var/device-plugin"
DPDK, NETDEVICE = "headrace.dev/e810-dpdk", "intel.com/intel_sriov_netdevice"
FIRST, SECOND, THIRD = (*INTEL_VFS, "0000:3b:01.2")
# The kernel's log, which every kernel has: pods may not open it unless they are given it.
NODE = os.makedev(1, 11)
FILES = {"vfio": "vfio/vfio", FIRST: "vfio/21", SECOND: "vfio/22", THIRD: "vfio/23"}


class Plugin:
    """The device plugin on a node, with devices that are not there."""

    def __init__(self, cluster: Cluster, node: Node) -> None:
        self.node = node
        self.folder = node.namespace.path(FOLDER)
        root = node_tree.write(
            self.folder / "root",
            {
                **node_tree.good_node(),
                **node_tree.function(THIRD, ("8086", "1889"), "vfio-pci", 0, 23, INTEL),
            },
        )
        (root / "dev/vfio").mkdir(parents=True)
        for name in FILES.values():
            os.mknod(root / "dev" / name, stat.S_IFCHR | 0o600, NODE)
        (self.folder / "wanted").mkdir()
        self.pod_resources = PodResources(
            node.namespace.path("/var/lib/kubelet/pod-resources/kubelet.sock")
        )
        self.sockets = node.namespace.path("/var/lib/kubelet/device-plugins")
        self.have({})
        self.daemon: Daemon = cluster.daemon(
            node.namespace,
            sys.executable,
            str(REPOSITORY / "tests/cluster/device_plugin.py"),
            FOLDER,
            log=f"{node.name}-device-plugin",
        )

    def have(self, resources: dict[str, dict[str, bool]]) -> None:
        """Have these devices, healthy or not; all are on NUMA node 0, as the machine's CPUs."""
        wanted = {
            name: [[a, 0, healthy] for a, healthy in resources[name].items()] for name in resources
        }
        new = self.folder / "devices.json"
        new.write_text(json.dumps(wanted))
        new.rename(self.folder / "wanted" / new.name)

    def offered(self, resource: str) -> set[str]:
        """Devices that the kubelet would give out."""
        return set(asyncio.run(self.pod_resources.allocatable()).get(resource, ()))

    def offers(self, resource: str, *devices: str) -> None:
        def offered() -> bool:
            try:
                return self.offered(resource) == set(devices)
            except KubeletError:
                return False

        until(offered, f"{self.node.name} offers {devices} of {resource}", SECONDS)

    def users(self) -> dict[str, tuple[str, ...]]:
        return dict(asyncio.run(self.pod_resources.users()))

    def problems(self) -> dict[str, str]:
        return dict(json.loads((self.folder / "problems.json").read_text()))


@pytest.fixture(scope="module")
def plugin(cluster: Cluster, images: Images) -> Iterator[Plugin]:
    plugin = Plugin(cluster, cluster.nodes[0])
    try:
        yield plugin
    finally:
        plugin.have({})
        plugin.offers(DPDK)
        plugin.daemon.stop()
        shutil.rmtree(plugin.folder)


@pytest.fixture
def devices(plugin: Plugin) -> Plugin:
    """The plugin, with all devices well."""
    plugin.have({DPDK: dict.fromkeys((FIRST, SECOND, THIRD), True)})
    plugin.offers(DPDK, FIRST, SECOND, THIRD)
    return plugin


def pod(namespace: str, name: str, node: Node, resource: str, count: int) -> dict[str, Any]:
    """A pod that the scheduler has no say in: it hears of devices late."""
    resources = {resource: str(count)}
    container = {
        "name": "c",
        "image": TOOLBOX,
        "command": ["sleep", "infinity"],
        "resources": {"requests": resources, "limits": resources},
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "nodeName": node.name,
            "terminationGracePeriodSeconds": 0,
            "restartPolicy": "Never",
            "containers": [container],
        },
    }


def start(cluster: Cluster, *pods: dict[str, Any]) -> None:
    cluster.kubectl(
        "apply", "-f", "-", stdin=json.dumps({"kind": "List", "apiVersion": "v1", "items": pods})
    )


def ready(cluster: Cluster, namespace: str, *names: str) -> None:
    cluster.wait("--for=condition=Ready", *(f"pod/{name}" for name in names), "-n", namespace)


def inside(cluster: Cluster, namespace: str, name: str, script: str) -> str:
    return cluster.kubectl("exec", "-n", namespace, name, "--", "bash", "-c", script).strip()


def message(cluster: Cluster, namespace: str, name: str) -> str:
    """What the kubelet says of a pod that failed."""
    cluster.wait("--for=jsonpath={.status.phase}=Failed", f"pod/{name}", "-n", namespace)
    words = "get", f"pod/{name}", "-n", namespace, "-o", "jsonpath={.status.message}"
    return cluster.kubectl(*words)


def given(cluster: Cluster, namespace: str, name: str) -> list[str]:
    """PCI addresses that the pod was told of."""
    # No shell has a variable with a hyphen, but the environment has.
    script = "tr '\\0' '\\n' </proc/1/environ | sed -n 's/^PCIDEVICE_HEADRACE_DEV_E810-DPDK=//p'"
    return inside(cluster, namespace, name, script).split(",")


def test_pods_get_functions_of_their_own(
    cluster: Cluster, cluster_namespace: str, devices: Plugin
) -> None:
    names = ("one", "two")
    start(
        cluster,
        pod(cluster_namespace, "one", devices.node, DPDK, 1),
        pod(cluster_namespace, "two", devices.node, DPDK, 2),
        pod(cluster_namespace, "none", devices.node, "memory", 1 << 25),
    )
    ready(cluster, cluster_namespace, *names, "none")
    got = {name: given(cluster, cluster_namespace, name) for name in names}
    assert sorted(len(each) for each in got.values()) == [1, 2]
    assert sorted(got["one"] + got["two"]) == [FIRST, SECOND, THIRD]
    for name, addresses in got.items():
        assert addresses == sorted(addresses)
        files = inside(cluster, cluster_namespace, name, "cd /dev && ls vfio/*").split()
        assert sorted(files) == sorted({FILES["vfio"], *(FILES[each] for each in addresses)})
        # They open, and another with the same number that is not given does not.
        inside(
            cluster, cluster_namespace, name, "for file in /dev/vfio/*; do : >>$file || exit; done"
        )
        assert devices.users() == {
            each: (f"{cluster_namespace}/{name}",) for name in names for each in got[name]
        }
    refused = "mknod /tmp/node c 1 11; : >>/tmp/node || echo refused"
    assert inside(cluster, cluster_namespace, "none", refused) == "refused"
    info = "tr '\\0' '\\n' </proc/1/environ | sed -n 's/^PCIDEVICE_.*_INFO=//p'"
    assert json.loads(inside(cluster, cluster_namespace, "one", info)) == {
        got["one"][0]: {
            "generic": {"deviceID": got["one"][0]},
            "vfio": {"mount": "/dev/vfio/vfio", "dev-mount": f"/dev/{FILES[got['one'][0]]}"},
        }
    }


def test_an_ill_device_is_given_to_nobody(
    cluster: Cluster, cluster_namespace: str, devices: Plugin
) -> None:
    devices.have({DPDK: {FIRST: False, SECOND: True, THIRD: False}})
    devices.offers(DPDK, SECOND)
    start(cluster, pod(cluster_namespace, "one", devices.node, DPDK, 1))
    ready(cluster, cluster_namespace, "one")
    assert given(cluster, cluster_namespace, "one") == [SECOND]
    # Who has it keeps it.
    devices.have({DPDK: {FIRST: True, SECOND: False, THIRD: False}})
    devices.offers(DPDK, FIRST)
    assert devices.users() == {SECOND: (f"{cluster_namespace}/one",)}


def test_a_device_that_went_before_the_kubelet_heard_of_it_is_refused_in_words(
    cluster: Cluster, cluster_namespace: str, devices: Plugin
) -> None:
    devices.have({DPDK: {SECOND: True}})
    devices.offers(DPDK, SECOND)
    file = devices.folder / "root/dev" / FILES[SECOND]
    file.unlink()
    try:
        start(cluster, pod(cluster_namespace, "one", devices.node, DPDK, 1))
        said = message(cluster, cluster_namespace, "one")
    finally:
        os.mknod(file, stat.S_IFCHR | 0o600, NODE)
    assert f"{DPDK}: {SECOND} has no device node /dev/vfio/22" in said


def test_restarts_take_nothing_from_pods_and_devices_come_back(
    cluster: Cluster, cluster_namespace: str, devices: Plugin
) -> None:
    start(cluster, pod(cluster_namespace, "before", devices.node, DPDK, 1))
    ready(cluster, cluster_namespace, "before")
    (first,) = given(cluster, cluster_namespace, "before")
    kubelet = devices.node.daemons["kubelet"]
    sockets = {path.name for path in devices.sockets.glob("headrace-*")}
    kubelet.stop()
    kubelet.start()
    devices.offers(DPDK, FIRST, SECOND, THIRD)
    start(cluster, pod(cluster_namespace, "after-kubelet", devices.node, DPDK, 1))
    ready(cluster, cluster_namespace, "after-kubelet")
    (second,) = given(cluster, cluster_namespace, "after-kubelet")
    devices.daemon.stop()
    devices.offers(DPDK)
    devices.daemon.start()
    devices.offers(DPDK, FIRST, SECOND, THIRD)
    start(cluster, pod(cluster_namespace, "after-plugin", devices.node, DPDK, 1))
    ready(cluster, cluster_namespace, "after-plugin")
    (third,) = given(cluster, cluster_namespace, "after-plugin")
    assert {first, second, third} == {FIRST, SECOND, THIRD}
    assert set(devices.users()) == {FIRST, SECOND, THIRD}
    assert {path.name for path in devices.sockets.glob("headrace-*")} == sockets
    restarts = cluster.kubectl(
        "get",
        "pod",
        "-n",
        cluster_namespace,
        "-o",
        "jsonpath={.items[*].status.containerStatuses[*].restartCount}",
    )
    assert restarts.split() == ["0"] * 3


def test_a_pod_of_the_sriov_network_device_plugin_works_unchanged(
    cluster: Cluster, cluster_namespace: str, devices: Plugin
) -> None:
    """As its example testpod1 is, but for the image: and the scheduler finds the node."""
    devices.have({NETDEVICE: {MELLANOX_VFS[0]: True}})
    resources = {NETDEVICE: "1"}
    container = {
        "name": "appcntr1",
        "image": TOOLBOX,
        "imagePullPolicy": "IfNotPresent",
        "command": ["/bin/bash", "-c", "--"],
        "args": ["while true; do sleep 300000; done;"],
        "resources": {"requests": resources, "limits": resources},
    }
    annotations = {"k8s.v1.cni.cncf.io/networks": "sriov-net1"}
    one = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "testpod1", "annotations": annotations},
        "spec": {"containers": [container]},
    }
    cluster.kubectl("apply", "-n", cluster_namespace, "-f", "-", stdin=json.dumps(one))
    ready(cluster, cluster_namespace, "testpod1")
    said = inside(
        cluster, cluster_namespace, "testpod1", "echo $PCIDEVICE_INTEL_COM_INTEL_SRIOV_NETDEVICE"
    )
    assert said == MELLANOX_VFS[0]
    allocatable = f"jsonpath={{.status.allocatable.{NETDEVICE.replace('.', chr(92) + '.')}}}"
    node = f"node/{devices.node.name}"
    assert cluster.kubectl("get", node, "-o", allocatable) == "1"
    # The resource goes: whoever has a device of it keeps it.
    devices.have({})
    devices.offers(NETDEVICE)
    until(lambda: cluster.kubectl("get", node, "-o", allocatable) == "0", "none is left", SECONDS)
    ready(cluster, cluster_namespace, "testpod1")
    cluster.kubectl("delete", "-n", cluster_namespace, "pod/testpod1", "--grace-period=1")


def test_a_resource_of_another_device_plugin_is_left_to_it(devices: Plugin) -> None:
    async def other() -> None:
        endpoint = Endpoint(
            devices.sockets, NETDEVICE, (PluginDevice("0000:af:02.0"),), Path("/"), lambda: None
        )
        endpoint.path = devices.sockets / "other.sock"
        await endpoint.listen()
        request = api.RegisterRequest(api.VERSION, "other.sock", NETDEVICE, OPTIONS)
        await ask(devices.sockets / "kubelet.sock", api.REGISTER, request, api.Empty)
        until_ = asyncio.get_running_loop().time() + SECONDS

        async def come(condition: Any) -> None:
            while not await asyncio.to_thread(condition):
                assert asyncio.get_running_loop().time() < until_
                await asyncio.sleep(0.05)

        await come(lambda: devices.offered(NETDEVICE) == {"0000:af:02.0"})
        devices.have({NETDEVICE: {MELLANOX_VFS[0]: True}, DPDK: {FIRST: True}})
        await come(lambda: devices.problems() == {NETDEVICE: "ResourceTaken"})
        await come(lambda: devices.offered(DPDK) == {FIRST})
        assert await asyncio.to_thread(devices.offered, NETDEVICE) == {"0000:af:02.0"}
        await endpoint.close()
        await come(lambda: devices.offered(NETDEVICE) == {MELLANOX_VFS[0]})
        await come(lambda: devices.problems() == {})

    asyncio.run(other())
