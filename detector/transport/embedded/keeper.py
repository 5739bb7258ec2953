"""The state of a file whose worker is stopped, to be shown and rewritten."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from detector.core.records import Message
from detector.transport.broker import Outbox, Standing
from detector.transport.embedded.worker import EmbeddedWorker


class EmbeddedKeeper:
    """Holds the worker's lock: no worker runs meanwhile."""

    def __init__(self, worker: EmbeddedWorker) -> None:
        self._worker = worker
        worker.open(lambda _: None)

    def standing(self) -> dict[int, Standing]:
        return self._worker.standing([0])

    def tables(self) -> dict[int, dict[bytes, bytes]]:
        return {p: dict(t) for p, t in self._worker.read_state([0]).tables().items()}

    def replace(self, state: Sequence[Message], positions: Mapping[int, int]) -> None:
        self._worker.commit(Outbox(state=list(state)), positions, {})

    def close(self) -> None:
        self._worker.close()
