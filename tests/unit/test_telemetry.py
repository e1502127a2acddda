# SPDX-License-Identifier: Apache-2.0
"""Dashboards, alerts and their pages: equal to their code, and about what exists."""

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from headrace_dataplane.metrics import METRICS
from tests.cluster.telemetry import RULES, SCRAPE, PanelQuery, queries

REPOSITORY = Path(__file__).parents[2]
VARIABLES = {"pipeline": "edge", "node": "a", "network": "blue/net"}
TARGET_LABELS = {"job", "instance", "namespace", "pod", "node", "component", "pipeline"}
FOREIGN = {
    "up": set[str](),
    "ALERTS": {"alertname", "alertstate", "severity"},
    "process_cpu_seconds_total": set[str](),
    "process_resident_memory_bytes": set[str](),
}


def documented(page: str) -> dict[str, tuple[str, tuple[str, ...], str]]:
    """Metric -> type, labels, meaning, as a page of docs/reference says."""
    rows = re.findall(
        r"^\| `(\w+)` \| (\w+) \| (.*?) \| (.*) \|$",
        (REPOSITORY / "docs/reference" / page).read_text(),
        re.MULTILINE,
    )
    return {
        name: (kind, tuple(re.findall(r"`(\w+)`", labels)), text)
        for name, kind, labels, text in rows
    }


def known() -> dict[str, set[str]]:
    """Every series' name -> its labels, without those of the target."""
    found = dict(FOREIGN)
    for page in ("metrics.md", "operator-metrics.md"):
        for name, (kind, labels, _) in documented(page).items():
            if kind == "histogram":
                found |= {f"{name}_{part}": set(labels) for part in ("sum", "count")}
                found[f"{name}_bucket"] = {*labels, "le"}
            else:
                found[name] = set(labels)
    return found


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def expressions() -> dict[str, str]:
    found = {str(query): query.expr for query in queries(VARIABLES)}
    return found | {rule["alert"]: rule["expr"] for rule in alerts()}


def test_every_expression_is_about_metrics_and_labels_that_exist() -> None:
    metrics = known()
    for where, expr in expressions().items():
        made = set(re.findall(r'label_replace\([^"]*"(\w+)"', expr))
        bare = re.sub(r'"[^"]*"', '""', expr)
        named = re.findall(r"\b(headrace_\w+|process_\w+|up|ALERTS)\b(?:\{([^}]*)\})?", bare)
        assert named, where
        allowed = set(TARGET_LABELS) | made
        for name, matchers in named:
            assert name in metrics, f"{where}: no metric {name}"
            allowed |= metrics[name]
            unknown = set(re.findall(r"(\w+)\s*[=!]", matchers)) - TARGET_LABELS - metrics[name]
            assert not unknown, f"{where}: {name} has no label {unknown}"
        for listed in re.findall(r"\b(?:by|on|without|ignoring|group_left) \(([^)]*)\)", bare):
            unknown = set(re.findall(r"\w+", listed)) - allowed
            assert not unknown, f"{where}: no label {unknown}"


def test_no_metric_has_a_label_that_finding_pods_sets() -> None:
    for metric in METRICS:
        assert not TARGET_LABELS & set(metric.labels), metric.name
    for name, (_, labels, _) in documented("operator-metrics.md").items():
        # The operator's own pods are no Pipeline's.
        assert not (TARGET_LABELS - {"pipeline"}) & set(labels), name


def test_scraping_sets_the_labels_that_expressions_use() -> None:
    (job,) = yaml.safe_load(SCRAPE.read_text())["scrape_configs"]
    made = {rule["target_label"] for rule in job["relabel_configs"] if "target_label" in rule}
    assert made | {"job", "instance"} == TARGET_LABELS
    assert job["job_name"] == "headrace"
    # The Prometheus operator sets namespace and pod by itself.
    monitor = (REPOSITORY / "helm/headrace/templates/podmonitor.yaml").read_text()
    assert "jobLabel: app.kubernetes.io/name" in monitor
    for rule in job["relabel_configs"]:
        if rule.get("target_label") in {"node", "component", "pipeline"}:
            source = ", ".join(rule["source_labels"])
            assert f"[{source}]\n          targetLabel: {rule['target_label']}\n" in monitor


def test_the_operators_page_has_what_the_operator_measures() -> None:
    # Half of it is counted only when asked for, by a whole operator: read from the source instead.
    kinds = {
        **{"counter": "counter", "counters": "counter"},
        **{"gauge": "gauge", "gauges": "gauge", "histogram": "histogram"},
    }
    measured = {}
    for path in (REPOSITORY / "operator/headrace_operator").glob("*.py"):
        for call in ast.walk(ast.parse(path.read_text())):
            match call:
                case ast.Call(
                    func=ast.Name(id=made),
                    args=[ast.Constant(value=str(name)), ast.Constant(value=str(text)), *labels],
                ) if made in kinds:
                    found = tuple(
                        label.value
                        for part in labels
                        for label in ast.walk(part)
                        if isinstance(label, ast.Constant)
                    )
                    suffix = "_total" if kinds[made] == "counter" else ""
                    measured[f"headrace_operator_{name}{suffix}"] = (kinds[made], found, text)
    assert len(measured) > 10
    assert documented("operator-metrics.md") == measured


def test_every_alert_says_what_it_means_and_where_to_read_on() -> None:
    page = (REPOSITORY / "docs/alerts.md").read_text()
    sections = dict(re.findall(r"^### (\w+)\n(.*?)(?=^##|\Z)", page, re.MULTILINE | re.DOTALL))
    names = [rule["alert"] for rule in alerts()]
    assert len(set(names)) == len(names)
    assert set(sections) == set(names)
    for name, text in sections.items():
        for part in ("**Meaning.**", "**Users notice**", "**Look at**", "**Do"):
            assert part in text, f"docs/alerts.md: {name} lacks {part}"
    for rule in alerts():
        assert rule["labels"]["severity"] in ("critical", "warning"), rule["alert"]
        assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
        anchor = rule["annotations"]["runbook_url"].rpartition("docs/alerts.md#")[2]
        assert anchor == rule["alert"].lower()


def test_drop_reasons_are_those_of_the_engine() -> None:
    drops = pytest.importorskip("deploy.grafana.drops")
    text = (REPOSITORY / "dataplane/engine/types.h").read_text()
    reasons = re.findall(r'^\s*X\(\w+, "(\w+)",', text, re.MULTILINE)
    assert sorted(drops.LOSS + drops.ENDPOINT) == sorted(reasons)
    (rule,) = (rule for rule in alerts() if rule["alert"] == "HeadraceDrops")
    assert drops.matcher(drops.LOSS) in rule["expr"]
    page = (REPOSITORY / "docs/alerts.md").read_text()
    for reason in drops.LOSS:
        assert f"`{reason}`" in page, f"docs/alerts.md says nothing of {reason}"


class TestDashboards:
    def test_are_what_the_code_says(self, capsys: pytest.CaptureFixture[str]) -> None:
        pytest.importorskip("grafana_foundation_sdk")
        from deploy.grafana.__main__ import main

        assert main(["--check"]) == 0, f"run: python -m deploy.grafana\n{capsys.readouterr().out}"

    @pytest.fixture(params=["overview", "network", "node", "operator"])
    def dashboard(self, request: pytest.FixtureRequest) -> dict[str, Any]:
        path = REPOSITORY / f"deploy/grafana/dashboards/{request.param}.json"
        result: dict[str, Any] = json.loads(path.read_text())
        assert result["uid"] == f"headrace-{request.param}"
        return result

    def test_say_what_to_do(self, dashboard: dict[str, Any]) -> None:
        panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
        assert dashboard["panels"][0]["type"] == "row"
        for panel in panels:
            assert len(panel["description"]) > 20, panel["title"]
            assert panel["datasource"]["uid"] == "${datasource}", panel["title"]
            fields = panel["fieldConfig"]
            assert fields["defaults"].get("unit") or fields["overrides"], panel["title"]
            for target in panel["targets"]:
                # A fixed range has gaps or averages where the scrape interval is another.
                ranges = set(re.findall(r"rate\([^\[]*\[([^\]]*)\]", target["expr"]))
                assert ranges <= {"$__rate_interval"}, panel["title"]

    def test_use_variables_that_they_have(self, dashboard: dict[str, Any]) -> None:
        names = {variable["name"] for variable in dashboard["templating"]["list"]}
        text = json.dumps(dashboard["panels"])
        used = set(re.findall(r"\$(\w+)", text)) - {"__rate_interval"}
        assert used <= names
        assert names <= used | {"datasource"}

    def test_link_to_dashboards_that_exist(self, dashboard: dict[str, Any]) -> None:
        assert [link["tags"] for link in dashboard["links"]] == [dashboard["tags"]]
        for name, parameters in re.findall(r"/d/headrace-(\w+)\?([^\"\\]*)", json.dumps(dashboard)):
            other = REPOSITORY / f"deploy/grafana/dashboards/{name}.json"
            variables = {
                item["name"] for item in json.loads(other.read_text())["templating"]["list"]
            }
            assert set(re.findall(r"var-(\w+)=", parameters)) <= variables


def test_variables_are_filled_in() -> None:
    found = queries(VARIABLES)
    assert {query.dashboard for query in found} == {
        "headrace-network",
        "headrace-node",
        "headrace-operator",
        "headrace-overview",
    }
    assert all("$" not in query.expr for query in found)
    assert any('pipeline="edge", node="a"' in query.expr for query in found)
    with pytest.raises(KeyError):
        queries({})
    assert str(PanelQuery("d", "p", "up")) == "d: p: up"
