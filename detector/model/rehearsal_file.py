"""The rehearsal as a file of the model directory: rehearsal.npz."""

from __future__ import annotations

import io
import zipfile

import numpy as np

from detector.core.rehearsal import Rehearsal


def to_bytes(rehearsal: Rehearsal) -> bytes:
    """Scores in single precision."""
    file = io.BytesIO()
    np.savez_compressed(
        file,
        names=np.array(rehearsal.names, np.str_),
        slot=rehearsal.slot.astype(np.int32),
        time_ns=rehearsal.time_ns,
        score=rehearsal.score.astype(np.float32),
    )
    return file.getvalue()


def from_bytes(content: bytes) -> Rehearsal:
    """Raises ValueError, KeyError and OSError where it is damaged."""
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            slot, time_ns = file["slot"].astype(np.int64), file["time_ns"].astype(np.int64)
            score = file["score"].astype(np.float64)
            names = tuple(file["names"].tolist())
    except zipfile.BadZipFile as error:
        raise ValueError(f"rehearsal.npz: {error}") from None
    columns = (slot, time_ns, score)
    sound = len({column.shape for column in columns}) == 1 and slot.ndim == 1 and len(slot) > 0
    if not (sound and (np.diff(slot) >= 0).all() and 0 <= slot[0] <= slot[-1] < len(names)):
        raise ValueError("rehearsal.npz: its columns contradict each other")
    if not np.isfinite(score).all():
        raise ValueError("rehearsal.npz: a score is no number")
    return Rehearsal(names, slot, time_ns, score)
