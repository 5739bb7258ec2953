"""The page of an evaluation: whole in itself, and readable without its pictures."""

from __future__ import annotations

import math
import re
import xml.dom.minidom
from html.parser import HTMLParser

import pytest

pytest.importorskip("matplotlib", reason="matplotlib is not installed (an extra)")

from detector.evaluate.report import Report, make_report, tables_of
from detector.evaluate.results import SIDES, AtBudget, Skipped
from detector.plots.evaluation_page import evaluation_page
from tests.evaluate.test_drift import after
from tests.evaluate.test_totals import judged, series


def page(report: Report, count: int) -> str:
    sketches = {f"s{n}": judged(series(f"s{n}", 0.5)).sketch for n in range(count)}
    return evaluation_page(report.to_json(), sketches, tables_of(report))


def report(count: int, *, area: float | None = 0.5) -> Report:
    found = [judged(series(f"s{n}", area, 0.3, CNN=0.2)) for n in range(count)]
    about = {"what": "<model>", "baselines": "none"}
    return make_report([*found, Skipped("gone", "a & b")], about=about)


def test_it_asks_for_nothing_from_elsewhere() -> None:
    text = page(report(3), 3)
    assert set(re.findall(r"https?://[^\"' )]+", text)) <= {
        "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink",
    }  # fmt: skip
    assert not re.findall(r"<(script|link|img|iframe)", text)
    assert all(where.startswith("#") for where in re.findall(r'href="([^"]*)"', text))


def test_every_picture_has_words_and_is_well_formed() -> None:
    text = page(report(3), 3)
    pictures = re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL)
    assert len(pictures) == 3 + 3
    for one in pictures:
        xml.dom.minidom.parseString(one)
        assert re.search(r'role="img" aria-label="[^"]{20,}"', one)
    ids = re.findall(r' id="([^"]+)"', text)
    assert len(ids) == len(set(ids))


def test_it_is_well_formed_and_says_what_the_report_says() -> None:
    open_tags: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            if tag not in ("meta", "br"):
                open_tags.append(tag)

        def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            pass

        def handle_endtag(self, tag: str) -> None:
            assert open_tags.pop() == tag

    text = page(report(3), 3)
    Reader().feed(text)
    assert open_tags == []
    assert "&lt;model&gt;" in text
    assert "a &amp; b" in text
    assert "No view and no baseline alone ranks better than the whole." in text
    assert "nan" not in re.sub(r"<svg.*?</svg>", "", text, flags=re.DOTALL).lower()


def test_of_many_series_the_best_and_the_worst_are_drawn() -> None:
    text = page(report(40), 40)
    assert len(re.findall("<svg", text)) == 3 + 12
    assert "the 6 best and the 6 worst" in text
    assert len(text) < 1_000_000


def test_where_nothing_could_be_ranked_or_run_there_is_still_a_page() -> None:
    assert len(re.findall("<svg", page(report(2, area=None), 2))) >= 3
    empty = make_report([Skipped("gone", "no file")], about={"what": "w", "baselines": "none"})
    assert "no file" in page(empty, 0)


def test_budgets_are_drawn_and_drifts_told_where_there_are_any() -> None:
    found = judged(series("s0", 0.5))
    for score in SIDES:
        for budget, share in ((1e-1, 0.2), (1e-2, 0.01), (1e-3, 0.0)):
            found.result.budgets.append(
                AtBudget(
                    budget, score, -math.log10(budget), int(1000 * share), share, 3, 1, 1, 1.5,
                    36.0, 0.5, 12.0, 2 / 3, 0.5, 4 / 7,
                )
            )  # fmt: skip
    found.result.drifts.append(after("level +3, slow", None))
    whole = make_report([found], about={"what": "w", "baselines": "none"})
    text = page(whole, 1)
    assert len(re.findall("<svg", text)) == 3 + 1 + 2
    assert "static 0.2 at 0.1" in text
    assert "1e-2" in text
    assert "none: at" in text, "a share of 0 has a place on a logarithmic axis"
    assert "level +3, slow" in text
    assert "not within 1,000" in text
