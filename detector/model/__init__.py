"""Architectures, training and export. TensorFlow lives here and nowhere else."""
