# SPDX-License-Identifier: Apache-2.0
"""What Prometheus' own tool says of rules and panels."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.cluster.telemetry import RULES, queries
from tests.unit.test_telemetry import VARIABLES, documented

pytestmark = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="needs promtool (Debian: package prometheus)"
)

AGENT = {
    "job": "headrace",
    "component": "dataplane",
    "namespace": "headrace-system",
    "pipeline": "edge",
}
OPERATOR = {"job": "headrace", "component": "operator", "namespace": "headrace-system"}
PODS = [
    {**AGENT, "pod": "headrace-edge-1", "node": "a", "instance": "10.0.0.1:9477"},
    {**AGENT, "pod": "headrace-edge-2", "node": "b", "instance": "10.0.0.2:9477"},
]
OPERATORS = [
    {**OPERATOR, "pod": "headrace-operator-1", "node": "c", "instance": "10.0.1.1:8080"},
    {**OPERATOR, "pod": "headrace-operator-2", "node": "d", "instance": "10.0.1.2:8080"},
]
VALUES = {
    "network": ["blue/net"],
    "interface": ["blue/vm1", "blue/vm2"],
    "pipeline": ["edge"],
    "policy": ["e810"],
    "state": ["selected", "ready"],
    "ready": ["true", "false"],
    "reason": ["tx_full", "source"],
}
RARE = (
    "headrace_config_refused_objects",
    "headrace_interface_dropped_packets_total",
    "headrace_uplink_",
    "headrace_port_queue_",
    "headrace_operator_api_errors_total",
    "headrace_operator_writes_total",
    "headrace_operator_watch_events_total",
    "headrace_operator_pipeline_nodes",
    "headrace_operator_policy_nodes",
    "headrace_operator_unreachable_node",
    "headrace_operator_problems",
    "headrace_operator_interfaces",
)
"""What an exporter may lack while nothing is wrong."""


def promtool(*words: str | Path) -> str:
    done = subprocess.run(
        ["promtool", *words], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def series(name: str, labels: dict[str, str], values: str) -> dict[str, str]:
    inner = ", ".join(f'{label}="{value}"' for label, value in labels.items())
    return {"series": f"{name}{{{inner}}}", "values": values}


def combinations(labels: tuple[str, ...]) -> Iterator[dict[str, str]]:
    if not labels:
        yield {}
        return
    for rest in combinations(labels[1:]):
        for value in VALUES.get(labels[0], ["0"]):
            yield {labels[0]: value, **rest}


def scraped(*, rare: bool) -> Iterator[dict[str, str]]:
    """Series as two nodes and two operators give them; `rare`: also what may be absent."""
    for page, pods in (("metrics.md", PODS), ("operator-metrics.md", OPERATORS)):
        for name, (kind, labels, _) in documented(page).items():
            if name.startswith(RARE) and not rare:
                continue
            rising = "1+60x30"
            for own in combinations(labels):
                for pod in pods:
                    every = {**pod, **own}
                    if kind == "histogram":
                        yield series(f"{name}_bucket", {**every, "le": "1"}, rising)
                        yield series(f"{name}_bucket", {**every, "le": "+Inf"}, rising)
                        yield series(f"{name}_sum", every, rising)
                        yield series(f"{name}_count", every, rising)
                    else:
                        yield series(name, every, rising if kind == "counter" else "1x30")
    for pod in PODS + OPERATORS:
        yield series("up", pod, "1x30")
    for pod in OPERATORS:
        yield series("process_cpu_seconds_total", pod, "1+1x30")
        yield series("process_resident_memory_bytes", pod, "1x30")


def test_the_rules_are_valid() -> None:
    assert "SUCCESS" in promtool("check", "rules", "--lint=all", RULES)


def test_each_alert_fires_when_it_should_and_only_then() -> None:
    tests = RULES.with_name("rules_test.yaml")
    assert "SUCCESS" in promtool("test", "rules", tests)
    groups = yaml.safe_load(RULES.read_text())["groups"]
    names = {rule["alert"] for group in groups for rule in group["rules"]}
    checks = [
        check
        for test in yaml.safe_load(tests.read_text())["tests"]
        for check in test["alert_rule_test"]
    ]
    assert {check["alertname"] for check in checks if check["exp_alerts"]} == names


@pytest.mark.parametrize("rare", [True, False], ids=["all metrics", "a quiet cluster"])
def test_every_panel_has_data(tmp_path: Path, rare: bool) -> None:
    found = queries(VARIABLES, "5m")
    test = {
        "interval": "1m",
        "input_series": list(scraped(rare=rare)),
        "promql_expr_test": [
            {
                "expr": f"clamp_max(count({query.expr}), 1)",
                "eval_time": "20m",
                "exp_samples": [{"labels": "{}", "value": 1}],
            }
            for query in found
        ],
    }
    file = tmp_path / "panels.yaml"
    file.write_text(yaml.safe_dump({"rule_files": [], "tests": [test]}))
    assert len(found) > 50
    promtool("test", "rules", file)
