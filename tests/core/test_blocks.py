"""Windows of many series, block by block."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.core.blocks import BLOCK, in_blocks, in_order


@pytest.mark.parametrize(
    "shape", [(1,), (1, 1), (2,), (9,), (3, 1), (2, 1, 1), (2, 64, 9), (3, 700)]
)
@pytest.mark.parametrize("n", [1, 2, 8, 9, 33, 129])
def test_a_sum_in_order_adds_one_after_the_other(shape: tuple[int, ...], n: int) -> None:
    values = (
        np.random.default_rng(n).normal(size=(n, *shape))
        * 10.0 ** np.arange(n).reshape(n, *(1,) * len(shape))
        % 1e6
    )
    expected = np.zeros(shape)
    for one in values:
        expected = expected + one
    assert in_order(values).tobytes() == expected.tobytes()


@given(
    sizes=st.lists(st.integers(1, 2 * BLOCK + 3), min_size=1, max_size=6)
    | st.builds(lambda size, series: [size] * series, st.integers(1, 40), st.integers(1, 5)),
    before=st.lists(st.integers(0, 2 * BLOCK), min_size=6, max_size=6),
)
@settings(deadline=None, max_examples=200)
def test_every_window_is_taken_once_and_no_block_is_crossed(
    sizes: list[int], before: list[int]
) -> None:
    slot = np.repeat(np.arange(len(sizes)), sizes)
    windows = np.array(before, np.int64)
    values, into = np.arange(len(slot), dtype=np.float64), np.full(len(slot), -1.0)
    ended: list[int] = []
    for part in in_blocks(slot, windows):
        assert ((part.after - 1) // BLOCK == part.before // BLOCK).all()
        mine = part.of(values)
        assert mine.shape == (part.most, len(part.slot))
        part.put(into, mine)
        sums = np.zeros((part.most + 1, 1, len(part.slot)))
        sums[1:, 0] = mine
        expected = [
            values[b : b + n].sum()
            for b, n in zip(part.begin.tolist(), (part.after - part.before).tolist(), strict=True)
        ]
        assert part.sums(sums)[0].tolist() == expected
        ended += part.ends(part.full()).tolist()
    assert into.tolist() == values.tolist()
    count = [b + np.arange(1, n + 1) for b, n in zip(before, sizes, strict=False)]
    assert sorted(ended) == np.flatnonzero(np.concatenate(count) % BLOCK == 0).tolist()
    assert windows[: len(sizes)].tolist() == [b + n for b, n in zip(before, sizes, strict=False)]
