# SPDX-License-Identifier: Apache-2.0
"""Panels, rows and variables as every Headrace dashboard has them.

A panel's description is for who is on call: what the panel shows, and what to do when it looks bad.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from grafana_foundation_sdk.builders import common, stat, table, timeseries
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.models import common as shapes
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

Panel: TypeAlias = stat.Panel | timeseries.Panel | table.Panel
Unit: TypeAlias = Literal[
    "short", "pps", "bps", "bytes", "s", "percentunit", "ops", "dateTimeFromNow", "none"
]

TAG = "headrace"
GREEN, AMBER, RED = "green", "orange", "red"

_SOURCE = models.DataSourceRef(type_val="prometheus", uid="${datasource}")


@dataclass(frozen=True)
class Steps:
    """Colours by value: green, amber from `warn` on, red from `bad` on.

    `inverted`: red, and green from `bad` on.
    """

    warn: float | None = None
    bad: float | None = None
    inverted: bool = False

    def build(self) -> build.ThresholdsConfig:
        """Return Grafana's thresholds."""
        first, last = (RED, GREEN) if self.inverted else (GREEN, RED)
        steps = [models.Threshold(value=None, color=first)]
        if self.warn is not None:
            steps.append(models.Threshold(value=self.warn, color=AMBER))
        if self.bad is not None:
            steps.append(models.Threshold(value=self.bad, color=last))
        return build.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps)


CALM = Steps()
"""No value is bad by itself."""

ANY_IS_BAD = Steps(bad=1)
"""One is one too many."""


@dataclass(frozen=True)
class Query:
    """A PromQL expression; `legend` is Grafana's template of a series' name."""

    expr: str
    legend: str = "__auto"


@dataclass(frozen=True)
class Column:
    """A column of a table: an instant query, and how its values look."""

    title: str
    expr: str
    unit: Unit = "short"
    steps: Steps = CALM


@dataclass(frozen=True)
class Link:
    """Where a label's value leads: a dashboard's uid, and label -> that dashboard's variable."""

    title: str
    uid: str
    variables: dict[str, str] = field(default_factory=dict)

    def build(self, *, row: bool) -> build.DashboardLink:
        """Return the link of a series, or of a table's row."""
        source = "__data.fields.{}" if row else "__field.labels.{}"
        chosen = "".join(
            f"&var-{variable}=${{{source.format(label)}}}"
            for label, variable in self.variables.items()
        )
        return build.DashboardLink(self.title).url(
            f"/d/{self.uid}?var-datasource=${{datasource}}{chosen}&${{__url_time_range}}"
        )


def number(
    title: str,
    expr: str,
    description: str,
    *,
    unit: Unit = "short",
    steps: Steps = CALM,
    span: int = 4,
) -> stat.Panel:
    """Return one number; its background tells how it is."""
    panel = (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(_SOURCE)
        .with_target(_query("A", Query(expr, title)))
        .unit(unit)
        .thresholds(steps.build())
        .graph_mode(shapes.BigValueGraphMode.AREA)
        .color_mode(
            shapes.BigValueColorMode.VALUE
            if steps == CALM
            else shapes.BigValueColorMode.BACKGROUND_SOLID
        )
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .height(4)
        .span(span)
    )
    return panel.color_scheme(build.FieldColor().mode(models.FieldColorModeId.THRESHOLDS))


def graph(
    title: str,
    queries: Query | Sequence[Query],
    description: str,
    *,
    unit: Unit,
    steps: Steps = CALM,
    span: int = 12,
    stacked: bool = False,
    maximum: float | None = None,
    links: Sequence[Link] = (),
) -> timeseries.Panel:
    """Return lines over time, with a table of the last, mean and largest values under them."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(_SOURCE)
        .unit(unit)
        .min(0)
        .thresholds(steps.build())
        .line_width(1)
        .fill_opacity(30 if stacked else 8)
        .show_points(shapes.VisibilityMode.NEVER)
        .legend(
            common.VizLegendOptions()
            .show_legend(True)
            .display_mode(shapes.LegendDisplayMode.TABLE)
            .placement(shapes.LegendPlacement.BOTTOM)
            .calcs(["lastNotNull", "mean", "max"])
            .sort_by("Max")
            .sort_desc(True)
        )
        .tooltip(
            common.VizTooltipOptions()
            .mode(shapes.TooltipDisplayMode.MULTI)
            .sort(shapes.SortOrder.DESCENDING)
        )
        .data_links([link.build(row=False) for link in links])
        .height(8)
        .span(span)
    )
    if stacked:
        panel.stacking(common.StackingConfig().mode(shapes.StackingMode.NORMAL).group("A"))
    if maximum is not None:
        panel.max(maximum)
    if steps != CALM:
        style = common.GraphThresholdsStyleConfig().mode(shapes.GraphTresholdsStyleMode.DASHED)
        panel.thresholds_style(style)
    for ref, query in zip(
        "ABCDEFGH", [queries] if isinstance(queries, Query) else queries, strict=False
    ):
        panel.with_target(_query(ref, query))
    return panel


def grid(
    title: str,
    labels: Sequence[str],
    columns: Sequence[Column],
    description: str,
    *,
    links: Sequence[Link] = (),
    sort: str = "",
    height: int = 8,
    span: int = 24,
) -> table.Panel:
    """Return a table with a row for each value of `labels`, linked by its first label."""
    refs = "ABCDEFGH"[: len(columns)]
    keep = (*labels, *(f"Value #{ref}" for ref in refs))
    panel = (
        table.Panel()
        .title(title)
        .description(description)
        .datasource(_SOURCE)
        .with_transformation(models.DataTransformerConfig(id_val="merge", options={}))
        .with_transformation(
            models.DataTransformerConfig(
                id_val="filterFieldsByName", options={"include": {"names": list(keep)}}
            )
        )
        .height(height)
        .span(span)
    )
    for ref, column in zip(refs, columns, strict=True):
        query = _query(ref, Query(column.expr)).instant().format(PromQueryFormat.TABLE)
        panel.with_target(query)
        properties = [
            models.DynamicConfigValue("displayName", column.title),
            models.DynamicConfigValue("unit", column.unit),
            models.DynamicConfigValue("thresholds", column.steps.build().build()),
        ]
        if column.steps != CALM:
            cell = {"type": "color-background", "mode": "basic"}
            properties.append(models.DynamicConfigValue("custom.cellOptions", cell))
        panel.override_by_name(f"Value #{ref}", properties)
    if links:
        built = [link.build(row=True).build() for link in links]
        panel.override_by_name(labels[0], [models.DynamicConfigValue("links", built)])
    if sort:
        panel.sort_by([common.TableSortByFieldState().display_name(sort).desc(True)])
    return panel


def choice(name: str, label: str, query: str, *, several: bool = False) -> build.QueryVariable:
    """Return a variable with the values that `query` finds; `several`: any number, or all."""
    variable = (
        build.QueryVariable(name)
        .label(label)
        .query(query)
        .datasource(_SOURCE)
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
        .multi(several)
        .include_all(several)
    )
    if several:
        # Matches what lacks the label too, and stays short where there are thousands of names.
        variable.all_value(".*")
        variable.current(models.VariableOption(selected=True, text=["All"], value=["$__all"]))
    return variable


@dataclass(frozen=True)
class Row:
    """A title, and the panels under it."""

    title: str
    panels: tuple[Panel, ...]


def page(
    uid: str,
    title: str,
    description: str,
    variables: Sequence[build.QueryVariable],
    rows: Sequence[Row],
) -> models.Dashboard:
    """Return a dashboard, linked to every other one of Headrace."""
    dashboard = (
        build.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags([TAG])
        .readonly()
        .timezone("browser")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .time("now-1h", "now")
        .refresh("30s")
        .with_variable(
            build.DatasourceVariable("datasource").label("Prometheus").type("prometheus")
        )
        .link(
            build.DashboardLink("Headrace")
            .type(models.DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .include_vars(True)
            .keep_time(True)
        )
    )
    for variable in variables:
        dashboard.with_variable(variable)
    for row in rows:
        dashboard.with_row(build.Row(row.title))
        for panel in row.panels:
            dashboard.with_panel(panel)
    built = dashboard.build()
    for number_, item in enumerate(built.panels or [], start=1):
        item.id_val = number_
    return built


def _query(ref: str, query: Query) -> Dataquery:
    return Dataquery().ref_id(ref).expr(query.expr).legend_format(query.legend).datasource(_SOURCE)
