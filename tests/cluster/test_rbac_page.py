# SPDX-License-Identifier: Apache-2.0
"""The recipes of docs/rbac.md at a real API server: what each gives, and what not."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from headrace_cli.main import main
from tests.cluster.chart import NAMESPACE, REPOSITORY, Release
from tests.cluster.cluster import Api
from tests.cluster.sandbox import until

SECONDS = 60.0
GROUP = "rbac.authorization.k8s.io"


def recipes() -> list[Any]:
    page = (REPOSITORY / "docs/rbac.md").read_text()
    blocks = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    return [item for block in blocks for item in yaml.safe_load_all(block)]


@pytest.fixture(scope="module")
def release(bare_api: Api) -> Iterator[Release]:
    made = Release(bare_api)
    made.install()
    made.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "blue"}})
    for item in recipes():
        made.apply(item)
    yield made
    made.clear()


def may(release: Release, group: str, words: str) -> bool:
    """Whether a member of the group may; words: verb, kind, and the namespace if there is one."""
    verb, kind, *where = words.split()
    answer = release.kubectl(
        *("create", "-o", "json", "-f", "-"),
        stdin=json.dumps(
            {
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SubjectAccessReview",
                "spec": {
                    "user": "somebody",
                    "groups": [group],
                    "resourceAttributes": attributes(verb, kind, *where),
                },
            }
        ),
    )
    allowed: bool = json.loads(answer)["status"]["allowed"]
    return allowed


_GROUPS = {
    **dict.fromkeys(("pods", "secrets", "nodes"), ""),
    "dataplaneconfigs": "dataplane.headrace.dev",
}


def attributes(verb: str, kind: str, namespace: str = "") -> dict[str, str]:
    kind, _, subresource = kind.partition("/")
    group = _GROUPS.get(kind, "headrace.dev")
    found = {"verb": verb, "group": group, "resource": kind, "subresource": subresource}
    return {**found, "namespace": namespace}


@pytest.mark.parametrize(
    ("group", "allowed", "refused"),
    [
        (
            "team-blue",
            ("create interfaces blue", "delete virtualnetworks blue", "list interfaces blue"),
            (
                "create interfaces default",
                "patch interfaces/status blue",
                "create pipelines",
                "create underlayendpoints",
                "create dataplaneconfigs blue",
            ),
        ),
        (
            "network-team",
            (
                "create interfaces blue",
                "create interfaces default",
                "create pipelines",
                "delete underlayendpoints",
                f"list dataplaneconfigs {NAMESPACE}",
            ),
            ("patch pipelines/status", f"patch dataplaneconfigs {NAMESPACE}", "get secrets blue"),
        ),
        (
            "fault-finders",
            (f"create pods/exec {NAMESPACE}", f"list pods {NAMESPACE}", "list interfaces blue"),
            ("create pods/exec blue", f"delete pods {NAMESPACE}", "patch interfaces blue"),
        ),
    ],
)
def test_what_a_recipe_gives(
    release: Release, group: str, allowed: tuple[str, ...], refused: tuple[str, ...]
) -> None:
    # The controller manager aggregates roles in its own time.
    until(lambda: all(may(release, group, each) for each in allowed), f"{group} may", SECONDS)
    assert not [each for each in refused if may(release, group, each)]


def test_the_account_that_backs_up(release: Release, tmp_path: Path) -> None:
    view = json.loads(release.kubectl("config", "view", "--raw", "--flatten", "-o", "json"))
    token = release.kubectl("create", "token", "backup", "-n", NAMESPACE).strip()
    view["users"][0]["user"] = {"token": token}
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(json.dumps(view))
    file = tmp_path / "headrace.json"
    assert main(["backup", str(file), "--kubeconfig", str(kubeconfig)]) == 0
    kinds = {item["kind"] for item in json.loads(file.read_text())["items"]}
    assert "ConfigMap" in kinds
