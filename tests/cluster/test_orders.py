# SPDX-License-Identifier: Apache-2.0
"""Headrace goes in any order: nothing hangs, and nothing of it is left on the cluster.

How long each order takes is printed: from the first command until all is gone.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cluster.chart import CHART, CLUSTER_WIDE, NAMESPACE, OURS
from tests.cluster.cluster import Cluster
from tests.cluster.images import Images
from tests.cluster.operators import condition
from tests.cluster.sandbox import CommandError, until
from tests.cluster.site import EXAMPLE, OPERATOR, PODS, SECONDS, Site, processes

KINDS = "pipelines,virtualnetworks,interfaces"
COMPILED = "dataplaneconfigs,slices,daemonsets"
TENANTS = ("blue", "red")


@pytest.fixture(scope="module")
def bare(cluster: Cluster, images: Images) -> Iterator[Site]:
    """Two nodes with the tenants' machines, and no Headrace."""
    site = Site(cluster, images)
    try:
        site.plug()
        yield site
    finally:
        if exists(site, "customresourcedefinitions", *OURS):
            site.clear()
        site.unplug()


@pytest.fixture
def forwarding(bare: Site) -> Site:
    """Headrace with the example, all of it Ready; a chart that is there already stays."""
    if not exists(bare, "deployment", "headrace-operator", "-n", NAMESPACE):
        bare.install()
    bare.apply()
    assert len(engines(bare)) == len(bare.nodes)
    assert hugepages(bare) > 0
    return bare


def pipeline_first(site: Site) -> None:
    site.cluster.kubectl("delete", "pipeline", "router")
    until(lambda: reasons(site, "blue", "red") == {"PipelineNotFound"}, "it is told", SECONDS)
    until(lambda: not engines(site), "the engines have ended", SECONDS)
    delete_objects(site)


def network_first(site: Site) -> None:
    site.cluster.kubectl("delete", "virtualnetwork", "blue", "-n", "blue")
    until(lambda: reasons(site, "blue") == {"NetworkNotFound"}, "it is told", SECONDS)
    assert reasons(site, "red") == {"Forwarding"}
    delete_objects(site)


def namespace_first(site: Site) -> None:
    site.cluster.kubectl("delete", "namespace", "blue")
    assert reasons(site, "red") == {"Forwarding"}
    delete_objects(site)


def objects_then_chart(site: Site) -> None:
    delete_objects(site)
    uninstall(site)
    delete_crds(site)


def chart_then_objects(site: Site) -> None:
    uninstall(site)
    assert reasons(site, "blue", "red") == {"Forwarding"}
    delete_objects(site)
    delete_crds(site)


def chart_with_its_crds(site: Site) -> None:
    keep = ("--reuse-values", "--set", "crds.keep=false")
    site.cluster.helm("upgrade", "headrace", CHART, "-n", NAMESPACE, *keep)
    uninstall(site)
    site.cluster.kubectl("delete", "namespace", *TENANTS)


def deployment_first(site: Site) -> None:
    before = engines(site)
    site.cluster.kubectl("delete", "deployment", "headrace-operator", "-n", NAMESPACE)
    site.cluster.kubectl("wait", "--for=delete", "pod", *OPERATOR, f"--timeout={SECONDS:.0f}s")
    delete_objects(site)
    # Nobody is there to carry it out: what forwards goes on until the chart goes.
    assert engines(site) == before
    uninstall(site)
    delete_crds(site)


def headraces_namespace_first(site: Site) -> None:
    site.cluster.kubectl("delete", "namespace", NAMESPACE)
    delete_objects(site)
    # Helm's record of the release went with the namespace.
    site.cluster.kubectl("delete", f"customresourcedefinitions,{CLUSTER_WIDE}", *OURS)


def crds_first(site: Site) -> None:
    delete_crds(site)
    uninstall(site)
    site.cluster.kubectl("delete", "namespace", *TENANTS)
    # The garbage collector looks owners up, and of a kind that is gone it cannot: what it has not
    # reached by then stays, and a person removes it as docs/install.md says.
    leases = ("-n", NAMESPACE, "-l", "app.kubernetes.io/component=dataplane")
    site.cluster.kubectl("delete", "leases", *leases, "--ignore-not-found")


def delete_objects(site: Site) -> None:
    site.cluster.kubectl("delete", "-f", EXAMPLE, "--ignore-not-found")


def uninstall(site: Site) -> None:
    site.cluster.helm("uninstall", "headrace", "-n", NAMESPACE, "--wait")


def delete_crds(site: Site) -> None:
    site.cluster.kubectl("delete", "customresourcedefinitions", *OURS)


def reasons(site: Site, *namespaces: str) -> set[str]:
    """Why the Interfaces there are Ready, or not."""
    found = [item for name in namespaces for item in site.get("interfaces", "-n", name)]
    return {condition(item)["reason"] for item in found}


def exists(site: Site, *words: str) -> bool:
    return bool(site.cluster.kubectl("get", *words, "--ignore-not-found", "-o", "name"))


def engines(site: Site) -> list[int]:
    """The host's numbers of the engines' processes, in pods known to the API server or not."""
    return programs(site, "headrace-engine")


def programs(site: Site, *names: str) -> list[int]:
    return processes([site.cluster.sandbox.name], *names)


def hugepages(site: Site) -> int:
    """Bytes in hugepages that pods of the nodes have."""
    files = [
        *Path("/sys/fs/cgroup/hugetlb").glob(f"{site.cluster.sandbox.name}-*/*.2MB.usage_in_bytes"),
        *Path("/sys/fs/cgroup").glob(f"{site.cluster.sandbox.name}-*/hugetlb.2MB.current"),
    ]
    assert files
    return sum(int(file.read_text()) for file in files)


def running(site: Site) -> list[str]:
    """What is left on the nodes."""
    found = programs(site, "headrace-engine", "headrace-agent")
    pages = hugepages(site)
    return [f"process {pid}" for pid in found] + ([f"{pages} bytes of hugepages"] if pages else [])


def objects(site: Site) -> list[str]:
    """What is left of people's objects, and of what the operator made of them."""
    listed = [
        *site.cluster.kubectl("get", KINDS, "-A", "-o", "name").split(),
        *site.cluster.kubectl("get", COMPILED, "-n", NAMESPACE, "-o", "name").split(),
        *site.cluster.kubectl("get", "pods", *PODS, "-o", "name").split(),
    ]
    return listed + tenants(site)


def tenants(site: Site) -> list[str]:
    listed = site.cluster.kubectl("get", "namespaces", *TENANTS, "-o", "name", "--ignore-not-found")
    return listed.split()


def everything(site: Site) -> list[str]:
    """What is left of Headrace."""
    shared = f"customresourcedefinitions,{CLUSTER_WIDE}"
    listed = site.cluster.kubectl("get", shared, *OURS, "-o", "name").split()
    stays = exists(site, "namespace", NAMESPACE)
    return [*listed, *tenants(site), *(site.left() if stays else ())]


def goes(
    site: Site, order: Callable[[Site], None], left: Callable[[Site], list[str]]
) -> Callable[[], float]:
    """Go through the order, and wait until nothing is left; returns how long it took so far."""
    began = time.monotonic()
    order(site)
    found: list[str] = []

    def gone() -> bool:
        try:
            found[:] = left(site) + running(site)
        except CommandError as error:
            # Kinds come and go under the hands of kubectl.
            found[:] = [str(error)]
        return not found

    try:
        until(gone, "all is gone", SECONDS)
    except CommandError as error:
        raise AssertionError(f"{error}: {found}\n{site.report()}") from error
    return lambda: time.monotonic() - began


@pytest.mark.parametrize("order", [pipeline_first, network_first, namespace_first])
def test_objects_go_in_any_order(
    forwarding: Site, order: Callable[[Site], None], say: Callable[[str], None]
) -> None:
    seconds = goes(forwarding, order, objects)()
    say(f"{order.__name__}: gone after {seconds:.0f} s")
    assert exists(forwarding, "deployment", "headrace-operator", "-n", NAMESPACE)


@pytest.mark.parametrize(
    "order",
    [
        objects_then_chart,
        chart_then_objects,
        chart_with_its_crds,
        deployment_first,
        headraces_namespace_first,
        crds_first,
    ],
)
def test_headrace_goes_in_any_order(
    forwarding: Site, order: Callable[[Site], None], say: Callable[[str], None]
) -> None:
    seconds = goes(forwarding, order, everything)()
    say(f"{order.__name__}: gone after {seconds:.0f} s")
    stuck = [
        pod["metadata"]["name"]
        for pod in forwarding.get("pods", "-A")
        if "deletionTimestamp" in pod["metadata"]
    ]
    assert stuck == []
