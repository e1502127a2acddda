# SPDX-License-Identifier: Apache-2.0
"""The chart on a real API server: what it takes, and who may what."""

import json
from pathlib import Path
from typing import Any

import pytest

from headrace_api import Json
from headrace_kube import DATAPLANE_CONFIGS, FORMER_CONFIGS, NODE_STATES, PIPELINES, Kind
from tests.cluster.chart import (
    NAMESPACE,
    NODE_AGENT,
    VALUES,
    Release,
    compiled,
    only,
    render,
)
from tests.cluster.cluster import Api
from tests.cluster.earlier import newest_release, tree_of
from tests.cluster.sandbox import CommandError, until

SECONDS = 60.0
OPERATOR = f"system:serviceaccount:{NAMESPACE}:headrace-operator"
DATAPLANE = f"system:serviceaccount:{NAMESPACE}:headrace-dataplane"
NODE = f"system:serviceaccount:{NAMESPACE}:headrace-node"


_RIGHTS = (
    *("ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"),
    *("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"),
)


@pytest.fixture(scope="module")
def installed(bare_api: Api) -> Release:
    release = Release(bare_api)
    release.install()
    # The test's pod cannot come to be without it.
    with_agent = render(bare_api, NODE_AGENT)
    release.apply(only(with_agent, "ServiceAccount", "headrace-test"))
    # Nor has the API server the node agent's image.
    for kind in _RIGHTS:
        release.apply(only(with_agent, kind, "headrace-node"))
    return release


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES.keys())
def test_the_api_server_takes_every_object(installed: Release, values: Json) -> None:
    # Kinds of the Prometheus operator are not the API server's own.
    objects: Any = [
        item
        for item in render(installed.api, values)
        if not str(item["apiVersion"]).startswith("monitoring.coreos.com/")
    ]
    answer = installed.kubectl(
        *("apply", "--server-side", "--force-conflicts", "--dry-run=server", "-f", "-"),
        *("--field-manager", "helm"),
        stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}),
    )
    assert len(answer.splitlines()) == len(objects)


@pytest.mark.parametrize(
    ("verbs", "what", "where"),
    [
        ("get list watch", "virtualnetworks.headrace.dev", "default"),
        ("get list watch create patch delete", "interfaces.headrace.dev", "default"),
        ("get list watch", "pipelines.headrace.dev", ""),
        ("patch", "virtualnetworks.headrace.dev/status", "default"),
        ("patch", "interfaces.headrace.dev/status", "default"),
        ("patch", "pipelines.headrace.dev/status", ""),
        ("get list watch", "devicepolicies.headrace.dev", ""),
        ("patch", "devicepolicies.headrace.dev/status", ""),
        ("get list watch create patch delete", "nodestates.dataplane.headrace.dev", ""),
        ("get list watch", "nodes", ""),
        ("get list watch", "pods", "default"),
        ("delete", "pods", NAMESPACE),
        ("create", "events.events.k8s.io", "default"),
        (
            "get list watch create patch delete",
            "dataplaneconfigs.dataplane.headrace.dev",
            NAMESPACE,
        ),
        ("get list watch create patch delete", "slices.dataplane.headrace.dev", NAMESPACE),
        # For dataplane pods of the release before.
        ("get list watch create patch delete", "dataplaneconfigs.headrace.dev", NAMESPACE),
        ("get list watch create patch delete", "routeslices.headrace.dev", NAMESPACE),
        ("get list watch create patch delete", "daemonsets.apps", NAMESPACE),
        ("create list", "leases.coordination.k8s.io", NAMESPACE),
        ("get update patch", "leases.coordination.k8s.io:headrace-operator", NAMESPACE),
        ("get patch", "configmaps:headrace-operator", NAMESPACE),
    ],
)
def test_what_the_operator_may(installed: Release, verbs: str, what: str, where: str) -> None:
    refused = [verb for verb in verbs.split() if not installed.may(OPERATOR, verb, what, where)]
    assert not refused


@pytest.mark.parametrize(
    ("user", "verb", "what", "where"),
    [
        (OPERATOR, "get", "secrets", NAMESPACE),
        (OPERATOR, "create", "pods", NAMESPACE),
        (OPERATOR, "list", "configmaps", NAMESPACE),
        (OPERATOR, "patch", "configmaps:another", NAMESPACE),
        (OPERATOR, "patch", "leases.coordination.k8s.io:another", NAMESPACE),
        (OPERATOR, "create", "daemonsets.apps", "default"),
        (OPERATOR, "create", "dataplaneconfigs.dataplane.headrace.dev", "default"),
        (OPERATOR, "patch", "pods", "default"),
        (OPERATOR, "delete", "pods", "default"),
        (OPERATOR, "patch", "virtualnetworks.headrace.dev", "default"),
        (OPERATOR, "delete", "virtualnetworks.headrace.dev", "default"),
        (OPERATOR, "patch", "nodes", NAMESPACE),
        (OPERATOR, "patch", "devicepolicies.headrace.dev", ""),
        (OPERATOR, "patch", "nodestates.dataplane.headrace.dev/status", ""),
        (NODE, "patch", "nodestates.dataplane.headrace.dev", ""),
        (NODE, "create", "nodestates.dataplane.headrace.dev", ""),
        (NODE, "delete", "nodestates.dataplane.headrace.dev", ""),
        (NODE, "get", "devicepolicies.headrace.dev", ""),
        (NODE, "patch", "devicepolicies.headrace.dev/status", ""),
        (NODE, "list", "pipelines.headrace.dev", ""),
        (NODE, "list", "nodes", ""),
        (NODE, "patch", "nodes", ""),
        (NODE, "get", "secrets", NAMESPACE),
        (DATAPLANE, "patch", "nodestates.dataplane.headrace.dev", ""),
        (DATAPLANE, "patch", "nodestates.dataplane.headrace.dev/status", ""),
        (DATAPLANE, "patch", "dataplaneconfigs.dataplane.headrace.dev", NAMESPACE),
        (DATAPLANE, "delete", "dataplaneconfigs.dataplane.headrace.dev", NAMESPACE),
        (DATAPLANE, "patch", "slices.dataplane.headrace.dev", NAMESPACE),
        (DATAPLANE, "patch", "dataplaneconfigs.headrace.dev", NAMESPACE),
        (DATAPLANE, "patch", "routeslices.headrace.dev", NAMESPACE),
        (DATAPLANE, "list", "dataplaneconfigs.dataplane.headrace.dev", "default"),
        (DATAPLANE, "list", "interfaces.headrace.dev", NAMESPACE),
        (DATAPLANE, "list", "pods", NAMESPACE),
        (DATAPLANE, "list", "leases.coordination.k8s.io", NAMESPACE),
        (DATAPLANE, "delete", "leases.coordination.k8s.io", NAMESPACE),
        (DATAPLANE, "create", "leases.coordination.k8s.io", "kube-system"),
        (DATAPLANE, "get", "secrets", NAMESPACE),
    ],
)
def test_what_nobody_may(installed: Release, user: str, verb: str, what: str, where: str) -> None:
    assert not installed.may(user, verb, what, where)


@pytest.mark.parametrize(
    ("role", "may", "may_not"),
    [
        ("view", ["list interfaces", "watch virtualnetworks"], ["create interfaces"]),
        ("edit", ["create interfaces", "delete virtualnetworks"], ["patch interfaces/status"]),
        ("admin", ["patch interfaces", "list virtualnetworks"], ["patch slices.dataplane"]),
    ],
)
def test_roles_of_the_cluster_know_the_kinds(
    installed: Release, role: str, may: list[str], may_not: list[str]
) -> None:
    installed.apply(
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": f"headrace-{role}", "namespace": "default"},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "ClusterRole",
                "name": role,
            },
            "subjects": [
                {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": f"a-{role}"}
            ],
        }
    )

    def can(words: str) -> bool:
        verb, kind = words.split()
        plural, slash, subresource = kind.partition("/")
        what = f"{plural}.headrace.dev{slash}{subresource}"
        return installed.may(f"a-{role}", verb, what, "default")

    # The controller manager aggregates roles in its own time.
    until(lambda: all(map(can, may)), f"{role} may {may}", SECONDS)
    assert not any(map(can, may_not))
    assert not installed.may(f"a-{role}", "create", "pipelines.headrace.dev")
    assert not installed.may(f"a-{role}", "create", "devicepolicies.headrace.dev")


class Agents:
    """Service-account tokens as the kubelets of two nodes hand them to pods of an account."""

    def __init__(self, release: Release, folder: Path, account: str = "headrace-dataplane") -> None:
        self.account = account
        self.release = release
        self.folder = folder
        self.config = json.loads(
            release.kubectl("config", "view", "--raw", "--minify", "--output", "json")
        )
        for node in ("node-a", "node-b"):
            release.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}})
            compiled(release, node)
            release.apply(
                {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "metadata": {"name": f"{account}-on-{node}", "namespace": NAMESPACE},
                    "spec": {
                        "nodeName": node,
                        "serviceAccountName": account,
                        "containers": [{"name": "agent", "image": "localhost/none:1"}],
                    },
                }
            )
        self.kubeconfigs = {
            "a pod on node-a": self.kubeconfig("Pod", f"{account}-on-node-a"),
            "a pod on node-b": self.kubeconfig("Pod", f"{account}-on-node-b"),
            "node-a": self.kubeconfig("Node", "node-a"),
            "no node": self.kubeconfig(),
        }

    def kubeconfig(self, *bound: str) -> Path:
        """A kubeconfig with a token that is bound to an object, or to none, and nothing else."""
        options = (
            ("--bound-object-kind", bound[0], "--bound-object-name", bound[1]) if bound else ()
        )
        words = ("create", "token", self.account, "--namespace", NAMESPACE, *options)
        token = self.release.kubectl(*words).strip()
        (user,) = self.config["users"]
        path = self.folder / "-".join(("kubeconfig", *bound))
        path.write_text(
            json.dumps(self.config | {"users": [{"name": user["name"], "user": {"token": token}}]})
        )
        return path

    def apply(
        self,
        whose: str,
        config: str,
        spec: Json,
        subresource: str = "status",
        kind: Kind = DATAPLANE_CONFIGS,
    ) -> str:
        """What the API server says to this status, applied with a token."""
        item: Json = {
            "apiVersion": kind.api_version,
            "kind": kind.name,
            "metadata": {"name": config, **({"namespace": NAMESPACE} if kind.namespaced else {})},
            "spec": spec,
            "status": {"observedGeneration": 1},
        }
        words = ("apply", "--server-side", "--force-conflicts", "--field-manager", "headrace-agent")
        part = ("--subresource", subresource) if subresource else ()
        return self.kubectl(whose, *words, *part, "-f", "-", stdin=json.dumps(item))

    def renew(self, whose: str, lease: str, pipeline: str, holder: str) -> str:
        """What the API server says to this Lease, applied with a token."""
        labels: Json = {"headrace.dev/pipeline": pipeline} if pipeline else {}
        item: Json = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": lease, "namespace": NAMESPACE, "labels": labels},
            "spec": {"holderIdentity": holder},
        }
        words = ("apply", "--server-side", "--force-conflicts", "-f", "-")
        return self.kubectl(whose, *words, stdin=json.dumps(item))

    def kubectl(self, whose: str, *words: str, stdin: str = "") -> str:
        """What kubectl says, with a token."""
        agent = Api(self.kubeconfigs[whose], self.release.api.environment)
        try:
            return agent.kubectl(*words, stdin=stdin)
        except CommandError as error:
            return str(error)


@pytest.fixture(scope="module")
def dataplanes(installed: Release, tmp_path_factory: pytest.TempPathFactory) -> Agents:
    dataplanes = Agents(installed, tmp_path_factory.mktemp("tokens"))
    # The API server takes a policy up in its own time.
    until(
        lambda: (
            "forbidden" in dataplanes.apply("no node", "router.node-a", {})
            and "forbidden" in dataplanes.renew("no node", "router.none", "router", "none")
        ),
        "the admission policies are in force",
        SECONDS,
    )
    return dataplanes


@pytest.mark.parametrize("whose", ["a pod on node-a", "node-a"])
def test_a_dataplane_reports_on_its_own_node(dataplanes: Agents, whose: str) -> None:
    assert "serverside-applied" in dataplanes.apply(whose, "router.node-a", {})


@pytest.mark.parametrize(
    ("whose", "config", "said"),
    [
        ("a pod on node-b", "router.node-a", "of node node-a, the token is of node node-b"),
        ("a pod on node-a", "router.node-b", "of node node-b, the token is of node node-a"),
        ("node-a", "router.node-b", "of node node-b, the token is of node node-a"),
        ("no node", "router.node-a", "of node node-a, the token is of no node"),
    ],
)
def test_a_dataplane_reports_on_no_other_node(
    dataplanes: Agents, whose: str, config: str, said: str
) -> None:
    assert said in dataplanes.apply(whose, config, {})


def test_nor_does_one_of_the_release_before(dataplanes: Agents) -> None:
    if not (commit := newest_release()):
        pytest.skip("no tag v* before this commit: fetch tags")
    release, name = dataplanes.release, "router.node-a"
    words = ("-f", tree_of(commit) / "crds/headrace.dev_dataplaneconfigs.yaml")
    release.kubectl("apply", *words)
    release.api.wait("--for=condition=Established", *words)
    try:
        found = release.get("dataplaneconfig", name, "--namespace", NAMESPACE)
        metadata: Json = {"name": name, "namespace": NAMESPACE}
        kind = {"apiVersion": FORMER_CONFIGS.api_version, "kind": FORMER_CONFIGS.name}
        release.apply({**kind, "metadata": metadata, "spec": found["spec"]})
        said = dataplanes.apply("a pod on node-b", name, {}, kind=FORMER_CONFIGS)
        assert "of node node-a, the token is of node node-b" in said
        said = dataplanes.apply("a pod on node-a", name, {}, kind=FORMER_CONFIGS)
        assert "serverside-applied" in said
    finally:
        release.kubectl("delete", *words)


def test_a_dataplane_cannot_claim_a_node(dataplanes: Agents) -> None:
    """A status is written beside the spec that is stored, whatever spec is sent along."""
    claimed = dataplanes.apply("a pod on node-b", "router.node-a", {"nodeName": "node-b"})
    assert "of node node-a, the token is of node node-b" in claimed


def test_a_dataplane_writes_no_spec(dataplanes: Agents) -> None:
    spec: Json = {"workers": {"count": 2}}
    answer = dataplanes.apply("a pod on node-a", "router.node-a", spec, subresource="")
    assert 'cannot patch resource "dataplaneconfigs"' in answer


def test_the_policy_concerns_dataplanes_alone(dataplanes: Agents) -> None:
    answer = dataplanes.release.kubectl(
        *("patch", "dataplaneconfig", "router.node-b", "--namespace", NAMESPACE),
        *("--subresource", "status", "--type", "merge"),
        *("--patch", '{"status": {"observedGeneration": 1}}'),
    )
    assert "patched" in answer


def test_a_dataplane_renews_the_lease_of_its_own_node(dataplanes: Agents) -> None:
    for _ in range(2):
        said = dataplanes.renew("a pod on node-a", "router.node-a", "router", "node-a")
        assert "serverside-applied" in said
    # Nobody else does, whomever it says it is.
    for node in ("node-a", "node-b"):
        said = dataplanes.renew("a pod on node-b", "router.node-a", "router", node)
        assert "router.node-a, the token is of node node-b" in said


@pytest.mark.parametrize(
    ("lease", "pipeline", "holder"),
    [
        ("router.node-b", "router", "node-b"),
        # Its own holder under another's name; a Pipeline that cannot be; the operator's.
        ("router.node-b", "router", "node-a"),
        ("router.b.node-a", "router.b", "node-a"),
        ("headrace-operator", "router", "node-a"),
        ("headrace-operator", "", "node-a"),
        ("core.node-a", "core", "node-b"),
    ],
)
def test_a_dataplane_renews_no_other_lease(
    dataplanes: Agents, lease: str, pipeline: str, holder: str
) -> None:
    if lease == "headrace-operator":
        dataplanes.release.apply(
            {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": lease, "namespace": NAMESPACE},
                "spec": {"holderIdentity": "headrace-operator-1"},
            }
        )
    said = dataplanes.renew("a pod on node-a", lease, pipeline, holder)
    assert f"a dataplane may renew the Lease of its own node only: this is {lease}" in said
    assert "the token is of node node-a" in said


@pytest.fixture(scope="module")
def node_agents(installed: Release, tmp_path_factory: pytest.TempPathFactory) -> Agents:
    agents = Agents(installed, tmp_path_factory.mktemp("node-tokens"), "headrace-node")
    for node in ("node-a", "node-b"):
        installed.apply(
            {
                "apiVersion": NODE_STATES.api_version,
                "kind": NODE_STATES.name,
                "metadata": {"name": node},
                "spec": {"nodeName": node},
            }
        )
    until(
        lambda: "forbidden" in report(agents, "no node", "node-a"),
        "the admission policy is in force",
        SECONDS,
    )
    return agents


def report(agents: Agents, whose: str, node: str, subresource: str = "status") -> str:
    return agents.apply(whose, node, {"nodeName": node}, subresource, NODE_STATES)


@pytest.mark.parametrize("whose", ["a pod on node-a", "node-a"])
def test_a_node_agent_reports_on_its_own_node(node_agents: Agents, whose: str) -> None:
    assert "serverside-applied" in report(node_agents, whose, "node-a")


@pytest.mark.parametrize(
    ("whose", "node", "said"),
    [
        ("a pod on node-b", "node-a", "of node node-a, the token is of node node-b"),
        ("a pod on node-a", "node-b", "of node node-b, the token is of node node-a"),
        ("no node", "node-a", "of node node-a, the token is of no node"),
    ],
)
def test_a_node_agent_reports_on_no_other_node(
    node_agents: Agents, whose: str, node: str, said: str
) -> None:
    assert said in report(node_agents, whose, node)


def test_a_node_agent_writes_no_spec_and_makes_no_node_state(node_agents: Agents) -> None:
    for node in ("node-a", "node-c"):
        answer = report(node_agents, "a pod on node-a", node, "")
        assert 'cannot patch resource "nodestates"' in answer


@pytest.mark.parametrize(
    ("words", "refused"),
    [
        ("nodestates", False),
        ("interfaces --all-namespaces", False),
        ("devicepolicies", True),
        ("pipelines", True),
        ("secrets --namespace headrace-system", True),
        ("nodes", True),
    ],
)
def test_what_a_node_agent_reads(node_agents: Agents, words: str, refused: bool) -> None:
    answer = node_agents.kubectl("a pod on node-a", "get", *words.split())
    assert ("orbidden" in answer) is refused


def test_a_pci_address_of_a_pipeline_is_warned_of(installed: Release) -> None:
    def answer(device: Json) -> str:
        entry: Json = {"name": "vfs", "type": "SRIOV", **device}
        pipeline: Json = {
            "apiVersion": PIPELINES.api_version,
            "kind": PIPELINES.name,
            "metadata": {"name": "advised"},
            "spec": {"underlayPrefixes": ["fd00:1::/48"], "devices": [entry]},
        }
        # kubectl warns on its standard error, where a failure's words come from.
        words = ("create", "--dry-run=server", "--warnings-as-errors", "-f", "-")
        try:
            return installed.kubectl(*words, stdin=json.dumps(pipeline))
        except CommandError as error:
            return str(error)

    def warns() -> bool:
        return "give resourceName" in answer({"pciAddresses": ["0000:3b:02.*"]})

    until(warns, "the admission policy is in force", SECONDS)
    assert "created" in answer({"resourceName": "headrace.dev/cx6", "count": 1})
