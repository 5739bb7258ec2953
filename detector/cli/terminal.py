"""What the commands have in common: arguments to values, and how things are printed."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from detector.errors import UsageError

if TYPE_CHECKING:
    from detector.config import Config
    from detector.core.rehearsal import Forecast
    from detector.data.sources import DataFile


#: Makes the parser of a command from its name, its function and a line of help.
Add = Callable[..., argparse.ArgumentParser]


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: {message}; see {self.prog} --help", file=sys.stderr)
        raise SystemExit(UsageError.exit_code)


def add_data_arguments(command: argparse.ArgumentParser, more: str = "") -> None:
    _add_data(command, more, required=True)
    _add_span(command, "rows a file")


def add_topic_or_data_arguments(command: argparse.ArgumentParser) -> None:
    sources = command.add_mutually_exclusive_group(required=True)
    _add_data(sources, "", required=False)
    sources.add_argument(
        "--from-topic",
        action="store_true",
        help="the ticks that are in the ticks topic, without those that were alerted on",
    )
    _add_span(command, "rows a file, ticks a partition")


def _add_data(container: argparse._ActionsContainer, more: str, *, required: bool) -> None:
    container.add_argument(
        "--data",
        nargs="+",
        required=required,
        metavar="[SERIES=]FILE",
        help=f"CSV, JSON lines (both also .gz) or Parquet{more}",
    )


def _add_span(command: argparse.ArgumentParser, of: str) -> None:
    command.add_argument("--since", metavar="TIME", help="only ticks from this time (ISO 8601)")
    command.add_argument("--until", metavar="TIME", help="only ticks before this time")
    command.add_argument("--limit", type=int, metavar="N", help=f"only the first N {of}")


def read_config(options: argparse.Namespace) -> Config:
    from detector.config import load_config

    return load_config(options.config)


def data_files(options: argparse.Namespace) -> list[DataFile]:
    """Those of --data, cut as --since, --until and --limit say."""
    from detector.data.sources import parse_data_argument

    since_ns, until_ns, limit = span(options)
    return [
        dataclasses.replace(
            parse_data_argument(text), since_ns=since_ns, until_ns=until_ns, limit=limit
        )
        for text in options.data
    ]


def span(options: argparse.Namespace) -> tuple[int | None, int | None, int | None]:
    """--since and --until in nanoseconds since the epoch, and --limit."""
    since_ns, until_ns = moment(options.since), moment(options.until)
    limit: int | None = options.limit
    if limit is not None and limit < 1:
        raise UsageError("--limit must be at least 1")
    return since_ns, until_ns, limit


def moment(text: str | None) -> int | None:
    """ISO 8601 to nanoseconds since the epoch."""
    from detector.core.moments import parse_moment

    try:
        return None if text is None else parse_moment(text, "iso8601")
    except ValueError:
        raise UsageError(f"{text!r} is no time like 2014-05-02 or 2014-05-02T12:30") from None


def say_if_in_use(model: Path) -> None:
    from detector.model.in_use import in_use

    if in_use(model):
        print(
            f"note: a detector is running with the model in {model}: it takes over the new one; "
            "in a directory of its own, and promoted, the old one would stay to go back to",
            file=sys.stderr,
        )


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


@contextlib.contextmanager
def training_bars(
    config: Config,
) -> Iterator[tuple[Callable[[int], None], Callable[[int, float, float], None]]]:
    """What to call with the ticks just read, and with an epoch and its losses."""
    with contextlib.ExitStack() as stack:
        reading = stack.enter_context(progress_bar("read", " ticks"))
        epochs = stack.enter_context(progress_bar("train", " epochs", config.training.epochs))

        def read(ticks: int) -> None:
            reading.update(ticks)

        def progress(epoch: int, loss: float, validation_loss: float) -> None:
            epochs.set_postfix_str(f"loss {loss:.4f} held out {validation_loss:.4f}")
            epochs.update(1)

        yield read, progress


def print_table(rows: Sequence[tuple[str, str]]) -> None:
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:<{width}}  {value}")


def own_scales_in_words(series: int) -> str:
    """series: how many a model knows the centre and scale of."""
    return f"{series} series have a centre and a scale of their own"


def alerts_to_expect(forecast: Forecast | None) -> str:
    if forecast is None:
        return (
            "nothing is known of how many to expect: the model knows no times of its held-out "
            "windows; one trained anew, on ticks whose times differ, tells"
        )
    return forecast.words()


def counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in counts.items())


def shown(value: float | None) -> str:
    return "none" if value is None else f"{value:.3g}"
