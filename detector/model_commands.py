"""The commands about models beyond train and score: inspect, encode, plot, compare, classify. Like
detector.cli: no logic, and each imports what it needs."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from detector.errors import DataError, UsageError
from detector.terminal import (
    add_data_arguments,
    counted,
    data_files,
    print_table,
    progress_bar,
    read_config,
    shown,
)

Add = Callable[..., argparse.ArgumentParser]


def add_model_commands(add: Add) -> None:
    """add: makes the parser of a command from its name, its function and a line of help."""
    inspect = add("inspect", _inspect, "Tell what a model is", config=False)
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

    plot = add("plot", _plot, "Draw embeddings, a training, or the window of an alert")
    plot.add_argument("what", choices=["embeddings", "training", "window"])
    plot.add_argument("--out", type=Path, required=True, metavar="FILE", help=".png, .svg or .pdf")
    plot.add_argument(
        "--encodings", type=Path, metavar="FILE", help="embeddings: what detector encode wrote"
    )
    plot.add_argument(
        "--colour",
        choices=["series", "label", "alert"],
        help="embeddings: what the colours tell; default series",
    )
    plot.add_argument("--model", type=Path, metavar="DIR", help="training: whose")
    plot.add_argument(
        "--alert", metavar="ID", help="window: beginning of an id; default the newest opened one"
    )
    plot.add_argument(
        "--alerts",
        type=Path,
        metavar="FILE",
        help="window: what detector alerts --json printed; default the alert topic",
    )


def _inspect(options: argparse.Namespace) -> int:
    from detector.artifact import load_artifact
    from detector.config import OPTIONS_OF_KINDS
    from detector.model.architecture import Architecture

    plots = _plots(options.plot) if options.plot else None
    artifact = load_artifact(options.model)
    manifest = artifact.manifest
    summary = f"{manifest['model']['kind']}, {manifest['model']['parameters']} parameters"
    if plots:
        layers = Architecture.from_manifest(manifest)
        figure = plots.draw_architecture(layers, f"{artifact.version}: {summary}")
        plots.save(figure, options.plot)
    if options.json:
        print(json.dumps(manifest))
        return 0
    architecture = Architecture.from_manifest(manifest)
    model, training, calibration = (manifest[k] for k in ("model", "training", "calibration"))
    center, scale = manifest["scaling"]["center"], manifest["scaling"]["scale"]
    print_table(
        [
            ("model", f"{artifact.version}, {summary}"),
            ("window", f"{artifact.length} ticks x {len(artifact.features.names)} features"),
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
            (
                "held-out scores",
                f"mean {calibration['score_mean']:.3f}, highest {calibration['score_max']:.3f} "
                f"of {calibration['windows']}",
            ),
            (
                "tail",
                f"above {artifact.tail.start:.3f}: shape {artifact.tail.shape:.3f}, "
                f"scale {artifact.tail.scale:.3f}, {artifact.tail.excesses} excesses in "
                f"{artifact.tail.clusters} clusters",
            ),
            *(
                (f"feature {name}", f"{expression}   centre {c:.6g}, scale {s:.6g}")
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
    from detector.artifact import load_artifact
    from detector.lab.encode import encode_files, require_form, write_encodings

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
    from detector.lab.compare import compare, comparison_table, parse_variant
    from detector.lab.datasets import parse_data_argument

    if options.seeds < 1:
        raise UsageError("--seeds must be at least 1")
    plots = _plots(options.plot) if options.plot else None
    config = read_config(options)
    rows = compare(
        [parse_variant(config, text) for text in options.variants],
        data_files(options),
        [parse_data_argument(text) for text in options.test],
        seeds=range(config.training.seed, config.training.seed + options.seeds),
        say=_say,
    )
    if plots:
        found = [dataclasses.asdict(row) for row in rows]
        plots.save(plots.draw_comparison(found, measured=bool(options.test)), options.plot)
    if options.json:
        print(json.dumps([dataclasses.asdict(row) for row in rows]))
    else:
        print(comparison_table(rows), end="")
    return 0


def _classify(options: argparse.Namespace) -> int:
    from detector.lab.classify import classifier_table, train_fault_classifier

    config = read_config(options)
    files = data_files(options)
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


def _plot(options: argparse.Namespace) -> int:
    plots = _plots(options.out)
    draw = {"embeddings": _embeddings, "training": _training, "window": _window}[options.what]
    _require_own_options(options)
    plots.save(draw(plots, options), options.out)
    print(options.out)
    return 0


#: Options that one picture alone takes, and those it cannot do without.
_OWN = {
    "embeddings": ("encodings", "colour"),
    "training": ("model",),
    "window": ("alert", "alerts"),
}
_NEEDED = {"embeddings": "encodings", "training": "model"}


def _require_own_options(options: argparse.Namespace) -> None:
    what = options.what
    needed = _NEEDED.get(what)
    if needed and getattr(options, needed) is None:
        raise UsageError(f"plot {what} needs --{needed}")
    for other, names in _OWN.items():
        for name in names:
            if other != what and getattr(options, name) is not None:
                raise UsageError(f"plot {what} takes no --{name}: that is for plot {other}")


def _embeddings(plots: ModuleType, options: argparse.Namespace) -> Any:
    from detector.lab.encode import read_encodings

    found = read_encodings(options.encodings)
    return plots.draw_embeddings(found, colour=options.colour or "series")


def _training(plots: ModuleType, options: argparse.Namespace) -> Any:
    from detector.artifact import load_artifact

    return plots.draw_training(load_artifact(options.model).manifest)


def _window(plots: ModuleType, options: argparse.Namespace) -> Any:
    from detector.lab.following import choose_alert, published_alerts, stored_alerts

    if options.alerts:
        events = stored_alerts(options.alerts)
    else:
        events = published_alerts(read_config(options))
    return plots.draw_window(choose_alert(events, options.alert))


def _plots(out: Path) -> ModuleType:
    """The module that draws; refuses a name it could not write before any work is done."""
    try:
        from detector.lab import plots
    except ModuleNotFoundError as error:
        if error.name and error.name.split(".")[0] == "matplotlib":
            raise DataError("pictures need matplotlib: pip install 'detector[plot]'") from None
        raise
    plots.require_picture(out)
    return plots


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
