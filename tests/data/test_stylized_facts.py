"""What quotes are like, and that the simulated market is like real quotes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from detector.build import columns
from detector.config import parse_config
from detector.data.market import CHARACTERS, market
from detector.data.recorded_quotes import read_quotes
from detector.data.sources import DataFile
from detector.data.stylized_facts import memory, stylized_facts

TICKS = 9_000  # what is seen of heavy tails depends on how many
VENUES = ("oanda", "fxcm")
QUOTES = Path(__file__).resolve().parents[3] / "shared" / "data" / "ticks"

#: How far the median of the simulated series may be beyond what nine of ten stretches of the real
#: quotes are like, in the unit of the moment.
FACTOR = 1.25
SLACK = 0.03  # for autocorrelations, which may be around 0


def test_facts_of_quotes_that_are_known() -> None:
    random = np.random.default_rng(1)
    n = 50_000
    time_ns = np.cumsum(random.exponential(1e9, n)).astype(np.int64)
    middle = np.cumsum(random.normal(0, 10, n))
    found = stylized_facts(time_ns, middle - 2, middle + 2, tick=1)
    assert found["move_excess_kurtosis"] == pytest.approx(0, abs=0.1)
    assert found["move_q99.9_to_median"] == pytest.approx(3.29 / 0.6745, rel=0.1)
    assert found["gap_variation"] == pytest.approx(1, rel=0.05)
    assert found["gap_q50_to_mean"] == pytest.approx(np.log(2), rel=0.05)
    assert found["spread_median_ticks"] == 4
    assert found["spread_q99_to_median"] == 1
    for name in found:
        if "memory" in name:
            assert found[name] == pytest.approx(0, abs=0.02)


def test_facts_have_no_unit() -> None:
    (quotes,), _ = market(series=1, ticks=3000, start_ns=0, random=np.random.default_rng(2))
    one = stylized_facts(quotes.time_ns, quotes.bid, quotes.ask, tick=1)
    other = stylized_facts(quotes.time_ns * 60, quotes.bid / 8, quotes.ask / 8, tick=1 / 8)
    assert one == pytest.approx(other)


def test_moves_across_a_pause_are_left_out() -> None:
    time_ns = np.array([0, 1, 2, 3, 10**6, 10**6 + 1, 10**6 + 2, 10**6 + 3]) * 10**9
    bid = np.array([1.0, 2, 1, 2, 900, 901, 900, 901])
    lags = np.concatenate([time_ns + k * 10**8 * 10**9 for k in range(40)])
    found = stylized_facts(lags, np.tile(bid, 40), np.tile(bid, 40) + 1, tick=1, pause_s=60)
    assert found["gap_max_to_mean"] == 1
    assert found["move_q99.9_to_median"] == 1


def test_memory_is_that_of_an_autoregression() -> None:
    random = np.random.default_rng(3)
    noise = random.normal(size=100_000)
    values = np.zeros(len(noise))
    for i in range(1, len(noise)):
        values[i] = 0.6 * values[i - 1] + noise[i]
    assert memory(values, 1) == pytest.approx(0.6, abs=0.02)
    assert memory(values, 3) == pytest.approx(0.6**3, abs=0.02)


def real_facts(path: Path) -> list[dict[str, float]]:
    form = {"timestamp_field": "timestamp_ms", "timestamp_unit": "ms"}
    meaning = columns(parse_config({"input": form}))
    quotes = read_quotes(DataFile(path, "NZDUSD"), meaning)["NZDUSD"]
    assert quotes.tick == pytest.approx(1e-5)
    return [
        stylized_facts(one.time_ns, one.bid, one.ask, tick=one.tick, pause_s=3600)
        for one in quotes.stretches(TICKS, most=len(quotes.bid))
    ]


def test_the_simulated_market_is_like_real_quotes() -> None:
    paths = [QUOTES / f"nzdusd-{venue}-quotes.csv.gz" for venue in VENUES]
    if not all(path.exists() for path in paths):
        pytest.skip("no quotes in ../shared/data/ticks beside the repository")
    real = [facts for path in paths for facts in real_facts(path)]
    n = len(CHARACTERS)
    quotes, _ = market(series=n, ticks=n * TICKS, start_ns=0, random=np.random.default_rng(3))
    simulated = [stylized_facts(one.time_ns, one.bid, one.ask, tick=1) for one in quotes]
    beside = []
    far = []
    for name in real[0]:
        low, middle, high = np.quantile([one[name] for one in real], (0.05, 0.5, 0.95)).tolist()
        typical = float(np.median([one[name] for one in simulated]))
        beside.append(f"{name:24} {low:9.3f} {middle:9.3f} {high:9.3f} {typical:9.3f}")
        if "memory" in name:
            near = low - SLACK <= typical <= high + SLACK
        else:
            near = min(low / FACTOR, low * FACTOR) <= typical <= high * FACTOR
        if not near:
            far.append(name)
    print("\n".join(beside))  # noqa: T201 - for whoever asks with pytest -s
    assert far == []
