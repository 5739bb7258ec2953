"""Topics, offsets, state and alerts in one SQLite file (write-ahead log).

A commit is one SQLite transaction, so on one machine the guarantees are those of Kafka's
transactions. Every topic has one partition, 0. Readers and publishers may be other processes;
there is one worker a file.
"""

from detector.transport.embedded.broker import EmbeddedBroker
from detector.transport.embedded.file import SCHEMA_VERSION, EmbeddedSettings
from detector.transport.embedded.worker import EmbeddedWorker

__all__ = ["SCHEMA_VERSION", "EmbeddedBroker", "EmbeddedSettings", "EmbeddedWorker"]
