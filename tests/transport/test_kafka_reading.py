"""A consumer of a real Kafka gives the same in columns as one by one, and goes on where it was."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import kafka as client
import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

import detector
from detector.core.records import RecordBlock
from detector.core.slices import Slices
from detector.errors import BrokerError
from detector.native import extension
from detector.transport.kafka import batches
from detector.transport.kafka.reading import Reading, fetch_options
from tests.contracts.transports import Kafka, publish_numbers
from tests.kafka_broker import KafkaBroker as KafkaNode
from tests.processes import wait_for

pytestmark = pytest.mark.kafka
_NATIVE, _WHY = extension("_batches")
native = pytest.mark.skipif(_NATIVE is None, reason=f"detector.native._batches: {_WHY}")


def consumer_of(transport: Kafka, **options: Any) -> Any:
    return KafkaConsumer(
        **transport.settings.common(),
        **fetch_options(transport.settings),
        group_id=None,
        enable_auto_commit=False,
        isolation_level="read_committed",
        auto_offset_reset="none",
        **options,
    )


@contextmanager
def reading(transport: Kafka, *, columns: bool, offset: int = 0) -> Iterator[tuple[Reading, Any]]:
    consumer = consumer_of(transport)
    try:
        found = Reading(transport.settings, transport.topics.ticks)
        if columns:
            found.follow(consumer)
            assert found.slow_because == ""
        assigned = TopicPartition(transport.topics.ticks, 0)
        consumer.assign([assigned])
        consumer.seek(assigned, offset)
        yield found, consumer
    finally:
        consumer.close()


def records(blocks: list[RecordBlock]) -> list[tuple[object, ...]]:
    return [
        (int(offset), int(moment), key, value)
        for b in blocks
        for offset, moment, key, value in zip(
            b.offsets, b.timestamps_ms, b.keys, b.values, strict=True
        )
    ]


def read_to(transport: Kafka, end: int, *, columns: bool, offset: int, a_poll: int) -> Any:
    """Every record, and where the client stood after each poll."""
    found: list[tuple[object, ...]] = []
    with reading(transport, columns=columns, offset=offset) as (polled, consumer):
        partition = TopicPartition(transport.topics.ticks, 0)

        def at_end() -> bool:
            blocks = polled.poll(consumer, max_records=a_poll, max_bytes=10**7, timeout_s=0.1)
            assert all(isinstance(b.values, Slices) == columns for b in blocks)
            assert sum(map(len, blocks)) <= a_poll
            found.extend(records(blocks))
            return bool(consumer.position(partition) == end)

        wait_for(at_end, f"the position comes to {end}")
        assert consumer.highwater(partition) == end
        return found


@native
@pytest.mark.parametrize("codec", [None, "gzip"])
def test_the_same_records_come_in_columns_as_one_by_one(
    transport: Kafka, codec: str | None
) -> None:
    topic = transport.topics.ticks
    producer: Any = KafkaProducer(
        bootstrap_servers=transport.settings.bootstrap_servers,
        transactional_id=f"{transport.settings.group}-publisher",
        compression_type=codec,
        batch_size=2000,
        linger_ms=20,
    )
    try:
        producer.init_transactions()
        for run in range(6):
            producer.begin_transaction()
            for n in range(50):
                producer.send(
                    topic,
                    key=None if n % 7 == 0 else b"series-%d" % n,
                    value=None if n % 11 == 1 else b"%d of %d " % (n, run) * (n % 5),
                    headers=[("näme" if run == 2 else "name", b"x" * n)] * (n % 3),
                    partition=0,
                    timestamp_ms=1_700_000_000_000 - n * 1000,
                )
            producer.flush()
            (producer.abort_transaction if run in {1, 4} else producer.commit_transaction)()
    finally:
        producer.close()
    ends = 6 * 51
    for offset, a_poll in ((0, 1000), (0, 7), (23, 1), (51, 64), (120, 13)):
        expected = read_to(transport, ends, columns=False, offset=offset, a_poll=a_poll)
        assert read_to(transport, ends, columns=True, offset=offset, a_poll=a_poll) == expected
        assert len(expected) == sum(
            offset <= run * 51 + n for run in (0, 2, 3, 5) for n in range(50)
        )


@native
def test_a_seek_in_the_middle_of_a_batch_is_followed_in_both_directions(transport: Kafka) -> None:
    publish_numbers(transport, range(100))
    partition = TopicPartition(transport.topics.ticks, 0)
    with reading(transport, columns=True) as (polled, consumer):
        for offset in (0, 50, 10, 99, 37):
            consumer.seek(partition, offset)
            found: list[RecordBlock] = []

            def more(found: list[RecordBlock] = found) -> bool:
                found += polled.poll(consumer, max_records=5, max_bytes=10**7, timeout_s=0.1)
                return bool(found)

            wait_for(more, "records come")
            begun = min(5, 100 - offset)
            assert [r[3] for r in records(found)] == [
                b"%d" % n for n in range(offset, offset + begun)
            ]
            assert consumer.position(partition) == offset + begun
            # What is not given out yet is kept while the partition pauses.
            consumer.pause(partition)
            assert polled.poll(consumer, max_records=5, max_bytes=10**7, timeout_s=0.1) == []
            consumer.resume(partition)


@native
def test_a_batch_that_the_disk_has_damaged_is_told_by_each_poll_and_can_be_stepped_over(
    transport: Kafka, kafka: KafkaNode
) -> None:
    if kafka.data is None:
        pytest.skip("the log of an external broker is out of reach")
    for numbers in (range(5), range(7_700_005, 7_700_010), range(10, 15)):
        publish_numbers(transport, numbers)
    log = kafka.data.rglob(f"{transport.topics.ticks}-0/*.log")
    (segment,) = [path for path in log if b"7700007" in path.read_bytes()]
    with segment.open("r+b") as file:
        file.seek(segment.read_bytes().index(b"7700007"))
        file.write(b"X")
    with reading(transport, columns=True) as (polled, consumer):
        values: list[object] = []

        def poll() -> int:
            """How many records there are so far."""
            blocks = polled.poll(consumer, max_records=99, max_bytes=10**7, timeout_s=1.0)
            values.extend(value for block in blocks for value in block.values)
            return len(values)

        wait_for(lambda: poll() == 5, "what is before it comes")
        for _ in range(3):
            with pytest.raises(BrokerError, match=r"damaged batch .* at offset 5 failed crc check"):
                wait_for(lambda: poll() > 5, "it is told")
        consumer.seek(TopicPartition(transport.topics.ticks, 0), 10)
        wait_for(lambda: poll() == 10, "what is behind it comes")
    assert values == [b"%d" % n for n in (*range(5), *range(10, 15))]


@native
def test_where_the_client_reads_otherwise_it_is_left_as_it_is(transport: Kafka) -> None:
    consumer = consumer_of(transport, value_deserializer=_Upper())
    try:
        assert batches.install(consumer) == "the consumer has a deserializer"
        assert "PartitionRecords" not in vars(consumer._fetcher)
    finally:
        consumer.close()


class _Upper(client.serializer.Deserializer):  # type: ignore[misc]
    def deserialize(self, topic: str, headers: Any, data: bytes) -> bytes:
        return data.upper()


_READ = """
import logging, sys
from kafka import KafkaConsumer, TopicPartition
from detector.transport.kafka.client import KafkaSettings
from detector.transport.kafka.reading import Reading
logging.basicConfig(format="%(levelname)s %(message)s", level=logging.WARNING)
servers, topic = sys.argv[1:]
settings = KafkaSettings(
    servers, "g", "t", None, 6000, 10000, None, 1, 1, 20.0, 100, 10**7, True
)
consumer = KafkaConsumer(bootstrap_servers=servers, group_id=None)
reading = Reading(settings, topic)
reading.follow(consumer)
consumer.assign([TopicPartition(topic, 0)])
consumer.seek(TopicPartition(topic, 0), 0)
values = []
while len(values) < 30:
    for block in reading.poll(consumer, max_records=100, max_bytes=10**7, timeout_s=1):
        values += block.values
consumer.close()
print(values == [b"%d" % n for n in range(30)], "|", reading.slow_because)
"""


def _unbuilt(site: Path) -> str:
    """The package as where no compiler was."""
    shutil.copytree(
        Path(detector.__file__).parent, site / "detector", ignore=shutil.ignore_patterns("*.so")
    )
    return "not built"


def _patched(site: Path) -> str:
    """A client whose reading somebody has changed."""
    shutil.copytree(Path(client.__file__).parent, site / "kafka")
    with (site / "kafka" / "record" / "memory_records.py").open("a") as source:
        source.write("# changed\n")
    return f"kafka-python {client.__version__} is none whose reading of records is known here"


@pytest.mark.parametrize("change", [_unbuilt, pytest.param(_patched, marks=native)])
def test_without_the_reader_or_its_client_records_come_one_by_one_and_that_is_said(
    transport: Kafka, tmp_path: Path, change: Any
) -> None:
    publish_numbers(transport, range(30))
    why = change(tmp_path)
    package = Path(detector.__file__).parents[1]
    command = [sys.executable, "-c", _READ, transport.settings.bootstrap_servers]
    done = subprocess.run(
        [*command, transport.topics.ticks],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(package)])},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    read, _, reason = done.stdout.strip().partition(" | ")
    assert (read, why in reason) == ("True", True), reason
    assert f"WARNING records are read one by one, slowly: {reason}\n" in done.stderr
