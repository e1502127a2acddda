# SPDX-License-Identifier: Apache-2.0
"""What the chart renders, what it refuses, and where its files come from."""

import re
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from headrace_api import STARTUP_TAINT, Json
from headrace_connectivity.health import IMAGE_ANNOTATION
from headrace_operator.settings import Settings
from tests.cluster.chart import (
    CHART,
    DIGEST,
    NODE_AGENT,
    REPOSITORY,
    VALUES,
    name,
    of_kind,
    only,
    render,
    rights,
)
from tests.cluster.cluster import Api
from tests.cluster.sandbox import CommandError


def test_helm_finds_nothing_to_mend(api: Api) -> None:
    assert "1 chart(s) linted, 0 chart(s) failed" in api.helm("lint", "--strict", CHART)


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES.keys())
def test_the_operator_takes_its_settings(api: Api, values: Json, tmp_path: Path) -> None:
    anchor: Any = only(render(api, values), "ConfigMap", "headrace-operator")
    file = tmp_path / "operator.yaml"
    file.write_text(anchor["data"]["operator.yaml"])
    settings = Settings.load(file)
    assert settings.owner == "headrace-operator"
    assert settings.dataplane.service_account_name == "headrace-dataplane"


def test_settings_say_what_the_values_say(api: Api, tmp_path: Path) -> None:
    file = tmp_path / "operator.yaml"
    values = VALUES["digests"] | {"logLevel": "Error"}
    anchor: Any = only(render(api, values), "ConfigMap", "headrace-operator")
    file.write_text(anchor["data"]["operator.yaml"])
    settings = Settings.load(file)
    assert settings.log_level == "Error"
    assert settings.dataplane.image == f"headrace/dataplane@{DIGEST}"
    assert settings.dataplane.image_pull_policy == "Always"
    assert settings.dataplane.image_pull_secrets == ("registry", "mirror")


def test_images_by_tag_and_by_digest(api: Api) -> None:
    def image(values: Json) -> str:
        deployment: Any = only(render(api, values), "Deployment", "headrace-operator")
        return str(deployment["spec"]["template"]["spec"]["containers"][0]["image"])

    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
    assert image({}) == f"ghcr.io/headrace/operator:{version}"
    assert image(VALUES["tags"]) == "ghcr.io/headrace/operator:v0.3.0-rc.1"
    assert image(VALUES["digests"]) == f"localhost:5000/headrace/operator@{DIGEST}"


@pytest.mark.parametrize(
    ("operator", "own", "image"),
    [
        ({}, {}, "ghcr.io/headrace/connectivity:{version}"),
        (
            {"registry": "localhost:5000", "tag": "v1"},
            {},
            "localhost:5000/headrace/connectivity:v1",
        ),
        ({"registry": "", "digest": DIGEST}, {}, "headrace/connectivity:{version}"),
        ({"tag": "v1"}, {"digest": DIGEST}, f"ghcr.io/headrace/connectivity@{DIGEST}"),
        (
            {"registry": "localhost:5000", "tag": "v1"},
            {"registry": "r.example.com", "repository": "test", "tag": "v2"},
            "r.example.com/test:v2",
        ),
    ],
)
def test_the_connectivity_test_comes_from_where_the_operator_does(
    api: Api, operator: Json, own: Json, image: str
) -> None:
    """What `helm test` runs, and what `headrace connectivity test` is told to."""
    values: Json = {"operator": {"image": operator}, "connectivity": {"image": own}}
    objects = render(api, NODE_AGENT | values)
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
    pod: Any = only(objects, "Pod", "headrace-test")
    assert pod["spec"]["containers"][0]["image"] == image.format(version=version)
    node_agent: Any = only(objects, "DaemonSet", "headrace-node")
    assert node_agent["metadata"]["annotations"] == {
        IMAGE_ANNOTATION: image.format(version=version)
    }


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"replicas": 3}, "'replicas' not allowed"),
        ({"operator": {"replica": 3}}, "at '/operator': additional properties 'replica'"),
        ({"operator": {"replicas": "two"}}, "at '/operator/replicas': got string, want integer"),
        ({"operator": {"image": {"digest": "latest"}}}, "at '/operator/image/digest'"),
        ({"operator": {"image": "headrace/operator"}}, "at '/operator/image': got string"),
        ({"operator": {"tolerations": [{"effect": "No"}]}}, "/operator/tolerations/0/effect"),
        ({"operator": {"resources": {"limit": {}}}}, "at '/operator/resources'"),
        ({"logLevel": "info"}, "'Debug', 'Info', 'Warning', 'Error'"),
        ({"crds": {"keep": "yes"}}, "at '/crds/keep': got string, want boolean"),
        ({"dataplane": {"metricsPort": 80}}, "at '/dataplane/metricsPort'"),
        ({"dataplane": {"hostDirectory": "headrace"}}, "at '/dataplane/hostDirectory'"),
        ({"dataplane": {"podLabels": {"headrace.dev/pipeline": "x"}}}, "headrace.dev/pipeline"),
        ({"dataplane": {"extraEnv": [{"name": "NODE_NAME"}]}}, "at '/dataplane/extraEnv/0/name'"),
        ({"imagePullSecrets": ["registry"]}, "at '/imagePullSecrets/0': got string, want object"),
        ({"podMonitor": {"interval": "15"}}, "at '/podMonitor/interval'"),
    ],
)
def test_wrong_values_are_refused_by_name(api: Api, values: Json, said: str) -> None:
    with pytest.raises(CommandError, match=re.escape(said)):
        render(api, values)


@pytest.mark.parametrize(
    "earlier", ["", (Path(__file__).parent / "earlier_values.yaml").read_text()]
)
@pytest.mark.parametrize("values", [{}, NODE_AGENT, VALUES["observed"]])
def test_values_of_an_earlier_chart_will_do(
    api: Api, tmp_path: Path, earlier: str, values: Json
) -> None:
    """`--reuse-values` is the new templates with the values, defaults too, of the old release."""
    chart = tmp_path / "headrace"
    shutil.copytree(CHART, chart)
    (chart / "values.yaml").write_text(earlier)
    assert render(api, values, chart=chart) == render(api, values)


def test_what_is_switched_off_or_taken_away_stays_so(api: Api) -> None:
    objects = render(
        api,
        {
            "operator": {
                "podDisruptionBudget": {"enabled": False},
                "topologySpreadConstraints": [],
                "resources": {"limits": None},
            },
            "nodeAgent": {"enabled": True, "cni": {"chained": False}, "tolerations": []},
        },
    )
    startup: Json = {"key": STARTUP_TAINT, "operator": "Exists"}
    assert not of_kind(objects, "PodDisruptionBudget")
    deployment: Any = only(objects, "Deployment", "headrace-operator")
    pod = deployment["spec"]["template"]["spec"]
    assert "topologySpreadConstraints" not in pod
    assert "limits" not in pod["containers"][0]["resources"]
    daemon_set: Any = only(objects, "DaemonSet", "headrace-node")
    assert daemon_set["spec"]["template"]["spec"]["tolerations"] == [startup]


def test_every_template_bears_values_of_an_earlier_chart() -> None:
    files = [*(CHART / "templates").glob("*.yaml"), CHART / "templates/NOTES.txt"]
    without = [f.name for f in files if 'include "headrace.defaults" .' not in f.read_text()]
    assert not without


def test_schema_knows_every_value() -> None:
    """What the schema allows stands in values.yaml, with its default."""
    schema: Any = yaml.safe_load((CHART / "values.schema.json").read_text())
    values: Any = yaml.safe_load((CHART / "values.yaml").read_text())

    def check(part: Any, value: Any, path: str) -> None:
        part = schema["definitions"][part["$ref"].rsplit("/", 1)[1]] if "$ref" in part else part
        if "properties" not in part or not value:
            return
        assert part.get("additionalProperties") is False, path
        assert set(part["properties"]) - {"global"} == set(value), path
        for key, item in value.items():
            check(part["properties"][key], item, f"{path}.{key}")

    without = {k: v for k, v in values["operator"].items() if k != "resources"}
    check(schema, values | {"operator": without | {"resources": {}}}, "")


@pytest.mark.parametrize("keep", [True, False])
def test_crds_are_those_of_the_models(api: Api, keep: bool) -> None:
    rendered = of_kind(render(api, {"crds": {"keep": keep}}), "CustomResourceDefinition")
    for item in rendered:
        metadata: Any = item["metadata"]
        assert metadata.pop("labels")["app.kubernetes.io/name"] == "headrace"
        assert metadata.pop("annotations", {}) == (
            {"helm.sh/resource-policy": "keep"} if keep else {}
        )
    written = [yaml.safe_load(path.read_text()) for path in (REPOSITORY / "crds").glob("*.yaml")]
    assert sorted(rendered, key=name) == sorted(written, key=name)
    assert not of_kind(render(api, {"crds": {"install": False}}), "CustomResourceDefinition")


def test_the_alerts_are_those_of_deploy(api: Api) -> None:
    rule: Any = only(render(api, VALUES["observed"]), "PrometheusRule", "headrace")
    assert rule["spec"] == yaml.safe_load((REPOSITORY / "deploy/prometheus/rules.yaml").read_text())


def test_the_pod_monitor_gives_the_labels_of_deploy(api: Api) -> None:
    (job,) = yaml.safe_load((REPOSITORY / "deploy/prometheus/scrape.yaml").read_text())[
        "scrape_configs"
    ]
    wanted = {
        rule["target_label"]: rule["source_labels"]
        for rule in job["relabel_configs"]
        if "target_label" in rule
    }
    spec: Any = only(render(api, VALUES["observed"]), "PodMonitor", "headrace")["spec"]
    (endpoint,) = spec["podMetricsEndpoints"]
    given = {
        rule["targetLabel"]: rule["sourceLabels"]
        for rule in endpoint["relabelings"]
        if "targetLabel" in rule
    }
    # The Prometheus operator itself gives these two.
    assert given == {key: of for key, of in wanted.items() if key not in ("namespace", "pod")}
    assert spec["jobLabel"] == "app.kubernetes.io/name"
    assert job["job_name"] == "headrace"


def test_the_docs_list_every_right_of_every_account(api: Api) -> None:
    """And none that nobody has; those of an upgrade are looked at with it."""
    values: Json = {
        **VALUES["metrics by token"],
        "nodeAgent": {"enabled": True, "cni": {"chained": False}},
    }
    page = (REPOSITORY / "docs/install.md").read_text()
    lines = page.splitlines()
    listed = [line for line in lines if line.startswith("| `headrace-") and line.count("|") == 5]
    found = rights(render(api, values))
    assert found == [line for line in listed if not line.startswith("| `headrace-upgrade`")]


def test_metrics_by_token_are_so_everywhere(api: Api) -> None:
    objects = render(api, VALUES["metrics by token"])
    secret: Any = only(objects, "Secret", "headrace-metrics-certificate")
    settings: Any = only(objects, "ConfigMap", "headrace-operator")
    assert "metricsCertificate: headrace-metrics-certificate" in settings["data"]["operator.yaml"]
    deployment: Any = only(objects, "Deployment", "headrace-operator")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert "--metrics-certificate=/run/headrace/metrics-certificate" in container["args"]
    assert container["readinessProbe"]["httpGet"]["scheme"] == "HTTPS"
    assert container["livenessProbe"]["httpGet"]["scheme"] == "HTTPS"
    monitor: Any = only(objects, "PodMonitor", "headrace")
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint["scheme"] == "https"
    assert endpoint["tlsConfig"]["ca"]["secret"]["key"] in secret["data"]
    only(objects, "Secret", endpoint["authorization"]["credentials"]["name"])

    own = render(api, VALUES["a certificate of one's own"])
    assert not of_kind(own, "Secret")
    in_clear = render(api, {})
    assert "metrics" not in " ".join(name(item) for item in in_clear)
    assert "reviews" not in yaml.safe_dump(in_clear)


def test_the_dashboards_are_those_of_deploy(api: Api) -> None:
    files = sorted((REPOSITORY / "deploy/grafana/dashboards").glob("*.json"))
    rendered: Any = of_kind(render(api, VALUES["observed"]), "ConfigMap")
    found = {
        file: text
        for item in rendered
        if item["metadata"]["labels"].get("grafana_dashboard") == "1"
        for file, text in item["data"].items()
    }
    assert found == {file.name: file.read_text() for file in files}
    assert found
    # A ConfigMap's limit.
    assert all(len(text.encode()) < 1 << 20 for text in found.values())


def test_a_package_holds_files_and_nothing_else(api: Api, tmp_path: Path) -> None:
    api.helm("package", CHART, "--destination", tmp_path)
    (package,) = tmp_path.glob("*.tgz")
    with tarfile.open(package) as archive:
        members = archive.getmembers()
    assert all(member.isfile() for member in members)
    carried = {m.name.removeprefix("headrace/") for m in members if "/files/" in m.name}
    assert {path.rpartition(".")[2] for path in carried} <= {"yaml", "json"}
    assert {f"files/crds/{path.name}" for path in (REPOSITORY / "crds").glob("*.yaml")} <= carried


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES.keys())
def test_no_rule_has_a_wildcard(api: Api, values: Json) -> None:
    roles: Any = of_kind(render(api, values), "Role", "ClusterRole")
    assert roles
    for role in roles:
        for rule in role["rules"]:
            asked = [word for words in rule.values() for word in words]
            assert not [word for word in asked if "*" in word], name(role)
            assert "secrets" not in rule.get("resources", ())


def test_every_object_says_whose_it_is(api: Api) -> None:
    cluster_wide = ("ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition")
    objects: Any = render(api, VALUES["extras"])
    for item in objects:
        labels = item["metadata"]["labels"]
        assert labels["app.kubernetes.io/name"] == "headrace"
        assert labels["app.kubernetes.io/managed-by"] == "Helm"
        assert labels["example.com/team"] == "network"
        if item["kind"] not in cluster_wide and "Admission" not in item["kind"]:
            assert item["metadata"]["namespace"] == "headrace-system"


def test_a_changed_setting_replaces_the_operator(api: Api) -> None:
    def annotations(values: Json) -> Json:
        deployment: Any = only(render(api, values), "Deployment", "headrace-operator")
        return dict(deployment["spec"]["template"]["metadata"]["annotations"])

    assert annotations({}) == annotations({"crds": {"keep": False}})
    assert annotations({}) != annotations({"logLevel": "Debug"})
    assert annotations({}) != annotations({"dataplane": {"metricsPort": 9500}})


def test_rights_of_the_test_exist_only_for_the_test(api: Api) -> None:
    objects: Any = render(api, NODE_AGENT)
    hooks = [item for item in objects if "helm.sh/hook" in item["metadata"].get("annotations", {})]
    assert {item["kind"] for item in hooks} == {
        *("ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding", "Pod")
    }
    for item in hooks:
        assert item["metadata"]["annotations"]["helm.sh/hook"] == "test"
        assert "hook-succeeded" in item["metadata"]["annotations"]["helm.sh/hook-delete-policy"]
    others = [item for item in objects if item not in hooks]
    assert "pods/exec" not in yaml.safe_dump(others)
    # Without a node agent no pod joins a network: there is nothing to test.
    assert not [item for item in render(api, {}) if name(item) == "headrace-test"]
