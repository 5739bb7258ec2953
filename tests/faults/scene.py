"""A ticks topic, workers of one group on it, and what they must publish whatever happens to them.

The oracle is an uninterrupted run: the same ticks, read back from the log, through one pipeline
in one go. A read_committed subscriber of the faulty run must have seen exactly its alerts and dead
letters, byte for byte but for the time of detection.
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from detector.build import make_pipeline, tick_format
from detector.config import Config, parse_config
from detector.core.codec import Codec
from detector.core.records import Message, Record, RecordBlock
from detector.errors import BrokerError
from detector.model.directory import Artifact, load_artifact
from detector.transport.configured import make_broker, prepare_topics, topics
from tests.artifacts import make_artifact
from tests.faults.published import Published, _nothing, compare, process
from tests.processes import (
    DEADLINE_S,
    RunningDaemon,
    detector,
    samples,
    total,
    wait_for,
    write_config,
)

START_S = 1_700_000_000.0
LENGTH = 8
THRESHOLD = 1.0
LAUNCHER = Path(__file__).with_name("launch.py")


@dataclass(frozen=True, slots=True)
class Fault:
    """What a worker does to itself, and where: see launch.py. when: at the n-th call, or at the
    first call after that file exists."""

    point: str
    act: str = "kill"
    when: int | Path = 1

    @property
    def environment(self) -> dict[str, str]:
        return {"FAULTS_POINT": self.point, "FAULTS_ACT": self.act, "FAULTS_WHEN": str(self.when)}


@dataclass(slots=True)
class Scene:
    """One deployment. worker(n) gives each worker its own identity."""

    directory: Path
    config_path: Path
    model_path: Path
    tree: dict[str, Any]
    published: int = 0
    tallies: list[Path] = field(default_factory=list)
    _random: Any = field(default_factory=lambda: np.random.default_rng(0))
    _now_s: dict[str, float] = field(default_factory=dict)

    # -- parts

    def config(self, **sections: Mapping[str, Any]) -> Config:
        return parse_config(self._merged(sections))

    def write_config(self, name: str, **sections: Mapping[str, Any]) -> Path:
        """The configuration with some options changed, as a file."""
        return write_config(self.directory / f"{name}.yaml", self._merged(sections))

    def _merged(self, sections: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        return {
            key: {**value, **sections.get(key, {})} if isinstance(value, dict) else value
            for key, value in self.tree.items()
        } | {key: dict(value) for key, value in sections.items() if key not in self.tree}

    def artifact(self) -> Artifact:
        return load_artifact(self.model_path)

    def worker(
        self,
        number: int = 1,
        *,
        fault: Fault | None = None,
        model: Path | None = None,
        environment: Mapping[str, str] | None = None,
        **sections: Mapping[str, Any],
    ) -> RunningDaemon:
        """A daemon of the group, not started; a context that leaves no process behind. Its last
        metrics are kept if it has the time to leave them: see tallied."""
        kafka = {"transactional_id": f"{self.tree['kafka']['group']}-{number}"}
        kafka |= dict(sections.pop("kafka", {}))
        path = self.write_config(f"worker-{number}", kafka=kafka, **sections)
        tally = self.directory / f"tally-{time.monotonic_ns()}.txt"
        self.tallies.append(tally)
        return RunningDaemon(
            path,
            model or self.model_path,
            cwd=self.directory,
            environment={"FAULTS_TALLY": str(tally)}
            | ({} if fault is None else fault.environment)
            | dict(environment or {}),
            command=(sys.executable, str(LAUNCHER)),
        )

    def detector(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the operator on this deployment; it must succeed."""
        kafka = {"transactional_id": f"{self.tree['kafka']['group']}-1"}
        path = self.write_config("operator", kafka=kafka)
        done = detector(*arguments, "--config", path, cwd=self.directory)
        assert done.returncode == 0, done.stderr
        return done

    def tallied(self, name: str = "detector_ticks_total", **labels: str) -> float:
        """The sum of a metric over all workers that have ended other than by SIGKILL."""
        return sum(
            total(samples(path.read_text()), name, **labels)
            for path in self.tallies
            if path.exists()
        )

    # -- ticks

    def publish(
        self, ticks: int, *, series: int = 6, poison: float = 0.01, seed: int | None = None
    ) -> None:
        """Append ticks of several series: spikes that alert, late ones, repeats, gaps, poison."""
        random = self._random if seed is None else np.random.default_rng(seed)
        messages = []
        for _ in range(ticks):
            name = f"series-{random.integers(series)}"
            now_s = self._now_s.get(name, START_S) + float(np.round(random.uniform(0.01, 1.0), 3))
            kind = random.random()
            if kind < 0.02:
                value = b"not json" if random.random() < 0.5 else b'{"series": "x"}'
                if random.random() < poison * 50:
                    messages.append(Message(name.encode(), value))
                    continue
            if kind < 0.03:
                now_s += 3600.0
            at_s = now_s - 5.0 if 0.03 <= kind < 0.06 else now_s
            if at_s == now_s:
                self._now_s[name] = now_s
            spike = int(now_s) % 40 < 4
            reading = float(np.round(random.normal(30.0 if spike else 0.0, 0.1), 4))
            tick = json.dumps({"series": name, "timestamp": round(at_s, 3), "value": reading})
            messages += [Message(name.encode(), tick.encode())] * (2 if kind > 0.97 else 1)
        self.append(messages)

    def publishing(
        self, *, ticks: int = 100, every_s: float = 0.05, series: int = 24, patient: bool = False
    ) -> Publishing:
        return Publishing(self, ticks=ticks, every_s=every_s, series=series, patient=patient)

    def append(self, messages: Sequence[Message]) -> None:
        config = self.config()
        publisher = make_broker(config).publisher()
        try:
            publisher.publish(config.input.topic, messages)
            publisher.flush()
        finally:
            publisher.close()
        self.published += len(messages)

    # -- what must come, and what came

    def records(self, topic: str) -> list[Record]:
        """Every committed record of a topic."""
        reader = make_broker(self.config()).reader(topic, from_beginning=True)
        found: list[Record] = []
        try:
            last_s = time.monotonic()
            while True:
                some = reader.poll(timeout_s=0.2)
                found += some
                if some:
                    last_s = time.monotonic()
                elif reader.at_end() or time.monotonic() - last_s > 15.0:  # a transaction hangs
                    return found
        finally:
            reader.close()

    def golden(self, **sections: Mapping[str, Any]) -> Published:
        """What an uninterrupted run publishes: all ticks of the log in one go."""
        config = self.config(**sections)
        artifact = self.artifact()
        pipeline = make_pipeline(config, artifact)
        codec = Codec(tick_format(config), artifact.features.fields)
        found = _nothing()
        for block in self.blocks():
            process(block, config, codec, pipeline, found)
        return found

    def blocks(self) -> list[RecordBlock]:
        """The whole log of ticks, a block a partition."""
        topic = self.config().input.topic
        by_partition: dict[int, list[Record]] = {}
        for record in self.records(topic):
            by_partition.setdefault(record.partition, []).append(record)
        blocks = []
        for partition, records in sorted(by_partition.items()):
            records.sort(key=lambda r: r.offset)
            blocks.append(
                RecordBlock(
                    topic,
                    partition,
                    [r.offset for r in records],
                    [r.timestamp_ms for r in records],
                    [r.key for r in records],
                    [r.value for r in records],
                )
            )
        return blocks

    def seen(self) -> Published:
        """What a subscriber that reads committed records sees."""
        config = self.config()
        seen = _nothing()
        for record in self.records(config.alerts.topic):
            seen.add_alert((record.key or b"").decode(), record.value or b"")
        for record in self.records(config.dead_letters.topic):
            seen.letters[record.key, record.value, record.headers] += 1
        return seen

    def assert_exactly_golden(
        self, golden: Published | None = None, *, ordered: bool = True
    ) -> Published:
        """Nothing lost, nothing twice, each series in order; returns what there is, so a test
        can see it was not nothing."""
        seen = self.seen()
        compare(self.golden() if golden is None else golden, seen, ordered=ordered)
        assert seen.alerts
        return seen

    # -- where the group stands

    def end_offsets(self) -> dict[int, int]:
        return {p: s.end for p, s in self._standing().items()}

    def committed(self) -> dict[int, int]:
        return {p: s.committed or 0 for p, s in self._standing().items()}

    def wait_all_committed(self, *, timeout_s: float = DEADLINE_S) -> None:
        """Return when every tick of the log is committed by the group."""
        if self.tree["transport"] == "embedded":
            wait_for(self._embedded_committed, "every tick is committed", timeout_s=timeout_s)
            return
        keeper = make_broker(self.config()).keeper(topics(self.config()))
        try:
            wait_for(
                lambda: all((s.committed or 0) >= s.end for s in keeper.standing().values()),
                "every tick is committed",
                timeout_s=timeout_s,
            )
        finally:
            keeper.close()

    def _embedded_committed(self) -> bool:
        """Looks into the file: while a worker runs, it holds the lock that a keeper needs."""
        with closing(sqlite3.connect(self.tree["embedded"]["path"], timeout=30)) as database:
            row = database.execute(
                "SELECT p.next_offset >= t.next_offset FROM positions p JOIN topics t "
                "ON t.name = p.topic WHERE t.name = ?",
                (self.tree["input"]["topic"],),
            ).fetchone()
        return row is not None and bool(row[0])

    def _standing(self) -> dict[int, Any]:
        keeper = make_broker(self.config()).keeper(topics(self.config()))
        try:
            return dict(keeper.standing())
        finally:
            keeper.close()


class Publishing:
    """Publishes in a thread of its own until stopped. patient: a broker that is away is waited
    for; what then reached the log is known from the log alone."""

    def __init__(
        self, scene: Scene, *, ticks: int, every_s: float, series: int, patient: bool
    ) -> None:
        self._scene, self._ticks, self._every_s = scene, ticks, every_s
        self._series, self._patient = series, patient
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="publishing", daemon=True)

    def __enter__(self) -> Publishing:
        self._thread.start()
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        self._stop.set()
        self._thread.join(90)
        assert not self._thread.is_alive(), "the publisher does not end"
        if self._failure is not None and error is None:
            raise self._failure

    def _run(self) -> None:
        try:
            while not self._stop.wait(self._every_s):
                try:
                    self._scene.publish(self._ticks, series=self._series)
                except BrokerError:
                    if not self._patient:
                        raise
        except BaseException as failure:  # noqa: BLE001 - raised where the thread is joined
            self._failure = failure


def make_scene(
    directory: Path,
    *,
    bootstrap_servers: str | None,
    partitions: int = 3,
    **sections: Mapping[str, Any],
) -> Scene:
    """bootstrap_servers: None for the embedded broker."""
    name = f"faults-{uuid.uuid4().hex[:10]}"
    make_artifact(directory / "model", length=LENGTH)
    tree: dict[str, Any] = {
        "transport": "embedded" if bootstrap_servers is None else "kafka",
        "features": {"value": "value"},
        "input": {"topic": f"{name}-ticks"},
        "alerts": {"topic": f"{name}-alerts"},
        "dead_letters": {"topic": f"{name}-dead"},
        "state": {"topic": f"{name}-state", "interval_ms": 500},
        "topics": {"partitions": partitions},
        "window": {"length_ticks": LENGTH, "max_gap_s": 60.0},
        "threshold": {"method": "fixed", "value": THRESHOLD},
        "delivery": {"commit_interval_ms": 50, "max_poll_records": 200},
        "embedded": {"path": str(directory / "broker.sqlite")},
        "kafka": {"group": name, "session_timeout_ms": 6000},
        "http": {"port": 0},
    }
    if bootstrap_servers is not None:
        tree["kafka"]["bootstrap_servers"] = bootstrap_servers
    for section, options in sections.items():
        tree[section] = {**tree.get(section, {}), **options}
    scene = Scene(directory, directory / "library.yaml", directory / "model", tree)
    config = scene.config()
    prepare_topics(config, make_broker(config))
    return scene
