"""What somebody who reads every topic has seen, and whether two runs agree."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass

from detector.config import Config
from detector.core.cloudevents import encode_alert
from detector.core.codec import Codec
from detector.core.dead_letters import dead_letters
from detector.core.pipeline import Pipeline
from detector.core.records import RecordBlock


@dataclass(frozen=True, slots=True)
class Published:
    """What a subscriber saw: alerts without their time of detection, dead letters."""

    alerts: Counter[str]
    letters: Counter[tuple[bytes | None, bytes | None, tuple[tuple[str, bytes], ...]]]
    by_series: dict[str, list[str]]  # the alerts of each series, in order

    def add_alert(self, series: str, value: bytes) -> None:
        text = timeless(value)
        self.alerts[text] += 1
        self.by_series.setdefault(series, []).append(text)


def compare(golden: Published, seen: Published, *, ordered: bool = True) -> None:
    """AssertionError unless seen is golden. ordered: each series in its order too."""
    lost, extra = golden.alerts - seen.alerts, seen.alerts - golden.alerts
    assert not lost, f"{lost.total()} of {golden.alerts.total()} alerts lost: {list(lost)[:2]}"
    assert not extra, f"{extra.total()} alerts too many: {list(extra)[:2]}"
    no_letters, more_letters = golden.letters - seen.letters, seen.letters - golden.letters
    assert not no_letters, f"{no_letters.total()} letters lost: {list(no_letters)[:2]}"
    assert not more_letters, f"{more_letters.total()} letters too many: {list(more_letters)[:2]}"
    assert not ordered or golden.by_series == seen.by_series, (
        "the alerts of a series came in another order"
    )


def process(
    block: RecordBlock, config: Config, codec: Codec, pipeline: Pipeline, found: Published
) -> None:
    """One partition, uninterrupted."""
    batch, refused = codec.decode(block)
    result = pipeline.process(batch)
    for alert in result.alerts:
        value = encode_alert(alert, source=config.alerts.source, detected_ns=0)
        found.add_alert(alert.series, value)
    for letter in dead_letters(
        refused + result.rejects,
        {block.partition: block},
        max_bytes=config.dead_letters.max_bytes,
    ):
        found.letters[letter.key, letter.value, letter.headers] += 1


def _nothing() -> Published:
    return Published(Counter(), Counter(), {})


def timeless(value: bytes) -> str:
    """An alert without the one field that differs in a replay, as text."""
    event = json.loads(value)
    del event["data"]["detected_time"]
    return json.dumps(event, sort_keys=True)
