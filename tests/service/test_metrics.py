"""The metrics: histograms that take arrays, labels there at once, names that tell units."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from detector.core.alerts import (
    MODEL_DRIFT,
    NEW_NORMAL,
    RECONSTRUCTION,
    SILENCE,
    Severity,
    State,
)
from detector.core.rehearsal import Forecast
from detector.core.scores import Acquaintance
from detector.core.thresholds.deployed import Deployed
from detector.core.ticks import REJECT_REASONS, Outcome
from detector.service.metrics import STAGES, ArrayHistogram, Metrics, metric_names
from tests.processes import Samples, by_label, samples

EDGES = (0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
OBSERVATIONS = st.one_of(
    st.sampled_from([*EDGES, 0.0, -0.0, -1.0, *np.nextafter(EDGES, 99), *np.nextafter(EDGES, -99)]),
    st.floats(-1e6, 1e6),
)


def exposed(registry: CollectorRegistry) -> Samples:
    return samples(generate_latest(registry).decode())


@given(st.lists(st.lists(OBSERVATIONS, max_size=40), max_size=5))
@settings(deadline=None, max_examples=200)
def test_an_array_histogram_equals_one_fed_value_by_value(batches: list[list[float]]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    arrays = ArrayHistogram("h", "text", EDGES, ours)
    Metrics(CollectorRegistry())  # settles for the whole process that nothing is _created
    single = Histogram("h", "text", buckets=EDGES, registry=theirs)
    for batch in batches:
        arrays.observe(np.array(batch))
        for value in batch:
            single.observe(value)
    found, expected = exposed(ours), exposed(theirs)
    assert found.keys() == expected.keys()
    assert ("h_bucket", (("le", "+Inf"),)) in found
    for name, value in expected.items():
        assert found[name] == (pytest.approx(value) if name[0] == "h_sum" else value)


def test_an_array_histogram_takes_single_precision() -> None:
    values = (0.1, 0.25, 3.0)
    registry = CollectorRegistry()
    ArrayHistogram("h", "text", EDGES, registry).observe(np.array(values, np.float32))
    assert exposed(registry)[("h_count", ())] == 3
    assert exposed(registry)[("h_sum", ())] == pytest.approx(3.35)


def test_every_label_value_is_there_from_the_start_at_zero() -> None:
    registry = CollectorRegistry()
    Metrics(registry)
    found = exposed(registry)

    def label_values(name: str, label: str) -> set[str]:
        return {dict(labels)[label] for n, labels in found if n == name}

    outcomes = {o.name.lower() for o in Outcome}
    assert label_values("detector_ticks_total", "outcome") == outcomes
    assert label_values("detector_ticks_rejected_total", "reason") == set(REJECT_REASONS)
    transactions = label_values("detector_transactions_total", "outcome")
    assert transactions == {"committed", "aborted", "unknown"}
    assert label_values("detector_processing_seconds_count", "stage") == set(STAGES)
    assert label_values("detector_processing_cpu_seconds_total", "stage") == set(STAGES)
    alerts = {labels for name, labels in found if name == "detector_alerts_total"}
    levels, states = ([m.name.lower() for m in e] for e in (Severity, State))
    expected = {(RECONSTRUCTION, level, state) for level in levels for state in states}
    of_series = (SILENCE, MODEL_DRIFT, NEW_NORMAL)
    expected |= {
        (k, "warning", state) for k in of_series for state in ("opened", "resolved", "updated")
    }
    assert {tuple(value for _, value in labels) for labels in alerts} == expected
    counters = {name: value for (name, _), value in found.items() if name.endswith("_total")}
    assert set(counters.values()) == {0}


def test_a_stage_is_charged_its_own_computing_and_not_its_waiting() -> None:
    registry = CollectorRegistry()
    processing = Metrics(registry).processing
    with processing.of("poll"):
        threading.Event().wait(0.05)
    with pytest.raises(ValueError, match="inside"), processing.of("decode"):
        _compute_and_fail()
    found = exposed(registry)
    wall, cpu = "detector_processing_seconds_sum", "detector_processing_cpu_seconds_total"
    assert by_label(found, wall, "stage").keys() == {"poll", "decode"}
    seconds = by_label(found, cpu, "stage")
    assert seconds["decode"] >= 0.02
    assert seconds["poll"] < by_label(found, wall, "stage")["poll"] / 2


def _compute_and_fail() -> None:
    end_s = time.thread_time() + 0.02
    while time.thread_time() < end_s:
        pass
    raise ValueError("inside")


def test_names_carry_the_prefix_and_end_as_their_kind_asks() -> None:
    registry = CollectorRegistry()
    Metrics(registry)
    families = list(text_string_to_metric_families(generate_latest(registry).decode()))
    assert len(families) > 15
    for family in families:
        assert family.name.startswith("detector_")
        assert family.documentation
        for sample in family.samples:
            assert sample.name.endswith("_total") == (family.type == "counter"), sample.name
        assert not any(s.name.endswith("_created") for s in family.samples)
        unitless = {"detector_score", "detector_batch_windows"}
        if family.type == "histogram" and family.name not in unitless:
            assert family.name.endswith("_seconds")
        if "timestamp" in family.name:
            assert family.name.endswith("_timestamp_seconds")


def test_the_listed_names_are_the_exposed_names() -> None:
    registry = CollectorRegistry()
    Metrics(registry)
    found = set()
    for family in text_string_to_metric_families(generate_latest(registry).decode()):
        suffix = "_total" if family.type == "counter" else ""
        found.add(family.name + suffix)
    assert metric_names() == found


def test_no_metric_carries_a_label_for_each_series() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    metrics.lag.labels("ticks", "0").set(1)
    assert not any("series" in dict(labels) for _, labels in exposed(registry))


def test_the_linter_of_prometheus_has_no_complaint() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool not found: install Prometheus (Debian: apt install prometheus)")
    registry = CollectorRegistry()
    Metrics(registry, process=True)
    checked = subprocess.run(
        [promtool, "check", "metrics"],
        input=generate_latest(registry),
        capture_output=True,
        timeout=120,
        check=False,
    )
    complaints = (checked.stdout + checked.stderr).decode().splitlines()
    assert [line for line in complaints if "detector_" in line] == []


def test_ticks_of_a_transaction_are_counted_by_outcome_and_reason() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    metrics.count_ticks({Outcome.SCORED: 5, Outcome.REJECTED: 2}, {"null": 2})
    metrics.count_ticks({Outcome.SCORED: 1, Outcome.LATE: 3}, {})
    found = exposed(registry)
    assert by_label(found, "detector_ticks_total", "outcome") == {
        "scored": 6, "rejected": 2, "late": 3,
    }  # fmt: skip
    assert by_label(found, "detector_ticks_rejected_total", "reason") == {"null": 2}
    assert found[("detector_windows_scored_total", ())] == 6


def test_scores_without_a_window_are_left_out() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    metrics.observe_scores([np.array([np.nan, 0.5, np.nan, 2.0]), np.array([np.nan])])
    found = exposed(registry)
    assert found[("detector_score_count", ())] == 2
    assert found[("detector_score_sum", ())] == 2.5
    assert found[("detector_batch_windows_count", ())] == 1
    assert found[("detector_batch_windows_sum", ())] == 2


def test_the_threshold_is_told_with_what_was_asked_and_what_to_expect() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    metrics.tell_threshold(Deployed(3.0, 1e-4, 1e-3), Forecast({"a": 2}, 0.5, 4.0, counted=False))
    found = exposed(registry)
    assert found["detector_threshold", ()] == 3.0
    assert by_label(found, "detector_budget_ratio", "of") == {"asked": 1e-4, "deployed": 1e-3}
    assert found["detector_expected_normal_alerts_per_day", ()] == 4.0
    metrics.tell_threshold(Deployed(2.5, None, None), None)
    found = exposed(registry)
    assert np.isnan(found["detector_budget_ratio", (("of", "asked"),)])
    assert np.isnan(found["detector_expected_normal_alerts_per_day", ()])


def test_how_well_series_are_known_is_told() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    metrics.tell_acquaintance(Acquaintance(3, 4, np.arange(11.0)))
    found = exposed(registry)
    reasons = by_label(found, "detector_cold_series", "reason")
    assert reasons == {"cannot_alert": 3, "shared_calibration": 4}
    drift = by_label(found, "detector_model_drift_decades", "percentile")
    assert drift == {"50": 5.0, "90": 9.0, "100": 10.0}
    metrics.tell_acquaintance(Acquaintance(0, 0, np.empty(0)))
    assert by_label(exposed(registry), "detector_model_drift_decades", "percentile") == {}
