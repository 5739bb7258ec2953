"""The state of a series as bytes, and back: what survives a restart.

A record is a fixed little-endian struct, one a series:

    version      u1  of this layout; the head of version 1 is shorter
    fingerprint  8 bytes: the model, its window and the layout of the body
    as_of        i8  the offset before which every tick of the series is in this state
    head             open alerts, silence, newest time: they outlive a change of the model
    body             window, previous tick, alert counters: meaningful to one model only

A record of another fingerprint gives its head alone, and the series warms up again. The
watermark, one record a partition, is JSON, for people too; so are the mutes of a partition, where
there are any (mutes.py), and events of its open alerts, just as they were published.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from detector.core.alerts import State
from detector.core.habits import KINDS
from detector.core.pipeline import Pipeline, PipelineState
from detector.core.ticks import Int64
from detector.errors import StateError

VERSION = 2
#: Of the watermark of a partition that has mutes or events of alerts: a program that knows none
#: must not go on there.
VERSION_WITH_EXTRAS = 3
WATERMARK_KEY = b"watermark"
MUTES_KEY = b"mutes"
_SERIES_PREFIX, _ALERT_PREFIX = b"series:", b"alert:"
#: What outlives a change of the model, with its type: a contract, whatever the pipeline does.
_HEAD: tuple[tuple[str, str, tuple[int, ...]], ...] = (
    ("lifecycle.severity", "<i1", ()),
    ("lifecycle.peak", "<f8", ()),
    ("opened.alert_id", "<u1", (16,)),
    ("opened.opened_ns", "<i8", ()),
    ("silence.heard_ns", "<i8", ()),
    ("silence.silent", "?", ()),
    ("silenced.alert_id", "<u1", (16,)),
    ("silenced.opened_ns", "<i8", ()),
    ("intake.seen", "?", ()),
    ("intake.time_ns", "<i8", ()),
)
#: What it holds besides since version 2.
_HEAD_2: tuple[tuple[str, str, tuple[int, ...]], ...] = tuple(
    (f"{kind}.{name}", type_, shape)
    for kind in KINDS
    for name, type_, shape in (
        ("severity", "<i1", ()),
        ("peak", "<f8", ()),
        ("alert_id", "<u1", (16,)),
        ("opened_ns", "<i8", ()),
    )
)


#: What is meaningful to one model only, in the order it always had; what is newer comes after.
_BODY = (
    "lifecycle.exceeded",
    "lifecycle.below",
    "intake.values",
    "windows.history",
    "windows.run",
)


@dataclass(frozen=True, slots=True)
class Deployment:
    """Who writes the state: another one must not go on with it."""

    group: str
    alerts: str


class Judge(msgspec.Struct, frozen=True, kw_only=True):
    """Who judges: a model, and what the configuration says beside its defaults of thresholds and
    alert rules, as JSON."""

    model: str
    settings: str = "{}"


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """Ticks of a partition below the offset `until` were judged by `by`."""

    until: int
    by: Judge


class Watermark(msgspec.Struct, frozen=True, kw_only=True):
    """What a commit left of one partition.

    committed: the offset after the last tick whose results are written
    needed_from: the first tick that is not in the saved state of its series
    event_ns: the partition's event time at needed_from; None before the first tick
    alerts, group: the deployment that wrote it
    by: the process and the number of its transaction
    model, settings: who judges from committed on; settings None: an earlier program did not say
    judged_from: the first tick that it judged; None: no change is known
    changes: who judged before, ascending, of the ticks that a restart may read again
    """

    version: int
    committed: int
    needed_from: int
    event_ns: int | None
    group: str
    alerts: str
    model: str
    by: str = ""
    settings: str | None = None
    judged_from: int | None = None
    changes: tuple[Change, ...] = ()

    def encode(self) -> bytes:
        return msgspec.json.encode(self)

    def judge(self) -> Judge | None:
        """Who judges from committed on; None: not known."""
        if self.settings is None:
            return None
        return Judge(model=self.model, settings=self.settings)


@dataclass(frozen=True, slots=True)
class SavedPartition:
    """The decoded state of one partition. as_of: by series, in the order of the state.

    foreign: series whose record another model wrote; fewer columns, so a state of its own
    ticks_lost: all are taken as foreign, as ticks after them are missing
    heads: the beginning of every record, by series
    mutes: of the partition, as they are kept; None: there were none
    alerts: events of open alerts as they were published, by key
    """

    same: PipelineState
    same_as_of: Int64
    foreign: PipelineState
    foreign_as_of: Int64
    ticks_lost: bool
    heads: Mapping[str, bytes]
    mutes: bytes | None = None
    alerts: Mapping[bytes, bytes] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.same.series) + len(self.foreign.series)


def origin(value: bytes) -> tuple[bytes, int]:
    """Of the record of a series: the fingerprint of who wrote it, and its as_of. Of a record that
    is damaged anything: decode refuses it."""
    return value[1:9], int.from_bytes(value[9:17], "little", signed=True)


def series_key(name: str) -> bytes:
    return _SERIES_PREFIX + name.encode()


def alert_key(alert_id: str, state: State) -> bytes:
    """Of the event that brought an open alert into a state."""
    return _ALERT_PREFIX + f"{alert_id}:{state.name.lower()}".encode()


def of_partition(table: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """What is kept of a partition as a whole, beside its watermark and its series."""
    return {
        key: value
        for key, value in table.items()
        if key == MUTES_KEY or key.startswith(_ALERT_PREFIX)
    }


def series_of_key(key: bytes) -> str | None:
    """The inverse; None where it is the key of something else."""
    return key.removeprefix(_SERIES_PREFIX).decode() if key.startswith(_SERIES_PREFIX) else None


def decode_watermark(value: bytes, where: str) -> Watermark:
    """Raises StateError if it is damaged or written by a newer program."""
    try:
        head = msgspec.json.decode(value)
        version = head["version"] if isinstance(head, dict) else None
        if isinstance(version, int) and version > VERSION_WITH_EXTRAS:
            raise StateError(
                f"{where}: the state was written by a newer program (version {version}, this one "
                f"reads {VERSION_WITH_EXTRAS}); run the newer program, or start over: detector "
                "state reset"
            )
        return msgspec.json.decode(value, type=Watermark)
    except (msgspec.DecodeError, KeyError, UnicodeDecodeError, RecursionError) as error:
        raise StateError(
            f"{where}: the watermark is damaged ({str(error)[:100]}); start over: "
            "detector state reset"
        ) from None


class StateCodec:
    """Encodes and decodes for one pipeline (its columns, its model)."""

    def __init__(self, pipeline: Pipeline) -> None:
        spec = pipeline.spec()
        head = [*_HEAD, *_HEAD_2]
        known = {name for name, _, _ in head} | set(_BODY)
        body = [
            (name, spec[name][1].newbyteorder("<").str, spec[name][0])
            for name in (*_BODY, *(n for n in spec if n not in known))
        ]
        policy = pipeline.primary.policy
        identity = repr((policy.model_version, policy.length, policy.stride, body))
        self.fingerprint = hashlib.blake2b(identity.encode(), digest_size=8).digest()
        frame = [("version", "<u1"), ("fingerprint", "V8"), ("as_of", "<i8")]
        self._first = np.dtype([*frame, *_HEAD]).itemsize  # a record of version 1 begins with it
        self._fixed = np.dtype([*frame, *head])
        self._whole = np.dtype([*frame, *head, *body])
        self._columns = [name for name, _, _ in (*head, *body)]
        self._fields = int(np.prod(spec["intake.values"][0]))

    @property
    def record_bytes(self) -> int:
        """Of one series, without its key."""
        return self._whole.itemsize

    def encode(self, state: PipelineState, as_of: Int64) -> list[bytes]:
        """One value a series, in order. as_of: (n,) offsets."""
        rows = np.empty(len(state.series), self._whole)
        rows["version"] = VERSION
        rows["fingerprint"] = np.frombuffer(self.fingerprint, "V8")[0]
        rows["as_of"] = as_of
        for name in self._columns:
            rows[name] = state.columns[name]
        raw, size = rows.tobytes(), self._whole.itemsize
        return [raw[at : at + size] for at in range(0, len(raw), size)]

    def decode(
        self,
        partition: int,
        table: Mapping[bytes, bytes],
        where: str,
        *,
        heads_only: bool = False,
        remedy: str = "start over: detector state reset",
    ) -> SavedPartition:
        """The state of a partition by key. where, remedy: for messages; heads_only: as if another
        model had written it. Raises StateError."""
        same: list[tuple[str, bytes]] = []
        foreign: list[tuple[str, bytes]] = []
        for key, value in table.items():
            if key in (WATERMARK_KEY, MUTES_KEY) or key.startswith(_ALERT_PREFIX):
                continue
            name = _series_name(key, where)
            if not value or value[0] > VERSION:
                raise StateError(
                    f"{where}: the state of series {name!r} "
                    + (
                        f"was written by a newer program (version {value[0]}, this one reads "
                        f"{VERSION}); run the newer program"
                        if value
                        else "is empty"
                    )
                    + f", or {remedy}"
                )
            if value[0] < VERSION and len(value) >= self._first:
                value = self._of_this_version(value)
            ours = value[1:9] == self.fingerprint
            if ours and len(value) == self._whole.itemsize and not heads_only:
                same.append((name, value))
            elif len(value) >= self._fixed.itemsize and (not ours or heads_only):
                foreign.append((name, value[: self._fixed.itemsize]))
            else:
                raise StateError(
                    f"{where}: the state of series {name!r} is damaged ({len(value)} bytes, "
                    f"{self._whole.itemsize} expected); {remedy}"
                )
        same, columns, as_of = self._unpack(same, self._whole)
        foreign, head_columns, head_as_of = self._unpack(foreign, self._fixed)
        # The newest time is known, its values are not: the next tick begins a new run.
        head_columns["intake.values"] = np.full((len(foreign), self._fields), np.nan)
        return SavedPartition(
            PipelineState(tuple((partition, name) for name, _ in same), columns),
            as_of,
            PipelineState(tuple((partition, name) for name, _ in foreign), head_columns),
            head_as_of,
            heads_only,
            {name: value[: self._fixed.itemsize] for name, value in (*same, *foreign)},
            table.get(MUTES_KEY),
            {key: value for key, value in table.items() if key.startswith(_ALERT_PREFIX)},
        )

    def _of_this_version(self, value: bytes) -> bytes:
        """A record of version 1, with nothing open that it did not know of."""
        nothing = bytes(self._fixed.itemsize - self._first)
        return bytes([VERSION]) + value[1 : self._first] + nothing + value[self._first :]

    def head_of(self, value: bytes) -> bytes:
        """The beginning of a record of this version, which means the same to every model."""
        return value[: self._fixed.itemsize]

    def without_window(self, head: bytes) -> bytes:
        """The beginning of a record as a record of its own, which every model finds foreign."""
        return head[:1] + bytes(8) + head[9:]

    def _unpack(
        self, records: list[tuple[str, bytes]], dtype: np.dtype[Any]
    ) -> tuple[list[tuple[str, bytes]], dict[str, NDArray[Any]], Int64]:
        """Without the series of which no tick was ever accepted: earlier versions kept them."""
        rows = np.frombuffer(b"".join(value for _, value in records), dtype)
        seen = rows["intake.seen"]
        if not seen.all():
            rows = rows[seen]
            records = [one for one, was in zip(records, seen.tolist(), strict=True) if was]
        names = [name for name in dtype.names or () if name in self._columns]
        return records, {name: rows[name] for name in names}, rows["as_of"].astype(np.int64)


def _series_name(key: bytes, where: str) -> str:
    try:
        if not key.startswith(_SERIES_PREFIX):
            raise ValueError(key)
        return key.removeprefix(_SERIES_PREFIX).decode()
    except ValueError:
        raise StateError(
            f"{where}: {key[:60]!r} is no key of a series' state: is the topic used for something "
            "else? name another in state.topic, or start over: detector state reset"
        ) from None
