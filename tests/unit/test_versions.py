# SPDX-License-Identifier: Apache-2.0
"""One release has one version."""

import re
import tomllib
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).parents[2]
PACKAGE: str = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]


def test_chart_package_and_programs_have_one_version() -> None:
    chart = yaml.safe_load((REPOSITORY / "helm/headrace/Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (PACKAGE, PACKAGE)
    for folder in ("engine", "cni"):
        text = (REPOSITORY / "dataplane" / folder / "meson.build").read_text()
        assert re.findall(r"^ {4}version: '(.*)'", text, re.MULTILINE) == [PACKAGE]


def test_what_names_an_image_names_the_one_of_this_version() -> None:
    named = {
        path: re.findall(r"ghcr\.io/headrace/[a-z]+:(\d+\.\d+\.\d+)", path.read_text())
        for folder in ("deploy", "helm", "docs", "tests/cluster")
        for path in (REPOSITORY / folder).rglob("*")
        if path.suffix in (".md", ".py", ".yaml")
    }
    wrong = {str(path): tags for path, tags in named.items() if {*tags} - {PACKAGE}}
    assert wrong == {}
    assert sum(map(len, named.values())) > 5
