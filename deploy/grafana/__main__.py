# SPDX-License-Identifier: Apache-2.0
"""Dashboards from code.

`python -m deploy.grafana` writes deploy/grafana/dashboards/*.json, `--check` fails when they
differ.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from headrace_api import generated

from . import network, node, operator, overview

DASHBOARDS: dict[str, Callable[[], Dashboard]] = {
    "overview": overview.dashboard,
    "network": network.dashboard,
    "node": node.dashboard,
    "operator": operator.dashboard,
}
"""File name -> dashboard, whose uid is the name with `headrace-` before it."""

DIRECTORY = Path(__file__).resolve().parent / "dashboards"


def files() -> dict[str, str]:
    """File name -> text, of every dashboard."""
    return {
        f"{name}.json": json.dumps(make(), cls=JSONEncoder, indent=2, sort_keys=True) + "\n"
        for name, make in DASHBOARDS.items()
    }


def main(arguments: list[str] | None = None) -> int:
    """Write the dashboards, or check that they are what the code says."""
    return generated.main("deploy.grafana", __doc__, files, DIRECTORY, arguments, only="*.json")


if __name__ == "__main__":
    sys.exit(main())
