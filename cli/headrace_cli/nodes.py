# SPDX-License-Identifier: Apache-2.0
"""`kubectl headrace doctor`: what node agents found of their nodes."""

import argparse
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pydantic import Field

from headrace_api import ObjectMeta
from headrace_api.base import ObjectStatus, StatusModel
from headrace_cli.errors import CommandError
from headrace_cli.output import add_output, print_json, table
from headrace_cli.target import add_cluster
from headrace_dataplane.protocol import JSONObject

# The cluster may be of a newer release than this program: only what is shown is read, and
# nothing else is checked.

_PASS, _WARN, _FAIL, _SKIP = _VERDICTS = ("Pass", "Warn", "Fail", "Skip")
_POLICY = "DevicePolicy"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.description = f"""{parser.description}

Each node's agent looks at its node now and then, for the Pipelines and DevicePolicies that select
it. This shows what they found: a line for each node, then what fails, with the command or setting
that mends it. Of nodes that are named, every check."""
    parser.epilog = """  pass  as it should be
  warn  it works, slower or less safely than it could
  fail  it does not work: exit status 1
  skip  nothing to check, or not known, and why

examples:
  headrace doctor                    all nodes
  headrace doctor node-a             every check of one
  headrace doctor -o json            for programs

A node whose agent has not reported makes the exit status 1, too."""
    parser.add_argument("nodes", nargs="*", metavar="NODE", help="every check of these nodes only")
    add_cluster(parser)
    add_output(parser)


class _Check(StatusModel):
    subject: str = ""
    name: str = ""
    verdict: str = ""
    message: str = ""
    remedy: str = ""


class _Policy(StatusModel):
    name: str = ""
    ready: bool = False
    reason: str = ""
    message: str = ""
    vfs: int = 0


class _Status(ObjectStatus):
    checks: tuple[_Check, ...] | None = None
    policies: tuple[_Policy, ...] = ()


class State(StatusModel):
    """A NodeState, as far as it is shown."""

    metadata: ObjectMeta
    status: _Status = Field(default_factory=_Status)


@dataclass(frozen=True)
class Node:
    """A node, and what its agent found."""

    name: str
    checks: tuple[_Check, ...]
    """DevicePolicies that select it are among them."""
    reported: bool

    @property
    def counts(self) -> Counter[str]:
        """How many checks ended how."""
        return Counter(check.verdict for check in self.checks)

    @property
    def verdict(self) -> str:
        """The worst of them; empty: its agent has not reported."""
        if not self.reported:
            return ""
        return next((each for each in (_FAIL, _WARN) if self.counts[each]), _PASS)

    def to_dict(self) -> JSONObject:
        """The node as JSON."""
        return {
            "name": self.name,
            "reported": self.reported,
            "checks": [check.to_dict() for check in self.checks],
        }


def node(state: State) -> Node:
    """What a NodeState says."""
    status = state.status
    policies = (
        _Check(
            subject=_POLICY,
            name=each.name,
            verdict=_PASS if each.ready else _FAIL,
            message=f"{each.vfs} VFs are ready" if each.ready else f"{each.reason}: {each.message}",
        )
        for each in status.policies
    )
    checks = (*(status.checks or ()), *policies)
    return Node(state.metadata.name, checks, status.checks is not None)


def run(arguments: argparse.Namespace) -> int:
    """Print what was found; 1 when a check fails, or is missing."""
    # The client of the API server takes half a second to import.
    from headrace_cli.cluster import ask
    from headrace_kube import NODE_STATES

    listing = ask(arguments, lambda kube: kube.list(NODE_STATES))
    found = [node(State.model_validate(item)) for item in listing.items]
    return show(found, arguments.nodes, arguments.output, arguments.system_namespace)


def show(found: Iterable[Node], names: Sequence[str], output: str, system: str) -> int:
    """Print the nodes, of those that are named every check. Returns the exit status.

    Raises CommandError where there is nothing to show.
    """
    nodes = {each.name: each for each in sorted(found, key=lambda each: each.name)}
    if not nodes:
        raise CommandError(
            "no node has a NodeState: set nodeAgent.enabled of the chart, or run headrace doctor on"
            " the machine itself"
        )
    for name in names:
        if name not in nodes:
            raise CommandError(f"node {name} has no NodeState: there are {', '.join(nodes)}")
    chosen = [nodes[name] for name in dict.fromkeys(names)] or [*nodes.values()]
    if output == "json":
        print_json({"nodes": [each.to_dict() for each in chosen]})
    else:
        _print(chosen, system, whole=bool(names))
    return 1 if any(each.verdict in (_FAIL, "") for each in chosen) else 0


def _print(nodes: Sequence[Node], system: str, *, whole: bool) -> None:
    print(
        table(
            ("NODE", "VERDICT", *(verdict.upper() for verdict in _VERDICTS)),
            [
                (each.name, each.verdict.lower(), *(each.counts[verdict] for verdict in _VERDICTS))
                for each in nodes
            ],
        )
    )
    for each in nodes:
        shown = [check for check in each.checks if whole or check.verdict == _FAIL]
        if shown:
            print(f"\n{each.name}:")
            _print_checks(shown)
    silent = [each.name for each in nodes if not each.reported]
    if silent:
        kubectl = f"kubectl -n {system} get pods -o wide -l app.kubernetes.io/component=node"
        print(
            f"\n(the agent of {', '.join(silent)} has not reported: see {kubectl})", file=sys.stderr
        )
    if not whole and any(each.counts[_WARN] for each in nodes):
        print("\n(name a node to see all of its checks)", file=sys.stderr)


def _print_checks(checks: Sequence[_Check]) -> None:
    width = max(len(check.subject) for check in checks)
    for check in checks:
        verdict = check.verdict.lower()
        print(f"{verdict:4}  {check.subject:{width}}  {check.name}: {check.message}")
        for line in check.remedy.splitlines():
            print(f"        {line}")
