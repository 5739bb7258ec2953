"""Workers of a real Kafka that poll in the background."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, TypeVar

from kafka import KafkaAdminClient

from detector.core.records import RecordBlock
from detector.errors import TransactionError
from detector.transport.broker import Release, Worker
from tests.contracts.transports import (
    Kafka,
    keep,
    values,
    working,
)
from tests.processes import DEADLINE_S, wait_for

T = TypeVar("T")


@contextmanager
def administering(transport: Kafka) -> Iterator[Any]:
    admin: Any = KafkaAdminClient(bootstrap_servers=transport.settings.bootstrap_servers)
    try:
        yield admin
    finally:
        admin.close()


class Member:
    """A worker in a thread of its own that does nothing but poll, as the others of its group wait
    for it: a poll in the middle of a rebalance lasts until all have joined."""

    def __init__(self, worker: Worker) -> None:
        self.lost: list[frozenset[int]] = []
        self.gained: list[frozenset[int]] = []
        self.blocks: list[RecordBlock] = []
        self.failures: list[Exception] = []
        self.ended = False
        self._worker = worker
        self._asked: queue.Queue[tuple[Callable[[Worker], Any], Future[Any]]] = queue.Queue()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def do(self, action: Callable[[Worker], T]) -> T:
        """Between two polls."""
        answer: Future[T] = Future()
        self._asked.put((action, answer))
        return answer.result(DEADLINE_S)

    def end(self) -> None:
        self.ended = True
        self._thread.join(DEADLINE_S)

    @property
    def held(self) -> frozenset[int]:
        held: frozenset[int] = frozenset()
        for lost, gained in zip(self.lost, self.gained, strict=True):
            held = (held - lost) | gained
        return held

    def values(self, partition: int) -> list[int]:
        return values(self.blocks, partition)

    def wait(self, condition: Callable[[], object], what: str) -> None:
        wait_for(lambda: bool(condition() or self.failures), what)
        assert condition(), f"{what}: {self.failures}"

    def _work(self) -> None:
        while not self.ended:
            with contextlib.suppress(queue.Empty):
                action, answer = self._asked.get_nowait()
                try:
                    answer.set_result(action(self._worker))
                except BaseException as error:  # noqa: BLE001  # it is for who asked
                    answer.set_exception(error)
            try:
                self.blocks += self._worker.poll(max_records=1000, max_bytes=10**7, timeout_s=0.1)
            except TransactionError as error:
                self.failures.append(error)
                self._worker.reopen()
            lost, gained = self._worker.changes()
            if lost or gained:
                self.lost.append(lost)
                self.gained.append(gained)


def reads(member: Member, partition: int, expected: list[int]) -> bool:
    return member.values(partition) == expected


@contextmanager
def polling(transport: Kafka, release: Release = keep) -> Iterator[Member]:
    with working(transport, release) as worker:
        member = Member(worker)
        try:
            yield member
        finally:
            member.end()
