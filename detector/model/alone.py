"""Whether this process does nothing but train, so that we may decide for it.

Keras on TensorFlow takes hold of every GPU, and writes start-up notes that are no news to somebody
who trains on a CPU. Our commands hide the GPUs and the notes; a program that imports this package
as a library decides for itself.
"""

from __future__ import annotations

_ours = False


def declare() -> None:
    """For a command, before anything is trained."""
    global _ours
    _ours = True


def declared() -> bool:
    return _ours
