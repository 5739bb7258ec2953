"""What a topic holds, read from beside: asked of both transports."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pytest

from detector.clients import history
from detector.clients.history import Span, TicksRead, blocks_to_end, read_incidents, read_ticks
from detector.config import Config, parse_config
from detector.core.alerts import State
from detector.core.cloudevents import encode_alert
from detector.core.records import Message
from detector.errors import BrokerError, DataError
from detector.transport.broker import Outbox, Standing
from tests.contracts.transports import (
    Embedded,
    Kafka,
    Transport,
    commit,
    outbox,
    publish,
    publish_numbers,
    reading,
    standing,
    started,
    take,
    values,
)
from tests.core.test_cloudevents import make_alert
from tests.processes import DEADLINE_S


def config_of(transport: Transport, **sections: Any) -> Config:
    topics = transport.topics
    tree: dict[str, Any] = {
        "features": {"value": "value"},
        "input": {"topic": topics.ticks},
        "alerts": {"topic": topics.alerts},
        "dead_letters": {"topic": topics.dead_letters},
        "state": {"topic": topics.state},
    }
    if isinstance(transport, Embedded):
        tree |= {"transport": "embedded", "embedded": {"path": str(transport.path)}}
    else:
        assert isinstance(transport, Kafka)
        settings = transport.settings
        servers = {"bootstrap_servers": settings.bootstrap_servers, "group": settings.group}
        tree |= {"transport": "kafka", "kafka": servers}
    for name, options in sections.items():
        merged = isinstance(options, dict) and name in tree and name != "features"
        tree[name] = tree[name] | options if merged else options
    return parse_config(tree)


def tick(series: str, at_s: float, **fields: Any) -> bytes:
    return json.dumps({"series": series, "timestamp": at_s, **fields}).encode()


def send(transport: Transport, ticks: list[bytes | None], *, partition: int = 0) -> None:
    messages = [Message(b"key", value, partition=partition) for value in ticks]
    publish(transport, transport.topics.ticks, messages)


def read_all(config: Config, **span: Any) -> TicksRead:
    return read_ticks(config, Span(**span), read=lambda _: None)


def test_a_topic_is_read_to_where_it_ended_when_the_reading_began(transport: Transport) -> None:
    for partition in transport.partitions:
        publish_numbers(transport, range(3000), partition=partition)
    with reading(transport, transport.topics.ticks) as reader:
        assert reader.positions() == dict.fromkeys(transport.partitions, 0)
        assert reader.ends() == dict.fromkeys(transport.partitions, 3000)
        blocks = blocks_to_end(reader)
        found = [next(blocks)]
        for partition in transport.partitions:
            publish_numbers(transport, range(3000, 3100), partition=partition)
        found += blocks
    for partition in transport.partitions:
        assert values(found, partition) == list(range(3000))


def test_a_topic_of_transactions_is_read_to_its_end_at_once(
    transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The markers of transactions are no records: nobody waits for them until he gives up."""
    monkeypatch.setattr(history, "_GIVE_UP_S", DEADLINE_S)
    with started(transport) as worker:
        for n in range(3):
            commit(worker, outbox(b"%d" % n), {}, {})
    began_s = time.monotonic()
    with reading(transport, transport.topics.alerts) as reader:
        found = [value for block in blocks_to_end(reader) for value in block.values]
    assert found == [b"alert 0", b"alert 1", b"alert 2"]
    assert time.monotonic() - began_s < DEADLINE_S


def test_an_empty_topic_is_at_its_end(transport: Transport) -> None:
    with reading(transport, transport.topics.ticks) as reader:
        assert list(blocks_to_end(reader)) == []


def test_who_reads_the_ticks_leaves_the_group_and_its_offsets_alone(transport: Transport) -> None:
    with ExitStack() as stack:
        worker = stack.enter_context(started(transport))
        for partition in transport.partitions:
            send(transport, [tick("a", n, value=n) for n in range(10)], partition=partition)
        take(worker, 10 * len(transport.partitions))
        commit(worker, Outbox(), {0: 4}, {0: 4})
        before = standing(worker, transport.partitions)
        found = read_all(config_of(transport))
        assert [len(recording) for recording in found.recordings] == [10] * len(
            transport.partitions
        )
        assert found.unjudged == 6 + 10 * (len(transport.partitions) - 1)
        assert standing(worker, transport.partitions) == before
        assert before[0] == Standing(4, 0, 10)
        assert worker.ready()
        assert worker.changes() == (frozenset(), frozenset())
        commit(worker, Outbox(), {0: 10}, {0: 10})


def test_ticks_come_in_order_of_offset_a_recording_a_partition(transport: Transport) -> None:
    for partition in transport.partitions:
        names = [f"{'ab'[n % 2]}{partition}" for n in range(50)]
        ticks = [tick(name, n + partition, value=n) for n, name in enumerate(names)]
        send(transport, ticks, partition=partition)  # type: ignore[arg-type]  # none is None
    found = read_all(config_of(transport)).recordings
    assert len(found) == len(transport.partitions)
    for partition, recording in zip(transport.partitions, found, strict=True):
        assert recording.names == (f"a{partition}", f"b{partition}")
        assert recording.values[:, 0].tolist() == list(range(50))
        assert recording.time_ns.tolist() == [(n + partition) * 10**9 for n in range(50)]
    again = read_all(config_of(transport)).recordings
    assert [r.sha256() for r in again] == [r.sha256() for r in found]


def test_what_is_no_tick_is_counted_and_left_out(transport: Transport) -> None:
    now_s = time.time()
    several = b"[" + tick("a", 3, value=3) + b"," + tick("a", 4, value="x") + b"]"
    sent: list[bytes | None] = [
        tick("a", 1, value=1), None, b"no json", tick("a", 2), several,
        tick("a", now_s + 10**6, value=5), tick("a", 6, value=6),
    ]  # fmt: skip
    send(transport, sent)
    found = read_all(config_of(transport))
    (recording,) = found.recordings
    assert recording.values[:, 0].tolist() == [1, 3, 6]
    assert found.unusable == {
        "null": 1, "not_decodable": 1, "missing_field": 1, "wrong_type": 1, "far_future": 1,
    }  # fmt: skip


def test_since_until_and_limit_choose_the_ticks(transport: Transport) -> None:
    for partition in transport.partitions:
        send(transport, [tick("a", n, value=n) for n in range(20)], partition=partition)

    def chosen(**span: Any) -> list[list[float]]:
        found = read_all(config_of(transport), **span).recordings
        return [recording.values[:, 0].tolist() for recording in found]

    partitions = len(transport.partitions)
    assert chosen(since_ns=5 * 10**9, until_ns=8 * 10**9) == [[5, 6, 7]] * partitions
    assert chosen(limit=3) == [[0, 1, 2]] * partitions
    assert chosen(limit=6, since_ns=4 * 10**9) == [[4, 5]] * partitions
    with pytest.raises(DataError, match=r"holds no ticks \(--since, --until, --limit\)"):
        chosen(since_ns=100 * 10**9)


def test_fields_are_found_in_the_ticks_themselves(transport: Transport) -> None:
    fields = {"cpu": 1.5, "load": 2, "text": "3.5", "up": True, "label": 0, "fault": 0}
    partition = transport.partitions[-1]
    ticks = [tick("a", n, **fields, host="x") for n in range(30)]
    send(transport, [b"no tick", *ticks], partition=partition)
    found = read_all(config_of(transport, features="auto"))
    assert found.auto is not None
    assert (found.auto.fields, found.auto.labels) == (("cpu", "load"), ("fault",))
    assert found.auto.texts == ("text", "up", "host")
    (recording,) = found.recordings
    assert recording.fields == ("cpu", "load")
    assert recording.values.tolist() == [[1.5, 2.0]] * 30


def test_a_series_may_be_named_by_the_key(transport: Transport) -> None:
    ticks = [Message(b"pump", b'{"timestamp": %d, "value": 1}' % n, partition=0) for n in range(3)]
    publish(transport, transport.topics.ticks, ticks)
    for features in ({"value": "value"}, "auto"):
        config = config_of(transport, features=features, input={"series_from": "key"})
        (recording,) = read_all(config).recordings
        assert (recording.names, len(recording)) == (("pump",), 3)


def test_no_topic_no_ticks_and_no_usable_tick_are_said(transport: Transport) -> None:
    config = config_of(transport)
    with pytest.raises(DataError, match="holds no ticks"):
        read_all(config)
    with pytest.raises(DataError, match="holds no ticks"):
        read_all(config_of(transport, features="auto"))
    send(transport, [b"{}", b"no json"])
    with pytest.raises(DataError, match=r"1 missing_field, 1 not_decodable; the first is missing"):
        read_all(config)
    with pytest.raises(BrokerError, match=r"has no topic elsewhere \(input.topic\)"):
        read_all(config_of(transport, input={"topic": "elsewhere"}))
    elsewhere = replace(transport.topics, ticks="elsewhere")
    assert transport.broker().missing(elsewhere) == ["elsewhere"], "asking did not create it"


def test_what_was_alerted_on_is_read_in_both_directions(transport: Transport) -> None:
    topic = transport.topics
    config = config_of(transport, window={"length_ticks": 16})
    assert read_incidents(config_of(transport, alerts={"topic": "elsewhere"})).known is False
    assert read_incidents(config).known
    events = [
        make_alert(state=state, topic=topic.ticks, time_ns=at_ns, opened_ns=100)
        for state, at_ns in ((State.OPENED, 100), (State.RESOLVED, 900))
    ]
    with started(transport) as worker:
        for one in events:
            value = encode_alert(one, source="here", detected_ns=0)
            commit(worker, Outbox([Message(b"EURUSD", value)]), {}, {})
    publish(transport, topic.alerts, [Message(None, b"no alert", partition=0)])
    found = read_incidents(config)
    assert found.unreadable == 1
    (incident,) = found.incidents
    assert (incident.opened_ns, incident.resolved_ns, incident.length_ticks) == (100, 900, 16)
