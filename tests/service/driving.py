"""The real daemon on the embedded broker, driven poll by poll on a clock of its own.

A script says how many records each poll gives, how far the clock moves, and where the process dies
or a transaction fails. Dying leaves without a drain: what was not committed is gone.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

from detector.core.alerts import AlertPolicy
from detector.core.cloudevents import encode_alert
from detector.core.codec import Codec, RecordBlock, TickFormat
from detector.core.features import FeatureSet
from detector.core.pipeline import BatchResult, Pipeline, PipelinePolicy
from detector.core.scoring import OnnxScorer
from detector.core.ticks import Bool, TickBatch
from detector.errors import TransactionError
from detector.service.checkpoint import Checkpoints, Deployment
from detector.service.daemon import Daemon, LoopPolicy
from detector.service.dead_letters import dead_letters
from detector.service.metrics import Metrics
from detector.service.recovery import Recovery, RecoveryPolicy
from detector.transport.broker import (
    Message,
    Outbox,
    Record,
    Release,
    Standing,
    StateReader,
    Topics,
    Worker,
)
from detector.transport.embedded import EmbeddedBroker, EmbeddedSettings
from tests.artifacts import make_artifact
from tests.core.reference import LOOKING_BACK, Tick
from tests.core.streams import START_NS
from tests.faults.scene import timeless
from tests.processes import Samples, samples

LENGTH = 3
TOPICS = Topics("ticks", "alerts", "dead", "state")
OURS = Deployment("group", TOPICS.alerts)
FEATURES = FeatureSet.parse(LOOKING_BACK.expressions)
FORM = TickFormat("json", "field", "series", "timestamp", "ns", 10_000)
#: Nothing on the simulated clock is ever late enough for the watchdog.
NEVER_S = 1e12


class DeathError(BaseException):
    """The process ends here and now."""


class SimulatedClock:
    def __init__(self, now_s: float = 1000.0) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s


@dataclass(frozen=True, slots=True)
class Trouble:
    """What happens at the n-th poll or commit of a process: it dies there, or (to a commit) its
    transaction is reported as failed."""

    where: str  # poll | before | after: a commit, that is not done or that is
    number: int
    fatal: bool = True


class DrivenWorker:
    """A worker whose polls follow a script and which dies or fails where it is told."""

    def __init__(
        self,
        inner: Worker,
        *,
        sizes: Iterator[int],
        pauses_s: Iterator[float],
        clock: SimulatedClock,
        troubles: Sequence[Trouble],
        idle: Callable[[], None],
    ) -> None:
        self.inner = inner
        self._sizes, self._pauses_s, self._clock = sizes, pauses_s, clock
        self._troubles, self._idle = troubles, idle
        self.polls = self.commits = 0
        self._empty = 0

    def open(self, release: Release) -> None:
        self.inner.open(release)

    def poll(self, *, max_records: int, timeout_s: float) -> list[RecordBlock]:
        self.polls += 1
        self._meet("poll", self.polls)
        self._clock.now_s += next(self._pauses_s)
        blocks = self.inner.poll(max_records=next(self._sizes), timeout_s=0)
        self._empty = 0 if blocks else self._empty + 1
        if self._empty > 5:
            self._idle()
        return blocks

    def changes(self) -> tuple[frozenset[int], frozenset[int]]:
        return self.inner.changes()

    def standing(self, partitions: Sequence[int]) -> dict[int, Standing]:
        return self.inner.standing(partitions)

    def read_state(self, partitions: Sequence[int]) -> StateReader:
        return self.inner.read_state(partitions)

    def start(self, positions: Mapping[int, int]) -> None:
        self.inner.start(positions)

    def position(self, partition: int) -> int:
        return self.inner.position(partition)

    def may_commit(self) -> bool:
        return self.inner.may_commit()

    def commit(
        self, outbox: Outbox, positions: Mapping[int, int], needed_from: Mapping[int, int]
    ) -> None:
        self.commits += 1
        self._meet("before", self.commits)
        self.inner.commit(outbox, positions, needed_from)
        self._meet("after", self.commits)

    def ready(self) -> bool:
        return self.inner.ready()

    def lag(self) -> dict[int, int]:
        return self.inner.lag()

    def readable(self) -> int:
        return self.inner.readable()

    def reopen(self) -> None:
        self.inner.reopen()

    def close(self) -> None:
        self.inner.close()

    def _meet(self, where: str, number: int) -> None:
        for trouble in self._troubles:
            if (trouble.where, trouble.number) == (where, number):
                if trouble.fatal:
                    raise DeathError(f"{where} {number}")
                raise TransactionError(f"{where} {number}")


class WitnessedPipeline(Pipeline):
    """Remembers what became of each tick whenever it was processed."""

    def __init__(self, policy: PipelinePolicy) -> None:
        super().__init__(policy, FEATURES, scorer())
        self.seen: list[tuple[int, int, int, bytes]] = []

    def process(self, batch: TickBatch, held: Bool | None = None) -> BatchResult:
        result = super().process(batch, held)
        if held is not None:
            batch = batch.select(~held)
        self.seen += [
            (int(offset), int(index), int(outcome), score.tobytes())
            for offset, index, outcome, score in zip(
                batch.offset, batch.index, result.outcome, result.score, strict=True
            )
        ]
        return result


@cache
def scorer() -> OnnxScorer:
    with TemporaryDirectory() as directory:
        path = Path(directory) / "model"
        artifact = make_artifact(path, LOOKING_BACK.expressions, length=LENGTH)
        return artifact.open_scorer(threads=1)


def make_policy(
    *, silence_s: float | None = None, max_future_s: float | None = None, max_series: int = 100
) -> PipelinePolicy:
    return PipelinePolicy(
        topic=TOPICS.ticks,
        length=LENGTH,
        stride=1,
        max_gap_s=5.0,
        max_series=max_series,
        threshold=3.0,
        alerts=AlertPolicy(open_after=1, of_last=2, resolve_after=2, critical_ratio=2.0),
        model_version="v1",
        max_future_s=max_future_s,
        silence_s=silence_s,
    )


@dataclass
class Stage:
    """A deployment in a directory, and the processes that work in it one after the other."""

    directory: Path
    policy: PipelinePolicy = field(default_factory=make_policy)
    interval_s: float = 1.0
    commit_interval_s: float = 0.1
    exactly_once: bool = True
    retention_records: int = 10**6
    on_lost_ticks: str = "fail"
    clock: SimulatedClock = field(default_factory=SimulatedClock)
    witnesses: list[WitnessedPipeline] = field(default_factory=list)

    def broker(self) -> EmbeddedBroker:
        settings = EmbeddedSettings(
            self.directory / "broker.sqlite", "normal", 1e9, self.retention_records
        )
        return EmbeddedBroker(settings, now_s=lambda: START_NS / 1e9)

    def publish(self, messages: Sequence[Message]) -> None:
        publisher = self.broker().publisher()
        publisher.publish(TOPICS.ticks, messages)
        publisher.close()

    def run(
        self,
        *troubles: Trouble,
        sizes: Sequence[int] = (64,),
        pauses_s: Sequence[float] = (0.05,),
    ) -> Samples:
        """One process, from its start until it dies or has nothing to do for long; its metrics."""
        pipeline = WitnessedPipeline(self.policy)
        self.witnesses.append(pipeline)
        checkpoints = Checkpoints(pipeline, OURS, interval_s=self.interval_s)
        registry = CollectorRegistry()
        worker = DrivenWorker(
            self.broker().worker(TOPICS),
            sizes=itertools.cycle(sizes),
            pauses_s=itertools.cycle(pauses_s),
            clock=self.clock,
            troubles=troubles,
            idle=lambda: daemon.stop(),
        )
        daemon = Daemon(
            worker=worker,
            codec=Codec(FORM, FEATURES.fields, pipeline.series),
            pipeline=pipeline,
            checkpoints=checkpoints,
            recovery=Recovery(
                worker,
                checkpoints.codec,
                RecoveryPolicy(
                    topic=TOPICS.ticks,
                    state_topic=TOPICS.state,
                    deployment=OURS,
                    exactly_once=self.exactly_once,
                    start="earliest",
                    on_lost_ticks="fail" if self.on_lost_ticks == "fail" else "continue",
                ),
                monotonic_s=self.clock,
            ),
            metrics=Metrics(registry),
            policy=LoopPolicy(
                commit_interval_s=self.commit_interval_s,
                max_poll_records=64,
                alert_source="/test",
                dead_letter_max_bytes=100,
                hang_timeout_s=NEVER_S,
                stop_timeout_s=NEVER_S,
            ),
            wall_s=self.clock,
            monotonic_s=self.clock,
        )
        try:
            daemon.run()
        except DeathError:
            worker.close()
        except TransactionError:
            assert daemon.stopping, "only the last transaction may end a process"
        return samples(generate_latest(registry).decode())

    # -- what came of it, and what must

    def records(self, topic: str) -> list[Record]:
        reader = self.broker().reader(topic, from_beginning=True)
        found: list[Record] = []
        while not reader.at_end():
            found += reader.poll(timeout_s=0)
        reader.close()
        return found

    def tables(self) -> dict[bytes, bytes]:
        """What is saved."""
        keeper = self.broker().keeper(TOPICS)
        try:
            return keeper.tables()[0]
        finally:
            keeper.close()

    def published(self) -> tuple[list[str], list[tuple[bytes | None, object]]]:
        alerts = [timeless(r.value or b"") for r in self.records(TOPICS.alerts)]
        return alerts, [(r.value, r.headers) for r in self.records(TOPICS.dead_letters)]

    def golden(self) -> Golden:
        """An uninterrupted run over the log in one go."""
        pipeline = WitnessedPipeline(self.policy)
        records = self.records(TOPICS.ticks)
        block = RecordBlock(
            TOPICS.ticks,
            0,
            [r.offset for r in records],
            [r.timestamp_ms for r in records],
            [r.key for r in records],
            [r.value for r in records],
        )
        batch, refused = Codec(FORM, FEATURES.fields, pipeline.series).decode(block)
        result = pipeline.process(batch)
        letters = dead_letters(refused + result.rejects, {0: block}, max_bytes=100)
        return Golden(
            pipeline,
            [timeless(encode_alert(a, source="/test", detected_ns=0)) for a in result.alerts],
            sorted(((m.value, m.headers) for m in letters), key=repr),
            len(records),
        )


@dataclass(frozen=True, slots=True)
class Golden:
    pipeline: WitnessedPipeline
    alerts: list[str]
    letters: list[tuple[bytes | None, object]]
    records: int


def messages_of(ticks: Sequence[Tick]) -> list[Message]:
    """Ticks of one partition as records: some hold several, some are none."""
    groups: list[list[dict[str, object]]] = []
    for tick in ticks:
        bid, ask = tick.values
        content = {
            "series": f"{tick.series}-{tick.partition}",
            "timestamp": tick.time_ns,
            "bid": bid,
            "ask": ask,
        }
        if tick.index and groups:
            groups[-1].append(content)
        else:
            groups.append([content])
    messages = []
    for number, group in enumerate(groups):
        value = json.dumps(group if len(group) > 1 else group[0]).encode()
        messages.append(Message(b"key", value))
        if number % 11 == 5:
            messages.append(Message(b"key", b"no tick"))
    return messages
