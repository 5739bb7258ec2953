"""Data files, labels and simulated ticks."""
