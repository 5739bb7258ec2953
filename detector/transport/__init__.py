"""Where ticks come from and alerts go: Kafka, or one SQLite file."""
