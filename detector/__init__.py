"""Streaming anomaly detection for high-frequency time series with an LSTM autoencoder."""

__version__ = "0.1.0"
