# SPDX-License-Identifier: Apache-2.0
"""Argo CD's health of objects, by the script that it is given: a Lua interpreter runs it."""

import subprocess
from datetime import UTC, datetime
from typing import Any

import pytest
import yaml

from headrace_api import ConditionStatus, Problem
from headrace_api.base import PENDING
from headrace_api.kinds import written
from headrace_operator.render import Verdict
from headrace_operator.render.conditions import not_ready, pending, ready, status
from tests.cluster.chart import REPOSITORY
from tests.cluster.cluster import Api

FOLDER = REPOSITORY / "deploy/argocd"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
WRONG = Problem("Interface", "ns", "vm", "spec.mtu", "MtuTooLarge", "lower it")
MISSING = Problem("Interface", "ns", "vm", "spec.networkRef", "NetworkNotFound", "create it")
SILENT = Verdict(ConditionStatus.UNKNOWN, "AgentUnreachable", "nothing is heard")


def lua(value: Any) -> str:
    """The value as Lua writes it."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"[{lua(key)}] = {lua(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "{" + ", ".join(map(lua, value)) + "}"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
    return str(value)


def health(item: dict[str, Any]) -> tuple[str, str]:
    """Status and message that Argo CD would show."""
    script = (FOLDER / "health.lua").read_text()
    program = f"obj = {lua(item)}\nlocal found = (function()\n{script}\nend)()\n"
    program += 'io.write(found.status, "\\n", found.message)'
    done = subprocess.run(
        ("lua5.4", "-"), input=program, capture_output=True, text=True, check=True
    )
    verdict, _, message = done.stdout.partition("\n")
    return verdict, message


def fresh(generation: int = 1) -> dict[str, Any]:
    metadata = {"name": "vm", "namespace": "ns", "generation": generation}
    return {"metadata": metadata, "spec": {}, "status": {"conditions": PENDING}}


@pytest.mark.parametrize(
    ("problems", "programmed", "wanted"),
    [
        ((), ready("Forwarding", "it forwards"), ("Healthy", "Forwarding: it forwards")),
        ((), pending("no word yet"), ("Progressing", "Pending: no word yet")),
        ((), not_ready("RollingOut", 'a "pod"'), ("Progressing", 'RollingOut: a "pod"')),
        ((), SILENT, ("Progressing", "AgentUnreachable: nothing is heard")),
        ((WRONG,), pending(""), ("Degraded", "MtuTooLarge: spec.mtu: lower it")),
        # Another object may come and mend it.
        ((MISSING,), pending(""), ("Progressing", "NetworkNotFound: spec.networkRef: create it")),
    ],
)
def test_health(
    problems: tuple[Problem, ...], programmed: Verdict, wanted: tuple[str, str]
) -> None:
    item = fresh()
    item["status"] = status(item, problems, programmed, NOW)
    assert health(item) == wanted
    # What was said of an older generation is no verdict.
    item["metadata"]["generation"] = 2
    assert health(item) == ("Progressing", "Waiting for the operator")
    item["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert health(item)[0] == "Progressing"


def test_a_fresh_object() -> None:
    assert health(fresh())[0] == "Progressing"
    assert health({"metadata": {"name": "vm"}})[0] == "Progressing"


def test_every_kind_that_people_write_has_it(api: Api) -> None:
    made = yaml.safe_load(api.kubectl("kustomize", FOLDER))
    script = (FOLDER / "health.lua").read_text()
    kinds = [resource.__name__ for resource in written()]
    prefix = "resource.customizations.health.headrace.dev_"
    assert made["metadata"]["name"] == "argocd-cm"
    assert made["data"] == {f"{prefix}{kind}": script for kind in kinds}
