# SPDX-License-Identifier: Apache-2.0
"""What people see of a cluster: Prometheus with our rules, and the queries of our dashboards.

Debian's Prometheus has no Kubernetes discovery: `targets` makes of pods what that would, so that
the relabelling of deploy/prometheus/scrape.yaml is the real one.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from types import TracebackType
from typing import Self, cast

import yaml

from headrace_api import Json

REPOSITORY = Path(__file__).resolve().parents[2]
DASHBOARDS = REPOSITORY / "deploy/grafana/dashboards"
RULES = REPOSITORY / "deploy/prometheus/rules.yaml"
SCRAPE = REPOSITORY / "deploy/prometheus/scrape.yaml"
JOB = "headrace"
_POLL_SECONDS = 0.5
_START_SECONDS = 60.0


@dataclass(frozen=True)
class PanelQuery:
    """One query of a panel; `expr` is PromQL without variables."""

    dashboard: str
    panel: str
    expr: str

    def __str__(self) -> str:
        return f"{self.dashboard}: {self.panel}: {self.expr}"


def queries(variables: Mapping[str, str], rate_interval: str = "15s") -> list[PanelQuery]:
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


def targets(pods: Iterable[Json]) -> list[Json]:
    """Return file_sd groups of pods, as Prometheus' pod role discovers them with our selector."""
    found: list[Json] = []
    for pod in pods:
        metadata, spec, status = (cast(Json, pod[part]) for part in ("metadata", "spec", "status"))
        labels = cast(dict[str, str], metadata.get("labels", {}))
        address = status.get("podIP")
        if labels.get("app.kubernetes.io/name") != "headrace" or not isinstance(address, str):
            continue
        host = f"[{address}]" if ":" in address else address
        common: Json = {
            "__meta_kubernetes_namespace": metadata["namespace"],
            "__meta_kubernetes_pod_name": metadata["name"],
            "__meta_kubernetes_pod_node_name": spec["nodeName"],
            "__meta_kubernetes_pod_phase": status["phase"],
        }
        for label, value in labels.items():
            name = re.sub(r"\W", "_", label, flags=re.ASCII)
            common[f"__meta_kubernetes_pod_label_{name}"] = value
        for container in cast(list[Json], spec["containers"]):
            for port in cast(list[Json], container.get("ports", [])):
                own = {"__meta_kubernetes_pod_container_port_name": port.get("name", "")}
                found.append(
                    {"targets": [f"{host}:{port['containerPort']}"], "labels": {**common, **own}}
                )
    return found


def configuration(pods: Path, interval: str = "1s") -> Json:
    """Return Prometheus' configuration: ours, with the pods of a file (of `targets`)."""
    scrape = cast(Json, yaml.safe_load(SCRAPE.read_text()))
    (job,) = cast(list[Json], scrape["scrape_configs"])
    del job["kubernetes_sd_configs"]
    job["file_sd_configs"] = [{"files": [str(pods)], "refresh_interval": interval}]
    job["scrape_interval"] = interval
    return {
        "global": {"evaluation_interval": interval, "scrape_timeout": interval},
        "rule_files": [str(RULES)],
        **scrape,
    }


class Prometheus:
    """Debian's Prometheus, for as long as this context lasts.

    `prefix` is the command that enters the namespace from which pods can be reached, such as
    `namespace.words()`; `directory` an absolute path that is the same in there. `watch` tells it
    the pods, at any time.
    """

    def __init__(self, directory: Path, prefix: Sequence[str] = (), port: int = 9090) -> None:
        self._directory = directory
        self._prefix = tuple(prefix)
        self._address = f"127.0.0.1:{port}"
        self._pods = directory / "pods.json"

    def __enter__(self) -> Self:
        self._directory.mkdir(parents=True, exist_ok=True)
        self.watch(())
        config = self._directory / "prometheus.yaml"
        config.write_text(yaml.safe_dump(configuration(self._pods)))
        self._log = (self._directory / "prometheus.log").open("ab")
        self._process = subprocess.Popen(
            [
                *self._prefix,
                "prometheus",
                f"--config.file={config}",
                f"--storage.tsdb.path={self._directory}/data",
                f"--web.listen-address={self._address}",
                "--query.lookback-delta=10s",
                "--log.level=warn",
            ],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        deadline = time.monotonic() + _START_SECONDS
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.__exit__(None, None, None)
                raise RuntimeError((self._directory / "prometheus.log").read_text())
            time.sleep(_POLL_SECONDS)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # nsenter may have forked: then its child is Prometheus.
        for pid in (*_descendants(self._process.pid), self._process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        self._process.wait()
        self._log.close()

    def watch(self, pods: Iterable[Json]) -> None:
        """Scrape these pods (API objects) from now on, and no others."""
        new = self._pods.with_suffix(".new")
        new.write_text(json.dumps(targets(pods)))
        new.replace(self._pods)

    def query(self, expr: str) -> list[Json]:
        """Return the samples of an instant query, each with `metric` and `value`.

        Raises RuntimeError with what Prometheus says.
        """
        done = self._ask(expr)
        if done.returncode != 0:
            raise RuntimeError(f"{expr}: {done.stderr.strip()}")
        answer = json.loads(done.stdout)
        if not isinstance(answer, list):
            raise RuntimeError(f"{expr}: not a vector: {done.stdout[:200]}")
        return cast(list[Json], answer)

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

    def _is_ready(self) -> bool:
        return self._ask("vector(1)").returncode == 0

    def _ask(self, expr: str) -> subprocess.CompletedProcess[str]:
        words = ("promtool", "query", "instant", "-o", "json", f"http://{self._address}", expr)
        return subprocess.run(
            [*self._prefix, *words],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )


def _descendants(pid: int) -> Iterator[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return
    for child in map(int, children):
        yield from _descendants(child)
        yield child
