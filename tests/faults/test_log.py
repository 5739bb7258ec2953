"""Faults 10, 12 and 14, and what an operator may do to the topics: records deleted, damaged or
moved. Each is refused with a message that says what to do, and what it says works."""

from __future__ import annotations

import signal
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from crc32c import crc32c
from kafka import KafkaAdminClient, KafkaProducer, OffsetAndMetadata, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType

from detector.core.state import VERSION_WITH_EXTRAS
from tests.faults.crew import Crew, wait_stopped
from tests.faults.scene import Scene, make_scene
from tests.kafka_broker import KafkaBroker
from tests.processes import wait_for

pytestmark = [pytest.mark.faults, pytest.mark.kafka]

PARTITIONS = (0, 1, 2)


@contextmanager
def administering(scene: Scene) -> Iterator[Any]:
    admin = KafkaAdminClient(bootstrap_servers=scene.tree["kafka"]["bootstrap_servers"])
    try:
        yield admin
    finally:
        admin.close()


def delete_before(scene: Scene, topic: str, offsets: Mapping[int, int]) -> None:
    with administering(scene) as admin:
        admin.delete_records({TopicPartition(topic, p): o for p, o in offsets.items()})


def run_through(scene: Scene, **sections: Any) -> str:
    """A worker until everything is committed; its log."""
    with scene.worker(1, **sections) as worker:
        worker.wait_ready()
        scene.wait_all_committed()
        assert worker.terminate() == 0, worker.log()
    return worker.log()


def refused(scene: Scene, code: int = 65, **sections: Any) -> str:
    """A worker that must not run; its last words."""
    with scene.worker(1, **sections) as worker:
        assert worker.wait_ended(timeout_s=60) == code, worker.log()
    return worker.log().splitlines()[-1]


# -- ticks that are gone


def test_fault_10_ticks_were_deleted_before_they_were_read(scene: Scene) -> None:
    scene.publish(1000)
    run_through(scene)
    before = scene.committed()
    scene.publish(1500)
    ends = scene.end_offsets()
    first = {p: before[p] + (ends[p] - before[p]) // 3 for p in PARTITIONS}
    lost = sum(first[p] - before[p] for p in PARTITIONS)
    assert lost > 100
    delete_before(scene, scene.config().input.topic, first)

    words = refused(scene)
    assert "retention deleted them" in words
    assert "delivery.on_lost_ticks: continue" in words
    assert scene.committed() == before, "it must not move past what it refused to lose"

    log = run_through(scene, delivery={"on_lost_ticks": "continue"})
    assert f"lost_records={first[2] - before[2]}" in log
    assert "warning partition restored" in log
    assert scene.tallied("detector_lost_records_total") == lost
    assert scene.tallied() == scene.published - lost
    run_through(scene)  # and with the strict setting, too


def test_fault_10_ticks_are_deleted_while_a_worker_sleeps(scene: Scene) -> None:
    scene.publish(500)
    with scene.worker(1) as worker:
        worker.wait_ready()
        scene.wait_all_committed()
        worker.signal(signal.SIGSTOP)
        wait_stopped(worker)
        scene.publish(3000)
        ends = scene.end_offsets()
        delete_before(scene, scene.config().input.topic, ends)
        worker.signal(signal.SIGCONT)
        scene.publish(200)
        # It may have fetched ahead; if not it must say what happened.
        assert worker.wait_ended(timeout_s=60) == 65, worker.log()
    assert "retention" in worker.log().splitlines()[-1]
    run_through(scene, delivery={"on_lost_ticks": "continue"})
    assert scene.tallied() + scene.tallied("detector_lost_records_total") == scene.published


def damage_last_batch(broker: KafkaBroker, topic: str, *, right_crc: bool) -> None:
    """Spoil the last batch of each partition's log; the broker is stopped."""
    assert broker._data is not None
    logs = sorted((broker._data / "log").glob(f"{topic}-*/*.log"))
    assert any(path.stat().st_size for path in logs)
    for path in logs:
        data = bytearray(path.read_bytes())
        if not data:  # no series of this partition
            continue
        at = last = 0
        while at + 17 < len(data):
            size = struct.unpack_from(">i", data, at + 8)[0]
            if size <= 0:
                break
            last, at = at, at + 12 + size
        end = last + 12 + struct.unpack_from(">i", data, last + 8)[0]
        for place in range(last + 61, min(last + 81, end)):  # behind the header
            data[place] ^= 0x5A
        if right_crc:
            struct.pack_into(">I", data, last + 17, crc32c(bytes(data[last + 21 : end])))
        path.write_bytes(data)


@pytest.mark.parametrize("what", ["crc", "compression"])
def test_fault_12_a_batch_that_cannot_be_read(
    own_broker: KafkaBroker, tmp_path: Path, tell: Callable[[str], None], what: str
) -> None:
    scene = make_scene(
        tmp_path, bootstrap_servers=own_broker.bootstrap_servers, kafka={"compression": "gzip"}
    )
    topic = scene.config().input.topic
    scene.publish(600, poison=0)
    run_through(scene)
    scene.publish(600, poison=0)
    own_broker.stop()
    damage_last_batch(own_broker, topic, right_crc=what == "compression")
    own_broker.start()
    with scene.worker(1) as worker:
        process = psutil.Process(worker.pid)
        used_s = 0.0

        def ended() -> bool:
            nonlocal used_s
            if worker.exit_code() is not None:
                return True
            times = process.cpu_times()
            used_s = times.user + times.system
            return False

        wait_for(ended, "it ends and does not spin", timeout_s=40)
        words = worker.log().splitlines()[-1]
        tell(f"exit {worker.exit_code()}, {used_s:.1f} s of CPU: {words[:300]}")
        assert worker.exit_code() == 69, worker.log()
    assert used_s < 10
    assert topic in words
    assert "detector state reset --to latest" in words
    scene.detector("state", "reset", "--to", "latest")
    counted = scene.tallied()
    scene.publish(600, poison=0)
    before = scene.published
    run_through(scene)
    assert scene.tallied() - counted >= 600
    assert before == scene.published


# -- partitions


def test_fault_14_the_ticks_topic_grows_while_a_worker_runs(
    kafka: KafkaBroker, tmp_path: Path, tell: Callable[[str], None]
) -> None:
    scene = make_scene(tmp_path, bootstrap_servers=kafka.bootstrap_servers, partitions=2)
    scene.publish(1000, series=12)
    with scene.worker(1, environment={"FAULTS_METADATA_MS": "1000"}) as worker:
        worker.wait_ready()
        scene.wait_all_committed()
        with administering(scene) as admin:
            admin.create_partitions({scene.config().input.topic: 4})
        wait_for(lambda: len(scene.end_offsets()) == 4, "four partitions")
        scene.publish(1000, series=12)
        assert worker.wait_ended(timeout_s=60) == 65, worker.log()
    words = worker.log().splitlines()[-1]
    tell(f"the running worker: {words[:300]}")
    assert "detector state grow" in words
    words = refused(scene)
    assert "detector state grow" in words
    assert "4 partitions" in words
    scene.detector("state", "grow")
    run_through(scene)
    scene.publish(500, series=12)
    run_through(scene)
    # A series may be in an old and a new partition: in order within each.
    scene.assert_exactly_golden(ordered=False)


# -- the saved state


def garble(scene: Scene, key: bytes, value: bytes) -> None:
    producer = KafkaProducer(bootstrap_servers=scene.tree["kafka"]["bootstrap_servers"])
    for partition in PARTITIONS:
        producer.send(scene.config().state.topic, key=key, value=value, partition=partition)
    producer.flush()
    producer.close()


def delete_state(scene: Scene) -> None:
    with administering(scene) as admin:
        admin.delete_topics([scene.config().state.topic])
        wait_for(lambda: scene.config().state.topic not in admin.list_topics(), "the topic is gone")


def cut_off_state(scene: Scene) -> None:
    """Somebody thought that a retention would do it good."""
    topic = scene.config().state.topic
    resource = ConfigResource(ConfigResourceType.TOPIC, topic, configs={"cleanup.policy": "delete"})
    with administering(scene) as admin:
        admin.alter_configs([resource])
    delete_before(scene, topic, dict.fromkeys(PARTITIONS, -1))
    assert "has cleanup.policy=delete" in refused(scene)
    resource = ConfigResource(
        ConfigResourceType.TOPIC, topic, configs={"cleanup.policy": "compact"}
    )
    with administering(scene) as admin:
        admin.alter_configs([resource])


def move_offsets(scene: Scene) -> None:
    topic = scene.config().input.topic
    with administering(scene) as admin:
        admin.alter_group_offsets(
            scene.config().kafka.group,
            {
                TopicPartition(topic, p): OffsetAndMetadata(offset // 2, "", -1)
                for p, offset in scene.committed().items()
            },
        )


def recreate_ticks(scene: Scene) -> None:
    """The same topic again, with fewer ticks than were processed."""
    topic = scene.config().input.topic
    with administering(scene) as admin:
        admin.delete_topics([topic])
        wait_for(lambda: topic not in admin.list_topics(), "the topic is gone")
    assert refused is not None
    from detector.transport.configured import make_broker, prepare_topics

    prepare_topics(scene.config(), make_broker(scene.config()))


DAMAGES: dict[str, tuple[Callable[[Scene], None], str, str]] = {
    # what happens, what the message says, what to reset to
    "deleted": (delete_state, "says nothing of it", "committed"),
    "cut off": (cut_off_state, "says nothing of it", "committed"),
    "garbage": (
        lambda s: garble(s, b"series:series-1", b"\x01 garbage"), "is damaged", "committed",
    ),
    "empty": (lambda s: garble(s, b"series:series-1", b""), "is empty", "committed"),
    "foreign key": (lambda s: garble(s, b"\xff", b"x"), "is no key", "committed"),
    "newer series": (
        lambda s: garble(s, b"series:series-1", b"\x63" * 200), "newer program", "committed",
    ),
    "newer watermark": (
        lambda s: garble(s, b"watermark", b'{"version": %d, "x": 1}' % (VERSION_WITH_EXTRAS + 1)),
        "newer program",
        "committed",
    ),
    "broken watermark": (
        lambda s: garble(s, b"watermark", b"{"), "the watermark is damaged", "committed",
    ),
    "offsets moved": (move_offsets, "were offsets reset", "state"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_state_that_does_not_fit_is_refused_and_reset(scene: Scene, damage: str) -> None:
    act, message, target = DAMAGES[damage]
    scene.publish(1200)
    run_through(scene)
    golden = scene.golden()
    scene.publish(1200)
    before = scene.committed()
    act(scene)
    words = refused(scene)
    assert message in words, words
    assert "detector state reset" in words
    scene.detector("state", "reset", "--to", target)
    assert scene.committed() == before
    run_through(scene)
    if target == "state":  # nothing was forgotten: as if nothing had been
        scene.assert_exactly_golden()
    else:  # empty windows: what was published stays, the rest follows once
        seen = scene.seen()
        assert not golden.alerts - seen.alerts
        assert max(seen.alerts.values()) == 1
    assert scene.tallied() == scene.published


def test_offsets_that_were_deleted_are_refused(scene: Scene) -> None:
    scene.publish(1200)
    run_through(scene)
    with administering(scene) as admin:
        wait_for(lambda: _try_delete_group(admin, scene), "the group is empty")
    scene.publish(600)
    words = refused(scene)
    assert "not there" in words
    assert "--to state" in words
    scene.detector("state", "reset", "--to", "state")
    run_through(scene)
    scene.assert_exactly_golden()
    assert scene.tallied() == scene.published


def _try_delete_group(admin: Any, scene: Scene) -> bool:
    try:
        admin.delete_groups([scene.config().kafka.group])
    except Exception:  # noqa: BLE001 - not empty yet
        time.sleep(0.5)
        return False
    return True


def test_a_ticks_topic_that_was_made_again_is_refused(scene: Scene) -> None:
    scene.publish(900)
    run_through(scene)
    recreate_ticks(scene)
    words = refused(scene)
    assert "deleted and created again" in words or "offsets reset or deleted" in words, words
    scene.detector("state", "reset", "--to", "earliest")
    counted = scene.tallied()
    scene.publish(600)
    run_through(scene)
    assert scene.tallied() - counted >= 600


@pytest.mark.parametrize("shared_state", [True, False])
def test_two_deployments_in_one_group_are_refused(scene: Scene, shared_state: bool) -> None:
    """The second one ends; the first goes on, and its alerts are what they were."""
    name = scene.tree["kafka"]["group"]
    scene.publish(1000)
    other: dict[str, Any] = {"alerts": {"topic": f"{name}-alerts-2"}}
    if not shared_state:
        other["state"] = {"topic": f"{name}-state-2"}
    with Crew(scene) as crew:
        first = crew.start(1)
        first.wait_ready()
        scene.wait_all_committed()
        with scene.worker(2, **other) as second:
            assert second.wait_ended(timeout_s=60) == 65, second.log()
        words = second.log().splitlines()[-1]
        assert "another deployment" in words
        assert "group" in words
        with scene.publishing():
            first.wait_accounted(1500)
        scene.wait_all_committed()
        crew.stop_all()
    scene.assert_exactly_golden()
    assert scene.tallied() == scene.published
