"""The broker of one file: what it has, and who may work with it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from detector.errors import BrokerError
from detector.transport.broker import Follower, Keeper, Publisher, Reader, Standing, Topics
from detector.transport.embedded.file import (
    EmbeddedSettings,
    connection,
    open_file,
    reported,
    saved_state,
    standing,
    topic_id,
    writing,
)
from detector.transport.embedded.follower import EmbeddedFollower
from detector.transport.embedded.keeper import EmbeddedKeeper
from detector.transport.embedded.streams import EmbeddedPublisher, EmbeddedReader
from detector.transport.embedded.worker import EmbeddedWorker


class EmbeddedBroker:
    def __init__(
        self, settings: EmbeddedSettings, *, now_s: Callable[[], float] = time.time
    ) -> None:
        self._settings = settings
        self._now_s = now_s

    def describe(self) -> str:
        return f"embedded broker {self._settings.path}"

    def missing(self, topics: Topics) -> list[str]:
        wanted = [topics.ticks, topics.alerts, topics.dead_letters, topics.commands]
        if not self._settings.path.exists():
            return wanted
        with reported(self._settings.path), connection(self._settings) as database:
            known = {name for (name,) in database.execute("SELECT name FROM topics")}
        return [name for name in wanted if name not in known]

    def not_permitted(self, topics: Topics) -> list[str]:
        return []  # a file that cannot be written says so itself

    def prepare(
        self,
        topics: Topics,
        *,
        partitioned: Sequence[str],
        create: bool,
        check_state: bool = True,
    ) -> None:
        missing = self.missing(topics)
        if missing and not create:
            raise BrokerError(
                f"{self.describe()}: missing topics {', '.join(missing)}; set topics.create: true"
            )
        with (
            reported(self._settings.path),
            connection(self._settings) as database,
            writing(database),
        ):
            for name in missing:
                topic_id(database, name)

    def grow_state(self, topics: Topics) -> tuple[int, int]:
        return 1, 1

    def progress(self, topics: Topics) -> dict[int, Standing]:
        with reported(self._settings.path), connection(self._settings) as database:
            return {0: standing(database, topics.ticks)}

    def saved(self, topics: Topics) -> dict[int, dict[bytes, bytes]]:
        with reported(self._settings.path), connection(self._settings) as database:
            return saved_state(database, topics.ticks, [0])

    def worker(self, topics: Topics) -> EmbeddedWorker:
        return EmbeddedWorker(self._settings, topics, self._now_s)

    def keeper(self, topics: Topics) -> Keeper:
        return EmbeddedKeeper(EmbeddedWorker(self._settings, topics, self._now_s))

    def publisher(self) -> Publisher:
        return EmbeddedPublisher(self._settings.path, open_file(self._settings), self._now_s)

    def reader(self, topic: str, *, from_beginning: bool) -> Reader:
        database = open_file(self._settings)
        return EmbeddedReader(self._settings.path, database, topic, from_beginning)

    def follower(
        self, name: str, topic: str, *, kept_in: str, from_beginning: bool, create: bool
    ) -> Follower:
        return EmbeddedFollower(self._settings, name, topic, from_beginning=from_beginning)
