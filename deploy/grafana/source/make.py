"""Write the dashboard that Grafana is given (`make reference`); with --check only compare."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as model
from panels import SOURCE, Panel
from rows import ROWS

WRITTEN = Path(__file__).parent.parent / "dashboards" / "detector.json"
_WIDTH = 24


def dashboard() -> model.Dashboard:
    made = (
        build.Dashboard("Detector")
        .uid("detector")
        .description(
            "Streaming anomaly detection: is it well, how much does it do, how fast, what does it "
            "find, and who is told."
        )
        .tags(["detector"])
        .timezone("browser")
        .editable()
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .time("now-30m", "now")
        .refresh("10s")
        .version(1)
        .with_variable(
            build.DatasourceVariable("datasource").label("Data source").type("prometheus")
        )
        .with_variable(_workers())
        .with_variable(_text("page", "Page", "http://localhost:9464"))
        .with_variable(_text("runbook", "Runbook", "http://localhost:8000/runbook.html"))
        .link(_link("Page of the detector", "${page}/"))
        .link(_link("Runbook", "${runbook}"))
    )
    top = 0
    for title, panels in ROWS:
        made = made.with_row(build.Row(title).grid_pos(model.GridPos(h=1, w=_WIDTH, x=0, y=top)))
        top += 1
        for panel, at in _laid_out(panels, top):
            made = made.with_panel(panel.builder(at))
            bottom = at.y + at.h
        top = bottom
    return made.build()


def _laid_out(panels: list[Panel], top: int) -> list[tuple[Panel, model.GridPos]]:
    """From left to right, on a new line where one is full."""
    placed, left, height = [], 0, 0
    for panel in panels:
        if left + panel.width > _WIDTH:
            top, left, height = top + height, 0, 0
        placed.append((panel, model.GridPos(h=panel.height, w=panel.width, x=left, y=top)))
        left, height = left + panel.width, max(height, panel.height)
    return placed


def _source() -> build.DatasourceVariable:
    return build.DatasourceVariable("datasource").label("Data source").type("prometheus")


def _workers() -> build.QueryVariable:
    query = "label_values(detector_build_info, instance)"
    return (
        build.QueryVariable("instance")
        .label("Worker")
        .datasource(SOURCE)
        .query({"qryType": 1, "query": query, "refId": "instance"})
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .current(model.VariableOption(selected=True, text=["All"], value=["$__all"]))
    )


def _text(name: str, label: str, value: str) -> build.TextBoxVariable:
    return (
        build.TextBoxVariable(name)
        .label(label)
        .description(f"Where the links of the panels lead: {value}")
        .default_value(value)
        .current(model.VariableOption(selected=True, text=value, value=value))
    )


def _link(title: str, url: str) -> build.DashboardLink:
    return (
        build.DashboardLink(title)
        .type(model.DashboardLinkType.LINK)
        .icon("external link")
        .url(url)
        .target_blank(True)
    )


def text() -> str:
    tree: dict[str, Any] = json.loads(json.dumps(dashboard(), cls=JSONEncoder))
    for place, panel in enumerate(tree["panels"]):
        panel["id"] = place + 1
    return json.dumps(tree, indent=2) + "\n"


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(WRITTEN.read_text() != text() and f"{WRITTEN.name} is out of date: make reference")
    WRITTEN.write_text(text())
