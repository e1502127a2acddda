# SPDX-License-Identifier: Apache-2.0
"""Statuses of the objects that people write, whole, for server-side apply.

The same arguments give the same status, whatever the time: nothing is written twice.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from headrace_api import (
    FUNCTIONS_OF_RESOURCE,
    PIPELINE_LABEL,
    SEVERAL_UNDERLAY_PREFIXES,
    VLANS_OF_FUNCTIONS,
    ConditionStatus,
    Json,
    Problem,
)
from headrace_api.pipeline import INT32
from headrace_api.raw import generation, items, key_of, mapping, number, part, text
from headrace_compiler import InterfaceAllocation, NodeAllocation, Usage
from headrace_compiler.addresses import node_address
from headrace_operator.liveness import State

from . import conditions
from .conditions import Verdict
from .report import Report

#: Most items of a Pipeline's status.nodes.
_NODES = 5000
#: Most nodes that a message names.
_NAMED = 5
#: Reason of an object that the API server does not take.
WRITE_REFUSED = "WriteRefused"


@dataclass(frozen=True, slots=True)
class NetworkProgress:
    """Where a network is to be, and where it is."""

    programmed: frozenset[str] = frozenset()
    """Nodes whose engines have it as it is written."""
    lacking: Mapping[str, Verdict] = field(default_factory=dict)
    """Nodes whose agents report, and that lack something -> what."""
    unreachable: Mapping[str, State] = field(default_factory=dict)
    """Nodes whose agents do not report -> what is known of them."""
    unwritten: Verdict | None = None
    """What keeps the network from being written as it is compiled."""

    @property
    def waits(self) -> bool:
        """Whether a node does not have the newest yet, but for what its engine refuses."""
        late = any(
            verdict.status is ConditionStatus.UNKNOWN or verdict.reason == WRITE_REFUSED
            for verdict in self.lacking.values()
        )
        return bool(self.unwritten or self.unreachable or late)

    @property
    def nodes(self) -> int:
        """How many nodes are to have it."""
        return len(self.programmed) + len(self.lacking) + len(self.unreachable)


def unwritten(what: str, why: str, *, refused: bool) -> Verdict:
    """A compiled object is not at the API server as it is to be: `why`, for people, or nothing."""
    if refused:
        message = f"The API server does not take {what}: {why}"
        return conditions.not_ready(WRITE_REFUSED, message)
    words = f"{what} is not written yet" + (f": {why}" if why else "")
    return Verdict(ConditionStatus.UNKNOWN, "WritePending", words)


def unreachable(nodes: Mapping[str, State]) -> Verdict:
    """What it means that nothing is heard of these nodes: at least one."""
    named = some(sorted(nodes))
    if all(state is State.NODE_UNREACHABLE for state in nodes.values()):
        message = (
            f"Nothing is heard of agent and kubelet of node {named}; routes with other next hops"
            " do without those there: see the node"
        )
        return conditions.not_ready(State.NODE_UNREACHABLE.value, message)
    message = (
        f"Nothing is heard of the agent of node {named}; its engine may go on"
        " forwarding: see the node, and its dataplane pod"
    )
    return Verdict(ConditionStatus.UNKNOWN, State.AGENT_UNREACHABLE.value, message)


def network_status(
    raw: Json,
    vni: int | None,
    gateways: Sequence[str],
    problems: Sequence[Problem],
    progress: NetworkProgress | None,
    usage: Usage | None,
    now: datetime,
) -> Json:
    """Status of a VirtualNetwork. `now` is aware; it is used where a condition turns.

    `progress` None: nothing of this generation is compiled; `usage` None: the network is not.
    """
    if vni is None or progress is None:
        found = conditions.status(
            raw, problems, NOT_COMPILED, now, conditions.pending("Waiting for a VNI")
        )
    else:
        found = conditions.status(raw, problems, _programmed(progress), now)
        found |= {
            "desiredNodes": progress.nodes,
            "programmedNodes": len(progress.programmed),
            "unreachableNodes": len(progress.unreachable),
        }
    if vni is not None:
        found |= {"vni": vni, "gateways": [*gateways]}
    if usage is not None:
        found["acceptedInterfaces"] = usage.interfaces
        found["freeAddresses"] = min(usage.free, INT32)
    return found


NOT_COMPILED = conditions.pending("Nothing of this generation is compiled: see the others")


def _programmed(progress: NetworkProgress) -> Verdict:
    if progress.unwritten:
        return progress.unwritten
    if progress.lacking:
        node, verdict = min(
            progress.lacking.items(),
            # What is wrong says more than what is on its way.
            key=lambda item: (item[1].status is ConditionStatus.UNKNOWN, item[0]),
        )
        return verdict._replace(
            message=f"{len(progress.lacking)} of {progress.nodes} nodes lack something of it:"
            f" {node}: {verdict.message}"
        )
    if progress.programmed:
        message = f"In the engine of every node that needs it ({len(progress.programmed)})"
        if progress.unreachable:
            message += f"; nothing is heard of {some(sorted(progress.unreachable))}"
        return conditions.ready("Programmed", message)
    if progress.unreachable:
        return unreachable(progress.unreachable)
    return conditions.ready("Programmed", "No node needs it: it has no Interface")


def interface_status(
    raw: Json,
    allocation: InterfaceAllocation | None,
    problems: Sequence[Problem],
    report: Report | None,
    now: datetime,
    obstacle: Verdict | None = None,
    endpoint: Json | None = None,
) -> Json:
    """Status of an Interface; `report` None: nothing is known of its node's agent.

    `obstacle` is why the report does not count: what it is about is not what is desired, or it may
    be long ago. `endpoint` is the function of its endpoint on the node; of a machine, which has it
    by the address, it stays until there is another.
    """
    accepted = None
    if problems:
        programmed, report = NOT_COMPILED, None
        accepted = conditions.pending("Waiting for what it refers to")
    elif allocation is None:
        programmed, accepted = NOT_COMPILED, conditions.pending("Waiting for the compiler")
    elif obstacle:
        programmed = obstacle
    elif report is None:
        where = f"Pipeline {allocation.pipeline} on node {allocation.node}"
        programmed = conditions.pending(f"No word of {where} yet: see the Pipeline's conditions")
    elif report.ready is None:
        programmed = Verdict(ConditionStatus.UNKNOWN, report.reason, report.message)
    else:
        verdict = conditions.ready if report.ready else conditions.not_ready
        programmed = verdict(report.reason, report.message)
    found = conditions.status(raw, problems, programmed, now, accepted)
    if allocation:
        # What is held, and where: a starting operator reads it.
        found["addresses"] = [*allocation.addresses]
        if allocation.node:
            found["nodeName"] = allocation.node
        if allocation.underlay_address:
            found["underlayAddress"] = allocation.underlay_address
        if allocation.endpoint and not allocation.endpoint.pod:
            before = part(raw, "status")
            had = part(before, "endpoint") if before.get("nodeName") == allocation.node else {}
            endpoint = endpoint or had
        if endpoint:
            found["endpoint"] = endpoint
    if report and report.mac_address:
        found["macAddress"] = report.mac_address
    return found


def _has_functions(spec: Json) -> bool:
    """Whether a Pipeline has functions of a resource."""
    uplinks, devices = (map(mapping, items(spec.get(name))) for name in ("uplinks", "devices"))
    functions = (part(each, "attachment", "sriov") for each in uplinks)
    return any("resourceName" in each for each in (*functions, *devices))


_NOBODY: Mapping[str, Sequence[str]] = {}
_UNALIGNED: Mapping[str, tuple[bool, str]] = {}
#: What Programmed waits for: feature -> what of a Pipeline needs it, and whether a spec has that.
_NEEDED: Mapping[str, tuple[str, Callable[[Json], bool]]] = {
    FUNCTIONS_OF_RESOURCE: (
        "resourceName of spec.uplinks or spec.devices",
        _has_functions,
    ),
    VLANS_OF_FUNCTIONS: (
        "vlans and endpointVLANs of spec.devices",
        lambda spec: any(
            {"vlans", "endpointVLANs"} & mapping(each).keys() for each in items(spec.get("devices"))
        ),
    ),
    SEVERAL_UNDERLAY_PREFIXES: (
        "several spec.underlayPrefixes",
        lambda spec: len(items(spec.get("underlayPrefixes"))) > 1,
    ),
}


def pipeline_status(
    raw: Json,
    nodes: Mapping[str, NodeAllocation],
    problems: Sequence[Problem],
    daemon_sets: Sequence[Json],
    failing: Mapping[str, str],
    states: Mapping[str, State],
    metrics_port: int | None,
    now: datetime,
    *,
    compiled: bool = True,
    unaware: Mapping[str, Sequence[str]] = _NOBODY,
    aligned: Mapping[str, tuple[bool, str]] = _UNALIGNED,
) -> Json:
    """Status of a Pipeline.

    `nodes` are the selected nodes; `daemon_sets` the watched ones that the Pipeline wants, with
    status; `failing` node -> why it does not forward as the Pipeline now is; `states` node
    -> what is known of it, where it is not alive. `compiled` is whether this generation could be
    read. `unaware`: feature -> nodes whose agents do not know it. `aligned`: node -> whether its
    workers are where the functions are that they drive, and what its agent says of it.
    """
    spec = part(raw, "spec")
    lacking = {
        words: unaware.get(feature, ())
        for feature, (words, has) in _NEEDED.items()
        if has(spec) and unaware.get(feature)
    }
    states = {node: state for node, state in sorted(states.items()) if node in nodes}
    gone = {node: state for node, state in states.items() if not state.reachable}
    failing = {
        node: failing[node] for node in sorted(nodes) if node in failing and node not in gone
    }
    accepted = None
    if not compiled:
        programmed = NOT_COMPILED
    elif not nodes:
        programmed = accepted = no_node(raw, "that shall run it")
    else:
        programmed = (
            _rolling_out(raw, daemon_sets)
            or _missing_pods(raw, len(nodes), daemon_sets, failing, len(gone))
            or _lacking(lacking)
            or _forwarding(nodes.keys(), gone)
        )
    more = _alignment(aligned)
    found = conditions.status(raw, problems, programmed, now, accepted, more)
    found["nodes"] = [
        {
            "name": node,
            "underlayPrefix": nodes[node].underlay_prefix,
            "underlayAddress": node_address(nodes[node].underlay_prefix),
            **({"state": states[node].value} if node in states else {}),
        }
        # A starting operator reads who is not alive: they come first where there are too many.
        for node in sorted(nodes, key=lambda node: (node not in states, node))[:_NODES]
    ]
    found["selectedNodes"] = len(nodes)
    found["readyNodes"] = len(nodes.keys() - {*failing, *gone}.union(*lacking.values()))
    found["unreachableNodes"] = len(gone)
    if metrics_port is not None:
        found["metricsPort"] = metrics_port
    return found


def withdrawn_nodes(raw: Json) -> frozenset[str]:
    """Nodes of a Pipeline whose next hops are left out, as its status says."""
    known = map(mapping, items(part(raw, "status").get("nodes")))
    withdrawn = {state.value for state in State if state.withdrawn}
    return frozenset(
        text(each.get("name")) for each in known if text(each.get("state")) in withdrawn
    )


def endpoint_status(raw: Json, problems: Sequence[Problem], now: datetime) -> Json:
    """Status of an UnderlayEndpoint."""
    if "namespaceSelector" in part(raw, "spec"):
        message = "The networks that its selectors select may route to it, and hear from it"
    else:
        message = "No network may use it: spec.namespaceSelector is absent"
    return conditions.status(raw, problems, conditions.ready("Admitting", message), now)


def compiled_status(raw: Json, problems: Sequence[Problem], now: datetime) -> Json:
    """Status of what is in force once it is compiled."""
    verdict = conditions.ready("Compiled", "It is compiled, and in force")
    return conditions.status(raw, problems, verdict, now)


def _alignment(aligned: Mapping[str, tuple[bool, str]]) -> Mapping[str, Verdict]:
    """The condition NUMAAligned, where any node has functions."""
    if not aligned:
        return {}
    apart = [f"{node} ({said})" for node, (well, said) in sorted(aligned.items()) if not well]
    if apart:
        message = f"{len(apart)} of {len(aligned)} nodes: {some(apart)}"
        verdict = conditions.not_ready("NotAligned", message)
    else:
        message = f"On every node with PCI functions ({len(aligned)}) workers are beside them"
        verdict = conditions.ready("Aligned", message)
    return {conditions.NUMA_ALIGNED: verdict}


def _lacking(features: Mapping[str, Sequence[str]]) -> Verdict | None:
    first = next(iter(features.items()), None)
    return _too_old(first[1], first[0]) if first else None


def _too_old(nodes: Sequence[str], what: str) -> Verdict:
    message = (
        f"The agents of {some(sorted(nodes))} are of a release that does not know {what}:"
        " replace their pods"
    )
    return conditions.not_ready("AgentTooOld", message)


def _forwarding(nodes: Collection[str], gone: Mapping[str, State]) -> Verdict:
    if not gone:
        return conditions.ready("Forwarding", f"Every node forwards ({len(nodes)})")
    if len(gone) == len(nodes):
        return unreachable(gone)
    return conditions.ready(
        "Forwarding",
        f"{len(nodes) - len(gone)} of {len(nodes)} nodes forward; nothing is heard of"
        f" {some(sorted(gone))}",
    )


def no_node(raw: Json, which: str) -> Verdict:
    """No node is selected; `which` are to be, in words."""
    wanted = part(raw, "spec", "nodeSelector", "matchLabels")
    labels = ", ".join(f"{key}={value}" for key, value in sorted(wanted.items()))
    if "nodeSelector" not in part(raw, "spec"):
        what = "spec.nodeSelector is absent, which selects no node ({} selects all)"
    elif "matchExpressions" in part(raw, "spec", "nodeSelector"):
        what = "No node meets spec.nodeSelector"
    else:
        what = f"No node has the labels {labels}" if labels else "There is no node"
    return Verdict(
        ConditionStatus.FALSE,
        "NoMatchingNode",
        f"{what}: label the nodes {which}, or change spec.nodeSelector",
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
    raw: Json, selected: int, daemon_sets: Sequence[Json], failing: Mapping[str, str], gone: int
) -> Verdict | None:
    statuses = [part(item, "status") for item in daemon_sets]
    desired = sum(number(status.get("desiredNumberScheduled")) for status in statuses)
    pods = sum(number(status.get("numberReady")) for status in statuses)
    found = []
    if desired < selected:
        found.append(
            f"{selected - desired} of {selected} selected nodes get no dataplane pod:"
            " see their taints and spec.tolerations"
        )
    # Of the nodes that are not heard of the pods need not be ready.
    if pods + gone < desired:
        found.append(
            f"{desired - pods} of {desired} dataplane pods are not ready:"
            f" see {_pods(raw, daemon_sets)}"
        )
    if failing:
        first, *others = failing
        named = some([f"{first} ({failing[first]})", *others])
        found.append(f"{len(failing)} of {selected} nodes do not forward: {named}")
    return conditions.not_ready("DataplaneNotReady", "; ".join(found)) if found else None


def some(names: Sequence[str]) -> str:
    """The names, but not too many of them."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _pods(raw: Json, daemon_sets: Sequence[Json]) -> str:
    """The command that shows the Pipeline's pods."""
    namespace = text(mapping(daemon_sets[0].get("metadata")).get("namespace"))
    return f"kubectl -n {namespace} get pods -o wide -l {PIPELINE_LABEL}={key_of(raw)}"
