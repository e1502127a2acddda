# SPDX-License-Identifier: Apache-2.0
"""Dashboards from code.

`python -m deploy.grafana` writes deploy/grafana/dashboards/*.json, `--check` fails when they
differ.
"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

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
    parser = argparse.ArgumentParser(prog="deploy.grafana", description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    options = parser.parse_args(arguments)
    expected = files()
    different = [
        path.name for path in sorted(DIRECTORY.glob("*.json")) if path.name not in expected
    ]
    for name in different:
        if not options.check:
            (DIRECTORY / name).unlink()
    for name, text in expected.items():
        path = DIRECTORY / name
        if path.is_file() and path.read_text() == text:
            continue
        different.append(name)
        if not options.check:
            path.write_text(text)
    for name in different:
        print(f"{name}: {'differs from the code' if options.check else 'written'}")
    return 1 if options.check and different else 0


if __name__ == "__main__":
    sys.exit(main())
