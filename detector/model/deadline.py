"""The end of a training that may take only so long. TensorFlow is imported with this module."""

from __future__ import annotations

import time

from detector.model.backend import keras


class Deadline(keras.callbacks.Callback):  # type: ignore[misc]  # keras ships no types
    """Ends a training after max_seconds (None: never), within an epoch too: what is learnt by then
    is judged as at the end of an epoch."""

    def __init__(self, max_seconds: float | None) -> None:
        super().__init__()
        self._max_seconds, self._deadline_s = max_seconds, float("inf")

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        if self._max_seconds is not None:
            self._deadline_s = time.monotonic() + self._max_seconds

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        if time.monotonic() >= self._deadline_s:
            self.model.stop_training = True
