"""Apache Kafka through kafka-python: consumer groups and transactions."""

from detector.transport.kafka.access import Access
from detector.transport.kafka.broker import KafkaBroker
from detector.transport.kafka.client import KafkaSettings
from detector.transport.kafka.security import Security, Source
from detector.transport.kafka.sources import command, file, given

__all__ = [
    "Access",
    "KafkaBroker",
    "KafkaSettings",
    "Security",
    "Source",
    "command",
    "file",
    "given",
]
