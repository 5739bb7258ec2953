"""Rows travel as they are, and at once: what was sent is what a dead letter holds."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from detector.build import tick_format
from detector.clients.dead_letters import read_letters, republish
from detector.clients.history import Span, blocks_to_end, read_ticks
from detector.clients.publish import Feed, publish
from detector.config import Config, parse_config
from detector.core.codec import Codec
from detector.core.dead_letters import Letter
from detector.core.records import RecordBlock
from detector.data.sources import DataFile
from detector.data.tables import refuse
from detector.errors import DataError
from detector.transport.configured import make_broker
from tests.artifacts import make_artifact
from tests.processes import RunningDaemon, clean_environment, wait_for, write_config

CSV = """series,timestamp,value,note,label
a,1.5,0.1,,0
a,2,n/a,low,1
007,soon,nan,1_000,0
a,3,1e3,-7,0
"""


def tree(directory: Path, **sections: Any) -> dict[str, Any]:
    return {
        "features": {"value": "value"},
        "window": {"length_ticks": 8},
        "threshold": {"method": "fixed", "value": 1.0},
        "embedded": {"path": str(directory / "broker.sqlite"), "synchronous": "normal"},
        "http": {"port": 0},
        **sections,
    }


def sent(config: Config) -> list[tuple[bytes | None, Any]]:
    """What stands in the ticks topic: keys and values."""
    reader = make_broker(config).reader(config.input.topic, from_beginning=True)
    found: list[tuple[bytes | None, Any]] = []
    while records := reader.poll(timeout_s=0.1):
        found += [(r.key, json.loads(r.value or b"")) for r in records]
    reader.close()
    return found


def letters(config: Config) -> list[Any]:
    return [
        json.loads(letter.record.value or b"")
        for letter in read_letters(config, reason=None, since_ns=None)
    ]


def last_is(config: Config, row: dict[str, Any]) -> bool:
    return sent(config)[-1:] == [(b"a", row)]


def publish_file(
    config: Config, path: Path, fields: Sequence[str] | None = None, **part: Any
) -> int:
    feed = Feed(DataFile(path, "file", **part))
    return publish(config, [feed], fields=fields, rate=None, sent=lambda _: None, wrong=refuse)


def test_values_of_a_csv_travel_as_they_are(tmp_path: Path) -> None:
    config = parse_config(tree(tmp_path))
    (tmp_path / "data.csv").write_text(CSV)
    assert publish_file(config, tmp_path / "data.csv") == 4
    assert sent(config) == [
        (b"a", {"series": "a", "timestamp": 1.5, "value": 0.1, "note": None}),
        (b"a", {"series": "a", "timestamp": 2, "value": "n/a", "note": "low"}),
        (b"007", {"series": "007", "timestamp": "soon", "value": "nan", "note": "1_000"}),
        (b"a", {"series": "a", "timestamp": 3, "value": 1000.0, "note": -7}),
    ]


def test_objects_of_json_lines_travel_as_they_are(tmp_path: Path) -> None:
    config = parse_config(tree(tmp_path))
    rows: list[dict[str, Any]] = [
        {"timestamp": 1, "value": True},
        {"series": 7, "timestamp": None, "deep": {"a": [1]}},
        {"series": None, "value": 1},
    ]
    (tmp_path / "data.jsonl").write_text("\n".join(map(json.dumps, rows)))
    publish_file(config, tmp_path / "data.jsonl")
    assert sent(config) == [
        (b"file", {"series": "file"} | rows[0]),
        (b"7", rows[1]),
        (None, {**rows[2], "timestamp": None}),
    ]


def test_only_what_is_asked_for_travels(tmp_path: Path) -> None:
    config = parse_config(tree(tmp_path))
    (tmp_path / "data.csv").write_text(CSV.replace("soon", "2.5"))
    assert publish_file(config, tmp_path / "data.csv", ["value"], since_ns=2 * 10**9, limit=3) == 2
    assert [value for _, value in sent(config)] == [
        {"series": "a", "timestamp": 2, "value": "n/a"},
        {"series": "007", "timestamp": 2.5, "value": "nan"},
    ]
    with pytest.raises(DataError, match=r"has no column 'size'; it has series, timestamp"):
        publish_file(config, tmp_path / "data.csv", ["size"])
    (tmp_path / "data.csv").write_text(CSV)
    with pytest.raises(DataError, match="row 3: timestamp = 'soon' is no time in s"):
        publish_file(config, tmp_path / "data.csv", since_ns=0)


def test_the_key_names_the_series_where_it_is_asked_to(tmp_path: Path) -> None:
    config = parse_config(tree(tmp_path, input={"series_from": "key"}))
    (tmp_path / "data.csv").write_text(CSV)
    publish_file(config, tmp_path / "data.csv", ["value"])
    assert sent(config)[0] == (b"a", {"timestamp": 1.5, "value": 0.1})


PACKED = {"format": "packed"}


def test_packed_records_hold_the_ticks_of_a_series_in_order(tmp_path: Path) -> None:
    """What is no number and no time travels too: the detector says what is wrong with it."""
    config = parse_config(tree(tmp_path, input=PACKED))
    (tmp_path / "data.csv").write_text(CSV)
    assert publish_file(config, tmp_path / "data.csv") == 4
    (block,) = history(config)
    assert block.keys == [b"a", b"007"]
    batch, rejects = Codec(tick_format(config), ("value",)).decode(block)
    assert batch.time_ns.tolist() == [1_500_000_000, 3_000_000_000]
    assert batch.values.tolist() == [[0.1], [1000.0]]
    assert [(r.offset, r.index, r.reason) for r in rejects] == [
        (block.offsets[0], 1, "not_finite"),
        (block.offsets[1], 0, "not_finite"),
    ]


@pytest.mark.parametrize("rate", [None, 5e6, 100_000.0])
def test_packed_records_are_no_longer_than_a_moment_at_a_rate(
    tmp_path: Path, rate: float | None
) -> None:
    config = parse_config(tree(tmp_path, input=PACKED))
    rows = "".join(f"{'ab'[n % 2]},{n},{n}\n" for n in range(2500))
    (tmp_path / "data.csv").write_text(f"series,timestamp,value\n{rows}")
    counts: list[int] = []
    feed = Feed(DataFile(tmp_path / "data.csv", "file"))
    total = publish(config, [feed], fields=None, rate=rate, sent=counts.append, wrong=refuse)
    assert (total, sum(counts)) == (2500, 2500)
    assert counts == ([1000, 1000, 500] if rate == 100_000.0 else [2500])
    codec, seen = Codec(tick_format(config), ("value",)), []
    for block in history(config):
        batch, rejects = codec.decode(block)
        assert rejects == []
        seen += list(zip(batch.series, batch.values[:, 0].tolist(), strict=True))
    for i, name in enumerate("ab"):
        assert [v for s, v in seen if s == name] == list(range(i, 2500, 2))


def test_fields_of_packed_records_are_found_in_the_topic(tmp_path: Path) -> None:
    config = parse_config(tree(tmp_path, input=PACKED) | {"features": "auto"})
    (tmp_path / "data.csv").write_text(CSV.replace("soon", "2.5"))
    publish_file(config, tmp_path / "data.csv")
    found = read_ticks(config, Span(), read=lambda _: None)
    assert found.auto is not None
    assert found.auto.fields == ("value", "note")
    assert found.unusable == {"not_finite": 3}
    (recording,) = found.recordings
    assert (recording.names, recording.values.tolist()) == (("a",), [[1000.0, -7.0]])


def test_a_packed_record_with_a_bad_tick_is_a_dead_letter_and_goes_back(tmp_path: Path) -> None:
    config = write_config(tmp_path / "config.yaml", tree(tmp_path, input=PACKED))
    parsed = parse_config(tree(tmp_path, input=PACKED))
    (tmp_path / "data.csv").write_text(CSV)
    publish_file(parsed, tmp_path / "data.csv")
    (before,) = history(parsed)

    def dead() -> list[Letter]:
        return list(read_letters(parsed, reason=None, since_ns=None))

    model = make_artifact(tmp_path / "model", length=8).path
    with RunningDaemon(config, model, cwd=tmp_path) as daemon:
        wait_for(lambda: len(dead()) == 2, "the dead letters are there")
        assert daemon.terminate() == 0
    found = [(letter.record.key, letter.record.value, letter.reason) for letter in dead()]
    assert found == [
        (key, value, "not_finite") for key, value in zip(before.keys, before.values, strict=True)
    ]
    assert republish(parsed, iter(dead())).published == 2
    (after,) = history(parsed)
    assert list(after.values) == [*before.values] * 2
    assert list(after.keys) == [*before.keys] * 2


def history(config: Config) -> list[RecordBlock]:
    reader = make_broker(config).reader(config.input.topic, from_beginning=True)
    try:
        return list(blocks_to_end(reader))
    finally:
        reader.close()


def test_another_process_feeds_the_broker_line_by_line(tmp_path: Path) -> None:
    """The second line is published before the third is written; a bad value becomes a dead letter
    that holds what was sent."""
    config = write_config(tmp_path / "config.yaml", tree(tmp_path))
    parsed = parse_config(tree(tmp_path))
    with subprocess.Popen(
        [sys.executable, "-m", "detector", "publish", "--config", config, "--data", "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=clean_environment(),
    ) as feeder:
        assert feeder.stdin is not None
        rows = [{"series": "a", "timestamp": n, "value": n} for n in range(2)]
        for row in rows:
            feeder.stdin.write(json.dumps(row).encode() + b"\n")
            feeder.stdin.flush()
            wait_for(partial(last_is, parsed, row), "the line is published")
        output, _ = feeder.communicate(b'{"timestamp": 2, "value": "high"}\n', timeout=120)
    assert (feeder.returncode, output) == (0, b"published 3 ticks to ticks\n")
    model = make_artifact(tmp_path / "model", length=8).path
    with RunningDaemon(config, model, cwd=tmp_path) as daemon:
        wait_for(lambda: len(letters(parsed)) == 1, "the dead letter is there")
        assert daemon.terminate() == 0
    assert letters(parsed) == [{"series": "stdin", "timestamp": 2, "value": "high"}]
