"""Faults 11, 13 and 15: what the ticks say, and a model that is swapped in the middle."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest

from detector.core.records import Message
from tests.artifacts import make_artifact
from tests.faults.scene import LENGTH, Fault, Scene
from tests.processes import total

pytestmark = [pytest.mark.faults, pytest.mark.kafka]

POISON: dict[bytes | None, str] = {
    b"not json": "not_decodable",
    b"\xff\xfe\x00": "not_decodable",
    b"": "not_decodable",
    b"[" * 20_000: "not_decodable",
    b'{"series": "series-1"}': "missing_field",
    b'{"series": "\\ud800", "timestamp": 1700000000, "value": 1}': "no_series",
    b'{"series": "series-1", "timestamp": 1, "value": [1, 2]}': "wrong_type",
    b'{"series": "series-1", "timestamp": "noon", "value": 1}': "bad_timestamp",
    b'{"series": "series-1", "timestamp": 1700000000, "value": "1e999"}': "wrong_type",
    b'{"series": "series-1", "timestamp": 1700000000, "value": NaN}': "not_finite",
    b'{"series": "series-1", "timestamp": 1700000000, "value": 1e400}': "not_finite",
    b'{"series": "' + b"x" * 600_000 + b'"}': "too_large",
    None: "null",
}


def test_fault_11_poison_makes_one_letter_each_and_leaves_the_windows_alone(scene: Scene) -> None:
    """Killed on the way, too. The same ticks without the poison alert in the same places."""
    scene.tree["input"]["max_record_bytes"] = 500_000
    scene.publish(600, poison=0)
    with scene.worker(1, fault=Fault("offsets", when=2)) as worker:
        worker.wait_ended(timeout_s=60)
    for value in POISON:
        for _ in range(3):
            scene.append([Message(b"series-1", value)])
        scene.publish(40, poison=0)
    with scene.worker(1) as worker:
        worker.wait_ready()
        scene.wait_all_committed()
        metrics = worker.metrics()
        assert worker.terminate() == 0, worker.log()
    seen = scene.assert_exactly_golden()
    letters = [value for (_, value, _), count in seen.letters.items() for _ in range(count)]
    reasons = [
        dict(headers)["reason"].decode()
        for (_, _, headers), count in seen.letters.items()
        for _ in range(count)
    ]
    assert len(letters) == 3 * len(POISON)
    assert sorted(reasons) == sorted(r for r in POISON.values() for _ in range(3))
    assert total(metrics, "detector_dead_letters_total") == 3 * len(POISON)


def test_fault_13_times_that_repeat_go_back_and_leap_ahead(scene: Scene) -> None:
    """The policy: a duplicate is dropped, a late tick is dropped (and kept as a letter where that
    is asked for), one from the far future is refused and moves nothing. After kills as before."""
    now_s = time.time()
    sections: dict[str, dict[str, object]] = {
        "input": {"max_future_s": 60.0},
        "window": {"silence_s": 30.0},
        "dead_letters": {"late": True},
    }
    for name, options in sections.items():
        scene.tree[name] = {**scene.tree[name], **options}
    expected = {"late": 0, "duplicate": 0, "far_future": 0}
    messages = []
    for n in range(1500):
        series = f"series-{n % 5}" if n % 500 < 400 else f"series-{n % 3}"  # two fall silent
        at_s = round(now_s - 3000 + n, 3)
        tick = {"series": series, "timestamp": at_s, "value": 30.0 if n % 100 > 95 else 0.1}
        messages.append(Message(series.encode(), json.dumps(tick).encode()))
        if n % 50 == 20:
            again = dict(tick)
        elif n % 50 == 30:
            again = {**tick, "timestamp": at_s - 2.5}
        elif n % 50 == 40:
            again = {**tick, "timestamp": now_s + 1e6}
        else:
            continue
        expected[{20: "duplicate", 30: "late", 40: "far_future"}[n % 50]] += 1
        messages.append(Message(series.encode(), json.dumps(again).encode()))
    identity = {"group_instance_id": "one"}
    for start in range(0, len(messages), 400):
        scene.append(messages[start : start + 400])
        with scene.worker(1, fault=Fault("commit under way", when=2), kafka=identity) as worker:
            worker.wait_ended(timeout_s=60)
    with scene.worker(1, kafka=identity) as worker:
        worker.wait_ready()
        scene.wait_all_committed()
        assert worker.terminate() == 0, worker.log()
    seen = scene.assert_exactly_golden()
    reasons = [dict(headers)["reason"].decode() for (_, _, headers) in seen.letters.elements()]
    assert reasons.count("late") == expected["late"]
    assert reasons.count("far_future") == expected["far_future"]
    kinds = [json.loads(alert)["data"]["kind"] for alert in seen.alerts.elements()]
    assert kinds.count("silence") >= 4
    assert kinds.count("reconstruction_error") > 10


def test_fault_15_a_model_swapped_in_the_middle_and_a_crash(scene: Scene, tmp_path: Path) -> None:
    """The old model is gone, so its windows are of no use to the new one: every series warms up
    again, visibly, and what was published stays."""
    identity = {"group_instance_id": "one"}
    other = tmp_path / "other-model"
    make_artifact(other, length=LENGTH, seed=1)
    scene.publish(1200, series=6)
    with scene.worker(1, kafka=identity) as worker:
        worker.wait_ready()
        scene.wait_all_committed()
        assert worker.terminate() == 0, worker.log()
    before = scene.seen()
    scene.publish(1500)
    shutil.rmtree(scene.model_path)
    with scene.worker(1, model=other, kafka=identity, fault=Fault("committed", when=3)) as worker:
        worker.wait_ended(timeout_s=60)
    assert "warming_again" in worker.log()
    with scene.worker(1, model=other, kafka=identity) as worker:
        worker.wait_ready()
        scene.wait_all_committed()
        metrics = worker.metrics()
        assert worker.terminate() == 0, worker.log()
    assert total(metrics, "detector_restored_series_total", outcome="warming") < 6, (
        "what the new model has written before the crash is its own"
    )
    seen = scene.seen()
    assert not before.alerts - seen.alerts, "an alert was lost"
    assert max(seen.alerts.values()) == 1, "an alert came twice"
    by_model: dict[str, list[str]] = {}
    for alert in (seen.alerts - before.alerts).elements():
        data = json.loads(alert)["data"]
        by_model.setdefault(data["model_version"], []).append(data["state"])
    assert set(by_model) <= {"random-0", "random-1"}
    assert scene.tallied("detector_ticks_total", outcome="warming") > 0
