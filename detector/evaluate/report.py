"""An evaluation as one report: for programs as JSON, for people as tables in Markdown."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from detector.evaluate.bootstrap import DRAWS, LEVEL
from detector.evaluate.budget_table import budget_table
from detector.evaluate.budgets import BUDGETS, WHOLE_DECADES
from detector.evaluate.drift_table import drift_table
from detector.evaluate.evaluating import Outcome
from detector.evaluate.results import WHOLE, Judged, SeriesResult, Skipped
from detector.evaluate.table import Table, shown, with_interval
from detector.evaluate.totals import ALL, Totals, groups, sentences


@dataclass(frozen=True, slots=True)
class Report:
    """about: what was evaluated, for people; totals: of each dataset, then of all."""

    about: Mapping[str, Any]
    sentences: list[str]
    totals: list[Totals]
    series: list[SeriesResult]
    skipped: list[Skipped]

    @property
    def all(self) -> Totals:
        return self.totals[-1]

    def to_json(self) -> dict[str, Any]:
        """No number in it is NaN or infinite: what is unknown is null."""
        found: dict[str, Any] = dataclasses.asdict(self)
        found["interval"] = {
            "level": LEVEL, "draws": DRAWS, "method": "percentile bootstrap over series",
        }  # fmt: skip
        return found


def make_report(outcomes: Sequence[Outcome], *, about: Mapping[str, Any]) -> Report:
    series = [one.result for one in outcomes if isinstance(one, Judged)]
    skipped = [one for one in outcomes if isinstance(one, Skipped)]
    found = groups(series)
    said = sentences(found[-1]) if series else ["No series could be evaluated."]
    partly = [one for one in series if one.unused]
    if partly:
        said.append(
            f"{sum(one.unused for one in partly):,} ticks of {len(partly)} of {len(series)} series "
            "are not used (late, duplicate or rejected): see the notes."
        )
    if skipped:
        said.append(
            f"{len(skipped)} of {len(outcomes)} series could not be run: see why under not run."
        )
    return Report(about, said, found, series, skipped)


def tables_of(report: Report, *, budgets: Sequence[float] = BUDGETS) -> dict[str, list[Table]]:
    """By what they tell of: series, scorers and threshold (one of each group, all series last),
    budgets (those) and drifts (of all series), then skipped, left out and notes, where there are
    any."""
    groups = [one for one in report.totals if one.series]
    skipped = [(one.name, one.reason) for one in report.skipped]
    left_out = sorted({item for one in report.series for item in one.left_out.items()})
    notes = [(one.name, note) for one in report.series for note in one.notes]
    found = {
        "series": [_series_table(report.series)] if report.series else [],
        "scorers": [_scorers_table(one) for one in groups],
        "threshold": [
            Table(_title(one), (f"{_title(one)}, at the threshold", "found"), _at(one))
            for one in groups
        ],
        "budgets": [],
        "drifts": [],
    }
    if groups and report.all.budgets:
        found["budgets"] = [budget_table(report.all.budgets, budgets)]
    if groups and report.all.drifts:
        found["drifts"] = [drift_table(report.all.drifts)]
    for name, head, rows in (
        ("skipped", "not run", skipped),
        ("left out", "left out", left_out),
        ("notes", "note on", notes),
    ):
        found[name] = [Table(name, (head, "because" if name != "notes" else ""), rows)] * bool(rows)
    return found


def markdown(report: Report) -> str:
    """All tables, of budgets whole decades alone, and what they say."""
    parts = [
        "".join(
            f"| {' | '.join(cells)} |\n"
            for cells in (one.heads, ("---",) * len(one.heads), *one.rows)
        )
        for group in tables_of(report, budgets=WHOLE_DECADES).values()
        for one in group
    ]
    return "\n".join([*parts, "".join(f"{sentence}\n" for sentence in report.sentences)])


def _title(found: Totals) -> str:
    return "all series" if found.group == ALL else found.group


def _series_table(series: Sequence[SeriesResult]) -> Table:
    """VUS-PR of each series by the detector, its views and what is published; the baselines stand
    in the means."""
    views = list(dict.fromkeys(r.name for one in series for r in one.rankings if r.kind == "view"))
    methods = list(dict.fromkeys(name for one in series for name in one.published))
    rows: list[tuple[str, ...]] = []
    for one in series:
        areas = {ranking.name: ranking.vus_pr for ranking in one.rankings}
        found = one.at_threshold
        rows.append(
            (
                one.name,
                str(one.ticks),
                str(one.labelled),
                shown(areas.get(WHOLE)),
                shown(found.f1),
                str(found.false_alarms),
                shown(found.share_above, "{:.3%}"),
                *(shown(areas.get(name)) for name in views),
                *(shown(one.published.get(name)) for name in methods),
            )
        )
    at = ("event F1", "false alarms", "normal above")
    heads = ("series", "ticks", "labelled", WHOLE, *at, *views, *methods)
    title = "VUS-PR of each series" + (", the methods' as published" if methods else "")
    return Table(title, heads, rows)


def _scorers_table(found: Totals) -> Table:
    rows: list[tuple[str, ...]] = [
        (
            one.name,
            one.kind,
            str(one.vus_pr.series),
            with_interval(one.vus_pr),
            with_interval(one.auc_pr),
            with_interval(one.ahead, "{:+.3f}"),
        )
        for one in found.scorers
    ]
    title = _title(found)
    return Table(
        title, (title, "kind", "series", "VUS-PR", "AUC-PR", "VUS-PR over the detector's"), rows
    )


def _budget(found: Totals) -> str:
    if not found.fell_back or found.asked is None:
        return f"{found.budget:.3%}"
    return (
        f"{found.budget:.3%} ({found.asked:.3%} asked, {found.fell_back} of {found.series} series "
        "fell back)"
    )


def _at(found: Totals) -> list[tuple[str, ...]]:
    """What happened at the deployed threshold, measure by measure."""
    delay = "-"
    if found.median_delay_ticks is not None and found.median_delay_s is not None:
        form = "{:,.0f}" if found.median_delay_s >= 100 else "{:.3g}"
        delay = (
            f"median {found.median_delay_ticks:g} ticks, {form.format(found.median_delay_s)} s; "
            f"mean {with_interval(found.delay_ticks, '{:.1f}')} ticks, "
            f"{with_interval(found.delay_s, form)} s"
        )
    return [
        ("events found", f"{found.detected} of {found.events}"),
        ("alerts", f"{found.alerts}, {found.false_alarms} of them false"),
        ("event precision", with_interval(found.precision)),
        ("event recall", with_interval(found.recall)),
        ("event F1, no point adjustment", with_interval(found.f1)),
        ("delay", delay),
        ("alerts a day", with_interval(found.alerts_per_day, "{:.3g}")),
        ("false alarms an hour", with_interval(found.false_alarms_per_hour, "{:.3g}")),
        ("false alarms a series", with_interval(found.false_alarms_per_series, "{:.3g}")),
        ("normal windows above", with_interval(found.share_above, "{:.3%}")),
        ("their budget", _budget(found)),
        ("NAB score of alerts", with_interval(found.nab, "{:.1f}")),
        ("NAB score of every tick above", with_interval(found.nab_every_tick, "{:.1f}")),
    ]
