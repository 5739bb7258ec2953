"""The pure rooms: no I/O, clock, environment, metrics, Kafka or TensorFlow."""
