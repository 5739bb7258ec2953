"""Panels of the dashboard as Grafana's own builders make them.

In an expression `%I` stands for the chosen workers and `%R` for Grafana's rate interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from grafana_foundation_sdk.builders import common as look
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.builders import prometheus, stat, table, timeseries
from grafana_foundation_sdk.models import common as looks
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.prometheus import PromQueryFormat, QueryEditorMode

SOURCE = model.DataSourceRef(type_val="prometheus", uid="${datasource}")
RUNBOOK = "${runbook}"  # a variable of the dashboard: where the documentation is served
_WORKERS = 'instance=~"$instance"'
_STAT_HEIGHT, _PLOT_HEIGHT = 4, 8
Query = tuple[str, str]  # the expression and what its lines are called
Steps = Sequence[tuple[str, float | None]]  # colours, each from a value on


@dataclass(frozen=True)
class Line:
    """How a line of that name differs from the others of its plot."""

    name: str
    colour: str | None = None
    dashed: bool = False
    unit: str | None = None


@dataclass(frozen=True)
class Stat:
    title: str
    description: str
    query: Query
    unit: str = "short"
    steps: Steps = (("blue", None),)
    words: dict[str, tuple[str, str]] = field(default_factory=dict)  # value: text, colour
    decimals: int | None = None
    width: int = 4
    height: int = _STAT_HEIGHT
    runbook: str | None = None  # the entry to read where it is red

    def builder(self, at: model.GridPos) -> Any:
        panel = (
            stat.Panel()
            .title(self.title)
            .description(self.description)
            .datasource(SOURCE)
            .grid_pos(at)
            .unit(self.unit)
            .color_mode(looks.BigValueColorMode.VALUE)
            .graph_mode(looks.BigValueGraphMode.AREA)
            .reduce_options(look.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
            .color_scheme(build.FieldColor().mode(model.FieldColorModeId.THRESHOLDS))
            .thresholds(_thresholds(self.steps))
            .with_target(_target(0, self.query))
        )
        if self.decimals is not None:
            panel = panel.decimals(self.decimals)
        if self.words:
            options = {
                value: model.ValueMappingResult(text=text, color=colour, index=place)
                for place, (value, (text, colour)) in enumerate(self.words.items())
            }
            panel = panel.mappings([model.ValueMap(options=options)])
        return _linked(panel, self.runbook)


@dataclass(frozen=True)
class Plot:
    title: str
    description: str
    queries: Sequence[Query]
    unit: str = "short"
    stacked: bool = False
    log: bool = False
    lines: Sequence[Line] = ()
    limits: Steps = ()  # drawn as lines
    width: int = 8
    height: int = _PLOT_HEIGHT
    runbook: str | None = None

    def builder(self, at: model.GridPos) -> Any:
        scale = look.ScaleDistributionConfig()
        scale = (
            scale.type(looks.ScaleDistribution.LOG).log(10)
            if self.log
            else scale.type(looks.ScaleDistribution.LINEAR)
        )
        stacking = looks.StackingMode.NORMAL if self.stacked else looks.StackingMode.NONE
        style = looks.GraphThresholdsStyleMode.LINE
        panel = (
            timeseries.Panel()
            .title(self.title)
            .description(self.description)
            .datasource(SOURCE)
            .grid_pos(at)
            .unit(self.unit)
            .draw_style(looks.GraphDrawStyle.LINE)
            .line_width(1)
            .fill_opacity(25 if self.stacked else 8)
            .show_points(looks.VisibilityMode.NEVER)
            .stacking(look.StackingConfig().group("A").mode(stacking))
            .scale_distribution(scale)
            .thresholds(_thresholds(self.limits or (("green", None),)))
            .thresholds_style(
                look.GraphThresholdsStyleConfig().mode(
                    style if self.limits else looks.GraphThresholdsStyleMode.OFF
                )
            )
            .legend(
                look.VizLegendOptions()
                .show_legend(True)
                .display_mode(looks.LegendDisplayMode.LIST)
                .placement(looks.LegendPlacement.BOTTOM)
            )
            .tooltip(look.VizTooltipOptions().mode(looks.TooltipDisplayMode.MULTI))
        )
        if not self.log:
            panel = panel.min(0)
        for place, query in enumerate(self.queries):
            panel = panel.with_target(_target(place, query))
        for line in self.lines:
            panel = panel.override_by_name(line.name, _properties(line))
        return _linked(panel, self.runbook)


@dataclass(frozen=True)
class Table:
    """Instant values side by side, joined by their instance."""

    title: str
    description: str
    queries: Sequence[str]
    names: dict[str, str]  # of columns
    width: int = 16
    height: int = 5

    def builder(self, at: model.GridPos) -> Any:
        panel = (
            table.Panel()
            .title(self.title)
            .description(self.description)
            .datasource(SOURCE)
            .grid_pos(at)
        )
        hidden = {"Time": True}
        for place, expression in enumerate(self.queries):
            panel = panel.with_target(
                _query(place, expression).format(PromQueryFormat.TABLE).instant()
            )
            hidden |= {f"Time {place + 1}": True, f"Value #{_letter(place)}": True}
        return panel.with_transformation(
            model.DataTransformerConfig(
                id_val="joinByField", options={"byField": "instance", "mode": "outer"}
            )
        ).with_transformation(
            model.DataTransformerConfig(
                id_val="organize",
                options={"excludeByName": hidden, "indexByName": {}, "renameByName": self.names},
            )
        )


Panel = Stat | Plot | Table


def _letter(place: int) -> str:
    return chr(ord("A") + place)


def _query(place: int, expression: str) -> prometheus.Dataquery:
    text = expression.replace("%I", _WORKERS).replace("%R", "$__rate_interval")
    return (
        prometheus.Dataquery()
        .ref_id(_letter(place))
        .expr(text)
        .datasource(SOURCE)
        .editor_mode(QueryEditorMode.CODE)
    )


def _target(place: int, query: Query) -> prometheus.Dataquery:
    expression, name = query
    return _query(place, expression).legend_format(name).range()


def _thresholds(steps: Steps) -> build.ThresholdsConfig:
    return (
        build.ThresholdsConfig()
        .mode(model.ThresholdsMode.ABSOLUTE)
        .steps([model.Threshold(color=colour, value=value) for colour, value in steps])
    )


def _properties(line: Line) -> list[model.DynamicConfigValue]:
    of: dict[str, Any] = {}
    if line.colour:
        of["color"] = {"mode": "fixed", "fixedColor": line.colour}
    if line.dashed:
        of["custom.lineStyle"] = {"fill": "dash", "dash": [8, 6]}
        of["custom.lineWidth"], of["custom.fillOpacity"] = 2, 0
    if line.unit:
        of["unit"], of["custom.axisPlacement"] = line.unit, "right"
    return [model.DynamicConfigValue(id_val=name, value=value) for name, value in of.items()]


def _linked(panel: Any, entry: str | None) -> Any:
    if entry is None:
        return panel
    link = build.DashboardLink("What to do").type(model.DashboardLinkType.LINK)
    return panel.links([link.url(f"{RUNBOOK}#{entry.lower()}").target_blank(True)])
