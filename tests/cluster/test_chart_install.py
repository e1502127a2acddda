# SPDX-License-Identifier: Apache-2.0
"""The chart on a real API server: it installs, upgrades, rolls back and goes."""

import json
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from headrace_api import Json
from tests.cluster.chart import (
    CHART,
    CLUSTER_WIDE,
    NODE_AGENT,
    OURS,
    Release,
    compiled,
    only,
    render,
)
from tests.cluster.cluster import Api
from tests.cluster.earlier import newest_release, tree_of
from tests.cluster.sandbox import CommandError, until

SECONDS = 60.0
WITH_NODE_AGENT = ("--set", "nodeAgent.enabled=true")
KEPT = {
    "virtualnetworks.headrace.dev",
    "interfaces.headrace.dev",
    "pipelines.headrace.dev",
    "underlayendpoints.headrace.dev",
}
"""What the release before has, and this one too."""
FORMER = {"dataplaneconfigs.headrace.dev", "routeslices.headrace.dev"}
"""What the release before has, and this one not."""
CRDS = KEPT | {
    "devicepolicies.headrace.dev",
    "dataplaneconfigs.dataplane.headrace.dev",
    "nodestates.dataplane.headrace.dev",
    "slices.dataplane.headrace.dev",
}
IN_NAMESPACE = (
    "deployments,daemonsets,pods,services,serviceaccounts,configmaps,roles,rolebindings,"
    "poddisruptionbudgets,networkpolicies"
)
NETWORK: Json = {
    "apiVersion": "headrace.dev/v1alpha1",
    "kind": "VirtualNetwork",
    "metadata": {"name": "blue", "namespace": "default"},
    "spec": {"subnets": [{"prefix": "10.0.0.0/24"}]},
}


@pytest.fixture
def empty(bare_api: Api) -> Iterator[Release]:
    release = Release(bare_api, f"headrace-{uuid.uuid4()}")
    yield release
    release.clear()


def nothing_left(release: Release) -> bool:
    namespaced = f"{IN_NAMESPACE},dataplaneconfigs" if release.crds() else IN_NAMESPACE
    try:
        left = release.names(namespaced, "--namespace", release.namespace)
    except CommandError:
        # The kind has gone since it was looked for.
        return False
    left -= {"configmap/kube-root-ca.crt", "serviceaccount/default"}
    return not left and not release.names(CLUSTER_WIDE, *OURS)


def test_notes_say_what_comes_next(empty: Release) -> None:
    notes = empty.install()
    assert "pod-security.kubernetes.io/enforce=privileged" in notes
    assert "--set nodeAgent.enabled=true" in notes
    assert "helm test" not in notes
    empty.kubectl(
        *("label", "namespace", empty.namespace, "pod-security.kubernetes.io/enforce=privileged")
    )
    notes = empty.helm("upgrade", "headrace", CHART, *WITH_NODE_AGENT)
    assert "pod-security" not in notes
    assert f"helm test headrace -n {empty.namespace}" in notes


def test_upgrade_and_rollback_keep_what_exists(empty: Release, tmp_path: Path) -> None:
    earlier = ("--version", "0.0.9", "--app-version", "0.0.9")
    empty.helm("package", CHART, "--destination", tmp_path, *earlier)
    empty.install(chart=tmp_path / "headrace-0.0.9.tgz")
    empty.apply(NETWORK)
    compiled(empty, "node-a")

    def identities() -> dict[str, str]:
        namespaced = ("--namespace", empty.namespace)
        return {
            "anchor": empty.uid("configmap", "headrace-operator", *namespaced),
            "network": empty.uid("virtualnetwork", "blue"),
            "config": empty.uid("dataplaneconfig", "router.node-a", *namespaced),
            "daemonset": empty.uid("daemonset", "headrace-router", *namespaced),
            **{name: empty.uid("crd", name) for name in CRDS},
        }

    def image() -> str:
        deployment = empty.get("deployment", "headrace-operator", "--namespace", empty.namespace)
        return str(deployment["spec"]["template"]["spec"]["containers"][0]["image"])

    before = identities()
    assert image().endswith(":0.0.9")
    empty.helm("upgrade", "headrace", CHART, "--set", "logLevel=Debug")
    assert not image().endswith(":0.0.9")
    assert identities() == before
    empty.helm("rollback", "headrace", "1")
    assert image().endswith(":0.0.9")
    assert identities() == before


@pytest.mark.parametrize("keep", [True, False], ids=["CRDs stay", "CRDs go"])
def test_uninstall_leaves_nothing_else(empty: Release, keep: bool) -> None:
    empty.install("--set", f"crds.keep={str(keep).lower()}")
    empty.apply(NETWORK)
    compiled(empty, "node-a")
    empty.helm("uninstall", "headrace")
    until(lambda: nothing_left(empty), "everything of the release is gone", SECONDS)
    if keep:
        assert empty.crds() == CRDS
        assert empty.names("virtualnetworks") == {"virtualnetwork.headrace.dev/blue"}
    else:
        until(lambda: not empty.crds(), "the CRDs are gone", SECONDS)


@pytest.mark.parametrize("keep", [True, False], ids=["CRDs stay", "CRDs go"])
def test_kinds_of_the_release_before_stay_where_kinds_do(empty: Release, keep: bool) -> None:
    if not (commit := newest_release()):
        pytest.skip("no tag v* before this commit: fetch tags")
    values = ("--set", f"crds.keep={str(keep).lower()}")
    empty.install(*values, chart=tree_of(commit) / "helm/headrace")
    assert empty.crds() == KEPT | FORMER
    # Nobody runs the Job that converts, and nothing is there to convert.
    empty.helm("upgrade", "headrace", CHART, *values, "--no-hooks")
    until(lambda: empty.crds() == CRDS | (FORMER if keep else set()), "the kinds", SECONDS)
    # `kubectl get dpc` is about this release's.
    compiled(empty, "node-a")
    found = empty.names("dpc,dataplaneconfigs,dataplaneconfig", "--namespace", empty.namespace)
    assert found == {"dataplaneconfig.dataplane.headrace.dev/router.node-a"}


def test_networks_outlive_the_release(empty: Release) -> None:
    empty.install()
    empty.apply(NETWORK)
    uid = empty.uid("virtualnetwork", "blue")
    empty.helm("uninstall", "headrace")
    empty.install()
    assert empty.uid("virtualnetwork", "blue") == uid


@pytest.mark.parametrize("first", ["namespace", "CRDs", "deployment"])
def test_nothing_hangs_in_another_order(empty: Release, first: str) -> None:
    empty.install("--set", "crds.keep=false")
    empty.apply(NETWORK)
    compiled(empty, "node-a")
    if first == "deployment":
        empty.kubectl("delete", "deployment", "headrace-operator", "--namespace", empty.namespace)
        assert empty.names("daemonsets", "--namespace", empty.namespace)
        empty.helm("uninstall", "headrace")
    elif first == "CRDs":
        empty.kubectl("delete", "customresourcedefinitions", *OURS)
        empty.helm("uninstall", "headrace")
    else:
        empty.kubectl("delete", "namespace", empty.namespace)
        empty.kubectl("delete", f"customresourcedefinitions,{CLUSTER_WIDE}", *OURS)
    until(lambda: nothing_left(empty) and not empty.crds(), "everything is gone", SECONDS)


def test_pods_of_the_operator_are_restricted(empty: Release) -> None:
    """The API server itself enforces the level: pods come to be, or they do not."""
    empty.kubectl("create", "namespace", empty.namespace)
    empty.kubectl(
        *("label", "namespace", empty.namespace, "pod-security.kubernetes.io/enforce=restricted")
    )
    empty.install()
    operator = (
        "--namespace",
        empty.namespace,
        "--selector",
        "app.kubernetes.io/component=operator",
    )
    until(lambda: len(empty.names("pods", *operator)) == 2, "both replicas have a pod", SECONDS)
    objects = render(empty.api, NODE_AGENT, namespace=empty.namespace)
    empty.apply(only(objects, "ServiceAccount", "headrace-test"))
    pod = json.dumps(only(objects, "Pod", "headrace-test"))
    answer = empty.kubectl("create", "--dry-run=server", "-f", "-", stdin=pod)
    assert "pod/headrace-test created" in answer


def helm_test(release: Release, phase: str) -> str:
    """`helm test`, with a pod that ends like that: there is no kubelet to run it."""
    pod = ("pod", "headrace-test", "--namespace", release.namespace)
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(release.helm, "test", "headrace", "--timeout", f"{SECONDS:.0f}s")
        release.kubectl("wait", "--for=create", *pod, f"--timeout={SECONDS:.0f}s")
        status = json.dumps({"status": {"phase": phase}})
        release.kubectl("patch", *pod, "--subresource", "status", "--type=merge", "--patch", status)
        return answer.result()


def left_of_the_test(release: Release) -> set[str]:
    kinds = f"{IN_NAMESPACE},clusterroles,clusterrolebindings"
    found = release.names(kinds, "--namespace", release.namespace)
    return {item for item in found if item.endswith("headrace-test")}


def test_a_test_that_passed_leaves_nothing(empty: Release) -> None:
    empty.install(*WITH_NODE_AGENT)
    assert "Succeeded" in helm_test(empty, "Succeeded")
    assert not left_of_the_test(empty)


def test_a_test_that_failed_leaves_its_pod_and_no_right(empty: Release) -> None:
    empty.install(*WITH_NODE_AGENT)
    with pytest.raises(CommandError, match="headrace-test"):
        helm_test(empty, "Failed")
    assert left_of_the_test(empty) == {"pod/headrace-test"}
