"""Topics: see that they are there, with the partitions they need."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import (
    KafkaError,
    TopicAlreadyExistsError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
)

from detector.errors import AccessError, BrokerError, StateError
from detector.transport.broker import Follower, Keeper, Publisher, Reader, Standing, Topics
from detector.transport.kafka.client import KafkaSettings, broker_error, connect
from detector.transport.kafka.follower import KafkaFollower
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
#: Error codes of a topic: it may not be seen; there is none.
_HIDDEN = TopicAuthorizationFailedError.errno
_UNKNOWN = UnknownTopicOrPartitionError.errno
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

    def not_permitted(self, topics: Topics) -> list[str]:
        return self._administer(lambda admin: self._not_permitted(admin, topics))

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
            if check_state and (lacking := self._not_permitted(admin, topics)):
                raise AccessError(
                    f"{self.describe()}: {self._settings.access.security.principal} may not: "
                    f"{', '.join(lacking)}: grant it (docs/security.md)"
                )
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

    def follower(
        self, name: str, topic: str, *, kept_in: str, from_beginning: bool, create: bool
    ) -> Follower:
        def work(admin: Any) -> None:
            if kept_in in admin.list_topics():
                self._require_compacted_topic(admin, kept_in, "which alerts are shown")
            elif not create:
                raise BrokerError(
                    f"{self.describe()}: missing topic {kept_in}; create it with "
                    "cleanup.policy=compact or set topics.create: true"
                )
            else:
                self._create_compacted(admin, kept_in)

        self._administer(work)
        follower = KafkaFollower(self._settings, name, topic, kept_in)
        follower.open(from_beginning=from_beginning)
        return follower

    def _missing(self, admin: Any, topics: Topics) -> list[str]:
        """Raises AccessError for those that nobody shows us."""
        found = self._described(admin, topics)
        hidden = [n for n in _names(topics) if found[n]["error_code"] == _HIDDEN]
        if hidden:
            raise AccessError(
                f"{self.describe()}: {self._settings.access.security.principal} may not see "
                f"{', '.join(hidden)}: operation Describe, or one that implies it, is missing "
                "(docs/security.md), or the topic is"
            )
        return [name for name in _names(topics) if found[name]["error_code"] == _UNKNOWN]

    def _not_permitted(self, admin: Any, topics: Topics) -> list[str]:
        """Where the broker tells."""
        needed = {
            topics.ticks: ("READ",),
            topics.alerts: ("WRITE",),
            topics.dead_letters: ("WRITE",),
            topics.state: ("READ", "WRITE"),
            topics.commands: ("READ",),
        }
        lacking: list[str] = []
        for name, topic in self._described(admin, topics).items():
            allowed = topic.get("authorized_operations") or needed[name]
            lacking += [
                f"operation {operation.capitalize()} on topic {name!r}"
                for operation in needed[name]
                if topic["error_code"] == 0 and operation not in allowed
            ]
        return lacking

    def _described(self, admin: Any, topics: Topics) -> dict[str, dict[str, Any]]:
        return {t["name"]: t for t in admin.describe_topics(list(_names(topics)))}

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

    def _create_compacted(self, admin: Any, name: str) -> None:
        spec = {
            "num_partitions": 1,
            "replication_factor": self._settings.replication_factor,
            "configs": _STATE_TOPIC,
        }
        with contextlib.suppress(TopicAlreadyExistsError):  # another target's was quicker
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
        found: dict[str, Any] = {}
        why: object = "no permission: operation DescribeConfigs"  # the client does not say
        try:
            found = admin.describe_configs([resource])["topic"].get(topic, {})
        except KafkaError as error:
            why = error
        if "cleanup.policy" not in found:
            _LOGGER.warning("%s: its cleanup.policy cannot be read (%s)", topic, why)
            return
        policy = found["cleanup.policy"]["value"]
        if policy != "compact":
            raise StateError(
                f"{self.describe()}: {topic} has cleanup.policy={policy}: its retention would "
                f"delete {what}. Set it to compact, e.g. "
                f"kafka-configs.sh --alter --entity-type topics --entity-name {topic} "
                "--add-config cleanup.policy=compact"
            )

    def _partitions(self, admin: Any, topics: Topics) -> tuple[int, int]:
        """Of the ticks and of the state topic; 0 for one that does not exist."""
        found = self._described(admin, topics)
        return len(found[topics.ticks]["partitions"]), len(found[topics.state]["partitions"])

    def _administer(self, work: Callable[[Any], T]) -> T:
        admin = connect(self._settings, KafkaAdminClient, self._settings.common())
        try:
            return work(admin)
        except KafkaError as error:
            doing = "looking after topics"
            raise broker_error(self._settings, doing, error, operation="Create") from error
        finally:
            admin.close()


def _names(topics: Topics) -> tuple[str, ...]:
    """The ticks topic first: the state topic copies its number of partitions."""
    return topics.ticks, topics.alerts, topics.dead_letters, topics.state, topics.commands
