"""What waits for sockets and for files."""

from __future__ import annotations

import selectors
import socket
from contextlib import closing

import pytest

from detector.transport.embedded.file import LONGEST_WAIT_S, SHORTEST_WAIT_S, wait_s
from detector.transport.kafka.waiting import Selector


def test_the_selector_knows_its_sockets_and_says_of_others_without_looking_at_them() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, closing(Selector()) as selector:
        for _ in range(2):  # the client registers for each wait anew
            with pytest.raises(KeyError):
                selector.get_key(ours)
            key = selector.register(ours, selectors.EVENT_READ, "reader")
            assert selector.get_key(ours) == key
            assert selector.select(0) == []
            theirs.send(b"x")
            assert [(k.data, e) for k, e in selector.select(60)] == [
                ("reader", selectors.EVENT_READ)
            ]
            assert ours.recv(1) == b"x"
            key = selector.modify(ours, selectors.EVENT_WRITE, "writer")
            assert selector.get_key(ours) == key
            assert [(k.data, e) for k, e in selector.select(60)] == [
                ("writer", selectors.EVENT_WRITE)
            ]
            selector.unregister(ours)
        with pytest.raises(KeyError):
            selector.unregister(ours)


def test_a_socket_that_is_closed_can_still_be_taken_back() -> None:
    ours, theirs = socket.socketpair()
    with theirs, closing(Selector()) as selector:
        selector.register(ours, selectors.EVENT_READ)
        ours.close()
        selector.unregister(ours)
        with pytest.raises(KeyError):
            selector.get_key(ours)


def test_a_file_is_looked_at_often_after_a_record_and_rarely_where_none_comes() -> None:
    waits = [wait_s(idle) for idle in (0.0, 0.03, 0.05, 60.0)]
    assert waits == sorted(waits)
    assert waits[0] == SHORTEST_WAIT_S < waits[2] < waits[3] == LONGEST_WAIT_S
