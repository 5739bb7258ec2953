"""The command evaluate: labelled files or a manifest in, tables, JSON and a page out."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detector.cli.terminal import Add, progress_bar, read_config
from detector.errors import DataError, UsageError

if TYPE_CHECKING:
    from detector.config import Config
    from detector.evaluate.drift import Drift
    from detector.evaluate.evaluating import Outcome

#: One thread for each process of a manifest: more would only stand in each other's way.
_THREADS = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
)  # fmt: skip


def add_commands(add: Add) -> None:
    evaluate = add("evaluate", _evaluate, "Measure a model, or a manifest of series, on labels")
    evaluate.add_argument("--model", type=Path, metavar="DIR")
    evaluate.add_argument(
        "--data",
        nargs="+",
        default=[],
        metavar="[SERIES=]FILE",
        help="files with labels (input.label_field) to measure the model on",
    )
    evaluate.add_argument(
        "--train",
        nargs="+",
        default=[],
        metavar="FILE",
        help="normal ticks for the baselines; the model's own training files are a good choice",
    )
    evaluate.add_argument(
        "--prefix",
        type=int,
        default=0,
        metavar="N",
        help="the first N ticks of each series are normal: baselines learn from them, and no event "
        "or alert in them counts",
    )
    evaluate.add_argument(
        "--windows",
        type=Path,
        metavar="FILE",
        help="labels as NAB keeps them: JSON, file to windows of time",
    )
    evaluate.add_argument(
        "--guilty",
        type=Path,
        metavar="FILE",
        help="of a single file: which features are to blame, lines begin-end:1,5,9; measures "
        "explanations",
    )
    evaluate.add_argument(
        "--manifest",
        type=Path,
        metavar="FILE",
        help="CSV of series (file, prefix, vus_width, dataset, published VUS-PR ...): train on the "
        "prefix of each, measure it; instead of --model and --data",
    )
    evaluate.add_argument(
        "--jobs", type=int, metavar="N", help="--manifest: processes; default one for each core"
    )
    evaluate.add_argument(
        "--drift",
        action="store_true",
        help="inject drifts of level, scale and season into the normal ticks of every series, and "
        "tell how often the threshold is exceeded then and for how long; labels are not needed",
    )
    evaluate.add_argument("--out", type=Path, metavar="FILE", help="one page, .html")
    evaluate.add_argument("--json", type=Path, metavar="FILE")


def _evaluate(options: argparse.Namespace) -> int:
    _require_what_belongs_together(options)
    page = _page() if options.out else None
    config = read_config(options)
    evaluated = _of_manifest if options.manifest else _of_files
    found, about = evaluated(config, options)
    from detector.evaluate.report import make_report, markdown, tables_of

    report = make_report(found, about=about)
    written = report.to_json()
    if options.json:
        text = json.dumps(written, indent=1, allow_nan=False) + "\n"
        _write(options.json, text)
    if page:
        from detector.evaluate.results import Judged

        sketches = {one.result.name: one.sketch for one in found if isinstance(one, Judged)}
        _write(options.out, page.evaluation_page(written, sketches, tables_of(report)))
    print(markdown(report), end="")
    for path in filter(None, (options.json, options.out)):
        print(path)
    if not report.series:
        raise DataError("no series could be evaluated: see why under not run")
    return 0


def _require_what_belongs_together(options: argparse.Namespace) -> None:
    if options.manifest:
        for name in ("model", "data", "train", "prefix", "windows", "guilty"):
            if getattr(options, name):
                raise UsageError(
                    f"--manifest takes no --{name}: each series has a model of its own"
                )
    elif not options.model or not options.data:
        raise UsageError("name --model and --data, or a --manifest")
    elif options.jobs is not None:
        raise UsageError("--jobs is for --manifest")
    elif options.guilty and len(options.data) > 1:
        raise UsageError("--guilty is of a single file")
    if options.jobs is not None and options.jobs < 1:
        raise UsageError("--jobs must be at least 1")
    if options.prefix < 0:
        raise UsageError("--prefix must be at least 0")
    for path, ending in ((options.out, ".html"), (options.json, ".json")):
        if path is None:
            continue
        if path.suffix.lower() != ending:
            raise UsageError(f"{path}: must end in {ending}")
        if not path.parent.is_dir():
            raise UsageError(f"{path}: {path.parent} is no directory")


def _of_files(
    config: Config, options: argparse.Namespace
) -> tuple[Sequence[Outcome], dict[str, Any]]:
    """What was found, and about what."""
    from detector.data.sources import parse_data_argument
    from detector.evaluate.evaluating import evaluate_files
    from detector.evaluate.windows_file import read_windows
    from detector.model.directory import load_artifact

    artifact = load_artifact(options.model)
    windows = read_windows(options.windows) if options.windows else None
    files = [parse_data_argument(text) for text in options.data]
    with progress_bar("evaluate", " files", len(files)) as bar:
        found = evaluate_files(
            config,
            artifact,
            files,
            train=[parse_data_argument(text) for text in options.train],
            prefix=options.prefix,
            windows=windows,
            done=lambda _: bar.update(1),
            drifts=_drifts(options),
        )
    about = {
        "what": f"model {artifact.version} on {len(files)} files",
        "model": str(options.model),
        "baselines": "from --train" if options.train else "from --prefix",
    }
    if options.guilty:
        from detector.evaluate.guilt import hit_rates, read_guilty

        guilty = read_guilty(options.guilty)
        about["guilty features named"] = "; ".join(
            f"{who}: " + ", ".join(f"{rate:.2f} of them @{p} %" for p, rate in rates.items())
            for who, rates in hit_rates(config, artifact, files[0], guilty).items()
        )
        print(about["guilty features named"])
    if not options.train and not options.prefix:
        about["baselines"] = "none: neither --train nor --prefix names normal ticks"
    return found, about


def _of_manifest(
    config: Config, options: argparse.Namespace
) -> tuple[Sequence[Outcome], dict[str, Any]]:
    import contextlib
    import functools

    from detector.evaluate.manifest import read_manifest
    from detector.evaluate.prefixes import evaluate_row
    from detector.evaluate.processes import Failed, in_processes
    from detector.evaluate.results import Skipped

    rows = read_manifest(options.manifest)
    jobs = min(options.jobs or os.cpu_count() or 1, len(rows))
    for name in _THREADS:
        os.environ.setdefault(name, "1")  # the processes take them over
    found: dict[int, Outcome] = {}
    work = in_processes(
        functools.partial(evaluate_row, config, drifts=_drifts(options)), rows, jobs=jobs
    )
    with progress_bar("evaluate", " series", len(rows)) as bar, contextlib.closing(work) as done:
        for number, one in done:
            found[number] = (
                Skipped(rows[number].name, one.reason) if isinstance(one, Failed) else one
            )
            bar.set_postfix_str(rows[number].path.name, refresh=False)
            bar.update(1)
    about = {
        "what": f"{len(rows)} series of {options.manifest}, a model trained on the prefix of each, "
        "ranked over the whole series",
        "manifest": str(options.manifest),
        "baselines": "from the prefix of each series",
    }
    return [found[number] for number in sorted(found)], about


def _drifts(options: argparse.Namespace) -> Sequence[Drift]:
    from detector.evaluate.drift import DRIFTS

    return DRIFTS if options.drift else ()


def _page() -> Any:
    """The module that writes the page; asked before any work is done."""
    try:
        from detector.plots import evaluation_page
    except ModuleNotFoundError as error:
        if error.name and error.name.split(".")[0] == "matplotlib":
            raise DataError(
                "--out needs matplotlib: pip install 'detector[evaluate]'; --json does not"
            ) from None
        raise
    return evaluation_page


def _write(path: Path, text: str) -> None:
    draft = path.with_name(f".{path.name}.draft")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    finally:
        draft.unlink(missing_ok=True)
