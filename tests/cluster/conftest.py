# SPDX-License-Identifier: Apache-2.0
"""Real clusters, started when the first test asks, ended with the session.

`api`            an API server and controllers, no nodes; or the cluster that
                 HEADRACE_TEST_KUBECONFIG names (its kubectl and helm come from PATH)
`control_plane`  the same, always our own: for tests that stop the API server
`bare_api`       an API server of a module's own, without Headrace's CRDs
`cluster`        two nodes in namespaces of this machine, always our own
`site`           Headrace on `cluster`, as a user has it
`pod_site`       the same with its node agent and a Pipeline for pods, and nobody's machines

Tests of our own clusters are skipped with HEADRACE_TEST_KUBECONFIG, as they enter the nodes.
HEADRACE_TEST_LOGS=FOLDER keeps the logs.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.cluster import REPOSITORY, Api, Cluster
from tests.cluster.images import Images, build_images
from tests.cluster.site import EXAMPLE, NODE_AGENT, Site

EXISTING = "HEADRACE_TEST_KUBECONFIG"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    folder = Path(__file__).parent
    for item in items:
        if folder in item.path.parents:
            item.add_marker(pytest.mark.cluster)
            item.add_marker(pytest.mark.root)


def start(config: pytest.Config, nodes: int) -> Cluster:
    if EXISTING in os.environ:
        pytest.skip(f"needs nodes and an API server of its own: unset {EXISTING}")
    if os.geteuid() != 0:
        pytest.skip("needs root: makes namespaces and control groups")
    # What the first build says has to be seen: it takes minutes.
    with config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        return Cluster(nodes)


@pytest.fixture(scope="session")
def control_plane(pytestconfig: pytest.Config) -> Iterator[Cluster]:
    with start(pytestconfig, 0) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def cluster(pytestconfig: pytest.Config) -> Iterator[Cluster]:
    with start(pytestconfig, 2) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def images(cluster: Cluster) -> Images:
    """Our images, on every node of `cluster`."""
    images = build_images()
    cluster.load_images(images.operator.tar, images.dataplane.tar, images.toolbox.tar)
    return images


@pytest.fixture(scope="module")
def site(cluster: Cluster, images: Images) -> Iterator[Site]:
    """Headrace on `cluster`, with the example of two tenants on two nodes, all of it Ready."""
    site = Site(cluster, images)
    try:
        site.plug()
        site.install()
        site.apply()
        yield site
    finally:
        site.clear()
        site.unplug()


@pytest.fixture(scope="module")
def pod_site(cluster: Cluster, images: Images) -> Iterator[Site]:
    """Headrace and its node agent on `cluster`, with the Pipeline of the example of pods."""
    site = Site(cluster, images)
    try:
        site.plug(tenants=())
        site.install(**NODE_AGENT)
        site.apply(EXAMPLE.parent / "pods/pipeline.yaml")
        yield site
    finally:
        site.clear()
        site.unplug()


@pytest.fixture(scope="session")
def api(request: pytest.FixtureRequest) -> Api:
    if EXISTING in os.environ:
        return Api(Path(os.environ[EXISTING]).absolute())
    api: Api = request.getfixturevalue("control_plane")
    return api


@pytest.fixture(scope="module")
def bare_api(pytestconfig: pytest.Config) -> Iterator[Api]:
    """An API server of the module's own, without Headrace's CRDs: for what installs them."""
    with start(pytestconfig, 0) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def crds(api: Api) -> None:
    """Headrace's CRDs, at `api`."""
    install_crds(api)


def install_crds(api: Api, tree: Path = REPOSITORY) -> None:
    """Install the CRDs of a tree of Headrace, and wait until they are served."""
    files = "-f", tree / "crds"
    # A test may have changed them.
    api.kubectl("apply", "--server-side", "--force-conflicts", *files)
    api.wait("--for=condition=Established", *files)


@pytest.fixture
def api_namespace(api: Api) -> Iterator[str]:
    """A fresh namespace at `api`."""
    with api.fresh_namespace() as name:
        yield name


@pytest.fixture
def cluster_namespace(cluster: Cluster) -> Iterator[str]:
    """A fresh namespace of `cluster`."""
    with cluster.fresh_namespace() as name:
        yield name
