"""Apache Kafka through kafka-python: consumer groups and transactions."""

from detector.transport.kafka.broker import KafkaBroker
from detector.transport.kafka.client import KafkaSettings

__all__ = ["KafkaBroker", "KafkaSettings"]
