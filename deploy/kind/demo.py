# SPDX-License-Identifier: Apache-2.0
"""What the demo does, step by step."""

import json
import re
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml

from deploy.kind.cluster import BUILD, Cluster
from deploy.kind.images import PULLED, Image, build, values
from deploy.kind.terminal import REPOSITORY, Terminal
from headrace_cli.errors import CommandError

EXAMPLE = REPOSITORY / "deploy/examples/pods"
MONITORING = Path(__file__).with_name("monitoring")
TENANTS = ("blue", "red")
SYSTEM = "headrace-system"
HEADRACE = Path(sys.executable).with_name("headrace")
_TIMEOUT = "--timeout=5m"
_SCRAPE_SECONDS = 120.0
_LOGS = f"kubectl get pods -A shows what does not run, kubectl -n {SYSTEM} get events why."
_JSON = ("-o", "json")


@dataclass(frozen=True)
class Options:
    """What the demo leaves out, or does besides."""

    values: tuple[str, ...] = ()
    """More of the chart's, as --set takes them."""
    grafana: bool = True
    hugepages: bool = True
    connectivity_test: bool = True


@dataclass(frozen=True)
class Pod:
    """A tenant's pod, and its addresses in the tenant's network."""

    namespace: str
    name: str
    node: str
    addresses: tuple[str, ...]

    def inside(self, *words: str) -> tuple[str, ...]:
        """Return the command that runs `words` in it."""
        return ("kubectl", "exec", "-n", self.namespace, self.name, "--", *words)


class Demo:
    """The demo on a cluster; `run` makes all of it, `remove` takes it away again."""

    def __init__(
        self, terminal: Terminal, cluster: Cluster, images: dict[str, Image], options: Options
    ) -> None:
        """`images` are those that are given, by their roles."""
        self._terminal = terminal
        self._cluster = cluster
        self._images = images
        self._options = options

    def run(self) -> None:
        """Do every step. Raises CommandError at the first that fails."""
        BUILD.mkdir(parents=True, exist_ok=True)
        self._have_a_cluster()
        self._install()
        self._monitor()
        self._apply()
        self._reach()
        self._isolate()
        self._look()

    def remove(self) -> None:
        """Remove the cluster, or all that `run` made in it."""
        if self._cluster.delete():
            return
        # Pods before what unplugs them. The CustomResourceDefinitions go with the chart.
        run = self._terminal.run
        gone = ("--ignore-not-found", "--wait", _TIMEOUT)
        run("kubectl", "delete", "namespace", *TENANTS, *gone)
        run("kubectl", "delete", "namespace", "monitoring", *gone)
        name = "headrace-demo-prometheus"
        run("kubectl", "delete", "clusterrole,clusterrolebinding", name, *gone)
        run("helm", "uninstall", "headrace", "-n", SYSTEM, "--ignore-not-found", "--wait")
        run("kubectl", "delete", "namespace", SYSTEM, *gone)

    # Steps.

    def _have_a_cluster(self) -> None:
        self._terminal.title("A cluster, and the images on its nodes")
        self._cluster.create()
        self._images = build(self._terminal, self._images)
        wanted = (name for name in self._images if name != "grafana" or self._options.grafana)
        self._cluster.load(self._images[name] for name in wanted)

    def _install(self) -> None:
        self._terminal.title(
            "Headrace: the operator, and on each node the agent that plugs pods in"
        )
        given = ["nodeAgent.enabled=true", "crds.keep=false", *values(self._images)]
        self._terminal.run(
            *("helm", "upgrade", "--install", "headrace", "helm/headrace", "-n", SYSTEM),
            *("--create-namespace", "--wait", _TIMEOUT),
            *(f"--set={value}" for value in (*given, *self._options.values)),
            keep="^STATUS",
            hint=_LOGS,
        )

    def _monitor(self) -> None:
        names = PULLED if self._options.grafana else ("prometheus",)
        grafana = ", Grafana with its dashboards" if self._options.grafana else ""
        self._terminal.title(f"Prometheus with Headrace's alerts{grafana}")
        for name in names:
            folder = MONITORING / name
            build = ("kubectl", "kustomize", "--load-restrictor=LoadRestrictionsNone", folder)
            file = self._write(f"{name}.yaml", self._with_image(name, self._terminal.ask(*build)))
            self._terminal.run("kubectl", "apply", "--server-side", "-f", file)
        for name in names:
            self._rollout(name, "monitoring")

    def _apply(self) -> None:
        self._terminal.title("A Pipeline, and two tenants with the same addresses")
        mtu = self._cluster.connect()
        pipeline = self._write("pipeline.yaml", self._pipeline(mtu))
        self._terminal.show(f"cat {pipeline.relative_to(REPOSITORY)}", pipeline.read_text())
        self._terminal.run("kubectl", "apply", "-f", pipeline)
        for tenant in TENANTS:
            path = EXAMPLE / f"{tenant}.yaml"
            text = self._with_image("toolbox", path.read_text())
            if text != path.read_text():
                path = self._write(path.name, text)
            self._terminal.run("kubectl", "apply", "-f", path)
        self._ready("pipelines", "--all")
        for tenant in TENANTS:
            self._rollout("web", tenant)
            self._ready("pods", "-n", tenant, "--all")
            self._ready("interfaces", "-n", tenant, "--all")
        self._terminal.run("kubectl", "get", "interfaces", "-A", "-o", "wide")

    def _reach(self) -> None:
        self._terminal.title("A tenant's pods reach one another, from node to node, IPv4 and IPv6")
        for tenant in TENANTS:
            one, two = self._pods(tenant)
            self._terminal.say(f"{tenant}: {one.name} is on {one.node}, {two.name} on {two.node}.")
            for address in two.addresses:
                self._ping(one, address)
            # The pods run its server, which takes one client at a time: each is asked once.
            for client, server, family in ((one, two, 0), (two, one, -1)):
                words = ("iperf3", "-c", server.addresses[family], "-t", "2")
                self._terminal.run(*client.inside(*words), keep="receiver", hint=_LOGS)

    def _isolate(self) -> None:
        self._terminal.title("Tenants do not meet: red's pod db has addresses that blue has not")
        (blue, _), (red, _) = map(self._pods, TENANTS)
        for address in self._addresses("red", "db"):
            self._ping(red, address)
            self._terminal.run(
                *blue.inside("ping", "-c", "2", "-W", "1", address), keep="packets|^From", status=1
            )

    def _look(self) -> None:
        self._terminal.title("What Headrace and Prometheus say")
        self._terminal.run(HEADRACE, "status", "--cluster", "-A", hint=_LOGS)
        query = "sum by (interface) (headrace_interface_receive_packets_total)"
        self._terminal.show(f"# Prometheus, asked for {query}")

        def has_all() -> bool:
            with suppress(CommandError):
                return len(self._query(query)) >= 5
            return False

        self._terminal.wait(has_all, "Prometheus has every Interface", _SCRAPE_SECONDS)
        for labels, value in sorted(self._query(query), key=str):
            print(f"  {labels['interface']:40} {value}")
        firing = self._query('ALERTS{alertstate="firing"}')
        alerts = ", ".join(sorted({labels["alertname"] for labels, _ in firing}))
        self._terminal.say(f"Alerts that fire: {alerts or 'none'}.")
        if self._options.connectivity_test:
            hint = "--without-connectivity-test leaves this step out."
            self._terminal.run(HEADRACE, "connectivity", "test", hint=hint)

    # What the steps consist of.

    def _write(self, name: str, text: str) -> Path:
        path = BUILD / name
        path.write_text(text)
        return path

    def _with_image(self, role: str, text: str) -> str:
        """Return manifests with the image that is given for a role, if any."""
        image = self._images.get(role)
        if image is None:
            return text
        return re.sub(rf"image: \S+/{role}[:@]\S+", f"image: {image.name}", text)

    def _pipeline(self, mtu: int | None) -> str:
        """Return the example's Pipeline, as this cluster can run it."""
        text = (EXAMPLE / "pipeline.yaml").read_text()
        pipeline = yaml.safe_load(text)
        spec = pipeline["spec"]
        if self._cluster.labels:
            spec["nodeSelector"] = {"matchLabels": dict(self._cluster.labels)}
        if mtu is not None:
            for uplink in spec["uplinks"]:
                uplink["mtu"] = mtu
        if not (self._options.hugepages and self._has_hugepages(spec["hugepages"])):
            del spec["hugepages"]
        return yaml.safe_dump(pipeline, sort_keys=False)

    def _has_hugepages(self, wanted: dict[str, str]) -> bool:
        """Whether all nodes can have theirs at once: kind's share those of the machine."""
        selector = ",".join(f"{key}={value}" for key, value in self._cluster.labels.items())
        nodes = self._items("nodes", "-l", selector)
        free = min(
            _mebibytes(node["status"]["allocatable"].get(f"hugepages-{wanted['size']}", "0"))
            for node in nodes
        )
        return free >= len(nodes) * _mebibytes(wanted["amount"])

    def _rollout(self, name: str, namespace: str) -> None:
        self._terminal.run(
            *("kubectl", "rollout", "status", f"deployment/{name}", "-n", namespace, _TIMEOUT),
            hint=f"kubectl -n {namespace} describe pods shows why {name} does not start.",
        )

    def _ready(self, *words: str) -> None:
        self._terminal.run("kubectl", "wait", *words, "--for=condition=Ready", _TIMEOUT, hint=_LOGS)

    def _ping(self, pod: Pod, address: str) -> None:
        words = ("ping", "-c", "3", "-i", "0.2", "-w", "30", address)
        self._terminal.run(*pod.inside(*words), keep="packets|^rtt|^From", hint=_LOGS)

    def _pods(self, tenant: str) -> tuple[Pod, Pod]:
        """Return the two pods of a tenant's Deployment web."""
        one, two = (
            Pod(
                tenant,
                pod["metadata"]["name"],
                pod["spec"]["nodeName"],
                self._addresses(tenant, pod["metadata"]["name"]),
            )
            for pod in self._items("pods", "-n", tenant, "-l", "app=web")
            if "deletionTimestamp" not in pod["metadata"]
        )
        return one, two

    def _addresses(self, tenant: str, pod: str) -> tuple[str, ...]:
        found = self._terminal.ask(
            "kubectl", "get", "interface", f"{pod}-{tenant}", "-n", tenant, *_JSON
        )
        return tuple(json.loads(found)["status"]["addresses"])

    def _items(self, *words: str) -> list[Any]:
        return list(json.loads(self._terminal.ask("kubectl", "get", *words, *_JSON))["items"])

    def _query(self, expression: str) -> list[tuple[dict[str, str], str]]:
        """Return Prometheus' answer, labels and values, by way of the API server."""
        service = "/api/v1/namespaces/monitoring/services/prometheus:http/proxy"
        path = f"{service}/api/v1/query?query={quote(expression)}"
        answer = json.loads(self._terminal.ask("kubectl", "get", "--raw", path))
        return [(sample["metric"], sample["value"][1]) for sample in answer["data"]["result"]]


def _mebibytes(quantity: str) -> int:
    """Return a quantity of the API, such as 1Gi or 512Mi, in MiB."""
    units = {"Ki": 1 / 1024, "Mi": 1, "Gi": 1024, "Ti": 1024**2}
    found = re.fullmatch(r"(\d+)([KMGT]i)?", quantity)
    if found is None:
        raise CommandError(f"a node has {quantity} of hugepages: not understood")
    number, unit = found.groups()
    return int(int(number) * (units[unit] if unit else 1 / 1024**2))
