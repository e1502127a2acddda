# SPDX-License-Identifier: Apache-2.0
"""Pods that get their networks by Multus: the real one, in place of the entry in the conflist."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace_api import pod_device
from tests.cluster.cluster import IMAGE, Cluster, Node
from tests.cluster.gotools import go_tools
from tests.cluster.images import Images
from tests.cluster.pods import pods, wait
from tests.cluster.sandbox import until
from tests.cluster.site import EXAMPLE, NODE_AGENT, SECONDS, Site

DIRECTORY = NODE_AGENT["nodeAgent.cni.confDirectory"]
CONFIG = {
    "cniVersion": "1.0.0",
    "name": "multus",
    "type": "multus",
    "kubeconfig": "/var/cni/multus.kubeconfig",
    "clusterNetwork": f"{DIRECTORY}/10-pods.conflist",
    "binDir": NODE_AGENT["nodeAgent.cni.binDirectory"],
    "cniDir": "/var/lib/multus",
}
KIND = "network-attachment-definitions.k8s.cni.cncf.io"
# https://github.com/k8snetworkplumbingwg/multi-net-spec: the kind, with as much as is read.
CRD = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": KIND},
    "spec": {
        "group": "k8s.cni.cncf.io",
        "scope": "Namespaced",
        "names": {
            "plural": "network-attachment-definitions",
            "singular": "network-attachment-definition",
            "kind": "NetworkAttachmentDefinition",
            "shortNames": ["net-attach-def"],
        },
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {
                                "type": "object",
                                "properties": {"config": {"type": "string"}},
                            }
                        },
                    }
                },
            }
        ],
    },
}
NETWORKS: list[dict[str, Any]] = [
    {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "blue"}},
    {
        "apiVersion": "headrace.dev/v1alpha1",
        "kind": "VirtualNetwork",
        "metadata": {"name": "blue", "namespace": "blue"},
        "spec": {"subnets": [{"prefix": "10.0.0.0/24"}, {"prefix": "fd00:10::/64"}]},
    },
    {
        "apiVersion": "k8s.cni.cncf.io/v1",
        "kind": "NetworkAttachmentDefinition",
        "metadata": {"name": "headrace", "namespace": "blue"},
        "spec": {
            "config": '{"cniVersion": "1.0.0", "name": "headrace", "type": "headrace-cni"}',
        },
    },
]


@pytest.fixture(scope="module")
def site(cluster: Cluster, images: Images) -> Iterator[Site]:
    """Headrace whose node agent leaves the conflist alone, and Multus on every node."""
    site = Site(cluster, images)
    program = (go_tools(Path(__file__).with_name("cni")) / "multus").read_bytes()
    try:
        site.plug(tenants=())
        values: dict[str, Any] = {**NODE_AGENT, "nodeAgent.cni.chained": False}
        site.install(**values)
        site.apply(EXAMPLE.parent / "pods/pipeline.yaml")
        apply(site, CRD)
        cluster.wait("crd", KIND, "--for=condition=Established")
        for node in site.nodes:
            path = node.namespace.path(f"{CONFIG['binDir']}/multus")
            path.write_bytes(program)
            path.chmod(0o755)
            kubeconfig = cluster.sandbox.root.path(cluster.inner_kubeconfig).read_text()
            node.namespace.path(CONFIG["kubeconfig"]).write_text(kubeconfig)
            first(node).write_text(json.dumps(CONFIG))
        yield site
    finally:
        for node in site.nodes:
            first(node).unlink(missing_ok=True)
        cluster.kubectl("delete", "namespace", "blue", "--ignore-not-found")
        cluster.kubectl("delete", "crd", KIND, "--ignore-not-found")
        site.clear()
        site.unplug()


def first(node: Node) -> Path:
    """The configuration that the runtime takes, as its name is the first."""
    return node.namespace.path(f"{DIRECTORY}/00-multus.conf")


def apply(site: Site, *items: Any) -> None:
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    site.cluster.kubectl("apply", "-f", "-", stdin=text)


def pod(name: str, node: Node, image: str, annotations: dict[str, str]) -> Any:
    container = {"name": "c", "image": image, "imagePullPolicy": "Never"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "blue", "annotations": annotations},
        "spec": {
            "nodeName": node.name,
            "terminationGracePeriodSeconds": 0,
            "containers": [container],
        },
    }


def test_a_pod_that_names_the_attachment_joins_its_network(site: Site, images: Images) -> None:
    joins = {
        "k8s.v1.cni.cncf.io/networks": "headrace",
        "headrace.dev/networks": '[{"network": "blue", "device": "blue0"}]',
    }
    apply(site, *NETWORKS)
    apply(
        site,
        *(
            pod(name, node, images.toolbox.name, joins)
            for name, node in zip(("one", "two"), site.nodes, strict=True)
        ),
        pod("other", site.nodes[0], IMAGE, {}),
    )
    wait(site, "pod", "--all", "-n", "blue")
    one, two = pods(site, "blue")
    for address in two.addresses:
        one.run("ping", "-c3", "-i0.2", "-w60", "-I", "blue0", address)
    other = site.get("pod", "other", "-n", "blue")
    status = json.loads(other["metadata"]["annotations"]["k8s.v1.cni.cncf.io/network-status"])
    assert [each["name"] for each in status] == ["pods"]
    status = json.loads(
        site.get("pod", "one", "-n", "blue")["metadata"]["annotations"][
            "k8s.v1.cni.cncf.io/network-status"
        ]
    )
    assert {*status[1]["ips"]} == {*one.addresses}

    site.cluster.kubectl("delete", "pod", "--all", "-n", "blue")

    def gone() -> bool:
        links = json.loads(site.nodes[0].namespace.command("ip", "-j", "link"))
        return pod_device("blue/one-blue") not in {link["ifname"] for link in links}

    until(gone, "the device is gone", SECONDS)


def test_the_conflist_is_left_alone(site: Site) -> None:
    for node in site.nodes:
        config = json.loads(node.namespace.path(f"{DIRECTORY}/10-pods.conflist").read_text())
        assert [plugin["type"] for plugin in config["plugins"]] == ["bridge"]
