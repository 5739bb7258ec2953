"""What a picture shows; whether it is pretty is for eyes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from detector.core.ticks import Float64
from detector.errors import DataError
from detector.lab.encode import Encodings
from detector.model.architecture import Architecture
from tests.model import formulas

pytest.importorskip("matplotlib", reason="matplotlib is not installed (an extra)")

from detector.lab import plots


def texts(figure: Any) -> str:
    found = [figure.get_suptitle()]
    for axes in figure.axes:
        found += [axes.get_title(), axes.get_ylabel(), *(t.get_text() for t in axes.texts)]
    return "\n".join(found)


def alert(features: int, *, length: int = 6, expected: int = 6) -> dict[str, Any]:
    random = np.random.default_rng(0)
    names = [f"f{i}" for i in range(features)]
    shares = np.arange(1, features + 1) / sum(range(1, features + 1))
    data = {
        "series": "pump", "state": "opened", "event_time": "2014-05-02T12:30:00.000000000Z",
        "score": 9.0, "threshold": 2.0, "kind": "reconstruction_error", "features": names,
        "contributions": dict(zip(names, shares.tolist(), strict=True)),
        "observed": random.normal(size=(length, features)).tolist(),
        "expected": random.normal(size=(expected, features)).tolist(),
    }  # fmt: skip
    return {"id": "0" * 32, "data": data}


def test_a_window_shows_the_eight_features_with_the_largest_share_and_says_so() -> None:
    event = alert(38)
    figure = plots.draw_window(event)
    assert len(figure.axes) == 16
    assert [axes.get_ylabel().split()[0] for axes in figure.axes[::2]] == [
        f"f{i}" for i in range(37, 29, -1)
    ]
    assert "the 8 of 38 features with the largest share" in texts(figure)
    observed, expected = figure.axes[0].lines
    np.testing.assert_array_equal(
        observed.get_ydata(), [row[37] for row in event["data"]["observed"]]
    )
    np.testing.assert_array_equal(
        expected.get_ydata(), [row[37] for row in event["data"]["expected"]]
    )


def test_what_was_expected_of_the_last_ticks_stands_at_the_last_ticks() -> None:
    event = alert(2, expected=1)
    event["data"]["fault"] = {"kind": "spike", "probability": 0.9}
    figure = plots.draw_window(event)
    np.testing.assert_array_equal(figure.axes[0].lines[1].get_xdata(), [6])
    assert "looks like spike (90%)" in texts(figure)
    assert "with the largest share" not in texts(figure)


def test_an_alert_that_lacks_what_is_drawn_is_refused() -> None:
    event = alert(1)
    del event["data"]["expected"], event["data"]["state"]
    with pytest.raises(DataError, match="says nothing of state, expected"):
        plots.draw_window(event)


def test_silence_has_no_window() -> None:
    event = alert(1)
    event["data"] |= {"kind": "silence", "observed": [], "expected": []}
    with pytest.raises(DataError, match="of kind silence has no window"):
        plots.draw_window(event)


@pytest.mark.parametrize("case", formulas.architectures(6, 3).values(), ids=str)
def test_the_layers_of_every_kind_are_drawn_with_their_shapes(case: Architecture) -> None:
    shown = texts(plots.draw_architecture(case, "title"))
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
    points, shares = plots.principal_components(vectors)
    np.testing.assert_allclose(np.abs(points[:, 0]), np.abs(vectors[:, 1] - vectors[:, 1].mean()),
                               atol=1.5)  # fmt: skip
    assert shares[0] == pytest.approx(100 / 110, abs=0.03)
    alone, shares = plots.principal_components(vectors[:, :1])
    assert alone.shape == (500, 2)
    assert shares[0] == pytest.approx(1)
    assert shares[1] == 0


def test_many_series_become_some_and_the_others() -> None:
    groups = plots.colour_groups(encodings(np.eye(100)), "series")
    assert len(groups) == 20
    assert "11 others" in groups
    assert sorted(np.concatenate(list(groups.values())).tolist()) == list(range(100))


def test_windows_above_the_threshold_are_drawn_on_top() -> None:
    found = encodings(np.eye(4), anomalous=np.array([True, True, False, True]))
    assert list(plots.colour_groups(found, "alert")) == ["below", plots.ABOVE]
    with pytest.raises(DataError, match="no column label"):
        plots.colour_groups(found, "label")
