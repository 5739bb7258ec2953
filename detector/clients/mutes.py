"""Mutes from beside the workers: given, listed, taken back."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from detector.config import Config, configured_mutes
from detector.core.commands import decode_mute, encode_mute, mute_key
from detector.core.mutes import Mute, Schedule
from detector.core.patterns import Pattern
from detector.core.records import Message
from detector.core.state import WATERMARK_KEY, decode_watermark, series_of_key
from detector.errors import DataError, UsageError
from detector.transport.broker import Broker
from detector.transport.configured import make_broker, prepare_topics, require_broker, topics

#: A log may end in what no poll returns: so long a silence is an end too.
_QUIET_S = 5.0
#: More are no maintenance but another configuration.
MOST = 1000
#: So long one that is over is listed.
_KEPT_NS = 7 * 86_400 * 10**9


@dataclass(frozen=True, slots=True)
class Known:
    """What the saved state tells: the series, and the newest event time of a partition, if any has
    one. It is as old as the last commits."""

    series: frozenset[str]
    event_ns: int | None


@dataclass(frozen=True, slots=True)
class Listed:
    """state: pending, in force, over or recurring (not now), by the newest event time; configured:
    from config.yaml."""

    mute: Mute
    state: str
    configured: bool


def known(config: Config) -> Known:
    """Asks the broker, while workers run. Raises DataError where there is none."""
    require_broker(config)
    names, clocks = set[str](), list[int]()
    for partition, table in make_broker(config).saved(topics(config)).items():
        for key, value in table.items():
            if key == WATERMARK_KEY:
                mark = decode_watermark(value, f"{config.state.topic}/{partition}")
                clocks += [] if mark.event_ns is None else [mark.event_ns]
            elif (name := series_of_key(key)) is not None:
                names.add(name)
    return Known(frozenset(names), max(clocks, default=None))


def matching(series: str, names: Iterable[str]) -> int:
    """How many of the names the pattern matches. Raises UsageError where it is none."""
    try:
        pattern = Pattern(series)
    except ValueError as error:
        raise UsageError(str(error)) from None
    return sum(map(pattern.matches, names))


def give(config: Config, mute: Mute, *, event_ns: int | None) -> None:
    """Tell all workers, and take back what has been over for long, by the time of the ticks
    (event_ns) and by this clock. Raises UsageError where the mute says nothing sensible."""
    try:
        Schedule.of(mute)
    except ValueError as error:
        raise UsageError(str(error)) from None
    broker = make_broker(config)
    prepare_topics(config, broker)
    given, _ = _read(config, broker)
    long_ago_ns = min(time.time_ns(), event_ns or 0) - _KEPT_NS
    over = [m.id for m in given.values() if m.until_ns is not None and m.until_ns < long_ago_ns]
    if len(given) - len(over) >= MOST:
        raise UsageError(f"there are {len(given)} mutes: take some back (detector unmute)")
    messages = [Message(mute_key(identity), None) for identity in over]
    _tell(config, broker, [*messages, Message(mute_key(mute.id), encode_mute(mute))])


def take_back(config: Config, identity: str) -> Mute:
    """The one whose id begins with identity. Raises DataError where none or several do."""
    require_broker(config)
    broker = make_broker(config)
    prepare_topics(config, broker)
    given, _ = _read(config, broker)
    found = [mute for mute in given.values() if mute.id.startswith(identity)]
    if not found and any(m.id.startswith(identity) for m in configured_mutes(config)):
        raise DataError(f"{identity} is from the configuration: take it out of mutes there")
    if len(found) != 1:
        several = ", ".join(mute.id for mute in found)
        raise DataError(
            f"several mutes begin with {identity}: {several}"
            if found
            else f"no mute begins with {identity!r}: detector mute list"
        )
    _tell(config, broker, [Message(mute_key(found[0].id), None)])
    return found[0]


def list_mutes(config: Config) -> tuple[list[Listed], int]:
    """Those of the configuration and those given, and how many records of the commands topic
    cannot be used. Raises DataError where there is no broker."""
    require_broker(config)
    broker = make_broker(config)
    prepare_topics(config, broker)
    given, garbled = _read(config, broker)
    event_ns = known(config).event_ns
    listed = [Listed(mute, _state(mute, event_ns), True) for mute in configured_mutes(config)]
    listed += [Listed(mute, _state(mute, event_ns), False) for mute in given.values()]
    return listed, garbled


def _state(mute: Mute, now_ns: int | None) -> str:
    if now_ns is None:  # there was no tick yet
        return "pending"
    if mute.until_ns is not None and mute.until_ns <= now_ns:
        return "over"
    if mute.since_ns is not None and mute.since_ns > now_ns:
        return "pending"
    if mute.windows is None:
        return "in force"
    windows = Schedule.of(mute).windows
    return "in force" if windows is not None and windows.inside(now_ns) else "recurring"


def _read(config: Config, broker: Broker) -> tuple[dict[str, Mute], int]:
    """The mutes given by id, and the records that cannot be used."""
    mutes, garbled = dict[str, Mute](), 0
    reader = broker.reader(topics(config).commands, from_beginning=True)
    came_s = time.monotonic()
    try:
        while True:
            records = reader.poll(timeout_s=0.1)
            for record in records:
                try:
                    identity, mute = decode_mute(record.key, record.value)
                except ValueError:
                    garbled += 1
                    continue
                if mute is None:
                    mutes.pop(identity, None)
                else:
                    mutes[identity] = mute
            if records:
                came_s = time.monotonic()
            elif reader.at_end() or time.monotonic() - came_s > _QUIET_S:
                return mutes, garbled
    finally:
        reader.close()


def _tell(config: Config, broker: Broker, messages: Sequence[Message]) -> None:
    publisher = broker.publisher()
    try:
        publisher.publish(topics(config).commands, messages)
        publisher.flush()
    finally:
        publisher.close()
