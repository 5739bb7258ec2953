"""A recovery that is asked step by step, over state and offsets that a test writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest

from detector.core.state import VERSION, WATERMARK_KEY, StateCodec, Watermark, series_key
from detector.errors import StateError
from detector.service.partitions import Partitions, Phase
from detector.service.recovery import Recovered, Recovery, RecoveryPolicy
from detector.transport.broker import Standing, Worker
from tests.core.making import pipeline_of
from tests.core.reference import Tick, batch_of
from tests.core.streams import START_NS
from tests.service.driving import FEATURES, OURS, make_policy, scorer
from tests.service.scripted import SimulatedClock

POLICY = RecoveryPolicy(
    topic="ticks",
    state_topic="state",
    deployment=OURS,
    exactly_once=True,
    start="earliest",
    on_lost_ticks="fail",
)


#: How long a difference may last, and a little more.
SETTLE_S = 10.0


Tables = dict[int, dict[bytes, bytes]]


class FakeReader:
    def __init__(self, worker: FakeWorker, partitions: Sequence[int]) -> None:
        self._worker, self.partitions = worker, tuple(partitions)
        self.closed = False

    def read(self, *, timeout_s: float) -> bool:
        assert not self.closed
        return self._worker.all_read

    def tables(self) -> Mapping[int, Mapping[bytes, bytes]]:
        return {p: self._worker.state.get(p, {}) for p in self.partitions}

    def close(self) -> None:
        self.closed = True


class FakeWorker:
    """What a worker tells of state and offsets; the test changes it as it goes."""

    def __init__(self) -> None:
        self.state: Tables = {}
        self.stands: dict[int, Standing] = {}
        self.all_read = True
        self.readers: list[FakeReader] = []

    def standing(self, partitions: Sequence[int]) -> dict[int, Standing]:
        return {p: self.stands[p] for p in partitions if p in self.stands}

    def read_state(self, partitions: Sequence[int]) -> FakeReader:
        self.readers.append(FakeReader(self, partitions))
        return self.readers[-1]


class Case:
    """A recovery over a fake worker, and its clock."""

    def __init__(self, **changes: Any) -> None:
        self.worker, self.clock = FakeWorker(), SimulatedClock(50.0)
        self.pipeline = pipeline_of(make_policy(), FEATURES, scorer())
        self.codec, self.partitions = StateCodec(self.pipeline), Partitions()
        self.recovery = Recovery(
            cast(Worker, self.worker),
            self.partitions,
            self.codec,
            replace(POLICY, **changes),
            monotonic_s=self.clock,
        )

    def leave(
        self,
        partition: int = 0,
        *,
        committed: int,
        needed_from: int | None = None,
        as_of: Mapping[str, int] | None = None,
        **changes: Any,
    ) -> None:
        """Write what a worker leaves: a watermark and the state of some series."""
        mark = Watermark(
            **{
                "version": VERSION,
                "committed": committed,
                "needed_from": committed if needed_from is None else needed_from,
                "event_ns": START_NS,
                "group": OURS.group,
                "alerts": OURS.alerts,
                "model": "v1",
                **changes,
            }
        )
        table = self.worker.state.setdefault(partition, {})
        table[WATERMARK_KEY] = mark.encode()
        for name, offset in (as_of or {}).items():
            table[series_key(name)] = self.record(name, offset)

    def record(self, name: str, as_of: int) -> bytes:
        pipeline = pipeline_of(make_policy(), FEATURES, scorer())
        pipeline.process(batch_of(pipeline, [Tick(name, START_NS, (1.0, 2.0), 0)]))
        state = pipeline.snapshot(pipeline.stream.series.of_partition(0))
        return self.codec.encode(state, np.array([as_of]))[0]

    def stand(
        self, committed: int | None, *, first: int = 0, end: int = 100, partition: int = 0
    ) -> None:
        self.worker.stands[partition] = Standing(committed, first, end)

    def restore(self, *partitions: int) -> list[Recovered]:
        self.partitions.gain(partitions or (0,))
        self.recovery.restart()
        return self.step()

    def step(self) -> list[Recovered]:
        """As the loop does: what is restored runs from then on."""
        found = self.recovery.step()
        for one in found:
            self.partitions[one.partition].phase = Phase.RUNNING
        return found

    def lose(self, partition: int) -> None:
        restoring = partition in self.partitions.restoring
        self.partitions.lose(partition)
        if restoring:
            self.recovery.restart()

    def restore_one(self) -> Recovered:
        (found,) = self.restore()
        assert self.step() == []
        return found

    def assert_refused_in_the_end(self, says: str) -> None:
        """Waited for, and refused when it has lasted too long."""
        began_s = self.clock.now_s
        assert self.restore() == []
        with pytest.raises(StateError, match=says) as error:
            self.wait(10 * SETTLE_S)
        assert SETTLE_S <= self.clock.now_s - began_s <= SETTLE_S + 2.0
        assert "detector state reset" in str(error.value)

    def wait(self, for_s: float) -> None:
        until_s = self.clock.now_s + for_s
        while self.clock.now_s < until_s:
            self.clock.now_s += 0.5
            assert self.step() == []

    def assert_refused(self, says: str) -> None:
        with pytest.raises(StateError, match=says):
            self.restore()
