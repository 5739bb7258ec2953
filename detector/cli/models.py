"""Commands that use models and look into them: score, inspect, encode, compare and classify."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from detector.cli.pictures import pictures
from detector.cli.terminal import (
    Add,
    add_data_arguments,
    alerts_to_expect,
    counted,
    data_files,
    own_scales_in_words,
    print_table,
    progress_bar,
    read_config,
    say_if_in_use,
    shown,
)
from detector.errors import UsageError

if TYPE_CHECKING:
    from detector.offline.score import ScoringReport


#: Series whose alerts are told one by one.
_BUSIEST = 10


def add_commands(add: Add) -> None:
    score = add("score", _score, "Score a data file, one row a tick")
    add_data_arguments(score)
    score.add_argument("--model", type=Path, required=True, metavar="DIR")
    score.add_argument("--out", type=Path, required=True, metavar="FILE")
    score.add_argument("--json", action="store_true")

    inspect = add("inspect", _inspect, "Tell what a model is, and the alerts to expect of it")
    inspect.add_argument("model", type=Path, metavar="DIR")
    inspect.add_argument("--json", action="store_true", help="the manifest")
    inspect.add_argument("--plot", type=Path, metavar="FILE", help="draw the layers into FILE")

    encode = add("encode", _encode, "Write the vectors of a model's encoder")
    add_data_arguments(encode)
    encode.add_argument("--model", type=Path, required=True, metavar="DIR")
    encode.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help=".parquet, .csv or .npz"
    )
    encode.add_argument(
        "--sequences",
        action="store_true",
        help="a vector for each uninterrupted sequence of a series, instead of each window",
    )
    encode.add_argument("--json", action="store_true")

    compare = add("compare", _compare, "Train several architectures under one budget")
    add_data_arguments(compare)
    compare.add_argument(
        "--test",
        nargs="+",
        default=[],
        metavar="[SERIES=]FILE",
        help="files with labels (input.label_field) to measure on; --since, --until and --limit "
        "are for --data",
    )
    compare.add_argument(
        "--variants",
        nargs="+",
        required=True,
        metavar="KIND[:OPTION=VALUE...]",
        help="model options, the rest as configured: prediction:horizon=4:units=64,32",
    )
    compare.add_argument("--seeds", type=int, default=1, metavar="N", help="trainings of each")
    compare.add_argument("--plot", type=Path, metavar="FILE")
    compare.add_argument("--json", action="store_true")

    classify = add("classify", _classify, "Teach a model which kind of fault an alert looks like")
    classify.add_argument("action", choices=["train"])
    add_data_arguments(classify)
    classify.add_argument("--model", type=Path, required=True, metavar="DIR")
    classify.add_argument(
        "--labels",
        type=Path,
        required=True,
        metavar="FILE",
        help="JSON (series, kind, start_ns, end_ns) or CSV (series, kind, start, end)",
    )
    classify.add_argument(
        "--no-comparison",
        action="store_true",
        help="do not measure whether the encoder is a better beginning than random weights",
    )
    classify.add_argument("--json", action="store_true")


def _score(options: argparse.Namespace) -> int:
    from detector.model.directory import load_artifact
    from detector.offline.score import score_files

    config = read_config(options)
    artifact = load_artifact(options.model)
    files = data_files(options)
    draft = options.out.with_name(f".{options.out.name}.draft")
    try:
        with draft.open("w", newline="") as out, progress_bar("score", " ticks") as bar:
            report = score_files(config, artifact, files, out, read=bar.update)
        draft.replace(options.out)
    except OSError as error:
        raise UsageError(f"{options.out}: {error.strerror}") from None
    finally:
        draft.unlink(missing_ok=True)
    if options.json:
        print(json.dumps(dataclasses.asdict(report)))
        return 0
    looks = f" (look like: {counted(report.faults)})" if report.faults else ""
    print_table(
        [
            ("ticks", f"{report.ticks} ({counted(report.outcomes)})"),
            ("anomalous windows", _anomalous(report)),
            ("alerts opened", f"{report.alerts}{looks}"),
            *((("others", counted(report.others)),) if report.others else ()),
            ("scores", str(options.out)),
        ]
    )
    return 0


def _anomalous(report: ScoringReport) -> str:
    found = f"{report.anomalous} above {report.threshold:.4f}"
    scored = report.outcomes["scored"]
    return f"{found}, {100 * report.anomalous / scored:.3g} % of {scored}" if scored else found


def _inspect(options: argparse.Namespace) -> int:
    from detector.build import deployed_threshold, expected_alerts
    from detector.model.directory import load_artifact
    from detector.model.family import OPTIONS_OF_KINDS

    picture = pictures(options.plot) if options.plot else None
    artifact = load_artifact(options.model)
    manifest = artifact.manifest
    summary = f"{manifest['model']['kind']}, {manifest['model']['parameters']} parameters"
    if picture:
        from detector.plots.architecture import draw_architecture

        figure = draw_architecture(artifact.architecture, f"{artifact.version}: {summary}")
        picture.save(figure, options.plot)
    if options.json:
        print(json.dumps(manifest))
        return 0
    architecture, tail = artifact.architecture, artifact.calibration.tail
    config, known = read_config(options), artifact.calibration
    deployed = deployed_threshold(config, known, artifact.length)
    missed = deployed.words(known)
    forecast = expected_alerts(config, known, artifact.length, deployed.threshold)
    busiest = {} if forecast is None else forecast.busiest(_BUSIEST)
    model, training, calibration = (manifest[k] for k in ("model", "training", "calibration"))
    own = artifact.scales
    center, scale = manifest["scaling"]["center"], manifest["scaling"]["scale"]
    common = "common " if own else ""
    print_table(
        [
            ("model", f"{artifact.version}, {summary}"),
            ("window", f"{artifact.length} ticks x {len(artifact.features.names)} features"),
            ("engine", str(artifact.open_scorer(threads=1, engine=config.engine).engine)),
            ("layers", f"units {model['units']}, {model['activation']}"),
            *(
                (name.replace("_", " "), str(model[name]))
                for name, kinds in OPTIONS_OF_KINDS.items()
                if model["kind"] in kinds and name in model  # the first models have none of them
            ),
            ("reads", f"ticks 1 to {architecture.inputs} of each window"),
            ("gives back", "; ".join(f"{t.span} ({t.name})" for t in architecture.targets)),
            ("trained on", f"{training['ticks']} ticks, {training['epochs']} epochs"),
            ("windows", counted(training["windows"])),
            *((("views", ", ".join(calibration["views"])),) if "views" in calibration else ()),
            *((("scales", own_scales_in_words(len(own.names))),) if own else ()),
            (
                "held-out scores",
                f"mean {calibration['score_mean']:.3f}, highest {calibration['score_max']:.3f} "
                f"of {calibration['windows']}",
            ),
            (
                "tail",
                f"above {tail.start:.3f}: shape {tail.shape:.3f}, "
                f"scale {tail.scale:.3f}, {tail.excesses} excesses in "
                f"{tail.clusters} {'cluster' if tail.clusters == 1 else 'clusters'}",
            ),
            ("threshold", f"{deployed.threshold:.4f}{': ' * bool(missed)}{missed}"),
            ("normal alerts", alerts_to_expect(forecast)),
            *((f"  {name}", f"{count} opened") for name, count in busiest.items()),
            *(
                (f"feature {name}", f"{expression}   {common}centre {c:.6g}, scale {s:.6g}")
                for name, expression, c, s in zip(
                    artifact.features.names,
                    artifact.features.expressions,
                    center,
                    scale,
                    strict=True,
                )
            ),
        ]
    )
    return 0


def _encode(options: argparse.Namespace) -> int:
    from detector.data.encodings import require_form, write_encodings
    from detector.model.directory import load_artifact
    from detector.offline.encode import encode_files

    require_form(options.out)
    config = read_config(options)
    artifact = load_artifact(options.model)
    with progress_bar("encode", " ticks") as bar:
        found = encode_files(
            config, artifact, data_files(options), sequences=options.sequences, read=bar.update
        )
    write_encodings(found, options.out)
    count, units = found.vectors.shape
    if options.json:
        print(json.dumps({"vectors": count, "units": units, "series": len(set(found.series))}))
        return 0
    what = "sequences" if options.sequences else f"windows of {artifact.length} ticks"
    print(f"{count} {what} of {len(set(found.series))} series, {units} numbers each: {options.out}")
    return 0


def _compare(options: argparse.Namespace) -> int:
    from detector.data.sources import parse_data_argument
    from detector.evaluate.compare import compare, comparison_table, parse_variant
    from detector.model import alone

    alone.declare()
    if options.seeds < 1:
        raise UsageError("--seeds must be at least 1")
    picture = pictures(options.plot) if options.plot else None
    config = read_config(options)
    rows = compare(
        [parse_variant(config, text) for text in options.variants],
        data_files(options),
        [parse_data_argument(text) for text in options.test],
        seeds=range(config.training.seed, config.training.seed + options.seeds),
        say=_say,
    )
    if picture:
        from detector.plots.comparison import draw_comparison

        found = [dataclasses.asdict(row) for row in rows]
        picture.save(draw_comparison(found, measured=bool(options.test)), options.plot)
    if options.json:
        print(json.dumps([dataclasses.asdict(row) for row in rows]))
    else:
        print(comparison_table(rows), end="")
    return 0


def _classify(options: argparse.Namespace) -> int:
    from detector.model import alone
    from detector.offline.classify import classifier_table, train_fault_classifier

    alone.declare()
    config = read_config(options)
    files = data_files(options)
    say_if_in_use(options.model)
    with progress_bar("read", " ticks") as bar:
        report = train_fault_classifier(
            config,
            options.model,
            files,
            options.labels,
            comparison=not options.no_comparison,
            read=bar.update,
            say=_say,
        )
    if options.json:
        print(json.dumps(dataclasses.asdict(report)))
        return 0
    if report.comparison:
        print(classifier_table(report.comparison), end="")
    print_table(
        [
            ("labels", f"{report.labels}, {report.labels_without_windows} without a full window"),
            ("classes", ", ".join(report.classes)),
            ("windows", f"{report.training} to train, {report.held_out} held out"),
            ("accuracy", f"{shown(report.accuracy)} of the windows held out"),
            ("macro F1", shown(report.macro_f1)),
            ("model", f"{options.model} ({report.model_version})"),
        ]
    )
    return 0


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
