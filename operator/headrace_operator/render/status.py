# SPDX-License-Identifier: Apache-2.0
"""Statuses of the objects that people write, whole, for server-side apply.

The same arguments give the same status, whatever the time: nothing is written twice.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

from headrace_api import PIPELINE_LABEL, ConditionStatus, Json, Problem
from headrace_operator.compiler import InterfaceAllocation, NodeAllocation

from . import conditions
from .conditions import Verdict
from .raw import generation, items, key_of, mapping, number, part, text
from .report import Report, is_current

#: Most items of a Pipeline's status.nodes.
_NODES = 5000
#: Most nodes that a message names.
_NAMED = 5


def network_status(
    raw: Json, vni: int | None, gateways: Sequence[str], problems: Sequence[Problem], now: datetime
) -> Json:
    """Status of a VirtualNetwork. `now` is aware; it is used where a condition turns."""
    if problems:
        verdict = conditions.refused(problems)
    elif vni is None:
        verdict = conditions.pending("Waiting for a VNI")
    else:
        verdict = conditions.ready("Accepted", f"VNI {vni}: its routes go to every node it is on")
    found = conditions.status(raw, verdict, now)
    if vni is not None:
        found |= {"vni": vni, "gateways": [*gateways]}
    return found


def interface_status(
    raw: Json,
    allocation: InterfaceAllocation | None,
    problems: Sequence[Problem],
    report: Report | None,
    now: datetime,
) -> Json:
    """Status of an Interface; `report` None: nothing is known of its node's agent."""
    if problems:
        verdict, report = conditions.refused(problems), None
    elif allocation is None:
        verdict = conditions.pending("Waiting for the compiler")
    elif report is None:
        where = f"Pipeline {allocation.pipeline} on node {allocation.node}"
        verdict = conditions.pending(f"No word of {where} yet: see the Pipeline's conditions")
    else:
        verdict = _reported(raw, report)
    found = conditions.status(raw, verdict, now)
    if allocation:
        # What is held, and where: a starting operator reads it.
        found["addresses"] = [*allocation.addresses]
        if allocation.node:
            found["nodeName"] = allocation.node
        if allocation.underlay_address:
            found["underlayAddress"] = allocation.underlay_address
    if report and report.mac_address:
        found["macAddress"] = report.mac_address
    return found


def _reported(raw: Json, report: Report) -> Verdict:
    if report.ready is None:
        return Verdict(ConditionStatus.UNKNOWN, report.reason, report.message)
    verdict = (conditions.ready if report.ready else conditions.not_ready)(
        report.reason, report.message
    )
    before = part(raw, "status")
    known = conditions.find(before, "Ready")
    # The configuration changes with every neighbour: what held still does until the agent answers.
    if report.current or (
        number(before.get("observedGeneration")) == generation(raw)
        and (known.get("status"), known.get("reason")) == (verdict.status, verdict.reason)
    ):
        return verdict
    return conditions.pending("The agent has not taken the newest configuration yet")


def pipeline_status(
    raw: Json,
    nodes: Mapping[str, NodeAllocation],
    problems: Sequence[Problem],
    daemon_sets: Sequence[Json],
    configs: Mapping[str, Json],
    metrics_port: int | None,
    now: datetime,
) -> Json:
    """Status of a Pipeline.

    `nodes` are the selected nodes; `daemon_sets` the watched ones that the Pipeline wants, with
    status; `configs` node -> watched DataplaneConfig. An agent answers a new configuration after
    some milliseconds: ask when things have settled.
    """
    silent = {
        node: why for node in sorted(nodes) if (why := _silence(configs.get(node))) is not None
    }
    pods = sum(number(part(item, "status").get("numberReady")) for item in daemon_sets)
    if problems:
        verdict = conditions.refused(problems)
    elif not nodes:
        verdict = _no_node(raw)
    else:
        verdict = (
            _rolling_out(raw, daemon_sets)
            or _missing_pods(raw, len(nodes), pods, daemon_sets, silent)
            or conditions.ready("Forwarding", f"Every node forwards ({len(nodes)})")
        )
    found = conditions.status(raw, verdict, now)
    found["nodes"] = [
        {"name": node, "underlayPrefix": nodes[node].underlay_prefix}
        for node in sorted(nodes)[:_NODES]
    ]
    found["selectedNodes"] = len(nodes)
    found["readyNodes"] = min(len(nodes) - len(silent), pods)
    if metrics_port is not None:
        found["metricsPort"] = metrics_port
    return found


def _silence(config: Json | None) -> str | None:
    """Why the node does not forward with its newest configuration; None: it does."""
    if config is None:
        return "it has no DataplaneConfig yet"
    known = conditions.find(part(config, "status"), "Ready")
    if not known:
        return "its agent has not reported yet"
    if known.get("status") != "True":
        return f"{text(known.get('reason'))}: {text(known.get('message'))}"
    if not is_current(config):
        return "its agent has not taken the newest configuration"
    return None


def _no_node(raw: Json) -> Verdict:
    wanted = part(raw, "spec", "nodeSelector", "matchLabels")
    labels = ", ".join(f"{key}={value}" for key, value in sorted(wanted.items()))
    what = f"No node has the labels {labels}" if labels else "There is no node"
    return Verdict(
        ConditionStatus.FALSE,
        "NoMatchingNode",
        f"{what}: label the nodes that shall run it, or change spec.nodeSelector",
        stalled=True,
    )


def _rolling_out(raw: Json, daemon_sets: Sequence[Json]) -> Verdict | None:
    wanted = 1 + len(items(part(raw, "spec").get("nodeClasses")))
    statuses = [part(item, "status") for item in daemon_sets]
    if len(daemon_sets) < wanted or any(
        number(status.get("observedGeneration")) < generation(item)
        for item, status in zip(daemon_sets, statuses, strict=True)
    ):
        return conditions.not_ready("RollingOut", "The dataplane pods are being made")
    desired = sum(number(status.get("desiredNumberScheduled")) for status in statuses)
    updated = sum(number(status.get("updatedNumberScheduled")) for status in statuses)
    if updated >= desired:
        return None
    message = f"{updated} of {desired} dataplane pods are as the Pipeline wants them"
    if part(raw, "spec", "updateStrategy").get("type") == "OnDelete":
        message += f": delete the others ({_pods(raw, daemon_sets)}), updateStrategy is OnDelete"
    return conditions.not_ready("RollingOut", message)


def _missing_pods(
    raw: Json, selected: int, pods: int, daemon_sets: Sequence[Json], silent: Mapping[str, str]
) -> Verdict | None:
    desired = sum(
        number(part(item, "status").get("desiredNumberScheduled")) for item in daemon_sets
    )
    found = []
    if desired < selected:
        found.append(
            f"{selected - desired} of {selected} selected nodes get no dataplane pod:"
            " see their taints and spec.tolerations"
        )
    if pods < desired:
        found.append(
            f"{desired - pods} of {desired} dataplane pods are not ready:"
            f" see {_pods(raw, daemon_sets)}"
        )
    if silent:
        first, *others = list(silent)[:_NAMED]
        named = ", ".join([f"{first} ({silent[first]})", *others])
        more = f" and {len(silent) - _NAMED} more" if len(silent) > _NAMED else ""
        found.append(f"{len(silent)} of {selected} nodes do not forward: {named}{more}")
    return conditions.not_ready("DataplaneNotReady", "; ".join(found)) if found else None


def _pods(raw: Json, daemon_sets: Sequence[Json]) -> str:
    """The command that shows the Pipeline's pods."""
    namespace = text(mapping(daemon_sets[0].get("metadata")).get("namespace"))
    return f"kubectl -n {namespace} get pods -o wide -l {PIPELINE_LABEL}={key_of(raw)}"
