"""Numbers as the API writes them: as short as people write them, and the same as float32."""

from __future__ import annotations

import numpy as np

from detector.service.viewing.desk import _in_few_digits


def test_numbers_are_short_and_give_the_same_float32_back() -> None:
    given = [1.07012, -0.1, 0.0, 50.0, 1e-30, 3.4e38, 16777217.0, 123456.789, float("inf")]
    single = np.array(given, np.float32)
    found = _in_few_digits(single)
    assert (found.astype(np.float32) == single).all()
    assert found[:6].tolist() == given[:6]
    random = np.random.default_rng(0)
    several = random.normal(0, 1, (1000, 4)) * 10.0 ** random.integers(-30, 30, (1000, 4))
    single = several.astype(np.float32)
    assert (_in_few_digits(single).astype(np.float32) == single).all()
    assert np.isnan(_in_few_digits(np.array([np.nan], np.float32))).all()
