# SPDX-License-Identifier: Apache-2.0
"""A kind that is added by one model, one module of the compiler and one page is everywhere."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).parents[2]
PAGE = REPOSITORY / "tests/toy/reservation.md"
EXAMPLE = PAGE.read_text().split("```yaml\n")[1].split("```")[0]


def run(*words: str, status: int = 0) -> tuple[str, str]:
    """What a program that has the kind prints, to its outputs."""
    done = subprocess.run(
        (sys.executable, "-m", "tests.toy", *words),
        env=_environment(),
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stderr
    return done.stdout, done.stderr


def script(code: str) -> str:
    """What a line of Python prints where the kind is registered."""
    program = f"import tests.toy.__main__; {code}"
    return subprocess.check_output((sys.executable, "-c", program), env=_environment(), text=True)


def _environment() -> dict[str, str]:
    path = os.pathsep.join([str(REPOSITORY), *filter(None, sys.path)])
    return {**os.environ, "PYTHONPATH": path}


def test_it_has_a_crd() -> None:
    text = script("from headrace_api.crd import files; print(*files().values(), sep='---\\n')")
    crds: dict[str, Any] = {each["metadata"]["name"]: each for each in yaml.safe_load_all(text)}
    found = crds["reservations.headrace.dev"]["spec"]
    assert found["names"]["shortNames"] == ["rsv"]
    (version,) = found["versions"]
    assert [each["name"] for each in version["additionalPrinterColumns"]] == [
        "Network",
        "Address",
        "Ready",
        "Reason",
        "Age",
    ]
    # Those that are there are what they were.
    for path in (REPOSITORY / "crds").glob("*.yaml"):
        there = yaml.safe_load(path.read_text())
        assert crds[there["metadata"]["name"]] == there


def test_it_is_in_the_reference() -> None:
    page = script("from headrace_api.reference import reference; print(reference())")
    there = (REPOSITORY / "docs/reference/api.md").read_text()
    assert "## ReservationSpec" in page
    assert "\n| `address` | string | The address; " in page
    assert {*there.splitlines()} <= {*page.splitlines()}


def test_it_is_compiled_from_manifests(tmp_path: Path) -> None:
    example = REPOSITORY / "deploy/examples/two-tenants"
    for path in example.glob("*.yaml"):
        (tmp_path / path.name).write_text(path.read_text())
    manifests = [each for path in example.glob("*.yaml") for each in _documents(path)]
    network = next(each for each in manifests if each["kind"] == "VirtualNetwork")
    interface = next(
        each
        for each in manifests
        if each["kind"] == "Interface"
        and each["spec"]["networkRef"]["name"] == network["metadata"]["name"]
        and each["metadata"].get("namespace") == network["metadata"].get("namespace")
    )
    address = interface["spec"]["addresses"][0]
    item: Any = yaml.safe_load(EXAMPLE)
    item["metadata"]["namespace"] = network["metadata"].get("namespace", "default")
    item["spec"] = {"networkRef": {"name": network["metadata"]["name"]}, "address": address}
    other = {**item, "metadata": {**item["metadata"], "name": "nowhere"}}
    other["spec"] = {**item["spec"], "networkRef": {"name": "none"}}
    wrong = {**item, "metadata": {**item["metadata"], "name": "wrong"}, "spec": {"address": "x"}}
    (tmp_path / "toy.json").write_text(
        "\n---\n".join(json.dumps(each) for each in (item, other, wrong))
    )
    _, problems = run("headrace_cli.main", "compile", "-f", str(tmp_path), status=1)
    key = f"{item['metadata']['namespace']}/{item['metadata']['name']}"
    assert f"is in use by Reservation {key}" in problems
    assert "VirtualNetwork" in problems
    assert "does not exist or is not ready" in problems
    assert "(NetworkNotFound)" in problems
    assert "spec.networkRef" in problems
    assert "(Required)" in problems


def _documents(path: Path) -> list[Any]:
    return [each for each in yaml.safe_load_all(path.read_text()) if each]


def test_what_it_gives_back_others_have() -> None:
    found = script(
        "from headrace_compiler import Compiler; from tests.toy.reservation import Reservation;"
        " from tests.unit import test_compiler_cases as cases;"
        " compiler = Compiler();"
        " item = lambda address: Reservation.model_validate({'metadata': {'name': 'a', 'namespace':"
        " 'default'}, 'spec': {'networkRef': {'name': 'blue'}, 'address': address}});"
        " parts = (cases.node('node-a'), cases.pipeline(), cases.network(), item('10.0.0.1'));"
        " [compiler.upsert(each) for each in parts]; compiler.flush();"
        " compiler.upsert(cases.interface('vm1', addresses=['10.0.0.9']));"
        " compiler.upsert(item('10.0.0.9'));"
        " print({k[1]: [p.reason for p in v] for k, v in compiler.flush().problems.items()});"
        " compiler.delete('Reservation', 'default/a');"
        " print({k[1]: [p.reason for p in v] for k, v in compiler.flush().problems.items()})"
    )
    first, second = found.splitlines()
    assert "'default/vm1': ['AddressConflict']" in first
    assert "'default/vm1': []" in second


def test_the_operator_and_the_command_line_have_it() -> None:
    found = script(
        "from headrace_operator.kinds import INPUTS; from headrace_cli.saved import KINDS;"
        " from headrace_cli.live import _EVERYWHERE;"
        " print(*[kind.name for kind in INPUTS], sep=',');"
        " print(*KINDS, sep=','); print(*[kind.name for kind in _EVERYWHERE], sep=',')"
    )
    for line in found.splitlines():
        assert "Reservation" in line.split(",")
