# SPDX-License-Identifier: Apache-2.0
"""A cluster with an SR-IOV NIC, started when the first test asks, ended with the session.

`machine`  node-b: a virtual machine with an SR-IOV NIC and an IOMMU, see machine.py; node-a is one
           of namespaces, with room for the operator and for another engine
`site`     Headrace on both, as a user has it, with its node agent

HEADRACE_TEST_LOGS=FOLDER keeps the logs: the machine's is node-b.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.images import Images, build_images
from tests.cluster.site import NODE_AGENT, Site
from tests.sriov.machine import Machine


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    folder = Path(__file__).parent
    for item in items:
        if folder in item.path.parents:
            for mark in (pytest.mark.sriov, pytest.mark.cluster, pytest.mark.root):
                item.add_marker(mark)


@pytest.fixture(scope="session")
def cluster(pytestconfig: pytest.Config) -> Iterator[Cluster]:
    if os.geteuid() != 0:
        pytest.skip("needs root: makes namespaces, control groups and disks")
    # What the first build says has to be seen: it takes minutes.
    with pytestconfig.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        cluster = Cluster(nodes=1, more=1)
    with cluster:
        yield cluster


@pytest.fixture(scope="session")
def images(cluster: Cluster) -> Images:
    images = build_images()
    cluster.load_images(images.operator.tar, images.dataplane.tar)
    return images


@pytest.fixture(scope="session")
def machine(pytestconfig: pytest.Config, cluster: Cluster, images: Images) -> Machine:
    with pytestconfig.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        machine = Machine(cluster, [images.dataplane.tar, images.toolbox.tar])
    machine.ready()
    return machine


@pytest.fixture(scope="session")
def site(cluster: Cluster, images: Images, machine: Machine) -> Site:
    site = Site(cluster, images)
    # An emulated processor has better to do.
    values: dict[str, Any] = {
        **NODE_AGENT,
        "nodeAgent.sriov.restoreOnUninstall": True,
        "operator.nodeSelector": {"kubernetes.io/hostname": cluster.nodes[0].name},
    }
    site.install(**values)
    return site
