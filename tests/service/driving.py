"""The real daemon on the embedded broker, driven poll by poll on a clock of its own.

What a script says happens (scripted.py). Dying leaves without a drain: what was not committed is
gone.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

from detector.core.cloudevents import encode_alert
from detector.core.codec import Codec
from detector.core.dead_letters import dead_letters
from detector.core.episodes import AlertPolicy
from detector.core.features import FeatureSet
from detector.core.mutes import Mute
from detector.core.pipeline import BatchResult, Pipeline
from detector.core.records import Message, Record, RecordBlock
from detector.core.scorer import GraphScorer
from detector.core.state import Deployment
from detector.core.tick_format import TickFormat
from detector.core.ticks import Int64, TickBatch
from detector.errors import TransactionError
from detector.service.assembly import Policies, assemble
from detector.service.commands import Commands
from detector.service.commit import CommitPolicy
from detector.service.health import HealthPolicy
from detector.service.loop import PollPolicy
from detector.service.metrics import Metrics
from detector.service.recovery import RecoveryPolicy
from detector.service.supervisor import Supervision
from detector.transport.broker import Topics
from detector.transport.embedded import EmbeddedBroker, EmbeddedSettings
from tests.artifacts import make_artifact
from tests.core.making import Rules
from tests.core.reference import LOOKING_BACK, Tick
from tests.core.streams import START_NS
from tests.faults.published import timeless
from tests.processes import Samples, samples
from tests.service.scripted import DeathError, DrivenWorker, Lasting, SimulatedClock, Trouble

LENGTH = 3
TOPICS = Topics("ticks", "alerts", "dead", "state")
OURS = Deployment("group", TOPICS.alerts)
FEATURES = FeatureSet.parse(LOOKING_BACK.expressions)
FORM = TickFormat("json", "field", "series", "timestamp", "ns", 10_000)
#: Nothing on the simulated clock is ever late enough for the watchdog.
NEVER_S = 1e12


class WitnessedPipeline(Pipeline):
    """Remembers what became of each tick whenever it was processed."""

    def __init__(self, rules: Rules) -> None:
        super().__init__(rules.stream(FEATURES), rules.track(FEATURES, scorer()), topic=rules.topic)
        self.seen: list[tuple[int, int, int, bytes]] = []
        self.sizes: list[int] = []  # of the batches

    def process(self, batch: TickBatch) -> BatchResult:
        self.sizes.append(len(batch))
        as_of = self._held_below(batch)
        result = super().process(batch)
        fresh = batch.offset >= as_of
        self.seen += [
            (int(offset), int(index), int(outcome), score.tobytes())
            for offset, index, outcome, score in zip(
                batch.offset[fresh], batch.index[fresh], result.outcome, result.score, strict=True
            )
        ]
        return result

    def _held_below(self, batch: TickBatch) -> Int64:
        """For each tick the offset below which the restored state holds it."""
        stream = self.stream
        stream._as_of.reserve(stream.series.capacity)
        slots = [stream.series.find(0, name) for name in batch.series]
        return np.array([stream._as_of["as_of"][s] if s >= 0 else 0 for s in slots], np.int64)


@cache
def scorer() -> GraphScorer:
    with TemporaryDirectory() as directory:
        path = Path(directory) / "model"
        artifact = make_artifact(path, LOOKING_BACK.expressions, length=LENGTH)
        return artifact.open_scorer(threads=1)


def make_policy(
    *,
    silence_s: float | None = None,
    max_future_s: float | None = None,
    max_series: int = 100,
    forget_after_s: float | None = None,
) -> Rules:
    return Rules(
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
        forget_after_s=forget_after_s,
    )


@dataclass
class Stage:
    """A deployment in a directory, and the processes that work in it one after the other."""

    directory: Path
    policy: Rules = field(default_factory=make_policy)
    interval_s: float = 1.0
    commit_interval_s: float = 0.1
    most_ahead: int = 64
    max_ticks: int = 10_000
    exactly_once: bool = True
    retention_records: int = 10**6
    on_lost_ticks: str = "fail"
    mutes: tuple[Mute, ...] = ()
    commands: Commands | None = None
    clock: SimulatedClock = field(default_factory=SimulatedClock)
    witnesses: list[WitnessedPipeline] = field(default_factory=list)
    workers: list[DrivenWorker] = field(default_factory=list)
    bad_ends: int = 0  # of processes whose last transaction failed

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
        lasting: Sequence[Lasting] = (Lasting(),),
    ) -> Samples:
        """One process, from its start until it dies or has nothing to do for long; its metrics."""
        pipeline = WitnessedPipeline(self.policy)
        self.witnesses.append(pipeline)
        registry = CollectorRegistry()
        worker = DrivenWorker(
            self.broker().worker(TOPICS),
            sizes=itertools.cycle(sizes),
            pauses_s=itertools.cycle(pauses_s),
            lasting=itertools.cycle(lasting),
            clock=self.clock,
            troubles=troubles,
            idle=lambda: daemon.stop(),
        )
        self.workers.append(worker)
        daemon = assemble(
            worker,
            Codec(FORM, FEATURES.fields),
            pipeline,
            Metrics(registry),
            self.told(),
            commands=self.commands,
            wall_s=self.clock,
            monotonic_s=self.clock,
            sleep=self.clock.sleep,
        )
        try:
            daemon.run()
        except DeathError:
            worker.close()
        except TransactionError:
            assert daemon.stopping, "only the last transaction may end a process"
            self.bad_ends += 1
        return samples(generate_latest(registry).decode())

    def told(self) -> Policies:
        return Policies(
            deployment=OURS,
            commit=CommitPolicy(self.commit_interval_s, self.most_ahead, "/test", 100),
            health=HealthPolicy(hang_timeout_s=NEVER_S, stop_timeout_s=NEVER_S),
            poll=PollPolicy(max_records=64, max_bytes=10**6, max_ticks=self.max_ticks),
            recovery=RecoveryPolicy(
                topic=TOPICS.ticks,
                state_topic=TOPICS.state,
                deployment=OURS,
                exactly_once=self.exactly_once,
                start="earliest",
                on_lost_ticks="fail" if self.on_lost_ticks == "fail" else "continue",
            ),
            state_interval_s=self.interval_s,
            supervision=Supervision(),
            mutes=self.mutes,
        )

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
        told = {mute.id: mute for mute in self.mutes}
        pipeline.stream.mutes.apply(0, told, at=0, read=0, event_ns=None)
        records = self.records(TOPICS.ticks)
        block = RecordBlock(
            TOPICS.ticks,
            0,
            [r.offset for r in records],
            [r.timestamp_ms for r in records],
            [r.key for r in records],
            [r.value for r in records],
        )
        batch, refused = Codec(FORM, FEATURES.fields).decode(block)
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
