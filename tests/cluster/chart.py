# SPDX-License-Identifier: Apache-2.0
"""The chart: rendered, installed, and many sets of values for it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import yaml

from headrace_api import Json
from headrace_kube import DATAPLANE_CONFIGS
from tests.cluster.cluster import Api

REPOSITORY = Path(__file__).parents[2]
CHART = REPOSITORY / "helm/headrace"
NAMESPACE = "headrace-system"
OURS = ("--selector", "app.kubernetes.io/name=headrace")
"""Every object of the chart."""
CLUSTER_WIDE = (
    "clusterroles,clusterrolebindings,validatingadmissionpolicies,validatingadmissionpolicybindings"
)

DIGEST = "sha256:" + "0123456789abcdef" * 4
EXTRAS: Json = {
    "priorityClassName": "",
    "podLabels": {"team": "network"},
    "podAnnotations": {"example.com/note": "yes: no"},
    "extraEnv": [
        {"name": "HTTPS_PROXY", "value": "http://proxy:3128"},
        {"name": "HOST", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIP"}}},
    ],
    "extraVolumes": [{"name": "ca", "configMap": {"name": "ca", "optional": True}}],
    "extraVolumeMounts": [{"name": "ca", "mountPath": "/etc/ca", "readOnly": True}],
    "serviceAccount": {"annotations": {"example.com/role": "r"}},
}
NODE_AGENT: Json = {"nodeAgent": {"enabled": True}}
VALUES: dict[str, Json] = {
    "default": {},
    "one replica": {"operator": {"replicas": 1, "podDisruptionBudget": {"enabled": False}}},
    "half may go": {"operator": {"podDisruptionBudget": {"maxUnavailable": "50%"}}},
    "digests": {
        "imagePullSecrets": [{"name": "registry"}, {"name": "mirror"}],
        "operator": {"image": {"registry": "localhost:5000", "digest": DIGEST}},
        "dataplane": {"image": {"registry": "", "digest": DIGEST, "pullPolicy": "Always"}},
    },
    "tags": {
        "operator": {"image": {"tag": "v0.3.0-rc.1"}},
        "dataplane": {"image": {"repository": "mirror/headrace/dataplane", "tag": "1"}},
    },
    "extras": {
        "logLevel": "Debug",
        "commonLabels": {"example.com/team": "network", "app.kubernetes.io/part-of": "platform"},
        "operator": {**EXTRAS, "service": {"annotations": {"example.com/a": "b"}}},
        "dataplane": EXTRAS,
    },
    "placement": {
        "operator": {
            "nodeSelector": {"node-role.kubernetes.io/control-plane": ""},
            "tolerations": [{"operator": "Exists", "effect": "NoSchedule"}],
            "affinity": {
                "podAntiAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": [
                        {
                            "topologyKey": "kubernetes.io/hostname",
                            "labelSelector": {
                                "matchLabels": {"app.kubernetes.io/name": "headrace"}
                            },
                        }
                    ]
                }
            },
            "topologySpreadConstraints": [],
            "resources": {"requests": {"cpu": 1, "memory": "1Gi"}, "limits": {"memory": "2Gi"}},
        }
    },
    "closed network": {"operator": {"networkPolicy": {"apiServerPorts": [443, 6443]}}},
    "open network": {"operator": {"networkPolicy": {"enabled": False}}},
    "no CRDs, no roles": {"crds": {"install": False}, "rbac": {"aggregate": False}},
    "CRDs that go": {"crds": {"keep": False}},
    "dataplane": {"dataplane": {"metricsPort": 20000, "hostDirectory": "/srv/headrace"}},
    "node agent": {
        "nodeAgent": {
            "enabled": True,
            "cni": {"chained": False, "timeoutSeconds": 5, "binDirectory": "/usr/libexec/cni"},
            "tolerations": [],
            "nodeSelector": {"pods": "yes"},
            "podLabels": {"team": "network"},
            "podAnnotations": {"example.com/note": "yes: no"},
            "serviceAccount": {"annotations": {"example.com/role": "r"}},
        }
    },
    "observed": {
        "podMonitor": {
            "enabled": True,
            "labels": {"release": "prometheus"},
            "interval": "15s",
            "relabelings": [{"action": "labeldrop", "regex": "pod"}],
        },
        "prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}},
        "dashboards": {"enabled": True, "annotations": {"grafana_folder": "Headrace"}},
    },
    "metrics by token": {
        "metrics": {"authentication": "TokenReview"},
        "podMonitor": {"enabled": True},
    },
    "a certificate of one's own": {
        "metrics": {"authentication": "TokenReview", "certificateSecret": "metrics"}
    },
    "as a subchart": {"global": {"anything": 1}},
}


class _Loader(yaml.SafeLoader):
    """Refuses a key that is there twice, which Helm and YAML's own loader let pass."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        found = super().construct_mapping(node, deep)
        assert len(found) == len(node.value), f"a key twice:\n{node.start_mark}"
        return found


def render(
    api: Api, values: Json | None = None, namespace: str = NAMESPACE, chart: Path = CHART
) -> list[Json]:
    """The objects that these values give, hooks too."""
    command = ("template", "headrace", chart, "--namespace", namespace, "--values", "-")
    text = api.helm(*command, stdin=yaml.safe_dump(values or {}))
    return [item for item in yaml.load_all(text, _Loader) if item]


def of_kind(objects: Sequence[Json], *kinds: str) -> list[Json]:
    """The objects of these kinds."""
    return [item for item in objects if item["kind"] in kinds]


def name(item: Json) -> str:
    """Name of an object."""
    return cast(str, cast(Json, item["metadata"])["name"])


def only(objects: Sequence[Json], kind: str, called: str) -> Json:
    """The one object of that kind and name."""
    (found,) = (item for item in of_kind(objects, kind) if name(item) == called)
    return found


class Release:
    """A cluster with at most one release of the chart."""

    def __init__(self, api: Api, namespace: str = NAMESPACE) -> None:
        self.api = api
        self.namespace = namespace
        self.kubectl = api.kubectl

    def helm(self, *words: str | Path) -> str:
        """Run helm in the release's namespace."""
        return self.api.helm("--namespace", self.namespace, *words)

    def install(self, *words: str | Path, chart: Path = CHART) -> str:
        """Install the chart and return its notes."""
        return self.helm("install", "headrace", chart, "--create-namespace", *words)

    def clear(self) -> None:
        """Leave nothing of Headrace; the namespace, never used again, goes in its own time."""
        self.kubectl("delete", "namespace", self.namespace, "--ignore-not-found", "--wait=false")
        self.kubectl("delete", f"customresourcedefinitions,{CLUSTER_WIDE}", *OURS)

    def apply(self, item: Json) -> None:
        """Apply an object, on the server's side."""
        self.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(item))

    def get(self, *words: str) -> Any:
        """Return one object, or a list."""
        return json.loads(self.kubectl("get", *words, "--output", "json"))

    def names(self, kinds: str, *words: str) -> set[str]:
        """Names of objects, as kind/name."""
        return set(self.kubectl("get", kinds, "--output", "name", *words).split())

    def uid(self, *words: str) -> str:
        """Identity of an object."""
        return str(self.get(*words)["metadata"]["uid"])

    def crds(self) -> set[str]:
        """Names of Headrace's CRDs that the API server has."""
        found = self.names("customresourcedefinitions")
        return {crd.partition("/")[2] for crd in found if crd.endswith("headrace.dev")}

    def may(self, user: str, verb: str, what: str, namespace: str = "") -> bool:
        """Whether a user may do that to `plural.group[/subresource][:name]`."""
        resource, _, called = what.partition(":")
        resource, _, subresource = resource.partition("/")
        plural, _, group = resource.partition(".")
        attributes: Json = {
            "verb": verb,
            "group": group,
            "resource": plural,
            "subresource": subresource,
            "name": called,
            "namespace": namespace,
        }
        review: Json = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {"user": user, "resourceAttributes": attributes},
        }
        answer = self.kubectl("create", "-f", "-", "-o", "json", stdin=json.dumps(review))
        return bool(json.loads(answer)["status"]["allowed"])


def compiled(release: Release, node: str) -> None:
    """Write what the operator would for a node: objects that the ConfigMap of the chart owns."""
    owner: Json = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "name": "headrace-operator",
        "uid": release.uid("configmap", "headrace-operator", "--namespace", release.namespace),
        "controller": True,
    }
    labels: Json = {"headrace.dev/pipeline": "router"}
    release.apply(
        {
            "apiVersion": DATAPLANE_CONFIGS.api_version,
            "kind": DATAPLANE_CONFIGS.name,
            "metadata": {
                "name": f"router.{node}",
                "namespace": release.namespace,
                "ownerReferences": [owner],
            },
            "spec": {
                "pipelineName": "router",
                "nodeName": node,
                "workers": {"count": 1},
                "underlayPrefix": "fd00:1:0:1::/64",
                "underlayAddress": "fd00:1:0:1::1",
            },
        }
    )
    release.apply(
        {
            "apiVersion": "apps/v1",
            "kind": "DaemonSet",
            "metadata": {
                "name": "headrace-router",
                "namespace": release.namespace,
                "ownerReferences": [owner],
            },
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {"containers": [{"name": "dataplane", "image": "localhost/none:1"}]},
                },
            },
        }
    )


def rights(objects: Sequence[Json]) -> list[str]:
    """Lines of the table in docs/install.md: what each service account of these objects may."""
    everything: Any = objects
    roles = {
        (item["kind"], item["metadata"]["name"]): item["rules"]
        for item in everything
        if item["kind"] in ("Role", "ClusterRole")
    }
    lines = set()
    for item in everything:
        if not item["kind"].endswith("RoleBinding"):
            continue
        where = "its namespace" if item["kind"] == "RoleBinding" else "everywhere"
        for subject in item["subjects"]:
            for rule in roles[item["roleRef"]["kind"], item["roleRef"]["name"]]:
                what = ", ".join(rule.get("resources") or rule["nonResourceURLs"])
                if names := rule.get("resourceNames"):
                    what += f" named {', '.join(names)}"
                verbs = ", ".join(rule["verbs"])
                lines.add(f"| `{subject['name']}` | {where} | {what} | {verbs} |")
    return sorted(lines)
