"""The command `bench`: what this machine can, as a table or as JSON, beside an earlier run."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detector.cli.terminal import Add, print_table, read_config
from detector.errors import DataError, UsageError

if TYPE_CHECKING:
    from detector.bench.comparison import Compared

_RATES = (1_000.0, 5_000.0, 10_000.0)
#: What each option is for; another benchmark refuses it.
_ONLY = {
    "peers": ("scoring", "stac"),
    "rounds": ("scoring", "stac", "page", "shadow"),
    "rates": ("latency", "page"),
    "seconds": ("latency", "page"),
    "series": ("page",),
    "out": ("profile",),
}


def add_commands(add: Add) -> None:
    bench = add("bench", _bench, "Measure speed beside the machine's own")
    bench.add_argument(
        "what",
        choices=list(_BENCHMARKS),
        help="what each measures stands in docs/benchmarks.md; page: CPU with viewers of the page "
        "and without, /metrics and the first view; shadow: CPU with a candidate and without",
    )
    bench.add_argument("--model", type=Path, metavar="DIR", help="default: the reference model")
    bench.add_argument("--ticks", type=_positive, default=200_000, metavar="N", help="of a backlog")
    bench.add_argument("--json", action="store_true")
    bench.add_argument(
        "--against",
        type=Path,
        metavar="FILE",
        help="an earlier output of --json: print what became of each figure",
    )
    bench.add_argument(
        "--peers",
        action="store_true",
        default=None,
        help="scoring, stac: also Keras, tf.function, XLA and OpenVINO, where installed",
    )
    bench.add_argument(
        "--rounds",
        type=_positive,
        metavar="N",
        help="scoring, stac, page, shadow: default 7; medians of them",
    )
    bench.add_argument(
        "--rates",
        type=float,
        nargs="+",
        metavar="R",
        help="latency: ticks a second, one after the other; default: 1000 5000 10000; "
        "page: one, default 20000",
    )
    bench.add_argument(
        "--seconds",
        type=float,
        metavar="S",
        help="latency: of each rate; page: without viewers, and with three; default: 10",
    )
    bench.add_argument(
        "--series", type=_positive, metavar="N", help="page: that are there; default: 100000"
    )
    bench.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="profile: a flame graph (.svg), speedscope (.json) or collapsed stacks; "
        "default: detector.svg",
    )


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def _bench(options: argparse.Namespace) -> int:
    for name, benchmarks in _ONLY.items():
        if getattr(options, name) is not None and options.what not in benchmarks:
            raise UsageError(f"--{name} is for bench {' and '.join(benchmarks)}")
    # The ceiling, and whoever is measured, has one thread; read at import.
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    os.environ["TF_NUM_INTRAOP_THREADS"] = "1"
    os.environ["TF_NUM_INTEROP_THREADS"] = "1"
    from detector.bench.comparison import AGAINST, MATRIX, NAME, compare
    from detector.bench.machine import matrix_product_median

    baseline = None if options.against is None else _baseline(options.against, options.what)
    before = matrix_product_median()
    results: dict[str, Any] = {NAME: options.what}
    results |= _BENCHMARKS[options.what](options)
    if MATRIX not in results:
        results[MATRIX] = round((before + matrix_product_median()) / 2, 1)
    compared = {} if baseline is None else compare(baseline, results)
    if options.json:
        if baseline is not None:
            results[AGAINST] = {name: asdict(one) for name, one in compared.items()}
        print(json.dumps(results))
        return 0
    _print(results)
    if baseline is not None:
        print(f"\nbeside {options.against}")
        _print_columns(_columns(compared))
    return 0


def _baseline(path: Path, what: str) -> dict[str, Any]:
    from detector.bench.comparison import NAME

    try:
        found = json.loads(path.read_text())
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None
    except ValueError:
        raise DataError(f"{path}: is no output of `detector bench --json`") from None
    if not isinstance(found, dict) or found.get(NAME, what) != what:
        raise DataError(f"{path}: is no output of `detector bench {what} --json`")
    return found


# -- the benchmarks; each imports what it needs


def _scoring(options: argparse.Namespace) -> dict[str, Any]:
    from detector.bench.scoring import scoring

    peers = _declared(options)
    return scoring(read_config(options), options.model, options.rounds or 7, peers=peers)


def _stac(options: argparse.Namespace) -> dict[str, Any]:
    from detector.bench.stac import stac

    if options.model is not None:
        raise UsageError("bench stac has a network of its own: leave out --model")
    return stac(options.rounds or 7, peers=_declared(options))


def _declared(options: argparse.Namespace) -> bool:
    from detector.model import alone

    if options.peers:
        alone.declare()  # TensorFlow takes no GPU and says nothing
    return bool(options.peers)


def _pipeline(options: argparse.Namespace) -> dict[str, Any]:
    from detector.bench.pipeline import pipeline

    return pipeline(read_config(options), options.model, options.ticks)


def _latency(options: argparse.Namespace) -> dict[str, Any]:
    from detector.bench.latency import latency

    rates = _RATES if options.rates is None else options.rates
    seconds = 10.0 if options.seconds is None else options.seconds
    return latency(read_config(options), options.model, rates, seconds)


def _stages(options: argparse.Namespace) -> dict[str, Any]:
    from detector.bench.stages import stages

    return stages(read_config(options), options.model, options.ticks)


def _workers(options: argparse.Namespace) -> dict[str, Any]:
    from detector.bench.workers import workers

    return workers(read_config(options), options.model, options.ticks)


def _profile(options: argparse.Namespace) -> dict[str, Any]:
    from detector.bench.profiling import profile

    out = options.out or Path("detector.svg")
    return profile(read_config(options), options.model, options.ticks, out)


def _page(options: argparse.Namespace) -> dict[str, Any]:
    from detector.bench.page import page

    rates = [20_000.0] if options.rates is None else options.rates
    if len(rates) != 1:
        raise UsageError("bench page: one rate")
    seconds = 10.0 if options.seconds is None else options.seconds
    return page(
        read_config(options),
        options.model,
        options.series or 100_000,
        rates[0],
        seconds,
        options.rounds or 7,
    )


def _shadow(options: argparse.Namespace) -> dict[str, Any]:
    from detector.bench.shadow import shadow

    return shadow(read_config(options), options.model, options.ticks, options.rounds or 7)


def _memory(options: argparse.Namespace) -> dict[str, Any]:
    from detector.bench.footprint import memory

    return memory(read_config(options), options.model, options.ticks)


def _series(options: argparse.Namespace) -> dict[str, Any]:
    from detector.bench.many import series

    return series(read_config(options), options.model, options.ticks)


def _startup(options: argparse.Namespace) -> dict[str, Any]:
    from detector.bench.footprint import startup

    return startup(read_config(options), options.model, options.ticks)


def _delivery(options: argparse.Namespace) -> dict[str, Any]:
    from detector.bench.delivery import delivery

    return delivery(read_config(options), options.model, options.ticks)


def _recovery(options: argparse.Namespace) -> dict[str, Any]:
    from detector.bench.recovery import recovery

    return recovery(read_config(options), options.model, options.ticks)


_BENCHMARKS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "scoring": _scoring,
    "stac": _stac,
    "pipeline": _pipeline,
    "latency": _latency,
    "stages": _stages,
    "workers": _workers,
    "profile": _profile,
    "page": _page,
    "shadow": _shadow,
    "memory": _memory,
    "series": _series,
    "startup": _startup,
    "delivery": _delivery,
    "recovery": _recovery,
}

# -- for people


def _print(results: Mapping[str, Any]) -> None:
    """Figures in a list, and tables, which are figures by name, below it."""
    tables = {
        name: value
        for name, value in results.items()
        if isinstance(value, dict) and any(isinstance(one, dict) for one in value.values())
    }
    print_table([(name, _shown(v)) for name, v in results.items() if name not in tables])
    for name, table in tables.items():
        print(f"\n{name}")
        figures = list(dict.fromkeys(figure for column in table.values() for figure in column))
        rows = [["", *table]]
        rows += [[f, *(_shown(column.get(f)) for column in table.values())] for f in figures]
        _print_columns(rows)


def _columns(compared: Mapping[str, Compared]) -> list[list[str]]:
    rows = [["", "then", "now", "now / then", "on the same machine"]]
    for name, one in compared.items():
        shares = ["" if r is None else f"{r:.3f}" for r in (one.ratio, one.normalised)]
        rows.append([name, _shown(one.baseline), _shown(one.now), *shares])
    return rows


def _print_columns(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *rest in rows:
        cells = (f"{cell:>{width}}" for cell, width in zip(rest, widths[1:], strict=True))
        print("  ".join([f"{first:<{widths[0]}}", *cells]).rstrip())


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_shown(one)}" for name, one in value.items())
    if value is None:
        return "-"
    return f"{value:g}" if isinstance(value, float) and abs(value) < 1e6 else str(value)
