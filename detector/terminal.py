"""What the commands have in common: arguments to values, and how things are printed."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from detector.errors import UsageError

if TYPE_CHECKING:
    from detector.config import Config
    from detector.lab.datasets import DataFile


def add_data_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--data",
        nargs="+",
        required=True,
        metavar="[SERIES=]FILE",
        help="CSV, JSON lines (both also .gz) or Parquet",
    )
    command.add_argument("--since", metavar="TIME", help="only ticks from this time (ISO 8601)")
    command.add_argument("--until", metavar="TIME", help="only ticks before this time")
    command.add_argument("--limit", type=int, metavar="N", help="only the first N rows a file")


def read_config(options: argparse.Namespace) -> Config:
    from detector.config import load_config

    return load_config(options.config)


def data_files(options: argparse.Namespace) -> list[DataFile]:
    """Those of --data, cut as --since, --until and --limit say."""
    from detector.lab.datasets import parse_data_argument

    since_ns, until_ns = moment(options.since), moment(options.until)
    if options.limit is not None and options.limit < 1:
        raise UsageError("--limit must be at least 1")
    return [
        dataclasses.replace(
            parse_data_argument(text), since_ns=since_ns, until_ns=until_ns, limit=options.limit
        )
        for text in options.data
    ]


def moment(text: str | None) -> int | None:
    """ISO 8601 to nanoseconds since the epoch."""
    from detector.core.codec import parse_time

    try:
        return None if text is None else parse_time(text, "iso8601")
    except ValueError:
        raise UsageError(f"{text!r} is no time like 2014-05-02 or 2014-05-02T12:30") from None


def progress_bar(label: str, unit: str, total: int | None = None) -> Any:
    """For work over two seconds; nothing where no terminal watches."""
    from tqdm import tqdm

    # tqdm turns a rate below one around, into seconds for each.
    form = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_noinv_fmt}{postfix}]"
    return tqdm(
        desc=label,
        unit=unit,
        total=total,
        delay=2,
        disable=None,
        leave=False,
        bar_format=form if total else None,
    )


def print_table(rows: Sequence[tuple[str, str]]) -> None:
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:<{width}}  {value}")


def counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in counts.items())


def shown(value: float | None) -> str:
    return "none" if value is None else f"{value:.3g}"
