"""Keras on TensorFlow, imported without TensorFlow's greetings where the process is ours.

TensorFlow writes start-up notes (CPU features, absent GPUs) straight to file descriptor 2, before
any log level is heeded, so the descriptor points elsewhere during the import; an ImportError
still says what is missing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from detector.model import alone


@contextmanager
def _quiet() -> Iterator[None]:
    saved = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(nowhere)
        os.close(saved)


if alone.declared():
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    with _quiet():
        import keras
        import tensorflow

        tensorflow.constant(0.0)  # the first operation greets too
else:
    import keras

__all__ = ["keras"]
