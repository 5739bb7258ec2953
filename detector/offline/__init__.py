"""Training, scoring, encoding and classifying over data files."""
