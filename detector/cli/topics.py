"""Commands that publish to topics and follow them: publish, alerts, dead-letters."""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import sys

from detector.cli.bridge import add_bridge_arguments, asks_for_bridge, run_bridge
from detector.cli.terminal import (
    Add,
    add_data_arguments,
    data_files,
    moment,
    progress_bar,
    read_config,
)
from detector.clients.sinks import SINKS, open_sink
from detector.errors import UsageError

_NAMED = 10  # bad rows; the rest is only counted


def add_commands(add: Add) -> None:
    publish = add("publish", _publish, "Publish the ticks of data files, or of standard input")
    add_data_arguments(publish, "; - or SERIES=-: standard input, JSON lines or CSV")
    publish.add_argument(
        "--strict", action="store_true", help="end at a row that cannot be read, not skip it"
    )
    publish.add_argument("--rate", type=float, metavar="R", help="ticks a second; default: all")
    publish.add_argument("--json", action="store_true")

    alerts = add("alerts", _alerts, "Follow the alert topic")
    alerts.add_argument("--from-beginning", action="store_true")
    alerts.add_argument(
        "--exit", action="store_true", help="end when the ticks there are now are worked off"
    )
    alerts.add_argument(
        "--to", metavar="SINK", default="lines", help=f"{', '.join(SINKS)}; default: lines"
    )
    alerts.add_argument(
        "--json",
        dest="to",
        action="store_const",
        const="json",
        help="the events as they are, one a line",
    )

    add_bridge_arguments(alerts)

    letters = add("dead-letters", _dead_letters, "Show dead letters, or publish them again")
    letters.add_argument("--reason", metavar="R", help="only those rejected for R")
    letters.add_argument("--since", metavar="TIME", help="only those written from this time on")
    letters.add_argument(
        "--republish",
        action="store_true",
        help="publish the raw records to the ticks topic again, after a fix",
    )
    letters.add_argument("--json", action="store_true", help="one JSON object a line")


def _publish(options: argparse.Namespace) -> int:
    from detector.clients.publish import Feed, publish
    from detector.core.features import FeatureSet
    from detector.data.tables import refuse

    config = read_config(options)
    fields = None
    if not isinstance(config.features, str):
        fields = FeatureSet.parse(config.features).fields
    if options.rate is not None and not 0 < options.rate < math.inf:
        raise UsageError("--rate must be a number above 0")
    files = data_files(options)
    streams = [str(file.path) == "-" for file in files]
    if sum(streams) > 1:
        raise UsageError("--data: there is one standard input")
    if any(streams) and sys.stdin is None:
        raise UsageError("--data -: standard input is closed")
    feeds = [
        Feed(file, sys.stdin.buffer if stream else None)
        for file, stream in zip(files, streams, strict=True)
    ]
    skipped = 0

    def skip(wrong: str) -> None:
        nonlocal skipped
        skipped += 1
        if skipped <= _NAMED:
            print(f"detector: skipped: {wrong}", file=sys.stderr)

    with progress_bar("publish", " ticks") as bar:
        total = publish(
            config,
            feeds,
            fields=fields,
            rate=options.rate,
            sent=bar.update,
            wrong=refuse if options.strict else skip,
        )
    if options.json:
        print(json.dumps({"published": total, "skipped": skipped}))
    else:
        rows = f", {skipped} rows skipped" if skipped else ""
        print(f"published {total} ticks to {config.input.topic}{rows}")
    return 0


def _alerts(options: argparse.Namespace) -> int:
    from detector.clients.alerts import follow_alerts, read_alerts

    config = read_config(options)
    if asks_for_bridge(options):
        return run_bridge(options, config)
    show = open_sink(options.to)
    if not options.exit:
        follow_alerts(config, from_beginning=options.from_beginning, show=show)
    left = read_alerts(config, from_beginning=options.from_beginning, show=show)
    if left:
        print(
            f"detector: {left} records of {config.input.topic} are not processed, and none has "
            "been for a while: is a detector running?",
            file=sys.stderr,
        )
    return 0


def _dead_letters(options: argparse.Namespace) -> int:
    from detector.clients.dead_letters import as_json, letter_line, read_letters, republish

    config = read_config(options)
    letters = read_letters(config, reason=options.reason, since_ns=moment(options.since))
    if options.republish:
        done = republish(config, letters)
        if options.json:
            print(json.dumps(dataclasses.asdict(done)))
            return 0
        print(f"published {done.published} records to {config.input.topic} again")
        for count, why in (
            (done.cut_off, "only their beginning was kept (dead_letters.max_bytes)"),
            (done.elsewhere, "they came from another ticks topic"),
            (done.late, "they are late, now as then"),
        ):
            if count:
                print(f"{count} were not: {why}")
        return 0
    for letter in letters:
        print(json.dumps(as_json(letter)) if options.json else letter_line(letter), flush=True)
    return 0
