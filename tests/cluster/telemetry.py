# SPDX-License-Identifier: Apache-2.0
"""What people see of a cluster: Prometheus with our rules, and the queries of our dashboards."""

import http.client
import json
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from string import Template
from typing import Any, cast
from urllib.parse import quote

import yaml

from headrace_api import Json
from headrace_cli.errors import CommandError
from tests.cluster.cluster import Api
from tests.cluster.gotools import building, go_tools
from tests.cluster.sandbox import Namespace, until

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
_START_SECONDS = 60.0


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
    with building(tar):
        if not tar.exists():
            _build_tar(programs, tar)
    return tar


def _build_tar(programs: Path, tar: Path) -> None:
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


class Prometheus:
    """A Prometheus that runs."""

    def __init__(self, get: Callable[[str], str]) -> None:
        """`get` fetches a path below /api/v1/."""
        self._fetch = get

    @classmethod
    def of_the_demo(cls, api: Api) -> "Prometheus":
        """Return that of deploy/kind/monitoring, asked by way of the API server."""
        return cls(lambda path: api.kubectl("get", "--raw", f"{_SERVICE}/{path}"))

    def query(self, expr: str) -> list[Json]:
        """Return the samples of an instant query, each with `metric` and `value`.

        Raises CommandError with what Prometheus says.
        """
        return cast(list[Json], self._get(f"query?query={quote(expr)}")["result"])

    def alerts(self) -> set[str]:
        """Return the names of the alerts that it evaluates."""
        groups = cast(list[Json], self._get("rules?type=alert")["groups"])
        return {str(rule["name"]) for group in groups for rule in cast(list[Json], group["rules"])}

    def failures(self) -> dict[str, str]:
        """Return why the last scrape of each job failed; empty: it did not, or is still to come."""
        targets = cast(list[Json], self._get("targets?state=active")["activeTargets"])
        return {str(each["scrapePool"]): str(each["lastError"]) for each in targets}

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
        return cast(Json, json.loads(self._fetch(path))["data"])


def pod_jobs(kubeconfig: str) -> list[Json]:
    """Return what deploy/prometheus scrapes, for a Prometheus that is in no pod itself."""
    jobs = cast(list[Json], yaml.safe_load(SCRAPE.read_text())["scrape_configs"])
    for job in jobs:
        for discovery in cast(list[Json], job["kubernetes_sd_configs"]):
            discovery["kubeconfig_file"] = kubeconfig
    return jobs


def monitored_job(monitor: Json, secret: Callable[[str, str], str], target: str) -> Json:
    """Return how the Prometheus operator has a target scraped that a PodMonitor of ours selects.

    `secret` reads a key of a named Secret.
    """
    spec = cast(Json, monitor["spec"])
    (endpoint,) = cast(list[Any], spec["podMetricsEndpoints"])
    ca, credentials = (
        endpoint["tlsConfig"]["ca"]["secret"],
        endpoint["authorization"]["credentials"],
    )
    return {
        "job_name": "monitored",
        "scheme": endpoint["scheme"],
        "tls_config": {
            "ca": secret(ca["name"], ca["key"]),
            "server_name": endpoint["tlsConfig"]["serverName"],
        },
        "authorization": {"credentials": secret(credentials["name"], credentials["key"])},
        "static_configs": [{"targets": [target]}],
    }


def impatient_rules() -> Json:
    """Return the rules of deploy/prometheus, whose alerts fire after a second."""
    rules = cast(Json, yaml.safe_load(RULES.read_text()))
    for group in cast(list[Json], rules["groups"]):
        for rule in cast(list[Json], group["rules"]):
            if "for" in rule:
                rule["for"] = "1s"
    return rules


@contextmanager
def scraping(
    jobs: list[Json], folder: Path, *, namespace: Namespace | None = None, rules: Json | None = None
) -> Iterator[Prometheus]:
    """Run a Prometheus as a process, which scrapes and evaluates every second.

    It is in a namespace of a sandbox, or on this machine; its files are in `folder`.
    """
    (folder / "rules.json").write_text(json.dumps(rules or {}))
    every = {"scrape_interval": "1s", "scrape_timeout": "1s"}
    configuration = {
        "global": {"evaluation_interval": "1s"},
        "scrape_configs": [{**job, **every} for job in jobs],
        "rule_files": [str(folder / "rules.json")],
    }
    (folder / "prometheus.json").write_text(json.dumps(configuration))
    enter = (
        () if namespace is None else ("nsenter", f"--target={namespace.pid}", "--net", "--mount")
    )

    def inside() -> AbstractContextManager[None]:
        return nullcontext() if namespace is None else namespace.entered()

    with inside(), socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    def get(path: str) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_START_SECONDS)
        try:
            with inside():
                connection.connect()
            connection.request("GET", f"/api/v1/{path}")
            reply = connection.getresponse()
            said = reply.read().decode()
        except OSError as error:
            raise CommandError(f"Prometheus: {error}") from error
        finally:
            connection.close()
        if reply.status != HTTPStatus.OK:
            raise CommandError(f"Prometheus: {said}")
        return said

    def ready() -> bool:
        try:
            return bool(get("status/runtimeinfo"))
        except CommandError:
            return False

    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            (
                *(*enter, "setpriv", "--pdeathsig=KILL", go_tools(_MODULE, _TAGS) / "prometheus"),
                *(f"--config.file={folder}/prometheus.json", f"--storage.tsdb.path={folder}/data"),
                f"--web.listen-address=127.0.0.1:{port}",
            ),
            stdout=log,
            stderr=log,
        )
    try:
        until(ready, f"Prometheus answers, see {folder}/log", _START_SECONDS)
        yield Prometheus(get)
    finally:
        process.kill()
        process.wait()
