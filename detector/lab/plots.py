"""Pictures: an architecture, the loss of a training, the window of an alert, embeddings, a
comparison. Matplotlib is imported with this module; it draws into files and opens no window.

The ending of the file (.png, .svg, .pdf) chooses the format.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import LogLocator, MaxNLocator, StrMethodFormatter

from detector.core.ticks import Float64
from detector.errors import DataError, UsageError
from detector.lab.encode import Encodings
from detector.model.architecture import Architecture

#: Told apart by people who do not see red and green alike (Okabe and Ito, 2008).
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
OBSERVED, EXPECTED, ERROR = COLOURS[7], COLOURS[0], COLOURS[5]
ABOVE = "above the threshold"
_ENDINGS = (".png", ".svg", ".pdf")
_MOST_SERIES = 20
_MOST_FEATURES = 8  # rows of a window: more cannot be read
# Else the first picture of a machine tells on stderr that fonts are being looked for.
logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)


def require_picture(out: Path) -> None:
    """Refuse a file that could not be written; asked before the work too."""
    if out.suffix.lower() not in _ENDINGS:
        raise UsageError(f"{out}: pictures end in {', '.join(_ENDINGS)}")
    if not out.parent.is_dir():
        raise UsageError(f"{out}: {out.parent} is no directory")


def save(figure: Figure, out: Path) -> None:
    require_picture(out)
    try:
        figure.savefig(out, dpi=150)
    except OSError as error:
        raise UsageError(f"{out}: {error.strerror}") from None


def _figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), layout="constrained")


# -- architecture


def draw_architecture(architecture: Architecture, title: str) -> Figure:
    """Layers from left to right, each with the shape of what it gives for n windows."""
    columns = architecture_columns(architecture)
    rows = max(len(column) for column in columns)
    figure = _figure(1.45 * len(columns) + 0.3, 0.9 * rows + 0.5)
    axes = figure.add_subplot()
    axes.set_axis_off()
    axes.set_xlim(-0.5, len(columns) - 0.5)
    axes.set_ylim(-0.5, rows - 0.5)
    before: list[tuple[float, Text]] = []
    for x, column in enumerate(columns):
        ys = [rows / 2 - 0.5] if len(column) == 1 else list(range(rows))[::-1]
        now = []
        for (name, shape, colour), y in zip(column, ys, strict=True):
            box = {"boxstyle": "round,pad=0.45", "facecolor": f"{colour}22", "edgecolor": colour}
            text = axes.text(
                x, y, f"{name}\n{shape}", ha="center", va="center", fontsize=8, bbox=box
            )
            now.append((y, text))
        for y, text in now:
            for height, source in before:
                if len(now) == 1 or len(before) == 1 or y == height:
                    arrow = {"arrowstyle": "->", "color": "#777777"}
                    ends = {"patchA": source.get_bbox_patch(), "patchB": text.get_bbox_patch()}
                    axes.annotate("", (x, y), (x - 1, height), arrowprops=arrow | ends)
        before = now
    axes.set_title(title, fontsize=10)
    return figure


Box = tuple[str, str, str]  # what it is, the shape of its output, its colour


def architecture_columns(architecture: Architecture) -> list[list[Box]]:
    """The boxes of the drawing; a column has one box, or one for each decoder."""
    one = architecture
    data, encoder, decoder = COLOURS[7], COLOURS[0], COLOURS[2]
    columns: list[list[Box]] = [[("window", f"n x {one.length} x {one.features}", data)]]
    if not one.recurrent:
        flat = one.length * one.features
        columns.append([("flatten", f"n x {flat}", data)])
        columns += [[("dense", f"n x {width}", encoder)] for width in one.units]
        columns += [[("dense", f"n x {width}", decoder)] for width in one.decoder_units]
        columns.append([("dense", f"n x {flat}", decoder)])
        columns.append([("expected", f"n x {one.length} x {one.features}", data)])
        return columns
    if one.inputs < one.length:
        columns.append([("first ticks", f"n x {one.inputs} x {one.features}", data)])
    for i, width in enumerate(one.units):
        vector = i == len(one.units) - 1 and one.kind != "sequence"
        shape = f"n x {width}" if vector else f"n x {one.inputs} x {width}"
        columns.append([("LSTM", shape, encoder)])
    targets = one.targets
    if one.decoder_units and one.kind != "sequence":
        fed = " + tick before" if one.conditioned else ""
        columns.append(
            [(f"repeat{fed}", f"n x {t.steps} x {one.decoder_inputs}", decoder) for t in targets]
        )
    columns += [
        [("LSTM", f"n x {t.steps} x {width}", decoder) for t in targets]
        for width in one.decoder_units
    ]
    backwards = ", backwards" if one.target_order == "reversed" else ""
    columns.append(
        [(f"dense{backwards}", f"n x {t.steps} x {one.features}", decoder) for t in targets]
    )
    columns.append([(t.name, t.span, data) for t in targets])
    return columns


# -- training


def draw_training(manifest: Mapping[str, Any]) -> Figure:
    """Loss and held-out loss over the epochs; the best epoch, whose weights were kept."""
    history = manifest["training"]["history"]
    if not history:
        raise DataError("the model was not trained: it has no loss curves")
    epochs = np.arange(1, len(history) + 1)
    held_out = np.array([h["validation_loss"] for h in history])
    figure = _figure(7, 4)
    axes = figure.add_subplot()
    loss = [h["loss"] for h in history]
    axes.plot(epochs, loss, label="training", marker=".", color=COLOURS[0])
    axes.plot(epochs, held_out, label="held out", marker=".", color=COLOURS[1])
    best = int(held_out.argmin())
    axes.axvline(epochs[best], color="#999999", linestyle=":", label=f"kept: epoch {best + 1}")
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 4, 5, 7)))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter("")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("epoch")
    axes.set_ylabel("mean squared error, scaled features")
    model = manifest["model"]
    axes.set_title(f"{manifest['model_version']}: {model['kind']}, units {model['units']}")
    axes.legend()
    return figure


# -- the window of an alert


_DRAWN = (
    "kind", "series", "state", "event_time", "score", "threshold", "features", "contributions",
    "observed", "expected",
)  # fmt: skip


def draw_window(event: Mapping[str, Any]) -> Figure:
    """A row for each feature, the largest share of the score first: observed against expected, and
    their difference, in the feature's own units. event: an alert as published."""
    data = event["data"]
    missing = [key for key in _DRAWN if key not in data]
    if missing:
        raise DataError(f"alert {event['id']}: says nothing of {', '.join(missing)}")
    observed, expected = np.array(data["observed"], float), np.array(data["expected"], float)
    if not observed.size:
        raise DataError(f"alert {event['id']}: of kind {data['kind']} has no window")
    shares = data["contributions"]
    names = sorted(shares, key=lambda name: -shares[name])[:_MOST_FEATURES]
    columns = [data["features"].index(name) for name in names]
    observed, expected = observed[:, columns], expected[:, columns]
    ticks = np.arange(1, len(observed) + 1)
    about = ticks[len(ticks) - len(expected) :]
    figure = _figure(10, 1.4 + 1.35 * len(names))
    grid = figure.subplots(len(names), 2, squeeze=False, sharex=True, width_ratios=(3, 1))
    for i, name in enumerate(names):
        left, right = grid[i]
        left.plot(ticks, observed[:, i], color=OBSERVED, marker=".", label="observed")
        left.plot(about, expected[:, i], color=EXPECTED, marker=".", label="expected")
        left.set_ylabel(f"{name}\n{shares[name]:.0%} of score", fontsize=9)
        right.bar(about, observed[-len(expected) :, i] - expected[:, i], color=ERROR)
    grid[0][0].legend(fontsize=8)
    grid[0][1].set_title("observed - expected", fontsize=9)
    for axes in grid[-1]:
        axes.set_xlabel("tick of the window")
        axes.set_xlim(0, len(ticks) + 1)
    what = (
        f"{data['series']}: {data['state']} at {data['event_time'][:19]}Z, "
        f"score {data['score']:.3g}, threshold {data['threshold']:.3g}"
    )
    if "fault" in data:
        what += f", looks like {data['fault']['kind']} ({data['fault']['probability']:.0%})"
    if len(names) < len(shares):
        total = sum(shares[name] for name in names)
        what += f"\nthe {len(names)} of {len(shares)} features with the largest share: "
        what += f"{total:.0%} of the score"
    figure.suptitle(what, fontsize=10)
    return figure


# -- embeddings


def draw_embeddings(found: Encodings, *, colour: str) -> Figure:
    """The vectors in the two directions in which they differ most (principal components).
    colour: series, label or alert."""
    points, shares = principal_components(found.vectors.astype(np.float64))
    groups = colour_groups(found, colour)
    figure = _figure(7.5, 6)
    axes = figure.add_subplot()
    size = 8 if len(points) > 200 else 40
    for number, (name, rows) in enumerate(groups.items()):
        axes.scatter(
            points[rows, 0], points[rows, 1], s=size, alpha=0.6, linewidths=0,
            color=_colour(name, number) if len(groups) <= len(COLOURS) else None,
            label=f"{name} ({len(rows)})",
        )  # fmt: skip
    axes.set_xlabel(f"first component ({shares[0]:.0%} of the variance)")
    axes.set_ylabel(f"second component ({shares[1]:.0%})")
    axes.set_title(f"{len(points)} vectors of {found.vectors.shape[1]} numbers, by {colour}")
    axes.legend(markerscale=2, fontsize=8, title=colour)
    return figure


def _colour(name: str, number: int) -> str:
    return ERROR if name == ABOVE else COLOURS[number]


def principal_components(vectors: Float64) -> tuple[Float64, tuple[float, float]]:
    """(n, units) -> (n, 2) and the share of the variance along each."""
    centred = vectors - vectors.mean(axis=0)
    covariance = centred.T @ centred
    values, directions = np.linalg.eigh(covariance)
    kept = directions[:, ::-1][:, :2]
    if kept.shape[1] < 2:  # an encoder of one unit
        kept = np.hstack([kept, np.zeros_like(kept)])
    total = float(values.sum()) or 1.0
    first, second = (*values[::-1][:2].tolist(), 0.0)[:2]
    return centred @ kept, (max(first, 0.0) / total, max(second, 0.0) / total)


def colour_groups(found: Encodings, colour: str) -> dict[str, Any]:
    """Name of each group -> its rows; the largest first, alerts last: on top."""
    if colour == "label":
        if found.label is None:
            raise DataError(
                "there is no column label in what was encoded: colour by something else"
            )
        names = ["none" if v != v else f"{v:g}" for v in found.label.tolist()]
    elif colour == "alert":
        if found.anomalous is None:
            raise DataError("sequences have no score: colour by series or label")
        names = [ABOVE if a else "below" for a in found.anomalous.tolist()]
    else:
        names = list(found.series)
    array = np.array(names)
    groups = {name: np.flatnonzero(array == name) for name in sorted(set(names))}
    largest = sorted(groups.items(), key=lambda item: (item[0] == ABOVE, -len(item[1])))
    if len(largest) > _MOST_SERIES:
        rest = np.concatenate([rows for _, rows in largest[_MOST_SERIES - 1 :]])
        others = len(largest) - _MOST_SERIES + 1
        largest = [*largest[: _MOST_SERIES - 1], (f"{others} others", rest)]
    return dict(largest)


# -- comparison


def draw_comparison(rows: Sequence[Mapping[str, Any]], *, measured: bool) -> Figure:
    """A bar for each variant, its height the mean over the seeds, a dot for each seed. measured:
    on test files with labels; else all there is to compare is speed and held-out error."""
    measures = {"vus_pr": "VUS-PR", "event_f1": "event F1"} if measured else {}
    measures |= {"held_out_error": "held-out error", "windows_per_s": "windows/s"}
    names = [str(row["variant"]).replace(":", "\n") for row in rows]
    figure = _figure(1.5 + 0.55 * len(rows) * len(measures), 4)
    for axes, (measure, label) in zip(
        figure.subplots(1, len(measures), squeeze=False)[0], measures.items(), strict=True
    ):
        for x, row in enumerate(rows):
            values = [v for v in row[measure] if v is not None]
            if values:
                axes.bar(x, np.mean(values), color=COLOURS[x % len(COLOURS)], alpha=0.6)
                axes.plot([x] * len(values), values, "k.", markersize=5)
        axes.set_xticks(range(len(rows)), names, rotation=90, fontsize=8)
        axes.set_title(label, fontsize=10)
    return figure
