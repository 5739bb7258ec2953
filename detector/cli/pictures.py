"""The command that draws: plot."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from detector.cli.terminal import Add, read_config
from detector.errors import DataError, UsageError

Draw = Callable[[argparse.Namespace], Any]

#: Of the quotes that are compared: how heavy tails look depends on how many there are.
_STRETCH_TICKS = 9_000


def add_commands(add: Add) -> None:
    plot = add("plot", _plot, "Draw embeddings, a training, the window of an alert, quotes")
    plot.add_argument("what", choices=["embeddings", "training", "window", "market"])
    plot.add_argument("--out", type=Path, required=True, metavar="FILE", help=".png, .svg or .pdf")
    plot.add_argument(
        "--encodings", type=Path, metavar="FILE", help="embeddings: what detector encode wrote"
    )
    plot.add_argument(
        "--color",
        "--colour",
        choices=["series", "label", "alert"],
        help="embeddings: what the colors tell; default series",
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
    plot.add_argument(
        "--data",
        nargs="+",
        metavar="FILE",
        help="market: quotes (bid, ask) to draw beside the simulated ones, one color a file",
    )


def _plot(options: argparse.Namespace) -> int:
    picture = pictures(options.out)
    draw: dict[str, Draw] = {"embeddings": _embeddings, "training": _training, "window": _window,
                             "market": _market}  # fmt: skip
    _require_own_options(options)
    picture.save(draw[options.what](options), options.out)
    print(options.out)
    return 0


#: Options that one picture alone takes, and those it cannot do without.
_OWN = {
    "embeddings": ("encodings", "color"),
    "training": ("model",),
    "window": ("alert", "alerts"),
    "market": ("data",),
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


def _embeddings(options: argparse.Namespace) -> Any:
    from detector.data.encodings import read_encodings
    from detector.plots.embeddings import draw_embeddings

    return draw_embeddings(read_encodings(options.encodings), color=options.color or "series")


def _training(options: argparse.Namespace) -> Any:
    from detector.model.directory import load_artifact
    from detector.plots.training import draw_training

    return draw_training(load_artifact(options.model).manifest)


def _window(options: argparse.Namespace) -> Any:
    from detector.clients.alerts import choose_alert, published_alerts, stored_alerts
    from detector.plots.window import draw_window

    if options.alerts:
        events = stored_alerts(options.alerts)
    else:
        events = published_alerts(read_config(options))
    return draw_window(choose_alert(events, options.alert))


def _market(options: argparse.Namespace) -> Any:
    import numpy as np

    from detector.build import columns
    from detector.data.market import CHARACTERS, market
    from detector.data.recorded_quotes import RecordedQuotes, read_quotes
    from detector.data.sources import parse_data_argument
    from detector.plots.market import draw_market

    n = len(CHARACTERS)
    quotes, _ = market(
        series=n, ticks=n * _STRETCH_TICKS, start_ns=0, random=np.random.default_rng(3)
    )
    groups = {"simulated": [RecordedQuotes(q.time_ns, q.bid, q.ask, tick=1) for q in quotes]}
    if options.data:
        meaning = columns(read_config(options))
        for file in map(parse_data_argument, options.data):
            recorded = read_quotes(file, meaning).values()
            groups[file.series] = [
                part for one in recorded for part in one.stretches(_STRETCH_TICKS, most=n)
            ]
    return draw_market(groups, pause_s=3600)


def pictures(out: Path) -> Any:
    """The module that writes pictures; refuses a name it could not write before any work is
    done."""
    try:
        from detector.plots import picture
    except ModuleNotFoundError as error:
        if error.name and error.name.split(".")[0] == "matplotlib":
            raise DataError("pictures need matplotlib: pip install 'detector[plot]'") from None
        raise
    picture.require_picture(out)
    return picture
