"""What all workers are told while they run, as records of a compacted topic: the newest record of
a key counts, and one without a value takes it back.

Keys: `mute:ID`. The value is JSON.
"""

from __future__ import annotations

import msgspec

from detector.core.mutes import Mute, Schedule

_MUTE = b"mute:"


def mute_key(identity: str) -> bytes:
    return _MUTE + identity.encode()


def encode_mute(mute: Mute) -> bytes:
    return msgspec.json.encode(mute)


def decode_mute(key: bytes | None, value: bytes | None) -> tuple[str, Mute | None]:
    """(id, None: it is taken back). Raises ValueError where it is no mute."""
    if key is None or not key.startswith(_MUTE):
        raise ValueError(f"{key!r:.60} is no key of a command")
    identity = key.removeprefix(_MUTE).decode()
    if value is None:
        return identity, None
    try:
        mute = msgspec.json.decode(value, type=Mute)
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    if mute.id != identity:
        raise ValueError(
            f"the id in the value is {mute.id!r:.60}, that in the key {identity!r:.60}"
        )
    Schedule.of(mute)
    return identity, mute
