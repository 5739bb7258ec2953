"""Budgets beside what came of them, for people."""

from __future__ import annotations

from collections.abc import Sequence

from detector.evaluate.budgets import PooledBudget
from detector.evaluate.results import SIDES
from detector.evaluate.table import Table, budget_name, percent, shown, two_digits

_HEADS = ("normal above", "times the budget", "median series", "false alarms a day", "recall")


def budget_table(found: Sequence[PooledBudget], budgets: Sequence[float]) -> Table:
    """A row for each of the budgets, the static score beside the adaptive one. A day is a day of
    one series."""
    known = {(one.score, one.budget): one for one in found}
    sides = [side for side in SIDES if any(one.score == side for one in found)]
    rows: list[tuple[str, ...]] = []
    for budget in budgets:
        of_sides = [known.get((side, budget)) for side in sides]
        if any(of_sides):
            pairs = zip(*map(_cells, of_sides), strict=True)  # what is compared is side by side
            rows.append((budget_name(budget), *(cell for pair in pairs for cell in pair)))
    heads = [f"{head}, {side}" for head in _HEADS for side in sides]
    return Table("at other budgets, all series", ("budget", *heads), rows)


def _cells(one: PooledBudget | None) -> tuple[str, ...]:
    if one is None:
        return ("-",) * len(_HEADS)
    return (
        percent(one.share_above),
        two_digits(None if one.share_above is None else one.share_above / one.budget),
        two_digits(None if one.median_share is None else one.median_share / one.budget),
        two_digits(one.false_alarms_per_day),
        shown(one.recall, "{:.2f}"),
    )
