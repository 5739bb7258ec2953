"""The scores of the last minutes, against a plain account of them."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.service.viewing import history
from detector.service.viewing.history import EVERY_S, POINTS, ScoreHistory

Window = tuple[int, float, float]
START_S = 1_700_000_000


def told(batches: list[list[Window]]) -> ScoreHistory:
    """Windows of a batch as (slot, seconds, score)."""
    found = ScoreHistory()
    for batch in batches:
        rows = sorted(batch, key=lambda window: window[0])  # grouped by slot, in order within each
        slot = np.array([w[0] for w in rows], np.int64)
        time_ns = np.array([round(w[1] * 1e9) for w in rows], np.int64)
        found.record(slot, time_ns, np.array([w[2] for w in rows], np.float64))
    return found


def shown(found: ScoreHistory, slot: int) -> list[tuple[int, float]]:
    points = found.points(slot)
    return list(zip(points.time_s.tolist(), points.score.tolist(), strict=True))


@settings(deadline=None)
@given(
    gaps=st.lists(st.floats(0, 40, width=32), min_size=1, max_size=150),
    cuts=st.sets(st.integers(1, 149), max_size=5),
)
def test_a_point_is_the_highest_score_of_its_stretch_however_the_stream_was_cut(
    gaps: list[float], cuts: set[int]
) -> None:
    now_s, windows = float(START_S), []
    expected: dict[tuple[int, int], float] = {}
    for n, gap in enumerate(gaps):
        now_s += gap
        score = float(np.float32((n * 37) % 11))
        windows.append((n % 2, now_s, score))
        key = (n % 2, int(now_s // EVERY_S) * EVERY_S)
        expected[key] = max(expected.get(key, 0.0), score)
    borders = [0, *sorted(c for c in cuts if c < len(windows)), len(windows)]
    found = told([windows[a:b] for a, b in pairwise(borders)])
    for slot in (0, 1):
        points = shown(found, slot)
        assert all(expected[(slot, at)] == score for at, score in points)
        assert [at for at, _ in points] == sorted({at for at, _ in points})
        mine = [at for s, at in expected if s == slot]
        newest = [at for at in mine if at > max(mine) - POINTS * EVERY_S]
        assert [at for at, _ in points][-len(newest) :] == newest


def test_a_rare_series_is_remembered_further_back() -> None:
    windows = [(0, START_S + 60.0 * n, 1.0) for n in range(200)]
    for batches in ([windows], [[window] for window in windows]):
        assert len(shown(told(batches), 0)) >= (1 if len(batches) == 1 else POINTS)


def test_a_series_that_left_has_no_points_and_one_beyond_the_room_never_has() -> None:
    found = told([[(3, START_S, 1.0), (history.MOST_SERIES, START_S, 1.0)]])
    assert shown(found, 3)
    found.clear(np.array([3]))
    assert shown(found, 3) == []
    assert shown(found, history.MOST_SERIES) == []
    assert shown(found, 9999) == []
