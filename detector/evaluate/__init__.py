"""Measures of detection, and the comparison of models."""
