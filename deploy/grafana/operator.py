# SPDX-License-Identifier: Apache-2.0
"""The operator: who leads, is it behind, does the API server take what it writes."""

from grafana_foundation_sdk.models import dashboard as models

from .panels import Query, Row, Steps, choice, graph, number, page

_ON = 'namespace=~"$namespace"'
_PROCESS = f'job="headrace", component="operator", {_ON}'


def _rate(metric: str, by: str, more: str = "") -> str:
    return f"sum by ({by}) (rate(headrace_operator_{metric}{{{_ON}{more}}}[$__rate_interval]))"


def _quantiles(metric: str) -> tuple[Query, ...]:
    buckets = _rate(f"{metric}_bucket", "le")
    none = f"or on () 0 * sum(headrace_operator_leader{{{_ON}}})"
    return tuple(
        Query(f"histogram_quantile({part}, {buckets}) >= 0 {none}", name)
        for part, name in ((0.5, "median"), (0.99, "99%"))
    )


_WELL = Row(
    "Is it well",
    (
        number(
            "Leaders",
            f"sum(headrace_operator_leader{{{_ON}}}) or vector(0)",
            "1 is right. 0: nothing that anybody changes takes effect; what forwards goes on. "
            "kubectl -n headrace-system get lease headrace-operator; then the pods' logs.",
            steps=Steps(bad=1, inverted=True),
        ),
        number(
            "Replicas",
            f"sum(up{{{_PROCESS}}}) or vector(0)",
            "Operators that answer. With one less than the Deployment asks for, the next failure "
            "is an outage of changes: kubectl -n headrace-system get pods.",
            steps=Steps(bad=1, inverted=True),
        ),
        number(
            "Queue",
            f"max(headrace_operator_queue_depth{{{_ON}}})",
            "Changes waiting. Returns to 0 within seconds; a queue that stays is an API server "
            "that is slow or refuses: see errors below.",
            steps=Steps(warn=100, bad=1000),
        ),
        number(
            "Lease transitions in 1 h",
            f"max(increase(headrace_operator_lease_transitions_total{{{_ON}}}[1h]))",
            "Changes of leader. One or two at an upgrade; more: replicas are starved of CPU or the "
            "API server answers late.",
            steps=Steps(warn=3, bad=5),
        ),
        number(
            "Last resync",
            f"time() - min(headrace_operator_resync_timestamp_seconds{{{_ON}}})",
            "Since all objects were last listed and compared with what it knows (resyncSeconds, 10 "
            "minutes). Much longer: the operator hangs; restart its leader.",
            unit="s",
            steps=Steps(warn=1200, bad=1800),
        ),
        number(
            "Interfaces not ready",
            f'max(headrace_operator_interfaces{{ready="false", {_ON}}} '
            "and on (instance) headrace_operator_leader == 1) or vector(0)",
            "Interfaces that do not forward: kubectl get interfaces -A.",
            steps=Steps(warn=1),
        ),
    ),
)

_DELAY = Row(
    "How fast changes go through",
    (
        graph(
            "From change to written",
            _quantiles("queue_seconds"),
            "From when a change came until all it leads to was written. Seconds: the API server is "
            "slow, or very much changes at once; compare queue and writes.",
            unit="s",
            span=8,
            steps=Steps(warn=5, bad=30),
        ),
        graph(
            "Compile",
            _quantiles("compile_seconds"),
            "Time to work out what all objects mean, for one batch of changes. Grows with what "
            "changes at once. Long: give the operator more CPU.",
            unit="s",
            span=8,
        ),
        graph(
            "Queue",
            Query(f"headrace_operator_queue_depth{{{_ON}}}", "{{pod}}"),
            "Changes waiting, by replica. Only the leader works it off.",
            unit="short",
            span=8,
        ),
    ),
)

_API = Row(
    "API server",
    (
        graph(
            "Errors",
            Query(
                _rate("api_errors_total", "operation, code") + " > 0 or on () "
                'label_replace(vector(0), "operation", "none", "", "")',
                "{{operation}} {{code}}",
            ),
            "Requests that failed. 403: RBAC differs from the chart's; 409: somebody else changes "
            "the same objects; 429 and 5xx: the API server is overloaded or away.",
            unit="ops",
            span=8,
        ),
        graph(
            "Writes",
            Query(
                _rate("writes_total", "kind, result") + " or on () "
                'label_replace(vector(0), "kind", "none", "", "")',
                "{{kind}} {{result}}",
            ),
            "Objects written. None while nothing changes. Steady writes without changes: two "
            "writers fight over an object; see its managedFields.",
            unit="ops",
            span=8,
        ),
        graph(
            "Watch events",
            Query(
                _rate("watch_events_total", "kind") + " or on () "
                'label_replace(vector(0), "kind", "none", "", "")',
                "{{kind}}",
            ),
            "Changes that the API server told of. None for hours while objects change: the watch "
            "is stuck; restart the leader.",
            unit="ops",
            span=8,
        ),
    ),
)

_OBJECTS = Row(
    "Objects",
    (
        graph(
            "Objects",
            Query(f"max by (kind) (headrace_operator_objects{{{_ON}}})", "{{kind}}"),
            "What the operator knows of. Less than kubectl shows: it has not seen them; see watch "
            "events.",
            unit="short",
            span=8,
        ),
        graph(
            "Problems",
            Query(
                f"max by (kind, reason) (headrace_operator_problems{{{_ON}}}) > 0 or on () "
                'label_replace(vector(0), "reason", "none", "", "")',
                "{{kind}} {{reason}}",
            ),
            "Objects with a problem, by reason; docs/interface.md, docs/virtualnetwork.md and "
            "docs/pipeline.md say what to do for each.",
            unit="short",
            span=8,
        ),
        graph(
            "Nodes of Pipelines",
            Query(
                f"max by (pipeline, state) (headrace_operator_pipeline_nodes{{{_ON}}}) or on () "
                'label_replace(vector(0), "pipeline", "none", "", "")',
                "{{pipeline}} {{state}}",
            ),
            "Nodes that each Pipeline selects, and those with a ready dataplane. Apart for longer "
            "than a rollout takes: kubectl describe the Pipeline names the nodes.",
            unit="short",
            span=8,
        ),
    ),
)

_RESOURCES = Row(
    "Process",
    (
        graph(
            "CPU",
            Query(f"rate(process_cpu_seconds_total{{{_PROCESS}}}[$__rate_interval])", "{{pod}}"),
            "Cores in use. Near the pod's limit it is throttled, and changes take longer.",
            unit="short",
        ),
        graph(
            "Memory",
            Query(f"process_resident_memory_bytes{{{_PROCESS}}}", "{{pod}}"),
            "Grows with the number of objects. A steady climb with the same objects is a leak: "
            "report it.",
            unit="bytes",
        ),
    ),
)


def dashboard() -> models.Dashboard:
    """Return the dashboard."""
    return page(
        "headrace-operator",
        "Headrace / Operator",
        "Who leads, is it behind, does the API server take what it writes.",
        (
            choice(
                "namespace",
                "Namespace",
                "label_values(headrace_operator_leader, namespace)",
                several=True,
            ),
        ),
        (_WELL, _DELAY, _API, _OBJECTS, _RESOURCES),
    )
