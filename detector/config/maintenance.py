"""Options of maintenance: mutes, and when silence is expected."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from detector.config.section import Section, about

_Pattern = Annotated[
    str,
    Meta(min_length=1, max_length=500),
    about("a pattern of their names: * any text, ? one character"),
]
_Lasts = Annotated[str, about("how long, by the same clocks: 8h, 30m, 1h30m")]
_Zone = Annotated[str, about("an IANA name like Europe/Zurich, or UTC")]


class MuteConfig(Section, frozen=True):
    """Alerts of these series carry muted: true. Within since and until, or in windows that cron and
    lasts name, or both."""

    series: _Pattern
    since: Annotated[str | None, about("event time, ISO 8601; without offset UTC")] = None
    until: Annotated[str | None, about("the same")] = None
    cron: Annotated[str | None, about("when a window begins: minute hour day month weekday")] = None
    lasts: _Lasts | None = None
    time_zone: _Zone = "UTC"
    reason: str = ""
    all: Annotated[bool, about("needed where the pattern is * alone")] = False


class QuietConfig(Section, frozen=True):
    """A time at which it is expected that these series are not heard."""

    cron: Annotated[str, about("when it begins: minute hour day month weekday")]
    lasts: _Lasts
    time_zone: _Zone = "UTC"
    series: _Pattern = "*"


class SilenceConfig(Section, frozen=True):
    """When window.silence_s does not count."""

    expected: Annotated[
        tuple[QuietConfig, ...],
        Meta(max_length=1000),
        about(
            "windows by the clocks of a time zone, for instance\n"
            "  expected:\n"
            '    - {cron: "0 22 * * 5", lasts: 2d, time_zone: Europe/Zurich, series: "CH.*"}\n'
            "A series is silent once window.silence_s has passed outside of them."
        ),
    ] = ()


class CommandsConfig(Section, frozen=True):
    """What all workers are told while they run: mutes of `detector mute`."""

    topic: Annotated[
        str | None, about("compacted, of one partition; null: state.topic with -commands behind it")
    ] = None
