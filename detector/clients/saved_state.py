"""The saved state, shown and replaced on purpose, while no worker runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from detector.config import Config
from detector.core.records import Message
from detector.core.state import (
    VERSION,
    WATERMARK_KEY,
    Watermark,
    decode_watermark,
    of_partition,
)
from detector.errors import StateError
from detector.transport.broker import Standing
from detector.transport.configured import deployment, make_broker, require_broker, topics

Target = Literal["committed", "state", "earliest", "latest"]


@dataclass(frozen=True, slots=True)
class PartitionState:
    """committed: the group's offset; state: the offset the saved state belongs to."""

    partition: int
    first: int
    end: int
    committed: int | None
    state: int | None
    needed_from: int | None
    series: int
    bytes: int
    model: str | None


def show_state(config: Config) -> list[PartitionState]:
    """What is saved of each partition of the ticks topic. Raises DataError where there is no
    broker."""
    require_broker(config)
    keeper = make_broker(config).keeper(topics(config))
    try:
        standing, tables = keeper.standing(), keeper.tables()
    finally:
        keeper.close()
    rows = []
    for partition, stands in sorted(standing.items()):
        table = tables.get(partition, {})
        mark = _watermark(config, partition, table)
        rows.append(
            PartitionState(
                partition=partition,
                first=stands.first,
                end=stands.end,
                committed=stands.committed,
                state=None if mark is None else mark.committed,
                needed_from=None if mark is None else mark.needed_from,
                series=len(table.keys() - {WATERMARK_KEY, *of_partition(table)}),
                bytes=sum(len(k) + len(v) for k, v in table.items()),
                model=None if mark is None else mark.model,
            )
        )
    return rows


def reset_state(config: Config, to: Target) -> list[str]:
    """Make state and committed offsets agree again. "state" keeps the state and moves the
    offsets to it; the others drop it and start there with empty windows. Returns what was done,
    a line a partition."""
    broker = make_broker(config)
    keeper = broker.keeper(topics(config))
    try:
        standing, tables = keeper.standing(), keeper.tables()
        state: list[Message] = []
        positions: dict[int, int] = {}
        lines = []
        for partition, stands in sorted(standing.items()):
            table = tables.get(partition, {})
            where = f"{config.input.topic}/{partition}"
            if to == "state":
                mark = _watermark(config, partition, table)
                if mark is None:
                    lines.append(f"{where}: nothing is saved")
                    continue
                positions[partition] = mark.committed
                lines.append(f"{where}: goes on at {mark.committed} with its state")
                continue
            position = _position(stands, to)
            if partition not in tables and config.transport == "kafka":
                raise StateError(
                    f"{config.state.topic} has no partition {partition}: detector state grow first"
                )
            state += [
                Message(key, None, partition=partition) for key in table if key != WATERMARK_KEY
            ]
            ours = deployment(config)
            fresh = Watermark(
                version=VERSION,
                committed=position,
                needed_from=position,
                event_ns=None,
                group=ours.group,
                alerts=ours.alerts,
                model="",
            )
            state.append(Message(WATERMARK_KEY, fresh.encode(), partition=partition))
            positions[partition] = position
            lines.append(f"{where}: begins at {position} with empty windows")
        if positions:
            keeper.replace(state, positions)
        return lines
    finally:
        keeper.close()


def grow_state(config: Config) -> tuple[int, int]:
    """Accept that the ticks topic has got more partitions; (before, after)."""
    broker = make_broker(config)
    return broker.grow_state(topics(config))


def _watermark(config: Config, partition: int, table: dict[bytes, bytes]) -> Watermark | None:
    value = table.get(WATERMARK_KEY)
    if value is None:
        return None
    return decode_watermark(value, f"{config.state.topic}/{partition}")


def _position(stands: Standing, to: Target) -> int:
    if to == "latest":
        return stands.end
    if to == "earliest" or stands.committed is None:
        return stands.first
    return min(max(stands.committed, stands.first), stands.end)
