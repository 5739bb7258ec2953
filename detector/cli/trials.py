"""Commands to try the detector: demo, simulate."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from detector.cli.terminal import Add, moment, print_table, shown
from detector.errors import UsageError

if TYPE_CHECKING:
    from detector.bench.verdict import Found, Verdict


def add_commands(add: Add) -> None:
    demo = add("demo", _demo, "Train, run, inject faults, report: all in one", config=False)
    demo.add_argument("--json", action="store_true", help="one JSON object as the last line")
    demo.add_argument("--seed", type=int, default=7)
    demo.add_argument("--keep", type=Path, metavar="DIR", help="work in DIR and leave it there")

    simulate = add("simulate", _simulate, "Write simulated ticks to a CSV file", config=False)
    simulate.add_argument("--out", type=Path, required=True, metavar="FILE")
    simulate.add_argument("--faults-out", type=Path, metavar="FILE", help="the faults, as JSON")
    simulate.add_argument("--series", type=int, default=4)
    simulate.add_argument(
        "--ticks", type=int, default=10_000, help="ticks of each series, on average"
    )
    simulate.add_argument("--faults-per-kind", type=int, default=0)
    simulate.add_argument(
        "--strength",
        type=float,
        nargs="+",
        metavar="X",
        help="of the faults, as multiples of the most the market does itself; default: 2",
    )
    simulate.add_argument(
        "--rhythm", action="store_true", help="an easy rhythm that any network learns, no market"
    )
    simulate.add_argument("--seed", type=int, default=7)
    simulate.add_argument(
        "--start", metavar="TIME", help="time of the first tick (ISO 8601); default: now"
    )


def _demo(options: argparse.Namespace) -> int:
    import tempfile

    from detector.bench.demo import run_demo
    from detector.clients.sinks.lines import alert_line
    from detector.core.alerts import Alert, State

    def say(text: str) -> None:
        print(f"demo: {text}", file=sys.stderr if options.json else sys.stdout, flush=True)

    def show(alert: Alert) -> None:
        if alert.state is not State.RESOLVED:
            say(alert_line(alert))

    with contextlib.ExitStack() as stack:
        if options.keep:
            directory = options.keep
        else:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="detector-")))
        result = run_demo(directory, seed=options.seed, say=say, show=show)
    if options.json:
        print(json.dumps(dataclasses.asdict(result)))
        return 0
    print_table(_summary(result))
    return 0


def _summary(result: Verdict) -> list[tuple[str, str]]:
    def share(found: Found | None) -> str:
        return f"{found.found}/{found.injected}" if found else "-"

    delay = result.tick_to_alert_ms
    rate, budget = result.false_alarms_per_100k_windows, result.budget_per_100k_windows
    strengths = list(result.by_strength)
    return [
        ("ticks", f"{result.ticks}"),
        ("windows scored", f"{result.windows}"),
        ("alerts opened", f"{result.alerts_opened}"),
        ("found of faults of strength", "".join(f"{s:>7}" for s in strengths)),
        *(
            (f"  {kind}", "".join(f"{share(of.get(s)):>7}" for s in strengths))
            for kind, of in result.by_kind.items()
        ),
        ("  all", "".join(f"{share(of):>7}" for of in result.by_strength.values())),
        ("event precision", shown(result.precision)),
        ("event recall", shown(result.recall)),
        ("false alarms", f"{result.false_alarms}, {result.false_alarms_in_news} of them in "
         f"{result.news} bursts of news"),
        ("false alarms per 100 000 windows", f"{shown(rate)} (budget {budget:g})"),
        ("tick to alert, p50", f"{shown(delay['p50'])} ms"),
        ("tick to alert, p99", f"{shown(delay['p99'])} ms"),
        ("wall time", f"{result.wall_s} s"),
    ]  # fmt: skip


def _simulate(options: argparse.Namespace) -> int:
    from detector.data.simulate import simulate, simulate_rhythm, write_csv

    for name, number, least in (
        ("series", options.series, 1),
        ("ticks", options.ticks, 1),
        ("faults-per-kind", options.faults_per_kind, 0),
        ("seed", options.seed, 0),
    ):
        if number < least:
            raise UsageError(f"--{name} must be at least {least}")
    now_ns = time.time_ns() // 10**9 * 10**9
    start_ns = moment(options.start)
    if options.strength and options.rhythm:
        raise UsageError("--strength is of faults in the market, not with --rhythm")
    if any(not 0 < strength <= 100 for strength in options.strength or ()):
        raise UsageError("--strength must be above 0 and at most 100")
    make = simulate_rhythm if options.rhythm else simulate
    chosen = {"strengths": options.strength} if options.strength else {}
    try:
        simulation = make(
            series=options.series,
            ticks_per_series=options.ticks,
            faults_per_kind=options.faults_per_kind,
            seed=options.seed,
            start_ns=now_ns if start_ns is None else start_ns,
            **chosen,
        )
    except ValueError as error:
        raise UsageError(str(error)) from None
    try:
        write_csv(simulation, options.out)
        if options.faults_out:
            faults = [dataclasses.asdict(fault) for fault in simulation.faults]
            options.faults_out.write_text(json.dumps(faults, indent=2) + "\n")
    except OSError as error:
        raise UsageError(f"{error.filename or options.out}: {error.strerror}") from None
    print(f"{len(simulation)} ticks, {len(simulation.faults)} faults: {options.out}")
    return 0
