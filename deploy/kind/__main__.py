# SPDX-License-Identifier: Apache-2.0
"""Headrace on a kind cluster, from nothing: two tenants with the same addresses, and dashboards.

Creates a cluster (a control plane, two workers), installs Headrace from its chart with Prometheus
and Grafana, applies deploy/examples/pods, sends packets, and says where to look. Every command is
shown before it runs. The cluster stays until `make kind-delete`.
"""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

from deploy.kind.cluster import Cluster, Existing, Kind, runtime
from deploy.kind.demo import Demo, Options
from deploy.kind.images import read
from deploy.kind.terminal import Terminal
from headrace_cli.errors import CommandError

_EXAMPLES = """\
examples:
  make kind-demo
  make kind-demo KIND_ARGS="--node-image kindest/node:v1.34.0 --grafana-port 3001"
  make kind-demo KIND_ARGS="--image operator.tar --image dataplane.tar \\
    --image connectivity.tar --image toolbox.tar"
  make kind-delete

Without --image this repository's images are built (deploy/images/build.sh), and the nodes pull
Prometheus and Grafana. What is applied is kept in build/kind.
"""

_INSTALL = {
    "docker": "https://docs.docker.com/engine/install, or podman",
    "kind": "https://kind.sigs.k8s.io/docs/user/quick-start/#installation",
    "kubectl": "https://kubernetes.io/docs/tasks/tools",
    "helm": "https://helm.sh/docs/intro/install",
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m deploy.kind",
        description=__doc__,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--delete", action="store_true", help="remove it all, and do nothing else")
    add("--cluster", metavar="NAME", default="headrace", help="name for kind; default: headrace")
    add("--node-image", metavar="IMAGE", help="of kind's nodes; default: that of the kind release")
    add(
        "--image",
        metavar="TAR|NAME",
        action="append",
        default=[],
        help="a ready image, again for each: a tar (docker save), which is loaded, or a name, "
        "which the nodes pull; the last part of its name says what it is: operator, dataplane, "
        "connectivity, toolbox, prometheus or grafana",
    )
    add(
        "--kubeconfig",
        metavar="FILE",
        type=Path,
        help="use this cluster instead: its nodes have the images that are tars, and a device "
        "uplink0 each, joined by a network",
    )
    add(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="a value of the chart (helm/headrace/values.yaml), again for each",
    )
    add("--grafana-port", metavar="PORT", type=int, default=3000, help="on this machine; 3000")
    add("--without-grafana", action="store_true", help="Prometheus alone")
    add("--without-hugepages", action="store_true", help="even when the nodes have enough")
    add("--without-connectivity-test", action="store_true", help="leave out the last step")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run the demo, or remove it; status 1 and one line on stderr when a step fails."""
    given = _parser().parse_args(arguments)
    terminal = Terminal()
    try:
        _require(["kubectl", "helm"] if given.kubeconfig else ["docker", "kind", "kubectl", "helm"])
        images = {image.role: image for image in map(read, given.image)}
        port = None if given.without_grafana else given.grafana_port
        cluster: Cluster
        if given.kubeconfig:
            cluster = Existing(terminal, given.kubeconfig)
        else:
            cluster = Kind(terminal, given.cluster, given.node_image, port)
        options = Options(
            values=tuple(given.set),
            grafana=not given.without_grafana,
            hugepages=not given.without_hugepages,
            connectivity_test=not given.without_connectivity_test,
        )
        demo = Demo(terminal, cluster, images, options)
        if given.delete:
            demo.remove()
            return 0
        demo.run()
    except CommandError as error:
        print(f"kind-demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nkind-demo: interrupted; what was made is still there", file=sys.stderr)
        return 130
    own = f"--kubeconfig {given.kubeconfig}" if given.kubeconfig else ""
    if not own and given.cluster != "headrace":
        own = f"--cluster {given.cluster}"
    terminal.title("Yours to look at")
    print(f"  export KUBECONFIG={os.environ['KUBECONFIG']}")
    if options.grafana:
        print(f"  Grafana     {cluster.grafana}")
    print("  Prometheus  kubectl -n monitoring port-forward service/prometheus 9090")
    print("  to remove   make kind-delete" + (f' KIND_ARGS="{own}"' if own else ""))
    return 0


def _require(programs: list[str]) -> None:
    """Raise CommandError, one line that says what to install or start."""
    where = {runtime() if name == "docker" else name: _INSTALL[name] for name in programs}
    missing = {name: place for name, place in where.items() if not shutil.which(name)}
    if missing:
        places = "; ".join(f"{name}: {place}" for name, place in missing.items())
        raise CommandError(f"{', '.join(missing)} not found: install first ({places})")
    if "docker" in programs:
        answer = subprocess.run([runtime(), "info"], capture_output=True, text=True, check=False)
        if answer.returncode != 0:
            said = (answer.stderr.strip().splitlines() or ["no answer"])[-1]
            raise CommandError(f"{runtime()} does not answer, start it: {said}")


if __name__ == "__main__":
    sys.exit(main())
