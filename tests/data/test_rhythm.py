"""The simulated rhythm: reproducible, labelled, and broken only where it says."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest

from detector.config import parse_config
from detector.core.features import FeatureSet
from detector.core.ticks import Outcome, TickBatch
from detector.data.faults import FAULT_KINDS, Fault, FaultKind
from detector.data.simulate import (
    FEATURES,
    FIELDS,
    Simulation,
    rows,
    simulate_rhythm,
)
from detector.offline.recordings import RowReader

START_NS = 1_700_000_000_000_000_000


def make(
    *,
    series: int = 3,
    ticks: int = 3000,
    faults_per_kind: int = 2,
    seed: int = 1,
    kinds: tuple[FaultKind, ...] = FAULT_KINDS,
) -> Simulation:
    return simulate_rhythm(
        series=series,
        ticks_per_series=ticks,
        faults_per_kind=faults_per_kind,
        seed=seed,
        start_ns=START_NS,
        kinds=kinds,
    )


def touched(simulation: Simulation, fault: Fault) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """The ticks within a fault."""
    series = simulation.names.index(fault.series)
    inside = (simulation.time_ns >= fault.start_ns) & (simulation.time_ns <= fault.end_ns)
    within: np.ndarray[tuple[int], np.dtype[np.bool_]] = inside & (simulation.series == series)
    return within


def test_the_same_seed_gives_the_same_ticks() -> None:
    one, same, other = make(seed=3), make(seed=3), make(seed=4)
    for column in ("series", "time_ns", "values", "fault"):
        np.testing.assert_array_equal(getattr(one, column), getattr(same, column))
    assert one.faults == same.faults != other.faults
    assert not np.array_equal(one.values[:100], other.values[:100])


def test_there_are_as_many_faults_of_each_kind_as_asked_for() -> None:
    faults = make(series=4, faults_per_kind=3, ticks=4000).faults
    assert {kind: sum(f.kind == kind for f in faults) for kind in FAULT_KINDS} == dict.fromkeys(
        FAULT_KINDS, 3
    )
    assert {f.series for f in faults} == {"SIM000", "SIM001", "SIM002", "SIM003"}


def test_ticks_come_in_order_and_each_series_moves_forward() -> None:
    simulation = make()
    assert (np.diff(simulation.time_ns) >= 0).all()
    assert simulation.time_ns[0] > START_NS
    for series in range(3):
        assert (np.diff(simulation.time_ns[simulation.series == series]) > 0).all()
    assert len(simulation) == len(simulation.fault) == len(simulation.values)


def test_labels_and_faults_tell_the_same_story() -> None:
    simulation = make(faults_per_kind=3, ticks=4000)
    labelled = np.zeros(len(simulation), np.bool_)
    for fault in simulation.faults:
        inside = touched(simulation, fault)
        if fault.kind == "dropout":  # only the first tick after it is there
            inside &= simulation.time_ns == fault.end_ns
        assert set(simulation.fault[inside].tolist()) == {FAULT_KINDS.index(fault.kind) + 1}
        assert inside.any()
        labelled |= inside
    np.testing.assert_array_equal(simulation.fault > 0, labelled)


def test_faults_of_a_series_stand_well_apart() -> None:
    simulation = make(faults_per_kind=4, ticks=4000)
    for name in simulation.names:
        own = [f for f in simulation.faults if f.series == name]
        for earlier, later in itertools.pairwise(own):
            assert later.start_ns - earlier.end_ns > 5 * 10**9


def test_healthy_ticks_are_the_same_with_and_without_faults_before_them() -> None:
    broken, whole = make(series=1), make(series=1, faults_per_kind=0)
    assert whole.faults == ()
    assert (whole.fault == 0).all()
    first = broken.faults[0].start_ns
    before = broken.time_ns < first
    assert before.sum() >= 200


@pytest.mark.parametrize("kind", FAULT_KINDS)
def test_each_fault_breaks_what_its_name_says(kind: FaultKind) -> None:
    simulation = make(series=1, kinds=(kind,), faults_per_kind=1)
    (fault,) = simulation.faults
    inside = touched(simulation, fault)
    bid, ask, volume = simulation.values.T
    start = int(np.flatnonzero(inside)[0])
    if kind == "spike":
        assert inside.sum() == 2
        assert abs(bid[start] / bid[start - 1] - 1) > 0.005
    elif kind == "level_shift":
        assert np.median(volume[inside]) > 4 * np.median(volume[~inside])
    elif kind == "volatility":
        steps = np.abs(np.diff(np.log(bid)))
        assert np.median(steps[inside[1:]]) > 3 * np.median(steps[~inside[1:]])
    elif kind == "frozen":
        assert (simulation.values[inside] == simulation.values[start - 1]).all()
    elif kind == "crossed":
        assert (bid[inside] > ask[inside]).all()
        assert (bid[~inside] < ask[~inside]).all()
    else:
        assert (fault.end_ns - fault.start_ns) / 1e9 > 1
        assert simulation.time_ns[start] - simulation.time_ns[start - 1] > 10**9
        assert np.diff(simulation.time_ns[~inside]).max() > 10**9


@pytest.mark.parametrize(("ticks", "faults"), [(300, 1), (410, 1), (1000, 2)])
def test_too_short_series_are_refused_with_the_ticks_they_need(ticks: int, faults: int) -> None:
    with pytest.raises(ValueError, match=r"need at least \d+ ticks") as refused:
        make(series=1, ticks=ticks, faults_per_kind=faults)
    needed = int(str(refused.value).split("least ")[1].split()[0])
    assert make(series=1, ticks=needed, faults_per_kind=faults).faults
    with pytest.raises(ValueError, match="need at least"):
        make(series=1, ticks=needed - 1, faults_per_kind=faults)


def test_rows_are_ticks_as_json() -> None:
    simulation = make(ticks=1500)
    written = list(rows(simulation))
    assert len(written) == len(simulation)
    first = json.loads(json.dumps(written[0]))
    assert set(first) == {"series", "timestamp", *FIELDS}
    assert first["series"] == simulation.names[simulation.series[0]]
    assert first["timestamp"] == pytest.approx(simulation.time_ns[0] / 1e9, abs=1e-6)
    assert first["bid"] == pytest.approx(simulation.values[0, 0], abs=1e-6)


def test_the_features_of_the_simulation_accept_every_tick() -> None:
    simulation = make()
    n = len(simulation)
    features = FeatureSet.parse(FEATURES)
    assert features.fields == FIELDS
    names = [simulation.names[i] for i in simulation.series.tolist()]
    batch = TickBatch(
        series=names,
        time_ns=simulation.time_ns,
        values=simulation.values,
        partition=np.zeros(n, np.int32),
        offset=np.arange(n),
        index=np.zeros(n, np.int32),
        received_ms=np.zeros(n, np.int64),
    )
    arrivals, rows = RowReader(features, parse_config({})).read(batch)
    assert set(arrivals.outcome.tolist()) == {Outcome.SCORED}
    assert np.isfinite(rows.features[~rows.restart]).all()
