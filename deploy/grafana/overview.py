# SPDX-License-Identifier: Apache-2.0
"""The first page: is it well, what is lost, where is it tight, which node to look at."""

from grafana_foundation_sdk.models import dashboard as models

from .drops import ENDPOINT, LOSS, matcher
from .links import NODE
from .panels import ANY_IS_BAD, Column, Query, Row, Steps, choice, graph, grid, number, page

_ON = 'pipeline=~"$pipeline"'
_BY = "by (pipeline, node)"
_LEADER = "and on (instance) headrace_operator_leader == 1"


def _lost(reasons: tuple[str, ...]) -> str:
    selector = f"{{{_ON}, {matcher(reasons)}}}"
    return (
        f"sum by (reason) (rate(headrace_dropped_packets_total{selector}[$__rate_interval])) > 0 "
        'or on () label_replace(vector(0), "reason", "none", "", "")'
    )


def _rate(metric: str, by: str = "pipeline") -> str:
    return f"sum by ({by}) (rate({metric}{{{_ON}}}[$__rate_interval]))"


def _busy(by: str) -> str:
    def spent(state: str) -> str:
        return _rate(f"headrace_worker_{state}_seconds_total", by)

    return f"{spent('busy')} / ({spent('busy')} + {spent('idle')} + {spent('sleep')})"


def _nodes(state: str) -> str:
    selector = f'{{state="{state}", {_ON}}}'
    return f"(sum(headrace_operator_pipeline_nodes{selector} {_LEADER}) or vector(0))"


_WELL = Row(
    "Is it well",
    (
        number(
            "Alerts firing",
            'count(ALERTS{alertname=~"Headrace.*", alertstate="firing"}) or vector(0)',
            "Headrace's alerts that fire now. Each names its section of docs/alerts.md, which says "
            "what to look at and what to do. Stays 0 where the rules are not loaded.",
            steps=ANY_IS_BAD,
        ),
        number(
            "Dataplanes not answering",
            f'sum(up{{job="headrace", component="dataplane", {_ON}}} == bool 0)',
            "Dataplane pods whose agent Prometheus cannot scrape. Packets may still flow: the "
            "engine does not need the agent. Look at the pod: kubectl -n headrace-system get pods "
            "-o wide, then its log.",
            steps=ANY_IS_BAD,
        ),
        number(
            "Engines down",
            f"sum(headrace_engine_up{{{_ON}}} == bool 0)",
            "Agents without an answering engine: nothing is forwarded there. The agent's log says "
            "why the engine ended; the table below says which node.",
            steps=ANY_IS_BAD,
        ),
        number(
            "Stale configurations",
            f"count(headrace_config_lag_seconds{{{_ON}}} > 60) or vector(0)",
            "Nodes that have wanted a newer configuration for over a minute and forward by the old "
            "one. The agent's log names the object and field that the engine refuses.",
            steps=ANY_IS_BAD,
        ),
        number(
            "Interfaces not ready",
            f'sum(headrace_operator_interfaces{{ready="false"}} {_LEADER}) or vector(0)',
            "Interfaces of all Pipelines that do not forward. kubectl get interfaces -A shows each "
            "with its reason; docs/interface.md says what to do for each reason.",
            steps=Steps(warn=1),
        ),
        number(
            "Nodes without dataplane",
            f"{_nodes('selected')} - {_nodes('ready')}",
            "Nodes that a Pipeline selects and that have no ready dataplane. Expected for minutes "
            "during a rollout. kubectl get pipelines names them in the Ready condition.",
            steps=Steps(warn=1),
        ),
    ),
)

_LOSS = Row(
    "What is lost",
    (
        graph(
            "Dropped by the platform",
            Query(_lost(LOSS), "{{reason}}"),
            "Packets that should have arrived, by reason. docs/alerts.md#headracedrops says what "
            "each reason points to; the page of a node shows which Interfaces it hits.",
            unit="pps",
            span=8,
            steps=Steps(warn=10),
        ),
        graph(
            "Dropped for endpoints",
            Query(_lost(ENDPOINT), "{{reason}}"),
            "Packets that an endpoint may not send, or that were for one that is not there: "
            "usually the tenant's to correct. A sudden jump of unresolved or no_route at many "
            "nodes is not: look at the underlay's next hops (headrace neighbors) and the operator.",
            unit="pps",
            span=8,
        ),
        graph(
            "Lost before the engine",
            [
                Query(
                    _rate("headrace_port_receive_missed_packets_total", "pipeline, node") + " > 0 "
                    'or on () label_replace(vector(0), "node", "none", "", "")',
                    "queue full {{pipeline}} {{node}}",
                ),
                Query(
                    _rate("headrace_port_receive_no_buffer_total", "pipeline, node") + " > 0 "
                    'or on () label_replace(vector(0), "node", "none", "", "")',
                    "no buffer {{pipeline}} {{node}}",
                ),
            ],
            "Packets that the device threw away because workers did not come for them (queue full) "
            "or because all packet buffers were taken (no buffer). Give the Pipeline more workers, "
            "or more memory.",
            unit="pps",
            span=8,
            steps=Steps(warn=1),
            links=(NODE,),
        ),
    ),
)

_CAPACITY = Row(
    "Where it is tight",
    (
        graph(
            "Busiest workers",
            Query(
                f"topk(10, {_busy('pipeline, node, worker')})", "{{pipeline}} {{node}} {{worker}}"
            ),
            "Share of a worker's time in walks that found packets; the ten highest. From 90% on a "
            "burst of traffic is lost. One busy worker beside idle ones: too few receive queues or "
            "one heavy flow. All busy: raise workers.count of the Pipeline.",
            unit="percentunit",
            maximum=1,
            steps=Steps(warn=0.75, bad=0.9),
            links=(NODE,),
        ),
        graph(
            "Configuration lag",
            Query(
                f"topk(10, max {_BY} (headrace_config_lag_seconds{{{_ON}}}))",
                "{{pipeline}} {{node}}",
            ),
            "For how long nodes have wanted a configuration that they do not forward by yet. "
            "Seconds at a change are normal; a line that climbs is a refusal: see the agent's log.",
            unit="s",
            steps=Steps(warn=10, bad=60),
            links=(NODE,),
        ),
    ),
)

_TRAFFIC = Row(
    "What it carries",
    (
        graph(
            "Packets of Interfaces",
            [
                Query(_rate("headrace_interface_receive_packets_total"), "from {{pipeline}}"),
                Query(_rate("headrace_interface_transmit_packets_total"), "to {{pipeline}}"),
            ],
            "Packets from and to endpoints, by Pipeline. Nothing at all where there was traffic: "
            "see the first row, then one node.",
            unit="pps",
            span=8,
        ),
        graph(
            "Bits of Interfaces",
            [
                Query(
                    "8 * " + _rate("headrace_interface_receive_bytes_total"), "from {{pipeline}}"
                ),
                Query("8 * " + _rate("headrace_interface_transmit_bytes_total"), "to {{pipeline}}"),
            ],
            "Bits from and to endpoints, by Pipeline.",
            unit="bps",
            span=8,
        ),
        graph(
            "Objects",
            Query(f"sum by (kind) (headrace_objects{{{_ON}}})", "{{kind}}"),
            "What the engines hold, all nodes together. A sudden fall means that objects were "
            "deleted, or that engines restarted and were not given them again.",
            unit="short",
            span=8,
        ),
    ),
)

_NODES = Row(
    "Nodes",
    (
        grid(
            "Nodes",
            ("node", "pipeline"),
            (
                Column(
                    "Engine",
                    f"min {_BY} (headrace_engine_up{{{_ON}}})",
                    steps=Steps(bad=1, inverted=True),
                ),
                Column(
                    "Lag",
                    f"max {_BY} (headrace_config_lag_seconds{{{_ON}}})",
                    "s",
                    Steps(warn=10, bad=60),
                ),
                Column("Interfaces ready", f"sum {_BY} (headrace_interface_ready{{{_ON}}})"),
                Column("Busy", _busy("pipeline, node"), "percentunit", Steps(warn=0.75, bad=0.9)),
                Column(
                    "Received",
                    _rate("headrace_port_receive_packets_total", "pipeline, node"),
                    "pps",
                ),
                Column("Dropped", _rate("headrace_dropped_packets_total", "pipeline, node"), "pps"),
                Column(
                    "Since",
                    f"1000 * max {_BY} (headrace_engine_start_time_seconds{{{_ON}}})",
                    "dateTimeFromNow",
                ),
            ),
            "Every dataplane. Click a node for its own page. Red: no engine; amber lag: it has yet "
            "to take up its configuration; a young Since that nobody ordered: the engine died.",
            links=(NODE,),
            sort="Dropped",
            height=10,
        ),
    ),
)

_PROBLEMS = Row(
    "Problems of objects",
    (
        graph(
            "Problems by reason",
            Query(
                f"sum by (kind, reason) (headrace_operator_problems {_LEADER}) > 0 or on () "
                'label_replace(vector(0), "reason", "none", "", "")',
                "{{kind}} {{reason}}",
            ),
            "What the operator says of objects in their conditions. The page of each kind "
            "(docs/interface.md, docs/virtualnetwork.md, docs/pipeline.md) lists the reasons with "
            "what to do.",
            unit="short",
            span=24,
        ),
    ),
)


def dashboard() -> models.Dashboard:
    """Return the dashboard."""
    return page(
        "headrace-overview",
        "Headrace / Overview",
        "Is Headrace well, what is lost, where is it tight. Read from the top.",
        (
            choice(
                "pipeline", "Pipeline", "label_values(headrace_engine_up, pipeline)", several=True
            ),
        ),
        (_WELL, _LOSS, _CAPACITY, _TRAFFIC, _NODES, _PROBLEMS),
    )
