"""A deployment whose model is exchanged while it runs, dies and starts again, and an uninterrupted
run that exchanges its models at the positions that the commits have stated."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
from prometheus_client import CollectorRegistry

from detector.build import make_pipeline, make_track, tick_format
from detector.config import Config, parse_config
from detector.core.cloudevents import encode_alert
from detector.core.codec import Codec
from detector.core.exchange import exchange
from detector.core.pipeline import Pipeline
from detector.core.records import Message, RecordBlock
from detector.core.state import Judge, StateCodec, Watermark, decode_watermark
from detector.errors import TransactionError
from detector.model.directory import Artifact
from detector.service.assembly import assemble, policies
from detector.service.judges import Judges, judge_of, with_settings
from detector.service.loop import Loop
from detector.service.metrics import Metrics
from detector.service.preparing import prepare
from detector.transport.broker import Outbox, Topics
from detector.transport.embedded import EmbeddedBroker, EmbeddedSettings
from tests.artifacts import make_artifact
from tests.faults.published import timeless
from tests.service.scripted import DeathError, DrivenWorker, Lasting, SimulatedClock, Trouble

TOPICS = Topics("ticks", "alerts", "dead-letters", "detector-state")
#: Same features and length; another length; other fields.
MODELS = {
    "a": ({"x": "value(x)", "d": "diff(y)"}, 3, 1),
    "b": ({"x": "value(x)", "d": "diff(y)"}, 3, 2),
    "long": ({"x": "value(x)", "d": "diff(y)"}, 4, 3),
    "other": ({"x": "value(x)"}, 3, 4),
}


@cache
def artifact(name: str) -> Artifact:
    expressions, length, seed = MODELS[name]
    path = Path(mkdtemp()) / name
    return make_artifact(path, expressions, length=length, seed=seed, evidence=True)


def find(version: str) -> Artifact | None:
    return next((a for a in map(artifact, MODELS) if a.version == version), None)


def make_config(threshold: float = 1.0) -> Config:
    return parse_config(
        {
            "features": "auto",
            "input": {"timestamp_unit": "s"},
            "window": {"length_ticks": "auto", "max_gap_s": 50.0, "silence_s": 30.0},
            "threshold": {"method": "fixed", "value": threshold, "cold_windows": 4},
            "alerts": {"open_after": 1, "of_last": 2, "resolve_after": 2},
            "state": {"interval_ms": 1000},
        }
    )


@dataclass(frozen=True, slots=True)
class Offered:
    """At the n-th poll of a process a model, under a threshold, is to take over."""

    poll: int
    model: str
    threshold: float = 1.0


@dataclass
class Changing:
    directory: Path
    interval_s: float = 1.0
    clock: SimulatedClock = field(default_factory=SimulatedClock)
    marks: list[Watermark] = field(default_factory=list)
    #: What the model link and the configuration say by now.
    model: str = "a"
    threshold: float = 1.0
    replayed: int = 0
    #: Who judged when the process began that committed first.
    began: Judge | None = None

    def broker(self) -> EmbeddedBroker:
        settings = EmbeddedSettings(self.directory / "broker.sqlite", "normal", 1e9, 10**6)
        return EmbeddedBroker(settings, now_s=lambda: 1000.0)

    def publish(self, rows: Sequence[tuple[str, float, float]]) -> None:
        """A tick a second: series, x, y."""
        publisher = self.broker().publisher()
        publisher.publish(
            TOPICS.ticks,
            [
                Message(b"", json.dumps({"series": s, "timestamp": i, "x": x, "y": y}).encode())
                for i, (s, x, y) in enumerate(rows)
            ],
        )
        publisher.close()

    def run(
        self,
        *troubles: Trouble,
        offers: Sequence[Offered] = (),
        sizes: Sequence[int] = (7,),
        pauses_s: Sequence[float] = (0.05,),
        lasting: Sequence[Lasting] = (Lasting(),),
    ) -> None:
        """One process, until it dies or has nothing to do."""
        config, mine = make_config(self.threshold), artifact(self.model)
        pipeline, registry = make_pipeline(config, mine), CollectorRegistry()
        if not self.marks:
            self.began = judge_of(config, mine)
        loop: list[Loop] = []
        worker = OfferingWorker(
            self,
            offers,
            loop,
            self.broker().worker(TOPICS),
            sizes=itertools.cycle(sizes),
            pauses_s=itertools.cycle(pauses_s),
            lasting=itertools.cycle(lasting),
            clock=self.clock,
            troubles=troubles,
            idle=lambda: loop[0].stop(),
        )
        told = policies(config)
        loop.append(
            assemble(
                worker,
                Codec(tick_format(config), mine.features.fields),
                pipeline,
                Metrics(registry),
                replace(told, state_interval_s=self.interval_s),
                judges=Judges(config, mine, find),
                wall_s=self.clock,
                monotonic_s=self.clock,
                sleep=self.clock.sleep,
            )
        )
        try:
            loop[0].run()
        except DeathError:
            worker.close()
        except TransactionError:
            assert loop[0].stopping
        self.replayed += int(registry.get_sample_value("detector_replayed_ticks_total") or 0)

    # -- what came of it, and what must

    def alerts(self) -> list[str]:
        reader, found = self.broker().reader(TOPICS.alerts, from_beginning=True), []
        while not reader.at_end():
            found += [timeless(r.value or b"") for r in reader.poll(timeout_s=0)]
        reader.close()
        return found

    def tables(self) -> Mapping[bytes, bytes]:
        keeper = self.broker().keeper(TOPICS)
        try:
            return keeper.tables()[0]
        finally:
            keeper.close()

    def stated(self) -> list[tuple[int, Judge]]:
        return stated(self.marks, self.began)

    def assert_golden(self) -> None:
        """Alerts, and what is saved, are those of one run that exchanged at the same places."""
        reader, records = self.broker().reader(TOPICS.ticks, from_beginning=True), []
        while not reader.at_end():
            records += reader.poll(timeout_s=0)
        reader.close()
        places = self.stated()
        ends = [*(begin for begin, _ in places[1:]), len(records)]
        pipeline: Pipeline | None = None
        alerts: list[str] = []
        for (begin, judge), end in zip(places, ends, strict=True):
            config, model = with_settings(make_config(), judge.settings), find(judge.model)
            assert model is not None
            if pipeline is None:
                pipeline = make_pipeline(config, model)
            else:
                exchange(pipeline, make_track(config, model))
            part = records[begin:end]
            block = RecordBlock(
                TOPICS.ticks,
                0,
                [r.offset for r in part],
                [r.timestamp_ms for r in part],
                [r.key for r in part],
                [r.value for r in part],
            )
            batch, _ = Codec(tick_format(config), model.features.fields).decode(block)
            alerts += [
                timeless(encode_alert(a, source="/detector", detected_ns=0))
                for a in pipeline.process(batch).alerts
            ]
        assert pipeline is not None
        assert self.alerts() == alerts
        self._assert_saved(pipeline, len(records))

    def _assert_saved(self, pipeline: Pipeline, records: int) -> None:
        table = self.tables()
        mark = decode_watermark(table[b"watermark"], "state/0")
        assert (mark.committed, mark.needed_from) == (records, records)
        assert mark.changes == ()
        assert mark.judge() == judge_of(make_config(self.threshold), artifact(self.model))
        saved = StateCodec(pipeline).decode(0, table, "state/0").same
        slots = pipeline.stream.series.slots(0, [name for _, name in saved.series])
        assert sorted(slots.tolist()) == sorted(pipeline.stream.series.of_partition(0).tolist())
        expected = pipeline.snapshot(slots)
        for name, column in saved.columns.items():
            np.testing.assert_array_equal(column, expected.columns[name], err_msg=name)


def stated(marks: Sequence[Watermark], began: Judge | None = None) -> list[tuple[int, Judge]]:
    """From which offset who judges, as the commits said; began: who did at first, where the first
    commit says no more than that another does by now."""
    found: list[tuple[int, Judge]] = []
    for mark in marks:
        last = mark.judge()
        assert last is not None
        if not found:
            unsaid = last if mark.judged_from is None or began is None else began
            found.append((0, mark.changes[0].by if mark.changes else unsaid))
        line = [
            (c.until, after)
            for c, after in zip(
                mark.changes, [*(c.by for c in mark.changes[1:]), last], strict=False
            )
        ]
        if not line and last != found[-1][1]:
            assert mark.judged_from is not None
            line = [(mark.judged_from, last)]
        for until, judge in line:
            if until >= found[-1][0] and judge != found[-1][1]:
                found.append((until, judge))
        assert found[-1][1] == last, "nobody said where this one began"
    return found


class OfferingWorker(DrivenWorker):
    """Offers models at some of its polls, and remembers what was committed."""

    def __init__(
        self,
        stage: Changing,
        offers: Sequence[Offered],
        loop: list[Loop],
        *args: object,
        **more: object,
    ) -> None:
        super().__init__(*args, **more)  # type: ignore[arg-type]  # handed on as they are
        self._stage, self._offers, self._loop = stage, offers, loop
        inner, marks = self.inner, stage.marks

        class Told:
            """Hears of what is committed, not of what only begins."""

            def __getattr__(self, name: str) -> object:
                return getattr(inner, name)

            def begin_commit(
                self,
                outbox: Outbox,
                positions: Mapping[int, int],
                needed_from: Mapping[int, int],
            ) -> None:
                inner.begin_commit(outbox, positions, needed_from)
                marks.extend(decode_watermark(m.value or b"", "") for m in outbox.watermarks)

        self.inner = Told()  # type: ignore[assignment]  # a worker by its attributes

    def poll(self, *, max_records: int, max_bytes: int, timeout_s: float) -> list[RecordBlock]:
        blocks = super().poll(max_records=max_records, max_bytes=max_bytes, timeout_s=timeout_s)
        for one in self._offers:
            if one.poll == self.polls:
                self._stage.model, self._stage.threshold = one.model, one.threshold
                self._loop[0].exchange.offer(
                    prepare(make_config(one.threshold), artifact(one.model))
                )
        return blocks
