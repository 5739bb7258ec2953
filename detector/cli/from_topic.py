"""`detector train --from-topic`: what the topic held, and the new model beside the old one."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from detector.cli.terminal import counted, print_table, progress_bar, shown, span

if TYPE_CHECKING:
    import argparse

    from detector.clients.history import IncidentsRead, TicksRead
    from detector.config import Config
    from detector.offline.from_topic import LeftOut, TopicTraining
    from detector.offline.succession import Showing, Succession

#: Wide enough for a model_version.
_WIDTH = 16


def read_topic(config: Config, options: argparse.Namespace) -> tuple[TicksRead, IncidentsRead]:
    """The alerts are read last: they know the most about the ticks."""
    from detector.clients.history import Span, read_incidents, read_ticks

    since_ns, until_ns, limit = span(options)
    with progress_bar("read", " ticks") as bar:
        ticks = read_ticks(config, Span(since_ns, until_ns, limit), read=bar.update)
    return ticks, read_incidents(config)


def note_topic(
    config: Config, ticks: TicksRead, incidents: IncidentsRead, found: TopicTraining
) -> None:
    """What a reader of the report should know of the data, on standard error."""
    notes = []
    if not incidents.known:
        notes.append(f"there is no topic {config.alerts.topic} yet: nothing was left out")
    if incidents.unreadable:
        notes.append(f"{incidents.unreadable} records of {config.alerts.topic} are no alerts")
    if ticks.unusable:
        notes.append(f"left out, no ticks that can be used: {counted(ticks.unusable)}")
    if ticks.unjudged:
        notes.append(
            f"no detector has judged the last {ticks.unjudged} records of {config.input.topic}: "
            "whatever is strange in them is learned as normal"
        )
    mostly = found.left_out.mostly
    if mostly:
        names = ", ".join(mostly[:5]) + (" ..." if len(mostly) > 5 else "")
        notes.append(
            f"more than half of the ticks of {len(mostly)} series lie in alerts ({names}): "
            "is what lasts there the new normal? --data learns from it too"
        )
    comparison = found.comparison
    if comparison and comparison.refused is not None:
        notes.append(f"not compared, the old model cannot be run: {comparison.refused}")
    elif comparison and found.left_out.ticks:
        notes.append(
            "what was alerted on is left out of the compared windows: that flatters the model that "
            "alerted"
        )
    for note in notes:
        print(f"note: {note}", file=sys.stderr)


def topic_rows(ticks: TicksRead, left_out: LeftOut) -> list[tuple[str, str]]:
    series = {name for recording in ticks.recordings for name in recording.names}
    part = f"{100 * left_out.ticks / left_out.whole:.3g} %"
    return [
        ("from the topic", f"{len(ticks.recordings)} partitions with ticks, {len(series)} series"),
        ("left out", f"{left_out.ticks} ticks ({part}) in {left_out.incidents} alerts"),
    ]


def print_comparison(found: Succession) -> None:
    """Of the last part of every series, a column a model."""
    budget = "" if found.budget is None else f" (budget {_percent(found.budget)})"
    print(
        f"\nthe last {found.ticks} ticks of {found.series} series, {shown(found.days)} days in all:"
    )
    sides = [found.new, *([found.old] if found.old else [])]
    rows = [
        ("", ["new", "old"][: len(sides)]),
        ("model", [one.model_version for one in sides]),
        ("windows scored", [str(one.windows) for one in sides]),
        ("threshold", [f"{one.threshold:.4f}" for one in sides]),
        (f"above it{budget}", [_percent(one.share) for one in sides]),
        ("alerts opened", [str(one.alerts) for one in sides]),
        ("a day and series", [shown(one.alerts_per_day_and_series) for one in sides]),
        ("mean score", [shown(one.mean_score) for one in sides]),
        ("median score", [shown(one.median_score) for one in sides]),
        ("highest score", [shown(one.highest_score) for one in sides]),
        (f"of {found.incidents} alerts left out", [_found(one) for one in sides]),
    ]
    print_table([(name, _side_by_side(cells)) for name, cells in rows])


def _side_by_side(cells: Sequence[str]) -> str:
    return "".join(f"{cell:<{_WIDTH + 2}}" for cell in cells).rstrip()


def _found(one: Showing) -> str:
    return f"{one.incidents} found"


def _percent(share: float | None) -> str:
    return "none" if share is None else f"{100 * share:.3g} %"
