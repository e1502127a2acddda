# SPDX-License-Identifier: Apache-2.0
"""What people see of a cluster: Prometheus with our rules, and the queries of our dashboards."""

import json
import subprocess
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import cast
from urllib.parse import quote

from headrace_api import Json
from tests.cluster.cluster import Api
from tests.cluster.gotools import go_tools

REPOSITORY = Path(__file__).resolve().parents[2]
DASHBOARDS = REPOSITORY / "deploy/grafana/dashboards"
RULES = REPOSITORY / "deploy/prometheus/rules.yaml"
SCRAPE = REPOSITORY / "deploy/prometheus/scrape.yaml"
PROMETHEUS = "localhost/prometheus:3.13.5"
"""What `prometheus_tar` has."""
_MODULE = Path(__file__).with_name("prometheus")
_TAGS = "remove_all_sd,enable_kubernetes_sd"
_SERVICE = "/api/v1/namespaces/monitoring/services/prometheus:http/proxy/api/v1"
_POLL_SECONDS = 1.0


@dataclass(frozen=True)
class PanelQuery:
    """One query of a panel; `expr` is PromQL without variables."""

    dashboard: str
    panel: str
    expr: str

    def __str__(self) -> str:
        return f"{self.dashboard}: {self.panel}: {self.expr}"


def queries(variables: Mapping[str, str], rate_interval: str = "1m") -> list[PanelQuery]:
    """Return every query of every dashboard, with `variables` (name -> value) filled in.

    What offers "All" is left at that unless given. Raises KeyError for a variable without a value.
    """
    found = []
    for path in sorted(DASHBOARDS.glob("*.json")):
        dashboard = json.loads(path.read_text())
        values = {
            variable["name"]: variable["allValue"]
            for variable in dashboard["templating"]["list"]
            if variable["includeAll"]
        } | {**variables, "__rate_interval": rate_interval}
        for panel in dashboard["panels"]:
            for target in panel.get("targets", ()):
                expr = Template(target["expr"]).substitute(values)
                found.append(PanelQuery(dashboard["uid"], panel["title"], expr))
    return found


def prometheus_tar() -> Path:
    """Build an image of Prometheus and nothing else, unless it is there, and return its tar.

    Its only service discovery is Kubernetes. Minutes with an empty Go cache; needs buildah.
    """
    programs = go_tools(_MODULE, _TAGS)
    tar = programs / "prometheus.tar"
    if not tar.exists():
        with tempfile.TemporaryDirectory() as name:
            work = Path(name)
            (work / "Containerfile").write_text(
                'FROM scratch\nCOPY prometheus /bin/\nENTRYPOINT ["/bin/prometheus"]\n'
            )
            store = ("--storage-driver=vfs", f"--root={work}/store", f"--runroot={work}/run")
            tag, file = f"--tag={PROMETHEUS}", f"--file={work}/Containerfile"
            archive = f"docker-archive:{work}/image.tar:{PROMETHEUS}"
            for words in (
                ("build", "--quiet", "--isolation=chroot", tag, file, str(programs)),
                ("push", "--quiet", PROMETHEUS, archive),
            ):
                subprocess.run(("buildah", *store, *words), check=True, stdout=subprocess.DEVNULL)
            new = tar.with_suffix(".new")
            new.write_bytes((work / "image.tar").read_bytes())
            new.replace(tar)
    return tar


class Prometheus:
    """The Prometheus of deploy/kind/monitoring, asked by way of the API server."""

    def __init__(self, api: Api) -> None:
        """It runs already."""
        self._api = api

    def query(self, expr: str) -> list[Json]:
        """Return the samples of an instant query, each with `metric` and `value`.

        Raises CommandError with what Prometheus says.
        """
        return cast(list[Json], self._get(f"query?query={quote(expr)}")["result"])

    def alerts(self) -> set[str]:
        """Return the names of the alerts that it evaluates."""
        groups = cast(list[Json], self._get("rules?type=alert")["groups"])
        return {str(rule["name"]) for group in groups for rule in cast(list[Json], group["rules"])}

    def ignored(self) -> set[str]:
        """Return the names of the pods that it knows and does not scrape."""
        targets = cast(list[Json], self._get("targets?state=dropped")["droppedTargets"])
        labels = (cast(Json, target["discoveredLabels"]) for target in targets)
        return {str(each["__meta_kubernetes_pod_name"]) for each in labels}

    def firing(self) -> dict[str, list[Json]]:
        """Return the labels of what fires now, by the alert's name."""
        found: dict[str, list[Json]] = {}
        for sample in self.query('ALERTS{alertstate="firing"}'):
            labels = cast(Json, sample["metric"])
            found.setdefault(str(labels["alertname"]), []).append(labels)
        return found

    def without_data(self, wanted: Iterable[PanelQuery], seconds: float) -> list[str]:
        """Return what has no data, asking again until all have or so many seconds have passed."""
        left = list(wanted)
        deadline = time.monotonic() + seconds
        while True:
            left = [item for item in left if not self.query(item.expr)]
            if not left or time.monotonic() > deadline:
                return [str(item) for item in left]
            time.sleep(_POLL_SECONDS)

    def _get(self, path: str) -> Json:
        answer = json.loads(self._api.kubectl("get", "--raw", f"{_SERVICE}/{path}"))
        return cast(Json, answer["data"])
