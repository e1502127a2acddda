# SPDX-License-Identifier: Apache-2.0
"""The entry point `headrace-agent`: the command of a dataplane pod.

Imports little: this is the supervisor's process. The agent proper is imported by its child.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from headrace_dataplane import logs
from headrace_dataplane.supervisor import supervise


def main(words: Sequence[str] | None = None) -> int:
    """Run until told to end and return the exit status: 0, 2 when it cannot run as it is told."""
    arguments = _parser().parse_args(words)
    logs.configure(arguments.log_format)

    def work(beat: int) -> int:
        from headrace_dataplane.pod import run

        return run(arguments, beat)

    return supervise(work)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="headrace-agent",
        description="Keep this node's engine at its DataplaneConfig, and say how it is.",
    )
    parser.add_argument("--pipeline", required=True, help="name of the Pipeline")
    parser.add_argument("--node", required=True, help="name of this node")
    parser.add_argument(
        "--namespace", help="of the DataplaneConfigs; default: the pod's, or the kubeconfig's"
    )
    parser.add_argument(
        "--runtime-dir",
        type=Path,
        default=Path("/run/headrace/engine"),
        help="sockets and locks; default: /run/headrace/engine",
    )
    parser.add_argument(
        "--state-dir",
        type=Path,
        help="keep the last good configuration here, and who was in the engine; default: do not",
    )
    parser.add_argument(
        "--metrics-address",
        metavar="HOST:PORT",
        default="127.0.0.1:9477",
        help='serve /metrics, /healthz and /readyz; default: 127.0.0.1:9477; "": do not',
    )
    parser.add_argument(
        "--metrics-certificate",
        type=Path,
        metavar="DIRECTORY",
        help="serve by TLS, with tls.crt and tls.key of this directory, and /metrics only to whom "
        "the API server lets get it; default: in clear, to everybody",
    )
    parser.add_argument("--kubeconfig", help="default: as a pod, else $KUBECONFIG")
    parser.add_argument("--cpus", help="CPUs to choose from, such as 1,4-6; default: all allowed")
    parser.add_argument(
        "--log-format", choices=("json", "text"), default="json", help="default: json"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
