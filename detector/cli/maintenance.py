"""Commands of maintenance: mute, unmute."""

from __future__ import annotations

import argparse
import getpass
import json
import secrets
import sys
import time
from typing import TYPE_CHECKING, Any

from detector.cli.terminal import Add, moment, read_config
from detector.errors import UsageError

if TYPE_CHECKING:
    from detector.clients.mutes import Listed
    from detector.core.mutes import Mute

_FAR_AHEAD_NS = 3600 * 10**9


def add_commands(add: Add) -> None:
    mute = add("mute", _mute, "Mute the alerts of some series for a time, or list the mutes")
    mute.add_argument(
        "series", metavar="PATTERN|list", help="of their names: * any text, ? one character; list"
    )
    mute.add_argument("--for", dest="lasts", metavar="D", help="how long: 30m, 2h, 1d")
    mute.add_argument(
        "--from", dest="since", metavar="TIME", help="event time (ISO 8601); default: now"
    )
    mute.add_argument("--until", metavar="TIME", help="instead of --for")
    mute.add_argument("--reason", default="", metavar="TEXT", help="told in the log and the list")
    mute.add_argument("--by", metavar="NAME", help="who; default: the user")
    mute.add_argument("--all", action="store_true", help="yes, all series")
    mute.add_argument("--json", action="store_true")

    unmute = add("unmute", _unmute, "Take a mute back")
    unmute.add_argument("id", metavar="ID", help="or how it begins: detector mute list")
    unmute.add_argument("--json", action="store_true")


def _mute(options: argparse.Namespace) -> int:
    from detector.clients.mutes import give, known, matching
    from detector.core.mutes import Mute
    from detector.core.patterns import Pattern

    if options.series == "list":
        return _list(options)
    config = read_config(options)
    now_ns = time.time_ns()
    since_ns, until_ns = _span(options, now_ns)
    there = known(config)
    matched = matching(options.series, there.series)
    if not options.all:
        if Pattern(options.series).matches_everything:
            raise UsageError(f"{options.series!r} mutes every series; if that is meant: --all")
        if matched == len(there.series) > 1:
            raise UsageError(
                f"{options.series!r} matches all {matched} series there are; if that is meant: "
                "--all"
            )
    mute = Mute(
        id=secrets.token_hex(4),
        series=options.series,
        since_ns=since_ns,
        until_ns=until_ns,
        reason=options.reason,
        by=_user() if options.by is None else options.by,
        made_ns=now_ns,
    )
    give(config, mute, event_ns=there.event_ns)
    notes = _notes(mute, matched, len(there.series), there.event_ns)
    if options.json:
        print(json.dumps(_as_json(mute) | {"matches": matched, "notes": notes}))
    else:
        print(
            f"muted {mute.series} as {mute.id} {_times(mute)}: matches {matched} of "
            f"{len(there.series)} series"
        )
        for note in notes:
            print(f"note: {note}", file=sys.stderr)
    return 0


def _span(options: argparse.Namespace, now_ns: int) -> tuple[int, int]:
    from detector.core.durations import parse_duration
    from detector.core.moments import LAST_NS

    if (options.lasts is None) == (options.until is None):
        raise UsageError("a mute has an end: give --for or --until")
    since_ns = moment(options.since)
    since_ns = now_ns if since_ns is None else since_ns
    until_ns = moment(options.until)
    if until_ns is None:
        try:
            until_ns = since_ns + parse_duration(options.lasts) * 10**9
        except ValueError as error:
            raise UsageError(f"--for: {error}") from None
    if until_ns <= since_ns:
        raise UsageError("--until: the mute ends before it begins")
    if until_ns > LAST_NS:
        raise UsageError("--for: the mute ends after the year 2262")
    return since_ns, until_ns


def _notes(mute: Mute, matched: int, series: int, event_ns: int | None) -> list[str]:
    from detector.core.moments import rfc3339

    notes = []
    if series and not matched:
        notes.append("the pattern matches no series there is now; those that come will be muted")
    assert mute.since_ns is not None
    assert mute.until_ns is not None
    if event_ns is not None:
        if mute.until_ns <= event_ns:
            notes.append(f"the newest tick is of {rfc3339(event_ns)}: the mute is over already")
        elif mute.since_ns > event_ns + _FAR_AHEAD_NS:
            notes.append(
                f"the newest tick is of {rfc3339(event_ns)}: the mute begins when the ticks get "
                "there"
            )
    return notes


def _list(options: argparse.Namespace) -> int:
    from detector.clients.mutes import list_mutes

    listed, garbled = list_mutes(read_config(options))
    if options.json:
        print(json.dumps([_listed_as_json(one) for one in listed]))
    for one in listed if not options.json else ():
        mute, where = one.mute, "configuration" if one.configured else mute_by(one.mute)
        reason = f"  {mute.reason}" if mute.reason else ""
        print(f"{mute.id:16} {one.state:9} {mute.series:20} {_times(mute)}  {where}{reason}")
    if garbled:
        print(f"note: {garbled} records of the commands topic cannot be used", file=sys.stderr)
    return 0


def _unmute(options: argparse.Namespace) -> int:
    from detector.clients.mutes import take_back

    mute = take_back(read_config(options), options.id)
    print(json.dumps(_as_json(mute)) if options.json else f"unmuted {mute.series} ({mute.id})")
    return 0


def mute_by(mute: Mute) -> str:
    return f"by {mute.by}" if mute.by else "by nobody named"


def _times(mute: Mute) -> str:
    from detector.core.durations import write_duration
    from detector.core.moments import rfc3339

    parts = []
    if mute.since_ns is not None:
        parts.append(f"from {rfc3339(mute.since_ns)[:19]}Z")
    if mute.until_ns is not None:
        parts.append(f"until {rfc3339(mute.until_ns)[:19]}Z")
    if mute.windows is not None:
        lasts = write_duration(mute.windows.lasts_s)
        parts.append(f"at {mute.windows.cron} for {lasts} ({mute.windows.time_zone})")
    return " ".join(parts)


def _as_json(mute: Mute) -> dict[str, Any]:
    from detector.core.moments import rfc3339

    windows = mute.windows
    return {
        "id": mute.id,
        "series": mute.series,
        "from": None if mute.since_ns is None else rfc3339(mute.since_ns),
        "until": None if mute.until_ns is None else rfc3339(mute.until_ns),
        "windows": None
        if windows is None
        else {"cron": windows.cron, "lasts_s": windows.lasts_s, "time_zone": windows.time_zone},
        "reason": mute.reason,
        "by": mute.by,
    }


def _listed_as_json(one: Listed) -> dict[str, Any]:
    return _as_json(one.mute) | {"state": one.state, "configured": one.configured}


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may have no name for its user
        return ""
