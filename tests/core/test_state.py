"""The state of a series as bytes: back to the last bit, or refused with what to do."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detector.core.alerts import RECONSTRUCTION, State
from detector.core.episodes import AlertPolicy
from detector.core.features import FeatureSet
from detector.core.pipeline import Pipeline, PipelineState
from detector.core.state import (
    _HEAD,
    MUTES_KEY,
    VERSION,
    WATERMARK_KEY,
    StateCodec,
    series_key,
)
from detector.core.ticks import Float32, Outcome
from detector.errors import StateError
from tests.core.making import PlainScorer, Rules, pipeline_of
from tests.core.reference import LEVELS, LOOKING_BACK, Tick, batch_of
from tests.core.streams import START_NS, streams

WHERE = "state/0"
_SETTINGS = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


class _SpreadScorer(PlainScorer):
    """Errors that follow the spread of each window: cheap, and easy to drive."""

    def errors(self, windows: Float32) -> Float32:
        errors: Float32 = np.ptp(windows.astype(np.float64), axis=1).clip(0, 1e30).astype("f4")
        return errors

    def reconstruct(self, windows: Float32) -> Float32:
        return windows


_POLICY = Rules(
    topic="ticks",
    length=3,
    stride=1,
    max_gap_s=5.0,
    max_series=100,
    threshold=50.0,
    alerts=AlertPolicy(open_after=1, of_last=2, resolve_after=2, critical_ratio=2.0),
    model_version="v1",
    silence_s=20.0,
)


def make_pipeline(expressions: dict[str, str] | None = None, **changes: Any) -> Pipeline:
    features = FeatureSet.parse(expressions or LEVELS.expressions)
    return pipeline_of(replace(_POLICY, **changes), features, _SpreadScorer())


def assert_equal(found: PipelineState, expected: PipelineState) -> None:
    assert found.series == expected.series
    assert found.columns.keys() == expected.columns.keys()
    for name, column in expected.columns.items():
        assert found.columns[name].tobytes() == column.tobytes(), name


def table_of(codec: StateCodec, state: PipelineState, as_of: list[int]) -> dict[bytes, bytes]:
    values = codec.encode(state, np.array(as_of, np.int64))
    return {series_key(name): v for (_, name), v in zip(state.series, values, strict=True)}


def all_of(pipeline: Pipeline, partition: int = 0) -> PipelineState:
    return pipeline.snapshot(pipeline.stream.series.of_partition(partition))


@given(
    names=st.lists(st.text(max_size=40), unique=True, max_size=6),
    seed=st.integers(0, 2**32),
    data=st.data(),
)
@settings(_SETTINGS, max_examples=150)
def test_any_state_comes_back_to_the_last_bit(
    names: list[str], seed: int, data: st.DataObject
) -> None:
    pipeline = make_pipeline()
    random = np.random.default_rng(seed)
    columns = {}
    for name, (shape, dtype) in pipeline.spec().items():
        raw = random.bytes(int(len(names) * np.prod(shape, dtype=int) * dtype.itemsize))
        column = np.frombuffer(raw, dtype).reshape(len(names), *shape)
        columns[name] = np.array(
            (np.frombuffer(raw, "u1") % 2).astype("?").reshape(column.shape)
            if (dtype == np.bool_)
            else column
        )
    columns["intake.seen"][:] = True
    state = PipelineState(tuple((0, name) for name in names), columns)
    moments = st.lists(st.integers(0, 2**63 - 1), min_size=len(names), max_size=len(names))
    as_of = data.draw(moments)
    codec = StateCodec(pipeline)
    saved = codec.decode(0, table_of(codec, state, as_of), WHERE)
    assert_equal(saved.same, state)
    assert saved.same_as_of.tolist() == as_of
    assert len(saved) == len(names)
    assert len(saved.foreign.series) == 0


@given(ticks=streams(max_size=60))
@settings(_SETTINGS, max_examples=60)
def test_the_state_of_a_run_comes_back_and_the_watermark_is_no_series(ticks: list[Tick]) -> None:
    pipeline = make_pipeline()
    pipeline.process(batch_of(pipeline, ticks))
    codec = StateCodec(pipeline)
    for partition in pipeline.stream.series.partitions():
        state = all_of(pipeline, partition)
        table = table_of(codec, state, list(range(len(state.series))))
        saved = codec.decode(partition, {WATERMARK_KEY: b"anything"} | table, WHERE)
        assert_equal(saved.same, state)
        other = make_pipeline()
        slots = other.restore(saved.same, saved.same_as_of)
        assert_equal(other.snapshot(slots), state)


def one_record() -> tuple[StateCodec, bytes]:
    pipeline = make_pipeline()
    pipeline.process(batch_of(pipeline, [Tick("a", START_NS, (1.0, 2.0), 7)]))
    codec = StateCodec(pipeline)
    return codec, codec.encode(all_of(pipeline), np.array([8]))[0]


_KEYS = st.binary(max_size=20) | st.binary(max_size=20).map(b"series:".__add__)


@st.composite
def values(draw: st.DrawFn) -> bytes:
    """Bytes, some nearly a record."""
    if draw(st.booleans()):
        return draw(st.binary(max_size=300))
    record = bytearray(one_record()[1])
    for _ in range(draw(st.integers(0, 3))):
        record[draw(st.integers(0, len(record) - 1) | st.integers(0, 9))] = draw(
            st.integers(0, 255)
        )
    more = draw(st.binary(max_size=2))
    return bytes(record[: draw(st.integers(0, len(record)) | st.just(len(record)))]) + more


@given(table=st.dictionaries(_KEYS, values(), max_size=4), heads_only=st.booleans())
@settings(_SETTINGS, max_examples=300)
def test_any_bytes_are_a_state_or_refused(table: dict[bytes, bytes], heads_only: bool) -> None:
    codec, _ = one_record()
    try:
        saved = codec.decode(0, table, WHERE, heads_only=heads_only)
    except StateError as error:
        assert str(error).startswith(WHERE)  # noqa: PT017
        assert "detector state reset" in str(error)  # noqa: PT017
        return
    at = seen_at(codec)
    seen = [v for k, v in table.items() if k not in (WATERMARK_KEY, MUTES_KEY) and v[at]]
    assert len(saved) == len(seen), "of the others no tick was ever accepted"
    assert not heads_only or len(saved.same.series) == 0


def seen_at(codec: StateCodec) -> int:
    """Where a record says whether any tick of its series was accepted."""
    return int(codec._fixed.fields["intake.seen"][1])  # type: ignore[index]  # has fields


def changed(record: bytes, at: int, byte: int) -> bytes:
    return record[:at] + bytes([byte]) + record[at + 1 :]


def test_a_record_of_a_newer_program_is_refused() -> None:
    codec, record = one_record()
    newer = {series_key("a"): changed(record, 0, VERSION + 1)}
    with pytest.raises(StateError, match=r"'a' was written by a newer program \(version 3"):
        codec.decode(0, newer, WHERE)


@pytest.mark.parametrize("heads_only", [False, True])
@pytest.mark.parametrize("value", ["empty", "cut off", "too long", "head cut off"])
def test_a_record_of_another_length_is_refused(value: str, heads_only: bool) -> None:
    codec, record = one_record()
    broken = {
        "empty": b"",
        "cut off": record[:-1],
        "too long": record + b"\0",
        "head cut off": record[:40],
    }[value]
    if heads_only and value in {"cut off", "too long"}:
        assert len(codec.decode(0, {series_key("a"): broken}, WHERE, heads_only=True)) == 1
        return
    with pytest.raises(StateError, match=r"series 'a' is (damaged|empty)"):
        codec.decode(0, {series_key("a"): broken}, WHERE, heads_only=heads_only)


@pytest.mark.parametrize("key", [b"", b"a", b"series", b"series:\xff", b"watermark2"])
def test_a_key_that_is_none_is_refused(key: bytes) -> None:
    codec, record = one_record()
    with pytest.raises(StateError, match=r"is no key .* name another in state\.topic"):
        codec.decode(0, {key: record}, WHERE)


def test_a_record_of_32_ticks_of_4_features_is_at_most_1_kib_with_its_key() -> None:
    pipeline = make_pipeline(dict(LOOKING_BACK.expressions), length=32)
    assert len(pipeline.primary.features.names) == 4
    codec = StateCodec(pipeline)
    assert codec.record_bytes + len(series_key("sensor-".ljust(64, "x"))) <= 1024
    pipeline.process(batch_of(pipeline, [Tick("a", START_NS, (1.0, 2.0), 7)]))
    (value,) = codec.encode(all_of(pipeline), np.array([8]))
    assert len(value) == codec.record_bytes


def test_the_fingerprint_tells_models_windows_and_layouts_apart() -> None:
    made = [
        make_pipeline(),
        make_pipeline(model_version="v2"),
        make_pipeline(length=4),
        make_pipeline(stride=2),
        make_pipeline({"price": "price"}),
    ]
    assert len({StateCodec(p).fingerprint for p in made}) == len(made)
    assert StateCodec(make_pipeline(threshold=7.0)).fingerprint == StateCodec(made[0]).fingerprint


# -- what earlier versions wrote

EARLIER = json.loads(Path(__file__).with_name("state_v1.json").read_text())


@pytest.mark.parametrize("case", EARLIER, ids=["levels", "looking back"])
def test_a_state_of_version_0_1_goes_on_to_the_last_bit(case: dict[str, Any]) -> None:
    """Recorded with the program that first wrote it: records, and what came of the next ticks."""
    pipeline = make_pipeline(
        case["expressions"],
        length=4,
        max_gap_s=50.0,
        threshold=3.0,
        alerts=AlertPolicy(open_after=1, of_last=3, resolve_after=3, critical_ratio=2.0),
    )
    codec = StateCodec(pipeline)
    assert codec.fingerprint.hex() == case["fingerprint"]
    of_habits = 2 * (1 + 8 + 16 + 8)  # what may be open since then
    assert codec.record_bytes == case["record_bytes"] + of_habits
    table = {series_key(name): bytes.fromhex(v) for name, v in case["records"].items()}
    saved = codec.decode(0, table, WHERE)
    assert len(saved.same.series) == len(table)
    pipeline.restore(saved.same, saved.same_as_of)
    pipeline.set_event_ns(0, case["event_ns"])
    again = table_of(codec, all_of(pipeline), saved.same_as_of.tolist())
    head = 1 + 8 + 8 + sum(np.dtype((t, s)).itemsize for _, t, s in _HEAD)
    assert {k: v[1:head] + v[head + of_habits :] for k, v in again.items()} == {
        k: v[1:] for k, v in table.items()
    }
    assert all(not any(v[head : head + of_habits]) for v in again.values())
    before, after = (
        [Tick(s, t, tuple(v), first + i) for i, (s, t, v) in enumerate(case[part])]
        for part, first in (("ticks_before", 100), ("ticks_after", 140))
    )
    result = pipeline.process(batch_of(pipeline, before + after))
    assert result.outcome.tolist() == case["outcome"], "what the state holds is passed over"
    assert [None if s != s else s for s in result.score.tolist()] == case["score"]
    found = [
        [
            *(a.id, a.alert_id, a.kind, a.state.name, a.severity.name, a.series),
            *(a.score, a.peak_score, a.opened_ns),
        ]
        for a in result.alerts
    ]
    assert found == case["alerts"]


def test_a_series_of_which_no_tick_was_accepted_is_not_restored() -> None:
    """Earlier versions gave a rejected tick's series a slot, and wrote it down."""
    codec, record = one_record()
    unseen = changed(record, seen_at(codec), 0)
    saved = codec.decode(0, {series_key("a"): record, series_key("b"): unseen}, WHERE)
    assert saved.same.series == ((0, "a"),)


# -- another model


def moved(before: Pipeline, after: Pipeline, *, heads_only: bool = False) -> list[int]:
    """The state of one pipeline, through bytes, in another. Returns the slots."""
    table = table_of(StateCodec(before), all_of(before), [0] * before.active_series())
    saved = StateCodec(after).decode(0, table, WHERE, heads_only=heads_only)
    assert saved.same.series == ()
    slots = after.restore(saved.foreign, saved.foreign_as_of)
    event_ns = before.event_ns(0)
    assert event_ns is not None
    after.set_event_ns(0, event_ns)
    return [int(s) for s in slots]


def ticks_at(seconds: list[float], bids: list[float], *, series: str = "a") -> list[Tick]:
    return [
        Tick(series, START_NS + round(s * 1e9), (bid, bid + 1), 100 + i)
        for i, (s, bid) in enumerate(zip(seconds, bids, strict=True))
    ]


OTHER = {"step": "diff(bid)", "level": "value(ask)"}


@pytest.mark.parametrize("heads_only", [False, True])
def test_under_another_model_the_open_alert_goes_on_and_the_window_warms_up(
    heads_only: bool,
) -> None:
    before = make_pipeline()
    opened = before.process(batch_of(before, ticks_at([0, 1, 2, 3], [1, 1, 1, 900]))).alerts
    assert [a.state for a in opened] == [State.OPENED]
    policy: dict[str, Any] = {} if heads_only else {"model_version": "v2"}
    after = make_pipeline(None if heads_only else OTHER, **policy)
    moved(before, after, heads_only=heads_only)
    assert (after.active_series(), after.warming_series(), after.open_alerts()) == (1, 1, 1)
    # A first tick that looked back would see a step of 100; late is late under any model.
    batch = batch_of(after, ticks_at([2, 4, 5, 6, 7, 8, 9], [1] + [1000.0] * 6))
    result = after.process(batch)
    outcomes = [Outcome(o).name for o in result.outcome]
    warming = 2 if heads_only else 3  # the run's first tick has no step
    assert outcomes == ["LATE"] + ["WARMING"] * warming + ["SCORED"] * (6 - warming)
    assert result.score[1 + warming :].tolist() == [0.0] * (6 - warming)
    (resolved,) = result.alerts
    assert (resolved.state, resolved.kind) == (State.RESOLVED, RECONSTRUCTION)
    assert (resolved.alert_id, resolved.opened_ns) == (opened[0].id, opened[0].time_ns)
    assert after.open_alerts() == 0


def test_under_another_model_a_silent_series_is_still_silent_until_it_is_heard() -> None:
    before = make_pipeline()
    ticks = ticks_at([0], [1], series="quiet") + ticks_at([1, 30], [1, 1])
    (opened,) = before.process(batch_of(before, ticks)).alerts
    after = make_pipeline(OTHER, model_version="v2")
    moved(before, after)
    assert after.open_alerts() == 1
    result = after.process(
        batch_of(after, ticks_at([31], [1]) + ticks_at([32], [1], series="quiet"))
    )
    (resolved,) = result.alerts
    assert (resolved.series, resolved.state) == ("quiet", State.RESOLVED)
    assert (resolved.alert_id, resolved.score) == (opened.alert_id, 32.0)


@given(ticks=streams(max_size=60), then=streams(max_size=40))
@settings(_SETTINGS, max_examples=60)
def test_another_model_scores_what_it_has_seen_itself_and_nothing_else(
    ticks: list[Tick], then: list[Tick]
) -> None:
    """After the move a pipeline scores as one that never saw the earlier ticks."""
    ticks = [t for t in ticks if t.partition == 0]
    newest = {t.series: t.time_ns for t in sorted(ticks, key=lambda t: t.time_ns)}
    later_ns = max(newest.values(), default=START_NS) - START_NS + 10**9
    then = [replace(t, time_ns=t.time_ns + later_ns) for t in then if t.partition == 0]
    before = make_pipeline()
    before.process(batch_of(before, ticks))
    looking_back = dict(LOOKING_BACK.expressions)
    after = make_pipeline(looking_back, model_version="v2", max_gap_s=None)
    fresh = make_pipeline(looking_back, model_version="v2", max_gap_s=None)
    if before.event_ns(0) is not None:
        moved(before, after)
    found = after.process(batch_of(after, then))
    expected = fresh.process(batch_of(fresh, then))
    assert found.score.tobytes() == expected.score.tobytes()
    assert found.outcome.tolist() == expected.outcome.tolist()
