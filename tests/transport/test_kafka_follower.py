"""A follower of a real Kafka whose group has forgotten it."""

from __future__ import annotations

import pytest

from detector.core.records import Message
from tests.contracts.test_follower_contract import alerts, following, take
from tests.contracts.transports import Kafka
from tests.transport.members import administering

pytestmark = pytest.mark.kafka


def test_offsets_that_the_group_has_forgotten_are_those_of_the_table(transport: Kafka) -> None:
    """As after offsets.retention.minutes without a commit: nothing is told again, nothing left
    out."""
    alerts(transport, 1, 2, 3)
    with following(transport) as follower:
        first = take(follower, 3)[0]
        follower.commit([Message(b"a", b"1")], {0: first.offset + 1})
    alerts(transport, 4)
    with administering(transport) as admin:
        admin.delete_groups([f"{transport.topics.alerts}-one"])
    with following(transport, from_beginning=False) as follower:
        assert not follower.fresh
        assert follower.table() == {b"a": b"1"}
        assert [r.value for r in take(follower, 3)] == [b"2", b"3", b"4"]
