"""The simulated market as a whole: reproducible, labelled, and broken only where it says."""

from __future__ import annotations

import itertools
import subprocess
import sys

import numpy as np
import pytest

from detector.config import parse_config
from detector.core.features import FeatureSet
from detector.core.ticks import Outcome, TickBatch
from detector.data.faults import FAULT_KINDS, FaultKind
from detector.data.simulate import FEATURES, FIELDS, Simulation, rows, simulate
from detector.offline.recordings import RowReader
from tests.processes import clean_environment

START_NS = 1_700_000_000_000_000_000


def make(
    *,
    series: int = 4,
    ticks: int = 4000,
    faults_per_kind: int = 1,
    seed: int = 1,
    kinds: tuple[FaultKind, ...] = FAULT_KINDS,
    strengths: tuple[float, ...] = (1.0, 2.0),
) -> Simulation:
    return simulate(
        series=series,
        ticks_per_series=ticks,
        faults_per_kind=faults_per_kind,
        seed=seed,
        start_ns=START_NS,
        kinds=kinds,
        strengths=strengths,
    )


def test_the_same_seed_gives_the_same_ticks() -> None:
    one, same, other = make(seed=3), make(seed=3), make(seed=4)
    for column in ("series", "time_ns", "values", "fault"):
        np.testing.assert_array_equal(getattr(one, column), getattr(same, column))
    assert (one.faults, one.news) == (same.faults, same.news)
    assert one.faults != other.faults
    assert not np.array_equal(one.values[:100], other.values[:100])


def test_another_process_simulates_the_same() -> None:
    code = (
        "import hashlib; from detector.data.simulate import simulate\n"
        "s = simulate(series=2, ticks_per_series=2000, faults_per_kind=1, seed=5, start_ns=0)\n"
        "print(hashlib.sha256(s.time_ns.tobytes() + s.values.tobytes()).hexdigest(), s.faults)"
    )
    said = [
        subprocess.run(
            [sys.executable, "-c", code],
            env=clean_environment() | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert said[0] == said[1] != ""


def test_the_start_moves_the_times_and_nothing_else() -> None:
    one = make()
    later = simulate(
        series=4,
        ticks_per_series=4000,
        faults_per_kind=1,
        seed=1,
        start_ns=START_NS + 10**9,
        strengths=(1.0, 2.0),
    )
    np.testing.assert_array_equal(later.time_ns, one.time_ns + 10**9)
    np.testing.assert_array_equal(later.values, one.values)


def test_there_are_as_many_faults_of_each_kind_and_strength_as_asked_for() -> None:
    faults = make(faults_per_kind=2, ticks=6000).faults
    assert len(faults) == 2 * 2 * len(FAULT_KINDS)
    for kind, strength in itertools.product(FAULT_KINDS, (1.0, 2.0)):
        assert sum((f.kind, f.strength) == (kind, strength) for f in faults) == 2
    assert {f.series for f in faults} == {"SIM000", "SIM001", "SIM002", "SIM003"}


def test_ticks_come_in_order_and_each_series_moves_forward() -> None:
    simulation = make(faults_per_kind=0)
    assert len(simulation) == 4 * 4000
    assert (np.diff(simulation.time_ns) >= 0).all()
    assert simulation.time_ns[0] > START_NS
    for series in range(4):
        assert (np.diff(simulation.time_ns[simulation.series == series]) > 0).all()


def test_a_few_ticks_are_as_many_as_asked_for() -> None:
    assert len(make(series=4, ticks=9, faults_per_kind=0)) == 36
    assert len(make(series=1, ticks=1, faults_per_kind=0)) == 1


def test_labels_and_faults_tell_the_same_story() -> None:
    simulation = make(faults_per_kind=2, ticks=6000)
    labelled = np.zeros(len(simulation), np.bool_)
    for fault in simulation.faults:
        own = simulation.series == simulation.names.index(fault.series)
        inside = own & (simulation.time_ns >= fault.start_ns)
        inside &= simulation.time_ns <= fault.end_ns
        if fault.kind == "dropout":
            assert inside.sum() == 1, "only the first tick after it is there"
        assert set(simulation.fault[inside].tolist()) == {FAULT_KINDS.index(fault.kind) + 1}
        labelled |= inside
    np.testing.assert_array_equal(simulation.fault > 0, labelled)


def test_faults_of_a_series_stand_a_hundred_ticks_apart() -> None:
    simulation = make(faults_per_kind=3, ticks=6000)
    for i, name in enumerate(simulation.names):
        times = simulation.time_ns[simulation.series == i]
        own = [f for f in simulation.faults if f.series == name]
        assert (times < own[0].start_ns).sum() >= 200
        for earlier, later in itertools.pairwise(own):
            between = (times > earlier.end_ns) & (times < later.start_ns)
            assert between.sum() >= 99  # a dropout ends with a tick of the hundred


def test_ticks_outside_of_faults_are_those_of_the_same_seed_without_faults() -> None:
    broken, whole = make(), make(faults_per_kind=0)
    assert (whole.fault == 0).all()
    assert broken.news == whole.news
    for series in range(4):
        healthy = (broken.series == series) & (broken.fault == 0)
        same = (whole.series == series) & np.isin(whole.time_ns, broken.time_ns[healthy])
        np.testing.assert_array_equal(broken.values[healthy], whole.values[same])


def test_a_series_is_alike_with_every_seed() -> None:
    """Else what is learnt on one day would be of another market than what is watched."""
    spreads, shares = [], []
    for seed in (1, 2):
        simulation = make(seed=seed, faults_per_kind=0)
        own = [simulation.series == i for i in range(4)]
        bid, ask, _ = simulation.values.T
        spreads.append([np.median((ask - bid)[mine]) for mine in own])
        shares.append([mine.mean() for mine in own])
    np.testing.assert_allclose(spreads[0], spreads[1], rtol=0.25)
    np.testing.assert_allclose(shares[0], shares[1], rtol=0.25)
    assert max(shares[0]) > 2 * min(shares[0]), "some are busy, some quiet"


@pytest.mark.parametrize(("ticks", "faults"), [(100, 1), (1000, 5)])
def test_too_short_series_are_refused(ticks: int, faults: int) -> None:
    with pytest.raises(ValueError, match=rf"SIM000 has {ticks} ticks, too few for {6 * faults}"):
        make(series=1, ticks=ticks, faults_per_kind=faults, strengths=(1.0,))


def test_what_is_written_is_what_is_simulated() -> None:
    simulation = make(ticks=1500, faults_per_kind=0)
    written = list(rows(simulation))
    assert set(written[0]) == {"series", "timestamp", *FIELDS}
    values = np.array([[row[field] for field in FIELDS] for row in written])
    np.testing.assert_array_equal(values, simulation.values)


def test_the_features_of_the_simulation_accept_every_tick() -> None:
    simulation = make(strengths=(4.0,))
    n = len(simulation)
    features = FeatureSet.parse(FEATURES)
    assert features.fields == FIELDS
    batch = TickBatch(
        series=[simulation.names[i] for i in simulation.series.tolist()],
        time_ns=simulation.time_ns,
        values=simulation.values,
        partition=np.zeros(n, np.int32),
        offset=np.arange(n),
        index=np.zeros(n, np.int32),
        received_ms=np.zeros(n, np.int64),
    )
    arrivals, found = RowReader(features, parse_config({})).read(batch)
    assert set(arrivals.outcome.tolist()) == {Outcome.SCORED}
    assert np.isfinite(found.features[~found.restart]).all()
