"""Topics: see that they are there, with the partitions they need."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import KafkaError, TopicAlreadyExistsError

from detector.errors import BrokerError, StateError
from detector.transport.broker import Keeper, Publisher, Reader, Standing, Topics
from detector.transport.kafka.client import KafkaSettings, connect
from detector.transport.kafka.keeper import KafkaKeeper
from detector.transport.kafka.streams import KafkaPublisher, KafkaReader
from detector.transport.kafka.worker import KafkaWorker

T = TypeVar("T")
_LOGGER = logging.getLogger("detector.kafka")
#: The broker's own time: tick-to-alert then starts when the tick is in the log.
_TICKS_TOPIC = {"message.timestamp.type": "LogAppendTime"}
_STATE_TOPIC = {
    "cleanup.policy": "compact",
    "segment.bytes": str(32 * 1024 * 1024),
    "min.cleanable.dirty.ratio": "0.1",
}
_COMMANDS_TOPIC = {"cleanup.policy": "compact", "message.timestamp.type": "LogAppendTime"}


class KafkaBroker:
    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings

    def describe(self) -> str:
        return self._settings.where

    def missing(self, topics: Topics) -> list[str]:
        def work(admin: Any) -> list[str]:
            missing = self._missing(admin, topics)
            self._require_compacted(admin, topics, missing)
            return missing

        return self._administer(work)

    def prepare(
        self,
        topics: Topics,
        *,
        partitioned: Sequence[str],
        create: bool,
        check_state: bool = True,
    ) -> None:
        def work(admin: Any) -> None:
            missing = self._missing(admin, topics)
            if missing and not create:
                raise BrokerError(
                    f"{self.describe()}: missing topics {', '.join(missing)}; create them or set "
                    "topics.create: true"
                )
            self._require_compacted(admin, topics, missing)
            for name in missing:  # the ticks topic comes first: the state topic copies its number
                self._create(admin, topics, name, partitioned)
            ticks, state = self._partitions(admin, topics)
            if state < ticks and check_state:
                raise StateError(
                    f"{self.describe()}: {topics.ticks} has {ticks} partitions, its state in "
                    f"{topics.state} {state}: series that move to another partition lose their "
                    "windows and warm up again, and an alert open there stays open; to go on "
                    "like this: detector state grow"
                )

        self._administer(work)

    def grow_state(self, topics: Topics) -> tuple[int, int]:
        def work(admin: Any) -> tuple[int, int]:
            ticks, state = self._partitions(admin, topics)
            if state < ticks:
                admin.create_partitions({topics.state: ticks})
            return state, max(state, ticks)

        return self._administer(work)

    def progress(self, topics: Topics) -> dict[int, Standing]:
        keeper = KafkaKeeper(self._settings, topics)
        try:
            return keeper.standing()
        finally:
            keeper.close()

    def saved(self, topics: Topics) -> dict[int, dict[bytes, bytes]]:
        keeper = KafkaKeeper(self._settings, topics)
        try:
            return keeper.tables()
        finally:
            keeper.close()

    def worker(self, topics: Topics) -> KafkaWorker:
        return KafkaWorker(self._settings, topics)

    def keeper(self, topics: Topics) -> Keeper:
        return KafkaKeeper(self._settings, topics)

    def publisher(self) -> Publisher:
        return KafkaPublisher(self._settings)

    def reader(self, topic: str, *, from_beginning: bool) -> Reader:
        return KafkaReader(self._settings, topic, from_beginning=from_beginning)

    def _missing(self, admin: Any, topics: Topics) -> list[str]:
        there = set(admin.list_topics())
        wanted = (topics.ticks, topics.alerts, topics.dead_letters, topics.state, topics.commands)
        return [name for name in wanted if name not in there]

    def _create(self, admin: Any, topics: Topics, name: str, partitioned: Sequence[str]) -> None:
        number = self._settings.partitions if name in partitioned else 1
        if name == topics.state:
            number, _ = self._partitions(admin, topics)
        spec = {
            "num_partitions": number,
            "replication_factor": self._settings.replication_factor,
            "configs": {
                topics.ticks: _TICKS_TOPIC,
                topics.state: _STATE_TOPIC,
                topics.commands: _COMMANDS_TOPIC,
            }.get(name, {}),
        }
        with contextlib.suppress(TopicAlreadyExistsError):  # somebody else was quicker
            admin.create_topics({name: spec}, wait_for_metadata=True)

    def _require_compacted(self, admin: Any, topics: Topics, missing: Sequence[str]) -> None:
        """A retention would delete the state of quiet series while their alerts are open, and a
        command while it is in force."""
        for topic, what in (
            (topics.state, "the state of series that are quiet for a while"),
            (topics.commands, "mutes that are in force"),
        ):
            if topic not in missing:
                self._require_compacted_topic(admin, topic, what)

    def _require_compacted_topic(self, admin: Any, topic: str, what: str) -> None:
        resource = ConfigResource(ConfigResourceType.TOPIC, topic)
        try:
            found = admin.describe_configs([resource])
        except KafkaError as error:  # not allowed to ask
            _LOGGER.warning("%s: its cleanup.policy cannot be read (%s)", topic, error)
            return
        policy = found["topic"][topic]["cleanup.policy"]["value"]
        if policy != "compact":
            raise StateError(
                f"{self.describe()}: {topic} has cleanup.policy={policy}: its retention would "
                f"delete {what}. Set it to compact, e.g. "
                f"kafka-configs.sh --alter --entity-type topics --entity-name {topic} "
                "--add-config cleanup.policy=compact"
            )

    def _partitions(self, admin: Any, topics: Topics) -> tuple[int, int]:
        """Of the ticks and of the state topic; 0 for one that does not exist."""
        found = {t["name"]: len(t["partitions"]) for t in admin.describe_topics(None)}
        return found.get(topics.ticks, 0), found.get(topics.state, 0)

    def _administer(self, work: Callable[[Any], T]) -> T:
        admin = connect(self._settings, KafkaAdminClient, self._settings.common())
        try:
            return work(admin)
        except KafkaError as error:
            raise BrokerError(f"{self.describe()}: {type(error).__name__}: {error}") from error
        finally:
            admin.close()
