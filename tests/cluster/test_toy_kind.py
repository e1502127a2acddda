# SPDX-License-Identifier: Apache-2.0
"""A kind that is added by one model, one module of the compiler and one page, in a cluster.

The chart gives the operator and people rights to it, because it has its CRD.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from headrace_api.crd import crd, to_yaml
from headrace_kube import INTERFACES, Kind
from tests.cluster.chart import CHART, NAMESPACE
from tests.cluster.cluster import Cluster
from tests.cluster.operators import (
    Operator,
    World,
    condition,
    interface,
    network,
    node,
    pipeline,
)
from tests.cluster.sandbox import until
from tests.toy.reservation import Reservation
from tests.unit.test_toy_kind import EXAMPLE, REPOSITORY

RESERVATIONS = Kind("Reservation", Reservation.PLURAL)
SECONDS = 60.0


def headrace(api: Cluster, *words: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "KUBECONFIG": str(api.kubeconfig)}
    return subprocess.run(
        (sys.executable, "-m", "tests.toy", "headrace_cli.main", *words),
        env=environment,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_has_conditions_and_is_listed(control_plane: Cluster, tmp_path: Path) -> None:
    chart = tmp_path / "chart"
    shutil.copytree(CHART, chart)
    (chart / "files/crds/headrace.dev_reservations.yaml").write_text(to_yaml(crd(Reservation)))
    with World(control_plane, chart=chart) as world:
        world.install()
        try:
            _story(world, control_plane, tmp_path)
        finally:
            world.delete(RESERVATIONS, *world.all(RESERVATIONS))
            world.clear()
            world.uninstall()
            control_plane.kubectl("delete", "crd", "reservations.headrace.dev")


def _story(world: World, api: Cluster, folder: Path) -> None:
    example: Any = yaml.safe_load(EXAMPLE)
    lost: Any = yaml.safe_load(EXAMPLE)
    lost["metadata"]["name"] = "lost"
    lost["spec"]["networkRef"]["name"] = "none"
    world.put(node("n1"), pipeline(), network("blue"))
    api.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all([example, lost]))
    kubeconfig = world.write_kubeconfig(folder)
    program = ("tests.toy", "headrace_operator.main")
    with Operator(kubeconfig, folder / "operator", program=program):

        def reason(kind: Kind, key: str) -> str:
            return str(condition(world.get(kind, key)).get("reason"))

        until(lambda: reason(RESERVATIONS, "default/printer") == "Compiled", "it holds", SECONDS)
        until(lambda: reason(RESERVATIONS, "default/lost") == "NetworkNotFound", "no net", SECONDS)
        ready = condition(world.get(RESERVATIONS, "default/printer"))
        assert ready["status"] == "True"
        world.put(interface("vm1", "blue", "n1", addresses=["10.0.0.7"]))
        until(lambda: reason(INTERFACES, "default/vm1") == "AddressConflict", "taken", SECONDS)
        message = condition(world.get(INTERFACES, "default/vm1"))["message"]
        assert "in use by Reservation default/printer" in message

        shown = api.kubectl("get", "headrace", "-n", "default")
        assert "reservation.headrace.dev/printer" in shown
        found = headrace(api, "status", "-A", "-o", "json", "--system-namespace", NAMESPACE)
        assert found.stdout, found.stderr
        overview = json.loads(found.stdout)
        assert [(each["name"], each["ready"]) for each in overview["reservations"]] == [
            ("default/lost", False),
            ("default/printer", True),
        ]
        assert any(each.startswith("Reservation default/lost: ") for each in overview["problems"])
        compiled = headrace(api, "compile", "--system-namespace", NAMESPACE)
        assert "Reservation/default/lost" in compiled.stderr, compiled.stderr

        world.delete(RESERVATIONS, "default/printer")
        until(lambda: reason(INTERFACES, "default/vm1") != "AddressConflict", "free", SECONDS)
