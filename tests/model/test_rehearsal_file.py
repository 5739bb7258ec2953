from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector.model.rehearsal_file import from_bytes, to_bytes
from tests.core.test_rehearsal import rehearsal


@given(st.lists(st.floats(0, 300, width=32), min_size=1, max_size=50), st.integers(1, 3))
def test_it_comes_back_from_its_file(score: list[float], series: int) -> None:
    one = rehearsal(score, series=series)
    again = from_bytes(to_bytes(one))
    assert again.names == one.names
    np.testing.assert_array_equal(again.slot, one.slot)
    np.testing.assert_array_equal(again.time_ns, one.time_ns)
    np.testing.assert_array_equal(again.score, one.score)
    assert to_bytes(one) == to_bytes(one)


@pytest.mark.parametrize("what", ["slot", "score", "names", "empty"])
def test_a_file_that_contradicts_itself_is_refused(what: str) -> None:
    one = rehearsal([0.0, 1.0, 2.0], series=2)
    columns: dict[str, Any] = {
        "names": np.array(one.names),
        "slot": one.slot.astype(np.int32),
        "time_ns": one.time_ns,
        "score": one.score.astype(np.float32),
    }
    if what == "slot":
        columns["slot"] = columns["slot"][::-1]
    elif what == "score":
        columns["score"] = np.full_like(columns["score"], np.nan)
    elif what == "names":
        columns["names"] = columns["names"][:1]
    else:
        columns |= {n: c[:0] for n, c in columns.items() if n != "names"}
    file = io.BytesIO()
    np.savez_compressed(file, allow_pickle=False, **columns)
    with pytest.raises(ValueError, match="rehearsal"):
        from_bytes(file.getvalue())


def test_a_file_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match=r"rehearsal\.npz"):
        from_bytes(b"PK\x03\x04 nonsense")
