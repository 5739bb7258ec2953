"""An evaluation as one page: no script, no font, no picture from elsewhere; pictures are SVG within
it. Takes the report as its JSON has it."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from detector.plots.budgets import draw_realised, draw_recall
from detector.plots.evaluation import draw_bars, draw_curves, draw_series, draw_shares

#: Series that are drawn: the best and the worst halves of them by VUS-PR.
_DRAWN = 12
_STYLE = """
:root{color-scheme:light}
body{font:16px/1.5 system-ui,sans-serif;margin:0 auto;padding:1rem;max-width:62rem;
color:#1a1a1a;background:#fff}
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem;border-bottom:1px solid #ddd}
figure{margin:1rem 0;max-width:40rem}figure svg{width:100%;height:auto;display:block}
figcaption{font-size:.85rem;color:#444}
.scroll{overflow-x:auto}table{border-collapse:collapse;font-size:.85rem}
th,td{padding:.25rem .5rem;text-align:right;border-bottom:1px solid #e5e5e5;white-space:nowrap}
th{white-space:normal;vertical-align:bottom}th.text{text-align:left}
th:first-child,td:first-child,td.text{text-align:left}td.text{white-space:normal}
caption{text-align:left;font-weight:600;padding:.4rem 0}
.said li{margin:.3rem 0}
.grid{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,24rem),1fr));gap:0 1rem}
"""


def evaluation_page(
    report: Mapping[str, Any], sketches: Mapping[str, Any], tables: Mapping[str, Sequence[Any]]
) -> str:
    """report: as Report.to_json; sketches: name of a series -> its Sketch; tables: of the report,
    as tables_of."""
    whole = report["totals"][-1]
    about = report["about"]
    parts = [
        f"<p>{_text(about['what'])}. Baselines: {_text(about['baselines'])}.</p>",
        f'<ul class="said">{"".join(f"<li>{_text(s)}</li>" for s in report["sentences"])}</ul>',
    ]
    if report["series"]:
        parts += [
            *_ranking(whole, sketches, tables["scorers"]),
            *_threshold(whole, report["series"], tables["threshold"]),
            *_budgets(whole["budgets"], tables["budgets"]),
            *_drifts(tables["drifts"]),
            *_drawn(report["series"], sketches),
            "<h2>Every series</h2>",
            *map(_table, tables["series"]),
        ]
    if tables["skipped"]:
        parts.append("<h2>Not run</h2>")
    for name in ("skipped", "left out", "notes"):
        parts += [_table(one, text=True) for one in tables[name]]
    interval = report["interval"]
    parts.append(
        f"<p>In brackets: {interval['level']:.0%} intervals, {interval['method']}, "
        f"{interval['draws']} draws from a fixed seed; of a single series there is none. What each "
        "measure is: docs/evaluate.md of the project.</p>"
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>Evaluation</title><style>{_STYLE}</style></head>\n<body>\n"
        "<h1>How well anomalies were found</h1>\n" + "\n".join(parts) + "\n</body></html>\n"
    )


def _ranking(
    whole: Mapping[str, Any], sketches: Mapping[str, Any], tables: Sequence[Any]
) -> list[str]:
    known = [one for one in whole["scorers"] if one["vus_pr"]["value"] is not None]
    if not known:
        return []
    said = ", ".join(f"{one['name']} {one['vus_pr']['value']:.3f}" for one in known)
    own = [one for one in known if one["kind"] != "published"]
    rest = sorted(own[1:], key=lambda one: -one["vus_pr"]["value"])
    names = [one["name"] for one in [*own[:1], *rest]]
    drawn = list(sketches.values())
    return [
        "<h2>Who ranks anomalous ticks highest</h2>",
        _figure(
            draw_bars(known),
            f"Bars of mean VUS-PR: {said}",
            "Mean VUS-PR over series; the black lines are the intervals. Blue is the detector, "
            "light blue its views, orange the baselines, grey what others published.",
        ),
        *(_table(one) for one in reversed(tables)),
        _figure(
            draw_curves(drawn, names),
            f"Precision against recall of single ticks, mean over series, of {', '.join(names)}",
            "Precision that can be had at each recall or more, mean over series.",
        ),
    ]


def _threshold(
    whole: Mapping[str, Any], series: Sequence[Mapping[str, Any]], tables: Sequence[Any]
) -> list[str]:
    over = sum((one["at_threshold"]["share_above"] or 0.0) > one["budget"] for one in series)
    said = f"{over} of {len(series)} series are over their budget"
    said += f", on average {whole['budget']:.3%}" if whole["fell_back"] else ""
    return [
        "<h2>At the deployed threshold</h2>",
        *(_table(one) for one in reversed(tables)),
        _figure(
            draw_shares(series, whole["budget"]),
            f"Share of normal windows above the threshold, series by series: {said}",
            f"Each dot is a series: {said}.",
        ),
    ]


def _budgets(points: Sequence[Mapping[str, Any]], tables: Sequence[Any]) -> list[str]:
    """Of all series."""
    if not points:
        return []
    parts = [
        "<h2>At other budgets</h2>",
        "<p>A budget is the share of normal windows that may be above the threshold. What each "
        "would have come to, from the same scores: static, as calibrated (threshold.adaptive: "
        "false), and adaptive, in the light of the tail of each series. Budgets smaller than "
        "a history carries are extrapolated here; the deployed threshold falls back.</p>",
    ]
    if any(one["recall"] is not None for one in points):
        parts.append(
            _figure(
                draw_recall(points),
                "Events found against the share of normal windows above the threshold: "
                + _said(points, "recall"),
                "Events found against their price: farther up and farther left is better. Each "
                "mark is a budget, whole decades with their name.",
            )
        )
    if any(one["share_above"] is not None for one in points):
        parts.append(
            _figure(
                draw_realised(points),
                "Share of normal windows above the threshold at each budget: "
                + _said(points, "share_above"),
                "Above the dashed line more windows are above the threshold than was allowed.",
            )
        )
    return [*parts, *map(_table, tables)]


def _said(points: Sequence[Mapping[str, Any]], figure: str) -> str:
    return ", ".join(
        f"{one['score']} {one[figure]:.3g} at {one['budget']:.2g}"
        for one in points
        if one[figure] is not None
    )


def _drifts(tables: Sequence[Any]) -> list[str]:
    if not tables:
        return []
    return [
        "<h2>When normal changes</h2>",
        "<p>Into all fields of each series, from the middle of its normal windows on, a drift was "
        "injected, one at a time: no anomaly, a new normal. How many normal windows are above the "
        "threshold before, at first and later, and how long until they are few again.</p>",
        *map(_table, tables),
    ]


def _drawn(series: Sequence[Mapping[str, Any]], sketches: Mapping[str, Any]) -> list[str]:
    ordered = sorted(series, key=lambda one: -(_vus(one) or 0.0))
    half = _DRAWN // 2
    shown = ordered if len(ordered) <= _DRAWN else [*ordered[:half], *ordered[-half:]]
    what = "" if len(ordered) <= _DRAWN else f", the {half} best and the {half} worst"
    parts = [f'<h2>Score and threshold over time{what}</h2><div class="grid">']
    for one in shown:
        found = one["at_threshold"]
        vus = _vus(one)
        said = (
            f"VUS-PR {'-' if vus is None else f'{vus:.3f}'}, {found['detected']} of "
            f"{found['events']} events found, {found['false_alarms']} false alarms"
        )
        figure = draw_series(one["name"], sketches[one["name"]])
        parts.append(_figure(figure, f"Score over time of {one['name']}: {said}", said))
    return [*parts, "</div>"]


def _vus(one: Mapping[str, Any]) -> float | None:
    found: float | None = one["rankings"][0]["vus_pr"]
    return found


def _table(table: Any, *, text: bool = False) -> str:
    cell = '<td class="text">' if text else "<td>"
    top = '<th scope="col" class="text">' if text else '<th scope="col">'
    body = "".join(
        f"<tr>{''.join(f'{cell}{_text(value)}</td>' for value in row)}</tr>" for row in table.rows
    )
    head = "".join(f"{top}{_text(name)}</th>" for name in table.heads)
    return (
        f'<div class="scroll"><table><caption>{_text(table.title)}</caption><thead><tr>{head}</tr>'
        f"</thead><tbody>{body}</tbody></table></div>"
    )


def _figure(figure: Figure, alt: str, caption: str) -> str:
    """Text stays text, in the reader's own font."""
    out = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": alt}):
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    svg = out.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = svg.replace("<svg", f'<svg role="img" aria-label="{_text(alt)}"', 1)
    svg = re.sub(r"\n\s*", "\n", svg)
    named = set(re.findall(r"#([^\")]+)", svg))  # the others would stand on the page many times
    svg = re.sub(r' id="([^"]+)"', lambda found: found[0] if found[1] in named else "", svg)
    return f"<figure>{svg}<figcaption>{_text(caption)}</figcaption></figure>"


def _text(text: Any) -> str:
    return html.escape(str(text), quote=True)
