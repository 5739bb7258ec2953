"""The command that makes a model: train, on files or on what is in the ticks topic."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from detector.cli.terminal import (
    Add,
    add_topic_or_data_arguments,
    alerts_to_expect,
    counted,
    data_files,
    own_scales_in_words,
    print_table,
    read_config,
    say_if_in_use,
    shown,
    training_bars,
)
from detector.errors import UsageError

if TYPE_CHECKING:
    from detector.config import Config
    from detector.offline.train import TrainingReport


def add_commands(add: Add) -> None:
    train = add("train", _train, "Train and calibrate a model")
    add_topic_or_data_arguments(train)
    train.add_argument(
        "--compare",
        type=Path,
        metavar="DIR",
        help="with --from-topic: the model in use, to be measured beside the new one",
    )
    train.add_argument("--out", type=Path, required=True, metavar="DIR")
    train.add_argument("--json", action="store_true")


def _train(options: argparse.Namespace) -> int:
    from detector.model import alone
    from detector.offline.train import train_model

    alone.declare()
    config = read_config(options)
    if options.from_topic:
        return _train_from_topic(config, options)
    if options.compare:
        raise UsageError("--compare is for --from-topic; detector evaluate measures on files")
    files = data_files(options)
    say_if_in_use(options.out)
    with training_bars(config) as (read, progress):
        report = train_model(config, files, options.out, progress=progress, read=read)
    if options.json:
        print(json.dumps(dataclasses.asdict(report)))
        return 0
    _note_fields(report)
    print_table(_training_rows(config, report, options.out))
    return 0


def _train_from_topic(config: Config, options: argparse.Namespace) -> int:
    from detector.cli.from_topic import note_topic, print_comparison, read_topic, topic_rows
    from detector.model.directory import load_artifact
    from detector.offline.from_topic import train_from_recordings

    old = None if options.compare is None else load_artifact(options.compare)
    say_if_in_use(options.out)
    ticks, incidents = read_topic(config, options)
    with training_bars(config) as (read, progress):
        found = train_from_recordings(
            config,
            ticks.recordings,
            incidents.incidents,
            options.out,
            old=old,
            auto=ticks.auto,
            progress=progress,
            read=read,
        )
    note_topic(config, ticks, incidents, found)
    if options.json:
        topic = {
            "unusable": ticks.unusable,
            "unjudged": ticks.unjudged,
            "alerts": incidents.known,
            "unreadable_alerts": incidents.unreadable,
            "left_out": dataclasses.asdict(found.left_out),
            "comparison": found.comparison and dataclasses.asdict(found.comparison),
        }
        print(json.dumps(dataclasses.asdict(found.training) | {"topic": topic}))
        return 0
    _note_fields(found.training)
    rows = _training_rows(config, found.training, options.out)
    print_table([rows[0], *topic_rows(ticks, found.left_out), *rows[1:]])
    if found.comparison:
        print_comparison(found.comparison)
    return 0


def _note_fields(report: TrainingReport) -> None:
    if report.left_out:
        print(
            f"note: left out as labels: {', '.join(report.left_out)}; to use them, or to leave "
            "others out: features, input.exclude, input.label_field",
            file=sys.stderr,
        )
    if report.texts:
        texts = ", ".join(report.texts)
        question = "" if report.named else "; does one name the series (input.series_field)?"
        print(f"note: left out, no number in them: {texts}{question}", file=sys.stderr)
    if report.constant_features:
        names = ", ".join(report.constant_features)
        print(f"note: constant in the training data: {names}", file=sys.stderr)


def _training_rows(config: Config, report: TrainingReport, out: Path) -> list[tuple[str, str]]:
    return [
        ("ticks", f"{report.ticks} ({counted(report.outcomes)})"),
        ("windows", counted(report.windows)),
        ("features", ", ".join(report.features)),
        *((("scales", own_scales_in_words(report.series_scaled)),) if report.series_scaled else ()),
        *_window_chosen(config, report),
        ("parameters", str(report.parameters)),
        ("epochs", f"{report.epochs}, {shown(report.epochs_per_s)} a second"),
        ("loss", f"{report.loss:.5f}, held out {report.validation_loss:.5f}"),
        ("held-out error", f"{report.held_out_error:.5f} of the exported graph"),
        ("threshold", f"{report.threshold:.4f}: {report.promise}"),
        *((("", report.fell_back), ("", report.settles)) if report.fell_back else ()),
        ("normal alerts", alerts_to_expect(report.forecast)),
        ("model", f"{out} ({report.model_version})"),
    ]


def _window_chosen(config: Config, report: TrainingReport) -> list[tuple[str, str]]:
    if config.window.length_ticks != "auto":
        return []
    period = report.period
    why = "nothing repeats" if period is None else f"the data repeats every {period}"
    return [("window", f"{report.length} ticks: {why}")]
