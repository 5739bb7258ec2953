"""What a picture shows; whether it is pretty is for eyes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from detector.core.alerts import SILENCE, Alert, LikelyFault
from detector.core.ticks import Float64
from detector.data.encodings import Encodings
from detector.data.market import market
from detector.data.recorded_quotes import RecordedQuotes
from detector.errors import DataError
from detector.model.family import Architecture
from tests.core.test_cloudevents import make_alert
from tests.model import formulas

pytest.importorskip("matplotlib", reason="matplotlib is not installed (an extra)")

from detector.plots.architecture import draw_architecture
from detector.plots.embeddings import ABOVE, color_groups, principal_components
from detector.plots.market import draw_market
from detector.plots.window import draw_window


def texts(figure: Any) -> str:
    found = [figure.get_suptitle()]
    for axes in figure.axes:
        found += [axes.get_title(), axes.get_ylabel(), *(t.get_text() for t in axes.texts)]
    return "\n".join(found)


def alert(features: int, *, length: int = 6, expected: int = 6, **changes: Any) -> Alert:
    random = np.random.default_rng(0)
    shares = np.arange(1, features + 1) / sum(range(1, features + 1))
    return make_alert(
        contributions={f"f{i}": share for i, share in enumerate(shares.tolist())},
        observed=random.normal(size=(length, features)).astype(np.float32),
        expected=random.normal(size=(expected, features)).astype(np.float32),
        **changes,
    )


def test_a_window_shows_the_eight_features_with_the_largest_share_and_says_so() -> None:
    shown = alert(38)
    figure = draw_window(shown)
    assert len(figure.axes) == 16
    assert [axes.get_ylabel().split()[0] for axes in figure.axes[::2]] == [
        f"f{i}" for i in range(37, 29, -1)
    ]
    assert "the 8 of 38 features with the largest share" in texts(figure)
    observed, expected = figure.axes[0].lines
    np.testing.assert_array_equal(observed.get_ydata(), shown.observed[:, 37])
    np.testing.assert_array_equal(expected.get_ydata(), shown.expected[:, 37])


def test_what_was_expected_of_the_last_ticks_stands_at_the_last_ticks() -> None:
    figure = draw_window(alert(2, expected=1, fault=LikelyFault("spike", 0.9)))
    np.testing.assert_array_equal(figure.axes[0].lines[1].get_xdata(), [6])
    assert "looks like spike (90%)" in texts(figure)
    assert "with the largest share" not in texts(figure)


def test_silence_has_no_window() -> None:
    with pytest.raises(DataError, match="of kind silence has no window"):
        draw_window(alert(1, length=0, expected=0, kind=SILENCE))


@pytest.mark.parametrize("case", formulas.architectures(6, 3).values(), ids=str)
def test_the_layers_of_every_kind_are_drawn_with_their_shapes(case: Architecture) -> None:
    shown = texts(draw_architecture(case, "title"))
    assert "n x 6 x 3" in shown
    for width in (*case.units, *case.decoder_units):
        assert f" x {width}" in shown
    if case.recurrent:
        for target in case.targets:
            first, last = target.start + 1, target.start + target.steps
            ticks = f"tick {last}" if first == last else f"ticks {first} to {last}"
            assert f"{target.name}\n{ticks}" in (shown)


def encodings(vectors: Float64, **columns: Any) -> Encodings:
    n = len(vectors)
    values = {
        "series": tuple(f"s{i % 30}" for i in range(n)), "time_ns": np.arange(n),
        "ticks": np.full(n, 8), "label": None, "score": None, "anomalous": None,
    } | columns  # fmt: skip
    return Encodings(vectors=vectors.astype(np.float32), **values)


def test_the_components_are_the_directions_of_the_largest_variance() -> None:
    random = np.random.default_rng(1)
    vectors = random.normal(size=(500, 3)) * [1, 10, 3] + 5
    points, shares = principal_components(vectors)
    np.testing.assert_allclose(np.abs(points[:, 0]), np.abs(vectors[:, 1] - vectors[:, 1].mean()),
                               atol=1.5)  # fmt: skip
    assert shares[0] == pytest.approx(100 / 110, abs=0.03)
    alone, shares = principal_components(vectors[:, :1])
    assert alone.shape == (500, 2)
    assert shares[0] == pytest.approx(1)
    assert shares[1] == 0


def test_many_series_become_some_and_the_others() -> None:
    groups = color_groups(encodings(np.eye(100)), "series")
    assert len(groups) == 20
    assert "11 others" in groups
    assert sorted(np.concatenate(list(groups.values())).tolist()) == list(range(100))


def test_windows_above_the_threshold_are_drawn_on_top() -> None:
    found = encodings(np.eye(4), anomalous=np.array([True, True, False, True]))
    assert list(color_groups(found, "alert")) == ["below", ABOVE]
    with pytest.raises(DataError, match="no column label"):
        color_groups(found, "label")


def test_quotes_of_several_places_stand_beside_each_other_each_in_its_color() -> None:
    quotes, _ = market(series=3, ticks=6000, start_ns=0, random=np.random.default_rng(1))
    one, other, short = (RecordedQuotes(q.time_ns, q.bid, q.ask, tick=1) for q in quotes)
    figure = draw_market({"here": [one, other], "there": short.stretches(100, most=1)}, pause_s=60)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["here", "there"]
    for axes in figure.axes:
        colors = [line.get_color() for line in axes.lines[:3]]
        assert colors[0] == colors[1] != colors[2]
        for line in axes.lines[:3]:
            assert np.isfinite(np.asarray(line.get_ydata(), float)).all()
