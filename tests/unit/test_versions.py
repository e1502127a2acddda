# SPDX-License-Identifier: Apache-2.0
"""One release has one version."""

import tomllib
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).parents[2]


def test_chart_and_package_have_one_version() -> None:
    package = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]
    chart = yaml.safe_load((REPOSITORY / "helm/headrace/Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (package, package)
